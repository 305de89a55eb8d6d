"""The study of theorems: every claim is measured and holds at ``tiny``, and every claim can fail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pytest
from matplotlib.figure import Figure

from symfield import random
from symfield.groups import Trivial
from symfield.linalg import Subspace
from symfield.studies._maass2024_claims import FAMILIES, SETTINGS, Draw, Setting, flows, laws, risks, setting
from symfield.studies.maass2024_theorems import STUDY, Config


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(STUDY.settings("tiny"))


def verdicts(rows) -> dict:
    return {verdict.claim: verdict for verdict in STUDY.verdicts(rows, STUDY.settings("tiny"))}


def test_every_claim_holds_at_tiny(rows):
    failed = [verdict for verdict in verdicts(rows).values() if verdict.verdict != "holds"]
    assert not failed
    assert len(verdicts(rows)) >= 100
    assert rows["outside"].sum() >= 25, "theorems must be shown to fail outside their hypotheses"
    assert set(rows["family"]) == set(FAMILIES)


def test_verdicts_name_the_place_in_the_paper(rows):
    for verdict in verdicts(rows).values():
        assert "arXiv:2405.19995v3, " in verdict.source
        assert any(
            word in verdict.source for word in ("Theorem", "Proposition", "Lemma", "Corollar", "Section", "Append")
        )


def test_each_claim_fails_when_its_numbers_are_doctored(rows):
    for claim in rows["claim"].unique():
        doctored = rows.copy()
        mine = (doctored["claim"] == claim) & (doctored["seed"] == doctored["seed"].min())
        outside, bound, expected = doctored.loc[mine, ["outside", "bound", "expected"]].iloc[0]
        value = 0.0 if outside else 2 * bound + 1e-6
        doctored.loc[mine, "measured"] = expected + value
        doctored.loc[mine, "violation"] = value
        found = verdicts(doctored)
        assert found[claim].verdict == "fails", claim
        assert sum(verdict.verdict == "fails" for verdict in found.values()) == 1, claim


def test_a_claim_whose_number_is_nan_fails(rows):
    doctored = rows.copy()
    doctored.loc[doctored.index[0], ["measured", "violation"]] = math.nan
    assert verdicts(doctored)[rows["claim"].iloc[0]].verdict == "fails"
    assert isinstance(STUDY.draw("theorems", doctored), Figure)


@dataclass(frozen=True)
class Wrong(Setting):
    """A setting whose group leaves parameters alone: not the action that fits the unit."""

    @cached_property
    def rep(self):
        return Trivial(self.group, self.unit.dim)

    @cached_property
    def space(self):
        return Subspace.full(self.unit.dim)


@pytest.mark.parametrize(
    ("check", "claims"),
    [
        (laws.networks, ("JOINT", "AVERAGED", "EQUIVARIANT")),
        (risks.risks, ("DA_MEAN", "FA_ORBIT", "WI_EQUAL")),
        (risks.gradients, ("DA_GRADIENT", "FA_GRADIENT")),
        (risks.decompositions, ("PYTHAGORAS",)),
        (flows.steps, ("SI_STEP",)),
    ],
)
@pytest.mark.parametrize("name", ["swap", "sets"])
def test_theorems_are_false_for_an_action_that_does_not_fit_the_unit(check, claims, name):
    right = setting(name)
    wrong = Wrong(right.name, right.unit, right.rep_in, right.rep_out, right.hidden)
    module = {laws.networks: laws, flows.steps: flows}.get(check, risks)
    measured = check(wrong, Draw(random.generator(0), 6, 8, 0))
    for claim in claims:
        assert measured[getattr(module, claim)] > 1e-4, claim


def test_cells_are_local_to_a_family_and_a_setting():
    cells = STUDY.cells(Config(families=("laws", "training"), settings=("signs", "turns"), seeds=(3, 4)))
    assert [(cell.config.family, cell.config.setting, cell.config.seeds) for cell in cells] == [
        ("laws", "signs", (3, 4)),
        ("laws", "turns", (3, 4)),
    ]
    assert {cell.config.seeds for cell in STUDY.cells(Config(families=("teachers",)))} == {(0,)}
    assert {cell.config.setting for cell in STUDY.cells(Config())} == set(SETTINGS)


def test_figures_and_table_show_every_claim(rows):
    inside, outside = (rows[rows["outside"] == flag]["claim"].nunique() for flag in (False, True))
    for name, count in (("theorems", inside), ("hypotheses", outside)):
        figure = STUDY.draw(name, rows)
        assert isinstance(figure, Figure)
        assert len(figure.axes[0].get_yticks()) == count
    assert len(STUDY.tables["claims"](rows)) == inside + outside
