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

Measured at ``quick``, test loss: 0.655 for standard perceptrons, 0.051 and 0.045 matched by weights and activations,
0.005 for W-Asym (97.3 % of test samples right at the ends, 98.1 % for standard networks). The masks alone do nothing
(0.674 at κ = 0), networks that only begin at the fixed values do as well (0.004), and σ-Asym does not help (1.166 and
0.644 at scales 1 and 1/√d); at 0.01/√d it is a linear network in effect (0.174, the activation x/2 0.173). Residual
networks: 1.657 standard, 0.058 W-Asym at a price of 5.4 points, 0.051 for the control. Graph networks: 0.707, 0.136,
0.116, and -0.004 matched by activations.

What differs from the paper: the data, and that trainable entries of all arms begin alike, where the published code
starts masked convolutions 2.4 times smaller than standard ones. With ``data=mnist``, ``cifar10`` or ``arxiv`` and
``folder=PATH`` the published architectures, rates and epochs are run on data of your own; this has not been run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from symfield.experiments import Cell, FieldError, Study
from symfield.studies._lim2024_arms import ARMS
from symfield.studies._lim2024_figures import along, barriers, ladders, table
from symfield.studies._lim2024_pairs import Pairs, connectivity
from symfield.studies._lim2024_verdicts import SOURCE, judge

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
_OF_RESNETS: tuple[Method, ...] = ("standard", "W", "W, kappa 0", "W, kappa/4", "init only", "shared init")
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
        resnet_methods: arms that residual networks are trained for, of those that are defined for them.
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
    resnet_methods: tuple[Method, ...] = _OF_RESNETS
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
    methods = [method for method in _OF_RESNETS if method in config.resnet_methods]
    wider = [method for method in methods if method in ("standard", "W")]
    return [(setting, methods), *(({**setting, "width": width}, wider) for width in others)]


def _graphs(config: Config) -> list[tuple[dict[str, Any], Sequence[str]]]:
    setting = {
        "data": "blocks", "network": "graph", "width": config.graph_width, "rate": config.graph_rate, "decay": 0.0,
        "epochs": config.graph_epochs, "batch": 10**9, "seeds": config.seeds, "warmup": 0.05 * config.graph_epochs,
    }  # fmt: skip
    return [(setting, _OF_GRAPHS)]


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
            "widths": (32,), "rates": (), "epochs": 40, "resnet_widths": (), "resnet_epochs": 15, "resnet_groups": 1,
            "resnet_methods": ("standard", "W", "W, kappa 0", "init only", "shared init"), "graph_epochs": 100,
            "seeds": (0, 1), "points": 5,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"barriers": table},
    verdicts=judge,
)  # fmt: skip
run = STUDY.run
