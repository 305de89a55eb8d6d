"""Is it easier to read what a network does from its weights, if its units cannot be exchanged? Zoos of small networks.

Metanetworks are fitted to predict the test accuracy of networks 64-16-16-10 on scikit-learn's digits from their
trainable weights: standard networks, and asymmetric ones (W-Asym) that share the places and values of a quarter of the
entries of every unit. Each zoo holds some hundred networks with learning rate, weight decay, label smoothing and epochs
of their own.

The paper compares whole zoos, though asymmetric networks are less accurate: targets of another law may be easier or
harder to predict. So zoos are also compared on parts with one histogram of accuracies (*matched*). The control *W,
kappa 0* has the same masks with fixed entries 0.

Measured at the quick preset, 600 networks a zoo, three seeds: a perceptron reads nothing from standard networks
(R² -0.32, τ 0.23) and something from W-Asym ones (R² 0.49, τ 0.50). Masks alone change nothing (R² -0.13, τ 0.20).
W-Asym networks are far less accurate here (0.26 on average, standard 0.66). At equal accuracies, 178 networks of each,
little is left of the gain in R² (0.11) and more of that in τ (0.28; standard -0.14). Statistics of the tensors predict
standard networks better than W-Asym ones (R² 0.93 and 0.69), and as well at equal accuracies (0.60 and 0.59): what the
paper finds for all metanetworks holds here for the perceptron only.

With constant learning rates the perceptron has R² 0.48 standard and 0.78 W-Asym, and at equal accuracies, 254 networks
of each, 0.02 and 0.80: there the gain is not one of easier targets. Statistics read both alike (0.89 and 0.90).

What differs from the paper: perceptrons on digits instead of ResNets on CIFAR-10, 600 networks instead of 10000. The
laws of the hyper-parameters, the batch of 512 and the schedule are the published ones; with 400 images that is one step
an epoch. DeepSets and DMC are in the paper preset alone, which has not been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, Verdict, style
from symfield.studies._lim2024_zoos import ALL, KAPPA_0, MATCHED, STANDARD, W_ASYM, Zoos, read_zoos

__all__ = ["STUDY", "Config", "figures", "run"]

SOURCE = "Lim et al. 2024, Table 3, arXiv:2405.20231"
OURS = "measured here"
_ENOUGH = 400
_FLOOR = -0.2


@dataclass(frozen=True)
class Config:
    """Zoos and metanetworks.

    Attributes:
        arms: which zoos.
        networks: in each zoo.
        width: units of both hidden layers.
        images: for training.
        batch: of images in a step.
        largest_rate: learning rates are this × 10^(−U(0, 2)).
        schedule: of the learning rates: up to the full rate at epoch 5 and down to 0, or the same throughout.
        fix: fixed share of the entries of every unit.
        kappa: standard deviation of the fixed entries.
        metanetworks: which read the zoos.
        rates: learning rates of these, chosen by validation.
        epochs: of these.
        meta_batch: networks in a step.
        seeds: of these.
        zoo_seeds: of the zoos, and the split of the images; one cell each.
        device: where to compute.
        dtype: precision.
    """

    arms: tuple[Literal["standard", "W", "W, kappa 0"], ...] = ("standard", "W", "W, kappa 0")
    networks: int = 600
    width: int = 16
    images: int = 400
    batch: int = 512
    largest_rate: float = 0.5
    schedule: Literal["triangular", "constant"] = "triangular"
    fix: float = 0.25
    kappa: float = 1.0
    metanetworks: tuple[Literal["MLP", "StatNN", "DeepSets", "DMC"], ...] = ("MLP", "StatNN", "DeepSets", "DMC")
    rates: tuple[float, ...] = (1e-4, 1e-3, 5e-3)
    epochs: int = 50
    meta_batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    zoo_seeds: tuple[int, ...] = (0, 1)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.networks < 20:
            raise FieldError(f"expected at least 20 networks in a zoo, received {self.networks}; networks=600")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every seed of the zoos: they are compared with each other.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    common = {name: getattr(config, name) for name in Zoos.__dataclass_fields__ if name != "seed"}
    return [Cell(read_zoos, Zoos(seed=seed, **common), cost=config.networks) for seed in config.zoo_seeds]


def zoos(rows: DataFrame) -> Figure:
    """Test accuracies of the networks of each zoo (share of the networks in bins of 2.5 points)."""
    rows = rows[rows["kind"] == "network"]
    order = list(dict.fromkeys(rows["arm"]))
    figure, axes = style.panels(1, 1, width=5.4, height=2.9)
    edges = np.linspace(0, 1, 41)
    for arm, shade in style.colours(order).items():
        values = rows.loc[rows["arm"] == arm, "test_accuracy"]
        share = np.histogram(values, edges)[0] / len(values)
        axes[0, 0].stairs(share, edges, color=shade, label=arm, linewidth=1.7)
    axes[0, 0].set(xlabel="test accuracy of a network", ylabel="share of the zoo", xlim=(0, 1))
    style.legend(figure, axes[0, 0])
    return figure


def predictions(rows: DataFrame) -> Figure:
    """How well metanetworks predict accuracies: whole zoos and matched parts (triangles: below the panel, no use)."""
    rows = rows[rows["kind"] == "prediction"]
    arms = list(dict.fromkeys(rows["arm"]))
    readers = list(dict.fromkeys(rows["metanetwork"]))
    shades = style.colours(arms)
    figure, axes = style.panels(1, 2, width=1.3 + 1.1 * len(readers), height=3.0, share=False)
    for panel, column, name in ((axes[0, 0], "r2", "R²"), (axes[0, 1], "tau", "Kendall's τ")):
        for k, arm in enumerate(arms):
            for targets in (ALL, MATCHED):
                part = rows[(rows["arm"] == arm) & (rows["targets"] == targets)]
                if arm == STANDARD and targets == MATCHED:
                    part = part[part["against"] == W_ASYM]
                shift = (k - (len(arms) - 1) / 2) * 0.24 + (0.05 if targets == MATCHED else -0.05)
                for i, reader in enumerate(readers):
                    values = part.loc[part["metanetwork"] == reader, column]
                    below = float(values.mean()) < _FLOOR
                    panel.errorbar(
                        [i + shift], [_FLOOR if below else values.mean()],
                        yerr=[values.std() if len(values) > 1 and not below else 0.0],
                        color=shades[arm], marker="v" if below else "o", markersize=5.5, capsize=2, linestyle="",
                        markerfacecolor="white" if targets == MATCHED else shades[arm],
                    )  # fmt: skip
        panel.set_xticks(range(len(readers)), readers)
        panel.set_xlim(-0.5, len(readers) - 0.5)
        panel.set(title=name)
        panel.set_ylim(_FLOOR - 0.07, 1.02)
        panel.axhline(0, color="#9aa1a9", linewidth=0.8)
        panel.grid(False, axis="x")
    handles = [Line2D([], [], color=shade, marker="o", linestyle="", label=arm) for arm, shade in shades.items()]
    handles += [
        Line2D([], [], color="#4a5159", marker="o", linestyle="", markerfacecolor=face, label=label)
        for face, label in (("#4a5159", "whole zoos"), ("white", "equal accuracies"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Means over seeds, and what was read: networks, mean and deviation of their accuracies."""
    rows = rows[rows["kind"] == "prediction"]
    found = []
    for (reader, targets, against, arm), part in rows.groupby(
        ["metanetwork", "targets", "against", "arm"], sort=False, dropna=False
    ):
        mean = part.mean(numeric_only=True)
        found.append(
            {
                "metanetwork": reader, "zoo": arm, "targets": targets, "matched with": against,
                "networks": round(float(mean["networks_read"])), "accuracy": round(float(mean["mean_accuracy"]), 3),
                "its deviation": round(float(mean["std_accuracy"]), 3), "R²": round(float(mean["r2"]), 3),
                "± R²": round(float(part["r2"].std()), 3), "τ": round(float(mean["tau"]), 3),
                "± τ": round(float(part["tau"].std()), 3),
            }
        )  # fmt: skip
    return DataFrame(found)


