"""The computations of the study of Proposition 4: closed forms, long runs, early times, growth rates.

References:
    Maass & Fontbona 2024, Proposition 4, Theorem 5 and Appendix E.2.5, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from symfield import random
from symfield.experiments import Row, versioned
from symfield.meanfield import (
    Flow,
    SampledPopulation,
    State,
    coupled,
    distance_to_orbit,
    integrate,
    population_flow,
    sampled_population,
    transverse_stability,
)
from symfield.studies import _maass2024_disc as disc
from symfield.studies._threads import one_thread
from symfield.typing import Tensor

__all__ = [
    "EA",
    "PLAIN",
    "STUCK",
    "THEORY",
    "WI",
    "Early",
    "Explicit",
    "Inputs",
    "Training",
    "early",
    "explicit",
    "train",
]

Inputs = Literal["clipped", "conditioned"]

#: The runs: from N(0, I) on full orbits; from its projection on E^G on full orbits, on plain batches, and under EA.
WI, STUCK, PLAIN, EA = "WI initial law", "A = 0, full orbits", "A = 0, plain SGD", "EA"
#: What the second variation predicts for mean ‖A‖².
THEORY = "second variation"

_LIKE = torch.zeros(0, dtype=torch.float64)
_SETTLE = 30.0  # time in which the constant reaches E Y
_SMALL = (1e-30, 1e-4)  # mean ‖A‖² above round-off's floor and below saturation


@dataclass(frozen=True)
class Explicit:
    """Closed forms, Monte Carlo and the explicit WI law.

    Attributes:
        inputs: law of X.
        epsilons: lengths of A.
        draws: size of a Monte-Carlo sample.
        seeds: replicates of the Monte-Carlo sample.
    """

    inputs: Inputs
    epsilons: tuple[float, ...]
    draws: int
    seeds: tuple[int, ...]


@versioned(1)
def explicit(cell: Explicit) -> list[Row]:
    """What can be said without training.

    Args:
        cell: what to compute.

    Returns:
        Rows ``quantity, value``, with ``seed`` or ``epsilon`` where they matter.
    """
    conditioned = cell.inputs == "conditioned"
    mean, variance = disc.moments(conditioned=conditioned)
    population = _population(cell.inputs)
    rows: list[Row] = [{"quantity": "mean", "value": mean}, {"quantity": "floor", "value": variance}]
    for seed in cell.seeds:
        generator = random.generator(seed)
        _, y = disc.Disc(conditioned)((cell.draws,), generator=generator, like=_LIKE)
        deviation = (y - y.mean()).square()
        cloud = disc.fixed_space().project(random.normal((7, 4), generator=generator, like=_LIKE))
        values = disc.UNIT.mean(population.nodes.x, cloud)
        predicted = variance + (values[0] - mean).square()
        found = {
            "sampled variance": deviation.mean(),
            "standard error": deviation.std() / math.sqrt(cell.draws),
            "spread of an SI network": values.max() - values.min(),
            "SI risk off the parabola": (population.risk(cloud) - predicted).abs(),
        }
        rows += [{"seed": seed, "quantity": name, "value": float(value)} for name, value in found.items()]
    for epsilon in cell.epsilons:
        cloud = disc.rotated_units(epsilon)
        risk, asymmetry = population.risk(cloud), distance_to_orbit(cloud, disc.action())
        rows += [
            {"epsilon": epsilon, "quantity": "WI risk", "value": float(risk)},
            {"epsilon": epsilon, "quantity": "distance from WI", "value": float(asymmetry)},
        ]
    return rows


@dataclass(frozen=True)
class Training:
    """Long runs of one width.

    Attributes:
        inputs: law of X.
        n: width N.
        seeds: replicates; a seed fixes initial cloud and data.
        epsilon: step.
        horizon: when to stop.
        batch: samples in a step.
        records: states looked at, after the first.
        device: where to train.
    """

    inputs: Inputs
    n: int
    seeds: tuple[int, ...]
    epsilon: float
    horizon: float
    batch: int
    records: int
    device: str


@versioned(1)
def train(cell: Training) -> list[Row]:
    """Four runs side by side on the same samples: from N(0, I) and from its projection on E^G.

    Args:
        cell: what to train.

    Returns:
        Rows ``seed, scheme, time, quantity, value``: exact risks, mean ‖A‖², and growth rates of mean ‖A‖².
    """
    schemes = (WI, STUCK, PLAIN, EA)
    population, local = _population(cell.inputs), _population(cell.inputs, radii=8, angles=12)
    times, off, risks = [], [], []
    for state in _run(cell, schemes, cell.records):
        z = state.z.cpu()
        times.append(state.time)
        off.append(disc.off_fixed_space(z))
        with one_thread():
            risks.append(population.risk(z))
    series = {"risk": torch.stack(risks), "off": torch.stack(off)}  # (t, schemes, seeds)
    rows: list[Row] = [
        {"seed": seed, "scheme": scheme, "time": time, "quantity": quantity, "value": float(values[t, s, r])}
        for quantity, values in series.items()
        for t, time in enumerate(times)
        for s, scheme in enumerate(schemes)
        for r, seed in enumerate(cell.seeds)
    ]
    stuck = series["off"][:, schemes.index(STUCK)]
    with one_thread():
        for r, seed in enumerate(cell.seeds):
            rows += _growth(local, z[schemes.index(EA), r], np.array(times), stuck[:, r].numpy(), seed)
    return rows


@dataclass(frozen=True)
class Early:
    """Short runs of plain SGD from A = 0.

    Attributes:
        inputs: law of X.
        n: width N.
        seeds: replicates; a seed fixes initial cloud and data.
        epsilon: step.
        horizon: when to stop and look.
        batch: samples in a step.
        device: where to train.
    """

    inputs: Inputs
    n: int
    seeds: tuple[int, ...]
    epsilon: float
    horizon: float
    batch: int
    device: str


@versioned(1)
def early(cell: Early) -> list[Row]:
    """How far plain SGD from A = 0 is off E^G at a fixed time.

    Args:
        cell: what to train.

    Returns:
        Rows ``seed, quantity, value``.
    """
    *_, last = _run(cell, (PLAIN,))
    values = disc.off_fixed_space(last.z[0])
    return [
        {"seed": seed, "quantity": "early off", "value": float(value)}
        for seed, value in zip(cell.seeds, values, strict=True)
    ]


def _population(inputs: Inputs, **size: int) -> SampledPopulation:
    nodes = disc.disc_nodes(conditioned=inputs == "conditioned", **size)
    return sampled_population(disc.objective("V"), nodes, disc.target)


def _run(cell: Training | Early, schemes: tuple[str, ...], records: int = 1) -> Iterator[State]:
    """States of the schemes, from N(0, I) for WI and from its projection on E^G for the others."""
    names = {WI: "DA", STUCK: "DA", PLAIN: "V", EA: "EA"}
    generators = [random.generator(seed) for seed in cell.seeds]
    like = _LIKE.to(cell.device)
    free = torch.stack([random.normal((cell.n, disc.UNIT.dim), generator=g, like=like) for g in generators])
    fixed = disc.fixed_space().project(free)
    flow = Flow(
        horizon=cell.horizon,
        rate=1.0,
        step_law=lambda _: cell.epsilon,
        tau=0.0,
        beta=0.0,
        batch=cell.batch,
        records=records,
    )
    start = torch.stack([free if scheme == WI else fixed for scheme in schemes])
    return integrate(
        start,
        coupled(*(disc.objective(names[scheme]) for scheme in schemes)),
        flow=flow,
        data=disc.Disc(cell.inputs == "conditioned"),
        generator=generators,
    )


def _growth(population: SampledPopulation, cloud: Tensor, times: np.ndarray, off: np.ndarray, seed: int) -> list[Row]:
    """Growth rates of mean ‖A‖²: predicted by the second variation, in the exact flow, and of round-off in training."""
    space = disc.fixed_space()
    settled = population_flow(cloud, population, times=[_SETTLE], subspace=space).states[-1]
    report = transverse_stability(settled, population, space)
    growth = -2 * report.lowest  # of a square; negative where E^G is stable
    span = min(20.0, 4 / max(abs(growth), 1e-3))
    tilted = settled + 1e-6 * report.direction
    ends = disc.off_fixed_space(population_flow(tilted, population, times=[0.0, span], atol=1e-14).states)
    rate = {"predicted growth": growth, "growth in the flow": float((ends[1] / ends[0]).log()) / span}
    window = (off > _SMALL[0]) & (off < _SMALL[1])
    rows: list[Row] = []
    if window.sum() >= 5:
        at, logs = times[window], np.log(off[window])
        slope, shift = np.polyfit(at, logs, 1)
        rate["growth of round-off"] = float(slope)
        middle = at.mean()
        line = np.exp(slope * middle + shift + growth * (at - middle))
        rows += [
            {"seed": seed, "scheme": THEORY, "time": float(time), "quantity": "off", "value": float(value)}
            for time, value in zip(at, line, strict=True)
        ]
    return rows + [{"seed": seed, "quantity": name, "value": value} for name, value in rate.items()]
