r"""Ordinary differential equations whose state is a tensor: dy/dt = f(t, y), all runs as one system.

A method is a value. :class:`Adaptive` hands the system to a scipy solver, whose tolerances are then the only
approximation in time; :class:`FixedStep` is an explicit Runge–Kutta method given by its tableau, for flows that are
cheap, or whose exact symmetry must not depend on a step-size controller. :func:`solve` returns states at the times that
were asked for and, with ``dense=True``, between them.

References:
    Hairer, Nørsett & Wanner 1993, *Solving Ordinary Differential Equations I*, Sections II.1 (tableaus), II.5 (DOP853)
    and II.6 (dense output).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from scipy.integrate import DOP853, OdeSolver, solve_ivp

from symfield.typing import Float, Shaped, Tensor

__all__ = ["Adaptive", "FixedStep", "Method", "Slope", "Solution", "euler", "heun", "rk4", "solve", "time_grid"]

#: f in dy/dt = f(t, y).
Slope = Callable[[float, Tensor], Tensor]


@dataclass(frozen=True)
class Adaptive:
    """A scipy solver that chooses its steps.

    The tolerances hold for the steps. States at wanted times between two steps come from the solver's interpolant,
    which may be some hundred times less accurate (DOP853 at tolerance 1e-10 was seen to err by 1e-7): where that
    matters, ask for tighter tolerances. States of lower precision than float64 are not followed closer than their
    round-off ε: to 10ε relative to a coordinate and ε relative to the greatest.

    Attributes:
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step; far below the smallest coordinates that matter.
        solver: a scipy ``OdeSolver``; ``scipy.integrate.LSODA`` for stiff problems.
        evaluations: after so many slopes the solver gives up; steps that shrink for ever, at a kink or a jump of the
            slope, would otherwise never end.
    """

    rtol: float = 1e-8
    atol: float = 1e-10
    solver: type[OdeSolver] = DOP853
    evaluations: int = 200_000

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol >= 0 and math.isfinite(self.rtol + self.atol)):
            raise ValueError(f"expected rtol > 0 and atol >= 0, received rtol={self.rtol}, atol={self.atol}")
        if self.evaluations < 1:
            raise ValueError(f"expected evaluations >= 1, received {self.evaluations}")


@dataclass(frozen=True)
class FixedStep:
    """An explicit Runge–Kutta method with equal steps; made by :func:`euler`, :func:`heun` or :func:`rk4`.

    Attributes:
        dt: largest step; each interval between two wanted times is cut into equal steps no longer than this.
        stages: strictly lower triangular rows a_ij of the tableau, without the first (empty) one.
        weights: b_j; nodes are c_i = Σ_j a_ij.
        order: global error O(dt^order).

    Raises:
        ValueError: if the step is not positive.
    """

    dt: float
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        if not (self.dt > 0 and math.isfinite(self.dt)):
            raise ValueError(f"expected a finite step dt > 0, received {self.dt}")

    def step(self, slope: Slope, t: float, y: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            slope: f.
            t: time.
            y: state.
            h: length of the step.

        Returns:
            The state at t + h, and the slope at t.
        """
        slopes = [slope(t, y)]
        for row in self.stages:
            moved = y + h * sum(a * k for a, k in zip(row, slopes, strict=True) if a)
            slopes.append(slope(t + h * sum(row), moved))
        return y + h * sum(b * k for b, k in zip(self.weights, slopes, strict=True) if b), slopes[0]


#: How to integrate in time.
Method = Adaptive | FixedStep


def euler(dt: float) -> FixedStep:
    """Explicit Euler: gradient descent with step dt.

    Args:
        dt: largest step.

    Returns:
        A method of order 1.

    Example:
        >>> one = torch.ones((), dtype=torch.float64)
        >>> solve(lambda t, y: -y, one, [1.0], method=euler(0.5)).states.item()
        0.25
    """
    return FixedStep(dt, (), (1.0,), 1)


