"""Starts from features that permutations of the other spaces cannot change.

Where no axis is fixed, coordinate descent from the identity is lost: every score matrix compares units through
neighbours that are in disorder. But the *sorted* entries of a unit's row do not depend on the order of the neighbours.
Units of both models are matched by the distance of these features; fixed axes are not sorted, as their order means
something.
"""

from __future__ import annotations

import math

import torch

from symfield.typing import Tensor
from symfield.weightspace.assignment import assign
from symfield.weightspace.factors import Permutation, Sign
from symfield.weightspace.layout import Piece, map_blocks
from symfield.weightspace.matching import Problem, Solution, Work
from symfield.weightspace.symmetry import Element, _base_dims

__all__ = ["sorted_entries"]


def sorted_entries(problem: Problem) -> Solution:
    """Permutations that match the sorted entries of units.

    Each axis that another permutation moves is sorted out: entries are averaged over it in order. Where signs move the
    entries too, their absolute values are compared.

    Args:
        problem: two models.

    Returns:
        Permutations of all spaces; other factors stay at the identity. The history is empty.

    Example:
        >>> from symfield.weightspace import align, from_axes
        >>> trunk = from_axes({"loop": ("h", "d"), "back": ("d", "h")}, {"loop": (5, 4), "back": (4, 5)})
        >>> a = {"loop": torch.arange(20.0).reshape(5, 4).sin(), "back": torch.arange(20.0).reshape(4, 5).cos()}
        >>> b = trunk.apply(a, {"h": torch.tensor([4, 2, 0, 3, 1]), "d": torch.tensor([1, 3, 0, 2])})
        >>> align(a, b, trunk, method=sorted_entries).after.squared_distance
        0.0
    """
    element: Element = {}
    work = Work()
    sides = [_features(problem, side) for side in (problem.a, problem.b)]
    for factor in problem.symmetry.factors:
        if not isinstance(factor, Permutation):
            continue
        one, two = (torch.cat(side[factor.name], -1).double() for side in sides)
        scores = one @ two.mT - (two.square().sum(-1, keepdim=True).mT) / 2
        found = [assign(matrix, maximize=True) for matrix in scores.reshape(-1, factor.size, factor.size)]
        element[factor.name] = torch.stack([one.columns for one in found]).reshape(factor.shape)
        work = work.plus(Work(assignments=len(found), gap=max(f.gap / max(abs(f.value), 1e-300) for f in found))).plus(
            Work(solvers=tuple({f.solver for f in found}))
        )
    return Solution(element, (), work)


def _features(problem: Problem, params: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """For every permutation the features ``(*base, n, m)`` of its units, from each block that it moves."""
    symmetry = problem.symmetry
    permutations = {f.name: f for f in symmetry.factors if isinstance(f, Permutation)}
    signs = {f.name for f in symmetry.factors if isinstance(f, Sign)}
    found: dict[str, list[Tensor]] = {name: [] for name in permutations}
    for tensor, axes in symmetry.layouts.items():
        weight = problem.weights.get(tensor, 0.0)
        if weight == 0 or tensor not in params:
            continue
        root = math.sqrt(weight)

        def visit(block: Tensor, parts: tuple[tuple[Piece, int], ...], root: float = root) -> Tensor:
            moved = [{move.factor for move in piece.moves} for piece, _ in parts]
            values = root * (block.abs() if any(names & signs for names in moved) else block)
            for dim, names in enumerate(moved):
                for name in names & permutations.keys():
                    base = _base_dims(permutations[name].base, parts, dim)
                    found[name].append(_sorted(values, [*base, dim], [i for i, n in enumerate(moved) if n]))
            return block

        map_blocks(params[tensor], [(layout, i) for i, layout in enumerate(axes)], visit)
    return {name: features or [torch.zeros(permutations[name].shape).unsqueeze(-1)] for name, features in found.items()}


def _sorted(block: Tensor, kept: list[int], moved: list[int]) -> Tensor:
    """Entries of each unit in order of size, along all moved axes together; fixed axes stay as they are."""
    loose = [i for i in moved if i not in kept]
    fixed = [i for i in range(block.ndim) if i not in kept and i not in loose]
    arranged = block.permute(*kept, *fixed, *loose)
    front = arranged.shape[: len(kept)]
    if not loose:
        return arranged.reshape(*front, -1)
    rows = arranged.reshape(*front, *arranged.shape[len(kept) : len(kept) + len(fixed)], -1)
    return rows.sort(-1).values.reshape(*front, -1)
