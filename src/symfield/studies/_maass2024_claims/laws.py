"""Claims about laws, their distances, and networks: Lemma 1, Propositions 1 and 16, the projection on E^G."""

from __future__ import annotations

import torch

from symfield.meanfield import (
    distance_to_orbit,
    distance_to_projection,
    orbit,
    project,
    relative_measure_distance,
    wasserstein2,
)
from symfield.studies._maass2024_claims.claim import Claim, excess, holds, needed, relative
from symfield.studies._maass2024_claims.settings import Draw, Setting
from symfield.testing import joint_equivariance_error
from symfield.typing import Tensor
from symfield.units import PointwiseUnit, identity, sigmoid

__all__ = ["distances", "fixed_space", "laws", "linear_units", "networks"]

Measured = dict[Claim, float]

PROJECTOR = holds("P_E is the orthogonal projection on the fixed points: P² = P = Pᵀ, M_g P = P M_g = P", "Section 2.3")
DIMENSION = holds("dim E^G = trace P_E = the mean of the character of M", "Section 2.3")
DISPLACEMENT = holds("the mean of ‖z − M_g z‖² over the group is 2‖z − P_E z‖²", "Section 2.3")

LEMMA_PROJECTED = holds("μ^E = (M_g#μ)^E = (μ^G)^E = (μ^E)^G", "Lemma 1")
LEMMA_SYMMETRISED = holds("(M_g#μ)^G = μ^G = (μ^G)^G", "Lemma 1")

JOINT = holds("the unit is jointly equivariant: σ_*(ρ_g x; M_g z) = ρ̂_g σ_*(x; z)", "Section 2.3, Proposition 11")
NOT_JOINT = needed("a logistic unit is not jointly equivariant under signs (σ is not odd)", "Proposition 11", 0.01)
AVERAGED = holds("the averaged network is the network of the symmetrised law: Q_GΦ_μ = Φ_{μ^G}", "Proposition 1")
EQUIVARIANT = holds("μ WI makes Φ_μ equivariant", "Proposition 1")
NOT_EQUIVARIANT = needed("a law that is not WI gives a network that is not equivariant", "Proposition 1")
NOT_PROJECTION = needed("Φ_{μ^E} is not Q_GΦ_μ, when the unit is not linear in z", "Propositions 1 and 16")
LINEAR = holds("σ_* linear in z gives Φ_{μ^G} = Φ_{μ^E}", "Proposition 16")

METRIC = holds("RMD is symmetric, vanishes between equal laws, and RMD² ≤ 1", "Appendix F")
CLOSED_FORM = holds("RMD²(ν, ν^E) = d/(2d + 4s), with d = mean ‖z − P_E z‖², s = mean ‖P_E z‖²", "Appendix F")
WI_ZERO = holds("RMD(ν, ν^G) vanishes for WI laws", "Appendix F")
WI_ONLY = needed("RMD(ν, ν^G) > 0 for a law that is not WI", "Appendix F", 1e-2)
HALF = holds("RMD²(ν, ν^E) ≤ ½, with equality when P_E z = 0 for every particle", "Appendix F")
ORBIT_BOUND = holds("W₂²(ν, ν^G) ≤ 2 mean ‖z − P_E z‖² = 2 W₂²(ν, ν^E)", "Appendix F")


def fixed_space(case: Setting, draw: Draw) -> Measured:
    """The projection on E^G.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    rep, space = case.rep, case.space
    p, moves = space.projector(), rep.matrix(case.group.elements)
    violations = [p @ p - p, p - p.mT, moves @ p - p, p @ moves - p]
    z = case.cloud((draw.particles,), draw.generator)
    squares = (z - case.moved(z)).square().sum(-1).mean(0)
    character = float(rep.character(case.group.elements).mean())
    return {
        PROJECTOR: max(float(violation.abs().max()) for violation in violations),
        DIMENSION: max(abs(space.dim - character), abs(float(p.trace()) - character)),
        DISPLACEMENT: relative(squares, 2 * space.distance(z).square()),
    }


def laws(case: Setting, draw: Draw) -> Measured:
    """Symmetrised and projected laws.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    z = case.cloud((draw.particles,), draw.generator)
    moved = case.rep.act(case.group.sample(1, generator=draw.generator), z)
    projected, symmetrised = project(z, case.space), orbit(z, case.rep)
    return {
        LEMMA_PROJECTED: _apart(
            projected, project(moved, case.space), project(symmetrised, case.space), orbit(projected, case.rep)
        ),
        LEMMA_SYMMETRISED: _apart(symmetrised, orbit(moved, case.rep), orbit(symmetrised, case.rep)),
    }


