r"""Rules: how the gradients of neurons become new weights.

G_j is the gradient of neuron j without its output weight a_j and the factor 1/p; the descent direction is a_j G_j / p.

- :func:`giant`: w_j + η a_j G_j / mean_i |S^{1/2} G_i|. The step has a fixed size in function space, whatever the
  covariance and n: typical pre-activations change by η. This normalisation is ours.
- :func:`plain`: w_j + η a_j G_j, the rule of Ba et al. 2022 and Dandi et al. 2023, with η = O(1) for unit-variance
  pre-activations and a = ±1 (and larger for a "giant" step).
- :func:`spherical`: gradients are projected on the tangent space of the unit sphere, and rows brought back to unit
  length: the spherical dynamics of Mousavi-Hosseini et al. 2023, as a step of finite size.
- :func:`batch_normalised`: the same on the ellipsoid wᵀ S w = 1, which is how a neuron σ(⟨w, x⟩/|S^{1/2} w|) moves: the
  normalisation by the covariance that repairs the spherical dynamics there.

References:
    Ba, Erdogdu, Suzuki, Wang, Wu & Yang 2022, arXiv 2205.01445; Dandi, Krzakala, Loureiro, Pesce & Stephan 2023, arXiv
    2305.18270; Mousavi-Hosseini, Wu, Suzuki & Erdogdu 2023, arXiv 2309.03843.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from symfield.onestep.covariances import Covariance
from symfield.onestep.students import Students
from symfield.typing import Tensor

__all__ = ["Rule", "batch_normalised", "giant", "plain", "spherical"]

Rule: TypeAlias = Callable[[Students, Tensor, Covariance], Tensor]
"""(students, gradients ``(*r, p, d)``, covariance) ↦ new weights ``(*r, p, d)``."""


def giant(eta: float) -> Rule:
    """A step of fixed size in function space, w_j + η a_j G_j / mean_i |S^{1/2} G_i| over neurons that are not dead.

    Args:
        eta: η, the mean change of a pre-activation's standard deviation.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = giant(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        return students.weights + eta * students.outputs.unsqueeze(-1) * _unit_size(gradient, covariance)

    return rule


def plain(eta: float) -> Rule:
    """w_j + η a_j G_j.

    Args:
        eta: η, which stands for the learning rate over p.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = plain(1.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, _covariance: Covariance) -> Tensor:
        return students.weights + eta * students.outputs.unsqueeze(-1) * gradient

    return rule


def spherical(eta: float) -> Rule:
    """A step along the unit sphere: tangent part of the gradient, size η as in :func:`giant`, back to unit length.

    Args:
        eta: η.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = spherical(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        w = students.weights / students.weights.norm(dim=-1, keepdim=True)
        tangent = gradient - (gradient * w).sum(-1, keepdim=True) * w
        moved = w + eta * students.outputs.unsqueeze(-1) * _unit_size(tangent, covariance)
        return moved / moved.norm(dim=-1, keepdim=True)

    return rule


def batch_normalised(eta: float) -> Rule:
    """A step along the ellipsoid wᵀ S w = 1: the gradient of σ(⟨w, x⟩ / |S^{1/2} w|) in w there, size η, and back.

    Give it students that lie on the ellipsoid (gradients are taken at their own weights):
    ``students.with_weights(w / |S^{1/2} w|)``.

    Args:
        eta: η.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = batch_normalised(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        w = students.weights / _size(students.weights, covariance)
        tangent = gradient - (gradient * w).sum(-1, keepdim=True) * covariance.power(w)
        moved = w + eta * students.outputs.unsqueeze(-1) * _unit_size(tangent, covariance)
        return moved / _size(moved, covariance)

    return rule


def _size(v: Tensor, covariance: Covariance) -> Tensor:
    """|S^{1/2} v|, ``(*r, p, 1)``."""
    return (v * covariance.power(v)).sum(-1, keepdim=True).clamp_min(0).sqrt()


def _unit_size(gradient: Tensor, covariance: Covariance) -> Tensor:
    """Gradients over their mean size |S^{1/2} G|, the mean over neurons that are not dead; zero where all are."""
    size = _size(gradient, covariance)
    alive = (size > 0).sum(-2, keepdim=True).clamp_min(1)
    mean = size.sum(-2, keepdim=True) / alive
    return gradient / torch.where(mean > 0, mean, torch.ones_like(mean))


def _require_finite(eta: float) -> None:
    if not math.isfinite(eta):
        raise ValueError(f"expected a finite step size eta, received {eta}")
