"""The forms in which a subspace is held; :class:`symfield.linalg.Subspace` is the public face of all of them.

Each form has a ``shape`` (N, r), a dense ``basis`` and the actions ``coordinates``, ``embed`` and ``project`` on
floating tensors with any leading axes, in the tensor's own dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from symfield.linalg.orbits import Orbits
from symfield.typing import Tensor

__all__ = ["Dense", "DirectSum", "SignedOrbits", "Storage", "working"]


def working(x: Tensor) -> Tensor:
    """``x`` in float64, or in float32 on devices that have no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


@dataclass(frozen=True, eq=False)
class _OnDevices:
    """Copies of constant tensors in the dtypes and on the devices where they were needed."""

    copies: dict[tuple[str, torch.dtype, torch.device], Tensor] = field(default_factory=dict, init=False, repr=False)

    def near(self, x: Tensor, *names: str) -> tuple[Tensor, ...]:
        """The named tensors on x's device; floating ones in x's dtype."""
        return tuple(self._copy(name, x) for name in names)

    def _copy(self, name: str, x: Tensor) -> Tensor:
        value: Tensor = getattr(self, name)
        dtype = x.dtype if value.is_floating_point() else value.dtype
        if value.device == x.device and value.dtype == dtype:
            return value
        key = name, dtype, x.device
        if key not in self.copies:
            with torch.inference_mode(False):  # a copy made during inference must serve training too
                self.copies[key] = value.to(dtype=dtype, device=x.device)
        return self.copies[key]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "copies": {}}


