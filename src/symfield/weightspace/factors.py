"""Classes of factors: permutations, positive scales, signs, orthogonal, conformal and general linear maps.

A factor acts on one hidden space of n units. When every unit of other spaces, its *base*, has an element of its own
(one permutation of channels in each head, one matrix for each head), an element is an array over the base: a wreath
product with the permutations of the base. Elements are plain tensors: ``(*base, n)`` for permutations, scales and
signs, ``(*base, n, n)`` for matrices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from symfield import random
from symfield.typing import Float, Generator, Int, Tensor

__all__ = [
    "Conformal",
    "Factor",
    "GeneralLinear",
    "Orthogonal",
    "Permutation",
    "PositiveScale",
    "Sign",
]


@dataclass(frozen=True)
class Factor(ABC):
    """One factor of a parameter symmetry.

    Attributes:
        name: such as ``"permutation:fc1"``; key of its element.
        space: name of the hidden space that it moves.
        size: n, number of units of the space.
        base: names of the spaces whose units each have an element of their own.
        base_shape: their sizes.
    """

    name: str
    space: str
    size: int
    base: tuple[str, ...] = ()
    base_shape: tuple[int, ...] = ()

    kind: ClassVar[str] = ""
    #: Order in which the factors of one piece act: matrices, then scales, then permutations.
    stage: ClassVar[int] = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an element."""
        return (*self.base_shape, self.size)

    @property
    def copies(self) -> int:
        """Number of independent copies, the product of the base's sizes."""
        return math.prod(self.base_shape)

    @property
    def dimension(self) -> int:
        """Dimension as a manifold; zero for discrete factors."""
        return 0

    @property
    def log_order(self) -> float:
        """Logarithm of the number of elements of a discrete factor; zero for continuous ones."""
        return 0.0

    @property
    @abstractmethod
    def group(self) -> str:
        """The group as mathematics, such as ``S_64`` or ``GL(16)^4``."""

    @abstractmethod
    def identity(self) -> Tensor:
        """The element that moves nothing."""

    @abstractmethod
    def random_element(self, *, generator: Generator) -> Tensor:
        """A random element, Haar distributed where the group is compact."""

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """First h, then g; entry by entry for scales and signs."""
        return g * h

    def invert(self, g: Tensor) -> Tensor:
        """The element that undoes g."""
        return 1 / g

    @abstractmethod
    def act(self, block: Tensor, dim: int, base_dims: Sequence[int], g: Tensor, power: int) -> Tensor:
        """Move axis ``dim`` of a block by g^power; ``base_dims`` are the axes of the base, in order."""

    def require(self, g: Tensor) -> None:
        """Refuse a tensor that is no element.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        if tuple(g.shape) != self.shape:
            raise ValueError(
                f"expected an element of shape {self.shape} for {self.name!r}, received {tuple(g.shape)}; "
                "see identity() for a valid one"
            )
        if g.is_floating_point() and not bool(torch.isfinite(g).all()):
            raise ValueError(f"the element of {self.name!r} holds NaN or infinity; expected finite numbers")

    def _power(self, text: str) -> str:
        return text if self.copies == 1 else f"{text}^{self.copies}"


@dataclass(frozen=True)
class Permutation(Factor):
    """Permutations of n units, whole blocks where the space is the outer part of a product.

    Index convention: unit i of the result is unit π[i] of the original. Besides index tensors ``(*base, n)``,
    :meth:`act` takes matrices ``(*base, n, n)`` with rows over the result, such as doubly stochastic ones.
    """

    kind: ClassVar[str] = "permutation"
    stage: ClassVar[int] = 2

    @property
    def group(self) -> str:
        """``S_n``, to the power of the number of copies."""
        return self._power(f"S_{self.size}")

    @property
    def log_order(self) -> float:
        """log n! for each copy."""
        return self.copies * math.lgamma(self.size + 1)

    def identity(self) -> Int[Tensor, "*base n"]:
        """π[i] = i."""
        return torch.arange(self.size).expand(self.shape).clone()

    def random_element(self, *, generator: Generator) -> Int[Tensor, "*base n"]:
        """Uniform."""
        draw = torch.rand(self.shape, generator=generator, device=generator.device, dtype=torch.float64)
        return draw.argsort(-1)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """h[g[i]]."""
        return h.gather(-1, g)

    def invert(self, g: Tensor) -> Tensor:
        """The inverse permutation."""
        return g.argsort(-1)

    def act(self, block: Tensor, dim: int, base_dims: Sequence[int], g: Tensor, power: int) -> Tensor:
        """Unit i of the result is unit π[i] of the block; a matrix is multiplied from the left."""
        g = g.to(block.device)
        if g.is_floating_point():
            return _multiply(g.to(block.dtype), block, dim, base_dims)
        if not base_dims:
            return block.index_select(dim, g)
        front = [*base_dims, dim]
        moved = block.movedim(front, list(range(len(front))))
        index = g.reshape(*g.shape, *(1,) * (moved.ndim - g.ndim)).expand(moved.shape)
        return moved.gather(g.ndim - 1, index).movedim(list(range(len(front))), front)

    def require(self, g: Tensor) -> None:
        """Refuse a tensor that is neither an array of permutations nor one of finite matrices.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        if g.is_floating_point() and tuple(g.shape) == (*self.shape, self.size):
            if not bool(torch.isfinite(g).all()):
                raise ValueError(f"the matrix of {self.name!r} holds NaN or infinity; expected finite numbers")
            return
        super().require(g)
        if g.is_floating_point() or not bool((g.sort(-1).values == torch.arange(self.size, device=g.device)).all()):
            raise ValueError(
                f"expected an integer permutation of 0..{self.size - 1} along the last axis for {self.name!r}, "
                f"received {g.dtype} that is none; see identity() for a valid one"
            )


