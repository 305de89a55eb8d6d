"""Fixed points by dense null spaces: restrict to the null space of one constraint after the other.

With B_0 = I and B_{k+1} = B_k null(C_k B_k), every step decides its rank on singular values of a matrix with
orthonormal columns times one constraint, not on a squared Gram matrix, so that values down to 1e-9 are told from zero.
"""

from __future__ import annotations

import torch

from symfield.groups import Representation
from symfield.linalg import Subspace, null_space

__all__ = ["by_null_space"]


def by_null_space(rep: Representation) -> Subspace:
    """Fixed points of any representation of moderate dimension.

    Orthogonality is not needed: the result is an orthonormal basis of the fixed space, also of a representation by
    non-orthogonal matrices. Costs O(dim³) time and O(dim²) memory.

    Args:
        rep: the representation.

    Returns:
        The subspace of all x with ρ(g) x = x for all g.

    Raises:
        AmbiguousRankError: if a constraint's singular values do not separate into zero and non-zero.

    Example:
        >>> from symfield.groups import Cyclic, Planar
        >>> by_null_space(Planar(Cyclic(5)) ** 2).dim
        2
    """
    basis = torch.eye(rep.dim, dtype=torch.float64)
    eye = torch.eye(rep.dim, dtype=torch.float64)
    constraints = [rep.matrix(g) - eye for g in rep.group.generators] + [rep.lie(a) for a in rep.group.lie_algebra]
    for constraint in constraints:
        size = float(torch.linalg.vector_norm(constraint, dim=0).max())
        basis = basis @ null_space(constraint @ basis, scale=max(size, 1.0)).basis
    # Products of orthonormal factors drift from orthonormality by round-off only; one QR removes it.
    return Subspace.from_basis(torch.linalg.qr(basis)[0])
