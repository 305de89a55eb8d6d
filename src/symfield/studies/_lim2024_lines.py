"""Cells of the study on the line from initial to trained parameters: each network with its own hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from symfield import random, trees
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_arms import ARMS, Shape, initial
from symfield.studies._lim2024_data import Splits, digits_splits
from symfield.studies._threads import one_thread
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    curve,
    global_convexity,
    local_convexity,
    loss_metric,
    monotonicity_gap,
    train_many,
    triangular,
)

__all__ = ["Laws", "Lines", "hyper_parameters", "lines"]


@dataclass(frozen=True)
class Lines:
    """All that one cell depends on.

    Attributes:
        network: ``"mlp"`` or ``"resnet8"``.
        width: of hidden layers, or of the first stage.
        method: name of the arm.
        rate: upper end of the law of rates, rate · 10^(−U(0, 2)).
        epochs: least and largest number.
        peak: epoch at which the rate is highest.
        batch: samples in a step.
        seed: of split, masks and fixed values.
        seeds: of the networks and their hyper-parameters.
        samples: how many training samples the loss on the line is taken over.
        points: of the line.
        device: where to compute.
        dtype: precision.
    """

    network: str
    width: int
    method: str
    rate: float
    epochs: tuple[int, int]
    peak: float
    batch: int
    seed: int
    seeds: tuple[int, ...]
    samples: int
    points: int
    device: str
    dtype: str


class Laws(NamedTuple):
    """Hyper-parameters of all networks, the same for all arms.

    Attributes:
        rate: learning rates.
        decay: weight decays, 10^(−U(1, 5)).
        smoothing: label smoothing, U(0, 0.2).
        epochs: whole numbers, uniform.
    """

    rate: list[float]
    decay: list[float]
    smoothing: list[float]
    epochs: list[int]


def hyper_parameters(cell: Lines) -> Laws:
    """The published laws.

    Args:
        cell: gives seeds, the highest rate and the range of epochs.

    Returns:
        One of each for every network.
    """
    wide = torch.zeros((), dtype=torch.float64)
    drawn = [random.uniform((4,), generator=random.generator(seed), like=wide).tolist() for seed in cell.seeds]
    low, high = cell.epochs
    return Laws(
        [cell.rate * 10 ** (-2 * u[0]) for u in drawn],
        [10 ** (-1 - 4 * u[1]) for u in drawn],
        [0.2 * u[2] for u in drawn],
        [low + int(u[3] * (high - low + 1)) for u in drawn],
    )


@versioned(1)
def lines(cell: Lines) -> list[Row]:
    """The training loss on the line from the start to the end of each network.

    Args:
        cell: the setting.

    Returns:
        Rows of kind ``line`` with monotonicity and convexity, and of kind ``path`` with the curve. Networks whose
        parameters are not finite have NaN there and ``finite`` 0.
    """
    with one_thread():
        like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
        splits = digits_splits([cell.seed], like=like)
        if cell.network != "mlp":
            splits = splits._replace(x=splits.x.reshape(-1, 1, 8, 8))
        shape = Shape(cell.network, splits.x.shape[1], cell.width, splits.classes)
        (model,), start, trainable = initial(shape, ARMS[cell.method], {cell.seed: cell.seeds}, like)
        laws = hyper_parameters(cell)
        found = train_many(
            model, start, splits.x, splits.y,
            epochs=laws.epochs, batch=cell.batch, rate=laws.rate, decay=laws.decay, smoothing=laws.smoothing,
            schedule=triangular(cell.peak), trainable=trainable, seeds=list(cell.seeds),
            samples=splits.train.expand(len(cell.seeds), -1),
        )  # fmt: skip
        rows: list[Row] = []
        for k, (before, after) in enumerate(zip(trees.unstack(start), trees.unstack(found.params), strict=True)):
            label: Row = {"net": cell.seeds[k], "net_rate": laws.rate[k], "net_epochs": laws.epochs[k]}
            rows += _line(label, cell, splits, model, before, after, laws.smoothing[k])
    return rows


def _line(
    label: Row, cell: Lines, splits: Splits, model: nn.Module, before: Params, after: Params, smoothing: float
) -> list[Row]:
    whole = model.state_dict()
    start, end = ({name: params.get(name, value) for name, value in whole.items()} for params in (before, after))
    if not all(bool(value.isfinite().all()) for value in end.values()):
        nan = float("nan")
        empty = dict.fromkeys(("gap", "monotone", "local", "global", "wrong_chord", "accuracy", "start", "end"), nan)
        return [{**label, "kind": "line", "finite": 0.0, **empty}]

    def scores(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(logits, y, label_smoothing=smoothing)
        return {"loss": loss.double(), "accuracy": (logits.argmax(-1) == y).double().mean()}

    some = splits.train[0, : cell.samples]
    path = curve(start, end, loss_metric(model, splits.x[some], splits.y[some], scores), points=cell.points)
    losses = path["loss"]
    values = losses.values
    gap = float(monotonicity_gap(losses))
    second = values[0] + losses.t / losses.t[1] * (
        values[1] - values[0]
    )  # the published code ends its chord at point 1
    rows: list[Row] = [
        {
            **label, "kind": "line", "finite": 1.0, "gap": gap, "monotone": float(gap <= 0),
            "local": float(local_convexity(losses)), "global": float(global_convexity(losses)),
            "wrong_chord": float((values <= second + 1e-12).double().mean()),
            "accuracy": float(path["accuracy"].values[-1]), "start": float(values[0]), "end": float(values[-1]),
        }
    ]  # fmt: skip
    rows += [
        {**label, "kind": "path", "t": t, "loss": float(v)} for t, v in zip(losses.t.tolist(), values, strict=True)
    ]
    return rows
