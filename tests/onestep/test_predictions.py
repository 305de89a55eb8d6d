"""The predicted gradient and its overlaps, against closed forms, brute force and measurements."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.onestep import (
    Covariance,
    Given,
    Isotropic,
    Link,
    PowerLaw,
    Spiked,
    Students,
    Target,
    aligned,
    function_link,
    gaussian_panels,
    gradient_constants,
    gradient_moments,
    gradient_step,
    hermite_link,
    hermite_values,
    initial_overlap,
    leading_order,
    link_moments,
    null_overlap,
    overlaps,
    predicted_overlap,
    predicted_samples,
    random_directions,
    random_students,
    sample_crossing,
    tail,
)
from symfield.quadrature import gauss_hermite
from symfield.units import Activation, identity, relu, tanh

DOUBLE, SINGLE = torch.zeros((), dtype=torch.float64), torch.zeros(())
TANH = function_link(torch.tanh, standardise=True)
SQUARE = hermite_link([0, 0, 1])
MIXTURE = hermite_link({(1, 0): 1.0, (0, 2): 1.0}, standardise=False)


def single(link: Link, covariance: Covariance, **settings) -> Target:
    return Target(link, covariance, aligned(covariance), **settings)


def measured(target: Target, n, *, p: int, seeds: int, start: int = 0):
    """Mean squared overlaps ``(n, seeds, k)``, each seed with students and samples of its own."""
    students = random_students(p, target.covariance.dim, like=SINGLE, paired=False,
                               generator=[random.generator(start + seed) for seed in range(seeds)])  # fmt: skip
    sources = [random.generator(1000 + start + seed) for seed in range(seeds)]
    return overlaps(gradient_step(students, target, n=n, generator=sources), target).mean_square


def half(target: Target, *, p: int, seeds: int) -> float:
    """Measured n_half around the predicted one."""
    guess = leading_order(target).n_half
    sizes = sorted({max(16, round(guess * factor)) for factor in (0.15, 0.4, 1.0, 2.0)})
    curve = measured(target, sizes, p=p, seeds=seeds).euclidean[..., 0].mean(-1)
    return sample_crossing(sizes, curve.tolist())


# --- constants and moments --------------------------------------------------------------------------------------


def test_constants_are_those_of_known_links_and_units():
    S = Isotropic(5)
    assert gradient_constants(single(TANH, S)).ratio == pytest.approx(2.149, abs=5e-4)
    exponent, kappa, noise = gradient_constants(single(SQUARE, S))
    assert (exponent, kappa, noise) == (2, pytest.approx(1 / math.sqrt(math.pi)), pytest.approx(0.5))
    noisy = gradient_constants(single(SQUARE, S, noise=2.0))
    assert noisy.noise == pytest.approx(2.5)
    nodes = gauss_hermite(1, 200)
    slope = 1 - nodes.x[:, 0].tanh().square()
    _, kappa, noise = gradient_constants(single(TANH, S), activation=tanh)
    assert kappa == pytest.approx(TANH.coefficient(1) * float(nodes.weight @ slope), abs=1e-8)
    assert noise == pytest.approx(float(nodes.weight @ slope.square()), abs=1e-8)
    erf = gradient_constants(single(hermite_link([0, 0, 0, 1]), S), activation=tanh)
    third = float(nodes.weight @ (nodes.x[:, 0].tanh() * hermite_values(nodes.x[:, 0], 3)[:, 3]))
    assert erf.kappa == pytest.approx(3 * third, abs=1e-8)  # c₂(σ') = √3 c₃(σ), by parts


def test_a_linear_unit_sees_no_link_beyond_exponent_one():
    assert gradient_constants(single(TANH, Isotropic(5)), activation=identity).kappa > 0
    with pytest.raises(ValueError, match="does not see"):
        gradient_constants(single(SQUARE, Isotropic(5)), activation=identity)
    with pytest.raises(ValueError, match="does not see"):
        gradient_constants(single(hermite_link([0, 0, 0, 1]), Isotropic(5)))  # relu' has no h₂


@pytest.mark.parametrize("activation", [relu, tanh], ids=str)
@pytest.mark.parametrize("rho", [0.0, 0.3, -0.9, 0.98])
def test_stein_mean_is_the_sum_over_all_hermite_orders(activation, rho):
    scale = 1.3
    link = hermite_link([0, 0.5, -0.3, 0.7])
    target = single(link, Isotropic(4))
    one = torch.ones(1, dtype=torch.float64)
    a, _, _ = link_moments(target, activation, rho * one.unsqueeze(-1), scale * one, 0 * one)
    # E[F x] = A₁ S w*/t + A₂ S w/s with A₁ = E g' σ', A₂ = s E g σ'': expand both in Hermite polynomials
    nodes = gaussian_panels(1, 30)
    u = scale * nodes.x[:, 0]
    table = hermite_values(nodes.x[:, 0], 5)
    c = (nodes.weight * activation.derivative(u, activation(u))) @ table
    first = sum(math.sqrt(k + 1) * link.coefficient(k + 1) * c[k] * rho**k for k in range(3))
    second = sum(link.coefficient(k) * c[k + 1] * math.sqrt(k + 1) * rho**k for k in range(1, 4))
    orthogonal, error = math.sqrt(1 - rho**2), 1e-8 if abs(rho) < 0.95 else 2e-5  # nearly a jump in z
    assert a[0, 0].item() == pytest.approx(float(first + rho * second), abs=error)
    assert a[0, 1].item() == pytest.approx(float(orthogonal * second), abs=error)


@pytest.mark.parametrize(
    ("link", "activation"), [(MIXTURE, relu), (TANH, Activation.of(torch.nn.functional.silu))], ids=str
)
def test_mean_and_second_moment_of_one_gradient_are_those_of_many_draws(link, activation):
    S = PowerLaw(5, 1.0)
    target = Target(link, S, random_directions(S, link.dim, generator=random.generator(0)), noise=0.3)
    students = random_students(2, 5, generator=random.generator(1), activation=activation, paired=False)
    students = students.with_biases(-0.5, 0.5, generator=random.generator(2))
    moments = gradient_moments(students, target)
    mean = torch.einsum("pdq,pq->pd", moments.columns, moments.mean)
    excess = torch.einsum("pdq,pqs,pes->pde", moments.columns, moments.excess, moments.columns)
    second = moments.level[:, None, None] * S.matrix + excess
    x, y = target.draw(400_000, generator=random.generator(3))
    u = students.preactivations(x)
    f = y.unsqueeze(-1) * activation.derivative(u, activation(u))
    assert torch.allclose(f.mT @ x / len(x), mean, atol=0.015)
    assert torch.allclose(torch.einsum("np,nd,ne->pde", f.square(), x, x) / len(x), second, rtol=0.04, atol=0.06)


def test_moments_do_not_depend_on_the_basis():
    S = PowerLaw(6, 0.8)
    rotation = torch.linalg.qr(random.normal((6, 6), generator=random.generator(0), like=DOUBLE)).Q
    turned = Given(rotation @ S.matrix @ rotation.mT)
    w = random_directions(S, generator=random.generator(1))
    students = random_students(4, 6, generator=random.generator(2))
    plain = predicted_overlap(Target(TANH, S, w), [20, 200], students=students)
    same = predicted_overlap(Target(TANH, turned, w @ rotation.mT), [20, 200],
                             students=students.with_weights(students.weights @ rotation.mT))  # fmt: skip
    for one, other in zip(plain, same, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


# --- limits of the prediction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_without_relation_between_labels_and_inputs_the_prediction_is_the_null_for_every_n(alpha):
    S = PowerLaw(50, alpha)
    target = Target(TANH, S, random_directions(S, generator=random.generator(0))).shuffled()
    found = predicted_overlap(target, [16, 10_000])
    for levels, null in zip(found, null_overlap(target), strict=True):
        assert torch.allclose(levels, null.expand(2, 1), rtol=2e-2)


def test_at_infinite_n_the_step_finds_s_w_and_not_w():
    S = PowerLaw(400, 1.0)
    w = random_directions(S, runs=(3,), generator=random.generator(0))
    found = predicted_overlap(Target(TANH, S, w), 10**10)
    for run in range(3):
        one = Target(TANH, S, w[run])
        limit = leading_order(one)
        image = S.power(w[run, 0])
        cosine = float(w[run, 0] @ image / image.norm()) ** 2
        assert limit.limit == pytest.approx(cosine, rel=1e-10)
        assert found.euclidean[run].item() == pytest.approx(limit.limit, rel=1e-3)
        assert found.covariance[run].item() == pytest.approx(limit.limit_covariance, rel=1e-3)
        assert limit.n_half == math.inf
        assert predicted_samples(one).n_half.euclidean.item() == math.inf


@pytest.mark.parametrize("kind", [aligned, tail])
@pytest.mark.parametrize("link", [TANH, SQUARE], ids=["k = 1", "k = 2"])
def test_full_prediction_tends_to_the_closed_form_for_large_effective_dimension(kind, link):
    S = PowerLaw(500, 0.2)
    target = Target(link, S, kind(S))
    closed, full = leading_order(target), predicted_samples(target)
    assert closed.limit == pytest.approx(1)
    assert full.n_half.euclidean.item() == pytest.approx(closed.n_half, rel=0.05)
    assert full.n_half.covariance.item() == pytest.approx(closed.n_half_covariance, rel=0.06)
    assert predicted_overlap(target, round(closed.n_half)).euclidean.item() == pytest.approx(0.5, abs=0.02)


def test_closed_forms_of_an_aligned_teacher_are_powers_of_effective_dimensions():
    S = PowerLaw(256, 0.5)
    one, two = leading_order(single(TANH, S)), leading_order(single(SQUARE, S))
    assert one.n_half / S.r1 == pytest.approx(2.149, abs=1e-3)
    assert one.n_half_covariance / S.r2 == pytest.approx(2.149, abs=1e-3)
    # E[χ²/(χ² + c)] = 1 - √(πc/2) e^{c/2} erfc √(c/2), and n_half = π r₁²/(2c)
    c = math.pi / 2 / (two.n_half / S.r1**2)
    assert 1 - math.sqrt(math.pi * c / 2) * math.exp(c / 2) * math.erfc(math.sqrt(c / 2)) == pytest.approx(0.5)
    assert two.n_half / S.r1**2 == pytest.approx(4.19, abs=5e-3)
    assert two.n_half_covariance / two.n_half == pytest.approx(S.r2 / S.r1)
    spiked = Spiked.growing(4096, 0.75)
    assert leading_order(single(SQUARE, spiked)).n_half / spiked.r1**2 == pytest.approx(4.19, abs=5e-3)


def test_prediction_grows_with_n_and_noise_in_the_labels_costs_samples_in_proportion_to_their_variance():
    S = PowerLaw(60, 0.5)
    curve = predicted_overlap(single(TANH, S), [16, 64, 256, 1024])
    assert bool((curve.euclidean.diff(dim=0) > 0).all())
    quiet, loud = (leading_order(single(TANH, S, noise=noise)).n_half for noise in (0.0, 2.0))
    assert loud == pytest.approx(5 * quiet)


def test_an_elementwise_function_is_an_activation():
    target = single(TANH, PowerLaw(20, 0.5))
    assert leading_order(target, activation=torch.tanh).n_half == pytest.approx(
        leading_order(target, activation=tanh).n_half, rel=1e-9
    )
    found, same = (predicted_overlap(target, 50, activation=each).euclidean for each in (torch.tanh, tanh))
    assert torch.allclose(found, same, atol=1e-9)


DEAD = Students(torch.eye(4).double()[:2], torch.ones(2).double(), torch.full((2,), -1e3).double())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: predicted_overlap(single(TANH, Isotropic(4)), 15), "n >= 16"),
        (lambda: predicted_overlap(single(TANH, Isotropic(4)), []), "n >= 16"),
        (lambda: predicted_samples(single(TANH, Isotropic(4)), level=1.0), "level"),
        (lambda: gradient_constants(Target(MIXTURE, Isotropic(4), aligned(Isotropic(4), 2))), "single-index"),
        (lambda: leading_order(Target(TANH, Isotropic(4), torch.eye(4)[:, None])), "runs axes"),
        (lambda: predicted_samples(Target(TANH, Isotropic(4), torch.eye(4)[:, None])), "runs axes"),
        (lambda: gradient_moments(random_students(2, 3, generator=random.generator(0)), single(TANH, Isotropic(4))),
         "one run on"),
        (lambda: sample_crossing([1, 2], [0.6, 0.7]), "starts below"),
        (lambda: predicted_overlap(single(TANH, Isotropic(4)), 99, students=DEAD), "alive"),
        (lambda: predicted_samples(single(TANH, Isotropic(4)), students=DEAD), "alive"),
        (lambda: sample_crossing([2, 1], [0.1, 0.7]), "increasing"),
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_curve_that_stays_below_crosses_at_infinity():
    assert sample_crossing([10, 100], [0.1, 0.2]) == math.inf


# --- measurements -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_aligned_overlaps_lie_on_the_predicted_curve(alpha):
    """|mean cos² - prediction| ≤ 0.04 for n ≥ 100."""
    target = single(TANH, PowerLaw(100, alpha))
    sizes = (100, 400, 1600)
    found, expected = measured(target, sizes, p=16, seeds=24), predicted_overlap(target, sizes)
    for levels, prediction in zip(found, expected, strict=True):
        assert float((levels.mean(1) - prediction).abs().max()) <= 0.04


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_aligned_overlaps_lie_on_the_predicted_curve_in_400_dimensions(alpha):
    target = single(TANH, PowerLaw(400, alpha))
    sizes = (100, 400, 1600, 6400)
    found, expected = measured(target, sizes, p=64, seeds=8), predicted_overlap(target, sizes)
    assert float((found.euclidean.mean(1) - expected.euclidean).abs().max()) <= 0.04
    closed = leading_order(target)
    formula = torch.tensor([1 / (1 + closed.n_half / n) for n in sizes])
    assert float((found.euclidean.mean(1)[:, 0] - formula).abs().max()) <= 0.04


def test_a_realised_random_teacher_is_predicted_and_saturates():
    """At α = 1 a generic direction is hardly seen, however large n is."""
    S = PowerLaw(400, 1.0)
    w = random_directions(S, runs=(4,), generator=random.generator(5))
    target = Target(TANH, S, w)
    found = measured(target, 6400, p=32, seeds=4).euclidean
    assert float(found.max()) < 0.2
    assert torch.allclose(found, predicted_overlap(target, 6400).euclidean.to(found), atol=0.05)


def slope(x, y) -> float:
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (x, y))
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def test_half_of_a_linear_part_is_seen_after_two_samples_for_each_effective_dimension():
    """n_half / (2.149 r₁) in [0.85, 1.15]."""
    for alpha in (0.0, 0.5):
        S = PowerLaw(128, alpha)
        assert 0.85 < half(single(TANH, S), p=16, seeds=24) / (2.149 * S.r1) < 1.15


@pytest.mark.slow
def test_samples_for_a_linear_part_follow_the_effective_dimension():
    """Slopes in d within 0.08 of those of r₁ for α ≤ 0.5; n_half / (2.149 r₁) in [0.85, 1.15] for α ≤ 0.75, d ≥ 128."""
    for alpha in (0.0, 0.25, 0.5, 0.75):
        dims = (64, 128, 256, 512, 1024) if alpha <= 0.5 else (128, 256, 512, 1024)  # n_half is 17 at d = 64
        laws = [PowerLaw(d, alpha) for d in dims]
        found = [half(single(TANH, S), p=16, seeds=24) for S in laws]
        if alpha <= 0.5:
            assert slope(dims, found) == pytest.approx(slope(dims, [S.r1 for S in laws]), abs=0.08)
        for S, n in zip(laws, found, strict=True):
            assert S.dim < 128 or 0.85 < n / (2.149 * S.r1) < 1.15, (alpha, S.dim)


def test_half_of_a_quadratic_part_is_seen_after_about_four_times_the_squared_effective_dimension():
    """n_half / r₁² in [2.5, 5.5]."""
    for d, alpha in ((32, 0.0), (64, 0.5)):
        S = PowerLaw(d, alpha)
        assert 2.5 < half(single(SQUARE, S), p=256, seeds=4) / S.r1**2 < 5.5


@pytest.mark.slow
def test_samples_for_a_quadratic_part_follow_the_squared_effective_dimension():
    """n_half / r₁² in [2.5, 5.5]; slopes in d in [1.85, 2.2] and [0.9, 1.3]; structure saves a factor of 30 at 256."""
    dims, found = (64, 128, 256), {}
    for alpha, (low, high) in ((0.0, (1.85, 2.2)), (0.5, (0.9, 1.3))):
        found[alpha] = [half(single(SQUARE, PowerLaw(d, alpha)), p=256, seeds=4 if alpha else 1) for d in dims]
        for d, n in zip(dims, found[alpha], strict=True):
            assert 2.5 < n / PowerLaw(d, alpha).r1 ** 2 < 5.5, (alpha, d)
        assert low < slope(dims, found[alpha]) < high
    assert found[0.0][-1] / found[0.5][-1] >= 30


def test_initial_correlation_is_about_one_over_r1_for_few_neurons_too():
    """Mean ρ² r₁ in [0.6, 1.2] for α ≤ 1 and p ≥ 64."""
    for alpha in (0.0, 0.5, 1.0):
        S = PowerLaw(400, alpha)
        target = single(TANH, S)
        start = random_students(64, 400, generator=[random.generator(seed) for seed in range(8)], paired=False)
        found = float(overlaps(start.weights, target).mean_square.covariance.mean())
        assert 0.6 < found * S.r1 < 1.2
        assert found == pytest.approx(initial_overlap(target).covariance.item(), rel=0.2)


def test_one_step_sees_the_linear_index_of_a_mixture_and_not_the_quadratic_one():
    S = PowerLaw(128, 0.5)
    target = Target(MIXTURE, S, aligned(S, 2))
    found = measured(target, (512,), p=64, seeds=8).euclidean[0].mean(0)
    expected = predicted_overlap(target, 512).euclidean
    assert torch.allclose(found, expected.to(found), atol=0.03)
    assert found[0] > 0.8
    assert found[1] < 0.06


def test_predictions_hold_for_realised_students_one_by_one():
    S = PowerLaw(64, 0.8)
    target = Target(SQUARE, S, aligned(S))
    students = random_students(32, 64, generator=random.generator(0), paired=False)
    steps = [gradient_step(students, target, n=400, generator=random.generator(100 + i)) for i in range(60)]
    each = torch.stack([overlaps(step, target).euclidean.square() for step in steps]).mean(0)[:, 0]
    alone = torch.stack([
        predicted_overlap(target, 400, students=random_one(students, j)).euclidean[0] for j in range(32)
    ])  # fmt: skip
    assert float((each - alone).abs().mean()) < 0.05
    assert float(torch.corrcoef(torch.stack([each, alone]))[0, 1]) > 0.9


def random_one(students: Students, j: int) -> Students:
    return Students(students.weights[j : j + 1], students.outputs[j : j + 1], students.biases[j : j + 1])
