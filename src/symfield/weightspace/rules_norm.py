"""Rules for normalisation, reductions, softmax, pooling and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Value
from symfield.weightspace.rulebook import absolute, dims_of, number, pointwise, reduce, rule
from symfield.weightspace.spaces import Axis

__all__: list[str] = []

EPS = "positive scales of what enters a norm are undone up to eps only, and not returned"

CENTRED = (
    "what enters layer_norm may also be rotated around its mean once gains and biases are folded into the next "
    "weights (fold_norms), change sign as a whole, or be shifted by a constant; not returned"
)


def _affine(inference: Inference, x: Axis, weight: Axis | None, bias: Axis | None) -> Axis:
    """The axis after w x̂ + b, for x̂ on the axis x."""
    out = x.sibling()
    inference.product(out, x, *([weight] if weight is not None else []))
    if bias is not None:
        inference.same(out, bias)
    return out


def _first(value: Value | None) -> Axis | None:
    return None if value is None else value.axes[0]


@rule("layer_norm", "native_layer_norm")
def layer_norm(
    inference: Inference, node: Node, x: Value, shape: Sequence[int], weight: Any = None, bias: Any = None, *args: Any
) -> Any:
    """Means along the last axes allow permutations alone; gain and bias may be rescaled with what follows."""
    inference.note(EPS)
    if not x.axes[-1].pinned:
        inference.note(CENTRED)
    first = len(x.axes) - len(shape)
    inference.independent(x.axes[:first], x.axes[first:])
    inference.rigid(*x.axes)
    axes = list(x.axes[:first])
    for i, axis in enumerate(x.axes[first:]):
        # One of several normalised axes carries the scale of gain and bias; a scale of the others would be the same.
        parts = [value.axes[i] if value is not None else None for value in (weight, bias)]
        axes.append(_affine(inference, axis, *parts))
        if i > 0:
            inference.rigid(axes[-1])
    out = Value(axes)
    return [out, None, None] if node.op.startswith("native") else out


@rule("rms_norm", "_fused_rms_norm")
def rms_norm(
    inference: Inference, node: Node, x: Value, shape: Sequence[int], weight: Value | None = None, *args: Any
) -> Any:
    """Division by the Euclidean norm: orthogonal maps pass, then the gain acts."""
    inference.note(EPS)
    first = len(x.axes) - len(shape)
    inference.independent(x.axes[:first], x.axes[first:])
    inference.rigid(*x.axes[:first])
    axes = list(x.axes)
    for i, axis in enumerate(axes[first:]):
        inference.norm(axis)
        if weight is not None and not weight.tensor:
            inference.constraints.computed.append(axis)
        if weight is not None:
            axes[first + i] = inference.gain(axis, weight.axes[i], weight.tensor)
    return [Value(axes), None] if node.op.startswith("_") else Value(axes)


@rule("_weight_norm")
def weight_norm(inference: Inference, node: Node, v: Value, g: Value, dim: int = 0) -> Value:
    """w = g v / |v|, row by row: scales of v are lost, signs of v and of g undo each other, g scales w."""
    dims = [d for d in range(len(v.axes)) if dim == -1 or d != dim % len(v.axes)]
    rows = [d for d in range(len(v.axes)) if d not in dims]
    inference.independent([v.axes[d] for d in rows], [v.axes[d] for d in dims])
    axes = list(v.axes)
    for d in dims:
        inference.norm(v.axes[d])
    for d, axis in enumerate(g.axes):
        if d in rows:
            axes[d] = axis.sibling()
            inference.units(axis, v.axes[d])
            inference.units(axis, axes[d])
            inference.scales((axes[d], 1), (axis, -1))
            inference.signs((axes[d], 1), (axis, -1), (v.axes[d], -1))
        else:
            inference.rigid(axis)
    return Value(axes)


@rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "instance_norm")
def batch_norm(
    inference: Inference,
    node: Node,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    *args: Any,
) -> Any:
    """Channels keep their statistics: permutations and signs pass, and gain and bias may be rescaled.

    A positive scale of x would have to rescale the variance without eps: not exact.
    """
    inference.note(EPS)
    channel = x.axes[1]
    inference.scales((channel, 1))
    if node.op == "instance_norm":
        inference.independent([x.axes[0], channel], x.axes[2:])
        inference.rigid(x.axes[0], *x.axes[2:])
    else:
        for axis in (x.axes[0], *x.axes[2:]):
            inference.rigid(axis)
    if mean is not None and variance is not None:
        inference.same(channel, mean.axes[0])
        inference.units(channel, variance.axes[0])
        inference.rigid(variance.axes[0])
    out = _affine(inference, channel, _first(weight), _first(bias))
    value = Value([x.axes[0], out, *x.axes[2:]])
    return [value, None, None] if node.op.startswith("_") else value


@rule("group_norm", "native_group_norm")
def group_norm(inference: Inference, node: Node, x: Value, *args: Any) -> Any:
    """Groups move as blocks, channels within their group."""
    inference.note(EPS)
    if node.op == "native_group_norm":
        weight, bias, groups = args[0], args[1], args[5]
    else:
        groups, weight, bias = (*args, None, None)[:3]
    channel = x.axes[1]
    inference.rigid(*x.axes)
    inference.independent([axis for axis in x.axes if axis is not channel], [channel, *x.axes[2:]])
    inference.independent([channel], x.axes[2:])
    if 1 < groups < channel.size:
        outer, inner = inference.factor(channel, [groups, channel.size // groups])
        inference.independent([outer], [inner])
        inference.hint(outer, "groups")
    out = channel.sibling()
    if groups == 1 or groups == channel.size:
        out = _affine(inference, channel, _first(weight), _first(bias))
    else:  # gain and bias may be rescaled channel by channel; a scale of a whole group is the same thing again
        parts = [inference.factor(v.axes[0], [groups, channel.size // groups]) for v in (weight, bias) if v is not None]
        g, c = inference.factor(channel, [groups, channel.size // groups])
        g_out, c_out = g.sibling(), c.sibling()
        inference.rigid(g_out)
        inference.units(g, g_out)
        inference.units(c, c_out)
        for one, two in parts:
            inference.same(g_out, one)
            inference.same(c_out, two)
        if not parts:
            inference.rigid(c_out)
        out = Axis.product([g_out, c_out])
    value = Value([x.axes[0], out, *x.axes[2:]])
    return [value, None, None] if node.op.startswith("native") else value


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "safe_softmax", "_safe_softmax", "special_softmax")
def softmax(inference: Inference, node: Node, x: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """Permutations alone; those of other axes are the same for all entries of the normalised one."""
    chosen = x.axes[dim]
    inference.independent([axis for axis in x.axes if axis is not chosen], [chosen])
    return pointwise(inference, node, [x])


@rule("sum", "mean", "nansum")
def total(inference: Inference, node: Node, x: Value, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Value:
    """Sums allow permutations; a sum of squares allows orthogonal maps."""
    dims = dims_of(dim if isinstance(dim, int | list | tuple) else None, len(x.axes))
    out = reduce(inference, node, x, dims, keepdim)
    source = x.square_of
    if source is None:
        inference.rigid(*(x.axes[d] for d in dims))
        return out
    for d, axis in enumerate(source.axes):
        if d in dims:
            inference.norm(axis)
        else:
            inference.scales((x.axes[d], 1), (axis, -2))
            inference.signs((x.axes[d], 1))
            inference.units(x.axes[d], axis)
    return out


@rule("linalg_vector_norm", "norm", "frobenius_norm")
def vector_norm(
    inference: Inference, node: Node, x: Value, order: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Value:
    """The Euclidean norm allows orthogonal maps, others permutations and signs; that of order 0 counts."""
    dims = dims_of(dim, len(x.axes))
    if number(order) == 0:
        inference.rigid(*x.axes)
        return reduce(inference, node, x, dims, keepdim)
    for d, axis in enumerate(x.axes):
        if d in dims and number(order) in {None, 2.0}:
            inference.norm(axis)
        elif d in dims:
            inference.scales((axis, 1))
    out = reduce(inference, node, x, dims, keepdim)
    return Value([absolute(inference, axis) if axis in x.axes else axis for axis in out.axes])


@rule("amax", "amin", "max", "min", "max.dim", "min.dim")
def extreme(inference: Inference, node: Node, x: Value, dim: Any = None, keepdim: bool = False) -> Any:
    """Permutations of what is reduced; positive scales of the rest."""
    if isinstance(dim, Value):
        raise NotImplementedError("the larger of two tensors by this name")
    dims = dims_of(dim, len(x.axes))
    inference.rigid(*(x.axes[d] for d in dims))
    for axis in x.axes:
        inference.signs((axis, 1))
    out = reduce(inference, node, x, dims, keepdim)
    if not (node.shape and isinstance(node.shape[0], tuple)):
        return out
    inference.fix(x.axes[dims[0]], f"single entries are taken by {inference.place(node)}")
    return [out, _places(inference, out.axes)]


@rule("var", "std", "var_mean", "std_mean", "logsumexp", "prod", "any", "all", "argmax", "argmin")
def reduction(inference: Inference, node: Node, x: Value, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Permutations alone."""
    dims = dims_of(dim if isinstance(dim, int | list | tuple) and not isinstance(dim, bool) else None, len(x.axes))
    inference.rigid(*x.axes)
    keepdim = kwargs.get("keepdim", bool(args and args[-1] is True))
    out = reduce(inference, node, x, dims, keepdim)
    if node.op in {"argmax", "argmin"} and len(dims) == 1:
        out.points = x.axes[dims[0]]
    elif node.op in {"argmax", "argmin"}:
        inference.freeze(x, dims, f"entries are numbered one after the other by {inference.place(node)}")
    return [out, Value(list(out.axes))] if node.op.endswith("_mean") else out


