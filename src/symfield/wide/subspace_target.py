r"""Any function of a few coordinates as a target, integrated over these coordinates alone.

For X ~ N(0, S) with X_H and X_⊥ independent, and Φ, φ the law and density of N(0, 1),

    E f_H(X_H) relu⟨b, X⟩ = E f_H(X_H) [pΦ(p/σ) + σφ(p/σ)],    p = ⟨b_H, X_H⟩,    σ² = Var⟨b_⊥, X_⊥⟩,

an integral over R^{d_H} of a function without the ReLU's kink unless σ = 0. Gradients: f_H x_H Φ and f_H φ S_⊥b_⊥/σ.

References:
    Derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from symfield.quadrature import Nodes
from symfield.typing import Float, Tensor
from symfield.wide.inputs import Gaussian, Inputs
from symfield.wide.rotations import check_subspace
from symfield.wide.sampled_target import evaluate, require_nodes
from symfield.wide.targets import Target

__all__ = ["SubspaceTarget"]

_ENTRIES = 2**22


@dataclass(frozen=True, eq=False, repr=False)
class SubspaceTarget(Target):
    """f*(x) = f_H(x_H) for any function of the first d_H coordinates; for Gaussian inputs.

    Attributes:
        function: f_H, ``(*b, d_H) -> (*b)``, without gradients.
        dim: d.
        nodes: weighted nodes of the law of X_H, for example ``Gaussian(d_H).nodes(size)``; smooth functions in up to
            three coordinates reach round-off with some hundreds of Gauss–Hermite nodes.

    Raises:
        ValueError: if the function's values have another shape or are not finite, or the nodes have more coordinates
            than x.

    Example:
        >>> wave = SubspaceTarget(lambda x: x[..., 0].cos(), 20, Gaussian(1).nodes(60))
        >>> wave, round(wave.energy(Gaussian(20)), 9) == round((1 + math.exp(-2)) / 2, 9)
        (SubspaceTarget(f(x_1..x_1) on R^20, Nodes(... points in R^1)), True)
    """

    function: Callable[[Tensor], Tensor]
    dim: int
    nodes: Nodes
    _values: Tensor = field(init=False)

    def __post_init__(self) -> None:
        check_subspace(self.dim, self.nodes.dim)
        object.__setattr__(self, "_values", evaluate(self.function, self.nodes.x))

    def __repr__(self) -> str:
        return f"SubspaceTarget(f(x_1..x_{self.nodes.dim}) on R^{self.dim}, {self.nodes!r})"

    @property
    def subspace_dim(self) -> int:
        """Dimension d_H of H."""
        return self.nodes.dim

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """f_H(x_H)."""
        return self.function(x[..., : self.subspace_dim])

    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """The integral over R^{d_H} by the nodes, and its gradient."""
        block = self._off(inputs).to(b)
        dim_h = self.subspace_dim
        inside, outside = b[..., :dim_h], b[..., dim_h:]
        image = outside @ block
        variance = (image * outside).sum(-1, keepdim=True).clamp_min(0)
        width = torch.where(variance > 0, variance, 1.0).sqrt()  # autograd is safe at zero
        sigma = torch.where(variance > 0, width, 0.0)
        along, across = torch.zeros_like(inside), torch.zeros_like(sigma)
        size = max(1, _ENTRIES // max(sigma.numel(), 1))
        for x, values in zip(self.nodes.x.to(b).split(size), self._weighted(b).split(size), strict=True):
            p = inside @ x.mT
            t = torch.where(sigma > 0, p / width, p.sign() * math.inf).nan_to_num(nan=0.0)
            along += (torch.special.ndtr(t) * values) @ x
            across += ((torch.exp(-t.square() / 2) * values).sum(-1, keepdim=True)) / math.sqrt(2 * math.pi)
        across = torch.where(sigma > 0, across, 0.0)
        value = (inside * along).sum(-1) + (sigma * across).squeeze(-1)
        return value, torch.cat([along, across * image / width], dim=-1)

    def energy(self, inputs: Inputs) -> float:
        """E f_H², by the nodes."""
        self._off(inputs)
        return float(self.nodes.weight @ self._values.square())

    def _weighted(self, like: Tensor) -> Tensor:
        return (self.nodes.weight * self._values).to(like)

    def _off(self, inputs: Inputs) -> Tensor:
        """The covariance of X_⊥."""
        self.require(inputs)
        if not isinstance(inputs, Gaussian):
            raise ValueError(
                f"expected Gaussian inputs, received {inputs!r}; use SampledTarget with inputs.nodes(...) for others"
            )
        s, dim_h = inputs.covariance(self.nodes.x), self.subspace_dim
        if float(s[:dim_h, dim_h:].abs().max() if dim_h < self.dim else 0.0) > 1e-12 * float(s.abs().max()):
            raise ValueError(
                f"expected inputs whose first {dim_h} coordinates are independent of the others, received {inputs!r}; "
                "use SampledTarget(function, inputs.nodes(...))"
            )
        require_nodes(self.nodes, Gaussian(dim_h, s[:dim_h, :dim_h]))
        return s[dim_h:, dim_h:]
