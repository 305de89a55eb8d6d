"""Trainable entries into a weight and their gradient out of it: compiled, else by a scatter and a gather.

The compiled pair (``expansion.c``, see :mod:`symfield.compiler`) moves entries in the order of memory, under a mask of
one bit an entry. It serves float32 and float64 on a CPU with AVX2, where plain tensors meet ordinary autograd. Inside
of function transforms, compilation, tracing and dispatch modes, for forward-mode and second derivatives, and everywhere
else, torch's own scatter and gather do. Both move entries without computing with them: results agree bit by bit.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

from symfield.compiler import CompilationError, compiled, switched_off
from symfield.typing import Bool, Float, Int, Tensor

__all__ = ["bits_of", "collect", "expand", "expand_by_mask", "is_mask"]

_SOURCE = Path(__file__).with_name("expansion.c")
_ITEMS = {torch.float32: 4, torch.float64: 8}
_PLAIN = (Tensor, nn.Parameter)


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
    library = _serving(entries, fixed, places, bits)
    if library is None:
        return _rows(fixed, places).scatter(-1, places, entries).reshape(fixed.shape)
    return cast(Tensor, _Expand.apply(entries, fixed, places, bits, library))


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
    if mask is known or torch.compiler.is_exporting():  # an export, which swaps all buffers, is of the model as it is
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
    flat = mask.reshape(-1)
    order = (flat.long().cumsum(0) - 1).clamp(min=0)
    return torch.where(flat, entries.reshape(-1).index_select(0, order), fixed.reshape(-1)).reshape(fixed.shape)


class _Expand(torch.autograd.Function):
    """The compiled pair."""

    @staticmethod
    def forward(ctx: Any, entries: Tensor, fixed: Tensor, places: Tensor, bits: Tensor, library: ctypes.CDLL) -> Tensor:
        """Into the weight."""
        ctx.places, ctx.bits, ctx.library = places, bits, library
        dense = torch.empty_like(fixed)
        library.symfield_expand(
            entries.data_ptr(), entries.numel(), fixed.data_ptr(), bits.data_ptr(), fixed.numel(), dense.data_ptr()
        )
        return dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Out of its gradient; by a gather if that is to be differentiated again, or is one of many under ``vmap``."""
        gradient, places = gradients[0], ctx.places
        if torch.is_grad_enabled() or not _plain(gradient):
            return collect(gradient, places), None, None, None, None
        entries = gradient.new_empty(places.shape)
        ctx.library.symfield_compress(
            gradient.data_ptr(), ctx.bits.data_ptr(), gradient.numel(), entries.data_ptr(), places.numel()
        )
        return entries, None, None, None, None


def _rows(weight: Tensor, places: Tensor) -> Tensor:
    """A weight as the matrix, or where rows are uneven the vector, that the places point into."""
    return weight.reshape(len(weight), -1) if places.ndim == 2 else weight.reshape(-1)


def _batched(x: Tensor) -> bool:
    """Whether a tensor stands for others in a function transform, or under ``is_grads_batched``."""
    return functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x)


def _plain(x: Tensor) -> bool:
    """Whether the entries lie in memory one after the other, as they are."""
    return (
        type(x) in _PLAIN
        and not _batched(x)
        and x.layout is torch.strided
        and x.is_cpu
        and x.is_contiguous()
        and not x.is_neg()
        and not x._is_zerotensor()
    )


def _serving(entries: Tensor, fixed: Tensor, places: Tensor, bits: Tensor) -> ctypes.CDLL | None:
    """The library, where it does what torch would do."""
    if torch.compiler.is_compiling():
        return None
    dtype = entries.dtype
    plain = (
        dtype in _ITEMS
        and fixed.dtype is dtype
        and bits.dtype is torch.uint8
        and _plain(entries)
        and _plain(fixed)
        and _plain(bits)
        and entries.shape == places.shape
        and bits.numel() == (fixed.numel() + 7) // 8
        and not fixed.requires_grad
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._get_tracing_state()
        and forward_ad._current_level < 0
        and not torch._C._len_torch_dispatch_stack()
        and not switched_off()
    )
    return _library(_ITEMS[dtype]) if plain else None


@functools.cache
def _library(itemsize: int) -> ctypes.CDLL | None:
    """The compiled pair, once it has agreed with torch on a small problem; None where it serves nothing."""
    try:
        library = compiled(_SOURCE, definitions=(("REAL", itemsize),))
    except CompilationError:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.symfield_lanes.restype = ctypes.c_int
    library.symfield_expand.argtypes = [pointer, integer, pointer, pointer, integer, pointer]
    library.symfield_compress.argtypes = [pointer, pointer, integer, pointer, integer]
    library.symfield_expand.restype = library.symfield_compress.restype = None
    return library if library.symfield_lanes() > 1 and _agrees(library, itemsize) else None


def _agrees(library: ctypes.CDLL, itemsize: int) -> bool:
    size = 203
    i = torch.arange(size)
    mask = (i * i % 7 < 3) | (i > 180)
    places, bits = mask.nonzero()[:, 0], bits_of(mask)
    fixed = (i + 1000).to(torch.float32 if itemsize == 4 else torch.float64)
    entries = -1.0 - torch.arange(len(places)).to(fixed)
    dense, back = torch.empty_like(fixed), torch.empty_like(entries)
    library.symfield_expand(entries.data_ptr(), len(places), fixed.data_ptr(), bits.data_ptr(), size, dense.data_ptr())
    library.symfield_compress(dense.data_ptr(), bits.data_ptr(), size, back.data_ptr(), len(places))
    return torch.equal(dense, fixed.scatter(-1, places, entries)) and torch.equal(back, entries)
