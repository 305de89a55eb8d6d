"""Odd targets keep wide ReLU networks linear: the experiments of Hajjar & Chizat (2023) with f* = C Σ_k z_k x_k³.

Networks of several widths are trained by SGD on fresh samples, and compared with the infinitely wide network, which is
a linear predictor with a closed form. Beyond the published experiment: finite networks under the exact population flow,
so that their distance from linearity is not mixed with the noise of samples; networks closed under (a, b) ↦ (−a, −b),
which are exactly linear at any width; and the guaranteed bound under anisotropic inputs.

What differs from the paper's code: the distance from linearity |f_even|² and the validation loss are exact
expectations, not Monte-Carlo means, and every width is run from two seeds.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771, and
    its code github.com/karl-hajjar/learning-structure (notebook odd-target: d = 60, m = 10, 50, 128, 1024, batch 512,
    rate 0.01, 10⁴ steps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, Verdict, style
from symfield.studies._hajjar2023_odd import (
    ClosedCloud,
    InfiniteWidth,
    RandomCloud,
    Training,
    closed,
    exact,
    infinite,
    spread,
    train,
)
from symfield.studies._hajjar2023_odd_verdicts import PAPER, claims, peaks, published

__all__ = ["STUDY", "Config", "figures", "run"]

_INK, _GREY = "#22262b", "#9aa1a9"


@dataclass(frozen=True)
class Config:
    """The published setting, and the exact flows beside it.

    Attributes:
        dim: d of the networks trained by SGD.
        widths: their numbers of neurons.
        batch: samples in a step.
        rate: time in a step.
        steps: number of steps.
        points: recorded times of every curve.
        seeds: of neurons and samples.
        exact_dim: d of the random networks under the exact flow.
        exact_widths: their numbers of neurons.
        exact_horizon: their last time.
        exact_seeds: of their neurons.
        spread: how many seeds show the spread of the greatest |f_even|², exact flow, for widths up to 64 in R^dim.
        closed_dim: d of the closed networks and of the anisotropic bounds.
        closed_width: number of neurons of the closed networks.
        closed_horizon: their last time.
        conditions: λ_max/λ_min of the diagonal covariances, whose trace is one.
        device: where to train.
        dtype: precision of training; everything else is in float64.
    """

    dim: int = 60
    widths: tuple[int, ...] = (10, 50, 128, 1024)
    batch: int = 512
    rate: float = 0.01
    steps: int = 10_000
    points: int = 50
    seeds: tuple[int, ...] = (0, 1)
    exact_dim: int = 20
    exact_widths: tuple[int, ...] = (32, 128, 512)
    exact_horizon: float = 60.0
    exact_seeds: tuple[int, ...] = (0, 1, 2)
    spread: int = 60
    closed_dim: int = 10
    closed_width: int = 40
    closed_horizon: float = 80.0
    conditions: tuple[float, ...] = (1.0, 3.0, 5.0)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if not (self.widths and self.exact_widths and self.conditions and self.seeds and self.exact_seeds):
            raise FieldError("expected at least one width, condition and seed of each kind")
        if min(self.widths + self.exact_widths + (self.dim, self.exact_dim, self.batch, self.points)) < 1:
            raise FieldError("expected positive sizes")
        if self.steps % self.points:
            raise FieldError(f"expected points to divide steps, received {self.points} and {self.steps}")
        if self.closed_width < 2 or self.closed_width % 2:
            raise FieldError(f"expected an even closed_width, received {self.closed_width}")
        if min(self.conditions) < 1:
            raise FieldError(f"expected conditions >= 1, received {self.conditions}")


def cells(config: Config) -> Sequence[Cell]:
    """The infinite width, closed and random networks under the exact flow, and SGD.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    horizon, points = config.steps * config.rate, config.points
    wide = [InfiniteWidth(config.dim, 1.0, horizon, points)]
    if config.exact_dim != config.dim:
        wide.append(InfiniteWidth(config.exact_dim, 1.0, config.exact_horizon, points))
    wide += [
        InfiniteWidth(config.closed_dim, condition, config.closed_horizon, points)
        for condition in config.conditions
        if (config.closed_dim, condition) not in {(at.dim, at.condition) for at in wide}
    ]
    paired = [
        ClosedCloud(config.closed_dim, config.closed_width, condition, config.closed_horizon, points, seed=0)
        for condition in config.conditions
    ]
    free = [
        RandomCloud(config.exact_dim, m, config.exact_horizon, points, 0.2, config.exact_seeds)
        for m in config.exact_widths
    ]
    scattered = [
        RandomCloud(config.dim, m, horizon, points // 2, 0.5, tuple(range(config.spread)))
        for m in config.widths
        if m <= 64 and config.spread
    ]
    trained = [
        Training(
            config.dim, m, config.batch, config.rate, config.steps, points, config.seeds, config.device, config.dtype
        )
        for m in config.widths
    ]
    return [
        *(Cell(infinite, at) for at in wide),
        *(Cell(closed, at, cost=5.0) for at in paired),
        *(Cell(exact, at, cost=1 + at.m**2 / 5000) for at in free),
        *(Cell(spread, at, cost=1 + at.m**2 / 500) for at in scattered),
        *(Cell(train, at, cost=at.steps * (1 + at.m * at.batch * at.dim / 1e6) / 500) for at in trained),
    ]


def _named(trained: DataFrame) -> DataFrame:
    return trained.assign(width=[f"m = {m:.0f}" for m in trained["m"]])


def _wide(axes: Axes, wide: DataFrame, column: str) -> None:
    axes.plot(wide["t"], wide[column], color=_INK, linestyle="--", linewidth=1.5, label="infinite width", zorder=5)


def loss(rows: DataFrame) -> Figure:
    """Exact validation loss of SGD-trained networks, the infinite width, and the floor of all linear predictors."""
    trained, wide = published(rows)
    figure, axes = style.panels(width=5.6, height=3.4)
    panel = axes[0, 0]
    style.band(panel, _named(trained), "t", "risk", "width", marker="")
    _wide(panel, wide, "risk")
    panel.axhline(float(wide["floor"].iloc[0]), color=_GREY, linestyle=":", label="best linear predictor")
    panel.set(xlabel="time (steps × rate)", ylabel="risk  ½E(f − f*)²", ylim=(0, None))
    panel.legend(loc="upper right")
    return figure


def distance(rows: DataFrame) -> Figure:
    """Distance |w − w*| to the best linear predictor: SGD (down to its noise), infinite width, simple bound."""
    trained, wide = published(rows)
    figure, axes = style.panels(width=5.6, height=3.4)
    panel = axes[0, 0]
    style.band(panel, _named(trained), "t", "distance", "width", marker="")
    _wide(panel, wide, "distance")
    panel.plot(wide["t"], wide["simple"], color=_GREY, label="simple bound exp(−vVt/4)")
    style.loglog(panel, x=False)
    panel.set(xlabel="time (steps × rate)", ylabel="|w − w*| / |w*|", ylim=(max(1e-4, wide["distance"].min() / 2), 1.5))
    panel.legend(loc="lower left")
    return figure


def nonlinearity(rows: DataFrame) -> Figure:
    """How far networks are from linear, |f_even|² in L², by width: SGD (left), the exact flow (right)."""
    names = [(kind, title) for kind, title in (("SGD", "SGD"), ("exact", "exact flow")) if (rows["kind"] == kind).any()]
    figure, axes = style.panels(1, len(names), width=4.3, height=3.2, share=False)
    widths = sorted(rows.loc[rows["kind"].isin(["SGD", "exact"]), "m"].unique())
    labels = [f"m = {m:.0f}" for m in widths]
    for panel, (kind, title) in zip(axes[0], names, strict=True):
        part = _named(rows[rows["kind"] == kind])
        style.band(panel, part, "t", "nonlinearity", "width", order=labels, marker="")
        style.loglog(panel, x=False)
        low, high = part["nonlinearity"].min(), part["nonlinearity"].max()
        panel.set(xlabel="time", title=f"{title}, d = {part['dim'].iloc[0]:.0f}", ylim=(low / 8, 2 * high))
        panel.legend(loc="lower right", ncols=2)
    axes[0, 0].set_ylabel(r"squared nonlinearity $\mathbb{E}\,f_{\mathrm{even}}^2$")
    return figure


def widths(rows: DataFrame) -> Figure:
    """Greatest |f_even| over time against the width (each point a seed), with the slope −1/2 of independent neurons."""
    free = rows[rows["kind"].isin(["SGD", "exact"])]
    found = peaks(free)
    figure, axes = style.panels(width=5.0, height=3.3)
    panel = axes[0, 0]
    names = {"exact": "exact flow", "SGD": "SGD"}
    shades = style.colours(list(names))
    for kind, label in names.items():
        part = found[found["kind"] == kind]
        if len(part):
            panel.scatter(part["m"], part["peak"], s=22, color=shades[kind], alpha=0.7, linewidths=0, label=label)
    across = sorted(found["m"].unique())
    middle = float((found["peak"] * found["m"] ** 0.5).median())
    panel.plot(across, [middle / math.sqrt(m) for m in across], color=_GREY, linestyle=":", label="∝ 1/√m")
    style.loglog(panel, at=across)
    decades = [
        10 ** edge(math.log10(found["peak"].agg(least))) for edge, least in ((math.floor, "min"), (math.ceil, "max"))
    ]
    panel.set(xlabel="width m", ylabel=r"greatest $|f_{\mathrm{even}}|$ over time, in $L^2$", ylim=decades)
    style.legend(figure, panel)
    return figure


def bounds(rows: DataFrame) -> Figure:
    """Excess risk and its guaranteed bounds for anisotropic inputs, at infinite width and for a closed network."""
    finite = rows[rows["kind"] == "closed"]
    conditions = sorted(finite["condition"].unique())
    figure, axes = style.panels(1, len(conditions), width=3.1, height=3.1)
    for panel, condition in zip(axes[0], conditions, strict=True):
        cloud = finite[finite["condition"] == condition]
        dim = cloud["dim"].iloc[0]
        wide = rows[(rows["kind"] == "infinite") & (rows["condition"] == condition) & (rows["dim"] == dim)]
        wide = wide[wide["t"] <= cloud["t"].max()]
        panel.plot(wide["t"], wide["bound"], color="#d1495b", label="guaranteed")
        panel.plot(wide["t"], wide["sharp_bound"], color="#e08e2b", linestyle=":", label="tighter bound")
        panel.plot(wide["t"], wide["excess"], color=_INK, linestyle="--", label="infinite width", zorder=5)
        panel.plot(cloud["t"], cloud["excess"], color="#2e7cbf", label=f"closed, m = {cloud['m'].iloc[0]:.0f}")
        style.loglog(panel, x=False)
        panel.set(xlabel="time", title=rf"$\lambda_{{\max}}/\lambda_{{\min}} = {condition:g}$")
    lowest = rows.loc[rows["kind"] == "closed", "excess"].min()
    axes[0, 0].set_ylim(max(lowest / 5, 1e-12), 3)
    axes[0, 0].set_ylabel("excess risk / its start")
    style.legend(figure, axes[0, 0])
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Networks against infinite width: greatest deviation of |w − w*|/|w*|, last risk, greatest |f_even|² (means)."""
    free = rows[rows["kind"].isin(["SGD", "exact"])]
    each = free.groupby(["kind", "dim", "m", "seed"], sort=True).agg(
        deviation=("deviation", "max"), risk=("risk", "last"), nonlinearity=("nonlinearity", "max")
    )
    return each.groupby(["kind", "dim", "m"]).mean().reset_index()


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """The reduction, the closed form, the rates and bounds, and the effect of the width.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; what a small preset cannot tell is not tested.
    """
    return claims(rows, batch=config.batch)


figures = {"loss": loss, "distance": distance, "nonlinearity": nonlinearity, "widths": widths, "bounds": bounds}
STUDY = Study(
    name="hajjar2023_odd_target",
    claim=(
        "On an odd target a wide two-layer ReLU network stays linear, its predictor follows a closed flow, and it finds"
        " the best linear predictor exponentially fast."
    ),
    source=f"{PAPER}, experiments with odd targets",
    config=Config,
    presets={
        "tiny": {
            "dim": 10, "widths": (8, 64), "batch": 64, "rate": 0.02, "steps": 1500, "points": 20, "exact_dim": 10,
            "exact_widths": (16, 64), "exact_horizon": 30.0, "closed_width": 20, "closed_horizon": 20.0,
            "conditions": (1.0, 5.0), "spread": 0,
        },
        "quick": {
            "dim": 20, "widths": (10, 50, 256), "batch": 256, "steps": 6000, "exact_widths": (32, 128), "spread": 0,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"networks": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
