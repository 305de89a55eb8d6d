"""Relaxations: permutations as doubly stochastic matrices, followed by gradients.

:class:`FrankWolfe` climbs the inner product ⟨a, P b⟩ over the product of Birkhoff polytopes. Its linear subproblem is
an assignment for every space; along a segment the objective is a polynomial, as each tensor meets a few spaces, so
the best step is computed exactly. All spaces move together, where coordinate descent moves one.

:class:`Sinkhorn` follows the gradient of *any* loss, such as the training loss at the midpoint of the two models, with
respect to logits whose Sinkhorn normalisation is the matrix; or, straight through, with the assignment in the forward
pass and the Sinkhorn matrix in the backward pass. Latent *weights* in place of logits, as in Git Re-Basin, are
:class:`~symfield.weightspace.StraightThrough`.

References:
    Crisostomi et al. 2024, C²M³, Algorithm 1, arXiv 2405.17897. Peña et al. 2023, Re-basin via implicit Sinkhorn
    differentiation, arXiv 2212.12042.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from symfield import trees
from symfield.typing import Float, Params, Tensor
from symfield.weightspace.assignment import assign
from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import pieces
from symfield.weightspace.matching import Method, Problem, Solution, Work
from symfield.weightspace.matching_polytope import Relaxation, bilinear
from symfield.weightspace.matching_weights import WeightMatching
from symfield.weightspace.symmetry import Element

__all__ = ["FrankWolfe", "Sinkhorn", "sinkhorn"]


def sinkhorn(logits: Float[Tensor, "..."], *, iterations: int = 20) -> Float[Tensor, "..."]:
    """The doubly stochastic matrix diag(r) exp(logits) diag(c), by normalising rows and columns in turn.

    Args:
        logits: shape ``(*batch, n, n)``.
        iterations: pairs of normalisations; columns last.

    Returns:
        Matrices of the same shape, differentiable; columns sum to 1, rows nearly so.

    Example:
        >>> sinkhorn(torch.tensor([[2.0, 0.0], [0.0, 2.0]])).sum(-1).round(decimals=5)
        tensor([1., 1.])
    """
    for _ in range(iterations):
        logits = logits - logits.logsumexp(-1, keepdim=True)
        logits = logits - logits.logsumexp(-2, keepdim=True)
    return logits.exp()


@dataclass(frozen=True)
class FrankWolfe:
    """Frank-Wolfe on doubly stochastic matrices, then rounding, then weight matching from there.

    The first point lies near the barycentre: what the start knows decides the first corner, and little else. Where
    every tensor meets at most two permutations, the steps are those of
    :class:`~symfield.weightspace.matching_polytope.Relaxation`; elsewhere they differentiate the whole objective.

    Attributes:
        start: method that gives the first element; None takes one sweep of :class:`WeightMatching`.
        spread: share of the barycentre, the matrix of equal entries, in the first point; it forgets most of the start.
        iterations: steps at most.
        tolerance: relative improvement below which it stops.
        polish: the descent from the rounded point.
    """

    start: Method | None = None
    spread: float = 0.97
    iterations: int = 50
    tolerance: float = 1e-5
    polish: WeightMatching = field(default_factory=WeightMatching)

    def __call__(self, problem: Problem) -> Solution:
        """Run it.

        Args:
            problem: two models.

        Returns:
            The polished end, or the start where that is better; the history is that of the polish, in squared
            distances.
        """
        first = (self.start or replace(self.polish, sweeps=1))(problem)
        whole = problem.symmetry.compose(first.element, {})
        run = self._kept if bilinear(problem) else self._whole
        rounded, work = run(problem, whole)
        reached = Solution({**whole, **rounded})
        end = replace(self.polish, start=lambda _: reached, restarts=0)(problem)
        given = problem.fit(whole).squared_distance
        best = end if end.history[-1] <= given else Solution(whole, (given,))
        return best._replace(work=first.work.plus(work).plus(end.work))

    def _kept(self, problem: Problem, whole: Element) -> tuple[Element, Work]:
        """Steps with kept gradients."""
        point = Relaxation(problem, whole, spread=self.spread)
        for _ in range(self.iterations):
            if point.step() <= self.tolerance * abs(point.value):
                break
        return point.rounded(), point.work

    def _whole(self, problem: Problem, whole: Element) -> tuple[Element, Work]:
        """Steps by the gradient of the whole objective."""
        names = [f.name for f in problem.symmetry.factors if isinstance(f, Permutation)]
        others = {name: g for name, g in whole.items() if name not in names}
        point = {}
        for name in names:
            one_hot = torch.nn.functional.one_hot(whole[name], whole[name].shape[-1]).to(_like(problem))
            point[name] = (1 - self.spread) * one_hot + self.spread / one_hot.shape[-1]
        work = Work()
        value = _inner(problem, {**others, **point})
        for _ in range(self.iterations):
            corner, found = _corner(problem, others, point)
            work = work.plus(found)
            direction = {name: corner[name] - point[name] for name in names}
            step, reached = _line(problem, others, point, direction, value)
            point = {name: point[name] + step * direction[name] for name in names}
            if reached - value <= self.tolerance * abs(value):
                break
            value = reached
        return {name: _round(point[name]) for name in names}, work


@dataclass(frozen=True)
class Sinkhorn:
    """Gradient descent on the logits of soft permutations, for a loss of the user's choice.

    Attributes:
        loss: a function of parameters on the segment between the first model and the moved second one, such as the
            training loss of a batch; called with dicts of tensors. None takes the squared distance of the models.
        steps: optimiser steps.
        learning_rate: of Adam, on the logits.
        temperature: logits are divided by it.
        iterations: of Sinkhorn.
        positions: points of the segment whose losses are added; 0 is the first model, 1 the moved second one.
        straight_through: forward with the assignment, backward through the Sinkhorn matrix.
        start: method that gives the first element; weight matching by default.
        confidence: logit of the start's entries at temperature 1.
    """

    loss: Callable[[Params], Tensor] | None = None
    steps: int = 100
    learning_rate: float = 0.1
    temperature: float = 1.0
    iterations: int = 20
    positions: tuple[float, ...] = (0.5,)
    straight_through: bool = False
    start: Method | None = None
    confidence: float = 4.0

    def __call__(self, problem: Problem) -> Solution:
        """Run it.

        Args:
            problem: two models.

        Returns:
            Of all assignments met, the start included, the one with the least loss; the history holds the loss of the
            best assignment so far.
        """
        first = (self.start or WeightMatching())(problem)
        whole = problem.symmetry.compose(first.element, {})
        names = [f.name for f in problem.symmetry.factors if isinstance(f, Permutation)]
        best, history = whole, [float(self._value(problem, whole))]
        logits = {
            name: self.confidence * torch.nn.functional.one_hot(whole[name], whole[name].shape[-1]).to(_like(problem))
            for name in names
        }
        leaves = {name: value.requires_grad_() for name, value in logits.items()}
        optimizer = torch.optim.Adam(list(leaves.values()), lr=self.learning_rate)
        work = first.work
        known: Element = {}
        for _ in range(self.steps):
            with torch.enable_grad():
                soft = {name: sinkhorn(x / self.temperature, iterations=self.iterations) for name, x in leaves.items()}
                hard = {name: _round(matrix.detach()) for name, matrix in soft.items()}
                if self.straight_through:
                    soft = {
                        name: matrix + (torch.nn.functional.one_hot(hard[name], matrix.shape[-1]) - matrix).detach()
                        for name, matrix in soft.items()
                    }
                optimizer.zero_grad()
                self._value(problem, {**whole, **soft}).backward()
            optimizer.step()
            work = work.plus(Work(updates=1, assignments=len(names)))
            if not known or any(not torch.equal(known[name], hard[name]) for name in names):
                known = hard
                value = float(self._value(problem, {**whole, **hard}))
                if value < history[-1]:
                    best = {**whole, **hard}
            history.append(min(value, history[-1]))
        return Solution(best, tuple(history), work)

    def _value(self, problem: Problem, element: Element) -> Tensor:
        moved = problem.symmetry.apply(problem.b, element)
        if self.loss is None:
            terms = [w * (problem.a[n] - moved[n]).square().sum() for n, w in problem.weights.items() if w]
            return torch.stack(terms).sum()
        floating = [name for name, value in problem.a.items() if value.is_floating_point()]
        fixed = {name: value for name, value in problem.a.items() if name not in floating}
        a, b = ({name: side[name] for name in floating} for side in (problem.a, moved))
        aliases = problem.symmetry.aliases
        total = []
        for position in self.positions:
            point = {**trees.lerp(a, b, position), **fixed}
            total.append(self.loss({**point, **{name: point[home] for name, home in aliases.items() if home in point}}))
        return torch.stack(total).mean()


def _like(problem: Problem) -> Tensor:
    """A tensor with the precision and the device of the models."""
    return next(value for value in problem.a.values() if value.is_floating_point())


def _inner(problem: Problem, element: Element) -> float:
    return float(_inner_tensor(problem, element))


def _inner_tensor(problem: Problem, element: Element) -> Tensor:
    moved = problem.symmetry.apply(problem.b, element)
    return torch.stack([w * (problem.a[name] * moved[name]).sum() for name, w in problem.weights.items() if w]).sum()


def _corner(problem: Problem, others: Element, point: Element) -> tuple[Element, Work]:
    """The permutations that the gradient prefers, as matrices."""
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in point.items()}
        value = _inner_tensor(problem, {**others, **leaves})
        gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    corner, work = {}, Work()
    for (name, matrix), gradient in zip(point.items(), gradients, strict=True):
        index = _round(torch.zeros_like(matrix) if gradient is None else gradient)
        corner[name] = torch.nn.functional.one_hot(index, matrix.shape[-1]).to(matrix)
        work = work.plus(Work(assignments=index[..., 0].numel()))
    return corner, work.plus(Work(sweeps=1))


def _line(problem: Problem, others: Element, point: Element, direction: Element, value: float) -> tuple[float, float]:
    """The best step in [0, 1]: the objective is a polynomial in it, of the number of spaces that a tensor meets."""
    meets = [
        sum(move.factor in point for axis in axes for piece, _, _ in pieces(axis) for move in piece.moves)
        for axes in problem.symmetry.layouts.values()
    ]
    degree = max([1, *meets])
    nodes = np.linspace(0, 1, degree + 1)
    values = [value]
    values += [
        _inner(problem, {**others, **{name: point[name] + t * direction[name] for name in point}}) for t in nodes[1:]
    ]
    polynomial = np.polynomial.Polynomial.fit(nodes, values, degree)
    roots = np.asarray(polynomial.deriv().roots(), dtype=np.complex128)
    inside = [float(r) for r in roots[np.abs(roots.imag) < 1e-9].real if 0 < r < 1]
    best = max([*inside, 0.0, 1.0], key=lambda t: float(polynomial(t)))
    return best, float(polynomial(best))


def _round(matrix: Tensor) -> Tensor:
    """The best permutation for every matrix of a batch."""
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return torch.stack([assign(one, maximize=True).columns for one in flat]).reshape(matrix.shape[:-1])
