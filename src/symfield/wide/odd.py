r"""Odd targets: the infinitely wide ReLU network stays linear, and finds the best linear predictor exponentially fast.

Let f*(−x) = −f*(x), and let the law of X and the initial law of neurons be symmetric, under x ↦ −x and
(a, b) ↦ (−a, −b). Then f(x) = ⟨w, x⟩ at all times, with w = ½∫ab, and with X̄ = E f*(X) X and S = E XXᵀ

    w' = H (X̄ − Sw),   H = ¼(∫a² I + ∫bbᵀ).

(See :mod:`symfield.wide.odd_moments` for the reduction, :mod:`symfield.wide.odd_isotropic` for H as a function of w.)
Let Q(w) = ½E(⟨w, X⟩ − f*)² and w* = S⁻¹X̄, where Q is least; Q* = ½(E f*² − ⟨X̄, w*⟩). With y = S^{-1/2}(X̄ − Sw) the
excess is Q − Q* = ½|y|², and d/dt (Q − Q*) = −⟨y, S^{1/2} H S^{1/2} y⟩. Hence:

1. *A guaranteed bound.* Q − Q* ≤ (Q(0) − Q*) exp(−2 λ_min(S) ∫λ_min(H)), and, tighter, with
   ∫λ_min(S^{1/2} H S^{1/2}) for λ_min(S) ∫λ_min(H).
2. *Why it is exponential.* c = ∫|b|² − ∫a² is constant and |w| ≤ ½√(∫a² ∫|b|²), so ∫a² ≥ (√(c² + 16|w|²) − c)/2. Q
   falls; once Q(t₀) < Q(w = 0), the predictor stays away from zero: at all later times

       |w| ≥ ω = max((½⟨X̄, w*⟩ − (Q(t₀) − Q*))/|X̄|, |w*| − √(2(Q(t₀) − Q*)/λ_min(S))),

   so that, with η = (√(c² + 16ω²) − c)/8,

       Q(t) − Q* ≤ (Q(t₀) − Q*) exp(−2 η λ_min(S) (t − t₀)).

   Balanced neurons, |a| = |b|, have c = 0 and η = ω/2; here any c is allowed.
3. *The true late rates* of w − w* are the eigenvalues of S^{1/2} H S^{1/2} at w*.

The flow stands still in two cases. If X̄ = Sw(0), nothing is left to learn; in particular an odd target with X̄ = 0
leaves w = 0, and no network of this kind does better, since its odd part is linear. If every a is zero and every b
orthogonal to the residual, it stays at a saddle.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
    Bounds in this form, for any covariance and unbalanced neurons, are derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from symfield import random
from symfield.ode import Adaptive, Method, solve
from symfield.typing import Bool, Float, Shaped, Tensor
from symfield.wide.inputs import Inputs
from symfield.wide.neurons import Neurons
from symfield.wide.odd_functions import OddTarget
from symfield.wide.odd_isotropic import predictor_metric, sphere_mass, sphere_moments
from symfield.wide.odd_moments import (
    moments_metric,
    pairing_defect,
    require_problem,
    require_second_moments,
    second_moments,
    second_moments_velocity,
)
from symfield.wide.sampled_target import evaluate
from symfield.wide.targets import Target, require_target

__all__ = ["OddFlow", "odd_target_flow"]

_CLOSED = 1e-9
_ODD = 1e-9
_SINGULAR = 1e-12
_STILL = 1e-14


@dataclass(frozen=True, eq=False, repr=False)
class OddFlow:
    """The linear predictor along the flow, and what is guaranteed about it; made by :func:`odd_target_flow`.

    Attributes:
        times: t_k, float64 ``(t,)``.
        w: linear predictors, ``(t, *r, d)``.
        first_moment: X̄, ``(d)``.
        inputs: law of X.
        least_metric: ∫₀ᵗ λ_min(H), ``(t, *r)``.
        least_contraction: ∫₀ᵗ λ_min(S^{1/2} H S^{1/2}), ``(t, *r)``.
        second_moment: E f*²; None where it is not known.
    """

    times: Tensor
    w: Tensor
    first_moment: Tensor
    inputs: Inputs
    least_metric: Tensor
    least_contraction: Tensor
    second_moment: float | None
    _start: Tensor = field(repr=False)
    _moments: Tensor | None = field(default=None)

    def __repr__(self) -> str:
        runs = f", runs {tuple(self.w.shape[1:-1])}" if self.w.ndim > 2 else ""
        width = "infinite width" if self._moments is None else "given second moments"
        first, last = (f"{float(self.excess[k].max()):.3g}" for k in (0, -1))
        still = ""
        if bool(self.stationary.any()):
            best = float(self._initial_excess.max()) <= _STILL * float(self.first_moment @ self.optimum)
            still = ", stationary: " + ("no linear predictor is better" if best else "a saddle")
        where = f"{width} in R^{self.inputs.dim}{runs}"
        return f"OddFlow({where}, up to t={self.times[-1]:g}, excess {first} -> {last}{still})"

    @cached_property
    def moments(self) -> Float[Tensor, "t *r e e"]:
        """M = ∫(a, b)(a, b)ᵀ, ``(t, *r, 1 + d, 1 + d)``; at infinite width it is a function of w."""
        return sphere_moments(self.w) if self._moments is None else self._moments

    @cached_property
    def metric(self) -> Float[Tensor, "t *r d d"]:
        """H = ¼(∫a² I + ∫bbᵀ), ``(t, *r, d, d)``."""
        if self._moments is None:
            return predictor_metric(self.w, mass=sphere_mass(self.inputs.dim))
        return moments_metric(self._moments)

    @cached_property
    def optimum(self) -> Float[Tensor, " d"]:
        """The best linear predictor w* = S⁻¹X̄, ``(d)``."""
        return torch.linalg.solve(self._covariance, self.first_moment)

    @property
    def distance(self) -> Float[Tensor, "t *r"]:
        """|w − w*|, ``(t, *r)``."""
        return (self.w - self.optimum).norm(dim=-1)

    @cached_property
    def excess(self) -> Float[Tensor, "t *r"]:
        """Q − Q* = ½⟨w − w*, S (w − w*)⟩, ``(t, *r)``; known without E f*²."""
        return self.inputs.whiten(self.w - self.optimum).square().sum(-1) / 2

    @property
    def floor(self) -> float:
        """Q* = ½(E f*² − ⟨X̄, w*⟩), the risk that no linear predictor, and no network of this kind, goes below.

        Zero where moments from nodes give slightly less.

        Raises:
            ValueError: if E f*² is not known, or too small for X̄ by more than 5%.
        """
        if self.second_moment is None:
            raise ValueError("E f*² is not known, only the excess is; give an OddTarget with second_moment=")
        floor = (self.second_moment - float(self.first_moment @ self.optimum)) / 2
        if floor < -0.025 * self.second_moment:  # nodes err
            raise ValueError(
                f"expected E f*² >= <first moment, w*> = {float(self.first_moment @ self.optimum):.6g}, received "
                f"{self.second_moment:.6g}; these moments belong to no function"
            )
        return max(floor, 0.0)

    @property
    def risk(self) -> Float[Tensor, "t *r"]:
        """Q = ½E(⟨w, X⟩ − f*(X))², ``(t, *r)``."""
        return self.floor + self.excess

    @property
    def bound(self) -> Float[Tensor, "t *r"]:
        """The guaranteed bound on the excess, (Q(0) − Q*) exp(−2 λ_min(S) ∫λ_min(H)), ``(t, *r)``."""
        return self._initial_excess * torch.exp(-2 * self._least_variance * self.least_metric)

    @property
    def sharp_bound(self) -> Float[Tensor, "t *r"]:
        """The tighter bound on the excess, (Q(0) − Q*) exp(−2 ∫λ_min(S^{1/2} H S^{1/2})), ``(t, *r)``."""
        return self._initial_excess * torch.exp(-2 * self.least_contraction)

    @property
    def certified_rates(self) -> Float[Tensor, "t *r"]:
        """ρ_k with Q(t) − Q* ≤ (Q(t_k) − Q*) exp(−ρ_k (t − t_k)) for all t ≥ t_k, ``(t, *r)``.

        ρ = 2 η λ_min(S) of the module's point 2, from the state at t_k alone; zero as long as that does not tell.
        """
        trace = self.moments.diagonal(dim1=-2, dim2=-1)
        unbalance = trace[..., 1:].sum(-1) - trace[..., 0]
        size = self.first_moment.norm()
        by_gain = (self.first_moment @ self.optimum / 2 - self.excess) / torch.where(size > 0, size, 1.0)
        by_distance = self.optimum.norm() - (2 * self.excess / self._least_variance).sqrt()
        least = torch.maximum(by_gain, by_distance).clamp_min(0)
        root = (unbalance.square() + 16 * least.square()).sqrt()
        # (√(c² + 16ω²) − c)/8 without cancellation where c > 0
        safe = torch.where(root + unbalance > 0, root + unbalance, 1.0)
        eta = torch.where(unbalance > 0, 2 * least.square() / safe, (root - unbalance) / 8)
        return 2 * self._least_variance * eta

    @property
    def late_rates(self) -> Float[Tensor, "*r d"]:
        """Eigenvalues of S^{1/2} H S^{1/2} at the last time, ascending, ``(*r, d)``.

        Once w is near w*, modes of w − w* fall at these rates, and the excess twice as fast. (At infinite width under
        isotropic inputs the error lies along w*, whose rate is the greatest.)
        """
        return torch.linalg.eigvalsh(whitened_metric(self.metric[-1], self.inputs))

    @property
    def stationary(self) -> Bool[Tensor, "*r"]:
        """Whether the flow stands still, ``(*r)``: nothing is left to learn, or it starts at a saddle."""
        w, metric = self._start[..., 0, 1:] / 2, moments_metric(self._start)
        residual = self.first_moment - w @ self._covariance
        speed = (metric @ residual.unsqueeze(-1)).squeeze(-1).norm(dim=-1)
        return speed <= _STILL * metric.norm(dim=(-2, -1)) * self.first_moment.norm()

    @property
    def _covariance(self) -> Tensor:
        return self.inputs.covariance(self.w)

    @property
    def _initial_excess(self) -> Tensor:
        return self.inputs.whiten(self._start[..., 0, 1:] / 2 - self.optimum).square().sum(-1) / 2

    @cached_property
    def _least_variance(self) -> float:
        return float(torch.linalg.eigvalsh(self._covariance)[0])


def odd_target_flow(
    target: Target | Shaped[Tensor, "..."],
    inputs: Inputs,
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    initial: Neurons | Float[Tensor, "..."] | None = None,
    method: Method | None = None,
) -> OddFlow:
    """The population gradient flow of a two-layer ReLU network on an odd target, exactly.

    Args:
        target: f*, an odd function; or its first moment X̄ = E f*(X) X, ``(d)``, which is all that the flow sees.
        inputs: law of X. Only its covariance matters: for another symmetric law give X̄ and the ``Gaussian`` with that
            covariance.
        times: increasing times ≥ 0; the flow starts at t = 0.
        initial: neurons closed under (a, b) ↦ (−a, −b), balanced or not; or second moments ``(*r, 1 + d, 1 + d)`` of
            such a law. When absent: infinite width, b uniform on the unit sphere and a = ±1.
        method: how to integrate in time; ``Adaptive(1e-12, 1e-14)`` when absent.

    Returns:
        Predictors, second moments, excess risk and bounds at the times. At infinite width the state is w alone, and
        otherwise the second moments, whatever the width. A flow that stands still says so. With the default method w is
        accurate to about 1e-9 |w*|, so that an excess below 1e-18 of the first is round-off, not a violated bound.

    Raises:
        TypeError: if the target is a bare function.
        ValueError: if the target is not odd, S is singular, dimensions differ, or the neurons are not closed.
        ArithmeticError: if a fixed step is too long.

    Example:
        >>> from symfield.wide import Gaussian, cubic
        >>> inputs = Gaussian(20, 1 / 20)
        >>> flow = odd_target_flow(cubic(torch.ones(20).double(), inputs, energy=2.0), inputs, times=[0.0, 30.0, 60.0])
        >>> flow
        OddFlow(infinite width in R^20, up to t=60, excess 0.6 -> 1.24e-10)
        >>> round(flow.floor, 9), bool((flow.excess <= flow.bound).all())
        (0.4, True)

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771.
    """
    moment, second = _first_moment(target, inputs)
    method = Adaptive(1e-12, 1e-14) if method is None else method
    start = None if initial is None else _initial_moments(initial, inputs)
    like = moment if start is None else start
    moment, s = require_problem(moment.to(like), inputs.covariance(like), inputs.dim)
    _require_regular(s, inputs)
    if start is None:
        grid, states = _predictor_flow(moment, s, inputs, times, method)
        w = states[..., :-2]
        return OddFlow(grid, w, moment, inputs, states[..., -2], states[..., -1], second, sphere_moments(w[0] * 0))
    grid, states = _moments_flow(start, moment, s, inputs, times, method)
    m = states[..., :-2].reshape(len(grid), *start.shape)
    return OddFlow(grid, m[..., 0, 1:] / 2, moment, inputs, states[..., -2], states[..., -1], second, start, m)


def whitened_metric(metric: Float[Tensor, "*r d d"], inputs: Inputs) -> Float[Tensor, "*r d d"]:
    """S^{1/2} H S^{1/2}, whose least eigenvalue is half the excess's rate of decay at least.

    Args:
        metric: H, ``(*r, d, d)``.
        inputs: law of X.

    Returns:
        Symmetric matrices, ``(*r, d, d)``.

    Example:
        >>> from symfield.wide import Gaussian
        >>> whitened_metric(torch.eye(2), Gaussian(2, torch.tensor([4.0, 9.0]))).diagonal().tolist()
        [4.0, 9.0]
    """
    matrix = inputs.whiten(inputs.whiten(metric).mT)
    return (matrix + matrix.mT) / 2


def _predictor_flow(
    moment: Tensor, s: Tensor, inputs: Inputs, times: Sequence[float] | Tensor, method: Method
) -> tuple[Tensor, Tensor]:
    """w' = H(w)(X̄ − Sw) with the two integrals, as rows (w, ∫λ_min(H), ∫λ_min(S^{1/2} H S^{1/2}))."""
    mass = sphere_mass(inputs.dim)

    def slope(_t: float, state: Tensor) -> Tensor:
        w = state[:-2]
        h = predictor_metric(w, mass=mass)
        return torch.cat([h @ (moment - s @ w), _least(h, inputs)])

    path = solve(slope, moment.new_zeros(inputs.dim + 2), times, method=method)
    return path.times, path.states


