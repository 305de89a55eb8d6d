"""Fixed entries: masks that obey their law on every machine, weights that nothing writes to, conversion and back."""

from __future__ import annotations

import copy
import io
import math
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parametrize

from symfield.studies._lim2024_models import (
    GraphNetwork,
    ResNet,
    graph_rules,
    mlp,
    mlp_rules,
    resnet8_rules,
    resnet20_rules,
)
from symfield.weightspace import (
    AdamW,
    AsymmetricConv1d,
    AsymmetricConv2d,
    AsymmetricLinear,
    BoundZeros,
    Densest,
    EveryEntry,
    FiGLU,
    MaskedWeight,
    RandomFilters,
    RandomRows,
    Rule,
    asymmetrize,
    asymmetrize_like,
    count_fixed,
    fix_entries,
    fixed_entries,
    fixed_mask,
    fixed_values,
    initial_many,
    interpolate,
    merge,
    outputs_many,
    per_root_fan_in,
    places,
    release_entries,
    symmetrize_back,
    train_many,
)


def counts(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return mlp((6, 12, 12, 4))


def asymmetric(seed: int = 0, kappa: float = 1.0) -> nn.Module:
    return asymmetrize(small(seed), Rule(fix=3, kappa=kappa), seed=7)


@pytest.mark.parametrize(
    ("model", "rules", "total", "trainable"),
    [
        (lambda: mlp((784, 512, 512, 512, 10)), mlp_rules(), 935_434, 834_570),
        (lambda: ResNet(3), resnet20_rules(), 272_474, 230_026),
        (lambda: ResNet(3, width=8), resnet20_rules(8), 17_289_866, 16_273_946),
        (lambda: GraphNetwork((128, 256, 256, 256, 40)), graph_rules(), 176_424, 171_576),
        (lambda: ResNet(1), resnet8_rules(), 78_042, 60_634),
    ],
    ids=["mlp", "resnet20", "resnet20x8", "graph", "resnet8"],
)
def test_parameters_of_the_published_networks_are_counted_as_published(model, rules, total, trainable):
    with torch.device("meta"):
        dense = model()
    plan = asymmetrize(dense, rules, seed=0, dry_run=True)
    assert (counts(dense), plan.parameters, plan.trainable) == (total, total, trainable)
    if total < 1_000_000:
        assert counts(asymmetrize(model(), rules, seed=0)) == trainable


@pytest.mark.parametrize("law", [RandomRows(), RandomFilters()])
@pytest.mark.parametrize(
    ("shape", "fix"), [((9, 6, 1), 3), ((20, 6, 1), 3), ((64, 16, 1), 11), ((200, 40, 3), 5), ((6, 6, 1), 5)]
)
def test_every_row_fixes_exactly_so_many_and_all_rows_differ(law, shape, fix):
    for seed in range(5):
        fixed = (~fixed_mask(shape, fix, seed=seed, name="w", law=law)).flatten(1)
        each = fix * (shape[2] if isinstance(law, RandomFilters) else 1)
        assert (fixed.sum(1) == each).all()
        assert len(fixed.unique(dim=0)) == shape[0]


def test_fixed_filters_are_whole():
    fixed = ~fixed_mask((32, 16, 3, 5), 4, seed=0, name="w", law=RandomFilters())
    assert set(fixed.sum((2, 3)).unique().tolist()) == {0, 15}


def test_subsets_are_uniform():
    """Every entry of every row is fixed with probability n/in; pairs with n(n−1)/in(in−1)."""
    drawn = torch.stack([~fixed_mask((8, 7), 3, seed=seed, name="w") for seed in range(1500)]).double()
    draws = drawn.shape[0] * drawn.shape[1]
    p = 3 / 7
    assert (drawn.mean((0, 1)) - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / draws)
    pairs = torch.einsum("sri,srj->ij", drawn, drawn) / draws
    q = 3 * 2 / (7 * 6)
    off = ~torch.eye(7, dtype=torch.bool)
    assert (pairs[off] - q).abs().max() < 4.5 * math.sqrt(q * (1 - q) / draws)


def test_where_few_subsets_exist_all_are_used_and_their_order_is_random():
    masks = [fixed_mask((6, 4), 2, seed=seed, name="w") for seed in range(20)]
    assert all(len(mask.unique(dim=0)) == 6 for mask in masks)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 15


def test_too_few_subsets_are_refused():
    with pytest.raises(ValueError, match=r"6 ways to fix 2 of 4, fewer than the 7 rows .* leave the layer out"):
        fixed_mask((7, 4), 2, seed=0, name="w")
    with pytest.raises(ValueError, match="fix 2 to 4, or leave the layer out"):
        fixed_mask((7, 6), 1, seed=0, name="w")
    assert len(fixed_mask((7, 4), 2, seed=0, name="w", law=RandomRows(distinct=False))) == 7
    with pytest.raises(ValueError, match="3 ways to fix 1 of 3, fewer than the 4 rows"):
        fixed_mask((4, 3, 5, 5), 1, seed=0, name="w", law=RandomFilters())
    with pytest.raises(ValueError, match="no fixed entry all rows are alike"):
        fixed_mask((4, 3), 0, seed=0, name="w")


def test_whole_rows_are_fixed_only_when_allowed():
    with pytest.raises(ValueError, match=r"all 27 entries of a row .* allow_frozen=True"):
        fixed_mask((128, 3, 3, 3), 27, seed=0, name="conv")
    assert not fixed_mask((128, 3, 3, 3), 27, seed=0, name="conv", allow_frozen=True).any()
    with pytest.raises(ValueError, match="expected 0 to 27 fixed entries in a row of 27, received 36"):
        fixed_mask((128, 3, 3, 3), 36, seed=0, name="conv", allow_frozen=True)


def test_the_densest_mask_has_the_fewest_fixed_entries_with_distinct_rows():
    fixed = ~fixed_mask((12, 5), 0, seed=0, name="w", law=Densest())
    assert fixed.sum(1).tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert len(fixed.unique(dim=0)) == 12
    bounded = ~fixed_mask((12, 5), 2, seed=0, name="w", law=BoundZeros())
    assert bounded.sum(1).tolist() == [2] * 10 + [3] * 2
    assert len(bounded.unique(dim=0)) == 12
    with pytest.raises(ValueError, match="8 ways to fix at least 0 of 3, fewer than the 9 rows"):
        fixed_mask((9, 3), 0, seed=0, name="w", law=Densest(), allow_frozen=True)


@pytest.mark.parametrize(
    ("fix", "error", "words"),
    [(-1, ValueError, "received -1"), (11, ValueError, "row of 10"), (1.5, ValueError, "share"),
     (0.0, ValueError, "share"), (True, TypeError, "bool"), (float("nan"), ValueError, "share")],
)  # fmt: skip
def test_a_count_that_is_none_is_refused(fix, error, words):
    with pytest.raises(error, match=words):
        count_fixed(fix, 10)


def test_values_are_normal_with_the_standard_deviation_asked_for():
    mask = fixed_mask((500, 400), 100, seed=3, name="w")
    values = fixed_values(mask, 0.7, seed=3, name="w")[~mask].double()
    assert len(values) == 50_000
    assert abs(values.std() / 0.7 - 1) < 0.03
    assert abs(values.mean()) < 4 * 0.7 / math.sqrt(len(values))
    assert abs((values / 0.7).pow(4).mean() - 3) < 0.15
    assert torch.equal(fixed_values(mask, 0.0, seed=3, name="w"), torch.zeros(500, 400))
    with pytest.raises(ValueError, match="κ ≥ 0"):
        fixed_values(mask, -1.0, seed=3, name="w")


DIGEST = """
import hashlib, torch
from symfield.weightspace import fixed_mask, fixed_values
parts = []
for name, shape, dtype in [("a.weight", (64, 48), torch.float64), ("b", (16, 8, 3, 3), torch.bfloat16)]:
    mask = fixed_mask(shape, 5, seed=11, name=name)
    values = fixed_values(mask, 1.5, seed=11, name=name, like=torch.zeros((), dtype=dtype))
    parts += [mask.numpy().tobytes(), values.double().numpy().tobytes()]
print(hashlib.sha256(b"".join(parts)).hexdigest())
"""


def test_masks_and_values_are_the_same_in_every_process():
    found = []
    for salt in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", DIGEST], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        found.append(run.stdout.strip())
    known = "7bb0a070f02c14e8480cfcb887a9e38fbf2c28dfce8f6ddcb6ac3520b84caf54"
    assert found == [known, known]


def test_the_wide_residual_network_fixes_a_million_entries():
    """The time for their masks is in benchmarks/asymmetric.py."""
    with torch.device("meta"):
        model = ResNet(3, width=8)
    plan = asymmetrize(model, resnet20_rules(8), seed=0, dry_run=True)
    assert plan.fixed == 1_015_920


def test_masks_and_values_differ_between_names_and_seeds_and_not_between_dtypes():
    mask = fixed_mask((64, 48), 5, seed=0, name="a")
    assert not torch.equal(mask, fixed_mask((64, 48), 5, seed=0, name="b"))
    assert not torch.equal(mask, fixed_mask((64, 48), 5, seed=1, name="a"))
    single, double, half = (
        fixed_values(mask, 1.0, seed=0, name="a", like=torch.zeros((), dtype=dtype))
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
    )
    assert torch.equal(single.double(), double)
    assert torch.equal(single.bfloat16(), half)
    assert not torch.equal(single, fixed_values(mask, 1.0, seed=0, name="b"))
    assert torch.equal(fixed_values(mask, 0.5, seed=0, name="a"), single / 2)
    before = torch.get_rng_state()
    fixed_mask((8, 8), 2, seed=0, name="c")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: AsymmetricLinear(10, 8, **kw),
        lambda **kw: AsymmetricConv1d(4, 8, 3, padding=1, **kw),
        lambda **kw: AsymmetricConv2d(4, 8, 3, stride=2, bias=False, **kw),
    ],
    ids=["linear", "conv1d", "conv2d"],
)
def test_a_layer_computes_with_its_mask_and_has_its_trainable_entries_as_parameters(make):
    layer = make(fix=3, kappa=2.0, seed=0, name="first").double()
    ((name, entries),) = fixed_entries(layer).items()
    assert name == "weight"
    assert torch.equal(layer.weight[~entries.mask], entries.values[~entries.mask])
    own = dict(layer.named_parameters())[entries.parameter]
    assert own.shape == (8, layer.weight[0].numel() - 3)
    assert torch.equal(layer.weight[entries.mask], own.flatten())
    x = torch.randn(5, 10 if isinstance(layer, nn.Linear) else 4, *[7] * (layer.weight.ndim - 2), dtype=torch.float64)
    plain = symmetrize_back(layer)
    assert type(plain) in (nn.Linear, nn.Conv1d, nn.Conv2d)
    assert torch.equal(plain(x), layer(x))


