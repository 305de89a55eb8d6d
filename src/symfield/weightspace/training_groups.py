"""Networks that are trained together: what a call fixes once, and the epochs of one group."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from symfield import random
from symfield.typing import Generator, Params, Tensor
from symfield.weightspace.schedules import Schedule
from symfield.weightspace.update_rules import Slots, UpdateRule

__all__ = ["Group", "Runs", "prepared"]


def prepared(model: nn.Module, params: Params, *, training: bool) -> tuple[nn.Module, Params]:
    """A copy of the module in a mode of its own, and its buffers that all networks share."""
    like = next(iter(params.values()))
    made = copy.deepcopy(model).train(training).to(like.device)
    return made, {name: value for name, value in made.named_buffers() if name not in params}


@dataclass(frozen=True)
class Runs:
    """What stays the same throughout a call."""

    model: nn.Module
    x: Tensor
    y: Tensor
    batch: int
    rule: UpdateRule
    schedule: Schedule
    loss: Callable[[Tensor, Tensor], Tensor] | None
    penalty: Callable[[Params], Tensor] | None
    noise: int | None
    samples: Tensor | None
    seeds: int | Sequence[int]
    epochs: Tensor
    rate: Tensor
    decay: Tensor
    smoothing: Tensor
    masks: dict[str, Tensor | bool]
    given: Params

    @property
    def trained(self) -> list[str]:
        """Names of the parameters with entries that are trained."""
        return [name for name, _ in self.model.named_parameters() if self.masks.get(name) is not False]

    @property
    def size(self) -> int:
        """Samples that a network sees in an epoch."""
        return len(self.y) if self.samples is None else self.samples.shape[1]

    def check(self, count: int) -> None:
        """Refuse what does not fit ``count`` networks."""
        if len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(f"expected as many targets as inputs, at least one, received {len(self.x)}, {len(self.y)}")
        if self.batch < 1:
            raise ValueError(f"expected batch of at least 1, received {self.batch}")
        for name, low, high in (("epochs", 0, math.inf), ("rate", 0, math.inf), ("decay", 0, math.inf)):
            _require_between(name, getattr(self, name), low, high)
        _require_between("smoothing", self.smoothing, 0, 1)
        if not isinstance(self.seeds, int) and len(self.seeds) != count:
            raise ValueError(f"expected one of seeds for each of {count} networks, received {len(self.seeds)}")
        if self.loss is not None and bool(self.smoothing.any()):
            raise ValueError("smoothing belongs to the default loss; with loss= of your own, smooth the labels in it")
        if self.loss is None and self.y.dtype != torch.int64:
            raise ValueError(f"the default loss expects classes as int64, received {self.y.dtype}; pass loss=")
        if self.samples is not None and (
            self.samples.ndim != 2 or len(self.samples) != count or not self.samples.numel()
            or int(self.samples.min()) < 0 or int(self.samples.max()) >= len(self.y)
        ):  # fmt: skip
            raise ValueError(
                f"expected samples of shape ({count}, m) with rows from 0 to {len(self.y) - 1}, received shape "
                f"{tuple(self.samples.shape)}; pass which rows of the data each network sees"
            )


class Group:
    """Networks that are computed together; ``members`` shrinks as they finish."""

    def __init__(self, members: Tensor, runs: Runs, whole: Params, memory: Slots, epoch: int) -> None:
        self.members, self.runs, self.whole, self.memory = members, runs, whole, memory
        self.first = int(members[0])
        self.frozen, self.shared = prepared(runs.model, whole, training=True)
        self.tied = _ties(self.frozen)
        seeds = [runs.seeds] if isinstance(runs.seeds, int) else [runs.seeds[i] for i in members.tolist()]
        self.sources = [random.generator(seed) for seed in seeds]
        for _ in range(epoch):
            self._orders()
        self._read(members)

    def retire(self, epoch: int) -> None:
        """Leave out networks that have had their epochs."""
        stays = (self.runs.epochs.cpu()[self.members] > epoch).nonzero()[:, 0]
        if len(stays) < len(self.members):
            self.write()
            if len(self.sources) == len(self.members) and not isinstance(self.runs.seeds, int):
                self.sources = [self.sources[i] for i in stays.tolist()]
            self.members = self.members[stays]
            self._read(self.members)

    def write(self) -> None:
        """Put parameters and slots where they are kept for all networks."""
        if len(self.members):
            for name, value in {**self.leaves, **self.rest}.items():
                self.whole[name][self.members.to(value.device)] = value.detach()
            for slot, held in self.slots.items():
                for name, value in held.items():
                    self.memory[slot][name][self.members.to(value.device)] = value

    def run(self, epoch: int) -> Tensor:
        """One epoch; the mean loss of each network over it."""
        runs, orders = self.runs, self._orders()
        where = self.members.to(runs.x.device)
        epochs, rate, decay, smoothing = (
            value[where] for value in (runs.epochs, runs.rate, runs.decay, runs.smoothing)
        )  # fmt: skip
        objective = self._objective(bool(smoothing.any()), orders.ndim == 2, self._noise(epoch))
        steps = math.ceil(runs.size / runs.batch)
        total = torch.zeros(len(where), dtype=torch.float64, device=runs.x.device)
        for step, index in enumerate(orders.split(runs.batch, dim=-1)):
            values = objective(self.leaves, self.rest, _rows(runs.x, index), _rows(runs.y, index), smoothing)
            found = torch.autograd.grad(values.sum(), list(self.leaves.values()), allow_unused=True)
            with torch.no_grad():
                total += values.detach() * index.shape[-1]
                factor = runs.schedule(epoch + step / steps, epochs)
                self._advance(found, epoch * steps + step + 1, rate * factor, decay)
        return (total / runs.size).cpu()

    def _advance(self, found: Sequence[Tensor | None], step: int, rate: Tensor, decay: Tensor) -> None:
        masks = {name: mask for name, mask in self.runs.masks.items() if isinstance(mask, Tensor)}
        gradients = {
            name: torch.zeros_like(leaf) if slope is None else slope.where(masks[name], 0) if name in masks else slope
            for (name, leaf), slope in zip(self.leaves.items(), found, strict=True)
        }
        before = {name: self.leaves[name].clone() for name in masks}
        self.runs.rule.advance(self.leaves, gradients, self.slots, step=step, rate=rate, decay=decay)
        for name, mask in masks.items():
            self.leaves[name].copy_(self.leaves[name].where(mask, before[name]))

    def _noise(self, epoch: int) -> Generator | None:
        """A generator for this epoch and group, whatever came before."""
        if self.runs.noise is None:
            return None
        source = random.split(random.generator(self.runs.noise), epoch + 1)[-1]
        return random.generator((source.initial_seed() + self.first) % 2**63, self.runs.x.device)

    def _objective(self, smooth: bool, own_samples: bool, noise: Generator | None) -> Callable[..., Tensor]:
        loss, penalty = self.runs.loss, self.runs.penalty
        options = {} if noise is None else {"generator": noise}

        def one(leaves: Params, rest: Params, x: Tensor, y: Tensor, smoothing: Tensor) -> Tensor:
            held = {**rest, **leaves}
            outputs = functional_call(self.frozen, {**self.shared, **held}, (x,), options, tie_weights=self.tied)
            value = _cross_entropy(outputs, y, smoothing if smooth else None) if loss is None else loss(outputs, y)
            return value if penalty is None else value + penalty(held)

        data = 0 if own_samples else None
        return torch.vmap(one, in_dims=(0, 0, data, data, 0), randomness="error" if noise is None else "different")

    def _orders(self) -> Tensor:
        """Rows of the data in their order for this epoch: ``(n, m)``, or ``(m,)`` where all networks share it."""
        runs = self.runs
        drawn = torch.stack([torch.randperm(runs.size, generator=source) for source in self.sources])
        order = drawn[0] if isinstance(runs.seeds, int) else drawn
        if runs.samples is not None:
            own = runs.samples.cpu()[self.members]
            order = own.gather(1, order.expand(len(own), -1))
        return order.to(runs.x.device)

    def _read(self, members: Tensor) -> None:
        trained = self.runs.trained

        def taken(value: Tensor) -> Tensor:
            return value[members.to(value.device)]  # indexing copies

        self.leaves = {name: taken(self.whole[name]).requires_grad_() for name in trained}
        self.rest = {name: taken(value) for name, value in self.whole.items() if name not in self.leaves}
        self.slots = {slot: {name: taken(value) for name, value in held.items()} for slot, held in self.memory.items()}


def _ties(model: nn.Module) -> bool:
    """Whether a tensor has several names, for which a functional call looks each time unless it is told of none."""
    tensors = [
        tensor
        for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for _, tensor in named
    ]
    return len({id(tensor) for tensor in tensors}) < len(tensors)


def _rows(data: Tensor, index: Tensor) -> Tensor:
    """Rows of the data, ``(*index.shape, *rest)``; indexing by a matrix is several times slower."""
    return data.index_select(0, index.flatten()).reshape(*index.shape, *data.shape[1:])


def _cross_entropy(outputs: Tensor, y: Tensor, smoothing: Tensor | None) -> Tensor:
    logs = outputs.movedim(1, 0).log_softmax(0)  # along a leading axis, which is several times faster
    own = -logs.gather(0, y.unsqueeze(0)).mean()
    return own if smoothing is None else own - smoothing.to(own.dtype) * (logs.mean() + own)


def _require_between(name: str, values: Tensor, low: float, high: float) -> None:
    if not bool(((values >= low) & (values <= high)).all()):
        raise ValueError(f"expected {name} from {low:g} to {high:g}, received {values.tolist()[:5]}")
