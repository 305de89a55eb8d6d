r"""Odd targets at infinite width under isotropic inputs: closed forms, and the metric that replaces the network.

Let μ₀ be invariant under all rotations of b and under (a, b) ↦ (−a, −b), with ∫a² dμ₀ = α and ∫bbᵀ dμ₀ = β·I, and
V = α + β (:func:`sphere_mass` is V = 1 + 1/d: b on the unit sphere, a = ±1). Every particle z = (a, b) obeys the same
linear equation z' = A z with A = [[0, rᵀ/2], [r/2, 0]], r = X̄ − Sw, so that z_t = Φ_t z_0 with Φ in the Lorentz group
SO⁺(1, d). Such a matrix is a boost times a rotation of b, and the rotation leaves μ₀ alone: the law at time t is a
boost of μ₀, of some rapidity Λ/2 in some direction n, whose second moments are

    w = (V/4) sinh Λ n,   ∫a² = (α − β)/2 + (V/2) cosh Λ,   ∫bbᵀ = β I + (V/2)(cosh Λ − 1) nnᵀ.

So w determines everything, for *any* covariance S: the infinitely wide network is the flow w' = H(w) (X̄ − Sw), with

    H(w) = [(V + R) I + (R − V) nnᵀ]/8,   R = √(V² + 16 |w|²),   n = w/|w|.

Where X̄ is an eigenvector of S, S X̄ = v X̄ (so for S = v I), w stays on its ray and s = |w| obeys, with W = |w*|,

    s' = v (W − s) √((V/4)² + s²).

Put A = vW, B = vV/4, C = √(A² + B²), E = exp(−Ct). With s = (V/4) sinh Λ, τ = tanh(Λ/2) solves the Riccati equation
2τ' = A − 2Bτ − Aτ², so τ = A th/(C + B th) with th = tanh(Ct/2), and without cancellation

    W − s = 2 W C² E / D,   s = W B (1 − E) (C (1 + E) + B (1 − E)) / D,   D = B(C + B) + 2A²E − B(C − B)E².

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771 (the
    reduction to a linear predictor). Boost, metric and the closed form are derived here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from symfield.ode import time_grid
from symfield.typing import Float, Tensor

__all__ = [
    "guaranteed_distance",
    "isotropic_distance",
    "isotropic_late_rate",
    "isotropic_length",
    "predictor_metric",
    "sphere_mass",
    "sphere_moments",
]


def sphere_mass(dim: int) -> float:
    """V = ∫a² + ∫⟨b, n⟩² = 1 + 1/d at the start: b uniform on the unit sphere, a = ±1.

    Args:
        dim: d.

    Returns:
        V.

    Raises:
        ValueError: if ``dim`` is not positive.

    Example:
        >>> sphere_mass(4)
        1.25
    """
    if dim < 1:
        raise ValueError(f"expected dim >= 1, received {dim}")
    return 1 + 1 / dim


def predictor_metric(w: Float[Tensor, "..."], *, mass: float) -> Float[Tensor, "*r d d"]:
    """H(w) of the infinitely wide network: w' = H(w) (X̄ − Sw).

    H(w) = [(V + R) I + (R − V) nnᵀ]/8 with R = √(V² + 16|w|²): across w it is (V + R)/8, along w it is
    R/4 = √((V/4)² + |w|²), and it is at least V/4 everywhere.

    Args:
        w: linear predictors, ``(*r, d)``.
        mass: V.

    Returns:
        Symmetric positive definite matrices, ``(*r, d, d)``.

    Raises:
        ValueError: if V is not positive, or w has no axis.

    Example:
        >>> predictor_metric(torch.tensor([0.75, 0.0], dtype=torch.float64), mass=4.0).diagonal().tolist()
        [1.25, 1.125]
    """
    _require_mass(mass)
    if w.ndim < 1 or w.shape[-1] == 0:
        raise ValueError(f"expected predictors (*r, d), received shape {tuple(w.shape)}")
    square = w.square().sum(-1)[..., None, None]
    root = (mass**2 + 16 * square).sqrt()
    # (R − V) nnᵀ = 16 wwᵀ/(R + V), without a division by |w|
    eye = torch.eye(w.shape[-1]).to(w)
    return ((mass + root) * eye + 16 * w.unsqueeze(-1) * w.unsqueeze(-2) / (root + mass)) / 8


def sphere_moments(w: Float[Tensor, "..."]) -> Float[Tensor, "*r e e"]:
    """Second moments of the infinitely wide network with predictor w that started on the unit sphere with a = ±1.

    ∫a² = (1 − 1/d)/2 + R/2, ∫ab = 2w and ∫bbᵀ = I/d + (R − V)/2 nnᵀ with R = √(V² + 16|w|²), V = 1 + 1/d.

    Args:
        w: linear predictors, ``(*r, d)``.

    Returns:
        M, ``(*r, 1 + d, 1 + d)``.

    Example:
        >>> sphere_moments(torch.zeros(2)).diagonal().tolist()
        [1.0, 0.5, 0.5]
    """
    dim = w.shape[-1]
    v = sphere_mass(dim)
    root = (v**2 + 16 * w.square().sum(-1, keepdim=True)).sqrt()
    outer = w.unsqueeze(-1) * w.unsqueeze(-2) * (8 / (root + v)).unsqueeze(-1)
    top = torch.cat([(1 - 1 / dim + root) / 2, 2 * w], dim=-1).unsqueeze(-2)
    return torch.cat([top, torch.cat([2 * w.unsqueeze(-1), outer + torch.eye(dim).to(w) / dim], dim=-1)], dim=-2)


def isotropic_length(
    times: Sequence[float] | Float[Tensor, " t"], *, optimum: float, variance: float, mass: float
) -> Float[Tensor, " t"]:
    """The length s(t) = |w(t)| from w(0) = 0, in closed form; w(t) = s(t) w*/|w*|.

    Args:
        times: increasing times t ≥ 0.
        optimum: W = |w*|.
        variance: v, the eigenvalue of S at w*.
        mass: V.

    Returns:
        s(t), float64 ``(t,)``, to relative machine precision.

    Raises:
        ValueError: if a number is negative or not finite, or the times do not increase.

    Example:
        >>> isotropic_length([0.0, 1.0, 40.0], optimum=2.0, variance=1.0, mass=1.25)
        tensor([0.0000, 0.7821, 2.0000], dtype=torch.float64)
    """
    t = time_grid(times)
    a, b, c = _coefficients(optimum, variance, mass)
    decay, rise = torch.exp(-c * t), -torch.expm1(-c * t)
    return optimum * b * rise * (c * (1 + decay) + b * rise) / _denominator(a, b, c, decay)


def isotropic_distance(
    times: Sequence[float] | Float[Tensor, " t"], *, optimum: float, variance: float, mass: float
) -> Float[Tensor, " t"]:
    """The distance |w(t) − w*| = W − s(t) from w(0) = 0, in closed form, accurate also where it is tiny.

    Args:
        times: increasing times t ≥ 0.
        optimum: W = |w*|.
        variance: v, the eigenvalue of S at w*.
        mass: V.

    Returns:
        The distance, float64 ``(t,)``, to relative machine precision (relative C·t·1e-16 at late times).

    Raises:
        ValueError: if a number is negative or not finite, or the times do not increase.

    Example:
        >>> isotropic_distance([0.0, 40.0], optimum=2.0, variance=1.0, mass=1.25)
        tensor([2.0000e+00, 1.5347e-34], dtype=torch.float64)
    """
    t = time_grid(times)
    a, b, c = _coefficients(optimum, variance, mass)
    decay = torch.exp(-c * t)
    return 2 * optimum * c * c * decay / _denominator(a, b, c, decay)


def isotropic_late_rate(*, optimum: float, variance: float, mass: float) -> float:
    """The true late rate of |w − w*| under isotropic inputs, v √((V/4)² + W²); the risk's excess falls twice as fast.

    This is along w*, where the infinitely wide network moves. The part of a finite network's error that is orthogonal
    to w* falls at v (V + √(V² + 16W²))/8 only, about half of it where W ≫ V.

    Args:
        optimum: W = |w*|.
        variance: v.
        mass: V.

    Returns:
        The rate.

    Raises:
        ValueError: if a number is negative or not finite.

    Example:
        >>> isotropic_late_rate(optimum=3.0, variance=0.5, mass=16.0)
        2.5
    """
    return _coefficients(optimum, variance, mass)[2]


def guaranteed_distance(
    times: Sequence[float] | Float[Tensor, " t"], *, optimum: float, variance: float, mass: float
) -> Float[Tensor, " t"]:
    """The simple bound |w(t) − w*| ≤ W exp(−v V t/4), from H ≥ V/4 alone.

    Args:
        times: increasing times t ≥ 0.
        optimum: W = |w*|.
        variance: v, with S = v·I; the least eigenvalue of S gives a bound on |w(t) − w*| in the norm of S.
        mass: V.

    Returns:
        The bound, float64 ``(t,)``.

    Raises:
        ValueError: if a number is negative or not finite, or the times do not increase.

    Example:
        >>> guaranteed_distance([0.0, 4 * math.log(2)], optimum=2.0, variance=1.0, mass=1.0)
        tensor([2., 1.], dtype=torch.float64)

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771: the upper bound drawn in their experiments with odd targets (v = 1/d).
    """
    t = time_grid(times)
    _, b, _ = _coefficients(optimum, variance, mass)
    return optimum * torch.exp(-b * t)


def _coefficients(optimum: float, variance: float, mass: float) -> tuple[float, float, float]:
    _require_mass(mass)
    if not (optimum >= 0 and math.isfinite(optimum)):
        raise ValueError(f"expected a finite length optimum >= 0, received {optimum}")
    if not (variance > 0 and math.isfinite(variance)):
        raise ValueError(f"expected a finite variance > 0, received {variance}")
    a, b = variance * optimum, variance * mass / 4
    return a, b, math.hypot(a, b)


def _denominator(a: float, b: float, c: float, decay: Tensor) -> Tensor:
    # C − B = A²/(C + B): no cancellation where W is small
    return b * (c + b) + 2 * a * a * decay - b * a * a / (c + b) * decay.square()


def _require_mass(mass: float) -> None:
    if not (mass > 0 and math.isfinite(mass)):
        raise ValueError(f"expected a finite mass V > 0 (at V = 0 every weight is zero and stays so), received {mass}")
