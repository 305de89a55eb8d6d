"""The gradient step: a gradient of the stated loss, read in pieces, the same beside any other runs; and its rules."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from symfield import random
from symfield.onestep import (
    GradientStep,
    PowerLaw,
    Stream,
    Students,
    Target,
    aligned,
    batch_normalised,
    correlation_loss,
    function_link,
    giant,
    gradient_step,
    gradient_step_on_sample,
    hermite_link,
    neuron_gradients,
    plain,
    random_directions,
    random_students,
    spherical,
    square_loss,
)
from symfield.onestep import step as step_module
from symfield.onestep import targets as targets_module
from symfield.units import Activation, relu, tanh

S = PowerLaw(7, 0.8)
CURVED = hermite_link([0, 1, 1])
TARGET = Target(CURVED, S, aligned(S), noise=0.2)


X, Y = TARGET.draw(9, generator=random.generator(0))


def generators(*seeds: int) -> list[torch.Generator]:
    return [random.generator(seed) for seed in seeds]


def students(*seeds: int, activation: Activation = relu, paired: bool = True, p: int = 6) -> Students:
    return random_students(p, 7, generator=generators(*seeds), activation=activation, paired=paired)


def one(seed: int = 0, **settings) -> Students:
    return random_students(6, 7, generator=random.generator(seed), **settings)


@pytest.mark.parametrize("activation", [relu, tanh, Activation.of(torch.nn.functional.silu)], ids=str)
@pytest.mark.parametrize("loss", [correlation_loss, square_loss], ids=str)
def test_gradients_are_those_of_the_loss_by_autograd(activation, loss):
    start = one(activation=activation, paired=False).with_biases(-1, 1, generator=random.generator(9))
    x, y = TARGET.draw(40, generator=random.generator(1))
    w = start.weights.clone().requires_grad_()
    loss.value(start.with_weights(w)(x), y).mean().backward()
    ours = neuron_gradients(start, x, y, loss=loss)
    assert torch.allclose(-start.outputs.unsqueeze(-1) * ours / start.count, w.grad, atol=1e-12)


def test_with_paired_signs_square_and_correlation_loss_have_the_same_first_gradient():
    steps = [gradient_step(one(), TARGET, n=50, generator=random.generator(1), loss=loss).gradient
             for loss in (correlation_loss, square_loss)]  # fmt: skip
    assert torch.allclose(*steps, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 50, 333, 4096])
def test_reading_in_pieces_gives_the_gradient_of_the_sample_in_memory(chunk):
    start = students(0, 1, 2)
    step = gradient_step(start, TARGET, n=(20, 700, 300), generator=generators(5, 6, 7), chunk=chunk, loss=square_loss)
    x, y = TARGET.draw(700, generator=generators(5, 6, 7))
    for gradient, n in zip(step.gradient, (20, 700, 300), strict=True):
        expected = neuron_gradients(start, x[:, :n], y[:, :n], loss=square_loss)
        assert torch.allclose(gradient, expected, rtol=1e-12, atol=1e-13)


def test_a_run_does_not_depend_on_the_runs_beside_it_nor_on_other_n():
    directions = random_directions(S, runs=(3,), generator=random.generator(4))
    together = gradient_step(
        students(0, 1, 2), Target(CURVED, S, directions), n=(64, 256), generator=generators(5, 6, 7)
    )
    alone = gradient_step(one(1), Target(CURVED, S, directions[1]), n=64, generator=random.generator(6))
    assert torch.allclose(together.gradient[0, 1], alone.gradient, rtol=1e-12, atol=1e-14)
    assert torch.allclose(together.students.weights[0, 1], alone.students.weights, rtol=1e-12, atol=1e-14)


def test_seeds_times_teachers_broadcast():
    teachers = random_directions(S, runs=(4,), generator=random.generator(4))
    start = students(0, 1)
    start = Students(start.weights.unsqueeze(1), start.outputs.unsqueeze(1), start.biases.unsqueeze(1))
    for loss in (correlation_loss, square_loss):
        grid = gradient_step(start, Target(CURVED, S, teachers), n=100, generator=generators(8, 9), loss=loss)
        assert grid.gradient.shape == (2, 4, 6, 7)
        single = gradient_step(one(1), Target(CURVED, S, teachers[2]), n=100, generator=random.generator(9), loss=loss)
        assert torch.allclose(grid.gradient[1, 2], single.gradient, atol=1e-13)


def test_runs_that_share_their_samples_agree_with_each_alone():
    teachers = random_directions(S, runs=(4,), generator=random.generator(4))
    shared = gradient_step(one(), Target(CURVED, S, teachers), n=100, generator=random.generator(9))
    single = gradient_step(one(), Target(CURVED, S, teachers[3]), n=100, generator=random.generator(9))
    assert torch.allclose(shared.gradient[3], single.gradient, atol=1e-13)


def test_float32_is_close_to_float64():
    rough = gradient_step(one(like=torch.zeros(1)), TARGET, n=5000, generator=random.generator(1))
    exact = gradient_step(one(), TARGET, n=5000, generator=random.generator(1))
    assert rough.gradient.dtype == torch.float32
    assert torch.allclose(rough.gradient.double(), exact.gradient, atol=2e-4)


def test_each_call_takes_fresh_samples_and_advances_the_generator_by_the_same_draws():
    source, other = random.generator(0), random.generator(0)
    first = gradient_step(one(), TARGET, n=20, generator=source)
    second = gradient_step(one(), TARGET, n=20, generator=source)
    gradient_step(one(), TARGET, n=2000, generator=other)
    again = gradient_step(one(), TARGET, n=20, generator=other)
    assert not torch.allclose(first.gradient, second.gradient)
    assert torch.equal(second.gradient, again.gradient)


def test_many_runs_and_neurons_take_small_pieces_and_give_the_same_gradients(monkeypatch):
    teachers = Target(CURVED, S, random_directions(S, runs=(4,), generator=random.generator(4)))
    whole = gradient_step(one(), teachers, n=500, generator=random.generator(1))
    monkeypatch.setattr(step_module, "_PREACTIVATIONS", 4 * 6 * 9)  # nine samples for four teachers and six neurons
    seen = []
    pieces = Stream.pieces

    def watched(self, *arguments, **settings):
        seen.append(settings["chunk"])
        return pieces(self, *arguments, **settings)

    monkeypatch.setattr(Stream, "pieces", watched)
    small = gradient_step(one(), teachers, n=500, generator=random.generator(1))
    assert seen == [9]
    assert torch.allclose(small.gradient, whole.gradient, rtol=1e-12, atol=1e-14)


def test_fresh_steps_draw_each_sample_once(monkeypatch):
    drawn = []
    normal = random.normal
    monkeypatch.setattr(
        targets_module.random, "normal", lambda shape, **rest: (drawn.append(shape), normal(shape, **rest))[1]
    )
    gradient_step(one(), TARGET, n=512, generator=random.generator(1), steps=10)
    assert sum(shape[0] for shape in drawn if shape[1] == 7) <= 10 * 512 + 256


@pytest.mark.parametrize("fresh", [True, False])
def test_several_steps_are_single_steps_after_one_another(fresh):
    rule = giant(0.5)
    found = gradient_step(one(), TARGET, n=(30, 60), generator=random.generator(1), rule=rule, steps=3, fresh=fresh,
                          loss=square_loss)  # fmt: skip
    x, y = TARGET.draw(180, generator=random.generator(1))
    for index, n in enumerate((30, 60)):
        current = one()
        for i in range(3):
            part = slice(i * n, (i + 1) * n) if fresh else slice(0, n)
            gradient = neuron_gradients(current, x[part], y[part], loss=square_loss)
            current = current.with_weights(rule(current, gradient, S))
        assert torch.allclose(found.students.weights[index], current.weights, atol=1e-12)
        assert torch.allclose(found.gradient[index], gradient, atol=1e-12)


def test_giant_steps_have_the_stated_size_in_function_space_whatever_the_covariance_and_n():
    for alpha in (0.0, 1.5):
        covariance = PowerLaw(7, alpha)
        target = Target(CURVED, covariance, aligned(covariance))
        step = gradient_step(students(0, 1), target, n=(30, 3000), generator=generators(2, 3), rule=giant(8.0))
        moved = step.students.weights - students(0, 1).weights
        size = (moved * covariance.power(moved)).sum(-1).sqrt()
        assert torch.allclose(size.mean(-1), torch.full((2, 2), 8.0, dtype=torch.float64), atol=1e-10)


def test_plain_steps_are_gradient_descent_with_a_rate_of_eta_times_p():
    start = one(paired=False)
    x, y = TARGET.draw(40, generator=random.generator(1))
    w = start.weights.clone().requires_grad_()
    square_loss.value(start.with_weights(w)(x), y).mean().backward()
    step = gradient_step(start, TARGET, n=40, generator=random.generator(1), rule=plain(0.3), loss=square_loss)
    assert torch.allclose(step.students.weights, start.weights - 0.3 * start.count * w.grad, atol=1e-12)


def test_spherical_steps_stay_on_the_sphere_and_follow_its_tangent():
    small = gradient_step(one(), TARGET, n=50, generator=random.generator(1), rule=spherical(1e-6))
    moved = (small.students.weights - one().weights) * one().outputs.unsqueeze(-1)
    w, gradient = one().weights, small.gradient
    tangent = gradient - (gradient * w).sum(-1, keepdim=True) * w
    assert torch.allclose(moved / moved.norm(), tangent / tangent.norm(), atol=1e-5)
    large = gradient_step(one(), TARGET, n=50, generator=random.generator(1), rule=spherical(5.0))
    assert torch.allclose(large.students.weights.norm(dim=-1), torch.ones(6, dtype=torch.float64), atol=1e-12)


def test_batch_normalised_steps_follow_the_gradient_of_normalised_neurons():
    start = one()
    start = start.with_weights(start.weights / (start.weights * S.power(start.weights)).sum(-1, keepdim=True).sqrt())
    x, y = TARGET.draw(50, generator=random.generator(1))
    w = start.weights.clone().requires_grad_()
    normalised = w / (w * S.power(w)).sum(-1, keepdim=True).sqrt()
    correlation_loss.value(start.with_weights(normalised)(x), y).mean().backward()
    step = gradient_step(start, TARGET, n=50, generator=random.generator(1), rule=batch_normalised(1e-6))
    moved = step.students.weights - start.weights
    along = (moved * start.weights).sum(-1, keepdim=True) / start.weights.square().sum(-1, keepdim=True)
    moved = moved - along * start.weights  # length is lost in the normalisation, and so is the way back
    assert torch.allclose(moved / moved.norm(), -w.grad / w.grad.norm(), atol=1e-5)
    size = (step.students.weights * S.power(step.students.weights)).sum(-1)
    assert torch.allclose(size, torch.ones(6, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("rule", [giant(2.0), spherical(2.0), batch_normalised(2.0), plain(2.0)])
def test_dead_neurons_stay_where_they_are_up_to_normalisation(rule):
    start = one()
    dead = Students(start.weights, start.outputs, torch.tensor([-100.0, 0, 0, 0, 0, 0], dtype=torch.float64))
    step = gradient_step(dead, TARGET, n=50, generator=random.generator(1), rule=rule)
    assert float(step.gradient[0].abs().max()) == 0
    assert bool(torch.isfinite(step.students.weights).all())
    direction = step.students.weights[0] / step.students.weights[0].norm()
    assert torch.allclose(direction, start.weights[0], atol=1e-12)


def test_a_step_on_ones_own_data_measures_its_size_by_the_sample():
    x, y = TARGET.draw(60, generator=random.generator(1))
    step = gradient_step_on_sample(one(), x, y, steps=2, loss=square_loss)
    assert isinstance(step, GradientStep)
    assert step.n == 60
    first = gradient_step_on_sample(one(), x, y).students.weights - one().weights
    centred = x - x.mean(0)
    size = (centred @ first.mT).square().mean(0).sqrt()
    assert float(size.mean()) == pytest.approx(2.0, rel=1e-10)


def test_one_step_learns_what_the_start_does_not_know():
    covariance = PowerLaw(64, 0.5)
    target = Target(function_link(torch.tanh, standardise=True), covariance, aligned(covariance))
    start = random_students(64, 64, generator=random.generator(0))
    step = gradient_step(start, target, n=2000, generator=random.generator(1))
    x, y = target.draw(2000, generator=random.generator(2))
    before, after = ((net(x) @ y).abs() / (net(x).norm() * y.norm()) for net in (one_signed(start), step.students))
    assert float(after) > 0.75 > 0.5 > float(before)


def one_signed(start: Students) -> Students:
    """Half of the twins: a random function instead of zero."""
    half = start.count // 2
    return Students(start.weights[:half], start.outputs[:half], start.biases[:half])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gradient_step(one(), TARGET, n=0, generator=random.generator(0)), "n, steps and chunk"),
        (lambda: gradient_step(one(), TARGET, n=(), generator=random.generator(0)), "n, steps and chunk"),
        (lambda: gradient_step(one(), TARGET, n=9, steps=0, generator=random.generator(0)), "n, steps and chunk"),
        (lambda: gradient_step(random_students(4, 3, generator=random.generator(0)), TARGET, n=9,
                               generator=random.generator(0)), "students on R"),
        (lambda: giant(float("nan")), "eta"),
        (lambda: neuron_gradients(one(), torch.ones(3, 4), torch.ones(3)), "inputs"),
        (lambda: neuron_gradients(one(), torch.ones(3, 7), torch.ones(4)), "labels"),
        (lambda: gradient_step_on_sample(one(), torch.ones(3, 7), torch.ones(3), steps=0), "steps"),
        (lambda: Students(torch.ones(2, 3), torch.ones(3), torch.ones(2)), "outputs"),
        (lambda: gradient_step(students(0, 1, 2), TARGET, n=9, generator=generators(0, 1)),
         r"\(2,\) of the generators"),
        (lambda: gradient_step(students(0, 1), Target(CURVED, S, torch.eye(7)[:3, None]), n=9,
                               generator=random.generator(0)), r"\(3,\) of the teachers"),
        (lambda: neuron_gradients(one(), torch.ones(3, 7), torch.ones(3)), "precision of the students, torch.float64"),
        (lambda: neuron_gradients(students(0, 1), torch.ones(3, 5, 7).double(), torch.ones(5).double()), "broadcast"),
        (lambda: gradient_step_on_sample(one(), X, Y * math.nan), "finite"),
        (lambda: gradient_step_on_sample(one(), X * math.inf, Y, covariance=S), "finite"),
        (lambda: gradient_step_on_sample(one(), X, Y, covariance=PowerLaw(3, 1.0)), "covariance on R"),
        (lambda: gradient_step_on_sample(one(), X.expand(2, 9, 7), Y.expand(2, 9)), "covariance="),
    ],
)  # fmt: skip
def test_what_makes_no_step_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def measured_memory(dim: int, samples: int) -> dict[str, float]:
    """One point of the memory benchmark, in a process of its own."""
    script = Path(__file__).parents[2] / "benchmarks" / "onestep_memory.py"
    command = [sys.executable, str(script), "--point", str(dim), str(samples), "16"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_memory_does_not_grow_with_the_number_of_samples():
    found = measured_memory(128, 65_536)  # 67 MB as a matrix of float64
    assert found["peak"] - found["imported"] < 100


@pytest.mark.slow
def test_a_quarter_of_a_million_samples_in_256_dimensions_take_less_than_half_a_gigabyte():
    assert measured_memory(256, 262_144)["peak"] < 500
