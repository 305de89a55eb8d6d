"""Hidden symmetries of known kind: how often are the subspace and the group found, and how often a false one?

Teachers on Gaussian inputs with a hidden group: two sign flips, C_d, D_d, S_d on coordinates, S_m on m elements of
three features, C × S on two halves of the coordinates; SO(2), SO(3) on pairs of vectors, SO(1,3); and controls that
have none. From n samples, with or without noise in the targets, :func:`symfield.discovery.discover_fixed_points` is
asked for the fixed subspace of the parameters of σ(z x), up to 16 × 16 of them, and
:func:`symfield.discovery.discover_group` for the group.

*Right* is the subspace if its dimension is that of the hidden one and its largest principal angle to it at most 0.05
rad; the group of permutations if it is the hidden one, element by element; the Lie algebra if its dimension is right
and its largest principal angle at most 0.05 rad. *False* is a symmetry that the teacher does not have. Settings and
bounds are ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield import random
from symfield.discovery import (
    DiscoveredGroup,
    FixedPoints,
    Kernel,
    Network,
    Polynomial,
    discover_fixed_points,
    discover_group,
)
from symfield.experiments import Cell, Row, Study, Verdict, style, versioned
from symfield.experiments.errors import FieldError
from symfield.groups import PermutationGroup
from symfield.linalg import Subspace
from symfield.studies._discovery_benchmark_tasks import DISCRETE, SMOOTH, Teacher, teacher
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.units import PointwiseUnit, sigmoid

__all__ = ["STUDY", "Config", "figures", "run"]

_ANGLE = 0.05
_POLYNOMIALS = (Polynomial(1), Polynomial(2), Polynomial(3), Polynomial(4))
_FITS = {"polynomials": _POLYNOMIALS, "all": (*_POLYNOMIALS, Kernel(), Network())}


@dataclass(frozen=True)
class Config:
    """Hidden groups, dimensions, samples, noise.

    Attributes:
        kinds: hidden groups.
        dims: numbers of inputs of the discrete ones.
        samples: numbers of samples.
        noises: variance of the noise in the targets, as a share of the variance of the targets.
        parts: what is asked for.
        seeds: of teachers, samples and searches.
        fits: predictors that the search for a group may choose from: all, or polynomials only.
        device: where to compute; the CPU.
        dtype: of samples and fits.
    """

    kinds: tuple[str, ...] = (*DISCRETE, *SMOOTH)
    dims: tuple[int, ...] = (6, 16)
    samples: tuple[int, ...] = (500, 5000)
    noises: tuple[float, ...] = (0.0, 0.1)
    parts: tuple[Literal["subspace", "group"], ...] = ("subspace", "group")
    seeds: tuple[int, ...] = tuple(range(20))
    fits: Literal["all", "polynomials"] = "all"
    device: str = "cpu"
    dtype: Literal["float64"] = "float64"

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in (*DISCRETE, *SMOOTH)]:
            raise FieldError(f"unknown kind {unknown[0]!r}; there are {', '.join((*DISCRETE, *SMOOTH))}")
        if min(self.dims, default=0) < 4:
            raise FieldError(f"expected dims of at least 4, received {self.dims}")
        if min(self.noises, default=0.0) < 0:
            raise FieldError(f"expected noises of at least 0, received {self.noises}")
        if self.device != "cpu":
            raise FieldError(f"searches run on the CPU, received device {self.device!r}; leave it at 'cpu'")


@dataclass(frozen=True)
class Hidden:
    """One hidden group, asked for once.

    Attributes:
        kind: which.
        dim: number of inputs.
        samples: number of samples.
        noise: variance of the noise as a share.
        part: "subspace" or "group".
        seed: of teacher, samples and search.
        fits: predictors to choose from.
    """

    kind: str
    dim: int
    samples: int
    noise: float
    part: str
    seed: int
    fits: str


@versioned(1)
def found(cell: Hidden) -> list[Row]:
    """What is found of one hidden group.

    Args:
        cell: which.

    Returns:
        One row.
    """
    with one_thread():
        like = torch.zeros((), dtype=torch.float64)
        hidden = teacher(cell.kind, cell.dim, generator=random.generator(3 * cell.seed))
        draws = random.generator(3 * cell.seed + 1)
        x = random.normal((cell.samples, hidden.dim), generator=draws, like=like)
        y = hidden.function(x)
        spread = (cell.noise * y.var(0)).sqrt()
        y = y + spread * random.normal(tuple(y.shape), generator=draws, like=like)
        start = time.process_time()
        search = random.generator(3 * cell.seed + 2)
        if cell.part == "subspace":
            space = discover_fixed_points((x, y), PointwiseUnit(sigmoid, hidden.dim, y.shape[1]), generator=search)
            row = _judged_subspace(space, hidden)
        else:
            group = discover_group((x, y), generator=search, continuous=cell.kind in SMOOTH, fitters=_FITS[cell.fits])
            row = _judged_group(group, hidden)
        return [{**row, "seconds": time.process_time() - start, "parameters": hidden.dim * y.shape[1]}]


def _judged_subspace(space: FixedPoints, hidden: Teacher) -> Row:
    assert hidden.fixed is not None
    truth = hidden.fixed
    angle = _angle(space.subspace, truth)
    right = space.subspace.dim == truth.dim and angle <= _ANGLE and space.verdict != "cannot tell"
    if not hidden.symmetric:
        right = space.verdict == "no symmetry found"
    smaller = space.verdict == "symmetry found" and not space.subspace.includes(truth, atol=_ANGLE)
    return {"right": right, "false": smaller, "verdict": space.verdict, "name": f"dim {space.subspace.dim}",
            "angle": angle, "order": float(truth.dim)}  # fmt: skip


def _judged_group(group: DiscoveredGroup, hidden: Teacher) -> Row:
    if len(hidden.algebra) or hidden.rep_in is None:
        return _judged_algebra(group, hidden)
    assert hidden.rep_out is not None
    expected = PermutationGroup(_images(hidden))
    order = group.permutations.order if group.permutations is not None else 1
    strange = group.permutations is not None and not bool(expected.contains(group.permutations.generators).all())
    strange |= len(group.algebra) > 0
    right = not strange and order == expected.order
    if not hidden.symmetric:
        right = group.verdict == "no symmetry found"
    return {"right": right, "false": strange, "verdict": group.verdict, "name": group.name, "angle": math.nan,
            "order": float(order)}  # fmt: skip


def _judged_algebra(group: DiscoveredGroup, hidden: Teacher) -> Row:
    k = len(hidden.algebra)
    angle = math.nan
    if k and len(group.algebra):
        angle = _angle(Subspace.span(group.algebra.flatten(1)), Subspace.span(hidden.algebra.flatten(1)))
    right = len(group.algebra) == k and angle <= _ANGLE if k else group.verdict == "no symmetry found"
    strange = len(group.algebra) > k or (len(group.algebra) > 0 and angle > 4 * _ANGLE)
    if not k:
        strange = group.verdict == "symmetry found"
    return {"right": right, "false": strange, "verdict": group.verdict, "name": group.name, "angle": angle,
            "order": float(len(group.algebra))}  # fmt: skip


def _images(hidden: Teacher) -> Tensor:
    """The hidden generators on inputs and outputs side by side, as images."""
    assert hidden.rep_in is not None
    assert hidden.rep_out is not None
    both = hidden.rep_in + hidden.rep_out
    signed = both.signed_permutation(both.group.inverse(both.group.generators))
    assert signed is not None
    index, sign = signed
    if not len(index):
        return torch.arange(both.dim)[None]
    return index if sign is None else index + both.dim * (sign < 0)


def _angle(a: Subspace, b: Subspace) -> float:
    angles = a.angles(b)
    return float(angles[-1]) if len(angles) else math.nan


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each question; continuous groups have their own dimension and no subspace of σ(z x).

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    listed = []
    for kind in config.kinds:
        for dim in config.dims if kind in DISCRETE else (0,):
            for part in config.parts:
                if part == "subspace" and kind in SMOOTH:
                    continue
                for samples in config.samples:
                    for noise in config.noises:
                        for seed in config.seeds:
                            hidden = Hidden(kind, dim, samples, noise, part, seed, config.fits)
                            listed.append(Cell(found, hidden, cost=1.0 + samples / 500 * (1 + dim / 8)))
    return listed


def success(rows: DataFrame) -> Figure:
    """Share of searches with the right answer, by hidden group: subspace and group, without and with noise."""
    largest = rows[rows["samples"] == rows["samples"].max()]
    kinds = [kind for kind in (*DISCRETE, *SMOOTH) if (largest["kind"] == kind).any()]
    parts = [part for part in ("subspace", "group") if (largest["part"] == part).any()]
    figure, axes = style.panels(1, len(parts), width=3.1, height=0.3 * len(kinds) + 0.7, share=False)
    noises = sorted(largest["noise"].unique())
    shades = style.colours([f"{noise:.0%} noise" for noise in noises])
    for panel, part in zip(axes[0], parts, strict=True):
        shown = [kind for kind in kinds if ((largest["kind"] == kind) & (largest["part"] == part)).any()]
        height = 0.8 / len(noises)
        for k, noise in enumerate(noises):
            label = f"{noise:.0%} noise"
            chosen = largest[(largest["part"] == part) & (largest["noise"] == noise)]
            shares = chosen.groupby("kind")["right"].mean().reindex(shown)
            places = [i + (k - (len(noises) - 1) / 2) * height for i in range(len(shown))]
            panel.barh(places, shares.to_numpy(float), height=0.9 * height, color=shades[label], label=label)
        panel.set_yticks(range(len(shown)), shown)
        panel.set_ylim(len(shown) - 0.5, -0.5)
        panel.set_xlim(0, 1.02)
        panel.set_xlabel("share right")
        panel.set_title(f"{part}, n = {largest['samples'].max()}")
    style.legend(figure, axes[0, 0])
    return figure


def seconds(rows: DataFrame) -> Figure:
    """CPU seconds of one search against the number of parameters, one thread (each point one search)."""
    figure, axes = style.panels(1, 1, width=4.2, height=2.8)
    panel = axes[0, 0]
    shades = style.colours(["subspace", "group"])
    for part in ("subspace", "group"):
        chosen = rows[rows["part"] == part]
        if len(chosen):
            panel.scatter(chosen["parameters"], chosen["seconds"], s=12, alpha=0.6, color=shades[part], label=part)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set(xlabel="inputs × outputs", ylabel="CPU seconds")
    style.legend(figure, panel)
    return figure


def rates(rows: DataFrame) -> DataFrame:
    """Share right, share false, median and largest CPU seconds, by question."""
    keys = ["part", "kind", "dim", "samples", "noise"]
    table = rows.groupby(keys, sort=False).agg(
        searches=("right", "size"), right=("right", "mean"), false=("false", "mean"), angle=("angle", "max"),
        median_seconds=("seconds", "median"), largest_seconds=("seconds", "max"),
    )  # fmt: skip
    return table.reset_index()


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Success without and with noise, false discoveries, angles of Lie algebras, cost.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        The verdicts.
    """
    source = "bounds are ours"
    enough = rows[rows["samples"] >= 5000]
    hidden = enough[~enough["kind"].str.startswith("none")]
    return [
        *(_success(hidden, part, noise, least, source) for part in config.parts for noise, least in _LEAST.items()),
        *(_false(rows, part, source) for part in config.parts),
        _angles(enough, source),
        Verdict.at_most("CPU seconds of the longest search", float(rows["seconds"].max()), 120.0, source=source),
    ]


