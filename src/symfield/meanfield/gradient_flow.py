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
from scipy.integrate import DOP853, OdeSolver, solve_ivp

from symfield.linalg import Subspace
from symfield.meanfield.population import Population, check_cloud
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
        >>> from symfield.meanfield import gauss_hermite, sampled_population, squared, vanilla
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

    states, evaluations = solve(slope, encode(z), grid, rtol=rtol, atol=atol, solver=solver)
    return Trajectory(grid, decode(states), evaluations)


def solve(
    slope: Callable[[float, Tensor], Tensor],
    start: Tensor,
    times: Tensor,
    *,
    rtol: float,
    atol: float,
    solver: type[OdeSolver] = DOP853,
) -> tuple[Tensor, int]:
    """Integrate dy/dt = slope(t, y) for a tensor y from t = 0.

    Args:
        slope: (t, y) ↦ dy/dt.
        start: y at t = 0.
        times: increasing times ≥ 0.
        rtol: relative tolerance.
        atol: absolute tolerance.
        solver: a scipy ``OdeSolver``.

    Returns:
        States ``(t, *start.shape)`` and the number of evaluations of the slope.

    Raises:
        ArithmeticError: if the slope stops being finite, or the solver gives up.
    """
    if float(times[-1]) == 0.0 or start.numel() == 0:
        return start.expand(len(times), *start.shape).clone(), 0

    reached = 0.0

    def flat(t: float, y: object) -> object:
        nonlocal reached
        reached = t
        with torch.no_grad():
            value = slope(t, torch.as_tensor(y, dtype=start.dtype).to(start.device).reshape(start.shape))
        if not torch.isfinite(value).all():
            raise ArithmeticError(
                f"the flow is not finite at t = {t:.6g}; it blows up there: lower the rate, or check the target"
            )
        return value.reshape(-1).cpu().numpy()

    result = solve_ivp(
        flat,
        (0.0, float(times[-1])),
        start.reshape(-1).cpu().numpy(),
        method=solver,
        t_eval=times.numpy(),
        rtol=rtol,
        atol=atol,
    )
    if not result.success:
        raise ArithmeticError(
            f"the solver gave up at t = {reached:.6g} ({result.message.rstrip('.')}): the flow blows up there, or is "
            "stiff; loosen rtol= or atol=, or pass solver=scipy.integrate.LSODA"
        )
    states = torch.as_tensor(result.y.T.copy()).to(start).reshape(len(times), *start.shape)
    return states, int(result.nfev)


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


def time_grid(times: Sequence[float] | Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Times as a float64 tensor, refused unless they increase from 0 or later.

    Args:
        times: t_k.

    Returns:
        The times, ``(t,)``.

    Raises:
        ValueError: if there are none, or they are negative, not finite or not increasing.
    """
    grid = torch.as_tensor(times, dtype=torch.float64).cpu()
    if grid.ndim != 1 or len(grid) == 0 or not torch.isfinite(grid).all():
        raise ValueError(f"expected a list of finite times, received {times!r}")
    if float(grid[0]) < 0 or bool((grid.diff() <= 0).any()):
        raise ValueError(f"expected increasing times >= 0, received {grid.tolist()}")
    return grid


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
