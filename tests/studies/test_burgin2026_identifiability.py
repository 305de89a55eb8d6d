"""Identifiability of units: random layers, centres, the study at tiny, verdicts of other numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from symfield.experiments import FieldError
from symfield.studies._burgin2026_cells import Centres, Layers, centres, exchanges
from symfield.studies.burgin2026_identifiability import STUDY, Config

TINY = STUDY.settings("tiny")


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def layers(basis: str, kappa: float, share: float = 0.25, trained: float = 0.1):
    return exchanges(Layers(basis, 4, kappa, share, 12, 64, trained, (0, 1, 2)))


def test_subspaces_have_the_coherence_that_they_are_named_for():
    assert {row["coherence"] for row in layers("axes", 0.0)} == {1.0}
    assert all(row["coherence"] == pytest.approx(4 / 64) for row in layers("flat", 0.0))
    assert all(4 / 64 < row["coherence"] < 1 for row in layers("random", 0.0))


def test_prices_of_random_layers_do_not_change_with_the_scale_of_all_weights():
    one, two = layers("flat", 1.0, trained=0.1), layers("flat", 10.0, trained=1.0)
    assert [row["swap"] for row in one] == pytest.approx([row["swap"] for row in two])


def test_closest_centres_are_those_of_a_loop():
    import torch

    from symfield import random

    (row,) = centres(Centres(3, 7, (5,)))
    v = random.normal((7, 3), generator=random.generator(5), like=torch.zeros((), dtype=torch.float64))
    assert row["distance"] == pytest.approx(min(float((v[i] - v[j]).norm()) for i in range(7) for j in range(i)))


def test_standard_layers_exchange_for_nothing_and_fixed_values_make_it_dear(rows):
    part = rows[rows["kind"] == "prices"].groupby("method")["swap"].min()
    assert abs(part["standard"]) < 1e-6
    assert part["W"] > 1
    agreement = rows[rows["kind"] == "agreement"].groupby("method")[["identity", "optimal", "in_place"]].mean()
    assert agreement.loc["W", "identity"] > 0.3 > 0.15 > abs(agreement.loc["standard", "identity"])
    assert (agreement["optimal"] >= agreement["identity"]).all()


def test_no_verdict_fails_at_tiny_and_doctored_numbers_do(rows):
    assert {verdict.verdict for verdict in STUDY.verdicts(rows, TINY)} == {"holds", "not tested"}
    doctored = rows.copy()
    doctored["distance"] = 1.0
    doctored["dearer"] = 0.5
    doctored["swap"] = 0.5
    failed = [verdict.claim for verdict in STUDY.verdicts(doctored, TINY) if verdict.verdict == "fails"]
    assert sum("closest centres" in claim for claim in failed) == 3
    assert sum("dear swaps" in claim or "shares" in claim for claim in failed) == 2
    assert any("swaps cost nothing" in claim for claim in failed)


def test_trained_verdicts_fail_on_other_numbers(rows):
    import pandas as pd

    part = rows[rows["kind"] == "agreement"].assign(identity=0.5, optimal=0.9)
    more = pd.concat([rows[rows["kind"] != "agreement"], *[part] * 5])
    failed = [v.claim for v in STUDY.verdicts(more, replace(TINY, epochs=50)) if v.verdict == "fails"]
    assert sum("in place units correlate" in claim for claim in failed) == 3


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(FieldError, match="groups of at least 2"):
        Config(nets=1)
    with pytest.raises(FieldError, match="odd number of points"):
        Config(points=2)


@pytest.mark.slow
def test_the_gates_hold_at_quick():
    config = STUDY.settings("quick")
    verdicts = STUDY.verdicts(STUDY.run(config), config)
    assert {verdict.claim for verdict in verdicts if verdict.verdict == "fails"} == set()
