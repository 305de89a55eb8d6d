"""How much of its target does one gradient step see? Overlaps against n, against the teacher, and before training.

Single-index targets y = tanh(⟨w*, x⟩/t), centred with unit variance, under power-law inputs; ReLU students; one step of
the correlation loss. Measured: mean squared cosines between the gradients of neurons and w*, Euclidean and in the
metric of the covariance, over students, samples and (where it is random) teachers. Predicted: the expected cosine of a
Gaussian vector with the exact mean and covariance of the gradient.

The null level is measured too, with labels that have lost their inputs: it is about 1/r₁, not 1/d, and an overlap is
called weak learning only where it exceeds twice the null. Under α ≥ 1 the null is of order one.

What is ours: the seminar's normalisations, links and definition of weak learning are not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Row, Study, Verdict, style, versioned
from symfield.onestep import (
    SquareCosines,
    Target,
    gradient_step,
    initial_overlap,
    overlaps,
    predicted_overlap,
)
from symfield.studies._threads import one_thread
from symfield.studies._wortsman2024 import (
    DERIVED,
    SOURCE,
    TeacherName,
    explain_lines,
    require_positive,
    seeded,
    seeded_students,
    seeded_target,
)

__all__ = ["STUDY", "Config", "figures", "run"]


@dataclass(frozen=True)
class Config:
    """Curves in n for every decay and teacher, and neurons before training.

    Attributes:
        dim: d.
        alphas: decays of the covariance.
        teachers: where w* lies; random ones differ between seeds.
        sizes: n, at least 16.
        neurons: p.
        seeds: of students, samples and random teachers.
        noise: standard deviation of the label noise.
        null_seeds: number of samples with shuffled labels, of 100 each, for the null level.
        start_dims: dimensions of the panel before training.
        start_neurons: neurons of each seed there.
        device: where to compute.
        dtype: precision of gradients; sums and predictions are float64.
    """

    dim: int = 400
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    teachers: tuple[TeacherName, ...] = ("aligned", "random", "tail")
    sizes: tuple[int, ...] = (25, 100, 400, 1600, 6400)
    neurons: int = 64
    seeds: tuple[int, ...] = tuple(range(8))
    noise: float = 0.0
    null_seeds: int = 64
    start_dims: tuple[int, ...] = (64, 128, 256, 512, 1024)
    start_neurons: int = 128
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        require_positive(
            dim=self.dim,
            sizes=self.sizes,
            neurons=self.neurons,
            null_seeds=self.null_seeds,
            start_dims=self.start_dims,
            start_neurons=self.start_neurons,
        )
        if min(self.sizes) < 16:
            raise FieldError(f"expected sizes >= 16, below which an overlap means little, received {self.sizes}")
        if not (self.alphas and self.teachers and self.seeds) or min(self.alphas) < 0:
            raise FieldError("expected at least one alpha >= 0, teacher and seed")


@dataclass(frozen=True)
class Curve:
    """Overlaps of one decay and teacher, at several n; with or without relation between labels and inputs."""

    alpha: float
    teacher: str
    labels: Literal["true", "shuffled"]
    dim: int
    sizes: tuple[int, ...]
    neurons: int
    seeds: tuple[int, ...]
    noise: float
    device: str
    dtype: str


@dataclass(frozen=True)
class Start:
    """Neurons before training."""

    alpha: float
    dim: int
    neurons: int
    seeds: tuple[int, ...]


@versioned(1)
def curve(cell: Curve) -> list[Row]:
    """Measured and predicted overlaps.

    Args:
        cell: the setting.

    Returns:
        One row for each seed and n: ``kind = "curve", seed, n`` and for both metrics the mean square, its prediction
        and its null; ``dead`` neurons.
    """
    like = torch.zeros(0, dtype=getattr(torch, cell.dtype), device=cell.device)
    target = seeded_target("tanh", cell.teacher, dim=cell.dim, alpha=cell.alpha, seeds=cell.seeds, noise=cell.noise)
    if cell.labels == "shuffled":
        target = target.shuffled()
    with one_thread():
        students = seeded_students(cell.neurons, cell.dim, seeds=cell.seeds, like=like)
        step = gradient_step(students, target, n=cell.sizes, generator=seeded(cell.seeds, 1))
        found = overlaps(step, target)
        predicted = found.null if target.unrelated else _predicted(target, cell.sizes)
    shape = (len(cell.sizes), len(cell.seeds))

    def spread(part: SquareCosines) -> list[list[list[float]]]:
        """Numbers by metric, n and seed."""
        each = [metric[..., 0] for metric in part]
        return [metric.reshape(-1, metric.shape[-1] if metric.ndim else 1).expand(shape).tolist() for metric in each]

    mean, expected, null = spread(found.mean_square), spread(predicted), spread(found.null)
    dead = found.dead.expand(shape).tolist()
    return [
        {
            "kind": "curve", "seed": seed, "n": n, "dead": dead[i][j],
            "euclidean": mean[0][i][j], "covariance": mean[1][i][j],
            "predicted_euclidean": expected[0][i][j], "predicted_covariance": expected[1][i][j],
            "null_euclidean": null[0][i][j], "null_covariance": null[1][i][j],
        }
        for i, n in enumerate(cell.sizes)
        for j, seed in enumerate(cell.seeds)
    ]  # fmt: skip


def _predicted(target: Target, sizes: Sequence[int]) -> SquareCosines:
    """By n and teacher; one column where all seeds have the same teacher."""
    found = predicted_overlap(target, sizes)
    if target.directions.ndim == 2:
        return SquareCosines(*(part.unsqueeze(1) for part in found))
    return found


@versioned(1)
def start(cell: Start) -> list[Row]:
    """Squared correlation of untrained neurons with an aligned target.

    Args:
        cell: the setting.

    Returns:
        One row for each seed: ``kind = "start", seed, rho2`` with its exact mean ``expected`` and ``one_over_r1``.
    """
    target = seeded_target("tanh", "aligned", dim=cell.dim, alpha=cell.alpha, seeds=cell.seeds)
    like = torch.zeros(0, dtype=torch.float64)
    with one_thread():
        weights = seeded_students(cell.neurons, cell.dim, seeds=cell.seeds, like=like).weights
        found = overlaps(weights, target).mean_square.covariance[:, 0]
        expected = initial_overlap(target).covariance.item()
    return [
        {"kind": "start", "seed": seed, "rho2": float(rho2), "expected": expected,
         "one_over_r1": 1 / target.covariance.r1}
        for seed, rho2 in zip(cell.seeds, found, strict=True)
    ]  # fmt: skip


def cells(config: Config) -> Sequence[Cell]:
    """Curves, their null, and neurons before training.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    rest = (config.noise, config.device, config.dtype)
    many = tuple(range(config.null_seeds))
    true = [Curve(alpha, teacher, "true", config.dim, config.sizes, config.neurons, config.seeds, *rest)
            for alpha in config.alphas for teacher in config.teachers]  # fmt: skip
    null = [Curve(alpha, "aligned", "shuffled", config.dim, (100,), 4, many, *rest) for alpha in config.alphas]
    before = [Start(alpha, dim, config.start_neurons, config.seeds)
              for alpha in config.alphas for dim in config.start_dims]  # fmt: skip
    return [
        *(Cell(curve, at, cost=max(at.sizes) * at.dim * len(at.seeds) / 1e7) for at in (*true, *null)),
        *(Cell(start, at, cost=0.1) for at in before),
    ]


