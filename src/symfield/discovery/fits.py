r"""Smooth predictors fitted to samples: polynomials, Gaussian kernels, a small network; the best on samples held out.

A predictor f̂ is a function of torch tensors that autograd can differentiate, which is all that the search for a
symmetry asks of it. Inputs keep their origin and the ratios of their scales, because linear symmetries refer to both:
they are divided by one common number only. (Inputs far from the origin are shifted first: polynomials of a degree,
Gaussian kernels and networks with biases are the same functions after a shift, but not the same in floating point.)

*Unexplained* is the mean squared error on held-out samples over the variance of the targets: 0 for a perfect fit, 1 for
one that knows the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import torch

from symfield import random
from symfield.discovery.dataset import Dataset
from symfield.typing import Float, Generator, Tensor

__all__ = ["Fit", "Fitter", "Kernel", "Network", "Polynomial", "best_fit", "unexplained"]

#: A fitted function of inputs ``(b, d)`` with values ``(b, o)``.
Predictor = Callable[[Tensor], Tensor]

_RIDGES = (1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_EXACT = 1e-10
_FAR = 10.0  # standard deviations of an input between its mean and the origin


@dataclass(frozen=True)
class Fit:
    """A fitted predictor.

    Attributes:
        predict: f̂, from inputs ``(b, d)`` to values ``(b, o)``, differentiable.
        fitter: the kind of fit that made it, with what was chosen on held-out samples.
        unexplained: share of the variance of the held-out targets that f̂ misses.
    """

    predict: Predictor
    fitter: Fitter
    unexplained: float

    def __str__(self) -> str:
        return f"{self.fitter}, unexplained {self.unexplained:.1e}"


class Fitter:
    """A way to fit; a subclass is a frozen dataclass with :meth:`fits` and :meth:`variants`."""

    def fits(self, data: Dataset, generator: Generator) -> Predictor:
        """The predictor fitted to all of the samples.

        Args:
            data: samples.
            generator: source of randomness.

        Returns:
            The predictor.

        Raises:
            NotImplementedError: if a new kind of fit does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no fits; add it in a subclass")

    def variants(self, data: Dataset) -> Sequence[Fitter]:
        """What to choose among on held-out samples; none when there are too few samples for this kind of fit.

        Args:
            data: samples.

        Returns:
            Fitters whose settings are all given.

        Raises:
            NotImplementedError: if a new kind of fit does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no variants; add it in a subclass")


@dataclass(frozen=True)
class Polynomial(Fitter):
    """All monomials up to a degree, by ridge regression.

    Attributes:
        degree: the degree.
        ridge: penalty relative to the mean squared feature; chosen when absent.
        max_features: largest number of monomials.
    """

    degree: int = 2
    ridge: float | None = None
    max_features: int = 1200

    def variants(self, data: Dataset) -> Sequence[Fitter]:
        """One for each ridge, unless there are more than half as many monomials as samples."""
        features = math.comb(data.x.shape[1] + self.degree, self.degree)
        if features > min(len(data) / 2, self.max_features):
            return ()
        ridges = _RIDGES if self.ridge is None else (self.ridge,)
        return [Polynomial(self.degree, ridge, self.max_features) for ridge in ridges]

    def fits(self, data: Dataset, generator: Generator) -> Predictor:
        """Ridge regression, the constant not penalised."""
        return self._ridge_path(data, (self.ridge or _RIDGES[0],))[0]

    def _ridge_path(self, data: Dataset, ridges: Sequence[float]) -> list[Predictor]:
        """The predictors of several penalties from one spectral decomposition."""
        shift = _shift(data.x)
        scale = _scale(data.x - shift)
        monomials = _Monomials(data.x.shape[1], self.degree)
        features = monomials((data.x - shift) / scale)
        centre, spread = features.mean(0), features.std(0).clamp_min(1e-12)
        offset = data.y.mean(0)
        z = (features - centre) / spread
        values, vectors = torch.linalg.eigh(z.mT @ z / len(z))
        moment = vectors.mT @ (z.mT @ (data.y - offset) / len(z))
        found = []
        for ridge in ridges:
            weights = vectors @ (moment / (values.clamp_min(0.0) + ridge)[:, None]) / spread[:, None]
            constant = offset - centre @ weights
            found.append(_linear(monomials, (shift, scale), weights, constant))
        return found

    def __str__(self) -> str:
        return f"polynomial of degree {self.degree}"


@dataclass(frozen=True)
class Kernel(Fitter):
    """Kernel ridge regression with exp(−|x − x'|² / 2w²) on at most ``max_samples`` samples.

    Attributes:
        width: w, in units of the root mean square distance between samples; chosen when absent.
        ridge: penalty; chosen when absent.
        max_samples: samples that are used.
    """

    width: float | None = None
    ridge: float | None = None
    max_samples: int = 1500

    def variants(self, data: Dataset) -> Sequence[Fitter]:
        """One for each width and ridge that is not given."""
        widths = (0.35, 0.7, 1.4, 2.8) if self.width is None else (self.width,)
        ridges = _RIDGES[2:] if self.ridge is None else (self.ridge,)
        return [Kernel(width, ridge, self.max_samples) for width in widths for ridge in ridges]

    def fits(self, data: Dataset, generator: Generator) -> Predictor:
        """The minimiser in the kernel's space."""
        return self._ridge_path(data, (self.ridge or _RIDGES[0],))[0]

    def _ridge_path(self, data: Dataset, ridges: Sequence[float]) -> list[Predictor]:
        data = data.take(torch.arange(min(len(data), self.max_samples)))
        width = (
            (self.width or 1.0) * math.sqrt(2) * float((data.x - data.x.mean(0)).norm(dim=-1).square().mean().sqrt())
        )
        shift, offset = _shift(data.x), data.y.mean(0)
        points = (data.x - shift) / width
        values, vectors = torch.linalg.eigh(_gaussian(points, points))
        moment = vectors.mT @ (data.y - offset)
        found = []
        for ridge in ridges:
            weights = vectors @ (moment / (values.clamp_min(0.0) + ridge)[:, None])
            found.append(_radial(points, (shift, width), weights, offset))
        return found

    def __str__(self) -> str:
        return f"Gaussian kernel of width {self.width:g}" if self.width else "Gaussian kernel"


@dataclass(frozen=True)
class Network(Fitter):
    """A network with two hidden layers and smooth units, trained by Adam with a decaying step.

    Attributes:
        width: units in each hidden layer.
        steps: gradient steps.
        batch: samples in each step.
    """

    width: int = 96
    steps: int = 2500
    batch: int = 256

    def variants(self, data: Dataset) -> Sequence[Fitter]:
        """Itself, from 200 samples on."""
        return [self] if len(data) >= 200 else []

    def fits(self, data: Dataset, generator: Generator) -> Predictor:
        """The trained network, in float64."""
        shift, offset, spread = _shift(data.x), data.y.mean(0), data.y.std(0).clamp_min(1e-300)
        scale = _scale(data.x - shift)
        x, y = ((data.x - shift) / scale).float(), ((data.y - offset) / spread).float()
        sizes = (x.shape[1], self.width, self.width, y.shape[1])
        weights = []
        for fan_in, fan_out in pairwise(sizes):
            weights.append(random.normal((fan_in, fan_out), generator=generator, like=x, std=fan_in**-0.5))
            weights.append(torch.zeros(fan_out))
        parameters = [w.requires_grad_() for w in weights]
        optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-3)
        for step in range(self.steps):
            rows = random.integers(0, len(x), (min(self.batch, len(x)),), generator=generator)
            optimiser.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * step / self.steps)) / 2
            optimiser.zero_grad(set_to_none=True)
            (_layers(x[rows], parameters) - y[rows]).square().mean().backward()
            optimiser.step()
        final = [w.detach().double() for w in parameters]
        return lambda points: _layers((points - shift) / scale, final) * spread + offset

    def __str__(self) -> str:
        return "network with two hidden layers"


