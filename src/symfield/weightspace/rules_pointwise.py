"""Rules for operators that act entry by entry: activations, sums, products, comparisons."""

from __future__ import annotations

from typing import Any

import torch

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Uniform, Value
from symfield.weightspace.rulebook import RULES, absolute, aligned, number, pointwise, rule, tie

__all__: list[str] = []


@rule(
    "alias", "clone", "contiguous", "detach", "dropout", "native_dropout", "feature_dropout", "alpha_dropout",
    "lift_fresh_copy", "to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "real", "conj",
    "resolve_conj", "resolve_neg", "positive", "identity", "_conj",
    on_data=True, uniform=True, enumerated=True, pointers=True,
)  # fmt: skip
def identity(inference: Inference, node: Node, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Nothing happens, but perhaps to the dtype."""
    return [x, None] if node.op == "native_dropout" else x


@rule("neg", "negative")
def negate(inference: Inference, node: Node, x: Value) -> Value:
    """Linear, with any gauge."""
    return x


@rule("relu", "leaky_relu", "prelu_kernel", "threshold", "threshold_backward")
def positively_homogeneous(inference: Inference, node: Node, x: Value, *args: Any, **kwargs: Any) -> Value:
    """f(r x) = r f(x) for r > 0."""
    if node.op == "threshold" and any(number(a) != 0 for a in args):
        return pointwise(inference, node, [x])
    for axis in x.axes:
        inference.signs((axis, 1))
    return x


@rule("tanh", "sin", "asin", "atan", "erf", "sinh", "asinh", "atanh", "tan", "hardshrink", "softshrink", "erfinv")
def odd(inference: Inference, node: Node, x: Value, *args: Any) -> Value:
    """f(-x) = -f(x)."""
    for axis in x.axes:
        inference.scales((axis, 1))
    return x


@rule("abs")
def magnitude(inference: Inference, node: Node, x: Value) -> Value:
    """Positive scales pass, and signs of what enters are lost."""
    return Value([absolute(inference, axis) for axis in x.axes], copies=x.copies)


@rule("cos", "cosh")
def even(inference: Inference, node: Node, x: Value) -> Value:
    """f(-x) = f(x): signs of what enters are lost."""
    axes = [axis.sibling() for axis in x.axes]
    for out, axis in zip(axes, x.axes, strict=True):
        inference.units(out, axis)
        inference.rigid(out)
        inference.scales((axis, 1))
    return Value(axes, copies=x.copies)


@rule("hardtanh")
def hardtanh(inference: Inference, node: Node, x: Value, low: float = -1, high: float = 1) -> Value:
    """Odd where the limits are symmetric."""
    return odd(inference, node, x) if low == -high else pointwise(inference, node, [x])


@rule("clamp", "clamp_min", "clamp_max", "clip")
def clamp(inference: Inference, node: Node, x: Value, low: Any = None, high: Any = None, **kwargs: Any) -> Value:
    """relu and its mirror image are homogeneous, symmetric limits are odd."""
    if node.op == "clamp_max":
        low, high = None, low
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    limits = (None if low is None else number(low), None if high is None else number(high))
    if any(isinstance(item, Value) for item in (low, high)):
        return pointwise(inference, node, [x, *(item for item in (low, high) if isinstance(item, Value))])
    if limits in {(0.0, None), (None, 0.0)}:
        return positively_homogeneous(inference, node, x)
    if None not in limits and limits[0] == -limits[1]:  # type: ignore[operator]
        return odd(inference, node, x)
    return pointwise(inference, node, [x])


@rule(
    "gelu", "silu", "sigmoid", "exp", "expm1", "log", "log1p", "log2", "log10", "softplus", "mish", "hardswish",
    "hardsigmoid", "elu", "selu", "celu", "relu6", "rrelu", "log_sigmoid", "acos", "floor", "ceil",
    "round", "trunc", "erfc", "lgamma", "digamma", "nan_to_num", "isnan", "isinf", "isfinite", "logical_not",
    "bitwise_not", "frac", "sgn", "sign", "logit", "exp2", "xlogy", "atan2", "fmod", "remainder", "logaddexp",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_xor", "floor_divide", "squared_relu",
)  # fmt: skip
def nonlinear(inference: Inference, node: Node, *args: Any, **kwargs: Any) -> Value:
    """No scale and no sign passes, only permutations."""
    return pointwise(inference, node, [item for item in args if isinstance(item, Value)])


@rule("sqrt", "rsqrt", "reciprocal")
def power_of_positive(inference: Inference, node: Node, x: Value) -> Value:
    """Scales pass to the power 1/2, -1/2 and -1, signs through the last alone."""
    p, q = {"sqrt": (1, 2), "rsqrt": (-1, 2), "reciprocal": (-1, 1)}[node.op]
    axes = []
    for axis in x.axes:
        out = axis.sibling()
        inference.scales((out, q), (axis, -p))
        if node.op == "reciprocal":
            inference.signs((out, 1), (axis, -1))
        else:
            inference.signs((out, 1))
            inference.signs((axis, 1))
        axes.append(out)
    return Value(axes)


def _power(inference: Inference, x: Value, k: int) -> Value:
    axes = []
    for axis in x.axes:
        out = axis.sibling()
        inference.scales((out, 1), (axis, -k))
        inference.signs((out, 1), (axis, -k))
        axes.append(out)
    return Value(axes)


@rule("pow", "square")
def power(inference: Inference, node: Node, x: Any, exponent: Any = 2.0) -> Value:
    """Whole powers pass scales and signs to that power; squares that are only summed are left to the sum."""
    k = number(exponent)
    if not isinstance(x, Value) or k is None or k != int(k):
        return pointwise(inference, node, [item for item in (x, exponent) if isinstance(item, Value)])
    if k == 2 and node.users and all(user.op in {"mean", "sum"} for user in node.users):
        return Value([axis.sibling() for axis in x.axes], square_of=x)
    return _power(inference, x, int(k))


@rule("add", "sub", "rsub", on_data=True, uniform=True)
def add(inference: Inference, node: Node, x: Any, y: Any, alpha: Any = 1) -> Value:
    """Both sides move alike; a side that is constant along an axis leaves permutations alone there."""
    for one, other in ((x, y), (y, x)):
        if number(one) == 0 and isinstance(other, Value) and other.shape == node.shape:
            return other
    values = [inference.materialise(item) for item in (x, y) if isinstance(item, Value | Uniform)]
    if len(values) == 1:
        return pointwise(inference, node, values)
    rows = aligned(inference, node, values)
    return Value([tie(inference, row, size) for row, size in zip(rows, node.shape, strict=True)])


@rule("mul", "div", "multiply", "divide", on_data=True, uniform=True)
def multiply(inference: Inference, node: Node, x: Any, y: Any, **kwargs: Any) -> Value:
    """Gauges multiply; numbers change nothing; a vector of parameters is a gain."""
    if kwargs.get("rounding_mode"):
        return pointwise(inference, node, [inference.materialise(v) for v in (x, y) if isinstance(v, Value | Uniform)])
    for one, other in ((x, y), (y, x)):
        plain = number(one) is not None and not (node.op == "div" and one is x)
        if plain and isinstance(other, Value) and other.shape == node.shape:
            return other
    if not isinstance(x, Value | Uniform):
        return power_of_positive(inference, Node(node.name, "reciprocal", shape=node.shape), y)
    if not isinstance(y, Value | Uniform):
        return inference.materialise(x)
    a, b = inference.materialise(x), inference.materialise(y)
    if a is b and node.op == "mul":
        return _power(inference, a, 2)
    axes = []
    divides = node.op.startswith("div")
    rows = aligned(inference, node, [a, b])
    for row, size in zip(rows, node.shape, strict=True):
        one, two = row
        if one is not None and two is not None:
            if b.tensor and not a.tensor and not divides:
                axes.append(inference.gain(one, two, b.tensor))
            elif a.tensor and not b.tensor and not divides:
                axes.append(inference.gain(two, one, a.tensor))
            else:
                out = one.sibling()
                inference.units(out, one)
                inference.units(one, two)
                if any(len(v.axes) == 1 < len(node.shape) and not v.known for v in (a, b)):
                    inference.constraints.computed.append(one)
                k = -1 if divides else 1
                inference.scales((out, 1), (one, -1), (two, -k))
                inference.signs((out, 1), (one, -1), (two, -k))
                axes.append(out)
        elif two is not None and divides:
            out = two.sibling()
            inference.units(out, two)
            inference.scales((out, 1), (two, 1))
            inference.signs((out, 1), (two, 1))
            axes.append(out)
        else:
            kept = one if one is not None else two
            axes.append(kept if kept is not None else tie(inference, row, size))
    return Value(axes)


@rule("maximum", "minimum", "max.other", "min.other")
def extremum(inference: Inference, node: Node, x: Value, y: Value) -> Value:
    """Both sides move alike, by permutations and positive scales."""
    rows = aligned(inference, node, [x, y])
    axes = [tie(inference, row, size) for row, size in zip(rows, node.shape, strict=True)]
    for axis in axes:
        inference.signs((axis, 1))
    return Value(axes)


@rule("where", "masked_fill", on_data=True, uniform=True)
def choose(inference: Inference, node: Node, *args: Any) -> Value:
    """Either side, entry by entry: they move alike; numbers other than zero are constants."""
    condition, x, y = args if node.op == "where" else (args[1], args[2], args[0])
    values = [inference.materialise(condition)]
    for item in (x, y):
        fill = number(item)
        values.append(Value([]) if fill is not None else inference.materialise(item))
    rows = aligned(inference, node, values)
    axes = []
    for (mask, *sides), size in zip(rows, node.shape, strict=True):
        there = [side for side, item in zip(sides, (x, y), strict=True) if number(item) != 0]
        if mask is not None:
            inference.rigid(mask)
        if mask is not None and all(side is None for side in there):
            axes.append(mask)
            continue
        axes.append(tie(inference, there, size))
        if mask is not None:
            inference.units(mask, axes[-1])
    return Value(axes)


@rule("addcmul", "addcdiv")
def add_product(inference: Inference, node: Node, x: Value, y: Value, z: Value, *args: Any, **kwargs: Any) -> Value:
    """x + c y z, or x + c y / z."""
    shape = tuple(torch.broadcast_shapes(y.shape, z.shape))
    times = multiply(inference, Node(node.name, "div" if node.op == "addcdiv" else "mul", shape=shape), y, z)
    return add(inference, node, x, times)


@rule("lerp")
def interpolated(inference: Inference, node: Node, x: Value, y: Value, weight: Any) -> Value:
    """x + w (y - x)."""
    step = add(inference, Node(node.name, "sub", shape=tuple(torch.broadcast_shapes(x.shape, y.shape))), y, x)
    if isinstance(weight, Value):
        shape = tuple(torch.broadcast_shapes(weight.shape, step.shape))
        step = multiply(inference, Node(node.name, "mul", shape=shape), step, weight)
    return add(inference, node, x, step)


@rule("prelu")
def prelu(inference: Inference, node: Node, x: Value, weight: Value) -> Value:
    """Homogeneous; a slope for each channel moves with it."""
    for axis in x.axes:
        inference.signs((axis, 1))
    slope = weight.axes[0]
    inference.rigid(slope)
    if slope.size == 1:
        return x
    inference.units(slope, x.axes[1])
    return Value(list(x.axes))


@rule("glu")
def glu(inference: Inference, node: Node, x: Value, dim: int = -1) -> Value:
    """a σ(b) for the two halves of an axis."""
    dim = dim % len(x.axes)
    half = x.axes[dim].size // 2
    a, b = x.axes[dim].cut([half, half])
    inference.rigid(b)
    inference.units(a, b)
    return Value([*x.axes[:dim], a, *x.axes[dim + 1 :]])


assert {"relu", "tanh", "add", "mul"} <= RULES.keys()