def _curves(rows: DataFrame, labels: str = "true") -> DataFrame:
    part = rows[rows["kind"] == "curve"]
    return part[part["labels"] == labels]


def _panel(axes: Axes, part: DataFrame, metric: str, shades: dict[float, str], note: str = "") -> None:
    """Measured points with a band over seeds, predictions as lines, null levels dashed."""
    for alpha, shade in shades.items():
        one = part[part["alpha"] == alpha]
        style.band(axes, one, "n", metric, color=shade, linestyle="none", label=f"α = {alpha:g}{note}")
        means = one.groupby("n")[[f"predicted_{metric}", f"null_{metric}"]].mean()
        axes.plot(means.index, means[f"predicted_{metric}"], color=shade)
        axes.plot(means.index, means[f"null_{metric}"], color=shade, linestyle="--", linewidth=1)
    style.loglog(axes, y=False, at=sorted(part["n"].unique().tolist()))
    axes.set(xlabel="samples n", ylim=(-0.03, 1.03))


def curves(rows: DataFrame) -> Figure:
    """Aligned teacher: mean cos² of gradients (points, band over seeds), prediction (lines) and null level (dashed)."""
    figure, axes = style.panels(1, 2, width=3.9)
    part = _curves(rows)
    part = part[part["teacher"] == "aligned"] if (part["teacher"] == "aligned").any() else part
    shades = style.colours(sorted(part["alpha"].unique()))
    for panel, metric, title in zip(axes[0], ("euclidean", "covariance"), ("Euclidean", "metric of S"), strict=True):
        _panel(panel, part, metric, shades)
        panel.set_title(title)
    axes[0, 0].set_ylabel("mean cos² with w*")
    explain_lines(axes[0, 0], {"predicted": "-", "null level": "--"})
    style.legend(figure, axes[0, 0])
    return figure


