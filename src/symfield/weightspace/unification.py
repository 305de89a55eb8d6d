"""Spaces of units and their unification: type inference with shapes as types.

A :class:`Space` is a set of units. It begins as one unknown whole; a reshape into (heads, channels) binds it to a
product, a split into queries, keys and values to a concatenation, and two spaces that meet in an addition become one,
down to their common refinement. Spaces that cannot be matched, such as 2 × 3 against 3 × 2, become rigid: nothing moves
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, TypeAlias

__all__ = ["Irregular", "Space", "unify"]


class Irregular(Exception):
    """Two layouts have no common refinement."""


class Space:
    """A set of units, possibly known to be a product or a concatenation of smaller ones."""

    __slots__ = ("hint", "kind", "parent", "parts", "pinned", "rigid", "size")

    def __init__(self, size: int, kind: str = "", parts: Sequence[Space] = ()) -> None:
        self.size = size
        self.parent: Space | None = None
        self.kind = kind
        self.parts = list(parts)
        self.pinned = ""  # why no permutation moves the units
        self.rigid = False  # nothing at all moves them, anywhere
        self.hint = ""

    def find(self) -> Space:
        """The space that stands for this one after unification."""
        root = self
        while root.parent is not None:
            root = root.parent
        while self.parent is not None:
            self.parent, self = root, self.parent
        return root

    def bind(self, kind: str, parts: Sequence[Space]) -> None:
        """Say what an unknown space is made of."""
        self.kind, self.parts = kind, list(parts)
        if self.pinned:
            self.pin(self.pinned, rigid=self.rigid)

    def pin(self, reason: str, *, rigid: bool = False) -> None:
        """No permutation moves the units; rigid: nothing does."""
        root = self.find()
        root.pinned = root.pinned or reason
        root.rigid = root.rigid or rigid
        for part in root.parts:
            part.pin(reason, rigid=rigid)

    def leaves(self) -> Iterator[Space]:
        """The smallest parts, in order."""
        root = self.find()
        if not root.kind:
            yield root
        for part in root.parts:
            yield from part.leaves()


def unify(a: Space, b: Space) -> None:
    """Make two spaces one, down to their common refinement; both become rigid where there is none.

    Args:
        a: first space.
        b: second space, of the same size.

    Raises:
        Irregular: if the sizes differ.
    """
    a, b = _simple(a), _simple(b)
    if a is b:
        return
    if a.size != b.size:
        raise Irregular
    if a.kind and b.kind:
        try:
            _match(_space_tree(a), _space_tree(b))
        except Irregular:
            reason = "two layouts that do not fit each other meet here"
            a.pin(reason, rigid=True)
            b.pin(reason, rigid=True)
            return
        a, b = a.find(), b.find()
        if a is b:
            return
    if not a.kind:  # b is known at least as well
        a, b = b, a
    b.parent = a
    a.hint = a.hint or b.hint
    if b.pinned:
        a.pin(b.pinned, rigid=b.rigid)


SpaceTree: TypeAlias = Space | tuple[str, list[Any]]


def _simple(space: Space) -> Space:
    """The space behind products with a single part."""
    tree = _space_tree(space)
    return tree.find() if isinstance(tree, Space) else space.find()


def _space_tree(space: Space) -> SpaceTree:
    root = space.find()
    if not root.kind:
        return root
    flat: list[SpaceTree] = []
    for part in root.parts:
        tree = _space_tree(part)
        flat.extend(tree[1] if isinstance(tree, tuple) and tree[0] == root.kind else [tree])
    if root.kind == "product":
        flat = [part for part in flat if _space_size(part) != 1] or flat[:1]
    return flat[0] if len(flat) == 1 else (root.kind, flat)


def _space_size(tree: SpaceTree) -> int:
    if isinstance(tree, Space):
        return tree.size
    return (prod if tree[0] == "product" else sum)(_space_size(part) for part in tree[1])


def _as_space(tree: SpaceTree) -> Space:
    if isinstance(tree, Space):
        return tree
    return Space(_space_size(tree), tree[0], [_as_space(part) for part in tree[1]])


def _match(x: SpaceTree, y: SpaceTree) -> None:
    """Refine two layouts until they agree."""
    if isinstance(x, Space):
        x = _space_tree(x)
    if isinstance(y, Space):
        y = _space_tree(y)
    if isinstance(x, Space) or isinstance(y, Space):
        unify(_as_space(x), _as_space(y))
        return
    if x[0] != y[0]:
        x, y = (_space_blocks(x, y), y) if x[0] == "product" else (x, _space_blocks(y, x))
    left, right = list(x[1]), list(y[1])
    while left and right:
        a, b = left.pop(0), right.pop(0)
        n, m = _space_size(a), _space_size(b)
        if n > m:
            a, more = _split(a, m, x[0])
            left.insert(0, more)
        elif m > n:
            b, more = _split(b, n, x[0])
            right.insert(0, more)
        _match(a, b)
    if left or right:
        raise Irregular


def _space_blocks(tree: tuple[str, list[SpaceTree]], other: tuple[str, list[SpaceTree]]) -> tuple[str, list[SpaceTree]]:
    """A product cut into blocks of the sizes of a concatenation."""
    blocks: list[SpaceTree] = []
    rest: SpaceTree = tree
    for part in other[1][:-1]:
        block, rest = _split(rest, _space_size(part), "concat")
        blocks.append(block)
    return "concat", [*blocks, rest]


def _split(tree: SpaceTree, size: int, kind: str) -> tuple[SpaceTree, SpaceTree]:
    """The outer part of a given size, and the rest."""
    if isinstance(tree, Space):
        tree = _space_tree(tree)
    if isinstance(tree, Space):
        n = tree.size
        if kind == "product" and n % size:
            raise Irregular
        parts = [Space(size), Space(n // size if kind == "product" else n - size)]
        tree.bind(kind, parts)
        return parts[0], parts[1]
    if tree[0] == kind:
        first, rest = tree[1][0], tree[1][1:]
        n = _space_size(first)
        remainder: SpaceTree = rest[0] if len(rest) == 1 else (kind, list(rest))
        if n == size:
            return first, remainder
        if n > size:
            one, two = _split(first, size, kind)
            return one, (kind, [two, *rest])
        below = size // n if kind == "product" else size - n
        if kind == "product" and size % n:
            raise Irregular
        one, two = _split(remainder, below, kind)
        return (kind, [first, one]), two
    if kind == "concat":
        first, rest = tree[1][0], tree[1][1:]
        inner = prod(_space_size(part) for part in rest)
        if size % inner:
            raise Irregular
        one, two = _split(first, size // inner, "concat")
        return _grown(one, rest), _grown(two, rest)
    raise Irregular


def _grown(first: SpaceTree, rest: Sequence[SpaceTree]) -> SpaceTree:
    return first if isinstance(first, Space) and first.size == 1 and len(rest) == 1 else ("product", [first, *rest])
