"""What the study of exact facts measures, one family of claims a cell."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from symfield import random
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_models import (
    GraphNetwork,
    ResNet,
    graph_rules,
    mlp,
    mlp_rules,
    resnet8_rules,
    resnet20_rules,
)
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.weightspace import (
    FiGLU,
    RandomFilters,
    RandomRows,
    Rule,
    activation_equivariances,
    asymmetrize,
    fixed_entries,
    fixed_mask,
    fixed_values,
    jacobian_rank,
    mask_automorphisms,
    plan_asymmetry,
    symmetries,
    symmetrize_back,
)

__all__ = ["ARCHITECTURES", "Facts", "measure"]

DOUBLE = torch.zeros((), dtype=torch.float64)

ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], list[Rule], int, int]] = {
    "MLP": (lambda: mlp((784, 512, 512, 512, 10)), mlp_rules(), 935_434, 834_570),
    "ResNet20": (lambda: ResNet(3), resnet20_rules(), 272_474, 230_026),
    "ResNet20 x8": (lambda: ResNet(3, width=8), resnet20_rules(8), 17_289_866, 16_273_946),
    "graph network": (lambda: GraphNetwork((128, 256, 256, 256, 40)), [graph_rules()], 176_424, 171_576),
    "ResNet8": (lambda: ResNet(1), resnet8_rules(), 78_042, 60_634),
}
"""Model, rules, and published counts: total and trainable."""


@dataclass(frozen=True)
class Facts:
    """One family of claims on several random draws.

    Attributes:
        family: which.
        seeds: of masks, fixed values and inputs.
        steps: of AdamW, where a network is trained.
        trials: random maps, where maps are drawn.
    """

    family: str
    seeds: tuple[int, ...]
    steps: int
    trials: int


@versioned(1)
def measure(cell: Facts) -> list[Row]:
    """Measure one family of claims.

    Args:
        cell: which.

    Returns:
        Rows ``kind, case, seed, value`` and what a kind needs besides.
    """
    with one_thread():
        return FAMILIES[cell.family](cell)


def _counts(cell: Facts) -> list[Row]:
    """Parameters of the published networks, and the law of their masks."""
    rows: list[Row] = []
    for name, (build, rules, total, trainable) in ARCHITECTURES.items():
        with torch.device("meta"):
            model = build()
        plan = plan_asymmetry(model, rules, seed=cell.seeds[0])
        rows.append(
            {"kind": "count", "case": name, "total": plan.parameters, "trainable": plan.trainable,
             "published_total": total, "published_trainable": trainable}
        )  # fmt: skip
        for planned in plan.weights:
            fixed = (~planned.mask).flatten(1)
            counts = fixed.sum(1)
            filters = isinstance(planned.rule.mask, RandomFilters)
            units = planned.place.shape[1] if filters else planned.place.columns
            each = int(counts[0]) * units // planned.place.columns
            rows.append(
                {"kind": "mask", "case": name, "weight": planned.place.name, "units": units, "rows": len(fixed),
                 "each": each, "even": bool((counts == counts[0]).all()),
                 "equal_rows": len(fixed) - len(fixed.unique(dim=0)), "frozen": bool(fixed.all()),
                 "probability": _collision(units, each, len(fixed))}
            )  # fmt: skip
    return rows


def _collision(size: int, n: int, rows: int) -> float:
    """Probability that independent uniform subsets of n of size entries, one a row, are not all different."""
    total = math.comb(size, n)
    if total < rows:
        return 1.0
    return -math.expm1(sum(math.log1p(-k / total) for k in range(rows)))


def _collisions(cell: Facts) -> list[Row]:
    """How often rows are equal if nothing prevents it, beside the formula, on layers of the published ResNets."""
    rows: list[Row] = []
    law = RandomRows(distinct=False)
    for case, shape, n in (("ResNet20 skip 16 → 32", (32, 16), 6), ("ResNet20 skip 32 → 64", (64, 32), 8),
                           ("ResNet8 filters 16 → 32", (32, 16), 8), ("a small layer", (12, 8), 2)):  # fmt: skip
        draws = 40 * len(cell.seeds)
        hits = sum(
            len(fixed_mask(shape, n, seed=seed, name=case, law=law).unique(dim=0)) < shape[0] for seed in range(draws)
        )
        enforced = sum(
            len(fixed_mask(shape, n, seed=seed, name=case).unique(dim=0)) < shape[0] for seed in range(len(cell.seeds))
        )
        rows.append(
            {"kind": "collision", "case": case, "draws": draws, "value": hits / draws, "enforced": enforced,
             "probability": _collision(shape[1], n, shape[0])}
        )  # fmt: skip
    return rows


_DIGEST = """
import hashlib, sys, torch
from symfield.weightspace import fixed_mask, fixed_values
found = hashlib.sha256()
for seed in map(int, sys.argv[1:]):
    mask = fixed_mask((64, 48), 5, seed=seed, name="layer")
    found.update(mask.numpy().tobytes())
    found.update(fixed_values(mask, 1.5, seed=seed, name="layer").numpy().tobytes())
