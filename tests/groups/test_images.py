"""Representations given by the images of generators: extended exactly, or refused with the measured violation."""

from __future__ import annotations

import math

import pytest
import torch

from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Matrix,
    Orthogonal,
    Permutation,
    Planar,
    Regular,
    SpecialOrthogonal,
    Symmetric,
    generated_by,
)

DOUBLE = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spin_half() -> torch.Tensor:
    """Images of E_01, E_02, E_12 in the spinors of SO(3), as real 4 × 4 matrices: brackets hold, a turn is −1."""
    i = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=DOUBLE)
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    z = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=DOUBLE)
    return torch.stack([torch.kron(x, i), torch.kron(z, i), -torch.kron(i, torch.eye(2, dtype=DOUBLE))]) / 2


def test_matrices_of_generators_determine_the_representation_of_a_finite_group() -> None:
    plane = Planar(Dihedral(7), 3)
    rebuilt = Matrix(plane.group, plane.matrix(plane.group.generators))
    assert torch.allclose(rebuilt.matrix(plane.group.elements), plane.matrix(plane.group.elements), rtol=0, atol=1e-12)


def test_permutations_of_generators_determine_the_representation() -> None:
    regular = Regular(Symmetric(4))
    images = regular.signed_permutation(regular.group.inverse(regular.group.generators))[0]
    rebuilt = Permutation(regular.group, images)
    g = regular.group.elements
    assert torch.equal(rebuilt.signed_permutation(g)[0], regular.signed_permutation(g)[0])


@pytest.mark.parametrize("n", [3, 4])
def test_matrices_of_the_lie_algebra_determine_the_representation_of_rotations(n: int) -> None:
    """Also at half turns, where the logarithm jumps."""
    group = SpecialOrthogonal(n)
    square = Defining(group) ** 2
    rebuilt = Matrix(group, square.lie(group.lie_algebra))
    half_turn = torch.diag(torch.tensor([-1.0, -1.0] + [1.0] * (n - 2), dtype=DOUBLE))
    q = group.sample(10, generator=seeded())
    g = torch.cat([group.sample(20, generator=seeded(1)), half_turn[None], q @ half_turn @ q.mT])
    assert torch.allclose(rebuilt.matrix(g), square.matrix(g), rtol=0, atol=1e-11)


def test_spinors_are_refused_because_a_full_turn_is_minus_one() -> None:
    with pytest.raises(
        ValueError, match=r"represent SO\(3\): a full turn must be the identity .* differs by 2.00e\+00"
    ):
        Matrix(SpecialOrthogonal(3), spin_half())
    doubled = Matrix(SpecialOrthogonal(3), _tensor_square(spin_half()))  # two spinors make integer spin
    assert doubled.dim == 16


def _tensor_square(lie: torch.Tensor) -> torch.Tensor:
    one = torch.eye(4, dtype=DOUBLE)
    return torch.stack([torch.kron(a, one) + torch.kron(one, a) for a in lie])


def test_images_that_break_brackets_are_refused() -> None:
    group = SpecialOrthogonal(3)
    with pytest.raises(ValueError, match=r"must respect brackets, but it differs by 2.00e\+00"):
        Matrix(group, 2 * group.lie_algebra)


def test_the_reflection_must_fit_the_rotations() -> None:
    group = Orthogonal(2)
    j = group.lie_algebra
    Matrix(group, torch.cat([group.generators, j]))
    with pytest.raises(ValueError, match="reflection must act on the Lie algebra as in the group"):
        Matrix(group, torch.cat([torch.eye(2, dtype=DOUBLE)[None], j]))
    with pytest.raises(ValueError, match="square of the reflection must be the identity"):
        Matrix(group, torch.cat([j * 1.0, j]))


def test_matrices_that_break_a_relation_are_refused_with_the_violation() -> None:
    turn = Planar(Cyclic(4)).matrix(torch.tensor(1))
    assert Matrix(Cyclic(4), turn[None]).dim == 2
    with pytest.raises(ValueError, match=r"represent C_3: the relations of the group must hold, but .* 1.00e\+00"):
        Matrix(Cyclic(3), turn[None])
    with pytest.raises(ValueError, match=r"relations of the group must hold"):
        Matrix(Cyclic(4), turn[None] + 1e-6)
    with pytest.raises(ValueError, match=r"relations of the group must hold"):
        Matrix(Cyclic(2), torch.zeros(1, 2, 2))  # idempotent, not invertible


