"""Cells of the re-basin study: train some networks, match every pair, measure the line between them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from symfield import random
from symfield.experiments import Row, versioned
from symfield.studies._rebasin_data import Task, load
from symfield.studies._rebasin_training import network, one_of, train
from symfield.studies._threads import one_thread
from symfield.typing import Params
from symfield.weightspace import (
    ActivationMatching,
    Curve,
    FrankWolfe,
    ParameterSymmetry,
    Permutation,
    Repair,
    Sinkhorn,
    WeightMatching,
    align,
    barrier,
    curve,
    loss_metric,
    symmetries,
)
from symfield.weightspace.matching import Fit, Method, fit

__all__ = ["METHODS", "MIDPOINT", "NONE", "Pairs", "barriers"]

NONE = "none"
"""The networks stay as they are."""
MIDPOINT = "midpoint loss"
"""Sinkhorn descent on the training loss; its cost grows with the cube of the width at every step."""

_REPAIR_SAMPLES = 512


@dataclass(frozen=True)
class Pairs:
    """All that one cell depends on.

    Attributes:
        task: name of the data.
        width: units of a hidden layer.
        depth: number of hidden layers.
        optimiser: how the networks are trained.
        rate: its step.
        epochs: passes over the data.
        batch: samples in a step.
        seeds: of the networks; all pairs of them are matched.
        methods: names of the methods.
        points: of the line.
        device: where to compute.
        dtype: precision.
    """

    task: str
    width: int
    depth: int
    optimiser: str
    rate: float
    epochs: int
    batch: int
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    points: int
    device: str
    dtype: str


def _activations(a: nn.Module, b: nn.Module, task: Task) -> Method:
    return ActivationMatching(a, b, task.x)


def _midpoint(a: nn.Module, b: nn.Module, task: Task) -> Method:
    """Descent on the training loss at the midpoint, on a fixed batch, from weight matching on."""
    some = torch.randperm(len(task.y), generator=random.generator(0))[:1024].to(task.x.device)

    def loss(params: Params) -> torch.Tensor:
        return nn.functional.cross_entropy(torch.func.functional_call(a, params, (task.x[some],)), task.y[some])

    return Sinkhorn(loss, steps=200, confidence=2.0, start=WeightMatching(kinds=(Permutation,)))


METHODS: dict[str, Callable[[nn.Module, nn.Module, Task], Method]] = {
    "weights": lambda a, b, task: WeightMatching(kinds=(Permutation,)),
    "activations": _activations,
    "activations, then weights": lambda a, b, task: WeightMatching(_activations(a, b, task), kinds=(Permutation,)),
    "Frank-Wolfe": lambda a, b, task: FrankWolfe(polish=WeightMatching(kinds=(Permutation,))),
    "weights and scales": lambda a, b, task: WeightMatching(),
    MIDPOINT: _midpoint,
}
"""How a method is made from two networks and the data; ``none`` leaves the networks as they are."""


@versioned(1)
def barriers(cell: Pairs) -> list[Row]:
    """Four corners of every pair: unmatched and matched, plain and repaired.

    Args:
        cell: the setting.

    Returns:
        Rows of kind ``pair`` with barriers, midpoints, closeness and CPU seconds of a method, and of kind ``path``
        with the curve.
    """
    with one_thread():
        like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
        task = load(cell.task, like)
        sizes = [task.x.shape[1], *[cell.width] * cell.depth, task.classes]
        began = time.process_time()
        trained = train(
            task, sizes, cell.seeds,
            optimiser=cell.optimiser, rate=cell.rate, epochs=cell.epochs, batch=cell.batch,
        )  # fmt: skip
        spent = (time.process_time() - began) / len(cell.seeds)
        symmetry = symmetries(network(sizes).to(like), task.x[:2])
        model = network(sizes).to(like)
        together = cell.points if cell.width <= 64 else 1
        metric = loss_metric(
            model, torch.cat([task.x, task.x_test]), torch.cat([task.y, task.y_test]), _scores(task), together=together
        )
        statistics = Repair(model, task.x[:_REPAIR_SAMPLES])
        rows: list[Row] = []
        for i, j in itertools.combinations(range(len(cell.seeds)), 2):
            a, b = one_of(trained, i), one_of(trained, j)
            label: Row = {"pair": f"{cell.seeds[i]}-{cell.seeds[j]}", "training_cpu_s": spent}
            for method in cell.methods:
                began = time.process_time()
                moved, close = _moved(method, a, b, symmetry, sizes, task)
                label |= {"method": method, "cpu_s": time.process_time() - began}
                for repair in (None, statistics(a, moved)):
                    line = curve(a, moved, metric, points=cell.points, repair=repair)
                    rows += _corner({**label, "repair": repair is not None}, close, line)
    return rows


def _scores(task: Task) -> Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
    """Loss and accuracy of outputs for training data, followed by test data."""
    cut = len(task.y)

    def scores(logits: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        losses = nn.functional.cross_entropy(logits, y, reduction="none").double()
        right = (logits.argmax(-1) == y).double()
        return {
            "train_loss": losses[:cut].mean(),
            "train_accuracy": right[:cut].mean(),
            "test_loss": losses[cut:].mean(),
            "test_accuracy": right[cut:].mean(),
        }

    return scores


def _moved(
    method: str, a: Params, b: Params, symmetry: ParameterSymmetry, sizes: Sequence[int], task: Task
) -> tuple[Params, Fit]:
    """The second network moved by a method, and how close it is then."""
    if method == NONE:
        return b, fit(a, b, dict.fromkeys(a, 1.0))
    models = []
    for params in (a, b):
        models.append(network(sizes).to(task.x))
        models[-1].load_state_dict(params)
    found = align(a, b, symmetry, method=METHODS[method](models[0], models[1], task))
    return found.params, found.after


def _corner(label: Row, close: Fit, line: Curve) -> list[Row]:
    """One row for the pair and one for every point of its line."""
    values = {name: line[name].values for name in line.names}
    summary = {
        "kind": "pair",
        "train_loss_barrier": float(barrier(line["train_loss"])),
        "train_accuracy_barrier": float(barrier(line["train_accuracy"], larger_is_better=True)),
        "test_loss_barrier": float(barrier(line["test_loss"])),
        "test_accuracy_barrier": float(barrier(line["test_accuracy"], larger_is_better=True)),
        "middle_test_accuracy": float(values["test_accuracy"][len(line.t) // 2]),
        "end_test_accuracy": float(values["test_accuracy"][[0, -1]].mean()),
        "end_train_loss": float(values["train_loss"][[0, -1]].mean()),
        "cosine": close.cosine,
        "inner": close.inner,
        "squared_distance": close.squared_distance,
    }
    rows: list[Row] = [{**label, **summary}]
    for k, t in enumerate(line.t.tolist()):
        rows.append({**label, "kind": "path", "t": t, **{name: float(value[k]) for name, value in values.items()}})
    return rows
