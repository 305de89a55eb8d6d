"""Permutation symmetries that somebody wrote down: a name for every axis, as git re-basin does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import Move, Piece
from symfield.weightspace.report import Report
from symfield.weightspace.symmetry import ParameterSymmetry

__all__ = ["from_axes"]


def from_axes(axes: Mapping[str, Sequence[str | None]], shapes: Mapping[str, Sequence[int]]) -> ParameterSymmetry:
    """A symmetry from a table of axes; nothing says that it is one until :func:`certify` has tested it.

    Args:
        axes: for each tensor the name of the permutation of every axis, None for a fixed axis; tensors that are not
            named are fixed.
        shapes: shape of every tensor of the model.

    Returns:
        One :class:`Permutation` for each name; its report holds no certificate.

    Raises:
        KeyError: if a tensor is not part of the model.
        ValueError: if a tensor has another number of axes, or one name stands for axes of different sizes.

    Example:
        >>> axes = {"0.weight": ["P", None], "0.bias": ["P"], "2.weight": [None, "P"]}
        >>> shapes = {"0.weight": (8, 4), "0.bias": (8,), "2.weight": (2, 8), "2.bias": (2,)}
        >>> from_axes(axes, shapes)
        ParameterSymmetry(P: S_8)

    References:
        Ainsworth, Hayase & Srinivasa 2023, *Git re-basin*, arXiv 2209.04836 (its ``axes_to_perm``).
    """
    sizes: dict[str, tuple[int, str]] = {}
    layouts = {}
    for tensor, names in axes.items():
        if tensor not in shapes:
            raise KeyError(f"the table names {tensor!r}; the model has {', '.join(list(shapes)[:6])}, ...")
        if len(names) != len(shapes[tensor]):
            raise ValueError(f"expected {len(shapes[tensor])} names for the axes of {tensor!r}, received {len(names)}")
        for axis, (name, size) in enumerate(zip(names, shapes[tensor], strict=True)):
            known = sizes.setdefault(name, (size, f"{tensor}.{axis}")) if name is not None else (size, "")
            if known[0] != size:
                raise ValueError(
                    f"permutation {name!r} has {known[0]} units at {known[1]} and {size} at {tensor}.{axis}; "
                    "give them different names"
                )
    for tensor, shape in shapes.items():
        names = axes.get(tensor, [None] * len(shape))
        layouts[tensor] = tuple(
            Piece(f"{tensor}.{axis}", size) if name is None else Piece(name, size, (Move(name),))
            for axis, (name, size) in enumerate(zip(names, shape, strict=True))
        )
    factors = tuple(Permutation(name, name, size) for name, (size, _) in sizes.items())
    all_shapes = {name: tuple(shape) for name, shape in shapes.items()}
    return ParameterSymmetry(factors, layouts, all_shapes, report=Report("a table of axes"))
