"""Networks of one shape trained side by side: weights ``(seeds, out, in)``, one program for all seeds.

Each seed has its own initial weights and its own order of the samples. Optimisers act entry by entry and the loss is
a sum over the networks, so every network is trained as if it were alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from symfield import random
from symfield.studies._rebasin_data import Task
from symfield.typing import Params, Tensor

__all__ = ["forward", "network", "one_of", "train"]


def network(sizes: Sequence[int]) -> nn.Sequential:
    """The network as a module: linear layers with rectifiers between them.

    Args:
        sizes: of the layers, inputs first.

    Returns:
        The module; layer i is named ``2 i``.
    """
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        modules += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def forward(params: Params, x: Tensor) -> Tensor:
    """Outputs of many networks.

    Args:
        params: ``{2 i}.weight`` of shape ``(s, out, in)`` and ``{2 i}.bias`` of shape ``(s, out)``.
        x: inputs of each network, shape ``(s, b, d)``, or ``(b, d)`` for all.

    Returns:
        Logits, shape ``(s, b, classes)``.
    """
    depth = len(params) // 2
    for layer in range(depth):
        weight, bias = params[f"{2 * layer}.weight"], params[f"{2 * layer}.bias"]
        x = x.expand(len(weight), -1, -1) @ weight.mT + bias.unsqueeze(1)
        x = x.relu() if layer + 1 < depth else x
    return x


def one_of(params: Params, index: int) -> Params:
    """The parameters of one network.

    Args:
        params: of many.
        index: which one.

    Returns:
        Its state dict.
    """
    return {name: value[index].clone() for name, value in params.items()}


def train(
    task: Task, sizes: Sequence[int], seeds: Sequence[int], *, optimiser: str, rate: float, epochs: int, batch: int
) -> Params:
    """Train one network for each seed on the cross-entropy.

    Args:
        task: the data; all networks see the same.
        sizes: of the layers.
        seeds: of the networks: initial weights and order of the samples.
        optimiser: ``"Adam"``, or ``"SGD"`` with momentum 0.9.
        rate: its step, the same throughout.
        epochs: passes over the data.
        batch: samples in a step.

    Returns:
        Parameters of all networks.
    """
    sources = [random.split(random.generator(seed), 2) for seed in seeds]
    params = _initial(sizes, [pair[0] for pair in sources], task.x)
    leaves = list(params.values())
    chosen: torch.optim.Optimizer
    if optimiser == "Adam":
        chosen = torch.optim.Adam(leaves, lr=rate, fused=True)
    else:
        chosen = torch.optim.SGD(leaves, lr=rate, momentum=0.9, fused=True)
    samples = len(task.y)
    for _ in range(epochs):
        orders = torch.stack([torch.randperm(samples, generator=pair[1]) for pair in sources]).to(task.x.device)
        for index in orders.split(batch, dim=1):
            logits = forward(params, task.x[index])
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), task.y[index].flatten(), reduction="sum")
            chosen.zero_grad()
            (losses / index.shape[1]).backward()
            chosen.step()
    return {name: value.detach() for name, value in params.items()}


def _initial(sizes: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Params:
    """Weights and biases uniform within 1/√fan-in, as torch's linear layers start."""
    params: Params = {}
    for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
        bound = 1 / math.sqrt(before)
        for name, shape in ((f"{2 * layer}.weight", (after, before)), (f"{2 * layer}.bias", (after,))):
            draws = [random.uniform(shape, generator=g, like=like, low=-bound, high=bound) for g in generators]
            params[name] = torch.stack(draws).requires_grad_()
    return params
