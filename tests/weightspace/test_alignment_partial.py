"""Partial merging: equal units merge without loss, within and across models; heads stay apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from symfield.weightspace import Permutation, align, symmetries, zip_models


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.GELU(), nn.Flatten(),
        nn.Linear(24, 8), nn.GELU(), nn.Linear(8, 7), nn.GELU(), nn.Linear(7, 3),
    ).double().eval()  # fmt: skip


def fill(model: nn.Module, generator: torch.Generator) -> nn.Module:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(drawn.abs() + 0.1 if "var" in name else drawn)
    return model


def output(model: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.func.functional_call(model, params, (x,))


@pytest.mark.parametrize("within", [True, False])
def test_permuted_copies_merge_without_loss(within, generator):
    x = torch.randn(60, 2, 4, 4, generator=generator, dtype=torch.float64)
    one, two = fill(net(), generator), net()
    symmetry = symmetries(one, x)
    names = [f.name for f in symmetry.factors if isinstance(f, Permutation)]
    element = {name: symmetry[name].random_element(generator=generator) for name in names}
    two.load_state_dict(symmetry.apply(one.state_dict(), element))
    before = {name: value.clone() for name, value in one.state_dict().items()}
    zipped = zip_models(one, two, x, symmetry, within=within)
    for params in (zipped.params_a, zipped.params_b):
        torch.testing.assert_close(output(one, params, x), one(x), rtol=1e-9, atol=1e-9)
    assert set(before) - set(zipped.shared) == {"8.weight", "8.bias", "1.num_batches_tracked"}
    for name, values in zipped.correlations.items():
        torch.testing.assert_close(values, torch.ones_like(values))
        cross = zipped.members[name]
        assert sorted(cross.flatten().tolist()) == list(range(2 * symmetry[name].size))
    assert all(torch.equal(one.state_dict()[name], before[name]) for name in before)


def test_equal_units_of_one_model_merge_with_each_other(generator):
    x = torch.randn(60, 5, generator=generator, dtype=torch.float64)

    def doubled() -> nn.Module:
        model = fill(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double(), generator)
        with torch.no_grad():
            model[0].weight[3:], model[0].bias[3:] = model[0].weight[:3].clone(), model[0].bias[:3].clone()
        return model

    one, two = doubled(), doubled()
    symmetry = symmetries(one, x)
    zipped = zip_models(one, two, x, symmetry)
    torch.testing.assert_close(output(one, zipped.params_a, x), one(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output(two, zipped.params_b, x), two(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(zipped.params_a[name], zipped.params_b[name]) for name in zipped.shared)
    across = zip_models(one, two, x, symmetry, within=False)
    assert (output(one, across.params_a, x) - one(x)).abs().max() > 0.1


def test_merging_stops_where_it_is_told_to(generator):
    x = torch.randn(60, 2, 4, 4, generator=generator, dtype=torch.float64)
    one, two = fill(net(), generator), fill(net(), generator)
    symmetry = symmetries(one, x)
    zipped = zip_models(one, two, x, symmetry, spaces=["permutation:0"])
    assert set(zipped.shared) == {n for n in one.state_dict() if n[0] in "01" and "num" not in n}
    for name in ("6.weight", "8.bias"):
        assert torch.equal(zipped.params_a[name], one.state_dict()[name])
        assert torch.equal(zipped.params_b[name], two.state_dict()[name])
    with pytest.raises(ValueError, match=r"makes units of .* that are merged, from units of .* that are not"):
        zip_models(one, two, x, symmetry, spaces=["permutation:4"])
    with pytest.raises(KeyError, match="no plain permutation 'nothing'"):
        zip_models(one, two, x, symmetry, spaces=["nothing"])


def test_blocks_that_carry_factors_of_their_own_are_refused_by_name(generator):
    model = nn.Sequential(nn.Conv1d(2, 8, 1), nn.GroupNorm(4, 8), nn.GELU(), nn.Conv1d(8, 2, 1)).double()
    x = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    symmetry = symmetries(model, x)
    blocks = next(f.name for f in symmetry.factors if "groups" in f.name)
    with pytest.raises(ValueError, match=f"'{blocks}' permutes blocks that carry factors of their own"):
        zip_models(model, model, x, symmetry, spaces=[blocks])


def test_across_models_it_is_the_average_after_activation_matching(generator):
    from symfield.weightspace import ActivationMatching

    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    one, two = (fill(nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 2)).double(), generator) for _ in range(2))
    symmetry = symmetries(one, x)
    zipped = zip_models(one, two, x, symmetry, within=False)
    pair = one.state_dict(), two.state_dict()
    moved = align(*pair, symmetry, method=ActivationMatching(one, two, x)).params
    for name in ("0.weight", "0.bias"):
        torch.testing.assert_close(zipped.params_a[name], (pair[0][name] + moved[name]) / 2, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(zipped.params_a["2.weight"], pair[0]["2.weight"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(zipped.params_b["2.weight"], moved["2.weight"], rtol=1e-9, atol=1e-9)
