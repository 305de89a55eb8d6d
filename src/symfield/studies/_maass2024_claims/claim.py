"""A statement with a bound, and how far two things are apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from symfield.typing import Tensor

__all__ = ["Claim", "close", "equal", "excess", "holds", "needed", "relative"]

_EXACT = 1e-12
_TINY = 1e-300


@dataclass(frozen=True)
class Claim:
    """A sentence that could be false, and what the number that decides must be.

    Attributes:
        statement: the sentence.
        place: where the paper makes it, or makes the statement it follows from.
        bound: largest accepted |measured − expected|, or least accepted value.
        expected: what the number should be.
        outside: whether this shows the failure of a theorem *outside* its hypotheses: then the number, a violation,
            must be at least the bound.
    """

    statement: str
    place: str
    bound: float
    expected: float = 0.0
    outside: bool = False


def holds(statement: str, where: str, bound: float = _EXACT) -> Claim:
    """A theorem: its violation is at most the bound (round-off of float64 unless said).

    Args:
        statement: the theorem.
        where: its place in the paper.
        bound: largest accepted violation.

    Returns:
        The claim.
    """
    return Claim(statement, where, bound)


def close(statement: str, expected: float, bound: float, where: str) -> Claim:
    """A number that should be near another one.

    Args:
        statement: what the number is.
        expected: what it should be.
        bound: how far it may lie.
        where: the place in the paper.

    Returns:
        The claim.
    """
    return Claim(statement, where, bound, expected)


def needed(statement: str, where: str, bound: float = 1e-3) -> Claim:
    """A hypothesis is needed: without it the violation is at least the bound.

    Args:
        statement: what fails, and outside which hypothesis.
        where: the theorem's place in the paper.
        bound: least violation that counts.

    Returns:
        The claim.
    """
    return Claim(statement, where, bound, outside=True)


def relative(a: Tensor, b: Tensor) -> float:
    """max|a − b| / max(|a|, |b|): zero for equal tensors, and between tensors that vanish.

    Args:
        a: a tensor.
        b: a tensor that broadcasts against it.

    Returns:
        The relative difference.

    Example:
        >>> relative(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        0.5
    """
    scale = max(float(a.abs().max()), float(b.abs().max()), _TINY)
    return float((a - b).abs().max()) / scale


def equal(*tensors: Tensor) -> float:
    """The largest relative difference of the first tensor from the others.

    Args:
        *tensors: at least two.

    Returns:
        The relative difference.
    """
    first, *others = tensors
    return max(relative(first, other) for other in others)


def excess(small: Tensor, large: Tensor) -> float:
    """By how much ``small ≤ large`` is violated, relative to the larger of them; 0 where it holds.

    Args:
        small: what should be smaller, entry by entry.
        large: what should be larger.

    Returns:
        The largest violation.

    Example:
        >>> excess(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 3.0]))
        0.25
    """
    scale = torch.maximum(small.abs(), large.abs()).clamp_min(_TINY)
    return float(((small - large) / scale).clamp_min(0.0).max())