@dataclass(frozen=True, eq=False)
class Dense(_OnDevices):
    """Orthonormal columns ``basis``, (N, r)."""

    basis: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(N, r)."""
        return self.basis.shape[0], self.basis.shape[1]

    def coordinates(self, x: Tensor) -> Tensor:
        """Bᵀ x."""
        (basis,) = self.near(x, "basis")
        return x @ basis

    def embed(self, c: Tensor) -> Tensor:
        """B c."""
        (basis,) = self.near(c, "basis")
        return c @ basis.mT

    def project(self, x: Tensor) -> Tensor:
        """B Bᵀ x."""
        return self.embed(self.coordinates(x))


@dataclass(frozen=True, eq=False)
class SignedOrbits(_OnDevices):
    """Signed orbits in bins; coordinates that must vanish share one last bin, with sign 0. Norms are √sizes."""

    orbits: Orbits
    dim: int
    bins: Tensor
    signs: Tensor
    first: Tensor
    sizes: Tensor
    norms: Tensor

    @classmethod
    def build(cls, orbits: Orbits) -> SignedOrbits:
        """Sort the coordinates into bins; labels must be consecutive."""
        labels = orbits.labels
        dim = max(int(labels.max()) + 1, 0) if labels.numel() else 0
        bins = torch.where(labels < 0, dim, labels)
        sizes = torch.bincount(bins, minlength=dim)
        if not bool((sizes > 0).all()):
            missing = int(torch.nonzero(sizes == 0)[0])
            raise ValueError(
                f"expected labels 0, 1, … without a gap (-1 for zero), received no coordinate labelled {missing}; "
                f"number the orbits consecutively"
            )
        order = torch.argsort(bins, stable=True)
        first = order[sizes.cumsum(0) - sizes]
        return cls(orbits, dim, bins, orbits.signs, first, sizes.double(), sizes.double().sqrt())

    @property
    def shape(self) -> tuple[int, int]:
        """(N, r)."""
        return self.bins.numel(), self.dim

    @property
    def basis(self) -> Tensor:
        """Dense orthonormal columns, (N, r)."""
        result = torch.zeros(self.shape, dtype=torch.float64)
        alive = torch.nonzero(self.orbits.labels >= 0).squeeze(1)
        label = self.orbits.labels[alive]
        result[alive, label] = self.signs[alive] / self.norms[label]
        return result

    def means(self, x: Tensor) -> Tensor:
        """Signed mean of each bin, as its first value plus a mean deviation: exact where the orbit is constant."""
        bins, signs, first, sizes = self.near(x, "bins", "signs", "first", "sizes")
        signed = x * signs
        lead = _take(signed, first)
        deviation = signed - _take(lead, bins)
        return lead + torch.zeros_like(lead).scatter_add(-1, bins.expand(deviation.shape), deviation) / sizes

    def coordinates(self, x: Tensor) -> Tensor:
        """Bᵀ x."""
        (norms,) = self.near(x, "norms")
        return (self.means(x) * norms)[..., : self.dim]

    def embed(self, c: Tensor) -> Tensor:
        """B c."""
        bins, signs, norms = self.near(c, "bins", "signs", "norms")
        padded = torch.nn.functional.pad(c, (0, norms.numel() - self.dim))
        return _take(padded / norms, bins) * signs

    def project(self, x: Tensor) -> Tensor:
        """B Bᵀ x."""
        bins, signs = self.near(x, "bins", "signs")
        return _take(self.means(x), bins) * signs


@dataclass(frozen=True, eq=False)
class _Repeated(_OnDevices):
    """The same small subspace of R^n on c disjoint sets of coordinates, ``index`` (c, n)."""

    index: Tensor
    inner: Dense | SignedOrbits

    @property
    def dim(self) -> int:
        return self.index.shape[0] * self.inner.shape[1]

    def gather(self, x: Tensor) -> Tensor:
        (index,) = self.near(x, "index")
        return _take(x, index.reshape(-1)).unflatten(-1, index.shape)


@dataclass(frozen=True, eq=False)
class DirectSum(_OnDevices):
    """Small subspaces on disjoint sets of coordinates that together are all coordinates.

    ``order[i]`` is the place of coordinate i in the concatenation of all parts.
    """

    parts: tuple[_Repeated, ...]
    order: Tensor

    @classmethod
    def build(cls, parts: Sequence[tuple[Tensor, Dense | SignedOrbits]]) -> DirectSum:
        """Check that the parts use every coordinate once."""
        places = torch.cat([index.reshape(-1) for index, _ in parts])
        order = places.argsort()
        if not torch.equal(places[order], torch.arange(places.numel())):
            raise ValueError("expected parts that use every coordinate exactly once, received others; check the index")
        return cls(tuple(_Repeated(index, inner) for index, inner in parts), order)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, r)."""
        return self.order.numel(), sum(part.dim for part in self.parts)

    @property
    def basis(self) -> Tensor:
        """Dense orthonormal columns, (N, r)."""
        return self.embed(torch.eye(self.shape[1], dtype=torch.float64)).mT.contiguous()

    def coordinates(self, x: Tensor) -> Tensor:
        """Bᵀ x."""
        return torch.cat([part.inner.coordinates(part.gather(x)).flatten(-2) for part in self.parts], dim=-1)

    def embed(self, c: Tensor) -> Tensor:
        """B c."""
        pieces = c.split([part.dim for part in self.parts], dim=-1)
        shapes = [(part.index.shape[0], part.inner.shape[1]) for part in self.parts]
        return self._scatter(
            [part.inner.embed(y.unflatten(-1, s)) for part, y, s in zip(self.parts, pieces, shapes, strict=True)]
        )

    def project(self, x: Tensor) -> Tensor:
        """B Bᵀ x."""
        return self._scatter([part.inner.project(part.gather(x)) for part in self.parts])

    def _scatter(self, pieces: list[Tensor]) -> Tensor:
        (order,) = self.near(pieces[0], "order")
        return _take(torch.cat([piece.flatten(-2) for piece in pieces], dim=-1), order)


Storage: TypeAlias = Dense | SignedOrbits | DirectSum


def _take(x: Tensor, index: Tensor) -> Tensor:
    """x[..., index] for a vector of indices, by gather, whose gradient is many times faster."""
    return x.gather(-1, index.expand(*x.shape[:-1], index.numel()))
