"""Which subspace carries the symmetry? The published loop, its repair, and two searches of ours (Figures 2 and 10).

The paper trains from E_0 = {0}, adds the mean residual when the law leaves E_j, and stops when RMD²(ν, P_{E_j}#ν) is
below a fixed δ; it shows one run. Here that loop runs on every teacher and on many seeds, beside

- *leading*: the same loop with the leading singular vector of the residuals in place of their mean, and δ = 1e-3;
- *training*: :class:`~symfield.discovery.Training`, two arms that tell escape from noise;
- *drift*: :class:`~symfield.discovery.TrainingFree`, the drift of samples and the permutations that keep it;
- *drift, spans*: the same without permutations.

What differs from the paper: N, the law on E_j and the noise are not stated there (ours: N = 1000, N(0, 1/16) projected
on E_j, no noise). A search succeeds when it returns dimension 2 at less than 0.05 rad from E^G, or R^4 for the
arbitrary teacher.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pandas import DataFrame

from symfield import random
from symfield.discovery import (
    FixedPoints,
    Method,
    PaperLoop,
    Training,
    TrainingFree,
    discover_fixed_points,
    leading_residual,
    spans,
)
from symfield.experiments import Cell, Grid, Row, Study, Verdict, versioned
from symfield.linalg import Subspace
from symfield.meanfield import Flow, gaussian, gaussian_teacher, integrate, project, squared, vanilla
from symfield.studies._maass2024 import SOURCE, UNIT, check_setting, fixed_space, teacher
from symfield.studies._maass2024_discovery_plots import ANGLE, clouds, costs, outcomes, results, rounds

__all__ = ["STUDY", "Config", "figures", "run"]

_SHOWN = 300


@dataclass(frozen=True)
class Config:
    """Teachers, methods and seeds; the defaults are the paper's setting where it states one.

    Attributes:
        teachers: kinds of teachers.
        methods: searches.
        seeds: replicates.
        n: number N of particles of the published loop and its repair.
        rate: α.
        horizon: T in macroscopic time.
        batch: samples in a step.
        tau: weight of ‖z‖².
        input_std: standard deviation of the inputs.
        samples: samples of the searches by drift.
        arm: number of particles in each run of the search by training.
        device: must be the CPU.
        dtype: precision; distances and subspaces are always float64.
    """

    teachers: tuple[Literal["arbitrary", "WI", "SI"], ...] = ("arbitrary", "WI", "SI")
    methods: tuple[Literal["published", "leading", "training", "drift", "drift, spans"], ...] = (
        "published",
        "leading",
        "training",
        "drift",
        "drift, spans",
    )
    seeds: tuple[int, ...] = tuple(range(20))
    n: int = 1000
    rate: float = 20.0
    horizon: float = 20.0
    batch: int = 20
    tau: float = 1e-4
    input_std: float = 4.0
    samples: int = 10_000
    arm: int = 50
    device: Literal["cpu"] = "cpu"
    dtype: Literal["float64"] = "float64"

    def __post_init__(self) -> None:
        check_setting(self)


@dataclass(frozen=True)
class Search:
    """One method on one teacher, all seeds.

    Attributes:
        teacher: kind of teacher.
        method: which search.
        seeds: replicates.
        n: particles of a run.
        rate: α.
        horizon: T.
        batch: samples in a step.
        tau: weight of ‖z‖².
        input_std: standard deviation of the inputs.
        samples: samples of a search by drift.
    """

    teacher: Literal["arbitrary", "WI", "SI"]
    method: Literal["published", "leading", "training", "drift", "drift, spans"]
    seeds: tuple[int, ...]
    n: int
    rate: float
    horizon: float
    batch: int
    tau: float
    input_std: float
    samples: int


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every teacher and method, and one for the picture of the particles.

    Args:
        config: the study.

    Returns:
        The cells.
    """
    made = []
    for point in Grid(teacher=config.teachers, method=config.methods):
        drift = point["method"].startswith("drift")
        size = 0 if drift else config.arm if point["method"] == "training" else config.n
        setting = Search(
            **point, seeds=config.seeds, n=size, rate=config.rate, horizon=config.horizon, batch=config.batch,
            tau=config.tau, input_std=config.input_std, samples=config.samples if drift else 0,
        )  # fmt: skip
        made.append(Cell(search, setting, cost=len(config.seeds) * (1 + size**2 / 1e5)))
    shown = Search(
        "WI", "training", config.seeds[:1], config.arm, config.rate, config.horizon, config.batch, config.tau,
        config.input_std, 0,
    )  # fmt: skip
    return [*made, Cell(particles, shown, cost=2)]


