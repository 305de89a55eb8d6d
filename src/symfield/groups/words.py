r"""Extending a map from the generators of a finite group to all its elements.

Every element is a product of generators, found breadth first in the Cayley graph whose edges are e → s·e. A map of the
generators extends to a homomorphism ρ exactly if ρ(s·e) = ρ(s) ρ(e) along every edge of that graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch

from symfield.groups.group import Group
from symfield.typing import Int, Shaped, Tensor

__all__ = ["MAX_TABLE_ENTRIES", "MAX_WORDS", "Cayley", "cayley", "extend"]

#: The largest group whose representations can be given by the images of generators alone.
MAX_WORDS = 100_000

#: The largest table of images, in entries, kept for one representation.
MAX_TABLE_ENTRIES = 20_000_000


class Cayley(NamedTuple):
    """The Cayley graph of a finite group.

    Attributes:
        successors: position of s·e for generator s and element e, ``(k, order)``.
        levels: a spanning tree from the identity: (child, parent, generator) with child = generator · parent, one
            entry per distance from the identity.
    """

    successors: Int[Tensor, "k n"]
    levels: list[tuple[Int[Tensor, " m"], Int[Tensor, " m"], Int[Tensor, " m"]]]


@lru_cache(maxsize=64)
def cayley(group: Group) -> Cayley:
    """The Cayley graph of a finite group on its generators.

    Args:
        group: a finite group of at most ``MAX_WORDS`` elements.

    Returns:
        Successors and a spanning tree.

    Raises:
        ValueError: if the group is infinite or too large.

    Example:
        >>> from symfield.groups import Symmetric
        >>> graph = cayley(Symmetric(3))
        >>> graph.successors.shape, [len(child) for child, _, _ in graph.levels]
        (torch.Size([2, 6]), [2, 3])
    """
    if group.is_finite and group.order > MAX_WORDS:
        raise ValueError(
            f"expected a group of at most {MAX_WORDS} elements, received {group} of order {group.order}; build the "
            "representation from Defining, Sign, +, * and ** instead of the images of the generators"
        )
    group.require_listable()
    generators = group.unsqueeze(group.generators)
    successors = group.index(group.compose(generators, group.elements)).reshape(len(generators), group.order)
    found = torch.zeros(group.order, dtype=torch.bool)
    found[0] = True
    frontier = torch.tensor([0])
    levels = []
    while len(successors):
        targets = successors[:, frontier]
        candidates = (~found[targets]).nonzero()
        reached = targets[candidates[:, 0], candidates[:, 1]]
        child, position = reached.unique(return_inverse=True)
        if not len(child):
            break
        first = torch.zeros_like(child).scatter_(0, position, torch.arange(len(reached)))  # any one edge per child
        levels.append((child, frontier[candidates[first, 1]], candidates[first, 0]))
        found[child] = True
        frontier = child
    return Cayley(successors, levels)


def extend(
    group: Group,
    images: Shaped[Tensor, "k ..."],
    identity: Shaped[Tensor, "..."],
    product: Callable[[Tensor, Tensor], Tensor],
) -> Shaped[Tensor, "n ..."]:
    """The images of all elements, from those of the generators; a homomorphism only if the relations hold.

    Args:
        group: a finite group.
        images: images of ``group.generators``.
        identity: image of the identity.
        product: multiplication of batches of images.

    Returns:
        Images in the order of ``group.elements``, ``(order, *shape)``.

    Raises:
        ValueError: if the group is infinite or too large, or the images have more than ``MAX_TABLE_ENTRIES`` entries.
    """
    levels = cayley(group).levels
    if (entries := group.order * identity.numel()) > MAX_TABLE_ENTRIES:
        raise ValueError(
            f"expected at most {MAX_TABLE_ENTRIES} entries for the images of all {group.order} elements of {group}, "
            f"received {entries}; build the representation from smaller ones with +, * and **"
        )
    table = identity.expand(group.order, *identity.shape).clone()
    for child, parent, letter in levels:
        table[child] = product(images[letter], table[parent])
    return table
