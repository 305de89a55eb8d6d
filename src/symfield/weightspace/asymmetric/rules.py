"""Which weights of a model get fixed entries, how many, and at what scale: rules and the plan they make.

A weight is a *place*. Rules are tried in order, and the first that chooses a place applies. A rule that is left without
any place is refused, since it would silently do nothing.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import nn
from torch.nn.utils import parametrize

from symfield.typing import Bool, Tensor
from symfield.weightspace.asymmetric.masks import MaskLaw, RandomRows, fixed_mask
from symfield.weightspace.asymmetric.weights import _fixing

__all__ = ["Choice", "FixedPlan", "Place", "PlannedWeight", "Rule", "per_root_fan_in", "places", "plan_asymmetry"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: Linear maps of other packages, by the full name of their class, with the axis of their output units.
_ELSEWHERE = {
    "torch_geometric.nn.dense.linear.Linear": 0,
    "transformers.pytorch_utils.Conv1D": 1,
}
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Place:
    """One weight of a model that may get fixed entries.

    Attributes:
        path: of the module, such as ``"layers.0"``.
        tensor: name of the parameter in the module.
        shape: of the weight.
        axis: of the output units.
        position: among all places of the model, from 0.
        count: of all places.
        module: the module.
    """

    path: str
    tensor: str
    shape: tuple[int, ...]
    axis: int
    position: int
    count: int
    module: nn.Module = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the weight in the model; masks are drawn by it."""
        return f"{self.path}.{self.tensor}" if self.path else self.tensor

    @property
    def columns(self) -> int:
        """Entries that an output unit reads."""
        return math.prod(self.shape) // self.shape[self.axis]


Choice: TypeAlias = str | type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[Place], bool]
"""A glob pattern of module paths, one or more types of modules, or a function of a :class:`Place`."""


@dataclass(frozen=True)
class Rule:
    """What is fixed in some of the weights of a model.

    Args:
        fix: fixed entries (or filters) of every output unit, a count (int) or a share of the row (float).
        kappa: κ, standard deviation of the fixed entries, or a function of the :class:`Place`, see
            :func:`per_root_fan_in`.
        modules: which modules: a glob pattern of their paths, types, or a function of a place; all that are linear,
            convolutional or attention when absent.
        mask: the law of the mask.
        tensors: names of the parameters, for modules that symfield does not know.
        axis: of the output units of those.
        allow_frozen: whether all entries of a unit may be fixed.

    Example:
        >>> head, body = Rule(fix=8, kappa=0.5, modules="head"), Rule(fix=0.25, kappa=2.0, modules=nn.Conv2d)
        >>> head.modules, body.fix
        ('head', 0.25)
    """

    fix: int | float
    kappa: float | Callable[[Place], float]
    modules: Choice | None = None
    mask: MaskLaw = RandomRows()  # noqa: RUF009
    tensors: tuple[str, ...] | None = None
    axis: int = 0
    allow_frozen: bool = False

    def chooses(self, place: Place) -> bool:
        """Whether the rule is about a weight.

        Args:
            place: the weight.

        Returns:
            True if it is.

        Raises:
            TypeError: if ``modules`` is none of what is expected.
        """
        if self.modules is None:
            return True
        if isinstance(self.modules, str):
            return fnmatch.fnmatchcase(place.path, self.modules)
        if isinstance(self.modules, type | tuple):
            return isinstance(place.module, self.modules)
        if callable(self.modules):
            return bool(self.modules(place))
        raise TypeError(
            "expected modules as a pattern of paths, types of modules or a function of a place, received "
            f"{type(self.modules).__name__}"
        )


def per_root_fan_in(scale: float) -> Callable[[Place], float]:
    """The law κ = scale / √columns, so that what is fixed shifts a unit alike in narrow and wide layers.

    Args:
        scale: the factor.

    Returns:
        A function of a place.

    Example:
        >>> place = Place("layer", "weight", (5, 100), 0, 0, 1, nn.Linear(100, 5))
        >>> per_root_fan_in(2.0)(place)
        0.2
    """

    def law(place: Place) -> float:
        return scale / math.sqrt(place.columns)

    return law


@dataclass(frozen=True)
class PlannedWeight:
    """What a rule will fix in one weight.

    Attributes:
        place: the weight.
        rule: the rule that chose it.
        kappa: κ there.
        mask: True where an entry stays trainable.
    """

    place: Place
    rule: Rule = field(repr=False)
    kappa: float
    mask: Bool[Tensor, "..."] = field(repr=False)

    @property
    def fixed(self) -> int:
        """Number of fixed entries."""
        return int((~self.mask).sum())


