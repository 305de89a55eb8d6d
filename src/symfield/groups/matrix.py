r"""Representations given by matrices for a group's generators and for a basis of its Lie algebra.

On a finite group the images are extended by words and checked along every edge of the Cayley graph. On SO(n) they are
extended through the logarithm, ρ(exp A) = exp dρ(A), and checked exactly: linear images L of the basis E_ij come from a
representation of SO(n) if and only if they respect brackets and a full turn is the identity, exp(2π L_01) = 1, because
that loop generates the fundamental group. O(n) adds the reflection r, with ρ(r)² = 1 and ρ(r) dρ(A) ρ(r) = dρ(rAr).
On a direct product the images of different factors must commute.
"""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from symfield.groups.group import Group, stack_float64
from symfield.groups.orthogonal import Orthogonal
from symfield.groups.product import DirectProduct
from symfield.groups.representation import Representation
from symfield.groups.words import cayley, extend
from symfield.typing import Float, Tensor

__all__ = ["Matrix"]

_TOLERANCE = 1e-8


class Matrix(Representation):
    """The representation with given matrices, which need not be orthogonal.

    Args:
        group: any group; a finite one (or finite factor of a product) has at most 100 000 elements.
        matrices_of_generators: invertible matrices for ``group.generators``, then matrices for
            ``group.lie_algebra``, ``(k + j, m, m)``.

    Raises:
        ValueError: if the shape is wrong, an entry is not finite, or the matrices do not represent the group; the
            error names the relation that fails and by how much.

    Example:
        >>> from symfield.groups import Matrix, SpecialOrthogonal
        >>> group = SpecialOrthogonal(2)
        >>> twice = Matrix(group, 2 * group.lie_algebra)  # turns the plane twice as fast
        >>> bool(torch.allclose(twice.matrix(-group.identity), group.identity))
        True
        >>> Matrix(group, 0.5 * group.lie_algebra)
        Traceback (most recent call last):
        ...
        ValueError: expected matrices that represent SO(2): a full turn must be the identity (no spinors), but it ...
    """

    group: Group
    images: Float[Tensor, "k m m"]
    _fields: ClassVar[tuple[str, ...]] = ("group", "images")

    def __init__(self, group: Group, matrices_of_generators: Tensor | Sequence[Any]) -> None:
        images = stack_float64(matrices_of_generators)
        k, j = len(group.generators), len(group.lie_algebra)
        if images.dim() != 3 or len(images) != k + j or images.shape[1] != images.shape[2] or images.shape[1] == 0:
            raise ValueError(
                f"expected matrices of shape ({k + j}, m, m) for the {k} generators and {j} Lie algebra elements of "
                f"{group}, received shape {tuple(images.shape)}"
            )
        if not bool(images.isfinite().all()):
            raise ValueError("expected finite matrices, received NaN or infinity")
        self._set(group=group, images=images)
        self._verify()

    @property
    def dim(self) -> int:
        return self.images.shape[1]

    @property
    def orthogonal(self) -> bool:
        return self._orthogonal

    @cached_property
    def _orthogonal(self) -> bool:
        finite, lie = self._split
        errors = torch.cat([finite.mT @ finite - torch.eye(self.dim, dtype=torch.float64), lie + lie.mT])
        return not len(errors) or float(errors.abs().max()) <= _TOLERANCE

    @property
    def _split(self) -> tuple[Tensor, Tensor]:
        k = len(self.group.generators)
        return self.images[:k], self.images[k:]

    def _matrix(self, g: Tensor) -> Tensor:
        group = self.group
        if isinstance(group, DirectProduct):
            matrices = [part._matrix(h) for part, h in zip(self._parts, group.split(g), strict=True)]
            product = matrices[0]
            for matrix in matrices[1:]:
                product = product @ matrix
            return product
        if group.is_finite:
            return self._table.to(g.device)[group.index(g)]
        assert isinstance(group, Orthogonal)
        a, reflected = group.log(g)
        rotation = torch.linalg.matrix_exp(self._lie(a))
        if not len(group.generators):
            return rotation
        return torch.where(reflected[..., None, None], rotation @ self.images[0].to(g.device), rotation)

    def _lie(self, a: Tensor) -> Tensor:
        if isinstance(self.group, DirectProduct):
            images = [part._lie(block) for part, block in zip(self._parts, self.group.blocks(a), strict=True)]
            return torch.stack(images).sum(dim=0)
        basis = self.group.lie_algebra.to(a.device)
        coefficients = torch.einsum("...pq,jpq->...j", a, basis) / 2  # each E_ij has squared norm 2
        return torch.einsum("...j,jmn->...mn", coefficients, self._split[1].to(a.device))

    @cached_property
    def _parts(self) -> tuple[Matrix, ...]:
        assert isinstance(self.group, DirectProduct)
        finite, lie = self._split
        finite_rows = finite.split([len(factor.generators) for factor in self.group.factors])
        lie_rows = lie.split([len(factor.lie_algebra) for factor in self.group.factors])
        pairs = zip(self.group.factors, finite_rows, lie_rows, strict=True)
        return tuple(Matrix(factor, torch.cat([f, a])) for factor, f, a in pairs)

    @cached_property
    def _table(self) -> Float[Tensor, "n m m"]:
        return extend(self.group, self.images, torch.eye(self.dim, dtype=torch.float64), torch.matmul)

    def _verify(self) -> None:
        if isinstance(self.group, DirectProduct):
            blocks = [part.images for part in self._parts]
            for i, first in enumerate(blocks):
                for second in blocks[i + 1 :]:
                    one, other = first[:, None] @ second[None], second[None] @ first[:, None]
                    self._require(one - other, "images of different factors must commute")
        elif self.group.is_finite:
            graph = cayley(self.group)
            for image, successor in zip(self.images, graph.successors, strict=True):
                self._require(self._table[successor] - image @ self._table, "the relations of the group must hold")
        else:
            self._verify_rotations()

    def _verify_rotations(self) -> None:
        """The conditions on the images of so(n), and of the reflection, that make a representation."""
        assert isinstance(self.group, Orthogonal)
        finite, lie = self._split
        basis = self.group.lie_algebra
        for e, image in zip(basis, lie, strict=True):
            bracket = image @ lie - lie @ image
            self._require(bracket - self._lie(e @ basis - basis @ e), "images of the Lie algebra must respect brackets")
        one = torch.eye(self.dim, dtype=torch.float64)
        self._require(
            torch.linalg.matrix_exp(2 * math.pi * lie[0]) - one, "a full turn must be the identity (no spinors)"
        )
        for r in finite:
            self._require(r @ r - one, "the square of the reflection must be the identity")
            mirrored = self._lie(self.group.reflection @ basis @ self.group.reflection)
            self._require(r @ lie @ r - mirrored, "the reflection must act on the Lie algebra as in the group")

    def _require(self, difference: Tensor, claim: str) -> None:
        violation = float(difference.abs().max()) if difference.numel() else 0.0
        scale = max(1.0, float(self.images.abs().max())) ** 2 if len(self.images) else 1.0
        if violation > _TOLERANCE * scale:
            raise ValueError(
                f"expected matrices that represent {self.group}: {claim}, but it differs by {violation:.2e} "
                f"(tolerance {_TOLERANCE * scale:.0e}); give float64 matrices for group.generators, then for "
                "group.lie_algebra, in that order"
            )

    def __str__(self) -> str:
        return f"R^{self.dim}"
