"""Claims about the four risks and their derivatives: Propositions 2, 3, 10, 13, 18, Lemma 2, Corollaries 1 and 5."""

from __future__ import annotations

import torch

from symfield.meanfield import Objective, loss_of, orbit, project, sampled_population
from symfield.quadrature import Nodes
from symfield.studies._maass2024_claims.claim import Claim, equal, excess, holds, needed, relative
from symfield.studies._maass2024_claims.settings import Draw, Sample, Setting
from symfield.typing import Tensor

__all__ = ["augmentation_gap", "conditional_mean", "convexity", "decompositions", "gradients", "risks"]

Measured = dict[Claim, float]

DA_MEAN = holds("R^DA(μ) = ∫R(M_g#μ) dλ(g), on any data", "Proposition 2")
FA_ORBIT = holds("R^FA(μ) = R(μ^G), on any data", "Proposition 2")
EA_PROJECTED = holds("R^EA(μ) = R(μ^E), on any data", "Proposition 2")
INVARIANT = holds("R^DA, R^FA, R^EA do not change when μ is moved, on any data", "Proposition 2")
WI_EQUAL = holds("μ WI: R(μ) = R^DA(μ) = R^FA(μ), on any data", "Proposition 2")
WI_NEEDED = needed("μ not WI and its own teacher: R(μ) = 0 < R^DA(μ)", "Proposition 2")
DATA_EQUAL = holds("data equivariant: R is invariant and R = R^DA for every μ", "Proposition 2")
DATA_NEEDED = needed("inputs invariant, teacher not equivariant: R is not invariant", "Proposition 2")
CONVEX = holds("R, R^DA, R^FA, R^EA are convex (two losses)", "Proposition 2")

JENSEN = holds("F convex and invariant: F(μ^G) ≤ F(μ) (R, R^DA; two losses)", "Propositions 3 and 17")
JENSEN_NEEDED = needed("F not invariant: F(μ^G) > F(μ) = 0 at a teacher that is not WI", "Propositions 3 and 17")

FA_BELOW_DA = holds("R^FA ≤ R^DA for every μ, on any data (two losses)", "Proposition 18")
GAP = holds("R^DA − R^FA = E‖Φ − Q_GΦ‖² (squared loss, inputs invariant)", "follows from Proposition 18")
GAP_TWO = holds("two elements: R^DA − R^FA = E‖Φ − Q_GΦ‖² for any inputs", "follows from Proposition 18")
GAP_NEEDED = needed(
    "inputs not invariant, more than two elements: R^DA − R^FA ≠ E‖Φ − Q_GΦ‖²", "follows from Proposition 18"
)
EA_BELOW_FA = needed("no order between R^EA and R^FA: R^EA < R^FA happens", "next to Proposition 18", 1e-2)
EA_ABOVE_FA = needed("no order between R^EA and R^FA: R^EA > R^FA happens", "next to Proposition 18", 1e-2)

AUTODIFF = holds("D_μF(μ, z_i) = n × the autodiff gradient (V, DA, FA, EA)", "Corollary 5")
DA_GRADIENT = holds("D_μR^DA(μ, z) = ∫M_gᵀ D_μR(M_g#μ, M_g z) dλ(g)", "Proposition 18")
FA_GRADIENT = holds("D_μR^FA(μ, z) = ∫M_gᵀ D_μR(μ^G, M_g z) dλ(g)", "Proposition 18")
EA_GRADIENT = holds("D_μR^EA(μ, z) = P_Eᵀ D_μR(μ^E, P_E z)", "Proposition 18")
COVARIANT = holds(
    "F invariant: ∂F/∂μ(M_g#μ, M_g z) = ∂F/∂μ(μ, z) and D_μF(M_g#μ, M_g z) = M_g D_μF(μ, z)", "Proposition 13"
)
COVARIANT_NEEDED = needed("R not invariant: its gradient does not move along", "Proposition 13")

