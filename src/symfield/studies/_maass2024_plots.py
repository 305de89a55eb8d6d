"""What the figures and verdicts of the Maass & Fontbona (2024) grid share: panels, selections, slopes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from symfield.experiments import Verdict, style
from symfield.studies._maass2024 import Published

__all__ = ["PAIRS", "grid", "is_published", "medians", "select", "slope", "slope_verdict"]

PAIRS = ("V–DA", "V–FA", "DA–FA")

_TEACHERS = ("arbitrary", "WI", "SI")
_DASHES = ("-", (0, (4, 2)), "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))


def select(rows: DataFrame, quantity: str, schemes: Sequence[str], **where: Any) -> DataFrame:
    """The rows of one quantity, some schemes, and given values of other columns.

    Args:
        rows: tidy rows of the training cells.
        quantity: which measurement.
        schemes: schemes or pairs of schemes.
        **where: column to value.

    Returns:
        The rows that match.
    """
    kept = rows[(rows["quantity"] == quantity) & rows["scheme"].isin(schemes)]
    for column, value in where.items():
        kept = kept[kept[column] == value]
    return kept


def medians(rows: DataFrame, quantity: str, scheme: str, **where: Any) -> Series:
    """Medians over seeds by width.

    Args:
        rows: tidy rows of the training cells.
        quantity: which measurement.
        scheme: scheme or pair of schemes.
        **where: column to value.

    Returns:
        A series indexed by N, increasing; empty when nothing matches.
    """
    return select(rows, quantity, (scheme,), **where).groupby("n")["value"].median().sort_index()


def slope(values: Series) -> float:
    """Slope of a line through (log N, log value).

    Args:
        values: positive values indexed by N.

    Returns:
        The slope.
    """
    return float(np.polyfit(np.log(values.index.to_numpy(float)), np.log(values.to_numpy(float)), 1)[0])


def slope_verdict(claim: str, values: Series, low: float, high: float, *, source: str) -> Verdict:
    """A claim about a slope in N, tested when there are two widths N ≥ 100.

    Args:
        claim: what is claimed.
        values: medians by width.
        low: least slope.
        high: largest slope.
        source: where it is claimed.

    Returns:
        The verdict.
    """
    wide = values[(values.index >= 100) & (values.index <= 1000)]
    if len(wide) < 2:
        return Verdict.not_tested(claim, "needs two widths from 100 to 1000", source=source)
    return Verdict.between(claim, slope(wide), low, high, source=source)


def is_published(config: Published) -> bool:
    """Whether numbers measured at the published setting apply: five seeds or more, 100 points or more, and the rest.

    Args:
        config: a configuration.

    Returns:
        True if only teachers, initial laws, widths, seeds, schemes, points and device differ from the paper's.
    """
    paper = Published()
    free = ("teachers", "inits", "sizes", "seeds", "schemes", "device", "points")
    enough = len(config.seeds) >= 5 and config.points >= paper.points  # levels are medians over as many
    return enough and all(getattr(config, name) == getattr(paper, name) for name in vars(paper) if name not in free)


def grid(rows: DataFrame, lines: Sequence[tuple[str, str, Sequence[str], dict[str, Any]]], *, floor: float) -> Figure:
    """Bands against N: a column for every teacher, a line of panels for every quantity.

    Args:
        rows: tidy rows of the training cells.
        lines: for every line of panels: label of the vertical axis, quantity, schemes or pairs, further conditions.
        floor: smallest value shown; smaller ones (round-off, exact zeros) are drawn there.

    Returns:
        The figure.
    """
    teachers = [kind for kind in _TEACHERS if (rows["teacher"] == kind).any()]
    figure, axes = style.panels(len(lines), len(teachers), width=3.3, height=2.5, share=False)
    for line, (label, quantity, schemes, where) in enumerate(lines):
        shades = style.colours(schemes)
        for column, kind in enumerate(teachers):
            panel: Axes = axes[line, column]
            part = select(rows, quantity, schemes, teacher=kind, **where)
            shown = part.assign(value=part["value"].clip(lower=floor))
            order = [name for name in schemes if (shown["scheme"] == name).any()]
            for index, name in enumerate(order):  # dashes tell lines apart that lie on one another
                line_style: dict[str, Any] = {
                    "color": shades[name],
                    "linestyle": _DASHES[index % len(_DASHES)],
                    "label": name,
                }
                style.band(panel, shown[shown["scheme"] == name], "n", "value", **line_style)
            style.loglog(panel)
            if line == 0:
                panel.set_title(f"{kind} teacher")
            if line == len(lines) - 1:
                panel.set_xlabel("width N")
            if column == 0:
                panel.set_ylabel(label)
        _same_scale(axes[line], floor)
        axes[line, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _same_scale(panels: Iterable[Axes], floor: float) -> None:
    panels = list(panels)
    low = min(panel.get_ylim()[0] for panel in panels)
    high = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(low, high)
        if low <= floor:
            panel.axhline(floor, color="#9aa1a9", linewidth=0.8, linestyle=":")
