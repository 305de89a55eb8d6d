"""One step sees one direction of several: y = z₁ + (z₂² - 1)/√2 along the first two eigenvectors.

The gradients of all neurons share the direction of z₁, which a linear part shows from about r₁ samples. The second
direction is there too, smaller by the initial correlation of a neuron and z₂, and appears once the shared direction is
removed, at about r₁² samples. Two removals: the true e₁ is projected out, or the direction that the gradients
themselves have most in common (their first right singular vector). The latter needs no knowledge of the target, and
takes along the noise that neurons share because they see the same samples: e₂ then shows better still. The null level
is the same measurement with labels independent of the inputs.

*Prediction* for what is left: z₁ acts as label noise of variance one, so that it is the overlap of a target h₂(z₂) with
that noise in the d - 1 other dimensions. No published curve is known; setting and prediction are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Grid, Study, Verdict, style, versioned
from symfield.onestep import (
    SMALLEST_SAMPLE,
    Given,
    PowerLaw,
    Target,
    aligned,
    gradient_step,
    hermite_link,
    predicted_overlap,
)
from symfield.studies._threads import one_thread
from symfield.studies._wortsman2024 import DERIVED, SOURCE, seeded, seeded_students, seeded_target
from symfield.typing import Tensor

__all__ = ["STUDY", "Config", "figures", "run"]

#: What is done to gradients before their overlap with e₂ is taken.
_REMOVED = {"nothing": "nothing removed", "e1": "e₁ removed", "shared": "shared direction removed"}


@dataclass(frozen=True)
class Config:
    """The grid.

    Attributes:
        dim: d.
        neurons: p.
        alphas: exponents of the covariance.
        ratios: n/r₁²; where n would be below 16 the point is left out.
        seeds: replicates: inputs and networks.
        device: where to compute.
        dtype: precision of inputs and students; sums are float64.
    """

    dim: int = 128
    neurons: int = 64
    alphas: tuple[float, ...] = (0.0, 0.5)
    ratios: tuple[float, ...] = (0.03, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if not self.ratios or min(self.ratios) <= 0:
            raise FieldError(f"ratios expects numbers above zero, received {self.ratios}")
        if self.dim < 3:
            raise FieldError(f"dim expects at least 3, received {self.dim}")


@dataclass(frozen=True)
class Overlapping:
    """All that one cell depends on."""

    dim: int
    neurons: int
    alpha: float
    ratios: tuple[float, ...]
    labels: str
    seeds: tuple[int, ...]
    device: str
    dtype: str


@versioned(2)
def two_overlaps(cell: Overlapping) -> list[dict]:
    """Mean squared cosines of gradients with both directions, before and after a removal.

    Args:
        cell: the setting.

    Returns:
        One row for each seed, n, direction and removal.
    """
    with one_thread():
        like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
        target = seeded_target("mixture", "aligned", dim=cell.dim, alpha=cell.alpha, seeds=cell.seeds)
        law = target.covariance
        sizes = {ratio: round(ratio * law.r1**2) for ratio in cell.ratios}
        sizes = {ratio: n for ratio, n in sizes.items() if n >= SMALLEST_SAMPLE}
        if not sizes:
            return []
        true, drawn = cell.labels == "true", list(sizes.values())
        step = gradient_step(
            seeded_students(cell.neurons, cell.dim, seeds=cell.seeds, like=like),
            target if true else target.shuffled(),
            n=tuple(drawn),
            generator=seeded(cell.seeds, 1),
        )
        gradient = step.gradient.double().cpu()  # (n, seeds, p, d)
        left = _predicted(law.eigenvalues(), drawn) if true else None
        whole = predicted_overlap(target, drawn).euclidean.tolist() if true else None
        rows: list[dict] = []
        for removed in _REMOVED:
            squares = _square_cosines(_without(gradient, removed))  # (n, seeds, 2)
            for i, (ratio, n) in enumerate(sizes.items()):
                for j, seed in enumerate(cell.seeds):
                    for k in range(2):
                        at = {"ratio": ratio, "n": n, "seed": seed, "removed": removed, "direction": k + 1}
                        known = _known(whole, left, i, k, removed)
                        rows.append({**at, "cos2": float(squares[i, j, k]), "predicted": known, "r1": law.r1})
    return rows


def _known(whole: list[list[float]] | None, left: list[float] | None, i: int, k: int, removed: str) -> float | None:
    """The predicted overlap, where there is one."""
    if whole is None or left is None:
        return None
    return whole[i][k] if removed == "nothing" else left[i] if k == 1 else None


def _without(gradient: Tensor, removed: str) -> Tensor:
    """Gradients with a direction projected out."""
    if removed == "nothing":
        return gradient
    if removed == "e1":
        axis = torch.zeros(gradient.shape[-1], dtype=gradient.dtype)
        axis[0] = 1
        axis = axis.expand(*gradient.shape[:-2], -1)
    else:
        axis = torch.linalg.svd(gradient, full_matrices=False)[2][..., 0, :]
    along = gradient @ axis.unsqueeze(-1)
    return gradient - along * axis.unsqueeze(-2)


def _square_cosines(gradient: Tensor) -> Tensor:
    """Mean over neurons that are not dead of the squared cosine with e₁ and e₂."""
    squares, total = gradient[..., :2].square(), gradient.square().sum(-1, keepdim=True)
    alive = total > 0
    cosines = torch.where(alive, squares / torch.where(alive, total, 1.0), 0.0)
    return cosines.sum(-2) / alive.sum(-2).clamp_min(1)


def _predicted(eigenvalues: Tensor, sizes: list[int]) -> list[float]:
    """The overlap with e₂ in the other d - 1 dimensions, with z₁ as noise."""
    rest = Given(torch.diag(eigenvalues[1:]))
    target = Target(hermite_link([0, 0, 1]), rest, aligned(rest), noise=1.0)
    return predicted_overlap(target, sizes).euclidean[:, 0].tolist()


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each exponent, with true and with unrelated labels.

    Args:
        config: the grid.

    Returns:
        The cells.
    """
    shared = {name: getattr(config, name) for name in ("dim", "neurons", "ratios", "seeds", "device", "dtype")}
    return [
        Cell(two_overlaps, Overlapping(**point, **shared), cost=PowerLaw(config.dim, point["alpha"]).r1 ** 2)
        for point in Grid(alpha=config.alphas, labels=("true", "unrelated"))
    ]


