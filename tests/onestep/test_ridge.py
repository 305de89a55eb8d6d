"""Ridge readouts: against normal equations, brute-force leave-one-out, and kernel ridge regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from symfield import random
from symfield.onestep import KernelRidge, ReLUKernel, kernel_ridge, lambda_grid, random_students, ridge_readout

LIKE = torch.zeros(1, dtype=torch.float64)
SHAPES = [(40, 7), (12, 40), (20, 20), (20, 19)]


def draw(n: int, p: int, *, seed: int = 0, runs: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    g = random.generator(seed)
    features = random.normal((*runs, n, p), generator=g, like=LIKE) + 0.5
    y = features[..., 0].sin() + 0.3 * random.normal((*runs, n), generator=g, like=LIKE) + 2
    return features, y


def normal_equations(features: torch.Tensor, y: torch.Tensor, penalty: float, *, intercept: bool = True):
    """min Σ (y - <w, φ> - c)² + penalty |w|², by scipy on the system with the constant as one more feature."""
    f, t = features.numpy(), y.numpy()
    design = np.column_stack([f, np.full(len(f), float(intercept))])
    weight = np.diag([penalty] * f.shape[1] + [0.0 if intercept else 1.0])
    solution = scipy.linalg.solve(design.T @ design + weight, design.T @ t, assume_a="pos")
    return torch.from_numpy(solution[:-1]), float(solution[-1])


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_every_penalty_solves_its_normal_equations(n, p, intercept):
    features, y = draw(n, p)
    for value in (1e-3, 0.1, 3.0):
        readout = ridge_readout(features, y, lambdas=torch.tensor([value], dtype=torch.float64), intercept=intercept)
        weights, constant = normal_equations(features, y, n * value, intercept=intercept)
        assert (readout.weights - weights).abs().max() < 1e-10
        assert abs(float(readout.intercept) - constant) < 1e-10
        assert (readout.predict(features) - (features @ weights + constant)).abs().max() < 1e-10


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_leave_one_out_errors_are_those_of_refitting_without_each_sample(n, p, intercept):
    features, y = draw(n, p)
    lambdas = torch.logspace(-4, 1, 6, dtype=torch.float64)
    readout = ridge_readout(features, y, lambdas=lambdas, intercept=intercept)
    brute = torch.zeros(6, dtype=torch.float64)
    for i in range(n):
        kept = [j for j in range(n) if j != i]
        for k, value in enumerate(lambdas.tolist()):
            weights, constant = normal_equations(features[kept], y[kept], n * value, intercept=intercept)
            brute[k] += (y[i] - features[i] @ weights - constant) ** 2 / n
    assert (readout.errors / brute - 1).abs().max() < 1e-8
    assert readout.criterion == "leave-one-out"
    assert float(readout.chosen) == float(lambdas[brute.argmin()])


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_the_validation_set_chooses_the_penalty_with_the_least_error_on_it(n, p):
    features, y = draw(n, p)
    held, targets = draw(60, p, seed=1)
    readout = ridge_readout(features, y, (held, targets))
    assert readout.lambdas.shape == readout.errors.shape == (17,)
    errors = []
    for value in readout.lambdas:
        weights, constant = normal_equations(features, y, n * float(value))
        errors.append(float((held @ weights + constant - targets).square().mean()))
    assert readout.criterion == "validation"
    assert np.abs(readout.errors.numpy() / errors - 1).max() < 1e-5  # penalties down to 1e-9 of the largest eigenvalue
    assert int(readout.errors.argmin()) == int(np.argmin(errors))
    assert abs(float((readout.predict(held) - targets).square().mean()) - min(errors)) < 1e-8


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_the_runs_axis_is_a_loop(n, p):
    features, y = draw(n, p, runs=(2, 3))
    held, targets = draw(15, p, seed=1, runs=(2, 3))
    for validation in (None, (held, targets)):
        together = ridge_readout(features, y, validation)
        for i in range(2):
            for j in range(3):
                pair = None if validation is None else (held[i, j], targets[i, j])
                alone = ridge_readout(features[i, j], y[i, j], pair)
                assert torch.allclose(together.weights[i, j], alone.weights, atol=1e-10)
                assert torch.allclose(together.errors[i, j], alone.errors, rtol=1e-9)
                assert torch.allclose(together.predict(held)[i, j], alone.predict(held[i, j]), atol=1e-10)
                assert torch.isclose(together.chosen[i, j], alone.chosen)


def test_several_targets_on_the_same_features_share_the_decomposition():
    features, _ = draw(30, 5)
    targets = torch.stack([draw(30, 5, seed=seed)[1] for seed in range(4)])
    together = ridge_readout(features, targets)
    assert together.weights.shape == (4, 5)
    for one, y in enumerate(targets):
        alone = ridge_readout(features, y)
        assert torch.allclose(together.predict(features)[one], alone.predict(features), atol=1e-12)


def test_scaling_the_features_leaves_predictions_unchanged():
    features, y = draw(30, 5)
    one, other = ridge_readout(features, y), ridge_readout(1e3 * features, y)
    assert torch.allclose(one.predict(features), other.predict(1e3 * features), atol=1e-10)


def test_a_choice_at_the_edge_of_the_grid_is_said():
    features, y = draw(40, 3)
    pure = features @ torch.ones(3, dtype=torch.float64)
    edge = ridge_readout(features, pure)
    assert bool(edge.at_edge)
    assert "at the edge of the grid" in repr(edge)
    wide = torch.tensor([1e-8, float(edge.lambdas[8]), 1e8], dtype=torch.float64)
    inner = ridge_readout(features, y, lambdas=wide)
    assert not bool(inner.at_edge)
    assert "edge" not in repr(inner)
    assert "1 at the edge of the grid" in repr(ridge_readout(features, torch.stack([pure, y]), lambdas=wide))
    assert not bool(ridge_readout(features, y, lambdas=wide[:1]).at_edge), "a penalty that was given has no edge"


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_kernel_ridge_with_the_linear_kernel_is_ridge_on_the_inputs(n, p, intercept):
    features, y = draw(n, p)
    held, targets = draw(15, p, seed=1)
    grid = lambda_grid(p, decades=(-5.0, 0.0))
    for validation in (None, (held, targets)):
        primal = ridge_readout(features, y, validation, lambdas=grid, intercept=intercept)
        dual = kernel_ridge(features, y, validation, kernel=lambda a, b: a @ b.mT, lambdas=grid, intercept=intercept)
        assert (dual.errors / primal.errors - 1).abs().max() < 1e-7
        assert torch.equal(dual.chosen, primal.chosen)
        assert (dual.predict(held) - primal.predict(held)).abs().max() < 1e-8


def test_kernel_ridge_minimises_its_objective():
    x, y = draw(25, 4)
    predictor = kernel_ridge(x, y, lambdas=torch.tensor([0.05], dtype=torch.float64))
    gram = ReLUKernel()(x, x)
    n = len(x)
    system = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    system[:n, :n], system[:n, n], system[n, :n] = gram + n * 0.05 * torch.eye(n), 1.0, 1.0
    solution = torch.linalg.solve(system, torch.cat([y, y.new_zeros(1)]))
    held, _ = draw(10, 4, seed=1)
    assert (predictor.predict(held) - (ReLUKernel()(held, x) @ solution[:n] + solution[n])).abs().max() < 1e-10
    assert isinstance(predictor, KernelRidge)


def test_kernel_ridge_over_runs_is_a_loop():
    x, y = draw(20, 4, runs=(3,))
    held, _ = draw(5, 4, seed=1, runs=(3,))
    together = kernel_ridge(x, y)
    for i in range(3):
        alone = kernel_ridge(x[i], y[i])
        assert torch.allclose(together.predict(held)[i], alone.predict(held[i]), atol=1e-9)


def test_the_kernel_is_the_limit_of_wide_random_features():
    x, _ = draw(6, 30)
    g = random.generator(3)
    p = 200_000
    w = random.normal((p, 30), generator=g, like=LIKE, std=30**-0.5)
    b = random.normal((p,), generator=g, like=LIKE, std=3**-0.5)
    features = torch.relu(x @ w.mT + b)
    assert (features @ features.mT / p / ReLUKernel()(x, x) - 1).abs().max() < 0.02


def test_students_with_uniform_biases_have_nearly_this_kernel():
    """Weights on the sphere and uniform biases: moments to second order agree, the kernel to a few per cent."""
    x, _ = draw(6, 100)
    students = random_students(100_000, 100, generator=random.generator(3), paired=False)
    features = students.with_biases(-1.0, 1.0, generator=random.generator(4)).features(x)
    ratio = features @ features.mT / features.shape[1] / ReLUKernel()(x, x)
    assert (ratio - 1).abs().max() < 0.03


def test_float32_gives_float32_of_the_same_fit():
    features, y = draw(40, 7)
    exact, rounded = ridge_readout(features, y), ridge_readout(features.float(), y.float())
    assert rounded.weights.dtype == torch.float32
    assert torch.allclose(rounded.weights.double(), exact.weights, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(9)}, r"expected training features \(\*r, n, p\) and targets"),
        ({"features": torch.full((8, 2), math.nan)}, "finite training features"),
        ({"y": torch.full((8,), math.inf)}, "finite training features and targets"),
        ({"features": torch.zeros(2, 2), "y": torch.zeros(2)}, "at least three samples"),
        ({"features": torch.ones(8, 2)}, "do not vary"),
        ({"validation": (torch.zeros(4, 3), torch.zeros(4))}, "expected 2 features in the validation set"),
        ({"validation": (torch.zeros(4, 2), torch.zeros(5))}, "expected validation features"),
        ({"lambdas": torch.tensor([0.0, 1.0])}, "lambdas > 0"),
        ({"lambdas": torch.tensor([math.nan])}, "lambdas > 0"),
        ({"lambdas": torch.tensor(1.0)}, "expected a tensor"),
    ],
)
def test_what_cannot_be_regressed_on_is_refused(change, message):
    g = random.generator(0)
    given = {"features": torch.randn(8, 2, generator=g), "y": torch.randn(8, generator=g)} | change
    lambdas = given.pop("lambdas", None)
    with pytest.raises(ValueError, match=message):
        ridge_readout(given["features"], given["y"], given.get("validation"), lambdas=lambdas)


def test_what_is_no_kernel_is_refused():
    x, y = draw(8, 2)
    with pytest.raises(ValueError, match="finite kernel of shape"):
        kernel_ridge(x, y, kernel=lambda a, b: a)
    with pytest.raises(ValueError, match="positive semi-definite kernel"):
        kernel_ridge(x, y, kernel=lambda a, b: -(a @ b.mT))
    with pytest.raises(ValueError, match="bias >= 0"):
        ReLUKernel(-1.0)
    with pytest.raises(ValueError, match="count >= 2"):
        lambda_grid(count=1)


def test_features_that_vary_by_round_off_only_and_runs_that_do_not_fit_are_refused():
    y = draw(30, 3)[1]
    with pytest.raises(ValueError, match="features do not vary"):
        ridge_readout(torch.full((30, 3), 0.1, dtype=torch.float64), y)
    with pytest.raises(ValueError, match=r"kernel .* does not vary"):
        kernel_ridge(torch.full((30, 3), 0.1, dtype=torch.float64), y)
    with pytest.raises(ValueError, match=r"\(2,\) of the training features, \(3,\) of the training targets"):
        ridge_readout(draw(30, 3, runs=(2,))[0], draw(30, 3, runs=(3,))[1])
