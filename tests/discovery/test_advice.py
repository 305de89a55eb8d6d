"""The advice: what pays off, never what the data contradict, and "cannot tell" where nothing can be told."""

from __future__ import annotations

import json

import pytest
import torch

from symfield import random
from symfield.discovery import Budget, advise, dataset
from symfield.groups import Cyclic, Defining, Matrix, Planar, SignFlips, Symmetric, Trivial

LIKE = torch.zeros((), dtype=torch.float64)
SHIFTS = Defining(Cyclic(4))
QUICK = Budget(width=32, steps=100, seeds=3, shares=(0.5, 1.0))


def gaussian(n, d, seed=0):
    return random.normal((n, d), generator=random.generator(seed), like=LIKE)


def asked(x, y, rep, **options):
    return advise(dataset(x, y), rep, generator=random.generator(5), **{"budget": QUICK, **options})


def test_a_symmetry_that_holds_and_helps_is_recommended():
    x = gaussian(200, 4)
    advice = asked(x, (x * x.roll(1, -1)).sum(-1) + 0.2 * gaussian(200, 1, 1)[:, 0], SHIFTS)
    assert advice.findings[0].status == "agrees"
    assert advice.scheme.kind != "none"
    assert advice.decided
    assert "error lower by" in advice.verdict
    assert advice.ranking[0].scheme.kind != "none"
    assert advice.gap is not None


def test_a_symmetry_that_the_data_contradict_is_not_recommended_and_its_subgroup_is_examined():
    x = gaussian(300, 4)
    wrong = asked(x, x[:, 0] + x[:, 1] ** 2, SHIFTS)
    assert wrong.recommended == "none"
    assert wrong.findings[0].status == "contradicted"
    assert not any(ranked.allowed for ranked in wrong.ranking if ranked.scheme.kind != "none")
    half = asked(x, x[:, 0] * x[:, 2] + 2 * x[:, 1] * x[:, 3] + 0.2 * gaussian(300, 1, 1)[:, 0], SHIFTS)
    assert [finding.status for finding in half.findings] == ["contradicted", "agrees"]
    assert half.scheme.group.startswith("C_2")
    assert all(ranked.allowed == ("C_4" not in ranked.scheme.group) for ranked in half.ranking)


def test_a_contradicted_symmetry_is_not_recommended_even_where_it_predicts_best():
    """Forty noisy samples of 16 inputs: averaging wins by variance, though the data contradict the symmetry."""
    x = gaussian(60, 16)
    y = x.sum(-1) + 2.5 * x[:, 0] + 0.3 * gaussian(60, 1, 1)[:, 0]
    advice = asked(x, y, Defining(Symmetric(16)), tolerance=1e-6)
    status = {finding.candidate.name: finding.status for finding in advice.findings}
    for ranked in advice.ranking:
        if status.get(ranked.scheme.group) == "contradicted":
            assert not ranked.allowed
            assert advice.recommended != ranked.scheme.name


def test_a_violation_below_the_tolerance_is_approximate():
    x = gaussian(500, 4)
    y = x.sum(-1) + 0.35 * x[:, 0]
    assert asked(x, y, SHIFTS, tolerance=0.08).findings[0].status == "approximate"
    assert asked(x, y, SHIFTS, tolerance=1e-4).findings[0].status == "contradicted"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[:30], y[:30]), "there are 30 samples, and at least 40 are needed"),
        (lambda x, y: (x, torch.ones(len(x))), "the targets do not vary"),
        (lambda x, y: (x * 0 + 1, y), "the inputs do not vary"),
        (lambda x, y: (x, gaussian(len(x), 1, 9)[:, 0]), "no fitted predictor explains the targets"),
    ],
)
def test_what_cannot_be_told_is_said(change, words):
    x = gaussian(80, 4)
    advice = asked(*change(x, x[:, 0]), SHIFTS)
    assert not advice.decided
    assert advice.recommended == "none"
    assert advice.verdict.startswith("cannot tell, because ")
    assert words in advice.verdict


