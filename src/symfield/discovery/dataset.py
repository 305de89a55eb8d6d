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
from symfield.typing import Float, Generator, Tensor

__all__ = ["Dataset", "dataset"]


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


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
