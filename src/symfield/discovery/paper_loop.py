r"""The subspace-discovery loop of Maass & Fontbona (2024), as it is published.

    E_0 = {0}
    for j = 0, 1, …:  ν_0 a law on E_j;  train vanilla to the horizon, ν the law reached
        if RMD²(ν, P_{E_j}#ν) ≤ δ: return E_j
        v = (1/N) Σ_i (θ_i − P_{E_j} θ_i);  E_{j+1} = E_j ⊕ span(v)

What the paper leaves open is filled in as follows: N = 1000; the law on E_j is the projection of N(0, 1/16); the noise
is off, because noise in all of R^p leaves every E_j, and noise projected on the unknown E^G would be circular.

Known defects, measured by the study ``maass2024_discovery``: at j = 1 the residuals nearly cancel in the mean, so
that v is mostly sampling noise; and one δ for all rounds mistakes small escapes for none.

References:
    Maass & Fontbona 2024, Section 4.2 and Appendix F.2, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from symfield.discovery.findings import FixedPoints, Problem, Round
from symfield.linalg import Subspace
from symfield.meanfield import Flow, distance_to_projection, gaussian, integrate, project, squared, vanilla
from symfield.typing import Float, Generator, Tensor

__all__ = ["PaperLoop", "leading_residual", "mean_residual"]


def mean_residual(residual: Float[Tensor, "n p"]) -> Float[Tensor, " p"]:
    """The published rule: the mean of the residuals.

    Args:
        residual: θ_i − Pθ_i, one row a particle.

    Returns:
        A direction.

    Example:
        >>> mean_residual(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist()
        [2.0, 0.0]
    """
    return residual.mean(0)


def leading_residual(residual: Float[Tensor, "n p"]) -> Float[Tensor, " p"]:
    """The leading right singular vector of the residuals, which survives when they cancel in the mean.

    Args:
        residual: θ_i − Pθ_i, one row a particle.

    Returns:
        A unit vector.

    Example:
        >>> leading_residual(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).abs().tolist()
        [1.0, 0.0]
    """
    return torch.linalg.svd(residual, full_matrices=False)[2][0]


@dataclass(frozen=True)
class PaperLoop:
    """Train from each E_j, leave when the law stays, else add the mean residual.

    The result's ``confidence`` and its rounds' ``p_value`` are NaN: the loop has no model of its errors. Values of
    rounds are the singular values of the residuals θ_i − Pθ_i over √N, the statistic is RMD²(ν, Pν).

    Attributes:
        threshold: δ, for RMD².
        n: number N of particles.
        flow: how to train; α = 20, T = 20, τ = 1e-4, no noise.
        std: standard deviation of the law that is projected on E_j.
        rule: from residuals ``(n, p)`` to the direction that is added: :func:`mean_residual`, as published, or
            :func:`leading_residual`.
    """

    threshold: float = 1e-2
    n: int = 1000
    flow: Flow = field(default_factory=lambda: Flow(rate=20.0, beta=0.0, records=1))
    std: float = 0.25
    rule: Callable[[Tensor], Tensor] = mean_residual

    def __post_init__(self) -> None:
        if not self.threshold > 0 or self.n < 1 or not self.std >= 0:
            raise ValueError(
                f"expected threshold > 0, n >= 1 and std >= 0, received {self.threshold}, {self.n}, {self.std}"
            )

    def search(self, problem: Problem, *, generator: Generator) -> FixedPoints:
        """Run the loop.

        Args:
            problem: data and unit, checked.
            generator: source of randomness.

        Returns:
            What was found: "symmetry found" when a round stays, "no symmetry found" when E_j is all of R^p.
        """
        unit, like = problem.unit, torch.zeros(0, dtype=torch.float64)
        objective, flow = vanilla(unit, squared), replace(self.flow, records=1)
        space, rounds = Subspace.zero(unit.dim), []
        each = flow.steps(self.n) * flow.batch * self.n
        while space.dim < unit.dim:
            start = project(gaussian(self.std)((self.n, unit.dim), generator=generator, like=like), space)
            *_, last = integrate(start, objective, flow=flow, data=problem.source, generator=generator)
            distance = float(distance_to_projection(last.z, space, squared=True))
            residual = last.z - space.project(last.z)
            stays = distance <= self.threshold
            values = tuple((torch.linalg.svdvals(residual) / math.sqrt(self.n)).tolist())
            rounds.append(Round(space, values, distance, self.threshold, math.nan, 0 if stays else 1))
            if stays:
                reason = (
                    f"trained from a law on a subspace of dimension {space.dim}, RMD² = {distance:.2g} stays below δ"
                )
                return FixedPoints(space, math.nan, tuple(rounds), "symmetry found", reason, each * len(rounds))
            space = _with(space, self.rule(residual))
        reason = f"training left every subspace of dimension below {unit.dim}"
        return FixedPoints(space, math.nan, tuple(rounds), "no symmetry found", reason, each * len(rounds))


def _with(space: Subspace, direction: Tensor) -> Subspace:
    basis, _ = torch.linalg.qr(torch.cat([space.basis, direction[:, None]], dim=1))
    return Subspace.from_basis(basis)
