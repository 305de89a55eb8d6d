r"""The spectrum of a covariance from a sample, corrected for the sample's size.

Sample eigenvalues ℓ_i spread around the population's λ_i once d is not small against the number ν of samples: for S = I
and ν = d they fill [0, 4]. Ridge regression undoes this: with μ > 0 and the *degrees of freedom* at it,

    N = Σ_i ℓ_i/(ℓ_i + μ) = Σ_i λ_i/(λ_i + κ),        κ = μ / (1 − N/ν),

up to fluctuations of relative size 1/ν. So the sample tells the function N(κ) of the *population*, at every ν/d.

*Exponent.* λ_i = c i^{-α}, i ≤ d, is fitted to log N(κ) by least squares over 2 ≤ N ≤ rank/2: N counts the eigenvalues
above κ, so these are the ranks that the fit looks at, and neither a noise floor nor a truncated tail enters. At α = 0
the curve depends on α to second order only, and estimates are a few hundredths, never negative. N is a smooth function,
which many spectra fit well; whether they are power laws shows in the exponents of the two halves of the range.

*Top eigenvalue.* Where ℓ₁ stands apart from the others, 1/λ₁ = (1/ν) Σ_{j>1} 1/(ℓ₁ − ℓ_j), exactly in the limit; it
stands apart by ψ = (Σ 1/(ℓ₁ − ℓ_j))²/(ν Σ 1/(ℓ₁ − ℓ_j)²) in (0, 1], zero at the edge of a bulk. Where it does not (ψ <
0.8), and the power law fits, the fitted c is used.

*Bounds on r₁ in expectation.* ℓ₁ is too large; the variance along the top direction of one half of the sample, measured
on the other half, is too small: Tr S/ℓ₁ < r₁ < Tr S/λ_cross.

*Tr S²* is the unbiased estimate of Himeno & Yamada, free of assumptions on the law. Standard errors are from leaving
out one tenth of the sample at a time.

References:
    Marchenko & Pastur 1967; Silverstein & Choi 1995, Journal of Multivariate Analysis 54 (the map between spectra).
    Jacot et al. 2020, *Kernel alignment risk estimator*, NeurIPS (κ and N from a sample).
    Benaych-Georges & Nadakuditi 2011, Advances in Mathematics 227, arXiv 0910.2120 (eigenvalues that stand apart).
    Himeno & Yamada 2014, Journal of Multivariate Analysis 130. The fit of α to N(κ): ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from symfield.typing import Float, Tensor

__all__ = ["Spectrum", "spectrum"]

_POINTS = 40
_GROUPS = 10
_APART = 0.8
_FITS = 0.01
_DRIFT = 0.15
_LEAST_RANK = 4


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    """What a sample tells of the spectrum of its covariance; made by :func:`spectrum`.

    Attributes:
        eigenvalues: those of the sample covariance, decreasing, ``(d,)``; biased where n is not large against d.
        basis: its eigenvectors as columns, ``(d, q)`` with q = min(n - 1, d).
        trace: Tr S.
        r1: Tr S/λ₁.
        r1_error: its standard error.
        r1_range: bounds in expectation.
        r2: Tr S²/λ₁².
        r2_error: its standard error.
        exponent: the fitted α; None below rank 4.
        exponent_error: its standard error.
        fit_ranks: first and last rank that the fit looked at.
        misfit: root mean square of the relative residuals of N(κ).
        drift: exponent of the later half of these ranks (in the logarithm) minus that of the earlier half; zero for a
            power law, positive where the spectrum falls faster than one.
        drift_error: its standard error.
    """

    eigenvalues: Tensor
    basis: Tensor
    trace: float
    r1: float
    r1_error: float
    r1_range: tuple[float, float]
    r2: float
    r2_error: float
    exponent: float | None
    exponent_error: float | None
    fit_ranks: tuple[float, float] | None
    misfit: float | None
    drift: float | None
    drift_error: float | None

    @property
    def is_power_law(self) -> bool:
        """Whether the exponent drifts by less than 0.15, or than three standard errors."""
        if self.drift is None or self.drift_error is None:
            return False
        return abs(self.drift) <= max(_DRIFT, 3 * self.drift_error)

    def __repr__(self) -> str:
        exponent = "" if self.exponent is None else f", α = {self.exponent:.3g} ± {self.exponent_error:.1g}"
        return f"Spectrum(d = {len(self.eigenvalues)}, r1 = {self.r1:.3g}, r2 = {self.r2:.3g}{exponent})"


def spectrum(x: Float[Tensor, "..."]) -> Spectrum:
    """Effective dimensions and power-law exponent of the covariance that a sample was drawn with.

    The order of the samples must be arbitrary: they are split by their place. The cost is about twelve eigenvalue
    decompositions of size min(n, d).

    Args:
        x: inputs, ``(n, d)``, n ≥ 20; their mean is taken off.

    Returns:
        The estimates.

    Raises:
        ValueError: if the shape is another one, there are fewer than 20 samples, values are not finite or do not vary.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import PowerLaw
        >>> law = PowerLaw(100, 0.5)
        >>> x = law.sample((100,), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> found = spectrum(x)
        >>> abs(found.exponent - 0.5) < 0.1, abs(found.r1 / law.r1 - 1) < 0.2
        (True, True)
    """
    if x.ndim != 2 or x.shape[0] < 20 or x.shape[1] < 1:
        raise ValueError(f"expected inputs (n, d) with n >= 20 samples, received {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("expected finite inputs, received NaN or infinity; drop or impute these samples")
    points = x.detach().double()
    points = points - points.mean(0)
    if float(points.abs().max()) == 0:
        raise ValueError("expected inputs that vary, received constant ones")
    n, d = points.shape
    _, singular, basis = torch.linalg.svd(points, full_matrices=False)
    rank = min(n - 1, d)
    eigenvalues = torch.zeros(d, dtype=torch.float64, device=points.device)
    eigenvalues[:rank] = singular[:rank].square() / (n - 1)
    whole = _estimate(eigenvalues[:rank], points)
    parts = [_estimate(*_without(points, group)) for group in torch.arange(n).tensor_split(_GROUPS)]
    cross = _cross_variance(points)
    low = whole.trace / float(eigenvalues[0])
    law, laws = whole.law, [part.law for part in parts if part.law is not None]
    return Spectrum(
        eigenvalues=eigenvalues,
        basis=basis[:rank].mT,
        trace=whole.trace,
        r1=whole.r1,
        r1_error=_jackknife([part.r1 for part in parts]),
        r1_range=(low, min(float(d), max(low, whole.trace / max(cross, whole.trace / d)))),
        r2=whole.r2,
        r2_error=_jackknife([part.r2 for part in parts]),
        exponent=None if law is None else law.exponent,
        exponent_error=None if law is None else _jackknife([one.exponent for one in laws]),
        fit_ranks=None if law is None else law.ranks,
        misfit=None if law is None else law.misfit,
        drift=None if law is None else law.drift,
        drift_error=None if law is None else _jackknife([one.drift for one in laws]),
    )


@dataclass(frozen=True)
class _Law:
    """λ_i = c i^{-α}."""

    exponent: float
    first: float
    ranks: tuple[float, float]
    misfit: float
    drift: float


@dataclass(frozen=True)
class _Estimate:
    trace: float
    r1: float
    r2: float
    law: _Law | None


def _estimate(eigenvalues: Tensor, points: Tensor) -> _Estimate:
    """The estimates of one sample, from its centred points and its non-zero eigenvalues."""
    n, d = points.shape
    trace = float(eigenvalues.sum())
    law = _fit(eigenvalues, n - 1, d)
    top, apart = _top(eigenvalues, n - 1)
    if law is not None and apart < _APART and law.misfit <= _FITS:
        top = law.first
    lengths = points.square().sum(-1).square().sum() / (n - 1)
    squares = (n - 1) * (n - 2) * float(eigenvalues.square().sum()) + trace**2 - n * float(lengths)
    squared_trace = squares * (n - 1) / (n * (n - 2) * (n - 3))
    r1 = min(max(trace / top, 1.0), float(d))
    return _Estimate(trace, r1, min(max(squared_trace / top**2, 1.0), r1), law)


def _without(points: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Non-zero eigenvalues and centred points of the sample without a group."""
    kept = torch.ones(len(points), dtype=torch.bool, device=points.device)
    kept[group] = False
    rest = points[kept]
    rest = rest - rest.mean(0)
    gram = rest.mT @ rest if rest.shape[0] >= rest.shape[1] else rest @ rest.mT
    rank = min(len(rest) - 1, rest.shape[1])
    values = torch.linalg.eigvalsh(gram).flip(0)[:rank].clamp_min(0) / (len(rest) - 1)
    return values, rest


def _fit(eigenvalues: Tensor, samples: int, dim: int) -> _Law | None:
    """Least squares on log N(κ)."""
    kept = eigenvalues[eigenvalues > 1e-13 * eigenvalues[0]]
    rank = len(kept)
    if rank < _LEAST_RANK:
        return None
    ranks = (min(2.0, rank / 8), rank / 2)
    degrees = torch.logspace(math.log10(ranks[0]), math.log10(ranks[1]), _POINTS, dtype=torch.float64).to(kept)
    low, high = torch.full_like(degrees, 1e-14).log(), torch.full_like(degrees, 1e3 * rank).log()
    ratios = kept / kept[0]
    for _ in range(60):  # bisection for log μ, all N at once
        middle = (low + high) / 2
        above = (ratios / (ratios + middle.exp().unsqueeze(-1))).sum(-1) > degrees
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    kappa = (((low + high) / 2).exp() / (1 - degrees / samples)).cpu().numpy()
    logs = degrees.log().cpu().numpy()
    place = torch.arange(1, dim + 1, dtype=torch.float64).log().numpy()

    def fit(part: slice, start: list[float]) -> tuple[float, float, float]:
        def misses(parameters: np.ndarray) -> np.ndarray:
            inverse = np.exp(parameters[0] * place - parameters[1])[:, None]
            return np.log((1 / (1 + kappa[part] * inverse)).sum(0)) - logs[part]

        solution = least_squares(misses, start, bounds=([0.0, -math.inf], [math.inf, math.inf]))
        return float(solution.x[0]), float(solution.x[1]), math.sqrt(float((solution.fun**2).mean()))

    exponent, first, misfit = fit(slice(None), [1.0, 0.0])
    half = _POINTS // 2
    head, tail = (fit(part, [max(exponent, 0.01), first])[0] for part in (slice(half), slice(half, None)))
    return _Law(exponent, math.exp(first) * float(kept[0]), ranks, misfit, tail - head)


def _top(eigenvalues: Tensor, samples: int) -> tuple[float, float]:
    """λ₁ as of an eigenvalue that stands apart, and how far it does."""
    others = torch.zeros(max(samples - 1, 1), dtype=torch.float64, device=eigenvalues.device)
    rest = eigenvalues[1:samples]
    others[: len(rest)] = rest
    gaps = (eigenvalues[0] - others) / eigenvalues[0]
    if float(gaps.min()) <= 0:
        return float(eigenvalues[0]), 0.0
    inverse = 1 / gaps
    return float(eigenvalues[0] / inverse.mean()), float(inverse.mean() ** 2 / inverse.square().mean())


def _cross_variance(points: Tensor) -> float:
    """Variance of each half along the other's top direction, averaged."""
    halves = points[0::2], points[1::2]
    found = 0.0
    for one, other in (halves, halves[::-1]):
        direction = torch.linalg.svd(one - one.mean(0), full_matrices=False)[2][0]
        found += float((other @ direction).var()) / 2
    return found


def _jackknife(values: list[float]) -> float:
    """Standard error from leaving out groups."""
    found = torch.tensor(values, dtype=torch.float64)
    return math.sqrt((len(found) - 1) * float(found.var(correction=0)))
