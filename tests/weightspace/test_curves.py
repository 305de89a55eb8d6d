"""Lines between models: ends exact, buffers and ties kept, barriers and convexity of curves with a known answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from symfield.weightspace import (
    barrier,
    curve,
    global_convexity,
    interpolate,
    local_convexity,
    loss_metric,
    midpoint_barrier,
    monotonicity_gap,
)

SQUARE = torch.linspace(-1, 1, 25, dtype=torch.float64) ** 2


def net(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).to(dtype)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.1 if "var" in name else drawn)
    model[1].num_batches_tracked.fill_(int(torch.randint(100, (), generator=generator)))
    return model.eval()


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def two(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[dict, dict, nn.Module]:
    generator = torch.Generator().manual_seed(seed)
    model = net(generator, dtype)
    return state(model), state(net(generator, dtype)), model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_ends_of_the_line_are_the_models_to_the_last_bit(dtype):
    a, b, _ = two(dtype=dtype)
    for t, end in ((0.0, a), (1.0, b)):
        point = interpolate(a, b, t)
        assert all(torch.equal(point[name], end[name]) for name in a if a[name].is_floating_point())
        assert torch.equal(point["1.num_batches_tracked"], a["1.num_batches_tracked"])
        assert all(point[name].dtype == a[name].dtype for name in a)


def test_interpolation_leaves_its_inputs_alone_and_shares_no_memory_with_them():
    a, b, _ = two()
    before = [{name: value.clone() for name, value in params.items()} for params in (a, b)]
    for value in interpolate(a, b, 0.0).values():
        value.zero_()
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, (a, b), strict=True) for name in old)


def test_many_points_at_once_are_the_points_one_by_one_and_feed_vmap():
    a, b, model = two()
    t = torch.tensor([0.0, 0.3, 1.0, 1.05])
    stacked = interpolate(a, b, t)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = vmap(lambda params: functional_call(model, params, (x,)))(stacked)
    for i, position in enumerate(t.double().tolist()):
        point = interpolate(a, b, position)
        assert all(torch.allclose(stacked[name][i], point[name], atol=1e-7) for name in a)
        assert torch.allclose(together[i], functional_call(model, point, (x,)), atol=1e-6)


def test_vmap_over_positions_and_gradients_pass_through():
    a, b, _ = two()
    del a["1.num_batches_tracked"], b["1.num_batches_tracked"]
    norm = vmap(lambda t: interpolate(a, b, t)["0.weight"].square().sum())(torch.tensor([0.0, 1.0]))
    assert torch.allclose(norm[1], b["0.weight"].square().sum())
    a["0.weight"].requires_grad_()
    interpolate(a, b, 0.25)["0.weight"].sum().backward()
    assert torch.allclose(a["0.weight"].grad, torch.full_like(a["0.weight"], 0.75))


def test_tied_tensors_stay_tied_and_infinite_masks_stay_infinite():
    w, mask = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, -torch.inf])
    a = {"embedding": w, "head": w, "mask": mask}
    b = {"embedding": w + 1, "head": w + 1, "mask": mask.clone()}
    point = interpolate(a, b, 0.5)
    assert point["embedding"] is point["head"]
    assert torch.equal(point["mask"], mask)
    with pytest.raises(ValueError, match="'embedding' and 'head' are tied in model 0 and differ in model 1"):
        interpolate(a, {**b, "head": w}, 0.5)
    with pytest.raises(ValueError, match="'mask' holds infinity"):
        interpolate(a, {**b, "mask": torch.zeros(2)}, 0.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b: b.pop("0.bias"), KeyError, "missing \\['0.bias'\\]"),
        (lambda b: b.update(other=torch.ones(1)), KeyError, "unknown \\['other'\\]"),
        (lambda b: b.update({"0.bias": torch.ones(4)}), ValueError, "'0.bias'"),
        (lambda b: b.update({"0.bias": b["0.bias"].float()}), TypeError, "'0.bias'"),
        (lambda b: b["3.weight"].fill_(torch.nan), ValueError, "'3.weight' of model 1 holds NaN"),
    ],
)
def test_models_that_do_not_fit_are_refused_with_the_name_of_the_tensor(change, error, message):
    a, b, _ = two()
    change(b)
    with pytest.raises(error, match=message):
        interpolate(a, b, 0.5)
    with pytest.raises(error, match=message):
        curve(a, b, lambda params: 0.0)


def test_integer_tensors_with_axes_must_agree_and_variances_stay_positive():
    a = {"w": torch.ones(2), "mask": torch.tensor([True, False])}
    with pytest.raises(ValueError, match=r"'mask' of torch\.bool differs"):
        interpolate(a, {"w": torch.ones(2), "mask": torch.tensor([True, True])}, 0.5)
    with pytest.raises(ValueError, match=r"'bn\.running_var' would become negative"):
        interpolate({"bn.running_var": torch.tensor([1.0])}, {"bn.running_var": torch.tensor([2.0])}, -2.0)
    with pytest.raises(ValueError, match="empty dict"):
        interpolate({}, {}, 0.5)
    with pytest.raises(ValueError, match="finite positions"):
        interpolate(a, a, torch.tensor([0.0, torch.nan]))


def test_a_curve_takes_any_metric_and_keeps_the_names_of_its_numbers():
    a, b = {"w": torch.tensor([0.0, 1.0])}, {"w": torch.tensor([2.0, 1.0])}
    named = curve(a, b, lambda p: {"sum": p["w"].sum(), "gap": float(p["w"][0] - p["w"][1])}, points=3)
    assert named.names == ("sum", "gap")
    assert named["gap"].values.tolist() == [-1.0, 0.0, 1.0]
    several = curve(a, b, lambda p: p["w"] ** 2, points=torch.tensor([0.0, 0.25, 1.0]))
    assert several.values.tolist() == [[0.0, 1.0], [0.25, 1.0], [4.0, 1.0]]
    assert torch.equal(barrier(several), torch.zeros(2, dtype=torch.float64))
    with pytest.raises(KeyError, match="no values 'loss'"):
        named["loss"]


def test_a_metric_that_returns_nan_or_changes_its_shape_is_an_error_with_its_place():
    a, b = {"w": torch.tensor(0.0)}, {"w": torch.tensor(1.0)}
    with pytest.raises(ValueError, match=r"NaN at t = 0\.5"):
        curve(a, b, lambda p: torch.where(p["w"] == 0.5, torch.nan, 1.0), points=3)
    with pytest.raises(ValueError, match=r"NaN of 'loss' at t = 0"):
        curve(a, b, lambda p: {"accuracy": 1.0, "loss": float("nan")})
    with pytest.raises(ValueError, match="the same numbers everywhere"):
        curve(a, b, lambda p: torch.ones(1 if p["w"] < 0.5 else 2))
    with pytest.raises(TypeError, match="received str"):
        curve(a, b, lambda p: "good")


def test_a_convex_curve_has_no_barrier_and_a_bump_has_its_height():
    assert barrier(SQUARE) == 0
    assert midpoint_barrier(SQUARE) == -1
    bump = torch.tensor([1.0, 1.5, 4.0, 2.5, 3.0])
    assert barrier(bump) == 2.0
    assert midpoint_barrier(bump) == 2.0
    assert barrier(-bump, larger_is_better=True) == 2.0
    assert str(barrier(torch.zeros(3), larger_is_better=True).item()) == "0.0"  # not -0.0, which tables would show
    assert barrier([0.0, 1.0, 0.0], t=torch.tensor([0.0, 0.9, 1.0])) == 1.0


def test_monotonicity_and_convexity_tell_convex_plateau_and_bump_apart():
    falling = torch.linspace(1, 0, 25, dtype=torch.float64) ** 2
    assert monotonicity_gap(falling) < 0
    assert local_convexity(falling) == global_convexity(falling) == 1
    plateau = 1 - torch.linspace(0, 1, 25, dtype=torch.float64) ** 4  # stays high, then drops: concave
    assert monotonicity_gap(plateau) <= 0
    assert local_convexity(plateau) == 0
    assert global_convexity(plateau) == pytest.approx(2 / 25)  # the two ends
    bump = torch.tensor([1.0, 1.2, 0.5, 0.0])
    assert monotonicity_gap(bump) == pytest.approx(0.2)


def test_a_chord_to_the_second_point_calls_every_curve_under_its_start_convex():
    """Drawn from the first value through the second, the chord passes a plateau that lies above that of the ends."""
    t = torch.linspace(0, 1, 25, dtype=torch.float64)
    plateau = 1 - t**4

    def to_the_second_point(values):
        return (values <= (1 - t) * values[0] + t * values[1]).double().mean()

    assert to_the_second_point(plateau) > 0.95
    assert global_convexity(plateau) < 0.1
    assert global_convexity((1 - t) ** 2) == 1


def test_round_off_of_a_straight_line_counts_as_convex():
    line = 0.1 + torch.linspace(0, 1, 25, dtype=torch.float64) * 0.7
    assert local_convexity(line) == global_convexity(line) == 1


def test_curves_that_cannot_be_judged_are_refused():
    with pytest.raises(ValueError, match="odd number"):
        midpoint_barrier(torch.ones(4))
    with pytest.raises(ValueError, match="at least 2 values"):
        barrier([1.0])
    with pytest.raises(ValueError, match="increase from 0 to 1"):
        barrier([1.0, 2.0], t=torch.tensor([0.0, 0.9]))
    with pytest.raises(ValueError, match="NaN"):
        barrier([0.0, float("nan"), 0.0])
    with pytest.raises(ValueError, match="at least 2 points"):
        curve({"w": torch.ones(1)}, {"w": torch.ones(1)}, lambda p: 0.0, points=1)


def test_the_loss_of_a_model_is_that_of_the_module_in_eval_mode_and_the_module_stays_as_it_is():
    a, b, model = two()
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(10, 3, generator=generator, dtype=torch.float64), torch.randint(2, (10,), generator=generator)
    model.train()
    before = state(model)

    def loss(output, target):
        return {
            "loss": nn.functional.cross_entropy(output, target),
            "accuracy": (output.argmax(1) == target).double().mean(),
        }

    whole = curve(a, b, loss_metric(model, x, y, loss), points=9)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    reference = net(torch.Generator())
    reference.load_state_dict(b)
    expected = loss(reference.eval()(x), y)
    assert whole["loss"].values[-1].item() == pytest.approx(expected["loss"].item(), abs=1e-12)
    for other in (loss_metric(model, x, y, loss, batch_size=4), loss_metric(model, x, y, loss, together=4)):
        assert torch.allclose(curve(a, b, other, points=9).values, whole.values, atol=1e-12)


def test_parameters_that_miss_a_tensor_never_fall_back_on_the_module():
    a, _, model = two()
    metric = loss_metric(model, torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2), nn.functional.mse_loss)
    del a["1.running_mean"]
    with pytest.raises(KeyError, match=r"'1\.running_mean' of Sequential is missing"):
        metric(a)
    with pytest.raises(ValueError, match="same number of samples"):
        loss_metric(model, torch.zeros(2, 3), torch.zeros(3, 2), nn.functional.mse_loss, batch_size=1)
