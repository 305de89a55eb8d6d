"""Training 40 small networks at once: steps of the whole bundle per CPU second of one thread.

    python benchmarks/many_networks.py                   # about five minutes
    python benchmarks/many_networks.py --quick           # about two, noisier
    python benchmarks/many_networks.py --json speed.json --widths 10 1000 --units paper

Four ways to take the same steps, in one process, turn by turn, so that a busy machine disturbs all of them alike:

- loop: one model at a time, ``nn.Parameter``, autograd and ``torch.optim.SGD``, the way one would write it;
- JAX: ``vmap(grad)`` under ``jit``, ``lax.scan`` over 64 steps in a call (optional: ``pip install jax``);
- batched: ``symfield``'s plain-torch backend, 64 steps in a call;
- native: ``symfield``'s compiled backend, 64 steps in a call.

Batch 20, float32, data and noise drawn outside the timer, median over repetitions. Before anything is timed all four
must agree in float64. For the compiled backend the last column says how near it comes to the time of the activations
and multiply-adds alone, measured by a loop in the same library that does nothing else.

Units: ``relu``, a·relu(w·x) with d = 10 and one output, no regulariser and no noise; ``paper``, the unit of Maass &
Fontbona 2024, σ(z·x) with the logistic σ and d = o = 2, regularised, with noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import torch  # noqa: E402

from symfield.meanfield.kernels import Program, advance_batched, advance_native, arithmetic_limit, status  # noqa: E402

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None

SEEDS, SCHEMES, BATCH, CALL = 10, 4, 20, 64
NETWORKS = SEEDS * SCHEMES
BETA = 1e-6
UNITS = {
    "relu": Program("relu", in_dim=10, out_dim=1, hidden=1),
    "paper": Program("sigmoid", in_dim=2, out_dim=2, tau=1e-4),
}


@dataclass(frozen=True)
class Bundle:
    """40 networks and what they are trained on for 64 steps; schemes share noise."""

    program: Program
    z: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    noise: torch.Tensor | None
    step: float

    @staticmethod
    def make(program: Program, width: int, dtype: torch.dtype, steps: int = CALL) -> Bundle:
        """Random networks, samples, targets and noise."""
        generator = torch.Generator().manual_seed(width)
        step = 0.05

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float32).to(dtype)

        noise = normal(steps, SEEDS, program.dim, width).mul_((2 * BETA * step) ** 0.5) if program.tau else None
        return Bundle(
            program,
            normal(NETWORKS, program.dim, width) / program.in_dim**0.5,
            normal(steps, NETWORKS, BATCH, program.in_dim),
            normal(steps, NETWORKS, BATCH, program.out_dim),
            noise,
            step,
        )

    @property
    def width(self) -> int:
        """The number of particles."""
        return self.z.shape[2]


class ReLUModel(torch.nn.Module):
    """f(x) = mean_i a_i relu(w_i · x)."""

    def __init__(self, z: torch.Tensor, _program: Program) -> None:
        super().__init__()
        a, w = (part.clone(memory_format=torch.contiguous_format) for part in self.parts(z))
        self.a, self.w = torch.nn.Parameter(a), torch.nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predictions (b, o)."""
        return (torch.relu(x @ self.w.T) @ self.a / self.w.shape[0]).unsqueeze(-1)

    def parts(self, z: torch.Tensor) -> list[torch.Tensor]:
        """A (p, n) tensor in the layout of the parameters."""
        return [z[0], z[1:].T]

    def state(self) -> torch.Tensor:
        """The parameters, (p, n)."""
        return torch.cat([self.a.unsqueeze(0), self.w.T]).detach()


