"""The study of preserved symmetries at ``tiny``, and its verdicts on doctored rows."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, FieldError
from symfield.studies.hajjar2023_symmetry import STUDY, Config


@pytest.fixture(scope="module")
def tiny():
    config = STUDY.settings("tiny")
    return STUDY.run(config), config


def failed(rows, config) -> list[str]:
    return [verdict.claim for verdict in STUDY.verdicts(rows, config) if verdict.verdict == FAILS]


def test_a_tiny_run_holds_draws_and_tabulates(tiny):
    rows, config = tiny
    found = [verdict.verdict for verdict in STUDY.verdicts(rows, config)]
    assert set(found) == {HOLDS, NOT_TESTED}
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    for table in STUDY.tables.values():
        assert len(table(rows)) > 0


def test_a_cloud_that_opens_fails_the_preservation(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[(rows["start"] == "closed") & (rows["target"] == "symmetric"), "cloud"] = 1e-9
    assert [claim.split(":")[0] for claim in failed(rows, config)] == ["symmetric target"]


def test_an_error_that_ignores_the_width_fails_the_slope(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[rows["start"] == "random", "predictor"] = 0.01
    claims = failed(rows, config)
    assert len(claims) == 2
    assert all("slope" in claim for claim in claims)


def test_a_network_far_from_the_infinite_one_fails_at_the_published_width(tiny):
    rows, _ = tiny
    rows = rows.copy()
    rows.loc[rows["seed"] >= 0, "value"] += 0.5
    claims = failed(rows, Config(horizon=5.0))
    assert any("infinitely wide" in claim for claim in claims)


@pytest.mark.slow
def test_the_overshoot_off_the_subspace_is_the_published_one():
    config = STUDY.settings("quick")
    rows = STUDY.run(config)
    assert {verdict.verdict for verdict in STUDY.verdicts(rows, config)} == {HOLDS}


@pytest.mark.parametrize(
    ("field", "value"),
    [("widths", (3,)), ("widths", ()), ("dt", 0.0), ("subspace_dim", 20), ("radii", (-1.0,)), ("steps", 0)],
)
def test_a_setting_that_no_run_could_use_is_refused(field, value):
    with pytest.raises(FieldError, match=field):
        Config(**{field: value})
