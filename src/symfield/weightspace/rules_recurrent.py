"""Rules for the recurrent operators: RNN, LSTM, GRU, with several layers, directions and projections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from symfield.weightspace.graph import Node
from symfield.weightspace.inference import Enumerated, Inference, Uniform, Value
from symfield.weightspace.rulebook import rule
from symfield.weightspace.spaces import Axis

__all__: list[str] = []


@rule("lstm", uniform=True)
def lstm(
    inference: Inference, node: Node, x: Any, state: Sequence[Any], weights: Sequence[Any], *args: Any
) -> list[Any]:
    """i, f, g, o are gates; c ← f c + i g, h ← o tanh c: units move with all their gates, signs with g, c and h."""
    biases, layers, _, _, both, batch_first = args
    return _stack(inference, node, x, list(state), weights, (biases, layers, both, batch_first), _lstm_cell, 4)


@rule("gru", uniform=True)
def gru(inference: Inference, node: Node, x: Any, state: Any, weights: Sequence[Any], *args: Any) -> list[Any]:
    """r, z are gates; n = tanh(W x + r (U h)), h ← (1-z) n + z h: signs with n and h."""
    biases, layers, _, _, both, batch_first = args
    return _stack(inference, node, x, [state], weights, (biases, layers, both, batch_first), _gru_cell, 3)


@rule("rnn_tanh", "rnn_relu", uniform=True)
def rnn(inference: Inference, node: Node, x: Any, state: Any, weights: Sequence[Any], *args: Any) -> list[Any]:
    """h ← f(W x + U h + b): signs for tanh, positive scales for relu."""
    biases, layers, _, _, both, batch_first = args
    cell = _tanh_cell if node.op == "rnn_tanh" else _relu_cell
    return _stack(inference, node, x, [state], weights, (biases, layers, both, batch_first), cell, 1)


def _lstm_cell(inference: Inference, gates: Sequence[Axis]) -> tuple[Axis, Axis]:
    i, f, g, o = gates
    for gate in (i, f, o):
        inference.rigid(gate)
        inference.units(gate, g)
    inference.scales((g, 1))
    return g, g


def _gru_cell(inference: Inference, gates: Sequence[Axis]) -> tuple[Axis, Axis]:
    r, z, n = gates
    for gate in (r, z):
        inference.rigid(gate)
        inference.units(gate, n)
    inference.scales((n, 1))
    return n, n


def _tanh_cell(inference: Inference, gates: Sequence[Axis]) -> tuple[Axis, Axis]:
    inference.scales((gates[0], 1))
    return gates[0], gates[0]


def _relu_cell(inference: Inference, gates: Sequence[Axis]) -> tuple[Axis, Axis]:
    inference.signs((gates[0], 1))
    return gates[0], gates[0]


def _stack(
    inference: Inference,
    node: Node,
    x: Value | Uniform,
    states: Sequence[Value | Uniform],
    weights: Sequence[Value],
    options: tuple[bool, int, bool, bool],
    cell: Any,
    count: int,
) -> list[Any]:
    biases, layers, both, batch_first = options
    x, weights = inference.materialise(x), [inference.materialise(weight) for weight in weights]
    if len(x.axes) != 3:
        raise NotImplementedError("a recurrent operator on one sequence without a batch, or on packed sequences")
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    time = 1 if batch_first else 0
    inference.freeze(x, [time], "time of a recurrent operator")
    inference.rigid(x.axes[1 - time])
    pieces = _slices(inference, states, layers * directions)
    below, finals, cells = x.axes[2], [], []
    for layer in range(layers):
        found = []
        for direction in range(directions):
            k = layer * directions + direction
            out, c = _layer(inference, below, weights[k * each : (k + 1) * each], biases, cell, count)
            for initial, axis in zip(next(pieces), (out, c), strict=False):
                inference.same(initial, axis)
            found.append(out)
            finals.append(Value([x.axes[1 - time], out]))
            cells.append(Value([x.axes[1 - time], c]))
        below = Axis.concat(found)
    output = Value([x.axes[0], x.axes[1], below])
    results: list[Any] = [output, Enumerated(0, finals)]
    return [*results, Enumerated(0, cells)] if len(states) == 2 else results


def _layer(
    inference: Inference, x: Axis, weights: Sequence[Value], biases: bool, cell: Any, count: int
) -> tuple[Axis, Axis]:
    """One direction of one layer: the axes of its output and of its cell."""
    w_in, w_state, *others = weights
    size = w_in.axes[0].size // count
    gates = w_in.axes[0].cut([size] * count)
    inference.hint(gates[0], "units")
    inference.dual(x, w_in.axes[1])
    inference.independent(gates, [x])
    for value in (w_state, *others[: 2 * biases]):
        for gate, axis in zip(gates, value.axes[0].cut([size] * count), strict=True):
            inference.same(gate, axis)
    hidden, memory = cell(inference, gates)
    out = hidden
    if len(others) > 2 * biases:  # a projection of the output
        out = others[-1].axes[0]
        inference.dual(hidden, others[-1].axes[1])
        inference.independent([out], [hidden])
    inference.dual(out, w_state.axes[1])
    inference.independent(gates, [out])
    return out, memory


def _slices(inference: Inference, states: Sequence[Value | Uniform], count: int) -> Iterator[list[Axis]]:
    """The units of the initial states of each layer and direction.

    Zeros fit any gauge, another number everywhere fits permutations, and these are free in each layer. States of any
    other kind hold all layers in one tensor, whose units therefore move alike.
    """
    for state in states:
        if isinstance(state, Value):
            inference.freeze(state, [0], "layers of a recurrent operator")
    for _ in range(count):
        found = []
        for state in states:
            axis = state.axes[2] if isinstance(state, Value) else Axis.fresh(state.shape[2])
            if isinstance(state, Uniform) and state.fill != 0:
                inference.rigid(axis)
            found.append(axis)
        yield found