def test_factors_of_a_product_must_commute() -> None:
    group = DirectProduct(Cyclic(2), Cyclic(2))
    s = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    t = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"images of different factors must commute, but it differs by 2.00e\+00"):
        Matrix(group, [s, t])
    with pytest.raises(ValueError, match="generators of different factors must commute"):
        Permutation(group, [[1, 0, 2], [0, 2, 1]])
    assert Matrix(group, [s, -s]).dim == 2


def test_a_product_of_large_cyclic_groups_needs_no_table_of_its_elements() -> None:
    """10^9 elements; each factor keeps its own thousand."""
    group = DirectProduct(Cyclic(1000), Cyclic(1000), Cyclic(1000))
    turn = Planar(Cyclic(1000)).matrix(torch.tensor(1))
    rep = Matrix(group, torch.stack([turn, turn @ turn, turn.mT]))
    g = group.join(torch.tensor(3), torch.tensor(5), torch.tensor(13))
    assert torch.allclose(rep.matrix(g), torch.eye(2, dtype=DOUBLE), rtol=0, atol=1e-11)


def test_long_words_stay_accurate() -> None:
    n = 5000
    plane = Planar(Cyclic(n))
    rep = Matrix(plane.group, plane.matrix(plane.group.generators))
    assert torch.allclose(rep.matrix(torch.tensor(n // 2)), -torch.eye(2, dtype=DOUBLE), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(2, 3, 3),
            r"shape \(1, m, m\) for the 1 generators and 0 Lie algebra .* received shape \(2, 3, 3\)",
        ),
        (torch.zeros(1, 3, 2), r"received shape \(1, 3, 2\)"),
        (torch.zeros(3, 3), r"received shape \(3, 3\)"),
        (torch.zeros(1, 0, 0), r"received shape \(1, 0, 0\)"),
        (torch.full((1, 2, 2), math.nan), "NaN or infinity"),
        ([torch.eye(2), torch.eye(3)], "square matrices of one size"),
    ],
)
def test_matrices_of_the_wrong_kind_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Matrix(Cyclic(3), images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0, 0, 1]], r"permutations of 0, ..., 2, received \[\[0, 0, 1\]\]"),
        ([[1, 2, 3]], "permutations of 0, ..., 2"),
        ([[1, 0], [1, 0]], r"shape \(1, m\), one permutation for each generator of C_3, received torch.int64 of shape"),
        ([[1.0, 0.0]], "torch.float32"),
        ([[1, 0, 2]], r"relations of the group must hold, but 2 of 9 places differ"),
    ],
)
def test_permutations_of_the_wrong_kind_are_refused(images: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Permutation(Cyclic(3), images)


def test_an_infinite_group_permutes_through_its_components_only() -> None:
    with pytest.raises(ValueError, match="reflection must be an involution"):
        Permutation(Orthogonal(3), [[1, 2, 0]])
    group = Orthogonal(3)
    g = group.sample(20, generator=seeded())
    moved = Permutation(group, [[1, 0]]).act(g, torch.tensor([0.0, 1.0]))
    assert torch.equal(moved[:, 0] == 1, group.determinant(g) < 0)


def test_groups_too_large_for_words_say_what_to_do() -> None:
    group = Symmetric(10)
    with pytest.raises(ValueError, match=r"at most 100000 elements, received S_10 of order 3628800; build the repr"):
        Matrix(group, Defining(group).matrix(group.generators))
    with pytest.raises(ValueError, match=r"at most 20000000 entries"):
        Matrix(Symmetric(8), torch.eye(30).expand(2, 30, 30))


def test_images_are_copied() -> None:
    given = Planar(Cyclic(5)).matrix(torch.tensor([1]))
    rep = Matrix(Cyclic(5), given)
    before = rep.matrix(torch.tensor(2)).clone()
    given += 1
    assert torch.equal(rep.matrix(torch.tensor(2)), before)


def test_generated_groups_are_represented_through_their_own_generators() -> None:
    plane = Planar(Dihedral(5))
    group = generated_by(plane.matrix(plane.group.generators))
    twice = Matrix(group, Planar(Dihedral(5), 2).matrix(plane.group.generators))  # the Galois-conjugate plane
    assert float(twice.character(group.elements).square().mean()) == pytest.approx(1.0, abs=1e-12)
    inner = (twice.character(group.elements) * Defining(group).character(group.elements)).mean()
    assert float(inner) == pytest.approx(0.0, abs=1e-12)
