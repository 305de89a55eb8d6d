"""Losses ℓ(ŷ, y) as values with their gradient in the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from symfield.typing import Float, Tensor

__all__ = ["AutogradLoss", "Loss", "Squared", "half_squared", "loss_of", "squared"]


@runtime_checkable
class Loss(Protocol):
    """A loss of one prediction and one target, with its gradient in the prediction."""

    def __call__(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        """ℓ(ŷ, y) for every example."""

    def gradient(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b o"]:
        """∇₁ℓ(ŷ, y) for every example."""


@dataclass(frozen=True)
class Squared:
    """c‖ŷ − y‖², summed over coordinates.

    Attributes:
        scale: c. The experiments of the paper use 1, its main text ½ (which halves the effective rate).

    References:
        Maass & Fontbona 2024, Section 2.1 and Appendix F, arXiv 2405.19995v3.
    """

    scale: float = 1.0

    def __call__(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        """c‖ŷ − y‖² for every example."""
        return self.scale * (prediction - target).square().sum(-1)

    def gradient(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b o"]:
        """2c(ŷ − y) for every example."""
        return (2 * self.scale) * (prediction - target)


@dataclass(frozen=True)
class AutogradLoss:
    """Any differentiable function of prediction and target; its gradient comes from autograd.

    Attributes:
        function: ``(*b, o), (*b, o) -> (*b)``: a value for every example, not their mean.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        """ℓ(ŷ, y) for every example.

        Raises:
            ValueError: if the function does not give one value for every example.
        """
        values = self.function(prediction, target)
        if values.shape != prediction.shape[:-1]:
            raise ValueError(
                f"expected a loss with one value for every example, shape {tuple(prediction.shape[:-1])} for "
                f"predictions {tuple(prediction.shape)}, received {tuple(values.shape)}; sum over coordinates and do "
                "not average over examples, e.g. (prediction - target).abs().sum(-1)"
            )
        return values

    def gradient(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b o"]:
        """∇₁ℓ(ŷ, y) for every example."""
        with torch.enable_grad():
            leaf = prediction.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(leaf, target).sum(), leaf)
        return gradient


#: ‖ŷ − y‖², the loss of the paper's experiments.
squared = Squared()
#: ½‖ŷ − y‖², the loss of the paper's main text.
half_squared = Squared(0.5)


def loss_of(loss: Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Any loss as a value with a gradient.

    Args:
        loss: a :class:`Loss` (returned as it is) or a function ``(*b, o), (*b, o) -> (*b)``.

    Returns:
        A :class:`Loss`.

    Raises:
        TypeError: if ``loss`` is neither.

    Example:
        >>> l1 = loss_of(lambda prediction, target: (prediction - target).abs().sum(-1))
        >>> l1.gradient(torch.tensor([[2.0]]), torch.tensor([[1.0]])).item()
        1.0
    """
    if isinstance(loss, Loss):
        return loss
    if not callable(loss):
        raise TypeError(f"expected a loss, received {loss!r}; pass squared or a function of (prediction, target)")
    return AutogradLoss(loss)
