"""What do learned features buy? One gradient step against random features, a kernel and linear regression.

The target is g = (z + (z² - 1)/√2)/√2 of one coordinate z, seen through noise of standard deviation 0.1, on power-law
inputs of dimension d = 256; networks have p = 512 neurons. Errors are mean squares on fresh inputs without noise; the
target has variance one. The trained layer spends the first half of its data on one step of size η and fits its readout
on the second half; the others fit on all data. λ comes from 1000 held-out samples.

No setting is published; this one is ours. Lines mark r₁ and r₁²: a step sees the direction from about r₁ samples, and a
kernel degree two of a target along the first eigenvector from about r₁². Measured at the paper's preset: the kernel has
not yet overtaken the trained layer at 2.2 r₁² (α = 0.5: ratio 1.3), nor at 3.4 r₁² (α = 1: ratio 1.4), but has at
6.8 r₁² (α = 1: ratio 0.75). The kernel often takes the least λ of its grid: it does best where it interpolates, and its
error no longer depends on λ there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield import random
from symfield.experiments import Cell, Grid, Study, Verdict, style, versioned
from symfield.onestep import (
    PowerLaw,
    Ridge,
    Students,
    Target,
    aligned,
    giant,
    kernel_ridge,
    random_directions,
    random_features_readout,
    random_students,
    ridge_readout,
    trained_readout,
)
from symfield.studies._threads import one_thread
from symfield.studies._wortsman2024 import DERIVED, SOURCE, link

__all__ = ["STUDY", "Config", "figures", "run"]


_TEACHERS = 3  # random teachers differ


@dataclass(frozen=True)
class Config:
    """The grid.

    Attributes:
        dim: d.
        width: p.
        alphas: exponents of the covariance.
        teachers: directions of the target.
        sizes: numbers of samples n.
        kernel_limit: largest n for kernel ridge regression, whose cost is n³.
        etas: sizes of the step.
        noise: standard deviation of the noise in training and validation labels.
        validation: samples that choose λ.
        test: samples that errors are measured on.
        seeds: replicates: inputs, noise, networks and random teachers.
        device: where to compute.
        dtype: precision of inputs and features; fits are always float64.
    """

    dim: int = 256
    width: int = 512
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    teachers: tuple[Literal["aligned", "random"], ...] = ("aligned", "random")
    sizes: tuple[int, ...] = (128, 256, 512, 1024, 2048, 8192)
    kernel_limit: int = 2048
    etas: tuple[float, ...] = (0.5, 2.0, 8.0)
    noise: float = 0.1
    validation: int = 1000
    test: int = 4000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"


@dataclass(frozen=True)
class Readouts:
    """All that one cell depends on."""

    dim: int
    width: int
    alpha: float
    teacher: str
    n: int
    kernel: bool
    etas: tuple[float, ...]
    noise: float
    validation: int
    test: int
    seeds: tuple[int, ...]
    device: str
    dtype: str


@versioned(1)
def compare(cell: Readouts) -> list[dict]:
    """Test errors of all readouts on the same data, seeds as runs.

    Args:
        cell: the setting.

    Returns:
        One row a readout and seed.
    """
    with one_thread():
        like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
        sources = [random.split(random.generator(seed), 6) for seed in cell.seeds]
        streams = [list(column) for column in zip(*sources, strict=True)]
        law = PowerLaw(cell.dim, cell.alpha)
        each = [aligned(law) if cell.teacher == "aligned" else random_directions(law, generator=g) for g in streams[0]]
        target = Target(link("curved"), law, torch.stack([w.reshape(1, -1) for w in each]), noise=cell.noise)
        x, y = target.draw(cell.n, generator=streams[1], like=like)
        validation = target.draw(cell.validation, generator=streams[2], like=like)
        held, labels = replace(target, noise=0.0).draw(cell.test, generator=streams[3], like=like)
        students = _students(cell, streams[4], streams[5], like)

        rows: list[dict] = []

        def add(name: str, predicted: torch.Tensor, ridge: Ridge) -> None:
            errors = (predicted - labels).square().mean(-1)
            for seed, error, edge in zip(cell.seeds, errors.tolist(), ridge.at_edge.tolist(), strict=True):
                rows.append({"readout": name, "seed": seed, "error": error, "at_edge": edge, "r1": law.r1})

        linear = ridge_readout(x, y, validation)
        add("linear", linear.predict(held), linear)
        fixed = random_features_readout(students, x, y, validation)
        add("random features", fixed.predict(held), fixed.readout)
        for eta in cell.etas:
            trained = trained_readout(students, x, y, validation, rule=giant(eta), covariance=law)
            add(f"trained, η = {eta:g}", trained.predict(held), trained.readout)
        if cell.kernel:
            kernel = kernel_ridge(x, y, validation)
            add("kernel", kernel.predict(held).to(labels), kernel)
    return rows


def _students(cell: Readouts, weights: list, biases: list, like: torch.Tensor) -> Students:
    """One network for each seed: no twins, so that p random features are p different ones."""
    students = random_students(cell.width, cell.dim, generator=weights, paired=False, like=like)
    drawn = [
        random.uniform((cell.width,), generator=g, like=torch.zeros((), dtype=torch.float64), low=-1.0, high=1.0)
        for g in biases
    ]
    return replace(students, biases=torch.stack(drawn).to(like))


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each exponent, teacher and number of samples.

    Args:
        config: the grid.

    Returns:
        The cells.
    """
    shared = {
        name: getattr(config, name)
        for name in ("dim", "width", "etas", "noise", "validation", "test", "seeds", "device", "dtype")
    }
    return [
        Cell(compare, Readouts(**point, kernel=point["n"] <= config.kernel_limit, **shared), cost=300 + point["n"])
        for point in Grid(alpha=config.alphas, teacher=config.teachers, n=config.sizes)
    ]


