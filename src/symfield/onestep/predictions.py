r"""What one gradient step sees, predicted: overlaps as a function of n, and the samples that are needed.

**Leading order** (closed forms). For a single-index target with a link of information exponent k, a neuron with initial
correlation ρ to the target has a gradient of mean κ ρ^{k-1} S w*/t and covariance C S/n, with κ = √k g_k c_{k-1} and
C = E y² E σ'². So

    cos² = P A / (A + C Tr S/n),       A = κ² ρ^{2(k-1)} w*ᵀ S² w*/t²,    P = (w*ᵀ S w*)² / (w*ᵀ S² w*),
    cos_S² = P_S A_S / (A_S + C Tr S²/n), A_S = κ² ρ^{2(k-1)} w*ᵀ S³ w*/t², P_S = (w*ᵀS²w*)² / (w*ᵀSw* w*ᵀS³w*).

The step finds S w*, not w*: P < 1 is where it saturates unless w* is an eigenvector. As ρ² ≈ χ²₁ w*ᵀS²w*/(t² Tr S),
an aligned teacher needs n ∝ r₁^k (Euclidean) or r₂ r₁^{k-1} (covariance) samples for an overlap of one half.

**Full form.** :func:`predicted_overlap` keeps what the closed form drops: the mean to all orders in ρ, the covariance
of the gradient with its excess along the target, the chance overlap of the noise (so that n → 0 gives the null level),
and the average of the ratio instead of the ratio of averages. The one assumption left is that gradients of n samples
are Gaussian. With ``students`` the geometry of each neuron is exact as well; without, neurons are random and
their law is the leading one in 1/r₁. It is for the correlation loss, or the square loss where f = 0.

Status: all formulas here are derived here. They agree in their limits with published ones: isotropic data, n ~ d^k
(Dandi et al. 2023, arXiv 2305.18270); spiked data with n ~ d, where a spike d^β suffices for β > 1 - 1/k (Ba et al.
2023, openreview HlIAoCHDWW). For gradient steps under power laws no published rate was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import brentq

from symfield.onestep._runs import broadcast_runs
from symfield.onestep.alignment import SMALLEST_SAMPLE, SquareCosines, null_overlap
from symfield.onestep.cosines import expected_square_cosine
from symfield.onestep.links import gaussian_panels, hermite_values
from symfield.onestep.moments import GradientMoments, gradient_moments, link_moments
from symfield.onestep.students import Students
from symfield.onestep.targets import Target
from symfield.quadrature import gauss_hermite
from symfield.typing import Map, Tensor
from symfield.units import Activation, relu

__all__ = [
    "GradientConstants",
    "LeadingOrder",
    "SampleNeeds",
    "gradient_constants",
    "leading_order",
    "predicted_overlap",
    "predicted_samples",
]


class GradientConstants(NamedTuple):
    """What link and activation contribute to a gradient's signal and noise.

    Attributes:
        exponent: k, the information exponent.
        kappa: κ = √k g_k c_{k-1}: the mean gradient is κ ρ^{k-1} S w*/t.
        noise: C = E y² E σ'²: its covariance is C S/n.
    """

    exponent: int
    kappa: float
    noise: float

    @property
    def ratio(self) -> float:
        """C/κ², the samples per effective dimension for an exponent of one."""
        return self.noise / self.kappa**2


class LeadingOrder(NamedTuple):
    """Closed forms in the limit of large effective dimensions; see the module's docstring.

    Attributes:
        limit: P, the squared overlap as n → ∞.
        limit_covariance: P_S.
        n_half: samples for a Euclidean overlap of one half; infinite where P ≤ ½.
        n_half_covariance: the same for the covariance overlap.
    """

    limit: float
    limit_covariance: float
    n_half: float
    n_half_covariance: float


class SampleNeeds(NamedTuple):
    """Samples for one gradient step.

    Attributes:
        n_half: mean squared overlap reaches the level (one half, unless asked otherwise); infinite where it never does.
        n_weak: it reaches twice the null level; infinite where it never does. Numbers below 16 say "very few".
    """

    n_half: SquareCosines
    n_weak: SquareCosines


def gradient_constants(target: Target, *, activation: Map = relu, scale: float = 1.0) -> GradientConstants:
    """k, κ and C of a single-index target, for any link and activation, by quadrature. Derived here.

    Args:
        target: a single-index target.
        activation: σ, an :class:`~symfield.units.Activation` or an elementwise function.
        scale: standard deviation of the pre-activation; (Tr S/d)^{1/2} for unit rows.

    Returns:
        The constants.

    Raises:
        ValueError: if the target has several indices, or the activation has no Hermite coefficient where the link has
            its first (then the gradient does not see it in this order).

    Example:
        >>> from symfield.onestep import Isotropic, aligned, function_link
        >>> S = Isotropic(10)
        >>> constants = gradient_constants(Target(function_link(torch.tanh, standardise=True), S, aligned(S)))
        >>> constants.exponent, round(constants.kappa, 4), round(constants.ratio, 3)
        (1, 0.4823, 2.149)
    """
    if target.link.dim != 1:
        raise ValueError(f"expected a single-index target, received {target.link.dim} indices; use predicted_overlap")
    activation = Activation.of(activation)
    k = target.link.information_exponent
    nodes = gaussian_panels(1, 20)
    u = scale * nodes.x[:, 0]
    slope = activation.derivative(u, activation(u))
    seen = float(nodes.weight @ (slope * hermite_values(nodes.x[:, 0], k)[:, k - 1]))
    if abs(seen) < 1e-9:
        raise ValueError(
            f"expected {activation}' to have a Hermite coefficient of degree {k - 1}, received none: its gradient does "
            f"not see a link of information exponent {k} to leading order; use another activation or biases"
        )
    noise = target.variance * float(nodes.weight @ slope.square())
    return GradientConstants(k, math.sqrt(k) * target.link.coefficient(k) * seen, noise)


def leading_order(target: Target, *, activation: Map = relu) -> LeadingOrder:
    """Limits and sample needs in closed form, for one single-index teacher. Derived here.

    n_half = q_k (C/κ²) r₁^k for an aligned teacher, with q_1 = 1 and q_k the solution of
    E[X/(X + 1/q)] = ½ for X = (χ²₁)^{k-1}: the rule that curves for different d and α collapse on.

    Args:
        target: a single-index target without runs axes.
        activation: σ, as there.

    Returns:
        The closed forms.

    Raises:
        ValueError: if the target has several indices or runs axes.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(256, 0.5)
        >>> needs = leading_order(Target(hermite_link([0, 0, 1]), S, aligned(S)))
        >>> round(needs.n_half / S.r1**2, 2)
        4.19
    """
    if target.directions.ndim != 2:
        raise ValueError(f"expected a target without runs axes, received {target}; take them one by one")
    eigenvalues = target.covariance.eigenvalues()
    k, kappa, noise = gradient_constants(
        target, activation=activation, scale=math.sqrt(target.covariance.trace / target.covariance.dim)
    )
    w = target.covariance.to_eigenbasis(target.directions[0]).square()
    one, two, three = (float(w @ eigenvalues.pow(power)) for power in (1, 2, 3))
    spread = two / (one * float(eigenvalues.sum()))  # E ρ²
    found = []
    limits = one**2 / two, two**2 / (one * three)
    for limit, signal, trace in zip(
        limits, (two / one, three / one), (eigenvalues.sum(), eigenvalues.square().sum()), strict=True
    ):
        scale = noise * float(trace) / (kappa**2 * spread ** (k - 1) * signal)
        found.append(scale / _balance(k, limit) if limit > 0.5 else math.inf)
    return LeadingOrder(*limits, *found)


def predicted_overlap(
    target: Target, n: int | Sequence[int], *, activation: Map = relu, students: Students | None = None
) -> SquareCosines:
    """Mean squared overlaps of gradients of n samples with each direction. Derived here.

    Args:
        target: what is learned, with one to three indices.
        n: samples, at least 16.
        activation: σ of random neurons without biases; that of the students where they are given.
        students: realised neurons, for exact geometry; without, neurons are uniform on the sphere, and what is
            neglected is of relative order 1/r₁.

    Returns:
        Means over neurons, ``(*n, *r, k)``, in both geometries.

    Raises:
        ValueError: if n < 16, dimensions or runs do not fit, or all neurons are dead.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(400, 0.5)
        >>> curve = predicted_overlap(Target(hermite_link([0, 1]), S, aligned(S)), [25, 400, 6400])
        >>> [round(c, 2) for c in curve.euclidean[:, 0].tolist()]
        [0.25, 0.84, 0.99]
    """
    sizes = (n,) if isinstance(n, int) else tuple(n)
    if not sizes or min(sizes) < SMALLEST_SAMPLE:
        raise ValueError(f"expected n >= {SMALLEST_SAMPLE} samples for an overlap, received {n}; leave small n out")
    found = _by_run(target, students, Activation.of(activation), [float(size) for size in sizes])
    if isinstance(n, int):
        return SquareCosines(found.euclidean[0], found.covariance[0])
    return found


def predicted_samples(
    target: Target, *, level: float = 0.5, activation: Map = relu, students: Students | None = None
) -> SampleNeeds:
    """Samples until one step sees each direction: :func:`predicted_overlap` solved for n. Derived here.

    For an aligned teacher n_half grows like r₁^k (Euclidean) and r₂ r₁^{k-1} (covariance): so many samples are needed
    for an overlap that stays when d grows. n_weak is much less, r₁^{k-1} at most and often a handful: to exceed chance
    twice is easy, also because noise weighted by labels leans towards the target (y² is large where |z| is).

    Args:
        target: what is learned, without runs axes.
        level: the overlap at ``n_half``.
        activation: σ of random neurons without biases.
        students: realised neurons, as in :func:`predicted_overlap`.

    Returns:
        Samples for each direction, ``(k)``, as real numbers.

    Raises:
        ValueError: if the level is not between 0 and 1, or there are runs axes.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(400, 0.5)
        >>> needs = predicted_samples(Target(hermite_link([0, 1]), S, aligned(S)))
        >>> 60 < needs.n_half.euclidean.item() < 90
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, received {level}")
    if target.directions.ndim != 2:
        raise ValueError(f"expected a target without runs axes, received {target}; take them one by one")
    neurons = _neurons(target, students, Activation.of(activation))
    null = null_overlap(target)

    def needs(goals: SquareCosines) -> SquareCosines:
        solved = [
            [_solve(target, neurons, geometry, i, goal) for i, goal in enumerate(part.tolist())]
            for geometry, part in enumerate(goals)
        ]
        return SquareCosines(*(torch.tensor(row, dtype=torch.float64) for row in solved))

    levels = torch.full((target.link.dim,), level, dtype=torch.float64)
    return SampleNeeds(needs(SquareCosines(levels, levels)), needs(SquareCosines(*(2 * part for part in null))))


