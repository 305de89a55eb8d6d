r"""Laws of inputs as weighted nodes, so that expectations are finite sums.

A law π of X is replaced by points x_b with weights w_b ≥ 0, Σ_b w_b = 1, and E f(X) by Σ_b w_b f(x_b). Then everything
that holds for π holds *exactly* for the nodes' own law, provided that the nodes have the symmetry that is used:
:meth:`Nodes.orbit` unites them with their images under a finite group.

- Gauss–Hermite (tensor product) for Gaussians in few dimensions: for analytic integrands the error falls geometrically
  in √order, the faster the wider their strip of analyticity; the number of nodes is order^d.
- Scrambled Sobol points through the inverse normal for Gaussians in many dimensions: error about 1/size.
- A sample: error 1/√size.

References:
    Trefethen 2022, *Exactness of quadrature formulas*, SIAM Review 64(1), arXiv 2101.09501 (Gauss–Hermite and its
    superfluous outer nodes, which ``trim`` drops).
    Owen 1998, *Scrambling Sobol' and Niederreiter–Xing points*, Journal of Complexity 14(4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.special import roots_hermitenorm

from symfield import random
from symfield.groups import Representation
from symfield.linalg import covariance_root
from symfield.typing import Float, Generator, Tensor

__all__ = ["Nodes", "gauss_hermite", "gaussian_nodes", "refine", "sobol"]

_LARGEST_TENSOR_RULE = 3
_MAX_NODES = 4_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Nodes:
    """A law with finitely many atoms.

    Attributes:
        x: points, float64 ``(b, d)``.
        weight: their probabilities, float64 ``(b,)``; they sum to one.
        error: relative change of a statistic under the last doubling of the rule, where :func:`refine` measured it; NaN
            where nobody did.

    Raises:
        ValueError: if shapes, dtype or weights are not as described.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
        >>> coin = Nodes(x, torch.full((2,), 0.5, dtype=torch.float64))
        >>> coin, coin.mean(lambda x: x.square()).tolist()
        (Nodes(2 points in R^1), [1.0])
    """

    x: Tensor
    weight: Tensor
    error: float = math.nan

    def __post_init__(self) -> None:
        x, weight = self.x, self.weight
        if x.ndim != 2 or weight.shape != x.shape[:1] or len(x) == 0:
            raise ValueError(
                f"expected points (b, d) and weights (b,), b >= 1, received {tuple(x.shape)} and {tuple(weight.shape)}"
            )
        if x.dtype != torch.float64 or weight.dtype != torch.float64:
            raise ValueError(
                f"expected float64 points and weights, received {x.dtype} and {weight.dtype}; use .double()"
            )
        if not (torch.isfinite(x).all() and torch.isfinite(weight).all()):
            raise ValueError("expected finite points and weights, received NaN or infinity")
        total = float(weight.sum())
        if bool((weight < 0).any()) or abs(total - 1) > 1e-9:
            raise ValueError(
                f"expected probabilities that sum to one, received weights with sum {total:.6g} and least "
                f"{float(weight.min()):.3g}; divide by their sum"
            )

    def __repr__(self) -> str:
        error = "" if math.isnan(self.error) else f", error={self.error:.1e}"
        return f"Nodes({len(self)} points in R^{self.dim}{error})"

    def __len__(self) -> int:
        return len(self.x)

    @property
    def dim(self) -> int:
        """Dimension d of the inputs."""
        return self.x.shape[1]

    @classmethod
    def sample(cls, x: Float[Tensor, "b d"]) -> Nodes:
        """A sample as equally weighted nodes.

        Args:
            x: inputs, shape ``(b, d)``.

        Returns:
            The empirical law.

        Raises:
            ValueError: if it is empty or holds NaN.
        """
        points = x.detach().double()
        return cls(points, points.new_full((len(points),), 1 / max(len(points), 1)))

    def mean(self, f: Callable[[Tensor], Tensor]) -> Float[Tensor, "..."]:
        """The expectation Σ_b w_b f(x_b).

        Args:
            f: ``(b, d) -> (b, ...)``.

        Returns:
            The expectation, without the axis b.
        """
        return torch.tensordot(self.weight, f(self.x).to(self.weight), dims=1)

    def orbit(self, rep: Representation) -> Nodes:
        """The symmetrised law ∫ ρ_g#π dλ(g): every node with all its images, for a finite group.

        Bitwise equal points are merged, so nodes that already are symmetric under signed permutations stay as few as
        they are.

        Args:
            rep: ρ on the inputs, of a finite group.

        Returns:
            Nodes whose law is G-invariant, up to the round-off of ρ (exactly, for signed permutations).

        Raises:
            ValueError: if the group is infinite or dimensions differ.

        Example:
            >>> from symfield.groups import Cyclic, Defining
            >>> one = Nodes.sample(torch.tensor([[1.0, 2.0], [3.0, 3.0]]))
            >>> closed = one.orbit(Defining(Cyclic(2)))
            >>> closed.x.tolist(), closed.weight.tolist()
            ([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]], [0.25, 0.25, 0.5])
        """
        if rep.dim != self.dim:
            raise ValueError(f"expected a representation on R^{self.dim}, received {rep} of dim {rep.dim}")
        if not rep.group.is_finite:
            raise ValueError(
                f"expected a finite group, received {rep.group}; draw Haar elements and use a sample instead"
            )
        elements = rep.group.elements
        moved = rep.act(elements.unsqueeze(1), self.x).reshape(-1, self.dim) + 0.0  # + 0.0 turns -0.0 into 0.0
        points, where = torch.unique(moved, dim=0, return_inverse=True)
        share = (self.weight / len(elements)).repeat(len(elements))
        return replace(self, x=points, weight=torch.zeros(len(points)).to(share).index_add_(0, where, share))


def gauss_hermite(
    dim: int, order: int, *, std: float = 1.0, covariance: Float[Tensor, "d d"] | None = None, trim: float = 1e-18
) -> Nodes:
    """The tensor Gauss–Hermite rule of a centred Gaussian.

    Args:
        dim: d.
        order: nodes for each coordinate; polynomials of degree below 2·order are integrated exactly (up to ``trim``).
        std: standard deviation of every coordinate.
        covariance: Σ, instead of ``std``; the nodes are Σ^{1/2} ξ with the symmetric root.
        trim: outermost nodes are dropped as long as their weights together stay below this; they are most of a large
            rule and contribute nothing to integrands of polynomial growth.

    Returns:
        At most order^d nodes.

    Raises:
        ValueError: if sizes are not positive, the covariance is not positive semi-definite, or there would be more than
            4 million nodes.

    Example:
        >>> nodes = gauss_hermite(2, 20, std=4.0)
        >>> round(float(nodes.mean(lambda x: x[:, 0] ** 2)), 10)
        16.0
    """
    _require_positive(dim=dim, order=order)
    if order**dim > _MAX_NODES:
        raise ValueError(f"expected at most {_MAX_NODES} nodes, received order {order} in dimension {dim}; use sobol")
    points, weights = (torch.from_numpy(a) for a in roots_hermitenorm(order))
    x = torch.cartesian_prod(*[points] * dim).reshape(-1, dim)
    w = torch.cartesian_prod(*[weights / weights.sum()] * dim).reshape(-1, dim).prod(-1)
    ascending = w.argsort()
    kept = ascending[w[ascending].cumsum(0) > trim].sort().values
    return Nodes(x[kept] @ _root(dim, std, covariance), w[kept] / w[kept].sum())


def sobol(
    dim: int,
    size: int,
    *,
    generator: Generator,
    std: float = 1.0,
    covariance: Float[Tensor, "d d"] | None = None,
) -> Nodes:
    """Scrambled Sobol points of a centred Gaussian, through the inverse normal distribution function.

    Args:
        dim: d, at most 21201.
        size: number of points; powers of two are balanced.
        generator: gives the seed of the scrambling.
        std: standard deviation of every coordinate.
        covariance: Σ, instead of ``std``.

    Returns:
        Equally weighted nodes.

    Raises:
        ValueError: if sizes are not positive, or the covariance is not positive semi-definite.

    Example:
        >>> nodes = sobol(10, 4096, generator=random.generator(0))
        >>> bool((nodes.mean(lambda x: x.square().sum(-1)) - 10).abs() < 0.02)
        True
    """
    _require_positive(dim=dim, size=size)
    seed = int(random.integers(0, 2**31 - 1, (1,), generator=generator))
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    cell = 2.0**-engine.MAXBIT
    uniform = engine.draw(size, dtype=torch.float64) + cell / 2  # centres of cells: never 0 or 1
    x = torch.special.ndtri(uniform) @ _root(dim, std, covariance)
    return Nodes(x, x.new_full((size,), 1 / size))


def refine(
    rule: Callable[[int], Nodes],
    statistic: Callable[[Nodes], Tensor],
    *,
    size: int = 8,
    tolerance: float = 1e-8,
    limit: int = 256,
) -> Nodes:
    """Double a rule until a statistic stops changing.

    Args:
        rule: size ↦ nodes, for example ``lambda order: gauss_hermite(2, order, std=4.0)``.
        statistic: what must be accurate, for example ``lambda nodes: sampled_population(...).risk(z)``.
        size: first size.
        tolerance: accepted change, relative to the statistic's largest entry.
        limit: largest size.

    Returns:
        The larger of the last two rules; its ``error`` is the relative change between them (for geometrically
        convergent rules a large overestimate of the error of what is returned).

    Raises:
        ValueError: if the tolerance is not met within ``limit``.

    Example:
        >>> cosine = lambda nodes: nodes.mean(lambda x: x.cos().prod(-1))
        >>> nodes = refine(lambda order: gauss_hermite(2, order), cosine, size=4, tolerance=1e-12)
        >>> nodes.error < 1e-12, round(float(cosine(nodes)), 12) == round(math.exp(-1), 12)
        (True, True)
    """
    _require_positive(size=size)
    old, change = statistic(rule(size)), math.inf
    while 2 * size <= limit:
        size *= 2
        nodes = rule(size)
        new = statistic(nodes)
        scale = float(new.abs().max())
        difference = float((new - old).abs().max())
        change = 0.0 if difference == 0 else difference / scale if scale > 0 else math.inf
        if change <= tolerance:
            return replace(nodes, error=change)
        old = new
    raise ValueError(
        f"the statistic still changed by {change:.1e} (relative) at size {size}, tolerance {tolerance:.1e}; "
        "raise tolerance= or limit=, or use a rule that suits the law better"
    )


def gaussian_nodes(
    dim: int,
    *,
    std: float = 1.0,
    covariance: Float[Tensor, "d d"] | None = None,
    statistic: Callable[[Nodes], Tensor] | None = None,
    tolerance: float | None = None,
    rep: Representation | None = None,
    generator: Generator | None = None,
) -> Nodes:
    """Nodes of a centred Gaussian, of a size that a convergence test chooses.

    Gauss–Hermite up to dimension 3, scrambled Sobol points beyond.

    Args:
        dim: d.
        std: standard deviation of every coordinate.
        covariance: Σ, instead of ``std``.
        statistic: what must be accurate. When absent: second moments of the logistic function of unit weight vectors,
            E s(⟨a, X⟩) s(⟨b, X⟩) with a and b coordinate axes or the diagonal. Steeper units need more nodes, so give
            your own (a risk, say) when weights are much larger than one.
        tolerance: accepted relative change under doubling; 1e-8 for quadrature and 1e-3 for Sobol points when absent.
        rep: ρ on inputs, to unite the nodes with their orbits.
        generator: source of randomness, needed beyond dimension 3.

    Returns:
        Nodes with their ``error``.

    Raises:
        ValueError: if the tolerance cannot be met, or the generator is missing.

    Example:
        >>> gaussian_nodes(2, std=1.0).error < 1e-8
        True
    """
    if statistic is None:
        statistic = _logistic_moments

    def closed(nodes: Nodes) -> Nodes:
        return nodes if rep is None else nodes.orbit(rep)

    if dim <= _LARGEST_TENSOR_RULE:
        limit = int(_MAX_NODES ** (1 / dim)) if dim > 1 else 4096
        return refine(
            lambda order: closed(gauss_hermite(dim, order, std=std, covariance=covariance)),
            statistic,
            tolerance=1e-8 if tolerance is None else tolerance,
            limit=limit,
        )
    if generator is None:
        raise ValueError(f"dimension {dim} takes scrambled Sobol points, which need generator=; pass a torch.Generator")
    seed = int(random.integers(0, 2**31 - 1, (1,), generator=generator))  # one scrambling, so that doubling nests
    return refine(
        lambda size: closed(sobol(dim, size, std=std, covariance=covariance, generator=random.generator(seed))),
        statistic,
        size=256,
        tolerance=1e-3 if tolerance is None else tolerance,
        limit=2**18,
    )


def _logistic_moments(nodes: Nodes) -> Tensor:
    axes = torch.eye(nodes.dim, dtype=torch.float64)
    directions = torch.cat([axes, axes.new_full((1, nodes.dim), nodes.dim**-0.5)])
    values = torch.sigmoid(nodes.x @ directions.mT)
    return values.mT @ (nodes.weight.unsqueeze(-1) * values)


def _root(dim: int, std: float, covariance: Tensor | None) -> Tensor:
    """The symmetric root of the covariance."""
    if covariance is not None:
        return covariance_root(covariance, dim)
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"expected a finite std >= 0, received {std}")
    return std * torch.eye(dim, dtype=torch.float64)


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"expected {name} >= 1, received {size}")
