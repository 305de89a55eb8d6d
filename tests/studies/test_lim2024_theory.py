"""Exact facts about asymmetric networks at ``tiny``, and verdicts that fail when a fact does."""

from __future__ import annotations

import math

import pytest
from matplotlib.figure import Figure

from symfield.experiments import FAILS, HOLDS, FieldError
from symfield.studies._lim2024_theory_cells import _collision
from symfield.studies.lim2024_theory import STUDY, Config


@pytest.fixture(scope="module")
def tiny():
    config = STUDY.settings("tiny")
    return STUDY.run(config), config


def failed(rows, config) -> list[str]:
    return [verdict.claim for verdict in STUDY.verdicts(rows, config) if verdict.verdict == FAILS]


def test_a_tiny_run_holds_draws_and_tabulates(tiny):
    rows, config = tiny
    found = STUDY.verdicts(rows, config)
    assert {verdict.verdict for verdict in found} == {HOLDS}
    assert len(found) == 29
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    for table in STUDY.tables.values():
        assert len(table(rows)) >= 4


@pytest.mark.parametrize(
    ("kind", "column", "value", "words"),
    [
        ("count", "trainable", 1, "parameters, total and trainable"),
        ("mask", "even", False, "unequal counts"),
        ("mask", "equal_rows", 2, "equal rows that are not fixed whole"),
        ("collision", "enforced", 1, "masks of ours with equal rows"),
        ("collision", "value", 0.9, "as often as the formula says"),
        ("training", "value", 1e-9, "largest change of a fixed entry"),
        ("training", "moved", 0.0, "trainable entries"),
        ("automorphism", "value", 2, "T1"),
        ("automorphism", "alike", 1, "there is another one"),
        ("automorphism", "refused", False, "zero row"),
        ("function", "value", 1e-3, "standard network alone"),
        ("equivariance", "value", 1e-4, "T2"),
        ("rank", "rank", 30, "rank of the Jacobian"),
        ("rank", "gap", 10.0, "smallest gap"),
        ("gate", "value", 0.01, "gate at std"),
        ("gate", "nonlinear", 0.05, "part of its output"),
    ],
)
def test_a_fact_that_fails_fails_its_verdict(tiny, kind, column, value, words):
    rows, config = tiny
    doctored = rows.copy()
    doctored[column] = doctored[column].astype(object)
    doctored.loc[doctored["kind"] == kind, column] = value
    assert any(words in claim for claim in failed(doctored, config))


def test_the_probability_of_equal_rows_is_that_of_birthdays():
    assert _collision(365, 1, 23) == pytest.approx(0.507297, abs=1e-6)
    assert _collision(4, 2, 7) == 1.0
    assert _collision(16, 6, 32) == pytest.approx(1 - math.prod(1 - k / 8008 for k in range(32)))


def test_figures_say_when_their_facts_were_not_measured():
    config = Config(families=("collisions",), seeds=(0,))
    rows = STUDY.run(config)
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    for table in STUDY.tables.values():
        assert list(table(rows).columns)


def test_settings_that_are_none_are_refused():
    for changes in ({"families": ()}, {"seeds": ()}, {"seeds": (-1,)}, {"steps": 0}):
        with pytest.raises(FieldError):
            Config(**changes)


@pytest.mark.slow
def test_all_facts_hold_on_many_draws():
    config = STUDY.settings("paper")
    assert failed(STUDY.run(config), config) == []