print(found.hexdigest())
"""


def _reproducible(cell: Facts) -> list[Row]:
    """Masks and values in fresh processes, with other salts of Python's hash, and their standard deviation."""
    own = hashlib.sha256()
    for seed in cell.seeds:
        mask = fixed_mask((64, 48), 5, seed=seed, name="layer")
        own.update(mask.numpy().tobytes())
        own.update(fixed_values(mask, 1.5, seed=seed, name="layer").numpy().tobytes())
    rows: list[Row] = []
    for salt in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", _DIGEST, *map(str, cell.seeds)], env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        rows.append({"kind": "process", "case": f"salt {salt}", "same": run.stdout.strip() == own.hexdigest()})
    for seed in cell.seeds:
        mask = fixed_mask((200, 200), 100, seed=seed, name="a")
        values = fixed_values(mask, 2.0, seed=seed, name="a")
        other = fixed_mask((200, 200), 100, seed=seed, name="b")
        double = fixed_values(mask, 2.0, seed=seed, name="a", like=DOUBLE)
        rows.append(
            {"kind": "values", "case": "N(0, 4)", "seed": seed, "value": float(values[~mask].double().std()) / 2,
             "same": torch.equal(values.double(), double), "differ": not torch.equal(mask, other)}
        )  # fmt: skip
    return rows


def _training(cell: Facts) -> list[Row]:
    """Fixed entries under AdamW with weight decay, and the change of the others."""
    rows: list[Row] = []
    for seed in cell.seeds[:3]:
        generator = random.generator(seed)
        model = asymmetrize(_initial((16, 32, 32, 4), generator), Rule(fix=0.25, kappa=1.0), seed=seed)
        before = {name: value.detach().clone() for name, value in symmetrize_back(model).named_parameters()}
        x = random.normal((128, 16), generator=generator, like=DOUBLE)
        y = random.integers(0, 4, (128,), generator=generator)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(cell.steps):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
        after = dict(symmetrize_back(model).named_parameters())
        for name, entries in fixed_entries(model).items():
            change = (after[name] - before[name]).abs().detach()
            rows.append(
                {"kind": "training", "case": name, "seed": seed, "value": float(change[~entries.mask].max()),
                 "moved": float(change[entries.mask].median())}
            )  # fmt: skip
    return rows


def _automorphisms(cell: Facts) -> list[Row]:
    """All 6!·5! permutations of a 4-6-5-3 network on its masks; then with two units made alike."""
    rows: list[Row] = []
    shapes = ((6, 4), (5, 6), (3, 5))
    for seed in cell.seeds:
        masks = [fixed_mask(shape, 2, seed=seed, name=str(i)) for i, shape in enumerate(shapes)]
        alike = [mask.clone() for mask in masks]
        alike[0][1], alike[1][:, 1] = alike[0][0], alike[1][:, 0]
        zero = [mask.clone() for mask in masks]
        zero[0][0] = False
        try:
            mask_automorphisms(zero)
            refused = False
        except ValueError:
            refused = True
        rows.append(
            {"kind": "automorphism", "case": "4-6-5-3", "seed": seed, "value": len(mask_automorphisms(masks)),
             "alike": len(mask_automorphisms(alike)), "refused": refused}
        )  # fmt: skip
    return rows


