"""What is exact about asymmetric networks: counts, masks, automorphisms, equivariances, ranks. After Lim et al. (2024).

Weights with fixed entries, other ones in every unit, and a gate that mixes all units, are meant to take the symmetries
of parameters away. Here is what can be said of them exactly, on a computer, and nothing about training:

- *counts*: parameters of the published networks, total and trainable; the law of their masks;
- *collisions*: the published code draws masks without looking whether two units have the same. With 6 of 16 entries
  fixed in 32 units that happens in 6 % of all draws, and the theorem then does not apply. Ours differ always;
- *reproducible*: masks are the same in every process, where the published ones depend on a salt of the process;
- *training*: fixed entries under AdamW with decay;
- *automorphisms* (T1): every one of 86 400 pairs of permutations is tried on masks of a 4-6-5-3 network;
- *function*: outputs under permutations of all hidden units, with fixed entries left where they are;
- *equivariances* (T2): permutations, scales and signs that pass through a nonlinearity;
- *ranks*: continuous symmetries of W₂ σ(W₁ x), by the rank of a Jacobian;
- *gates*: at 0.01/√d, as published for one network, the gate is a constant and the network linear.

What this does not show: that networks with κ > 0 have no symmetries (T1 is about κ = 0), that different parameters give
different functions (T2 excludes two kinds of linear maps, and all would be needed), or why networks can be averaged.

Two statements of the paper differ from what is found: 230 024 trainable entries of ResNet20 are printed, and the
architecture has 230 026; and first convolutions of two networks are fixed as a whole, where T1 asks for nonzero rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, Verdict, style
from symfield.studies._lim2024_models import (
    GraphNetwork,
    ResNet,
    graph_rules,
    mlp,
    mlp_rules,
    resnet8_rules,
    resnet20_rules,
)
from symfield.studies._lim2024_theory_cells import FAMILIES, Facts, measure

__all__ = [
    "STUDY",
    "Config",
    "figures",
    "run",
    "mlp",
    "mlp_rules",
    "ResNet",
    "resnet20_rules",
    "resnet8_rules",
    "GraphNetwork",
    "graph_rules",
]

SOURCE = "Lim et al. 2024, arXiv:2405.20231"
OURS = "ours"
Family = Literal[
    "counts", "collisions", "reproducible", "training", "automorphisms", "function", "equivariances", "ranks", "gates"
]


@dataclass(frozen=True)
class Config:
    """Which facts, on how many draws.

    Attributes:
        families: kinds of facts.
        seeds: of masks, fixed values, weights and inputs.
        steps: of AdamW, where a network is trained.
        trials: random permutations, scales and signs for each nonlinearity and seed.
        device: everything is small and runs on the CPU.
        dtype: round-off is part of the claims, so float64.
    """

    families: tuple[Family, ...] = (
        "counts", "collisions", "reproducible", "training", "automorphisms", "function", "equivariances", "ranks",
        "gates",
    )  # fmt: skip
    seeds: tuple[int, ...] = tuple(range(50))
    steps: int = 100
    trials: int = 100
    device: Literal["cpu"] = "cpu"
    dtype: Literal["float64"] = "float64"

    def __post_init__(self) -> None:
        if not self.families or not self.seeds:
            raise FieldError("expected at least one family and one seed")
        if min(self.seeds) < 0 or min(self.steps, self.trials) < 1:
            raise FieldError("expected non-negative seeds, and at least one step and one trial")


_COSTS = {"counts": 6.0, "reproducible": 8.0, "automorphisms": 5.0, "equivariances": 3.0}


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every family.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    return [
        Cell(measure, Facts(family, config.seeds, config.steps, config.trials), cost=_COSTS.get(family, 1.0))
        for family in FAMILIES
        if family in config.families
    ]


def _kind(rows: DataFrame, kind: str) -> DataFrame:
    return rows[rows["kind"] == kind]


def _table(rows: DataFrame, kind: str, columns: dict[str, str]) -> DataFrame:
    """The columns of one kind of rows under other names; empty where the kind was not measured."""
    return _kind(rows, kind).reindex(columns=list(columns)).rename(columns=columns).reset_index(drop=True)


def _unmeasured(panel: Axes) -> None:
    panel.set_axis_off()
    panel.text(0.5, 0.5, "not measured", ha="center", va="center", transform=panel.transAxes)


def spectra(rows: DataFrame) -> Figure:
    """Singular values of the Jacobian of W₂ σ(W₁ x) in 32 weights: what drops to round-off is a continuous symmetry."""
    figure, axes = style.panels(width=6.4, height=3.2)
    panel = axes[0, 0]
    part = _kind(rows, "rank")
    if part.empty:
        _unmeasured(panel)
        return figure
    shades = style.colours(list(dict.fromkeys(part["case"])))
    for case, those in part.groupby("case", sort=False):
        one = those[those["seed"] == those["seed"].min()]
        rank = int(one["rank"].iloc[0])
        label = f"{case}: rank {rank}"
        panel.plot(one["index"], one["value"].clip(lower=1e-18), "o-", color=shades[case], label=label)
    style.loglog(panel, x=False)
    panel.set(xlabel="index", ylabel="singular value / largest")
    style.legend(figure, panel)
    return figure


_MAPS = {"permutation": "permutations", "scale": "positive scales", "sign": "signs"}


def violations(rows: DataFrame) -> Figure:
    """Smallest max |σ(A x) − A σ(x)| over random maps A of three kinds, d = 16; where it is zero, σ commutes."""
    figure, axes = style.panels(width=5.4, height=3.0)
    panel = axes[0, 0]
    part = _kind(rows, "equivariance")
    if part.empty:
        _unmeasured(panel)
        return figure
    names = list(dict.fromkeys(part["case"]))
    shades = style.colours(list(_MAPS))
    for i, case in enumerate(names):
        for j, maps in enumerate(_MAPS):
            least = part[(part["case"] == case) & (part["maps"] == maps)]["value"].min()
            place = i + 0.27 * (j - 1)
            panel.barh(place, least, height=0.24, color=shades[maps], label=_MAPS[maps] if i == 0 else None)
            panel.text(
                least + 0.03, place, "commutes" if least < 1e-12 else f"{least:.2g}", va="center", fontsize=8,
                color=shades[maps],
            )  # fmt: skip
    panel.set(
        xlabel="violation at standard normal inputs",
        xlim=(0, 1.15 * part["value"].groupby([part["case"], part["maps"]]).min().max()),
    )
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.grid(False, axis="y")
    style.legend(figure, panel)
    return figure


def gates(rows: DataFrame) -> Figure:
    """Spread of the gate, and share of its output that no multiple of the input explains, against the scale of F."""
    figure, axes = style.panels(width=5.2, height=3.1)
    panel = axes[0, 0]
    part = _kind(rows, "gate")
    if part.empty:
        _unmeasured(panel)
        return figure
    for (column, label), shade in zip(
        (("value", "standard deviation of the gate"), ("nonlinear", "part of the output that is not linear")),
        style.colours(["a", "b"]).values(),
        strict=True,
    ):
        mean = part.groupby("scale")[column].mean()
        panel.plot(mean.index, mean, "o-", color=shade, label=label)
    style.loglog(panel)
    for scale, word, side in (
        (0.01, "graph network", "center"),
        (1.0, "ResNet", "center"),
        (16.0, "MLP, d = 256", "right"),
    ):
        panel.axvline(scale, color="#9aa1a9", linewidth=0.9, linestyle="--", zorder=0)
        panel.annotate(
            word, (scale, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha=side,
            va="bottom", fontsize=8, color="#4a5159",
        )  # fmt: skip
    panel.set(xlabel="standard deviation of F, times √d", ylabel="at inputs of unit variance")
    style.legend(figure, panel)
    return figure


def counts(rows: DataFrame) -> DataFrame:
    """Parameters of the published networks, total and trainable, ours beside the published numbers."""
    columns = ("total", "published_total", "trainable", "published_trainable")
    table = _table(rows, "count", {"case": "network", **{name: name for name in columns}})
    return table.astype(dict.fromkeys(columns, int))


def collisions(rows: DataFrame) -> DataFrame:
    """Probability that two units of a layer get equal masks if nothing prevents it: formula, and share of draws."""
    names = {"case": "layer", "probability": "probability", "value": "share of draws", "draws": "draws",
             "enforced": "with equal rows, ours"}  # fmt: skip
    return _table(rows, "collision", names)


def masks(rows: DataFrame) -> DataFrame:
    """Masks of the published networks: fixed entries or filters of every unit, and the probability of equal units."""
    names = {"case": "network", "weight": "weight", "rows": "rows", "each": "fixed", "units": "of", "frozen": "frozen",
             "probability": "probability"}  # fmt: skip
    return _table(rows, "mask", names)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Every fact, at its worst draw.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        The verdicts of the families that were measured.
    """
    return [verdict for family in config.families for verdict in _VERDICTS[family](rows)]


