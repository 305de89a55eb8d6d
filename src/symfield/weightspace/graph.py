"""The graph of a model as a value: its tensors, and the operators between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from symfield.typing import Tensor

__all__ = ["Node", "ParameterGraph", "TensorInfo"]


@dataclass(frozen=True)
class TensorInfo:
    """A parameter or buffer of the model.

    Attributes:
        name: as in ``model.state_dict()``.
        shape: its shape.
        dtype: its dtype.
        kind: ``"parameter"`` or ``"buffer"``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str


@dataclass(eq=False)
class Node:
    """One operator call, or one tensor that enters the graph.

    Attributes:
        name: unique in the graph.
        op: ATen name without overload, such as ``"linear"``; ``"tensor"``, ``"input"``, ``"constant"``, ``"getitem"``
            for what is no operator.
        args: arguments; other nodes, numbers, lists.
        kwargs: keyword arguments.
        shape: shape of the result; a tuple of shapes (None for no tensor) where there are several.
        dtype: dtype of the result, None where there are several.
        module: path of the module that made the call.
        users: nodes that take this one as an argument.
        value: of a constant.
    """

    name: str
    op: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[Any, ...] = ()
    dtype: torch.dtype | None = None
    module: str = ""
    users: list[Node] = field(default_factory=list, repr=False)
    value: Tensor | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        place = f" in {self.module!r}" if self.module else ""
        return f"{self.name}: {self.op} {self.shape}{place}"

    def inputs(self) -> Iterator[Node]:
        """The nodes among the arguments, lists opened."""
        yield from _nodes((*self.args, *self.kwargs.values()))


@dataclass(frozen=True)
class ParameterGraph:
    """What a model computes from its parameters, operator by operator.

    Attributes:
        nodes: in the order of computation.
        outputs: nodes that the model returns.
        tensors: parameters and buffers by name, tied ones under their first name.
        aliases: other names of tied tensors, each with its first name.
        unused: tensors of the model that the example does not reach.
        source: how the graph was taken, ``"torch.export"`` or ``"make_fx"``.
    """

    nodes: tuple[Node, ...] = field(repr=False)
    outputs: tuple[Node, ...] = field(repr=False)
    tensors: Mapping[str, TensorInfo]
    aliases: Mapping[str, str]
    unused: tuple[str, ...]
    source: str

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator is called, most frequent first."""
        counts = Counter(node.op for node in self.nodes if node.op not in {"tensor", "input", "constant", "getitem"})
        return dict(counts.most_common())

    @property
    def inputs(self) -> tuple[Node, ...]:
        """Nodes of the example's tensors, in order."""
        return tuple(node for node in self.nodes if node.op == "input")

    def __str__(self) -> str:
        entries = sum(torch.Size(info.shape).numel() for info in self.tensors.values())
        return (
            f"{len(self.tensors)} tensors with {entries} entries, {sum(self.operators.values())} operator calls "
            f"({', '.join(f'{op} {n}' for op, n in list(self.operators.items())[:6])}), from {self.source}"
        )


def _nodes(items: Any) -> Iterator[Node]:
    if isinstance(items, Node):
        yield items
    elif isinstance(items, list | tuple):
        for item in items:
            yield from _nodes(item)
