"""One look for every figure: one palette, one colour a scheme, seeds as a band.

Everything works on :class:`matplotlib.figure.Figure` objects; no global state is read or left behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

__all__ = ["SCHEMES", "band", "boxes", "colour", "colours", "context", "legend", "loglog", "page_layout", "panels"]

SCHEMES: dict[str, str] = {"V": "#d1495b", "DA": "#2e7cbf", "FA": "#3a9d6e", "EA": "#8a5fbf", "DA sampled": "#7fb2dc"}
"""One colour a training scheme: vanilla, data augmentation, feature averaging, equivariant architecture."""

_CYCLE = ("#2e7cbf", "#e08e2b", "#3a9d6e", "#d1495b", "#8a5fbf", "#7a6a5b", "#c2669e", "#5aa9a5")
_INK, _GRID = "#22262b", "#e3e6ea"
_STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 170,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9aa1a9",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler('color', {list(_CYCLE)})",
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "text.color": _INK,
    "xtick.color": "#4a5159",
    "ytick.color": "#4a5159",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "symfield",
}


def context() -> AbstractContextManager[None]:
    """The shared style as a context; leaves matplotlib's settings as they were."""
    return mpl.rc_context(cast(Any, _STYLE))


def colour(name: str) -> str:
    """The colour of a scheme.

    Args:
        name: ``"V"``, ``"DA"``, ``"FA"``, ``"EA"`` or ``"DA sampled"``.

    Returns:
        A hexadecimal colour.

    Raises:
        KeyError: for another name; :func:`colours` also serves those.

    Example:
        >>> colour("V")
        '#d1495b'
    """
    return SCHEMES[name]


def colours(names: Sequence[Any]) -> dict[Any, str]:
    """A colour for each name: a scheme keeps its own, the others take the palette in order.

    Args:
        names: values of a column.

    Returns:
        Name to colour.

    Example:
        >>> colours(["DA", "V"]) == {"DA": SCHEMES["DA"], "V": SCHEMES["V"]}
        True
    """
    taken = {SCHEMES[name] for name in names if name in SCHEMES}
    free = itertools.cycle([shade for shade in _CYCLE if shade not in taken])
    return {name: SCHEMES[name] if name in SCHEMES else next(free) for name in names}


def panels(
    rows: int = 1, columns: int = 1, *, width: float = 3.6, height: float = 2.9, share: bool = True
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes in the shared style.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: inches a column.
        height: inches a row.
        share: whether all axes share their scales.

    Returns:
        The figure and a (rows, columns) array of axes.
    """
    with context():
        figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return figure, axes


def loglog(axes: Axes, *, x: bool = True, y: bool = True, at: Sequence[float] | None = None) -> None:
    """Logarithmic axes with decades marked and quiet minor ticks.

    Args:
        axes: the axes to change.
        x: whether the horizontal axis is logarithmic.
        y: whether the vertical axis is.
        at: mark these values across, instead of the decades.
    """
    for wanted, axis, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if wanted:
            scale("log")
            axis.set_major_locator(LogLocator(numticks=8))
            axis.set_minor_formatter(NullFormatter())
    if at is not None:
        axes.set_xticks(list(at), [f"{value:g}" for value in at])
        axes.xaxis.set_minor_locator(NullLocator())


def band(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    order: Sequence[Any] | None = None,
    quantiles: tuple[float, float] = (0.1, 0.9),
    **line: Any,
) -> None:
    """Medians as a line, and a band between two quantiles over whatever else varies (the seeds).

    Args:
        axes: where to draw.
        rows: tidy rows.
        x: the column across.
        y: the column up.
        hue: the column that gives one line and one colour a value.
        order: the values of ``hue`` to draw, in this order; all in the order they come when absent.
        quantiles: lower and upper edge of the band.
        **line: passed on to ``Axes.plot``.
    """
    for value, part, shade in _parts(rows, hue, order):
        groups = part.groupby(x, sort=True)[y]
        middle = groups.median()
        low, high = groups.quantile(quantiles[0]), groups.quantile(quantiles[1])
        style = {"color": shade, "marker": "o", "label": None if hue is None else str(value), **line}
        axes.plot(middle.index.to_numpy(), middle.to_numpy(), **style)
        axes.fill_between(
            middle.index.to_numpy(), low.to_numpy(), high.to_numpy(), color=style["color"], alpha=0.18, linewidth=0
        )


def boxes(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    order: Sequence[Any] | None = None,
    width: float = 0.8,
) -> None:
    """Box-plots over the seeds, side by side for each value of ``hue``, at evenly spaced positions of ``x``.

    Args:
        axes: where to draw.
        rows: tidy rows.
        x: the column across; its values are labels, in increasing order.
        y: the column up.
        hue: the column that gives one box and one colour a value.
        order: the values of ``hue`` to draw, in this order.
        width: share of the space between two positions that the boxes fill.
    """
    places = {value: i for i, value in enumerate(sorted(rows[x].unique()))}
    parts = _parts(rows, hue, order)
    each = width / max(1, len(parts))
    for k, (value, part, shade) in enumerate(parts):
        groups = [(places[at], group[y].to_numpy()) for at, group in part.dropna(subset=[y]).groupby(x, sort=True)]
        shift = (k - (len(parts) - 1) / 2) * each
        axes.boxplot(
            [numbers for _, numbers in groups],
            positions=[place + shift for place, _ in groups],
            widths=0.86 * each,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": shade + "55", "edgecolor": shade, "linewidth": 0.9},
            medianprops={"color": shade, "linewidth": 1.6},
            whiskerprops={"color": shade, "linewidth": 0.9},
            capprops={"color": shade, "linewidth": 0.9},
            flierprops={"marker": ".", "markersize": 3, "markerfacecolor": shade, "markeredgecolor": "none"},
        )
        if hue is not None:
            axes.add_line(Line2D([], [], color=shade, linewidth=5, alpha=0.6, label=str(value)))
    axes.set_xticks(
        list(places.values()),
        [f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value) for value in places],
    )
    axes.grid(False, axis="x")


def legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """One legend for the whole figure, in a row below its panels.

    Args:
        figure: the figure.
        axes: the axes whose entries are shown.
        title: the words before the entries.
    """
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, title=title, loc="outside lower center", ncols=min(len(labels), 6))


def page_layout(**changes: Any) -> dict[str, Any]:
    """The layout of an interactive page in the shared style: ``go.Figure(data, layout=page_layout(...))``.

    Args:
        **changes: plotly layout entries to add or replace.

    Returns:
        A plotly layout.

    Example:
        >>> page_layout(title="Clouds")["title"]
        'Clouds'
    """
    return {
        "template": "plotly_white",
        "colorway": list(_CYCLE),
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        **changes,
    }


def _parts(rows: pd.DataFrame, hue: str | None, order: Sequence[Any] | None) -> list[tuple[Any, pd.DataFrame, str]]:
    if hue is None:
        return [(None, rows, _CYCLE[0])]
    values = list(rows[hue].unique()) if order is None else [value for value in order if (rows[hue] == value).any()]
    shades = colours(values if order is None else list(order))
    return [(value, rows[rows[hue] == value], shades[value]) for value in values]