def _of_counts(rows: DataFrame) -> list[Verdict]:
    found = []
    table = counts(rows).set_index("network")
    for name, row in table.iterrows():
        claim = f"{name}: parameters, total and trainable"
        one, two = (
            tuple(int(row[key]) for key in keys)
            for keys in (
                ("total", "trainable"),
                ("published_total", "published_trainable"),
            )
        )
        origin = f"{SOURCE}; the architecture, where 230 024 is printed" if name == "ResNet20" else SOURCE
        found.append(Verdict.true(claim, one == two, measured=str(one), expected=str(two), source=origin))
    part = _kind(rows, "mask")
    thawed = part[~part["frozen"].astype(bool)]
    claim = "masks of the published networks: weights with unequal counts, and with equal rows that are not fixed whole"
    wrong = int((~part["even"].astype(bool)).sum()), int((thawed["equal_rows"] > 0).sum())
    found.append(Verdict.true(claim, wrong == (0, 0), measured=str(wrong), expected="(0, 0)", source=SOURCE))
    frozen = sorted(part[part["frozen"].astype(bool)]["case"].unique())
    claim = "networks of which a layer is fixed as a whole, so that T1 does not apply"
    expected = ["ResNet20 x8", "ResNet8"]
    found.append(
        Verdict.true(claim, frozen == expected, measured=", ".join(frozen), expected=", ".join(expected), source=OURS)
    )
    return found


