"""The flow of a wide ReLU network keeps the symmetries of its target, and forgets what the target does not see.

Preservation. With the swap T of two coordinates, f* = |x₁| − |x₂| changes its sign and f* = |x₁| + |x₂| does not.
Clouds closed under (a, b) ↦ (∓a, Tb) stay closed under the exact flow, and f(Tx) = ∓f(x) all along; random clouds
deviate by about m^{-1/2}, because their law is invariant only on average.

Orthogonal dependence. For f* = ‖x_H‖ the network is followed at u_H + r e_⊥ with unit vectors u_H in H and e_⊥ off H,
where the target is 1 whatever r. Early on the network grows with r; it overshoots there and then flattens. Lines of the
infinitely wide network come from the reduced flow of one angle a neuron.

What differs from the paper's code: the flow is exact, without samples, with time t = step × rate; values are means over
64 pairs of directions (u_H, e_⊥), which rotations make equal for an infinitely wide network.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771, and
    its code github.com/karl-hajjar/learning-structure (notebook orthogonal-dependence: d = 20, d_H = 5, m = 1024, batch
    256, rate 0.05, steps 0 to 1000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield import random
from symfield.experiments import Cell, FieldError, Row, Study, Verdict, style, versioned
from symfield.ode import heun
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.wide import (
    Gaussian,
    Neurons,
    Radial,
    ReLUTeacher,
    closed_under,
    predict,
    preserved_symmetries,
    radial_flow,
    risk,
    sphere_angles,
    sphere_neurons,
    symmetry_error,
    wide_flow,
)

__all__ = ["STUDY", "Config", "figures", "run"]

SOURCE = "Hajjar & Chizat 2023, arXiv:2211.08771"
_DIRECTIONS = 64
_ANGLES = 200
_SHOWN = (0.0, 1.0, 5.0, 10.0, 50.0)


@dataclass(frozen=True)
class Config:
    """The published orthogonal dependence, and preservation beside it.

    Attributes:
        swap_dim: d of the networks with the swapped coordinates.
        targets: f* = |x₁| − |x₂| ("anti-symmetric") or |x₁| + |x₂| ("symmetric").
        widths: numbers of neurons m of random clouds; closed ones have the first m/2 of these and their images.
        steps: Heun steps.
        dt: length of a step, for all networks.
        dim: d of the radial target.
        subspace_dim: d_H.
        width: its number of neurons.
        horizon: its last time.
        radii: distances r off H.
        seeds: of the neurons.
        device: where to compute.
        dtype: precision.
    """

    swap_dim: int = 20
    targets: tuple[Literal["anti-symmetric", "symmetric"], ...] = ("anti-symmetric", "symmetric")
    widths: tuple[int, ...] = (32, 128, 512)
    steps: int = 200
    dt: float = 0.1
    dim: int = 20
    subspace_dim: int = 5
    width: int = 1024
    horizon: float = 50.0
    radii: tuple[float, ...] = (0.0, 1.25, 2.5, 3.75, 5.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        if not (self.targets and self.widths and self.radii and self.seeds):
            raise FieldError("expected at least one of targets, widths, radii and seeds, received none")
        if self.swap_dim < 2 or any(m < 2 or m % 2 for m in self.widths):
            raise FieldError(f"expected swap_dim >= 2 and even widths, received {self.swap_dim} and {self.widths}")
        if not 1 <= self.subspace_dim < self.dim or self.width < 1:
            raise FieldError(
                "expected 1 <= subspace_dim < dim and width >= 1, received "
                f"{self.subspace_dim}, {self.dim} and {self.width}"
            )
        if self.steps < 1 or not (0 < self.dt < math.inf and 0 < self.horizon < math.inf):
            raise FieldError(f"expected steps, dt and horizon > 0, received {self.steps}, {self.dt} and {self.horizon}")
        if not all(0 <= r < math.inf for r in self.radii):
            raise FieldError(f"expected finite radii >= 0, received {self.radii}")


@dataclass(frozen=True)
class Preservation:
    """Networks on a target with a swap, from random or closed clouds."""

    target: str
    start: str
    m: int
    dim: int
    steps: int
    dt: float
    seeds: tuple[int, ...]
    device: str
    dtype: str


@dataclass(frozen=True)
class Dependence:
    """Networks on ‖x_H‖, read off H."""

    dim: int
    subspace_dim: int
    width: int
    horizon: float
    dt: float
    radii: tuple[float, ...]
    seeds: tuple[int, ...]
    device: str
    dtype: str


def _cloud(m: int, dim: int, seeds: Sequence[int], like: Tensor) -> Neurons:
    """One random cloud a seed, as runs."""
    clouds = [sphere_neurons(m, dim, generator=random.generator(seed), like=like) for seed in seeds]
    return Neurons(torch.stack([one.a for one in clouds]), torch.stack([one.b for one in clouds]))


@versioned(1)
def preservation(cell: Preservation) -> list[Row]:
    """Symmetry errors along the flow.

    Args:
        cell: the setting.

    Returns:
        Rows ``seed, t, predictor, cloud, risk``: errors relative to |f*| and to the largest neuron.
    """
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    axes = torch.eye(cell.dim).to(like)
    second = -1.0 if cell.target == "anti-symmetric" else 1.0
    target = ReLUTeacher.absolute_values(torch.tensor([1.0, second]).to(like), axes[:2])
    inputs = Gaussian(cell.dim)
    swap = axes[[1, 0, *range(2, cell.dim)]]
    found = preserved_symmetries(target, inputs, swap[None])
    ((sign, matrix),) = found.maps
    with one_thread():
        if cell.start == "closed":
            start = closed_under(_cloud(cell.m // 2, cell.dim, cell.seeds, like), found)
        else:
            start = _cloud(cell.m, cell.dim, cell.seeds, like)
        times = [cell.dt * k for k in sorted({round(k * cell.steps / 20) for k in range(21)})]
        path = wide_flow(start, target, inputs, times=times, method=heun(cell.dt))
        error = symmetry_error(path.neurons, matrix, sign=sign, inputs=inputs)
        risks = risk(path.neurons, target, inputs)
    size = (path.neurons.a.square() + path.neurons.b.square().sum(-1)).sqrt().amax(-1)
    columns = {"predictor": error.predictor / target.energy(inputs) ** 0.5, "cloud": error.cloud / size, "risk": risks}
    return [
        {"seed": seed, "t": t, **{name: float(values[k, r]) for name, values in columns.items()}}
        for k, t in enumerate(path.times.tolist())
        for r, seed in enumerate(cell.seeds)
    ]


@versioned(1)
def dependence(cell: Dependence) -> list[Row]:
    """The network at u_H + r e_⊥ along the flow, and the infinitely wide one.

    Args:
        cell: the setting.

    Returns:
        Rows ``seed, t, r, value``; ``seed`` is −1 for the infinitely wide network.
    """
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    dim, dim_h = cell.dim, cell.subspace_dim
    target, inputs = Radial(dim, dim_h), Gaussian(dim)
    draw = random.normal((_DIRECTIONS, dim), generator=random.generator(0), like=like)
    inside, outside = torch.zeros_like(draw), torch.zeros_like(draw)
    inside[:, :dim_h] = torch.nn.functional.normalize(draw[:, :dim_h], dim=-1)
    outside[:, dim_h:] = torch.nn.functional.normalize(draw[:, dim_h:], dim=-1)
    radii = sorted({*cell.radii, *np.linspace(0, max(cell.radii), 21).round(6).tolist()})
    x = inside + torch.tensor(radii).to(like)[:, None, None] * outside
    early = np.arange(0, 10, 0.5).tolist()
    times = sorted({t for t in [*early, *np.arange(10, cell.horizon, 2).tolist(), *_SHOWN] if t < cell.horizon})
    times.append(cell.horizon)
    with one_thread():
        path = wide_flow(_cloud(cell.width, dim, cell.seeds, like), target, inputs, times=times, method=heun(cell.dt))
        values = predict(path.neurons, x).mean(-1)
        limit = radial_flow(sphere_angles(_ANGLES, dim, dim_h), target, inputs, times=times)
        infinite = torch.stack([limit.clouds[k].predict(x[:, 0].double().cpu(), dim_h) for k in range(len(times))])
    rows: list[Row] = []
    for k, t in enumerate(times):
        for j, r in enumerate(radii):
            rows.append({"seed": -1, "t": t, "r": r, "value": float(infinite[k, j])})
            rows += [
                {"seed": seed, "t": t, "r": r, "value": float(values[k, i, j])} for i, seed in enumerate(cell.seeds)
            ]
    return rows


def cells(config: Config) -> list[Cell]:
    """Preservation for every target, start and width, and the orthogonal dependence.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    kept = [
        Cell(
            preservation,
            Preservation(
                target=target, start=start, m=m, dim=config.swap_dim, steps=config.steps, dt=config.dt,
                seeds=config.seeds, device=config.device, dtype=config.dtype,
            ),
            cost=2 * m**2 * len(config.seeds) * config.steps,
        )
        for target in config.targets
        for start in ("closed", "random")
        for m in config.widths
    ]  # fmt: skip
    seeds = config.seeds[:2]
    seen = Dependence(
        dim=config.dim, subspace_dim=config.subspace_dim, width=config.width, horizon=config.horizon, dt=config.dt,
        radii=config.radii, seeds=seeds, device=config.device, dtype=config.dtype,
    )  # fmt: skip
    return [*kept, Cell(dependence, seen, cost=2 * config.width**2 * len(seeds) * config.horizon / config.dt)]


