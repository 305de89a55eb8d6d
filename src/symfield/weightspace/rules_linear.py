"""Rules for sums over products: linear maps, matrix products, einsum, convolutions, embeddings, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Inference, Value
from symfield.weightspace.rulebook import contract, rule, tie
from symfield.weightspace.spaces import Axis, leaves

__all__: list[str] = []


def _labels(count: int, prefix: str = "n") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def _plus(inference: Inference, out: Value, bias: Value | None) -> Value:
    """A bias along the last axis."""
    if bias is not None and bias.axes:
        if bias.axes[-1].size == out.axes[-1].size:
            inference.same(out.axes[-1], bias.axes[-1])
        else:
            inference.fix(bias.axes[-1], "broadcast along this axis")
            inference.rigid(out.axes[-1])
        for axis in out.axes[:-1]:
            inference.rigid(axis)
    return out


@rule("linear")
def linear(inference: Inference, node: Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """y = x Wᵀ + b."""
    batch = _labels(len(x.axes) - 1)
    return _plus(inference, contract(inference, [(x, [*batch, "i"]), (weight, ["o", "i"])], [*batch, "o"]), bias)


@rule("matmul", "mm", "bmm", "mv", "dot", "inner", "outer", "ger", "linalg_matmul")
def matmul(inference: Inference, node: Node, a: Value, b: Value) -> Value:
    """Batched matrix products, vectors included."""
    if node.op in {"outer", "ger"}:
        return contract(inference, [(a, ["i"]), (b, ["j"])], ["i", "j"])
    if node.op == "inner" and len(b.axes) > 1:
        raise NotImplementedError("inner of matrices")
    batch = _labels(max(len(a.axes), len(b.axes)) - 2)
    left = ["i"] if len(a.axes) == 1 else [*batch[len(batch) - len(a.axes) + 2 :], "l", "i"]
    right = ["i"] if len(b.axes) == 1 else [*batch[len(batch) - len(b.axes) + 2 :], "i", "r"]
    out = [*batch, *(["l"] if len(a.axes) > 1 else []), *(["r"] if len(b.axes) > 1 else [])]
    return contract(inference, [(a, left), (b, right)], out)


@rule("addmm", "baddbmm", "addbmm", "addmv")
def addmm(inference: Inference, node: Node, bias: Value, a: Value, b: Value, **kwargs: Any) -> Value:
    """A matrix product plus something that is broadcast."""
    out = matmul(inference, Node(node.name, "matmul", shape=node.shape), a, b)
    if node.op == "addbmm":
        raise NotImplementedError("addbmm")
    axes = []
    for k, (axis, size) in enumerate(zip(out.axes, node.shape, strict=True)):
        place = k - len(out.axes) + len(bias.axes)
        other = bias.axes[place] if place >= 0 else None
        if other is not None and other.size != size:
            inference.fix(other, "broadcast along this axis")
            other = None
        axes.append(tie(inference, [axis, other], size))
    return Value(axes)


@rule("einsum")
def einsum(inference: Inference, node: Node, equation: str, operands: Sequence[Value], **kwargs: Any) -> Value:
    """Any einsum without repeated indices in one operand."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    pairs = list(zip(operands, terms, strict=True))
    dots = max([len(v.axes) - len(t.replace("...", "")) for v, t in pairs if "..." in t] + [0])
    if not arrow:
        letters = [c for c in left if c.isalpha()]
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))

    def labels(term: str, ndim: int) -> list[str]:
        before, found, after = term.partition("...")
        count = ndim - len(before) - len(after)
        return [*before, *(_labels(dots)[dots - count :] if found else []), *after]

    labelled = [(value, labels(term, len(value.axes))) for value, term in pairs]
    return contract(inference, labelled, labels(right, len(node.shape)))


@rule("bilinear")
def bilinear(inference: Inference, node: Node, a: Value, b: Value, weight: Value, bias: Value | None = None) -> Value:
    """y_o = Σ_ij a_i W_oij b_j + c_o."""
    batch = _labels(len(a.axes) - 1)
    pairs = [(a, [*batch, "i"]), (weight, ["o", "i", "j"]), (b, [*batch, "j"])]
    return _plus(inference, contract(inference, pairs, [*batch, "o"]), bias)


@rule("embedding", "embedding_bag", pointers=True)
def embedding(inference: Inference, node: Node, weight: Value, indices: Any, *args: Any, **kwargs: Any) -> Any:
    """Rows chosen by integers: the rows are fixed, the channels go on."""
    table, channels = weight.axes
    if node.op == "embedding_bag":
        raise NotImplementedError("embedding_bag")
    if indices.points is not None:
        inference.same(indices.points, table)
        inference.rigid(table)
        inference.carry(indices.axes, table)
    else:
        inference.independent([channels], [table])
        inference.fix(table, "rows are chosen by integer inputs")
    return Value([*indices.axes, channels])


