"""Can units of trained networks be told apart, and what tells them apart?

Pairs of perceptrons that share masks and fixed values are trained apart on digits. For each hidden layer: the mean
correlation of units in place, that under the best assignment, and how many units that assignment leaves in place. For
one network of each group: what exchanges of units cost in trainable weights, on the 16 leading directions of the
layer's inputs, relative to what units pay for what they compute.

Without training: prices in random layers on subspaces of large and small coherence, with and without fixed values, and
the distance of the two closest centres against the number of units. With training on ten clusters in a subspace of
R^64: barriers against its dimension, whose units have less room in few dimensions.

Measured at ``quick``: in place units correlate 0.87 / 0.81 / 0.74 (hidden layers 1 / 2 / 3) in W-Asym networks, 0.99 of
what the best assignment reaches, and 0.00 in standard ones and in those with fixed biases. With masks alone it is
0.01 / 0.00 / 0.10, and a permutation is cheaper than the identity. The barrier of W-Asym networks is 0.185 in two
dimensions and below 0.001 in 8 and 32. Networks that only begin at the fixed values have their units in place as well
(0.87 / 0.81 / 0.74), although nothing is fixed and exchanges have no price: prices count from the fixed values, and do
not tell what a common start does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Grid, Study, Verdict, style
from symfield.studies._burgin2026_cells import Centres, Layers, agreement, centres, exchanges
from symfield.studies._lim2024_figures import WORDS, interval
from symfield.studies._lim2024_pairs import Pairs, connectivity

__all__ = ["STUDY", "Config", "figures", "run"]

SOURCE = "Bürgin et al. 2026, arXiv:2606.04754"
OURS = "measured here"
TRAINED, PAIRS = 30, 5


@dataclass(frozen=True)
class Config:
    """Networks, random layers, and clusters.

    Attributes:
        methods: arms of the perceptrons on digits.
        width: of three hidden layers.
        epochs: passes over the data.
        rate: of AdamW.
        decay: of weights.
        batch: samples in a step.
        dims: dimensions of the subspace of the clusters.
        cluster_methods: arms on clusters.
        cluster_epochs: passes over the clusters.
        bases: subspaces of random layers: of coherence 1, random, of smallest coherence.
        kappas: scales of fixed values in random layers, beside trainable entries of deviation 0.1.
        centre_dims: dimensions of the centres.
        centre_units: numbers of units.
        seeds: of groups, and of random layers.
        nets: networks in a group.
        draws: of random layers and centres.
        points: of the line, for barriers.
        device: where to compute.
        dtype: precision.
    """

    methods: tuple[
        Literal["standard", "W", "W, kappa 0", "W, kappa/4", "W, kappa/2", "additive", "bias, 1", "init only"], ...
    ] = ("standard", "W, kappa 0", "W, kappa/4", "W, kappa/2", "W", "additive", "bias, 1", "init only")
    width: int = 128
    epochs: int = 50
    rate: float = 1e-3
    decay: float = 0.03
    batch: int = 64
    dims: tuple[int, ...] = (2, 4, 8, 16, 32)
    cluster_methods: tuple[Literal["standard", "W", "W, kappa 1", "W, kappa 0"], ...] = ("standard", "W", "W, kappa 1")
    cluster_epochs: int = 30
    bases: tuple[Literal["axes", "random", "flat"], ...] = ("axes", "random", "flat")
    kappas: tuple[float, ...] = (0.0, 1.0)
    centre_dims: tuple[int, ...] = (2, 4, 8)
    centre_units: tuple[int, ...] = (16, 64, 256, 1024)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    nets: int = 4
    draws: int = 40
    points: int = 5
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.nets < 2 or not self.seeds:
            raise FieldError(f"expected groups of at least 2 networks, received {self.nets} for seeds {self.seeds}")
        if self.points < 3 or self.points % 2 == 0:
            raise FieldError(f"expected an odd number of points, at least 3, received {self.points}; the middle is one")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each arm on digits, arm and dimension on clusters, kind of random layer, and number of centres.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    common: dict[str, Any] = {
        "folder": "", "network": "mlp", "width": config.width, "rate": config.rate, "decay": config.decay,
        "batch": config.batch, "warmup": 0.0, "start": 0.0, "augment": False, "seeds": config.seeds,
        "nets": config.nets, "matchings": ("none",), "points": config.points, "device": config.device,
        "dtype": config.dtype,
    }  # fmt: skip
    cost = float(config.nets * len(config.seeds))
    found = [
        Cell(agreement, Pairs(**common, data="digits", dim=0, method=name, epochs=config.epochs), cost=50 * cost)
        for name in config.methods
    ]
    found += [
        Cell(
            connectivity,
            Pairs(**common, data="clusters", dim=point["dim"], method=point["method"], epochs=config.cluster_epochs),
            cost=30 * cost,
        )
        for point in Grid(dim=config.dims, method=config.cluster_methods)
    ]
    draws = tuple(range(config.draws))
    found += [
        Cell(exchanges, Layers(**point, dim=4, share=0.25, units=16, inputs=64, trained=0.1, seeds=draws))
        for point in Grid(basis=config.bases, kappa=config.kappas)
    ]
    found += [
        Cell(centres, Centres(**point, seeds=draws))
        for point in Grid(dim=config.centre_dims, units=config.centre_units)
    ]
    return found


def _of(rows: DataFrame, kind: str) -> DataFrame:
    return rows[rows["kind"] == kind]


def _barriers(rows: DataFrame) -> DataFrame:
    return rows[(rows["kind"] == "pair") & (rows["data"] == "clusters")]


def correlations(rows: DataFrame) -> Figure:
    """Correlation of units in place (full) and under the best assignment (open), by hidden layer and method."""
    part = _of(rows, "agreement")
    order = list(dict.fromkeys(part["method"]))
    layers = sorted(int(layer) for layer in part["layer"].unique())
    figure, axes = style.panels(1, len(layers), width=2.9, height=0.3 * len(order) + 0.7)
    for ax, layer in zip(axes[0], layers, strict=True):
        means = part[part["layer"] == layer].groupby("method")[["identity", "optimal"]].mean()
        for place, name in enumerate(order):
            low, high = means.loc[name, "identity"], means.loc[name, "optimal"]
            ax.plot([low, high], [place, place], color="#adb5bd", linewidth=1.5, zorder=1)
            ax.plot([high], [place], "o", color="#00798c", markerfacecolor="white", label="best assignment")
            ax.plot([low], [place], "o", color="#00798c", markersize=5, label="in place")
        ax.set(xlabel="mean correlation", title=f"hidden layer {layer}", xlim=(-0.08, 1.05))
    axes[0, 0].set_yticks(range(len(order)), [WORDS[name] for name in order])
    axes[0, 0].set_ylim(len(order) - 0.4, -0.6)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[:2][::-1], labels[:2][::-1], loc="outside lower center", ncols=2)
    return figure


def dimensions(rows: DataFrame) -> Figure:
    """Barrier of the test loss against the dimension of the inputs (median and band over pairs), by method."""
    part = _barriers(rows)
    part = part.assign(name=part["method"].map(WORDS))
    figure, axes = style.panels(1, 2, width=3.7, share=False)
    style.band(axes[0, 0], part, "dim", "test_barrier", "name")
    axes[0, 0].set(xlabel="dimension of the inputs", ylabel="barrier of the test loss")
    axes[0, 0].set_yscale("symlog", linthresh=0.01, linscale=0.4)
    axes[0, 0].set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
    style.loglog(axes[0, 0], y=False, at=[float(dim) for dim in sorted(part["dim"].unique())])
    near = _of(rows, "centres")
    near = near.assign(name="k = " + near["dim"].astype(int).astype(str))
    style.band(axes[0, 1], near, "units", "distance", "name")
    axes[0, 1].set(xlabel="units m", ylabel="distance of the closest centres")
    style.loglog(axes[0, 1], at=[float(units) for units in sorted(near["units"].unique())])
    for ax in axes[0]:
        ax.legend(fontsize=7)
    return figure


def agreements(rows: DataFrame) -> DataFrame:
    """Hidden layers 1 / 2 / 3: correlation in place, under the best assignment, and share of units left in place."""
    part = _of(rows, "agreement")
    found = []
    for name in dict.fromkeys(part["method"]):
        means = part[part["method"] == name].groupby("layer")[["identity", "optimal", "in_place"]].mean()
        line: dict[str, object] = {"method": WORDS[name]}
        for column, words in (("identity", "in place"), ("optimal", "best assignment"), ("in_place", "left in place")):
            line[words] = " / ".join(f"{value:.2f}" for value in means[column])
        found.append(line)
    return DataFrame(found)


def prices(rows: DataFrame) -> DataFrame:
    """Layers 1 / 2 / 3: coherence of inputs, swaps that cost more than units pay, median swap, cheapest permutation."""
    part = _of(rows, "prices")
    found = []
    for name in dict.fromkeys(part["method"]):
        means = part[part["method"] == name].groupby("layer")[["coherence", "dearer", "swap", "gap"]].mean()
        line: dict[str, object] = {"method": WORDS[name]}
        for column, words in (
            ("coherence", "coherence"),
            ("dearer", "swaps dearer than own price"),
            ("swap", "median swap"),
            ("gap", "cheapest permutation"),
        ):
            line[words] = " / ".join(f"{value:.2f}" for value in means[column])
        found.append(line)
    return DataFrame(found)


def random_layers(rows: DataFrame) -> DataFrame:
    """Random layers: coherence of the subspace, κ, swaps that cost more than units pay, cheapest permutation."""
    part = _of(rows, "exchange")
    groups = part.groupby(["basis", "kappa"], sort=False)[["coherence", "dearer", "swap", "gap"]].median()
    return groups.round(3).reset_index()


def by_dimension(rows: DataFrame) -> DataFrame:
    """Barrier of the test loss on clusters with a 95 % interval, and test accuracy, by dimension and method."""
    found = []
    rows = _barriers(rows)
    for dim in sorted(int(dim) for dim in rows["dim"].unique()):
        for name in dict.fromkeys(rows["method"]):
            part = rows[(rows["dim"] == dim) & (rows["method"] == name)]
            line: dict[str, object] = {"dimension": dim, "method": WORDS[name]}
            line["barrier"] = interval(part)
            line["accuracy lost halfway, pp"] = round(float(part["drop_pp"].mean()), 2)
            line["accuracy, ends %"] = round(100 * float(part["end_accuracy"].mean()), 2)
            found.append(line)
    return DataFrame(found)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Verdicts on means over pairs; bounds were set before these networks were trained.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        The verdicts; those of trained networks wait for enough pairs and epochs.
    """
    found: list[Verdict] = []
    part = _of(rows, "agreement")
    for name, bound in (("W", 0.9), ("additive", 0.9), ("standard", 0.1), ("W, kappa 0", 0.2), ("bias, 1", 0.3)):
        here = part[part["method"] == name]
        above = bound > 0.5
        near, end = ("nearly", "smallest") if above else ("nothing like", "largest")
        claim = f"{WORDS[name]}: in place units correlate {near} as under the best assignment, by layer ({end} ratio)"
        if len(here) < 3 * PAIRS or config.epochs < TRAINED:
            found.append(
                Verdict.not_tested(claim, f"needs the method, {PAIRS} pairs and {TRAINED} epochs", source=SOURCE)
            )
            continue
        means = here.groupby("layer")[["identity", "optimal"]].mean()
        ratio = means["identity"] / means["optimal"]
        if above:
            found.append(Verdict.at_least(claim, ratio.min(), bound, source=SOURCE))
        else:
            found.append(Verdict.at_most(claim, ratio.abs().max(), bound, source=SOURCE))
    found += _of_prices(_of(rows, "prices"), config)
    found += _of_layers(_of(rows, "exchange"))
    found += _of_dimensions(_barriers(rows), config)
    found += _of_centres(_of(rows, "centres"))
    return found


