"""Peak memory of a training run: linear in runs × N, constant in the number of steps.

Each point trains in a process of its own and reports its peak resident memory above that of the import.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys


def measure(runs: int, width: int, steps: int) -> float:
    """Peak memory in MB that a run adds to the import."""
    import torch

    from symfield import random
    from symfield.meanfield import Flow, gaussian_teacher, integrate, squared, vanilla
    from symfield.units import PointwiseUnit, sigmoid

    torch.set_num_threads(1)
    unit = PointwiseUnit(sigmoid, 2, 2)
    like = torch.zeros(0, dtype=torch.float64)
    data = gaussian_teacher(unit, random.normal((5, 4), generator=random.generator(1), like=like), std=4.0)

    def train(runs: int, width: int, steps: int) -> None:
        z0 = random.normal((runs, width, 4), generator=random.generator(2), like=like)
        flow = Flow(horizon=steps / width, records=1)
        for _ in integrate(z0, vanilla(unit, squared), flow=flow, data=data, generator=random.generator(3)):
            pass

    train(1, 8, 2)  # imports, compiled kernels, thread pools
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train(runs, width, steps)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=3, type=int, metavar=("RUNS", "N", "STEPS"))
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(*arguments.point)))
        return
    print(f"{'runs':>6} {'N':>8} {'steps':>7} {'peak MB above import':>22}")
    points = [
        (10, 2000, 50),
        (10, 2000, 200),
        (10, 2000, 800),
        (10, 8000, 50),
        (40, 2000, 50),
        (40, 8000, 50),
        (40, 32000, 20),
    ]
    for point in points:
        command = [sys.executable, __file__, "--point", *map(str, point)]
        added = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{point[0]:>6} {point[1]:>8} {point[2]:>7} {added:>22.1f}")


if __name__ == "__main__":
    main()
