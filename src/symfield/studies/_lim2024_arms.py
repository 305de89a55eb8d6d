"""Arms of the studies on asymmetric networks: how each is built, what is fixed in it, and where its networks begin.

A *group* of networks shares one split of the data, one set of masks and one set of fixed values, and is paired within
itself. Groups are trained side by side in one program, since masks and fixed values are buffers that may be stacked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from symfield import random, trees
from symfield.typing import Params, Tensor
from symfield.weightspace import EveryEntry, FiGLU, Rule, asymmetrize, per_root_fan_in

__all__ = ["ARMS", "BIAS", "STANDARD", "W_ASYM", "Arm", "Half", "build", "initial", "mlp"]

STANDARD, W_ASYM = "standard", "W"
BIAS = "bias"
_SHARES = (0.125, 0.125, 0.125, 0.5)
_KAPPAS = (1.0, 1.0, 0.5, 0.25)
_RESNET_SHARE, _RESNET_KAPPA = 0.25, 2.0
_SYRE = 0.01


@dataclass(frozen=True)
class Arm:
    """What makes an arm differ from standard networks.

    Attributes:
        mode: of :func:`symfield.weightspace.asymmetrize`; none leaves the network as it is.
        fix: factor of the published share of fixed entries.
        kappa: factor of the published κ; a negative number stands for κ = 1 in every layer.
        every: whether all entries are shifted, in the additive mode.
        small: whether κ is 0.01/√fan-in, the scale at which the additive form was proposed.
        gate: scale of the gate of σ-Asym times √d; 0 for GELU or ReLU.
        half: whether activations are x/2.
        bias: hidden biases are fixed uniform numbers within ± this; 0 leaves them trainable.
        shared: whether all networks of a group begin at the same weights.
    """

    mode: Literal["", "exact", "additive", "init_only"] = ""
    fix: float = 1.0
    kappa: float = 1.0
    every: bool = False
    small: bool = False
    gate: float = 0.0
    half: bool = False
    bias: float = 0.0
    shared: bool = False


ARMS: dict[str, Arm] = {
    STANDARD: Arm(),
    W_ASYM: Arm("exact"),
    "W, kappa 0": Arm("exact", kappa=0.0),
    "W, kappa/4": Arm("exact", kappa=0.25),
    "W, kappa/2": Arm("exact", kappa=0.5),
    "W, fix/4": Arm("exact", fix=0.25),
    "W, fix/2": Arm("exact", fix=0.5),
    "W, kappa 1": Arm("exact", kappa=-1.0),
    "additive": Arm("additive", every=True),
    "additive, small": Arm("additive", every=True, small=True),
    "sigma, 1": Arm(gate=-1.0),
    "sigma, 1/sqrt d": Arm(gate=1.0),
    "sigma, .01/sqrt d": Arm(gate=0.01),
    "half": Arm(half=True),
    "bias, 1": Arm(bias=1.0),
    "bias, 9": Arm(bias=9.0),
    "init only": Arm("init_only"),
    "shared init": Arm(shared=True),
}
"""Arms by name. A gate of -1 has standard deviation 1 whatever the width."""


class Half(nn.Module):
    """The activation x/2: a network of these is linear but for its norms."""

    def forward(self, x: Tensor) -> Tensor:
        """Half of the inputs."""
        return x / 2


def mlp(sizes: Sequence[int], activation: Callable[[int, str], nn.Module]) -> nn.Sequential:
    """Linear layers with LayerNorm and an activation between them.

    Args:
        sizes: of the layers, inputs first.
        activation: from width and name of the place to a module.

    Returns:
        The module; linear layer i is named ``3 i``.
    """
    modules: list[nn.Module] = []
    for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
        modules += [nn.Linear(before, after), nn.LayerNorm(after), activation(after, f"gate.{layer}")]
    return nn.Sequential(*modules[:-2])


def build(network: str, sizes: Sequence[int], arm: Arm, seed: int) -> nn.Module:
    """One network of an arm, with fresh weights from torch's global generator.

    Args:
        network: ``"mlp"`` or ``"resnet8"``.
        sizes: of the layers of the perceptron; ``(channels in, width, classes)`` of the ResNet.
        arm: which.
        seed: of masks, fixed values and gates.

    Returns:
        The module.
    """
    convolutional = network == "resnet8"

    def activation(width: int, name: str) -> nn.Module:
        if arm.gate:
            std = 1.0 if arm.gate < 0 else arm.gate * width**-0.5
            return FiGLU(
                width, std=std, seed=seed, name=name, axis=1 if convolutional else -1, allow_near_linear=True
            )
        return Half() if arm.half else nn.ReLU() if convolutional else nn.GELU()

    if convolutional:
        from symfield.studies._lim2024_models import resnet8

        made: nn.Module = resnet8(*sizes, activation=activation)
        rules = [_rule(arm, _RESNET_SHARE, _RESNET_KAPPA, None)]
    else:
        made = mlp(sizes, activation)
        layers = range(len(sizes) - 1)
        table = [(_of(_SHARES, i, len(layers)), _of(_KAPPAS, i, len(layers))) for i in layers]
        rules = [_rule(arm, share, kappa, str(3 * i)) for i, (share, kappa) in enumerate(table)]
    return asymmetrize(made, rules, seed=seed, mode=arm.mode) if arm.mode else made


def _of(values: Sequence[float], layer: int, layers: int) -> float:
    """The published value of a layer: the last is that of the head, and the one before it of the last hidden layer."""
    return values[-1] if layer == layers - 1 else values[min(layer, len(values) - 2)]


def _rule(arm: Arm, share: float, kappa: float, modules: str | None) -> Rule:
    scale = 1.0 if arm.kappa < 0 else arm.kappa * kappa
    law = per_root_fan_in(_SYRE) if arm.small else scale
    if arm.every:
        return Rule(fix=1.0, kappa=law, modules=modules, mask=EveryEntry())
    return Rule(fix=arm.fix * share, kappa=law, modules=modules)


def initial(
    network: str, sizes: Sequence[int], arm: Arm, groups: Mapping[int, Sequence[int]], like: Tensor
) -> tuple[list[nn.Module], Params, dict[str, Tensor | bool]]:
    """The networks of all groups where they begin, stacked.

    Args:
        network: as in :func:`build`.
        sizes: as in :func:`build`.
        arm: which.
        groups: seeds of the networks by seed of the group.
        like: gives dtype and device.

    Returns:
        One module for each group, whose buffers are those of the group; parameters and all buffers with a leading axis
        over groups and their networks; and what is trained, where that is not everything.
    """
    made: list[nn.Module] = []
    for seed, members in groups.items():
        for member in members:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(members[0] if arm.shared else member)
                made.append(build(network, sizes, arm, seed).to(like))
    models = made[:: len(next(iter(groups.values())))]
    params = trees.stack([{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in made])
    params = {name: value.detach() for name, value in params.items()}
    if not arm.bias:
        return models, params, {}
    last = f"{3 * (len(sizes) - 2)}.bias"
    names = [name for name in params if name.endswith(".bias") and int(name.split(".")[0]) % 3 == 0 and name != last]
    for name in names:
        values = [
            random.uniform(
                params[name].shape[1:], generator=random.generator(1000 * seed + int(name.split(".")[0])),
                like=params[name], low=-arm.bias, high=arm.bias,
            )
            for seed, members in groups.items()
            for _ in members
        ]  # fmt: skip
        params[name] = torch.stack(values)
    return models, params, dict.fromkeys(names, False)