def _of_prices(part: DataFrame, config: Config) -> list[Verdict]:
    found = []
    swap = part.groupby(["method", "layer"])["swap"].mean()
    for low, high in (("standard", "W, kappa 0"), ("W, kappa 0", "W")):
        claim = f"swaps cost more in {WORDS[high]} than in {WORDS[low]}, by layer (least difference of medians)"
        if not {low, high} <= set(part["method"]) or config.epochs < TRAINED:
            found.append(Verdict.not_tested(claim, f"needs both methods and {TRAINED} epochs", source=SOURCE))
        else:
            found.append(Verdict.at_least(claim, float((swap[high] - swap[low]).min()), 0.0, source=SOURCE))
    claim = "all units of a standard layer pay the same for an answer: swaps cost nothing (largest median)"
    if "standard" in set(part["method"]):
        found.append(Verdict.at_most(claim, float(swap["standard"].abs().max()), 1e-6, source=SOURCE))
    else:
        found.append(Verdict.not_tested(claim, "needs the method standard", source=SOURCE))
    return found


def _of_layers(part: DataFrame) -> list[Verdict]:
    shares = part.groupby(["basis", "kappa"])["dearer"].mean()
    values = {key: float(value) for key, value in shares.items()}
    found = []
    claim = "without F, masks tell units apart on axes, not on a flat subspace (dear swaps, difference of shares)"
    if {("axes", 0.0), ("flat", 0.0)} <= set(values):
        found.append(Verdict.at_least(claim, values["axes", 0.0] - values["flat", 0.0], 0.5, source=SOURCE))
    else:
        found.append(Verdict.not_tested(claim, "needs bases axes and flat, and kappa 0", source=SOURCE))
    claim = "on a flat subspace fixed values tell units apart, and masks do not (shares of dear swaps, difference)"
    if {("flat", 1.0), ("flat", 0.0)} <= set(values):
        found.append(Verdict.at_least(claim, values["flat", 1.0] - values["flat", 0.0], 0.8, source=SOURCE))
    else:
        found.append(Verdict.not_tested(claim, "needs the basis flat, and kappas 0 and 1", source=SOURCE))
    return found


