"""A method's declared order is measured; what blows up is refused; dense output agrees with the solver."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import LSODA

from symfield.ode import Adaptive, FixedStep, euler, heun, rk4, solve, time_grid

ONE = torch.ones(1, dtype=torch.float64)
PENDULUM = torch.tensor([1.0, 0.0], dtype=torch.float64)


def pendulum(t: float, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([y[1], -y[0].sin() + 0.1 * math.cos(t)])


EXACT = solve(pendulum, PENDULUM, [1.0, 3.0], method=Adaptive(1e-13, 1e-14)).states


@pytest.mark.parametrize("build", [euler, heun, rk4], ids=lambda build: build.__name__)
def test_the_error_of_a_method_falls_with_its_declared_order(build):
    errors = [float((solve(pendulum, PENDULUM, [3.0], method=build(dt)).states[0] - EXACT[1]).norm())
              for dt in (3 / 64, 3 / 128)]  # fmt: skip
    assert math.log2(errors[0] / errors[1]) == pytest.approx(build(1.0).order, abs=0.15)


@pytest.mark.parametrize(
    "method", [Adaptive(), Adaptive(1e-8, 1e-10, LSODA), rk4(0.01)], ids=lambda m: type(m).__name__
)
def test_states_at_the_times_and_between_them(method):
    path = solve(pendulum, PENDULUM, [1.0, 3.0], method=method, dense=True)
    torch.testing.assert_close(path.states, EXACT, rtol=0, atol=2e-6)
    torch.testing.assert_close(path.at(1.0), EXACT[0], rtol=0, atol=2e-6)
    between = solve(pendulum, PENDULUM, [2.2345], method=Adaptive(1e-12, 1e-13)).states[0]
    torch.testing.assert_close(path.at(2.2345), between, rtol=0, atol=2e-6)


def test_runs_do_not_see_one_another_under_fixed_steps():
    both = solve(lambda t, y: -y.square(), torch.tensor([[1.0], [2.0]]).double(), [1.0], method=heun(0.1))
    alone = solve(lambda t, y: -y.square(), torch.tensor([2.0]).double(), [1.0], method=heun(0.1))
    assert both.states[0, 1].equal(alone.states[0])


def test_steps_divide_each_interval_evenly_and_are_counted():
    path = solve(lambda t, y: -y, ONE, [0.0, 0.25, 1.0], method=heun(0.1))
    assert path.evaluations == 2 * (3 + 8)
    assert path.states[0].equal(ONE)
    assert repr(path) == "Solution(3 states (1,) up to t=1, 22 evaluations)"


def test_a_flow_that_blows_up_says_when():
    with pytest.raises(ArithmeticError, match=r"t = (1|0\.9999)"):  # dy/dt = y² from 1 is 1/(1 − t)
        solve(lambda t, y: y.square(), ONE, [2.0], method=Adaptive(1e-6, 1e-9))
    with pytest.raises(ArithmeticError, match="not finite at t = "):
        solve(lambda t, y: (0.5 - y).sqrt(), ONE, [2.0], method=Adaptive(1e-6, 1e-9))
    with pytest.raises(ArithmeticError, match="not finite at t = "):
        solve(lambda t, y: y**9, 10 * ONE, [20.0], method=euler(1.0))


def test_steps_that_shrink_for_ever_end_with_an_error():
    with pytest.raises(ArithmeticError, match=r"spent 500 slopes and is at t = 0\.18\d*: its steps shrink"):
        solve(
            lambda t, y: 1 - 2 * torch.sign(y - 0.5) - y, 0 * ONE, [2.0], method=Adaptive(1e-8, 1e-10, evaluations=500)
        )


def test_single_precision_is_followed_to_its_round_off_and_not_beyond():
    path = solve(pendulum, PENDULUM.float(), [1.0, 3.0])
    assert path.states.dtype == torch.float32
    torch.testing.assert_close(path.states.double(), EXACT, rtol=0, atol=2e-6)
    assert path.evaluations < 1.5 * solve(pendulum, PENDULUM, [1.0, 3.0]).evaluations


def test_integer_states_are_refused_rather_than_truncated():
    with pytest.raises(ValueError, match=r"floating dtype, received torch.int64"):
        solve(lambda t, y: y, torch.ones(2, dtype=torch.int64), [1.0])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: heun(0.0),
        lambda: rk4(math.inf),
        lambda: Adaptive(0.0),
        lambda: Adaptive(1e-3, -1.0),
        lambda: Adaptive(evaluations=0),
    ],
)
def test_steps_and_tolerances_are_checked(bad):
    with pytest.raises(ValueError, match="expected"):
        bad()


@pytest.mark.parametrize("times", [[], [-1.0, 1.0], [1.0, 1.0], [math.nan]])
def test_times_must_increase(times):
    with pytest.raises(ValueError, match="times"):
        time_grid(times)


def test_only_dense_solutions_are_read_between_their_times():
    path = solve(lambda t, y: -y, ONE, [1.0])
    with pytest.raises(ValueError, match="dense=True"):
        path.at(0.5)
    dense = solve(lambda t, y: -y, ONE, [1.0], dense=True)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        dense.at(1.5)
    assert solve(lambda t, y: -y, ONE, [0.0], dense=True).at(0.0).equal(ONE)


def test_a_method_is_a_value():
    assert heun(0.1) == heun(0.1) != rk4(0.1)
    assert isinstance(rk4(0.5), FixedStep)
    assert hash(Adaptive()) == hash(Adaptive())