LEMMA_GENERAL = holds("inputs invariant: R(f) − R(Q_Gf) = −2⟨f*, f^⊥⟩ + ‖f^⊥‖²", "Lemma 2")
LEMMA_EQUIVARIANT = holds("data equivariant: R(f) − R(Q_Gf) = ‖f^⊥‖²", "Lemma 2")
LEMMA_NEEDED = needed("a single input: R(f) − R(Q_Gf) ≠ −2⟨f*, f^⊥⟩ + ‖f^⊥‖²", "Lemma 2", 1e-2)
PYTHAGORAS = holds(
    "μ WI, inputs invariant: R(μ) = R* + ‖Φ_μ − f*‖² = R* + ‖f* − Q_Gf*‖² + ‖Φ_μ − Q_Gf*‖²", "Corollary 1"
)
PYTHAGORAS_NEEDED = needed(
    "μ not WI and its own teacher: R(μ) = R* < R* + ‖f* − Q_Gf*‖² + ‖Φ_μ − Q_Gf*‖²", "Corollary 1"
)
REGRESSION = holds("data equivariant: f* = E[Y | X] is equivariant, also at inputs with a stabilizer", "Proposition 10")
REGRESSION_NEEDED = needed("data not equivariant: f* is not equivariant", "Proposition 10")

#: A convex, smooth, jointly invariant loss that is not quadratic.
LOSSES = (None, loss_of(lambda prediction, target: (1 + (prediction - target).square().sum(-1)).sqrt() - 1))
_STUDENTS = 200


def risks(case: Setting, draw: Draw) -> Measured:
    """The four risks of moved, symmetrised and projected laws.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    z = case.cloud((draw.particles,), g)
    x, y = case.inputs(draw.samples, g), case.labels(draw.samples, g)
    v, da, fa, ea = (case.objective(scheme) for scheme in ("V", "DA", "FA", "EA"))
    moved, symmetric = case.moved(z), orbit(z, case.rep)
    equivariant = case.closed(case.taught("WI", draw.samples, g))
    teacher = case.teacher("arbitrary", g)
    foreign = case.closed_inputs(teacher, x)
    return {
        DA_MEAN: equal(da.risk(z, x, y), v.risk(moved, x, y).mean()),
        FA_ORBIT: equal(fa.risk(z, x, y), v.risk(symmetric, x, y)),
        EA_PROJECTED: equal(ea.risk(z, x, y), v.risk(project(z, case.space), x, y)),
        INVARIANT: max(equal(f.risk(z, x, y), f.risk(moved, x, y)) for f in (da, fa, ea)),
        WI_EQUAL: equal(*(f.risk(symmetric, x, y) for f in (v, da, fa))),
        WI_NEEDED: equal(v.risk(teacher, *foreign), da.risk(teacher, *foreign)),
        DATA_EQUAL: equal(v.risk(z, *equivariant), v.risk(moved, *equivariant), da.risk(z, *equivariant)),
        DATA_NEEDED: equal(v.risk(teacher, *foreign), v.risk(case.moved(teacher), *foreign)),
    }


def convexity(case: Setting, draw: Draw) -> Measured:
    """Convexity on laws, and what Jensen's inequality makes of it for invariant functionals.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    one, other = case.cloud((2, 50, draw.particles), g)
    x, y = case.inputs(draw.samples, g), case.labels(draw.samples, g)
    equivariant = case.closed(case.taught("WI", draw.samples, g))
    mixture, symmetric = torch.cat([one, other], dim=-2), orbit(one, case.rep)
    convex, jensen = [], []
    for loss in LOSSES:
        for scheme in ("V", "DA", "FA", "EA"):
            f = case.objective(scheme, loss)
            convex.append(excess(f.risk(mixture, x, y), (f.risk(one, x, y) + f.risk(other, x, y)) / 2))
        jensen += [
            excess(f.risk(symmetric, *data), f.risk(one, *data))
            for f, data in ((case.objective("V", loss), equivariant), (case.objective("DA", loss), Sample(x, y)))
        ]
    teacher = case.teacher("arbitrary", g)
    foreign, v = case.closed_inputs(teacher, x), case.objective("V")
    return {
        CONVEX: max(convex),
        JENSEN: max(jensen),
        # at the teacher the risk is 0, and after symmetrisation it is not
        JENSEN_NEEDED: excess(v.risk(orbit(teacher, case.rep), *foreign), v.risk(teacher, *foreign)),
    }


