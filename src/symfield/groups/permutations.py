r"""Groups of signed permutations by a stabiliser chain: order, uniform draws and membership without listing elements.

With a base (b_1, b_2, …), G = G_0 ≥ G_1 ≥ … where G_k fixes b_1, …, b_k, every g is in exactly one way a product
t_1 t_2 ⋯ of representatives t_k of the cosets of G_k in G_{k−1} (Sims 1970). The chain is closed when every Schreier
generator sifts to the identity.

An element is the int64 vector of the images of n coordinates among 2n points: g[i] = j says e_i ↦ e_j, and
g[i] = j + n says e_i ↦ −e_j.
"""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from symfield.groups.group import Group, take
from symfield.groups.representation import Representation
from symfield.random import integers
from symfield.typing import Bool, Generator, Int, Tensor

__all__ = ["Coordinates", "PermutationGroup"]

_Word = tuple[int, ...]


class PermutationGroup(Group):
    """The group that given permutations of coordinates generate, with or without signs.

    Unlike ``generated_by`` it lists nothing, so that S_16 or all signed permutations of 16 coordinates are as cheap as
    C_16: products of representatives along a stabiliser chain stand for the elements.

    Args:
        images: where each generator sends the n coordinates, ``(k, n)`` integers; j + n stands for −e_j.

    Raises:
        ValueError: if a row is no (signed) permutation.

    Example:
        >>> from symfield.groups import PermutationGroup
        >>> group = PermutationGroup([[1, 0, 2, 3], [1, 2, 3, 0]])
        >>> group.order, str(group)
        (24, '⟨2 permutations⟩ < S_4')
        >>> PermutationGroup([[1, 0], [2, 1]]).order  # swap, and a change of the first sign
        8

    References:
        Sims 1970, Computational methods in the study of permutation groups.
    """

    images: Int[Tensor, "k n"]
    _fields: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(self, images: Tensor | Sequence[Any]) -> None:
        rows = torch.as_tensor(images).detach().cpu()
        if rows.dim() != 2 or rows.numel() == 0 or rows.is_floating_point():
            raise ValueError(
                f"expected integers of shape (k, n), one row for each generator, received {rows.dtype} of shape "
                f"{tuple(rows.shape)}; the trivial group is PermutationGroup([[0, 1, ..., n - 1]])"
            )
        rows, n = rows.to(torch.int64, copy=True), rows.shape[1]
        inside = bool((rows >= 0).all()) and bool((rows < 2 * n).all())
        if not inside or not bool(((rows % n).sort(dim=-1).values == torch.arange(n)).all()):
            raise ValueError(
                f"expected rows that are permutations of 0, ..., {n - 1}, with {n} added where a sign changes, "
                f"received {rows.tolist()}"
            )
        self._set(images=rows)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.degree,)

    @property
    def identity(self) -> Tensor:
        return torch.arange(self.degree)

    @property
    def signed(self) -> bool:
        """Whether some element changes signs."""
        return bool((self.images >= self.degree).any())

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return take(torch.cat([g, (g + self.degree) % (2 * self.degree)], dim=-1), h)

    def inverse(self, g: Tensor) -> Tensor:
        n = self.degree
        places = (g % n).argsort(dim=-1)
        return places + n * (torch.take_along_dim(g, places, dim=-1) >= n)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        found = self.identity.expand(n, self.degree)
        for cosets in self._cosets:
            found = self.compose(found, cosets[integers(0, len(cosets), (n,), generator=generator).to(cosets.device)])
        return found

    @property
    def generators(self) -> Tensor:
        return self.images.clone()

    @property
    def degree(self) -> int:
        return self.images.shape[1]

    @property
    def order(self) -> int:
        return math.prod(len(cosets) for cosets in self._cosets)

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        found = self.identity.to(index.device).expand(*index.shape, self.degree)
        rest = self.order
        for cosets in self._cosets:
            rest //= len(cosets)
            found = self.compose(found, cosets.to(index.device)[index // rest])
            index = index % rest
        return found

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        digits, rest = self._sift(g)
        if not bool((rest == self.identity.to(g.device)).all()):
            raise ValueError(f"expected elements of {self}, received others; elements come from generators or sample")
        total = torch.zeros(g.shape[:-1], dtype=torch.int64, device=g.device)
        for cosets, digit in zip(self._cosets, digits, strict=True):
            total = total * len(cosets) + digit
        return total

    def contains(self, g: Int[Tensor, "*b n"]) -> Bool[Tensor, "*b"]:
        """Whether signed permutations belong to the group.

        Args:
            g: image vectors, ``(*b, n)``.

        Returns:
            One truth value for each.
        """
        digits, rest = self._sift(g)
        known = torch.stack([digit >= 0 for digit in digits]).all(dim=0) if digits else torch.tensor(True)
        return known & (rest == self.identity.to(g.device)).all(dim=-1)

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], Int[Tensor, "*b q"] | None]:
        back = self.inverse(g)
        return back % self.degree, (1 - 2 * (back >= self.degree).to(torch.int64)) if self.signed else None

    def _sift(self, g: Tensor) -> tuple[list[Tensor], Tensor]:
        """Digits of elements along the chain, and what remains of them; −1 and anything where a coset is unknown."""
        digits = []
        for base, cosets in zip(self._base, self._cosets, strict=True):
            place = torch.full((2 * self.degree,), -1, device=g.device)
            place[cosets[:, base].to(g.device)] = torch.arange(len(cosets), device=g.device)
            digit = place[g[..., base]]
            digits.append(digit)
            g = self.compose(self.inverse(cosets.to(g.device)[digit.clamp_min(0)]), g)
        return digits, g

    @property
    def _base(self) -> list[int]:
        return self._chain[0]

    @property
    def _cosets(self) -> list[Tensor]:
        return self._chain[1]

    @cached_property
    def _chain(self) -> tuple[list[int], list[Tensor]]:
        n = self.degree
        strong = [_doubled(row, n) for row in self.images.tolist()]
        base, tables = _schreier_sims([g for g in strong if g != tuple(range(2 * n))], n)
        ordered = [
            [table[b], *(t for point, t in table.items() if point != b)] for b, table in zip(base, tables, strict=True)
        ]
        return base, [torch.tensor(rows)[:, :n] for rows in ordered]

    def __str__(self) -> str:
        count, kind = len(self.images), "signed permutation" if self.signed else "permutation"
        return f"⟨{count} {kind}{'s' if count > 1 else ''}⟩ < {'B' if self.signed else 'S'}_{self.degree}"


