r"""Finite groups that need no table: rotations of a polygon, permutations, changes of sign.

A permutation is the int64 vector of its images, g[i] = image of i, so compose(g, h)[i] = g[h[i]], and it acts on
R^n by moving coordinates, (ρ(g)x)[g[i]] = x[i], that is (ρ(g)x)[i] = x[g⁻¹[i]].
"""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from typing import ClassVar

import torch

from symfield.groups.group import Group, require_size, take
from symfield.random import integers
from symfield.typing import Generator, Int, Tensor

__all__ = ["Alternating", "Cyclic", "Dihedral", "SignFlips", "Symmetric"]


class Cyclic(Group):
    """The cyclic group C_n; the element k (an int64 number, ``element_shape = ()``) shifts n points, i ↦ i + k mod n.

    Args:
        n: order, at least 1.

    Example:
        >>> from symfield.groups import Cyclic
        >>> group = Cyclic(5)
        >>> int(group.compose(torch.tensor(3), torch.tensor(4))), str(group)
        (2, 'C_5')
    """

    n: int
    _fields: ClassVar[tuple[str, ...]] = ("n",)

    def __init__(self, n: int) -> None:
        require_size("Cyclic(n)", n)
        self._set(n=n)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def identity(self) -> Tensor:
        return torch.tensor(0)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return (g + h) % self.n

    def inverse(self, g: Tensor) -> Tensor:
        return -g % self.n

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        return integers(0, self.n, (n,), generator=generator)

    @property
    def generators(self) -> Tensor:
        return torch.ones(min(self.n - 1, 1), dtype=torch.int64)

    @property
    def degree(self) -> int:
        return self.n

    @property
    def order(self) -> int:
        return self.n

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        return index

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        return g

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], None]:
        return (torch.arange(self.n, device=g.device) - g.unsqueeze(-1)) % self.n, None

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        return 1 - 2 * (g * (self.n - 1) % 2)

    def __str__(self) -> str:
        return f"C_{self.n}"


