"""How much of the targets the inputs explain at all: kernel ridge regression, judged on samples it has not seen."""

from __future__ import annotations

import torch

from symfield.typing import Float, Tensor

__all__ = ["explained_share"]

_MOST = 500
_RIDGES = (1e-6, 1e-3, 1e-1, 10.0)
_WIDTHS = (0.5, 2.0, 8.0)


def explained_share(
    fit: tuple[Float[Tensor, "b d"], Float[Tensor, "b o"]], judge: tuple[Float[Tensor, "c d"], Float[Tensor, "c o"]]
) -> tuple[float, float]:
    """R² of the best of a few kernel ridge regressions on other samples, and its standard error.

    The kernel is linear plus Gaussian on standardised inputs; width and ridge are chosen on a third of the samples of
    the fit. At most five hundred samples of each part are used, the first ones.

    Args:
        fit: inputs and targets to fit.
        judge: inputs and targets to judge on.

    Returns:
        R² and its standard error; R² ≤ 0 when nothing is explained.

    Example:
        >>> x = torch.linspace(-3, 3, 200, dtype=torch.float64)[:, None]
        >>> order = torch.arange(200) * 77 % 200
        >>> share, error = explained_share((x[order[:100]], x[order[:100]] ** 2), (x[order[100:]], x[order[100:]] ** 2))
        >>> share > 0.99
        True
    """
    (x, y), (points, targets) = ((a[:_MOST], b[:_MOST]) for a, b in (fit, judge))
    mean, spread = x.mean(0), x.std(0).clamp_min(1e-300)
    x, points = (x - mean) / spread, (points - mean) / spread
    offset = y.mean(0)
    cut = max(1, 2 * len(x) // 3)
    best, chosen = float("-inf"), (_WIDTHS[0], _RIDGES[-1])
    for width in _WIDTHS:
        kernel = _kernel(x, x, width)
        values, vectors = torch.linalg.eigh(kernel[:cut, :cut])
        rotated = vectors.mT @ (y[:cut] - offset)
        for ridge in _RIDGES:
            weights = vectors @ (rotated / (values.clamp_min(0.0) + ridge)[:, None])
            score = -float((y[cut:] - offset - kernel[cut:, :cut] @ weights).square().sum())
            if score > best:
                best, chosen = score, (width, ridge)
    width, ridge = chosen
    kernel = _kernel(x, x, width)
    weights = torch.linalg.solve(kernel + ridge * torch.eye(len(x)).to(x), y - offset)
    errors = (targets - offset - _kernel(points, x, width) @ weights).square().sum(-1)
    spread_of_targets = (targets - targets.mean(0)).square().sum(-1)
    gain = (spread_of_targets - errors) / spread_of_targets.mean().clamp_min(1e-300)
    return float(gain.mean()), float(gain.std() / len(gain) ** 0.5)


def _kernel(a: Tensor, b: Tensor, width: float) -> Tensor:
    d = a.shape[1]
    return a @ b.mT / d + torch.exp(
        -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * width * d)
    )
