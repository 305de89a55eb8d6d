r"""Which elements of a group are tried on data, and how they are called.

A function's symmetries are the subgroup {g : f(ρ_g x) = ρ̂_g f(x)}. Every element of a small group is tried. Of a large
one the elements that make up its best known subgroups are: transpositions, single changes of sign, quarter and third
turns of every coordinate plane, the same in every factor of a product; then some at random.
"""

from __future__ import annotations

import itertools
import math

import torch

from symfield.groups import Alternating, DirectProduct, Group, Orthogonal, SignFlips, Symmetric
from symfield.typing import Float, Generator, Tensor

__all__ = ["described", "tried"]

_SMALL = 64  # order up to which every element is tried
_MOST = 64  # elements tried of a larger group, besides random ones
_RANDOM = 16
_ANGLES = (math.pi / 2, 2 * math.pi / 3)


def tried(group: Group, *, generator: Generator) -> Tensor:
    """The elements of a group that are tried on data, without the identity.

    Args:
        group: any group.
        generator: source of the random ones, for groups of more than 64 elements.

    Returns:
        Elements, shape ``(k, *element_shape)``.

    Example:
        >>> from symfield import random
        >>> from symfield.groups import Cyclic, SpecialOrthogonal
        >>> tried(Cyclic(4), generator=random.generator(0)).tolist()
        [1, 2, 3]
        >>> len(tried(SpecialOrthogonal(3), generator=random.generator(0)))  # two turns of three planes, 16 random
        22
    """
    if group.is_finite and group.order <= _SMALL:
        return group.elements[1:]
    known = torch.cat([_elementary(group), group.generators])[:_MOST]
    return torch.cat([known, group.sample(_RANDOM, generator=generator)])


def described(matrix: Float[Tensor, "d d"], names: tuple[str, ...]) -> str:
    """A linear map in words: cycles and signs of columns where it is that, a rotation of columns otherwise.

    Args:
        matrix: ρ(g), shape ``(d, d)``.
        names: names of the d columns.

    Returns:
        A short text.

    Example:
        >>> described(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), ("a", "b", "c"))
        '(a b), −c'
    """
    d = len(matrix)
    unit = matrix.double()
    size = unit.abs()
    if not bool((((size - 1).abs() < 1e-9) | (size < 1e-9)).all()):
        moved = [names[i] for i in range(d) if float((unit[:, i] - torch.eye(d).double()[:, i]).abs().max()) > 1e-9]
        cosine = (float(unit.trace()) - (d - 2)) / 2
        turns = len(moved) == 2 and float(torch.linalg.det(unit)) > 0 and abs(cosine) <= 1
        angle = f" by {math.degrees(math.acos(cosine)):.0f}°" if turns else ""
        return f"rotation of {_shortened(moved)}{angle}" if moved else "identity"
    image, sign = size.argmax(0).tolist(), unit.sum(0).sign().tolist()
    words, seen = [], set()
    for start in range(d):
        cycle, at = [], start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = image[at]
        if len(cycle) > 1:
            words.append("(" + " ".join(("−" if sign[i] < 0 else "") + names[i] for i in cycle) + ")")
        elif cycle and sign[start] < 0:
            words.append("−" + names[start])
    return _shortened(words) or "identity"


def _shortened(words: list[str]) -> str:
    return ", ".join(words[:4]) + (f", … ({len(words)} in all)" if len(words) > 4 else "")


def _elementary(group: Group) -> Tensor:
    """Elements that are the simplest of their kind; none for a group without a known kind."""
    if isinstance(group, DirectProduct):
        rows = []
        for i, factor in enumerate(group.factors):
            parts = [other.identity for other in group.factors]
            parts[i] = tried_alone(factor)
            rows.append(group.join(*parts))
        return torch.cat(rows)
    if isinstance(group, Orthogonal):
        basis = group.lie_algebra
        return torch.cat([group.exp(angle * basis) for angle in _ANGLES])
    if isinstance(group, SignFlips):
        return group.generators
    if isinstance(group, Symmetric):
        points = range(group.n)
        pairs = list(itertools.combinations(points, 3 if isinstance(group, Alternating) else 2))[:_MOST]
        images = torch.arange(group.n).repeat(len(pairs), 1)
        for row, places in zip(images, pairs, strict=True):
            row[list(places)] = torch.tensor([*places[1:], places[0]])
        return images
    return group.generators[:0]


def tried_alone(factor: Group) -> Tensor:
    """The elements tried of one factor of a product: all of a small one, the simplest of a large one."""
    if factor.is_finite and factor.order <= _SMALL // 4:
        return factor.elements[1:]
    return torch.cat([_elementary(factor), factor.generators])
