r"""Odd targets, which a flow sees through one vector.

relu(z) = z/2 + |z|/2, and an odd f*(X) times |⟨b, X⟩| integrates to zero under a symmetric law, so that

    E f*(X) relu⟨b, X⟩ = ⟨b, X̄⟩/2,   X̄ = E f*(X) X.

Moments of polynomials are exact: for X ~ N(0, S) by E X_i p(X) = Σ_j S_ij E ∂_j p(X), and on the unit sphere they are
those of N(0, I) divided by E‖Z‖^{2k} = d(d+2)…(d+2k−2).

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from symfield import random
from symfield.quadrature import Nodes
from symfield.typing import Float, Tensor
from symfield.wide.inputs import Gaussian, Inputs, UnitSphere
from symfield.wide.sampled_target import evaluate, require_nodes
from symfield.wide.targets import Target

__all__ = ["OddTarget", "cubic", "odd_polynomial"]

_ODD = 1e-9

#: Coefficients of monomials; (0, 0, 2) stands for x_0² x_2.
Terms = dict[tuple[int, ...], float]


@dataclass(frozen=True, eq=False, repr=False)
class OddTarget(Target):
    """An odd function, f*(−x) = −f*(x), through its first moment X̄ = E f*(X) X.

    Attributes:
        function: f*, ``(*b, d) -> (*b)``; refused unless it is odd at 256 points.
        first_moment: X̄, ``(d)``, float64.
        second_moment: E f*(X)²; None if unknown, and then the risk is refused.
        inputs: the law that the moments belong to; other laws are then refused.

    Raises:
        ValueError: if the function is not odd, or shapes differ, or a moment is not finite.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target = OddTarget(lambda x: x[..., 0].sign(), torch.tensor([0.8, 0.0]), 1.0)
        >>> round(target.correlation(torch.tensor([[2.0, 0.0]]), Gaussian(2)).item(), 6)  # E|z| = 0.798 for Gaussians
        0.8
        >>> OddTarget(lambda x: x[..., 0].abs(), torch.zeros(2).double())
        Traceback (most recent call last):
        ...
        ValueError: expected an odd function, received one with f(-x) + f(x) = ...
    """

    function: Callable[[Tensor], Tensor]
    first_moment: Tensor
    second_moment: float | None = None
    inputs: Inputs | None = None

    def __post_init__(self) -> None:
        moment = self.first_moment
        if moment.ndim != 1 or len(moment) == 0 or not torch.isfinite(moment).all():
            raise ValueError(f"expected a finite first moment (d), received shape {tuple(moment.shape)}: {moment}")
        object.__setattr__(self, "first_moment", moment.detach().double())
        if self.second_moment is not None and not (self.second_moment >= 0 and math.isfinite(self.second_moment)):
            raise ValueError(f"expected a finite second moment >= 0, received {self.second_moment}")
        generator, like = random.generator(0), self.first_moment
        if self.inputs is None:
            x = random.normal((256, self.dim), generator=generator, like=like)
        else:
            self.require(self.inputs)
            x = self.inputs.sample((256,), generator=generator, like=like)
        there, back = evaluate(self.function, x), evaluate(self.function, -x)
        defect, scale = float((there + back).abs().max()), float(there.abs().max())
        if not defect <= _ODD * scale:
            raise ValueError(
                f"expected an odd function, received one with f(-x) + f(x) = {defect:.3g} where |f| is up to "
                f"{scale:.3g}; subtract its even part, or use SampledTarget"
            )

    @classmethod
    def integrated(cls, function: Callable[[Tensor], Tensor], inputs: Inputs, nodes: Nodes) -> OddTarget:
        """An odd function whose moments are integrated on nodes of the inputs' law.

        Args:
            function: f*, ``(*b, d) -> (*b)``.
            inputs: law of X.
            nodes: weighted nodes of that law, for example ``inputs.nodes(...)``.

        Returns:
            The target; its moments are as accurate as the nodes.

        Raises:
            ValueError: if the function is not odd, or the nodes do not belong to the inputs.

        Example:
            >>> from symfield.wide import Gaussian
            >>> sine = OddTarget.integrated(lambda x: x[..., 0].sin(), Gaussian(1), Gaussian(1).nodes(40))
            >>> abs(sine.first_moment.item() - math.exp(-0.5)) < 1e-12
            True
        """
        require_nodes(nodes, inputs)
        values = evaluate(function, nodes.x)
        return cls(function, (nodes.weight * values) @ nodes.x, float(nodes.weight @ values.square()), inputs)

    def __repr__(self) -> str:
        return f"OddTarget(R^{self.dim}, |first moment| = {float(self.first_moment.norm()):.4g})"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Dimension d of the inputs."""
        return len(self.first_moment)

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """f*(x)."""
        return self.function(x)

    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """⟨b, X̄⟩/2 and X̄/2."""
        self.require(inputs)
        half = self.first_moment.to(b) / 2
        return b @ half, half.expand_as(b)

    def energy(self, inputs: Inputs) -> float:
        """E f*², if it is known.

        Args:
            inputs: law of X.

        Returns:
            The second moment.

        Raises:
            ValueError: if it is not, or more than 5% smaller than that of the best linear function.
        """
        self.require(inputs)
        if self.second_moment is None:
            raise ValueError(f"the second moment of {self!r} is not known; pass second_moment= for risks")
        covariance = inputs.covariance(self.first_moment)
        inverse = torch.linalg.pinv(covariance, rtol=1e-12, hermitian=True)
        linear = float(self.first_moment @ inverse @ self.first_moment)
        if self.second_moment < 0.95 * linear:  # nodes err
            raise ValueError(
                f"expected a second moment of {linear:.6g} at least, that of the best linear function, received "
                f"{self.second_moment:.6g}; these moments belong to no function"
            )
        return self.second_moment

    def require(self, inputs: Inputs) -> None:
        """Refuse inputs of another dimension, or of another law than the moments belong to.

        Args:
            inputs: law of X.

        Raises:
            ValueError: if they differ.
        """
        super().require(inputs)
        if self.inputs is None or inputs is self.inputs:
            return
        mine, other = (law.covariance(self.first_moment) for law in (self.inputs, inputs))
        if type(inputs) is not type(self.inputs) or not torch.allclose(mine, other, rtol=1e-12, atol=0.0):
            raise ValueError(
                f"expected {self.inputs!r}, whose moments this target holds, received {inputs!r}; build the target "
                "for these inputs"
            )


