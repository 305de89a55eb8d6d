"""Trainable entries into a weight and their gradient out of it: compiled, else by a scatter and a gather.

The compiled function (``expansion.cpp``, see :mod:`symfield.compiler`) moves entries in the order of memory, under a
mask of one bit an entry, and so does its derivative. It serves float32 and float64 on a CPU with AVX2, where plain
tensors meet ordinary autograd, and batches of masks in a ``vmap`` of such. Inside of other function transforms,
compilation, tracing and dispatch modes, for forward-mode and second derivatives, and everywhere else, torch's own
scatter and gather do. Both move entries without computing with them: results agree bit by bit.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch._C import _functorch as functorch

from symfield.compiler import CompilationError, compiled_for_torch, switched_off
from symfield.typing import Bool, Float, Int, Tensor

__all__ = ["WORKS", "Compiled", "bits_of", "collect", "compiled_functions", "expand", "expand_by_mask", "is_mask"]

WORKS = "a compiled function works and agrees with torch"
_SOURCE = Path(__file__).with_name("expansion.cpp")
_FLAGS = ("-mavx2", "-mpopcnt")
_PLAIN = (Tensor, nn.Parameter)
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # torch 2.6 does not tell


def bits_of(mask: Bool[Tensor, "..."]) -> Tensor:
    """A mask as bits, in the order of memory, the least significant bit of a byte first.

    Args:
        mask: True where an entry is trainable.

    Returns:
        Bytes, ``uint8``, the last one filled up with zeros.

    Example:
        >>> bits_of(torch.tensor([[True, False], [True, True]]))
        tensor([13], dtype=torch.uint8)
    """
    packed = np.packbits(mask.detach().cpu().numpy().reshape(-1), bitorder="little")
    return torch.from_numpy(packed).to(mask.device)


def collect(weight: Float[Tensor, "rows ..."], places: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The trainable entries of a weight.

    Args:
        weight: ``(rows, ...)``.
        places: of the entries in a row, or in all rows together.

    Returns:
        The entries, in the shape of the places.

    Example:
        >>> collect(torch.tensor([[1.0, 5.0], [7.0, 2.0]]), torch.tensor([[0], [1]]))
        tensor([[1.],
                [2.]])
    """
    return _rows(weight, places).gather(-1, places)


def expand(
    entries: Float[Tensor, "..."],
    fixed: Float[Tensor, "..."],
    places: Int[Tensor, "..."],
    bits: Tensor,
) -> Float[Tensor, "..."]:
    """The fixed values, with trainable entries in their places.

    Args:
        entries: trainable ones, ``(rows, k)``, or ``(k,)`` for all rows together.
        fixed: fixed values, ``(rows, ...)``.
        places: of the entries in a row of ``fixed``, or in all rows together, ascending, in the shape of the entries.
        bits: the same as :func:`bits_of` the mask.

    Returns:
        A tensor of the shape of ``fixed``, differentiable in the entries.

    Example:
        >>> entries, fixed = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0, 5.0], [7.0, 0.0]])
        >>> expand(entries, fixed, torch.tensor([[0], [1]]), torch.tensor([9], dtype=torch.uint8))
        tensor([[1., 5.],
                [7., 2.]])
    """
    if not torch.compiler.is_compiling() and entries.is_cpu is True:  # and not a proxy's
        dense = compiled_functions().expand(entries, fixed, places, bits)
        if dense is not None:
            return dense
    return _rows(fixed, places).scatter(-1, places, entries).reshape(fixed.shape)


def is_mask(mask: Bool[Tensor, "..."], known: Bool[Tensor, "..."]) -> bool:
    """Whether a mask is the known one, as far as can be told here: the same tensor, or one with the same entries.

    Args:
        mask: any mask, or a batch of masks under ``vmap``.
        known: the mask whose places are known.

    Returns:
        False if the entries differ, or cannot be compared under a transform.

    Example:
        >>> is_mask(torch.tensor([True]), torch.tensor([True])), is_mask(torch.tensor([True]), torch.tensor([False]))
        (True, False)
    """
    if mask is known or (_is_exporting() and not _batched(mask)):  # an export, which swaps all buffers, is of a model
        return True
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or type(mask) is not Tensor:
        return False
    alike = mask.dtype == known.dtype and mask.device == known.device and mask.shape == known.shape
    return alike and not mask.is_meta and not _batched(mask) and torch.equal(mask, known)