def test_gradients_of_trainable_entries_are_those_of_the_dense_weight():
    layer = AsymmetricLinear(10, 8, fix=3, kappa=2.0, seed=0, name="first", dtype=torch.float64)
    plain = symmetrize_back(layer)
    x = torch.randn(5, 10, dtype=torch.float64)
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    mask = fixed_entries(layer)["weight"].mask
    assert torch.equal(layer.parametrizations.weight.original.grad.flatten(), plain.weight.grad[mask])


def test_initial_trainable_entries_come_from_the_generator_and_not_from_the_seed_of_the_mask():
    def build(seed: int, start: int) -> nn.Module:
        source = torch.Generator().manual_seed(start)
        return AsymmetricLinear(10, 8, fix=3, kappa=2.0, seed=seed, name="w", generator=source)

    one, two, other = build(0, 1), build(0, 2), build(5, 1)
    a, b, c = (fixed_entries(layer)["weight"] for layer in (one, two, other))
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.values, b.values)
    assert not torch.equal(a.mask, c.mask)
    assert not torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, other.bias)


@pytest.mark.parametrize("law", [RandomRows(), RandomFilters(), BoundZeros(), Densest()])
def test_every_law_makes_a_weight(law):
    model = nn.Sequential(nn.Conv2d(6, 10, 3), nn.Flatten(), nn.Linear(10, 10))
    made = asymmetrize(model, Rule(fix=0 if law == Densest() else 2, kappa=1.0, mask=law), seed=0)
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(made(x), symmetrize_back(made)(x))
    for name, entries in fixed_entries(made).items():
        dense = model.get_parameter(name).detach()
        expected = torch.where(entries.mask, dense, entries.values)
        assert torch.equal(symmetrize_back(made).get_parameter(name), expected)


