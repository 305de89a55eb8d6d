"""The studies of the published grid at ``tiny``, their verdicts on doctored rows, and the claims on reduced seeds."""

from __future__ import annotations

from dataclasses import replace
from math import log10

import pytest
from matplotlib.figure import Figure

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, FieldError, Study
from symfield.studies import maass2024_clouds, maass2024_laws, maass2024_risks, maass2024_step_or_width
from symfield.studies._maass2024 import Training, train
from symfield.studies._maass2024_plots import is_published

STUDIES = [maass2024_laws.STUDY, maass2024_risks.STUDY, maass2024_clouds.STUDY]


@pytest.fixture(scope="module")
def runs():
    return {study.name: (study.run(study.settings("tiny")), study.settings("tiny")) for study in STUDIES}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_tiny_run_holds_draws_and_tabulates(study: Study, runs):
    rows, config = runs[study.name]
    verdicts = study.verdicts(rows, config)
    assert {v.verdict for v in verdicts} <= {HOLDS, NOT_TESTED}
    assert any(v.verdict == HOLDS for v in verdicts)
    for name in study.figures:
        assert isinstance(study.draw(name, rows), Figure)
    for page in study.pages.values():
        assert len(page(rows).data) > 0
    for table in study.tables.values():
        assert len(table(rows)) > 0


def test_studies_of_one_grid_share_their_cells():
    laws, risks = maass2024_laws.STUDY, maass2024_risks.STUDY
    keys = [{cell.key for cell in study.cells(study.settings("quick"))} for study in (laws, risks)]
    assert keys[0] == keys[1]


def test_a_law_off_the_fixed_space_fails_the_exact_claims(runs):
    rows, config = runs["maass2024_laws"]
    rows = rows.copy()
    rows.loc[(rows["scheme"] == "EA") & (rows["quantity"] == "rmd2_fixed"), "value"] = 1e-9
    failed = [v.claim for v in maass2024_laws.STUDY.verdicts(rows, config) if v.verdict == FAILS]
    assert len(failed) == 1
    assert "EA stays exactly in E^G" in failed[0]


def test_a_flat_curve_fails_the_slopes(runs):
    rows = runs["maass2024_laws"][0].copy()
    rows["n"] = rows["n"].map({5: 100, 20: 1000})
    rows.loc[rows["quantity"].isin(["rmd2_fixed", "rmd2_pair"]), "value"] = 1e-3
    failed = [v.claim for v in maass2024_laws.STUDY.verdicts(rows, maass2024_laws.Config()) if v.verdict == FAILS]
    assert any("slope of RMD² in N" in claim for claim in failed)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_amplified_round_off_in_single_precision_is_no_verdict(study: Study, runs):
    rows, config = runs[study.name]
    rows = rows.copy()
    on = rows["scheme"].isin(["DA", "FA", "DA–FA"])
    for column in {"value", "o1"} & set(rows.columns):
        rows.loc[on, column] += 1e-3
    claims = {v.claim for v in study.verdicts(rows, config) if v.verdict == FAILS}
    single = {v.claim: v.verdict for v in study.verdicts(rows, replace(config, dtype="float32"))}
    assert claims
    assert {single[claim] for claim in claims} == {NOT_TESTED}


def test_pairs_of_schemes_have_one_name_whatever_the_order_of_the_schemes():
    there, back = (
        {
            (r["scheme"], r["seed"]): r["value"]
            for r in train(setting(n=5, schemes=schemes))
            if r["quantity"] == "rmd2_pair"
        }
        for schemes in (("V", "FA", "EA"), ("EA", "FA", "V"))
    )
    assert {name for name, _ in there} == {"V–FA", "V–EA", "FA–EA", "EA–P(FA)"}
    assert there == pytest.approx(back, rel=1e-6, abs=1e-6)


def test_levels_are_tested_at_the_published_setting_only():
    assert is_published(maass2024_laws.Config(sizes=(7,), seeds=(3, 4, 5, 6, 7)))
    assert not is_published(maass2024_laws.Config(seeds=(3,)))
    assert not is_published(maass2024_laws.Config(horizon=5.0))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (maass2024_laws.Config, "sizes", (10, 0)),
        (maass2024_laws.Config, "seeds", ()),
        (maass2024_laws.Config, "tau", -1.0),
        (maass2024_laws.Config, "horizon", float("nan")),
        (maass2024_clouds.Config, "n", 0),
        (maass2024_step_or_width.Config, "steps", (0.1, 0.0)),
    ],
)
def test_a_setting_that_no_run_could_use_is_refused_before_anything_runs(config, field, value):
    with pytest.raises(FieldError, match=field):
        config(**{field: value})


def setting(**changes) -> Training:
    cells = maass2024_laws.STUDY.cells(maass2024_laws.Config(teachers=("WI",), inits=("SI",), sizes=(100,)))
    changes = {"seeds": (0, 1, 2, 3, 4), "schemes": ("V", "DA", "FA", "EA"), **changes}
    return replace(cells[0].config, epsilon=1 / changes.get("n", 100), **changes)


