"""Linear assignment beside scipy, and lapx where it is installed; CPU seconds of one thread, best of some repetitions.

    python benchmarks/assignment.py              # up to 2048, half a minute
    python benchmarks/assignment.py --size 4096  # one more minute

Matrices are those that weight matching meets (float32 scores of the second hidden layer of two MLPs):

- independent: two random networks;
- planted: a network and a permuted copy with 10 % noise;
- late: independent networks, a later score matrix of the same descent, when the permutations have nearly settled;

and some that are hard in other ways: uniform entries, products i·j (every row wants the same columns), low rank, half
of the rows and a third of the columns dead. *warm* starts from the duals of the matrix before a change of 1 %. The gap
is relative to the value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from scipy.optimize import linear_sum_assignment

from symfield.weightspace import assign


def seconds(run: Callable[[], object], repetitions: int) -> float:
    best = float("inf")
    for _ in range(repetitions):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def scores(n: int, kind: str, generator: torch.Generator) -> torch.Tensor:
    """⟨a_i, b_j⟩ of the hidden units of two networks, through 64 inputs and n units above them."""
    a_in, a_out = torch.randn(n, 64, generator=generator) / 8, torch.randn(n, n, generator=generator) / n**0.5
    b_in, b_out = torch.randn(n, 64, generator=generator) / 8, torch.randn(n, n, generator=generator) / n**0.5
    if kind == "planted":
        order = torch.randperm(n, generator=generator)
        b_in, b_out = a_in[order] + 0.1 * b_in, a_out[:, order] + 0.1 * b_out
    if kind == "late":  # neighbours matched to the units themselves: correlated rows
        above = assign(a_out @ b_out.T, maximize=True).columns
        here = assign(a_in @ b_in.T + a_out.T @ b_out[above], maximize=True).columns
        b_in, b_out = b_in[here], b_out[:, here][assign(a_out @ b_out[:, here].T, maximize=True).columns]
    return a_in @ b_in.T + a_out.T @ b_out


def matrices(n: int, generator: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    for kind in ("independent", "planted", "late"):
        yield kind, scores(n, kind, generator)
    normal = torch.randn(n, n, generator=generator)
    yield "uniform", torch.rand(n, n, generator=generator)
    yield "product", torch.outer(torch.arange(n), torch.arange(n)).float() / n
    yield "low rank", normal[:, :3] @ normal[:3]
    dead = normal.clone()
    dead[::2] = 0
    dead[:, ::3] = 0
    yield "dead", dead
    yield "wide", normal[: n // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="largest number of rows")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        from lap import lapjvs
    except ImportError:
        lapjvs = None
    print("    n  matrix         scipy     lapx     ours   times faster     warm       gap  solver")
    n = 128
    while n <= chosen.size:
        generator = torch.Generator().manual_seed(n)
        for kind, matrix in matrices(n, generator):
            repetitions = chosen.repetitions if n < 4096 else 1
            array = matrix.numpy()
            theirs = seconds(lambda a=array: linear_sum_assignment(a, maximize=True), repetitions)
            square = lapjvs is not None and array.shape[0] == array.shape[1]
            lapx = f"{seconds(lambda a=-array: lapjvs(a), repetitions):8.4f}" if square else "       -"
            ours = seconds(lambda m=matrix: assign(m, maximize=True), repetitions)
            found = assign(matrix, maximize=True)
            rows, columns = linear_sum_assignment(array, maximize=True)
            best = float(matrix.double()[torch.as_tensor(rows), torch.as_tensor(columns)].sum())
            assert abs(found.value - best) <= 1e-9 * abs(best), (found.value, best)
            near = matrix + 0.01 * matrix.std() * torch.randn(matrix.shape, generator=generator)
            warm = seconds(lambda m=near, f=found: assign(m, maximize=True, warm=f), repetitions)
            print(
                f"{n:5d}  {kind:11s} {theirs:8.4f} {lapx} {ours:8.4f} {theirs / ours:13.1f}x {warm:8.4f}"
                f"  {found.gap / max(abs(found.value), 1e-300):8.1e}  {found.solver}",
                flush=True,
            )
        n *= 2


if __name__ == "__main__":
    main()