def test_training_leaves_fixed_entries_bitwise_alone_through_saving_and_copying():
    model = asymmetric()
    before = {name: entries.values.clone() for name, entries in fixed_entries(model).items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, betas=(0.9, 0.999))
    x, y = torch.randn(32, 6), torch.randint(4, (32,))
    start = {name: value.clone() for name, value in symmetrize_back(model).state_dict().items()}
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    saved.seek(0)
    loaded = asymmetric(seed=5)
    loaded.load_state_dict(torch.load(saved, weights_only=True))
    for made in (model, loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        dense = symmetrize_back(made).state_dict()
        for name, values in before.items():
            mask = fixed_entries(made)[name].mask
            assert torch.equal(dense[name][~mask], values[~mask])
            assert torch.equal(dense[name], symmetrize_back(model).state_dict()[name])
            assert (dense[name][mask] != start[name][mask]).double().mean() > 0.99
        assert torch.equal(made(x), model(x))


def test_optimiser_state_and_decay_see_trainable_entries_only():
    model = asymmetric()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(3, 6)).sum().backward()
    optimiser.step()
    held = sum(state["exp_avg"].numel() for state in optimiser.state.values())
    assert held == counts(model) == counts(small()) - 3 * (12 + 12 + 4)


def test_functional_calls_vmap_copies_and_state_dicts_agree_with_the_module():
    models = [asymmetric(seed=seed) for seed in range(8)]
    x = torch.randn(5, 6)
    alone = torch.stack([model(x) for model in models])
    params, buffers = stack_module_state(models)
    base = models[0]
    together = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)
    assert torch.allclose(together, alone, atol=1e-6)
    shared = vmap(lambda p: functional_call(base, p, (x,)))(params)
    assert torch.allclose(shared, alone, atol=1e-6)
    for model, expected in zip(models, alone, strict=True):
        assert torch.allclose(functional_call(base, dict(model.named_parameters()), (x,)), expected, atol=1e-6)
        assert torch.equal(copy.deepcopy(model)(x), expected)
    per_network = vmap(torch.func.grad(lambda p: functional_call(base, p, (x,)).square().sum()))(params)
    models[3](x).square().sum().backward()
    for name, parameter in models[3].named_parameters():
        assert torch.allclose(per_network[name][3], parameter.grad, atol=1e-5)


