"""The exact force of m ReLU neurons on one another, beside autograd and beside Monte Carlo, on one core.

    python benchmarks/wide_kernels.py                    # d = 30, m up to 2048, some seconds
    python benchmarks/wide_kernels.py --dim 100 --samples 100000

The force is the gradient in every b_i of Σ_j w_j E relu⟨b_i, X⟩ relu⟨b_j, X⟩, what one step of the population flow of a
two-layer network costs. Columns: milliseconds (best of some repetitions, float64) of

- exact: ``symfield.wide.arc_cosine_force``;
- autograd: backward through |b||c|(√(1−r²) + r(π − arccos r))/2π written down as it stands, cosines clipped to
  1 − 1e-12, since it gives NaN at r = 1 otherwise;
- sampled: the gradient of the empirical risk of B fresh Gaussian inputs.

Errors are relative to the largest entry of the exact force; that of the exact one is its distance from the same formula
in extended precision (numpy's long double), where the machine has one.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from symfield import random
from symfield.wide import arc_cosine_force


def naive(b: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The force by autograd through the textbook formula."""
    leaf = b.clone().requires_grad_()
    p, q = leaf.norm(dim=-1), b.norm(dim=-1)
    r = (leaf @ b.mT / torch.outer(p, q)).clamp(-1 + 1e-12, 1 - 1e-12)
    kernel = torch.outer(p, q) * ((1 - r**2).sqrt() + r * (math.pi - r.arccos())) / (2 * math.pi)
    return torch.autograd.grad((kernel @ w).sum(), leaf)[0]


def sampled(b: torch.Tensor, w: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """The force on the law of a fresh sample."""
    x = random.normal((size, b.shape[1]), generator=generator, like=b)
    pre = x @ b.mT
    prediction = pre.relu() @ w / size
    return ((pre > 0).to(b) * prediction[:, None]).mT @ x


def extended(b: torch.Tensor, w: torch.Tensor, rows: int) -> torch.Tensor:
    """The first rows of the force in long double."""
    c, weights = b.numpy().astype(np.longdouble), w.numpy().astype(np.longdouble)
    q = np.sqrt((c * c).sum(-1))
    u = c / q[:, None]
    r = np.clip(u[:rows] @ u.T, -1, 1)
    r[np.arange(rows), np.arange(rows)] = 1
    half = np.arctan2(np.sqrt(1 - r * r), r)
    force = ((np.pi - half) * weights) @ c + (np.sqrt(1 - r * r) @ (weights * q))[:, None] * u[:rows]
    return torch.from_numpy((force / (2 * np.pi)).astype(np.float64))


def milliseconds(f: Callable[[], object], budget: float = 0.5) -> float:
    """The best time of a call, within a budget of seconds."""
    f()
    best, start = math.inf, time.perf_counter()
    while time.perf_counter() - start < budget:
        begin = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - begin)
    return 1e3 * best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=30, help="dimension of the inputs")
    parser.add_argument("--samples", type=int, default=10_000, help="inputs B of the Monte-Carlo estimate")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048], help="numbers m")
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = f"{'m':>6} {'exact ms':>9} {'error':>8} | {'autograd ms':>12} {'error':>8} {'ratio':>6} |"
    print(f"d = {args.dim}, float64, one thread; Monte Carlo with B = {args.samples}")
    print(f"{head} {'sampled ms':>11} {'error':>8} {'ratio':>6} | {'samples for 1e-6':>16}")
    for m in args.widths:
        generator = random.generator(m)
        b = random.normal((m, args.dim), generator=generator, like=torch.zeros((), dtype=torch.float64))
        w = random.normal((m,), generator=generator, like=b) / m
        exact = arc_cosine_force(b, b, w)[1]
        scale = float(exact.abs().max())

        def error(force: torch.Tensor, exact: torch.Tensor = exact, scale: float = scale) -> float:
            return float((force - exact[: len(force)]).abs().max()) / scale

        rows = min(m, 64)
        true = extended(b, w, rows)
        monte = error(sampled(b, w, args.samples, generator))
        times = [
            milliseconds(lambda b=b, w=w: arc_cosine_force(b, b, w)),
            milliseconds(lambda b=b, w=w: naive(b, w)),
            milliseconds(lambda b=b, w=w, g=generator: sampled(b, w, args.samples, g)),
        ]
        print(
            f"{m:>6} {times[0]:>9.2f} {error(true):>8.1e} | {times[1]:>12.2f} {error(naive(b, w)):>8.1e} "
            f"{times[1] / times[0]:>6.1f} | {times[2]:>11.2f} {monte:>8.1e} {times[2] / times[0]:>6.1f} | "
            f"{args.samples * (monte / 1e-6) ** 2:>16.1e}"
        )


if __name__ == "__main__":
    main()
