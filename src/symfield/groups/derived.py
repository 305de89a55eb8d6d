r"""Representations derived from one other: its dual, and its lift from a factor to a direct product."""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

from typing import ClassVar

from symfield.groups.group import Group
from symfield.groups.product import DirectProduct
from symfield.groups.representation import Representation
from symfield.typing import Tensor

__all__ = ["Dual", "Factor"]


class Dual(Representation):
    """The contragredient ρ(g⁻¹)ᵀ of a representation; written ``a.dual``. It acts as ρ when ρ is orthogonal.

    Args:
        inner: the representation.

    Example:
        >>> from symfield.groups import Defining, Symmetric
        >>> V = Defining(Symmetric(3))
        >>> str(V.dual), V.dual.dual == V
        ('V*', True)
    """

    inner: Representation
    _fields: ClassVar[tuple[str, ...]] = ("inner",)

    def __init__(self, inner: Representation) -> None:
        self._set(inner=inner)

    @property
    def group(self) -> Group:  # type: ignore[override]
        return self.inner.group

    @property
    def dim(self) -> int:
        return self.inner.dim

    @property
    def permutation_like(self) -> bool:
        return self.inner.permutation_like

    @property
    def orthogonal(self) -> bool:
        return self.inner.orthogonal

    @property
    def dual(self) -> Representation:
        return self.inner

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.inner._signed(g)

    def _matrix(self, g: Tensor) -> Tensor:
        return self.inner._matrix(g) if self.orthogonal else self.inner._matrix(self.group.inverse(g)).mT

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        return self.inner._act(g, x) if self.orthogonal else super()._act(g, x)

    def _lie(self, a: Tensor) -> Tensor:
        return self.inner._lie(a) if self.orthogonal else -self.inner._lie(a).mT

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        return self.inner._act_lie(a, x) if self.orthogonal else super()._act_lie(a, x)

    def _character(self, g: Tensor) -> Tensor:
        return self.inner._character(g if self.orthogonal else self.group.inverse(g))

    def __str__(self) -> str:
        return f"{self.inner._in_parentheses(str)}*"

    def __repr__(self) -> str:
        return f"{self.inner._in_parentheses(repr)}.dual"


class Factor(Representation):
    """A representation of one factor of a direct product, on which the other factors do nothing.

    Args:
        group: a direct product.
        i: which factor, from 0.
        inner: a representation of ``group.factors[i]``.

    Raises:
        ValueError: if the group is no direct product, has no factor i, or ``inner`` belongs to another group.

    Example:
        >>> from symfield.groups import Defining, DirectProduct, Factor, SpecialOrthogonal, Symmetric
        >>> group = DirectProduct(Symmetric(4), SpecialOrthogonal(3))
        >>> points = Factor(group, 0, Defining(Symmetric(4))) * Factor(group, 1, Defining(SpecialOrthogonal(3)))
        >>> str(points), points.dim  # four points in space
        ('V_0 ⊗ V_1', 12)
    """

    group: Group
    i: int
    inner: Representation
    _fields: ClassVar[tuple[str, ...]] = ("group", "i", "inner")

    def __init__(self, group: Group, i: int, inner: Representation) -> None:
        if not isinstance(group, DirectProduct):
            raise ValueError(f"expected a DirectProduct, received {group}; build one with DirectProduct(G, H, ...)")
        if not 0 <= i < len(group.factors):
            raise ValueError(f"expected a factor of {group} between 0 and {len(group.factors) - 1}, received {i}")
        if inner.group != group.factors[i]:
            raise ValueError(
                f"expected a representation of {group.factors[i]}, factor {i} of {group}, received one of {inner.group}"
            )
        self._set(group=group, i=i, inner=inner)

    @property
    def dim(self) -> int:
        return self.inner.dim

    @property
    def permutation_like(self) -> bool:
        return self.inner.permutation_like

    @property
    def orthogonal(self) -> bool:
        return self.inner.orthogonal

    @property
    def dual(self) -> Representation:
        return Factor(self.group, self.i, self.inner.dual)

    def _part(self, g: Tensor) -> Tensor:
        assert isinstance(self.group, DirectProduct)
        return self.group.split(g)[self.i]

    def _block(self, a: Tensor) -> Tensor:
        assert isinstance(self.group, DirectProduct)
        return self.group.blocks(a)[self.i]

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.inner._signed(self._part(g))

    def _matrix(self, g: Tensor) -> Tensor:
        return self.inner._matrix(self._part(g))

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        return self.inner._act(self._part(g), x)

    def _lie(self, a: Tensor) -> Tensor:
        return self.inner._lie(self._block(a))

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        return self.inner._act_lie(self._block(a), x)

    def _character(self, g: Tensor) -> Tensor:
        return self.inner._character(self._part(g))

    def __str__(self) -> str:
        return f"{self.inner._in_parentheses(str)}_{self.i}"
