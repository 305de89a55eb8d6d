"""Metanetworks: networks that read the parameters of networks, and predict what these do.

- :func:`flattened_mlp`: one hidden layer on all entries in a row; knows no symmetry.
- :class:`Statistics`: seven statistics of each tensor, then a perceptron; blind to how units are numbered.
- :func:`deep_sets`: every entry by itself, then the mean; blind to any order of the entries.
- :class:`ConvolutionalReader`: one-dimensional convolutions over the row of entries, then the mean.

All take the trainable entries of n networks, ``(n, p)``, and return one number each, ``(n, 1)``. One that reads graphs
is :class:`~symfield.weightspace.GraphMetanetwork`.

References:
    Unterthiner et al. 2020, Predicting neural network accuracy from weights, arXiv 2002.11448 (statistics). Zaheer et
    al. 2017, Deep sets, arXiv 1703.06114. Eilertsen et al. 2020, Classifying the classifier, arXiv 2002.05688
    (convolutions). Lim et al. 2024, Appendix F.3, arXiv 2405.20231 (all four, with these sizes).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import nn

from symfield import random
from symfield.typing import Float, Int, Params, Tensor
from symfield.weightspace.training import Training, initial_many, outputs_many, train_many

__all__ = [
    "ConvolutionalReader",
    "Prediction",
    "Split",
    "Statistics",
    "agreement",
    "deep_sets",
    "fit_metanetwork",
    "flattened_mlp",
    "split_samples",
]


def flattened_mlp(entries: int, *, hidden: int = 64) -> nn.Sequential:
    """A perceptron with one hidden layer on the entries of a network.

    Args:
        entries: p.
        hidden: units.

    Returns:
        The metanetwork.

    Example:
        >>> sum(p.numel() for p in flattened_mlp(78042).parameters())
        4994945
    """
    return nn.Sequential(nn.Linear(entries, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, 1))


class Statistics(nn.Module):
    """Mean, variance, smallest, largest and the three quartiles of each tensor, then a perceptron.

    Args:
        sizes: numbers of entries of the tensors, in order.
        hidden: units of the two hidden layers.

    Example:
        >>> sum(p.numel() for p in Statistics([10] * 29).parameters())
        119297
    """

    def __init__(self, sizes: Sequence[int], *, hidden: int = 256) -> None:
        super().__init__()
        if not len(sizes) or min(sizes) < 1:
            raise ValueError(f"expected sizes of at least one tensor, all positive, received {list(sizes)}")
        self.sizes = list(sizes)
        widths = [7 * len(self.sizes), hidden, hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.LayerNorm(after)]
        self.head = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def statistics(self, x: Float[Tensor, "n p"]) -> Float[Tensor, "n s"]:
        """Seven numbers for each tensor.

        Args:
            x: entries.

        Returns:
            Shape ``(n, 7 tensors)``.

        Raises:
            ValueError: if the entries are not as many as the sizes say.
        """
        if x.shape[1] != sum(self.sizes):
            raise ValueError(f"expected networks with {sum(self.sizes)} entries, received {x.shape[1]}")
        found = []
        for part in x.split(self.sizes, dim=1):
            ranked = part.sort(1).values
            found += [part.mean(1), part.var(1, correction=0), ranked[:, 0], ranked[:, -1]]
            found += [_quantile(ranked, share) for share in (0.25, 0.5, 0.75)]
        return torch.stack(found, 1)

    def forward(self, x: Float[Tensor, "n p"]) -> Float[Tensor, "n 1"]:
        """One number for each network."""
        return self.head(self.statistics(x))


def _quantile(ranked: Tensor, share: float) -> Tensor:
    """Between neighbours in a straight line, as ``torch.quantile``, which ``torch.vmap`` does not batch."""
    at = share * (ranked.shape[1] - 1)
    low = int(at)
    return torch.lerp(ranked[:, low], ranked[:, min(low + 1, ranked.shape[1] - 1)], at - low)


class _Mean(nn.Module):
    """Mean over the first of two inner axes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class _Column(nn.Module):
    """From ``(n, p)`` to ``(n, p, 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(2)


def deep_sets(*, hidden: int = 64, inputs: int = 1, layers: int = 3) -> nn.Sequential:
    """Every entry by itself through one layer, the mean over entries, then a perceptron.

    Args:
        hidden: units of all layers.
        inputs: numbers for each entry; with more than one the entries come as ``(n, p, inputs)``.
        layers: of the perceptron.

    Returns:
        The metanetwork.

    Example:
        >>> sum(p.numel() for p in deep_sets().parameters())
        8897
    """
    made: list[nn.Module] = [_Column()] if inputs == 1 else []
    made += [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), _Mean()]
    for _ in range(layers - 1):
        made += [nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU()]
    return nn.Sequential(*made, nn.Linear(hidden, 1))


class ConvolutionalReader(nn.Module):
    """One-dimensional convolutions over the entries in a row, ending in :func:`deep_sets`.

    Channels double from 1 (times hidden / 32) to ``hidden`` over six convolutions of five entries, each followed by
    ReLU, batch norm and a maximum over pairs; of the further ones every second has the maximum.

    Args:
        hidden: channels at the end; a multiple of 32.
        layers: convolutions, at least 6.

    Example:
        >>> sum(p.numel() for p in ConvolutionalReader().parameters())
        105357
        >>> ConvolutionalReader().shortest()
        2044
    """

    def __init__(self, *, hidden: int = 64, layers: int = 10) -> None:
        super().__init__()
        if hidden < 32 or hidden % 32 or layers < 6:
            raise ValueError(f"expected hidden as a multiple of 32 and at least 6 layers, received {hidden}, {layers}")
        channels = [1, *(hidden // 2**k for k in (5, 4, 3, 2, 1)), *[hidden] * (layers - 5)]
        self.pools = [i < 6 or i % 2 == 1 for i in range(layers)]
        made: list[nn.Module] = []
        for before, after, pools in zip(channels, channels[1:], self.pools, strict=False):
            made += [nn.Conv1d(before, after, 5), nn.ReLU(), nn.BatchNorm1d(after)] + [nn.MaxPool1d(2)] * pools
        self.convolutions = nn.Sequential(*made)
        self.head = deep_sets(hidden=hidden, inputs=hidden, layers=2)

    def shortest(self) -> int:
        """The fewest entries that it can read."""
        length = 1
        for pools in reversed(self.pools):
            length = (2 * length if pools else length) + 4
        return length

    def forward(self, x: Float[Tensor, "n p"]) -> Float[Tensor, "n 1"]:
        """One number for each network.

        Args:
            x: entries.

        Returns:
            Shape ``(n, 1)``.

        Raises:
            ValueError: if there are fewer than :meth:`shortest`.
        """
        if x.shape[1] < self.shortest():
            raise ValueError(
                f"expected networks with at least {self.shortest()} entries, received {x.shape[1]}; pass fewer layers"
            )
        return self.head(self.convolutions(x.unsqueeze(1)).mT)


class Split(NamedTuple):
    """Which networks are for training, for the choice of learning rate and epoch, and for the test.

    Attributes:
        train: indices.
        validation: indices.
        test: indices.
    """

    train: Int[Tensor, " a"]
    validation: Int[Tensor, " b"]
    test: Int[Tensor, " c"]


def split_samples(count: int, *, seed: int, train: float = 0.5, validation: float = 0.25) -> Split:
    """A random split of the networks of a zoo.

    Args:
        count: networks.
        seed: of the split.
        train: share for training.
        validation: share for validation; the rest is for the test.

    Returns:
        The split.

    Raises:
        ValueError: if a part would be empty.

    Example:
        >>> [len(part) for part in split_samples(100, seed=0)]
        [50, 25, 25]
    """
    order = torch.randperm(count, generator=random.generator(seed))
    first, second = round(train * count), round((train + validation) * count)
    found = Split(order[:first], order[first:second], order[second:])
    if not all(len(part) for part in found):
        raise ValueError(f"expected networks in every part, received {[len(part) for part in found]} of {count}")
    return found


@dataclass(frozen=True)
class Prediction:
    """How well a metanetwork predicts, for each of its seeds, on networks that it was not fitted to.

    Attributes:
        rate: the learning rate that was chosen.
        r2: share of the variance that is explained, shape ``(seeds,)``.
        tau: Kendall's rank correlation, shape ``(seeds,)``.
        epoch: of the lowest validation loss, shape ``(seeds,)``; counted from 1.
        outputs: predictions for the test part, shape ``(seeds, c)``.
        validation: lowest validation loss by rate and seed, shape ``(rates, seeds)``.
    """

    rate: float
    r2: np.ndarray
    tau: np.ndarray
    epoch: np.ndarray
    outputs: Float[Tensor, "s c"] = field(repr=False)
    validation: np.ndarray = field(repr=False)


def fit_metanetwork(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Float[Tensor, " n"],
    split: Split,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int = 50,
    batch: int = 128,
    decay: float = 1e-2,
    together: int | None = None,
) -> Prediction:
    """Fit a metanetwork by AdamW on the squared error: all learning rates and seeds side by side.

    For each rate and seed the epoch with the lowest validation loss counts; the rate with the lowest mean of these over
    seeds is chosen. The test part has no say in either.

    Args:
        build: makes a metanetwork.
        inputs: what it reads, samples along the first axis.
        targets: what it should say.
        split: of the samples.
        rates: learning rates to choose from.
        seeds: of initial parameters and order of the samples.
        epochs: of training.
        batch: samples in a step.
        decay: weight decay.
        together: how many metanetworks at once; all when None.

    Returns:
        The :class:`Prediction`.

    Raises:
        ValueError: if there are no rates or seeds, targets or inputs are not finite, targets do not differ in the test
            part or do not fit the inputs, or all rates diverge.

    Example:
        >>> x = torch.randn(200, 6, generator=random.generator(0))
        >>> found = fit_metanetwork(lambda: nn.Linear(6, 1), x, x.sum(1), split_samples(200, seed=0), rates=[1e-4, 0.1],
        ...                         seeds=[0, 1])
        >>> found.rate, bool((found.r2 > 0.99).all())
        (0.1, True)
    """
    if not len(rates) or not len(seeds):
        raise ValueError("expected at least one of rates and of seeds")
    if targets.shape != inputs.shape[:1] or not bool(targets.isfinite().all()):
        raise ValueError(f"expected a finite target for each of {len(inputs)} inputs, received {tuple(targets.shape)}")
    if not bool(inputs.isfinite().all()):
        broken = (~inputs.isfinite().flatten(1).all(1)).nonzero()[:, 0].tolist()
        raise ValueError(
            f"expected finite inputs, but those of {len(broken)} of {len(inputs)} networks are not, network "
            f"{broken[0]} among them; leave out networks that diverged"
        )
    wanted = targets[split.test].double()
    if not bool(wanted.var(correction=0) > 0):
        raise ValueError("the targets of the test part do not differ; nothing can be predicted of them")
    model = build()
    again = [seed for _ in rates for seed in seeds]
    best = torch.full((len(again),), torch.inf, dtype=torch.float64)
    when = torch.zeros(len(again), dtype=torch.long)
    kept: Params = {}

    def look(state: Training) -> None:
        found = outputs_many(model, state.params, inputs[split.validation], together=together)[..., 0].double()
        losses = (found - targets[split.validation]).square().mean(1).cpu()
        better = losses < best
        if not kept:
            kept.update(state.params)
        for name, value in state.params.items():
            where = better.to(value.device)
            kept[name] = torch.where(where.reshape(-1, *(1,) * (value.ndim - 1)), value, kept[name])
        best[better], when[better] = losses[better], state.epoch

    train_many(
        model, initial_many(build, again), inputs[split.train], targets[split.train], epochs=epochs, batch=batch,
        rate=[rate for rate in rates for _ in seeds], seeds=again, decay=decay, together=together, after_epoch=look,
        loss=lambda outputs, y: (outputs[:, 0] - y).square().mean(),
    )  # fmt: skip
    table = best.reshape(len(rates), len(seeds))
    chosen = int(table.mean(1).argmin())
    if not bool(table[chosen].isfinite().all()):
        raise ValueError(f"fitting diverged at all rates {list(rates)}; pass smaller ones, or scale the inputs")
    rows = slice(chosen * len(seeds), (chosen + 1) * len(seeds))
    own = {name: value[rows] for name, value in kept.items()}
    outputs = outputs_many(model, own, inputs[split.test], together=together)[..., 0].double()
    return Prediction(
        float(rates[chosen]), *agreement(outputs, wanted), when[rows].numpy(), outputs, table.numpy()
    )  # fmt: skip


def agreement(outputs: Float[Tensor, "s c"], wanted: Float[Tensor, " c"]) -> tuple[np.ndarray, np.ndarray]:
    """How well several predictions agree with what came true.

    Args:
        outputs: predictions, one row for each.
        wanted: what came true.

    Returns:
        R² and Kendall's τ, each of shape ``(s,)``.

    Example:
        >>> r2, tau = agreement(torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.5, 1.0]]), torch.tensor([0.0, 1.0, 2.0]))
        >>> r2.tolist(), tau[0]
        ([1.0, -0.125], np.float64(1.0))
    """
    residual = (outputs - wanted).square().mean(1)
    r2 = (1 - residual / wanted.var(correction=0)).cpu().numpy()
    tau = [kendalltau(found.cpu().numpy(), wanted.cpu().numpy()).statistic for found in outputs]
    return r2, np.array(tau)
