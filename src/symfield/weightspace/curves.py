"""Paths between models and what a metric does along them: barriers, monotonicity, convexity.

Along the line θ(t) = (1 − t) θ_a + t θ_b a metric m takes the values m(t) = m(θ(t)). Two models are linearly connected
as far as the curve stays under its chord:

    barrier = max_t [ m(t) − (1 − t) m(0) − t m(1) ] ≥ 0,

for a metric of which large values are good with the sign turned round. A path from initial to trained parameters is
judged in the same way: whether the loss falls monotonically, and whether its curve is convex.

References:
    Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis, arXiv 1912.05671. Entezari et al.
    2022, The role of permutation invariance, arXiv 2110.06296. Lucas et al. 2021, Analyzing monotonic linear
    interpolation, arXiv 2104.11044.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from symfield.typing import Params, Tensor
from symfield.weightspace.agreement import averaged, require_alike, require_variance, tied
from symfield.weightspace.losses import ModelMetric

__all__ = [
    "Curve",
    "Metric",
    "barrier",
    "curve",
    "global_convexity",
    "interpolate",
    "local_convexity",
    "midpoint_barrier",
    "monotonicity_gap",
]

Metric: TypeAlias = Callable[[Params], Any]
"""A number, a tensor ``(k,)``, or a dict of numbers, from parameters."""

_ROUND_OFF = 1e-12


@dataclass(frozen=True)
class Curve:
    """Values of a metric along a path.

    Attributes:
        t: positions from 0 to 1, shape ``(points,)``, float64.
        values: shape ``(points,)``, or ``(points, k)`` for a metric of k numbers; float64.
        names: of the k numbers, when the metric returns a dict.
    """

    t: Tensor
    values: Tensor
    names: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Curve:
        """The curve of one of several numbers.

        Raises:
            KeyError: if there is none of that name.
        """
        if name not in self.names:
            raise KeyError(f"no values {name!r}; there are {list(self.names)}")
        return Curve(self.t, self.values[:, self.names.index(name)])


def interpolate(params_a: Mapping[str, Tensor], params_b: Mapping[str, Tensor], t: float | Tensor) -> Params:
    """The point (1 − t) a + t b on the line between two models, buffers included.

    At t = 0 and 1 the result is equal to the model there to the last bit. Differentiable. Tensors of integers or bools
    come from the first model; those with axes must agree. Names that share memory in the first model share it in the
    result.

    Args:
        params_a: tensors of the first model by name, as in ``state_dict()``.
        params_b: tensors of the second model, same names, shapes and dtypes.
        t: position; a tensor ``(n,)`` gives n points at once, as a leading axis of every tensor, for ``torch.vmap``.
            Outside of [0, 1] the line goes on, and running variances must stay positive.

    Returns:
        New tensors by name; the inputs are not modified.

    Raises:
        KeyError: if names differ.
        ValueError: if there are no tensors, shapes differ, a tensor holds NaN, tensors of integers differ, tied names
            of one model differ in the other, or t is not finite or has more than one axis.
        TypeError: if dtypes differ.

    Example:
        >>> a, b = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
        >>> interpolate(a, b, 0.25)["w"].tolist(), interpolate(a, b, torch.tensor([0.0, 0.5]))["w"].shape
        ([0.25, 0.25], torch.Size([2, 2]))
    """
    if isinstance(t, Tensor):
        if t.ndim > 1:
            raise ValueError(f"expected t as a number or a tensor (n,), received shape {tuple(t.shape)}")
        finite = t.ndim == 0 or bool(t.isfinite().all())  # a scalar may be batched by vmap
    else:
        finite = math.isfinite(t)
    if not finite:
        raise ValueError(f"expected finite positions, received {t}")
    require_alike([params_a, params_b])
    return _interpolate(params_a, params_b, t)


def _interpolate(a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float | Tensor) -> Params:
    made: Params = {}
    for name, first in tied(a).items():
        made[name] = made[first] if first != name else _between(name, a[name], b[name], t)
    return made


def _between(name: str, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    several = isinstance(t, Tensor) and t.ndim == 1
    if not averaged(a):
        return a.expand(len(t), *a.shape).clone() if several else a.clone()  # type: ignore[arg-type]
    dtype = torch.float32 if a.is_floating_point() and a.itemsize < 4 else a.dtype
    x, y = a.to(dtype), b.to(dtype)
    if isinstance(t, Tensor):
        t = t.to(x).reshape(-1, *[1] * a.ndim) if several else t.to(x)
    z = torch.lerp(x, y, t)
    if not bool(torch.isfinite(x.detach()).all()):  # −∞ of a mask is −∞ between
        z = torch.where(x == y, x, z)
    if not isinstance(t, Tensor) or several:
        require_variance(name, z)
    return z.to(a.dtype)


def curve(
    params_a: Mapping[str, Tensor],
    params_b: Mapping[str, Tensor],
    metric: Metric,
    *,
    points: int | Tensor = 25,
    repair: Callable[[Params, float], Params] | None = None,
) -> Curve:
    """A metric along the line between two models.

    Args:
        params_a: parameters at t = 0, buffers included.
        params_b: parameters at t = 1.
        metric: from parameters to a number, a tensor ``(k,)``, or a dict of numbers; :func:`loss_metric` makes one.
        points: how many positions from 0 to 1 at equal distance, at least 2, or the positions, shape ``(n,)``. An odd
            number holds the midpoint.
        repair: takes the parameters and t to the parameters that are judged, as :class:`Repair` makes it.

    Returns:
        The :class:`Curve`.

    Raises:
        KeyError: if names differ.
        ValueError: if the models do not fit together (see :func:`interpolate`), the positions are none, or the metric
            returns NaN or another number of values than before.
        TypeError: if dtypes differ, or the metric returns something else.

    Example:
        >>> a, b = {"w": torch.tensor(0.0)}, {"w": torch.tensor(2.0)}
        >>> curve(a, b, lambda params: params["w"] ** 2, points=5).values.tolist()
        [0.0, 0.25, 1.0, 2.25, 4.0]
    """
    t = _positions(points)
    require_alike([params_a, params_b])
    together = metric.together if isinstance(metric, ModelMetric) and repair is None else 1
    rows: list[Tensor] = []
    names: tuple[str, ...] = ()
    for part in t.split(max(together, 1)):
        if together > 1 and isinstance(metric, ModelMetric):
            answers = metric.several(_interpolate(params_a, params_b, part))
        else:
            params = _interpolate(params_a, params_b, float(part))
            answers = [metric(params if repair is None else repair(params, float(part)))]
        for answer, position in zip(answers, part.tolist(), strict=True):
            row, found = _row(answer, position)
            if rows and (row.shape != rows[0].shape or found != names):
                raise ValueError(
                    f"the metric returned {_described(row, found)} at t = {position:g} and before that "
                    f"{_described(rows[0], names)}; it must return the same numbers everywhere"
                )
            rows, names = [*rows, row], found
    return Curve(t, torch.stack(rows), names)


def _positions(points: int | Tensor) -> Tensor:
    if isinstance(points, Tensor):
        t = points.detach().double().cpu()
        if t.ndim != 1 or len(t) < 2 or not bool(t.isfinite().all()) or not bool((t.diff() > 0).all()):
            raise ValueError(f"expected increasing finite positions (n,), n ≥ 2, received {points}")
        return t
    if points < 2:
        raise ValueError(f"expected at least 2 points, received {points}")
    return torch.linspace(0, 1, points, dtype=torch.float64)


def _row(answer: Any, position: float) -> tuple[Tensor, tuple[str, ...]]:
    names: tuple[str, ...] = ()
    if isinstance(answer, Mapping):
        names = tuple(str(name) for name in answer)
        answer = [float(value) for value in answer.values()]
    try:
        row = _double(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected a number, a tensor (k,) or a dict of numbers from the metric, received {type(answer).__name__}"
        ) from error
    if row.ndim > 1:
        raise ValueError(f"expected a number or a tensor (k,) from the metric, received shape {tuple(row.shape)}")
    if bool(row.isnan().any()):
        which = f" of {names[int(row.isnan().nonzero()[0, 0])]!r}" if names else ""
        raise ValueError(f"the metric returned NaN{which} at t = {position:g}; look at the model and the data there")
    return row, names


def _double(values: Any) -> Tensor:
    """In float64 on the CPU; Python numbers do not pass through the default dtype."""
    return (
        (values if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64)).detach().double().cpu()
    )


def _described(row: Tensor, names: tuple[str, ...]) -> str:
    return str(list(names)) if names else f"shape {tuple(row.shape)}"


def _read(values: Curve | Tensor | Sequence[float], t: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positions ``(n,)`` and values ``(n, ...)`` of a whole path from 0 to 1."""
    if isinstance(values, Curve):
        t, values = values.t, values.values
    values = _double(values)
    if values.ndim < 1 or len(values) < 2:
        raise ValueError(f"expected at least 2 values along a path, received shape {tuple(values.shape)}")
    t = torch.linspace(0, 1, len(values), dtype=torch.float64) if t is None else t.detach().double().cpu()
    if t.shape != values.shape[:1]:
        raise ValueError(f"expected one position a value, received {tuple(t.shape)} and {tuple(values.shape)}")
    if t[0] != 0 or t[-1] != 1 or not bool((t.diff() > 0).all()):
        raise ValueError(f"expected positions that increase from 0 to 1, received {t.tolist()}")
    if bool(values.isnan().any()) or not bool(values[[0, -1]].isfinite().all()):
        raise ValueError("the values hold NaN, or infinity at an end; no chord can be drawn")
    return t.reshape(-1, *[1] * (values.ndim - 1)), values


