"""What a tool finds in a model, beside the ideal, and whether the function survives a random element of it.

The test is the study's own and shares nothing with the library's certificate: parameters and buffers far from their
initial values, inputs drawn afresh, float64 (float32 for the largest model), the output before and after. An output
has changed when it moved by more than what round-off explains.
"""

from __future__ import annotations

import copy
import functools
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from symfield.experiments import Row
from symfield.studies._derivation_coverage_tools import PEERS
from symfield.studies._derivation_coverage_zoo import Case
from symfield.weightspace import Fixed, ParameterSymmetry, certify, derive, trace

__all__ = ["copies", "measure", "ours", "theirs"]

#: Why an axis is fixed in every model: nothing is missing there.
_BOUNDARY = ("model input", "model output", "positions", "rows are chosen", "frequencies", "computed from inputs")


def copies(group: str) -> int:
    """How many permutations of one list a group holds: ``GL(2)^4`` and ``S_3^4`` hold 4, scales and signs none.

    Args:
        group: as the library writes it.

    Returns:
        The number.
    """
    kind, _, power = group.partition("^")
    return 0 if kind in ("R+", "Z2", "C*") else int(power or 1)


def measure(case: Case, tool: str, *, trials: int, seed: int, heavy: bool = False) -> Row:
    """One row: what a tool finds in a model.

    Args:
        case: the model.
        tool: ``"symfield"`` or the name of a peer.
        trials: random elements, each at other parameters and another input.
        seed: of the random numbers.
        heavy: a large model, which stays in float32 and gets no certificate.

    Returns:
        The row; an exception of the tool is in ``note``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = case.build().eval()
    blank: Row = {
        "found": 0, "ideal": 0, "groups": 0, "missing": "", "surplus": "", "named": False, "error": None,
        "batch_error": None, "tolerance": None, "coverage": None, "entries": sum(p.numel() for p in model.parameters()),
        "trace_seconds": None, "seconds": None, "unknown": "", "rejected": 0, "note": "",
    }  # fmt: skip
    try:
        found = (ours if tool == "symfield" else theirs(tool))(case, model, trials, seed, heavy)
    except Exception as error:  # a tool may fail in any way, and the row says how
        what = " ".join(str(error).split())[:120]
        return blank | {"status": "error", "note": f"{type(error).__name__}: {what}".strip(": ")}
    row = blank | found
    worst = row["error"]
    if worst is None or not worst <= row["tolerance"]:
        status = "wrong"
    else:
        status = "complete" if row["found"] == row["ideal"] and not row["surplus"] else "partial"
    return row | {"status": status}


@functools.cache
def _warm() -> None:
    """A first trace imports the compiler, for more than a second; that is nobody's model."""
    derive(trace(nn.Linear(1, 1), torch.zeros(1, 1)))


def ours(case: Case, model: nn.Module, trials: int, seed: int, heavy: bool) -> Row:
    """Factors of the library beside the ideal, and the invariance under each of them and all at once.

    Args:
        case: what to expect.
        model: in eval mode.
        trials: random elements of each factor.
        seed: of the random numbers.
        heavy: whether to leave out the certificate and the factors one by one.

    Returns:
        Fields of the row.
    """
    example = case.example()
    _warm()
    start = time.process_time()
    graph = trace(model, example)
    middle = time.process_time()
    symmetry = derive(graph)
    end = time.process_time()
    if not heavy:
        symmetry = certify(model, example, symmetry)
    expected = Counter((kind, group) for kind, groups in case.expected.items() for group in groups)
    found = Counter((factor.name.partition(":")[0], factor.group) for factor in symmetry.factors)
    report = symmetry.report
    error, tolerance = _invariance(model, example, symmetry, trials, seed, heavy)
    return {
        "found": (found & expected).total(),
        "ideal": expected.total(),
        "groups": sum(copies(factor.group) for factor in symmetry.factors),
        "missing": _text(expected - found),
        "surplus": _text(found - expected),
        "named": bool(report.unknown or report.rejected or any(_is_a_gap(item) for item in report.fixed)),
        "error": error,
        "tolerance": tolerance,
        "coverage": symmetry.coverage,
        "trace_seconds": middle - start,
        "seconds": end - start,
        "unknown": ", ".join(item.operator for item in report.unknown),
        "rejected": len(report.rejected),
    }


def theirs(tool: str) -> Any:
    """A function like :func:`ours` for a peer, which finds permutations only and is judged by them alone.

    Args:
        tool: name of the peer.

    Returns:
        The function.
    """

    def run(case: Case, model: nn.Module, trials: int, seed: int, heavy: bool) -> Row:
        net, args = _one_input(model, case.example())
        net, dtype = _precise(net, (args, {}), seed)
        ideal = sum(copies(group) for groups in case.expected.values() for group in groups)
        worst, worst_batch, tolerance, counts, seconds = 0.0, 0.0, 0.0, [], []
        for trial in range(trials):
            generator = torch.Generator().manual_seed(seed + trial)
            inputs = (_fresh(args[0], generator, dtype),)
            net.load_state_dict(_generic(net, generator), strict=False)
            answer = PEERS[tool].run(net, inputs, generator)
            moved = answer.model.eval()
            worst = max(worst, _difference(net, moved, inputs))
            twins = _with_batch_statistics(net), _with_batch_statistics(moved)
            worst_batch = max(worst_batch, _difference(*twins, inputs))
            before = _outputs(net, inputs, {})
            tolerance = max(tolerance, _round_off(net, before, (inputs, {}), generator))
            counts.append(answer.groups)
            seconds.append(answer.seconds)
        groups = min(counts)
        return {
            "found": min(groups, ideal),
            "ideal": ideal,
            "groups": groups,
            "surplus": f"{groups - ideal} groups" if groups > ideal else "",
            "error": worst,
            "batch_error": worst_batch,
            "tolerance": tolerance,
            "seconds": min(seconds),
        }

    return run


