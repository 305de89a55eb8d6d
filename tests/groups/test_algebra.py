"""The formulas of sums, tensor products, copies, duals, lifts, and of the representations that come with a group."""

from __future__ import annotations

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield import groups
from symfield.groups import (
    Alternating,
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Factor,
    Group,
    Orthogonal,
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

DOUBLE = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- conventions


def test_tensor_products_act_on_matrices_from_both_sides() -> None:
    group = Orthogonal(3)
    a, b = Defining(group), Defining(group) + Sign(group)
    g, x = group.sample(5, generator=seeded()), normal(5, 3, 4)
    moved = (a * b).act(g, x.reshape(5, 12)).reshape(5, 3, 4)
    assert close(moved, a.matrix(g) @ x @ b.matrix(g).mT)


def test_linear_maps_are_conjugated_and_fixed_when_equivariant() -> None:
    group = Symmetric(4)
    a, b = Defining(group), Defining(group) ** 2
    g, w, x = group.sample(5, generator=seeded()), normal(16, 4), normal(5, 4)
    moved = hom(a, b).act(g, w.reshape(-1)).reshape(5, 16, 4)
    assert close(moved, b.matrix(g) @ w @ torch.linalg.inv(a.matrix(g)))
    lift = torch.zeros(4, 4, 4, dtype=DOUBLE)  # x ↦ diag(x), equivariant
    lift[range(4), range(4), range(4)] = 1.0
    assert close(hom(a, b).act(g, lift.reshape(-1)), lift.reshape(-1))
    assert close(b.act(g, x @ lift.reshape(16, 4).mT), a.act(g, x) @ lift.reshape(16, 4).mT)


def test_copies_act_on_the_rows_of_a_matrix() -> None:
    group = Cyclic(4)
    g, x = torch.tensor(3), normal(5, 4)
    assert close((5 * Defining(group)).act(g, x.reshape(20)).reshape(5, 4), Defining(group).act(g, x))


def test_sums_act_on_consecutive_coordinates() -> None:
    group = SignFlips(2)
    moved = (Defining(group) + Trivial(group, 2)).act(torch.tensor([-1, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert moved.tolist() == [-1.0, 2.0, 3.0, 4.0]


def test_the_algebra_is_associative_as_values() -> None:
    group = Symmetric(3)
    a, b, c = Defining(group), Sign(group), Regular(group)
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert 2 * (3 * a) == 6 * a
    assert a**2 == a * a
    assert a**1 == a
    assert a**0 == Trivial(group)
    assert (a + b).dual == a.dual + b.dual
    assert (a * b).dual == a.dual * b.dual
    assert a + b != b + a


@pytest.mark.parametrize(
    ("group", "g", "moved"),
    [
        (Cyclic(4), torch.tensor(1), [3.0, 0.0, 1.0, 2.0]),
        (Dihedral(4), torch.tensor([1, 0]), [3.0, 0.0, 1.0, 2.0]),
        (Dihedral(4), torch.tensor([0, 1]), [0.0, 3.0, 2.0, 1.0]),
        (Symmetric(4), torch.tensor([1, 2, 0, 3]), [2.0, 0.0, 1.0, 3.0]),
        (SignFlips(4), torch.tensor([1, -1, 1, -1]), [0.0, -1.0, 2.0, -3.0]),
    ],
    ids=str,
)
def test_defining_actions_move_coordinate_i_to_place_g_i(group: Group, g: torch.Tensor, moved: list[float]) -> None:
    assert Defining(group).act(g, torch.arange(4.0)).tolist() == moved


def test_the_regular_representation_is_left_multiplication() -> None:
    group = Alternating(4)
    basis = torch.eye(12, dtype=DOUBLE)
    for g in group.elements:
        moved = Regular(group).act(g, basis).argmax(dim=-1)
        assert torch.equal(moved, group.index(group.compose(g, group.elements)))


def test_planar_representations_are_the_defining_rotations_and_reflections() -> None:
    group = Dihedral(6)
    r, s = group.generators
    plane = Planar(group)
    angle = math.pi / 3
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=DOUBLE)
    assert close(plane.matrix(r), turn)
    assert close(plane.matrix(s), torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=DOUBLE))
    assert close(Planar(group, 2).matrix(r), turn @ turn)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_plane_is_a_faithful_representation_of_every_dihedral_group(n: int) -> None:
    matrices = Planar(Dihedral(n)).matrix(Dihedral(n).elements)
    assert len(matrices.round(decimals=6).reshape(2 * n, 4).unique(dim=0)) == 2 * n


def test_a_factor_of_a_product_ignores_the_other_factors() -> None:
    group = DirectProduct(Symmetric(4), SpecialOrthogonal(3))
    cloud = Factor(group, 0, Defining(Symmetric(4))) * Factor(group, 1, Defining(SpecialOrthogonal(3)))
    g, x = group.sample(6, generator=seeded()), normal(6, 4, 3)
    permutation, rotation = group.split(g)
    moved = cloud.act(g, x.reshape(6, 12)).reshape(6, 4, 3)
    inverse = Symmetric(4).inverse(permutation)
    assert close(moved, torch.take_along_dim(x, inverse[..., None], dim=1) @ rotation.mT)


# ------------------------------------------------------------------------------------------------- known counts


@pytest.mark.parametrize(("power", "bell"), [(0, 1), (1, 1), (2, 2), (3, 5), (4, 15)])
def test_invariants_of_permuted_tensors_are_counted_by_bell_numbers(power: int, bell: int) -> None:
    group = Symmetric(5)
    count = (Defining(group) ** power).character(group.elements).mean()
    assert float(count) == pytest.approx(bell, abs=1e-12)


@pytest.mark.parametrize(
    "group",
    [Cyclic(6), Dihedral(4), Symmetric(4), Alternating(4), SignFlips(3), DirectProduct(Cyclic(2), Symmetric(3))],
)
def test_regular_characters_vanish_off_the_identity_and_count_one_invariant(group: Group) -> None:
    character = Regular(group).character(group.elements)
    assert character.tolist() == [float(group.order)] + [0.0] * (group.order - 1)


def test_irreducible_characters_are_orthonormal() -> None:
    """D_5: 1, det of the plane, and two planes; <χ, ψ> is the mean over the group."""
    group = Dihedral(5)
    planes = [Planar(group), Planar(group, 2)]
    characters = torch.stack([rep.character(group.elements) for rep in (Trivial(group), *planes)])
    assert close(characters @ characters.mT / group.order, torch.eye(3, dtype=DOUBLE))


def test_rotations_of_tensors_have_the_known_numbers_of_invariants() -> None:
    """SO(3): 1, 0, 1, 1, 3, 6, 15 invariants of V^⊗k (Motzkin sums), by the law of the angle of a Haar rotation.

    Its density (1 − cos θ) / 2π on the circle makes every mean a trigonometric sum, exact on 64 points.
    """
    group = SpecialOrthogonal(3)
    angle = torch.arange(64, dtype=DOUBLE) * (2 * math.pi / 64)
    weight = (1 - angle.cos()) / 64
    g = group.exp(angle[:, None, None] * group.lie_algebra[0])
    for power, count in enumerate([1, 0, 1, 1, 3, 6, 15]):
        rep = Defining(group) ** power
        assert float((rep.character(g) * weight).sum()) == pytest.approx(count, abs=1e-10)


# ------------------------------------------------------------------------------------------------------- speed


def test_the_fourth_tensor_power_of_twenty_points_is_permuted_in_milliseconds() -> None:
    group = Symmetric(20)
    rep = Defining(group) ** 4
    g = group.generators[1]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        index, sign = rep.signed_permutation(g)
        seconds.append(time.perf_counter() - start)
    assert rep.dim == 160_000
    assert sign is None
    assert min(seconds) < 0.05
    i = 7 * 8000 + 3 * 400 + 3 * 20 + 19  # coordinate (7, 3, 3, 19) comes from (6, 2, 2, 18) under the shift
    assert int(index[i]) == 6 * 8000 + 2 * 400 + 2 * 20 + 18


def test_dense_tensor_products_act_without_kronecker_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """V^⊗8 of O(3) has 6561 coordinates; its matrix would have 43 million entries."""

    def refuse(*_: object) -> None:
        raise AssertionError("a Kronecker product was built")

    monkeypatch.setattr(groups.algebra, "_kron", refuse)
    group = Orthogonal(3)
    rep = Defining(group) ** 8
    g, v = group.sample(2, generator=seeded()), normal(3, seed=1)
    power = torch.ones(1, dtype=DOUBLE)
    moved = torch.ones(2, 1, dtype=DOUBLE)
    for _ in range(8):
        power = torch.kron(power, v)
        moved = (moved[:, :, None] * (g @ v)[:, None, :]).flatten(1)
    assert close(rep.act(g, power), moved)
    assert rep.act_lie(group.lie_algebra, power).shape == (3, 6561)


# ---------------------------------------------------------------------------------------------- printing, errors


@pytest.mark.parametrize(
    ("rep", "text"),
    [
        (Defining(Symmetric(4)), "V"),
        (Defining(Symmetric(4)).dual, "V*"),
        (Trivial(Symmetric(4)) + Sign(Symmetric(4)), "1 ⊕ det"),
        (hom(2 * Defining(Cyclic(3)), Regular(Cyclic(3))), "R[C_3] ⊗ (2·V*)"),
        ((Defining(Cyclic(3)) + Trivial(Cyclic(3), 2)) ** 2, "(V ⊕ 2·1)^⊗2"),
        (3 * (Defining(Cyclic(3)) * Planar(Cyclic(3), 2)), "3·(V ⊗ P_2)"),
    ],
    ids=str,
)
def test_representations_print_as_mathematics(rep: Representation, text: str) -> None:
    assert str(rep) == text


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10_000))
def test_expressions_act_as_their_matrices(n: int, copies: int, power: int, seed: int) -> None:
    group = SignFlips(n)
    rep = copies * (Defining(group) ** power + Sign(group)) * Trivial(group, 2)
    g, x = group.sample(3, generator=seeded(seed)), normal(3, rep.dim, seed=seed)
    assert close(rep.act(g, x), (rep.matrix(g) @ x[..., None])[..., 0])


