"""Which solver for which representation, and the certificate that every result must pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import torch

from symfield.equivariant.blocks import ConvergenceError, averaging_cost, by_averaging, by_conjugate_gradients
from symfield.equivariant.constraints import halves, residual
from symfield.equivariant.counting import fixed_dimension
from symfield.equivariant.dense import by_null_space
from symfield.equivariant.orbits import by_orbits
from symfield.equivariant.products import inner_representation, outer_factors, outer_product
from symfield.equivariant.sums import summands
from symfield.groups import Representation, Tensored, hom
from symfield.linalg import AmbiguousRankError, Subspace
from symfield.random import generator, normal

__all__ = ["FixedPointError", "Solver", "equivariant_maps", "fixed_points"]

#: A way to solve for the fixed points of a representation.
Solver: TypeAlias = Callable[[Representation], Subspace]

_SMALL = 128  # coordinates up to which dense null spaces are fastest
_DENSE = 2000  # coordinates up to which they can step in when an iteration fails
_STEPS = 40  # typical number of conjugate gradient steps
_TOLERANCE = 1e-9
_ORBIT_BUDGET = 2e5  # orbits are exact: spend little on counting them again


class FixedPointError(ArithmeticError):
    """A computed space is not fixed by the group, or has the wrong dimension; nothing is returned."""


def fixed_points(rep: Representation, *, solver: Solver | None = None) -> Subspace:
    """All x with ρ(g) x = x for every g in the group.

    Permutation-like representations are solved exactly by orbits of coordinates. Others are split into their direct
    summands and, over a direct product of groups, into its factors; what remains is solved by dense null spaces when
    small, by group averages when the group is finite and that is cheap, or by conjugate gradients. Non-orthogonal
    representations are welcome. Every result is certified: the
    violation of the constraints is measured, and the dimension is compared with the average of the character
    wherever that is known.

    Args:
        rep: the representation, of dim N.
        solver: one of ``by_orbits``, ``by_null_space``, ``by_averaging``, ``by_conjugate_gradients``; chosen when
            absent.

    Returns:
        The fixed subspace of R^N; its ``residual`` is the largest ‖ρ(g)b − b‖ and ‖dρ(A)b‖ over basis vectors b,
        discrete generators g and basis elements A of the Lie algebra.

    Raises:
        FixedPointError: if the measured residual is above 1e-9, or the dimension differs from the character's.
        AmbiguousRankError: if a numerical rank is unclear.
        ConvergenceError: if an iteration stalls.
        NotARepresentationError: if the average character is no integer.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Orthogonal
        >>> fixed_points(Defining(Cyclic(4))).basis.squeeze().tolist()
        [0.5, 0.5, 0.5, 0.5]
        >>> fixed_points(Defining(Orthogonal(3)) ** 4).dim
        3

    References:
        Finzi, Welling & Wilson 2021, Section 5 (constraints from generators), arXiv 2104.09459v1.
    """
    if solver is not None:
        return _certified(rep, solver(rep))
    if rep.permutation_like:
        return _certified(rep, by_orbits(rep))
    parts = summands(rep)
    if len(parts) == 1 and next(iter(parts.values())).shape[0] == 1:
        return _solve(rep)
    return Subspace.direct_sum([(index, _solve(part)) for part, index in parts.items()])


def equivariant_maps(rep_in: Representation, rep_out: Representation, *, solver: Solver | None = None) -> Subspace:
    """All linear maps W with W ρ(g) = ρ̂(g) W, as a subspace of the matrices flattened row by row.

    These are the fixed points of ``hom(rep_in, rep_out)``.

    Args:
        rep_in: ρ, of dim d.
        rep_out: ρ̂, of dim o.
        solver: as for :func:`fixed_points`.

    Returns:
        A subspace of R^(o·d); ``subspace.embed(c).reshape(o, d)`` is an equivariant matrix.

    Raises:
        ValueError: if the groups differ.
        FixedPointError: and the other errors of :func:`fixed_points`.

    Example:
        >>> from symfield.groups import Defining, Symmetric
        >>> points = Defining(Symmetric(5))
        >>> maps = equivariant_maps(points, points)  # a I + b 11ᵀ
        >>> maps.dim, maps.project(torch.arange(25.0)).reshape(5, 5)[0].tolist()
        (2, [12.0, 12.0, 12.0, 12.0, 12.0])

    References:
        Zaheer et al. 2017, *Deep Sets*, Lemma 3, arXiv 1703.06114v3.
    """
    return fixed_points(hom(rep_in, rep_out), solver=solver)


def _solve(rep: Representation) -> Subspace:
    """Fixed points of a representation that is no sum, certified."""
    if rep.permutation_like:
        return _certified(rep, by_orbits(rep))
    owners = outer_factors(rep)
    if owners is not None:
        return _certified(rep, _by_group_factors(rep, owners))
    if rep.dim <= _SMALL:
        return _certified(rep, by_null_space(rep))
    vectors = fixed_dimension(rep) or 16
    iterate = by_averaging if averaging_cost(rep, vectors) <= _gradients_cost(rep, vectors) else by_conjugate_gradients
    try:
        return _certified(rep, iterate(rep))
    except (ConvergenceError, AmbiguousRankError, FixedPointError):
        if rep.dim > _DENSE:
            raise
        return _certified(rep, by_null_space(rep))


def _by_group_factors(rep: Representation, owners: dict[int, list[int]]) -> Subspace:
    """Fixed points of a direct product of groups, as the tensor product of those of its factors."""
    assert isinstance(rep, Tensored)
    parts = [(positions, fixed_points(inner_representation(rep, positions))) for positions in owners.values()]
    return outer_product(rep, parts)


def _gradients_cost(rep: Representation, vectors: int) -> float:
    left, right = halves(rep)
    work = right.dim + (0 if left is None else left.dim)
    terms = len(rep.group.generators) + len(rep.group.lie_algebra)
    return 4.0 * _STEPS * terms * vectors * rep.dim * work


def _certified(rep: Representation, space: Subspace) -> Subspace:
    """The same subspace with its measured residual, or an error when it cannot be the fixed space."""
    violation = _orbit_residual(rep, space) if space.orbits is not None else residual(rep, space.basis.mT)
    if not violation <= _TOLERANCE:
        raise FixedPointError(
            f"expected the group to fix every basis vector up to {_TOLERANCE:.0e}, received ‖ρ(g)b − b‖ = "
            f"{violation:.1e} for {rep} of {rep.group}; check its matrices with "
            f"symfield.testing.assert_representation, or pass another solver"
        )
    expected = fixed_dimension(rep) if space.orbits is None else fixed_dimension(rep, budget=_ORBIT_BUDGET)
    if expected is not None and expected != space.dim:
        raise FixedPointError(
            f"expected {expected} dimensions from the average character of {rep} over {rep.group}, received "
            f"{space.dim}; check the group's generators and the representation with "
            f"symfield.testing.assert_representation, or pass another solver"
        )
    return dataclasses.replace(space, residual=violation)


def _orbit_residual(rep: Representation, space: Subspace) -> float:
    """The violation at a random combination of all orbits, exactly zero when every orbit is right."""
    like = torch.zeros((), dtype=torch.float64)
    x = space.embed(normal((space.dim,), generator=generator(0), like=like))
    group = rep.group
    moved = [rep.act(group.generators, x) - x] if len(group.generators) else []
    moved += [rep.act_lie(group.lie_algebra, x)] if len(group.lie_algebra) else []
    return max((float(torch.linalg.vector_norm(y, dim=-1).max()) for y in moved), default=0.0)
