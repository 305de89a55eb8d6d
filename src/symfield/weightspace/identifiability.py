"""Can the units of a layer be told apart? Correlations in place, the price of an exchange, coherence of the inputs.

*From outside.* Two networks answer to the same inputs, with post-activations a and b. If unit i of one is unit i of
the other, the correlations in place, corr(a_i, b_i), are as high as those under the best assignment of units; if units
are interchangeable they are near zero. :func:`unit_agreement` reports both, and which share of the units the best
assignment leaves where it is.

*From inside.* A layer whose effective weights are W' = F + D ⊙ W, with fixed F, D and trainable W, sees inputs in a
k-dimensional subspace with orthonormal basis U (d × k). Of row i only Uᵀ W'_i matters, and it ranges over

    v_i + im M_i,   v_i = Uᵀ f_i,   M_i = Uᵀ Diag(d_i).

The price of the answer a to unit i is the least ‖w‖² of trainable weights that gives it,

    c_i(a) = ‖a − v_i‖²_{S_i†} = (a − v_i)ᵀ S_i† (a − v_i),   S_i = M_i M_iᵀ,

and infinite where a − v_i ∉ im M_i. With a_j what unit j computes and c_ij = c_i(a_j), units i and j exchanged cost
c_ij + c_ji − c_ii − c_jj more, and units are *identifiable* when every permutation but the identity costs more. A bias
is one more input that is always 1. The *coherence* ν(U) = max_l ‖U_l‖² over rows of U, between k/d and 1, says how
close the subspace comes to a coordinate axis: at ν near 1 masks alone, without F, tell units apart.

References:
    Bürgin, Herbst, Lin & Jegelka 2026, Section 4.1, arXiv 2606.04754. Lim et al. 2024, arXiv 2405.20231. Li et al.
    2016, Convergent learning, arXiv 1511.07543.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from symfield.linalg import Subspace
from symfield.typing import Float, Tensor
from symfield.weightspace.assignment import assign
from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import Layout, Piece
from symfield.weightspace.matching_activations import activations, correlation
from symfield.weightspace.symmetry import ParameterSymmetry

__all__ = [
    "UnitAgreement",
    "coherence",
    "leading_subspace",
    "model_agreement",
    "permutation_gap",
    "swap_costs",
    "target_prices",
    "unit_agreement",
]

_REACH = 1e-6


class UnitAgreement(NamedTuple):
    """How far units of two networks agree, in place and under the best assignment.

    Attributes:
        identity: mean correlation of unit i with unit i.
        optimal: mean correlation under the assignment that makes it largest.
        in_place: share of the units that this assignment leaves in place.
        units: how many there are.
    """

    identity: float
    optimal: float
    in_place: float
    units: int

    @property
    def ratio(self) -> float:
        """Identity over optimal: 1 where units are identified, 0 where they are interchangeable."""
        return self.identity / self.optimal if self.optimal > 0 else float("nan")


@torch.no_grad()
def unit_agreement(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> UnitAgreement:
    """Correlations between units of two networks in place, beside those under the best assignment.

    Units that never change have correlation 0 with all others.

    Args:
        a: activations of the first network, shape ``(samples, n)``.
        b: activations of the second on the same inputs.

    Returns:
        The :class:`UnitAgreement`.

    Raises:
        ValueError: if shapes differ, there are fewer than two samples or no units, or a value is not finite.

    Example:
        >>> a = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
        >>> unit_agreement(a, a)
        UnitAgreement(identity=1.0, optimal=1.0, in_place=1.0, units=2)
        >>> unit_agreement(a, a.flip(1))
        UnitAgreement(identity=0.0, optimal=1.0, in_place=0.0, units=2)
    """
    if a.ndim != 2 or a.shape != b.shape or a.shape[0] < 2 or a.shape[1] < 1:
        raise ValueError(
            f"expected activations (samples, units) of two networks, received {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise ValueError("expected finite activations; look at the inputs and parameters of both networks")
    scores = correlation(a.double()).T @ correlation(b.double())
    best = assign(scores, maximize=True)
    here = torch.arange(len(scores))
    identity, optimal = float(scores.diagonal().mean()), best.value / len(scores)
    stays = (best.columns == here).double().mean()
    return UnitAgreement(_rounded(identity), _rounded(optimal), float(stays), len(scores))


def _rounded(value: float) -> float:
    return round(value, 12) + 0.0


def model_agreement(
    model_a: nn.Module, model_b: nn.Module, inputs: Any, symmetry: ParameterSymmetry
) -> dict[str, UnitAgreement]:
    """The agreement of the units of every hidden space that one permutation moves, as the next layer sees them.

    Args:
        model_a: the first model, of ordinary layers; it is run, not changed.
        model_b: the second model of the same architecture.
        inputs: a batch, or a tuple of arguments.
        symmetry: of the architecture.

    Returns:
        By module that reads the units, in the order of computation: for convolutions, positions count as samples.

    Raises:
        ValueError: if no module reads units that one permutation moves, and as :func:`unit_agreement`.

    Example:
        >>> from symfield.weightspace import symmetries
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> x = torch.eye(3).repeat(2, 1) + torch.arange(6.0).unsqueeze(1)
        >>> found = model_agreement(model, model, x, symmetries(model, x))
        >>> [(name, round(value.identity, 6), value.in_place) for name, value in found.items()]
        [('2', 1.0, 1.0)]
    """
    first, layouts = activations(model_a, inputs, symmetry)
    second, _ = activations(model_b, inputs, symmetry)
    kinds = {factor.name: factor for factor in symmetry.factors}

    def permuted(layout: Layout) -> bool:
        return isinstance(layout, Piece) and any(isinstance(kinds[move.factor], Permutation) for move in layout.moves)

    found = {
        name.removesuffix(".in"): unit_agreement(value, second[name])
        for name, value in first.items()
        if name.endswith(".in") and permuted(layouts[name][-1])
    }
    if not found:
        raise ValueError(
            "no module reads hidden units that one permutation moves; make parametrized layers ordinary ones before"
        )
    return found


def leading_subspace(x: Float[Tensor, "..."], dim: int) -> Subspace:
    """The subspace of a dimension that holds most of the second moment of inputs.

    Args:
        x: inputs, shape ``(samples, d)``, not centred: what a layer sees.
        dim: k, between 1 and min(samples, d).

    Returns:
        The span of the k leading right singular vectors.

    Raises:
        ValueError: if x has not two axes or is not finite, or dim does not fit.

    Example:
        >>> found = leading_subspace(torch.tensor([[2.0, 0.0], [1.0, 0.1]]), 1)
        >>> found.dim, round(coherence(found), 2)
        (1, 1.0)
    """
    if x.ndim != 2 or not bool(x.isfinite().all()):
        raise ValueError(f"expected finite inputs (samples, d), received shape {tuple(x.shape)}")
    if not 1 <= dim <= min(x.shape):
        raise ValueError(f"expected a dimension from 1 to {min(x.shape)}, received {dim}")
    basis = torch.linalg.svd(x.detach().double().cpu(), full_matrices=False)[2][:dim].mT
    return Subspace.from_basis(basis.contiguous())


def coherence(subspace: Subspace) -> float:
    """Coherence ν = max_l ‖P e_l‖² of a subspace: how close it comes to a coordinate axis.

    Args:
        subspace: of R^d, of dimension k ≥ 1.

    Returns:
        ν, between k/d and 1.

    Raises:
        ValueError: if the subspace is zero.

    Example:
        >>> round(coherence(Subspace.span(torch.ones(1, 4))), 6), coherence(Subspace.full(4))
        (0.25, 1.0)
    """
    if subspace.dim == 0:
        raise ValueError("the zero subspace has no coherence; pass one of dimension at least 1")
    return float(subspace.basis.square().sum(1).max())


@torch.no_grad()
def target_prices(
    fixed: Float[Tensor, "..."], scale: Float[Tensor, "..."], weights: Float[Tensor, "..."], subspace: Subspace
) -> Float[Tensor, "n m"]:
    """Price c_ij to unit i of computing what weights j compute: the least ‖w‖² with Uᵀ(f_i + d_i ⊙ w) = Uᵀ w'_j.

    Args:
        fixed: F, rows f_i, zero where entries are free; shape ``(n, d)``.
        scale: D, rows d_i: a mask of 0 and 1, or real.
        weights: effective weights w'_j, shape ``(m, d)``.
        subspace: of R^d, where the inputs lie.

    Returns:
        Prices, float64 ``(n, m)``; infinite where unit i cannot compute that.

    Raises:
        ValueError: if shapes do not agree, or a value is not finite.

    Example:
        >>> fixed, scale = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
        >>> weights = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> target_prices(fixed, scale, weights, Subspace.full(2)).tolist()
        [[1.0, inf], [5.0, 9.0]]
    """
    d = subspace.ambient_dim
    if fixed.ndim != 2 or weights.ndim != 2 or fixed.shape != scale.shape or {fixed.shape[1], weights.shape[1]} != {d}:
        raise ValueError(
            f"expected fixed and scale (n, {d}) and weights (m, {d}) for a subspace of R^{d}, received "
            f"{tuple(fixed.shape)}, {tuple(scale.shape)} and {tuple(weights.shape)}"
        )
    f, s, w = (value.detach().double().cpu() for value in (fixed, scale, weights))
    if not bool(f.isfinite().all() and s.isfinite().all() and w.isfinite().all()):
        raise ValueError("expected finite fixed values, scales and weights")
    u = subspace.basis
    maps = u.mT.unsqueeze(0) * s.unsqueeze(1)  # M_i, (n, k, d)
    values, vectors = torch.linalg.eigh(maps @ maps.mT)
    off = (w @ u).unsqueeze(0) - (f @ u).unsqueeze(1)  # a_j − v_i, (n, m, k)
    along = off @ vectors
    kept = values > 1e-12 * values[:, -1:].clamp_min(1e-300)
    weight = torch.where(kept, 1 / torch.where(kept, values, 1), 0).unsqueeze(1)
    price = (along.square() * weight).sum(-1)
    outside = (along.square() * ~kept.unsqueeze(1)).sum(-1).sqrt()
    return torch.where(outside > _REACH * (1 + off.norm(dim=-1)), torch.inf, price)


def swap_costs(prices: Float[Tensor, "..."]) -> Float[Tensor, "n n"]:
    """What units i and j exchanged cost: c_ij + c_ji − c_ii − c_jj.

    Args:
        prices: c, square, with finite diagonal.

    Returns:
        Symmetric ``(n, n)`` with zero diagonal; infinite where one of the two cannot compute what the other does.

    Raises:
        ValueError: if prices are not square, hold NaN, or their diagonal is not finite.

    Example:
        >>> swap_costs(torch.tensor([[1.0, 4.0], [2.0, 1.0]])).tolist()
        [[0.0, 4.0], [4.0, 0.0]]
    """
    c = _square(prices)
    own = c.diagonal()
    return c + c.mT - own.unsqueeze(0) - own.unsqueeze(1)


def permutation_gap(prices: Float[Tensor, "..."]) -> float:
    """What the cheapest permutation other than the identity costs: min_{π ≠ 1} Σ_i (c_{i, π(i)} − c_ii).

    The units are identifiable where this is positive. Every permutation is a product of disjoint cycles, so where the
    identity is optimal the cheapest one is a single cycle, found as a shortest path in O(n³).

    Args:
        prices: c, square, n ≥ 2, with finite diagonal; infinite entries are never taken.

    Returns:
        The gap; infinite where no other permutation is possible, negative where another is cheaper than the identity.

    Raises:
        ValueError: as :func:`swap_costs`, and if n < 2.

    Example:
        >>> permutation_gap(torch.tensor([[1.0, 4.0], [2.0, 1.0]]))
        4.0
    """
    c = _square(prices)
    n = len(c)
    if n < 2:
        raise ValueError("expected prices of at least two units; one unit has no other permutation")
    extra = c - c.diagonal().unsqueeze(1)
    finite = extra.isfinite()
    wall = 1 + 2 * n * float(torch.where(finite, extra, 0).abs().max())
    best = assign(torch.where(finite, extra, wall))
    if best.value < -1e-12 * wall:
        return best.value
    # With the duals of the optimum all edges are non-negative and the identity's are zero: cycles keep their length.
    reduced = torch.where(finite, extra - best.u.unsqueeze(1) - best.v, torch.inf).clamp_min(0).numpy().copy()
    np.fill_diagonal(reduced, np.inf)
    for middle in range(n):  # Floyd and Warshall, with the shortest way back to each unit on the diagonal
        np.minimum(reduced, reduced[:, middle, None] + reduced[None, middle], out=reduced)
    return float(reduced.diagonal().min())


def _square(prices: Tensor) -> Tensor:
    c = prices.detach().double().cpu()
    if c.ndim != 2 or c.shape[0] != c.shape[1] or not len(c):
        raise ValueError(f"expected square prices (n, n), received shape {tuple(c.shape)}")
    if bool(c.isnan().any()) or not bool(c.diagonal().isfinite().all()):
        raise ValueError("expected prices without NaN and a finite diagonal: each unit can compute what it computes")
    return c
