r"""The population risk in closed form: erf units, Gaussian inputs, a teacher of the same kind.

For X ~ N(0, Σ) and u = ⟨a, X⟩, v = ⟨b, X⟩, with S_ab = aᵀΣb, α = 1 + 2S_aa, β = 1 + 2S_bb,

    k(a, b) = E erf(u) erf(v) = (2/π) arcsin(2S_ab / √(αβ)) = (2/π) arctan(2S_ab / √D),   D = αβ − 4S_ab² ≥ 1,
    ∇_a k = (4/π) D^{-1/2} Σ(b − (2S_ab/α) a).

(Write erf(u) = 2P(ξ < √2 u) − 1 with a standard normal ξ: then the left side is 1 − 2P(exactly one of two centred
Gaussians is positive), an angle between vectors. The arctangent is accurate where the arcsine is not, at nearly
parallel large weights.) How the risk follows from k: :mod:`symfield.meanfield.gaussian_population`.

References:
    Williams 1997, *Computing with infinite networks*, NeurIPS 9, Equation (11).
    Saad & Solla 1995, *On-line learning in soft committee machines*, Physical Review E 52(4), Section III (with
    erf(u/√2), so that their 1 + Q is our 1 + 2S).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from symfield.meanfield.gaussian_population import GaussianPopulation, WeightKernel, gaussian_teacher_student
from symfield.typing import Float, Tensor
from symfield.units import Unit

__all__ = ["ErfKernel", "erf_kernel", "gaussian_erf_population"]


def erf_kernel(a: Float[Tensor, "*r n d"], b: Float[Tensor, "*r m d"]) -> Float[Tensor, "*r n m"]:
    """E erf(⟨a_i, X⟩) erf(⟨b_j, X⟩) for X ~ N(0, I).

    Args:
        a: weight vectors, ``(*r, n, d)``.
        b: weight vectors, ``(*r, m, d)``.

    Returns:
        The kernel, ``(*r, n, m)``.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> round(erf_kernel(one, one).item(), 12) == round(2 / math.pi * math.asin(2 / 3), 12)
        True

    References:
        Williams 1997, Equation (11).
    """
    overlap, _, gap = _overlaps(a, b)
    return (2 / math.pi) * torch.atan2(2 * overlap, gap.sqrt())


@dataclass(frozen=True)
class ErfKernel(WeightKernel):
    """The kernel of erf units."""

    activation: str = "erf"

    def value(self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"]) -> Float[Tensor, "*r n m"]:
        """(2/π) arctan(2S_ab / √D)."""
        return erf_kernel(a, b)

    def pullback(
        self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"], u: Float[Tensor, "*#r n m"]
    ) -> Float[Tensor, "*r n d"]:
        """(4/π) Σ_j u_ij D^{-1/2} (b_j − (2S_ab/α) a_i)."""
        overlap, alpha, gap = _overlaps(a, b)
        force = u * gap.rsqrt()
        along = (force * (2 * overlap / alpha)).sum(-1, keepdim=True)
        return (4 / math.pi) * (force @ b - along * a)


def gaussian_erf_population(
    unit: Unit,
    teacher: Float[Tensor, "m p"],
    covariance: float | Float[Tensor, "d d"] = 1.0,
    *,
    scale: float = 1.0,
) -> GaussianPopulation:
    """The exact population risk c E‖Φ_μ(X) − Φ_μ*(X)‖² for X ~ N(0, Σ) and erf units.

    Args:
        unit: ``PointwiseUnit(erf, d, o)`` or ``HiddenUnit(erf, d, o, hidden=h, bias=False)``.
        teacher: cloud of the teacher μ*, ``(m, p)``.
        covariance: Σ, or a variance σ² for Σ = σ²I.
        scale: c.

    Returns:
        A population.

    Raises:
        ValueError: if the unit is not of these kinds, or shapes do not fit.

    Example:
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        >>> population = gaussian_erf_population(PointwiseUnit(erf, 2, 1), teacher, 4.0)
        >>> round(population.risk(torch.zeros(1, 2, dtype=torch.float64)).item(), 6)
        0.697044
        >>> round(2 / math.pi * math.asin(8 / 9), 6)
        0.697044
    """
    return gaussian_teacher_student(ErfKernel(), unit, teacher, covariance, scale=scale)


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S_ab, α and D for whitened weight vectors."""
    overlap = a @ b.mT
    alpha = 1 + 2 * a.square().sum(-1, keepdim=True)
    beta = 1 + 2 * b.square().sum(-1, keepdim=True).mT
    return overlap, alpha, (alpha * beta - 4 * overlap.square()).clamp_min(1.0)