def odd_polynomial(terms: Mapping[tuple[int, ...], float], inputs: Inputs) -> OddTarget:
    """An odd polynomial with its exact moments under a Gaussian or the unit sphere.

    Args:
        terms: coefficients of monomials; (0, 0, 2) stands for x_0² x_2.
        inputs: law of X.

    Returns:
        The target.

    Raises:
        ValueError: if there is no term, a monomial has even degree or a coordinate outside 0 … d−1, or a coefficient is
            not finite.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target = odd_polynomial({(0, 0, 0): 1.0, (1,): 2.0}, Gaussian(2))
        >>> target.first_moment.tolist(), target.energy(Gaussian(2))
        ([3.0, 2.0], 19.0)
    """
    monomials = _checked(terms, inputs.dim)

    def polynomial(x: Tensor) -> Tensor:
        return torch.stack([c * x[..., list(index)].prod(-1) for index, c in monomials.items()]).sum(0)

    moment = [_product_mean(monomials, {(k,): 1.0}, inputs) for k in range(inputs.dim)]
    return OddTarget(
        polynomial, torch.tensor(moment, dtype=torch.float64), _product_mean(monomials, monomials, inputs), inputs
    )


def cubic(z: Float[Tensor, " d"], inputs: Inputs, *, energy: float | None = None) -> OddTarget:
    """f*(x) = C Σ_k z_k x_k³.

    Args:
        z: coefficients, ``(d)``.
        inputs: law of X.
        energy: wanted E f*², which sets C; C = 1 when absent.

    Returns:
        The target.

    Raises:
        ValueError: if there are not d finite coefficients, or all are zero while an energy is wanted.

    Example:
        >>> from symfield.wide import Gaussian
        >>> inputs = Gaussian(20, 1 / 20)
        >>> target = cubic(torch.ones(20).double(), inputs, energy=2.0)  # risk 1 at f = 0
        >>> round(float(target.first_moment.norm() * 20) ** 2, 9)  # |w*|² = 6d/5
        24.0

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771 (the odd target of their experiments: X ~ N(0, I/d), E f*² = 2).
    """
    if z.shape != (inputs.dim,) or not torch.isfinite(z).all():
        raise ValueError(f"expected {inputs.dim} finite coefficients for {inputs!r}, received shape {tuple(z.shape)}")
    weights = z.detach().double().cpu()
    s, radius = _moments_of(inputs)
    # E x_k³ x_j = 3 S_kk S_kj and E x_k³ x_l³ = 9 S_kk S_ll S_kl + 6 S_kl³
    pull = weights * s.diagonal()
    plain = float(9 * pull @ s @ pull + 6 * weights @ s.pow(3) @ weights) / radius(3)
    scale = 1.0
    if energy is not None:
        if not (plain > 0 and energy > 0 and math.isfinite(energy)):
            raise ValueError(f"expected energy > 0 and some coefficient other than zero, received {energy} and {z}")
        scale = math.sqrt(energy / plain)
    scaled = scale * weights
    moment = 3 * scale * (s @ pull) / radius(2)
    return OddTarget(lambda x: x.pow(3) @ scaled.to(x), moment, scale**2 * plain, inputs)


