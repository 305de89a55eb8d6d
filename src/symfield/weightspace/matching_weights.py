"""Weight matching: coordinate descent over the factors of a symmetry, from the parameters alone.

Each factor in turn is set to what is best for it, all others held: an assignment for permutations, closed forms or
descent steps for the others (:mod:`symfield.weightspace.procrustes`). Permutations of plain spaces go through cached
score matrices (:mod:`symfield.weightspace.matching_permutations`). A permutation of blocks with factors of their own,
such as attention heads with their query-key and value-output gauges, is scored by what these factors cannot change:

- general linear: inner products of the products b₊ᵀ b₋ (QK and OV), over the square root of their norms;
- orthogonal: the nuclear norm Σ σ(a_i b_jᵀ), the best inner product over all rotations;
- permutation: the value of the inner assignment;

and is accepted with its inner factors together. No update makes the objective worse.

References:
    Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin, Algorithm 1, arXiv 2209.04836 (permutations of plain spaces).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield.typing import Generator, Tensor
from symfield.weightspace.assignment import assign
from symfield.weightspace.factors import (
    Conformal,
    Factor,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScale,
    Sign,
    _Matrix,
)
from symfield.weightspace.layout import pieces
from symfield.weightspace.matching import Method, Pair, Problem, Solution, Work
from symfield.weightspace.matching_permutations import Descent, free_permutations, joint_signs
from symfield.weightspace.matching_scales import balancing_scales, best_scales
from symfield.weightspace.procrustes import (
    CONDITION,
    best_conformal,
    best_general,
    best_orthogonal,
    best_scale,
    best_sign,
)
from symfield.weightspace.symmetry import Element

__all__ = ["WeightMatching", "identity"]

_SHIFTS = (0.0, 1.0, 4.0)


def identity(problem: Problem) -> Solution:
    """The start that moves nothing.

    Args:
        problem: two models.

    Returns:
        The identity.

    Example:
        >>> WeightMatching(start=identity).start is identity
        True
    """
    return Solution({})


@dataclass(frozen=True)
class WeightMatching:
    """Coordinate descent on the squared distance of the parameters.

    Attributes:
        start: method that gives the first element; None solves the spaces one after the other, from the fixed axes on.
        kinds: classes of factors to move; all by default.
        sweeps: passes over the factors at most.
        restarts: further starts from random permutations, of which the best is kept.
        generator: draws the restarts and the order of the spaces; without it the order is that of the symmetry.
        incremental: update score matrices by what changed. Otherwise everything is computed anew, as in the algorithm
            of 2022, whose trajectory it then follows update by update.
        tolerance: relative improvement of a pass below which it stops, where there are more than plain permutations.
    """

    start: Method | None = None
    kinds: tuple[type[Factor], ...] = (Factor,)
    sweeps: int = 100
    restarts: int = 0
    generator: Generator | None = None
    incremental: bool = True
    tolerance: float = 1e-5

    def __call__(self, problem: Problem) -> Solution:
        """Run it.

        Args:
            problem: two models.

        Returns:
            The best solution over all starts, with the work of all.

        Raises:
            ValueError: if restarts are asked for without a generator.
        """
        if self.restarts and self.generator is None:
            raise ValueError("expected a generator for the restarts; pass generator=torch.Generator().manual_seed(0)")
        best = self._descend(problem, self.start(problem) if self.start else None)
        work = best.work
        for _ in range(self.restarts):
            assert self.generator is not None
            draw = {
                factor.name: factor.random_element(generator=self.generator)
                for factor in problem.symmetry.factors
                if isinstance(factor, Permutation) and issubclass(type(factor), self.kinds)
            }
            other = self._descend(problem, Solution(draw))
            work = work.plus(other.work)
            if other.history[-1] < best.history[-1]:
                best = other
        return best._replace(work=work)

    def _descend(self, problem: Problem, start: Solution | None) -> Solution:
        parts = self._parts(problem)
        element: Element = dict(start.element) if start else {}
        work = start.work if start else Work()
        distance = problem.fit(element).squared_distance
        history = [distance]
        nothing = 1e-13 * sum(w * float(problem.a[name].double().square().sum()) for name, w in problem.weights.items())
        descent: Descent | None = None
        if start is None:
            trial, descent = _chained(problem, parts)
            reached = problem.fit(trial).squared_distance
            if reached < distance:
                element, distance = trial, reached
                history.append(distance)
            else:
                descent = None
        for _ in range(self.sweeps):
            before = distance
            if parts.plain:
                descent = descent or Descent(problem, element, signs=parts.signed)
                descent.run(sweeps=self.sweeps, generator=self.generator, incremental=self.incremental)
                element.update(descent.element)
                work = work.plus(descent.work)
                history += [distance - 2 * total for total in itertools.accumulate(descent.gains)]
                if not parts.scales and not parts.rest:
                    break
                distance = problem.fit(element).squared_distance
                descent = None
            for factor in parts.rest:
                element, saved, done = update(problem, element, factor, parts.factors)
                work = work.plus(done)
                if saved > 0:
                    distance -= saved
                    history.append(distance)
            if parts.scales:
                trial = problem.symmetry.compose(best_scales(problem.moved(element), parts.scales), element)
                reached = problem.fit(trial).squared_distance
                if reached < distance:
                    element, distance = trial, reached
                    history.append(distance)
                    work = work.plus(Work(updates=len(parts.scales)))
            if before - distance <= self.tolerance * abs(before) or distance <= nothing:
                break
        return Solution(element, tuple(history), work)

    def _parts(self, problem: Problem) -> _Parts:
        factors = [factor for factor in problem.symmetry.factors if isinstance(factor, self.kinds)]
        plain = free_permutations(problem) if issubclass(Permutation, self.kinds) else ()
        joint = list(joint_signs(problem).values()) if plain and issubclass(Sign, self.kinds) else []
        scales = [f for f in factors if isinstance(f, PositiveScale) and not f.base]
        rest = _order([f for f in factors if f not in (*plain, *scales, *joint)])
        return _Parts(bool(plain), bool(joint), scales, rest, factors)


class _Parts(NamedTuple):
    """How the factors are updated: permutations with signs by score matrices, scales together, the rest in turn."""

    plain: bool
    signed: bool
    scales: list[PositiveScale]
    rest: list[Factor]
    factors: list[Factor]


def _chained(problem: Problem, parts: _Parts) -> tuple[Element, Descent | None]:
    """From the fixed axes on, each factor by the tensors that only it and those before it move.

    Where there are scales, permutations are found between the balanced models. Returned is also the descent that may go
    on from there.
    """
    element = _settled(problem, {}, parts, [f for f in parts.rest if not f.base], set())
    if not parts.plain:
        return element, None
    if not parts.scales and not parts.rest:
        descent = Descent(problem, element, signs=parts.signed)
        descent.chain()
        return {**element, **descent.element}, descent
    ours, theirs = (balancing_scales(problem, side, parts.scales) for side in (problem.a, problem.moved(element).b))
    theirs = problem.symmetry.compose(theirs, element)
    balanced = Problem(problem.symmetry.apply(problem.a, ours), problem.b, problem.symmetry, problem.weights)
    descent = Descent(balanced, theirs, signs=parts.signed)
    descent.chain()
    element = problem.symmetry.compose(problem.symmetry.invert(ours), {**theirs, **descent.element})
    later = [*(f for f in parts.rest if isinstance(f, Sign) and not f.base), *parts.scales]
    return _settled(problem, element, parts, later, {f.name for f in free_permutations(problem)}), None


def _settled(problem: Problem, element: Element, parts: _Parts, factors: Sequence[Factor], done: set[str]) -> Element:
    """Set factors one after the other, each by the tensors that only it and those done before move.

    Where matrices move the other tensors of a scale, balancing says nothing of it; then norms are made equal, which
    does not shrink as a regression would.
    """
    scales = {f.name for f in parts.scales}
    matrices = {f.name for f in problem.symmetry.factors if isinstance(f, _Matrix)}
    for factor in factors:
        done = done | {factor.name}
        touched = problem.touched({factor.name})
        known = done | scales if isinstance(factor, Sign) else done
        alone = {tensor for tensor in touched if _movers(problem, tensor) <= known}
        mixed = any(_movers(problem, tensor) & matrices for tensor in touched)
        if not alone or (factor.name in scales and not mixed):
            continue
        pairs = problem.restricted(alone).moved(element).pairs(factor.name)
        if not pairs:
            continue
        if factor.name in scales:
            first = [pair for pair in pairs if pair.slot.move.power == 1]
            one, two = (sum(getattr(pair, side).double().square().sum(-1) for pair in first) for side in ("a", "b"))
            if not isinstance(one, Tensor) or not isinstance(two, Tensor):
                continue
            candidate = torch.where((one > 0) & (two > 0), one / two, 1.0).sqrt()
        else:
            candidate = _best(factor, pairs)[0]
        element = _composed(problem, {factor.name: candidate}, element)
    return element


def _composed(problem: Problem, g: Element, element: Element) -> Element:
    """First the element, then g; a general matrix that would end badly conditioned stays as it is.

    Each step is well conditioned, their product over many sweeps need not be: independent models come closer and closer
    as a matrix becomes singular, until the moved weights compute another function in their precision.
    """
    moved = problem.symmetry.compose(g, element)
    for name in g:
        if isinstance(factor := problem.symmetry[name], GeneralLinear):
            old = element[name] if name in element else factor.identity().to(moved[name])
            kept = torch.linalg.cond(moved[name]) < CONDITION
            moved[name] = torch.where(kept[..., None, None], moved[name], old)
    return moved


def _movers(problem: Problem, tensor: str) -> set[str]:
    found = (piece for axis in problem.symmetry.layouts[tensor] for piece, _, _ in pieces(axis))
    return {move.factor for piece in found for move in piece.moves}


def _order(factors: Sequence[Factor]) -> list[Factor]:
    """Outer spaces before inner ones, orthogonal frames first, then signs."""
    return sorted(
        factors, key=lambda f: (len(f.base), not isinstance(f, Orthogonal), not isinstance(f, Sign), -f.stage)
    )


def update(
    problem: Problem, element: Element, factor: Factor, allowed: Sequence[Factor]
) -> tuple[Element, float, Work]:
    """Set one factor, with those that live over its space, to what is best for it.

    Args:
        problem: two models.
        element: where the factors stand.
        factor: to be updated.
        allowed: factors that may be updated with it.

    Returns:
        The new element, by how much the squared distance fell (0 if the old element stays), and the work.
    """
    inner = (
        [f for f in allowed if factor.space in f.base] if isinstance(factor, Permutation) and not factor.base else []
    )
    group = {factor.name, *(f.name for f in inner)}
    local = problem.restricted(problem.touched(group))
    low = local.fit(element).squared_distance
    noise = 1e-12 * (low + 1e-300)
    work = Work()
    here = local.moved(element)
    if inner:
        scores = _block_scores(here, factor, inner)
        found = assign(scores, maximize=True)
        work = work.plus(Work(assignments=1, gap=found.gap / max(abs(found.value), 1e-300), solvers=(found.solver,)))
        trials = [found.columns]
    else:
        trials = _best(factor, here.pairs(factor.name))
        work = work.plus(Work(assignments=len(trials) if isinstance(factor, Permutation) else 0))
    for trial in trials:
        moved = _composed(problem, {factor.name: trial}, element)
        value = local.fit(moved).squared_distance
        for other in _order(inner):
            for candidate in _best(other, local.moved(moved).pairs(other.name))[:1]:
                further = _composed(problem, {other.name: candidate}, moved)
                reached = local.fit(further).squared_distance
                if reached < value:
                    moved, value = further, reached
        if value < low - noise:
            return moved, low - value, work.plus(Work(updates=1))
    return element, 0.0, work


def _best(factor: Factor, pairs: Sequence[Pair]) -> list[Tensor]:
    """Candidates for the factor's element, the most daring first; the later ones matter where slots are coupled."""
    if not pairs:
        return []
    if isinstance(factor, PositiveScale):
        best = best_scale(pairs)
        return [best, best.sqrt()]
    if isinstance(factor, Sign):
        return [best_sign(pairs)]
    if isinstance(factor, Conformal):
        return [best_conformal(pairs)]
    if isinstance(factor, GeneralLinear):
        return [best_general(pairs)]
    shifts = _SHIFTS if any(pair.coupled for pair in pairs) else _SHIFTS[:1]
    if isinstance(factor, Orthogonal):
        return [best_orthogonal(pairs, inertia=shift) for shift in shifts]
    if isinstance(factor, Permutation):
        scores = torch.stack([pair.a.double() @ pair.b.double().mT for pair in pairs]).sum(0)
        eye = torch.eye(factor.size, dtype=scores.dtype, device=scores.device)
        size = scores.abs().amax((-1, -2), keepdim=True)
        return [_assigned(scores + shift * size * eye)[0] for shift in shifts]
    raise NotImplementedError(f"no update for {type(factor).__name__}; add one to weightspace/matching_weights.py")


