"""How many singular values are zero: one rule, one error.

Singular values s_1 ≥ s_2 ≥ … are compared with a scale S (the largest of them unless given). Those above ``rtol`` · S
count as non-zero, and the decision is accepted only when no value lies within a factor √``gap`` of that threshold, so
that zero and non-zero values are at least a factor ``gap`` apart.
"""

from __future__ import annotations

import torch

from symfield.typing import Float, Tensor

__all__ = ["AmbiguousRankError", "numerical_rank"]


class AmbiguousRankError(ArithmeticError):
    """The singular values show no clear gap between zero and non-zero, so a dimension cannot be trusted."""


def numerical_rank(
    values: Float[Tensor, " k"], *, scale: float | None = None, rtol: float = 1e-9, gap: float = 1e3
) -> int:
    """Number of non-zero singular values, or an error when it is unclear.

    Args:
        values: singular values in descending order, shape ``(k,)``.
        scale: size that counts as one; the largest value when absent.
        rtol: values up to ``rtol * scale`` count as zero.
        gap: width of the empty interval required around the threshold, as a ratio of its ends.

    Returns:
        The rank.

    Raises:
        AmbiguousRankError: if a value lies in that interval.
        ValueError: if a value is NaN or infinite.

    Example:
        >>> numerical_rank(torch.tensor([2.0, 1.0, 1e-16], dtype=torch.float64))
        2
    """
    if not torch.isfinite(values).all():
        raise ValueError("expected finite singular values, received NaN or infinity; check the matrix they come from")
    if values.numel() == 0:
        return 0
    scale = float(values[0]) if scale is None else scale
    threshold = rtol * scale
    rank = int((values > threshold).sum())
    above = float(values[rank - 1]) if rank else float("inf")
    below = float(values[rank]) if rank < values.numel() else 0.0
    if above < threshold * gap**0.5 or below > threshold / gap**0.5:
        raise AmbiguousRankError(
            f"expected no singular value within a factor {gap**0.5:.1f} of {threshold:.1e} (= rtol {rtol:g} × scale "
            f"{scale:.1e}), received {above:.3e} above it and {below:.3e} below it; give more exact matrices, or set "
            f"rtol between the values that are zero and those that are not"
        )
    return rank