#: What is tried unless told otherwise, the cheapest first.
FITTERS: tuple[Fitter, ...] = (Polynomial(1), Polynomial(2), Polynomial(3), Polynomial(4), Kernel(), Network())


def best_fit(
    train: Dataset, held_out: Dataset, *, generator: Generator, fitters: Sequence[Fitter] = FITTERS
) -> Fit | None:
    """The predictor with the smallest error on samples held out.

    Fitters are tried in order until one explains all but 1e-10 of the variance.

    Args:
        train: samples to fit.
        held_out: samples to choose by.
        generator: source of randomness.
        fitters: what to try.

    Returns:
        The fit, or ``None`` when no fitter accepts so few samples.

    Example:
        >>> from symfield.discovery.dataset import dataset
        >>> x = random.normal((60, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> data = dataset(x, x[:, 0] * x[:, 1])
        >>> str(best_fit(*data.split(0.5, generator=random.generator(1)), generator=random.generator(2)).fitter)
        'polynomial of degree 2'
    """
    best: Fit | None = None
    for fitter in fitters:
        for variant, predict in _candidates(fitter, train, generator):
            error = unexplained(predict, held_out)
            if math.isfinite(error) and (best is None or error < 0.98 * best.unexplained):
                best = Fit(predict, variant, error)
        if best is not None and best.unexplained < _EXACT:
            break
    return best


