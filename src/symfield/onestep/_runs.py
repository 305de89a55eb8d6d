"""Runs axes of several things that meet in one computation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["broadcast_runs"]


def broadcast_runs(**shapes: Sequence[int]) -> tuple[int, ...]:
    """The runs axes that these broadcast to.

    Args:
        **shapes: runs axes by the name of what has them.

    Returns:
        Their common shape.

    Raises:
        ValueError: if they do not broadcast, naming each.

    Example:
        >>> broadcast_runs(students=(3, 1), teachers=(4,))
        (3, 4)
    """
    try:
        return np.broadcast_shapes(*(tuple(shape) for shape in shapes.values()))
    except ValueError:
        received = ", ".join(f"{tuple(shape)} of the {name}" for name, shape in shapes.items())
        raise ValueError(f"expected runs axes that broadcast, received {received}") from None
