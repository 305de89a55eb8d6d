"""Hidden symmetries with a known answer: teachers on coordinates, on sets and on vectors, and teachers with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from symfield import random
from symfield.discovery.classical import standard
from symfield.equivariant import equivariant_maps
from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    Group,
    Representation,
    SignFlips,
    Symmetric,
    Trivial,
)
from symfield.linalg import Subspace
from symfield.typing import Float, Generator, Tensor

__all__ = ["DISCRETE", "SMOOTH", "Teacher", "teacher"]

DISCRETE = ("signs", "cyclic", "dihedral", "symmetric", "sets", "blocks", "none")
SMOOTH = ("SO(2)", "SO(3)", "SO(1,3)", "none (smooth)")

_UNITS = 3  # σ(z x) that are added up
_SLOPE = 2.5  # root mean square of z x
_FEATURES = 3  # of each element of a set


@dataclass(frozen=True, eq=False)
class Teacher:
    """A function with a known symmetry.

    Attributes:
        function: from inputs ``(b, d)`` to values ``(b, o)``.
        dim: d.
        rep_in: the hidden group on inputs; absent for continuous groups.
        rep_out: the hidden group on outputs.
        fixed: the subspace of σ(z x) that the group fixes.
        algebra: the hidden Lie algebra, ``(k, d, d)``; empty for finite groups.
    """

    function: Callable[[Tensor], Tensor]
    dim: int
    rep_in: Representation | None = None
    rep_out: Representation | None = None
    fixed: Subspace | None = None
    algebra: Float[Tensor, "k d d"] = field(default_factory=lambda: torch.zeros(0, 1, 1, dtype=torch.float64))

    @property
    def symmetric(self) -> bool:
        """Whether there is something to find."""
        return len(self.algebra) > 0 or (self.fixed is not None and self.fixed.dim < self.fixed.ambient_dim)


def teacher(kind: str, dim: int, *, generator: Generator) -> Teacher:
    """A random teacher.

    Args:
        kind: one of ``DISCRETE`` or ``SMOOTH``.
        dim: number of inputs of the discrete ones; rounded down to what the group needs.
        generator: source of its weights.

    Returns:
        The teacher.
    """
    return _smooth(kind, generator) if kind in SMOOTH else _discrete(kind, dim, generator)


def _discrete(kind: str, dim: int, generator: Generator) -> Teacher:
    """Sums of logistic units: invariant vectors z for permutations, orbits of z for signs."""
    rep_in, rep_out = _representations(kind, dim)
    fixed = equivariant_maps(rep_in, rep_out)
    d, o = rep_in.dim, rep_out.dim
    like = torch.zeros((), dtype=torch.float64)
    if kind == "signs":
        matrices = rep_in.matrix(rep_in.group.elements)
        base = random.normal((_UNITS, o, d), generator=generator, like=like)
        weights = (base[:, None] @ matrices[None]).flatten(0, 1)
    else:
        weights = fixed.embed(random.normal((_UNITS, fixed.dim), generator=generator, like=like)).reshape(-1, o, d)
    weights = weights * (_SLOPE / weights.square().sum(-1).mean().sqrt())
    outer = torch.linspace(1.0, 2.0, _UNITS, dtype=torch.float64).repeat_interleave(len(weights) // _UNITS)

    def function(x: Tensor) -> Tensor:
        return torch.einsum("k,kbo->bo", outer, torch.sigmoid(torch.einsum("kod,bd->kbo", weights, x)))

    return Teacher(function, d, rep_in, rep_out, fixed)


def _representations(kind: str, dim: int) -> tuple[Representation, Representation]:
    if kind == "signs":
        flips: Group = SignFlips(2)
        return Defining(flips) + Trivial(flips, dim - 2), Trivial(flips, dim)
    if kind == "sets":
        elements = Symmetric(max(dim // _FEATURES, 2))
        rep: Representation = Defining(elements) * Trivial(elements, _FEATURES)
        return rep, rep
    half = dim // 2
    groups: dict[str, Group] = {
        "cyclic": Cyclic(dim),
        "dihedral": Dihedral(dim),
        "symmetric": Symmetric(dim),
        "blocks": DirectProduct(Cyclic(half), Symmetric(dim - half)),
    }
    rep = Trivial(Cyclic(1), dim) if kind == "none" else Defining(groups[kind])
    return rep, rep


def _smooth(kind: str, generator: Generator) -> Teacher:
    """Functions of invariants with random coefficients; the control mixes all coordinates."""
    a = 0.5 + random.uniform((6,), generator=generator, like=torch.zeros((), dtype=torch.float64))
    if kind == "SO(2)":

        def turned(x: Tensor) -> Tensor:
            r, z = x[:, :2].square().sum(-1), x[:, 2]
            return (torch.sin(a[0] * r) + a[1] * z * r + a[2] * z**2 + z)[:, None]

        return Teacher(turned, 3, algebra=_embedded(standard(torch.ones(2, dtype=torch.float64)), 3))
    if kind == "SO(3)":

        def rotated(x: Tensor) -> Tensor:
            u, v = x[:, :3], x[:, 3:]
            dot, uu, vv = (u * v).sum(-1), u.square().sum(-1), v.square().sum(-1)
            return (a[0] * dot**2 + a[1] * dot + a[2] * uu - a[3] * vv**2 / 4 + a[4] * uu * dot / 2)[:, None]

        one = standard(torch.ones(3, dtype=torch.float64))
        return Teacher(rotated, 6, algebra=torch.stack([torch.block_diag(e, e) for e in one]))
    if kind == "SO(1,3)":
        eta = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)

        def boosted(x: Tensor) -> Tensor:
            square = (eta * x * x).sum(-1)
            return (a[0] * square + torch.tanh(a[1] * square))[:, None]

        return Teacher(boosted, 4, algebra=standard(eta))
    weights = random.normal((8, 4), generator=generator, like=a)

    def mixed(x: Tensor) -> Tensor:
        h = x @ weights.mT
        return (h**3 / 6 + h.square() + h).sum(-1)[:, None] + torch.sin(h[:, :1])

    return Teacher(mixed, 4)


def _embedded(matrices: Tensor, dim: int) -> Tensor:
    full = torch.zeros(len(matrices), dim, dim, dtype=matrices.dtype)
    full[:, : matrices.shape[1], : matrices.shape[2]] = matrices
    return full
