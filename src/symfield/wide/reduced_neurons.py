"""Neurons up to rotations of H^⊥, where H is spanned by the first coordinates: points (a, b_H, |b_⊥|)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from symfield import random
from symfield.typing import Float, Generator, Tensor
from symfield.wide.rotations import check_subspace, evenly, independent_directions, mean_absolute, quantile_angle

__all__ = ["Reduced", "reduced_predict", "require_reduced", "sphere_reduced"]


class Reduced(NamedTuple):
    """Neurons up to rotations of H^⊥, each of weight 1/m.

    Attributes:
        a: output weights, ``(*r, m)``.
        b: the parts of the input weights in H, ``(*r, m, d_H)``.
        rho: the lengths of the parts in H^⊥, ``(*r, m)``.
    """

    a: Float[Tensor, "..."]
    b: Float[Tensor, "..."]
    rho: Float[Tensor, "..."]


def sphere_reduced(
    m: int, dim: int, subspace_dim: int, *, generator: Generator | None = None, runs: Sequence[int] = ()
) -> Reduced:
    """Neurons with b uniform on the unit sphere and a = ±1, reduced.

    Args:
        m: number of neurons; m/2 places with a = 1, then m/2 with a = −1.
        dim: d.
        subspace_dim: d_H.
        generator: source of randomness for independent places; when absent, evenly spread places ±z cos θ in H at
            quantiles of the angle θ, the same for both signs of a, so that the predictor is exactly zero.
        runs: leading axes.

    Returns:
        Reduced neurons, float64, ``(*runs, m)``.

    Raises:
        ValueError: unless 1 <= d_H <= d; or if m is not even, or without a generator not a multiple of 4.

    Example:
        >>> start = sphere_reduced(400, 20, 2)
        >>> round(start.b.square().sum(-1).mean().item(), 3)  # d_H/d
        0.1
    """
    check_subspace(dim, subspace_dim)
    step = 4 if generator is None else 2
    if m < step or m % step:
        raise ValueError(f"expected a multiple of {step} neurons, received m={m}")
    a = torch.ones(*runs, m, dtype=torch.float64)
    a[..., m // 2 :] = -1.0
    if generator is None:
        level = (torch.arange(m // 4, dtype=torch.float64) + 0.5) / (m // 4)
        angle, z = quantile_angle(level, dim, subspace_dim), evenly(m // 4, subspace_dim)
        angle, z = angle.repeat(4).expand(*runs, m), torch.cat([z, -z, z, -z]).expand(*runs, m, subspace_dim)
    else:
        angle = quantile_angle(random.uniform(a.shape, generator=generator, like=a), dim, subspace_dim)
        z = independent_directions(a.shape, 1, subspace_dim, generator, a).squeeze(-2)
    return Reduced(a, angle.cos().unsqueeze(-1) * z, angle.sin() if dim > subspace_dim else torch.zeros_like(a))


def reduced_predict(neurons: Reduced, x: Float[Tensor, "*b d"]) -> Float[Tensor, "..."]:
    """The predictor (1/m) Σ_j a_j E relu⟨(b_j, ρ_j ω), x⟩ with ω uniform on the unit sphere of H^⊥, in closed form.

    Args:
        neurons: reduced neurons.
        x: inputs, ``(*b, d)``, H first.

    Returns:
        Values, ``(*r, *b)``.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> one = Reduced(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
        >>> round(reduced_predict(one, torch.tensor([[5.0, 0.0, 0.0, 1.0]])).item(), 6)  # E relu(s), s uniform
        0.25
    """
    a, b, rho = require_reduced(neurons)
    dim_h = b.shape[-1]
    if x.ndim < 1 or x.shape[-1] < dim_h:
        raise ValueError(f"expected inputs (*b, d) with d >= d_H = {dim_h}, received {tuple(x.shape)}")
    flat = x.reshape(-1, x.shape[-1]).to(b)
    inside = b @ flat[:, :dim_h].mT  # (*r, m, b)
    outside = rho.unsqueeze(-1) * flat[:, dim_h:].norm(dim=-1)
    values = (inside + mean_absolute(inside, outside, x.shape[-1] - dim_h)) / 2
    return (values * a.unsqueeze(-1)).mean(-2).reshape(a.shape[:-1] + x.shape[:-1])


def require_reduced(neurons: object) -> Reduced:
    """Refuse what are no reduced neurons.

    Args:
        neurons: a cloud.

    Returns:
        The cloud.

    Raises:
        TypeError: if it is something else, neurons of R^d for example.
        ValueError: if shapes or dtypes do not fit, there is no neuron, something is not finite, or a length negative.

    Example:
        >>> one = Reduced(torch.ones(1), torch.ones(1, 2), torch.zeros(1))
        >>> require_reduced(one) is one
        True
    """
    if not isinstance(neurons, Reduced):
        raise TypeError(f"expected Reduced(a, b, rho), received {type(neurons).__name__}; reduce makes them of Neurons")
    a, b, rho = neurons
    fits = b.ndim >= 2 and a.shape == rho.shape == b.shape[:-1] and b.numel() > 0
    if not (fits and a.dtype == b.dtype == rho.dtype and b.is_floating_point()):
        raise ValueError(
            "expected reduced neurons a (*r, m), b (*r, m, d_H) and rho (*r, m) of one floating dtype, m, d_H >= 1, "
            "received "
            f"{tuple(a.shape)} {a.dtype}, {tuple(b.shape)} {b.dtype} and {tuple(rho.shape)} {rho.dtype}"
        )
    if not all(bool(torch.isfinite(part).all()) for part in neurons) or bool((rho < 0).any()):
        raise ValueError("expected finite neurons with lengths rho >= 0, received others")
    return neurons
