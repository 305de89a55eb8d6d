"""From drift directions to a candidate subspace: their span, or the fixed space of all permutations that keep them.

The span is what the loop of Maass & Fontbona does; from n samples it inherits their noise. Where the group acts on the
parameters of a unit by signed permutations, as on :class:`~symfield.units.PointwiseUnit` under permutations and sign
flips of inputs and permutations of outputs, one noisy direction v ∈ E^G says more than its span: every g of G fixes
it, so the group H of *all* permutations that fix v up to noise contains G, and E^H ⊆ E^G is exact. As directions are
added H shrinks to the group of the data, and E^H grows to its fixed space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from symfield.discovery.hidden_permutations import SignedPair, hidden_permutations
from symfield.linalg import Subspace, signed_orbits
from symfield.typing import Float, Tensor
from symfield.units import PointwiseUnit, Unit

__all__ = ["Accept", "Closure", "closure_of", "permutations_of_matrices", "spans"]

#: Whether data agree with x_i = s_i x_{index(i)} on the fixed space, for an index and signs of shape ``(p,)``.
Accept: TypeAlias = Callable[[Tensor, Tensor], bool]

#: From directions ``(p, s)``, their standard deviations ``(p, s)`` and a last word on each symmetry to a subspace that
#: contains the directions up to noise.
Closure: TypeAlias = Callable[[Tensor, Tensor, Accept], Subspace]

_PROBE = (0.3, 1.0, 2.5)


def spans(directions: Float[Tensor, "p s"], noise: Float[Tensor, "p s"], accept: Accept) -> Subspace:
    """The span of the directions, as in the loop of Maass & Fontbona: for units whose symmetries are not known.

    A search with it adds the significant directions of each round to the candidate.

    Args:
        directions: columns, significant ones only.
        noise: not used.
        accept: not used.

    Returns:
        Their span.

    Example:
        >>> matrix = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64).mT
        >>> spans(matrix, 0 * matrix, lambda index, sign: True).dim
        1
    """
    del noise, accept
    return Subspace.span(directions.mT) if directions.shape[1] else Subspace.zero(len(directions))


def closure_of(unit: Unit) -> Closure:
    """The closure that fits a unit.

    Args:
        unit: σ_*.

    Returns:
        For :class:`~symfield.units.PointwiseUnit` :func:`permutations_of_matrices`, else
        :func:`spans`.

    Example:
        >>> from symfield.units import HiddenUnit, sigmoid
        >>> closure_of(HiddenUnit(sigmoid, 2, 2)) is spans
        True
    """
    if not isinstance(unit, PointwiseUnit):
        return spans
    probe = torch.tensor(_PROBE, dtype=torch.float64)
    odd = bool(torch.allclose(unit.activation(-probe), -unit.activation(probe), atol=1e-12))
    return permutations_of_matrices(unit.out_dim, unit.in_dim, signed_rows=odd)


def permutations_of_matrices(rows: int, columns: int, *, signed_rows: bool) -> Closure:
    """The fixed space of all permutations of rows and signed permutations of columns that keep given matrices.

    Args:
        rows: o.
        columns: d.
        signed_rows: whether rows may change sign too, as they may where the activation is odd.

    Returns:
        A closure on R^{o·d}, matrices row by row.

    Example:
        >>> close = permutations_of_matrices(2, 2, signed_rows=False)
        >>> matrix = torch.tensor([[1.0, 0.2, 0.2, 1.0]], dtype=torch.float64).mT
        >>> close(matrix, 0.01 * torch.ones_like(matrix), lambda index, sign: True).dim
        2
    """

    def close(directions: Float[Tensor, "p s"], noise: Float[Tensor, "p s"], accept: Accept) -> Subspace:
        if directions.shape[1] == 0:
            return Subspace.zero(rows * columns)
        shape = (directions.shape[1], rows, columns)
        pairs = hidden_permutations(
            directions.mT.reshape(shape).cpu().numpy(),
            noise.mT.reshape(shape).cpu().numpy(),
            signed_rows=signed_rows,
            accept=lambda pair: accept(*_tensors(pair)),
        )
        if not pairs:
            return Subspace.full(rows * columns)
        index, sign = (torch.stack(part) for part in zip(*map(_tensors, pairs), strict=True))
        return Subspace.from_orbits(*signed_orbits(index, sign))

    return close


def _tensors(pair: SignedPair) -> tuple[Tensor, Tensor]:
    index, sign = pair.entries()
    return torch.from_numpy(index), torch.from_numpy(sign)
