"""Every theorem of Maass & Fontbona (2024) that a computer can check, checked: claim, measured, tolerance, verdict.

Identities are checked in float64 on random laws and samples, for five groups and units (the paper's swap of R², shifts
of signals, sets, sign flips, quarter turns); optima exactly, as nearest points of polytopes; training theorems along
exact Wasserstein gradient flows of clouds and in training runs. Wherever a hypothesis matters, the failure without it
is shown as well: a theorem must hold inside its hypotheses *and* be false outside.

Not checked here: rates of the mean-field limit, flows with entropy and their exponential convergence (Theorems 8 and 9,
which the paper cites), Γ-convergence as such (Proposition 19; what it says about minima is checked).

Where the statements need care:

- R^DA = ∫R(M_g#μ) and R^FA = R(μ^G) hold on any data, sample by sample. R = R^DA for every μ needs equivariant data.
- R^DA − R^FA = E‖Φ − Q_GΦ‖² needs invariant inputs, except where the group acts through two elements only.
- R^EA and R^FA have no order. DA and FA agree exactly at laws whose network is equivariant.
- Full-orbit DA, FA and EA from an SI cloud are one trajectory at every finite N, if they share data and projected
  noise. Round-off grows where E^G is unstable: at N = 5 FA leaves E^G in this way in some of the published runs (by
  RMD² up to 3e-5 in 100 seeds), so that N = 5 is checked up to t = 5 only.
- The constant C* = E‖X‖² in the paper's proof of Proposition 4 is no lower bound; Var(‖X‖²) is the infimum.

References:
    Maass & Fontbona 2024, *Symmetries in Overparametrized Neural Networks: A Mean-Field View*, arXiv 2405.19995v3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from symfield import random
from symfield.experiments import Cell, Row, Study, Verdict, style, versioned
from symfield.studies._maass2024 import SOURCE
from symfield.studies._maass2024_claims import FAMILIES, SETTINGS, Draw, FamilyName, SettingName, setting
from symfield.studies._threads import one_thread

__all__ = ["STUDY", "Check", "Config", "check", "figures", "run", "verdicts"]

#: Where exact zeros are drawn.
_FLOOR = 1e-18
_HOLDS, _FAILS, _FAINT = "#3a9d6e", "#d1495b", "#9aa1a9"


@dataclass(frozen=True)
class Config:
    """What to check, and on how many random draws.

    Attributes:
        families: families of claims.
        settings: groups and units.
        seeds: random draws.
        particles: particles of a random law.
        samples: samples of a random data set, before it is closed under the group.
        device: the checks are small and run on the CPU.
        dtype: round-off is part of the claims, so float64.
    """

    families: tuple[FamilyName, ...] = tuple(FAMILIES)
    settings: tuple[SettingName, ...] = SETTINGS
    seeds: tuple[int, ...] = tuple(range(20))
    particles: int = 7
    samples: int = 10
    device: Literal["cpu"] = "cpu"
    dtype: Literal["float64"] = "float64"


@dataclass(frozen=True)
class Check:
    """One family of claims in one setting.

    Attributes:
        family: which claims.
        setting: which group and unit.
        seeds: random draws.
        particles: particles of a random law.
        samples: samples of a random data set.
    """

    family: FamilyName
    setting: SettingName
    seeds: tuple[int, ...]
    particles: int
    samples: int


@versioned(1)
def check(cell: Check) -> list[Row]:
    """Measure.

    Args:
        cell: what to check.

    Returns:
        Rows ``seed, claim, place, measured, expected, bound, outside, violation``; a violation is
        |measured − expected|, and must be at most the bound inside the hypotheses, at least the bound outside.
    """
    with one_thread():
        return [row for seed in cell.seeds for row in _check(cell, seed)]


def _check(cell: Check, seed: int) -> list[Row]:
    rows: list[Row] = []
    for index, function in enumerate(FAMILIES[cell.family].checks):
        generator = random.split(random.generator(seed), index + 1)[index]
        measured = function(setting(cell.setting), Draw(generator, cell.particles, cell.samples, seed))
        rows += [
            {
                "seed": seed,
                "claim": claim.statement,
                "place": claim.place,
                "measured": float(value),
                "expected": claim.expected,
                "bound": claim.bound,
                "outside": claim.outside,
                "violation": abs(float(value) - claim.expected),
            }
            for claim, value in measured.items()
        ]
    return rows


def cells(config: Config) -> list[Cell]:
    """One cell for each family and setting, so that a failure stays local.

    Args:
        config: what to check.

    Returns:
        The cells.
    """
    made = []
    for name in config.families:
        family = FAMILIES[name]
        seeds = config.seeds if family.repeats else config.seeds[:1]
        made += [
            Cell(check, Check(name, case, seeds, config.particles, config.samples), cost=family.cost * len(seeds))
            for case in family.settings
            if case in config.settings
        ]
    return made


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """For every claim the worst draw over seeds and settings.

    Args:
        rows: what was measured.
        config: what was to be checked.

    Returns:
        One verdict for each claim, in reading order.
    """
    found = []
    for claim, part in rows.groupby("claim", sort=False):
        first, worst = part.iloc[0], _worst(part)
        source = f"{SOURCE}, {first['place']}"
        if first["outside"]:
            found.append(Verdict.at_least(str(claim), worst["measured"], first["bound"], source=source))
        else:
            found.append(Verdict.close(str(claim), worst["measured"], first["expected"], first["bound"], source=source))
    return found


def _worst(part: DataFrame) -> Series:
    """The row that is hardest on its claim; NaN is hardest."""
    violation = part["violation"]
    if violation.isna().any():
        return part[violation.isna()].iloc[0]
    return part.iloc[int(violation.argmin() if part["outside"].iloc[0] else violation.argmax())]


def theorems(rows: DataFrame) -> Figure:
    """Violations of the theorems within their hypotheses (range and worst of all draws) against their tolerances."""
    return _overview(rows[~rows["outside"]], "violation, relative: worst draw and range of all", "tolerance")


def hypotheses(rows: DataFrame) -> Figure:
    """Where a theorem must fail (outside its hypotheses) or an inequality is strict: by the mark or more, always."""
    return _overview(
        rows[rows["outside"]], "violation, relative: smallest draw and range of all", "least violation that counts"
    )


def _overview(rows: DataFrame, label: str, bound: str) -> Figure:
    """One line a claim: the range of all draws, the worst of them, and the bound; families on alternating ground."""
    claims = rows.drop_duplicates("claim").reset_index(drop=True)
    figure, axes = style.panels(width=10.6, height=0.19 * len(claims) + 0.5)
    axis: Axes = axes[0, 0]
    for place, claim in enumerate(claims["claim"]):
        _line(axis, place, rows[rows["claim"] == claim])
    for index, (_, part) in enumerate(claims.groupby("family", sort=False)):
        if index % 2 == 0:
            axis.axhspan(part.index[0] - 0.5, part.index[-1] + 0.5, color="#f3f5f7", zorder=0)
    style.loglog(axis, y=False)
    numbers = rows[["violation", "bound"]].to_numpy().clip(min=_FLOOR)
    axis.set(xlim=(np.nanmin(numbers) / 5, np.nanmax(numbers) * 5), ylim=(len(claims) - 0.4, -0.6), xlabel=label)
    axis.set_yticks(range(len(claims)), [_typeset(claim) for claim in claims["claim"]], fontsize=8)
    axis.tick_params(axis="y", length=0)
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(claims)), claims["place"], fontsize=7.5)
    right.tick_params(axis="y", length=0, labelcolor=_FAINT)
    right.spines["right"].set_visible(False)
    axis.legend(
        handles=[
            Line2D([], [], color=_HOLDS, marker="o", label="holds"),
            Line2D([], [], color=_FAILS, marker="o", label="fails"),
            Line2D([], [], color="#22262b", marker="|", linestyle="none", markersize=9, label=bound),
        ],
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3,
    )  # fmt: skip
    return figure


def _line(axis: Axes, place: int, part: DataFrame) -> None:
    worst, limit, outside = _worst(part)["violation"], part["bound"].iloc[0], part["outside"].iloc[0]
    shade = _HOLDS if (worst >= limit if outside else worst <= limit) else _FAILS
    ends = [max(_FLOOR, value) for value in (part["violation"].min(), part["violation"].max())]
    axis.plot(ends, [place, place], color=shade, linewidth=2.2, alpha=0.35, solid_capstyle="round")
    axis.plot([max(_FLOOR, np.nan_to_num(worst))], [place], "o", color=shade, markersize=4.5)
    axis.plot([max(_FLOOR, limit)], [place], "|", color="#22262b", markersize=9, markeredgewidth=1.4)


def _typeset(statement: str) -> str:
    r"""Indices and exponents of a statement as mathematics.

    Example:
        >>> _typeset("inf_SI R = R^DA(μ^G)")
        'inf$_{\\mathrm{SI}}$ R = R$^{\\mathrm{DA}}$(μ$^{\\mathrm{G}}$)'
    """
    return re.sub(r"([_^])(?:\{([^}]*)\}|(DA|FA|EA|WI|SI|4N|.))", r"$\1{\\mathrm{\2\3}}$", statement)


def table(rows: DataFrame) -> DataFrame:
    """Every claim: worst violation, tolerance, number of draws and of settings."""
    summary = []
    for (family, claim), part in rows.groupby(["family", "claim"], sort=False):
        worst = _worst(part)
        summary.append(
            {
                "family": family,
                "claim": claim,
                "worst": worst["measured"],
                "expected": _expectation(worst),
                "draws": len(part),
                "settings": ", ".join(part["setting"].unique()),
            }
        )
    return DataFrame(summary)


def _expectation(row: Series) -> str:
    return f"at least {row['bound']:g}" if row["outside"] else f"{row['expected']:g} ± {row['bound']:g}"


figures = {"theorems": theorems, "hypotheses": hypotheses}
STUDY = Study(
    name="maass2024_theorems",
    claim="The propositions and theorems hold to round-off on random laws, data and groups, and fail outside their "
    "hypotheses.",
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {"seeds": (0,), "settings": ("swap", "sets", "turns"), "particles": 4, "samples": 6},
        "quick": {"seeds": (0, 1)},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"claims": table},
    verdicts=verdicts,
)
run = STUDY.run
