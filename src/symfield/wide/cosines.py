r"""Functions of the cosine of two weight vectors: the arc-cosine profile k1, its slope, and what kernels are made of.

With ψ = arcsin r, k1(r) = r/4 + (√(1−r²) + rψ)/2π and k1'(r) = 1/4 + ψ/2π. Autograd knows their derivatives in
closed form, safe at r = ±1 and a little beyond, where round-off takes cosines.

References:
    Cho & Saul 2009, *Kernel methods for deep learning*, NeurIPS 22, Equation (6).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from symfield.typing import Float, Shaped, Tensor

__all__ = ["arc_cosine_profile", "arc_cosine_slope", "arcsine", "even", "sine", "working_dtype"]


def arc_cosine_profile(cosine: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """k1(r) = (√(1−r²) + r(π − arccos r))/2π, the arc-cosine kernel of unit vectors at cosine r.

    Args:
        cosine: r, clipped to [−1, 1].

    Returns:
        Values from 0 at r = −1 to 1/2 at r = 1; the derivative is :func:`arc_cosine_slope`, at ±1 and beyond too (a
        cosine of 1 + ε is one of 1).

    Raises:
        ValueError: if the dtype is not a floating one.

    Example:
        >>> arc_cosine_profile(torch.tensor([-1.0, 1.0]))
        tensor([0.0000, 0.5000])
    """
    r = cosine.to(working_dtype(cosine.dtype))
    clipped = r + (r.clamp(-1, 1) - r).detach()
    return (clipped / 4 + even(r) / (2 * math.pi)).to(cosine.dtype)


def arc_cosine_slope(cosine: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """k1'(r) = (π − arccos r)/2π.

    Args:
        cosine: r, clipped to [−1, 1].

    Returns:
        Values from 0 to 1/2; the derivative 1/(2π√(1−r²)) is taken to be zero where it is infinite, at ±1.

    Raises:
        ValueError: if the dtype is not a floating one.

    Example:
        >>> arc_cosine_slope(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0.0000, 0.2500, 0.5000])
    """
    return (0.25 + arcsine(cosine.to(working_dtype(cosine.dtype))) / (2 * math.pi)).to(cosine.dtype)


def even(cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """√(1−r²) + r arcsin r, clipped; its derivative is the arcsine.

    Args:
        cosine: r.

    Returns:
        Values.

    Example:
        >>> even(torch.tensor([-1.0]))
        tensor([1.5708])
    """
    return _Even.of(cosine)


def arcsine(cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The arcsine, clipped, with derivative zero at ±1.

    Args:
        cosine: r.

    Returns:
        Values.

    Example:
        >>> arcsine(torch.tensor([1.0]))
        tensor([1.5708])
    """
    return _Arcsine.of(cosine)


def sine(cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """√(1−r²), clipped, with derivative zero at ±1.

    Args:
        cosine: r.

    Returns:
        Values.

    Example:
        >>> sine(torch.tensor([-1.0]))
        tensor([0.])
    """
    return _Sine.of(cosine)


class _OfCosine(torch.autograd.Function):
    """An elementwise function of r, clipped against round-off; derivatives do not know that (r' matters at ±1)."""

    generate_vmap_rule = True

    @classmethod
    def of(cls, r: Tensor) -> Tensor:
        """The function, recorded for autograd only where gradients are wanted."""
        return cls.apply(r) if torch.is_grad_enabled() else cls.forward(r)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)


class _Even(_OfCosine):
    """√(1−r²) + r arcsin r."""

    @staticmethod
    def forward(r: Tensor) -> Tensor:
        r = r.clamp(-1, 1)
        return torch.addcmul(_sine(r), r, torch.asin(r))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _Arcsine.of(*ctx.saved_tensors)


class _Arcsine(_OfCosine):
    """The arcsine, with derivative zero at ±1."""

    @staticmethod
    def forward(r: Tensor) -> Tensor:
        return torch.asin(r.clamp(-1, 1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _cosecant(*ctx.saved_tensors)


class _Sine(_OfCosine):
    """√(1−r²), with derivative zero at ±1."""

    @staticmethod
    def forward(r: Tensor) -> Tensor:
        return _sine(r.clamp(-1, 1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (r,) = ctx.saved_tensors
        return -grad * r * _cosecant(r)


def _sine(r: Tensor) -> Tensor:
    return (1 - r).mul_(1 + r).sqrt_()  # unlike 1 − r², accurate near ±1, as the arcsine is


def _cosecant(r: Tensor) -> Tensor:
    """1/√(1−r²), zero where that is infinite."""
    square = (1 - r) * (1 + r)
    flat = square <= 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, square).rsqrt())


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: float32 at least.

    Args:
        dtype: that of the result.

    Returns:
        The working dtype.

    Raises:
        ValueError: if the dtype is not a floating one.

    Example:
        >>> working_dtype(torch.float16)
        torch.float32
    """
    if not dtype.is_floating_point:
        raise ValueError(f"expected tensors of a floating dtype, received {dtype}; use .double()")
    return torch.promote_types(dtype, torch.float32)
