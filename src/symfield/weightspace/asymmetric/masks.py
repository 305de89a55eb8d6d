"""Which entries of a weight are fixed, and at what: pure functions of a seed and a name.

A weight is read as a matrix whose rows are the output units and whose columns are the entries that a unit reads,
channel by channel. A *mask law* chooses the columns that are fixed in every row. Units whose rows differ in this
choice cannot be exchanged without moving a fixed entry to where a trainable one was.

Numbers come from a counter-based generator whose key is the SHA-256 of seed, name and purpose; nothing depends on the
process, the device or torch's generators. Values are drawn in float64 and rounded to float32 before they are cast, so
that models in float32 and in float64 hold the same numbers.

References:
    Lim, Putterman, Walters, Maron & Jegelka 2024, The empirical impact of neural parameter symmetries, or lack
    thereof, arXiv 2405.20231. Bentley & Floyd 1987, A sample of brilliance.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.special import ndtri

from symfield.typing import Bool, Float, Tensor

__all__ = [
    "BoundZeros",
    "Densest",
    "EveryEntry",
    "MaskLaw",
    "RandomFilters",
    "RandomRows",
    "count_fixed",
    "fixed_mask",
    "fixed_values",
]

Uniform = Callable[[int], np.ndarray]

#: Where no more than this many times the rows exist, all subsets are listed rather than drawn until they differ.
_FEW = 4


@runtime_checkable
class MaskLaw(Protocol):
    """How the fixed columns of every row are chosen."""

    def units(self, channels: int, kernel: int) -> int:
        """How many things of a row can be fixed one by one: entries, or whole filters."""

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask, bools of shape ``(rows, channels * kernel)``, True where an entry is trainable."""


@dataclass(frozen=True)
class RandomRows:
    """Exactly n_fix entries of every row, a uniformly random subset; no two rows alike.

    Args:
        distinct: whether rows that came out equal are drawn again, so that all differ.

    Example:
        >>> mask = fixed_mask((3, 4), 2, seed=0, name="layer", law=RandomRows())
        >>> (~mask).sum(1).tolist(), len(mask.unique(dim=0))
        ([2, 2, 2], 3)
    """

    distinct: bool = True

    def units(self, channels: int, kernel: int) -> int:
        """All entries of a row."""
        return channels * kernel

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask."""
        return ~_random_subsets(rows, channels * kernel, n_fix, uniform, distinct=self.distinct)


@dataclass(frozen=True)
class RandomFilters:
    """Whole filters: n_fix input channels of every output channel, all entries of their kernels.

    Args:
        distinct: whether rows that came out equal are drawn again, so that all differ.

    Example:
        >>> mask = fixed_mask((3, 3, 5, 5), 1, seed=0, name="conv", law=RandomFilters())
        >>> (~mask).sum((1, 2, 3)).tolist()
        [25, 25, 25]
    """

    distinct: bool = True

    def units(self, channels: int, kernel: int) -> int:
        """The input channels."""
        return channels

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask."""
        chosen = _random_subsets(rows, channels, n_fix, uniform, distinct=self.distinct)
        return ~np.repeat(chosen, kernel, axis=1)


