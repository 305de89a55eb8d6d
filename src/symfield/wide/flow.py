r"""The exact population gradient flow of a two-layer ReLU network of m neurons.

With f(x) = (1/m) Σ_j a_j relu⟨b_j, x⟩, the risk F = ½ E (f − f*)² and g(b) = E (f* − f)(X) relu⟨b, X⟩, every neuron
moves by m times the negative gradient,

    a' = g(b),   b' = a ∇g(b),   dF/dt = −(1/m) Σ_j (a_j'² + |b_j'|²),

so that one time unit does not depend on m, and m → ∞ is the Wasserstein gradient flow. All expectations are closed
forms of pairs of neurons; the time step is the only approximation.

- |a_j|² − |b_j|² is constant, because g is 1-homogeneous. :func:`sphere_neurons` are *balanced*, |a| = |b|, and then
  the sign of a_j never changes.
- A *dead* neuron, ⟨b_j, X⟩ = 0 (b_j = 0, unless S is singular), contributes nothing, and g has no gradient there; it
  stays where it is.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
    Chizat & Bach 2018, *On the global convergence of gradient descent for over-parameterized models using optimal
    transport*, arXiv 1805.09545.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from symfield.ode import Method, Solution, solve
from symfield.typing import Bool, Float, Tensor
from symfield.wide.inputs import Inputs
from symfield.wide.kernels import absolute_kernel, arc_cosine_force
from symfield.wide.neurons import Neurons, over_runs, require_neurons, unpack
from symfield.wide.targets import Target, require_target

__all__ = ["WideTrajectory", "even_norm", "require_method", "require_problem", "risk", "velocity", "wide_flow"]


def risk(neurons: Neurons, target: Target, inputs: Inputs) -> Float[Tensor, "*r"]:
    """F = ½ E (f(X) − f*(X))².

    Args:
        neurons: a cloud; the leading axis of a trajectory is one more run.
        target: f*.
        inputs: law of X.

    Returns:
        The risk of every run, ``(*r)``, with round-off of about 1e-16 E f*².

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> from symfield.wide import Gaussian, ReLUTeacher
        >>> one = Neurons(torch.tensor([1.0]), torch.tensor([[1.0, 0.0]]))
        >>> risk(one, ReLUTeacher(torch.ones(1), torch.tensor([[0.0, 1.0]])), Gaussian(2)) * 2 * torch.pi
        tensor(2.1416)
    """
    require_problem(neurons, target, inputs)
    energy = target.energy(inputs)

    def one(a: Tensor, b: Tensor) -> Tensor:
        own, _ = arc_cosine_force(b, b, a, inputs)
        return 0.5 * energy + ((0.5 * own / a.shape[-1] - target.correlation(b, inputs)) * a).mean(-1)

    return over_runs(one, neurons)


def velocity(neurons: Neurons, target: Target, inputs: Inputs) -> Neurons:
    """(a', b') = (g(b), a ∇g(b)): m times the negative gradient of the risk; zero for dead neurons.

    Args:
        neurons: a cloud.
        target: f*.
        inputs: law of X.

    Returns:
        Velocities of the shapes of the neurons.

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> from symfield.wide import Gaussian, ReLUTeacher
        >>> one = Neurons(torch.tensor([1.0]), torch.tensor([[1.0, 0.0]]))
        >>> velocity(one, ReLUTeacher(torch.ones(1), torch.tensor([[3.0, 0.0]])), Gaussian(2))
        Neurons(a=tensor([1.]), b=tensor([[1., 0.]]))
    """
    require_problem(neurons, target, inputs)
    return _velocity(neurons, target, inputs)


def even_norm(neurons: Neurons, inputs: Inputs) -> Float[Tensor, "*r"]:
    """|f_even| in L², the part of f that is not linear: f_even(x) = (1/2m) Σ_j a_j |⟨b_j, x⟩|.

    Args:
        neurons: a cloud.
        inputs: law of X.

    Returns:
        √E f_even(X)², ``(*r)``; exactly cancelling pairs leave about 1e-8 |f|, the root of round-off.

    Raises:
        ValueError: if shapes do not fit or something is not finite.

    Example:
        >>> from symfield.wide import Gaussian
        >>> one = Neurons(torch.tensor([2.0]), torch.tensor([[1.0, 0.0]]))
        >>> even_norm(one, Gaussian(2))
        tensor(1.)
    """
    require_neurons(neurons, inputs)

    def one(a: Tensor, b: Tensor) -> Tensor:
        own = (absolute_kernel(b, b, inputs) @ a.unsqueeze(-1)).squeeze(-1)
        return (own * a).sum(-1).clamp_min(0).sqrt() / (2 * a.shape[-1])

    return over_runs(one, neurons)


@dataclass(frozen=True, eq=False, repr=False)
class WideTrajectory:
    """Neurons along the flow.

    Attributes:
        times: t_k, float64 ``(t,)``.
        neurons: at these times, ``(t, *r, m)`` and ``(t, *r, m, d)``; every function of neurons takes them as runs.
        evaluations: how often the velocity was computed.
        dead: neurons with ⟨b, X⟩ = 0, which stayed where they were, ``(*r, m)``.
    """

    times: Tensor
    neurons: Neurons
    evaluations: int
    dead: Bool[Tensor, "..."]
    _between: Callable[[float], Neurons] = field(repr=False)

    def __repr__(self) -> str:
        *runs, m, dim = self.neurons.b.shape[1:]
        shape = f"{m} neurons in R^{dim}" + (f", runs {tuple(runs)}" if runs else "")
        dead = f", {int(self.dead.sum())} dead" if bool(self.dead.any()) else ""
        return (
            f"WideTrajectory({len(self.times)} states of {shape}{dead}, up to t={self.times[-1]:g}, "
            f"{self.evaluations} evaluations)"
        )

    def at(self, t: float) -> Neurons:
        """The neurons at any time up to the last one, by the method's dense output.

        Args:
            t: a time in [0, t_last].

        Returns:
            Neurons, ``(*r, m)`` and ``(*r, m, d)``.

        Raises:
            ValueError: if the flow was computed without ``dense=True``, or t lies outside.
        """
        return self._between(t)


def wide_flow(
    neurons: Neurons,
    target: Target,
    inputs: Inputs,
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    method: Method | None = None,
    dense: bool = False,
) -> WideTrajectory:
    """Follow the gradient flow of the population risk from t = 0.

    Args:
        neurons: the cloud at t = 0; runs do not see one another, but share an adaptive method's steps.
        target: f*.
        inputs: law of X.
        times: increasing times ≥ 0 at which neurons are wanted.
        method: ``symfield.ode.Adaptive()`` (the default), or a fixed step such as ``symfield.ode.heun(0.1)``, which
            keeps exact symmetries of a cloud to round-off. A :class:`~symfield.wide.SampledTarget`, whose force jumps,
            needs a fixed step.
        dense: whether the trajectory can also be read between the times; keeps every step in memory.

    Returns:
        The trajectory. Neurons with ⟨b, X⟩ = 0 do not move, and are marked in ``dead``.

    Raises:
        ValueError: if shapes do not fit, something is not finite, the times are not increasing, every neuron of a run
            is dead, or the target is sampled and no method is given.
        ArithmeticError: if the flow blows up (a fixed step that is too long), or the solver gives up.

    Example:
        >>> from symfield import random
        >>> from symfield.wide import Gaussian, Radial, sphere_neurons
        >>> start = sphere_neurons(64, 4, generator=random.generator(0), like=torch.zeros(1).double())
        >>> path = wide_flow(start, Radial(4, 2), Gaussian(4), times=[0.0, 1.0, 2.0])
        >>> path
        WideTrajectory(3 states of 64 neurons in R^4, up to t=2, 71 evaluations)
        >>> risks = risk(path.neurons, Radial(4, 2), Gaussian(4))
        >>> bool((risks.diff() < 0).all())
        True
    """
    require_problem(neurons, target, inputs)
    require_method(target, method)
    dead = ~_alive(neurons.b, inputs)
    if bool(dead.all(dim=-1).any()):
        raise ValueError("expected a living neuron, b != 0, in every run, received a run of dead ones: it cannot learn")
    start = torch.cat([neurons.a.unsqueeze(-1), neurons.b], dim=-1)

    def slope(_t: float, state: Tensor) -> Tensor:
        moving = _velocity(unpack(state), target, inputs)
        return torch.cat([moving.a.unsqueeze(-1), moving.b], dim=-1)

    path: Solution = solve(slope, start, times, method=method, dense=dense)
    return WideTrajectory(path.times, unpack(path.states), path.evaluations, dead, lambda t: unpack(path.at(t)))


def require_problem(neurons: Neurons, target: Target, inputs: Inputs) -> None:
    """Refuse neurons, target and inputs that do not fit together.

    Args:
        neurons: a cloud.
        target: f*.
        inputs: law of X.

    Raises:
        TypeError: if the target is a bare function.
        ValueError: if they do not fit.

    Example:
        >>> from symfield.wide import Gaussian, Radial
        >>> require_problem(Neurons(torch.ones(2), torch.ones(2, 3)), Radial(3, 1), Gaussian(3))
    """
    require_neurons(neurons, inputs)
    require_target(target, inputs)


def require_method(target: Target, method: Method | None) -> None:
    """Refuse to choose an adaptive method for a force that jumps.

    Args:
        target: f*.
        method: the wanted method.

    Raises:
        ValueError: if none is given, and the target's force is not continuous.

    Example:
        >>> from symfield.wide import Radial
        >>> require_method(Radial(3, 1), None)
    """
    if method is None and not target.smooth:
        raise ValueError(
            f"expected method= for {target!r}, whose force jumps where a neuron's boundary crosses a node, so that an "
            "adaptive method stalls; pass a fixed step, method=symfield.ode.heun(0.1)"
        )


def _velocity(neurons: Neurons, target: Target, inputs: Inputs) -> Neurons:
    a, b = neurons
    wanted, wanted_gradient = target.force(b, inputs)
    own, own_gradient = arc_cosine_force(b, b, a, inputs)
    m = a.shape[-1]
    gradient = a.unsqueeze(-1) * (wanted_gradient - own_gradient / m)
    return Neurons(wanted - own / m, torch.where(_alive(b, inputs).unsqueeze(-1), gradient, 0.0))


def _alive(b: Tensor, inputs: Inputs) -> Tensor:
    return (inputs.whiten(b) != 0).any(dim=-1)
