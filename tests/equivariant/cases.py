"""Representations that the claims of this folder run over."""

from __future__ import annotations

import math

import torch

from symfield.groups import (
    Alternating,
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Factor,
    Group,
    Matrix,
    Orthogonal,
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


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def conjugated(rep: Representation, *, orthogonal: bool = True, seed: int = 0) -> Matrix:
    """The same representation in another basis, which hides its structure."""
    q = randn(rep.dim, rep.dim, seed=seed)
    q = torch.linalg.qr(q)[0] if orthogonal else q / math.sqrt(rep.dim) + torch.eye(rep.dim, dtype=torch.float64)
    group = rep.group
    images = torch.cat([rep.matrix(group.generators), rep.lie(group.lie_algebra)])
    return Matrix(group, q @ images @ torch.linalg.inv(q))


def points_in_space(n: int) -> Representation:
    group = DirectProduct(Symmetric(n), Orthogonal(3))
    return Factor(group, 0, Defining(Symmetric(n))) * Factor(group, 1, Defining(Orthogonal(3)))


class RubikMoves(Symmetric):
    """The Rubik's cube group on its 48 facelets, given by the six face turns; too large to list."""

    def __init__(self) -> None:
        super().__init__(48)

    @property
    def generators(self) -> torch.Tensor:
        turns = [
            "1,3,8,6 2,5,7,4 9,33,25,17 10,34,26,18 11,35,27,19",
            "9,11,16,14 10,13,15,12 1,17,41,40 4,20,44,37 6,22,46,35",
            "17,19,24,22 18,21,23,20 6,25,43,16 7,28,42,13 8,30,41,11",
            "25,27,32,30 26,29,31,28 3,38,43,19 5,36,45,21 8,33,48,24",
            "33,35,40,38 34,37,39,36 3,9,46,32 2,12,47,29 1,14,48,27",
            "41,43,48,46 42,45,47,44 14,22,30,38 15,23,31,39 16,24,32,40",
        ]
        images = torch.arange(48).repeat(6, 1)
        for row, turn in zip(images, turns, strict=True):
            for cycle in turn.split():
                points = torch.tensor([int(p) - 1 for p in cycle.split(",")])
                row[points] = points.roll(-1)
        return images


def _tetrahedral() -> Group:
    return generated_by(
        [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]]]
    )


def _pentagon() -> Group:
    c, s = math.cos(2 * math.pi / 5), math.sin(2 * math.pi / 5)
    return generated_by([[[c, -s], [s, c]], [[1.0, 0.0], [0.0, -1.0]]])


_S3, _D4, _C5 = Symmetric(3), Dihedral(4), Cyclic(5)
_MIXED = DirectProduct(_S3, Orthogonal(2), _C5)

#: Permutation-like: every solver applies.
PERMUTATION_LIKE = [
    Defining(Symmetric(4)) ** 3,
    Regular(_D4) * Sign(_D4),
    hom(Defining(SignFlips(3)), Regular(SignFlips(3))),
    2 * Defining(Alternating(4)) + Sign(Alternating(4)) + Trivial(Alternating(4), 2),
    (Defining(_tetrahedral()) + Trivial(_tetrahedral())) ** 2,
    Defining(DirectProduct(_S3, Cyclic(2))) ** 2,
    Sign(_S3),
]

#: Finite groups by matrices: all solvers but orbits apply.
FINITE = [
    Planar(_C5) ** 3,
    Planar(Dihedral(6)) * Planar(Dihedral(6), 2) * Regular(Dihedral(6)),
    conjugated(2 * Regular(_S3)) ** 2,
    conjugated(Regular(_S3), orthogonal=False) * Defining(_S3),
    hom(conjugated(Defining(_S3), orthogonal=False), Regular(_S3)),
    Defining(_pentagon()) ** 4,
    3 * Planar(_C5) + Regular(_C5) + Trivial(_C5),
]

#: Infinite groups: null spaces and conjugate gradients apply.
LIE = [
    Defining(SpecialOrthogonal(3)) ** 4,
    Defining(Orthogonal(3)) ** 4,
    Sign(Orthogonal(3)) * Defining(Orthogonal(3)) ** 3,
    Defining(SpecialOrthogonal(2)) ** 4,
    Defining(SpecialOrthogonal(4)) ** 4,
    Defining(Orthogonal(2)) ** 4 + Trivial(Orthogonal(2), 3),
    points_in_space(3) ** 2,
    (Sign(_MIXED) + Defining(_MIXED)) * Defining(_MIXED),
    Factor(_MIXED, 2, Planar(_C5)) * Factor(_MIXED, 1, Defining(Orthogonal(2)) ** 2) * Factor(_MIXED, 2, Planar(_C5)),
    conjugated(Defining(SpecialOrthogonal(3)) + Trivial(SpecialOrthogonal(3)), orthogonal=False) ** 2,
]

ALL = PERMUTATION_LIKE + FINITE + LIE
