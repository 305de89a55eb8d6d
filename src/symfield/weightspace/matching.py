"""What it means to bring one model close to another, and what a method to do so is given and gives.

With parameters a and b and a symmetry G, sought is an element g that makes the squared distance

    D(g) = Σ_t w_t ‖a_t − (g b)_t‖²

small, the sum over tensors with weights w_t. For factors that keep norms (permutations, signs, orthogonal matrices) it
is the same to make the inner product Σ_t w_t ⟨a_t, (g b)_t⟩ large. The problem is NP-hard as soon as two layers meet,
so a *method* is a function from a :class:`Problem` to a :class:`Solution`, and one method may give another its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from symfield.typing import Params, Tensor
from symfield.weightspace.layout import pieces
from symfield.weightspace.symmetry import Element, ParameterSymmetry, Slot

__all__ = ["Fit", "Method", "Pair", "Problem", "Solution", "Work", "fit"]


class Fit(NamedTuple):
    """How close two sets of parameters are, over the tensors that are compared.

    Attributes:
        squared_distance: Σ w ‖a − b‖².
        inner: Σ w ⟨a, b⟩.
        cosine: the inner product over the product of the norms; 0 where one of them is 0.
    """

    squared_distance: float
    inner: float
    cosine: float


class Work(NamedTuple):
    """What a method did.

    Attributes:
        sweeps: passes over the factors.
        updates: updates of a factor that were accepted.
        skipped: updates left out since nothing that they depend on had changed.
        assignments: assignment problems solved.
        gap: largest duality gap among them, relative to the value.
        solvers: names of the solvers used.
    """

    sweeps: int = 0
    updates: int = 0
    skipped: int = 0
    assignments: int = 0
    gap: float = 0.0
    solvers: tuple[str, ...] = ()

    def plus(self, other: Work) -> Work:
        """The work of two stages together.

        Args:
            other: work of the second stage.

        Returns:
            Sums, the larger gap, and the names of both.
        """
        return Work(
            self.sweeps + other.sweeps,
            self.updates + other.updates,
            self.skipped + other.skipped,
            self.assignments + other.assignments,
            max(self.gap, other.gap),
            tuple(sorted({*self.solvers, *other.solvers})),
        )


class Solution(NamedTuple):
    """What a method returns.

    Attributes:
        element: the element found.
        history: objective of the method after each of its updates; squared distances unless the method says otherwise.
        work: statistics.
    """

    element: Element
    history: tuple[float, ...] = ()
    work: Work = Work()


class Pair(NamedTuple):
    """Entries that a factor moves through one slot, in both models.

    Attributes:
        slot: the place.
        a: entries of the first model, shape ``(*base, n, m)``.
        b: entries of the second, moved by the current element; same shape.
        gain: diagonal of A where the factor acts by A g A^{-1}, else None.
        coupled: whether the factor moves the tensor through another slot too.
    """

    slot: Slot
    a: Tensor
    b: Tensor
    gain: Tensor | None
    coupled: bool


@dataclass(frozen=True)
class Problem:
    """Two sets of parameters, their symmetry, and which tensors count.

    Attributes:
        a: parameters that stay.
        b: parameters that are moved.
        symmetry: of the architecture.
        weights: weight of each tensor in the objective, tied tensors once; others do not count.
    """

    a: Params = field(repr=False)
    b: Params = field(repr=False)
    symmetry: ParameterSymmetry
    weights: Mapping[str, float] = field(repr=False)

    def fit(self, element: Mapping[str, Tensor]) -> Fit:
        """How close the first model and the moved second one are.

        Args:
            element: of the symmetry.

        Returns:
            The :class:`Fit`, summed in float64.
        """
        return fit(self.a, self.symmetry.apply(self.b, element) if element else self.b, self.weights)

    def moved(self, element: Mapping[str, Tensor]) -> Problem:
        """The problem that is left once the second model is moved.

        Args:
            element: of the symmetry.

        Returns:
            A problem whose solutions are to be composed with the element.
        """
        return Problem(self.a, self.symmetry.apply(self.b, element), self.symmetry, self.weights)

    def touched(self, names: Collection[str]) -> frozenset[str]:
        """Tensors that some factors move.

        Args:
            names: of the factors.

        Returns:
            Their names.
        """
        return frozenset(
            tensor
            for tensor, axes in self.symmetry.layouts.items()
            if any(move.factor in names for axis in axes for piece, _, _ in pieces(axis) for move in piece.moves)
        )

    def restricted(self, tensors: Collection[str]) -> Problem:
        """The problem as seen from some tensors, and those whose gains they need.

        Args:
            tensors: names of those that count.

        Returns:
            A smaller problem with the same factors.
        """
        whole = self.symmetry
        gains = {
            name
            for tensor in tensors
            for axis in whole.layouts[tensor]
            for piece, _, _ in pieces(axis)
            for move in piece.moves
            for name, _ in move.gains
        }
        names = [name for name in whole.layouts if (name in tensors or name in gains) and name in self.a]
        small = ParameterSymmetry(
            whole.factors, {name: whole.layouts[name] for name in names}, {name: whole.shapes[name] for name in names}
        )
        a, b = ({name: side[name] for name in names} for side in (self.a, self.b))
        return Problem(a, b, small, {name: self.weights.get(name, 0.0) for name in names if name in tensors})

    def pairs(self, name: str) -> tuple[Pair, ...]:
        """The entries that a factor moves, side by side, times the square roots of their weights.

        Args:
            name: of the factor.

        Returns:
            One pair for every slot whose tensor counts.
        """
        sides = zip(self.symmetry.unfold(self.a, name), self.symmetry.unfold(self.b, name), strict=True)
        found = [(one.slot, one.values, two.values) for one, two in sides if self.weights.get(one.slot.tensor, 0) > 0]
        tensors = [slot.tensor for slot, _, _ in found]
        pairs = []
        for slot, one, two in found:
            root = math.sqrt(self.weights[slot.tensor])
            scaled = (one, two) if root == 1 else (root * one, root * two)
            gain = self.symmetry._gain(slot.move, self.b, two)
            pairs.append(Pair(slot, *scaled, gain, tensors.count(slot.tensor) > 1))
        return tuple(pairs)


Method: TypeAlias = Callable[[Problem], Solution]
"""A way to solve a :class:`Problem`; also what gives another method its start."""


def fit(a: Mapping[str, Tensor], b: Mapping[str, Tensor], weights: Mapping[str, float]) -> Fit:
    """How close two sets of parameters are.

    Args:
        a: tensors by name.
        b: tensors by name, same shapes.
        weights: weight of each tensor; names that are missing in ``a`` do not count.

    Returns:
        The :class:`Fit`, summed in float64.

    Example:
        >>> import torch
        >>> fit({"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])}, {"w": 1.0})
        Fit(squared_distance=25.0, inner=0.0, cosine=0.0)
    """
    distance = inner = one = two = 0.0
    for name, weight in weights.items():
        if weight == 0 or name not in a:
            continue
        x, y = a[name], b[name].to(a[name])
        distance += weight * _total((x - y).square_())
        inner += weight * _total(x * y)
        one += weight * _total(x.square())
        two += weight * _total(y.square())
    norm = math.sqrt(one * two)
    return Fit(distance, inner, inner / norm if norm > 0 else 0.0)


def _total(values: Tensor) -> float:
    """Sum, the last axis in the tensor's own precision (pairwise), the others in float64."""
    return float(values.sum(-1).double().sum()) if values.ndim else float(values)
