r"""Claims about optima: Theorem 2, Corollaries 2, 6 and 8, Propositions 3, 5 and 19.

Laws on a finite set 𝒜 of atoms are weights w on a simplex, and every risk is a convex quadratic of them,
R(w) = ‖D w − t‖², with the unit's values at the data for columns of D. If 𝒜 is closed under M (and under P_E), the
theorems hold on it word for word, and every infimum is computed exactly: the point of a polytope nearest to the origin
is the solution u/Σu of min ‖C u‖² + (Σu − 1)² over u ≥ 0, C = D − t1ᵀ (scaling u = t w leaves s/(1 + s) with
s = ‖C w‖²), and non-negative least squares is solved by an active-set method without iteration error.

References:
    Lawson & Hanson 1974, *Solving Least Squares Problems*, Chapter 23.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.optimize import nnls

from symfield import random
from symfield.meanfield import orbit, project
from symfield.studies._maass2024_claims.claim import Claim, equal, excess, holds, needed, relative
from symfield.studies._maass2024_claims.settings import Draw, Sample, Setting
from symfield.symmetrize import augment
from symfield.typing import Tensor

__all__ = ["entropic", "infima", "minimisers", "universality"]

Measured = dict[Claim, float]

INFIMA = holds("inf R^DA = inf_WI R^DA = inf_WI R = inf_WI R^FA = inf R^FA, on any data", "Theorem 2", 1e-10)
INFIMA_SI = holds("inf R^EA = inf_SI R, on any data", "Theorem 2", 1e-10)
BELOW_WI = needed("a teacher that is not WI: inf R = 0 < inf_WI R", "Corollary 2")
NO_ADVANTAGE = holds("data equivariant: inf R = inf_WI R = inf R^DA = inf R^FA", "Corollary 2", 1e-10)
SI_GAP = needed("inf_SI R > inf_WI R, although the data are equivariant", "Proposition 4")
UNIQUE = holds(
    "F convex, invariant, with one minimiser: it is WI (R + λ × sum of squared weights)", "Propositions 3 and 17", 1e-10
)
UNIQUE_NEEDED = needed("F not invariant: its minimiser is not WI", "Propositions 3 and 17")
UNIVERSAL = holds("SI networks dense (DeepSets): inf_SI R = R*", "Proposition 5", 1e-10)
UNIVERSAL_NEEDED = needed("SI networks not dense: inf_SI R > R*", "Proposition 5", 1e-2)
GIBBS = holds("β > 0, R and r invariant: the minimiser of R + τ∫r + β∫log μ is WI", "Corollaries 6 and 8", 1e-10)
GIBBS_UNIQUE = holds("β > 0: two starts give one minimiser", "Corollaries 6 and 8", 1e-10)
GIBBS_NEEDED = needed("R not invariant: the entropic minimiser is not WI", "Corollaries 6 and 8")
VANISHING = holds("0 ≤ min R^{τ,β} − min R ≤ τ max r + β log(number of atoms) → 0", "Proposition 19")

_BASES = 8
_RIDGE = 1e-3
_TAU, _BETA = 1e-3, 0.03
_NEWTON = 1000


class Atoms(NamedTuple):
    """A set of atoms closed under M and P_E, as clouds.

    Attributes:
        moving: orbits, ``(|G|·k, p)``, group elements outermost.
        fixed: their projections on E^G, ``(k, p)``.
    """

    moving: Tensor
    fixed: Tensor

    @property
    def all(self) -> Tensor:
        """All atoms, ``((|G| + 1)·k, p)``."""
        return torch.cat([self.moving, self.fixed])

    def orbits(self) -> Tensor:
        """The orbits as uniform laws: columns of weights, ``((|G| + 1)·k, 2k)``."""
        k = len(self.fixed)
        eye = torch.eye(k, dtype=torch.float64)
        size = len(self.moving) // k
        return torch.block_diag(eye.repeat(size, 1) / size, eye)


def infima(case: Setting, draw: Draw) -> Measured:
    """Infima of the risks over all laws, WI laws and SI laws on a closed set of atoms.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    atoms = _atoms(case, g)
    data = Sample(case.inputs(draw.samples, g), case.labels(draw.samples, g))
    wi, fixed = atoms.orbits(), atoms.fixed
    free = {scheme: _design(case, scheme, data, atoms.all) for scheme in ("V", "DA", "FA")}
    least = {scheme: _infimum(*design) for scheme, design in free.items()}
    least_wi = {scheme: _infimum(columns @ wi, goal) for scheme, (columns, goal) in free.items()}
    least_si = _infimum(*_design(case, "V", data, fixed))
    projected = _infimum(*_design(case, "V", data, project(atoms.all, case.space)))

    symmetric = case.closed(case.taught("WI", draw.samples, g))
    columns, goal = _design(case, "V", symmetric, atoms.all)
    plain, plain_wi = _infimum(columns, goal), _infimum(columns @ wi, goal)
    others = [_infimum(*_design(case, scheme, symmetric, atoms.all)) for scheme in ("DA", "FA")]
    taught = _design(case, "V", Sample(data.x, case.unit.mean(data.x, atoms.moving[:1])), atoms.all)
    measured = {
        INFIMA: equal(least["DA"], least_wi["DA"], least_wi["V"], least_wi["FA"], least["FA"]),
        INFIMA_SI: equal(projected, least_si),
        BELOW_WI: excess(_infimum(taught[0] @ wi, taught[1]), _infimum(*taught)),
        NO_ADVANTAGE: _difference(goal, plain, plain_wi, *others),
    }
    if case.name == "turns":
        measured[SI_GAP] = float((_infimum(*_design(case, "V", symmetric, fixed)) - plain_wi) / _variance(symmetric.y))
    return measured


