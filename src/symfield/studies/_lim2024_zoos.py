"""Cells of the study on metanetworks: zoos of standard and asymmetric networks, and what their weights tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from symfield import random
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_data import digits_splits
from symfield.studies._threads import one_thread
from symfield.typing import Tensor
from symfield.weightspace import (
    ConvolutionalReader,
    HyperparameterLaw,
    ModelZoo,
    Prediction,
    Rule,
    Statistics,
    asymmetrize,
    constant,
    deep_sets,
    fit_metanetwork,
    flattened_mlp,
    match_targets,
    split_samples,
    train_zoo,
    triangular,
)

__all__ = ["ALL", "KAPPA_0", "MATCHED", "STANDARD", "W_ASYM", "Zoos", "read_zoos"]

STANDARD, W_ASYM, KAPPA_0 = "standard", "W", "W, kappa 0"
ALL, MATCHED = "all", "matched"
_MASK_SEED = 0
_LAYERS = 8


@dataclass(frozen=True)
class Zoos:
    """All that one cell depends on.

    Attributes:
        arms: which zoos.
        networks: in each zoo.
        width: units of both hidden layers.
        images: for training.
        batch: of images in a step.
        largest_rate: of the law of learning rates.
        schedule: of the learning rates.
        fix: fixed share of the entries of every unit.
        kappa: standard deviation of the fixed entries.
        metanetworks: which read the zoos.
        rates: learning rates of these, chosen by validation.
        epochs: of these.
        meta_batch: networks in a step.
        seeds: of these, and of the splits.
        seed: of the split of images, and first seed of the networks.
        device: where to compute.
        dtype: precision.
    """

    arms: tuple[str, ...]
    networks: int
    width: int
    images: int
    batch: int
    largest_rate: float
    schedule: str
    fix: float
    kappa: float
    metanetworks: tuple[str, ...]
    rates: tuple[float, ...]
    epochs: int
    meta_batch: int
    seeds: tuple[int, ...]
    seed: int
    device: str
    dtype: str


def _build(cell: Zoos, arm: str) -> Callable[[], nn.Module]:
    def plain() -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, cell.width), nn.ReLU(), nn.Linear(cell.width, cell.width), nn.ReLU(),
            nn.Linear(cell.width, 10),
        )  # fmt: skip

    if arm == STANDARD:
        return plain
    rule = Rule(fix=cell.fix, kappa=0.0 if arm == KAPPA_0 else cell.kappa)
    return lambda: asymmetrize(plain(), rule, seed=_MASK_SEED)


def _zoo(cell: Zoos, arm: str) -> ModelZoo:
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    found = digits_splits([cell.seed], like=like)
    train, test = found.train[0][: cell.images], found.test[0]
    first = 1_000_000 * cell.seed
    return train_zoo(
        _build(cell, arm), (found.x[train], found.y[train]), (found.x[test], found.y[test]),
        seeds=range(first, first + cell.networks), law=HyperparameterLaw(largest_rate=cell.largest_rate),
        batch=cell.batch, schedule=triangular(5) if cell.schedule == "triangular" else constant,
        about={"mask_seed": _MASK_SEED, "arm": arm},
    )  # fmt: skip


def _reader(name: str, zoo: ModelZoo) -> Callable[[], nn.Module]:
    sizes = zoo.sizes()
    return {
        "MLP": lambda: flattened_mlp(sum(sizes)),
        "StatNN": lambda: Statistics(sizes),
        "DeepSets": lambda: deep_sets(),
        "DMC": lambda: ConvolutionalReader(layers=_LAYERS),
    }[name]


@versioned(1)
def read_zoos(cell: Zoos) -> list[Row]:
    """Train the zoos, and fit metanetworks to each as it is and to parts of each pair with one histogram of accuracies.

    Args:
        cell: the setting.

    Returns:
        Rows of kind ``network`` (one for each of all zoos), and of kind ``prediction`` for each zoo, metanetwork and
        seed: ``targets`` is ``all``, or ``matched`` with the other zoo in ``against``.
    """
    with one_thread():
        zoos = {arm: _zoo(cell, arm) for arm in cell.arms}
        rows: list[Row] = [
            {
                "kind": "network", "arm": arm, "network_seed": int(zoo.table["seed"][i]),
                **{name: float(zoo.table[name][i]) for name in ("rate", "epochs", "train_accuracy", "test_accuracy")},
                "parameters": sum(zoo.sizes()),
            }
            for arm, zoo in zoos.items()
            for i in range(len(zoo))
        ]  # fmt: skip
        for arm, zoo in zoos.items():
            rows += _read(cell, zoo, {"arm": arm, "targets": ALL, "against": ""})
        for arm in cell.arms:
            if arm == STANDARD or STANDARD not in zoos:
                continue
            own, other = (zoos[name].table["test_accuracy"] for name in (STANDARD, arm))
            places = match_targets(own, other, generator=random.generator(cell.seed))
            for name, index, against in zip((STANDARD, arm), places, (arm, STANDARD), strict=True):
                part = zoos[name].subset(index)
                rows += _read(cell, part, {"arm": name, "targets": MATCHED, "against": against})
    return rows


def _read(cell: Zoos, zoo: ModelZoo, labels: Row) -> list[Row]:
    finite = zoo.features().isfinite().all(1).cpu().numpy()
    zoo = zoo.subset(np.flatnonzero(finite))
    accuracy = zoo.table["test_accuracy"]
    targets = torch.from_numpy(accuracy).to(zoo.features())
    rows: list[Row] = []
    for name in cell.metanetworks:
        found = _predict(cell, _reader(name, zoo), zoo.features(), targets)
        rows += [
            {
                "kind": "prediction", **labels, "metanetwork": name, "seed": seed, "networks_read": len(zoo),
                "mean_accuracy": float(accuracy.mean()), "std_accuracy": float(accuracy.std()),
                "r2": float(found.r2[i]), "tau": float(found.tau[i]),
                "chosen_rate": found.rate, "chosen_epoch": int(found.epoch[i]),
            }
            for i, seed in enumerate(cell.seeds)
        ]  # fmt: skip
    return rows


def _predict(cell: Zoos, build: Callable[[], nn.Module], inputs: Tensor, targets: Tensor) -> Prediction:
    return fit_metanetwork(
        lambda: build().to(inputs), inputs, targets, split_samples(len(inputs), seed=cell.seed), rates=cell.rates,
        seeds=cell.seeds, epochs=cell.epochs, batch=cell.meta_batch,
    )  # fmt: skip
