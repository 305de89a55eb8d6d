r"""Target functions, by what the flow needs of them: g*(b) = E f*(X) relu⟨b, X⟩, its gradient, and E f*².

Exact, at the cost of a kernel or less:

- :class:`ReLUTeacher`, Σ_k a_k relu⟨b_k, x⟩, with sums of absolute values Σ_k a_k |⟨b_k, x⟩| among them;
- :class:`Radial`, the length ‖x_H‖ of the first d_H coordinates, by

      E ‖X_H‖ relu⟨b, X⟩ = α |b| κ(|b_H|/|b|),   κ(c) = ₂F₁(−½, −½; d_H/2; c²)/2π,   α = 2√π Γ((d_H+1)/2)/Γ(d_H/2);

- :class:`~symfield.wide.OddTarget`, any odd f*, through its first moment.

Everything else is a :class:`~symfield.wide.SampledTarget`.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771. The
    hypergeometric form of κ is derived here: √(1−r²) + r arcsin r = ₂F₁(−½, −½; ½; r²), and the moments of one
    coordinate of a uniform point on S^{n−1} are E q^{2k} = (½)_k/(n/2)_k.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy.special import hyp2f1

from symfield.typing import Float, Tensor
from symfield.wide.inputs import Inputs
from symfield.wide.kernels import arc_cosine, arc_cosine_force

__all__ = [
    "Radial",
    "ReLUTeacher",
    "Target",
    "radial_correlation",
    "radial_mass",
    "require_target",
]


class Target(ABC):
    """A function f*: R^d → R that a flow can follow.

    Attributes:
        dim: d.
        smooth: whether the force is continuous in b away from 0, as an adaptive method in time needs.
    """

    dim: int
    smooth: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """f*(x)."""

    @abstractmethod
    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """g*(b) = E f*(X) relu⟨b, X⟩ together with its gradient E f*(X) 1{⟨b, X⟩ > 0} X.

        Args:
            b: weight vectors, ``(*r, n, d)``.
            inputs: law of X.

        Returns:
            Values ``(*r, n)`` and gradients ``(*r, n, d)``.
        """

    @abstractmethod
    def energy(self, inputs: Inputs) -> float:
        """E f*(X)².

        Args:
            inputs: law of X.

        Returns:
            The second moment.
        """

    def correlation(self, b: Float[Tensor, "*r n d"], inputs: Inputs) -> Float[Tensor, "*r n"]:
        """g*(b) = E f*(X) relu⟨b, X⟩.

        Args:
            b: weight vectors, ``(*r, n, d)``.
            inputs: law of X.

        Returns:
            Values, ``(*r, n)``.
        """
        return self.force(b, inputs)[0]

    def require(self, inputs: Inputs) -> None:
        """Refuse inputs of another dimension.

        Args:
            inputs: law of X.

        Raises:
            ValueError: if dimensions differ.
        """
        if inputs.dim != self.dim:
            raise ValueError(f"expected inputs of dimension {self.dim} for {self!r}, received {inputs!r}")


@dataclass(frozen=True, eq=False, repr=False)
class ReLUTeacher(Target):
    """f*(x) = Σ_k a_k relu⟨b_k, x⟩, without a factor 1/k.

    Attributes:
        a: output weights, ``(k)``.
        b: input weights, ``(k, d)``.

    Raises:
        ValueError: if shapes or dtypes differ, there is no unit, or a weight is not finite.

    Example:
        >>> from symfield.wide import Gaussian
        >>> relu = ReLUTeacher(torch.ones(1), torch.tensor([[1.0, 0.0]]))
        >>> relu(torch.tensor([[3.0, 1.0], [-3.0, 1.0]])).tolist(), relu.energy(Gaussian(2))
        ([3.0, 0.0], 0.5)
    """

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        a, b = self.a, self.b
        if a.ndim != 1 or b.ndim != 2 or len(a) != len(b) or b.numel() == 0 or a.dtype != b.dtype:
            raise ValueError(
                "expected a teacher's weights a (k) and b (k, d) of one dtype, k >= 1, received "
                f"{tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
            )
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise ValueError("expected a teacher with finite weights, received NaN or infinity")

    @classmethod
    def absolute_values(cls, a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> ReLUTeacher:
        """Σ_k a_k |⟨b_k, x⟩|, with two units each.

        Args:
            a: output weights, ``(k)``.
            b: input weights, ``(k, d)``.

        Returns:
            The teacher with 2k units.

        Raises:
            ValueError: if the weights are no teacher's.

        Example:
            >>> difference = ReLUTeacher.absolute_values(torch.tensor([1.0, -1.0]), torch.eye(2))
            >>> difference(torch.tensor([[-3.0, 2.0]]))
            tensor([1.])
        """
        return cls(torch.cat([a, a]), torch.cat([b, -b]))

    def __repr__(self) -> str:
        return f"ReLUTeacher({len(self.a)} units on R^{self.dim})"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Dimension d of the inputs."""
        return self.b.shape[1]

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Σ_k a_k relu⟨b_k, x⟩."""
        return torch.relu(x @ self.b.to(x).mT) @ self.a.to(x)

    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """By the arc-cosine kernel."""
        return arc_cosine_force(b, self.b.to(b), self.a.to(b), inputs)

    def energy(self, inputs: Inputs) -> float:
        """Σ_kl a_k a_l E relu relu."""
        self.require(inputs)
        a, b = self.a.double(), self.b.double()
        return float(a @ arc_cosine(b, b, inputs) @ a)


@dataclass(frozen=True)
class Radial(Target):
    """f*(x) = ‖x_H‖, the length of the first d_H coordinates.

    Exact when these have covariance v·I, whatever the covariance of the others and with them.

    Attributes:
        dim: d.
        subspace_dim: d_H.

    Raises:
        ValueError: unless 1 ≤ d_H ≤ d.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target = Radial(3, 2)
        >>> target(torch.tensor([3.0, 4.0, 9.0])).item(), target.energy(Gaussian(3))
        (5.0, 2.0)
    """

    dim: int
    subspace_dim: int

    def __post_init__(self) -> None:
        if not 1 <= self.subspace_dim <= self.dim:
            raise ValueError(f"expected 1 <= subspace_dim <= dim, received {self.subspace_dim} and {self.dim}")

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """‖x_H‖."""
        return x[..., : self.subspace_dim].norm(dim=-1)

    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """α |b| κ(cos θ), with the angle θ between ⟨b, X⟩ and the span of X_H in L²."""
        dim_h, v = self.subspace_dim, self._variance(inputs)
        length = (white := inputs.whiten(b)).norm(dim=-1)
        unit = white / torch.where(length > 0, length, 1.0).unsqueeze(-1)
        # ⟨b, X⟩ = |S^{1/2}b| ⟨unit, Z⟩ and X_H = √v R Z with orthonormal rows R, so R S^{1/2} b = (Sb)_H/√v
        image = inputs.whiten(unit)[..., :dim_h] / math.sqrt(v)
        cosine = image.norm(dim=-1).clamp_max(1.0)
        value, slope_over_c = radial_correlation(cosine, dim_h)
        # ∇ of |w| κ(|Rw|/|w|) is κ u + κ'(c)(R'Ru/c − c u), with κ' = c · slope_over_c
        inside = torch.zeros_like(unit)
        inside[..., :dim_h] = image / math.sqrt(v)
        along = (value - cosine.square() * slope_over_c).unsqueeze(-1) * inputs.whiten(unit)
        across = slope_over_c.unsqueeze(-1) * inputs.whiten(inputs.whiten(inside))
        mass = math.sqrt(v) * radial_mass(dim_h)
        return mass * length * value, mass * (along + across)

    def energy(self, inputs: Inputs) -> float:
        """d_H v."""
        return self.subspace_dim * self._variance(inputs)

    def _variance(self, inputs: Inputs) -> float:
        self.require(inputs)
        if inputs.variance is not None:
            return inputs.variance
        block = inputs.covariance(torch.zeros((), dtype=torch.float64))[: self.subspace_dim, : self.subspace_dim]
        v = float(block[0, 0])
        if not (v > 0 and bool((block - v * torch.eye(self.subspace_dim).to(block)).abs().max() <= 1e-12 * v)):
            raise ValueError(
                f"expected the first {self.subspace_dim} coordinates with covariance v·I, received {inputs!r}; use "
                f"SampledTarget({self!r}, inputs.nodes(...))"
            )
        return v


def require_target(target: object, inputs: Inputs) -> None:
    """Refuse what is no target for these inputs.

    Args:
        target: f*.
        inputs: law of X.

    Raises:
        TypeError: if it is no :class:`Target`, a bare function for example.
        ValueError: if dimensions differ, or the target was made for another law.

    Example:
        >>> from symfield.wide import Gaussian
        >>> require_target(Radial(3, 1), Gaussian(3))
    """
    if not isinstance(target, Target):
        raise TypeError(
            f"expected a Target, received {target!r}; a function becomes one by "
            "SampledTarget(function, inputs.nodes(...)), or by OddTarget.integrated where it is odd"
        )
    target.require(inputs)


def radial_mass(subspace_dim: int) -> float:
    """α = 2√π Γ((n+1)/2)/Γ(n/2): α relu units with directions uniform on S^{n−1} add up to ‖x‖ on R^n.

    Args:
        subspace_dim: n.

    Returns:
        α.

    Raises:
        ValueError: if n is not positive.

    Example:
        >>> [round(radial_mass(n), 4) for n in (1, 2, 5, 10, 20)]
        [2.0, 3.1416, 5.3333, 7.7313, 11.0708]
    """
    if subspace_dim < 1:
        raise ValueError(f"expected a subspace of dimension >= 1, received {subspace_dim}")
    n = subspace_dim
    return 2 * math.sqrt(math.pi) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))


def radial_correlation(
    cosine: Float[Tensor, "..."], subspace_dim: int
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """κ(c) = E k1(c q) for a coordinate q of a uniform point on S^{n−1}, and κ'(c)/c.

    With k1 the arc-cosine profile, E ‖X_H‖ relu⟨u, X⟩ = α κ(|u_H|) for unit vectors u and X ~ N(0, I). Closed forms:
    κ(c) = ₂F₁(−½, −½; n/2; c²)/2π and κ'(c)/c = ₂F₁(½, ½; n/2 + 1; c²)/2πn.

    Args:
        cosine: c in [0, 1].
        subspace_dim: n.

    Returns:
        κ(c) and κ'(c)/c, of the shape of ``cosine``; differentiable.

    Raises:
        ValueError: if n is not positive, or a cosine lies outside [0, 1].

    Example:
        >>> value, slope = radial_correlation(torch.ones(1).double(), 5)
        >>> abs(value.item() - 5 / radial_mass(5) ** 2) < 1e-15  # E ‖X_H‖² = n
        True
    """
    n = subspace_dim
    if n < 1 or not bool(((cosine >= 0) & (cosine <= 1)).all()):
        raise ValueError(f"expected cosines in [0, 1] and a dimension >= 1, received dimension {n} and {cosine}")
    square = cosine.double().square()
    value = _Hypergeometric.apply(square, -0.5, -0.5, n / 2) / (2 * math.pi)
    slope = _Hypergeometric.apply(square, 0.5, 0.5, n / 2 + 1) / (2 * math.pi * n)
    return value.to(cosine), slope.to(cosine)


class _Hypergeometric(torch.autograd.Function):
    """₂F₁(a, b; c; x) elementwise, differentiable in x; derivatives are zero where they are infinite, at x = 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float, b: float, c: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.parameters = a, b, c
        return torch.as_tensor(hyp2f1(a, b, c, x.detach().cpu().numpy())).to(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,), (a, b, c) = ctx.saved_tensors, ctx.parameters
        slope = a * b / c * _Hypergeometric.apply(x, a + 1, b + 1, c + 1)
        return grad * torch.where(slope.isfinite(), slope, 0.0), None, None, None
