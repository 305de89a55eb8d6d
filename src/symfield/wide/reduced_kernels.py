r"""The kernel of neurons as their angle with a subspace sees it: averaged over all rotations that keep the angle.

Let H = R^{d_H} be the first coordinates of R^d, n = d − d_H, and let θ be the angle of a unit neuron with H. Averaged
over the rotations of H and of its complement, with one coordinate q of a uniform point of S^{d_H−1} and s of S^{n−1},
two neurons interact through

    K(θ, θ') = E k1(cos θ cos θ' q + sin θ sin θ' s),        k1 the arc-cosine kernel of unit vectors.

K is even about both ends of [0, π/2], and smooth but for a term |θ−θ'|^{d+1} and the corners, where it is smooth up to
the power d_H + 2 at 0 and n + 2 at π/2. So a Chebyshev series in both angles represents it to round-off, with 48 terms
each unless a dimension is very small: :func:`radial_kernel` doubles the number of terms until the series agrees with a
finer quadrature, and keeps the difference.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771 (the
    kernel; they estimate it by Monte Carlo at every step). The series and the powers at its singularities: derived
    here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from numpy.polynomial import chebyshev

from symfield.typing import Float, Tensor
from symfield.wide.cosines import arc_cosine_profile
from symfield.wide.rotations import check_subspace, coordinate_nodes
from symfield.wide.targets import radial_mass

__all__ = [
    "RadialKernel",
    "direct_radial_kernel",
    "radial_kernel",
]

_DEGREES = (48, 96, 192, 384)
_TOLERANCE = 1e-12
_NODES, _FINE = 40, 64  # for each average: of the table, and of what it is compared with


@dataclass(frozen=True, eq=False, repr=False)
class RadialKernel:
    """K(θ, θ') as a Chebyshev series in both angles; made by :func:`radial_kernel`.

    Attributes:
        dim: d.
        subspace_dim: d_H.
        coefficients: C with K(θ, θ') = Σ_kl C_kl T_k(x) T_l(x'), x = 4θ/π − 1; symmetric, float64 ``(k, k)``.
        error: largest difference from a finer quadrature on a grid off the interpolation nodes.
    """

    dim: int
    subspace_dim: int
    coefficients: Tensor
    error: float
    _degrees: Tensor = field(init=False)
    _at_zero: Tensor = field(init=False)
    _forces: Tensor = field(init=False)

    def __post_init__(self) -> None:
        c = self.coefficients
        degrees = torch.arange(len(c), dtype=torch.float64)
        object.__setattr__(self, "_degrees", degrees)
        object.__setattr__(self, "_at_zero", self.mass * (1 - 2 * (degrees % 2)))  # α T_k(−1)
        object.__setattr__(self, "_forces", torch.cat([c, c @ _derivative(len(c)).mT], dim=-1))

    def __repr__(self) -> str:
        return (
            f"RadialKernel(d={self.dim}, d_H={self.subspace_dim}, {len(self.coefficients)} terms, "
            f"error={self.error:.1e})"
        )

    @property
    def mass(self) -> float:
        """α, with ‖x_H‖ = α ∫relu(⟨z, x_H⟩) over unit vectors z of H."""
        return radial_mass(self.subspace_dim)

    def basis(self, theta: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n k"]:
        """T_k at angles in [0, π/2]."""
        phase = torch.arccos((theta * (4 / math.pi) - 1).clamp(-1, 1))
        return torch.cos(phase.unsqueeze(-1) * self._degrees.to(phase))

    def __call__(self, theta: Float[Tensor, "*r n"], other: Float[Tensor, "*r m"]) -> Float[Tensor, "*r n m"]:
        """The matrix K(θ_i, θ'_j).

        Args:
            theta: angles in [0, π/2], ``(*r, n)``.
            other: angles in [0, π/2], ``(*r, m)``.

        Returns:
            The kernel, ``(*r, n, m)``.
        """
        return self.basis(theta) @ self.coefficients.to(theta) @ self.basis(other).mT

    def potential(
        self, theta: Float[Tensor, "*r n"], weights: Float[Tensor, "*r n"]
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n"]]:
        """G(θ_i) = αK(θ_i, 0) − Σ_j w_j K(θ_i, θ_j) and its derivative, in O(nk) operations.

        Angles that have left [0, π/2] are reflected into it, as K is even about both ends.

        Args:
            theta: angles, ``(*r, n)``.
            weights: signed masses w, ``(*r, n)``.

        Returns:
            G and V = dG/dθ, both ``(*r, n)``; V is exactly zero at both ends.
        """
        half = math.pi / 2
        basis = self.basis(half - (half - theta.abs()).abs())
        series = (self._residual(basis, weights) @ self._forces.to(theta)).unflatten(-1, (2, -1)).mT
        value, slope = (basis @ series).unbind(-1)
        return value, slope * theta.sign() * (half - theta).sign()

    def energy(self, theta: Float[Tensor, "*r n"], weights: Float[Tensor, "*r n"]) -> Float[Tensor, "*r"]:
        """½∬K d(τ − αδ_0)², the risk for unit variance.

        Args:
            theta: angles in [0, π/2], ``(*r, n)``.
            weights: signed masses w, ``(*r, n)``.

        Returns:
            The risk, ``(*r)``.
        """
        residual = self._residual(self.basis(theta), weights)
        return ((residual @ self.coefficients.to(theta)) * residual).sum(-1) / 2

    def _residual(self, basis: Tensor, weights: Tensor) -> Tensor:
        """Chebyshev moments of αδ_0 − τ, shape ``(*r, k)``."""
        return self._at_zero.to(basis) - (weights.unsqueeze(-2) @ basis).squeeze(-2)


@lru_cache(maxsize=64)
def radial_kernel(dim: int, subspace_dim: int, degree: int | None = None) -> RadialKernel:
    """The table of K for inputs in R^d and a subspace of dimension d_H; tables are kept, the last 64 of them.

    Args:
        dim: d.
        subspace_dim: d_H.
        degree: terms in each angle; when absent, 48, 96, 192 or 384, the first with an error below 1e-12 (for d = 2 and
            3 the kernel's own kink leaves more; see ``error``).

    Returns:
        The table.

    Raises:
        ValueError: unless 1 <= d_H <= d, or if the degree is below 4.

    Example:
        >>> kernel = radial_kernel(30, 5)
        >>> len(kernel.coefficients), kernel.error < 1e-12
        (48, True)
    """
    check_subspace(dim, subspace_dim)
    if degree is not None and degree < 4:
        raise ValueError(f"expected a degree of at least 4, received {degree}")
    ends = torch.tensor([0.0, 1e-3, 1e-2], dtype=torch.float64)
    grid = torch.cat([ends, torch.linspace(0.05, math.pi / 2 - 0.04, 8, dtype=torch.float64), math.pi / 2 - ends])
    rows, columns = torch.triu_indices(len(grid), len(grid)).unbind()
    exact = _average(dim, subspace_dim, grid[rows], grid[columns], _FINE)
    kernel = None
    for terms in _DEGREES if degree is None else (degree,):
        coefficients = _series(dim, subspace_dim, terms)
        draft = RadialKernel(dim, subspace_dim, coefficients, math.nan)
        kernel = RadialKernel(
            dim, subspace_dim, coefficients, float((draft(grid, grid)[rows, columns] - exact).abs().max())
        )
        if kernel.error < _TOLERANCE:
            break
    assert kernel is not None
    return kernel


def direct_radial_kernel(
    dim: int, subspace_dim: int, theta: Float[Tensor, "*b"], other: Float[Tensor, "*b"], *, order: int = 200
) -> Float[Tensor, "*b"]:
    """K(θ, θ') by quadrature, pair by pair: slow, and the reference for the table.

    Args:
        dim: d.
        subspace_dim: d_H.
        theta: angles, float64 ``(*b)``.
        other: angles, the same shape.
        order: nodes for each of the two averages.

    Returns:
        The kernel, ``(*b)``.

    Raises:
        ValueError: unless 1 <= d_H <= d.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> round(direct_radial_kernel(9, 1, zero, zero).item(), 12)  # (k1(1) + k1(-1)) / 2
        0.25
    """
    check_subspace(dim, subspace_dim)
    return _average(dim, subspace_dim, theta.reshape(-1), other.reshape(-1), order).reshape(theta.shape)


def _average(dim: int, subspace_dim: int, theta: Tensor, other: Tensor, order: int) -> Tensor:
    """E k1(cos θ cos θ' q + sin θ sin θ' s) for vectors of angles; k1 − r/4 is even, so that q >= 0 suffices."""
    (q, w), (s, v) = coordinate_nodes(subspace_dim, order), coordinate_nodes(dim - subspace_dim, order)
    along, across = theta.cos() * other.cos(), (theta.sin() * other.sin()).unsqueeze(-1) * s
    total = torch.zeros_like(along)
    for node, weight in zip(q.tolist(), w.tolist(), strict=True):
        if node >= 0:
            r = (along * node).unsqueeze(-1) + across
            total += (weight if node == 0 else 2 * weight) * ((arc_cosine_profile(r) - r / 4) @ v)
    return total


def _series(dim: int, subspace_dim: int, terms: int) -> Tensor:
    """Chebyshev coefficients of K by interpolation at Chebyshev nodes, with derivative zero at both ends."""
    phase = (torch.arange(terms, dtype=torch.float64) + 0.5) * (math.pi / terms)
    theta = (1 + phase.cos()) * (math.pi / 4)
    rows, columns = torch.triu_indices(terms, terms).unbind()
    values = torch.zeros(terms, terms, dtype=torch.float64)
    values[rows, columns] = _average(dim, subspace_dim, theta[rows], theta[columns], _NODES)
    values[columns, rows] = values[rows, columns]
    k = torch.arange(terms, dtype=torch.float64)
    transform = torch.cos(k[:, None] * phase) * (2 / terms)
    transform[0] /= 2
    level = _level(terms)
    coefficients = level @ transform @ values @ transform.mT @ level.mT
    return (coefficients + coefficients.mT) / 2


def _level(terms: int) -> Tensor:
    """Changes the last two coefficients of a series so that Σ_k c_k T_k'(±1) = 0; T_k'(±1) = (±1)^{k−1}k²."""
    k = torch.arange(terms, dtype=torch.float64)
    square, odd = k.square(), torch.arange(terms) % 2 == 1
    matrix = torch.eye(terms, dtype=torch.float64)
    for last in (terms - 1, terms - 2):
        same = odd if last % 2 else ~odd
        matrix[last] = torch.where(same, -square / square[last], 0.0)
        matrix[last, last] = 0.0
    return matrix


@lru_cache(maxsize=8)
def _derivative(terms: int) -> Tensor:
    """D with Σ_k (Dc)_k T_k(x) = d/dθ Σ_k c_k T_k(x), x = 4θ/π − 1."""
    columns = chebyshev.chebder(torch.eye(terms, dtype=torch.float64).numpy(), scl=4 / math.pi)
    return torch.cat([torch.from_numpy(columns), torch.zeros(1, terms, dtype=torch.float64)])
