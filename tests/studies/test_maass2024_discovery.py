"""The search for the fixed subspace at ``tiny``, its verdicts on doctored rows, and its claims on twenty seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, FieldError
from symfield.studies.maass2024_discovery import STUDY, Config


@pytest.fixture(scope="module")
def tiny():
    config = STUDY.settings("tiny")
    return STUDY.run(config), config


def test_a_tiny_run_holds_draws_and_tabulates(tiny):
    rows, config = tiny
    verdicts = STUDY.verdicts(rows, config)
    assert {v.verdict for v in verdicts} == {HOLDS, NOT_TESTED}
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    for table in STUDY.tables.values():
        assert len(table(rows)) == len(config.teachers) * len(config.methods)


def test_searches_that_answer_wrongly_fail_their_verdicts(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[(rows["kind"] == "result") & (rows["method"] == "drift"), "right"] = False
    rows.loc[(rows["kind"] == "round") & (rows["round"] == 0) & (rows["method"] == "published"), "statistic"] = 0.4
    failed = [v.claim for v in STUDY.verdicts(rows, config) if v.verdict == FAILS]
    assert [claim.split(":")[0] for claim in failed] == ["drift, WI teacher", "drift, arbitrary teacher", "round 0"]


def test_costs_are_compared_only_at_the_published_width(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[(rows["kind"] == "result") & (rows["method"] == "published"), ["gradients", "seconds"]] = 1e12, 100.0
    wide = [v for v in STUDY.verdicts(rows, replace(config, n=1000)) if "as a share of the published" in v.claim]
    assert [v.verdict for v in wide] == [HOLDS] * 4
    rows.loc[(rows["kind"] == "result") & (rows["method"] == "published"), ["gradients", "seconds"]] = 1.0, 1e-9
    wide = [v for v in STUDY.verdicts(rows, replace(config, n=1000)) if "as a share of the published" in v.claim]
    assert [v.verdict for v in wide] == [FAILS] * 4


def test_a_setting_without_samples_is_refused():
    with pytest.raises(FieldError):
        Config(batch=0)


@pytest.mark.slow
def test_ours_find_the_plane_in_nearly_all_of_twenty_seeds():
    config = Config(methods=("training", "drift"))
    verdicts = STUDY.verdicts(STUDY.run(replace(config, teachers=("WI", "SI", "arbitrary"))), config)
    assert [v.verdict for v in verdicts if "share of seeds" in v.claim] == [HOLDS] * 6