class PaperModel(torch.nn.Module):
    """Φ(x) = mean_i σ(z_i x)."""

    def __init__(self, z: torch.Tensor, program: Program) -> None:
        super().__init__()
        self.shape = (z.shape[1], program.out_dim, program.in_dim)
        self.z = torch.nn.Parameter(self.parts(z)[0].clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predictions (b, o)."""
        return torch.sigmoid(x @ self.z.T).view(x.shape[0], *self.shape[:2]).mean(1)

    def parts(self, z: torch.Tensor) -> list[torch.Tensor]:
        """A (p, n) tensor in the layout of the parameters."""
        return [z.T.reshape(-1, self.shape[2])]

    def state(self) -> torch.Tensor:
        """The parameters, (p, n)."""
        return self.z.detach().view(self.shape[0], -1).T


class Loop:
    """One model after the other, autograd and SGD; the learning rate carries the factor n of the particle gradient."""

    name = "loop"

    def __init__(self, bundle: Bundle, steps: int) -> None:
        make = PaperModel if bundle.program.hidden is None else ReLUModel
        n, self.steps = bundle.width, steps
        self.models = [make(z, bundle.program) for z in bundle.z]
        self.optimizers = [
            torch.optim.SGD(model.parameters(), lr=bundle.step * n, weight_decay=2 * bundle.program.tau / n)
            for model in self.models
        ]
        self.x, self.y = bundle.x[:steps], bundle.y[:steps]
        self.noise = None
        if bundle.noise is not None:
            self.noise = [[self.models[0].parts(z) for z in noise] for noise in bundle.noise[:steps]]

    def __call__(self) -> None:
        """Take the steps."""
        for k in range(self.steps):
            for i, (model, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
                loss = (model(self.x[k, i]) - self.y[k, i]).square().sum(-1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if self.noise is not None:
                    with torch.no_grad():
                        for parameter, shock in zip(model.parameters(), self.noise[k][i % SEEDS], strict=True):
                            parameter.add_(shock)

    def state(self) -> torch.Tensor:
        """All parameters, (networks, p, n)."""
        return torch.stack([model.state() for model in self.models])


class Scan:
    """JAX: vmap(grad) under jit, all steps in one lax.scan."""

    name = "JAX"

    def __init__(self, bundle: Bundle, steps: int) -> None:
        program, n, self.steps = bundle.program, bundle.width, steps

        def to_jax(tensor: torch.Tensor) -> Any:
            return jnp.asarray(tensor.contiguous().numpy())

        def predict(z: Any, x: Any) -> Any:
            if program.hidden is None:
                values = jax.nn.sigmoid(x @ z.reshape(n * program.out_dim, program.in_dim).T)
                return values.reshape(x.shape[0], n, program.out_dim).mean(1)
            return jax.nn.relu(x @ z[:, 1:].T) @ z[:, :1] / n

        def loss(z: Any, x: Any, y: Any) -> Any:
            return ((predict(z, x) - y) ** 2).sum(-1).mean() + program.tau * (z**2).sum() / n

        def step(z: Any, data: Any) -> Any:
            z = z - bundle.step * n * jax.vmap(jax.grad(loss))(z, data[0], data[1])
            return (z if len(data) == 2 else z + jnp.tile(data[2], (SCHEMES, 1, 1))), None

        self.z = to_jax(bundle.z.mT)
        self.data = (to_jax(bundle.x[:steps]), to_jax(bundle.y[:steps]))
        if bundle.noise is not None:
            self.data += (to_jax(bundle.noise[:steps].mT),)
        self.advance = jax.jit(lambda z, data: jax.lax.scan(step, z, data)[0])

    def __call__(self) -> None:
        """Take the steps."""
        self.z = self.advance(self.z, self.data).block_until_ready()

    def state(self) -> torch.Tensor:
        """All parameters, (networks, p, n)."""
        return torch.tensor(jax.device_get(self.z)).mT


class Kernel:
    """A backend of symfield."""

    def __init__(self, name: str, backend: Callable[..., torch.Tensor], bundle: Bundle, steps: int) -> None:
        self.name, self.backend, self.steps, self.z = name, backend, steps, bundle.z
        noise = None if bundle.noise is None else bundle.noise[:steps]
        self.data = (bundle.x[:steps], bundle.y[:steps], noise, torch.full((steps,), bundle.step, dtype=torch.float64))
        rows = torch.arange(NETWORKS)
        self.options = {"program": bundle.program, "data_row": rows, "noise_row": rows % SEEDS}

    def __call__(self) -> None:
        """Take the steps."""
        self.z = self.backend(self.z, *self.data, **self.options)

    def state(self) -> torch.Tensor:
        """All parameters, (networks, p, n)."""
        return self.z


Way = Loop | Scan | Kernel


def paths(bundle: Bundle, steps: int, *, loop_steps: int) -> list[Way]:
    """All ways at hand."""
    found: list[Way] = [Loop(bundle, loop_steps)]
    if jax is not None:
        found.append(Scan(bundle, steps))
    found.append(Kernel("batched", advance_batched, bundle, steps))
    if status().available:
        found.append(Kernel("native", advance_native, bundle, steps))
    return found


def disagreement(program: Program, width: int, steps: int = 8) -> dict[str, float]:
    """Largest difference from the loop after some steps in float64."""
    ways = paths(Bundle.make(program, width, torch.float64, steps), steps, loop_steps=steps)
    for way in ways:
        way()
    return {way.name: float((way.state() - ways[0].state()).abs().max()) for way in ways[1:]}


@dataclass(frozen=True)
class Row:
    """One way at one width: bundle steps per CPU second (median), and over repetitions the least and the most."""

    unit: str
    width: int
    way: str
    steps_per_second: float
    least: float
    most: float
    ratio: float


def rate(way: Callable[[], object], steps: float, seconds: float) -> float:
    """Steps per CPU second, over at least some CPU seconds."""
    start, done, spent = time.process_time(), 0.0, 0.0
    while spent < seconds:
        way()
        done += steps
        spent = time.process_time() - start
    return done / spent


def measure(unit: str, width: int, *, repetitions: int, seconds: float) -> list[Row]:
    """Rates of all ways at one width, turn by turn; the arithmetic limit is one of them."""
    program = UNITS[unit]
    bundle = Bundle.make(program, width, torch.float32)
    ways: dict[str, tuple[Callable[[], object], float]] = {
        way.name: (way, way.steps) for way in paths(bundle, CALL, loop_steps=max(2, min(16, 20_000 // width)))
    }
    if "native" in ways:
        parts = program.out_dim if program.hidden is None else program.hidden
        steps = 200
        done = arithmetic_limit(program, torch.float32, samples=BATCH, steps=steps)
        ways["arithmetic"] = (
            lambda: arithmetic_limit(program, torch.float32, samples=BATCH, steps=steps),
            done / (NETWORKS * BATCH * width * parts),
        )
    for way, _ in ways.values():
        way()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, (way, steps_done) in ways.items():
            rates[name].append(rate(way, steps_done, seconds))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return [
        Row(unit, width, name, middle[name], min(values), max(values), middle[name] / middle["loop"])
        for name, values in rates.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows of one unit: widths down, ways across."""
    names = list(dict.fromkeys(row.way for row in rows if row.way != "arithmetic"))
    lines = [f"{'N':>6}" + "".join(f"{name:>20}" for name in names) + f"{'of the limit':>14}"]
    for width in dict.fromkeys(row.width for row in rows):
        here = {row.way: row for row in rows if row.width == width}
        cells = [f"{here[name].steps_per_second:>10.0f} {f'({here[name].ratio:.1f}x)':>9}" for name in names]
        share = here["native"].steps_per_second / here["arithmetic"].steps_per_second if "native" in here else None
        lines.append(f"{width:>6}" + "".join(cells) + ("" if share is None else f"{share:>14.0%}"))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[10, 100, 1000, 10_000])
    parser.add_argument("--units", nargs="+", choices=list(UNITS), default=list(UNITS))
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.7, help="CPU seconds of one way in one repetition")
    parser.add_argument("--quick", action="store_true", help="5 repetitions of 0.4 seconds")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    repetitions, seconds = (5, 0.4) if arguments.quick else (arguments.repetitions, arguments.seconds)
    torch.set_num_threads(1)
    print(f"native: {status().detail} ({status().compiler})")
    if jax is None:
        print("JAX: not installed, skipped (pip install jax)")
    else:
        jax.config.update("jax_enable_x64", True)
    worst: dict[str, float] = {}
    for unit in arguments.units:
        for way, error in disagreement(UNITS[unit], width=100).items():
            worst[f"{unit}, {way}"] = error
    print("largest difference from the loop, float64: " + "; ".join(f"{k} {v:.0e}" for k, v in worst.items()))
    if not all(error < 1e-12 for error in worst.values()):
        raise SystemExit("the ways do not agree to 1e-12: nothing is timed")
    rows: list[Row] = []
    for unit in arguments.units:
        mine: list[Row] = []
        for width in arguments.widths:
            mine += measure(unit, width, repetitions=repetitions, seconds=seconds)
        print(f"\n{unit}: steps of {NETWORKS} networks per CPU second (ratio to the loop), float32, batch {BATCH}")
        print(table(mine), flush=True)
        rows += mine
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
        machine |= {"compiler": status().compiler, "jax": None if jax is None else jax.__version__}
        arguments.json.write_text(json.dumps({**machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
