r"""The population risk of a teacher–student pair under Gaussian inputs, in closed form, from the kernel of two weights.

For X ~ N(0, Σ) a squared loss sees a unit only through its kernel K(z, z') = E⟨σ_*(X; z), σ_*(X; z')⟩: with the signed
measure m = μ − μ* (student minus teacher),

    R(μ) = c E‖Φ_μ(X) − Φ_μ*(X)‖² = c∬K dm dm,        ∂R/∂μ(a) = 2c∫K(a, ·)dm.

Where a unit sees X through σ⟨a, X⟩ alone, K comes from the kernel k(a, b) = E σ⟨a, X⟩ σ⟨b, X⟩ of single weight
vectors: for σ(zx) it is the sum of k over rows of z, for W σ(Aᵀx) it is Σ_{hh'} ⟨W_h, W'_h'⟩ k(A_h, A'_h'). With
Σ^{1/2}a in place of a only N(0, I) matters. A :class:`WeightKernel` knows k and its gradient; second derivatives follow
by differentiating these.

References:
    Maass & Fontbona 2024, Appendix D, arXiv 2405.19995v3 (risks as functions of laws).
    Saad & Solla 1995, *On-line learning in soft committee machines*, Physical Review E 52(4) (the same for the erf).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from symfield.linalg import covariance_root, require_covariance, through_root
from symfield.meanfield.population import Population, block_hessians, check_cloud
from symfield.typing import Bool, Float, Tensor
from symfield.units import HiddenUnit, PointwiseUnit, Unit, check_shapes

__all__ = ["GaussianPopulation", "WeightKernel", "gaussian_teacher_student"]

_PAIRS = 2**18  # blocks of pairs that stay in the cache


class WeightKernel(ABC):
    """k(a, b) = E σ⟨a, X⟩ σ⟨b, X⟩ for X ~ N(0, I) and one activation σ; both methods differentiable by autograd.

    Attributes:
        activation: name of σ.
    """

    activation: str

    @abstractmethod
    def value(self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"]) -> Float[Tensor, "*r n m"]:
        """The matrix k(a_i, b_j).

        Args:
            a: weight vectors, ``(*r, n, d)``.
            b: weight vectors, ``(*r, m, d)``.

        Returns:
            The kernel, ``(*r, n, m)``.
        """

    @abstractmethod
    def pullback(
        self, a: Float[Tensor, "*#r n d"], b: Float[Tensor, "*#r m d"], u: Float[Tensor, "*#r n m"]
    ) -> Float[Tensor, "*r n d"]:
        """The gradients Σ_j u_ij ∇_a k(a_i, b_j).

        Args:
            a: weight vectors, ``(*r, n, d)``.
            b: weight vectors, ``(*r, m, d)``.
            u: covectors, ``(*r, n, m)``.

        Returns:
            Gradients, ``(*r, n, d)``.
        """

    def singular(self, a: Float[Tensor, "*r n d"]) -> Bool[Tensor, "*r n"]:
        """Where k(·, b) has no second derivative: nowhere.

        Args:
            a: weight vectors, ``(*r, n, d)``.

        Returns:
            A mask, ``(*r, n)``.
        """
        return torch.zeros(a.shape[:-1], dtype=torch.bool, device=a.device)


@dataclass(frozen=True, eq=False)
class GaussianPopulation(Population):
    """The exact population risk under Gaussian inputs.

    Made by :func:`~symfield.meanfield.gaussian_erf_population` or
    :func:`~symfield.meanfield.gaussian_relu_population`.

    Attributes:
        unit: ``PointwiseUnit(σ, ...)`` or ``HiddenUnit(σ, ..., bias=False)``.
        teacher: cloud of the teacher, float64 ``(m, p)``.
        root: a root L of the covariance, Σ = L Lᵀ.
        weight_kernel: k.
        scale: c, the factor of the squared loss.
        pairs: largest number of pairs of weight vectors treated at once, which bounds memory.
    """

    unit: PointwiseUnit | HiddenUnit
    teacher: Tensor
    root: Tensor
    weight_kernel: WeightKernel
    scale: float = 1.0
    pairs: int = _PAIRS

    def risk(self, z: Float[Tensor, "*r n p"]) -> Float[Tensor, "*r"]:
        """c∬K dm dm, exactly."""
        teacher = self.teacher.to(z.device).expand(*z.shape[:-2], -1, -1)
        return (self.potential(z, z).mean(-1) - self.potential(z, teacher).mean(-1)) / 2

    def potential(self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"]) -> Float[Tensor, "*r m"]:
        """2c∫K(a, ·)dm, exactly."""
        rows, weights = self._signed(z)
        points, coefficients = self._features(at)
        values = [
            ((c @ weights.mT) * self.weight_kernel.value(a, rows)).sum(-1)
            for a, c in self._pieces(points, coefficients, rows)
        ]
        by_row = torch.cat(values, dim=-1)  # (*r, s, m·h)
        return 2 * self.scale * by_row.unflatten(-1, (at.shape[-2], -1)).sum((-3, -1))

    def gradient(
        self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"] | None = None
    ) -> Float[Tensor, "*r m p"]:
        """2c∫∇_a K(a, ·)dm, exactly."""
        rows, weights = self._signed(z)
        points, coefficients = self._features(z if at is None else at)
        by_point, by_coefficient = [], []
        for a, c in self._pieces(points, coefficients, rows):
            by_point.append(self.weight_kernel.pullback(a, rows, c @ weights.mT))
            if isinstance(self.unit, HiddenUnit):
                by_coefficient.append(self.weight_kernel.value(a, rows) @ weights)
        pulled = torch.cat(by_point, dim=-2) @ self.root.to(z.device).mT
        return 2 * self.scale * self._particles(pulled, by_coefficient)

    def hessian_product(self, z: Float[Tensor, "n p"], v: Float[Tensor, "*k n p"]) -> Float[Tensor, "*k n p"]:
        """By differentiating the closed-form gradient, whose derivative is symmetric, some particles at a time."""
        self.check_smooth(z)
        total = torch.zeros_like(v)
        for some in torch.arange(len(z)).split(max(1, self.pairs // (v[..., 0].numel() + len(self.teacher)))):
            with torch.enable_grad():
                leaf = z.detach().expand(v.shape).clone().requires_grad_()
                along = (self.gradient(leaf, leaf[..., some, :]) * v[..., some, :]).sum()
                total = total + torch.autograd.grad(along, leaf)[0]
        return total

    def kernel(self, z: Float[Tensor, "*r n p"], w: Float[Tensor, "*r m p"]) -> Float[Tensor, "*r n m"]:
        """K(z_i, w_j) = E⟨σ_*(X; z_i), σ_*(X; w_j)⟩.

        Args:
            z: particles, ``(*r, n, p)``.
            w: particles, ``(*r, m, p)``.

        Returns:
            The kernel, ``(*r, n, m)``.
        """
        (a, c), (b, e) = self._features(z), self._features(w)
        by_row = (c @ e.mT) * self.weight_kernel.value(a, b)
        return by_row.unflatten(-1, (w.shape[-2], -1)).sum(-1).unflatten(-2, (z.shape[-2], -1)).sum((-4, -2))

    def curvature(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q q"]:
        """By differentiating the potential twice, some particles at a time."""
        self.check_smooth(z)
        size = max(1, self.pairs // (len(z) + len(self.teacher)))
        return torch.cat([block_hessians(partial(self.potential, z), some, directions) for some in z.split(size)])

    def coupling(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q n q"]:
        """2c ∂_z ∂_w K, by differentiating the kernel of every pair once in each argument, some particles at a time."""
        self.check_smooth(z)
        n, q = len(z), directions.shape[1]
        if q == 0:
            return z.new_zeros(n, 0, n, 0)
        blocks = [self._mixed(some, z, directions) for some in z.split(max(1, self.pairs // z.numel()))]
        return 2 * self.scale * torch.cat(blocks).movedim(2, 1)  # (n, n, q, q) -> (n, q, n, q)

    def check_smooth(self, z: Float[Tensor, "*r n p"]) -> None:
        """Refuse clouds with weight vectors at which the kernel has no second derivative (ReLU: of length zero).

        Args:
            z: cloud, float64 ``(*r, n, p)``.

        Raises:
            ValueError: with the first such particle.
        """
        check_cloud(self.unit, z)
        singular = self.weight_kernel.singular(self._features(z)[0])  # (*r, s, n·h)
        if bool(singular.any()):
            particle = int(singular.nonzero()[0, -1]) // (singular.shape[-1] // z.shape[-2])
            raise ValueError(
                f"the risk has no second derivative at particle {particle}: it has a weight vector of length zero, "
                f"where {self.unit!r} has a kink; move it, or leave such particles out"
            )

    def _mixed(self, some: Tensor, z: Tensor, directions: Tensor) -> Tensor:
        """Dᵀ ∂_z ∂_w K(z_i, z_j) D, shape ``(i, j, q, q)``: every pair is a run of its own."""
        with torch.enable_grad():
            left = some.detach().unsqueeze(1).expand(-1, len(z), -1).clone().requires_grad_()
            right = z.detach().expand(len(some), -1, -1).clone().requires_grad_()
            kernel = self.kernel(left.unsqueeze(-2), right.unsqueeze(-2)).sum()
            (slope,) = torch.autograd.grad(kernel, left, create_graph=True)
            along = (slope @ directions).sum((0, 1))
            rows = [torch.autograd.grad(value, right, retain_graph=True)[0] @ directions for value in along]
        return torch.stack(rows, dim=-2)

    def _signed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Weight vectors and coefficients of student minus teacher."""
        check_cloud(self.unit, z)
        student, teacher = self._features(z), self._features(self.teacher.to(z.device))
        runs = student[0].shape[:-2]
        rows = [student[0], teacher[0].expand(*runs, -1, -1)]
        weights = [student[1] / z.shape[-2], teacher[1].expand(*runs, -1, -1) / -len(self.teacher)]
        return torch.cat(rows, dim=-2), torch.cat(weights, dim=-2)

    def _features(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Every particle as h weight vectors with coefficients: whitened rows (*r, s, n·h, d), (*r, s, n·h, c)."""
        root = self.root.to(z.device)
        if isinstance(self.unit, PointwiseUnit):
            rows = through_root(z.unflatten(-1, (self.unit.out_dim, self.unit.in_dim)).movedim(-2, -3), root)
            return rows, torch.ones_like(rows[..., :1])
        w, a, _ = self.unit.unpack(z)
        return through_root(a.mT.flatten(-3, -2).unsqueeze(-3), root), w.mT.flatten(-3, -2).unsqueeze(-3)

    def _particles(self, rows: Tensor, coefficients: list[Tensor]) -> Tensor:
        """Gradients in weight vectors and coefficients, packed like a cloud."""
        if isinstance(self.unit, PointwiseUnit):
            return rows.movedim(-3, -2).flatten(-2)
        h = self.unit.hidden
        a = rows.squeeze(-3).unflatten(-2, (-1, h)).mT.flatten(-2)
        w = torch.cat(coefficients, dim=-2).squeeze(-3).unflatten(-2, (-1, h)).mT.flatten(-2)
        return torch.cat([w, a], dim=-1)

    def _pieces(self, points: Tensor, coefficients: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, self.pairs // rows[..., 0].numel())
        yield from zip(points.split(size, dim=-2), coefficients.split(size, dim=-2), strict=True)


def gaussian_teacher_student(
    weight_kernel: WeightKernel,
    unit: Unit,
    teacher: Float[Tensor, "m p"],
    covariance: float | Float[Tensor, "d d"] = 1.0,
    *,
    scale: float = 1.0,
) -> GaussianPopulation:
    """The exact population risk c E‖Φ_μ(X) − Φ_μ*(X)‖² for X ~ N(0, Σ), from a kernel of weight vectors.

    Args:
        weight_kernel: k for N(0, I).
        unit: ``PointwiseUnit(σ, d, o)`` or ``HiddenUnit(σ, d, o, hidden=h, bias=False)`` with the kernel's σ.
        teacher: cloud of the teacher μ*, ``(m, p)``.
        covariance: Σ, or a variance σ² for Σ = σ²I.
        scale: c.

    Returns:
        A population.

    Raises:
        ValueError: if the unit is not of these kinds, or shapes do not fit.

    Example:
        >>> from symfield.meanfield.gaussian_erf import ErfKernel
        >>> from symfield.units import PointwiseUnit, erf
        >>> teacher = torch.ones(1, 2, dtype=torch.float64)
        >>> gaussian_teacher_student(ErfKernel(), PointwiseUnit(erf, 2, 1), teacher).risk(teacher).item()
        0.0
    """
    name = weight_kernel.activation
    kinds = isinstance(unit, PointwiseUnit) or (isinstance(unit, HiddenUnit) and not unit.bias)
    if not isinstance(unit, PointwiseUnit | HiddenUnit) or not kinds or unit.activation.name != name:
        raise ValueError(
            f"expected PointwiseUnit({name}, ...) or HiddenUnit({name}, ..., bias=False), received {unit!r}; "
            "use sampled_population with gaussian_nodes for other units"
        )
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"expected a positive scale of the loss, received {scale}")
    identity = torch.eye(unit.in_dim, dtype=torch.float64)
    matrix = require_covariance(covariance if isinstance(covariance, Tensor) else covariance * identity, unit.in_dim)
    check_shapes(unit, identity, teacher)
    if teacher.ndim != 2 or not torch.isfinite(teacher).all():
        raise ValueError(f"expected a finite teacher of shape (m, {unit.dim}), received {tuple(teacher.shape)}")
    root = covariance_root(matrix, unit.in_dim)
    return GaussianPopulation(unit, teacher.detach().double(), root, weight_kernel, scale)
