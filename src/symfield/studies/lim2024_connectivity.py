"""Are networks with fewer parameter symmetries linearly connected as they are trained, and what else would do it?

Pairs of networks that share masks and fixed values are trained apart; the loss is measured on the straight line between
them, without any matching. *Barrier* is the paper's: test loss halfway less the mean of those at the ends. W-Asym fixes
entries of every weight at large values, σ-Asym gates units by fixed random combinations of all. Beside them stand
standard networks, as they are and matched by weights or activations, and controls that the paper lacks: masks with
fixed values of zero, networks that only *begin* at the fixed values, networks that begin at the same weights, fixed
biases, fixed values that are added, and activations that are linear.

Tasks: scikit-learn's digits for perceptrons with LayerNorm and GELU and for a small residual network, a block model for
a graph network whose batch norms are re-estimated on the line. Each group of networks shares its split of the data, its
masks and fixed values; pairs are those within a group. Perceptrons have the published shares of fixed entries (1/8 of
each row, 1/2 in the head) and κ (1, 1, 1/2, 1/4); residual networks a quarter of each row and κ = 2; graph networks 6
entries of each row and κ = 1/2.

What differs from the paper: the data, and that trainable entries of all arms begin alike, where the published code
starts masked convolutions 2.4 times smaller than standard ones. With ``data=mnist``, ``cifar10`` or ``arxiv`` and
``folder=PATH`` the published architectures, rates and epochs are run on data of your own; this has not been run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, style
from symfield.studies._lim2024_arms import ARMS
from symfield.studies._lim2024_pairs import Pairs, connectivity
from symfield.studies._lim2024_verdicts import SOURCE, judge
from symfield.weightspace import confidence

__all__ = ["STUDY", "Config", "figures", "run"]

Method = Literal[
    "standard",
    "W",
    "W, kappa 0",
    "W, kappa/4",
    "W, kappa/2",
    "W, fix/4",
    "W, fix/2",
    "W, kappa 1",
    "additive",
    "additive, small",
    "sigma, 1",
    "sigma, 1/sqrt d",
    "sigma, .01/sqrt d",
    "half",
    "bias, 1",
    "bias, 9",
    "init only",
    "shared init",
]
_OF_WIDTHS = ("standard", "W", "sigma, 1/sqrt d")
_OF_RATES = ("standard", "W", "init only")
_OF_RESNETS = ("standard", "W", "W, kappa 0", "W, kappa/4", "init only", "shared init")
_OF_GRAPHS = ("standard", "W", "W, kappa 0", "init only", "shared init")
_PUBLISHED: dict[str, list[dict[str, Any]]] = {
    "mnist": [{"network": "mlp", "width": 512, "rate": 1e-3, "decay": 0.03, "epochs": 25, "batch": 64}],
    "cifar10": [
        {"network": "resnet20", "width": 16 * times, "rate": 1e-2, "decay": 0.0, "epochs": epochs, "batch": 128,
         "warmup": 20.0, "start": 0.01, "augment": True}
        for times, epochs in ((1, 100), (8, 50))
    ],
    "arxiv": [
        {"network": "graph", "width": 256, "rate": 1e-3, "decay": 0.0, "epochs": 500, "batch": 10**9, "warmup": 25.0}
    ],
}  # fmt: skip
_OF_PUBLISHED = ("standard", "W", "sigma, 1", "sigma, 1/sqrt d", "init only", "shared init")


@dataclass(frozen=True)
class Config:
    """Networks, methods, and the line between them.

    Attributes:
        data: digits and a block model, or data of your own: ``mnist``, ``cifar10`` and ``arxiv`` run the published
            architecture, rate, decay and epochs.
        folder: where your data lie: ``mnist.npz`` or ``cifar10.npz`` with x_train, y_train, x_test, y_test;
            ``arxiv.npz`` with x, y, edges, train, test; or the same as ``.pt``.
        own_epochs: fewer epochs than published on data of your own; 0 for the published number.
        networks: which architectures, for digits and the block model.
        methods: arms of the table; those that are not defined for an architecture are left out there.
        width: of three hidden layers.
        widths: further widths, for standard, W-Asym and σ-Asym.
        rate: of AdamW.
        rates: further rates, for standard, W-Asym and the control of the start.
        decay: of weights.
        epochs: passes over the data.
        batch: samples in a step.
        resnet_width: channels of the first stage.
        resnet_widths: further ones, for standard and W-Asym.
        resnet_rate: of AdamW, without decay, after a warm-up of 5.5 epochs.
        resnet_epochs: passes over the data, in batches of 128.
        resnet_groups: how many of the groups are residual networks trained for.
        graph_width: of three hidden layers.
        graph_rate: of AdamW, without decay, after a warm-up of 5 % of the epochs.
        graph_epochs: steps, as all nodes are one batch.
        seeds: of the groups: split, masks and fixed values.
        nets: networks in a group.
        points: of the line.
        device: where to compute.
        dtype: precision.
    """

    data: Literal["digits", "mnist", "cifar10", "arxiv"] = "digits"
    folder: str = ""
    own_epochs: int = 0
    networks: tuple[Literal["mlp", "resnet8", "graph"], ...] = ("mlp", "resnet8", "graph")
    methods: tuple[Method, ...] = get_args(Method)
    width: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    rate: float = 1e-3
    rates: tuple[float, ...] = (1e-2,)
    decay: float = 0.03
    epochs: int = 50
    batch: int = 64
    resnet_width: int = 16
    resnet_widths: tuple[int, ...] = (32,)
    resnet_rate: float = 3e-3
    resnet_epochs: int = 25
    resnet_groups: int = 3
    graph_width: int = 64
    graph_rate: float = 1e-3
    graph_epochs: int = 200
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    nets: int = 4
    points: int = 25
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.nets < 2:
            raise FieldError(f"expected at least 2 networks in a group, as pairs are measured, received {self.nets}")
        if self.points < 3 or self.points % 2 == 0:
            raise FieldError(f"expected an odd number of points, at least 3, received {self.points}; the middle is one")
        if self.resnet_width % 16 or any(width % 16 for width in self.resnet_widths):
            raise FieldError("the first stage of a residual network has 16 channels, or a multiple; received others")
        if not self.seeds:
            raise FieldError("expected at least one seed, as each is a group of networks; seeds=0,1")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every architecture, width, rate and method, with all pairs.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    common = {"folder": config.folder, "dim": 0, "device": config.device, "dtype": config.dtype, "nets": config.nets,
              "points": config.points, "warmup": 0.0, "start": 0.0, "augment": False}  # fmt: skip
    settings: list[tuple[dict[str, Any], Sequence[str]]] = []
    if config.data != "digits":
        for known in _PUBLISHED[config.data]:
            own = {"data": config.data, "seeds": config.seeds, **known}
            own["epochs"] = config.own_epochs or known["epochs"]
            graph = known["network"] == "graph"
            settings.append((own, _OF_GRAPHS if graph else _OF_PUBLISHED))
    else:
        settings = [
            setting
            for name, made in (("mlp", _perceptrons), ("resnet8", _resnets), ("graph", _graphs))
            if name in config.networks
            for setting in made(config)
        ]
    found = []
    for setting, methods in settings:
        for method in methods:
            if method not in config.methods:
                continue
            whole = {**common, **setting, "method": method}
            if method == "sigma, 1/sqrt d" and config.data == "cifar10":
                whole["rate"] = 1e-3  # as published: it does not train at the rate of the others
            found.append(Cell(connectivity, Pairs(**whole, matchings=_matchings(whole)), cost=_cost(whole)))
    return found


def _matchings(setting: dict[str, Any]) -> tuple[str, ...]:
    """Standard networks are matched too; graph networks by activations, as published."""
    if setting["method"] != "standard" or setting["network"] == "resnet8":
        return ("none",)
    return ("none", "activations") if setting["network"] == "graph" else ("none", "weights", "activations")


def _cost(setting: dict[str, Any]) -> float:
    each = {"mlp": 1.0, "resnet8": 4.0, "graph": 0.1, "resnet20": 1000.0}[setting["network"]]
    extra = 1.4 if len(_matchings(setting)) > 1 else 1.0
    widths = {"mlp": 128, "resnet8": 16, "graph": 64, "resnet20": 16}
    wide = (setting["width"] / widths[setting["network"]]) ** 1.5
    return float(each * extra * wide * max(setting["epochs"], 1) * setting["nets"] * len(setting["seeds"]))


def _perceptrons(config: Config) -> list[tuple[dict[str, Any], Sequence[str]]]:
    setting = {
        "data": "digits", "network": "mlp", "width": config.width, "rate": config.rate, "decay": config.decay,
        "epochs": config.epochs, "batch": config.batch, "seeds": config.seeds,
    }  # fmt: skip
    made: list[tuple[dict[str, Any], Sequence[str]]] = [(setting, tuple(ARMS))]
    made += [({**setting, "width": width}, _OF_WIDTHS) for width in config.widths if width != config.width]
    made += [({**setting, "rate": rate}, _OF_RATES) for rate in config.rates if rate != config.rate]
    return made


def _resnets(config: Config) -> list[tuple[dict[str, Any], Sequence[str]]]:
    setting = {
        "data": "digits", "network": "resnet8", "width": config.resnet_width, "rate": config.resnet_rate, "decay": 0.0,
        "epochs": config.resnet_epochs, "batch": 128, "seeds": config.seeds[: config.resnet_groups], "warmup": 5.5,
    }  # fmt: skip
    others = [width for width in config.resnet_widths if width != config.resnet_width]
    return [(setting, _OF_RESNETS), *(({**setting, "width": width}, ("standard", "W")) for width in others)]


def _graphs(config: Config) -> list[tuple[dict[str, Any], Sequence[str]]]:
    setting = {
        "data": "blocks", "network": "graph", "width": config.graph_width, "rate": config.graph_rate, "decay": 0.0,
        "epochs": config.graph_epochs, "batch": 10**9, "seeds": config.seeds, "warmup": 0.05 * config.graph_epochs,
    }  # fmt: skip
    return [(setting, _OF_GRAPHS)]


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


_TITLES = {"mlp": "perceptron", "resnet8": "ResNet8", "resnet20": "ResNet20", "graph": "graph network"}


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
            ax.set_title(_TITLES[kind] if j == 0 else "")
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
        ax.set(xlabel=label, ylabel="barrier of the test loss", yscale="log", ylim=(1e-3, 2))
        ax.set_yticks([1e-3, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
    names = [name for name in ("standard", "standard, weights", "standard, activations", "sigma, 1/sqrt d", "W")
             if name in set(rows["arm"])]  # fmt: skip
    across = rows[(rows["rate"] == usual["rate"].iloc[0]) & rows["arm"].isin(names)]
    across = across.assign(name=across["arm"].map(WORDS))
    style.band(axes[0, 2], across, "width", "test_barrier", "name", order=[WORDS[name] for name in names])
    axes[0, 2].set(xlabel="width of hidden layers", ylabel="", yscale="symlog")
    axes[0, 2].set_yscale("symlog", linthresh=0.01, linscale=0.4)
    axes[0, 2].set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
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
        ax.set(xlabel="position t on the line", title=_TITLES[kind], yscale="log")
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
        line["barrier"] = _interval(part)
        line["training barrier"] = round(float(part["train_barrier"].mean()), 4)
        line["accuracy lost halfway, pp"] = round(float(part["drop_pp"].mean()), 2)
        line["accuracy, ends %"] = round(100 * float(part["end_accuracy"].mean()), 2)
        line["distance"] = round(float(part["distance"].mean()), 4)
        line["pairs"] = len(part)
        found.append(line)
    return DataFrame(found)


def _interval(part: DataFrame) -> str:
    values = [float(value) for value in part["test_barrier"]]
    if len(values) < 2:
        return f"{values[0]:.4f}"
    names = [str(name).split("-") for name in part["pair"]]
    return str(confidence(values, [(first, second) for first, second in names]))


figures = {"barriers": barriers, "ladders": ladders, "along": along}
STUDY = Study(
    name="lim2024_connectivity",
    claim=(
        "Networks with fixed entries in their weights are linearly connected as they are trained, without any matching;"
        " the fixed values do it, not the masks, and a start at the same values does it as well."
    ),
    source=f"{SOURCE}, Table 1 and Appendix; controls are ours",
    config=Config,
    presets={
        "tiny": {
            "methods": ("standard", "W", "W, kappa 0", "sigma, 1/sqrt d", "bias, 1", "init only", "shared init"),
            "width": 32, "widths": (), "rates": (), "epochs": 6, "resnet_widths": (), "resnet_epochs": 1,
            "resnet_groups": 1, "graph_epochs": 10, "graph_width": 32, "seeds": (0,), "nets": 2, "points": 3,
        },
        "quick": {
            "widths": (32,), "rates": (), "resnet_widths": (), "resnet_epochs": 20, "resnet_groups": 1,
            "graph_epochs": 100, "seeds": (0, 1), "points": 5,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"barriers": table},
    verdicts=judge,
)  # fmt: skip
run = STUDY.run
