"""Cells of the study on connectivity: train groups of networks of one arm, pair them, measure the line between them."""

from __future__ import annotations

import copy
import itertools
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from symfield import random, trees
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_arms import ARMS, Shape, initial
from symfield.studies._lim2024_data import Splits, digits_splits, subspace_clusters, user_task
from symfield.studies._lim2024_graphs import block_model, user_graph
from symfield.studies._threads import one_thread
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    ActivationMatching,
    Curve,
    ModelMetric,
    ParameterSymmetry,
    Permutation,
    Repair,
    Schedule,
    Training,
    WeightMatching,
    align,
    barrier,
    curve,
    loss_metric,
    midpoint_barrier,
    symmetries,
    train_many,
)
from symfield.weightspace.matching import Method

__all__ = [
    "IMAGES",
    "Pairs",
    "Problem",
    "augmented",
    "connectivity",
    "networks",
    "problem",
    "trained_groups",
    "with_params",
]

IMAGES = {"mnist": (784,), "cifar10": (3, 32, 32)}
"""Shapes of one input, for data that a user brings."""


@dataclass(frozen=True)
class Pairs:
    """All that one cell depends on.

    Attributes:
        data: ``"digits"``, ``"clusters"``, or the name of data that a user brings.
        folder: where the user's data lie.
        dim: dimension of the subspace that holds the clusters; 0 for other data.
        network: ``"mlp"``, ``"resnet8"``, ``"resnet20"`` or ``"graph"``.
        width: of hidden layers, or of the first stage.
        method: name of the arm.
        rate: of AdamW.
        decay: of weights.
        epochs: passes over the data.
        batch: samples in a step.
        warmup: epochs over which the rate rises.
        start: factor of the rate at its beginning, from which it rises epoch by epoch; 0 to rise in a straight line.
        augment: whether images are flipped and moved at random in every epoch.
        seeds: of the groups: split, masks and fixed values.
        nets: networks in a group; all pairs within a group are measured.
        matchings: how the second network of a pair is moved.
        points: of the line.
        device: where to compute.
        dtype: precision.
    """

    data: str
    folder: str
    dim: int
    network: str
    width: int
    method: str
    rate: float
    decay: float
    epochs: int
    batch: int
    warmup: float
    start: float
    augment: bool
    seeds: tuple[int, ...]
    nets: int
    matchings: tuple[str, ...]
    points: int
    device: str
    dtype: str


class Problem(NamedTuple):
    """Data and architecture of a cell.

    Attributes:
        splits: the data.
        shape: the architecture.
    """

    splits: Splits
    shape: Shape


def networks(cell: Pairs) -> dict[int, list[int]]:
    """Seeds of the networks by seed of their group.

    Args:
        cell: the setting.

    Returns:
        As many for each group as the cell says.
    """
    return {seed: [1000 * seed + i for i in range(cell.nets)] for seed in cell.seeds}


def problem(cell: Pairs) -> Problem:
    """The data of a cell, and the architecture that fits them.

    Args:
        cell: the setting.

    Returns:
        Both.

    Raises:
        StudyError: if data of the user's own are missing or do not fit.
    """
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    groups = len(cell.seeds)
    if cell.network == "graph":
        if cell.data == "blocks":
            graph = block_model(cell.seeds[0], groups, like=like)
        else:
            graph = user_graph(cell.folder, cell.data, groups, like=like)
        shape = Shape(cell.network, graph.features.shape[1], cell.width, graph.splits.classes, graph)
        return Problem(graph.splits, shape)
    if cell.data == "digits":
        splits = digits_splits(cell.seeds, like=like)
    elif cell.data == "clusters":
        splits = subspace_clusters(cell.dim, cell.seeds, like=like)
    else:
        splits = user_task(cell.folder, cell.data, IMAGES[cell.data], groups, like=like)
    if cell.network != "mlp" and splits.x.ndim == 2:
        side = round(splits.x.shape[1] ** 0.5)
        splits = splits._replace(x=splits.x.reshape(-1, 1, side, side))
    return Problem(splits, Shape(cell.network, splits.x.shape[1], cell.width, splits.classes))


