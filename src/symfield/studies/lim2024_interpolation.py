"""From initial to trained parameters on a straight line: does the training loss fall, and is it convex?

Networks of each arm are trained with their own rate, decay, label smoothing and number of epochs, by the published
laws and the same for all arms; the training loss, smoothing included, is taken at 25 points. *Δ* is the largest rise
from one point to the next: the curve is monotone if it is at most 0. *Local convexity* is the share of interior points
that do not lie above the chord of their neighbours, *global convexity* the share of points that do not lie above the
chord of the ends. The published code draws that chord from the first point through the second; the table shows both.

Tasks: scikit-learn's digits, for a small residual network and a perceptron. The published rates reach to 0.5; here the
residual network takes rates up to 0.2, as its batches are small.

Measured at ``quick`` (8 residual networks of each arm): local convexity 0.908 for standard networks, 0.880 with masks
alone, 0.962 for σ-Asym and 1.000 for W-Asym, whose lines are all monotone; those of standard ones in 62.5 %. Published
are 0.548, 0.675 and 0.769 for standard, σ- and W-Asym: the order holds, the distances do not. W-Asym networks fit the
training samples less (94.3 %, others 99.9 %), and those that only begin at the fixed values do the same in all of this
(1.000, 96.2 %). Perceptrons do not tell the arms apart (0.897 to 0.929).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure
from pandas import DataFrame, Series

from symfield.experiments import Cell, FieldError, Grid, Study, Verdict, style
from symfield.studies._lim2024_figures import TITLES, WORDS
from symfield.studies._lim2024_lines import Lines, lines
from symfield.studies._lim2024_verdicts import SOURCE

__all__ = ["STUDY", "Config", "figures", "run"]

OURS = "measured here"
NETS = 8


@dataclass(frozen=True)
class Config:
    """Networks, the laws of their hyper-parameters, and the line.

    Attributes:
        networks: which architectures.
        methods: arms.
        resnet_width: channels of the first stage.
        mlp_width: of three hidden layers.
        resnet_rate: highest rate of residual networks.
        mlp_rate: highest rate of perceptrons.
        least_epochs: of the law of epochs.
        most_epochs: of the law of epochs.
        peak: epoch at which rates are highest.
        batch: samples in a step.
        nets: networks of each arm and architecture.
        samples: how many training samples the loss on the line is taken over.
        points: of the line.
        seed: of split, masks and fixed values; networks count up from 1000 times it.
        device: where to compute.
        dtype: precision.
    """

    networks: tuple[Literal["resnet8", "mlp"], ...] = ("resnet8", "mlp")
    methods: tuple[Literal["standard", "W", "W, kappa 0", "sigma, 1/sqrt d", "init only"], ...] = (
        "standard",
        "W, kappa 0",
        "sigma, 1/sqrt d",
        "W",
        "init only",
    )
    resnet_width: int = 16
    mlp_width: int = 64
    resnet_rate: float = 0.2
    mlp_rate: float = 0.5
    least_epochs: int = 10
    most_epochs: int = 40
    peak: float = 5.0
    batch: int = 128
    nets: int = 50
    samples: int = 1297
    points: int = 25
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if not 1 <= self.least_epochs <= self.most_epochs:
            raise FieldError(
                f"expected 1 ≤ least_epochs ≤ most_epochs, received {self.least_epochs}, {self.most_epochs}"
            )
        if self.points < 3:
            raise FieldError(f"expected at least 3 points, received {self.points}; convexity needs neighbours")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each architecture and arm.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    seeds = tuple(1000 * config.seed + i for i in range(config.nets))
    found = []
    for point in Grid(network=config.networks, method=config.methods):
        residual = point["network"] == "resnet8"
        setting = Lines(
            **point, width=config.resnet_width if residual else config.mlp_width,
            rate=config.resnet_rate if residual else config.mlp_rate, epochs=(config.least_epochs, config.most_epochs),
            peak=config.peak, batch=config.batch, seed=config.seed, seeds=seeds, samples=config.samples,
            points=config.points, device=config.device, dtype=config.dtype,
        )  # fmt: skip
        found.append(Cell(lines, setting, cost=(5.0 if residual else 1.0) * config.nets * config.most_epochs))
    return found


def curves(rows: DataFrame) -> Figure:
    """Training loss on the line from initial (0) to trained (1) parameters, each over its start: all networks."""
    kinds, methods = list(dict.fromkeys(rows["network"])), list(dict.fromkeys(rows["method"]))
    figure, axes = style.panels(len(kinds), len(methods), width=2.3, height=2.1)
    shades = style.colours(methods)
    for i, kind in enumerate(kinds):
        for j, name in enumerate(methods):
            here = rows[(rows["network"] == kind) & (rows["method"] == name) & (rows["kind"] == "path")]
            for _, path in here.groupby("net"):
                values = path["loss"].to_numpy()
                axes[i, j].plot(path["t"].to_numpy(), values / values[0], color=shades[name], alpha=0.35, linewidth=0.9)
            axes[i, j].set_title(WORDS[name] if i == 0 else "", fontsize=8)
            axes[i, j].set_xlabel("position t" if i == len(kinds) - 1 else "")
            axes[i, j].set_ylabel(f"{TITLES[kind]}\nloss over its start" if j == 0 else "")
            axes[i, j].set_ylim(0, 1.2)
    return figure


def convexity(rows: DataFrame) -> Figure:
    """Local convexity, and largest rise from point to point, of every network against its learning rate."""
    part = rows[rows["kind"] == "line"]
    kinds, methods = list(dict.fromkeys(part["network"])), list(dict.fromkeys(part["method"]))
    figure, axes = style.panels(len(kinds), 2, width=3.8, height=2.5, share=False)
    shades = style.colours(methods)
    for i, kind in enumerate(kinds):
        for j, (column, label) in enumerate((("local", "local convexity"), ("gap", "largest rise Δ"))):
            for name in methods:
                here = part[(part["network"] == kind) & (part["method"] == name)]
                style_of = {"color": shades[name], "alpha": 0.6, "markersize": 3.5, "label": WORDS[name]}
                axes[i, j].plot(here["net_rate"].to_numpy(), here[column].to_numpy(), "o", **style_of)
            axes[i, j].set(xscale="log", ylabel=label, title=TITLES[kind] if j == 0 else "")
            axes[i, j].set_xlabel("highest learning rate" if i == len(kinds) - 1 else "")
            if column == "gap":
                axes[i, j].axhline(0, color="#4a5159", linewidth=0.7)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Mean ± deviation over networks that did not diverge; the last column has the chord of the published code."""
    part = rows[rows["kind"] == "line"]
    found = []
    for (kind, name), here in part.groupby(["network", "method"], sort=False):
        line: dict[str, object] = {"network": TITLES[str(kind)], "method": WORDS[str(name)]}
        line["networks"] = f"{int(here['finite'].sum())} of {len(here)}"
        line["largest rise"] = _spread(here["gap"])
        line["monotone %"] = round(100 * float(here["monotone"].mean()), 1)
        line["local"] = _spread(here["local"])
        line["global"] = _spread(here["global"])
        line["accuracy %"] = round(100 * float(here["accuracy"].mean()), 1)
        line["wrong chord"] = _spread(here["wrong_chord"])
        found.append(line)
    return DataFrame(found)


