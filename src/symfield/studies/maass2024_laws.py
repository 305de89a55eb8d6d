"""Where do the particles go? Figures 1, 3 and 6 of Maass & Fontbona (2024).

Teacher–student training with N units from strongly (SI) or weakly (WI) invariant initial laws, freely (V), with full-
orbit or sampled data augmentation (DA), with feature averaging (FA) or in an equivariant architecture (EA). Laws are
compared through RMD².

What differs from the paper: the noise of EA is the projection of the others' noise (the paper drew it independently),
so from an SI law DA, FA and EA coincide at every N, not only in the limit. "DA" averages over full orbits, the only
reading under which it keeps E^G at every N as the paper's Figure 1 shows; "DA sampled" draws group elements. With the
paper's step law ε_N = 1/N large N and small steps are one thing: see ``maass2024_step_or_width``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, Study, Verdict, style
from symfield.studies._maass2024 import QUICK, SCHEMES, SOURCE, TINY, Published, training_cells
from symfield.studies._maass2024_plots import PAIRS, grid, is_published, medians, select, slope_verdict

__all__ = ["STUDY", "Config", "figures", "run"]

_FLOOR = 1e-16
_FIXED = "RMD²(ν, Pν) to $E^G$"
_ORBIT = "RMD²(ν, $ν^G$)"
_PAIR = "RMD² between schemes"


@dataclass(frozen=True)
class Config(Published):
    """The published grid; the defaults are the paper's setting."""


def distance_to_invariance(rows: DataFrame) -> Figure:
    """Figure 1: distance to invariance, and between schemes, against N, by teacher and start (boxes over seeds)."""
    teachers = [kind for kind in ("arbitrary", "WI") if (rows["teacher"] == kind).any()]
    inits = [init for init in ("SI", "WI") if (rows["init"] == init).any()]
    figure, axes = style.panels(len(teachers), 2 * len(inits), width=2.9, height=2.6, share=False)
    for line, teacher in enumerate(teachers):
        for block, init in enumerate(inits):
            left, right = axes[line, 2 * block], axes[line, 2 * block + 1]
            where = {"teacher": teacher, "init": init}
            quantity = "rmd2_fixed" if init == "SI" else "rmd2_orbit"
            for panel, name, schemes, label in (
                (left, quantity, ("V", "DA", "FA", "EA"), _FIXED if init == "SI" else _ORBIT),
                (right, "rmd2_pair", PAIRS, _PAIR),
            ):
                part = select(rows, name, schemes, **where)
                style.boxes(
                    panel, part.assign(value=part["value"].clip(lower=_FLOOR)), "n", "value", "scheme", order=schemes
                )
                panel.set_yscale("log")
                panel.set_title(f"{teacher} teacher, {init} start")
                panel.set_ylabel(label)
                if line == len(teachers) - 1:
                    panel.set_xlabel("width N")
    for panel in axes[0]:
        panel.legend(loc="best", frameon=False, fontsize=7.5)
    return figure


def strongly_invariant_start(rows: DataFrame) -> Figure:
    """Figure 3: from an SI law: distance to E^G; between V, DA, FA; to EA (median, 10–90% of the seeds)."""
    where = {"init": "SI"}
    lines = [
        (_FIXED, "rmd2_fixed", SCHEMES, where),
        (_PAIR, "rmd2_pair", PAIRS, where),
        ("RMD² to EA", "rmd2_pair", ("V–EA", "DA–EA", "DA sampled–EA", "FA–EA"), where),
    ]
    return grid(rows, lines, floor=_FLOOR)


def weakly_invariant_start(rows: DataFrame) -> Figure:
    """Figure 6: from a WI law: distance to the symmetrised law; between schemes (median, 10–90% of the seeds)."""
    where = {"init": "WI"}
    lines = [
        (_ORBIT, "rmd2_orbit", SCHEMES, where),
        (_PAIR, "rmd2_pair", (*PAIRS, "V–EA", "EA–P(FA)"), where),
    ]
    return grid(rows, lines, floor=_FLOOR)


