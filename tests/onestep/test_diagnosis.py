"""Diagnosis: exponents and effective dimensions are found from few samples, and what cannot be said is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from symfield import random
from symfield.onestep import (
    Isotropic,
    PowerLaw,
    Spiked,
    Target,
    aligned,
    diagnose,
    hermite_link,
    leading_order,
    measure_readouts,
    random_directions,
    signal,
    spectrum,
)

LIKE = torch.zeros(1, dtype=torch.float64)
MIXED = hermite_link([0, 1, 1])


def inputs(law, n: int, seed: int = 0) -> torch.Tensor:
    return law.sample((n,), generator=random.generator(seed), like=LIKE)


def finite(value) -> bool:
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    if isinstance(value, list):
        return all(finite(item) for item in value)
    return value != "nan" and not (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("dim", "n"), [(128, 64), (128, 128), (128, 1024)])
def test_the_exponent_of_a_planted_power_law_is_found_also_from_fewer_samples_than_dimensions(dim, n, alpha):
    for seed in range(2):
        found = spectrum(inputs(PowerLaw(dim, alpha), n, seed))
        assert abs(found.exponent - alpha) < (0.15 if n < dim else 0.08 if n == dim else 0.03)
        assert abs(found.exponent - alpha) < 5 * found.exponent_error
        assert found.is_power_law


def test_isotropic_inputs_have_an_exponent_near_zero_where_the_eigenvalues_alone_would_deceive():
    x = inputs(Isotropic(128), 128)
    found = spectrum(x)
    assert found.exponent < 0.25
    assert float(found.eigenvalues[0] / found.eigenvalues[:64].min()) > 3, "sample eigenvalues spread over [0, 4]"


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_effective_dimensions_of_a_planted_power_law_are_found(alpha):
    law = PowerLaw(128, alpha)
    for n, tolerance in ((128, 0.3), (768, 0.12)):
        found = [spectrum(inputs(law, n, seed)) for seed in range(4)]
        r1 = sum(one.r1 for one in found) / 4
        r2 = sum(one.r2 for one in found) / 4
        assert abs(r1 / law.r1 - 1) < tolerance
        assert abs(r2 / law.r2 - 1) < 2 * tolerance
        assert sum(one.r1_range[0] for one in found) / 4 < 1.05 * law.r1
        assert sum(one.r1_range[1] for one in found) / 4 > 0.95 * law.r1
        assert all(one.r1_range[0] <= one.r1_range[1] for one in found)


def test_a_spike_that_stands_apart_is_corrected_for_its_bias():
    law = Spiked(200, 19.0)
    raw, corrected = [], []
    for seed in range(6):
        found = spectrum(inputs(law, 100, seed))
        raw.append(found.r1_range[0])
        corrected.append(found.r1)
    assert abs(np.mean(corrected) / law.r1 - 1) < 0.06
    assert np.mean(raw) < 0.95 * law.r1, "the sample's own Tr S/l_1 is too small"
    assert not found.is_power_law
    assert found.drift < 0, "one eigenvalue falls, the others do not"


@pytest.mark.slow
def test_standard_errors_are_of_the_size_of_the_scatter():
    found = [spectrum(inputs(PowerLaw(64, 0.75), 256, seed)) for seed in range(30)]
    for name, error in (("exponent", "exponent_error"), ("r1", "r1_error"), ("r2", "r2_error")):
        scatter = np.std([getattr(one, name) for one in found])
        assert 0.5 < np.mean([getattr(one, error) for one in found]) / scatter < 2


def test_low_rank_inputs_have_a_rank_and_no_nan():
    x = inputs(Isotropic(3), 50) @ torch.randn(3, 20, generator=random.generator(1), dtype=torch.float64)
    found = spectrum(x)
    assert found.exponent is None
    assert 1 <= found.r2 <= found.r1 <= 3.5


def test_the_gradient_dimension_and_needs_of_an_aligned_teacher_are_found():
    law = PowerLaw(100, 0.5)
    target = Target(hermite_link([0, 1, 1]), law, aligned(law))
    found = [signal(*target.draw(1500, generator=random.generator(s)), generator=random.generator(s)) for s in range(4)]
    assert all(one.information_exponent == 1 and one.curved and one.half_rank == 1 for one in found)
    assert abs(np.mean([one.dimension for one in found]) / law.r1 - 1) < 0.15
    assert abs(np.mean([one.linear for one in found]) - 0.5) < 0.06
    assert abs(np.mean([one.n_half for one in found]) / (2 * law.r1 / 0.5) - 1) < 0.35


def test_n_half_from_data_is_that_of_the_theory_for_a_known_target():
    law = PowerLaw(100, 0.5)
    target = Target(hermite_link([0, 1]), law, aligned(law))
    found = [signal(*target.draw(1000, generator=random.generator(s)), generator=random.generator(s)) for s in range(4)]
    assert abs(np.mean([one.n_half for one in found]) / leading_order(target).n_half - 1) < 0.25


def test_a_random_teacher_is_seen_in_more_dimensions_than_an_aligned_one():
    law = PowerLaw(100, 1.0)
    w = random_directions(law, generator=random.generator(5))
    x, y = Target(MIXED, law, w).draw(2000, generator=random.generator(0))
    found = signal(x, y, generator=random.generator(1))
    assert found.dimension > 3 * law.r1
    assert found.half_rank > 1


def test_the_information_exponent_is_seen():
    law = PowerLaw(40, 0.5)
    for link, expected in ((hermite_link([0, 1]), 1), (hermite_link([0, 0, 1]), 2), (hermite_link([0, 0, 0, 1]), None)):
        x, y = Target(link, law, aligned(law)).draw(800, generator=random.generator(2))
        assert signal(x, y, generator=random.generator(3)).information_exponent == expected


@pytest.mark.slow
def test_absent_parts_are_seen_as_rarely_as_the_level_says():
    law, seen = PowerLaw(30, 1.0), np.zeros(3)
    for seed in range(60):
        x = inputs(law, 200, seed)
        z = x[:, 0] / x[:, 0].std()
        noise = torch.randn(200, generator=random.generator(1000 + seed), dtype=torch.float64)
        even, odd, none = (signal(x, y, generator=random.generator(seed)) for y in (z.square(), z, noise))
        seen += [even.linear_p <= 0.01, odd.quadratic_p <= 0.01, none.linear_p <= 0.01]
    assert (seen <= 4).all(), "0.6 expected of 60; more than 4 has probability 5e-4"


@pytest.mark.parametrize(
    ("law", "link", "n", "winner"),
    [
        (PowerLaw(256, 0.5), MIXED, 400, "trained layer"),
        (PowerLaw(60, 0.75), MIXED, 1500, "kernel"),
        (PowerLaw(60, 0.5), hermite_link([0, 1]), 500, "linear"),
        (PowerLaw(60, 1.0), hermite_link([0, 0, 1]), 500, "kernel"),
        (PowerLaw(60, 0.25), hermite_link([0, 0, 0, 0, 1]), 100, "none"),
    ],
)
def test_the_expected_winner_follows_the_scaling_laws(law, link, n, winner):
    x, y = Target(link, law, aligned(law), noise=0.1).draw(n, generator=random.generator(4))
    report = diagnose(x, y)
    assert report.expectation.winner == winner
    assert report.expectation.reasons
    assert report.expectation.assumptions
    assert finite(report.to_dict())


def test_where_a_winner_is_clear_measurement_agrees():
    law = PowerLaw(256, 0.5)
    x, y = Target(MIXED, law, aligned(law), noise=0.1).draw(400, generator=random.generator(4))
    report = diagnose(x, y, measure=True)
    assert report.measured.ties == ("trained layer",)
    assert report.agrees is True
    assert "measured: trained layer" in repr(report)
    assert json.loads(json.dumps(report.to_dict()))["measured"]["winner"] == "trained layer"


def test_measured_errors_are_those_of_data_that_were_held_out():
    x = inputs(Isotropic(10), 200)
    noise = torch.randn(200, generator=random.generator(9), dtype=torch.float64)
    found = measure_readouts(x, noise, width=64, generator=random.generator(1))
    assert all(0.9 < error < 1.4 for error in found.errors), "nothing can be learned from noise"


def test_classes_are_told_from_numbers():
    x = inputs(PowerLaw(20, 0.5), 200)
    codes = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    as_words = np.array(["low", "middle", "high"])[codes.numpy()]
    one, other = diagnose(x, codes), diagnose(x.numpy(), as_words)
    assert one.classes == other.classes == 3
    assert abs(one.signal.linear - other.signal.linear) < 1e-9
    assert diagnose(x, codes.double()).classes is None
    assert diagnose(x, codes.double(), classes=True).classes == 3
    assert diagnose(x, codes > 0).classes == 2
    measured = diagnose(x, codes > 0, measure=True, width=64).measured
    assert measured.accuracies[0] > 0.75


def test_accuracies_of_unequal_classes_use_the_threshold_one_half():
    x = inputs(Isotropic(2), 1000)
    rare = x[:, 0] > 1.28  # one tenth
    noise = torch.randn(1000, 2, generator=random.generator(7), dtype=torch.float64)
    blind = diagnose(noise, rare, measure=True, width=20).measured
    assert abs(blind.accuracies[0] - float((~rare).double().mean())) < 0.01


def test_the_report_does_not_depend_on_order_scale_or_constant_inputs():
    law = PowerLaw(30, 0.5)
    x, y = Target(MIXED, law, aligned(law)).draw(300, generator=random.generator(0))
    plain = diagnose(x, y)
    padded = torch.cat([1e4 * x + 7.0, torch.full((300, 2), 3.0, dtype=torch.float64)], dim=1)
    other = diagnose(padded, -5 * y + 2)
    assert other.dropped == 2
    assert math.isclose(other.spectrum.r1, plain.spectrum.r1, rel_tol=1e-6)
    assert math.isclose(other.n_half, plain.n_half, rel_tol=1e-6)
    assert other.signal.linear_p == plain.signal.linear_p
    sorted_ = diagnose(x[y.argsort()], y.sort().values)
    assert abs(sorted_.spectrum.exponent - plain.spectrum.exponent) < 1e-6


def test_standardising_undoes_units():
    law = PowerLaw(30, 0.5)
    x, y = Target(MIXED, law, aligned(law)).draw(300, generator=random.generator(0))
    units = torch.logspace(-3, 3, 30, dtype=torch.float64)
    raw, cured = diagnose(x * units, y), diagnose(x * units, y, standardise=True)
    plain = diagnose(x, y, standardise=True)
    assert "consider standardise=True" in repr(raw)
    assert math.isclose(cured.spectrum.r1, plain.spectrum.r1, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(50)}, r"expected inputs \(n, d\) and labels \(n\)"),
        ({"y": torch.arange(49.0)}, r"expected inputs \(n, d\) and labels \(n\)"),
        ({"x": torch.randn(12, 3), "y": torch.randn(12)}, "at least 20 samples, received 12"),
        ({"x": torch.full((50, 3), math.nan)}, "NaN or infinity in 50 samples"),
        ({"y": torch.full((50,), math.inf)}, "expected finite labels"),
        ({"x": torch.ones(50, 3)}, "inputs that vary"),
        ({"y": torch.ones(50)}, "labels that vary, received a constant"),
        ({"y": torch.ones(50, dtype=torch.int64)}, "one class only"),
        ({"y": np.array([f"name {i}" for i in range(50)])}, "at least two samples on average"),
        ({"y": np.array(["a"] * 49 + [None], dtype=object)}, "a class for each sample"),
        ({"y": np.array(["a", "b"] * 25), "classes": False}, "labels that are numbers"),
        ({"x": np.array([["a", "b"]] * 50)}, "inputs that are numbers"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(change, message):
    g = random.generator(0)
    given = {"x": torch.randn(50, 3, generator=g), "y": torch.randn(50, generator=g)} | change
    with pytest.raises(ValueError, match=message):
        diagnose(given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize(
    ("n", "dim", "kind"), [(20, 1, "line"), (20, 200, "wide"), (25, 4, "twice"), (40, 3, "rounded"), (30, 5, "heavy")]
)
def test_small_and_odd_data_give_numbers_and_never_nan(n, dim, kind):
    g = random.generator(n)
    x = torch.randn(n, dim, generator=g, dtype=torch.float64)
    if kind == "twice":
        x = torch.cat([x, x], dim=1)
    if kind == "rounded":
        x = x.round()
    if kind == "heavy":
        x = x / torch.rand(n, 1, generator=g, dtype=torch.float64)
    report = diagnose(x, x[:, 0] + 0.1 * torch.randn(n, generator=g, dtype=torch.float64), measure=True, width=16)
    assert finite(report.to_dict())
    assert "nan" not in repr(report)


def test_bundled_data_sets_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    wine = datasets.load_wine()
    report = diagnose(wine.data, wine.target, standardise=True, measure=True, width=120)
    assert report.classes == 3
    assert 2.5 < report.spectrum.r1 < 3.1
    assert report.expectation.winner == "kernel"
    assert report.agrees
    assert max(report.measured.accuracies) > 0.95
    diabetes = datasets.load_diabetes()
    report = diagnose(diabetes.data, diabetes.target, measure=True)
    assert (report.classes, report.agrees) == (None, True)
    assert report.expectation.close, "something beyond linear is seen, but not how much"


def test_a_curve_without_a_part_of_degree_two_is_seen():
    x = inputs(Isotropic(4), 400)
    for y in (torch.sin(2 * x[:, 0]), x[:, 0] ** 3, x[:, 0].sign()):
        report = diagnose(x, y)
        assert report.signal.nonlinear
        assert report.expectation.winner != "linear"
    even_less = diagnose(x, x[:, 0] ** 3 - 3 * x[:, 0])  # exponent three: nothing of degree one or two
    assert even_less.signal.information_exponent is None
    assert even_less.expectation.winner == "kernel"


def test_linear_labels_are_seen_to_be_curved_as_rarely_as_the_level_says():
    seen, g = 0, random.generator(0)
    for seed in range(100):
        x = torch.exp(torch.randn(80, 6, generator=g, dtype=torch.float64))  # skew inputs, noise that grows with them
        y = x @ torch.randn(6, generator=g, dtype=torch.float64)
        y = y + x[:, 0] * torch.randn(80, generator=g, dtype=torch.float64)
        seen += signal(x, y, generator=random.generator(seed)).higher_p <= 0.01
    assert seen <= 6, "one expected of 100"


def test_a_linear_part_that_only_regression_sees_is_not_called_nothing():
    law = PowerLaw(100, 1.0)
    w = random_directions(law, generator=random.generator(7))
    x, y = Target(MIXED, law, w, noise=0.1).draw(100, generator=random.generator(100))
    report = diagnose(x, y)
    assert report.signal.dimension is None
    assert report.signal.linear > 0.3
    assert report.expectation.winner == "linear"


def test_inputs_in_different_units_are_an_assumption():
    x = inputs(PowerLaw(5, 0.5), 60) * torch.tensor([1e4, 1, 1, 1, 1])
    y = x[:, 1]
    assert any("standardise=True" in line for line in diagnose(x, y).expectation.assumptions)
    assert not any("standardise=True" in line for line in diagnose(x, y, standardise=True).expectation.assumptions)


@pytest.mark.parametrize("scale", [1e-180, 1e180])
def test_the_report_does_not_depend_on_scale_however_extreme(scale):
    x = inputs(PowerLaw(5, 0.5), 60)
    plain, other = diagnose(x, x[:, 0]), diagnose(scale * x, x[:, 0] / scale)
    assert math.isclose(other.spectrum.r1, plain.spectrum.r1, rel_tol=1e-9)
    assert other.expectation.winner == plain.expectation.winner


def test_tables_of_every_kind_are_read():
    pd = pytest.importorskip("pandas")
    x = inputs(PowerLaw(4, 0.5), 80)
    y = x[:, 0].numpy()
    plain = diagnose(x, y)
    frame = pd.DataFrame(x.numpy(), columns=list("abcd"))
    for inputs_, labels in ((frame, pd.Series(y)), (frame, y[:, None]), (x.tolist(), y.astype(object))):
        assert repr(diagnose(inputs_, labels)) == repr(plain)
    for labels in (pd.Series(np.where(y > 0, "up", "down")).astype(kind) for kind in ("string", "category", "object")):
        assert diagnose(frame, labels).classes == 2
    missing = pd.Series(np.where(y > 0, "up", None)).astype("string")
    for bad, message in ((missing, "missing ones"), (y + 1j, "labels that are numbers")):
        with pytest.raises(ValueError, match=message):
            diagnose(frame, bad)
    with pytest.raises(ValueError, match="inputs that are numbers"):
        diagnose(x.numpy() + 1j, y)


def test_signal_and_spectrum_refuse_bad_shapes():
    with pytest.raises(ValueError, match="n >= 20 samples"):
        spectrum(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="finite inputs"):
        spectrum(torch.full((30, 3), math.nan))
    with pytest.raises(ValueError, match="inputs that vary"):
        spectrum(torch.ones(30, 3))
    with pytest.raises(ValueError, match="n >= 20"):
        signal(torch.zeros(30, 3), torch.zeros(29), generator=random.generator(0))
    with pytest.raises(ValueError, match="vary"):
        signal(torch.ones(30, 3), torch.zeros(30), generator=random.generator(0))
    with pytest.raises(ValueError, match="width >= 3"):
        measure_readouts(torch.randn(30, 3), torch.randn(3, 30), width=2, generator=random.generator(0))
