r"""What labels have to do with their inputs, degree by degree, from a sample and without a model.

The first gradient of a ReLU neuron w at f = 0 is G = (1/n) Σ y_i σ'(⟨w, x_i⟩) x_i. For inputs that are symmetric
around zero its linear part is s/2 with s = E y x, whatever w, and the noise has size E y²|x|²/(2n). The overlap of
gradient and signal is one half at

    n_half = 2 E y²|x|² / |s|².

With R² the share of the variance of y that a linear map explains, |s|² = R² E y² · λ_s, where λ_s is the average
eigenvalue along the linear signal; hence n_half ≈ 2 r_s/R² with the *effective dimension that the labels see*,

    r_s = Tr S / λ_s = Tr S · R² E y² / |s|²,

equal to r₁ for a teacher along the first eigenvector, and to d if S = I.

|s|² is estimated without bias by a sum over pairs of samples, Σ_{i≠j} y_i y_j ⟨x_i, x_j⟩/(n(n-1)). The same with
⟨x_i, x_j⟩² measures |E y (xxᵀ - S)|², the part of degree two. Whether these differ from zero is asked of the same
sums with random signs for the samples, which leaves the law of y x alone where it is symmetric (permuted labels would
ask whether y is independent of x, and see |x|² in y as a linear part). The *information exponent* is the least degree
that XX
References:
    Ben Arous, Gheissari & Jagannath 2021, JMLR 22 (information exponent). Chen & Qin 2010, Annals of Statistics 38
    (sums over pairs). The estimates of n_half and r_s: derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from symfield import random
from symfield.onestep.ridge import ridge_readout
from symfield.typing import Float, Generator, Tensor

__all__ = ["Signal", "signal"]

_FLIPS = 499
_LEVEL = 0.01
_PAIRS = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Signal:
    """How labels depend on inputs, as far as a sample tells; made by :func:`signal`.

    Attributes:
        samples: n.
        linear: share R² of the variance that linear ridge regression predicts, leaving one out; at least zero.
        linear_p: p-value of E y x = 0, by random signs.
        quadratic_p: p-value of E y (xxᵀ - S) = 0.
        beyond_p: the same for what linear regression leaves of y.
        higher_p: p-value of no part beyond linear, of any degree; one where there are not twice as many samples as
            independent inputs.
        dimension: r_s, the effective dimension that the labels see; None where degree one is not seen.
        n_half: samples at which the gradient of a ReLU neuron has squared cosine 1/2 with E y x; None likewise.
        half_rank: the number of leading eigenvectors that carry half of the linear signal; None likewise.
    """

    samples: int
    linear: float
    linear_p: float
    quadratic_p: float
    beyond_p: float
    higher_p: float
    dimension: float | None
    n_half: float | None
    half_rank: int | None

    @property
    def information_exponent(self) -> int | None:
        """1 or 2, the least degree seen at level 1%; None if neither is: it is higher, or there is nothing to see."""
        return 1 if self.linear_p <= _LEVEL else 2 if self.quadratic_p <= _LEVEL else None

    @property
    def curved(self) -> bool:
        """Whether degree two is seen in what linear regression leaves, at level 1%."""
        return self.beyond_p <= _LEVEL

    @property
    def nonlinear(self) -> bool:
        """Whether a part of degree two, or of any other degree beyond one, is seen at level 1%."""
        return self.curved or self.higher_p <= _LEVEL

    def __repr__(self) -> str:
        exponent = self.information_exponent
        return f"Signal(R² = {self.linear:.2f} linear, exponent {'not seen' if exponent is None else exponent})"


def signal(x: Float[Tensor, "..."], y: Float[Tensor, "..."], *, generator: Generator) -> Signal:
    """What degree of the inputs the labels follow, and how many samples a gradient needs to see it.

    Pairs are summed over at most 2000 samples.

    Args:
        x: inputs, ``(n, d)``, n ≥ 20.
        y: labels, ``(n)``, or several of them, ``(k, n)``.
        generator: draws the signs, and the 2000 samples.

    Returns:
        The estimates.

    Raises:
        ValueError: if shapes do not fit, there are fewer than 20 samples, values are not finite or labels do not vary.

    Example:
        >>> from symfield import random
        >>> x = random.normal((500, 10), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> signal(x, x[:, 0] ** 2, generator=random.generator(1)).information_exponent
        2
        >>> found = signal(x, x[:, 0] ** 2 + x[:, 1], generator=random.generator(1))
        >>> found.information_exponent, found.curved
        (1, True)
    """
    labels = y.unsqueeze(0) if y.ndim == 1 else y
    if x.ndim != 2 or labels.ndim != 2 or labels.shape[1] != len(x) or len(x) < 20:
        raise ValueError(
            f"expected inputs (n, d) and labels (n) or (k, n) with n >= 20, received {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(labels).all()):
        raise ValueError("expected finite inputs and labels, received NaN or infinity; drop or impute these samples")
    points, targets = x.detach().double(), labels.detach().double()
    points, targets = points - points.mean(0), targets - targets.mean(-1, keepdim=True)
    power = float(targets.square().mean(-1).sum())
    if not power > 0 or not float(points.abs().max()) > 0:
        raise ValueError("expected inputs and labels that vary, received constant ones")
    readout = ridge_readout(points, targets)
    linear = max(0.0, 1 - float(readout.errors.amin(-1).sum()) / power)
    left = targets - readout.predict(points)

    some = torch.randperm(len(points), generator=generator, device=generator.device)[:_PAIRS].to(points.device)
    few = points[some]
    gram = few @ few.mT
    squares = _centred(gram.square())
    signs = 2.0 * random.integers(0, 2, (_FLIPS, len(few)), generator=generator, like=few).to(few) - 1
    linear_p = _flipped(gram, targets[:, some], signs)
    quadratic_p = _flipped(squares, targets[:, some], signs)
    beyond_p = _flipped(squares, left[:, some], signs)
    tests = linear_p, quadratic_p, beyond_p, _any_degree(few, targets[:, some], signs)

    strength = _linear_strength(points, targets)
    if linear_p > _LEVEL or strength <= 0:
        return Signal(len(points), linear, *tests, None, None, None)
    trace = float(points.square().sum()) / (len(points) - 1)
    noise = float((targets.square().sum(0) * points.square().sum(-1)).mean())
    dimension = min(max(trace * max(linear, 1e-3) * power / strength, 1.0), float(points.shape[1]))
    rank = _half_rank(points, targets)
    return Signal(len(points), linear, *tests, dimension, 2 * max(noise / strength, 1.0), rank)


def _linear_strength(points: Tensor, targets: Tensor) -> float:
    """|E y x|² over all targets: the sum over pairs, zero in expectation for labels that are independent of inputs."""
    n = len(points)
    whole = (targets @ points).square().sum()
    same = (targets.square().sum(0) * points.square().sum(-1)).sum()
    return float(whole - same * (n / (n - 1))) / (n * (n - 1))


def _flipped(kernel: Tensor, targets: Tensor, signs: Tensor) -> float:
    """Share of random signs of the samples that give the sum over pairs at least the value it has."""
    pairs = kernel * (targets.mT @ targets)
    pairs = pairs - torch.diag(pairs.diagonal())
    return (1 + int((((signs @ pairs) * signs).sum(-1) >= pairs.sum()).sum())) / (1 + len(signs))


def _any_degree(points: Tensor, targets: Tensor, signs: Tensor) -> float:
    """p-value of no part beyond linear, by a Gaussian kernel off constants and linear functions."""
    n = len(points)
    points = points - points.mean(0)
    left, values, _ = torch.linalg.svd(points, full_matrices=False)
    left = left[:, values > 1e-10 * values[0]]
    if 2 * left.shape[1] > n - 2:
        return 1.0
    off = torch.eye(n).to(points) - 1 / n - left @ left.mT
    scaled = points / points.square().sum(-1).mean().sqrt() * points.shape[1] ** 0.5
    squares = scaled.square().sum(-1)
    distances = squares.unsqueeze(-1) + squares - 2 * scaled @ scaled.mT
    kernel = off @ torch.exp(-distances / (2 * points.shape[1])) @ off
    residuals = targets @ off
    if float(residuals.square().sum()) <= 1e-20 * float(targets.square().sum()):
        return 1.0  # linear to round-off
    seen = (residuals @ kernel * residuals).sum() / residuals.square().sum()
    spread = residuals / off.diagonal()  # residuals are small where inputs are far out: undone as in leaving one out
    outer = spread.mT @ spread
    upper, lower = kernel * outer, off * outer
    flipped = ((signs @ upper) * signs).sum(-1) / ((signs @ lower) * signs).sum(-1)
    return (1 + int((flipped >= seen).sum())) / (1 + len(signs))


def _centred(kernel: Tensor) -> Tensor:
    mean = kernel.mean(0, keepdim=True)
    return kernel - mean - mean.mT + mean.mean()


def _half_rank(points: Tensor, targets: Tensor) -> int:
    """Leading sample eigenvectors that carry half of the linear signal; the share expected of noise is taken off."""
    n = len(points)
    left, values, _ = torch.linalg.svd(points, full_matrices=False)
    kept = left[:, : min(n - 1, points.shape[1])][:, values[: min(n - 1, points.shape[1])] > 1e-10 * values[0]]
    shares = (targets @ kept).square().sum(0) / targets.square().sum()
    total = min(float(shares.sum()), 1.0)
    rest = (1 - total) / max(n - 1 - kept.shape[1], 1) if n - 1 > kept.shape[1] else 0.0
    energy = (shares - rest).cumsum(0)
    reached = torch.nonzero(energy >= energy.max() / 2)
    return int(reached[0]) + 1 if len(reached) else math.ceil(kept.shape[1] / 2)