def heun(dt: float) -> FixedStep:
    """Heun's method: the average of the slopes at both ends.

    Args:
        dt: largest step.

    Returns:
        A method of order 2.

    Example:
        >>> one = torch.ones((), dtype=torch.float64)
        >>> solve(lambda t, y: -y, one, [1.0], method=heun(1.0)).states.item()
        0.5
    """
    return FixedStep(dt, ((1.0,),), (0.5, 0.5), 2)


def rk4(dt: float) -> FixedStep:
    """The classical Runge–Kutta method.

    Args:
        dt: largest step.

    Returns:
        A method of order 4.

    Example:
        >>> one = torch.ones((), dtype=torch.float64)
        >>> round(solve(lambda t, y: -y, one, [1.0], method=rk4(1.0)).states.item(), 12)
        0.375
    """
    return FixedStep(dt, ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4)


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """A state along time.

    Attributes:
        times: t_k, float64 ``(t,)``.
        states: y(t_k), shape ``(t, *shape)``.
        evaluations: how often the slope was computed.
    """

    times: Tensor
    states: Tensor
    evaluations: int
    _between: Callable[[float], Tensor] | None = field(default=None)

    def __repr__(self) -> str:
        shape = tuple(self.states.shape[1:])
        return f"Solution({len(self.times)} states {shape} up to t={self.times[-1]:g}, {self.evaluations} evaluations)"

    def at(self, t: float) -> Tensor:
        """The state at any time up to the last one, by the method's dense output.

        Args:
            t: a time in [0, t_last].

        Returns:
            y(t), shape ``(*shape)``.

        Raises:
            ValueError: if the solution was computed without ``dense=True``, or t lies outside.

        Example:
            >>> one = torch.ones((), dtype=torch.float64)
            >>> decay = solve(lambda t, y: -y, one, [2.0], dense=True)
            >>> abs(decay.at(1.0).item() - math.exp(-1)) < 1e-7
            True
        """
        if self._between is None:
            raise ValueError("this solution holds no states between its times; compute it with dense=True")
        if not 0 <= t <= float(self.times[-1]):
            raise ValueError(f"expected a time in [0, {float(self.times[-1]):g}], received {t}")
        return self._between(t)


def solve(
    slope: Slope,
    start: Shaped[Tensor, "..."],
    times: Sequence[float] | Float[Tensor, " t"],
    *,
    method: Method | None = None,
    dense: bool = False,
) -> Solution:
    """Integrate dy/dt = slope(t, y) for a tensor y from t = 0.

    Args:
        slope: (t, y) ↦ dy/dt, called without gradients.
        start: y at t = 0, any shape, of a floating dtype, which is that of the states.
        times: increasing times ≥ 0 at which the state is wanted.
        method: :class:`Adaptive` (the default), or a :class:`FixedStep`.
        dense: whether the solution can also be read between its times; keeps every step in memory.

    Returns:
        States ``(t, *start.shape)`` at the times.

    Raises:
        ValueError: if the times are not increasing from 0 or later, or the start is not of a floating dtype.
        ArithmeticError: if the slope stops being finite, or the solver gives up.

    Example:
        >>> growth = solve(lambda t, y: y, torch.ones(2, dtype=torch.float64), [0.0, 1.0])
        >>> [round(value, 8) for value in growth.states[:, 0].tolist()]
        [1.0, 2.71828183]
    """
    grid = time_grid(times)
    method = Adaptive() if method is None else method
    if not start.is_floating_point():
        raise ValueError(f"expected a start of a floating dtype, received {start.dtype}; use .double()")
    if float(grid[-1]) == 0.0 or start.numel() == 0:
        still = start.expand(len(grid), *start.shape).clone()
        return Solution(grid, still, 0, (lambda _t: start.clone()) if dense else None)

    def finite(t: float, y: Tensor) -> Tensor:
        with torch.no_grad():
            value = slope(t, y)
        if not torch.isfinite(value).all():
            raise ArithmeticError(
                f"the flow is not finite at t = {t:.6g}; it blows up there: lower the rate, or check the target"
            )
        return value

    if isinstance(method, Adaptive):
        return _adaptive(finite, start.detach(), grid, method, dense)
    return _fixed(finite, start.detach(), grid, method, dense)


