r"""Does a transformation leave the data's law alone? Tested on samples that no fit has seen.

With a predictor f̂ fitted elsewhere and held-out samples (x_i, y_i), a transformation (g, τ) of inputs and outputs is
judged by the paired differences

    d_i = |y_i − τ⁻¹ f̂(g x_i)|² − |y_i − f̂(x_i)|²,

which have mean zero whatever the quality of f̂ when f(gx) = τ f(x) and the inputs' law is invariant under g, and the
mean |f − τ⁻¹ f∘g|² when f̂ = f. The *effect* is their mean over the variance of y, with its standard error. The *null*
is the same number for a transformation of the same class that has no reason to be a symmetry: for permutations, the
moved coordinates are exchanged between samples; for matrices, random ones of the same size. Only samples whose image
g x_i lies where training inputs lie take part; their share is *covered*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from symfield.discovery.dataset import Dataset
from symfield.discovery.fits import Predictor
from symfield.typing import Bool, Float, Int, Tensor

__all__ = ["Check", "HeldOut"]

#: Largest share of the null that a symmetry may violate, as the upper end of the confidence interval.
LARGEST_SHARE = 0.1

#: Largest violation of a symmetry that is claimed, as a share of the variance, likewise.
LARGEST_VIOLATION = 0.05

#: Standard errors from zero from which a violation is taken for real.
STANDARD_ERRORS = 3.0

#: Smallest share of held-out samples whose images lie where the inputs are.
LEAST_COVER = 0.3

_ROUND_OFF = 1e-9
_COVER_QUANTILE = 0.95


@dataclass(frozen=True)
class Check:
    """One generator on held-out samples.

    Attributes:
        what: the generator in words.
        effect: equivariance error, mean squared and relative to the variance of the targets.
        error: its standard error.
        null: the same for transformations of the same class that are no symmetries.
        covered: share of the samples whose images lie where inputs were seen.
        count: samples that took part.
        tolerated: share of the null that a matrix measured with errors may violate; 0 for an exact one.
    """

    what: str
    effect: float
    error: float
    null: float
    covered: float
    count: int
    tolerated: float = 0.0

    @property
    def upper(self) -> float:
        """Upper end of the confidence interval of the effect."""
        return self.effect + 2 * self.error

    @property
    def holds(self) -> bool:
        """Whether the effect is indistinguishable from zero, and certainly small, beside the null and as such."""
        return (
            self.covered >= LEAST_COVER
            and self.effect <= self._chance
            and self.upper <= min(LARGEST_SHARE * self.null, LARGEST_VIOLATION) + _ROUND_OFF
            and self.null > 100 * _ROUND_OFF
        )

    @property
    def contradicted(self) -> bool:
        """Whether the effect is certainly above zero."""
        return self.covered >= LEAST_COVER and self.effect > self._chance

    @property
    def _chance(self) -> float:
        """Effects up to here are taken for errors of the samples, or of a measured matrix."""
        return STANDARD_ERRORS * self.error + self.tolerated * self.null + _ROUND_OFF

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "contradicted" if self.contradicted else "cannot tell"
        return (
            f"{self.what}: effect {self.effect:.1e} ± {self.error:.1e} (null {self.null:.1e}, "
            f"{self.covered:.0%} of {self.count} samples covered): {verdict}"
        )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out samples, a predictor, and training inputs.

    Args:
        predict: the predictor f̂.
        data: samples that it was not fitted to.
        seen: training inputs, for what is covered.
        kinds: equal for outputs that may go to one another; all may when absent.
    """

    predict: Predictor
    data: Dataset
    seen: Float[Tensor, "n d"]
    kinds: Int[Tensor, " o"] | None = None

    @cached_property
    def variance(self) -> float:
        """Total variance of the targets."""
        return max(float((self.data.y - self.data.y.mean(0)).square().mean(0).sum()), 1e-300)

    @cached_property
    def values(self) -> Float[Tensor, "b o"]:
        """The predictor at the samples."""
        return self.predict(self.data.x)

    @cached_property
    def residuals(self) -> Float[Tensor, " b"]:
        """|y − f̂(x)|² at the samples."""
        return (self.data.y - self.values).square().sum(-1)

    @cached_property
    def _reach(self) -> float:
        """Distance within which most held-out inputs have a training input."""
        return float(_nearest(self.data.x, self.seen).quantile(_COVER_QUANTILE))

    def covered(self, moved: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
        """Which images lie as close to training inputs as held-out inputs do.

        Args:
            moved: the images g x_i.

        Returns:
            One truth value for each.
        """
        return _nearest(moved, self.seen) <= self._reach * (1 + 1e-9)

    def excess(self, moved: Float[Tensor, "b d"], back: Float[Tensor, "o o"] | None = None) -> Float[Tensor, " b"]:
        """The paired differences d_i over the variance of the targets.

        Args:
            moved: the images g x_i.
            back: τ⁻¹; the identity when absent.

        Returns:
            One number for each sample.
        """
        predicted = self.predict(moved)
        if back is not None:
            predicted = predicted @ back.mT
        return ((self.data.y - predicted).square().sum(-1) - self.residuals) / self.variance

    def check(
        self,
        what: str,
        moved: Float[Tensor, "b d"],
        null: Callable[[], float],
        back: Float[Tensor, "o o"] | None = None,
        *,
        cover: bool = True,
    ) -> Check:
        """One transformation, on the samples whose images are covered.

        Args:
            what: the transformation in words.
            moved: the images g x_i.
            null: gives the effect of transformations that are no symmetries.
            back: τ⁻¹; the identity when absent.
            cover: whether to leave out images where no inputs were seen.

        Returns:
            The check.
        """
        inside = self.covered(moved) if cover else torch.ones(len(moved), dtype=torch.bool)
        share, count = float(inside.double().mean()), int(inside.sum())
        if count < 2:
            return Check(what, float("nan"), float("inf"), 0.0, share, count)
        d = self.excess(moved, back)[inside]
        return Check(what, float(d.mean()), float(d.std() / count**0.5), null(), share, count)

    def shuffled(self, columns: Bool[Tensor, " d"], back: Float[Tensor, "o o"] | None = None) -> float:
        """The effect of exchanging some columns of the inputs between samples: how much they matter.

        Args:
            columns: which columns.
            back: τ⁻¹; the identity when absent.

        Returns:
            The mean over three shifts of the samples.
        """
        effects = []
        for shift in (1, len(self.data) // 3 + 1, len(self.data) // 2 + 1):
            moved = torch.where(columns, self.data.x.roll(shift, 0), self.data.x)
            effects.append(float(self.excess(moved, back).mean()))
        return max(sum(effects) / len(effects), 0.0)


def _nearest(points: Tensor, among: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, among, compute_mode="use_mm_for_euclid_dist").min(-1).values
                      for part in points.split(1024)])  # fmt: skip
