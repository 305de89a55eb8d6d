"""What is guaranteed of a model with fixed entries or gates, under which assumption, and what is not.

The theorems are weak, and a report must not say more than they do:

- **T1**: an MLP whose masks have pairwise distinct nonzero rows has no neural DAG automorphism but the identity, *if
  fixed entries are missing edges* (κ = 0). For κ > 0 nothing is proved. Four-layer networks with masks can imitate
  two-layer ones without, and inherit their symmetries.
- **T2**: FiGLU with a Gaussian F commutes with no permutation and no invertible diagonal matrix but the identity,
  almost surely. Other linear maps are not excluded, so that injectivity does not follow.
- **rank**: a Jacobian of full column rank excludes continuous symmetries near one point, and no discrete ones.

And none of them explains why networks become linearly connected: on small data they do not with κ = 0, and do without
freezing, from the same large initial entries.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from symfield import random
from symfield.typing import Tensor
from symfield.weightspace.asymmetric.automorphisms import Automorphisms, label_automorphisms
from symfield.weightspace.asymmetric.convert import symmetrize_back
from symfield.weightspace.asymmetric.equivariances import activation_equivariances, gate_is_rigid
from symfield.weightspace.asymmetric.gates import FiGLU
from symfield.weightspace.asymmetric.ranks import jacobian_rank
from symfield.weightspace.asymmetric.weights import FixedEntries, MaskedWeight, _all_fixed, fixed_entries
from symfield.weightspace.derive import symmetries
from symfield.weightspace.tracing import Example, Untraceable, arguments

__all__ = ["AsymmetryReport", "Guarantee", "Status", "verify_asymmetry"]

Status = Literal["holds", "fails", "not covered", "not tested"]

_MOST_PARAMETERS = 1000
_NOTES = (
    "that the network has no symmetry left: for κ > 0 nothing is proved, and four-layer networks keep some",
    "that different parameters give different functions: this needs that no linear map at all passes through the "
    "nonlinearity, and square invertible weights of two layers",
    "that networks can be averaged because symmetries are gone: on small data they could not with κ = 0, and could "
    "with the large entries at the start only, nothing being fixed",
)


@dataclass(frozen=True)
class Guarantee:
    """One statement about a model, and what became of it.

    Attributes:
        name: ``"rows"``, ``"T1"``, ``"family"``, ``"T2"`` or ``"rank"``.
        status: ``"holds"``, ``"fails"``, ``"not covered"`` where an assumption does not hold, or ``"not tested"``.
        statement: what it says.
        assumption: under what.
        evidence: what was found.
    """

    name: str
    status: Status
    statement: str
    assumption: str
    evidence: str


@dataclass(frozen=True)
class AsymmetryReport:
    """What is guaranteed of a model; prints as text.

    Attributes:
        guarantees: the statements, in order.
        not_guaranteed: what nobody may conclude from them.
    """

    guarantees: tuple[Guarantee, ...]
    not_guaranteed: tuple[str, ...] = _NOTES

    def __getitem__(self, name: str) -> Guarantee:
        """The guarantee of that name.

        Raises:
            KeyError: if there is none.
        """
        for guarantee in self.guarantees:
            if guarantee.name == name:
                return guarantee
        raise KeyError(f"no guarantee {name!r}; there are {[guarantee.name for guarantee in self.guarantees]}")

    def __str__(self) -> str:
        lines = []
        for found in self.guarantees:
            lines.append(f"{found.name:<7} {found.status:<12} {found.statement}")
            lines.append(f"{'':<20} if {found.assumption}; {found.evidence}")
        return "\n".join([*lines, *(f"not guaranteed: {note}" for note in self.not_guaranteed)])


def verify_asymmetry(model: nn.Module, example: Example | None = None, *, seed: int = 0) -> AsymmetryReport:
    """Check which guarantees of asymmetric networks hold of a model, and which do not.

    Args:
        model: any module, with fixed entries or gates or without; it is not modified.
        example: inputs of the model, to derive its graph; without it, T1 and the rank are not tested.
        seed: of random inputs and maps.

    Returns:
        The report.

    Raises:
        ValueError: if the model fails on the example.

    Example:
        >>> from symfield.weightspace import Rule, asymmetrize
        >>> net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> sparse = verify_asymmetry(asymmetrize(net, Rule(fix=2, kappa=0.0), seed=0), torch.zeros(2, 4))
        >>> [(found.name, found.status) for found in sparse.guarantees if found.name != "rank"]
        [('rows', 'holds'), ('T1', 'holds'), ('family', 'holds'), ('T2', 'fails')]
        >>> large = verify_asymmetry(asymmetrize(net, Rule(fix=2, kappa=1.0), seed=0), torch.zeros(2, 4))
        >>> large["T1"].status, large["family"].status
        ('not covered', 'holds')
        >>> verify_asymmetry(net, torch.zeros(2, 4))["T1"].status
        'fails'
    """
    if example is not None:
        _require_running(model, example)
    fixed = fixed_entries(model)
    graph, family = _permutations(model, fixed, example)
    rows, frozen = _rows(model)
    return AsymmetryReport((
        rows,
        _t1(fixed, graph, frozen=frozen),
        family,
        _t2(model, seed),
        _rank(model, example, seed),
    ))  # fmt: skip


def _require_running(model: nn.Module, example: Example) -> None:
    args, kwargs = arguments(example)
    try:
        with torch.no_grad():
            copy.deepcopy(model).eval()(*args, **kwargs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(model).__name__} fails on the example: {why}; pass inputs that it takes") from error


def _rows(model: nn.Module) -> tuple[Guarantee, bool]:
    """The guarantee, and whether whole rows are fixed."""
    wrong: list[str] = []
    frozen = False
    count = 0
    for path, _, name, weight in _all_fixed(model):
        if not isinstance(weight, MaskedWeight):
            continue
        count += 1
        rows = weight.trainable_entries.movedim(weight.axis, 0).flatten(1)
        full = f"{path}.{name}" if path else name
        if not bool(rows.any(1).all()):
            wrong.append(f"{full} fixes whole rows")
            frozen = True
        elif len(rows.unique(dim=0)) < len(rows):
            wrong.append(f"{full} has equal rows")
    status: Status = "not covered" if not count else "fails" if wrong else "holds"
    evidence = "; ".join(wrong) or (f"{count} masks" if count else "no weight has a mask")
    statement = "every mask has pairwise distinct nonzero rows"
    return Guarantee("rows", status, statement, "nothing else is assumed", evidence), frozen


def _permutations(
    model: nn.Module, fixed: Mapping[str, FixedEntries], example: Example | None
) -> tuple[Automorphisms | str, Guarantee]:
    """Automorphisms of the masks, or why they are not known, and what is known of the family of networks."""
    statement = "no permutation of hidden units but the identity maps the family of these networks onto itself"
    assumption = "the dense model has no other permutations than the derived ones (ours; says nothing about functions)"

    def family(status: Status, evidence: str) -> Guarantee:
        return Guarantee("family", status, statement, assumption, evidence)

    if example is None:
        return "no example of the inputs was given", family("not tested", "no example of the inputs was given")
    plain = symmetrize_back(model)
    try:
        symmetry = symmetries(plain, example, certificate=False)
    except Untraceable as error:
        words = f"the model cannot be traced: {' '.join(str(error).split())[:200]}"
        return words, family("not tested", words)
    homes = {name: symmetry.aliases.get(name, name) for name in plain.state_dict()}
    gates = {
        homes[f"{path}.fixed_values" if path else "fixed_values"]: _hashed(module.fixed_values)
        for path, module in plain.named_modules()
        if isinstance(module, FiGLU)
    }
    masks = {homes[name]: entries.mask.long() for name, entries in fixed.items()}
    values = {
        homes[name]: torch.where(entries.mask, torch.zeros_like(entries.mask).long(), 1 | _hashed(entries.values))
        for name, entries in fixed.items()
    }
    every = {name: torch.zeros(symmetry.shapes[name], dtype=torch.int64) for name in symmetry.layouts
             if not name.startswith(("input.", "output."))}  # fmt: skip
    graph = label_automorphisms(symmetry, {**every, **gates, **masks})
    whole = label_automorphisms(symmetry, {**every, **gates, **values})
    return graph, family(_status(whole), _words(whole))


def _hashed(values: Tensor) -> Tensor:
    """Integers that differ where numbers differ."""
    return values.detach().cpu().double().view(torch.int64)


def _status(found: Automorphisms) -> Status:
    return "not tested" if found.trivial is None else "holds" if found.trivial else "fails"


def _words(found: Automorphisms) -> str:
    if found.trivial:
        return found.method
    if found.example is None:
        return f"{found.undecided} units undecided, {found.method}"
    (name, g), *_ = found.example.items()
    where = (g != torch.arange(g.shape[-1])).nonzero()[:, -1].unique().tolist()
    return f"units {where[0]} and {where[1]} of {name} can be exchanged, among {found.undecided} of equal standing"


def _t1(fixed: Mapping[str, FixedEntries], graph: Automorphisms | str, *, frozen: bool) -> Guarantee:
    statement = "the graph of trainable entries has no automorphism but the identity"
    assumption = "fixed entries are missing edges (κ = 0), beyond MLPs among the derived permutations only"
    if isinstance(graph, str):
        return Guarantee("T1", "not tested", statement, assumption, graph)
    if graph.trivial and not fixed:
        return Guarantee(
            "T1", "not covered", statement, assumption, "no weight has a mask; it is the gates that differ"
        )
    if graph.trivial and frozen:
        evidence = f"true of the masks ({graph.method}), but the theorem needs nonzero rows"
        return Guarantee("T1", "not covered", statement, assumption, evidence)
    kept = any(bool((entries.values != 0).any()) for entries in fixed.values())
    additive = any(entries.additive for entries in fixed.values())
    if graph.trivial and additive:
        return Guarantee("T1", "not covered", statement, assumption, "fixed values are added, and nothing is masked")
    if graph.trivial and kept:
        evidence = f"true of the masks ({graph.method}), but here κ > 0, of which the theorem does not speak"
        return Guarantee("T1", "not covered", statement, assumption, evidence)
    return Guarantee("T1", _status(graph), statement, assumption, _words(graph))


def _t2(model: nn.Module, seed: int) -> Guarantee:
    statement = "no permutation and no invertible diagonal map but the identity passes through the nonlinearities"
    assumption = "they are those of the modules; other linear maps are not excluded"
    rigid: list[str] = []
    broken: list[str] = []
    unknown: list[str] = []
    measured: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, FiGLU):
            found, why = gate_is_rigid(module.fixed_values)
            (rigid if found else unknown).append(f"FiGLU {path}: {why}")
        elif _elementwise(module):
            kind = path if any(True for _ in module.parameters()) else repr(module)
            if kind not in measured:
                measured[kind] = _commuting(module, seed)
            (broken if measured[kind] else unknown).append(
                f"{type(module).__name__} commutes with {measured[kind]}"
                if measured[kind]
                else f"{type(module).__name__} commutes with no map that was tried"
            )
    if broken:
        return Guarantee("T2", "fails", statement, assumption, "; ".join(dict.fromkeys(broken)))
    if unknown or not rigid:
        why = "; ".join(dict.fromkeys(unknown)) or "no nonlinearity is a module; functional ones are not seen"
        return Guarantee("T2", "not tested", statement, assumption, why)
    reasons = ", ".join(dict.fromkeys(line.split(": ", 1)[1] for line in rigid))
    return Guarantee("T2", "holds", statement, assumption, f"{len(rigid)} gates, in each: {reasons}")


def _elementwise(module: nn.Module) -> bool:
    across = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.GLU)
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, across)


def _commuting(module: nn.Module, seed: int) -> str:
    activation = copy.deepcopy(module).double().eval()
    slopes = module.num_parameters if isinstance(module, nn.PReLU) else 1
    size = slopes if slopes > 1 else 8
    found = activation_equivariances(activation, size, generator=random.generator(seed), trials=20, samples=32)
    kinds = {"permutations": found.permutation, "positive scales": found.scale, "signs": found.sign}
    return ", ".join(kind for kind, violation in kinds.items() if violation < 1e-10)


def _rank(model: nn.Module, example: Example | None, seed: int) -> Guarantee:
    statement = "no continuous symmetry: the Jacobian of the outputs in the parameters has full column rank"
    assumption = "one looks near these parameters only; discrete symmetries are not excluded"

    def result(status: Status, evidence: str) -> Guarantee:
        return Guarantee("rank", status, statement, assumption, evidence)

    if example is None:
        return result("not tested", "no example of the inputs was given")
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not 0 < parameters <= _MOST_PARAMETERS:
        return result("not tested", f"{parameters} trainable parameters, where 1 to {_MOST_PARAMETERS} are feasible")
    inputs = _many_rows(model, example, parameters, seed)
    found = jacobian_rank(model, inputs)
    gap = "no singular value is zero" if math.isinf(found.gap) else f"gap {found.gap:.0e}"
    evidence = f"rank {found.rank} of {parameters} on {found.outputs} outputs, {gap}"
    if not found.certain:
        why = "too few outputs" if found.outputs < parameters else "the gap is too small to tell"
        return result("not tested", f"{evidence}; {why}")
    return result("holds" if found.kernel == 0 else "fails", evidence)


def _many_rows(model: nn.Module, example: Example, parameters: int, seed: int) -> Example:
    """Normal inputs like a single tensor of the example, with more outputs than parameters; else the example."""
    (alone,) = example if isinstance(example, tuple | list) and len(example) == 1 else (example,)
    if not isinstance(alone, Tensor) or not alone.is_floating_point() or alone.ndim < 2 or not len(alone):
        return example
    with torch.no_grad():
        out = copy.deepcopy(model).eval()(alone)
    each = out.numel() // len(alone) if isinstance(out, Tensor) and len(out) == len(alone) else 0
    if not each:
        return example
    rows = max(len(alone), math.ceil(1.5 * parameters / each))
    like = torch.zeros((), dtype=torch.float64)
    return random.normal((rows, *alone.shape[1:]), generator=random.generator(seed), like=like).to(alone.device)
