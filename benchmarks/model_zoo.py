"""Training 600 small networks: one batched program against a Python loop of separate models, on one thread.

    python benchmarks/model_zoo.py              # about half a minute
    python benchmarks/model_zoo.py --json zoo.json

Networks 64-16-16-10 with ReLU, 400 images, batch 64, AdamW with a learning rate, weight decay and label smoothing for
each network, an order of the samples for each network, float32. The loop is written as one would: ``nn.Sequential``,
``nn.CrossEntropyLoss`` and ``torch.optim.AdamW``, plain and with ``fused=True``; it trains a few of the networks, and
its time for each is compared. Before anything is timed both must agree in float64. CPU seconds, best of several, taken
in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import nn

from symfield import random, trees
from symfield.typing import Params
from symfield.weightspace import initial_many, train_many

COUNT, SAMPLES, BATCH, EPOCHS, LOOPED = 600, 400, 64, 2, 12


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))


class Zoo:
    """Data, initial networks and what belongs to each."""

    def __init__(self, dtype: torch.dtype) -> None:
        source = random.generator(0)
        like = torch.zeros((), dtype=torch.float64)
        self.x = random.normal((SAMPLES, 64), generator=source, like=like).to(dtype)
        self.y = random.integers(0, 10, (SAMPLES,), generator=source)
        self.rate = 1e-2 * 10 ** -random.uniform((COUNT,), generator=source, like=like, high=2.0)
        self.decay = 10 ** -random.uniform((COUNT,), generator=source, like=like, low=1.0, high=5.0)
        self.smoothing = random.uniform((COUNT,), generator=source, like=like, high=0.2)
        self.params = {name: value.to(dtype) for name, value in initial_many(build, range(COUNT)).items()}

    def batched(self, *, shared: bool = False, together: int | None = None) -> Params:
        """Parameters of all networks after the epochs."""
        return train_many(
            build(), self.params, self.x, self.y, epochs=EPOCHS, batch=BATCH, rate=self.rate, decay=self.decay,
            smoothing=self.smoothing, seeds=0 if shared else range(COUNT), together=together,
        ).params  # fmt: skip

    def loop(self, count: int, *, fused: bool = False) -> list[Params]:
        """The first networks, one after another."""
        return [self.one(i, params, fused) for i, params in enumerate(self.first(count))]

    def first(self, count: int) -> list[Params]:
        """Initial parameters of the first networks."""
        return trees.unstack({name: value[:count] for name, value in self.params.items()})

    def one(self, i: int, params: Params, fused: bool) -> Params:
        """One network, trained by torch.optim."""
        model = build().to(self.x.dtype)
        model.load_state_dict(params)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=float(self.rate[i]), weight_decay=float(self.decay[i]), fused=fused
        )
        loss = nn.CrossEntropyLoss(label_smoothing=float(self.smoothing[i]))
        source = random.generator(i)
        for _ in range(EPOCHS):
            for index in torch.randperm(SAMPLES, generator=source).split(BATCH):
                optimiser.zero_grad()
                loss(model(self.x[index]), self.y[index]).backward()
                optimiser.step()
        return model.state_dict()


def agreement() -> float:
    """Largest difference between a network of the stack and the same one of the loop, in float64."""
    zoo = Zoo(torch.float64)
    stacked = zoo.batched()
    return max(
        float((stacked[name][i] - value).abs().max())
        for i, single in enumerate(zoo.loop(3))
        for name, value in single.items()
    )


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    difference = agreement()
    if difference > 1e-9:
        raise SystemExit(f"the two ways disagree by {difference:.1e} in float64")
    zoo = Zoo(torch.float32)
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: zoo.loop(LOOPED),
        "loop, fused AdamW": lambda: zoo.loop(LOOPED, fused=True),
        "batched": zoo.batched,
        "batched, 100 at once": lambda: zoo.batched(together=100),
        "batched, one order for all": lambda: zoo.batched(shared=True),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(chosen.repeats):
        for name, work in ways.items():
            count = LOOPED if name.startswith("loop") else COUNT
            best[name] = min(best[name], seconds(work) / count)
    print(f"largest difference in float64: {difference:.1e}")
    print(f"{'':28} ms a network and epoch   times the loop   times the fused loop")
    for name, value in best.items():
        fused = best["loop, fused AdamW"] / value
        print(f"{name:28} {1e3 * value / EPOCHS:22.4f} {best['loop'] / value:16.1f} {fused:22.1f}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"difference": difference, "seconds a network": best}, indent=2))


if __name__ == "__main__":
    main()
