"""Rules for gathering and scattering by integers: message passing, tables, routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Value
from symfield.weightspace.rulebook import pointwise, rule

__all__: list[str] = []


@rule("index", "_unsafe_index", pointers=True)
def index(inference: Inference, node: Node, x: Value, indices: Sequence[Any]) -> Value:
    """Entries chosen by integers: these axes are fixed, the others go on."""
    given = {dim: item for dim, item in enumerate(indices) if item is not None}
    pointed = len(given) == 1 and next(iter(given.values())).points is not None
    for dim, item in given.items():
        if pointed:
            inference.same(item.points, x.axes[dim])
            inference.rigid(x.axes[dim])
            inference.carry(item.axes, x.axes[dim])
        else:
            inference.freeze(x, [dim], f"entries are chosen by integers in {inference.place(node)}")
            if item.points is not None:
                inference.fix(item.points, f"its units are numbered by integers that go into {inference.place(node)}")
    rest = [axis for dim, axis in enumerate(x.axes) if dim not in given]
    count = len(node.shape) - len(rest)
    dims = sorted(given)
    first = dims[0] if dims == list(range(dims[0], dims[0] + len(dims))) else 0
    if len(given) == 1:
        chosen = list(next(iter(given.values())).axes)
    else:
        for item in given.values():
            inference.freeze(item, range(len(item.axes)), "integers that choose entries")
        chosen = [inference.fixed_axis(n, "chosen by integers") for n in node.shape[first : first + count]]
    return Value([*rest[:first], *chosen, *rest[first:]])


@rule("index_select")
def index_select(inference: Inference, node: Node, x: Value, dim: int, chosen: Value) -> Value:
    """Slices chosen by integers."""
    dim = dim % len(x.axes)
    inference.freeze(x, [dim], f"entries are chosen by integers in {inference.place(node)}")
    return Value([*x.axes[:dim], *chosen.axes, *x.axes[dim + 1 :]])


@rule("gather", "take_along_dim", pointers=True)
def gather(inference: Inference, node: Node, x: Value, dim: int, chosen: Value, **kwargs: Any) -> Value:
    """Entries chosen one by one; along the other axes the integers must be alike, or move along."""
    dim = dim % len(x.axes)
    if chosen.points is not None:
        inference.same(chosen.points, x.axes[dim])
        inference.rigid(x.axes[dim])
        inference.independent([axis for axis in x.axes if axis is not x.axes[dim]], [x.axes[dim]])
    else:
        inference.freeze(x, [dim], f"entries are chosen by integers in {inference.place(node)}")
    axes = []
    for d, axis in enumerate(chosen.axes):
        if d == dim:
            axes.append(axis)
        elif axis.size == x.axes[d].size:
            inference.rigid(axis)
            inference.units(axis, x.axes[d])
            axes.append(x.axes[d])
        else:
            inference.fix(x.axes[d], "cut by gather")
            inference.fix(axis, "cut by gather")
            axes.append(axis)
    return Value(axes)


@rule("index_add", "index_copy", "index_reduce")
def index_add(
    inference: Inference, node: Node, x: Value, dim: int, chosen: Value, source: Value, *args: Any, **kwargs: Any
) -> Value:
    """Slices added where integers say: message passing."""
    dim = dim % len(x.axes)
    for value in (x, source):
        inference.freeze(value, [dim], f"entries are chosen by integers in {inference.place(node)}")
    for d, (a, b) in enumerate(zip(x.axes, source.axes, strict=True)):
        if d != dim:
            inference.same(a, b)
            if node.op == "index_reduce":
                inference.rigid(a)
    return Value(list(x.axes))


@rule("scatter_add", "scatter_reduce", "scatter")
def scatter(
    inference: Inference, node: Node, x: Value, dim: int, chosen: Value, source: Any, *args: Any, **kwargs: Any
) -> Value:
    """Entries added where integers say; along the other axes the integers must be alike, or move along."""
    dim = dim % len(x.axes)
    inference.freeze(x, [dim], f"entries are chosen by integers in {inference.place(node)}")
    linear = node.op == "scatter_add" or (args and args[0] in {"sum", "mean"})
    values = [x, chosen, *([source] if isinstance(source, Value) else [])]
    for d, axis in enumerate(x.axes):
        if d == dim:
            for value in values[1:]:
                inference.freeze(value, [d], "chosen by integers")
            continue
        for value in values[1:]:
            if value.axes[d].size != axis.size:
                raise NotImplementedError("tensors of different sizes")
        inference.rigid(chosen.axes[d])
        inference.units(chosen.axes[d], axis)
        if isinstance(source, Value):
            inference.same(axis, source.axes[d])
        if not linear:
            inference.rigid(axis)
    return Value(list(x.axes))


@rule("topk", "sort")
def topk(inference: Inference, node: Node, x: Value, *args: Any, **kwargs: Any) -> list[Value]:
    """The largest entries in order: permutations of what is sorted; the integers point at its units."""
    dim = kwargs.get("dim", args[1] if node.op == "topk" and len(args) > 1 else -1)
    dim = (args[0] if node.op == "sort" and args and isinstance(args[0], int) else dim) % len(x.axes)
    inference.rigid(*x.axes)
    inference.independent([axis for d, axis in enumerate(x.axes) if d != dim], [x.axes[dim]])
    axes = list(x.axes)
    axes[dim] = inference.fixed_axis(node.shape[0][dim], "sorted")
    return [Value(axes), Value(list(axes), points=x.axes[dim])]


@rule("one_hot", pointers=True)
def one_hot(inference: Inference, node: Node, x: Value, classes: int = -1) -> Value:
    """Integers as indicator vectors; those that point at units become an axis of these units."""
    if x.points is not None and x.points.size == node.shape[-1]:
        axis = x.points.sibling()
        inference.units(axis, x.points)
        inference.rigid(axis)
    else:
        inference.freeze(x, range(len(x.axes)), "one_hot of other numbers")
        axis = inference.fixed_axis(node.shape[-1], "one_hot of other numbers")
    return Value([*x.axes, axis])


@rule("tril", "triu", "diagonal")
def triangle(inference: Inference, node: Node, x: Value, *args: Any) -> Value:
    """The order of the last two axes matters: they are fixed."""
    if node.op == "diagonal":
        raise NotImplementedError("diagonal")
    inference.freeze(x, [len(x.axes) - 2, len(x.axes) - 1], f"the order matters in {inference.place(node)}")
    return Value(list(x.axes))


@rule("bucketize", "histc", "isin")
def lookup(inference: Inference, node: Node, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A function of entries."""
    return pointwise(inference, node, [x])
