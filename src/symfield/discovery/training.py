r"""The fixed subspace by training, with a test that tells escape from noise.

Free SGD leaves E^G even where the population flow stays, because its batches are noisy: the mean square d of the
residuals θ − Pθ that noise alone gives is proportional to ε/B, and to 1/n where n samples are reused (Maass & Fontbona
2024, Theorem 5, and :mod:`symfield.meanfield.transverse_noise`). A true escape e depends on neither. So every round
trains twice from the same laws on E_j, with batches B from a quarter of the samples and with 4B from all of them:

    d(B) = e + c/B,  d(4B) = e + c/(4B)   ⇒   e = (4 d(4B) − d(B))/3,

the same for the second-moment matrix of the residuals, whose leading directions are the escaping ones. Several runs
advance together; with a data set every run has samples of its own. One half of the runs proposes directions, along
which the other half is tested (Student's t over runs), and vice versa.

References:
    Maass & Fontbona 2024, Section 4.2 and Appendix F.2, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy.stats import t as student

from symfield import random
from symfield.discovery.findings import FixedPoints, Problem, Round
from symfield.discovery.predictable import explained_share
from symfield.linalg import Subspace
from symfield.meanfield import Data, Flow, gaussian, integrate, project, squared, vanilla
from symfield.typing import Generator, Tensor

__all__ = ["Training"]

_JUDGED = 2000
_MORE = 4  # batches and samples of the second arm over those of the first


@dataclass(frozen=True)
class Training:
    """Train from each E_j in two arms, add the directions that escape beyond noise, stop when there are none.

    ``confidence`` of the result is one minus the p-value of the last round that escaped (for "no symmetry found"),
    or the share of the smallest counted escape that the last one stays below (for "symmetry found"); it does not cover
    directions that training is too short to show. Values of rounds are the eigenvalues of the noise-corrected
    second-moment matrix of the residuals over the mean square of the particles, the statistic is their sum over 4,
    which is RMD² for small escapes, and its threshold is that of the test, not less than ``angle``²/4.

    Attributes:
        n: number N of particles.
        runs: number of runs in an arm, even, at least 4.
        flow: how to train; its batch is that of the first arm.
        std: standard deviation of the law that is projected on E_j.
        level: probability of seeing an escape where there is none, in each round.
        angle: escapes that a subspace at this angle (radians) from a closed one would show do not count, since the
            directions of E_j are only known to about this angle. In the end E is turned to the leading directions of
            the trained laws, which are closer to closed.
    """

    n: int = 50
    runs: int = 6
    flow: Flow = field(default_factory=lambda: Flow(rate=20.0, beta=0.0, records=1))
    std: float = 0.25
    level: float = 1e-2
    angle: float = 0.05

    def __post_init__(self) -> None:
        if self.n < 1 or self.runs < 4 or self.runs % 2 or not 0 < self.level < 1 or not self.angle > 0:
            raise ValueError(
                f"expected n >= 1, an even number of runs >= 4, 0 < level < 1 and angle > 0, received "
                f"{self.n}, {self.runs}, {self.level}, {self.angle}"
            )

    def search(self, problem: Problem, *, generator: Generator) -> FixedPoints:
        """Run the loop.

        Args:
            problem: data and unit, checked.
            generator: source of randomness.

        Returns:
            What was found.
        """
        unit = problem.unit
        arms = self._arms(problem, generator)
        cost = sum(flow.steps(self.n) * flow.batch * self.n * self.runs for flow, _ in arms)
        space, rounds, p_value = Subspace.zero(unit.dim), [], 1.0
        while space.dim < unit.dim:
            clouds = self._train(problem, space, arms, generator)
            size = float(clouds[1].square().sum(-1).mean())
            found = _escaping([z - space.project(z) for z in clouds], size, self.level, self.angle)
            p_value = found.p_value
            rounds.append(replace(found.round, subspace=space, added=found.directions.shape[1]))
            if found.directions.shape[1] == 0:
                short = _shortfall(problem, clouds[1], generator)
                if short:
                    return FixedPoints(space, 0.0, tuple(rounds), "cannot tell", short, cost * len(rounds))
                reason = (
                    f"training leaves a subspace of dimension {space.dim} no further than noise (p = {p_value:.2g})"
                )
                confidence = min(1.0, max(0.0, 1 - rounds[-1].statistic / rounds[-1].threshold))
                if space.dim:
                    _, vectors = torch.linalg.eigh(_moments(clouds).mean(0))
                    space = Subspace.from_basis(vectors[:, -space.dim :])
                return FixedPoints(space, confidence, tuple(rounds), "symmetry found", reason, cost * len(rounds))
            basis, _ = torch.linalg.qr(torch.cat([space.basis, found.directions], dim=1))
            space = Subspace.from_basis(basis[:, : unit.dim])
        reason = f"training left every subspace of dimension below {unit.dim}"
        return FixedPoints(space, 1 - p_value, tuple(rounds), "no symmetry found", reason, cost * len(rounds))

    def _arms(self, problem: Problem, generator: Generator) -> list[tuple[Flow, Data]]:
        few = replace(self.flow, records=1)
        many = replace(few, batch=_MORE * few.batch)
        if problem.samples is None:
            return [(few, problem.source), (many, problem.source)]
        x, y = problem.samples.x, problem.samples.y
        order = random.uniform((len(x),), generator=generator, like=x).argsort()
        each = len(x) // self.runs
        rows = order[: each * self.runs].reshape(self.runs, each)
        return [(few, _Shares(x, y, rows[:, : max(1, each // _MORE)])), (many, _Shares(x, y, rows))]

    def _train(
        self, problem: Problem, space: Subspace, arms: Sequence[tuple[Flow, Data]], generator: Generator
    ) -> list[Tensor]:
        """Final clouds ``(runs, n, p)`` of both arms."""
        like = torch.zeros(0, dtype=torch.float64)
        start = gaussian(self.std)((self.runs, self.n, problem.unit.dim), generator=generator, like=like)
        start, objective = project(start, space), vanilla(problem.unit, squared)
        clouds = []
        for flow, data in arms:
            *_, last = integrate(start, objective, flow=flow, data=data, generator=generator)
            clouds.append(last.z)
        return clouds


@dataclass(frozen=True)
class _Shares:
    """Mini-batches for several runs, each from samples of its own."""

    x: Tensor
    y: Tensor
    rows: Tensor

    def __call__(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw rows with replacement: shape ``(steps, runs, batch)``."""
        steps, runs, batch = shape
        pick = random.integers(0, self.rows.shape[1], (runs, steps * batch), generator=generator, like=self.rows)
        rows = self.rows.gather(1, pick).reshape(runs, steps, batch).movedim(1, 0)
        return self.x[rows].to(like), self.y[rows].to(like)