def _of_collisions(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "collision")
    error = (part["probability"] * (1 - part["probability"]) / part["draws"]) ** 0.5
    off = ((part["value"] - part["probability"]).abs() / error.clip(lower=1e-9)).max()
    skip = part[part["case"] == "ResNet20 skip 16 → 32"]["probability"].iloc[0]
    return [
        Verdict.at_most("equal rows come as often as the formula says (largest deviation in standard errors)", off, 4,
                        source=OURS),
        Verdict.between("a published layer draws equal rows now and then, if nothing prevents it (probability for 6 of"
                        " 16 entries in 32 units)", skip, 0.03, 0.1, source="combinatorics"),
        Verdict.at_most("masks of ours with equal rows", int(part["enforced"].sum()), 0, source=OURS),
    ]  # fmt: skip


def _of_processes(rows: DataFrame) -> list[Verdict]:
    same = bool(_kind(rows, "process")["same"].astype(bool).all())
    part = _kind(rows, "values")
    return [
        Verdict.true("fresh processes with other salts make the same masks and values, bit for bit", same,
                     measured=same, expected=True, source=OURS),
        Verdict.true("float32 and float64 hold the same values, and layers of other names other masks",
                     bool(part["same"].astype(bool).all() and part["differ"].astype(bool).all()),
                     measured=len(part), expected=len(part), source=OURS),
        Verdict.at_most("standard deviation of 20 000 fixed values beside κ (largest relative deviation)",
                        (part["value"] - 1).abs().max(), 0.03, source=SOURCE),
    ]  # fmt: skip


def _of_training(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "training")
    return [
        Verdict.at_most("largest change of a fixed entry under AdamW with decay", part["value"].max(), 0, source=OURS),
        Verdict.at_least("median change of trainable entries (so that there was something to see)", part["moved"].min(),
                         1e-3, source=OURS),
    ]  # fmt: skip


def _of_automorphisms(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "automorphism")
    draws = len(part)
    return [
        Verdict.at_most(f"T1, κ = 0: automorphisms of a masked 4-6-5-3 network, most over {draws} masks, all 86 400"
                        " permutations tried", part["value"].max(), 1, source=SOURCE),
        Verdict.at_least("with two units of equal rows and equal outgoing columns there is another one (fewest)",
                         part["alike"].min(), 2, source=OURS),
        Verdict.true("masks with a zero row are refused", bool(part["refused"].astype(bool).all()),
                     measured=int(part["refused"].astype(bool).sum()), expected=draws, source=OURS),
    ]  # fmt: skip


