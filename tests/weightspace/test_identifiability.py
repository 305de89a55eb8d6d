"""Units told apart: prices against least squares, gaps against all permutations, agreement against sorted lists."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from symfield import random
from symfield.linalg import Subspace
from symfield.weightspace import (
    coherence,
    leading_subspace,
    model_agreement,
    permutation_gap,
    swap_costs,
    symmetries,
    target_prices,
    unit_agreement,
)

LIKE = torch.zeros((), dtype=torch.float64)


def draw(*shape: int, seed: int = 0):
    return random.normal(shape, generator=random.generator(seed), like=LIKE)


def masked_layer(n: int, d: int, fixed: int, kappa: float, seed: int = 0):
    """F, D and effective weights of a layer with so many fixed entries a row."""
    order = draw(n, d, seed=seed).argsort(1)
    mask = torch.ones(n, d, dtype=torch.float64).scatter(1, order[:, :fixed], 0.0)
    f = kappa * (1 - mask) * draw(n, d, seed=seed + 1)
    return f, mask, f + 0.2 * mask * draw(n, d, seed=seed + 2)


def test_a_price_is_the_least_norm_of_weights_that_pay_it():
    f, mask, weights = masked_layer(5, 9, 3, 1.0)
    subspace = leading_subspace(draw(20, 9, seed=7), 4)
    prices = target_prices(f, mask, weights, subspace)
    u = subspace.basis
    for i, j in itertools.product(range(5), repeat=2):
        columns = u.mT * mask[i]
        off = u.mT @ (weights[j] - f[i])
        least = torch.linalg.lstsq(columns, off, driver="gelsd").solution
        assert torch.allclose(columns @ least, off, atol=1e-10)
        assert prices[i, j] == pytest.approx(float(least.square().sum()), rel=1e-9)


def test_what_a_unit_cannot_compute_has_no_price():
    f, mask, weights = masked_layer(4, 6, 2, 1.0)
    prices = target_prices(f, mask, weights, Subspace.full(6))
    assert bool(prices.diagonal().isfinite().all())
    assert bool(prices[~torch.eye(4, dtype=torch.bool)].isinf().all())
    assert permutation_gap(prices) == math.inf


def test_own_weights_cost_no_more_than_their_norm_and_exactly_that_on_all_inputs():
    f, mask, weights = masked_layer(6, 8, 3, 1.0)
    norm = ((weights - f) * mask).square().sum(1)
    for dim in (2, 5):
        prices = target_prices(f, mask, weights, leading_subspace(draw(20, 8, seed=3), dim))
        assert bool((prices.diagonal() <= norm + 1e-12).all())
    torch.testing.assert_close(target_prices(f, mask, weights, Subspace.full(8)).diagonal(), norm)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_gap_is_that_of_all_permutations(n, seed):
    prices = draw(n, n, seed=seed).square()
    if seed % 2:
        prices = prices + 2 * (1 - torch.eye(n, dtype=torch.float64))  # the identity is best
    if seed % 3 == 0:
        prices[0, 1] = torch.inf
    costs = [
        sum(float(prices[i, p] - prices[i, i]) for i, p in enumerate(order))
        for order in itertools.permutations(range(n))
        if order != tuple(range(n))
    ]
    assert permutation_gap(prices) == pytest.approx(min(costs), abs=1e-10)


def test_swap_costs_are_the_costs_of_transpositions():
    prices = draw(4, 4).square()
    costs = swap_costs(prices)
    for i, j in itertools.combinations(range(4), 2):
        order = list(range(4))
        order[i], order[j] = j, i
        extra = sum(float(prices[k, p] - prices[k, k]) for k, p in enumerate(order))
        assert costs[i, j] == costs[j, i] == pytest.approx(extra)
    assert bool((costs.diagonal() == 0).all())


def test_equal_rules_cost_nothing_and_fixed_values_do():
    """Without F and masks all units are interchangeable; large fixed values make every exchange dear."""
    subspace = leading_subspace(draw(30, 12, seed=5), 4)
    weights = draw(6, 12, seed=6)
    free = target_prices(torch.zeros(6, 12), torch.ones(6, 12), weights, subspace)
    assert swap_costs(free).abs().max() < 1e-10
    assert abs(permutation_gap(free)) < 1e-10
    gaps = []
    for kappa in (0.25, 1.0, 4.0):
        f, mask, weights = masked_layer(6, 12, 3, kappa)
        gaps.append(permutation_gap(target_prices(f, mask, weights, subspace)))
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[2] > 0


def test_coherence_is_one_on_an_axis_and_k_over_d_at_least():
    axis = Subspace.span(torch.eye(6)[:2])
    assert coherence(axis) == pytest.approx(1.0, abs=1e-12)
    hadamard = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1]])
    assert coherence(Subspace.span(hadamard)) == pytest.approx(0.5)
    for k in (1, 3, 6):
        found = leading_subspace(draw(40, 10, seed=k), k)
        assert k / 10 - 1e-12 <= coherence(found) <= 1
        by_hand = max(float(found.project(e).square().sum()) for e in torch.eye(10, dtype=torch.float64))
        assert coherence(found) == pytest.approx(by_hand)


def test_agreement_sees_units_in_place_moved_and_unrelated():
    a = draw(400, 12)
    order = torch.tensor([1, 0, 3, 2, *range(4, 12)])
    near = a + 0.1 * draw(400, 12, seed=1)
    same, moved = unit_agreement(a, near), unit_agreement(a, near[:, order])
    assert same.identity == same.optimal > 0.98
    assert same.in_place == same.ratio == 1
    assert moved.optimal == pytest.approx(same.optimal)
    assert moved.in_place == pytest.approx(8 / 12)
    assert moved.identity < 0.75
    other = unit_agreement(a, draw(400, 12, seed=2))
    assert abs(other.identity) < 0.05
    assert other.optimal < 0.2


def test_the_best_assignment_is_that_of_all_permutations():
    a, b = draw(30, 5), draw(30, 5, seed=1)
    table = torch.corrcoef(torch.cat([a, b], 1).T)[:5, 5:]
    best = max(sum(float(table[i, p]) for i, p in enumerate(order)) / 5 for order in itertools.permutations(range(5)))
    found = unit_agreement(a, b)
    assert found.optimal == pytest.approx(best, abs=1e-10)
    assert found.identity == pytest.approx(float(table.diagonal().mean()), abs=1e-10)


def test_a_permuted_model_agrees_under_the_assignment_only():
    model = nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.GELU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
    model = model.double()
    x = draw(50, 6)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(0.5 * draw(*p.shape, seed=20 + i) + (1.0 if i == 2 else 0.0))
    symmetry = symmetries(model, x)
    moved = nn.Sequential(*[type(m)(*_sizes(m)) for m in model]).double()
    element = symmetry.random_element(generator=random.generator(3))
    moved.load_state_dict(symmetry.apply(model.state_dict(), element))
    torch.testing.assert_close(moved(x), model(x), rtol=1e-9, atol=1e-9)
    found = model_agreement(model, moved, x, symmetry)
    assert list(found) == ["3", "5"]
    for agreement in found.values():
        assert agreement.optimal == pytest.approx(1.0, abs=1e-9)
        assert agreement.in_place < 0.6
    here = model_agreement(model, model, x, symmetry)
    assert all(value.identity == pytest.approx(1, abs=1e-9) for value in here.values())


def _sizes(module: nn.Module) -> tuple[int, ...]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return tuple(module.normalized_shape) if isinstance(module, nn.LayerNorm) else ()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="activations"):
        unit_agreement(draw(4, 2), draw(4, 3))
    with pytest.raises(ValueError, match="finite activations"):
        unit_agreement(draw(4, 2), torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="dimension from 1 to 3"):
        leading_subspace(draw(5, 3), 4)
    with pytest.raises(ValueError, match="zero subspace"):
        coherence(Subspace.zero(3))
    with pytest.raises(ValueError, match="subspace of R"):
        target_prices(draw(2, 3), draw(2, 3), draw(2, 4), Subspace.full(3))
    with pytest.raises(ValueError, match="square"):
        swap_costs(draw(2, 3))
    with pytest.raises(ValueError, match="finite diagonal"):
        swap_costs(torch.full((2, 2), math.inf))
    with pytest.raises(ValueError, match="two units"):
        permutation_gap(torch.ones(1, 1))
