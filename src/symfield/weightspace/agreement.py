"""Whether tensors of several models, or of a model and its architecture, fit together; what does not is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from symfield.typing import Tensor

__all__ = [
    "averaged",
    "require_alike",
    "require_complete",
    "require_same_masks",
    "require_variance",
    "require_weights",
    "tied",
]

#: Buffers in which models with fixed entries hold what is fixed.
_FIXED = ("trainable_entries", "fixed_values")


def averaged(tensor: Tensor) -> bool:
    """Whether numbers between two values of a tensor make sense: floating point and complex, not counts and masks.

    Args:
        tensor: of a model.

    Returns:
        True where it may be averaged.

    Example:
        >>> averaged(torch.ones(2)), averaged(torch.tensor(3))
        (True, False)
    """
    return tensor.is_floating_point() or tensor.is_complex()


def tied(params: Mapping[str, Tensor]) -> dict[str, str]:
    """Every name, and the first name that holds the same memory in the same way.

    Args:
        params: tensors by name.

    Returns:
        First names by name; a name that shares nothing stands for itself.

    Example:
        >>> w = torch.ones(3, 2)
        >>> tied({"embedding": w, "head": w, "other": w.clone()})
        {'embedding': 'embedding', 'head': 'embedding', 'other': 'other'}
    """
    first: dict[object, str] = {}
    found: dict[str, str] = {}
    for name, tensor in params.items():
        key: object = name
        if tensor.numel() and tensor.layout == torch.strided and tensor.device.type != "meta":
            key = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        found[name] = first.setdefault(key, name)
    return found


def require_alike(models: Sequence[Mapping[str, Tensor]], *, same_dtype: bool = True) -> None:
    """Refuse models that cannot be averaged entry by entry.

    Args:
        models: at least one, tensors by name.
        same_dtype: whether floating dtypes must be equal too.

    Raises:
        KeyError: if names differ.
        ValueError: if there are no tensors, shapes or devices differ, a tensor holds NaN, tensors of integers with axes
            differ, infinities differ, names that are tied in the first model hold different values in another, or the
            models fix other entries.
        TypeError: if dtypes differ.

    Example:
        >>> require_alike([{"w": torch.ones(2)}, {"w": torch.zeros(2)}])
    """
    first = models[0]
    if not first:
        raise ValueError("expected at least one tensor, received an empty dict; pass model.state_dict()")
    for i, other in enumerate(models):
        if first.keys() != other.keys():
            missing, unknown = sorted(first.keys() - other.keys()), sorted(other.keys() - first.keys())
            raise KeyError(
                f"model {i} and model 0 differ in names: missing {missing[:3]}, unknown {unknown[:3]}; both must be of "
                "one architecture, buffers included"
            )
        require_same_masks(first, other)
        for name, tensor in other.items():
            _require_like(name, first[name], tensor, i, same_dtype)
        for name, home in tied(first).items():
            if home != name and not torch.equal(other[name], other[home]):
                raise ValueError(
                    f"tensors {home!r} and {name!r} are tied in model 0 and differ in model {i}; clone one of them in "
                    "model 0 if the architecture does not tie them"
                )


def _require_like(name: str, a: Tensor, b: Tensor, i: int, same_dtype: bool) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"expected equal shapes, received {tuple(a.shape)} in model 0 and {tuple(b.shape)} in model {i} for "
            f"{name!r}"
        )
    if a.dtype != b.dtype and (same_dtype or not (a.is_floating_point() and b.is_floating_point())):
        raise TypeError(
            f"expected equal dtypes, received {a.dtype} in model 0 and {b.dtype} in model {i} for {name!r}; convert one"
        )
    if a.device != b.device:
        raise ValueError(f"tensor {name!r} is on {a.device} in model 0 and on {b.device} in model {i}; move one")
    if not averaged(b):
        if a.ndim and not torch.equal(a, b):
            raise ValueError(
                f"tensor {name!r} of {a.dtype} differs between model 0 and model {i} and cannot be averaged; make them "
                "equal, or leave the tensor out"
            )
        return
    if bool(b.isnan().any()):
        raise ValueError(f"tensor {name!r} of model {i} holds NaN; retrain or replace this model")
    infinite = b.isinf() | a.isinf()
    if bool(infinite.any()) and not torch.equal(a[infinite], b[infinite].to(a.dtype)):
        raise ValueError(f"tensor {name!r} holds infinity in model 0 or model {i}, not in the same entries of both")


def require_same_masks(params_a: Mapping[str, Tensor], params_b: Mapping[str, Tensor]) -> None:
    """Refuse two models that fix other entries, or the same entries at other values.

    Args:
        params_a: tensors of the first model by name, as in ``state_dict()``, with its masks and fixed values.
        params_b: tensors of the second model.

    Raises:
        ValueError: naming the first tensor in which they differ.

    Example:
        >>> from symfield.weightspace import Rule, asymmetrize
        >>> a, b = (asymmetrize(nn.Linear(8, 4), Rule(fix=2, kappa=1.0), seed=0).state_dict() for _ in range(2))
        >>> require_same_masks(a, b)
    """
    names = [n for n in {**params_a, **params_b} if n.rsplit(".", 1)[-1] in _FIXED]
    for name in names:
        a, b = params_a.get(name), params_b.get(name)
        if a is None or b is None:
            raise ValueError(
                f"only one of the models has {name!r}: they fix other entries; build both by the same rules"
            )
        if a.shape != b.shape or not torch.equal(a, b.to(a)):
            raise ValueError(
                f"tensor {name!r} differs: the models fix other entries, or the same ones at other values, and between "
                "them lies none of their kind; build both with one seed and one set of rules"
            )


def require_variance(name: str, tensor: Tensor) -> None:
    """Refuse a running variance below 0, which extrapolation may make and of which a batch norm takes the root.

    Args:
        name: of the tensor.
        tensor: its values.

    Raises:
        ValueError: if the name ends in ``running_var`` and an entry is negative.

    Example:
        >>> require_variance("bn.running_var", torch.ones(3))
    """
    if name.rsplit(".", 1)[-1] == "running_var" and bool((tensor < 0).any()):
        raise ValueError(f"tensor {name!r} would become negative; weights outside of [0, 1] go too far for it")


def require_complete(model: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Refuse parameters that leave a tensor of the model at the model's own value, unseen.

    Args:
        model: the architecture.
        params: tensors by name; of tied names one is enough.

    Raises:
        KeyError: if a tensor is missing or unknown.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> require_complete(layer, layer.state_dict())
    """
    state = model.state_dict(keep_vars=True)
    given = {id(tensor) for name, tensor in state.items() if name in params}
    if missing := [name for name, tensor in state.items() if id(tensor) not in given]:
        raise KeyError(f"tensor {missing[0]!r} of {type(model).__name__} is missing; pass a whole state_dict")
    if unknown := [name for name in params if name not in state]:
        raise KeyError(f"{type(model).__name__} has no tensor {unknown[0]!r}")


def require_weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...]:
    """Weights of an average as given, or equal ones.

    Args:
        weights: one for each model; negative ones extrapolate.
        n: number of models.

    Returns:
        The weights.

    Raises:
        ValueError: if their number is wrong, one is not finite, or they do not sum to 1.

    Example:
        >>> require_weights(None, 2)
        (0.5, 0.5)
    """
    if weights is None:
        return (1 / n,) * n
    given = tuple(float(weight) for weight in weights)
    if len(given) != n:
        raise ValueError(f"expected {n} weights, one for each model, received {len(given)}")
    if not all(math.isfinite(weight) for weight in given) or abs(math.fsum(given) - 1) > 1e-6:
        raise ValueError(
            f"expected finite weights that sum to 1, received {list(given)}; divide them by their sum {sum(given):g}"
        )
    return given
