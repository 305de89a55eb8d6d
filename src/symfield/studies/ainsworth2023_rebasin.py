"""Do networks that were trained apart lie in one basin, once their units are matched? Barriers against width.

Multilayer perceptrons from different seeds are trained on the same data; every pair is matched, and the loss is
measured along the straight line between the two. The *barrier* is the most that the curve rises above the chord
between its ends. Four corners are reported for each pair: unmatched and matched, plain and with REPAIR, which gives
hidden units the mean and deviation that lie between those of the ends.

Tasks: scikit-learn's handwritten digits with three hidden layers, where every good method is near zero, and ten classes
of six Gaussian clusters each in 16 dimensions with five narrow hidden layers, which keeps the methods apart.

Measured at the paper's preset, mean over three pairs, training loss. Digits, width 512, Adam (SGD): 0.65 (0.60)
unmatched, 0.045 (0.033) with REPAIR alone, 0.0039 (0.010) matched by weights, 0.0022 (0.0090) with scales too. So
REPAIR alone removes nineteen twentieths of the barrier of wide networks: a low repaired barrier says little about
matching. Clusters, width 32: 3.1 (2.4) unmatched, 5.4 (5.2) with REPAIR alone, 1.6 (1.2) matched by weights, and 0.82
(0.66) by descent on the loss of the midpoint, at a lower cosine: closer parameters are not a lower barrier. A start
from activations does not improve the inner product that weight matching reaches (0.02 % and 0.3 % less), and
Frank-Wolfe improved it by 0.1 % at eight times the cost; from near the barycentre, as it starts now, by 0.3 % on three
pairs of the same kind at four times the cost. With width the matched barrier of digits keeps falling under
Adam (a hundredfold from 32 to 512), but under SGD it levels off near 0.01 from width 128 on.

What differs from the papers: they show images of MNIST and CIFAR and larger networks; here everything runs on one core.
Bands are ranges over pairs of seeds; the intervals of the table know that pairs share networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from symfield.experiments import Cell, FieldError, Study, style
from symfield.studies._rebasin_cells import MIDPOINT, NONE, Pairs, barriers
from symfield.studies._rebasin_verdicts import REPAIR, SOURCE, judge
from symfield.weightspace import confidence

__all__ = ["STUDY", "Config", "figures", "run"]


@dataclass(frozen=True)
class Config:
    """Networks, methods, and the line between them.

    Attributes:
        tasks: the data.
        digits_widths: units of a hidden layer, digits.
        digits_depth: hidden layers, digits.
        clusters_widths: units of a hidden layer, clusters.
        clusters_depth: hidden layers, clusters.
        optimisers: SGD has momentum 0.9.
        adam_rate: step of Adam.
        sgd_rate: step of SGD.
        epochs: passes over the data.
        batch: samples in a step.
        seeds: of the networks; all pairs are matched.
        methods: how the second network of a pair is moved.
        midpoint_limit: largest width at which the descent on the loss of the midpoint is run, which is slow.
        points: of the line.
        device: where to compute.
        dtype: precision.
    """

    tasks: tuple[Literal["digits", "clusters"], ...] = ("digits", "clusters")
    digits_widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    digits_depth: int = 3
    clusters_widths: tuple[int, ...] = (16, 32, 64, 128)
    clusters_depth: int = 5
    optimisers: tuple[Literal["Adam", "SGD"], ...] = ("Adam", "SGD")
    adam_rate: float = 1e-3
    sgd_rate: float = 0.05
    epochs: int = 60
    batch: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[
        Literal[
            "none",
            "weights",
            "activations",
            "activations, then weights",
            "Frank-Wolfe",
            "weights and scales",
            "midpoint loss",
        ],
        ...,
    ] = (
        "none",
        "weights",
        "activations",
        "activations, then weights",
        "Frank-Wolfe",
        "weights and scales",
        "midpoint loss",
    )
    midpoint_limit: int = 32
    points: int = 17
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise FieldError(f"expected at least two seeds, as pairs are matched, received {self.seeds}; seeds=0..2")
        if self.points < 3 or self.points % 2 == 0:
            raise FieldError(f"expected an odd number of points, at least 3, received {self.points}; the middle is one")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every task, width and optimiser, with all seeds and methods.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    made = []
    for task in config.tasks:
        widths, depth = (
            (config.digits_widths, config.digits_depth)
            if task == "digits"
            else (config.clusters_widths, config.clusters_depth)
        )
        for optimiser in config.optimisers:
            for width in widths:
                methods = tuple(name for name in config.methods if name != MIDPOINT or width <= config.midpoint_limit)
                setting = Pairs(
                    task=task, width=width, depth=depth, optimiser=optimiser,
                    rate=config.adam_rate if optimiser == "Adam" else config.sgd_rate,
                    epochs=config.epochs, batch=config.batch, seeds=config.seeds, methods=methods,
                    points=config.points, device=config.device, dtype=config.dtype,
                )  # fmt: skip
                made.append(Cell(barriers, setting, cost=config.epochs * depth * (width + 30) ** 2))
    return made


def _order(rows: DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["method"]))


def _settings(rows: DataFrame) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(rows["task"])), list(dict.fromkeys(rows["optimiser"]))


def against_width(rows: DataFrame) -> Figure:
    """Barrier of the training loss against width, by method, plain and repaired (mean and range over pairs)."""
    rows = rows[rows["kind"] == "pair"]
    tasks, optimisers = _settings(rows)
    figure, axes = style.panels(len(tasks), 2 * len(optimisers), width=3.1, height=2.7, share=False)
    for i, task in enumerate(tasks):
        for j, (optimiser, repair) in enumerate((o, r) for o in optimisers for r in (False, True)):
            part = rows[(rows["task"] == task) & (rows["optimiser"] == optimiser) & (rows["repair"] == repair)]
            _lines(axes[i, j], part, "train_loss_barrier", _order(rows))
            axes[i, j].set_yscale("log")
            axes[i, j].set_ylim(*_reach(rows.loc[rows["task"] == task, "train_loss_barrier"]))
            axes[i, j].set_title(f"{task}, {optimiser}{', repaired' if repair else ''}")
            axes[i, j].set_xlabel("width" if i == len(tasks) - 1 else "")
            axes[i, j].set_ylabel("barrier of the training loss" if j == 0 else "")
    _legend(figure, _order(rows))
    return figure


def along(rows: DataFrame) -> Figure:
    """Training loss along the line, narrowest and widest networks: unmatched and matched, plain and repaired."""
    rows = rows[rows["kind"] == "path"]
    tasks, optimisers = _settings(rows)
    order = [name for name in (NONE, "weights", "weights and scales") if name in _order(rows)]
    figure, axes = style.panels(len(tasks), 2, width=3.7, height=2.7, share=False)
    shades = style.colours(_order(rows))
    for i, task in enumerate(tasks):
        here = rows[(rows["task"] == task) & (rows["optimiser"] == optimisers[0])]
        for j, width in enumerate((here["width"].min(), here["width"].max())):
            for name in order:
                for repair in (False, True):
                    part = here[(here["width"] == width) & (here["method"] == name) & (here["repair"] == repair)]
                    mean = part.groupby("t")["train_loss"].mean()
                    dashes = "--" if repair else "-"
                    axes[i, j].plot(mean.index.to_numpy(), mean.to_numpy(), dashes, color=shades[name], linewidth=1.6)
            axes[i, j].set_title(f"{task}, {optimisers[0]}, width {width}")
            axes[i, j].set_xlabel("position t on the line" if i == len(tasks) - 1 else "")
            axes[i, j].set_ylabel("training loss" if j == 0 else "")
            axes[i, j].set_ylim(bottom=0)
    handles = [Line2D([], [], color=shades[name], label="unmatched" if name == NONE else name) for name in order]
    handles.append(Line2D([], [], color="#4a5159", linestyle="--", label="repaired"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def cosine(rows: DataFrame) -> Figure:
    """Cosine of the two networks' parameters against width, by method (mean and range over pairs)."""
    rows = rows[(rows["kind"] == "pair") & ~rows["repair"].astype(bool)]
    tasks, optimisers = _settings(rows)
    figure, axes = style.panels(len(tasks), len(optimisers), width=3.7, height=2.5, share=False)
    top = 1.1 * rows["cosine"].max()
    for i, task in enumerate(tasks):
        for j, optimiser in enumerate(optimisers):
            part = rows[(rows["task"] == task) & (rows["optimiser"] == optimiser)]
            _lines(axes[i, j], part, "cosine", _order(rows))
            axes[i, j].set_title(f"{task}, {optimiser}")
            axes[i, j].set_xlabel("width" if i == len(tasks) - 1 else "")
            axes[i, j].set_ylim(min(0.0, rows["cosine"].min()), top)
            axes[i, j].set_ylabel("cosine" if j == 0 else "")
    _legend(figure, _order(rows))
    return figure


