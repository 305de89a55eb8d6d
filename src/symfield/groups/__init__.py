r"""Groups and their representations, as values.

Group elements are tensors with leading batch axes; representations print as mathematics and obey ``+``, ``*``,
``**``, ``.dual``. The convention everywhere is ``matrix(compose(g, h)) = matrix(g) @ matrix(h)``.
"""

from symfield.groups.algebra import Copies, Sum, Tensored, hom
from symfield.groups.derived import Dual, Factor
from symfield.groups.elementary import Defining, Planar, Regular, Sign, Trivial
from symfield.groups.finite import Alternating, Cyclic, Dihedral, SignFlips, Symmetric
from symfield.groups.generated import GeneratedGroup, generated_by
from symfield.groups.group import MAX_ELEMENTS, Group
from symfield.groups.matrix import Matrix
from symfield.groups.orthogonal import Orthogonal, SpecialOrthogonal
from symfield.groups.permutation import Permutation
from symfield.groups.permutations import Coordinates, PermutationGroup
from symfield.groups.placed import Placed
from symfield.groups.product import DirectProduct
from symfield.groups.representation import Representation

__all__ = [
    "MAX_ELEMENTS",
    "Group",
    "Cyclic",
    "Dihedral",
    "Symmetric",
    "Alternating",
    "SignFlips",
    "Orthogonal",
    "SpecialOrthogonal",
    "DirectProduct",
    "GeneratedGroup",
    "generated_by",
    "PermutationGroup",
    "Representation",
    "Defining",
    "Trivial",
    "Sign",
    "Regular",
    "Planar",
    "Permutation",
    "Coordinates",
    "Matrix",
    "Sum",
    "Tensored",
    "Copies",
    "Dual",
    "Factor",
    "Placed",
    "hom",
]
