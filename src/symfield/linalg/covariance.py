"""Covariance matrices: what is one, and its symmetric root."""

from __future__ import annotations

import torch

from symfield.typing import Float, Tensor

__all__ = ["covariance_root", "require_covariance"]

_TOLERANCE = 1e-9


def require_covariance(covariance: Float[Tensor, "..."], dim: int) -> Float[Tensor, "d d"]:
    """A covariance in float64, refused unless it is one.

    Args:
        covariance: Σ, shape ``(d, d)``.
        dim: d.

    Returns:
        Σ in float64.

    Raises:
        ValueError: if it is not finite, symmetric and positive semi-definite (to 1e-9 of its largest entry) of that
            size.

    Example:
        >>> require_covariance(torch.eye(2), 2).dtype
        torch.float64
    """
    matrix = covariance.detach().double()
    if matrix.shape != (dim, dim) or not torch.isfinite(matrix).all():
        raise ValueError(f"expected a finite covariance of shape ({dim}, {dim}), received {tuple(matrix.shape)}")
    scale = float(matrix.abs().max())
    asymmetry, least = float((matrix - matrix.mT).abs().max()), float(torch.linalg.eigvalsh(matrix)[0])
    if asymmetry > _TOLERANCE * scale or least < -_TOLERANCE * scale:
        raise ValueError(
            "expected a symmetric positive semi-definite covariance, received one with asymmetry "
            f"{asymmetry:.3g} and least eigenvalue {least:.3g}; symmetrise it, or add the missing variance"
        )
    return matrix


def covariance_root(covariance: Float[Tensor, "..."], dim: int) -> Float[Tensor, "d d"]:
    """The symmetric positive semi-definite root Σ^{1/2}.

    Args:
        covariance: Σ, shape ``(d, d)``.
        dim: d.

    Returns:
        Σ^{1/2} in float64.

    Raises:
        ValueError: if Σ is not a covariance of that size.

    Example:
        >>> covariance_root(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 2).diagonal().tolist()
        [2.0, 3.0]
    """
    values, vectors = torch.linalg.eigh(require_covariance(covariance, dim))
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
