"""Units with hand-written gradients: σ(z·x), and W σ(Aᵀx + B) with its special case a·relu(w·x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from symfield.groups import Representation, Trivial, hom
from symfield.typing import Float, Tensor
from symfield.units.activations import Activation, relu
from symfield.units.unit import Unit

__all__ = ["HiddenUnit", "PointwiseUnit", "ReLUUnit"]


@dataclass(frozen=True)
class PointwiseUnit(Unit):
    """σ_*(x; z) = σ(z x): a matrix z ∈ R^{o×d}, then a pointwise activation; no bias, no output weight.

    Parameters are the rows of z, one after the other (row-major), p = o·d. A group acts by M_g z = ρ̂_g z ρ_g^{-1}.
    The unit is jointly equivariant when σ commutes with ρ̂: permutations for any σ, signed permutations for odd σ.

    Attributes:
        activation: σ, an :class:`~symfield.units.Activation` or any elementwise function.
        in_dim: d.
        out_dim: o.

    References:
        Maass & Fontbona 2024, Section 4 and Appendix F, arXiv 2405.19995v3.
    """

    activation: Activation
    in_dim: int
    out_dim: int

    def __init__(self, activation: Activation | Callable[[Tensor], Tensor], in_dim: int, out_dim: int) -> None:
        _require_positive(in_dim=in_dim, out_dim=out_dim)
        object.__setattr__(self, "activation", Activation.of(activation))
        object.__setattr__(self, "in_dim", in_dim)
        object.__setattr__(self, "out_dim", out_dim)

    @property
    def dim(self) -> int:
        """Number of entries of z, o·d."""
        return self.out_dim * self.in_dim

    def _preactivation(self, x: Tensor, z: Tensor) -> Tensor:
        matrix = z.unflatten(-1, (self.out_dim, self.in_dim))
        return torch.einsum("...bd,...nod->...nbo", x, matrix)

    def __call__(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """σ(z_i x_b), shape ``(*r, n, b, o)``."""
        return self.activation(self._preactivation(x, z))

    def pullback(
        self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"], u: Float[Tensor, "*#r b o"]
    ) -> Float[Tensor, "..."]:
        """Σ_b (u_b ⊙ σ'(z_i x_b)) x_bᵀ, shape ``(*r, n, p)``."""
        pre = self._preactivation(x, z)
        delta = self.activation.derivative(pre, self.activation(pre)) * u.unsqueeze(-3)
        return torch.einsum("...nbo,...bd->...nod", delta, x).flatten(-2)

    def representation(
        self, rep_in: Representation, rep_out: Representation, hidden: object | None = None
    ) -> Representation:
        """M_g z = ρ̂_g z ρ_g^{-1} on R^{o·d}.

        Args:
            rep_in: ρ, dim d.
            rep_out: ρ̂, dim o.
            hidden: must be absent; this unit has no hidden coordinates.

        Returns:
            hom(ρ, ρ̂).

        Raises:
            ValueError: if dimensions do not fit, or ``hidden`` is given.
        """
        if hidden is not None:
            raise ValueError("a PointwiseUnit has no hidden coordinates; leave `hidden` out or use HiddenUnit")
        require_dims(self, rep_in, rep_out)
        return hom(rep_in, rep_out)


@dataclass(frozen=True)
class HiddenUnit(Unit):
    """σ_*(x; z) = W σ(Aᵀx + B) with z = (W ∈ R^{o×h}, A ∈ R^{d×h}, B ∈ R^h), row-major, in this order.

    A group with a hidden representation η acts by the intertwining action M_g (W, A, B) = (ρ̂_g W η_g^{-1},
    ρ_g A η_g^{-1}, η_g B); where ρ or η are not orthogonal, by ρ_g^{-ᵀ} A η_gᵀ in the middle. Joint equivariance holds
    when σ commutes with η: always for trivial η, for permutations with any pointwise σ, for signs with an odd one.

    Attributes:
        activation: σ, applied pointwise on R^h.
        in_dim: d.
        out_dim: o.
        hidden: h.
        bias: whether B is there.

    References:
        Maass & Fontbona 2024, Section 2.1 and Proposition 11, arXiv 2405.19995v3.
    """

    activation: Activation
    in_dim: int
    out_dim: int
    hidden: int = 1
    bias: bool = True
    _sizes: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        activation: Activation | Callable[[Tensor], Tensor],
        in_dim: int,
        out_dim: int,
        *,
        hidden: int = 1,
        bias: bool = True,
    ) -> None:
        _require_positive(in_dim=in_dim, out_dim=out_dim, hidden=hidden)
        object.__setattr__(self, "activation", Activation.of(activation))
        object.__setattr__(self, "in_dim", in_dim)
        object.__setattr__(self, "out_dim", out_dim)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "_sizes", (out_dim * hidden, in_dim * hidden, hidden * bias))

    @property
    def dim(self) -> int:
        """Number of entries of (W, A, B), o·h + d·h + h."""
        return sum(self._sizes)

    def unpack(
        self, z: Float[Tensor, "*r n p"]
    ) -> tuple[Float[Tensor, "*r n o h"], Float[Tensor, "*r n d h"], Float[Tensor, "*r n c"]]:
        """Cut parameters into (W, A, B).

        Args:
            z: cloud, shape ``(*r, n, p)``.

        Returns:
            W ``(*r, n, o, h)``, A ``(*r, n, d, h)``, B ``(*r, n, h)`` (``(*r, n, 0)`` without a bias); views.
        """
        w, a, b = z.split(self._sizes, dim=-1)
        return w.unflatten(-1, (self.out_dim, self.hidden)), a.unflatten(-1, (self.in_dim, self.hidden)), b

    def _preactivation(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        pre = torch.einsum("...bd,...ndh->...nbh", x, a)
        return pre + b.unsqueeze(-2) if self.bias else pre

    def __call__(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """W_i σ(A_iᵀ x_b + B_i), shape ``(*r, n, b, o)``."""
        w, a, b = self.unpack(z)
        return torch.einsum("...nbh,...noh->...nbo", self.activation(self._preactivation(x, a, b)), w)

    def mean(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """(1/n) Σ_i W_i σ(A_iᵀ x_b + B_i), shape ``(*r, b, o)``, as two matrix products over all hidden coordinates."""
        w, a, b = self._stacked(z)
        return self.activation(self._preactivations(x, a, b)) @ w.mT / z.shape[-2]

    def pullback(
        self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"], u: Float[Tensor, "*#r b o"]
    ) -> Float[Tensor, "..."]:
        """Gradients in W, A and B, shape ``(*r, n, p)``."""
        w, a, b = self._stacked(z)
        pre = self._preactivations(x, a, b)
        value = self.activation(pre)
        delta = (u @ w) * self.activation.derivative(pre, value)
        parts = [(u.mT @ value), (x.mT @ delta)]
        if self.bias:
            parts.append(delta.sum(-2, keepdim=True))
        runs = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))
        n = z.shape[-2]
        each = [part.unflatten(-1, (n, self.hidden)).movedim(-2, -3).flatten(-2) for part in parts]
        return torch.cat([part.expand(*runs, *part.shape[-2:]) for part in each], dim=-1)

    def _stacked(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layers of the whole ensemble: W ``(*r, o, n·h)``, A ``(*r, d, n·h)``, B ``(*r, 1, n·h)``."""
        w, a, b = self.unpack(z)
        return w.movedim(-3, -2).flatten(-2), a.movedim(-3, -2).flatten(-2), b.flatten(-2).unsqueeze(-2)

    def _preactivations(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x @ a + b if self.bias else x @ a

    def representation(
        self, rep_in: Representation, rep_out: Representation, hidden: object | None = None
    ) -> Representation:
        """The intertwining action on (W, A, B).

        Args:
            rep_in: ρ, dim d.
            rep_out: ρ̂, dim o.
            hidden: η, dim h; trivial when absent.

        Returns:
            hom(η, ρ̂) + hom(η, ρ) + η (the last with a bias); the middle one of the duals where they are not orthogonal.

        Raises:
            ValueError: if dimensions do not fit.
        """
        require_dims(self, rep_in, rep_out)
        eta = Trivial(rep_in.group, self.hidden) if hidden is None else hidden
        if not isinstance(eta, Representation) or eta.dim != self.hidden:
            raise ValueError(f"expected a hidden representation of dim {self.hidden}, received {eta!r}")
        alpha, beta = (rep if rep.orthogonal else rep.dual for rep in (rep_in, eta))
        weights = hom(eta, rep_out) + hom(beta, alpha)
        return weights + eta if self.bias else weights


def ReLUUnit(in_dim: int, out_dim: int = 1) -> HiddenUnit:
    """The unit a·relu(w·x) of two-layer ReLU networks: z = (a ∈ R^o, w ∈ R^d).

    Args:
        in_dim: d.
        out_dim: o.

    Returns:
        A :class:`HiddenUnit` with one hidden coordinate and no bias.

    Example:
        >>> ReLUUnit(3).dim
        4
    """
    return HiddenUnit(relu, in_dim, out_dim, hidden=1, bias=False)


def require_dims(unit: Unit, rep_in: Representation, rep_out: Representation) -> None:
    """Refuse representations whose dimensions or groups do not fit a unit.

    Args:
        unit: the unit.
        rep_in: representation on inputs.
        rep_out: representation on outputs.

    Raises:
        ValueError: with what was expected and received.
    """
    for side, expected, rep in (("rep_in", unit.in_dim, rep_in), ("rep_out", unit.out_dim, rep_out)):
        if rep.dim != expected:
            raise ValueError(f"expected {side} of dim {expected} for {unit!r}, received {rep} of dim {rep.dim}")
    if rep_in.group != rep_out.group:
        raise ValueError(f"expected one group, received {rep_in.group} on inputs and {rep_out.group} on outputs")


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"expected {name} >= 1, received {size}")
