"""Which linear maps pass through a nonlinearity: permutations, scales and signs, measured; exactly for a gate.

A symmetry of two layers comes from a pair of linear maps with σ ∘ A = B ∘ σ. Elementwise nonlinearities have the pairs
(P, P) for all permutations P; ReLU has (D, D) for positive diagonal D as well, odd ones have signs.

For the gate σ_F(x) = sigmoid(F x) ⊙ x without zero entries in F, permutations must satisfy P₁ = P₂ = P with
Pᵀ F P = F, and diagonal pairs are trivial. So the claim about a given F is a finite one: that no permutation other than
the identity leaves it unchanged, which holds if no two rows hold the same numbers.

References:
    Lim et al. 2024, Theorem on FiGLU, arXiv 2405.20231. Godfrey et al. 2022, On the symmetries of deep learning models
    and their internal representations, arXiv 2205.14258 (intertwiner groups).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from symfield import random
from symfield.typing import Float, Generator, Tensor

__all__ = ["Equivariances", "activation_equivariances", "gate_is_rigid"]


@dataclass(frozen=True)
class Equivariances:
    """How far a nonlinearity is from commuting with three kinds of linear maps.

    Attributes:
        permutation: smallest max |σ(P x) − P σ(x)| over the permutations tried, none of them the identity.
        scale: the same over positive diagonal maps.
        sign: the same over diagonal maps of signs.
        pairs: smallest max |σ(P₁ x) − P₂ σ(x)| over independent pairs of permutations.
    """

    permutation: float
    scale: float
    sign: float
    pairs: float


@torch.no_grad()
def activation_equivariances(
    activation: Callable[[Tensor], Tensor],
    size: int,
    *,
    generator: Generator,
    trials: int = 100,
    samples: int = 64,
) -> Equivariances:
    """Measure how far a nonlinearity is from commuting with permutations, positive scales and signs.

    Zero, up to round-off, says that it commutes with at least one of the maps that were tried. A positive number is
    evidence about the maps that were tried, no proof about others.

    Args:
        activation: σ, from ``(samples, d)`` to the same shape, in float64.
        size: d, number of units, at least 2.
        generator: source of maps and inputs.
        trials: maps of each kind.
        samples: normal inputs, half of them of variance 1, the others larger by up to 100, where bounds begin to bind.

    Returns:
        The violations.

    Raises:
        ValueError: if there are fewer than two units, or the nonlinearity changes the shape.

    Example:
        >>> from symfield import random
        >>> found = activation_equivariances(torch.relu, 8, generator=random.generator(0))
        >>> found.permutation, found.scale < 1e-12, found.sign > 1e-3
        (0.0, True, True)
    """
    if size < 2:
        raise ValueError(f"expected at least two units, received {size}")
    like = torch.zeros((), dtype=torch.float64)
    x = random.normal((samples, size), generator=generator, like=like)
    x = x * torch.logspace(-2, 2, samples, dtype=torch.float64).clamp_min(1)[:, None]
    y = activation(x)
    if y.shape != x.shape:
        raise ValueError(f"expected a nonlinearity that keeps the shape {tuple(x.shape)}, received {tuple(y.shape)}")
    found: dict[str, list[float]] = {"permutation": [], "scale": [], "sign": [], "pairs": []}
    for _ in range(trials):
        one, two = (_moving(size, generator) for _ in range(2))
        scale = random.uniform((size,), generator=generator, like=like, low=0.5, high=2.0)
        sign = random.integers(0, 2, (size,), generator=generator).double() * 2 - 1
        sign[0], sign[1] = -1.0, 1.0
        found["permutation"].append(_largest(activation(x[:, one]) - y[:, one]))
        found["pairs"].append(_largest(activation(x[:, one]) - y[:, two]))
        found["scale"].append(_largest(activation(x * scale) - y * scale))
        found["sign"].append(_largest(activation(x * sign) - y * sign))
    return Equivariances(**{kind: min(values) for kind, values in found.items()})


def _moving(size: int, generator: Generator) -> Tensor:
    """A random permutation that is not the identity."""
    while True:
        order = torch.randperm(size, generator=generator)
        if not torch.equal(order, torch.arange(size)):
            return order


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def gate_is_rigid(values: Float[Tensor, "..."]) -> tuple[bool | None, str]:
    """Whether the gate of a given F commutes with no permutation and no invertible diagonal map but the identity.

    Checked exactly on the numbers of F, in the sense of the module's docstring.

    Args:
        values: F.

    Returns:
        True, False, or None where the check does not decide, and the reason in words.

    Raises:
        ValueError: if F is not a square matrix.

    Example:
        >>> gate_is_rigid(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        (True, 'F has no zero entry, and no two of its rows hold the same numbers')
        >>> gate_is_rigid(torch.ones(2, 2))[0] is None
        True
    """
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"expected a square matrix F, received shape {tuple(values.shape)}")
    if bool((values == 0).any()):
        return None, "F has zero entries, where the theorem says nothing"
    rows = values.detach().double().sort(1).values
    if len(rows.unique(dim=0)) == len(rows):
        return True, "F has no zero entry, and no two of its rows hold the same numbers"
    return None, "two rows of F hold the same numbers, and may be exchangeable"
