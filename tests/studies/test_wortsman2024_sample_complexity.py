"""The study on sample complexity: its tiny preset holds, and what is not measured is said."""

from __future__ import annotations

import math

import pytest

from symfield.experiments import FAILS, FieldError
from symfield.studies import wortsman2024_sample_complexity as study

SMALL = {"alphas": (0.0, 0.5), "linear_dims": (32, 64, 128), "square_dims": (16, 32), "square_neurons": 128,
         "budget": 5e6}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return study.run(study.Config(**SMALL))


def test_samples_follow_the_effective_dimension(rows):
    verdicts = study.STUDY.verdicts(rows, study.Config(**SMALL))
    assert [verdict.claim for verdict in verdicts if verdict.verdict == FAILS] == []
    assert sum(verdict.verdict == "holds" for verdict in verdicts) == 5


def test_verdicts_fail_when_samples_do_not_follow(rows):
    wrong = rows.assign(n_half=rows["n_half"] * (rows["dim"] / 32) ** 0.5)
    verdicts = study.STUDY.verdicts(wrong, study.Config(**SMALL))
    assert sum(verdict.verdict == FAILS for verdict in verdicts) >= 3


def test_points_below_sixteen_samples_are_reported_and_left_out():
    config = study.Config(alphas=(1.5,), linear_dims=(32, 64), square_dims=(16,), square_neurons=8, seeds=(0, 1))
    rows = study.run(config)
    halves = rows[(rows["kind"] == "half") & (rows["k"] == 1)]
    assert all(math.isnan(n) for n in halves["n_half"])
    table = study.slopes(rows)
    assert table.loc[table["k"] == 1, "not measured (n½ < 16)"].item() == 2
    assert study.STUDY.verdicts(rows, config)


def test_the_budget_bounds_what_is_drawn():
    for cell in study.cells(study.Config()):
        drawn = cell.config.sizes[-1] * cell.config.dim * len(cell.config.seeds)
        assert drawn <= 1.5e8 or len(cell.config.seeds) == 1


def test_figures_and_table_are_drawn(rows):
    for name, figure in study.figures.items():
        assert figure(rows).axes, name
    table = study.slopes(rows)
    assert len(table) == 4
    assert table.loc[(table["k"] == 2) & (table["α"] == 0.0), "closed form"].item() == pytest.approx(2)


@pytest.mark.parametrize("change", [{"alphas": ()}, {"alphas": (-0.5,)}, {"linear_dims": ()}, {"budget": 0.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(FieldError):
        study.Config(**{**SMALL, **change})
