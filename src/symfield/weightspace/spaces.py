"""Axes of values in the graph, on spaces of units.

An :class:`Axis` is one axis of one value: a space (:mod:`symfield.weightspace.unification`), and below it one axis for
every piece of it. Two axes on the same space are moved by the same permutation; whether also by the same scale or
matrix is the business of the constraints between axes, kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

from symfield.weightspace.unification import Irregular, Space, unify

__all__ = ["Axis", "Tree", "leaves", "matched", "normal", "zipped"]


class Axis:
    """One axis of one value: a space with its own gauge."""

    __slots__ = ("kind", "parts", "space")

    def __init__(self, space: Space, kind: str = "", parts: Sequence[Axis] = ()) -> None:
        self.space = space
        self.kind = kind
        self.parts = list(parts)

    @classmethod
    def fresh(cls, size: int) -> Axis:
        """An axis about which nothing is known."""
        return cls(Space(size))

    @classmethod
    def product(cls, axes: Sequence[Axis]) -> Axis:
        """All combinations, the last axis running fastest; axes of size 1 are left out."""
        kept = [axis for axis in axes if axis.size != 1] or list(axes[:1])
        if len(kept) == 1:
            return kept[0]
        space = Space(prod(axis.size for axis in kept), "product", [axis.space for axis in kept])
        return cls(space, "product", kept)

    @classmethod
    def concat(cls, axes: Sequence[Axis]) -> Axis:
        """One after the other."""
        kept = [axis for axis in axes if axis.size]
        if len(kept) == 1:
            return kept[0]
        space = Space(sum(axis.size for axis in kept), "concat", [axis.space for axis in kept])
        return cls(space, "concat", kept)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.space.size

    @property
    def pinned(self) -> bool:
        """Whether no permutation moves any of its units."""
        return all(leaf.pinned for leaf in self.space.leaves())

    def sibling(self) -> Axis:
        """Another axis on the same space, with a gauge of its own."""
        return Axis(self.space)

    def factor(self, sizes: Sequence[int]) -> tuple[list[Axis], list[tuple[Axis, Axis]]]:
        """The axis as a product.

        Args:
            sizes: of the parts, each above 1.

        Returns:
            The parts, and pairs of axes whose gauges must agree for the parts to exist.
        """
        if len(sizes) == 1:
            return [self], []
        unify(self.space, Space(self.size, "product", [Space(n) for n in sizes]))
        tree = normal(self)
        blocks = tree[1] if isinstance(tree, tuple) and tree[0] == "concat" else [tree]
        groups = [_regroup(_factors(block), len(blocks) == 1, sizes) for block in blocks]
        pairs = [
            pair for other in groups[1:] for a, b in zip(groups[0][1:], other[1:], strict=True) for pair in zipped(a, b)
        ]
        return [Axis.concat([group[0] for group in groups]), *groups[0][1:]], pairs

    def cut(self, sizes: Sequence[int]) -> list[Axis]:
        """The axis as a concatenation of parts of given sizes."""
        sizes = [n for n in sizes if n]
        if len(sizes) == 1:
            return [self]
        unify(self.space, Space(self.size, "concat", [Space(n) for n in sizes]))
        items = list(_distributed(normal(self))[1])
        found: list[Axis] = []
        for n in sizes:
            group: list[Axis] = []
            while sum(axis.size for axis in group) < n:
                if not items:
                    raise Irregular
                group.append(_as_axis(items.pop(0)))
            if sum(axis.size for axis in group) != n:
                raise Irregular
            found.append(Axis.concat(group))
        return found


Tree: TypeAlias = Axis | tuple[str, list[Any]]
"""Normal form of an axis: a leaf, or a flat product or concatenation of such."""


def normal(axis: Axis) -> Tree:
    """The axis with everything that is known about its space, nested products and concatenations flattened.

    Args:
        axis: any axis.

    Returns:
        A leaf, or ("product", parts), or ("concat", parts).
    """
    root = axis.space.find()
    if not axis.parts and root.kind:
        axis.kind, axis.parts = root.kind, [Axis(part) for part in root.parts]
    return _tree(axis.kind, [normal(part) for part in axis.parts]) if axis.parts else axis


def leaves(axis: Axis) -> list[Axis]:
    """The leaves of an axis in order, one that several blocks share once.

    Args:
        axis: any axis.

    Returns:
        Axes on spaces of which no parts are known.
    """
    tree = normal(axis)
    found: list[Axis] = []
    waiting: list[Tree] = [tree]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, tuple):
            waiting = [*item[1], *waiting]
        elif item not in found:
            found.append(item)
    return found


def matched(*axes: Axis) -> list[tuple[Axis, ...]]:
    """The leaves of several axes on one space, side by side.

    Args:
        axes: at least one.

    Returns:
        Tuples of leaves, one for each axis.

    Raises:
        Irregular: if their spaces could not be matched.
    """
    if all(axis is axes[0] for axis in axes):
        return [(leaf,) * len(axes) for leaf in leaves(axes[0])]
    rows = [zipped(axes[0], other) for other in axes[1:]] or [[(leaf, leaf) for leaf in leaves(axes[0])]]
    if any(
        len(row) != len(rows[0]) or any(a[0] is not b[0] for a, b in zip(row, rows[0], strict=True)) for row in rows
    ):
        raise Irregular
    if len(axes) == 1:
        return [(a,) for a, _ in rows[0]]
    return [(rows[0][i][0], *(row[i][1] for row in rows)) for i in range(len(rows[0]))]


def zipped(a: Axis, b: Axis) -> list[tuple[Axis, Axis]]:
    """Pairs of leaves of two axes on one space.

    Args:
        a: first axis.
        b: second axis.

    Returns:
        Pairs of leaves, in order.

    Raises:
        Irregular: if the spaces were not matched.
    """
    found: list[tuple[Axis, Axis]] = []

    def walk(x: Tree, y: Tree) -> None:
        if isinstance(x, Axis) and isinstance(y, Axis):
            if x.space.find() is not y.space.find():
                raise Irregular
            if (x, y) not in found:
                found.append((x, y))
            return
        if isinstance(x, Axis) or isinstance(y, Axis):
            raise Irregular
        if x[0] != y[0]:
            x, y = _distributed(x), _distributed(y)
        if len(x[1]) != len(y[1]):
            raise Irregular
        for one, two in zip(x[1], y[1], strict=True):
            walk(one, two)

    walk(normal(a), normal(b))
    return found


def _tree(kind: str, parts: Sequence[Tree]) -> Tree:
    flat: list[Tree] = []
    for part in parts:
        flat.extend(part[1] if isinstance(part, tuple) and part[0] == kind else [part])
    if kind == "product":
        flat = [part for part in flat if _size(part) != 1] or flat[:1]
    return flat[0] if len(flat) == 1 else (kind, flat)


def _size(tree: Tree) -> int:
    if isinstance(tree, Axis):
        return tree.size
    return (prod if tree[0] == "product" else sum)(_size(part) for part in tree[1])


def _distributed(tree: Tree) -> tuple[str, list[Tree]]:
    """A concatenation: (a | b) × c becomes a × c | b × c."""
    if isinstance(tree, Axis):
        raise Irregular
    if tree[0] == "concat":
        return tree
    first = tree[1][0]
    if not isinstance(first, tuple):
        raise Irregular
    blocks = [_tree("product", [part, *tree[1][1:]]) for part in first[1]]
    flat = _tree("concat", blocks)
    assert isinstance(flat, tuple)
    return flat


def _as_axis(tree: Tree) -> Axis:
    if isinstance(tree, Axis):
        return tree
    parts = [_as_axis(part) for part in tree[1]]
    return Axis.product(parts) if tree[0] == "product" else Axis.concat(parts)


def _factors(tree: Tree) -> list[Tree]:
    return list(tree[1]) if isinstance(tree, tuple) and tree[0] == "product" else [tree]


def _regroup(items: Sequence[Tree], whole: bool, sizes: Sequence[int]) -> list[Axis]:
    """Consecutive factors gathered to given sizes; the first size is free where the block is one of several."""
    rest = list(items)
    groups: list[Axis] = []
    for n in reversed(sizes[1:]):
        group: list[Tree] = []
        while prod(_size(item) for item in group) < n:
            if not rest:
                raise Irregular
            group.insert(0, rest.pop())
        if prod(_size(item) for item in group) != n:
            raise Irregular
        groups.insert(0, Axis.product([_as_axis(item) for item in group]))
    first = Axis.product([_as_axis(item) for item in rest]) if rest else Axis.fresh(1)
    if whole and first.size != sizes[0]:
        raise Irregular
    return [first, *groups]
