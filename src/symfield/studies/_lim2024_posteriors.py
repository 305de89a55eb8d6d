"""Cells of the study on Bayesian networks: posteriors of low rank, of standard and of asymmetric perceptrons."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from symfield import random
from symfield.experiments import Row, versioned
from symfield.studies._lim2024_data import digits_splits, user_task
from symfield.studies._lim2024_models import mlp
from symfield.studies._threads import one_thread
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    Adam,
    Rule,
    Variational,
    asymmetrize,
    calibration_error,
    divergence,
    fixed_entries,
    initial_many,
    log_mean_probability,
    outputs_many,
    train_many,
    variational,
    width_prior,
)

__all__ = ["INIT_ONLY", "KAPPA_0", "STANDARD", "W_ASYM", "Posteriors", "fit"]

STANDARD, W_ASYM, KAPPA_0, INIT_ONLY = "standard", "W", "W, kappa 0", "init only"
_MASK_SEED = 0
_BINS = 15


@dataclass(frozen=True)
class Posteriors:
    """All that one cell depends on.

    Attributes:
        arm: which networks.
        depth: hidden layers.
        width: units of each.
        data: ``"digits"``, or images of a user.
        folder: where these lie.
        seeds: of initial weights and order of the samples; all are trained side by side.
        epochs: passes over the data.
        batch: samples in a step.
        rate: of Adam.
        fix: fixed entries of every unit.
        kappa: their standard deviation.
        rank: of the posteriors.
        log_delta: logarithm of the variance in all directions.
        prior: p; prior variances are 1/(p × units).
        temper: the divergence is divided by this times the number of samples.
        draws: from the posterior for each prediction.
        device: where to compute.
        dtype: precision.
    """

    arm: str
    depth: int
    width: int
    data: str
    folder: str
    seeds: tuple[int, ...]
    epochs: int
    batch: int
    rate: float
    fix: int
    kappa: float
    rank: int
    log_delta: float
    prior: float
    temper: float
    draws: int
    device: str
    dtype: str


def _network(cell: Posteriors, inputs: int, classes: int) -> Variational:
    """The posterior around a fresh network, and what is fixed in it."""
    net: nn.Module = mlp([inputs, *[cell.width] * cell.depth, classes], activation=lambda i, width: nn.ReLU())
    if cell.arm != STANDARD:
        rule = Rule(fix=cell.fix, kappa=0.0 if cell.arm == KAPPA_0 else cell.kappa)
        net = asymmetrize(net, rule, seed=_MASK_SEED, mode="init_only" if cell.arm == INIT_ONLY else "exact")
    return variational(
        net, rank=cell.rank, delta=math.exp(cell.log_delta), prior=width_prior(cell.prior),
        generator=random.generator(0), fixed=fixed_entries(net),
    )  # fmt: skip


@versioned(1)
def fit(cell: Posteriors) -> list[Row]:
    """Fit one posterior for each seed, and judge its predictions.

    Args:
        cell: the setting.

    Returns:
        A row of kind ``posterior`` for each seed, and one of kind ``epoch`` for each seed and epoch.
    """
    like = torch.zeros((), dtype=getattr(torch, cell.dtype), device=cell.device)
    found = digits_splits([0], like=like) if cell.data == "digits" else user_task(
        cell.folder, cell.data, (3072,), 1, like=like
    )  # fmt: skip
    train, test = ((found.x[rows[0]], found.y[rows[0]]) for rows in (found.train, found.test))

    def build() -> Variational:
        return _network(cell, found.x.shape[1], found.classes)

    model, samples = build().to(like.device), len(train[1])

    def penalty(own: Params) -> Tensor:
        return divergence(model, own) / (cell.temper * samples)

    with one_thread():
        start = {name: value.to(like) for name, value in initial_many(build, cell.seeds).items()}
        done = train_many(
            model.to(like), start, *train, epochs=cell.epochs, batch=cell.batch, rate=cell.rate, seeds=cell.seeds,
            rule=Adam(), noise=0, penalty=penalty,
        )  # fmt: skip
        rows: list[Row] = [
            {"kind": "epoch", "seed": seed, "epoch": epoch + 1, "objective": float(value)}
            for epoch, losses in enumerate(done.losses)
            for seed, value in zip(cell.seeds, losses, strict=True)
        ]
        scores = {name: _scores(model, done.params, *data, cell.draws) for name, data in
                  (("train", train), ("test", test))}  # fmt: skip
        far = torch.vmap(lambda own: divergence(model, own))(done.params).tolist()
    for i, seed in enumerate(cell.seeds):
        row: Row = {"kind": "posterior", "seed": seed, "divergence": far[i], "objective": float(done.losses[-1, i])}
        for name, held in scores.items():
            row |= {f"{name}_{key}": float(values[i]) for key, values in held.items()}
        rows.append(row)
    return rows


@torch.no_grad()
def _scores(model: nn.Module, params: Params, x: Tensor, y: Tensor, draws: int) -> dict[str, np.ndarray]:
    """Negative log-likelihood, accuracy and calibration error of the mean prediction of each posterior."""
    logits = torch.stack([outputs_many(model, params, x, noise=1 + draw) for draw in range(draws)])
    logs = log_mean_probability(logits).double()
    wanted = y.expand(len(logs), -1)
    nll = functional.nll_loss(logs.flatten(0, 1), wanted.flatten(), reduction="none").reshape(wanted.shape).mean(1)
    return {
        "nll": nll.cpu().numpy(),
        "accuracy": (logs.argmax(-1) == wanted).double().mean(1).cpu().numpy(),
        "ece": np.array([calibration_error(one, y, bins=_BINS) for one in logs]),
    }