def _swaps(rows: DataFrame) -> DataFrame:
    return rows[rows["predictor"].notna()]


def _off_subspace(rows: DataFrame) -> DataFrame:
    return rows[rows["value"].notna()]


def errors_in_time(rows: DataFrame) -> Figure:
    """Distance of f∘T from ±f along the flow, from random clouds (solid) and closed ones (dotted); median, 10–90%."""
    part = _swaps(rows)
    targets = list(part["target"].unique())
    looks_of: dict[str, dict[str, Any]] = {"random": {"linestyle": "-"}, "closed": {"linestyle": ":", "label": "_"}}
    figure, axes = style.panels(1, len(targets), width=3.8, height=3.1)
    for panel, target in zip(axes[0], targets, strict=True):
        chosen = part[part["target"] == target]
        for start, looks in looks_of.items():
            shown = chosen[chosen["start"] == start].copy()
            shown["predictor"] = shown["predictor"].clip(lower=1e-17)
            shown["width"] = [f"m = {m:g}" for m in shown["m"]]
            style.band(panel, shown, "t", "predictor", "width", marker="", **looks)
        panel.set_yscale("log")
        panel.set(title=f"{target} target", xlabel="time t = step × rate")
    axes[0, 0].set_ylabel("‖f∘T − sf‖ / ‖f*‖")
    style.legend(figure, axes[0, 0])
    return figure


