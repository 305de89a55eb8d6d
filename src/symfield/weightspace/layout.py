"""How the entries of one axis of a tensor are laid out: pieces of hidden spaces, multiplied or put end to end.

A hidden space is a set of n units, heads, gates or directions that a factor of the symmetry moves. An axis of a tensor
is

- a :class:`Piece`: one whole space;
- a :class:`Product`: all pairs, row-major, such as (heads, channels of a head), or (channels, height, width) after a
  flatten;
- a :class:`Concat`: one after the other, such as the queries, keys and values of a fused projection, or LSTM gates.

Trees of these say which entries a factor touches, with which offset and stride. :func:`map_blocks` cuts a tensor into
blocks whose axes are single pieces, and puts the results together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import torch

from symfield.typing import Tensor

__all__ = ["Concat", "Layout", "Move", "Piece", "Product", "map_blocks", "pieces"]


@dataclass(frozen=True)
class Move:
    """What a factor does to one piece: with an element g, the piece is multiplied by g^power.

    A matrix factor acts by A g A^{-1} for power 1 (covariant) and A g^{-T} A^{-1} for power -1 (contravariant), where A
    is diagonal: the product of the gains, tensors of the model, each to its exponent.

    Attributes:
        factor: name of the factor.
        power: exponent; ±1 for matrices, any integer for scales, 1 for permutations.
        gains: pairs (tensor name, exponent), such as the weight of an RMSNorm between two occurrences.
    """

    factor: str
    power: int = 1
    gains: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Piece:
    """A whole hidden space along an axis.

    Attributes:
        space: name of the space; tensors with the same space move together.
        size: number of units.
        moves: what the factors do here; empty where the space is fixed.
    """

    space: str
    size: int
    moves: tuple[Move, ...] = ()

    def __str__(self) -> str:
        return f"{self.space} {self.size}" if self.moves else str(self.size)


@dataclass(frozen=True)
class Product:
    """All combinations of the parts, the last running fastest.

    Attributes:
        parts: layouts, outermost first.
    """

    parts: tuple[Piece | Product | Concat, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(part.size for part in self.parts)

    def __str__(self) -> str:
        return "(" + " × ".join(map(str, self.parts)) + ")"


@dataclass(frozen=True)
class Concat:
    """The parts one after the other.

    Attributes:
        parts: layouts, in order of their offsets.
    """

    parts: tuple[Piece | Product | Concat, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(part.size for part in self.parts)

    def __str__(self) -> str:
        return "[" + " | ".join(map(str, self.parts)) + "]"


Layout: TypeAlias = Piece | Product | Concat
"""How the entries of one axis are laid out."""


def pieces(layout: Layout) -> Iterator[tuple[Piece, int, int]]:
    """The pieces of an axis with their place in it.

    Args:
        layout: of the axis.

    Yields:
        (piece, offset, stride): unit i of the piece begins at entry offset + i·stride.

    Example:
        >>> heads = Product((Piece("heads", 4), Piece("channels", 8)))
        >>> [(piece.space, offset, stride) for piece, offset, stride in pieces(Concat((heads, heads)))]
        [('heads', 0, 8), ('channels', 0, 1), ('heads', 32, 8), ('channels', 32, 1)]
    """
    yield from _pieces(layout, 0, 1)


def _pieces(layout: Layout, offset: int, stride: int) -> Iterator[tuple[Piece, int, int]]:
    if isinstance(layout, Piece):
        yield layout, offset, stride
    elif isinstance(layout, Product):
        for i, part in enumerate(layout.parts):
            inner = prod(p.size for p in layout.parts[i + 1 :])
            yield from _pieces(part, offset, stride * inner)
    else:
        for part in layout.parts:
            yield from _pieces(part, offset, stride)
            offset += part.size * stride


def map_blocks(
    tensor: Tensor,
    axes: Sequence[tuple[Layout, int]],
    visit: Callable[[Tensor, tuple[tuple[Piece, int], ...]], Tensor],
) -> Tensor:
    """Cut a tensor into blocks whose axes are single pieces, map each, and put the results together.

    Args:
        tensor: any tensor.
        axes: layout and number of every axis; the number tells from which axis of the whole tensor a piece comes.
        visit: takes a block and its pieces with their numbers, and returns a tensor of the same shape.

    Returns:
        A tensor of the same shape.

    Example:
        >>> gates = Concat((Piece("h", 2), Piece("h", 2)))
        >>> map_blocks(torch.arange(4), [(gates, 0)], lambda block, pieces: block.flip(0)).tolist()
        [1, 0, 3, 2]
    """
    for i, (layout, axis) in enumerate(axes):
        before, after = tuple(axes[:i]), tuple(axes[i + 1 :])
        if isinstance(layout, Product):
            sizes = [part.size for part in layout.parts]
            inner = tuple((part, axis) for part in layout.parts)
            spread = tensor.reshape(*tensor.shape[:i], *sizes, *tensor.shape[i + 1 :])
            return map_blocks(spread, (*before, *inner, *after), visit).reshape(tensor.shape)
        if isinstance(layout, Concat):
            blocks = tensor.split([part.size for part in layout.parts], dim=i)
            mapped = [
                map_blocks(block, (*before, (part, axis), *after), visit)
                for block, part in zip(blocks, layout.parts, strict=True)
            ]
            return torch.cat(mapped, dim=i)
    return visit(tensor, tuple((layout, axis) for layout, axis in axes if isinstance(layout, Piece)))
