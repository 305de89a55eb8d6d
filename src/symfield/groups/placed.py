r"""A representation on some of the coordinates of a larger space, the others fixed."""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from symfield.groups.group import Group
from symfield.groups.representation import Representation
from symfield.typing import Tensor

__all__ = ["Placed"]


class Placed(Representation):
    """A representation that acts on given coordinates of R^n, in a given order, and leaves the others alone.

    Args:
        inner: the representation, of dim k.
        places: its k coordinates in R^n, all different.
        n: dimension of the whole space.

    Raises:
        ValueError: unless there are k different places in 0, …, n − 1.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> swap = Placed(Defining(Cyclic(2)), (3, 1), 4)
        >>> swap.act(torch.tensor(1), torch.tensor([0.0, 1.0, 2.0, 3.0]))
        tensor([0., 3., 2., 1.])
    """

    inner: Representation
    places: tuple[int, ...]
    n: int
    _fields: ClassVar[tuple[str, ...]] = ("inner", "places", "n")

    def __init__(self, inner: Representation, places: Sequence[int], n: int) -> None:
        chosen = tuple(int(place) for place in places)
        if len(chosen) != inner.dim or len(set(chosen)) != len(chosen) or not all(0 <= place < n for place in chosen):
            raise ValueError(
                f"expected {inner.dim} different places in 0, ..., {n - 1} for {inner} of {inner.group}, received "
                f"{chosen}"
            )
        self._set(inner=inner, places=chosen, n=n)

    @property
    def group(self) -> Group:  # type: ignore[override]
        return self.inner.group

    @property
    def dim(self) -> int:
        return self.n

    @property
    def permutation_like(self) -> bool:
        return self.inner.permutation_like

    @property
    def orthogonal(self) -> bool:
        return self.inner.orthogonal

    def _signed(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        index, sign = self.inner._signed(g)
        places = torch.tensor(self.places, device=index.device)
        whole = torch.arange(self.n, device=index.device).expand(*index.shape[:-1], self.n).clone()
        whole[..., places] = places[index]
        if sign is None:
            return whole, None
        signs = torch.ones_like(whole)
        signs[..., places] = sign.to(signs.dtype)
        return whole, signs

    def _matrix(self, g: Tensor) -> Tensor:
        block = self.inner._matrix(g)
        return self._spread(block, torch.eye(self.n, dtype=block.dtype, device=block.device))

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        places = torch.tensor(self.places, device=x.device)
        moved = self.inner._act(g, x[..., places])
        out = x.expand(*moved.shape[:-1], self.n).clone()
        out[..., places] = moved
        return out

    def _lie(self, a: Tensor) -> Tensor:
        block = self.inner._lie(a)
        return self._spread(block, torch.zeros(self.n, self.n, dtype=block.dtype, device=block.device))

    def _spread(self, block: Tensor, whole: Tensor) -> Tensor:
        places = torch.tensor(self.places, device=block.device)
        out = whole.expand(*block.shape[:-2], self.n, self.n).clone()
        out[..., places[:, None], places] = block
        return out

    def __str__(self) -> str:
        return f"{self.inner._in_parentheses(str)} on {self.inner.dim} of {self.n}"

    @property
    def _atomic(self) -> bool:
        return False
