"""Predictions from draws of a posterior, and whether their confidence is deserved.

References:
    Naeini, Cooper & Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning. Guo, Pleiss, Sun &
    Weinberger 2017, On calibration of modern neural networks, Eq. 3, arXiv 1706.04599.
"""

from __future__ import annotations

import math

import torch

from symfield.typing import Float, Int, Tensor

__all__ = ["calibration_error", "log_mean_probability"]


def log_mean_probability(logits: Float[Tensor, "s *b c"]) -> Float[Tensor, "*b c"]:
    """Logarithm of the mean probability of each class over draws.

    Args:
        logits: of every draw, shape ``(s, *b, c)``.

    Returns:
        Log-probabilities, shape ``(*b, c)``.

    Example:
        >>> sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
        >>> log_mean_probability(sure[:, None]).exp()
        tensor([[0.5000, 0.5000]])
    """
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


def calibration_error(logs: Float[Tensor, "b c"], y: Int[Tensor, " n"], *, bins: int = 15) -> float:
    """Expected calibration error: |accuracy − confidence| in bins of equal width, weighted by their share of samples.

    Args:
        logs: log-probabilities, or logits, of each sample.
        y: classes.
        bins: of the confidence, from 0 to 1; each contains its upper end.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: if there are no bins, no samples, or not a class for each sample.

    Example:
        >>> round(calibration_error(torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0, 1])), 6)
        0.4
    """
    if bins < 1 or not len(y) or len(logs) != len(y):
        raise ValueError(f"expected bins and a class for each sample, received {bins} bins, {len(logs)} and {len(y)}")
    confidence, chosen = logs.double().softmax(-1).max(-1)
    right = (chosen == y).double()
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=logs.device).index_add(0, which, right - confidence)
    return float(gap.abs().sum() / len(y))
