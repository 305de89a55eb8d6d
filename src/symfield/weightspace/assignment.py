"""Linear assignment with a proof of optimality.

An assignment of n rows to different columns of a cost matrix c is optimal if and only if there are numbers u of the
rows and v of the columns with u_i + v_j ≤ c_ij everywhere and equality at the assigned entries; where columns are left
over, also v ≤ 0, and v = 0 at those. For any such u, v that satisfy the inequalities, Σu + Σv bounds the cost of every
assignment from below, so that

    gap = Σ_i (c_{i, x_i} − u_i − v_{x_i}) − Σ_{j free} v_j ≥ 0

certifies how far from the optimum an assignment can be. It comes with every solution; at the optimum it is zero up
to round-off.

The solver is our own, in C (``jonker_volgenant.c``): shortest augmenting paths on a sparse core of the matrix, priced
against all of it, compiled at first use. Where there is no compiler, scipy solves, and the duals are recovered as
shortest paths in the graph of exchanges; :attr:`Assignment.solver` says which it was.

References:
    Jonker & Volgenant 1987, A shortest augmenting path algorithm for dense and sparse linear assignment problems,
    Computing 38. Volgenant 1996, Linear and semi-assignment problems: a core oriented approach, Comput. Oper. Res. 23.
    Crouse 2016, On implementing 2D rectangular assignment algorithms, IEEE TAES 52(4) (scipy's solver).
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from symfield.compiler import CompilationError, compiled, switched_off
from symfield.typing import Float, Int, Tensor

__all__ = ["Assignment", "assign"]

_SOURCE = Path(__file__).with_name("jonker_volgenant.c")
_NOT_FINITE = -3


@dataclass(frozen=True)
class Assignment:
    """An assignment of rows to columns with its certificate.

    Attributes:
        columns: the column of every row, shape ``(n,)``, int64; -1 for rows left over where n > m.
        value: sum of the assigned entries.
        u: duals of the rows, shape ``(n,)``, float64. u_i + v_j ≤ c_ij for costs, ≥ for scores.
        v: duals of the columns, shape ``(m,)``, float64.
        gap: no assignment is better than this one by more than the gap; ≥ 0, zero up to round-off.
        solver: ``"jonker-volgenant"`` (compiled) or ``"scipy"``.
    """

    columns: Int[Tensor, " n"]
    value: float
    u: Float[Tensor, " n"]
    v: Float[Tensor, " m"]
    gap: float
    solver: str


@torch.no_grad()
def assign(
    matrix: Float[Tensor, "..."] | Int[Tensor, "..."], *, maximize: bool = False, warm: Assignment | None = None
) -> Assignment:
    """The cheapest (or best) assignment of rows to different columns, with duals that prove it.

    min over injections x of Σ_i c_{i, x_i}; with ``maximize`` the largest sum.

    Args:
        matrix: costs or scores, shape ``(n, m)``. With n > m some rows are left over.
        maximize: whether entries are scores.
        warm: the solution of a similar problem of the same shape and sense, whose duals are the start. It changes the
            time, not the optimum; of several optimal assignments another may be found. Of use for square matrices whose
            entries are all alike, where it halves the time; where one entry a row stands out, it costs time.

    Returns:
        An :class:`Assignment`, on the CPU.

    Raises:
        ValueError: if the matrix has not two axes, is empty, or not finite, or the start does not fit.

    Example:
        >>> found = assign(torch.tensor([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]))
        >>> found.columns.tolist(), found.value, found.gap
        ([1, 0, 2], 5.0, 0.0)
    """
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"expected a matrix (n, m) with n, m > 0, received shape {tuple(matrix.shape)}")
    if warm is not None and (warm.u.shape, warm.v.shape) != (matrix.shape[:1], matrix.shape[1:]):
        raise ValueError(
            f"expected a start for shape {tuple(matrix.shape)}, received one for {(warm.u.numel(), warm.v.numel())}; "
            "pass the solution of a matrix of the same shape"
        )
    wide = _dense(matrix)
    flipped = wide.shape[0] > wide.shape[1]
    if flipped:
        wide = np.ascontiguousarray(wide.T)
    start = None if warm is None else (warm.u if flipped else warm.v).numpy() * (-1 if maximize else 1)
    columns, u, v, solver = _solve(wide, -1.0 if maximize else 1.0, start)
    assigned = wide[np.arange(len(columns)), columns].astype(np.float64)
    sign = -1.0 if maximize else 1.0
    left = np.ones(len(v), dtype=bool)
    left[columns] = False
    gap = float((sign * assigned - u - v[columns]).sum() - v[left].sum())
    rows = columns
    if flipped:
        u, v = v, u
        rows = np.full(matrix.shape[0], -1)
        rows[columns] = np.arange(len(columns))
    return Assignment(
        torch.from_numpy(rows.astype(np.int64)),
        float(assigned.sum()),
        torch.from_numpy(sign * u),
        torch.from_numpy(sign * v),
        max(gap, 0.0),
        solver,
    )


def _dense(matrix: Tensor) -> np.ndarray:
    """The matrix on the CPU, rows one after the other, float32 or float64."""
    kept = matrix.detach().cpu()
    if kept.dtype not in (torch.float32, torch.float64):
        kept = kept.to(torch.float32 if kept.dtype in (torch.float16, torch.bfloat16) else torch.float64)
    return kept.contiguous().numpy()


def _solve(c: np.ndarray, sign: float, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Columns and duals of the cheapest assignment of sign·c with n ≤ m."""
    library = None if switched_off() else _library(c.itemsize)
    if library is not None:
        status, columns, u, v = _call(library, c, sign, start)
        if status == _NOT_FINITE:
            raise _not_finite(c)
        if status == 0:
            return columns, u, v, "jonker-volgenant"
    if not np.isfinite(c).all():
        raise _not_finite(c)
    cost = sign * c.astype(np.float64)
    columns = linear_sum_assignment(cost)[1]
    return columns, *_duals(cost, columns), "scipy"


