"""Inputs and targets as every function of this room takes them: float64 tables, checked once.

Classes are written as indicators, one column a class, so that regression and classification meet the same shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from symfield import random
from symfield.typing import Float, Generator, Int, Tensor

__all__ = ["Dataset", "dataset", "target_units", "without_copies"]

_APART = 10.0  # ratio of the spreads of two targets from which on no group mixes them
_BY_CHANCE = 10.0  # times as many equal pairs of rows as independent columns give are no chance


@dataclass(frozen=True)
class Dataset:
    """Samples of an unknown function.

    Attributes:
        x: inputs, shape ``(b, d)``, float64.
        y: targets, shape ``(b, o)``, float64; indicators ``(b, classes)`` for classification.
        task: "regression" or "classification".
        x_names: names of the d columns of inputs.
        y_names: names of the o columns of targets, or of the classes.
    """

    x: Float[Tensor, "b d"]
    y: Float[Tensor, "b o"]
    task: Literal["regression", "classification"] = "regression"
    x_names: tuple[str, ...] = ()
    y_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> Tensor:
        """Index of the class of each sample, shape ``(b,)``, int64.

        Raises:
            ValueError: if this is regression.
        """
        if self.task != "classification":
            raise ValueError("expected classes, but the targets of this data set are numbers")
        return self.y.argmax(-1)

    def take(self, rows: Tensor) -> Dataset:
        """Some of the samples.

        Args:
            rows: indices or a mask, shape ``(k,)``.
        """
        return replace(self, x=self.x[rows], y=self.y[rows])

    def split(self, share: float, *, generator: Generator) -> tuple[Dataset, Dataset]:
        """Two disjoint parts in random order, for example to fit and to hold out.

        Args:
            share: of the first part, above 0 and below 1; both parts get at least one sample.
            generator: source of randomness.

        Returns:
            The two parts.

        Raises:
            ValueError: if the share is not inside (0, 1), or there is only one sample.
        """
        if not 0 < share < 1 or len(self) < 2:
            raise ValueError(f"expected a share inside (0, 1) of two samples or more, received {share} of {len(self)}")
        order = random.uniform((len(self),), generator=generator, like=self.x).argsort()
        first = min(max(math.floor(share * len(self) + 0.5), 1), len(self) - 1)
        return self.take(order[:first]), self.take(order[first:])


def dataset(
    x: Any,
    y: Any,
    *,
    classes: bool | None = None,
    x_names: tuple[str, ...] = (),
    y_names: tuple[str, ...] = (),
) -> Dataset:
    """A data set from arrays, tensors, data frames or lists.

    Args:
        x: inputs ``(b, d)``; further axes are flattened.
        y: targets ``(b,)`` or ``(b, o)``.
        classes: whether targets are classes; when absent, words and booleans are, numbers are not.
        x_names: names of the columns of x.
        y_names: names of the columns of y, for regression.

    Returns:
        The data set, in float64.

    Raises:
        ValueError: if shapes do not fit, there are no samples, or there are values that are not finite numbers.

    Example:
        >>> data = dataset([[0.0, 1.0], [1.0, 0.0]], ["cat", "dog"])
        >>> data.task, data.y_names, data.y.tolist()
        ('classification', ('cat', 'dog'), [[1.0, 0.0], [0.0, 1.0]])
    """
    points, targets = _numeric(x, "inputs"), _array(y)
    _refuse_complex(targets, "targets")
    if targets.ndim == 2 and targets.shape[1] == 1 and classes is not False:
        targets = targets[:, 0]
    if points.ndim < 2 or targets.ndim not in (1, 2) or len(points) != len(targets) or points.numel() == 0:
        raise ValueError(
            f"expected inputs (b, d) and targets (b,) or (b, o) with the same b >= 1, received "
            f"{tuple(points.shape)} and {targets.shape}"
        )
    points = points.flatten(1)
    x_names = x_names or tuple(f"x{k}" for k in range(points.shape[1]))
    if len(x_names) != points.shape[1]:
        raise ValueError(f"expected {points.shape[1]} names of inputs, received {len(x_names)}")
    if classes is None:
        classes = targets.dtype.kind in "OUSb"
    if classes:
        return _classified(points, targets, x_names)
    values = _numeric(y, "targets").reshape(len(points), -1)
    y_names = y_names or tuple(f"y{k}" for k in range(values.shape[1]))
    if len(y_names) != values.shape[1]:
        raise ValueError(f"expected {values.shape[1]} names of targets, received {len(y_names)}")
    return Dataset(points, values, "regression", x_names, y_names)


def without_copies(data: Dataset) -> Dataset:
    """The data set without rows that repeat another one, where repetitions are not chance.

    A row that was copied, as by oversampling, lands both among the samples of a fit and among those held out, which
    are then predicted from memory. Columns of few values repeat by chance as well, and such rows are kept: a column
    has to tell most of the rows apart, and equal pairs have to be ten times as frequent as independent columns with the
    same values would make them.

    Args:
        data: samples.

    Returns:
        The data set itself, or its distinct rows in the order of their first appearance.

    Example:
        >>> x = random.normal((50, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> len(without_copies(dataset(x.repeat(4, 1), x.prod(-1).repeat(4))))
        50
        >>> coins = (x > 0).repeat(4, 1)
        >>> len(without_copies(dataset(coins, coins.sum(-1))))
        200
    """
    n = len(data)
    rows = torch.cat([data.x, data.y], dim=-1)
    distinct, index, counts = rows.unique(dim=0, return_inverse=True, return_counts=True)
    if len(distinct) == n:
        return data
    columns = [column.unique(return_counts=True)[1].double() for column in data.x.T]
    telling = max(len(column) for column in columns) >= len(distinct) / 2
    expected = math.prod(float((column / n).square().sum()) for column in columns) * n**2
    if not telling or float(counts.double().square().sum()) - n <= _BY_CHANCE * expected:
        return data
    first = torch.full((len(distinct),), n).scatter_reduce(0, index, torch.arange(n), "amin")
    return data.take(first.sort().values)


def target_units(data: Dataset) -> tuple[Float[Tensor, " o"], Int[Tensor, " o"]]:
    """A unit for every target, and its kind: targets that differ by orders of magnitude are of different kinds.

    Errors are summed over targets; without units a target in millions would hide one in units. Targets of one kind
    share a unit, so that a group may mix them.

    Args:
        data: samples.

    Returns:
        Positive units, all 1 where there is one kind or targets are classes, and labels of kinds 0, 1, …

    Example:
        >>> data = dataset([[0.0], [1.0]], [[0.0, 0.0, 0.0], [1.0, 2.0, 5000.0]])
        >>> target_units(data)[1].tolist()
        [1, 1, 0]
    """
    one, same = torch.ones(data.y.shape[1]).to(data.y), torch.zeros(data.y.shape[1], dtype=torch.int64)
    if data.task == "classification" or len(data) < 2:
        return one, same
    spread = data.y.std(0)
    size = torch.where(spread > 0, spread, spread.max())
    order = size.argsort(descending=True)
    leaps = size[order][:-1] > _APART * size[order][1:]
    if not bool(leaps.any()):
        return one, same
    kinds = same.clone()
    kinds[order[1:]] = leaps.cumsum(0)
    squares = [size[kinds == kind].square().mean() for kind in range(int(kinds.max()) + 1)]
    return torch.stack(squares).sqrt()[kinds], kinds


def _classified(points: Tensor, targets: np.ndarray, x_names: tuple[str, ...]) -> Dataset:
    if targets.ndim != 1:
        raise ValueError(f"expected one class for every sample, shape (b,), received {targets.shape}")
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise ValueError("expected a class for every sample, received NaN or infinity; drop these samples")
    found, index = np.unique(targets.astype(str) if targets.dtype.kind == "O" else targets, return_inverse=True)
    indicators = torch.nn.functional.one_hot(torch.from_numpy(index.reshape(-1)), len(found)).double()
    return Dataset(points, indicators, "classification", x_names, tuple(str(name) for name in found))


def _numeric(values: Any, what: str) -> Tensor:
    array = _array(values)
    _refuse_complex(array, what)
    try:
        numbers = torch.from_numpy(np.array(array, dtype=np.float64, order="C"))  # a copy: data frames are read-only
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected {what} that are numbers, received {array.dtype}; encode the others first"
        ) from error
    if not numbers.isfinite().all():
        count = int((~numbers.isfinite()).sum())
        raise ValueError(f"expected finite {what}, received NaN or infinity in {count} entries; drop or impute them")
    return numbers


def _refuse_complex(array: np.ndarray, what: str) -> None:
    if array.dtype.kind == "c":
        raise ValueError(
            f"expected {what} that are real, received {array.dtype}; pass real and imaginary parts as columns"
        )


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