def _method(cell: Search) -> Method:
    flow = Flow(horizon=cell.horizon, rate=cell.rate, tau=cell.tau, beta=0.0, batch=cell.batch, records=1)
    if cell.method == "published":
        return PaperLoop(n=cell.n, flow=flow)
    if cell.method == "leading":
        return PaperLoop(n=cell.n, flow=flow, threshold=1e-3, rule=leading_residual)
    if cell.method == "training":
        return Training(n=cell.n, flow=flow)
    if cell.method == "drift":
        return TrainingFree(samples=cell.samples)
    return TrainingFree(samples=cell.samples, closure=spans)


def _found(cell: Search, seed: int) -> FixedPoints:
    data = gaussian_teacher(UNIT, teacher(cell.teacher), std=cell.input_std)
    return discover_fixed_points(data, UNIT, generator=random.generator(seed), method=_method(cell))


@versioned(1)
def search(cell: Search) -> list[Row]:
    """Search on every seed.

    Args:
        cell: what to search with.

    Returns:
        A row of kind "round" for each round and one of kind "result" for each seed.
    """
    rows: list[Row] = []
    for seed in cell.seeds:
        began = time.process_time()
        found = _found(cell, seed)
        seconds = time.process_time() - began
        candidates = [*(r.subspace for r in found.rounds[1:]), found.subspace]
        rows += [
            {
                "kind": "round", "seed": seed, "round": index, "dim": r.dim, "statistic": r.statistic,
                "threshold": r.threshold, "p_value": r.p_value, "angle": _angle(after),
            }
            for index, (r, after) in enumerate(zip(found.rounds, candidates, strict=True))
        ]  # fmt: skip
        dim, angle = found.subspace.dim, _angle(found.subspace)
        right = dim == 4 if cell.teacher == "arbitrary" else dim == 2 and angle < ANGLE
        rows.append(
            {
                "kind": "result", "seed": seed, "dim": dim, "angle": angle, "right": right, "verdict": found.verdict,
                "gradients": found.cost, "seconds": seconds,
            }
        )  # fmt: skip
    return rows


def _angle(space: Subspace) -> float:
    """The largest principal angle between a subspace and E^G, in radians; 0 for {0}."""
    angles = space.angles(fixed_space())
    return float(angles[-1]) if len(angles) else 0.0


@versioned(1)
def particles(cell: Search) -> list[Row]:
    """The particles of a wider network before and after training from each E_j, for the first seed.

    Args:
        cell: the search by training on the WI teacher.

    Returns:
        Rows of kind "particle": coordinates in E^G and off it.
    """
    method, seed = _method(cell), cell.seeds[0]
    assert isinstance(method, Training)
    found, generator = _found(cell, seed), random.generator(seed)
    data = gaussian_teacher(UNIT, teacher(cell.teacher), std=cell.input_std)
    frame = torch.cat([fixed_space().basis, fixed_space().complement().basis], dim=1)
    rows: list[Row] = []
    for index, each in enumerate(found.rounds):
        start = gaussian(method.std)((_SHOWN, UNIT.dim), generator=generator, like=frame)
        start = project(start, each.subspace)
        *_, last = integrate(start, vanilla(UNIT, squared), flow=method.flow, data=data, generator=generator)
        for when, cloud in (("before", start), ("after", last.z)):
            rows += [
                dict(zip(("e1", "e2", "o1", "o2"), point, strict=True))
                | {"kind": "particle", "seed": seed, "round": index, "dim": each.dim, "when": when}
                for point in (cloud @ frame).tolist()
            ]
    return rows


def table(rows: DataFrame) -> DataFrame:
    """Right answers, returned dimensions, largest angle, and median cost, by teacher and method."""
    lines = []
    for (kind, name), part in results(rows).groupby(["teacher", "method"], sort=False):
        dims = part["dim"].astype(int).value_counts().sort_index()
        lines.append(
            {
                "teacher": kind, "method": name, "right": f"{int(part['right'].astype(bool).sum())} of {len(part)}",
                "dimensions": ", ".join(f"{dim} ({count})" for dim, count in dims.items()),
                "largest angle": float(part["angle"].max()), "gradients": float(part["gradients"].median()),
                "CPU seconds": float(part["seconds"].median()),
            }
        )  # fmt: skip
    return DataFrame(lines)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """What the loop reaches, and what ours do.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; those about a setting that is not in this run are "not tested".
    """
    kept = results(rows)
    made = [*_ours(kept, config), *_loop(rows, kept, config)]
    return made