def teachers(rows: DataFrame) -> Figure:
    """Where the teacher lies: Euclidean mean cos² (points), prediction (lines), null (dashed); seeds as a band."""
    part = _curves(rows)
    kinds = list(part["teacher"].unique())
    figure, axes = style.panels(1, len(kinds), width=max(3.0, 6.4 / len(kinds)))
    shades = style.colours(sorted(part["alpha"].unique()))
    for panel, kind in zip(axes[0], kinds, strict=True):
        _panel(panel, part[part["teacher"] == kind], "euclidean", shades)
        panel.set_title(f"{kind} teacher")
    axes[0, 0].set_ylabel("mean cos² with w*")
    explain_lines(axes[0, 0], {"predicted": "-", "null level": "--"})
    style.legend(figure, axes[0, 0])
    return figure


def before(rows: DataFrame) -> Figure:
    """Before training: squared correlation of neurons with an aligned target; exact mean (lines), 1/r₁ (dotted)."""
    figure, axes = style.panels(width=6.2)
    panel, part = axes[0, 0], rows[rows["kind"] == "start"]
    for alpha, shade in style.colours(sorted(part["alpha"].unique())).items():
        one = part[part["alpha"] == alpha]
        style.band(panel, one, "dim", "rho2", color=shade, linestyle="none", label=f"α = {alpha:g}")
        means = one.groupby("dim")[["expected", "one_over_r1"]].mean()
        panel.plot(means.index, means["expected"], color=shade)
        panel.plot(means.index, means["one_over_r1"], color=shade, linestyle=":", linewidth=1.2)
    style.loglog(panel, at=sorted(part["dim"].unique().tolist()))
    panel.set(xlabel="dimension d", ylabel="mean ρ² at the start")
    explain_lines(panel, {"exact mean": "-", "1/r₁": ":"})
    style.legend(figure, panel)
    return figure


def null_table(rows: DataFrame) -> DataFrame:
    """Aligned teacher: the null level, by shuffled labels and predicted, and the first n above twice the null."""
    true, shuffled = _curves(rows), _curves(rows, "shuffled")
    true = true[true["teacher"] == "aligned"]
    lines = []
    for alpha, part in shuffled.groupby("alpha"):
        line: dict[str, object] = {"α": alpha}
        for metric in ("euclidean", "covariance"):
            line[f"{metric}: shuffled"] = part[metric].mean()
            line[f"{metric}: null"] = part[f"null_{metric}"].mean()
            line[f"{metric}: n above twice null"] = _first_weak(true[true["alpha"] == alpha], metric)
        lines.append(line)
    return DataFrame(lines)


