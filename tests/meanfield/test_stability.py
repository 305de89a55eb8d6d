"""Leaving E^G: the second variation against closed forms, against the flow, and against runs of SGD."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Planar, Trivial, hom
from symfield.linalg import Subspace
from symfield.meanfield import (
    Flow,
    augmented,
    averaged,
    constrained,
    gaussian_erf_population,
    gaussian_teacher,
    integrate,
    orbit,
    population_flow,
    project,
    sampled_population,
    squared,
    transverse_growth,
    transverse_operator,
    transverse_stability,
    transverse_variance,
    vanilla,
)
from symfield.meanfield.transverse_noise import advance
from symfield.ode import Adaptive, solve
from symfield.quadrature import Nodes, gauss_hermite
from symfield.random import generator as seeded
from symfield.symmetrize import uniform
from symfield.units import HiddenUnit, PointwiseUnit, action, erf, relu, tanh

SWAP = Defining(Cyclic(2))
ACTION = hom(SWAP, SWAP)
SPACE = fixed_points(ACTION)
UNIT = PointwiseUnit(tanh, 2, 2)
NODES = gauss_hermite(2, 10)


def normal(*shape: int, seed: int = 0, std: float = 1.0) -> torch.Tensor:
    return std * torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


TEACHER = normal(3, 4, seed=5, std=0.7)
WI_TEACHER = orbit(TEACHER, ACTION)
POPULATION = sampled_population(vanilla(UNIT, squared), NODES, WI_TEACHER)
CLOUD = project(normal(4, 4, seed=7, std=0.5), SPACE)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


# --- Proposition 4: rotations by 90°, units W tanh(⟨A, x⟩ + B), teacher ‖x‖² on the disc; E^G = {A = 0}

MEAN, VARIANCE = 2 - 3 * math.exp(-0.5), 8 - 13 * math.exp(-0.5) - (2 - 3 * math.exp(-0.5)) ** 2
ROTATING = HiddenUnit(tanh, 2, 1)
QUARTER = Planar(Cyclic(4))


def disc() -> Nodes:
    """X = Z·1{‖Z‖ ≤ 1}, Z ~ N(0, I): Gauss–Legendre in the radius, equispaced angles, an atom at 0."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(16))
    radius, angle = (nodes + 1) / 2, torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    x = torch.stack([torch.outer(radius, angle.cos()), torch.outer(radius, angle.sin())], dim=-1).reshape(-1, 2)
    density = (weights / 2 * radius * torch.exp(-(radius**2) / 2) / 16).repeat_interleave(16)
    atom = torch.tensor([math.exp(-0.5)], dtype=torch.float64)
    return Nodes(torch.cat([x, torch.zeros(1, 2)]), torch.cat([density, atom]))


