"""Repair of merged models: batch norms re-estimated, and hidden units given back their spread.

Between two models the units of a network vary less over the data than in either of them: signals that are not perfectly
aligned cancel, layer by layer. Running statistics of batch norms are wrong there for the same reason. For a merged
network and its endpoints with weights w_i, every hidden unit gets the mean and the standard deviation

    μ* = Σ_i w_i μ_i,   σ* = Σ_i w_i σ_i

over given data, through y ↦ σ*/σ (y − μ) + μ*. All layers are corrected in one pass, each on the data as the corrected
layers before it pass them on, and the corrections are folded into weights and biases, or into gains and biases of batch
norms: the result is a state dict of the same architecture. The graph of the model says which layers are hidden.

References:
    Jordan et al. 2023, REPAIR: renormalizing permuted activations for interpolation repair, arXiv 2211.08403. Izmailov
    et al. 2018, Averaging weights leads to wider optima and better generalization, Section 3.2, arXiv 1803.05407.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from symfield.typing import Params, Tensor
from symfield.weightspace.agreement import require_alike, require_complete, require_weights, tied
from symfield.weightspace.hidden_layers import CONVOLUTIONS, Plan, is_linear_of_columns, plan_repair
from symfield.weightspace.tracing import Example, _quiet, arguments, trace

__all__ = ["LayerRepair", "Repair", "Repaired", "repair"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}

Moments: TypeAlias = tuple[Tensor, Tensor]
"""Mean and standard deviation of the units of a layer, float64."""


class LayerRepair(NamedTuple):
    """What was done to one layer.

    Attributes:
        module: its path.
        carrier: the tensors that carry the correction.
        units: how many units.
        spread: sum of the standard deviations of the units before the correction over that of those sought; 1 where
            nothing was lost. NaN where only running statistics were estimated.
        constant: units that do not vary over the data, whose spread cannot be given back.
    """

    module: str
    carrier: str
    units: int
    spread: float
    constant: int


@dataclass(frozen=True)
class Repaired:
    """A model with its statistics restored.

    Attributes:
        params: tensors by name, for the same architecture.
        layers: what was corrected, in the order of computation.
        left: modules with weights that stay as they are, each with the reason.
    """

    params: Params = field(repr=False)
    layers: tuple[LayerRepair, ...]
    left: Mapping[str, str]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Layers corrected with the spread that they had, and modules left with the reason."""
        rows = [("module", "units", "spread", "through")]
        for layer in self.layers:
            spread = "" if layer.spread != layer.spread else f"{layer.spread:.3f}"
            constant = f" ({layer.constant} constant)" if layer.constant else ""
            rows.append((layer.module or "(model)", f"{layer.units}{constant}", spread, layer.carrier))
        rows += [(name or "(model)", "", "", f"left: {reason}") for name, reason in self.left.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows)


@torch.no_grad()
def repair(
    model: nn.Module,
    params: Mapping[str, Tensor],
    inputs: Example,
    *,
    endpoints: Sequence[Mapping[str, Tensor]] = (),
    weights: Sequence[float] | None = None,
) -> Repaired:
    """Restore the statistics of a merged model on data.

    Without endpoints the running statistics of batch norms are estimated anew. With endpoints moreover every hidden
    unit of a linear or convolutional layer gets the mean and the standard deviation that it has in the endpoints on
    average: where a batch norm follows directly, at its output. A layer without bias gets its standard deviation alone.
    Outputs of the model (layers after which no weights come), tied weights, modules called more than once and modules
    without a rule stay as they are and are named in the result. An endpoint keeps its function.

    Args:
        model: the architecture; its own parameters do not matter, and it is not changed.
        params: of the merged model, buffers included.
        inputs: the data, in one batch: one tensor, a tuple of positional or a dict of keyword arguments. Some hundred
            samples serve for a few hundred units; training data without augmentation, never test data.
        endpoints: parameters of the models that were merged, as they were merged: after alignment.
        weights: of the endpoints; equal when None. They must sum to 1.

    Returns:
        The :class:`Repaired` model; the inputs are not modified.

    Raises:
        KeyError: if a tensor is missing or unknown.
        ValueError: if the models do not fit together, a tensor or a statistic is NaN, weights do not fit, there is one
            sample only, the model without endpoints has no batch norm with running statistics, or a module does not
            pass its correction on to the output as its weights say.
        TypeError: if dtypes differ.
        Untraceable: with endpoints, if the model cannot be written as a graph.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
        >>> ends = [{name: s * torch.ones_like(p) for name, p in model.state_dict().items()} for s in (1.0, 3.0)]
        >>> merged = {name: torch.full_like(p, 0.5) for name, p in ends[0].items()}
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> found = repair(model, merged, x, endpoints=ends)
        >>> found.params["0.weight"].tolist(), found.params["0.bias"].tolist(), found.left
        ([[2.0, 2.0]], [2.0], {'2': 'no weights come after it: an output of the model'})
    """
    require_complete(model, params)
    if not endpoints:
        if weights is not None:
            raise ValueError("weights belong to endpoints; pass both or none")
        return _reestimated(model, params, inputs)
    for end in endpoints:
        require_alike([params, end])
    shares = require_weights(weights, len(endpoints))
    plan, ends = _measured(model, endpoints, inputs, plan_repair(trace(model, inputs), model))
    return _repaired(model, params, inputs, plan, _average(ends, shares))


