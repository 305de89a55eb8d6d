"""Claims about training runs in the paper's setting: Theorems 1, 5 and 6 at finite N.

In exact arithmetic DA, FA and EA from a strongly invariant cloud are one run. Round-off grows along unstable directions
of E^G, most under FA, whose averaged network does not see them to first order: at N = 5 its RMD²(ν, ν^E) grows from
1e-26 at t = 2 through 3e-21 (t = 5) and 8e-14 (t = 10) to 3e-5 at t = 20 (worst of 100 seeds, arbitrary teacher; 61 of
them above 1e-15), while DA stays below 1e-21. From N = 10 on FA's worst of 300 runs is 1e-14.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

from symfield.meanfield import distance_to_projection, relative_measure_distance
from symfield.quadrature import gauss_hermite
from symfield.studies._maass2024 import UNIT, Training, fixed_space, trajectories
from symfield.studies._maass2024_claims.claim import Claim, holds, needed
from symfield.studies._maass2024_claims.settings import Draw, Setting
from symfield.typing import Tensor

__all__ = ["equal_runs", "width"]

Measured = dict[Claim, float]

EA_STAYS = holds("training from SI: EA has RMD²(ν, ν^E) = 0", "Theorem 5, finite N", 1e-28)
DA_STAYS = holds("training from SI, N ≥ 5: DA keeps RMD²(ν, ν^E) = 0", "Theorem 5, finite N", 1e-15)
FA_STAYS = holds("training from SI, N ≥ 10: FA keeps RMD²(ν, ν^E) = 0", "Theorem 5, finite N", 1e-12)
FA_STAYS_EARLY = holds("training from SI, N = 5, up to t = 5: FA keeps RMD²(ν, ν^E) = 0", "Theorem 5, finite N", 1e-15)
ONE_RUN = holds("training from SI, N ≥ 10: DA, FA and EA are one run", "Theorem 6, finite N", 1e-12)
ONE_RUN_EARLY = holds("training from SI, N = 5, up to t = 5: DA, FA and EA are one run", "Theorem 6, finite N", 1e-15)
V_LEAVES = needed("training from SI, teacher not equivariant: V has RMD²(ν, ν^E) > 0", "Theorem 5, finite N", 1e-2)
SAMPLED_LEAVES = needed("training from SI, DA with one random image a sample: RMD²(ν, ν^E) > 0", "Theorem 5, finite N")
NOISE_LEAVES = needed("training from SI, noise not projected: RMD²(ν, ν^E) > 0 for DA", "Theorem 5, finite N", 1e-5)

CLOUDS = holds("ε_N = 1/N: RMD²(ν_N, ν_4N) falls to a half or less from N = 10 to 40", "Theorem 1", 0.5)
NETWORKS = holds("ε_N = 1/N: E‖Φ_N − Φ_4N‖² falls to a fifth or less from N = 10 to 40", "Theorem 1", 0.2)
STEP_NEEDED = needed("ε = 0.1 for every N: E‖Φ_N − Φ_4N‖² does not fall like that", "Theorem 1", 0.25)

_WIDTHS = (10, 40, 160)
_REPLICATES = 10

_BASE = Training(
    teacher="WI", init="SI", n=10, seeds=(0,), schemes=("V", "DA", "FA", "EA"), epsilon=0.1, batch=20,
    noise="projected", rate=50.0, horizon=20.0, tau=1e-4, beta=1e-6, loss_scale=1.0, input_std=4.0, points=1,
    device="cpu", dtype="float64",
)  # fmt: skip
_FREE = dataclasses.replace(_BASE, teacher="arbitrary", init="WI", schemes=("V",), noise="full", horizon=2.0)


def equal_runs(case: Setting, draw: Draw) -> Measured:
    """Runs of all schemes from a strongly invariant cloud, with shared data and shared projected noise.

    Args:
        case: the paper's setting.
        draw: gives the seed.

    Returns:
        What was measured, by claim.
    """
    worst: dict[Claim, float] = {}

    def note(claim: Claim, *values: Tensor) -> None:
        worst[claim] = max(worst.get(claim, 0.0), *(float(value.max()) for value in values))

    for teacher in ("arbitrary", "WI", "SI"):
        for n in (5, 10, 50):
            clouds = _train(draw, n=n, teacher=teacher)
            note(EA_STAYS, _off(clouds["EA"]))
            note(DA_STAYS, _off(clouds["DA"]))
            if n >= 10:
                note(FA_STAYS, _off(clouds["FA"]))
                note(ONE_RUN, *_pairs(clouds))
            if teacher == "arbitrary":
                worst[V_LEAVES] = min(worst.get(V_LEAVES, 1.0), float(_off(clouds["V"])))
        early = _train(draw, n=5, teacher=teacher, horizon=5.0)
        note(FA_STAYS_EARLY, _off(early["FA"]))
        note(ONE_RUN_EARLY, *_pairs(early))
    sampled = _train(draw, teacher="arbitrary", schemes=("DA sampled",))
    noisy = _train(draw, schemes=("DA",), noise="full")
    return {
        **worst,
        SAMPLED_LEAVES: float(_off(sampled["DA sampled"])),
        NOISE_LEAVES: float(_off(noisy["DA"])),
    }


def width(case: Setting, draw: Draw) -> Measured:
    """Independent runs at N, 4N and 16N: clouds and networks approach one another when the step vanishes with 1/N.

    Args:
        case: the paper's setting.
        draw: gives the seed of ten replicates.

    Returns:
        What was measured, by claim.
    """
    clouds, networks = _contraction(draw, lambda n: 1 / n)
    _, stuck = _contraction(draw, lambda _: 0.1)
    return {CLOUDS: clouds, NETWORKS: networks, STEP_NEEDED: stuck}


def _contraction(draw: Draw, step_law: Callable[[int], float]) -> tuple[float, float]:
    """Median distances between widths N and 4N, at the second N over those at the first: of clouds and of networks."""
    nodes = gauss_hermite(2, 40, std=_BASE.input_std)
    runs = []
    for k, n in enumerate(_WIDTHS):
        first = (draw.seed * len(_WIDTHS) + k) * _REPLICATES
        seeds = tuple(range(first, first + _REPLICATES))
        runs.append(trajectories(dataclasses.replace(_FREE, n=n, seeds=seeds, epsilon=step_law(n)))[1][0])
    clouds, networks = [], []
    for small, large in pairwise(runs):
        difference = (UNIT.mean(nodes.x, small) - UNIT.mean(nodes.x, large)).square().sum(-1)
        clouds.append(float(relative_measure_distance(small, large, squared=True).median()))
        networks.append(float((nodes.weight * difference).sum(-1).median()))
    return clouds[1] / clouds[0], networks[1] / networks[0]


def _train(draw: Draw, *, n: int = 10, **changes: Any) -> dict[str, Tensor]:
    """Final clouds by scheme, ``(1, n, 4)``; ε = 1/N."""
    cell = dataclasses.replace(_BASE, n=n, seeds=(draw.seed,), epsilon=1 / n, **changes)
    return dict(zip(cell.schemes, trajectories(cell)[1], strict=True))


def _pairs(clouds: dict[str, Tensor]) -> list[Tensor]:
    """RMD² between the symmetric schemes."""
    return [
        relative_measure_distance(clouds[a], clouds[b], squared=True) for a, b in combinations(("DA", "FA", "EA"), 2)
    ]


def _off(z: Tensor) -> Tensor:
    return distance_to_projection(z, fixed_space(), squared=True)
