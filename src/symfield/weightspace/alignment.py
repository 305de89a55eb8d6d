"""Alignment of two models of one architecture: an element of their symmetry that brings one close to the other.

:func:`align` checks the models, hands a :class:`Problem` to a method, and returns the second model moved, with how
close the two were and are. Methods are values: :class:`WeightMatching` reads the parameters alone, others read
activations, relax the permutations, or follow a loss.

References:
    Ainsworth, Hayase & Srinivasa 2023, Git Re-Basin, arXiv 2209.04836. Theus et al. 2025, Generalized linear mode
    connectivity for transformers, arXiv 2506.22712.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from symfield.typing import Params, Tensor
from symfield.weightspace.matching import Fit, Method, Problem, Work
from symfield.weightspace.matching_weights import WeightMatching
from symfield.weightspace.symmetry import Element, ParameterSymmetry

__all__ = ["Alignment", "align", "is_running_statistic"]


@dataclass(frozen=True)
class Alignment:
    """Two models side by side, one of them moved.

    Attributes:
        element: moves the second model.
        params: the second model moved; same function, new tensors.
        before: how close the models were.
        after: how close they are.
        history: objective of the method after each of its updates.
        work: what the method did.
    """

    element: Element = field(repr=False)
    params: Params = field(repr=False)
    before: Fit
    after: Fit
    history: tuple[float, ...] = field(repr=False)
    work: Work


def is_running_statistic(name: str) -> bool:
    """Whether a tensor is a running statistic of a batch norm, which says little about the weights.

    Args:
        name: of the tensor.

    Returns:
        True for names that end in ``running_mean``, ``running_var`` or ``num_batches_tracked``.

    Example:
        >>> is_running_statistic("bn.running_var"), is_running_statistic("bn.weight")
        (True, False)
    """
    return name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")


@torch.no_grad()
def align(
    params_a: Mapping[str, Tensor],
    params_b: Mapping[str, Tensor],
    symmetry: ParameterSymmetry,
    *,
    method: Method | None = None,
    weights: Mapping[str, float] | Callable[[str], float] | None = None,
) -> Alignment:
    """Move the second model along its symmetry, close to the first.

    Args:
        params_a: tensors of the first model by name, as in ``state_dict()``.
        params_b: tensors of the second model, same names and shapes.
        symmetry: of the architecture.
        method: how; weight matching by default.
        weights: how much each tensor counts, by name or as a function of it; 0 leaves it out. By default all tensors
            of a floating dtype count alike, except running statistics of batch norms. Everything moves in any case.

    Returns:
        The :class:`Alignment`; the inputs are not modified.

    Raises:
        KeyError: if a tensor is missing or unknown.
        ValueError: if shapes differ from the architecture's, or a tensor holds NaN or infinity.
        TypeError: if a tensor that the symmetry moves is not of a floating dtype, or an argument of another kind.

    Example:
        >>> from symfield.weightspace import from_axes
        >>> symmetry = from_axes({"up": ("p", None), "down": ("p",)}, {"up": (3, 2), "down": (3,)})
        >>> a = {"up": torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]), "down": torch.tensor([1.0, -1.0, 0.5])}
        >>> b = symmetry.apply(a, {"p": torch.tensor([2, 0, 1])})
        >>> found = align(a, b, symmetry)
        >>> found.before.squared_distance, found.after.squared_distance, found.element["p"].tolist()
        (34.5, 0.0, [1, 2, 0])
    """
    _require_kinds(symmetry, method, {"first": params_a, "second": params_b})
    a, b = (_checked(params, symmetry, which) for params, which in ((params_a, "first"), (params_b, "second")))
    b = {name: tensor.to(a[name]) if name in a else tensor for name, tensor in b.items()}
    problem = Problem(a, b, symmetry, _weights(a, symmetry, weights))
    solution = (method or WeightMatching())(problem)
    moved = symmetry.apply(dict(params_b), solution.element)
    return Alignment(
        solution.element, moved, problem.fit({}), problem.fit(solution.element), solution.history, solution.work
    )


def _require_kinds(symmetry: object, method: object, models: Mapping[str, object]) -> None:
    """Refuse modules in place of their tensors or symmetry, and names or classes in place of methods."""
    for which, params in models.items():
        if not isinstance(params, Mapping):
            kind = type(params).__name__
            raise TypeError(f"{which} model: expected tensors by name, received {kind}; pass model.state_dict()")
    if not isinstance(symmetry, ParameterSymmetry):
        raise TypeError(f"expected a ParameterSymmetry, received {type(symmetry).__name__}; pass symmetries(model, x)")
    if method is not None and (isinstance(method, type) or not callable(method)):
        received = f"the class {method.__name__}" if isinstance(method, type) else repr(method)
        raise TypeError(f"expected a method such as WeightMatching() or FrankWolfe(), received {received}")


def _checked(params: Mapping[str, Tensor], symmetry: ParameterSymmetry, which: str) -> Params:
    """The floating tensors, detached; errors say which model."""
    try:
        symmetry._check(params)
    except (KeyError, ValueError, TypeError) as error:
        raise type(error)(f"{which} model: {error.args[0]}") from None
    kept: Params = {}
    for name, tensor in params.items():
        small = tensor.is_floating_point() and tensor.itemsize < 4
        kept.setdefault(symmetry.aliases.get(name, name), tensor.detach().float() if small else tensor.detach())
    for name, tensor in kept.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{which} model: tensor {name!r} holds NaN or infinity; repair or retrain the model first")
    return kept


def _weights(
    params: Params, symmetry: ParameterSymmetry, weights: Mapping[str, float] | Callable[[str], float] | None
) -> dict[str, float]:
    if isinstance(weights, Mapping):
        given = {symmetry.aliases.get(name, name): value for name, value in weights.items()}
        if unknown := [name for name in given if name not in params]:
            raise KeyError(f"weights name {unknown[0]!r}, which is no tensor of the models")
        weights = lambda name: given.get(name, 0.0)  # noqa: E731
    chosen: dict[str, float] = {}
    for name, tensor in params.items():
        if tensor.is_floating_point():
            chosen[name] = float(weights(name)) if weights else float(not is_running_statistic(name))
            if not 0 <= chosen[name] < math.inf:
                raise ValueError(f"expected finite weights of at least 0, received {chosen[name]} for {name!r}")
    return chosen