class Coordinates(Representation):
    """The part of the defining representation on consecutive coordinates that the group maps to one another.

    Args:
        group: a group of (signed) permutations.
        start: first coordinate.
        stop: one past the last coordinate.

    Raises:
        ValueError: if there is no such coordinate, or a generator leaves them.

    Example:
        >>> from symfield.groups import Coordinates, PermutationGroup
        >>> group = PermutationGroup([[1, 2, 0, 4, 3]])
        >>> Coordinates(group, 3, 5).matrix(group.generators[0]).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """

    group: Group
    start: int
    stop: int
    _fields: ClassVar[tuple[str, ...]] = ("group", "start", "stop")

    def __init__(self, group: PermutationGroup, start: int, stop: int) -> None:
        places = group.images[:, start:stop] % group.degree
        if not 0 <= start < stop <= group.degree or not bool(((places >= start) & (places < stop)).all()):
            raise ValueError(
                f"expected coordinates inside 0..{group.degree} that {group} maps to one another, received "
                f"{start}..{stop}"
            )
        self._set(group=group, start=start, stop=stop)

    @property
    def dim(self) -> int:
        return self.stop - self.start

    @property
    def permutation_like(self) -> bool:
        return True

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        assert isinstance(self.group, PermutationGroup)
        index, sign = self.group.signed_permutation(g)
        inside = slice(self.start, self.stop)
        return index[..., inside] - self.start, None if sign is None else sign[..., inside]

    def __str__(self) -> str:
        return f"V[{self.start}:{self.stop}]"


def _doubled(row: Sequence[int], n: int) -> _Word:
    """A signed permutation of n coordinates as a permutation of 2n points."""
    return (*row, *((j + n) % (2 * n) for j in row))


def _times(g: _Word, h: _Word) -> _Word:
    return tuple(g[j] for j in h)


def _inverted(g: _Word) -> _Word:
    back = [0] * len(g)
    for i, j in enumerate(g):
        back[j] = i
    return tuple(back)


def _schreier_sims(generators: list[_Word], n: int) -> tuple[list[int], list[dict[int, _Word]]]:
    """A base and, for each base point b, the table {point: t with t(b) = point} of its orbit."""
    identity = tuple(range(2 * n))
    base: list[int] = []
    levels: list[list[_Word]] = []
    tables: list[dict[int, _Word]] = []

    def enter(g: _Word, level: int) -> int:
        """Add g, which fixes the base points before ``level``, to the levels it belongs to; the last one of them."""
        while True:
            if level == len(base):
                base.append(next(i for i in range(n) if g[i] != i))
                levels.append([])
                tables.append({base[-1]: identity})
            levels[level].append(g)
            if g[base[level]] != base[level]:
                return level
            level += 1

    def sift(g: _Word, level: int) -> _Word:
        for k in range(level, len(base)):
            image = g[base[k]]
            if image not in tables[k]:
                return g
            g = _times(_inverted(tables[k][image]), g)
        return g

    for g in generators:
        enter(g, 0)
    k = len(base) - 1
    while k >= 0:
        tables[k] = table = {base[k]: identity}
        waiting = [base[k]]
        for point in waiting:
            for s in levels[k]:
                if s[point] not in table:
                    table[s[point]] = _times(s, table[point])
                    waiting.append(s[point])
        new = None
        for point, t in table.items():
            for s in levels[k]:
                rest = sift(_times(_inverted(table[s[point]]), _times(s, t)), k + 1)
                if rest != identity:
                    new = rest
                    break
            if new:
                break
        if new is None:
            k -= 1
            continue
        k = enter(new, k + 1)
    return base, tables
