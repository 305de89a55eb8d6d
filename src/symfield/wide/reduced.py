r"""The flow for targets of a few coordinates: neurons as points (a, b_H, ρ), whatever the function of x_H.

Let H = R^{d_H} be the first coordinates of R^d. If the target and the law of the inputs are invariant under the
rotations of H^⊥ (f*(x) = f_H(x_H), for example), and the law of the neurons is at the start, then it stays so. The flow
is closed in the output weight a, the part b_H of b in H and the length ρ = |b_⊥|: with b̃ = (b_H, ρ),

    a' = g(b̃),    b̃' = a ∇g(b̃),    g(b̃) = g*(b̃) − (1/m) Σ_j a_j k̄(b̃, b̃_j),
    k̄(b̃, b̃') = E_s k((b_H, ρ, 0), (b'_H, ρ's, ρ'√(1−s²))),

with s a coordinate of a uniform point of the unit sphere of H^⊥: every neuron stands for all its rotations, and the
average of the arc-cosine kernel k of R^{d_H+2} over nodes of s is the only quadrature. The target's part g* is that of
one rotated neuron, (b_H, ρe) for any unit vector e of H^⊥. A network of m reduced neurons has no error from the d − d_H
dimensions that it has averaged out; a network of m neurons in R^d has one of order 1/m.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771 (the
    reduction). The form of k̄ is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from symfield import random
from symfield.ode import Method, solve
from symfield.typing import Float, Tensor
from symfield.wide.flow import require_method
from symfield.wide.inputs import Inputs
from symfield.wide.kernels import arc_cosine_force
from symfield.wide.neurons import Neurons, over_runs
from symfield.wide.reduced_neurons import Reduced, require_reduced
from symfield.wide.rotations import check_subspace, lifted_nodes
from symfield.wide.targets import Target, require_target

__all__ = [
    "ReducedTrajectory",
    "low_dimensional_flow",
    "reduced_risk",
    "reduced_velocity",
]

_PROBES = 64
_INVARIANT = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ReducedTrajectory:
    """Reduced neurons along the flow.

    Attributes:
        times: t_k, float64 ``(t,)``.
        neurons: at these times, with a leading axis of times.
        evaluations: how often the velocity was computed.
    """

    times: Tensor
    neurons: Reduced
    evaluations: int
    _between: Callable[[float], Reduced] = field(repr=False)

    def __repr__(self) -> str:
        *runs, m, dim_h = self.neurons.b.shape[1:]
        return (
            f"ReducedTrajectory({len(self.times)} states of {m} neurons in R^{dim_h} × R₊"
            f"{f', runs {tuple(runs)}' if runs else ''}, up to t={self.times[-1]:g}, {self.evaluations} evaluations)"
        )

    def at(self, t: float) -> Reduced:
        """The neurons at any time up to the last one.

        Args:
            t: a time in [0, t_last].

        Returns:
            Reduced neurons.

        Raises:
            ValueError: if the flow was computed without ``dense=True``, or t lies outside.
        """
        return self._between(t)


def reduced_risk(neurons: Reduced, target: Target, inputs: Inputs, *, order: int | None = None) -> Float[Tensor, "*r"]:
    """The population risk ½E(f − f*)² of the averaged predictor.

    Args:
        neurons: reduced neurons; the leading axis of a trajectory is one more run.
        target: f* on R^d, invariant under rotations of H^⊥.
        inputs: law of X, invariant as well.
        order: nodes for the average of the kernel; chosen by the dimension of H^⊥ when absent.

    Returns:
        The risk of every run, ``(*r)``.

    Raises:
        ValueError: if shapes do not fit, or target or inputs are not invariant.

    Example:
        >>> from symfield.wide import Gaussian, Radial, sphere_reduced
        >>> round(reduced_risk(sphere_reduced(40, 8, 3), Radial(8, 3), Gaussian(8)).item(), 9)  # d_H/2
        1.5
    """
    problem = _Problem.of(neurons, target, inputs, order)
    energy = target.energy(inputs)

    def one(a: Tensor, packed: Tensor) -> Tensor:
        wanted, own = problem.forces(Reduced(a, packed[..., :-1], packed[..., -1]))
        return 0.5 * energy + ((0.5 * own[0] - wanted[0]) * a).mean(-1)

    return over_runs(one, Neurons(neurons.a, torch.cat([neurons.b, neurons.rho.unsqueeze(-1)], dim=-1)))


def reduced_velocity(neurons: Reduced, target: Target, inputs: Inputs, *, order: int | None = None) -> Reduced:
    """(a', b_H', ρ') = (g, a ∇g): the velocity in R^d of a cloud that is invariant under rotations of H^⊥.

    Args:
        neurons: reduced neurons.
        target: f* on R^d, invariant under rotations of H^⊥.
        inputs: law of X, invariant as well.
        order: nodes for the average of the kernel; chosen by the dimension of H^⊥ when absent.

    Returns:
        Velocities of the shapes of the neurons; a neuron with ⟨b, X⟩ = 0 does not move.

    Raises:
        ValueError: if shapes do not fit, or target or inputs are not invariant.

    Example:
        >>> from symfield.wide import Gaussian, Radial, sphere_reduced
        >>> moving = reduced_velocity(sphere_reduced(40, 8, 3), Radial(8, 3), Gaussian(8))
        >>> bool((moving.a > 0).all())  # at first every output weight grows
        True
    """
    return _Problem.of(neurons, target, inputs, order).velocity(neurons)


def low_dimensional_flow(
    neurons: Reduced,
    target: Target,
    inputs: Inputs,
    *,
    times: Sequence[float] | Float[Tensor, "..."],
    method: Method | None = None,
    dense: bool = False,
    order: int | None = None,
) -> ReducedTrajectory:
    """Follow reduced neurons (a, b_H, ρ): the flow of clouds in R^d that are invariant under rotations of H^⊥.

    Balanced neurons, |a| = |b|, and those with |b| > |a| never reach b = 0. One with |a| > |b| may, in finite time, and
    the flow has a corner there, at which an adaptive method takes ever smaller steps: give it a fixed step instead.

    Args:
        neurons: reduced neurons at t = 0, for example :func:`~symfield.wide.sphere_reduced`.
        target: f* on R^d, invariant under rotations of H^⊥: a ReLU teacher with weights in H, ``Radial``, or any
            function of x_H as a :class:`~symfield.wide.subspace_target.SubspaceTarget`.
        inputs: law of X on R^d, invariant as well: isotropic, or any covariance on H and a multiple of I on H^⊥.
        times: increasing times ≥ 0.
        method: how to integrate in time; :class:`~symfield.ode.Adaptive` when absent.
        dense: whether the trajectory can be read between its times.
        order: nodes for the average of the kernel; chosen by the dimension of H^⊥ when absent.

    Returns:
        The neurons at the times.

    Raises:
        ValueError: if shapes do not fit, d_H > d, target or inputs are not invariant, times do not increase, or the
            target is sampled and no method is given.

    Example:
        >>> from symfield.wide import Gaussian, ReLUTeacher, sphere_reduced
        >>> target = ReLUTeacher.absolute_values(torch.ones(2), torch.eye(2, 20))  # |x_1| + |x_2|
        >>> path = low_dimensional_flow(sphere_reduced(80, 20, 2), target, Gaussian(20), times=[0.0, 2.0])
        >>> [round(value, 1) for value in reduced_risk(path.neurons, target, Gaussian(20)).tolist()]
        [1.6, 0.4]
    """
    problem = _Problem.of(neurons, target, inputs, order)
    require_method(target, method)

    def unpack(state: Tensor) -> Reduced:
        return Reduced(state[..., 0], state[..., 1:-1], state[..., -1])

    def result(state: Tensor) -> Reduced:
        a, b, rho = unpack(state)
        return Reduced(a, b, rho.abs())

    def slope(_t: float, state: Tensor) -> Tensor:
        return _pack(problem.velocity(unpack(state)))

    solution = solve(slope, _pack(neurons), times, method=method, dense=dense)
    return ReducedTrajectory(
        solution.times, result(solution.states), solution.evaluations, lambda t: result(solution.at(t))
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """Target, inputs and the nodes of the average."""

    target: Target
    inputs: Inputs
    subspace_dim: int
    directions: Tensor
    weight: Tensor

    @classmethod
    def of(cls, neurons: Reduced, target: Target, inputs: Inputs, order: int | None) -> _Problem:
        _, b, rho = require_reduced(neurons)
        dim, dim_h = inputs.dim, b.shape[-1]
        check_subspace(dim, dim_h)
        require_target(target, inputs)
        if dim == dim_h and bool((rho != 0).any()):
            raise ValueError(f"expected rho = 0 where H is all of R^{dim}, received lengths off H")
        _require_invariant(target, inputs, dim_h)
        directions, weight = lifted_nodes(dim - dim_h, order)
        return cls(target, inputs, dim_h, directions.to(b), weight.to(b))

    def velocity(self, neurons: Reduced) -> Reduced:
        (wanted, wanted_gradient), (own, own_gradient) = self.forces(neurons)
        gradient = neurons.a.unsqueeze(-1) * (wanted_gradient - own_gradient)
        inside, across = gradient[..., :-1], gradient[..., -1]
        alive = (self.inputs.whiten(self._embedded(neurons.b, neurons.rho)) != 0).any(dim=-1)
        across = torch.where(alive & (neurons.rho != 0), across, 0.0)
        return Reduced(wanted - own, torch.where(alive.unsqueeze(-1), inside, 0.0), across)

    def forces(self, neurons: Reduced) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Values and gradients in (b_H, ρ) of the target's and of the network's own part of g."""
        a = neurons.a
        full = self._embedded(neurons.b, neurons.rho)
        wanted, gradient = self.target.force(full, self.inputs)
        white = self._reduced(self.inputs.whiten(full))
        inside, across = white[..., :-1], white[..., -1:]
        others = torch.cat(
            [
                inside.unsqueeze(-2).expand(*a.shape, len(self.weight), self.subspace_dim),
                across.unsqueeze(-2) * self.directions,
            ],
            dim=-1,
        ).flatten(-3, -2)
        here = torch.cat([white, white.new_zeros(*a.shape, others.shape[-1] - white.shape[-1])], dim=-1)
        weights = ((a / a.shape[-1]).unsqueeze(-1) * self.weight).flatten(-2)
        own, pulled = arc_cosine_force(here, others, weights)
        back = self.inputs.whiten(self._embedded(pulled[..., : self.subspace_dim], pulled[..., self.subspace_dim]))
        return (wanted, self._reduced(gradient)), (own, self._reduced(back))

    def _embedded(self, b: Tensor, rho: Tensor) -> Tensor:
        """(b_H, ρ) as the vector (b_H, ρ, 0, ...) of R^d."""
        dim = self.inputs.dim
        zeros = b.new_zeros(*rho.shape, max(dim - self.subspace_dim - 1, 0))
        return torch.cat([b, rho.unsqueeze(-1), zeros], dim=-1)[..., :dim]

    def _reduced(self, w: Tensor) -> Tensor:
        """The first d_H + 1 coordinates; zero stands for one that does not exist."""
        if self.inputs.dim == self.subspace_dim:
            return torch.cat([w, torch.zeros_like(w[..., :1])], dim=-1)
        return w[..., : self.subspace_dim + 1]


def _pack(neurons: Reduced) -> Tensor:
    return torch.cat([neurons.a.unsqueeze(-1), neurons.b, neurons.rho.unsqueeze(-1)], dim=-1)


def _require_invariant(target: Target, inputs: Inputs, subspace_dim: int) -> None:
    """Refuse targets and inputs that a generic rotation of H^⊥ changes."""
    off = inputs.dim - subspace_dim
    if off == 0:
        return
    generator, like = random.generator(0), torch.zeros((), dtype=torch.float64)
    q, _ = torch.linalg.qr(random.normal((off, off), generator=generator, like=like))
    turn = torch.eye(inputs.dim, dtype=torch.float64)
    turn[subspace_dim:, subspace_dim:] = q if off > 1 else -1.0
    if not inputs.is_invariant(turn):
        raise ValueError(
            f"expected inputs that do not change under rotations of the last {off} coordinates, received {inputs!r}"
        )
    x = inputs.sample((_PROBES,), generator=generator, like=like)
    with torch.no_grad():
        values, turned = target(x).double(), target(x @ turn.mT).double()
    change, scale = float((values - turned).abs().max()), float(values.abs().max())
    if not (math.isfinite(change) and change <= _INVARIANT * scale):
        raise ValueError(
            f"expected a target of the first {subspace_dim} coordinates, or one that rotations of the last {off} do "
            f"not change, received {target!r}, which changes by {change:.3g} where |f*| is up to {scale:.3g}; "
            "choose a larger H, or use wide_flow"
        )