def minimisers(case: Setting, draw: Draw) -> Measured:
    """The minimiser of a strictly convex functional, R(w) + λ‖w‖², on a closed set of atoms.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    atoms = _atoms(case, draw.generator)
    symmetric, foreign = _data(case, draw)

    def asymmetry(data: Sample) -> float:
        columns, goal = _design(case, "V", data, atoms.all)
        ridge = math.sqrt(_RIDGE) * torch.eye(columns.shape[1], dtype=torch.float64)
        w = _nearest(torch.cat([columns, ridge]), torch.cat([goal, goal.new_zeros(len(ridge))]))
        return relative(w, atoms.orbits() @ _orbit_mass(atoms, w))

    return {UNIQUE: asymmetry(symmetric), UNIQUE_NEEDED: asymmetry(foreign)}


def universality(case: Setting, draw: Draw) -> Measured:
    """The SI risk of a rich family of equivariant units: sets with hidden sets, against layers without hidden symmetry.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim; nothing for settings that show neither.
    """
    if case.name not in ("sets", "turns"):
        return {}
    g = draw.generator
    data = case.closed(case.taught("WI", draw.samples, g))
    family = 4 * project(case.cloud((60 * draw.samples,), g), case.space)
    least = float(_infimum(*_design(case, "V", data, family)) / _variance(data.y))
    return {UNIVERSAL if case.name == "sets" else UNIVERSAL_NEEDED: least}


def entropic(case: Setting, draw: Draw) -> Measured:
    """Minimisers of R(w) + τ Σ w r + β Σ w log w, r = ‖z‖², on a closed set of atoms.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    atoms = _atoms(case, g)
    symmetric, foreign = _data(case, draw)
    penalty = atoms.all.square().sum(-1)

    def solve(data: Sample, tau: float, beta: float) -> tuple[Tensor, Tensor]:
        columns, goal = _design(case, "V", data, atoms.all)
        start = random.normal(goal.shape, generator=g, like=goal)
        return _gibbs(columns, goal, tau * penalty, beta, start)

    def asymmetry(w: Tensor) -> float:
        return relative(w, atoms.orbits() @ _orbit_mass(atoms, w))

    (one, _), (other, _) = solve(symmetric, _TAU, _BETA), solve(symmetric, _TAU, _BETA)
    least = _infimum(*_design(case, "V", symmetric, atoms.all))
    overshoot = []
    for scale in (1.0, 0.3, 0.1):
        value = solve(symmetric, scale * _TAU, scale * _BETA)[1] + scale * _BETA * math.log(len(penalty))
        bound = scale * (_TAU * penalty.max() + _BETA * math.log(len(penalty)))
        overshoot += [excess(least, value), excess(value, least + bound)]
    return {
        GIBBS: asymmetry(one),
        GIBBS_UNIQUE: relative(one, other),
        GIBBS_NEEDED: asymmetry(solve(foreign, _TAU, _BETA)[0]),
        VANISHING: max(overshoot),
    }


