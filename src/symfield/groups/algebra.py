r"""The algebra of representations: sums, tensor products, copies, and linear maps."""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import ClassVar

import torch

from symfield.groups.group import Group, require_size
from symfield.groups.product import block_diagonal, stack_signed
from symfield.groups.representation import Representation
from symfield.typing import Float, Tensor

__all__ = ["Copies", "Sum", "Tensored", "hom"]


class Sum(Representation):
    """The direct sum a ⊕ b ⊕ …, coordinates one part after the other; written ``a + b``.

    Args:
        parts: representations of one group; sums among them are flattened.

    Raises:
        ValueError: if the groups differ.

    Example:
        >>> from symfield.groups import Defining, Symmetric, Trivial
        >>> V = Defining(Symmetric(3))
        >>> str(V + Trivial(V.group)), (V + Trivial(V.group)).dim
        ('V ⊕ 1', 4)
    """

    parts: tuple[Representation, ...]
    _fields: ClassVar[tuple[str, ...]] = ("parts",)

    def __init__(self, *parts: Representation) -> None:
        _require_one_group(parts)
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, Sum) else (part,))]
        self._set(parts=tuple(flat))

    @property
    def group(self) -> Group:  # type: ignore[override]
        return self.parts[0].group

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @property
    def permutation_like(self) -> bool:
        return all(part.permutation_like for part in self.parts)

    @property
    def orthogonal(self) -> bool:
        return all(part.orthogonal for part in self.parts)

    @property
    def dual(self) -> Representation:
        return Sum(*(part.dual for part in self.parts))

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        signed = stack_signed([part._signed(g) for part in self.parts])
        assert signed is not None
        return signed

    def _matrix(self, g: Tensor) -> Tensor:
        return block_diagonal([part._matrix(g) for part in self.parts])

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        if self.permutation_like:
            return super()._act(g, x)
        return torch.cat([part._act(g, y) for part, y in self._split(x)], dim=-1)

    def _lie(self, a: Tensor) -> Tensor:
        return block_diagonal([part._lie(a) for part in self.parts])

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.cat([part._act_lie(a, y) for part, y in self._split(x)], dim=-1)

    def _character(self, g: Tensor) -> Tensor:
        return torch.stack([part._character(g) for part in self.parts]).sum(dim=0)

    def _split(self, x: Tensor) -> list[tuple[Representation, Tensor]]:
        return list(zip(self.parts, x.split([part.dim for part in self.parts], dim=-1), strict=True))

    @property
    def _atomic(self) -> bool:
        return False

    def __str__(self) -> str:
        return " ⊕ ".join(map(str, self.parts))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))


