"""The objective of a training scheme: virtual samples, a residual at them, its pull-back to the particles.

All four schemes of :mod:`symfield.meanfield.schemes` are this one computation. The batch, or the batch moved by a
frame, gives *virtual samples*; the loss has a gradient in the predictions there (for FA averaged over the frame and
moved back); the unit pulls it back to the particles; and EA projects the result.

References:
    Maass & Fontbona 2024, Section 2.3, Propositions 2 and 18, Corollary 5, arXiv 2405.19995v3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield.groups import Representation
from symfield.linalg import Subspace
from symfield.meanfield.losses import Loss
from symfield.symmetrize import Frame, Poses
from symfield.symmetrize.frames import poses
from symfield.typing import Float, Generator, Tensor
from symfield.units import Unit, check_shapes
from symfield.units.unit import aligned

__all__ = ["Objective", "Virtual", "check_targets", "check_weight", "expectation"]


class Virtual(NamedTuple):
    """The samples at which the network is evaluated, and where they came from.

    Attributes:
        x: inputs, shape ``(*r, m·b, d)``, frame elements outermost.
        y: targets moved along, shape ``(*r, m·b, o)``.
        target: the targets of the batch itself, shape ``(*r, b, o)``.
        poses: the frame's poses, or None when the batch was not moved (then m = 1).
    """

    x: Tensor
    y: Tensor
    target: Tensor
    poses: Poses | None


@dataclass(frozen=True)
class Objective:
    """A risk on laws of particles and its Wasserstein gradient D_μF; made by the four functions of this module.

    Attributes:
        unit: σ_*.
        loss: ℓ.
        frame: moves the batch (DA, FA); None leaves it as it is.
        rep_in: ρ.
        rep_out: ρ̂.
        averages: whether predictions are averaged over the frame (FA) or scored one by one (DA).
        subspace: E^G, when particles are restricted to it (EA).
    """

    unit: Unit
    loss: Loss
    frame: Frame | None = None
    rep_in: Representation | None = None
    rep_out: Representation | None = None
    averages: bool = False
    subspace: Subspace | None = None

    def __post_init__(self) -> None:
        missing = [name for name in ("rep_in", "rep_out") if getattr(self, name) is None]
        if (self.frame is not None and missing) or (self.averages and self.frame is None):
            raise ValueError(
                f"expected frame, rep_in and rep_out together, received frame={self.frame!r} and no {missing}; "
                "augmented and averaged build such objectives"
            )

    def virtual(
        self, x: Float[Tensor, "*#r b d"], y: Float[Tensor, "*#r b o"], *, generator: Generator | None = None
    ) -> Virtual:
        """The samples at which the network is evaluated.

        Args:
            x: inputs, shape ``(*r, b, d)``.
            y: targets, shape ``(*r, b, o)``.
            generator: source of randomness, for frames that sample.

        Returns:
            The moved batch (frame elements outermost), or the batch itself.
        """
        if self.frame is None or self.rep_in is None or self.rep_out is None:
            return Virtual(x, y, y, None)
        found = poses(self.frame, x, generator=generator)
        return Virtual(_samples(found.move(self.rep_in, x)), _samples(found.move(self.rep_out, y)), y, found)

    def restrict(self, z: Float[Tensor, "*r n p"]) -> Float[Tensor, "*r n p"]:
        """P_E z for EA, z itself otherwise; the same for gradients and noise.

        Args:
            z: cloud or gradient, shape ``(*r, n, p)``.

        Returns:
            A tensor of the same shape.
        """
        return z if self.subspace is None else self.subspace.project(z)

    def cotangent(
        self, prediction: Float[Tensor, "*r mb o"], virtual: Virtual, weight: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*r mb o"]:
        """The gradient of the batch risk in the predictions at the virtual samples.

        Args:
            prediction: Φ at the virtual samples, shape ``(*r, m·b, o)``.
            virtual: the virtual samples.
            weight: weights of the batch that sum to one, shape ``(*r, b)``; 1/b when absent.

        Returns:
            Covectors, shape ``(*r, m·b, o)``.
        """
        b = virtual.target.shape[-2]
        share = torch.full_like(prediction[..., :b, 0], 1 / b) if weight is None else weight.to(prediction)
        if virtual.poses is None or self.rep_out is None:
            return self.loss.gradient(prediction, virtual.y) * share.unsqueeze(-1)
        found, m = virtual.poses, virtual.poses.g.shape[0]
        weights = (found.w.to(prediction) * share).unsqueeze(-1)
        if self.averages:
            back = found.restore(self.rep_out, _by_pose(prediction, m))
            moved = found.move(self.rep_out, self.loss.gradient(back, virtual.target))
            return _samples(weights * moved)
        return _samples(weights * _by_pose(self.loss.gradient(prediction, virtual.y), m))

    def risk(
        self,
        z: Float[Tensor, "..."],
        x: Float[Tensor, "..."],
        y: Float[Tensor, "..."],
        *,
        weight: Float[Tensor, "..."] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "..."]:
        """The risk of a cloud on a sample.

        Args:
            z: cloud, shape ``(*r, n, p)``.
            x: inputs, shape ``(*r, b, d)``.
            y: targets, shape ``(*r, b, o)``.
            weight: weights of the sample that sum to one; 1/b when absent.
            generator: source of randomness, for frames that sample.

        Returns:
            The risk for every run, shape ``(*r)``.

        Raises:
            ValueError: if shapes do not fit.
        """
        x, y = self._checked(z, x, y, weight)
        virtual = self.virtual(x, y, generator=generator)
        prediction = self.unit.mean(virtual.x, self.restrict(z))
        if virtual.poses is None or self.rep_out is None:
            values = self.loss(*torch.broadcast_tensors(prediction, virtual.y))
        elif self.averages:
            back = virtual.poses.restore(self.rep_out, _by_pose(prediction, virtual.poses.g.shape[0]))
            values = self.loss(*torch.broadcast_tensors(back, virtual.target))
        else:
            m = virtual.poses.g.shape[0]
            scores = self.loss(*torch.broadcast_tensors(prediction, virtual.y)).unflatten(-1, (m, -1)).movedim(-2, 0)
            values = (virtual.poses.w.to(scores) * scores).sum(0)
        return expectation(values, weight)

    def gradient(
        self,
        z: Float[Tensor, "..."],
        x: Float[Tensor, "..."],
        y: Float[Tensor, "..."],
        *,
        weight: Float[Tensor, "..."] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "..."]:
        """The particle gradient D_μF(μ, z_i): n times the gradient of the risk in z_i.

        Args:
            z: cloud, shape ``(*r, n, p)``.
            x: inputs, shape ``(*r, b, d)``.
            y: targets, shape ``(*r, b, o)``.
            weight: weights of the sample that sum to one; 1/b when absent.
            generator: source of randomness, for frames that sample.

        Returns:
            Gradients, shape ``(*r, n, p)``.

        Raises:
            ValueError: if shapes do not fit.

        References:
            Maass & Fontbona 2024, Corollary 5 and Proposition 18, arXiv 2405.19995v3.
        """
        x, y = self._checked(z, x, y, weight)
        cloud = self.restrict(z)
        virtual = self.virtual(x, y, generator=generator)
        prediction = self.unit.mean(virtual.x, cloud)
        runs = torch.broadcast_shapes(prediction.shape[:-2], virtual.y.shape[:-2])
        prediction, moved, target = (
            part.expand(*runs, *part.shape[-2:]) for part in (prediction, virtual.y, virtual.target)
        )
        virtual = virtual._replace(y=moved, target=target)
        return self.restrict(self.unit.pullback(virtual.x, cloud, self.cotangent(prediction, virtual, weight)))

    def _checked(self, z: Tensor, x: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sample, with as many leading axes as the cloud."""
        check_shapes(self.unit, x, z)
        check_targets(self.unit, x, y)
        check_weight(weight, x)
        x, y = aligned(z, x, y)
        return x, y


