r"""The linear equations of invariance, as operators.

x is fixed by ρ(G) iff C x = 0 for the finitely many constraints C = ρ(g) − I, g a discrete generator, and C = dρ(A), A
in a basis of the Lie algebra: the generators and the exponentials of the algebra generate the group.

A tensor product is split into two halves of similar dimension, ρ = λ ⊗ μ. A constraint then acts on matrices
z (l × r) by λ(g) z μ(g)ᵀ − z, or dλ(A) z + z dμ(A)ᵀ: two matrix products instead of one of size lr × lr. Blocks of m
vectors are kept as (l, m, r), so that both are plain matrix products without copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from symfield.groups import Representation, Tensored
from symfield.typing import Float, Tensor

__all__ = ["Constraints", "halves", "residual"]

_DENSE_FACTOR = 3000  # largest factor whose matrices are kept


@dataclass(frozen=True, eq=False)
class _Move:
    """z ↦ λ z μᵀ − z and its adjoint; a missing λ is the identity."""

    left: Tensor | None
    right: Tensor

    def forward(self, z: Tensor) -> Tensor:
        return _times(self.left, _times_right(z, self.right)) - z

    def adjoint(self, z: Tensor) -> Tensor:
        left = None if self.left is None else self.left.mT
        return _times(left, _times_right(z, self.right.mT)) - z


@dataclass(frozen=True, eq=False)
class _Drift:
    """z ↦ a z + z bᵀ and its adjoint; a missing a is zero."""

    left: Tensor | None
    right: Tensor

    def forward(self, z: Tensor) -> Tensor:
        moved = _times_right(z, self.right)
        return moved if self.left is None else moved + _times(self.left, z)

    def adjoint(self, z: Tensor) -> Tensor:
        moved = _times_right(z, self.right.mT)
        return moved if self.left is None else moved + _times(self.left.mT, z)


@dataclass(frozen=True, eq=False)
class _Acting:
    """A constraint through ``act`` and ``act_lie`` of the representation and of its dual: ρ(g)ᵀ = ρ*(g⁻¹)."""

    rep: Representation
    element: Tensor | None = None
    algebra: Tensor | None = None

    def forward(self, z: Tensor) -> Tensor:
        if self.element is not None:
            return self.rep.act(self.element, z) - z
        assert self.algebra is not None
        return self.rep.act_lie(self.algebra, z)

    def adjoint(self, z: Tensor) -> Tensor:
        if self.element is not None:
            return self.rep.dual.act(self.rep.group.inverse(self.element), z) - z
        assert self.algebra is not None
        return -self.rep.dual.act_lie(self.algebra, z)


class Constraints:
    """The constraints of a representation, acting on blocks ``(l, m, r)`` of m vectors with l · r coordinates.

    Args:
        rep: the representation.
    """

    def __init__(self, rep: Representation) -> None:
        self.rep = rep
        left, right = halves(rep)
        dims = (1 if left is None else left.dim), right.dim
        generators, algebra = rep.group.generators, rep.group.lie_algebra
        self.terms: list[_Move | _Drift | _Acting]
        if max(dims) <= _DENSE_FACTOR:
            self.shape = dims
            self.terms = [_Move(None if left is None else left.matrix(g), right.matrix(g)) for g in generators]
            self.terms += [_Drift(None if left is None else left.lie(a), right.lie(a)) for a in algebra]
        else:
            self.shape = (1, rep.dim)
            self.terms = [_Acting(rep, element=g) for g in generators]
            self.terms += [_Acting(rep, algebra=a) for a in algebra]

    def pack(self, x: Float[Tensor, "m N"]) -> Float[Tensor, "l m r"]:
        """Rows of vectors as a block."""
        return x.reshape(-1, *self.shape).transpose(0, 1).contiguous()

    def unpack(self, z: Float[Tensor, "l m r"]) -> Float[Tensor, "m N"]:
        """A block as rows of vectors."""
        return z.transpose(0, 1).reshape(z.shape[1], -1)

    def violations(self, z: Float[Tensor, "l m r"]) -> Iterator[Float[Tensor, "l m r"]]:
        """C z for one constraint after the other."""
        return (term.forward(z) for term in self.terms)

    def normal(self, z: Float[Tensor, "l m r"]) -> Float[Tensor, "l m r"]:
        """Σ CᵀC z: zero exactly on the fixed vectors."""
        total = torch.zeros_like(z)
        for term in self.terms:
            total += term.adjoint(term.forward(z))
        return total


def halves(rep: Representation) -> tuple[Representation | None, Representation]:
    """Two consecutive halves (λ, μ) of a tensor product with the smallest larger one; (None, ρ) when there is none."""
    if not isinstance(rep, Tensored) or len(rep.factors) < 2:
        return None, rep
    dims = [factor.dim for factor in rep.factors]
    cut = min(range(1, len(dims)), key=lambda j: max(math.prod(dims[:j]), math.prod(dims[j:])))
    return _product(rep.factors[:cut]), _product(rep.factors[cut:])


def residual(rep: Representation, vectors: Float[Tensor, "m N"]) -> float:
    """Largest ‖ρ(g)v − v‖ and ‖dρ(A)v‖ over rows v, discrete generators g and basis elements A."""
    constraints = Constraints(rep)
    if not len(vectors) or not constraints.terms:
        return 0.0
    block = constraints.pack(vectors)
    return max(float(c.square().sum(dim=(0, 2)).max().sqrt()) for c in constraints.violations(block))


def _product(factors: tuple[Representation, ...]) -> Representation:
    return factors[0] if len(factors) == 1 else Tensored(*factors)


def _times(matrix: Tensor | None, z: Tensor) -> Tensor:
    """Apply a matrix along the first axis of (l, m, r)."""
    return z if matrix is None else (matrix @ z.reshape(z.shape[0], -1)).reshape(z.shape)


def _times_right(z: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix along the last axis of (l, m, r)."""
    return (z.reshape(-1, z.shape[-1]) @ matrix.mT).reshape(z.shape)