_LEAST = {0.0: 0.95, 0.1: 0.85}


def _success(hidden: DataFrame, part: str, noise: float, least: float, source: str) -> Verdict:
    claim = f"right {part}s from 5000 samples, {noise:.0%} noise"
    chosen = hidden[(hidden["part"] == part) & (hidden["noise"] == noise)]
    if chosen.empty:
        return Verdict.not_tested(claim, "needs 5000 samples: preset paper", source=source)
    return Verdict.at_least(claim, float(chosen["right"].mean()), least, source=source)


def _false(rows: DataFrame, part: str, source: str) -> Verdict:
    claim = f"controls without symmetry for which a {part} was found all the same, at any number of samples"
    chosen = rows[(rows["part"] == part) & rows["kind"].str.startswith("none")]
    if chosen.empty:
        return Verdict.not_tested(claim, "needs controls among the kinds", source=source)
    return Verdict.at_most(claim, float((chosen["verdict"] == "symmetry found").mean()), 0.01, source=source)


def _angles(enough: DataFrame, source: str) -> Verdict:
    claim = "largest principal angle of a Lie algebra from 5000 values without noise (rad)"
    chosen = enough[enough["kind"].isin(SMOOTH) & (enough["noise"] == 0) & ~enough["kind"].str.startswith("none")]
    if chosen.empty:
        return Verdict.not_tested(claim, "needs 5000 samples: preset paper", source=source)
    worst = chosen["angle"].fillna(math.pi / 2).max()
    return Verdict.at_most(claim, float(worst), _ANGLE, source=source)


figures = {"success": success, "seconds": seconds}
STUDY = Study(
    name="discovery_benchmark",
    claim=(
        "From 5000 samples the right subspace and the right group are found in at least 95% of cases without noise and"
        " 85% with a tenth of noise, a false one in at most 1% of cases that have none, each in under a minute."
    ),
    source="derived here",
    config=Config,
    presets={
        "tiny": {
            "kinds": ("cyclic", "none", "SO(3)"), "dims": (4,), "samples": (900,), "noises": (0.0,), "seeds": (0,),
            "fits": "polynomials",
        },
        "quick": {"dims": (6,), "samples": (5000,), "noises": (0.0,), "seeds": (0,)},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"rates": rates},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
