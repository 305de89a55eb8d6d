"""Figures of ``symfield discover`` and ``symfield advise``: they draw what was found and compute nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from symfield.experiments import style

if TYPE_CHECKING:
    from symfield.discovery import Advice, FixedPoints

__all__ = ["element_violations", "escape_statistics", "learning_curves", "rounds"]

_MOST_ELEMENTS = 24


def learning_curves(advice: Advice) -> Figure:
    """Held-out error of every scheme against the size of the training set.

    Args:
        advice: with trainings.

    Returns:
        One panel for each group examined.
    """
    frame = pd.DataFrame(advice.curves())
    frame["kind"] = frame["scheme"].str.split().str[0].replace({"none": "V"})
    groups = [finding.candidate.name for finding in advice.findings]
    figure, axes = style.panels(1, len(groups), width=4.4, height=3.1)
    for axis, group in zip(axes[0], groups, strict=True):
        shown = frame[(frame["scheme"] == "none") | frame["scheme"].str.endswith(f" {group}")]
        order = [kind for kind in ("V", "DA", "FA", "frame", "EA") if (shown["kind"] == kind).any()]
        shades = {**style.SCHEMES, "frame": "#e08e2b"}
        for kind in order:
            part = shown[shown["kind"] == kind]
            label = "none" if kind == "V" else kind
            style.band(axis, part, "n", "error", color=shades[kind], label=label, quantiles=(0.0, 1.0))
        sizes = sorted(frame["n"].unique().tolist())
        style.loglog(axis, y=False, at=sizes)
        axis.set_ylim(bottom=0)
        axis.set_title(_short(group))
        axis.set_xlabel("training samples n")
    axes[0, 0].set_ylabel("held-out error / variance")
    style.legend(figure, axes[0, 0])
    return figure


def element_violations(advice: Advice) -> Figure:
    """Violation of the symmetry by every element tried, with 95 % intervals.

    Args:
        advice: with at least one finding.

    Returns:
        One panel: the first group asked about, worst elements first.
    """
    found = sorted(advice.findings[0].examination.elements, key=lambda e: -e.violation.value)[:_MOST_ELEMENTS]
    figure, axes = style.panels(1, 1, width=6.2, height=max(1.6, 0.27 * len(found) + 0.7))
    axis = axes[0, 0]
    for place, element in enumerate(reversed(found)):
        shade = "#d1495b" if element.contradicted else "#3a9d6e"
        if math.isfinite(element.violation.error):
            axis.errorbar(
                element.violation.value, place, xerr=1.96 * element.violation.error, fmt="o", color=shade, capsize=2
            )
        else:
            axis.annotate("moved inputs leave the data", (0.02, place), fontsize=8, va="center", color="#7a6a5b",
                          xycoords=("axes fraction", "data"))  # fmt: skip
    axis.axvline(0, color="#7a6a5b", linewidth=0.9)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.set_yticks(range(len(found)), [_short(element.name) for element in reversed(found)])
    axis.set_ylim(-0.7, len(found) - 0.3)
    axis.set_xlabel("violation / variance of targets (red: contradicted)")
    axis.grid(False, axis="y")
    return figure


def rounds(found: FixedPoints) -> Figure:
    """Values off the candidate subspace in every round, largest first.

    Args:
        found: with rounds.

    Returns:
        One panel.
    """
    figure, axes = style.panels(1, 1, width=5.2, height=3.0)
    axis = axes[0, 0]
    names = [f"round {k}, dim {step.dim}" for k, step in enumerate(found.rounds)]
    shades = style.colours(names)
    for name, step in zip(names, found.rounds, strict=True):
        values = np.array([value for value in step.values if value > 0])
        if len(values):
            axis.plot(np.arange(1, len(values) + 1), values, marker="o", label=name, color=shades[name])
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlim(0.5, max((len(step.values) for step in found.rounds), default=1) + 0.5)
    axis.set(xlabel="direction off the candidate", ylabel="size of the drift")
    style.legend(figure, axis)
    return figure


def escape_statistics(found: FixedPoints) -> Figure:
    """What decides in every round, beside the threshold above which training leaves the candidate.

    Args:
        found: with rounds.

    Returns:
        One panel.
    """
    figure, axes = style.panels(1, 1, width=5.2, height=2.7)
    axis = axes[0, 0]
    at = np.arange(len(found.rounds))
    axis.plot(at, [step.statistic for step in found.rounds], marker="o", label="statistic", color="#2e7cbf")
    axis.plot(
        at, [step.threshold for step in found.rounds], linestyle="--", marker="_", label="threshold", color="#d1495b"
    )
    if all(step.statistic > 0 and step.threshold > 0 for step in found.rounds):
        axis.set_yscale("log")
    axis.set_xticks(at, [f"{k}\n(dim {step.dim})" for k, step in enumerate(found.rounds)])
    axis.set(xlabel="round", ylabel="escape")
    style.legend(figure, axis)
    return figure


def _short(name: str, most: int = 42) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
