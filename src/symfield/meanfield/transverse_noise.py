r"""How far sampling noise alone carries SGD from E^G: a linear-noise prediction, to be compared with runs.

SGD with steps s = ες and batches of B samples, started in E^G, has transverse part δ with

    δ ← δ − s(Aδ + ξ),   Cov ξ = Σ/B,   Σ_ij = Cov(g_i(X)^⊥, g_j(X)^⊥),

A the transverse operator and g_i(x) the gradient on one sample, both at the population flow z(t). In macroscopic time
t = kε there are 1/ε steps in a unit of time, so to first order in ε

    dC/dt = −ς(AC + CA) + (ε/B) ς² Σ,        C = Cov δ,    (1/n) tr C = E (1/n) Σ_i ‖z_i − P z_i‖².

Hence the distance to E^G is exactly proportional to ε/B; the number of particles enters only through A and Σ, which
converge as n grows. With ε = 1/n, "wide" and "small steps" are the same thing.

Three things are neglected: the fluctuation of A from batch to batch and the second order of each step (relative
corrections of order ες‖A‖), and the nonlinearity (corrections once δ is not small; where E^G is unstable the prediction
grows exponentially, the network saturates).

References:
    Maass & Fontbona 2024, Theorem 5 and Section 4.1, arXiv 2405.19995v3.
    van Kampen 2007, *Stochastic Processes in Physics and Chemistry*, Chapter X (linear noise approximation).
    Li, Tai & E 2019, *Stochastic modified equations and dynamics of stochastic gradient algorithms*, JMLR 20,
    arXiv 1811.01558.
"""

from __future__ import annotations

import math

import torch

from symfield.linalg import Subspace
from symfield.meanfield.gradient_flow import Rate, Trajectory, pace_of
from symfield.meanfield.population import SampledPopulation
from symfield.meanfield.stability import transverse_operator
from symfield.typing import Float, Tensor

__all__ = ["transverse_variance"]

_DENSE = 3000


def transverse_variance(
    trajectory: Trajectory,
    population: SampledPopulation,
    subspace: Subspace,
    *,
    epsilon: float,
    batch: int,
    rate: Rate = 1.0,
    tau: float = 0.0,
) -> Float[Tensor, " t"]:
    """The predicted mean squared distance E (1/n) Σ_i ‖z_i − P z_i‖² of SGD from E^G, along a strongly invariant flow.

    Between consecutive times A, Σ and ς are frozen at the midpoint and the equation for C is solved exactly, so the
    result is second-order accurate in the spacing: give more times to check. It starts at 0 at the first time.

    Args:
        trajectory: the population flow in E^G, with one cloud ``(n, p)``; best from ``population_flow(subspace=...)``.
        population: R on nodes, for the scheme that is run: vanilla for V and for sampled DA. (Full-orbit DA and FA have
            no transverse noise; the prediction is then 0.)
        subspace: E^G.
        epsilon: ε, the step of macroscopic time.
        batch: B, samples in a step.
        rate: ς, as in the flow.
        tau: weight τ of the regulariser, as in the flow.

    Returns:
        The mean squared distance at the trajectory's times, float64 ``(t,)``.

    Raises:
        ValueError: if an argument is out of range, the trajectory leaves the subspace, or n·q exceeds 3000.
        NotImplementedError: if the unit has a kink that nodes do not see, as ReLU.

    Example:
        >>> from symfield.meanfield import population_flow, sampled_population, squared, vanilla
        >>> from symfield.quadrature import gauss_hermite
        >>> from symfield.units import PointwiseUnit, tanh
        >>> line = Subspace.from_orbits(torch.tensor([0, 0]))  # units that see x₁ + x₂ only: the swap's E^G
        >>> objective = vanilla(PointwiseUnit(tanh, 2, 1), squared)
        >>> population = sampled_population(objective, gauss_hermite(2, 30), torch.ones(1, 2, dtype=torch.float64))
        >>> start = torch.full((3, 2), 0.1, dtype=torch.float64)
        >>> trajectory = population_flow(start, population, times=[0.0, 0.5, 1.0], subspace=line)
        >>> coarse = transverse_variance(trajectory, population, line, epsilon=1e-2, batch=10)
        >>> fine = transverse_variance(trajectory, population, line, epsilon=1e-3, batch=10)
        >>> bool(coarse[0] == 0), bool(torch.isclose(coarse[-1], 10 * fine[-1]))
        (True, True)
    """
    if not (epsilon > 0 and math.isfinite(epsilon)) or batch < 1:
        raise ValueError(f"expected epsilon > 0 and batch >= 1, received {epsilon} and {batch}")
    if trajectory.states.ndim != 3:
        raise ValueError(f"expected one cloud at every time, received states {tuple(trajectory.states.shape)}")
    population.check_smooth(trajectory.states)
    across = subspace.complement().basis.to(trajectory.states)
    n, q = trajectory.states.shape[1], across.shape[1]
    if n * q > _DENSE:
        raise ValueError(
            f"expected at most {_DENSE} transverse coordinates, received n·q = {n * q}; the answer converges as n "
            "grows, so take fewer particles of the same law"
        )
    pace = pace_of(rate)
    covariance = torch.zeros(n * q, n * q).to(trajectory.states)
    variances = [covariance.trace() / n]
    for k, span in enumerate(trajectory.times.diff().tolist()):
        middle = (trajectory.states[k] + trajectory.states[k + 1]) / 2
        speed = pace(float(trajectory.times[k]) + span / 2)
        operator = transverse_operator(middle, population, subspace, tau=tau)
        noise = population.noise(middle, across).reshape(n * q, n * q) * (epsilon * speed**2 / batch)
        covariance = advance(covariance, speed * operator, noise, span)
        variances.append(covariance.trace() / n)
    return torch.stack(variances)


def advance(
    c: Float[Tensor, "m m"], a: Float[Tensor, "m m"], noise: Float[Tensor, "m m"], span: float
) -> Float[Tensor, "m m"]:
    """C(span) for dC/dt = −(aC + Ca) + noise, exactly, in the eigenbasis of a.

    Args:
        c: C at the start, ``(m, m)``.
        a: symmetric drift, ``(m, m)``.
        noise: symmetric source, ``(m, m)``.
        span: length of the time interval.

    Returns:
        C at its end, ``(m, m)``.
    """
    values, vectors = torch.linalg.eigh(a)
    decay = (values.unsqueeze(0) + values.unsqueeze(1)) * span
    safe = torch.where(decay == 0, 1.0, decay)
    spent = torch.where(decay == 0, 1.0, -torch.expm1(-safe) / safe) * span  # ∫₀^span e^{-(λ+λ')s} ds
    rotated = vectors.mT @ c @ vectors * torch.exp(-decay) + vectors.mT @ noise @ vectors * spent
    return vectors @ rotated @ vectors.mT