def table(rows: DataFrame) -> DataFrame:
    """Median RMD² by teacher, start and scheme (rows) and width N (columns)."""
    shown = rows[~rows["quantity"].str.startswith(("error", "gap"))]
    by = ["quantity", "teacher", "init", "scheme"]
    wide = shown.pivot_table(index=by, columns="n", values="value", aggfunc="median")
    return wide.reset_index().rename(columns=str)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the paper's findings, and of the exact statements behind them.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; statements whose widths or setting are not in this run are "not tested".
    """
    found = [*_exact(rows, config), *_limits(rows)]
    return found + (_published(rows) if is_published(config) else [])


def _exact(rows: DataFrame, config: Config) -> list[Verdict]:
    """Theorem 5 and 6 at finite N: full-orbit DA, FA and EA keep E^G and coincide, for every teacher."""
    result = []
    source = f"{SOURCE}, Theorems 5 and 6 (at finite N: exact consequence)"
    wide, start = rows[rows["n"] >= 10], {"init": "SI"}
    for claim, quantity, schemes, bound in (
        ("from an SI law EA stays exactly in E^G (largest RMD², any teacher, N, seed)", "rmd2_fixed", ("EA",), 0.0),
        ("from an SI law full-orbit DA and FA stay in E^G (largest RMD², N ≥ 10)", "rmd2_fixed", ("DA", "FA"), 1e-15),
        (
            "from an SI law DA, FA and EA coincide (largest RMD², N ≥ 10)",
            "rmd2_pair",
            ("DA–FA", "DA–EA", "FA–EA"),
            1e-15,
        ),
    ):
        values = select(wide, quantity, schemes, **start)["value"]
        if values.empty or (bound > 0 and config.dtype != "float64"):
            needs = "needs float64, an SI start and N ≥ 10"
            result.append(Verdict.not_tested(claim, needs, source=source))
        else:
            result.append(Verdict.at_most(claim, values.max(), bound, source=source))
    return result


def _limits(rows: DataFrame) -> list[Verdict]:
    """What happens to free training as N grows."""
    si_start, wi_start = {"init": "SI", "teacher": "WI"}, {"init": "WI", "teacher": "WI"}
    figure = f"{SOURCE}, Figure"
    return [
        slope_verdict(
            "SI start, WI teacher: V approaches E^G, slope of RMD² in N", medians(rows, "rmd2_fixed", "V", **si_start),
            -1.6, -0.75, source=f"{figure} 1 and Theorem 5",
        ),
        slope_verdict(
            "WI start, WI teacher: DA and FA approach each other, slope of RMD² in N",
            medians(rows, "rmd2_pair", "DA–FA", **wi_start), -1.35, -0.65, source=f"{figure} 6 and Theorem 4",
        ),
        slope_verdict(
            "WI start, WI teacher: V and FA approach each other, slope of RMD² in N",
            medians(rows, "rmd2_pair", "V–FA", **wi_start), -1.35, -0.65, source=f"{figure} 6 and Theorem 4",
        ),
        slope_verdict(
            "WI start, WI teacher: V approaches its symmetrised law, slope of RMD² in N (-1/2 for samples in R⁴)",
            medians(rows, "rmd2_orbit", "V", **wi_start), -0.65, -0.25, source=f"{figure} 6 and Theorem 3",
        ),
    ]  # fmt: skip


def _published(rows: DataFrame) -> list[Verdict]:
    """Levels at the published setting (medians over seeds)."""
    source = f"{SOURCE}, Figures 1, 3 and 6; levels measured with an independent float64 simulation"
    si, wi = {"init": "SI"}, {"init": "WI"}

    def level(claim: str, quantity: str, scheme: str, low: float, high: float, least: int, **where: str) -> Verdict:
        values = medians(rows[rows["n"] >= least], quantity, scheme, **where)
        if values.empty:
            return Verdict.not_tested(claim, f"needs N ≥ {least}", source=source)
        worst = max(values, key=lambda value: max(low / max(value, 1e-300), value / high))
        return Verdict.between(claim, worst, low, high, source=source)

    def near(n: int, expected: float) -> Verdict:
        claim = f"SI start, WI teacher, N = {n}: RMD² of V to E^G within a factor 4 of {expected:.1e}"
        values = medians(rows[rows["n"] == n], "rmd2_fixed", "V", **si, teacher="WI")
        if values.empty:
            return Verdict.not_tested(claim, f"needs N = {n}", source=source)
        return Verdict.between(claim, values.iloc[0], expected / 4, expected * 4, source=source)

    asymmetric, symmetric = {"teacher": "arbitrary"}, {"teacher": "WI"}
    return [
        near(100, 2.6e-5),
        near(500, 4.0e-6),
        near(1000, 1.5e-6),
        level("SI start, arbitrary teacher, N ≥ 50: V leaves E^G",
              "rmd2_fixed", "V", 0.07, 0.12, 50, **si, **asymmetric),
        level("SI start, arbitrary teacher, N ≥ 500: sampled DA leaves E^G a little",
              "rmd2_fixed", "DA sampled", 5e-4, 1e-2, 500, **si, **asymmetric),
        level("WI start, arbitrary teacher, N ≥ 100: V stays away from DA",
              "rmd2_pair", "V–DA", 0.07, 0.15, 100, **wi, **asymmetric),
        level("WI start, arbitrary teacher, N ≥ 100: V is not weakly invariant",
              "rmd2_orbit", "V", 0.10, 0.17, 100, **wi, **asymmetric),
        level("WI start, WI teacher, N ≥ 100: EA is another limit than V",
              "rmd2_pair", "V–EA", 0.10, 0.16, 100, **wi, **symmetric),
        level("WI start, WI teacher, N ≥ 500: V and DA are one",
              "rmd2_pair", "V–DA", 0.0, 1e-5, 500, **wi, **symmetric),
    ]  # fmt: skip


def cells(config: Config) -> Sequence[Cell]:
    """One bundle of runs for every teacher, initial law and width.

    Args:
        config: the grid.

    Returns:
        The cells.
    """
    return training_cells(config)


figures = {
    "distance_to_invariance": distance_to_invariance,
    "strongly_invariant_start": strongly_invariant_start,
    "weakly_invariant_start": weakly_invariant_start,
}
STUDY = Study(
    name="maass2024_laws",
    claim=(
        "Trained freely from a strongly invariant law on symmetric data, a network approaches the equivariant subspace"
        " E^G as it grows wide, and meets its augmented, averaged and equivariant versions; on asymmetric data it"
        " leaves."
    ),
    source=f"{SOURCE}, Figures 1, 3, 6",
    config=Config,
    presets={"tiny": TINY, "quick": QUICK, "paper": {}},
    cells=cells,
    figures=figures,
    tables={"medians": table},
    verdicts=verdicts,
)
run = STUDY.run
