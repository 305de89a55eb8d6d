r"""Permutations and signs of the rows and columns of noisy matrices that leave them as they are.

Given matrices C_1, …, C_s (o × d) with known noise, find the pairs of signed permutations (τ, π) with

    C_{ij} = s_i t_j C_{τ(i) π(j)}   for all i, j, up to noise.

They form a group; generators of it come from a search down a chain of stabilisers, as for the automorphisms of a graph:
from the last row or column to the first, each other place it could go to is tried while all before it stay, unless
the generators found so far already take it there. A trial assigns one row, one column, one row, … and keeps an
assignment only while every entry, and the sum over entries, agrees within noise, so wrong trials end early.

References:
    McKay & Piperno 2014, *Practical graph isomorphism, II*, arXiv 1301.1493v1 (search with a stabiliser chain).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["SignedPair", "hidden_permutations"]

_ENTRY = 5.0  # largest deviation of an entry, in standard deviations of a difference
_SUM = 4.0  # allowed excess of a sum of m squares, each of which may occur twice: m + _SUM·√(4m) + _SUM²
_NODES = 4000  # assignments in one trial


@dataclass(frozen=True)
class SignedPair:
    """Signed permutations of rows and columns: C_{ij} = s_i t_j C_{τ(i) π(j)}.

    Attributes:
        rows: τ, int64 ``(o,)``.
        row_signs: s, ``(o,)``.
        columns: π, int64 ``(d,)``.
        column_signs: t, ``(d,)``.
    """

    rows: np.ndarray
    row_signs: np.ndarray
    columns: np.ndarray
    column_signs: np.ndarray

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the entries of a matrix, row by row, go, and with which sign."""
        index = self.rows[:, None] * len(self.columns) + self.columns
        return index.reshape(-1), (self.row_signs[:, None] * self.column_signs).reshape(-1)


def hidden_permutations(
    values: np.ndarray,
    noise: np.ndarray,
    *,
    signed_rows: bool = False,
    signed_columns: bool = True,
    accept: Callable[[SignedPair], bool] = lambda _: True,
) -> list[SignedPair]:
    """Generators of the signed permutations of rows and columns that leave noisy matrices as they are.

    Args:
        values: C, shape ``(s, o, d)``.
        noise: standard deviations of the entries, same shape.
        signed_rows: whether rows may change sign.
        signed_columns: whether columns may change sign.
        accept: a last word on each pair that fits.

    Returns:
        Generators, none if only the identity fits.

    Example:
        >>> circulant = np.array([[0.0, 1.0, 3.0], [3.0, 0.0, 1.0], [1.0, 3.0, 0.0]])
        >>> [pair.rows.tolist() for pair in hidden_permutations(circulant[None], np.full((1, 3, 3), 0.01))]
        [[1, 2, 0]]
    """
    search = _Search(values, noise, signed_rows, signed_columns)
    return search.generators(accept)


class _Search:
    """State of one search: the matrices, the order of rows and columns, and the generators found."""

    def __init__(self, values: np.ndarray, noise: np.ndarray, signed_rows: bool, signed_columns: bool) -> None:
        self.values, self.variance = values, noise**2
        _, self.o, self.d = values.shape
        pairs = [[(0, i)] * (i < self.o) + [(1, i)] * (i < self.d) for i in range(max(self.o, self.d))]
        self.order = [place for pair in pairs for place in pair]
        self.signs = (
            np.array([1.0, -1.0] if signed_rows else [1.0]),
            np.array([1.0, -1.0] if signed_columns else [1.0]),
        )
        self.sizes = (self.o, self.d)
        self.offset = (0, self.o)

    def generators(self, accept: Callable[[SignedPair], bool]) -> list[SignedPair]:
        found: list[SignedPair] = []
        for level in range(len(self.order) - 1, -1, -1):
            axis, index = self.order[level]
            reached = self._orbit(found, axis, index)
            for image in range(self.sizes[axis]):
                for sign in self.signs[axis]:
                    if (image, sign) in reached or self._is_fixed_before(level, axis, image):
                        continue
                    pair = self._extend(level, image, sign)
                    if pair is not None and accept(pair):
                        found.append(pair)
                        reached = self._orbit(found, axis, index)
        return found

    def _is_fixed_before(self, level: int, axis: int, image: int) -> bool:
        return (axis, image) in self.order[:level]

    def _orbit(self, pairs: list[SignedPair], axis: int, index: int) -> set[tuple[int, float]]:
        """Where known generators take a row or column, with its sign. All of them fix what comes before it."""
        reached, frontier = {(index, 1.0)}, [(index, 1.0)]
        while frontier:
            place, sign = frontier.pop()
            for pair in pairs:
                to, flips = (pair.rows, pair.row_signs) if axis == 0 else (pair.columns, pair.column_signs)
                image = (int(to[place]), float(sign * flips[place]))
                if image not in reached:
                    reached.add(image)
                    frontier.append(image)
        return reached

    def _extend(self, level: int, image: int, sign: float) -> SignedPair | None:
        """A pair that fixes all places before ``level`` and takes that one to the image, or None."""
        to = [np.full(size, -1) for size in self.sizes]
        flips = [np.ones(size) for size in self.sizes]
        used = [np.zeros(size, dtype=bool) for size in self.sizes]
        for axis, index in self.order[:level]:
            to[axis][index], used[axis][index] = index, True
        budget = [_NODES]

        def cost_of(axis: int, index: int) -> tuple[np.ndarray, np.ndarray, int]:
            """Sums and largest terms of squared deviations for all images and signs, ``(size, signs)``."""
            other = 1 - axis
            known = np.flatnonzero(to[other] >= 0)
            values, variance = (
                (self.values, self.variance)
                if axis == 0
                else (self.values.swapaxes(1, 2), self.variance.swapaxes(1, 2))
            )
            here, here_variance = values[:, index, known], variance[:, index, known]
            there = values[:, :, to[other][known]] * flips[other][known]
            there_variance = variance[:, :, to[other][known]]
            difference = here[:, None, None, :] - self.signs[axis][:, None] * there[:, :, None, :]
            spread = here_variance[:, None, :] + there_variance
            spread[:, index, to[other][known] == known] *= 2  # an entry and its own negative share their noise
            terms = difference**2 / spread[:, :, None, :]
            return terms.sum((0, 3)), terms.max((0, 3), initial=0.0), terms.shape[0] * terms.shape[3]

        def place(position: int, total: float, count: int) -> bool:
            if position == len(self.order):
                return True
            budget[0] -= 1
            if budget[0] < 0:
                return False
            axis, index = self.order[position]
            sums, largest, terms = cost_of(axis, index)
            new_count = count + terms
            bound = new_count + _SUM * math.sqrt(4 * new_count) + _SUM**2
            allowed = (largest <= _ENTRY**2) & (total + sums <= bound) & ~used[axis][:, None]
            if position == level:
                only = np.zeros_like(allowed)
                only[image, int(np.flatnonzero(self.signs[axis] == sign)[0])] = True
                allowed &= only
            candidates = np.argwhere(allowed)
            for candidate, flip in candidates[np.argsort(sums[allowed], kind="stable")]:
                to[axis][index], flips[axis][index] = candidate, self.signs[axis][flip]
                used[axis][candidate] = True
                if place(position + 1, total + sums[candidate, flip], new_count):
                    return True
                to[axis][index], flips[axis][index] = -1, 1.0
                used[axis][candidate] = False
            return False

        return SignedPair(to[0], flips[0], to[1], flips[1]) if place(level, 0.0, 0) else None
