r"""The expected squared cosine between a fixed direction and a Gaussian vector, exactly.

For G ~ N(m, Σ) and a unit vector w

    E (w·G)² / |G|² = ∫₀^∞ E[(w·G)² e^{-t |G|²}] dt,

and under the tilted law everything is a product: with B = (I + 2tΣ)^{-1}

    E[(w·G)² e^{-t|G|²}] = det(B)^{1/2} e^{-t mᵀBm} [(wᵀBm)² + wᵀBΣw].

Here Σ = c diag(λ) + E D Eᵀ and m = E a with a few columns E, so that B follows from Woodbury's identity at a cost
linear in d. The integral over log t is a trapezoidal sum, which converges geometrically. Derived here.
"""

from __future__ import annotations

import torch

from symfield.typing import Float, Tensor

__all__ = ["expected_square_cosine"]

_STEP, _LEFT, _RIGHT = 0.4, -26.0, 28.0
_PIECE = 2**20


def expected_square_cosine(
    w: Float[Tensor, "k d"],
    noise: Float[Tensor, "j d"],
    *,
    columns: Float[Tensor, "j d q"] | None = None,
    mean: Float[Tensor, "j q"] | None = None,
    extra: Float[Tensor, "j q q"] | None = None,
) -> Float[Tensor, "j k"]:
    """E (w·G)²/|G|² for G ~ N(E a, diag(noise) + E D Eᵀ).

    Args:
        w: unit vectors, float64 ``(k, d)``.
        noise: variances of the coordinates, ``(j, d)``, for j vectors G.
        columns: E, ``(j, d, q)``.
        mean: a, ``(j, q)``.
        extra: D, symmetric ``(j, q, q)``.

    Returns:
        Expected squared cosines, ``(j, k)``; over an orthonormal basis they sum to one.

    Raises:
        ValueError: if a vector is zero almost surely.

    Example:
        >>> basis = torch.eye(3, dtype=torch.float64)
        >>> cosines = expected_square_cosine(basis, torch.tensor([[4.0, 1.0, 1.0]], dtype=torch.float64))
        >>> round(float(cosines.sum()), 10), bool(cosines[0, 0] > 0.5)
        (1.0, True)
    """
    j, dim = noise.shape
    if columns is None or mean is None or extra is None:
        columns, mean, extra = noise.new_zeros(j, dim, 1), noise.new_zeros(j, 1), noise.new_zeros(j, 1, 1)
    m = (columns @ mean.unsqueeze(-1)).squeeze(-1)
    spread = noise.sum(-1) + torch.einsum("jdq,jqs,jds->j", columns, extra, columns)
    size = m.square().sum(-1) + spread
    if not bool((size > 0).all()):
        raise ValueError("expected vectors that are not zero; drop the directions without signal and noise")
    grid = torch.arange(_LEFT, _RIGHT + _STEP / 2, _STEP, dtype=torch.float64, device=noise.device).exp()
    decay = torch.log1p(2 * grid.unsqueeze(-1) * (noise / size.unsqueeze(-1)).amin(0)).sum(-1) / 2
    grid = grid[decay < 60]  # beyond, the integrand is below 1e-26 for all
    count = max(1, _PIECE // (len(grid) * dim))
    parts = [
        _integral(w, grid / size[i : i + count, None], noise[i : i + count], columns[i : i + count],
                  mean[i : i + count], extra[i : i + count])
        for i in range(0, j, count)
    ]  # fmt: skip
    return torch.cat(parts)


def _integral(w: Tensor, t: Tensor, noise: Tensor, columns: Tensor, mean: Tensor, extra: Tensor) -> Tensor:
    m = 1 / (1 + 2 * t.unsqueeze(-1) * noise.unsqueeze(1))  # (j, t, d)
    log_det = -m.log().sum(-1)
    noisy = m * noise.unsqueeze(1)
    inner = torch.einsum("jdq,jtd,jds->jtqs", columns, m, columns)
    across = torch.einsum("jdq,jtd,kd->jtqk", columns, m, w)
    across_noisy = torch.einsum("jdq,jtd,kd->jtqk", columns, noisy, w)
    plain = torch.einsum("jdq,kd->jqk", columns, w).unsqueeze(1)
    own = torch.einsum("jtd,kd->jtk", noisy, w.square())

    eye = torch.eye(extra.shape[-1], dtype=noise.dtype, device=noise.device)
    shift = 2 * t[..., None, None] * extra.unsqueeze(1)  # X = 2tD
    mixed = eye + inner @ shift  # I + EᵀME X
    solved = torch.linalg.solve(mixed, inner)  # EᵀBE
    log_det = log_det + torch.linalg.slogdet(mixed).logabsdet
    a = mean[:, None, :, None]
    exponent = (a.mT @ solved @ a)[..., 0, 0]
    back = torch.linalg.solve(mixed, across)  # EᵀBw
    along = (a.mT @ back)[..., 0, :]
    own = own - (back * (shift @ across_noisy)).sum(-2) + (back * (extra.unsqueeze(1) @ plain)).sum(-2)
    weight = (-0.5 * log_det - t * exponent).exp() * t * _STEP
    return (weight.unsqueeze(-1) * (along.square() + own)).sum(1)