def median(rows, quantity: str, scheme: str) -> float:
    values = sorted(row["value"] for row in rows if (row["quantity"], row["scheme"]) == (quantity, scheme))
    return values[len(values) // 2]


def test_free_training_approaches_the_fixed_space_for_an_invariant_teacher_and_not_for_an_arbitrary_one():
    narrow, wide = (train(setting(n=n)) for n in (10, 100))
    assert median(narrow, "rmd2_fixed", "V") > 1e-3
    assert 2.6e-5 / 4 < median(wide, "rmd2_fixed", "V") < 2.6e-5 * 4
    away = train(setting(teacher="arbitrary"))
    assert 0.07 < median(away, "rmd2_fixed", "V") < 0.12
    assert 0.92 * 0.182 < median(away, "error_target", "FA") < 1.08 * 0.182
    assert median(away, "error_target", "V") < 4e-3
    assert median(away, "error_symmetric", "DA") < 1.5e-2
    for rows in (narrow, wide, away):
        assert max(r["value"] for r in rows if r["quantity"] == "rmd2_fixed" and r["scheme"] == "EA") == 0
        assert max(r["value"] for r in rows if r["scheme"] in ("DA–FA", "DA–EA", "FA–EA")) <= 1e-15


def test_from_a_weakly_invariant_law_only_an_invariant_teacher_brings_free_training_to_augmentation():
    rows, away = (train(setting(teacher=kind, init="WI", noise="full")) for kind in ("WI", "arbitrary"))
    assert median(rows, "rmd2_pair", "V–DA") < 1e-4
    assert 5e-4 < median(rows, "rmd2_pair", "DA–FA") < 8e-3
    assert 0.10 < median(rows, "rmd2_pair", "V–EA") < 0.16
    assert 0.01 < median(rows, "rmd2_orbit", "V") < 0.04
    assert 0.07 < median(away, "rmd2_pair", "V–DA") < 0.15
    assert median(away, "rmd2_orbit", "V") > 0.1


@pytest.mark.slow
def test_batch_noise_drives_free_training_out_of_the_fixed_space():
    study = maass2024_step_or_width.STUDY
    config = study.settings("quick")
    rows = study.run(config)
    assert {v.verdict for v in study.verdicts(rows, config)} <= {HOLDS, NOT_TESTED}
    study.draw("one_at_a_time", rows)


@pytest.mark.slow
def test_laws_and_risks_hold_at_the_quick_preset():
    for study in (maass2024_laws.STUDY, maass2024_risks.STUDY):
        config = study.settings("quick")
        verdicts = study.verdicts(study.run(config), config)
        assert {v.verdict for v in verdicts} <= {HOLDS, NOT_TESTED}


@pytest.mark.slow
def test_unprojected_noise_leaves_a_floor_a_thousand_times_higher():
    full = median(train(setting(n=500, noise="full", schemes=("V",))), "rmd2_fixed", "V")
    projected = median(train(setting(n=500, schemes=("V",))), "rmd2_fixed", "V")
    assert full == pytest.approx(4.2e-3, rel=0.3)
    assert 300 < full / projected < 3000


@pytest.mark.slow
def test_sampled_augmentation_keeps_the_law_of_free_training_for_an_invariant_teacher_only():
    schemes = ("V", "DA sampled", "DA")
    rows = train(setting(n=500, schemes=schemes))
    assert 1e-6 < median(rows, "rmd2_fixed", "DA sampled") < 1e-5
    away = train(setting(n=500, schemes=schemes, teacher="arbitrary"))
    assert 1e-3 < median(away, "rmd2_fixed", "DA sampled") < 1e-2
    assert median(away, "rmd2_fixed", "DA") < 1e-15


@pytest.mark.slow
def test_free_training_approaches_the_fixed_space_as_one_over_the_width_up_to_a_thousand():
    narrow, wide = (median(train(setting(n=n, schemes=("V",))), "rmd2_fixed", "V") for n in (100, 1000))
    assert 1.5e-6 / 4 < wide < 1.5e-6 * 4
    assert -1.5 <= log10(wide / narrow) <= -0.8


@pytest.mark.slow
def test_from_a_weakly_invariant_law_schemes_meet_as_one_over_the_width_up_to_a_thousand():
    schemes = ("V", "DA", "FA")
    narrow, wide = (train(setting(n=n, schemes=schemes, init="WI", noise="full")) for n in (100, 1000))
    for pair in ("DA–FA", "V–FA"):
        assert -1.25 <= log10(median(wide, "rmd2_pair", pair) / median(narrow, "rmd2_pair", pair)) <= -0.75
    assert -0.6 <= log10(median(wide, "rmd2_orbit", "V") / median(narrow, "rmd2_orbit", "V")) <= -0.3
    away = train(setting(n=1000, schemes=schemes, init="WI", noise="full", teacher="arbitrary"))
    assert median(away, "rmd2_pair", "DA–FA") < 8e-4
    assert 0.07 < median(away, "rmd2_pair", "V–DA") < 0.15
    assert median(away, "rmd2_orbit", "V") > 0.1
