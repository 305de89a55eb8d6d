"""Rotary position codes, q cos + rotate_half(q) sin, as one operator.

Channels j and j + d/2 form a plane that is rotated by an angle for each position. What commutes with all rotations of a
plane is the multiplication by complex numbers: rotation and scale, one for each frequency (and head).
"""

from __future__ import annotations

from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Value
from symfield.weightspace.rulebook import rule
from symfield.weightspace.spaces import Axis

__all__ = ["find_rotary"]

#: Operators that keep what is said about the two halves of the last axis.
THROUGH = {
    "cos", "sin", "to", "_to_copy", "unsqueeze", "mul", "clone", "contiguous", "expand", "detach", "alias", "index",
    "type_as", "slice", "select",
}  # fmt: skip


@rule("rotary")
def rotary(inference: Inference, node: Node, x: Value, cos: Value, sin: Value) -> Value:
    """Planes (2, d/2): complex numbers act on each frequency, whose order is fixed."""
    axis = x.axes[-1]
    plane, frequency = inference.factor(axis, [2, axis.size // 2])
    inference.fix(frequency, "frequencies of rotary position codes")
    inference.plane(plane)
    inference.independent(x.axes[:-1], [axis])
    for other in x.axes[:-1]:
        inference.rigid(other)
    inference.hint(plane, "planes")
    return Value([*x.axes[:-1], Axis.product([plane, frequency])])


def find_rotary(node: Node) -> tuple[tuple[Any, ...], set[Node]] | None:
    """Match ``q * cos + cat(-q[..., d/2:], q[..., :d/2]) * sin`` with cos and sin alike on both halves.

    Args:
        node: an addition.

    Returns:
        ((q, cos, sin), nodes inside) or None.
    """
    sides = [item for item in node.args[:2] if isinstance(item, Node) and item.op == "mul"]
    if len(sides) != 2 or node.kwargs:
        return None
    for straight, turned in (sides, sides[::-1]):
        for half in (item for item in turned.args if isinstance(item, Node) and item.op == "cat"):
            match = _rotated(half)
            if match is None:
                continue
            q, inner = match
            others = [item for item in straight.args if item is not q]
            if len(others) != 1 or q not in straight.args or not isinstance(others[0], Node):
                continue
            cos, sin = others[0], next(item for item in turned.args if item is not half)
            inside = {straight, turned, half, *inner}
            size = node.shape[-1]
            alone = all(user in inside or user is node for item in inside for user in item.users)
            if alone and _halves_alike(cos, size) and _halves_alike(sin, size):
                return (q, cos, sin), inside
    return None


def _rotated(cat: Node) -> tuple[Node, set[Node]] | None:
    parts = cat.args[0]
    dim = cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", 0)
    if len(parts) != 2 or dim % len(cat.shape) != len(cat.shape) - 1:
        return None
    minus, first = parts
    if minus.op != "neg" or first.op != "slice" or minus.args[0].op != "slice":
        return None
    second = minus.args[0]
    q, half = first.args[0], cat.shape[-1] // 2
    if second.args[0] is not q or q.shape[-1] != 2 * half:
        return None

    def span(item: Node) -> tuple[int, int] | None:
        d, *limits = item.args[1:] or (0,)
        if d % len(item.shape) != len(item.shape) - 1 or len(limits) > 2:
            return None
        start = limits[0] if limits and limits[0] is not None else 0
        end = limits[1] if len(limits) > 1 and limits[1] is not None else 2 * half
        return start, min(end, 2 * half)

    if span(first) != (0, half) or span(second) != (half, 2 * half):
        return None
    return q, {minus, first, second}


def _halves_alike(node: Any, size: int) -> bool:
    """Whether the two halves of the last axis of a tensor of positions are the same."""
    while isinstance(node, Node) and node.shape and node.shape[-1] == size:
        if node.op == "constant" and node.value is not None:
            return bool((node.value[..., : size // 2] == node.value[..., size // 2 :]).all())
        if node.op == "cat":
            parts = node.args[0]
            return len(parts) == 2 and parts[0] is parts[1]
        if node.op not in THROUGH:
            return False
        given = [item for item in node.args if isinstance(item, Node)]
        node = given[0] if given else None
    return False
