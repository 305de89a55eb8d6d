r"""Covariances of Gaussian inputs, x ~ N(0, S), and the effective dimensions that decide how much data is needed.

S = U diag(λ) Uᵀ with λ₁ ≥ … ≥ λ_d ≥ 0 is held in float64 on the CPU, and brought to dtype and device of what it is
applied to. The effective dimensions are

    r_k = Tr S^k / λ₁^k,

r₁ for the Euclidean geometry of gradients and r₂ for the geometry of functions (|v|_S² = vᵀ S v). For the power law
λ_i ∝ i^{-α} they grow like d^{1-kα}/(1 - kα) while kα < 1, like log d at kα = 1, and stay bounded beyond: the sum
tends to ζ(kα).

References:
    Wortsman & Loureiro 2025, *Kernel ridge regression under power-law data*, arXiv 2510.04780 (there r₁ is r₀).
    Ba, Erdogdu, Suzuki, Wang & Wu 2023, *Learning in the presence of low-dimensional structure*, NeurIPS (I + θ μμᵀ).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from symfield import random
from symfield.linalg import require_covariance
from symfield.typing import Float, Generator, Tensor

__all__ = ["Covariance", "Given", "Isotropic", "PowerLaw", "Spiked", "estimated"]


class Covariance(ABC):
    """S = U diag(λ) Uᵀ, known by its eigenvalues and, unless they are coordinates, its eigenvectors.

    Attributes:
        dim: d.
    """

    dim: int

    @abstractmethod
    def eigenvalues(self) -> Float[Tensor, " d"]:
        """λ₁ ≥ … ≥ λ_d ≥ 0, float64 ``(d,)``."""

    @property
    def basis(self) -> Float[Tensor, "d d"] | None:
        """U, whose columns are the eigenvectors in the order of the eigenvalues; None where it is the identity."""
        return None

    def to_eigenbasis(self, v: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Uᵀ v: coordinates in the eigenbasis.

        Args:
            v: vectors, ``(*b, d)``.
        """
        return v if self.basis is None else v @ self.basis.to(v)

    def from_eigenbasis(self, v: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """U v: the vectors with these coordinates in the eigenbasis.

        Args:
            v: coordinates, ``(*b, d)``.
        """
        return v if self.basis is None else v @ self.basis.to(v).mT

    def power(self, v: Float[Tensor, "*b d"], exponent: float = 1.0) -> Float[Tensor, "*b d"]:
        """S^e v.

        Args:
            v: vectors, ``(*b, d)``.
            exponent: e > 0; 1 for S v, ½ for S^{1/2} v.
        """
        return self.from_eigenbasis(self.to_eigenbasis(v) * self.eigenvalues().pow(exponent).to(v))

    def colour(self, xi: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """U diag(λ)^{1/2} ξ, a draw from N(0, S) where ξ is one from N(0, I).

        Args:
            xi: white vectors, ``(*b, d)``.
        """
        return self.from_eigenbasis(xi * self.eigenvalues().sqrt().to(xi))

    def sample(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> Float[Tensor, "*b d"]:
        """Draws from N(0, S).

        Args:
            shape: leading shape of the result.
            generator: source of randomness.
            like: tensor that gives dtype and device.
        """
        return self.colour(random.normal((*shape, self.dim), generator=generator, like=like))

    @property
    def matrix(self) -> Float[Tensor, "d d"]:
        """S, float64 ``(d, d)``."""
        return self.power(torch.eye(self.dim, dtype=torch.float64))

    @property
    def trace(self) -> float:
        """Tr S."""
        return float(self.eigenvalues().sum())

    def r(self, k: float) -> float:
        """The effective dimension r_k = Tr S^k / λ₁^k.

        Args:
            k: a positive number.

        Raises:
            ValueError: if k is not positive.
        """
        if not k > 0:
            raise ValueError(f"expected k > 0, received {k}")
        eigenvalues = self.eigenvalues()
        return float((eigenvalues / eigenvalues[0]).pow(k).sum())

    @property
    def r1(self) -> float:
        """Tr S / λ₁."""
        return self.r(1)

    @property
    def r2(self) -> float:
        """Tr S² / λ₁²."""
        return self.r(2)


@dataclass(frozen=True)
class PowerLaw(Covariance):
    """λ_i = c i^{-α} with c such that Tr S = d, in coordinates.

    A random unit vector then has unit-variance pre-activations on average, for every α.

    Attributes:
        dim: d.
        alpha: α ≥ 0; zero is the identity.

    Raises:
        ValueError: if d < 1, or α is negative or not finite.

    Example:
        >>> S = PowerLaw(400, 1.0)
        >>> round(S.trace, 9), round(S.r1, 2), round(S.r2, 2)
        (400.0, 6.57, 1.64)
    """

    dim: int
    alpha: float

    def __post_init__(self) -> None:
        _require_dim(self.dim)
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"expected a finite exponent alpha >= 0, received {self.alpha}")

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """c i^{-α}."""
        decay = torch.arange(1, self.dim + 1, dtype=torch.float64).pow(-self.alpha)
        return decay * (self.dim / decay.sum())


@dataclass(frozen=True)
class Isotropic(Covariance):
    """S = v I.

    Attributes:
        dim: d.
        variance: v > 0.

    Raises:
        ValueError: if d < 1 or v is not positive and finite.

    Example:
        >>> Isotropic(100).r1
        100.0
    """

    dim: int
    variance: float = 1.0

    def __post_init__(self) -> None:
        _require_dim(self.dim)
        if not (math.isfinite(self.variance) and self.variance > 0):
            raise ValueError(f"expected a finite variance > 0, received {self.variance}")

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """v, d times."""
        return torch.full((self.dim,), float(self.variance), dtype=torch.float64)


@dataclass(frozen=True)
class Spiked(Covariance):
    """S = I + Σ_i θ_i e_i e_iᵀ: a few strong directions, the first coordinates, above white noise.

    Attributes:
        dim: d.
        strength: θ > 0, or several of them in decreasing order.

    Raises:
        ValueError: if there are more spikes than dimensions, or the strengths are not positive and decreasing.

    Example:
        >>> S = Spiked.growing(256, 0.5)
        >>> S.strength, round(S.r1, 6)
        (16.0, 16.0)

    References:
        Ba et al. 2023, NeurIPS (openreview HlIAoCHDWW): θ = d^β.
    """

    dim: int
    strength: float | Sequence[float]

    def __post_init__(self) -> None:
        _require_dim(self.dim)
        if isinstance(self.strength, Sequence):
            object.__setattr__(self, "strength", tuple(self.strength))
        spikes = self._spikes()
        falling = all(a >= b for a, b in pairwise(spikes))
        if not (1 <= len(spikes) <= self.dim and falling and all(math.isfinite(s) and s > 0 for s in spikes)):
            raise ValueError(
                f"expected one to {self.dim} finite strengths > 0 in decreasing order, received {self.strength}"
            )

    @classmethod
    def growing(cls, dim: int, beta: float) -> Spiked:
        """One spike θ = d^β.

        Args:
            dim: d.
            beta: β; r₁ ~ d^{1-β} for 0 < β < 1.
        """
        return cls(dim, float(dim) ** beta)

    def _spikes(self) -> tuple[float, ...]:
        return tuple(self.strength) if isinstance(self.strength, Sequence) else (self.strength,)

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """1 + θ_i, then ones."""
        spikes = torch.tensor(self._spikes(), dtype=torch.float64)
        return torch.cat([1 + spikes, torch.ones(self.dim - len(spikes), dtype=torch.float64)])


class Given(Covariance):
    """Your own covariance matrix.

    Args:
        matrix: S, symmetric positive semi-definite (to the round-off of its own precision) and not zero, a tensor or
            array of shape ``(d, d)``.

    Raises:
        ValueError: if it is not a covariance, or zero.

    Example:
        >>> S = Given(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> [round(float(v), 12) for v in S.eigenvalues()], round(S.r1, 12)
        ([3.0, 1.0], 1.333333333333)
    """

    def __init__(self, matrix: Any) -> None:
        given = _tensor(matrix)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or len(given) == 0:
            raise ValueError(f"expected a covariance of shape (d, d), received {tuple(given.shape)}")
        if not torch.isfinite(given).all():
            raise ValueError("expected a finite covariance, received NaN or infinity; drop or impute those samples")
        exact = given.double()
        values, vectors = (part.cpu() for part in torch.linalg.eigh((exact + exact.mT) / 2))
        top = float(values.abs().max())
        if not top > 0:
            raise ValueError("expected a covariance with some variance, received zero; drop constant inputs")
        # A covariance computed in float32 has eigenvalues below zero by its own round-off; these are none.
        coarse = given.is_floating_point() and given.dtype != torch.float64
        slack = len(given) * torch.finfo(given.dtype).eps * top if coarse else 0.0
        if coarse and float(values[0]) >= -slack and float((exact - exact.mT).abs().max()) <= slack:
            exact = (vectors * values.clamp_min(0)) @ vectors.mT
        else:
            exact = require_covariance(exact, len(exact)).cpu()
        self._matrix, self.dim = exact, len(exact)
        self._eigenvalues, self._basis = values.flip(0).clamp_min(0), vectors.flip(1)

    def __repr__(self) -> str:
        return f"Given({self.dim} x {self.dim})"

    @property
    def matrix(self) -> Float[Tensor, "d d"]:
        """S, float64 ``(d, d)``."""
        return self._matrix

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """Those of the matrix; round-off below zero is cut."""
        return self._eigenvalues

    @property
    def basis(self) -> Float[Tensor, "d d"]:
        """Its eigenvectors, as columns."""
        return self._basis


def estimated(x: Any) -> Given:
    """The sample covariance of data.

    Args:
        x: inputs, a tensor or array of shape ``(n, d)``, n ≥ 2; their mean is taken off.

    Returns:
        (1/n) Σ (x_i - x̄)(x_i - x̄)ᵀ as a covariance. Its top eigenvalues are biased upwards, and r₁ downwards, unless
        n is large against d.

    Raises:
        ValueError: if the shape is another one, or the data are constant or not finite.

    Example:
        >>> S = PowerLaw(5, 1.0)
        >>> x = S.sample((20000,), generator=random.generator(0), like=torch.zeros(0, dtype=torch.float64))
        >>> abs(estimated(x).r1 - S.r1) < 0.1
        True
    """
    points = _tensor(x)
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] < 1:
        raise ValueError(f"expected data of shape (n, d) with n >= 2, received {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise ValueError("expected finite data, received NaN or infinity; drop or impute those rows")
    centred = points.double() - points.double().mean(0)
    return Given(centred.mT @ centred / len(points))


def _tensor(data: Any) -> Tensor:
    return data.detach() if isinstance(data, Tensor) else torch.from_numpy(np.array(data))


def _require_dim(dim: int) -> None:
    if dim < 1:
        raise ValueError(f"expected a dimension d >= 1, received {dim}")
