"""Continuous symmetries at one point: how many directions of the parameters leave all outputs as they are.

If a Lie group of dimension s acts freely on the parameters and keeps the function, the Jacobian of the outputs in the
parameters has a kernel of dimension at least s, on any inputs. A Jacobian of full column rank on some inputs excludes
continuous symmetries near that point; it says nothing about discrete ones.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from symfield.typing import Tensor
from symfield.weightspace.tracing import Example, arguments

__all__ = ["JacobianRank", "jacobian_rank"]


@dataclass(frozen=True)
class JacobianRank:
    """The rank of the Jacobian of all outputs in all trainable parameters.

    Attributes:
        rank: number of singular values above the tolerance.
        parameters: number of trainable parameters.
        outputs: number of outputs, over all inputs.
        gap: the smallest singular value that counts over the largest that does not; infinite if all count or the others
            are zero. Where it is small, the rank is uncertain.
        singular_values: float64, largest first.
    """

    rank: int
    parameters: int
    outputs: int
    gap: float
    singular_values: Tensor

    @property
    def kernel(self) -> int:
        """Dimension of the directions that change no output."""
        return self.parameters - self.rank

    @property
    def certain(self) -> bool:
        """Whether the singular values leave a wide gap, and there are enough outputs to tell."""
        return self.gap > 1e3 and self.outputs >= self.parameters


def jacobian_rank(model: nn.Module, inputs: Example, *, tolerance: float = 1e-10) -> JacobianRank:
    """Rank of ∂ outputs / ∂ parameters, computed in float64 by its singular values.

    Args:
        model: any module; it is copied to float64 and put into eval mode.
        inputs: one tensor, a tuple of positional arguments, or a dict of keyword arguments; with so many rows that
            there are more outputs than parameters.
        tolerance: relative to the largest singular value.

    Returns:
        The :class:`JacobianRank`.

    Raises:
        ValueError: if nothing is trainable, or there are more than 20 million entries in the Jacobian.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(60, 4)
        >>> two = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
        >>> found = jacobian_rank(two, x)
        >>> found.rank, found.kernel, found.certain  # four positive scales
        (28, 4, True)
    """
    copied = copy.deepcopy(model).double().eval()
    args, kwargs = arguments(pytree.tree_map(_as_double, inputs))
    trained = {name: p.detach() for name, p in copied.named_parameters() if p.requires_grad and p.numel()}
    if not trained:
        raise ValueError(f"{type(model).__name__} has no trainable parameters")

    def outputs(params: dict[str, Tensor]) -> Tensor:
        result = functional_call(copied, params, args, kwargs)
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        return torch.cat([leaf.reshape(-1) for leaf in leaves])

    with torch.no_grad():
        count = outputs(trained).numel()
    total = sum(p.numel() for p in trained.values())
    if count * total > 20_000_000:
        raise ValueError(
            f"the Jacobian of {count} outputs in {total} parameters is too large; pass fewer inputs or a smaller model"
        )
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batched derivative
        jacobian = jacrev(outputs)(trained)
    matrix = torch.cat([part.detach().reshape(count, -1) for part in jacobian.values()], dim=1)
    values = torch.linalg.svdvals(matrix)
    rank = int((values > tolerance * values[0]).sum()) if float(values[0]) > 0 else 0
    below = float(values[rank]) if rank < len(values) else 0.0
    gap = float("inf") if not rank or below == 0 else float(values[rank - 1]) / below
    return JacobianRank(rank, total, count, gap, values)


def _as_double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
