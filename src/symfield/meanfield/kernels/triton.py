"""The inner loop as a Triton kernel for CUDA tensors: one program a run, many steps in a launch.

A program owns its run, so that the halves of a step need no more than a barrier among its own threads; state and
displacement lie in global memory. With ``TRITON_INTERPRET=1`` it runs on CPU tensors, slowly, for checking. Triton
comes with the CUDA builds of torch; without it this module can be imported, but not used.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import os

import torch

from symfield.meanfield.kernels.program import Program, check
from symfield.typing import Float, Int, Tensor

try:
    import triton
    import triton.language as tl
    from triton import jit
except ImportError:

    def jit(function):
        """Leaves the kernels as they are: nobody can call them."""
        return function


__all__ = ["advance_triton"]

_CODES = {"identity": 0, "relu": 1, "sigmoid": 2, "tanh": 3, "erf": 4}
_TILE = 4096  # samples × particles that a program holds at a time


@torch.no_grad()
def advance_triton(
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
    """Advance every run by k steps in one launch on a GPU.

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
        ImportError: if Triton is not installed.
        ValueError: if shapes, types, rows or the device do not fit.
    """
    if jit.__module__ == __name__:
        raise ImportError("advance_triton needs Triton, which is not installed; use advance_batched on this device")
    check(z, x, y, noise, steps, program=program, data_row=data_row, noise_row=noise_row)
    if z.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(f"expected CUDA tensors, received {z.device}; use advance_native or advance_batched")
    state = z.clone(memory_format=torch.contiguous_format)
    (k, rows, b, d), (runs, p, n) = x.shape, z.shape
    if not (runs and k):
        return state
    o, m = program.out_dim, program.frame_size
    parts = o if program.hidden is None else program.hidden
    maps = [state if t is None else t.to(z).contiguous() for t in (program.residual_map, program.gradient_map)]
    samples = triton.next_power_of_2(b)
    _steps[(runs,)](
        state,
        torch.empty_like(state),
        z.new_empty(runs, b, o),
        x.contiguous(),
        y.contiguous(),
        state if noise is None else noise.contiguous(),
        (-2 * program.loss_scale / b * steps.double()).to(z),
        (1 - 2 * program.tau * steps.double()).to(z),
        data_row.to(z.device),
        noise_row.to(z.device),
        *maps,
        k,
        n,
        b,
        p,
        m,
        parts,
        rows,
        1 if noise is None else noise.shape[1],
        IN=d,
        OUT=o,
        OUTPUTS=triton.next_power_of_2(o),
        ACTIVATION=_CODES[program.activation],
        POINTWISE=program.hidden is None,
        BIAS=program.bias,
        NOISE=noise is not None,
        MIXES=program.residual_map is not None,
        PROJECTS=program.gradient_map is not None,
        SAMPLES=samples,
        BLOCK=max(16, min(triton.next_power_of_2(n), _TILE // samples)),
    )
    return state


@jit
def _activate(pre, ACTIVATION: tl.constexpr):
    """Value and slope of the activation; NaN stays NaN."""
    if ACTIVATION == 0:
        value = pre
        slope = pre * 0 + 1
    elif ACTIVATION == 1:
        value = tl.where(pre <= 0, pre * 0, pre)
        slope = tl.where(pre > 0, pre * 0 + 1, pre * 0)
    elif ACTIVATION == 2:
        value = 1 / (1 + tl.exp(-pre))
        slope = value - value * value
    elif ACTIVATION == 3:
        t = tl.exp(-2 * tl.abs(pre))
        size = (1 - t) / (1 + t)
        value = tl.where(pre < 0, -size, size)
        slope = 1 - value * value
    else:
        value = tl.erf(pre)
        slope = tl.exp(-pre * pre) * 1.1283791670955126
    return value, slope


@jit
def _part(z, xs, j, parts, N, B, particle, IN, OUT, ACTIVATION: tl.constexpr, POINTWISE: tl.constexpr,
          BIAS: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Value and slope of part j, (samples, particles); zero weights beyond the last particle."""
    sample = tl.arange(0, SAMPLES)
    inside = particle < N
    first = j * IN if POINTWISE else OUT * parts + j
    distance = 1 if POINTWISE else parts
    pre = tl.zeros((SAMPLES, BLOCK), dtype=z.dtype.element_ty)
    if BIAS:
        pre += tl.load(z + ((OUT + IN) * parts + j) * N + particle, mask=inside, other=0.0)[None, :]
    for t in range(IN):
        weight = tl.load(z + (first + t * distance) * N + particle, mask=inside, other=0.0)
        pre += tl.load(xs + sample * IN + t, mask=sample < B, other=0.0)[:, None] * weight[None, :]
    return _activate(pre, ACTIVATION)


