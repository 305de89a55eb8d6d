"""Claims about training: Theorems 3 to 7, along exact Wasserstein gradient flows and in single steps.

The flow of a cloud in the risk of a finite sample solves the Wasserstein gradient flow exactly, so the theorems hold
for it as they stand, with the cloud for μ_0 and the sample for π: no limit, no statistics.
"""

from __future__ import annotations

import numpy as np
import torch

from symfield.meanfield import (
    SampledPopulation,
    distance_to_orbit,
    energy,
    orbit,
    population_flow,
    project,
    sampled_population,
    velocity,
)
from symfield.quadrature import Nodes
from symfield.studies._maass2024_claims.claim import Claim, equal, holds, needed, relative
from symfield.studies._maass2024_claims.settings import Draw, Sample, Setting
from symfield.typing import Tensor

__all__ = ["dissipation", "steps", "strong_flows", "weak_flows"]

Measured = dict[Claim, float]

_FLOW = 1e-8  # round-off, amplified along the flow
WI_STAYS = holds("R invariant, μ_0 WI: μ_t stays WI", "Theorem 3", _FLOW)
WI_STAYS_DA = holds("μ_0 WI: μ_t stays WI under R^DA and R^FA, on any data", "Theorem 3", _FLOW)
WI_LEFT = needed("R not invariant, μ_0 WI: μ_t does not stay WI", "Theorem 3")
WI_FLOWS = holds("μ_0 WI: the flows of R^DA and R^FA coincide, on any data", "Theorem 4", _FLOW)
WI_FLOWS_V = holds("μ_0 WI, R invariant: they are also the flow of R", "Theorem 4", _FLOW)
WI_FLOWS_V_NEEDED = needed("μ_0 WI, R not invariant: the flow of R is another one", "Theorem 4")
WI_FLOWS_NEEDED = needed("μ_0 not WI: the flows of R^DA and R^FA differ", "Theorem 4")

SI_STAYS = holds("R invariant, μ_0 SI: μ_t stays SI without being forced to", "Theorem 5", _FLOW)
SI_STAYS_DA = holds("μ_0 SI: μ_t stays SI under R^DA and R^FA, on any data", "Theorem 5", _FLOW)
SI_POINT = holds("R invariant, μ_0 = δ_0: all particles stay together, in E^G", "Theorem 5", _FLOW)
SI_LEFT = needed("R not invariant, μ_0 SI: μ_t leaves E^G", "Theorem 5")
SI_FLOWS = holds("μ_0 SI: the flows of R^DA, R^FA and R^EA coincide, on any data", "Theorem 6", _FLOW)
SI_FLOWS_V = holds("μ_0 SI, R invariant: they are also the flow of R", "Theorem 6", _FLOW)
SI_FLOWS_NEEDED = needed("μ_0 not SI: the flow of R^EA is another one", "Theorem 6")

ENERGY = holds("dR^τ(μ_t)/dt = −ς ∫‖D_μR + 2τz‖² dμ_t, integrated over time", "Theorem 7", _FLOW)
DECREASE = holds("R^τ(μ_t) never grows", "Theorem 7", 0.0)

SI_STEP = holds("at an SI cloud, any N and batch: D_μR^DA = D_μR^FA = D_μR^EA = P_E D_μR", "Theorem 6, finite N")
CLOSED_STEP = holds("batch closed under G: the gradient of R is that of R^DA, for every cloud", "Theorem 4, finite N")
GENERIC_STEP = needed("on a generic batch the gradient of R points out of E^G", "Theorem 5, finite N", 1e-3)
MEAN_STEP = holds(
    "data equivariant: over batches the component out of E^G averages to zero (squared mean / noise)",
    "Theorem 5, finite N",
    12.0,
)
MEAN_NEEDED = needed(
    "data not equivariant: the component out of E^G has a mean (squared mean / noise)", "Theorem 5, finite N", 30.0
)

_RATE, _HORIZON, _TAU = 5.0, 1.0, 1e-3
_BATCHES, _BATCH = 2000, 20


