r"""Fixed points of a direct product, one factor at a time.

If G = G_1 × … × G_k acts on a tensor product in which every factor belongs to one G_i, the average over G is the
product of the averages, so

    Fix(ρ_1 ⊗ … ⊗ ρ_k) = Fix(ρ_1) ⊗ … ⊗ Fix(ρ_k),

with ρ_i the tensor product of all factors that belong to G_i, wherever they stand.
"""

from __future__ import annotations

import math

import torch

from symfield.groups import Factor, Representation, Tensored
from symfield.linalg import Subspace
from symfield.typing import Tensor

__all__ = ["outer_factors", "outer_product"]


def outer_factors(rep: Representation) -> dict[int, list[int]] | None:
    """Positions of the tensor factors that belong to each factor of the group; ``None`` if one belongs to none."""
    if not isinstance(rep, Tensored) or not all(isinstance(factor, Factor) for factor in rep.factors):
        return None
    owners: dict[int, list[int]] = {}
    for position, factor in enumerate(rep.factors):
        assert isinstance(factor, Factor)
        owners.setdefault(factor.i, []).append(position)
    return owners if len(owners) > 1 else None


def inner_representation(rep: Tensored, positions: list[int]) -> Representation:
    """The tensor product of the factors at these positions, as a representation of the one group they belong to."""
    inner = [factor.inner for factor in (rep.factors[p] for p in positions) if isinstance(factor, Factor)]
    return inner[0] if len(inner) == 1 else Tensored(*inner)


def outer_product(rep: Tensored, parts: list[tuple[list[int], Subspace]]) -> Subspace:
    """The tensor product of subspaces, each on the tensor factors at its positions, in the order of ``rep``."""
    basis = torch.ones(1, 1, dtype=torch.float64)
    for _, part in parts:
        basis = _kron(basis, part.basis)
    order = [position for positions, _ in parts for position in positions]
    dims = [rep.factors[position].dim for position in order]
    back = [order.index(position) for position in range(len(order))]
    tensor = basis.reshape(*dims, basis.shape[1]).permute(*back, len(order))
    return Subspace.from_basis(tensor.reshape(math.prod(dims), basis.shape[1]))


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """Columns a_i ⊗ b_j, of (m, r) and (n, s) to (m n, r s)."""
    return torch.einsum("mr,ns->mnrs", a, b).reshape(len(a) * len(b), -1)
