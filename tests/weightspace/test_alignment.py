"""Alignment of models: the function stays, the models come closer, wrong input is named, inputs are never modified."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from symfield.weightspace import (
    ActivationMatching,
    FrankWolfe,
    Permutation,
    Problem,
    Sinkhorn,
    StraightThrough,
    WeightMatching,
    activations,
    align,
    align_many,
    correlation,
    from_axes,
    identity,
    sinkhorn,
    symmetries,
)
from symfield.weightspace.alignment import _require_kinds
from symfield.weightspace.matching_polytope import Relaxation, bilinear

DIM, OUT = 5, 3


class Net(nn.Module):
    """Convolution, batch norm, flatten, and a linear part."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.wide = nn.Conv2d(6, 7, 3)
        self.fc = nn.Linear(7 * 4, 9)
        self.out = nn.Linear(9, OUT)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.bn(self.conv(x)))
        return self.out(torch.nn.functional.gelu(self.fc(torch.tanh(self.wide(x)).flatten(1))))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fill(model: nn.Module, generator: torch.Generator) -> nn.Module:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            fan = value[0].numel() if value.ndim > 1 else 1
            drawn = torch.randn(value.shape, generator=generator) / fan**0.5
            value.copy_(drawn.abs() + 0.1 if "var" in name else drawn)
    return model.eval()


def mlp(act: type[nn.Module], generator: torch.Generator) -> nn.Module:
    return fill(nn.Sequential(nn.Linear(DIM, 16), act(), nn.Linear(16, 12), act(), nn.Linear(12, OUT)), generator)


def output(model: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.func.functional_call(model, params, (x,))


def tiny():
    return from_axes({"up": ("h", None), "down": (None, "h")}, {"up": (4, 3), "down": (2, 4), "count": (1,)})


def test_the_function_stays_and_buffers_move(generator):
    a, b = fill(Net(), generator), fill(Net(), generator)
    x = torch.randn(4, 2, 6, 6, generator=generator)
    symmetry = symmetries(a, x)
    found = align(state(a), state(b), symmetry)
    assert found.after.squared_distance < 0.95 * found.before.squared_distance
    torch.testing.assert_close(output(b, found.params, x), b(x), rtol=1e-4, atol=1e-4)
    planted = symmetry.apply(state(a), symmetry.random_element(generator=generator))
    back = align(state(a), planted, symmetry)
    for name, value in state(a).items():
        torch.testing.assert_close(back.params[name], value, rtol=1e-3, atol=1e-4)


def test_running_statistics_do_not_count_unless_asked(generator):
    a, b = fill(Net(), generator), fill(Net(), generator)
    symmetry = symmetries(a, torch.randn(1, 2, 6, 6, generator=generator))
    one = state(b)
    other = {n: v * 1000 if "running" in n else v for n, v in one.items()}
    first, second = (align(state(a), side, symmetry) for side in (one, other))
    assert first.after == second.after
    third = align(state(a), other, symmetry, weights=lambda name: 1.0)
    assert third.before.squared_distance > 100 * first.before.squared_distance
    only = align(state(a), one, symmetry, weights={"conv.weight": 2.0}, method=WeightMatching(kinds=(Permutation,)))
    distance = 2 * float((state(a)["conv.weight"] - one["conv.weight"]).square().sum())
    assert only.before.squared_distance == pytest.approx(distance, rel=1e-5)
    with pytest.raises(KeyError, match="weights name 'nothing'"):
        align(state(a), one, symmetry, weights={"nothing": 1.0})
    with pytest.raises(ValueError, match="finite weights"):
        align(state(a), one, symmetry, weights=lambda name: -1.0)


def test_inputs_are_never_modified(generator):
    a, b = mlp(nn.Tanh, generator), mlp(nn.Tanh, generator)
    x = torch.randn(8, DIM, generator=generator)
    symmetry = symmetries(a, x)
    kept = [state(m) for m in (a, b)]
    mine = [m.state_dict() for m in (a, b)]
    a.train()
    for method in (
        WeightMatching(),
        WeightMatching(identity),
        ActivationMatching(a, b, x),
        FrankWolfe(iterations=2),
        Sinkhorn(steps=2),
        Sinkhorn(loss=lambda p: p["0.weight"].square().sum(), steps=2, straight_through=True),
        StraightThrough(lambda p: p["0.weight"].square().sum(), steps=2),
    ):
        found = align(*mine, symmetry, method=method)
        for before, after in zip(kept, mine, strict=True):
            assert all(torch.equal(before[name], after[name]) for name in before)
        for value in found.params.values():
            value.add_(1)
    assert a.training
    assert not b.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in a.modules())


