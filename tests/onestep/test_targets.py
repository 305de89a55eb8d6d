"""Targets and their samples: the same numbers whatever the pieces, the other runs and the precision."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.onestep import (
    Given,
    PowerLaw,
    Stream,
    Target,
    aligned,
    hermite_link,
    random_directions,
    random_students,
)

S = PowerLaw(6, 1.0)
LINE = hermite_link([0, 1])


def several(noise: float = 0.3) -> Target:
    return Target(LINE, S, random_directions(S, runs=(3,), generator=random.generator(1)), noise=noise)


def generators(*seeds: int) -> list[torch.Generator]:
    return [random.generator(seed) for seed in seeds]


@pytest.mark.parametrize("chunk", [1, 77, 256, 1000])
def test_pieces_of_any_size_make_the_same_sample(chunk):
    target = several()
    x, y = target.draw(700, generator=generators(0, 1, 2))
    pieces = list(Stream(target, generators(0, 1, 2)).pieces(700, chunk=chunk, cuts=(3, 300)))
    assert torch.equal(torch.cat([piece[0] for piece in pieces], dim=-2), x)
    assert torch.equal(torch.cat([piece[1] for piece in pieces], dim=-1), y)
    ends = torch.tensor([piece[0].shape[-2] for piece in pieces]).cumsum(0).tolist()
    assert {3, 300} <= set(ends)


def test_a_stream_can_start_anywhere_and_be_read_again():
    stream = Stream(several(), generators(0, 1, 2))
    x, y = stream.sample(900)
    later = stream.sample(100, start=517)
    assert torch.equal(later[0], x[:, 517:617])
    assert torch.equal(later[1], y[:, 517:617])


def test_a_run_does_not_depend_on_the_others_nor_on_the_number_of_samples():
    target = several()
    x, y = target.draw(500, generator=generators(0, 1, 2))
    alone = Target(LINE, S, target.directions[1], noise=0.3)
    x1, y1 = alone.draw(100, generator=random.generator(1))
    assert torch.equal(x1, x[1, :100])
    assert torch.allclose(y1, y[1, :100], atol=1e-14)


def test_float32_sees_the_samples_of_float64_rounded():
    target = several()
    exact, rough = (target.draw(64, generator=random.generator(0), like=torch.zeros(1, dtype=t))[0]
                    for t in (torch.float64, torch.float32))  # fmt: skip
    assert rough.dtype == torch.float32
    assert torch.allclose(rough.double(), exact, rtol=1e-6, atol=1e-6)


def test_runs_with_one_generator_share_their_inputs():
    x, y = several().draw(10, generator=random.generator(0))
    assert x.shape == (10, 6)
    assert y.shape == (3, 10)


def test_coordinates_are_white_and_labels_have_the_stated_variance():
    matrix = torch.tensor([[2.0, 0.5, 0.1], [0.5, 1.0, 0.0], [0.1, 0.0, 0.3]])
    covariance = Given(matrix)
    mixture = hermite_link({(1, 0): 1.0, (0, 2): 1.0}, standardise=False)
    target = Target(mixture, covariance, random_directions(covariance, 2, generator=random.generator(2)), noise=0.5)
    x, y = target.draw(200_000, generator=random.generator(0))
    z = target.coordinates(x)
    assert float((z.mT @ z / len(z) - torch.eye(2)).abs().max()) < 0.01
    assert float(y.var()) == pytest.approx(target.variance, rel=0.03)
    assert target.variance == 2.25
    assert abs(float(y.mean())) < 0.01


def test_shuffled_labels_have_the_law_of_labels_and_know_nothing_of_the_inputs():
    target = Target(hermite_link([0, 1, 1]), S, aligned(S), noise=0.2)
    x, y = target.shuffled().draw(100_000, generator=random.generator(0))
    assert float(y.var()) == pytest.approx(target.variance, rel=0.03)
    assert float((y @ target.coordinates(x) / len(y)).abs()) < 0.015
    assert float((target.draw(100_000, generator=random.generator(0))[1] @ target.coordinates(x) / len(y)).abs()) > 0.6


def test_noise_is_independent_of_inputs_and_the_same_for_every_level_of_it():
    quiet, loud = several(0.0), several(1.0)
    x0, y0 = quiet.draw(50, generator=random.generator(0))
    x1, y1 = loud.draw(50, generator=random.generator(0))
    assert torch.equal(x0, x1)
    assert not torch.equal(y0, y1)


def test_paired_students_are_zero_and_have_unit_rows_and_each_run_its_own_source():
    students = random_students(10, 4, generator=generators(0, 1))
    alone = random_students(10, 4, generator=random.generator(1))
    assert torch.equal(students.weights[1], alone.weights)
    assert torch.equal(students.outputs[1], alone.outputs)
    assert torch.allclose(students.weights.norm(dim=-1), torch.ones(2, 10, dtype=torch.float64))
    x = random.normal((20, 4), generator=random.generator(3), like=alone.weights)
    assert float(students(x).abs().max()) < 1e-15
    biased = random_students(10, 4, generator=random.generator(0), paired=False).with_biases(
        -1, 1, generator=random.generator(5)
    )
    assert float(biased.biases.abs().max()) <= 1
    assert float(biased(x).abs().max()) > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Target(LINE, S, torch.ones(5)), "directions"),
        (lambda: Target(LINE, S, torch.zeros(6)), "not zero"),
        (lambda: Target(LINE, S, torch.ones(2, 6)), "k = 1"),
        (lambda: Target(hermite_link({(1, 1): 1.0}), S, torch.eye(6)[:2] + 0.5), "uncorrelated"),
        (lambda: Target(LINE, Given(torch.diag(torch.tensor([1.0, 0.0]))), torch.tensor([0.0, 1.0])), "variance"),
        (lambda: Target(LINE, S, aligned(S), noise=-1.0), "noise"),
        (lambda: Target(LINE, S, aligned(S), noise=math.nan), "noise"),
        (lambda: several().draw(0, generator=random.generator(0)), "n >= 1"),
        (lambda: several().draw(5, generator=generators(0, 1)), "3 generators"),
        (lambda: several().draw(5, generator=[]), "generator for each run"),
        (lambda: random_students(5, 3, generator=random.generator(0)), "p even"),
        (lambda: random_students(4, 3, generator=[]), "generator for each run"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