def trained_groups(cell: Pairs, task: Problem) -> tuple[list[nn.Module], list[Params], list[float]]:
    """The networks of all groups of a cell, trained side by side.

    Args:
        cell: the setting.
        task: its data and architecture.

    Returns:
        One module for each group; state dicts of all networks, group after group; mean losses of the last epoch.
    """
    splits, groups = task.splits, networks(cell)
    models, params, trainable = initial(
        task.shape, ARMS[cell.method], groups, splits.x.new_zeros((), dtype=_dtype(cell))
    )
    state: Params | Training = params
    ends = range(1, cell.epochs + 1) if cell.augment else [cell.epochs]
    for until in ends:
        x = augmented(splits.x, cell.seeds[0] + until) if cell.augment else splits.x
        state = train_many(
            models[0], state, x, splits.y,
            epochs=cell.epochs, batch=min(cell.batch, splits.train.shape[1]), rate=cell.rate, decay=cell.decay,
            schedule=_warm(cell.warmup, cell.start, -(-splits.train.shape[1] // cell.batch)), trainable=trainable,
            seeds=[seed for members in groups.values() for seed in members],
            samples=splits.train.repeat_interleave(cell.nets, 0), until=until,
        )  # fmt: skip
    assert isinstance(state, Training)
    states = []
    for k, own in enumerate(trees.unstack(state.params)):
        whole = models[k // cell.nets].state_dict()
        states.append({name: own.get(name, value) for name, value in whole.items()})
    return models, states, state.losses[-1].tolist()


def _dtype(cell: Pairs) -> torch.dtype:
    found: torch.dtype = getattr(torch, cell.dtype)
    return found


def _warm(warmup: float, start: float, steps: int) -> Schedule:
    """Rates that rise over some epochs and stay: step by step from 0, or epoch by epoch by a factor."""

    def factor(epoch: float, epochs: Tensor) -> Tensor:
        share = min(1.0, (epoch + 1 / steps) / warmup) if warmup else 1.0
        if start:
            share = start ** (1 - min(1.0, int(epoch + 1e-9) / warmup))
        return torch.full(epochs.shape, share, dtype=torch.float64, device=epochs.device)

    return factor


def augmented(x: Tensor, seed: int) -> Tensor:
    """Images flipped at random, and moved by up to four pixels into zeros.

    Args:
        x: images, shape ``(n, c, h, w)``.
        seed: of flips and moves, one for each image.

    Returns:
        Images of the same shape.
    """
    n, _, height, width = x.shape
    generator = random.generator(seed)
    flips = random.integers(0, 2, (n, 1), generator=generator, like=x).bool()
    down, right = (random.integers(0, 9, (n, 1), generator=generator, like=x) for _ in range(2))
    rows = torch.arange(height, device=x.device) + down
    columns = torch.arange(width, device=x.device)
    columns = torch.where(flips, columns.flip(0), columns) + right
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    at = torch.arange(n, device=x.device)[:, None, None]
    return padded[at, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@versioned(2)
def connectivity(cell: Pairs) -> list[Row]:
    """Barriers of all pairs of an arm.

    Args:
        cell: the setting.

    Returns:
        Rows of kind ``pair`` with barriers and endpoints, and of kind ``path`` with the curve.
    """
    with one_thread():
        task = problem(cell)
        splits = task.splits
        began = time.process_time()
        models, states, losses = trained_groups(cell, task)
        spent = (time.process_time() - began) / len(losses)
        symmetry = symmetries(models[0], splits.x[:2]) if set(cell.matchings) - {"none"} else None
        rows: list[Row] = []
        for g, (seed, members) in enumerate(networks(cell).items()):
            model, train = models[g], splits.x[splits.train[g]]
            metric = _metric(model, splits, g, whole=cell.network == "graph")
            again = Repair(model, train, rescale=False) if cell.network == "graph" else None
            for i, j in itertools.combinations(range(cell.nets), 2):
                a, b = states[g * cell.nets + i], states[g * cell.nets + j]
                label: Row = {
                    "group": seed, "pair": f"{members[i]}-{members[j]}", "training_cpu_s": spent,
                    "end_epoch_loss": (losses[g * cell.nets + i] + losses[g * cell.nets + j]) / 2,
                    "distance": _distance(model, a, b),
                }  # fmt: skip
                for matching in cell.matchings:
                    moved = b if symmetry is None else _moved(matching, symmetry, model, a, b, train)
                    for statistics in ("averaged",) if again is None else ("averaged", "estimated anew"):
                        repair = None if again is None or statistics == "averaged" else again(a, moved)
                        line = curve(a, moved, metric, points=cell.points, repair=repair)
                        rows += _measured({**label, "matching": matching, "statistics": statistics}, line)
    return rows


def _distance(model: nn.Module, a: Params, b: Params) -> float:
    """Root of the mean square difference of trainable parameters."""
    names = [name for name, _ in model.named_parameters()]
    square = sum(float((a[name] - b[name]).double().square().sum()) for name in names)
    return (square / sum(a[name].numel() for name in names)) ** 0.5


def _metric(model: nn.Module, splits: Splits, group: int, *, whole: bool) -> ModelMetric:
    """Loss and accuracy on training and test data of a group, in one pass over both."""
    train, test = splits.train[group], splits.test[group]
    rows = torch.cat([train, test])
    first = torch.arange(len(rows), device=rows.device) < len(train)
    shares = [part.double() * len(rows) / part.sum() for part in (first, ~first)]

    def scores(logits: Tensor, targets: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        y, of_train, of_test = targets
        losses = nn.functional.cross_entropy(logits, y, reduction="none").double()
        right = (logits.argmax(-1) == y).double()
        return {
            "train_loss": (losses * of_train).mean(),
            "test_loss": (losses * of_test).mean(),
            "test_accuracy": (right * of_test).mean(),
        }

    x, targets = splits.x[rows], (splits.y[rows], *shares)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)  # convolutions of all samples take half the time on a CPU
    return loss_metric(model, x, targets, scores, batch_size=None if whole else min(2048, len(rows)))


def _moved(matching: str, symmetry: ParameterSymmetry, model: nn.Module, a: Params, b: Params, x: Tensor) -> Params:
    """The second network in the frame of the first."""
    if matching == "none":
        return b
    method: Method = WeightMatching(kinds=(Permutation,))
    if matching == "activations":
        method = ActivationMatching(with_params(model, a), with_params(model, b), x)
    return align(a, b, symmetry, method=method).params


def with_params(model: nn.Module, params: Params) -> nn.Module:
    """A copy of a module that holds the parameters of one network.

    Args:
        model: of the network's group.
        params: its state dict.

    Returns:
        The copy.
    """
    made = copy.deepcopy(model)
    made.load_state_dict(params)
    return made


def _measured(label: Row, line: Curve) -> list[Row]:
    """One row for the pair and one for every point of its line."""
    accuracy = line["test_accuracy"]
    rows: list[Row] = [
        {
            **label,
            "kind": "pair",
            "test_barrier": float(midpoint_barrier(line["test_loss"])),
            "train_barrier": float(midpoint_barrier(line["train_loss"])),
            "highest_test_barrier": float(barrier(line["test_loss"])),
            "drop_pp": 100 * float(midpoint_barrier(accuracy, larger_is_better=True)),
            "end_accuracy": float(accuracy.values[[0, -1]].mean()),
            "end_test_loss": float(line["test_loss"].values[[0, -1]].mean()),
            "end_train_loss": float(line["train_loss"].values[[0, -1]].mean()),
        }
    ]
    for k, t in enumerate(line.t.tolist()):
        values = {name: float(line[name].values[k]) for name in line.names}
        rows.append({**label, "kind": "path", "t": t, **values})
    return rows
