r"""Direct products G_1 × … × G_k, acting on each part separately.

An element packs the flattened elements of its factors along one last axis, in the factors' order; float64 when any
factor has floating elements, int64 otherwise.
"""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from typing import ClassVar

import torch

from symfield.groups.group import Group, infinite
from symfield.typing import Float, Generator, Int, Tensor

__all__ = ["DirectProduct"]


class DirectProduct(Group):
    """The direct product of groups.

    The defining representation is the direct sum of the factors' defining representations. ``elements`` run through
    the last factor fastest.

    Args:
        factors: at least one group.

    Example:
        >>> from symfield.groups import Cyclic, DirectProduct, Symmetric
        >>> group = DirectProduct(Cyclic(2), Symmetric(3))
        >>> group.order, group.element_shape, str(group)
        (12, (4,), 'C_2 × S_3')
        >>> c, s = group.split(group.elements[7])
        >>> int(c), s.tolist()
        (1, [0, 2, 1])
    """

    factors: tuple[Group, ...]
    _fields: ClassVar[tuple[str, ...]] = ("factors",)

    def __init__(self, *factors: Group) -> None:
        if not factors or not all(isinstance(factor, Group) for factor in factors):
            raise ValueError(f"expected one group or more, received {factors!r}; pass them as DirectProduct(G, H, ...)")
        self._set(factors=factors)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(factor.element_shape) for factor in self.factors]

    def split(self, g: Tensor) -> tuple[Tensor, ...]:
        """The components of elements, each with its factor's shape and dtype.

        Args:
            g: elements, ``(*b, *element_shape)``.

        Returns:
            One tensor ``(*b, *factor.element_shape)`` per factor.
        """
        return tuple(
            part.reshape((*part.shape[:-1], *factor.element_shape)).to(factor.identity.dtype)
            for part, factor in zip(g.split(self._sizes, dim=-1), self.factors, strict=True)
        )

    def join(self, *parts: Tensor) -> Tensor:
        """The elements with these components; inverse of :meth:`split`, batch axes broadcast.

        Args:
            parts: one tensor ``(*b, *factor.element_shape)`` per factor.

        Returns:
            Elements, ``(*b, *element_shape)``.
        """
        batches = [factor.batch_shape(part) for part, factor in zip(parts, self.factors, strict=True)]
        shape = torch.broadcast_shapes(*batches)
        dtype = torch.float64 if any(factor.identity.is_floating_point() for factor in self.factors) else torch.int64
        flat = [
            part.reshape(*batch, size).expand(*shape, size).to(dtype)
            for part, batch, size in zip(parts, batches, self._sizes, strict=True)
        ]
        return torch.cat(flat, dim=-1)

    def blocks(self, a: Float[Tensor, "*b q q"]) -> tuple[Float[Tensor, "*b _ _"], ...]:
        """The diagonal blocks of Lie algebra elements, one per factor.

        Args:
            a: block-diagonal matrices of size ``degree``.

        Returns:
            Matrices of size ``factor.degree``, one tensor per factor.
        """
        ends = torch.tensor([factor.degree for factor in self.factors]).cumsum(0).tolist()
        return tuple(
            a[..., end - factor.degree : end, end - factor.degree : end]
            for end, factor in zip(ends, self.factors, strict=True)
        )

    @property
    def identity(self) -> Tensor:
        return self.join(*(factor.identity for factor in self.factors))

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        pairs = zip(self.factors, self.split(g), self.split(h), strict=True)
        return self.join(*(factor.compose(a, b) for factor, a, b in pairs))

    def inverse(self, g: Tensor) -> Tensor:
        return self.join(*(factor.inverse(a) for factor, a in zip(self.factors, self.split(g), strict=True)))

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        return self.join(*(factor.sample(n, generator=generator) for factor in self.factors))

    @property
    def generators(self) -> Tensor:
        rows = []
        for i, factor in enumerate(self.factors):
            parts = [other.identity for other in self.factors]
            parts[i] = factor.generators
            rows.append(self.join(*parts))
        return torch.cat(rows)

    @property
    def degree(self) -> int:
        return sum(factor.degree for factor in self.factors)

    @property
    def lie_algebra(self) -> Float[Tensor, "j q q"]:
        algebras = [factor.lie_algebra for factor in self.factors]
        basis = torch.zeros(sum(map(len, algebras)), self.degree, self.degree, dtype=torch.float64)
        row = column = 0
        for algebra in algebras:
            j, q = algebra.shape[:2]
            basis[row : row + j, column : column + q, column : column + q] = algebra
            row, column = row + j, column + q
        return basis

    @property
    def is_finite(self) -> bool:
        return all(factor.is_finite for factor in self.factors)

    @property
    def order(self) -> int:
        if not self.is_finite:
            raise infinite(self)
        return math.prod(factor.order for factor in self.factors)

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        parts = []
        for factor in reversed(self.factors):
            parts.append(factor.element(index % factor.order))
            index = index // factor.order
        return self.join(*reversed(parts))

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        total = torch.zeros((), dtype=torch.int64, device=g.device)
        for factor, part in zip(self.factors, self.split(g), strict=True):
            total = total * factor.order + factor.index(part)
        return total

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], Int[Tensor, "*b q"] | None] | None:
        signed = [factor.signed_permutation(part) for factor, part in zip(self.factors, self.split(g), strict=True)]
        return stack_signed(signed)

    def defining_matrix(self, g: Tensor) -> Float[Tensor, "*b q q"]:
        return block_diagonal([f.defining_matrix(part) for f, part in zip(self.factors, self.split(g), strict=True)])

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        signs = [factor.determinant(part) for factor, part in zip(self.factors, self.split(g), strict=True)]
        return torch.stack(signs).prod(dim=0)

    def exp(self, a: Float[Tensor, "*b q q"]) -> Tensor:
        return self.join(*(factor.exp(block) for factor, block in zip(self.factors, self.blocks(a), strict=True)))

    def __str__(self) -> str:
        return " × ".join(f"({f})" if isinstance(f, DirectProduct) else str(f) for f in self.factors)

    def __repr__(self) -> str:
        return f"DirectProduct({', '.join(map(repr, self.factors))})"


def stack_signed(
    parts: list[tuple[Int[Tensor, "*b _"], Int[Tensor, "*b _"] | None] | None],
) -> tuple[Int[Tensor, "*b q"], Int[Tensor, "*b q"] | None] | None:
    """The direct sum of signed permutations; ``None`` if one of them is ``None``."""
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    offset, indices = 0, []
    for index, _ in present:
        indices.append(index + offset)
        offset += index.shape[-1]
    if all(sign is None for _, sign in present):
        return torch.cat(indices, dim=-1), None
    return torch.cat(indices, dim=-1), torch.cat([torch.ones_like(i) if s is None else s for i, s in present], dim=-1)


def block_diagonal(blocks: list[Float[Tensor, "*b _ _"]]) -> Float[Tensor, "*b q q"]:
    """Block-diagonal matrices out of batches of square blocks with equal batch axes."""
    total = sum(block.shape[-1] for block in blocks)
    out = blocks[0].new_zeros(*blocks[0].shape[:-2], total, total)
    start = 0
    for block in blocks:
        end = start + block.shape[-1]
        out[..., start:end, start:end] = block
        start = end
    return out
