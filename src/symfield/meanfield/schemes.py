"""The four ways to train on symmetric data as values: vanilla, DA, FA, EA.

Each is an :class:`Objective`: a population risk on laws of particles, with its Wasserstein gradient. With Q_G the
averaging operator and μ^E the projected law (Maass & Fontbona 2024, Section 2.3):

========================  ==================================================
:func:`vanilla`           R(μ) = E ℓ(Φ_μ(X), Y)
:func:`augmented` (DA)    R^DA(μ) = E ∫ ℓ(Φ_μ(ρ_g X), ρ̂_g Y) dλ(g)
:func:`averaged` (FA)     R^FA(μ) = E ℓ(Q_G Φ_μ(X), Y)
:func:`constrained` (EA)  R^EA(μ) = E ℓ(Φ_{μ^E}(X), Y)
========================  ==================================================

All four are one computation: *virtual samples* (the batch, or the batch moved by a frame), a residual at them (for FA
averaged over the frame and moved back), the pull-back to the particles, and (EA) a projection. So one inner loop serves
all, and one frame serves DA and FA.

References:
    Maass & Fontbona 2024, Section 2.3, Propositions 2 and 18, Corollary 5, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from symfield.groups import Defining, Representation
from symfield.linalg import Subspace
from symfield.meanfield.losses import Loss, loss_of
from symfield.meanfield.objective import Objective
from symfield.symmetrize import Frame
from symfield.symmetrize.frames import require_frame
from symfield.typing import Tensor
from symfield.units import Unit

__all__ = ["Coupled", "augmented", "averaged", "constrained", "coupled", "vanilla"]


@dataclass(frozen=True)
class Coupled:
    """Several objectives trained side by side on shared data and noise: clouds gain a leading axis of schemes.

    Attributes:
        objectives: the schemes, in the order of the leading axis; all with the same unit.
    """

    objectives: tuple[Objective, ...]


def vanilla(unit: Unit, loss: Loss | Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """Plain training: R(μ) = E ℓ(Φ_μ(X), Y).

    Args:
        unit: σ_*.
        loss: :data:`~symfield.meanfield.squared`, or any function ``(*b, o), (*b, o) -> (*b)``.

    Returns:
        An objective.

    Example:
        >>> import torch
        >>> from symfield.meanfield import squared
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> objective = vanilla(PointwiseUnit(sigmoid, 2, 2), squared)
        >>> objective.risk(torch.zeros(5, 4), torch.zeros(3, 2), torch.zeros(3, 2)).item()
        0.5
    """
    return Objective(unit, loss_of(loss))


def augmented(
    unit: Unit,
    loss: Loss | Callable[[Tensor, Tensor], Tensor],
    frame: Frame,
    *,
    rep_in: Representation | None = None,
    rep_out: Representation | None = None,
) -> Objective:
    """Data augmentation (DA): R^DA(μ) = E ∫ ℓ(Φ_μ(ρ_g X), ρ̂_g Y) dλ(g).

    Args:
        unit: σ_*.
        loss: a loss.
        frame: ``uniform(group)`` for full orbits, ``haar(group, m)`` for m fresh elements for every sample.
        rep_in: ρ; ``Defining(group)`` when absent and of the right dimension.
        rep_out: ρ̂; the same default.

    Returns:
        An objective.

    Raises:
        TypeError: if ``frame`` is not a frame.
        ValueError: if representations do not fit the unit or the frame.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic
        >>> from symfield.meanfield import squared
        >>> from symfield.symmetrize import uniform
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> objective = augmented(PointwiseUnit(sigmoid, 2, 2), squared, uniform(Cyclic(2)))
        >>> objective.virtual(torch.zeros(3, 2), torch.zeros(3, 2)).x.shape  # both poses of three samples
        torch.Size([6, 2])
    """
    return Objective(unit, loss_of(loss), frame, *_representations(unit, frame, rep_in, rep_out))


def averaged(
    unit: Unit,
    loss: Loss | Callable[[Tensor, Tensor], Tensor],
    frame: Frame,
    *,
    rep_in: Representation | None = None,
    rep_out: Representation | None = None,
) -> Objective:
    """Feature averaging (FA): R^FA(μ) = E ℓ(Q_G Φ_μ(X), Y).

    Args:
        unit: σ_*.
        loss: a loss.
        frame: ``uniform(group)`` for the exact average, ``haar(group, m)`` for a sampled one (a biased estimate of
            the risk: its expectation exceeds R^FA by the variance of the average).
        rep_in: ρ; ``Defining(group)`` when absent and of the right dimension.
        rep_out: ρ̂, orthogonal; the same default.

    Returns:
        An objective.

    Raises:
        TypeError: if ``frame`` is not a frame.
        ValueError: if representations do not fit the unit or the frame, or ρ̂ is not orthogonal.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic
        >>> from symfield.meanfield import squared
        >>> from symfield.symmetrize import uniform
        >>> from symfield.units import PointwiseUnit, identity
        >>> unit, frame = PointwiseUnit(identity, 2, 2), uniform(Cyclic(2))
        >>> z, x, y = torch.tensor([[1.0, 0.0, 0.0, -1.0]]), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
        >>> averaged(unit, squared, frame).risk(z, x, y).item()  # diag(1, -1) averages to zero over the swap
        0.0
        >>> augmented(unit, squared, frame).risk(z, x, y).item()
        5.0
    """
    reps = _representations(unit, frame, rep_in, rep_out)
    if not reps[1].orthogonal:
        raise ValueError(f"expected an orthogonal rep_out, received {reps[1]}; change the basis so that it is one")
    return Objective(unit, loss_of(loss), frame, *reps, averages=True)


def constrained(unit: Unit, loss: Loss | Callable[[Tensor, Tensor], Tensor], subspace: Subspace) -> Objective:
    """Equivariant architecture (EA): R^EA(μ) = E ℓ(Φ_{μ^E}(X), Y), particles restricted to E^G.

    Args:
        unit: σ_*.
        loss: a loss.
        subspace: E^G in R^p, usually ``fixed_points(action(unit, ...))``.

    Returns:
        An objective; its gradient is P_E D_μR(μ^E, P_E z).

    Raises:
        ValueError: if the subspace does not lie in the unit's parameter space.

    Example:
        >>> import torch
        >>> from symfield.linalg import Subspace
        >>> from symfield.meanfield import squared
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> objective = constrained(PointwiseUnit(sigmoid, 2, 2), squared, Subspace.zero(4))
        >>> objective.gradient(torch.ones(5, 4), torch.ones(3, 2), torch.zeros(3, 2)).abs().max().item()
        0.0
    """
    if subspace.ambient_dim != unit.dim:
        raise ValueError(f"expected a subspace of R^{unit.dim}, received one of R^{subspace.ambient_dim}")
    return Objective(unit, loss_of(loss), subspace=subspace)


def coupled(*objectives: Objective) -> Coupled:
    """Train several schemes on the same data and noise.

    Args:
        objectives: at least one, all with the same unit.

    Returns:
        A value for :func:`~symfield.meanfield.integrate`; clouds then have shape ``(schemes, *r, n, p)``.

    Raises:
        ValueError: if there is none, or units differ.

    Example:
        >>> from symfield.groups import Cyclic
        >>> from symfield.meanfield import squared
        >>> from symfield.symmetrize import uniform
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> unit = PointwiseUnit(sigmoid, 2, 2)
        >>> schemes = coupled(vanilla(unit, squared), averaged(unit, squared, uniform(Cyclic(2))))
        >>> len(schemes.objectives)
        2
    """
    if not objectives:
        raise ValueError("expected at least one objective, received none")
    if any(objective.unit != objectives[0].unit for objective in objectives):
        raise ValueError("expected one unit for all objectives; train different units in separate calls")
    return Coupled(tuple(objectives))


def _representations(
    unit: Unit, frame: Frame, rep_in: Representation | None, rep_out: Representation | None
) -> tuple[Representation, Representation]:
    require_frame(frame)
    chosen = []
    for side, dim, rep in (("rep_in", unit.in_dim, rep_in), ("rep_out", unit.out_dim, rep_out)):
        candidate = Defining(frame.group) if rep is None else rep
        if candidate.dim != dim or candidate.group != frame.group:
            raise ValueError(
                f"expected {side} of dim {dim} of the frame's group {frame.group}, received {candidate} of dim "
                f"{candidate.dim} of {candidate.group}; pass {side}="
            )
        chosen.append(candidate)
    return chosen[0], chosen[1]
