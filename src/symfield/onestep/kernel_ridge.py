r"""Kernel ridge regression with the kernel of infinitely many random ReLU features.

Random features relu(⟨w, x⟩ + b)/√p with w ~ N(0, I/d) and b ~ N(0, β²) have, as p → ∞, the kernel

    k(x, z) = E relu(⟨w, x⟩ + b) relu(⟨w, z⟩ + b),

the arc-cosine kernel of the augmented inputs (x/√d, β). Students have w uniform on the unit sphere, which is N(0, I/d)
up to a length that concentrates at one, and b uniform on [−1, 1], for which no closed form is known; β² = 1/3 is the
variance of these biases. β = 0 is the bias-free arc-cosine kernel.

References:
    Cho & Saul 2009, *Kernel methods for deep learning*, NeurIPS 22.
    Wortsman & Loureiro 2025, arXiv 2510.04780: how the sample complexity of kernel ridge regression follows the
    effective dimension under power-law inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from symfield.onestep.ridge import Ridge, check_data, eigenbasis, prepare, solve_dual, squared_error, take
from symfield.typing import Float, Tensor
from symfield.wide import arc_cosine

__all__ = ["Kernel", "KernelRidge", "ReLUKernel", "kernel_ridge"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""A positive definite kernel, ``(*r, n, d), (*r, m, d) -> (*r, n, m)``."""


@dataclass(frozen=True)
class ReLUKernel:
    """The kernel of ReLU features with Gaussian weights N(0, I/d) and Gaussian biases N(0, β²).

    Args:
        bias: β; 1/√3 has the variance of uniform biases on [−1, 1].

    Raises:
        ValueError: if β is negative or not finite.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> ReLUKernel(bias=0.0)(x, x)
        tensor([[0.2500, 0.0796],
                [0.0796, 0.2500]], dtype=torch.float64)
    """

    bias: float = 3**-0.5

    def __post_init__(self) -> None:
        if not (self.bias >= 0 and self.bias < float("inf")):
            raise ValueError(f"expected a finite bias >= 0, received {self.bias}")

    def __call__(self, x: Float[Tensor, "... n d"], z: Float[Tensor, "... m d"]) -> Float[Tensor, "... n m"]:
        """k(x_i, z_j).

        Args:
            x: inputs, ``(*r, n, d)``.
            z: inputs, ``(*r, m, d)``.

        Returns:
            The kernel, ``(*r, n, m)``.
        """
        return arc_cosine(self._augmented(x), self._augmented(z))

    def _augmented(self, x: Tensor) -> Tensor:
        scaled = x / x.shape[-1] ** 0.5
        return scaled if self.bias == 0 else torch.cat([scaled, x.new_full((*x.shape[:-1], 1), self.bias)], dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
class KernelRidge(Ridge):
    """A kernel predictor Σ_i α_i k(x_i, ·) + c; made by :func:`kernel_ridge`; a :class:`Ridge`.

    Attributes:
        x: the training inputs, ``(*r, n, d)``.
        coefficients: α, ``(*r, n)``.
        kernel: k.
    """

    x: Tensor
    coefficients: Tensor
    kernel: Kernel

    def predict(self, x: Float[Tensor, "... m d"]) -> Float[Tensor, "... m"]:
        """Σ_i α_i k(x_i, x) + c.

        Args:
            x: inputs, ``(*r, m, d)``.

        Returns:
            Predictions, ``(*r, m)``.
        """
        values = self.kernel(x.to(self.x), self.x) @ self.coefficients.to(self.x).unsqueeze(-1)
        return values.squeeze(-1) + self.intercept.unsqueeze(-1)


def kernel_ridge(
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    validation: tuple[Tensor, Tensor] | None = None,
    *,
    kernel: Kernel | None = None,
    lambdas: Float[Tensor, "..."] | None = None,
    intercept: bool = True,
) -> KernelRidge:
    """Kernel ridge regression, with λ chosen on held-out data or by leaving one out.

    The dual of :func:`ridge_readout`: (1/n) Σ_i (y_i − f(x_i))² + λ |f|², exact for every λ from one eigendecomposition
    of the kernel matrix in float64 (n = 2000 takes a few seconds on one core).

    Args:
        x: inputs, ``(*r, n, d)``.
        y: targets, ``(*r, n)``.
        validation: inputs ``(*r, v, d)`` and targets ``(*r, v)`` that choose λ; leave-one-out when absent.
        kernel: k; :class:`ReLUKernel` when absent.
        lambdas: candidates, ``(l)`` or ``(*r, l)``; 17 over ten decades around the size of the kernel when absent.
        intercept: whether a constant is added, unpenalised.

    Returns:
        The predictor.

    Raises:
        ValueError: if shapes do not fit, values are not finite, there are fewer than three samples, a λ is not
            positive, or the kernel's values are not a kernel matrix.

    Example:
        >>> from symfield import random
        >>> x = random.normal((300, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> predictor = kernel_ridge(x, x.abs().sum(-1))
        >>> bool((predictor.predict(x[:5]) - x[:5].abs().sum(-1)).abs().max() < 0.1)
        True
    """
    check_data(x, y, validation)
    k = ReLUKernel() if kernel is None else kernel
    inputs, targets = x.detach().double(), y.detach().double()
    gram = k(inputs, inputs)
    n = inputs.shape[-2]
    if gram.shape != (*inputs.shape[:-1], n) or not torch.isfinite(gram).all():
        raise ValueError(
            f"expected a finite kernel of shape {(*inputs.shape[:-1], n)}, received {tuple(gram.shape)} from {k!r}"
        )
    values, vectors = eigenbasis((gram + gram.mT) / 2, intercept)
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    if bool((values.abs().amax(-1) <= 1e-13 * size.abs()).any()):
        raise ValueError(f"the kernel {k!r} does not vary from sample to sample; there is nothing to regress on")
    if bool((values[..., 0] < -1e-6 * values[..., -1]).any()):
        raise ValueError(
            f"expected a positive semi-definite kernel, received one with least eigenvalue {float(values.min()):.3g}"
        )
    fit = prepare(values, targets, lambdas, values.clamp_min(0).sum(-1) / n, intercept)
    dual, left_out = solve_dual(fit, vectors, targets)
    constants = fit.centre.unsqueeze(-1) - ((gram @ dual).mean(-2) if intercept else 0.0)
    constants = constants.expand(fit.lambdas.shape)
    if validation is None:
        errors = left_out.square().mean(-2)
    else:
        errors = squared_error(
            k(validation[0].detach().double(), inputs) @ dual + constants.unsqueeze(-2), validation[1]
        )
    best = errors.argmin(-1, keepdim=True)
    return KernelRidge(
        fit.lambdas.gather(-1, best).squeeze(-1).to(y),
        fit.lambdas.to(y),
        errors.to(y),
        "leave-one-out" if validation is None else "validation",
        constants.gather(-1, best).squeeze(-1).to(y),
        inputs,
        take(dual, best),
        k,
    )
