"""The setting of the studies on one gradient step under power-law Gaussian inputs.

Wortsman & Loureiro announced weak learning of multi-index targets after one gradient step under power-law covariances,
with a sample complexity at initialisation and after training, in a seminar (6 November 2024) of which no written
version is known. Normalisations, targets and formulas here are therefore ours, and are marked so; where published
results are limits of them, the studies say which.

Inputs are N(0, S) in R^d with λ_i ∝ i^{-α} and Tr S = d; students are ReLU networks with rows uniform on the unit
sphere; teachers are aligned with the first eigenvector, random, or in the tail (the last eigenvector).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from matplotlib.axes import Axes

from symfield import random
from symfield.experiments import FieldError
from symfield.onestep import (
    Link,
    PowerLaw,
    Students,
    Target,
    aligned,
    function_link,
    hermite_link,
    random_directions,
    random_students,
    tail,
)
from symfield.typing import Generator, Tensor

__all__ = [
    "DERIVED",
    "SOURCE",
    "LinkName",
    "TeacherName",
    "explain_lines",
    "link",
    "require_positive",
    "seeded",
    "seeded_students",
    "seeded_target",
]

SOURCE = "Wortsman & Loureiro 2024, seminar; arXiv:2510.04780"
DERIVED = "derived here (symfield.onestep)"

LinkName: TypeAlias = Literal["tanh", "square", "curved", "mixture"]
TeacherName: TypeAlias = Literal["aligned", "random", "tail"]


def link(name: str) -> Link:
    """A link by its name.

    Args:
        name: ``"tanh"`` (unit variance, exponent 1), ``"square"`` (He₂/√2, exponent 2), ``"curved"``
            ((z + He₂/√2)/√2), or ``"mixture"`` (z₁ + He₂(z₂)/√2, two indices).

    Returns:
        The link.

    Raises:
        FieldError: for another name.
    """
    if name == "tanh":
        return function_link(torch.tanh, standardise=True)
    if name == "square":
        return hermite_link([0, 0, 1])
    if name == "curved":
        return hermite_link([0, 1, 1])
    if name == "mixture":
        return hermite_link({(1, 0): 1.0, (0, 2): 1.0}, standardise=False)
    raise FieldError(f"expected a link 'tanh', 'square', 'curved' or 'mixture', received {name!r}")


def seeded(seeds: Sequence[int], purpose: int) -> list[Generator]:
    """One source of randomness for each seed, different for each purpose.

    Args:
        seeds: the seeds.
        purpose: a number for what is drawn: students, samples, teachers, ....

    Returns:
        Generators.
    """
    return [random.split(random.generator(seed), purpose + 1)[purpose] for seed in seeds]


def seeded_target(
    name: str, teacher: str, *, dim: int, alpha: float, seeds: Sequence[int], noise: float = 0.0
) -> Target:
    """A target under a power law; random teachers differ between seeds.

    Args:
        name: of the link.
        teacher: ``"aligned"``, ``"random"`` or ``"tail"``.
        dim: d.
        alpha: α.
        seeds: of the random teachers.
        noise: standard deviation of the label noise.

    Returns:
        The target; with a runs axis over seeds for random teachers.

    Raises:
        FieldError: for another teacher.
    """
    covariance, made = PowerLaw(dim, alpha), link(name)
    if teacher == "random":
        each = [random_directions(covariance, made.dim, generator=g) for g in seeded(seeds, 2)]
        return Target(made, covariance, torch.stack(each), noise)
    if teacher not in ("aligned", "tail"):
        raise FieldError(f"expected a teacher 'aligned', 'random' or 'tail', received {teacher!r}")
    kind = aligned if teacher == "aligned" else tail
    return Target(made, covariance, kind(covariance, made.dim), noise)


def seeded_students(neurons: int, dim: int, *, seeds: Sequence[int], like: Tensor, paired: bool = False) -> Students:
    """ReLU students, one network for each seed.

    Args:
        neurons: p.
        dim: d.
        seeds: of the networks.
        like: gives dtype and device.
        paired: whether f is zero at the start.

    Returns:
        Students with a runs axis over seeds.
    """
    return random_students(neurons, dim, generator=seeded(seeds, 0), like=like, paired=paired)


def require_positive(**values: Sequence[float] | float) -> None:
    """Refuse settings that are empty or not positive.

    Args:
        **values: numbers or sequences of them by name.

    Raises:
        FieldError: naming the first that is wrong.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, Sequence) else (value,)
        if not numbers or min(numbers) <= 0:
            raise FieldError(f"expected {name} > 0, received {value}")


def explain_lines(axes: Axes, lines: dict[str, str]) -> None:
    """Entries of the legend for what the style of a line means, whatever its colour.

    Args:
        axes: whose legend.
        lines: styles by meaning.
    """
    for words, linestyle in lines.items():
        axes.plot([], [], color="#22262b", linewidth=1.2, linestyle=linestyle, label=words)
