"""What alignment of transformers needs besides a symmetry: its permutations, a gauge, and a learned refinement.

**Permutations.** Inside every matrix factor, such as GL of the channels of a head or O of the stream, lie the
permutations of the same units: a smaller symmetry, for comparison.

**Gauge.** GL acts on queries and keys by q → g q, k → g^{-T} k and leaves qᵀ k. Nothing tells how far from the identity
g may be, and a mean of two models in unlike gauges is the mean of neither. The *balanced* gauge has the least squared
norm ‖g q‖² + ‖g^{-T} k‖², where both Gram matrices agree: g qqᵀ gᵀ = g^{-T} kkᵀ g^{-1}. It is unique up to orthogonal
matrices: S = gᵀg is the geometric mean of (qqᵀ)^{-1} and kkᵀ. The same holds for values and outputs, and, unit by unit,
for positive scales.

**Refinement.** Let g move the second model and let L be the loss of the first model and the moved one mixed by λ. With
g = exp(X) g₀ for the continuous factors, the expected loss over λ ~ U(0.4, 0.6) and over batches is followed downhill
in X; permutations stay as they are. A start of :func:`symfield.weightspace.align` comes first.

References:
    Theus et al. 2025, arXiv 2506.22712v2, learned matching (there by straight-through projections; here on the Lie
    algebra). The balanced gauge: derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from symfield.typing import Generator, Params, Tensor
from symfield.weightspace import (
    Concat,
    Element,
    Factor,
    GeneralLinear,
    Method,
    Move,
    Orthogonal,
    ParameterSymmetry,
    Permutation,
    Piece,
    PositiveScale,
    Problem,
    Product,
    Solution,
    WeightMatching,
    Work,
)

__all__ = ["Refinement", "balanced", "permutations"]


def permutations(symmetry: ParameterSymmetry) -> ParameterSymmetry:
    """The permutations inside a symmetry: those that it has, and those of the units that its matrices mix.

    Args:
        symmetry: of a model.

    Returns:
        A subgroup without certificate; :func:`symfield.weightspace.certify` gives one.
    """
    chosen: dict[str, Factor] = {f.space: f for f in symmetry.factors if isinstance(f, Permutation)}
    for factor in symmetry.factors:
        if isinstance(factor, GeneralLinear | Orthogonal) and factor.space not in chosen:
            name = f"permutation:{factor.space}"
            chosen[factor.space] = Permutation(name, factor.space, factor.size, factor.base, factor.base_shape)

    def reduced(layout: Any) -> Any:
        if isinstance(layout, Piece):
            moves = (Move(chosen[layout.space].name),) if layout.space in chosen else ()
            return replace(layout, moves=moves)
        parts = tuple(reduced(part) for part in layout.parts)
        return Product(parts) if isinstance(layout, Product) else Concat(parts)

    layouts = {name: tuple(reduced(layout) for layout in axes) for name, axes in symmetry.layouts.items()}
    order = {f.space: f for f in symmetry.factors if f.space in chosen}
    return replace(symmetry, factors=tuple(chosen[space] for space in order), layouts=layouts)


def balanced(params: Params, symmetry: ParameterSymmetry) -> Params:
    """The same function in the gauge of least norm, as far as general linear factors and positive scales reach.

    Args:
        params: of a model.
        symmetry: of it.

    Returns:
        New parameters.
    """
    for factor in symmetry.factors:
        if isinstance(factor, GeneralLinear | PositiveScale):
            sides: dict[int, list[Tensor]] = {1: [], -1: []}
            for face in symmetry.unfold(params, factor.name):
                sides[face.slot.move.power].append(face.values.double())
            plus, minus = (torch.cat(sides[power], -1) if sides[power] else None for power in (1, -1))
            if plus is None or minus is None:
                continue
            if isinstance(factor, PositiveScale):
                element = (minus.norm(dim=-1) / plus.norm(dim=-1).clamp(min=1e-30)).clamp(1e-6, 1e6).sqrt()
            else:
                element = _balance(plus @ plus.mT, minus @ minus.mT)
            params = symmetry.apply(params, {factor.name: element})
    return params


def _balance(plus: Tensor, minus: Tensor) -> Tensor:
    """Symmetric g with g P g = g^{-1} M g^{-1}: the root of the geometric mean of P^{-1} and M, both regularised."""
    eye = torch.eye(plus.shape[-1], dtype=plus.dtype, device=plus.device)
    plus, minus = (m + 1e-9 * m.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * eye for m in (plus, minus))
    root = _power(plus, 0.5)
    inverse = _power(plus, -0.5)
    return _power(inverse @ _power(root @ minus @ root, 0.5) @ inverse, 0.5)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * values.clamp(min=1e-30).pow(exponent).unsqueeze(-2)) @ vectors.mT


@dataclass(frozen=True)
class Refinement:
    """Gradient descent of the loss between two models over the continuous factors of their symmetry.

    Attributes:
        loss: of parameters, on a batch that the generator draws; differentiable.
        generator: draws the batches and λ.
        steps: of Adam.
        learning_rate: of Adam, on the Lie algebra.
        span: λ is uniform between these two.
        start: method that gives the first element.
    """

    loss: Callable[[Params, Generator], Tensor]
    generator: Generator
    steps: int = 100
    learning_rate: float = 0.02
    span: tuple[float, float] = (0.4, 0.6)
    start: Method | None = None

    def __call__(self, problem: Problem) -> Solution:
        """Run it.

        Args:
            problem: two models.

        Returns:
            The refined element; the history holds the losses between the models, each on its own batch and λ.
        """
        first = (self.start or WeightMatching())(problem)
        symmetry = problem.symmetry
        here = symmetry.apply(problem.b, first.element)
        like = next(iter(problem.a.values()))
        leaves: dict[str, Tensor] = {}
        for factor in symmetry.factors:
            if isinstance(factor, GeneralLinear | Orthogonal | PositiveScale):
                leaves[factor.name] = torch.zeros_like(factor.identity()).to(like).requires_grad_()
        if not leaves:
            return first
        optimizer = torch.optim.Adam(leaves.values(), lr=self.learning_rate, betas=(0.9, 0.95))
        history = []
        low, high = self.span
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.learning_rate * (1 - step / self.steps)
            draw = float(torch.rand((), generator=self.generator))
            with torch.enable_grad():
                moved = symmetry.apply(here, self._element(symmetry, leaves))
                mixed = {name: torch.lerp(a, moved[name], low + (high - low) * draw) for name, a in problem.a.items()}
                value = self.loss(mixed, self.generator)
                optimizer.zero_grad()
                value.backward()
            optimizer.step()
            history.append(float(value))
        last = {name: value.detach().double() for name, value in leaves.items()}
        element = symmetry.compose(self._element(symmetry, last), first.element)
        return Solution(element, tuple(history), first.work.plus(Work(updates=self.steps)))

    @staticmethod
    def _element(symmetry: ParameterSymmetry, leaves: dict[str, Tensor]) -> Element:
        element = {}
        for name, x in leaves.items():
            if isinstance(symmetry[name], Orthogonal):
                element[name] = torch.linalg.matrix_exp(x - x.mT)
            elif isinstance(symmetry[name], GeneralLinear):
                element[name] = torch.linalg.matrix_exp(x)
            else:
                element[name] = x.exp()
        return element