class _Diagonal(Factor):
    """Numbers that multiply units."""

    def identity(self) -> Float[Tensor, "*base n"]:
        """Ones."""
        return torch.ones(self.shape, dtype=torch.float64)

    def act(self, block: Tensor, dim: int, base_dims: Sequence[int], g: Tensor, power: int) -> Tensor:
        """The block times g^power along the axis."""
        factor = g.to(block.device, block.dtype) ** power
        places = [*base_dims, dim]
        order = sorted(range(len(places)), key=places.__getitem__)
        shape = [1] * block.ndim
        for place in places:
            shape[place] = block.shape[place]
        return block * factor.permute(order).reshape(shape)


@dataclass(frozen=True)
class PositiveScale(_Diagonal):
    """A positive number for each unit, undone by the next weights; exact where the activation is homogeneous."""

    kind: ClassVar[str] = "positive scale"

    @property
    def group(self) -> str:
        """``R+^n``."""
        return f"R+^{self.size * self.copies}"

    @property
    def dimension(self) -> int:
        """One for each unit."""
        return self.size * self.copies

    def random_element(self, *, generator: Generator) -> Float[Tensor, "*base n"]:
        """Log-normal with standard deviation 1/2."""
        like = torch.empty(0, dtype=torch.float64, device=generator.device)
        return random.normal(self.shape, generator=generator, like=like, std=0.5).exp()

    def require(self, g: Tensor) -> None:
        """Refuse what is not positive.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        super().require(g)
        if not bool((g > 0).all()):
            raise ValueError(f"expected positive numbers for {self.name!r}, received min {g.min().item():g}")


@dataclass(frozen=True)
class Sign(_Diagonal):
    """A sign for each unit, undone by the next weights; exact where the activation is odd."""

    kind: ClassVar[str] = "sign"

    @property
    def group(self) -> str:
        """``Z2^n``."""
        return f"Z2^{self.size * self.copies}"

    @property
    def log_order(self) -> float:
        """log 2 for each unit."""
        return self.size * self.copies * math.log(2)

    def random_element(self, *, generator: Generator) -> Float[Tensor, "*base n"]:
        """Fair and independent."""
        draw = torch.randint(2, self.shape, generator=generator, device=generator.device)
        return (2 * draw - 1).to(torch.float64)

    def require(self, g: Tensor) -> None:
        """Refuse what is neither 1 nor -1.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        super().require(g)
        if not bool((g.abs() == 1).all()):
            raise ValueError(f"expected signs, 1 or -1, for {self.name!r}, received other numbers")


class _Matrix(Factor):
    """Matrices that mix the units of a space."""

    stage: ClassVar[int] = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*base, n, n)``."""
        return (*self.base_shape, self.size, self.size)

    def identity(self) -> Float[Tensor, "*base n n"]:
        """Identity matrices."""
        return torch.eye(self.size, dtype=torch.float64).expand(self.shape).clone()

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The matrix product g h."""
        return g @ h

    def invert(self, g: Tensor) -> Tensor:
        """The inverse matrix."""
        return torch.linalg.inv(g)

    def act(
        self,
        block: Tensor,
        dim: int,
        base_dims: Sequence[int],
        g: Tensor,
        power: int,
        gain: Tensor | None = None,
    ) -> Tensor:
        """The block times A g A^{-1}, or A g^{-T} A^{-1} for power -1, along the axis; A = diag(gain)."""
        matrix = (g if power == 1 else self.invert(g).mT).to(block.device, block.dtype)
        if gain is not None:
            matrix = gain.unsqueeze(-1) * matrix / gain.unsqueeze(-2)
        return _multiply(matrix, block, dim, base_dims)


