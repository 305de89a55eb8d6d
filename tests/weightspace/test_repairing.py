"""Repair of merged models: statistics are restored exactly, ends keep their function, what has no rule is named."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import update_bn

from symfield.weightspace import Repair, interpolate, repair


class Conv(nn.Module):
    """Convolutions with and without batch norm, grouped and transposed, a residual branch, two heads."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.fc = nn.Linear(6, 5)
        self.heads = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 1)])

    def forward(self, x):
        x = self.bn(self.stem(x)).relu()
        x = self.up(x + self.deep(x)).relu().mean((2, 3))
        x = self.fc(x).relu()
        return [head(x) for head in self.heads]


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fill(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            made[name] = value.clone()
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        fan = value[0].numel() if value.ndim > 1 else 4
        made[name] = drawn.abs() + 0.1 if "var" in name else drawn / fan**0.5
    return made


def data(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(model: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    found = functional_call(model.eval(), params, (x,))
    return torch.cat(found, 1) if isinstance(found, list) else found


def moments(model: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor, path: str, axis: int = 1):
    """Mean and standard deviation of the units of a module, by a plain hook."""
    seen = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, a, y: seen.append(y.clone()))
    output(model, params, x)
    handle.remove()
    flat = seen[0].movedim(axis, -1).flatten(0, -2)
    return flat.mean(0), flat.std(0, correction=0)


CASES = {
    "mlp": (mlp(6, 16, 12, 3), (200, 6), ["0", "2"], ["4"]),
    "conv": (Conv(), (20, 2, 8, 8), ["bn", "deep", "up", "fc"], ["heads.0", "heads.1"]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_hidden_unit_gets_the_mean_and_deviation_of_the_ends_on_average(case):
    model, shape, hidden, outputs = CASES[case]
    x, model = data(*shape), model.double()
    a, b = fill(model, 0), fill(model, 1)
    found = repair(model, interpolate(a, b, 0.3), x, endpoints=(a, b), weights=(0.7, 0.3))
    assert [layer.module for layer in found.layers] == hidden
    assert sorted(found.left) == outputs
    for path in hidden:
        ends = [moments(model, params, x, path) for params in (a, b)]
        now = moments(model, found.params, x, path)
        for got, one, two in zip(now, *ends, strict=True):
            assert torch.allclose(got, 0.7 * one + 0.3 * two, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_an_end_keeps_its_function_and_the_merged_model_does_not(case):
    model, shape, _, _ = CASES[case]
    x, model = data(*shape), model.double()
    a, b = fill(model, 0), fill(model, 1)
    between = Repair(model, x)(a, b)
    other = data(*shape, seed=5)
    for t, end in ((0.0, a), (1.0, b)):
        assert torch.allclose(output(model, between(end, t), other), output(model, end, other), atol=1e-10)
    middle = interpolate(a, b, 0.5)
    change = output(model, between(middle, 0.5), other) - output(model, middle, other)
    assert change.abs().max() > 0.01


def test_without_batch_norm_an_end_keeps_its_tensors_to_the_last_bit():
    model, x = mlp(6, 16, 12, 3).double(), data(50, 6)
    a, b = fill(model, 0), fill(model, 1)
    kept = Repair(model, x)(a, b)(a, 0.0)
    assert all(torch.equal(kept[name], a[name]) for name in a)


def test_along_a_line_repair_is_repair_with_both_ends():
    model, x = mlp(6, 16, 3).double(), data(50, 6)
    a, b = fill(model, 0), fill(model, 1)
    point = interpolate(a, b, 0.25)
    one = Repair(model, x)(a, b)(point, 0.25)
    two = repair(model, point, x, endpoints=(a, b), weights=(0.75, 0.25)).params
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_line_may_be_repaired_by_its_batch_norms_alone():
    model, x = Conv().double(), data(20, 2, 8, 8)
    a, b = fill(model, 0), fill(model, 1)
    point = interpolate(a, b, 0.5)
    found, expected = Repair(model, x, rescale=False)(a, b)(point, 0.5), repair(model, point, x).params
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(found["fc.weight"], point["fc.weight"])


def test_a_corrected_batch_norm_does_the_same_in_training_mode():
    model, x = Conv().double(), data(64, 2, 8, 8)
    a, b = fill(model, 0), fill(model, 1)
    found = repair(model, interpolate(a, b, 0.5), x, endpoints=(a, b)).params
    trained = functional_call(model.train(), {name: value.clone() for name, value in found.items()}, (x,))
    assert torch.allclose(torch.cat(trained, 1), output(model, found, x), rtol=2e-3, atol=2e-3)


def test_batch_norms_are_estimated_as_a_pass_of_update_bn_does():
    model, x = Conv().double(), data(256, 2, 8, 8)
    params = fill(model, 0)
    found = repair(model, params, x)
    model.load_state_dict(params)
    update_bn([x], model)
    assert torch.allclose(found.params["bn.running_mean"], model.bn.running_mean, atol=1e-10)
    assert torch.allclose(found.params["bn.running_var"], model.bn.running_var, atol=1e-10)
    assert all(torch.equal(found.params[name], params[name]) for name in params if "running" not in name)
    assert "running statistics" in found.table()


def test_later_batch_norms_are_estimated_on_what_earlier_ones_pass_on():
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False)]
    model, x = nn.Sequential(*layers, nn.ReLU(), nn.Linear(6, 2)).double(), data(2000, 4)
    found = repair(model, fill(model, 0), x).params
    mean, std = moments(model, found, x, "4")
    assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-10)
    var = found["4.running_var"]  # unbiased, as in training
    assert torch.allclose(std.square(), var * (1 - 1 / 2000) / (var + 1e-5), atol=1e-10)


def test_repair_alone_leaves_models_and_parameters_as_they_were():
    model, x = Conv().double().train(), data(20, 2, 8, 8)
    a, b = fill(model, 0), fill(model, 1)
    merged = interpolate(a, b, 0.5)
    before = [{name: value.clone() for name, value in p.items()} for p in (a, b, merged, model.state_dict())]
    found = repair(model, merged, x, endpoints=(a, b)).params
    for value in found.values():
        value.zero_()
    after = (a, b, merged, model.state_dict())
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, after, strict=True) for name in old)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_without_bias_gets_its_deviation_alone_and_says_so():
    model, x = mlp(6, 16, 3, bias=False).double(), data(50, 6) + 0.5
    a, b = fill(model, 0), fill(model, 1)
    found = repair(model, interpolate(a, b, 0.5), x, endpoints=(a, b))
    stds = [moments(model, params, x, "0")[1] for params in (a, b, found.params)]
    assert torch.allclose(stds[2], (stds[0] + stds[1]) / 2, atol=1e-10)
    assert "no bias: the mean is left" in found.table()
    assert 0.4 < found.layers[0].spread < 0.9  # two independent layers: about 1/√2