def _initial(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """An MLP in float64 with weights from a generator, nothing from the global one."""
    model = mlp(sizes).double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
    return model


def _function(cell: Facts) -> list[Row]:
    """Relative change of the outputs when all hidden units are permuted: all entries, or trainable ones only."""
    rows: list[Row] = []
    for seed in cell.seeds:
        generator = random.generator(seed)
        model = _initial((16, 32, 32, 8), generator)
        x = random.normal((64, 16), generator=generator, like=DOUBLE)
        symmetry = symmetries(model, x[:2], certificate=False)
        element = {f.name: f.random_element(generator=generator) for f in symmetry.factors if f.kind == "permutation"}
        for case, kappa in (("standard", None), ("masked, κ = 0", 0.0), ("masked, κ = 1", 1.0)):
            masked = model if kappa is None else asymmetrize(model, Rule(fix=0.25, kappa=kappa), seed=seed)
            plain, fixed = symmetrize_back(masked), fixed_entries(masked)
            moved = symmetry.apply(plain.state_dict(), element)
            kept = {n: torch.where(fixed[n].mask, v, fixed[n].values) if n in fixed else v for n, v in moved.items()}
            with torch.no_grad():
                a, b = plain(x), functional_call(plain, kept, (x,))
            rows.append({"kind": "function", "case": case, "seed": seed, "value": float((a - b).norm() / a.norm())})
    return rows


def _equivariances(cell: Facts) -> list[Row]:
    """How far nonlinearities are from commuting with linear maps, at d = 16."""
    rows: list[Row] = []
    for seed in cell.seeds:
        for case, activation in (("ReLU", torch.relu), ("tanh", torch.tanh), ("GELU", nn.functional.gelu),
                                 ("FiGLU", FiGLU(16, std=1.0, seed=seed, name="gate").double())):  # fmt: skip
            found = activation_equivariances(activation, 16, generator=random.generator(seed), trials=cell.trials)
            for maps, value in vars(found).items():
                rows.append({"kind": "equivariance", "case": case, "seed": seed, "maps": maps, "value": value})
    return rows


def _ranks(cell: Facts) -> list[Row]:
    """Singular values of the Jacobian of W₂ σ(W₁ x) in both weights, n = 4, 60 Gaussian inputs."""
    rows: list[Row] = []
    for seed in cell.seeds[:3]:
        for case, activation in (("identity", nn.Identity()), ("ReLU", nn.ReLU()), ("GELU", nn.GELU()),
                                 ("FiGLU", FiGLU(4, std=1.0, seed=seed, name="gate"))):  # fmt: skip
            generator = random.generator(seed)
            model = nn.Sequential(nn.Linear(4, 4, bias=False), activation, nn.Linear(4, 4, bias=False)).double()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(random.normal((4, 4), generator=generator, like=DOUBLE))
            found = jacobian_rank(model, random.normal((60, 4), generator=generator, like=DOUBLE))
            values: Tensor = found.singular_values / found.singular_values[0]
            for i, value in enumerate(values.tolist()):
                rows.append(
                    {"kind": "rank", "case": case, "seed": seed, "index": i + 1, "value": value, "rank": found.rank,
                     "gap": min(found.gap, 1e18)}
                )  # fmt: skip
    return rows


def _gates(cell: Facts) -> list[Row]:
    """Standard deviation of the gate at inputs of unit variance, against the scale of F times √d."""
    rows: list[Row] = []
    d = 256
    for seed in cell.seeds[:3]:
        x = random.normal((1000, d), generator=random.generator(seed), like=DOUBLE)
        for scale in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 16.0):
            gate = FiGLU(d, std=scale / math.sqrt(d), seed=seed, name="gate", allow_near_linear=True).double()
            y = gate(x)
            slope = float((x * y).sum() / x.square().sum())
            rows.append(
                {"kind": "gate", "case": "d = 256", "seed": seed, "scale": scale, "value": float(gate.gate(x).std()),
                 "nonlinear": float((y - slope * x).norm() / y.norm())}
            )  # fmt: skip
    return rows


FAMILIES: dict[str, Callable[[Facts], list[Row]]] = {
    "counts": _counts,
    "collisions": _collisions,
    "reproducible": _reproducible,
    "training": _training,
    "automorphisms": _automorphisms,
    "function": _function,
    "equivariances": _equivariances,
    "ranks": _ranks,
    "gates": _gates,
}
"""How each family is measured."""
