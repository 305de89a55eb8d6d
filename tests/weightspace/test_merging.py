"""Merging: copies give the copy, permuted copies have a barrier that alignment removes; intervals know shared seeds."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from symfield.weightspace import (
    Curve,
    FourCorners,
    ParameterSymmetry,
    Repair,
    WeightMatching,
    align,
    barrier,
    confidence,
    corners_over_pairs,
    curve,
    four_corners,
    interpolate,
    loss_metric,
    merge,
    symmetries,
)


def moons(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two half circles that reach into one another."""
    label = torch.arange(n) % 2
    angle = torch.pi * torch.rand(n, generator=generator)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.where(label[:, None] == 1, torch.tensor([1.0, 0.5]) - x, x)
    return x + 0.1 * torch.randn(n, 2, generator=generator), label


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def judged(output: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "loss": nn.functional.cross_entropy(output, target),
        "accuracy": (output.argmax(1) == target).double().mean(),
    }


@cache
def task() -> tuple[torch.Tensor, torch.Tensor]:
    return moons(400, torch.Generator().manual_seed(0))


@cache
def trained(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = parameter.shape[-1] if parameter.ndim > 1 else 64
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * (3 / fan) ** 0.5)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    x, y = task()
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


@cache
def symmetry() -> ParameterSymmetry:
    return symmetries(network(), torch.zeros(4, 2))