class _Neurons(NamedTuple):
    """Moments of neurons, or of nodes that stand for random ones, with their weights."""

    moments: GradientMoments
    weight: Tensor


def _neurons(target: Target, students: Students | None, activation: Activation) -> _Neurons:
    if students is not None:
        moments = gradient_moments(students, target)
        return _Neurons(moments, torch.full((students.count,), 1 / students.count, dtype=torch.float64))
    covariance, k = target.covariance, target.link.dim
    seen = covariance.power(target.axes)
    spread = target.axes @ covariance.power(seen).mT / covariance.trace  # E ρρᵀ of uniform rows, to leading order
    nodes = gaussian_panels(1, 4) if k == 1 else gauss_hermite(k, 16 if k == 2 else 9, trim=1e-9)
    kept = nodes.weight > 1e-9
    xi, weight = nodes.x[kept], nodes.weight[kept] / nodes.weight[kept].sum()
    values, vectors = torch.linalg.eigh(spread)
    raw = xi * values.clamp_min(0).sqrt() @ vectors.mT
    rho = raw / (raw.square().sum(-1, keepdim=True) + (1 - values.sum()).clamp_min(0)).sqrt()
    scale = torch.full((len(rho),), math.sqrt(covariance.trace / covariance.dim), dtype=torch.float64)
    mean, level, excess = link_moments(target, activation, rho, scale, torch.zeros_like(scale))
    columns = seen.mT.expand(len(rho), *seen.mT.shape)
    return _Neurons(GradientMoments(columns, mean[:, :k], level, excess[:, :k, :k]), weight)


