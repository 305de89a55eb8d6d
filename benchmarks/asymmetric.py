"""Asymmetric layers beside dense ones: masks, and forward with backward.

    python benchmarks/asymmetric.py            # half a minute; one thread, CPU seconds
    python benchmarks/asymmetric.py --rounds 40
    python benchmarks/asymmetric.py --threads 2   # of the steps; seconds on the clock, so on an idle machine

- *masks*: masks and fixed values of whole networks, from a seed. The reference of 2024 draws entry by entry in Python;
  its loop is written down here for one layer, and its published time for the wide ResNet is 14.1 s.
- *step*: forward and backward, asymmetric and dense in turn, the least of many rounds each, as a ratio. Beside it the
  plain formula W' = M ⊙ W + F on a full weight, of which decay and counts would have to be told what is fixed.
"""

from __future__ import annotations

import argparse
import random as python_random
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from symfield.studies._lim2024_models import ResNet, mlp, mlp_rules, resnet8_rules, resnet20_rules
from symfield.weightspace import (
    Rule,
    asymmetrize,
    fixed_entries,
    fixed_mask,
    fixed_values,
    plan_asymmetry,
    symmetrize_back,
)


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    run()
    return clock() - start


def reference_mask(rows: int, size: int, n: int) -> torch.Tensor:
    """The published law, entry by entry."""
    mask = torch.ones(rows, size)
    for row in range(rows):
        for column in python_random.sample(range(size), n):
            mask[row, column] = 0
    return mask


def masks(rounds: int) -> None:
    print("masks and fixed values, CPU seconds")
    for name, build, rules in (
        ("ResNet20", lambda: ResNet(3), resnet20_rules()),
        ("ResNet20 x8", lambda: ResNet(3, width=8), resnet20_rules(8)),
        ("ResNet8", lambda: ResNet(1), resnet8_rules()),
        ("MLP 784-512-512-512-10", lambda: mlp((784, 512, 512, 512, 10)), mlp_rules()),
    ):
        with torch.device("meta"):
            model = build()

        def draw(model: nn.Module = model, rules: list[Rule] = rules) -> None:
            for planned in plan_asymmetry(model, rules, seed=0).weights:
                fixed_values(planned.mask, planned.kappa, seed=0, name=planned.place.name)

        fixed = plan_asymmetry(model, rules, seed=0).fixed
        print(f"  {name:<24} {fixed:>9} fixed entries  {min(seconds(draw) for _ in range(rounds)):.3f} s")
    ours = min(seconds(lambda: fixed_mask((512, 4608), 216, seed=0, name="w")) for _ in range(rounds))
    theirs = min(seconds(lambda: reference_mask(512, 4608, 216)) for _ in range(2))
    print(f"  one layer 512 x 4608, 216 fixed: ours {ours:.3f} s, entry by entry {theirs:.2f} s\n")


class Formula(nn.Module):
    """M ⊙ W + F with a full parameter."""

    def __init__(self, mask: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.to(values.dtype))
        self.register_buffer("values", values)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that is used."""
        return torch.addcmul(self.values, weight, self.mask)


def by_formula(model: nn.Module) -> nn.Module:
    entries = fixed_entries(model)
    made = symmetrize_back(model)
    for name, found in entries.items():
        path, _, tensor = name.rpartition(".")
        layer = made.get_submodule(path)
        parametrize.register_parametrization(layer, tensor, Formula(found.mask, found.values), unsafe=True)
    return made


def step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    parameters = list(model.parameters())  # as an optimiser holds them

    def run() -> None:
        model(x).square().mean().backward()
        for parameter in parameters:
            parameter.grad = None

    return run


def ratios(rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    print(f"forward and backward, {threads} thread(s), milliseconds (least of rounds), and ratio")
    generator = torch.Generator().manual_seed(0)
    cases = [
        ("ResNet20, 32 images 32x32", ResNet(3), resnet20_rules(), (32, 3, 32, 32)),
        ("ResNet8 (filters), 32 images 32x32", ResNet(1), resnet8_rules(), (32, 3, 32, 32)),
        ("MLP 784-512-512-512-10, batch 64", mlp((784, 512, 512, 512, 10)), mlp_rules(), (64, 784)),
        ("MLP 784-512-512-512-10, batch 256", mlp((784, 512, 512, 512, 10)), mlp_rules(), (256, 784)),
        ("linear 512x512, batch 64", nn.Linear(512, 512), [Rule(64, 1.0)], (64, 512)),
        ("linear 512x512, batch 256", nn.Linear(512, 512), [Rule(64, 1.0)], (256, 512)),
        ("linear 256x256, batch 64", nn.Linear(256, 256), [Rule(32, 1.0)], (64, 256)),
        ("linear 128x128, batch 64", nn.Linear(128, 128), [Rule(16, 1.0)], (64, 128)),
        ("linear 64x64, batch 32", nn.Linear(64, 64), [Rule(8, 1.0)], (32, 64)),
        ("conv 64x64x3x3, 32 images 16x16", nn.Conv2d(64, 64, 3, padding=1), [Rule(72, 1.0)], (32, 64, 16, 16)),
    ]
    for name, dense, rules, shape in cases:
        x = torch.randn(shape, generator=generator)
        fixed = asymmetrize(dense, rules, seed=0)
        runs = step(symmetrize_back(fixed), x), step(fixed, x), step(by_formula(fixed), x)
        best = [float("inf")] * len(runs)
        for run in runs:
            run()
        repeats = max(1, int(0.02 / max(seconds(runs[0]), 1e-6)))
        for _ in range(rounds):
            for i, run in enumerate(runs):  # in turn, so that a busy machine disturbs both
                best[i] = min(best[i], seconds(lambda run=run, n=repeats: [run() for _ in range(n)], clock) / repeats)
        one, two, formula = (1e3 * value for value in best)
        words = f"dense {one:8.3f}  asymmetric {two:8.3f}  ratio {two / one:.3f}  by formula {formula / one:.3f}"
        print(f"  {name:<36} {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="repetitions, of which the least counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch for the steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    masks(min(arguments.rounds, 5))
    ratios(arguments.rounds, arguments.threads)


if __name__ == "__main__":
    main()
