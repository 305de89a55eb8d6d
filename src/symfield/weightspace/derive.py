"""The symmetry of a model: trace, infer, solve, name, certify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

from torch import nn

from symfield.weightspace.certify import certify
from symfield.weightspace.factors import (
    Conformal,
    Factor,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScale,
    Sign,
)
from symfield.weightspace.graph import ParameterGraph
from symfield.weightspace.inference import Inference
from symfield.weightspace.layout import Concat, Layout, Move, Piece, Product
from symfield.weightspace.report import Fixed, Report, Unknown
from symfield.weightspace.rules import RULES, prepare
from symfield.weightspace.solve import Found, Gauge, solve
from symfield.weightspace.spaces import Axis, Tree
from symfield.weightspace.symmetry import ParameterSymmetry
from symfield.weightspace.tracing import Example, trace
from symfield.weightspace.unification import Space

__all__ = ["derive", "symmetries"]

Frame = tuple[int, tuple[tuple[str, int], ...]]

MATRICES: dict[str, tuple[type[Factor], str]] = {
    "general": (GeneralLinear, "linear"),
    "orthogonal": (Orthogonal, "orthogonal"),
    "plane": (Conformal, "rotary"),
}


def symmetries(
    model: nn.Module,
    example: Example,
    *,
    free: Mapping[str, Sequence[int]] | None = None,
    certificate: bool = True,
) -> ParameterSymmetry:
    """Which transformations of the parameters leave the function of a model unchanged, derived and tested.

    Args:
        model: any module that ``torch.export`` can trace; it is not modified.
        example: one tensor, a tuple of positional arguments, or a dict of keyword arguments. The
            shapes are those of the graph; the result holds for all batch sizes that take the same path.
        free: axes of inputs and outputs that may move, such as ``{"input.0": (1,)}``; all others are fixed.
        certificate: test every factor with random elements on several inputs, see :class:`Report`; a factor that
            changes the output is left out with a warning.

    Returns:
        The symmetry, with its report.

    Raises:
        Untraceable: if the model cannot be written as a graph.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> print(symmetries(model, torch.zeros(3, 4)))
        factor         group  moves
        permutation:0  S_8    0.weight.0, 0.bias.0, 2.weight.1
        scale:0        R+^8   0.weight.0, 0.bias.0, 2.weight.1^-1
        2 factors, continuous dimension 8, log order 10.6, 96.6 % of entries free to move
    """
    symmetry = derive(trace(model, example), free=free)
    return certify(model, example, symmetry) if certificate else symmetry


def derive(graph: ParameterGraph, *, free: Mapping[str, Sequence[int]] | None = None) -> ParameterSymmetry:
    """The symmetry of a graph, without a test.

    Args:
        graph: from :func:`trace`.
        free: axes of inputs and outputs that may move; all others are fixed.

    Returns:
        The symmetry; its report holds no certificate.

    Raises:
        KeyError: if ``free`` names an input or output that the graph does not have.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> graph = trace(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.zeros(3, 4))
        >>> derive(graph)
        ParameterSymmetry(permutation:0: S_8, sign:0: Z2^8)
    """
    known = {f"input.{i}" for i in range(len(graph.inputs))} | {f"output.{i}" for i in range(len(graph.outputs))}
    for name in free or {}:
        if name not in known:
            raise KeyError(f"free names {name!r}; the graph has {sorted(known)}")
    inference = Inference(graph, free or {})
    prepare(inference)
    inference.run(RULES)
    return _Naming(graph, inference, solve(inference)).symmetry()


class _Naming:
    """Spaces get the name of the first tensor that shows them; gauges become factors and moves."""

    def __init__(self, graph: ParameterGraph, inference: Inference, found: Found) -> None:
        self.graph, self.inference, self.found = graph, inference, found
        self.names: dict[Space, str] = {}
        self.labels: set[str] = set()
        self.order = [name for name in (*graph.tensors, *inference.tensors) if name in inference.tensors]
        self.order = list(dict.fromkeys(self.order))

    def symmetry(self) -> ParameterSymmetry:
        self._name()
        moves: dict[Axis, list[Move]] = {}
        factors: list[Factor] = []
        for space in self.names:
            if space in self.found.gauges:
                factors += self._factors(self.found.gauges[space], moves)
        layouts = {name: tuple(self._layout(tree, moves) for tree in self.found.trees[name]) for name in self.order}
        shapes = {name: self.inference.tensors[name].shape for name in self.order}
        fixed = [item for name in self.graph.tensors for item in self._fixed(name)]
        unknown = tuple(Unknown(op, tuple(modules)) for op, modules in self.inference.unknown.items())
        report = Report(self.graph.source, tuple(fixed), unknown, tuple(self.inference.notes))
        return ParameterSymmetry(tuple(factors), layouts, shapes, dict(self.graph.aliases), report)

    def _name(self) -> None:
        taken: set[str] = set()
        names: dict[Space, str] = {}
        for name, moved in [(name, moved) for moved in (True, False) for name in self.order]:
            short = name
            for end in (".weight", ".bias", "_weight", "_bias"):
                short = short.removesuffix(end)
            for tree in self.found.trees[name]:
                for leaf in _leaves(tree):
                    space = leaf.space.find()
                    if space in names or (space in self.found.gauges) != moved:
                        continue
                    text = f"{short}.{space.hint}" if space.hint else short
                    names[space] = _unused(text, taken)
        shown = {leaf.space.find(): None for name in self.order for t in self.found.trees[name] for leaf in _leaves(t)}
        self.names = {space: names[space] for space in shown}

    def _factors(self, gauge: Gauge, moves: dict[Axis, list[Move]]) -> list[Factor]:
        space, name = gauge.space, self.names[gauge.space]
        base = tuple(self.names[other] for other in gauge.base)
        shape = tuple(other.size for other in gauge.base)
        made: list[Factor] = []

        def add(kind: type[Factor], label: str, exponents: Mapping[Axis, Frame]) -> None:
            label = _unused(label, self.labels)  # a numbered space may have the name of a numbered factor
            factor = kind(label, name, space.size, base, shape)
            made.append(factor)
            for axis, (power, gains) in exponents.items():
                moves.setdefault(axis, []).append(Move(label, power, gains))

        if gauge.permutes:
            everywhere = {leaf for name in self.order for tree in self.found.trees[name] for leaf in _leaves(tree)}
            add(Permutation, f"permutation:{name}", {a: (1, ()) for a in everywhere if a.space.find() is space})
        if gauge.matrix:
            kind, word = MATRICES[gauge.matrix]
            add(kind, f"{word}:{name}", gauge.frames)
        for kind, word, solutions in ((PositiveScale, "scale", gauge.scales), (Sign, "sign", gauge.signs)):
            for exponents in solutions:
                tensor, turn = self._tensor_of(space, exponents)
                label = f"{word}:{name}@{tensor}" if tensor and len(solutions) > 1 else f"{word}:{name}"
                sense = turn if kind is PositiveScale else 1
                add(kind, label, {axis: (sense * power, ()) for axis, power in exponents.items()})
        return made

    def _tensor_of(self, space: Space, exponents: Mapping[Axis, int]) -> tuple[str, int]:
        """What tells several scales of one space apart: the gain that it moves, and the sign of its exponent there.

        The scale that moves the tensor after which the space is named needs no other name.
        """
        shown = {
            name: [leaf for tree in self.found.trees[name] for leaf in _leaves(tree) if leaf.space.find() is space]
            for name in self.order
        }
        first = next(leaves for leaves in shown.values() if leaves)
        if any(leaf in exponents for leaf in first):
            return "", 1
        found = {name: exponents[leaf] for name, leaves in shown.items() for leaf in leaves if leaf in exponents}
        gains = [name for name in found if len(self.found.trees[name]) == 1 and not name.endswith("bias")]
        name = (gains or list(found))[0]
        return name.removesuffix(".weight"), 1 if found[name] > 0 else -1

    def _layout(self, tree: Tree, moves: Mapping[Axis, list[Move]]) -> Layout:
        if isinstance(tree, Axis):
            return Piece(self.names[tree.space.find()], tree.size, tuple(moves.get(tree, ())))
        parts = tuple(self._layout(part, moves) for part in tree[1])
        return Product(parts) if tree[0] == "product" else Concat(parts)

    def _fixed(self, name: str) -> list[Fixed]:
        found: dict[tuple[int, str], int] = {}
        for dim, tree in enumerate(self.found.trees[name]):
            for leaf in _leaves(tree):
                space = leaf.space.find()
                if space.size > 1 and (space not in self.found.gauges or space.pinned):
                    scaled = ", but for scales" if space in self.found.gauges else ""
                    key = (dim, (space.pinned or "no symmetry fits all operators that it meets") + scaled)
                    found[key] = found.get(key, 0) + space.size
        return [Fixed(name, dim, size, reason) for (dim, reason), size in found.items()]


def _leaves(tree: Tree) -> list[Axis]:
    return [tree] if isinstance(tree, Axis) else [leaf for part in tree[1] for leaf in _leaves(part)]


def _unused(text: str, taken: set[str]) -> str:
    """The text, with a number where it is taken; takes it."""
    numbered = (f"{text}:{i}" if i else text for i in count())
    found = next(candidate for candidate in numbered if candidate not in taken)
    taken.add(found)
    return found
