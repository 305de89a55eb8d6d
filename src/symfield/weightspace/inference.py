"""Walk through a graph, node by node, and collect what each operator says about the axes of its operands.

A rule unifies spaces (same units) and records constraints between the gauges of axes, the linear maps that may act
there on top of the common permutation. The constraints are:

- *equal*, *dual*: the gauges are g and g, or g and g^{-T} (two sides of a contraction);
- *linear*: the gauge is diagonal, and Σ kᵢ log|gᵢ| = 0, or the same for signs modulo 2; a single axis says "no scale";
- *norm*: the gauge keeps Euclidean norms;
- *gain*: the axis is multiplied by a vector of parameters;
- *plane*: the gauge commutes with rotations of a plane (rotary codes).

What no rule covers is fixed, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from symfield.weightspace.graph import Node, ParameterGraph
from symfield.weightspace.spaces import Axis, leaves
from symfield.weightspace.unification import Irregular, unify

__all__ = ["Constraints", "Entry", "Enumerated", "Inference", "Uniform", "Value"]


@dataclass(eq=False)
class Value:
    """A tensor in the graph.

    Attributes:
        axes: one for each of its axes.
        known: whether it is computed from inputs and constants alone.
        tensor: name, if it is a parameter or buffer itself.
        points: for integers that number the units of a space (the result of topk), that axis.
        square_of: the value of which this is the square, where it is only summed.
        copies: numbers of the axes along which it is constant, being expanded.
    """

    axes: list[Axis]
    known: bool = False
    tensor: str = ""
    points: Axis | None = None
    square_of: Value | None = None
    copies: frozenset[int] = frozenset()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(axis.size for axis in self.axes)


@dataclass(eq=False)
class Uniform:
    """A constant tensor with one number everywhere: whatever moves its axes leaves it alone.

    Attributes:
        shape: of the tensor.
        fill: the number; None if unknown.
    """

    shape: tuple[int, ...]
    fill: float | None


@dataclass(eq=False)
class Enumerated:
    """A tensor whose slices along one axis have layouts of their own, such as stacked queries, keys and values.

    Attributes:
        dim: the axis.
        parts: the slices, without that axis.
    """

    dim: int
    parts: list[Value]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the axis of the slices."""
        shape = list(self.parts[0].shape)
        shape.insert(self.dim, len(self.parts))
        return tuple(shape)


@dataclass(frozen=True)
class Entry:
    """A rule with what it can take.

    Attributes:
        function: ``rule(inference, node, *args, **kwargs)``: arguments as in ATen, tensors as values; returns the
            value(s) of the node.
        on_data: it is also used where no parameter is involved.
        uniform: it takes :class:`Uniform` values as they are.
        enumerated: it takes :class:`Enumerated` values as they are.
        pointers: it knows about integers that number the units of a space.
    """

    function: Callable[..., Any]
    on_data: bool = False
    uniform: bool = False
    enumerated: bool = False
    pointers: bool = False


@dataclass
class Constraints:
    """Everything recorded about gauges; see the module.

    Attributes:
        equal: pairs of axes.
        dual: pairs of axes.
        linear: (``"scale"`` or ``"sign"``, pairs of axis and coefficient).
        diagonal: axes whose gauge is diagonal.
        norm: axes.
        gains: (x, w, y, tensor name of w) with y = w x.
        planes: axes of size 2.
        independent: (axes, others): the axes' elements cannot depend on the units of the others.
        computed: axes that are multiplied by a vector computed from parameters, such as 1 + w.
    """

    equal: list[tuple[Axis, Axis]] = field(default_factory=list)
    dual: list[tuple[Axis, Axis]] = field(default_factory=list)
    linear: list[tuple[str, tuple[tuple[Axis, int], ...]]] = field(default_factory=list)
    diagonal: list[Axis] = field(default_factory=list)
    norm: list[Axis] = field(default_factory=list)
    gains: list[tuple[Axis, Axis, Axis, str]] = field(default_factory=list)
    planes: list[Axis] = field(default_factory=list)
    independent: list[tuple[tuple[Axis, ...], tuple[Axis, ...]]] = field(default_factory=list)
    computed: list[Axis] = field(default_factory=list)


