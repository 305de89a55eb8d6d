"""Large N or small steps? Width, step and batch varied one at a time (not in the paper).

From an SI law with an equivariant teacher the mean gradient off E^G is exactly zero, so what drives free SGD out of E^G
is the noise of its batches: RMD²(ν, ν^E) ∝ ε/B at *any* width. The paper's Figure 1 uses ε_N = 1/N, which confounds
the two: here N, ε and B vary independently at the same horizon.

What differs from the paper: this study is ours; its setting (teacher, inputs, τ, β, rate, horizon) is the paper's.
A few seeds at N = 5 have a transversally unstable E^G and saturate; medians over seeds are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from symfield.experiments import Cell, Study, Verdict, style
from symfield.studies._maass2024 import SOURCE, Training, check_setting, train
from symfield.studies._maass2024_plots import slope

__all__ = ["STUDY", "Config", "figures", "run"]


@dataclass(frozen=True)
class Config:
    """Four sweeps through one setting; the defaults are the widths, steps and batches of the full study.

    Attributes:
        teacher: an equivariant teacher.
        sizes: widths N of the two sweeps in N.
        fixed_step: ε of the sweep in N at a fixed step.
        steps: steps ε of the sweep at N = ``narrow``.
        narrow: N of the sweep in ε.
        batches: batches B of the sweep at N = ``middle``, ε = 1/N.
        middle: N of the sweep in B.
        seeds: replicates.
        rate: ς.
        horizon: T in macroscopic time.
        batch: B where it is not swept.
        tau: weight of ‖z‖².
        beta: entropy weight; the noise is projected on E^G.
        device: where to train.
        dtype: precision of training.
    """

    teacher: Literal["WI", "SI"] = "WI"
    sizes: tuple[int, ...] = (5, 50, 100, 500, 1000)
    fixed_step: float = 1e-3
    steps: tuple[float, ...] = (1 / 50, 1 / 500, 1 / 5000, 1 / 50000)
    narrow: int = 5
    batches: tuple[int, ...] = (5, 20, 80, 320)
    middle: int = 100
    seeds: tuple[int, ...] = tuple(range(10))
    rate: float = 50.0
    horizon: float = 20.0
    batch: int = 20
    tau: float = 1e-4
    beta: float = 1e-6
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        check_setting(self)


def cells(config: Config) -> Sequence[Cell]:
    """The distinct points of the four sweeps.

    Args:
        config: the sweeps.

    Returns:
        One bundle of runs for every point; a point of two sweeps is computed once.
    """
    points = [(n, 1 / n, config.batch) for n in config.sizes]
    points += [(n, config.fixed_step, config.batch) for n in config.sizes]
    points += [(config.narrow, step, config.batch) for step in config.steps]
    points += [(config.middle, 1 / config.middle, batch) for batch in config.batches]
    return [
        Cell(
            train,
            Training(
                teacher=config.teacher, init="SI", n=n, seeds=config.seeds, schemes=("V",), epsilon=epsilon,
                batch=batch, noise="projected", rate=config.rate, horizon=config.horizon, tau=config.tau,
                beta=config.beta, loss_scale=1.0, input_std=4.0, points=100, device=config.device, dtype=config.dtype,
            ),
            cost=(200 + n * batch / 20) / epsilon,
        )
        for n, epsilon, batch in dict.fromkeys(points)
    ]  # fmt: skip


def _distances(rows: DataFrame) -> DataFrame:
    kept = rows[rows["quantity"] == "rmd2_fixed"]
    return kept.assign(law=np.where(np.isclose(kept["epsilon"] * kept["n"], 1), "ε = 1/N", "ε fixed"))


def _sweeps(rows: DataFrame) -> dict[str, DataFrame]:
    """The sweeps that are present, read off the rows: name to rows."""
    kept = _distances(rows)
    usual = kept["batch"].mode().iloc[0]
    many = kept[kept["batch"] == usual]
    widths = many.groupby("epsilon")["n"].nunique()
    fixed = float(widths.idxmax())
    narrow = many.groupby("n")["epsilon"].nunique().idxmax()
    middle = kept.groupby("n")["batch"].nunique().idxmax()
    return {
        "law": many[many["law"] == "ε = 1/N"],
        "fixed": many[np.isclose(many["epsilon"], fixed)].assign(law=f"ε = {fixed:g}"),
        "step": many[many["n"] == narrow],
        "batch": kept[(kept["n"] == middle) & (kept["law"] == "ε = 1/N")],
    }


def _guide(axes: Axes, medians: Series, power: float) -> None:
    """A dotted line of a given slope through the first median."""
    x, y = medians.index.to_numpy(float), medians.iloc[0]
    axes.plot(x, y * (x / x[0]) ** power, color="#7a6a5b", linestyle=":", linewidth=1.2, label=f"slope {power:+g}")


def one_at_a_time(rows: DataFrame) -> Figure:
    """RMD²(ν, Pν) of free SGD: it falls with ε and 1/B, not with N at a fixed step (median, 10–90% of the seeds)."""
    sweeps = _sweeps(rows)
    figure, axes = style.panels(1, 3, width=3.5, height=3.0, share=False)
    left, middle, right = axes[0]
    for name, shade in (("law", "#d1495b"), ("fixed", "#2e7cbf")):
        style.band(left, sweeps[name], "n", "value", color=shade, label=sweeps[name]["law"].iloc[0])
    style.band(middle, sweeps["step"], "epsilon", "value", color="#d1495b")
    style.band(right, sweeps["batch"], "batch", "value", color="#d1495b")
    for panel, column, name, power in ((middle, "epsilon", "step", 1.0), (right, "batch", "batch", -1.0)):
        by = sweeps[name].groupby(column)["value"].median().sort_index()
        _guide(panel, by, power)
    left.set(xlabel="width N", ylabel="RMD²(ν, Pν) to $E^G$", title="width, two step laws")
    middle.set(xlabel="step ε", title=f"step, N = {sweeps['step']['n'].iloc[0]}")
    right.set(xlabel="batch B", title=f"batch, N = {sweeps['batch']['n'].iloc[0]}")
    for panel in axes[0]:
        style.loglog(panel)
        panel.legend(loc="best", frameon=False)
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Median and range over seeds of RMD²(ν, Pν) by width, step and batch."""
    by = _distances(rows).groupby(["n", "epsilon", "batch"])["value"]
    return by.agg(median="median", least="min", largest="max", seeds="size").reset_index()


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What drives free SGD out of E^G.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts on slopes in ε and B and on the effect of N.
    """
    source = (
        f"derived here: the mean gradient off E^G vanishes at SI laws ({SOURCE}, Theorem 5), the rest is batch noise"
    )
    kept = _distances(rows)
    at = kept[kept["batch"] == config.batch]
    fixed = at[np.isclose(at["epsilon"], config.fixed_step)].groupby("n")["value"].median()
    narrow = at[at["n"] == config.narrow]
    narrow = narrow[[any(np.isclose(e, s) for s in config.steps) for e in narrow["epsilon"]]]
    steps = narrow.groupby("epsilon")["value"].median()
    middle = kept[(kept["n"] == config.middle) & np.isclose(kept["epsilon"], 1 / config.middle)]
    batches = middle.groupby("batch")["value"].median()
    law = at[np.isclose(at["epsilon"] * at["n"], 1) & (at["n"] >= 100)].groupby("n")["value"].median()

    def power(claim: str, values: Series, expected: float) -> Verdict:
        if len(values) < 2 or values.index.max() < 8 * values.index.min():
            return Verdict.not_tested(claim, "needs a range of a factor 8", source=source)
        return Verdict.close(claim, slope(values), expected, 0.35, source=source)

    effect = "at a fixed step the width has no effect: largest ratio of medians over N (at most 4)"
    return [
        power(f"RMD² ∝ ε at fixed N = {config.narrow}", steps, 1.0),
        power(f"RMD² ∝ 1/B at fixed N = {config.middle}", batches, -1.0),
        Verdict.at_most(effect, fixed.max() / fixed.min(), 4.0, source=source)
        if len(fixed) > 1 and fixed.index.max() >= 8 * fixed.index.min()
        else Verdict.not_tested(effect, "needs widths that differ by a factor 8", source=source),
        power("with ε = 1/N the same law reads as a decay in N, RMD² ∝ 1/N (N ≥ 100)", law, -1.0),
    ]


figures = {"one_at_a_time": one_at_a_time}
STUDY = Study(
    name="maass2024_step_or_width",
    claim=(
        "What pulls free SGD out of E^G is the noise of its batches, proportional to ε/B at any width: with the step"
        " law ε = 1/N, large N and small steps are confounded."
    ),
    source=f"{SOURCE}, Figure 1 re-examined",
    config=Config,
    presets={
        "tiny": {"sizes": (5, 50), "fixed_step": 2e-3, "steps": (1 / 50, 1 / 500), "batches": (20, 160),
                 "seeds": tuple(range(6))},
        "quick": {"sizes": (5, 50, 200), "fixed_step": 2e-3, "steps": (1 / 50, 1 / 500, 1 / 5000),
                  "seeds": tuple(range(8))},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"medians": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
