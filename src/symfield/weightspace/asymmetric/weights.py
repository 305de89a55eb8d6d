r"""Weights with fixed entries: only the trainable ones are parameters.

The effective weight is W' = M ⊙ W + (1 − M) ⊙ F with a mask M and fixed values F. The parameter holds the trainable
entries alone, row after row; W' is computed from it when it is read, by one scatter into F, and its gradient is one
gather (:mod:`symfield.weightspace.asymmetric.expansion`). So nothing ever writes to a parameter, and optimisers, weight
decay, distances and counts see trainable entries only. In the *additive* form W' = W + F all entries stay trainable,
and decay pulls them towards F.

Everything rests on ``torch.nn.utils.parametrize``, so it serves any parameter of any module.

References:
    Lim et al. 2024, Section 3, arXiv 2405.20231. Ziyin, Xu & Chuang 2025, Remove symmetries to control model
    expressivity, arXiv 2408.15495 (the additive form).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.nn.modules import module as modules
from torch.nn.utils import parametrize

from symfield.typing import Bool, Float, Tensor
from symfield.weightspace.asymmetric.expansion import (
    bits_of,
    collect,
    compiled_functions,
    expand,
    expand_by_mask,
    is_mask,
)

__all__ = ["FixedEntries", "MaskedWeight", "ShiftedWeight", "fix_entries", "fixed_entries", "release_entries"]


class FixedEntries(NamedTuple):
    """What is fixed in one weight.

    Attributes:
        mask: True where an entry is trainable, in the shape of the dense weight.
        values: F, in that shape; 0 where an entry is trainable and nothing is added.
        parameter: name of the parameter that holds the trainable entries.
        additive: whether F is added to a weight that is trainable as a whole.
    """

    mask: Bool[Tensor, "..."]
    values: Float[Tensor, "..."]
    parameter: str
    additive: bool = False


class _Held(nn.Module):
    """Fixed values as a buffer that a checkpoint must agree with."""

    fixed_values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("fixed_values", values.detach().clone())

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        wrong = []
        for name, own in self._buffers.items():
            key = prefix + name
            if own is None or name in self._non_persistent_buffers_set:
                continue
            if key not in state_dict:
                wrong.append(
                    f"the checkpoint has no {key!r}: its masks or fixed values are lost; save model.state_dict() of "
                    "the asymmetric model whole, load a plain checkpoint before asymmetrize, or, if it was trained "
                    "with the masks of this model, load {**model.state_dict(), **checkpoint}"
                )
            elif own.is_meta:
                wrong.append(
                    f"{key!r} of this model is on the meta device, where it has no values to compare with those of the "
                    "checkpoint; build the model on a real device, or use asymmetrize_like"
                )
            elif state_dict[key].shape == own.shape and not torch.equal(state_dict[key].to(own), own):
                wrong.append(
                    f"the checkpoint has another {key!r} than this model: the two fix other entries, or the same ones "
                    "at other values; build the model with the seed and the rules of the checkpoint"
                )
        if wrong:  # nothing is copied, lest the model be half another one and a second attempt be accepted
            error_msgs.extend(wrong)
            return
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


class MaskedWeight(_Held):
    """From trainable entries to the weight W' = M ⊙ W + (1 − M) ⊙ F; for ``torch.nn.utils.parametrize``.

    Where all rows have equally many trainable entries, these are a matrix ``(rows, entries)``, otherwise a vector.

    Args:
        mask: M, True where an entry is trainable.
        values: F, in the shape of the mask.
        axis: of the output units, 0 or 1.

    Raises:
        ValueError: if the mask is not of bools, or its shape is not that of the values, with two axes at least.

    Example:
        >>> weight = MaskedWeight(torch.tensor([[True, False], [False, True]]), torch.tensor([[0.0, 5.0], [7.0, 0.0]]))
        >>> weight(torch.tensor([[1.0], [2.0]]))
        tensor([[1., 5.],
                [7., 2.]])
    """

    trainable_entries: Tensor

    def __init__(self, mask: Bool[Tensor, "..."], values: Float[Tensor, "..."], *, axis: int = 0) -> None:
        if mask.dtype != torch.bool or mask.shape != values.shape or mask.ndim < 2:
            raise ValueError(
                f"expected a mask of bools and values, both of the weight's shape, received {mask.dtype} of shape "
                f"{tuple(mask.shape)} and values of shape {tuple(values.shape)}"
            )
        super().__init__(torch.where(mask, torch.zeros_like(values), values))
        self.axis = axis
        self.register_buffer("trainable_entries", mask.detach().clone())
        self._find_places()

    def _find_places(self) -> None:
        """Where entries lie, of which mask. These are no buffers: what averages or casts buffers must not change them.

        The mask decides: while another one is in its place (other buffers in ``functional_call`` or ``vmap``), places
        are not used.
        """
        rows = self.trainable_entries.movedim(self.axis, 0).flatten(1)
        counts = rows.sum(1)
        even = bool((counts == counts[0]).all())
        self._places = rows.nonzero()[:, 1].reshape(len(rows), -1) if even else rows.reshape(-1).nonzero()[:, 0]
        self._bits = bits_of(rows)
        self._mask_of_places = self.trainable_entries

    def _load_from_state_dict(self, *args: Any) -> None:
        known = self._mask_of_places is self.trainable_entries
        super()._load_from_state_dict(*args)
        if known:  # an equal one, perhaps assigned
            self._keep_places()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskedWeight:
        mask, places = self.trainable_entries, self._mask_of_places is self.trainable_entries
        super()._apply(fn, recurse)
        if self.trainable_entries.dtype != torch.bool:  # Module.type casts everything
            self._buffers["trainable_entries"] = mask.to(self.trainable_entries.device)
        if places and not self.trainable_entries.is_meta:
            self._keep_places()
        return self

    def _keep_places(self) -> None:
        """Go on using the places, for a mask that is equal and perhaps lies elsewhere."""
        device = self.trainable_entries.device
        self._places, self._bits = self._places.to(device), self._bits.to(device)
        self._mask_of_places = self.trainable_entries

    def forward(self, entries: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The weight, in its own shape."""
        fixed, mask = self.fixed_values, self.trainable_entries
        if self.axis:
            fixed = fixed.movedim(self.axis, 0).contiguous()
        if is_mask(mask, self._mask_of_places):
            dense = expand(entries, fixed, self._places, self._bits)
        else:
            dense = expand_by_mask(entries, fixed, mask.movedim(self.axis, 0))
        return dense.movedim(0, self.axis) if self.axis else dense

    def right_inverse(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The trainable entries of a weight; what it holds elsewhere is dropped."""
        return collect(weight.movedim(self.axis, 0), self._places)

    def extra_repr(self) -> str:
        """Counts."""
        total, free = self.trainable_entries.numel(), self._places.numel()
        return f"{free} trainable of {total} entries"


class ShiftedWeight(_Held):
    """From a weight W to W + F with a fixed F; for ``torch.nn.utils.parametrize``.

    Args:
        values: F.

    Example:
        >>> ShiftedWeight(torch.tensor([[1.0, 0.0]]))(torch.tensor([[0.5, 0.5]]))
        tensor([[1.5000, 0.5000]])
    """

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """W + F."""
        return weight + self.fixed_values

    def right_inverse(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """W' − F."""
        return weight - self.fixed_values

    def extra_repr(self) -> str:
        """Counts."""
        return f"{self.fixed_values.numel()} trainable entries, {int(self.fixed_values.count_nonzero())} shifted"


def fix_entries(layer: nn.Module, name: str, weight: MaskedWeight | ShiftedWeight) -> nn.Module:
    """Fix entries of a parameter of a layer of your own, in place, through ``torch.nn.utils.parametrize``.

    A masked weight keeps its trainable entries as they are. A shifted one becomes W + F. The layer can be copied and
    pickled. :func:`release_entries` undoes it.

    Args:
        layer: the layer, changed in place.
        name: its parameter.
        weight: what is fixed.

    Returns:
        The layer.

    Raises:
        ValueError: if the layer has no such parameter, it is parametrized already, or its shape is another one.

    Example:
        >>> from symfield.weightspace import fixed_mask, fixed_values
        >>> mask = fixed_mask((4, 8), 2, seed=0, name="layer")
        >>> values = fixed_values(mask, 1.0, seed=0, name="layer")
        >>> layer = fix_entries(nn.Linear(8, 4), "weight", MaskedWeight(mask, values))
        >>> layer.weight.shape, sum(p.numel() for p in layer.parameters())
        (torch.Size([4, 8]), 28)
    """
    if parametrize.is_parametrized(layer, name):
        raise ValueError(f"{name!r} of {type(layer).__name__} is parametrized already; release it first")
    parameter = layer._parameters.get(name)
    if parameter is None:
        known = [key for key, value in layer.named_parameters(recurse=False)]
        raise ValueError(f"expected a parameter of {type(layer).__name__}, received {name!r}; choose one of {known}")
    if parameter.shape != weight.fixed_values.shape:
        raise ValueError(
            f"expected fixed entries of shape {tuple(parameter.shape)} for {name!r}, received "
            f"{tuple(weight.fixed_values.shape)}"
        )
    weight = weight.to(device=parameter.device, dtype=parameter.dtype)
    if isinstance(weight, ShiftedWeight):  # registration asks for W' and keeps W' − F
        setattr(layer, name, nn.Parameter(weight(parameter.detach()), requires_grad=parameter.requires_grad))
    parametrize.register_parametrization(layer, name, weight, unsafe=True)
    _finish_class(type(layer), name)
    return layer


def release_entries(layer: nn.Module, name: str) -> nn.Module:
    """Make a weight with fixed entries an ordinary parameter of the same values, in place.

    Args:
        layer: the layer, changed in place.
        name: its weight.

    Returns:
        The layer.

    Raises:
        ValueError: if no entries of that weight are fixed.

    Example:
        >>> mask, values = torch.eye(2).bool(), torch.ones(2, 2)
        >>> layer = fix_entries(nn.Linear(2, 2), "weight", MaskedWeight(mask, values))
        >>> sorted(dict(release_entries(layer, "weight").named_parameters()))
        ['bias', 'weight']
    """
    if _fixing(layer, name) is None:
        raise ValueError(f"no entries of {name!r} of {type(layer).__name__} are fixed")
    every = _steps(layer)
    trains = next(every[name].parameters()).requires_grad
    dense = nn.Parameter(every[name]().detach().clone(), requires_grad=trains)
    others = {key: value for key, value in every.items() if key != name}
    # torch's own removal takes the property from the class, which a copy shares with the layer it was copied from.
    del layer.parametrizations
    layer.__class__ = type(layer).__mro__[1]
    if others:
        _parametrized(layer, others)
    layer._parameters = {name: dense, **layer._parameters}  # weights come before biases
    return layer


def fixed_entries(model: nn.Module) -> dict[str, FixedEntries]:
    """What is fixed in a model, weight by weight.

    Args:
        model: any module.

    Returns:
        For each weight with fixed entries, by its name in the dense model, the :class:`FixedEntries`; tensors are
        those of the model.

    Example:
        >>> from symfield.weightspace import Rule, asymmetrize
        >>> model = asymmetrize(nn.Sequential(nn.Linear(4, 3)), Rule(fix=1, kappa=1.0), seed=0)
        >>> {name: (entries.mask.shape, entries.parameter) for name, entries in fixed_entries(model).items()}
        {'0.weight': (torch.Size([3, 4]), '0.parametrizations.weight.original')}
    """
    return {
        f"{path}.{name}" if path else name: FixedEntries(
            weight.trainable_entries
            if isinstance(weight, MaskedWeight)
            else torch.ones_like(weight.fixed_values).bool(),
            weight.fixed_values,
            f"{path}.parametrizations.{name}.original" if path else f"parametrizations.{name}.original",
            isinstance(weight, ShiftedWeight),
        )
        for path, _, name, weight in _all_fixed(model)
    }


def _all_fixed(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, MaskedWeight | ShiftedWeight]]:
    for path, module in model.named_modules():
        for name in list(_steps(module)) if parametrize.is_parametrized(module) else ():
            weight = _fixing(module, name)
            if weight is not None:
                yield path, module, name, weight


