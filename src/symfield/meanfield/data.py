"""Streams of training data: fresh samples from a teacher, or mini-batches from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from symfield import random
from symfield.typing import Float, Generator, Map, Tensor
from symfield.units import Unit, check_shapes

__all__ = ["Arrays", "Data", "Fresh", "gaussian_teacher", "stream"]


@runtime_checkable
class Data(Protocol):
    """A source of samples."""

    def __call__(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> tuple[Tensor, Tensor]:
        """Independent samples: inputs ``(*shape, d)`` and targets ``(*shape, o)``."""


@dataclass(frozen=True)
class Fresh:
    """Fresh Gaussian inputs N(0, std² I_d), labelled by a function without noise.

    Attributes:
        target: f*, a map ``(b, d) -> (b, o)``.
        in_dim: d.
        std: standard deviation of every input coordinate.
    """

    target: Map
    in_dim: int
    std: float = 1.0

    def __call__(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw inputs and label them.

        Args:
            shape: shape of the batch.
            generator: source of randomness.
            like: gives dtype and device.

        Returns:
            Inputs ``(*shape, d)`` and targets ``(*shape, o)``.

        Raises:
            ValueError: if the function does not give one target vector for every input.
        """
        x = random.normal((*shape, self.in_dim), generator=generator, like=like, std=self.std)
        flat = x.reshape(-1, self.in_dim)
        y = self.target(flat)
        if y.ndim != 2 or len(y) != len(flat):
            raise ValueError(
                f"expected targets of shape ({len(flat)}, o) for {len(flat)} inputs, received {tuple(y.shape)}; "
                "keep the last axis, e.g. x[:, :1]"
            )
        return x, y.reshape(*shape, y.shape[-1])


@dataclass(frozen=True)
class Arrays:
    """Mini-batches drawn with replacement from a fixed data set.

    Attributes:
        x: inputs, shape ``(s, d)``.
        y: targets, shape ``(s, o)``.
    """

    x: Float[Tensor, "..."]
    y: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.ndim != 2 or len(self.x) != len(self.y) or len(self.x) == 0:
            raise ValueError(
                f"expected inputs (s, d) and targets (s, o) with the same s >= 1, received {tuple(self.x.shape)} and "
                f"{tuple(self.y.shape)}"
            )
        for name, values in (("inputs", self.x), ("targets", self.y)):
            if not values.isfinite().all():
                count = int((~values.isfinite()).sum())
                raise ValueError(f"expected finite {name}, received {count} NaN or infinite entries; clean the data")

    def __call__(self, shape: Sequence[int], *, generator: Generator, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw rows with replacement.

        Args:
            shape: shape of the batch.
            generator: source of randomness.
            like: gives dtype and device.

        Returns:
            Inputs ``(*shape, d)`` and targets ``(*shape, o)``.
        """
        rows = random.integers(0, len(self.x), shape, generator=generator, like=self.x)
        return self.x[rows].to(like), self.y[rows].to(like)


def gaussian_teacher(unit: Unit, teacher: Float[Tensor, "n p"], *, std: float) -> Fresh:
    """The paper's data: X ~ N(0, std² I), Y = Φ_teacher(X).

    Args:
        unit: σ_*.
        teacher: cloud of the teacher's particles, shape ``(n, p)``.
        std: standard deviation of the inputs.

    Returns:
        A source of fresh samples.

    Raises:
        ValueError: if the teacher does not fit the unit.

    Example:
        >>> import torch
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> data = gaussian_teacher(PointwiseUnit(sigmoid, 2, 2), torch.zeros(1, 4), std=4.0)
        >>> x, y = data((3,), generator=torch.Generator(), like=torch.zeros(1))
        >>> x.shape, y[0].tolist()
        (torch.Size([3, 2]), [0.5, 0.5])

    References:
        Maass & Fontbona 2024, Section 4 and Appendix F, arXiv 2405.19995v3.
    """
    check_shapes(unit, teacher.new_zeros(1, unit.in_dim), teacher)
    return Fresh(lambda x: unit.mean(x, teacher.to(x)), unit.in_dim, std)


def stream(data: Data | tuple[Tensor, Tensor] | Callable[..., tuple[Tensor, Tensor]]) -> Data:
    """A data source from what a user has.

    Args:
        data: a :class:`Data`, or a pair of arrays ``(s, d)``, ``(s, o)`` to draw mini-batches from.

    Returns:
        A data source.

    Raises:
        TypeError: if it is neither.
        ValueError: if the arrays do not fit or hold NaN.

    Example:
        >>> import torch
        >>> source = stream((torch.arange(6.0).reshape(3, 2), torch.zeros(3, 1)))
        >>> x, y = source((5,), generator=torch.Generator(), like=torch.zeros(1))
        >>> x.shape, y.shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """
    if isinstance(data, tuple):
        return Arrays(*data)
    if not callable(data):
        raise TypeError(f"expected a data source or a pair of tensors (x, y), received {type(data).__name__}")
    return data