def test_a_forward_pass_writes_to_no_tensor():
    model = asymmetric()
    versions = {name: tensor._version for name, tensor in model.state_dict(keep_vars=True).items()}
    model(torch.randn(5, 6)).sum().backward()
    assert versions == {name: tensor._version for name, tensor in model.state_dict(keep_vars=True).items()}


def test_releasing_a_copy_leaves_the_layer_it_was_copied_from_alone():
    layer = nn.MultiheadAttention(4, 2, kdim=6, vdim=6)
    layer = asymmetrize(layer, Rule(fix=1, kappa=1.0, modules=nn.MultiheadAttention), seed=0)
    x = torch.randn(3, 4), torch.randn(3, 6), torch.randn(3, 6)
    before = layer(*x)[0]
    partly = release_entries(copy.deepcopy(layer), "k_proj_weight")
    assert list(fixed_entries(partly)) == ["q_proj_weight", "v_proj_weight"]
    for made in (layer, partly, pickle.loads(pickle.dumps(partly)), symmetrize_back(partly)):
        assert torch.equal(made(*x)[0], before)


def test_a_copy_of_a_pickled_layer_can_be_changed_and_pickled_again():
    layer = pickle.loads(pickle.dumps(AsymmetricLinear(6, 5, fix=2, kappa=1.0, seed=0, name="w")))
    again = copy.deepcopy(pickle.loads(pickle.dumps(layer)))
    assert isinstance(again, AsymmetricLinear)
    assert parametrize.is_parametrized(again, "weight")
    with torch.no_grad():
        again.parametrizations.weight.original.zero_()
    assert not torch.equal(again.weight, layer.weight)
    assert torch.equal(symmetrize_back(again).weight, fixed_entries(layer)["weight"].values)


def test_networks_trained_together_are_trained_at_their_trainable_entries():
    models = initial_many(asymmetric, range(3))
    x, y = torch.randn(20, 6), torch.randint(4, (20,))
    trained = train_many(
        asymmetric(), models, x, y, epochs=2, batch=5, rate=1e-2, decay=0.1, rule=AdamW(), seeds=range(3)
    )
    together = outputs_many(asymmetric(), trained.params, x)
    for i, expected in enumerate(together):
        model = asymmetric()
        model.load_state_dict({**model.state_dict(), **{name: value[i] for name, value in trained.params.items()}})
        assert torch.allclose(model(x), expected, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"load \{\*\*model.state_dict\(\), \*\*checkpoint\}"):
        asymmetric().load_state_dict({name: value[0] for name, value in trained.params.items()}, strict=False)


