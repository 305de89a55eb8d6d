r"""Linear layers whose weights are equivariant by construction.

The trainable parameters are the coordinates c of the weight W = Σ_k c_k B_k in an orthonormal basis of all equivariant
maps. W is expanded from c once per forward pass, by gathering for orbits, blockwise for direct sums, and with the dense
basis only where there is no structure; it then serves the whole batch as an ordinary matrix.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

from symfield.equivariant.solve import equivariant_maps, fixed_points
from symfield.groups import Representation
from symfield.linalg import Subspace
from symfield.linalg.storage import Dense, DirectSum
from symfield.random import normal
from symfield.typing import Float, Generator, Tensor

__all__ = ["EquivariantLinear", "EquivariantWeight", "equivariant"]


class EquivariantWeight(nn.Module):
    """The map from coordinates to the tensor they stand for; a parametrization for ``torch.nn.utils.parametrize``.

    Args:
        subspace: the allowed tensors, flattened.
        shape: shape of the tensor.

    Example:
        >>> weight = EquivariantWeight(Subspace.from_orbits(torch.tensor([0, 1, 1, 0])), (2, 2))
        >>> weight(torch.tensor([2.0, 0.0])).round(decimals=3)
        tensor([[1.4140, 0.0000],
                [0.0000, 1.4140]])
    """

    def __init__(self, subspace: Subspace, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.subspace = subspace
        self.shape = shape

    def forward(self, coordinates: Float[Tensor, "*batch r"]) -> Float[Tensor, "..."]:
        """The tensor B c, in the dtype and on the device of the coordinates."""
        flat = self.subspace.storage.embed(coordinates)
        return flat.reshape(*coordinates.shape[:-1], *self.shape)

    def right_inverse(self, weight: Float[Tensor, "..."]) -> Float[Tensor, " r"]:
        """Coordinates of the orthogonal projection of a tensor onto the subspace."""
        return self.subspace.coordinates(weight.reshape(-1))

    def extra_repr(self) -> str:
        """Shape and number of coordinates."""
        return f"{self.shape} from {self.subspace.dim} coordinates"


class _StoredWeight(EquivariantWeight):
    """The same for a numerically computed basis, which belongs to the checkpoint.

    Orbits give the same basis everywhere. A dense basis is only determined up to a rotation, and another machine may
    find another one, in which the saved coordinates would mean another weight.
    """

    def get_extra_state(self) -> Tensor:
        return torch.cat([part.basis.reshape(-1) for part in _dense_parts(self.subspace)])

    def set_extra_state(self, state: Tensor) -> None:
        parts = _dense_parts(self.subspace)
        if state.numel() != sum(part.basis.numel() for part in parts):
            raise ValueError(
                f"expected a basis of {self.subspace!r}, received {state.numel()} numbers; the checkpoint belongs to "
                f"other representations"
            )
        pieces = state.double().cpu().split([part.basis.numel() for part in parts])
        stored = [piece.reshape(part.basis.shape) for piece, part in zip(pieces, parts, strict=True)]
        for old, new in zip(parts, stored, strict=True):
            Subspace.from_basis(new)
            if not bool(Subspace(old).contains(new.mT, atol=1e-7).all()):
                raise ValueError(
                    "expected a basis of the same equivariant maps, received one of others; the checkpoint belongs to "
                    "other representations"
                )
        self.subspace = _with_bases(self.subspace, stored)


class EquivariantLinear(nn.Module):
    """A linear layer y = W x + b with W ρ(g) = ρ̂(g) W and ρ̂(g) b = b.

    The coordinates of W start as independent N(0, o / r), r their number, so that E‖W x‖² = o for standard normal x,
    as for an unconstrained o × d matrix with entries N(0, 1/d); b starts at zero. Without ``generator`` the numbers
    come from torch's global one, as in ``torch.nn.Linear``.

    Args:
        rep_in: ρ, of dim d.
        rep_out: ρ̂, of dim o.
        bias: whether to add an invariant bias.
        generator: source of the initial coordinates.
        dtype: dtype of the parameters.
        device: device of the parameters.

    Raises:
        ValueError: if the groups differ.
        FixedPointError: and the other errors of :func:`symfield.equivariant.fixed_points`.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Symmetric
        >>> points = Defining(Symmetric(4))
        >>> layer = EquivariantLinear(2 * points, 3 * points)
        >>> layer
        EquivariantLinear(2·V -> 3·V of S_4, 12 weights, 3 biases)
        >>> layer(torch.zeros(5, 8)).shape
        torch.Size([5, 12])
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        bias: bool = True,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.rep_in, self.rep_out = rep_in, rep_out
        self.weight_map = _weight(equivariant_maps(rep_in, rep_out), (rep_out.dim, rep_in.dim))
        self.coefficients = nn.Parameter(torch.empty(self.weight_map.subspace.dim, dtype=dtype, device=device))
        self.bias_map = _weight(fixed_points(rep_out), (rep_out.dim,)) if bias else None
        self.bias_coefficients = (
            nn.Parameter(torch.empty(self.bias_map.subspace.dim, dtype=dtype, device=device)) if self.bias_map else None
        )
        self.reset_parameters(generator=generator)

    def reset_parameters(self, *, generator: Generator | None = None) -> None:
        """Draw the weights anew and set the bias to zero.

        Args:
            generator: source of randomness; torch's global one when absent.
        """
        dim = self.coefficients.numel()
        std = math.sqrt(self.rep_out.dim / max(dim, 1))
        with torch.no_grad():
            if generator is None:
                self.coefficients.normal_(std=std)
            else:
                self.coefficients.copy_(normal((dim,), generator=generator, like=self.coefficients, std=std))
            if self.bias_coefficients is not None:
                self.bias_coefficients.zero_()

    @property
    def weight(self) -> Float[Tensor, "o d"]:
        """The equivariant matrix W."""
        return self.weight_map(self.coefficients)

    @property
    def bias(self) -> Float[Tensor, " o"] | None:
        """The invariant vector b, or ``None``."""
        return None if self.bias_map is None else self.bias_map(self.bias_coefficients)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch o"]:
        """W x + b on the last axis.

        Args:
            x: inputs, ``(*batch, d)``.

        Returns:
            Outputs, ``(*batch, o)``.

        Raises:
            ValueError: if the inputs do not have d entries.
        """
        if x.shape[-1] != self.rep_in.dim:
            raise ValueError(f"expected inputs (*batch, {self.rep_in.dim}), received {tuple(x.shape)}; {self!r}")
        return nn.functional.linear(x, self.weight, self.bias)

    def __repr__(self) -> str:
        biases = "no" if self.bias_map is None else self.bias_map.subspace.dim
        return (
            f"EquivariantLinear({self.rep_in} -> {self.rep_out} of {self.rep_in.group}, "
            f"{self.coefficients.numel()} weights, {biases} biases)"
        )


