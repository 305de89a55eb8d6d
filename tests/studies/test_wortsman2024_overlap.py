"""The study on overlaps: its tiny preset holds, and its verdicts can fail."""

from __future__ import annotations

import pytest

from symfield.experiments import FAILS, HOLDS, FieldError
from symfield.studies import wortsman2024_overlap as study
from symfield.studies._wortsman2024 import link, seeded_target

SMALL = {"dim": 64, "sizes": (25, 100, 400), "neurons": 16, "seeds": tuple(range(16)), "start_dims": (64,),
         "alphas": (0.5, 1.5), "teachers": ("aligned",)}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return study.run(study.Config(**SMALL))


def test_aligned_overlaps_follow_the_prediction_and_shuffled_labels_give_the_null(rows):
    verdicts = study.STUDY.verdicts(rows, study.Config(**SMALL))
    assert [verdict.claim for verdict in verdicts if verdict.verdict != HOLDS] == []
    assert len(verdicts) == 5


def test_verdicts_fail_when_curves_are_wrong(rows):
    wrong = rows.assign(euclidean=rows["euclidean"] * 0.5, rho2=rows["rho2"] * 2)
    verdicts = study.STUDY.verdicts(wrong, study.Config(**SMALL))
    assert sum(verdict.verdict == FAILS for verdict in verdicts) >= 3


def test_a_seed_gives_the_same_rows_alone(rows):
    alone = study.run(study.Config(**{**SMALL, "seeds": (3,)}))
    for kind, column in (("curve", "euclidean"), ("start", "rho2")):
        here, there = (part[(part["kind"] == kind) & (part["seed"] == 3) & (part["labels"] != "shuffled")][column]
                       for part in (alone, rows))  # fmt: skip
        assert here.to_numpy() == pytest.approx(there.to_numpy(), rel=1e-4)


def test_figures_and_table_are_drawn(rows):
    for name, figure in study.figures.items():
        assert figure(rows).axes, name
    table = study.null_table(rows)
    assert list(table["α"]) == [0.5, 1.5]
    assert next(iter(table["euclidean: n above twice null"])) == "25"


@pytest.mark.parametrize("change", [{"sizes": (10,)}, {"alphas": ()}, {"alphas": (-1.0,)}, {"dim": 0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(FieldError):
        study.Config(**{**SMALL, **change})


def test_unknown_links_and_teachers_are_refused():
    with pytest.raises(FieldError, match="link"):
        link("sine")
    with pytest.raises(FieldError, match="teacher"):
        seeded_target("tanh", "north", dim=4, alpha=0.0, seeds=(0,))
