"""Figures and the table of the study on connectivity."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from pandas import DataFrame

from symfield.experiments import style
from symfield.weightspace import confidence

__all__ = ["TITLES", "WORDS", "along", "barriers", "interval", "ladders", "table"]

WORDS = {
    "standard": "standard",
    "standard, weights": "standard, matched by weights",
    "standard, activations": "standard, matched by activations",
    "W": "W-Asym",
    "W, kappa 0": "W-Asym, κ = 0",
    "W, kappa/4": "W-Asym, κ/4",
    "W, kappa/2": "W-Asym, κ/2",
    "W, fix/4": "W-Asym, quarter of the entries",
    "W, fix/2": "W-Asym, half of the entries",
    "W, kappa 1": "W-Asym, κ = 1 in all layers",
    "additive": "fixed values added",
    "additive, small": "fixed values added, 0.01/√fan-in",
    "sigma, 1": "σ-Asym, 1",
    "sigma, 1/sqrt d": "σ-Asym, 1/√d",
    "sigma, .01/sqrt d": "σ-Asym, 0.01/√d",
    "half": "activation x/2",
    "bias, 1": "fixed biases, 1",
    "bias, 9": "fixed biases, 9",
    "init only": "control: begin at the fixed values",
    "shared init": "control: begin at the same weights",
}
"""Methods in words, in the order of figures and tables."""

TITLES = {"mlp": "perceptron", "resnet8": "ResNet8", "resnet20": "ResNet20", "graph": "graph network"}
"""Architectures in words."""


def _named(rows: DataFrame, kind: str) -> DataFrame:
    """Rows of a kind with the arm and the matching as one name; graphs with batch norms estimated anew."""
    rows = rows[(rows["kind"] == kind) & ((rows["network"] != "graph") | (rows["statistics"] != "averaged"))]
    matched = rows["matching"] != "none"
    return rows.assign(arm=rows["method"].where(~matched, rows["method"] + ", " + rows["matching"]))


def _usual(rows: DataFrame) -> DataFrame:
    """One width and rate for each architecture: those with the most methods."""
    keep = []
    for _, part in rows.groupby("network", sort=False):
        settings = part.groupby(["width", "rate"], sort=False)
        keep.append(max((setting for _, setting in settings), key=lambda setting: setting["method"].nunique()))
    return rows.loc[np.concatenate([part.index for part in keep])]


def _arms(rows: DataFrame) -> list[str]:
    present = set(rows["arm"])
    return [name for name in WORDS if name in present]


def barriers(rows: DataFrame) -> Figure:
    """Barrier of the test loss of every pair, and test accuracy at the ends: by method and architecture."""
    rows = _usual(_named(rows, "pair"))
    rows = rows.assign(percent=100 * rows["end_accuracy"])
    kinds = list(dict.fromkeys(rows["network"]))
    order = _arms(rows)
    figure, axes = style.panels(1, 2 * len(kinds), width=3.0 if len(kinds) > 1 else 3.8, height=0.27 * len(order) + 0.6,
                                share=False)  # fmt: skip
    for i, kind in enumerate(kinds):
        part = rows[rows["network"] == kind]
        for j, (column, label) in enumerate((("test_barrier", "barrier halfway"), ("percent", "accuracy, ends %"))):
            ax = axes[0, 2 * i + j]
            for place, name in enumerate(order):
                values = part.loc[part["arm"] == name, column].to_numpy()
                shade = "#d1495b" if name.startswith("standard") else "#00798c" if name.startswith("W") else "#6c757d"
                ax.plot(values, np.full(len(values), place), "o", color=shade, alpha=0.35, markersize=3)
                if len(values):
                    ax.plot([values.mean()], [place], "|", color=shade, markersize=13, markeredgewidth=2)
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.set_yticks(range(len(order)), [WORDS[name] for name in order] if i == j == 0 else [""] * len(order))
            ax.set_xlabel(label)
            ax.set_title(TITLES[kind] if j == 0 else "")
            if j == 0:
                ax.set_xscale("symlog", linthresh=0.01, linscale=0.4)
                ax.axvline(0, color="#4a5159", linewidth=0.7)
                ax.set_xticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
                ax.minorticks_off()
    return figure


def ladders(rows: DataFrame) -> Figure:
    """Barrier against κ and against the fixed entries, of W-Asym perceptrons; and against width, by method."""
    rows = _named(rows, "pair")
    rows = rows[rows["network"] == rows["network"].iloc[0]]
    usual = _usual(rows)
    figure, axes = style.panels(1, 3, width=3.2, height=2.8, share=False)
    for ax, ladder, label in (
        (axes[0, 0], {"W, kappa 0": 0, "W, kappa/4": 0.25, "W, kappa/2": 0.5, "W": 1}, "κ over the published one"),
        (axes[0, 1], {"W, fix/4": 0.25, "W, fix/2": 0.5, "W": 1}, "fixed entries over the published number"),
    ):
        part = usual[usual["arm"].isin(list(ladder))]
        part = part.assign(at=part["arm"].map(ladder))
        style.band(ax, part, "at", "test_barrier", color="#00798c", marker="o")
        level = usual.loc[usual["arm"] == "standard", "test_barrier"].mean()
        ax.axhline(level, color="#d1495b", linestyle="--", linewidth=1.2)
        ax.text(1.0, level, "standard", color="#d1495b", ha="right", va="bottom", fontsize=8)
        ax.set(xlabel=label, ylabel="barrier of the test loss")
    names = [name for name in ("standard", "standard, weights", "standard, activations", "sigma, 1/sqrt d", "W")
             if name in set(rows["arm"])]  # fmt: skip
    across = rows[(rows["rate"] == usual["rate"].iloc[0]) & rows["arm"].isin(names)]
    across = across.assign(name=across["arm"].map(WORDS))
    style.band(axes[0, 2], across, "width", "test_barrier", "name", order=[WORDS[name] for name in names])
    axes[0, 2].set(xlabel="width of hidden layers", ylabel="")
    for ax in axes[0]:
        ax.set_yscale("symlog", linthresh=0.01, linscale=0.4)
        ax.set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
        ax.set_ylim(-0.004, 3)
        ax.minorticks_off()
    style.loglog(axes[0, 2], y=False, at=[float(width) for width in sorted(across["width"].unique())])
    style.legend(figure, axes[0, 2])
    return figure


def along(rows: DataFrame) -> Figure:
    """Test loss on the line between two networks, mean over pairs: standard, matched, W-Asym and the controls."""
    rows = _usual(_named(rows, "path"))
    kinds = list(dict.fromkeys(rows["network"]))
    names = [name for name in ("standard", "standard, weights", "standard, activations", "W", "W, kappa 0", "init only",
                               "shared init") if name in set(rows["arm"])]  # fmt: skip
    shades = style.colours([WORDS[name] for name in names])
    figure, axes = style.panels(1, len(kinds), width=3.5, height=2.8, share=False)
    for ax, kind in zip(axes[0], kinds, strict=True):
        for name in names:
            mean = rows[(rows["network"] == kind) & (rows["arm"] == name)].groupby("t")["test_loss"].mean()
            if len(mean):
                dashes = "--" if name == "W, kappa 0" else "-"
                ax.plot(mean.index.to_numpy(), mean.to_numpy(), dashes, color=shades[WORDS[name]], label=WORDS[name])
        ax.set(xlabel="position t on the line", title=TITLES[kind], yscale="log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("test loss")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Barrier of the test loss with a 95 % interval that knows of shared networks, its price, and what came of it."""
    found = []
    for _, part in _named(rows, "pair").groupby(["network", "width", "rate", "arm"], sort=False):
        first = part.iloc[0]
        line: dict[str, object] = {name: first[name] for name in ("network", "width", "rate")}
        line["method"] = WORDS[str(first["arm"])]
        line["barrier"] = interval(part)
        line["training barrier"] = round(float(part["train_barrier"].mean()), 4)
        line["accuracy lost halfway, pp"] = round(float(part["drop_pp"].mean()), 2)
        line["accuracy, ends %"] = round(100 * float(part["end_accuracy"].mean()), 2)
        line["distance"] = round(float(part["distance"].mean()), 4)
        line["pairs"] = len(part)
        found.append(line)
    return DataFrame(found)


def interval(part: DataFrame) -> str:
    """Mean barrier of pairs with its 95 % interval, which knows which pairs share a network.

    Args:
        part: rows with ``test_barrier`` and ``pair``.

    Returns:
        In words; the barrier alone where there is one pair.
    """
    values = [float(value) for value in part["test_barrier"]]
    if len(values) < 2:
        return f"{values[0]:.4f}"
    names = [str(name).split("-") for name in part["pair"]]
    return str(confidence(values, [(first, second) for first, second in names]))