def _share(kept: DataFrame, kind: str, name: str) -> float:
    return float(kept[(kept["teacher"] == kind) & (kept["method"] == name)]["right"].astype(float).mean())


def _ours(kept: DataFrame, config: Config) -> list[Verdict]:
    found, source = [], "ours: what a search must reach to be used"
    for name in ("drift", "training"):
        for kind in ("WI", "SI", "arbitrary"):
            answer = "R^4" if kind == "arbitrary" else "a plane within 0.05 rad of E^G"
            claim = f"{name}, {kind} teacher: share of seeds that give {answer}"
            if name not in config.methods or kind not in config.teachers:
                found.append(Verdict.not_tested(claim, "needs this teacher and this search", source=source))
            else:
                found.append(Verdict.at_least(claim, _share(kept, kind, name), 0.95, source=source))
        for column, words in (("gradients", "gradient evaluations"), ("seconds", "CPU seconds")):
            claim = f"{name}: {words} as a share of the published loop's (WI teacher, medians)"
            if not {name, "published"} <= set(config.methods) or "WI" not in config.teachers or config.n < 1000:
                found.append(Verdict.not_tested(claim, "needs the published loop with N = 1000", source=source))
                continue
            costs_of = kept[kept["teacher"] == "WI"].groupby("method")[column].median()
            found.append(Verdict.at_most(claim, float(costs_of[name] / costs_of["published"]), 0.1, source=source))
    return found


def _loop(rows: DataFrame, kept: DataFrame, config: Config) -> list[Verdict]:
    figure = f"{SOURCE}, Figure 10"
    at = rows[(rows["kind"] == "round") & (rows["method"] == "published")]
    wi, found = at[at["teacher"] == "WI"], []
    enough = config.n >= 300 and config.horizon >= 20
    first, second = (wi[wi["round"] == index] for index in (0, 1))

    def verdict(claim: str, tested: bool, result: Verdict | None, needs: str, source: str) -> Verdict:
        return result if tested and result is not None else Verdict.not_tested(claim, needs, source=source)

    claim = "round 0: RMD² = ½ as all particles move alike (largest difference)"
    exact = Verdict.at_most(claim, float((first["statistic"] - 0.5).abs().max()), 1e-12, source=figure) if len(
        first
    ) else None  # fmt: skip
    found.append(verdict(claim, True, exact, "needs the WI teacher", figure))
    claim = "round 0: the first direction lies in E^G (largest angle, rad)"
    angle = Verdict.at_most(claim, float(first["angle"].max()), 0.02, source=figure) if len(first) else None
    found.append(verdict(claim, config.n >= 1000, angle, "needs the WI teacher and N = 1000", figure))
    claim = "round 1: the law leaves the line, median RMD²"
    left = (
        Verdict.between(claim, float(second["statistic"].median()), 0.1, 0.15, source=figure) if len(second) else None
    )
    found.append(verdict(claim, enough, left, "needs the WI teacher and N ≥ 300", figure))
    for name, kind, claim, low, high in (
        ("published", "WI", "the mean rule is right for the WI teacher in less than 95% of the seeds", 0.0, 0.949),
        ("published", "SI", "δ = 1e-2 is never right for the SI teacher", 0.0, 0.0),
        ("leading", "WI", "the leading rule is right for the WI teacher", 0.9, 1.0),
        ("drift, spans", "WI", "without permutations the drift is right for the WI teacher in at most half", 0.0, 0.5),
    ):
        share = _share(kept, kind, name) if name in config.methods and kind in config.teachers else None
        known = name != "leading" or config.n >= 1000
        again = "ours: the search repeated"
        result = Verdict.between(claim, share, low, high, source=again) if share is not None and known else None
        needs = "needs this teacher and search, 6 seeds and N ≥ 300 (leading: 1000)"
        found.append(verdict(claim, enough and len(config.seeds) >= 6, result, needs, again))
    return found


figures = {"clouds": clouds, "rounds": rounds, "outcomes": outcomes, "costs": costs}
STUDY = Study(
    name="maass2024_discovery",
    claim=(
        "The subspace of an unknown symmetry can be found from data: the published loop does so in some seeds, a test"
        " that tells escape from noise in nearly all, and the drift alone, without training, at a small share of the"
        " cost."
    ),
    source=f"{SOURCE}, Section 4.2, Figures 2 and 10",
    config=Config,
    presets={
        "tiny": {"teachers": ("arbitrary", "WI"), "seeds": (0, 1), "n": 50, "samples": 5000},
        "quick": {"seeds": tuple(range(6)), "n": 300},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"searches": table},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
