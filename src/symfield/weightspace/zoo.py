"""Model zoos: hundreds of small networks trained side by side, each with hyper-parameters of its own.

A zoo is a data set whose samples are networks: their parameters as stacked tensors, and a table with one row for each,
of what went in (seed, learning rate, weight decay, label smoothing, epochs) and what came out (losses, accuracies).
Everything about network i follows from its seed, so that a zoo can be trained in pieces, enlarged, and made again.

References:
    Lim et al. 2024, Section 5.3 and Appendix F.3, arXiv 2405.20231 (the law of hyper-parameters). Unterthiner et al.
    2020, Predicting neural network accuracy from weights, arXiv 2002.11448.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from symfield import random
from symfield.typing import Float, Generator, Int, Params, Tensor
from symfield.weightspace.schedules import Schedule, triangular
from symfield.weightspace.training import initial_many, outputs_many, train_many
from symfield.weightspace.update_rules import UpdateRule

__all__ = ["HyperparameterLaw", "ModelZoo", "match_targets", "train_zoo"]


@dataclass(frozen=True)
class HyperparameterLaw:
    """From which laws the hyper-parameters of the networks of a zoo are drawn; the defaults are the published ones.

    Learning rate a·10^(−U(0, b)), weight decay 10^(−U(c, d)), label smoothing U(0, e), epochs uniform integers.

    Attributes:
        largest_rate: a.
        decades: b.
        decay_exponents: c and d.
        largest_smoothing: e.
        epochs: the fewest and the most, both included.
    """

    largest_rate: float = 0.5
    decades: float = 2.0
    decay_exponents: tuple[float, float] = (1.0, 5.0)
    largest_smoothing: float = 0.2
    epochs: tuple[int, int] = (10, 40)

    def __post_init__(self) -> None:
        first, last = self.epochs
        if not 1 <= first <= last:
            raise ValueError(f"expected the fewest and the most epochs, 1 ≤ fewest ≤ most, received {self.epochs}")
        if not (self.largest_rate > 0 and 0 <= self.largest_smoothing <= 1):
            raise ValueError(
                "expected a positive largest rate and a largest smoothing from 0 to 1, received "
                f"{self.largest_rate} and {self.largest_smoothing}"
            )

    def draw(self, seeds: Sequence[int]) -> dict[str, np.ndarray]:
        """Hyper-parameters of the networks with these seeds, each from its own.

        Args:
            seeds: one for each network.

        Returns:
            Columns ``seed``, ``rate``, ``decay``, ``smoothing``, ``epochs``.

        Raises:
            ValueError: if there is no seed.
        """
        if not len(seeds):
            raise ValueError("expected at least one seed, received none; pass one for each network")
        like = torch.zeros((), dtype=torch.float64)
        uniform = torch.stack([random.uniform((4,), generator=random.generator(seed), like=like) for seed in seeds])
        low, high = self.decay_exponents
        first, last = self.epochs
        return {
            "seed": np.asarray(list(seeds), dtype=np.int64),
            "rate": (self.largest_rate * 10 ** (-self.decades * uniform[:, 0])).numpy(),
            "decay": (10 ** -(low + (high - low) * uniform[:, 1])).numpy(),
            "smoothing": (self.largest_smoothing * uniform[:, 2]).numpy(),
            "epochs": (first + ((last - first + 1) * uniform[:, 3]).floor()).long().numpy(),
        }


@dataclass(frozen=True)
class ModelZoo:
    """Networks of one architecture with a table about them.

    Attributes:
        params: stacked tensors by name, leading axis n.
        table: columns of length n.
        about: what is common to all: ``parameters`` lists the names of the trainable tensors in order; ``buffers`` is a
            hash of what the networks share and do not hold, such as masks, where there is any.
    """

    params: Params = field(repr=False)
    table: Mapping[str, np.ndarray] = field(repr=False)
    about: Mapping[str, Any]

    def __post_init__(self) -> None:
        counts = {name: len(value) for name, value in self.params.items()}
        counts |= {name: len(value) for name, value in self.table.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"expected tensors and columns with one row for each network, received lengths {counts}")
        missing = [name for name in self.about.get("parameters", ()) if name not in self.params]
        if missing or not self.about.get("parameters"):
            raise ValueError(f"expected about['parameters'] with names of tensors of the zoo; {missing} are not there")

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    def sizes(self) -> list[int]:
        """Numbers of trainable entries of the tensors, in the order of :meth:`features`; empty ones are left out."""
        found = [self.params[name][0].numel() for name in self.about["parameters"]]
        return [size for size in found if size]

    def features(self) -> Float[Tensor, "n p"]:
        """The trainable entries of each network in one row: what metanetworks read."""
        return torch.cat([self.params[name].flatten(1) for name in self.about["parameters"]], 1)

    def subset(self, index: Int[Tensor, " m"] | np.ndarray) -> ModelZoo:
        """Some of the networks.

        Args:
            index: which, in the order that is wanted.

        Returns:
            The smaller zoo.
        """
        rows = torch.as_tensor(np.ascontiguousarray(index))
        params = {name: value[rows.to(value.device)] for name, value in self.params.items()}
        return ModelZoo(params, {name: value[rows.numpy()] for name, value in self.table.items()}, self.about)

    @staticmethod
    def join(parts: Sequence[ModelZoo]) -> ModelZoo:
        """Zoos of one kind as one.

        Args:
            parts: with the same tensors, columns and ``about``.

        Returns:
            All networks, in order.

        Raises:
            ValueError: if there is none, or they are of different kinds.
        """
        if not parts:
            raise ValueError("expected at least one zoo, received none")
        for part in parts:
            if part.about != parts[0].about:
                keys = {*part.about, *parts[0].about}
                differs = sorted(key for key in keys if part.about.get(key) != parts[0].about.get(key))
                raise ValueError(f"expected zoos that were made alike, but they differ in {differs} of their 'about'")
        params = {name: torch.cat([part.params[name] for part in parts]) for name in parts[0].params}
        columns = {name: np.concatenate([part.table[name] for part in parts]) for name in parts[0].table}
        return ModelZoo(params, columns, parts[0].about)


def train_zoo(
    build: Callable[[], nn.Module],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    law: HyperparameterLaw | None = None,
    batch: int = 512,
    rule: UpdateRule | None = None,
    schedule: Schedule | None = None,
    together: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> ModelZoo:
    """Train the networks of a zoo, all at once.

    Args:
        build: makes a network, such as a function that calls :func:`~symfield.weightspace.asymmetrize` with a fixed
            seed of the masks; torch's global generator, seeded for each network, gives the initial parameters.
        train: inputs and classes.
        test: inputs and classes for the column ``test_accuracy``.
        seeds: of the networks; initial parameters, hyper-parameters and order of the samples follow from it.
        law: of the hyper-parameters; the published one when None.
        batch: samples in a step.
        rule: how parameters follow the gradient; AdamW when None.
        schedule: of the learning rates; triangular with its peak at epoch 5 when None, as published.
        together: how many networks at once; all when None.
        about: what else should be known of the zoo, such as the seed of masks.

    Returns:
        The zoo. Networks that diverged are in it, with the accuracy that they have.

    Example:
        >>> x = torch.randn(50, 4, generator=random.generator(0))
        >>> data = x, (x[:, 0] > 0).long()
        >>> zoo = train_zoo(lambda: nn.Linear(4, 2), data, data, seeds=range(5), batch=16)
        >>> zoo.features().shape, sorted(zoo.table), bool((zoo.table["test_accuracy"] > 0.8).all())
        (torch.Size([5, 10]), ['decay', 'epochs', 'rate', 'seed', 'smoothing', 'test_accuracy', 'test_loss',
         'train_accuracy', 'train_loss'], True)
    """
    table = (HyperparameterLaw() if law is None else law).draw(seeds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    start = {name: value.to(train[0].device) for name, value in initial_many(build, seeds).items()}
    found = train_many(
        model, start, *train, epochs=torch.from_numpy(table["epochs"]), batch=batch, rate=table["rate"].tolist(),
        decay=table["decay"].tolist(), smoothing=table["smoothing"].tolist(), seeds=list(seeds), rule=rule,
        schedule=triangular(5) if schedule is None else schedule, together=together,
    )  # fmt: skip
    params = {name: value.detach() for name, value in found.params.items()}
    for name, (x, y) in (("train", train), ("test", test)):
        table[f"{name}_loss"], table[f"{name}_accuracy"] = _scores(model, params, x, y, together)
    described: dict[str, Any] = {
        "architecture": str(model),
        "parameters": [name for name, _ in model.named_parameters()],
    }
    if shared := {name: value for name, value in model.named_buffers() if name not in params}:
        described["buffers"] = _fingerprint(shared)
    return ModelZoo(params, table, {**described, **(about or {})})


def match_targets(
    first: np.ndarray, second: np.ndarray, *, generator: Generator, bins: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of two sets of numbers with the same histogram: as many of each bin as both have.

    What is easier to predict in one zoo than in another may be easier because its targets spread further; this takes
    the difference away.

    Args:
        first: targets of one zoo.
        second: of the other.
        generator: which of the surplus is left out.
        bins: of equal width, over the range of both.

    Returns:
        Indices into the first and into the second, equally many, in rising order.

    Raises:
        ValueError: if there is nothing in common.

    Example:
        >>> a, b = match_targets(np.array([0.1, 0.2, 0.9]), np.array([0.15, 0.8, 0.95]), generator=random.generator(0),
        ...                      bins=2)
        >>> len(a), len(b), sorted(np.array([0.1, 0.2, 0.9])[a] > 0.5)
        (2, 2, [np.False_, np.True_])
    """
    both = np.concatenate([first, second])
    edges = np.linspace(both.min(), both.max(), bins + 1)[1:-1]
    kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in range(bins):
        places = [np.flatnonzero(np.digitize(values, edges) == i) for values in (first, second)]
        count = min(len(found) for found in places)
        for held, found in zip(kept, places, strict=True):
            held.append(found[torch.randperm(len(found), generator=generator)[:count].numpy()])
    one, other = (np.sort(np.concatenate(held)) for held in kept)
    if not len(one):
        raise ValueError("the two sets of targets have no bin in common; train zoos whose accuracies overlap")
    return one, other


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


@torch.no_grad()
def _scores(
    model: nn.Module, params: Params, x: Tensor, y: Tensor, together: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropy and accuracy of every network; NaN as loss where outputs are not finite."""
    count = len(next(iter(params.values())))
    losses, right = [], []
    for first in range(0, count, together or count):
        part = {name: value[first : first + (together or count)] for name, value in params.items()}
        logits = outputs_many(model, part, x)
        wanted = y.expand(len(logits), -1)
        each = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        losses.append(each.reshape(wanted.shape).double().mean(1))
        right.append((logits.argmax(-1) == wanted).double().mean(1))
    return torch.cat(losses).cpu().numpy(), torch.cat(right).cpu().numpy()
