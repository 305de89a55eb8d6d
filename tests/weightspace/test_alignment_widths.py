"""Models of different widths: equal units come together, split units share their work, equal widths are permuted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from symfield.weightspace import Permutation, reading_axes, symmetries, transport


def net(channels: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, channels, 3), nn.BatchNorm2d(channels), nn.GELU(), nn.Flatten(),
        nn.Linear(4 * channels, hidden), nn.GELU(), nn.Linear(hidden, 3),
    ).double().eval()  # fmt: skip


def drawn(model: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    made = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value = value.abs() + 0.1 if "var" in name else value
        made[name] = value
    return made


def output(model: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.func.functional_call(model, params, (x,))


def setting(generator: torch.Generator, large=(6, 10), small=(3, 5)):
    x = torch.randn(7, 2, 4, 4, generator=generator, dtype=torch.float64)
    big, little = net(*large), net(*small)
    return x, big, little, symmetries(big, x), symmetries(little, x)


def doubled(params, generator):
    """Each hidden unit twice, in disorder, with outgoing weights split in unequal parts."""

    def order(k):
        return torch.randperm(2 * k, generator=generator)

    made = dict(params)
    first, second = order(3), order(5)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        made[name] = torch.cat([params[name]] * 2)[first]
    share = torch.rand(5, 3, 1, generator=generator, dtype=torch.float64)
    wide = params["4.weight"].unflatten(1, (3, 4))
    wide = torch.cat([share * wide, (1 - share) * wide], 1)[:, first].flatten(1)
    made["4.weight"], made["4.bias"] = torch.cat([wide] * 2)[second], torch.cat([params["4.bias"]] * 2)[second]
    share = torch.rand(1, 5, generator=generator, dtype=torch.float64)
    made["6.weight"] = torch.cat([share * params["6.weight"], (1 - share) * params["6.weight"]], 1)[:, second]
    return made


def test_doubled_units_come_together_and_the_function_stays(generator):
    x, big, little, large, small = setting(generator)
    params = drawn(little, generator)
    wide = doubled(params, generator)
    torch.testing.assert_close(output(big, wide, x), output(little, params, x), rtol=1e-10, atol=1e-10)
    kept = {name: value.clone() for name, value in wide.items()}
    found = transport(params, wide, small, large, reads=reading_axes(little))
    for name, value in params.items():
        torch.testing.assert_close(found.params[name], value, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(wide[name], kept[name]) for name in kept)


def test_split_units_keep_the_function_whatever_the_wide_model(generator):
    x, big, little, large, small = setting(generator)
    params, other = drawn(little, generator), drawn(big, generator)
    found = transport(other, params, large, small)
    assert {name: tuple(t.shape) for name, t in found.params.items()} == {n: tuple(t.shape) for n, t in other.items()}
    torch.testing.assert_close(output(big, found.params, x), output(little, params, x), rtol=1e-10, atol=1e-10)


def test_couplings_have_equal_margins_also_where_widths_do_not_divide(generator):
    x, big, little, large, small = setting(generator, (5, 9), (3, 4))
    found = transport(drawn(big, generator), drawn(little, generator), large, small)
    for name, coupling in found.couplings.items():
        n, k = large[name].size, small[name].size
        assert coupling.shape == (n, k)
        torch.testing.assert_close(coupling.sum(1), torch.full((n,), 1 / n, dtype=torch.float64))
        torch.testing.assert_close(coupling.sum(0), torch.full((k,), 1 / k, dtype=torch.float64))
    assert output(big, found.params, x).isfinite().all()


def test_equal_widths_are_matched_by_permutations(generator):
    _, _, little, _, small = setting(generator)
    params = drawn(little, generator)
    element = {f.name: f.random_element(generator=generator) for f in small.factors if isinstance(f, Permutation)}
    found = transport(params, small.apply(params, element), small, small)
    for name, value in params.items():
        torch.testing.assert_close(found.params[name], value, rtol=1e-10, atol=1e-10)


def test_axes_that_read_are_known_from_the_modules():
    model = nn.Sequential(nn.ConvTranspose1d(2, 3, 1), nn.Embedding(4, 2), nn.Linear(2, 2), nn.LSTM(2, 2))
    reads = reading_axes(model)
    assert [reads("0.weight", i) for i in (0, 1)] == [True, False]
    assert [reads("1.weight", i) for i in (0, 1)] == [False, False]
    assert [reads("2.weight", i) for i in (0, 1)] == [False, True]
    assert [reads("3.weight_hh_l0", i) for i in (0, 1)] == [False, True]
    assert not reads("2.bias", 0)


def test_models_that_cannot_be_carried_are_named(generator):
    x, big, little, large, small = setting(generator)
    a, b = drawn(big, generator), drawn(little, generator)
    bare = nn.Sequential(*list(net(3, 5))[:-1], nn.Linear(5, 3, bias=False)).double().eval()
    with pytest.raises(KeyError, match="the models differ in"):
        transport(a, drawn(bare, generator), large, symmetries(bare, x))
    other = nn.Sequential(*list(net(3, 5))[:-1], nn.Linear(5, 4)).double().eval()
    with pytest.raises(ValueError, match=r"axis 0 of '6.weight' has 3 and 4 entries"):
        transport(a, drawn(other, generator), large, symmetries(other, x))
    with pytest.raises(ValueError, match=r"second model: tensor '4.bias' holds NaN"):
        transport(a, {**b, "4.bias": b["4.bias"] * torch.nan}, large, small)


class Attentive(nn.Module):
    """Attention with four heads, and a feed-forward layer whose width may differ."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 8) for _ in range(3))
        self.o, self.up, self.down = nn.Linear(8, 5), nn.Linear(5, hidden), nn.Linear(hidden, 2)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (4, 2)).transpose(-2, -3) for f in (self.q, self.k, self.v))
        heard = nn.functional.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        return self.down(nn.functional.gelu(self.up(self.o(heard))))


def test_heads_are_matched_once_the_plain_layers_are_carried(generator):
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    large, small = (Attentive(hidden).double().eval() for hidden in (12, 6))
    one, two = symmetries(large, x), symmetries(small, x)
    b = drawn(small, generator)
    heads = [f for f in two.factors if "heads" in f.space and isinstance(f, Permutation)]
    shuffled = two.apply(b, {f.name: torch.tensor([2, 0, 3, 1]) for f in heads})
    a = {**b, **{name: torch.cat([b[name]] * 2) for name in ("up.weight", "up.bias")}}
    a["down.weight"] = torch.cat([b["down.weight"] / 2] * 2, 1)
    carried = transport(a, shuffled, one, two, reads=reading_axes(large))
    assert set(carried.element) >= {f.name for f in heads}
    for name, value in a.items():
        torch.testing.assert_close(carried.params[name], value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(output(large, carried.params, x), output(small, b, x), rtol=1e-6, atol=1e-6)
