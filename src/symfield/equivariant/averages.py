r"""The Reynolds operator R x = ∫_G ρ(g) x dg: the equivariant projection onto the fixed points.

R² = R and R ρ(g) = ρ(g) R = R. For an orthogonal representation R is the orthogonal projection onto Fix(ρ). For a
general one it is oblique: its range is Fix(ρ), and since Rᵀ is the Reynolds operator of g ↦ ρ(g)ᵀ, i.e. of the dual ρ*,
its kernel is the orthogonal complement of Fix(ρ*). With orthonormal bases B of Fix(ρ) and C of Fix(ρ*),

    R = B (CᵀB)⁻¹ Cᵀ,

which holds for every compact group and needs no sum over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from symfield.equivariant.solve import fixed_points
from symfield.groups import Representation
from symfield.linalg import Subspace
from symfield.typing import Float, Tensor

__all__ = ["Reynolds", "reynolds"]


@dataclass(frozen=True, eq=False)
class Reynolds:
    """The average of a representation over its group, as a function of vectors.

    Attributes:
        subspace: Fix(ρ), the range.
        dual_subspace: Fix(ρ*), whose orthogonal complement is the kernel; the range itself when ρ is orthogonal.
    """

    subspace: Subspace
    dual_subspace: Subspace

    def __call__(self, x: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """∫ ρ(g) x dg on the last axis, in x's dtype and on its device."""
        if self.dual_subspace is self.subspace:
            return self.subspace.project(x)
        coordinates = self.dual_subspace.coordinates(x.double()) @ self._transfer.to(x.device).mT
        return self.subspace.embed(coordinates).to(x.dtype)

    @cached_property
    def _transfer(self) -> Float[Tensor, "r r"]:
        """(CᵀB)⁻¹."""
        return torch.linalg.inv(self.dual_subspace.coordinates(self.subspace.basis.mT).mT)


def reynolds(rep: Representation) -> Reynolds:
    """The Reynolds operator of a representation.

    Args:
        rep: representation of a compact group, of dim N.

    Returns:
        A function x ↦ ∫ ρ(g) x dg on ``(*batch, N)``, with ``.subspace`` its range.

    Raises:
        FixedPointError: and the other errors of :func:`symfield.equivariant.fixed_points`.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Matrix
        >>> reynolds(Defining(Cyclic(2)))(torch.tensor([1.0, 3.0]))
        tensor([2., 2.])
        >>> shear = Matrix(Cyclic(2), [[[1.0, 1.0], [0.0, -1.0]]])  # not orthogonal: an oblique projection
        >>> reynolds(shear)(torch.tensor([1.0, 2.0]))
        tensor([2., 0.])
    """
    space = fixed_points(rep)
    return Reynolds(space, space if rep.orthogonal else fixed_points(rep.dual))
