"""The population flow: gradient of the risk, dissipation, conserved balance, and the published sizes."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.ode import Adaptive, euler, heun, rk4
from symfield.wide import (
    Gaussian,
    Neurons,
    Radial,
    ReLUTeacher,
    SampledTarget,
    UnitSphere,
    cubic,
    even_norm,
    predict,
    risk,
    sphere_neurons,
    velocity,
    wide_flow,
)

LIKE = torch.zeros(1, dtype=torch.float64)
SKEW = Gaussian(4, torch.tensor([[2.0, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.3], [0, 0, 0.3, 0.4]]).double())
TEACHER = ReLUTeacher(torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0, 1, 0], [0, 1, -1, 2]]).double())
CASES = [
    pytest.param(TEACHER, SKEW, id="teacher"),
    pytest.param(Radial(4, 2), UnitSphere(4), id="radial"),
    pytest.param(cubic(torch.ones(4).double(), SKEW, energy=1.0), SKEW, id="cubic"),
]


def cloud(m: int, d: int = 4, *, seed: int = 0, runs: tuple[int, ...] = ()) -> Neurons:
    return sphere_neurons(m, d, generator=random.generator(seed), like=LIKE, runs=runs)


def unbalanced(m: int, seed: int = 0) -> Neurons:
    draw = random.normal((m, 5), generator=random.generator(seed), like=LIKE)
    return Neurons(draw[:, 0], draw[:, 1:])


def shifted(neurons: Neurons, by: Neurons, h: float) -> Neurons:
    return Neurons(neurons.a + h * by.a, neurons.b + h * by.b)


def square(neurons: Neurons) -> torch.Tensor:
    return neurons.a.square() + neurons.b.square().sum(-1)


@pytest.mark.parametrize(("target", "inputs"), CASES)
def test_the_velocity_is_m_times_the_negative_gradient_of_the_risk(target, inputs):
    neurons, h = unbalanced(5), 1e-4
    moving = velocity(neurons, target, inputs)
    for seed in range(3):
        by = unbalanced(5, seed=20 + seed)
        there, back = (risk(shifted(neurons, by, step), target, inputs) for step in (h, -h))
        along = (moving.a * by.a).sum() + (moving.b * by.b).sum()
        torch.testing.assert_close((back - there) / (2 * h), along / 5, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("target", "inputs"), CASES)
def test_energy_dissipates_by_the_mean_squared_speed(target, inputs):
    path = wide_flow(unbalanced(12), target, inputs, times=[2.0], method=Adaptive(1e-11, 1e-12), dense=True)
    h = 1e-3
    for t in (0.1, 0.9, 1.7):
        there, back = (risk(path.at(t + step), target, inputs) for step in (h, -h))
        speed = square(velocity(path.at(t), target, inputs)).mean()
        torch.testing.assert_close((there - back) / (2 * h), -speed, rtol=1e-5, atol=1e-7)


def test_the_velocity_and_the_risk_are_those_of_a_large_sample():
    neurons, size = unbalanced(6), 200_000
    x = SKEW.sample((size,), generator=random.generator(4), like=LIKE)
    miss = TEACHER(x) - predict(neurons, x)
    z = x @ neurons.b.mT
    a = miss[:, None] * z.relu()
    b = (miss[:, None] * neurons.a * (z > 0))[..., None] * x[:, None]
    moving = velocity(neurons, TEACHER, SKEW)
    for terms, exact in ((a, moving.a), (b.flatten(1), moving.b.flatten()), (miss.square() / 2, None)):
        exact = risk(neurons, TEACHER, SKEW) if exact is None else exact
        assert ((terms.mean(0) - exact).abs() / (terms.std(0) / size**0.5)).max() < 5


def test_a_sampled_target_drives_the_same_flow_as_the_exact_one():
    nodes = Gaussian(4).nodes(2**14, generator=random.generator(0))
    times = [1.0, 3.0]
    exact, sampled = (
        wide_flow(cloud(20), target, Gaussian(4), times=times, method=heun(0.05))
        for target in (TEACHER, SampledTarget(TEACHER, nodes))
    )
    assert (exact.neurons.b - sampled.neurons.b).abs().max() < 0.02
    f, g = (risk(path.neurons, TEACHER, Gaussian(4)) for path in (exact, sampled))
    torch.testing.assert_close(f, g, rtol=0.02, atol=1e-3)


def test_a_network_that_is_the_teacher_rests():
    neurons = Neurons(len(TEACHER.a) * TEACHER.a, TEACHER.b)
    assert risk(neurons, TEACHER, SKEW).abs() < 1e-14
    assert square(velocity(neurons, TEACHER, SKEW)).max() < 1e-26


def test_the_balance_of_every_neuron_is_conserved():
    start = unbalanced(30)

    def drift(method) -> float:
        path = wide_flow(start, TEACHER, SKEW, times=[5.0], method=method)
        a, b = path.neurons
        before, after = start.a.square() - start.b.square().sum(-1), a[0].square() - b[0].square().sum(-1)
        return float((after - before).abs().max())

    assert drift(Adaptive()) < 1e-6
    assert drift(rk4(0.02)) < 1e-6
    slow, fast = drift(euler(0.02)), drift(euler(0.01))
    assert fast > 1e-4
    assert 1.7 < slow / fast < 2.4  # first order


def test_balanced_neurons_keep_the_sign_of_their_output_weight():
    path = wide_flow(cloud(64), Radial(4, 2), Gaussian(4), times=[1.0, 5.0, 20.0])
    a, b = path.neurons
    torch.testing.assert_close(a.abs(), b.norm(dim=-1), rtol=1e-6, atol=1e-8)
    assert (a.sign() == a[0].sign()).all()


def test_methods_agree_and_runs_do_not_see_one_another():
    start = cloud(16, runs=(3,))
    times = [0.5, 2.0]
    adaptive = wide_flow(start, TEACHER, SKEW, times=times, method=Adaptive(1e-10, 1e-11), dense=True)
    fixed = wide_flow(start, TEACHER, SKEW, times=times, method=rk4(0.01))
    assert adaptive.neurons.b.shape == (2, 3, 16, 4)
    torch.testing.assert_close(adaptive.neurons.b, fixed.neurons.b, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(adaptive.at(0.5).a, adaptive.neurons.a[0], rtol=1e-8, atol=1e-8)
    alone = wide_flow(Neurons(start.a[1], start.b[1]), TEACHER, SKEW, times=times, method=rk4(0.01))
    torch.testing.assert_close(alone.neurons.b, fixed.neurons.b[:, 1], rtol=1e-12, atol=1e-12)
    one_by_one = [risk(Neurons(a, b), TEACHER, SKEW) for a, b in zip(*fixed.neurons, strict=True)]
    torch.testing.assert_close(risk(fixed.neurons, TEACHER, SKEW), torch.stack(one_by_one))


def test_on_the_unit_sphere_a_homogeneous_target_is_learned_d_times_slower():
    slow = wide_flow(cloud(16), Radial(4, 2), UnitSphere(4), times=[8.0], method=rk4(0.4))
    fast = wide_flow(cloud(16), Radial(4, 2), Gaussian(4), times=[2.0], method=rk4(0.1))
    torch.testing.assert_close(slow.neurons.b, fast.neurons.b, rtol=1e-11, atol=1e-11)


def test_predictions_are_means_over_neurons_and_the_even_part_is_what_remains():
    neurons, x = cloud(7, runs=(2,)), SKEW.sample((3, 5), generator=random.generator(1), like=LIKE)
    values = predict(neurons, x)
    assert values.shape == (2, 3, 5)
    expected = (neurons.a[1] * (x[2, 4] @ neurons.b[1].mT).relu()).mean()
    torch.testing.assert_close(values[1, 2, 4], expected)
    many = SKEW.sample((200_000,), generator=random.generator(2), like=LIKE)
    even = (predict(neurons, many) + predict(neurons, -many)) / 2
    torch.testing.assert_close(even_norm(neurons, SKEW), even.square().mean(-1).sqrt(), rtol=0.02, atol=0.0)


def test_one_point_is_an_input_too():
    start, x = cloud(5), torch.ones(4).double()
    assert predict(start, x).shape == ()
    assert predict(start, x).item() == pytest.approx(predict(start, x[None])[0].item())
    assert predict(cloud(5, runs=(2, 3)), x).shape == (2, 3)


def test_dead_neurons_stay_where_they_are_and_are_reported():
    start = cloud(6)
    a, b = start.a.clone(), start.b.clone()
    a[0], b[0], b[3] = 0.0, 0.0, 0.0
    for target in (TEACHER, Radial(4, 2), cubic(torch.ones(4).double(), Gaussian(4))):
        path = wide_flow(Neurons(a, b), target, Gaussian(4), times=[1.0])
        assert path.dead.tolist() == [True, False, False, True, False, False]
        assert "2 dead" in repr(path)
        assert (path.neurons.b[0, [0, 3]] == 0).all()
        assert path.neurons.a[0, [0, 3]].tolist() == a[[0, 3]].tolist()
        assert (path.neurons.b[0, 1] != b[1]).any()
        assert torch.isfinite(path.neurons.b).all()


def test_neurons_that_a_singular_covariance_does_not_show_are_dead():
    q = torch.linalg.qr(random.normal((4, 4), generator=random.generator(5), like=LIKE))[0]
    flat = Gaussian(4, q @ torch.diag(torch.tensor([2.0, 1.0, 0.5, 0.0], dtype=torch.float64)) @ q.mT)
    start = cloud(3)
    b = torch.stack([3 * q[:, 3], *start.b[1:]])
    moving = velocity(Neurons(start.a, b), TEACHER, flat)
    assert moving.a[0].abs() < 1e-15
    assert moving.b[0].tolist() == [0.0] * 4
    assert (moving.b[1:] != 0).any(dim=-1).all()
    assert wide_flow(Neurons(start.a, b), TEACHER, flat, times=[1.0]).dead.tolist() == [True, False, False]


def test_single_precision_is_kept():
    start = Neurons(*(part.float() for part in cloud(16)))
    path = wide_flow(start, TEACHER, SKEW, times=[1.0], method=heun(0.05))
    exact = wide_flow(cloud(16), TEACHER, SKEW, times=[1.0], method=heun(0.05))
    assert path.neurons.b.dtype == torch.float32
    torch.testing.assert_close(path.neurons.b, exact.neurons.b.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cloud(0), "m >= 1"),
        (lambda: risk(Neurons(torch.ones(0), torch.ones(0, 4)), TEACHER, SKEW), "m >= 1"),
        (lambda: risk(Neurons(torch.ones(3), torch.ones(2, 4)), TEACHER, SKEW), "neurons a"),
        (lambda: risk(Neurons(torch.ones(2), torch.ones(2, 3)), TEACHER, SKEW), r"neurons in R\^4"),
        (lambda: velocity(cloud(2), Radial(3, 1), SKEW), "dimension 3"),
        (lambda: velocity(Neurons(torch.tensor([torch.nan]), torch.ones(1, 4)), TEACHER, SKEW), "finite neurons"),
        (lambda: predict(cloud(2), torch.ones(3)), r"inputs \(\*b, 4\)"),
        (lambda: wide_flow(cloud(2), TEACHER, SKEW, times=[1.0, 0.5]), "increasing times"),
        (lambda: wide_flow(Neurons(torch.ones(2), torch.zeros(2, 4)), TEACHER, SKEW, times=[1.0]), "living neuron"),
        (lambda: wide_flow(cloud(2), TEACHER, SKEW, times=[1.0]).at(0.5), "dense=True"),
        (
            lambda: wide_flow(
                cloud(2, 1), SampledTarget(lambda x: x[..., 0], Gaussian(1).nodes(9)), Gaussian(1), times=[1.0]
            ),
            "fixed step",
        ),
    ],
)
def test_what_cannot_flow_is_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_that_is_too_long_is_an_error_and_not_nan():
    with pytest.raises(ArithmeticError, match="not finite"):
        wide_flow(cloud(32), TEACHER, Gaussian(4, 1e3), times=[100.0], method=euler(5.0))


def non_linearity(m: int, seeds: int, d: int = 20) -> float:
    """√m times the largest |f_even| along the flow to the cubic target, mean over random clouds."""
    inputs = Gaussian(d, 1 / d)
    target = cubic(random.normal((d,), generator=random.generator(9), like=LIKE), inputs, energy=2.0)
    path = wide_flow(cloud(m, d, seed=m, runs=(seeds,)), target, inputs, times=range(0, 61, 3), method=heun(0.25))
    return math.sqrt(m) * float(even_norm(path.neurons, inputs).amax(0).mean())


def test_the_non_linearity_of_a_random_cloud_on_an_odd_target_falls_as_the_root_of_the_width():
    narrow, wide = non_linearity(32, 4), non_linearity(128, 4)
    assert 0.1 < narrow < 0.6
    assert 0.1 < wide < 0.6
    assert 1 <= (narrow / 32**0.5) / (wide / 128**0.5) <= 4


@pytest.mark.slow
def test_the_non_linearity_keeps_falling_up_to_five_hundred_neurons():
    narrow, wide = non_linearity(128, 3), non_linearity(512, 3)
    assert 0.1 < wide < 0.6
    assert 1 <= (narrow / 128**0.5) / (wide / 512**0.5) <= 4


def alignment(neurons: Neurons, dim_h: int) -> tuple[float, float, float]:
    """Masses of positive and negative neurons, and the positive ones' mass-weighted cos² of the angle with H."""
    mass = neurons.a.abs() * neurons.b.norm(dim=-1)
    plus = mass * (neurons.a > 0)
    cosine = neurons.b[..., :dim_h].square().sum(-1) / neurons.b.square().sum(-1)
    return (
        float(plus.mean()),
        float((mass - plus).mean()),
        float(((plus * cosine).sum(-1) / plus.sum(-1)).mean()),
    )


