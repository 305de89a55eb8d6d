r"""Will a free network leave E^G, and how fast? The second variation of the risk transversally to E^G.

At a strongly invariant cloud with invariant risk all particle gradients lie in E^G, so E^G is never left exactly
(Maass & Fontbona 2024, Theorem 5). Whether it is left in practice is decided by small perturbations δ_i ∈ (E^G)^⊥,
which follow the linearised flow dδ/dt = −ς(t) A δ with the *transverse operator*

    (Aδ)_i = (∇²V(z_i) + 2τ) δ_i + (1/n) Σ_j K_ij δ_j        on ((E^G)^⊥)^n,

V = ∂R/∂μ(μ, ·) and K_ij = E[J_iᵀ ∇²₁ℓ J_j] (see :mod:`symfield.meanfield.population`): n times the Hessian of R^τ in
the particles. Negative eigenvalues λ are directions that grow like e^{|λ|∫ς}.

Two facts help to read a report. K is positive semi-definite, so A has at most as many negative eigenvalues as its local
part, and a locally stable cloud is stable. Under feature averaging K vanishes on (E^G)^⊥ (the averaged network does not
see δ to first order), so FA is the least stable of the schemes. In the limit n → ∞ the coupling is a compact operator:
it leaves the essential range of the local eigenvalues in the spectrum, so a continuous law whose local part is negative
somewhere is unstable whatever the coupling.

References:
    Maass & Fontbona 2024, Theorem 5 and Proposition 4, arXiv 2405.19995v3.
    Kato 1966, *Perturbation Theory for Linear Operators*, Theorem IV.5.35 (Weyl: compact perturbations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from symfield.linalg import Subspace
from symfield.meanfield.gradient_flow import Rate, pace_of, require_inside, velocity
from symfield.meanfield.population import Population, check_cloud
from symfield.ode import Adaptive, solve, time_grid
from symfield.typing import Float, Tensor

__all__ = ["StabilityReport", "TransverseGrowth", "transverse_growth", "transverse_operator", "transverse_stability"]

_DENSE = 3000
_NEGLIGIBLE = 1e-12
_LANCZOS = 1e-6  # relative residual; the error of the eigenvalue is its square


@dataclass(frozen=True, eq=False, repr=False)
class StabilityReport:
    """What small perturbations off E^G do at one strongly invariant cloud.

    Attributes:
        spectrum: eigenvalues of the transverse operator A, ascending, float64 ``(k,)``; all n·q of them when
            ``complete``, only the lowest one otherwise.
        local: eigenvalues of its local part ∇²V(z_i) + 2τ on (E^G)^⊥, ascending for each particle, ``(n, q)``.
        direction: the least stable perturbation, ``(n, p)``, with mean square (1/n)Σ‖δ_i‖² = 1.
        drift: root mean square of the gradient's component off E^G; zero when the risk is invariant.
        rate: ς.
        complete: whether ``spectrum`` holds every eigenvalue.
        tolerance: eigenvalues above −tolerance count as stable, drifts below it as zero.
    """

    spectrum: Tensor
    local: Tensor
    direction: Tensor
    drift: float
    rate: float
    complete: bool
    tolerance: float

    def __repr__(self) -> str:
        verdict = "leaves" if self.leaves else "stays"
        more = "" if self.complete else "at most "
        return (
            f"StabilityReport({verdict}: lowest={self.lowest:.4g}, growth={self.growth:.4g}, "
            f"unstable={more}{self.unstable} of {self.local.numel()}, drift={self.drift:.2g})"
        )

    @property
    def lowest(self) -> float:
        """The least eigenvalue λ_min; infinite when E^G is the whole space."""
        return float(self.spectrum[0]) if len(self.spectrum) else math.inf

    @property
    def growth(self) -> float:
        """The growth rate max(0, −λ_min) ς of the least stable perturbation, in units of 1/t."""
        return max(0.0, -self.lowest) * self.rate

    @property
    def unstable(self) -> int:
        """Number of growing directions; an upper bound (that of the local part) when not ``complete``."""
        return int(((self.spectrum if self.complete else self.local) < -self.tolerance).sum())

    @property
    def leaves(self) -> bool:
        """Whether a free network leaves E^G from here: by drift at once, or by instability after a perturbation."""
        return self.drift > self.tolerance or self.lowest < -self.tolerance

    def escape_time(self, initial: float, threshold: float) -> float:
        """When a perturbation of size ``initial`` reaches ``threshold``, in the linear regime with a frozen background.

        Solves dx/dt = −ςλ_min x + ς·drift: with no drift log(threshold/initial)/growth. SGD started exactly in E^G has
        an ``initial`` given by its noise, about √(ε/B): the escape time then grows like ½ log(1/ε).

        Args:
            initial: root mean square distance of the particles from E^G at t = 0.
            threshold: the distance that counts as having left.

        Returns:
            The time; infinite if the threshold is never reached.

        Raises:
            ValueError: if ``threshold`` is not positive, or ``initial`` is negative.

        References:
            Maass & Fontbona 2024, Theorem 5, for what E^G does with no perturbation, arXiv 2405.19995v3.
        """
        if not (threshold > 0 and initial >= 0):
            raise ValueError(f"expected initial >= 0 and threshold > 0, received {initial} and {threshold}")
        if initial >= threshold:
            return 0.0
        drift = self.rate * self.drift if self.drift > self.tolerance else 0.0
        speed = -self.rate * self.lowest if math.isfinite(self.lowest) else 0.0
        if abs(self.lowest) <= self.tolerance or speed == 0.0:
            return (threshold - initial) / drift if drift > 0 else math.inf
        start, end = initial + drift / speed, threshold + drift / speed
        ratio = end / start if start != 0 else math.inf
        return math.log(ratio) / speed if 0 < ratio < math.inf and (ratio > 1) == (speed > 0) else math.inf


@dataclass(frozen=True, eq=False, repr=False)
class TransverseGrowth:
    """Infinitesimal perturbations off E^G carried along the flow.

    Attributes:
        times: t_k, float64 ``(t,)``.
        states: the strongly invariant cloud, ``(t, n, p)``.
        perturbations: δ at these times, ``(t, *k, n, p)``; linear in the initial one.
        norm: root mean square ((1/n)Σ‖δ_i‖²)^{1/2}, ``(t, *k)``.
    """

    times: Tensor
    states: Tensor
    perturbations: Tensor
    norm: Tensor

    @property
    def amplification(self) -> Tensor:
        """The factor norm(t)/norm(0), ``(t, *k)``, when the first time is 0."""
        return self.norm / self.norm[0]

    def __repr__(self) -> str:
        return (
            f"TransverseGrowth({len(self.times)} times up to t={self.times[-1]:g}, "
            f"largest amplification {float(self.amplification[-1].max()):.4g})"
        )


def transverse_operator(
    z: Float[Tensor, "*r n p"], population: Population, subspace: Subspace, *, tau: float = 0.0
) -> Float[Tensor, "m m"]:
    """The transverse operator A as a dense symmetric matrix in coordinates of ((E^G)^⊥)^n.

    Args:
        z: strongly invariant cloud, float64 ``(n, p)``.
        population: R.
        subspace: E^G.
        tau: weight τ of the regulariser ‖z‖².

    Returns:
        A, float64 ``(n·q, n·q)``, q = p − dim E^G, particles outermost, in the basis ``subspace.complement().basis``.

    Raises:
        ValueError: if the cloud is not in the subspace.

    Example:
        >>> from symfield.meanfield import gaussian_erf_population
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.ones(1, 2, dtype=torch.float64)
        >>> population = gaussian_erf_population(PointwiseUnit(erf, 2, 1), teacher)
        >>> line = Subspace.from_orbits(torch.tensor([0, 0]))
        >>> transverse_operator(teacher, population, line) > 0  # at the teacher itself: positive
        tensor([[True]])
    """
    _check(z, population, subspace, tau)
    directions = subspace.complement().basis.to(z.device)
    n, q = len(z), directions.shape[1]
    full = population.coupling(z, directions) / n
    full = full + torch.einsum("ij,iab->iajb", torch.eye(n).to(z), _local(z, population, directions, tau))
    flat = full.reshape(n * q, n * q)
    return (flat + flat.mT) / 2


def transverse_stability(
    z: Float[Tensor, "*r n p"],
    population: Population,
    subspace: Subspace,
    *,
    tau: float = 0.0,
    rate: float = 1.0,
    dense: int = _DENSE,
    tolerance: float = 1e-9,
) -> StabilityReport:
    """Whether, and how fast, a free network leaves E^G from a strongly invariant cloud.

    Args:
        z: strongly invariant cloud, float64 ``(n, p)``.
        population: R; for the coupling of DA, FA or EA, built from their objectives.
        subspace: E^G.
        tau: weight τ of the regulariser ‖z‖².
        rate: ς at the moment that is asked about.
        dense: up to this many transverse coordinates n·q the whole spectrum is computed; beyond it the lowest
            eigenvalue by Lanczos, from Hessian–vector products.
        tolerance: what counts as zero, for eigenvalues and drift.

    Returns:
        A :class:`StabilityReport`.

    Raises:
        ValueError: if the cloud is not in the subspace (the message gives the distance), or an argument is wrong.
        NotImplementedError: if the unit has a kink (ReLU) whose curvature the population's nodes cannot see;
            :func:`~symfield.meanfield.gaussian_relu_population` sees it, unless a weight vector is zero.

    Example:
        >>> from symfield.meanfield import gaussian_erf_population
        >>> from symfield.units import HiddenUnit, erf
        >>> teacher = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)  # W = 1, A = (1, 0)
        >>> population = gaussian_erf_population(HiddenUnit(erf, 2, 1, bias=False), teacher)
        >>> line = Subspace.from_orbits(torch.tensor([0, 1, -1]))           # A₂ = 0: the reflection of x₂
        >>> transverse_stability(teacher, population, line).leaves
        False
        >>> transverse_stability(-teacher / 2, population, line)
        StabilityReport(stays: lowest=..., growth=0, unstable=0 of 1, drift=0)

    References:
        Maass & Fontbona 2024, Theorem 5 and Proposition 4, arXiv 2405.19995v3.
    """
    _check(z, population, subspace, tau)
    pace = pace_of(float(rate))(0.0)
    gradient = velocity(z, population, tau=tau)
    drift = float((gradient - subspace.project(gradient)).square().sum(-1).mean().sqrt())
    directions = subspace.complement().basis.to(z.device)
    n, q = len(z), directions.shape[1]
    local = torch.linalg.eigvalsh(_local(z, population, directions, tau)) if q else z.new_zeros(n, 0)
    if n * q == 0:
        spectrum, vector, complete = z.new_zeros(0), z.new_zeros(n, 0), True
    elif n * q <= dense:
        values, vectors = torch.linalg.eigh(transverse_operator(z, population, subspace, tau=tau))
        spectrum, vector, complete = values, vectors[:, 0].reshape(n, q), True
    else:
        (spectrum, vector), complete = _lowest(z, population, directions, tau), False
    direction = (vector @ directions.mT) * math.sqrt(n)
    return StabilityReport(spectrum, local, direction, drift, pace, complete, tolerance)


def transverse_growth(
    z0: Float[Tensor, "*r n p"],
    perturbation: Float[Tensor, "..."],
    population: Population,
    subspace: Subspace,
    *,
    times: Sequence[float] | Float[Tensor, " t"],
    tau: float = 0.0,
    rate: Rate = 1.0,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> TransverseGrowth:
    """Carry perturbations off E^G along the flow: dz/dt = −ςv(z) in E^G together with dδ/dt = −ςA(z(t))δ.

    The rate at the end of training need not describe what happened on the way; this does. The amplification never
    exceeds exp(−∫ς λ_min(z(t)) dt), and reaches it only if the least stable direction stands still.

    Args:
        z0: strongly invariant cloud at t = 0, float64 ``(n, p)``.
        perturbation: δ at t = 0, one or many, ``(*k, n, p)``; its component off E^G is used, its size does not matter.
        population: R, invariant; otherwise the cloud follows the projected gradient.
        subspace: E^G.
        times: increasing times ≥ 0; begin with 0 to read amplifications.
        tau: weight τ of the regulariser ‖z‖².
        rate: ς, a number or a function of time.
        rtol: relative tolerance of the solver.
        atol: absolute tolerance of the solver, for perturbations scaled to mean square 1.

    Returns:
        A :class:`TransverseGrowth`.

    Raises:
        ValueError: if the cloud is not in the subspace, or a perturbation has no component off it.
        ArithmeticError: if the flow blows up.

    Example:
        >>> from symfield.meanfield import gaussian_erf_population
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
        >>> population = gaussian_erf_population(PointwiseUnit(erf, 2, 1), teacher)
        >>> line = Subspace.from_orbits(torch.tensor([0, 0]))  # the swap's E^G
        >>> start = torch.full((2, 2), 0.1, dtype=torch.float64)
        >>> apart = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> transverse_growth(start, apart, population, line, times=[0.0, 5.0, 10.0])
        TransverseGrowth(3 times up to t=10, largest amplification 29.94)
    """
    _check(z0, population, subspace, tau)
    if perturbation.shape[-2:] != z0.shape:
        raise ValueError(
            f"expected perturbations of shape (..., {tuple(z0.shape)}), received {tuple(perturbation.shape)}"
        )
    grid = time_grid(times)
    pace, across = pace_of(rate), subspace.complement()
    start, delta = subspace.coordinates(z0), across.coordinates(perturbation.to(z0))
    scale = _mean_square(delta).sqrt()
    if not bool((scale > _NEGLIGIBLE * _mean_square(perturbation.to(z0)).sqrt()).all()):
        raise ValueError("expected perturbations with a component off the subspace, received one inside it")
    first, shape = start.numel(), delta.shape

    def slope(t: float, state: Tensor) -> Tensor:
        cloud = subspace.embed(state[:first].reshape(start.shape))
        small = across.embed(state[first:].reshape(shape))
        inside = subspace.coordinates(velocity(cloud, population, tau=tau))
        outside = across.coordinates(population.hessian_product(cloud, small) + 2 * tau * small)
        return -pace(t) * torch.cat([inside.reshape(-1), outside.reshape(-1)])

    packed = torch.cat([start.reshape(-1), (delta / scale[..., None, None]).reshape(-1)])
    states = solve(slope, packed, grid, method=Adaptive(rtol, atol)).states
    clouds = subspace.embed(states[:, :first].reshape(-1, *start.shape))
    carried = states[:, first:].reshape(-1, *shape) * scale[..., None, None]
    return TransverseGrowth(grid, clouds, across.embed(carried), _mean_square(carried).sqrt())


def _mean_square(delta: Tensor) -> Tensor:
    return delta.square().sum(-1).mean(-1)


def _local(z: Tensor, population: Population, directions: Tensor, tau: float) -> Tensor:
    """∇²V(z_i) + 2τ on the directions, symmetric, ``(n, q, q)``."""
    blocks = population.curvature(z, directions)
    return (blocks + blocks.mT) / 2 + 2 * tau * torch.eye(directions.shape[1]).to(z)


def _lowest(z: Tensor, population: Population, directions: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The least eigenvalue and its vector by Lanczos, from Hessian–vector products."""
    n, q = len(z), directions.shape[1]

    def apply(flat: np.ndarray) -> np.ndarray:
        delta = torch.as_tensor(flat.reshape(n, q)).to(z) @ directions.mT
        product = (population.hessian_product(z, delta) + 2 * tau * delta) @ directions
        return product.reshape(-1).cpu().numpy()

    operator = LinearOperator((n * q, n * q), matvec=apply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n * q)  # any start does; a fixed one makes the result repeatable
    values, vectors = eigsh(operator, k=1, which="SA", v0=start, tol=_LANCZOS)
    return torch.as_tensor(values).to(z), torch.as_tensor(vectors[:, 0].copy()).to(z).reshape(n, q)


def _check(z: Tensor, population: Population, subspace: Subspace, tau: float) -> None:
    if z.ndim != 2:
        raise ValueError(f"expected one cloud (n, p), received {tuple(z.shape)}; ask about one run at a time")
    check_cloud(population.unit, z)
    if not torch.isfinite(z).all():
        raise ValueError("expected a finite cloud, received NaN or infinity")
    if not (tau >= 0 and math.isfinite(tau)):
        raise ValueError(f"expected a finite tau >= 0, received {tau}")
    require_inside(z, subspace)
    population.check_smooth(z)
