"""Linear subspaces as values, and the few solvers that produce them.

A :class:`Subspace` of R^N is held in one of three forms behind one interface: a dense orthonormal basis; *signed
orbits*, i.e. a partition of the coordinates into classes on which a vector is constant up to a sign, which is what
permutation-like symmetries give, costs O(N) memory and projects exactly to the last bit; or a *direct sum* of copies
of small subspaces on disjoint coordinates, which is what channels give.
:func:`null_space`, :func:`intersect` and :func:`join` decide ranks in float64 with an explicit gap test
(:func:`numerical_rank`) and raise :class:`AmbiguousRankError` instead of guessing. :func:`require_covariance` refuses
what is not a covariance, :func:`covariance_root` takes its symmetric root, and :func:`through_root` applies it.
"""

from symfield.linalg.covariance import covariance_root, require_covariance, through_root
from symfield.linalg.orbits import Orbits, signed_orbits
from symfield.linalg.rank import AmbiguousRankError, numerical_rank
from symfield.linalg.solve import intersect, join, null_space
from symfield.linalg.subspace import Subspace

__all__ = [
    "Subspace",
    "Orbits",
    "signed_orbits",
    "null_space",
    "intersect",
    "join",
    "numerical_rank",
    "AmbiguousRankError",
    "require_covariance",
    "covariance_root",
    "through_root",
]
