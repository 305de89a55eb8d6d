"""Nonlinearities that commute with no permutation: the fixed gated linear unit.

Elementwise nonlinearities satisfy σ(P x) = P σ(x) for every permutation P, which is where the permutation symmetries of
networks come from. FiGLU gates every unit by a fixed random combination of all of them, σ_F(x) = sigmoid(F x) ⊙ x.

What the scale of F does is not a detail: where F x hardly varies, the gate is the constant ½ and the network linear.

References:
    Lim et al. 2024, Section 3.2 and Appendix F, arXiv 2405.20231.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import nn

from symfield.typing import Float, Tensor
from symfield.weightspace.asymmetric.masks import fixed_values
from symfield.weightspace.asymmetric.weights import _Held

__all__ = ["FiGLU"]

#: Standard deviation of the gate at inputs of unit variance below which it is called nearly constant.
_FAINT = 0.02


class FiGLU(_Held):
    """Fixed gated linear unit, σ_F(x) = sigmoid(F x) ⊙ x, with a fixed F of independent N(0, std²) entries.

    For convolutional networks F acts on the channels at every place, as a fixed 1 × 1 convolution. There is nothing to
    train. For Gaussian F no permutation and no invertible diagonal matrix other than the identity commutes with it,
    almost surely; other linear maps are not excluded.

    Args:
        features: d, units or channels.
        std: standard deviation of the entries of F. Published are 1 (MLPs), 1/√d (ResNets) and 0.01/√d (a graph
            network, where the gate is nearly constant).
        seed: of F.
        name: of the layer in its network; layers of other names have another F.
        axis: of the units: -1, or 1 for the channels of images and signals.
        allow_near_linear: whether to be silent about a gate that is nearly constant.

    Raises:
        ValueError: if there are no features, or std is not positive.

    Example:
        >>> gate = FiGLU(16, std=0.25, seed=0, name="first")
        >>> gate(torch.zeros(2, 16)).shape, len(list(gate.parameters()))
        (torch.Size([2, 16]), 0)
        >>> FiGLU(16, std=0.25, seed=0, name="first", axis=1)(torch.zeros(2, 16, 8, 8)).shape
        torch.Size([2, 16, 8, 8])

    References:
        Lim et al. 2024, Equation of Section 3.2, arXiv 2405.20231.
    """

    def __init__(
        self,
        features: int,
        *,
        std: float,
        seed: int,
        name: str,
        axis: int = -1,
        allow_near_linear: bool = False,
    ) -> None:
        if features < 1 or not (math.isfinite(std) and std > 0):
            raise ValueError(f"expected at least one feature and a positive std, received {features} and {std}")
        every = torch.zeros(features, features, dtype=torch.bool)
        super().__init__(fixed_values(every, std, seed=seed, name=name))
        self.features, self.std, self.axis = features, float(std), axis
        faint = _gate_spread(std * math.sqrt(features))
        if faint < _FAINT and not allow_near_linear:
            warnings.warn(
                f"the gate of FiGLU {name!r} is nearly constant: at inputs of unit variance its standard deviation is "
                f"{faint:.4f} around ½, so that σ(x) ≈ x/2 and the network is nearly linear; take std near 1/√d = "
                f"{features**-0.5:.3g} instead of {std:.3g}, or say allow_near_linear=True",
                stacklevel=2,
            )

    def gate(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The gate sigmoid(F x), in the shape of the inputs.

        Args:
            x: inputs, with d entries along the axis.

        Returns:
            Numbers in (0, 1).

        Raises:
            ValueError: if the inputs have another number of units.
        """
        if x.shape[self.axis] != self.features:
            raise ValueError(f"expected {self.features} units along axis {self.axis}, received {tuple(x.shape)}")
        if self.axis in (-1, x.ndim - 1):
            return torch.sigmoid(nn.functional.linear(x, self.fixed_values))
        mixed = nn.functional.linear(x.movedim(self.axis, -1), self.fixed_values)
        return torch.sigmoid(mixed.movedim(-1, self.axis))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """sigmoid(F x) ⊙ x."""
        return self.gate(x) * x

    def extra_repr(self) -> str:
        """Sizes and scale."""
        return f"{self.features}, std={self.std:g}, axis={self.axis}"


def _gate_spread(scale: float) -> float:
    """Standard deviation of sigmoid(scale · z) for a standard normal z."""
    z = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    return float(torch.sigmoid(scale * z).std())
