r"""Kernels of ReLU and of the absolute value under Gaussian or spherical inputs, exactly, with gradients.

For X ~ N(0, I), r = cos∠(b, c), ψ = arcsin r, and the even function

    h(b, c) = |b||c| (cos ψ + r ψ),    ∇_b h = ψ c + cos ψ |c| b/|b|,    cos ψ = √(1−r²),

the arc-cosine kernel of order one and its even part are

    E relu⟨b,X⟩ relu⟨c,X⟩ = ⟨b, c⟩/4 + h(b, c)/(2π),        E |⟨b,X⟩||⟨c,X⟩| = (2/π) h(b, c).

A covariance S enters as b ↦ S^{1/2}b; the unit sphere acts as S = I/d. Kernels are positively 1-homogeneous in each
argument, so that Σ_j w_j k(b, c_j) = ⟨b, ∇_b Σ_j w_j k(b, c_j)⟩: value sums are a by-product of gradients.

*Accuracy.* Near coincident and opposite vectors ψ is known to √ε only, but h and ∇h are stationary in ψ there
(∂_ψ h = |b||c| ψ cos ψ, likewise ∇h), so that they are as accurate as elsewhere, absolutely. Cosines within 8 machine
epsilons of ±1 count as ±1. Second derivatives, which have kinks there, carry an error ε/θ at angle θ: at
most 1e-7 in float64, and none at coincident or opposite vectors themselves.

*Conventions at a zero vector,* where k = 0 has no gradient in b: the symmetric derivative ∇_b k(0, c) = Sc/4, which is
the mean over all directions of b of the gradient there (and what relu'(0) = 1/2 gives); second derivatives are zero.

References:
    Cho & Saul 2009, *Kernel methods for deep learning*, NeurIPS 22, Equations (3)–(6) (arc-cosine kernels, with factor
    2 for inputs that are Gaussian weights). The split into odd and even part, and ∇h: derived here.
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from symfield.typing import Float, Shaped, Tensor
from symfield.wide.cosines import arcsine, even, sine, working_dtype
from symfield.wide.inputs import Inputs

__all__ = [
    "absolute_kernel",
    "absolute_kernel_gradient",
    "arc_cosine",
    "arc_cosine_force",
    "arc_cosine_gradient",
    "arc_cosine_pullback",
]

_SNAP = 8.0  # machine epsilons
_PAIRS_CPU = 2**16  # a block of pairs stays in the cache
_PAIRS = 2**24


def arc_cosine(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> Float[Tensor, "*r n m"]:
    """The arc-cosine kernel of order one, E relu(⟨b_i, X⟩) relu(⟨c_j, X⟩).

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        The kernel, ``(*r, n, m)``; differentiable twice.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> e = torch.eye(2, dtype=torch.float64)
        >>> arc_cosine(e[:1], torch.cat([e, -e[:1]])) * 2 * math.pi
        tensor([[3.1416, 1.0000, 0.0000]], dtype=torch.float64)

    References:
        Cho & Saul 2009, Equation (6).
    """
    left, right, out = _prepare(b, c, inputs)
    rows = [piece @ right.mT / 4 + _even(piece, right) / (2 * math.pi) for piece in _pieces(left, right)]
    return torch.cat(rows, dim=-2).to(out)


def arc_cosine_gradient(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], weights: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> Float[Tensor, "*r n d"]:
    """The gradient in b_i of Σ_j w_j E relu(⟨b_i, X⟩) relu(⟨c_j, X⟩), without an ``(n, m, d)`` tensor.

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        weights: w, ``(*r, m)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        Gradients, ``(*r, n, d)``; Sc/4 is taken for the gradient of one kernel at b = 0.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> b = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
        >>> arc_cosine_gradient(b, b, torch.ones(1, dtype=torch.float64)).tolist()
        [[1.0, 0.0]]
    """
    return arc_cosine_force(b, c, weights, inputs)[1]


def arc_cosine_force(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], weights: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
    """The sums Σ_j w_j E relu(⟨b_i, X⟩) relu(⟨c_j, X⟩) together with their gradients in b_i.

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        weights: w, ``(*r, m)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        Values ``(*r, n)`` and gradients ``(*r, n, d)``, at the cost of the gradients alone.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> b = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
        >>> value, gradient = arc_cosine_force(b, b, torch.ones(1, dtype=torch.float64))
        >>> value.tolist(), gradient.tolist()
        ([2.0], [[1.0, 0.0]])
    """
    left, right, out = _prepare(b, c, inputs, weights)
    w = weights.to(right.dtype).unsqueeze(-1)
    gradient = (w * right).sum(-2, keepdim=True) / 4 + _even_gradient(left, right, w) / (2 * math.pi)
    value = (left * gradient).sum(-1)
    return value.to(out), _pull(gradient, inputs).to(out)


def arc_cosine_pullback(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], covectors: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> Float[Tensor, "*r n d"]:
    """The gradients Σ_j u_ij ∇_{b_i} E relu(⟨b_i, X⟩) relu(⟨c_j, X⟩), for covectors that differ between the rows.

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        covectors: u, ``(*r, n, m)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        Gradients, ``(*r, n, d)``; Sc/4 is taken for the gradient of one kernel at b = 0.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> b = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> arc_cosine_pullback(b, b, 2 * torch.eye(2, dtype=torch.float64)).tolist()
        [[2.0, 0.0], [0.0, 1.0]]
    """
    left, right, out = _prepare(b, c, inputs, covectors)
    if covectors.shape[-2:-1] != left.shape[-2:-1]:
        expected = f"(..., {left.shape[-2]}, {right.shape[-2]})"
        raise ValueError(f"expected covectors {expected}, received {tuple(covectors.shape)}")
    u = covectors.to(right.dtype)
    return _pull(u @ right / 4 + _even_pullback(left, right, u) / (2 * math.pi), inputs).to(out)


def absolute_kernel(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> Float[Tensor, "*r n m"]:
    """E |⟨b_i, X⟩||⟨c_j, X⟩|, four times the kernel of the even parts of two ReLU.

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        The kernel, ``(*r, n, m)``; differentiable twice.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> e = torch.eye(2, dtype=torch.float64)
        >>> absolute_kernel(e[:1], e) * math.pi / 2
        tensor([[1.5708, 1.0000]], dtype=torch.float64)
    """
    left, right, out = _prepare(b, c, inputs)
    return torch.cat([_even(piece, right) * (2 / math.pi) for piece in _pieces(left, right)], dim=-2).to(out)


def absolute_kernel_gradient(
    b: Shaped[Tensor, "..."], c: Shaped[Tensor, "..."], weights: Shaped[Tensor, "..."], inputs: Inputs | None = None
) -> Float[Tensor, "*r n d"]:
    """The gradient in b_i of Σ_j w_j E |⟨b_i, X⟩||⟨c_j, X⟩|.

    Args:
        b: weight vectors, ``(*r, n, d)``.
        c: weight vectors, ``(*r, m, d)``.
        weights: w, ``(*r, m)``.
        inputs: law of X; N(0, I) when absent.

    Returns:
        Gradients, ``(*r, n, d)``; zero at b = 0.

    Raises:
        ValueError: if shapes do not fit, or the dtype is not a floating one.

    Example:
        >>> b = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
        >>> absolute_kernel_gradient(b, b, torch.ones(1, dtype=torch.float64)).tolist()
        [[2.0, 0.0]]
    """
    left, right, out = _prepare(b, c, inputs, weights)
    gradient = _even_gradient(left, right, weights.to(right.dtype).unsqueeze(-1)) * (2 / math.pi)
    return _pull(gradient, inputs).to(out)


def _even(left: Tensor, right: Tensor) -> Tensor:
    """The matrix h(b_i, c_j)."""
    (p, u), (q, v) = _polar(left), _polar(right)
    return p * q.mT * even(_cosines(u, v))


def _even_gradient(left: Tensor, right: Tensor, w: Tensor) -> Tensor:
    """Σ_j w_j ∇_b h(b_i, c_j), shape ``(*r, n, d)``."""
    q, v = _polar(right)
    forces, lengths = w * right, w * q
    rows = []
    for piece in _pieces(left, right):
        u = _polar(piece)[1]
        r = _cosines(u, v)
        rows.append(arcsine(r) @ forces + (sine(r) @ lengths) * u)
    return torch.cat(rows, dim=-2)


def _even_pullback(left: Tensor, right: Tensor, covectors: Tensor) -> Tensor:
    """Σ_j u_ij ∇_b h(b_i, c_j), shape ``(*r, n, d)``."""
    q, v = _polar(right)
    rows, start = [], 0
    for piece in _pieces(left, right):
        u = covectors[..., start : start + piece.shape[-2], :]
        direction = _polar(piece)[1]
        r = _cosines(direction, v)
        rows.append((u * arcsine(r)) @ right + ((u * sine(r)) @ q) * direction)
        start += piece.shape[-2]
    return torch.cat(rows, dim=-2)


def _cosines(u: Tensor, v: Tensor) -> Tensor:
    """Cosines between unit vectors, a few machine epsilons too large, so that clipping takes those near ±1 for ±1."""
    return u @ (v * (1 + _SNAP * torch.finfo(u.dtype).eps)).mT


def _polar(w: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths ``(..., 1)`` and directions ``(..., d)``; zero vectors have length, direction and derivatives zero."""
    scale = w.detach().abs().amax(-1, keepdim=True)  # against overflow and underflow of squares
    zero = scale == 0
    scaled = w / torch.where(zero, 1.0, scale)
    norm = torch.where(zero, 1.0, scaled.square().sum(-1, keepdim=True)).sqrt()
    return torch.where(zero, 0.0, scale * norm), torch.where(zero, 0.0, scaled / norm)


