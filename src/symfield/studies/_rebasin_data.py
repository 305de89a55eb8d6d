"""Two classification tasks: handwritten digits, which are easy, and clusters, which keep the methods apart."""

from __future__ import annotations

from typing import NamedTuple

import torch

from symfield import random
from symfield.experiments.errors import StudyError
from symfield.typing import Tensor

__all__ = ["TASKS", "Task", "clusters", "digits", "load"]

_DIM, _CLASSES, _CLUSTERS, _NOISE = 16, 10, 6, 0.7
_TRAIN, _TEST = 4000, 2000


class Task(NamedTuple):
    """Inputs and labels, split into training and test; the same for every network.

    Attributes:
        x: training inputs, shape ``(n, d)``.
        y: their classes, shape ``(n,)``.
        x_test: test inputs.
        y_test: their classes.
        classes: number of classes.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int


def digits() -> Task:
    """The 1797 images of 8×8 pixels that scikit-learn ships, pixels from 0 to 1; a fifth is for testing.

    Returns:
        The task, in float64.

    Raises:
        StudyError: if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise StudyError(
            "the digits come with scikit-learn: pip install 'symfield[datasets]', or run with tasks=clusters"
        ) from error
    held = load_digits()
    x, y = torch.from_numpy(held.data / 16.0), torch.from_numpy(held.target).long()
    order = torch.randperm(len(y), generator=random.generator(0))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return Task(x[train], y[train], x[test], y[test], 10)


def clusters() -> Task:
    """Ten classes in 16 dimensions, each the union of six round Gaussian clusters with standard deviation 0.7.

    The sixty centres are standard Gaussian: no direction tells the classes apart, and no unit is needed by name.

    Returns:
        The task, in float64.
    """
    generator = random.generator(0)
    like = torch.zeros((), dtype=torch.float64)
    centres = random.normal((_CLASSES * _CLUSTERS, _DIM), generator=generator, like=like)
    chosen = random.integers(0, len(centres), (_TRAIN + _TEST,), generator=generator)
    x = centres[chosen] + random.normal((len(chosen), _DIM), generator=generator, like=like, std=_NOISE)
    y = chosen % _CLASSES
    return Task(x[:_TRAIN], y[:_TRAIN], x[_TRAIN:], y[_TRAIN:], _CLASSES)


TASKS = {"digits": digits, "clusters": clusters}


def load(name: str, like: Tensor) -> Task:
    """A task by name.

    Args:
        name: one of :data:`TASKS`.
        like: gives dtype and device.

    Returns:
        The task.
    """
    task = TASKS[name]()
    return Task(
        task.x.to(like), task.y.to(like.device), task.x_test.to(like), task.y_test.to(like.device), task.classes
    )
