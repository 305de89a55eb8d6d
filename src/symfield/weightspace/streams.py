"""Streams: values of a graph that are linked by additions and moves of entries, with what writes and what reads them.

A *place* is a value and one of its axes. A *stream* is a set of places such that the centring C = 1 − 11ᵀ/d along the
axis may be pushed from every place of it to what writes into it:

    C (u + v) = C u + C v,    C (W y + b) = (C W) y + C b,

through additions, multiplications by what is the same for all units, and operators that only move entries along other
axes. It ends at *writers*, tensors of the model whose axis can be centred, and all that reads it should be a layer norm
along that axis, which cannot tell u from C u. Whatever else reads or writes it is *trouble*, and is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

from symfield.weightspace.graph import Node, ParameterGraph

__all__ = ["Place", "Read", "Stream", "Write", "origin", "reads_of", "sources", "stream_of"]

Place: TypeAlias = tuple[Node, int]
"""A value and one of its axes."""

_MOVES = frozenset(
    {
        "alias", "clone", "contiguous", "detach", "dropout", "expand", "feature_dropout", "getitem", "index",
        "index_select", "permute", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t",
        "to", "_to_copy", "transpose", "unbind", "unsafe_split", "unsqueeze", "view", "_unsafe_view", "flatten",
        "unflatten", "chunk", "lift_fresh_copy",
    }
)  # fmt: skip
_VIEWS = frozenset({"view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze"})
_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})


@dataclass(frozen=True)
class Write:
    """A tensor that writes into a stream.

    Attributes:
        node: the operator that uses it.
        tensor: its name.
        axis: its axis that runs over the stream's units.
    """

    node: Node
    tensor: str
    axis: int


@dataclass(frozen=True)
class Read:
    """A linear map that reads a norm.

    Attributes:
        node: the operator.
        tensor: name of the weight.
        axis: its axis that runs over the stream's units.
        bias: name of the bias, None if there is none.
        padded: whether the map also reads zeros beside the values, which have no bias of the norm in them.
    """

    node: Node
    tensor: str
    axis: int
    bias: str | None
    padded: bool = False


@dataclass
class Stream:
    """Places that are centred together.

    Attributes:
        places: values with their axis.
        norms: layer norms that read them.
        writes: tensors that write into them.
        trouble: why the stream cannot be centred; None if it can.
    """

    places: set[Place] = field(default_factory=set)
    norms: list[Node] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    trouble: str | None = None


def stream_of(graph: ParameterGraph, norm: Node) -> Stream:
    """The stream that a layer norm reads.

    Args:
        graph: whose node it is.
        norm: a ``layer_norm`` along one axis.

    Returns:
        All places that must be centred with its input.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from symfield.weightspace import trace
        >>> graph = trace(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), torch.zeros(5, 3))
        >>> found = stream_of(graph, next(node for node in graph.nodes if node.op == "layer_norm"))
        >>> [(write.tensor, write.axis) for write in found.writes], found.trouble
        ([('0.weight', 0), ('0.bias', 0)], None)
    """
    x = norm.args[0]
    stream = Stream()
    waiting: list[Place] = [(x, len(x.shape) - 1)]
    while waiting:
        place = waiting.pop()
        if place in stream.places:
            continue
        stream.places.add(place)
        node, dim = place
        before = sources(node, dim)
        if before is not None:
            waiting += before
        else:
            found = _writes(node, dim)
            if found is None:
                stream.trouble = stream.trouble or f"{_called(node)} writes into what it reads, and cannot be centred"
            else:
                stream.writes += found
        if node in graph.outputs:
            stream.trouble = stream.trouble or "the model returns what it reads"
        for user in node.users:
            if _normalises(user, place):
                if user not in stream.norms:
                    stream.norms.append(user)
            elif after := [(user, k) for k in range(len(_shape(user))) if place in (sources(user, k) or ())]:
                waiting += after
            else:
                stream.trouble = stream.trouble or f"{_called(user)} reads it too, beside its norms"
    return stream


def sources(node: Node, dim: int) -> list[Place] | None:
    """The places whose centring centres this one.

    Args:
        node: a value.
        dim: its axis.

    Returns:
        Places among the node's arguments; None if the operator treats units in different ways, or mixes them.
    """
    size, ndim = _shape(node)[dim], len(_shape(node))
    if node.op in {"add", "sub"}:
        parts = [_aligned(item, dim - ndim, size) for item in node.args[:2]]
        return None if None in parts else [part for part in parts if part is not None]
    if node.op in {"mul", "div"}:
        one, two = node.args[:2]
        for x, factor in ((one, two), (two, one)):
            place = _aligned(x, dim - ndim, size)
            if place is not None and _is_same_for_all(factor, dim - ndim):
                return [place] if node.op == "mul" or x is one else None
        return None
    if node.op in {"cat", "stack"}:
        along = (node.args[1] if len(node.args) > 1 else 0) % ndim
        shift = int(node.op == "stack" and dim > along)
        return None if along == dim else [(part, dim - shift) for part in node.args[0]]
    if node.op in {"mean", "sum"}:
        return _reduced(node, dim)
    if node.op in _MOVES:
        place = _moved(node, dim)
        return None if place is None or _shape(place[0])[place[1]] != size else [place]
    return None


def origin(item: object) -> tuple[str, tuple[int, ...]] | None:
    """The tensor of the model that a value is, but for the order of its axes.

    Args:
        item: an argument of an operator.

    Returns:
        Its name, and for every axis of the value that of the tensor; None if it is none.
    """
    if not isinstance(item, Node):
        return None
    if item.op == "tensor":
        return item.args[0], tuple(range(len(item.shape)))
    if item.op in {"t", "transpose", "permute", "clone", "detach", "contiguous", "alias"}:
        inner = origin(item.args[0])
        places = [_moved(item, k) for k in range(len(item.shape))]
        if inner is not None and None not in places:
            return inner[0], tuple(inner[1][place[1]] for place in places if place is not None)
    return None


def reads_of(norm: Node, outputs: Sequence[Node]) -> tuple[list[Read], str | None]:
    """The linear maps that read a norm.

    Args:
        norm: a value that is normalised along its last axis.
        outputs: of the graph.

    Returns:
        The maps, and why they are not all that reads it, None if they are.
    """
    reads: list[Read] = []
    waiting: list[Place] = [(norm, len(norm.shape) - 1)]
    seen: set[Place] = set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        if place[0] in outputs:
            return reads, "the model returns what it gives"
        for user in place[0].users:
            read = _read(user, place)
            if read is not None:
                reads.append(read)
                continue
            onward = [
                (user, k) for k in range(len(_shape(user))) if user.op in _MOVES and place in (sources(user, k) or ())
            ]
            if not onward:
                return reads, f"{_called(user)} reads what it gives, and is no linear map of it by a whole tensor"
            waiting += onward
    return reads, None


def _read(node: Node, place: Place) -> Read | None:
    """The node as a linear map that contracts the axis with a tensor of the model."""
    x, dim = place
    last = dim == len(_shape(x)) - 1
    weight: object
    bias: object = None
    padded = False
    if node.op == "linear" and node.args[0] is x and last:
        weight, axis, bias = node.args[1], 1, node.args[2] if len(node.args) > 2 else None
    elif node.op == "addmm" and node.args[1] is x and last and not node.kwargs:
        bias, weight, axis = node.args[0], node.args[2], 0
    elif node.op in {"mm", "matmul"} and node.args[0] is x and last:
        weight, axis = node.args[1], 0
    elif node.op in _CONVOLUTIONS and node.args[0] is x and dim == _channel(node) and _groups(node) == 1:
        weight, axis, bias = node.args[1], 1, node.args[2] if len(node.args) > 2 else None
        padding: Any = node.args[4] if len(node.args) > 4 else [0]
        padded = padding != "valid" and any(padding)
    else:
        return None
    found, offset = origin(weight), origin(bias)
    if found is None or (bias is not None and (offset is None or len(offset[1]) != 1)):
        return None
    if node.op in {"addmm", "mm", "matmul"} and len(found[1]) != 2:
        return None
    return Read(node, found[0], found[1][axis], None if offset is None else offset[0], padded)


def _writes(node: Node, dim: int) -> list[Write] | None:
    """The tensors to be centred if the node makes its values by a linear map, or is one."""
    last = dim == len(_shape(node)) - 1
    places: list[tuple[object, int]]
    if node.op == "tensor":
        places = [(node, dim)]
    elif node.op == "constant" and node.value is not None and node.value.is_floating_point():
        value = node.value.double()
        even = value.mean(dim).abs().max() <= 1e-12 * value.abs().max() if value.numel() else True
        return [] if bool(even) else None
    elif node.op == "linear" and last:
        places = [(node.args[1], 0), *((item, 0) for item in node.args[2:3])]
    elif node.op == "addmm" and last and not node.kwargs:
        places = [(node.args[2], 1), (node.args[0], -1)]
    elif node.op in {"mm", "matmul"} and last:
        places = [(node.args[1], 1)]
    elif node.op == "embedding" and last:
        places = [(node.args[0], 1)]
    elif node.op in _CONVOLUTIONS and dim == _channel(node) and _groups(node) == 1:
        places = [(node.args[1], 0), *((item, 0) for item in node.args[2:3])]
    else:
        return None
    found = []
    for item, axis in places:
        if item is None:
            continue
        home = origin(item)
        if home is None or not -len(home[1]) <= axis < len(home[1]):
            return None
        if node.op in {"mm", "matmul"} and len(home[1]) != 2:
            return None
        found.append(Write(node, home[0], home[1][axis]))
    return found


def _normalises(node: Node, place: Place) -> bool:
    x, dim = place
    return (
        node.op == "layer_norm"
        and node.args[0] is x
        and x not in node.args[1:]
        and len(node.args[1]) == 1
        and dim == len(_shape(x)) - 1
    )


def _channel(node: Node) -> int:
    """Axis of the channels, also where there is no batch."""
    return len(_shape(node)) - 1 - int(node.op[4])


def _groups(node: Node) -> int:
    return int(node.args[6]) if len(node.args) > 6 else int(node.kwargs.get("groups", 1))


def _aligned(item: object, dim: int, size: int) -> Place | None:
    """An operand's axis, counted from the last one, where it has the full size."""
    if not isinstance(item, Node) or len(_shape(item)) < -dim or _shape(item)[dim] != size:
        return None
    return item, len(_shape(item)) + dim