def test_wrong_input_is_named():
    symmetry = tiny()
    good = {name: torch.ones(shape) for name, shape in symmetry.shapes.items()}
    with pytest.raises(KeyError, match="second model: tensor 'down' is missing"):
        align(good, {name: t for name, t in good.items() if name != "down"}, symmetry)
    with pytest.raises(KeyError, match=r"first model: tensor 'more' is not part"):
        align({**good, "more": torch.ones(1)}, good, symmetry)
    with pytest.raises(ValueError, match=r"second model: expected shape \(4, 3\) for tensor 'up', received \(5, 3\)"):
        align(good, {**good, "up": torch.ones(5, 3)}, symmetry)
    with pytest.raises(ValueError, match="first model: tensor 'up' holds NaN"):
        align({**good, "up": torch.full((4, 3), torch.nan)}, good, symmetry)
    with pytest.raises(ValueError, match="second model: tensor 'count' holds NaN or infinity"):
        align(good, {**good, "count": torch.full((1,), torch.inf)}, symmetry)
    with pytest.raises(TypeError, match=r"second model: tensor 'down' is torch\.int64"):
        align(good, {**good, "down": torch.ones(2, 4, dtype=torch.int64)}, symmetry)
    align({**good, "count": torch.ones(1, dtype=torch.int64)}, {**good, "count": torch.ones(1).long()}, symmetry)


def test_classes_words_and_modules_are_refused_with_what_to_pass():
    symmetry = tiny()
    good = {name: torch.ones(shape) for name, shape in symmetry.shapes.items()}
    with pytest.raises(TypeError, match=r"such as WeightMatching\(\) or FrankWolfe\(\), received the class Weight"):
        align(good, good, symmetry, method=WeightMatching)
    model, models = nn.Linear(3, 2), {"first": good, "second": good}  # what the type checker of the tests lets not pass
    with pytest.raises(TypeError, match="received 'weights'"):
        _require_kinds(symmetry, "weights", models)
    with pytest.raises(TypeError, match=r"second model: expected tensors by name, received Linear; pass model\.state"):
        _require_kinds(symmetry, None, {**models, "second": model})
    with pytest.raises(TypeError, match="expected a ParameterSymmetry, received Linear"):
        _require_kinds(model, None, models)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_are_matched_in_single_and_keep_their_dtype(dtype, generator):
    symmetry = tiny()
    a = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in symmetry.shapes.items()}
    found = align(a, symmetry.apply(a, {"h": torch.tensor([2, 0, 3, 1])}), symmetry)
    assert all(torch.equal(found.params[name], a[name]) for name in a)
    assert found.params["up"].dtype == dtype


def test_tied_tensors_count_once(generator):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc = nn.Linear(6, 8, bias=False)
            self.twin = nn.Linear(6, 8, bias=False)
            self.twin.weight = self.enc.weight

        def forward(self, x):
            return torch.tanh(self.enc(x)) @ self.twin.weight

    a, b = fill(Tied(), generator), fill(Tied(), generator)
    symmetry = symmetries(a, torch.randn(2, 6, generator=generator))
    found = align(state(a), state(b), symmetry)
    expected = float((a.enc.weight - b.enc.weight).detach().square().sum())
    assert found.before.squared_distance == pytest.approx(expected, rel=1e-5)
    assert torch.equal(found.params["enc.weight"], found.params["twin.weight"])


