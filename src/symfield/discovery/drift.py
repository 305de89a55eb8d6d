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
from collections.abc import Sequence
from typing import NamedTuple

import torch

from symfield import random
from symfield.linalg import Subspace
from symfield.typing import Float, Generator, Tensor
from symfield.units import Unit

__all__ = ["Reading", "cloud_on", "newton_direction", "read_drift", "unexplained"]

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


class Reading(NamedTuple):
    """Directions in R^p read from samples.

    Attributes:
        columns: the directions, ``(k, p)``.
        influences: what each sample contributes to the error of each, ``(k, b, p)``: their mean over b is 0, their
            covariance over b is that of the errors.
    """

    columns: Tensor
    influences: Tensor

    def off(self, subspace: Subspace) -> Reading:
        """The components off a subspace."""
        return Reading(
            self.columns - subspace.project(self.columns), self.influences - subspace.project(self.influences)
        )

    def moved(self, index: Tensor, sign: Tensor) -> Reading:
        """The differences from what a signed permutation of the entries makes of them, of the entries it moves."""
        rows = ((index != torch.arange(len(index))) | (sign < 0)).nonzero().flatten()
        return Reading(*(part[..., rows] - sign[rows].to(part) * part[..., index[rows]] for part in self))

    @staticmethod
    def join(parts: Sequence[Reading]) -> Reading:
        """All directions of several readings of the same samples."""
        return Reading(torch.cat([part.columns for part in parts]), torch.cat([part.influences for part in parts]))


def read_drift(unit: Unit, x: Float[Tensor, "b d"], residual: Float[Tensor, "b o"], z: Float[Tensor, "k p"]) -> Reading:
    """The drift E[∇_zσ_*(X; z)ᵀ r(X)] at some particles.

    Args:
        unit: σ_*.
        x: inputs.
        residual: r.
        z: particles.

    Returns:
        One direction for each particle.
    """
    parts = max(1, len(x) * len(z) * unit.dim * unit.out_dim // _ENTRIES)
    each = torch.cat(
        [
            unit.pullback(xs[:, None, :], z, rs[:, None, :])
            for xs, rs in zip(x.tensor_split(parts), residual.tensor_split(parts), strict=True)
        ]
    )
    mean = each.mean(0)
    return Reading(mean, (each - mean).movedim(1, 0).contiguous())


def newton_direction(unit: Unit, x: Float[Tensor, "b d"], residual: Float[Tensor, "b o"]) -> tuple[Reading, float]:
    """The Gauss–Newton direction at 0: the δ for which ∇_zσ_*(x; 0)·δ explains the residual best.

    It is the drift at 0 divided by the *empirical* second moment of ∇_zσ_*(X; 0), which removes the noise of the
    inputs: where the targets are linear in the inputs none is left.

    Args:
        unit: σ_*.
        x: inputs.
        residual: r.

    Returns:
        One direction, and the largest eigenvalue of that second moment.
    """
    p, o = unit.dim, unit.out_dim
    eye, origin = torch.eye(o).to(x).reshape(1, o, 1, o), x.new_zeros(1, p)
    parts = max(1, len(x) * p * o // _ENTRIES)
    pieces = list(zip(x.tensor_split(parts), residual.tensor_split(parts), strict=True))
    gram, right = x.new_zeros(p, p), x.new_zeros(p)
    for xs, rs in pieces:
        flat = unit.pullback(xs[:, None, None, :], origin, eye).flatten(0, 2)
        gram += flat.mT @ flat / len(x)
        right += flat.mT @ rs.reshape(-1) / len(x)
    inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)
    delta = inverse @ right
    scores = []
    for xs, rs in pieces:
        jacobian = unit.pullback(xs[:, None, None, :], origin, eye).squeeze(-2)
        scores.append(torch.einsum("bop,bo->bp", jacobian, rs - jacobian @ delta))
    return Reading(delta[None], (torch.cat(scores) @ inverse)[None]), float(torch.linalg.eigvalsh(gram)[-1])
