r"""Linear readouts by ridge regression, exactly, for all penalties at once.

Features φ_i ∈ R^p and targets y_i give the predictor f(φ) = ⟨w, φ⟩ + c that minimises

    (1/n) Σ_i (y_i − ⟨w, φ_i⟩ − c)² + λ |w|²,

the intercept c unpenalised. With centred features F = A Vᵀ (A = F V, AᵀA = Λ diagonal) and centred targets,

    w(λ) = V (Λ + nλ)⁻¹ Aᵀ y,        H(λ) = 1/n + A (Λ + nλ)⁻¹ Aᵀ,

so one eigendecomposition of the smaller of FᵀF and FFᵀ serves every λ. λ is chosen by the squared error on a validation
set, or where there is none by the error of leaving one sample out, which needs no refit:

    y_i − f_{−i}(φ_i) = (y_i − f(φ_i)) / (1 − H_ii),

exactly, with nλ held fixed as the sample leaves.

References:
    Hastie, Tibshirani & Friedman 2009, *The Elements of Statistical Learning*, Sections 3.4.1 and 7.10.
    Wortsman & Loureiro 2025, arXiv 2510.04780 (kernel ridge regression under power-law inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield.onestep._runs import broadcast_runs
from symfield.typing import Bool, Float, Tensor

__all__ = ["Ridge", "RidgeReadout", "lambda_grid", "ridge_readout"]

_DECADES = (-9.0, 1.0)
_COUNT = 17
_ROUND_OFF = 1e-26


@dataclass(frozen=True, eq=False, repr=False)
class Ridge:
    """What every ridge regression reports of the choice of its penalty.

    Attributes:
        chosen: the λ in use, ``(*r)``.
        lambdas: all that were tried, increasing, ``(*r, l)``.
        errors: mean squared errors by which they were compared, ``(*r, l)``.
        criterion: ``"validation"`` or ``"leave-one-out"``.
        intercept: c, ``(*r)``.
    """

    chosen: Tensor
    lambdas: Tensor
    errors: Tensor
    criterion: str
    intercept: Tensor

    @property
    def at_edge(self) -> Bool[Tensor, "*r"]:
        """Where the least or the largest of several λ won: a wider grid might do better."""
        best, last = self.errors.argmin(-1), self.lambdas.shape[-1] - 1
        return ((best == 0) | (best == last)) & (last > 0)

    def __repr__(self) -> str:
        count, edges = self.chosen.numel(), int(self.at_edge.sum())
        chosen = f"{float(self.chosen):.3g}" if count == 1 else f"{tuple(self.chosen.shape)} values"
        edge = "" if edges == 0 else ", at the edge of the grid" if count == 1 else f", {edges} at the edge of the grid"
        return f"{type(self).__name__}(λ = {chosen} by {self.criterion}{edge})"


@dataclass(frozen=True, eq=False, repr=False)
class RidgeReadout(Ridge):
    """A linear readout ⟨w, φ⟩ + c; made by :func:`ridge_readout`; a :class:`Ridge`.

    Attributes:
        weights: w, ``(*r, p)``.
    """

    weights: Tensor

    def predict(self, features: Float[Tensor, "... m p"]) -> Float[Tensor, "... m"]:
        """⟨w, φ⟩ + c.

        Args:
            features: φ, ``(*r, m, p)``.

        Returns:
            Predictions, ``(*r, m)``.
        """
        return (features @ self.weights.unsqueeze(-1)).squeeze(-1) + self.intercept.unsqueeze(-1)


def lambda_grid(
    scale: float | Float[Tensor, "*r"] = 1.0, *, decades: tuple[float, float] = _DECADES, count: int = _COUNT
) -> Float[Tensor, "..."]:
    """Penalties evenly spaced in the logarithm.

    Args:
        scale: what λ = 1 stands for; :func:`ridge_readout` takes the mean squared norm of the centred features, so that
            the grid means the same for features of every size.
        decades: logarithms to base ten of the smallest and the largest penalty over ``scale``.
        count: how many.

    Returns:
        λ, increasing, float64 ``(*r, l)``.

    Raises:
        ValueError: if there are fewer than two, or the decades do not increase.

    Example:
        >>> lambda_grid(decades=(-2.0, 1.0), count=4).tolist()
        [0.01, 0.1, 1.0, 10.0]
    """
    if count < 2 or not decades[0] < decades[1]:
        raise ValueError(f"expected count >= 2 and increasing decades, received count={count}, decades={decades}")
    unit = torch.as_tensor(scale, dtype=torch.float64)
    return unit.unsqueeze(-1) * torch.logspace(*decades, count, dtype=torch.float64, device=unit.device)


def ridge_readout(
    features: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    validation: tuple[Tensor, Tensor] | None = None,
    *,
    lambdas: Float[Tensor, "..."] | None = None,
    intercept: bool = True,
) -> RidgeReadout:
    """Ridge regression on features, with λ chosen on held-out data or by leaving one out.

    Exact for every λ from one eigendecomposition in float64, of size min(n, p). Leading axes of ``y`` beyond those of
    the features are several targets on the same features, which share it.

    Args:
        features: φ, ``(*r, n, p)``.
        y: targets, ``(*r, n)``.
        validation: features ``(*r, v, p)`` and targets ``(*r, v)`` that choose λ; leave-one-out when absent.
        lambdas: candidates, ``(l)`` or ``(*r, l)``; 17 over ten decades around the size of the features when absent.
        intercept: whether a constant is added, unpenalised.

    Returns:
        The readout, in the dtype of the features.

    Raises:
        ValueError: if shapes do not fit, values are not finite, there are fewer than three samples, or a λ is not
            positive.

    Example:
        >>> from symfield import random
        >>> x = random.normal((50, 3), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> readout = ridge_readout(x, 2 * x[:, 0] + 1)
        >>> [round(abs(w), 3) for w in readout.weights.tolist()], round(readout.intercept.item(), 3)
        ([2.0, 0.0, 0.0], 1.0)
        >>> readout
        RidgeReadout(λ = ...e-09 by leave-one-out, at the edge of the grid)

    References:
        Hastie, Tibshirani & Friedman 2009, Equations (3.44) and (7.52).
    """
    check_data(features, y, validation)
    f, targets = features.detach().double(), y.detach().double()
    n, p = f.shape[-2:]
    middle = f.mean(-2, keepdim=True) if intercept else torch.zeros_like(f[..., :1, :])
    f = f - middle
    scale = f.square().sum((-2, -1)) / n
    scale = torch.where(scale > _ROUND_OFF * middle.square().sum((-2, -1)), scale, 0.0)  # else only round-off varies
    if p < n - 1:
        values, right = torch.linalg.eigh(f.mT @ f)
        fit = prepare(values, targets, lambdas, scale, intercept)
        scores = f @ right
        residuals = targets - fit.centre.unsqueeze(-1)
        factors = fit.inverse * (scores.mT @ residuals.unsqueeze(-1))
        weights = right @ factors  # (*r, p, l)
        leverage = scores.square() @ fit.inverse + (1 / n if intercept else 0.0)
        left_out = (residuals.unsqueeze(-1) - scores @ factors) / (1 - leverage)
    else:
        values, left = eigenbasis(f @ f.mT, intercept)
        fit = prepare(values, targets, lambdas, scale, intercept)
        dual, left_out = solve_dual(fit, left, targets)
        weights = f.mT @ dual
    if validation is None:
        errors = left_out.square().mean(-2)
    else:
        shifted = validation[0].detach().double() - middle
        errors = squared_error(shifted @ weights + fit.centre.unsqueeze(-1).unsqueeze(-1), validation[1])
    best = errors.argmin(-1, keepdim=True)
    chosen = take(weights, best)
    constant = fit.centre - (middle.squeeze(-2) * chosen).sum(-1)
    return RidgeReadout(
        fit.lambdas.gather(-1, best).squeeze(-1).to(y),
        fit.lambdas.to(y),
        errors.to(y),
        "leave-one-out" if validation is None else "validation",
        constant.to(features),
        chosen.to(features),
    )


class Fit(NamedTuple):
    """What solves at every λ in an eigenbasis."""

    lambdas: Tensor  # (*r, l), increasing
    inverse: Tensor  # 1 / (Λ + nλ), (*r, q, l)
    centre: Tensor  # mean of the targets with an intercept, zero without, (*r)


def prepare(values: Tensor, targets: Tensor, lambdas: Tensor | None, scale: Tensor, intercept: bool) -> Fit:
    """The penalties and their inverses; ``scale`` is what the default grid is relative to."""
    if bool((scale <= 0).any()):
        raise ValueError("the features do not vary from sample to sample; there is nothing to regress on")
    grid = lambda_grid(scale) if lambdas is None else lambdas.detach().to(values)
    if grid.ndim == 0 or not bool((torch.isfinite(grid) & (grid > 0)).all()):
        raise ValueError(f"expected a tensor of finite lambdas > 0, received {grid}; use a small one in place of zero")
    grid = grid.sort(-1).values
    inverse = 1 / (values.clamp_min(0).unsqueeze(-1) + targets.shape[-1] * grid.unsqueeze(-2))
    centre = targets.mean(-1) if intercept else torch.zeros_like(targets[..., 0])
    runs = broadcast_runs(features=inverse.shape[:-2], targets=centre.shape)
    return Fit(grid.expand(*runs, -1), inverse, centre.expand(runs))


def eigenbasis(gram: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors ``(*r, n, q)`` of a Gram matrix, with an intercept of its part off the constants.

    The constants are split off by a reflection that takes e_1 to them. Leaving their zero eigenvalue in would spoil
    leave-one-out where the fit nearly interpolates.
    """
    if not intercept:
        values, vectors = torch.linalg.eigh(gram)
        return values, vectors
    n = gram.shape[-1]
    v = gram.new_full((n,), n**-0.5)
    v[0] -= 1
    off = (torch.eye(n).to(gram) - torch.outer(v, v) * (2 / v.square().sum()))[:, 1:]
    values, vectors = torch.linalg.eigh(off.mT @ gram @ off)
    return values, off @ vectors


def solve_dual(fit: Fit, vectors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Dual coefficients α and errors of leaving one out, α_i / (K + nλ)⁻¹_ii, both ``(*r, n, l)``."""
    residuals = targets - fit.centre.unsqueeze(-1)
    dual = vectors @ (fit.inverse * (vectors.mT @ residuals.unsqueeze(-1)))
    return dual, dual / (vectors.square() @ fit.inverse)


def squared_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of ``(*r, v, l)`` on targets ``(*r, v)``, shape ``(*r, l)``."""
    return (predicted - targets.detach().double().unsqueeze(-1)).square().mean(-2)


def take(columns: Tensor, best: Tensor) -> Tensor:
    """The column ``best`` ``(*r, 1)`` of each matrix ``(*r, m, l)``."""
    return columns.gather(-1, best.unsqueeze(-2).expand(*columns.shape[:-1], 1)).squeeze(-1)


def check_data(features: Tensor, y: Tensor, validation: tuple[Tensor, Tensor] | None) -> None:
    """Refuse what cannot be regressed on; shapes, dtypes, NaN, too few samples."""
    _check_pair(features, y, "training")
    if features.shape[-2] < 3:
        raise ValueError(f"expected at least three samples, received {features.shape[-2]}; a fit needs more data")
    if validation is not None:
        _check_pair(*validation, "validation")
        if validation[0].shape[-1] != features.shape[-1]:
            raise ValueError(
                f"expected {features.shape[-1]} features in the validation set as in the training set, received "
                f"{validation[0].shape[-1]}"
            )


def _check_pair(features: Tensor, y: Tensor, name: str) -> None:
    if features.ndim < 2 or y.ndim < 1 or features.shape[-2] != y.shape[-1] or features.numel() == 0:
        raise ValueError(
            f"expected {name} features (*r, n, p) and targets (*r, n), received {tuple(features.shape)} and "
            f"{tuple(y.shape)}"
        )
    broadcast_runs(**{f"{name} features": features.shape[:-2], f"{name} targets": y.shape[:-1]})
    if not (features.is_floating_point() and y.is_floating_point()):
        raise ValueError(f"expected floating point {name} data, received {features.dtype} and {y.dtype}; use .double()")
    if not (torch.isfinite(features).all() and torch.isfinite(y).all()):
        raise ValueError(f"expected finite {name} features and targets, received NaN or infinity; drop these samples")