def test_activation_matching_finds_a_planted_element_whatever_the_scales(generator):
    a = mlp(nn.ReLU, generator)
    x = torch.randn(200, DIM, generator=generator)
    symmetry = symmetries(a, x)
    element = symmetry.random_element(generator=generator)
    b = mlp(nn.ReLU, generator)
    b.load_state_dict(symmetry.apply(state(a), element))
    found = align(state(a), state(b), symmetry, method=ActivationMatching(a, b, x))
    back = symmetry.invert(element)
    for name, permutation in back.items():
        if isinstance(symmetry[name], Permutation):
            assert torch.equal(found.element[name], permutation)


def test_activation_matching_sees_convolutions_norms_and_flattened_channels(generator):
    a, b = fill(Net(), generator), fill(Net(), generator)
    x = torch.randn(30, 2, 6, 6, generator=generator)
    symmetry = symmetries(a, x)
    element = symmetry.random_element(generator=generator)
    b.load_state_dict(symmetry.apply(state(a), element))
    seen, layouts = activations(a, x, symmetry)
    assert {"conv.out", "bn.out", "wide.in", "fc.in", "out.in"} <= set(seen)
    assert all(tuple(axis.size for axis in layouts[name]) == tuple(value.shape) for name, value in seen.items())
    found = align(state(a), state(b), symmetry, method=ActivationMatching(a, b, x))
    back = symmetry.invert(element)
    for name, permutation in back.items():
        if isinstance(symmetry[name], Permutation):
            assert torch.equal(found.element[name], permutation)


def test_activation_matching_refuses_a_model_that_does_not_belong(generator):
    symmetry = tiny()
    params = {name: torch.randn(shape, generator=generator) for name, shape in symmetry.shapes.items()}
    model = mlp(nn.ReLU, generator)
    with pytest.raises(ValueError, match="no module of the model shows activations"):
        align(params, params, symmetry, method=ActivationMatching(model, model, torch.ones(2, DIM)))


