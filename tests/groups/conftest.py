"""The cases that every group and every representation must pass: to join, add one line."""

from __future__ import annotations

import math

import pytest
import torch

from symfield.groups import (
    Alternating,
    Coordinates,
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Factor,
    Group,
    Matrix,
    Orthogonal,
    Permutation,
    PermutationGroup,
    Planar,
    Regular,
    Representation,
    Sign,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
    generated_by,
    hom,
)


def rotation(angle: float) -> list[list[float]]:
    return [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]


GOLDEN = (1 + math.sqrt(5)) / 2
ICOSAHEDRAL = generated_by(  # a half turn and a third of a turn whose product is a fifth of a turn
    [
        [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.5, -GOLDEN / 2, 0.5 / GOLDEN], [GOLDEN / 2, 0.5 / GOLDEN, -0.5], [0.5 / GOLDEN, 0.5, GOLDEN / 2]],
    ]
)
QUATERNION = generated_by(  # left multiplication by i and j on the quaternions
    [
        [[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0]],
        [[0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]],
    ]
)

#: (group, order or None)
GROUPS: list[tuple[Group, int | None]] = [
    (Cyclic(1), 1),
    (Cyclic(2), 2),
    (Cyclic(7), 7),
    (Dihedral(1), 2),
    (Dihedral(2), 4),
    (Dihedral(5), 10),
    (Dihedral(6), 12),
    (Symmetric(1), 1),
    (Symmetric(2), 2),
    (Symmetric(3), 6),
    (Symmetric(5), 120),
    (Alternating(1), 1),
    (Alternating(2), 1),
    (Alternating(3), 3),
    (Alternating(4), 12),
    (Alternating(5), 60),
    (SignFlips(1), 2),
    (SignFlips(4), 16),
    (Orthogonal(1), 2),
    (SpecialOrthogonal(1), 1),
    (Orthogonal(2), None),
    (SpecialOrthogonal(2), None),
    (Orthogonal(3), None),
    (SpecialOrthogonal(4), None),
    (generated_by([rotation(2 * math.pi / 5)]), 5),
    (generated_by([[[0.0, 1.0], [1.0, 0.0]], [[-1.0, 0.0], [0.0, 1.0]]]), 8),
    (QUATERNION, 8),
    (ICOSAHEDRAL, 60),
    (PermutationGroup([[0, 1, 2]]), 1),
    (PermutationGroup([[1, 2, 0, 3], [0, 1, 3, 2]]), 24),
    (PermutationGroup([[1, 2, 0, 9, 3], [0, 1, 2, 4, 3]]), 24),  # C_3 beside signed permutations of two
    (DirectProduct(PermutationGroup([[4, 2, 0]]), Cyclic(2)), 12),
    (DirectProduct(Cyclic(3)), 3),
    (DirectProduct(Cyclic(2), Symmetric(3), SignFlips(2)), 48),
    (DirectProduct(DirectProduct(Cyclic(2), Dihedral(3)), Cyclic(2)), 24),
    (DirectProduct(Orthogonal(1), Cyclic(3)), 6),
    (DirectProduct(Symmetric(3), SpecialOrthogonal(3)), None),
    (DirectProduct(Orthogonal(2), SpecialOrthogonal(2)), None),
]


def symmetric_traceless(n: int) -> torch.Tensor:
    """Orthonormal basis of the symmetric traceless n × n matrices, as columns."""
    rows = []
    for i in range(n):
        for j in range(i + 1, n):
            e = torch.zeros(n, n, dtype=torch.float64)
            e[i, j] = e[j, i] = 1 / math.sqrt(2)
            rows.append(e.reshape(-1))
    for i in range(1, n):
        e = torch.zeros(n, n, dtype=torch.float64)
        e[range(i), range(i)] = 1.0
        e[i, i] = -i
        rows.append(e.reshape(-1) / e.norm())
    return torch.stack(rows, dim=1)


def quadrupole(group: Group) -> Matrix:
    """The irreducible part of V ⊗ V of SO(n) or O(n) on symmetric traceless matrices, given by its generators only."""
    basis, square = symmetric_traceless(group.degree), Defining(group) ** 2
    images = torch.cat([square.matrix(group.generators), square.lie(group.lie_algebra)])
    return Matrix(group, basis.mT @ images @ basis)


def sheared(group: Group) -> Matrix:
    """The defining representation in a basis that is not orthonormal."""
    q = group.degree
    shear = torch.eye(q, dtype=torch.float64) + torch.ones(q, q, dtype=torch.float64).triu(1)
    images = torch.cat([group.defining_matrix(group.generators), group.lie_algebra])
    return Matrix(group, shear @ images @ torch.linalg.inv(shear))


