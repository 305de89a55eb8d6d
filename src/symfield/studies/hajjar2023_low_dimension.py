"""Targets of a few coordinates: neurons turn to them. The reduced flows of Hajjar & Chizat (2023).

For f*(x) = ‖x_H‖ the infinitely wide network is a signed measure τ = τ⁺ − τ⁻ on the angle θ with H. The study follows
it: histograms of both signs, masses beside α (the mass on H that represents ‖x_H‖), distances to the Dirac measures,
and final masses over d_H. Beyond the published experiments it measures how full networks in R^d approach the reduced
flow as their width grows, and does the same for |x_1| + |x_2| and relu(x_1), where neurons are points (a, b_H, ρ).

What differs from the paper's code: the averaged kernel is exact to 1e-12 instead of drawn anew from 1000 samples at
every step, initial angles are quantiles of their law instead of draws, and steps are adaptive. So the curves have no
noise; and the risk at t = 100 is 7e-5 (2.4e-6 for inputs on the unit sphere), where the published validation loss had a
plateau at 0.0118 from Monte Carlo. The published masses over d_H agree with those of 2000 steps (t = 10) here, although
that notebook's header says 20000.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771, and
    its code github.com/karl-hajjar/learning-structure (notebook 1d-simulation-jax: d = 30, d_H = 5, m = 1024, 1000
    samples a step, rate 5e-3, 2·10⁴ steps, histograms at steps 0, 100, 10³, 10⁴, 2·10⁴; sweep over d_H at d = 40).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, Verdict, style
from symfield.studies._hajjar2023_low_dimension_cells import Angles, Full, Other, angles, full, other
from symfield.studies._hajjar2023_low_dimension_verdicts import AUTHORS, CODE, claims, curve, gaps

__all__ = ["STUDY", "Config", "figures", "run"]

_INK, _GREY = "#22262b", "#9aa1a9"
_MARKS = (1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Config:
    """The published reduced flow, and full networks beside it.

    Attributes:
        dim: d.
        subspace_dim: d_H of the histograms, masses and distances.
        angles: number of angles of each sign.
        horizon: last time of the flows on one angle.
        points: recorded times.
        histograms: times of the histograms.
        aligned: d_H for the alignment with H.
        sweep_dim: d of the sweep over d_H.
        sweep: d_H of the sweep.
        sweep_time: time of its masses.
        widths: numbers of neurons of full networks for ‖x_H‖.
        full_times: their recorded times.
        functions: other functions of x_H.
        other_dim: d for them.
        other_width: number of neurons of full networks for them.
        other_reduced: number of reduced neurons for them.
        other_horizon: last time for them.
        seeds: of full networks.
        device: where full networks are.
        dtype: precision of full networks; the reduced flows are in float64.
    """

    dim: int = 30
    subspace_dim: int = 5
    angles: int = 200
    horizon: float = 100.0
    points: int = 120
    histograms: tuple[float, ...] = (0.0, 0.5, 5.0, 50.0, 100.0)
    aligned: tuple[int, ...] = (1, 2, 5, 10)
    sweep_dim: int = 40
    sweep: tuple[int, ...] = (2, 5, 10, 20, 35)
    sweep_time: float = 10.0
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    full_times: tuple[float, ...] = (2.0, 5.0)
    functions: tuple[Literal["|x1| + |x2|", "relu(x1)"], ...] = ("|x1| + |x2|", "relu(x1)")
    other_dim: int = 20
    other_width: int = 256
    other_reduced: int = 400
    other_horizon: float = 20.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        if not all(1 <= h <= self.dim for h in (self.subspace_dim, *self.aligned)):
            raise FieldError(f"expected 1 <= d_H <= d = {self.dim}, received {self.subspace_dim} and {self.aligned}")
        if not all(1 <= h <= self.sweep_dim for h in self.sweep):
            raise FieldError(f"expected 1 <= d_H <= sweep_dim = {self.sweep_dim}, received {self.sweep}")
        if max(self.histograms) > self.horizon:
            raise FieldError(f"expected histograms up to the horizon {self.horizon:g}, received {self.histograms}")
        if any(m % 2 for m in self.widths) or self.other_width % 2 or self.other_reduced % 4:
            raise FieldError("expected even widths, and other_reduced a multiple of 4")


def cells(config: Config) -> Sequence[Cell]:
    """Flows on one angle, full networks for ‖x_H‖, and other functions.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    marks = tuple(t for t in _MARKS if t <= config.horizon)
    subspaces = dict.fromkeys((config.subspace_dim, *config.aligned))
    on_angles = [
        Angles(
            config.dim, subspace_dim, config.angles, config.horizon, config.points, marks,
            config.histograms if subspace_dim == config.subspace_dim else (),
        )
        for subspace_dim in subspaces
    ] + [
        Angles(config.sweep_dim, subspace_dim, config.angles, config.sweep_time, 20, (), ())
        for subspace_dim in config.sweep
        if config.sweep_dim != config.dim or subspace_dim not in subspaces
    ]  # fmt: skip
    networks = [
        Full(config.dim, config.subspace_dim, m, config.full_times, config.seeds, config.device, config.dtype)
        for m in config.widths
    ]
    others = [
        Other(
            name, config.other_dim, config.other_width, config.other_reduced, config.other_horizon, 20, config.seeds,
            config.device, config.dtype,
        )
        for name in config.functions
    ]  # fmt: skip
    return [
        *(Cell(angles, at) for at in on_angles),
        *(Cell(full, at, cost=1 + len(at.seeds) * at.m**2 / 1e6) for at in networks),
        *(Cell(other, at, cost=1 + at.reduced**2 * at.horizon / 1e5) for at in others),
    ]


