r"""A representation as a direct sum of smaller ones on disjoint coordinates.

Fix(a ⊕ b) = Fix(a) ⊕ Fix(b), and tensor products distribute over sums, so that Hom between n and m copies of a small
representation is n m copies of one small problem: channels cost nothing to solve and little to store.
"""

from __future__ import annotations

import torch

from symfield.groups import Copies, Defining, DirectProduct, Dual, Factor, Representation, Sign, Sum, Tensored, Trivial
from symfield.typing import Int, Tensor

__all__ = ["summands"]


def summands(rep: Representation) -> dict[Representation, Int[Tensor, "c n"]]:
    """Split sums, copies and trivial parts, through tensor products.

    Args:
        rep: any representation.

    Returns:
        For each distinct summand the coordinates of its c copies, ``(c, summand.dim)``; together they are all
        coordinates, each once.

    Example:
        >>> from symfield.groups import Cyclic, Planar
        >>> plane = Planar(Cyclic(3))
        >>> {str(part): index.tolist() for part, index in summands(2 * plane + Trivial(plane.group)).items()}
        {'P_1': [[0, 1], [2, 3]], '1': [[4]]}
    """
    merged: dict[Representation, list[Tensor]] = {}
    for part, index in _terms(rep):
        merged.setdefault(part, []).append(index)
    return {part: torch.cat(indices) for part, indices in merged.items()}


def _terms(rep: Representation) -> list[tuple[Representation, Tensor]]:
    if isinstance(rep, Sum):
        starts = torch.tensor([0] + [part.dim for part in rep.parts]).cumsum(0).tolist()
        return [(t, index + start) for part, start in zip(rep.parts, starts, strict=False) for t, index in _terms(part)]
    if isinstance(rep, Copies):
        offsets = torch.arange(rep.n)[:, None, None] * rep.inner.dim
        return [(t, (index + offsets).flatten(0, 1)) for t, index in _terms(rep.inner)]
    if isinstance(rep, Dual):
        return [(t.dual, index) for t, index in _terms(rep.inner)]
    if isinstance(rep, Factor):
        return [(Factor(rep.group, rep.i, t), index) for t, index in _terms(rep.inner)]
    if isinstance(rep, Defining) and isinstance(rep.group, DirectProduct):
        return _terms(Sum(*(Factor(rep.group, i, Defining(g)) for i, g in enumerate(rep.group.factors))))
    if isinstance(rep, Sign) and isinstance(rep.group, DirectProduct):
        return _terms(Tensored(*(Factor(rep.group, i, Sign(g)) for i, g in enumerate(rep.group.factors))))
    if isinstance(rep, Trivial):
        return [(Trivial(rep.group), torch.arange(rep.dim)[:, None])]
    if not isinstance(rep, Tensored):
        return [(rep, torch.arange(rep.dim)[None])]
    terms = _terms(rep.factors[0])
    for factor in rep.factors[1:]:
        terms = [_product(*left, *right, factor.dim) for left in terms for right in _terms(factor)]
    return terms


def _product(a: Representation, i: Tensor, b: Representation, j: Tensor, dim: int) -> tuple[Representation, Tensor]:
    index = i[:, None, :, None] * dim + j[None, :, None, :]
    rep = b if _is_trivial(a) else a if _is_trivial(b) else a * b
    return rep, index.flatten(2, 3).flatten(0, 1)


def _is_trivial(rep: Representation) -> bool:
    return isinstance(rep, Trivial) or (isinstance(rep, Factor) and isinstance(rep.inner, Trivial))
