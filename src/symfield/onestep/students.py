r"""Two-layer students f(x) = (1/p) Σ_j a_j σ(⟨w_j, x⟩ + b_j) at their random start.

Rows w_j are uniform on the unit sphere and a_j = ±1. With *paired* signs neurons come in twins (w, a) and (w, -a), so
that f is exactly zero: then the square loss and the correlation loss have the same first gradient. Leading axes are
runs. Other scalings live in a: a = ±√p gives f = p^{-1/2} Σ ±σ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from symfield import random
from symfield.typing import Float, Generator, Map, Tensor
from symfield.units import Activation, relu

__all__ = ["Students", "random_students"]


@dataclass(frozen=True, eq=False, repr=False)
class Students:
    """Two-layer networks, one for each run.

    Attributes:
        weights: first-layer rows w_j, ``(*r, p, d)``.
        outputs: second-layer weights a_j, ``(*r, p)``.
        biases: b_j, ``(*r, p)``.
        activation: σ.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> students = random_students(8, 3, generator=random.generator(0))
        >>> x = torch.ones(5, 3, dtype=torch.float64)
        >>> students, students.features(x).shape, float(students(x).abs().max())
        (Students(8 relu neurons on R^3), torch.Size([5, 8]), 0.0)
    """

    weights: Tensor
    outputs: Tensor
    biases: Tensor
    activation: Activation = relu

    def __post_init__(self) -> None:
        w, a, b = self.weights, self.outputs, self.biases
        if w.ndim < 2 or a.shape[-1:] != w.shape[-2:-1] or b.shape[-1:] != w.shape[-2:-1]:
            raise ValueError(
                "expected weights (*r, p, d), outputs (*r, p) and biases (*r, p), received "
                f"{tuple(w.shape)}, {tuple(a.shape)} and {tuple(b.shape)}"
            )
        object.__setattr__(self, "activation", Activation.of(self.activation))

    def __repr__(self) -> str:
        runs = self.runs
        return f"Students({self.count} {self.activation} neurons on R^{self.dim}{f', runs {runs}' if runs else ''})"

    @property
    def runs(self) -> tuple[int, ...]:
        """Shape *r of the runs."""
        return tuple(self.weights.shape[:-2])

    @property
    def count(self) -> int:
        """Number of neurons p."""
        return self.weights.shape[-2]

    @property
    def dim(self) -> int:
        """Dimension d of the inputs."""
        return self.weights.shape[-1]

    def preactivations(self, x: Float[Tensor, "*#r b d"]) -> Float[Tensor, "*r b p"]:
        """⟨w_j, x⟩ + b_j.

        Args:
            x: inputs, ``(*r, b, d)`` or ``(b, d)`` for all runs.
        """
        return x @ self.weights.mT + self.biases.unsqueeze(-2)

    def features(self, x: Float[Tensor, "*#r b d"]) -> Float[Tensor, "*r b p"]:
        """σ(⟨w_j, x⟩ + b_j), what a readout is fitted on.

        Args:
            x: inputs, ``(*r, b, d)`` or ``(b, d)`` for all runs.
        """
        return self.activation(self.preactivations(x))

    def __call__(self, x: Float[Tensor, "*#r b d"]) -> Float[Tensor, "*r b"]:
        """f(x).

        Args:
            x: inputs, ``(*r, b, d)`` or ``(b, d)`` for all runs.
        """
        return (self.features(x) @ self.outputs.unsqueeze(-1)).squeeze(-1) / self.count

    def with_weights(self, weights: Float[Tensor, "..."]) -> Students:
        """The same students with another first layer.

        Args:
            weights: ``(*r, p, d)``.
        """
        return replace(self, weights=weights)

    def with_biases(self, low: float, high: float, *, generator: Generator) -> Students:
        """The same students with uniform biases, for readouts that need to tell thresholds apart.

        Args:
            low: lower end.
            high: upper end.
            generator: source of randomness.
        """
        shape = self.weights.shape[:-1]
        return replace(self, biases=random.uniform(shape, generator=generator, like=self.weights, low=low, high=high))


def random_students(
    p: int,
    dim: int,
    *,
    generator: Generator | Sequence[Generator],
    activation: Map = relu,
    paired: bool = True,
    like: Tensor | None = None,
) -> Students:
    """Students at their start: unit rows, signs, no biases.

    Args:
        p: number of neurons; even where they are paired.
        dim: d.
        generator: source of randomness; a sequence gives a runs axis, and each run depends on its own alone.
        activation: σ, an :class:`~symfield.units.Activation` or an elementwise function.
        paired: whether neurons j and j + p/2 are twins with opposite signs, so that f = 0; otherwise signs are
            independent.
        like: gives dtype and device; float64 on the CPU when absent. Numbers are drawn in float64 and rounded.

    Returns:
        Students with weights ``(p, d)``, or ``(r, p, d)`` for r generators.

    Raises:
        ValueError: if p is odd and neurons are to be paired, or sizes are not positive.

    Example:
        >>> random_students(4, 3, generator=[random.generator(0), random.generator(1)])
        Students(4 relu neurons on R^3, runs (2,))
    """
    if p < 1 or dim < 1 or (paired and p % 2):
        raise ValueError(
            f"expected p >= 1 neurons{' in pairs (p even)' if paired else ''} in dimension d >= 1, received p = {p}, "
            f"d = {dim}"
        )
    if not isinstance(generator, torch.Generator):
        if not generator:
            raise ValueError("expected a generator for each run, received none")
        each = [
            random_students(p, dim, generator=g, activation=activation, paired=paired, like=like) for g in generator
        ]
        weights = torch.stack([one.weights for one in each])
        outputs = torch.stack([one.outputs for one in each])
        return Students(weights, outputs, torch.zeros_like(outputs), each[0].activation)
    exact = torch.zeros((), dtype=torch.float64, device=generator.device)
    drawn = p // 2 if paired else p
    w = random.normal((drawn, dim), generator=generator, like=exact)
    w = w / w.norm(dim=-1, keepdim=True)
    signs = 2.0 * random.integers(0, 2, (drawn,), generator=generator, like=exact).to(exact) - 1
    if paired:
        w, signs = torch.cat([w, w]), torch.cat([signs, -signs])
    like = torch.zeros((), dtype=torch.float64) if like is None else like
    outputs = signs.to(like)
    return Students(w.to(like), outputs, torch.zeros_like(outputs), Activation.of(activation))
