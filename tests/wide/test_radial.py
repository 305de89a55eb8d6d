"""The one-angle reduction of the flow for ‖x_H‖: kernel table, dynamics, reference values."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.ode import heun
from symfield.typing import Tensor
from symfield.wide import (
    AngleCloud,
    Gaussian,
    Radial,
    UnitSphere,
    arc_cosine,
    crossing_time,
    direct_radial_kernel,
    frame_directions,
    lift_angles,
    predict,
    radial_flow,
    radial_kernel,
    radial_mass,
    radial_risk,
    reduce,
    sphere_angles,
    to_angles,
)
from symfield.wide.rotations import coordinate_nodes, half_nodes, mean_absolute

HALF = math.pi / 2
DIMENSIONS = [(30, 1), (30, 2), (30, 5), (30, 29), (30, 30), (10, 9), (6, 3), (5, 1), (4, 3), (4, 2), (3, 1), (3, 2)]


def angles(count: int, seed: int = 0) -> Tensor:
    drawn = random.uniform((count,), generator=random.generator(seed), like=torch.zeros(1, dtype=torch.float64))
    return torch.cat([torch.tensor([0.0, 1e-6, 1e-2, HALF - 1e-2, HALF], dtype=torch.float64), HALF * drawn])


# ---------------------------------------------------------------------------------------------------------- kernel


@pytest.mark.parametrize(("dim", "subspace_dim"), DIMENSIONS)
def test_the_table_is_the_quadrature_of_the_kernel(dim: int, subspace_dim: int) -> None:
    kernel = radial_kernel(dim, subspace_dim)
    theta, other = angles(40), angles(40, 1)
    other[:10] = theta[:10]  # coincident angles, where the kernel is least smooth
    pairs = kernel(theta, other).diagonal()
    exact = direct_radial_kernel(dim, subspace_dim, theta, other, order=160)
    assert float((pairs - exact).abs().max()) < 1e-11
    assert kernel.error < 1e-11


def test_the_table_reports_its_error_where_the_kernel_has_a_kink() -> None:
    kernel = radial_kernel(2, 1)  # in the plane K is elementary, with a term |θ - θ'|³
    theta, other = angles(60), angles(60, 1)
    other[:20] = theta[:20]
    u, v = (torch.stack([t.cos(), t.sin()], -1) for t in (theta, other))
    turned = [arc_cosine(u, v * torch.tensor(s).double()).diagonal() for s in ([1, 1], [1, -1], [-1, 1], [-1, -1])]
    error = float((kernel(theta, other).diagonal() - sum(turned) / 4).abs().max())
    assert error < 1e-9
    assert kernel.error > error / 10


def test_the_averaged_kernel_is_the_arc_cosine_kernel_averaged_over_rotated_neurons() -> None:
    turns = (torch.arange(300, dtype=torch.float64) + 0.5) * (2 * math.pi / 300)
    ring = torch.stack([turns.cos(), turns.sin()], -1)
    for theta, other in ((0.3, 1.1), (0.7, 0.7), (0.0, 0.4), (HALF, 1.0)):
        u = torch.tensor([[math.cos(theta), 0.0, math.sin(theta), 0.0]], dtype=torch.float64)
        v = torch.cat(
            [
                (math.cos(other) * ring).repeat_interleave(300, 0),
                (math.sin(other) * ring).repeat(300, 1),
            ],
            -1,
        )
        t = torch.tensor([theta, other], dtype=torch.float64)
        assert float(arc_cosine(u, v).mean() - radial_kernel(4, 2)(t[:1], t[1:])) == pytest.approx(0, abs=2e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 13, 40, 1000, 100_000])
def test_nodes_of_one_coordinate_of_the_sphere_have_its_moments(n: int) -> None:
    q, weight = coordinate_nodes(n, 60)
    moments = [float(weight @ q**k) for k in (0, 1, 2, 4)]
    assert moments == pytest.approx([1, 0, 1 / n, 3 / (n * (n + 2))], abs=1e-12)
    q, weight = half_nodes(n, 64)
    assert float(weight @ q) * radial_mass(n) == pytest.approx(2, abs=1e-11 if n <= 1000 else 1e-9)  # α E relu(q) = 1


def test_mean_absolute_value_is_the_quadrature() -> None:
    p, q = (
        torch.tensor([0.0, 0.3, -0.8, 2.0, 0.5, 0.5]).double(),
        torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, -0.6]).double(),
    )
    for n in (1, 3, 4, 17):
        s, weight = coordinate_nodes(n, 800)
        assert torch.allclose(mean_absolute(p, q, n), (p[:, None] + q[:, None] * s).abs() @ weight, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("subspace_dim", "mass"), [(1, 2.0), (2, math.pi), (5, 16 / 3), (10, 7.731343), (20, 11.0708)])
def test_mass_in_the_subspace_that_represents_its_norm(subspace_dim: int, mass: float) -> None:
    tolerance = 1e-12 if subspace_dim <= 5 else 1e-4
    assert radial_mass(subspace_dim) == pytest.approx(mass, abs=tolerance)
    kernel, zero = radial_kernel(30, subspace_dim), torch.zeros(1, dtype=torch.float64)
    assert kernel.mass**2 * kernel(zero, zero).item() == pytest.approx(subspace_dim, abs=1e-10)  # E‖x_H‖²


def test_forces_are_derivatives_of_the_kernel_and_vanish_at_both_ends() -> None:
    kernel, theta = radial_kernel(30, 5), angles(20)
    weights = random.normal(theta.shape, generator=random.generator(3), like=theta)
    value, slope = kernel.potential(theta, weights)
    zero = torch.zeros(1, dtype=torch.float64)
    expected = kernel.mass * kernel(theta, zero)[:, 0] - kernel(theta, theta) @ weights
    assert torch.allclose(value, expected, atol=1e-12)
    h = 1e-4
    central = (kernel.potential(theta + h, weights)[0] - kernel.potential(theta - h, weights)[0]) / (2 * h)
    # differences move the neurons as well as the point; undo the former by the symmetry of K
    moved = (kernel(theta, theta + h) - kernel(theta, theta - h)) @ weights / (2 * h)
    inside = (theta > h) & (theta < HALF - h)
    assert torch.allclose(slope[inside], (central + moved)[inside], atol=1e-5)
    assert slope[theta == 0].tolist() == [0.0]
    assert slope[theta == HALF].tolist() == [0.0]


def test_angles_that_leave_the_quarter_circle_are_reflected() -> None:
    kernel = radial_kernel(30, 5)
    theta = torch.tensor([0.2, 1.5], dtype=torch.float64)
    weights = torch.tensor([1.0, -0.4], dtype=torch.float64)
    value, slope = kernel.potential(theta, weights)
    outside = torch.tensor([-0.2, math.pi - 1.5], dtype=torch.float64)
    reflected = kernel.potential(outside, weights)
    assert torch.allclose(reflected[0], value, atol=1e-13)
    assert torch.allclose(reflected[1], -slope, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ flow

#: t: risk, mass of τ⁺, mass of τ⁻, mean angle of τ⁺, W2(τ⁺, δ_0), W2(τ⁻, δ_{π/2}); d = 30, d_H = 5, by another program
REFERENCE = {
    0: (2.5, 0.5, 0.5, 1.1648, 1.1717, 0.4254),
    1: (1.105, 2.089, 0.1207, 1.0992, 1.1082, 0.3655),
    2: (0.2619, 4.271, 0.0604, 1.0303, 1.0419, 0.3153),
    5: (0.0869, 5.471, 0.0529, 0.8397, 0.8582, 0.2176),
    10: (0.0327, 5.505, 0.0663, 0.6152, 0.6398, 0.1433),
    30: (0.0026, 5.491, 0.1152, 0.3196, 0.3431, 0.0743),
}


def statistics(cloud: AngleCloud, target: Radial) -> Tensor:
    parts = (
        radial_risk(cloud, target, Gaussian(target.dim)), cloud.total(1), cloud.total(-1), cloud.mean_angle(1),
        cloud.distance(1, 0.0), cloud.distance(-1, HALF),
    )  # fmt: skip
    return torch.stack(parts, -1)


def test_reference_values_of_the_reduced_flow() -> None:
    target = Radial(30, 5)
    path = radial_flow(sphere_angles(200, 30, 5), target, Gaussian(30), times=list(map(float, REFERENCE)))
    expected = torch.tensor(list(REFERENCE.values()), dtype=torch.float64)
    assert torch.allclose(statistics(path.clouds, target), expected, rtol=0.01, atol=0)


def test_the_first_time_above_the_target_mass() -> None:
    target = Radial(30, 5)
    start, times = sphere_angles(200, 30, 5), torch.arange(0.0, 8.0, 0.5)
    path = radial_flow(start, target, Gaussian(30), times=times, dense=True)
    first = crossing_time(path, target)
    assert 3.35 < float(first) < 3.55
    assert float(path.at(float(first)).total(1)) == pytest.approx(radial_mass(5), abs=1e-5)
    short = radial_flow(start, target, Gaussian(30), times=[0.0, 1.0], dense=True)
    assert math.isinf(crossing_time(short, target))


@pytest.mark.parametrize("subspace_dim", [1, 2, 5, 10, 30])
def test_balanced_signs_start_at_half_the_energy(subspace_dim: int) -> None:
    target = Radial(30, subspace_dim)
    cloud = sphere_angles(200, 30, subspace_dim)
    assert float(radial_risk(cloud, target, Gaussian(30))) == pytest.approx(subspace_dim / 2, abs=1e-10)
    assert float(radial_risk(cloud, target, UnitSphere(30))) == pytest.approx(subspace_dim / 60, abs=1e-11)


@pytest.mark.parametrize("subspace_dim", [2, 5, 10])
def test_positive_neurons_have_turned_to_the_subspace_at_time_thirty(subspace_dim: int) -> None:
    target = Radial(30, subspace_dim)
    path = radial_flow(sphere_angles(200, 30, subspace_dim), target, Gaussian(30), times=[0.0, 30.0])
    start, end = path.clouds.alignment(1).tolist()
    assert start == pytest.approx(subspace_dim / 30, abs=2e-3)
    assert end >= 0.88


def test_at_first_positive_neurons_move_towards_the_subspace_and_negative_ones_away() -> None:
    kernel, cloud = radial_kernel(30, 5), sphere_angles(100, 30, 5)
    _, slope = kernel.potential(cloud.angle, cloud.signed)
    assert bool((slope < 0).all())


def test_the_risk_falls_at_the_rate_of_the_squared_velocity() -> None:
    target, inputs = Radial(12, 3), Gaussian(12, 0.7)
    start = sphere_angles(50, 12, 3, generator=random.generator(0))
    h = 1e-3
    before, now, after = (radial_flow(start, target, inputs, times=[1.0 - h, 1.0, 1.0 + h]).clouds[i] for i in range(3))
    slope = (radial_risk(after, target, inputs) - radial_risk(before, target, inputs)) / (2 * h)
    value, derivative = radial_kernel(12, 3).potential(now.angle, now.signed)
    rate = (0.7**2 * now.mass * (2 * value.square() + derivative.square())).sum()
    assert float(slope) == pytest.approx(-float(rate), rel=1e-5)


def test_on_the_unit_sphere_time_runs_slower_by_the_dimension() -> None:
    target, start = Radial(20, 3), sphere_angles(40, 20, 3)
    fast = radial_flow(start, target, Gaussian(20), times=[3.0]).clouds
    slow = radial_flow(start, target, UnitSphere(20), times=[60.0]).clouds
    assert torch.allclose(fast.mass, slow.mass, atol=1e-9)
    assert torch.allclose(fast.angle, slow.angle, atol=1e-7)


def test_neurons_in_the_subspace_and_orthogonal_to_it_stay_there() -> None:
    mass = torch.tensor([0.5, 0.5, 0.3, 0.0], dtype=torch.float64)
    angle = torch.tensor([0.0, HALF, 1.0, 0.4], dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    end = radial_flow(AngleCloud(mass, angle, sign), Radial(8, 2), Gaussian(8), times=[20.0]).clouds[-1]
    assert end.angle[:2].tolist() == [0.0, HALF]
    assert bool(torch.isfinite(end.mass).all())
    assert float(end.mass[3]) == 0.0
    assert float(end.mass[0]) > 0.5


def test_with_the_whole_space_as_subspace_only_the_mass_moves() -> None:
    target, start = Radial(6, 6), sphere_angles(10, 6, 6)
    path = radial_flow(start, target, Gaussian(6), times=[0.0, 30.0])
    assert bool((path.clouds.angle == 0).all())
    net = path.clouds.total(1) - path.clouds.total(-1)
    assert float(net[-1]) == pytest.approx(radial_mass(6), rel=1e-6)
    assert float(radial_risk(path.clouds, target, Gaussian(6))[-1]) < 1e-9


def test_runs_do_not_see_one_another() -> None:
    target, method = Radial(9, 4), heun(0.1)
    both = sphere_angles(20, 9, 4, generator=random.generator(1), runs=(2,))
    together = radial_flow(both, target, Gaussian(9), times=[0.0, 2.0], method=method).clouds
    alone = radial_flow(both[1], target, Gaussian(9), times=[0.0, 2.0], method=method).clouds
    assert torch.allclose(together.mass[:, 1], alone.mass, atol=1e-13)
    assert torch.allclose(together.angle[:, 1], alone.angle, atol=1e-13)
    assert radial_risk(together, target, Gaussian(9)).shape == (2, 2)


def test_initial_angles_are_the_quantiles_and_draws_of_one_law() -> None:
    drawn = sphere_angles(20_000, 10, 3, generator=random.generator(2))
    exact = sphere_angles(20_000, 10, 3)
    assert float((drawn.angle.sort().values - exact.angle.sort().values).abs().max()) < 0.15
    assert drawn.alignment(1).item() == pytest.approx(0.3, abs=0.005)
    assert exact.alignment(-1).item() == pytest.approx(0.3, abs=1e-4)


# ------------------------------------------------------------------------------------------------------ predictions


def test_the_mass_alpha_in_the_subspace_is_the_norm() -> None:
    one = torch.ones(1, dtype=torch.float64)
    x = random.normal((7, 9), generator=random.generator(0), like=one)
    for subspace_dim in (1, 2, 4, 9):
        cloud = AngleCloud(radial_mass(subspace_dim) * one, 0 * one, one)
        assert torch.allclose(cloud.predict(x, subspace_dim), x[:, :subspace_dim].norm(dim=-1), atol=1e-11)


def test_the_predictor_of_angles_is_the_mean_over_lifted_networks() -> None:
    cloud = sphere_angles(6, 7, 3, generator=random.generator(4))
    cloud = AngleCloud(cloud.mass * torch.arange(1, 13), cloud.angle, cloud.sign)
    x = random.normal((5, 7), generator=random.generator(0), like=cloud.mass)
    runs = AngleCloud(*(part.expand(400, 12) for part in (cloud.mass, cloud.angle, cloud.sign)))
    lifted = lift_angles(runs, 7, 3, generator=random.generator(5), copies=24, directions=frame_directions)
    values = predict(lifted, x)
    error = values.std(0) / math.sqrt(400)
    assert bool(((values.mean(0) - cloud.predict(x, 3)).abs() < 5 * error).all())
    assert float(error.max()) < 0.02


def test_the_predictor_overshoots_off_the_subspace_and_then_forgets_it() -> None:
    target, inputs = Radial(20, 5), Gaussian(20)
    path = radial_flow(sphere_angles(200, 20, 5), target, inputs, times=[1.0, 3.5, 5.0, 10.0, 50.0])
    x = torch.zeros(3, 20, dtype=torch.float64)
    x[:, 0], x[:, 7] = 1.0, torch.tensor([0.0, 2.53, 5.0]).double()
    expected = torch.tensor(
        [
            [0.207, 0.479, 0.879],
            [0.679, 1.208, 2.087],
            [0.752, 1.196, 1.987],
            [0.871, 1.122, 1.652],
            [0.996, 1.015, 1.118],
        ]
    ).double()
    assert torch.allclose(path.clouds.predict(x, 5), expected, rtol=0.01)


def test_angles_survive_lifting_and_reducing() -> None:
    cloud = sphere_angles(8, 7, 3, generator=random.generator(0))
    lifted = lift_angles(cloud, 7, 3, generator=random.generator(1), copies=2)
    back = to_angles(reduce(lifted, 3))
    assert torch.allclose(back.mass, cloud.mass.repeat_interleave(2) / 2, atol=1e-15)
    assert torch.allclose(back.angle, cloud.angle.repeat_interleave(2), atol=1e-13)
    assert torch.equal(back.sign, cloud.sign.repeat_interleave(2))


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("subspace_dim", [0, 31])
def test_subspaces_that_do_not_fit_are_refused(subspace_dim: int) -> None:
    with pytest.raises(ValueError, match="1 <= d_H <= d"):
        sphere_angles(10, 30, subspace_dim)
    with pytest.raises(ValueError, match="1 <= d_H <= d"):
        radial_kernel(30, subspace_dim)


def test_bad_clouds_inputs_and_times_are_refused() -> None:
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="masses >= 0"):
        AngleCloud(-one, 0 * one, one)
    with pytest.raises(ValueError, match=r"angles with the subspace in"):
        AngleCloud(one, 2 * one, one)
    with pytest.raises(ValueError, match="signs"):
        AngleCloud(one, one, 0 * one)
    with pytest.raises(ValueError, match="one shape"):
        AngleCloud(one, one, torch.ones(2).double())
    cloud = sphere_angles(4, 3, 1)
    anisotropic = Gaussian(3, torch.tensor([1.0, 2.0, 2.0]))
    with pytest.raises(ValueError, match="use low_dimensional_flow"):
        radial_flow(cloud, Radial(3, 1), anisotropic, times=[1.0])
    with pytest.raises(ValueError, match="dimension 3"):
        radial_risk(cloud, Radial(3, 1), Gaussian(4))
    with pytest.raises(ValueError, match="dense=True"):
        radial_flow(cloud, Radial(3, 1), Gaussian(3), times=[1.0]).at(0.5)
    with pytest.raises(ValueError, match="sign 1 or -1"):
        cloud.total(0)
    with pytest.raises(ValueError, match="n >= 1"):
        sphere_angles(0, 3, 1)


# ------------------------------------------------------------------------------------------------------------- slow


@pytest.mark.slow
def test_time_steps_and_number_of_angles_hardly_matter() -> None:
    target, times = Radial(30, 5), [0.0, 1.0, 5.0, 30.0, 100.0]
    coarse = radial_flow(sphere_angles(200, 30, 5), target, Gaussian(30), times=times).clouds
    for cloud in (
        radial_flow(sphere_angles(2000, 30, 5), target, Gaussian(30), times=times).clouds,
        radial_flow(sphere_angles(200, 30, 5), target, Gaussian(30), times=times, method=heun(0.1)).clouds,
    ):
        assert torch.allclose(statistics(cloud, target), statistics(coarse, target), rtol=0.005, atol=0)


@pytest.mark.slow
def test_negative_mass_is_still_there_at_time_one_thousand() -> None:
    target = Radial(30, 5)
    end = radial_flow(sphere_angles(200, 30, 5), target, Gaussian(30), times=[1000.0]).clouds[-1]
    assert float(end.total(1)) == pytest.approx(5.4816, rel=2e-3)
    assert float(end.total(-1)) == pytest.approx(0.1488, rel=0.02)
    assert float(end.mean_angle(1)) == pytest.approx(0.138, rel=0.01)


@pytest.mark.slow
def test_masses_over_dimensions_of_the_subspace() -> None:
    """Against the table of the authors' code at d = 40 after 2000 steps, which is t = 10."""
    for subspace_dim, plus, minus in (
        (2, 3.408, 0.1126), (5, 5.478, 0.0630), (10, 7.823, 0.0403), (20, 11.139, 0.0256), (35, 14.791, 0.0165),
    ):  # fmt: skip
        start = sphere_angles(200, 40, subspace_dim)
        end = radial_flow(start, Radial(40, subspace_dim), Gaussian(40), times=[10.0]).clouds[-1]
        assert float(end.total(1)) == pytest.approx(plus, rel=0.01)
        assert float(end.total(-1)) == pytest.approx(minus, rel=0.08)
