"""The two forms in which a subspace is held; :class:`symfield.linalg.Subspace` is the public face of both.

Each form has a ``shape`` (N, r), a dense ``basis`` and the actions ``coordinates``, ``embed`` and ``project`` on
float64 tensors with any leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from symfield.linalg.signed_orbits import Orbits
from symfield.typing import Tensor

__all__ = ["Dense", "SignedOrbits", "working"]


def working(x: Tensor) -> Tensor:
    """``x`` in float64, or in float32 on devices that have no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


@dataclass(frozen=True, eq=False)
class _OnDevices:
    """Copies of constant tensors on the devices where they were needed."""

    copies: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, init=False, repr=False)

    def near(self, x: Tensor, *names: str) -> tuple[Tensor, ...]:
        """The named tensors on x's device; floating ones in x's dtype."""
        return tuple(self._copy(name, x) for name in names)

    def _copy(self, name: str, x: Tensor) -> Tensor:
        value: Tensor = getattr(self, name)
        dtype = x.dtype if value.is_floating_point() else value.dtype
        if value.device == x.device and value.dtype == dtype:
            return value
        if (name, x.device) not in self.copies:
            self.copies[name, x.device] = value.to(dtype=dtype, device=x.device)
        return self.copies[name, x.device]


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
    """Signed orbits in bins; coordinates that must vanish share one last bin, with sign 0."""

    orbits: Orbits
    dim: int
    bins: Tensor
    signs: Tensor
    first: Tensor
    sizes: Tensor

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
        return cls(orbits, dim, bins, orbits.signs, first, sizes.double())

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
        result[alive, label] = self.signs[alive] / self.sizes[label].sqrt()
        return result

    def means(self, x: Tensor) -> Tensor:
        """Signed mean of each bin, as its first value plus a mean deviation: exact where the orbit is constant."""
        bins, signs, first, sizes = self.near(x, "bins", "signs", "first", "sizes")
        signed = x * signs
        lead = signed[..., first]
        deviation = signed - lead[..., bins]
        return lead + torch.zeros_like(lead).scatter_add(-1, bins.expand(deviation.shape), deviation) / sizes

    def coordinates(self, x: Tensor) -> Tensor:
        """Bᵀ x."""
        (sizes,) = self.near(x, "sizes")
        return (self.means(x) * sizes.sqrt())[..., : self.dim]

    def embed(self, c: Tensor) -> Tensor:
        """B c."""
        bins, signs, sizes = self.near(c, "bins", "signs", "sizes")
        padded = torch.nn.functional.pad(c, (0, sizes.numel() - self.dim))
        return (padded / sizes.sqrt())[..., bins] * signs

    def project(self, x: Tensor) -> Tensor:
        """B Bᵀ x."""
        bins, signs = self.near(x, "bins", "signs")
        return self.means(x)[..., bins] * signs
