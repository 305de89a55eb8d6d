"""The inner loop in plain torch: every run at once, particles last, gradients by hand.

What makes it fast: weights are (p, n) per run, so every product is a small matrix times a long one; the residual goes
into the samples (b × d numbers) instead of into the activations (b × n numbers) when there is one output; buffers are
allocated once; runs are taken a few at a time when their activations would not stay in the cache together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from symfield.meanfield.kernels.program import Program, check
from symfield.typing import Float, Int, Tensor

__all__ = ["advance_batched"]

_CACHE_BYTES = 1 << 19  # activations of the runs that advance together


@torch.no_grad()
def advance_batched(
    z: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    noise: Float[Tensor, "..."] | None,
    steps: Float[Tensor, "..."],
    *,
    program: Program,
    data_row: Int[Tensor, "..."],
    noise_row: Int[Tensor, "..."],
) -> Tensor:
    """Advance every run by k steps with torch operations, on any device.

    Args:
        z: state, shape ``(r, p, n)``.
        x: samples of each step, shape ``(k, rx, b, d)``.
        y: targets of each step, shape ``(k, rx, b, o)``.
        noise: scaled noise of each step, shape ``(k, rn, p, n)``, or None.
        steps: step sizes, shape ``(k,)``.
        program: what a step does.
        data_row: row of ``x`` and ``y`` that each run reads, shape ``(r,)``.
        noise_row: row of ``noise`` that each run reads, shape ``(r,)``.

    Returns:
        The state after k steps, shape ``(r, p, n)``, a new tensor.

    Raises:
        ValueError: if shapes, types or rows do not fit.
    """
    check(z, x, y, noise, steps, program=program, data_row=data_row, noise_row=noise_row)
    state = z.clone(memory_format=torch.contiguous_format)
    if not (z.shape[0] and x.shape[0]):
        return state
    sizes = steps.tolist()
    width = z.shape[2] * (program.out_dim if program.hidden is None else program.hidden)
    limit = max(1, _CACHE_BYTES // (x.shape[2] * width * z.element_size()))
    for runs in _alike(program, z.shape[0], limit):
        index = torch.tensor(runs, device=z.device)
        part = _consecutive(state, index)
        task = _Task(program, part, x, y, runs, data_row[index])
        shocks = None if noise is None else _Rows(noise, noise_row[index])
        for step, size in enumerate(sizes):
            task.step(step, size, None if shocks is None else shocks[step])
        if part.data_ptr() != state[runs[0]].data_ptr():
            state[index] = part
    return state


class _Activation(NamedTuple):
    """σ in place, and σ' from (pre-activation, value), overwriting one of them and returning it."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]
    keeps_pre: bool = False


def _tanh_derivative(_pre: Tensor, value: Tensor) -> Tensor:
    return value.square_().neg_().add_(1)


def _erf_derivative(pre: Tensor, _value: Tensor) -> Tensor:
    return pre.square_().neg_().exp_().mul_(2 / math.sqrt(math.pi))


_ACTIVATIONS = {
    "sigmoid": _Activation(torch.sigmoid_, lambda _pre, value: value.addcmul_(value, value, value=-1)),
    "tanh": _Activation(torch.tanh_, _tanh_derivative),
    "relu": _Activation(torch.relu_, lambda _pre, value: value.sign_()),
    "erf": _Activation(torch.erf_, _erf_derivative, keeps_pre=True),
    "identity": _Activation(lambda pre: pre, lambda _pre, value: value.fill_(1)),
}


