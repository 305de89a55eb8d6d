"""The reduced flow in (a, b_H, ρ): against lifted clouds, full networks, the one-angle flow and closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from symfield import random
from symfield.ode import heun
from symfield.typing import Generator, Tensor
from symfield.wide import (
    Gaussian,
    Neurons,
    Radial,
    Reduced,
    ReLUTeacher,
    SampledTarget,
    SubspaceTarget,
    Target,
    UnitSphere,
    antipodal_directions,
    frame_directions,
    independent_directions,
    lift,
    lift_angles,
    low_dimensional_flow,
    predict,
    radial_flow,
    radial_kernel,
    radial_risk,
    reduce,
    reduced_predict,
    reduced_risk,
    reduced_velocity,
    risk,
    sphere_angles,
    sphere_neurons,
    sphere_reduced,
    to_angles,
    velocity,
    wide_flow,
)
from symfield.wide.neurons import require_neurons
from symfield.wide.reduced_neurons import require_reduced
from symfield.wide.rotations import Directions

LIKE = torch.zeros(1, dtype=torch.float64)


def cloud(m: int, subspace_dim: int, *, runs: Sequence[int] = (), seed: int = 0) -> Reduced:
    """Unbalanced neurons in general position, with |b| > |a| so that no b reaches zero."""
    streams = random.split(random.generator(seed), 3)
    a = random.uniform((*runs, m), generator=streams[0], like=LIKE, low=-0.9, high=0.9)
    b = random.normal((*runs, m, subspace_dim), generator=streams[1], like=LIKE)
    return Reduced(a, b, random.uniform((*runs, m), generator=streams[2], like=LIKE, low=1.0, high=1.5))


def sums(dim: int, subspace_dim: int) -> ReLUTeacher:
    """|x_1| + ... over the subspace."""
    return ReLUTeacher.absolute_values(torch.ones(subspace_dim).double(), torch.eye(subspace_dim, dim).double())


def ridge(dim: int) -> ReLUTeacher:
    return ReLUTeacher(torch.ones(1).double(), torch.eye(1, dim).double())


def circle(shape: Sequence[int], copies: int, n: int, _generator: Generator, like: Tensor) -> Tensor:
    """Equally spaced directions in the plane."""
    assert n == 2
    turn = torch.arange(copies).to(like) * (2 * math.pi / copies)
    return torch.stack([turn.cos(), turn.sin()], -1).expand(*shape, copies, 2)


# -------------------------------------------------------------------------------------------------------- velocity


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        (sums(3, 2), Gaussian(3)),
        (Radial(3, 2), UnitSphere(3)),
        (sums(3, 2), Gaussian(3, torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.3]]))),
    ],
)
def test_one_dimension_off_the_subspace_is_reduced_exactly(target: Target, inputs: Gaussian | UnitSphere) -> None:
    reduced = cloud(9, 2, runs=(2,))
    full = lift(reduced, 3, generator=random.generator(1), copies=2, directions=antipodal_directions)
    moving, expected = reduced_velocity(reduced, target, inputs), velocity(full, target, inputs)
    side = full.b[..., 2].sign()
    for found, wanted in (
        (moving.a, expected.a),
        (moving.b, expected.b[..., :2]),
        (moving.rho, expected.b[..., 2] * side),
    ):
        assert torch.allclose(found.repeat_interleave(2, dim=1), wanted, atol=1e-13)
    assert torch.allclose(reduced_risk(reduced, target, inputs), risk(full, target, inputs), atol=1e-13)


def test_two_dimensions_off_the_subspace_are_reduced_by_the_nodes() -> None:
    reduced, target, inputs = cloud(5, 3), Radial(5, 3), Gaussian(5, torch.tensor([1.0, 1.0, 1.0, 0.4, 0.4]))
    full = lift(reduced, 5, generator=random.generator(0), copies=256, directions=circle)
    expected = velocity(full, target, inputs)
    moving = reduced_velocity(reduced, target, inputs, order=64)
    outwards = full.b[:, 3:] / full.b[:, 3:].norm(dim=-1, keepdim=True)
    assert torch.allclose(expected.a, moving.a.repeat_interleave(256), atol=1e-7)
    assert torch.allclose(expected.b[:, :3], moving.b.repeat_interleave(256, 0), atol=1e-5)
    assert torch.allclose((expected.b[:, 3:] * outwards).sum(-1), moving.rho.repeat_interleave(256), atol=1e-5)
    assert float(reduced_risk(reduced, target, inputs)) == pytest.approx(float(risk(full, target, inputs)), abs=1e-8)


def test_the_reduced_field_is_the_full_field_averaged_over_lifts() -> None:
    runs, copies = 500, 12
    reduced, target, inputs = cloud(4, 2), sums(8, 2), Gaussian(8)
    many = Reduced(*(part.expand(runs, *part.shape) for part in reduced))
    probe = torch.tensor([0.6, -0.3, 0.8, 0, 0, 0, 0, 0], dtype=torch.float64)  # (b_H, ρ) = ((0.6, -0.3), 0.8)
    full = lift(many, 8, generator=random.generator(7), copies=copies, directions=frame_directions)
    with_probe = Neurons(
        torch.cat([full.a, torch.full((runs, 1), 1e-12).double()], 1),
        torch.cat([full.b, probe.expand(runs, 1, 8)], 1),
    )
    count = 4 * copies
    scaled = Neurons(with_probe.a * (count + 1) / count, with_probe.b)  # the probe weighs nothing
    moved = velocity(scaled, target, inputs)
    samples = torch.cat([moved.a[:, -1:], moved.b[:, -1, :3] / scaled.a[:, -1:]], 1)
    alone = Reduced(
        torch.cat([reduced.a * 5 / 4, torch.full((1,), 1e-12).double()]),
        torch.cat([reduced.b, probe[None, :2]]),
        torch.cat([reduced.rho, probe[2:3]]),
    )
    exact = reduced_velocity(alone, target, inputs)
    expected = torch.cat([exact.a[-1:], exact.b[-1] / alone.a[-1], exact.rho[-1:] / alone.a[-1]])
    error = samples.std(0) / math.sqrt(runs)
    assert bool(((samples.mean(0) - expected).abs() < 5 * error).all())
    assert float(error.max()) < 0.01


def test_without_a_dimension_off_the_subspace_nothing_is_reduced() -> None:
    inputs, target = Gaussian(2, torch.tensor([2.0, 1.0])), sums(2, 2)
    neurons = Neurons(*(part for part in cloud(7, 2)[:2]))
    reduced = Reduced(*neurons, torch.zeros(7, dtype=torch.float64))
    moving, expected = reduced_velocity(reduced, target, inputs), velocity(neurons, target, inputs)
    assert torch.allclose(moving.a, expected.a, atol=1e-14)
    assert torch.allclose(moving.b, expected.b, atol=1e-14)
    assert bool((moving.rho == 0).all())


def test_the_velocity_is_the_gradient_of_the_reduced_risk() -> None:
    reduced, target, inputs = cloud(6, 2), sums(12, 2), Gaussian(12)
    moving = reduced_velocity(reduced, target, inputs)
    h = 1e-5
    for name, slope in moving._asdict().items():
        part = getattr(reduced, name)
        for index in ([2], [5]):
            place = (index[0], 1) if name == "b" else (index[0],)
            shift = torch.zeros_like(part)
            shift[place] = h
            up, down = (
                float(reduced_risk(reduced._replace(**{name: part + sign * shift}), target, inputs)) for sign in (1, -1)
            )
            assert float(slope[place]) == pytest.approx(-6 * (up - down) / (2 * h), abs=1e-6)


def test_fewer_nodes_than_the_default_already_agree() -> None:
    for dim in (5, 8, 12, 20, 40):
        reduced, target, inputs = cloud(6, 2), sums(dim, 2), Gaussian(dim)
        default, fine = (reduced_velocity(reduced, target, inputs, order=order) for order in (None, 100))
        for one, other in zip(default, fine, strict=True):
            assert torch.allclose(one, other, atol=1e-8)


# ------------------------------------------------------------------------------------------------- radial targets


def test_on_radial_targets_the_reduction_is_the_one_angle_field() -> None:
    angles = sphere_angles(8, 30, 1, generator=random.generator(0))
    both = torch.tensor([1.0, -1.0], dtype=torch.float64)
    a, theta = angles.sign.repeat_interleave(2), angles.angle.repeat_interleave(2)
    reduced = Reduced(a, (theta.cos() * both.repeat(16)).unsqueeze(-1), theta.sin())
    moving = reduced_velocity(reduced, Radial(30, 1), Gaussian(30))
    value, slope = radial_kernel(30, 1).potential(theta, a / len(a))
    assert torch.allclose(moving.a, value, atol=1e-9)
    turned = moving.rho * theta.cos() - moving.b[:, 0] * both.repeat(16) * theta.sin()
    assert torch.allclose(turned, a * slope, atol=1e-9)


def test_both_reductions_follow_the_same_flow() -> None:
    target, inputs, times = Radial(30, 1), Gaussian(30), [0.0, 1.0, 4.0]
    start = sphere_reduced(80, 30, 1)
    long = low_dimensional_flow(start, target, inputs, times=times)
    short = radial_flow(to_angles(start), target, inputs, times=times)
    found = to_angles(long.neurons)
    assert torch.allclose(found.mass, short.clouds.mass, rtol=1e-7)
    assert torch.allclose(found.angle, short.clouds.angle, atol=1e-7)
    risks = reduced_risk(long.neurons, target, inputs), radial_risk(short.clouds, target, inputs)
    assert torch.allclose(*risks, atol=1e-9)


# ------------------------------------------------------------------------------------------------------------ flow


def test_invariants_of_the_flow() -> None:
    start = cloud(8, 2)
    path = low_dimensional_flow(start, sums(6, 2), Gaussian(6), times=[0.0, 2.0], dense=True)
    gap = path.neurons.a.square() - path.neurons.b.square().sum(-1) - path.neurons.rho.square()
    assert torch.allclose(gap[1], gap[0], atol=1e-7)
    risks = reduced_risk(path.neurons, sums(6, 2), Gaussian(6))
    assert float(risks[1]) < 0.5 * float(risks[0])
    middle = reduced_risk(path.at(1.0), sums(6, 2), Gaussian(6))
    assert float(risks[1]) < float(middle) < float(risks[0])


def test_neurons_in_the_subspace_or_dead_stay_so_and_all_are_safe() -> None:
    a = torch.tensor([1.0, -1.0, 0.5, 1.0], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-0.6, 0.1]], dtype=torch.float64)
    rho = torch.tensor([0.0, 1.0, 0.0, 0.7], dtype=torch.float64)
    path = low_dimensional_flow(Reduced(a, b, rho), sums(7, 2), Gaussian(7), times=[5.0], method=heun(0.1))
    end = path.neurons
    assert bool(torch.isfinite(end.b).all() and torch.isfinite(end.rho).all())
    assert float(end.rho[0, 0]) == 0.0  # stays in H
    assert bool((end.rho[0, [1, 3]] > 0).all())
    assert end.b[0, 2].tolist() == [0.0, 0.0]  # dead
    assert float(end.rho[0, 2]) == 0.0


def test_neurons_that_a_singular_covariance_does_not_show_rest_as_in_the_full_flow() -> None:
    flat = Gaussian(7, torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).double())
    a, rho = torch.tensor([1.0, 0.5]).double(), torch.tensor([1.0, 0.3]).double()
    unseen = Reduced(a, torch.tensor([[0.0, 0.0], [1.0, 0.2]]).double(), rho)
    moving = reduced_velocity(unseen, sums(7, 2), flat)
    assert (moving.a[0].item(), moving.b[0].tolist(), moving.rho[0].item()) == (0.0, [0.0, 0.0], 0.0)
    full = torch.cat([unseen.b, rho.unsqueeze(-1), torch.zeros(2, 4).double()], dim=-1)
    exact = velocity(Neurons(a, full), sums(7, 2), flat)
    assert torch.allclose(moving.b, exact.b[:, :2], atol=1e-14)


def test_runs_are_independent_and_the_dtype_stays() -> None:
    both = cloud(6, 2, runs=(3,))
    path = low_dimensional_flow(both, sums(6, 2), Gaussian(6), times=[1.0], method=heun(0.1))
    last = Reduced(*(part[2] for part in both))
    alone = low_dimensional_flow(last, sums(6, 2), Gaussian(6), times=[1.0], method=heun(0.1))
    assert torch.allclose(path.neurons.b[0, 2], alone.neurons.b[0], atol=1e-13)
    single = Reduced(*(part.float() for part in both))
    moving = reduced_velocity(single, sums(6, 2), Gaussian(6))
    assert {part.dtype for part in moving} == {torch.float32}
    assert torch.allclose(moving.b.double(), reduced_velocity(both, sums(6, 2), Gaussian(6)).b, atol=1e-5)


@pytest.mark.parametrize("subspace_dim", [1, 2, 3, 6])
def test_evenly_spread_neurons_cancel_and_have_uniform_moments(subspace_dim: int) -> None:
    start = sphere_reduced(400, 6, subspace_dim)
    x = random.normal((5, 6), generator=random.generator(0), like=LIKE)
    assert float(reduced_predict(start, x).abs().max()) < 1e-13
    moments = start.b.mT @ start.b / 400
    assert float((moments - torch.eye(subspace_dim) / 6).abs().max()) < 0.015
    drawn = sphere_reduced(20_000, 6, subspace_dim, generator=random.generator(1))
    assert float((drawn.b.mT @ drawn.b / 20_000 - torch.eye(subspace_dim) / 6).abs().max()) < 0.01


# ------------------------------------------------------------------------------------------------- lift and reduce


@pytest.mark.parametrize("directions", [independent_directions, antipodal_directions, frame_directions])
def test_reducing_undoes_lifting(directions: Directions) -> None:
    reduced = cloud(5, 2, runs=(3,))
    full = lift(reduced, 6, generator=random.generator(0), copies=8, directions=directions)
    assert full.b.shape == (3, 40, 6)
    for found, expected in zip(reduce(full, 2), reduced, strict=True):
        assert torch.allclose(found, expected.repeat_interleave(8, dim=1), atol=1e-14)


def test_frames_have_exact_second_moments_and_every_rule_is_uniform() -> None:
    for directions in (independent_directions, antipodal_directions, frame_directions):
        w = directions((4000,), 6, 3, random.generator(0), LIKE)
        assert float((w.flatten(0, 1).mT @ w.flatten(0, 1) / 24_000 - torch.eye(3) / 3).abs().max()) < 0.01
        fourth = float(w[:, 0, 0].pow(4).mean())  # of one direction: 3/(n(n+2))
        assert fourth == pytest.approx(0.2, abs=0.02)
    assert torch.allclose(w.mT @ w / 6, torch.eye(3).double() / 3, atol=1e-14)


def test_the_reduced_predictor_is_the_mean_over_lifts() -> None:
    reduced = cloud(5, 2)
    x = random.normal((6, 5), generator=random.generator(3), like=LIKE)
    many = Reduced(*(part.expand(600, *part.shape) for part in reduced))
    values = predict(lift(many, 5, generator=random.generator(4), copies=6, directions=frame_directions), x)
    error = values.std(0) / math.sqrt(600)
    assert bool(((values.mean(0) - reduced_predict(reduced, x)).abs() < 5 * error).all())
    exact = lift(reduced, 3, generator=random.generator(4), copies=2, directions=antipodal_directions)
    assert torch.allclose(predict(exact, x[:, :3]), reduced_predict(reduced, x[:, :3]), atol=1e-14)


# ------------------------------------------------------------------------------------------------ any function of H


def test_one_point_is_an_input_too() -> None:
    x, reduced, angles = torch.ones(5).double(), sphere_reduced(8, 5, 2), sphere_angles(4, 5, 2)
    assert reduced_predict(reduced, x).shape == angles.predict(x, 2).shape == ()
    assert angles.predict(x, 2).item() == pytest.approx(angles.predict(x[None], 2)[0].item(), abs=1e-15)


def test_the_square_of_a_coordinate_has_its_closed_form() -> None:
    target, inputs = SubspaceTarget(lambda x: x[..., 0].square(), 9, Gaussian(1).nodes(60)), Gaussian(9)
    b = random.normal((8, 9), generator=random.generator(0), like=LIKE)
    value, gradient = target.force(b, inputs)
    # E z_1² relu<b, z> = |b| (1 + cos²)/√(2π)
    leaf = b.clone().requires_grad_()
    length = leaf.norm(dim=-1)
    exact = (length + leaf[:, 0].square() / length) / math.sqrt(2 * math.pi)
    (slope,) = torch.autograd.grad(exact.sum(), leaf)
    assert torch.allclose(value, exact, atol=1e-9)
    assert torch.allclose(gradient, slope, atol=1e-7)
    assert target.energy(inputs) == pytest.approx(3, abs=1e-12)


def test_functions_of_the_subspace_see_the_covariances_of_both_parts() -> None:
    s = torch.tensor([[1.5, 0.3, 0.0, 0.0], [0.3, 0.8, 0.0, 0.0], [0.0, 0.0, 0.5, 0.2], [0.0, 0.0, 0.2, 1.0]]).double()
    nodes = Gaussian(2, s[:2, :2]).nodes(2500)
    function = lambda x: (x[..., 0] - 0.5 * x[..., 1]).cos() + x[..., 1]  # noqa: E731
    target, inputs = SubspaceTarget(function, 4, nodes), Gaussian(4, s)
    b = random.normal((3, 4), generator=random.generator(1), like=LIKE)
    x = inputs.sample((400_000,), generator=random.generator(2), like=LIKE)
    samples = function(x[:, :2])[:, None] * torch.relu(x @ b.mT)
    error = samples.std(0) / math.sqrt(len(x))
    assert bool(((samples.mean(0) - target.correlation(b, inputs)).abs() < 5 * error).all())


def test_a_smooth_function_of_the_subspace_is_learned() -> None:
    target, inputs = SubspaceTarget(lambda x: x[..., 0].square() - 1, 10, Gaussian(1).nodes(60)), Gaussian(10)
    path = low_dimensional_flow(sphere_reduced(80, 10, 1), target, inputs, times=[0.0, 1.0, 3.0])
    risks = reduced_risk(path.neurons, target, inputs).tolist()
    assert risks[0] == pytest.approx(1, abs=1e-9)
    assert risks[2] < 0.75 < risks[1] < risks[0]  # a 1-homogeneous network cannot represent the square


# ----------------------------------------------------------------------------------------------------------- errors


def test_problems_that_are_not_invariant_are_refused() -> None:
    start = sphere_reduced(8, 6, 2)
    with pytest.raises(ValueError, match="expected a target of the first 2 coordinates"):
        low_dimensional_flow(start, sums(6, 3), Gaussian(6), times=[1.0])
    with pytest.raises(ValueError, match="expected inputs that do not change under rotations"):
        low_dimensional_flow(start, sums(6, 2), Gaussian(6, torch.tensor([1.0, 1, 1, 1, 1, 2])), times=[1.0])
    with pytest.raises(ValueError, match="dimension 6"):
        low_dimensional_flow(start, sums(6, 2), Gaussian(7), times=[1.0])
    sampled = SampledTarget(lambda x: x[..., 0].abs(), Gaussian(6).nodes(64, generator=random.generator(0)))
    with pytest.raises(ValueError, match="fixed step"):
        low_dimensional_flow(start, sampled, Gaussian(6), times=[1.0])


def test_full_and_reduced_neurons_are_not_taken_for_one_another() -> None:
    full, reduced = sphere_neurons(4, 6, generator=random.generator(0), like=LIKE), cloud(4, 2)
    with pytest.raises(TypeError, match=r"expected Reduced\(a, b, rho\), received Neurons; reduce"):
        require_reduced(full)
    with pytest.raises(TypeError, match=r"expected Neurons\(a, b\), received Reduced; lift"):
        require_neurons(reduced)


def test_subspaces_and_neurons_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 <= d_H <= d = 3"):
        sphere_reduced(8, 3, 4)
    with pytest.raises(ValueError, match="1 <= d_H <= d = 3"):
        low_dimensional_flow(cloud(4, 4), sums(3, 2), Gaussian(3), times=[1.0])
    with pytest.raises(ValueError, match="1 <= d_H <= d = 5"):
        reduce(sphere_neurons(4, 5, generator=random.generator(0), like=LIKE), 0)
    with pytest.raises(ValueError, match="1 <= d_H <= d = 1"):
        lift(cloud(4, 2), 1, generator=random.generator(0))
    with pytest.raises(ValueError, match="1 <= d_H <= d = 1"):
        SubspaceTarget(lambda x: x[..., 0], 1, Gaussian(2).nodes(100))
    with pytest.raises(ValueError, match="rho = 0"):
        reduced_risk(cloud(4, 3), sums(3, 3), Gaussian(3))
    with pytest.raises(ValueError, match="rho >= 0"):
        reduced_risk(cloud(4, 2)._replace(rho=-torch.ones(4).double()), sums(3, 2), Gaussian(3))
    with pytest.raises(ValueError, match=r"a \(\*r, m\)"):
        reduced_risk(cloud(4, 2)._replace(a=torch.ones(3).double()), sums(3, 2), Gaussian(3))
    with pytest.raises(ValueError, match="multiple of 4"):
        sphere_reduced(6, 3, 2)
    with pytest.raises(ValueError, match="balanced"):
        to_angles(cloud(4, 2))
    with pytest.raises(ValueError, match=r"a \(\*r, m\)"):
        to_angles(cloud(4, 2)._replace(a=torch.ones(3).double()))
    with pytest.raises(ValueError, match=r"a \(\*r, m\)"):
        lift(cloud(4, 2)._replace(rho=torch.ones(3).double()), 6, generator=random.generator(0))
    with pytest.raises(ValueError, match="multiple of 8"):
        lift(cloud(4, 2), 6, generator=random.generator(0), copies=6, directions=frame_directions)
    with pytest.raises(ValueError, match="even number"):
        lift(cloud(4, 2), 6, generator=random.generator(0), copies=3, directions=antipodal_directions)
    with pytest.raises(ValueError, match="Gaussian inputs"):
        SubspaceTarget(lambda x: x[..., 0], 3, Gaussian(1).nodes(9)).energy(UnitSphere(3))
    mixed = Gaussian(2, torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="independent of the others"):
        SubspaceTarget(lambda x: x[..., 0], 2, Gaussian(1).nodes(9)).energy(mixed)
    with pytest.raises(ValueError, match="dense=True"):
        low_dimensional_flow(cloud(4, 2), sums(3, 2), Gaussian(3), times=[0.1]).at(0.05)


# ------------------------------------------------------------------------------------------- the full d-dimensional net


def gaps(m: int, seeds: int, times: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Relative gaps of risk and mass of τ⁺, and gap of angles: full network, mean over seeds, against the reduction."""
    target, inputs = Radial(30, 5), Gaussian(30)
    angles = sphere_angles(m // 2, 30, 5)
    short = radial_flow(angles, target, inputs, times=times).clouds
    runs = type(angles)(*(part.expand(seeds, m) for part in (angles.mass, angles.angle, angles.sign)))
    start = lift_angles(runs, 30, 5, generator=random.generator(m))
    path = wide_flow(start, target, inputs, times=times, method=heun(0.1))
    found = to_angles(reduce(path.neurons, 5))
    exact = radial_risk(short, target, inputs)
    risks = (risk(path.neurons, target, inputs).mean(1) - exact) / exact
    masses = (found.total(1).mean(1) - short.total(1)) / short.total(1)
    return risks, masses, found.mean_angle(1).mean(1) - short.mean_angle(1)


def test_a_full_network_is_near_its_reduction() -> None:
    risks, masses, turned = gaps(128, 2, [2.0])
    assert 0 < float(risks) < 0.2
    assert abs(float(masses)) < 0.03
    assert abs(float(turned)) < 0.02


@pytest.mark.slow
def test_the_gap_of_the_full_network_falls_like_one_over_its_width() -> None:
    narrow, middle, wide = (gaps(m, 3, [2.0, 5.0]) for m in (256, 512, 1024))
    assert float(middle[0][1]) <= 0.08
    assert abs(float(middle[1][1])) <= 0.01
    assert abs(float(middle[2][1])) <= 0.01
    for at in (0, 1):
        assert 0.15 < float(wide[0][at] / narrow[0][at]) < 0.45
    assert 8 < 512 * float(middle[0][0]) < 16  # 12/m at t = 2


@pytest.mark.slow
@pytest.mark.parametrize(("target", "subspace_dim"), [(sums(20, 2), 2), (ridge(20), 1)])
def test_full_networks_follow_the_reduction_for_any_function_of_the_subspace(target: Target, subspace_dim: int) -> None:
    inputs, times = Gaussian(20), [0.0, 2.0, 5.0]
    start = sphere_reduced(400, 20, subspace_dim)
    short = low_dimensional_flow(start, target, inputs, times=times, method=heun(0.1))
    full = lift(start, 20, generator=random.generator(0))
    path = wide_flow(full, target, inputs, times=times, method=heun(0.1))
    exact = reduced_risk(short.neurons, target, inputs)
    assert torch.allclose(risk(path.neurons, target, inputs)[1:], exact[1:], rtol=0.12, atol=0)
    found, expected = to_angles(reduce(path.neurons, subspace_dim)), to_angles(short.neurons)
    assert torch.allclose(found.alignment(1), expected.alignment(1), atol=0.02)
    assert torch.allclose(found.total(1), expected.total(1), rtol=0.02)
