"""Two directions, one step: the study at tiny, and what its verdicts would say of other numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from symfield.experiments import FieldError
from symfield.studies.wortsman2024_multi_index import STUDY, Config, _square_cosines, _without, two_overlaps

TINY = STUDY.settings("tiny")


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def mean(rows, direction, removed, *, labels="true", ratio=2.0, alpha=0.0):
    kept = (rows["direction"] == direction) & (rows["removed"] == removed) & (rows["labels"] == labels)
    return rows[kept & (rows["ratio"] == ratio) & (rows["alpha"] == alpha)]["cos2"].mean()


def test_one_direction_is_shared_and_the_other_appears_after_its_removal(rows):
    for alpha in (0.0, 0.5):
        assert mean(rows, 1, "nothing", alpha=alpha) > 0.8
        assert mean(rows, 2, "nothing", alpha=alpha) < 0.1
        for removed in ("e1", "shared"):
            assert mean(rows, 2, removed, alpha=alpha) > 0.2
    assert mean(rows, 2, "e1", ratio=0.1) < 0.3 * mean(rows, 2, "e1")
    assert mean(rows, 2, "e1", labels="unrelated") < 0.15


def test_the_prediction_is_for_what_was_measured(rows):
    shown = rows[(rows["labels"] == "true") & (rows["alpha"] == 0.0) & rows["predicted"].notna()]
    gaps = shown.groupby(["direction", "removed", "ratio"])[["cos2", "predicted"]].mean()
    for direction, removed in ((1, "nothing"), (2, "e1")):
        found = gaps.loc[(direction, removed)]
        assert len(found) == 3
        assert (found["cos2"] - found["predicted"]).abs().max() < 0.06


def test_no_verdict_fails_at_tiny_and_levels_wait_for_larger_dimensions(rows):
    found = STUDY.verdicts(rows, TINY)
    assert {verdict.verdict for verdict in found} == {"holds", "not tested"}
    waiting = {verdict.claim for verdict in found if verdict.verdict == "not tested"}
    assert waiting
    assert all("n = 8 r1²" in claim for claim in waiting), "the ratio that tiny leaves out"
    small = STUDY.verdicts(rows, replace(TINY, dim=32))
    assert sum(verdict.verdict == "not tested" for verdict in small) > 15


def test_doctored_numbers_fail(rows):
    doctored = rows.copy()
    doctored["cos2"] = 0.5
    failed = {
        verdict.claim.split(": ", 1)[1] for verdict in STUDY.verdicts(doctored, Config()) if verdict.verdict == "fails"
    }
    assert "at every n they hide e2: largest cos²" in failed
    assert "n ≥ 2 r1²: gradients share e1: least cos²" in failed
    assert "n = 2 r1²: e2 is learned weakly: cos² over its null level, e1 removed" in failed


def test_removing_the_shared_direction_of_rank_one_gradients_leaves_what_was_added():
    g = torch.Generator().manual_seed(0)
    common, own = torch.eye(5, dtype=torch.float64)[:2]
    sizes = torch.randn(40, 1, generator=g, dtype=torch.float64)
    gradient = 10 * torch.sign(sizes) * common + 0.01 * (-1.0) ** torch.arange(40).unsqueeze(1) * own
    assert _square_cosines(gradient)[0] > 0.999
    for removed in ("e1", "shared"):
        assert _square_cosines(_without(gradient, removed))[1] > 0.99


def test_samples_below_sixteen_are_left_out(rows):
    (cell, *_) = [cell for cell in STUDY.cells(Config(dim=16, ratios=(0.001, 1.0))) if cell.config.alpha == 0.5]
    found = {row["ratio"] for row in two_overlaps(cell.config)}
    assert found == {1.0}
    with pytest.raises(FieldError, match="ratios expects numbers above zero"):
        Config(ratios=(0.0,))
    with pytest.raises(FieldError, match="dim expects at least 3"):
        Config(dim=2)


def test_the_figure_and_table_are_drawn(rows):
    assert isinstance(STUDY.draw("overlaps", rows), Figure)
    assert len(STUDY.tables["means"](rows)) > 0
