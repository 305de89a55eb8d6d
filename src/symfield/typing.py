"""The words that signatures share: tensor annotations and the types of the functions users pass in.

Axis letters, the same everywhere: ``r`` runs, ``b`` batch, ``n`` particles, ``p`` parameters of a unit, ``m`` frame
or group-sample size, ``d`` inputs, ``o`` outputs, ``k`` group elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

__all__ = ["Bool", "Float", "Generator", "Int", "Map", "Params", "Shaped", "Tensor"]

Generator: TypeAlias = torch.Generator
"""Source of randomness; always passed explicitly."""

Map: TypeAlias = Callable[[Tensor], Tensor]
"""A function between spaces of tensors, ``(*batch, d) -> (*batch, o)``."""

Params: TypeAlias = dict[str, Tensor]
"""Parameters of a model by name."""
