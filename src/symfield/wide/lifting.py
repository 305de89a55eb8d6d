r"""From neurons in R^d to reduced neurons, and back.

Reducing forgets where on the unit sphere of H^⊥ (for angles: also on that of H) a neuron points; lifting draws it
anew, uniformly. The law of a lifted cloud is exactly invariant under rotations, and the mean of its predictor over
draws is the reduced predictor; one draw with k copies of each neuron differs from it by O(1/√(mk)).

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from __future__ import annotations

import torch

from symfield.typing import Generator
from symfield.wide.neurons import Neurons, require_neurons
from symfield.wide.radial import AngleCloud
from symfield.wide.reduced_neurons import Reduced, require_reduced
from symfield.wide.rotations import Directions, check_subspace, independent_directions

__all__ = ["lift", "lift_angles", "reduce", "to_angles"]


def reduce(neurons: Neurons, subspace_dim: int) -> Reduced:
    """Neurons of R^d up to rotations of H^⊥, with H the first coordinates.

    Args:
        neurons: a cloud in R^d.
        subspace_dim: d_H.

    Returns:
        Reduced neurons.

    Raises:
        ValueError: if the neurons are not finite or misshapen, or unless 1 <= d_H <= d.

    Example:
        >>> reduce(Neurons(torch.ones(1), torch.tensor([[1.0, 3.0, 4.0]])), 1)
        Reduced(a=tensor([1.]), b=tensor([[1.]]), rho=tensor([5.]))
    """
    require_neurons(neurons)
    a, b = neurons
    check_subspace(b.shape[-1], subspace_dim)
    return Reduced(a, b[..., :subspace_dim], b[..., subspace_dim:].norm(dim=-1))


def to_angles(neurons: Reduced, *, imbalance: float = 1e-2) -> AngleCloud:
    """Balanced reduced neurons by mass c = |a||b|/m, angle with H and sign of a.

    Args:
        neurons: reduced neurons.
        imbalance: accepted ||a|² − |b|²|, relative to the run's mean of |a|² + |b|²; infinity to measure any cloud.

    Returns:
        The cloud of angles; a neuron with b = 0 gets mass 0 and angle 0.

    Raises:
        ValueError: if neurons are misshapen, not finite, or not balanced: their masses and angles do not determine how
            they move.

    Example:
        >>> to_angles(Reduced(torch.tensor([-2.0]), torch.tensor([[0.0]]), torch.tensor([2.0]))).angle
        tensor([1.5708])
    """
    a, b, rho = require_reduced(neurons)
    along = b.norm(dim=-1)
    square = along.square() + rho.square()
    gap = float(((a.square() - square).abs() / (a.square() + square).mean(-1, keepdim=True).clamp_min(1e-300)).max())
    if gap > imbalance:
        raise ValueError(
            f"expected balanced neurons, |a| = |b|, received some off by {gap:.3g}; use low_dimensional_flow for their "
            "flow, or imbalance=math.inf to measure masses and angles only"
        )
    mass = a.abs() * square.sqrt() / a.shape[-1]
    return AngleCloud(mass, torch.atan2(rho, along), torch.where(a < 0, -1.0, 1.0).to(mass))


def lift(
    neurons: Reduced,
    dim: int,
    *,
    generator: Generator,
    copies: int = 1,
    directions: Directions = independent_directions,
) -> Neurons:
    """Neurons (a, (b_H, ρω)) of R^d with directions ω of H^⊥ that are uniform, each reduced neuron several times.

    Args:
        neurons: reduced neurons ``(*r, m)``.
        dim: d.
        generator: source of randomness.
        copies: how many directions for each reduced neuron.
        directions: how they are drawn: :func:`~symfield.wide.independent_directions`,
            :func:`~symfield.wide.antipodal_directions` or :func:`~symfield.wide.frame_directions`.

    Returns:
        Neurons ``(*r, m·copies)``, copies side by side.

    Raises:
        ValueError: unless 1 <= d_H <= d, or if the neurons are misshapen or not finite, or there is no copy, or H = R^d
            and some ρ is not zero.

    Example:
        >>> from symfield import random
        >>> from symfield.wide import sphere_reduced
        >>> lifted = lift(sphere_reduced(8, 30, 5), 30, generator=random.generator(0), copies=2)
        >>> lifted.b.shape, round(lifted.b.norm(dim=-1).max().item(), 12)
        (torch.Size([16, 30]), 1.0)
    """
    a, b, rho = require_reduced(neurons)
    dim_h = b.shape[-1]
    check_subspace(dim, dim_h)
    _require_copies(copies)
    if dim == dim_h and bool((rho != 0).any()):
        raise ValueError(f"expected rho = 0 where H is all of R^{dim}, received lengths off H; raise dim")
    across = rho[..., None, None] * directions(a.shape, copies, dim - dim_h, generator, b)
    along = b.unsqueeze(-2).expand(*a.shape, copies, dim_h)
    return Neurons(a.repeat_interleave(copies, dim=-1), torch.cat([along, across], dim=-1).flatten(-3, -2))


def lift_angles(
    cloud: AngleCloud,
    dim: int,
    subspace_dim: int,
    *,
    generator: Generator,
    copies: int = 1,
    directions: Directions = independent_directions,
) -> Neurons:
    """Balanced neurons of R^d at given angles with H, with uniform directions in H and in H^⊥.

    Args:
        cloud: masses at angles, ``(*r, n)``.
        dim: d.
        subspace_dim: d_H.
        generator: source of randomness.
        copies: how many neurons for each angle.
        directions: how directions are drawn, as in :func:`lift`.

    Returns:
        Neurons ``(*r, n·copies)`` with |a| = |b| and |a||b|/(n·copies) = c/copies; copies side by side.

    Raises:
        ValueError: unless 1 <= d_H <= d, or if there is no copy, or H = R^d and an angle is not zero.

    Example:
        >>> from symfield import random
        >>> from symfield.wide import sphere_angles
        >>> cloud = sphere_angles(20, 30, 5)
        >>> back = to_angles(reduce(lift_angles(cloud, 30, 5, generator=random.generator(0)), 5))
        >>> torch.allclose(back.angle, cloud.angle), torch.allclose(back.mass, cloud.mass)
        (True, True)
    """
    check_subspace(dim, subspace_dim)
    _require_copies(copies)
    if dim == subspace_dim and bool((cloud.angle != 0).any()):
        raise ValueError(f"expected angles 0 where H is all of R^{dim}, received others; raise dim")
    length = (cloud.mass * cloud.mass.shape[-1]).sqrt()
    shape = length.shape
    inside = directions(shape, copies, subspace_dim, generator, length)
    outside = directions(shape, copies, dim - subspace_dim, generator, length)
    cosine, sine = cloud.angle.cos()[..., None, None], cloud.angle.sin()[..., None, None]
    b = length[..., None, None] * torch.cat([cosine * inside, sine * outside], dim=-1)
    return Neurons((cloud.sign * length).repeat_interleave(copies, dim=-1), b.flatten(-3, -2))


def _require_copies(copies: int) -> None:
    if copies < 1:
        raise ValueError(f"expected copies >= 1, received {copies}")