def _spread(values: Series) -> str:
    return f"{values.mean():.3f} ± {values.std():.3f}"


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Verdicts on means over networks, for the residual network; the perceptron does not discriminate.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        The verdicts.
    """
    part = rows[(rows["kind"] == "line") & (rows["network"] == "resnet8") & (rows["finite"] == 1)]
    means = part.groupby("method")[["local", "global", "monotone", "wrong_chord"]].mean()
    sizes = part.groupby("method").size()
    source = f"{SOURCE}, Table 4"

    def at(name: str, column: str) -> float:
        enough = int(sizes.get(name, 0)) >= NETS and config.most_epochs >= 10
        return float(means[column].get(name, float("nan"))) if enough else float("nan")

    claims: list[tuple[str, float, str, float, str]] = [
        ("W-Asym: the line is locally convex (share of points)", at("W", "local"), "least", 0.95, source),
        ("W-Asym is locally more convex than standard (difference)",
         at("W", "local") - at("standard", "local"), "least", 0.05, source),
        ("W-Asym: every network falls monotonically (share)", at("W", "monotone"), "least", 1.0, source),
        ("W-Asym: no point lies above the chord of the ends (share)", at("W", "global"), "least", 0.99, source),
        ("masks without fixed values do nothing (local convexity, distance from standard)",
         abs(at("W, kappa 0", "local") - at("standard", "local")), "most", 0.05, OURS),
        ("control: a start at the fixed values does the same (local convexity, distance from W-Asym)",
         abs(at("init only", "local") - at("W", "local")), "most", 0.05, OURS),
    ]  # fmt: skip
    found = []
    for claim, value, side, bound, where in claims:
        if value != value:
            why = f"needs the methods that it names, {NETS} networks that did not diverge, and 10 epochs"
            found.append(Verdict.not_tested(claim, why, source=where))
        elif side == "least":
            found.append(Verdict.at_least(claim, value, bound, source=where))
        else:
            found.append(Verdict.at_most(claim, value, bound, source=where))
    return found


figures = {"curves": curves, "convexity": convexity}
STUDY = Study(
    name="lim2024_interpolation",
    claim="From initial to trained parameters the loss of networks with fixed entries falls, and is convex.",
    source=f"{SOURCE}, Table 4",
    config=Config,
    presets={
        "tiny": {
            "nets": 2, "least_epochs": 1, "most_epochs": 2, "peak": 1.0, "samples": 64, "points": 5, "mlp_width": 24,
            "methods": ("standard", "W"),
        },
        "quick": {"nets": 8, "least_epochs": 8, "most_epochs": 12, "samples": 400},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"lines": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