def weak_flows(case: Setting, draw: Draw) -> Measured:
    """Flows from a WI law that is not SI.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    symmetric, other = _data(case, draw)
    start = case.cloud((draw.particles,), g)
    wi = orbit(start, case.rep)
    v, da, fa = (_flow(case, scheme, symmetric, wi) for scheme in ("V", "DA", "FA"))
    strange, strange_da, strange_fa = (_flow(case, scheme, other, wi) for scheme in ("V", "DA", "FA"))
    generic_da, generic_fa = (_flow(case, scheme, other, start) for scheme in ("DA", "FA"))
    return {
        WI_STAYS: float(distance_to_orbit(v, case.rep)),
        WI_STAYS_DA: max(float(distance_to_orbit(z, case.rep)) for z in (strange_da, strange_fa)),
        WI_LEFT: float(distance_to_orbit(strange, case.rep)),
        WI_FLOWS: relative(strange_da, strange_fa),
        WI_FLOWS_V: equal(v, da, fa),
        WI_FLOWS_V_NEEDED: relative(strange, strange_da),
        WI_FLOWS_NEEDED: relative(generic_da, generic_fa),
    }


def strong_flows(case: Setting, draw: Draw) -> Measured:
    """Flows from an SI law.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    symmetric, other = _data(case, draw)
    start = case.cloud((draw.particles,), g)
    si = project(start, case.space)
    v, da, fa, ea = (_flow(case, scheme, symmetric, si) for scheme in ("V", "DA", "FA", "EA"))
    strange, strange_da, strange_fa, strange_ea = (_flow(case, scheme, other, si) for scheme in ("V", "DA", "FA", "EA"))
    measured = {
        SI_STAYS: _off(case, v),
        SI_STAYS_DA: max(_off(case, z) for z in (strange_da, strange_fa)),
        SI_LEFT: _off(case, strange),
        SI_FLOWS: equal(strange_ea, strange_da, strange_fa),
        SI_FLOWS_V: equal(ea, v, da, fa),
        SI_FLOWS_NEEDED: relative(_flow(case, "FA", other, start), _flow(case, "EA", other, start)),
    }
    if case.name == "swap":
        point = _flow(case, "V", symmetric, torch.zeros_like(si))
        measured[SI_POINT] = max(_off(case, point), relative(point, point[:1]))
    return measured


def dissipation(case: Setting, draw: Draw) -> Measured:
    """The energy R + τ∫‖z‖² along the flow of an arbitrary cloud and arbitrary data.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    _, other = _data(case, draw)
    population = _population(case, "V", other)
    inner, weights = _graded_rule()
    times = [0.0, *inner, _HORIZON]
    start = case.cloud((draw.particles,), draw.generator)
    states = population_flow(start, population, times=times, rate=_RATE, tau=_TAU, rtol=1e-10).states
    energies = torch.stack([energy(z, population, tau=_TAU) for z in states])
    loss = torch.stack([_RATE * velocity(z, population, tau=_TAU).square().sum(-1).mean() for z in states[1:-1]])
    integral = (torch.from_numpy(weights) * loss).sum()
    return {
        ENERGY: relative(energies[0] - energies[-1], integral),
        DECREASE: max(0.0, float(energies.diff().max())),
    }


def steps(case: Setting, draw: Draw) -> Measured:
    """Single gradients at SI clouds, and of closed batches.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    z = case.cloud((draw.particles,), g)
    si = project(z, case.space)
    x, y = case.inputs(draw.samples, g), case.labels(draw.samples, g)
    v, da, fa, ea = (case.objective(scheme) for scheme in ("V", "DA", "FA", "EA"))
    plain = v.gradient(si, x, y)
    measured = {
        SI_STEP: equal(project(plain, case.space), *(f.gradient(si, x, y) for f in (da, fa, ea))),
        CLOSED_STEP: relative(v.gradient(z, *case.closed(Sample(x, y))), da.gradient(z, x, y)),
        GENERIC_STEP: _off(case, plain),
    }
    for claim, kind in ((MEAN_STEP, "WI"), (MEAN_NEEDED, "arbitrary")):
        teacher = case.teacher(kind, g)
        batches = case.inputs(_BATCHES * _BATCH, g).unflatten(0, (_BATCHES, _BATCH))
        gradient = v.gradient(si.expand(_BATCHES, *si.shape), batches, case.unit.mean(batches, teacher))
        measured[claim] = _mean_to_noise(gradient - project(gradient, case.space))
    return measured


def _data(case: Setting, draw: Draw) -> tuple[Sample, Sample]:
    """Equivariant data, and data without any symmetry."""
    symmetric = case.closed(case.taught("WI", draw.samples, draw.generator))
    return symmetric, Sample(case.inputs(draw.samples, draw.generator), case.labels(draw.samples, draw.generator))


def _population(case: Setting, scheme: str, data: Sample) -> SampledPopulation:
    return sampled_population(case.objective(scheme), Nodes.sample(data.x), lambda _: data.y)


def _flow(case: Setting, scheme: str, data: Sample, start: Tensor) -> Tensor:
    """The cloud at the horizon; EA moves the projection of the start."""
    population = _population(case, scheme, data)
    start = population.objective.restrict(start)
    trajectory = population_flow(start, population, times=[_HORIZON], rate=_RATE, tau=_TAU, rtol=1e-6, atol=1e-9)
    return trajectory.states[-1]


def _graded_rule() -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre points and weights on [0, T], in panels that shrink towards the fast start."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    edges = _HORIZON * np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 25)])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


def _off(case: Setting, z: Tensor) -> float:
    """Largest distance of a particle (or gradient) from E^G, relative to the largest norm."""
    return float(case.space.distance(z).max() / z.norm(dim=-1).max())


def _mean_to_noise(samples: Tensor) -> float:
    """K‖mean‖² / mean‖·‖² of K independent samples: about 1 if their mean is zero, large if it is not."""
    flat = samples.flatten(1)
    return float(len(flat) * flat.mean(0).square().sum() / flat.square().sum(-1).mean())
