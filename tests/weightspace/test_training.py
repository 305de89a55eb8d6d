"""Networks trained side by side are the networks that torch trains one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from symfield import random, trees
from symfield.weightspace import (
    SGD,
    Adam,
    AdamW,
    constant,
    cosine,
    initial_many,
    outputs_many,
    train_many,
    triangular,
    update_rules,
)

RATES, DECAYS, SMOOTH, EPOCHS = [0.02, 0.005, 0.05], [0.1, 0.0, 0.3], [0.0, 0.1, 0.2], [3, 2, 4]


def mlp():
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).double()


def normed():
    return nn.Sequential(
        nn.Conv1d(1, 4, 3, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)
    ).double()  # fmt: skip


@pytest.fixture
def data():
    generator = random.generator(1)
    x = random.normal((26, 5), generator=generator, like=torch.zeros((), dtype=torch.float64))
    return x, random.integers(0, 3, (26,), generator=generator)


def alone(build, params, x, y, i, *, optimiser, schedule=None, seed=None, batch=8, rows=None):
    """The same network by torch's own classes."""
    model = build()
    model.load_state_dict(params)
    model.train()
    chosen = optimiser(model.parameters(), lr=RATES[i], weight_decay=DECAYS[i])
    loss = nn.CrossEntropyLoss(label_smoothing=SMOOTH[i])
    source = random.generator(i if seed is None else seed)
    rows = torch.arange(len(y)) if rows is None else rows
    steps = math.ceil(len(rows) / batch)
    for epoch in range(EPOCHS[i]):
        for step, index in enumerate(rows[torch.randperm(len(rows), generator=source)].split(batch)):
            if schedule is not None:
                for group in chosen.param_groups:
                    group["lr"] = RATES[i] * schedule(epoch + step / steps, EPOCHS[i])
            chosen.zero_grad()
            loss(model(x[index]), y[index]).backward()
            chosen.step()
    return model.state_dict()


def together(build, params, x, y, **settings):
    settings = {"epochs": EPOCHS, "batch": 8, "rate": RATES, "seeds": range(3)} | settings
    return train_many(build(), params, x, y, decay=DECAYS, smoothing=SMOOTH, **settings)


def far(stacked, singles):
    return max(
        float((stacked[name][i] - single[name]).abs().max()) for i, single in enumerate(singles) for name in single
    )


@pytest.mark.parametrize(
    ("rule", "optimiser"),
    [
        (AdamW(), torch.optim.AdamW),
        (Adam(betas=(0.8, 0.95), eps=1e-6), lambda p, **k: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-6, **k)),
        (SGD(), torch.optim.SGD),
        (SGD(0.9), lambda p, **k: torch.optim.SGD(p, momentum=0.9, **k)),
        (SGD(0.9, nesterov=True), lambda p, **k: torch.optim.SGD(p, momentum=0.9, nesterov=True, **k)),
    ],
)
def test_every_network_is_trained_as_torch_trains_it_alone(data, rule, optimiser):
    params = initial_many(mlp, [4, 5, 6])
    found = together(mlp, params, *data, rule=rule)
    singles = [alone(mlp, one, *data, i, optimiser=optimiser) for i, one in enumerate(trees.unstack(params))]
    assert far(found.params, singles) < 1e-9
    assert far(found.params, trees.unstack(params)) > 1e-2


@pytest.mark.parametrize(
    ("rule", "optimiser"),
    [
        (AdamW(), torch.optim.AdamW),
        (Adam(betas=(0.8, 0.95), eps=1e-6), lambda p, **k: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-6, **k)),
    ],
)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equal_rates_are_taken_in_one_pass_to_the_same_end(data, rule, optimiser, decay, monkeypatch):
    def trained():
        return train_many(
            mlp(), params, *data, epochs=3, batch=8, rate=0.02, decay=decay, seeds=range(3), rule=rule
        ).params

    params = initial_many(mlp, [4, 5, 6])
    passes, by_torch = [], Adam._by_torch
    monkeypatch.setattr(Adam, "_by_torch", lambda self, *args: passes.append(1) or by_torch(self, *args))
    found = trained()
    assert len(passes) == 3 * 4
    monkeypatch.setattr(update_rules, "_may_be_fused", lambda *_: False)
    assert far(found, trees.unstack(trained())) < 1e-12
    assert len(passes) == 3 * 4
    monkeypatch.setitem(globals(), "RATES", [0.02] * 3)
    monkeypatch.setitem(globals(), "DECAYS", [decay] * 3)
    monkeypatch.setitem(globals(), "SMOOTH", [0.0] * 3)
    monkeypatch.setitem(globals(), "EPOCHS", [3] * 3)
    singles = [alone(mlp, one, *data, i, optimiser=optimiser) for i, one in enumerate(trees.unstack(params))]
    assert far(found, singles) < 1e-9