@pytest.mark.slow
def test_relu_of_one_coordinate_is_learned_without_full_alignment():
    d = 20
    target = ReLUTeacher(torch.ones(1).double(), torch.eye(d)[:1].double())
    path = wide_flow(cloud(256, d, seed=3, runs=(4,)), target, Gaussian(d), times=[0.0, 20.0], method=heun(0.1))
    first, last = risk(path.neurons, target, Gaussian(d)).mean(-1).tolist()
    assert first == pytest.approx(0.25, rel=0.05)
    assert last == pytest.approx(0.0019, rel=0.15)
    plus, minus, cosine = alignment(Neurons(path.neurons.a[1], path.neurons.b[1]), 1)
    assert cosine == pytest.approx(0.684, abs=0.03)
    assert (plus, minus) == pytest.approx((1.338, 0.337), rel=0.02)  # their difference is free: the odd part


@pytest.mark.slow
def test_a_sum_of_absolute_values_aligns_the_positive_neurons():
    d = 20
    target = ReLUTeacher.absolute_values(torch.ones(2).double(), torch.eye(d)[:2].double())
    path = wide_flow(cloud(256, d, seed=3, runs=(4,)), target, Gaussian(d), times=[2.0, 5.0, 20.0], method=heun(0.1))
    at2, at5, at20 = risk(path.neurons, target, Gaussian(d)).mean(-1).tolist()
    assert at2 == pytest.approx(0.374, rel=0.05)
    assert at5 == pytest.approx(0.096, rel=0.05)
    assert at20 == pytest.approx(0.0085, rel=0.25)
    assert alignment(Neurons(path.neurons.a[2], path.neurons.b[2]), 2)[2] == pytest.approx(0.896, abs=0.01)