def _representations() -> list[Representation]:
    s3, s4, d5, c6, o3, so3 = Symmetric(3), Symmetric(4), Dihedral(5), Cyclic(6), Orthogonal(3), SpecialOrthogonal(3)
    flips = SignFlips(3)
    mixed = DirectProduct(s3, so3)
    points, space = Factor(mixed, 0, Defining(s3)), Factor(mixed, 1, Defining(so3))
    finite = DirectProduct(Cyclic(2), Dihedral(3))
    v, f, x, y = Defining(s4), Defining(flips), Defining(o3), Defining(so3)
    square = generated_by([[[0.0, 1.0], [1.0, 0.0]], [[-1.0, 0.0], [0.0, 1.0]]])
    return [
        *(Defining(group) for group, _ in GROUPS),
        Coordinates(PermutationGroup([[1, 2, 0, 9, 3], [0, 1, 2, 4, 3]]), 0, 3),
        2 * Coordinates(PermutationGroup([[1, 2, 0, 9, 3], [0, 1, 2, 4, 3]]), 3, 5),
        *(Sign(group) for group in (c6, d5, s4, Alternating(4), flips, o3, so3, mixed, QUATERNION)),
        *(Regular(group) for group in (Cyclic(1), Dihedral(2), s3, Alternating(4), flips, finite, QUATERNION)),
        Trivial(s3, 3),
        Trivial(so3, 2),
        Trivial(mixed),
        *(Planar(Cyclic(n)) for n in (1, 2, 7)),
        *(Planar(Dihedral(n)) for n in (1, 2, 5)),
        Planar(c6, 2) + Sign(c6),
        Planar(d5, 2) ** 2,
        v + Trivial(s4) + Sign(s4),
        v * v,
        v**3,
        v**0,
        3 * (v * Sign(s4)),
        (v + Sign(s4)) ** 2 + 2 * v.dual,
        f * f * f,
        f * Trivial(flips, 2) + 2 * f,
        hom(f + Sign(flips), Regular(flips)),
        Defining(square) * Sign(square),
        x * x,
        x + Sign(o3) + Trivial(o3, 2),
        2 * x * Sign(o3),
        x**3,
        hom(x + Trivial(o3), 2 * x),
        y**2 + 2 * (y + Trivial(so3)),
        points * space,
        (points + Trivial(mixed)) * (space + Trivial(mixed, 2)),
        hom(points * space, 2 * space),
        points**2 * Sign(mixed),
        Permutation(s3, [[1, 0, 2, 4, 3, 5], [1, 2, 0, 3, 4, 5]]),
        Permutation(o3, [[1, 0, 2]]),
        Permutation(so3, torch.zeros(0, 3, dtype=torch.int64) + torch.arange(3)),
        Permutation(finite, [[0, 1, 2, 4, 3], [1, 2, 0, 3, 4], [0, 2, 1, 3, 4]]),
        Permutation(mixed, [[1, 0, 2], [1, 2, 0]]) * space,
        Matrix(Cyclic(1), torch.zeros(0, 2, 2)),
        Matrix(Cyclic(5), [rotation(4 * math.pi / 5)]),
        Matrix(Orthogonal(1), -torch.eye(2).unsqueeze(0)),
        quadrupole(SpecialOrthogonal(3)),
        quadrupole(Orthogonal(3)),
        quadrupole(SpecialOrthogonal(4)),
        quadrupole(Orthogonal(2)) * Defining(Orthogonal(2)),
        sheared(s3),
        sheared(s3).dual,
        sheared(Orthogonal(2)),
        sheared(so3).dual,
        sheared(so3) * y + sheared(so3).dual,
        hom(sheared(s4), 2 * v),
        sheared(mixed),
        sheared(DirectProduct(Dihedral(4), Orthogonal(2))).dual,
        Factor(mixed, 1, quadrupole(so3)).dual,
    ]


@pytest.fixture(params=GROUPS, ids=lambda case: str(case[0]))
def group_and_order(request: pytest.FixtureRequest) -> tuple[Group, int | None]:
    return request.param


@pytest.fixture
def group(group_and_order: tuple[Group, int | None]) -> Group:
    return group_and_order[0]


@pytest.fixture(params=_representations(), ids=lambda rep: f"{rep} of {rep.group}")
def rep(request: pytest.FixtureRequest) -> Representation:
    return request.param
