"""Decoders of several seeds trained as one tensor program, and their losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from symfield import random
from symfield.studies._theus2025_models import Decoder, Shape, initial
from symfield.trees import stack
from symfield.typing import Float, Int, Params, Tensor

__all__ = ["losses", "train"]


def losses(params: Params, shape: Shape, tokens: Int[Tensor, "..."]) -> Float[Tensor, " models"]:
    """Mean cross-entropy of the next token, of every model; differentiable.

    Args:
        params: tensors with a leading axis over models.
        shape: of the decoders.
        tokens: sequences ``(batch, time)`` for all models, or ``(models, batch, time)``.

    Returns:
        In nats.
    """
    model = Decoder(shape).to("meta")

    def one(own: Params, batch: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, own, (batch[:, :-1],))
        return functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    return torch.func.vmap(one, in_dims=(0, None if tokens.ndim == 2 else 0))(params, tokens)


def train(
    shape: Shape,
    data: Int[Tensor, "..."],
    *,
    seeds: Sequence[int],
    steps: int,
    batch: int,
    rate: float,
    dtype: torch.dtype = torch.float32,
) -> Params:
    """Adam on batches of the data; each seed has its own initial parameters and its own batches.

    Args:
        shape: of the decoders.
        data: sequences, shape ``(count, time)``.
        seeds: one model each.
        steps: of Adam, with a warm-up of a twentieth and a cosine to zero.
        batch: sequences in a step.
        rate: largest learning rate.
        dtype: precision.

    Returns:
        Parameters with a leading axis over seeds.

    Raises:
        FloatingPointError: if the loss of a model is not finite.
    """
    generators = [random.generator(seed) for seed in seeds]
    params = stack([initial(shape, generator=generator) for generator in generators])
    leaves = {name: value.to(data.device, dtype).requires_grad_() for name, value in params.items()}
    optimizer = torch.optim.Adam(list(leaves.values()), lr=rate, betas=(0.9, 0.99), fused=True)
    warm = max(1, steps // 20)
    value = torch.zeros(len(seeds))
    for step in range(steps):
        turn = math.pi * max(0, step - warm) / max(1, steps - warm)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(turn))
        places = torch.stack([torch.randint(len(data), (batch,), generator=g) for g in generators])
        optimizer.zero_grad()
        value = losses(leaves, shape, data[places.to(data.device)])
        value.sum().backward()
        optimizer.step()
    if not bool(torch.isfinite(value).all()):
        raise FloatingPointError(f"training diverged: losses {value.tolist()}; lower the learning rate")
    return {name: leaf.detach() for name, leaf in leaves.items()}
