"""Cells of the study on connectivity: train groups of networks of one arm, pair them, measure the line between them."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from symfield import trees
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_arms import ARMS, initial
from symfield.studies._lim2024_data import Splits, digits_splits, subspace_clusters, user_task
from symfield.studies._threads import one_thread
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    ActivationMatching,
    Curve,
    ParameterSymmetry,
    Permutation,
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

__all__ = ["MATCHINGS", "Pairs", "connectivity", "networks", "sizes_of", "splits_of", "trained_groups"]

MATCHINGS = ("none", "weights", "activations")


@dataclass(frozen=True)
class Pairs:
    """All that one cell depends on.

    Attributes:
        data: ``"digits"``, ``"clusters"``, or the name of data that a user brings.
        folder: where the user's data lie.
        dim: dimension of the subspace that holds the clusters; 0 for other data.
        network: ``"mlp"`` or ``"resnet8"``.
        width: of hidden layers, or of the first stage.
        method: name of the arm.
        rate: of AdamW.
        decay: of weights.
        epochs: passes over the data.
        batch: samples in a step.
        warmup: steps over which the rate rises.
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
    warmup: int
    seeds: tuple[int, ...]
    nets: int
    matchings: tuple[str, ...]
    points: int
    device: str
    dtype: str


def networks(cell: Pairs) -> dict[int, list[int]]:
    """Seeds of the networks by seed of their group."""
    return {seed: [1000 * seed + i for i in range(cell.nets)] for seed in cell.seeds}


def splits_of(cell: Pairs) -> Splits:
    """The data, images for convolutional networks."""
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    if cell.data == "digits":
        splits = digits_splits(cell.seeds, like=like)
    elif cell.data == "clusters":
        splits = subspace_clusters(cell.dim, cell.seeds, like=like)
    else:
        splits = user_task(cell.folder, cell.data, (784,), len(cell.seeds), like=like)
    if cell.network == "mlp":
        return splits
    side = round(splits.x.shape[1] ** 0.5)
    return splits._replace(x=splits.x.reshape(-1, 1, side, side))


def sizes_of(cell: Pairs, splits: Splits) -> tuple[int, ...]:
    """Layers of the perceptron, or channels, width and classes of the ResNet."""
    if cell.network == "mlp":
        return (splits.x.shape[1], *[cell.width] * 3, splits.classes)
    return splits.x.shape[1], cell.width, splits.classes


def trained_groups(cell: Pairs, splits: Splits) -> tuple[list[nn.Module], list[Params], list[float]]:
    """The networks of all groups of a cell, side by side.

    Args:
        cell: the setting.
        splits: the data.

    Returns:
        One module for each group; state dicts of all networks, group after group; mean losses of the last epoch.
    """
    groups = networks(cell)
    models, params, trainable = initial(cell.network, sizes_of(cell, splits), ARMS[cell.method], groups, splits.x)
    steps = -(-splits.train.shape[1] // cell.batch)

    def schedule(epoch: float, epochs: Tensor) -> Tensor:
        share = min(1.0, (epoch * steps + 1) / cell.warmup) if cell.warmup else 1.0
        return torch.full(epochs.shape, share, dtype=torch.float64, device=epochs.device)

    found = train_many(
        models[0], params, splits.x, splits.y,
        epochs=cell.epochs, batch=cell.batch, rate=cell.rate, decay=cell.decay, schedule=schedule, trainable=trainable,
        seeds=[seed for members in groups.values() for seed in members],
        samples=splits.train.repeat_interleave(cell.nets, 0),
    )  # fmt: skip
    last = found.losses[-1].tolist() if len(found.losses) else [float("nan")] * len(splits.train) * cell.nets
    kept = models[0].state_dict().keys()
    states = [{name: value for name, value in each.items() if name in kept} for each in trees.unstack(found.params)]
    return models, states, last


@versioned(1)
def connectivity(cell: Pairs) -> list[Row]:
    """Barriers of all pairs of an arm.

    Args:
        cell: the setting.

    Returns:
        Rows of kind ``pair`` with barriers and endpoints, and of kind ``path`` with the curve.
    """
    with one_thread():
        splits = splits_of(cell)
        began = time.process_time()
        models, states, losses = trained_groups(cell, splits)
        spent = (time.process_time() - began) / len(losses)
        symmetry = symmetries(models[0], splits.x[:2]) if set(cell.matchings) - {"none"} else None
        rows: list[Row] = []
        for g, (seed, members) in enumerate(networks(cell).items()):
            together = torch.cat([splits.train[g], splits.test[g]])
            model = models[g]
            metric = loss_metric(model, splits.x[together], splits.y[together], _scores(splits.train.shape[1]))
            for i, j in itertools.combinations(range(cell.nets), 2):
                a, b = states[g * cell.nets + i], states[g * cell.nets + j]
                label: Row = {
                    "group": seed, "pair": f"{members[i]}-{members[j]}", "training_cpu_s": spent,
                    "end_epoch_loss": (losses[g * cell.nets + i] + losses[g * cell.nets + j]) / 2,
                    "distance": _distance(model, a, b),
                }  # fmt: skip
                for matching in cell.matchings:
                    moved = b if symmetry is None else _moved(matching, symmetry, model, a, b, splits.x[splits.train[g]])
                    line = curve(a, moved, metric, points=cell.points)
                    rows += _measured({**label, "matching": matching}, line)
    return rows


def _distance(model: nn.Module, a: Params, b: Params) -> float:
    """Root of the mean square difference of trainable parameters."""
    names = [name for name, _ in model.named_parameters()]
    square = sum(float((a[name] - b[name]).double().square().sum()) for name in names)
    return (square / sum(a[name].numel() for name in names)) ** 0.5


def _scores(cut: int) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Loss and accuracy of outputs for training data, followed by test data."""

    def scores(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        losses = nn.functional.cross_entropy(logits, y, reduction="none").double()
        right = (logits.argmax(-1) == y).double()
        return {
            "train_loss": losses[:cut].mean(),
            "test_loss": losses[cut:].mean(),
            "test_accuracy": right[cut:].mean(),
        }

    return scores


def _moved(
    matching: str, symmetry: ParameterSymmetry, model: nn.Module, a: Params, b: Params, x: Tensor
) -> Params:
    """The second network in the frame of the first."""
    if matching == "none":
        return b
    method: Method = WeightMatching(kinds=(Permutation,))
    if matching == "activations":
        method = ActivationMatching(_with(model, a), _with(model, b), x)
    return align(a, b, symmetry, method=method).params


def _with(model: nn.Module, params: Params) -> nn.Module:
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
