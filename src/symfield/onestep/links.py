r"""Links: how labels depend on a few unit-variance Gaussian coordinates, y = g(z₁, …, z_k).

A link is known by its Hermite expansion g = Σ_m c_m h_{m₁}(z₁) ⋯ h_{m_k}(z_k), with h_j = He_j / √(j!) orthonormal
under N(0, 1). Its information exponent is the least total degree of a non-zero coefficient: what a gradient at a random
start sees first. Links are centred, so that it is at least one.

Expectations are taken by Gauss–Legendre rules on panels with breakpoints at zero (dimension 1: every unit of
[-12, 12]; 2 and 3: every two units of [-10, 10]), doubled until the coefficients stop changing. Kinks and jumps at zero
(absolute value, sign, ReLU) therefore cost nothing, where a Gauss–Hermite rule would lose all its accuracy.

References:
    Ben Arous, Gheissari & Jagannath 2021, *Online stochastic gradient descent on non-convex losses*, JMLR 22 (the
    information exponent).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from symfield.quadrature import Nodes, refine
from symfield.typing import Float, Tensor

__all__ = ["Link", "function_link", "gaussian_panels", "hermite_link", "hermite_values"]

#: Coefficients of callables below this count as zero.
THRESHOLD = 1e-6

Degrees = tuple[int, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Link:
    """g: R^k → R, centred under N(0, I).

    Attributes:
        name: how it prints.
        dim: k, the number of indices.
        function: ``(*b, k) -> (*b)``.
        coefficients: c_m by multi-degree, zeros left out; all of them for links from coefficients, those up to
            ``degree`` for callables.
        variance: E g².
        error: change of the coefficients under the last doubling of the quadrature; zero where they are exact.
    """

    name: str
    dim: int
    function: Callable[[Tensor], Tensor]
    coefficients: Mapping[Degrees, float]
    variance: float
    error: float = 0.0

    def __call__(self, z: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
        """g(z).

        Args:
            z: coordinates, ``(*b, k)``.
        """
        return self.function(z)

    def __repr__(self) -> str:
        return self.name

    @property
    def information_exponent(self) -> int:
        """Least total degree of a non-zero coefficient."""
        return min(sum(degrees) for degrees in self.coefficients)

    def coefficient(self, *degrees: int) -> float:
        """The coefficient of h_{m₁}(z₁) ⋯ h_{m_k}(z_k).

        Args:
            *degrees: m₁, …, m_k.

        Raises:
            ValueError: if there are not k degrees.
        """
        if len(degrees) != self.dim:
            raise ValueError(f"expected {self.dim} degrees, received {degrees}")
        return self.coefficients.get(degrees, 0.0)


def hermite_values(z: Float[Tensor, "*b"], degree: int) -> Float[Tensor, "*b degrees"]:
    """Orthonormal Hermite polynomials h_0(z), …, h_degree(z).

    Args:
        z: points, ``(*b)``.
        degree: the highest degree.

    Returns:
        Values, ``(*b, degree + 1)``.

    Raises:
        ValueError: if the degree is negative.

    Example:
        >>> values = hermite_values(torch.tensor(2.0, dtype=torch.float64), 2)
        >>> [round(float(v), 6) for v in values]  # 1, z and (z² - 1)/√2
        [1.0, 2.0, 2.12132]
    """
    if degree < 0:
        raise ValueError(f"expected a degree >= 0, received {degree}")
    values = [torch.ones_like(z), z]
    for j in range(1, degree):
        values.append((z * values[j] - math.sqrt(j) * values[j - 1]) / math.sqrt(j + 1))
    return torch.stack(values[: degree + 1], dim=-1)


def gaussian_panels(dim: int, order: int) -> Nodes:
    """N(0, I) by Gauss–Legendre rules on panels, with breakpoints at zero.

    Args:
        dim: 1, 2 or 3.
        order: nodes in each panel.

    Returns:
        Nodes; exact to round-off for polynomials times a few kinks at the breakpoints once ``order`` is about 10.

    Raises:
        ValueError: for another dimension, or order < 1.

    Example:
        >>> nodes = gaussian_panels(1, 10)
        >>> abs(float(nodes.mean(lambda z: z[:, 0].abs())) - math.sqrt(2 / math.pi)) < 1e-14
        True
    """
    if dim not in (1, 2, 3) or order < 1:
        raise ValueError(f"expected 1, 2 or 3 indices and order >= 1, received {dim} and {order}")
    edges = np.arange(-12.0, 13.0) if dim == 1 else np.arange(-10.0, 11.0, 2.0)
    points, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[:, None] / 2
    z = ((edges[:-1] + edges[1:])[:, None] / 2 + half * points).ravel()
    w = (half * weights).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    line, mass = torch.from_numpy(z), torch.from_numpy(w / w.sum())
    x = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    return Nodes(x, torch.cartesian_prod(*[mass] * dim).reshape(-1, dim).prod(-1))


def hermite_link(
    coefficients: Sequence[float] | Mapping[Degrees, float], *, standardise: bool = True, name: str | None = None
) -> Link:
    """A link from its Hermite coefficients.

    Args:
        coefficients: c_0, c_1, … of one index, with c_0 = 0; or ``{(m₁, …, m_k): c}`` of several.
        standardise: divide by the standard deviation (Σ c²)^{1/2}.
        name: how it prints.

    Returns:
        The link; its coefficients are exact.

    Raises:
        ValueError: if it is not centred, vanishes, or degrees are not k non-negative numbers each.

    Example:
        >>> mixture = hermite_link({(1, 0): 1.0, (0, 2): 1.0}, standardise=False)  # z₁ + He₂(z₂)/√2
        >>> mixture, mixture.information_exponent, mixture.variance
        (h1(z1) + h2(z2), 1, 2.0)
        >>> hermite_link([0, 0, 1]).information_exponent
        2
    """
    table: dict[Degrees, float] = (
        {tuple(degrees): float(c) for degrees, c in coefficients.items()}
        if isinstance(coefficients, Mapping)
        else {(degree,): float(c) for degree, c in enumerate(coefficients)}
    )
    if len({len(degrees) for degrees in table}) > 1 or any(m < 0 for degrees in table for m in degrees):
        raise ValueError(f"expected as many degrees >= 0 in each term, received {list(table)}")
    table = {degrees: c for degrees, c in table.items() if c != 0}
    if not table or not all(math.isfinite(c) for c in table.values()):
        raise ValueError("expected finite coefficients that are not all zero; a link without signal has no exponent")
    dim = len(next(iter(table)))
    if (0,) * dim in table:
        raise ValueError(f"expected a centred link, received the constant {table[(0,) * dim]:g}; leave it out")
    variance = sum(c * c for c in table.values())
    if standardise:
        table = {degrees: c / math.sqrt(variance) for degrees, c in table.items()}
        variance = 1.0
    highest = max(max(degrees) for degrees in table)

    def function(z: Tensor) -> Tensor:
        values = hermite_values(z, highest)
        total = torch.zeros_like(z[..., 0])
        for degrees, c in table.items():
            term = torch.full_like(total, c)
            for i, m in enumerate(degrees):
                term = term * values[..., i, m]
            total = total + term
        return total

    return Link(name or " + ".join(_term(degrees, c) for degrees, c in table.items()), dim, function, table, variance)


def function_link(
    function: Callable[[Tensor], Tensor],
    *,
    dim: int = 1,
    standardise: bool = False,
    degree: int = 8,
    tolerance: float | None = None,
    name: str | None = None,
) -> Link:
    """A link from a function of your own.

    Args:
        function: for one index an elementwise function ``(*b) -> (*b)``; for several ``(*b, k) -> (*b)``.
        dim: k, 1 to 3.
        standardise: take off the mean and divide by the standard deviation; otherwise the mean must vanish.
        degree: Hermite coefficients are computed up to this total degree.
        tolerance: accepted change of mean, variance and coefficients under doubling of the quadrature, relative to
            the largest of them; 1e-8 for one and two indices and 1e-6 for three when absent. What remains is far
            smaller: the change is that of the coarser rule.
        name: how it prints.

    Returns:
        The link. Coefficients below 1e-6 standard deviations count as zero.

    Raises:
        ValueError: if the function is not centred (and ``standardise`` is off), is constant, has values that are not
            finite or of another shape, is not square-integrable, has no coefficient up to ``degree``, or the
            quadrature does not converge.

    Example:
        >>> g = function_link(torch.tanh, standardise=True)
        >>> g, g.information_exponent, round(g.coefficient(1), 4)
        (tanh, 1, 0.9646)
        >>> function_link(torch.abs, standardise=True).information_exponent
        2
    """
    label = name or str(getattr(function, "__name__", "g"))

    def raw(z: Tensor) -> Tensor:
        values = function(z[..., 0] if dim == 1 else z)
        if values.shape != z.shape[:-1]:
            raise ValueError(
                f"expected {label} to give one number for each point, shape {tuple(z.shape[:-1])}, received "
                f"{tuple(values.shape)}"
            )
        return values

    degrees = [m for m in itertools.product(range(degree + 1), repeat=dim) if sum(m) <= degree]

    accepted = tolerance if tolerance is not None else 1e-8 if dim < 3 else 1e-6

    def projections(nodes: Nodes) -> Tensor:
        values = raw(nodes.x).double()
        if not torch.isfinite(values).all():
            raise ValueError(f"expected finite values of {label} on [-12, 12], received NaN or infinity")
        square = nodes.weight @ values.square()
        side = round(len(nodes) ** (1 / dim))  # a tensor rule: one axis after the other
        table = hermite_values(nodes.x[:side, -1], degree)
        table = table * (nodes.weight[:side] / nodes.weight[:side].sum()).unsqueeze(-1)
        moments = values.reshape((side,) * dim)
        for _ in range(dim):
            moments = torch.tensordot(moments, table, dims=([0], [0]))
        return torch.stack([square, *(moments[each] for each in degrees)])

    projections(gaussian_panels(dim, 7))  # what is wrong with the values is said before what is with the rule
    try:
        nodes = refine(
            lambda order: gaussian_panels(dim, order), projections, size=7, tolerance=accepted, limit=_FINEST[dim]
        )
    except ValueError as error:
        raise ValueError(
            f"the Hermite coefficients of {label} are not known to a tolerance of {accepted:g}: kinks and jumps away "
            "from zero, fast oscillations and tails converge slowly; accept less by tolerance="
        ) from error
    square, mean, *rest = projections(nodes).tolist()
    far = nodes.weight * (nodes.x.abs().amax(-1) > 9)
    if float(far @ raw(nodes.x).double().square()) > 1e-3 * square:
        raise ValueError(f"expected a square-integrable link, received {label}, which grows too fast")
    variance = square - mean * mean
    if not variance > THRESHOLD**2 * max(1.0, square):
        raise ValueError(f"expected a link that varies, received {label} with variance {variance:.3g}")
    std = math.sqrt(variance)
    if not standardise and abs(mean) > THRESHOLD * std:
        raise ValueError(f"expected a centred link, received {label} with mean {mean:.6g}; pass standardise=True")
    scale = std if standardise else 1.0
    table = {m: c / scale for m, c in zip(degrees[1:], rest, strict=True) if abs(c) > THRESHOLD * std}
    if not table:
        raise ValueError(
            f"expected a Hermite coefficient above {THRESHOLD:g} up to degree {degree}, found none; raise degree="
        )
    shift = mean if standardise else 0.0
    standard = (lambda z: (raw(z) - shift) / scale) if standardise else raw
    return Link(label, dim, standard, table, 1.0 if standardise else variance, nodes.error)


_FINEST = {1: 448, 2: 56, 3: 14}


def _term(degrees: Degrees, c: float) -> str:
    single = len(degrees) == 1
    factors = [f"h{m}(z{'' if single else i + 1})" for i, m in enumerate(degrees) if m]
    return ("" if c == 1 else f"{c:.3g} ") + " ".join(factors)