def _is_same_for_all(item: object, dim: int) -> bool:
    """Whether a factor is one number for all units of the axis, counted from the last one."""
    return not isinstance(item, Node) or len(_shape(item)) < -dim or _shape(item)[dim] == 1


def _reduced(node: Node, dim: int) -> list[Place] | None:
    x = node.args[0]
    ndim = len(_shape(x))
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if given is None:
        return None
    gone = {d % ndim for d in ([given] if isinstance(given, int) else given)} or set(range(ndim))
    kept = [d for d in range(ndim) if d not in gone]
    keepdim = (node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)) is True
    if keepdim:
        return None if dim in gone else [(x, dim)]
    return [(x, kept[dim])]


def _moved(node: Node, dim: int) -> Place | None:
    """Where the entries along an axis come from, for operators that only move entries."""
    x = node.args[0]
    if not isinstance(x, Node):
        return None
    before, after = _shape(x), _shape(node)
    ndim = len(before)
    arg = node.args[1] if len(node.args) > 1 else None
    if node.op in _VIEWS:
        tail = prod(after[dim + 1 :])
        return next(((x, j) for j in range(ndim) if before[j] == after[dim] and prod(before[j + 1 :]) == tail), None)
    if node.op == "t":
        return x, ndim - 1 - dim
    if node.op == "transpose":
        one, two = (d % ndim for d in node.args[1:3])
        return x, {one: two, two: one}.get(dim, dim)
    if node.op == "permute":
        return x, arg[dim] % ndim  # type: ignore[index]
    if node.op in {"expand", "index"}:
        j = ndim - (len(after) - dim)
        if j < 0 or (node.op == "index" and any(item is not None for item in arg[j:])):  # type: ignore[index]
            return None
        return x, j
    if node.op in {"select", "unbind"}:
        along = (arg or 0) % ndim
        return x, dim + int(dim >= along)
    if node.op == "index_select":
        return None if arg % ndim == dim else (x, dim)  # type: ignore[operator]
    if node.op in {"split", "split_with_sizes", "unsafe_split", "chunk"}:
        along = (node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % ndim
        return None if along == dim else (x, dim)
    return x, dim


def _shape(node: Node) -> tuple[int, ...]:
    """Shape of a value, or of the first where there are several."""
    shape = node.shape
    return next(item for item in shape if item is not None) if shape and isinstance(shape[0], tuple) else shape


def _called(node: Node) -> str:
    if node.op in {"input", "constant"}:
        return f"a model {node.op}"
    return f"{node.op}{f' in {node.module}' if node.module else ''}"
