r"""The population risk in closed form: ReLU units, Gaussian inputs, a teacher of the same kind.

For X ~ N(0, Σ), whitened weight vectors a, b (Σ^{1/2}a in place of a) at the angle θ, and relu'' = δ,

    k(a, b) = E relu⟨a,X⟩ relu⟨b,X⟩ = |a||b| (sin θ + (π−θ) cos θ)/2π,
    ∇_a k = ((π−θ) b + sin θ |b| a/|a|)/2π,
    ∂_a∂_b k = E 1⟨a,X⟩ 1⟨b,X⟩ XXᵀ = ((π−θ) I + sin θ (â b̂ᵀ + n_a n_bᵀ))/2π,
    ∂_a² k = E δ⟨a,X⟩ relu⟨b,X⟩ XXᵀ = (|b|/|a|) sin θ (P_a + n_a n_aᵀ)/2π,

with â = a/|a|, P_a = I − ââᵀ, n_a = (b̂ − cos θ â)/sin θ and n_b likewise; k and ∇k come from
:mod:`symfield.wide.kernels`. The kink of ReLU, which a sum over nodes does not see, thus contributes a finite curvature
once X has a density, and the risk is twice continuously differentiable in every weight vector but at zero: ∂_a² k tends
to 0 as b → ±a, so a particle does not feel itself, nor a neuron of the teacher that it has found.

*Domain.* At a weight vector a = 0 the risk has a kink itself. There the gradient in a is taken to be zero, as for ReLU
units in general (relu'(0) = 0): such a particle stays. Second derivatives, and with them
:func:`~symfield.meanfield.transverse_stability`, refuse it.

The uniform law on the unit sphere has the same risk as N(0, I/d).

References:
    Cho & Saul 2009, *Kernel methods for deep learning*, NeurIPS 22, Equations (3)–(6).
    Second derivatives: derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from symfield.meanfield.gaussian_population import GaussianPopulation, WeightKernel, gaussian_teacher_student
from symfield.typing import Bool, Float, Tensor
from symfield.units import Unit
from symfield.wide import arc_cosine, arc_cosine_pullback

__all__ = ["ReLUKernel", "gaussian_relu_population"]


@dataclass(frozen=True)
class ReLUKernel(WeightKernel):
    """The arc-cosine kernel of ReLU units, with gradient zero at a = 0."""

    activation: str = "relu"

    def value(self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"]) -> Float[Tensor, "*r n m"]:
        """|a||b| (sin θ + (π−θ) cos θ)/2π."""
        return arc_cosine(a, b)

    def pullback(
        self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"], u: Float[Tensor, "*#r n m"]
    ) -> Float[Tensor, "*r n d"]:
        """Σ_j u_ij ((π−θ) b_j + sin θ |b_j| a_i/|a_i|)/2π; zero where a_i = 0."""
        return torch.where(self.singular(a).unsqueeze(-1), 0.0, arc_cosine_pullback(a, b, u))

    def singular(self, a: Float[Tensor, "*r n d"]) -> Bool[Tensor, "*r n"]:
        """Vectors of length zero."""
        return (a == 0).all(-1)


def gaussian_relu_population(
    unit: Unit,
    teacher: Float[Tensor, "m p"],
    covariance: float | Float[Tensor, "d d"] = 1.0,
    *,
    scale: float = 1.0,
) -> GaussianPopulation:
    """The exact population risk c E‖Φ_μ(X) − Φ_μ*(X)‖² for X ~ N(0, Σ) and ReLU units.

    Args:
        unit: ``ReLUUnit(d, o)``, ``HiddenUnit(relu, d, o, hidden=h, bias=False)`` or ``PointwiseUnit(relu, d, o)``.
        teacher: cloud of the teacher μ*, ``(m, p)``; its network is a mean over m, like the student's.
        covariance: Σ, or a variance σ² for Σ = σ²I (1/d for inputs uniform on the unit sphere).
        scale: c; 1/2 for the conventions of :mod:`symfield.wide`.

    Returns:
        A population.

    Raises:
        ValueError: if the unit is not of these kinds, or shapes do not fit.

    Example:
        >>> from symfield.units import ReLUUnit
        >>> teacher = torch.tensor([[1.0, 3.0, 4.0]], dtype=torch.float64)  # relu(3x₁ + 4x₂)
        >>> population = gaussian_relu_population(ReLUUnit(2), teacher)
        >>> population.risk(torch.zeros(1, 3, dtype=torch.float64)).item()  # half of 3² + 4²
        12.5

    References:
        Cho & Saul 2009, Equation (6), for the kernel.
    """
    return gaussian_teacher_student(ReLUKernel(), unit, teacher, covariance, scale=scale)
