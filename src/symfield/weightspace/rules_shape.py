"""Rules for operators that rearrange entries: reshape, transpose, cut, join, repeat, pad."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Enumerated, Inference, Uniform, Value
from symfield.weightspace.rulebook import dims_of, number, rule
from symfield.weightspace.spaces import Axis

__all__: list[str] = []


@rule(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "view_as",
    "reshape_as",
    "_reshape_alias",
    on_data=True,
    uniform=True,
    pointers=True,
)
def view(inference: Inference, node: Node, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Axes are multiplied and factored, row-major; a factor that is later taken apart is enumerated."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    if x.shape == node.shape:
        return x
    if 0 in node.shape:
        raise ValueError("empty tensors")
    for axis in x.axes:
        if axis.size == 1:
            inference.rigid(axis)
    axes: list[Axis | None] = [inference.fixed_axis(1, "size 1") if n == 1 else None for n in node.shape]
    sources = [axis for axis in x.axes if axis.size != 1]
    targets = [dim for dim, n in enumerate(node.shape) if n != 1]
    slices: list[dict[int, Axis]] = []
    apart = -1
    while targets:
        group, dims = [sources.pop(0)], [targets.pop(0)]
        have, want = group[0].size, node.shape[dims[0]]
        while have != want:
            if have < want:
                group.append(sources.pop(0))
                have *= group[-1].size
            else:
                dims.append(targets.pop(0))
                want *= node.shape[dims[-1]]
        sizes = [node.shape[dim] for dim in dims]
        whole = Axis.product(group)
        few = [i for i, n in enumerate(sizes) if len(dims) > 1 and n <= 8]
        at = next((i for i in few if _taken_apart(node, dims[i])), None)
        if at is not None and not slices:
            apart = dims.pop(at)
            slices = [dict(zip(dims, found, strict=True)) for found in _enumerated(inference, whole, sizes, at)]
        else:
            for dim, axis in zip(dims, inference.factor(whole, sizes), strict=True):
                axes[dim] = axis
    if not slices:
        return Value([axis for axis in axes if axis is not None], known=x.known, points=x.points)
    parts = []
    for own in slices:
        filled = [own.get(dim, common) for dim, common in enumerate(axes) if dim != apart]
        parts.append(Value([axis for axis in filled if axis is not None], known=x.known))
    return Enumerated(apart, parts)


def _enumerated(inference: Inference, whole: Axis, sizes: Sequence[int], at: int) -> list[list[Axis]]:
    """Axes of the slices along factor ``at`` of a product."""
    before, count, after = list(sizes[:at]), sizes[at], list(sizes[at + 1 :])
    rest = prod(after)
    outer = inference.factor(whole, [*before, count * rest]) if before else [whole]
    slices = outer[-1].cut([rest] * count)
    if rest == 1:  # what is left of such a slice has no axis for a scale of its own
        inference.rigid(*slices)
        inference.note(
            "interleaved entries that are told apart share their scales and signs; those of one alone are not returned"
        )
    return [[*outer[:-1], *(inference.factor(part, after) if after else [])] for part in slices]


def _taken_apart(node: Node, dim: int) -> bool:
    """Whether the slices of a value along an axis are used one by one."""
    ndim = len(node.shape)
    for user in node.users:
        if not user.args or user.args[0] is not node:
            continue
        args = user.args[1:]
        if user.op in {"select", "unbind"} and (args[0] if args else 0) % ndim == dim:
            return True
        there: int | None = None
        if user.op in {"clone", "contiguous", "alias", "to", "detach", "_to_copy"}:
            there = dim
        elif user.op in {"transpose", "swapaxes"}:
            a, b = (arg % ndim for arg in args[:2])
            there = {a: b, b: a}.get(dim, dim)
        elif user.op == "permute":
            there = [arg % ndim for arg in args[0]].index(dim)
        elif user.op == "unsqueeze":
            there = dim + (args[0] % (ndim + 1) <= dim)
        elif user.op == "squeeze" and args and isinstance(args[0], int):
            there = dim - (args[0] % ndim < dim) if node.shape[args[0] % ndim] == 1 else dim
        if there is not None and _taken_apart(user, there):
            return True
    return False


def _rearranged(x: Any, order: Sequence[int]) -> Any:
    if isinstance(x, Uniform):
        return Uniform(tuple(x.shape[i] for i in order), x.fill)
    if isinstance(x, Enumerated):
        others = [i if i < x.dim else i - 1 for i in order if i != x.dim]
        parts = [Value([part.axes[i] for i in others], known=part.known) for part in x.parts]
        return Enumerated(list(order).index(x.dim), parts)
    return Value([x.axes[i] for i in order], known=x.known)


@rule("permute", "movedim", on_data=True, uniform=True, enumerated=True)
def permute(inference: Inference, node: Node, x: Any, *args: Any) -> Any:
    """Axes in another order."""
    ndim = len(x.shape)
    if node.op == "permute":
        return _rearranged(x, [dim % ndim for dim in args[0]])
    source, target = dims_of(args[0], ndim), dims_of(args[1], ndim)
    order = [dim for dim in range(ndim) if dim not in source]
    for where, dim in sorted(zip(target, source, strict=True)):
        order.insert(where, dim)
    return _rearranged(x, order)


@rule("transpose", "t", "swapaxes", "numpy_T", "mT", "adjoint", on_data=True, uniform=True, enumerated=True)
def transpose(inference: Inference, node: Node, x: Any, first: int = -2, second: int = -1) -> Any:
    """Two axes change places."""
    ndim = len(x.shape)
    order = list(range(ndim))
    if node.op == "numpy_T":
        order.reverse()
    elif ndim > 1:
        order[first], order[second] = order[second], order[first]
    return _rearranged(x, order)


@rule("unsqueeze", on_data=True, uniform=True, enumerated=True, pointers=True)
def unsqueeze(inference: Inference, node: Node, x: Any, dim: int) -> Any:
    """A new axis of size 1."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    if isinstance(x, Enumerated):
        at = dim % (len(x.shape) + 1)
        inner = at if at <= x.dim else at - 1
        parts = []
        for part in x.parts:  # parts may be used elsewhere as they are
            axes = list(part.axes)
            axes.insert(inner, inference.fixed_axis(1, "size 1"))
            parts.append(Value(axes, known=part.known))
        return Enumerated(x.dim + (at <= x.dim), parts)
    axes = list(x.axes)
    axes.insert(dim % (len(axes) + 1), inference.fixed_axis(1, "size 1"))
    return Value(axes, known=x.known, points=x.points)