def errors_in_width(rows: DataFrame) -> Figure:
    """Largest distance of f∘T from ±f along the flow of random clouds against the number of neurons."""
    part = _swaps(rows)
    figure, axes = style.panels(width=4.4, height=3.2)
    panel = axes[0, 0]
    widths = sorted(part["m"].unique())
    style.band(panel, _largest(part[part["start"] == "random"]), "m", "predictor", "target")
    top = _largest(part[part["start"] == "random"])["predictor"].max()
    guide = [top * (widths[0] / m) ** 0.5 for m in widths]
    panel.plot(widths, guide, color="#9aa1a9", linestyle="--", linewidth=1.2, label="slope −1/2")
    style.loglog(panel, at=widths)
    panel.set(xlabel="neurons m", ylabel="largest ‖f∘T − sf‖ / ‖f*‖")
    style.legend(figure, panel)
    return figure


def off_subspace(rows: DataFrame) -> Figure:
    """The network at distance r from H, against r and in time: lines for infinite width, dots for the mean network."""
    part = _off_subspace(rows)
    figure, axes = style.panels(1, 2, width=4.3, height=3.3, share=False)
    times = [t for t in _SHOWN if t in set(part["t"])]
    across = part[part["t"].isin(times)].assign(label=lambda p: [f"t = {t:g}" for t in p["t"]])
    radii = _marked(part)
    along = part[part["r"].isin(radii)].assign(label=lambda p: [f"r = {r:g}" for r in p["r"]])
    for panel, shown, x in ((axes[0, 0], across, "r"), (axes[0, 1], along, "t")):
        shades = style.colours(list(shown["label"].unique()))
        for label, curve in shown.groupby("label", sort=False):
            limit = curve[curve["seed"] < 0].sort_values(x)
            mean = curve[curve["seed"] >= 0].groupby(x)["value"].mean()
            panel.plot(limit[x], limit["value"], color=shades[label], label=label)
            panel.plot(mean.index, mean, ".", color=shades[label], markersize=3.5)
        panel.axhline(1, color="#22262b", linestyle=":", linewidth=1.2)
        panel.legend(fontsize=8)
    axes[0, 0].set(xlabel="distance r from H", ylabel="f($u_H$ + r $e_⊥$)")
    axes[0, 1].set(xlabel="time t = step × rate", xscale="asinh", xlim=(0, part["t"].max()))
    marks = [t for t in (0, 1, 2, 5, 10, 20, 50) if t <= part["t"].max()]
    axes[0, 1].set_xticks(marks, [str(t) for t in marks])
    axes[0, 1].set_xticks([], minor=True)
    return figure


def _marked(part: DataFrame) -> list[float]:
    """Five radii across the range."""
    known = np.array(sorted(part["r"].unique()))
    return sorted({float(known[np.abs(known - wanted).argmin()]) for wanted in np.linspace(0, known.max(), 5)})


