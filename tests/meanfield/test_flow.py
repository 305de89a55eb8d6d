"""Training: one program for all runs and schemes, and every inner loop the same."""

from __future__ import annotations

import itertools
import math
import pickle
import sys

import pytest
import torch
from torch import nn

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Symmetric, Trivial, hom
from symfield.linalg import Subspace
from symfield.meanfield import (
    Diverged,
    Flow,
    Fresh,
    Objective,
    augmented,
    averaged,
    constrained,
    coupled,
    fused_loop,
    gaussian_teacher,
    integrate,
    particle_loop,
    squared,
    squared_distance,
    step,
    vanilla,
)
from symfield.meanfield.inner import supports_fusion
from symfield.symmetrize import haar, uniform
from symfield.units import HiddenUnit, ModuleUnit, PointwiseUnit, identity, sigmoid, softplus, tanh

SWAP = Defining(Cyclic(2))
UNIT = PointwiseUnit(sigmoid, 2, 2)
SPACE = fixed_points(hom(SWAP, SWAP))
SHORT = Flow(horizon=1.0, records=3)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.25 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def last(iterator):
    *_, state = iterator
    return state.z


def schemes(unit=UNIT, rep=SWAP, space=SPACE):
    everyone = uniform(rep.group)
    return (
        vanilla(unit, squared),
        augmented(unit, squared, everyone, rep_in=rep, rep_out=rep),
        augmented(unit, squared, haar(rep.group), rep_in=rep, rep_out=rep),
        averaged(unit, squared, everyone, rep_in=rep, rep_out=rep),
        constrained(unit, squared, space),
    )


DATA = gaussian_teacher(UNIT, normal(5, 4, seed=9) * 4, std=4.0)


@pytest.mark.parametrize(
    "flow",
    [SHORT, Flow(horizon=1.0, beta=0.0, records=2), Flow(horizon=1.0, noise=SPACE)],
    ids=["full noise", "no noise", "projected noise"],
)
def test_fused_and_particle_loops_agree(flow: Flow):
    z0 = normal(3, 6, 4).expand(5, 3, 6, 4)
    one = last(
        integrate(
            z0, coupled(*schemes()), flow=flow, data=DATA, generator=generators(3), inner=particle_loop(schemes())
        )
    )
    other = last(
        integrate(z0, coupled(*schemes()), flow=flow, data=DATA, generator=generators(3), inner=fused_loop(schemes()))
    )
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_fused_and_particle_loops_agree_for_hidden_units_with_permuted_hidden_coordinates():
    group = Symmetric(3)
    rep = Defining(group)
    unit = HiddenUnit(tanh, 3, 3, hidden=3)
    space = fixed_points(unit.representation(rep, rep, rep))
    data = Fresh(lambda x: x.flip(-1).sin(), 3)
    bundle = schemes(unit, rep, space)
    z0 = normal(2, 6, unit.dim).expand(5, 2, 6, unit.dim)
    flow = Flow(horizon=1.0, rate=1.0)
    one, other = (
        last(integrate(z0, coupled(*bundle), flow=flow, data=data, generator=generators(2), inner=inner))
        for inner in (particle_loop(bundle), fused_loop(bundle))
    )
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_integrate_repeats_step_on_what_was_drawn():
    batches = []

    def data(shape, *, generator, like):
        x, y = DATA(shape, generator=generator, like=like)
        batches.append((x, y))
        return x, y

    flow = Flow(horizon=1.0, beta=0.0)
    z0 = normal(6, 4)
    z = last(integrate(z0, vanilla(UNIT, squared), flow=flow, data=data, generator=generators(1)[0]))
    (x, y), expected = batches[0], z0
    for k in range(6):
        expected = step(expected, vanilla(UNIT, squared), x[k, 0], y[k, 0], flow=flow, index=k)
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-14)