class Dihedral(Group):
    """The dihedral group D_n of order 2n; (a, f) (int64, ``element_shape = (2,)``) is r^a s^f with s r s = r⁻¹.

    On n points it acts by i ↦ a + (−1)^f i mod n. For n = 1 and 2 that action forgets s; ``Planar`` is always faithful.

    Args:
        n: half the order, at least 1.

    Example:
        >>> from symfield.groups import Dihedral
        >>> group = Dihedral(4)
        >>> r, s = group.generators
        >>> group.compose(s, r).tolist(), group.order
        ([3, 1], 8)
    """

    n: int
    _fields: ClassVar[tuple[str, ...]] = ("n",)

    def __init__(self, n: int) -> None:
        require_size("Dihedral(n)", n)
        self._set(n=n)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def identity(self) -> Tensor:
        return torch.tensor([0, 0])

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        (a, f), (b, e) = g.unbind(-1), h.unbind(-1)
        return torch.stack(torch.broadcast_tensors((a + (1 - 2 * f) * b) % self.n, (f + e) % 2), dim=-1)

    def inverse(self, g: Tensor) -> Tensor:
        a, f = g.unbind(-1)
        return torch.stack([(2 * f - 1) * a % self.n, f], dim=-1)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        return self.element(integers(0, self.order, (n,), generator=generator))

    @property
    def generators(self) -> Tensor:
        return torch.tensor([[1, 0], [0, 1]] if self.n > 1 else [[0, 1]])

    @property
    def degree(self) -> int:
        return self.n

    @property
    def order(self) -> int:
        return 2 * self.n

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        return torch.stack([index % self.n, index // self.n], dim=-1)

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        return g[..., 0] + self.n * g[..., 1]

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], None]:
        a, f = g.unsqueeze(-2).unbind(-1)
        return (1 - 2 * f) * (torch.arange(self.n, device=g.device) - a) % self.n, None

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        a, f = g.unbind(-1)
        return 1 - 2 * ((a * (self.n - 1) + f * ((self.n - 1) // 2)) % 2)

    def __str__(self) -> str:
        return f"D_{self.n}"


class Symmetric(Group):
    """The symmetric group S_n of all permutations of n points; elements are int64 image vectors, shape ``(n,)``.

    ``elements`` are in lexicographic order. ``sample`` ranks independent uniform numbers in float64.

    Args:
        n: number of points, at least 1.

    Example:
        >>> from symfield.groups import Symmetric
        >>> Symmetric(3).elements.tolist()
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """

    n: int
    _fields: ClassVar[tuple[str, ...]] = ("n",)

    def __init__(self, n: int) -> None:
        require_size(f"{type(self).__name__}(n)", n)
        self._set(n=n)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def identity(self) -> Tensor:
        return torch.arange(self.n)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return take(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        return g.argsort(dim=-1)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        keys = torch.rand(n, self.n, generator=generator, dtype=torch.float64, device=generator.device)
        return keys.argsort(dim=-1)

    @property
    def generators(self) -> Tensor:
        cycles = [(0, 1), tuple(range(self.n))][: max(0, min(self.n - 1, 2))]
        return _from_cycles(self.n, cycles)

    @property
    def degree(self) -> int:
        return self.n

    @property
    def order(self) -> int:
        return math.factorial(self.n)

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        return _unrank(index, self.n)

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        return _rank(g)

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], None]:
        return self.inverse(g), None

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        return _parity(g)

    def __str__(self) -> str:
        return f"S_{self.n}"


class Alternating(Symmetric):
    """The alternating group A_n of the even permutations of n points; elements are int64 image vectors.

    ``elements`` are in lexicographic order.

    Args:
        n: number of points, at least 1.

    Example:
        >>> from symfield.groups import Alternating
        >>> Alternating(3).elements.tolist()
        [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    """

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        return _make_even(super().sample(n, generator=generator))

    @property
    def generators(self) -> Tensor:
        long = tuple(range(self.n % 2 == 0, self.n))  # a cycle of odd length is even
        cycles = [(0, 1, 2), long][: max(0, min(self.n - 2, 2))]
        return _from_cycles(self.n, cycles)

    @property
    def order(self) -> int:
        return max(1, math.factorial(self.n) // 2)

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        return _make_even(_unrank(2 * index, self.n))  # ranks 2k and 2k + 1 differ in the last two images

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        return _rank(g) // 2

    def __str__(self) -> str:
        return f"A_{self.n}"


class SignFlips(Group):
    """The group {1, −1}^n of diagonal signs; elements are int64 vectors of ±1, shape ``(n,)``.

    Args:
        n: number of signs, at least 1.

    Example:
        >>> from symfield.groups import SignFlips
        >>> SignFlips(2).elements.tolist()
        [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    """

    n: int
    _fields: ClassVar[tuple[str, ...]] = ("n",)

    def __init__(self, n: int) -> None:
        require_size("SignFlips(n)", n)
        self._set(n=n)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def identity(self) -> Tensor:
        return torch.ones(self.n, dtype=torch.int64)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return g * h

    def inverse(self, g: Tensor) -> Tensor:
        return g.clone()

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        return 1 - 2 * integers(0, 2, (n, self.n), generator=generator)

    @property
    def generators(self) -> Tensor:
        return 1 - 2 * torch.eye(self.n, dtype=torch.int64)

    @property
    def degree(self) -> int:
        return self.n

    @property
    def order(self) -> int:
        return 2**self.n

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        return 1 - 2 * ((index.unsqueeze(-1) >> torch.arange(self.n, device=index.device)) & 1)

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        return ((g < 0).to(torch.int64) << torch.arange(self.n, device=g.device)).sum(dim=-1)

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], Int[Tensor, "*b q"]]:
        return torch.arange(self.n, device=g.device).expand(g.shape), g

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        return g.prod(dim=-1)

    def __str__(self) -> str:
        return "{±1}" if self.n == 1 else f"{{±1}}^{self.n}"


def _from_cycles(n: int, cycles: list[tuple[int, ...]]) -> Int[Tensor, "k n"]:
    images = torch.arange(n).repeat(len(cycles), 1)
    for row, cycle in zip(images, cycles, strict=True):
        row[list(cycle)] = torch.tensor([*cycle[1:], cycle[0]])
    return images


def _factorials(n: int, device: torch.device) -> Int[Tensor, " n"]:
    return torch.tensor([math.factorial(n - 1 - i) for i in range(n)], device=device)


def _rank(g: Int[Tensor, "*b n"]) -> Int[Tensor, "*b"]:
    """Lexicographic rank through the Lehmer code: digit i counts the later images smaller than g[i]."""
    smaller = (g.unsqueeze(-1) > g.unsqueeze(-2)).triu()
    return (smaller.sum(dim=-1) * _factorials(g.shape[-1], g.device)).sum(dim=-1)


def _unrank(rank: Int[Tensor, "*b"], n: int) -> Int[Tensor, "*b n"]:
    weights = _factorials(n, rank.device)
    digits = rank.unsqueeze(-1) // weights % torch.arange(n, 0, -1, device=rank.device)
    images = digits.clone()
    for i in range(n - 2, -1, -1):  # later images skip the values already taken on their left
        images[..., i + 1 :] += images[..., i + 1 :] >= images[..., i : i + 1]
    return images


def _parity(g: Int[Tensor, "*b n"]) -> Int[Tensor, "*b"]:
    """(−1)^(n − number of cycles); the cycles are labelled by their least point in log2(n) doublings."""
    n = g.shape[-1]
    points = torch.arange(n, device=g.device).expand(g.shape)
    label, jump = points, g
    for _ in range(max(1, (n - 1).bit_length())):
        label = torch.minimum(label, torch.take_along_dim(label, jump, dim=-1))
        jump = torch.take_along_dim(jump, jump, dim=-1)
    return 1 - 2 * ((n - (label == points).sum(dim=-1)) % 2)


def _make_even(g: Int[Tensor, "*b n"]) -> Int[Tensor, "*b n"]:
    """Swap the last two images of the odd permutations: a bijection from them to the even ones."""
    if g.shape[-1] < 2:
        return g
    swapped = torch.cat([g[..., :-2], g[..., -2:].flip(-1)], dim=-1)
    return torch.where((_parity(g) < 0).unsqueeze(-1), swapped, g)
