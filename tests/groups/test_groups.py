"""Every group is a group, of the order it says, sampled by its Haar measure; wrong input is refused in words."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield import groups
from symfield.groups import (
    Alternating,
    Cyclic,
    Dihedral,
    DirectProduct,
    Group,
    Orthogonal,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
)

ATOL = 1e-10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=ATOL)


def parity_by_inversions(g: list[int]) -> int:
    return (-1) ** sum(g[i] > g[j] for i in range(len(g)) for j in range(i + 1, len(g)))


# ---------------------------------------------------------------------------------------------------- conformance


def test_products_are_associative_with_identity_and_inverses(group: Group, generator: torch.Generator) -> None:
    a, b, c = (group.sample(20, generator=generator) for _ in range(3))
    assert a.shape == (20, *group.element_shape)
    assert_same(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)))
    assert_same(group.compose(group.identity, a), a)
    assert_same(group.compose(a, group.identity), a)
    assert_same(group.compose(a, group.inverse(a)), group.identity.expand_as(a))
    assert_same(group.compose(group.inverse(a), a), group.identity.expand_as(a))


def test_batch_axes_broadcast_in_products(group: Group, generator: torch.Generator) -> None:
    a, b = group.sample(3, generator=generator), group.sample(4, generator=generator)
    table = group.compose(group.unsqueeze(a), b)
    assert table.shape == (3, 4, *group.element_shape)
    assert_same(table[2, 1], group.compose(a[2], b[1]))
    assert group.inverse(table).shape == table.shape


def test_order_is_the_number_of_distinct_elements(group_and_order: tuple[Group, int | None]) -> None:
    group, order = group_and_order
    if order is None:
        assert not group.is_finite
        for ask in (lambda: group.order, lambda: group.elements, lambda: len(group)):
            with pytest.raises(ValueError, match=r"finite group.*sample\(n, generator"):
                ask()
        return
    elements = group.elements
    assert group.is_finite
    assert group.order == len(group) == order
    assert elements.shape == (order, *group.element_shape)
    assert len(elements.reshape(order, -1).unique(dim=0)) == order
    assert torch.equal(elements[0], group.identity)


def test_index_and_element_are_inverse(group_and_order: tuple[Group, int | None], generator: torch.Generator) -> None:
    group, order = group_and_order
    if order is None:
        return
    assert torch.equal(group.index(group.elements), torch.arange(order))
    g = group.sample(12, generator=generator).reshape(3, 4, *group.element_shape)
    assert group.index(g).shape == (3, 4)
    assert_same(group.element(group.index(g)), g)


def test_generators_generate(group_and_order: tuple[Group, int | None]) -> None:
    group, order = group_and_order
    assert group.generators.shape[1:] == group.element_shape
    if order is None:
        return
    reached, frontier = {0}, [0]
    while frontier:
        products = group.compose(group.unsqueeze(group.generators), group.element(torch.tensor(frontier)))
        frontier = sorted(set(group.index(products).flatten().tolist()) - reached)
        reached |= set(frontier)
    assert len(reached) == order


def test_defining_matrices_are_orthogonal_and_multiply(group: Group, generator: torch.Generator) -> None:
    a, b = group.sample(15, generator=generator), group.sample(15, generator=generator)
    matrices = group.defining_matrix(a)
    assert matrices.shape == (15, group.degree, group.degree)
    assert matrices.dtype == torch.float64
    assert_same(matrices.mT @ matrices, torch.eye(group.degree).expand_as(matrices))
    assert_same(group.defining_matrix(group.compose(a, b)), matrices @ group.defining_matrix(b))
    assert torch.equal(group.determinant(a), torch.linalg.det(matrices).round().to(torch.int64))


def test_lie_algebra_is_a_basis_of_skew_matrices_closed_under_brackets(group: Group) -> None:
    basis = group.lie_algebra
    assert basis.dtype == torch.float64
    assert basis.shape[1:] == (group.degree, group.degree)
    assert (len(basis) == 0) == group.is_finite
    assert_same(basis, -basis.mT)
    brackets = basis[:, None] @ basis[None] - basis[None] @ basis[:, None]
    span = torch.linalg.qr(basis.flatten(1).mT)[0]
    if len(basis):
        assert int(torch.linalg.matrix_rank(basis.flatten(1))) == len(basis)
    flat = brackets.flatten(2)
    assert_same(flat @ span @ span.mT, flat)


def test_exponentials_of_the_lie_algebra_are_elements(group: Group, generator: torch.Generator) -> None:
    basis = group.lie_algebra
    a = torch.einsum("bj,jpq->bpq", torch.randn(4, len(basis), generator=generator, dtype=torch.float64), basis)
    g = group.exp(a)
    assert g.shape == (4, *group.element_shape)
    assert_same(group.defining_matrix(g), torch.linalg.matrix_exp(a))


def test_sampling_is_reproducible_and_needs_nothing_but_its_generator(group: Group) -> None:
    first = group.sample(8, generator=seeded(3))
    torch.manual_seed(99)
    assert torch.equal(first, group.sample(8, generator=seeded(3)))
    assert group.sample(0, generator=seeded()).shape == (0, *group.element_shape)


def test_groups_are_values(group: Group) -> None:
    twin = pickle.loads(pickle.dumps(group))
    assert twin == group
    assert hash(twin) == hash(group)
    assert eval(repr(group), {"torch": torch, **vars(groups)}) == group
    assert torch.equal(twin.sample(5, generator=seeded()), group.sample(5, generator=seeded()))
    assert group
    assert group != Cyclic(1000)
    with pytest.raises(AttributeError, match="frozen"):
        group.n = 3
    with pytest.raises(AttributeError, match="frozen"):
        del group.n


def test_writing_into_what_a_group_returns_leaves_the_group_alone(group: Group) -> None:
    before = (group.identity.clone(), group.generators.clone(), group.lie_algebra.clone())
    for tensor in (group.identity, group.generators, group.lie_algebra):
        tensor += 1
    for old, new in zip(before, (group.identity, group.generators, group.lie_algebra), strict=True):
        assert torch.equal(old, new)


# ------------------------------------------------------------------------------------------------- Haar measure


def chi_square_quantile(freedom: int) -> float:
    """The 0.9999 quantile, Wilson & Hilferty's approximation."""
    return freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3