def _mean_overlap(target: Target, neurons: _Neurons, n: float, geometry: int) -> Tensor:
    """Mean squared overlaps ``(k)`` at n, in the Euclidean (0) or covariance (1) geometry."""
    covariance, (columns, mean, level, excess) = target.covariance, neurons.moments
    eigenvalues = covariance.eigenvalues()
    root = eigenvalues.sqrt() if geometry else torch.ones_like(eigenvalues)
    w = covariance.to_eigenbasis(target.directions) * root
    w = w / w.norm(dim=-1, keepdim=True)
    columns = covariance.to_eigenbasis(columns.mT).mT * root.unsqueeze(-1)
    noise = level.unsqueeze(-1) * (eigenvalues * root.square()) / n
    extra = (excess - mean.unsqueeze(-1) * mean.unsqueeze(-2)) / n
    alive = noise.sum(-1) + mean.abs().sum(-1) > 0
    if not bool(alive.any()):
        raise ValueError("expected a neuron that is alive, received dead ones: their gradients vanish almost surely")
    cosines = expected_square_cosine(w, noise[alive], columns=columns[alive], mean=mean[alive], extra=extra[alive])
    weight = neurons.weight[alive]
    return weight @ cosines / weight.sum()


def _by_run(target: Target, students: Students | None, activation: Activation, sizes: list[float]) -> SquareCosines:
    teachers = target.directions.shape[:-2]
    runs = broadcast_runs(teachers=teachers, students=() if students is None else students.runs)
    count, shape = math.prod(runs), target.directions.shape[-2:]
    directions = target.directions.expand(*runs, *shape).reshape(count, *shape)
    each: list[Students | None] = [None] * count
    if students is not None:
        p, d = students.weights.shape[-2:]
        w = students.weights.expand(*runs, p, d).reshape(count, p, d)
        a, b = (part.expand(*runs, p).reshape(count, p) for part in (students.outputs, students.biases))
        each = [Students(w[i], a[i], b[i], students.activation) for i in range(count)]
    found = []
    for one, neurons in zip(directions, each, strict=True):
        single = Target(target.link, target.covariance, one, target.noise, target.unrelated)
        kept = _neurons(single, neurons, activation)
        found.append(torch.stack([torch.stack([_mean_overlap(single, kept, n, g) for g in (0, 1)]) for n in sizes]))
    both = torch.stack(found, dim=1).reshape(len(sizes), *runs, 2, target.link.dim)
    return SquareCosines(both[..., 0, :], both[..., 1, :])