class Tensored(Representation):
    """The tensor product a ⊗ b ⊗ …, coordinates row-major, the last factor fastest; written ``a * b`` and ``a ** k``.

    It acts factor by factor: no Kronecker product is built.

    Args:
        factors: representations of one group; tensor products among them are flattened.

    Raises:
        ValueError: if the groups differ.

    Example:
        >>> from symfield.groups import Defining, Symmetric
        >>> V = Defining(Symmetric(20))
        >>> (V**4).dim, str(V**4)
        (160000, 'V^⊗4')
    """

    factors: tuple[Representation, ...]
    _fields: ClassVar[tuple[str, ...]] = ("factors",)

    def __init__(self, *factors: Representation) -> None:
        _require_one_group(factors)
        flat = [inner for f in factors for inner in (f.factors if isinstance(f, Tensored) else (f,))]
        self._set(factors=tuple(flat))

    @property
    def group(self) -> Group:  # type: ignore[override]
        return self.factors[0].group

    @property
    def dim(self) -> int:
        return math.prod(factor.dim for factor in self.factors)

    @property
    def permutation_like(self) -> bool:
        return all(factor.permutation_like for factor in self.factors)

    @property
    def orthogonal(self) -> bool:
        return all(factor.orthogonal for factor in self.factors)

    @property
    def dual(self) -> Representation:
        return Tensored(*(factor.dual for factor in self.factors))

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        index, sign = self.factors[0]._signed(g)
        for factor in self.factors[1:]:
            inner, inner_sign = factor._signed(g)
            index = (index.unsqueeze(-1) * factor.dim + inner.unsqueeze(-2)).flatten(-2)
            if inner_sign is not None:
                outer = torch.ones_like(index[..., :: factor.dim]) if sign is None else sign
                sign = (outer.unsqueeze(-1) * inner_sign.unsqueeze(-2)).flatten(-2)
            elif sign is not None:
                sign = sign.repeat_interleave(factor.dim, dim=-1)
        return index, sign

    def _matrix(self, g: Tensor) -> Tensor:
        product = self.factors[0]._matrix(g)
        for factor in self.factors[1:]:
            product = _kron(product, factor._matrix(g))
        return product

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        if self.permutation_like:
            return super()._act(g, x)
        g = self.group.unsqueeze(g)
        for i, factor in enumerate(self.factors):
            x = self._along(i, x, lambda y, factor=factor: factor._act(g, y))  # type: ignore[misc]
        return x

    def _lie(self, a: Tensor) -> Tensor:
        if self.permutation_like:
            return super()._lie(a)
        total = self.factors[0]._lie(a)
        for factor in self.factors[1:]:
            left = torch.eye(total.shape[-1], dtype=total.dtype, device=total.device)
            right = torch.eye(factor.dim, dtype=total.dtype, device=total.device)
            total = _kron(total, right) + _kron(left, factor._lie(a))
        return total

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        if self.permutation_like:
            return super()._act_lie(a, x)
        a = a.unsqueeze(-3)
        terms = [
            self._along(i, x, lambda y, factor=factor: factor._act_lie(a, y))  # type: ignore[misc]
            for i, factor in enumerate(self.factors)
            if not factor.permutation_like
        ]
        return torch.stack(terms).sum(dim=0)

    def _character(self, g: Tensor) -> Tensor:
        return torch.stack([factor._character(g) for factor in self.factors]).prod(dim=0)

    def _along(self, i: int, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply f, a map of rows ``(*x, rows, d_i)``, along tensor axis i of x."""
        dims = [factor.dim for factor in self.factors]
        before, d, after = math.prod(dims[:i]), dims[i], math.prod(dims[i + 1 :])
        rows = x.reshape(*x.shape[:-1], before, d, after).mT.reshape(*x.shape[:-1], before * after, d)
        y = f(rows)
        return y.reshape(*y.shape[:-2], before, after, d).mT.reshape(*y.shape[:-2], self.dim)

    @property
    def _atomic(self) -> bool:
        return False

    def __str__(self) -> str:
        runs = [(f._in_parentheses(str), len(list(run))) for f, run in groupby(self.factors)]
        return " ⊗ ".join(name if k == 1 else f"{name}^⊗{k}" for name, k in runs)

    def __repr__(self) -> str:
        runs = [(f._in_parentheses(repr), len(list(run))) for f, run in groupby(self.factors)]
        return " * ".join(name if k == 1 else f"{name} ** {k}" for name, k in runs)


class Copies(Representation):
    """n copies of a representation, on x.reshape(n, a.dim); written ``n * a``.

    Args:
        n: number of copies, at least 1.
        inner: the representation; copies of copies are flattened.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> str(3 * Defining(Cyclic(4))), (3 * Defining(Cyclic(4))).dim
        ('3·V', 12)
    """

    n: int
    inner: Representation
    _fields: ClassVar[tuple[str, ...]] = ("n", "inner")

    def __init__(self, n: int, inner: Representation) -> None:
        require_size("n * representation", n)
        if isinstance(inner, Copies):
            n, inner = n * inner.n, inner.inner
        self._set(n=n, inner=inner)

    @property
    def group(self) -> Group:  # type: ignore[override]
        return self.inner.group

    @property
    def dim(self) -> int:
        return self.n * self.inner.dim

    @property
    def permutation_like(self) -> bool:
        return self.inner.permutation_like

    @property
    def orthogonal(self) -> bool:
        return self.inner.orthogonal

    @property
    def dual(self) -> Representation:
        return Copies(self.n, self.inner.dual)

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        index, sign = self.inner._signed(g)
        offset = torch.arange(self.n, device=index.device).unsqueeze(-1) * self.inner.dim
        index = (offset + index.unsqueeze(-2)).flatten(-2)
        return index, None if sign is None else sign.repeat(*[1] * (sign.dim() - 1), self.n)

    def _matrix(self, g: Tensor) -> Tensor:
        return block_diagonal([self.inner._matrix(g)] * self.n)

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        y = self.inner._act(self.group.unsqueeze(g), x.unflatten(-1, (self.n, self.inner.dim)))
        return y.flatten(-2)

    def _lie(self, a: Tensor) -> Tensor:
        return block_diagonal([self.inner._lie(a)] * self.n)

    def _act_lie(self, a: Tensor, x: Tensor) -> Tensor:
        y = self.inner._act_lie(a.unsqueeze(-3), x.unflatten(-1, (self.n, self.inner.dim)))
        return y.flatten(-2)

    def _character(self, g: Tensor) -> Tensor:
        return self.n * self.inner._character(g)

    @property
    def _atomic(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.n}·{self.inner._in_parentheses(str)}"

    def __repr__(self) -> str:
        return f"{self.n} * {self.inner._in_parentheses(repr)}"


def hom(a: Representation, b: Representation) -> Representation:
    """The linear maps from a to b, W ↦ ρ_b(g) W ρ_a(g)⁻¹, with W of shape ``(b.dim, a.dim)`` flattened row-major.

    Args:
        a: representation on the inputs.
        b: representation on the outputs.

    Returns:
        b ⊗ a*, of dimension b.dim · a.dim.

    Raises:
        ValueError: if the groups differ.

    Example:
        >>> from symfield.groups import Defining, Symmetric, Trivial, hom
        >>> V = Defining(Symmetric(3))
        >>> str(hom(V, Trivial(V.group)))
        '1 ⊗ V*'
    """
    return b * a.dual


def _require_one_group(parts: tuple[Representation, ...]) -> None:
    if not parts:
        raise ValueError("expected one representation or more, received none")
    for part in parts[1:]:
        if part.group != parts[0].group:
            raise ValueError(
                f"expected representations of one group, received {parts[0]} of {parts[0].group} and {part} of "
                f"{part.group}; lift both to a DirectProduct with Factor(product, i, representation)"
            )


def _kron(a: Float[Tensor, "*a i j"], b: Float[Tensor, "*b k l"]) -> Float[Tensor, "..."]:
    product = a.unsqueeze(-1).unsqueeze(-3) * b.unsqueeze(-2).unsqueeze(-4)
    return product.flatten(-2).flatten(-3, -2)