def test_a_checkpoint_with_other_masks_or_values_or_without_them_is_refused():
    model, other = asymmetric(), asymmetrize(small(), Rule(fix=3, kappa=1.0), seed=8)
    with pytest.raises(RuntimeError, match=r"another '0.parametrizations.weight.0.trainable_entries'"):
        model.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match=r"another '0.parametrizations.weight.0.fixed_values'"):
        model.load_state_dict(asymmetric(kappa=2.0).state_dict(), strict=False)
    lost = {name: value for name, value in model.state_dict().items() if "trainable_entries" not in name}
    with pytest.raises(RuntimeError, match="masks or fixed values are lost"):
        model.load_state_dict(lost, strict=False)
    with pytest.raises(RuntimeError, match="masks or fixed values are lost"):
        model.load_state_dict(small().state_dict())


def test_models_that_fix_other_entries_are_not_interpolated_or_merged():
    a, b = asymmetric(0).state_dict(), asymmetrize(small(1), Rule(fix=3, kappa=1.0), seed=8).state_dict()
    scaled = asymmetric(1, kappa=0.5).state_dict()
    for other in (b, scaled):
        for combine in (lambda x, y: interpolate(x, y, 0.5), lambda x, y: merge([x, y])):
            with pytest.raises(ValueError, match=r"'0.parametrizations.weight.0.*fix"):
                combine(a, other)
    c = asymmetric(1).state_dict()
    middle = asymmetric()
    middle.load_state_dict(interpolate(a, c, 0.5))
    half = symmetrize_back(middle)[0].weight
    ends = [symmetrize_back(asymmetric(seed))[0].weight for seed in (0, 1)]
    assert torch.allclose(half, (ends[0] + ends[1]) / 2)


def test_the_model_that_is_converted_stays_as_it_is():
    model = small()
    before = copy.deepcopy(model.state_dict())
    for mode in ("exact", "additive", "init_only"):
        made = asymmetrize(model, Rule(fix=3, kappa=1.0), seed=0, mode=mode)
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
        assert {p.data_ptr() for p in made.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())
        back = symmetrize_back(made)
        assert list(back.state_dict()) == list(before)
        assert [type(module) for module in back.modules()] == [type(module) for module in model.modules()]
        x = torch.randn(4, 6)
        assert torch.allclose(back(x), made(x), atol=1e-6)


def test_the_modes_share_masks_and_values():
    model = small().double()
    exact, additive, start = (
        asymmetrize(model, Rule(fix=3, kappa=1.0), seed=0, mode=mode) for mode in ("exact", "additive", "init_only")
    )
    fixed, shifted = fixed_entries(exact), fixed_entries(additive)
    assert fixed_entries(start) == {}
    assert counts(start) == counts(additive) == counts(model)
    for name, entries in fixed.items():
        assert torch.equal(entries.values, shifted[name].values)
        assert shifted[name].mask.all()
        assert shifted[name].additive
        dense = model.get_parameter(name)
        assert torch.equal(start.get_parameter(name), torch.where(entries.mask, dense, entries.values))
        assert torch.allclose(symmetrize_back(additive).get_parameter(name), dense + entries.values, atol=1e-12)
    assert torch.allclose(start[0].weight, exact[0].weight)


def test_decay_pulls_an_additive_weight_towards_the_fixed_one():
    rule = Rule(fix=1.0, kappa=1.0, mask=EveryEntry())
    model = asymmetrize(small(), rule, seed=0, mode="additive")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        (0 * model(torch.ones(1, 6)).sum()).backward()
        optimiser.step()
    for name, entries in fixed_entries(model).items():
        assert torch.allclose(symmetrize_back(model).get_parameter(name), entries.values, atol=1e-6)