def test_other_defaults_and_no_parameters_at_all_make_no_difference(data):
    params = initial_many(mlp, [4, 5, 6])
    settings = {"epochs": 2, "batch": 8, "rate": 0.02, "seeds": range(3)}
    expected = train_many(mlp(), params, *data, **settings).params
    model = mlp()
    torch.set_default_dtype(torch.float16)
    try:
        found = train_many(model, params, *data, **settings).params
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    one = torch.ones(1, dtype=torch.float64)
    AdamW().advance({}, {}, AdamW().slots({}), step=1, rate=one, decay=one)


class Tied(nn.Module):
    """Two names of one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5, dtype=torch.float64)
        self.second = nn.Linear(5, 5, dtype=torch.float64)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


def test_a_weight_of_two_names_is_trained_as_one(data):
    params = initial_many(Tied, [4, 5, 6])
    assert "second.weight" not in params
    found = together(Tied, params, *data)
    whole = [{**one, "second.weight": one["first.weight"]} for one in trees.unstack(params)]
    singles = [alone(Tied, one, *data, i, optimiser=torch.optim.AdamW) for i, one in enumerate(whole)]
    assert far({**found.params, "second.weight": found.params["first.weight"]}, singles) < 1e-9


def test_running_statistics_of_batch_norms_are_those_of_each_network(data):
    x, y = data[0][:, None], data[1]
    params = initial_many(normed, [0, 1, 2])
    found = together(normed, params, x, y)
    singles = [alone(normed, one, x, y, i, optimiser=torch.optim.AdamW) for i, one in enumerate(trees.unstack(params))]
    assert far(found.params, singles) < 1e-9
    assert found.params["1.num_batches_tracked"].tolist() == [4 * epochs for epochs in EPOCHS]
    outputs = outputs_many(normed(), found.params, x)
    model = normed().eval()
    model.load_state_dict(singles[2])
    assert torch.allclose(outputs[2], model(x), atol=1e-9)


@pytest.mark.parametrize("schedule", [triangular(1.5), cosine(0.5)])
def test_schedules_know_when_each_network_ends(data, schedule):
    def factor(epoch, epochs):
        return float(schedule(epoch, torch.tensor([epochs])))

    params = initial_many(mlp, [4, 5, 6])
    found = together(mlp, params, *data, schedule=schedule)
    singles = [
        alone(mlp, one, *data, i, optimiser=torch.optim.AdamW, schedule=factor)
        for i, one in enumerate(trees.unstack(params))
    ]
    assert far(found.params, singles) < 1e-9
    assert factor(0, 4) == 0
    assert factor(4, 4) == pytest.approx(0, abs=1e-12)


def test_networks_may_share_their_order_or_see_samples_of_their_own(data):
    params = initial_many(mlp, [4, 5, 6])
    rows = torch.stack([torch.randperm(26, generator=random.generator(9))[:20] for _ in range(3)])
    rows[1] = rows[1].flip(0) // 2
    for settings, own, seeds in (
        ({"seeds": 7}, None, [7] * 3),
        ({"samples": rows}, rows, [0, 1, 2]),
        ({"samples": rows, "seeds": 3}, rows, [3] * 3),
    ):
        found = together(mlp, params, *data, **settings)
        singles = [
            alone(mlp, one, *data, i, optimiser=torch.optim.AdamW, seed=seeds[i], rows=None if own is None else own[i])
            for i, one in enumerate(trees.unstack(params))
        ]
        assert far(found.params, singles) < 1e-9


def test_interrupted_and_resumed_training_agrees_to_the_last_bit(data):
    x, y = data[0][:, None], data[1]
    params = initial_many(normed, [0, 1, 2])
    whole = together(normed, params, x, y, rule=SGD(0.9), schedule=triangular(2))
    for stop in (1, 2, 3):
        part = together(normed, params, x, y, rule=SGD(0.9), schedule=triangular(2), until=stop)
        assert part.epoch == stop
        again = together(normed, part, x, y, rule=SGD(0.9), schedule=triangular(2))
        assert all(torch.equal(again.params[name], whole.params[name]) for name in params)
        assert torch.equal(again.losses.nan_to_num(9), whole.losses.nan_to_num(9))
        assert again.epoch == 4


def test_groups_of_networks_change_nothing_but_rounding(data):
    params = initial_many(mlp, [4, 5, 6])
    whole, parts = (together(mlp, params, *data, together=number) for number in (None, 2))
    assert far(parts.params, trees.unstack(whole.params)) < 1e-12
    assert torch.allclose(parts.losses, whole.losses, atol=1e-12, equal_nan=True)
    assert torch.isnan(whole.losses).sum(0).tolist() == [1, 2, 0]


def test_fixed_entries_keep_every_bit_and_the_others_train_as_if_these_were_constants(data):
    x, y = data
    mask = torch.rand(8, 5, generator=random.generator(0)) < 0.5
    params = initial_many(mlp, [4, 5, 6])
    found = together(mlp, params, x, y, trainable={"0.weight": mask, "3.bias": False, "1.weight": torch.ones(8) > 0})
    assert torch.equal(found.params["0.weight"][:, ~mask], params["0.weight"][:, ~mask])
    assert torch.equal(found.params["3.bias"], params["3.bias"])
    assert bool((found.params["0.weight"][:, mask] != params["0.weight"][:, mask]).all())

    class Compact(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()
            self.free = nn.Parameter(torch.zeros(int(mask.sum()), dtype=torch.float64))

        def forward(self, x):
            weight = self.inner[0].weight.detach().masked_scatter(mask, self.free)
            bias = self.inner[3].bias.detach()
            hidden = self.inner[2](self.inner[1](nn.functional.linear(x, weight, self.inner[0].bias)))
            return nn.functional.linear(hidden, self.inner[3].weight, bias)

    for i, one in enumerate(trees.unstack(params)):
        model = Compact()
        model.inner.load_state_dict(one)
        model.free = nn.Parameter(one["0.weight"][mask])
        whole = model.state_dict()
        trained = [p for name, p in model.named_parameters() if name not in ("inner.0.weight", "inner.3.bias")]
        chosen = torch.optim.AdamW(trained, lr=RATES[i], weight_decay=DECAYS[i])
        source = random.generator(i)
        for _ in range(EPOCHS[i]):
            for index in torch.randperm(26, generator=source).split(8):
                chosen.zero_grad()
                nn.functional.cross_entropy(model(x[index]), y[index], label_smoothing=SMOOTH[i]).backward()
                chosen.step()
        assert torch.allclose(found.params["0.weight"][i][mask], model.free, atol=1e-9)
        assert torch.allclose(found.params["3.weight"][i], model.inner[3].weight, atol=1e-9)
        assert whole.keys() == model.state_dict().keys()


def test_a_network_that_diverges_leaves_the_others_alone(data):
    params = initial_many(mlp, [4, 5, 6])
    one = {name: value[:2] for name, value in params.items()}
    settings = {"epochs": 4, "batch": 8, "rule": SGD()}
    calm = train_many(mlp(), one, *data, rate=[0.1, 0.1], seeds=[0, 1], **settings)
    wild = train_many(mlp(), one, *data, rate=[0.1, math.inf], seeds=[0, 1], **settings)
    assert far({n: v[:1] for n, v in wild.params.items()}, trees.unstack(calm.params)[:1]) < 1e-12
    assert bool(wild.losses[-1].isfinite()[0])
    assert not bool(wild.losses[-1].isfinite()[1])


def test_losses_of_ones_own_and_a_look_after_each_epoch(data):
    x, _ = data
    seen = []
    params = initial_many(lambda: nn.Linear(5, 1).double(), [0, 1])
    model = nn.Linear(5, 1).double()
    found = train_many(
        model, params, x, x.sum(1), epochs=[2, 30], batch=26, rate=0.1, seeds=0, rule=Adam(),
        loss=lambda outputs, y: (outputs[:, 0] - y).square().mean(), after_epoch=seen.append,
    )  # fmt: skip
    assert [state.epoch for state in seen] == list(range(1, 31))
    assert torch.equal(seen[1].params["weight"][0], found.params["weight"][0])
    assert not torch.equal(seen[1].params["weight"][1], found.params["weight"][1])
    own = (outputs_many(model, seen[0].params, x)[1, :, 0] - x.sum(1)).square().mean()
    assert float(found.losses[1, 1]) == pytest.approx(float(own), abs=1e-12)


def test_initial_networks_are_those_of_their_seeds_and_the_global_generator_is_put_back():
    before = torch.random.get_rng_state()
    found = initial_many(mlp, [3, 3, 4])
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(4)
        single = mlp().state_dict()
    assert all(torch.equal(found[name][2], single[name]) for name in single)
    assert torch.equal(found["0.weight"][0], found["0.weight"][1])


def test_the_model_and_the_initial_parameters_stay_as_they_are(data):
    model = normed().eval()
    params = initial_many(normed, [0, 1, 2])
    copies = [{name: value.clone() for name, value in held.items()} for held in (params, model.state_dict())]
    together(lambda: model, params, data[0][:, None], data[1])
    assert all(torch.equal(copies[0][name], value) for name, value in params.items())
    assert all(torch.equal(copies[1][name], value) for name, value in model.state_dict().items())
    assert not model.training


def test_what_does_not_fit_is_refused_by_name(data):
    x, y = data
    params = initial_many(mlp, [0, 1, 2])
    good = {"epochs": 1, "batch": 8, "rate": 0.1, "seeds": range(3)}
    for message, given, change in (
        ("'0.weight' of all networks, but it is missing", {n: v for n, v in params.items() if n != "0.weight"}, {}),
        ("'extra', which it does not have", {**params, "extra": torch.zeros(3)}, {}),
        ("expected '3.bias' of shape", {**params, "3.bias": torch.zeros(2, 3)}, {}),
        ("rate as one number or one for each of 3", params, {"rate": [0.1, 0.2]}),
        ("rate from 0", params, {"rate": [0.1, -0.2, 0.1]}),
        ("rate from 0", params, {"rate": math.nan}),
        ("smoothing from 0 to 1", params, {"smoothing": 1.5}),
        ("seeds for each of 3", params, {"seeds": [1, 2]}),
        ("batch of at least 1", params, {"batch": 0}),
        ("rows from 0 to 25", params, {"samples": torch.full((3, 4), 26)}),
        ("which is no parameter", params, {"trainable": {"0.wait": False}}),
        ("expected bools of shape", params, {"trainable": {"0.bias": torch.ones(7, dtype=torch.bool)}}),
        ("nothing to train", params, {"trainable": dict.fromkeys(params, False)}),
        ("belongs to the default loss", params, {"loss": nn.functional.cross_entropy, "smoothing": 0.1}),
    ):
        with pytest.raises(ValueError, match=message):
            train_many(mlp(), given, x, y, **{**good, **change})
    with pytest.raises(ValueError, match="as many targets"):
        train_many(mlp(), params, x, y[:-1], **good)
    with pytest.raises(ValueError, match="classes as int64"):
        train_many(mlp(), params, x, y.double(), **good)
    noisy = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5)).double()
    with pytest.raises(NotImplementedError, match="1 drops units at random"):
        train_many(noisy, initial_many(lambda: noisy, [0, 1, 2]), x, y, **good)
    bare = {n: v for n, v in initial_many(normed, [0, 1, 2]).items() if "running_mean" not in n}
    with pytest.raises(ValueError, match="running_mean"):
        train_many(normed(), bare, x[:, None], y, **good)
    with pytest.raises(ValueError, match="depends on the seed"):
        initial_many(Own, [0, 1])
    with pytest.raises(ValueError, match="momentum"):
        SGD(nesterov=True)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        Adam(betas=(0.9, 1.0))
    assert constant(1, torch.tensor([2])).tolist() == [1.0]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("drawn", self.layer.weight.detach().clone())