def _assigned(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Best permutation and its value for every matrix of a batch."""
    flat = [assign(matrix, maximize=True) for matrix in scores.reshape(-1, *scores.shape[-2:])]
    index = torch.stack([found.columns for found in flat]).reshape(scores.shape[:-1])
    return index, scores.new_tensor([found.value for found in flat]).reshape(scores.shape[:-2])


def _block_scores(problem: Problem, factor: Factor, inner: Sequence[Factor]) -> Tensor:
    """How well block i of the first model can fit block j of the second, whatever the elements of the inner factors."""
    covered: set[tuple[str, int, int]] = set()
    total = torch.zeros(factor.size, factor.size, dtype=torch.float64)
    for other in sorted(inner, key=lambda f: (f.stage, len(f.base))):
        pairs = []
        for pair in problem.pairs(other.name):
            place = (pair.slot.tensor, pair.slot.axis, pair.slot.offset)
            if place not in covered:
                pairs.append(pair)
        if not pairs:
            continue
        covered |= {(pair.slot.tensor, pair.slot.axis, pair.slot.offset) for pair in pairs}
        front = other.base.index(factor.space)
        sides: Mapping[int, list[tuple[Tensor, Tensor]]] = {1: [], -1: []}
        for pair in pairs:
            a, b = (side.double().movedim(front, 0) for side in (pair.a, pair.b))
            sides[pair.slot.move.power if isinstance(other, _Matrix) else 1].append((a, b))
        total += _invariant(other, sides)
    for pair in problem.pairs(factor.name):
        if (pair.slot.tensor, pair.slot.axis, pair.slot.offset) not in covered:
            total += pair.a.double() @ pair.b.double().mT
    return total


def _invariant(factor: Factor, sides: Mapping[int, list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Scores of blocks (h, *rest, n, m) that do not depend on the inner factor."""
    if isinstance(factor, GeneralLinear | Conformal) and sides[1] and sides[-1]:
        one, two = (_cross(sides[p], 0, 1) for p in (1, -1))
        across = (one * two).sum((-1, -2))  # ⟨a₊ᵀa₋, b₊ᵀb₋⟩ for every pair of blocks
        norms = []
        for k in (0, 1):
            plus, minus = (sum(pair[k] @ pair[k].mT for pair in sides[p]) for p in (1, -1))
            assert isinstance(plus, Tensor)
            norms.append((plus * minus).sum((-1, -2)).clamp(min=0).sqrt())
        scale = (norms[0].unsqueeze(1) * norms[1].unsqueeze(0)).sqrt()
        scores = across / scale.clamp(min=1e-30)
    else:
        cross = _cross([*sides[1], *sides[-1]], 0, 1)
        if isinstance(factor, _Matrix):
            scores = torch.linalg.svdvals(cross).sum(-1)
        elif isinstance(factor, Permutation):
            scores = _assigned(cross)[1]
        elif isinstance(factor, Sign):
            scores = cross.diagonal(dim1=-2, dim2=-1).abs().sum(-1)
        else:
            scores = cross.diagonal(dim1=-2, dim2=-1).sum(-1)
    return scores.reshape(*scores.shape[:2], -1).sum(-1)


def _cross(pairs: Sequence[tuple[Tensor, Tensor]], one: int, two: int) -> Tensor:
    """Σ a_i b_jᵀ for all blocks i and j, shape (h, h, *rest, n, n)."""
    products = [pair[one].unsqueeze(1) @ pair[two].unsqueeze(0).mT for pair in pairs]
    return torch.stack(products).sum(0)