def test_rules_are_tried_in_order_and_a_law_may_depend_on_the_place():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 6), nn.Linear(6, 6))
    rules = [Rule(2, 0.5, modules="4"), Rule(1, per_root_fan_in(1.0), modules=nn.Linear), Rule(0.5, 2.0)]
    plan = asymmetrize(model, rules, seed=0, dry_run=True)
    assert [(w.place.name, w.kappa, w.fixed) for w in plan.weights] == [
        ("0.weight", 2.0, 8 * 13), ("3.weight", pytest.approx(8**-0.5), 6), ("4.weight", 0.5, 12),
    ]  # fmt: skip
    only = asymmetrize(model, Rule(2, 0.5, modules=lambda place: place.position == place.count - 1), seed=0)
    assert list(fixed_entries(only)) == ["4.weight"]
    assert "untouched: 0.weight, 3.weight" in str(asymmetrize(model, Rule(2, 0.5, modules="4"), seed=0, dry_run=True))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], "at least one rule"),
        (Rule(2, 1.0, modules="encoder.*"), r"modules='encoder\.\*', chooses no weight; .* at: 0, 3, 6"),
        (
            [Rule(2, 1.0), Rule(3, 1.0, modules="0")],
            "rule 1 of 2, modules='0', chooses no weight that the rules before",
        ),
        (Rule(2, -1.0), "κ ≥ 0"),
        (Rule(2, float("nan")), "κ ≥ 0"),
        (Rule(7, 1.0), "'0.weight' of shape .*: expected 0 to 6 fixed entries in a row of 6, received 7"),
        (Rule(6, 1.0), "allow_frozen"),
        (Rule(0, 1.0), "all rows are alike"),
        (Rule(2, 1.0, modules=nn.Conv2d), "chooses no weight"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules, words):
    with pytest.raises(ValueError, match=words):
        asymmetrize(small(), rules, seed=0)


