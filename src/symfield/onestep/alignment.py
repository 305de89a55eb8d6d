r"""How much a gradient (or a weight) sees of the target: overlaps, and the level at which nothing is seen.

For a vector v and a direction w*

    Euclidean: cos = ⟨v, w*⟩ / (|v| |w*|),     covariance: cos_S = vᵀ S w* / (|S^{1/2} v| |S^{1/2} w*|);

the second is the correlation of ⟨v, x⟩ and ⟨w*, x⟩. What is reported is the mean of squares over neurons. Pure noise
is not isotropic here: the gradient under labels without inputs is a draw from N(0, S) up to scale, so that the null
level of an aligned teacher is about 1/r₁ (Euclidean) and 1/r₂ (covariance), not 1/d. A net has *learned weakly* when it
exceeds twice the null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

from symfield.onestep.cosines import expected_square_cosine
from symfield.onestep.covariances import Covariance
from symfield.onestep.step import GradientStep
from symfield.onestep.targets import Target
from symfield.typing import Float, Tensor

__all__ = [
    "SMALLEST_SAMPLE",
    "Overlaps",
    "SquareCosines",
    "initial_overlap",
    "null_overlap",
    "overlaps",
    "sample_crossing",
]

#: Overlaps of fewer samples than this say more about single samples than about the target.
SMALLEST_SAMPLE = 16


class SquareCosines(NamedTuple):
    """Squared cosines in both geometries.

    Attributes:
        euclidean: of vectors.
        covariance: of the functions ⟨v, x⟩.
    """

    euclidean: Tensor
    covariance: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Overlaps:
    """Overlaps of each neuron with each direction.

    Attributes:
        euclidean: cos, ``(*r, p, k)``; zero for dead neurons.
        covariance: cos_S, ``(*r, p, k)``; zero for dead neurons.
        alive: neurons that count, ``(*r, p)``; a neuron is dead when its vector is zero.
        null: expected mean squares without signal, ``(*r', k)``.
    """

    euclidean: Tensor
    covariance: Tensor
    alive: Tensor
    null: SquareCosines

    def __repr__(self) -> str:
        return f"Overlaps({tuple(self.euclidean.shape)}, {int((~self.alive).sum())} dead)"

    @property
    def dead(self) -> Tensor:
        """Number of dead neurons, ``(*r)``."""
        return (~self.alive).sum(-1)

    @property
    def mean_square(self) -> SquareCosines:
        """Mean of squares over the neurons that are alive, ``(*r, k)``."""
        alive = self.alive.sum(-1, keepdim=True)
        return SquareCosines(*(part.square().sum(-2) / alive for part in (self.euclidean, self.covariance)))

    @property
    def weak(self) -> SquareCosines:
        """Whether the mean of squares exceeds twice the null level, Boolean ``(*r, k)``."""
        pairs = zip(self.mean_square, self.null, strict=True)
        return SquareCosines(*(mean > 2 * null.to(mean) for mean, null in pairs))


def overlaps(found: GradientStep | Float[Tensor, "..."], target: Target) -> Overlaps:
    """Overlaps of gradients, or of any vectors, with the target's directions.

    Args:
        found: a gradient step, or vectors ``(*r, p, d)`` such as weights.
        target: gives w* and S.

    Returns:
        Overlaps of each neuron, with the null level of gradients.

    Raises:
        ValueError: if a step had fewer than 16 samples, dimensions differ, vectors are not finite, or all neurons of
            a run are dead.

    Example:
        >>> from symfield.onestep import Isotropic, aligned, hermite_link
        >>> S = Isotropic(4)
        >>> target = Target(hermite_link([0, 1]), S, aligned(S))
        >>> found = overlaps(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), target)
        >>> found, round(found.mean_square.euclidean.item(), 6), round(found.null.euclidean.item(), 6)
        (Overlaps((3, 1), 1 dead), 0.75, 0.25)
    """
    if isinstance(found, GradientStep):
        least = found.n if isinstance(found.n, int) else min(found.n)
        if least < SMALLEST_SAMPLE:
            raise ValueError(f"expected n >= {SMALLEST_SAMPLE} samples for an overlap, received {least}; leave it out")
        vectors = found.gradient
    else:
        vectors = found
    covariance = target.covariance
    if vectors.ndim < 2 or vectors.shape[-1] != covariance.dim:
        raise ValueError(f"expected vectors (*r, p, {covariance.dim}), received {tuple(vectors.shape)}")
    if not torch.isfinite(vectors).all():
        raise ValueError("expected finite vectors, received NaN or infinity; the step or the labels are too large")
    v, w = vectors.double(), target.directions.to(vectors.device)
    image = covariance.power(v)
    length, size = v.norm(dim=-1), (v * image).sum(-1).clamp_min(0).sqrt()
    alive = (length > 0) & (size > 0)
    if not bool(alive.any(-1).all()):
        raise ValueError("expected a neuron that is alive in each run, received a run of dead ones; take more samples")

    def cosine(inner: Tensor, left: Tensor, right: Tensor) -> Tensor:
        safe = torch.where(alive, left, torch.ones_like(left)).unsqueeze(-1)
        return torch.where(alive.unsqueeze(-1), inner / (safe * right), torch.zeros_like(inner))

    euclidean = cosine(v @ w.mT, length, torch.ones_like(w[..., 0]).unsqueeze(-2))
    own = cosine(image @ w.mT, size, target.scales.to(w).unsqueeze(-2))
    return Overlaps(euclidean, own, alive, null_overlap(target))


def null_overlap(target: Target) -> SquareCosines:
    """Expected squared overlaps of a gradient without signal, G ~ N(0, S) up to scale: exact, by one integral.

    To leading order they are w*ᵀ S w* / Tr S and w*ᵀ S³ w* / (t² Tr S²): 1/r₁ and 1/r₂ for an aligned teacher. The
    exact numbers are smaller where few directions carry the variance. Derived here.

    Args:
        target: gives w* and S.

    Returns:
        Levels, ``(*r, k)``.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(400, 1.0)
        >>> null = null_overlap(Target(hermite_link([0, 1]), S, aligned(S)))
        >>> round(1 / S.r1, 3), round(null.euclidean.item(), 3)
        (0.152, 0.127)
    """
    return SquareCosines(_expected(target, 0.0, 1.0), _expected(target, 0.5, 2.0))


def initial_overlap(target: Target) -> SquareCosines:
    """Expected squared overlaps of uniform weights, before any training.

    Euclidean: 1/d. Covariance: the squared correlation ρ² of neuron and target at the start, to leading order
    w*ᵀ S² w* / (t² Tr S), which is 1/r₁ for an aligned teacher; here exactly. Derived here.

    Args:
        target: gives w* and S.

    Returns:
        Levels, ``(*r, k)``.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(400, 1.5)
        >>> start = initial_overlap(Target(hermite_link([0, 1]), S, aligned(S)))
        >>> round(start.euclidean.item(), 4), round(start.covariance.item(), 2)
        (0.0025, 0.29)
    """
    return SquareCosines(_expected(target, 0.0, 0.0), _expected(target, 0.5, 1.0))


def sample_crossing(n: Sequence[float], overlap: Sequence[float], level: float = 0.5) -> float:
    """The n at which a measured curve first crosses a level, linear in log n between its points.

    Args:
        n: increasing numbers of samples.
        overlap: the curve, for example mean squared overlaps.
        level: what is crossed.

    Returns:
        n, or infinity where the curve stays below the level.

    Raises:
        ValueError: if there are not as many values as n, n does not increase, values are not numbers, or the curve
            starts above the level.

    Example:
        >>> sample_crossing([100, 400], [0.25, 0.75])
        200.0
    """
    if len(n) != len(overlap) or not n or any(a >= b for a, b in pairwise(n)) or n[0] <= 0:
        raise ValueError(f"expected increasing n > 0 and as many overlaps, received {n} and {overlap}")
    if not all(math.isfinite(value) for value in overlap):
        raise ValueError(f"expected finite overlaps, received {overlap}; leave out what could not be measured")
    if overlap[0] > level:
        raise ValueError(
            f"expected a curve that starts below {level}, received {overlap[0]:.3g} at n = {n[0]}; add smaller n"
        )
    for (low, before), (high, after) in pairwise(zip(n, overlap, strict=True)):
        if before <= level <= after and before < after:
            share = (level - before) / (after - before)
            return float(round(low * (high / low) ** share, 9))
    return math.inf


def _expected(target: Target, left: float, exponent: float) -> Tensor:
    """E cos² between S^left w* and N(0, S^exponent)."""
    covariance: Covariance = target.covariance
    eigenvalues = covariance.eigenvalues()
    w = covariance.to_eigenbasis(target.directions) * eigenvalues.pow(left)
    w = w / w.norm(dim=-1, keepdim=True)
    noise = eigenvalues.pow(exponent)
    return expected_square_cosine(w.reshape(-1, w.shape[-1]), noise.unsqueeze(0))[0].reshape(w.shape[:-1])