def unexplained(predict: Predictor, data: Dataset) -> float:
    """Share of the variance of the targets that a predictor misses.

    Args:
        predict: the predictor.
        data: samples that it was not fitted to.

    Returns:
        Mean squared error over variance.

    Example:
        >>> from symfield.discovery.dataset import dataset
        >>> data = dataset([[0.0], [1.0]], [0.0, 2.0])
        >>> unexplained(lambda x: torch.ones(len(x), 1), data)
        1.0
    """
    spread = (data.y - data.y.mean(0)).square().mean(0).sum()
    return float((predict(data.x) - data.y).square().mean(0).sum() / spread.clamp_min(1e-300))


def _candidates(fitter: Fitter, train: Dataset, generator: Generator) -> list[tuple[Fitter, Predictor]]:
    variants = fitter.variants(train)
    if isinstance(fitter, Polynomial) and variants:
        ridges = [v.ridge or 0.0 for v in variants if isinstance(v, Polynomial)]
        return list(zip(variants, fitter._ridge_path(train, ridges), strict=True))
    if isinstance(fitter, Kernel):
        found: list[tuple[Fitter, Predictor]] = []
        for width in sorted({v.width or 1.0 for v in variants if isinstance(v, Kernel)}):
            group = [v for v in variants if isinstance(v, Kernel) and v.width == width]
            found += list(zip(group, group[0]._ridge_path(train, [v.ridge or 0.0 for v in group]), strict=True))
        return found
    return [(variant, variant.fits(train, generator)) for variant in variants]


class _Monomials:
    """All monomials of degree 1 to k: each is one of lower degree times a variable, one product a column."""

    def __init__(self, d: int, degree: int) -> None:
        self.steps: list[tuple[Tensor, Tensor]] = []
        previous: dict[tuple[int, ...], int] = {(): 0}
        for k in range(1, degree + 1):
            words = list(combinations_with_replacement(range(d), k))
            parents = torch.tensor([previous[word[:-1]] for word in words])
            self.steps.append((parents, torch.tensor([word[-1] for word in words])))
            previous = {word: i for i, word in enumerate(words)}

    def __call__(self, x: Tensor) -> Tensor:
        level, columns = torch.ones(len(x), 1, dtype=x.dtype), []
        for parents, variable in self.steps:
            level = level[:, parents] * x[:, variable]
            columns.append(level)
        return torch.cat(columns, dim=-1)


def _linear(monomials: _Monomials, units: tuple[Tensor, float], weights: Tensor, constant: Tensor) -> Predictor:
    shift, scale = units
    return lambda x: monomials((x - shift) / scale) @ weights + constant


def _radial(points: Tensor, units: tuple[Tensor, float], weights: Tensor, offset: Tensor) -> Predictor:
    shift, width = units
    return lambda x: _gaussian((x - shift) / width, points) @ weights + offset


def _gaussian(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(-1)[:, None] + b.square().sum(-1)[None] - 2 * a @ b.mT
    return torch.exp(-squares.clamp_min(0.0) / 2)


def _layers(x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in pairs[:-1]:
        x = torch.nn.functional.silu(x @ weight + bias)
    weight, bias = pairs[-1]
    return x @ weight + bias


def _scale(x: Float[Tensor, "b d"]) -> float:
    return max(float(x.square().mean().sqrt()), 1e-300)


def _shift(x: Float[Tensor, "b d"]) -> Float[Tensor, " d"]:
    """The mean of inputs that lie far from the origin, where powers would cancel to the last digits; else zero."""
    mean = x.mean(0)
    far = bool((mean.abs() > _FAR * x.std(0)).any())
    return mean if far else torch.zeros_like(mean)
