r"""Targets y = g(z₁, …, z_k) + noise on Gaussian inputs: a link, a covariance, and the directions that are seen.

Directions w*_i are unit vectors; z_i = ⟨w*_i, x⟩ / t_i with t_i² = w*_iᵀ S w*_i has unit variance whatever the
covariance. Several directions must be uncorrelated, w*_iᵀ S w*_j = 0, so that z is white. Teachers can be *aligned*
(leading eigenvectors), in the *tail* (last ones), *random* (uniform on the sphere) or your own. Leading axes of the
directions are runs: teachers side by side.

Samples come in pieces, as many as are wanted and never all of them in memory. Inputs and what labels need besides come
from two sources of their own, drawn in blocks of a fixed size in float64 and then rounded. Therefore a sample does not
depend on the size of the pieces, on how many samples are taken in the end, on the other runs, nor on the precision
(float32 sees the samples of float64, rounded).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from symfield import random
from symfield.onestep.covariances import Covariance
from symfield.onestep.links import Link
from symfield.typing import Float, Generator, Tensor

__all__ = ["Stream", "Target"]

_TOLERANCE = 1e-6
_BLOCK = 256
_EXACT = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Target:
    """y = g(⟨w*_1, x⟩/t_1, …, ⟨w*_k, x⟩/t_k) + τ ε with x ~ N(0, S).

    Attributes:
        link: g.
        covariance: S.
        directions: w*, ``(*r, k, d)``, or ``(d,)`` for one direction; brought to unit length and float64, on the CPU.
        noise: τ ≥ 0, standard deviation of independent Gaussian noise in the labels.
        unrelated: labels have the same law but are independent of the inputs, as shuffled labels are. What is then
            measured is the null level.

    Raises:
        ValueError: if shapes do not fit, a direction is zero or carries no variance, directions are correlated, or the
            noise is negative.

    Example:
        >>> from symfield.onestep import PowerLaw, aligned, hermite_link
        >>> S = PowerLaw(64, 0.5)
        >>> target = Target(hermite_link([0, 1]), S, aligned(S), noise=0.1)
        >>> x, y = target.draw(1000, generator=random.generator(0))
        >>> x.shape, y.shape, round(float((x @ target.axes[0]).var()), 1)
        (torch.Size([1000, 64]), torch.Size([1000]), 1.0)
    """

    link: Link
    covariance: Covariance
    directions: Tensor
    noise: float = 0.0
    unrelated: bool = False

    def __post_init__(self) -> None:
        w, dim = self.directions.detach().double().cpu(), self.covariance.dim
        w = w.unsqueeze(0) if w.ndim == 1 else w
        if w.ndim < 2 or w.shape[-1] != dim or w.shape[-2] != self.link.dim:
            raise ValueError(
                f"expected directions (*r, k, d) with k = {self.link.dim} of the link and d = {dim} of the covariance, "
                f"received {tuple(self.directions.shape)}"
            )
        length = w.norm(dim=-1, keepdim=True)
        if not torch.isfinite(w).all() or bool((length == 0).any()):
            raise ValueError("expected finite directions that are not zero; drop the zero ones")
        w = w / length
        gram = torch.einsum("...id,...jd->...ij", w, self.covariance.power(w))
        scale = torch.diagonal(gram, dim1=-2, dim2=-1).clamp_min(0).sqrt()
        if bool((scale <= 1e-7 * math.sqrt(self.covariance.trace)).any()):
            raise ValueError(
                "expected directions that inputs have variance along, received one with none; choose directions in the "
                "range of the covariance"
            )
        correlation = gram / (scale.unsqueeze(-1) * scale.unsqueeze(-2)) - torch.eye(w.shape[-2], dtype=w.dtype)
        if float(correlation.abs().max()) > _TOLERANCE:
            raise ValueError(
                "expected directions with uncorrelated coordinates (w_iᵀ S w_j = 0), received correlation "
                f"{float(correlation.abs().max()):.3g}; pass them through decorrelated()"
            )
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"expected a noise level >= 0, received {self.noise}")
        object.__setattr__(self, "directions", w)

    def __repr__(self) -> str:
        runs = self.directions.shape[:-2]
        noise = f" + {self.noise:g} ε" if self.noise else ""
        return f"Target({self.link}{noise}, {self.covariance}{f', runs {tuple(runs)}' if runs else ''})"

    @property
    def scales(self) -> Float[Tensor, "*r k"]:
        """t_i = (w*_iᵀ S w*_i)^{1/2}, float64 ``(*r, k)``."""
        w = self.directions
        return (w * self.covariance.power(w)).sum(-1).sqrt()

    @property
    def axes(self) -> Float[Tensor, "*r k d"]:
        """w*_i / t_i, float64 ``(*r, k, d)``: z = ⟨axes, x⟩."""
        return self.directions / self.scales.unsqueeze(-1)

    @property
    def variance(self) -> float:
        """E y² = E g² + τ²."""
        return self.link.variance + self.noise**2

    def coordinates(self, x: Float[Tensor, "*#r b d"]) -> Float[Tensor, "*r b k"]:
        """z, the coordinates that the labels depend on.

        Args:
            x: inputs, ``(*r, b, d)`` or ``(b, d)`` for all runs.
        """
        return x @ self.axes.to(x).mT

    def __call__(self, x: Float[Tensor, "*#r b d"]) -> Float[Tensor, "*r b"]:
        """g(z): labels without noise.

        Args:
            x: inputs, ``(*r, b, d)`` or ``(b, d)`` for all runs.
        """
        return self.link(self.coordinates(x))

    def labels(self, x: Float[Tensor, "*#r b d"], extra: Float[Tensor, "*#r b c"]) -> Float[Tensor, "*r b"]:
        """Labels with noise.

        Args:
            x: inputs, ``(*r, b, d)``.
            extra: independent standard Gaussians, ``(*r, b, 1 + k)``: the noise, and what replaces z when labels are
                unrelated to inputs.
        """
        clean = self.link(extra[..., 1:]) if self.unrelated else self(x)
        return clean + self.noise * extra[..., 0]

    def shuffled(self) -> Target:
        """The same labels without their inputs: what a measurement gives when there is nothing to see."""
        return replace(self, unrelated=True)

    def draw(
        self, n: int, *, generator: Generator | Sequence[Generator], like: Tensor | None = None
    ) -> tuple[Float[Tensor, "*s n d"], Float[Tensor, "*r n"]]:
        """A sample held in memory; the same one that a gradient step over n samples sees.

        Args:
            n: number of samples.
            generator: one source for all runs, which then share the inputs, or one for each entry of the first runs
                axis. Each is advanced by two draws, whatever n.
            like: gives dtype and device; float64 on the CPU when absent.

        Returns:
            Inputs, ``(n, d)`` for one generator, and labels, ``(*r, n)``.

        Raises:
            ValueError: if n < 1.
        """
        return Stream(self, generator, like=like).sample(n)


class Stream:
    """Successive samples (x, y) of a target; reading it twice gives the same ones.

    Args:
        target: what is sampled.
        generator: one for all runs, which then share their inputs, or one for each entry of the first runs axis. Each
            is advanced by two draws, now.
        like: gives dtype and device; float64 on the CPU when absent.
        runs: number of runs axes; when absent, as many as the directions have, and at least one for several generators.

    Raises:
        ValueError: if there is no generator, or another number of them than teachers in the first runs axis.
    """

    def __init__(
        self,
        target: Target,
        generator: Generator | Sequence[Generator],
        *,
        like: Tensor | None = None,
        runs: int | None = None,
    ) -> None:
        shared = isinstance(generator, torch.Generator)
        sources = [generator] if isinstance(generator, torch.Generator) else list(generator)
        teachers = target.directions.shape[:-2]
        axes = max(len(teachers), 0 if shared else 1) if runs is None else runs
        if not sources:
            raise ValueError("expected a generator for each run, received none")
        if not shared and len(teachers) == axes and teachers[0] not in (1, len(sources)):
            raise ValueError(
                f"expected {teachers[0]} generators, one for each run, received {len(sources)}; pass a single one for "
                "runs that share their inputs"
            )
        self.target = target
        self.like = _EXACT if like is None else like
        self.leading: tuple[int, ...] = () if shared else (len(sources), *(1,) * (axes - 1))
        self._device = sources[0].device
        self._seeds = [tuple(child.initial_seed() for child in random.split(source, 2)) for source in sources]

    def pieces(
        self, n: int, *, chunk: int, start: int = 0, cuts: Sequence[int] = ()
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples start, …, start + n - 1.

        Args:
            n: how many.
            chunk: at most so many at a time.
            start: how many to leave out before.
            cuts: a piece also ends after so many samples of this reading, in increasing order.

        Yields:
            x, ``(b, d)`` or ``(r, 1, …, b, d)``, and y, ``(*r, b)``.
        """
        blocks = self._blocks()
        for _ in range(start // _BLOCK):
            next(blocks)
        held = [next(blocks)]
        skip, done = start % _BLOCK, 0
        while done < n:
            wanted = min([n - done, chunk, *(cut - done for cut in cuts if cut > done)])
            while sum(block[0].shape[-2] for block in held) < skip + wanted:
                held.append(next(blocks))
            x, extra = (torch.cat(parts, dim=-2) for parts in zip(*held, strict=True))
            x, rest = x[..., skip : skip + wanted, :], x[..., skip + wanted :, :]
            extra, other = extra[..., skip : skip + wanted, :], extra[..., skip + wanted :, :]
            inputs = self.target.covariance.colour(x)
            yield inputs, self.target.labels(inputs, extra)
            held, skip, done = [(rest, other)], 0, done + wanted

    def sample(self, n: int, *, start: int = 0) -> tuple[Float[Tensor, "*s n d"], Float[Tensor, "*r n"]]:
        """Samples start, …, start + n - 1 in memory.

        Args:
            n: how many, at least one.
            start: how many to leave out before.

        Raises:
            ValueError: if n < 1 or start < 0.
        """
        if n < 1 or start < 0:
            raise ValueError(f"expected n >= 1 samples and start >= 0, received {n} and {start}")
        return next(self.pieces(n, chunk=n, start=start))

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """White inputs and extras of every source, a block after the other."""
        sources = [tuple(random.generator(seed, self._device) for seed in pair) for pair in self._seeds]
        widths = (self.target.covariance.dim, 1 + self.target.link.dim)
        exact = torch.zeros((), dtype=torch.float64, device=self._device)
        while True:
            x, extra = (
                torch.stack(
                    [random.normal((_BLOCK, width), generator=pair[i], like=exact).to(self.like) for pair in sources]
                ).reshape(*self.leading, _BLOCK, width)
                for i, width in enumerate(widths)
            )
            yield x, extra
