"""The study of the advice: rows, figures and verdicts at its smallest preset, and what a wrong advice would do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, style
from symfield.studies.advise_learning_curves import STUDY, Config, judge, run


@pytest.fixture(scope="module")
def rows():
    return run(STUDY.settings("tiny"))


def test_every_scheme_is_judged_on_fresh_data(rows):
    assert set(rows["case"]) == {"matching", "wrong", "partial", "approximate"}
    for _, part in rows.groupby(["case", "n", "seed"]):
        assert part["picked"].sum() == 1
        assert part["fresh"].between(0, 10).all()
        assert set(part["kind"]) == {"none", "DA", "FA", "frame", "EA"}
    assert not rows[(rows["case"] == "wrong") & rows["picked"]]["group"].eq("C_4").any()


def test_figures_and_tables_are_drawn(rows):
    with style.context():
        for draw in STUDY.figures.values():
            assert draw(rows).axes
    assert len(STUDY.tables["picks"](rows)) == 4


def test_a_contradicted_recommendation_and_a_poor_pick_would_fail(rows):
    config = replace(STUDY.settings("tiny"), steps=600)
    verdict = {found.claim[:20]: found.verdict for found in STUDY.verdicts(rows, config)}
    assert verdict["a symmetry that the "] == HOLDS
    wrong = rows.assign(picked=(rows["kind"] == "FA") & (rows["group"] == "C_4"))
    assert STUDY.verdicts(wrong, config)[0].verdict == FAILS
    many = wrong.loc[wrong.index.repeat(4)].reset_index(drop=True)
    many["seed"] = many.groupby(["case", "n", "kind", "group"]).cumcount()
    assert STUDY.verdicts(many, config)[2].verdict == FAILS
    assert STUDY.verdicts(rows, config)[2].verdict == NOT_TESTED


def test_the_defaults_are_a_full_grid():
    assert len(STUDY.cells(Config())) == 20
    assert {cell.function for cell in STUDY.cells(Config())} == {judge}