def _adaptive(slope: Slope, start: Tensor, grid: Tensor, method: Adaptive, dense: bool) -> Solution:
    reached, count = 0.0, 0

    def tensor(y: object) -> Tensor:
        return torch.as_tensor(y, dtype=start.dtype).to(start.device).reshape(start.shape)

    def flat(t: float, y: object) -> object:
        nonlocal reached, count
        reached, count = t, count + 1
        if count > method.evaluations:
            raise ArithmeticError(
                f"the solver spent {method.evaluations} slopes and is at t = {t:.6g}: its steps shrink, at a kink or "
                "jump of the slope perhaps; use a fixed step (heun, rk4), loosen rtol=, or raise evaluations="
            )
        return slope(t, tensor(y)).reshape(-1).cpu().numpy()

    rtol, atol = method.rtol, method.atol
    if start.dtype != torch.float64:  # below round-off the controller would chase noise with ever smaller steps
        eps = torch.finfo(start.dtype).eps
        rtol, atol = max(rtol, 10 * eps), max(atol, eps * float(start.abs().max()))
    result = solve_ivp(
        flat,
        (0.0, float(grid[-1])),
        start.reshape(-1).cpu().numpy(),
        method=method.solver,
        t_eval=grid.numpy(),
        rtol=rtol,
        atol=atol,
        dense_output=dense,
    )
    if not result.success:
        raise ArithmeticError(
            f"the solver gave up at t = {reached:.6g} ({result.message.rstrip('.')}): the flow blows up there, or is "
            "stiff; loosen rtol= or atol=, or use solver=scipy.integrate.LSODA"
        )
    states = torch.as_tensor(result.y.T.copy()).to(start).reshape(len(grid), *start.shape)
    return Solution(grid, states, int(result.nfev), (lambda t: tensor(result.sol(t))) if dense else None)


def _fixed(slope: Slope, start: Tensor, grid: Tensor, method: FixedStep, dense: bool) -> Solution:
    y, t, states, evaluations = start.clone(), 0.0, [], 0
    knots: list[tuple[float, Tensor, Tensor]] = []
    for goal in grid.tolist():
        steps = math.ceil((goal - t) / method.dt - 1e-9)
        h, begin = (goal - t) / max(steps, 1), t
        for k in range(steps):
            t = begin + k * h
            moved, first = method.step(slope, t, y, h)
            if dense:
                knots.append((t, y, first))
            y = moved
        evaluations += steps * len(method.weights)
        t = goal
        states.append(y)
    if not torch.isfinite(y).all():
        raise ArithmeticError(f"the flow is not finite at t = {t:.6g}; take a smaller dt, received {method.dt:g}")
    if dense:
        knots.append((t, y, slope(t, y)))
    return Solution(grid, torch.stack(states), evaluations, (lambda at: _hermite(knots, at)) if dense else None)


def _hermite(knots: list[tuple[float, Tensor, Tensor]], t: float) -> Tensor:
    """The cubic through two neighbouring states and their slopes."""
    right = min(max(bisect_right(knots, t, key=lambda knot: knot[0]), 1), len(knots) - 1)
    (t0, y0, f0), (t1, y1, f1) = knots[right - 1], knots[right]
    h = t1 - t0
    s = (t - t0) / h
    return y0 + s**2 * (3 - 2 * s) * (y1 - y0) + h * s * (1 - s) * ((1 - s) * f0 - s * f1)


def time_grid(times: Sequence[float] | Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Times as a float64 tensor, refused unless they increase from 0 or later.

    Args:
        times: t_k.

    Returns:
        The times, ``(t,)``.

    Raises:
        ValueError: if there are none, or they are negative, not finite or not increasing.

    Example:
        >>> time_grid([0, 1])
        tensor([0., 1.], dtype=torch.float64)
    """
    grid = torch.as_tensor(times, dtype=torch.float64).detach().cpu()
    if grid.ndim != 1 or len(grid) == 0 or not torch.isfinite(grid).all():
        raise ValueError(f"expected a list of finite times, received {times!r}")
    if float(grid[0]) < 0 or bool((grid.diff() <= 0).any()):
        raise ValueError(f"expected increasing times >= 0, received {grid.tolist()}")
    return grid
