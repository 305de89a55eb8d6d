"""Tables of one's own: arrays, tensors, data frames and lists as inputs and labels."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from symfield.typing import Tensor

__all__ = ["read_table"]

_LEAST = 20
_MOST_CLASSES = 20


def read_table(x: Any, y: Any, classes: bool | None) -> tuple[Tensor, Tensor, int | None]:
    """Inputs and labels as tensors.

    Args:
        x: inputs, ``(n, d)``.
        y: labels, ``(n)`` or one column.
        classes: whether labels are classes; told from their type when absent.

    Returns:
        Inputs float64 ``(n, d)``, labels float64 ``(k, n)``, indicators where they are classes, and the number of
        classes, None for regression.

    Raises:
        ValueError: if shapes do not fit, there are too few samples, or values are missing, constant or no numbers.
    """
    table, column = _array(x), _array(y)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if table.ndim != 2 or column.shape != table.shape[:1] or table.shape[1] < 1:
        raise ValueError(f"expected inputs (n, d) and labels (n), received {table.shape} and {column.shape}")
    if len(table) < _LEAST:
        raise ValueError(f"expected at least {_LEAST} samples, received {len(table)}; collect more")
    points = _numbers(table)
    if points is None:
        raise ValueError(f"expected inputs that are numbers, received {table.dtype}; encode the others first")
    if not torch.isfinite(points).all():
        missing = int((~torch.isfinite(points)).any(-1).sum())
        raise ValueError(f"expected finite inputs, received NaN or infinity in {missing} samples; drop or impute them")
    if classes is None:
        measured = column.dtype.kind == "O" and all(isinstance(item, Real) for item in column.tolist())
        if measured and not all(isinstance(item, Integral) for item in column.tolist()):
            column = column.astype(np.float64)
        elif measured:
            column = np.array(column.tolist())
        classes = column.dtype.kind in "OUSb" or (column.dtype.kind in "iu" and len(np.unique(column)) <= _MOST_CLASSES)
    if not classes:
        labels = _numbers(column)
        if labels is None:
            raise ValueError(f"expected labels that are numbers, received {column.dtype}; set classes=True")
        if not torch.isfinite(labels).all():
            raise ValueError("expected finite labels, received NaN or infinity; drop these samples")
        if float(labels.max() - labels.min()) <= 1e-12 * float(labels.abs().max()):
            raise ValueError("expected labels that vary, received a constant")
        return points, labels.unsqueeze(0), None
    if column.dtype.kind == "O" and any(_is_missing(item) for item in column.tolist()):
        raise ValueError("expected a class for each sample, received missing ones; drop these samples")
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        raise ValueError("expected finite labels, received NaN or infinity; drop these samples")
    names, codes = np.unique(column.astype(str) if column.dtype.kind == "O" else column, return_inverse=True)
    if len(names) < 2:
        raise ValueError("expected labels that vary, received one class only")
    if len(names) > len(column) / 2:
        raise ValueError(f"expected classes with at least two samples on average, received {len(names)} classes")
    indicators = torch.nn.functional.one_hot(torch.from_numpy(codes).long(), len(names)).double().mT
    return points, indicators[1:] if len(names) == 2 else indicators, len(names)


def _array(data: Any) -> np.ndarray:
    """An array of whatever was given."""
    return data.detach().cpu().numpy() if isinstance(data, Tensor) else np.asarray(data)


def _numbers(table: np.ndarray) -> Tensor | None:
    """Real numbers in float64; None where there are others."""
    if table.dtype.kind not in "biufOUS":
        return None
    try:
        return torch.from_numpy(np.array(table, dtype=np.float64))
    except (TypeError, ValueError):
        return None


def _is_missing(item: Any) -> bool:
    """None, NaN, or what a data frame has in their place."""
    if item is None:
        return True
    try:
        return bool(item != item)
    except TypeError:  # pandas' NA is neither equal nor unequal to itself
        return True
