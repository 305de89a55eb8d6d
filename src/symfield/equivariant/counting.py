r"""The dimension of the fixed space from characters alone: an independent check of every solver.

    dim Fix(ρ) = ∫_G χ(g) dg

is a finite sum over a finite group. On SO(n) and O(n), χ depends only on the angles of g, and Weyl's formula turns the
integral into one of a trigonometric polynomial over a torus, which equidistant nodes integrate exactly as soon as each
angle has more of them than the degree. With c_i = cos θ_i and k angles the densities are, up to a constant,

    SO(2k):          Π_{i<j} (c_i − c_j)²
    SO(2k+1):        Π_{i<j} (c_i − c_j)² Π (1 − c_i);   the other half of O(2k+1) is its negative
    O(2k+2) \ SO:    Π_{i<j} (c_i − c_j)² Π (1 − c_i²),  at angles θ_1, …, θ_k and eigenvalues 1, −1.

References:
    Weyl 1939, *The Classical Groups*, chapters VII and IX.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch

from symfield.groups import (
    Copies,
    Defining,
    DirectProduct,
    Dual,
    Factor,
    Group,
    Orthogonal,
    Representation,
    SpecialOrthogonal,
    Sum,
    Tensored,
)
from symfield.typing import Tensor

__all__ = ["NotARepresentationError", "fixed_dimension"]

_BUDGET = 2e8  # character operations that a check may cost
_MAX_NODES = 300_000
_CHUNK = 4096


class NotARepresentationError(ValueError):
    """The average of the character is no integer, so the matrices cannot represent the group."""


class _Rule(NamedTuple):
    """Nodes and weights that integrate class functions over a group; weights sum to one."""

    elements: Tensor
    weights: Tensor


def fixed_dimension(rep: Representation, *, budget: float = _BUDGET) -> int | None:
    """The dimension ∫ χ of the fixed space, exactly, where that is affordable.

    Args:
        rep: the representation.
        budget: largest number of elementary operations to spend.

    Returns:
        The dimension, or ``None`` when the group is too large or no formula is known for it.

    Raises:
        NotARepresentationError: if the integral is not a non-negative integer.

    Example:
        >>> from symfield.groups import Defining, SpecialOrthogonal
        >>> [fixed_dimension(Defining(SpecialOrthogonal(3)) ** k) for k in range(9)]
        [1, 0, 1, 1, 3, 6, 15, 36, 91]
    """
    return _fixed_dimension(rep, budget)


@lru_cache(maxsize=16)
def _fixed_dimension(rep: Representation, budget: float) -> int | None:
    nodes = _node_count(rep.group, rep)
    if nodes is None or nodes > _MAX_NODES or nodes * _cost(rep) > budget:
        return None
    total = math.fsum(
        float((rep.character(rule.elements) * rule.weights).sum()) for rule in _chunks(_rule(rep.group, rep), _CHUNK)
    )
    count = round(total)
    if count < 0 or abs(total - count) > 1e-6 * (1 + rep.dim / 1e6):
        raise NotARepresentationError(
            f"expected a whole number for the average character of {rep} over {rep.group}, received {total:.9g}; the "
            f"matrices do not represent the group: run symfield.testing.assert_representation on it"
        )
    return count


def _chunks(rule: _Rule, size: int) -> Iterator[_Rule]:
    return map(_Rule, rule.elements.split(size), rule.weights.split(size))


def _cost(rep: Representation) -> float:
    """Operations for one value of the character."""
    if isinstance(rep, Tensored):
        return sum(map(_cost, rep.factors))
    if isinstance(rep, Sum):
        return sum(map(_cost, rep.parts))
    if isinstance(rep, (Copies, Dual, Factor)):
        return _cost(rep.inner)
    return rep.dim if rep.permutation_like else rep.dim**2


def _node_count(group: Group, rep: Representation) -> int | None:
    if group.is_finite:
        return group.order
    if isinstance(group, DirectProduct):
        counts = [_node_count(factor, rep) for factor in group.factors]
        return None if None in counts else math.prod(c for c in counts if c is not None)
    if isinstance(group, Orthogonal):
        degree = _degree(rep)
        halves = 1 if isinstance(group, SpecialOrthogonal) else 2
        return None if degree is None else halves * (degree + group.n + 2) ** (group.n // 2)
    return None


def _degree(rep: Representation) -> int | None:
    """A bound on the weights: the largest frequency at which matrix entries turn with one angle."""
    if rep.permutation_like:
        return 0
    if isinstance(rep, Defining):
        return 1
    if isinstance(rep, (Copies, Dual, Factor)):
        return _degree(rep.inner)
    if isinstance(rep, (Tensored, Sum)):
        degrees = [_degree(part) for part in (rep.factors if isinstance(rep, Tensored) else rep.parts)]
        known = [d for d in degrees if d is not None]
        return None if len(known) < len(degrees) else sum(known) if isinstance(rep, Tensored) else max(known)
    algebra = rep.group.lie_algebra
    if not len(algebra):
        return 0
    if rep.dim > 500:
        return None
    return round(float(torch.linalg.eigvals(rep.lie(algebra)).abs().max()))


def _rule(group: Group, rep: Representation) -> _Rule:
    if group.is_finite:
        return _Rule(group.elements, torch.full((group.order,), 1.0 / group.order, dtype=torch.float64))
    if isinstance(group, DirectProduct):
        rules = [_rule(factor, rep) for factor in group.factors]
        grid = [i.reshape(-1) for i in torch.meshgrid(*(torch.arange(len(r.weights)) for r in rules), indexing="ij")]
        weights = torch.stack([r.weights[i] for r, i in zip(rules, grid, strict=True)]).prod(0)
        return _Rule(group.join(*(r.elements[i] for r, i in zip(rules, grid, strict=True))), weights)
    assert isinstance(group, Orthogonal)
    degree = _degree(rep)
    assert degree is not None
    rotations = _weyl(group.n, degree, reflected=False)
    if isinstance(group, SpecialOrthogonal):
        return rotations
    others = _weyl(group.n, degree, reflected=True)
    return _Rule(torch.cat([rotations.elements, others.elements]), torch.cat([rotations.weights, others.weights]) / 2)


def _weyl(n: int, degree: int, *, reflected: bool) -> _Rule:
    """Weyl's formula on one component of O(n), for class functions of at most this degree in each angle."""
    k = (n - 1) // 2 if reflected else n // 2
    nodes = degree + n + 2  # the density adds at most n to the degree
    angles = torch.arange(nodes, dtype=torch.float64) * (2 * math.pi / nodes)
    theta = torch.cartesian_prod(*[angles] * k).reshape(-1, k) if k else torch.zeros(1, 0, dtype=torch.float64)
    cos, sin = theta.cos(), theta.sin()
    density = torch.ones(len(theta), dtype=torch.float64)
    for i, j in itertools.combinations(range(k), 2):
        density = density * (cos[:, i] - cos[:, j]).square()
    if n % 2:
        density = density * (1 - cos).prod(-1)
    elif reflected:
        density = density * sin.square().prod(-1)
    elements = torch.eye(n, dtype=torch.float64).repeat(len(theta), 1, 1)
    for i in range(k):
        a, b = 2 * i, 2 * i + 1
        elements[:, a, a], elements[:, b, b] = cos[:, i], cos[:, i]
        elements[:, a, b], elements[:, b, a] = -sin[:, i], sin[:, i]
    if reflected:
        elements = -elements if n % 2 else elements
        if n % 2 == 0:
            elements[:, -1, -1] = -1.0
    return _Rule(elements, density / density.sum())
