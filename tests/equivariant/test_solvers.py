"""Claims about the fixed subspace, whichever solver finds it, and about what happens when one fails."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.equivariant.cases import ALL, FINITE, LIE, PERMUTATION_LIKE, conjugated, points_in_space, randn

import symfield.equivariant.blocks as blocks
import symfield.equivariant.solve as solve
from symfield.equivariant import (
    ConvergenceError,
    FixedPointError,
    by_averaging,
    by_conjugate_gradients,
    by_null_space,
    by_orbits,
    equivariant_maps,
    fixed_points,
    reynolds,
)
from symfield.equivariant.constraints import Constraints, halves, residual
from symfield.equivariant.products import outer_factors
from symfield.equivariant.sums import summands
from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Factor,
    Matrix,
    Orthogonal,
    Planar,
    Regular,
    Sign,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
    generated_by,
    hom,
)
from symfield.linalg import AmbiguousRankError, Subspace


def _probes(rep):
    source = torch.Generator().manual_seed(5)
    return torch.cat([rep.group.generators, rep.group.sample(4, generator=source)])


@pytest.mark.parametrize("rep", ALL, ids=str)
def test_every_group_element_fixes_the_subspace(rep):
    space = fixed_points(rep)
    for g in _probes(rep):
        moved = rep.act(g, space.basis.mT)
        torch.testing.assert_close(moved, space.basis.mT, atol=1e-10, rtol=0)
    assert 0.0 <= space.residual < 1e-11


@pytest.mark.parametrize("rep", [rep for rep in ALL if rep.orthogonal], ids=str)
def test_projector_identities_of_an_orthogonal_representation(rep):
    p = fixed_points(rep).projector()
    torch.testing.assert_close(p @ p, p, atol=1e-10, rtol=0)
    torch.testing.assert_close(p, p.mT, atol=1e-14, rtol=0)
    for matrix in rep.matrix(_probes(rep)):
        torch.testing.assert_close(matrix @ p, p, atol=1e-10, rtol=0)
        torch.testing.assert_close(p @ matrix, p, atol=1e-10, rtol=0)


SOLVERS = [by_orbits, by_null_space, by_averaging, by_conjugate_gradients]
PAIRS = [
    *[(rep, solver) for rep in PERMUTATION_LIKE for solver in SOLVERS],
    *[(rep, solver) for rep in FINITE for solver in SOLVERS[1:]],
    *[(rep, solver) for rep in LIE for solver in (by_null_space, by_conjugate_gradients)],
]


@pytest.mark.parametrize(("rep", "solver"), PAIRS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_all_solvers_find_the_same_subspace(rep, solver):
    chosen, other = fixed_points(rep), fixed_points(rep, solver=solver)
    assert chosen.dim == other.dim
    torch.testing.assert_close(other.projector(), chosen.projector(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("rep", ALL, ids=str)
def test_constraints_in_halves_are_the_constraints(rep):
    x = randn(3, rep.dim)
    constraints = Constraints(rep)
    z = constraints.pack(x)
    torch.testing.assert_close(constraints.unpack(z), x, atol=0, rtol=0)
    dense = [rep.matrix(g) - torch.eye(rep.dim, dtype=torch.float64) for g in rep.group.generators]
    dense += [rep.lie(a) for a in rep.group.lie_algebra]
    for found, matrix in zip(constraints.violations(z), dense, strict=True):
        torch.testing.assert_close(constraints.unpack(found), x @ matrix.mT, atol=1e-10, rtol=0)
    normal = sum((m.mT @ m for m in dense), torch.zeros(rep.dim, rep.dim, dtype=torch.float64))
    torch.testing.assert_close(constraints.unpack(constraints.normal(z)), x @ normal, atol=1e-9, rtol=0)


@pytest.mark.parametrize("rep", [points_in_space(3), conjugated(Regular(Symmetric(3)), orthogonal=False)], ids=str)
def test_constraints_through_act_equal_those_in_halves(rep, monkeypatch):
    halved = Constraints(rep**2)
    monkeypatch.setattr("symfield.equivariant.constraints._DENSE_FACTOR", 0)
    acting = Constraints(rep**2)
    x = randn(3, rep.dim**2)
    a, b = acting.unpack(acting.normal(acting.pack(x))), halved.unpack(halved.normal(halved.pack(x)))
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_halves_of_a_tensor_product_multiply_to_it():
    plane, points = Planar(Cyclic(3)), Regular(Cyclic(3))
    rep = plane * points * plane * points
    left, right = halves(rep)
    assert left is not None
    assert left * right == rep
    assert (left.dim, right.dim) == (6, 6)
    assert halves(plane) == (None, plane)


@pytest.mark.parametrize(
    "rep",
    [
        (2 * Planar(Cyclic(5)) + Trivial(Cyclic(5), 2)) * (Planar(Cyclic(5)) + 3 * Regular(Cyclic(5))),
        hom(Planar(Cyclic(4)) + Sign(Cyclic(4)), 2 * (Planar(Cyclic(4)) + Trivial(Cyclic(4)))),
        Factor(DirectProduct(Cyclic(2), Cyclic(3)), 1, 2 * Planar(Cyclic(3)) + Trivial(Cyclic(3))),
        (2 * conjugated(Regular(Symmetric(3)), orthogonal=False) + Sign(Symmetric(3))).dual ** 2,
    ],
    ids=str,
)
def test_summands_are_disjoint_coordinates_on_which_the_representation_acts_by_itself(rep):
    parts = summands(rep)
    assert torch.equal(torch.cat([i.reshape(-1) for i in parts.values()]).sort().values, torch.arange(rep.dim))
    x = randn(rep.dim)
    for g in _probes(rep):
        moved = rep.act(g, x)
        for part, index in parts.items():
            torch.testing.assert_close(moved[index], part.act(g, x[index]), atol=1e-11, rtol=0)
    whole = by_null_space(rep)
    split = fixed_points(rep)
    assert split.dim == whole.dim
    torch.testing.assert_close(split.projector(), whole.projector(), atol=1e-9, rtol=0)


def test_a_direct_product_is_solved_factor_by_factor_wherever_the_tensor_factors_stand():
    rep = points_in_space(4) ** 4
    maps = fixed_points(rep)
    assert maps.dim == 15 * 3  # partitions of four indices, pairings of four vectors
    assert maps.residual < 1e-13
    vectors = points_in_space(60)
    assert equivariant_maps(vectors, vectors).dim == 2
    owners = outer_factors(LIE[-2])
    assert owners == {2: [0, 2], 1: [1]}
    assert outer_factors(Planar(Cyclic(3)) ** 2) is None
    assert outer_factors(vectors.factors[0] ** 2) is None


def test_channels_cost_nothing():
    plane = Planar(Cyclic(8))
    maps = equivariant_maps(128 * plane, 128 * plane)
    assert (maps.dim, maps.ambient_dim) == (2 * 128**2, 256**2)
    assert "basis" not in maps.__dict__


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_schur_multiplicities_hold_for_random_sums_in_random_bases(a, b, seed):
    group = Dihedral(3)
    pieces = a * Planar(group) + b * Trivial(group) + Sign(group)
    hidden = conjugated(pieces, seed=seed)
    skewed = conjugated(pieces, orthogonal=False, seed=seed + 1)
    assert equivariant_maps(hidden, hidden).dim == a * a + b * b + 1
    assert equivariant_maps(hidden, skewed).dim == a * a + b * b + 1


def test_the_block_grows_until_its_rank_saturates_when_the_dimension_is_unknown(monkeypatch):
    monkeypatch.setattr(blocks, "fixed_dimension", lambda rep: None)
    hidden = conjugated(3 * Regular(Symmetric(3)))
    for solver in (by_averaging, by_conjugate_gradients):
        assert solver(hom(hidden, hidden)).dim == 54
    assert by_averaging(Trivial(Cyclic(2), 5)).dim == 5  # more vectors than coordinates
    assert by_conjugate_gradients(Trivial(Cyclic(2), 40)).dim == 40


def test_small_gaps_of_slowly_mixing_groups_are_resolved():
    plane = Planar(Cyclic(1000))  # a generator turns by 0.36 degrees
    for solver in (by_null_space, by_averaging, by_conjugate_gradients):
        assert fixed_points(plane**4, solver=solver).dim == 6


def test_a_large_finite_group_is_solved_without_its_elements(monkeypatch):
    monkeypatch.setattr(solve, "_SMALL", 0)
    group = DirectProduct(Symmetric(9), Dihedral(7))
    rep = Factor(group, 0, Defining(Symmetric(9))) * Factor(group, 1, Planar(Dihedral(7)))
    assert fixed_points(rep**2).dim == 2


def test_a_solver_that_misses_a_direction_is_caught():
    rep = Planar(Cyclic(5)) ** 2
    with pytest.raises(FixedPointError, match=r"expected 2 dimensions.*received 1"):
        fixed_points(rep, solver=lambda rep: Subspace.from_basis(by_null_space(rep).basis[:, :1]))
    points = Defining(Symmetric(4))
    with pytest.raises(FixedPointError, match=r"expected 1 dimensions.*received 0"):
        fixed_points(points, solver=lambda rep: Subspace.zero(4))


def test_a_solver_that_returns_another_space_is_caught():
    with pytest.raises(FixedPointError, match="fix every basis vector"):
        fixed_points(Planar(Cyclic(5)) ** 2, solver=lambda rep: Subspace.from_basis(torch.eye(4)[:, :2].double()))
    with pytest.raises(FixedPointError, match="fix every basis vector"):
        fixed_points(Defining(Cyclic(4)), solver=lambda rep: Subspace.from_orbits(torch.tensor([0, 0, 1, 1])))


def test_inexact_matrices_are_refused_rather_than_guessed():
    group = Cyclic(3)
    tilted = Planar(group).matrix(group.generators) + 3e-9
    with pytest.raises((AmbiguousRankError, FixedPointError)):
        fixed_points(Matrix(group, tilted) ** 2)


def test_an_iteration_that_stalls_raises_or_hands_over_to_null_spaces(monkeypatch):
    rep = Defining(SpecialOrthogonal(3)) ** 5
    monkeypatch.setattr(blocks, "_MAX_STEPS", 1)
    with pytest.raises(ConvergenceError, match=r"gradient.*by_null_space"):
        by_conjugate_gradients(rep)
    assert fixed_points(rep).dim == 6  # 243 coordinates: the dense solver steps in
    monkeypatch.setattr(solve, "_DENSE", 200)
    with pytest.raises(ConvergenceError):
        fixed_points(rep)


def test_solvers_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="permutation-like"):
        by_orbits(Planar(Cyclic(3)))
    with pytest.raises(ValueError, match="finite"):
        by_averaging(Defining(Orthogonal(3)))
    with pytest.raises(ValueError, match="one group"):
        equivariant_maps(Defining(Cyclic(3)), Defining(Cyclic(4)))


def test_a_group_without_generators_fixes_everything():
    for group in (SpecialOrthogonal(1), Cyclic(1), Symmetric(1), generated_by([[[1.0]]])):
        rep = Trivial(group, 3) + Defining(group)
        assert fixed_points(rep).dim == 4
        assert residual(rep, randn(2, 4)) == 0.0


AVERAGED = [rep for rep in PERMUTATION_LIKE + FINITE if rep.dim <= 600]


@pytest.mark.parametrize("rep", AVERAGED, ids=str)
def test_reynolds_is_the_average_over_the_group_also_where_it_is_oblique(rep):
    average = rep.matrix(rep.group.elements).mean(0)
    operator = reynolds(rep)
    x = randn(2, 3, rep.dim)
    torch.testing.assert_close(operator(x), x @ average.mT, atol=1e-10, rtol=0)
    assert operator(x.float()).dtype == torch.float32


@pytest.mark.parametrize("rep", ALL, ids=str)
def test_reynolds_is_an_equivariant_projection_onto_the_fixed_points(rep):
    operator, x = reynolds(rep), randn(4, rep.dim)
    y = operator(x)
    assert operator.subspace.contains(y, atol=1e-10).all()
    torch.testing.assert_close(operator(y), y, atol=1e-10, rtol=0)
    for g in _probes(rep):
        torch.testing.assert_close(operator(rep.act(g, x)), y, atol=1e-9, rtol=0)


def test_reynolds_is_orthogonal_exactly_for_orthogonal_representations():
    straight, skew = (
        reynolds(conjugated(Regular(Symmetric(3)))),
        reynolds(conjugated(Regular(Symmetric(3)), orthogonal=False)),
    )
    x = randn(6)
    torch.testing.assert_close(straight(x), straight.subspace.project(x), atol=1e-12, rtol=0)
    assert float((skew(x) - skew.subspace.project(x)).norm()) > 1e-3


def test_reynolds_of_rotations_on_matrices_is_the_trace_part():
    x = randn(5, 3, 3)
    expected = x.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(3, dtype=torch.float64)
    found = reynolds(Defining(SpecialOrthogonal(3)) ** 2)(x.flatten(1))
    torch.testing.assert_close(found.reshape(5, 3, 3), expected, atol=1e-12, rtol=0)
