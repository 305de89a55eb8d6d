"""Frank-Wolfe steps on doubly stochastic matrices, where every tensor meets at most two of them.

With matrices P_s in place of permutations the inner product of two models is

    f(P) = Σ_s ⟨P_s, L_s⟩ + Σ_blocks ⟨a, P_s b P_rᵀ⟩,

linear in each matrix and bilinear in pairs. Along a segment to a corner S it is a parabola. Gradients are kept: the
part of a block for s is G = a (b P_rᵀ)ᵀ, and after a step t towards the corner it is

    G ← (1 − t) G + t a (b S_rᵀ)ᵀ,

one product of a with b in another order for each side of a block. The same product gives the parabola, so that a step
costs two products for every block, and one assignment for every space, which starts from the duals of the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from symfield.typing import Tensor
from symfield.weightspace.assignment import Assignment, assign
from symfield.weightspace.factors import Permutation
from symfield.weightspace.matching import Problem, Work
from symfield.weightspace.matching_permutations import Descent, _Block, _rows, free_permutations
from symfield.weightspace.symmetry import Element

__all__ = ["Relaxation", "bilinear"]


def bilinear(problem: Problem) -> bool:
    """Whether all permutations are free and every tensor meets at most two, and none twice.

    Args:
        problem: two models.

    Returns:
        Whether :class:`Relaxation` takes it.
    """
    every = [factor for factor in problem.symmetry.factors if isinstance(factor, Permutation)]
    if len(every) != len(free_permutations(problem)):
        return False
    met = [[name for name in block.names if name] for block in _blocks(Descent(problem, {}, signs=False))]
    return all(len(names) <= 2 and len(names) == len(set(names)) for names in met)


@dataclass
class _Pair:
    """A block that two spaces move, with the gradients that it gives to both."""

    block: _Block
    axes: tuple[int, int]
    gradients: list[Tensor]

    def names(self) -> tuple[str, str]:
        return self.block.names[self.axes[0]], self.block.names[self.axes[1]]


class Relaxation:
    """A point of the polytope, with its gradients.

    Attributes:
        matrices: doubly stochastic matrices by name of the permutation.
        value: of the inner product, but for tensors that nothing moves.
        work: what was done so far.
    """

    def __init__(self, problem: Problem, element: Mapping[str, Tensor], *, spread: float) -> None:
        """The point (1 − spread) P + spread · 1/n.

        Args:
            problem: for which :func:`bilinear` holds.
            element: P, and the elements of all other factors, which stay.
            spread: share of the barycentre.
        """
        descent = Descent(problem, element, signs=False)
        sizes = {name: space.factor.size for name, space in descent._spaces.items()}
        start = {name: space.index for name, space in descent._spaces.items()}
        self.work = Work()
        self._constant: dict[str, Tensor] = {}
        self._pairs: list[_Pair] = []
        like = next(value for value in problem.a.values() if value.is_floating_point())
        self._constant = {name: like.new_zeros(n, n) for name, n in sizes.items()}
        for block in _blocks(descent):
            axes = [axis for axis, name in enumerate(block.names) if name]
            if len(axes) == 1:
                rows, columns = _rows(block.a, axes[0]), _rows(block.b, axes[0])
                self._constant[block.names[axes[0]]].addmm_(rows, columns.mT)
            else:
                one, two = axes
                gradients = [
                    _even(block, i, j)
                    .mul_(spread)
                    .add_(_contracted(block, i, j, start[block.names[j]]), alpha=1 - spread)
                    for i, j in ((one, two), (two, one))
                ]
                self._pairs.append(_Pair(block, (one, two), gradients))
        self.matrices = {name: like.new_full((n, n), spread / n) for name, n in sizes.items()}
        for name, matrix in self.matrices.items():
            _add_permutation(matrix, start[name], 1 - spread)
        self._duals: dict[str, Assignment] = {}
        self.value = sum(float((self.matrices[name] * part).sum()) for name, part in self._constant.items()) + sum(
            float((self.matrices[pair.names()[0]] * pair.gradients[0]).sum()) for pair in self._pairs
        )

    def step(self) -> float:
        """Move towards the corner that the gradient prefers, as far as is best.

        Returns:
            By how much the value rose.
        """
        gradients = {name: part.clone() for name, part in self._constant.items()}
        for pair in self._pairs:
            for name, gradient in zip(pair.names(), pair.gradients, strict=True):
                gradients[name] += gradient
        corner = {name: self._preferred(name, gradient) for name, gradient in gradients.items()}
        slope = sum(_towards(corner[name], self.matrices[name], gradient) for name, gradient in gradients.items())
        there = []
        bend = 0.0
        for pair in self._pairs:
            (i, j), (one, two) = pair.axes, pair.names()
            there.append([_contracted(pair.block, i, j, corner[two]), _contracted(pair.block, j, i, corner[one])])
            bend += _towards(corner[one], self.matrices[one], there[-1][0] - pair.gradients[0])
        t = float(slope + bend > 0) if bend >= 0 else min(max(-slope / (2 * bend), 0.0), 1.0)
        for name, matrix in self.matrices.items():
            _add_permutation(matrix.mul_(1 - t), corner[name], t)
        for pair, found in zip(self._pairs, there, strict=True):
            for gradient, other in zip(pair.gradients, found, strict=True):
                gradient.mul_(1 - t).add_(other, alpha=t)
        gain = t * slope + t * t * bend
        self.value += gain
        self.work = self.work.plus(Work(sweeps=1))
        return gain

    def rounded(self) -> Element:
        """The permutations nearest to the point."""
        return {name: assign(matrix, maximize=True).columns for name, matrix in self.matrices.items()}

    def _preferred(self, name: str, gradient: Tensor) -> Tensor:
        found = self._duals[name] = assign(gradient, maximize=True, warm=self._duals.get(name))
        gap = found.gap / max(abs(found.value), 1e-300)
        self.work = self.work.plus(Work(assignments=1, gap=gap, solvers=(found.solver,)))
        return found.columns.to(gradient.device)


def _blocks(descent: Descent) -> list[_Block]:
    return list({id(block): block for space in descent._spaces.values() for block, _ in space.blocks}.values())


def _contracted(block: _Block, axis: int, other: int, index: Tensor) -> Tensor:
    """Gradient for one axis of a block where the other is permuted."""
    return _rows(block.a, axis) @ _rows(block.b.index_select(other, index), axis).mT


def _even(block: _Block, axis: int, other: int) -> Tensor:
    """Gradient for one axis of a block where the other has the matrix of equal entries."""
    rows, columns = (_rows(side.sum(other, keepdim=True), axis) for side in (block.a, block.b))
    return rows @ columns.mT / block.a.shape[other]


def _add_permutation(matrix: Tensor, index: Tensor, amount: float) -> None:
    matrix.scatter_add_(1, index.unsqueeze(1), matrix.new_full((len(index), 1), amount))


def _towards(corner: Tensor, matrix: Tensor, gradient: Tensor) -> float:
    """⟨S − P, G⟩."""
    return float(gradient.gather(1, corner.unsqueeze(1)).sum() - (matrix * gradient).sum())
