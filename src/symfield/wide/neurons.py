"""Two-layer ReLU networks as clouds of neurons, any number of runs at once: f(x) = (1/m) Σ_j a_j relu⟨b_j, x⟩."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from symfield import random
from symfield.typing import Float, Generator, Tensor
from symfield.wide.inputs import Inputs

__all__ = ["Neurons", "over_runs", "predict", "require_neurons", "sphere_neurons", "unpack"]

_ENTRIES = 2**22


class Neurons(NamedTuple):
    """A cloud of neurons, each of weight 1/m.

    Attributes:
        a: output weights, ``(*r, m)``.
        b: input weights, ``(*r, m, d)``.
    """

    a: Float[Tensor, "..."]
    b: Float[Tensor, "..."]


def sphere_neurons(m: int, dim: int, *, generator: Generator, like: Tensor, runs: Sequence[int] = ()) -> Neurons:
    """Balanced neurons: b uniform on the unit sphere, a = ±1 with equal probability.

    Args:
        m: number of neurons.
        dim: d.
        generator: source of randomness.
        like: tensor that gives dtype and device.
        runs: leading axes.

    Returns:
        Neurons ``(*runs, m)`` and ``(*runs, m, d)``.

    Raises:
        ValueError: if a size is not positive.

    Example:
        >>> neurons = sphere_neurons(5, 3, generator=random.generator(0), like=torch.zeros(1), runs=(2,))
        >>> neurons.b.shape, neurons.a.abs().unique().tolist()
        (torch.Size([2, 5, 3]), [1.0])
    """
    if m < 1 or dim < 1:
        raise ValueError(f"expected m >= 1 neurons of dimension >= 1, received {m} and {dim}")
    b = random.normal((*runs, m, dim), generator=generator, like=like)
    sign = 2 * random.integers(0, 2, (*runs, m), generator=generator, like=like).to(b) - 1
    return Neurons(sign, b / b.norm(dim=-1, keepdim=True))


def predict(neurons: Neurons, x: Float[Tensor, "*b d"]) -> Float[Tensor, "..."]:
    """f(x) = (1/m) Σ_j a_j relu⟨b_j, x⟩.

    Args:
        neurons: a cloud.
        x: inputs, ``(*b, d)``, the same for all runs.

    Returns:
        Values, ``(*r, *b)``.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> one = Neurons(torch.tensor([2.0]), torch.tensor([[1.0, 1.0]]))
        >>> predict(one, torch.tensor([[1.0, 0.5], [-1.0, 0.0]])).tolist()
        [3.0, 0.0]
    """
    require_neurons(neurons)
    a, b = neurons
    if x.ndim < 1 or x.shape[-1] != b.shape[-1]:
        raise ValueError(f"expected inputs (*b, {b.shape[-1]}), received {tuple(x.shape)}")
    flat = x.reshape(-1, x.shape[-1]).to(b)
    size = max(1, _ENTRIES // a.numel())
    values = [(torch.relu(part @ b.mT) @ a.unsqueeze(-1)).squeeze(-1) for part in flat.split(size)]
    return (torch.cat(values, dim=-1) / a.shape[-1]).reshape(a.shape[:-1] + x.shape[:-1])


def unpack(state: Float[Tensor, "..."]) -> Neurons:
    """Neurons from one tensor of rows (a, b).

    Args:
        state: ``(*r, m, 1 + d)``.

    Returns:
        The neurons.

    Example:
        >>> unpack(torch.tensor([[1.0, 2.0, 3.0]]))
        Neurons(a=tensor([1.]), b=tensor([[2., 3.]]))
    """
    return Neurons(state[..., 0], state[..., 1:])


def over_runs(function: Callable[[Tensor, Tensor], Tensor], neurons: Neurons) -> Float[Tensor, "..."]:
    """Numbers for every run, a few runs at a time, so that pairs of neurons fit into memory.

    Args:
        function: (a, b) of some runs ↦ a tensor whose first axis is these runs.
        neurons: a cloud.

    Returns:
        The numbers, ``(*r, ...)``.

    Example:
        >>> over_runs(lambda a, b: a.sum(-1), Neurons(torch.ones(3, 2), torch.ones(3, 2, 1)))
        tensor([2., 2., 2.])
    """
    *runs, m, dim = neurons.b.shape
    a, b = neurons.a.reshape(-1, m), neurons.b.reshape(-1, m, dim)
    size = max(1, _ENTRIES // m**2)
    parts = [function(*part) for part in zip(a.split(size), b.split(size), strict=True)]
    values = torch.cat(parts)
    return values.reshape([*runs, *values.shape[1:]])


def require_neurons(neurons: object, inputs: Inputs | None = None) -> None:
    """Refuse what is no cloud of neurons.

    Args:
        neurons: a cloud.
        inputs: law of X, whose dimension must fit.

    Raises:
        TypeError: if it is something else, reduced neurons for example.
        ValueError: if shapes or dtypes do not fit, there is no neuron, or something is not finite.

    Example:
        >>> require_neurons(Neurons(torch.ones(2), torch.ones(2, 3)))
    """
    if not isinstance(neurons, Neurons):
        raise TypeError(
            f"expected Neurons(a, b), received {type(neurons).__name__}; lift makes neurons of reduced ones"
        )
    a, b = neurons
    if b.ndim < 2 or a.shape != b.shape[:-1] or b.numel() == 0 or a.dtype != b.dtype or not b.is_floating_point():
        raise ValueError(
            "expected neurons a (*r, m) and b (*r, m, d) of one floating dtype, m >= 1, received "
            f"{tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
        )
    if inputs is not None and inputs.dim != b.shape[-1]:
        raise ValueError(f"expected neurons in R^{inputs.dim} for {inputs!r}, received b of shape {tuple(b.shape)}")
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("expected finite neurons, received NaN or infinity")
