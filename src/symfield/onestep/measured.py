"""Readouts compared on your own data, by cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from symfield import random
from symfield.onestep.baselines import FeatureReadout, random_features_readout, trained_readout
from symfield.onestep.kernel_ridge import KernelRidge, kernel_ridge
from symfield.onestep.ridge import RidgeReadout, ridge_readout
from symfield.onestep.rules import giant
from symfield.onestep.students import random_students
from symfield.typing import Float, Generator, Tensor

__all__ = ["Measured", "measure_readouts"]

_MOST = 2000
_LEAST = 20


@dataclass(frozen=True)
class Measured:
    """Cross-validated errors of readouts.

    Args:
        readouts: their names.
        errors: mean squared errors over the variance of the labels; predicting the mean has 1.
        standard_errors: of these, over samples.
        accuracies: share of samples whose class has the largest output; None for regression.
        ties: readouts that two standard errors of the difference, sample by sample, do not tell from the one with the
            least error; that one among them.
        samples: how many samples were used.
        width: neurons of the networks.
    """

    readouts: tuple[str, ...]
    errors: tuple[float, ...]
    standard_errors: tuple[float, ...]
    accuracies: tuple[float, ...] | None
    ties: tuple[str, ...]
    samples: int
    width: int

    @property
    def winner(self) -> str:
        """The readout with the least error."""
        return self.readouts[min(range(len(self.errors)), key=lambda i: self.errors[i])]

    def rows(self) -> list[tuple[str, str, str]]:
        """A line for each readout: what, value, remark."""
        found = []
        for i, name in enumerate(self.readouts):
            words = [] if self.accuracies is None else [f"accuracy {self.accuracies[i]:.1%}"]
            words += ["least error"] if name == self.winner else ["not told from it"] if name in self.ties else []
            value = f"{self.errors[i]:.3f} ± {self.standard_errors[i]:.2g}"
            found.append((f"measured: {name}", value, ", ".join(words)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """The numbers by readout."""
        table = {
            name: {
                "error": self.errors[i],
                "standard_error": self.standard_errors[i],
                "accuracy": None if self.accuracies is None else self.accuracies[i],
            }
            for i, name in enumerate(self.readouts)
        }
        return {
            "samples": self.samples,
            "width": self.width,
            "winner": self.winner,
            "ties": list(self.ties),
            "readouts": table,
        }


def measure_readouts(
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    *,
    classes: bool = False,
    width: int = 240,
    eta: float = 2.0,
    folds: int = 5,
    generator: Generator,
) -> Measured:
    """Cross-validated errors of linear ridge, random features, a trained layer and kernel ridge on data of your own.

    λ is chosen by leaving one out within each fold. Differences within two standard errors should not be read as order.
    At most 2000 samples are used.

    Args:
        x: inputs, ``(n, d)``, centred, with mean squared length about d.
        y: labels, ``(n)`` or ``(k, n)``.
        classes: whether labels are indicators of classes, so that accuracies make sense.
        width: neurons; rounded down to a multiple of k.
        eta: size of the step, see :func:`giant`.
        folds: how many parts the samples are split into, in their order.
        generator: draws the networks.

    Returns:
        Errors, one for each readout.

    Raises:
        ValueError: if shapes do not fit, there are fewer than 20 samples, two folds or one neuron for each label.

    Example:
        >>> from symfield.onestep import PowerLaw, Target, aligned, hermite_link
        >>> S = PowerLaw(60, 0.5)
        >>> x, y = Target(hermite_link([0, 1, 1]), S, aligned(S)).draw(300, generator=random.generator(0))
        >>> measure_readouts(x, y, width=100, generator=random.generator(1)).winner
        'trained layer'
    """
    targets = y.unsqueeze(0) if y.ndim == 1 else y
    if x.ndim != 2 or targets.ndim != 2 or targets.shape[1] != len(x) or len(x) < _LEAST:
        raise ValueError(
            f"expected inputs (n, d) and labels (n) or (k, n) with n >= {_LEAST}, received {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    k, n = targets.shape[0], min(len(x), _MOST)
    if folds < 2 or width < k:
        raise ValueError(f"expected folds >= 2 and width >= {k}, received folds = {folds} and width = {width}")
    points, targets = x[:n].detach().double(), targets[:, :n].detach().double()
    neurons = width // k * k
    misses: dict[str, list[Tensor]] = {}
    right: dict[str, list[Tensor]] = {}
    for held in torch.arange(n, device=points.device).tensor_split(folds):
        kept = torch.ones(n, dtype=torch.bool, device=points.device)
        kept[held] = False
        a, b = random.split(generator, 2)
        students = random_students(neurons, points.shape[1], generator=a, paired=False, like=points)
        students = students.with_biases(-1.0, 1.0, generator=b)
        xs, ys = points[kept], targets[:, kept]
        predictors: dict[str, FeatureReadout | RidgeReadout | KernelRidge] = {
            "linear": ridge_readout(xs, ys),
            "random features": random_features_readout(students, xs, ys),
            "trained layer": trained_readout(students, xs, ys, rule=giant(eta)),
            "kernel": kernel_ridge(xs, ys),
        }
        for name, predictor in predictors.items():
            outputs = predictor.predict(points[held])
            misses.setdefault(name, []).append((outputs - targets[:, held]).square().sum(0))
            right.setdefault(name, []).append(_decide(outputs, targets) == _decide(targets[:, held], targets))
    power = float(targets.var(-1, correction=0).sum())
    errors = {name: torch.cat(parts) / power for name, parts in misses.items()}
    best = min(errors.values(), key=lambda error: float(error.mean()))
    return Measured(
        readouts=tuple(errors),
        errors=tuple(float(error.mean()) for error in errors.values()),
        standard_errors=tuple(float(error.std()) / math.sqrt(n) for error in errors.values()),
        accuracies=tuple(float(torch.cat(parts).double().mean()) for parts in right.values()) if classes else None,
        ties=tuple(
            name
            for name, error in errors.items()
            if float((error - best).mean()) <= 2 * float((error - best).std()) / math.sqrt(n)
        ),
        samples=n,
        width=neurons,
    )


def _decide(outputs: Tensor, targets: Tensor) -> Tensor:
    """The class of each sample: the indicator, before it was centred, with the largest output; for one, above 1/2."""
    low, high = targets.amin(-1, keepdim=True), targets.amax(-1, keepdim=True)
    return (outputs - low).argmax(0) if len(outputs) > 1 else outputs[0] > (low[0] + high[0]) / 2
