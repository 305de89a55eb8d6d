r"""The exact Wasserstein gradient flow of a cloud: SGD without sampling noise and with infinitely small steps.

Without entropy (β = 0) the Wasserstein gradient flow of R^τ(μ) = R(μ) + τ∫‖z‖²dμ started at a cloud stays a cloud:

    dz_i/dt = −ς(t) v_i,   v_i = D_μR(μ_t, z_i) + 2τ z_i,   and   d/dt R^τ(μ_t) = −ς(t) (1/n) Σ_i ‖v_i‖².

With β > 0 the law spreads at once and no finite cloud follows it. The equation is solved by an adaptive Runge–Kutta
method (Dormand & Prince's of order 8), all runs as one system, so tolerances are the only approximation in time.

Round-off. If E^G is invariant under the flow but unstable, every rounding error off E^G grows exponentially, here as in
any other simulation. ``subspace=`` integrates in coordinates of the subspace instead, so that nothing can leave it.

References:
    Maass & Fontbona 2024, Section 2.2, Theorems 5 and 6, Appendix D.2, arXiv 2405.19995v3.
    Hairer, Nørsett & Wanner 1993, *Solving Ordinary Differential Equations I*, Section II.5 (DOP853).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.integrate import DOP853, OdeSolver

from symfield.linalg import Subspace
from symfield.meanfield.population import Population, check_cloud
from symfield.ode import Adaptive, solve, time_grid
from symfield.typing import Float, Tensor

__all__ = ["Rate", "Trajectory", "energy", "population_flow", "velocity"]

#: A learning rate ς: a number, or a function of time.
Rate = float | Callable[[float], float]

_ON_SUBSPACE = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """A cloud along the flow.

    Attributes:
        times: t_k, float64 ``(t,)``.
        states: clouds at these times, float64 ``(t, *r, n, p)``.
        evaluations: how often the particle gradient was computed.
    """

    times: Tensor
    states: Tensor
    evaluations: int

    def __repr__(self) -> str:
        shape = tuple(self.states.shape[1:])
        return (
            f"Trajectory({len(self.times)} states {shape} up to t={self.times[-1]:g}, {self.evaluations} evaluations)"
        )


def velocity(z: Float[Tensor, "*r n p"], population: Population, *, tau: float = 0.0) -> Float[Tensor, "*r n p"]:
    """The Wasserstein gradient v_i = D_μR(μ, z_i) + 2τ z_i of R^τ; particles move with −ς v.

    Args:
        z: cloud, float64 ``(*r, n, p)``.
        population: R.
        tau: weight τ of the regulariser ‖z‖².

    Returns:
        v, shape ``(*r, n, p)``.

    Example:
        >>> from symfield.meanfield import gaussian_erf_population
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.ones(1, 2, dtype=torch.float64)
        >>> population = gaussian_erf_population(PointwiseUnit(erf, 2, 1), teacher)
        >>> velocity(teacher, population, tau=0.5)
        tensor([[1., 1.]], dtype=torch.float64)
    """
    return population.gradient(z) + 2 * tau * z


def energy(z: Float[Tensor, "*r n p"], population: Population, *, tau: float = 0.0) -> Float[Tensor, "*r"]:
    """R^τ(μ) = R(μ) + τ (1/n) Σ_i ‖z_i‖², which the flow decreases.

    Args:
        z: cloud, float64 ``(*r, n, p)``.
        population: R.
        tau: weight τ of the regulariser ‖z‖².

    Returns:
        The energy of every run, shape ``(*r)``.

    Example:
        >>> from symfield.meanfield import gaussian_erf_population
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.ones(1, 2, dtype=torch.float64)
        >>> population = gaussian_erf_population(PointwiseUnit(erf, 2, 1), teacher)
        >>> energy(teacher, population, tau=0.5)
        tensor(1., dtype=torch.float64)
    """
    return population.risk(z) + tau * z.square().sum(-1).mean(-1)


def population_flow(
    z0: Float[Tensor, "*r n p"],
    population: Population,
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    rate: Rate = 1.0,
    tau: float = 0.0,
    beta: float = 0.0,
    subspace: Subspace | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    solver: type[OdeSolver] = DOP853,
) -> Trajectory:
    """Follow dz_i/dt = −ς(t)(D_μR(μ_t, z_i) + 2τ z_i) from t = 0.

    Args:
        z0: cloud at t = 0, ``(*r, n, p)``; runs do not see one another, but share the solver's steps.
        population: R, for example from :func:`~symfield.meanfield.sampled_population`.
        times: increasing times t ≥ 0 at which states are wanted.
        rate: ς, a non-negative number or a function of time.
        tau: weight τ of the regulariser ‖z‖².
        beta: entropy weight; must be 0.
        subspace: confines the particles exactly, by integrating in its coordinates. If the gradient points out of the
            subspace, this is the flow of the projected gradient (that of EA).
        rtol: relative tolerance of the solver.
        atol: absolute tolerance of the solver; far below the smallest coordinates that matter.
        solver: a scipy ``OdeSolver``; ``scipy.integrate.LSODA`` for stiff problems (large τς or curvature).

    Returns:
        States at ``times``.

    Raises:
        ValueError: if an argument is out of range, ``beta`` is positive, or z0 is not in ``subspace``.
        ArithmeticError: if the flow blows up, or the solver cannot meet its tolerances.

    Example:
        >>> from symfield.meanfield import sampled_population, squared, vanilla
        >>> from symfield.quadrature import gauss_hermite
        >>> from symfield.units import PointwiseUnit, identity
        >>> objective = vanilla(PointwiseUnit(identity, 1, 1), squared)
        >>> population = sampled_population(objective, gauss_hermite(1, 4), lambda x: x)
        >>> trajectory = population_flow(torch.zeros(1, 1, dtype=torch.float64), population, times=[0.5])
        >>> abs(trajectory.states.item() - (1 - math.exp(-1.0))) < 1e-8
        True
    """
    z = z0.detach().double()
    check_cloud(population.unit, z)
    grid = time_grid(times)
    _check(z, tau, beta)
    pace = pace_of(rate)
    if subspace is not None:
        require_inside(z, subspace)

    def encode(cloud: Tensor) -> Tensor:
        return cloud if subspace is None else subspace.coordinates(cloud)

    def decode(state: Tensor) -> Tensor:
        return state if subspace is None else subspace.embed(state)

    def slope(t: float, state: Tensor) -> Tensor:
        return -pace(t) * encode(velocity(decode(state), population, tau=tau))

    path = solve(slope, encode(z), grid, method=Adaptive(rtol, atol, solver))
    return Trajectory(grid, decode(path.states), path.evaluations)


def pace_of(rate: Rate) -> Callable[[float], float]:
    """A learning rate as a function of time that refuses negative and infinite values.

    Args:
        rate: ς.

    Returns:
        t ↦ ς(t).

    Raises:
        ValueError: for a number that is negative or not finite (for a function: when it is evaluated).
    """

    def checked(value: float, where: str) -> float:
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"expected a finite rate >= 0, received {value}{where}")
        return value

    if callable(rate):
        return lambda t: checked(float(rate(t)), f" at t = {t:.6g}")
    constant = checked(float(rate), "")
    return lambda _t: constant


def require_inside(z: Float[Tensor, "*r n p"], subspace: Subspace) -> None:
    """Refuse clouds that are not in a subspace.

    Args:
        z: cloud, ``(*r, n, p)``.
        subspace: E.

    Raises:
        ValueError: with the measured distance.
    """
    if subspace.ambient_dim != z.shape[-1]:
        raise ValueError(f"expected a subspace of R^{z.shape[-1]}, received {subspace!r}")
    distance = float(subspace.distance(z).max())
    if not distance <= _ON_SUBSPACE * max(1.0, float(z.norm(dim=-1).max())):
        raise ValueError(
            f"expected a strongly invariant cloud, received one with a particle at distance {distance:.3g} from "
            f"{subspace!r}; pass project(z, subspace)"
        )


def _check(z: Tensor, tau: float, beta: float) -> None:
    if not (tau >= 0 and math.isfinite(tau)):
        raise ValueError(f"expected a finite tau >= 0, received {tau}")
    if beta != 0:
        raise ValueError(
            f"expected beta = 0, received {beta}: with entropy the flow is a diffusion of laws that no finite cloud "
            "follows; simulate it with integrate and many particles"
        )
    if not torch.isfinite(z).all():
        raise ValueError("expected a finite cloud, received NaN or infinity")
