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
from dataclasses import dataclass

import torch

from symfield import random
from symfield.discovery.closures import Closure, closure_of
from symfield.discovery.drift import Escape, cloud_on, drift_columns, escape, newton_column, unexplained
from symfield.discovery.findings import FixedPoints, Problem, Round
from symfield.discovery.predictable import explained_share
from symfield.linalg import Subspace
from symfield.typing import Generator, Tensor
from symfield.units import Unit

__all__ = ["TrainingFree"]

_KEPT = 6


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
    samples: int = 20_000
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
        x, y = x[order], y[order]
        half = len(x) // 2
        propose, decide = (x[:half], y[:half]), (x[half:], y[half:])
        share, error = explained_share(propose, decide)
        if not share > 3 * error:
            reason = (
                f"cannot tell, because on held-out samples the inputs explain nothing of the targets "
                f"(R² = {share:.2f} ± {error:.2f}); take more samples or other inputs"
            )
            return FixedPoints(Subspace.full(unit.dim), 0.0, (), "cannot tell", reason, 0)
        closure = self.closure or closure_of(unit)
        proposals = _Spans(self, unit, *propose) if closure is None else _Closures(self, unit, *propose, closure)
        space, rounds, cost, largest = Subspace.zero(unit.dim), [], 0, 0.0
        for _ in range(self.max_rounds):
            found = self._escape(unit, *decide, space, generator)
            cost += found.cost
            if found.p_value >= self.level:
                rounds.append(_round(space, found, self.level, 0))
                return _closed(self, unit, space, tuple(rounds), found, share, cost + proposals.cost)
            bigger = proposals.beyond(space, generator)
            rounds.append(_round(space, found, self.level, bigger.dim - space.dim))
            largest = max(largest, found.p_value)
            if bigger.dim == unit.dim:
                reason = f"the drift leaves every smaller candidate (p = {largest:.1g} at most in {len(rounds)} rounds)"
                return FixedPoints(
                    bigger, 1 - largest, tuple(rounds), "no symmetry found", reason, cost + proposals.cost
                )
            if bigger.dim == space.dim:
                break
            space = bigger
        reason = (
            f"cannot tell, because the drift leaves a subspace of dimension {space.dim} (p = {found.p_value:.1g}) but "
            "no direction can be told from noise; take more samples"
        )
        return FixedPoints(space, 0.0, tuple(rounds), "cannot tell", reason, cost + proposals.cost)

    def _features(self, space: Subspace, outputs: int) -> int:
        """Enough particles to represent functions on E, few beside the number of targets."""
        return max(1, min(self.features + 4 * space.dim, outputs // 10))

    def _escape(self, unit: Unit, x: Tensor, y: Tensor, space: Subspace, generator: Generator) -> Escape:
        return escape(
            unit, x, y, space, particles=self.particles, features=self._features(space, y.numel()), level=self.level,
            replicates=self.replicates, generator=generator,
        )  # fmt: skip


def _round(space: Subspace, found: Escape, level: float, added: int) -> Round:
    return Round(space.dim, tuple(found.values.tolist()), found.ratio, found.threshold, found.p_value, added)


def _closed(
    method: TrainingFree, unit: Unit, space: Subspace, rounds: tuple[Round, ...], found: Escape, share: float, cost: int
) -> FixedPoints:
    """The answer where nothing is seen to leave E: a symmetry, if something could have been seen."""
    if found.bound > method.resolution:
        reason = (
            f"cannot tell, because nothing is seen to leave a subspace of dimension {space.dim} of {unit.dim}, but "
            f"{found.bound:.0%} of the drift on it could leave without being seen; take more samples"
        )
        return FixedPoints(space, 0.0, rounds, "cannot tell", reason, cost)
    reason = (
        f"nothing leaves a subspace of dimension {space.dim} of {unit.dim} (p = {found.p_value:.2g}; at most "
        f"{found.bound:.1%} of the drift on it could), and inputs explain {share:.0%} of the targets"
    )
    return FixedPoints(space, 1 - found.bound, rounds, "symmetry found", reason, cost)


class _Closures:
    """Candidates as fixed spaces of all permutations that keep what the drift on the last one showed."""

    def __init__(self, method: TrainingFree, unit: Unit, x: Tensor, y: Tensor, closure: Closure) -> None:
        self.method, self.unit, self.x, self.y, self.closure = method, unit, x, y, closure
        self.columns: list[Tensor] = []
        self.influences: list[Tensor] = []
        self.cost = 0

    def beyond(self, space: Subspace, generator: Generator) -> Subspace:
        unit, x, y = self.unit, self.x, self.y
        if not self.columns:
            column, influence = newton_column(unit, x, y - y.mean(0))
            self.columns.append(column)
            self.influences.append(influence)
            self.cost += len(x) * unit.out_dim
            return self._close()
        scale = float(x.square().mean().sqrt())
        features = self.method._features(space, y.numel())
        residual = unexplained(unit, x, y, cloud_on(space, unit, features, scale=scale, generator=generator, like=x))
        z = cloud_on(space, unit, self.method.particles, scale=scale, generator=generator, like=x)
        means, each = drift_columns(unit, x, residual, z)
        self.cost += len(x) * len(z)
        self.columns.extend(means.mT)
        self.influences.extend((each - means.mT).unbind(1))
        return self._close()

    def _close(self) -> Subspace:
        """Columns as combinations with noise of size one, those above the noise only."""
        columns, p = torch.stack(self.columns, dim=1), self.unit.dim
        n, k = len(self.x), len(self.columns)
        covariance = columns.new_zeros(k, k)
        for i in range(k):
            for j in range(i + 1):
                covariance[i, j] = covariance[j, i] = (self.influences[i] * self.influences[j]).sum() / (n * n * p)
        values, vectors = torch.linalg.eigh(covariance)
        white = vectors / values.clamp_min(1e-10 * float(values.max())).sqrt()
        left, size, right = torch.linalg.svd(columns @ white, full_matrices=False)
        kept = min(_KEPT, int((size > math.sqrt(p) + math.sqrt(k) + 3).sum()))
        mixing = white @ right[:kept].mT
        noise = torch.zeros(p, kept).to(columns)
        for s in range(kept):
            mixed = sum(self.influences[i] * mixing[i, s] for i in range(k))
            noise[:, s] = mixed.square().sum(0).sqrt() / n
        return self.closure(left[:, :kept] * size[:kept], noise.clamp_min(1e-12))


class _Spans:
    """Candidates as spans of the significant directions of the drift on the last one."""

    def __init__(self, method: TrainingFree, unit: Unit, x: Tensor, y: Tensor) -> None:
        self.method, self.unit, self.x, self.y = method, unit, x, y
        self.cost = 0

    def beyond(self, space: Subspace, generator: Generator) -> Subspace:
        found = self.method._escape(self.unit, self.x, self.y, space, generator)
        self.cost += found.cost
        if found.directions.shape[1] == 0:
            return space
        return Subspace.from_basis(torch.linalg.qr(torch.cat([space.basis, found.directions], dim=1))[0])
