"""CPU seconds to derive the symmetries of a model, beside tools that derive permutations from a module; one thread.

    python benchmarks/derivation.py --quick      # the fifteen small architectures, a minute
    python benchmarks/derivation.py              # and those of transformers, with GPT-2 at its full size

Ours is ``trace`` (through ``torch.export``) and ``derive``, and apart from them ``certify``; best of the repeats, after
a first trace that imports the compiler. A peer's time is that of building its groups, without applying them. Columns:

- trace, derive, certify: CPU seconds; found: factors that agree with the ideal stated by hand / all of the ideal;
- for each peer that is installed: its CPU seconds, ours (trace and derive) divided by them, and in brackets what its
  groups are worth: complete, partial, wrong (a random element changes the function) or error.

The peers run the model once under hooks and know permutations only; export records every operator, which takes some
tenths of a second at any size. So they are 15 to 300 times faster on small models, where nobody waits for either.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch

from symfield.studies._derivation_coverage_measure import measure
from symfield.studies._derivation_coverage_tools import PEERS, installed
from symfield.studies._derivation_coverage_transformers import GPT2_SIZED, TRANSFORMERS, available
from symfield.studies._derivation_coverage_zoo import ZOO, Case
from symfield.weightspace import certify, derive, trace


def best(values: list[float]) -> float:
    return min(values)


def ours(case: Case, repeats: int, heavy: bool) -> tuple[float, float, float]:
    traced, derived, certified = [], [], []
    torch.manual_seed(0)
    model, example = case.build().eval(), case.example()
    for _ in range(repeats):
        start = time.process_time()
        graph = trace(model, example)
        middle = time.process_time()
        symmetry = derive(graph)
        end = time.process_time()
        traced.append(middle - start)
        derived.append(end - middle)
        if not heavy:
            certify(model, example, symmetry)
            certified.append(time.process_time() - end)
    return best(traced), best(derived), best(certified) if certified else float("nan")


def row(case: Case, peers: list[str], repeats: int) -> None:
    heavy = case.name == GPT2_SIZED
    traced, derived, certified = ours(case, 1 if heavy else repeats, heavy)
    found = measure(case, "symfield", trials=1, seed=0, heavy=heavy)
    text = (
        f"{case.name:20s} {traced:6.2f} {derived:7.3f} {certified:8.2f} {found['found']:4.0f} / {found['ideal']:<4.0f}"
    )
    for tool in peers:
        if heavy:
            text += f"{'-':>34s}"
            continue
        theirs = measure(case, tool, trials=1, seed=0)
        if theirs["seconds"] is None:
            text += f"{'(' + theirs['status'] + ')':>34s}"
        else:
            ratio = (traced + derived) / theirs["seconds"]
            text += f"{theirs['seconds']:11.4f} {ratio:8.1f}x {'(' + theirs['status'] + ')':>12s}"
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small architectures only")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    peers = [tool for tool, peer in PEERS.items() if installed(peer)]
    missing = [peer.distribution for peer in PEERS.values() if not installed(peer)]
    if missing:
        print(f"not installed: {', '.join(missing)}")
    derive(trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)))
    heads = "".join(f"{tool + ' ' + installed(PEERS[tool]):>34s}" for tool in peers)
    print(f"{'model':20s} {'trace':>6s} {'derive':>7s} {'certify':>8s} {'found':>11s}{heads}")
    for case in [*ZOO, *(TRANSFORMERS if available() and not options.quick else [])]:
        row(case, peers, options.repeats)


if __name__ == "__main__":
    main()
