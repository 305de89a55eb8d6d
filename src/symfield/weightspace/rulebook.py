"""The register of rules, and what many rules share: broadcasting, contraction, reduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Entry, Inference, Uniform, Value
from symfield.weightspace.spaces import Axis

__all__ = ["RULES", "absolute", "aligned", "contract", "dims_of", "pointwise", "reduce", "rule", "tie"]

RULES: dict[str, Entry] = {}

F = TypeVar("F", bound=Callable[..., Any])


def rule(
    *ops: str, on_data: bool = False, uniform: bool = False, enumerated: bool = False, pointers: bool = False
) -> Callable[[F], F]:
    """Register a rule for operators.

    Args:
        ops: ATen names without overloads.
        on_data: also where no parameter is involved.
        uniform: takes uniform constants as they are.
        enumerated: takes enumerated values as they are.
        pointers: knows about integers that number the units of a space.

    Returns:
        The decorator.
    """

    def register(function: F) -> F:
        for op in ops:
            RULES[op] = Entry(function, on_data, uniform, enumerated, pointers)
        return function

    return register


def dims_of(dims: Any, ndim: int) -> list[int]:
    """Axes named by an argument ``dim``, None for all.

    Args:
        dims: a number, a list, or None.
        ndim: number of axes.

    Returns:
        Non-negative numbers.
    """
    if dims is None or dims == []:
        return list(range(ndim))
    return [dim % ndim for dim in (dims if isinstance(dims, list | tuple) else [dims])] if ndim else []


def aligned(inference: Inference, node: Node, values: Sequence[Value]) -> list[list[Axis | None]]:
    """Axes of broadcast operands, side by side for every axis of the result; None where an operand is constant.

    Args:
        inference: the walk.
        node: the operator call.
        values: operands.

    Returns:
        One list for every axis of the result.
    """
    rows: list[list[Axis | None]] = []
    ndim = len(node.shape)
    for dim, size in enumerate(node.shape):
        row: list[Axis | None] = []
        for value in values:
            place = dim - ndim + len(value.axes)
            axis = value.axes[place] if place >= 0 and place not in value.copies else None
            if axis is not None and axis.size == 1 and size != 1:
                inference.fix(axis, "broadcast along this axis")
                axis = None
            row.append(axis)
        rows.append(row)
    return rows


def tie(inference: Inference, axes: Sequence[Axis | None], size: int) -> Axis:
    """One axis for operands that are added or compared: all move alike, by permutations where one is constant.

    Args:
        inference: the walk.
        axes: of the operands, None where one is constant.
        size: of the result.

    Returns:
        The axis of the result.
    """
    there = [axis for axis in axes if axis is not None]
    if not there:  # constant along this axis, whatever permutes it
        there = [Axis.fresh(size)]
        inference.rigid(there[0])
    for axis in there[1:]:
        inference.same(there[0], axis)
    if len(there) < len(axes):
        inference.rigid(there[0])
    return there[0]


def pointwise(inference: Inference, node: Node, values: Sequence[Value]) -> Value:
    """Any function of corresponding entries: at most permutations, the same for all operands.

    Args:
        inference: the walk.
        node: the operator call.
        values: operands.

    Returns:
        The value of the result.
    """
    axes = []
    for row, size in zip(aligned(inference, node, values), node.shape, strict=True):
        axis = tie(inference, row, size)
        inference.rigid(axis)
        axes.append(axis)
    return Value(axes)


def contract(inference: Inference, operands: Sequence[tuple[Value, Sequence[str]]], out: Sequence[str]) -> Value:
    """A sum over products, as in einsum.

    An index of two operands that is summed pairs g with g^{-T}. One that stays and belongs to both is a batch axis,
    where only permutations act (matrices and scales of a head act on its channels instead), unless nothing is summed.

    Args:
        inference: the walk.
        operands: values with one label for each axis.
        out: labels of the result.

    Returns:
        The value of the result.

    Raises:
        NotImplementedError: for a label that an operand has twice.
    """
    places: dict[str, list[Axis]] = {}
    for value, labels in operands:
        if len(set(labels)) < len(labels):
            raise NotImplementedError("a repeated index in one operand")
        for axis, label in zip(value.axes, labels, strict=True):
            places.setdefault(label, []).append(axis)
    for label, axes in places.items():  # an axis of size 1 against a longer one is broadcast
        longest = max(axis.size for axis in axes)
        for axis in axes:
            if axis.size != longest:
                inference.fix(axis, "broadcast along this axis")
        places[label] = [axis for axis in axes if axis.size == longest]
    summed = [label for label in places if label not in out]
    for label in summed:
        axes = places[label]
        if len(axes) == 2:
            inference.dual(*axes)
        else:
            for axis in axes:
                inference.same(axes[0], axis)
                inference.rigid(axis)
        inference.independent([axis for other in out for axis in places[other]], axes)
    result = []
    for label in out:
        axes = places[label]
        if len(axes) > 1 and summed:
            for axis in axes:
                inference.same(axes[0], axis)
                inference.rigid(axis)
        elif len(axes) > 1:
            axis = axes[0].sibling()
            inference.product(axis, *axes)
            axes = [axis]
        result.append(axes[0])
    return Value(result)


def reduce(inference: Inference, node: Node, x: Value, dims: Sequence[int], keepdim: bool) -> Value:
    """The axes that are left after a reduction; those reduced and their neighbours are the caller's business.

    Args:
        inference: the walk.
        node: the operator call.
        x: operand.
        dims: axes that are reduced.
        keepdim: whether they stay with size 1.

    Returns:
        A value on the axes that are left.
    """
    inference.independent([axis for dim, axis in enumerate(x.axes) if dim not in dims], [x.axes[dim] for dim in dims])
    axes = []
    for dim, axis in enumerate(x.axes):
        if dim not in dims:
            axes.append(axis)
        elif keepdim:
            axes.append(inference.fixed_axis(1, "reduced"))
    return Value(axes)


def absolute(inference: Inference, axis: Axis) -> Axis:
    """The axis of |x|: positive scales pass, signs are lost.

    Args:
        inference: the walk.
        axis: of x.

    Returns:
        The axis of the result.
    """
    out = axis.sibling()
    inference.scales((out, 1), (axis, -1))
    inference.signs((out, 1))
    return out


def number(item: Any) -> float | None:
    """The number behind a Python number or a uniform constant; None for anything else.

    Args:
        item: an argument of an operator.

    Returns:
        The number.
    """
    if isinstance(item, Uniform):
        return item.fill
    return float(item) if isinstance(item, int | float) and not isinstance(item, bool) else None
