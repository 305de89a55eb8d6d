"""Effective dimensions, colouring, and what is refused as a covariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from symfield import random
from symfield.onestep import (
    Given,
    Isotropic,
    PowerLaw,
    Spiked,
    aligned,
    decorrelated,
    estimated,
    random_directions,
    tail,
)

DOUBLE = torch.zeros((), dtype=torch.float64)


def rotated(dim: int = 6) -> Given:
    basis = torch.linalg.qr(random.normal((dim, dim), generator=random.generator(3), like=DOUBLE)).Q
    return Given(basis @ torch.diag(torch.arange(1.0, dim + 1, dtype=torch.float64)) @ basis.mT)


ALL = [PowerLaw(6, 0.7), Isotropic(6, 2.0), Spiked(6, (5.0, 2.0)), rotated()]


@pytest.mark.parametrize("covariance", ALL, ids=str)
def test_powers_colours_and_effective_dimensions_are_those_of_the_matrix(covariance):
    S = covariance.matrix
    v = random.normal((4, 6), generator=random.generator(0), like=DOUBLE)
    assert torch.allclose(covariance.power(v), v @ S, atol=1e-12)
    root = covariance.power(covariance.power(v, 0.5), 0.5)
    assert torch.allclose(root, v @ S, atol=1e-12)
    coloured = covariance.colour(torch.eye(6, dtype=torch.float64))
    assert torch.allclose(coloured.mT @ coloured, S, atol=1e-12)
    eigenvalues = covariance.eigenvalues()
    assert bool((eigenvalues.diff() <= 0).all())
    for k in (1, 2, 3):
        powers = torch.linalg.matrix_power(S, k)
        assert covariance.r(k) == pytest.approx(float(powers.trace()) / float(eigenvalues[0]) ** k, rel=1e-12)
    assert covariance.r1 == covariance.r(1)
    assert covariance.r2 == covariance.r(2)


@pytest.mark.parametrize("covariance", ALL, ids=str)
def test_samples_have_the_covariance(covariance):
    x = covariance.sample((100_000,), generator=random.generator(1), like=DOUBLE)
    assert float((x.mT @ x / len(x) - covariance.matrix).abs().max()) < 0.02 * float(covariance.matrix.max())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0, 1.5])
def test_power_law_has_trace_d_and_the_growth_of_its_effective_dimension(alpha):
    small, large = PowerLaw(1000, alpha), PowerLaw(4000, alpha)
    assert small.trace == pytest.approx(1000, rel=1e-12)
    decay = large.eigenvalues()
    assert float(decay[0] / decay[99]) == pytest.approx(100**alpha, rel=1e-12)
    if alpha < 1:
        assert small.r1 == pytest.approx(1000 ** (1 - alpha) / (1 - alpha), rel=0.06)
        assert math.log(large.r1 / small.r1, 4) == pytest.approx(1 - alpha, abs=0.03)
    elif alpha == 1:
        assert small.r1 == pytest.approx(math.log(1000) + 0.5772, rel=1e-3)
    else:
        assert large.r1 == pytest.approx(2.612, abs=0.04)  # ζ(3/2)


def test_spike_of_strength_d_to_the_beta_leaves_r1_of_d_to_the_one_minus_beta():
    covariance = Spiked.growing(4096, 0.5)
    assert covariance.eigenvalues()[0] == 65
    assert Spiked(5, [4.0, 2.0]) == Spiked(5, (4.0, 2.0))
    assert covariance.r1 == pytest.approx((4096 + 64) / 65)


def test_estimated_covariance_is_that_of_the_data_whatever_their_mean():
    x = random.normal((50, 4), generator=random.generator(0), like=DOUBLE)
    assert torch.allclose(estimated(x + 5).matrix, torch.cov(x.mT, correction=0), atol=1e-10)


def test_fewer_data_than_dimensions_give_a_singular_covariance():
    covariance = estimated(random.normal((5, 12), generator=random.generator(0), like=DOUBLE))
    assert float(covariance.eigenvalues()[-1]) == pytest.approx(0, abs=1e-12)
    assert covariance.r1 <= 4


def test_covariances_from_arrays_and_in_single_precision_are_those_of_the_data():
    x = random.normal((40, 90), generator=random.generator(0), like=torch.zeros(()))  # fewer samples than dimensions
    rough, exact = Given(torch.cov(x.mT)), Given(np.cov(x.double().numpy().T))
    assert float(torch.linalg.eigvalsh(torch.cov(x.mT).double())[0]) < -1e-9, "round-off of float32"
    assert rough.r1 == pytest.approx(exact.r1, rel=1e-5)
    assert torch.allclose(rough.matrix, exact.matrix, atol=1e-5)
    assert estimated(x.numpy()).r1 == pytest.approx(exact.r1, rel=1e-6)
    with pytest.raises(ValueError, match="positive semi-definite"):
        Given(torch.tensor([[1.0, 1.001], [1.001, 1.0]]))
    with pytest.raises(ValueError, match="positive semi-definite"):
        Given(torch.cov(x.mT).double())  # in float64 that is no round-off


@pytest.mark.parametrize("covariance", [PowerLaw(7, 0.5), rotated(7)], ids=str)
def test_aligned_and_tail_teachers_are_the_first_and_last_eigenvectors(covariance):
    values = covariance.eigenvalues()
    for w, value in ((aligned(covariance, 2)[1], values[1]), (tail(covariance)[0], values[-1])):
        assert torch.allclose(covariance.power(w), value * w, atol=1e-10)


def test_random_directions_are_uncorrelated_unit_vectors_and_the_first_one_is_uniform():
    covariance = PowerLaw(5, 1.5)
    w = random_directions(covariance, 3, runs=(20_000,), generator=random.generator(0))
    gram = torch.einsum("rid,rjd->rij", w, covariance.power(w))
    assert float((gram - torch.diag_embed(torch.diagonal(gram, dim1=1, dim2=2))).abs().max()) < 1e-10
    assert torch.allclose(w.norm(dim=-1), torch.ones(20_000, 3, dtype=torch.float64))
    second = torch.einsum("ri,rj->ij", w[:, 0], w[:, 0]) / len(w)
    assert float((second - torch.eye(5) / 5).abs().max()) < 0.01


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PowerLaw(0, 1.0), "dimension"),
        (lambda: PowerLaw(5, -0.1), "exponent"),
        (lambda: PowerLaw(5, math.nan), "exponent"),
        (lambda: Isotropic(5, 0.0), "variance"),
        (lambda: Spiked(2, (3.0, 2.0, 1.0)), "strengths"),
        (lambda: Spiked(5, (1.0, 2.0)), "decreasing"),
        (lambda: Spiked(5, 0.0), "strengths"),
        (lambda: Given(torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "positive semi-definite"),
        (lambda: Given(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "symmetric"),
        (lambda: Given(torch.zeros(3, 3)), "variance"),
        (lambda: Given(torch.ones(3)), "shape"),
        (lambda: Given(torch.ones(3, 2)), "shape"),
        (lambda: Given(np.full((2, 2), np.nan)), "finite"),
        (lambda: estimated(torch.ones(1, 3)), "n >= 2"),
        (lambda: estimated(torch.full((3, 3), math.nan)), "finite"),
        (lambda: PowerLaw(3, 1.0).r(0), "k > 0"),
        (lambda: aligned(PowerLaw(3, 1.0), 4), "directions"),
        (lambda: decorrelated(torch.ones(2, 3), PowerLaw(3, 1.0)), "independent"),
    ],
)
def test_what_is_no_covariance_or_direction_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
