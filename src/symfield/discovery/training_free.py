r"""The fixed subspace without training: drift on a candidate, a test on held-out samples, the next candidate.

The search keeps the structure of the loop of Maass & Fontbona and replaces its runs by what runs estimate. From
E_0 = {0}:

1. Half of the samples *propose*: the drift at 0 (as a Gauss–Newton direction, which inputs with unequal moments disturb
   less) and, in later rounds, at random particles on E_j after the best signed law on E_j is subtracted.
2. Directions above their noise are closed: to the fixed space of all permutations that keep them, where the unit is
   known to carry such actions (:mod:`symfield.discovery.closures`), else to their span with E_j.
3. The other half *decides*: is the drift on the new candidate off the candidate more than noise? If not, that is E.

What is guaranteed: for independent samples of an equivariant law, a candidate inside E^G that holds is rejected with
probability ``level`` in each round (bootstrap, hence up to its error). What is found is the smallest such subspace that
the data can tell from smaller ones: the smallest subspace closed under the drift that contains {0}, and with the
permutations the fixed space of all permutations that fix that one. It is E^G of the largest group that the data have
when the data are generic for it. It is smaller where they are not: targets that are linear in Gaussian inputs or do
not depend on an input have more symmetry than their author meant.

References:
    Maass & Fontbona 2024, Section 4.2 and Appendix F.2, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from symfield import random
from symfield.discovery.closures import Closure, closure_of, spans
from symfield.discovery.drift import Reading, cloud_on, newton_direction, read_drift, unexplained
from symfield.discovery.escape import Escape, agreement, energy
from symfield.discovery.findings import FixedPoints, Problem, Round
from symfield.discovery.predictable import explained_share
from symfield.linalg import Subspace
from symfield.typing import Generator, Tensor
from symfield.units import Unit

__all__ = ["TrainingFree"]

_KEPT = 6  # directions given to a closure
_READINGS = 2  # of the drift at fresh particles before a candidate is accepted
_VETO = 1e-2  # many symmetries are asked about in a round, and one that holds must not be lost
_TIGHTEN = (1.0, 0.8, 0.64, 0.5)


@dataclass(frozen=True)
class TrainingFree:
    """Search by drift and test, without training.

    ``confidence`` of the result: for "symmetry found" one minus the drift that may still leave E, at the upper end of a
    99% interval, as a share of the drift on it; for "no symmetry found" one minus the largest p-value of a rejected
    candidate; for "cannot tell" 0. Values of rounds are singular values of the drift off E_j in units of the
    largest that noise gives at the level of the test.

    Attributes:
        level: probability of rejecting a candidate that holds, in each round.
        particles: at how many particles the drift is read.
        features: size of the signed law that is subtracted.
        samples: fresh samples, where the data are a stream.
        replicates: simulations of the noise.
        resolution: largest drift off E as a share of the drift on it, at the upper end of a 99% interval, that
            still counts as a symmetry found.
        closure: from directions to a subspace; chosen for the unit when absent (:func:`closure_of`).
        max_rounds: after this many candidates the answer is "cannot tell".
    """

    level: float = 1e-3
    particles: int = 8
    features: int = 64
    samples: int = 10_000
    replicates: int = 200
    resolution: float = 0.3
    closure: Closure | None = None
    max_rounds: int = 12

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or not self.resolution > 0:
            raise ValueError(f"expected 0 < level < 1 and resolution > 0, received {self.level} and {self.resolution}")
        for name in ("particles", "features", "samples", "replicates", "max_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, received {getattr(self, name)}")

    def search(self, problem: Problem, *, generator: Generator) -> FixedPoints:
        """Search for the fixed subspace.

        Args:
            problem: data and unit, checked.
            generator: source of randomness.

        Returns:
            What was found.
        """
        unit, like = problem.unit, torch.zeros(0, dtype=torch.float64)
        x, y = problem.sample(self.samples, generator=generator, like=like)
        order = random.uniform((len(x),), generator=generator, like=like).argsort()
        cut = len(x) // 2
        halves = [(x[rows], y[rows]) for rows in (order[:cut], order[cut:])]
        if any(not bool((part != part[0]).any()) for _, part in halves):
            reason = (
                "cannot tell, because the targets of half of the samples, drawn at random, are all alike: too few "
                "samples have another target"
            )
            return FixedPoints(Subspace.full(unit.dim), 0.0, (), "cannot tell", reason, 0)
        share, error = explained_share(*halves)
        if not share > 3 * error:
            reason = (
                "cannot tell, because on held-out samples the inputs explain nothing of the targets "
                f"(R² = {share:.2f} ± {error:.2f}); take more samples or other inputs"
            )
            return FixedPoints(Subspace.full(unit.dim), 0.0, (), "cannot tell", reason, 0)
        return _Search(self, unit, halves, share, self.closure or closure_of(unit), generator).run()


class _Search:
    """One search: two halves of the samples, and what was read from the first."""

    def __init__(
        self,
        method: TrainingFree,
        unit: Unit,
        halves: Sequence[tuple[Tensor, Tensor]],
        share: float,
        closure: Closure,
        generator: Generator,
    ) -> None:
        self.method, self.unit, self.halves, self.share = method, unit, halves, share
        self.closure, self.generator = closure, generator
        newton = [newton_direction(unit, x, y - y.mean(0)) for x, y in halves]
        self.newton, self.curvature = [reading for reading, _ in newton], newton[1][1]
        self.cost = sum(len(x) for x, _ in halves) * unit.out_dim
        self.seen = self.newton

    def run(self) -> FixedPoints:
        method, p = self.method, self.unit.dim
        space, rounds, largest = Subspace.zero(p), [], 0.0
        for _ in range(method.max_rounds):
            p_value = 1.0
            for _ in range(_READINGS):
                readings, strength = self._read(space)
                found, p_value = self._test(space, readings, p_value)
                if p_value < method.level:
                    break
            bigger = space if p_value >= method.level else self._beyond(space, readings[0])
            rounds.append(
                Round(
                    space,
                    tuple(found.values.tolist()),
                    found.ratio,
                    found.threshold,
                    p_value,
                    bigger.dim - space.dim,
                )
            )
            if p_value >= method.level:
                return self._stays(space, tuple(rounds), found, p_value, strength)
            largest = max(largest, p_value)
            if bigger.dim == p:
                reason = f"the drift leaves every smaller candidate (p ≤ {largest:.1g} in {len(rounds)} rounds)"
                return FixedPoints(bigger, 1 - largest, tuple(rounds), "no symmetry found", reason, self.cost)
            if bigger.dim <= space.dim:
                break
            space = bigger
        reason = (
            f"cannot tell, because the drift leaves a subspace of dimension {space.dim} (p = {p_value:.1g}) but its "
            "direction cannot be told from noise; take more samples"
        )
        return FixedPoints(space, 0.0, tuple(rounds), "cannot tell", reason, self.cost)

    def _test(self, space: Subspace, readings: list[Reading], before: float) -> tuple[Escape, float]:
        """Both tests on one reading, and the p-value of all readings of this candidate so far."""
        method = self.method
        level = method.level / (2 * _READINGS)
        found = energy(readings[1], space, level=level, replicates=method.replicates, generator=self.generator)
        agree = 1.0
        if self.closure is not spans and space.dim:
            self.seen = [Reading.join(pair) for pair in zip(self.newton, readings, strict=True)]
            agree = agreement(*(part.off(space) for part in self.seen))
        return found, min(before, 1.0, 2 * _READINGS * min(found.p_value, agree))

    def _read(self, space: Subspace) -> tuple[list[Reading], float]:
        """The drift of both halves at the same particles of E, and the mean square of the part that lies on E."""
        method, unit = self.method, self.unit
        x, y = self.halves[1]
        scale = float(x.square().mean().sqrt())
        z = cloud_on(space, unit, method.particles, scale=scale, generator=self.generator, like=x)
        # many functions on E, few beside the targets
        m = max(1, min(method.features + 4 * min(space.dim, 64), y.numel() // 10))
        cloud = cloud_on(space, unit, m, scale=scale, generator=self.generator, like=x)
        readings = [read_drift(unit, x, unexplained(unit, x, y, cloud), z) for x, y in self.halves]
        self.cost += sum(len(x) for x, _ in self.halves) * (len(z) + 1)
        if space.dim == 0:
            return readings, self.curvature * self.share * float(y.var(0).sum())
        raw = read_drift(unit, x, y - y.mean(0), z)
        on = space.project(raw.columns).square().sum()
        noise = space.project(raw.influences).square().sum((0, 2)).mean() / len(x)
        self.cost += len(x) * len(z)
        return readings, float(on - noise)

    def _beyond(self, space: Subspace, reading: Reading) -> Subspace:
        """The next candidate, from the first half."""
        if self.closure is spans and space.dim == 0:
            return Subspace.span(self.newton[0].columns)
        if self.closure is spans:
            found = energy(
                reading, space, level=self.method.level, replicates=self.method.replicates, generator=self.generator
            )
            added = self.closure(found.directions, found.directions, lambda index, sign: True)
            basis, _ = torch.linalg.qr(torch.cat([space.basis, added.basis], dim=1))
            return Subspace.from_basis(basis[:, : self.unit.dim])
        directions, noise = _directions(self.seen[0])

        def accept(index: Tensor, sign: Tensor) -> bool:
            keeps = bool(torch.allclose(space.basis, sign[:, None] * space.basis[index], atol=1e-9))
            return keeps and agreement(*(part.moved(index, sign) for part in self.seen)) >= _VETO * self.method.level

        for factor in _TIGHTEN:
            bigger = self.closure(directions, factor * noise, accept)
            if bigger.dim > space.dim:
                return bigger
        return space

    def _stays(
        self, space: Subspace, rounds: tuple[Round, ...], found: Escape, p_value: float, strength: float
    ) -> FixedPoints:
        """The answer where nothing is seen to leave E: a symmetry, if something could have been seen."""
        bound = math.sqrt(found.excess / strength) if strength > 0 else math.inf
        if bound > self.method.resolution:
            reason = (
                f"cannot tell, because nothing is seen to leave a subspace of dimension {space.dim} of "
                f"{self.unit.dim}, but escapes of {bound:.0%} of the drift on it would not be seen; take more samples"
            )
            return FixedPoints(space, 0.0, rounds, "cannot tell", reason, self.cost)
        reason = (
            f"nothing leaves a subspace of dimension {space.dim} of {self.unit.dim} (p = {p_value:.2g}; at most "
            f"{bound:.1%} of the drift on it could), and the inputs explain {self.share:.0%} of the targets"
        )
        return FixedPoints(space, 1 - bound, rounds, "symmetry found", reason, self.cost)


def _directions(reading: Reading) -> tuple[Tensor, Tensor]:
    """The strongest combinations of directions relative to their noise, ``(p, s)``, and their standard deviations."""
    k, n, p = reading.influences.shape
    flat = reading.influences.reshape(k, -1)
    values, vectors = torch.linalg.eigh(flat @ flat.mT / (n * n * p))
    white = vectors / values.clamp_min(1e-10 * float(values.max())).sqrt()
    left, size, right = torch.linalg.svd(reading.columns.mT @ white, full_matrices=False)
    if float(size[0]) < math.sqrt(p) + math.sqrt(k) + 3:
        return left[:, :0], left[:, :0]
    kept = min(_KEPT, k)
    mixing = white @ right[:kept].mT
    noise = torch.stack(
        [torch.einsum("k,kbp->bp", mix, reading.influences).square().sum(0).sqrt() for mix in mixing.mT]
    )
    return left[:, :kept] * size[:kept], (noise.mT / n).clamp_min(1e-12)
