"""Any model without interchangeable units, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, overload

import torch
from torch import nn

from symfield.typing import Tensor
from symfield.weightspace.asymmetric.layers import AsymmetricConv1d, AsymmetricConv2d, AsymmetricLinear
from symfield.weightspace.asymmetric.masks import fixed_values
from symfield.weightspace.asymmetric.rules import FixedPlan, PlannedWeight, Rule, places, plan_asymmetry
from symfield.weightspace.asymmetric.weights import (
    MaskedWeight,
    ShiftedWeight,
    _all_fixed,
    fix_entries,
    release_entries,
)

__all__ = ["Mode", "asymmetrize", "asymmetrize_like", "symmetrize_back"]

Mode = Literal["exact", "additive", "init_only"]

_PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    AsymmetricLinear: nn.Linear,
    AsymmetricConv1d: nn.Conv1d,
    AsymmetricConv2d: nn.Conv2d,
}


@overload
def asymmetrize(
    model: nn.Module, rules: Rule | Sequence[Rule], *, seed: int, mode: Mode = ..., dry_run: Literal[False] = ...
) -> nn.Module: ...
@overload
def asymmetrize(
    model: nn.Module, rules: Rule | Sequence[Rule], *, seed: int, mode: Mode = ..., dry_run: Literal[True]
) -> FixedPlan: ...
def asymmetrize(
    model: nn.Module,
    rules: Rule | Sequence[Rule],
    *,
    seed: int,
    mode: Mode = "exact",
    dry_run: bool = False,
) -> nn.Module | FixedPlan:
    """A copy of a model in which some entries of every output unit are fixed, other ones in each unit.

    Masks and fixed values are functions of the seed and of the weights' names alone, so that all copies of one
    architecture that are made with one seed share them: build every network of an experiment with the same seed.
    Trainable entries keep the values that they have in the model.

    - ``"exact"``: chosen entries are fixed at F for ever, W' = M ⊙ W + (1 − M) ⊙ F; the others are the parameters.
    - ``"additive"``: F is added to the chosen entries, W' = W + (1 − M) ⊙ F, and all of W stays trainable. With
      ``Rule(fix=1.0, mask=EveryEntry(), ...)`` all entries are shifted, and weight decay pulls towards F.
    - ``"init_only"``: the chosen entries begin at F, and everything is trained: the control that tells what fixing does
      from what large shared weights at the start do.

    Args:
        model: any module; it is not modified.
        rules: one :class:`Rule` or several; the first that chooses a weight applies.
        seed: of masks and fixed values, a non-negative integer.
        mode: what is done with the chosen entries.
        dry_run: return the plan, which prints as a table, and make nothing.

    Returns:
        The new model, or the :class:`FixedPlan`.

    Raises:
        ValueError: if a rule is left without a weight, a count does not fit into a row, rows would be fixed as a whole
            or cannot all differ, κ is negative, or a weight is tied, parametrized already or on the meta device.
        TypeError: if a rule is none.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
        >>> rules = [Rule(fix=4, kappa=0.25, modules="2"), Rule(fix=0.25, kappa=1.0)]
        >>> print(asymmetrize(model, rules, seed=0, dry_run=True))
        weight    shape  fixed a unit   share  kappa  trainable
        0.weight  16x8              2  25.0 %      1         96
        2.weight  4x16              4  25.0 %   0.25         48
        212 parameters, 48 fixed; 164 trainable (seed 0, exact)
        >>> made = asymmetrize(model, rules, seed=0)
        >>> sum(p.numel() for p in made.parameters()), made[0].weight.shape
        (164, torch.Size([16, 8]))

    References:
        Lim et al. 2024, Section 3, arXiv 2405.20231; the additive form: Ziyin, Xu & Chuang 2025, arXiv 2408.15495.
    """
    plan = plan_asymmetry(model, rules, seed=seed, mode=mode)
    if dry_run:
        return plan
    made = copy.deepcopy(model)
    for planned in plan.weights:
        _carry_out(made.get_submodule(planned.place.path), planned, seed, mode)
    return made


def _carry_out(layer: nn.Module, planned: PlannedWeight, seed: int, mode: Mode) -> None:
    place = planned.place
    parameter = layer._parameters[place.tensor]
    assert parameter is not None
    if parameter.is_meta:
        raise ValueError(
            f"{place.name!r} is on the meta device and has no values; build the model on a real device, or pass "
            "dry_run=True for the plan alone"
        )
    values = fixed_values(
        planned.mask, planned.kappa, seed=seed, name=place.name, axis=place.axis, like=parameter.detach()
    )
    mask = planned.mask.to(parameter.device)
    if mode == "exact":
        fix_entries(layer, place.tensor, MaskedWeight(mask, values, axis=place.axis))
    elif mode == "additive":
        fix_entries(layer, place.tensor, ShiftedWeight(values))
    else:
        start = torch.where(mask, parameter.detach(), values)
        setattr(layer, place.tensor, nn.Parameter(start, requires_grad=parameter.requires_grad))


def symmetrize_back(model: nn.Module) -> nn.Module:
    """A plain dense model with the same function: every weight with fixed entries becomes an ordinary parameter.

    Args:
        model: any module; it is not modified. One without fixed entries is copied.

    Returns:
        The dense copy.

    Example:
        >>> model = asymmetrize(nn.Sequential(nn.Linear(8, 4)), Rule(fix=2, kappa=1.0), seed=0)
        >>> plain = symmetrize_back(model)
        >>> list(plain.state_dict()), torch.equal(plain[0].weight, model[0].weight)
        (['0.weight', '0.bias'], True)
    """
    plain = copy.deepcopy(model)
    for _, layer, name, _ in reversed(list(_all_fixed(plain))):
        release_entries(layer, name)
        if type(layer) in _PLAIN:
            layer.__class__ = _PLAIN[type(layer)]  # its constructor has done all that it adds
    return plain


def asymmetrize_like(model: nn.Module, params: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a dense model with the fixed entries, and the parameters, of a checkpoint of an asymmetric one.

    Args:
        model: the dense architecture; it is not modified.
        params: ``state_dict()`` of an asymmetric model of that architecture, with its masks and fixed values.

    Returns:
        The new model.

    Raises:
        KeyError: if the checkpoint fixes nothing, or a weight that the model does not have, or has lost a mask or
            its values.
        ValueError: if a shape differs.

    Example:
        >>> made = asymmetrize(nn.Sequential(nn.Linear(8, 4)), Rule(fix=2, kappa=1.0), seed=0)
        >>> again = asymmetrize_like(nn.Sequential(nn.Linear(8, 4)), made.state_dict())
        >>> torch.equal(again[0].weight, made[0].weight)
        True
    """
    made = copy.deepcopy(model)
    axes = {place.name: place.axis for place in places(model)}
    found = False
    for key, values in params.items():
        path, middle, rest = key.rpartition("parametrizations.")
        tensor, _, end = rest.partition(".")
        if not middle or end != "0.fixed_values":
            continue
        name = f"{path}{tensor}"
        if name not in dict(made.named_parameters()):
            raise KeyError(f"the checkpoint fixes entries of {name!r}, which {type(model).__name__} does not have")
        mask = params.get(f"{path}parametrizations.{tensor}.0.trainable_entries")
        held = params.get(f"{path}parametrizations.{tensor}.original")
        axis = axes.get(name, 0)
        if mask is not None and held is not None and held.ndim == 2 and len(held) != mask.shape[axis]:
            axis = 1 - axis  # a parameter of a module of one's own
        if mask is None and held is not None and held.shape != values.shape:
            raise KeyError(
                f"the checkpoint has no '{path}parametrizations.{tensor}.0.trainable_entries': its mask is lost; save "
                "model.state_dict() of the asymmetric model whole"
            )
        weight = ShiftedWeight(values) if mask is None else MaskedWeight(mask, values, axis=axis)
        fix_entries(made.get_submodule(path.rstrip(".")), tensor, weight)
        found = True
    if not found:
        if lost := [key for key in params if key.endswith(".0.trainable_entries")]:
            raise KeyError(
                f"the checkpoint has {lost[0]!r} and no fixed values: they are lost; save model.state_dict() of the "
                "asymmetric model whole"
            )
        raise KeyError("the checkpoint fixes no entries; load it with load_state_dict")
    made.load_state_dict(params)
    return made