def test_a_seed_gives_the_same_run_whatever_runs_beside_it():
    z0 = normal(4, 6, 4)
    together = last(
        integrate(z0.expand(5, 4, 6, 4), coupled(*schemes()), flow=SHORT, data=DATA, generator=generators(4))
    )
    alone = last(
        integrate(z0[2:3].expand(5, 1, 6, 4), coupled(*schemes()), flow=SHORT, data=DATA, generator=generators(1, 2))
    )
    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-12, atol=1e-13)


def test_a_scheme_does_not_depend_on_the_schemes_beside_it():
    z0, all_schemes = normal(6, 4), schemes()
    together = last(
        integrate(z0.expand(5, 6, 4), coupled(*all_schemes), flow=SHORT, data=DATA, generator=generators(1)[0])
    )
    for index, scheme in enumerate(all_schemes):
        alone = last(integrate(z0, scheme, flow=SHORT, data=DATA, generator=generators(1)[0]))
        torch.testing.assert_close(together[index], alone, rtol=1e-12, atol=1e-13)


def test_two_sampled_augmentations_draw_their_elements_apart():
    one, three = (augmented(UNIT, squared, haar(Cyclic(2), m)) for m in (1, 3))
    z0 = normal(6, 4)
    together = last(integrate(z0.expand(2, 6, 4), coupled(one, three), flow=SHORT, data=DATA, generator=generators(1)))
    alone = last(integrate(z0, three, flow=SHORT, data=DATA, generator=generators(1)))
    torch.testing.assert_close(together[1], alone, rtol=1e-12, atol=1e-13)


def test_what_a_generator_gives_a_run_is_settled_when_the_run_is_made():
    def end(between: int) -> torch.Tensor:
        generator = generators(1)[0]
        states = integrate(normal(6, 4), schemes()[0], flow=SHORT, data=DATA, generator=generator)
        torch.rand(between, generator=generator)
        return last(states)

    assert torch.equal(end(0), end(5))


def test_training_on_the_outputs_of_a_module_keeps_no_graph():
    objective, target = vanilla(UNIT, squared), nn.Linear(2, 2).double()
    for inner in (fused_loop, particle_loop):
        z = last(
            integrate(
                normal(6, 4).requires_grad_(),
                objective,
                flow=SHORT,
                data=Fresh(target, 2),
                generator=generators(1),
                inner=inner([objective]),
            )
        )
        assert not z.requires_grad


class Lopsided:
    """Both elements of the swap with weights 0.9 and 0.1."""

    group = Cyclic(2)

    def __call__(self, x, *, generator=None):
        even = uniform(self.group)(x)
        return even._replace(w=torch.tensor([0.9, 0.1], dtype=torch.float64))