class _Task:
    """Some runs with the same maps, their samples in the layout of the products, and the buffers of a step.

    The pointwise unit has o independent rows of d weights, each with its own output: rows are treated as a batch axis.
    The hidden unit has h·n rows of d (+1 with a bias) weights; a bias is a weight of a constant input.
    """

    def __init__(
        self, program: Program, state: Tensor, x: Tensor, y: Tensor, runs: list[int], data_row: Tensor
    ) -> None:
        r, _, n = state.shape
        _, _, b, d = x.shape
        o, h = program.out_dim, program.hidden
        self.program, self.state, self.n, self.b = program, state, n, b
        self.gradient = torch.empty_like(state)
        self.targets = _gather(y.mT, data_row).neg().unbind(0)  # -y, (r, o, b)
        if h is None:
            samples = _gather(x, data_row.repeat_interleave(o))
            self.weights, self.slope = state.view(r * o, d, n), self.gradient.view(r * o, d, n)
        else:
            samples = _gather(x, data_row)
            if program.bias:
                samples = torch.cat([samples, samples.new_ones(()).expand(*samples.shape[:-1], 1)], -1)
            self.weights = state[:, o * h :].view(r, d + program.bias, h * n)
            self.slope = self.gradient[:, o * h :].view(r, d + program.bias, h * n)
            self.outer, self.outer_slope = (t[:, : o * h].view(r, o, h * n) for t in (state, self.gradient))
        self.samples = samples.unbind(0)
        self.value = state.new_empty(self.weights.shape[0], b, self.weights.shape[2])
        self.activation = _ACTIVATIONS[program.activation]
        self.pre = torch.empty_like(self.value) if self.activation.keeps_pre else self.value
        self.moved = torch.empty_like(self.samples[0])
        self.delta = torch.empty_like(self.value) if h is not None and o > 1 else None
        self.residual = state.new_empty(r, o, b)
        self.mixing = _mixing(program, runs[0], like=state)
        self.projection = _Projection.of(program, runs[0], state)

    def step(self, step: int, size: float, shock: Tensor | None) -> None:
        """One update of the state, in place."""
        x = self.samples[step]
        torch.bmm(x, self.weights, out=self.value)
        if self.activation.keeps_pre:
            self.pre.copy_(self.value)
        self.activation.value(self.value)
        residual = self._residual(step)
        if self.program.hidden is None:
            self._pull_rows(x, residual)
        else:
            self._pull_hidden(x, residual)
        decay = 1 - 2 * self.program.tau * size
        scale = -2 * size * self.program.loss_scale / self.b
        if self.projection is not None:
            move = self.gradient.mul_(scale)
            self.state.mul_(decay).add_(self.projection(move if shock is None else move.add_(shock)))
            return
        if decay != 1:
            self.state.mul_(decay)
        self.state.add_(self.gradient, alpha=scale)
        if shock is not None:
            self.state.add_(shock)

    def _residual(self, step: int) -> Tensor:
        """T (Φ(X') − Y'), shape ``(r, o, b)``."""
        residual = self.residual
        if self.program.hidden is None:
            torch.sum(self.value, -1, out=residual.view(-1, self.b))
            torch.add(self.targets[step], residual, alpha=1 / self.n, out=residual)
        else:
            torch.baddbmm(self.targets[step], self.outer, self.value.mT, alpha=1 / self.n, out=residual)
        if self.mixing is None:
            return residual
        r, size = residual.shape[0], self.mixing.shape[0]
        return torch.bmm(self.mixing.expand(r, size, size), residual.view(r, size, -1)).view_as(residual)

    def _pull_rows(self, x: Tensor, residual: Tensor) -> None:
        torch.mul(x, residual.view(-1, self.b, 1), out=self.moved)
        torch.bmm(self.moved.mT, self.activation.derivative(self.pre, self.value), out=self.slope)

    def _pull_hidden(self, x: Tensor, residual: Tensor) -> None:
        torch.bmm(residual, self.value, out=self.outer_slope)
        derivative = self.activation.derivative(self.pre, self.value)
        if self.delta is None:
            torch.mul(x, residual.mT, out=self.moved)
            torch.bmm(self.moved.mT, derivative, out=self.slope)
            self.slope.mul_(self.outer)
        else:
            torch.bmm(residual.mT, self.outer, out=self.delta)
            torch.bmm(x.mT, self.delta.mul_(derivative), out=self.slope)


class _Projection(NamedTuple):
    """P by its distinct rows: equal rows of P give bitwise equal (opposite rows: opposite) coordinates."""

    rows: Tensor
    place: Tensor
    sign: Tensor | None

    @staticmethod
    def of(program: Program, run: int, like: Tensor) -> _Projection | None:
        if program.gradient_map is None:
            return None
        matrix = program.gradient_map[run].to(like)
        if _is_identity(matrix):
            return None
        leading = matrix.gather(1, (matrix != 0).int().argmax(1, keepdim=True))
        sign = torch.where(leading < 0, -1.0, 1.0).to(matrix)
        rows, place = torch.unique(matrix * sign, dim=0, return_inverse=True)
        return _Projection(rows.expand(like.shape[0], *rows.shape), place, None if bool((sign > 0).all()) else sign)

    def __call__(self, move: Tensor) -> Tensor:
        projected = torch.bmm(self.rows, move).index_select(1, self.place)
        return projected if self.sign is None else projected.mul_(self.sign)


class _Rows:
    """noise[step, rows] without a copy where the rows are consecutive."""

    def __init__(self, noise: Tensor, rows: Tensor) -> None:
        first, count = int(rows[0]), rows.numel()
        self.rows = None if rows.tolist() == list(range(first, first + count)) else rows
        self.noise = noise[:, first : first + count] if self.rows is None else noise

    def __getitem__(self, step: int) -> Tensor:
        return self.noise[step] if self.rows is None else self.noise[step].index_select(0, self.rows)


def _alike(program: Program, runs: int, limit: int) -> Iterator[list[int]]:
    """Runs with the same maps together, at most ``limit`` at a time."""
    kinds: dict[tuple[int, int], list[int]] = {}
    maps = (program.residual_map, program.gradient_map)
    labels = [[0] * runs if m is None else torch.unique(m, dim=0, return_inverse=True)[1].tolist() for m in maps]
    for run, kind in enumerate(zip(*labels, strict=True)):
        kinds.setdefault(kind, []).append(run)
    for members in kinds.values():
        for start in range(0, len(members), limit):
            yield members[start : start + limit]


def _mixing(program: Program, run: int, *, like: Tensor) -> Tensor | None:
    """T with its index reordered from (frame element, output) to (output, frame element); None for the identity."""
    if program.residual_map is None:
        return None
    matrix = program.residual_map[run].to(like)
    if _is_identity(matrix):
        return None
    m, o = program.frame_size, program.out_dim
    return matrix.view(m, o, m, o).permute(1, 0, 3, 2).reshape(m * o, m * o)


def _is_identity(matrix: Tensor) -> bool:
    return torch.equal(matrix, torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device))


def _gather(data: Tensor, rows: Tensor) -> Tensor:
    """data[:, rows], contiguous; no copy when nothing moves."""
    if rows.tolist() == list(range(data.shape[1])):
        return data.contiguous()
    return data.index_select(1, rows)


def _consecutive(state: Tensor, index: Tensor) -> Tensor:
    """state[index], as a view when the runs are consecutive."""
    first, count = int(index[0]), index.numel()
    return state[first : first + count] if int(index[-1]) - first == count - 1 else state[index]