def errors(rows: DataFrame) -> Figure:
    """Test error against the number of samples (median and range over seeds); dotted: r₁ and r₁² of the inputs."""
    alphas, teachers = sorted(rows["alpha"].unique()), sorted(rows["teacher"].unique())
    order = list(dict.fromkeys(rows["readout"]))
    figure, axes = style.panels(len(teachers), len(alphas), width=3.3, height=2.7)
    for i, teacher in enumerate(teachers):
        for j, alpha in enumerate(alphas):
            axis = axes[i, j]
            shown = rows[(rows["alpha"] == alpha) & (rows["teacher"] == teacher)]
            style.band(axis, shown, "n", "error", "readout", order=order)
            style.loglog(axis, at=sorted(rows["n"].unique().tolist()))
            low, high = rows["n"].min(), rows["n"].max()
            for power, label in ((1, "$r_1$"), (2, "$r_1^2$")):
                place = shown["r1"].iloc[0] ** power
                if low / 1.3 < place < high * 1.3:
                    axis.axvline(place, color="#7a6a5b", linestyle=":", linewidth=1.1)
                    axis.annotate(label, (place, 0.02), xycoords=("data", "axes fraction"), fontsize=8, ha="right")
            axis.set_title(f"α = {alpha:g}, {teacher} teacher")
            axis.set_xlabel("samples n" if i == len(teachers) - 1 else "")
            axis.set_ylabel("test error / variance" if j == 0 else "")
    style.legend(figure, axes[0, 0])
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Mean test error by exponent, teacher and readout (rows) and number of samples (columns)."""
    wide = rows.pivot_table(index=["alpha", "teacher", "readout"], columns="n", values="error", aggfunc="mean")
    return wide.reset_index().rename(columns=str)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What became of the claims, good and bad.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; levels are judged at d = 256, p = 512 only.
    """
    means = rows.groupby(["alpha", "teacher", "readout", "n"])["error"].mean()
    trained = "trained, η = 2"

    def at(alpha: float, teacher: str, readout: str, n: int) -> float:
        return float(means.get((alpha, teacher, readout, n), math.nan))

    found: list[Verdict] = []

    def judge(claim: str, values: Sequence[float], decide: str, bound: float, *, level: bool = False) -> None:
        published = (config.dim, config.width, config.noise) == (256, 512, 0.1)
        if "random teacher" in claim and len(config.seeds) < _TEACHERS:
            why = f"needs {_TEACHERS} seeds, one random teacher each"
            found.append(Verdict.not_tested(claim, why, source=DERIVED))
        elif any(math.isnan(value) for value in values) or (level and not published):
            why = "needs d = 256, p = 512, noise 0.1 and the sizes that it names" if level else "needs what it names"
            found.append(Verdict.not_tested(claim, why, source=DERIVED))
        else:
            value = values[0] / values[1] if len(values) == 2 else values[0]
            found.append(getattr(Verdict, decide)(claim, value, bound, source=DERIVED))

    judge(
        "aligned, α = 0.5, n = 512: error of the trained layer",
        [at(0.5, "aligned", trained, 512)],
        "at_most",
        0.12,
        level=True,
    )
    judge(
        "aligned, α = 0.5, n = 512: error of random features",
        [at(0.5, "aligned", "random features", 512)],
        "at_least",
        0.45,
        level=True,
    )
    judge(
        "aligned, α = 0.5, n = 512: error of linear regression",
        [at(0.5, "aligned", "linear", 512)],
        "at_least",
        0.5,
        level=True,
    )
    judge(
        "aligned, α = 0, n = 2048: error of the trained layer",
        [at(0.0, "aligned", trained, 2048)],
        "at_most",
        0.42,
        level=True,
    )
    judge(
        "aligned, α = 0, n = 2048: linear regression is worse than the trained layer: ratio",
        [at(0.0, "aligned", "linear", 2048), at(0.0, "aligned", trained, 2048)],
        "at_least",
        1.4,
        level=True,
    )
    judge(
        "aligned, α = 0, n = 2048: random features are worse than linear regression: ratio",
        [at(0.0, "aligned", "random features", 2048), at(0.0, "aligned", "linear", 2048)],
        "at_least",
        1.05,
        level=True,
    )
    wide = [n for n in config.sizes if n >= 128]
    for alpha in (alpha for alpha in config.alphas if alpha >= 0.5):
        ratios = [at(alpha, "aligned", trained, n) / at(alpha, "aligned", "random features", n) for n in wide]
        judge(
            f"aligned, α = {alpha:g}, n ≥ 128: trained layer over random features of equal width, largest ratio",
            [max(ratios, default=math.nan)],
            "at_most",
            0.9,
        )
    judge(
        "aligned, α = 0.5, n = 512 < r1²: the kernel is worse than the trained layer: ratio",
        [at(0.5, "aligned", "kernel", 512), at(0.5, "aligned", trained, 512)],
        "at_least",
        2.0,
        level=True,
    )
    judge(
        "negative: aligned, α = 0.5, n = 2048 > r1² = 935: the kernel has caught up: ratio to the trained layer",
        [at(0.5, "aligned", "kernel", 2048), at(0.5, "aligned", trained, 2048)],
        "at_most",
        1.5,
        level=True,
    )
    for n in (512, 2048):
        judge(
            f"negative: aligned, α = 1, n = {n} > r1² = 38: the kernel beats the trained layer: ratio",
            [at(1.0, "aligned", "kernel", n), at(1.0, "aligned", trained, n)],
            "at_most",
            0.9,
            level=True,
        )
    judge(
        "negative: random teacher, n = 2048: anisotropy hurts: trained at α = 1 over trained at α = 0",
        [at(1.0, "random", trained, 2048), at(0.0, "random", trained, 2048)],
        "at_least",
        1.2,
        level=True,
    )
    judge(
        "negative: random teacher, α = 0.5, n = 128: training buys nothing: trained over random features",
        [at(0.5, "random", trained, 128), at(0.5, "random", "random features", 128)],
        "at_least",
        0.95,
        level=True,
    )
    fits = rows[rows["readout"] != "kernel"]
    judge(
        "share of fits on inputs or features with λ at the edge of its grid",
        [float(fits["at_edge"].mean())],
        "at_most",
        0.1,
    )
    return found  # fmt: skip


figures = {"errors": errors}
STUDY = Study(
    name="wortsman2024_readout",
    claim=(
        "Under a power law and a target along its first direction, one gradient step beats random features of equal"
        " width, linear regression, and up to a few r1² samples the kernel; beyond that the kernel wins, and for a"
        " random teacher anisotropy hurts."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {"dim": 64, "width": 96, "sizes": (64, 256), "alphas": (0.0, 0.5), "test": 1000, "validation": 300,
                 "etas": (2.0,), "seeds": (0, 1)},
        "quick": {"sizes": (128, 512, 2048), "kernel_limit": 512, "etas": (2.0,), "seeds": (0,)},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"means": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