def test_representations_of_different_groups_do_not_combine() -> None:
    with pytest.raises(ValueError, match=r"one group, received V of S_3 and V of C_3; lift both to a DirectProduct"):
        Defining(Symmetric(3)) + Defining(Cyclic(3))
    with pytest.raises(ValueError, match="one group"):
        hom(Defining(Symmetric(3)), Defining(Symmetric(4)))


def test_numbers_combine_only_as_copies_and_powers() -> None:
    v = Defining(Symmetric(3))
    for combine in (lambda: v + 1, lambda: v * 2, lambda: 0.5 * v):
        with pytest.raises(TypeError):
            combine()
    with pytest.raises(ValueError, match="n >= 1, received n = 0"):
        0 * v
    with pytest.raises(ValueError, match="tensor power k >= 0"):
        v**-1
    with pytest.raises(ValueError, match="n >= 1"):
        Trivial(Symmetric(3), 0)


def test_vectors_elements_and_algebra_of_the_wrong_shape_are_refused() -> None:
    group = Symmetric(3)
    rep = Defining(group) ** 2
    g = group.sample(4, generator=seeded())
    with pytest.raises(ValueError, match=r"dimension 9 for V\^⊗2 of S_3, received a tensor of shape \(4, 3\)"):
        rep.act(g, torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"received \(4,\) and \(5,\); insert axes of length one"):
        rep.act(g, torch.zeros(5, 9))
    for ask in (rep.matrix, rep.character, rep.signed_permutation, lambda h: rep.act(h, torch.zeros(9))):
        with pytest.raises(ValueError, match=r"elements of S_3 with last axes \(3,\)"):
            ask(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"3 × 3 matrices of the Lie algebra of S_3"):
        rep.lie(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"batch axes of A"):
        Defining(Orthogonal(3)).act_lie(torch.zeros(4, 3, 3), torch.zeros(5, 3))


def test_an_infinite_or_huge_group_has_no_regular_representation() -> None:
    with pytest.raises(ValueError, match=r"finite group, received SO\(3\)"):
        Regular(SpecialOrthogonal(3))
    with pytest.raises(ValueError, match="at most 1000000"):
        Regular(Symmetric(11))


def test_lifts_name_the_factor_that_does_not_fit() -> None:
    group = DirectProduct(Symmetric(3), Cyclic(2))
    with pytest.raises(ValueError, match=r"a representation of C_2, factor 1 of S_3 × C_2, received one of S_3"):
        Factor(group, 1, Defining(Symmetric(3)))
    with pytest.raises(ValueError, match=r"between 0 and 1, received 2"):
        Factor(group, 2, Defining(Cyclic(2)))
    with pytest.raises(ValueError, match="DirectProduct, received S_3"):
        Factor(Symmetric(3), 0, Defining(Symmetric(3)))


def test_only_cyclic_and_dihedral_groups_turn_the_plane_and_a_whole_number_of_times() -> None:
    with pytest.raises((ValueError, TypeError), match="frequency"):
        Planar(Cyclic(3), 0.5)
    with pytest.raises(ValueError, match="cyclic or dihedral group, received S_3"):
        Planar(Symmetric(3))