def augmentation_gap(case: Setting, draw: Draw) -> Measured:
    """DA against FA, and FA against EA.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    z = case.cloud((50, draw.particles), g)
    x, y = case.inputs(draw.samples, g), case.labels(draw.samples, g)
    da, fa = case.objective("DA"), case.objective("FA")
    closed = case.closed_inputs(case.teacher("arbitrary", g), x)
    difference = da.risk(z, *closed) - fa.risk(z, *closed)
    generic = da.risk(z, x, y) - fa.risk(z, x, y)
    measured = {
        FA_BELOW_DA: max(
            excess(case.objective("FA", loss).risk(z, x, y), case.objective("DA", loss).risk(z, x, y))
            for loss in LOSSES
        ),
        GAP: relative(difference, case.gap(closed.x, z)),
        GAP_TWO if case.two_faces else GAP_NEEDED: relative(generic, case.gap(x, z)),
    }
    if case.name == "swap":
        students = case.cloud((_STUDENTS, draw.particles), g)
        data = case.taught("WI", 10 * draw.samples, g)
        averaged, constrained = fa.risk(students, *data), case.objective("EA").risk(students, *data)
        measured[EA_BELOW_FA] = float((1 - constrained / averaged).max())
        measured[EA_ABOVE_FA] = float((1 - averaged / constrained).max())
    return measured


def gradients(case: Setting, draw: Draw) -> Measured:
    """The particle gradients of the four risks: by hand, by autograd, and by the formulas.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    z = case.cloud((draw.particles,), g)
    x, y = case.inputs(draw.samples, g), case.labels(draw.samples, g)
    v, da, fa, ea = (case.objective(scheme) for scheme in ("V", "DA", "FA", "EA"))
    moved, symmetric = case.moved(z), orbit(z, case.rep)
    at_orbit = v.gradient(symmetric, x, y).unflatten(0, (case.group.order, -1))
    equivariant = case.closed(case.taught("WI", draw.samples, g))
    foreign = case.closed_inputs(case.teacher("arbitrary", g), x)
    return {
        AUTODIFF: max(relative(f.gradient(z, x, y), _autodiff(f, z, x, y)) for f in (v, da, fa, ea)),
        DA_GRADIENT: relative(_autodiff(da, z, x, y), case.moved_back(v.gradient(moved, x, y)).mean(0)),
        FA_GRADIENT: relative(_autodiff(fa, z, x, y), case.moved_back(at_orbit).mean(0)),
        EA_GRADIENT: relative(_autodiff(ea, z, x, y), project(v.gradient(project(z, case.space), x, y), case.space)),
        COVARIANT: max(_covariance(case, v, equivariant, z), _covariance(case, da, Sample(x, y), z)),
        COVARIANT_NEEDED: _covariance(case, v, foreign, z),
    }


