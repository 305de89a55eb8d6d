r"""Do data contradict a symmetry? An exact comparison with a predictor that has not seen the sample.

Let (X, Y) and (ρ_g X, ρ̂_g Y) have the same law. Then *any* predictor f fitted on other samples has the same risk at
moved samples as at the samples themselves, so

    D_g = |Y − ρ̂_g⁻¹ f(ρ_g X)|² − |Y − f(X)|²

has mean zero, whatever f and the noise. Where f is close to f* = E[Y|X] its mean is ‖f* − T_g f*‖² with (T_g f)(x) =
ρ̂_g⁻¹ f(ρ_g x), and over the group, for invariant inputs, ½ mean_g ‖f* − T_g f*‖² = ‖f* − Q_G f*‖², the equivariance
error. f is kernel ridge regression, fitted on four fifths of the data at a time.

Real inputs need not be invariant: f then errs more at ρ_g X because it extrapolates, which says nothing about f*. So
the squared residual that held-out samples show at the same distance from the training inputs is subtracted, samples
that leave the data are left out, and their share is told. Where that share is large, a violation must also exceed what
f could err more there: as much again as its mean squared residual, in proportion to the share.

D_g has heavy tails, so its mean is compared with Student's t of a tenth as many degrees of freedom as there are
samples: for few samples the normal law would contradict true symmetries too often (measured: 2 of 6 at n = 60).

Where the data hold (nearly) whole orbits no predictor is needed: ½|Y' − ρ̂_g Y|² of a sample and the one at ρ_g X, less
the squared residual of f, has mean at most zero under the symmetry.

References:
    Maass & Fontbona 2024, Lemma 2 and Corollary 1, arXiv 2405.19995v3: R(f) − R(Q_G f) = −2⟨f*, f^⊥⟩ + ‖f^⊥‖².
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from scipy.stats import t as student

from symfield import random
from symfield.discovery.dataset import Dataset, without_copies
from symfield.discovery.elements import described, tried
from symfield.discovery.scaling import scaling
from symfield.groups import Representation
from symfield.onestep import kernel_ridge
from symfield.typing import Bool, Float, Generator, Map, Tensor

__all__ = ["Element", "Estimate", "Examination", "examine"]

_FOLDS = 5
_MOST_TRAINING = 600
_MOST_TESTED = 2000
_MOST_EVALUATIONS = 40_000  # of the predictor at moved samples
_LEVEL = 0.01  # probability of contradicting a true symmetry, over all elements together
_SUPPORT = 0.95  # quantile of the held-out samples' distances beyond which a moved sample has left the data
_INVARIANT = 0.9  # share of moved samples inside the data from which on inputs count as invariant
_NEAR = 0.02  # of the spread of inputs: samples closer than this count as one orbit
_PAIRS = 20  # fewest samples that a statement needs


class Estimate(NamedTuple):
    """A measured number with its standard error.

    Attributes:
        value: the estimate.
        error: one standard error.
    """

    value: float
    error: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - 1.96 * self.error

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + 1.96 * self.error


@dataclass(frozen=True)
class Element:
    """What the data say of one group element.

    Attributes:
        name: what it does to the columns.
        g: the element.
        violation: ½ mean D_g in units of the variance of targets.
        inside: share of moved samples that stay in the data.
        pairs: samples with another one at ρ_g x.
        pair_violation: the same violation from these pairs alone; None when there are too few.
        p: probability of a violation as large as this, were the symmetry there; one-sided.
        contradicted: whether the violation is significant among all elements tried.
    """

    name: str
    g: Tensor
    violation: Estimate
    inside: float
    pairs: int
    pair_violation: Estimate | None
    p: float
    contradicted: bool


@dataclass(frozen=True)
class Examination:
    """What the data say of a symmetry, without a network.

    Attributes:
        elements: the elements tried.
        error: the equivariance error ‖f* − Q_G f*‖² in units of the variance of targets.
        gain: R(f) − R(Q_G f) of the fitted predictor on held-out samples, in the same units (Lemma 2): above zero,
            averaging helps; below, it hurts.
        explained: share of the variance that the predictor explains on held-out samples.
        inside: smallest share of moved samples that stay in the data.
        samples: how many samples were held out in turn.
        complete: whether every element of the group was tried.
    """

    elements: tuple[Element, ...]
    error: Estimate
    gain: Estimate
    explained: Estimate
    inside: float
    samples: int
    complete: bool


def examine(data: Dataset, rep_in: Representation, rep_out: Representation, *, generator: Generator) -> Examination:
    """Ask the data about a symmetry.

    Args:
        data: samples.
        rep_in: ρ on inputs, orthogonal.
        rep_out: ρ̂ on targets, orthogonal; on classes a permutation or trivial.
        generator: orders samples, draws elements of large groups.

    Returns:
        What the data say.

    Raises:
        ValueError: if there are fewer than 40 samples, targets or inputs do not vary, or dimensions do not fit.

    Example:
        >>> from symfield.discovery import dataset
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> x = random.normal((300, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> swap = Defining(Cyclic(2))
        >>> yes = examine(dataset(x, x.prod(-1)), swap, Trivial(Cyclic(2)), generator=random.generator(1))
        >>> no = examine(dataset(x, x[:, 0]), swap, Trivial(Cyclic(2)), generator=random.generator(1))
        >>> yes.elements[0].contradicted, no.elements[0].contradicted
        (False, True)
    """
    data = without_copies(data)
    n = len(data)
    if n < 2 * _PAIRS:
        raise ValueError(f"expected at least {2 * _PAIRS} samples, received {n}; too few to hold any out")
    if float(data.y.var(0, unbiased=False).sum()) <= 1e-18 * float(data.y.square().max()):
        raise ValueError("expected targets that vary, received a constant; every function of the inputs would do")
    if data.task == "regression":  # targets that the group does not mix count alike, whatever their units
        data = replace(data, y=scaling(data.y, rep_out)(data.y))
    variance = float(data.y.var(0, unbiased=False).sum())
    elements = tried(rep_in.group, generator=generator)
    order = random.uniform((n,), generator=generator, like=data.x).argsort()
    rows = order[: min(n, _MOST_TESTED, max(200, _MOST_EVALUATIONS // max(len(elements), 1)))]
    units = scaling(data.x, rep_in)
    x, y, pool = units(data.x), data.y, units(data.x[order])
    measured = [_fold(x, y, order, rows, fold, (rep_in, rep_out, elements)) for fold in range(_FOLDS)]
    whole = _Fold(*(torch.cat(parts, dim=-1) for parts in zip(*measured, strict=True)))
    spread = float(torch.cdist(pool[:400], pool[:400]).median())
    corrected, inside = _corrected(whole)
    every = rep_in.group.is_finite and len(elements) == rep_in.group.order - 1
    found = _judged(whole, corrected, inside, spread, variance)
    columns = data.x_names or tuple(f"x{k}" for k in range(data.x.shape[1]))
    names = [described(matrix, columns) for matrix in rep_in.matrix(elements)]
    averaged = corrected.masked_fill(~inside, 0.0).sum(0) / inside.sum(0).clamp_min(1)
    share = (len(elements) / (len(elements) + 1)) if every else 1.0  # the identity is an element that violates nothing
    seen = inside.any(0)
    baseline = (y - y.mean(0)).square().sum(-1)[rows]
    return Examination(
        elements=tuple(Element(name, g, *measured) for name, g, measured in zip(names, elements, found, strict=True)),
        error=_estimate(averaged[seen] / 2 * share, variance),
        gain=_estimate(whole.gain, variance),
        explained=_estimate(baseline.mean() - whole.residual, variance),
        inside=float(inside.double().mean(1).min()) if len(elements) else 1.0,
        samples=len(rows),
        complete=every,
    )


class _Fold(NamedTuple):
    """Measurements at the held-out samples of one fold, or of all of them; the last axis runs over samples."""

    residual: Tensor  # |y − f(x)|², (b)
    distance: Tensor  # from x to the nearest training input, (b)
    moved_residual: Tensor  # |y − ρ̂⁻¹ f(ρ x)|², (k, b)
    moved_distance: Tensor  # from ρ x to the nearest training input, (k, b)
    pair: Tensor  # ½|y' − ρ̂ y|² − |y − f(x)|² with y' at that input, (k, b)
    gain: Tensor  # |y − f(x)|² − |y − Q f(x)|², (b)


def _fold(
    x: Tensor,
    y: Tensor,
    order: Tensor,
    rows: Tensor,
    fold: int,
    symmetry: tuple[Representation, Representation, Tensor],
) -> _Fold:
    rep_in, rep_out, elements = symmetry
    held = rows[torch.arange(len(rows)) % _FOLDS == fold]
    others = torch.ones(len(x), dtype=torch.bool)
    others[held] = False
    training = order[others[order]][:_MOST_TRAINING]
    predict = _fit(x[training], y[training])
    target = y[held]
    value = predict(x[held])
    residual = (target - value).square().sum(-1)
    distance = torch.cdist(x[held], x[training]).amin(-1)
    average = value.clone()
    parts = []
    group = rep_in.group
    for g in elements:
        moved = rep_in.act(g, x[held])
        back = rep_out.act(group.inverse(g), predict(moved))
        average += back
        gaps, nearest = torch.cdist(moved, x[training]).min(-1)
        pair = (y[training][nearest] - rep_out.act(g, target)).square().sum(-1) / 2 - residual
        parts.append(torch.stack([(target - back).square().sum(-1), gaps, pair]))
    stacked = torch.stack(parts, dim=1) if parts else x.new_zeros(3, 0, len(held))
    gain = residual - (target - average / (len(elements) + 1)).square().sum(-1)
    return _Fold(residual, distance, stacked[0], stacked[1], stacked[2], gain)


def _fit(x: Tensor, y: Tensor) -> Map:
    """Kernel ridge regression with one penalty for each target; constants where a target does not vary."""
    active = y.std(0) > 1e-12 * (1 + y.abs().amax(0))
    if not bool(active.any()) or float(x.std(0).max()) == 0:
        return lambda points: y.mean(0).expand(len(points), -1)
    fitted = kernel_ridge(x, y[:, active].mT)

    def predict(points: Tensor) -> Tensor:
        values = y.mean(0).expand(len(points), -1).clone()
        values[:, active] = fitted.predict(points).mT
        return values

    return predict


def _corrected(whole: _Fold) -> tuple[Float[Tensor, "k b"], Bool[Tensor, "k b"]]:
    """D_g less the extrapolation that the distance explains, and which moved samples stay in the data."""
    order = whole.distance.argsort()
    groups = min(10, max(1, len(order) // _PAIRS))
    chunks = order.chunk(groups)
    centres = torch.stack([whole.distance[chunk].mean() for chunk in chunks])
    typical = torch.stack([whole.residual[chunk].mean() for chunk in chunks]).cummax(0).values
    limit = whole.distance.quantile(_SUPPORT) * (1 + 1e-9)
    inside = whole.moved_distance <= limit
    expected = _interpolated(whole.moved_distance, centres, typical) - _interpolated(whole.distance, centres, typical)
    return whole.moved_residual - whole.residual - expected, inside


def _interpolated(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the ends."""
    if len(knots) == 1:
        return values.expand(at.shape)
    right = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    weight = ((at - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
    return values[right - 1] + weight * (values[right] - values[right - 1])


def _judged(
    whole: _Fold, corrected: Tensor, inside: Tensor, spread: float, variance: float
) -> list[tuple[Estimate, float, int, Estimate | None, float, bool]]:
    """Each element's numbers; contradicted by Holm's rule over all of them."""
    near = whole.moved_distance <= _NEAR * spread
    found: list[tuple[Estimate, float, int, Estimate | None, float]] = []
    for values, stays, pair, close in zip(corrected, inside, whole.pair, near, strict=True):
        share, pairs = float(stays.double().mean()), int(close.sum())
        violation = _estimate(values[stays] / 2, variance)
        from_pairs = _estimate(pair[close], variance) if pairs >= _PAIRS else None
        slack = float(whole.residual.mean()) / (2 * variance) * max(0.0, 1 - share / _INVARIANT)
        p = min(
            _p(violation._replace(value=violation.value - slack), int(stays.sum())),
            1.0 if from_pairs is None else _p(from_pairs, pairs),
        )
        found.append((violation, share, pairs, from_pairs, min(1.0, 2 * p) if from_pairs is not None else p))
    ranked = sorted(range(len(found)), key=lambda k: found[k][4])
    rejected: set[int] = set()
    for place, k in enumerate(ranked):
        if found[k][4] > _LEVEL / (len(ranked) - place):
            break
        rejected.add(k)
    return [(*numbers, k in rejected) for k, numbers in enumerate(found)]


def _p(estimate: Estimate, count: int) -> float:
    if count < _PAIRS or not math.isfinite(estimate.error):
        return 1.0
    if estimate.error == 0:
        return 0.0 if estimate.value > 1e-9 else 1.0
    return float(student.sf(estimate.value / estimate.error, max(3, count // 10)))


def _estimate(values: Tensor, variance: float) -> Estimate:
    if len(values) < 2:
        return Estimate(0.0, math.inf)
    return Estimate(float(values.mean()) / variance, float(values.std()) / math.sqrt(len(values)) / variance)