@dataclass(frozen=True)
class Densest:
    """The fewest fixed entries with distinct rows: none in the first row, then all single entries, then all pairs.

    Nothing is random; ``n_fix`` must be 0.

    Example:
        >>> (~fixed_mask((5, 3), 0, seed=0, name="layer", law=Densest())).int().tolist()
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    """

    def units(self, channels: int, kernel: int) -> int:
        """All entries of a row."""
        return channels * kernel

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask.

        Raises:
            ValueError: if n_fix is not 0, or there are fewer subsets than rows.
        """
        if n_fix != 0:
            raise ValueError(f"the densest mask begins with a row without fixed entries: expected n_fix 0, got {n_fix}")
        return ~_listed(rows, channels * kernel, 0)


@dataclass(frozen=True)
class BoundZeros:
    """All subsets of n_fix entries in order, then those of n_fix + 1, and so on: at least n_fix fixed in every row.

    Nothing is random.

    Example:
        >>> (~fixed_mask((4, 3), 2, seed=0, name="layer", law=BoundZeros(), allow_frozen=True)).int().tolist()
        [[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    """

    def units(self, channels: int, kernel: int) -> int:
        """All entries of a row."""
        return channels * kernel

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask.

        Raises:
            ValueError: if n_fix is 0, or there are fewer subsets than rows.
        """
        if n_fix < 1:
            raise ValueError(f"expected at least one fixed entry a row, got {n_fix}; the law Densest begins with none")
        return ~_listed(rows, channels * kernel, n_fix)


@dataclass(frozen=True)
class EveryEntry:
    """All entries: for a fixed tensor that is added to a weight which stays trainable as a whole.

    Example:
        >>> bool(fixed_mask((2, 3), 3, seed=0, name="layer", law=EveryEntry(), allow_frozen=True).any())
        False
    """

    def units(self, channels: int, kernel: int) -> int:
        """All entries of a row."""
        return channels * kernel

    def __call__(self, rows: int, channels: int, kernel: int, n_fix: int, uniform: Uniform) -> np.ndarray:
        """The mask.

        Raises:
            ValueError: if n_fix is not the length of a row.
        """
        if n_fix != channels * kernel:
            raise ValueError(f"every entry of a row of {channels * kernel} is fixed, got n_fix {n_fix}; pass fix=1.0")
        return np.zeros((rows, channels * kernel), dtype=bool)


def count_fixed(fix: int | float, size: int) -> int:
    """The number of fixed entries that a count or a share of a row asks for.

    Args:
        fix: a count, as an int, or a share in (0, 1], as a float; a share is rounded down, but at least one is fixed.
        size: entries (or filters) of a row.

    Returns:
        The count.

    Raises:
        TypeError: if ``fix`` is neither an int nor a float.
        ValueError: if a count is negative or larger than the row, or a share is outside of (0, 1].

    Example:
        >>> count_fixed(3, 10), count_fixed(0.25, 10), count_fixed(0.01, 10)
        (3, 2, 1)
    """
    if isinstance(fix, bool) or not isinstance(fix, int | float):
        raise TypeError(f"expected a count (int) or a share (float) of fixed entries, received {type(fix).__name__}")
    if isinstance(fix, int):
        if not 0 <= fix <= size:
            raise ValueError(f"expected 0 to {size} fixed entries in a row of {size}, received {fix}")
        return fix
    if not 0 < fix <= 1:
        raise ValueError(f"expected a share of fixed entries in (0, 1], received {fix}; an int is a count")
    return max(1, math.floor(fix * size + 1e-9))


def fixed_mask(
    shape: Sequence[int],
    fix: int | float,
    *,
    seed: int,
    name: str,
    law: MaskLaw = RandomRows(),
    axis: int = 0,
    allow_frozen: bool = False,
) -> Bool[Tensor, "..."]:
    """Which entries of a weight are trainable: the same on every machine for one seed and name.

    Args:
        shape: of the weight, such as ``(out, in)`` or ``(out, in, k, k)``; at least two axes.
        fix: fixed entries (or filters) of every output unit: a count (int) or a share (float), see
            :func:`count_fixed`.
        seed: any non-negative integer.
        name: of the weight; other names give other masks.
        law: how the fixed entries are chosen.
        axis: of the output units: 0, or 1 for transposed convolutions.
        allow_frozen: whether rows may be fixed as a whole.

    Returns:
        Bools of that shape on the CPU, True where an entry is trainable.

    Raises:
        TypeError: if ``fix`` is neither an int nor a float.
        ValueError: if the shape has less than two axes or no entries, the count does not fit into a row, a row would be
            fixed as a whole, or there are fewer subsets than rows.

    Example:
        >>> mask = fixed_mask((4, 6), 2, seed=0, name="0.weight")
        >>> mask.shape, (~mask).sum(1).tolist()
        (torch.Size([4, 6]), [2, 2, 2, 2])
        >>> bool((mask == fixed_mask((4, 6), 2, seed=0, name="1.weight")).all())
        False

    References:
        Lim et al. 2024, Section 3 and Appendix F, arXiv 2405.20231.
    """
    sizes = _by_rows(shape, axis, name)
    rows, channels, kernel = sizes[0], sizes[1], math.prod(sizes[2:])
    try:
        n_fix = count_fixed(fix, law.units(channels, kernel))
        mask = law(rows, channels, kernel, n_fix, _uniform(seed, name, "mask"))
    except ValueError as error:
        raise ValueError(f"{name!r} of shape {tuple(shape)}: {error}") from error
    if not allow_frozen and not mask.any(axis=1).all():
        raise ValueError(
            f"{name!r} of shape {tuple(shape)}: all {channels * kernel} entries of a row would be fixed, and the unit "
            "could not learn; fix fewer, or allow it with allow_frozen=True"
        )
    return torch.from_numpy(mask.reshape(sizes)).movedim(0, axis).contiguous()


def fixed_values(
    mask: Bool[Tensor, "..."],
    kappa: float,
    *,
    seed: int,
    name: str,
    axis: int = 0,
    like: Tensor | None = None,
) -> Float[Tensor, "..."]:
    """The fixed entries of a weight, independent N(0, κ²), and zero where it is trainable.

    One seed and name give the same normals for every κ.

    Args:
        mask: True where an entry is trainable, from :func:`fixed_mask`.
        kappa: κ, their standard deviation; 0 makes a sparse weight.
        seed: any non-negative integer.
        name: of the weight.
        axis: of the output units.
        like: tensor that gives dtype and device; float32 on the CPU when absent.

    Returns:
        The tensor F, of the mask's shape.

    Raises:
        ValueError: if κ is negative or not finite, or so large that values overflow.

    Example:
        >>> mask = fixed_mask((100, 200), 0.5, seed=0, name="layer")
        >>> values = fixed_values(mask, 2.0, seed=0, name="layer")
        >>> round(values[~mask].std().item(), 1), values[mask].abs().max().item()
        (2.0, 0.0)
    """
    if not (math.isfinite(kappa) and kappa >= 0):
        raise ValueError(f"expected κ ≥ 0, the standard deviation of the fixed entries of {name!r}, received {kappa}")
    fixed = (~mask).movedim(axis, 0).contiguous().cpu()
    values = torch.zeros(fixed.shape, dtype=torch.float32)
    values[fixed] = _normal(int(fixed.sum()), kappa, seed, name)
    values = values.movedim(0, axis).contiguous()
    values = values if like is None else values.to(like)
    if not bool(values.isfinite().all()):
        kind = str(values.dtype).removeprefix("torch.")
        raise ValueError(f"fixed entries of {name!r} are too large for {kind} at κ = {kappa:g}; take a smaller κ")
    return values


def _normal(n: int, std: float, seed: int, name: str) -> Tensor:
    drawn = ndtri(_uniform(seed, name, "values")(n) + 2.0**-54)
    return torch.from_numpy(std * drawn).float()


def _by_rows(shape: Sequence[int], axis: int, name: str) -> tuple[int, ...]:
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"expected a weight with at least two axes, none empty, for {name!r}, received {tuple(shape)}")
    if axis not in (0, 1):
        raise ValueError(f"expected the axis of the output units of {name!r} to be 0 or 1, received {axis}")
    return (shape[axis], shape[1 - axis], *shape[2:])


def _uniform(seed: int, name: str, purpose: str) -> Uniform:
    """Numbers in [0, 1) with 53 bits, from a Philox generator keyed by the SHA-256 of what they are for."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"expected a non-negative integer as seed, received {seed!r}")
    words = f"symfield asymmetric 1\n{seed}\n{purpose}\n{name}".encode()
    source = np.random.Philox(key=int.from_bytes(hashlib.sha256(words).digest()[:16], "little"))
    return lambda n: (source.random_raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _random_subsets(rows: int, size: int, n: int, uniform: Uniform, *, distinct: bool) -> np.ndarray:
    """Bools ``(rows, size)`` with n Trues in every row, uniform; over tuples of different rows if ``distinct``."""
    if n == 0 or n == size:
        if distinct and rows > 1 and n == 0:
            raise ValueError("with no fixed entry all rows are alike; fix at least one, or leave the layer out")
        return np.full((rows, size), n == size)
    total = math.comb(size, n)
    if not distinct:
        return _draw_subsets(rows, size, n, uniform)
    if total < rows:
        enough = [k for k in range(1, size) if math.comb(size, k) >= rows]
        counts = " to ".join(str(k) for k in sorted({*enough[:1], *enough[-1:]}))
        advice = f"fix {counts}, or leave the layer out" if enough else "leave the layer out"
        raise ValueError(
            f"there are {total} ways to fix {n} of {size}, fewer than the {rows} rows that must differ; {advice}"
        )
    if total <= _FEW * rows:
        every = np.zeros((total, size), dtype=bool)
        chosen = np.array(list(itertools.combinations(range(size), n)))
        np.put_along_axis(every, chosen, True, axis=1)
        return every[np.argsort(uniform(total), kind="stable")[:rows]]
    drawn = _draw_subsets(rows, size, n, uniform)
    while len(again := _repeated(drawn)):  # each row anew hits one of the others with probability under 1 / _FEW
        drawn[again] = _draw_subsets(len(again), size, n, uniform)
    return drawn


def _repeated(subsets: np.ndarray) -> np.ndarray:
    """Indices of the rows that an earlier row equals."""
    packed = np.packbits(subsets, axis=1)
    _, first = np.unique(packed.view([("", packed.dtype)] * packed.shape[1]).reshape(-1), return_index=True)
    return np.setdiff1d(np.arange(len(subsets)), first)


def _draw_subsets(rows: int, size: int, n: int, uniform: Uniform) -> np.ndarray:
    """Algorithm of Floyd, all rows at once: for j from size − n on, a random t ≤ j, or j itself where t is taken."""
    if 2 * n > size:
        return ~_draw_subsets(rows, size, size - n, uniform)
    chosen = np.zeros((rows, size), dtype=bool)
    steps = np.arange(size - n, size)
    numbers = np.floor(uniform(rows * n).reshape(n, rows) * (steps[:, None] + 1)).astype(np.int64)
    every = np.arange(rows)
    for j, t in zip(steps.tolist(), numbers, strict=True):
        chosen[every, np.where(chosen[every, t], j, t)] = True
    return chosen


def _listed(rows: int, size: int, least: int) -> np.ndarray:
    """The first subsets by size, then in lexicographic order."""
    if rows > (total := sum(math.comb(size, n) for n in range(least, size + 1))):
        raise ValueError(f"there are {total} ways to fix at least {least} of {size}, fewer than the {rows} rows")
    chosen = np.zeros((rows, size), dtype=bool)
    subsets = itertools.chain.from_iterable(itertools.combinations(range(size), n) for n in range(least, size + 1))
    for row, subset in zip(chosen, subsets, strict=False):
        row[list(subset)] = True
    return chosen
