"""Dimensions of fixed spaces against character theory, combinatorics and classical invariant theory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.equivariant.cases import ALL, FINITE, PERMUTATION_LIKE, RubikMoves, conjugated, points_in_space

from symfield.equivariant import (
    NotARepresentationError,
    by_conjugate_gradients,
    equivariant_maps,
    fixed_dimension,
    fixed_points,
)
from symfield.groups import (
    Alternating,
    Cyclic,
    Defining,
    Dihedral,
    Matrix,
    Orthogonal,
    Permutation,
    Planar,
    Regular,
    Representation,
    Sign,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
    hom,
)
from symfield.linalg import null_space


def _bell(k: int, n: int) -> int:
    """Partitions of k elements into at most n classes."""
    stirling = [[0] * (k + 1) for _ in range(k + 1)]
    stirling[0][0] = 1
    for i in range(1, k + 1):
        for j in range(1, i + 1):
            stirling[i][j] = j * stirling[i - 1][j] + stirling[i - 1][j - 1]
    return sum(stirling[k][: n + 1])


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("k", [0, 2, 3, 5])
def test_invariant_tensors_of_the_symmetric_group_are_counted_by_restricted_bell_numbers(n, k):
    assert fixed_points(Defining(Symmetric(n)) ** k).dim == _bell(k, n)


@pytest.mark.parametrize("rep", PERMUTATION_LIKE + FINITE, ids=str)
def test_dimension_over_a_finite_group_is_the_mean_trace(rep):
    mean = rep.matrix(rep.group.elements).diagonal(dim1=-2, dim2=-1).sum(-1).mean()
    assert fixed_points(rep).dim == pytest.approx(float(mean), abs=1e-9)


@pytest.mark.parametrize("rep", ALL, ids=str)
def test_dimension_is_the_average_character(rep):
    assert fixed_dimension(rep) == fixed_points(rep).dim


SO3 = [1, 0, 1, 1, 3, 6, 15, 36, 91]


@pytest.mark.parametrize("k", range(8))
def test_isotropic_tensors_in_three_dimensions(k):
    assert fixed_points(Defining(SpecialOrthogonal(3)) ** k).dim == SO3[k]
    assert fixed_points(Defining(Orthogonal(3)) ** k).dim == (SO3[k] if k % 2 == 0 else 0)
    if 0 < k < 7:
        pseudo = fixed_points(Sign(Orthogonal(3)) * Defining(Orthogonal(3)) ** k).dim
        assert pseudo == (SO3[k] if k % 2 else 0)


@pytest.mark.parametrize(("k", "pairings"), [(0, 1), (2, 1), (4, 3), (6, 15)])
def test_isotropic_tensors_in_many_dimensions_are_pairings(k, pairings):
    assert fixed_points(Defining(SpecialOrthogonal(4)) ** k).dim == pairings + {0: 0, 2: 0, 4: 1, 6: 10}[k]
    if k < 6:
        assert fixed_points(Defining(Orthogonal(5)) ** k).dim == pairings


@pytest.mark.parametrize("k", range(7))
def test_planar_isotropic_tensors_are_balanced_words(k):
    balanced = math.comb(k, k // 2) if k % 2 == 0 else 0
    assert fixed_points(Defining(SpecialOrthogonal(2)) ** k).dim == balanced
    assert fixed_points(Defining(Orthogonal(2)) ** k).dim == (balanced + (k == 0)) // 2


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("group", [SpecialOrthogonal, Orthogonal])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_weyl_integration_agrees_with_the_null_space(n, group, k):
    rep = Sign(group(n)) * Defining(group(n)) ** k + Defining(group(n))
    assert fixed_dimension(rep) == fixed_points(rep).dim


def test_weyl_integration_sees_high_frequencies():
    group = SpecialOrthogonal(2)
    fast = Matrix(group, 7 * group.lie_algebra)
    assert [fixed_dimension(fast**k) for k in range(5)] == [1, 0, 2, 0, 6]
    assert fixed_dimension(fast * Defining(group)) == 0
    assert fixed_dimension(fast * Defining(group) ** 7) == 2


def test_no_dimension_is_claimed_where_it_would_cost_too_much():
    assert fixed_dimension(Defining(Symmetric(20))) is None
    assert fixed_dimension(Defining(Orthogonal(14)) ** 2) is None
    assert fixed_dimension(Defining(Symmetric(6)), budget=10) is None


def _weights_of_a_shallow_network(points: Representation, inner: int, hidden: int, outer: int) -> Representation:
    """(W, A, B) ↦ (ρ̂ W ηᵀ, ρ A ηᵀ, η B) with channels on every point."""
    eta = hidden * points
    return hom(eta, outer * points) + hom(eta, inner * points) + eta


def test_deep_sets_and_circulant_networks_have_the_dimensions_of_the_formulas():
    n, inner, hidden, outer = 4, 2, 3, 1
    sets = fixed_points(_weights_of_a_shallow_network(Defining(Symmetric(n)), inner, hidden, outer))
    shifts = fixed_points(_weights_of_a_shallow_network(Defining(Cyclic(n)), inner, hidden, outer))
    assert sets.ambient_dim == n * n * hidden * (outer + inner) + n * hidden == 156
    assert sets.dim == 2 * hidden * (outer + inner) + hidden == 21
    assert shifts.dim == n * hidden * (outer + inner) + hidden == 39
    assert shifts.includes(sets)
    assert not sets.includes(shifts)


@pytest.mark.parametrize(("n", "inner", "hidden", "outer"), [(2, 1, 1, 1), (3, 2, 1, 2), (5, 1, 2, 1)])
def test_deep_sets_dimensions_hold_for_other_sizes(n, inner, hidden, outer):
    sets = _weights_of_a_shallow_network(Defining(Symmetric(n)), inner, hidden, outer)
    shifts = _weights_of_a_shallow_network(Defining(Cyclic(n)), inner, hidden, outer)
    assert fixed_points(sets).dim == 2 * hidden * (outer + inner) + hidden
    assert fixed_points(shifts).dim == n * hidden * (outer + inner) + hidden


def test_large_permutation_cases_are_exact():
    points = Defining(Symmetric(20))
    assert equivariant_maps(points**2, points**2).dim == 15
    triples = Defining(Symmetric(6)) ** 3
    assert equivariant_maps(triples, triples).dim == 203
    shifts = Regular(Cyclic(1024))
    assert equivariant_maps(shifts, shifts).dim == 1024


def test_rubik_cube_maps_are_complete_though_it_moves_corners_and_edges_apart():
    facelets = Defining(RubikMoves())
    assert fixed_points(facelets).dim == 2  # corners, edges
    assert equivariant_maps(facelets, facelets).dim == 9  # 4 on corners, 3 on edges, 2 between them
    assert equivariant_maps(facelets, facelets**2).dim == 51


@pytest.mark.parametrize(("copies", "dim"), [(1, 24), (2, 96), (4, 384)])
def test_maps_between_hidden_copies_of_a_regular_representation(copies, dim):
    hidden = conjugated(copies * Regular(Symmetric(4)))
    found = equivariant_maps(hidden, hidden)
    assert found.dim == dim == 24 * copies**2
    assert found.residual < 1e-12


def test_sign_representations():
    for group in (Symmetric(3), Dihedral(3), SignFlips(2), Orthogonal(2), Orthogonal(3)):
        sign, trivial = Sign(group), Trivial(group)
        assert equivariant_maps(sign, trivial).dim == 0
        assert equivariant_maps(sign, sign).dim == 1
        assert fixed_points(sign * sign).dim == 1
    assert fixed_points(Sign(Alternating(4))).dim == 1
    assert equivariant_maps(Defining(SignFlips(5)), Defining(SignFlips(5))).dim == 5


def test_direct_product_maps_are_products_of_maps():
    points = points_in_space(5)
    found = equivariant_maps(points, points)  # (a I + b 11ᵀ) ⊗ I
    assert found.dim == 2
    weight = found.embed(torch.tensor([0.3, -1.2], dtype=torch.float64)).reshape(5, 3, 5, 3)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(weight, weight[:, 0, :, 0][:, None, :, None] * eye[:, None, :], atol=1e-12, rtol=0)


def test_cyclic_maps_are_circulant_matrices():
    maps = equivariant_maps(Defining(Cyclic(5)), Defining(Cyclic(5)))
    weight = maps.embed(torch.arange(5, dtype=torch.float64)).reshape(5, 5)
    assert torch.equal(weight, weight.roll((1, 1), (0, 1)))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 10_000))
def test_random_permutation_representations_agree_with_brute_force(n, k, seed):
    source = torch.Generator().manual_seed(seed)
    group = Cyclic(12)
    order = torch.tensor([p for p in range(1, n + 1) if 12 % p == 0])
    length = int(order[torch.randint(len(order), (1,), generator=source)])
    image = torch.arange(n)
    image[:length] = image[:length].roll(1)
    shuffle = torch.randperm(n, generator=source)
    rep = Permutation(group, [shuffle[image[shuffle.argsort()]].tolist()]) ** min(k, 2) + Sign(group)
    brute = null_space(rep.matrix(torch.tensor(1)) - torch.eye(rep.dim, dtype=torch.float64))
    found = fixed_points(rep)
    assert found.dim == brute.dim
    torch.testing.assert_close(found.projector(), brute.projector(), atol=1e-10, rtol=0)


class _NotARepresentation(Representation):
    _fields = ("group",)

    def __init__(self) -> None:
        self._set(group=Symmetric(3))

    @property
    def dim(self) -> int:
        return 2

    def _matrix(self, g):
        return Planar(Cyclic(5)).matrix(g[..., 0])

    def __str__(self) -> str:
        return "no representation"


def test_matrices_that_represent_nothing_are_refused():
    with pytest.raises(NotARepresentationError, match=r"whole number.*assert_representation"):
        fixed_dimension(_NotARepresentation())
    with pytest.raises(NotARepresentationError):
        by_conjugate_gradients(_NotARepresentation())