def _above(values: Curve | Tensor | Sequence[float], t: Tensor | None, larger_is_better: bool) -> tuple[Tensor, Tensor]:
    t, values = _read(values, t)
    above = values - ((1 - t) * values[0] + t * values[-1])
    above[[0, -1]] = 0.0
    return t, 0.0 - above if larger_is_better else above


def barrier(
    values: Curve | Tensor | Sequence[float], *, t: Tensor | None = None, larger_is_better: bool = False
) -> Tensor:
    """Largest height of a curve above its chord.

    Args:
        values: a curve, or values ``(n,)`` or ``(n, k)`` along a path from 0 to 1.
        t: positions of the values; equally spaced when absent.
        larger_is_better: for an accuracy: largest depth under the chord.

    Returns:
        The barrier, at least 0, shape ``()`` or ``(k,)``, float64.

    Raises:
        ValueError: if there are fewer than two values, the positions do not lead from 0 to 1, or a value is NaN.

    Example:
        >>> barrier([1.0, 2.5, 2.0]).item(), barrier([1.0, 0.2, 0.0]).item()
        (1.0, 0.0)
    """
    return _above(values, t, larger_is_better)[1].amax(0)


def midpoint_barrier(
    values: Curve | Tensor | Sequence[float], *, t: Tensor | None = None, larger_is_better: bool = False
) -> Tensor:
    """Height of a curve above its chord halfway; negative where the midpoint is better than its ends on average.

    Args:
        values: as in :func:`barrier`; the midpoint must be among them.
        t: positions of the values; equally spaced when absent.
        larger_is_better: for an accuracy, whose sign is turned round.

    Returns:
        m(½) − ½ m(0) − ½ m(1), shape ``()`` or ``(k,)``, float64.

    Raises:
        ValueError: as in :func:`barrier`, and if there is no value at ½.

    Example:
        >>> midpoint_barrier([1.0, 1.0, 2.0]).item()
        -0.5
    """
    t, above = _above(values, t, larger_is_better)
    middle = (t.reshape(-1) - 0.5).abs() < _ROUND_OFF
    if not bool(middle.any()):
        raise ValueError(f"no value at the midpoint among {len(above)} points; use an odd number of them")
    return above[middle][0]


