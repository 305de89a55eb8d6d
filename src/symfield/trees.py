"""Parameters as ``dict[str, Tensor]``, and the one ferry between a dict and a flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from symfield.typing import Float, Params, Tensor

__all__ = ["distance", "lerp", "ravel", "stack", "unstack"]


def ravel(tree: Params) -> tuple[Float[Tensor, " p"], Callable[[Tensor], Params]]:
    """Flatten a dict of tensors into one vector, in the dict's order.

    Args:
        tree: tensors by name, floating point.

    Returns:
        The vector of all entries, shape ``(p,)``, and its inverse: a function that takes ``(*batch, p)`` to a dict
        of tensors of shape ``(*batch, *shape)``.

    Raises:
        ValueError: if the dict is empty, or the inverse meets a vector of another length.

    Example:
        >>> flat, unravel = ravel({"w": torch.ones(2, 3), "b": torch.zeros(2)})
        >>> flat.shape, {k: tuple(v.shape) for k, v in unravel(torch.zeros(5, 8)).items()}
        (torch.Size([8]), {'w': (5, 2, 3), 'b': (5, 2)})
    """
    if not tree:
        raise ValueError("expected at least one parameter, received an empty dict; pass the parameters to flatten")
    shapes = {name: tuple(value.shape) for name, value in tree.items()}
    sizes = [math.prod(shape) for shape in shapes.values()]
    total = sum(sizes)

    def unravel(flat: Tensor) -> Params:
        if flat.shape[-1] != total:
            raise ValueError(f"expected a vector of {total} entries, received {flat.shape[-1]}; pass one made by ravel")
        parts = flat.split(sizes, dim=-1)
        return {
            name: part.reshape((*flat.shape[:-1], *shape))
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    return torch.cat([value.reshape(-1) for value in tree.values()]), unravel


def lerp(a: Params, b: Params, t: float) -> Params:
    """The point (1 − t) a + t b on the line between two sets of parameters.

    Args:
        a: parameters at t = 0.
        b: parameters at t = 1, same names and shapes.
        t: position on the line.

    Returns:
        A new dict.

    Raises:
        ValueError: if names or shapes differ.

    Example:
        >>> lerp({"w": torch.zeros(1)}, {"w": torch.ones(1)}, 0.25)["w"].item()
        0.25
    """
    _require_same(a, b)
    return {name: torch.lerp(a[name], b[name], t) for name in a}


def distance(a: Params, b: Params) -> float:
    """Euclidean distance between two sets of parameters, accumulated in float64.

    Args:
        a: parameters.
        b: parameters, same names and shapes.

    Returns:
        The distance.

    Raises:
        ValueError: if names or shapes differ.

    Example:
        >>> distance({"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])})
        5.0
    """
    _require_same(a, b)
    return math.sqrt(sum(float((a[name].double() - b[name].double()).square().sum()) for name in a))


def stack(trees: Sequence[Params]) -> Params:
    """Several sets of parameters side by side.

    Args:
        trees: parameters, the same names and shapes.

    Returns:
        Tensors with a leading axis over the sets.

    Raises:
        ValueError: if there is none, or names or shapes differ.

    Example:
        >>> stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])["w"].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    if not trees:
        raise ValueError("expected at least one set of parameters, received none")
    for tree in trees[1:]:
        _require_same(trees[0], tree)
    return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}


def unstack(tree: Params) -> list[Params]:
    """The sets of parameters of :func:`stack`.

    Args:
        tree: tensors with a leading axis over sets.

    Returns:
        One dict for each; copies.

    Raises:
        ValueError: if leading axes differ.

    Example:
        >>> [one["w"].tolist() for one in unstack({"w": torch.tensor([[0.0, 0.0], [1.0, 1.0]])})]
        [[0.0, 0.0], [1.0, 1.0]]
    """
    counts = {name: len(value) for name, value in tree.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"expected one leading axis of the same length everywhere, received {counts}")
    return [{name: value[i].clone() for name, value in tree.items()} for i in range(next(iter(counts.values())))]


def _require_same(a: Params, b: Params) -> None:
    if a.keys() != b.keys():
        raise ValueError(f"expected the same names, received a difference in {sorted(a.keys() ^ b.keys())}")
    for name in a:
        if a[name].shape != b[name].shape:
            raise ValueError(
                f"expected equal shapes, received {tuple(a[name].shape)} and {tuple(b[name].shape)} for {name!r}"
            )
