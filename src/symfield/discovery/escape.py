"""Two tests of whether the drift leaves a subspace, and how much could leave it unseen.

*Energy.* The mean square of the drift off E at several particles, against the same mean with random signs
(multiplier bootstrap, its law fitted by a gamma law so that small p-values mean something). It sees escapes in
many directions at once.

*Agreement.* Where one half of the samples sees entries off E that stand out from their noise, the other half is asked
about exactly this direction. Given the first half the statistic is standard normal if nothing leaves E. It sees
escapes in few entries, as when two inputs are told apart that a candidate had taken for exchangeable.

References:
    Chernozhukov, Chetverikov & Kato 2013, arXiv 1212.6906v6.
    Cox 1975, *A note on data-splitting for the evaluation of significance levels*, Biometrika 62(2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.stats import gamma, norm

from symfield import random
from symfield.discovery.drift import Reading
from symfield.linalg import Subspace
from symfield.typing import Generator, Tensor

__all__ = ["Escape", "agreement", "energy"]

_STANDS_OUT = 3.0
_UPPER = 2.33  # of a one-sided 99% interval


class Escape(NamedTuple):
    """What the energy test saw.

    Attributes:
        ratio: mean square of the drift off E over what noise alone gives; about 1 when nothing leaves.
        threshold: the ratio above which the test rejects at its level.
        p_value: probability of such a ratio if nothing leaves.
        excess: upper end of a 99% interval for the mean square of the drift off E itself.
        values: singular values of the drift off E, in units of the largest that noise gives at the level of the test.
        directions: its left singular vectors with values above 1, orthonormal columns ``(p, s)``.
    """

    ratio: float
    threshold: float
    p_value: float
    excess: float
    values: Tensor
    directions: Tensor


def energy(reading: Reading, subspace: Subspace, *, level: float, replicates: int, generator: Generator) -> Escape:
    """The energy test.

    Args:
        reading: the drift at particles on E.
        subspace: E.
        level: probability of seeing an escape where there is none.
        replicates: simulations of the noise.
        generator: source of randomness.

    Returns:
        An :class:`Escape`.
    """
    off = reading.off(subspace)
    size = off.influences.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-300)  # no particle outweighs others
    columns, influences = off.columns / size[:, 0], off.influences / size
    n = influences.shape[1]
    signs = random.normal((replicates, n), generator=generator, like=columns)
    noise = torch.stack([signs @ part / n for part in influences], dim=1)
    energies = noise.square().sum((1, 2))
    centre, spread = float(energies.mean()), float(energies.var())
    law = gamma(a=centre**2 / spread, scale=spread / centre)
    total = float(columns.square().sum())
    tops = torch.linalg.matrix_norm(noise, ord=2)
    edge = float(tops.quantile(1 - max(level, 1 / replicates)))
    left, values, _ = torch.linalg.svd(columns.mT, full_matrices=False)
    beyond = total - centre
    error = math.sqrt(spread + 4 * max(0.0, beyond) * float(tops.square().mean()))
    scale = float((size[:, 0, 0].square()).mean())
    return Escape(
        total / centre,
        float(law.isf(level)) / centre,
        float(law.sf(total)),
        max(0.0, beyond + _UPPER * error) * scale,
        values / edge,
        left[:, values > edge],
    )


def agreement(first: Reading, second: Reading) -> float:
    """The agreement test.

    Args:
        first: directions read from some samples, that vanish up to noise if nothing leaves E: their components off E,
            or their differences from what a symmetry makes of them.
        second: the same directions read from other samples.

    Returns:
        The p-value: probability of such an agreement if they vanish; 1 if nothing stands out.
    """
    n = first.influences.shape[1]
    if first.columns.numel() == 0:
        return 1.0
    error = (first.influences.square().mean(1) / n).sqrt()
    floor = 1e-9 * error.amax(1, keepdim=True).clamp_min(1e-300)
    scores = torch.where(error > floor, first.columns / error.clamp_min(1e-300), 0.0)
    stands_out = scores.abs() > _STANDS_OUT
    if not bool(stands_out.any()):
        return 1.0
    weights = scores[stands_out] / error[stands_out]
    found = float((weights * second.columns[stands_out]).sum())
    each = weights @ second.influences.transpose(1, 2)[stands_out]
    return float(norm.sf(found / (float(each.square().sum().sqrt()) / len(each))))
