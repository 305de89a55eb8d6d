"""What all checks share: which group elements are tried, how a violation is measured, what counts as round-off."""

from __future__ import annotations

from typing import NamedTuple

import torch

from symfield.groups import Group, Representation
from symfield.typing import Generator, Tensor

__all__ = ["Violation", "probes", "require_one_group", "tolerance", "violation"]


class Violation(NamedTuple):
    """The largest violation found and where."""

    error: float
    element: Tensor


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative violation that counts as round-off: ε^(2/3), ε the machine precision.

    Args:
        dtype: a floating dtype.

    Returns:
        4e-11 for float64, 2e-5 for float32, 1e-2 for float16.

    Raises:
        TypeError: if ``dtype`` is not floating.

    Example:
        >>> f"{tolerance(torch.float32):.0e}"
        '2e-05'
    """
    if not dtype.is_floating_point:
        raise TypeError(f"expected a floating dtype, received {dtype}; pass inputs such as x.double()")
    return float(torch.finfo(dtype).eps ** (2 / 3))


def probes(group: Group, samples: int, *, generator: Generator, device: torch.device) -> Tensor:
    """The elements a check tries: all discrete generators, then ``samples`` random elements."""
    if samples < 1:
        raise ValueError(f"expected samples >= 1, received {samples}; each sample is one random group element")
    return torch.cat([group.generators, group.sample(samples, generator=generator).to(group.generators.device)]).to(
        device
    )


def violation(found: Tensor, expected: Tensor, elements: Tensor) -> Violation:
    """Largest ‖found − expected‖ over the first axis and all vectors, relative to the largest ‖expected‖.

    Args:
        found: ``(k, *batch, o)``.
        expected: same shape.
        elements: the k group elements.

    Returns:
        The relative violation (NaN if a NaN occurs) and the element at which it occurs.
    """
    size = torch.linalg.vector_norm(expected.double(), dim=-1).reshape(len(elements), -1).amax(1)
    defect = torch.linalg.vector_norm(found.double() - expected.double(), dim=-1).reshape(len(elements), -1).amax(1)
    worst = int(defect.nan_to_num(nan=torch.inf).argmax())
    scale = float(size.max())
    error = float(defect[worst])
    return Violation(error / scale if scale > 0 else error, elements[worst])


def require_one_group(*reps: Representation) -> Group:
    """The group that all representations share, or an error."""
    group = reps[0].group
    for rep in reps[1:]:
        if rep.group != group:
            raise ValueError(
                f"expected representations of one group, received {reps[0]} of {group} and {rep} of {rep.group}; "
                f"build them from the same group"
            )
    return group