def monotonicity_gap(values: Curve | Tensor | Sequence[float]) -> Tensor:
    """Largest rise from one point of a curve to the next; it falls monotonically where this is at most 0.

    Args:
        values: a curve, or values ``(n,)`` or ``(n, k)`` along a path.

    Returns:
        max_i (m(t_{i+1}) − m(t_i)), shape ``()`` or ``(k,)``, float64.

    Raises:
        ValueError: as in :func:`barrier`.

    Example:
        >>> monotonicity_gap([3.0, 2.0, 2.5, 0.0]).item()
        0.5
    """
    return _read(values, None)[1].diff(dim=0).amax(0)


def local_convexity(values: Curve | Tensor | Sequence[float], *, t: Tensor | None = None) -> Tensor:
    """Share of the interior points at which a curve bends upwards or not at all.

    Args:
        values: as in :func:`barrier`, at least three.
        t: positions of the values; equally spaced when absent.

    Returns:
        Share of the points that do not lie above the chord of their neighbours, beyond round-off; shape ``()`` or
        ``(k,)``, float64.

    Raises:
        ValueError: as in :func:`barrier`, and if there are fewer than three values.

    Example:
        >>> local_convexity([4.0, 1.0, 0.0, 1.0, 1.5]).item()  # doctest: +ELLIPSIS
        0.666...
    """
    t, values = _read(values, t)
    if len(values) < 3:
        raise ValueError(f"expected at least 3 values, received {len(values)}; one has no neighbours on both sides")
    share = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
    above = values[1:-1] - ((1 - share) * values[:-2] + share * values[2:])
    return (above <= _slack(values)).double().mean(0)


def global_convexity(values: Curve | Tensor | Sequence[float], *, t: Tensor | None = None) -> Tensor:
    """Share of the points of a curve that do not lie above the chord of its ends.

    Args:
        values: as in :func:`barrier`.
        t: positions of the values; equally spaced when absent.

    Returns:
        The share, beyond round-off; shape ``()`` or ``(k,)``, float64.

    Raises:
        ValueError: as in :func:`barrier`.

    Example:
        >>> global_convexity([2.0, 1.9, 0.0]).item()  # doctest: +ELLIPSIS
        0.666...
    """
    _, above = _above(values, t, False)
    return (above <= _slack(_read(values, t)[1])).double().mean(0)


def _slack(values: Tensor) -> Tensor:
    return _ROUND_OFF * values.abs().amax(0)