def test_finite_groups_are_sampled_uniformly(group_and_order: tuple[Group, int | None]) -> None:
    """Chi-square statistic of 100 draws per element, below its 0.9999 quantile."""
    group, order = group_and_order
    if order is None or order == 1:
        return
    counts = group.index(group.sample(100 * order, generator=seeded(1))).bincount(minlength=order).double()
    assert float((counts - 100).square().sum() / 100) < chi_square_quantile(order - 1)


@pytest.mark.parametrize(
    "group", [Orthogonal(2), Orthogonal(3), Orthogonal(5), SpecialOrthogonal(2), SpecialOrthogonal(3)]
)
def test_orthogonal_groups_are_sampled_by_haar_measure(group: Group) -> None:
    """Moments of 40 000 draws: E g = 0, E g_ij g_kl = δ_ik δ_jl / n, E g_11⁴ = 3 / (n(n + 2)), within 0.02."""
    n = group.degree
    g = group.sample(40_000, generator=seeded(2))
    assert float(g.mean(dim=0).abs().max()) < 0.02
    torch.testing.assert_close(g.square().mean(dim=0), torch.full((n, n), 1 / n).double(), rtol=0, atol=0.02)
    assert abs(float((g[:, 0, 0] * g[:, 0, 1]).mean())) < 0.02
    assert abs(float(g[:, 0, 0].pow(4).mean()) - 3 / (n * (n + 2))) < 0.02


