"""Lines from start to end of training: laws, curves, the study at tiny, verdicts of other numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from symfield.experiments import FieldError
from symfield.studies._lim2024_lines import hyper_parameters
from symfield.studies.lim2024_interpolation import STUDY, Config

TINY = STUDY.settings("tiny")


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def test_hyper_parameters_follow_their_laws_and_are_the_same_for_all_arms():
    made = [cell.config for cell in STUDY.cells(Config(networks=("resnet8",), nets=400))]
    laws = [hyper_parameters(cell) for cell in made]
    assert all(law == laws[0] for law in laws)
    logs = [math.log10(rate / 0.2) for rate in laws[0].rate]
    assert -2 <= min(logs) < -1.9 < -0.1 < max(logs) <= 0
    assert sum(logs) / 400 == pytest.approx(-1, abs=0.1)
    assert 1e-5 <= min(laws[0].decay) < max(laws[0].decay) <= 0.1
    assert 0 <= min(laws[0].smoothing) < max(laws[0].smoothing) <= 0.2
    assert (min(laws[0].epochs), max(laws[0].epochs)) == (10, 40)


def test_measures_are_those_of_the_curves(rows):
    keys = ["network", "method", "net"]
    line = rows[rows["kind"] == "line"].set_index(keys)
    for key, path in rows[rows["kind"] == "path"].groupby(keys):
        loss, t = path.sort_values("t")["loss"].to_numpy(), path.sort_values("t")["t"].to_numpy()
        measured = line.loc[key]
        assert measured["gap"] == pytest.approx((loss[1:] - loss[:-1]).max(), abs=1e-12)
        assert measured["monotone"] == float((loss[1:] <= loss[:-1]).all())
        bends = loss[2:] - 2 * loss[1:-1] + loss[:-2]
        assert measured["local"] == pytest.approx((bends >= -1e-11).mean())
        assert measured["global"] == pytest.approx((loss <= (1 - t) * loss[0] + t * loss[-1] + 1e-11).mean())


def test_a_network_that_diverges_is_counted_and_left_out():
    config = replace(TINY, networks=("mlp",), methods=("standard",), mlp_rate=1e30, most_epochs=4)
    found = STUDY.run(config)
    assert set(found.loc[found["kind"] == "line", "finite"]) <= {0.0, 1.0}
    diverged = found[(found["kind"] == "line") & (found["finite"] == 0)]
    assert diverged["gap"].isna().all()
    for figure in STUDY.figures:
        STUDY.draw(figure, found)


def test_verdicts_wait_for_networks_and_doctored_numbers_fail(rows):
    assert {verdict.verdict for verdict in STUDY.verdicts(rows, TINY)} == {"not tested"}
    line = rows[(rows["kind"] == "line") & (rows["network"] == "resnet8")]
    many = pd.concat([line.assign(local=0.9, monotone=0.0, finite=1.0)] * 4)
    failed = [v.claim for v in STUDY.verdicts(many, replace(TINY, most_epochs=16)) if v.verdict == "fails"]
    assert len(failed) == 3
    with pytest.raises(FieldError, match="least_epochs"):
        Config(least_epochs=9, most_epochs=3)
    with pytest.raises(FieldError, match="3 points"):
        Config(points=2)


@pytest.mark.slow
def test_the_gates_hold_at_quick():
    config = STUDY.settings("quick")
    found = STUDY.verdicts(STUDY.run(config), config)
    assert {verdict.claim for verdict in found if verdict.verdict == "fails"} == set()
