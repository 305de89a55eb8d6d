r"""The flow for f*(x) = ‖x_H‖, reduced to one angle: neurons as points of [0, π/2] with signed masses.

The law of the inputs, the target and the initial law of the neurons are invariant under O(H) × O(H^⊥), so the law of
the neurons stays invariant, and a balanced neuron (|a| = |b|, preserved by the flow) is known by its mass
c = |a||b|/m, its angle θ with H and its sign ε. With K of :mod:`~symfield.wide.reduced_kernels`, α = radial_mass(d_H)
and input variance v,

    c' = 2εcG(θ),    θ' = εG'(θ),    G(θ) = v (αK(θ, 0) − Σ_j ε_j c_j K(θ, θ_j)),

    risk = (v/2) ∬K d(τ − αδ_0)²,    τ = τ⁺ − τ⁻ = Σ_j ε_j c_j δ_{θ_j}.

The measure αδ_0, neurons spread evenly over the unit sphere of H, represents ‖x_H‖ exactly. It is the only signed
measure on angles that does so, but K has eigenvalues so small that measures far from it have a tiny risk: nothing here
says that the flow converges to it.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from scipy.optimize import brentq

from symfield import random
from symfield.ode import Method, solve
from symfield.typing import Float, Generator, Tensor
from symfield.wide.inputs import Inputs
from symfield.wide.reduced_kernels import RadialKernel, radial_kernel
from symfield.wide.rotations import check_subspace, half_nodes, mean_absolute, quantile_angle
from symfield.wide.targets import Radial, radial_mass

__all__ = ["AngleCloud", "RadialTrajectory", "crossing_time", "radial_flow", "radial_risk", "sphere_angles"]


@dataclass(frozen=True, eq=False, repr=False)
class AngleCloud:
    """Signed masses at angles with H; all axes but the last are runs or times.

    Attributes:
        mass: c_j ≥ 0, ``(*r, n)``; the factor 1/m of the network is in it.
        angle: θ_j in [0, π/2], ``(*r, n)``.
        sign: ε_j = ±1, ``(*r, n)``.

    Raises:
        ValueError: if shapes or dtypes differ, or values are not as described.

    Example:
        >>> two = torch.tensor([1.0, 3.0])
        >>> cloud = AngleCloud(two, torch.tensor([0.0, 0.5]), torch.tensor([1.0, -1.0]))
        >>> cloud, cloud.total(-1).item()
        (AngleCloud(2 angles), 3.0)
    """

    mass: Tensor
    angle: Tensor
    sign: Tensor

    def __post_init__(self) -> None:
        mass, angle, sign = self.mass, self.angle, self.sign
        if mass.ndim < 1 or angle.shape != mass.shape or sign.shape != mass.shape or mass.shape[-1] == 0:
            raise ValueError(
                "expected masses, angles and signs of one shape (*r, n), n >= 1, received "
                f"{tuple(mass.shape)}, {tuple(angle.shape)} and {tuple(sign.shape)}"
            )
        if not (mass.is_floating_point() and angle.dtype == mass.dtype and sign.dtype == mass.dtype):
            raise ValueError(
                "expected masses, angles and signs of one floating dtype, received "
                f"{mass.dtype}, {angle.dtype} and {sign.dtype}"
            )
        if not (torch.isfinite(mass).all() and bool((mass >= 0).all())):
            raise ValueError("expected finite masses >= 0, received others; the sign of a neuron belongs into sign")
        if not bool(((angle >= 0) & (angle <= math.pi / 2 + 1e-6)).all()):
            raise ValueError("expected angles with the subspace in [0, π/2], received others")
        if not bool((sign.abs() == 1).all()):
            raise ValueError("expected signs ±1, received others")

    def __repr__(self) -> str:
        runs = "×".join(str(size) for size in self.mass.shape[:-1])
        return f"AngleCloud({runs + ' runs of ' if runs else ''}{self.mass.shape[-1]} angles)"

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice | Tensor, ...]) -> AngleCloud:
        """Some of the runs."""
        return AngleCloud(self.mass[index], self.angle[index], self.sign[index])

    def total(self, sign: int) -> Float[Tensor, "*r"]:
        """Mass of τ⁺ or τ⁻.

        Args:
            sign: 1 or −1.

        Returns:
            The mass, ``(*r)``.
        """
        return self._part(sign).sum(-1)

    def mean_angle(self, sign: int) -> Float[Tensor, "*r"]:
        """Mean angle under τ⁺ or τ⁻, by mass; NaN where there is no mass.

        Args:
            sign: 1 or −1.

        Returns:
            Angles in radians, ``(*r)``.
        """
        return self._mean(sign, self.angle)

    def alignment(self, sign: int) -> Float[Tensor, "*r"]:
        """Mean cos² of the angle with H under τ⁺ or τ⁻, by mass; NaN where there is no mass.

        Args:
            sign: 1 or −1.

        Returns:
            Values in [0, 1], ``(*r)``; d_H/d for uniform directions.
        """
        return self._mean(sign, self.angle.cos().square())

    def distance(self, sign: int, angle: float) -> Float[Tensor, "*r"]:
        """W2 between the normalised τ⁺ or τ⁻ and the Dirac measure at an angle; NaN where there is no mass.

        Args:
            sign: 1 or −1.
            angle: where the Dirac measure is: 0 in H, π/2 in H^⊥.

        Returns:
            Distances in radians, ``(*r)``.
        """
        return self._mean(sign, (self.angle - angle).square()).sqrt()

    def predict(self, x: Float[Tensor, "*b d"], subspace_dim: int, *, order: int = 64) -> Float[Tensor, "*r *b"]:
        """The predictor E Σ_j ε_j c_j relu⟨u_j, x⟩, u_j uniform among the directions at angle θ_j.

        Args:
            x: inputs, ``(*b, d)``; H is spanned by the first coordinates.
            subspace_dim: d_H.
            order: nodes for the average over rotations of H; the one over rotations of H^⊥ is exact.

        Returns:
            Predictions, ``(*r, *b)``.

        Raises:
            ValueError: unless 1 <= d_H <= d.
        """
        dim = x.shape[-1]
        check_subspace(dim, subspace_dim)
        flat = x.reshape(-1, dim).to(self.angle)
        along, across = flat[:, :subspace_dim].norm(dim=-1), flat[:, subspace_dim:].norm(dim=-1)
        q, weight = (part.to(self.angle) for part in half_nodes(subspace_dim, order))
        inside = self.angle.cos()[..., None, None] * along[:, None] * q  # (*r, n, b, k)
        outside = (self.angle.sin()[..., None] * across)[..., None].expand_as(inside)
        values = mean_absolute(inside, outside, dim - subspace_dim) @ weight / 2
        return (self.signed.unsqueeze(-2) @ values).squeeze(-2).reshape(self.mass.shape[:-1] + x.shape[:-1])

    @property
    def signed(self) -> Float[Tensor, "*r n"]:
        """Signed masses ε_j c_j."""
        return self.sign * self.mass

    def _part(self, sign: int) -> Tensor:
        if sign not in (1, -1):
            raise ValueError(f"expected the sign 1 or -1, received {sign}")
        return torch.where(self.sign == sign, self.mass, 0.0)

    def _mean(self, sign: int, values: Tensor) -> Tensor:
        part = self._part(sign)
        return (part * values).sum(-1) / part.sum(-1)


@dataclass(frozen=True, eq=False, repr=False)
class RadialTrajectory:
    """A cloud of angles along time.

    Attributes:
        times: t_k, float64 ``(t,)``.
        clouds: masses, angles and signs with a leading axis of times.
        evaluations: how often the velocity was computed.
    """

    times: Tensor
    clouds: AngleCloud
    evaluations: int
    _between: Callable[[float], AngleCloud] = field(repr=False)

    def __repr__(self) -> str:
        return f"RadialTrajectory({self.clouds[-1]!r} up to t={self.times[-1]:g}, {self.evaluations} evaluations)"

    def at(self, t: float) -> AngleCloud:
        """The cloud at any time up to the last one.

        Args:
            t: a time in [0, t_last].

        Returns:
            The cloud.

        Raises:
            ValueError: if the flow was computed without ``dense=True``, or t lies outside.
        """
        return self._between(t)


def sphere_angles(
    n: int, dim: int, subspace_dim: int, *, generator: Generator | None = None, runs: Sequence[int] = ()
) -> AngleCloud:
    """Neurons with b uniform on the unit sphere and a = ±1, as angles: n of each sign, of total mass 1/2 each.

    Args:
        n: angles of each sign.
        dim: d.
        subspace_dim: d_H.
        generator: source of randomness for independent angles; quantiles of their law, the same for both signs, when
            absent, so that the predictor is exactly zero.
        runs: leading axes.

    Returns:
        The cloud, float64 ``(*runs, 2n)``; its first n angles have sign +1.

    Raises:
        ValueError: unless 1 <= d_H <= d, or if n is not positive.

    Example:
        >>> cloud = sphere_angles(200, 30, 5)
        >>> cloud, round(cloud.alignment(1).item(), 3)  # d_H/d
        (AngleCloud(400 angles), 0.167)

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771: cos² θ has the law Beta(d_H/2, (d−d_H)/2).
    """
    check_subspace(dim, subspace_dim)
    if n < 1:
        raise ValueError(f"expected n >= 1 angles of each sign, received {n}")
    shape = (*runs, 2 * n)
    like = torch.zeros((), dtype=torch.float64)
    if generator is None:
        level = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        angle = quantile_angle(level, dim, subspace_dim).repeat(2).expand(shape).clone()
    else:
        angle = quantile_angle(random.uniform(shape, generator=generator, like=like), dim, subspace_dim)
    sign = torch.ones(shape, dtype=torch.float64)
    sign[..., n:] = -1.0
    return AngleCloud(torch.full(shape, 0.5 / n, dtype=torch.float64), angle, sign)


def radial_flow(
    start: AngleCloud,
    target: Radial,
    inputs: Inputs,
    *,
    times: Sequence[float] | Float[Tensor, "..."],
    method: Method | None = None,
    dense: bool = False,
) -> RadialTrajectory:
    """Follow balanced neurons by mass, angle and sign: the flow of infinitely many neurons in R^d, on one axis.

    Args:
        start: cloud at t = 0, ``(*r, n)``.
        target: ‖x_H‖.
        inputs: law of X with covariance v·I: ``Gaussian(d)``, ``Gaussian(d, v)`` or ``UnitSphere(d)``.
        times: increasing times ≥ 0.
        method: how to integrate in time; :class:`~symfield.ode.Adaptive` when absent.
        dense: whether the trajectory can be read between its times.

    Returns:
        The clouds at the times.

    Raises:
        ValueError: if the inputs are anisotropic or of another dimension, or times do not increase.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target, inputs = Radial(30, 5), Gaussian(30)
        >>> path = radial_flow(sphere_angles(50, 30, 5), target, inputs, times=[0.0, 5.0, 30.0])
        >>> [round(value, 2) for value in radial_risk(path.clouds, target, inputs).tolist()]
        [2.5, 0.09, 0.0]
    """
    variance, kernel = _setting(target, inputs)
    mass, sign = start.mass, start.sign

    def slope(_t: float, state: Tensor) -> Tensor:
        growth, angle = state.unbind(-2)
        value, derivative = kernel.potential(angle, sign * mass * growth.exp())
        return variance * torch.stack([2 * sign * value, sign * derivative], dim=-2)

    def cloud(state: Tensor) -> AngleCloud:
        growth, angle = state.unbind(-2)
        half = math.pi / 2
        return AngleCloud(mass * growth.exp(), (half - (half - angle.abs()).abs()).clamp_min(0), sign.expand_as(growth))

    initial = torch.stack([torch.zeros_like(mass), start.angle], dim=-2)
    solution = solve(slope, initial, times, method=method, dense=dense)
    return RadialTrajectory(
        solution.times, cloud(solution.states), solution.evaluations, lambda t: cloud(solution.at(t))
    )


def radial_risk(cloud: AngleCloud, target: Radial, inputs: Inputs) -> Float[Tensor, "*r"]:
    """The population risk ½E(f − ‖X_H‖)² of a cloud of angles.

    Args:
        cloud: masses at angles, ``(*r, n)``.
        target: ‖x_H‖.
        inputs: law of X with covariance v·I.

    Returns:
        The risk, ``(*r)``.

    Raises:
        ValueError: if the inputs are anisotropic or of another dimension.

    Example:
        >>> from symfield.wide import Gaussian
        >>> round(radial_risk(sphere_angles(9, 30, 5), Radial(30, 5), Gaussian(30)).item(), 9)  # d_H/2
        2.5
    """
    variance, kernel = _setting(target, inputs)
    return variance * kernel.energy(cloud.angle, cloud.signed)


def crossing_time(trajectory: RadialTrajectory, target: Radial) -> Float[Tensor, "*r"]:
    """t*: the first time at which τ⁺ has more mass than α, the mass that represents ‖x_H‖.

    Args:
        trajectory: a flow computed with ``dense=True``.
        target: ‖x_H‖.

    Returns:
        Times, ``(*r)``, accurate to 1e-6 if the mass crosses α at most once between two recorded times; infinity where
        no recorded mass exceeds α.

    Raises:
        ValueError: if the flow was computed without ``dense=True``.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target = Radial(30, 5)
        >>> start, times = sphere_angles(50, 30, 5), torch.arange(6.0)
        >>> round(crossing_time(radial_flow(start, target, Gaussian(30), times=times, dense=True), target).item(), 1)
        3.4
    """
    mass = radial_mass(target.subspace_dim)
    excess = (trajectory.clouds.total(1) - mass).reshape(len(trajectory.times), -1)  # (t, runs)
    found = []
    for run, values in enumerate(excess.mT):
        above = torch.nonzero(values > 0)
        if len(above) == 0:
            found.append(math.inf)
        elif int(above[0]) == 0:
            found.append(float(trajectory.times[0]))
        else:
            right = int(above[0])
            bounds = float(trajectory.times[right - 1]), float(trajectory.times[right])
            found.append(
                brentq(lambda t, run=run: float(trajectory.at(t).total(1).flatten()[run]) - mass, *bounds, xtol=1e-7)
            )
    return torch.tensor(found, dtype=torch.float64).reshape(trajectory.clouds.mass.shape[1:-1])


def _setting(target: Radial, inputs: Inputs) -> tuple[float, RadialKernel]:
    target.require(inputs)
    if inputs.variance is None:
        raise ValueError(
            f"expected inputs with covariance v·I, received {inputs!r}; the angle alone does not describe other flows, "
            "use low_dimensional_flow"
        )
    return inputs.variance, radial_kernel(target.dim, target.subspace_dim)
