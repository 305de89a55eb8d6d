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

_CACHE_BYTES = 1 << 20  # activations of the runs that advance together


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
    data_row, noise_row = data_row.to(z.device), noise_row.to(z.device)
    task = _Pointwise if program.hidden is None else _Hidden
    width = z.shape[2] * (program.out_dim if program.hidden is None else program.hidden)
    limit = max(1, _CACHE_BYTES // (x.shape[2] * width * z.element_size()))
    for runs in _alike(program, z.shape[0], limit):
        index = torch.tensor(runs, device=z.device)
        part = state[runs[0] : runs[-1] + 1] if runs[-1] - runs[0] == len(runs) - 1 else state[index]
        task(program, part, x, y, steps, runs[0], data_row[index]).run(noise, noise_row[index])
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

    A subclass fills ``value`` and ``residual`` in :meth:`forward` and ``moves``, the displacement −s G of each part of
    the state, in :meth:`backward`; the factor −2sc/b of the displacement is in ``targets`` and ``mean_factor``, hence
    in the residual. Views are taken once: at ten units a view costs as much as the arithmetic.
    """

    parts: list[Tensor]
    moves: list[Tensor]

    def __init__(
        self, program: Program, state: Tensor, x: Tensor, y: Tensor, steps: Tensor, run: int, rows: Tensor
    ) -> None:
        r, _, n = state.shape
        b, o = x.shape[2], program.out_dim
        self.program, self.state = program, state
        factors = steps.to(state) * (-2 * program.loss_scale / b)
        self.targets = (_gather(y.mT, rows) * -factors.view(-1, 1, 1, 1)).unbind(0)  # (r, o, b)
        self.mean_factor = (factors / n).tolist()
        self.decay = (1 - 2 * program.tau * steps.double()).tolist()
        self.residual = state.new_empty(r, o, b)
        self.mixing = _mixing(program, run, like=self.residual)
        self.mixed = self.residual if self.mixing is None else torch.empty_like(self.residual)
        self.projection = _Projection.of(program, run, state)
        self.activation = _ACTIVATIONS[program.activation]

    def buffers(self, *shape: int) -> None:
        """Room for the pre-activation and the value of σ; the same room when σ' can do with the value."""
        self.value = self.state.new_empty(shape)
        self.value_t = self.value.mT
        self.pre = torch.empty_like(self.value) if self.activation.keeps_pre else self.value

    def forward(self, step: int) -> None:
        """Values of all units at the samples, and the scaled residual."""
        raise NotImplementedError

    def backward(self, step: int) -> None:
        """Displacements of all parameters."""
        raise NotImplementedError

    def activate(self) -> None:
        """σ, in place."""
        if self.activation.keeps_pre:
            self.pre.copy_(self.value)
        self.activation.value(self.value)

    def run(self, noise: Tensor | None, noise_row: Tensor) -> None:
        """Take all steps, in place."""
        shocks = None if noise is None else _Noise(noise, noise_row)
        mixing = None if self.mixing is None else self.mixing.expand(self.state.shape[0], -1, -1)
        for step, decay in enumerate(self.decay):
            self.forward(step)
            if mixing is not None:
                by_frame = (self.state.shape[0], mixing.shape[1], -1)
                torch.bmm(mixing, self.residual.view(by_frame), out=self.mixed.view(by_frame))
            self.backward(step)
            if self.projection is not None:
                move = torch.cat(self.moves, 1)
                if shocks is not None:
                    shocks.add(step, move)
                torch.add(self.projection(move), self.state, alpha=decay, out=self.state)
                continue
            for part, move in zip(self.parts, self.moves, strict=True):
                torch.add(move, part, alpha=decay, out=part)
            if shocks is not None:
                shocks.add(step, self.state)


class _Pointwise(_Task):
    """σ(z·x): o rows of d weights, each with its own output; rows are a batch axis of the products."""

    def __init__(
        self, program: Program, state: Tensor, x: Tensor, y: Tensor, steps: Tensor, run: int, rows: Tensor
    ) -> None:
        super().__init__(program, state, x, y, steps, run, rows)
        (r, _, n), (b, d), o = state.shape, x.shape[2:], program.out_dim
        self.samples = _gather(x, rows.repeat_interleave(o)).unbind(0)
        self.weights = state.view(r * o, d, n)
        self.buffers(r * o, b, n)
        self.ones = state.new_ones(n)
        self.flat_value, self.flat_residual = self.value.view(-1, n), self.residual.view(-1)
        self.column = self.mixed.view(r * o, b, 1)
        self.moved = torch.empty_like(self.samples[0])
        self.moved_t = self.moved.mT
        self.slope = torch.empty_like(self.weights)
        self.parts, self.moves = [state], [self.slope.view_as(state)]

    def forward(self, step: int) -> None:
        torch.bmm(self.samples[step], self.weights, out=self.value)
        self.activate()
        alpha = self.mean_factor[step]
        torch.addmv(self.targets[step].view(-1), self.flat_value, self.ones, alpha=alpha, out=self.flat_residual)

    def backward(self, step: int) -> None:
        torch.mul(self.samples[step], self.column, out=self.moved)
        torch.bmm(self.moved_t, self.activation.derivative(self.pre, self.value), out=self.slope)


class _Hidden(_Task):
    """W σ(Aᵀx + B): h·n rows of d weights; a bias is one more weight, of a constant input."""

    def __init__(
        self, program: Program, state: Tensor, x: Tensor, y: Tensor, steps: Tensor, run: int, rows: Tensor
    ) -> None:
        super().__init__(program, state, x, y, steps, run, rows)
        (r, _, n), (b, d), o, h = state.shape, x.shape[2:], program.out_dim, program.hidden or 1
        samples = _gather(x, rows)
        if program.bias:
            samples = torch.cat([samples, samples.new_ones(()).expand(*samples.shape[:-1], 1)], -1)
        self.samples = samples.unbind(0)
        outer, weights = state[:, : o * h], state[:, o * h :]
        self.outer, self.weights = outer.view(r, o, h * n), weights.view(r, d + program.bias, h * n)
        self.buffers(r, b, h * n)
        self.outer_slope, self.slope = torch.empty_like(self.outer), torch.empty_like(self.weights)
        self.mixed_t = self.mixed.mT
        self.moved = torch.empty_like(self.samples[0])
        self.moved_t = self.moved.mT
        self.delta = torch.empty_like(self.value) if o > 1 else None
        self.parts = [outer, weights]
        self.moves = [self.outer_slope.view(outer.shape), self.slope.view(weights.shape)]

    def forward(self, step: int) -> None:
        torch.bmm(self.samples[step], self.weights, out=self.value)
        self.activate()
        alpha = self.mean_factor[step]
        torch.baddbmm(self.targets[step], self.outer, self.value_t, alpha=alpha, out=self.residual)

    def backward(self, step: int) -> None:
        torch.bmm(self.mixed, self.value, out=self.outer_slope)
        derivative = self.activation.derivative(self.pre, self.value)
        if self.delta is None:  # one output: the residual goes into the samples, W comes out of the sum
            torch.mul(self.samples[step], self.mixed_t, out=self.moved)
            torch.bmm(self.moved_t, derivative, out=self.slope)
            self.slope.mul_(self.outer)
        else:
            torch.bmm(self.mixed_t, self.outer, out=self.delta)
            torch.bmm(self.samples[step].mT, self.delta.mul_(derivative), out=self.slope)


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


class _Noise:
    """Adds noise[step, rows] to runs; without a copy where the rows come in order, or in order again and again."""

    def __init__(self, noise: Tensor, rows: Tensor) -> None:
        first, period = int(rows[0]), len(set(rows.tolist()))
        ordered = torch.arange(first, first + period, device=rows.device)
        if torch.equal(rows, ordered.repeat(-(-len(rows) // period))):
            self.rows, self.noise, self.period = None, noise[:, first : first + period], period
        else:
            self.rows, self.noise, self.period = rows, noise, len(rows)

    def add(self, step: int, runs: Tensor) -> None:
        now = self.noise[step] if self.rows is None else self.noise[step].index_select(0, self.rows)
        runs.view(-1, self.period, *runs.shape[1:]).add_(now)


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
