"""The architectures of Lim et al. (2024) and the rules by which they fix entries, written once for all studies.

Counts (total, trainable) agree with the paper, but for the ResNet of width 1, where 230 024 is printed and the
architecture has 230 026 trainable entries. The first convolutions of the wide ResNet and of the small one of the zoo
are fixed as a whole in the published code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from symfield.typing import Tensor
from symfield.weightspace import Place, RandomFilters, Rule

__all__ = ["GraphNetwork", "ResNet", "graph_rules", "mlp", "mlp_rules", "resnet8_rules", "resnet20_rules"]

KAPPAS = (1.0, 1.0, 0.5, 0.25)
"""κ of the four layers of the MLP."""

SHARES = (0.125, 0.125, 0.125, 0.5)
"""Fixed share of their rows, where 64 of 784 entries of the first layer are published."""


def mlp(
    sizes: Sequence[int], *, activation: Callable[[int, int], nn.Module] | None = None, norm: bool = True
) -> nn.Sequential:
    """Linear layers, each but the last followed by layer norm and an activation.

    Args:
        sizes: of inputs, hidden layers and outputs.
        activation: from the number of a layer and its width to a module; GELU when absent.
        norm: whether there are layer norms.

    Returns:
        The network; its linear layers are ``0``, ``3``, ``6``, ..., with norms.
    """
    made: list[nn.Module] = []
    for i, (d, o) in enumerate(itertools.pairwise(sizes)):
        made.append(nn.Linear(d, o))
        if i < len(sizes) - 2:
            made += [nn.LayerNorm(o)] if norm else []
            made.append(nn.GELU() if activation is None else activation(i, o))
    return nn.Sequential(*made)


def nth(position: int) -> Callable[[Place], bool]:
    """A choice of one weight by its position in the model.

    Args:
        position: from 0.

    Returns:
        A function of a place.
    """
    return lambda place: place.position == position


def mlp_rules(
    fix: Sequence[int | float] = (64, 64, 64, 256), kappa: Sequence[float] = KAPPAS, *, scale: float = 1.0
) -> list[Rule]:
    """One rule for each layer of an MLP; as published for 784-512-512-512-10.

    Args:
        fix: fixed entries of every unit, by layer; shares for other widths.
        kappa: κ by layer.
        scale: a factor of all κ.

    Returns:
        The rules.
    """
    return [Rule(fix=n, kappa=scale * k, modules=nth(i)) for i, (n, k) in enumerate(zip(fix, kappa, strict=True))]


class _Block(nn.Module):
    """Two convolutions with norms, and a skip: the identity, or a 1 × 1 convolution with a norm."""

    def __init__(self, d: int, o: int, stride: int, inner: nn.Module, outer: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(d, o, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(1, o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(1, o)
        self.inner, self.outer = inner, outer
        changes = stride != 1 or d != o
        self.skip: nn.Module = (
            nn.Sequential(nn.Conv2d(d, o, 1, stride, bias=False), nn.GroupNorm(1, o)) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(self.norm1(self.conv1(x)))
        out: Tensor = self.outer(self.norm2(self.conv2(hidden)) + self.skip(x))
        return out


class ResNet(nn.Module):
    """A residual network for small images, with group norms of one group.

    Args:
        blocks: in each of three stages; 3 makes ResNet20, 1 makes ResNet8.
        width: factor of the channels 16, 32, 64.
        channels: of the images.
        classes: outputs.
        activation: from the number of an activation and its channels to a module; ReLU when absent.
    """

    def __init__(
        self,
        blocks: int,
        *,
        width: int = 1,
        channels: int = 3,
        classes: int = 10,
        activation: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        numbers = itertools.count()

        def act(o: int) -> nn.Module:
            return nn.ReLU() if activation is None else activation(next(numbers), o)

        sizes = [16 * width, 32 * width, 64 * width]
        self.conv = nn.Conv2d(channels, sizes[0], 3, 1, 1, bias=False)
        self.norm = nn.GroupNorm(1, sizes[0])
        self.activation = act(sizes[0])
        self.stages = nn.Sequential()
        d = sizes[0]
        for i, o in enumerate(sizes):
            stage = [_Block(d if j == 0 else o, o, 2 if i and j == 0 else 1, act(o), act(o)) for j in range(blocks)]
            self.stages.append(nn.Sequential(*stage))
            d = o
        self.linear = nn.Linear(d, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        hidden = self.stages(self.activation(self.norm(self.conv(x))))
        return self.linear(hidden.mean((2, 3)))


def resnet20_rules(width: int = 1, *, kappa: float = 2.0) -> list[Rule]:
    """The published rules of ResNet20 at width 1 and 8.

    Args:
        width: 1 or 8.
        kappa: κ of all layers.

    Returns:
        The rules.

    Raises:
        KeyError: at another width.
    """
    first, stages, skips, last = {
        1: (12, (36, 54, 72), (4, 6, 8), 8),
        8: (27, (108, 162, 216), (12, 18, 24), 24),
    }[width]
    rules = [Rule(fix=first, kappa=kappa, modules="conv", allow_frozen=first == 27)]
    for i, (conv, skip) in enumerate(zip(stages, skips, strict=True)):
        rules.append(Rule(fix=conv, kappa=kappa, modules=f"stages.{i}.*.conv?"))
        if i:
            rules.append(Rule(fix=skip, kappa=kappa, modules=f"stages.{i}.*.skip.0"))
    return [*rules, Rule(fix=last, kappa=kappa, modules="linear")]


def resnet8_rules(*, kappa: float = 2.0) -> list[Rule]:
    """The published rules of the ResNet8 of the zoo: eight filters of every channel, all three of the first layer.

    Args:
        kappa: κ of all layers.

    Returns:
        The rules.
    """
    return [
        Rule(fix=3, kappa=kappa, modules="conv", mask=RandomFilters(), allow_frozen=True),
        Rule(fix=8, kappa=kappa, modules=nn.Conv2d, mask=RandomFilters()),
        Rule(fix=8, kappa=kappa, modules="linear"),
    ]


class GraphNetwork(nn.Module):
    """Message passing, h ← act(norm(W (h + mean of the neighbours' h))), and a linear head.

    Args:
        sizes: of node features, hidden layers and classes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes[:-1]))
        self.layers = nn.ModuleList(nn.Linear(d, o) for d, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for _, o in pairs)
        self.head = nn.Linear(sizes[-2], sizes[-1])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Logits of all nodes.

        Args:
            x: node features ``(n, d)``.
            edges: ``(2, e)``, from first to second; undirected graphs hold both directions.

        Returns:
            ``(n, classes)``.
        """
        start, end = edges
        degree = torch.zeros(len(x), dtype=x.dtype, device=x.device).index_add(0, end, torch.ones_like(end).to(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            total = torch.zeros_like(x).index_add(0, end, x[start])
            x = nn.functional.gelu(norm(layer(x + total / degree.clamp_min(1)[:, None])))
        return self.head(x)


def graph_rules(*, kappa: float = 0.5) -> Rule:
    """The published rule of the graph network: six entries of every unit.

    Args:
        kappa: κ of all layers.

    Returns:
        The rule.
    """
    return Rule(fix=6, kappa=kappa)
