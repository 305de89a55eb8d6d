"""Noisy SGD of ensembles: one step, whole runs, many runs and schemes at once.

With step s_k = ε_N ς(kε_N) every particle follows (Maass & Fontbona 2024, Equations (1) and (5))

    z_i ← z_i − s_k (D_μF(μ, z_i) + 2τ z_i) + sqrt(2β s_k) P ξ_i,   ξ_i ~ N(0, I_p),

where F is the objective on the batch, τ weighs the regulariser ‖z‖², β the entropy, and P is the identity or the
projection on a subspace ("projected noisy SGD"; only the noise is projected, iterates may leave the subspace).
Macroscopic time is t = kε_N.

References:
    Maass & Fontbona 2024, Section 2.2 and Appendix F, arXiv 2405.19995v3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield import random
from symfield.linalg import Subspace
from symfield.meanfield.data import Data, stream
from symfield.meanfield.inner import Block, Inner, draw_virtuals, inner_loop
from symfield.meanfield.objective import Objective
from symfield.meanfield.schemes import Coupled
from symfield.typing import Float, Generator, Tensor
from symfield.units import Unit, check_shapes

__all__ = ["Diverged", "Flow", "State", "integrate", "inverse_width", "step"]

_BLOCK_ENTRIES = 2**17
_BLOCK_STEPS = 256


class Diverged(ArithmeticError):
    """A run whose particles are no longer finite.

    Attributes:
        step: the step whose update gave the first NaN or infinity.
        runs: the runs concerned, as indices into the flattened leading axes of the cloud.
    """

    def __init__(self, step: int, total: int, time: float, runs: Sequence[int]) -> None:
        shown = ", ".join(map(str, runs[:8])) + (", ..." if len(runs) > 8 else "")
        super().__init__(
            f"diverged at step {step} of {total} (t = {time:.4g}): particles of run(s) {shown} are not finite; "
            "lower the rate or the step law"
        )
        self.step, self.runs = step, tuple(runs)

    def __reduce__(self) -> tuple[Callable[..., Diverged], tuple[str, int, tuple[int, ...]]]:
        return _rebuild, (str(self), self.step, self.runs)


def _rebuild(message: str, step: int, runs: tuple[int, ...]) -> Diverged:
    error = Diverged.__new__(Diverged)
    ArithmeticError.__init__(error, message)
    error.step, error.runs = step, runs
    return error


def inverse_width(n: int) -> float:
    """The paper's step law ε_N = 1/N.

    Args:
        n: number of particles N.

    Returns:
        1/N.

    Example:
        >>> inverse_width(4)
        0.25
    """
    return 1.0 / n


@dataclass(frozen=True)
class Flow:
    """How to train: step law, horizon, noise, regularisation. The defaults are the paper's.

    Attributes:
        horizon: macroscopic time T; a run takes round(T/ε_N) steps, at least one, and ends at their time kε_N.
        rate: ς, a number or a function of macroscopic time.
        step_law: N ↦ ε_N.
        tau: weight τ of the regulariser ‖z‖².
        beta: entropy weight β; 0 switches noise off.
        noise: subspace on which noise is projected; None for full noise.
        batch: number of samples in a step.
        records: number of states to yield after the first, evenly spaced in steps; every step, if there are fewer.

    References:
        Maass & Fontbona 2024, Appendix F, arXiv 2405.19995v3.
    """

    horizon: float = 20.0
    rate: float | Callable[[float], float] = 50.0
    step_law: Callable[[int], float] = inverse_width
    tau: float = 1e-4
    beta: float = 1e-6
    noise: Subspace | None = None
    batch: int = 20
    records: int = 10

    def __post_init__(self) -> None:
        for name, value, least in (("tau", self.tau, 0.0), ("beta", self.beta, 0.0), ("batch", self.batch, 1)):
            if not value >= least:
                raise ValueError(f"expected {name} >= {least}, received {value}")
        if not (self.horizon > 0 and math.isfinite(self.horizon)):
            raise ValueError(f"expected a positive, finite horizon, received {self.horizon}")
        if self.records < 1:
            raise ValueError(f"expected records >= 1, received {self.records}")

    def epsilon(self, n: int) -> float:
        """The step ε_N of macroscopic time.

        Args:
            n: number of particles N.

        Returns:
            ε_N.

        Raises:
            ValueError: if the step law is not positive there.
        """
        value = self.step_law(n)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"expected a positive step law, received ε_N = {value} at N = {n}")
        return value

    def steps(self, n: int) -> int:
        """Number of steps to the horizon, at least one.

        Args:
            n: number of particles N.

        Returns:
            round(T/ε_N).
        """
        return max(1, round(self.horizon / self.epsilon(n)))

    def step_size(self, index: int, n: int) -> float:
        """s_k = ε_N ς(kε_N).

        Args:
            index: k.
            n: number of particles N.

        Returns:
            The step size.

        Raises:
            ValueError: if the rate is negative or not finite there.
        """
        epsilon = self.epsilon(n)
        rate = self.rate(index * epsilon) if callable(self.rate) else self.rate
        if not (rate >= 0 and math.isfinite(rate)):
            raise ValueError(f"expected a rate ς(t) >= 0, received {rate} at t = {index * epsilon:.4g}")
        return epsilon * rate

    def record_steps(self, n: int) -> list[int]:
        """The steps after which a state is yielded: 0, then ``records`` evenly spaced ones up to the last.

        Args:
            n: number of particles N.

        Returns:
            Increasing step numbers.
        """
        total = self.steps(n)
        return sorted({0, *(round(total * j / self.records) for j in range(1, self.records + 1))})


class State(NamedTuple):
    """Where a run stands.

    Attributes:
        step: number of steps taken.
        time: macroscopic time kε_N.
        z: cloud, shaped like the initial one.
    """

    step: int
    time: float
    z: Tensor


def step(
    z: Float[Tensor, "..."],
    objective: Objective,
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    *,
    flow: Flow,
    index: int = 0,
    generator: Generator | None = None,
) -> Float[Tensor, "..."]:
    """One step of (projected) noisy SGD on a given batch.

    Args:
        z: cloud, shape ``(*r, n, p)``.
        objective: what to descend.
        x: inputs of the batch, shape ``(*r, b, d)``.
        y: targets of the batch, shape ``(*r, b, o)``.
        flow: step law, τ, β, noise.
        index: the number k of the step, for step sizes that vary.
        generator: source of noise and of sampled frames.

    Returns:
        The next cloud, same shape.

    Raises:
        ValueError: if shapes do not fit, or β > 0 without a generator.

    Example:
        >>> from symfield.meanfield import squared, vanilla
        >>> from symfield.units import PointwiseUnit, identity
        >>> linear = vanilla(PointwiseUnit(identity, 1, 1), squared)
        >>> one = torch.ones(1, 1)
        >>> step(torch.zeros(1, 1), linear, one, one, flow=Flow(rate=0.25, tau=0.0, beta=0.0)).item()
        0.5

    References:
        Maass & Fontbona 2024, Equations (1) and (5), arXiv 2405.19995v3.
    """
    if not isinstance(objective, Objective):
        raise ValueError(
            f"expected one objective, received {type(objective).__name__}; integrate trains several at once"
        )
    size = flow.step_size(index, z.shape[-2])
    cloud = objective.restrict(z)
    drift = objective.gradient(cloud, x, y, generator=generator) + 2 * flow.tau * cloud
    moved = cloud - size * drift
    if flow.beta == 0:
        return moved
    if generator is None:
        raise ValueError("β > 0 adds noise and needs generator=; pass a torch.Generator or take Flow(beta=0.0)")
    noise = random.normal(z.shape, generator=generator, like=z, std=math.sqrt(2 * flow.beta * size))
    return moved + objective.restrict(noise if flow.noise is None else flow.noise.project(noise))


def integrate(
    z0: Float[Tensor, "..."],
    objective: Objective | Coupled,
    *,
    flow: Flow,
    data: Data | tuple[Tensor, Tensor],
    generator: Generator | Sequence[Generator],
    inner: Inner | None = None,
) -> Iterator[State]:
    """Train from an initial cloud to the horizon, yielding states on the way.

    All leading axes of the cloud are independent runs and advance together. With :func:`~symfield.meanfield.coupled`
    the first axis runs over schemes, which share data and noise: scheme j of run r sees what scheme 0 of run r sees,
    and the noise of a constrained scheme is the projection of the others'. Noise, data and frames come from separate
    streams, so that recording more or changing a scheme leaves the others as they were.

    Memory is linear in runs × n and does not grow with the number of steps.

    Args:
        z0: initial cloud, shape ``(*r, n, p)``, or ``(schemes, *r, n, p)`` for coupled objectives.
        objective: what to descend.
        flow: step law, horizon, τ, β, noise, batch, records.
        data: a source of fresh samples, or arrays ``(x, y)`` to draw mini-batches from.
        generator: source of all randomness, or one for each run (in the order of the flattened leading axes, schemes
            left out): then a run is the same whatever other runs are beside it.
        inner: the inner loop; chosen for unit, loss and device when absent (see :mod:`symfield.meanfield.inner`).

    Yields:
        The state at step 0 and at ``flow.records`` evenly spaced steps, the last one at the horizon.

    Raises:
        ValueError: if shapes do not fit, or the data hold NaN.
        Diverged: when particles are no longer finite, naming step and runs.

    Example:
        >>> from symfield.meanfield import gaussian_teacher, squared, vanilla
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> unit = PointwiseUnit(sigmoid, 2, 2)
        >>> data = gaussian_teacher(unit, torch.ones(1, 4), std=4.0)
        >>> runs = integrate(torch.zeros(3, 10, 4), vanilla(unit, squared), flow=Flow(), data=data,
        ...                  generator=torch.Generator().manual_seed(0))
        >>> [state.step for state in runs]
        [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200]

    References:
        Maass & Fontbona 2024, Equations (1) and (5) and Appendix F, arXiv 2405.19995v3.
    """
    schemes = objective.objectives if isinstance(objective, Coupled) else (objective,)
    cloud = z0 if isinstance(objective, Coupled) else z0.unsqueeze(0)
    if cloud.ndim < 3 or len(cloud) != len(schemes):
        raise ValueError(f"expected a cloud of shape ({len(schemes)}, ..., n, p), received {tuple(z0.shape)}")
    unit = schemes[0].unit
    if not z0.is_floating_point():
        raise ValueError(f"expected a floating-point cloud, received {z0.dtype}; convert it, e.g. z0.double()")
    check_shapes(unit, z0.new_zeros(1, unit.in_dim), z0)
    if flow.noise is not None and flow.noise.ambient_dim != unit.dim:
        raise ValueError(f"expected Flow.noise in R^{unit.dim}, received a subspace of R^{flow.noise.ambient_dim}")
    if not z0.isfinite().all():
        raise ValueError("expected a finite initial cloud, received NaN or infinity")
    n, p = cloud.shape[-2:]
    z = torch.stack([s.restrict(c) for s, c in zip(schemes, cloud.detach(), strict=True)])
    z = z.reshape(len(schemes), -1, n, p)
    sources = (generator,) if isinstance(generator, torch.Generator) else tuple(generator)
    if len(sources) not in (1, z.shape[1]):
        raise ValueError(f"expected one generator, or one for each of {z.shape[1]} runs, received {len(sources)}")
    children = list(zip(*(random.split(g, 3) for g in sources), strict=True))  # now, not at the first state
    return _run(z, z0.shape, schemes, flow, stream(data), children, inner or inner_loop(schemes, z))


def _run(
    z: Tensor,
    shape: torch.Size,
    schemes: Sequence[Objective],
    flow: Flow,
    data: Data,
    generators: Sequence[Sequence[Generator]],
    inner: Inner,
) -> Iterator[State]:
    (_, runs, n, p), unit = z.shape, schemes[0].unit
    data_streams, noise_streams, frames = generators
    frame_streams = [[_copy(g) for g in frames] for _ in schemes]  # so that no scheme's draws depend on another
    total, epsilon = flow.steps(n), flow.epsilon(n)
    records = flow.record_steps(n)
    length = _block_length(n * p * (flow.beta > 0) + flow.batch * (unit.in_dim + unit.out_dim))
    yield State(0, 0.0, z.reshape(shape))
    for start in range(0, total, length):
        # Blocks depend on the shape of one run alone: what is drawn does not depend on what is recorded or run beside.
        stop = min(start + length, total)
        with torch.no_grad():  # a target may be a module
            x, y = _batches(data, unit, (stop - start, runs, flow.batch), data_streams, z)
        sizes = torch.tensor([flow.step_size(k, n) for k in range(start, stop)], dtype=torch.float64)
        noise = _noise(flow, sizes, (runs, p, n), noise_streams, z)
        block = Block(draw_virtuals(schemes, x, y, generators=frame_streams), sizes, noise, flow.tau)
        cuts = [start, *(k for k in records if start < k < stop), stop]
        for low, high in itertools.pairwise(cuts):
            before, window = z, slice(low - start, high - start)
            z = inner(z, block, window)
            if not z.isfinite().all():
                broken, bad = _first_break(inner, before, block, window)
                raise Diverged(start + broken + 1, total, (start + broken + 1) * epsilon, bad)
            if high in records:
                yield State(high, high * epsilon, z.reshape(shape))


def _copy(generator: Generator) -> Generator:
    return torch.Generator(device=generator.device).set_state(generator.get_state())


def _block_length(entries: int) -> int:
    return max(1, min(_BLOCK_STEPS, _BLOCK_ENTRIES // max(1, entries)))


def _batches(
    data: Data, unit: Unit, shape: tuple[int, int, int], generators: Sequence[Generator], like: Tensor
) -> tuple[Tensor, Tensor]:
    if len(generators) == 1:
        x, y = data(shape, generator=generators[0], like=like)
    else:
        alone = [data((shape[0], shape[2]), generator=g, like=like) for g in generators]
        x, y = (torch.stack(part, dim=1) for part in zip(*alone, strict=True))
    if x.shape != (*shape, unit.in_dim) or y.shape != (*shape, unit.out_dim):
        raise ValueError(
            f"expected the data source to give inputs {(*shape, unit.in_dim)} and targets {(*shape, unit.out_dim)} for "
            f"{unit!r}, received {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("the data source gave NaN or infinity; clean the data or bound the target")
    return x, y


def _noise(
    flow: Flow, sizes: Tensor, shape: tuple[int, int, int], generators: Sequence[Generator], like: Tensor
) -> Tensor | None:
    if flow.beta == 0:
        return None
    if len(generators) == 1:
        draw = random.normal((len(sizes), *shape), generator=generators[0], like=like)
    else:
        alone = [random.normal((len(sizes), *shape[1:]), generator=g, like=like) for g in generators]
        draw = torch.stack(alone, dim=1)
    draw.mul_((2 * flow.beta * sizes).sqrt().to(like).view(-1, 1, 1, 1))
    if flow.noise is None:
        return draw
    return flow.noise.project(draw.transpose(-1, -2)).transpose(-1, -2).contiguous()


def _first_break(inner: Inner, z: Tensor, block: Block, window: slice) -> tuple[int, list[int]]:
    """Repeat a stretch one step at a time: the step of the block that broke, and the runs concerned."""
    for k in range(window.start, window.stop):
        z = inner(z, block, slice(k, k + 1))
        bad = ~z.isfinite().flatten(2).all(-1)
        if bad.any():
            return k, bad.flatten().nonzero().flatten().tolist()
    raise AssertionError("a stretch diverged as a whole but not step by step")  # pragma: no cover