def overlaps(rows: DataFrame) -> Figure:
    """Squared overlaps against n/r₁² (median and range over seeds); dotted: null level, black: predicted."""
    alphas = sorted(rows["alpha"].unique())
    figure, axes = style.panels(1, len(alphas), width=4.0, height=3.1)
    lines = [
        ("e₁", 1, "nothing"),
        ("e₂", 2, "nothing"),
        ("e₂, e₁ removed", 2, "e1"),
        ("e₂, shared direction removed", 2, "shared"),
    ]
    shades = style.colours([name for name, _, _ in lines])
    for axis, alpha in zip(axes[0], alphas, strict=True):
        for name, direction, removed in lines:
            shown = _pick(rows, alpha, direction, removed)
            style.band(axis, shown, "ratio", "cos2", color=shades[name], label=name, quantiles=(0.0, 1.0))
        null = _pick(rows, alpha, 2, "e1", labels="unrelated").groupby("ratio")["cos2"].mean()
        axis.plot(null.index, null.to_numpy(), color=shades["e₂, e₁ removed"], linestyle=":", label="its null level")
        for direction, removed, label in ((2, "e1", "predicted"), (1, "nothing", None)):
            known = _pick(rows, alpha, direction, removed).groupby("ratio")["predicted"].first()
            axis.plot(known.index, known.to_numpy(), color="black", linewidth=1.1, linestyle="--", label=label)
        style.loglog(axis, y=False, at=sorted(rows["ratio"].unique().tolist()))
        axis.set(title=f"α = {alpha:g}", xlabel="samples n / $r_1^2$", ylim=(0, 1.03))
    axes[0, 0].set_ylabel("mean squared overlap")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Mean squared overlap by exponent, direction, removal and labels (rows) and n/r₁² (columns)."""
    by = ["alpha", "direction", "removed", "labels"]
    return rows.pivot_table(index=by, columns="ratio", values="cos2").reset_index().rename(columns=str)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the claims.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; those on a ratio or exponent that is not in this run are "not tested".
    """
    found: list[Verdict] = []

    def judge(claim: str, values: list[float], decide: str, bound: float, source: str = DERIVED) -> None:
        if values:
            worst = max(values) if decide == "at_most" else min(values)
            found.append(getattr(Verdict, decide)(claim, worst, bound, source=source))
        else:
            found.append(Verdict.not_tested(claim, "needs d ≥ 100 and the ratio that it names", source=source))

    def mean(alpha: float, direction: int, removed: str, low: float, high: float, labels: str = "true") -> list[float]:
        shown = _pick(rows, alpha, direction, removed, labels=labels)
        shown = shown[(shown["ratio"] >= low) & (shown["ratio"] <= high)]
        return list(shown.groupby("ratio")["cos2"].mean())

    large = config.dim >= 100
    for alpha in config.alphas:
        tag = f"α = {alpha:g}: "
        judge(
            tag + "n ≥ 2 r1²: gradients share e1: least cos²",
            mean(alpha, 1, "nothing", 2, 1e9) if large else [],
            "at_least",
            0.85,
        )
        judge(tag + "at every n they hide e2: largest cos²", mean(alpha, 2, "nothing", 0.0, 1e9), "at_most", 0.1)
        for removed in ("e1", "shared"):
            words = f"{tag}after {'e1' if removed == 'e1' else 'the shared direction'} is removed, "
            for ratio, decide, bound in ((8, "at_least", 0.35), (0.1, "at_most", 0.12)):
                values = mean(alpha, 2, removed, ratio, ratio) if large else []
                judge(f"{words}n = {ratio:g} r1²: cos² with e2", values, decide, bound)
        for words, direction, removed in (("e1, nothing removed", 1, "nothing"), ("e2, e1 removed", 2, "e1")):
            shown = _pick(rows, alpha, direction, removed)
            shown = shown[(shown["n"] >= 100) & large].groupby("ratio")[["cos2", "predicted"]].mean()
            gaps = list((shown["cos2"] - shown["predicted"]).abs())
            judge(f"{tag}n ≥ 100: {words}: largest |cos² - predicted|", gaps, "at_most", 0.05)
        signal, null = mean(alpha, 2, "e1", 2, 2), mean(alpha, 2, "e1", 2, 2, "unrelated")
        judge(
            tag + "n = 2 r1²: e2 is learned weakly: cos² over its null level, e1 removed",
            [signal[0] / null[0]] if signal and null and large else [],
            "at_least",
            2.0,
        )
    both = [mean(alpha, 2, "e1", 0.25, 8) for alpha in (0.0, 0.5) if alpha in config.alphas and large]
    gaps = [abs(a - b) for a, b in zip(*both, strict=True)] if len(both) == 2 else []
    judge("α = 0 and 0.5 fall together against n/r1²: largest gap of cos² with e2, e1 removed", gaps, "at_most", 0.17)
    return found


def _pick(rows: DataFrame, alpha: float, direction: int, removed: str, *, labels: str = "true") -> DataFrame:
    kept = (rows["alpha"] == alpha) & (rows["direction"] == direction) & (rows["removed"] == removed)
    return rows[kept & (rows["labels"] == labels)]


figures = {"overlaps": overlaps}
STUDY = Study(
    name="wortsman2024_multi_index",
    claim=(
        "One gradient step shares one direction of a multi-index target; a partner of exponent two appears after that"
        " direction is removed, at a number of samples proportional to r1²."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {"dim": 100, "neurons": 32, "ratios": (0.1, 0.5, 2.0), "seeds": (0, 1)},
        "quick": {"ratios": (0.1, 0.5, 2.0), "seeds": (0, 1)},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"means": table},
    verdicts=verdicts,
)
run = STUDY.run
