r"""The risk on the whole population, as a function of the cloud: no sampling noise, all derivatives.

For a cloud z of n particles with law μ a :class:`Population` gives

- the risk R(μ) = E ℓ(Φ_μ(X), Y);
- the potential V(a) = ∂R/∂μ(μ, a) = E⟨∇₁ℓ(Φ_μ(X), Y), σ_*(X; a)⟩, up to a constant;
- the particle gradient D_μR(μ, a) = ∇V(a), which at a = z_i is n times the gradient of R in z_i;
- the second variation: n times the Hessian of R in the particles has the blocks

      ∇²V(z_i) δ_ij + (1/n) K_ij,   K_ij = E[J_iᵀ ∇²₁ℓ J_j],   J_i(x) = ∂σ_*(x; z_i)/∂z,

  a *curvature* that every particle feels alone in the potential of the others, and a positive semi-definite *coupling*.

:func:`sampled_population` computes them on weighted nodes for any unit and any scheme;
:func:`~symfield.meanfield.gaussian_erf_population` and :func:`~symfield.meanfield.gaussian_relu_population` in closed
form for erf or ReLU units and Gaussian inputs.

References:
    Maass & Fontbona 2024, Corollary 5 and Appendix D, arXiv 2405.19995v3.
    Mei, Montanari & Nguyen 2018, *A mean field view of the landscape of two-layer neural networks*, arXiv 1804.06561.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from symfield.meanfield.losses import Squared
from symfield.meanfield.objective import Objective, check_targets
from symfield.quadrature import Nodes
from symfield.typing import Float, Map, Tensor
from symfield.units import Unit, check_shapes

__all__ = ["Population", "SampledPopulation", "block_hessians", "check_cloud", "sampled_population"]

_ENTRIES = 2**22


class Population(ABC):
    """A risk on laws of particles that can be evaluated and differentiated; float64 throughout.

    A subclass gives ``unit``, :meth:`risk`, :meth:`gradient` and :meth:`potential`, the first and last differentiable
    by autograd; it may replace the second-order methods by faster ones.
    """

    unit: Unit

    @abstractmethod
    def risk(self, z: Float[Tensor, "*r n p"]) -> Float[Tensor, "*r"]:
        """R(μ) of every run.

        Args:
            z: cloud, float64 ``(*r, n, p)``.

        Returns:
            The risk, shape ``(*r)``.
        """

    @abstractmethod
    def gradient(
        self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"] | None = None
    ) -> Float[Tensor, "*r m p"]:
        """The particle gradient D_μR(μ, a), with no factor 1/n.

        Args:
            z: cloud that defines μ, float64 ``(*r, n, p)``.
            at: points a, shape ``(*r, m, p)``; the particles themselves when absent.

        Returns:
            Gradients, shape ``(*r, m, p)``.
        """

    @abstractmethod
    def potential(self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"]) -> Float[Tensor, "*r m"]:
        """The first variation ∂R/∂μ(μ, a), up to a constant.

        Args:
            z: cloud that defines μ, float64 ``(*r, n, p)``.
            at: points a, shape ``(*r, m, p)``.

        Returns:
            Values, shape ``(*r, m)``.
        """

    def hessian_product(self, z: Float[Tensor, "n p"], v: Float[Tensor, "*k n p"]) -> Float[Tensor, "*k n p"]:
        """The derivative of the particle gradients along perturbations v: n times the Hessian of R in the particles.

        Args:
            z: one cloud, ``(n, p)``.
            v: perturbations, ``(*k, n, p)``.

        Returns:
            Products, ``(*k, n, p)``.
        """
        return z.shape[-2] * _hessian_product(self.risk, z.expand(v.shape), v)

    def curvature(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q q"]:
        """The blocks Dᵀ ∇²V(z_i) D.

        Args:
            z: one cloud, ``(n, p)``.
            directions: D, columns in parameter space, ``(p, q)``.

        Returns:
            Symmetric blocks, ``(n, q, q)``.
        """
        return block_hessians(lambda at: self.potential(z, at), z, directions)

    def coupling(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q n q"]:
        """The blocks Dᵀ K_ij D, dense.

        Args:
            z: one cloud, ``(n, p)``.
            directions: D, columns in parameter space, ``(p, q)``.

        Returns:
            The coupling, ``(n, q, n, q)``; without the factor 1/n.
        """
        n, q = len(z), directions.shape[1]
        particle = torch.eye(n, dtype=z.dtype, device=z.device)
        columns = []
        for a in range(q):  # n perturbations at a time: particle j moves along direction a
            product = self.hessian_product(z, particle.unsqueeze(-1) * directions[:, a]) @ directions
            columns.append(product)  # (j, i, b)
        full = torch.stack(columns, dim=-1).permute(1, 2, 0, 3)
        alone = torch.einsum("ij,iba->ibja", particle, self.curvature(z, directions))
        return n * (full - alone)

    def check_smooth(self, z: Float[Tensor, "*r n p"]) -> None:
        """Refuse clouds whose second derivatives do not exist or, as those of ReLU at nodes, are not seen.

        Args:
            z: cloud, float64 ``(*r, n, p)``.

        Raises:
            NotImplementedError: if the unit has a kink.
        """
        check_cloud(self.unit, z)
        if getattr(getattr(self.unit, "activation", None), "name", None) == "relu":
            raise NotImplementedError(
                f"{self.unit!r} has a kink: the second derivative at nodes misses its share, which sits at the kink "
                "itself; for Gaussian inputs use gaussian_relu_population, otherwise a smooth activation"
            )


@dataclass(frozen=True, eq=False)
class SampledPopulation(Population):
    """A population risk on weighted nodes; made by :func:`sampled_population`.

    Attributes:
        objective: the scheme, with its unit and loss.
        nodes: the law of X.
        y: targets at the nodes, float64 ``(b, o)``.
        entries: size of the largest intermediate tensor, in numbers: nodes are processed in pieces that respect it.
    """

    objective: Objective
    nodes: Nodes
    y: Tensor
    entries: int = _ENTRIES

    @property
    def unit(self) -> Unit:  # type: ignore[override]
        """σ_*."""
        return self.objective.unit

    def risk(self, z: Float[Tensor, "*r n p"]) -> Float[Tensor, "*r"]:
        """Σ_b w_b ℓ(Φ(x_b), y_b), or what the scheme makes of it."""
        check_cloud(self.unit, z)
        pieces = [self.objective.risk(z, x, y, weight=w) for x, y, w in self._pieces(z)]
        return torch.stack(pieces).sum(0)

    def gradient(
        self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"] | None = None
    ) -> Float[Tensor, "*r m p"]:
        """The scheme's particle gradient on the nodes."""
        check_cloud(self.unit, z)
        points = self.objective.restrict(z if at is None else at)
        total = torch.zeros_like(points)
        for x, u in self._covectors(z):
            total = total + self.unit.pullback(x, points, u)
        return self.objective.restrict(total)

    def potential(self, z: Float[Tensor, "*r n p"], at: Float[Tensor, "*r m p"]) -> Float[Tensor, "*r m"]:
        """Σ_b ⟨u_b, σ_*(x_b; a)⟩ with u the gradient of the risk in the predictions."""
        check_cloud(self.unit, z)
        pieces = [self._piece_potential(x, u, at) for x, u in self._covectors(z)]
        return torch.stack(pieces).sum(0)

    def hessian_product(self, z: Float[Tensor, "n p"], v: Float[Tensor, "*k n p"]) -> Float[Tensor, "*k n p"]:
        """By differentiating twice through the risk, piece by piece."""
        check_cloud(self.unit, z)
        cloud = z.expand(v.shape)
        total = torch.zeros_like(v)
        for x, y, w in self._pieces(cloud):
            total = total + _hessian_product(partial(self.objective.risk, x=x, y=y, weight=w), cloud, v)
        return len(z) * total

    def curvature(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q q"]:
        """By differentiating the potential twice, piece by piece."""
        check_cloud(self.unit, z)
        total = z.new_zeros(len(z), directions.shape[1], directions.shape[1])
        for x, u in self._covectors(z):
            total = total + block_hessians(partial(self._piece_potential, x, u), z, directions)
        return total

    def coupling(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q n q"]:
        """For the squared loss a Gram matrix of the units' derivatives; for other losses from Hessian products."""
        check_cloud(self.unit, z)
        if not isinstance(self.objective.loss, Squared):
            return super().coupling(z, directions)
        n, q = len(z), directions.shape[1]
        total = z.new_zeros(n * q, n * q)
        if q == 0:
            return total.reshape(n, q, n, q)
        for x, y, w in self._pieces(z.expand(q, *z.shape)):
            virtual = self.objective.virtual(x[0], torch.zeros_like(y[0]))
            moved = self._unit_derivatives(virtual.x, z, directions).movedim(0, 1).flatten(0, 1)  # (n·q, b', o)
            across = (n * q, -1, -1)
            flat = self.objective.virtual(x[0].expand(across), torch.zeros_like(y[0]).expand(across))
            total += moved.flatten(1) @ self.objective.cotangent(moved, flat, w[0]).flatten(1).mT
        return total.reshape(n, q, n, q)

    def noise(self, z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]) -> Float[Tensor, "n q n q"]:
        """The covariance over one random sample of the particle gradients along directions.

        Args:
            z: one cloud, ``(n, p)``.
            directions: D, columns in parameter space, ``(p, q)``.

        Returns:
            Cov(Dᵀg_i(X), Dᵀg_j(X)) with g_i(x) the gradient on the sample x alone, ``(n, q, n, q)``; that of a batch of
            B independent samples is B times smaller.
        """
        check_cloud(self.unit, z)
        n, q = len(z), directions.shape[1]
        second, first = z.new_zeros(n * q, n * q), z.new_zeros(n * q)
        for x, y, w in self._pieces(z):
            single = self.objective.gradient(z.expand(len(x), n, -1), x.unsqueeze(-2), y.unsqueeze(-2))
            g = (single @ directions).flatten(1)  # (b, n·q)
            second += g.mT @ (w.unsqueeze(-1) * g)
            first += w @ g
        return (second - torch.outer(first, first)).reshape(n, q, n, q)

    def _pieces(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Slices of the nodes, with the runs of z as leading axes, such that n·b·o·runs stays within ``entries``."""
        runs, n = z.shape[:-2], z.shape[-2]
        frame = self.objective.frame
        images = 1 if frame is None or not frame.group.is_finite else frame.group.order
        width = n * max(self.unit.out_dim, self.unit.in_dim) * images * math.prod(runs)
        size = max(1, self.entries // width)
        for start in range(0, len(self.nodes), size):
            cut = slice(start, start + size)
            yield (
                self.nodes.x[cut].to(z.device).expand(*runs, -1, -1),
                self.y[cut].to(z.device).expand(*runs, -1, -1),
                self.nodes.weight[cut].to(z.device).expand(*runs, -1),
            )

    def _covectors(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Virtual inputs and the gradient of the risk in the predictions there."""
        cloud = self.objective.restrict(z)
        for x, y, w in self._pieces(z):
            virtual = self.objective.virtual(x, y)
            yield virtual.x, self.objective.cotangent(self.unit.mean(virtual.x, cloud), virtual, w)

    def _piece_potential(self, x: Tensor, u: Tensor, at: Tensor) -> Tensor:
        return (self.unit(x, self.objective.restrict(at)) * u.unsqueeze(-3)).sum((-2, -1))

    def _unit_derivatives(self, x: Tensor, z: Tensor, directions: Tensor) -> Tensor:
        """J_i(x_b) D, shape ``(q, n, b, o)``: pull-backs are linear in the covectors, J is their derivative in them."""
        with torch.enable_grad():
            leaf = z.detach().clone().requires_grad_()
            values = self.unit(x, self.objective.restrict(leaf))
            covectors = torch.zeros_like(values, requires_grad=True)
            (pulled,) = torch.autograd.grad(values, leaf, covectors, create_graph=True)
            along = (pulled @ directions).sum(0)
            return torch.stack([torch.autograd.grad(value, covectors, retain_graph=True)[0] for value in along])


def sampled_population(objective: Objective, nodes: Nodes, target: Map | Float[Tensor, "m p"]) -> SampledPopulation:
    """The population risk of a scheme on weighted nodes.

    Args:
        objective: the scheme: ``vanilla(unit, squared)``, or DA, FA, EA; frames must be exact (``uniform(group)``).
        nodes: the law of X.
        target: f*, ``(b, d) -> (b, o)``, or the cloud of a teacher with the same unit, ``(m, p)``. (Labels y of a
            sample are the function ``lambda x: y``.)

    Returns:
        A population.

    Raises:
        ValueError: if nodes or targets do not fit the unit, or the frame draws at random.

    Example:
        >>> from symfield.meanfield import squared, vanilla
        >>> from symfield.quadrature import gauss_hermite
        >>> from symfield.units import PointwiseUnit, tanh
        >>> unit = PointwiseUnit(tanh, in_dim=1, out_dim=1)
        >>> teacher = torch.ones(1, 1, dtype=torch.float64)
        >>> population = sampled_population(vanilla(unit, squared), gauss_hermite(1, 40), teacher)
        >>> population.risk(teacher).item(), population.gradient(teacher).item()
        (0.0, 0.0)
    """
    unit = objective.unit
    if nodes.dim != unit.in_dim:
        raise ValueError(f"expected nodes in R^{unit.in_dim} for {unit!r}, received {nodes!r}")
    with torch.no_grad():
        if isinstance(target, Tensor):
            check_shapes(unit, nodes.x, target)
            y = unit.mean(nodes.x, target.detach().double())
        else:
            y = target(nodes.x).double()
        check_targets(unit, nodes.x, y)
        if not torch.isfinite(y).all():
            raise ValueError("expected finite targets at the nodes, received NaN or infinity; check the target")
        try:
            objective.virtual(nodes.x[:1], y[:1])
        except ValueError as error:
            raise ValueError(
                f"a population risk needs an exact frame, received {objective.frame!r}; pass uniform(group)"
            ) from error
    return SampledPopulation(objective, nodes, y)


def check_cloud(unit: Unit, z: Tensor) -> None:
    """Refuse clouds that do not fit a population.

    Args:
        unit: the unit.
        z: cloud, expected float64 ``(..., n, p)`` with n >= 1.

    Raises:
        ValueError: with what was expected and received.
    """
    if z.ndim < 2 or z.shape[-1] != unit.dim or z.shape[-2] == 0:
        raise ValueError(f"expected a cloud of shape (..., n, {unit.dim}) with n >= 1, received {tuple(z.shape)}")
    if z.dtype != torch.float64:
        raise ValueError(f"expected a float64 cloud, received {z.dtype}; population risks are exact: pass z.double()")


def _hessian_product(risk: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(risk(leaf).sum(), leaf, create_graph=True)
        (product,) = torch.autograd.grad((gradient * v.detach()).sum(), leaf)
    return product


def block_hessians(
    potential: Callable[[Tensor], Tensor], z: Float[Tensor, "n p"], directions: Float[Tensor, "p q"]
) -> Float[Tensor, "n q q"]:
    """The Hessians Dᵀ∇²V(z_i)D of a function that acts on every particle alone.

    Args:
        potential: V, ``(n, p) -> (n)``, differentiable by autograd.
        z: points, ``(n, p)``.
        directions: D, ``(p, q)``.

    Returns:
        Blocks, ``(n, q, q)``.
    """
    n, q = len(z), directions.shape[1]
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(potential(leaf).sum(), leaf, create_graph=True)
        if not gradient.requires_grad or q == 0:  # a unit linear in z
            return z.new_zeros(n, q, q)
        columns = [
            torch.autograd.grad((gradient @ d).sum(), leaf, retain_graph=True, materialize_grads=True)[0] @ directions
            for d in directions.mT
        ]
    return torch.stack(columns, dim=-1)