def test_correlations_lie_between_minus_one_and_one_and_dead_units_have_none(generator):
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    x[:, 2] = 7.0
    gram = correlation(x).T @ correlation(x)
    torch.testing.assert_close(gram.diagonal(), torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(gram[0, 1], torch.corrcoef(x.T)[0, 1])


def test_frank_wolfe_is_at_least_as_good_as_its_start(generator):
    a, b = mlp(nn.GELU, generator), mlp(nn.GELU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    plain = align(state(a), state(b), symmetry)
    for spread in (0.0, 0.97, 1.0):
        method = FrankWolfe(WeightMatching(), spread=spread)
        found = align(state(a), state(b), symmetry, method=method)
        assert found.after.squared_distance <= plain.after.squared_distance + 1e-9


def test_kept_gradients_of_frank_wolfe_take_the_steps_of_the_whole_gradient(generator, monkeypatch):
    a, b = mlp(nn.GELU, generator), mlp(nn.GELU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    pair = [{name: value.double() for name, value in state(model).items()} for model in (a, b)]
    for spread in (0.3, 0.97):
        method = FrankWolfe(identity, spread=spread, iterations=6, polish=WeightMatching(sweeps=0))
        kept = align(*pair, symmetry, method=method)
        with monkeypatch.context() as patch:
            patch.setattr("symfield.weightspace.matching_soft.bilinear", lambda problem: False)
            whole = align(*pair, symmetry, method=method)
        assert all(torch.equal(kept.element[name], value) for name, value in whole.element.items())


def test_the_value_of_the_relaxation_is_the_inner_product_and_never_falls(generator):
    a, b = mlp(nn.ReLU, generator), mlp(nn.ReLU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    one, two = ({name: value.double() for name, value in state(model).items()} for model in (a, b))
    problem = Problem(one, two, symmetry, dict.fromkeys(one, 1.0))
    assert bilinear(problem)
    whole = symmetry.compose({}, {})
    point = Relaxation(problem, whole, spread=0.7)
    still = sum(float((one[n] * two[n]).sum()) for n in ("4.bias",))

    def inner() -> float:
        moved = symmetry.apply(two, {**whole, **point.matrices})
        return sum(float((one[name] * moved[name]).sum()) for name in one) - still

    assert point.value == pytest.approx(inner(), abs=1e-10)
    for _ in range(8):
        before, gain = point.value, point.step()
        assert gain >= -1e-12
        assert point.value == pytest.approx(before + gain, abs=1e-12)
        assert point.value == pytest.approx(inner(), abs=1e-9)
        for matrix in point.matrices.values():
            torch.testing.assert_close(matrix.sum(0), torch.ones_like(matrix[0]))
            torch.testing.assert_close(matrix.sum(1), torch.ones_like(matrix[0]))


def test_old_duals_change_the_time_of_weight_matching_and_not_its_end(generator, monkeypatch):
    a, b = mlp(nn.GELU, generator), mlp(nn.GELU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    ends = []
    for flat in (True, False):
        monkeypatch.setattr("symfield.weightspace.matching_permutations._is_flat", lambda matrix, index, f=flat: f)
        ends.append(align(state(a), state(b), symmetry))
    assert all(torch.equal(ends[0].element[name], value) for name, value in ends[1].element.items())
    assert ends[0].work == ends[1].work


def test_frank_wolfe_matches_within_heads(generator):
    model = nn.Sequential(nn.Conv1d(2, 8, 1), nn.GroupNorm(4, 8), nn.GELU(), nn.Conv1d(8, 2, 1))
    a = fill(model, generator)
    symmetry = symmetries(a, torch.randn(2, 2, 3, generator=generator))
    b = symmetry.apply(state(a), symmetry.random_element(generator=generator))
    found = align(state(a), b, symmetry, method=FrankWolfe())
    assert found.after.squared_distance < 1e-8


def test_sinkhorn_makes_doubly_stochastic_matrices_and_gradients(generator):
    logits = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    matrix = sinkhorn(logits, iterations=200)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 6, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(matrix.sum(-2), torch.ones(3, 6, dtype=torch.float64), rtol=1e-10, atol=1e-10)
    (matrix * torch.arange(6)).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("straight_through", [True, False])
def test_sinkhorn_lowers_the_loss_that_it_is_given(straight_through, generator):
    x = torch.randn(64, DIM, generator=generator)
    a, b = mlp(nn.Tanh, generator), mlp(nn.Tanh, generator)
    y = a(x).detach()
    symmetry = symmetries(a, x)

    def loss(params):
        return (output(a, params, x) - y).square().mean()

    method = Sinkhorn(loss, steps=40, learning_rate=0.3, start=identity, straight_through=straight_through)
    found = align(state(a), state(b), symmetry, method=method)
    assert found.history[-1] < 0.9 * found.history[0]
    assert all(x >= y for x, y in zip(found.history, found.history[1:], strict=False))
    middle = {n: (v + found.params[n]) / 2 for n, v in state(a).items()}
    assert float(loss(middle)) == pytest.approx(found.history[-1], rel=1e-4)


def test_straight_through_lowers_the_loss_at_the_midpoint_and_counts_its_start(generator):
    x = torch.randn(64, DIM, generator=generator)
    a, b = mlp(nn.Tanh, generator), mlp(nn.Tanh, generator)
    y = a(x).detach()
    symmetry = symmetries(a, x)

    def loss(params):
        return (output(a, params, x) - y).square().mean()

    found = align(state(a), state(b), symmetry, method=StraightThrough(loss, steps=60, learning_rate=0.03))
    assert found.history[-1] < 0.97 * found.history[0]
    assert len(found.history) == 61
    assert all(x >= y for x, y in zip(found.history, found.history[1:], strict=False))
    middle = {n: (v + found.params[n]) / 2 for n, v in state(a).items()}
    assert float(loss(middle)) == pytest.approx(found.history[-1], rel=1e-4)
    matched = align(state(a), state(b), symmetry)
    middle = {n: (v + matched.params[n]) / 2 for n, v in state(a).items()}
    assert float(loss(middle)) == pytest.approx(found.history[0], rel=1e-4)


def test_straight_through_without_steps_is_weight_matching(generator):
    a, b = mlp(nn.ReLU, generator), mlp(nn.ReLU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    method = StraightThrough(lambda params: params["0.weight"].square().sum(), steps=0)
    found, plain = (align(state(a), state(b), symmetry, method=m) for m in (method, None))
    assert all(torch.equal(found.element[name], value) for name, value in plain.element.items())


def test_sinkhorn_on_the_distance_recovers_a_planted_permutation_from_nearby(generator):
    a = mlp(nn.GELU, generator)
    symmetry = symmetries(a, torch.randn(2, DIM, generator=generator))
    swap = symmetry.identity()
    swap["permutation:0"][:2] = torch.tensor([1, 0])
    found = align(
        state(a), symmetry.apply(state(a), swap), symmetry, method=Sinkhorn(start=identity, learning_rate=1.0)
    )
    assert found.after.squared_distance == 0


def test_several_models_come_into_one_frame_without_contradiction(generator):
    nets = [mlp(nn.Tanh, generator) for _ in range(4)]
    symmetry = symmetries(nets[0], torch.randn(2, DIM, generator=generator))
    states = [state(net) for net in nets]
    kept = [dict(s) for s in states]
    found = align_many(states, symmetry)
    x = torch.randn(20, DIM, generator=generator)
    for net, moved in zip(nets, found.params, strict=True):
        torch.testing.assert_close(output(net, moved, x), net(x), rtol=1e-4, atol=1e-5)
    for i, j, k in ((1, 2, 3), (0, 1, 2), (3, 0, 2)):
        there = symmetry.compose(found.between(i, j), found.between(j, k))
        assert all(torch.equal(there[name], value) for name, value in found.between(i, k).items())
    assert all(later < earlier for earlier, later in zip(found.history, found.history[1:], strict=False))
    assert all(torch.equal(found.params[0][name], value) for name, value in states[0].items())
    assert all(torch.equal(s[name], k[name]) for s, k in zip(states, kept, strict=True) for name in k)
    spread = torch.stack([torch.cat([v.flatten() for v in p.values()]) for p in found.params])
    assert found.history[-1] == pytest.approx(float((spread - spread.mean(0)).square().sum()), rel=1e-4)
    plain = [align(states[0], s, symmetry).params for s in states[1:]]
    star = torch.stack([torch.cat([v.flatten() for v in p.values()]) for p in (states[0], *plain)])
    assert found.history[-1] < float((star - star.mean(0)).square().sum())


def test_planted_copies_fall_together_also_from_activations(generator):
    net = mlp(nn.Tanh, generator)
    x = torch.randn(100, DIM, generator=generator)
    symmetry = symmetries(net, x)
    nets = [net]
    for _ in range(3):
        copy = mlp(nn.Tanh, generator)
        copy.load_state_dict(symmetry.apply(state(net), symmetry.random_element(generator=generator)))
        nets.append(copy)
    states = [state(n) for n in nets]
    for method in (None, lambda i: ActivationMatching(nets[0], nets[i], x)):
        assert align_many(states, symmetry, method=method).history[-1] < 1e-10
    with pytest.raises(ValueError, match="at least two models"):
        align_many(states[:1], symmetry)
    with pytest.raises(KeyError, match=r"number 1 model: tensor '0\.bias' is missing"):
        align_many([states[0], {n: t for n, t in states[1].items() if n != "0.bias"}], symmetry)