def test_translated_draws_of_rotations_have_the_law_of_haar_rotations() -> None:
    """trace(hg) for fixed h has the exact law of the trace: Kolmogorov distance of 20 000 draws below 0.02."""
    group = SpecialOrthogonal(3)
    h = group.exp(1.1 * group.lie_algebra[0] - 0.4 * group.lie_algebra[2])
    g = group.sample(20_000, generator=seeded(4))
    first = (h @ g).diagonal(dim1=-2, dim2=-1).sum(-1).sort().values
    grid = torch.linspace(-1, 3, 200, dtype=torch.float64)
    angle = torch.arccos(((grid - 1) / 2).clamp(-1, 1))
    exact = 1 - (angle - angle.sin()) / math.pi  # Haar: the angle of a rotation has density (1 − cos θ) / π on [0, π]
    empirical = torch.searchsorted(first, grid).double() / len(first)
    assert float((empirical - exact).abs().max()) < 0.02


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_rotations_preserve_orientation_and_half_of_the_orthogonal_matrices_do(n: int) -> None:
    assert bool((SpecialOrthogonal(n).determinant(SpecialOrthogonal(n).sample(500, generator=seeded())) == 1).all())
    signs = Orthogonal(n).determinant(Orthogonal(n).sample(4000, generator=seeded())).double()
    assert abs(float(signs.mean())) < 0.06


# ------------------------------------------------------------------------------------------ particular families


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n)))))
def test_permutations_compose_as_functions(pair: tuple[list[int], list[int]]) -> None:
    g, h = pair
    group, alternating = Symmetric(len(g)), Alternating(len(g))
    product = group.compose(torch.tensor(g), torch.tensor(h)).tolist()
    assert product == [g[i] for i in h]
    assert int(group.determinant(torch.tensor(g))) == parity_by_inversions(g)
    assert torch.equal(group.element(group.index(torch.tensor(g))), torch.tensor(g))
    if parity_by_inversions(g) == 1:
        assert torch.equal(alternating.element(alternating.index(torch.tensor(g))), torch.tensor(g))


def test_permutations_are_listed_in_lexicographic_order() -> None:
    elements = Symmetric(5).elements.tolist()
    assert elements == sorted(elements)
    even = Alternating(5).elements.tolist()
    assert even == [g for g in elements if parity_by_inversions(g) == 1]


def test_alternating_draws_are_even() -> None:
    draws = Alternating(7).sample(200, generator=seeded())
    assert {parity_by_inversions(g) for g in draws.tolist()} == {1}


@pytest.mark.parametrize(
    ("group", "count"),
    [
        (Symmetric(2), 1),
        (Symmetric(9), 2),
        (Alternating(3), 1),
        (Alternating(8), 2),
        (Alternating(9), 2),
        (Cyclic(1), 0),
        (Dihedral(1), 1),
        (Dihedral(4), 2),
        (SignFlips(3), 3),
        (Orthogonal(4), 1),
        (SpecialOrthogonal(4), 0),
    ],
    ids=str,
)
def test_generating_sets_are_minimal(group: Group, count: int) -> None:
    assert len(group.generators) == count


@pytest.mark.parametrize("n", [20, 300])
def test_large_permutation_groups_work_without_listing_elements(n: int) -> None:
    group = Symmetric(n)
    g, h = group.sample(2, generator=seeded())
    assert group.order == math.factorial(n)
    assert int(group.determinant(group.compose(g, h))) == int(group.determinant(g) * group.determinant(h))
    with pytest.raises(ValueError, match=r"at most 1000000 elements.*sample"):
        group.index(g)


