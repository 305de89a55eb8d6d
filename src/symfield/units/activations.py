"""Scalar nonlinearities σ as values: a name, the function, and its derivative.

The derivative receives the pre-activation *and* the value, because σ' is often cheapest from the value
(logistic: σ' = σ(1 − σ)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from symfield.typing import Tensor

__all__ = ["Activation", "erf", "identity", "relu", "sigmoid", "softplus", "tanh"]


@dataclass(frozen=True)
class Activation:
    """A pointwise function σ: R → R with its derivative.

    Attributes:
        name: how it prints; the fused kernels know ``"sigmoid"``, ``"tanh"``, ``"relu"``, ``"erf"``, ``"identity"``.
        function: x ↦ σ(x), elementwise.
        derivative: (x, σ(x)) ↦ σ'(x), elementwise.

    Example:
        >>> x = torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> sigmoid.derivative(x, sigmoid(x))[0].item()
        0.25
    """

    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """σ(x), elementwise."""
        return self.function(x)

    def __repr__(self) -> str:
        return self.name

    @staticmethod
    def of(function: Activation | Callable[[Tensor], Tensor]) -> Activation:
        """Any elementwise torch function as an activation; its derivative comes from autograd.

        Args:
            function: an :class:`Activation` (returned as it is) or an elementwise function of a tensor.

        Returns:
            An :class:`Activation`.

        Raises:
            TypeError: if ``function`` is not callable.

        Example:
            >>> swish = Activation.of(torch.nn.functional.silu)
            >>> x = torch.zeros(1)
            >>> swish.derivative(x, swish(x)).item()
            0.5
        """
        if isinstance(function, Activation):
            return function
        if not callable(function):
            raise TypeError(f"expected an activation, received {function!r}; pass an elementwise function of a tensor")

        def derivative(x: Tensor, _value: Tensor) -> Tensor:
            with torch.enable_grad():
                inputs = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(function(inputs).sum(), inputs)
            return gradient

        return Activation(getattr(function, "__name__", type(function).__name__), function, derivative)


def _relu_derivative(x: Tensor, _value: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def _softplus_derivative(x: Tensor, _value: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _sigmoid_derivative(_x: Tensor, value: Tensor) -> Tensor:
    return value * (1 - value)


def _tanh_derivative(_x: Tensor, value: Tensor) -> Tensor:
    return 1 - value * value


def _erf_derivative(x: Tensor, _value: Tensor) -> Tensor:
    return (2 / math.sqrt(math.pi)) * torch.exp(-x * x)


def _identity(x: Tensor) -> Tensor:
    return x


def _identity_derivative(x: Tensor, _value: Tensor) -> Tensor:
    return torch.ones_like(x)


#: The logistic function 1/(1 + e^{-x}).
sigmoid = Activation("sigmoid", torch.sigmoid, _sigmoid_derivative)
#: The hyperbolic tangent.
tanh = Activation("tanh", torch.tanh, _tanh_derivative)
#: max(x, 0), with derivative 0 at 0.
relu = Activation("relu", torch.relu, _relu_derivative)
#: The error function (2/√π) ∫₀ˣ e^{-t²} dt.
erf = Activation("erf", torch.erf, _erf_derivative)
#: x itself: linear units.
identity = Activation("identity", _identity, _identity_derivative)
#: log(1 + eˣ).
softplus = Activation("softplus", torch.nn.functional.softplus, _softplus_derivative)
