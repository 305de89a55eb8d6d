"""Strongly invariant laws can be strictly worse (Prop. 4): quarter turns of the plane, with the corrected constant.

G = C_4 turns the plane, units are W tanh(A·x + B), so that E^G = {A = 0} and every strongly invariant network is a
constant; the target ‖X‖² is invariant. Hence inf_SI R = Var(‖X‖²) = 0.0825544 while weakly invariant laws reach 0:

- *on paper*: the risk of an explicit WI law of five particles falls like ε⁴;
- *in training*: networks from a WI initial law pass the floor at every width. Networks from A = 0 stay there if every
  batch holds the full orbits of its samples (then their gradients are those of DA), and for good under EA.

**Correction.** The paper's proof takes C* = E‖X‖² = 0.1804 for a lower bound of the SI risk. That is where the minimum
over constants is attained; its value is Var(‖X‖²). The bound is false, the proposition holds.

**What Theorem 5 does not say.** E^G is unstable here. The theorem is about a fixed horizon and vanishing steps: plain
SGD from A = 0 has left E^G by an amount proportional to the step at a fixed early time, and at a fixed step it escapes
and learns. Even on orbit-closed batches round-off is amplified at the rate that the second variation predicts, from
1e-34 to order one within a few hundred units of time.

The paper's unit must be bounded (its Assumption 1); W tanh(·) is not in W, which a bounded reparametrisation of W
would mend without changing E^G. The paper trains nothing here; steps, widths and batch are ours.

References:
    Maass & Fontbona 2024, Proposition 4 and Appendix E.2.5, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, Study, Verdict, style
from symfield.studies import _maass2024_disc as disc
from symfield.studies._maass2024 import SOURCE
from symfield.studies._maass2024_disc_cells import (
    EA,
    PLAIN,
    STUCK,
    THEORY,
    WI,
    Early,
    Explicit,
    Inputs,
    Training,
    early,
    explicit,
    train,
)

__all__ = ["STUDY", "Config", "figures", "run", "verdicts"]

_SHADES = {WI: "#3a9d6e", PLAIN: "#d1495b", STUCK: "#2e7cbf", EA: "#8a5fbf", THEORY: "#22262b"}
_FLOOR = {"color": "#22262b", "linewidth": 1.1, "linestyle": (0, (4, 2))}
_STALL = 100.0
_Draw = Callable[[Axes, DataFrame, str], None]
_PROPOSITION, _THEOREM = f"{SOURCE}, Proposition 4", f"{SOURCE}, next to Theorem 5"


@dataclass(frozen=True)
class Config:
    """What to compute.

    Attributes:
        inputs: laws of X: clipped to the disc (the paper's), or conditioned on it.
        epsilons: lengths of A in the explicit WI law, decreasing.
        draws: size of a Monte-Carlo sample.
        trained: laws of X for the training runs.
        sizes: widths N.
        seeds: replicates.
        epsilon: step of the long runs.
        horizon: time of the long runs.
        batch: samples in a step.
        records: states looked at, after the first.
        early_seeds: replicates of the runs that vary the step.
        early_size: their width.
        early_steps: their steps.
        early_time: when they are looked at.
        device: where to train.
        dtype: the escape starts from round-off, so float64.
    """

    inputs: tuple[Inputs, ...] = ("clipped", "conditioned")
    epsilons: tuple[float, ...] = (1.0, 0.5, 0.3, 0.1)
    draws: int = 400_000
    trained: tuple[Inputs, ...] = ("clipped", "conditioned")
    sizes: tuple[int, ...] = (16, 64, 256)
    seeds: tuple[int, ...] = tuple(range(10))
    epsilon: float = 0.1
    horizon: float = 400.0
    batch: int = 20
    records: int = 80
    early_seeds: tuple[int, ...] = tuple(range(20))
    early_size: int = 64
    early_steps: tuple[float, ...] = (0.1, 0.05, 0.025, 0.0125)
    early_time: float = 10.0
    device: str = "cpu"
    dtype: Literal["float64"] = "float64"


def cells(config: Config) -> list[Cell]:
    """One cell for what needs no training, one for each width, one for each early step.

    Args:
        config: what to compute.

    Returns:
        The cells.
    """
    made = [Cell(explicit, Explicit(law, config.epsilons, config.draws, config.seeds)) for law in config.inputs]
    for law in config.trained:
        long = Training(
            inputs=law, n=0, seeds=config.seeds, epsilon=config.epsilon, horizon=config.horizon, batch=config.batch,
            records=config.records, device=config.device,
        )  # fmt: skip
        cost = 1e-7 * len(config.seeds) * config.horizon / config.epsilon * config.batch
        made += [Cell(train, replace(long, n=n), cost=cost * n) for n in config.sizes]
        made += [
            Cell(
                early,
                Early(law, config.early_size, config.early_seeds, step, config.early_time, config.batch, config.device),
                cost=0.2,
            )
            for step in config.early_steps
        ]
    return made


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of Proposition 4, of the correction, and of Theorem 5 where E^G is unstable.

    Args:
        rows: all rows.
        config: what was computed.

    Returns:
        The verdicts.
    """
    found = []
    for law in config.inputs:
        found += _on_paper(rows[rows["inputs"] == law], law)
    for law in config.trained:
        found += _in_training(rows[rows["inputs"] == law], law)
    return found


def _values(rows: DataFrame, quantity: str, **where: object) -> pd.Series:
    """The values of a quantity, restricted to given values of other columns."""
    keep = rows["quantity"] == quantity
    for column, wanted in where.items():
        keep &= rows[column] == wanted
    return rows.loc[keep, "value"]


def _on_paper(rows: DataFrame, law: str) -> list[Verdict]:
    floor, mean = (float(_values(rows, name).iloc[0]) for name in ("floor", "mean"))
    expected = {"clipped": 0.0825544, "conditioned": 0.0823019}[law]
    sampled = _values(rows, "sampled variance")
    error = float(_values(rows, "standard error").iloc[0]) / math.sqrt(len(sampled))
    risks = rows[rows["quantity"] == "WI risk"].sort_values("epsilon")
    best = risks.iloc[0]
    off = max(_worst(_values(rows, name)) for name in ("spread of an SI network", "SI risk off the parabola"))
    return [
        Verdict.close(f"X {law}: inf_SI R = Var(Y), in closed form", floor, expected, 1e-6, source=_PROPOSITION),
        Verdict.close(f"X {law}: Var(Y) by Monte Carlo", float(sampled.mean()), floor, 4 * error, source=_PROPOSITION),
        Verdict.at_most(
            f"X {law}: SI networks are constants c of risk Var(Y) + (c − E Y)²", off, 1e-12, source=_PROPOSITION
        ),
        Verdict.at_least(
            f"X {law}: C* = E Y, the bound in the paper's proof, lies above inf_SI R and is none: C* − inf_SI R",
            mean - floor, 0.09, source=f"correction to {_PROPOSITION}",
        ),
        Verdict.at_most(
            f"X {law}: the explicit law is WI (RMD to its symmetrised law)",
            _worst(_values(rows, "distance from WI")), 1e-12, source=_PROPOSITION,
        ),
        Verdict.at_most(
            f"X {law}: an explicit WI law (ε = {best['epsilon']:g}) has a ten-thousandth of the SI risk or less",
            best["value"], floor / 1e4, source=_PROPOSITION,
        ),
        _slope(
            f"X {law}: its risk falls like ε⁴ (slope)", risks.set_index("epsilon")["value"], 4.0, 0.1, _PROPOSITION
        ),
    ]  # fmt: skip


def _in_training(rows: DataFrame, law: str) -> list[Verdict]:
    floor = disc.moments(conditioned=law == "conditioned")[1]
    risk, off = rows[rows["quantity"] == "risk"], rows[rows["quantity"] == "off"]
    final = risk[risk["time"] == risk["time"].max()]
    least = risk[risk["scheme"] == EA]["value"].min()
    stuck = off[(off["scheme"] == STUCK) & (off["time"] <= _STALL)]
    found = [
        Verdict.at_least(
            f"X {law}: EA is never below the floor: least risk − floor", least - floor, -1e-12, source=_PROPOSITION
        ),
        Verdict.at_most(
            f"X {law}: on orbit-closed batches A = 0 stays (mean ‖A‖² up to t = {_STALL:g})",
            _worst(stuck["value"]), 1e-12, source=_THEOREM,
        ),
    ]  # fmt: skip
    for n, part in final.groupby("n"):
        free, plain = (part[part["scheme"] == scheme]["value"] for scheme in (WI, PLAIN))
        found += [
            Verdict.at_most(
                f"X {law}: a WI initial law ends at a tenth of the SI floor or less (N = {n:.0f}, worst seed)",
                _worst(free), floor / 10, source=_PROPOSITION,
            ),
            Verdict.at_most(
                f"X {law}: plain SGD from A = 0, fixed step, reaches half the floor or less (N = {n:.0f}, median)",
                float(plain.median()), floor / 2, source=_THEOREM,
            ),
        ]  # fmt: skip
        if n == 64 and final["time"].iloc[0] >= 300:
            claim = f"X {law}: a WI initial law reaches 0.002 (N = 64, worst seed)"
            found.append(Verdict.at_most(claim, _worst(free), 2e-3, source=_PROPOSITION))
    return found + _instability(rows, law)


def _instability(rows: DataFrame, law: str) -> list[Verdict]:
    predicted, measured, noise = (
        rows[rows["quantity"] == name].set_index(["n", "seed"])["value"]
        for name in ("predicted growth", "growth in the flow", "growth of round-off")
    )
    ratio = (noise / predicted).dropna()
    short = rows[rows["quantity"] == "early off"].groupby("epsilon")["value"].median()
    found = [
        Verdict.at_least(
            f"X {law}: E^G is unstable (least growth rate of mean ‖A‖²)", predicted.min(), 1e-3, source=_THEOREM
        ),
        Verdict.at_most(
            f"X {law}: the exact flow leaves E^G at the rate of the second variation (worst relative difference)",
            _worst((measured / predicted - 1).abs()), 1e-3, source=_THEOREM,
        ),
        _slope(
            f"X {law}: plain SGD is off E^G in proportion to the step at a fixed early time (slope)",
            short, 1.0, 0.35, _THEOREM,
        ),
    ]  # fmt: skip
    claim = f"X {law}: round-off on orbit-closed batches grows at that rate (median ratio)"
    if len(ratio):
        found.append(Verdict.close(claim, float(ratio.median()), 1.0, 0.25, source=_THEOREM))
    else:
        found.append(Verdict.not_tested(claim, "the runs are too short for round-off to grow", source=_THEOREM))
    return found


def _slope(claim: str, values: pd.Series, expected: float, tolerance: float, source: str) -> Verdict:
    """Compare the slope of the logarithm of values against that of their index."""
    if len(values) < 2:
        return Verdict.not_tested(claim, "one point has no slope", source=source)
    slope = np.polyfit(np.log(values.index), np.log(values), 1)[0]
    return Verdict.close(claim, float(slope), expected, tolerance, source=source)


def _worst(values: pd.Series) -> float:
    """The largest value; NaN if there is one."""
    return float(values.max(skipna=False))


def gap(rows: DataFrame) -> Figure:
    """Risk of the explicit WI law of five particles against the length ε of A, and the floor of all SI laws."""
    figure, axes = style.panels(width=4.6, height=3.2)
    axis = axes[0, 0]
    risks = rows[rows["quantity"] == "WI risk"]
    for law, part in risks.groupby("inputs", sort=False):
        axis.plot(part["epsilon"], part["value"], "o-", label=f"WI, X {law}")
    floor = rows[rows["quantity"] == "floor"]["value"].iloc[0]
    axis.axhline(floor, **_FLOOR, label="least risk of SI laws, Var(‖X‖²)")
    style.loglog(axis)
    axis.set_xticks(sorted(risks["epsilon"].unique()), [f"{value:g}" for value in sorted(risks["epsilon"].unique())])
    axis.set(xlabel="ε = ‖A‖", ylabel="population risk")
    axis.legend(loc="lower right")
    return figure


def risk(rows: DataFrame) -> Figure:
    """Population risk in training (median, and 10% to 90% of the seeds) against time, and the floor of all SI laws."""
    return _against_time(rows, "risk", (WI, PLAIN, STUCK, EA), "population risk", _band)


def escape(rows: DataFrame) -> Figure:
    """Distance from E^G in training from A = 0, one line a seed: noise of plain SGD grows, and so does round-off."""
    return _against_time(rows, "off", (PLAIN, STUCK, THEORY), "mean ‖A‖²", _lines)


def _against_time(rows: DataFrame, quantity: str, schemes: tuple[str, ...], label: str, draw: _Draw) -> Figure:
    """A panel for each law of X and width; ``draw`` puts one scheme into it."""
    trained = rows[rows["quantity"] == quantity]
    laws, sizes = list(trained["inputs"].unique()), sorted(trained["n"].dropna().unique())
    figure, axes = style.panels(len(laws), len(sizes), width=3.3, height=2.6)
    for i, law in enumerate(laws):
        floor = rows[(rows["quantity"] == "floor") & (rows["inputs"] == law)]["value"]
        for j, n in enumerate(sizes):
            axis, part = axes[i, j], trained[(trained["inputs"] == law) & (trained["n"] == n)]
            for scheme in schemes:
                draw(axis, part[(part["scheme"] == scheme) & (part["value"] > 0)], scheme)
            if quantity == "risk" and len(floor):
                axis.axhline(floor.iloc[0], **_FLOOR, label="least risk of SI laws")
            style.loglog(axis, x=False)
            axis.set_title(f"N = {n:.0f}" + (f", X {law}" if len(laws) > 1 else ""))
            if i == len(laws) - 1:
                axis.set_xlabel("time t")
            if j == 0:
                axis.set_ylabel(label)
    style.legend(figure, axes[0, 0])
    return figure


def _band(axis: Axes, part: DataFrame, scheme: str) -> None:
    look: dict[str, dict[str, Any]] = {
        STUCK: {"linewidth": 3.4, "alpha": 0.5},
        EA: {"linestyle": (0, (1, 1.2)), "zorder": 3},
    }
    extra = look.get(scheme, {})
    style.band(axis, part, "time", "value", marker=None, color=_SHADES[scheme], label=scheme, **extra)


def _lines(axis: Axes, part: DataFrame, scheme: str) -> None:
    thin = {"linewidth": 0.8, "linestyle": (0, (4, 2))} if scheme == THEORY else {"linewidth": 1.3, "alpha": 0.75}
    for index, (_, line) in enumerate(part.groupby("seed")):
        axis.plot(line["time"], line["value"], color=_SHADES[scheme], label=None if index else scheme, **thin)


figures = {"gap": gap, "risk": risk, "escape": escape}
STUDY = Study(
    name="maass2024_counterexample",
    claim="Strongly invariant laws can be strictly worse: with quarter turns of the plane every SI network has risk at "
    "least 0.0826, and WI laws come arbitrarily close to 0.",
    source=f"{SOURCE}, Proposition 4",
    config=Config,
    presets={
        "tiny": {
            "inputs": ("clipped",), "trained": ("clipped",), "draws": 20_000, "sizes": (64,), "seeds": (0, 1),
            "horizon": 200.0, "records": 40,
            "early_size": 32, "early_seeds": (0, 1, 2, 3, 4, 5), "early_steps": (0.1, 0.0125),
        },
        "quick": {"trained": ("clipped",), "seeds": (0, 1, 2), "horizon": 300.0, "records": 60},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