def _not_finite(c: np.ndarray) -> ValueError:
    bad = ~np.isfinite(c)
    row, column = (int(i) for i in np.argwhere(bad)[0])
    return ValueError(
        f"expected finite entries, received {int(bad.sum())} that are not, the first at ({row}, {column}); "
        "use a large finite cost where a pair is forbidden"
    )


def _duals(cost: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Duals of an optimal assignment: v_j is the shortest way to column j by exchanges, by Bellman and Ford."""
    rows = np.arange(len(columns))
    slack = cost - cost[rows, columns][:, None]
    v = np.zeros(cost.shape[1])
    for _ in range(len(columns)):
        shorter = np.minimum(v, (slack + v[columns][:, None]).min(axis=0))
        shorter[columns] = np.minimum(shorter[columns], v[columns])
        if np.abs(shorter - v).max() <= 1e-15 * np.abs(cost).max():
            break
        v = shorter
    left = np.ones(len(v), dtype=bool)
    left[columns] = False
    v[left] = 0.0
    return (cost - v).min(axis=1), v


def _call(
    library: ctypes.CDLL, c: np.ndarray, sign: float, start: np.ndarray | None
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    n, m = c.shape
    columns, u, v = np.empty(n, np.int32), np.empty(n), np.empty(m)
    warm = None if start is None else np.ascontiguousarray(start, dtype=np.float64)
    pointers = (array.ctypes.data for array in (columns, u, v))
    status = library.symfield_assign(c.ctypes.data, n, m, sign, None if warm is None else warm.ctypes.data, *pointers)
    return status, columns.astype(np.int64), u, v


@functools.cache
def _library(itemsize: int) -> ctypes.CDLL | None:
    """The compiled solver, once it has agreed with scipy on a small problem; None where it cannot be had."""
    try:
        library = compiled(_SOURCE, definitions=(("REAL", itemsize),))
    except CompilationError:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.symfield_assign.restype = ctypes.c_int
    library.symfield_assign.argtypes = [pointer, integer, integer, ctypes.c_double, *[pointer] * 4]
    i, j = np.meshgrid(np.arange(150), np.arange(150), indexing="ij")
    trial = (np.sin(1.0 + 13 * i + 7 * j * j + i * j)).astype(f"f{itemsize}")
    status, columns, _, _ = _call(library, trial, 1.0, None)
    rows = np.arange(150)
    best = trial[rows, linear_sum_assignment(trial)[1]].sum(dtype=np.float64)
    agrees = status == 0 and abs(trial[rows, columns].sum(dtype=np.float64) - best) < 1e-9
    return library if agrees else None