def _legend(figure: Figure, order: Sequence[str]) -> None:
    shades = style.colours(order)
    handles = [
        Line2D([], [], color=shades[name], marker="o", label="unmatched" if name == NONE else name) for name in order
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def _reach(values: Series) -> tuple[float, float]:
    """Limits of a logarithmic axis around positive values."""
    positive = values[values > 0]
    return 0.6 * float(positive.min()), 1.7 * float(positive.max())


def _lines(axes: Axes, part: DataFrame, column: str, order: Sequence[str]) -> None:
    shades = style.colours(order)
    for name in order:
        groups = part[part["method"] == name].groupby("width")[column]
        middle = groups.mean()
        across = middle.index.to_numpy()
        axes.plot(across, middle.to_numpy(), marker="o", color=shades[name], label=name, markersize=3.5, linewidth=1.5)
        axes.fill_between(
            across, groups.min().to_numpy(), groups.max().to_numpy(), color=shades[name], alpha=0.12, linewidth=0
        )
    style.loglog(axes, y=False, at=[float(width) for width in sorted(part["width"].unique())])


def table(rows: DataFrame) -> DataFrame:
    """Means over pairs with 95 % intervals that know of shared seeds; barriers at four corners."""
    pairs = rows[rows["kind"] == "pair"]
    found = []
    for key, part in pairs.groupby(["task", "optimiser", "width", "method"], sort=False):
        line: dict[str, object] = dict(zip(("task", "optimiser", "width", "method"), key, strict=True))
        for repair, word in ((False, "plain"), (True, "repaired")):
            corner = part[part["repair"] == repair]
            line[f"loss barrier, {word}"] = _interval(corner)
            line[f"test accuracy barrier %, {word}"] = round(100 * float(corner["test_accuracy_barrier"].mean()), 2)
        line["cosine"] = round(float(part["cosine"].mean()), 4)
        line["CPU s"] = round(float(part["cpu_s"].mean()), 3)
        found.append(line)
    return DataFrame(found)


def _interval(corner: DataFrame) -> str:
    """Mean barrier over pairs, and where it lies at 95 % if there are several; a barrier is at least 0."""
    barriers = [float(value) for value in corner["train_loss_barrier"]]
    if len(barriers) < 2:
        return f"{barriers[0]:.4f}"
    names = [str(name).split("-") for name in corner["pair"]]
    found = confidence(barriers, [(first, second) for first, second in names])
    return f"{found.mean:.4f} [{max(found.low, 0):.4f}, {found.high:.4f}]"


figures = {"against_width": against_width, "along": along, "cosine": cosine}
STUDY = Study(
    name="ainsworth2023_rebasin",
    claim=(
        "Wide networks trained from different seeds lie in one basin up to a permutation of their units: the barrier"
        " between matched networks falls towards zero with width."
    ),
    source=f"{SOURCE}; {REPAIR}",
    config=Config,
    presets={
        "tiny": {
            "digits_widths": (24, 64), "clusters_widths": (16,), "optimisers": ("Adam",), "epochs": 8,
            "seeds": (0, 1), "points": 7, "midpoint_limit": 16,
        },
        "quick": {
            "digits_widths": (32, 128), "clusters_widths": (16, 64), "optimisers": ("Adam",), "epochs": 30,
            "points": 13, "midpoint_limit": 16,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"corners": table},
    verdicts=judge,
)  # fmt: skip
run = STUDY.run