def _checked(terms: Mapping[tuple[int, ...], float], dim: int) -> Terms:
    if not terms:
        raise ValueError("expected one monomial or more, received none")
    for index, coefficient in terms.items():
        if len(index) % 2 == 0 or not all(0 <= k < dim for k in index):
            raise ValueError(
                f"expected monomials of odd degree in coordinates 0 … {dim - 1}, received {index}; (0, 0, 2) stands "
                "for x_0² x_2"
            )
        if not math.isfinite(coefficient):
            raise ValueError(f"expected finite coefficients, received {coefficient} for {index}")
    return {index: float(coefficient) for index, coefficient in terms.items()}


def _moments_of(inputs: Inputs) -> tuple[Tensor, Callable[[int], float]]:
    """S of a Gaussian whose moments of degree 2k are those of the inputs times ρ(k), and ρ."""
    like = torch.zeros((), dtype=torch.float64)
    if isinstance(inputs, Gaussian):
        return inputs.covariance(like), lambda k: 1.0
    if isinstance(inputs, UnitSphere):
        dim = inputs.dim
        return torch.eye(dim, dtype=torch.float64), lambda k: float(math.prod(dim + 2 * j for j in range(k)))
    raise NotImplementedError(
        f"moments of polynomials are known for Gaussian and UnitSphere, received {inputs!r}; use OddTarget.integrated"
    )


def _product_mean(p: Terms, q: Terms, inputs: Inputs) -> float:
    """E p(X) q(X)."""
    covariance, radius = _moments_of(inputs)
    s = covariance.tolist()

    @cache
    def moment(index: tuple[int, ...]) -> float:
        if not index:
            return 1.0
        first, rest = index[0], index[1:]
        row = s[first]
        return math.fsum(row[k] * moment(rest[:j] + rest[j + 1 :]) for j, k in enumerate(rest) if row[k] != 0.0)

    def mean(index: tuple[int, ...]) -> float:
        return moment(tuple(sorted(index))) / radius(len(index) // 2)

    return math.fsum(c * e * mean(left + right) for left, c in p.items() for right, e in q.items() if c != 0 and e != 0)
