"""The one-angle flow for ‖x_H‖ against the full network and against Monte Carlo: CPU seconds on one core.

    python benchmarks/reduced_flow.py            # about four minutes
    python benchmarks/reduced_flow.py --quick    # about one
    python benchmarks/reduced_flow.py --json reduced.json

d = 30, d_H = 5, x ~ N(0, I), one thread, float64. Times are CPU seconds of this process. The one-angle flow is timed
with its kernel table built anew, and with the table kept from an earlier flow of the same dimensions.

- reduced: ``symfield.wide.radial_flow``.
- full: ``symfield.wide.wide_flow`` with exact gradients, m neurons in R^30 lifted from the same quantiles of the angle.
  The same Heun steps on both sides; the error is that of the risk at time t against 2 x 4000 angles, for the full
  network the root mean square over seeds. "Equal accuracy" takes the fewest angles whose error is not larger. The error
  of the full network falls like 1/m and its time grows like m², so the ratio grows with the accuracy; the last line
  says what width would have the error of 400 angles.
- Monte Carlo: the one-angle flow the way the code of Hajjar & Chizat 2023 (arXiv 2211.08771) computes it: at every
  explicit Euler step of 0.005, 1000 fresh samples of an input's angle and of the coordinates of two independent
  rotations give an unbiased estimate of G and G'. All steps cost the same; some are timed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import torch

from symfield import random
from symfield.ode import heun
from symfield.wide import (
    AngleCloud,
    Gaussian,
    Radial,
    direct_radial_kernel,
    lift_angles,
    radial_flow,
    radial_kernel,
    radial_risk,
    risk,
    sphere_angles,
    wide_flow,
)

DIM, SUBSPACE = 30, 5
TARGET, INPUTS = Radial(DIM, SUBSPACE), Gaussian(DIM)
SAMPLES, RATE = 1000, 5e-3


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Least CPU time of some runs."""
    found = []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def reduced(n: int, t: float, *, method=heun(0.1)) -> AngleCloud:  # noqa: B008
    return radial_flow(sphere_angles(n, DIM, SUBSPACE), TARGET, INPUTS, times=[t], method=method).clouds[-1]


def anew(work: Callable[[], object]) -> Callable[[], object]:
    """The same, with the table of the kernel built anew."""

    def timed() -> object:
        radial_kernel.cache_clear()
        return work()

    return timed


