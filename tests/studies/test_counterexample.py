"""Proposition 4 with the corrected constant: the setting, the study at ``tiny``, and verdicts that can fail."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import quad

from symfield import random
from symfield.meanfield import distance_to_orbit, orbit
from symfield.studies import _maass2024_disc as disc
from symfield.studies._maass2024_disc_cells import EA, PLAIN, STUCK, WI
from symfield.studies.maass2024_counterexample import STUDY, Config

LAWS = pytest.mark.parametrize("conditioned", [False, True], ids=["clipped", "conditioned"])
LIKE = torch.zeros(0, dtype=torch.float64)


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(STUDY.settings("tiny"))


def failed(rows) -> list[str]:
    return [verdict.claim for verdict in STUDY.verdicts(rows, STUDY.settings("tiny")) if verdict.verdict != "holds"]


@LAWS
def test_moments_are_the_integrals_of_the_exponential_law_of_the_squared_norm(conditioned):
    mass = quad(lambda s: 0.5 * math.exp(-s / 2), 0, 1)[0] if conditioned else 1.0
    first, second = (quad(lambda s, k=k: s**k * 0.5 * math.exp(-s / 2), 0, 1)[0] / mass for k in (1, 2))
    mean, variance = disc.moments(conditioned=conditioned)
    assert mean == pytest.approx(first, abs=1e-12)
    assert variance == pytest.approx(second - first**2, abs=1e-12)
    assert variance == pytest.approx(0.0823019 if conditioned else 0.0825544, abs=1e-7)


@LAWS
def test_samples_and_nodes_have_these_moments(conditioned):
    mean, variance = disc.moments(conditioned=conditioned)
    x, y = disc.Disc(conditioned)((400, 500), generator=random.generator(0), like=LIKE)
    assert x.shape == (400, 500, 2)
    assert y.shape == (400, 500, 1)
    torch.testing.assert_close(y, x.square().sum(-1, keepdim=True))
    assert float(y.max()) <= 1 + 1e-12
    assert float(y.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / y.numel()))
    assert float(y.var()) == pytest.approx(variance, rel=0.02)
    assert float((x.flatten(0, 1).mean(0)).abs().max()) < 0.01
    assert float((y == 0).double().mean()) == pytest.approx(0.0 if conditioned else math.exp(-0.5), abs=0.005)
    nodes = disc.disc_nodes(conditioned=conditioned)
    assert float(nodes.mean(disc.target)) == pytest.approx(mean, abs=1e-12)
    assert float(nodes.mean(lambda x: disc.target(x).square())) == pytest.approx(variance + mean**2, abs=1e-12)


def test_nodes_are_closed_under_quarter_turns_to_the_bit():
    nodes = disc.disc_nodes()
    x, w = nodes.x, nodes.weight
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=-1)
    assert {(*p, v) for p, v in zip((x + 0.0).tolist(), w.tolist(), strict=True)} == {
        (*p, v) for p, v in zip((turned + 0.0).tolist(), w.tolist(), strict=True)
    }


def test_strongly_invariant_networks_are_constants():
    assert disc.fixed_space().dim == 2
    cloud = disc.fixed_space().project(random.normal((9, 4), generator=random.generator(1), like=LIKE))
    assert float(disc.off_fixed_space(cloud)) == 0.0
    x = disc.disc_nodes().x
    values = disc.UNIT.mean(x, cloud)
    assert float((values - values[0]).abs().max()) == 0.0


@pytest.mark.parametrize(("epsilon", "bound"), [(1.0, 4e-3), (0.5, 3e-4), (0.3, 4e-5), (0.1, 1e-6)])
def test_an_explicit_weakly_invariant_law_beats_every_strongly_invariant_one(epsilon, bound):
    cloud, nodes = disc.rotated_units(epsilon), disc.disc_nodes()
    assert float(distance_to_orbit(cloud, disc.action())) < 1e-12
    assert len(orbit(cloud, disc.action())) == 20
    assert float(disc.objective("V").risk(cloud, nodes.x, disc.target(nodes.x), weight=nodes.weight)) < bound
    assert bound < disc.moments()[1]


def test_every_verdict_holds_at_tiny(rows):
    assert failed(rows) == []
    assert len(STUDY.verdicts(rows, STUDY.settings("tiny"))) >= 14


def worsened(rows, where, value):
    changed = rows.copy()
    changed.loc[where(changed), "value"] = value
    return failed(changed)


def test_verdicts_fail_when_the_proposition_is_broken(rows):
    def series(scheme, quantity):
        return lambda r: (r["scheme"] == scheme) & (r["quantity"] == quantity)

    def only(quantity):
        return lambda r: r["quantity"] == quantity

    for where, value, words in (
        (series(EA, "risk"), 0.05, "EA is never below"),
        (series(WI, "risk"), 0.0826, "WI initial law"),
        (series(PLAIN, "risk"), 0.0826, "plain SGD from A = 0, fixed step"),
        (series(STUCK, "off"), 1e-3, "A = 0 stays"),
        (only("WI risk"), 0.09, "an explicit WI law"),
        (only("floor"), 0.1804, "in closed form"),
        (only("sampled variance"), 0.1, "Monte Carlo"),
        (only("spread of an SI network"), 0.1, "are constants"),
        (only("distance from WI"), 0.1, "is WI"),
        (only("growth in the flow"), 0.0, "second variation"),
        (only("growth of round-off"), 0.0, "round-off"),
        (only("predicted growth"), 0.0, "unstable"),
        (only("early off"), 1e-3, "in proportion to the step"),
        (only("growth in the flow"), math.nan, "second variation"),
    ):
        assert any(words in claim for claim in worsened(rows, where, value)), words


def test_short_runs_leave_what_they_cannot_show_untested(rows):
    shortened = rows[rows["quantity"] != "growth of round-off"]
    (claim,) = [v for v in STUDY.verdicts(shortened, STUDY.settings("tiny")) if v.verdict != "holds"]
    assert claim.verdict == "not tested"


def test_figures_draw_one_panel_a_width_and_law(rows):
    for name in STUDY.figures:
        figure = STUDY.draw(name, rows)
        assert isinstance(figure, Figure)
        assert len(figure.axes) == 1
        assert figure.axes[0].get_lines()


def test_cells_do_not_depend_on_what_they_do_not_use():
    one, other = (STUDY.cells(config) for config in (Config(), Config(horizon=100.0)))
    same = {cell.key for cell in one} & {cell.key for cell in other}
    assert len(same) == len([cell for cell in one if cell.name.endswith(("explicit", "early"))])


def test_a_single_point_has_no_slope_and_is_not_tested():
    config = Config(inputs=("clipped",), trained=(), epsilons=(0.1,), draws=1000, seeds=(0,))
    found = STUDY.verdicts(STUDY.run(config), config)
    assert [verdict.verdict for verdict in found].count("not tested") == 1
