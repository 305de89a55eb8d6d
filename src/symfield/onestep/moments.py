r"""Mean and covariance of the gradient of one neuron on one sample, for any link and activation.

A neuron w has the pre-activation u = ⟨w, x⟩ + b, of standard deviation s = |S^{1/2} w|, and sees the target's white
coordinates z through their correlations ρ_i = wᵀ S w*_i / (s t_i). Write (u - b)/s = ρ·z + c v with an independent
v ~ N(0, 1), c² = 1 - |ρ|², and ζ = (z, v). The input is x = E ζ + (a part independent of ζ), with columns

    E_i = S w*_i / t_i,   E_{k+1} = (S w/s - Σ_i ρ_i E_i)/c,

so that for any function F of (z, v), by Stein's identity or simply by conditioning,

    E[F x] = E a,            a = E[F ζ],
    E[F² x xᵀ] = C S + E H Eᵀ,   C = E F²,  H = E[F² (ζζᵀ - I)].

With F = y σ'(u) these are the mean and the second moment of the gradient. a is the sum over all Hermite orders: to
lowest order in ρ it is √k g_k c_{k-1} ρ^{k-1} along S w*/t for a link of information exponent k, with g_k and c_k the
coefficients of the link and of σ'(s·). Derived here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from symfield.onestep.links import Link, gaussian_panels
from symfield.onestep.students import Students
from symfield.onestep.targets import Target
from symfield.quadrature import Nodes, gauss_hermite
from symfield.typing import Float, Map, Tensor
from symfield.units import Activation

__all__ = ["GradientMoments", "gradient_moments", "link_moments"]

_INNER = 40  # Gauss–Legendre nodes on each side of the kink
_REACH = 9.0


class GradientMoments(NamedTuple):
    """Mean E a and second moment C S + E H Eᵀ of y σ'(u) x, for each neuron.

    Attributes:
        columns: E, ``(p, d, k + 1)``.
        mean: a, ``(p, k + 1)``.
        level: C, ``(p,)``.
        excess: H, ``(p, k + 1, k + 1)``.
    """

    columns: Tensor
    mean: Tensor
    level: Tensor
    excess: Tensor


def link_moments(
    target: Target,
    activation: Map,
    rho: Float[Tensor, "p k"],
    scale: Float[Tensor, " p"],
    bias: Float[Tensor, " p"],
) -> tuple[Float[Tensor, "p q"], Float[Tensor, " p"], Float[Tensor, "p q q"]]:
    """(a, C, H) of neurons that see the target through given correlations.

    The expectation over z is a fixed rule (a few kinks of the link at zero cost nothing); that over v splits at
    the kink of the activation, which is assumed at u = 0 if there is one.

    Args:
        target: gives link and noise.
        activation: σ, an :class:`~symfield.units.Activation` or an elementwise function.
        rho: correlations ρ with |ρ| ≤ 1, float64 ``(p, k)``.
        scale: s, ``(p,)``.
        bias: b, ``(p,)``.

    Returns:
        a ``(p, k + 1)``, C ``(p,)`` and H ``(p, k + 1, k + 1)``, the last index for v.

    Raises:
        ValueError: if the target has more than three indices, a correlation exceeds one, or a scale is not positive.

    Example:
        >>> from symfield.onestep import Isotropic, aligned, hermite_link
        >>> from symfield.units import relu
        >>> S, zero, one = Isotropic(10), torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> a, level, _ = link_moments(Target(hermite_link([0, 1]), S, aligned(S)), relu, zero.unsqueeze(0), one, zero)
        >>> round(a[0, 0].item(), 10), round(level.item(), 10)  # E g' E σ' and E y² E σ'²
        (0.5, 0.5)
    """
    if target.link.dim > 3:
        raise ValueError(f"expected a target of at most three indices, received {target.link.dim}")
    square = rho.square().sum(-1)
    if bool((square > 1 + 1e-9).any()) or not bool((scale > 0).all()):
        raise ValueError("expected correlations with |rho| <= 1 and scales > 0; drop neurons that are zero")
    activation = Activation.of(activation)
    nodes = _nodes(target.link)
    z, weight = nodes.x, nodes.weight
    y = target.link(z).double()
    first, second = weight * y, weight * (y.square() + target.noise**2)
    if target.unrelated:
        first, second = torch.zeros_like(first), weight * target.variance
    count = max(1, 2**20 // (2 * _INNER * len(z)))
    parts = []
    for i in range(0, len(rho), count):
        part = slice(i, i + count)
        c = (1 - square[part]).clamp_min(1e-12).sqrt()
        parts.append(_conditioned(activation, rho[part], c, scale[part], bias[part], z, first, second))
    a, level, excess = (torch.cat(each) for each in zip(*parts, strict=True))
    return a, level, excess


def _conditioned(
    activation: Activation,
    rho: Tensor,
    c: Tensor,
    scale: Tensor,
    bias: Tensor,
    z: Tensor,
    first: Tensor,
    second: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    seen = rho @ z.mT  # (p, nodes)
    kink = (-(seen + (bias / scale).unsqueeze(-1)) / c.unsqueeze(-1)).clamp(-_REACH, _REACH).unsqueeze(-1)
    point, mass = _legendre()
    lower, upper = (kink + _REACH) / 2, (_REACH - kink) / 2  # half widths of both sides
    v = torch.cat([-_REACH + lower * (1 + point), kink + upper * (1 + point)], dim=-1)
    w = torch.cat([lower * mass, upper * mass], dim=-1) * torch.exp(-v.square() / 2) / math.sqrt(2 * math.pi)
    w = w / w.sum(-1, keepdim=True)
    u = scale[:, None, None] * (seen.unsqueeze(-1) + c[:, None, None] * v) + bias[:, None, None]
    slope = activation.derivative(u, activation(u))
    linear = [(w * slope * v**m).sum(-1) for m in (0, 1)]
    square = [(w * slope.square() * v**m).sum(-1) for m in (0, 1, 2)]

    a = torch.cat([(linear[0] * first) @ z, (linear[1] @ first).unsqueeze(-1)], dim=-1)
    level = square[0] @ second
    k = z.shape[-1]
    excess = torch.empty(len(rho), k + 1, k + 1, dtype=z.dtype)
    outer = z.unsqueeze(-1) * z.unsqueeze(-2) - torch.eye(k, dtype=z.dtype)
    excess[:, :k, :k] = torch.einsum("pn,nij->pij", square[0] * second, outer)
    excess[:, :k, k] = excess[:, k, :k] = (square[1] * second) @ z
    excess[:, k, k] = (square[2] - square[0]) @ second
    return a, level, excess


def gradient_moments(students: Students, target: Target) -> GradientMoments:
    """Mean and second moment of y σ'(⟨w_j, x⟩ + b_j) x, exact up to quadrature, for each neuron of one run.

    Args:
        students: without runs axes.
        target: without runs axes.

    Returns:
        E, a, C and H; the gradient of n samples has mean E a and covariance (C S + E (H - a aᵀ) Eᵀ)/n.

    Raises:
        ValueError: if there are runs axes, dimensions differ, or a neuron is zero where inputs vary.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link, random_students
        >>> S = PowerLaw(50, 0.5)
        >>> target = Target(hermite_link([0, 1]), S, aligned(S))
        >>> moments = gradient_moments(random_students(4, 50, generator=random.generator(0)), target)
        >>> moments.columns.shape, moments.mean.shape
        (torch.Size([4, 50, 2]), torch.Size([4, 2]))
    """
    if students.runs or target.directions.ndim != 2 or students.dim != target.covariance.dim:
        raise ValueError(
            f"expected one run on R^{target.covariance.dim}, received {students} and {target}; take them one by one"
        )
    covariance = target.covariance
    w = students.weights.detach().double().cpu()
    scale = (w * covariance.power(w)).sum(-1).clamp_min(0).sqrt()
    if not bool((scale > 0).all()):
        raise ValueError("expected neurons that inputs vary along, received one that is zero there; drop it")
    seen = covariance.power(target.axes)  # (k, d): S w*/t
    rho = w @ seen.mT / scale.unsqueeze(-1)
    mean, level, excess = link_moments(target, students.activation, rho, scale, students.biases.detach().double().cpu())
    c = (1 - rho.square().sum(-1)).clamp_min(1e-12).sqrt()
    rest = (covariance.power(w) / scale.unsqueeze(-1) - rho @ seen) / c.unsqueeze(-1)
    columns = torch.cat([seen.expand(len(w), *seen.shape), rest.unsqueeze(-2)], dim=-2).mT
    return GradientMoments(columns, mean, level, excess)


def _nodes(link: Link) -> Nodes:
    """Rules fine enough for smooth links and kinks at zero (one and two indices)."""
    if link.dim == 1:
        return gaussian_panels(1, 8)
    return gaussian_panels(2, 5) if link.dim == 2 else gauss_hermite(3, 20, trim=1e-12)


def _legendre() -> tuple[Tensor, Tensor]:
    point, mass = np.polynomial.legendre.leggauss(_INNER)
    return torch.from_numpy(point), torch.from_numpy(mass)