def best_constant(biases: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A cloud with A = 0 whose network is the constant E‖X‖²: stationary, and a minimiser among SI laws."""
    t = biases.tanh()
    w = weights + (MEAN - (weights * t).mean()) * t / t.square().mean()
    zero = torch.zeros_like(w)
    return torch.stack([w, zero, zero, biases], dim=-1)


COUNTEREXAMPLE = sampled_population(vanilla(ROTATING, squared), disc(), lambda x: x.square().sum(-1, keepdim=True))
FLAT = fixed_points(action(ROTATING, QUARTER, Trivial(Cyclic(4)), generator=seeded(0)))
UNSTABLE = best_constant(
    torch.tensor([-0.7, -0.4, 0.8, 1.0, 0.6, -0.9], dtype=torch.float64),
    torch.tensor([2.0, 1.5, 1.5, 1.0, -1.0, 1.0], dtype=torch.float64),
)
STABLE = best_constant(torch.linspace(0.4, 1.4, 6, dtype=torch.float64), torch.ones(6, dtype=torch.float64))


def test_the_counterexamples_second_variation_is_the_closed_form():
    """Locally −W tanh''(B) Var(Y) on both coordinates of A; coupled by W tanh'(B) ⊗ W tanh'(B) E‖X‖²/n.

    Hence A = 0 is transversally unstable as soon as W tanh''(B) > 0 for a particle and the coupling does not cure it.
    """
    assert FLAT.dim == 2
    for z in (UNSTABLE, STABLE):
        report = transverse_stability(z, COUNTEREXAMPLE, FLAT)
        w, t = z[:, 0], z[:, 3].tanh()
        local = 2 * w * t * (1 - t**2) * VARIANCE
        slope = w * (1 - t**2)
        one_coordinate = torch.diag(local) + torch.outer(slope, slope) * MEAN / len(z)
        expected = torch.linalg.eigvalsh(one_coordinate).repeat_interleave(2)
        assert float(COUNTEREXAMPLE.risk(z)) == pytest.approx(VARIANCE, abs=1e-12)
        assert report.drift < 1e-12
        close(report.local, local.unsqueeze(-1).expand(-1, 2), 1e-12)
        close(report.spectrum, expected, 1e-12)
    assert transverse_stability(UNSTABLE, COUNTEREXAMPLE, FLAT).leaves
    assert not transverse_stability(STABLE, COUNTEREXAMPLE, FLAT).leaves


def test_the_flow_leaves_the_counterexamples_subspace_at_the_predicted_rate():
    report = transverse_stability(UNSTABLE, COUNTEREXAMPLE, FLAT, rate=2.0)
    size = 1e-7
    times = torch.tensor([0.0, 2.0, 4.0, 8.0]).double() / report.growth
    start = UNSTABLE + size * report.direction
    states = population_flow(start, COUNTEREXAMPLE, times=times, rate=2.0, rtol=1e-9, atol=1e-14).states
    distance = FLAT.distance(states).square().mean(-1).sqrt()
    assert float(distance[0]) == pytest.approx(size, rel=1e-6)
    torch.testing.assert_close(distance / size, torch.exp(report.growth * times), rtol=1e-3, atol=0)

    reached = report.escape_time(size, 1e-4)
    end = population_flow(start, COUNTEREXAMPLE, times=[reached], rate=2.0, rtol=1e-9, atol=1e-14).states[0]
    assert float(FLAT.distance(end).square().mean().sqrt()) == pytest.approx(1e-4, rel=0.02)


def test_a_generic_perturbation_takes_the_network_out_and_below_the_best_invariant_risk():
    """What E^G costs: the risk stays at Var(Y) inside, and falls far below it after the escape."""
    shaken = UNSTABLE + 1e-3 * normal(6, 4, seed=3)
    inside = population_flow(UNSTABLE, COUNTEREXAMPLE, times=[150.0], subspace=FLAT).states[0]
    outside = population_flow(shaken, COUNTEREXAMPLE, times=[150.0], rtol=1e-6).states[0]
    assert float(COUNTEREXAMPLE.risk(inside)) == pytest.approx(VARIANCE, abs=1e-10)
    assert float(COUNTEREXAMPLE.risk(outside)) < 0.5 * VARIANCE


def test_a_stable_cloud_stays_and_its_perturbations_decay():
    report = transverse_stability(STABLE, COUNTEREXAMPLE, FLAT)
    assert report.lowest > 0
    assert report.escape_time(1e-3, 1e-2) == math.inf
    start = STABLE + 1e-3 * (normal(6, 4, seed=3) - project(normal(6, 4, seed=3), FLAT))
    times = torch.tensor([0.0, 10.0, 20.0]).double()
    distance = FLAT.distance(population_flow(start, COUNTEREXAMPLE, times=times).states).square().mean(-1).sqrt()
    assert bool((distance <= 1.01 * distance[0] * torch.exp(-report.lowest * times)).all())


# --- the operator


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_operator_is_the_hessian_of_the_penalised_risk_off_the_subspace(tau):
    q = SPACE.complement().basis
    step, n = 1e-4, len(CLOUD)

    def energy(c: torch.Tensor) -> float:
        z = CLOUD + (c.reshape(n, -1) @ q.mT)
        return float(POPULATION.risk(z) + tau * z.square().sum(-1).mean())

    axes = step * torch.eye(n * q.shape[1], dtype=torch.float64)
    by_difference = torch.tensor(
        [[(energy(a + b) - energy(a - b) - energy(b - a) + energy(-a - b)) / (4 * step**2) for a in axes] for b in axes]
    ).double()
    close(transverse_operator(CLOUD, POPULATION, SPACE, tau=tau), n * by_difference, 1e-6)


def test_the_coupling_stabilises_and_feature_averaging_does_without_it():
    frame = uniform(Cyclic(2))
    reports = {
        name: transverse_stability(CLOUD, sampled_population(objective, NODES, WI_TEACHER), SPACE)
        for name, objective in {
            "V": vanilla(UNIT, squared),
            "DA": augmented(UNIT, squared, frame),
            "FA": averaged(UNIT, squared, frame),
        }.items()
    }
    close(reports["V"].spectrum, reports["DA"].spectrum, 1e-12)  # an invariant risk is its own augmentation
    close(reports["FA"].spectrum, reports["FA"].local.flatten().sort().values, 1e-12)
    close(reports["FA"].local, reports["V"].local, 1e-12)
    assert bool((reports["V"].spectrum >= reports["FA"].spectrum - 1e-12).all())
    assert float((reports["V"].spectrum - reports["FA"].spectrum).max()) > 1e-2
    assert reports["V"].unstable <= reports["FA"].unstable


def test_under_a_constrained_objective_only_the_penalty_acts_off_the_subspace():
    population = sampled_population(constrained(UNIT, squared, SPACE), NODES, TEACHER)
    close(
        transverse_stability(CLOUD, population, SPACE, tau=0.2).spectrum,
        torch.full((8,), 0.4, dtype=torch.float64),
        1e-12,
    )


def test_an_arbitrary_teacher_drives_the_network_off_at_once():
    population = sampled_population(vanilla(UNIT, squared), NODES, TEACHER)
    report = transverse_stability(CLOUD, population, SPACE)
    first = population_flow(CLOUD, population, times=[1e-3]).states[0]
    assert report.leaves
    assert float(SPACE.distance(first).square().mean().sqrt()) / 1e-3 == pytest.approx(report.drift, rel=1e-2)
    assert transverse_stability(CLOUD, POPULATION, SPACE).drift < 1e-12


def test_lanczos_finds_the_lowest_eigenvalue_of_the_dense_operator():
    unit = PointwiseUnit(erf, 2, 2)
    z = project(normal(20, 4, seed=7, std=0.5), SPACE)
    for population in (POPULATION, gaussian_erf_population(unit, WI_TEACHER, 4.0)):
        dense = transverse_stability(z, population, SPACE, tau=0.01)
        lanczos = transverse_stability(z, population, SPACE, tau=0.01, dense=10)
        assert dense.complete
        assert not lanczos.complete
        assert lanczos.lowest == pytest.approx(dense.lowest, abs=1e-9)
        assert float((lanczos.direction * dense.direction).sum(-1).mean().abs()) == pytest.approx(1.0, abs=1e-4)
        assert lanczos.unstable >= dense.unstable


def test_the_whole_space_has_nothing_to_leave():
    report = transverse_stability(CLOUD, POPULATION, Subspace.full(4))
    assert not report.leaves
    assert (report.growth, report.unstable, report.escape_time(0.0, 1.0)) == (0.0, 0, math.inf)


def test_escape_times_solve_the_scalar_equation():
    base = transverse_stability(UNSTABLE, COUNTEREXAMPLE, FLAT, rate=3.0)
    for lowest, drift in ((-0.2, 0.0), (-0.2, 0.05), (0.2, 0.05), (0.0, 0.05)):
        report = replace(base, spectrum=torch.tensor([lowest]).double(), drift=drift)
        start, end = 0.01, 0.1
        time = report.escape_time(start, end)
        slope = 3.0 * torch.tensor(drift).double()
        path = solve(
            lambda t, x, a=lowest, b=slope: -3.0 * a * x + b,
            torch.tensor([start]).double(),
            [time],
            method=Adaptive(1e-9, 1e-12),
        )
        assert float(path.states) == pytest.approx(end, rel=1e-6)
    assert replace(base, spectrum=torch.tensor([0.2]).double(), drift=0.01).escape_time(0.0, 0.1) == math.inf
    assert replace(base, spectrum=torch.tensor([0.2]).double()).escape_time(0.01, 0.1) == math.inf
    assert base.escape_time(0.0, 0.1) == math.inf
    assert base.escape_time(0.2, 0.1) == 0.0


# --- along a trajectory


def test_carried_perturbations_are_those_of_the_full_flow_and_stay_below_the_integrated_rate():
    """The transient, not the end point, decides: here rates change sign on the way."""
    z, delta = CLOUD, normal(2, 4, 4, seed=9)
    delta = delta - project(delta, SPACE)
    times, tau, size = torch.linspace(0, 4, 17, dtype=torch.float64), 0.02, 1e-6

    def rate(t: float) -> float:
        return 1 + 0.5 * math.sin(t)

    growth = transverse_growth(z, delta, POPULATION, SPACE, times=times, tau=tau, rate=rate)
    options = {"times": times, "tau": tau, "rate": rate, "rtol": 1e-9, "atol": 1e-13}
    plus, minus = (population_flow(z + s * delta, POPULATION, **options).states for s in (size, -size))
    close(growth.perturbations, (plus - minus) / (2 * size), 1e-6)
    close(growth.norm, growth.perturbations.square().sum(-1).mean(-1).sqrt(), 1e-12)
    rates = torch.tensor(
        [
            -rate(float(t)) * transverse_stability(state, POPULATION, SPACE, tau=tau).lowest
            for t, state in zip(times, growth.states, strict=True)
        ]
    ).double()
    bound = torch.exp(torch.cumulative_trapezoid(rates, times))
    assert bool((growth.amplification[1:] <= 1.01 * bound.unsqueeze(-1)).all())
    assert float(rates.min()) < 0 < float(rates.max())


# --- sampling noise


def test_sampling_noise_carries_sgd_as_far_as_the_linear_theory_says():
    """Mean squared distance to E^G of 400 runs against the prediction, at two step sizes and two batch sizes."""
    teacher, times = WI_TEACHER, torch.linspace(0, 2, 13, dtype=torch.float64)
    population = sampled_population(vanilla(UNIT, squared), gauss_hermite(2, 20), teacher)
    trajectory = population_flow(CLOUD, population, times=times, tau=0.01, rate=2.0, subspace=SPACE)
    data = gaussian_teacher(UNIT, teacher, std=1.0)
    for epsilon, batch in ((0.02, 10), (0.005, 10), (0.02, 40)):
        predicted = transverse_variance(trajectory, population, SPACE, epsilon=epsilon, batch=batch, tau=0.01, rate=2.0)
        flow = Flow(horizon=2.0, rate=2.0, tau=0.01, beta=0.0, batch=batch, records=2, step_law=lambda n, e=epsilon: e)
        runs = integrate(CLOUD.expand(400, -1, -1), vanilla(UNIT, squared), flow=flow, data=data, generator=seeded(0))
        for state, index in zip(runs, (0, 6, 12), strict=True):
            measured = float(SPACE.distance(state.z).square().mean())
            assert measured == pytest.approx(float(predicted[index]), rel=0.2, abs=1e-20)


def test_the_predicted_variance_is_second_order_in_the_spacing_and_zero_without_noise():
    def predict(count: int, objective: object) -> torch.Tensor:
        population = sampled_population(objective, NODES, WI_TEACHER)
        times = torch.linspace(0, 2, count, dtype=torch.float64)
        trajectory = population_flow(CLOUD, population, times=times, subspace=SPACE, rtol=1e-10)
        return transverse_variance(trajectory, population, SPACE, epsilon=0.01, batch=1)[-1]

    coarse, middle, fine = (predict(count, vanilla(UNIT, squared)) for count in (4, 7, 13))
    assert float((coarse - middle) / (middle - fine)) == pytest.approx(4.0, rel=0.15)
    assert abs(float(predict(5, augmented(UNIT, squared, uniform(Cyclic(2)))))) < 1e-25


def test_one_span_of_the_covariance_equation_is_exact():
    a = normal(3, 3, seed=1)
    a = a + a.mT
    c, noise = normal(3, 3, seed=2), normal(3, 3, seed=3)
    c, noise = c @ c.mT, noise @ noise.mT
    exact = solve(lambda t, y: noise - a @ y - y @ a, c, [0.7], method=Adaptive(1e-10, 1e-12)).states
    torch.testing.assert_close(advance(c, a, noise, 0.7), exact[0], rtol=1e-6, atol=0)
    close(advance(c, torch.zeros(3, 3).double(), noise, 0.7), c + 0.7 * noise, 1e-12)


# --- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transverse_stability(CLOUD + normal(4, 4), POPULATION, SPACE), "at distance"),
        (lambda: transverse_stability(CLOUD.expand(2, -1, -1), POPULATION, SPACE), "one run at a time"),
        (lambda: transverse_stability(CLOUD.float(), POPULATION, SPACE), "float64"),
        (lambda: transverse_stability(CLOUD * math.nan, POPULATION, SPACE), "finite cloud"),
        (lambda: transverse_stability(CLOUD, POPULATION, Subspace.full(3)), "subspace of R\\^4"),
        (lambda: transverse_stability(CLOUD, POPULATION, SPACE, tau=-1.0), "tau >= 0"),
        (lambda: transverse_stability(CLOUD, POPULATION, SPACE, rate=math.inf), "rate >= 0"),
        (lambda: transverse_stability(CLOUD, POPULATION, SPACE).escape_time(0.1, 0.0), "threshold > 0"),
        (lambda: transverse_growth(CLOUD, CLOUD, POPULATION, SPACE, times=[1.0]), "component off the subspace"),
        (lambda: transverse_growth(CLOUD, CLOUD[:2], POPULATION, SPACE, times=[1.0]), "perturbations of shape"),
        (lambda: transverse_growth(CLOUD, normal(4, 4), POPULATION, SPACE, times=[2.0, 1.0]), "increasing times"),
    ],
)
def test_bad_questions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_noise_questions_are_refused():
    trajectory = population_flow(CLOUD, POPULATION, times=[0.0, 1.0], subspace=SPACE)
    many = population_flow(CLOUD.expand(2, -1, -1), POPULATION, times=[0.0, 1.0], subspace=SPACE)
    for moved, options, message in (
        (trajectory, {"epsilon": 0.0, "batch": 1}, "epsilon > 0"),
        (trajectory, {"epsilon": 0.1, "batch": 0}, "batch >= 1"),
        (many, {"epsilon": 0.1, "batch": 1}, "one cloud"),
        (replace(trajectory, states=torch.zeros(2, 2000, 4).double()), {"epsilon": 0.1, "batch": 1}, "at most 3000"),
    ):
        with pytest.raises(ValueError, match=message):
            transverse_variance(moved, POPULATION, SPACE, **options)


def test_units_with_a_kink_are_refused():
    kinked = sampled_population(vanilla(PointwiseUnit(relu, 2, 2), squared), NODES, WI_TEACHER)
    with pytest.raises(NotImplementedError, match="kink"):
        transverse_stability(CLOUD, kinked, SPACE)


def test_noise_off_the_fixed_space_is_refused_for_relu_at_nodes():
    unit = PointwiseUnit(relu, 2, 1)
    nodes = gauss_hermite(2, 8)
    population = sampled_population(vanilla(unit, squared), nodes, torch.ones(1, 2, dtype=torch.float64))
    line = Subspace.from_orbits(torch.tensor([0, 0]))
    path = population_flow(torch.full((3, 2), 0.1, dtype=torch.float64), population, times=[0.0, 0.5])
    with pytest.raises(NotImplementedError, match="kink"):
        transverse_variance(path, population, line, epsilon=1e-2, batch=10)
