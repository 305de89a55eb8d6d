"""Coordinate descent over permutations with cached score matrices.

For a space of n units the best permutation, all others held, is a linear assignment with scores

    S_ij = Σ_blocks ⟨a_i, b_j⟩,

the inner products of unit i of the first model with unit j of the second, whose other axes are permuted already. S is
kept. When k units of a neighbouring space change their place, S changes by a product of n × k and k × n entries, and a
space none of whose neighbours changed is not solved again: nothing is left to confirm when the last one is done.

Where an odd activation gives a space signs, permutation and signs are solved together, exactly: signs follow |S|.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from symfield.typing import Generator, Tensor
from symfield.weightspace.assignment import Assignment, assign
from symfield.weightspace.factors import Permutation, Sign
from symfield.weightspace.layout import Piece, map_blocks
from symfield.weightspace.matching import Problem, Work
from symfield.weightspace.symmetry import Element

__all__ = ["Descent", "free_permutations", "joint_signs"]


def free_permutations(problem: Problem) -> tuple[Permutation, ...]:
    """The permutations that neither live over other spaces nor carry factors of inner spaces.

    Args:
        problem: whose symmetry is asked.

    Returns:
        These factors, in order.
    """
    factors = problem.symmetry.factors
    bases = {space for factor in factors for space in factor.base}
    return tuple(f for f in factors if isinstance(f, Permutation) and not f.base and f.space not in bases)


def joint_signs(problem: Problem) -> dict[str, Sign]:
    """The signs that are solved together with the free permutation of their space: where a space has one such factor.

    Args:
        problem: whose symmetry is asked.

    Returns:
        Factors by name of the space.
    """
    spaces = {factor.space for factor in free_permutations(problem)}
    signs = [f for f in problem.symmetry.factors if isinstance(f, Sign) and not f.base and f.space in spaces]
    return {f.space: f for f in signs if sum(other.space == f.space for other in signs) == 1}


_CHUNK = 1024  # units whose change is added at once; bounds the memory

_State: TypeAlias = tuple[Tensor, Tensor | None]
"""Permutation and signs of a space."""


@dataclass(frozen=True)
class _Block:
    """Part of a tensor whose axes are whole spaces; names[i] is the space that moves axis i, or empty."""

    a: Tensor
    b: Tensor
    names: tuple[str, ...]
    signed: tuple[bool, ...]


@dataclass
class _Space:
    """A space: its permutation and signs so far, its scores, and for which state of the others they hold."""

    factor: Permutation
    sign: Sign | None
    index: Tensor
    signs: Tensor | None
    blocks: list[tuple[_Block, int]] = field(default_factory=list)
    scores: Tensor | None = None  # of slots that signs move, or of all
    plain: Tensor | None = None  # of slots that signs do not move
    known: dict[str, _State] = field(default_factory=dict)
    included: set[int] = field(default_factory=set)  # positions of the blocks that the scores contain
    solved: bool = False
    duals: Assignment | None = None  # of the last solution, where they help the next one

    @property
    def state(self) -> _State:
        return self.index, self.signs


def _moved(b: Tensor, axis: int, index: Tensor, signs: Tensor | None, signed: bool) -> Tensor:
    b = b.index_select(axis, index)
    if signs is None or not signed:
        return b
    return b * signs[index].reshape(-1, *(1,) * (b.ndim - 1 - axis)).to(b)


class Descent:
    """Coordinate descent over the free permutations of a problem, and the signs of their spaces.

    Attributes:
        work: what was done so far.
        gains: by how much each accepted update raised the inner product.
    """

    def __init__(self, problem: Problem, element: Mapping[str, Tensor], *, signs: bool = True) -> None:
        """Cut the tensors into blocks.

        Args:
            problem: two models.
            element: the start.
            signs: whether signs move with the permutations.
        """
        self.work = Work()
        self.gains: list[float] = []
        self._incremental = True
        self._spaces = self._prepare(problem, element, signs)
        self._cut(problem, element)

    def _prepare(self, problem: Problem, element: Mapping[str, Tensor], signed: bool) -> dict[str, _Space]:
        signs = joint_signs(problem) if signed else {}
        spaces = {}
        for factor in free_permutations(problem):
            sign = signs.get(factor.space)
            index = element.get(factor.name, factor.identity())
            value = None if sign is None else element.get(sign.name, sign.identity())
            spaces[factor.name] = _Space(factor, sign, index, value)
        return spaces

    def _cut(self, problem: Problem, element: Mapping[str, Tensor]) -> None:
        own = {name for s in self._spaces.values() for name in (s.factor.name, s.sign.name if s.sign else "")}
        b = problem.symmetry.apply(problem.b, {name: g for name, g in element.items() if name not in own})
        signs = {name: s.sign.name if s.sign else "" for name, s in self._spaces.items()}
        for tensor, axes in problem.symmetry.layouts.items():
            weight = problem.weights.get(tensor, 0.0)
            if weight == 0 or tensor not in problem.a:
                continue
            halves: list[list[tuple[Tensor, tuple[tuple[Piece, int], ...]]]] = []
            for side in (problem.a[tensor], b[tensor]):
                parts: list[tuple[Tensor, tuple[tuple[Piece, int], ...]]] = []

                def visit(block: Tensor, found: tuple[tuple[Piece, int], ...], parts: list = parts) -> Tensor:
                    parts.append((block, found))
                    return block

                map_blocks(side, [(layout, i) for i, layout in enumerate(axes)], visit)
                halves.append(parts)
            for (one, found), (two, _) in zip(*halves, strict=True):
                names, signed = [], []
                for piece, _ in found:
                    moves = {move.factor for move in piece.moves}
                    name = next((name for name in moves if name in self._spaces), "")
                    names.append(name)
                    signed.append(bool(name) and signs[name] in moves)
                block = _Block(weight * one if weight != 1 else one, two, tuple(names), tuple(signed))
                for axis, name in enumerate(names):
                    if name:
                        self._spaces[name].blocks.append((block, axis))

    @property
    def element(self) -> Element:
        """Permutations and signs so far."""
        found: Element = {}
        for space in self._spaces.values():
            found[space.factor.name] = space.index
            if space.sign is not None and space.signs is not None:
                found[space.sign.name] = space.signs
        return found

    @property
    def anchored(self) -> tuple[str, ...]:
        """Names of the permutations, those nearest to what is fixed first; isolated from all fixed axes last."""
        order: list[str] = []
        reached = {
            name
            for name, space in self._spaces.items()
            if any(not any(other for i, other in enumerate(block.names) if i != axis) for block, axis in space.blocks)
            and any(block.a.numel() > len(space.index) for block, axis in space.blocks if not _others(block, axis))
        }
        while reached - set(order):
            order += [name for name in self._spaces if name in reached and name not in order]
            reached |= {
                other for name in order for block, axis in self._spaces[name].blocks for other in _others(block, axis)
            }
        return tuple(order + [name for name in self._spaces if name not in order])

    def chain(self) -> None:
        """Solve every space once, from the fixed axes on, by its blocks whose other spaces are solved already.

        A start that needs one product for every block where the identity needs two, and that, other than the identity,
        means something.
        """
        done: set[str] = set()
        for name in self.anchored:
            space = self._spaces[name]
            chosen = {k for k, (block, axis) in enumerate(space.blocks) if _others(block, axis) <= done}
            if chosen:
                self._compute(space, chosen)
                self._solve(space, keep=False)
            done.add(name)
        self.gains.clear()

    def run(self, *, sweeps: int, generator: Generator | None = None, incremental: bool = True) -> None:
        """Update spaces until none depends on anything that changed since it was solved.

        Args:
            sweeps: passes over the spaces at most.
            generator: draws the order of the spaces anew in each pass; by default their own order.
            incremental: update scores by what changed; otherwise every score matrix is computed anew.
        """
        self._incremental = incremental
        names = list(self._spaces)
        for _ in range(sweeps):
            if generator is not None:
                order = torch.randperm(len(names), generator=generator, device=generator.device).tolist()
            else:
                order = list(range(len(names)))
            stale = False
            for i in order:
                space = self._spaces[names[i]]
                if not self._stale(space):
                    self.work = self.work._replace(skipped=self.work.skipped + 1)
                    continue
                self._refresh(space)
                self._solve(space, keep=True)
                stale = True
            if stale:
                self.work = self.work._replace(sweeps=self.work.sweeps + 1)
            if not any(self._stale(space) for space in self._spaces.values()):
                return

    def _stale(self, space: _Space) -> bool:
        if not space.blocks:  # none of its tensors counts
            return False
        return not space.solved or any(
            not _same(known, self._spaces[name].state) for name, known in space.known.items()
        )

    def _refresh(self, space: _Space) -> None:
        """Bring the scores up to date, by what changed or anew, whichever is cheaper."""
        changed = {
            name: _places(known, self._spaces[name].state)
            for name, known in space.known.items()
            if not _same(known, self._spaces[name].state)
        }
        full = partial = 0.0
        single = True
        for k, (block, axis) in enumerate(space.blocks):
            moved = [name for i, name in enumerate(block.names) if i != axis and name in changed]
            full += block.a.numel()
            if k not in space.included:
                partial += block.a.numel()
            elif moved:
                partial += block.a.numel() * len(changed[moved[0]]) / self._spaces[moved[0]].factor.size
                single &= len(moved) == 1 and block.names.count(space.factor.name) == 1
        if not (space.included and self._incremental and single and partial < full):
            self._compute(space, set(range(len(space.blocks))))
            return
        for k in space.included:
            block, axis = space.blocks[k]
            for other, name in enumerate(block.names):
                if other != axis and name in changed:
                    self._shift(space, block, axis, other, changed[name])
        self._add(space, set(range(len(space.blocks))) - space.included)

    def _compute(self, space: _Space, chosen: set[int]) -> None:
        """Scores of some of the blocks, from nothing."""
        space.scores = space.plain = None
        space.included = set()
        self._add(space, chosen)

    def _add(self, space: _Space, chosen: set[int]) -> None:
        for k in sorted(chosen):
            block, axis = space.blocks[k]
            rows, columns = _rows(block.a, axis), _rows(self._seen(block, axis), axis)
            into = "scores" if space.sign is None or block.signed[axis] else "plain"
            total = getattr(space, into)
            setattr(space, into, rows @ columns.mT if total is None else total.addmm_(rows, columns.mT))
        space.included |= chosen
        names = {name for k in space.included for name in _others(*space.blocks[k])}
        space.known = {name: self._spaces[name].state for name in names}

    def _seen(self, block: _Block, *without: int) -> Tensor:
        """The second model's part of a block, moved along all axes but some."""
        b = block.b
        for axis, name in enumerate(block.names):
            if name and axis not in without:
                b = _moved(b, axis, *self._spaces[name].state, block.signed[axis])
        return b

    def _shift(self, space: _Space, block: _Block, axis: int, other: int, places: Tensor) -> None:
        """Add what a block's scores changed by, since units at some places of another axis were exchanged."""
        name = block.names[other]
        b = self._seen(block, axis, other)
        (index, signs), (now, now_signs) = space.known[name], self._spaces[name].state
        into = space.scores if space.sign is None or block.signed[axis] else space.plain
        assert into is not None
        for chosen in places.split(_CHUNK):
            new = _moved(b, other, now[chosen], now_signs, block.signed[other])
            old = _moved(b, other, index[chosen], signs, block.signed[other])
            a = block.a.index_select(other, chosen)
            into.addmm_(_rows(a, axis), _rows(new.sub_(old), axis).mT)

    def _solve(self, space: _Space, *, keep: bool) -> None:
        scores, plain = space.scores, space.plain
        matrix = torch.zeros(()) if scores is None else scores if space.sign is None else scores.abs()
        if plain is not None:
            matrix = matrix + plain
        found = assign(matrix, maximize=True, warm=space.duals if self._incremental else None)
        index = found.columns.to(space.index.device)
        space.duals = found if _is_flat(matrix, index) else None
        signs = space.signs
        if signs is not None and scores is not None:
            chosen = torch.where(scores[torch.arange(len(index)), index] < 0, -1.0, 1.0).to(signs)
            signs = torch.ones_like(signs).index_copy(0, index, chosen)
        self.work = self.work.plus(
            Work(assignments=1, gap=found.gap / max(abs(found.value), 1e-300), solvers=(found.solver,))
        )
        space.solved = keep
        before, after = space.state, (index, signs)
        if _same(before, after):
            return
        gain = self._value(space, after) - self._value(space, before)
        noise = 8 * torch.finfo(matrix.dtype).eps * abs(found.value)
        if keep and gain <= noise:  # a tie, or a block met twice, against which the assignment is blind
            return
        space.index, space.signs = after
        self.gains.append(gain)
        self.work = self.work.plus(Work(updates=1))

    def _value(self, space: _Space, state: _State) -> float:
        """The part of the inner product that a state of a space decides; blocks met twice are computed as they are."""
        name, before = space.factor.name, space.state
        twice = [(k, block) for k, (block, _) in enumerate(space.blocks) if block.names.count(name) > 1]
        if not twice:
            return _entries(space.scores, state, signed=True) + _entries(space.plain, state, signed=False)
        space.index, space.signs = state
        value = sum(
            float((block.a.double() * self._seen(block).double()).sum()) / block.names.count(name)
            for k, block in twice
            if k in space.included
        )
        space.index, space.signs = before
        rest = _Space(space.factor, space.sign, space.index, space.signs, space.blocks)
        self._compute(rest, space.included - {k for k, _ in twice})
        return value + _entries(rest.scores, state, signed=True) + _entries(rest.plain, state, signed=False)


