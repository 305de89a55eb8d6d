r"""Where a target looks: aligned with the variance, in its tail, anywhere, or in directions of your own.

Directions are unit vectors w*_i whose coordinates are uncorrelated, w*_iᵀ S w*_j = 0.
"""

from __future__ import annotations

import torch

from symfield import random
from symfield.onestep.covariances import Covariance
from symfield.typing import Float, Generator, Tensor

__all__ = ["aligned", "decorrelated", "random_directions", "tail"]


def aligned(covariance: Covariance, k: int = 1) -> Float[Tensor, "k d"]:
    """The k leading eigenvectors: a teacher where the variance is.

    Args:
        covariance: S.
        k: how many.

    Returns:
        Directions ``(k, d)``.

    Raises:
        ValueError: if k exceeds d or is not positive.

    Example:
        >>> from symfield.onestep import PowerLaw
        >>> aligned(PowerLaw(3, 1.0)).tolist()
        [[1.0, 0.0, 0.0]]
    """
    _require_count(k, covariance)
    return _eigenvectors(covariance, range(k))


def tail(covariance: Covariance, k: int = 1) -> Float[Tensor, "k d"]:
    """The k last eigenvectors: a teacher where there is least variance.

    Args:
        covariance: S.
        k: how many.

    Returns:
        Directions ``(k, d)``.

    Raises:
        ValueError: if k exceeds d or is not positive.

    Example:
        >>> from symfield.onestep import PowerLaw
        >>> tail(PowerLaw(3, 1.0)).tolist()
        [[0.0, 0.0, 1.0]]
    """
    _require_count(k, covariance)
    return _eigenvectors(covariance, range(covariance.dim - k, covariance.dim))


def random_directions(
    covariance: Covariance, k: int = 1, *, runs: tuple[int, ...] = (), generator: Generator
) -> Float[Tensor, "*r k d"]:
    """Uniform directions, made uncorrelated where there are several.

    Args:
        covariance: S.
        k: how many.
        runs: shape *r of independent teachers.
        generator: source of randomness.

    Returns:
        Directions ``(*r, k, d)``; the first of each run is uniform on the sphere.

    Raises:
        ValueError: if k exceeds d or is not positive.

    Example:
        >>> from symfield.onestep import PowerLaw
        >>> random_directions(PowerLaw(8, 1.0), 2, runs=(5,), generator=random.generator(0)).shape
        torch.Size([5, 2, 8])
    """
    _require_count(k, covariance)
    like = torch.zeros((), dtype=torch.float64)
    w = random.normal((*runs, k, covariance.dim), generator=generator, like=like)
    return decorrelated(w, covariance)


def decorrelated(w: Float[Tensor, "..."], covariance: Covariance) -> Float[Tensor, "..."]:
    """Directions with uncorrelated coordinates, by Gram–Schmidt in the inner product ⟨v, w⟩_S = vᵀ S w.

    Args:
        w: directions, ``(*r, k, d)``; the first one keeps its line.
        covariance: S.

    Returns:
        Unit vectors, float64 ``(*r, k, d)``.

    Raises:
        ValueError: if they are linearly dependent where inputs have variance, or of another dimension.

    Example:
        >>> from symfield.onestep import PowerLaw
        >>> S = PowerLaw(3, 1.0)
        >>> w = decorrelated(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), S)
        >>> abs(float(w[0] @ S.power(w[1]))) < 1e-12
        True
    """
    if w.ndim < 2 or w.shape[-1] != covariance.dim:
        raise ValueError(f"expected directions (*r, k, {covariance.dim}), received {tuple(w.shape)}")
    found: list[Tensor] = []
    for direction in w.detach().double().unbind(-2):
        before = (direction * covariance.power(direction)).sum(-1)
        rest = direction
        for _ in range(2):  # twice is enough against round-off
            for other in found:
                image = covariance.power(other)
                share = (rest * image).sum(-1) / (other * image).sum(-1)
                rest = rest - share.unsqueeze(-1) * other
        after = (rest * covariance.power(rest)).sum(-1)
        if not bool((after > 1e-12 * before).all()):
            raise ValueError("expected linearly independent directions with variance, received dependent ones")
        found.append(rest / rest.norm(dim=-1, keepdim=True))
    return torch.stack(found, dim=-2)


def _eigenvectors(covariance: Covariance, places: range) -> Tensor:
    coordinates = torch.zeros(len(places), covariance.dim, dtype=torch.float64)
    coordinates[torch.arange(len(places)), torch.tensor(places)] = 1
    return covariance.from_eigenbasis(coordinates)


def _require_count(k: int, covariance: Covariance) -> None:
    if not 1 <= k <= covariance.dim:
        raise ValueError(f"expected 1 to {covariance.dim} directions, received {k}")
