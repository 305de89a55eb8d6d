"""Barriers against width: training side by side, functions that stay, the study at tiny, verdicts of other numbers."""

from __future__ import annotations

import sys

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from symfield import random
from symfield.experiments import CellsFailed
from symfield.experiments.errors import StudyError
from symfield.studies._rebasin_data import Task, clusters, digits
from symfield.studies._rebasin_training import forward, network, one_of, train
from symfield.studies.ainsworth2023_rebasin import STUDY, Config

TINY = STUDY.settings("tiny")
EVERY = ["none", "weights", "activations", "activations, then weights", "Frank-Wolfe", "weights and scales"]


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def small_task() -> Task:
    generator = random.generator(0)
    x = random.normal((50, 4), generator=generator, like=torch.zeros((), dtype=torch.float64))
    y = random.integers(0, 3, (50,), generator=generator)
    return Task(x[:40], y[:40], x[40:], y[40:], 3)


@pytest.mark.parametrize(("optimiser", "rate"), [("Adam", 1e-2), ("SGD", 0.1)])
def test_networks_side_by_side_are_trained_as_each_alone_by_torch(optimiser, rate):
    task, sizes, seeds = small_task(), [4, 6, 5, 3], (3, 8)
    how = {"optimiser": optimiser, "rate": rate, "batch": 16}
    start = train(task, sizes, seeds, epochs=0, **how)
    found = train(task, sizes, seeds, epochs=4, **how)
    for i, seed in enumerate(seeds):
        net = network(sizes).double()
        net.load_state_dict(one_of(start, i))
        momentum = {} if optimiser == "Adam" else {"momentum": 0.9}
        alone = getattr(torch.optim, optimiser)(net.parameters(), lr=rate, **momentum)
        order = random.split(random.generator(seed), 2)[1]
        for _ in range(4):
            for index in torch.randperm(40, generator=order).split(16):
                alone.zero_grad()
                nn.functional.cross_entropy(net(task.x[index]), task.y[index]).backward()
                alone.step()
        for name, value in net.state_dict().items():
            torch.testing.assert_close(found[name][i], value, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(forward(found, task.x)[i], net(task.x), rtol=1e-9, atol=1e-11)


def test_tasks_are_the_same_every_time_and_their_parts_do_not_meet():
    for load, samples, dim in ((digits, 1797, 64), (clusters, 6000, 16)):
        one, two = load(), load()
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.y_test, two.y_test)
        assert len(one.y) + len(one.y_test) == samples
        assert one.x.shape[1] == dim
        assert set(one.y.tolist()) == set(one.y_test.tolist()) == set(range(10))


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(StudyError, match=r"pip install 'symfield\[datasets\]'"):
        digits()
    with pytest.raises(CellsFailed, match=r"pip install 'symfield\[datasets\]'"):
        STUDY.run(Config(tasks=("digits",), digits_widths=(4,), optimisers=("Adam",), epochs=1))


def test_every_pair_has_four_corners_for_every_method(rows):
    pairs = rows[rows["kind"] == "pair"]
    counts = pairs.groupby(["task", "width", "method", "repair"]).size()
    assert set(counts) == {1}  # two seeds are one pair
    for (task, width), part in pairs.groupby(["task", "width"]):
        methods = [*EVERY, "midpoint loss"] if width <= TINY.midpoint_limit else EVERY
        assert list(dict.fromkeys(part["method"])) == methods, (task, width)


def test_no_method_and_no_repair_changes_what_the_ends_compute(rows):
    ends = rows[(rows["kind"] == "path") & rows["t"].isin([0.0, 1.0])]
    for column in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        spread = ends.groupby(["task", "width", "t"])[column].agg(lambda values: values.max() - values.min())
        assert spread.max() < 1e-4, column


def test_barriers_are_those_of_the_curves(rows):
    keys = ["task", "width", "method", "repair"]
    pairs = rows[rows["kind"] == "pair"].set_index(keys)
    for key, path in rows[rows["kind"] == "path"].groupby(keys):
        path = path.sort_values("t")
        for column, sign in (("train_loss", 1), ("test_accuracy", -1)):
            values = sign * path[column].to_numpy()
            chord = values[0] + path["t"].to_numpy() * (values[-1] - values[0])
            assert pairs.loc[key, f"{column}_barrier"] == pytest.approx((values - chord).max(), abs=1e-12)


def test_matching_lowers_the_barrier_and_raises_the_cosine(rows):
    plain = rows[(rows["kind"] == "pair") & ~rows["repair"].astype(bool)].set_index(["task", "width", "method"])
    for task, width in (("digits", 24), ("digits", 64), ("clusters", 16)):
        for method in EVERY[1:]:
            assert plain.loc[(task, width, method), "cosine"] > plain.loc[(task, width, "none"), "cosine"] + 0.2
            assert (
                plain.loc[(task, width, method), "train_loss_barrier"]
                < 0.75 * plain.loc[(task, width, "none"), "train_loss_barrier"]
            )


def test_the_descent_at_the_midpoint_is_left_to_narrow_networks():
    narrow = {cell.config.width for cell in STUDY.cells(Config()) if "midpoint loss" in cell.config.methods}
    assert narrow == {16, 32}


def test_settings_without_pairs_or_midpoint_are_refused():
    with pytest.raises(ValueError, match="at least two seeds"):
        Config(seeds=(0,))
    with pytest.raises(ValueError, match="odd number of points"):
        Config(points=10)


def test_no_verdict_fails_at_tiny_and_levels_wait_for_their_setting(rows):
    found = STUDY.verdicts(rows, TINY)
    assert {verdict.verdict for verdict in found} == {"holds", "not tested"}
    assert sum(verdict.verdict == "not tested" for verdict in found) >= 10


def test_doctored_numbers_fail(rows):
    doctored = rows.copy()
    doctored["train_loss_barrier"] = 1.0
    doctored["squared_distance"] = 1.0
    failed = [verdict.claim for verdict in STUDY.verdicts(doctored, TINY) if verdict.verdict == "fails"]
    assert sum("lower than unmatched" in claim for claim in failed) == 2
    assert sum("closer than by permutations alone" in claim for claim in failed) == 2
    wide = doctored.copy()
    wide["width"] = wide["width"].replace({24: 32, 64: 512})
    failed = [v.claim for v in STUDY.verdicts(wide, Config()) if v.verdict == "fails"]
    for words in ("almost nothing", "the barrier itself falls", "REPAIR alone, without", "the share of the barrier"):
        assert any(words in claim for claim in failed), words


def test_figures_and_table_are_drawn(rows):
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    table = STUDY.tables["corners"](rows)
    assert len(table) == 6 + 6 + 7
    assert {"loss barrier, plain", "loss barrier, repaired", "cosine", "CPU s"} <= set(table.columns)


@pytest.mark.slow
def test_wide_networks_lie_in_one_basin_once_matched():
    methods = ("none", "weights", "activations", "activations, then weights")
    config = Config(
        tasks=("digits",), digits_widths=(32, 512), optimisers=("Adam",), seeds=(0, 1), methods=methods, points=9
    )
    found = STUDY.verdicts(STUDY.run(config), config)
    tested = [verdict for verdict in found if verdict.verdict != "not tested"]
    assert len(tested) >= 8
    assert [verdict.claim for verdict in tested if verdict.verdict == "fails"] == []
