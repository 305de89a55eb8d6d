"""Symmetries of the parameters of a model at fixed function: derived, certified, applied.

- :class:`ParameterSymmetry`: a product of factors with the tensors and axes they move; elements are plain dicts;
- :class:`Permutation`, :class:`PositiveScale`, :class:`Sign`, :class:`Orthogonal`, :class:`Conformal`,
  :class:`GeneralLinear`: the factors;
- :class:`Piece`, :class:`Product`, :class:`Concat`: how the entries of an axis are laid out.
"""

from symfield.weightspace.assignment import Assignment, assign
from symfield.weightspace.factors import (
    Conformal,
    Factor,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScale,
    Sign,
)
from symfield.weightspace.layout import Concat, Layout, Move, Piece, Product, map_blocks, pieces
from symfield.weightspace.symmetry import Element, Face, ParameterSymmetry, Slot

__all__ = [
    "ParameterSymmetry",
    "Element",
    "Slot",
    "Face",
    "Factor",
    "Permutation",
    "PositiveScale",
    "Sign",
    "Orthogonal",
    "Conformal",
    "GeneralLinear",
    "Layout",
    "Piece",
    "Product",
    "Concat",
    "Move",
    "pieces",
    "map_blocks",
    "Assignment",
    "assign",
]