@dataclass(frozen=True)
class Repair:
    """Repair along a line between two models: what :func:`curve` and :func:`four_corners` take.

    Attributes:
        model: the architecture.
        inputs: the data, as in :func:`repair`.
        rescale: whether hidden units get their statistics back; otherwise batch norms are estimated anew, no more.
    """

    model: nn.Module
    inputs: Example
    rescale: bool = True

    @cached_property
    def _plan(self) -> Plan:
        return plan_repair(trace(self.model, self.inputs), self.model)

    @torch.no_grad()
    def __call__(
        self, params_a: Mapping[str, Tensor], params_b: Mapping[str, Tensor]
    ) -> Callable[[Params, float], Params]:
        """Measure both endpoints once.

        Args:
            params_a: model at t = 0.
            params_b: model at t = 1.

        Returns:
            From parameters and t to the repaired parameters.

        Raises:
            KeyError: as :func:`repair`.
            ValueError: as :func:`repair`.
        """
        if not self.rescale:
            return lambda params, t: repair(self.model, params, self.inputs).params
        require_complete(self.model, params_a)
        require_alike([params_a, params_b])
        plan, ends = _measured(self.model, (params_a, params_b), self.inputs, self._plan)

        @torch.no_grad()
        def between(params: Params, t: float) -> Params:
            return _repaired(self.model, params, self.inputs, plan, _average(ends, (1 - t, t))).params

        return between


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = []
    try:
        for path, module in modules.items():

            def call(module: nn.Module, args: Any, kwargs: Any, y: Tensor, path: str = path) -> Any:
                return hook(path, module, next(iter((*args, *kwargs.values()))), y)

            handles.append(module.register_forward_hook(call, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, params: Mapping[str, Tensor], inputs: Example) -> list[Tensor]:
    args, kwargs = arguments(inputs)
    with _quiet(model):
        output = torch.func.functional_call(model, dict(params), args, kwargs, tie_weights=True)
    return [item for item in pytree.tree_leaves(output) if isinstance(item, Tensor)]


def _units(module: nn.Module, x: Tensor) -> int:
    """The axis of the units in the output of a module."""
    if isinstance(module, nn.Linear) or is_linear_of_columns(module):
        return x.ndim - 1
    spatial = next((n for kind, n in CONVOLUTIONS.items() if isinstance(module, kind)), None)
    return 1 if spatial is None else x.ndim - 1 - spatial


def _spread(y: Tensor, axis: int, path: str) -> Moments:
    flat = y.detach().double().movedim(axis, -1).reshape(-1, y.shape[axis])
    if len(flat) < 2:
        raise ValueError(f"expected at least 2 samples, received {len(flat)} at {path!r}; pass more data")
    mean = flat.mean(0)
    std = (flat - mean).square().mean(0).sqrt()
    if not bool((mean + std).isfinite().all()):
        raise ValueError(f"the output of {path!r} holds NaN or infinity on the data; look at the model and the inputs")
    return mean, std


def _measured(
    model: nn.Module, models: Sequence[Mapping[str, Tensor]], inputs: Example, plan: Plan
) -> tuple[Plan, list[dict[str, Moments]]]:
    """Moments of all units to be corrected, in each model; the plan without modules that are not called just once."""
    hooked = {**plan.corrected, **plan.estimated}
    calls = dict.fromkeys(hooked, 0)
    measured: list[dict[str, Moments]] = []

    def record(path: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        calls[path] += 1
        if path in plan.corrected:
            measured[-1][path] = _spread(y, _units(module, y), path)

    with _hooked(hooked, record):
        for params in models:
            measured.append({})
            _run(model, params, inputs)
    reasons = {}
    for path, times in calls.items():
        if times == 0:
            reasons[path] = "it is not called; another module or a fused kernel reads its weights"
        elif times != len(models):
            reasons[path] = f"it is called {times // len(models)} times in one pass"
    plan = plan.without(reasons)
    return plan, [{path: found[path] for path in plan.corrected} for found in measured]


def _average(measured: Sequence[Mapping[str, Moments]], shares: Sequence[float]) -> dict[str, Moments]:
    def mean(path: str, which: int) -> Tensor:
        first = measured[0][path][which]  # differences, so that equal statistics stay equal to the last bit
        return first + sum(share * (found[path][which] - first) for share, found in zip(shares, measured, strict=True))

    return {path: (mean(path, 0), mean(path, 1)) for path in measured[0]}


def _reestimated(model: nn.Module, params: Mapping[str, Tensor], inputs: Example) -> Repaired:
    norms: dict[str, nn.Module] = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    if not norms:
        raise ValueError(
            f"{type(model).__name__} has no batch norm with running statistics; pass endpoints to restore the "
            "statistics of hidden units"
        )
    plan, _ = _measured(model, [params], inputs, Plan(estimated=norms))
    return _repaired(model, params, inputs, plan, {})


def _repaired(
    model: nn.Module, params: Mapping[str, Tensor], inputs: Example, plan: Plan, sought: Mapping[str, Moments]
) -> Repaired:
    new: Params = {}
    for name, home in tied(params).items():
        new[name] = new[home] if home in new else params[name].detach().clone()
    layers: list[LayerRepair] = []

    def correct(path: str, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        prefix = f"{path}." if path else ""
        carriers: list[str] = []
        if path in plan.estimated:
            y = _estimate(prefix, module, x, y, new)
            carriers.append("running statistics")
        if path not in plan.corrected:
            layers.append(LayerRepair(path, carriers[0], y.shape[1], float("nan"), 0))
            return y
        axis = _units(module, y)
        mean, std = _spread(y, axis, path)
        goal_mean, goal_std = (moment.to(mean.device) for moment in sought[path])
        size = y.detach().abs().double().movedim(axis, -1).reshape(-1, y.shape[axis]).amax(0)
        constant = std <= 8 * torch.finfo(y.dtype).eps * size
        scale = torch.where(constant, 1.0, goal_std / torch.where(constant, 1.0, std))
        bias = module.bias is not None
        shift = goal_mean - scale * mean if bias else torch.zeros_like(mean)
        _fold(prefix, module, new, scale, shift)
        carriers += ["weight", "bias"] if bias else ["weight (no bias: the mean is left)"]
        spread = float(std.sum() / goal_std.sum()) if goal_std.sum() > 0 else 1.0
        layers.append(LayerRepair(path, ", ".join(carriers), len(mean), spread, int(constant.sum())))
        shape = [-1 if i == axis else 1 for i in range(y.ndim)]
        return y * scale.to(y.dtype).reshape(shape) + shift.to(y.dtype).reshape(shape)

    with _hooked({**plan.corrected, **plan.estimated}, correct):
        expected = _run(model, params, inputs)
    _require_folded(_run(model, new, inputs), expected)
    return Repaired(new, tuple(layers), dict(plan.left))


def _estimate(prefix: str, module: Any, x: Tensor, y: Tensor, new: Params) -> Tensor:
    """Running statistics from the data, variances unbiased as in training; the output that they make."""
    flat = x.detach().double().movedim(1, -1).reshape(-1, x.shape[1])
    if len(flat) < 2:
        raise ValueError(f"expected at least 2 samples, received {len(flat)}; pass more data")
    for name, value in (("running_mean", flat.mean(0)), ("running_var", flat.var(0))):
        if not bool(value.isfinite().all()):
            raise ValueError(f"the input of batch norm {prefix.rstrip('.')!r} holds NaN or infinity on the data")
        new[prefix + name] = value.to(new[prefix + name])
    return nn.functional.batch_norm(
        x, new[prefix + "running_mean"], new[prefix + "running_var"], module.weight, module.bias, eps=module.eps
    )


def _fold(prefix: str, module: Any, new: Params, scale: Tensor, shift: Tensor) -> None:
    weight = new[prefix + "weight"]
    along = scale.to(weight.device)
    if isinstance(module, _TRANSPOSED):  # (inputs, outputs per group, ...), inputs in groups
        grouped = weight.double().unflatten(0, (module.groups, -1))
        shape = (module.groups, 1, -1, *[1] * (weight.ndim - 2))
        scaled = (grouped * along.reshape(shape)).flatten(0, 1)
    elif is_linear_of_columns(module):
        scaled = weight.double() * along
    else:
        scaled = weight.double() * along.reshape(-1, *[1] * (weight.ndim - 1))
    new[prefix + "weight"] = scaled.to(weight.dtype)
    if module.bias is not None:
        bias = new[prefix + "bias"]
        new[prefix + "bias"] = (bias.double() * along + shift.to(bias.device)).to(bias.dtype)


def _require_folded(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """The plain network with new tensors must do what the corrections did."""
    for a, b in zip(found, expected, strict=True):
        if not b.is_floating_point():
            continue
        error = (a - b).double().norm() / b.double().norm().clamp_min(1e-300)
        if not bool(error <= _TOLERANCE.get(b.dtype, 0.1)) and bool(b.any()):
            raise ValueError(
                f"with corrections folded into its weights the model differs from the corrected one by {error:.1e}: a "
                "linear, convolutional or batch norm module does more than its weight and bias say; remove adapters"
            )
