"""How far an ensemble is from being equivariant, and from a target, in L² of a sample.

The four risks themselves are ``objective.risk(z, x, y)`` for the objectives of :mod:`symfield.meanfield`. On a sample
closed under the group they obey R^DA − R^FA = E‖Φ − Q_GΦ‖² (squared loss), the quantity of :func:`equivariance_gap`.

References:
    Maass & Fontbona 2024, Lemma 2 and Appendix F, arXiv 2405.19995v3.
"""

from __future__ import annotations

from symfield.groups import Representation
from symfield.meanfield.objective import check_targets, check_weight, expectation
from symfield.symmetrize import Frame
from symfield.symmetrize.frames import poses
from symfield.typing import Float, Generator, Map, Tensor
from symfield.units import Unit, check_shapes
from symfield.units.unit import aligned

__all__ = ["averaged_ensemble", "equivariance_gap", "squared_distance"]


def averaged_ensemble(
    unit: Unit,
    x: Float[Tensor, "*#r b d"],
    z: Float[Tensor, "*#r n p"],
    *,
    frame: Frame,
    rep_in: Representation,
    rep_out: Representation,
    generator: Generator | None = None,
) -> Float[Tensor, "..."]:
    """Q_GΦ(x) = Σ_k w_k ρ̂(g_k) Φ(ρ(g_k)^{-1} x), for many runs at once.

    Args:
        unit: σ_*.
        x: inputs, shape ``(*r, b, d)``.
        z: cloud, shape ``(*r, n, p)``.
        frame: what to average over, for example ``uniform(group)``.
        rep_in: ρ.
        rep_out: ρ̂.
        generator: source of randomness, for frames that sample.

    Returns:
        Averaged predictions, shape ``(*r, b, o)``.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic, Defining
        >>> from symfield.symmetrize import uniform
        >>> from symfield.units import PointwiseUnit, identity
        >>> swap, unit = Defining(Cyclic(2)), PointwiseUnit(identity, 2, 2)
        >>> x, z = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])  # x ↦ (x₁, 0)
        >>> averaged_ensemble(unit, x, z, frame=uniform(Cyclic(2)), rep_in=swap, rep_out=swap).tolist()
        [[0.5, 1.0]]

    References:
        Maass & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
    """
    check_shapes(unit, x, z)
    (x,) = aligned(z, x)
    found = poses(frame, x, generator=generator)
    moved = found.move(rep_in, x)
    m = moved.shape[0]
    values = unit.mean(moved.movedim(0, -3).flatten(-3, -2), z)
    return found.restore(rep_out, values.unflatten(-2, (m, -1)).movedim(-3, 0))


def equivariance_gap(
    unit: Unit,
    x: Float[Tensor, "*#r b d"],
    z: Float[Tensor, "*#r n p"],
    *,
    frame: Frame,
    rep_in: Representation,
    rep_out: Representation,
    weight: Float[Tensor, " b"] | None = None,
    generator: Generator | None = None,
) -> Float[Tensor, "..."]:
    """E‖Φ(X) − Q_GΦ(X)‖² on a sample: zero exactly for equivariant networks.

    Args:
        unit: σ_*.
        x: inputs, shape ``(*r, b, d)``.
        z: cloud, shape ``(*r, n, p)``.
        frame: what to average over.
        rep_in: ρ.
        rep_out: ρ̂.
        weight: weights of the sample that sum to one, shape ``(b,)``; 1/b when absent.
        generator: source of randomness, for frames that sample.

    Returns:
        The gap for every run, shape ``(*r)``.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic, Defining
        >>> from symfield.symmetrize import uniform
        >>> from symfield.units import PointwiseUnit, identity
        >>> swap, x = Defining(Cyclic(2)), torch.eye(2)
        >>> unit = PointwiseUnit(identity, 2, 2)
        >>> z = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
        >>> equivariance_gap(unit, x, z, frame=uniform(Cyclic(2)), rep_in=swap, rep_out=swap).item()
        1.0
    """
    check_weight(weight, x)
    mean = averaged_ensemble(unit, x, z, frame=frame, rep_in=rep_in, rep_out=rep_out, generator=generator)
    return expectation((unit.mean(x, z) - mean).square().sum(-1), weight)


def squared_distance(
    unit: Unit,
    x: Float[Tensor, "b d"],
    z: Float[Tensor, "*r n p"],
    target: Map,
    *,
    weight: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, "*r"]:
    """E‖Φ(X) − f(X)‖² on a sample.

    Args:
        unit: σ_*.
        x: inputs, shape ``(b, d)``.
        z: cloud, shape ``(*r, n, p)``.
        target: f, a map ``(b, d) -> (b, o)``.
        weight: weights of the sample that sum to one, shape ``(b,)``; 1/b when absent.

    Returns:
        The squared distance for every run, shape ``(*r)``.

    Raises:
        ValueError: if shapes do not fit; the target must give ``(b, o)``, not ``(b,)``.

    Example:
        >>> import torch
        >>> from symfield.units import PointwiseUnit, identity
        >>> squared_distance(PointwiseUnit(identity, 1, 1), torch.ones(4, 1), torch.zeros(3, 1), lambda x: 2 * x).item()
        4.0
    """
    check_shapes(unit, x, z)
    check_weight(weight, x)
    y = target(x)
    check_targets(unit, x, y)
    return expectation((unit.mean(x, z) - y).square().sum(-1), weight)
