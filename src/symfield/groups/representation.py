r"""What every representation offers.

A representation of G on R^dim is a map g ↦ ρ(g) with ρ(gh) = ρ(g) ρ(h). Representations are values: they print as
mathematics (``str``) and as the expression that builds them (``repr``), and they obey an algebra,

    a + b        direct sum
    a * b        tensor product, on x.reshape(a.dim, b.dim) by ρ_a(g) x ρ_b(g)ᵀ
    n * a        n copies, on x.reshape(n, a.dim)
    a ** k       tensor power
    a.dual       contragredient, ρ(g⁻¹)ᵀ
    hom(a, b)    linear maps W: a → b, by ρ_b(g) W ρ_a(g)⁻¹.

*Permutation-like* representations move and sign coordinates only; they act by gathering and never build a matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from symfield.groups.group import Group, signed_permutation_matrix, take
from symfield.groups.value import Value
from symfield.typing import Float, Int, Shaped, Tensor

__all__ = ["Representation"]


class Representation(Value, ABC):
    """A real finite-dimensional representation; a frozen, hashable, picklable value.

    A new one defines ``group``, ``dim``, ``__str__``, and either ``_signed`` (with ``permutation_like = True``) or
    ``_matrix`` and ``_lie``; the rest follows. The public methods check shapes once and call these.
    """

    group: Group

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the space acted on."""

    @property
    def permutation_like(self) -> bool:
        """Whether every ρ(g) is a signed permutation that is known as such."""
        return False

    @property
    def orthogonal(self) -> bool:
        """Whether every ρ(g) is an orthogonal matrix."""
        return True

    @property
    def dual(self) -> Representation:
        """The contragredient representation, ρ(g⁻¹)ᵀ; it acts as ρ itself when ρ is orthogonal."""
        from symfield.groups.derived import Dual

        return Dual(self)

    def matrix(self, g: Tensor) -> Float[Tensor, "*b n n"]:
        """The matrices ρ(g), dense.

        Args:
            g: elements of the group, ``(*b, *element_shape)``.

        Returns:
            ``(*b, dim, dim)``, float64.

        Raises:
            ValueError: if ``g`` does not have the shape of elements.
        """
        self.group.batch_shape(g)
        return self._matrix(g)

    def signed_permutation(self, g: Tensor) -> tuple[Int[Tensor, "*b n"], Int[Tensor, "*b n"] | None] | None:
        """ρ(g) as a signed permutation, (ρ(g)x)_i = sign_i x[index_i].

        Args:
            g: elements of the group, ``(*b, *element_shape)``.

        Returns:
            The index and the sign, int64, ``(*b, dim)``; the sign is ``None`` when there are no signs. ``None`` when
            the representation is not permutation-like.

        Raises:
            ValueError: if ``g`` does not have the shape of elements.
        """
        self.group.batch_shape(g)
        return self._signed(g) if self.permutation_like else None

    def act(self, g: Tensor, x: Float[Tensor, "*x n"]) -> Float[Tensor, "..."]:
        """The vectors ρ(g)x, in the dtype and on the device of ``x``.

        Args:
            g: elements of the group; their batch axes broadcast against the leading axes of ``x``.
            x: vectors, ``(*x, dim)``.

        Returns:
            ``(*broadcast, dim)``.

        Raises:
            ValueError: if a shape does not fit.

        Example:
            >>> from symfield.groups import Cyclic, Defining
            >>> shift = Cyclic(3)
            >>> Defining(shift).act(shift.elements, torch.tensor([1.0, 0.0, 0.0])).argmax(-1).tolist()
            [0, 1, 2]
        """
        self._require_vector(x)
        self._require_broadcast("g", self.group.batch_shape(g), x)
        return self._act(g.to(x.device), x)

    def lie(self, a: Float[Tensor, "*b q q"]) -> Float[Tensor, "*b n n"]:
        """The derivative dρ(A) = d/dt ρ(exp tA) at t = 0, dense.

        Args:
            a: elements of the Lie algebra, ``(*b, q, q)`` with q the group's ``degree``.

        Returns:
            ``(*b, dim, dim)``, float64.

        Raises:
            ValueError: if ``a`` does not consist of q × q matrices.
        """
        self._require_algebra(a)
        return self._lie(a.double())

    def act_lie(self, a: Float[Tensor, "*b q q"], x: Float[Tensor, "*x n"]) -> Float[Tensor, "..."]:
        """The vectors dρ(A)x, in the dtype and on the device of ``x``.

        Args:
            a: elements of the Lie algebra; their batch axes broadcast against the leading axes of ``x``.
            x: vectors, ``(*x, dim)``.

        Returns:
            ``(*broadcast, dim)``.

        Raises:
            ValueError: if a shape does not fit.
        """
        self._require_vector(x)
        self._require_algebra(a)
        self._require_broadcast("A", a.shape[:-2], x)
        return self._act_lie(a.to(x.device, torch.float64), x)

    def character(self, g: Tensor) -> Float[Tensor, "*b"]:
        """The traces of ρ(g), without the matrices where that is possible.

        Args:
            g: elements of the group, ``(*b, *element_shape)``.

        Returns:
            ``(*b,)``, float64.

        Raises:
            ValueError: if ``g`` does not have the shape of elements.

        Example:
            >>> from symfield.groups import Defining, Symmetric
            >>> group = Symmetric(4)
            >>> (Defining(group) ** 2).character(group.elements).mean()  # dimension of the invariant matrices
            tensor(2., dtype=torch.float64)
        """
        self.group.batch_shape(g)
        return self._character(g)

    @property
    def _atomic(self) -> bool:
        return True

    def _in_parentheses(self, form: Callable[[Representation], str]) -> str:
        """``form(self)``, with form ``str`` or ``repr``, in parentheses if it has several terms or factors."""
        return form(self) if self._atomic else f"({form(self)})"

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError(f"{type(self).__name__} is not permutation-like; use matrix or act")

    def _matrix(self, g: Tensor) -> Tensor:
        return signed_permutation_matrix(*self._signed(g))

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        if self.permutation_like:
            return gather(*self._signed(g), x)
        return multiply(self._matrix(g), x)

    def _lie(self, a: Tensor) -> Tensor:
        if not self.permutation_like:
            raise NotImplementedError(f"{type(self).__name__} defines no _lie; add it where the class is defined")
        return a.new_zeros(*a.shape[:-2], self.dim, self.dim)  # a connected group permutes nothing

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        if self.permutation_like:
            return x.new_zeros(*torch.broadcast_shapes(a.shape[:-2], x.shape[:-1]), self.dim)
        return multiply(self._lie(a), x)

    def _character(self, g: Tensor) -> Tensor:
        if not self.permutation_like:
            return self._matrix(g).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        index, sign = self._signed(g)
        fixed = index == torch.arange(self.dim, device=index.device)
        return (fixed if sign is None else fixed * sign).sum(dim=-1).double()

    def _require_vector(self, x: Tensor) -> None:
        if x.dim() == 0 or x.shape[-1] != self.dim:
            raise ValueError(
                f"expected vectors of dimension {self.dim} for {self} of {self.group}, received a tensor of shape "
                f"{tuple(x.shape)}; the last axis must be the representation's"
            )

    def _require_algebra(self, a: Tensor) -> None:
        q = self.group.degree
        if a.dim() < 2 or a.shape[-2:] != (q, q):
            raise ValueError(
                f"expected {q} × {q} matrices of the Lie algebra of {self.group}, received a tensor of shape "
                f"{tuple(a.shape)}; combine the matrices of group.lie_algebra"
            )

    def _require_broadcast(self, name: str, batch: torch.Size, x: Tensor) -> None:
        try:
            torch.broadcast_shapes(batch, x.shape[:-1])
        except RuntimeError as error:
            raise ValueError(
                f"expected batch axes of {name} that broadcast against the leading axes of x, received {tuple(batch)} "
                f"and {tuple(x.shape[:-1])}; insert axes of length one, e.g. g[:, None] for every g on every x"
            ) from error

    def __add__(self, other: Representation) -> Representation:
        from symfield.groups.algebra import Sum

        return Sum(self, other) if isinstance(other, Representation) else NotImplemented

    def __mul__(self, other: Representation) -> Representation:
        from symfield.groups.algebra import Tensored

        return Tensored(self, other) if isinstance(other, Representation) else NotImplemented

    def __rmul__(self, n: int) -> Representation:
        from symfield.groups.algebra import Copies

        return Copies(n, self) if isinstance(n, int) else NotImplemented

    def __pow__(self, k: int) -> Representation:
        from symfield.groups.algebra import Tensored
        from symfield.groups.elementary import Trivial

        if not isinstance(k, int) or k < 0:
            raise ValueError(f"expected a tensor power k >= 0, received k = {k!r}; a ** 0 is trivial")
        if k == 0:
            return Trivial(self.group)
        return self if k == 1 else Tensored(*(self,) * k)

    @abstractmethod
    def __str__(self) -> str: ...


def gather(index: Int[Tensor, "*b n"], sign: Int[Tensor, "*b n"] | None, x: Float[Tensor, "*x n"]) -> Tensor:
    """sign_i x[index_i] along the last axis, batch axes broadcast."""
    moved = take(x, index)
    return moved if sign is None else moved * sign.to(x.dtype)


def multiply(matrix: Shaped[Tensor, "*b n n"], x: Float[Tensor, "*x n"]) -> Tensor:
    """Matrix times vector in the dtype of x, batch axes broadcast, as a matrix product where a matrix is shared."""
    matrix = matrix.to(x)
    if matrix.dim() == 2:
        return x @ matrix.mT
    if matrix.shape[-3] == 1 and x.dim() > 1:
        return x @ matrix.squeeze(-3).mT
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)