def small(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(4, 3, generator=generator, dtype=torch.float64).to(dtype)
    return {"embed": w, "head": w, "bn.running_var": w[0].abs(), "steps": torch.tensor(seed)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_merging_copies_gives_the_copy_and_a_weight_of_one_that_model_to_the_last_bit(n, dtype):
    copies = merge([small(0, dtype)] * n, torch.softmax(torch.arange(n).double(), 0).tolist())
    assert all(torch.equal(copies[name], value) for name, value in small(0, dtype).items())
    models = [small(i, dtype) for i in range(n)]
    last = merge(models, [0.0] * (n - 1) + [1.0])
    assert all(torch.equal(last[name], models[-1][name]) for name in ("embed", "head", "bn.running_var"))


def test_a_merge_is_the_weighted_mean_with_buffers_ties_and_counts_of_the_first():
    models = [small(i) for i in range(3)]
    weights = [0.5, 0.2, 0.3]
    merged = merge(models, weights)
    for name in ("embed", "bn.running_var"):
        expected = sum(w * model[name] for w, model in zip(weights, models, strict=True))
        assert torch.allclose(merged[name], expected, atol=1e-14)
    assert merged["embed"] is merged["head"]
    assert merged["steps"] == 0
    two = merge(models[:2], [0.25, 0.75])
    assert torch.allclose(two["embed"], interpolate(models[0], models[1], 0.75)["embed"], atol=1e-14)


def test_mixed_precision_gives_the_dtype_of_the_first():
    merged = merge([small(0, torch.float16), small(1, torch.float32)])
    assert merged["embed"].dtype == torch.float16
    expected = (small(0)["embed"].half().double() + small(1)["embed"].float().double()) / 2
    assert torch.equal(merged["embed"], expected.half())


def test_merging_leaves_its_inputs_alone():
    models = [small(i) for i in range(2)]
    for value in merge(models, [1.0, 0.0]).values():
        value.zero_()
    assert all(torch.equal(model[name], small(i)[name]) for i, model in enumerate(models) for name in model)


def test_what_cannot_be_merged_is_named():
    a, b = small(0), small(1)
    with pytest.raises(ValueError, match="empty list"):
        merge([])
    with pytest.raises(ValueError, match="divide them by their sum 2"):
        merge([a, b], [1.0, 1.0])
    with pytest.raises(ValueError, match="expected 2 weights"):
        merge([a, b], [1.0])
    with pytest.raises(KeyError, match=r"model 1 and model 0 differ in names: missing \['steps'\]"):
        merge([a, {name: value for name, value in b.items() if name != "steps"}])
    with pytest.raises(ValueError, match="tied in model 0 and differ in model 1"):
        merge([a, {**b, "head": b["head"] + 1}])
    with pytest.raises(ValueError, match="'embed' of model 1 holds NaN"):
        merge([a, {**b, "embed": b["embed"] * torch.nan, "head": b["embed"] * torch.nan}])
    with pytest.raises(TypeError, match=r"torch\.int64 in model 1 for 'bn\.running_var'"):
        merge([a, {**b, "bn.running_var": torch.ones(3, dtype=torch.int64)}])
    with pytest.raises(ValueError, match=r"'bn\.running_var' would become negative"):
        merge([a, {**b, "bn.running_var": 9 * a["bn.running_var"]}], [3.0, -2.0])
    with pytest.raises(ValueError, match="pass symmetry="):
        merge([a, b], method=WeightMatching())


def test_a_permuted_copy_has_a_barrier_that_alignment_removes():
    x, y = task()
    a = trained(0)
    copy = symmetry().apply(a, symmetry().random_element(generator=torch.Generator().manual_seed(1)))
    metric = loss_metric(network(), x, y, nn.functional.cross_entropy)
    assert metric(copy) == pytest.approx(metric(a).item(), abs=1e-4)
    assert barrier(curve(a, copy, metric)) > 0.1
    found = align(a, copy, symmetry())
    assert barrier(curve(a, found.params, metric)) < 1e-4
    merged = merge([a, copy], symmetry=symmetry())
    assert all(torch.allclose(merged[name], a[name], atol=1e-4) for name in a)


def test_three_permuted_copies_merge_into_the_model():
    generator = torch.Generator().manual_seed(2)
    kinds = [factor.name for factor in symmetry().factors if factor.name.startswith("permutation")]
    a = trained(0)
    copies = []
    for _ in range(2):
        element = symmetry().random_element(generator=generator)
        copies.append(symmetry().apply(a, {name: element[name] for name in kinds}))
    assert (merge([a, *copies])["0.weight"] - a["0.weight"]).abs().max() > 0.1
    merged = merge([a, *copies], symmetry=symmetry())
    assert all(torch.allclose(merged[name], a[name], atol=1e-5) for name in a)


def test_four_corners_of_independent_networks_fall_with_matching_and_with_repair():
    x, y = task()
    repair = Repair(network(), x)
    metric = loss_metric(network(), x, y, judged)
    reports, pairs, up = [], list(combinations(range(3), 2)), ["accuracy"]
    for i, j in pairs:
        a, b = trained(i), trained(j)
        moved = align(a, b, symmetry()).params
        reports.append(four_corners(a, b, metric, matched=moved, repair=repair, points=9, larger_is_better=up))
    intervals, text = corners_over_pairs(reports, pairs)
    mean = {corner: interval.mean for (corner, name), interval in intervals.items() if name == "loss"}
    assert mean["unmatched"] > 0.05
    assert mean["matched"] < 0.5 * mean["unmatched"]
    assert mean["unmatched, repaired"] < mean["unmatched"]
    assert mean["matched, repaired"] < mean["matched"]
    assert "loss barrier" in text
    assert "accuracy barrier" in text
    report = reports[0]
    assert report.names == ("loss", "accuracy")
    assert report.barriers("accuracy")["unmatched"] >= report.midpoints("accuracy")["unmatched"]
    assert len(report.table().splitlines()) == 5
    own = report.curves["unmatched, repaired"]["loss"].values
    assert own[0] == pytest.approx(report.curves["unmatched"]["loss"].values[0].item(), abs=1e-6)


def test_four_corners_name_what_is_wrong():
    a = {"w": torch.ones(2)}
    nothing = lambda a, b: lambda params, t: params  # noqa: E731
    with pytest.raises(ValueError, match="odd number"):
        four_corners(a, a, lambda p: 0.0, matched=a, repair=nothing, points=4)
    with pytest.raises(KeyError, match="no 'accuracy'"):
        four_corners(a, a, lambda p: 0.0, matched=a, repair=nothing, points=3, larger_is_better=["accuracy"])
    with pytest.raises(ValueError, match="name its entries"):
        four_corners(a, a, lambda p: p["w"], matched=a, repair=nothing, points=3)
    with pytest.raises(ValueError, match="the same metric"):
        corners_over_pairs([], [])


def test_an_accuracy_of_one_number_is_judged_by_its_depth():
    a, b = {"w": torch.tensor(0.0)}, {"w": torch.tensor(1.0)}
    nothing = lambda a, b: lambda params, t: params  # noqa: E731
    report = four_corners(
        a, b, lambda p: (p["w"] - 0.5) ** 2, matched=b, repair=nothing, points=3, larger_is_better=True
    )
    assert report.barriers()["matched"] == report.midpoints()["matched"] == 0.25


def test_intervals_of_disjoint_pairs_are_the_usual_ones():
    values = torch.tensor([0.3, 0.1, 0.4, 0.2], dtype=torch.float64)
    found = confidence(values, [(0, 1), (2, 3), (4, 5), (6, 7)])
    error = values.std().item() / 2
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    assert found.high - found.mean == pytest.approx(3.182446305 * error, abs=1e-9)  # t, 3 degrees of freedom


def test_three_seeds_give_four_times_the_variance_that_independent_pairs_would():
    values = torch.tensor([0.3, 0.1, 0.4], dtype=torch.float64)
    found = confidence(values, [("a", "b"), ("a", "c"), ("b", "c")])
    assert found.standard_error == pytest.approx(2 * values.std().item() / 3**0.5, abs=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_intervals_cover_the_mean_where_pairs_share_seeds_and_naive_ones_do_not(noise):
    generator = torch.Generator().manual_seed(0)
    pairs = list(combinations(range(5), 2))
    hits = naive = 0
    for _ in range(400):
        a = torch.randn(5, generator=generator, dtype=torch.float64)
        e = torch.randn(len(pairs), generator=generator, dtype=torch.float64)
        h = torch.stack([a[i] + a[j] for i, j in pairs]) + noise * e
        found = confidence(h, pairs)
        hits += found.low <= 0 <= found.high
        naive += bool(h.mean().abs() <= 2.262 * h.std() / len(pairs) ** 0.5)
    assert hits >= 0.90 * 400  # 93 to 95 % over 1500 draws
    assert naive <= (0.70 if noise == 0 else 0.85) * 400


def test_intervals_of_nonsense_are_refused():
    with pytest.raises(ValueError, match="at least 2 pairs"):
        confidence([0.1], [(0, 1)])
    with pytest.raises(ValueError, match="different pairs"):
        confidence([0.1, 0.2], [(0, 1), (1, 0)])
    with pytest.raises(ValueError, match="different pairs"):
        confidence([0.1, 0.2], [(0, 1), (2, 2)])
    with pytest.raises(ValueError, match="finite values"):
        confidence([0.1, float("nan")], [(0, 1), (0, 2)])


def test_a_report_of_curves_made_elsewhere_is_read_the_same_way():
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    report = FourCorners({"unmatched": Curve(t, torch.tensor([0.0, 1.0, 1.0]))})
    assert report.barriers() == {"unmatched": 0.5}
    assert str(report).splitlines()[1].split() == ["unmatched", "0.5000", "0.5000"]


def test_a_merged_network_computes_with_what_merge_returns():
    model = network()
    merged = merge([trained(0), trained(1)])
    model.load_state_dict(merged)
    x, _ = task()
    assert torch.equal(model(x), functional_call(network(), merged, (x,)))
