r"""Averages over rotations of R^n, as one coordinate sees them.

One coordinate of a uniform point of S^{n−1} has the law γ_n, with density ∝ (1−s²)^{(n−3)/2} on [−1, 1]: s = ±1 for
n = 1, the arcsine law for n = 2, uniform for n = 3.

*Nodes.* Gauss–Gegenbauer nodes of γ_n lose digits when n is small, because the ReLU kernel has a singularity
(1−r)^{3/2} where two neurons meet, at s = 1: with 60 nodes 2e-9 for n = 2 and 9e-11 for n = 3. In the angle arccos s
the singularity is a cube at an end point, and Gauss–Legendre nodes there, with density sin^{n−2}, have an error below
1e-14.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771 (γ_n
    and its use for averaged kernels). The choice of nodes is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.linalg import eigh_tridiagonal
from scipy.special import betainc, betaincinv, betaln, roots_legendre

from symfield import random
from symfield.quadrature import sobol
from symfield.typing import Float, Generator, Tensor

__all__ = [
    "Directions",
    "antipodal_directions",
    "check_subspace",
    "coordinate_nodes",
    "default_order",
    "evenly",
    "frame_directions",
    "half_nodes",
    "independent_directions",
    "lifted_nodes",
    "mean_absolute",
    "quantile_angle",
]

_SMALL = 12  # up to here nodes in the angle are better than Gauss–Gegenbauer nodes
_TAIL = 9.0  # a Gaussian has 1e-18 of its mass beyond so many standard deviations

Directions = Callable[[Sequence[int], int, int, Generator, Tensor], Tensor]
"""How copies of a neuron are spread: (shape, copies, n, generator, like) ↦ unit vectors ``(*shape, copies, n)``."""


def check_subspace(dim: int, subspace_dim: int) -> None:
    """Refuse a subspace that does not fit.

    Args:
        dim: d.
        subspace_dim: d_H.

    Raises:
        ValueError: unless 1 <= d_H <= d.

    Example:
        >>> check_subspace(3, 2)
    """
    if not 1 <= subspace_dim <= dim:
        raise ValueError(
            f"expected a subspace H of dimension 1 <= d_H <= d = {dim}, received d_H = {subspace_dim}; "
            "raise the dimension of the inputs or choose a smaller subspace"
        )


def coordinate_nodes(n: int, order: int) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Nodes of γ_n, the law of one coordinate of a uniform point of the sphere S^{n−1}.

    Args:
        n: dimension; 0 gives the single node 0, which stands for "there is no such coordinate".
        order: number of nodes (for n <= 1 there are one or two anyway).

    Returns:
        Nodes in increasing order and their probabilities, float64; both are symmetric about zero.

    Raises:
        ValueError: if n is negative or the order is not positive.

    Example:
        >>> q, weight = coordinate_nodes(5, 32)
        >>> round(float(weight @ q.square()), 12)  # 1/n
        0.2
    """
    if n < 0 or order < 1:
        raise ValueError(f"expected n >= 0 and order >= 1, received n={n} and order={order}")
    if n <= 1:
        nodes = torch.linspace(-1, 1, 2, dtype=torch.float64) if n else torch.zeros(1, dtype=torch.float64)
        return nodes, torch.full_like(nodes, 1 / len(nodes))
    if n <= _SMALL:
        x, weight = (torch.from_numpy(values) for values in roots_legendre(order))
        angle = (1 + x.flip(0)) * (math.pi / 2)
        nodes, weight = angle.cos(), weight.flip(0) * angle.sin() ** (n - 2)
    else:
        k = torch.arange(1, order, dtype=torch.float64)
        recurrence = (k * (k + n - 3) / ((2 * k + n - 2) * (2 * k + n - 4))).sqrt()
        x, vectors = eigh_tridiagonal(torch.zeros(order, dtype=torch.float64).numpy(), recurrence.numpy())
        nodes, weight = torch.from_numpy(x), torch.from_numpy(vectors[0] ** 2)
    nodes, weight = (nodes - nodes.flip(0)) / 2, (weight + weight.flip(0)) / 2
    return nodes, weight / weight.sum()


