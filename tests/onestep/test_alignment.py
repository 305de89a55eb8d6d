"""Overlaps and their null level: exact where it can be, measured where it is a law."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.onestep import (
    Given,
    GradientStep,
    Isotropic,
    PowerLaw,
    Spiked,
    Target,
    aligned,
    expected_square_cosine,
    function_link,
    gradient_step,
    hermite_link,
    initial_overlap,
    null_overlap,
    overlaps,
    random_directions,
    random_students,
    sample_crossing,
    tail,
)

DOUBLE = torch.zeros((), dtype=torch.float64)
LINE = hermite_link([0, 1])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return random.normal(shape, generator=random.generator(seed), like=DOUBLE)


def test_overlaps_are_cosines_of_vectors_and_correlations_of_functions():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    w, v = torch.tensor([[3.0, 4.0]], dtype=torch.float64), torch.tensor([[1.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)
    found = overlaps(v, Target(LINE, Given(matrix), w))
    assert found.euclidean[:, 0].tolist() == pytest.approx([0.6, -2 / 5 / math.sqrt(5)])
    x = normal(400_000, 2) @ torch.linalg.cholesky(matrix).mT
    measured = torch.corrcoef(torch.cat([v, w]) @ x.mT)[:2, 2]
    assert torch.allclose(found.covariance[:, 0], measured, atol=5e-3)


def test_several_directions_runs_and_n_keep_their_axes():
    S = PowerLaw(9, 0.5)
    target = Target(hermite_link({(1, 0): 1.0, (0, 1): 1.0}), S, random_directions(S, 2, runs=(3,),
                    generator=random.generator(0)))  # fmt: skip
    start = random_students(4, 9, generator=[random.generator(i) for i in range(3)])
    step = gradient_step(start, target, n=(20, 40), generator=random.generator(1))
    found = overlaps(step, target)
    assert found.euclidean.shape == found.covariance.shape == (2, 3, 4, 2)
    assert found.mean_square.euclidean.shape == found.weak.covariance.shape == (2, 3, 2)
    assert found.dead.shape == (2, 3)


def test_dead_neurons_are_dropped_and_counted():
    target = Target(LINE, Isotropic(3), aligned(Isotropic(3)))
    found = overlaps(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), target)
    assert int(found.dead) == 1
    assert found.mean_square.euclidean.item() == pytest.approx(0.5)
    assert bool(torch.isfinite(found.euclidean).all())


@pytest.mark.parametrize("dim", [2, 3, 20, 300])
def test_expected_square_cosines_over_a_basis_sum_to_one(dim):
    basis = torch.linalg.qr(normal(dim, dim)).Q
    noise = normal(4, dim, seed=1).square()
    columns, mean, root = normal(4, dim, 2, seed=2), normal(4, 2, seed=3), normal(4, 2, 2, seed=4)
    found = expected_square_cosine(basis, noise, columns=columns, mean=mean, extra=root @ root.mT)
    assert torch.allclose(found.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-9)


def test_expected_square_cosines_agree_with_draws():
    noise, columns, mean, root = (normal(6, seed=1).square(), normal(6, 2, seed=2), normal(2, seed=3),
                                  normal(2, 2, seed=4))  # fmt: skip
    size = 400_000
    draws = columns @ mean + noise.sqrt() * normal(size, 6, seed=5) + normal(size, 2, seed=6) @ root.mT @ columns.mT
    w = torch.nn.functional.normalize(normal(3, 6, seed=7), dim=-1)
    measured = ((draws @ w.mT).square() / draws.square().sum(-1, keepdim=True)).mean(0)
    found = expected_square_cosine(w, noise.unsqueeze(0), columns=columns.unsqueeze(0), mean=mean.unsqueeze(0),
                                   extra=(root @ root.mT).unsqueeze(0))  # fmt: skip
    assert torch.allclose(found[0], measured, atol=1.5e-3)


@pytest.mark.parametrize("dim", [1, 2, 7, 50])
def test_isotropic_null_is_one_over_d_exactly(dim):
    S = Isotropic(dim, 3.0)
    target = Target(LINE, S, random_directions(S, generator=random.generator(0)))
    for level in (*null_overlap(target), *initial_overlap(target)):
        assert level.item() == pytest.approx(1 / dim, rel=1e-8 if dim > 1 else 1e-5)


def test_null_in_two_dimensions_is_the_closed_form():
    # E a ξ₁² / (a ξ₁² + b ξ₂²) = √a / (√a + √b)
    S = Spiked(2, 8.0)
    target = Target(LINE, S, aligned(S))
    assert null_overlap(target).euclidean.item() == pytest.approx(3 / 4, rel=1e-9)
    assert null_overlap(target).covariance.item() == pytest.approx(9 / 10, rel=1e-9)
    assert initial_overlap(target).covariance.item() == pytest.approx(3 / 4, rel=1e-9)
    assert initial_overlap(target).euclidean.item() == pytest.approx(1 / 2, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", [aligned, tail, lambda S: random_directions(S, generator=random.generator(2))])
def test_null_is_one_over_the_effective_dimension_to_leading_order(alpha, kind):
    S = PowerLaw(5000, alpha)
    target = Target(LINE, S, kind(S))
    w, values = target.directions[0].square(), S.eigenvalues()
    null = null_overlap(target)
    euclidean = float(w @ values / values.sum())
    own = float(w @ values.pow(3) / (w @ values * values.square().sum()))
    assert null.euclidean.item() == pytest.approx(euclidean, rel=0.05)
    assert null.covariance.item() == pytest.approx(own, rel=0.25 if alpha else 0.02)  # r₂ is only log d at α = ½
    if kind is aligned:
        assert euclidean == pytest.approx(1 / S.r1)
        assert own == pytest.approx(1 / S.r2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.5])
def test_shuffled_labels_give_the_null_level(alpha):
    S = PowerLaw(100, alpha)
    target = Target(function_link(torch.tanh, standardise=True), S, aligned(S)).shuffled()
    sources = [random.generator(seed) for seed in range(200)]
    start = random_students(2, 100, generator=[random.generator(1000 + seed) for seed in range(200)], paired=False)
    found = overlaps(gradient_step(start, target, n=64, generator=sources), target)
    for measured, null in zip(found.mean_square, found.null, strict=True):
        spread = float(measured.std()) / math.sqrt(200)
        assert float(measured.mean()) == pytest.approx(null.item(), abs=4 * spread + 0.01 * null.item())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.5])
def test_neurons_start_with_a_correlation_of_about_one_over_r1(alpha):
    S = PowerLaw(256, alpha)
    target = Target(LINE, S, aligned(S))
    start = random_students(4000, 256, generator=random.generator(0), paired=False)
    measured = overlaps(start.weights, target).mean_square
    assert measured.covariance.item() == pytest.approx(initial_overlap(target).covariance.item(), rel=0.08)
    assert measured.euclidean.item() == pytest.approx(1 / 256, rel=0.1)
    if alpha <= 1:
        assert 0.6 < measured.covariance.item() * S.r1 < 1.2


def test_weak_learning_is_more_than_twice_the_null():
    S = PowerLaw(100, 1.5)
    target = Target(LINE, S, aligned(S))
    null = null_overlap(target).euclidean.item()
    assert null > 0.25  # an overlap of ½ would be no evidence
    for factor, learned in ((1.9, False), (2.1, True)):
        cosine = math.sqrt(factor * null)
        vector = torch.zeros(1, 100, dtype=torch.float64)
        vector[0, 0], vector[0, 50] = cosine, math.sqrt(1 - cosine**2)
        assert bool(overlaps(vector, target).weak.euclidean) is learned


def stepped(n: int) -> GradientStep:
    return GradientStep(random_students(2, 3, generator=random.generator(0)), torch.ones(2, 3), n)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(2, 4), "vectors"),
        (torch.full((2, 3), math.nan), "finite"),
        (torch.zeros(2, 3), "alive"),
        (stepped(15), "n >= 16"),
    ],
)
def test_overlaps_that_mean_nothing_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        overlaps(vectors, Target(LINE, Isotropic(3), aligned(Isotropic(3))))
    assert overlaps(stepped(16), Target(LINE, Isotropic(3), aligned(Isotropic(3)))).dead == 0


def test_a_crossing_is_where_the_level_is_reached_and_nothing_without_numbers():
    assert sample_crossing([10, 1000], [0.2, 0.5]) == 1000
    assert sample_crossing([10, 1000], [0.5, 0.8]) == 10
    with pytest.raises(ValueError, match="finite overlaps"):
        sample_crossing([10, 1000], [math.nan, 0.8])


def test_a_vector_without_noise_or_mean_has_no_expected_cosine():
    with pytest.raises(ValueError, match="not zero"):
        expected_square_cosine(torch.eye(2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
