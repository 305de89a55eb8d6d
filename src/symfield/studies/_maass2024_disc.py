"""The setting of Proposition 4 of Maass & Fontbona (2024): quarter turns of the plane, where SI models are constants.

G = C_4 turns R² by quarter turns and leaves outputs alone; units are σ_*(x; z) = W tanh(A·x + B) with
z = (W, A, B) ∈ R × R² × R, so that M_g z = (W, ρ_g A, B) and E^G = {A = 0}: **every strongly invariant model is a
constant**. The target is Y = ‖X‖², which quarter turns leave alone. With Z ~ N(0, I) in the plane the input is either

- *clipped*, the paper's: X = Z·1{‖Z‖ ≤ 1}, which is 0 with probability e^{-1/2}; or
- *conditioned*: X = Z given ‖Z‖ ≤ 1.

Since ‖Z‖² is exponential with mean 2, E[‖Z‖²; ‖Z‖ ≤ 1] = 2 − 3e^{-1/2} and E[‖Z‖⁴; ‖Z‖ ≤ 1] = 8 − 13e^{-1/2}, whence

    inf over SI laws of R = min_c E(Y − c)² = Var(Y) = 0.0825544 (clipped), 0.0823019 (conditioned),

attained at c = E Y. **Correction.** The proof in the paper takes C* = E‖X‖² = 0.1804 for a lower bound of the SI risk.
That is where the minimum is attained, not its value; the bound is false (0.0826 < 0.1804), the proposition is not,
since WI laws come arbitrarily close to risk 0 (:func:`rotated_units`).

References:
    Maass & Fontbona 2024, Proposition 4 and Appendix E.2.5, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from symfield import random
from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Planar, Representation, Trivial
from symfield.linalg import Subspace
from symfield.meanfield import Objective, augmented, constrained, squared, vanilla
from symfield.quadrature import Nodes
from symfield.symmetrize import uniform
from symfield.typing import Generator, Tensor
from symfield.units import HiddenUnit, tanh

__all__ = [
    "GROUP",
    "INVARIANT",
    "ROTATION",
    "UNIT",
    "Disc",
    "action",
    "disc_nodes",
    "fixed_space",
    "moments",
    "objective",
    "off_fixed_space",
    "rotated_units",
    "target",
]

GROUP = Cyclic(4)
ROTATION = Planar(GROUP)
INVARIANT = Trivial(GROUP)
UNIT = HiddenUnit(tanh, in_dim=2, out_dim=1)

#: −artanh(1/√3), where tanh'' is largest.
STEEPEST = -math.atanh(1 / math.sqrt(3))


def action() -> Representation:
    """M_g (W, A, B) = (W, ρ_g A, B)."""
    return UNIT.representation(ROTATION, INVARIANT)


def fixed_space() -> Subspace:
    """E^G = {A = 0}, of dimension 2 in R^4."""
    return fixed_points(action())


def target(x: Tensor) -> Tensor:
    """‖x‖², shape ``(*b, 2) -> (*b, 1)``."""
    return x.square().sum(-1, keepdim=True)


def off_fixed_space(z: Tensor) -> Tensor:
    """The mean of ‖A_i‖² over the particles, ``(*r, n, 4) -> (*r)``."""
    return z[..., 1:3].square().sum(-1).mean(-1)


def moments(*, conditioned: bool = False) -> tuple[float, float]:
    """E Y and Var(Y) in closed form.

    Args:
        conditioned: X given the disc, instead of clipped to it.

    Returns:
        Mean and variance of ‖X‖².

    Example:
        >>> [round(value, 7) for value in moments() + moments(conditioned=True)]
        [0.180408, 0.0825544, 0.4585059, 0.0823019]
    """
    half = math.exp(-0.5)
    mass = 1 - half if conditioned else 1.0
    first, second = (2 - 3 * half) / mass, (8 - 13 * half) / mass
    return first, second - first**2


@dataclass(frozen=True)
class Disc:
    """Fresh samples (X, ‖X‖²).

    Attributes:
        conditioned: X given the disc, instead of clipped to it.
    """

    conditioned: bool = False

    def __call__(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw inputs ``(*shape, 2)`` and targets ``(*shape, 1)``."""
        count = math.prod(shape)
        if self.conditioned:  # by inversion of the radius: 1 − e^{-r²/2} is uniform on [0, 1 − e^{-1/2})
            u = random.uniform((2, count), generator=generator, like=like)
            radius = (-2 * torch.log1p(-u[0] * (1 - math.exp(-0.5)))).sqrt()
            angle = 2 * math.pi * u[1]
            x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        else:
            z = random.normal((count, 2), generator=generator, like=like)
            x = z * (z.square().sum(-1, keepdim=True) <= 1)
        return x.reshape(*shape, 2), target(x).reshape(*shape, 1)