def lifted_nodes(n: int, order: int | None = None) -> tuple[Float[Tensor, "k e"], Float[Tensor, " k"]]:
    """Directions of R^min(n, 2) that stand for the uniform law on S^{n−1} as seen from the first axis.

    Args:
        n: dimension of H^⊥.
        order: number of directions; enough for 1e-8 in every gradient of the kernel when absent.

    Returns:
        Directions (s, √(1−s²)) with s at the nodes of γ_n, and their probabilities; ±1 for n = 1, and for n = 0 a
        single direction of length zero.

    Example:
        >>> lifted_nodes(1)[0].tolist()
        [[-1.0], [1.0]]
        >>> lifted_nodes(25)[0].shape
        torch.Size([12, 2])
    """
    s, weight = coordinate_nodes(n, default_order(n) if order is None else order)
    return (s[:, None] if n <= 1 else torch.stack([s, (1 - s.square()).clamp_min(0).sqrt()], -1)), weight


def default_order(n: int) -> int:
    """Number of nodes of γ_n that gives every gradient of the averaged kernel to about 1e-8 (1e-6 for n = 2).

    Args:
        n: dimension of H^⊥.

    Returns:
        The order.

    Example:
        >>> default_order(3), default_order(30)
        (32, 12)
    """
    return 32 if n <= 3 else 24 if n < 8 else 16 if n < 18 else 12