def _main(rows: DataFrame) -> DataFrame:
    """The flow that has histograms."""
    part = rows[rows["kind"] == "histogram"].iloc[0]
    return curve(rows, int(part["dim"]), int(part["subspace_dim"]))


def histograms(rows: DataFrame) -> Figure:
    """Where the masses are: density of τ⁺ (top) and τ⁻ (bottom) over the angle with H, at several times."""
    part = rows[rows["kind"] == "histogram"]
    times = sorted(part["t"].unique())
    figure, axes = style.panels(2, len(times), width=1.9, height=1.9, share=False)
    shades = style.colours(["plus", "minus"])
    for line, (sign, name) in enumerate(((1, "plus"), (-1, "minus"))):
        for column, t in enumerate(times):
            panel, bins = axes[line, column], part[(part["sign"] == sign) & (part["t"] == t)]
            width = math.pi / 2 / len(bins)
            panel.bar(bins["angle"], bins["density"], width=width, color=shades[name], linewidth=0)
            panel.set_xticks([0, math.pi / 4, math.pi / 2], ["0", "π/4", "π/2"])
            panel.set_xlim(0, math.pi / 2)
            if line == 0:
                panel.set_title(f"t = {t:g}")
            else:
                panel.set_xlabel("angle with H")
    axes[0, 0].set_ylabel("τ⁺, mass per radian")
    axes[1, 0].set_ylabel("τ⁻, mass per radian")
    return figure


def masses(rows: DataFrame) -> Figure:
    """Masses of τ⁺ and τ⁻ over time, beside α (dashed), and the time t* at which τ⁺ first has more (dotted)."""
    path = _main(rows)
    figure, axes = style.panels(1, 2, width=3.7, height=2.9, share=False)
    shades = style.colours(["plus", "minus"])
    for panel, name, label in ((axes[0, 0], "plus", "τ⁺"), (axes[0, 1], "minus", "τ⁻")):
        panel.plot(path["t"], path[name], color=shades[name])
        _from_zero(panel, path["t"].max())
        panel.set(ylabel=f"mass of {label}", ylim=(0, None))
        _first(panel, path)
    axes[0, 0].axhline(path["alpha"].iloc[0], color=_GREY, linestyle="--", zorder=1)
    axes[0, 0].annotate("α", (0.05, path["alpha"].iloc[0]), xytext=(0, -4), textcoords="offset points", va="top")
    return figure


def distances(rows: DataFrame) -> Figure:
    """Distance from αδ₀: positions (left) and masses (right), on logarithmic scales; t* is dotted."""
    path = _main(rows)
    path = path[path["t"] > 0.05]
    figure, axes = style.panels(1, 2, width=3.9, height=3.1, share=False)
    shades = style.colours(["plus", "minus"])
    left, right = axes[0]
    left.plot(path["t"], path["to_subspace"], color=shades["plus"], label=r"$W_2(\tau^+, \delta_0)$")
    left.plot(path["t"], path["to_complement"], color=shades["minus"], label=r"$W_2(\tau^-, \delta_{\pi/2})$")
    right.plot(path["t"], (path["alpha"] - path["plus"]).abs(), color=shades["plus"], label="|α − mass of τ⁺|")
    right.plot(path["t"], path["minus"], color=shades["minus"], label="mass of τ⁻")
    right.plot(path["t"], path["risk"], color=_INK, linewidth=1.2, linestyle="-.", label="risk")
    left.set(xlabel="time t", ylabel="distance of the normalised measures (radians)")
    right.set(xlabel="time t", ylabel="mass; risk")
    for panel in (left, right):
        style.loglog(panel)
        _first(panel, path)
        panel.legend(loc="lower left")
    return figure


