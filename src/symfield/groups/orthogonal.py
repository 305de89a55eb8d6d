r"""The orthogonal groups; elements are float64 matrices.

The Lie algebra so(n) has the basis E_ij = e_j e_iᵀ − e_i e_jᵀ, i < j, in lexicographic order, and every g in O(n) is
g = exp(A) r^c with A skew, r = diag(−1, 1, …, 1) and c ∈ {0, 1}.
"""

# ruff: noqa: D102 -- an override keeps the docstring of what it overrides

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import scipy.linalg
import torch

from symfield.groups.group import Group, infinite, require_size
from symfield.typing import Bool, Float, Generator, Int, Tensor

__all__ = ["Orthogonal", "SpecialOrthogonal"]


class Orthogonal(Group):
    """The orthogonal group O(n): matrices with gᵀg = 1, float64, shape ``(n, n)``.

    ``sample`` draws from the Haar measure: the Q of a Gaussian matrix, with the signs that make R's diagonal positive.
    O(1) is finite.

    Args:
        n: size of the matrices, at least 1.

    Example:
        >>> from symfield.groups import Orthogonal
        >>> group = Orthogonal(3)
        >>> g = group.sample(2, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(group.compose(g, group.inverse(g)), group.identity), group.lie_algebra.shape
        (True, torch.Size([3, 3, 3]))

    References:
        Mezzadri 2007, How to generate random matrices from the classical compact groups, arXiv math-ph/0609050v2.
    """

    n: int
    _fields: ClassVar[tuple[str, ...]] = ("n",)

    def __init__(self, n: int) -> None:
        require_size(f"{type(self).__name__}(n)", n)
        self._set(n=n)

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    @property
    def identity(self) -> Tensor:
        return torch.eye(self.n, dtype=torch.float64)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return g @ h

    def inverse(self, g: Tensor) -> Tensor:
        return g.mT

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        gaussian = torch.randn(n, self.n, self.n, generator=generator, dtype=torch.float64, device=generator.device)
        q, r = torch.linalg.qr(gaussian)
        return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-2)

    @property
    def generators(self) -> Tensor:
        return self.reflection.unsqueeze(0)

    @property
    def reflection(self) -> Float[Tensor, "n n"]:
        """The reflection r = diag(−1, 1, …, 1)."""
        diagonal = torch.ones(self.n, dtype=torch.float64)
        diagonal[0] = -1.0
        return diagonal.diag()

    @property
    def degree(self) -> int:
        return self.n

    @property
    def lie_algebra(self) -> Float[Tensor, "j q q"]:
        i, j = torch.triu_indices(self.n, self.n, offset=1)
        basis = torch.zeros(len(i), self.n, self.n, dtype=torch.float64)
        basis[torch.arange(len(i)), j, i] = 1.0
        basis[torch.arange(len(i)), i, j] = -1.0
        return basis

    @property
    def is_finite(self) -> bool:
        return self.n == 1

    @property
    def order(self) -> int:
        if not self.is_finite:
            raise infinite(self)
        return 2

    def element(self, index: Int[Tensor, "*b"]) -> Tensor:
        self.require_listable()
        return (1.0 - 2.0 * index.double())[..., None, None]

    def index(self, g: Tensor) -> Int[Tensor, "*b"]:
        self.require_listable()
        return (g[..., 0, 0] < 0).to(torch.int64)

    def defining_matrix(self, g: Tensor) -> Float[Tensor, "*b q q"]:
        return g.double()

    def exp(self, a: Float[Tensor, "*b q q"]) -> Tensor:
        return torch.linalg.matrix_exp(a.double())

    def log(self, g: Tensor) -> tuple[Float[Tensor, "*b q q"], Bool[Tensor, "*b"]]:
        """A skew A and a bit c with g = exp(A) r^c, the angles of A in [−π, π].

        Args:
            g: elements.

        Returns:
            A, and whether g reverses orientation.

        Example:
            >>> from symfield.groups import Orthogonal
            >>> group = Orthogonal(3)
            >>> a, reflected = group.log(group.reflection)
            >>> float(a.norm()), bool(reflected)
            (0.0, True)
        """
        reflected = self.determinant(g) < 0
        r = self.reflection.to(g.device)
        rotations = torch.where(reflected[..., None, None], g.double() @ r, g.double())
        if self.n == 2:
            angle = torch.atan2(rotations[..., 1, 0], rotations[..., 0, 0])
            return angle[..., None, None] * self.lie_algebra[0].to(g.device), reflected
        flat = rotations.reshape(math.prod(rotations.shape[:-2]), self.n, self.n)
        logs = np.stack([_skew_log(m) for m in flat.cpu().numpy()]) if len(flat) else np.zeros(flat.shape)
        return torch.from_numpy(logs).to(g.device).reshape(rotations.shape), reflected

    def __str__(self) -> str:
        return f"O({self.n})"


class SpecialOrthogonal(Orthogonal):
    """The rotations SO(n): orthogonal matrices of determinant one, float64, shape ``(n, n)``.

    ``sample`` draws from the Haar measure of O(n) and reflects the draws that reverse orientation. SO(1) is trivial.

    Args:
        n: size of the matrices, at least 1.

    Example:
        >>> from symfield.groups import SpecialOrthogonal
        >>> g = SpecialOrthogonal(4).sample(3, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(torch.linalg.det(g), torch.ones(3, dtype=torch.float64))
        True
    """

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        g = super().sample(n, generator=generator)
        return torch.where((self.determinant(g) < 0)[:, None, None], g @ self.reflection.to(g.device), g)

    @property
    def generators(self) -> Tensor:
        return torch.zeros(0, self.n, self.n, dtype=torch.float64)

    @property
    def order(self) -> int:
        if not self.is_finite:
            raise infinite(self)
        return 1

    def __str__(self) -> str:
        return f"SO({self.n})"


def _skew_log(rotation: np.ndarray) -> np.ndarray:
    """A real skew logarithm of a rotation: the angles of the 2 × 2 blocks of its real Schur form."""
    t, q = scipy.linalg.schur(rotation, output="real")
    a = np.zeros_like(t)
    turned: list[int] = []  # eigenvalues −1 on the diagonal: an even number, taken in pairs as half turns
    i = 0
    while i < len(t):
        if i + 1 < len(t) and t[i + 1, i] != 0.0:
            angle = math.atan2(t[i + 1, i] - t[i, i + 1], t[i, i] + t[i + 1, i + 1])
            a[i + 1, i], a[i, i + 1] = angle, -angle
            i += 2
            continue
        if t[i, i] < 0:
            turned.append(i)
        i += 1
    for first, second in zip(turned[::2], turned[1::2], strict=True):
        a[second, first], a[first, second] = math.pi, -math.pi
    return np.asarray(q @ a @ q.T)