@rule("squeeze", on_data=True, uniform=True, enumerated=True, pointers=True)
def squeeze(inference: Inference, node: Node, x: Any, dim: Any = None) -> Any:
    """Axes of size 1 go."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    gone = [d for d in dims_of(dim, len(x.shape)) if x.shape[d] == 1]
    if isinstance(x, Enumerated):
        inner = [d if d < x.dim else d - 1 for d in gone if d != x.dim]
        inference.rigid(*(part.axes[d] for part in x.parts for d in inner))
        parts = [Value([a for d, a in enumerate(part.axes) if d not in inner], known=part.known) for part in x.parts]
        return Enumerated(x.dim - sum(d < x.dim for d in gone), parts)
    for d in gone:
        inference.rigid(x.axes[d])
    return Value([axis for d, axis in enumerate(x.axes) if d not in gone], known=x.known, points=x.points)


@rule("expand", "expand_as", "broadcast_to", on_data=True, uniform=True)
def expand(inference: Inference, node: Node, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Copies along new axes: permutations of the copies change nothing."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    axes, copies = [], set()
    for dim, size in enumerate(node.shape):
        place = dim - len(node.shape) + len(x.axes)
        axis = x.axes[place] if place >= 0 else None
        if axis is not None and axis.size == size:
            axes.append(axis)
            copies |= {dim} if place in x.copies else set()
            continue
        if axis is not None:
            inference.rigid(axis)
        axes.append(Axis.fresh(size))
        inference.rigid(axes[-1])
        copies.add(dim)
    return Value(axes, known=x.known, copies=frozenset(copies))


@rule("repeat", "tile", "repeat_interleave", on_data=True, uniform=True)
def repeat(inference: Inference, node: Node, x: Any, times: Any, dim: int | None = None, **kwargs: Any) -> Any:
    """Copies of an axis are a product with the space of the copies, outside (repeat) or inside (repeat_interleave)."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    ndim = len(node.shape)
    if node.op == "repeat_interleave":
        if not isinstance(times, int) or dim is None:
            raise NotImplementedError("a number of copies for each entry")
        counts = [times if i == dim % ndim else 1 for i in range(ndim)]
    else:
        counts = [1] * (ndim - len(times)) + list(times)
    axes = [inference.fixed_axis(1, "size 1") for _ in range(ndim - len(x.axes))] + list(x.axes)
    for i, count in enumerate(counts):
        if count > 1:
            copies = Axis.fresh(count)
            inference.rigid(copies)
            if axes[i].size == 1:
                inference.rigid(axes[i])
            pair = [axes[i], copies] if node.op == "repeat_interleave" else [copies, axes[i]]
            axes[i] = Axis.product(pair)
    return Value(axes, known=x.known)