@dataclass(frozen=True)
class FixedPlan:
    """What rules will fix in a model, as a table to read.

    Attributes:
        weights: the weights, in the order of the model.
        untouched: names of the places that no rule chooses.
        parameters: number of entries of all parameters of the model.
        seed: of masks and fixed values.
        mode: ``"exact"``, ``"additive"`` or ``"init_only"``.
    """

    weights: tuple[PlannedWeight, ...]
    untouched: tuple[str, ...]
    parameters: int
    seed: int
    mode: str

    @property
    def fixed(self) -> int:
        """Number of fixed entries."""
        return sum(weight.fixed for weight in self.weights)

    @property
    def trainable(self) -> int:
        """Number of trainable entries of the model that the plan makes."""
        return self.parameters - (self.fixed if self.mode == "exact" else 0)

    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """The table, cell by cell, with its header first.

        Returns:
            ``(weight, shape, fixed per unit, share, kappa, trainable)``.
        """
        found = [("weight", "shape", "fixed a unit", "share", "kappa", "trainable")]
        for planned in self.weights:
            place = planned.place
            counts = (~planned.mask).movedim(place.axis, 0).flatten(1).sum(1)
            low, high = int(counts.min()), int(counts.max())
            each = str(low) if low == high else f"{low} to {high}"
            left = planned.mask.numel() - (planned.fixed if self.mode == "exact" else 0)
            share = f"{100 * planned.fixed / planned.mask.numel():.1f} %"
            found.append((place.name, "x".join(map(str, place.shape)), each, share, f"{planned.kappa:g}", str(left)))
        return found

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]),
                            *(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))])
                 for row in rows]  # fmt: skip
        lines.append(self.summary())
        if self.untouched:
            lines.append(f"untouched: {', '.join(self.untouched)}")
        return "\n".join(lines)

    def summary(self) -> str:
        """One line of counts.

        Returns:
            Parameters, and how many of them are trainable.
        """
        verb = {"exact": "fixed", "additive": "shifted, all trainable", "init_only": "set at the start, all trainable"}
        return (
            f"{self.parameters} parameters, {self.fixed} {verb[self.mode]}; {self.trainable} trainable "
            f"(seed {self.seed}, {self.mode})"
        )


def places(model: nn.Module) -> list[Place]:
    """The weights of a model that rules choose from: linear, convolutional and attention projections.

    Linear layers of PyTorch Geometric and the ``Conv1D`` of transformers are among them.

    Args:
        model: any module.

    Returns:
        The places, in the order of the model.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> [place.name for place in places(model)]
        ['0.weight', '3.weight']
    """
    found = []
    for path, module in model.named_modules():
        for name, axis in _weights_of(module):
            if parametrize.is_parametrized(module, name) or module._parameters.get(name) is not None:
                found.append((path, name, tuple(getattr(module, name).shape), axis, module))
    return [
        Place(path, name, shape, axis, i, len(found), module)
        for i, (path, name, shape, axis, module) in enumerate(found)
    ]


def _weights_of(module: nn.Module) -> list[tuple[str, int]]:
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return [("weight", 0)]
    if isinstance(module, _TRANSPOSED):
        return [("weight", 1)]
    if isinstance(module, nn.MultiheadAttention):
        return [(name, 0) for name in _ATTENTION]
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return [("weight", _ELSEWHERE[name]) for name in names if name in _ELSEWHERE]


