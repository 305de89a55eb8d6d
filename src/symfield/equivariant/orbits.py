"""Fixed points of permutation-like representations: one basis vector for each signed orbit of coordinates.

(ρ(g)x)_i = s_i x_{f(i)}, so x is fixed iff x_i = s_i x_{f(i)} for the maps f and signs s of all discrete generators.
(A connected group cannot permute coordinates, so the Lie algebra adds nothing.) An orbit that meets its own negative
carries only zero. Exact, and linear in coordinates times generators: nothing of size dim × dim is built.
"""

from __future__ import annotations

from symfield.groups import Representation
from symfield.linalg import Subspace, signed_orbits

__all__ = ["by_orbits"]


def by_orbits(rep: Representation) -> Subspace:
    """Fixed points of a permutation-like representation.

    Args:
        rep: a representation whose ``signed_permutation`` is not ``None``.

    Returns:
        The subspace of all x with ρ(g) x = x for all g, held as orbits.

    Raises:
        ValueError: if the representation is not permutation-like.

    Example:
        >>> from symfield.groups import Defining, Symmetric
        >>> by_orbits(Defining(Symmetric(4)) ** 4)
        Subspace(dim=15, ambient_dim=256, form=orbits, residual=0.0e+00)
    """
    signed = rep.signed_permutation(rep.group.generators)
    if signed is None:
        raise ValueError(
            f"expected a permutation-like representation, received {rep} of {rep.group}; use equivariant.fixed_points, "
            f"which handles every representation"
        )
    index, sign = signed
    return Subspace.from_orbits(*signed_orbits(index.reshape(-1, rep.dim), sign))
