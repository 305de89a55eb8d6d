"""The one call, and which backend answers it."""

from __future__ import annotations

import importlib.util

import torch

from symfield.compiler import switched_off
from symfield.meanfield.kernels.batched import advance_batched
from symfield.meanfield.kernels.native import advance_native, native_serves
from symfield.meanfield.kernels.program import Backend, Program
from symfield.typing import Float, Int, Tensor

__all__ = ["advance", "fastest"]


def advance(
    z: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    noise: Float[Tensor, "..."] | None,
    steps: Float[Tensor, "..."],
    *,
    program: Program,
    data_row: Int[Tensor, "..."],
    noise_row: Int[Tensor, "..."],
    backend: Backend | None = None,
) -> Tensor:
    """Advance every run by k steps of noisy SGD.

    Args:
        z: state, shape ``(r, p, n)``, float32 or float64.
        x: samples of each step, shape ``(k, rx, b, d)``.
        y: targets of each step, shape ``(k, rx, b, o)``.
        noise: noise of each step, already scaled by sqrt(2 β s), shape ``(k, rn, p, n)``; None for β = 0.
        steps: step sizes, shape ``(k,)``.
        program: what a step does.
        data_row: row of ``x`` and ``y`` that each run reads, int64, shape ``(r,)``.
        noise_row: row of ``noise`` that each run reads, int64, shape ``(r,)``.
        backend: the function that does it, such as :func:`advance_batched`; the fastest one at hand when absent.

    Returns:
        The state after k steps, shape ``(r, p, n)``, a new tensor. A run that diverges comes back with NaN or infinity.

    Raises:
        ValueError: if shapes, types or rows do not fit.

    Example:
        >>> import torch
        >>> program = Program(activation="identity", in_dim=1, out_dim=1)
        >>> z, one = torch.zeros(1, 1, 2), torch.ones(1, 1, 1, 1)
        >>> row = torch.zeros(1, dtype=torch.int64)
        >>> advance(z, one, one, None, torch.tensor([0.25]), program=program, data_row=row, noise_row=row)
        tensor([[[0.5000, 0.5000]]])

    References:
        Maass & Fontbona 2024, Eqs. (1) and (5), arXiv 2405.19995v3.
    """
    chosen = fastest(program, like=z) if backend is None else backend
    return chosen(z, x, y, noise, steps, program=program, data_row=data_row, noise_row=noise_row)


def fastest(program: Program, *, like: Tensor) -> Backend:
    """The backend that :func:`advance` takes: compiled code where it can be had, else plain torch.

    Args:
        program: what a step does.
        like: a tensor with the device and dtype of the state.

    Returns:
        For CPU tensors :func:`advance_native` if this machine can compile it; for CUDA tensors ``advance_triton`` if
        Triton is installed; :func:`advance_batched` otherwise, and always with ``SYMFIELD_KERNEL=off``.
    """
    if switched_off() or like.dtype not in (torch.float32, torch.float64):
        return advance_batched
    if like.device.type == "cpu" and native_serves(program, like.dtype):
        return advance_native
    if like.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from symfield.meanfield.kernels.triton import advance_triton

        return advance_triton
    return advance_batched