@dataclass(frozen=True)
class Orthogonal(_Matrix):
    """Orthogonal matrices, where the space meets linear maps and Euclidean norms alone."""

    kind: ClassVar[str] = "orthogonal"

    @property
    def group(self) -> str:
        """``O(n)``."""
        return self._power(f"O({self.size})")

    @property
    def dimension(self) -> int:
        """n(n-1)/2 for each copy."""
        return self.copies * self.size * (self.size - 1) // 2

    def random_element(self, *, generator: Generator) -> Float[Tensor, "*base n n"]:
        """Haar distributed."""
        return _haar(self.shape, generator)

    def invert(self, g: Tensor) -> Tensor:
        """The transpose."""
        return g.mT

    def require(self, g: Tensor) -> None:
        """Refuse matrices that are not orthogonal.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        super().require(g)
        error = (g @ g.mT - torch.eye(self.size, dtype=g.dtype, device=g.device)).abs().max().item()
        if not error < 1e3 * self.size * torch.finfo(g.dtype).eps:
            raise ValueError(f"expected orthogonal matrices for {self.name!r}, received |g gᵀ - 1| = {error:.1e}")


@dataclass(frozen=True)
class Conformal(_Matrix):
    """Rotations with a positive scale of a plane, C* = R+ × SO(2): what commutes with rotary position codes."""

    kind: ClassVar[str] = "rotation and scale"

    @property
    def group(self) -> str:
        """``C*``."""
        return self._power("C*")

    @property
    def dimension(self) -> int:
        """Two for each copy."""
        return 2 * self.copies

    def random_element(self, *, generator: Generator) -> Float[Tensor, "*base n n"]:
        """Uniform angle, log-normal scale with standard deviation 1/2."""
        like = torch.empty(0, dtype=torch.float64, device=generator.device)
        scale = random.normal(self.base_shape, generator=generator, like=like, std=0.5).exp()
        angle = torch.rand(self.base_shape, generator=generator, dtype=torch.float64, device=generator.device)
        real, imag = scale * torch.cos(2 * torch.pi * angle), scale * torch.sin(2 * torch.pi * angle)
        return torch.stack([torch.stack([real, -imag], -1), torch.stack([imag, real], -1)], -2)

    def require(self, g: Tensor) -> None:
        """Refuse matrices that are not of the form ((a, -b), (b, a)).

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        super().require(g)
        error = max((g[..., 0, 0] - g[..., 1, 1]).abs().max().item(), (g[..., 0, 1] + g[..., 1, 0]).abs().max().item())
        if not error <= 100 * torch.finfo(g.dtype).eps * g.abs().max().item():
            raise ValueError(f"expected matrices ((a, -b), (b, a)) for {self.name!r}, received error {error:.1e}")


@dataclass(frozen=True)
class GeneralLinear(_Matrix):
    """Invertible matrices, where the space meets linear maps alone."""

    kind: ClassVar[str] = "general linear"

    @property
    def group(self) -> str:
        """``GL(n)``."""
        return self._power(f"GL({self.size})")

    @property
    def dimension(self) -> int:
        """n² for each copy."""
        return self.copies * self.size**2

    def random_element(self, *, generator: Generator) -> Float[Tensor, "*base n n"]:
        """U diag(s) V with Haar distributed U and V and log-normal s of standard deviation 1/2: well conditioned."""
        like = torch.empty(0, dtype=torch.float64, device=generator.device)
        scale = random.normal(self.shape[:-1], generator=generator, like=like, std=0.5).exp()
        return (_haar(self.shape, generator) * scale.unsqueeze(-2)) @ _haar(self.shape, generator)

    def require(self, g: Tensor) -> None:
        """Refuse matrices that are singular to working precision.

        Args:
            g: what the user gave.

        Raises:
            ValueError: with what was expected and received.
        """
        super().require(g)
        worst = torch.linalg.cond(g.detach()).max().item()
        if not worst < 1 / torch.finfo(g.dtype).eps:
            raise ValueError(f"expected invertible matrices for {self.name!r}, received condition number {worst:.1e}")


def _haar(shape: Sequence[int], generator: Generator) -> Tensor:
    like = torch.empty(0, dtype=torch.float64, device=generator.device)
    q, r = torch.linalg.qr(random.normal(shape, generator=generator, like=like))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def _multiply(matrix: Tensor, block: Tensor, dim: int, base_dims: Sequence[int]) -> Tensor:
    """Matrices ``(*base, m, n)`` times a block along ``dim``, one for each entry of the base."""
    front = [*base_dims, dim]
    moved = block.movedim(front, list(range(len(front))))
    product = matrix @ moved.reshape(*moved.shape[: len(front)], -1)
    return product.reshape(moved.shape).movedim(list(range(len(front))), front)
