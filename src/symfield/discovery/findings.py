"""What a search for the fixed subspace finds, and what it was given: values that its methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from symfield.discovery.dataset import Dataset
from symfield.linalg import Subspace
from symfield.meanfield import Arrays, Data
from symfield.typing import Float, Generator, Tensor
from symfield.units import Unit

__all__ = ["FixedPoints", "Method", "Problem", "Round", "Verdict"]

Verdict = Literal["symmetry found", "no symmetry found", "cannot tell"]


@dataclass(frozen=True)
class Round:
    """One round of the search: whether anything leaves E_j, and where to.

    Attributes:
        subspace: the candidate E_j that was asked about.
        values: what was measured off E_j, largest first: singular values of the drift or of the residuals, in units
            of their noise where the method knows it; what they are is said by the method.
        statistic: the number that decides.
        threshold: the statistic above which something leaves E_j.
        p_value: probability of a statistic this large if nothing leaves E_j; NaN where the method has no such model.
        added: number of directions that were added in consequence, 0 in the last round.
    """

    subspace: Subspace
    values: tuple[float, ...]
    statistic: float
    threshold: float
    p_value: float
    added: int

    @property
    def dim(self) -> int:
        """Dimension of the candidate E_j."""
        return self.subspace.dim

    def __repr__(self) -> str:
        return (
            f"Round(dim {self.dim}: statistic {self.statistic:.3g}, threshold {self.threshold:.3g}, "
            f"p {self.p_value:.2g}, {self.added} added)"
        )


@dataclass(frozen=True)
class FixedPoints:
    """A subspace that no training leaves, as far as the data can tell.

    Attributes:
        subspace: E, closed under the drift up to what the data resolve; all of R^p if nothing smaller is.
        confidence: in [0, 1]; what it is the probability of depends on the verdict and is said by the method.
        rounds: what happened on the way.
        verdict: "symmetry found" (E is closed and smaller than R^p), "no symmetry found" (the drift leaves every
            smaller candidate), or "cannot tell".
        reason: a sentence for the reader of a report.
        cost: gradient evaluations, one for each sample, particle and output covector.
    """

    subspace: Subspace
    confidence: float
    rounds: tuple[Round, ...]
    verdict: Verdict
    reason: str
    cost: int

    def __repr__(self) -> str:
        return (
            f"FixedPoints({self.verdict}: dim {self.subspace.dim} of {self.subspace.ambient_dim}, "
            f"confidence {self.confidence:.3g}, {len(self.rounds)} rounds)"
        )


@dataclass(frozen=True)
class Problem:
    """Data and unit, checked.

    Attributes:
        unit: σ_*.
        source: draws batches: fresh samples, or rows of the data set.
        samples: the data set, or None when samples are drawn fresh.
    """

    unit: Unit
    source: Data
    samples: Dataset | None = None

    def sample(self, count: int, *, generator: Generator, like: Tensor) -> tuple[Float[Tensor, "b d"], Tensor]:
        """The whole data set, or ``count`` fresh samples.

        Args:
            count: number of fresh samples.
            generator: source of randomness.
            like: gives dtype and device.

        Returns:
            Inputs ``(b, d)`` and targets ``(b, o)``.
        """
        if self.samples is not None:
            return self.samples.x.to(like), self.samples.y.to(like)
        return self.source((count,), generator=generator, like=like)

    @classmethod
    def of(cls, samples: Dataset, unit: Unit) -> Problem:
        """The problem of a data set.

        Args:
            samples: the data.
            unit: σ_*.

        Returns:
            A problem.
        """
        return cls(unit, Arrays(samples.x, samples.y), samples)


@runtime_checkable
class Method(Protocol):
    """A way to search: :class:`TrainingFree`, :class:`Training` or :class:`PaperLoop`."""

    def search(self, problem: Problem, *, generator: Generator) -> FixedPoints:
        """Search for the fixed subspace."""