class Inference:
    """The walk: values of all nodes, constraints, and notes for the report."""

    def __init__(self, graph: ParameterGraph, free: Mapping[str, Sequence[int]]) -> None:
        self.graph = graph
        self.free = free
        self.constraints = Constraints()
        self.values: dict[Node, Any] = {}
        self.tensors: dict[str, Value] = {}
        self.all_values: list[Value] = []
        self.unknown: dict[str, list[str]] = {}
        self.notes: dict[str, None] = {}
        self.replaced: dict[Node, tuple[str, tuple[Any, ...]]] = {}
        self.absorbed: set[Node] = set()
        self.carried: list[tuple[tuple[Axis, ...], Axis]] = []

    # What rules say.

    def same(self, a: Axis, b: Axis) -> None:
        """The units are the same, and move in the same way."""
        if a is not b:
            unify(a.space, b.space)
            self.constraints.equal.append((a, b))

    def dual(self, a: Axis, b: Axis) -> None:
        """The two sides of a contraction."""
        unify(a.space, b.space)
        self.constraints.dual.append((a, b))

    def units(self, a: Axis, b: Axis) -> None:
        """The units are the same; the gauges are diagonal, and otherwise unrelated."""
        unify(a.space, b.space)
        self.constraints.diagonal += [a, b]

    def scales(self, *terms: tuple[Axis, int]) -> None:
        """Σ kᵢ log of the positive scales vanishes."""
        self.constraints.linear.append(("scale", terms))

    def signs(self, *terms: tuple[Axis, int]) -> None:
        """The signs to the powers kᵢ multiply to one."""
        self.constraints.linear.append(("sign", terms))

    def rigid(self, *axes: Axis) -> None:
        """Neither scale nor sign: at most a permutation."""
        for axis in axes:
            self.scales((axis, 1))
            self.signs((axis, 1))

    def product(self, out: Axis, *factors: Axis) -> None:
        """The gauge of ``out`` is the product of diagonal gauges."""
        for axis in factors:
            unify(out.space, axis.space)
        terms = ((out, 1), *((axis, -1) for axis in factors))
        self.scales(*terms)
        self.signs(*terms)

    def norm(self, axis: Axis) -> None:
        """The gauge keeps the Euclidean norm."""
        self.constraints.norm.append(axis)

    def gain(self, x: Axis, w: Axis, tensor: str) -> Axis:
        """The axis of y = w x for a vector w of parameters."""
        out = x.sibling()
        unify(x.space, w.space)
        self.constraints.gains.append((x, w, out, tensor))
        return out

    def plane(self, axis: Axis) -> None:
        """The gauge commutes with rotations of a plane."""
        self.constraints.planes.append(axis)

    def independent(self, axes: Iterable[Axis], others: Iterable[Axis]) -> None:
        """Elements on ``axes`` cannot depend on the unit of ``others``, since the operator mixes these."""
        one, two = tuple(axes), tuple(others)
        if one and two:
            self.constraints.independent.append((one, two))

    def carry(self, axes: Iterable[Axis], pointed: Axis) -> None:
        """Each entry along ``axes`` belongs to one unit of ``pointed``, such as a token that was sent to an expert."""
        self.carried.append((tuple(axes), pointed))

    def fix(self, axis: Axis, reason: str) -> None:
        """Nothing moves this axis."""
        axis.space.pin(reason)
        self.rigid(axis)

    def freeze(self, value: Value, dims: Iterable[int], reason: str) -> None:
        """The operator does not act unit by unit along these axes: fix them, and let no other depend on them."""
        chosen = [value.axes[dim] for dim in dims]
        self.independent([axis for axis in value.axes if axis not in chosen], chosen)
        for axis in chosen:
            self.fix(axis, reason)

    def fixed_axis(self, size: int, reason: str) -> Axis:
        """A new axis that nothing moves."""
        axis = Axis.fresh(size)
        self.fix(axis, reason)
        return axis

    def fixed_value(self, shape: Sequence[int], reason: str, *, known: bool = False) -> Value:
        """A new value that nothing moves."""
        return Value([self.fixed_axis(n, reason) for n in shape], known=known)

    def factor(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """The axis as a product of axes of these sizes, all above 1."""
        parts, pairs = axis.factor(sizes)
        self.constraints.equal += pairs
        return parts

    def hint(self, axis: Axis, text: str) -> None:
        """A word for the units of an axis, for names of factors."""
        root = axis.space.find()
        root.hint = root.hint or text

    def note(self, text: str) -> None:
        """Say something in the report, once."""
        self.notes[text] = None

    def place(self, node: Node) -> str:
        """The operator and its module, for reasons in the report."""
        return f"{node.op}{f' in {node.module}' if node.module else ''}"

    # The walk.

    def run(self, rules: Mapping[str, Entry]) -> None:
        """Visit all nodes.

        Args:
            rules: rule of each operator.
        """
        inputs = 0
        for node in self.graph.nodes:
            if node in self.absorbed:
                continue
            if node.op == "tensor":
                name = node.args[0]
                if name not in self.tensors:
                    info = self.graph.tensors[name]
                    self.tensors[name] = Value([Axis.fresh(n) for n in info.shape], tensor=name)
                    if not info.dtype.is_floating_point:
                        self.freeze(self.tensors[name], range(len(info.shape)), f"{info.dtype} holds no weights")
                self.values[node] = self.tensors[name]
            elif node.op == "input":
                self.values[node] = self._boundary(node, f"input.{inputs}", "model input")
                inputs += 1
            elif node.op == "constant":
                self.values[node] = self._constant(node)
            else:
                self.values[node] = self._call(node, rules)
            self._remember(self.values[node])
        for i, node in enumerate(self.graph.outputs):
            self._output(i, node)
        for name in self.graph.unused:
            self.tensors[name] = self.fixed_value(self.graph.tensors[name].shape, "not used on the example")

    def _remember(self, value: Any) -> None:
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Value):
                self.all_values.append(item)
            elif isinstance(item, Enumerated):
                self.all_values += item.parts

    def _boundary(self, node: Node, name: str, reason: str) -> Value:
        free = self._free(name, len(node.shape))
        value = Value([Axis.fresh(n) for n in node.shape], known=not free)
        for dim, axis in enumerate(value.axes):
            if dim not in free:
                self.fix(axis, f"{reason} {node.name}, axis {dim}")
        if free:
            self.tensors[name] = value
        return value

    def _free(self, name: str, ndim: int) -> set[int]:
        dims = {dim % ndim if -ndim <= dim < ndim else -1 for dim in self.free.get(name, ())}
        if -1 in dims:
            raise ValueError(f"free={{{name!r}: ...}} names an axis that {name} with {ndim} axes does not have")
        return dims

    def _output(self, i: int, node: Node) -> None:
        value = self.materialise(self.values[node])
        name = f"output.{i}"
        free = self._free(name, len(value.axes))
        for dim, axis in enumerate(value.axes):
            if dim not in free:
                self.fix(axis, f"model output {i}, axis {dim}")
        if value.points is not None:
            self.fix(value.points, f"its units are numbered by model output {i}")
        if free:
            self.tensors[name] = value

    def _constant(self, node: Node) -> Value | Uniform:
        value = node.value
        if value is not None and value.numel() and bool((value == value.flatten()[0]).all()):
            return Uniform(node.shape, float(value.flatten()[0]))
        return self.fixed_value(node.shape, "constant of the model", known=True)

    def _call(self, node: Node, rules: Mapping[str, Entry]) -> Any:
        op, args = self.replaced.get(node, (node.op, node.args))
        op = op if op in rules or not op.endswith("_") or op.startswith("_") else op[:-1]
        given = list(_values(self._mapped((args, tuple(node.kwargs.values())))))
        is_data = all(not isinstance(v, Enumerated) and (isinstance(v, Uniform) or v.known) for v in given)
        entry = rules.get(op)
        if is_data and (entry is None or not entry.on_data):
            return self._default(node, [], "computed from inputs and constants", known=True)
        if entry is None:
            self.unknown.setdefault(op, []).append(node.module)
            return self._default(node, given, f"no rule for operator {self.place(node)}")
        for item in given:
            if isinstance(item, Value) and item.points is not None and not entry.pointers:
                self.fix(item.points, f"its units are numbered by integers that go into {self.place(node)}")
        try:
            filled = self._filled(self._mapped(args), entry)
            keywords = {key: self._filled(self._mapped(value), entry) for key, value in node.kwargs.items()}
            result = entry.function(self, node, *filled, **keywords)
            self._check(node, result)
        except (Irregular, IndexError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            why = "layouts do not fit" if isinstance(error, Irregular) else (str(error) or type(error).__name__)
            self.unknown.setdefault(op, []).append(node.module)
            return self._default(node, given, f"operator {self.place(node)} used in a way without a rule ({why})")
        if is_data:
            for item in _values(result):
                if isinstance(item, Value):
                    item.known = True
        return result

    def _default(self, node: Node, given: Iterable[Any], reason: str, *, known: bool = False) -> Any:
        for item in given:
            value = self.materialise(item)
            self.freeze(value, range(len(value.axes)), reason)
            if value.points is not None:
                self.fix(value.points, reason)
        if node.shape and isinstance(node.shape[0], tuple):
            return [None if shape is None else self.fixed_value(shape, reason, known=known) for shape in node.shape]
        return self.fixed_value(node.shape, reason, known=known)

    def _check(self, node: Node, result: Any) -> None:
        shapes = node.shape if node.shape and isinstance(node.shape[0], tuple) else (node.shape,)
        items = result if isinstance(result, list | tuple) else [result]
        for item, shape in zip(items, shapes, strict=False):
            if item is not None and shape is not None and tuple(item.shape) != tuple(shape):
                raise ValueError(f"shape {tuple(item.shape)} derived, {tuple(shape)} traced")

    def _mapped(self, item: Any) -> Any:
        if isinstance(item, Node):
            return self.values[item]
        if isinstance(item, list | tuple):
            return type(item)(self._mapped(part) for part in item)
        return item

    def _filled(self, item: Any, entry: Entry) -> Any:
        """Special values as plain ones, where a rule wants these; uniform constants get new axes at every use."""
        if (isinstance(item, Uniform) and not entry.uniform) or (isinstance(item, Enumerated) and not entry.enumerated):
            return self.materialise(item)
        if isinstance(item, list | tuple):
            return type(item)(self._filled(part, entry) for part in item)
        return item

    def materialise(self, item: Any) -> Value:
        """A value with axes from any kind of value."""
        if isinstance(item, Enumerated):
            first, *rest = item.parts
            for other in rest:
                for a, b in zip(first.axes, other.axes, strict=True):
                    self.same(a, b)
            axes = list(first.axes)
            axes.insert(item.dim, self.fixed_axis(len(item.parts), "stacked parts"))
            return Value(axes, known=first.known)
        if isinstance(item, Uniform):
            value = Value([Axis.fresh(n) for n in item.shape], known=True)
            if item.fill != 0:
                self.rigid(*value.axes)
            return value
        return item

    def leaves_of(self, value: Value) -> list[Axis]:
        """All leaves of a value's axes."""
        return [leaf for axis in value.axes for leaf in leaves(axis)]


def _values(item: Any) -> Iterable[Any]:
    if isinstance(item, Value | Uniform | Enumerated):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _values(part)
