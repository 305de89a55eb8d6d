r"""Representations that come with a group: defining, trivial, sign, regular, planar."""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import torch

from symfield.groups.finite import Cyclic, Dihedral
from symfield.groups.group import Group, require_size
from symfield.groups.representation import Representation
from symfield.typing import Tensor

__all__ = ["Defining", "Planar", "Regular", "Sign", "Trivial"]


class Defining(Representation):
    """The defining representation V of a group.

    Permutations of n points for ``Cyclic``, ``Dihedral``, ``Symmetric``, ``Alternating``; diagonal signs for
    ``SignFlips``; the matrices themselves for ``Orthogonal``, ``SpecialOrthogonal``, ``generated_by``; the direct sum
    of the factors' defining representations for ``DirectProduct``.

    Args:
        group: any group.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> group = Cyclic(2)
        >>> Defining(group).matrix(torch.tensor(1))
        tensor([[0., 1.], [1., 0.]], dtype=torch.float64)
    """

    group: Group
    _fields: ClassVar[tuple[str, ...]] = ("group",)

    def __init__(self, group: Group) -> None:
        self._set(group=group)

    @property
    def dim(self) -> int:
        return self.group.degree

    @property
    def permutation_like(self) -> bool:
        return self._permutes

    @cached_property
    def _permutes(self) -> bool:
        return self.group.signed_permutation(self.group.identity) is not None

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        signed = self.group.signed_permutation(g)
        return signed if signed is not None else super()._signed(g)

    def _matrix(self, g: Tensor) -> Tensor:
        return self.group.defining_matrix(g)

    def _lie(self, a: Tensor) -> Tensor:
        return a

    def __str__(self) -> str:
        return "V"


class Trivial(Representation):
    """The trivial representation on R^n, ρ(g) = 1.

    Args:
        group: any group.
        n: dimension, at least 1.

    Example:
        >>> from symfield.groups import Symmetric, Trivial
        >>> Trivial(Symmetric(3), 2).dim, str(Trivial(Symmetric(3)))
        (2, '1')
    """

    group: Group
    n: int
    _fields: ClassVar[tuple[str, ...]] = ("group", "n")

    def __init__(self, group: Group, n: int = 1) -> None:
        require_size("Trivial(group, n)", n)
        self._set(group=group, n=n)

    @property
    def dim(self) -> int:
        return self.n

    @property
    def permutation_like(self) -> bool:
        return True

    @property
    def dual(self) -> Representation:
        return self

    @property
    def _atomic(self) -> bool:
        return self.n == 1

    def _signed(self, g: Tensor) -> tuple[Tensor, None]:
        return torch.arange(self.n, device=g.device).expand(*self.group.batch_shape(g), self.n), None

    def __str__(self) -> str:
        return "1" if self.n == 1 else f"{self.n}·1"

    def __repr__(self) -> str:
        return f"Trivial({self.group!r})" if self.n == 1 else f"Trivial({self.group!r}, {self.n})"


class Sign(Representation):
    """The determinant of the defining representation, on R.

    The parity of a permutation, the product of the signs of ``SignFlips``, det(g) for matrices.

    Args:
        group: any group.

    Example:
        >>> from symfield.groups import Sign, Symmetric
        >>> Sign(Symmetric(3)).character(Symmetric(3).elements).tolist()
        [1.0, -1.0, -1.0, 1.0, 1.0, -1.0]
    """

    group: Group
    _fields: ClassVar[tuple[str, ...]] = ("group",)

    def __init__(self, group: Group) -> None:
        self._set(group=group)

    @property
    def dim(self) -> int:
        return 1

    @property
    def permutation_like(self) -> bool:
        return True

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor]:
        sign = self.group.determinant(g).unsqueeze(-1)
        return torch.zeros_like(sign), sign

    def __str__(self) -> str:
        return "det"


class Regular(Representation):
    """The regular representation of a finite group on R[G]: ρ(g) moves the coordinate of h to that of gh.

    Coordinates are in the order of ``group.elements``.

    Args:
        group: a finite group with at most ``MAX_ELEMENTS`` elements.

    Raises:
        ValueError: if the group is infinite or too large.

    Example:
        >>> from symfield.groups import Dihedral, Regular
        >>> regular = Regular(Dihedral(4))
        >>> regular.dim, regular.character(regular.group.generators).tolist()
        (8, [0.0, 0.0])
    """

    group: Group
    _fields: ClassVar[tuple[str, ...]] = ("group",)

    def __init__(self, group: Group) -> None:
        group.require_listable()
        self._set(group=group)

    @property
    def dim(self) -> int:
        return self.group.order

    @property
    def permutation_like(self) -> bool:
        return True

    def _signed(self, g: Tensor) -> tuple[Tensor, None]:
        group = self.group
        inverses = group.unsqueeze(group.inverse(g))
        return group.index(group.compose(inverses, group.elements.to(g.device))), None

    def __str__(self) -> str:
        return f"R[{self.group}]"


class Planar(Representation):
    """The plane R² turned by C_n or D_n: r^a s^f ↦ rotation by 2π · frequency · a / n, times diag(1, −1)^f.

    Args:
        group: ``Cyclic(n)`` or ``Dihedral(n)``.
        frequency: how often the plane turns while the n rotations are gone through once.

    Raises:
        ValueError: for another group.

    Example:
        >>> from symfield.groups import Cyclic, Planar
        >>> Planar(Cyclic(4)).matrix(torch.tensor(1)).round().tolist()
        [[0.0, -1.0], [1.0, 0.0]]
    """

    group: Group
    frequency: int
    _fields: ClassVar[tuple[str, ...]] = ("group", "frequency")

    def __init__(self, group: Group, frequency: int = 1) -> None:
        if not isinstance(group, (Cyclic, Dihedral)):
            raise ValueError(
                f"expected a cyclic or dihedral group, received {group}; for a factor of a product use "
                "Factor(group, i, Planar(...)), for others Matrix or generated_by"
            )
        if not isinstance(frequency, int):
            raise ValueError(f"expected an integer frequency, received {frequency!r}; others are no representation")
        self._set(group=group, frequency=frequency)

    @property
    def dim(self) -> int:
        return 2

    def _matrix(self, g: Tensor) -> Tensor:
        assert isinstance(self.group, (Cyclic, Dihedral))
        a, f = g.unbind(-1) if isinstance(self.group, Dihedral) else (g, torch.zeros_like(g))
        angle = (self.frequency * a % self.group.n).double() * (2 * math.pi / self.group.n)
        cos, sin, flip = angle.cos(), angle.sin(), (1 - 2 * f).double()
        return torch.stack([torch.stack([cos, -sin * flip], -1), torch.stack([sin, cos * flip], -1)], -2)

    def _lie(self, a: Tensor) -> Tensor:
        return a.new_zeros(*a.shape[:-2], 2, 2)

    def __str__(self) -> str:
        return f"P_{self.frequency}"

    def __repr__(self) -> str:
        return f"Planar({self.group!r})" if self.frequency == 1 else f"Planar({self.group!r}, {self.frequency})"