def plan_asymmetry(model: nn.Module, rules: Rule | Sequence[Rule], *, seed: int, mode: str = "exact") -> FixedPlan:
    """What rules would fix in a model, without doing it.

    Args:
        model: any module; it is not modified.
        rules: one rule or several; the first that chooses a weight applies.
        seed: of masks.
        mode: ``"exact"``, ``"additive"`` or ``"init_only"``, see :func:`asymmetrize`.

    Returns:
        The plan, which prints as a table.

    Raises:
        ValueError: if there are no rules, a rule is left without a weight, a count does not fit, κ is negative, or a
            weight is tied, parametrized or a grouped transposed convolution.
        TypeError: if a rule is none.

    Example:
        >>> print(plan_asymmetry(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), Rule(0.25, 1.0), seed=0))
        weight    shape  fixed a unit   share  kappa  trainable
        0.weight  4x8               2  25.0 %      1         24
        2.weight  2x4               1  25.0 %      1          6
        46 parameters, 10 fixed; 36 trainable (seed 0, exact)
    """
    rules = [rules] if isinstance(rules, Rule) else list(rules)
    if not rules:
        raise ValueError("expected at least one rule, received none; pass Rule(fix=0.25, kappa=1.0)")
    if wrong := [rule for rule in rules if not isinstance(rule, Rule)]:
        raise TypeError(f"expected rules, received {type(wrong[0]).__name__}; pass Rule(fix=0.25, kappa=1.0)")
    if mode not in ("exact", "additive", "init_only"):
        raise ValueError(f"expected mode 'exact', 'additive' or 'init_only', received {mode!r}")
    chosen, untouched = _assigned(model, rules)
    tied = _tied(model)
    planned = []
    for place, rule in chosen:
        _require_free(place, tied)
        kappa = float(rule.kappa(place) if callable(rule.kappa) else rule.kappa)
        if not (math.isfinite(kappa) and kappa >= 0):
            raise ValueError(f"expected κ ≥ 0 for {place.name!r}, received {kappa:g}")
        mask = fixed_mask(
            place.shape, rule.fix, seed=seed, name=place.name, law=rule.mask, axis=place.axis,
            allow_frozen=rule.allow_frozen or mode != "exact",
        )  # fmt: skip
        planned.append(PlannedWeight(place, rule, kappa, mask))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return FixedPlan(tuple(planned), tuple(untouched), parameters, seed, mode)


def _assigned(model: nn.Module, rules: Sequence[Rule]) -> tuple[list[tuple[Place, Rule]], list[str]]:
    """Every place with its rule, in the order of the model, and the places without one."""
    known = places(model)
    given = {(place.path, place.tensor) for place in known}
    chosen: list[tuple[Place, Rule]] = []
    used: set[int] = set()
    own: dict[int, list[Place]] = {i: _named(model, rule) for i, rule in enumerate(rules) if rule.tensors is not None}
    every = [*known, *(place for found in own.values() for place in found if (place.path, place.tensor) not in given)]
    untouched: list[str] = []
    for place in dict.fromkeys(every):
        for i, rule in enumerate(rules):
            if i in own and not any((p.path, p.tensor) == (place.path, place.tensor) for p in own[i]):
                continue
            if i not in own and (place.path, place.tensor) not in given:
                continue
            if rule.chooses(place):
                chosen.append((place, rule))
                used.add(i)
                break
        else:
            untouched.append(place.name)
    for i, rule in enumerate(rules):
        if i not in used:
            _refuse(rule, i, rules, [place.path or "(the model itself)" for place in every])
    return chosen, untouched


def _named(model: nn.Module, rule: Rule) -> list[Place]:
    """The places that a rule of named parameters is about."""
    found = []
    for path, module in model.named_modules():
        for name in rule.tensors or ():
            parameter = module._parameters.get(name)
            if parameter is not None and parameter.ndim >= 2:
                place = Place(path, name, tuple(parameter.shape), rule.axis, 0, 1, module)
                if rule.chooses(place):
                    found.append(place)
    return found


def _refuse(rule: Rule, i: int, rules: Sequence[Rule], paths: list[str]) -> None:
    what = f"modules={rule.modules!r}" if rule.modules is not None else "all modules"
    where = f"rule {i} of {len(rules)}, {what}," if len(rules) > 1 else f"the rule, {what},"
    why = "chooses no weight that the rules before it leave" if i else "chooses no weight"
    shown = ", ".join(dict.fromkeys(paths)) or "none"
    raise ValueError(f"{where} {why}; there are linear, convolutional and attention modules at: {shown}")


def _tied(model: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {key: found for key, found in names.items() if len(found) > 1}


def _require_free(place: Place, tied: Mapping[int, list[str]]) -> None:
    if _fixing(place.module, place.tensor) is not None:
        raise ValueError(f"entries of {place.name!r} are fixed already; call symmetrize_back first")
    if parametrize.is_parametrized(place.module, place.tensor):
        raise ValueError(f"{place.name!r} is parametrized already; remove that, or leave the layer out of the rules")
    if names := tied.get(id(place.module._parameters[place.tensor])):
        raise ValueError(
            f"{place.name!r} is tied to {[name for name in names if name != place.name]}, which would change with it; "
            "leave it out of the rules, or untie them"
        )
    if isinstance(place.module, _TRANSPOSED) and place.module.groups > 1:
        raise ValueError(
            f"{place.name!r} belongs to a grouped transposed convolution, whose units do not lie along one axis; leave "
            "it out of the rules"
        )
