"""Gaussians of low rank over weights: moments of the outputs, the divergence, fixed entries, training."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from symfield import random
from symfield.weightspace import (
    Adam,
    Rule,
    asymmetrize,
    calibration_error,
    divergence,
    fixed_entries,
    initial_many,
    log_mean_probability,
    outputs_many,
    symmetrize_back,
    train_many,
    variational,
    width_prior,
)


class Entries(NamedTuple):
    mask: torch.Tensor
    values: torch.Tensor


def entries(shape, seed=0):
    generator = random.generator(seed)
    like = torch.zeros((), dtype=torch.float64)
    mask = random.uniform(shape, generator=generator, like=like) < 0.6
    return Entries(mask, random.normal(shape, generator=generator, like=like))


def covariance(layer):
    """Dense covariance of all weights and biases, zero at fixed entries: (W | b) flattened."""
    mean, directions = layer.effective()
    factor = torch.cat([directions.flatten(1), layer.bias_directions], 1)
    free = torch.ones_like(mean) if layer.mask is None else layer.mask.to(mean)
    free = torch.cat([free.flatten(), torch.ones_like(layer.bias)])
    return factor.mT @ factor / layer.rank + layer.delta * free.diag()


@pytest.mark.parametrize("masked", [False, True])
def test_drawn_outputs_have_the_mean_and_the_covariance_of_drawn_weights(masked):
    layer = nn.Linear(5, 3).double()
    fixed = {"weight": entries((3, 5))} if masked else None
    found = variational(
        layer, rank=4, delta=0.02, prior=width_prior(1.0), generator=random.generator(1), spread=0.3, fixed=fixed
    )
    x = random.normal((2, 5), generator=random.generator(2), like=layer.weight)
    draws = 100_000
    with torch.no_grad():
        y = found(x.repeat_interleave(draws, 0), generator=random.generator(3)).reshape(2, draws, 3)
        inner = found.layers()["model"]
        whole = covariance(inner)
        for i in range(2):
            jacobian = torch.cat([torch.kron(torch.eye(3).double(), x[i]), torch.eye(3).double()], 1)
            expected = jacobian @ whole @ jacobian.mT
            mean = nn.functional.linear(x[i], inner.effective()[0], inner.bias)
            error = (expected.diagonal() / draws).sqrt()
            assert bool(((y[i].mean(0) - mean).abs() < 3 * error).all())
            spread = (expected.square() + torch.outer(expected.diagonal(), expected.diagonal())) / draws
            assert bool(((y[i].T.cov() - expected).abs() < 3.5 * spread.sqrt()).all())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layer", [nn.Linear(11, 13), nn.Conv2d(2, 4, 3), nn.Conv1d(3, 5, 3, bias=False)])
def test_the_divergence_is_that_of_dense_gaussians(layer, masked):
    layer = layer.double()
    fixed = {"weight": entries(layer.weight.shape)} if masked else {}
    found = variational(layer, rank=4, delta=0.01, prior=width_prior(0.3), generator=random.generator(1), fixed=fixed)
    own = found.layers()["model"]
    posterior = own.posterior()
    assert posterior.event_shape[0] == (int(own.mask.sum()) if masked else own.weight.numel()) + (
        0 if own.bias is None else len(own.bias)
    )
    count = posterior.event_shape[0]
    assert count <= 200
    dense = MultivariateNormal(posterior.mean, posterior.covariance_matrix)
    eye = torch.eye(count, dtype=torch.float64)
    prior = MultivariateNormal(torch.zeros(count).double(), own.prior_variance * eye)
    assert divergence(found).item() == pytest.approx(kl_divergence(dense, prior).item(), rel=1e-10)


def test_fixed_entries_have_their_value_no_variance_and_no_part_in_the_divergence():
    layer = nn.Linear(6, 4).double()
    given = entries((4, 6))
    found = variational(
        layer, rank=2, delta=0.1, prior=width_prior(1.0), generator=random.generator(0), fixed={"weight": given}
    )
    own = found.layers()["model"]
    mean, directions = own.effective()
    assert torch.equal(mean[~given.mask], given.values[~given.mask])
    assert not bool(directions[:, ~given.mask].any())
    value = divergence(found)
    slopes = torch.autograd.grad(value, [own.weight, own.weight_directions])
    assert not any(bool(slope[..., ~given.mask].any()) for slope in slopes)
    frozen = Entries(torch.zeros(4, 6, dtype=torch.bool), given.values)
    still = variational(
        nn.Linear(6, 4, bias=False).double(), rank=2, delta=0.1, prior=width_prior(1.0),
        generator=random.generator(0), fixed={"weight": frozen},
    )  # fmt: skip
    x = random.normal((3, 6), generator=random.generator(1), like=mean)
    assert torch.equal(still(x, generator=random.generator(2)), still(x))
    assert divergence(still).item() == pytest.approx(0.0, abs=1e-14)


def test_samples_of_a_batch_are_drawn_apart_and_outputs_of_one_together():
    layer = nn.Linear(3, 2).double()
    found = variational(layer, rank=1, delta=1e-12, prior=width_prior(1.0), generator=random.generator(0), spread=1.0)
    x = torch.ones(4000, 3, dtype=torch.float64)
    with torch.no_grad():
        noise = (found(x, generator=random.generator(1)) - found(x)).T
    assert abs(float(noise.corrcoef()[0, 1])) == pytest.approx(1, abs=1e-6)
    assert abs(float(torch.corrcoef(noise[:, :2000].flatten().reshape(2, -1))[0, 1])) > 0.99
    assert abs(float(torch.corrcoef(torch.stack([noise[0, :2000], noise[0, 2000:]]))[0, 1])) < 0.1


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_draw_with_the_variance_of_their_kernels(groups):
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=groups).double()
    given = entries(layer.weight.shape)
    found = variational(
        layer, rank=3, delta=0.05, prior=width_prior(1.0), generator=random.generator(0), spread=0.2,
        fixed={"weight": given},
    )  # fmt: skip
    x = random.normal((1, 2, 4, 4), generator=random.generator(1), like=layer.weight)
    own = found.layers()["model"]
    with torch.no_grad():
        y = found(x.expand(20_000, -1, -1, -1), generator=random.generator(2))
        patches = nn.functional.unfold(x, 3, padding=1, stride=2)[0].reshape(groups, -1, 4)
        kernel = own.effective()[1].reshape(3, groups, 4 // groups, -1)
        along = torch.einsum("rgok,gkp->rgop", kernel, patches).flatten(1, 2) + own.bias_directions[:, :, None]
        free = own.mask.to(x).reshape(groups, 4 // groups, -1)
        small = torch.einsum("gok,gkp->gop", free, patches.square()).flatten(0, 1) + 1
        expected = along.square().sum(0) / 3 + 0.05 * small
        found_variance = y.flatten(2).var(0)
    assert torch.allclose(found_variance, expected, rtol=4 * math.sqrt(2 / 20_000))


def test_many_posteriors_are_trained_at_once_and_resumed_to_the_last_bit():
    generator = random.generator(0)
    x = random.normal((60, 4), generator=generator, like=torch.zeros((), dtype=torch.float64))
    y = (x[:, 0] * x[:, 1] > 0).long()

    def build():
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).double()
        return variational(net, rank=2, delta=1e-3, prior=width_prior(0.1), generator=random.generator(0))

    model = build()
    params = initial_many(build, [0, 1, 2])

    def fit(start, **more):
        return train_many(
            model, start, x, y, epochs=[60, 60, 1], batch=20, rate=0.01, seeds=range(3), rule=Adam(), noise=5,
            penalty=lambda own: divergence(model, own) / (8 * 60), **more,
        )  # fmt: skip

    whole = fit(params)
    again = fit(fit(params, until=31))
    assert all(torch.equal(again.params[name], value) for name, value in whole.params.items())
    logits = torch.stack([outputs_many(model, whole.params, x, noise=draw) for draw in range(10)])
    assert not torch.equal(logits[0], logits[1])
    logs = log_mean_probability(logits)
    accuracy = (logs.argmax(-1) == y).double().mean(1)
    assert bool((accuracy[:2] > 0.9).all())
    assert bool(accuracy[2] < accuracy[0])
    assert all(0 <= calibration_error(one, y) < 0.3 for one in logs[:2])
    fixed = outputs_many(model, whole.params, x)
    assert torch.equal(fixed, outputs_many(model, whole.params, x))


def test_calibration_is_measured_in_bins():
    sure = torch.tensor([[0.8, 0.2]] * 10).log()
    assert calibration_error(sure, torch.tensor([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, torch.tensor([1] * 10)) == pytest.approx(0.8, abs=1e-6)
    mixed = torch.cat([sure, torch.tensor([[0.5, 0.5]] * 10).log()])
    labels = torch.tensor([0] * 10 + [1] * 10)
    assert calibration_error(mixed, labels) == pytest.approx(0.5 * 0.2 + 0.5 * 0.5, abs=1e-6)
    assert calibration_error(mixed, labels, bins=1) == pytest.approx(0.15, abs=1e-6)  # gaps of both signs cancel
    with pytest.raises(ValueError, match="a class for each sample"):
        calibration_error(sure, torch.tensor([0]))


def test_what_cannot_be_converted_is_refused():
    settings = {"rank": 2, "delta": 0.1, "prior": width_prior(1.0), "generator": random.generator(0)}
    with pytest.raises(ValueError, match="rank ≥ 1"):
        variational(nn.Linear(2, 2), **{**settings, "rank": 0})
    with pytest.raises(ValueError, match="delta > 0"):
        variational(nn.Linear(2, 2), **{**settings, "delta": 0.0})
    with pytest.raises(ValueError, match="no weight of a linear"):
        variational(nn.Sequential(nn.Linear(2, 2)), **settings, fixed={"weight": entries((2, 2))})
    with pytest.raises(ValueError, match="expected a mask of shape"):
        variational(nn.Linear(2, 2), **settings, fixed={"weight": entries((2, 3))})
    with pytest.raises(ValueError, match="without any"):
        variational(nn.LayerNorm(3), **settings)
    with pytest.raises(NotImplementedError, match="circular"):
        variational(nn.Conv1d(1, 1, 3, padding_mode="circular"), **settings)
    with pytest.raises(ValueError, match="positive scale"):
        width_prior(0.0)


def converted(model, **options):
    return variational(model, rank=2, delta=0.01, prior=lambda layer: 1.0, generator=random.generator(0), **options)


def test_masks_of_an_asymmetric_model_are_not_lost_silently():
    model = asymmetrize(nn.Sequential(nn.Linear(5, 4)), Rule(fix=2, kappa=1.0), seed=0)
    with pytest.raises(ValueError, match=r"'0.weight' are fixed in this model, and would be trained; pass fixed="):
        converted(model)
    assert converted(model, fixed=fixed_entries(model)).layers()["model.0"].mask is not None
    assert converted(symmetrize_back(model)).layers()["model.0"].mask is None


@pytest.mark.parametrize("what", ["layer", "weight"])
def test_what_is_used_twice_is_refused(what):
    """A layer put in the one place would leave the other as it was."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    if what == "layer":
        model[2] = model[0]
    else:
        model[2].weight = model[0].weight
    with pytest.raises(ValueError, match=r"'0.weight' and '2.weight' are one tensor"):
        converted(model)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_layers_of_a_transformer_are_drawn_in_eval_mode_too(training):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = converted(nn.TransformerEncoder(layer, 2)).train(training)
    assert {path.rsplit(".", 1)[1] for path in model.layers()} == {"linear1", "linear2"}
    assert "layers.0.self_attn.out_proj" in model.left  # attention reads its weight without calling it
    x, padding = torch.randn(6, 5, 8), torch.tensor([[False] * 4 + [True]] * 6)
    called = []
    for path, drawn in model.layers().items():
        forward = drawn.forward
        drawn.forward = lambda y, path=path, forward=forward: (called.append(path), forward(y))[1]
    with torch.no_grad():
        draws = [model.model(x), model.model(x, src_key_padding_mask=padding)]
        first, second = (model(x, generator=random.generator(seed)) for seed in (0, 1))
    assert sorted(called) == sorted([*model.layers()] * 4)
    assert not torch.allclose(first, second)
    assert all(draw.shape == x.shape for draw in draws)


def test_inputs_without_samples_and_priors_without_variance_are_refused():
    with pytest.raises(ValueError, match="expected samples along the first axis"):
        converted(nn.Linear(4, 4))(torch.zeros(4), generator=random.generator(0))
    with pytest.raises(ValueError, match="expected samples along the first axis"):
        converted(nn.Conv1d(4, 4, 1))(torch.zeros(4, 4), generator=random.generator(0))
    with pytest.raises(ValueError, match=r"expected a positive variance of the prior of the model, received 0.0"):
        variational(nn.Linear(3, 3), rank=1, delta=1.0, prior=lambda layer: 0.0, generator=random.generator(0))
