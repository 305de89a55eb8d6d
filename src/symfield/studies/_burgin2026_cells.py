"""Cells of the study on identifiability: agreement of units, prices of exchanges, and what needs no training."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from symfield import random
from symfield.experiments import Row, versioned
from symfield.linalg import Subspace
from symfield.studies._lim2024_pairs import Pairs, networks, problem, trained_groups, with_params
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.weightspace import (
    activations,
    coherence,
    fixed_entries,
    fixed_mask,
    leading_subspace,
    model_agreement,
    permutation_gap,
    swap_costs,
    symmetries,
    symmetrize_back,
    target_prices,
)

__all__ = ["Centres", "Layers", "agreement", "centres", "exchanges"]

_DIMS = 16


@versioned(1)
def agreement(cell: Pairs) -> list[Row]:
    """Units of the two networks of every pair in place and under the best assignment, and what exchanges cost.

    Args:
        cell: the setting; barriers are left to :func:`connectivity`.

    Returns:
        Rows of kind ``agreement`` for every pair and hidden layer, and of kind ``prices`` for the first network of a
        group and every hidden layer.
    """
    with one_thread():
        task = problem(cell)
        models, states, _ = trained_groups(cell, task)
        rows: list[Row] = []
        for g, (seed, members) in enumerate(networks(cell).items()):
            x = task.splits.x[task.splits.test[g]]
            own = [with_params(models[g], states[g * cell.nets + i]) for i in range(cell.nets)]
            dense = [symmetrize_back(model) for model in own]
            symmetry = symmetries(dense[0], x[:2])
            for i, j in itertools.combinations(range(cell.nets), 2):
                found = model_agreement(dense[i], dense[j], x, symmetry)
                for layer, units in enumerate(found.values(), start=1):
                    rows.append(
                        {
                            "kind": "agreement", "group": seed, "pair": f"{members[i]}-{members[j]}", "layer": layer,
                            "identity": units.identity, "optimal": units.optimal, "in_place": units.in_place,
                        }
                    )  # fmt: skip
            seen, _ = activations(dense[0], x, symmetry)
            linear = [(path, module) for path, module in dense[0].named_modules() if isinstance(module, nn.Linear)]
            for layer, (path, module) in enumerate(linear[:-1], start=1):
                inputs = x if layer == 1 else seen[f"{path}.in"]
                priced = _prices(own[0], path, module, inputs)
                rows.append({"kind": "prices", "group": seed, "layer": layer, **priced._asdict()})
    return rows


class _Priced(NamedTuple):
    """What exchanges of units of a layer cost.

    Attributes:
        dim: dimension of the subspace.
        coherence: of the subspace of inputs, without the bias.
        dearer: share of swaps that cost more than what units pay for what they compute, on average.
        swap: median cost of a swap over the mean price that units pay for what they compute.
        gap: cost of the cheapest permutation, over the same.
    """

    dim: int
    coherence: float
    dearer: float
    swap: float
    gap: float


def _prices(model: nn.Module, path: str, dense: nn.Linear, inputs: Tensor) -> _Priced:
    """The bias counts as the weight of an input that is always 1."""
    known = fixed_entries(model).get(f"{path}.weight")
    weight = dense.weight.detach()
    mask = torch.ones_like(weight) if known is None else known.mask.to(weight)
    fixed = torch.zeros_like(weight) if known is None else known.values
    one = inputs.new_ones(len(inputs), 1)
    subspace = leading_subspace(torch.cat([inputs, one], 1), min(_DIMS, inputs.shape[1]))
    column = one[: len(weight)] if len(one) >= len(weight) else inputs.new_ones(len(weight), 1)
    bias = dense.bias.detach().unsqueeze(1)
    prices = target_prices(
        torch.cat([fixed, 0 * column], 1), torch.cat([mask, column], 1), torch.cat([weight, bias], 1), subspace
    )
    return _summary(prices, leading_subspace(inputs, subspace.dim))


def _summary(prices: Tensor, subspace: Subspace) -> _Priced:
    own = float(prices.diagonal().mean())
    swaps = swap_costs(prices)[*torch.triu_indices(len(prices), len(prices), 1)] / own
    return _Priced(
        subspace.dim, coherence(subspace), float((swaps > 1).double().mean()), float(swaps.median()),
        permutation_gap(prices) / own,
    )  # fmt: skip


@dataclass(frozen=True)
class Layers:
    """A layer drawn at random, on inputs of a subspace.

    Attributes:
        basis: ``"axes"`` for coherence 1, ``"random"``, or ``"flat"`` for the smallest coherence.
        dim: k.
        kappa: standard deviation of fixed values.
        share: of the entries of a unit that are fixed.
        units: n.
        inputs: d, a power of two.
        trained: standard deviation of the trainable entries.
        seeds: of layers.
    """

    basis: str
    dim: int
    kappa: float
    share: float
    units: int
    inputs: int
    trained: float
    seeds: tuple[int, ...]


@versioned(1)
def exchanges(cell: Layers) -> list[Row]:
    """Prices of exchanges in random layers: no training.

    Args:
        cell: the setting.

    Returns:
        A row of kind ``exchange`` for each seed.
    """
    rows: list[Row] = []
    wide = torch.zeros((), dtype=torch.float64)
    with one_thread():
        for seed in cell.seeds:
            generator = random.generator(seed)
            subspace = _subspace(cell, generator)
            mask = fixed_mask((cell.units, cell.inputs), cell.share, seed=seed, name="layer").double()
            drawn = [random.normal(mask.shape, generator=generator, like=wide) for _ in range(2)]
            fixed = cell.kappa * (1 - mask) * drawn[0]
            weights = fixed + cell.trained * mask * drawn[1]
            rows.append({"kind": "exchange", "seed": seed, **_summary(
                target_prices(fixed, mask, weights, subspace), subspace)._asdict()})  # fmt: skip
    return rows


def _subspace(cell: Layers, generator: torch.Generator) -> Subspace:
    d, k = cell.inputs, cell.dim
    if cell.basis == "axes":
        return Subspace.from_basis(torch.eye(d, dtype=torch.float64)[:, torch.randperm(d, generator=generator)[:k]])
    if cell.basis == "random":
        wide = torch.zeros((), dtype=torch.float64)
        return Subspace.span(random.normal((k, d), generator=generator, like=wide))
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < d:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    return Subspace.from_basis(hadamard[:, torch.randperm(d, generator=generator)[:k]] / d**0.5)


@dataclass(frozen=True)
class Centres:
    """Centres v_i = Uᵀ f_i of units whose weights are fixed Gaussians.

    Attributes:
        dim: k.
        units: m.
        seeds: of the draws.
    """

    dim: int
    units: int
    seeds: tuple[int, ...]


@versioned(1)
def centres(cell: Centres) -> list[Row]:
    """The smallest distance between two centres: predicted to go as m^(-2/k).

    Args:
        cell: the setting.

    Returns:
        A row of kind ``centres`` for each seed.
    """
    wide = torch.zeros((), dtype=torch.float64)
    rows: list[Row] = []
    with one_thread():
        for seed in cell.seeds:
            v = random.normal((cell.units, cell.dim), generator=random.generator(seed), like=wide)
            rows.append({"kind": "centres", "seed": seed, "distance": float(nn.functional.pdist(v).min())})
    return rows
