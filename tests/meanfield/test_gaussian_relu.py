"""The exact population risk of ReLU units: against nodes, against the wide flow, and its second variation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Planar, Trivial, hom
from symfield.linalg import Subspace, covariance_root
from symfield.meanfield import (
    energy,
    gaussian_erf_population,
    gaussian_relu_population,
    orbit,
    population_flow,
    project,
    sampled_population,
    squared,
    transverse_growth,
    transverse_stability,
    vanilla,
)
from symfield.meanfield.population import Population
from symfield.quadrature import Nodes, gauss_hermite
from symfield.random import generator as seeded
from symfield.units import HiddenUnit, PointwiseUnit, ReLUUnit, action, erf, relu
from symfield.wide import Gaussian, Neurons, ReLUTeacher, UnitSphere, velocity

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
UNITS = {
    "relu(zx)": PointwiseUnit(relu, 2, 2),
    "W relu(Aᵀx)": HiddenUnit(relu, 2, 2, bias=False),
    "two hidden": HiddenUnit(relu, 2, 1, hidden=2, bias=False),
}
SWAP = Defining(Cyclic(2))
SPACE = fixed_points(hom(SWAP, SWAP))
units = pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())


def normal(*shape: int, seed: int = 0, std: float = 1.0) -> torch.Tensor:
    return std * torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def circle(size: int, covariance: torch.Tensor = COVARIANCE) -> Nodes:
    """Inputs that a squared loss of ReLU units cannot tell from N(0, covariance) as size grows."""
    ring = UnitSphere(2).nodes(size)
    return Nodes(math.sqrt(2) * ring.x @ covariance_root(covariance, 2), ring.weight)


# --- value and derivatives


@units
def test_the_closed_form_agrees_with_many_nodes(unit):
    teacher, z, at = normal(5, unit.dim, seed=1), normal(4, unit.dim, seed=2), normal(3, unit.dim)
    exact = gaussian_relu_population(unit, teacher, COVARIANCE)
    sampled = sampled_population(vanilla(unit, squared), circle(20_000), teacher)
    close(exact.risk(z), sampled.risk(z), 1e-6)
    close(exact.potential(z, at), sampled.potential(z, at), 1e-6)  # kinks: error 1/size²
    close(exact.gradient(z), sampled.gradient(z), 2e-3)  # jumps: error 1/size
    close(exact.gradient(z, at), sampled.gradient(z, at), 2e-3)
    hermite = sampled_population(vanilla(unit, squared), gauss_hermite(2, 200, covariance=COVARIANCE), teacher)
    close(exact.risk(z), hermite.risk(z), 1e-2)


@units
def test_derivatives_are_those_of_the_risk(unit):
    population = gaussian_relu_population(unit, normal(5, unit.dim, seed=1), COVARIANCE, scale=0.5)
    n, p = 4, unit.dim
    z, v, step = normal(n, p, seed=7), normal(n, p, seed=8), 1e-5
    leaf, point, axes = z.clone().requires_grad_(), z.clone().requires_grad_(), torch.eye(p, dtype=torch.float64)
    close(population.gradient(z), n * torch.autograd.grad(population.risk(leaf), leaf)[0])
    close(population.gradient(z), torch.autograd.grad(population.potential(z, point).sum(), point)[0])
    by_difference = (population.gradient(z + step * v) - population.gradient(z - step * v)) / (2 * step)
    curvature, coupling = population.curvature(z, axes), population.coupling(z, axes)
    together = torch.einsum("iab,ib->ia", curvature, v) + torch.einsum("iajb,jb->ia", coupling, v) / n
    close(population.hessian_product(z, v), by_difference, 1e-7)
    close(population.hessian_product(z, v), together, 1e-11)
    flat = coupling.flatten(2, 3).flatten(0, 1)
    close(flat, flat.mT)
    assert float(torch.linalg.eigvalsh(flat)[0]) > -1e-11


@units
def test_second_derivatives_hold_where_particles_coincide_or_have_found_the_teacher(unit):
    teacher = normal(3, unit.dim, seed=1)
    population = gaussian_relu_population(unit, teacher, COVARIANCE)
    z, step = torch.cat([teacher, teacher[:1], 2 * teacher[:1], -teacher[:1]]), 1e-6
    v, axes = normal(*z.shape, seed=8), torch.eye(unit.dim).double()
    by_difference = (population.gradient(z + step * v) - population.gradient(z - step * v)) / (2 * step)
    together = torch.einsum("iab,ib->ia", population.curvature(z, axes), v)
    together = together + torch.einsum("iajb,jb->ia", population.coupling(z, axes), v) / len(z)
    close(population.hessian_product(z, v), by_difference, 1e-4)  # the second derivative is continuous, with kinks
    close(population.hessian_product(z, v), together, 1e-10)
    assert float(population.risk(teacher).abs()) < 1e-14
    assert float(population.gradient(teacher).abs().max()) < 1e-14


def test_the_curvature_is_the_integral_over_the_kink():
    """E δ⟨a,X⟩ relu⟨b,X⟩ XXᵀ = E relu(s b₂) s² e₂e₂ᵀ / (|a|√2π) for a along the first axis, s ~ N(0, 1)."""
    unit = PointwiseUnit(relu, 2, 1)
    a, b = torch.tensor([[3.0, 0.0]], dtype=torch.float64), torch.tensor([[0.7, -1.3]], dtype=torch.float64)
    population = gaussian_relu_population(unit, b)
    third = 2 * math.sqrt(2 / math.pi)  # E|s|³
    pull = -2 * (1.3 * third / 2) / (3.0 * math.sqrt(2 * math.pi))  # −2c, since b is the teacher
    expected = torch.tensor([[[0.0, 0.0], [0.0, pull]]], dtype=torch.float64)
    close(population.curvature(a, torch.eye(2).double()), expected)


def test_the_coupling_is_the_moment_of_inputs_that_switch_both_units_on():
    z = normal(3, 2, seed=3)
    population = gaussian_relu_population(PointwiseUnit(relu, 2, 1), normal(2, 2), COVARIANCE)
    nodes = circle(100_000)
    on = (nodes.x @ z.mT > 0).double()
    moment = 2 * torch.einsum("b,bi,bj,bk,bl->ikjl", nodes.weight, on, on, nodes.x, nodes.x)
    close(population.coupling(z, torch.eye(2).double()), moment, 1e-3)


@units
def test_runs_and_pieces_change_nothing(unit):
    whole = gaussian_relu_population(unit, normal(3, unit.dim, seed=1), COVARIANCE)
    pieces = replace(whole, pairs=7)
    z, v, axes = normal(5, unit.dim, seed=7), normal(2, 5, unit.dim, seed=8), torch.eye(unit.dim).double()
    close(pieces.risk(z), whole.risk(z), 1e-13)
    close(pieces.gradient(z), whole.gradient(z), 1e-13)
    close(pieces.hessian_product(z, v), whole.hessian_product(z, v))
    close(pieces.curvature(z, axes), whole.curvature(z, axes))
    close(pieces.coupling(z, axes), whole.coupling(z, axes))
    close(whole.risk(v), torch.stack([whole.risk(cloud) for cloud in v]), 1e-13)
    close(whole.gradient(v), torch.stack([whole.gradient(cloud) for cloud in v]), 1e-13)


def test_inputs_on_the_unit_sphere_are_gaussians_of_variance_one_over_dim():
    unit, teacher, z = UNITS["relu(zx)"], normal(3, 4, seed=1), normal(4, 4)
    sphere = sampled_population(vanilla(unit, squared), UnitSphere(2).nodes(20_000), teacher)
    close(gaussian_relu_population(unit, teacher, 0.5).risk(z), sphere.risk(z), 1e-6)


# --- weight vectors of length zero


def test_units_without_input_weights_stay_and_have_no_second_variation():
    unit, teacher = ReLUUnit(2), normal(3, 3, seed=1)
    population = gaussian_relu_population(unit, teacher)
    z = normal(4, 3)
    z[2, 1:] = 0
    sampled = sampled_population(vanilla(unit, squared), circle(1000, torch.eye(2).double()), teacher)
    for exact in (population, sampled):
        assert float(exact.gradient(z)[2].abs().max()) == 0.0
        assert torch.isfinite(exact.gradient(z)).all()
    for question in (population.curvature, population.coupling, population.hessian_product):
        with pytest.raises(ValueError, match="particle 2: it has a weight vector of length zero"):
            question(z, z if question == population.hessian_product else torch.eye(3).double())
    with pytest.raises(ValueError, match="particle 0: it has a weight vector"):
        gaussian_relu_population(UNITS["relu(zx)"], normal(2, 4)).check_smooth(torch.tensor([[1.0, 1, 0, 0]]).double())
    silent = torch.cat([teacher, torch.zeros(1, 3).double()])  # a teacher's may be zero
    close(
        gaussian_relu_population(unit, silent).curvature(z[:2], torch.eye(3).double()),
        gaussian_relu_population(unit, torch.cat([teacher, 0 * teacher[:1]])).curvature(z[:2], torch.eye(3).double()),
    )


def test_where_the_covariance_is_singular_length_is_that_of_the_whitened_vector():
    flat = torch.diag(torch.tensor([1.0, 0.0])).double()
    population = gaussian_relu_population(PointwiseUnit(relu, 2, 1), torch.ones(1, 2).double(), flat)
    unseen = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert population.risk(unseen).item() == pytest.approx(0.5, abs=1e-15)
    with pytest.raises(ValueError, match="length zero"):
        population.check_smooth(unseen)
    tilted = torch.tensor([[9.0, 12.0], [12.0, 16.0]]).double() / 25  # of rank one
    population = gaussian_relu_population(PointwiseUnit(relu, 2, 1), torch.ones(1, 2).double(), tilted)
    unseen = torch.tensor([[4.0, -3.0]], dtype=torch.float64)
    assert population.gradient(unseen).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="length zero"):
        population.check_smooth(unseen)


# --- the flow


def test_the_particle_gradient_is_that_of_the_wide_network():
    a, b = normal(7, seed=1), normal(7, 3, seed=2)
    heads, rows = normal(2, seed=3), normal(2, 3, seed=4)
    covariance = torch.diag(torch.tensor([2.0, 1.0, 0.3])).double()
    fast = velocity(Neurons(a, b), ReLUTeacher(heads, rows), Gaussian(3, covariance))
    teacher = torch.cat([2 * heads.unsqueeze(-1), rows], dim=-1)  # a mean over two units
    population = gaussian_relu_population(ReLUUnit(3), teacher, covariance, scale=0.5)
    gradient = population.gradient(torch.cat([a.unsqueeze(-1), b], dim=-1))
    close(-gradient[:, 0], fast.a)
    close(-gradient[:, 1:], fast.b)


def test_the_flow_loses_energy_and_keeps_the_balance_of_every_neuron():
    population = gaussian_relu_population(ReLUUnit(3), normal(2, 4, seed=1))
    z = normal(6, 4, std=0.5)
    states = population_flow(z, population, times=torch.linspace(0, 5, 11).double()).states
    levels = energy(states, population)
    assert bool((levels.diff() < 0).all())
    assert float(levels[-1]) < 0.5 * float(levels[0])
    balance = states[..., 0].square() - states[..., 1:].square().sum(-1)
    close(balance, balance[:1].expand(11, -1), 1e-6)


def test_strongly_invariant_clouds_stay_strongly_invariant():
    teacher = orbit(normal(3, 4, seed=5), hom(SWAP, SWAP))
    population = gaussian_relu_population(UNITS["relu(zx)"], teacher, torch.tensor([[2.0, 0.5], [0.5, 2.0]]))
    z = project(normal(4, 4, seed=7), SPACE)
    states = population_flow(z, population, times=[1.0, 3.0]).states
    assert float(SPACE.distance(states).max()) < 1e-10
    assert float((states[-1] - z).abs().max()) > 0.1
    uneven = gaussian_relu_population(UNITS["relu(zx)"], teacher, torch.tensor([2.0, 1.0]).diag())
    assert float(SPACE.distance(population_flow(z, uneven, times=[1.0]).states).max()) > 1e-3


# --- leaving E^G


def swapped() -> tuple[Population, torch.Tensor]:
    """Two teachers that the swap exchanges, and students on the diagonal that cannot tell them apart."""
    teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    return gaussian_relu_population(PointwiseUnit(relu, 2, 1), teacher), torch.full((4, 2), 0.3).double()


def test_the_diagonal_is_left_at_the_rate_that_the_report_states():
    """All students at (u, u), teachers at 45° to both sides: their kinks give the curvature −2|t| sin 45°/(π|z|)."""
    population, z = swapped()
    line = fixed_points(SWAP)
    resting = population_flow(z, population, times=[60.0], subspace=line, rtol=1e-12, atol=1e-14).states[0]
    report = transverse_stability(resting, population, line)
    length = float(resting[0].norm())
    curvature = -2 * 2.0 * math.sin(math.pi / 4) / (math.pi * length)
    close(report.local, torch.full((4, 1), curvature, dtype=torch.float64), 1e-9)
    assert report.drift < 1e-9
    assert report.leaves
    assert report.unstable == 3
    assert report.growth == pytest.approx(-curvature, rel=1e-9)  # the coupling acts on the common displacement only
    size, span = 1e-7, 3 / report.growth
    moved = population_flow(resting + size * report.direction, population, times=[span], rtol=1e-11, atol=1e-16).states[
        0
    ]
    measured = math.log(float(line.distance(moved).square().mean().sqrt()) / size) / span
    assert measured == pytest.approx(report.growth, rel=1e-4)


def test_perturbations_carried_along_are_those_of_the_full_flow():
    space, swap = Subspace.from_orbits(torch.tensor([0, 0, 1, 2])), [1, 0, 2, 3]
    rows = normal(3, 4, seed=5)
    population = gaussian_relu_population(PointwiseUnit(relu, 4, 1), torch.cat([rows, rows[:, swap]]), 1.5)
    z, delta = space.project(normal(4, 4, seed=7)), normal(4, 4, seed=9)
    delta = delta - space.project(delta)
    times, size = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), 1e-5
    growth = transverse_growth(z, delta, population, space, times=times)
    options = {"times": times, "rtol": 1e-11, "atol": 1e-14}
    plus, minus = (population_flow(z + s * delta, population, **options).states for s in (size, -size))
    close(growth.perturbations, (plus - minus) / (2 * size), 1e-6)
    assert float((growth.perturbations[-1] - delta).abs().max()) > 0.1


def test_lanczos_agrees_with_the_dense_operator():
    teacher = orbit(normal(3, 4, seed=5), hom(SWAP, SWAP))
    population = gaussian_relu_population(UNITS["relu(zx)"], teacher, 1.5)
    z = project(normal(20, 4, seed=7), SPACE)
    dense = transverse_stability(z, population, SPACE)
    lanczos = transverse_stability(z, population, SPACE, dense=10)
    assert dense.complete
    assert not lanczos.complete
    assert lanczos.lowest == pytest.approx(dense.lowest, abs=1e-9)


def test_only_the_exact_population_answers_for_units_with_a_kink():
    unit, quarter = ReLUUnit(2), Planar(Cyclic(4))
    dead = fixed_points(action(unit, quarter, Trivial(Cyclic(4)), generator=seeded(0)))  # {w = 0}
    teacher = orbit(normal(2, 3, seed=1), action(unit, quarter, Trivial(Cyclic(4)), generator=seeded(0)))
    z = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="length zero"):
        transverse_stability(z, gaussian_relu_population(unit, teacher), dead)
    with pytest.raises(NotImplementedError, match="gaussian_relu_population"):
        transverse_stability(z, sampled_population(vanilla(unit, squared), circle(100), teacher), dead)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_relu_population(PointwiseUnit(erf, 2, 1), normal(1, 2)), "PointwiseUnit\\(relu"),
        (lambda: gaussian_relu_population(HiddenUnit(relu, 2, 1), normal(1, 4)), "bias=False"),
        (lambda: gaussian_erf_population(ReLUUnit(2), normal(1, 3)), "PointwiseUnit\\(erf"),
        (lambda: gaussian_relu_population(ReLUUnit(2), normal(1, 2)), "expected a cloud"),
        (lambda: gaussian_relu_population(ReLUUnit(2), normal(1, 3), -COVARIANCE), "positive semi-definite"),
        (lambda: gaussian_relu_population(ReLUUnit(2), normal(1, 3), scale=0.0), "positive scale"),
        (lambda: gaussian_relu_population(ReLUUnit(2), math.nan * normal(1, 3)), "finite teacher"),
        (lambda: gaussian_relu_population(ReLUUnit(2), normal(1, 3)).risk(torch.zeros(2, 3)), "float64"),
    ],
)
def test_misfits_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
