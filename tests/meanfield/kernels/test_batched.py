"""Plain torch against the naive loop, and what `advance` refuses."""

from __future__ import annotations

import pytest
import torch

from symfield.meanfield.kernels import Program, advance, advance_batched

PROGRAMS = {
    "paper": Program("sigmoid", 2, 2, tau=1e-2),
    "row": Program("tanh", 3, 1, loss_scale=0.5),
    "erf rows": Program("erf", 3, 2, tau=0.1),
    "linear": Program("identity", 2, 3),
    "relu": Program("relu", 4, 1, hidden=1),
    "relu with bias": Program("relu", 4, 1, hidden=1, bias=True, tau=1e-2),
    "relu, two outputs": Program("relu", 3, 2, hidden=1, bias=True),
    "perceptron": Program("tanh", 3, 2, hidden=3, bias=True, tau=1e-2),
    "erf perceptron": Program("erf", 2, 1, hidden=2, bias=True),
    "sigmoid perceptron": Program("sigmoid", 2, 1, hidden=4),
}


@pytest.mark.parametrize("maps", ["", "F", "E", "FE"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_batched_steps_are_the_formula_with_autograd(naive, problem, name, maps):
    case = problem(PROGRAMS[name], maps=maps)
    torch.testing.assert_close(case.run(advance_batched), case.run(naive), rtol=1e-12, atol=1e-12)


def test_runs_that_do_not_fit_the_cache_together_give_the_same(naive, problem, monkeypatch):
    case = problem(PROGRAMS["perceptron"], runs=5, maps="E", k=10)
    monkeypatch.setattr("symfield.meanfield.kernels.batched._CACHE_BYTES", 1)
    torch.testing.assert_close(case.run(advance_batched), case.run(naive), rtol=1e-12, atol=1e-12)


def test_no_noise_and_one_run_for_each_data_row(naive, problem):
    case = problem(PROGRAMS["relu"], noisy=False, rows=3)
    torch.testing.assert_close(case.run(advance_batched), case.run(naive), rtol=1e-12, atol=1e-12)


def test_zero_steps_return_a_copy(problem):
    case = problem(PROGRAMS["paper"], k=0)
    result = case.run(advance)
    assert torch.equal(result, case.z)
    assert result.data_ptr() != case.z.data_ptr()


def test_the_arguments_are_left_alone(problem):
    case = problem(PROGRAMS["perceptron"], maps="FE", k=3)
    before = [t.clone() for t in (case.z, case.x, case.y, case.noise)]
    case.run(advance_batched)
    assert all(torch.equal(a, b) for a, b in zip(before, (case.z, case.x, case.y, case.noise), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"z": c.z.mT}, "expected a state of shape"),
        (lambda c: {"z": c.z.half()}, "float32 or float64"),
        (lambda c: {"x": c.x[..., :1]}, "expected samples x of shape"),
        (lambda c: {"y": c.y[:, :, :1]}, "expected targets y of shape"),
        (lambda c: {"steps": c.steps[1:]}, "expected step sizes of shape"),
        (lambda c: {"noise": c.noise[:, :, :, :1]}, "expected noise of shape"),
        (lambda c: {"noise": c.noise.float()}, "expected noise with the state's"),
        (lambda c: {"data_row": c.data_row + 1}, "expected data_row between 0 and 1, received 1 to 2"),
        (lambda c: {"noise_row": c.noise_row - 1}, "expected noise_row between"),
        (lambda c: {"data_row": c.data_row[1:]}, "expected data_row of shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_both_shapes(problem, change, message):
    case = problem(PROGRAMS["paper"], k=2)
    with pytest.raises(ValueError, match=message):
        case.run(advance, **change(case))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "softplus"}, "expected an activation among sigmoid"),
        ({"in_dim": 0}, "expected in_dim >= 1"),
        ({"hidden": 0}, "expected hidden >= 1"),
        ({"bias": True}, "set hidden for a bias"),
        ({"tau": -1.0}, "expected tau >= 0"),
        ({"tau": float("nan")}, "expected tau >= 0"),
    ],
)
def test_programs_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Program(**{"activation": "sigmoid", "in_dim": 2, "out_dim": 2} | arguments)


def test_maps_of_the_wrong_size_are_refused(problem):
    case = problem(PROGRAMS["paper"], k=2)
    for name, size, message in (
        ("gradient_map", 3, "expected gradient_map of shape"),
        ("residual_map", 3, "expected a residual_map of shape"),
        ("residual_map", 8, "with m dividing the 6 samples"),
    ):
        program = Program("sigmoid", 2, 2, **{name: torch.eye(size, dtype=torch.float64).expand(3, size, size)})
        with pytest.raises(ValueError, match=message):
            case.run(advance, program=program)
