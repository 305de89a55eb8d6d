"""The unit σ_*(x; z) and the ensemble Φ(x) = (1/n) Σ_i σ_*(x; z_i).

A unit maps an input x ∈ R^d and parameters z ∈ R^p to R^o. An ensemble of n units is the cloud z: (n, p) of their
parameters; everything accepts leading axes (runs) on the cloud and on the inputs.

Two primitives are all that training needs, because a loss sees the parameters only through Φ:

- ``mean(x, z)``: Φ at every input;
- ``pullback(x, z, u)``: ∇_{z_i} Σ_b ⟨u_b, σ_*(x_b; z_i)⟩ for every particle, *without* the 1/n of the mean. With
  u_b = ∇₁ℓ(Φ(x_b), y_b)/B this is the particle gradient D_μR(μ, z_i) of Maass & Fontbona (2024), Corollary 5,
  arXiv 2405.19995v3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from symfield.groups import Representation
from symfield.typing import Float, Tensor

__all__ = ["Unit", "ensemble"]


class Unit(ABC):
    """A parametrised map (x, z) ↦ σ_*(x; z) ∈ R^o.

    A subclass gives ``in_dim`` (d), ``out_dim`` (o), ``dim`` (p) and :meth:`__call__`; it may replace the two
    primitives :meth:`mean` and :meth:`pullback` by faster ones.
    """

    in_dim: int
    out_dim: int

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number p of parameters of one unit."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """Every unit at every input.

        Args:
            x: inputs, shape ``(*r, b, d)``.
            z: cloud of parameters, shape ``(*r, n, p)``; leading axes broadcast against those of ``x``.

        Returns:
            Values, shape ``(*r, n, b, o)``.
        """

    def mean(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """The ensemble Φ(x) = (1/n) Σ_i σ_*(x; z_i).

        Args:
            x: inputs, shape ``(*r, b, d)``.
            z: cloud, shape ``(*r, n, p)``.

        Returns:
            Φ at every input, shape ``(*r, b, o)``.
        """
        return self(x, z).mean(dim=-3)

    def pullback(
        self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"], u: Float[Tensor, "*#r b o"]
    ) -> Float[Tensor, "..."]:
        """∇_{z_i} Σ_b ⟨u_b, σ_*(x_b; z_i)⟩ for every particle i, by autograd.

        Args:
            x: inputs, shape ``(*r, b, d)``.
            z: cloud, shape ``(*r, n, p)``.
            u: covectors at the outputs, shape ``(*r, b, o)``.

        Returns:
            Particle gradients, shape ``(*r, n, p)``; no factor 1/n. A cloud that several runs share has a gradient for
            each of them.
        """
        runs = torch.broadcast_shapes(x.shape[:-2], z.shape[:-2], u.shape[:-2])
        with torch.enable_grad():
            leaf = z.detach().expand(*runs, *z.shape[-2:]).requires_grad_()
            value = (self(x, leaf) * u.unsqueeze(-3)).sum()
            (gradient,) = torch.autograd.grad(value, leaf)
        return gradient

    def representation(
        self, rep_in: Representation, rep_out: Representation, hidden: object | None = None
    ) -> Representation:
        """The action M of the group on the parameters that makes σ_* jointly equivariant.

        Args:
            rep_in: representation on inputs, dim d.
            rep_out: representation on outputs, dim o.
            hidden: representation(s) on hidden coordinates, where the unit has any.

        Returns:
            A representation on R^p. That the unit really is jointly equivariant under it depends on the activation:
            :func:`symfield.units.action` checks.

        Raises:
            NotImplementedError: if this kind of unit has no known action.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no known action on its parameters; pass `parameters=` (a Representation of "
            f"dim {self.dim}) to symfield.units.action, or implement `representation` in a subclass"
        )


def ensemble(unit: Unit, x: Float[Tensor, "..."], z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The ensemble Φ(x) = (1/n) Σ_i σ_*(x; z_i).

    Args:
        unit: the unit σ_*.
        x: inputs, shape ``(*r, b, d)``.
        z: cloud of parameters, shape ``(*r, n, p)``.

    Returns:
        Φ at every input, shape ``(*r, b, o)``.

    Raises:
        ValueError: if shapes do not fit the unit, or the cloud is empty.

    Example:
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> unit = PointwiseUnit(sigmoid, in_dim=2, out_dim=2)
        >>> ensemble(unit, torch.zeros(3, 2), torch.zeros(5, 4))[0].tolist()
        [0.5, 0.5]

    References:
        Maass & Fontbona 2024, Section 2.1, arXiv 2405.19995v3.
    """
    check_shapes(unit, x, z)
    return unit.mean(x, z)


def check_shapes(unit: Unit, x: Tensor, z: Tensor) -> None:
    """Refuse inputs and clouds that do not fit a unit.

    Args:
        unit: the unit.
        x: inputs, expected ``(..., b, d)``.
        z: cloud, expected ``(..., n, p)``.

    Raises:
        ValueError: with the expected and the received shape.

    Example:
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> check_shapes(PointwiseUnit(sigmoid, in_dim=2, out_dim=2), torch.zeros(3, 2), torch.zeros(5, 3))
        Traceback (most recent call last):
        ValueError: expected a cloud of shape (..., n, 4), received (5, 3)
    """
    if x.ndim < 2 or x.shape[-1] != unit.in_dim:
        raise ValueError(f"expected inputs of shape (..., b, {unit.in_dim}), received {tuple(x.shape)}")
    if z.ndim < 2 or z.shape[-1] != unit.dim:
        raise ValueError(f"expected a cloud of shape (..., n, {unit.dim}), received {tuple(z.shape)}")
    if z.shape[-2] == 0:
        raise ValueError(f"expected at least one particle, received a cloud of shape {tuple(z.shape)}; take n >= 1")
    try:
        torch.broadcast_shapes(x.shape[:-2], z.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"expected leading axes of inputs and cloud that broadcast, received {tuple(x.shape)} and "
            f"{tuple(z.shape)}; insert axes of length one for what runs share"
        ) from error


def aligned(z: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Batches that runs share, with axes of length one for the leading axes of the cloud or of one another they lack.

    Args:
        z: cloud, shape ``(*r, n, p)``.
        *parts: inputs and targets, each with any number of leading axes.

    Returns:
        The parts with equally many axes.
    """
    axes = max(part.ndim for part in (z, *parts))
    return tuple(part.reshape(*(1,) * (axes - part.ndim), *part.shape) for part in parts)