def against_full(t: float, widths: list[int], seeds: int) -> tuple[list[dict[str, float]], dict[str, float]]:
    reference = float(radial_risk(reduced(4000, t), TARGET, INPUTS))
    errors = {n: abs(float(radial_risk(reduced(n, t), TARGET, INPUTS)) / reference - 1) for n in range(2, 401)}
    rows = []
    for m in widths:
        gaps, used = [], []
        for seed in range(seeds):
            angles = sphere_angles(m // 2, DIM, SUBSPACE)
            start = lift_angles(angles, DIM, SUBSPACE, generator=random.generator(seed))
            begin = time.process_time()
            end = wide_flow(start, TARGET, INPUTS, times=[t], method=heun(0.1)).neurons
            used.append(time.process_time() - begin)
            gaps.append(float(risk(end, TARGET, INPUTS)) / reference - 1)
        error = math.sqrt(sum(gap**2 for gap in gaps) / seeds)
        n = next(n for n in errors if all(errors[k] <= error for k in range(n, min(n + 20, 400))))
        fresh, kept = seconds(anew(lambda n=n: reduced(n, t)), 5), seconds(lambda n=n: reduced(n, t), 5)
        row = {"t": t, "m": m, "full_error": error, "m_x_gap": m * sum(gaps) / seeds, "full_s": min(used)}
        row |= {"angles": 2 * n, "reduced_error": errors[n], "reduced_s": fresh, "kept_s": kept}
        rows.append(row | {"ratio": min(used) / fresh, "ratio_kept": min(used) / kept})
    last = rows[-1]
    width = last["m"] * last["full_error"] / errors[200]
    return rows, {"t": t, "error": errors[200], "width": width, "full_s": last["full_s"] * (width / last["m"]) ** 2}


class MonteCarlo:
    """The one-angle flow with 1000 fresh samples a step."""

    def __init__(self, n: int, seed: int) -> None:
        start = sphere_angles(n, DIM, SUBSPACE)
        self.mass, self.angle, self.sign = start.mass.clone(), start.angle.clone(), start.sign
        self.generator = random.generator(seed)

    def coordinate(self, n: int) -> torch.Tensor:
        """One coordinate of uniform points of the sphere."""
        x = random.normal((SAMPLES, n), generator=self.generator, like=self.mass)
        return x[:, 0] / x.norm(dim=-1)

    def force(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimates of G and G' at all angles."""
        x = random.normal((SAMPLES, DIM), generator=self.generator, like=self.mass)
        phi = torch.atan2(x[:, SUBSPACE:].norm(dim=-1), x[:, :SUBSPACE].norm(dim=-1))
        (r, s), (other_r, other_s) = ((self.coordinate(SUBSPACE), self.coordinate(DIM - SUBSPACE)) for _ in range(2))
        cosine, sine = self.angle.cos(), self.angle.sin()
        predicted = torch.relu(torch.outer(phi.cos() * other_r, cosine) + torch.outer(phi.sin() * other_s, sine))
        residual = DIM * (phi.cos() - predicted @ (self.sign * self.mass)) / SAMPLES
        along, across = phi.cos() * r, phi.sin() * s
        active = residual.unsqueeze(-1) * (torch.outer(along, cosine) + torch.outer(across, sine) > 0)
        pull, push = along @ active, across @ active
        return cosine * pull + sine * push, cosine * push - sine * pull

    def step(self) -> None:
        """An explicit Euler step."""
        value, slope = self.force()
        self.mass = self.mass * (1 + 2 * RATE * self.sign * value)
        self.angle = (self.angle + RATE * self.sign * slope).clamp(0, math.pi / 2)

    def cloud(self) -> AngleCloud:
        """The present masses and angles."""
        return AngleCloud(self.mass, self.angle, self.sign)


def against_monte_carlo(n: int, horizon: float, seconds_of: float) -> dict[str, float]:
    steps = round(horizon / RATE)
    simulation, begin, done = MonteCarlo(n, 0), time.process_time(), 0
    while done < steps and time.process_time() - begin < seconds_of:
        for _ in range(min(100, steps - done)):
            simulation.step()
            done += 1
    used = (time.process_time() - begin) * steps / done
    t = done * RATE
    exact, found = reduced(n, t, method=None), simulation.cloud()
    off = abs(float(radial_risk(found, TARGET, INPUTS) / radial_risk(exact, TARGET, INPUTS)) - 1)

    kernel, fresh = radial_kernel(DIM, SUBSPACE), MonteCarlo(n, 1)
    fresh.mass, fresh.angle = exact.mass, exact.angle
    value, slope = kernel.potential(exact.angle, exact.signed)
    draws = [fresh.force() for _ in range(50)]
    noise = torch.stack([torch.cat([g - value, v - slope]) for g, v in draws]).square().mean().sqrt()
    # the force with the kernel by quadrature on 200 x 200 nodes, for some of the angles
    some = torch.arange(0, 2 * n, max(1, n // 4))
    pairs = exact.angle[some].unsqueeze(-1).expand(-1, 2 * n), exact.angle.expand(len(some), -1)
    pull = kernel.mass * direct_radial_kernel(DIM, SUBSPACE, exact.angle[some], 0 * exact.angle[some])
    direct = pull - direct_radial_kernel(DIM, SUBSPACE, *pairs) @ exact.signed
    table = float((direct - value[some]).square().mean().sqrt())
    own = seconds(anew(lambda: reduced(n, horizon, method=None)), 3)
    return {
        "angles": 2 * n, "horizon": horizon, "reached": t, "monte_carlo_s": used, "reduced_s": own, "ratio": used / own,
        "force_noise": float(noise), "force_error": table, "more_accurate": float(noise) / table, "risk_off_by": off,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer widths and seeds; Monte Carlo for ten seconds each")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quick = arguments.quick
    reduced(10, 1.0)  # imports and first calls

    full, beyond = [], []
    for t in (2.0,) if quick else (2.0, 5.0):
        rows, fine = against_full(t, [512, 2048] if quick else [512, 1024, 2048, 4096], 2)
        full += rows
        beyond.append(fine)
    print(f"Full network in R^{DIM} against the one-angle flow (d_H = {SUBSPACE}), Heun steps of 0.1")
    print("  t     m   risk off by  m x gap  full (s) | angles  risk off by  table anew (s)  kept (s) |  ratio   kept")
    for row in full:
        print(
            f"{row['t']:3g} {row['m']:5d}  {row['full_error']:11.2e} {row['m_x_gap']:8.1f} {row['full_s']:9.2f} | "
            f"{row['angles']:6d}  {row['reduced_error']:11.2e}  {row['reduced_s']:13.4f} {row['kept_s']:9.4f} | "
            f"{row['ratio']:6.0f} {row['ratio_kept']:6.0f}"
        )
    for row in beyond:
        print(
            f"At t = {row['t']:g} 400 angles are off by {row['error']:.0e}: as accurate as m = {row['width']:.0f}, "
            f"{row['full_s']:.0f} s by extrapolation."
        )
    sampled = [against_monte_carlo(n, 100.0, 10.0 if quick else 30.0) for n in ((200,) if quick else (200, 512))]
    print(f"\nMonte Carlo, {SAMPLES} fresh samples a step of {RATE}; the one-angle flow takes adaptive steps to 1e-8")
    print("angles  to t  MC (s)   reduced (s)  ratio | noise of G, G'   error of G   factor | MC risk off by")
    for row in sampled:
        note = "" if row["reached"] == row["horizon"] else f"   (time from the steps to t = {row['reached']:g})"
        print(
            f"{row['angles']:6d} {row['horizon']:5g} {row['monte_carlo_s']:7.1f} {row['reduced_s']:13.2f} "
            f"{row['ratio']:6.0f} | {row['force_noise']:14.2e} {row['force_error']:12.2e} "
            f"{row['more_accurate']:8.0e} | {row['risk_off_by']:.1%} at t = {row['reached']:g}{note}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"full": full, "beyond": beyond, "monte_carlo": sampled}, indent=1))


if __name__ == "__main__":
    main()
