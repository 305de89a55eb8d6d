"""``symfield symmetries`` and ``symfield check``: the symmetries of a model's parameters, and what holds of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from symfield import random
from symfield.cli.models import CheckpointError, ModelError, load_checkpoint, load_model, parse_example
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    Folded,
    ParameterSymmetry,
    Report,
    certify,
    fold_norms,
    from_axes,
    symmetries,
)

__all__ = ["check_model", "derive_symmetries", "fitting_checkpoint", "model_and_example", "require_fitting"]

_SAME = 1e-4

_T = TypeVar("_T")


def derive_symmetries(
    model: str, examples: Sequence[str], checkpoint: Path | None, *, folding: bool = False, as_json: bool, seed: int
) -> int:
    """Print which transformations of the parameters leave a model's function unchanged.

    Args:
        model: how the model is named.
        examples: shapes of the inputs.
        checkpoint: its weights; those it is made with when None.
        folding: whether layer norms become root-mean-square norms first, where the graph shows that to be exact.
        as_json: whether to print JSON.
        seed: of the random example.

    Returns:
        The exit code: 1 when a derived factor changed the output.

    Raises:
        ExperimentError: if the request cannot be carried out.
    """
    net, example = model_and_example(model, examples, seed, checkpoint)
    folded = _folded(net, example) if folding else None
    found = _derived(net if folded is None else folded.model, example)
    if as_json:
        extra = {} if folded is None else {"folded": _folding_as_dict(folded)}
        print(json.dumps(_as_dict(found) | extra, indent=2))  # noqa: T201
    else:
        console = Console()
        if folded is not None:
            console.print(Text(str(folded)), soft_wrap=True)
        console.print(_factors_table(found, title=type(net).__name__))
        console.print(Text(str(found.report)), soft_wrap=True)
    return int(bool(found.report.rejected))


def check_model(
    model: str,
    examples: Sequence[str],
    checkpoint: Path | None,
    axes: Path | None,
    same_as: Path | None,
    *,
    seed: int,
) -> int:
    """Test claims about a model's parameters, and print what became of each.

    Args:
        model: how the model is named.
        examples: shapes of the inputs.
        checkpoint: its weights; those it is made with when None.
        axes: a JSON table of permutations by axis that somebody wrote down; the derived symmetry when None.
        same_as: another checkpoint, which must compute the same function.
        seed: of examples and random elements.

    Returns:
        The exit code: 1 when a test fails.

    Raises:
        ExperimentError: if the request cannot be carried out.
    """
    net, example = model_and_example(model, examples, seed, checkpoint)
    console = Console()
    failed = False
    if same_as is not None:
        difference, tolerance = _difference(net, example, fitting_checkpoint(net, same_as))
        failed = difference > tolerance
        words = "differ" if failed else "agree"
        console.print(
            f"outputs {words}: relative difference {difference:.1e} (tolerance {tolerance:.0e})", highlight=False
        )
        if axes is None:
            return int(failed)
    symmetry = _derived(net, example) if axes is None else _by_hand(net, axes)
    if axes is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table that is wrong is no internal error
            symmetry = _made(lambda: certify(net, example, symmetry, generator=random.generator(seed)))
    report: Report = symmetry.report
    console.print(_checks_table(report, title=f"{type(net).__name__}, {'derived' if axes is None else axes}"))
    return int(failed or bool(report.rejected))


def model_and_example(
    model: str, examples: Sequence[str], seed: int, checkpoint: Path | None = None
) -> tuple[nn.Module, Any]:
    """The model, in eval mode and with the weights of a checkpoint, and an example.

    Args:
        model: how the model is named.
        examples: shapes of the inputs; the example that comes with the model when there are none.
        seed: of the random example.
        checkpoint: weights, or None.

    Returns:
        (model, example).

    Raises:
        ModelError: if the model cannot be made, or there is no example.
        CheckpointError: if the checkpoint does not belong to the model.
    """
    generator = random.generator(seed)
    net, example = load_model(model, generator)
    if examples:
        example = parse_example(examples, generator)
    if example is None:
        raise ModelError(
            f"{model} comes with no example; give the shapes of its inputs, as in --example 8x3x32x32, "
            "or let the function return a pair (model, example)"
        )
    if checkpoint is not None:
        net.load_state_dict(fitting_checkpoint(net, checkpoint))
    return net, example


def fitting_checkpoint(model: nn.Module, path: Path) -> Params:
    """Parameters and buffers from a file that belongs to a model.

    Args:
        model: the model.
        path: as in :func:`load_checkpoint`; of tied tensors one is enough, as in files that must not share memory.

    Returns:
        All tensors of the model by name.

    Raises:
        CheckpointError: if the file cannot be read or does not belong to the model.
    """
    params = load_checkpoint(path)
    groups: dict[str, list[str]] = {}
    for name, first in _tied(model).items():
        groups.setdefault(first, [first]).append(name)
    for names in groups.values():
        held = next((params[name] for name in names if name in params), None)
        params |= {} if held is None else {name: held for name in names if name not in params}
    require_fitting(model, params, str(path))
    return params


def _tied(model: nn.Module) -> dict[str, str]:
    """Other names of tensors that have several, each to the first."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    names = {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}
    return {name: other for name, other in names.items() if name != other}


