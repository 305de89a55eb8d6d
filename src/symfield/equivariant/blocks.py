r"""Fixed points without matrices of size dim × dim: project a block of random vectors onto the invariants.

If P is any linear projection onto Fix(ρ) and X holds m random vectors, P X spans Fix(ρ) as soon as m ≥ dim Fix(ρ), and
its rank falls short of m exactly when it does. Two projections are used:

- *averaging*, P x = (1/|G|) Σ_g ρ(g) x, for finite groups whose elements can be gone through. On a tensor product
  λ ⊗ μ the random vectors are products u ⊗ v, whose average costs |G| outer products instead of |G| matrix products;
- *conjugate gradients* on L = Σ CᵀC from the starting point x: the iteration moves within the range of L and stops at
  the orthogonal projection of x onto its null space, after as many steps as L has distinct non-zero eigenvalues.

The dimension from characters, where known, sets the block size; otherwise the block grows until its rank saturates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from symfield.equivariant.constraints import Constraints, halves
from symfield.equivariant.counting import fixed_dimension
from symfield.groups import Representation
from symfield.linalg import Subspace, numerical_rank
from symfield.random import generator, normal
from symfield.typing import Float, Generator, Tensor

__all__ = ["ConvergenceError", "averaging_cost", "by_averaging", "by_conjugate_gradients"]

_FLOAT64 = torch.zeros((), dtype=torch.float64)
_CHUNK = 2**24
_MAX_STEPS = 3000
_CONVERGED = 1e-12
_SPARE = 8  # vectors beyond the rank that make the rank certain


class ConvergenceError(ArithmeticError):
    """An iteration did not reach the fixed space, so no basis is returned."""


def by_averaging(rep: Representation) -> Subspace:
    """Fixed points of a finite group from exact group averages of random vectors.

    Args:
        rep: representation of a finite group whose elements can be listed.

    Returns:
        The subspace of all x with ρ(g) x = x for all g.

    Raises:
        ValueError: if the group is infinite or too large to list.
        AmbiguousRankError: if the averages do not have a clear rank.

    Example:
        >>> from symfield.groups import Dihedral, Planar
        >>> by_averaging(Planar(Dihedral(5)) ** 4).dim
        3
    """
    rep.group.require_listable()
    left, right = halves(rep)

    def project(m: int, source: Generator) -> Tensor:
        v = normal((m, right.dim), generator=source, like=_FLOAT64)
        if left is None:
            return _average(right, v)
        return _average_products(left, right, normal((m, left.dim), generator=source, like=_FLOAT64), v)

    return _span_of_projections(rep, project)


def by_conjugate_gradients(rep: Representation) -> Subspace:
    """Fixed points from conjugate gradients on the sum of squared constraints, for any group.

    Args:
        rep: the representation.

    Returns:
        The subspace of all x with ρ(g) x = x for all g.

    Raises:
        ConvergenceError: if the iteration stalls before round-off.
        AmbiguousRankError: if the projected vectors do not have a clear rank.

    Example:
        >>> from symfield.groups import Defining, SpecialOrthogonal
        >>> by_conjugate_gradients(Defining(SpecialOrthogonal(3)) ** 6).dim
        15
    """
    constraints = Constraints(rep)

    def project(m: int, source: Generator) -> Tensor:
        x = normal((m, rep.dim), generator=source, like=_FLOAT64)
        return constraints.unpack(_project(constraints, constraints.pack(x)))

    return _span_of_projections(rep, project)


def averaging_cost(rep: Representation, vectors: int) -> float:
    """Floating-point operations that :func:`by_averaging` spends on so many vectors; infinite when it cannot run."""
    if not rep.group.is_finite:
        return float("inf")
    left, right = halves(rep)
    work = right.dim if left is None else 1
    return 2.0 * rep.group.order * vectors * rep.dim * work


def _span_of_projections(rep: Representation, project: Callable[[int, Generator], Tensor]) -> Subspace:
    """Grow a block of projected random vectors until its rank is smaller than its size."""
    source = generator(0)  # the subspace does not depend on the draw
    expected = fixed_dimension(rep)
    block = torch.zeros(0, rep.dim, dtype=torch.float64)
    more = 16 if expected is None else expected + 16 + expected // 8
    while True:
        block = torch.cat([block, project(more, source)])
        q, r = torch.linalg.qr(block.mT)
        u, values, _ = torch.linalg.svd(r)
        # Invariant parts of standard normal vectors have size one, the rest is round-off.
        rank = numerical_rank(values, scale=1.0, rtol=1e-6, gap=1e4)
        if rank <= len(block) - _SPARE:
            return Subspace.from_basis(q @ u[:, :rank])
        if len(block) >= rep.dim + _SPARE:
            return Subspace.from_basis(q @ u[:, :rank])
        more = len(block)


def _average(rep: Representation, x: Float[Tensor, "m N"]) -> Float[Tensor, "m N"]:
    total = torch.zeros_like(x)
    for g in rep.group.elements.split(max(1, _CHUNK // max(x.numel(), rep.dim**2))):
        total += rep.act(rep.group.unsqueeze(g), x).sum(0)
    return total / rep.group.order


def _average_products(
    left: Representation, right: Representation, u: Float[Tensor, "m l"], v: Float[Tensor, "m r"]
) -> Float[Tensor, "m N"]:
    """(1/|G|) Σ_g (λ(g) u) ⊗ (μ(g) v), by one product of matrices (l × |G|)(|G| × r) for each vector."""
    group = left.group
    total = torch.zeros(len(u), left.dim, right.dim, dtype=u.dtype)
    widest = max(left.dim, right.dim)
    for g in group.elements.split(max(1, _CHUNK // (widest * max(len(u), widest)))):
        g = group.unsqueeze(g)
        total += left.act(g, u).permute(1, 2, 0) @ right.act(g, v).transpose(0, 1)
    return total.flatten(1) / group.order


def _project(constraints: Constraints, z: Float[Tensor, "l m r"]) -> Float[Tensor, "l m r"]:
    """Conjugate gradients for L z = 0, each vector of the block on its own; restarted to shed round-off."""
    start = _norms(constraints.normal(z)).max()
    for _ in range(3):
        z = _descend(constraints, z, goal=1e-14 * start)
    left = float(_norms(constraints.normal(z)).max() / start.clamp_min(torch.finfo(start.dtype).tiny))
    if not left <= _CONVERGED:
        raise ConvergenceError(
            f"expected conjugate gradients to shrink the gradient by {_CONVERGED:.0e} within {_MAX_STEPS} steps for "
            f"{constraints.rep} of {constraints.rep.group}, received {left:.1e}; give the group generators that mix "
            f"faster, or use equivariant.by_null_space if {constraints.rep.dim} coordinates fit in memory"
        )
    return z


def _descend(constraints: Constraints, z: Float[Tensor, "l m r"], goal: Tensor) -> Float[Tensor, "l m r"]:
    residual = -constraints.normal(z)
    direction, size = residual, _norms(residual).square()
    for _ in range(_MAX_STEPS):
        active = size > goal.square()
        if not bool(active.any()):
            break
        image = constraints.normal(direction)
        curvature = (direction * image).sum(dim=(0, 2), keepdim=True)
        step = torch.where(active, size / curvature, 0.0)
        z = z + step * direction
        residual = residual - step * image
        new = _norms(residual).square()
        direction = residual + torch.where(active, new / size, 0.0) * direction
        size = new
    return z


def _norms(z: Float[Tensor, "l m r"]) -> Float[Tensor, "1 m 1"]:
    return torch.linalg.vector_norm(z, dim=(0, 2), keepdim=True)
