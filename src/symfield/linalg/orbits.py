"""Partitions of coordinates into signed orbits: the exact solution of x_i = ± x_j systems.

Notation: constraints x_i = s_i x_{f(i)} for several maps f of {0, …, N−1} into itself with signs s. They link
coordinates into a signed graph. On a connected component every solution is a multiple of one sign vector, unless a
closed walk has sign −1, in which case the component carries only zero. Components of the graph's double cover (nodes
i⁺ and i⁻, an edge of sign −1 crosses over) tell the two cases apart: the component is inconsistent iff i⁺ ~ i⁻.
The cost is linear in N times the number of maps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from symfield.typing import Float, Int, Shaped, Tensor

__all__ = ["Orbits", "signed_orbits"]


class Orbits(NamedTuple):
    """A partition of N coordinates into signed orbits.

    Attributes:
        labels: orbit of each coordinate, int64 ``(N,)``, from 0 in order of first appearance; −1 where only zero is
            allowed.
        signs: float64 ``(N,)``: ±1 relative to the orbit's first coordinate; 0 where the label is −1.
    """

    labels: Int[Tensor, " n"]
    signs: Float[Tensor, " n"]


def signed_orbits(index: Int[Tensor, "k n"], sign: Shaped[Tensor, "..."] | None = None) -> Orbits:
    """Solve x_i = s_i x_{index_i} for all maps at once.

    Args:
        index: k maps of the coordinates, int64 ``(k, N)``; they need not be permutations.
        sign: ±1 of each constraint, ``(k, N)``; all +1 when absent.

    Returns:
        The orbits of coordinates.

    Raises:
        ValueError: if an index lies outside [0, N), a sign is not ±1, or the shapes differ.

    Example:
        >>> signed_orbits(torch.tensor([[1, 0, 2]])).labels.tolist()
        [0, 0, 1]
        >>> signed_orbits(torch.tensor([[1, 0, 2]]), torch.tensor([[-1.0, -1.0, -1.0]])).labels.tolist()
        [0, 0, -1]
    """
    n = index.shape[1]
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= n):
        raise ValueError(
            f"expected indices in [0, {n}), received {int(index.min())}…{int(index.max())}; index coordinates from 0"
        )
    if sign is not None:
        if sign.shape != index.shape:
            raise ValueError(
                f"expected signs of shape {tuple(index.shape)}, received {tuple(sign.shape)}; one sign for each index"
            )
        if not bool((sign.abs() == 1).all()):
            raise ValueError("expected signs +1 or -1, received other values; scale the representation's matrices")
    maps = index.detach().cpu().numpy()
    negative = None if sign is None else sign.detach().cpu().numpy() < 0
    if negative is None or not negative.any():
        labels, _ = _by_first_appearance(_components(maps))
        return Orbits(torch.from_numpy(labels), torch.ones(n, dtype=torch.float64))
    return _from_double_cover(maps, negative)


def _from_double_cover(maps: np.ndarray, negative: np.ndarray) -> Orbits:
    n = maps.shape[1]
    upper = np.where(negative, maps + n, maps)
    lower = np.where(negative, maps, maps + n)
    cover = _components(np.concatenate([upper, lower], axis=1))
    plus, minus = cover[:n], cover[n:]
    alive = plus != minus
    # A consistent component of the graph is covered twice; name the pair by its smaller label.
    labels = np.full(n, -1, dtype=np.int64)
    labels[alive], first = _by_first_appearance(np.minimum(plus, minus)[alive])
    signs = np.zeros(n)
    leader = plus[alive][first]
    signs[alive] = np.where(plus[alive] == leader[labels[alive]], 1.0, -1.0)
    return Orbits(torch.from_numpy(labels), torch.from_numpy(signs))


def _components(maps: np.ndarray) -> np.ndarray:
    """Connected components of the graph with edges i – maps[k, i]."""
    k, n = maps.shape
    if k == 0:
        return np.arange(n, dtype=np.int64)
    dtype = np.int32 if k * n < 2**31 - 1 else np.int64
    targets = np.ascontiguousarray(maps.T, dtype=dtype).reshape(-1)
    rows = np.arange(0, k * n + 1, k, dtype=dtype)
    graph = csr_array((np.ones(k * n), targets, rows), shape=(n, n))
    return connected_components(graph, directed=True, connection="weak")[1]


def _by_first_appearance(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rename labels 0, 1, … in order of first appearance; also return the position of each first appearance."""
    if labels.size == 0:
        return labels.astype(np.int64), np.zeros(0, dtype=np.int64)
    first = np.full(int(labels.max()) + 1, labels.size, dtype=np.int64)
    positions = np.arange(labels.size, dtype=np.int64)
    first[labels[::-1]] = positions[::-1]
    first = np.sort(first[first < labels.size])
    names = np.empty(int(labels.max()) + 1, dtype=np.int64)
    names[labels[first]] = np.arange(first.size)
    return names[labels], first
