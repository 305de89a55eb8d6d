"""The inner loop as a C function compiled for this machine: many steps in a call, parameters touched once a step.

See ``native.c`` and ``unit.h`` for how, :mod:`symfield.compiler` for where the compiled code lives.
Before a library is used for the first time in a process it must agree with the torch backend on a small problem.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from symfield.compiler import CompilationError, compiled, find_compiler, switched_off
from symfield.meanfield.kernels.batched import advance_batched
from symfield.meanfield.kernels.program import Program, check
from symfield.typing import Float, Int, Tensor

__all__ = ["Status", "advance_native", "arithmetic_limit", "native_serves", "status"]

_SOURCE = Path(__file__).with_name("native.c")
_HEADERS = tuple(_SOURCE.with_name(name) for name in ("unit.h", "vectors.h"))
_CODES = {"identity": 0, "relu": 1, "sigmoid": 2, "tanh": 3, "erf": 4}
_MOST_OUTPUTS = 64  # of a hidden unit: its output weights lie on the stack
_WORTH_A_THREAD = 1 << 22  # multiply-adds


@dataclass(frozen=True)
class Status:
    """Whether compiled kernels work here.

    Attributes:
        available: True if they do.
        compiler: the compiler's command, or None.
        detail: one sentence for a human.
    """

    available: bool
    compiler: str | None
    detail: str


@torch.no_grad()
def advance_native(
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
    """Advance every run by k steps with compiled code, on the CPU.

    Runs are shared among ``torch.get_num_threads()`` threads; the result is the same bit by bit for any number of
    them, and for any way to cut the steps into calls.

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
        ValueError: if shapes, types, rows or the device do not fit.
        CompilationError: if the kernel cannot be compiled here.
        MemoryError: if there is no room for the activations of one run.
    """
    check(z, x, y, noise, steps, program=program, data_row=data_row, noise_row=noise_row)
    if z.device.type != "cpu":
        raise ValueError(f"expected tensors on the CPU, received {z.device}; use advance_triton or advance_batched")
    library = _library(_Kind.of(program, z.dtype))
    if isinstance(library, str):
        raise CompilationError(library)
    return _run(library, z, x, y, noise, steps, program, data_row, noise_row)


def native_serves(program: Program, dtype: torch.dtype) -> bool:
    """Whether :func:`advance_native` can run a program here; compiles it if need be.

    Args:
        program: what a step does.
        dtype: of the state.

    Returns:
        True if it can.
    """
    if program.hidden is not None and program.out_dim > _MOST_OUTPUTS:
        return False
    return not isinstance(_library(_Kind.of(program, dtype)), str)


def status() -> Status:
    """Whether compiled kernels work here; compiles a small one to find out.

    Returns:
        A :class:`Status`.
    """
    try:
        compiler = find_compiler()
    except CompilationError:  # which is what the library below says
        compiler = None
    name = None if compiler is None else " ".join(compiler)
    if switched_off():
        return Status(False, name, "compiled kernels are switched off by SYMFIELD_KERNEL; plain torch is used")
    for dtype in (torch.float32, torch.float64):
        library = _library(_Kind.of(Program("sigmoid", 2, 2), dtype))
        if isinstance(library, str):
            return Status(False, name, f"{library}; plain torch is used")
    return Status(True, name, "compiled kernels work and agree with plain torch")


def arithmetic_limit(program: Program, dtype: torch.dtype, *, samples: int, steps: int) -> int:
    """Do the sigmoids and multiply-adds of a step, and nothing else, to be timed from outside.

    Args:
        program: the unit.
        dtype: float32 or float64.
        samples: b.
        steps: how often.

    Returns:
        The number of (particle, part of a unit, sample) triples whose arithmetic was done; a unit has o parts if it is
        pointwise, else h.
    """
    library = _library(_Kind.of(program, dtype))
    if isinstance(library, str):
        raise CompilationError(library)
    x = torch.linspace(-1, 1, samples * program.in_dim, dtype=dtype)
    return samples * steps * library.symfield_arithmetic(x.data_ptr(), samples, steps)


class _Kind(NamedTuple):
    """What a library is compiled for: the macros of ``unit.h``."""

    REAL: int
    ACTIVATION: int
    POINTWISE: int
    SINGLE: int
    IN: int
    OUT: int
    BIAS: int

    @staticmethod
    def of(program: Program, dtype: torch.dtype) -> _Kind:
        activation = _CODES[program.activation]
        pointwise, single, bias = int(program.hidden is None), int(program.hidden == 1), int(program.bias)
        return _Kind(dtype.itemsize, activation, pointwise, single, program.in_dim, program.out_dim, bias)


@functools.cache
def _library(kind: _Kind) -> ctypes.CDLL | str:
    """The library of a kind, or why there is none; asked once in a process."""
    try:
        library = compiled(_SOURCE, headers=_HEADERS, definitions=tuple(kind._asdict().items()))
    except CompilationError as error:
        return str(error)
    library.symfield_advance.restype = ctypes.c_int
    library.symfield_advance.argtypes = [ctypes.c_void_p] * 10 + [ctypes.c_double] * 2 + [ctypes.c_int64] * 2
    library.symfield_arithmetic.restype = ctypes.c_int64
    library.symfield_arithmetic.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return library if _agrees(library, kind) else f"the compiled kernel {kind} does not agree with plain torch here"


def _agrees(library: ctypes.CDLL, kind: _Kind) -> bool:
    """A few steps of a small problem against the torch backend."""
    name = next(name for name, code in _CODES.items() if code == kind.ACTIVATION)
    hidden = None if kind.POINTWISE else 2 - kind.SINGLE
    program = Program(name, kind.IN, kind.OUT, hidden=hidden, bias=bool(kind.BIAS), tau=0.1)
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float64 if kind.REAL == 8 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    z, x, y = normal(2, program.dim, 37), normal(3, 2, 5, kind.IN) / kind.IN**0.5, normal(3, 2, 5, kind.OUT)
    noise, steps, rows = normal(3, 2, program.dim, 37), torch.full((3,), 0.1), torch.arange(2)
    expected = advance_batched(z, x, y, noise, steps, program=program, data_row=rows, noise_row=rows)
    error = (_run(library, z, x, y, noise, steps, program, rows, rows) - expected).abs().max()
    return bool(error < (1e-11 if kind.REAL == 8 else 1e-3) * expected.abs().max())


def _run(
    library: ctypes.CDLL,
    z: Tensor,
    x: Tensor,
    y: Tensor,
    noise: Tensor | None,
    steps: Tensor,
    program: Program,
    data_row: Tensor,
    noise_row: Tensor,
) -> Tensor:
    """Call the library on checked tensors, runs shared among threads."""
    state = z.clone(memory_format=torch.contiguous_format)
    (k, rows, b, _), (runs, _, n) = x.shape, z.shape
    sizes = (n, b, k, program.frame_size, rows, 1 if noise is None else noise.shape[1], program.hidden or 1)
    maps = [None if m is None else m.to(z) for m in (program.residual_map, program.gradient_map)]
    tensors = (x, y, noise, steps.double(), data_row.long(), noise_row.long(), *maps)
    inputs = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    pointers: list[Any] = [None if tensor is None else tensor.data_ptr() for tensor in inputs]
    pointers = [state.data_ptr(), *pointers, (ctypes.c_int64 * len(sizes))(*sizes)]

    def part(bounds: tuple[int, int]) -> int:
        return int(library.symfield_advance(*pointers, program.tau, program.loss_scale, *bounds))

    threads = max(1, min(torch.get_num_threads(), runs, state.numel() * k * b // _WORTH_A_THREAD))
    if threads == 1:
        failed = part((0, runs))
    else:
        cuts = [runs * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            failed = max(pool.map(part, itertools.pairwise(cuts)))
    if failed:
        raise MemoryError(f"no room for {b} samples of {n} particles; train fewer particles or samples at once")
    return state