def networks(case: Setting, draw: Draw) -> Measured:
    """Networks of symmetric laws.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    unit, g = case.unit, draw.generator
    z, x = case.cloud((draw.particles,), g), case.inputs(draw.samples, g)
    average, symmetric = case.average(x, z), unit.mean(x, orbit(z, case.rep))
    measured = {
        JOINT: joint_equivariance_error(unit, case.rep_in, case.rep_out, case.rep, generator=g),
        AVERAGED: relative(average, symmetric),
        EQUIVARIANT: _inequivariance(case, x, orbit(z, case.rep)),
        NOT_EQUIVARIANT: _inequivariance(case, x, z),
        NOT_PROJECTION: relative(average, unit.mean(x, project(z, case.space))),
    }
    if case.name == "signs":
        wrong = PointwiseUnit(sigmoid, 2, 2)
        measured[NOT_JOINT] = joint_equivariance_error(wrong, case.rep_in, case.rep_out, case.rep, generator=g)
    return measured


def linear_units(case: Setting, draw: Draw) -> Measured:
    """Units that are linear in their parameters: σ_*(x; z) = z x.

    Args:
        case: gives the group and its action on inputs and outputs; the unit is replaced.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    unit = PointwiseUnit(identity, case.rep_in.dim, case.rep_out.dim)
    linear = Setting(case.name, unit, case.rep_in, case.rep_out)
    z, x = linear.cloud((draw.particles,), draw.generator), linear.inputs(draw.samples, draw.generator)
    symmetric, projected = orbit(z, linear.rep), project(z, linear.space)
    # both may vanish (no invariant linear map), so the scale is that of the network itself
    difference = unit.mean(x, symmetric) - unit.mean(x, projected)
    return {LINEAR: float(difference.abs().max() / unit.mean(x, z).abs().max())}


def distances(case: Setting, draw: Draw) -> Measured:
    """Distances between laws.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    a, b = case.cloud((2, draw.particles), draw.generator)
    rmd = [float(relative_measure_distance(*pair, squared=True)) for pair in ((a, b), (b, a), (a, a), (a, -a[:1]))]
    off = a - project(a, case.space)  # every projection is 0
    closed, centred = (distance_to_projection(z, case.space, squared=True) for z in (a, off))
    exact, orbits = wasserstein2(a, project(a, case.space)), wasserstein2(a, orbit(a, case.rep))
    d, s = case.space.distance(a).square().mean(), project(a, case.space).square().sum(-1).mean()
    return {
        METRIC: max(abs(rmd[0] - rmd[1]), rmd[2], max(rmd) - 1, 0.0),
        CLOSED_FORM: max(
            relative(closed, relative_measure_distance(a, project(a, case.space), squared=True)),
            relative(closed, d / (2 * d + 4 * s)),
            relative(exact.square(), d),
        ),
        WI_ZERO: float(distance_to_orbit(orbit(a, case.rep), case.rep)),
        WI_ONLY: float(distance_to_orbit(a, case.rep)),
        HALF: max(float(closed) - 0.5, abs(float(centred) - 0.5), 0.0),
        ORBIT_BOUND: excess(orbits.square(), 2 * d),
    }


def _apart(first: Tensor, *others: Tensor) -> float:
    """The largest W₂ between a law and others, relative to its second moment."""
    size = first.square().sum(-1).mean().sqrt().clamp_min(torch.finfo(first.dtype).tiny)
    return max(float(wasserstein2(first, other) / size) for other in others)


def _inequivariance(case: Setting, x: Tensor, z: Tensor) -> float:
    """Largest |Φ(ρ_g x) − ρ̂_g Φ(x)| over the group, relative to Φ."""
    here = case.unit.mean(x, z)
    there = case.unit.mean(case.images(x), z)
    return relative(
        there,
        case.rep_out.act(case.group.elements.unsqueeze(1), here).expand(case.group.order, *here.shape).flatten(0, 1),
    )