@lru_cache
def disc_nodes(*, conditioned: bool = False, radii: int = 12, angles: int = 48) -> Nodes:
    """A quadrature rule for X that quarter turns leave alone: Gauss–Legendre in ‖x‖², equally spaced angles.

    Args:
        conditioned: X given the disc, instead of clipped to it.
        radii: nodes of the radial rule.
        angles: number of angles, a multiple of four.

    Returns:
        The nodes; risks of networks with ‖A‖ of order one are accurate to 1e-7.
    """
    s, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(radii))
    s, w = (s + 1) / 2, w / 2
    density = 0.5 * torch.exp(-s / 2)
    quarter = torch.arange(angles // 4, dtype=torch.float64) * (2 * math.pi / angles)
    first = torch.stack([quarter.cos(), quarter.sin()], dim=-1)
    turned = torch.stack([-first[:, 1], first[:, 0]], dim=-1)
    circle = torch.cat([first, turned, -first, -turned])  # bitwise closed under quarter turns
    x = (s.sqrt()[:, None, None] * circle).reshape(-1, 2)
    weight = (w * density)[:, None].expand(radii, angles).reshape(-1) / angles
    if conditioned:
        return Nodes(x, weight / weight.sum())
    origin = 1 - weight.sum(dim=0, keepdim=True)
    return Nodes(torch.cat([x, x.new_zeros(1, 2)]), torch.cat([weight, origin]))


def objective(scheme: str) -> Objective:
    """A training scheme in this setting: ``"V"``, ``"DA"`` (on full orbits) or ``"EA"``.

    Args:
        scheme: which one.

    Returns:
        The objective, with the loss (ŷ − y)².
    """
    if scheme == "V":
        return vanilla(UNIT, squared)
    if scheme == "EA":
        return constrained(UNIT, squared, fixed_space())
    return augmented(UNIT, squared, uniform(GROUP), rep_in=ROTATION, rep_out=INVARIANT)


def rotated_units(epsilon: float) -> Tensor:
    """A WI law of five particles whose risk is O(ε⁴): a unit in its four positions, and a constant.

    The mean of tanh(ε ⟨g e_1, x⟩ + b) over the four turns is tanh b + (ε²/4) tanh''(b) ‖x‖² + O(ε⁴) ‖x‖⁴: with
    weight 4/(ε² tanh''(b)) and without the constant it is ‖x‖² + O(ε²).

    Args:
        epsilon: length of A.

    Returns:
        Cloud of shape (5, 4), float64.

    Example:
        >>> from symfield.meanfield import orbit, wasserstein2
        >>> z = rotated_units(0.3)
        >>> float(wasserstein2(z, orbit(z, action()))) < 1e-6
        True
    """
    value = math.tanh(STEEPEST)
    second_derivative = -2 * value * (1 - value**2)
    weight = 4 / (epsilon**2 * second_derivative)
    unit = torch.tensor([[5 / 4 * weight, epsilon, 0.0, STEEPEST]], dtype=torch.float64)
    turned = action().act(GROUP.elements.unsqueeze(-1), unit).reshape(4, 4)
    constant = torch.tensor([[-5 * weight, 0.0, 0.0, STEEPEST]], dtype=torch.float64)
    return torch.cat([turned, constant])