def dimensions(rows: DataFrame) -> Figure:
    """Masses over d_H: lines here, crosses by the authors' Monte-Carlo code (d = 40, t = 10), α dashed."""
    part = _sweep(rows)
    figure, axes = style.panels(1, 2, width=3.7, height=2.9, share=False)
    shades = style.colours(["plus", "minus"])
    dim, t = part["dim"].iloc[0], part["t"].iloc[0]
    for k, (panel, name, label) in enumerate(((axes[0, 0], "plus", "τ⁺"), (axes[0, 1], "minus", "τ⁻"))):
        panel.plot(part["subspace_dim"], part[name], color=shades[name], marker="o")
        if dim == 40 and t == 10:
            known = {h: AUTHORS[h][k] for h in part["subspace_dim"] if h in AUTHORS}
            panel.plot(list(known), list(known.values()), linestyle="", marker="x", markersize=8, color=_INK)
        panel.set(xlabel="dimension of H", ylabel=f"mass of {label} at t = {t:g}, d = {dim:.0f}", ylim=(0, None))
    axes[0, 0].plot(part["subspace_dim"], part["alpha"], color=_GREY, linestyle="--", zorder=1)
    return figure


def alignment(rows: DataFrame) -> Figure:
    """Neurons of positive sign turn to H: mean cos² of their angle with it, by mass, over time."""
    horizon = rows.loc[rows["kind"] == "curve", "horizon"].max()
    part = rows[(rows["kind"] == "curve") & (rows["horizon"] == horizon)]
    figure, axes = style.panels(width=5.0, height=3.2)
    panel = axes[0, 0]
    sizes = sorted(part["subspace_dim"].unique())
    for subspace_dim, shade in style.colours(sizes).items():
        path = part[part["subspace_dim"] == subspace_dim].sort_values("t")
        panel.plot(path["t"], path["alignment"], color=shade, label=f"$d_H$ = {subspace_dim:.0f}")
    _from_zero(panel, horizon)
    panel.set(ylabel="mean cos² of the angle of τ⁺ with H", ylim=(0, 1))
    panel.legend(loc="upper left")
    return figure


def width(rows: DataFrame) -> Figure:
    """Networks in R^d above their infinitely wide limit: relative gap of the risk, with the slope −1 (dashed)."""
    figure, axes = style.panels(width=4.6, height=3.2)
    panel, table = axes[0, 0], gaps(rows)
    for t, shade in style.colours(sorted(table["t"].unique())).items():
        part = table[table["t"] == t]
        panel.plot(part["m"], part["risk_gap"].abs(), color=shade, marker="o", label=f"t = {t:g}")
    ends = np.array([table["m"].min(), table["m"].max()], dtype=float)
    panel.plot(ends, 12 / ends, color=_GREY, linestyle="--", label="12/m", zorder=1)
    style.loglog(panel, at=sorted(table["m"].unique()))
    shown = [
        gap
        for gap in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
        if 0.8 * 12 / ends[1] < gap < 1.2 * table["risk_gap"].max()
    ]
    panel.set_yticks(shown, [f"{gap:.1%}" if gap < 0.01 else f"{gap:.0%}" for gap in shown])
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set(xlabel="number of neurons m", ylabel="(risk − limit) / limit, mean over seeds")
    panel.legend()
    return figure


def others(rows: DataFrame) -> Figure:
    """Other functions of x_H: risk and alignment of τ⁺, reduced flow (dashed) and networks in R^d (band of seeds)."""
    part = rows[rows["kind"] == "other"]
    names = list(part["function"].unique())
    figure, axes = style.panels(1, 2, width=4.0, height=3.1, share=False)
    for name, shade in style.colours(names).items():
        nets = part[(part["function"] == name) & (part["seed"] >= 0)]
        limit = part[(part["function"] == name) & (part["seed"] < 0)]
        for panel, column in ((axes[0, 0], "risk"), (axes[0, 1], "alignment")):
            style.band(panel, nets, "t", column, marker="", color=shade, label=f"{name}, m = {nets['m'].iloc[0]:.0f}")
            panel.plot(limit["t"], limit[column], color=_INK, linestyle="--", linewidth=1.2, zorder=5)
    axes[0, 0].plot([], [], color=_INK, linestyle="--", linewidth=1.2, label="reduced flow")
    style.loglog(axes[0, 0], x=False)
    axes[0, 0].set(xlabel="time t", ylabel="risk  ½E(f − f*)²")
    axes[0, 1].set(xlabel="time t", ylabel="mean cos² of the angle of τ⁺ with H", ylim=(0, 1))
    style.legend(figure, axes[0, 0])
    return figure