def equivariant(layer: nn.Module, name: str, rep_in: Representation, rep_out: Representation) -> nn.Module:
    """Make a tensor of a layer of your own equivariant, in place, through ``torch.nn.utils.parametrize``.

    The tensor is replaced by its orthogonal projection onto the equivariant maps, and its trainable parameter becomes
    the vector of coordinates there. ``parametrize.remove_parametrizations(layer, name)`` undoes it.

    Args:
        layer: the layer, changed in place.
        name: its parameter, of shape ``(o, d)``; or ``(o,)``, a bias, with ``rep_in = Trivial(group)``.
        rep_in: ρ, of dim d.
        rep_out: ρ̂, of dim o.

    Returns:
        The layer.

    Raises:
        ValueError: if the layer has no such parameter, its shape does not fit, or the groups differ.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> shifts = Defining(Cyclic(4))
        >>> layer = equivariant(nn.Linear(4, 4), "weight", shifts, shifts)
        >>> layer = equivariant(layer, "bias", Trivial(shifts.group), shifts)
        >>> sum(p.numel() for p in layer.parameters())
        5
        >>> torch.allclose(layer.weight[0], layer.weight[1].roll(-1))
        True

    References:
        https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.register_parametrization.html
    """
    tensor = getattr(layer, name, None)
    if not isinstance(tensor, Tensor):
        known = [key for key, _ in layer.named_parameters(recurse=False)]
        raise ValueError(f"expected a parameter of {type(layer).__name__}, received {name!r}; choose one of {known}")
    expected = (rep_out.dim, rep_in.dim)
    vector = rep_in.dim == 1 and tuple(tensor.shape) == (rep_out.dim,)
    if tuple(tensor.shape) != expected and not vector:
        raise ValueError(
            f"expected {name} of shape {expected} = (dim of {rep_out}, dim of {rep_in}), received "
            f"{tuple(tensor.shape)}; choose representations of these dimensions (a convolution kernel has more axes: "
            f"constrain it through a representation of its flattened channels and positions)"
        )
    weight = _weight(equivariant_maps(rep_in, rep_out), tuple(tensor.shape))
    parametrize.register_parametrization(layer, name, weight)
    return layer


def _weight(subspace: Subspace, shape: tuple[int, ...]) -> EquivariantWeight:
    return _StoredWeight(subspace, shape) if _dense_parts(subspace) else EquivariantWeight(subspace, shape)


def _dense_parts(subspace: Subspace) -> list[Dense]:
    storage = subspace.storage
    inner = [part.inner for part in storage.parts] if isinstance(storage, DirectSum) else [storage]
    return [form for form in inner if isinstance(form, Dense)]


def _with_bases(subspace: Subspace, bases: list[Tensor]) -> Subspace:
    """The same subspace with other bases of its dense parts, in order."""
    if not isinstance(subspace.storage, DirectSum):
        return Subspace(Dense(bases[0]), subspace.residual)
    remaining = iter(bases)
    inner = [Dense(next(remaining)) if isinstance(p.inner, Dense) else p.inner for p in subspace.storage.parts]
    parts = [(part.index, Subspace(form)) for part, form in zip(subspace.storage.parts, inner, strict=True)]
    return Subspace(Subspace.direct_sum(parts).storage, subspace.residual)
