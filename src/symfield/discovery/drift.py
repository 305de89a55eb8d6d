r"""The drift of the particles on a candidate subspace, read from samples without training.

At a law μ the drift of a particle z is −D_μR(μ, z) = E[∇_zσ_*(X; z)ᵀ r(X)], r = 2(Y − Φ_μ(X)) for the squared loss.
If (X, Y) is equivariant, μ lives on E^G and z lies in E^G, then so does the drift (Maass & Fontbona 2024, Theorem 5 and
Proposition 13). R is convex in μ and the statement is linear in r, so it holds as well for *signed* laws on E^G and for
the best of them, found by least squares: r is then what no signed law on E explains, and its noise is smallest.

Two exact facts make estimates from n samples usable:

- moving all samples by one g moves every estimate here by M_g, so if the samples are independent and equivariant in
  law, the mean of an estimate lies in E^G for every n;
- the part off E is a mean of n independent vectors (up to the few coefficients of the fit), so its law when nothing
  leaves E is that of the same mean with random signs, and is simulated from the samples (multiplier bootstrap).

References:
    Maass & Fontbona 2024, Corollary 5, Proposition 13, Theorem 5, arXiv 2405.19995v3.
    Chernozhukov, Chetverikov & Kato 2013, *Gaussian approximations and multiplier bootstrap for maxima of sums of
    high-dimensional random vectors*, arXiv 1212.6906v6.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.stats import gamma

from symfield import random
from symfield.linalg import Subspace
from symfield.typing import Float, Generator, Tensor
from symfield.units import Unit

__all__ = ["Escape", "cloud_on", "drift_columns", "escape", "newton_column", "unexplained"]

_SPREADS = (0.5, 1.0, 2.0)
_RIDGE = 1e-8
_ENTRIES = 2**23  # of the largest tensor held at once: 64 MiB in float64


def cloud_on(subspace: Subspace, unit: Unit, m: int, *, scale: float, generator: Generator, like: Tensor) -> Tensor:
    """Particles at 0 and at random on a subspace, at three spreads, so that units see arguments of order one.

    Args:
        subspace: E.
        unit: σ_*.
        m: number of random particles; none on the zero subspace.
        scale: root mean square of the entries of an input.
        generator: source of randomness.
        like: gives dtype and device.

    Returns:
        Cloud ``(m + 1, p)``, the first particle at 0.
    """
    origin = like.new_zeros(1, unit.dim)
    if subspace.dim == 0:
        return origin
    draw = random.normal((m, subspace.dim), generator=generator, like=like, std=1 / math.sqrt(subspace.dim))
    spread = like.new_tensor(_SPREADS)[torch.arange(m) % len(_SPREADS), None]
    size = math.sqrt(unit.dim / unit.in_dim) / scale
    return torch.cat([origin, subspace.embed(draw * spread) * size])


def unexplained(
    unit: Unit, x: Float[Tensor, "b d"], y: Float[Tensor, "b o"], z: Float[Tensor, "m p"]
) -> Float[Tensor, "b o"]:
    """What no constant and no signed law on the particles explains of the targets, by least squares.

    Args:
        unit: σ_*.
        x: inputs.
        y: targets.
        z: particles.

    Returns:
        Residuals, ``(b, o)``.
    """
    residual = y - y.mean(0)
    features = unit(x, z).movedim(0, -1)
    features = features - features.mean(0)
    flat = features.flatten(0, 1)
    gram = flat.mT @ flat
    ridge = _RIDGE * gram.trace().clamp_min(1e-300)
    weights = torch.linalg.solve(gram + ridge * torch.eye(len(gram)).to(gram), flat.mT @ residual.reshape(-1))
    return residual - features @ weights


def drift_columns(
    unit: Unit, x: Float[Tensor, "b d"], residual: Float[Tensor, "b o"], z: Float[Tensor, "k p"]
) -> tuple[Float[Tensor, "p k"], Float[Tensor, "b k p"]]:
    """The drift E[∇_zσ_*(X; z)ᵀ r(X)] at some particles, and what each sample contributes.

    Args:
        unit: σ_*.
        x: inputs.
        residual: r.
        z: particles.

    Returns:
        The means, one column a particle, and the contributions of the samples.
    """
    parts = max(1, len(x) * len(z) * unit.dim * unit.out_dim // _ENTRIES)
    each = torch.cat(
        [
            unit.pullback(xs[:, None, :], z, rs[:, None, :])
            for xs, rs in zip(x.tensor_split(parts), residual.tensor_split(parts), strict=True)
        ]
    )
    return each.mean(0).mT, each


def newton_column(
    unit: Unit, x: Float[Tensor, "b d"], residual: Float[Tensor, "b o"]
) -> tuple[Float[Tensor, " p"], Float[Tensor, "b p"]]:
    """The Gauss–Newton direction at 0: the δ for which ∇_zσ_*(x; 0)·δ explains the residual best, and its noise.

    It is the drift at 0 divided by the *empirical* second moment of ∇_zσ_*(X; 0), which removes the noise of the
    inputs: where the targets are linear in the inputs it has none.

    Args:
        unit: σ_*.
        x: inputs.
        residual: r.

    Returns:
        δ, and the influence of each sample on it (their mean is 0, and their spread over √b is the noise).
    """
    p, o = unit.dim, unit.out_dim
    eye = torch.eye(o).to(x).reshape(1, o, 1, o)
    parts = max(1, len(x) * p * o // _ENTRIES)
    jacobians = [
        unit.pullback(xs[:, None, None, :], xs.new_zeros(1, p), eye).squeeze(-2) for xs in x.tensor_split(parts)
    ]
    pieces = residual.tensor_split(parts)
    gram, right = x.new_zeros(p, p), x.new_zeros(p)
    for jacobian, piece in zip(jacobians, pieces, strict=True):
        flat = jacobian.flatten(0, 1)
        gram += flat.mT @ flat / len(x)
        right += flat.mT @ piece.reshape(-1) / len(x)
    inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
    delta = inverse @ right
    scores = [
        torch.einsum("bop,bo->bp", jacobian, piece - jacobian @ delta)
        for jacobian, piece in zip(jacobians, pieces, strict=True)
    ]
    return delta, torch.cat(scores) @ inverse


class Escape(NamedTuple):
    """Whether the drift leaves a subspace.

    Attributes:
        ratio: mean square of the drift off the subspace over what noise alone gives; 1 when nothing leaves.
        threshold: the ratio above which the test rejects at its level.
        p_value: probability of such a ratio if nothing leaves.
        bound: upper end of a 99% interval for the drift off the subspace as a share of the drift that the targets
            have on it; below 0 is cut to 0.
        directions: left singular vectors of the drift off the subspace, ``(p, s)``, the significant ones only.
        values: all its singular values, in units of the largest that noise gives at the level of the test.
        cost: gradient evaluations.
    """

    ratio: float
    threshold: float
    p_value: float
    bound: float
    directions: Tensor
    values: Tensor
    cost: int


def escape(
    unit: Unit,
    x: Float[Tensor, "b d"],
    y: Float[Tensor, "b o"],
    subspace: Subspace,
    *,
    particles: int,
    features: int,
    level: float,
    replicates: int,
    generator: Generator,
) -> Escape:
    """Test on samples whether the drift leaves a subspace, at 0 and at random particles on it.

    Args:
        unit: σ_*.
        x: inputs.
        y: targets.
        subspace: E.
        particles: number of particles at which the drift is read.
        features: number of particles of the signed law that is fitted first.
        level: probability of seeing an escape where there is none.
        replicates: simulations of the noise.
        generator: source of randomness.

    Returns:
        An :class:`Escape`.
    """
    scale = float(x.square().mean().sqrt())
    residual = unexplained(unit, x, y, cloud_on(subspace, unit, features, scale=scale, generator=generator, like=x))
    z = cloud_on(subspace, unit, particles, scale=scale, generator=generator, like=x)
    _, raw = drift_columns(unit, x, y - y.mean(0), z)
    _, each = drift_columns(unit, x, residual, z)
    off = each - subspace.project(each)
    size = off.square().mean((0, 2), keepdim=True).sqrt().clamp_min(1e-300)  # no particle outweighs the others
    off, on = off / size, subspace.project(raw) / size
    n, k, p = off.shape
    mean = off.mean(0)
    total = float(mean.square().sum())
    signs = random.normal((replicates, n), generator=generator, like=x)
    noise = (signs @ (off - mean).flatten(1) / n).unflatten(1, (k, p))
    energies = noise.square().sum((1, 2))
    centre, spread = float(energies.mean()), float(energies.var())
    law = gamma(a=centre**2 / spread, scale=spread / centre)
    p_value = float(law.sf(total))
    strength = float(on.mean(0).square().sum()) - float(on.var(0).sum()) / n
    upper = max(0.0, total - centre + 2.33 * math.sqrt(spread + 4 * max(0.0, total - centre) * centre / (k * p)))
    tops = torch.linalg.matrix_norm(noise, ord=2)
    edge = float(tops.quantile(1 - max(level, 1 / replicates)))
    left, values, _ = torch.linalg.svd(mean.mT, full_matrices=False)
    count = int((values > edge).sum())
    bound = math.sqrt(upper / strength) if strength > 0 else math.inf
    return Escape(
        total / centre, float(law.isf(level)) / centre, p_value, bound, left[:, :count], values / edge, 2 * n * k
    )