def _is_flat(matrix: Tensor, index: Tensor) -> bool:
    """Whether most units are not assigned to what they like best, where old duals save half of the next solution.

    Where most are, the next solution is quick in any case, and old duals cost time.
    """
    return bool((matrix.argmax(1) == index).double().mean() < 0.5)


def _entries(scores: Tensor | None, state: _State, *, signed: bool) -> float:
    """Sum of the assigned scores, in float64."""
    if scores is None:
        return 0.0
    index, signs = state
    entries = scores[torch.arange(len(index)), index].double()
    return float((entries * signs[index] if signed and signs is not None else entries).sum())


def _others(block: _Block, axis: int) -> set[str]:
    return {name for i, name in enumerate(block.names) if i != axis and name}


def _rows(block: Tensor, axis: int) -> Tensor:
    return block.movedim(axis, 0).reshape(block.shape[axis], -1)


def _same(one: _State, two: _State) -> bool:
    return all(x is y or (x is not None and y is not None and torch.equal(x, y)) for x, y in zip(one, two, strict=True))


def _places(old: _State, new: _State) -> Tensor:
    """Where two states differ."""
    differ = old[0] != new[0]
    if old[1] is not None and new[1] is not None:
        differ = differ | (old[1][old[0]] != new[1][new[0]])
    return differ.nonzero()[:, 0]