def _of_dimensions(part: DataFrame, config: Config) -> list[Verdict]:
    claim = "W-Asym: the barrier at dimension 2 exceeds that at 32 (difference)"
    means = part[part["method"] == "W"].groupby("dim")["test_barrier"].agg(["mean", "size"])
    if not {2, 32} <= set(means.index) or means["size"].min() < PAIRS or config.cluster_epochs < TRAINED:
        why = f"needs dims 2 and 32, {PAIRS} pairs and {TRAINED} epochs"
        return [Verdict.not_tested(claim, why, source=SOURCE)]
    return [Verdict.at_least(claim, float(means["mean"][2] - means["mean"][32]), 0.03, source=SOURCE)]


def _of_centres(part: DataFrame) -> list[Verdict]:
    found = []
    for dim in sorted(int(dim) for dim in part["dim"].unique()):
        here = part[part["dim"] == dim]
        claim = f"k = {dim}: the closest centres are at a distance that goes as m^(-2/k) (slope in logarithms)"
        median = here.groupby("units")["distance"].median()
        if len(median) < 3:
            found.append(Verdict.not_tested(claim, "needs three numbers of units", source=SOURCE))
            continue
        slope = float(np.polyfit(np.log(median.index), np.log(median), 1)[0])
        found.append(Verdict.close(claim, slope, -2 / dim, 0.15, source=SOURCE))
    return found


figures = {"correlations": correlations, "dimensions": dimensions}
STUDY = Study(
    name="burgin2026_identifiability",
    claim=(
        "Masks break the symmetry of a network's graph, but units stay interchangeable in effect; large fixed values"
        " make them identifiable, unless inputs have few dimensions."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {
            "methods": ("standard", "W, kappa 0", "W"), "width": 24, "epochs": 4, "dims": (2, 8),
            "cluster_methods": ("W",), "cluster_epochs": 3, "centre_units": (16, 64, 256), "seeds": (0,), "nets": 2,
            "draws": 10, "points": 3,
        },
        "quick": {"dims": (2, 8, 32), "seeds": (0, 1), "draws": 20, "cluster_methods": ("standard", "W")},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"agreement": agreements, "prices": prices, "random_layers": random_layers, "clusters": by_dimension},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
