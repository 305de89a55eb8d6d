"""Cells of the study on low-dimensional targets: the flow on one angle, full networks, and other functions of x_H."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from symfield import random
from symfield.experiments import Row, versioned
from symfield.ode import heun
from symfield.studies._threads import one_thread
from symfield.wide import (
    AngleCloud,
    Gaussian,
    Neurons,
    Radial,
    ReLUTeacher,
    crossing_time,
    lift,
    lift_angles,
    low_dimensional_flow,
    radial_flow,
    radial_kernel,
    radial_risk,
    reduce,
    reduced_risk,
    risk,
    sphere_angles,
    sphere_reduced,
    to_angles,
    wide_flow,
)

__all__ = ["Angles", "Full", "Other", "angles", "full", "other"]

HALF = math.pi / 2


@dataclass(frozen=True)
class Angles:
    """The flow for ‖x_H‖ on one angle.

    Attributes:
        dim: d.
        subspace_dim: d_H.
        angles: number of angles of each sign.
        horizon: last time.
        points: recorded times, evenly spaced in log(1 + t).
        marks: more recorded times.
        histograms: times at which the masses are binned by angle.
        bins: number of bins.
    """

    dim: int
    subspace_dim: int
    angles: int
    horizon: float
    points: int
    marks: tuple[float, ...]
    histograms: tuple[float, ...]
    bins: int = 45


@dataclass(frozen=True)
class Full:
    """Networks in R^d for ‖x_H‖ beside the flow on one angle, from the same quantiles of the angle.

    Attributes:
        dim: d.
        subspace_dim: d_H.
        m: number of neurons.
        times: recorded times.
        seeds: of the directions of the neurons.
        device: where the networks are.
        dtype: their precision.
    """

    dim: int
    subspace_dim: int
    m: int
    times: tuple[float, ...]
    seeds: tuple[int, ...]
    device: str
    dtype: str


@dataclass(frozen=True)
class Other:
    """Another function of x_H: networks in R^d beside the flow in (a, b_H, ρ).

    Attributes:
        function: ``"|x1| + |x2|"`` or ``"relu(x1)"``.
        dim: d.
        m: number of neurons of the networks.
        reduced: number of reduced neurons.
        horizon: last time.
        points: recorded times after 0.
        seeds: of the neurons of the networks.
        device: where the networks are.
        dtype: their precision.
    """

    function: str
    dim: int
    m: int
    reduced: int
    horizon: float
    points: int
    seeds: tuple[int, ...]
    device: str
    dtype: str


@versioned(1)
def angles(cell: Angles) -> list[Row]:
    """Risk, masses, angles and distances along the flow, and histograms of both signs.

    Args:
        cell: the setting.

    Returns:
        Rows of ``kind`` curve and histogram.
    """
    target, inputs = Radial(cell.dim, cell.subspace_dim), Gaussian(cell.dim)
    grid = torch.linspace(0, math.log1p(cell.horizon), cell.points).double().expm1()
    grid[-1] = cell.horizon
    times = sorted({round(t, 9) for t in (*grid.tolist(), *cell.marks, *cell.histograms)})
    with one_thread():
        start = sphere_angles(cell.angles, cell.dim, cell.subspace_dim)
        path = radial_flow(start, target, inputs, times=times, dense=True)
        clouds, kernel = path.clouds, radial_kernel(cell.dim, cell.subspace_dim)
        first = float(crossing_time(path, target))
        _, slope = kernel.potential(start.angle, start.signed)
        risks = radial_risk(clouds, target, inputs)
    shared: Row = {
        "alpha": kernel.mass, "crossing": first, "towards": float((slope < 0).double().mean()), "table": kernel.error
    }  # fmt: skip
    rows: list[Row] = [
        {"kind": "curve", "t": t, "risk": float(risks[k]), **shared, **_statistics(clouds[k])}
        for k, t in enumerate(times)
    ]
    for t in cell.histograms:
        cloud = clouds[times.index(round(t, 9))]
        for sign in (1, -1):
            rows += _histogram(cloud, sign, t, cell.bins)
    return rows


def _statistics(cloud: AngleCloud) -> Row:
    return {
        "plus": float(cloud.total(1)),
        "minus": float(cloud.total(-1)),
        "mean_angle": float(cloud.mean_angle(1)),
        "to_subspace": float(cloud.distance(1, 0.0)),
        "to_complement": float(cloud.distance(-1, HALF)),
        "alignment": float(cloud.alignment(1)),
    }


def _histogram(cloud: AngleCloud, sign: int, t: float, bins: int) -> list[Row]:
    """Mass per radian; the mass of an angle is spread evenly up to the middle between it and its neighbours."""
    chosen = cloud.sign == sign
    angle, order = cloud.angle[chosen].sort()
    between = (angle[1:] + angle[:-1]) / 2
    first, last = 2 * angle[:1] - between[:1], 2 * angle[-1:] - between[-1:]
    edges = torch.cat([first, between, last]).clamp(0, HALF)
    total = torch.cat([torch.zeros(1).double(), cloud.mass[chosen][order].cumsum(0)])
    width = HALF / bins
    mass = np.diff(np.interp(np.arange(bins + 1) * width, edges.numpy(), total.numpy()))
    return [
        {"kind": "histogram", "t": t, "sign": sign, "angle": (k + 0.5) * width, "density": value / width}
        for k, value in enumerate(mass.tolist())
    ]


@versioned(1)
def full(cell: Full) -> list[Row]:
    """Networks of m neurons and their infinitely wide limit, by time and seed.

    Args:
        cell: the setting.

    Returns:
        Rows of ``kind`` full: risk, mass of τ⁺ and mean angle of both.
    """
    target, inputs = Radial(cell.dim, cell.subspace_dim), Gaussian(cell.dim)
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    with one_thread():
        limit = radial_flow(
            sphere_angles(2000, cell.dim, cell.subspace_dim), target, inputs, times=cell.times, method=heun(0.1)
        ).clouds
        quantiles = sphere_angles(cell.m // 2, cell.dim, cell.subspace_dim)
        lifted = [
            lift_angles(quantiles, cell.dim, cell.subspace_dim, generator=random.generator(seed)) for seed in cell.seeds
        ]
        start = Neurons(*(torch.stack(parts).to(like) for parts in zip(*lifted, strict=True)))
        path = wide_flow(start, target, inputs, times=cell.times, method=heun(0.1))
        risks = risk(path.neurons, target, inputs).double().cpu()
        found = to_angles(reduce(path.neurons, cell.subspace_dim), imbalance=math.inf)
        wanted = radial_risk(limit, target, inputs)
    return [
        {
            "kind": "full", "t": t, "seed": seed,
            "risk": float(risks[k, s]), "limit_risk": float(wanted[k]),
            "plus": float(found.total(1)[k, s]), "limit_plus": float(limit.total(1)[k]),
            "mean_angle": float(found.mean_angle(1)[k, s]), "limit_mean_angle": float(limit.mean_angle(1)[k]),
        }
        for k, t in enumerate(cell.times)
        for s, seed in enumerate(cell.seeds)
    ]  # fmt: skip


def teacher(function: str, dim: int) -> tuple[ReLUTeacher, int]:
    """The target by its name, and the dimension of H.

    Args:
        function: ``"|x1| + |x2|"`` or ``"relu(x1)"``.
        dim: d.

    Returns:
        f* and d_H.
    """
    if function == "relu(x1)":
        return ReLUTeacher(torch.ones(1).double(), torch.eye(1, dim).double()), 1
    return ReLUTeacher.absolute_values(torch.ones(2).double(), torch.eye(2, dim).double()), 2


@versioned(1)
def other(cell: Other) -> list[Row]:
    """Networks of m neurons (a row for each seed) and reduced neurons (seed −1) along time.

    Args:
        cell: the setting.

    Returns:
        Rows of ``kind`` other: risk, masses, and alignment of τ⁺ with H.
    """
    target, subspace_dim = teacher(cell.function, cell.dim)
    inputs, like = Gaussian(cell.dim), torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    times = torch.linspace(0, cell.horizon, cell.points + 1).double().tolist()
    with one_thread():
        start = sphere_reduced(cell.reduced, cell.dim, subspace_dim)
        short = low_dimensional_flow(start, target, inputs, times=times, method=heun(0.1))
        clouds = [(-1, to_angles(short.neurons), reduced_risk(short.neurons, target, inputs))]
        drawn = [
            lift(
                sphere_reduced(cell.m, cell.dim, subspace_dim, generator=random.generator(seed)),
                cell.dim,
                generator=random.generator(seed + 1000),
            )
            for seed in cell.seeds
        ]
        begin = Neurons(*(torch.stack(parts).to(like) for parts in zip(*drawn, strict=True)))
        path = wide_flow(begin, target, inputs, times=times, method=heun(0.1))
        risks = risk(path.neurons, target, inputs).double().cpu()
        found = to_angles(reduce(path.neurons, subspace_dim), imbalance=math.inf)
        clouds += [(seed, found[:, s], risks[:, s]) for s, seed in enumerate(cell.seeds)]
    return [
        {
            "kind": "other", "subspace_dim": subspace_dim, "t": t, "seed": seed, "risk": float(values[k]),
            "plus": float(cloud.total(1)[k]), "minus": float(cloud.total(-1)[k]),
            "alignment": float(cloud.alignment(1)[k]),
        }
        for seed, cloud, values in clouds
        for k, t in enumerate(times)
    ]  # fmt: skip