def _solve(target: Target, neurons: _Neurons, geometry: int, index: int, goal: float) -> float:
    """The n at which the overlap reaches a level; infinite where it does not by 10^15, one where it has by n = 1."""

    def miss(log_n: float) -> float:
        return float(_mean_overlap(target, neurons, math.exp(log_n), geometry)[index]) - goal

    low, high = 0.0, math.log(1e15)
    if miss(high) <= 0:
        return math.inf
    if miss(low) >= 0:
        return 1.0
    return math.exp(float(brentq(miss, low, high, xtol=1e-4, rtol=1e-9)))


def _balance(k: int, limit: float) -> float:
    """c with P E[X/(X + c)] = ½ for X = (χ²₁)^{k-1}, where P > ½."""
    if k == 1:
        return 2 * limit - 1
    log_xi = torch.arange(-40.0, 4.0, 0.02, dtype=torch.float64)  # a trapezoidal sum in log |ξ|
    xi = log_xi.exp()
    weight = xi * torch.exp(-xi.square() / 2)
    power = xi.pow(2 * (k - 1))

    def miss(log_c: float) -> float:
        return limit * float(weight @ (power / (power + math.exp(log_c))) / weight.sum()) - 0.5

    return math.exp(float(brentq(miss, -60.0 * k, 60.0 * k, xtol=1e-12)))