def expand_by_mask(
    entries: Float[Tensor, "..."], fixed: Float[Tensor, "..."], mask: Bool[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The same where the places are not known beforehand; serves a batch of different masks under ``vmap``.

    Args:
        entries: trainable ones, row after row.
        fixed: fixed values.
        mask: True where an entry is trainable, in their shape.

    Returns:
        A tensor of the shape of ``fixed``, differentiable in the entries.

    Example:
        >>> mask = torch.tensor([[True, False], [False, True]])
        >>> expand_by_mask(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0, 5.0], [7.0, 0.0]]), mask)
        tensor([[1., 5.],
                [7., 2.]])
    """
    if not entries.numel():
        return fixed.clone()
    dense = _batch_at_once(entries, fixed, mask)
    if dense is not None:
        return dense
    flat = mask.reshape(-1)
    order = (flat.long().cumsum(0) - 1).clamp(min=0)
    return torch.where(flat, entries.reshape(-1).index_select(0, order), fixed.reshape(-1)).reshape(fixed.shape)


def _batch_at_once(entries: Tensor, fixed: Tensor, mask: Tensor) -> Tensor | None:
    """A batch of a ``vmap``, each with a mask of its own, is one large case for the compiled function.

    None where there is no batch of plain tensors, as inside of another transform, or masks and entries do not fit.
    """
    if not functorch.is_batchedtensor(mask) or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return None
    level, size = functorch.maybe_get_level(mask), functorch.get_unwrapped(mask).shape[functorch.maybe_get_bdim(mask)]
    parts = [_unwrapped(x, level) for x in (entries, fixed, mask)]
    if (
        len(functorch.get_interpreter_stack()) != 1  # grad modes differ between transforms
        or compiled_functions().words != WORKS
        or [x.dtype for x, _ in parts] != [entries.dtype, entries.dtype, torch.bool]
        or any(functorch.is_functorch_wrapped_tensor(x) or type(x) not in _PLAIN or not x.is_cpu for x, _ in parts)
    ):
        return None
    with torch._C._DisableFuncTorch():
        own, values, masks = (x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0) for x, axis in parts)
        if any(np.count_nonzero(each) != own[0].numel() for each in masks.numpy()):
            return None
        dense = compiled_functions().expand(own.contiguous(), values.contiguous(), None, bits_of(masks))
        return None if dense is None else functorch._add_batch_dim(dense, 0, level)


def _unwrapped(x: Tensor, level: int) -> tuple[Tensor, int | None]:
    """The tensor beneath a batch of that level and its axis, or any other tensor as it is."""
    if functorch.is_batchedtensor(x) and functorch.maybe_get_level(x) == level:
        return functorch.get_unwrapped(x), functorch.maybe_get_bdim(x)
    return x, None


def _rows(weight: Tensor, places: Tensor) -> Tensor:
    """A weight as the matrix, or where rows are uneven the vector, that the places point into."""
    return weight.reshape(weight.shape[0], -1) if places.ndim == 2 else weight.reshape(-1)


def _batched(x: Tensor) -> bool:
    """Whether a tensor stands for others in a function transform, or under ``is_grads_batched``."""
    return functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)


class Compiled(NamedTuple):
    """Compiled functions. Each returns None where it leaves the weight to torch.

    Attributes:
        expand: as :func:`expand`, for tensors on a CPU and outside of ``torch.compile``; places may be
            None, and are found from the bits for second derivatives.
        read: of a layer, the name of its weight, and what else to look at (see ``expansion.cpp``): the weight, where it
            is computed from its entries by one module and nothing looks on.
        words: that they work, or why they are not there.
    """

    expand: Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor | None]
    read: Callable[[nn.Module, str, tuple[object, ...]], Tensor | None]
    words: str


def _without(why: str) -> Compiled:
    return Compiled(lambda *_: None, lambda *_: None, f"{why}; torch's scatter is used")


@functools.cache
def compiled_functions() -> Compiled:
    """The functions of ``expansion.cpp``, compiled at first; they have agreed with torch on a small problem.

    Returns:
        The functions, which return None for everything where they cannot be compiled or do not agree.

    Example:
        >>> compiled_functions().expand(torch.ones(1), torch.zeros(2), torch.tensor([1]), torch.ones(1))  # no bytes
    """
    if switched_off():
        return _without("compiled kernels are switched off by SYMFIELD_KERNEL")
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return _without("the processor has no AVX2")
    try:
        module = compiled_for_torch(_SOURCE, flags=_FLAGS)
    except CompilationError as error:
        return _without(str(error))
    if not _agrees(module.expand):
        return _without("the compiled function does not agree with torch")
    return Compiled(module.expand, module.read, WORKS)


def _agrees(function: Callable[..., Tensor | None]) -> bool:
    """In a thread of its own, where no mode, transform or hook looks on that the first call happens to be in."""
    found = []

    def compare() -> None:
        i = torch.arange(203, dtype=torch.float32, device="cpu")
        mask = (i * i % 7 < 3) | (i > 180)
        places, fixed, entries = mask.nonzero()[:, 0], i + 1000, -1 - i[mask]
        with contextlib.suppress(RuntimeError):
            dense = function(entries.requires_grad_(), fixed, places, bits_of(mask))
            if dense is not None:
                (back,) = torch.autograd.grad(dense, entries, fixed)
                found.append(
                    torch.equal(dense, fixed.scatter(-1, places, entries)) and torch.equal(back, fixed[places])
                )

    thread = threading.Thread(target=compare)
    thread.start()
    thread.join()
    return found == [True]
