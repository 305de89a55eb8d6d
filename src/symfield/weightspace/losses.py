"""The loss of a model on data as a function of its parameters: what a curve between models is drawn of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from symfield.typing import Params, Tensor
from symfield.weightspace.agreement import require_complete
from symfield.weightspace.tracing import Example, _quiet, arguments

__all__ = ["ModelMetric", "loss_metric"]


@dataclass(frozen=True)
class ModelMetric:
    """A loss of a model on data as a function of its parameters; made by :func:`loss_metric`.

    Attributes:
        model: run in eval mode, not changed.
        inputs: one tensor, a tuple of positional or a dict of keyword arguments.
        targets: second argument of the loss.
        loss: from outputs and targets to a number, a tensor ``(k,)`` or a dict of numbers.
        batch_size: how many samples at once; all when None.
        together: how many points of a curve at once, through ``torch.vmap``.
    """

    model: nn.Module
    inputs: Example
    targets: Any
    loss: Callable[[Any, Any], Any]
    batch_size: int | None = None
    together: int = 1

    def __call__(self, params: Params) -> Any:
        """The loss of one model.

        Args:
            params: tensors by name, buffers included.

        Returns:
            What the loss returns, averaged over batches by their sizes.

        Raises:
            KeyError: if a tensor is missing or unknown.
        """
        require_complete(self.model, params)
        with torch.no_grad(), _quiet(self.model):
            return self._evaluate(params)

    def several(self, params: Params) -> list[Any]:
        """The loss of several models at once.

        Args:
            params: tensors by name with one leading axis for the models.

        Returns:
            What the loss returns, for each model.

        Raises:
            KeyError: if a tensor is missing or unknown.
        """
        require_complete(self.model, params)
        with torch.no_grad(), _quiet(self.model):
            answers = torch.vmap(self._evaluate)(params)
        n = len(next(iter(params.values())))
        return [pytree.tree_map(lambda value, i=i: value[i], answers) for i in range(n)]

    def _evaluate(self, params: Params) -> Any:
        total: Any = None
        batches = list(_batches((self.inputs, self.targets), self.batch_size))
        samples = sum(size for size, _ in batches)
        for size, (inputs, targets) in batches:
            args, kwargs = arguments(inputs)
            output = torch.func.functional_call(self.model, params, args, kwargs, tie_weights=True)
            part = self.loss(output, targets)
            if len(batches) > 1:
                part = pytree.tree_map(lambda value, share=size / samples: share * value, part)
            total = part if total is None else pytree.tree_map(lambda x, y: x + y, total, part)
        return total


def loss_metric(
    model: nn.Module,
    inputs: Example,
    targets: Any,
    loss: Callable[[Any, Any], Any],
    *,
    batch_size: int | None = None,
    together: int = 1,
) -> ModelMetric:
    """A metric for :func:`curve`: the loss of a model on data, in eval mode and without gradients.

    Args:
        model: the architecture; its own parameters do not matter, and it is not changed.
        inputs: one tensor, a tuple of positional arguments, or a dict of keyword arguments.
        targets: tensor, or whatever the loss takes.
        loss: from outputs and targets to a number, a tensor ``(k,)``, or a dict such as loss and accuracy; a mean over
            samples where there are several batches.
        batch_size: samples at once, along axis 0 of all tensors among inputs and targets.
        together: points of the curve at once through ``torch.vmap``. That serves small models on few samples (three
            times as fast at width 32 on 100 samples) and accelerators; on a CPU and larger models one at a time wins.

    Returns:
        The metric.

    Raises:
        ValueError: if ``batch_size`` or ``together`` is below 1, or tensors differ in their number of samples.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> metric = loss_metric(model, torch.ones(4, 2), torch.zeros(4, 1), nn.functional.mse_loss)
        >>> metric({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}).item()
        4.0
    """
    if (batch_size is not None and batch_size < 1) or together < 1:
        raise ValueError(f"expected at least 1, received batch_size={batch_size}, together={together}")
    sizes = {len(item) for item in pytree.tree_leaves((inputs, targets)) if isinstance(item, Tensor) and item.ndim}
    if batch_size is not None and len(sizes) != 1:
        raise ValueError(f"expected the same number of samples in all tensors, received {sorted(sizes)}")
    arguments(inputs)
    return ModelMetric(model, inputs, targets, loss, batch_size, together)


def _batches(data: Any, size: int | None) -> Iterator[tuple[int, Any]]:
    leaves, spec = pytree.tree_flatten(data)
    if size is None:
        yield 1, data
        return
    n = next(len(item) for item in leaves if isinstance(item, Tensor) and item.ndim)
    for start in range(0, n, size):
        cut = [item[start : start + size] if isinstance(item, Tensor) and item.ndim else item for item in leaves]
        yield min(size, n - start), pytree.tree_unflatten(cut, spec)
