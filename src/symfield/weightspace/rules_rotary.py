"""Rotary position codes as one operator.

Two channels form a plane that is rotated by an angle for each position: j and j + d/2 in halves, 2j and 2j + 1 in
pairs, written as q cos + turned(q) sin, or in pairs as a product of complex numbers. What commutes with all rotations
of a plane is the multiplication by complex numbers: rotation and scale, one for each frequency (and head).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Value
from symfield.weightspace.rulebook import rule
from symfield.weightspace.spaces import Axis

__all__ = ["find_rotary"]

#: Operators that write an axis as two, or two as one.
FLAT = {"view", "reshape", "flatten", "unflatten", "_unsafe_view"}

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
    _rotated_planes(inference, x.axes[:-1], frequency, plane)
    return Value([*x.axes[:-1], Axis.product([plane, frequency])])


@rule("rotary_pairs")
def rotary_pairs(inference: Inference, node: Node, x: Value, cos: Value, sin: Value) -> Value:
    """Planes (d/2, 2): the same with neighbours."""
    axis = x.axes[-1]
    frequency, plane = inference.factor(axis, [axis.size // 2, 2])
    _rotated_planes(inference, x.axes[:-1], frequency, plane)
    return Value([*x.axes[:-1], Axis.product([frequency, plane])])


@rule("rotary_complex")
def rotary_complex(inference: Inference, node: Node, x: Value, turn: Value) -> Value:
    """Planes on an axis of their own, real and imaginary parts, times complex numbers that no parameter enters."""
    if not turn.known:
        raise NotImplementedError("a complex number that depends on parameters")
    *others, frequency, plane = x.axes
    _rotated_planes(inference, others, frequency, plane)
    return Value(list(x.axes))


def _rotated_planes(inference: Inference, others: Sequence[Axis], frequency: Axis, plane: Axis) -> None:
    inference.fix(frequency, "frequencies of rotary position codes")
    inference.plane(plane)
    inference.independent(others, [frequency, plane])
    for other in others:
        inference.rigid(other)
    inference.hint(plane, "planes")


def find_rotary(node: Node) -> tuple[str, tuple[Any, ...], set[Node]] | None:
    """Match ``q * cos + turned(q) * sin`` with cos and sin alike on both channels of a plane, or complex products.

    Args:
        node: any node.

    Returns:
        (rule, its arguments, nodes inside) or None.
    """
    if node.op == "view_as_real":
        return _complex(node)
    sides = [item for item in node.args[:2] if isinstance(item, Node) and item.op == "mul"]
    if node.op != "add" or len(sides) != 2 or node.kwargs:
        return None
    for straight, turned in (sides, sides[::-1]):
        for half in (item for item in turned.args if isinstance(item, Node)):
            for name, match, alike in (("rotary", _rotated, _halves_alike), ("rotary_pairs", _swapped, _pairs_alike)):
                found = match(half)
                if found is None:
                    continue
                q, inner = found
                others = [item for item in straight.args if item is not q]
                if len(others) != 1 or q not in straight.args or not isinstance(others[0], Node):
                    continue
                cos, sin = others[0], next(item for item in turned.args if item is not half)
                inside = {straight, turned, half, *inner}
                size = node.shape[-1]
                if _alone(inside, node) and alike(cos, size) and alike(sin, size):
                    return name, (q, cos, sin), inside
    return None


def _alone(inside: set[Node], node: Node) -> bool:
    return all(user in inside or user is node for item in inside for user in item.users)


def _complex(node: Node) -> tuple[str, tuple[Any, ...], set[Node]] | None:
    product = node.args[0]
    if product.op != "mul":
        return None
    first, second = product.args[:2]
    for one, turn in ((first, second), (second, first)):
        if isinstance(one, Node) and one.op == "view_as_complex" and isinstance(turn, Node):
            inside = {product, one}
            if _alone(inside, node) and len(one.shape) == len(product.shape):
                return "rotary_complex", (one.args[0], turn), inside
    return None


def _swapped(node: Node) -> tuple[Node, set[Node]] | None:
    """Match (−q_1, q_0, −q_3, q_2, …), by slices with step 2 or by a view as pairs; the value q and what is inside."""
    stack = node.args[0] if node.op in FLAT and node.args else None
    if not isinstance(stack, Node) or stack.op != "stack" or len(stack.args[0]) != 2:
        return None
    dim = stack.args[1] if len(stack.args) > 1 else stack.kwargs.get("dim", 0)
    if dim % len(stack.shape) != len(stack.shape) - 1 or node.shape[-1] != 2 * stack.shape[-2]:
        return None
    minus, even = stack.args[0]
    if minus.op != "neg":
        return None
    odd = minus.args[0]
    inner = {stack, minus, odd, even}
    if odd.op == even.op == "slice" and odd.args[0] is even.args[0]:
        q = odd.args[0]
        whole = all(_every_second(item, start) for item, start in ((even, 0), (odd, 1)))
        return (q, inner) if whole and q.shape == node.shape else None
    return _unbound(node, even, odd, inner)


def _unbound(node: Node, even: Node, odd: Node, inner: set[Node]) -> tuple[Node, set[Node]] | None:
    if not (odd.op == even.op == "getitem" and odd.args[0] is even.args[0] and (even.args[1], odd.args[1]) == (0, 1)):
        return None
    parts = odd.args[0]
    pairs = parts.args[0]
    if parts.op != "unbind" or pairs.op not in FLAT or parts.args[1:] not in {(-1,), (len(pairs.shape) - 1,)}:
        return None
    q = pairs.args[0]
    if q.shape != node.shape or tuple(pairs.shape) != (*q.shape[:-1], q.shape[-1] // 2, 2):
        return None
    return q, {*inner, parts, pairs}


def _every_second(item: Node, start: int) -> bool:
    given: list[Any] = list(item.args[1:])
    d, first, end, step = given + [0, None, None, 1][len(given) :]
    size = item.args[0].shape[-1]
    last = d % len(item.shape) == len(item.shape) - 1
    return last and (first or 0) == start and (end is None or end >= size) and step == 2


def _rotated(cat: Node) -> tuple[Node, set[Node]] | None:
    if cat.op != "cat":
        return None
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


def _pairs_alike(node: Any, size: int) -> bool:
    """Whether channels 2j and 2j + 1 of a tensor of positions are the same."""
    while isinstance(node, Node) and node.shape and node.shape[-1] == size:
        if node.op == "constant" and node.value is not None:
            return bool((node.value[..., ::2] == node.value[..., 1::2]).all())
        if node.op == "repeat_interleave":
            return node.args[1] == 2 and node.args[2:3] in {(-1,), (len(node.shape) - 1,)}
        if node.op in FLAT and isinstance(node.args[0], Node) and tuple(node.args[0].shape[-2:]) == (size // 2, 2):
            return _repeated(node.args[0])
        if node.op not in THROUGH:
            return False
        given = [item for item in node.args if isinstance(item, Node)]
        node = given[0] if given else None
    return False


def _repeated(node: Node) -> bool:
    """Whether both entries along the last axis, of size 2, are the same."""
    while node.op in {"clone", "contiguous"}:
        node = node.args[0]
    if node.op == "stack":
        return len(node.args[0]) == 2 and node.args[0][0] is node.args[0][1]
    return node.op == "expand" and node.args[0].shape[-1:] == (1,)
