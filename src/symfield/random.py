"""Random draws with an explicit source, moved to where they are used.

Every function takes ``generator=`` (keyword only, required). Numbers are drawn on the generator's own device and then
moved to ``like``'s device and dtype, so a CPU generator gives the same numbers to a CPU and to a GPU run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from symfield.typing import Generator, Tensor

__all__ = ["generator", "integers", "normal", "split", "uniform"]

_MAX_SEED = 2**63 - 1


def generator(seed: int, device: torch.device | str = "cpu") -> Generator:
    """A fresh generator with a seed.

    Args:
        seed: any non-negative integer below 2**63.
        device: where the numbers are drawn.

    Returns:
        A ``torch.Generator``.

    Raises:
        ValueError: if ``seed`` is negative or too large.

    Example:
        >>> int(integers(0, 10, (1,), generator=generator(0)))
        4
    """
    if not 0 <= seed <= _MAX_SEED:
        raise ValueError(f"seed must lie in [0, 2**63), got {seed}; pass a non-negative integer")
    return torch.Generator(device=device).manual_seed(seed)


def normal(shape: Sequence[int], *, generator: Generator, like: Tensor, std: float = 1.0) -> Tensor:
    """Independent centred Gaussians N(0, std²).

    Args:
        shape: shape of the result.
        generator: source of randomness.
        like: tensor that gives dtype and device.
        std: standard deviation.

    Returns:
        A tensor of that shape.

    Example:
        >>> normal((2, 3), generator=generator(0), like=torch.zeros(1, dtype=torch.float64)).shape
        torch.Size([2, 3])
    """
    draw = torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return (draw if std == 1.0 else draw.mul_(std)).to(like.device)


def uniform(shape: Sequence[int], *, generator: Generator, like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Independent uniform numbers on [low, high).

    Args:
        shape: shape of the result.
        generator: source of randomness.
        like: tensor that gives dtype and device.
        low: lower end.
        high: upper end.

    Returns:
        A tensor of that shape.

    Example:
        >>> x = uniform((1000,), generator=generator(0), like=torch.zeros(1), low=-1.0)
        >>> bool((x.abs() <= 1).all())
        True
    """
    draw = torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return (low + (high - low) * draw).to(like.device)


def integers(low: int, high: int, shape: Sequence[int], *, generator: Generator, like: Tensor | None = None) -> Tensor:
    """Independent uniform integers in [low, high).

    Args:
        low: smallest value.
        high: one past the largest value.
        shape: shape of the result.
        generator: source of randomness.
        like: tensor that gives the device (the dtype is int64); the generator's device when absent.

    Returns:
        An int64 tensor of that shape.

    Example:
        >>> integers(0, 2, (4,), generator=generator(0)).tolist()
        [0, 1, 1, 0]
    """
    draw = torch.randint(low, high, tuple(shape), generator=generator, device=generator.device)
    return draw if like is None else draw.to(like.device)


def split(generator: Generator, n: int) -> list[Generator]:
    """Independent streams out of one: seeds for ``n`` new generators are drawn from ``generator``.

    Use it to keep, say, data and noise apart, so that drawing more of one leaves the other as it was.

    Args:
        generator: the parent, advanced by ``n`` draws.
        n: number of children.

    Returns:
        ``n`` generators on the parent's device.

    Example:
        >>> data, noise = split(generator(0), 2)
        >>> data.initial_seed() != noise.initial_seed()
        True
    """
    seeds = torch.randint(0, _MAX_SEED, (n,), generator=generator, device=generator.device).tolist()
    return [torch.Generator(device=generator.device).manual_seed(seed) for seed in seeds]
