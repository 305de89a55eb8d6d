r"""Odd targets at any width: the linear network that replaces the ReLU network, and its second moments.

A cloud that is closed under (a, b) ↦ (−a, −b) has f(x) = ½ (1/m) Σ_j a_j ⟨b_j, x⟩ = ⟨w, x⟩, because
relu(z) = z/2 + |z|/2 and the even parts of a pair cancel. For an odd target and a symmetric law of inputs
g(b) = ⟨b, r⟩/2 with r = X̄ − Sw, so the flow is that of a two-layer *linear* network with activation z/2,

    a' = ⟨b, r⟩/2,   b' = a r/2,

it keeps the cloud closed, and only X̄ = E f*(X) X and S = E XXᵀ of the problem matter. Every particle z = (a, b) obeys
the same equation z' = A z, so that M = (1/m) Σ_j z_j z_jᵀ is closed by itself, at finite and at infinite width:

    M' = A M + M A,   A = [[0, rᵀ/2], [r/2, 0]],   w = M_{0,1…d}/2.

Invariants: A J + J A = 0 for J = diag(1, −I), so a² − |b|² of each particle, and the spectrum of J M, are constant.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771 (the
    reduction to a linear network). The second moments and their invariants are derived here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from symfield import random
from symfield.linalg import require_covariance
from symfield.ode import Method, solve
from symfield.typing import Float, Tensor
from symfield.wide.neurons import Neurons, require_neurons, unpack

__all__ = [
    "linear_network_flow",
    "moments_metric",
    "pairing_defect",
    "second_moments",
    "second_moments_flow",
    "second_moments_velocity",
]

_PROBES = 32


def second_moments(neurons: Neurons) -> Float[Tensor, "*r e e"]:
    """M = (1/m) Σ_j (a_j, b_j)(a_j, b_j)ᵀ.

    Args:
        neurons: a cloud.

    Returns:
        Symmetric matrices of size e = 1 + d, float64 ``(*r, 1 + d, 1 + d)``.

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> second_moments(Neurons(torch.tensor([1.0, 3.0]), torch.tensor([[2.0], [0.0]]))).tolist()
        [[5.0, 1.0], [1.0, 2.0]]
    """
    z = _rows(neurons)
    return z.mT @ z / z.shape[-2]


def pairing_defect(neurons: Neurons) -> Float[Tensor, "*r"]:
    """How far a cloud is from being closed under (a, b) ↦ (−a, −b), multiplicities included.

    The greatest |(1/m) Σ_j sin⟨θ, z_j⟩| over 32 fixed random θ, with z_j = (a_j, b_j) scaled to mean square length one:
    odd functions average to zero over closed clouds, and with probability one over no other.

    Args:
        neurons: a cloud.

    Returns:
        A number for every run, ``(*r)``: round-off for closed clouds, about 1/√m for independent neurons.

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> pair = Neurons(torch.tensor([1.0, -1.0]), torch.tensor([[0.5, 2.0], [-0.5, -2.0]]))
        >>> pairing_defect(pair) < 1e-15, pairing_defect(Neurons(pair.a, pair.b.abs())) > 0.1
        (tensor(True), tensor(True))
    """
    z = _rows(neurons)
    size = z.square().sum(-1).mean(-1).sqrt()
    scaled = z / torch.where(size > 0, size, 1.0)[..., None, None]
    probes = random.normal((z.shape[-1], _PROBES), generator=random.generator(0), like=torch.zeros(1).double())
    return (scaled @ probes.to(z.device)).sin().mean(-2).abs().amax(-1)


def linear_network_flow(
    neurons: Neurons,
    first_moment: Float[Tensor, "..."],
    covariance: Float[Tensor, "..."],
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    method: Method | None = None,
) -> Neurons:
    """The flow a' = ⟨b, r⟩/2, b' = a r/2 of the linear network f(x) = ⟨½ (1/m) Σ_j a_j b_j, x⟩.

    It is the flow of the ReLU network where the cloud is closed under (a, b) ↦ (−a, −b) and the target is odd; for
    other clouds it is the linear network's own.

    Args:
        neurons: the cloud at t = 0.
        first_moment: X̄, ``(d)``.
        covariance: S, ``(d, d)``.
        times: increasing times ≥ 0.
        method: how to integrate in time; ``symfield.ode.Adaptive()`` when absent.

    Returns:
        Neurons at the times, float64 ``(t, *r, m)`` and ``(t, *r, m, d)``.

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> one = Neurons(torch.ones(2), torch.tensor([[1.0], [1.0]]))
        >>> path = linear_network_flow(one, torch.tensor([2.0]), torch.eye(1), times=[0.0, 50.0])
        >>> (path.a.unsqueeze(-1) * path.b).mean(1)[:, 0] / 2  # the predictor goes to 2
        tensor([0.5000, 2.0000], dtype=torch.float64)
    """
    z = _rows(neurons)
    moment, s = require_problem(first_moment, covariance, z.shape[-1] - 1)

    def slope(_t: float, state: Tensor) -> Tensor:
        a, b = state[..., :1], state[..., 1:]
        residual = moment - (a * b).mean(-2, keepdim=True) / 2 @ s
        return torch.cat([b @ residual.mT, a * residual], dim=-1) / 2

    return unpack(solve(slope, z, times, method=method).states)


def second_moments_velocity(
    moments: Float[Tensor, "*r e e"], first_moment: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]
) -> Float[Tensor, "*r e e"]:
    """M' = A M + M A with A = [[0, rᵀ/2], [r/2, 0]], r = X̄ − Sw, w = M_{0,1…d}/2.

    Args:
        moments: M, ``(*r, 1 + d, 1 + d)``, symmetric.
        first_moment: X̄, ``(d)``.
        covariance: S, ``(d, d)``.

    Returns:
        The velocity, ``(*r, 1 + d, 1 + d)``, at the cost O(d²).

    Example:
        >>> second_moments_velocity(torch.eye(2), torch.tensor([2.0]), torch.eye(1)).tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    cross, inner = moments[..., 0, 1:], moments[..., 1:, 1:]
    r = first_moment - cross / 2 @ covariance
    fall = (moments[..., :1, 0] * r + (inner @ r.unsqueeze(-1)).squeeze(-1)) / 2
    outer = r.unsqueeze(-1) * cross.unsqueeze(-2) / 2
    top = torch.cat([(r * cross).sum(-1, keepdim=True), fall], dim=-1).unsqueeze(-2)
    return torch.cat([top, torch.cat([fall.unsqueeze(-1), outer + outer.mT], dim=-1)], dim=-2)