@jit
def _residual(z, xs, ys, e, mixing, parts, N, B, M, IN, OUT, OUTPUTS: tl.constexpr, ACTIVATION: tl.constexpr,
              POINTWISE: tl.constexpr, BIAS: tl.constexpr, MIXES: tl.constexpr, SAMPLES: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    """T (mean over particles - y), (samples, outputs), zero beyond the last of either."""
    sample = tl.arange(0, SAMPLES)
    output = tl.arange(0, OUTPUTS)
    cells = (sample < B)[:, None] & (output < OUT)[None, :]
    total = tl.zeros((SAMPLES, OUTPUTS), dtype=z.dtype.element_ty)
    for start in range(0, N, BLOCK):
        particle = start + tl.arange(0, BLOCK)
        inside = particle < N
        for j in range(parts):
            value, _ = _part(z, xs, j, parts, N, B, particle, IN, OUT, ACTIVATION, POINTWISE, BIAS, SAMPLES, BLOCK)
            if POINTWISE:
                column = tl.sum(tl.where(inside[None, :], value, 0.0), axis=1)
                total += tl.where((output == j)[None, :], column[:, None], 0.0)
            else:
                for o in range(OUT):
                    w = tl.load(z + (o * parts + j) * N + particle, mask=inside, other=0.0)
                    column = tl.sum(value * w[None, :], axis=1)
                    total += tl.where((output == o)[None, :], column[:, None], 0.0)
    place = sample[:, None] * OUT + output[None, :]
    error = total / N - tl.load(ys + place, mask=cells, other=0.0)
    if MIXES:
        tl.store(e + place, error, mask=cells)
        tl.debug_barrier()
        each = B // M
        error = tl.zeros((SAMPLES, OUTPUTS), dtype=z.dtype.element_ty)
        for c in range(M * OUT):
            entry = ((sample // each) * OUT)[:, None] + output[None, :]
            weight = tl.load(mixing + entry * (M * OUT) + c, mask=cells, other=0.0)
            source = ((c // OUT) * each + sample % each) * OUT + c % OUT
            error += weight * tl.load(e + source, mask=sample < B, other=0.0)[:, None]
        tl.debug_barrier()
    return tl.where(cells, error, 0.0)


@jit
def _pull(z, g, xs, u, parts, N, B, IN, OUT, OUTPUTS: tl.constexpr, ACTIVATION: tl.constexpr, POINTWISE: tl.constexpr,
          BIAS: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Displacement of every parameter into g, from the scaled residual u."""
    sample = tl.arange(0, SAMPLES)
    output = tl.arange(0, OUTPUTS)
    for start in range(0, N, BLOCK):
        particle = start + tl.arange(0, BLOCK)
        inside = particle < N
        for j in range(parts):
            value, slope = _part(z, xs, j, parts, N, B, particle, IN, OUT, ACTIVATION, POINTWISE, BIAS, SAMPLES, BLOCK)
            if POINTWISE:
                delta = tl.sum(tl.where((output == j)[None, :], u, 0.0), axis=1)[:, None] * slope
            else:
                pulled = tl.zeros((SAMPLES, BLOCK), dtype=z.dtype.element_ty)
                for o in range(OUT):
                    row = (o * parts + j) * N + particle
                    u_o = tl.sum(tl.where((output == o)[None, :], u, 0.0), axis=1)
                    pulled += u_o[:, None] * tl.load(z + row, mask=inside, other=0.0)[None, :]
                    tl.store(g + row, tl.sum(u_o[:, None] * value, axis=0), mask=inside)
                delta = pulled * slope
            first = j * IN if POINTWISE else OUT * parts + j
            distance = 1 if POINTWISE else parts
            for t in range(IN):
                moved = tl.load(xs + sample * IN + t, mask=sample < B, other=0.0)[:, None] * delta
                tl.store(g + (first + t * distance) * N + particle, tl.sum(moved, axis=0), mask=inside)
            if BIAS:
                tl.store(g + ((OUT + IN) * parts + j) * N + particle, tl.sum(delta, axis=0), mask=inside)


@jit
def _update(z, g, shock, projection, decay, N, P, NOISE: tl.constexpr, PROJECTS: tl.constexpr, BLOCK: tl.constexpr):
    """z <- decay z + P (displacement + noise); equal rows of P are summed in the same order."""
    for start in range(0, N, BLOCK):
        particle = start + tl.arange(0, BLOCK)
        inside = particle < N
        for row in range(P):
            if PROJECTS:
                move = tl.zeros((BLOCK,), dtype=z.dtype.element_ty)
                for c in range(P):
                    one = tl.load(g + c * N + particle, mask=inside, other=0.0)
                    if NOISE:
                        one += tl.load(shock + c * N + particle, mask=inside, other=0.0)
                    move += tl.load(projection + row * P + c) * one
            else:
                move = tl.load(g + row * N + particle, mask=inside, other=0.0)
                if NOISE:
                    move += tl.load(shock + row * N + particle, mask=inside, other=0.0)
            old = tl.load(z + row * N + particle, mask=inside, other=0.0)
            tl.store(z + row * N + particle, decay * old + move, mask=inside)


@jit
def _steps(state, move, residual, x, y, noise, factors, decays, data_row, noise_row, mixing, projection,
           K, N, B, P, M, parts, rows, noise_rows,
           IN: tl.constexpr, OUT: tl.constexpr, OUTPUTS: tl.constexpr, ACTIVATION: tl.constexpr,
           POINTWISE: tl.constexpr, BIAS: tl.constexpr, NOISE: tl.constexpr, MIXES: tl.constexpr,
           PROJECTS: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """All steps of one run."""
    run = tl.program_id(0).to(tl.int64)
    z, g, e = state + run * P * N, move + run * P * N, residual + run * B * OUT
    mixing += run * (M * OUT) * (M * OUT)
    projection += run * P * P
    data, shock = tl.load(data_row + run), tl.load(noise_row + run)
    for k in range(K):
        xs, ys = x + (k * rows + data) * B * IN, y + (k * rows + data) * B * OUT
        u = tl.load(factors + k) * _residual(z, xs, ys, e, mixing, parts, N, B, M, IN, OUT, OUTPUTS, ACTIVATION,
                                             POINTWISE, BIAS, MIXES, SAMPLES, BLOCK)  # fmt: skip
        _pull(z, g, xs, u, parts, N, B, IN, OUT, OUTPUTS, ACTIVATION, POINTWISE, BIAS, SAMPLES, BLOCK)
        tl.debug_barrier()
        shocks = noise + (k * noise_rows + shock) * P * N
        _update(z, g, shocks, projection, tl.load(decays + k), N, P, NOISE, PROJECTS, BLOCK)
        tl.debug_barrier()
