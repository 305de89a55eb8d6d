"""Many networks of one architecture trained as one program, each as if it were alone.

The parameters of n networks lie side by side: every tensor has a leading axis n. The loss of network i, L_i(θ_i),
depends on its own parameters only, so the gradient of Σ_i L_i is the stack of all gradients, and update rules act entry
by entry: nothing passes from one network to another; the place of a network in the stack changes no more than the
rounding of its numbers. Learning rate, weight decay, label smoothing, number of epochs and order of the samples belong
to each network. A network that has had its epochs stays as it is, and costs nothing more.

An epoch visits all samples of a network in a fresh random order, in batches; the last batch may be smaller. The order
follows from the seed and the number of the epoch, so that training resumed from a :class:`Training` gives the same
parameters, to the last bit, as training that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from symfield import random, trees
from symfield.typing import Float, Int, Params, Tensor
from symfield.weightspace.schedules import Schedule, constant
from symfield.weightspace.training_groups import Group, Runs, prepared
from symfield.weightspace.update_rules import AdamW, Slots, UpdateRule

__all__ = ["PerNetwork", "Training", "initial_many", "outputs_many", "train_many"]

PerNetwork: TypeAlias = float | Sequence[float] | Tensor
"""One number for all networks, or one for each."""


@dataclass(frozen=True)
class Training:
    """Networks and all that is needed to go on training them.

    Attributes:
        params: parameters and running statistics, leading axis n.
        slots: what the update rule remembers.
        epoch: how many epochs have passed.
        losses: mean training loss in each epoch, shape ``(epoch, n)``; NaN once a network has stopped.
    """

    params: Params = field(repr=False)
    slots: Slots = field(repr=False)
    epoch: int
    losses: Float[Tensor, "epoch n"]


def initial_many(build: Callable[[], nn.Module], seeds: Sequence[int]) -> Params:
    """Fresh initial networks side by side: what the modules draw for themselves from torch's global generator.

    The state of that generator is put back afterwards. Running statistics of batch norms are stacked with the
    parameters; other buffers stay with the module and must not depend on the seed.

    Args:
        build: makes a network on the CPU; called once for each seed.
        seeds: of the networks.

    Returns:
        Tensors of shape ``(n, *shape)``.

    Raises:
        ValueError: if there is no seed, or a buffer that stays with the module differs between networks.

    Example:
        >>> params = initial_many(lambda: nn.Linear(3, 2), seeds=[0, 1, 0])
        >>> params["weight"].shape, bool((params["weight"][0] == params["weight"][2]).all())
        (torch.Size([3, 2, 3]), True)
    """
    if not len(seeds):
        raise ValueError("expected at least one seed, received none; pass one for each network")
    found: list[Params] = []
    shared: Params = {}
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build()
        own = _statistics(model)
        buffers = dict(model.named_buffers())
        rest = {name: value for name, value in buffers.items() if name not in own}
        shared = shared or rest
        for name, value in rest.items():
            if not torch.equal(value, shared[name]):
                raise ValueError(
                    f"the buffer {name!r} depends on the seed, but networks trained together share it; draw it from a "
                    "seed of its own"
                )
        params = {name: value.detach() for name, value in model.named_parameters()}
        found.append({**params, **{name: buffers[name] for name in own}})
    return trees.stack(found)


@torch.no_grad()
def outputs_many(
    model: nn.Module, params: Params, x: Tensor, *, together: int | None = None, noise: int | None = None
) -> Float[Tensor, "n ..."]:
    """Outputs of many networks on the same inputs, in eval mode.

    Args:
        model: the architecture; its own parameters do not matter, and it is not changed.
        params: tensors with a leading axis n; buffers that are not among them come from the model.
        x: inputs, shape ``(b, ...)``.
        together: how many networks at once; all when None.
        noise: seed of a generator that the model takes as ``generator=``, for models that draw at random.

    Returns:
        Outputs, shape ``(n, b, ...)``.

    Raises:
        ValueError: if the parameters do not fit the model or each other.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> outputs_many(model, initial_many(lambda: nn.Linear(3, 2), seeds=range(4)), torch.zeros(5, 3)).shape
        torch.Size([4, 5, 2])
    """
    count = _require_params(model, params)
    frozen, shared = prepared(model, params, training=False)

    options = {} if noise is None else {"generator": random.generator(noise, x.device)}

    def one(own: Params) -> Tensor:
        found: Tensor = functional_call(frozen, {**shared, **own}, (x,), options)
        return found

    parts = range(0, count, together or count)
    apply = torch.vmap(one, randomness="error" if noise is None else "different")
    found = [apply({n: v[i : i + (together or count)] for n, v in params.items()}) for i in parts]
    return torch.cat(found)


def train_many(
    model: nn.Module,
    params: Params | Training,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int | Sequence[int] | Tensor,
    batch: int,
    rate: PerNetwork,
    seeds: int | Sequence[int],
    rule: UpdateRule | None = None,
    decay: PerNetwork = 0.0,
    smoothing: PerNetwork = 0.0,
    schedule: Schedule = constant,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    penalty: Callable[[Params], Tensor] | None = None,
    noise: int | None = None,
    samples: Int[Tensor, "n m"] | None = None,
    trainable: Mapping[str, Tensor | bool] | None = None,
    together: int | None = None,
    until: int | None = None,
    after_epoch: Callable[[Training], None] | None = None,
) -> Training:
    """Train many networks of one architecture side by side.

    Args:
        model: the architecture, any module; its own parameters do not matter, and it is not changed. It is run in
            training mode through ``torch.vmap``: its forward must not branch on values.
        params: initial parameters with a leading axis n, see :func:`initial_many`; or the :class:`Training` of an
            earlier call, which goes on as if it had not been interrupted, if all else is the same. Buffers that are not
            among them come from the model, the same for all networks.
        x: inputs, shape ``(samples, ...)``.
        y: targets, shape ``(samples, ...)``; classes as int64 for the default loss.
        epochs: passes over the data, for each network or one number for all.
        batch: samples in a step.
        rate: learning rate.
        seeds: of the order of the samples: one for each network, or a single one for a common order, which is faster.
        rule: how parameters follow the gradient; :class:`AdamW` when None.
        decay: weight decay, as the rule takes it.
        smoothing: label smoothing of the default loss, from 0 to 1.
        schedule: factor of the learning rates over time.
        loss: ``(outputs, targets) -> scalar`` of one network on a batch; the mean cross-entropy when None.
        penalty: of the parameters of one network, by name: a scalar that is added to its loss.
        noise: seed for models that draw at random: in every epoch they get a fresh generator, one for all networks that
            are computed together, as the argument ``generator``.
        samples: which rows of the data each network sees, shape ``(n, m)``; all when None.
        trainable: by the name of a parameter, which of its entries are trained: a bool, or bools of its shape. The
            others keep their value to the last bit. Names that are not listed are trained.
        together: how many networks at once; all when None. Fewer need less memory.
        until: epochs after which to stop for now; schedules still count to ``epochs``.
        after_epoch: called with a copy of the state after each epoch.

    Returns:
        The state at the end. A network that diverged holds what it diverged to, and its losses say so.

    Raises:
        ValueError: if arguments do not fit together; the message names the one.
        NotImplementedError: if the model has active dropout, or batch norms that average over all batches: each network
            would need a source of randomness or a count of its own.

    Example:
        >>> x = torch.linspace(-1, 1, 64)[:, None]
        >>> params = initial_many(lambda: nn.Linear(1, 2), seeds=range(3))
        >>> found = train_many(nn.Linear(1, 2), params, x, (x[:, 0] > 0).long(), epochs=[5, 10, 20], batch=16, rate=0.1,
        ...                    seeds=range(3))
        >>> found.losses.shape, found.losses.isfinite().sum(0).tolist(), bool(found.losses[-1, 2] < found.losses[0, 2])
        (torch.Size([20, 3]), [5, 10, 20], True)
    """
    state = params if isinstance(params, Training) else None
    given = params.params if isinstance(params, Training) else params
    count = _require_params(model, given)
    _require_deterministic(model)
    lengths = _per_network(epochs, "epochs", count, x).round().long()
    runs = Runs(
        model=model, x=x, y=y, batch=batch, rule=AdamW() if rule is None else rule, schedule=schedule, loss=loss,
        penalty=penalty, noise=noise, samples=samples, seeds=seeds, epochs=lengths,
        rate=_per_network(rate, "rate", count, x),
        decay=_per_network(decay, "decay", count, x), smoothing=_per_network(smoothing, "smoothing", count, x),
        masks=_masks(model, trainable or {}), given=given,
    )  # fmt: skip
    runs.check(count)
    whole = {name: value.detach().clone() for name, value in given.items()}
    names = [name for name in runs.trained if name in whole]
    slots = state.slots if state else runs.rule.slots({name: whole[name] for name in names})
    memory: Slots = {slot: {name: value.clone() for name, value in held.items()} for slot, held in slots.items()}
    first, last = state.epoch if state else 0, int(lengths.max())
    last = last if until is None else min(until, last)
    groups = [Group(part, runs, whole, memory, first) for part in torch.arange(count).split(together or count)]
    history = [] if state is None else list(state.losses)
    for epoch in range(first, last):
        losses = torch.full((count,), torch.nan, dtype=torch.float64)
        for group in groups:
            group.retire(epoch)
            if len(group.members):
                losses[group.members] = group.run(epoch)
        history.append(losses)
        if after_epoch is not None:
            for group in groups:
                group.write()
            after_epoch(_snapshot(whole, memory, epoch + 1, history))
    for group in groups:
        group.write()
    return Training(whole, memory, max(first, last), _table(history, count))


def _snapshot(whole: Params, memory: Slots, epoch: int, history: Sequence[Tensor]) -> Training:
    params = {name: value.clone() for name, value in whole.items()}
    slots = {slot: {name: value.clone() for name, value in held.items()} for slot, held in memory.items()}
    return Training(params, slots, epoch, _table(history, len(history[0])))


def _table(history: Sequence[Tensor], count: int) -> Tensor:
    return torch.stack(list(history)) if history else torch.zeros(0, count, dtype=torch.float64)


def _statistics(model: nn.Module) -> list[str]:
    """Names of running statistics of batch norms."""
    return [
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    ]


def _require_params(model: nn.Module, params: Params) -> int:
    known = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    needed = [name for name, _ in model.named_parameters()] + _statistics(model)
    if not needed:
        raise ValueError("expected a model with parameters, received one without any")
    for name in needed:
        if name not in params:
            raise ValueError(
                f"expected {name!r} of all networks, but it is missing; initial_many makes a complete stack"
            )
    for name in params:
        if name not in known:
            raise ValueError(f"expected tensors of the model, received {name!r}, which it does not have")
    counts = {name: len(params[name]) for name in params if params[name].ndim}
    count = counts.get(needed[0], 0)
    for name, value in params.items():
        if tuple(value.shape) != (count, *known[name].shape) or not count:
            raise ValueError(
                f"expected {name!r} of shape (n, {', '.join(map(str, known[name].shape))}) with n = {count} networks "
                f"as in {needed[0]!r}, received {tuple(value.shape)}; stack the networks along a leading axis"
            )
    return count


def _require_deterministic(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, _DropoutNd) and module.p > 0:
            raise NotImplementedError(f"{path or 'the model'} drops units at random; set its p to 0")
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.momentum is None:
            raise NotImplementedError(f"{path or 'the model'} averages over all batches; give it a momentum")


def _per_network(value: PerNetwork, name: str, count: int, like: Tensor) -> Tensor:
    found = torch.as_tensor(value, dtype=torch.float64, device=like.device)
    if found.ndim > 1 or (found.ndim == 1 and len(found) != count):
        raise ValueError(
            f"expected {name} as one number or one for each of {count} networks, received {tuple(found.shape)}"
        )
    return found.expand(count)


def _masks(model: nn.Module, trainable: Mapping[str, Tensor | bool]) -> dict[str, Tensor | bool]:
    known = dict(model.named_parameters())
    found: dict[str, Tensor | bool] = {}
    for name, mask in trainable.items():
        if name not in known:
            raise ValueError(f"trainable names {name!r}, which is no parameter of the model; it has {list(known)}")
        if isinstance(mask, Tensor):
            if mask.dtype != torch.bool or mask.shape != known[name].shape:
                raise ValueError(
                    f"expected bools of shape {tuple(known[name].shape)} for {name!r} in trainable, received "
                    f"{mask.dtype} of shape {tuple(mask.shape)}"
                )
            if not bool(mask.any()):
                found[name] = False
            elif not bool(mask.all()):
                found[name] = mask
        elif not mask:
            found[name] = False
    if all(found.get(name) is False for name in known):
        raise ValueError("trainable leaves nothing to train; mark at least one entry")
    return found
