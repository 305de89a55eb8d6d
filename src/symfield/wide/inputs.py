r"""Laws of inputs whose ReLU kernels are known exactly: centred Gaussians, and the uniform law on the unit sphere.

An expectation of a product of two positively 1-homogeneous functions, E f(X) g(X), sees the length of X only through
E‖X‖²: a Gaussian N(0, I) is an independent pair of a length with E‖X‖² = d and a uniform direction. Hence the unit
sphere acts on all kernels of :mod:`symfield.wide` as N(0, I/d) does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from numpy.polynomial.legendre import leggauss

from symfield import random
from symfield.linalg import covariance_root, require_covariance, through_root
from symfield.quadrature import Nodes, gauss_hermite, sobol
from symfield.typing import Float, Generator, Tensor

__all__ = ["Gaussian", "Inputs", "UnitSphere"]

_LARGEST_RULE = 3


class Inputs(ABC):
    """A centred law of inputs on R^d, as far as kernels of 1-homogeneous functions see it.

    Attributes:
        dim: d.
        variance: v where the covariance is v·I, None where it is anisotropic.
    """

    dim: int
    variance: float | None

    @abstractmethod
    def covariance(self, like: Tensor) -> Float[Tensor, "d d"]:
        """S = E XXᵀ.

        Args:
            like: tensor that gives dtype and device.

        Returns:
            The covariance, ``(d, d)``.
        """

    @abstractmethod
    def whiten(self, w: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """S^{1/2} w, so that ⟨w, X⟩ has the law of ⟨S^{1/2} w, Z⟩ with Z ~ N(0, I) (for the sphere: within kernels).

        Args:
            w: weight vectors, ``(..., d)``.

        Returns:
            The same shape, exactly zero where ⟨w, X⟩ = 0; gradients in S^{1/2} w are pulled back to w by applying it
            once more.
        """

    @abstractmethod
    def sample(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> Float[Tensor, "... d"]:
        """Independent inputs.

        Args:
            shape: batch axes.
            generator: source of randomness.
            like: tensor that gives dtype and device.

        Returns:
            Inputs, ``(*shape, d)``.
        """

    @abstractmethod
    def nodes(self, size: int, *, generator: Generator | None = None) -> Nodes:
        """The law as about ``size`` weighted nodes: a Gauss rule up to dimension 3, scrambled Sobol points beyond.

        Args:
            size: wanted number of nodes.
            generator: source of randomness, needed beyond dimension 3.

        Returns:
            Nodes.

        Raises:
            ValueError: if the generator is missing, or ``size`` is not positive.
        """

    def is_invariant(self, transform: Float[Tensor, "..."], tolerance: float = 1e-9) -> bool:
        """Whether TX has the law of X.

        Args:
            transform: T, shape ``(d, d)``.
            tolerance: accepted entry of T S Tᵀ − S, relative to the largest entry of S.

        Returns:
            True if T S Tᵀ = S; for the unit sphere this says that T is orthogonal.

        Raises:
            ValueError: if T does not have this shape.
        """
        if transform.shape != (self.dim, self.dim):
            raise ValueError(
                f"expected a transform of shape ({self.dim}, {self.dim}), received {list(transform.shape)}"
            )
        matrix = transform.detach().double()
        s = self.covariance(matrix)
        return bool((matrix @ s @ matrix.mT - s).abs().max() <= tolerance * s.abs().max())


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Gaussian(Inputs):
    """X ~ N(0, S).

    Attributes:
        dim: d.
        variance: v where S = v·I, None otherwise.

    Example:
        >>> Gaussian(3), Gaussian(2, torch.tensor([4.0, 1.0]))
        (Gaussian(3), Gaussian(2, anisotropic))
        >>> Gaussian(2, torch.tensor([4.0, 1.0])).whiten(torch.ones(2, dtype=torch.float64)).tolist()
        [2.0, 1.0]
    """

    dim: int
    variance: float | None
    _covariance: Tensor
    _root: Tensor

    def __init__(self, dim: int, covariance: float | Float[Tensor, "..."] = 1.0) -> None:
        """A centred Gaussian.

        Args:
            dim: d.
            covariance: a variance v for S = v·I, the diagonal of S ``(d,)``, or S itself ``(d, d)``.

        Raises:
            TypeError: if the covariance is neither a number nor a tensor.
            ValueError: if ``dim`` is not positive, or S is not a covariance of that size.
        """
        if dim < 1:
            raise ValueError(f"expected dim >= 1, received {dim}")
        matrix, variance = _covariance(covariance, dim)
        diagonal = matrix.diagonal()
        diagonally = bool((matrix == torch.diag(diagonal)).all())
        root = diagonal.clamp_min(0).sqrt() if diagonally else covariance_root(matrix, dim)
        if variance is None and diagonally and bool((diagonal == diagonal[0]).all()):
            variance = float(diagonal[0])
        for name, value in {"dim": dim, "variance": variance, "_covariance": matrix, "_root": root}.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        if self.variance == 1.0:
            return f"Gaussian({self.dim})"
        return f"Gaussian({self.dim}, {'anisotropic' if self.variance is None else format(self.variance, 'g')})"

    def covariance(self, like: Tensor) -> Float[Tensor, "d d"]:
        """The matrix S."""
        return self._covariance.to(like)

    def whiten(self, w: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """The vector S^{1/2} w."""
        if self.variance is not None:
            return w if self.variance == 1.0 else math.sqrt(self.variance) * w
        root = self._root.to(w)
        return w * root if root.ndim == 1 else through_root(w, root)

    def sample(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> Float[Tensor, "... d"]:
        """Draws S^{1/2} Z with Z ~ N(0, I)."""
        return self.whiten(random.normal((*shape, self.dim), generator=generator, like=like))

    def nodes(self, size: int, *, generator: Generator | None = None) -> Nodes:
        """Gauss–Hermite with about ``size`` nodes up to dimension 3, otherwise ``size`` scrambled Sobol points."""
        if self.dim <= _LARGEST_RULE:
            return gauss_hermite(self.dim, _order(size, self.dim), covariance=self._covariance)
        return sobol(self.dim, size, generator=_required(generator, self.dim), covariance=self._covariance)


@dataclass(frozen=True, repr=False, init=False)
class UnitSphere(Inputs):
    """X uniform on the unit sphere of R^d; S = I/d.

    Attributes:
        dim: d.
        variance: 1/d.

    Example:
        >>> sphere = UnitSphere(4)
        >>> sphere, sphere.variance
        (UnitSphere(4), 0.25)
    """

    dim: int
    variance: float

    def __init__(self, dim: int) -> None:
        """The uniform law on the unit sphere.

        Args:
            dim: d.

        Raises:
            ValueError: if ``dim`` is not positive.
        """
        if dim < 1:
            raise ValueError(f"expected dim >= 1, received {dim}")
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "variance", 1 / dim)

    def __repr__(self) -> str:
        return f"UnitSphere({self.dim})"

    def covariance(self, like: Tensor) -> Float[Tensor, "d d"]:
        """The matrix I/d."""
        return torch.eye(self.dim).to(like) / self.dim

    def whiten(self, w: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """The vector w/√d."""
        return w / math.sqrt(self.dim)

    def sample(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> Float[Tensor, "... d"]:
        """Normalised Gaussians."""
        return _normalised(random.normal((*shape, self.dim), generator=generator, like=like))

    def nodes(self, size: int, *, generator: Generator | None = None) -> Nodes:
        """Equal angles on the circle, Gauss–Legendre heights on the sphere, normalised Sobol points beyond."""
        order = _order(size, max(self.dim - 1, 1))
        if self.dim == 1:
            return Nodes.sample(torch.tensor([[-1.0], [1.0]]))
        if self.dim == 2:
            return Nodes.sample(_circle(size))
        if self.dim == _LARGEST_RULE:
            heights, weights = (torch.from_numpy(a) for a in leggauss(order))
            ring = _circle(order)
            radius = (1 - heights.square()).sqrt()
            flat = radius[:, None, None] * ring
            x = torch.cat([flat, heights[:, None, None].expand(-1, order, 1)], dim=-1).reshape(-1, 3)
            return Nodes(x, (weights / weights.sum() / order).repeat_interleave(order))
        gaussian = sobol(self.dim, size, generator=_required(generator, self.dim))
        return Nodes(_normalised(gaussian.x), gaussian.weight)


def _covariance(covariance: float | Tensor, dim: int) -> tuple[Tensor, float | None]:
    if not isinstance(covariance, Tensor | Real):
        raise TypeError(
            f"expected a variance, or a tensor of variances ({dim}) or a covariance ({dim}, {dim}), received "
            f"{type(covariance).__name__}; use torch.as_tensor(...)"
        )
    if not isinstance(covariance, Tensor):
        if not (covariance > 0 and math.isfinite(covariance)):
            raise ValueError(f"expected a positive finite variance, received {covariance}")
        return covariance * torch.eye(dim, dtype=torch.float64), float(covariance)
    if covariance.ndim == 0:
        return _covariance(float(covariance), dim)
    if covariance.ndim == 1:
        if covariance.shape != (dim,):
            raise ValueError(f"expected {dim} variances, received {len(covariance)}")
        covariance = torch.diag(covariance)
    matrix = require_covariance(covariance, dim)
    if not bool((matrix != 0).any()):
        raise ValueError("expected a covariance with some variance, received zero")
    return matrix, None


def _circle(size: int) -> Tensor:
    angles = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 * math.pi / size)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def _normalised(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def _order(size: int, dim: int) -> int:
    if size < 1:
        raise ValueError(f"expected size >= 1, received {size}")
    return max(1, round(size ** (1 / dim)))


def _required(generator: Generator | None, dim: int) -> Generator:
    if generator is None:
        raise ValueError(f"dimension {dim} takes scrambled Sobol points, which need generator=; pass a torch.Generator")
    return generator
