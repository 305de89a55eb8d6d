r"""What every group offers.

An element is a tensor whose last axes have the group's ``element_shape``; any axes before them are batch axes and
broadcast. Every group has a *defining representation* by orthogonal matrices of size ``degree``, in which
``matrix(compose(g, h)) = matrix(g) @ matrix(h)``, and its Lie algebra is given in these matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from symfield.groups.value import Value
from symfield.typing import Float, Generator, Int, Tensor

__all__ = ["MAX_ELEMENTS", "Group"]

#: The largest group whose elements are listed.
MAX_ELEMENTS = 1_000_000


class Group(Value, ABC):
    """A compact group; a frozen, hashable, picklable value.

    A new finite group defines ``element_shape``, ``identity``, ``compose``, ``inverse``, ``sample``, ``generators``,
    ``degree``, ``order``, ``element``, ``index``, and one of ``signed_permutation`` and ``defining_matrix``. An
    infinite one overrides ``is_finite``, ``lie_algebra`` and ``exp`` as well.

    ``str(group)`` is the group's name in mathematics (``S_4``), ``repr(group)`` the expression that builds it.
    """

    @property
    @abstractmethod
    def element_shape(self) -> tuple[int, ...]:
        """Shape of one element."""

    @property
    @abstractmethod
    def identity(self) -> Tensor:
        """The neutral element, shape ``element_shape``."""

    @abstractmethod
    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The product gh, batch axes broadcast: first h acts, then g."""

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """The inverse of every element of a batch."""

    @abstractmethod
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Independent draws from the Haar measure (uniform on a finite group), shape ``(n, *element_shape)``."""

    @property
    @abstractmethod
    def generators(self) -> Tensor:
        """Elements that, with the exponentials of the Lie algebra, generate the group, ``(k, *element_shape)``."""

    @property
    @abstractmethod
    def degree(self) -> int:
        """Size q of the defining matrices."""

    @property
    def lie_algebra(self) -> Float[Tensor, "j q q"]:
        """A basis of the Lie algebra in the defining matrices, float64; no matrix (j = 0) for a finite group."""
        return torch.zeros(0, self.degree, self.degree, dtype=torch.float64)

    @property
    def is_finite(self) -> bool:
        """Whether the group has finitely many elements."""
        return True

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of elements.

        Raises:
            ValueError: if the group is infinite.
        """

    @abstractmethod
    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        """The elements at these positions of :attr:`elements`, ``(*b, *element_shape)``; inverse of :meth:`index`."""

    @abstractmethod
    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        """The position of each element of a batch in :attr:`elements`."""

    @property
    def elements(self) -> Tensor:
        """All elements, the identity first, in a fixed order, shape ``(order, *element_shape)``.

        Raises:
            ValueError: if the group is infinite or has more than ``MAX_ELEMENTS`` elements.
        """
        self.require_listable()
        return self.element(torch.arange(self.order))

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b q"], Int[Tensor, "*b q"] | None] | None:
        """The defining matrix as (index, sign), (ρ(g)x)_i = sign_i x[index_i]; ``None`` if it is not of that kind.

        A group answers alike for all its elements. A sign of ``None`` means that there are none.
        """
        return None

    def defining_matrix(self, g: Tensor) -> Float[Tensor, "*b q q"]:
        """The defining matrices of a batch of elements, float64, orthogonal.

        Raises:
            NotImplementedError: if a new class of groups defines neither this nor ``signed_permutation``.
        """
        signed = self.signed_permutation(g)
        if signed is None:
            raise NotImplementedError(f"{type(self).__name__} defines neither signed_permutation nor defining_matrix")
        return signed_permutation_matrix(*signed)

    def determinant(self, g: Tensor) -> Int[Tensor, "*b"]:
        """The determinant of the defining matrix, 1 or −1, int64."""
        return torch.linalg.det(self.defining_matrix(g)).round().to(torch.int64)

    def exp(self, a: Float[Tensor, "*b q q"]) -> Tensor:
        """The exponentials of elements A of the Lie algebra: group elements, ``(*b, *element_shape)``."""
        return self.identity.to(a.device).expand(*a.shape[:-2], *self.element_shape)

    def require_listable(self) -> None:
        """Refuse a group whose elements cannot be listed.

        Raises:
            ValueError: unless the group is finite with at most ``MAX_ELEMENTS`` elements.
        """
        if not self.is_finite:
            raise infinite(self)
        if self.order > MAX_ELEMENTS:
            raise ValueError(
                f"expected a group of at most {MAX_ELEMENTS} elements to list them, received {self} of order "
                f"{self.order}; draw elements with sample(n, generator=...) instead"
            )

    def batch_shape(self, g: Tensor) -> torch.Size:
        """The batch axes of a tensor of elements.

        Raises:
            ValueError: if its last axes are not ``element_shape``.
        """
        cut = g.dim() - len(self.element_shape)
        if cut < 0 or tuple(g.shape[cut:]) != self.element_shape:
            raise ValueError(
                f"expected elements of {self} with last axes {self.element_shape}, received a tensor of shape "
                f"{tuple(g.shape)}; elements come from identity, generators, elements or sample"
            )
        return g.shape[:cut]

    def unsqueeze(self, g: Tensor) -> Tensor:
        """The same elements with one more batch axis, of length one, after the others."""
        return g.unsqueeze(g.dim() - len(self.element_shape))

    def __len__(self) -> int:
        return self.order

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return repr(self)


def infinite(group: Group) -> ValueError:
    """The error for asking an infinite group for its elements."""
    return ValueError(
        f"expected a finite group, received {group}, which has infinitely many elements; draw elements with "
        "sample(n, generator=...) instead"
    )


def require_size(name: str, n: int, *, least: int = 1) -> None:
    """Raise a ``ValueError`` unless ``n`` is an integer of at least ``least``."""
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        raise ValueError(f"expected {name} with an integer n >= {least}, received n = {n!r}")


def signed_permutation_matrix(index: Int[Tensor, "*b q"], sign: Int[Tensor, "*b q"] | None) -> Float[Tensor, "*b q q"]:
    """The dense matrices of signed permutations, row i holding sign_i in column index_i."""
    matrix = torch.zeros(*index.shape, index.shape[-1], dtype=torch.float64, device=index.device)
    ones = (
        torch.ones(1, dtype=torch.float64, device=index.device).expand(index.shape) if sign is None else sign.double()
    )
    return matrix.scatter(-1, index.unsqueeze(-1), ones.unsqueeze(-1))


def take(x: Tensor, index: Int[Tensor, "*b n"]) -> Tensor:
    """The entries x[..., index[..., i]] of the last axis, batch axes broadcast."""
    if index.dim() == 1:
        return x.index_select(-1, index)
    dims = max(x.dim(), index.dim())
    return torch.take_along_dim(
        x.reshape(*[1] * (dims - x.dim()), *x.shape), index.reshape(*[1] * (dims - index.dim()), *index.shape), dim=-1
    )


def stack_float64(matrices: Tensor | Sequence[Any]) -> Float[Tensor, "..."]:
    """A tensor, or a list of arrays of one shape, as one float64 tensor on the CPU that shares no memory with them.

    Raises:
        ValueError: if the shapes differ.
    """
    if isinstance(matrices, Tensor):
        return matrices.detach().to("cpu", torch.float64, copy=True)
    rows = [torch.as_tensor(matrix, dtype=torch.float64).detach().cpu() for matrix in matrices]
    if any(row.shape != rows[0].shape for row in rows):
        raise ValueError(f"expected square matrices of one size, received shapes {[tuple(row.shape) for row in rows]}")
    return torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)
