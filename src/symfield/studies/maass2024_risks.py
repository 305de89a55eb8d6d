"""What do the networks learn? Figures 7, 8 and 9 of Maass & Fontbona (2024).

L² distances on fresh inputs: of Φ to its average Q_GΦ, to the teacher f*, and to the teacher's average Q_G f*. The runs
are those of ``maass2024_laws`` (finished cells are shared). Φ is always the raw network, also for FA, whose prediction
is Q_GΦ; the table has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, Study, Verdict
from symfield.studies._maass2024 import QUICK, SCHEMES, SOURCE, TINY, Published, training_cells
from symfield.studies._maass2024_plots import grid, is_published, medians, select

__all__ = ["STUDY", "Config", "figures", "run"]

_PLATEAU = 0.182
"""‖f* − Q_G f*‖ of the arbitrary teacher under N(0, 16 I)."""


@dataclass(frozen=True)
class Config(Published):
    """The published grid; the defaults are the paper's setting."""


def _both_starts(rows: DataFrame, label: str, quantity: str, floor: float) -> Figure:
    lines = [
        (f"{label}\n{init} start", quantity, SCHEMES, {"init": init})
        for init in ("SI", "WI")
        if (rows["init"] == init).any()
    ]
    return grid(rows, lines, floor=floor)


def equivariance_gap(rows: DataFrame) -> Figure:
    """Figure 7: distance ‖Φ − Q_GΦ‖ of the raw network to its own average (median, 10–90% of the seeds)."""
    return _both_starts(rows, "‖Φ − $Q_G$Φ‖", "gap", 1e-10)


def distance_to_teacher(rows: DataFrame) -> Figure:
    """Figure 8: distance ‖Φ − f*‖ to the teacher (median, 10–90% of the seeds)."""
    return _both_starts(rows, "‖Φ − f*‖", "error_target", 1e-10)


def distance_to_symmetric_teacher(rows: DataFrame) -> Figure:
    """Figure 9: distance ‖Φ − Q_G f*‖ to the teacher's average (median, 10–90% of the seeds)."""
    return _both_starts(rows, "‖Φ − $Q_G$f*‖", "error_symmetric", 1e-10)


def table(rows: DataFrame) -> DataFrame:
    """Median L² distances by teacher, start and scheme (rows) and width N (columns)."""
    shown = rows[rows["quantity"].str.startswith(("error", "gap"))]
    by = ["quantity", "teacher", "init", "scheme"]
    wide = shown.pivot_table(index=by, columns="n", values="value", aggfunc="median")
    return wide.reset_index().rename(columns=str)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the paper's findings.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; statements whose widths or setting are not in this run are "not tested".
    """
    source = f"{SOURCE}, Figures 7 to 9"
    exact = select(rows, "gap", ("DA", "FA", "EA"), init="SI")
    gaps = exact[exact["n"] >= 10]["value"]
    claim = "from an SI law DA (full orbit), FA and EA are equivariant networks: largest ‖Φ − Q_GΦ‖, N ≥ 10"
    found = [
        Verdict.not_tested(claim, "needs float64, an SI start and N ≥ 10", source=source)
        if gaps.empty or config.dtype != "float64"
        else Verdict.at_most(claim, gaps.max(), 1e-7, source=f"{SOURCE}, Theorem 5")
    ]
    return found + (_published(rows, source) if is_published(config) else [])


def _published(rows: DataFrame, source: str) -> list[Verdict]:
    def bound(claim: str, quantity: str, scheme: str, teacher: str, least: int, low: float, high: float) -> Verdict:
        values = medians(rows[rows["n"] >= least], quantity, scheme, init="SI", teacher=teacher)
        if values.empty:
            return Verdict.not_tested(claim, f"needs the {teacher} teacher and N ≥ {least}", source=source)
        worst = max(values, key=lambda value: max(low - value, value - high))
        return Verdict.between(claim, worst, low, high, source=source)

    # 100 Monte-Carlo points leave about 5% on a median over ten seeds of ‖f* − Q_G f*‖.
    near = (0.92 * _PLATEAU, 1.08 * _PLATEAU)
    averaged = "SI start, arbitrary teacher, N ≥ 50: {} stops at ‖f* − Q_G f*‖ = 0.182 from f*"
    return [
        *(
            bound(averaged.format(scheme), "error_target", scheme, "arbitrary", 50, *near)
            for scheme in ("DA", "FA", "EA")
        ),
        bound("SI start, arbitrary teacher, N ≥ 50: V fits f*", "error_target", "V", "arbitrary", 50, 0.0, 4e-3),
        *(
            bound(f"SI start, arbitrary teacher, N ≥ {least}: DA fits Q_G f*", "error_symmetric", "DA", "arbitrary",
                  least, 0.0, high)
            for least, high in ((100, 1.5e-2), (500, 8e-3))
        ),
        bound("SI start, WI teacher, N ≥ 50: V fits f*", "error_target", "V", "WI", 50, 0.0, 4e-3),
    ]  # fmt: skip


def cells(config: Config) -> Sequence[Cell]:
    """One bundle of runs for every teacher, initial law and width, shared with ``maass2024_laws``.

    Args:
        config: the grid.

    Returns:
        The cells.
    """
    return training_cells(config)


figures = {
    "equivariance_gap": equivariance_gap,
    "distance_to_teacher": distance_to_teacher,
    "distance_to_symmetric_teacher": distance_to_symmetric_teacher,
}
STUDY = Study(
    name="maass2024_risks",
    claim=(
        "On asymmetric data the schemes that use symmetry learn the teacher's average and only free training learns the"
        " teacher; on symmetric data all learn the same function."
    ),
    source=f"{SOURCE}, Figures 7, 8, 9",
    config=Config,
    presets={"tiny": TINY, "quick": QUICK, "paper": {}},
    cells=cells,
    figures=figures,
    tables={"medians": table},
    verdicts=verdicts,
)
run = STUDY.run