@rule("cumsum", "cumprod", "cummax", "logcumsumexp")
def cumulative(inference: Inference, node: Node, x: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """The order of the axis matters: it is fixed."""
    inference.freeze(x, [dim % len(x.axes)], f"the order matters in {inference.place(node)}")
    if node.op != "cumsum":
        return pointwise(inference, node, [x])
    return Value(list(x.axes))


@rule(
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d",
    "upsample_linear1d", "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "max_pool1d_with_indices", "upsample_nearest2d_vec", "lp_pool2d",
)  # fmt: skip
def pooling(inference: Inference, node: Node, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Positions are fixed; averages are linear in the channels, maxima homogeneous."""
    several = bool(node.shape) and isinstance(node.shape[0], tuple)
    shape = node.shape[0] if several else node.shape
    count = int(next(c for c in node.op if c in "123"))
    kept = len(x.axes) - count
    inference.freeze(x, range(kept, len(x.axes)), "positions")
    if "max" in node.op or "lp" in node.op:
        for axis in x.axes[:kept]:
            inference.signs((axis, 1))
    positions = [inference.fixed_axis(n, "positions") for n in shape[kept:]]
    value = Value([*x.axes[:kept], *positions])
    return [value, _places(inference, value.axes)] if several else value


def _places(inference: Inference, axes: Sequence[Axis]) -> Value:
    """Integers that say where extreme entries were: they are permuted with these, and keep their values."""
    found = [axis.sibling() for axis in axes]
    for axis, other in zip(found, axes, strict=True):
        inference.units(axis, other)
    inference.rigid(*found)
    return Value(found)