def test_weighted_frames_and_units_that_extend_a_known_one_take_the_general_loop():
    class Shifted(PointwiseUnit):
        def __call__(self, x, z):
            return super().__call__(x, z) + 1

    weighted = augmented(UNIT, squared, Lopsided())
    assert not supports_fusion([weighted])
    assert not supports_fusion([vanilla(Shifted(sigmoid, 2, 2), squared)])
    assert supports_fusion([vanilla(pickle.loads(pickle.dumps(UNIT)), squared)])
    z0, flow = normal(6, 4), Flow(horizon=1 / 6, rate=1.0, tau=0.0, beta=0.0)
    (x, y) = DATA((20,), generator=generators(1)[0], like=z0)
    moved = last(integrate(z0, weighted, flow=flow, data=lambda shape, **_: (x.expand(*shape, 2), y.expand(*shape, 2)),
                           generator=generators(1)))  # fmt: skip
    torch.testing.assert_close(moved, z0 - weighted.gradient(z0, x, y) / 6, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampled", [False, True])
def test_every_gradient_is_n_times_the_gradient_of_the_risk_on_any_broadcast_sample(sampled: bool):
    rep = Defining(Cyclic(3))
    unit = PointwiseUnit(tanh, 3, 3)
    frame, space = haar(Cyclic(3), 2) if sampled else uniform(Cyclic(3)), fixed_points(hom(rep, rep))
    objectives = (
        vanilla(unit, squared),
        augmented(unit, squared, frame),
        averaged(unit, lambda p, t: (p - t).square().sum(-1).cosh(), frame),
        constrained(unit, squared, space),
    )
    weight = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    shapes = [((4, 3), (4, 3), (5, 9)), ((4, 3), (3, 4, 3), (5, 9)), ((3, 4, 3), (4, 3), (5, 9)),
              ((4, 3), (4, 3), (3, 5, 9)), ((2, 1, 4, 3), (4, 3), (3, 5, 9))]  # fmt: skip
    for objective, (x_shape, y_shape, z_shape) in itertools.product(objectives, shapes):
        x, y = 4 * normal(*x_shape), normal(*y_shape, seed=1)
        runs = torch.broadcast_shapes(x_shape[:-2], y_shape[:-2], z_shape[:-2])
        z = 4 * normal(*z_shape, seed=2).expand(*runs, *z_shape[-2:]).clone().requires_grad_()
        risk = objective.risk(z, x, y, weight=weight, generator=generators(1)[0])
        assert risk.shape == runs
        (expected,) = torch.autograd.grad(risk.sum(), z)
        found = objective.gradient(4 * normal(*z_shape, seed=2), x, y, weight=weight, generator=generators(1)[0])
        torch.testing.assert_close(found, 5 * expected, rtol=1e-10, atol=1e-12)


def test_a_sample_with_a_run_for_every_element_is_moved_run_by_run():
    rep, z = Defining(Cyclic(3)), 4 * normal(5, 9)
    x, y = 4 * normal(4, 3), normal(3, 4, 3, seed=1)
    for scheme in (augmented, averaged):
        objective = scheme(PointwiseUnit(tanh, 3, 3), squared, uniform(Cyclic(3)), rep_in=rep, rep_out=rep)
        alone = torch.stack([objective.risk(z, x, target) for target in y])
        torch.testing.assert_close(objective.risk(z, x, y), alone, rtol=1e-12, atol=1e-14)


def test_recording_more_does_not_change_a_run():
    z0 = normal(50, 4)
    few, many = (
        last(
            integrate(z0, schemes()[0], flow=Flow(horizon=8.0, records=records), data=DATA, generator=generators(1)[0])
        )
        for records in (1, 37)
    )
    assert torch.equal(few, many)


def test_records_run_from_zero_to_the_horizon():
    flow = Flow(horizon=2.0, records=4)
    states = list(integrate(normal(10, 4), schemes()[0], flow=flow, data=DATA, generator=generators(1)[0]))
    assert [state.step for state in states] == [0, 5, 10, 15, 20]
    assert states[-1].time == pytest.approx(2.0)


def test_noise_alone_diffuses_at_the_stated_rate_and_stays_in_its_subspace():
    beta, rate, horizon = 0.01, 3.0, 2.0
    flow = Flow(horizon=horizon, rate=rate, tau=0.0, beta=beta)
    still = vanilla(PointwiseUnit(identity, 2, 2), squared)
    nothing = (torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    z = last(
        integrate(
            torch.zeros(400, 50, 4, dtype=torch.float64), still, flow=flow, data=nothing, generator=generators(1)[0]
        )
    )
    assert float(z.var()) == pytest.approx(2 * beta * rate * horizon, rel=0.02)
    inside = Flow(horizon=horizon, rate=rate, tau=0.0, beta=beta, noise=SPACE)
    z = last(
        integrate(
            torch.zeros(4, 50, 4, dtype=torch.float64), still, flow=inside, data=nothing, generator=generators(1)[0]
        )
    )
    assert float(SPACE.distance(z).max()) == 0
    assert float(z.square().sum(-1).mean()) == pytest.approx(2 * 2 * beta * rate * horizon, rel=0.2)


def test_regulariser_alone_shrinks_particles_geometrically():
    flow = Flow(horizon=1.0, rate=2.0, tau=0.1, beta=0.0)
    still = vanilla(PointwiseUnit(identity, 2, 2), squared)
    nothing = (torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    z0 = normal(20, 4)
    z = last(integrate(z0, still, flow=flow, data=nothing, generator=generators(1)[0]))
    torch.testing.assert_close(z, z0 * (1 - 2 * 0.1 * 2.0 / 20) ** 20, rtol=1e-12, atol=0)


def test_step_law_and_rate_may_vary():
    flow = Flow(horizon=2.0, rate=lambda t: 1.0 + t, step_law=lambda n: 0.25)
    assert flow.steps(7) == 8
    assert [flow.step_size(k, 7) for k in (0, 4)] == [0.25, 0.5]
    flow = Flow(horizon=2.0, rate=lambda t: 1.0 + t, step_law=lambda n: 0.25, records=2)
    states = list(integrate(normal(7, 4), schemes()[0], flow=flow, data=DATA, generator=generators(1)[0]))
    assert [state.time for state in states] == [0.0, 1.0, 2.0]


def test_module_units_and_any_loss_train():
    unit = ModuleUnit(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), 2, 1)
    data = Fresh(lambda x: x[:, :1] * x[:, 1:], 2)
    group = Cyclic(2)

    def absolute(prediction, target):
        return (prediction - target).abs().sum(-1)

    objectives = (
        vanilla(unit, absolute),
        averaged(unit, absolute, uniform(group), rep_in=Defining(group), rep_out=Trivial(group)),
    )
    assert not supports_fusion(objectives)
    z0 = normal(8, unit.dim).expand(2, 8, unit.dim)
    flow = Flow(horizon=20.0, rate=1.0, beta=0.0)
    states = list(integrate(z0, coupled(*objectives), flow=flow, data=data, generator=generators(1)[0]))
    x, y = data((4000,), generator=generators(1, 5)[0], like=z0)
    for objective, before, after in zip(objectives, states[0].z, states[-1].z, strict=True):
        assert float(objective.risk(after, x, y)) < 0.9 * float(objective.risk(before, x, y))


def test_an_activation_the_kernels_do_not_know_takes_the_general_loop():
    assert not supports_fusion([vanilla(PointwiseUnit(softplus, 2, 2), squared)])
    assert not supports_fusion([averaged(UNIT, squared, haar(Cyclic(2), 3))])
    with pytest.raises(NotImplementedError, match=r"inner\.py"):
        fused_loop([vanilla(PointwiseUnit(softplus, 2, 2), squared)])


@pytest.mark.parametrize("inner", [fused_loop, particle_loop])
def test_divergence_names_the_step_and_the_runs(inner):
    unit = PointwiseUnit(identity, 1, 1)
    objective = vanilla(unit, squared)
    x = torch.ones(4, 1, dtype=torch.float64)
    z0 = torch.tensor([[[0.5]], [[2.0]]], dtype=torch.float64)
    flow = Flow(horizon=1000.0, rate=1e6, tau=0.0, beta=0.0, batch=4)
    with pytest.raises(Diverged, match=r"diverged at step \d+ of 1000") as caught:
        last(
            integrate(z0, objective, flow=flow, data=(x, 0.5 * x), generator=generators(1)[0], inner=inner([objective]))
        )
    # z − ½ grows by the factor 1 − 2e6 in each step: beyond 1e308 after 49 of them
    assert caught.value.step == math.ceil(math.log(sys.float_info.max / 1.5) / math.log(2e6 - 1))
    assert caught.value.runs == (1,)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_drawn_at_once_does_not_grow_with_the_number_of_steps():
    def largest_draw(horizon: float) -> int:
        sizes = []

        def data(shape, *, generator, like):
            sizes.append(math.prod(shape))
            return DATA(shape, generator=generator, like=like)

        flow = Flow(horizon=horizon, records=1)
        last(integrate(normal(200, 4), schemes()[0], flow=flow, data=data, generator=generators(1)[0]))
        return max(sizes)

    assert largest_draw(4.0) == largest_draw(16.0)


def test_bad_input_is_refused_in_the_users_words():
    objective = vanilla(UNIT, squared)
    generator = generators(1)[0]
    for field, value in itertools.product(("tau", "beta"), (-1.0, math.nan)):
        with pytest.raises(ValueError, match=f"expected {field} >= 0"):
            Flow(**{field: value})
    with pytest.raises(ValueError, match="horizon"):
        Flow(horizon=0.0)
    with pytest.raises(ValueError, match="step law"):
        Flow(step_law=lambda n: 0.0).steps(5)
    with pytest.raises(ValueError, match="at least one particle"):
        next(integrate(torch.zeros(0, 4), objective, flow=SHORT, data=DATA, generator=generator))
    with pytest.raises(ValueError, match="initial cloud"):
        next(integrate(torch.full((3, 4), math.nan), objective, flow=SHORT, data=DATA, generator=generator))
    with pytest.raises(ValueError, match="NaN"):
        integrate(
            normal(3, 4),
            objective,
            flow=SHORT,
            data=(torch.full((3, 2), math.nan), torch.zeros(3, 2)),
            generator=generator,
        )
    with pytest.raises(ValueError, match="NaN"):
        last(
            integrate(normal(3, 4), objective, flow=SHORT, data=Fresh(lambda x: x / 0 - x / 0, 2), generator=generator)
        )
    with pytest.raises(ValueError, match=r"shape \(2, "):
        integrate(normal(3, 4), coupled(objective, objective), flow=SHORT, data=DATA, generator=generator)
    with pytest.raises(ValueError, match="one generator"):
        integrate(normal(3, 5, 4), objective, flow=SHORT, data=DATA, generator=generators(2))
    with pytest.raises(ValueError, match="one unit"):
        coupled(objective, vanilla(PointwiseUnit(tanh, 2, 2), squared))
    with pytest.raises(ValueError, match="rep_out of dim 1"):
        averaged(PointwiseUnit(tanh, 2, 1), squared, uniform(Cyclic(2)))
    with pytest.raises(ValueError, match=r"subspace of R\^4"):
        constrained(UNIT, squared, Subspace.zero(3))
    with pytest.raises(ValueError, match="β > 0"):
        step(normal(3, 4), objective, normal(1, 2), normal(1, 2), flow=SHORT)
    with pytest.raises(ValueError, match="expected targets"):
        objective.risk(normal(3, 4), normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match=r"weights of shape \(\.\.\., 5\)"):
        objective.risk(normal(3, 4), normal(5, 2), normal(5, 2), weight=torch.ones(1))
    with pytest.raises(ValueError, match="at least one sample"):
        objective.risk(normal(3, 4), normal(0, 2), normal(0, 2))
    with pytest.raises(ValueError, match="one value for every example"):
        vanilla(UNIT, nn.functional.mse_loss).gradient(normal(3, 4), normal(5, 2), normal(5, 2))
    with pytest.raises(ValueError, match="rep_in and rep_out"):
        Objective(UNIT, squared, uniform(Cyclic(2)))


def test_bad_data_and_rates_are_refused_in_the_users_words():
    objective = vanilla(UNIT, squared)

    def train(data, **changes):
        flow = Flow(**{"horizon": 1.0, "batch": 4, **changes})
        return last(integrate(normal(3, 4), objective, flow=flow, data=data, generator=generators(1)))

    with pytest.raises(ValueError, match="the data source"):
        train((normal(9, 3), normal(9, 2)))
    with pytest.raises(ValueError, match="keep the last axis"):
        train(Fresh(lambda x: x[:, 0], 2))
    for rate in (-1.0, math.nan, lambda t: 1 - 2 * t):
        with pytest.raises(ValueError, match="rate"):
            train(DATA, rate=rate)
    with pytest.raises(ValueError, match=r"noise in R\^4"):
        train(DATA, noise=Subspace.full(3))
    with pytest.raises(ValueError, match="expected targets"):
        squared_distance(PointwiseUnit(sigmoid, 2, 1), normal(5, 2), normal(3, 2), lambda x: x[:, 0])
