"""What folding the layer norms of a graph takes: which norms, which tensors, and what contradicts one another.

Each use of a tensor asks for a value: centred along an axis where it writes into a stream, times a gain and centred
where it reads a norm, as it is elsewhere. Uses that agree keep one tensor; others get two, or a step is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from symfield.typing import Params, Tensor
from symfield.weightspace.graph import Node, ParameterGraph
from symfield.weightspace.streams import Read, Stream, Write, origin, reads_of, stream_of

__all__ = ["Norm", "Plan", "Steps", "path_of"]


@dataclass(frozen=True)
class Norm:
    """A root-mean-square norm that takes the place of a layer norm.

    Attributes:
        shape: of the axis.
        eps: as in the layer norm.
        gain: what stays in it, or None.
        bias: what stays in it, or None.
        reads: names of the weights that took gain and bias.
        stays: why gain and bias stay; empty where they do not.
    """

    shape: tuple[int, ...]
    eps: float
    gain: Tensor | None
    bias: Tensor | None
    reads: tuple[str, ...]
    stays: str


@dataclass
class Steps:
    """What is to be done.

    Attributes:
        norms: new norms by path of the module.
        kept: norms that stay, with reasons.
        values: new values of tensors by name; names that share a value share a tensor.
        untied: names that shared a tensor with another one and no longer do.
        added: names of new biases.
    """

    norms: dict[str, Norm]
    kept: dict[str, str]
    values: dict[str, Tensor]
    untied: tuple[str, ...]
    added: tuple[str, ...]


_Step: TypeAlias = Callable[[Tensor], Tensor]


class _Conflict(Exception):
    """Uses of one tensor ask for different values."""

    def __init__(self, tensor: str, nodes: list[Node]) -> None:
        super().__init__(tensor)
        self.tensor, self.nodes = tensor, nodes


class Plan:
    """The norms of a graph by module, their streams and readers."""

    def __init__(self, graph: ParameterGraph, model: nn.Module) -> None:
        """Find what can be replaced.

        Args:
            graph: of the model.
            model: whose modules hold the norms.
        """
        self.graph, self.model = graph, model
        self.modules = dict(model.named_modules())
        self.calls: dict[str, list[Node]] = {}
        self.kept: dict[str, str] = {}
        for node in graph.nodes:
            if node.op in {"layer_norm", "native_layer_norm"}:
                self.calls.setdefault(path_of(node), []).append(node)
        self.streams: dict[Node, Stream] = {}
        self.reads: dict[str, list[Read]] = {}
        self.stays: dict[str, str] = {}
        for path, nodes in self.calls.items():
            reason = self._replaceable(path, nodes)
            if reason is None:
                for node in nodes:
                    self.streams[node] = self._known(node) or stream_of(graph, node)
                reason = next((s.trouble for s in map(self.streams.get, nodes) if s and s.trouble), None)
            if reason is not None:
                self.kept[path or nodes[0].name] = reason
        self._spread()
        for path in self.folding:
            self.reads[path] = []
            for node in self.calls[path]:
                found, reason = reads_of(node, graph.outputs)
                self.reads[path] += found
                if reason is not None:
                    self.stays[path] = reason
            self._require_shifts(path)

    @property
    def folding(self) -> list[str]:
        """Paths of the norms that are to be replaced."""
        return [path for path in self.calls if path not in self.kept and path]

    def settle(self, state: Params, untie: bool | None) -> Steps:
        """Values of all tensors after the fold; steps that contradict one another are left out.

        Args:
            state: tensors by name, float64.
            untie: whether a tensor may become two, see :func:`symfield.weightspace.fold_norms`.

        Returns:
            The steps.
        """
        while True:
            try:
                return self._values(state, untie)
            except _Conflict as conflict:
                self._give_up(conflict)

    def _known(self, node: Node) -> Stream | None:
        return next((stream for stream in self.streams.values() if node in stream.norms), None)

    def _replaceable(self, path: str, nodes: list[Node]) -> str | None:
        """Why the module cannot be replaced, None if it can."""
        if self.graph.source != "torch.export":
            return "the graph was recorded without modules"
        if path not in self.modules or path == "":
            return "it is not a module of its own; make it one"
        if any(path_of(node) == path and node not in nodes for node in self.graph.nodes if node.op != "tensor"):
            return f"{path} computes more than a norm; make the norm a module of its own"
        for node in nodes:
            if node.op != "layer_norm" or len(node.args[1]) != 1:
                return "it normalises several axes together"
            if any(item is not None and origin(item) is None for item in node.args[2:4]):
                return "its gain or bias is no tensor of the model"
        return None

    def _spread(self) -> None:
        """A stream is centred only if all of its norms can be replaced, and a module only in all of its calls."""
        while True:
            kept = dict(self.kept)
            for path in self.folding:
                for node in self.calls[path]:
                    others = {path_of(other) for other in self.streams[node].norms} & kept.keys()
                    if others:
                        self.kept[path] = f"its stream is also read by {sorted(others)[0]}, which stays"
            if kept == self.kept:
                return

    def _require_shifts(self, path: str) -> None:
        """A bias is folded where every reader takes one."""
        node = self.calls[path][0]
        if path in self.stays or len(node.args) < 4 or node.args[3] is None:
            return
        for read in self.reads[path]:
            holder = self.modules.get(path_of(read.node))
            if read.padded:
                self.stays[path] = f"{read.tensor} also reads zeros beside the values, which have no bias"
            elif read.bias is None and not isinstance(holder, nn.Linear):
                self.stays[path] = f"{read.tensor} has no bias that could take that of the norm"

    def _give_up(self, conflict: _Conflict) -> None:
        """Leave gain and bias of the norms that the tensor reads, or else the streams that it writes into."""
        reason = f"{conflict.tensor} has uses that ask for different values, and stays one tensor"
        for path in self.folding:
            if path not in self.stays and any(read.node in conflict.nodes for read in self.reads[path]):
                self.stays[path] = reason
                return
        for path in self.folding:
            for node in self.calls[path]:
                if any(write.node in conflict.nodes for write in self.streams[node].writes):
                    self.kept[path] = reason
        self._spread()

    def _values(self, state: Params, untie: bool | None) -> Steps:
        changes: dict[tuple[str, Node], list[_Step]] = {}
        new: dict[str, Tensor] = {}
        for path in self.folding:
            if path not in self.stays:
                self._read(path, state, changes, new)
        writes: dict[Node, dict[Write, None]] = {}
        for path in self.folding:
            for node in self.calls[path]:
                for write in self.streams[node].writes:
                    writes.setdefault(write.node, {})[write] = None
        for node, found in writes.items():
            for write in found:
                changes.setdefault((write.tensor, node), []).append(_centring(write.axis))
            if (own := f"{path_of(node)}.bias") in new:
                new[own] = _centring(0)(new[own])
        writers = {(write.tensor, node) for node, found in writes.items() for write in found}
        values: dict[str, Tensor] = {}
        untied: list[str] = []
        for tensor in {name: None for name, _ in changes}:
            made = self._resolved(tensor, state[tensor], changes, writers, untie)
            values |= made
            untied += [name for name, value in made.items() if value is not made.get(tensor, value)]
        norms = {path: self._norm(path, state) for path in self.folding}
        kept = {path: self.kept[path] for path in sorted(self.kept, key=self._order)}
        return Steps(norms, kept, values | new, tuple(untied), tuple(new))

    def _read(
        self, path: str, state: Params, changes: dict[tuple[str, Node], list[_Step]], new: dict[str, Tensor]
    ) -> None:
        """What the readers of a norm take."""
        gain, bias = (self._vector(state, self.calls[path][0], i) for i in (2, 3))
        for read in self.reads[path]:
            changes.setdefault((read.tensor, read.node), []).append(_reading(read.axis, gain))
            if bias is None:
                continue
            shift = torch.tensordot(state[read.tensor].movedim(read.axis, -1), bias, 1)
            shift = shift.flatten(1).sum(1) if shift.ndim > 1 else shift
            if read.bias is not None:
                changes.setdefault((read.bias, read.node), []).append(_shifting(shift))
                continue
            name = f"{path_of(read.node)}.bias"
            if name in new and not torch.equal(new[name], shift):
                raise _Conflict(read.tensor, [read.node])
            new[name] = shift

    def _norm(self, path: str, state: Params) -> Norm:
        node = self.calls[path][0]
        stays = self.stays.get(path, "")
        gain, bias = (self._vector(state, node, i) if stays else None for i in (2, 3))
        eps = float(node.args[4]) if len(node.args) > 4 else 1e-5
        reads = {self._name(self._names(read.tensor), read.node) or read.tensor: None for read in self.reads[path]}
        return Norm(tuple(node.args[1]), eps, gain, bias, () if stays else tuple(reads), stays)

    def _resolved(
        self,
        tensor: str,
        value: Tensor,
        changes: dict[tuple[str, Node], list[_Step]],
        writers: set[tuple[str, Node]],
        untie: bool | None,
    ) -> dict[str, Tensor]:
        """New values of all names of a tensor."""
        uses = {node: changes.get((tensor, node), []) for node in self._uses(tensor)}
        made = {node: _applied(value, steps) for node, steps in uses.items()}
        names = self._names(tensor)
        kinds = {(bool(steps), (tensor, node) in writers) for node, steps in uses.items()}
        one = next(iter(made.values()))
        apart = untie is True and len(kinds) > 1 and len(names) > 1
        if not apart and all(torch.allclose(one, other, 1e-12, 1e-13) for other in made.values()):
            return dict.fromkeys(names, one)
        found: dict[str, Tensor] = {}
        for node, own in made.items():
            name = self._name(names, node)
            if name == "" or not torch.equal(found.setdefault(name, own), own):
                raise _Conflict(tensor, list(made))
        # One more tensor pays where a gain goes, not for the mean alone.
        if len(found) == 1 or untie is False or (untie is None and not all(uses.values())):
            raise _Conflict(tensor, list(made))
        return found

    def _order(self, path: str) -> int:
        return list(self.calls).index(path if path in self.calls else "")

    def _names(self, tensor: str) -> list[str]:
        return [tensor, *(name for name, home in self.graph.aliases.items() if home == tensor)]

    def _vector(self, state: Params, node: Node, i: int) -> Tensor | None:
        found = origin(node.args[i]) if len(node.args) > i else None
        return None if found is None else state[found[0]]

    def _uses(self, tensor: str) -> list[Node]:
        """The operators that use a tensor; it itself where it is a value of a stream."""
        found: dict[Node, None] = {}
        waiting = [node for node in self.graph.nodes if node.op == "tensor" and node.args[0] == tensor]
        while waiting:
            node = waiting.pop()
            if any(node in {place[0] for place in stream.places} for stream in self.streams.values()):
                found[node] = None
                continue
            for user in node.users:
                if origin(user) is not None:
                    waiting.append(user)
                else:
                    found[user] = None
        return list(found)

    def _name(self, names: list[str], node: Node) -> str:
        """The name under which an operator uses a tensor that has several; empty if that is not known."""
        if len(names) == 1 or node.op == "tensor":
            return names[0]
        own = [name for name in names if name.rpartition(".")[0] == path_of(node)]
        return own[0] if len(own) == 1 else ""


def path_of(node: Node) -> str:
    """Path of the module of a call, without the number of the call.

    Args:
        node: an operator.

    Returns:
        As in ``named_modules()``.
    """
    return node.module.split("@")[0]


def _centring(axis: int) -> _Step:
    return lambda value: value - value.mean(axis, keepdim=True)


def _shifting(shift: Tensor) -> _Step:
    return lambda value: value + shift


def _reading(axis: int, gain: Tensor | None) -> _Step:
    def run(value: Tensor) -> Tensor:
        if gain is not None:
            value = value * gain.reshape(-1, *(1,) * (value.ndim - 1 - axis))
        return value - value.mean(axis, keepdim=True)

    return run


def _applied(value: Tensor, steps: list[_Step]) -> Tensor:
    for step in steps:
        value = step(value)
    return value
