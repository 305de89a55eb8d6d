"""A linear subspace of R^N as a frozen value: dense, by signed orbits, or a direct sum of small ones.

With an orthonormal basis B (N × r) of the subspace E: coordinates Bᵀx, embedding Bc, orthogonal projection
P = B Bᵀ, distance ‖x − Px‖. In the orbit form E = {x : x_i = s_i c_{label(i)}}, the columns of B are the orbits' sign
vectors divided by the root of their sizes, and P is the signed mean over each orbit.

The subspace is kept in float64 on the CPU and copied to other devices when needed; the arithmetic is float64 whatever x
is (float32 on devices without float64), and results have x's dtype and device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from symfield.linalg.orbits import Orbits
from symfield.linalg.rank import numerical_rank
from symfield.linalg.storage import Dense, DirectSum, SignedOrbits, Storage, working
from symfield.typing import Bool, Float, Int, Shaped, Tensor

__all__ = ["Subspace"]

_SQUARE_LIMIT = 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Subspace:
    """A linear subspace of R^N, immutable.

    Build one with :meth:`from_basis`, :meth:`span`, :meth:`from_orbits`, :meth:`zero` or :meth:`full`, or get it from
    a solver such as :func:`symfield.linalg.null_space` or :func:`symfield.equivariant.fixed_points`.

    Attributes:
        residual: largest measured violation of the constraints that define the subspace (0.0 when there are none).

    Example:
        >>> diagonal = Subspace.from_orbits(torch.tensor([0, 0]))
        >>> diagonal
        Subspace(dim=1, ambient_dim=2, form=orbits, residual=0.0e+00)
        >>> diagonal.project(torch.tensor([1.0, 3.0]))
        tensor([2., 2.])
        >>> round(float(diagonal.distance(torch.tensor([3.0, -3.0]))), 4)
        4.2426
    """

    storage: Storage
    residual: float = 0.0

    @classmethod
    def from_basis(cls, basis: Float[Tensor, "N r"], *, residual: float = 0.0, atol: float = 1e-9) -> Subspace:
        """The span of orthonormal columns.

        Args:
            basis: orthonormal columns, ``(N, r)``.
            residual: measured violation of the defining constraints, to be kept with the subspace.
            atol: largest accepted entry of BᵀB − I.

        Returns:
            The subspace.

        Raises:
            ValueError: if the columns are not orthonormal, or hold NaN.
        """
        basis = _finite(basis, "basis").double().cpu()
        error = basis.mT @ basis - torch.eye(basis.shape[1], dtype=basis.dtype)
        defect = float(error.abs().max()) if error.numel() else 0.0
        if defect > atol:
            raise ValueError(
                f"expected orthonormal columns, received BᵀB off the identity by {defect:.1e}; "
                f"use Subspace.span(basis.mT) for arbitrary vectors"
            )
        return cls(Dense(basis), residual)

    @classmethod
    def span(cls, vectors: Float[Tensor, "k N"], *, rtol: float = 1e-9, gap: float = 1e3) -> Subspace:
        """The span of arbitrary vectors, given as rows.

        Args:
            vectors: rows, ``(k, N)``; they may be dependent.
            rtol: singular values up to ``rtol`` times the largest count as zero.
            gap: smallest accepted ratio between non-zero and zero singular values.

        Returns:
            The subspace.

        Raises:
            AmbiguousRankError: if the vectors are neither clearly dependent nor clearly independent.
            ValueError: if they hold NaN.

        Example:
            >>> Subspace.span(torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])).dim
            1
        """
        vectors = _finite(vectors, "vectors").double()
        _, values, right = torch.linalg.svd(vectors, full_matrices=False)
        return cls(Dense(right[: numerical_rank(values, rtol=rtol, gap=gap)].mT.contiguous().cpu()))

    @classmethod
    def from_orbits(
        cls, labels: Int[Tensor, " N"], signs: Shaped[Tensor, "..."] | None = None, *, residual: float = 0.0
    ) -> Subspace:
        """All x with x_i = s_i c_{label(i)} for some c.

        Args:
            labels: orbit of each coordinate, 0, 1, … without gaps; −1 where x must vanish.
            signs: ±1 for each coordinate; all +1 when absent. Ignored where the label is −1.
            residual: measured violation of the defining constraints, to be kept with the subspace.

        Returns:
            The subspace, held as orbits.

        Raises:
            ValueError: if a label is missing or below −1, or a sign is not ±1.

        Example:
            >>> Subspace.from_orbits(torch.tensor([0, 0, -1]), torch.tensor([1, -1, 1])).basis.squeeze()
            tensor([ 0.7071, -0.7071,  0.0000], dtype=torch.float64)
        """
        if labels.numel() and int(labels.min()) < -1:
            raise ValueError(f"expected labels -1, 0, 1, …, received {int(labels.min())}; use -1 for zero coordinates")
        labels = labels.detach().cpu().long()
        signs = torch.ones(labels.shape, dtype=torch.float64) if signs is None else signs.detach().cpu().double()
        if signs.shape != labels.shape:
            raise ValueError(f"expected {labels.numel()} signs, received {signs.numel()}; give one for each coordinate")
        signs = torch.where(labels < 0, 0.0, signs)
        if not bool((signs.abs() == (labels >= 0)).all()):
            raise ValueError("expected signs +1 or -1, received other values; orbits relate coordinates up to a sign")
        return cls(SignedOrbits.build(Orbits(labels, signs)), residual)

    @classmethod
    def direct_sum(cls, parts: Sequence[tuple[Int[Tensor, "c n"], Subspace]]) -> Subspace:
        """Small subspaces side by side: x belongs to it iff x[index] does for each row of each part.

        Nothing of size N × r is stored, so that thousands of copies of a small subspace cost little.

        Args:
            parts: pairs of an index ``(c, n)`` into the coordinates and a subspace of R^n that holds on each row;
                all rows together use every coordinate once.

        Returns:
            The subspace of R^N, N the number of all indices; its residual is the largest of the parts'.

        Raises:
            ValueError: if there is no part, a subspace does not fit its index, or a coordinate is missing or repeated.

        Example:
            >>> mean = Subspace.from_orbits(torch.tensor([0, 0]))
            >>> pairs = Subspace.direct_sum([(torch.tensor([[0, 2], [1, 3]]), mean)])
            >>> pairs.dim, pairs.project(torch.tensor([1.0, 10.0, 3.0, 30.0])).tolist()
            (2, [2.0, 20.0, 2.0, 20.0])
        """
        if not parts:
            raise ValueError("expected one part or more, received none; use Subspace.zero(n) for an empty subspace")
        inner = []
        for index, space in parts:
            if index.shape[-1] != space.ambient_dim or isinstance(space.storage, DirectSum):
                raise ValueError(
                    f"expected a dense or orbit subspace of R^{index.shape[-1]} for an index of shape "
                    f"{tuple(index.shape)}, received {space!r}; nested sums are flattened by combining their indices"
                )
            inner.append((index.detach().cpu().long(), space.storage))
        return cls(DirectSum.build(inner), max(space.residual for _, space in parts))

    @classmethod
    def zero(cls, n: int) -> Subspace:
        """The subspace {0} of R^n."""
        return cls.from_orbits(torch.full((n,), -1))

    @classmethod
    def full(cls, n: int) -> Subspace:
        """R^n as a subspace of itself."""
        return cls.from_orbits(torch.arange(n))

    @property
    def dim(self) -> int:
        """Dimension r of the subspace."""
        return self.storage.shape[1]

    @property
    def ambient_dim(self) -> int:
        """Dimension N of the space around it."""
        return self.storage.shape[0]

    @property
    def orbits(self) -> Orbits | None:
        """Labels and signs when the subspace is held as signed orbits, else ``None``."""
        return self.storage.orbits if isinstance(self.storage, SignedOrbits) else None

    @cached_property
    def basis(self) -> Float[Tensor, "N r"]:
        """Orthonormal columns, float64 ``(N, r)``, dense; built on demand for orbits. Do not write to it."""
        return self.storage.basis

    def project(self, x: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """Orthogonal projection P x of vectors on the last axis.

        In the orbit form the result is bitwise constant on each orbit (up to sign), and an x that already is comes
        back bitwise.

        Args:
            x: vectors, ``(*batch, N)``.

        Returns:
            The projections, same shape, dtype and device.
        """
        return self.storage.project(self._accept(x, self.ambient_dim)).to(x.dtype)

    def distance(self, x: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
        """Euclidean distance ‖x − P x‖ from vectors to the subspace.

        Args:
            x: vectors, ``(*batch, N)``.

        Returns:
            The distances, ``(*batch,)``.
        """
        wide = self._accept(x, self.ambient_dim)
        return torch.linalg.vector_norm(wide - self.storage.project(wide), dim=-1).to(x.dtype)

    def coordinates(self, x: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch r"]:
        """Coordinates Bᵀ x in the orthonormal basis.

        Args:
            x: vectors, ``(*batch, N)``.

        Returns:
            The coordinates, ``(*batch, r)``.
        """
        return self.storage.coordinates(self._accept(x, self.ambient_dim)).to(x.dtype)

    def embed(self, c: Float[Tensor, "*batch r"]) -> Float[Tensor, "*batch N"]:
        """The vectors B c with given coordinates.

        Args:
            c: coordinates, ``(*batch, r)``.

        Returns:
            The vectors, ``(*batch, N)``.
        """
        return self.storage.embed(self._accept(c, self.dim)).to(c.dtype)

    def projector(self) -> Float[Tensor, "N N"]:
        """The matrix P = B Bᵀ, float64.

        Returns:
            A symmetric idempotent ``(N, N)`` matrix.

        Raises:
            ValueError: if N is too large for a square matrix.
        """
        self._require_square("projector")
        return self.basis @ self.basis.mT

    def complement(self) -> Subspace:
        """The orthogonal complement, dense.

        Returns:
            The subspace of all vectors orthogonal to this one.

        Raises:
            ValueError: if N is too large for a dense basis.

        Example:
            >>> Subspace.from_orbits(torch.tensor([0, 0, 0])).complement().dim
            2
        """
        self._require_square("complement")
        if self.dim == 0:
            return Subspace.full(self.ambient_dim)
        if self.dim == self.ambient_dim:
            return Subspace.zero(self.ambient_dim)
        complete, _ = torch.linalg.qr(self.basis, mode="complete")
        return Subspace(Dense(complete[:, self.dim :].contiguous()))

    def contains(self, x: Float[Tensor, "*batch N"], *, atol: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Whether vectors lie in the subspace: ‖x − P x‖ ≤ atol · max(1, ‖x‖).

        Args:
            x: vectors, ``(*batch, N)``.
            atol: accepted distance.

        Returns:
            One truth value for each vector.
        """
        wide = self._accept(x, self.ambient_dim)
        return self.distance(wide) <= atol * torch.linalg.vector_norm(wide, dim=-1).clamp_min(1.0)

    def includes(self, other: Subspace, *, atol: float = 1e-9) -> bool:
        """Whether another subspace lies in this one (each of its basis vectors within ``atol``).

        Args:
            other: a subspace of the same R^N.
            atol: accepted distance of a unit vector.

        Returns:
            The truth value.
        """
        self._require_same_ambient(other)
        return bool(self.contains(other.basis.mT, atol=atol).all())

    def angles(self, other: Subspace) -> Float[Tensor, " k"]:
        """Principal angles to another subspace, in radians.

        Small angles come from sines and large ones from cosines, so both are accurate to round-off
        (Björck & Golub 1973).

        Args:
            other: a subspace of the same R^N.

        Returns:
            min(dim, other.dim) angles in [0, π/2], ascending, float64.

        Example:
            >>> e1 = Subspace.span(torch.tensor([[1.0, 0.0]]))
            >>> e1.angles(Subspace.span(torch.tensor([[1.0, 1.0]])))
            tensor([0.7854], dtype=torch.float64)
        """
        self._require_same_ambient(other)
        large, small = (self, other) if self.dim >= other.dim else (other, self)
        if small.dim == 0:
            return torch.zeros(0, dtype=torch.float64)
        overlap = large.basis.mT @ small.basis
        cosines = torch.linalg.svdvals(overlap).clamp(max=1.0)
        sines = torch.linalg.svdvals(small.basis - large.basis @ overlap).flip(0).clamp(max=1.0)
        return torch.where(sines < cosines, torch.asin(sines), torch.acos(cosines))

    def __repr__(self) -> str:
        form = {Dense: "dense", SignedOrbits: "orbits", DirectSum: "sum"}[type(self.storage)]
        return f"Subspace(dim={self.dim}, ambient_dim={self.ambient_dim}, form={form}, residual={self.residual:.1e})"

    def _accept(self, x: Tensor, size: int) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != size:
            raise ValueError(
                f"expected vectors with {size} entries on the last axis, received shape {tuple(x.shape)}; {self!r}"
            )
        return working(x)

    def _require_square(self, what: str) -> None:
        if self.ambient_dim > _SQUARE_LIMIT:
            raise ValueError(
                f"expected at most {_SQUARE_LIMIT} coordinates for a dense {what}, received {self.ambient_dim}; "
                f"use project(x) and x - project(x), which need no such matrix"
            )

    def _require_same_ambient(self, other: Subspace) -> None:
        if other.ambient_dim != self.ambient_dim:
            raise ValueError(
                f"expected a subspace of R^{self.ambient_dim}, received one of R^{other.ambient_dim}; "
                f"compare subspaces of the same space"
            )


def _finite(x: Tensor, name: str) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(f"expected finite numbers in {name}, received NaN or infinity; check where they come from")
    return x.detach()
