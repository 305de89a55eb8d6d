"""Trained layer against random features, kernel and linear regression on the same data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from symfield import random
from symfield.onestep import (
    PowerLaw,
    Target,
    aligned,
    giant,
    gradient_step_on_sample,
    hermite_link,
    kernel_ridge,
    random_features_readout,
    random_students,
    ridge_readout,
    trained_readout,
)

LINK = hermite_link([0, 1, 1])  # (z + (z² - 1)/√2)/√2


def setting(alpha: float, n: int, *, seed: int = 0, dim: int = 256, width: int = 512, held: int = 4000):
    law = PowerLaw(dim, alpha)
    target = Target(LINK, law, aligned(law), noise=0.1)
    g = random.split(random.generator(seed), 5)
    students = random_students(width, dim, generator=g[0], paired=False).with_biases(-1.0, 1.0, generator=g[1])
    return (
        law,
        students,
        target.draw(n, generator=g[2]),
        target.draw(1000, generator=g[3]),
        target.draw(held, generator=g[4]),
    )


def error(predictor, held) -> float:
    x, y = held
    return float((predictor.predict(x) - y).square().mean() / y.var())


def errors(alpha: float, n: int, seeds: range) -> dict[str, float]:
    total: dict[str, float] = {}
    for seed in seeds:
        law, students, (x, y), validation, held = setting(alpha, n, seed=seed)
        found = {
            "trained": trained_readout(students, x, y, validation, rule=giant(2.0), covariance=law),
            "random": random_features_readout(students, x, y, validation),
            "linear": ridge_readout(x, y, validation),
            "kernel": kernel_ridge(x, y, validation) if n <= 1024 else None,
        }
        for name, predictor in found.items():
            if predictor is not None:
                total[name] = total.get(name, 0.0) + error(predictor, held) / len(seeds)
    return total


def test_under_a_power_law_the_trained_layer_beats_random_features_and_linear_regression():
    found = errors(0.5, 512, range(2))
    assert found["trained"] <= 0.12
    assert found["random"] >= 0.42
    assert found["linear"] >= 0.48
    assert found["trained"] < found["kernel"], "n = 512 is below r1² = 935"


@pytest.mark.slow
def test_levels_of_the_readouts_at_n_512_and_2048():
    found = errors(0.5, 512, range(5))
    assert found["trained"] <= 0.12
    assert found["random"] >= 0.45
    assert found["linear"] >= 0.5
    found = errors(0.0, 2048, range(4))
    assert found["trained"] <= 0.42 < found["linear"] < found["random"]
    assert abs(found["linear"] - 0.59) < 0.06
    assert abs(found["random"] - 0.73) < 0.06


def test_beyond_r1_squared_samples_the_kernel_beats_a_trained_layer():
    found = errors(1.0, 512, range(2))
    assert found["kernel"] < 0.7 * found["trained"], "r1² = 38"


def test_the_trained_readout_is_a_step_on_one_half_and_ridge_on_the_other():
    law, students, (x, y), validation, held = setting(0.5, 60, dim=20, width=16)
    network = trained_readout(students, x, y, validation, rule=giant(3.0), covariance=law)
    bare = replace(students, biases=torch.zeros_like(students.biases))
    step = gradient_step_on_sample(bare, x[:30], y[:30] - y[:30].mean(), covariance=law, rule=giant(3.0))
    assert torch.equal(network.students.weights, step.students.weights)
    assert torch.equal(network.students.biases, students.biases)
    features = network.students.features
    by_hand = ridge_readout(features(x[30:]), y[30:], (features(validation[0]), validation[1]))
    assert torch.equal(network.predict(held[0]), by_hand.predict(features(held[0])))


def test_adding_a_constant_to_the_labels_adds_it_to_predictions():
    law, students, (x, y), validation, held = setting(0.5, 60, dim=20, width=16)
    one = trained_readout(students, x, y, validation, covariance=law).predict(held[0])
    other = trained_readout(students, x, y + 100, (validation[0], validation[1] + 100), covariance=law).predict(held[0])
    assert (other - one - 100).abs().max() < 1e-7


def test_runs_are_a_loop():
    parts = [setting(0.5, 60, seed=seed, dim=20, width=16) for seed in range(3)]
    law = parts[0][0]
    students = replace(
        parts[0][1],
        weights=torch.stack([part[1].weights for part in parts]),
        outputs=torch.stack([part[1].outputs for part in parts]),
        biases=torch.stack([part[1].biases for part in parts]),
    )
    x, y = (torch.stack([part[2][i] for part in parts]) for i in range(2))
    validation = tuple(torch.stack([part[3][i] for part in parts]) for i in range(2))
    held = torch.stack([part[4][0] for part in parts])
    together = trained_readout(students, x, y, validation, covariance=law)
    assert together.predict(held).shape == (3, 4000)
    for i, (_, alone, (xi, yi), vi, hi) in enumerate(parts):
        network = trained_readout(alone, xi, yi, vi, covariance=law)
        assert torch.allclose(together.predict(held)[i], network.predict(hi[0]), atol=1e-8)


def test_several_labels_share_the_neurons_out_and_all_of_them_serve_each():
    _, students, (x, y), _, held = setting(0.5, 200, dim=20, width=32)
    labels = torch.stack([y, x[:, 1], x[:, 2]])
    with pytest.raises(ValueError, match="3 labels divide"):
        trained_readout(students, x, labels)
    network = trained_readout(students, x, torch.stack([y, x[:, 1]]))
    assert network.students.weights.shape == (32, 20)
    assert network.predict(held[0]).shape == (2, 4000)
    assert float((network.predict(held[0])[1] - held[0][:, 1]).square().mean() / held[0][:, 1].var()) < 0.3


def test_bad_data_are_refused():
    _, students, (x, y), _, _ = setting(0.5, 60, dim=20, width=16)
    with pytest.raises(ValueError, match=r"expected inputs \(\*r, n, 20\)"):
        trained_readout(students, x[:, :3], y)
    with pytest.raises(ValueError, match="precision of the students"):
        trained_readout(students, x.float(), y.float())
    with pytest.raises(ValueError, match="n >= 6"):
        trained_readout(students, x[:5], y[:5])
    with pytest.raises(ValueError, match="finite"):
        trained_readout(students, x, y * float("nan"))
    with pytest.raises(ValueError, match="expected training features"):
        random_features_readout(students, x, y[:-1])
