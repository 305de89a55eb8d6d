"""Distances between laws of particles.

W₂ is solved exactly: an assignment for clouds of one size, the network simplex of POT for clouds of different sizes,
sorting on the line. The relative measure distance divides by the second moments,

    RMD²(μ, ν) = W₂²(μ, ν) / (2 E_μ‖Z‖² + 2 E_ν‖Z‖²) ∈ [0, 1],   0/0 = 0.

To a projected cloud no solver is needed: the cheapest transport moves every particle to its own projection, so with
d = mean‖z − P z‖² and s = mean‖P z‖², RMD²(ν, P#ν) = d/(2d + 4s) ≤ ½.

References:
    Maass & Fontbona 2024, Appendix F, arXiv 2405.19995v3.
    Peyré & Cuturi 2019, Section 2, arXiv 1803.00567v4.
    Flamary et al. 2021, POT: Python Optimal Transport, JMLR 22(78).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from symfield.groups import Representation
from symfield.linalg import Subspace
from symfield.meanfield.laws import orbit, project
from symfield.typing import Float, Tensor

__all__ = [
    "distance_to_orbit",
    "distance_to_projection",
    "relative_measure_distance",
    "wasserstein2",
]

_MAX_PIVOTS = 10**8


def wasserstein2(x: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The 2-Wasserstein distance W₂ between clouds of equally weighted particles, solved exactly in float64.

    Args:
        x: cloud, shape ``(*r, n, p)``.
        y: cloud, shape ``(*r, k, p)``; k may differ from n.

    Returns:
        W₂ (not its square) for every run, shape ``(*r)``, float64.

    Raises:
        ValueError: if shapes do not fit, a cloud is empty or not finite.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> wasserstein2(x, x + torch.tensor([0.0, 3.0])).item()
        3.0
    """
    x, y = _clouds(x, y)
    scale = _scale(x, y)
    return _squared_distance(x / scale, y / scale).sqrt() * scale[..., 0, 0]


def relative_measure_distance(
    x: Float[Tensor, "..."], y: Float[Tensor, "..."], *, squared: bool = False
) -> Float[Tensor, "..."]:
    """RMD(μ, ν) = W₂(μ, ν) / sqrt(2 E_μ‖Z‖² + 2 E_ν‖Z‖²), in [0, 1].

    Args:
        x: cloud, shape ``(*r, n, p)``.
        y: cloud, shape ``(*r, k, p)``.
        squared: return RMD², the quantity of the paper's figures.

    Returns:
        RMD (or its square) for every run, shape ``(*r)``, float64; 0 between two clouds that sit at the origin.

    Raises:
        ValueError: if shapes do not fit, a cloud is empty or not finite.

    Example:
        >>> x = torch.tensor([[1.0], [1.0]])
        >>> relative_measure_distance(x, -x).item(), relative_measure_distance(x, x).item()
        (1.0, 0.0)

    References:
        Maass & Fontbona 2024, Appendix F, arXiv 2405.19995v3.
    """
    x, y = _clouds(x, y)
    scale = _scale(x, y)
    x, y = x / scale, y / scale
    moments = 2 * _second_moment(x) + 2 * _second_moment(y)
    return _relative(_squared_distance(x, y), moments, squared=squared)


def distance_to_projection(
    z: Float[Tensor, "..."], subspace: Subspace, *, squared: bool = False
) -> Float[Tensor, "..."]:
    """RMD(ν, ν^E) from a cloud to its projection on a subspace, in closed form; at most sqrt(½).

    Args:
        z: cloud, shape ``(*r, n, p)``.
        subspace: E.
        squared: return RMD².

    Returns:
        RMD (or its square) for every run, shape ``(*r)``, float64.

    Raises:
        ValueError: if dimensions differ or the cloud is not finite.

    Example:
        >>> from symfield.linalg import Subspace
        >>> z = torch.tensor([[3.0, 4.0]])
        >>> distance_to_projection(z, Subspace.zero(2), squared=True).item()
        0.5
    """
    z, _ = _clouds(z, z)
    z = z / _scale(z, z)
    inside = project(z, subspace)
    off, on = _second_moment(z - inside), _second_moment(inside)
    return _relative(off, 2 * off + 4 * on, squared=squared)


def distance_to_orbit(z: Float[Tensor, "..."], rep: Representation, *, squared: bool = False) -> Float[Tensor, "..."]:
    """RMD(ν, ν^G) from a cloud to its symmetrised law, for a finite group: zero exactly for WI clouds.

    Args:
        z: cloud, shape ``(*r, n, p)``.
        rep: M on R^p.
        squared: return RMD².

    Returns:
        RMD (or its square) for every run, shape ``(*r)``, float64.

    Raises:
        ValueError: if dimensions differ, the cloud is not finite or the group infinite.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> z = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
        >>> distance_to_orbit(z, Defining(Cyclic(2))).item()
        0.0
    """
    z, _ = _clouds(z, z)
    return relative_measure_distance(z, orbit(z, rep), squared=squared)


def _second_moment(z: Tensor) -> Tensor:
    return z.square().sum(-1).mean(-1)


def _relative(numerator: Tensor, moments: Tensor, *, squared: bool) -> Tensor:
    ratio = torch.where(moments > 0, numerator / moments.where(moments > 0, 1.0), 0.0).clamp(max=1.0)
    return ratio if squared else ratio.sqrt()


def _clouds(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"expected clouds of shape (..., n, p) and (..., k, p), received {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if 0 in (x.shape[-2], y.shape[-2]):
        raise ValueError(f"expected at least one particle, received clouds {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = x.detach().double(), y.detach().double()
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("expected finite clouds, received NaN or infinity; look for the step where the run diverged")
    return x, y


def _scale(x: Tensor, y: Tensor) -> Tensor:
    """For every run a power of two that keeps squares of very large or very small coordinates in range; usually 1."""
    largest = torch.maximum(x.abs().amax((-2, -1), keepdim=True), y.abs().amax((-2, -1), keepdim=True))
    usual = (largest == 0) | ((largest > 1e-100) & (largest < 1e100))
    return torch.where(usual, 1.0, torch.exp2(largest.log2().floor()))


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    runs = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if x.shape[-1] == 1 and x.shape[-2] == y.shape[-2]:
        return (x.sort(dim=-2).values - y.sort(dim=-2).values).square().sum(-1).mean(-1).expand(runs)
    flat_x = x.expand(*runs, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    flat_y = y.expand(*runs, *y.shape[-2:]).reshape(-1, *y.shape[-2:])
    values = [_optimal_cost(a, b) for a, b in zip(flat_x, flat_y, strict=True)]
    return torch.tensor(values, dtype=torch.float64, device=x.device).reshape(runs)


def _optimal_cost(x: Tensor, y: Tensor) -> float:
    if torch.equal(x, y):
        return 0.0
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_().cpu().numpy()
    if len(x) == len(y):  # an assignment; for clouds close to one another many times faster as one
        rows, columns = linear_sum_assignment(cost)
        return math.fsum(cost[rows, columns]) / len(x)
    mass = math.lcm(*cost.shape)  # whole numbers of equal portions, so that no round-off moves a sliver
    portions = [np.full(size, mass // size, dtype=np.float64) for size in cost.shape]
    import ot  # here, because it loads scikit-learn and pandas where they are installed

    value, log = ot.emd2(*portions, cost, numItermax=_MAX_PIVOTS, log=True)
    if log["warning"] is not None:
        raise ValueError(f"the exact transport solver stopped early: {log['warning']}; use smaller clouds")
    return float(value) / mass
