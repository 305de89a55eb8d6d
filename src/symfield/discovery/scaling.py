r"""Units of inputs and targets that a group does not notice: shifts by fixed vectors, one scale a block of coordinates.

Networks and kernels want inputs of variance one. A scale of its own for every column would break most symmetries, and a
comparison of schemes must not depend on it; so the mean is projected on the fixed vectors, and coordinates that the
group mixes share a scale. Both commute with ρ, hence f is equivariant in the new units exactly if it was in the old.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from symfield.equivariant import reynolds
from symfield.groups import Representation
from symfield.typing import Float, Int, Tensor

__all__ = ["Scaling", "blocks", "scaling"]


@dataclass(frozen=True)
class Scaling:
    """The affine map v ↦ (v − shift) / scale.

    Attributes:
        shift: shape ``(d,)``.
        scale: positive, shape ``(d,)``.
    """

    shift: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    def __call__(self, v: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Into the new units."""
        return (v - self.shift.to(v)) / self.scale.to(v)

    def undo(self, v: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Back into the old units."""
        return v * self.scale.to(v) + self.shift.to(v)


def blocks(rep: Representation) -> Int[Tensor, " d"]:
    """A label for every coordinate, equal where the group mixes coordinates.

    Args:
        rep: a representation of dim d.

    Returns:
        Labels 0, 1, …, shape ``(d,)``.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> blocks(Defining(Cyclic(3)) + Trivial(Cyclic(3), 2)).tolist()
        [0, 0, 0, 1, 2]
    """
    group = rep.group
    matrices = torch.cat([rep.matrix(group.generators), rep.lie(group.lie_algebra)])
    linked = (matrices.abs() > 1e-9).any(0) | torch.eye(rep.dim, dtype=torch.bool)
    reach = (linked | linked.mT).double()
    for _ in range(max(1, (rep.dim - 1).bit_length())):  # paths of doubled length
        reach = ((reach @ reach) > 0).double()
    first = reach.argmax(-1)  # the least coordinate of the block
    return first.unique(return_inverse=True)[1]


def scaling(values: Float[Tensor, "b d"], rep: Representation) -> Scaling:
    """Units in which values have about mean zero and variance one, as far as they commute with a representation.

    Args:
        values: samples, shape ``(b, d)``.
        rep: ρ, dim d.

    Returns:
        The map; a constant block keeps its scale.

    Raises:
        ValueError: if dimensions do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> swap = Defining(Cyclic(2))
        >>> x = torch.tensor([[0.0, 4.0], [2.0, 2.0]], dtype=torch.float64)
        >>> scaling(x, swap).shift.tolist(), scaling(x, swap).scale.tolist()
        ([2.0, 2.0], [1.4142135623730951, 1.4142135623730951])
    """
    if values.shape[-1] != rep.dim:
        raise ValueError(f"expected {rep.dim} columns for {rep} of {rep.group}, received {values.shape[-1]}")
    values = values.double()
    shift = reynolds(rep)(values.mean(0))
    labels = blocks(rep)
    square = (values - shift).square().mean(0)
    count = torch.zeros(int(labels.max()) + 1, dtype=torch.float64)
    total = count.index_add(0, labels, square) / count.index_add(0, labels, torch.ones_like(square))
    scale = total[labels].sqrt()
    size = torch.zeros_like(count).scatter_reduce(0, labels, values.abs().amax(0), "amax")[labels]
    return Scaling(shift, torch.where(scale > 1e-12 * size, scale, torch.ones_like(scale)))