def check_targets(unit: Unit, x: Tensor, y: Tensor) -> None:
    """Refuse targets that do not fit the inputs and the unit.

    Args:
        unit: the unit.
        x: inputs, shape ``(..., b, d)``.
        y: targets, expected ``(..., b, o)``.

    Raises:
        ValueError: with the expected and the received shape.
    """
    if x.shape[-2] == 0:
        raise ValueError(f"expected at least one sample, received inputs of shape {tuple(x.shape)}")
    if y.ndim < 2 or y.shape[-2:] != (x.shape[-2], unit.out_dim):
        raise ValueError(f"expected targets of shape (..., {x.shape[-2]}, {unit.out_dim}), received {tuple(y.shape)}")


def check_weight(weight: Tensor | None, x: Tensor) -> None:
    """Refuse weights that do not fit the inputs.

    Args:
        weight: weights, expected ``(..., b)``, or None.
        x: inputs, shape ``(..., b, d)``.

    Raises:
        ValueError: with the expected and the received shape.
    """
    if weight is not None and weight.shape[-1:] != x.shape[-2:-1]:
        raise ValueError(f"expected weights of shape (..., {x.shape[-2]}), received {tuple(weight.shape)}")


def expectation(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over a sample, or the sum with given weights.

    Args:
        values: shape ``(*r, b)``.
        weight: weights that sum to one, shape ``(..., b)``; 1/b when absent.

    Returns:
        Means, shape ``(*r)``.
    """
    return values.mean(-1) if weight is None else (weight.to(values) * values).sum(-1)


def _samples(moved: Tensor) -> Tensor:
    """(m, *r, b, k) -> (*r, m·b, k)."""
    return moved.movedim(0, -3).flatten(-3, -2)


def _by_pose(samples: Tensor, m: int) -> Tensor:
    """(*r, m·b, k) -> (m, *r, b, k)."""
    return samples.unflatten(-2, (m, -1)).movedim(-3, 0)