def second_moments_flow(
    moments: Float[Tensor, "..."],
    first_moment: Float[Tensor, "..."],
    covariance: Float[Tensor, "..."],
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    method: Method | None = None,
) -> Float[Tensor, "t *r e e"]:
    """The closed flow of second moments: an exact description of the predictor at any width.

    Args:
        moments: M(0), ``(*r, 1 + d, 1 + d)``; diag(1, I/d) for neurons on the unit sphere with a = ±1, at infinite
            width.
        first_moment: X̄, ``(d)``.
        covariance: S, ``(d, d)``.
        times: increasing times ≥ 0.
        method: how to integrate in time; ``symfield.ode.Adaptive()`` when absent.

    Returns:
        M at the times, float64 ``(t, *r, 1 + d, 1 + d)``; the predictor is w = M_{0,1…d}/2.

    Raises:
        ValueError: if shapes do not fit, something is not finite, or M(0) or S is not positive semi-definite.

    Example:
        >>> path = second_moments_flow(torch.eye(2), torch.tensor([2.0]), torch.eye(1), times=[0.0, 50.0])
        >>> path[1, 0, 1:] / 2
        tensor([2.0000], dtype=torch.float64)
    """
    start = require_second_moments(moments)
    moment, s = require_problem(first_moment, covariance, start.shape[-1] - 1)
    return solve(lambda _t, m: second_moments_velocity(m, moment, s), start, times, method=method).states


def moments_metric(moments: Float[Tensor, "*r e e"]) -> Float[Tensor, "*r d d"]:
    """H = ¼(∫a² I + ∫bbᵀ).

    Args:
        moments: M, ``(*r, 1 + d, 1 + d)``.

    Returns:
        The metric, ``(*r, d, d)``.

    Example:
        >>> moments_metric(torch.eye(2)).tolist()
        [[0.5]]
    """
    inner = moments[..., 1:, 1:]
    return (moments[..., :1, :1] * torch.eye(inner.shape[-1]).to(inner) + inner) / 4


def require_second_moments(moments: Float[Tensor, "..."]) -> Float[Tensor, "*r e e"]:
    """Second moments in float64, refused unless they are some cloud's.

    Args:
        moments: M, ``(*r, 1 + d, 1 + d)``.

    Returns:
        M in float64.

    Raises:
        ValueError: if M is not finite, symmetric and positive semi-definite (to 1e-9 of its largest entry), of size 2
            at least.

    Example:
        >>> require_second_moments(torch.eye(3)).dtype
        torch.float64
    """
    m = moments.detach().double()
    if m.ndim < 2 or m.shape[-1] != m.shape[-2] or m.shape[-1] < 2 or m.numel() == 0 or not torch.isfinite(m).all():
        raise ValueError(
            f"expected finite second moments (*r, 1 + d, 1 + d) of neurons (a, b), received shape {tuple(m.shape)}"
        )
    for one in m.reshape(-1, *m.shape[-2:]):
        require_covariance(one, m.shape[-1])
    return (m + m.mT) / 2


def require_problem(
    first_moment: Float[Tensor, "..."], covariance: Float[Tensor, "..."], dim: int
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """X̄ and S in float64, refused unless they fit neurons of dimension d.

    Args:
        first_moment: X̄, ``(d)``.
        covariance: S, ``(d, d)``.
        dim: d.

    Returns:
        Both in float64.

    Raises:
        ValueError: if a shape does not fit, something is not finite, or S is not a covariance.

    Example:
        >>> require_problem(torch.ones(1), torch.eye(1), 1)
        (tensor([1.], dtype=torch.float64), tensor([[1.]], dtype=torch.float64))
    """
    moment = first_moment.detach().double()
    if moment.shape != (dim,) or not torch.isfinite(moment).all():
        raise ValueError(
            f"expected a finite first moment ({dim},) for neurons in R^{dim}, received shape {tuple(moment.shape)}"
        )
    return moment, require_covariance(covariance, dim)


def _rows(neurons: Neurons) -> Tensor:
    require_neurons(neurons)
    return torch.cat([neurons.a.unsqueeze(-1), neurons.b], dim=-1).double()