def test_dihedral_reflections_invert_rotations() -> None:
    group = Dihedral(7)
    r, s = group.generators
    assert torch.equal(group.compose(group.compose(s, r), s), group.inverse(r))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_logarithms_exponentiate_back_also_at_half_turns(n: int) -> None:
    group = Orthogonal(n)
    flips = SignFlips(n).defining_matrix(SignFlips(n).elements)  # every even set of −1 is a half turn, or several
    q = group.sample(len(flips), generator=seeded())
    g = torch.cat([group.sample(30, generator=seeded(1)), flips, q @ flips @ q.mT])
    a, reflected = group.log(g)
    assert_same(a, -a.mT)
    assert float(torch.linalg.matrix_norm(a, 2).max()) < math.pi + 1e-9
    back = group.exp(a) @ torch.where(reflected[:, None, None], group.reflection, group.identity)
    torch.testing.assert_close(back, g, rtol=0, atol=1e-12)
    assert group.log(g[:0])[0].shape == (0, n, n)


def test_direct_products_act_factor_by_factor() -> None:
    s3, so2 = Symmetric(3), SpecialOrthogonal(2)
    group = DirectProduct(s3, so2)
    assert group.element_shape == (7,)
    assert group.identity.dtype == torch.float64
    assert DirectProduct(s3, Cyclic(2)).identity.dtype == torch.int64
    g, h = s3.sample(5, generator=seeded()), so2.sample(5, generator=seeded())
    packed = group.join(g, h)
    back = group.split(packed)
    assert torch.equal(back[0], g)
    assert torch.equal(back[1], h)
    assert back[0].dtype == torch.int64
    assert group.join(g[:, None], h).shape == (5, 5, 7)
    squared = group.split(group.compose(packed, packed))
    assert torch.equal(squared[0], s3.compose(g, g))
    assert_same(group.defining_matrix(packed)[:, 3:, 3:], h)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (Cyclic(3), "C_3"),
        (Dihedral(4), "D_4"),
        (Symmetric(4), "S_4"),
        (Alternating(4), "A_4"),
        (SignFlips(1), "{±1}"),
        (SignFlips(2), "{±1}^2"),
        (Orthogonal(3), "O(3)"),
        (DirectProduct(Cyclic(3), SpecialOrthogonal(3)), "C_3 × SO(3)"),
        (DirectProduct(DirectProduct(Cyclic(3), Cyclic(2)), Cyclic(5)), "(C_3 × C_2) × C_5"),
    ],
    ids=str,
)
def test_groups_print_as_mathematics(group: Group, name: str) -> None:
    assert str(group) == name


def test_groups_of_different_classes_differ() -> None:
    family = [Cyclic(3), Dihedral(3), Symmetric(3), Alternating(3), SignFlips(3), Orthogonal(3), SpecialOrthogonal(3)]
    assert len(set(family)) == len(family)
    assert len({Symmetric(3), Symmetric(3), Symmetric(4)}) == 2
    assert Symmetric(3) != "S_3"


# ------------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize("family", [Cyclic, Dihedral, Symmetric, Alternating, SignFlips, Orthogonal, SpecialOrthogonal])
@pytest.mark.parametrize("n", [0, -2])
def test_sizes_below_one_are_refused(family: type[Group], n: int) -> None:
    with pytest.raises(ValueError, match=rf"{family.__name__}\(n\) with an integer n >= 1, received n = {n}"):
        family(n)


def test_tensors_that_are_no_elements_are_refused() -> None:
    with pytest.raises(ValueError, match=r"elements of S_4 with last axes \(4,\), received a tensor of shape \(3,\)"):
        Symmetric(4).batch_shape(torch.arange(3))
    with pytest.raises(ValueError, match=r"elements of O\(2\)"):
        Orthogonal(2).batch_shape(torch.zeros(2))


def test_an_empty_product_is_refused() -> None:
    with pytest.raises(ValueError, match="one group or more"):
        DirectProduct()


def test_too_large_a_group_is_not_listed() -> None:
    with pytest.raises(ValueError, match=r"at most 1000000 elements to list them, received S_12 of order 479001600"):
        _ = Symmetric(12).elements
