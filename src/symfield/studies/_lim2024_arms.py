"""Arms of the studies on asymmetric networks: how each is built, what is fixed in it, and where its networks begin.

A *group* of networks shares one split of the data, one set of masks and one set of fixed values, and is paired within
itself. Groups are trained side by side in one program, since masks and fixed values are buffers that may be stacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from symfield import random, trees
from symfield.experiments.errors import StudyError
from symfield.studies._lim2024_graphs import Graph, NodeClassifier
from symfield.studies._lim2024_models import KAPPAS, SHARES, ResNet, graph_rules, mlp, resnet20_rules
from symfield.typing import Params, Tensor
from symfield.weightspace import EveryEntry, FiGLU, Rule, asymmetrize, per_root_fan_in

__all__ = ["ARMS", "STANDARD", "W_ASYM", "Arm", "Half", "Shape", "build", "initial"]

STANDARD, W_ASYM = "standard", "W"
RESNET_KAPPA = 2.0
_RESNET8_SHARE, _GRAPH_KAPPA = 0.25, 0.5
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
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


class Shape(NamedTuple):
    """The architecture of all networks of a cell.

    Attributes:
        network: ``"mlp"``, ``"resnet8"``, ``"resnet20"`` or ``"graph"``.
        inputs: features, or channels of images.
        width: of hidden layers, or of the first stage.
        classes: outputs.
        graph: for graph networks.
    """

    network: str
    inputs: int
    width: int
    classes: int
    graph: Graph | None = None


def build(shape: Shape, arm: Arm, seed: int) -> nn.Module:
    """One network of an arm, with fresh weights from torch's global generator.

    Args:
        shape: the architecture.
        arm: which.
        seed: of masks, fixed values and gates.

    Returns:
        The module.

    Raises:
        StudyError: if the arm is not defined for that architecture.
    """
    residual = shape.network.startswith("resnet")
    if shape.network != "mlp" and (arm.half or arm.bias or (arm.gate and not residual)):
        raise StudyError(f"gates, linear activations and fixed biases are not defined for {shape.network}; leave them")

    def activation(layer: int, width: int) -> nn.Module:
        if arm.gate:
            std = 1.0 if arm.gate < 0 else arm.gate * width**-0.5
            name, axis = f"gate.{layer}", 1 if residual else -1
            return FiGLU(width, std=std, seed=seed, name=name, axis=axis, allow_near_linear=True)
        return Half() if arm.half else nn.ReLU() if residual else nn.GELU()

    made: nn.Module
    if residual:
        blocks = 3 if shape.network == "resnet20" else 1
        made = ResNet(
            blocks, width=shape.width // 16, channels=shape.inputs, classes=shape.classes, activation=activation
        )
        published = resnet20_rules(shape.width // 16, kappa=arm.kappa * RESNET_KAPPA) if blocks == 3 else []
        rules = published or [_rule(arm, _RESNET8_SHARE, RESNET_KAPPA, None)]
    elif shape.graph is not None:
        made = NodeClassifier(shape.graph, shape.width)
        rules = [graph_rules(kappa=arm.kappa * _GRAPH_KAPPA)]
    else:
        made = mlp((shape.inputs, *[shape.width] * 3, shape.classes), activation=activation)
        rules = [
            _rule(arm, share, kappa, str(3 * i)) for i, (share, kappa) in enumerate(zip(SHARES, KAPPAS, strict=True))
        ]
    return asymmetrize(made, rules, seed=seed, mode=arm.mode) if arm.mode else made


def _rule(arm: Arm, share: float, kappa: float, modules: str | None) -> Rule:
    scale = 1.0 if arm.kappa < 0 else arm.kappa * kappa
    law = per_root_fan_in(_SYRE) if arm.small else scale
    if arm.every:
        return Rule(fix=1.0, kappa=law, modules=modules, mask=EveryEntry())
    return Rule(fix=arm.fix * share, kappa=law, modules=modules)


def initial(
    shape: Shape, arm: Arm, groups: Mapping[int, Sequence[int]], like: Tensor
) -> tuple[list[nn.Module], Params, dict[str, Tensor | bool]]:
    """The networks of all groups where they begin, stacked.

    Args:
        shape: the architecture.
        arm: which.
        groups: seeds of the networks by seed of the group.
        like: gives dtype and device.

    Returns:
        One module for each group, whose buffers are those of the group; parameters, and buffers that are not the same
        for all, with a leading axis over groups and their networks; and what is trained, where that is not everything.
    """
    made: list[nn.Module] = []
    for seed, members in groups.items():
        for member in members:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(members[0] if arm.shared else member)
                made.append(build(shape, arm, seed).to(like))
    models = made[:: len(next(iter(groups.values())))]
    own = _own_buffers(models)
    tensors = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in made]
    names = [name for name, _ in models[0].named_parameters()] + own
    params = {name: value.detach() for name, value in trees.stack([{n: t[n] for n in names} for t in tensors]).items()}
    biases = _hidden_biases(models[0]) if arm.bias else []
    for name in biases:
        drawn = [
            random.uniform(
                params[name].shape[1:], generator=random.generator(1000 * seed + int(name.split(".")[0])),
                like=params[name], low=-arm.bias, high=arm.bias,
            )
            for seed, members in groups.items()
            for _ in members
        ]  # fmt: skip
        params[name] = torch.stack(drawn)
    return models, params, dict.fromkeys(biases, False)


def _own_buffers(models: Sequence[nn.Module]) -> list[str]:
    """Buffers that differ between groups, and statistics of batch norms, which differ between networks."""
    first, *others = (dict(model.named_buffers()) for model in models)
    statistics = {name for name in first if name.rpartition(".")[2] in _STATISTICS}
    return [n for n in first if n in statistics or any(not torch.equal(first[n], other[n]) for other in others)]


def _hidden_biases(model: nn.Module) -> list[str]:
    """Biases of the linear layers but the last."""
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [f"{path}.bias" for path in paths[:-1]]