def _largest(part: DataFrame) -> DataFrame:
    """Largest errors in time of every run."""
    return part.groupby(["target", "start", "m", "seed"], as_index=False)[["predictor", "cloud"]].max()


def table(rows: DataFrame) -> DataFrame:
    """f(u_H + r e_⊥) by distance r (rows) and time (columns): mean of the networks, and the infinitely wide one."""
    part = _off_subspace(rows)
    shown = part[part["r"].isin(_marked(part)) & part["t"].isin([*_SHOWN, part["t"].max()])]
    named = shown.assign(network=["infinite" if seed < 0 else "finite" for seed in shown["seed"]])
    wide = named.pivot_table(index=["network", "r"], columns="t", values="value", aggfunc="mean")
    return wide.reset_index().rename(columns=str)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the claims.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; those that need the published sizes are "not tested" below them.
    """
    largest = _largest(_swaps(rows))
    found = []
    for target in config.targets:
        claim = (
            f"{target} target: a closed cloud stays closed, largest error of cloud and of f over {config.steps} steps"
        )
        closed = largest[(largest["target"] == target) & (largest["start"] == "closed")]
        found.append(
            Verdict.at_most(claim, closed[["predictor", "cloud"]].to_numpy().max(), 1e-12, source=SOURCE)
            if config.dtype == "float64"
            else Verdict.not_tested(claim, "needs float64", source=SOURCE)
        )
        claim = f"{target} target: random clouds deviate by m^(−1/2), slope in logarithms"
        free = largest[(largest["target"] == target) & (largest["start"] == "random")]
        means = np.log(free["predictor"]).groupby(free["m"]).mean()
        if len(config.seeds) < 4 or max(config.widths) < 8 * min(config.widths):
            found.append(
                Verdict.not_tested(claim, "needs 4 seeds and widths a factor 8 apart", source="law of large numbers")
            )
        else:
            slope = np.polyfit(np.log(means.index.to_numpy(float)), means.to_numpy(), 1)[0]
            found.append(Verdict.close(claim, slope, -0.5, 0.15, source="law of large numbers"))
    return [*found, *_dependence_verdicts(_off_subspace(rows), config)]


def _dependence_verdicts(part: DataFrame, config: Config) -> list[Verdict]:
    limit = part[part["seed"] < 0]
    mean = part[part["seed"] >= 0].groupby(["t", "r"])["value"].mean()
    gap = float((mean - limit.set_index(["t", "r"])["value"]).abs().max())
    claim = f"m = {config.width} neurons are near the infinitely wide network at all t and r: largest difference"
    found = [
        Verdict.at_most(claim, gap, 0.1, source="reduced flow of one angle a neuron")
        if config.width >= 512
        else Verdict.not_tested(claim, "needs 512 neurons", source="reduced flow of one angle a neuron")
    ]
    source = f"{SOURCE}, figures of the orthogonal dependence (m = 1024, SGD)"
    if _is_published(config):
        far = mean.xs(5.0, level="r")
        times, values = far.index.to_numpy(float), far.to_numpy(float)
        found += [
            Verdict.close("at r = 5 the network overshoots: largest value", values.max(), 2.06, 0.12, source=source),
            Verdict.close("at r = 5 it is largest at time", times[values.argmax()], 3.25, 0.8, source=source),
            Verdict.close("at r = 5 it flattens: value at t = 50", values[-1], 1.13, 0.05, source=source),
        ]
    else:
        why = "needs d = 20, d_H = 5, 512 neurons, r = 5 and t = 50"
        found.append(Verdict.not_tested("the network overshoots off H and then flattens", why, source=source))
    return found


def _is_published(config: Config) -> bool:
    sizes = (config.dim, config.subspace_dim, max(config.radii), config.horizon)
    return sizes == (20, 5, 5.0, 50.0) and config.width >= 512


figures = {"errors_in_time": errors_in_time, "errors_in_width": errors_in_width, "off_subspace": off_subspace}
STUDY = Study(
    name="hajjar2023_symmetry",
    claim=(
        "Clouds of neurons closed under a symmetry of the target stay closed along the flow, random ones up to"
        " m^(−1/2); off a low-dimensional target's subspace the network first overshoots and then flattens."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {
            "swap_dim": 6, "widths": (16, 128), "steps": 20, "dim": 8, "subspace_dim": 2, "width": 64, "horizon": 5.0,
            "seeds": (0, 1, 2, 3, 4, 5),
        },
        "quick": {"swap_dim": 10, "widths": (32, 256), "width": 512},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"off_subspace": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
