r"""Small matched trainings: the same network, data, steps and seeds, with and without a symmetry.

The network is Φ(x) = (1/N) Σ_i W_i relu(A_i·x + B_i). Five ways to train it, from one start on the
same minibatches:

- ``none``: as it is;
- ``DA``: every sample moved by a fresh element, inputs and targets;
- ``FA``: the average Q_GΦ is trained and predicts; exact for small groups, over a few fresh elements for large ones;
- ``frame``: Φ in the canonical pose of each input is trained and predicts;
- ``EA``: the layers are equivariant, with N hidden neurons in all. They are permuted as the regular representation, in
  which case strongly invariant laws reach what FA reaches, or, where the group is too large for that, as coordinates.

All are the objectives of :mod:`symfield.meanfield`. Schemes, seeds and sizes of the training set are runs of one tensor
program. Each run stops at the step that is best on a fifth of its training samples.

References:
    Maass & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from symfield import random
from symfield.discovery.dataset import Dataset
from symfield.discovery.networks import Network, Scheme
from symfield.discovery.scaling import Scaling, scaling
from symfield.groups import SignFlips, Trivial
from symfield.typing import Float, Generator, Int, Tensor

__all__ = ["Budget", "Trained", "Trainings", "compare", "fit"]

_LOOKS = 20  # how often a run is looked at on its validation samples
_CHUNK = 4_000_000  # numbers of moved inputs that are predicted at once


@dataclass(frozen=True)
class Budget:
    """How much is spent on trainings.

    Attributes:
        width: hidden neurons.
        steps: steps of Adam.
        batch: samples a step.
        rate: first step size; it falls linearly to zero.
        seeds: replicates, each with its own split, start and minibatches.
        shares: sizes of the training set, as shares of what is not held out.
        held_out: share of the samples that errors are measured on.
        elements: group elements a step for FA, where the group has more.
        samples: most samples used.
    """

    width: int = 96
    steps: int = 600
    batch: int = 32
    rate: float = 0.05
    seeds: int = 5
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    held_out: float = 0.25
    elements: int = 8
    samples: int = 2000

    def __post_init__(self) -> None:
        counts = (self.width, self.steps, self.batch, self.seeds, self.elements, self.samples)
        if min(counts) < 1 or self.seeds < 2 or not self.rate > 0:
            raise ValueError(f"expected positive numbers and two seeds or more, received {self}")
        if not self.shares or not all(0 < share <= 1 for share in self.shares) or not 0 < self.held_out < 1:
            raise ValueError(f"expected shares above 0, at most 1, and held_out inside (0, 1), received {self}")


class Trainings(NamedTuple):
    """Held-out errors of all schemes.

    Attributes:
        schemes: the schemes, in the order of the leading axis.
        sizes: training samples for each share.
        error: mean squared error on held-out samples (of probabilities, for classes) in units of the variance of
            targets, shape ``(schemes, sizes, seeds)``.
        accuracy: share of held-out samples with the right class, same shape; NaN for regression.
        held_out: number of held-out samples.
    """

    schemes: tuple[Scheme, ...]
    sizes: tuple[int, ...]
    error: Float[Tensor, "k s r"]
    accuracy: Float[Tensor, "k s r"]
    held_out: int


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes:
        network: Φ.
        scheme: how it was trained, and predicts.
        z: its particles, shape ``(N, o + d + 1)``.
        inputs: units of inputs.
        targets: units of targets.
        error: validation error where it stopped, in these units; of probabilities for classes.
        seed: of the elements over which a large group is averaged, the same for every prediction.
    """

    network: Network
    scheme: Scheme
    z: Float[Tensor, "n p"]
    inputs: Scaling
    targets: Scaling
    error: float
    seed: int

    def predict(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        """Targets, or probabilities of classes, float64.

        Args:
            x: inputs, ``(b, d)``.

        Returns:
            Shape ``(b, o)``.
        """
        moved = self.inputs(x.double()).float()[None]
        source = random.generator(self.seed)
        value = _predicted(self.network, self.scheme, moved, self.z[None], generator=source)[0].double()
        return value if self.network.classes else self.targets.undo(value)


class _Runs(NamedTuple):
    """Samples of every run, as rows of the data; the leading axis runs over (size, seed)."""

    training: Int[Tensor, "r m"]
    counts: Int[Tensor, " r"]
    validation: Int[Tensor, "r v"]
    valid: Float[Tensor, "r v"]
    test: Int[Tensor, "r t"]


def compare(
    data: Dataset,
    schemes: tuple[Scheme, ...],
    *,
    budget: Budget,
    generator: Generator,
    advance: Callable[[int], None] = lambda steps: None,
) -> Trainings:
    """Train every scheme on nested parts of the data, several times.

    Args:
        data: samples.
        schemes: from :func:`~symfield.discovery.networks.schemes`, all with the same inputs and targets.
        budget: how much.
        generator: splits, starts, minibatches and group elements.
        advance: told after each step how many of ``budget.steps`` are done.

    Returns:
        Errors on held-out samples.

    Raises:
        ValueError: if there are fewer than 40 samples.

    Example:
        >>> from symfield.discovery import dataset
        >>> from symfield.discovery.networks import schemes
        >>> from symfield.groups import Cyclic, Defining
        >>> x = random.normal((200, 2), generator=random.generator(0), like=torch.zeros(1))
        >>> small = Budget(width=16, steps=40, seeds=2, shares=(1.0,))
        >>> found = compare(dataset(x, x.sum(-1)), schemes(Defining(Cyclic(2)), outputs=1, width=16),
        ...                 budget=small, generator=random.generator(1))
        >>> found.error.shape, found.sizes
        (torch.Size([5, 1, 2]), (150,))
    """
    if len(data) < 40:
        raise ValueError(f"expected at least 40 samples, received {len(data)}")
    splits, starts, steps = random.split(generator, 3)
    if len(data) > budget.samples:
        kept = random.uniform((len(data),), generator=splits, like=data.x).argsort()[: budget.samples]
        data = data.take(kept)
    units = _units(data, schemes)
    x, y = units[0](data.x).float(), units[1](data.y).float()
    runs, sizes = _split(len(data), budget, generator=splits)
    network = Network(data.x.shape[1], data.y.shape[1], budget.width, classes=data.task == "classification")
    start = network.start(budget.seeds, generator=starts).repeat(len(sizes), 1, 1)
    z = _train(network, schemes, (x, y), start, runs, budget, generator=steps, advance=advance)
    error, accuracy = [], []
    for scheme, cloud in zip(schemes, z, strict=True):
        prediction = _predicted(network, scheme, x[runs.test], cloud, generator=steps)
        truth = y[runs.test]  # in units: a shift of the targets would use up the digits of float32
        error.append((prediction - truth).square().sum(-1).mean(-1))
        right = prediction.argmax(-1) == truth.argmax(-1)
        accuracy.append(right.float().mean(-1) if network.classes else torch.full_like(error[-1], torch.nan))
    shape = (len(schemes), len(sizes), budget.seeds)
    variance = float(units[1](data.y).var(0, unbiased=False).sum())
    return Trainings(
        schemes,
        sizes,
        (torch.stack(error) / variance).double().reshape(shape),
        torch.stack(accuracy).double().reshape(shape),
        runs.test.shape[1],
    )


def fit(data: Dataset, scheme: Scheme, *, budget: Budget, generator: Generator) -> Trained:
    """Train one scheme on all samples but a fifth, which says when to stop.

    Args:
        data: samples, ten at least.
        scheme: from :func:`~symfield.discovery.networks.schemes`.
        budget: ``seeds``, ``shares`` and ``held_out`` play no part.
        generator: split, start, minibatches and group elements.

    Returns:
        The trained network.

    Raises:
        ValueError: if there are fewer than two samples.

    Example:
        >>> from symfield.discovery import dataset
        >>> from symfield.discovery.networks import schemes
        >>> from symfield.groups import Cyclic, Defining
        >>> x = random.normal((200, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> averaged = schemes(Defining(Cyclic(2)), outputs=1, width=32)[2]
        >>> trained = fit(dataset(x, x.sum(-1)), averaged, budget=Budget(width=32), generator=random.generator(1))
        >>> float((trained.predict(x) - trained.predict(x.flip(-1))).abs().max()) < 1e-5
        True
    """
    if len(data) < 2:
        raise ValueError(f"expected at least two samples, received {len(data)}")
    splits, starts, steps, elements = random.split(generator, 4)
    units = _units(data, (scheme,))
    x, y = units[0](data.x).float(), units[1](data.y).float()
    order = random.uniform((len(data),), generator=splits, like=data.x).argsort()
    held = max(1, len(data) // 5)
    training, validation = order[held:], order[:held]
    counts = torch.tensor([len(training)])
    runs = _Runs(training[None], counts, validation[None], torch.ones(1, held), validation[None])
    network = Network(data.x.shape[1], data.y.shape[1], budget.width, classes=data.task == "classification")
    start = network.start(1, generator=starts)
    (z,) = _train(network, (scheme,), (x, y), start, runs, replace(budget, seeds=2), generator=steps)
    seed = int(random.integers(0, 2**31, (), generator=elements))
    trained = Trained(network, scheme, z[0], *units, 0.0, seed)
    target = data.y[validation] if network.classes else y[validation].double()
    value = trained.predict(data.x[validation])
    value = value if network.classes else units[1](value)
    return replace(trained, error=float((value - target).square().sum(-1).mean()))


def _units(data: Dataset, schemes: tuple[Scheme, ...]) -> tuple[Scaling, Scaling]:
    """Units that every scheme's symmetry leaves alone: those of the largest group, which is named first."""
    reps = next(((s.rep_in, s.rep_out) for s in schemes if s.rep_in is not None and s.rep_out is not None), None)
    d, o = data.x.shape[1], data.y.shape[1]
    if reps is None:
        reps = Trivial(SignFlips(1), d), Trivial(SignFlips(1), o)
    targets = Scaling(torch.zeros(o).double(), torch.ones(o).double())
    if data.task == "regression":
        found = scaling(data.y, reps[1])
        size = found.scale.square().mean().sqrt()  # one scale: errors keep their meaning
        targets = Scaling(found.shift, size.expand(o))
    return scaling(data.x, reps[0]), targets


def _split(n: int, budget: Budget, *, generator: Generator) -> tuple[_Runs, tuple[int, ...]]:
    """Nested training sets for every seed; the first fifth of each validates."""
    test = max(10, round(budget.held_out * n))
    sizes = tuple(sorted({max(15, round(share * (n - test))) for share in budget.shares}))
    like = torch.zeros((), dtype=torch.float64)
    orders = random.uniform((budget.seeds, n), generator=generator, like=like).argsort(-1)
    most = max(size // 5 for size in sizes)
    training, counts, validation, valid = [], [], [], []
    for size in sizes:
        held = size // 5
        pool = orders[:, test : test + size]
        training.append(torch.nn.functional.pad(pool[:, held:], (0, n - size + held)))
        counts += [size - held] * budget.seeds
        validation.append(torch.nn.functional.pad(pool[:, :held], (0, most - held)))
        valid.append((torch.arange(most) < held).float().expand(budget.seeds, -1))
    return _Runs(
        torch.cat(training), torch.tensor(counts), torch.cat(validation), torch.cat(valid),
        orders[:, :test].repeat(len(sizes), 1),
    ), sizes  # fmt: skip


def _train(
    network: Network,
    schemes: tuple[Scheme, ...],
    data: tuple[Tensor, Tensor],
    start: Float[Tensor, "r n p"],
    runs: _Runs,
    budget: Budget,
    *,
    generator: Generator,
    advance: Callable[[int], None] = lambda steps: None,
) -> Float[Tensor, "k r n p"]:
    """Adam on all schemes and runs; returns each run's cloud at its best validation error."""
    x, y = data
    batches, elements = random.split(generator, 2)
    z = torch.stack([scheme.restrict(start, rescale=True) for scheme in schemes])
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    best, least = z.clone(), torch.full(z.shape[:2], torch.inf)
    looks = {round((k + 1) * budget.steps / _LOOKS) for k in range(_LOOKS)}
    held_x, held_y = x[runs.validation], y[runs.validation]
    weight = runs.valid / runs.valid.sum(-1, keepdim=True)
    for step in range(1, budget.steps + 1):
        draws = random.uniform((len(start), budget.batch), generator=batches, like=x)
        picked = (draws * runs.counts[:, None]).long().clamp_max(runs.counts[:, None] - 1)
        rows = runs.training.gather(-1, picked)
        gradient = network.gradients(schemes, z, x[rows], y[rows], generator=elements)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        size = budget.rate * (1 - (step - 1) / budget.steps)
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        z = torch.stack([scheme.restrict(cloud) for scheme, cloud in zip(schemes, z - size * update, strict=True)])
        if step in looks:
            for k, scheme in enumerate(schemes):
                score = network.score(scheme, z[k], held_x, held_y, weight, generator=elements)
                better = score < least[k]
                least[k] = torch.where(better, score, least[k])
                best[k] = torch.where(better[:, None, None], z[k], best[k])
        advance(step)
    return best


def _predicted(network: Network, scheme: Scheme, x: Tensor, z: Tensor, *, generator: Generator) -> Tensor:
    """Predictions of every run, few samples at a time where many elements are averaged."""
    size = max(1, _CHUNK // max(1, x.shape[0] * scheme.cost_of_prediction * max(x.shape[-1], network.width)))
    parts = [network.predict(scheme, chunk, z, generator=generator) for chunk in x.split(size, dim=1)]
    return torch.cat(parts, dim=1)