def test_seeds_modes_and_models_that_are_none_are_refused():
    rule = Rule(2, 1.0)
    with pytest.raises(ValueError, match="non-negative integer"):
        asymmetrize(small(), rule, seed=-1)
    with pytest.raises(ValueError, match="fixed already; call symmetrize_back"):
        asymmetrize(asymmetric(), rule, seed=0)
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"'0.weight' is tied to \['1.weight'\]"):
        asymmetrize(tied, rule, seed=0)
    with pytest.raises(ValueError, match="grouped transposed"):
        asymmetrize(nn.ConvTranspose2d(4, 4, 3, groups=2), rule, seed=0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    with pytest.raises(ValueError, match="parametrized already"):
        asymmetrize(normed, rule, seed=0)
    with pytest.raises(ValueError, match="chooses no weight"):
        asymmetrize(nn.ReLU(), rule, seed=0)
    with pytest.raises(ValueError, match="expected fixed entries of shape"):
        fix_entries(nn.Linear(3, 3), "weight", MaskedWeight(torch.eye(2).bool(), torch.zeros(2, 2)))
    with pytest.raises(ValueError, match=r"choose one of \['weight', 'bias'\]"):
        fix_entries(nn.Linear(2, 2), "kernel", MaskedWeight(torch.eye(2).bool(), torch.zeros(2, 2)))


def test_masks_are_taken_over_from_a_checkpoint():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose1d(4, 6, 3)
            self.form = nn.Parameter(torch.randn(6, 5))

        def forward(self, x):
            return self.up(x).mean(-1) @ self.form

    model, x = Own(), torch.randn(2, 4, 7)
    rules = [Rule(2, 1.0, modules="up"), Rule(2, 1.0, tensors=("form",), axis=1)]
    for mode in ("exact", "additive"):
        made = asymmetrize(model, rules, seed=0, mode=mode)
        again = asymmetrize_like(Own(), made.state_dict())
        assert torch.equal(again(x), made(x))
        assert fixed_entries(again).keys() == fixed_entries(made).keys()
    with pytest.raises(KeyError, match="fixes no entries"):
        asymmetrize_like(model, model.state_dict())
    with pytest.raises(KeyError, match=r"'up.weight', which Linear does not have"):
        asymmetrize_like(nn.Linear(4, 4), made.state_dict())
    with pytest.raises(ValueError, match="expected fixed entries of shape"):
        asymmetrize_like(nn.Linear(3, 3), asymmetrize(nn.Linear(4, 4), Rule(2, 1.0), seed=0).state_dict())


def test_transposed_convolutions_fix_entries_of_their_output_channels():
    model = nn.ConvTranspose2d(5, 7, 3)
    made = asymmetrize(model, Rule(fix=4, kappa=1.0), seed=0)
    entries = fixed_entries(made)["weight"]
    by_unit = (~entries.mask).movedim(1, 0).flatten(1)
    assert (by_unit.sum(1) == 4).all()
    assert len(by_unit.unique(dim=0)) == 7
    x = torch.randn(2, 5, 4, 4)
    assert torch.equal(made(x), symmetrize_back(made)(x))
    assert torch.equal(made.weight[entries.mask], model.weight[entries.mask])


def test_attention_and_modules_of_ones_own_are_converted():
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.form = nn.Parameter(torch.randn(6, 5))

        def forward(self, x):
            return x @ self.form

    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    names = [place.name for place in places(block)]
    assert names == ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    made = asymmetrize(block, Rule(fix=0.25, kappa=0.5), seed=0)
    assert list(fixed_entries(made)) == names
    plain, x = symmetrize_back(made), torch.randn(3, 4, 8)
    for mode in (True, False):
        assert torch.allclose(made.train(mode)(x), plain.train(mode)(x), atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(made(x), plain(x), atol=1e-6)
    own = asymmetrize(Bilinear(), Rule(fix=2, kappa=1.0, tensors=("form",), axis=1), seed=0)
    assert ((~fixed_entries(own)["form"].mask).sum(0) == 2).all()
    assert own(torch.randn(3, 6)).shape == (3, 5)


def test_message_passing_is_converted_and_ignores_the_order_of_nodes():
    generator = torch.Generator().manual_seed(0)
    model = asymmetrize(GraphNetwork((9, 16, 16, 3)), graph_rules(), seed=0).eval()
    x, edges = torch.randn(10, 9, generator=generator), torch.randint(10, (2, 40), generator=generator)
    order = torch.randperm(10, generator=generator)
    place = order.argsort()
    assert torch.allclose(model(x[order], place[edges]), model(x, edges)[order], atol=1e-5)


COMPILED = """
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from symfield.weightspace import FiGLU, Rule, asymmetrize

model = nn.Sequential(nn.Linear(6, 8), FiGLU(8, std=0.5, seed=0, name="g"), nn.Linear(8, 4))
model, x = asymmetrize(model, Rule(fix=3, kappa=1.0), seed=0), torch.randn(5, 6)
counter = CompileCounter()
compiled = torch.compile(model, backend=counter, fullgraph=True)
assert torch.allclose(compiled(x), model(x))
print(counter.frame_count)
"""


def test_linear_maps_of_other_packages_are_found():
    transformers = pytest.importorskip("transformers")
    settings = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(settings).eval()
    rule = Rule(fix=3, kappa=0.5, modules="transformer.*")
    made = asymmetrize(model, rule, seed=0)
    assert [name.split(".", 3)[-1] for name in fixed_entries(made)] == [
        "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight",
    ]  # fmt: skip
    for entries in fixed_entries(made).values():
        assert ((~entries.mask).sum(0) == 3).all()
    ids = torch.arange(6)[None]
    assert torch.equal(made(ids).logits, symmetrize_back(made)(ids).logits)
    with pytest.raises(ValueError, match=r"'lm_head.weight' is tied to \['transformer.wte.weight'\]"):
        asymmetrize(model, Rule(fix=3, kappa=0.5), seed=0)


def test_message_passing_of_pytorch_geometric_is_converted():
    geometric = pytest.importorskip("torch_geometric.nn")
    layer = geometric.SAGEConv(6, 8)
    made = asymmetrize(layer, Rule(fix=2, kappa=1.0), seed=0)
    assert sorted(fixed_entries(made)) == ["lin_l.weight", "lin_r.weight"]
    x, edges = torch.randn(5, 6), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    assert torch.equal(made(x, edges), symmetrize_back(made)(x, edges))


def test_a_compiled_model_has_one_graph_and_the_same_output():
    """In a process of its own, where no annotation is checked."""
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "1"), run.stderr


def test_masks_travel_through_distributed_data_parallel(tmp_path):
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model, x = asymmetric(), torch.randn(5, 6)
        wrapped = DistributedDataParallel(model)
        wrapped(x).sum().backward()
        assert torch.equal(wrapped(x), model(x))
        assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        distributed.destroy_process_group()


def test_a_gate_follows_its_formula_on_units_and_on_channels():
    gate, wide = FiGLU(6, std=0.4, seed=0, name="g"), FiGLU(6, std=0.4, seed=0, name="g", axis=1)
    x = torch.randn(5, 6)
    values = gate.fixed_values
    assert torch.allclose(gate(x), torch.sigmoid(x @ values.T) * x)
    images = torch.randn(2, 6, 4, 3)
    by_convolution = torch.sigmoid(nn.functional.conv2d(images, values[:, :, None, None])) * images
    assert torch.allclose(wide(images), by_convolution, atol=1e-6)
    assert torch.equal(values, wide.fixed_values)
    assert not torch.equal(values, FiGLU(6, std=0.4, seed=0, name="h").fixed_values)
    with pytest.raises(ValueError, match="expected 6 units along axis -1"):
        gate(torch.zeros(2, 5))


def test_a_gate_that_is_nearly_constant_is_announced():
    d = 256
    with pytest.warns(UserWarning, match=r"nearly constant.*1/√d = 0.0625"):
        faint = FiGLU(d, std=0.01 / math.sqrt(d), seed=0, name="g")
    x = torch.randn(4000, d, generator=torch.Generator().manual_seed(0))
    assert faint.gate(x).std() < 0.004
    assert torch.allclose(faint(x), x / 2, atol=0.06)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FiGLU(d, std=d**-0.5, seed=0, name="g")
        FiGLU(d, std=0.01 / math.sqrt(d), seed=0, name="g", allow_near_linear=True)


def test_networks_with_other_gates_are_not_interpolated():
    def net(seed: int) -> dict[str, torch.Tensor]:
        return mlp((4, 8, 2), activation=lambda i, d: FiGLU(d, std=1.0, seed=seed, name=str(i))).state_dict()

    interpolate(net(0), net(0), 0.5)
    with pytest.raises(ValueError, match=r"'2.fixed_values'.*fix"):
        interpolate(net(0), net(1), 0.5)


def test_names_of_masked_weights_in_plans_are_those_of_the_dense_model():
    model = small()
    made = asymmetrize(model, Rule(fix=3, kappa=1.0), seed=0)
    dense = dict(model.named_parameters())
    for name, entries in fixed_entries(made).items():
        assert dense[name].shape == entries.mask.shape == entries.values.shape
        assert entries.parameter in dict(made.named_parameters())


def test_a_refused_checkpoint_is_refused_again():
    """Nothing of its masks is left in the model, whose weight would be half another one."""
    one, two = (asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=seed) for seed in (0, 1))
    fixed = {name: value.clone() for name, value in one.named_buffers()}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the two fix other entries"):
            one.load_state_dict(two.state_dict())
        assert all(torch.equal(value, fixed[name]) for name, value in one.named_buffers())


