"""Fixed points of group representations, all equivariant linear maps, and layers built on them."""

from symfield.equivariant.averages import Reynolds, reynolds
from symfield.equivariant.blocks import ConvergenceError, by_averaging, by_conjugate_gradients
from symfield.equivariant.counting import NotARepresentationError, fixed_dimension
from symfield.equivariant.dense import by_null_space
from symfield.equivariant.layers import EquivariantLinear, EquivariantWeight, equivariant
from symfield.equivariant.orbits import by_orbits
from symfield.equivariant.solve import FixedPointError, Solver, equivariant_maps, fixed_points

__all__ = [
    "fixed_points",
    "equivariant_maps",
    "reynolds",
    "Reynolds",
    "EquivariantLinear",
    "equivariant",
    "EquivariantWeight",
    "fixed_dimension",
    "by_orbits",
    "by_null_space",
    "by_averaging",
    "by_conjugate_gradients",
    "Solver",
    "FixedPointError",
    "ConvergenceError",
    "NotARepresentationError",
]