def _of_functions(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "function").groupby("case")["value"]
    most, least = part.max(), part.min()
    return [
        Verdict.at_most("permuting hidden units leaves a standard network alone (largest relative change of outputs)",
                        most["standard"], 1e-5, source=SOURCE),
        *(Verdict.at_least(f"{case}: permuting the trainable entries alone does not (smallest relative change)",
                           least[case], 1e-2, source=SOURCE) for case in ("masked, κ = 0", "masked, κ = 1")),
    ]  # fmt: skip


def _of_equivariances(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "equivariance")
    least = part.groupby(["case", "maps"])["value"].min()
    most = part.groupby(["case", "maps"])["value"].max()
    gate = min(least["FiGLU", maps] for maps in ("permutation", "pairs", "scale", "sign"))
    return [
        Verdict.at_least("T2: FiGLU commutes with no permutation, pair of permutations or diagonal map that was tried"
                         " (smallest violation)", gate, 1e-3, source=SOURCE),
        Verdict.at_most("elementwise nonlinearities commute with permutations (largest violation)",
                        max(most[case, "permutation"] for case in ("ReLU", "tanh", "GELU")), 1e-12,
                        source="by definition"),
        Verdict.at_most("ReLU commutes with positive scales, tanh with signs (largest violation)",
                        max(most["ReLU", "scale"], most["tanh", "sign"]), 1e-12, source="by definition"),
    ]  # fmt: skip


def _of_ranks(rows: DataFrame) -> list[Verdict]:
    part = _kind(rows, "rank")
    found = []
    for case, rank, why in (("identity", 16, "GL(4)"), ("ReLU", 28, "four scalings"), ("GELU", 32, "none"),
                            ("FiGLU", 32, "none")):  # fmt: skip
        ranks = part[part["case"] == case]["rank"]
        claim = f"{case}: rank of the Jacobian in 32 weights (continuous symmetry: {why})"
        measured = ", ".join(str(int(value)) for value in sorted(ranks.unique()))
        found.append(Verdict.true(claim, set(ranks) == {rank}, measured=measured, expected=rank, source=OURS))
    gaps = part["gap"].min()
    found.append(Verdict.at_least("smallest gap between singular values that count and those that do not", gaps, 1e3,
                                  source=OURS))  # fmt: skip
    return found


def _of_gates(rows: DataFrame) -> list[Verdict]:
    mean = _kind(rows, "gate").groupby("scale")[["value", "nonlinear"]].max()
    return [
        Verdict.at_most("gate at std 0.01/√d, d = 256: its standard deviation around ½", mean["value"][0.01], 4e-3,
                        source="derived: ¼ · 0.01"),
        Verdict.at_most("and the part of its output that is not linear", mean["nonlinear"][0.01], 0.01, source=OURS),
        Verdict.at_least("at std 1/√d the gate is one (part of the output that is not linear)",
                         mean["nonlinear"][1.0], 0.1, source=OURS),
    ]  # fmt: skip


_VERDICTS = {
    "counts": _of_counts,
    "collisions": _of_collisions,
    "reproducible": _of_processes,
    "training": _of_training,
    "automorphisms": _of_automorphisms,
    "function": _of_functions,
    "equivariances": _of_equivariances,
    "ranks": _of_ranks,
    "gates": _of_gates,
}

figures = {"spectra": spectra, "violations": violations, "gates": gates}
STUDY = Study(
    name="lim2024_theory",
    claim=(
        "What is exact about asymmetric networks: masks leave no automorphism where fixed entries are missing edges,"
        " gates commute with no permutation or diagonal map, and neither excludes all symmetries."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {"seeds": (0, 1, 2), "steps": 20, "trials": 10, "families": (
            "counts", "collisions", "training", "automorphisms", "function", "equivariances", "ranks", "gates",
        )},
        "quick": {"seeds": tuple(range(10)), "trials": 30},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"counts": counts, "collisions": collisions, "masks": masks},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
