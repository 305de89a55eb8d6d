"""Checks of symmetry for your own tests: equivariant maps, jointly equivariant units, representations.

Each check measures a relative violation on random group elements (and on every discrete generator), compares it with
a tolerance that depends on the precision, and fails with the violation, the worst group element and what to look at.
The measuring functions (``*_error``) return the number; the ``assert_*`` functions raise ``AssertionError``.
"""

from symfield.testing.equivariance import assert_equivariant, equivariance_error
from symfield.testing.joint import assert_jointly_equivariant, joint_equivariance_error
from symfield.testing.measure import tolerance
from symfield.testing.representation import assert_representation

__all__ = [
    "equivariance_error",
    "assert_equivariant",
    "joint_equivariance_error",
    "assert_jointly_equivariant",
    "assert_representation",
    "tolerance",
]