def _shortfall(problem: Problem, clouds: Tensor, generator: Generator) -> str:
    """Why trained laws say nothing about the targets, or nothing."""
    x, y = problem.sample(_JUDGED, generator=generator, like=torch.zeros(0, dtype=torch.float64))
    cut = len(x) // 2
    share, error = explained_share((x[:cut], y[:cut]), (x[cut:], y[cut:]))
    if not share > 3 * error:
        return f"cannot tell, because the inputs explain nothing of the targets (R² = {share:.2f} ± {error:.2f})"
    missed = (problem.unit.mean(x, clouds.flatten(0, 1)) - y).square().sum() / (y - y.mean(0)).square().sum()
    fitted = 1 - float(missed)
    if fitted < share / 2:
        return (
            f"cannot tell, because the trained law explains {max(fitted, 0.0):.0%} of the targets and the inputs "
            f"explain {share:.0%}; train longer, scale the targets to what the unit can give, or use TrainingFree"
        )
    return ""


@dataclass(frozen=True)
class _Found:
    directions: Tensor
    p_value: float
    round: Round


def _escaping(residuals: Sequence[Tensor], size: float, level: float, angle: float) -> _Found:
    """Directions of the residuals that do not shrink with the noise, over runs."""
    moments = _moments(residuals) / max(size, 1e-300)
    runs, floor = len(moments), angle**2 / 4
    totals = torch.diagonal(moments, dim1=1, dim2=2).sum(1)
    values, vectors = torch.linalg.eigh(moments.mean(0))
    values, vectors = values.flip(0), vectors.flip(1)
    half = runs // 2
    parts = (moments[:half], moments[half:])
    along = [_crosswise(parts, k) for k in range(min(len(values), runs * residuals[0].shape[1]))]
    p_value, threshold = _student(totals, level)
    statistic = float(totals.mean()) / 4
    threshold = max(threshold / 4, floor)
    count = 0
    if p_value < level and statistic > floor:
        while count < len(along) and _student(along[count], level)[0] < level and float(values[count]) / 4 > floor:
            count += 1
        count = max(count, 1)
    measured = Round(Subspace.zero(len(values)), tuple(values.tolist()), statistic, threshold, p_value, 0)
    return _Found(vectors[:, :count], p_value, measured)


def _moments(parts: Sequence[Tensor]) -> Tensor:
    """Second-moment matrices ``(runs, p, p)``, extrapolated to no noise."""
    few, many = (torch.einsum("rni,rnj->rij", part, part) / part.shape[1] for part in parts)
    return (_MORE * many - few) / (_MORE - 1)


def _crosswise(parts: Sequence[Tensor], k: int) -> Tensor:
    """The k-th eigenvalue of each run's matrix, along the k-th eigenvector of the other half of the runs."""
    values = []
    for here, there in (parts, parts[::-1]):
        direction = torch.linalg.eigh(there.mean(0))[1][:, -1 - k]
        values.append(torch.einsum("rij,i,j->r", here, direction, direction))
    return torch.cat(values)


def _student(values: Tensor, level: float) -> tuple[float, float]:
    """The p-value of a mean above 0, and the mean above which it is below the level."""
    error = float(values.std()) / math.sqrt(len(values))
    law = student(len(values) - 1)
    if error == 0:
        return (0.0 if float(values.mean()) > 0 else 1.0), 0.0
    return float(law.sf(float(values.mean()) / error)), float(law.isf(level)) * error
