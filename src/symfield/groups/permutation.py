r"""Permutation representations given by the images of a group's generators."""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from symfield.groups.group import Group, take
from symfield.groups.product import DirectProduct
from symfield.groups.representation import Representation
from symfield.groups.words import cayley, extend
from symfield.typing import Int, Tensor

__all__ = ["Permutation"]


class Permutation(Representation):
    """The representation that permutes m coordinates, given by how the generators permute them.

    Coordinate i of x moves to place π[i], with π the row of the generator. The images are extended to all elements by
    words, and refused unless that is a homomorphism. The Lie algebra of an infinite group moves nothing.

    Args:
        group: any group; a finite one (or finite factor of a product) has at most 100 000 elements.
        images_of_generators: one permutation of 0, …, m − 1 for each of ``group.generators``, ``(k, m)`` integers.

    Raises:
        ValueError: if these are not permutations, or do not satisfy the group's relations.

    Example:
        >>> from symfield.groups import Cyclic, Permutation
        >>> corners = Permutation(Cyclic(3), [[1, 2, 0, 3]])  # the fourth point stays
        >>> corners.act(torch.tensor(1), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([3., 1., 2., 4.])
    """

    group: Group
    images: Int[Tensor, "k m"]
    _fields: ClassVar[tuple[str, ...]] = ("group", "images")

    def __init__(self, group: Group, images_of_generators: Tensor | Sequence[Any]) -> None:
        images = torch.as_tensor(images_of_generators).detach().cpu()
        count = len(group.generators)
        if images.dim() != 2 or len(images) != count or images.shape[1] == 0 or images.is_floating_point():
            raise ValueError(
                f"expected integers of shape ({count}, m), one permutation for each generator of {group}, received "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        images = images.to(torch.int64, copy=True)
        if not bool((images.sort(dim=-1).values == torch.arange(images.shape[1])).all()):
            raise ValueError(
                f"expected rows that are permutations of 0, ..., {images.shape[1] - 1}, received {images.tolist()}; "
                "row s holds the images of the points under generator s"
            )
        self._set(group=group, images=images)
        self._verify()

    @property
    def dim(self) -> int:
        return self.images.shape[1]

    @property
    def permutation_like(self) -> bool:
        return True

    def _signed(self, g: Tensor) -> tuple[Tensor, None]:
        return self._images(g).argsort(dim=-1), None

    def _images(self, g: Tensor) -> Int[Tensor, "*b m"]:
        """Where each coordinate goes."""
        group = self.group
        if isinstance(group, DirectProduct):
            images = torch.arange(self.dim, device=g.device)
            for part, h in zip(self._parts, group.split(g), strict=True):
                images = take(images, part._images(h))
            return images
        if group.is_finite:
            return self._table.to(g.device)[group.index(g)]
        both = torch.cat([torch.arange(self.dim).unsqueeze(0), self.images]).to(g.device)  # connected components
        return both[(group.determinant(g) < 0).to(torch.int64)]

    @cached_property
    def _parts(self) -> tuple[Permutation, ...]:
        assert isinstance(self.group, DirectProduct)
        rows = self.images.split([len(factor.generators) for factor in self.group.factors])
        return tuple(Permutation(factor, part) for factor, part in zip(self.group.factors, rows, strict=True))

    @cached_property
    def _table(self) -> Int[Tensor, "n m"]:
        return extend(self.group, self.images, torch.arange(self.dim), take)

    def _verify(self) -> None:
        if isinstance(self.group, DirectProduct):
            blocks = [part.images for part in self._parts]
            for i, first in enumerate(blocks):
                for second in blocks[i + 1 :]:
                    one, other = take(first[:, None], second[None]), take(second[None], first[:, None])
                    self._require(one == other, "generators of different factors must commute")
        elif self.group.is_finite:
            for image, successor in zip(self.images, cayley(self.group).successors, strict=True):
                self._require(self._table[successor] == image[self._table], "the relations of the group must hold")
        else:
            squares = take(self.images, self.images)
            self._require(squares == torch.arange(self.dim), "the image of the reflection must be an involution")

    def _require(self, holds: Tensor, claim: str) -> None:
        if not bool(holds.all()):
            raise ValueError(
                f"expected images that represent {self.group}: {claim}, but {int((~holds).sum())} of {holds.numel()} "
                "places differ; give the images in the order of group.generators, as images of points"
            )

    def __str__(self) -> str:
        return f"R[{self.dim}]"
