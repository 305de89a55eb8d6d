"""Subspaces from constraints and from other subspaces: null space, intersection, join."""

from __future__ import annotations

import torch

from symfield.linalg.orbits import Orbits, signed_orbits
from symfield.linalg.rank import numerical_rank
from symfield.linalg.storage import Dense
from symfield.linalg.subspace import Subspace
from symfield.typing import Float, Tensor

__all__ = ["intersect", "join", "null_space"]


def null_space(
    matrix: Float[Tensor, "m N"], *, scale: float | None = None, rtol: float = 1e-9, gap: float = 1e3
) -> Subspace:
    """All x with A x = 0, by a singular value decomposition in float64.

    Args:
        matrix: A, ``(m, N)``.
        scale: size that counts as one; the largest singular value when absent.
        rtol: singular values up to ``rtol * scale`` count as zero.
        gap: smallest accepted ratio between non-zero and zero singular values, see :func:`numerical_rank`.

    Returns:
        The null space; its residual is the largest ‖A b‖ over basis vectors b.

    Raises:
        AmbiguousRankError: if zero and non-zero singular values are not clearly apart.
        ValueError: if the matrix holds NaN or infinity.

    Example:
        >>> null_space(torch.tensor([[1.0, -1.0, 0.0]])).dim
        2
    """
    if not torch.isfinite(matrix).all():
        raise ValueError("expected a finite matrix, received NaN or infinity; check the constraints it holds")
    a = matrix.detach().double()
    n = a.shape[1]
    if a.shape[0] == 0 or n == 0:
        return Subspace.full(n)
    # A tall matrix and its triangular factor have the same null space and singular values.
    square = torch.linalg.qr(a, mode="r")[1] if a.shape[0] > n else a
    _, values, right = torch.linalg.svd(square, full_matrices=True)
    rank = numerical_rank(values, scale=scale, rtol=rtol, gap=gap)
    basis = right[rank:].mT.contiguous()
    residual = float(torch.linalg.vector_norm(a @ basis, dim=0).max()) if rank < n else 0.0
    return Subspace(Dense(basis.cpu()), residual)


def intersect(a: Subspace, b: Subspace, *, rtol: float = 1e-9, gap: float = 1e3) -> Subspace:
    """The intersection of two subspaces.

    Two orbit forms merge into a coarser partition, exactly. Otherwise the vectors of the smaller subspace whose
    distance to the larger one vanishes are found, so that angles down to ``rtol`` are told from zero.

    Args:
        a: a subspace of R^N.
        b: a subspace of the same R^N.
        rtol: sines of principal angles up to ``rtol`` count as zero.
        gap: smallest accepted ratio between non-zero and zero sines.

    Returns:
        The intersection; its residual is the largest of the two and of the distances of its basis to both.

    Raises:
        AmbiguousRankError: if a principal angle is neither clearly zero nor clearly positive.
        ValueError: if the ambient spaces differ.

    Example:
        >>> intersect(Subspace.from_orbits(torch.tensor([0, 0, 1])), Subspace.from_orbits(torch.tensor([0, 1, 1]))).dim
        1
    """
    _require_same_ambient(a, b)
    known = max(a.residual, b.residual)
    if a.orbits is not None and b.orbits is not None:
        maps = [_as_map(orbits) for orbits in (a.orbits, b.orbits)]
        merged = signed_orbits(torch.stack([m[0] for m in maps]), torch.stack([m[1] for m in maps]))
        return Subspace.from_orbits(merged.labels, merged.signs, residual=known)
    large, small = (a, b) if a.dim >= b.dim else (b, a)
    outside = small.basis - large.project(small.basis.mT).mT
    inner = null_space(outside, scale=1.0, rtol=rtol, gap=gap)
    return Subspace(Dense(small.basis @ inner.basis), max(known, inner.residual))


def join(a: Subspace, b: Subspace, *, rtol: float = 1e-9, gap: float = 1e3) -> Subspace:
    """The sum of two subspaces: all u + v with u in one and v in the other.

    Args:
        a: a subspace of R^N.
        b: a subspace of the same R^N.
        rtol: sines of principal angles up to ``rtol`` count as zero.
        gap: smallest accepted ratio between non-zero and zero sines.

    Returns:
        The sum, dense.

    Raises:
        AmbiguousRankError: if a principal angle is neither clearly zero nor clearly positive.
        ValueError: if the ambient spaces differ.

    Example:
        >>> join(Subspace.from_orbits(torch.tensor([0, 0, 1])), Subspace.from_orbits(torch.tensor([0, 1, 1]))).dim
        3
    """
    _require_same_ambient(a, b)
    large, small = (a, b) if a.dim >= b.dim else (b, a)
    outside = small.basis - large.project(small.basis.mT).mT
    left, values, _ = torch.linalg.svd(outside, full_matrices=False)
    rank = numerical_rank(values, scale=1.0, rtol=rtol, gap=gap)
    basis, _ = torch.linalg.qr(torch.cat([large.basis, left[:, :rank]], dim=1))
    return Subspace(Dense(basis), max(a.residual, b.residual))


def _as_map(orbits: Orbits) -> tuple[Tensor, Tensor]:
    """Constraints x_i = s_i x_{f(i)} that define the orbits: f(i) shares the label of i; x_i = −x_i where zero."""
    labels, signs = orbits
    own = torch.arange(labels.numel())
    alive = labels >= 0
    member = torch.zeros_like(labels)
    member[labels[alive]] = own[alive]
    index = torch.where(alive, member[labels.clamp(min=0)], own)
    return index, torch.where(alive, signs * signs[index], -1.0)


def _require_same_ambient(a: Subspace, b: Subspace) -> None:
    if a.ambient_dim != b.ambient_dim:
        raise ValueError(
            f"expected subspaces of one space, received R^{a.ambient_dim} and R^{b.ambient_dim}; "
            f"combine subspaces of the same space"
        )
