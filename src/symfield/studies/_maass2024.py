"""The setting of Maass & Fontbona (2024), and one training cell that their studies share.

X = Y = R² with the swap P = [[0, 1], [1, 0]] acting on both; units σ_*(x; z) = σ(z x) with a logistic σ and
z ∈ R^{2×2}; the swap acts on parameters by z ↦ P z P, so that E^G = {[[p, q], [q, p]]}. Inputs are N(0, 16 I) and
targets come without noise from a teacher of the same kind: *arbitrary* (5 particles), *WI* (those and their images),
or *SI* (5 particles in E^G).

Where the paper is silent: parameters are flattened row by row; the loss is ‖ŷ − y‖² (its appendix; the main text has
½); DA and FA average over full orbits, "DA sampled" draws one group element for each sample; the constrained scheme's
noise is the projection of the others' (the paper drew it independently and says that this inflates distances to EA).

References:
    Maass Martínez & Fontbona 2024, Section 4 and Appendix F, arXiv 2405.19995v3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch

from symfield import random
from symfield.equivariant import fixed_points
from symfield.experiments import Cell, FieldError, Grid, Row, versioned
from symfield.groups import Cyclic, Defining, hom
from symfield.linalg import Subspace
from symfield.meanfield import (
    Flow,
    Objective,
    Squared,
    augmented,
    averaged,
    averaged_ensemble,
    constrained,
    coupled,
    distance_to_orbit,
    distance_to_projection,
    gaussian_teacher,
    integrate,
    orbit,
    project,
    relative_measure_distance,
    sample_weakly_invariant,
    vanilla,
)
from symfield.symmetrize import haar, uniform
from symfield.typing import Tensor
from symfield.units import PointwiseUnit, sigmoid

__all__ = [
    "ACTION",
    "GROUP",
    "QUICK",
    "SCHEMES",
    "SOURCE",
    "SWAP",
    "TINY",
    "UNIT",
    "Published",
    "Training",
    "check_setting",
    "fixed_space",
    "objective",
    "teacher",
    "train",
    "training_cells",
    "trajectories",
]

SOURCE = "Maass & Fontbona 2024, arXiv:2405.19995v3"

#: The training schemes in the order in which pairs of them are named.
SCHEMES = ("V", "DA", "DA sampled", "FA", "EA")

GROUP = Cyclic(2)
SWAP = Defining(GROUP)
UNIT = PointwiseUnit(sigmoid, in_dim=2, out_dim=2)
ACTION = hom(SWAP, SWAP)

_ARBITRARY = ((-1, 0, 0, 0.5), (0.5, 1, 0, 1), (-0.5, 0.3, 1, 0), (0, -1, -0.5, 1), (0.7, -0.7, 0.5, 0.7))
_INVARIANT = ((1, 0), (0.5, 1), (-0.5, 0.3), (0, -1), (0.7, 0.7))


def fixed_space() -> Subspace:
    """E^G in R^4, of dimension 2."""
    return fixed_points(ACTION)


def teacher(kind: str) -> Tensor:
    """The particles of a teacher.

    Args:
        kind: ``"arbitrary"``, ``"WI"`` or ``"SI"``.

    Returns:
        A float64 cloud of shape (5, 4), (10, 4) or (5, 4).

    Example:
        >>> [round(float(teacher(kind).square().sum(-1).mean()), 4) for kind in ("arbitrary", "WI", "SI")]
        [0.4405, 0.4405, 0.2285]
    """
    if kind == "SI":
        p, q = (0.5 / math.sqrt(2)) * torch.tensor(_INVARIANT, dtype=torch.float64).T
        return torch.stack([p, q, q, p], dim=-1)
    particles = 0.5 * torch.tensor(_ARBITRARY, dtype=torch.float64)
    return orbit(particles, ACTION) if kind == "WI" else particles


def objective(scheme: str, loss_scale: float = 1.0) -> Objective:
    """A training scheme in this setting.

    Args:
        scheme: ``"V"``, ``"DA"``, ``"DA sampled"``, ``"FA"`` or ``"EA"``.
        loss_scale: c in c‖ŷ − y‖².

    Returns:
        The objective.
    """
    loss = Squared(loss_scale)
    if scheme == "V":
        return vanilla(UNIT, loss)
    if scheme == "EA":
        return constrained(UNIT, loss, fixed_space())
    if scheme == "FA":
        return averaged(UNIT, loss, uniform(GROUP))
    return augmented(UNIT, loss, haar(GROUP) if scheme == "DA sampled" else uniform(GROUP))


@dataclass(frozen=True)
class Training:
    """One bundle of runs: all seeds and all schemes of one teacher, initial law and width.

    Attributes:
        teacher: which teacher.
        init: SI starts at P_E of the WI draw N(0, 1/16).
        n: width N.
        seeds: replicates; a seed fixes initial cloud, data and noise, whatever other seeds run beside it.
        schemes: trained side by side on the same data and noise.
        epsilon: step ε of macroscopic time.
        batch: samples in a step.
        noise: ``"projected"`` on E^G or ``"full"``.
        rate: ς.
        horizon: T in macroscopic time.
        tau: weight of ‖z‖².
        beta: entropy weight.
        loss_scale: c in c‖ŷ − y‖².
        input_std: standard deviation of the inputs.
        points: size of the sample on which predictions are compared.
        device: where to train.
        dtype: precision of training; distances are always float64.
    """

    teacher: Literal["arbitrary", "WI", "SI"]
    init: Literal["SI", "WI"]
    n: int
    seeds: tuple[int, ...]
    schemes: tuple[Literal["V", "DA", "DA sampled", "FA", "EA"], ...]
    epsilon: float
    batch: int
    noise: Literal["projected", "full"]
    rate: float
    horizon: float
    tau: float
    beta: float
    loss_scale: float
    input_std: float
    points: int
    device: str
    dtype: Literal["float32", "float64"]


@dataclass(frozen=True)
class Published:
    """The published grid; the base of the configurations of the studies of laws and risks.

    Attributes:
        teachers: kinds of teachers.
        inits: initial laws.
        sizes: widths N.
        seeds: replicates.
        schemes: trained side by side.
        noise: ``"paper"`` projects it for SI initial laws and not for WI ones.
        step_scale: a in the step law ε_N = a N^{-b}.
        step_power: b.
        rate: ς.
        horizon: T in macroscopic time.
        batch: samples in a step.
        tau: weight of ‖z‖².
        beta: entropy weight.
        loss_scale: c in c‖ŷ − y‖².
        input_std: standard deviation of the inputs.
        points: size of the sample on which predictions are compared.
        device: where to train.
        dtype: precision of training.
    """

    teachers: tuple[Literal["arbitrary", "WI", "SI"], ...] = ("arbitrary", "WI", "SI")
    inits: tuple[Literal["SI", "WI"], ...] = ("SI", "WI")
    sizes: tuple[int, ...] = (5, 10, 50, 100, 500, 1000, 5000)
    seeds: tuple[int, ...] = tuple(range(10))
    schemes: tuple[Literal["V", "DA", "DA sampled", "FA", "EA"], ...] = ("V", "DA", "DA sampled", "FA", "EA")
    noise: Literal["paper", "projected", "full"] = "paper"
    step_scale: float = 1.0
    step_power: float = 1.0
    rate: float = 50.0
    horizon: float = 20.0
    batch: int = 20
    tau: float = 1e-4
    beta: float = 1e-6
    loss_scale: float = 1.0
    input_std: float = 4.0
    points: int = 100
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        check_setting(self)


def check_setting(config: object) -> None:
    """Refuse a setting that no run could use, before anything is computed.

    Args:
        config: a configuration; the fields it shares with :class:`Published` are checked.

    Raises:
        FieldError: naming the field, what it needs and what it received.
    """
    least = {"sizes": 1, "n": 1, "narrow": 1, "middle": 1, "batch": 1, "batches": 1, "points": 1, "tau": 0, "beta": 0}
    positive = ("step_scale", "rate", "horizon", "loss_scale", "fixed_step", "steps", "input_std")
    for name, value in vars(config).items():
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            raise FieldError(f"expected at least one value for {name}, received none; give one, e.g. {name}=...")
        if name in least and not all(least[name] <= v < math.inf for v in values):
            raise FieldError(f"expected {name} >= {least[name]}, received {value}")
        if name in positive and not all(0 < v < math.inf for v in values):
            raise FieldError(f"expected {name} > 0, received {value}")


#: The published grid at widths that take a minute or two together, and at widths that take seconds.
QUICK: dict[str, object] = {
    "teachers": ("arbitrary", "WI"), "sizes": (5, 10, 50, 100, 500), "seeds": tuple(range(6)),
}  # fmt: skip
TINY: dict[str, object] = {"teachers": ("arbitrary", "WI"), "sizes": (5, 20), "seeds": (0, 1, 2), "horizon": 5.0}


def training_cells(config: Published) -> list[Cell]:
    """The cells of the published grid; studies with the same grid share them.

    Args:
        config: the grid.

    Returns:
        One cell for every teacher, initial law and width.
    """
    shared = ("seeds", "schemes", "rate", "horizon", "batch", "tau", "beta", "loss_scale", "input_std", "points")
    settings = {name: getattr(config, name) for name in (*shared, "device", "dtype")}
    noises: dict[str, Literal["projected", "full"]] = {"SI": "projected", "WI": "full"}
    if config.noise != "paper":
        noises = dict.fromkeys(noises, config.noise)
    return [
        Cell(
            train,
            Training(**point, **settings, epsilon=config.step_scale * point["n"] ** -config.step_power,
                     noise=noises[point["init"]]),
            cost=(50 + point["n"]) / (config.step_scale * point["n"] ** -config.step_power),
        )
        for point in Grid(teacher=config.teachers, init=config.inits, n=config.sizes)
    ]  # fmt: skip


@versioned(1)
def train(cell: Training) -> list[Row]:
    """Train, then measure laws and predictions at the horizon.

    Args:
        cell: what to train.

    Returns:
        Rows ``seed, scheme, quantity, value``; for distances between schemes, ``scheme`` reads ``"V–DA"``.
    """
    z0, z = trajectories(cell)
    rows = _laws(cell, "initial ", ("V",), z0.unsqueeze(0))
    rows += _laws(cell, "", cell.schemes, z)
    rows += _pairs(cell, z)
    rows += _predictions(cell, z)
    return rows


def trajectories(cell: Training) -> tuple[Tensor, Tensor]:
    """Initial and final clouds of a bundle.

    Args:
        cell: what to train.

    Returns:
        Initial clouds ``(seeds, n, 4)`` and final ones ``(schemes, seeds, n, 4)``.
    """
    like = torch.zeros(0, dtype=getattr(torch, cell.dtype), device=cell.device)
    generators = [random.generator(seed) for seed in cell.seeds]
    z0 = torch.stack([sample_weakly_invariant((cell.n,), ACTION, generator=g, like=like) for g in generators])
    if cell.init == "SI":
        z0 = project(z0, fixed_space())
    flow = Flow(
        horizon=cell.horizon,
        rate=cell.rate,
        step_law=lambda _: cell.epsilon,
        tau=cell.tau,
        beta=cell.beta,
        noise=fixed_space() if cell.noise == "projected" else None,
        batch=cell.batch,
        records=1,
    )
    schemes = coupled(*(objective(scheme, cell.loss_scale) for scheme in cell.schemes))
    data = gaussian_teacher(UNIT, teacher(cell.teacher), std=cell.input_std)
    start = z0.expand(len(cell.schemes), *z0.shape)
    *_, last = integrate(start, schemes, flow=flow, data=data, generator=generators)
    return z0, last.z


def _rows(seeds: Sequence[int], scheme: str, quantity: str, values: Tensor) -> list[Row]:
    return [
        {"seed": seed, "scheme": scheme, "quantity": quantity, "value": float(value)}
        for seed, value in zip(seeds, values, strict=True)
    ]


def _laws(cell: Training, prefix: str, schemes: Sequence[str], z: Tensor) -> list[Row]:
    """RMD² to E^G in closed form, and to the symmetrised law where the initial law is only WI."""
    space, rows = fixed_space(), []
    for scheme, cloud in zip(schemes, z, strict=True):
        rows += _rows(cell.seeds, scheme, f"{prefix}rmd2_fixed", distance_to_projection(cloud, space, squared=True))
        if cell.init == "WI":
            rows += _rows(cell.seeds, scheme, f"{prefix}rmd2_orbit", distance_to_orbit(cloud, ACTION, squared=True))
    return rows


def _pairs(cell: Training, z: Tensor) -> list[Row]:
    """RMD² between schemes, whatever their order in the cell, and between EA and the projection of FA."""
    clouds = dict(sorted(zip(cell.schemes, z, strict=True), key=lambda pair: SCHEMES.index(pair[0])))
    if {"EA", "FA"} <= set(clouds):
        clouds["P(FA)"] = project(clouds["FA"], fixed_space())
    rows = []
    for a, b in combinations(clouds, 2):
        if b == "P(FA)" and a != "EA":
            continue
        rows += _rows(
            cell.seeds, f"{a}–{b}", "rmd2_pair", relative_measure_distance(clouds[a], clouds[b], squared=True)
        )
    return rows


def _predictions(cell: Training, z: Tensor) -> list[Row]:
    """L² distances on fresh inputs, the same for every scheme of a seed."""
    target = teacher(cell.teacher)
    rows = []
    for index, seed in enumerate(cell.seeds):
        stream = random.split(random.generator(seed), 2)[1]
        x = random.normal((cell.points, 2), generator=stream, like=target, std=cell.input_std)
        exact = UNIT.mean(x, target)
        symmetric = _average(x, target)
        for scheme, clouds in zip(cell.schemes, z, strict=True):
            cloud = clouds[index].double().cpu()
            raw, mean = UNIT.mean(x, cloud), _average(x, cloud)
            measured = {
                "gap": raw - mean,
                "error_target": raw - exact,
                "error_symmetric": raw - symmetric,
                "error_target_averaged": mean - exact,
            }
            rows += [
                {"seed": seed, "scheme": scheme, "quantity": name, "value": math.sqrt(_mean_square(difference))}
                for name, difference in measured.items()
            ]
    return rows


def _average(x: Tensor, cloud: Tensor) -> Tensor:
    return averaged_ensemble(UNIT, x, cloud, frame=uniform(GROUP), rep_in=SWAP, rep_out=SWAP)


def _mean_square(difference: Tensor) -> float:
    return float(difference.square().sum(-1).mean())
