"""``symfield align``: two trained models of one architecture, brought together along its symmetries, and merged.

Whatever the method finds, the moved model is run beside the original on several inputs; files are written only when
both compute the same function.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from symfield import random
from symfield.cli.models import CheckpointError, ModelError, save_checkpoint
from symfield.cli.parameters import _SAME, _by_hand, _derived, fitting_checkpoint, model_and_example
from symfield.typing import Generator, Params, Tensor
from symfield.weightspace import (
    ActivationMatching,
    Alignment,
    Factor,
    FrankWolfe,
    ParameterSymmetry,
    Permutation,
    PositiveScale,
    Sign,
    WeightMatching,
    align,
    identity,
    is_running_statistic,
    merge,
    sorted_entries,
)
from symfield.weightspace.certify import _Bench
from symfield.weightspace.matching import Fit, Method, Problem, Solution, fit
from symfield.weightspace.tracing import arguments

__all__ = ["METHODS", "STARTS", "Request", "align_checkpoints"]

METHODS = ("weights", "activations", "frank-wolfe")
STARTS = ("layers", "identity", "sorted", "activations")
_INPUTS = 3


@dataclass(frozen=True)
class Request:
    """What ``symfield align`` was asked for.

    Attributes:
        first: checkpoint that stays.
        second: checkpoint that is moved.
        model: how the model is named.
        examples: shapes of its inputs.
        inputs: file with an example that replaces them, for activations and tests; or None.
        axes: a JSON table of permutations by axis instead of the derived symmetry; or None.
        method: one of :data:`METHODS`.
        starts: words of :data:`STARTS`, and a number of random restarts, with commas between them.
        merge: weight of the second model in what is written, or ``none`` for the moved model alone.
        out: where the merged model goes.
        aligned: where the moved second model goes, or None.
        as_json: whether to print JSON.
        seed: of random inputs and restarts.
    """

    first: Path
    second: Path
    model: str
    examples: Sequence[str]
    out: Path
    inputs: Path | None = None
    axes: Path | None = None
    method: str = "weights"
    starts: str = "layers"
    merge: str = "0.5"
    aligned: Path | None = None
    as_json: bool = False
    seed: int = 0


class _Row(NamedTuple):
    """What became of one factor: how much it moves, and the cosine of the tensors that it moves."""

    factor: Factor
    moves: str
    share: float
    before: float
    after: float


def align_checkpoints(request: Request) -> int:
    """Align, test, write, and print.

    Args:
        request: what was asked for.

    Returns:
        The exit code: 1 when the moved model computes another function, and nothing is written.

    Raises:
        ExperimentError: if the request cannot be carried out.
    """
    weight = _merging_weight(request.merge)
    _require_separate(request)
    net, example = model_and_example(request.model, request.examples, request.seed)
    if request.inputs is not None:
        example = _held_inputs(request.inputs)
    a, b = (fitting_checkpoint(net, path) for path in (request.first, request.second))
    method = _method(request, net, (a, b), example)
    net.load_state_dict(a)
    symmetry = _derived(net, example) if request.axes is None else _by_hand(net, request.axes)
    began = time.process_time()
    try:
        found = align(a, b, symmetry, method=method)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{request.first}, {request.second}: {error.args[0]}") from error
    spent = time.process_time() - began
    change, tolerance = _change(net, symmetry, b, found.params, example, random.generator(request.seed))
    same = change <= tolerance
    written = _write(request, weight, a, found.params) if same else []
    rows = _rows(symmetry, found, a, b)
    if request.as_json:
        print(json.dumps(_as_dict(rows, found, change, tolerance, written, spent), indent=2))  # noqa: T201
    else:
        _show(request, net, rows, found, (change, tolerance), written, spent)
    return int(not same)


def _merging_weight(words: str) -> float | None:
    if words == "none":
        return None
    try:
        weight = float(words)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise ModelError(
            f"expected --merge to be a weight of the second model from 0 to 1, or none, received {words!r}"
        )
    return weight


def _require_separate(request: Request) -> None:
    """No file is written over one that is read, or twice, or below another file."""
    read = {request.first.resolve(), request.second.resolve()}
    written = [path for path in (request.out, request.aligned) if path is not None]
    for path in written:
        if path.resolve() in read:
            raise CheckpointError(f"{path} would be overwritten, but is read; give another file")
        nearest = next(folder for folder in path.resolve().parents if folder.exists())
        if path.is_dir() or not nearest.is_dir():
            raise CheckpointError(f"{path} cannot be written; expected a file in a folder, .safetensors or .pt")
    if len({path.resolve() for path in written}) < len(written):
        raise CheckpointError(f"--out and --aligned are both {request.out}; give two files")


def _held_inputs(path: Path) -> Any:
    """An example from a file of ``torch.save``: a tensor, a tuple of positional arguments, a dict of named ones."""
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be read as inputs: {type(error).__name__}: {words}") from error
    if isinstance(held, list):
        held = tuple(held)
    if not isinstance(held, Tensor | tuple | dict):
        raise ModelError(f"{path}: expected a tensor, a tuple or a dict of tensors, received {type(held).__name__}")
    return held


def _method(request: Request, net: nn.Module, params: tuple[Params, Params], example: Any) -> Method:
    """The method that the words name."""
    if request.method not in METHODS:
        raise ModelError(f"expected --method to be one of {', '.join(METHODS)}, received {request.method!r}")

    def activations() -> Method:
        args, kwargs = arguments(example)
        if kwargs:
            raise ModelError("matching by activations needs positional inputs; use another method or start")
        models = [copy.deepcopy(net) for _ in params]
        for model, state in zip(models, params, strict=True):
            model.load_state_dict(state)
        return ActivationMatching(models[0], models[1], tuple(args))

    if request.method == "activations":
        if request.starts != "layers":
            raise ModelError("--starts is for the methods weights and frank-wolfe; activations needs none")
        return activations()
    known: dict[str, Method | None] = {"layers": None, "identity": identity, "sorted": sorted_entries}
    generator = random.generator(request.seed)
    tried: list[Method] = []
    for word in request.starts.split(","):
        if word.isdigit():
            tried += [_descent(request.method, _random(generator))] * int(word)
        elif word in STARTS:
            tried.append(_descent(request.method, activations() if word == "activations" else known[word]))
        else:
            raise ModelError(
                f"expected --starts to be words of {', '.join(STARTS)}, or a number of random ones, with commas, "
                f"received {word!r}"
            )
    if not tried:
        raise ModelError("--starts 0 leaves nothing to do; give at least one start")

    def best(problem: Problem) -> Solution:
        found = [method(problem) for method in tried]
        chosen = min(found, key=lambda solution: problem.fit(solution.element).squared_distance)
        work = found[0].work
        for other in found[1:]:
            work = work.plus(other.work)
        return chosen._replace(work=work)

    return best


def _descent(name: str, start: Method | None) -> Method:
    return WeightMatching(start) if name == "weights" else FrankWolfe(start)


def _random(generator: Generator) -> Method:
    """A start at random permutations."""

    def run(problem: Problem) -> Solution:
        permutations = [factor for factor in problem.symmetry.factors if isinstance(factor, Permutation)]
        return Solution({factor.name: factor.random_element(generator=generator) for factor in permutations})

    return run


def _change(
    net: nn.Module, symmetry: ParameterSymmetry, before: Params, after: Params, example: Any, generator: Generator
) -> tuple[float, float]:
    """Largest relative change of an output over several inputs, and the tolerance; in float64 where the model can."""
    bench = _Bench(net, example, symmetry, _INPUTS, generator)
    sides = ({name: side[name].to(like) for name, like in bench.params.items()} for side in (before, after))
    one, two = (dict(side) for side in sides)
    change = bench.change(two, {}, bench.outputs(one, {}))
    eps = max(torch.finfo(x.dtype).eps for x in before.values() if x.is_floating_point())
    return change, max(_SAME, 10 * eps)


def _write(request: Request, weight: float | None, a: Params, moved: Params) -> list[str]:
    """The files, and their names."""
    try:
        files = [(request.out, moved if weight is None else merge([a, moved], [1 - weight, weight]))]
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{request.first}, {request.second} cannot be merged: {error.args[0]}") from error
    if request.aligned is not None:
        files.append((request.aligned, moved))
    for path, params in files:
        save_checkpoint(params, path)
    return [str(path) for path, _ in files]


def _rows(symmetry: ParameterSymmetry, found: Alignment, a: Params, b: Params) -> list[_Row]:
    rows = []
    for factor in symmetry.factors:
        tensors = {slot.tensor for slot in symmetry.slots(factor.name)}
        counted = {name: 1.0 for name in a if symmetry.aliases.get(name, name) in tensors}
        counted = {name: 1.0 for name in counted if a[name].is_floating_point() and not is_running_statistic(name)}
        moves, share = _moves(factor, found.element.get(factor.name))
        cosines = [fit(a, side, counted).cosine for side in (b, found.params)]
        rows.append(_Row(factor, moves, share, cosines[0], cosines[1]))
    return rows


def _moves(factor: Factor, g: Tensor | None) -> tuple[str, float]:
    """How much an element of a factor moves, in words and as a number; 0 is the identity."""
    one = factor.identity()
    if g is None or torch.equal(g.to(one), one):
        return "nothing", 0.0
    if isinstance(factor, Permutation | Sign):
        share = float((g.to(one) != one).double().mean())
        return f"{100 * share:.0f} % of {factor.size} {'units' if isinstance(factor, Permutation) else 'signs'}", share
    if isinstance(factor, PositiveScale):
        spread = float(g.double().log2().square().mean().sqrt())
        return f"2^±{spread:.2f}", spread
    distance = float((g.double() - one.double()).norm() / one.double().norm())
    return f"‖g − 1‖ / ‖1‖ = {distance:.2f}", distance


def _show(
    request: Request,
    net: nn.Module,
    rows: Sequence[_Row],
    found: Alignment,
    test: tuple[float, float],
    written: Sequence[str],
    spent: float,
) -> None:
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{type(net).__name__}: {request.second} to {request.first}, by {request.method}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("factor", style="bold")
    table.add_column("group", no_wrap=True)
    table.add_column("moved")
    table.add_column("cosine before", justify="right")
    table.add_column("after", justify="right")
    for row in rows:
        table.add_row(Text(row.factor.name), Text(row.factor.group), row.moves, f"{row.before:.3f}", f"{row.after:.3f}")
    console = Console()
    console.print(table)
    before, after = found.before, found.after
    work = found.work
    lines = [
        f"distance {before.squared_distance**0.5:.4g} → {after.squared_distance**0.5:.4g}, "
        f"cosine {before.cosine:.4f} → {after.cosine:.4f}",
        f"{work.assignments} assignment problems, {work.updates} updates, {spent:.2f} CPU s",
    ]
    change, tolerance = test
    if change <= tolerance:
        lines.append(f"same function: outputs change by {change:.1e} (tolerance {tolerance:.0e})")
        lines += [f"written: {name}" for name in written]
        if request.merge != "none" and any(is_running_statistic(name) for name in net.state_dict()):
            lines.append("the model has running statistics: estimate them anew for the merged weights before use")
    else:
        lines.append(
            f"the function changed: outputs differ by {change:.1e} (tolerance {tolerance:.0e}); nothing written"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _as_dict(
    rows: Sequence[_Row], found: Alignment, change: float, tolerance: float, written: Sequence[str], spent: float
) -> dict[str, Any]:
    def closeness(value: Fit) -> dict[str, float]:
        return {"squared_distance": value.squared_distance, "inner": value.inner, "cosine": value.cosine}

    return {
        "factors": [
            {"name": row.factor.name, "group": row.factor.group, "moved": row.share,
             "cosine_before": row.before, "cosine_after": row.after}
            for row in rows
        ],
        "before": closeness(found.before),
        "after": closeness(found.after),
        "work": {**found.work._asdict(), "cpu_s": spent},
        "same_function": change <= tolerance,
        "change": change,
        "tolerance": tolerance,
        "written": list(written),
    }  # fmt: skip