def _fixing(layer: nn.Module, name: str) -> MaskedWeight | ShiftedWeight | None:
    if not parametrize.is_parametrized(layer, name):
        return None
    steps = list(_steps(layer)[name].children())
    return steps[0] if len(steps) == 1 and isinstance(steps[0], MaskedWeight | ShiftedWeight) else None


def _steps(layer: nn.Module) -> nn.ModuleDict:
    """How the parametrized weights of a layer are computed, by name."""
    return cast(nn.ModuleDict, layer.parametrizations)


def _reduce(layer: nn.Module, protocol: int) -> tuple[Any, ...]:
    """How a parametrized layer is pickled, which torch leaves out: its class is made anew, then its state."""
    return _made_anew, (type(layer).__mro__[1], tuple(_steps(layer))), layer.__dict__.copy()


def _made_anew(kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    _parametrized(layer, dict.fromkeys(names))
    return layer


def _parametrized(layer: nn.Module, steps: Mapping[str, nn.Module | None]) -> None:
    """Give a layer a class of its own, with properties for weights that are computed as before."""
    for name, step in steps.items():
        layer.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(layer, name, nn.Identity())
        if step is not None:
            _steps(layer)[name] = step
        _finish_class(type(layer), name)


_LOOKED_AT = (  # by the compiled function that reads a weight: whether anything happens on the way to it
    parametrize.ParametrizationList,
    MaskedWeight,
    vars(parametrize),
    vars(torch.compiler),
    (
        modules._global_forward_hooks,
        modules._global_forward_pre_hooks,
        modules._global_backward_hooks,
        modules._global_backward_pre_hooks,
    ),
    tuple(
        (kind, name, getattr(kind, name))
        for kind in (parametrize.ParametrizationList, MaskedWeight)
        for name in ("forward", "__call__", "_call_impl", "__getattr__")  # which tracers and others replace
    ),
)


def _finish_class(kind: type[nn.Module], name: str) -> None:
    """Let the class that torch made for one layer be pickled, and read a weight without detours where that is the same.

    torch calls a list of steps as a module, which calls its only one: a tenth of the time of a layer of 128 units.
    That is left to torch where more would happen on the way, or something looks on.
    """
    kind.__reduce_ex__ = _reduce  # type: ignore[method-assign, assignment]
    by_torch: property = getattr(kind, name)
    read = cast(Callable[[nn.Module], Any], by_torch.fget)

    def weight(layer: nn.Module) -> Any:  # a tensor, or what a tracer has in its place
        found = None if is_dynamo_compiling() else compiled_functions().read(layer, name, _LOOKED_AT)
        return read(layer) if found is None else found

    setattr(kind, name, property(weight, by_torch.fset))
