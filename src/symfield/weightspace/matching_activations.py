"""Activation matching: units that answer alike to the same inputs belong together.

Both models run on the same inputs while hooks record what goes into and comes out of every module that owns a tensor of
the symmetry. The layout of a tensor's axis says which hidden space the channels of a module's output (axis 0 of its
weight) or input (axis 1) are. So activations are tensors with layouts like any others, and their units are matched in
the same way: with activations standardised over samples, the score of two units is their correlation.

References:
    Li et al. 2016, Convergent learning, arXiv 1511.07543. Ainsworth, Hayase & Srinivasa 2023, Section 3.1,
    arXiv 2209.04836.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from symfield.typing import Params, Tensor
from symfield.weightspace.factors import Factor, Permutation, Sign
from symfield.weightspace.layout import Layout, Piece, pieces
from symfield.weightspace.matching import Problem, Solution
from symfield.weightspace.matching_weights import WeightMatching, identity
from symfield.weightspace.symmetry import ParameterSymmetry

__all__ = ["ActivationMatching", "activations", "correlation", "covariance"]

_CHANNELS_SECOND = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def correlation(x: Tensor) -> Tensor:
    """Activations with mean 0 and variance 1 for every unit; units that never change become 0.

    Args:
        x: activations, shape ``(samples, units)``.

    Returns:
        The standardised activations over √samples, so that inner products are correlations.

    Example:
        >>> x = correlation(torch.tensor([[1.0, 5.0], [2.0, 3.0], [3.0, 1.0]]))
        >>> (x.T @ x).round(decimals=5).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    centred = covariance(x)
    norm = centred.norm(dim=0)
    alive = norm > 1e-6 * (x.abs().amax(0) + 1e-30)
    return torch.where(alive, centred / torch.where(alive, norm, 1), 0)


def covariance(x: Tensor) -> Tensor:
    """Activations with mean 0 for every unit, over √samples, so that inner products are covariances.

    Args:
        x: activations, shape ``(samples, units)``.

    Returns:
        The centred activations.

    Example:
        >>> x = covariance(torch.tensor([[1.0], [3.0]]))
        >>> (x.T @ x).round(decimals=5).tolist()
        [[1.0]]
    """
    return (x - x.mean(0)) / x.shape[0] ** 0.5


@dataclass(frozen=True)
class ActivationMatching:
    """Permutations and signs by the activations of two models on the same inputs, in one pass.

    As a start of :class:`WeightMatching` it finds better optima than the identity. Spaces that no hook can see (within
    functions, such as the heads of ``nn.MultiheadAttention``) stay at the identity.

    Attributes:
        model_a: the first model; it is run, not changed.
        model_b: the second model.
        inputs: a batch, or a tuple of arguments.
        measure: what makes activations comparable: :func:`correlation` or :func:`covariance`.
    """

    model_a: nn.Module
    model_b: nn.Module
    inputs: Any
    measure: Callable[[Tensor], Tensor] = correlation

    def __call__(self, problem: Problem) -> Solution:
        """Run both models and match their units.

        Args:
            problem: the same two models.

        Returns:
            Permutations and signs; the history holds squared distances of activations.

        Raises:
            ValueError: if no module's activations belong to a space that permutations move.
        """
        sides: list[Params] = []
        layouts: dict[str, tuple[Layout, ...]] = {}
        for model in (self.model_a, self.model_b):
            seen, layouts = activations(model, self.inputs, problem.symmetry)
            sides.append({name: self.measure(value.double()) for name, value in seen.items()})
        if not layouts:
            raise ValueError(
                "no module of the model shows activations of a hidden space; the symmetry may belong to another model"
            )
        used = {
            move.factor for axes in layouts.values() for axis in axes for p, _, _ in pieces(axis) for move in p.moves
        }
        factors = tuple(f for f in problem.symmetry.factors if f.name in used and isinstance(f, Permutation | Sign))
        shapes = {name: tuple(value.shape) for name, value in sides[0].items()}
        symmetry = ParameterSymmetry(factors, layouts, shapes)
        features = Problem(sides[0], sides[1], symmetry, dict.fromkeys(shapes, 1.0))
        return WeightMatching(identity)(features)


@torch.no_grad()
def activations(
    model: nn.Module, inputs: Any, symmetry: ParameterSymmetry
) -> tuple[Params, dict[str, tuple[Layout, ...]]]:
    """What goes into and comes out of the modules that own tensors of a symmetry, in eval mode.

    Args:
        model: is run once; its mode and hooks are as before afterwards.
        inputs: a batch, or a tuple of arguments.
        symmetry: of the model's parameters.

    Returns:
        Activations ``(samples, units)`` by name, and their layouts, where only permutations and signs move.

    Example:
        >>> from symfield.weightspace import from_axes
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> axes = {"0.weight": ("h", None), "0.bias": ("h",), "2.weight": (None, "h")}
        >>> symmetry = from_axes(axes, {name: tuple(t.shape) for name, t in model.state_dict().items()})
        >>> seen, _ = activations(model, torch.ones(5, 2), symmetry)
        >>> {name: tuple(value.shape) for name, value in seen.items()}
        {'0.out': (5, 3), '2.in': (5, 3)}
    """
    kinds = {f.name: f for f in symmetry.factors}
    seen: Params = {}
    layouts: dict[str, tuple[Layout, ...]] = {}
    tensors = {home: home for home in symmetry.layouts} | dict(symmetry.aliases)

    def record(name: str, value: object, module: nn.Module, layout: Layout) -> None:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
            return
        flat = value.movedim(1, -1) if isinstance(module, _CHANNELS_SECOND) else value
        if flat.shape[-1] == layout.size and name not in seen:
            seen[name] = flat.reshape(-1, layout.size)
            layouts[name] = (Piece("samples", seen[name].shape[0]), layout)

    with _evaluating(model) as handles:
        for path, module in model.named_modules():
            prefix = f"{path}." if path else ""
            home = tensors.get(f"{prefix}weight", "")
            axes = [_restricted(axis, kinds) for axis in symmetry.layouts.get(home, ())]
            if isinstance(module, nn.Embedding):
                axes = axes[1:]
            if axes and _movable(axes[0]):

                def after(module: nn.Module, _: Any, out: Any, path: str = path, layout: Layout = axes[0]) -> None:
                    record(f"{path}.out", out, module, layout)

                handles.append(module.register_forward_hook(after))
            grouped = getattr(module, "groups", 1) != 1
            if len(axes) > 1 and _movable(axes[1]) and not grouped:

                def before(module: nn.Module, given: Any, path: str = path, layout: Layout = axes[1]) -> None:
                    record(f"{path}.in", given[0] if given else None, module, layout)

                handles.append(module.register_forward_pre_hook(before))
        model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return seen, layouts


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[list[Any]]:
    """Eval mode and a list of handles, both undone at the end."""
    modes = {module: module.training for module in model.modules()}
    handles: list[Any] = []
    model.eval()
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode


def _restricted(layout: Layout, kinds: Mapping[str, Factor]) -> Layout:
    """The layout with permutations and signs alone: scales, rotations and matrices leave correlations unclear."""
    if isinstance(layout, Piece):
        kept = tuple(move for move in layout.moves if isinstance(kinds[move.factor], Permutation | Sign))
        turned = any(kinds[move.factor].stage == 0 for move in layout.moves)
        return Piece(layout.space, layout.size, () if turned else kept)
    return type(layout)(tuple(_restricted(part, kinds) for part in layout.parts))


def _movable(layout: Layout) -> bool:
    return any(piece.moves for piece, _, _ in pieces(layout))
