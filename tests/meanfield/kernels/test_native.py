"""Compiled code against plain torch, and what it promises beyond: bits that depend on nothing but the input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from symfield.meanfield import kernels
from symfield.meanfield.kernels import Program, advance, advance_batched, advance_native, status

pytestmark = pytest.mark.skipif(not status().available, reason=status().detail)

PROGRAMS = {
    "paper": Program("sigmoid", 2, 2, tau=1e-2),
    "erf rows": Program("erf", 3, 2, tau=0.1),
    "relu rows": Program("relu", 3, 2),
    "linear": Program("identity", 2, 3),
    "relu": Program("relu", 10, 1, hidden=1),
    "relu, two outputs": Program("relu", 3, 2, hidden=1, bias=True),
    "linear, hidden": Program("identity", 3, 1, hidden=2, bias=True, loss_scale=0.5),
    "perceptron": Program("tanh", 3, 2, hidden=3, bias=True, tau=1e-2),
    "erf perceptron": Program("erf", 2, 2, hidden=2, bias=True),
    "sigmoid perceptron": Program("sigmoid", 2, 1, hidden=4),
    "many inputs": Program("relu", 37, 1, hidden=2, bias=True),
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("maps", ["", "FE"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_native_steps_are_the_batched_ones(problem, name, maps):
    case = problem(PROGRAMS[name], maps=maps, n=37, k=20)
    case = replace(case, x=case.x / PROGRAMS[name].in_dim ** 0.5)
    torch.testing.assert_close(case.run(advance_native), case.run(advance_batched), **EXACT)


@pytest.mark.parametrize("n", [1, 5, 8, 15, 16, 17, 31, 32, 33, 48, 100])
@pytest.mark.parametrize("name", ["paper", "relu"])
def test_no_particle_is_lost_at_the_end_of_a_vector(problem, name, n):
    case = problem(PROGRAMS[name], maps="E", n=n, k=10, b=4)
    torch.testing.assert_close(case.run(advance_native), case.run(advance_batched), **EXACT)
    case = case.to(torch.float32)
    torch.testing.assert_close(case.run(advance_native), case.run(advance_batched), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["paper", "relu", "perceptron"])
def test_all_backends_agree_over_hundreds_of_steps(naive, problem, name):
    case = problem(PROGRAMS[name], k=300, n=10, runs=2, b=4)
    case = replace(case, x=case.x / PROGRAMS[name].in_dim ** 0.5)
    expected = case.run(naive)
    for backend in (advance_batched, advance_native):
        torch.testing.assert_close(case.run(backend), expected, **EXACT)


@pytest.mark.parametrize("name", ["paper", "relu", "erf perceptron"])
def test_steps_may_be_cut_into_calls_anywhere(problem, name):
    case = problem(PROGRAMS[name], maps="FE", n=33, k=9)
    middle = case.run(advance_native, x=case.x[:4], y=case.y[:4], noise=case.noise[:4], steps=case.steps[:4])
    end = case.run(advance_native, z=middle, x=case.x[4:], y=case.y[4:], noise=case.noise[4:], steps=case.steps[4:])
    assert torch.equal(end, case.run(advance_native))


def test_the_number_of_threads_changes_no_bit(problem, monkeypatch):
    case = problem(PROGRAMS["perceptron"], maps="FE", runs=7, n=33, k=5)
    alone = case.run(advance_native)
    monkeypatch.setattr("symfield.meanfield.kernels.native._WORTH_A_THREAD", 1)
    for threads in (2, 3, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(case.run(advance_native), alone)


def test_runs_do_not_see_one_another(problem):
    case = problem(PROGRAMS["relu"], runs=3, n=20, k=5)
    single = case.run(advance_native, z=case.z[1:2].clone(), data_row=case.data_row[1:2], noise_row=case.noise_row[1:2])
    assert torch.equal(single[0], case.run(advance_native)[1])


@pytest.mark.parametrize("backend", [advance_native, advance_batched])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cloud_in_the_fixed_space_stays_there_bit_by_bit(problem, backend, dtype):
    """z ↦ P z P for the swap P: orbits {0, 3} and {1, 2}; and a signed variant, coordinate 2 = −coordinate 1."""
    plain = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.float64) / 2
    signed = torch.tensor([[1.0, 0, 0, 1], [0, 1, -1, 0], [0, -1, 1, 0], [1, 0, 0, 1]], dtype=torch.float64) / 2
    thirds = torch.tensor([[1.0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 3, 0], [1, 1, 0, 1]], dtype=torch.float64) / 3
    maps = torch.stack([plain, signed, thirds])
    case = problem(replace(PROGRAMS["paper"], gradient_map=maps), n=21, k=100)
    start = maps.sign() @ case.z * torch.tensor([1.0, 1, 1, 1]).view(4, 1)
    result = replace(case, z=start).to(dtype).run(backend)
    assert torch.equal(result[0, 0], result[0, 3])
    assert torch.equal(result[0, 1], result[0, 2])
    assert torch.equal(result[1, 0], result[1, 3])
    assert torch.equal(result[1, 1], -result[1, 2])
    assert torch.equal(result[2, 0], result[2, 1])
    assert torch.equal(result[2, 0], result[2, 3])
    assert not torch.equal(result, start.to(dtype))


@pytest.mark.parametrize("backend", [advance_native, advance_batched])
@pytest.mark.parametrize("name", PROGRAMS)
def test_divergence_is_seen(problem, backend, name):
    """A NaN parameter poisons its run through the residual, and no other run."""
    case = problem(PROGRAMS[name], n=19, k=3, noisy=False)
    z = case.z.clone()
    z[1, 0, 5] = float("nan")
    result = case.run(backend, z=z)
    assert result[1].isnan().any(0).sum() > 1
    assert result[[0, 2]].isfinite().all()


@pytest.mark.parametrize("backend", [advance_native, advance_batched])
def test_a_step_that_is_too_large_ends_in_nan_or_infinity(problem, backend):
    case = problem(PROGRAMS["relu"], n=19, k=200, noisy=False)
    assert not case.run(backend, steps=torch.full_like(case.steps, 1e3)).isfinite().all()


@pytest.mark.parametrize("name", ["sigmoid perceptron", "perceptron", "erf perceptron"])
def test_elementwise_functions_are_those_of_torch(name):
    """At W = 0 and residual 1/2 a step of 1 moves W by −σ(A) and nothing else."""
    program = replace(PROGRAMS[name], tau=0.0)
    o, h = program.out_dim, program.hidden
    positive = torch.cat([torch.linspace(0, 45, 4001), torch.linspace(0, 1e-3, 101), torch.tensor([800.0])]).double()
    values = torch.cat([positive, -positive])
    z = torch.zeros(1, program.dim, values.numel(), dtype=torch.float64)
    z[0, o * h : (o + 1) * h] = values
    x, y = torch.zeros(1, 1, 1, program.in_dim).double(), torch.full((1, 1, 1, o), -0.5).double()
    x[..., 0] = 1
    row = torch.zeros(1, dtype=torch.int64)
    moved = advance_native(z, x, y, None, torch.ones(1), program=program, data_row=row, noise_row=row)
    function = getattr(torch, program.activation)
    torch.testing.assert_close(-moved[0, 0], function(values), rtol=1e-14, atol=1e-300)
    assert torch.equal(moved[0, o * h :], z[0, o * h :])
    if program.activation != "sigmoid":
        assert torch.equal(moved[0, 0, : len(positive)], -moved[0, 0, len(positive) :])


def test_advance_takes_the_compiled_code_and_any_other_on_request(problem):
    case = problem(PROGRAMS["relu"], k=4)
    assert torch.equal(case.run(advance), case.run(advance_native))
    chosen = []

    def backend(*arguments, **options):
        chosen.append(options["program"])
        return advance_batched(*arguments, **options)

    result = case.run(lambda *arguments, **options: advance(*arguments, backend=backend, **options))
    assert torch.equal(result, case.run(advance_batched))
    assert chosen == [case.program]


def test_more_arithmetic_takes_more_particles():
    assert kernels.arithmetic_limit(PROGRAMS["paper"], torch.float32, samples=4, steps=10) % 40 == 0