def test_inputs_that_others_determine_do_not_make_a_symmetry_certain():
    x = gaussian(200, 2)
    collinear = torch.cat([x, x[:, :1] * 2 + 1], -1)  # turning the first two columns leaves the plane of the data
    rep = Planar(Cyclic(4)) + Trivial(Cyclic(4))
    advice = asked(collinear, x.prod(-1), rep)
    assert not advice.decided
    assert "off the 2 dimensions" in advice.verdict


def test_moved_inputs_without_data_leave_it_unknown():
    x = gaussian(150, 2).abs() + torch.tensor([6.0, 0.0])
    advice = asked(x, x.prod(-1), Planar(Cyclic(4)))
    assert advice.findings[0].status == "unknown"
    assert "stay where there are data" in advice.findings[0].reason
    assert any("labelled samples at inputs moved" in words for words in advice.changes)


def test_the_advice_is_the_same_for_the_same_seed_and_can_be_written_as_json():
    x = gaussian(120, 3)
    advice = [asked(x, x.abs().sum(-1), Defining(SignFlips(3))) for _ in range(2)]
    first, second = (json.loads(json.dumps(a.to_dict(), allow_nan=False)) for a in advice)
    del first["seconds"], second["seconds"]
    assert first == second
    assert {row["n"] for row in first["curves"]} == {45, 90}
    assert len(first["groups"][0]["elements"]) == 7


def test_progress_runs_from_nought_to_one():
    x, told = gaussian(80, 2), []
    asked(x, x.sum(-1), Defining(Cyclic(2)), advance=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


@pytest.mark.parametrize(
    ("rep", "options", "words"),
    [
        (Defining(Cyclic(3)), {}, "dim 4 on the 4 columns of inputs"),
        (SHIFTS, {"rep_out": Trivial(Cyclic(4), 2)}, "dim 1 on the 1 columns of targets"),
        (SHIFTS, {"rep_out": Trivial(Cyclic(2))}, "one group"),
        (SHIFTS, {"tolerance": 0.0}, "positive tolerance"),
        (
            Matrix(Cyclic(2), [torch.block_diag(torch.tensor([[1.0, 1.0], [0.0, -1.0]]), torch.eye(2))]),
            {},
            "orthogonal",
        ),
    ],
)
def test_what_does_not_fit_is_refused(rep, options, words):
    x = gaussian(80, 4)
    with pytest.raises(ValueError, match=words):
        asked(x, x[:, 0], rep, **options)


def test_collinear_inputs_are_refused_only_where_the_group_leaves_their_span():
    x = gaussian(200, 4)
    x[:, 3] = x[:, 0] + x[:, 1]
    y = (x * x.roll(1, -1)).sum(-1)
    advice = asked(x, y, SHIFTS)
    assert not advice.decided
    assert "collinear, and C_4 moves them off the 3 dimensions" in advice.verdict
    centred = gaussian(200, 4)
    centred = centred - centred.mean(-1, keepdim=True)  # sums of 0, which shifts keep
    assert asked(centred, (centred * centred.roll(1, -1)).sum(-1), SHIFTS).decided


def test_copied_rows_make_no_advantage():
    """Labels without relation to the inputs, which a copy in the training set gives away."""
    x, y = gaussian(100, 4), gaussian(100, 1, 1)
    advice = asked(x.repeat(5, 1), y.repeat(5, 1), SHIFTS)
    assert not advice.decided
    assert advice.samples == 100


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_a_target_in_millions_does_not_hide_what_another_contradicts(size):
    x = gaussian(300, 4)
    advice = asked(x, torch.stack([size * (x * x.roll(1, -1)).sum(-1), x[:, 0]], dim=1), SHIFTS)
    assert advice.findings[0].status == "contradicted"
    assert not any(ranked.allowed for ranked in advice.ranking if ranked.scheme.group == "C_4")


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e9), (1e-14, 0.0)])
def test_units_of_targets_do_not_change_the_advice(scale, shift):
    x = gaussian(200, 4)
    y = (x * x.roll(1, -1)).sum(-1) + 0.2 * gaussian(200, 1, 1)[:, 0]
    plain, moved = (asked(x, values, SHIFTS) for values in (y, scale * y + shift))
    assert moved.recommended == plain.recommended != "none"
    assert moved.ranking[0].error.value == pytest.approx(plain.ranking[0].error.value, rel=0.02)
