"""Readouts compared: the study at tiny, and what its verdicts would say of other numbers."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from symfield.studies.wortsman2024_readout import STUDY, Config

TINY = STUDY.settings("tiny")


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def test_every_readout_is_measured_on_every_setting(rows):
    names = {"linear", "random features", "trained, η = 2", "kernel"}
    counts = rows.groupby(["alpha", "teacher", "n", "readout"]).size()
    assert len(counts) == 2 * 2 * 2 * len(names)
    assert set(counts) == {len(TINY.seeds)}
    assert rows["error"].between(0, 1.5).all()


def test_the_trained_layer_wins_for_an_aligned_teacher_under_a_power_law(rows):
    means = rows[(rows["n"] == 256) & (rows["alpha"] == 0.5)].groupby(["teacher", "readout"])["error"].mean()
    aligned, generic = means["aligned"], means["random"]
    assert aligned["trained, η = 2"] < 0.3 * min(aligned["random features"], aligned["linear"])
    assert generic["trained, η = 2"] > 2 * aligned["trained, η = 2"]


def test_kernel_regression_stops_at_its_limit():
    cells = STUDY.cells(Config())
    assert {cell.config.n for cell in cells if cell.config.kernel} == {128, 256, 512, 1024, 2048}
    assert {cell.config.n for cell in cells if not cell.config.kernel} == {8192}


def test_no_verdict_fails_at_tiny_and_levels_wait_for_their_setting(rows):
    found = STUDY.verdicts(rows, TINY)
    assert {verdict.verdict for verdict in found} == {"holds", "not tested"}
    assert sum(verdict.verdict == "not tested" for verdict in found) >= 10


def test_doctored_numbers_fail(rows):
    doctored = rows.copy()
    doctored["error"] = 0.3
    failed = [verdict.claim for verdict in STUDY.verdicts(doctored, TINY) if verdict.verdict == "fails"]
    assert any("over random features of equal width" in claim for claim in failed)


def test_results_do_not_depend_on_which_seeds_run_together(rows):
    alone = STUDY.run(
        STUDY.settings("tiny").__class__(**{**vars(TINY), "seeds": (1,), "sizes": (64,), "alphas": (0.5,)})
    )
    by = ["alpha", "teacher", "n", "readout", "seed"]
    both = alone.merge(rows, on=by, suffixes=("", "_together"))
    assert len(both) == len(alone) > 0
    assert (both["error"] / both["error_together"] - 1).abs().max() < 1e-6


def test_the_figure_and_table_are_drawn(rows):
    assert isinstance(STUDY.draw("errors", rows), Figure)
    assert list(STUDY.tables["means"](rows).columns) == ["alpha", "teacher", "readout", "64", "256"]


@pytest.mark.slow
def test_published_sizes_hold_their_levels():
    config = Config(alphas=(0.5,), teachers=("aligned",), sizes=(512, 2048), etas=(2.0,), seeds=(0, 1))
    found = STUDY.verdicts(STUDY.run(config), config)
    tested = [verdict for verdict in found if verdict.verdict != "not tested"]
    assert len(tested) >= 6
    assert [verdict.claim for verdict in tested if verdict.verdict == "fails"] == []
