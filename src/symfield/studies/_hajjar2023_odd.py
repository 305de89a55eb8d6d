"""Cells of the study on odd targets: the infinite width, closed and random clouds under the exact flow, and SGD.

The setting of Hajjar & Chizat (2023): f*(x) = C Σ_k z_k x_k³ and X ~ N(0, I/d) with E f*² = 2, so that the risk at
f = 0 is 1, |w*| = √(6d/5), and no linear predictor goes below 0.4; b uniform on the unit sphere, a = ±1; a step of SGD
adds m × rate × (negative gradient), so that time is step × rate at every width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from symfield import random
from symfield.experiments import Row, versioned
from symfield.ode import heun, rk4
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.wide import (
    Gaussian,
    Neurons,
    OddFlow,
    OddTarget,
    closed_under,
    cubic,
    even_norm,
    guaranteed_distance,
    isotropic_distance,
    isotropic_late_rate,
    odd_target_flow,
    pairing_defect,
    predict,
    risk,
    sphere_mass,
    sphere_neurons,
    wide_flow,
)

__all__ = [
    "ClosedCloud",
    "InfiniteWidth",
    "RandomCloud",
    "Training",
    "closed",
    "exact",
    "infinite",
    "problem",
    "spread",
    "train",
]

_LIKE = torch.zeros((), dtype=torch.float64)
_TARGET = 2023  # seed of the target's coefficients z


@dataclass(frozen=True)
class InfiniteWidth:
    """The linear predictor of the infinitely wide network.

    Attributes:
        dim: d.
        condition: λ_max/λ_min of the diagonal covariance, whose trace is one.
        horizon: last time.
        points: recorded times.
    """

    dim: int
    condition: float
    horizon: float
    points: int


@dataclass(frozen=True)
class ClosedCloud:
    """A ReLU network closed under (a, b) ↦ (−a, −b), against the second moments.

    Attributes:
        dim: d.
        m: number of neurons.
        condition: λ_max/λ_min of the diagonal covariance, whose trace is one.
        horizon: last time.
        points: recorded times.
        seed: of the neurons.
    """

    dim: int
    m: int
    condition: float
    horizon: float
    points: int
    seed: int


@dataclass(frozen=True)
class RandomCloud:
    """Random ReLU networks of one width under the exact flow.

    Attributes:
        dim: d.
        m: number of neurons.
        horizon: last time.
        points: recorded times.
        dt: Heun's step.
        seeds: of the neurons, side by side.
    """

    dim: int
    m: int
    horizon: float
    points: int
    dt: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Training:
    """ReLU networks of one width trained by SGD, a fresh sample in every step.

    Attributes:
        dim: d.
        m: number of neurons.
        batch: samples in a step.
        rate: time in a step.
        steps: number of steps.
        points: recorded times.
        seeds: of neurons and samples, side by side.
        device: where to train.
        dtype: precision of training; what is recorded is computed in float64.
    """

    dim: int
    m: int
    batch: int
    rate: float
    steps: int
    points: int
    seeds: tuple[int, ...]
    device: str
    dtype: str


def problem(dim: int, condition: float = 1.0) -> tuple[OddTarget, Gaussian]:
    """The cubic target and its inputs.

    Args:
        dim: d.
        condition: λ_max/λ_min of the diagonal covariance, whose trace is one.

    Returns:
        Target and inputs.
    """
    variances = torch.linspace(1.0, condition, dim, dtype=torch.float64)
    inputs = Gaussian(dim, 1 / dim if condition == 1.0 else variances / variances.sum())
    z = random.normal((dim,), generator=random.generator(_TARGET), like=_LIKE)
    return cubic(z, inputs, energy=2.0), inputs


@versioned(1)
def infinite(cell: InfiniteWidth) -> list[Row]:
    """The predictor along time, its closed form where there is one, and its bounds.

    Args:
        cell: what to compute.

    Returns:
        One row for every time.
    """
    with one_thread():
        target, inputs = problem(cell.dim, cell.condition)
        flow = odd_target_flow(target, inputs, times=_grid(cell))
        rows = _bounded(flow, "infinite")
        length = float(flow.optimum.norm())
        slope = -flow.distance.log().diff()[-1] / flow.times.diff()[-1]
        for row in rows:
            row |= {"optimum": length, "floor": flow.floor, "slope": float(slope)}
        if inputs.variance is not None:
            setting = {"optimum": length, "variance": inputs.variance, "mass": sphere_mass(cell.dim)}
            closed_form = isotropic_distance(flow.times, **setting)
            simple = guaranteed_distance(flow.times, **setting)
            rate = isotropic_late_rate(**setting)
            for row, exact_distance, bound in zip(rows, closed_form.tolist(), simple.tolist(), strict=True):
                miss = abs(row["distance"] - exact_distance / length)
                row |= {"closed_form_miss": miss, "simple": bound / length, "late_rate": rate}
                row |= {"simple_rate": inputs.variance * sphere_mass(cell.dim) / 4}
    return rows


@versioned(1)
def closed(cell: ClosedCloud) -> list[Row]:
    """The exact flow of a closed ReLU network, its deviation from the second moments, and its bounds.

    Args:
        cell: what to compute.

    Returns:
        One row for every time.
    """
    with one_thread():
        target, inputs = problem(cell.dim, cell.condition)
        half = sphere_neurons(cell.m // 2, cell.dim, generator=random.generator(cell.seed), like=_LIKE.reshape(1))
        start = closed_under(half, [(-1, -torch.eye(cell.dim, dtype=torch.float64))])
        path = wide_flow(start, target, inputs, times=_grid(cell), method=rk4(0.1))
        flow = odd_target_flow(target, inputs, times=_grid(cell), initial=start, method=rk4(0.1))
        w = _predictor(path.neurons)
        x = inputs.sample((64,), generator=random.generator(cell.seed + 1), like=_LIKE)
        bent = (predict(path.neurons, x) - w @ x.mT).abs().amax(-1)
        gap = (w - flow.w).norm(dim=-1) / flow.optimum.norm()
        rows = _bounded(flow, "closed")
        found = zip(rows, gap.tolist(), bent.tolist(), pairing_defect(path.neurons).tolist(), strict=True)
        for row, moments_gap, nonlinear, defect in found:
            row |= {"moments_gap": moments_gap, "bent": nonlinear, "defect": defect}
    return rows


@versioned(1)
def exact(cell: RandomCloud) -> list[Row]:
    """The exact flow of random ReLU networks of one width.

    Args:
        cell: what to compute.

    Returns:
        One row for every seed and time.
    """
    with one_thread():
        target, inputs = problem(cell.dim)
        path = wide_flow(_start(cell.m, cell.dim, cell.seeds), target, inputs, times=_grid(cell), method=heun(cell.dt))
        return _recorded("exact", path.times, path.neurons, cell.seeds)


@versioned(1)
def spread(cell: RandomCloud) -> list[Row]:
    """How far from linear random ReLU networks get, by their seed alone.

    Args:
        cell: what to compute.

    Returns:
        One row for every seed, with the greatest E f_even² over the recorded times.
    """
    with one_thread():
        target, inputs = problem(cell.dim)
        path = wide_flow(_start(cell.m, cell.dim, cell.seeds), target, inputs, times=_grid(cell), method=heun(cell.dt))
        highest = even_norm(path.neurons, inputs).square().amax(0).tolist()
    return [{"kind": "spread", "seed": seed, "peak": peak} for seed, peak in zip(cell.seeds, highest, strict=True)]


@versioned(1)
def train(cell: Training) -> list[Row]:
    """SGD on fresh samples.

    Args:
        cell: what to train.

    Returns:
        One row for every seed and recorded time.
    """
    target, inputs = problem(cell.dim)
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    a, b = (part.to(like) for part in _start(cell.m, cell.dim, cell.seeds))
    sources = [random.generator(2**32 + seed) for seed in cell.seeds]
    every, kept = max(1, cell.steps // cell.points), []
    with one_thread(), torch.no_grad():
        for step in range(cell.steps + 1):
            if step % every == 0:
                kept.append((step * cell.rate, (a, b)))
            if step == cell.steps:
                break
            x = torch.stack([inputs.sample((cell.batch,), generator=source, like=like) for source in sources])
            a, b = _step(a, b, x, target(x), cell.rate)
        times = torch.tensor([t for t, _ in kept], dtype=torch.float64)
        path = Neurons(
            *(torch.stack(parts).double().cpu() for parts in zip(*(state for _, state in kept), strict=True))
        )
        return _recorded("SGD", times, path, cell.seeds)


def _step(a: Tensor, b: Tensor, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step against m times the gradient of the batch's mean of ½(f − y)²."""
    hidden = torch.relu(x @ b.mT)  # (r, batch, m)
    miss = ((hidden @ a.unsqueeze(-1)).squeeze(-1) / a.shape[-1] - y) / y.shape[-1]
    to_hidden = torch.where(hidden > 0, miss.unsqueeze(-1) * a.unsqueeze(-2), 0.0)
    return a - rate * (miss.unsqueeze(-2) @ hidden).squeeze(-2), b - rate * to_hidden.mT @ x


