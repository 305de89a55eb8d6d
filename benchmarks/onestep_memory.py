"""Peak memory and time of one gradient step from very many samples: flat in n, since samples come in pieces.

Each point runs in a process of its own and reports its peak resident memory, the import of torch included.

    python benchmarks/onestep_memory.py
    python benchmarks/onestep_memory.py --point 256 262144 64
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def peak_memory() -> float:
    """Peak resident memory of this process in MB; on Linux without that of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(dim: int, samples: int, neurons: int) -> dict[str, float]:
    """Peak resident memory in MB, of the import and of all, and seconds of the step."""
    import torch

    from symfield import random
    from symfield.onestep import PowerLaw, Target, aligned, gradient_step, hermite_link, overlaps, random_students

    torch.set_num_threads(1)
    imported = peak_memory()
    covariance = PowerLaw(dim, 0.5)
    target = Target(hermite_link([0, 0, 1]), covariance, aligned(covariance))
    students = random_students(neurons, dim, generator=random.generator(0), like=torch.zeros(0))
    sizes = sorted({max(16, samples // 4**i) for i in range(4)})
    start = time.perf_counter()
    step = gradient_step(students, target, n=sizes, generator=random.generator(1))
    seconds = time.perf_counter() - start
    return {
        "imported": imported,
        "peak": peak_memory(),
        "seconds": seconds,
        "overlap": float(overlaps(step, target).mean_square.euclidean[-1, 0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=3, type=int, metavar=("D", "N", "P"))
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(*arguments.point)))
        return
    print(f"{'d':>6} {'n':>9} {'p':>5} {'import MB':>10} {'peak MB':>9} {'seconds':>8} {'overlap':>8}")
    for point in [(256, 4096, 64), (256, 65536, 64), (256, 262144, 64), (1024, 65536, 64), (256, 262144, 512)]:
        command = [sys.executable, __file__, "--point", *map(str, point)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{point[0]:>6} {point[1]:>9} {point[2]:>5} {found['imported']:>10.0f} {found['peak']:>9.0f} "
            f"{found['seconds']:>8.1f} {found['overlap']:>8.3f}"
        )


if __name__ == "__main__":
    main()
