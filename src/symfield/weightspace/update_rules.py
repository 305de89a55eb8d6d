"""Update rules of optimisers for many networks at once, each with its own learning rate and weight decay.

The arithmetic is that of ``torch.optim``, entry by entry: a network of the stack is trained as the same class of torch
would train it alone. A rule is a value; what it remembers between steps lies in dicts of tensors, the *slots*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from symfield.typing import Float, Params, Tensor

__all__ = ["SGD", "Adam", "AdamW", "Slots", "UpdateRule"]

Slots = dict[str, Params]
"""What a rule remembers: for each of its slots one tensor for every parameter, shaped like it."""


@runtime_checkable
class UpdateRule(Protocol):
    """How parameters move along a gradient.

    A rule of your own has the two methods below and keeps everything that it remembers in the slots.
    """

    def slots(self, params: Params) -> Slots:
        """What is remembered before the first step.

        Args:
            params: of all networks, leading axis n.

        Returns:
            Tensors like the parameters, for each slot.
        """
        ...

    def advance(
        self,
        params: Params,
        gradients: Mapping[str, Tensor],
        slots: Slots,
        *,
        step: int,
        rate: Float[Tensor, " n"],
        decay: Float[Tensor, " n"],
    ) -> None:
        """Move parameters and slots by one step, in place: both belong to the caller's loop.

        Args:
            params: of all networks, leading axis n.
            gradients: of the loss of each network.
            slots: of this rule.
            step: 1 at the first.
            rate: learning rate of each network.
            decay: weight decay of each network.
        """
        ...


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum, as ``torch.optim.SGD``; weight decay joins the gradient.

    Attributes:
        momentum: factor of the velocity, none at 0.
        nesterov: whether the gradient is taken ahead.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _require_share("momentum", self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ValueError("Nesterov's step needs momentum, received 0; pass momentum=0.9, or nesterov=False")

    def slots(self, params: Params) -> Slots:
        """One velocity, or nothing without momentum."""
        return {"velocity": _zeros(params)} if self.momentum else {}

    def advance(
        self,
        params: Params,
        gradients: Mapping[str, Tensor],
        slots: Slots,
        *,
        step: int,
        rate: Float[Tensor, " n"],
        decay: Float[Tensor, " n"],
    ) -> None:
        """One step in place, see :class:`UpdateRule`."""
        decays = bool(decay.any())
        for name, param in params.items():
            slope = gradients[name]
            if decays:
                slope = torch.addcmul(slope, _per_network(decay, param), param)
            if self.momentum:
                velocity = slots["velocity"][name].mul_(self.momentum).add_(slope)
                slope = slope.add(velocity, alpha=self.momentum) if self.nesterov else velocity
            param.addcmul_(slope, _per_network(-rate, param))


@dataclass(frozen=True)
class Adam:
    """Adam, as ``torch.optim.Adam``; weight decay joins the gradient.

    Attributes:
        betas: factors of the running means of the gradient and of its square.
        eps: added to the root of the second.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    _fused: ClassVar[Callable[..., None]] = staticmethod(adam)

    def __post_init__(self) -> None:
        for value in self.betas:
            _require_share("each of betas", value)

    def slots(self, params: Params) -> Slots:
        """Running means of the gradient and of its square."""
        return {"mean": _zeros(params), "square": _zeros(params)}

    def advance(
        self,
        params: Params,
        gradients: Mapping[str, Tensor],
        slots: Slots,
        *,
        step: int,
        rate: Float[Tensor, " n"],
        decay: Float[Tensor, " n"],
    ) -> None:
        """One step in place, see :class:`UpdateRule`; in one pass over memory where networks share their rates."""
        rates, decays = set(rate.tolist()), set(decay.tolist())
        if len(rates) == len(decays) == 1 and _may_be_fused(params, *slots.values()):
            self._by_torch(params, gradients, slots, step, rates.pop(), decays.pop())
        else:
            self._descend(params, self._decayed(params, gradients, rate, decay), slots, step, rate)

    def _by_torch(
        self, params: Params, gradients: Mapping[str, Tensor], slots: Slots, step: int, rate: float, decay: float
    ) -> None:
        first, second = self.betas
        like = next(iter(params.values()))
        passed = torch.full((len(params),), step - 1.0, dtype=torch.float32, device=like.device)
        self._fused(
            list(params.values()),
            [gradients[name].contiguous() for name in params],
            [slots["mean"][name] for name in params],
            [slots["square"][name] for name in params],
            [],
            list(passed.unbind()),
            foreach=False, fused=True, amsgrad=False, maximize=False,
            beta1=first, beta2=second, lr=rate, weight_decay=decay, eps=self.eps,
        )  # fmt: skip

    def _decayed(
        self, params: Params, gradients: Mapping[str, Tensor], rate: Tensor, decay: Tensor
    ) -> Mapping[str, Tensor]:
        """The gradients to follow, after what decay does to them or to the parameters."""
        if not bool(decay.any()):
            return gradients
        return {n: torch.addcmul(gradients[n], _per_network(decay, p), p) for n, p in params.items()}

    def _descend(self, params: Params, gradients: Mapping[str, Tensor], slots: Slots, step: int, rate: Tensor) -> None:
        first, second = self.betas
        unbiased, root = 1 - first**step, math.sqrt(1 - second**step)
        for name, param in params.items():
            slope = gradients[name]
            mean = slots["mean"][name].lerp_(slope, 1 - first)
            square = slots["square"][name].mul_(second).addcmul_(slope, slope, value=1 - second)
            scale = square.sqrt().div_(root).add_(self.eps)
            param.addcmul_(torch.div(mean, scale, out=scale), _per_network(rate / -unbiased, param))


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``: parameters shrink by rate × decay in each step."""

    _fused: ClassVar[Callable[..., None]] = staticmethod(adamw)

    def _decayed(
        self, params: Params, gradients: Mapping[str, Tensor], rate: Tensor, decay: Tensor
    ) -> Mapping[str, Tensor]:
        if bool(decay.any()):
            for param in params.values():
                param.mul_(_per_network(1 - rate * decay, param))
        return gradients


def _may_be_fused(*held: Params) -> bool:
    """Whether torch's one pass serves these tensors: reals without gaps, on one device that has it."""
    tensors = [tensor for tensors in held for tensor in tensors.values()]
    devices = {tensor.device for tensor in tensors}
    return (
        len(devices) == 1
        and devices.pop().type in ("cpu", "cuda")
        and all(tensor.is_floating_point() and tensor.is_contiguous() for tensor in tensors)
    )


def _require_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"expected {name} in [0, 1), received {value}")


def _zeros(params: Params) -> Params:
    return {name: torch.zeros_like(value) for name, value in params.items()}


def _per_network(values: Tensor, param: Tensor) -> Tensor:
    """Shape ``(n, 1, …, 1)`` and the dtype of the parameter."""
    return values.to(param).reshape(-1, *(1,) * (param.ndim - 1))
