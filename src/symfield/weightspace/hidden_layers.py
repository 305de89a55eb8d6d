"""Which layers of a model hold hidden units, and which tensors carry a correction of their mean and spread.

A layer comes after another if everything that its weights touch the other's weights touch too. Layers after which none
comes are outputs of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from symfield.weightspace.graph import Node, ParameterGraph

__all__ = ["CONVOLUTIONS", "Plan", "is_linear_of_columns", "plan_repair"]

CONVOLUTIONS: dict[type[nn.Module], int] = {
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
"""Number of spatial axes."""

_RULED: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS, _BatchNorm)
_NOT_HIDDEN = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def is_linear_of_columns(module: nn.Module) -> bool:
    """Whether a module is a linear layer with weight ``(in, out)``, which transformers calls ``Conv1D``.

    Args:
        module: any.

    Returns:
        True for that class, whose outputs number ``module.nf``.

    Example:
        >>> is_linear_of_columns(nn.Linear(2, 3))
        False
    """
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


@dataclass(frozen=True)
class Plan:
    """What repair does with the modules of a model, by path.

    Attributes:
        corrected: layers whose units get their statistics back.
        estimated: batch norms whose running statistics are estimated anew.
        left: modules with weights that stay as they are, each with the reason.
    """

    corrected: dict[str, nn.Module] = field(default_factory=dict)
    estimated: dict[str, nn.Module] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> Plan:
        """The plan that leaves some modules.

        Args:
            reasons: by path of the module.

        Returns:
            A new plan.
        """
        return Plan(
            {path: module for path, module in self.corrected.items() if path not in reasons},
            {path: module for path, module in self.estimated.items() if path not in reasons},
            {**self.left, **reasons},
        )


def plan_repair(graph: ParameterGraph, model: nn.Module) -> Plan:
    """Which layers of a model hold hidden units with a correction of their own.

    Args:
        graph: of the model.
        model: the modules.

    Returns:
        The plan: linear and convolutional layers, or the batch norm that directly follows one. Layers after which no
        weights come are outputs and stay.

    Example:
        >>> import torch
        >>> from symfield.weightspace import trace
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        >>> plan = plan_repair(trace(model, torch.zeros(3, 4)), model)
        >>> list(plan.corrected), list(plan.left)
        (['1'], ['3'])
    """
    reach = _reach(graph)
    shared = {*graph.aliases, *graph.aliases.values()}
    plan = Plan()
    for path, module in model.named_modules():
        own = {f"{path}.{name}".removeprefix(".") for name, _ in module.named_parameters(recurse=False)}
        if not isinstance(module, _RULED) and not is_linear_of_columns(module):
            wide = [p for _, p in module.named_parameters(recurse=False) if p.ndim > 1]
            if wide and not isinstance(module, _NOT_HIDDEN):
                plan.left[path] = f"no rule for {type(module).__name__}"
            continue
        norm = isinstance(module, _BatchNorm)
        if norm and module.running_mean is not None:
            plan.estimated[path] = module
        if norm and not module.affine:
            continue
        weight = f"{path}.weight".removeprefix(".")
        if weight not in own:
            plan.left[path] = "its weight is computed from other tensors; remove the parametrization first"
        elif tied_to := sorted(own & shared):
            plan.left[path] = f"{tied_to[0]!r} is tied to another tensor"
        elif not reach.get(weight):
            plan.left[path] = "its weight does not reach the output on this example"
        elif not any(other and other < reach[weight] for name, other in reach.items() if name not in own):
            plan.left[path] = "no weights come after it: an output of the model"
        elif not norm and _norm_follows(graph, model, weight):
            continue  # the batch norm carries the correction
        else:
            plan.corrected[path] = module
    return plan


def _reach(graph: ParameterGraph) -> dict[str, frozenset[Node]]:
    """For each tensor the nodes that depend on it and on an input."""
    data = _after(node for node in graph.nodes if node.op == "input")
    return {node.args[0]: frozenset(_after([node]) & data) for node in graph.nodes if node.op == "tensor"}


def _after(nodes: Iterable[Node]) -> set[Node]:
    waiting = list(nodes)
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(node.users)
    return seen


def _norm_follows(graph: ParameterGraph, model: nn.Module, weight: str) -> bool:
    """Whether what a weight makes goes to batch norm modules alone."""
    node = next(node for node in graph.nodes if node.op == "tensor" and node.args[0] == weight)
    users = [after for user in node.users for after in user.users]
    owners = [
        model.get_submodule(name.rpartition(".")[0])
        for user in users
        for given in user.inputs()
        if given.op == "tensor" and (name := given.args[0])
    ]
    return (
        bool(users)
        and all("batch_norm" in user.op for user in users)
        and all(isinstance(owner, _BatchNorm) for owner in owners)
    )
