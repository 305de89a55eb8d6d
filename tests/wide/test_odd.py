"""Odd targets: the reduction, its oracle, the closed forms, the bounds, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield import random
from symfield.ode import Adaptive, heun, rk4, solve
from symfield.wide import (
    Gaussian,
    Neurons,
    OddTarget,
    Radial,
    ReLUTeacher,
    UnitSphere,
    closed_under,
    cubic,
    even_norm,
    guaranteed_distance,
    isotropic_distance,
    isotropic_late_rate,
    isotropic_length,
    linear_network_flow,
    moments_metric,
    odd_polynomial,
    odd_target_flow,
    pairing_defect,
    predict,
    predictor_metric,
    risk,
    second_moments,
    second_moments_flow,
    second_moments_velocity,
    sphere_mass,
    sphere_moments,
    sphere_neurons,
    wide_flow,
)

ONE = torch.zeros(1, dtype=torch.float64)


def direction(dim, seed=0):
    return random.normal((dim,), generator=random.generator(seed), like=ONE)


def isotropic_problem(dim, seed=0):
    inputs = Gaussian(dim, 1 / dim)
    return cubic(direction(dim, seed), inputs, energy=2.0), inputs


def anisotropic_problem(dim, condition, seed=0):
    variances = torch.linspace(1.0, condition, dim, dtype=torch.float64)
    inputs = Gaussian(dim, variances / variances.sum())
    return cubic(direction(dim, seed), inputs, energy=2.0), inputs


def full_problem(dim, seed=0):
    a = random.normal((dim, dim), generator=random.generator(seed + 7), like=ONE)
    inputs = Gaussian(dim, (a @ a.mT + torch.eye(dim).to(a)) / dim**2)
    return odd_polynomial({(0, 0, 0): 0.5, (1,): 2.0, (0, 1, 2): 1.0, (dim - 1,): -1.0}, inputs), inputs


def pairs(m, dim, seed=0, runs=()):
    half = sphere_neurons(m // 2, dim, generator=random.generator(seed), like=ONE, runs=runs)
    return Neurons(torch.cat([half.a, -half.a], dim=-1), torch.cat([half.b, -half.b], dim=-2))


def predictor(neurons):
    return (neurons.a.unsqueeze(-1) * neurons.b).mean(-2) / 2


def infinite_start(dim):
    return torch.diag(torch.cat([ONE + 1, torch.full((dim,), 1 / dim).double()]))


# The reduction


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(anisotropic_problem(10, 5.0), id="S 1:5"),
        pytest.param(isotropic_problem(10), id="S = I/d", marks=pytest.mark.slow),
        pytest.param(full_problem(10), id="S", marks=pytest.mark.slow),
    ],
)
def test_a_closed_cloud_of_relu_neurons_is_the_linear_predictor_of_the_second_moments(problem):
    target, inputs = problem
    start, times = pairs(40, 10), torch.linspace(0, 80, 17)
    path = wide_flow(start, target, inputs, times=times, method=rk4(0.1))
    flow = odd_target_flow(target, inputs, times=times, initial=start, method=rk4(0.1))
    length = flow.optimum.norm()
    assert float((predictor(path.neurons) - flow.w).norm(dim=-1).max() / length) <= 1e-8
    x = inputs.sample((20,), generator=random.generator(1), like=ONE)
    outputs = predict(path.neurons, x)
    assert float((outputs - predictor(path.neurons) @ x.mT).abs().max()) <= 1e-12
    assert float(pairing_defect(path.neurons).max()) <= 1e-13
    torch.testing.assert_close(risk(path.neurons, target, inputs), flow.risk, rtol=1e-7, atol=1e-9)
    linear = linear_network_flow(start, target.first_moment, inputs.covariance(ONE), times=times, method=rk4(0.1))
    for mine, exact in zip(linear, path.neurons, strict=True):
        torch.testing.assert_close(mine, exact, rtol=0, atol=1e-11)


def test_without_closure_the_relu_network_is_not_linear_and_is_refused():
    target, inputs = isotropic_problem(6)
    start = sphere_neurons(40, 6, generator=random.generator(0), like=ONE)
    assert float(even_norm(start, inputs)) > 1e-2
    with pytest.raises(ValueError, match=r"expected neurons closed under .* initial=None"):
        odd_target_flow(target, inputs, times=[1.0], initial=start)
    closed = closed_under(start, [(-1, -torch.eye(6))])
    assert odd_target_flow(target, inputs, times=[1.0], initial=closed).w.shape == (1, 6)


def test_pairing_counts_multiplicities():
    signs = torch.tensor([1.0, 1.0, -1.0]).double()
    z = Neurons(signs, signs.unsqueeze(-1) * torch.tensor([1.0, 2.0]).double())
    assert float(pairing_defect(z)) > 0.05
    assert float(pairing_defect(Neurons(z.a[1:], z.b[1:]))) < 1e-15


def test_runs_are_independent_of_one_another():
    target, inputs = full_problem(5)
    start = pairs(20, 5, runs=(3,))
    together = odd_target_flow(target, inputs, times=[0.0, 3.0, 9.0], initial=start)
    assert together.w.shape == (3, 3, 5)
    assert together.late_rates.shape == (3, 5)
    for run in range(3):
        alone = odd_target_flow(target, inputs, times=[0.0, 3.0, 9.0], initial=Neurons(start.a[run], start.b[run]))
        for name in ("w", "excess", "bound", "sharp_bound", "certified_rates", "moments", "metric"):
            torch.testing.assert_close(getattr(together, name)[:, run], getattr(alone, name), rtol=1e-7, atol=1e-10)


# The second moments


def test_second_moments_move_as_their_particles_do():
    target, inputs = full_problem(7)
    g = random.generator(0)
    start = Neurons(random.normal((9,), generator=g, like=ONE), random.normal((9, 7), generator=g, like=ONE))
    moment, s, times = target.first_moment, inputs.covariance(ONE), torch.linspace(0, 10, 11)
    method = Adaptive(1e-12, 1e-14)
    particles = linear_network_flow(start, moment, s, times=times, method=method)
    moments = second_moments_flow(second_moments(start), moment, s, times=times, method=method)
    torch.testing.assert_close(second_moments(particles), moments, rtol=1e-8, atol=1e-9)
    m = moments[3]
    a = torch.zeros_like(m)
    a[0, 1:] = a[1:, 0] = (moment - s @ m[0, 1:] / 2) / 2
    torch.testing.assert_close(second_moments_velocity(m, moment, s), a @ m + m @ a, rtol=1e-12, atol=1e-12)


def test_unbalance_and_the_spectrum_of_jm_are_constant():
    target, inputs = full_problem(6)
    g = random.generator(3)
    half = Neurons(random.normal((8,), generator=g, like=ONE), random.normal((8, 6), generator=g, like=ONE))
    start = Neurons(torch.cat([half.a, -half.a]), torch.cat([half.b, -half.b]))
    problem = (target.first_moment, inputs.covariance(ONE))
    m = second_moments_flow(second_moments(start), *problem, times=[0.0, 2.0, 20.0], method=Adaptive(1e-12, 1e-14))
    j = torch.diag(torch.tensor([1.0] + 6 * [-1.0]).double())
    spectra = torch.linalg.eigvals(j @ m).real.sort(dim=-1).values
    torch.testing.assert_close(spectra, spectra[:1].expand_as(spectra), rtol=0, atol=1e-8)
    assert float((m[-1] - m[0]).abs().max()) > 0.1


@pytest.mark.parametrize(
    "problem", [isotropic_problem(8), anisotropic_problem(8, 5.0), full_problem(8)], ids=["S = I/d", "S 1:5", "S"]
)
def test_at_infinite_width_the_predictor_determines_all_second_moments(problem):
    target, inputs = problem
    times = torch.linspace(0, 60, 13)
    by_predictor = odd_target_flow(target, inputs, times=times)
    by_moments = odd_target_flow(target, inputs, times=times, initial=infinite_start(8))
    for name in ("w", "moments", "metric", "least_metric", "least_contraction"):
        torch.testing.assert_close(getattr(by_predictor, name), getattr(by_moments, name), rtol=1e-8, atol=1e-8)
    assert repr(by_predictor).startswith("OddFlow(infinite width in R^8, up to t=60, excess ")


def test_the_metric_is_that_of_the_moments():
    w = random.normal((5, 3, 6), generator=random.generator(0), like=ONE, std=2.0)
    metric = predictor_metric(w, mass=sphere_mass(6))
    torch.testing.assert_close(metric, moments_metric(sphere_moments(w)), rtol=1e-12, atol=1e-13)
    root = (sphere_mass(6) ** 2 + 16 * w.square().sum(-1)).sqrt()
    values = torch.linalg.eigvalsh(metric)
    torch.testing.assert_close(values[..., 0], (sphere_mass(6) + root) / 8)
    torch.testing.assert_close(values[..., -1], root / 4)
    torch.testing.assert_close((metric @ w.unsqueeze(-1)).squeeze(-1), root.unsqueeze(-1) / 4 * w)


# Closed forms


def test_the_closed_form_is_the_flow_under_isotropic_inputs():
    target, inputs = isotropic_problem(20)
    times = torch.linspace(0, 80, 41)
    flow = odd_target_flow(target, inputs, times=times)
    setting = {"optimum": float(flow.optimum.norm()), "variance": 1 / 20, "mass": sphere_mass(20)}
    s = isotropic_length(times, **setting)
    expected = s.unsqueeze(-1) * flow.optimum / flow.optimum.norm()
    assert float((flow.w - expected).abs().max()) <= 1e-8
    torch.testing.assert_close(flow.distance, isotropic_distance(times, **setting), rtol=1e-6, atol=1e-9)
    a, b = setting["variance"] * setting["optimum"], setting["variance"] * setting["mass"] / 4
    c = math.hypot(a, b)
    th = (c * times.double() / 2).tanh()
    tau = a * th / (c + b * th)  # tanh(Λ/2)
    torch.testing.assert_close(setting["mass"] / 2 * tau / (1 - tau**2), s, rtol=1e-9, atol=1e-12)
    cosh = (1 - tau**2).rsqrt()
    torch.testing.assert_close(flow.moments[:, 0, 0], cosh**2 + (cosh * tau) ** 2 / 20, rtol=1e-7, atol=1e-9)


def test_the_closed_form_holds_along_an_eigenvector_of_any_covariance():
    s = torch.tensor([[2.0, 0.5, 0.0], [0.5, 2.0, 0.0], [0.0, 0.0, 0.1]]).double()
    top = torch.tensor([3.0, 3.0, 0.0]).double()  # S top = 2.5 top
    times = torch.linspace(0, 4, 9)
    flow = odd_target_flow(top, Gaussian(3, s), times=times)
    length = isotropic_length(times, optimum=float(flow.optimum.norm()), variance=2.5, mass=sphere_mass(3))
    torch.testing.assert_close(flow.w.norm(dim=-1), length, rtol=1e-8, atol=1e-8)


@given(
    optimum=st.floats(1e-3, 1e3),
    variance=st.floats(1e-3, 1e2),
    mass=st.floats(1e-3, 1e1),
)
@settings(max_examples=60, deadline=None)
def test_the_closed_form_solves_its_equation_for_all_parameters(optimum, variance, mass):
    setting = {"optimum": optimum, "variance": variance, "mass": mass}
    rate = isotropic_late_rate(**setting)
    times = torch.linspace(0, 12, 25).double() / rate
    s, gap = isotropic_length(times, **setting), isotropic_distance(times, **setting)
    assert bool((s >= 0).all() and (gap > 0).all() and (s.diff() >= 0).all() and (gap.diff() < 0).all())
    torch.testing.assert_close(s + gap, torch.full_like(s, optimum), rtol=1e-13, atol=0.0)
    assert bool((gap <= guaranteed_distance(times, **setting) * (1 + 1e-12)).all())
    h = 1e-5 / rate
    middle = times[1:]
    slope = (isotropic_length(middle + h, **setting) - isotropic_length(middle - h, **setting)) / (2 * h)
    expected = variance * gap[1:] * ((mass / 4) ** 2 + s[1:].square()).sqrt()
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-7 * rate * optimum)


def test_the_closed_form_is_that_of_a_solver():
    for optimum, variance, mass in [(2.0, 1.0, 1.25), (8.5, 1 / 60, 61 / 60), (0.01, 1.0, 1.0), (30.0, 0.5, 0.01)]:
        setting = {"optimum": optimum, "variance": variance, "mass": mass}
        times = torch.linspace(0, 20, 21).double() / isotropic_late_rate(**setting)

        def slope(_t, s, setting=setting):
            root = ((setting["mass"] / 4) ** 2 + s.square()).sqrt()
            return setting["variance"] * (setting["optimum"] - s) * root

        states = solve(slope, torch.zeros(1).double(), times, method=Adaptive(1e-12, 1e-14)).states[:, 0]
        assert float((states - isotropic_length(times, **setting)).abs().max()) <= 1e-10 * optimum


def test_the_published_size_has_the_tabulated_distances_and_risks():
    target, inputs = isotropic_problem(60)
    flow = odd_target_flow(target, inputs, times=[0.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0])
    length = flow.optimum.norm()
    assert float(length) == pytest.approx(math.sqrt(72), rel=1e-12)
    assert flow.floor == pytest.approx(0.4, abs=1e-12)
    table = torch.tensor([1.0, 0.794, 0.482, 0.184, 0.0521, 0.0132, 7.9e-4, 4.65e-5]).double()
    torch.testing.assert_close(flow.distance / length, table, rtol=0.01, atol=0.0)
    risks = torch.tensor([1.0, 0.7783, 0.5395, 0.4204, 0.4016]).double()
    torch.testing.assert_close(flow.risk[:5], risks, rtol=1e-3, atol=0.0)
    bound = guaranteed_distance(flow.times, optimum=1.0, variance=1 / 60, mass=sphere_mass(60))
    assert float(bound[-1]) == pytest.approx(0.655, abs=1e-3)


# Bounds and rates


@pytest.mark.parametrize("condition", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("width", ["infinite", "finite", "unbalanced"])
def test_the_excess_never_exceeds_a_bound(condition, width):
    target, inputs = anisotropic_problem(10, condition)
    initial = {
        "infinite": None,
        "finite": pairs(40, 10),
        "unbalanced": Neurons((start := pairs(20, 10, seed=4)).a * 0.1, start.b * 2.0),
    }[width]
    flow = odd_target_flow(target, inputs, times=torch.linspace(0, 80, 41), initial=initial)
    assert bool((flow.excess <= flow.sharp_bound * (1 + 1e-6)).all())
    assert bool((flow.sharp_bound <= flow.bound * (1 + 1e-9)).all())
    assert float(flow.bound[-1]) < 0.1 * float(flow.bound[0])
    for k in range(0, 41, 4):
        certified = flow.excess[k] * torch.exp(-flow.certified_rates[k] * (flow.times[k:] - flow.times[k]))
        assert bool((flow.excess[k:] <= certified * (1 + 1e-6)).all())
    assert float(flow.certified_rates[-1]) > 0


def test_the_late_slope_is_the_true_rate_and_the_simple_bound_is_loose():
    target, inputs = isotropic_problem(20)
    flow = odd_target_flow(target, inputs, times=torch.linspace(0, 60, 61))
    setting = {"optimum": float(flow.optimum.norm()), "variance": 1 / 20, "mass": sphere_mass(20)}
    rate = isotropic_late_rate(**setting)
    slope = -float((flow.distance[60] / flow.distance[50]).log()) / 10
    assert slope == pytest.approx(rate, rel=0.02)
    assert rate == pytest.approx(0.2453, abs=1e-4)
    bound = guaranteed_distance(flow.times, **setting)
    simple = -float((bound[60] / bound[50]).log()) / 10
    assert simple == pytest.approx(0.0131, abs=1e-4)
    assert slope / simple > 15
    torch.testing.assert_close(flow.late_rates[-1].item(), rate, rtol=1e-4, atol=0.0)
    across = (setting["mass"] + math.sqrt(setting["mass"] ** 2 + 16 * setting["optimum"] ** 2)) / 8 / 20
    torch.testing.assert_close(flow.late_rates[0].item(), across, rtol=1e-4, atol=0.0)


def test_under_anisotropic_inputs_the_late_slope_is_the_least_eigenvalue():
    target, inputs = full_problem(6)
    flow = odd_target_flow(target, inputs, times=torch.linspace(0, 200, 201))
    slopes = -flow.excess.log().diff() / 2
    late = int((flow.excess > 1e-12 * flow.excess[0]).sum()) - 2
    assert float(slopes[late]) == pytest.approx(float(flow.late_rates[0]), rel=0.02)


def test_a_finite_network_approaches_across_the_optimum_at_half_the_rate():
    target, inputs = isotropic_problem(20)
    flow = odd_target_flow(target, inputs, times=torch.linspace(0, 90, 91), initial=pairs(256, 20))
    error = flow.w - flow.optimum
    unit = flow.optimum / flow.optimum.norm()
    across = (error - (error @ unit).unsqueeze(-1) * unit).norm(dim=-1)
    slope = -float((across[60] / across[50]).log()) / 10
    assert slope == pytest.approx(float(flow.late_rates[:-1].mean()), rel=0.05)
    assert 0.4 <= slope / float(flow.late_rates[-1]) <= 0.65


# Random clouds


def nonlinearity(m, dim, runs, seed=0):
    """The greatest |f_even| over time, for each run."""
    target, inputs = isotropic_problem(dim)
    start = sphere_neurons(m, dim, generator=random.generator(seed), like=ONE, runs=(runs,))
    path = wide_flow(start, target, inputs, times=torch.linspace(2, 60, 30), method=heun(0.2))
    return even_norm(path.neurons, inputs).amax(0)


def test_random_clouds_leave_linearity_by_one_over_the_root_of_the_width():
    peaks = [float(nonlinearity(m, 20, 3).mean()) for m in (16, 64)]
    for m, peak in zip((16, 64), peaks, strict=True):
        assert 0.1 <= math.sqrt(m) * peak <= 0.6
    assert 1.0 <= peaks[0] / peaks[1] <= 4.0


@pytest.mark.slow
def test_random_clouds_of_published_widths_leave_linearity_by_one_over_the_root_of_the_width():
    peaks = [float(nonlinearity(m, 20, 3).mean()) for m in (32, 128, 512)]
    for m, peak in zip((32, 128, 512), peaks, strict=True):
        assert 0.1 <= math.sqrt(m) * peak <= 0.6
    for wide, narrow in zip(peaks[1:], peaks[:-1], strict=True):
        assert 1.0 <= narrow / wide <= 4.0


@pytest.mark.slow
@pytest.mark.parametrize(("m", "most"), [(256, 0.02), (1024, 0.01)])
def test_random_clouds_follow_the_infinite_width(m, most):
    target, inputs = isotropic_problem(20)
    times = torch.linspace(0, 60, 31)
    start = sphere_neurons(m, 20, generator=random.generator(0), like=ONE)
    path = wide_flow(start, target, inputs, times=times, method=heun(0.2))
    flow = odd_target_flow(target, inputs, times=times)
    distance = (predictor(path.neurons) - flow.optimum).norm(dim=-1)
    assert float((distance - flow.distance).abs().max() / flow.optimum.norm()) <= most


# Targets and initial laws


def test_any_odd_target_works_through_its_correlations():
    b = torch.tensor([1.0, -2.0, 0.5]).double()
    linear = ReLUTeacher(torch.tensor([1.0, -1.0]).double(), torch.stack([b, -b]))
    inputs = Gaussian(3, torch.tensor([1.0, 2.0, 3.0]).double())
    flow = odd_target_flow(linear, inputs, times=[0.0, 40.0])
    torch.testing.assert_close(flow.optimum, b)
    assert flow.floor == pytest.approx(0.0, abs=1e-12)
    assert float(flow.distance[-1]) < 1e-6


def test_the_dtype_of_a_first_moment_does_not_round_the_covariance():
    inputs = Gaussian(3, torch.tensor([1.5, 0.1, 0.7]).double())
    exact = odd_target_flow(torch.tensor([1.0, -2.0, 1.0]).double(), inputs, times=[0.5, 2.0])
    for dtype in (torch.int64, torch.float32):
        flow = odd_target_flow(torch.tensor([1, -2, 1], dtype=dtype), inputs, times=[0.5, 2.0])
        assert flow.w.equal(exact.w)


def test_on_the_sphere_only_the_covariance_matters():
    x = torch.tensor([0.3, 0.1, -0.2]).double()
    there, here = (odd_target_flow(x, law, times=[1.0, 5.0]) for law in (UnitSphere(3), Gaussian(3, 1 / 3)))
    torch.testing.assert_close(there.w, here.w)


def test_single_precision_neurons_are_followed_in_double():
    target, inputs = full_problem(4)
    start = pairs(12, 4)
    single = odd_target_flow(target, inputs, times=[5.0], initial=Neurons(start.a.float(), start.b.float()))
    double = odd_target_flow(target, inputs, times=[5.0], initial=start)
    assert single.w.dtype == torch.float64
    torch.testing.assert_close(single.w, double.w, rtol=1e-5, atol=1e-6)


def test_a_zero_first_moment_leaves_nothing_to_learn_and_says_so():
    inputs = Gaussian(2)
    harmonic = odd_polynomial({(0, 0, 0): 1.0, (0,): -3.0}, inputs)  # the third Hermite polynomial
    assert float(harmonic.first_moment.abs().max()) < 1e-12
    flow = odd_target_flow(harmonic, inputs, times=[0.0, 10.0])
    assert bool(flow.stationary)
    assert "stationary: no linear predictor is better" in repr(flow)
    assert float(flow.w.abs().max()) < 1e-10
    assert flow.floor == pytest.approx(3.0)
    assert bool(torch.isfinite(flow.certified_rates).all())
    start = pairs(20, 2)
    moving = odd_target_flow(harmonic, inputs, times=[0.0, 40.0], initial=start)
    assert not bool(moving.stationary)
    assert float(moving.excess[-1]) < 1e-3 * float(moving.excess[0])


def test_neurons_that_see_nothing_stay_at_a_saddle_and_it_is_said():
    x = torch.tensor([1.0, 0.0]).double()
    across = Neurons(torch.zeros(2).double(), torch.tensor([[0.0, 1.0], [0.0, -1.0]]).double())
    flow = odd_target_flow(x, Gaussian(2), times=[0.0, 10.0], initial=across)
    assert bool(flow.stationary)
    assert "stationary: a saddle" in repr(flow)
    assert float(flow.w.abs().max()) == 0
    assert float(flow.bound[-1]) == float(flow.excess[0])


def test_neurons_on_the_far_side_end_at_the_saddle_with_no_certificate():
    x = torch.tensor([1.0, 0.0]).double()
    wrong = Neurons(torch.tensor([1.0, -1.0]).double(), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double())
    flow = odd_target_flow(x, Gaussian(2), times=[0.0, 5.0, 60.0], initial=wrong)
    assert not bool(flow.stationary)
    assert float(flow.w[-1].norm()) < 1e-8
    assert float(flow.excess[-1]) == pytest.approx(0.5, abs=1e-8)
    assert float(flow.certified_rates.max()) == 0
    assert bool((flow.excess <= flow.bound * (1 + 1e-6)).all())


# What is refused


def test_targets_that_are_not_odd_are_refused():
    with pytest.raises(ValueError, match="expected an odd target, received Radial"):
        odd_target_flow(Radial(3, 2), Gaussian(3), times=[1.0])
    with pytest.raises(ValueError, match="expected an odd function"):
        OddTarget(lambda x: x[..., 0].square(), torch.zeros(2).double())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": Gaussian(3, torch.tensor([1.0, 1.0, 0.0]))}, "expected a regular covariance"),
        ({"inputs": Gaussian(4)}, r"expected a finite first moment \(4,\)"),
        ({"target": torch.full((3,), math.nan)}, "expected a finite first moment"),
        ({"initial": torch.eye(3)}, r"expected neurons in R\^3"),
        ({"initial": torch.eye(4) * math.nan}, "expected finite second moments"),
        ({"initial": -torch.eye(4)}, "positive semi-definite"),
        ({"initial": torch.ones(4)}, "expected finite second moments"),
        ({"initial": Neurons(torch.tensor([1.0, -1.0]), torch.tensor([[1.0], [-1.0]]))}, r"expected neurons in R\^3"),
        ({"times": [2.0, 1.0]}, "increasing times"),
        ({"target": cubic(torch.ones(2).double(), Gaussian(2))}, "dimension"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"target": torch.ones(3), "inputs": Gaussian(3), "times": [1.0], "initial": None} | change
    target, inputs = arguments.pop("target"), arguments.pop("inputs")
    with pytest.raises(ValueError, match=message):
        odd_target_flow(target, inputs, **arguments)


def test_a_linear_target_integrated_on_nodes_has_no_floor_to_their_accuracy():
    inputs, w = Gaussian(5), torch.ones(5).double()
    floors = []
    for seed in (3, 5):  # nodes whose moments are too small for one another by a per cent
        nodes = inputs.nodes(256, generator=random.generator(seed))
        flow = odd_target_flow(OddTarget.integrated(lambda x: x @ w, inputs, nodes), inputs, times=[1.0])
        floors.append(flow.floor)
    assert floors == [0.0, 0.0]


def test_risks_need_the_second_moment_of_the_target():
    flow = odd_target_flow(torch.ones(3), Gaussian(3), times=[1.0])
    assert float(flow.excess[0]) > 0
    with pytest.raises(ValueError, match="only the excess is"):
        _ = flow.risk
    small = OddTarget(lambda x: x[..., 0], torch.tensor([1.0, 0.0]).double(), 0.5)
    with pytest.raises(ValueError, match="belong to no function"):
        _ = odd_target_flow(small, Gaussian(2), times=[1.0]).risk


@pytest.mark.parametrize("change", [{"optimum": -1.0}, {"variance": 0.0}, {"mass": 0.0}, {"mass": math.nan}])
def test_closed_forms_refuse_what_has_no_meaning(change):
    setting = {"optimum": 1.0, "variance": 1.0, "mass": 1.0} | change
    for function in (isotropic_length, isotropic_distance, guaranteed_distance):
        with pytest.raises(ValueError, match="expected a finite"):
            function([1.0], **setting)
    with pytest.raises(ValueError, match="expected a finite"):
        isotropic_late_rate(**setting)
    with pytest.raises(ValueError, match="expected dim >= 1"):
        sphere_mass(0)