def _means(rows: DataFrame, column: str, targets: str) -> dict[tuple[str, str, str], float]:
    """By metanetwork, arm, and the zoo that it was matched with; what is worse than the mean says nothing, and is 0."""
    part = rows[(rows["kind"] == "prediction") & (rows["targets"] == targets)]
    return {
        (str(reader), str(arm), str(other)): max(0.0, float(held[column].mean()))
        for reader in part["metanetwork"].unique()
        for (arm, other), held in part[part["metanetwork"] == reader].groupby(["arm", "against"])
    }


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Whether asymmetric networks are easier to read, also at equal accuracies, and whether masks alone do it.

    A mean R² or τ below 0 counts as 0: how much worse than no prediction is no measure of what can be read.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts.
    """
    found: list[Verdict] = []
    enough = config.networks >= _ENOUGH and config.epochs >= 50
    for targets, where, source in ((ALL, "whole zoos", SOURCE), (MATCHED, "zoos of equal accuracies", OURS)):
        for column, name, bound in (("r2", "R²", 0.2), ("tau", "Kendall's τ", 0.15)):
            means = _means(rows, column, targets)

            def gain(reader: str, arm: str, means: dict = means, targets: str = targets) -> float | None:
                pair = (arm, STANDARD) if targets == MATCHED else ("", "")
                own, other = means.get((reader, arm, pair[1])), means.get((reader, STANDARD, pair[0]))
                return None if own is None or other is None else own - other

            claim = f"a perceptron reads W-Asym networks better, {where}: {name} is higher by at least {bound}"
            value = gain("MLP", W_ASYM)
            found.append(
                Verdict.at_least(claim, value, bound, source=source)
                if enough and value is not None
                else Verdict.not_tested(claim, f"needs {_ENOUGH} networks in each of both zoos", source=source)
            )
            claim = f"masks alone, fixed at 0, do not help a perceptron, {where}: {name} is higher by less than 0.1"
            value = gain("MLP", KAPPA_0)
            found.append(
                Verdict.at_most(claim, value, 0.1, source=OURS)
                if enough and value is not None
                else Verdict.not_tested(claim, "needs the zoo W, kappa 0", source=OURS)
            )
        r2, tau = _means(rows, "r2", targets), _means(rows, "tau", targets)
        for reader in config.metanetworks[1:]:
            pair = (W_ASYM, STANDARD) if targets == MATCHED else ("", "")
            keys = (reader, W_ASYM, pair[1]), (reader, STANDARD, pair[0])
            claim = f"{reader} reads W-Asym networks better, {where}: R² and τ are both higher"
            if enough and all(key in r2 for key in keys):
                gains = [values[keys[0]] - values[keys[1]] for values in (r2, tau)]
                found.append(
                    Verdict.true(
                        claim, min(gains) > 0, measured=f"R² {gains[0]:+.3f}, τ {gains[1]:+.3f}",
                        expected="both above 0", source=source,
                    )
                )  # fmt: skip
            else:
                found.append(Verdict.not_tested(claim, f"needs {_ENOUGH} networks in each of both zoos", source=source))
    return found


figures = {"zoos": zoos, "predictions": predictions}
STUDY = Study(
    name="lim2024_metanetworks",
    claim=(
        "The accuracy of a network is easier to predict from its weights if the network is asymmetric: its weights have"
        " one meaning."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {
            "networks": 40, "images": 100, "metanetworks": ("MLP", "StatNN"), "rates": (1e-3, 1e-2), "epochs": 5,
            "seeds": (0, 1), "zoo_seeds": (0,), "arms": (STANDARD, W_ASYM),
        },
        "quick": {"metanetworks": ("MLP", "StatNN"), "zoo_seeds": (0,)},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"predictions": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