def _why_missing(key: str, params: Mapping[str, Tensor]) -> str:
    prefixed = next((other for other in params if other.endswith(f".{key}")), None)
    if prefixed is None:
        return "is it a checkpoint of another architecture?"
    return f"it holds {prefixed!r}: save it again with {prefixed.removesuffix(key)!r} taken off its names"


def require_fitting(model: nn.Module, params: Mapping[str, Tensor], name: str) -> None:
    """Refuse a checkpoint that does not belong to a model.

    Args:
        model: the model.
        params: tensors by name.
        name: how the checkpoint is called in the message.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown, of another shape, not finite, or different
            from one to which the model ties it.
    """
    expected = model.state_dict()
    for key, tensor in expected.items():
        if key not in params:
            raise CheckpointError(f"{name}: tensor {key!r} is missing; {_why_missing(key, params)}")
        if params[key].shape != tensor.shape:
            raise CheckpointError(
                f"{name}: expected shape {tuple(tensor.shape)} for {key!r}, received {tuple(params[key].shape)}"
            )
        if params[key].is_floating_point() and not bool(torch.isfinite(params[key]).all()):
            raise CheckpointError(f"{name}: tensor {key!r} holds NaN or infinity; repair or retrain the model")
        if params[key].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{name}: tensor {key!r} is {params[key].dtype}, expected {tensor.dtype}")
    for key in params:
        if key not in expected:
            raise CheckpointError(f"{name}: tensor {key!r} is not part of {type(model).__name__}; remove it")
    for key, first in _tied(model).items():
        if not torch.equal(params[key], params[first]):
            raise CheckpointError(
                f"{name}: tensors {first!r} and {key!r} differ, but {type(model).__name__} ties them; "
                "give a model that does not"
            )


def _derived(model: nn.Module, example: Any) -> ParameterSymmetry:
    return _made(lambda: symmetries(model, example))


def _folded(model: nn.Module, example: Any) -> Folded:
    return _made(lambda: fold_norms(model, example))


def _made(make: Callable[[], _T]) -> _T:
    """What is wrong with a model or its example, in one line."""
    try:
        return make()
    except ValueError as error:  # Untraceable is one
        raise ModelError(" ".join(str(error).replace(", or pass certificate=False", "").split())) from error


def _folding_as_dict(folded: Folded) -> dict[str, Any]:
    return {
        "norms": [{"module": n.module, "reads": list(n.reads), "kept": n.kept} for n in folded.norms],
        "kept": [{"module": n.module, "reason": n.reason} for n in folded.kept],
        "untied": list(folded.untied),
        "added": list(folded.added),
        "change": folded.change,
        "tolerance": folded.tolerance,
    }


