"""The study of low-dimensional targets: its claims hold at ``tiny``, each can fail, its cells are what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from symfield.experiments import FieldError
from symfield.studies._hajjar2023_low_dimension_cells import Angles, angles
from symfield.studies._hajjar2023_low_dimension_verdicts import AUTHORS, COLUMNS, TABLE
from symfield.studies.hajjar2023_low_dimension import STUDY, Config


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(STUDY.settings("tiny"))


@pytest.fixture(scope="module")
def published():
    """The published flows on one angle, with networks as small as at ``tiny``."""
    config = replace(
        Config(),
        aligned=(2, 5),
        sweep=(2, 10),
        widths=(32, 64),
        full_times=(2.0,),
        functions=("relu(x1)",),
        other_width=32,
        other_reduced=20,
        other_horizon=1.0,
        seeds=(0,),
    )
    return config, STUDY.run(config)


def failing(rows, config) -> list[str]:
    return [verdict.claim for verdict in STUDY.verdicts(rows, config) if verdict.verdict == "fails"]


def test_no_claim_fails_at_tiny_and_some_hold(rows):
    config = STUDY.settings("tiny")
    assert failing(rows, config) == []
    assert sum(verdict.verdict == "holds" for verdict in STUDY.verdicts(rows, config)) >= 4


def test_the_published_flow_holds_its_claims(published):
    config, rows = published
    assert failing(rows, config) == []
    assert sum(verdict.verdict == "holds" for verdict in STUDY.verdicts(rows, config)) >= 13


@pytest.mark.parametrize(
    ("column", "factor"),
    [("risk", 1.02), ("plus", 1.02), ("minus", 1.2), ("mean_angle", 1.02), ("alignment", 0.9), ("crossing", 1.1),
     ("towards", 0.5), ("table", 1e6)],
)  # fmt: skip
def test_claims_fail_when_their_numbers_are_doctored(published, column, factor):
    config, rows = published
    doctored = rows.copy()
    doctored.loc[doctored["kind"] == "curve", column] *= factor
    assert failing(doctored, config)


def test_claims_on_networks_can_fail(published):
    config, rows = published
    wide = replace(config, widths=(256, 512), full_times=(2.0, 5.0), other_width=256, other_horizon=20.0, seeds=(0, 1))
    part = rows[rows["kind"] == "full"].iloc[:1]
    copies = [
        part.assign(m=m, t=t, seed=seed, risk=part["limit_risk"] * (1 + 12 / m), plus=part["limit_plus"])
        for m in wide.widths
        for t in wide.full_times
        for seed in wide.seeds
    ]
    bent = [copy.assign(mean_angle=copy["limit_mean_angle"], risk=copy["limit_risk"] * 1.5) for copy in copies]
    frame = rows[rows["kind"] != "full"]
    for replaced, expected in ((copies, 0), (bent, 4)):
        table = [copy.assign(mean_angle=copy["limit_mean_angle"]) for copy in replaced]
        claims = failing(_joined(frame, table), wide)
        assert sum("m = " in claim or "12/m" in claim for claim in claims) == expected


def _joined(frame, parts):
    return pd.concat([frame, *parts], ignore_index=True)


def test_every_figure_and_table_is_drawn(rows):
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    assert STUDY.tables["reduction"](rows)["risk"].iloc[0] == pytest.approx(2.5)
    assert len(STUDY.tables["networks"](rows)) == 2
    assert list(STUDY.tables["final_masses"](rows)["d_H"]) == [2, 10]


def test_histograms_hold_all_the_mass():
    found = angles(Angles(30, 5, 50, 5.0, 10, (), (0.0, 5.0)))
    for t in (0.0, 5.0):
        curve = next(row for row in found if row["kind"] == "curve" and row["t"] == t)
        for sign, name in ((1, "plus"), (-1, "minus")):
            bins = [r["density"] for r in found if r["kind"] == "histogram" and r["t"] == t and r["sign"] == sign]
            assert sum(bins) * math.pi / 2 / len(bins) == pytest.approx(curve[name], rel=1e-9)
            assert min(bins) >= 0


def test_recorded_values_are_plausible():
    table = np.array(list(TABLE.values()))
    assert table.shape == (5, len(COLUMNS))
    assert bool((np.diff(table[:, 0]) < 0).all())
    assert all(plus > minus for plus, minus in AUTHORS.values())


@pytest.mark.parametrize("change", [{"subspace_dim": 31}, {"aligned": (0,)}, {"sweep": (41,)}, {"widths": (33,)}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(FieldError):
        Config(**change)
