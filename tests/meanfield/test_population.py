"""Population risks against each other and against autograd; their flow against the theorems it must obey."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import LSODA
from torch import nn

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Dihedral, Orthogonal, Planar, SignFlips, Trivial, hom
from symfield.linalg import Subspace
from symfield.meanfield import (
    Flow,
    augmented,
    averaged,
    constrained,
    energy,
    erf_kernel,
    gaussian_erf_population,
    gaussian_teacher,
    integrate,
    orbit,
    population_flow,
    project,
    sampled_population,
    squared,
    vanilla,
    velocity,
)
from symfield.meanfield.population import Population
from symfield.quadrature import Nodes, gauss_hermite, gaussian_nodes, refine, sobol
from symfield.random import generator as seeded
from symfield.symmetrize import haar, uniform
from symfield.units import HiddenUnit, ModuleUnit, PointwiseUnit, erf, identity, sigmoid, tanh

SWAP = Defining(Cyclic(2))
ACTION = hom(SWAP, SWAP)
SPACE = fixed_points(ACTION)
UNIT = PointwiseUnit(tanh, 2, 2)
COVARIANCE = torch.tensor([[1.3, 0.3], [0.3, 0.8]], dtype=torch.float64)
ERF_UNITS = {
    "σ(zx)": PointwiseUnit(erf, 2, 2),
    "W σ(Aᵀx)": HiddenUnit(erf, 2, 2, bias=False),
    "two hidden": HiddenUnit(erf, 2, 1, hidden=2, bias=False),
}


def normal(*shape: int, seed: int = 0, std: float = 1.0) -> torch.Tensor:
    return std * torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def schemes(unit: PointwiseUnit = UNIT) -> dict:
    frame = uniform(Cyclic(2))
    return {
        "V": vanilla(unit, squared),
        "DA": augmented(unit, squared, frame),
        "FA": averaged(unit, squared, frame),
        "EA": constrained(unit, squared, SPACE),
    }


NODES = gauss_hermite(2, 8)
TEACHER = normal(3, 4, seed=5, std=0.7)
WI_TEACHER = orbit(TEACHER, ACTION)


# --- nodes


def test_gauss_hermite_integrates_polynomials_below_twice_its_order_exactly():
    nodes = gauss_hermite(2, 8, covariance=COVARIANCE)
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.6, -0.5], dtype=torch.float64)
    s, t, c = a @ COVARIANCE @ a, b @ COVARIANCE @ b, a @ COVARIANCE @ b
    close(nodes.weight.sum(), torch.ones(()).double(), 1e-14)
    close(nodes.mean(lambda x: x.unsqueeze(-1) * x.unsqueeze(-2)), COVARIANCE, 1e-13)
    close(nodes.mean(lambda x: (x @ a) ** 4 * (x @ b) ** 2), 3 * s * s * t + 12 * s * c * c, 1e-10)  # Isserlis
    close(nodes.mean(lambda x: (x @ a) ** 7 * (x @ b)), 105 * s**3 * c, 1e-9)


def test_trimming_drops_most_of_a_large_rule_and_none_of_its_accuracy():
    full, trimmed = gauss_hermite(2, 64, trim=0.0), gauss_hermite(2, 64)
    assert len(full) == 64**2
    assert len(trimmed) < 0.5 * len(full)
    close(full.mean(lambda x: torch.sigmoid(x).prod(-1)), trimmed.mean(lambda x: torch.sigmoid(x).prod(-1)), 1e-14)


def test_sobol_points_beat_independent_ones_and_repeat_with_their_generator():
    nodes = sobol(6, 4096, generator=seeded(3), std=2.0)
    assert torch.equal(nodes.x, sobol(6, 4096, generator=seeded(3), std=2.0).x)
    error = nodes.mean(lambda x: x.square().sum(-1)) - 24
    assert abs(float(error)) < 0.02  # independent points: standard deviation 0.22
    assert torch.isfinite(sobol(3, 2**16, generator=seeded(0)).x).all()


@pytest.mark.parametrize(
    "rep", [SWAP, Defining(SignFlips(2)), Planar(Dihedral(3)), Planar(Cyclic(4))], ids=lambda rep: str(rep.group)
)
def test_the_orbit_of_nodes_is_an_invariant_law(rep):
    nodes = sobol(2, 64, generator=seeded(1)).orbit(rep)
    assert len(nodes) == 64 * rep.group.order
    for g in rep.group.elements:
        moved = Nodes(rep.act(g, nodes.x), nodes.weight)
        for power in (1, 2, 3):
            close(moved.mean(lambda x, k=power: x**k), nodes.mean(lambda x, k=power: x**k), 1e-13)


def test_nodes_that_are_symmetric_already_are_not_multiplied():
    once = gauss_hermite(2, 9)
    assert len(once.orbit(SWAP)) == len(once.orbit(Defining(SignFlips(2)))) == len(once)


def test_refinement_reports_an_error_that_bounds_the_true_one():
    a, b = normal(1, 2, seed=1), normal(1, 2, seed=2)

    def moment(nodes: Nodes) -> torch.Tensor:
        return nodes.mean(lambda x: (torch.erf(x @ a.mT) * torch.erf(x @ b.mT)).squeeze(-1))

    nodes = refine(lambda order: gauss_hermite(2, order), moment, tolerance=1e-6)
    exact = float(erf_kernel(a, b))
    assert 0 < abs(float(moment(nodes)) - exact) <= nodes.error * abs(exact) <= 1e-6 * abs(exact)
    with pytest.raises(ValueError, match="still changed by"):
        refine(lambda order: gauss_hermite(2, order), moment, tolerance=1e-6, limit=8)


def test_gaussian_nodes_choose_quadrature_in_low_dimension_and_sobol_points_in_high():
    low, high = gaussian_nodes(2, std=2.0, rep=SWAP), gaussian_nodes(5, generator=seeded(0), tolerance=3e-3)
    assert low.error <= 1e-8
    assert high.error <= 3e-3
    assert bool((high.weight == high.weight[0]).all())
    with pytest.raises(ValueError, match="need generator="):
        gaussian_nodes(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Nodes(torch.zeros(2, 1).double(), torch.ones(2).double()), "sum to one"),
        (lambda: Nodes(torch.zeros(2, 1), torch.full((2,), 0.5)), "float64"),
        (lambda: Nodes.sample(torch.tensor([[math.nan]])), "finite"),
        (lambda: Nodes.sample(torch.zeros(0, 2)), "b >= 1"),
        (lambda: gauss_hermite(0, 4), "dim >= 1"),
        (lambda: gauss_hermite(3, 500), "use sobol"),
        (lambda: gauss_hermite(2, 4, std=-1.0), "std >= 0"),
        (lambda: gauss_hermite(2, 4, covariance=-COVARIANCE), "positive semi-definite"),
        (lambda: gauss_hermite(3, 4, covariance=COVARIANCE), "shape"),
        (lambda: NODES.orbit(Defining(Orthogonal(2))), "finite group"),
        (lambda: NODES.orbit(Trivial(Cyclic(2), 3)), "representation on"),
    ],
)
def test_bad_nodes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the closed form


@pytest.mark.parametrize("unit", ERF_UNITS.values(), ids=ERF_UNITS.keys())
def test_the_erf_closed_form_agrees_with_quadrature_in_value_and_all_derivatives(unit):
    teacher, z, at = (
        normal(5, unit.dim, seed=1, std=0.5),
        normal(4, unit.dim, seed=2, std=0.5),
        normal(3, unit.dim, std=0.5),
    )
    exact = gaussian_erf_population(unit, teacher, COVARIANCE)
    sampled = sampled_population(vanilla(unit, squared), gauss_hermite(2, 100, covariance=COVARIANCE), teacher)
    v, directions = normal(2, *z.shape, seed=3), normal(unit.dim, 3, seed=4)
    close(exact.risk(z), sampled.risk(z), 1e-12)
    close(exact.potential(z, at), sampled.potential(z, at), 1e-8)
    close(exact.gradient(z), sampled.gradient(z), 1e-10)
    close(exact.gradient(z, at), sampled.gradient(z, at), 1e-8)
    close(exact.hessian_product(z, v), sampled.hessian_product(z, v), 1e-8)
    close(exact.curvature(z, directions), sampled.curvature(z, directions), 1e-8)
    close(exact.coupling(z, directions), sampled.coupling(z, directions), 1e-8)


def test_the_erf_kernel_is_accurate_for_nearly_parallel_large_weights():
    a = torch.tensor([[1e3, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1e3, 1e-3]], dtype=torch.float64)
    # E erf(1e3 u)² = 1 − (4/π) arctan((1 + 4e6)^{-1/2}); the perturbation changes it in the 13th digit
    expected = 1 - (4 / math.pi) * math.atan((1 + 4e6) ** -0.5)
    assert float(erf_kernel(a, a)) == pytest.approx(expected, abs=1e-15)
    assert float(erf_kernel(a, b)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_erf_population(UNIT, TEACHER), "PointwiseUnit\\(erf"),
        (lambda: gaussian_erf_population(HiddenUnit(erf, 2, 1), normal(1, 4)), "bias=False"),
        (lambda: gaussian_erf_population(ERF_UNITS["σ(zx)"], normal(1, 3)), "expected a cloud"),
        (lambda: gaussian_erf_population(ERF_UNITS["σ(zx)"], TEACHER, -1.0), "positive semi-definite"),
        (lambda: gaussian_erf_population(ERF_UNITS["σ(zx)"], TEACHER, scale=0.0), "positive scale"),
        (lambda: gaussian_erf_population(ERF_UNITS["σ(zx)"], math.nan * TEACHER), "finite teacher"),
        (lambda: sampled_population(vanilla(UNIT, squared), gauss_hermite(3, 4), TEACHER), "expected nodes in R\\^2"),
        (lambda: sampled_population(vanilla(UNIT, squared), NODES, lambda x: x[:, :1]), "expected targets"),
        (lambda: sampled_population(vanilla(UNIT, squared), NODES, lambda x: x * math.inf), "finite targets"),
        (lambda: sampled_population(augmented(UNIT, squared, haar(Cyclic(2))), NODES, TEACHER), "exact frame"),
        (lambda: sampled_population(vanilla(UNIT, squared), NODES, TEACHER).risk(torch.zeros(3, 4)), "float64"),
        (lambda: sampled_population(vanilla(UNIT, squared), NODES, TEACHER).risk(normal(0, 4)), "n >= 1"),
    ],
)
def test_bad_populations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- derivatives, runs, pieces


def populations() -> dict[str, Population]:
    module = ModuleUnit(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), 2, 2)
    quartic = vanilla(UNIT, lambda prediction, y: (prediction - y).pow(4).sum(-1))
    return {
        **{name: sampled_population(scheme, NODES, TEACHER) for name, scheme in schemes().items()},
        "erf": gaussian_erf_population(ERF_UNITS["σ(zx)"], TEACHER, COVARIANCE),
        "module": sampled_population(vanilla(module, squared), gauss_hermite(2, 5), lambda x: x.sin()),
        "quartic loss": sampled_population(quartic, NODES, TEACHER),
        "linear unit": sampled_population(vanilla(PointwiseUnit(identity, 2, 2), squared), NODES, TEACHER),
    }


POPULATIONS = populations()


@pytest.mark.parametrize("population", POPULATIONS.values(), ids=POPULATIONS.keys())
def test_the_particle_gradient_is_n_times_the_gradient_of_the_risk_and_the_slope_of_the_potential(population):
    z = normal(5, population.unit.dim, seed=7, std=0.5)
    leaf, point = z.clone().requires_grad_(), z.clone().requires_grad_()
    (by_risk,) = torch.autograd.grad(population.risk(leaf), leaf)
    (by_potential,) = torch.autograd.grad(population.potential(z, point).sum(), point)
    close(population.gradient(z), 5 * by_risk)
    close(population.gradient(z), by_potential)


@pytest.mark.parametrize("population", POPULATIONS.values(), ids=POPULATIONS.keys())
def test_the_second_variation_is_the_derivative_of_the_gradient(population):
    n, p = 4, population.unit.dim
    z, v, step = normal(n, p, seed=7, std=0.5), normal(n, p, seed=8), 1e-5
    everything = torch.eye(p, dtype=torch.float64)
    by_difference = (population.gradient(z + step * v) - population.gradient(z - step * v)) / (2 * step)
    curvature, coupling = population.curvature(z, everything), population.coupling(z, everything)
    together = torch.einsum("iab,ib->ia", curvature, v) + torch.einsum("iajb,jb->ia", coupling, v) / n
    close(population.hessian_product(z, v), by_difference, 1e-8)
    close(population.hessian_product(z, v), together, 1e-10)
    alone = (population.gradient(z, z + step * v) - population.gradient(z, z - step * v)) / (2 * step)
    close(torch.einsum("iab,ib->ia", curvature, v), alone, 1e-8)


def test_the_coupling_is_symmetric_and_positive_semi_definite():
    for name in ("V", "DA", "FA", "erf", "module"):
        population = POPULATIONS[name]
        z, everything = normal(4, population.unit.dim, seed=7, std=0.5), torch.eye(population.unit.dim).double()
        coupling = population.coupling(z, everything).flatten(2, 3).flatten(0, 1)
        close(coupling, coupling.mT)
        assert float(torch.linalg.eigvalsh(coupling)[0]) > -1e-10


@pytest.mark.parametrize("name", ["V", "DA", "FA", "EA", "erf", "module"])
def test_runs_together_equal_runs_alone(name):
    population = POPULATIONS[name]
    z = normal(2, 3, 5, population.unit.dim, std=0.5)
    alone = [[population.risk(cloud) for cloud in row] for row in z]
    close(population.risk(z), torch.stack([torch.stack(row) for row in alone]), 1e-14)
    forces = torch.stack([torch.stack([population.gradient(cloud) for cloud in row]) for row in z])
    close(population.gradient(z), forces, 1e-13)


@pytest.mark.parametrize("name", ["V", "DA", "FA", "EA"])
def test_pieces_of_the_nodes_add_up(name):
    whole = sampled_population(schemes()[name], NODES, TEACHER)
    pieces = type(whole)(whole.objective, whole.nodes, whole.y, entries=200)
    z, v, axes = normal(5, 4, seed=7), normal(2, 5, 4, seed=8), torch.eye(4).double()
    close(pieces.risk(z), whole.risk(z), 1e-13)
    close(pieces.gradient(z), whole.gradient(z), 1e-13)
    close(pieces.hessian_product(z, v), whole.hessian_product(z, v), 1e-12)
    close(pieces.curvature(z, axes), whole.curvature(z, axes), 1e-12)
    close(pieces.coupling(z, axes), whole.coupling(z, axes), 1e-12)
    close(pieces.noise(z, axes), whole.noise(z, axes), 1e-12)


def test_pieces_of_the_closed_form_add_up():
    for unit in ERF_UNITS.values():
        whole = gaussian_erf_population(unit, normal(3, unit.dim, seed=1))
        pieces = replace(whole, pairs=7)
        z, v, axes = normal(5, unit.dim, seed=7), normal(2, 5, unit.dim, seed=8), torch.eye(unit.dim).double()
        close(pieces.risk(z), whole.risk(z), 1e-13)
        close(pieces.gradient(z), whole.gradient(z), 1e-13)
        close(pieces.hessian_product(z, v), whole.hessian_product(z, v), 1e-12)
        close(pieces.curvature(z, axes), whole.curvature(z, axes), 1e-12)
        close(pieces.coupling(z, axes), whole.coupling(z, axes), 1e-12)


def test_the_noise_is_the_covariance_of_single_sample_gradients():
    population, z = sampled_population(vanilla(UNIT, squared), gauss_hermite(2, 3, trim=0.0), TEACHER), normal(2, 4)
    samples = [
        population.objective.gradient(z, x.unsqueeze(0), y.unsqueeze(0)).flatten()
        for x, y in zip(population.nodes.x, population.y, strict=True)
    ]
    mean = sum(w * g for w, g in zip(population.nodes.weight, samples, strict=True))
    spread = sum(w * torch.outer(g - mean, g - mean) for w, g in zip(population.nodes.weight, samples, strict=True))
    close(mean, population.gradient(z).flatten(), 1e-12)
    close(population.noise(z, torch.eye(4).double()).flatten(2, 3).flatten(0, 1), spread, 1e-12)


# --- the flow


def test_the_flow_of_a_linear_unit_is_the_known_exponential():
    # One output, N(0, I): R = ‖mean(z) − w‖², so dz_i/dt = −ς(2(m − w) + 2τ z_i).
    unit = PointwiseUnit(identity, 2, 1)
    w, z0, tau = torch.tensor([1.0, -2.0], dtype=torch.float64), normal(3, 2), 0.25
    population = sampled_population(vanilla(unit, squared), gauss_hermite(2, 4), lambda x: x @ w.unsqueeze(-1))
    trajectory = population_flow(z0, population, times=[0.0, 0.7], rate=lambda t: 1 + t, tau=tau)
    s = 0.7 + 0.7**2 / 2
    mean = w / (1 + tau) + (z0.mean(0) - w / (1 + tau)) * math.exp(-2 * (1 + tau) * s)
    apart = (z0 - z0.mean(0)) * math.exp(-2 * tau * s)
    assert torch.equal(trajectory.states[0], z0)
    close(trajectory.states[1], mean + apart, 1e-7)


@pytest.mark.parametrize("name", ["V", "DA", "FA", "EA", "erf"])
def test_energy_falls_at_the_rate_of_the_mean_squared_velocity(name):
    population, z, tau = POPULATIONS[name], normal(5, 4, seed=7, std=0.5), 0.1
    z = project(z, SPACE) if name == "EA" else z
    h = 1e-3
    states = population_flow(z, population, times=[0.1 - h, 0.1, 0.1 + h], rate=3.0, tau=tau, rtol=1e-11).states
    slope = (energy(states[2], population, tau=tau) - energy(states[0], population, tau=tau)) / (2 * h)
    speed = velocity(states[1], population, tau=tau).square().sum(-1).mean()
    assert float(speed) > 1e-3
    assert float(slope) == pytest.approx(-3.0 * float(speed), rel=1e-4)


def test_runs_of_one_flow_do_not_see_one_another():
    population, z = POPULATIONS["erf"], normal(2, 5, 4, std=0.5)
    together = population_flow(z, population, times=[1.0], rtol=1e-10).states[0]
    alone = [population_flow(cloud, population, times=[1.0], rtol=1e-10).states[0] for cloud in z]
    close(together, torch.stack(alone), 1e-7)


def test_strongly_invariant_laws_stay_so_when_the_data_are_equivariant_and_not_otherwise():
    """Theorem 5: R invariant, μ_0 SI ⇒ μ_t SI. With an arbitrary teacher R is not invariant, and E^G is left."""
    z = project(normal(6, 4, seed=7, std=0.5), SPACE)
    for teacher, stays in ((WI_TEACHER, True), (TEACHER, False)):
        population = sampled_population(vanilla(UNIT, squared), NODES, teacher)
        end = population_flow(z, population, times=[2.0], tau=0.01).states[0]
        distance = float(SPACE.distance(end).max())
        assert distance < 1e-12 if stays else distance > 1e-2
        assert float((end - z).abs().max()) > 1e-2


def test_augmented_averaged_and_constrained_flows_coincide_from_strongly_invariant_laws():
    """Theorem 6, for any teacher; the vanilla flow joins when the data are equivariant."""
    z = project(normal(6, 4, seed=7, std=0.5), SPACE)
    for teacher, joined in ((TEACHER, False), (WI_TEACHER, True)):
        ends = {
            name: population_flow(z, sampled_population(scheme, NODES, teacher), times=[1.0], rtol=1e-9).states[0]
            for name, scheme in schemes().items()
        }
        close(ends["DA"], ends["FA"], 1e-8)
        close(ends["DA"], ends["EA"], 1e-8)
        difference = float((ends["V"] - ends["DA"]).abs().max())
        assert difference < 1e-8 if joined else difference > 1e-2


def test_weakly_invariant_laws_stay_so_and_the_free_schemes_coincide():
    """Theorems 3 and 4: from an orbit-closed cloud V = DA = FA, and the cloud stays orbit-closed; EA is different."""
    half = normal(3, 4, seed=7, std=0.5)
    z = orbit(half, ACTION)
    ends = {
        name: population_flow(
            project(z, SPACE) if name == "EA" else z, sampled_population(scheme, NODES, WI_TEACHER), times=[2.0]
        ).states[0]
        for name, scheme in schemes().items()
    }
    close(ends["V"], orbit(ends["V"][:3], ACTION), 1e-12)
    close(ends["V"], ends["DA"], 1e-7)
    close(ends["V"], ends["FA"], 1e-7)
    assert float((ends["V"] - ends["EA"]).abs().max()) > 1e-2


def test_a_subspace_confines_the_flow_exactly():
    z = project(normal(6, 4, seed=7, std=0.5), SPACE)
    free = sampled_population(vanilla(UNIT, squared), NODES, TEACHER)
    bound = sampled_population(constrained(UNIT, squared, SPACE), NODES, TEACHER)
    confined = population_flow(z, free, times=[1.0, 2.0], tau=0.1, subspace=SPACE, rtol=1e-10)
    assert torch.equal(confined.states, project(confined.states, SPACE))
    close(confined.states, population_flow(z, bound, times=[1.0, 2.0], tau=0.1, rtol=1e-10).states, 1e-8)


def test_sgd_converges_to_the_flow_as_its_steps_shrink():
    """Deterministic descent is off by O(ε); with samples the spread √ε dominates."""
    population = sampled_population(vanilla(UNIT, squared), gauss_hermite(2, 40), WI_TEACHER)
    z = normal(8, 4, seed=7, std=0.5)
    exact = population_flow(z, population, times=[1.0], rtol=1e-10).states[0]

    def descend(steps: int) -> torch.Tensor:
        cloud = z
        for _ in range(steps):
            cloud = cloud - velocity(cloud, population) / steps
        return cloud

    bias = [float((descend(steps) - exact).norm()) for steps in (50, 100)]
    assert bias[0] / bias[1] == pytest.approx(2.0, rel=0.05)

    data, spread = gaussian_teacher(UNIT, WI_TEACHER, std=1.0), []
    for epsilon in (1 / 50, 1 / 800):
        flow = Flow(horizon=1.0, rate=1.0, tau=0.0, beta=0.0, batch=10, records=1, step_law=lambda n, e=epsilon: e)
        states = integrate(z.expand(50, 8, 4), vanilla(UNIT, squared), flow=flow, data=data, generator=seeded(0))
        spread.append(float((list(states)[-1].z - exact).square().sum((-2, -1)).mean().sqrt()))
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.25)


def test_another_solver_gives_the_same_flow():
    z, population = normal(4, 4, seed=7, std=0.5), POPULATIONS["erf"]
    one = population_flow(z, population, times=[1.0], rtol=1e-9)
    other = population_flow(z, population, times=[1.0], rtol=1e-9, solver=LSODA)
    close(one.states, other.states, 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 1e-6}, "expected beta = 0"),
        ({"tau": -1.0}, "tau >= 0"),
        ({"times": []}, "finite times"),
        ({"times": [1.0, 0.5]}, "increasing times"),
        ({"times": [-1.0]}, "increasing times"),
        ({"rate": -1.0}, "rate >= 0"),
        ({"rate": lambda t: math.nan}, "rate >= 0"),
        ({"subspace": SPACE}, "strongly invariant"),
        ({"subspace": Subspace.full(3)}, "subspace of R\\^4"),
    ],
)
def test_bad_flows_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        population_flow(normal(3, 4), POPULATIONS["V"], **{"times": [1.0], **options})


def test_time_zero_returns_the_start_and_float32_clouds_are_widened():
    population = sampled_population(vanilla(PointwiseUnit(sigmoid, 2, 2), squared), NODES, TEACHER)
    z = normal(3, 4).float()
    trajectory = population_flow(z, population, times=[0.0])
    assert torch.equal(trajectory.states[0], z.double())
    assert trajectory.evaluations == 0
