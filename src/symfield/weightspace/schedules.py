"""Schedules: by which factor learning rates are multiplied over time, for networks with their own numbers of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from symfield.typing import Tensor

__all__ = ["Schedule", "constant", "cosine", "triangular"]

Schedule: TypeAlias = Callable[[float, Tensor], Tensor]
"""Factor of the learning rates: ``(epochs so far, with fractions; epochs of each network) -> (n,)``."""


def constant(epoch: float, epochs: Tensor) -> Tensor:
    """Learning rates as they are.

    Args:
        epoch: epochs so far.
        epochs: of each network, shape ``(n,)``.

    Returns:
        Ones.

    Example:
        >>> constant(3.5, torch.tensor([10, 20])).tolist()
        [1.0, 1.0]
    """
    return torch.ones(epochs.shape, dtype=torch.float64, device=epochs.device)


def triangular(peak: float) -> Schedule:
    """Learning rates that rise from 0 in a straight line, and fall to 0 at the end of each network's training.

    Args:
        peak: epoch with the full rate.

    Returns:
        The schedule.

    Raises:
        ValueError: if the peak is negative.

    Example:
        >>> triangular(5)(7.5, torch.tensor([10, 15])).tolist()
        [0.5, 0.75]
    """
    if peak < 0:
        raise ValueError(f"expected a peak of at least 0 epochs, received {peak}")

    def factor(epoch: float, epochs: Tensor) -> Tensor:
        if epoch < peak:
            return epoch / peak * constant(epoch, epochs)
        return ((epochs.double() - epoch) / (epochs.double() - peak).clamp_min(1e-12)).clamp(0, 1)

    return factor


def cosine(warmup: float = 0.0) -> Schedule:
    """Learning rates that rise in a straight line, then fall to 0 along half a cosine.

    Args:
        warmup: epochs until the full rate.

    Returns:
        The schedule.

    Raises:
        ValueError: if the warm-up is negative.

    Example:
        >>> [round(float(cosine(2)(epoch, torch.tensor([10]))), 3) for epoch in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if warmup < 0:
        raise ValueError(f"expected a warm-up of at least 0 epochs, received {warmup}")

    def factor(epoch: float, epochs: Tensor) -> Tensor:
        if epoch < warmup:
            return epoch / warmup * constant(epoch, epochs)
        share = ((epoch - warmup) / (epochs.double() - warmup).clamp_min(1e-12)).clamp(0, 1)
        return (1 + (math.pi * share).cos()) / 2

    return factor