@rule("cat", "concat", "concatenate", uniform=True)
def cat(inference: Inference, node: Node, values: Sequence[Any], dim: int = 0) -> Any:
    """End to end along one axis; the others move alike."""
    if all(isinstance(value, Uniform) for value in values) and len({value.fill for value in values}) == 1:
        return Uniform(node.shape, values[0].fill)
    filled = [inference.materialise(value) for value in values]
    filled = [value for value in filled if value.shape != (0,)]
    dim = dim % len(node.shape)
    first = filled[0]
    for other in filled[1:]:
        for i, (a, b) in enumerate(zip(first.axes, other.axes, strict=True)):
            if i != dim:
                inference.same(a, b)
    joined = Axis.concat([value.axes[dim] for value in filled])
    return Value([*first.axes[:dim], joined, *first.axes[dim + 1 :]])


@rule("stack")
def stack(inference: Inference, node: Node, values: Sequence[Value], dim: int = 0) -> Any:
    """Slices along a new axis, with layouts of their own until somebody wants the whole."""
    if _taken_apart(node, dim % len(node.shape)):
        return Enumerated(dim % len(node.shape), list(values))
    return inference.materialise(Enumerated(dim % len(node.shape), list(values)))


@rule("split", "split_with_sizes", "chunk", "tensor_split")
def split(inference: Inference, node: Node, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    """Consecutive parts of an axis."""
    dim = dim % len(x.axes)
    lengths = [shape[dim] for shape in node.shape]
    if x.axes[dim].pinned:
        inference.freeze(x, [dim], "cut into parts")
        parts = [inference.fixed_axis(n, "cut into parts") for n in lengths]
    else:
        parts = x.axes[dim].cut(lengths)
    return [Value([*x.axes[:dim], part, *x.axes[dim + 1 :]]) for part in parts]


@rule("select", enumerated=True)
def select(inference: Inference, node: Node, x: Any, dim: int, index: int) -> Value:
    """One slice; the axis is fixed, since its entries are told apart."""
    dim = dim % len(x.shape)
    if isinstance(x, Enumerated):
        if dim == x.dim:
            return x.parts[index]
        x = inference.materialise(x)
    inference.freeze(x, [dim], f"single entries are taken by {inference.place(node)}")
    return Value([axis for i, axis in enumerate(x.axes) if i != dim])


@rule("unbind", enumerated=True)
def unbind(inference: Inference, node: Node, x: Any, dim: int = 0) -> list[Value]:
    """All slices."""
    count = x.shape[dim % len(x.shape)]
    return [select(inference, node, x, dim, i) for i in range(count)]


@rule("getitem", on_data=True, uniform=True, enumerated=True, pointers=True)
def getitem(inference: Inference, node: Node, x: Any, index: int) -> Any:
    """One of several results."""
    return x[index]


@rule("slice", "narrow", on_data=True, uniform=True)
def slices(
    inference: Inference, node: Node, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """A consecutive part of an axis; what is left out of a parameter is fixed, for other inputs may need it."""
    if isinstance(x, Uniform):
        return Uniform(node.shape, x.fill)
    dim = dim % len(x.axes)
    axis, size = x.axes[dim], node.shape[dim]
    if axis.size == size:
        return x
    if step != 1 or axis.pinned or size == 0:
        inference.freeze(x, [dim], "cut into parts")
        part = inference.fixed_axis(size, "cut into parts")
    else:
        begin = 0 if start is None else min(max(start + axis.size if start < 0 else start, 0), axis.size)
        sizes = [begin, size, axis.size - begin - size]
        parts = dict(zip([i for i, n in enumerate(sizes) if n], axis.cut(sizes), strict=True))
        part = parts.pop(1)
        for other in parts.values():
            if x.tensor:
                inference.fix(other, "not used on the example")
            else:
                inference.rigid(other)
    return Value([*x.axes[:dim], part, *x.axes[dim + 1 :]], known=x.known)


@rule("constant_pad_nd", "pad", uniform=True)
def pad(inference: Inference, node: Node, x: Any, pads: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    """Zeros before and after fit any gauge; other padding fixes the axis."""
    fill = next((number(a) for a in args if number(a) is not None), number(kwargs.get("value", 0.0)))
    mode = next((a for a in args if isinstance(a, str)), kwargs.get("mode", "constant"))
    constant = node.op == "constant_pad_nd" or mode == "constant"
    x = inference.materialise(x)
    axes = list(x.axes)
    for k in range(len(pads) // 2):
        before, after, dim = pads[2 * k], pads[2 * k + 1], len(axes) - 1 - k
        if before == after == 0:
            continue
        if fill == 0 and constant and before >= 0 and after >= 0 and not axes[dim].pinned:
            ends = [Axis.fresh(before)] * (before > 0), [Axis.fresh(after)] * (after > 0)
            axes[dim] = Axis.concat([*ends[0], axes[dim], *ends[1]])
        else:
            inference.freeze(x, [dim], f"padded by {inference.place(node)}")
            axes[dim] = inference.fixed_axis(node.shape[dim], "padded")
    if fill != 0 or not constant:
        inference.rigid(*(axis for axis in axes if not axis.pinned))
    return Value(axes)


@rule("roll", "flip", "fliplr", "flipud", "rot90")
def scramble(inference: Inference, node: Node, x: Value, *args: Any) -> Value:
    """Entries change places in a way that permutations need not respect: these axes are fixed."""
    named = args[1] if node.op == "roll" and len(args) > 1 else args[0] if node.op == "flip" else None
    dims = dims_of(named, len(x.axes))
    inference.freeze(x, dims, f"entries change places in {inference.place(node)}")
    return Value(list(x.axes))


@rule("pixel_shuffle")
def pixel_shuffle(inference: Inference, node: Node, x: Value, factor: int) -> Value:
    """Channels (c, r, r) become c channels at r × r positions."""
    *batch, channel, _, _ = x.axes
    outer, *inner = inference.factor(channel, [n for n in (node.shape[-3], factor, factor) if n > 1])
    for axis in inner:
        inference.fix(axis, "positions of pixel_shuffle")
    inference.freeze(x, [len(batch) + 1, len(batch) + 2], "positions")
    return Value([*batch, outer, *(inference.fixed_axis(n, "positions") for n in node.shape[-2:])])


@rule("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "zeros", "ones",
      "full", "scalar_tensor", on_data=True, uniform=True)  # fmt: skip
def uniform(inference: Inference, node: Node, *args: Any, **kwargs: Any) -> Uniform:
    """One number everywhere."""
    if "zeros" in node.op:
        return Uniform(node.shape, 0.0)
    if "ones" in node.op:
        return Uniform(node.shape, 1.0)
    return Uniform(node.shape, number(args[-1]) if args else None)