def _pieces(left: Tensor, right: Tensor) -> Iterator[Tensor]:
    """Rows, such that a block of pairs stays small."""
    runs, others = left.shape[:-2], right.shape[:-2]
    pairs = math.prod(runs if runs == others else torch.broadcast_shapes(runs, others)) * right.shape[-2]
    limit = _PAIRS_CPU if left.device.type == "cpu" else _PAIRS
    yield from left.split(max(1, limit // max(pairs, 1)), dim=-2)


def _prepare(
    b: Tensor, c: Tensor, inputs: Inputs | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Checked, upcast and whitened weight vectors, and the dtype of the result."""
    dim = b.shape[-1] if inputs is None else inputs.dim
    if b.ndim < 2 or c.ndim < 2 or b.shape[-1] != dim or c.shape[-1] != dim or dim == 0:
        law = "" if inputs is None else f" for {inputs!r}"
        raise ValueError(
            f"expected weight vectors (..., n, {dim}) and (..., m, {dim}){law}, "
            f"received {tuple(b.shape)} and {tuple(c.shape)}"
        )
    out = torch.promote_types(b.dtype, c.dtype)
    if weights is not None:
        if weights.ndim < 1 or weights.shape[-1] != c.shape[-2]:
            raise ValueError(f"expected {c.shape[-2]} weights (..., m), received {tuple(weights.shape)}")
        out = torch.promote_types(out, weights.dtype)
    working = working_dtype(out)
    left, right = b.to(working), c.to(working)
    return (left, right, out) if inputs is None else (inputs.whiten(left), inputs.whiten(right), out)


def _pull(gradient: Tensor, inputs: Inputs | None) -> Tensor:
    return gradient if inputs is None else inputs.whiten(gradient)