def decompositions(case: Setting, draw: Draw) -> Measured:
    """What orthogonality in L² of an invariant law of inputs says about risks.

    Labels are f* ± e with equal weights, so that E[Y | X] = f* exactly and R* = E‖e‖² > 0.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    z, teacher = case.cloud((draw.particles,), g), case.teacher("arbitrary", g)
    x = case.inputs(draw.samples, g)
    closed = case.images(x)
    noise = 0.1 * case.labels(len(closed), g)
    best = case.unit.mean(closed, teacher)
    noisy = Sample(closed.repeat(2, 1), torch.cat([best + noise, best - noise]))
    v, least, averaged = case.objective("V"), _mean_square(noise), case.average(closed, teacher)

    def pythagoras(cloud: Tensor) -> float:
        network = case.unit.mean(closed, cloud)
        through_best = least + _mean_square(network - best)
        through_average = least + _mean_square(best - averaged) + _mean_square(network - averaged)
        return equal(v.risk(cloud, *noisy), through_best, through_average)

    symmetric = case.teacher("WI", g)
    return {
        LEMMA_GENERAL: _lemma(case, closed, z, teacher),
        LEMMA_EQUIVARIANT: _lemma(case, closed, z, symmetric, equivariant=True),
        LEMMA_NEEDED: max(_lemma(case, one, z, teacher) for one in x.split(1)),
        PYTHAGORAS: pythagoras(orbit(z, case.rep)),
        PYTHAGORAS_NEEDED: pythagoras(teacher),
    }


def conditional_mean(case: Setting, draw: Draw) -> Measured:
    """The regression function of a finite data set with several labels for an input, also at symmetric inputs.

    Args:
        case: group and unit.
        draw: source of randomness and sizes.

    Returns:
        What was measured, by claim.
    """
    g = draw.generator
    x = case.inputs(draw.samples, g)
    centre = case.rep_in.act(case.group.elements.unsqueeze(1), x[:2]).mean(0)  # inputs that the group leaves alone
    inputs = torch.cat([x, centre]).repeat(3, 1)
    sample = Sample(inputs, case.labels(len(inputs), g))
    return {
        REGRESSION: _regression_violation(case, case.closed(sample)),
        REGRESSION_NEEDED: _regression_violation(
            case, Sample(case.closed(sample).x, case.labels(len(inputs) * case.group.order, g))
        ),
    }


def _autodiff(objective: Objective, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The particle gradient by autograd: n times the gradient of the risk in the particles."""
    leaf = z.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.risk(leaf, x, y), leaf)
    return len(z) * gradient


def _covariance(case: Setting, objective: Objective, data: Sample, z: Tensor) -> float:
    """How far potential and gradient at (M_g#μ, M_g a) are from those at (μ, a), at points a off the cloud too."""
    population = sampled_population(objective, Nodes.sample(data.x), lambda _: data.y)
    at = torch.cat([z, z.flip(-1) + 0.5])
    moved, moved_at = case.moved(z), case.moved(at)
    return max(
        relative(population.potential(moved, moved_at), population.potential(z, at)),
        relative(case.moved_back(population.gradient(moved, moved_at)), population.gradient(z, at)),
    )


def _lemma(case: Setting, x: Tensor, z: Tensor, teacher: Tensor, *, equivariant: bool = False) -> float:
    """|Δ − formula| relative to ‖f^⊥‖², where Δ = R(f) − R(Q_Gf)."""
    best, f, averaged = case.unit.mean(x, teacher), case.unit.mean(x, z), case.average(x, z)
    off = f - averaged
    difference = _mean_square(f - best) - _mean_square(averaged - best)
    overlap = 0.0 if equivariant else 2 * (best * off).sum(-1).mean()
    return float((difference + overlap - _mean_square(off)).abs() / _mean_square(off))


def _regression_violation(case: Setting, sample: Sample) -> float:
    """Largest |f*(ρ_g x) − ρ̂_g f*(x)| for the conditional mean f* of a finite sample."""

    def same(a: Tensor, b: Tensor) -> Tensor:
        return (torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") < 1e-9).double()

    def mean_at(points: Tensor) -> Tensor:
        weights = same(points, sample.x)
        return (weights @ sample.y) / weights.sum(-1, keepdim=True)

    elements = case.group.elements.unsqueeze(1)
    return max(
        relative(mean_at(case.rep_in.act(g, sample.x)), case.rep_out.act(g, mean_at(sample.x))) for g in elements
    )


def _mean_square(values: Tensor) -> Tensor:
    return values.square().sum(-1).mean()