def _start(m: int, dim: int, seeds: Sequence[int]) -> Neurons:
    clouds = [sphere_neurons(m, dim, generator=random.generator(seed), like=_LIKE.reshape(1)) for seed in seeds]
    return Neurons(*(torch.stack(parts) for parts in zip(*clouds, strict=True)))


def _grid(cell: InfiniteWidth | ClosedCloud | RandomCloud) -> Tensor:
    return torch.linspace(0, cell.horizon, cell.points + 1, dtype=torch.float64)


def _predictor(neurons: Neurons) -> Tensor:
    return (neurons.a.unsqueeze(-1) * neurons.b).mean(-2) / 2


def _bounded(flow: OddFlow, kind: str) -> list[Row]:
    """Distance, excess and bounds, relative to their start."""
    first, length = flow.excess[0], flow.optimum.norm()
    columns = {
        "t": flow.times,
        "distance": flow.distance / length,
        "risk": flow.risk,
        "excess": flow.excess / first,
        "bound": flow.bound / first,
        "sharp_bound": flow.sharp_bound / first,
        "mean_a2": flow.moments[..., 0, 0],
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"kind": kind} | dict(zip(columns, row, strict=True)) for row in values]


def _recorded(kind: str, times: Tensor, neurons: Neurons, seeds: Sequence[int]) -> list[Row]:
    """Networks ``(t, seed, m)`` against the infinite width."""
    dim = neurons.b.shape[-1]
    target, inputs = problem(dim)
    optimum = target.first_moment * dim
    length = float(optimum.norm())
    ode = isotropic_distance(times, optimum=length, variance=1 / dim, mass=sphere_mass(dim)) / length
    distance = (_predictor(neurons) - optimum).norm(dim=-1) / length
    risks, even = risk(neurons, target, inputs), even_norm(neurons, inputs)
    return [
        {
            "kind": kind,
            "seed": seed,
            "t": t,
            "distance": float(distance[k, i]),
            "ode_distance": float(ode[k]),
            "deviation": abs(float(distance[k, i] - ode[k])),
            "risk": float(risks[k, i]),
            "nonlinearity": float(even[k, i]) ** 2,
            "scaled": math.sqrt(neurons.a.shape[-1]) * float(even[k, i]),
        }
        for i, seed in enumerate(seeds)
        for k, t in enumerate(times.tolist())
    ]
