"""Numbers of the paper's own teachers, dimensions of its layers, and Proposition 4."""

from __future__ import annotations

import torch

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Symmetric
from symfield.meanfield import (
    averaged_ensemble,
    distance_to_orbit,
    distance_to_projection,
    sampled_population,
    squared_distance,
    vanilla,
)
from symfield.meanfield import squared as squared_loss
from symfield.quadrature import gauss_hermite
from symfield.studies import _maass2024 as paper
from symfield.studies import _maass2024_disc as disc
from symfield.studies._maass2024_claims.claim import Claim, close, holds, needed
from symfield.studies._maass2024_claims.settings import Draw, Setting
from symfield.symmetrize import uniform
from symfield.units import HiddenUnit, sigmoid

__all__ = ["counterexample", "layer_dimensions", "teachers"]

Measured = dict[Claim, float]

_APPENDIX = "Appendix F"
SIZES = {
    kind: close(f"{kind} teacher: mean ‖θ‖²", value, 1e-9, _APPENDIX)
    for kind, value in (("arbitrary", 0.4405), ("WI", 0.4405), ("SI", 0.2285))
}
ASYMMETRY = {
    kind: close(f"{kind} teacher: ‖f* − Q_Gf*‖²", value, bound, _APPENDIX)
    for kind, value, bound in (("arbitrary", 0.0331, 3e-4), ("WI", 0.0, 1e-28), ("SI", 0.0, 1e-28))
}
ZERO_RISK = {
    kind: close(f"{kind} teacher: risk of the student at 0", value, value / 100, _APPENDIX)
    for kind, value in (("arbitrary", 0.0503), ("WI", 0.01725), ("SI", 0.0194))
}
TO_FIXED = close("WI teacher: RMD²(ν, ν^E)", 0.122395, 1e-6, _APPENDIX)
TO_ORBIT = close("WI teacher: RMD²(ν, ν^G)", 0.0, 1e-28, _APPENDIX)

DEEP_SETS = close("S_4 on sets (b, c, d = 3, 1, 2): dim E^G = 2b(c + d) + b (DeepSets)", 21, 0.0, "Appendix C.2")
CIRCULANT = close("C_4 on signals (b, c, d = 3, 1, 2): dim E^G = 4b(c + d) + b (convolutions)", 39, 0.0, "Appendix C.2")
NESTED = holds("the larger the group, the smaller the space: E^{S_n} ⊂ E^{C_n}", "Appendix C.2")

CONSTANT = holds("quarter turns of the plane: every SI network is a constant", "Proposition 4")
SI_RISK = holds("quarter turns: an SI network with value c has risk Var(Y) + (c − E Y)²", "Proposition 4")
INFIMUM = close("quarter turns: inf_SI R = Var(Y)", 0.0825544, 1e-6, "Proposition 4")
WRONG_BOUND = needed("C* = E‖X‖² of the paper's proof is no lower bound of it: C* − inf_SI R", "Proposition 4", 0.09)
WI_RISK = close("quarter turns: risk of an explicit WI law (ε = 0.1)", 0.0, 1e-6, "Proposition 4")


def teachers(case: Setting, draw: Draw) -> Measured:
    """The three teachers of the paper, with expectations over N(0, 16 I) by quadrature.

    Args:
        case: not used.
        draw: not used.

    Returns:
        What was measured, by claim.
    """
    nodes = gauss_hermite(2, 100, std=4.0)
    zero = torch.zeros(1, 4, dtype=torch.float64)
    frame = uniform(paper.GROUP)
    measured = {}
    for kind in ("arbitrary", "WI", "SI"):
        cloud = paper.teacher(kind)

        def network(x: torch.Tensor, cloud: torch.Tensor = cloud) -> torch.Tensor:
            return paper.UNIT.mean(x, cloud)

        def average(x: torch.Tensor, cloud: torch.Tensor = cloud) -> torch.Tensor:
            return averaged_ensemble(paper.UNIT, x, cloud, frame=frame, rep_in=paper.SWAP, rep_out=paper.SWAP)

        measured[SIZES[kind]] = float(cloud.square().sum(-1).mean())
        measured[ASYMMETRY[kind]] = float(squared_distance(paper.UNIT, nodes.x, cloud, average, weight=nodes.weight))
        measured[ZERO_RISK[kind]] = float(squared_distance(paper.UNIT, nodes.x, zero, network, weight=nodes.weight))
    invariant = paper.teacher("WI")
    measured[TO_FIXED] = float(distance_to_projection(invariant, paper.fixed_space(), squared=True))
    measured[TO_ORBIT] = float(distance_to_orbit(invariant, paper.ACTION, squared=True))
    return measured


def layer_dimensions(case: Setting, draw: Draw) -> Measured:
    """Dimensions of E^G for units that are layers on sets and on signals.

    Args:
        case: not used.
        draw: not used.

    Returns:
        What was measured, by claim.
    """
    n, d, b, c = 4, 2, 3, 1
    unit = HiddenUnit(sigmoid, n * d, n * c, hidden=n * b)
    spaces = []
    for group in (Symmetric(n), Cyclic(n)):
        points = Defining(group)
        spaces.append(fixed_points(unit.representation(d * points, c * points, b * points)))
    sets, signals = spaces
    return {DEEP_SETS: sets.dim, CIRCULANT: signals.dim, NESTED: float(signals.distance(sets.basis.mT).max())}


def counterexample(case: Setting, draw: Draw) -> Measured:
    """Proposition 4 in closed form, by quadrature, and by an explicit law.

    Args:
        case: the setting of quarter turns.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    nodes = disc.disc_nodes()
    population = sampled_population(vanilla(disc.UNIT, squared_loss), nodes, disc.target)
    clouds = disc.fixed_space().project(case.cloud((50, draw.particles), draw.generator))
    values = disc.UNIT.mean(nodes.x, clouds).squeeze(-1)
    mean, variance = disc.moments()
    predicted = variance + (values[:, 0] - mean).square()
    return {
        CONSTANT: float((values - values[:, :1]).abs().max()),
        SI_RISK: float((population.risk(clouds) - predicted).abs().max()),
        INFIMUM: variance,
        WRONG_BOUND: mean - variance,
        WI_RISK: float(population.risk(disc.rotated_units(0.1))),
    }
