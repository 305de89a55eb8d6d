"""Covariance matrices: what is one, its symmetric root, and vectors seen through the root.

Of a singular covariance round-off leaves eigenvalues of about ε times the largest, whose roots are not small. So what
is below d·ε counts as zero, in the spectrum and in what the root leaves of a vector.
"""

from __future__ import annotations

import torch

from symfield.typing import Float, Tensor

__all__ = ["covariance_root", "require_covariance", "through_root"]

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
    if matrix.shape != (dim, dim):
        raise ValueError(f"expected a covariance of shape ({dim}, {dim}), received {tuple(matrix.shape)}")
    if not torch.isfinite(matrix).all():
        raise ValueError("expected a finite covariance, received NaN or infinity")
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
        Σ^{1/2} in float64, of the rank of Σ; the roots of the diagonal, exactly, where Σ is diagonal.

    Raises:
        ValueError: if Σ is not a covariance of that size.

    Example:
        >>> covariance_root(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 2).diagonal().tolist()
        [2.0, 3.0]
    """
    matrix = require_covariance(covariance, dim)
    diagonal = matrix.diagonal()
    if torch.equal(matrix, torch.diag(diagonal)):
        return torch.diag(diagonal.clamp_min(0).sqrt())
    values, vectors = torch.linalg.eigh(matrix)
    kept = torch.where(values > _noise(dim, matrix) * values[-1], values, 0.0)
    return (vectors * kept.sqrt()) @ vectors.mT


def through_root(w: Float[Tensor, "*b d"], root: Float[Tensor, "d d"]) -> Float[Tensor, "*b d"]:
    """Vectors times a root, exactly zero where only round-off is left of them.

    Args:
        w: vectors, ``(*b, d)``.
        root: a root of a covariance, ``(d, d)``, in the dtype of w.

    Returns:
        w L, ``(*b, d)``; zero for vectors that are orthogonal to the range of L up to d·ε.

    Example:
        >>> root = covariance_root(torch.tensor([[9.0, 12.0], [12.0, 16.0]]), 2)  # of rank one
        >>> through_root(torch.tensor([[4.0, -3.0]], dtype=torch.float64), root).tolist()
        [[0.0, 0.0]]
    """
    image = w @ root
    size = w.detach().norm(dim=-1, keepdim=True) * root.norm()
    left = image.detach().norm(dim=-1, keepdim=True)
    return torch.where(left <= _noise(len(root), root) * size, 0.0, image)


def _noise(dim: int, like: Tensor) -> float:
    return dim * torch.finfo(like.dtype).eps