def _first(panel: Axes, path: DataFrame) -> None:
    crossing = float(path["crossing"].iloc[0])
    if math.isfinite(crossing):
        panel.axvline(crossing, color=_GREY, linestyle=":", zorder=1)
        panel.annotate(
            "t*", (crossing, 0.02), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
            va="bottom",
        )  # fmt: skip


def _from_zero(panel: Axes, horizon: float) -> None:
    """Time from 0 on, evenly in log(1 + t)."""
    panel.set_xscale("function", functions=(np.log1p, np.expm1))
    ticks = [t for t in (0, 1, 3, 10, 30, 100, 300, 1000) if t <= horizon]
    panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
    panel.set(xlabel="time t", xlim=(0, horizon))


def _sweep(rows: DataFrame) -> DataFrame:
    """The ends of the flows of the sweep: those with the shortest horizon."""
    part = rows[rows["kind"] == "curve"]
    part = part[part["horizon"] == part["horizon"].min()]
    return part[part["t"] == part["t"].max()].sort_values("subspace_dim")


def reduction(rows: DataFrame) -> DataFrame:
    """The flow for ‖x_H‖ on one angle: risk, masses, mean angle, distances and alignment."""
    path = _main(rows)
    columns = ["t", "risk", "plus", "minus", "mean_angle", "to_subspace", "to_complement", "alignment"]
    names = ["t", "risk", "τ⁺", "τ⁻", "mean θ of τ⁺", "W2(τ⁺, δ_0)", "W2(τ⁻, δ_{π/2})", "mean cos² of τ⁺"]
    chosen = path[path["t"].isin([0.0, *_MARKS, path["t"].max()])]
    return chosen[columns].set_axis(names, axis=1).reset_index(drop=True)


def final_masses(rows: DataFrame) -> DataFrame:
    """Masses over d_H at the end of the sweep, and by the authors' code (d = 40, t = 10)."""
    part = _sweep(rows)
    same = part["dim"].iloc[0] == 40 and part["t"].iloc[0] == 10
    known = [AUTHORS.get(h, (math.nan, math.nan)) if same else (math.nan, math.nan) for h in part["subspace_dim"]]
    return DataFrame(
        {
            "d_H": part["subspace_dim"].astype(int).to_numpy(), "α": part["alpha"].to_numpy(),
            "τ⁺": part["plus"].to_numpy(), "τ⁺ (authors)": [pair[0] for pair in known],
            "τ⁻": part["minus"].to_numpy(), "τ⁻ (authors)": [pair[1] for pair in known],
        }
    )  # fmt: skip


def networks(rows: DataFrame) -> DataFrame:
    """Full networks against their limit: relative gaps of risk and mass, gap of the mean angle; means over seeds."""
    table = gaps(rows)
    return table.assign(times=table["m"] * table["risk_gap"]).rename(
        columns={"risk_gap": "gap of risk", "plus_gap": "gap of τ⁺", "angle_gap": "gap of mean θ", "times": "m × gap"}
    )


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the claims.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts.
    """
    return claims(rows, config)


figures = {
    "histograms": histograms,
    "masses": masses,
    "distances": distances,
    "dimensions": dimensions,
    "alignment": alignment,
    "width": width,
    "others": others,
}
STUDY = Study(
    name="hajjar2023_low_dimension",
    claim=(
        "For a target of a few coordinates the infinitely wide network is a flow in few dimensions, which full networks"
        " approach as 1/m; neurons of positive sign turn to these coordinates, and the last of the way takes long."
    ),
    source=CODE,
    config=Config,
    presets={
        "tiny": {
            "angles": 40, "horizon": 10.0, "points": 30, "histograms": (0.0, 0.5, 5.0, 10.0), "aligned": (2, 5),
            "sweep": (2, 10), "sweep_time": 2.0, "widths": (32, 64), "full_times": (2.0,), "other_width": 64,
            "other_reduced": 40, "other_horizon": 2.0, "seeds": (0,),
        },
        "quick": {
            "widths": (128, 256, 512), "full_times": (2.0,), "functions": ("relu(x1)",), "other_reduced": 100,
            "seeds": (0, 1),
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"reduction": reduction, "final_masses": final_masses, "networks": networks},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