def _atoms(case: Setting, generator: torch.Generator) -> Atoms:
    base = 2 * case.cloud((_BASES,), generator)
    return Atoms(orbit(base, case.rep), project(base, case.space))


def _data(case: Setting, draw: Draw) -> tuple[Sample, Sample]:
    """Data of an equivariant teacher and of another one; the inputs of both are invariant."""
    x = case.inputs(draw.samples, draw.generator)
    kinds = ("WI", "arbitrary")
    symmetric, foreign = (case.closed_inputs(4 * case.teacher(kind, draw.generator), x) for kind in kinds)
    return symmetric, foreign


def _design(case: Setting, scheme: str, data: Sample, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Columns D, one an atom, and goal t of a risk ‖D w − t‖²."""
    single = atoms.unsqueeze(-2)  # every atom as a network of one unit
    x, y = data
    if scheme == "DA":
        moved = augment(x, y, case.frame, rep_in=case.rep_in, rep_out=case.rep_out)
        x, y = (part.flatten(0, 1) for part in moved)
    values = case.average(x, single) if scheme == "FA" else case.unit.mean(x, single)
    share = math.sqrt(len(x))
    return (values / share).flatten(1).mT, (y / share).flatten()


def _nearest(columns: Tensor, goal: Tensor) -> Tensor:
    """The weights w ≥ 0, Σw = 1, that minimise ‖D w − t‖²."""
    shifted = columns - goal.unsqueeze(-1)
    ones = torch.ones(1, columns.shape[1], dtype=torch.float64)
    target = torch.cat([torch.zeros(len(goal), dtype=torch.float64), ones[0, :1]])
    u, _ = nnls(torch.cat([shifted, ones]).numpy(), target.numpy(), maxiter=100 * columns.shape[1])
    w = torch.from_numpy(u)
    return w / w.sum()


def _infimum(columns: Tensor, goal: Tensor) -> Tensor:
    return (columns @ _nearest(columns, goal) - goal).square().sum()


def _difference(goal: Tensor, *values: Tensor) -> float:
    """Largest difference between infima, relative to ‖t‖² (an infimum may be zero)."""
    stacked = torch.stack(values)
    return float((stacked.max() - stacked.min()) / goal.square().sum())


def _orbit_mass(atoms: Atoms, w: Tensor) -> Tensor:
    """The mass of every orbit, ``(2k,)``."""
    k = len(atoms.fixed)
    return torch.cat([w[:-k].reshape(-1, k).sum(0), w[-k:]])


def _variance(y: Tensor) -> Tensor:
    return (y - y.mean(0)).square().sum(-1).mean()


def _gibbs(columns: Tensor, goal: Tensor, penalty: Tensor, beta: float, start: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise ‖D w − t‖² + ⟨w, c⟩ + β Σ w log w on the simplex; returns w and the minimum.

    By duality the minimum is that of h(u) = ‖u‖²/4 + ⟨u, t⟩ + β log Σ_j exp(−(Dᵀu + c)_j/β), with the sign changed, and
    w = softmax(−(Dᵀu + c)/β). h is strongly convex and has as few variables as there are numbers in t: Newton's method
    with backtracking.
    """

    def dual(u: Tensor) -> tuple[Tensor, Tensor]:
        scores = -(columns.mT @ u + penalty) / beta
        return u.square().sum() / 4 + u @ goal + beta * torch.logsumexp(scores, 0), torch.softmax(scores, 0)

    u, (value, w) = start, dual(start)
    for _ in range(_NEWTON):
        mean = columns @ w
        gradient = u / 2 + goal - mean
        covariance = (columns * w) @ columns.mT - torch.outer(mean, mean)
        direction = -torch.linalg.solve(torch.eye(len(u), dtype=u.dtype) / 2 + covariance / beta, gradient)
        slope, size = float(gradient @ direction), 1.0
        # once the promised decrease drowns in the round-off of h, full steps are safe: Newton converges
        while -slope > 1e-12 * (1 + abs(float(value))) and dual(u + size * direction)[0] > value + 0.1 * size * slope:
            size /= 2
        u = u + size * direction
        value, w = dual(u)
        if -slope < 1e-26 * (1 + abs(float(value))):
            break
    else:
        raise ArithmeticError(f"no convergence in {_NEWTON} Newton steps: last promised decrease {-slope:.1e}")
    minimum = (columns @ w - goal).square().sum() + (w * penalty).sum() + beta * torch.special.xlogy(w, w).sum()
    return w, minimum