def _first_weak(part: DataFrame, metric: str) -> str:
    means = part.groupby("n")[[metric, f"null_{metric}"]].mean()
    above = means.index[means[metric] > 2 * means[f"null_{metric}"]]
    return f"{int(above.min())}" if len(above) else "none"


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Curves, saturation, the start, and the null.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts.
    """
    found = [*_on_curve(rows, config), *_random_teacher(rows, config)]
    part = rows[rows["kind"] == "start"]
    for alpha in config.alphas:
        if alpha <= 1 and config.start_neurons * len(config.seeds) >= 64:
            one = part[part["alpha"] == alpha]
            products = (one["rho2"] / one["one_over_r1"]).groupby(one["dim"]).mean()
            worst = products.iloc[(products - 0.9).abs().argmax()]
            found.append(
                Verdict.between(f"α = {alpha:g}: neurons start with ρ² of about 1/r₁ (mean ρ² r₁, least good d)", worst,
                                0.6, 1.2, source=DERIVED)
            )  # fmt: skip
    shuffled = _curves(rows, "shuffled")
    for alpha in config.alphas:
        one = shuffled[shuffled["alpha"] == alpha]
        claim = f"α = {alpha:g}: labels that have lost their inputs give the null level"
        found.append(
            Verdict.close(f"{claim} (Euclidean mean cos²)", one["euclidean"].mean(), one["null_euclidean"].mean(),
                          max(0.01, 4 * one["euclidean"].std(ddof=0) / len(one) ** 0.5), source=DERIVED)
        )  # fmt: skip
        if alpha > 1:
            found.append(
                Verdict.at_least(f"α = {alpha:g}: twice the null is so high that cos² = ½ is no evidence of learning",
                                 2 * one["null_euclidean"].mean(), 0.5, source=DERIVED)
            )  # fmt: skip
    return found


def _on_curve(rows: DataFrame, config: Config) -> list[Verdict]:
    part = _curves(rows)
    part = part[(part["n"] >= 100) & (part["alpha"] <= 1)]
    found = []
    for teacher in ("aligned", "tail"):
        for alpha, one in part[part["teacher"] == teacher].groupby("alpha"):
            means = one.groupby("n")[["euclidean", "predicted_euclidean"]].mean()
            miss = (means["euclidean"] - means["predicted_euclidean"]).abs().max()
            found.append(
                Verdict.at_most(f"{teacher} teacher, α = {alpha:g}: cos² follows the prediction for n ≥ 100 "
                                "(largest difference)", miss, 0.04, source=DERIVED)
            )  # fmt: skip
    return found


def _random_teacher(rows: DataFrame, config: Config) -> list[Verdict]:
    part = _curves(rows)
    part = part[(part["teacher"] == "random") & (part["n"] == max(config.sizes))]
    source = f"{SOURCE}; {DERIVED}"
    found = []
    for alpha in config.alphas:
        one = part[part["alpha"] == alpha]
        if not len(one):
            continue
        miss = (one["euclidean"] - one["predicted_euclidean"]).abs().max()
        found.append(
            Verdict.at_most(f"random teacher, α = {alpha:g}, n = {max(config.sizes)}: each teacher as predicted "
                            "(largest difference)", miss, 0.05, source=DERIVED)
        )  # fmt: skip
        if alpha >= 1:
            claim = f"random teacher, α = {alpha:g}: the step finds S w*, so the overlap saturates far below one"
            if config.dim >= 400 and max(config.sizes) >= 6400:
                found.append(Verdict.at_most(f"{claim} (largest cos²)", one["euclidean"].max(), 0.2, source=source))
            else:
                found.append(Verdict.not_tested(claim, "needs d ≥ 400 and n ≥ 6400", source=source))
    return found


figures = {"curves": curves, "teachers": teachers, "before": before}
STUDY = Study(
    name="wortsman2024_overlap",
    claim=(
        "One gradient step sees an aligned direction after a number of samples that is proportional to the effective"
        " dimension of the inputs, a generic direction only up to S w*, and nothing is seen without comparison with a"
        " null level that structure raises."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {
            "dim": 64, "sizes": (25, 100, 400), "neurons": 16, "seeds": tuple(range(16)), "start_dims": (64, 128),
            "teachers": ("aligned", "tail"),
        },
        "quick": {"dim": 200, "sizes": (25, 100, 400, 1600), "neurons": 32, "seeds": tuple(range(6))},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"null": null_table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
