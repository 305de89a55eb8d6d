"""The study of odd targets: its cells are what they say, its claims hold at ``tiny``, and each can fail."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure

from symfield.experiments import FieldError
from symfield.studies._hajjar2023_odd import Training, _start, _step, problem, train
from symfield.studies.hajjar2023_odd_target import STUDY, Config
from symfield.wide import Neurons, isotropic_distance, predict, sphere_mass, velocity


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(STUDY.settings("tiny"))


def verdicts(rows) -> dict:
    return {verdict.claim: verdict for verdict in STUDY.verdicts(rows, STUDY.settings("tiny"))}


def test_every_claim_that_tiny_can_test_holds(rows):
    found = verdicts(rows)
    assert [verdict for verdict in found.values() if verdict.verdict == "fails"] == []
    assert sum(verdict.verdict == "holds" for verdict in found.values()) >= 12


@pytest.mark.parametrize(
    ("kind", "column", "factor"),
    [
        ("closed", "moments_gap", 1e3),
        ("closed", "bent", 1e6),
        ("closed", "excess", 1e3),
        ("infinite", "closed_form_miss", 1e6),
        ("infinite", "slope", 1.1),
        ("exact", "nonlinearity", 100.0),
        ("SGD", "deviation", 10.0),
        ("SGD", "risk", 1.2),
    ],
)
def test_each_claim_fails_when_its_numbers_are_doctored(rows, kind, column, factor):
    doctored = rows.copy()
    doctored.loc[doctored["kind"] == kind, column] *= factor
    assert any(verdict.verdict == "fails" for verdict in verdicts(doctored).values())


def test_every_figure_and_table_is_drawn(rows):
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    assert len(STUDY.tables["networks"](rows)) == 4


def test_the_target_is_the_published_one():
    for dim in (10, 60):
        target, inputs = problem(dim)
        assert target.energy(inputs) == pytest.approx(2.0)
        w = target.first_moment * dim
        assert float(w.norm()) == pytest.approx(math.sqrt(6 * dim / 5))
        x = torch.eye(dim, dtype=torch.float64)
        ratio = target(x) / w  # C z_k against 3 C z_k / d
        torch.testing.assert_close(ratio, torch.full_like(ratio, dim / 3))


def test_one_step_of_sgd_on_many_samples_is_one_euler_step_of_the_flow():
    target, inputs = problem(4)
    cell = Training(4, 6, 100_000, 0.5, 1, 1, (3,), "cpu", "float64")
    recorded = train(cell)
    assert [row["t"] for row in recorded] == [0.0, 0.5]
    a, b = _start(6, 4, (3,))
    x = inputs.sample((1, 200_000), generator=torch.Generator().manual_seed(0), like=a)
    moved_a, moved_b = _step(a, b, x, target(x), 0.5)
    moving = velocity(Neurons(a, b), target, inputs)
    torch.testing.assert_close((moved_a - a) / 0.5, moving.a, rtol=0, atol=0.02)
    torch.testing.assert_close((moved_b - b) / 0.5, moving.b, rtol=0, atol=0.02)
    b.requires_grad_()
    loss = (predict(Neurons(a[0], b[0]), x[0, :50]) - target(x[0, :50])).square().mean() / 2
    (slope,) = torch.autograd.grad(loss, b)
    by_hand = _step(a, b.detach(), x[:, :50], target(x[:, :50]), 0.5)[1]
    torch.testing.assert_close((by_hand - b.detach()) / 0.5, -6 * slope)


def test_rows_are_measured_against_the_closed_form(rows):
    trained = rows[(rows["kind"] == "SGD") & (rows["m"] == 64) & (rows["seed"] == 0)]
    times = torch.tensor(trained["t"].to_numpy())
    setting = {"optimum": math.sqrt(12), "variance": 0.1, "mass": sphere_mass(10)}
    expected = isotropic_distance(times, **setting) / setting["optimum"]
    torch.testing.assert_close(torch.tensor(trained["ode_distance"].to_numpy()), expected)
    assert trained["deviation"].max() < 0.1
    assert trained["risk"].iloc[-1] < 0.45 < 0.9 < trained["risk"].iloc[0]


@pytest.mark.parametrize("change", [{"points": 7}, {"widths": (0,)}, {"closed_width": 3}, {"conditions": (0.5,)}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(FieldError, match="expected"):
        Config(**change)