def _moments_flow(
    start: Tensor, moment: Tensor, s: Tensor, inputs: Inputs, times: Sequence[float] | Tensor, method: Method
) -> tuple[Tensor, Tensor]:
    """M' = AM + MA with the two integrals, as rows (M, ∫λ_min(H), ∫λ_min(S^{1/2} H S^{1/2}))."""

    def slope(_t: float, state: Tensor) -> Tensor:
        m = state[..., :-2].reshape(start.shape)
        velocity = second_moments_velocity(m, moment, s).flatten(-2)
        return torch.cat([velocity, _least(moments_metric(m), inputs)], dim=-1)

    rows = torch.cat([start.flatten(-2), start.new_zeros(*start.shape[:-2], 2)], dim=-1)
    path = solve(slope, rows, times, method=method)
    return path.times, path.states


def _least(metric: Tensor, inputs: Inputs) -> Tensor:
    both = torch.stack([metric, whitened_metric(metric, inputs)], dim=-3)
    return torch.linalg.eigvalsh(both)[..., 0]


def _first_moment(target: Target | Tensor, inputs: Inputs) -> tuple[Tensor, float | None]:
    """X̄, and E f*² where it is known."""
    if isinstance(target, Tensor):
        return target.detach().double(), None
    require_target(target, inputs)
    if isinstance(target, OddTarget):
        return target.first_moment, target.second_moment
    like = torch.zeros((), dtype=torch.float64)
    x = inputs.sample((256,), generator=random.generator(0), like=like)
    there, back = evaluate(target, x), evaluate(target, -x)
    defect, scale = float((there + back).abs().max()), float(there.abs().max())
    if not defect <= _ODD * scale:
        raise ValueError(
            f"expected an odd target, received {target!r} with f(-x) + f(x) = {defect:.3g} where |f| is up to "
            f"{scale:.3g}; its network does not stay linear: use wide_flow"
        )
    eye = torch.eye(inputs.dim, dtype=torch.float64)  # x_k = relu(x_k) − relu(−x_k)
    return target.correlation(eye, inputs) - target.correlation(-eye, inputs), target.energy(inputs)


def _initial_moments(initial: Neurons | Tensor, inputs: Inputs) -> Tensor:
    if isinstance(initial, Tensor):
        moments = require_second_moments(initial)
        dim = moments.shape[-1] - 1
    else:
        moments = second_moments(initial)
        dim = initial.b.shape[-1]
        defect = float(pairing_defect(initial).max())
        if defect > _CLOSED:
            raise ValueError(
                f"expected neurons closed under (a, b) -> (-a, -b), received a defect of {defect:.2g}: their network "
                "is not linear. Unite them with their images, use initial=None for infinite width, or follow them "
                "with wide_flow"
            )
    if dim != inputs.dim:
        raise ValueError(f"expected neurons in R^{inputs.dim} for {inputs!r}, received dimension {dim}")
    return moments


def _require_regular(s: Tensor, inputs: Inputs) -> None:
    values = torch.linalg.eigvalsh(s)
    if float(values[0]) <= _SINGULAR * float(values[-1]):
        raise ValueError(
            f"expected a regular covariance, received {inputs!r} with eigenvalues from {float(values[0]):.3g} to "
            f"{float(values[-1]):.3g}: w* is not unique. Restrict the inputs to the range of S"
        )
