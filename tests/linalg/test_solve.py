"""Claims about ranks, null spaces, intersections, joins and signed orbits, each beside a brute-force twin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield.linalg import AmbiguousRankError, Subspace, intersect, join, null_space, numerical_rank, signed_orbits


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("m", "n", "rank"), [(3, 7, 3), (7, 7, 4), (40, 7, 5), (5, 9, 2), (4, 4, 4), (0, 3, 0), (3, 4, 0)]
)
def test_null_space_has_the_missing_rank_and_a_round_off_residual(m, n, rank):
    matrix = _randn(m, rank) @ _randn(rank, n, seed=1)
    space = null_space(matrix)
    assert space.dim == n - rank
    assert space.residual < 1e-12
    assert float((matrix @ space.basis).norm()) < 1e-12


def test_null_space_residual_is_the_largest_violation():
    matrix = torch.diag(torch.tensor([1.0, 1e-13, 0.0], dtype=torch.float64))
    space = null_space(matrix)
    assert space.dim == 2
    assert space.residual == pytest.approx(1e-13, rel=1e-9)


def test_an_ambiguous_gap_is_refused_with_both_values():
    matrix = torch.diag(torch.tensor([1.0, 3e-9, 1e-16], dtype=torch.float64))
    with pytest.raises(AmbiguousRankError, match=r"3\.000e-09.*set rtol"):
        null_space(matrix)
    assert null_space(matrix, rtol=1e-12).dim == 1
    assert null_space(matrix, rtol=1e-6).dim == 2


@pytest.mark.parametrize(("values", "rank"), [([], 0), ([0.0, 0.0], 0), ([1.0, 1e-3], 2), ([5.0, 1e-14], 1)])
def test_numerical_rank_counts_the_values_above_the_gap(values, rank):
    assert numerical_rank(torch.tensor(values, dtype=torch.float64)) == rank


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        null_space(torch.tensor([[float("nan"), 1.0]]))
    with pytest.raises(ValueError, match="NaN"):
        numerical_rank(torch.tensor([float("nan")], dtype=torch.float64))


def test_intersection_and_join_of_generic_subspaces_obey_the_dimension_formula():
    shared, a, b = _randn(2, 12, seed=1), _randn(3, 12, seed=2), _randn(4, 12, seed=3)
    u, v = Subspace.span(torch.cat([shared, a])), Subspace.span(torch.cat([shared, b]))
    both, either = intersect(u, v), join(u, v)
    assert (both.dim, either.dim) == (2, 9)
    assert both.contains(shared).all()
    assert u.includes(both)
    assert v.includes(both)
    assert either.includes(u)
    assert either.includes(v)
    assert both.residual < 1e-12


def test_intersection_of_nearly_equal_lines_is_refused():
    u = Subspace.span(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    v = Subspace.span(torch.tensor([[1.0, 2e-9]], dtype=torch.float64))
    with pytest.raises(AmbiguousRankError):
        intersect(u, v)
    assert intersect(u, v, rtol=1e-6).dim == 1


def test_extreme_intersections_and_joins():
    u = Subspace.span(_randn(2, 5))
    assert intersect(u, Subspace.zero(5)).dim == 0
    assert intersect(u, Subspace.full(5)).dim == 2
    assert intersect(u, u.complement()).dim == 0
    assert join(u, u.complement()).dim == 5
    assert join(u, u).dim == 2
    with pytest.raises(ValueError, match="one space"):
        intersect(u, Subspace.full(4))
    with pytest.raises(ValueError, match="one space"):
        join(u, Subspace.full(4))


_signed_maps = st.integers(1, 9).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.lists(st.integers(0, n - 1), min_size=n, max_size=n),
            st.lists(st.sampled_from([1.0, -1.0]), min_size=n, max_size=n),
        ),
        min_size=0,
        max_size=3,
    ).map(lambda maps: (n, maps))
)


def _maps(n: int, maps) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.tensor([m for m, _ in maps], dtype=torch.int64).reshape(len(maps), n)
    sign = torch.tensor([s for _, s in maps], dtype=torch.float64).reshape(len(maps), n)
    return index, sign


def _brute(n: int, index: torch.Tensor, sign: torch.Tensor) -> Subspace:
    eye = torch.eye(n, dtype=torch.float64)
    rows = [eye - s[:, None] * eye[i] for i, s in zip(index, sign, strict=True)]
    return null_space(torch.cat(rows)) if rows else Subspace.full(n)


@settings(max_examples=80, deadline=None)
@given(_signed_maps)
def test_signed_orbits_solve_the_same_system_as_the_dense_null_space(case):
    n, maps = case
    index, sign = _maps(n, maps)
    space = Subspace.from_orbits(*signed_orbits(index, sign))
    dense = _brute(n, index, sign)
    assert space.dim == dense.dim
    torch.testing.assert_close(space.projector(), dense.projector(), atol=1e-10, rtol=0)


@settings(max_examples=60, deadline=None)
@given(_signed_maps, st.integers(0, 1000))
def test_intersection_of_orbit_forms_equals_the_dense_intersection(case, seed):
    n, maps = case
    index, sign = _maps(n, maps)
    source = torch.Generator().manual_seed(seed)
    other = signed_orbits(torch.randint(0, n, (1, n), generator=source))
    a, b = Subspace.from_orbits(*signed_orbits(index, sign)), Subspace.from_orbits(*other)
    exact, dense = intersect(a, b), intersect(Subspace.from_basis(a.basis), Subspace.from_basis(b.basis))
    assert exact.orbits is not None
    assert exact.dim == dense.dim
    torch.testing.assert_close(exact.projector(), dense.projector(), atol=1e-10, rtol=0)


def test_an_orbit_that_meets_its_own_negative_contributes_nothing():
    rotation = signed_orbits(torch.tensor([[1, 0]]), torch.tensor([[-1.0, 1.0]]))
    assert Subspace.from_orbits(*rotation).dim == 0
    reflection = signed_orbits(torch.tensor([[1, 0]]), torch.tensor([[-1.0, -1.0]]))
    assert Subspace.from_orbits(*reflection).dim == 1


def test_labels_are_numbered_by_first_appearance():
    assert signed_orbits(torch.tensor([[0, 3, 2, 1, 4]])).labels.tolist() == [0, 1, 2, 1, 3]


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        signed_orbits(torch.tensor([[0, 2]]))
    with pytest.raises(ValueError, match="signs of shape"):
        signed_orbits(torch.tensor([[0, 1]]), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"\+1 or -1"):
        signed_orbits(torch.tensor([[0, 1]]), torch.tensor([[1.0, 2.0]]))
