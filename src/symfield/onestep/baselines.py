r"""Four ways to predict from the same data: linear, random features, a trained layer, a kernel.

- *linear*: ridge regression on the inputs (:func:`ridge_readout`).
- *random features*: ridge regression on σ(⟨w_j, x⟩ + b_j) with the students' own weights.
- *trained layer*: one gradient step of the first layer on the first half of the data, then ridge regression on the
  second half, with the new weights and the students' biases. The halves differ, so that the features are independent of
  the labels that the readout sees.
- *kernel*: kernel ridge regression with the kernel of infinitely many random features (:func:`kernel_ridge`).

The three others use all data. The step is taken without biases, on centred labels, under the correlation loss: what a
network with f = 0 sees first.

References:
    Ba et al. 2022, arXiv 2205.01445; Dandi et al. 2023, arXiv 2305.18270 (one step, then a readout on fresh data).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from symfield.onestep.covariances import Covariance
from symfield.onestep.ridge import RidgeReadout, ridge_readout
from symfield.onestep.rules import Rule, giant
from symfield.onestep.step import gradient_step_on_sample
from symfield.onestep.students import Students
from symfield.typing import Float, Tensor

__all__ = ["FeatureReadout", "random_features_readout", "trained_readout"]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureReadout:
    """A two-layer network: the features of students, and a ridge readout on them.

    Attributes:
        students: what gives the features.
        readout: what was fitted on them.
    """

    students: Students
    readout: RidgeReadout

    def predict(self, x: Float[Tensor, "... m d"]) -> Float[Tensor, "... m"]:
        """The network's output.

        Args:
            x: inputs, ``(*r, m, d)``.

        Returns:
            Predictions, ``(*r, m)``.
        """
        return self.readout.predict(self.students.features(x))

    def __repr__(self) -> str:
        return f"FeatureReadout({self.students}, {self.readout})"


def random_features_readout(
    students: Students,
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    validation: tuple[Tensor, Tensor] | None = None,
    *,
    lambdas: Float[Tensor, "..."] | None = None,
) -> FeatureReadout:
    """Ridge regression on the features of students as they are.

    Args:
        students: untrained, for random features; give them biases (:meth:`Students.with_biases`).
        x: inputs, ``(*r, n, d)``.
        y: labels, ``(*r, n)``.
        validation: inputs and labels that choose λ; leave-one-out when absent.
        lambdas: candidates for λ.

    Returns:
        The network.

    Raises:
        ValueError: if shapes or precisions do not fit, or values are not finite.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import random_students
        >>> x = random.normal((200, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> students = random_students(100, 2, generator=random.generator(1))
        >>> students = students.with_biases(-1.0, 1.0, generator=random.generator(2))
        >>> network = random_features_readout(students, x, x.abs().sum(-1))
        >>> bool((network.predict(x) - x.abs().sum(-1)).square().mean() < 1e-2)
        True
    """
    _check(students, x, validation)
    held = None if validation is None else (students.features(validation[0]), validation[1])
    return FeatureReadout(students, ridge_readout(students.features(x), y, held, lambdas=lambdas))


def trained_readout(
    students: Students,
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    validation: tuple[Tensor, Tensor] | None = None,
    *,
    rule: Rule | None = None,
    covariance: Covariance | None = None,
    lambdas: Float[Tensor, "..."] | None = None,
) -> FeatureReadout:
    """One gradient step on the first half of the data, then ridge regression on the second half.

    With k labels ``(k, n)`` for the same inputs ``(n, d)`` the neurons are shared out among them for the step, and all
    of them serve every label's readout.

    Args:
        students: before the step; the step does not see their biases, the readout does.
        x: inputs, ``(*r, n, d)``, n ≥ 6.
        y: labels, ``(*r, n)``, or ``(k, n)`` for inputs ``(n, d)`` and students without runs.
        validation: inputs and labels that choose λ; leave-one-out on the second half when absent.
        rule: how gradients become weights; ``giant(2.0)`` when absent.
        covariance: S, which measures the size of the step; that of the first half when absent.
        lambdas: candidates for λ.

    Returns:
        The network.

    Raises:
        ValueError: if shapes or precisions do not fit, values are not finite, there are fewer than six samples, or the
            neurons cannot be shared out evenly.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import PowerLaw, Target, aligned, hermite_link, random_students
        >>> S = PowerLaw(64, 0.5)
        >>> target = Target(hermite_link([0, 1, 1]), S, aligned(S))
        >>> x, y = target.draw(1000, generator=random.generator(0))
        >>> students = random_students(64, 64, generator=random.generator(1), paired=False)
        >>> students = students.with_biases(-1.0, 1.0, generator=random.generator(2))
        >>> held, labels = target.draw(500, generator=random.generator(3))
        >>> fixed, trained = (
        ...     fit(students, x, y, (held, labels)).predict(held) for fit in (random_features_readout, trained_readout)
        ... )
        >>> bool((trained - labels).square().mean() < 0.4 * (fixed - labels).square().mean())
        True
    """
    _check(students, x, validation)
    n = x.shape[-2]
    if n < 6 or y.shape[-1] != n:
        raise ValueError(
            f"expected inputs (*r, n, d) and labels (*r, n) with n >= 6, received {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("expected finite inputs and labels, received NaN or infinity; drop these samples")
    half = n // 2
    labels = y[..., :half] - y[..., :half].mean(-1, keepdim=True)
    start = replace(students, biases=torch.zeros_like(students.biases))
    shared = y.ndim == x.ndim and not students.runs
    if shared:
        start = _shared_out(start, y.shape[0])
    step = gradient_step_on_sample(
        start, x[..., :half, :], labels, covariance=covariance, rule=giant(2.0) if rule is None else rule
    )
    weights = step.students.weights.flatten(0, 1) if shared else step.students.weights
    trained = replace(students, weights=weights)
    return random_features_readout(trained, x[..., half:, :], y[..., half:], validation, lambdas=lambdas)


def _shared_out(students: Students, k: int) -> Students:
    """The same neurons as k groups."""
    if students.count % k:
        raise ValueError(f"expected a number of neurons that {k} labels divide, received {students.count}")
    parts = [part.unflatten(0, (k, -1)) for part in (students.weights, students.outputs, students.biases)]
    return replace(students, weights=parts[0], outputs=parts[1], biases=parts[2])


def _check(students: Students, x: Tensor, validation: tuple[Tensor, Tensor] | None) -> None:
    for inputs in (x, *(() if validation is None else validation[:1])):
        if inputs.ndim < 2 or inputs.shape[-1] != students.dim:
            raise ValueError(f"expected inputs (*r, n, {students.dim}) for {students}, received {tuple(inputs.shape)}")
        if inputs.dtype != students.weights.dtype:
            raise ValueError(
                f"expected inputs in the precision of the students, {students.weights.dtype}, received {inputs.dtype}; "
                "draw students with like=x, or convert the data"
            )
