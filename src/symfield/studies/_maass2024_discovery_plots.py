"""The figures of the study of the search for the fixed subspace."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import style

__all__ = ["ANGLE", "METHODS", "clouds", "costs", "outcomes", "results", "rounds"]

#: The searches, in the order of the figures.
METHODS = ("published", "leading", "training", "drift", "drift, spans")
#: A plane at less than this angle (radians) from E^G is right.
ANGLE = 0.05

_LEAST = 1e-7  # where figures end


def results(rows: DataFrame) -> DataFrame:
    """The rows with one answer for each teacher, search and seed."""
    return rows[rows["kind"] == "result"]


def _methods(rows: DataFrame) -> list[str]:
    return [name for name in METHODS if name in set(rows["method"])]


def clouds(rows: DataFrame) -> Figure:
    """Figure 2: particles before (grey) and after training from a law on each E_j, over E^G and along it."""
    kept = rows[rows["kind"] == "particle"]
    rounds = sorted(kept["round"].unique())
    figure, axes = style.panels(2, len(rounds), width=2.7, height=2.3, share=False)
    reach = 1.08 * kept[["e1", "e2", "o1", "o2"]].abs().to_numpy().max()
    for column, index in enumerate(rounds):
        part = kept[kept["round"] == index]
        for line, across in enumerate(("e2", "o1")):
            panel = axes[line, column]
            for when, shade, size in (("before", "#9aa1a9", 9), ("after", "#d1495b", 7)):
                cloud = part[part["when"] == when]
                panel.scatter(cloud["e1"], cloud[across], s=size, color=shade, alpha=0.5, linewidths=0, label=when)
            panel.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes[0, column].set_title(f"round {index:.0f}: dim E = {part['dim'].iloc[0]:.0f}")
        axes[1, column].axhline(0, color="#7a6a5b", linestyle=":", linewidth=1)
        axes[1, column].set_xlabel("e₁")
    axes[0, 0].set_ylabel("e₂")
    axes[1, 0].set_ylabel("o₁ (off $E^G$)")
    style.legend(figure, axes[0, 0])
    return figure


def rounds(rows: DataFrame) -> Figure:
    """Figure 10: RMD² to E_j after training from E_j (dots: seeds; lines: where each search stops)."""
    kept = rows[(rows["kind"] == "round") & rows["method"].isin(("published", "leading", "training"))]
    kinds, names = list(kept["teacher"].unique()), _methods(kept)
    figure, axes = style.panels(1, len(kinds), width=3.4, height=3.0)
    shades = style.colours(names)
    for panel, kind in zip(axes[0], kinds, strict=True):
        for place, name in enumerate(names):
            part = kept[(kept["teacher"] == kind) & (kept["method"] == name)]
            spread = np.linspace(-0.07, 0.07, max(2, part["seed"].nunique()))
            shift = part["seed"].map(dict(zip(sorted(part["seed"].unique()), spread, strict=False)))
            at = part["dim"] + 0.22 * (place - (len(names) - 1) / 2) + shift
            panel.scatter(at, part["statistic"].clip(lower=_LEAST), s=11, color=shades[name], alpha=0.7, linewidths=0,
                          label=name)  # fmt: skip
            if name != "training":
                panel.axhline(part["threshold"].iloc[0], color=shades[name], linestyle="--", linewidth=1)
        style.loglog(panel, x=False)
        panel.set(title=f"{kind} teacher", xlabel="dimension of $E_j$", ylim=(_LEAST / 2, 1.0))
        panel.set_xticks(range(4))
    axes[0, 0].set_ylabel("RMD²(ν, Pν) to $E_j$")
    style.legend(figure, axes[0, 0])
    return figure


def outcomes(rows: DataFrame) -> Figure:
    """Dimension that each search returns, as a share of the seeds (at the right margin: share of right answers)."""
    kept = results(rows)
    kinds, names = list(kept["teacher"].unique()), _methods(kept)
    figure, axes = style.panels(1, len(kinds), width=3.3, height=2.7)
    shades = {0: "#eceef0", 1: "#c3d3e3", 2: "#7fa8cd", 3: "#3f78ad", 4: "#1d4468"}
    for panel, kind in zip(axes[0], kinds, strict=True):
        for place, name in enumerate(names):
            part, left = kept[(kept["teacher"] == kind) & (kept["method"] == name)], 0.0
            for dim, shade in shades.items():
                share = float((part["dim"] == dim).mean())
                panel.barh(place, share, left=left, color=shade, height=0.7, label=f"dim {dim}" if place == 0 else None)
                if share > 0.12:
                    panel.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8,
                               color="white" if dim > 2 else "#22262b")  # fmt: skip
                left += share
            panel.text(1.02, place, f"{part['right'].astype(float).mean():.0%}", va="center", fontsize=8)
        panel.set(title=f"{kind} teacher", xlabel="share of seeds", xlim=(0, 1.15))
        panel.set_yticks(range(len(names)), names)
        panel.set_xticks([0, 0.5, 1])
        panel.grid(False)
    axes[0, 0].invert_yaxis()
    style.legend(figure, axes[0, 0], title="returned")
    return figure


def costs(rows: DataFrame) -> Figure:
    """Gradient evaluations and CPU seconds of each search, and its largest angle to E^G where it finds a plane."""
    kept = results(rows)
    kept = kept[kept["teacher"] != "arbitrary"] if (kept["teacher"] != "arbitrary").any() else kept
    names = _methods(kept)
    figure, axes = style.panels(1, 3, width=3.3, height=2.7, share=False)
    shades = style.colours(names)
    planes = kept[kept["dim"] == 2].assign(angle=lambda part: part["angle"].astype(float).clip(lower=1e-6))
    for panel, part, column, label in (
        (axes[0, 0], kept, "gradients", "gradient evaluations"),
        (axes[0, 1], kept, "seconds", "CPU seconds"),
        (axes[0, 2], planes, "angle", "angle to $E^G$ (rad; 1e-6: or less)"),
    ):
        for place, name in enumerate(names):
            values = part[part["method"] == name][column].astype(float).to_numpy()
            at = place + np.linspace(-0.2, 0.2, max(2, len(values)))[: len(values)]
            panel.scatter(values, at, s=11, color=shades[name], alpha=0.7, linewidths=0)
        panel.set_yticks(range(len(names)), names if panel is axes[0, 0] else [""] * len(names))
        panel.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
        style.loglog(panel, y=False)
        ends = part[column].astype(float)
        panel.set_xlim(10.0 ** np.floor(np.log10(ends.min()) - 0.05), 10.0 ** np.ceil(np.log10(ends.max()) + 0.05))
    axes[0, 2].axvline(ANGLE, color="#7a6a5b", linestyle=":", linewidth=1.2)
    return figure