class _Bound(nn.Module):
    """A model of one tensor: its other inputs are constants, and only its first output is returned."""

    def __init__(self, model: nn.Module, name: str | None, rest: tuple[Any, ...], fixed: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.name, self.rest, self.fixed = model, name, rest, fixed

    def forward(self, x: Tensor) -> Tensor:
        rest = [item.to(x.dtype) if item.is_floating_point() else item for item in self.rest]
        output = self.model(x, *rest) if self.name is None else self.model(**{self.name: x}, **self.fixed)
        return next(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))


def _one_input(model: nn.Module, example: Any) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A model that every peer can call, and its example."""
    if isinstance(example, Tensor):
        return model, (example,)
    if isinstance(example, Mapping):
        name, *others = example
        return _Bound(model, name, (), {key: example[key] for key in others}).eval(), (example[name],)
    return _Bound(model, None, example[1:], {}).eval(), (example[0],)


def _precise(model: nn.Module, example: tuple[Any, Any], seed: int) -> tuple[nn.Module, torch.dtype]:
    """A copy of the model in float64, or in float32 where some kernel has no float64."""
    double, draw = copy.deepcopy(model).double(), torch.Generator().manual_seed(seed)
    try:
        _outputs(double, *pytree.tree_map(lambda item: _fresh(item, draw, torch.float64), example))
    except RuntimeError:
        return copy.deepcopy(model), torch.float32
    return double, torch.float64


def _with_batch_statistics(model: nn.Module) -> nn.Module:
    """A copy whose batch norms ignore their buffers, and the rest of which is in eval mode."""
    twin = copy.deepcopy(model).eval()
    for module in twin.modules():
        module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return twin


def _text(counted: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{group}" if n == 1 else f"{n} × {group}" for (_, group), n in sorted(counted.items()))


def _is_a_gap(item: Fixed) -> bool:
    """Whether a fixed axis is one that a missing factor could move."""
    return not item.reason.startswith(_BOUNDARY)


def _generic(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters far from their initial zeros and ones, tied ones alike; running variances stay positive."""
    trained = {name for name, _ in model.named_parameters()}
    values: dict[str, Tensor] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or name not in model.state_dict():
            continue
        draw = torch.randn((2, *tensor.shape), generator=generator, dtype=torch.float64).to(tensor.dtype)
        size = tensor.shape[-1] if tensor.ndim else 1
        spread = max(float(tensor.detach().double().square().mean().sqrt()), size**-0.5)
        values[name] = tensor.detach() * (0.4 * draw[0]).exp()
        if name in trained:
            values[name] = values[name] + 0.5 * spread * draw[1]
    return values


def _fresh(item: Any, generator: torch.Generator, dtype: torch.dtype) -> Any:
    if not isinstance(item, Tensor):
        return item
    if item.is_floating_point():
        return 0.2 + torch.randn(item.shape, generator=generator, dtype=dtype)
    return torch.randint(int(item.max()) + 1, item.shape, generator=generator)


def _outputs(model: nn.Module, args: Any, kwargs: Any) -> list[Tensor]:
    with torch.no_grad():
        leaves = pytree.tree_leaves(model(*args, **kwargs))
    return [leaf.clone() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _relative(new: list[Tensor], old: list[Tensor]) -> float:
    return max((float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in zip(new, old, strict=True)), default=0.0)


def _difference(one: nn.Module, other: nn.Module, args: tuple[Any, ...]) -> float:
    return _relative(_outputs(other, args, {}), _outputs(one, args, {}))


def _round_off(model: nn.Module, before: list[Tensor], drawn: Any, generator: torch.Generator) -> float:
    """What round-off explains: a hundred times the answer to a disturbance of a unit in the last place of float32.

    Some models of float64 weights compute parts in float32 all the same.
    """
    double = next(model.parameters()).dtype == torch.float64
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in twin.parameters():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.mul_(1 + (1e-8 if double else 1e-6) * noise.to(tensor.dtype))
    answer = _relative(_outputs(twin, *drawn), before)
    return min(max(1e-6 if double else 1e-4, 100 * answer), 1e-3)


def _invariance(
    model: nn.Module, example: Any, symmetry: ParameterSymmetry, trials: int, seed: int, heavy: bool
) -> tuple[float, float]:
    """Largest relative change of an output under each factor and under all, and what round-off explains of it."""
    args, kwargs = ((), example) if isinstance(example, Mapping) else (pytree.tree_leaves(example), {})
    net, dtype = (copy.deepcopy(model), torch.float32) if heavy else _precise(model, (args, kwargs), seed)
    names = [] if heavy else [factor.name for factor in symmetry.factors]
    worst = tolerance = 0.0
    for trial in range(trials):
        generator = torch.Generator().manual_seed(1000 + seed + trial)
        drawn = pytree.tree_map(lambda item, g=generator: _fresh(item, g, dtype), (args, kwargs))
        net.load_state_dict(_generic(net, generator), strict=False)
        params = {name: tensor.clone() for name, tensor in net.state_dict().items() if name in _known(symmetry)}
        before = _outputs(net, *drawn)
        tolerance = max(tolerance, _round_off(net, before, drawn, generator))
        whole = symmetry.random_element(generator=generator)
        for element in (*({name: whole[name]} for name in names), whole):
            net.load_state_dict(symmetry.apply(params, element), strict=False)
            worst = max(worst, _relative(_outputs(net, *drawn), before))
    return worst, tolerance


def _known(symmetry: ParameterSymmetry) -> set[str]:
    return set(symmetry.shapes) | set(symmetry.aliases)
