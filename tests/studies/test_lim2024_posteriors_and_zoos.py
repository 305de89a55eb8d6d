"""Posteriors and zoos of asymmetric networks: the studies at tiny, verdicts of other numbers, slow runs in full."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import FieldError
from symfield.studies import lim2024_bayesian, lim2024_metanetworks
from symfield.studies._lim2024_posteriors import Posteriors, _network

TINY = {study: study.STUDY.settings("tiny") for study in (lim2024_bayesian, lim2024_metanetworks)}


@pytest.fixture(scope="module")
def posteriors():
    return lim2024_bayesian.run(TINY[lim2024_bayesian])


@pytest.fixture(scope="module")
def zoos():
    return lim2024_metanetworks.run(TINY[lim2024_metanetworks])


def test_every_posterior_is_judged_on_both_parts_of_the_data(posteriors):
    rows = posteriors[posteriors["kind"] == "posterior"]
    assert len(rows) == 4
    assert rows["test_accuracy"].between(0, 1).all()
    assert (rows["divergence"] > 0).all()
    assert rows[["train_nll", "test_nll", "test_ece", "objective"]].notna().all(axis=None)
    epochs = posteriors[posteriors["kind"] == "epoch"].groupby(["arm", "seed"])["objective"]
    assert (epochs.last() < epochs.first()).all()


@pytest.mark.parametrize("study", TINY)
def test_figures_and_tables_are_drawn_and_small_runs_are_not_judged(study, posteriors, zoos):
    rows = posteriors if study is lim2024_bayesian else zoos
    assert all(isinstance(draw(rows), Figure) for draw in study.figures.values())
    assert all(len(make(rows)) for make in study.STUDY.tables.values())
    assert {verdict.verdict for verdict in study.verdicts(rows, TINY[study])} == {"not tested"}


def test_what_is_fixed_in_a_posterior_is_what_the_arm_says():
    cell = Posteriors(
        arm="W", depth=2, width=12, data="digits", folder="", seeds=(0,), epochs=1, batch=64, rate=1e-3, fix=3,
        kappa=0.5, rank=2, log_delta=-10.0, prior=0.01, temper=8.0, draws=1, device="cpu", dtype="float32",
    )  # fmt: skip
    settings = {name: getattr(cell, name) for name in Posteriors.__dataclass_fields__}
    for arm, masks in (("W", 3), ("W, kappa 0", 3), ("init only", 0), ("standard", 0)):
        net = _network(Posteriors(**{**settings, "arm": arm}), 64, 10)
        layers = net.layers().values()
        assert sum(layer.mask is not None for layer in layers) == masks
        large = max(float((layer.effective()[0].abs() > 0.4).float().mean()) for layer in layers)
        assert (large > 0.05) == (arm in ("W", "init only"))
        for layer in layers:
            if layer.mask is not None:
                assert ((~layer.mask).sum(1) == 3).all()


def test_zoos_are_read_whole_and_in_matched_parts(zoos):
    networks = zoos[zoos["kind"] == "network"]
    assert set(networks.groupby("arm").size()) == {40}
    assert networks.groupby("arm")["parameters"].first().to_dict() == {"standard": 1482, "W": 1122}
    rows = zoos[zoos["kind"] == "prediction"]
    counts = rows.groupby(["arm", "targets", "metanetwork"]).size()
    assert set(counts) == {2}
    assert len(counts) == 2 * 2 * 2
    matched = rows[rows["targets"] == "matched"].groupby("arm")[["networks_read", "mean_accuracy"]].first()
    assert matched["networks_read"].nunique() == 1
    assert matched["mean_accuracy"].max() - matched["mean_accuracy"].min() < 0.05
    assert rows["tau"].between(-1, 1).all()


def verdicts_of_posteriors(standard, asymmetric, mask):
    rows = [
        {"kind": "posterior", "depth": depth, "arm": arm, "test_accuracy": accuracy, "train_nll": 1 - accuracy}
        for depth in (8, 16)
        for arm, accuracy in (("standard", standard), ("W", asymmetric), ("W, kappa 0", mask))
    ]
    return [v.verdict for v in lim2024_bayesian.verdicts(DataFrame(rows), lim2024_bayesian.Config())]


def test_verdicts_on_posteriors_can_fail():
    assert verdicts_of_posteriors(0.3, 0.9, 0.3) == ["holds"] * 4
    assert verdicts_of_posteriors(0.9, 0.7, 0.3) == ["fails"] * 4


def verdicts_of_zoos(gain, mask):
    base = {"MLP": 0.5, "StatNN": 0.6, "DeepSets": 0.5, "DMC": 0.5}
    rows = []
    for reader, value in base.items():
        for arm, against, more in (
            ("standard", "W", 0.0), ("W", "standard", gain), ("standard", "W, kappa 0", 0.0),
            ("W, kappa 0", "standard", mask),
        ):  # fmt: skip
            rows += [
                {
                    "kind": "prediction", "metanetwork": reader, "arm": arm, "targets": targets,
                    "against": against if targets == "matched" else "", "r2": value + more, "tau": value + more,
                }
                for targets in ("all", "matched")
            ]  # fmt: skip
    return [v.verdict for v in lim2024_metanetworks.verdicts(DataFrame(rows), lim2024_metanetworks.Config())]


def test_verdicts_on_zoos_can_fail():
    assert verdicts_of_zoos(0.3, 0.05) == ["holds"] * 14
    assert verdicts_of_zoos(-0.1, 0.2) == ["fails"] * 14


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(FieldError, match="fewer fixed entries"):
        lim2024_bayesian.Config(fix=40)
    with pytest.raises(FieldError, match="at least 20 networks"):
        lim2024_metanetworks.Config(networks=5)


@pytest.mark.slow
def test_deep_standard_posteriors_fail_and_asymmetric_ones_do_not():
    settings = lim2024_bayesian.STUDY.settings("quick")
    found = {v.claim: v for v in lim2024_bayesian.verdicts(lim2024_bayesian.run(settings), settings)}
    levels = [v.verdict for claim, v in found.items() if "hidden layers the" in claim]
    assert levels == ["holds", "holds"]


@pytest.mark.slow
def test_perceptrons_read_asymmetric_networks_better():
    settings = lim2024_metanetworks.STUDY.settings("quick")
    rows = lim2024_metanetworks.run(settings)
    found = [v for v in lim2024_metanetworks.verdicts(rows, settings) if "perceptron reads" in v.claim]
    assert [v.verdict for v in found if "whole zoos" in v.claim] == ["holds", "holds"]
    assert torch.isfinite(torch.tensor(rows.loc[rows["kind"] == "prediction", "r2"].to_numpy())).all()