def _by_hand(model: nn.Module, path: Path) -> ParameterSymmetry:
    try:
        axes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    words = str | None
    if not isinstance(axes, dict) or not all(
        isinstance(names, list) and all(isinstance(name, words) for name in names) for names in axes.values()
    ):
        raise ModelError(f'{path}: expected {{"tensor": ["name of a permutation" or null for each axis]}}')
    try:
        return from_axes(axes, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: {error.args[0]}") from error


def _difference(model: nn.Module, example: Any, params: Params) -> tuple[float, float]:
    """Largest relative difference of an output, and what round-off explains."""
    from torch.utils import _pytree as pytree

    from symfield.weightspace.certify import _relative
    from symfield.weightspace.tracing import arguments

    args, kwargs = arguments(example)
    own = model.state_dict()
    others = _tied(model)

    def outputs(tensors: Mapping[str, Tensor]) -> list[Tensor]:
        given = {name: tensor.to(own[name].dtype) for name, tensor in tensors.items() if name not in others}
        with torch.no_grad():
            result = torch.func.functional_call(model, given, args, kwargs)
        return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]

    mine, theirs = outputs(own), outputs(params)
    if not any(bool(output.isfinite().any()) for output in mine):
        raise ModelError("the outputs of the model hold no finite number on the example; check the example")
    eps = max((torch.finfo(x.dtype).eps for x in (*own.values(), *params.values()) if x.is_floating_point()), default=0)
    worst = max(_relative(b, a) for a, b in zip(mine, theirs, strict=True))
    return worst, max(_SAME, 10 * eps)


def _factors_table(found: ParameterSymmetry, *, title: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption=f"{len(found.factors)} factors, continuous dimension {found.dimension}, log order "
        f"{found.log_order:.1f}, {100 * found.coverage:.1f} % of entries free to move",
    )
    table.add_column("factor", style="bold", no_wrap=True)
    table.add_column("group", no_wrap=True)
    table.add_column("moves (tensor.axis)")
    for factor in found.factors:
        slots = found.slots(factor.name)
        shown = list(dict.fromkeys(f"{slot.tensor}.{slot.axis}" for slot in slots))
        more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
        base = f" over {', '.join(factor.base)}" if factor.base else ""
        table.add_row(Text(factor.name), Text(factor.group + base), Text(", ".join(shown[:6]) + more))
    return table


def _checks_table(report: Report, *, title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("result", no_wrap=True)
    table.add_column("factor")
    table.add_column("change of the output", justify="right", no_wrap=True)
    table.add_column("tolerance", justify="right", no_wrap=True)
    for check in (*report.rejected, *report.checks):
        result = Text("holds", style="green") if check.passed else Text("fails", style="bold red")
        table.add_row(result, Text(check.factor), f"{check.error:.1e}", f"{check.tolerance:.0e}")
    return table


def _as_dict(found: ParameterSymmetry) -> dict[str, Any]:
    report: Report = found.report
    return {
        "factors": [
            {
                "name": factor.name,
                "kind": factor.kind,
                "group": factor.group,
                "size": factor.size,
                "over": list(factor.base),
                "dimension": factor.dimension,
                "log_order": factor.log_order,
                "moves": [
                    {"tensor": slot.tensor, "axis": slot.axis, "offset": slot.offset, "stride": slot.stride,
                     "power": slot.move.power}
                    for slot in found.slots(factor.name)
                ],
            }
            for factor in found.factors
        ],
        "dimension": found.dimension,
        "log_order": found.log_order,
        "coverage": found.coverage,
        "certified": report.certified,
        "checks": [
            {"factor": check.factor, "change": check.error, "tolerance": check.tolerance, "passed": check.passed}
            for check in (*report.checks, *report.rejected)
        ],
        "no_rule": [str(item) for item in report.unknown],
        "notes": list(report.notes),
        "fixed": [
            {"tensor": item.tensor, "axis": item.axis, "size": item.size, "reason": item.reason}
            for item in report.fixed
        ],
    }  # fmt: skip