def half_nodes(n: int, order: int) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Nodes of the law of |q|, q ~ γ_n, for even functions that have a kink at zero.

    Args:
        n: dimension, at least 1.
        order: number of nodes.

    Returns:
        Nodes in [0, 1] and their probabilities, float64.

    Example:
        >>> q, weight = half_nodes(3, 8)  # uniform on [0, 1]
        >>> round(float(weight @ q), 12)
        0.5
    """
    if n == 1:
        return torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    x, weight = (torch.from_numpy(values) for values in roots_legendre(order))
    unit = (1 + x) / 2
    if n <= _SMALL:
        angle = unit * (math.pi / 2)
        nodes, weight = angle.cos(), weight * angle.sin() ** (n - 2)
    else:
        nodes = unit * min(1.0, _TAIL / math.sqrt(n - 3))
        weight = weight * (1 - nodes.square()) ** ((n - 3) / 2)
    return nodes, weight / weight.sum()


def mean_absolute(p: Float[Tensor, "*b"], q: Float[Tensor, "*b"], n: int) -> Float[Tensor, "*b"]:
    """E |p + q s| for s ~ γ_n, in closed form: p(1 − 2P(s > t)) + 2qE[s; s > t], t = p/q, if |p| < |q|, else |p|.

    Args:
        p: numbers.
        q: numbers, the same shape.
        n: dimension; q does not matter for n = 0.

    Returns:
        The means; E relu(p + q s) is half their sum with p.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> round(mean_absolute(0 * one, one, 3).item(), 12), mean_absolute(2 * one, one, 3).item()
        (0.5, 2.0)
    """
    if n == 0:
        return p.abs()
    p, q = p.abs(), q.abs()
    if n == 1:
        return torch.maximum(p, q)
    inside = p < q
    t = torch.where(inside, p / torch.where(inside, q, 1.0), 1.0)
    rest = (1 - t) * (1 + t)
    upper = torch.as_tensor(betainc((n - 1) / 2, 0.5, rest.double().cpu().numpy())).to(p) / 2
    moment = math.exp(-betaln(0.5, (n - 1) / 2)) / (n - 1) * rest ** ((n - 1) / 2)
    return p * (1 - 2 * upper) + 2 * q * moment


def quantile_angle(level: Float[Tensor, "*b"], dim: int, subspace_dim: int) -> Float[Tensor, "*b"]:
    """Quantiles of the angle between a uniform direction of R^d and a subspace of dimension d_H.

    Args:
        level: probabilities, float64.
        dim: d.
        subspace_dim: d_H.

    Returns:
        Angles in [0, π/2], in increasing order of the level.

    Example:
        >>> round(quantile_angle(torch.tensor([0.5], dtype=torch.float64), 4, 2).item() * 4 / math.pi, 12)
        1.0

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771: cos² of the angle has the law Beta(d_H/2, (d−d_H)/2).
    """
    if dim == subspace_dim:
        return torch.zeros_like(level)
    across, along = (dim - subspace_dim) / 2, subspace_dim / 2
    sine = torch.as_tensor(betaincinv(across, along, level.numpy())).sqrt()
    cosine = torch.as_tensor(betaincinv(along, across, 1 - level.numpy())).sqrt()
    return torch.atan2(sine, cosine)


def evenly(count: int, n: int) -> Float[Tensor, "count n"]:
    """Unit vectors that, with their opposites, are spread evenly over S^{n−1}, and independently of their order.

    Args:
        count: how many.
        n: dimension.

    Returns:
        Unit vectors, float64 ``(count, n)``.

    Example:
        >>> z = evenly(500, 4)
        >>> bool((z.mT @ z / 500 - torch.eye(4) / 4).abs().max() < 0.01)
        True

    References:
        Golden-ratio angles for n = 2, normalised Sobol points with one fixed scrambling from n = 3 on.
    """
    if n == 1:
        return torch.ones(count, 1, dtype=torch.float64)
    if n == 2:
        angle = math.pi * torch.frac((torch.arange(count, dtype=torch.float64) + 0.5) * (math.sqrt(5) - 1) / 2)
        return torch.stack([angle.cos(), angle.sin()], dim=-1)
    x = sobol(n, count, generator=random.generator(0)).x
    return x / x.norm(dim=-1, keepdim=True)


def independent_directions(shape: Sequence[int], copies: int, n: int, generator: Generator, like: Tensor) -> Tensor:
    """Independent uniform directions.

    Args:
        shape: leading axes.
        copies: directions for each entry.
        n: dimension.
        generator: source of randomness.
        like: tensor that gives dtype and device.

    Returns:
        Unit vectors, ``(*shape, copies, n)``.

    Example:
        >>> independent_directions((3,), 2, 4, random.generator(0), torch.zeros(1)).shape
        torch.Size([3, 2, 4])
    """
    x = random.normal((*shape, copies, n), generator=generator, like=like)
    return x / x.norm(dim=-1, keepdim=True) if n else x


def antipodal_directions(shape: Sequence[int], copies: int, n: int, generator: Generator, like: Tensor) -> Tensor:
    """Independent uniform directions, each with its opposite: odd functions average to zero exactly.

    Args:
        shape: leading axes.
        copies: directions for each entry, an even number.
        n: dimension.
        generator: source of randomness.
        like: tensor that gives dtype and device.

    Returns:
        Unit vectors, ``(*shape, copies, n)``.

    Raises:
        ValueError: if the number of copies is odd.

    Example:
        >>> antipodal_directions((), 2, 4, random.generator(0), torch.zeros(1)).sum(-2)
        tensor([0., 0., 0., 0.])
    """
    if copies % 2:
        raise ValueError(f"expected an even number of copies for antipodal pairs, received {copies}")
    half = independent_directions(shape, copies // 2, n, generator, like)
    return torch.cat([half, -half], dim=-2)


def frame_directions(shape: Sequence[int], copies: int, n: int, generator: Generator, like: Tensor) -> Tensor:
    """The 2n points ±(columns of a Haar-distributed orthogonal matrix), again and again: cubics average exactly.

    Args:
        shape: leading axes.
        copies: directions for each entry, a multiple of 2n.
        n: dimension.
        generator: source of randomness.
        like: tensor that gives dtype and device.

    Returns:
        Unit vectors, ``(*shape, copies, n)``.

    Raises:
        ValueError: if the number of copies is not a multiple of 2n.

    Example:
        >>> w = frame_directions((), 6, 3, random.generator(0), torch.zeros(1, dtype=torch.float64))
        >>> torch.allclose(w.mT @ w / 6, torch.eye(3, dtype=torch.float64) / 3)
        True
    """
    if n == 0:
        return independent_directions(shape, copies, n, generator, like)
    if copies % (2 * n):
        raise ValueError(f"expected a multiple of {2 * n} copies for frames of R^{n}, received {copies}")
    q, r = torch.linalg.qr(random.normal((*shape, copies // (2 * n), n, n), generator=generator, like=like))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return torch.cat([q, -q], dim=-1).mT.reshape(*shape, copies, n)