def test_an_assigned_checkpoint_is_the_model():
    one = asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=0)
    two = asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=0)
    two.load_state_dict(one.state_dict(), assign=True)
    assert torch.equal(one.weight, two.weight)


def test_what_has_no_values_is_refused():
    with torch.device("meta"):
        dense = nn.Linear(8, 6)
    with pytest.raises(ValueError, match="on the meta device and has no values; build the model on a real device"):
        asymmetrize(dense, Rule(fix=2, kappa=1.0), seed=0)
    model = asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=0)
    state = model.state_dict()
    with pytest.raises(RuntimeError, match="on the meta device, where it has no values to compare"):
        model.to("meta").load_state_dict(state, assign=True)


@pytest.mark.parametrize(("dtype", "kappa"), [(torch.float32, 1e40), (torch.float16, 1e5)])
def test_fixed_values_that_overflow_are_refused(dtype, kappa):
    with pytest.raises(ValueError, match="too large for float"):
        asymmetrize(nn.Linear(8, 6).to(dtype), Rule(fix=2, kappa=kappa), seed=0)


def test_a_lost_mask_is_named():
    state = asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=0).state_dict()
    del state["parametrizations.weight.0.trainable_entries"]
    with pytest.raises(KeyError, match=r"has no 'parametrizations.weight.0.trainable_entries': its mask is lost"):
        asymmetrize_like(nn.Linear(8, 6), state)


def test_lost_values_are_named():
    state = asymmetrize(nn.Linear(8, 6), Rule(fix=2, kappa=1.0), seed=0).state_dict()
    del state["parametrizations.weight.0.fixed_values"]
    with pytest.raises(KeyError, match="trainable_entries' and no fixed values: they are lost"):
        asymmetrize_like(nn.Linear(8, 6), state)


@pytest.mark.parametrize("mask", [torch.ones(3, 2).bool(), torch.ones(2, 1).bool()])
def test_a_mask_of_another_shape_is_refused(mask):
    with pytest.raises(ValueError, match="expected a mask of bools and values"):
        MaskedWeight(mask, torch.zeros(2, 3))