def test_units_that_never_vary_are_shifted_counted_and_not_scaled():
    model, x = mlp(2, 3, 2).double(), data(50, 2)
    a, b = fill(model, 0), fill(model, 1)
    b["0.weight"] = -a["0.weight"]
    found = repair(model, interpolate(a, b, 0.5), x, endpoints=(a, b))
    assert found.layers[0].constant == 3
    assert bool(found.params["0.weight"].isfinite().all())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.up = nn.Linear(4, 8)
        self.twice = nn.Linear(8, 8)
        self.normed = parametrizations.weight_norm(nn.Linear(8, 4))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        x = self.twice(self.twice(self.up(x + self.attend(x, x, x)[0]).relu()).relu())
        return self.head(self.normed(x.relu()))


def test_modules_without_a_rule_are_left_and_named_with_the_reason():
    model, tokens = Tied().double(), torch.randint(7, (6, 5), generator=torch.Generator().manual_seed(0))
    ends = []
    for seed in (0, 1):
        params = fill(model, seed)
        params["head.weight"] = params["embed.weight"]
        ends.append(params)
    found = repair(model, interpolate(*ends, 0.5), tokens, endpoints=ends)
    assert [layer.module for layer in found.layers] == ["up"]
    reasons = {path: reason for path, reason in found.left.items() if not path.startswith("normed.")}
    for path, reason in {
        "attend": "no rule for MultiheadAttention",
        "attend.out_proj": "not called",
        "twice": "called 2 times",
        "normed": "computed from other tensors",
        "head": "tied",
    }.items():
        assert reason in reasons.pop(path)
    assert not reasons
    assert found.params["head.weight"] is found.params["embed.weight"]


class Adapter(nn.Linear):
    """A linear layer that does more than its weight and bias say."""

    def forward(self, x):
        return super().forward(x) + x.square()


def test_a_module_that_does_more_than_its_weights_say_is_an_error():
    model, x = nn.Sequential(Adapter(4, 4), nn.ReLU(), nn.Linear(4, 2)).double(), data(30, 4)
    a, b = fill(model, 0), fill(model, 1)
    with pytest.raises(ValueError, match="does more than its weight and bias say"):
        repair(model, interpolate(a, b, 0.5), x, endpoints=(a, b))


def test_wrong_input_is_named():
    model, x = mlp(6, 16, 3).double(), data(50, 6)
    a, b = fill(model, 0), fill(model, 1)
    with pytest.raises(ValueError, match="no batch norm with running statistics"):
        repair(model, a, x)
    with pytest.raises(ValueError, match="weights belong to endpoints"):
        repair(model, a, x, weights=(1.0,))
    with pytest.raises(ValueError, match="sum to 1"):
        repair(model, a, x, endpoints=(a, b), weights=(1.0, 1.0))
    with pytest.raises(ValueError, match="at least 2 samples"):
        repair(model, a, x[:1], endpoints=(a, b))
    with pytest.raises(ValueError, match="'0' holds NaN"):
        repair(model, a, x * torch.nan, endpoints=(a, b))
    with pytest.raises(ValueError, match=r"'0\.weight' of model 1 holds NaN"):
        repair(model, a, x, endpoints=(a, {**b, "0.weight": b["0.weight"] * torch.nan}))
    with pytest.raises(KeyError, match=r"'0\.bias' of Sequential is missing"):
        repair(model, {name: value for name, value in a.items() if name != "0.bias"}, x, endpoints=(a, b))


def test_the_transposed_linear_layers_of_transformers_are_corrected_too():
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    model = nn.Sequential(pytorch_utils.Conv1D(12, 6), nn.ReLU(inplace=True), nn.Linear(12, 2)).double()
    x = data(40, 6)
    a, b = fill(model, 0), fill(model, 1)
    found = repair(model, interpolate(a, b, 0.5), x, endpoints=(a, b)).params
    ends, now = [moments(model, params, x, "0") for params in (a, b)], moments(model, found, x, "0")
    assert all(torch.allclose(now[i], (ends[0][i] + ends[1][i]) / 2, atol=1e-10) for i in (0, 1))