@rule("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def convolution(
    inference: Inference, node: Node, x: Value, weight: Value, bias: Value | None = None, *args: Any, **kwargs: Any
) -> Value:
    """Channels are contracted group by group; positions and kernels are fixed.

    With groups, inputs are (g, c), outputs (g, o) and the weight (g, o), c (transposed: (g, c), o): groups move as
    blocks, and channels within their group. Where a group has one channel, its scale is that of the group.
    """
    if node.op == "convolution":
        transposed, groups = args[3], args[5]
    else:
        transposed = node.op.startswith("conv_transpose")
        groups = kwargs.get("groups", args[3] if len(args) > 3 else 1)
    ndim = len(weight.axes) - 2
    batch, channel, space = x.axes[: -ndim - 1], x.axes[-ndim - 1], x.axes[-ndim:]
    inference.freeze(x, range(len(x.axes) - ndim, len(x.axes)), "positions of a convolution")
    inference.freeze(weight, range(2, ndim + 2), "positions in the kernel of a convolution")
    outer, inner = (weight.axes[1], weight.axes[0]) if transposed else (weight.axes[0], weight.axes[1])
    inference.independent([*batch, outer], space)
    inference.independent(batch, [channel])
    if groups == 1:
        inference.independent([outer], [channel])
        inference.dual(channel, inner)
        out = outer
    else:
        out = _grouped(inference, channel, weight, groups, transposed)
    if bias is not None:
        inference.same(out, bias.axes[0])
    for axis in batch:
        inference.rigid(axis)
    positions = [inference.fixed_axis(n, "positions of a convolution") for n in node.shape[-ndim:]]
    return Value([*batch, out, *positions])


def _grouped(inference: Inference, channel: Axis, weight: Value, groups: int, transposed: bool) -> Axis:
    per_in = channel.size // groups
    per_out = weight.axes[1].size if transposed else weight.axes[0].size // groups

    def parts(axis: Axis, each: int) -> tuple[Axis, Axis | None]:
        if each == 1:
            return axis, None
        outer, inner = inference.factor(axis, [groups, each])
        return outer, inner

    g_x, c_x = parts(channel, per_in)
    if transposed:
        g_w, c_w = parts(weight.axes[0], per_in)
        o_w: Axis | None = weight.axes[1] if per_out > 1 else None
    else:
        g_w, o_w = parts(weight.axes[0], per_out)
        c_w = weight.axes[1] if per_in > 1 else None
    if (per_out if transposed else per_in) == 1:
        inference.rigid(weight.axes[1])
    inference.units(g_x, g_w)
    if c_x is not None and c_w is not None:
        inference.hint(g_x, "groups")
        inference.dual(c_x, c_w)
        inference.rigid(g_x)
        inference.independent([g_x, *([o_w] if o_w is not None else [])], [c_x])
    if c_x is not None and o_w is None:
        return g_w
    g_out = g_w.sibling()
    if o_w is None:  # depthwise: one channel in, one out
        inference.product(g_out, g_x, g_w)
        return g_out
    inference.units(g_out, g_w)
    inference.rigid(g_out)
    if c_x is None:  # the scale of the one input channel is undone by the weight
        inference.scales((g_x, 1), (g_w, 1))
        inference.signs((g_x, 1), (g_w, 1))
    else:
        inference.rigid(g_w)
    return Axis.product([g_out, o_w])


@rule("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
def attention(
    inference: Inference, node: Node, q: Value, k: Value, v: Value, mask: Any = None, *args: Any, **kwargs: Any
) -> Value:
    """softmax(q kᵀ + mask) v: g and g^{-T} on the channels of q and k, anything on those of v; heads move as blocks."""
    if node.op.startswith("_"):
        mask = kwargs.get("attn_mask")
    mask = kwargs.get("attn_mask", mask)
    causal = kwargs.get("is_causal", args[1] if len(args) > 1 else False)
    grouped = kwargs.get("enable_gqa", args[3] if len(args) > 3 else False)
    *batch, target, dim_q = q.axes
    *batch_k, source, dim_k = k.axes
    *batch_v, source_v, dim_v = v.axes
    inference.same(source, source_v)
    inference.rigid(source, target)
    if causal:
        inference.fix(source, "causal mask")
        inference.fix(target, "causal mask")
    heads = list(batch)
    if grouped and batch[-1].size != batch_k[-1].size:
        outer, _ = inference.factor(batch[-1], [batch_k[-1].size, batch[-1].size // batch_k[-1].size])
        heads[-1] = outer
    for a, b, c in zip(heads, batch_k, batch_v, strict=True):
        inference.same(a, b)
        inference.same(a, c)
    inference.rigid(*batch, *batch_k, *batch_v)
    inference.dual(dim_q, dim_k)
    inference.independent([*batch, target], [dim_q])
    inference.independent([*batch_k, source], [dim_k])
    inference.independent([*batch, *batch_v, dim_v, dim_q], [source, target])
    if batch:
        outermost, *inner = leaves(batch[-1])
        inference.hint(outermost, "heads")
        for axis in inner:
            inference.hint(axis, "queries")
    inference.hint(dim_q, "qk")
    inference.hint(dim_v, "v")
    if isinstance(mask, Value):
        scores = [*batch, target, source]
        for axis, other in zip(reversed(scores), reversed(mask.axes), strict=False):
            if other.size == axis.size:
                inference.same(axis, other)
                inference.rigid(other)
            else:
                inference.fix(other, "broadcast along this axis")
    out = Value([*batch, target, dim_v])
    return [out, None] if node.op.startswith("_") else out  # type: ignore[return-value]
