r"""Permutations of points that keep tables of numbers: a backtracking search along a chain of stabilisers.

Given tables T_c (n × n), an automorphism is a permutation σ with T_c[σi, σj] = T_c[i, j] for all i, j, c; measured
tables are compared up to a tolerance, and then a test of one's own decides about each permutation that is left. The
search fixes base points one after the other, from the last to the first, and looks for one permutation for each point
that the base point might go to and that the permutations found so far do not reach (Sims 1970; McKay 1981). So it
never lists the group: n points cost at most n²/2 searches, and the permutations found are a strong generating set.

Choosing an image for one point narrows what the others may go to (forward checking); the point with the fewest
possible images comes next, and images whose whole profile is alike come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Search", "Tables", "automorphisms"]

Accept = Callable[[tuple[int, ...]], bool]


@dataclass(frozen=True, eq=False)
class Tables:
    """Numbers on pairs of points, and how far equal ones may differ.

    Args:
        values: the tables, ``(c, n, n)``; what belongs to single points stands on the diagonal.
        tolerance: largest accepted difference in each table, ``(c,)``.
    """

    values: np.ndarray
    tolerance: np.ndarray
    _alike: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.values.shape[-1]

    def alike(self, i: int, j: int) -> np.ndarray:
        """Which k may go to which l when i goes to j, ``(n, n)`` truth values."""
        if (i, j) not in self._alike:
            slack = self.tolerance[:, None, None]
            rows = np.abs(self.values[:, i, :, None] - self.values[:, j, None, :]) <= slack
            columns = np.abs(self.values[:, :, i, None] - self.values[:, None, :, j]) <= slack
            self._alike[i, j] = (rows & columns).all(axis=0)
        return self._alike[i, j]

    def domains(self) -> tuple[np.ndarray, np.ndarray]:
        """Which i may go to which j, and how much their profiles differ, both ``(n, n)``.

        Sorting changes no largest difference for the worse, so sorted rows and columns of i and of its image are alike.
        """
        here = np.abs(self._diagonal[:, :, None] - self._diagonal[:, None, :])
        possible = (here <= self.tolerance[:, None, None]).all(axis=0)
        scale = np.maximum(np.abs(self.values).max(axis=(1, 2)), 1e-300)
        cost = (here / scale[:, None, None]).sum(axis=0)
        for table in (self.values, self.values.swapaxes(1, 2)):
            ordered = np.sort(table, axis=-1)
            apart = np.abs(ordered[:, :, None, :] - ordered[:, None, :, :])
            possible &= (apart.max(axis=-1) <= self.tolerance[:, None, None]).all(axis=0)
            cost += (apart.mean(axis=-1) / scale[:, None, None]).sum(axis=0)
        return possible, cost

    @property
    def _diagonal(self) -> np.ndarray:
        return self.values.diagonal(axis1=1, axis2=2)


@dataclass(frozen=True)
class Search:
    """What a search has found.

    Attributes:
        generators: permutations as image vectors, a strong generating set relative to the base.
        order: number of elements of the group that they generate.
        complete: whether every search ended by itself; otherwise there may be more.
        tested: permutations that were put to the test.
    """

    generators: tuple[tuple[int, ...], ...]
    order: int
    complete: bool
    tested: int


def automorphisms(
    tables: Tables,
    *,
    base: Sequence[int] | None = None,
    fixed: Sequence[int] = (),
    accept: Accept | None = None,
    budget: int = 64,
) -> Search:
    """The group of all permutations that keep the tables and pass a test.

    Args:
        tables: what must be kept.
        base: points that tell the elements apart, in the order in which they are fixed; all when absent. The images of
            the others are found with them, or left open.
        fixed: points that every permutation leaves in place.
        accept: the test of one permutation; none when absent.
        budget: how many permutations may fail the test before one search gives up.

    Returns:
        Generators, the order, and whether the search was complete.

    Example:
        >>> ring = np.roll(np.eye(5), 1, axis=0)
        >>> automorphisms(Tables(ring[None], np.zeros(1))).order  # turns
        5
        >>> automorphisms(Tables((ring + ring.T)[None], np.zeros(1))).order  # and reflections
        10

    References:
        Sims 1970, Computational methods in the study of permutation groups.
        McKay 1981, Practical graph isomorphism.
    """
    points = [i for i in (range(len(tables)) if base is None else base) if i not in set(fixed)]
    start, cost = tables.domains()
    found: list[tuple[int, ...]] = []
    order, complete, tested = 1, True, 0
    for level in range(len(points) - 1, -1, -1):
        root = _fix(tables, start, [*fixed, *points[:level]])
        if root is None:
            raise ValueError("expected tables that agree with themselves, received NaN; check where they come from")
        point = points[level]
        orbit, failed = _orbit(point, found), set()
        for image in sorted(np.flatnonzero(root[point]).tolist(), key=lambda j: cost[point, j]):
            if image in orbit or image in failed:
                continue
            here = _assign(tables, root.copy(), [(point, image)])
            left, success = budget, None
            for candidate in _leaves(tables, here, cost, points) if here is not None else ():
                tested += 1
                if accept is None or accept(candidate):
                    success = candidate
                    break
                left -= 1
                if left == 0:
                    complete = False
                    break
            if success is None:
                failed |= _orbit(image, found)
            else:
                found.append(success)
                orbit = _orbit(point, found)
        order *= len(orbit)
    return Search(tuple(found), order, complete, tested)


def _fix(tables: Tables, domains: np.ndarray, points: Sequence[int]) -> np.ndarray | None:
    return _assign(tables, domains.copy(), [(i, i) for i in points])


def _assign(tables: Tables, domains: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray | None:
    """Domains after these choices and all that follow from them; None when a point is left without an image."""
    done = np.zeros(len(domains), dtype=bool)
    while pairs:
        i, j = pairs.pop()
        if done[i]:
            continue
        if not domains[i, j]:
            return None
        done[i] = True
        domains[:, j] = False
        domains[i] = False
        domains[i, j] = True
        domains &= tables.alike(i, j)
        counts = domains.sum(axis=1)
        if not counts.all():
            return None
        singles = np.flatnonzero((counts == 1) & ~done)
        pairs += [(int(k), int(domains[k].argmax())) for k in singles]
    return domains


def _leaves(tables: Tables, domains: np.ndarray, cost: np.ndarray, points: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All permutations of the base points inside the domains, those whose points are most alike first."""
    counts = domains[points].sum(axis=1)
    if (counts == 1).all():
        yield tuple(domains.argmax(axis=1).tolist())
        return
    i = points[int(np.where(counts > 1, counts, len(domains) + 1).argmin())]
    for j in sorted(np.flatnonzero(domains[i]).tolist(), key=lambda j: cost[i, j]):
        narrowed = _assign(tables, domains.copy(), [(i, j)])
        if narrowed is not None:
            yield from _leaves(tables, narrowed, cost, points)


def _orbit(point: int, generators: Sequence[tuple[int, ...]]) -> set[int]:
    orbit, waiting = {point}, [point]
    for here in waiting:
        for g in generators:
            if g[here] not in orbit:
                orbit.add(g[here])
                waiting.append(g[here])
    return orbit
