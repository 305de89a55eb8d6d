r"""One giant gradient step of the first layer, or a few, from few or very many samples.

The gradient of neuron j, without its output weight and the factor 1/p, is

    G_j = (1/n) Σ_i r_i σ'(⟨w_j, x_i⟩ + b_j) x_i,

with the residual r = y under the correlation loss ℓ = -y f, and r = y - f(x) under the square loss ½ (y - f)²: the
descent direction is a_j G_j / p. A rule turns gradients into new weights; it is :func:`~symfield.onestep.giant` unless
another one is given.

Samples come from a target in pieces (:class:`~symfield.onestep.Stream`), and gradients at several n from one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield.onestep._runs import broadcast_runs
from symfield.onestep.covariances import Covariance, estimated
from symfield.onestep.rules import Rule, giant
from symfield.onestep.students import Students
from symfield.onestep.targets import Stream, Target
from symfield.typing import Float, Generator, Tensor

__all__ = [
    "GradientStep",
    "Loss",
    "correlation_loss",
    "gradient_step",
    "gradient_step_on_sample",
    "neuron_gradients",
    "square_loss",
]


_PREACTIVATIONS = 2**21


@dataclass(frozen=True)
class Loss:
    """A loss of the prediction f and the label y.

    Attributes:
        name: how it prints.
        value: (f, y) ↦ ℓ, elementwise.
        residual: (f, y) ↦ -∂ℓ/∂f, elementwise.
        reads_output: whether the residual depends on f; otherwise f is not computed.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    residual: Callable[[Tensor, Tensor], Tensor]
    reads_output: bool = True

    def __repr__(self) -> str:
        return self.name


#: ℓ = -y f: the residual is the label.
correlation_loss = Loss("correlation", lambda f, y: -f * y, lambda f, y: y, reads_output=False)
#: ℓ = ½ (y - f)²: the residual is the error.
square_loss = Loss("square", lambda f, y: 0.5 * (y - f).square(), lambda f, y: y - f)


class GradientStep(NamedTuple):
    """What a step gives.

    Attributes:
        students: after the step; weights have a leading axis over n where several were asked for.
        gradient: G of the last step, ``(*n, *r, p, d)``.
        n: samples of a step.
    """

    students: Students
    gradient: Tensor
    n: int | tuple[int, ...]


def neuron_gradients(
    students: Students, x: Float[Tensor, "..."], y: Float[Tensor, "..."], *, loss: Loss = correlation_loss
) -> Float[Tensor, "..."]:
    """G_j = (1/n) Σ_i r_i σ'(⟨w_j, x_i⟩ + b_j) x_i on a sample in memory.

    Args:
        students: the networks.
        x: inputs, ``(n, d)`` or ``(*r, n, d)``.
        y: labels, ``(*r, n)`` or ``(n)``.
        loss: what gives the residual r.

    Returns:
        Gradients, ``(*r, p, d)``; the loss's own gradient in w_j is -a_j G_j / p.

    Raises:
        ValueError: if shapes, runs or precisions do not fit, there are no samples, or values are not finite.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import random_students
        >>> students = random_students(4, 3, generator=random.generator(0))
        >>> x = torch.eye(3, dtype=torch.float64)
        >>> neuron_gradients(students, x, x[:, 0]).shape
        torch.Size([4, 3])
    """
    if x.ndim < 2 or x.shape[-1] != students.dim or x.shape[-2] < 1 or y.shape[-1:] != x.shape[-2:-1]:
        raise ValueError(
            f"expected inputs (*r, n, {students.dim}) and labels (*r, n) with n >= 1, received {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    if not x.dtype == y.dtype == students.weights.dtype:
        raise ValueError(
            f"expected inputs and labels in the precision of the students, {students.weights.dtype}, received "
            f"{x.dtype} and {y.dtype}; draw students with like=x, or convert the data"
        )
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("expected finite inputs and labels, received NaN or infinity; drop or impute these samples")
    broadcast_runs(students=students.runs, inputs=x.shape[:-2], labels=y.shape[:-1])
    return _gradient_sum(students, x, y, loss) / x.shape[-2]


def gradient_step(
    students: Students,
    target: Target,
    *,
    n: int | Sequence[int],
    generator: Generator | Sequence[Generator],
    rule: Rule | None = None,
    loss: Loss = correlation_loss,
    steps: int = 1,
    fresh: bool = True,
    chunk: int = 4096,
) -> GradientStep:
    """One step of gradient descent on the first layer, from n samples of a target.

    Runs axes of students and target broadcast: students ``(s, 1, p, d)`` and directions ``(t, k, d)`` make s × t runs.
    The numbers of a run depend on its own generator, students and directions alone: neither on the other runs, nor on
    the other n, nor (up to round-off) on ``chunk``. Sums over pieces are float64, whatever the precision of the
    students. Memory is that of the gradients and of one piece; a piece is smaller than ``chunk`` where there are many
    runs or neurons.

    Args:
        students: before the step.
        target: what is learned.
        n: samples of a step; several give a leading axis, from one pass over the largest (each n sees the first n).
        generator: one for all runs, which then share their samples, or one for each entry of the first runs axis. Each
            is advanced by two draws, whatever n.
        rule: how gradients become weights; ``giant(2.0)`` when absent.
        loss: :data:`correlation_loss` or :data:`square_loss`.
        steps: how many steps.
        fresh: whether each step takes n new samples, or the same ones again.
        chunk: at most so many samples at a time, over all runs that have samples of their own.

    Returns:
        Students after the step, the gradients, and n.

    Raises:
        ValueError: if n, steps or chunk are not positive, or dimensions or runs do not fit.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import PowerLaw, Target, aligned, hermite_link, overlaps, random_students
        >>> S = PowerLaw(100, 0.5)
        >>> target = Target(hermite_link([0, 1]), S, aligned(S))
        >>> students = random_students(32, 100, generator=random.generator(0))
        >>> step = gradient_step(students, target, n=(100, 1000), generator=random.generator(1))
        >>> step.gradient.shape, [round(float(c), 1) for c in overlaps(step, target).mean_square.euclidean]
        (torch.Size([2, 32, 100]), [0.7, 1.0])
    """
    sizes = (n,) if isinstance(n, int) else tuple(n)
    if not sizes or min(sizes) < 1 or steps < 1 or chunk < 1:
        raise ValueError(f"expected n, steps and chunk >= 1, received n = {n}, steps = {steps}, chunk = {chunk}")
    if students.dim != target.covariance.dim:
        raise ValueError(f"expected students on R^{target.covariance.dim} of the target, received {students}")
    rule = giant(2.0) if rule is None else rule
    runs = broadcast_runs(students=students.runs, teachers=target.directions.shape[:-2])
    axes = len(runs) if isinstance(generator, torch.Generator) else max(1, len(runs))
    stream = Stream(target, generator, like=students.weights, runs=axes)
    broadcast_runs(students=students.runs, teachers=target.directions.shape[:-2], generators=stream.leading)
    if steps == 1:
        gradient = _streamed(students, stream, sizes, loss=loss, chunk=chunk)
        weights = rule(students, gradient, target.covariance)
    else:
        each = [_several(students, stream, size, rule, loss, steps, fresh, chunk) for size in sizes]
        weights, gradient = torch.stack([one[0] for one in each]), torch.stack([one[1] for one in each])
    if isinstance(n, int):
        return GradientStep(students.with_weights(weights[0]), gradient[0], n)
    return GradientStep(students.with_weights(weights), gradient, sizes)


def gradient_step_on_sample(
    students: Students,
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    *,
    covariance: Covariance | None = None,
    rule: Rule | None = None,
    loss: Loss = correlation_loss,
    steps: int = 1,
) -> GradientStep:
    """One step of gradient descent on the first layer, on data of your own.

    Args:
        students: before the step.
        x: inputs, ``(n, d)``, or ``(*r, n, d)`` with a covariance given.
        y: labels, ``(*r, n)``.
        covariance: S, which measures the size of the step; the sample's when absent.
        rule: how gradients become weights; ``giant(2.0)`` when absent.
        loss: :data:`correlation_loss` or :data:`square_loss`.
        steps: how many steps, on the same data.

    Returns:
        Students after the step, the last gradients, and n.

    Raises:
        ValueError: if shapes, runs or precisions do not fit, values are not finite, or steps < 1.

    Example:
        >>> from symfield import random
        >>> from symfield.onestep import random_students
        >>> x = random.normal((500, 3), generator=random.generator(0), like=torch.zeros(1))
        >>> students = random_students(8, 3, generator=random.generator(1), like=x)
        >>> step = gradient_step_on_sample(students, x, x[:, 0])
        >>> bool((step.students.weights[:, 0].abs().mean() > 1))
        True
    """
    if steps < 1:
        raise ValueError(f"expected steps >= 1, received {steps}")
    rule = giant(2.0) if rule is None else rule
    if covariance is None and x.ndim > 2:
        raise ValueError("expected a covariance= for inputs with runs axes, which measures the step of all runs alike")
    covariance = estimated(x) if covariance is None else covariance
    if covariance.dim != students.dim:
        raise ValueError(f"expected a covariance on R^{students.dim} of the students, received {covariance}")
    current, gradient = students, students.weights
    for _ in range(steps):
        gradient = neuron_gradients(current, x, y, loss=loss)
        current = current.with_weights(rule(current, gradient, covariance))
    return GradientStep(current, gradient, x.shape[-2])


def _several(
    students: Students, stream: Stream, n: int, rule: Rule, loss: Loss, steps: int, fresh: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    current, gradient = students, students.weights
    each = _piece(students, stream, chunk)
    ends = [n * (step + 1) for step in range(steps)]
    pieces = stream.pieces(n * steps, chunk=each, cuts=ends) if fresh else iter(())  # one reading for all steps
    for _ in range(steps):
        taken = pieces if fresh else stream.pieces(n, chunk=each)
        total, done = torch.zeros((), dtype=torch.float64, device=students.weights.device), 0
        while done < n:
            x, y = next(taken)
            total = total + _gradient_sum(current, x, y, loss).double()
            done += x.shape[-2]
        gradient = (total / n).to(students.weights)
        current = current.with_weights(rule(current, gradient, stream.target.covariance))
    return current.weights, gradient


def _streamed(students: Students, stream: Stream, sizes: tuple[int, ...], *, loss: Loss, chunk: int) -> Tensor:
    """Gradients at several n, ``(n, *r, p, d)``, from one pass."""
    cuts = sorted(set(sizes))
    total: Tensor | float = 0.0
    found, done = {}, 0
    for x, y in stream.pieces(cuts[-1], chunk=_piece(students, stream, chunk), cuts=cuts):
        total = total + _gradient_sum(students, x, y, loss).double()
        done += x.shape[-2]
        if done in cuts:
            found[done] = (total / done).to(students.weights)
    return torch.stack([found[size] for size in sizes])


def _piece(students: Students, stream: Stream, chunk: int) -> int:
    """Samples of a piece: at most ``chunk`` over all inputs, and pre-activations that fit in some ten megabytes."""
    runs = broadcast_runs(
        students=students.runs, teachers=stream.target.directions.shape[:-2], generators=stream.leading
    )
    return max(1, min(chunk // math.prod(stream.leading), _PREACTIVATIONS // (math.prod(runs) * students.count)))


def _gradient_sum(students: Students, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Σ_i r_i σ'(⟨w_j, x_i⟩ + b_j) x_i."""
    pre = students.preactivations(x)
    value = students.activation(pre)
    slope = students.activation.derivative(pre, value)
    residual = y
    if loss.reads_output:
        residual = loss.residual((value @ students.outputs.unsqueeze(-1)).squeeze(-1) / students.count, y)
    delta = (slope * residual.unsqueeze(-1)).mT  # (*r, p, b)
    if math.prod(x.shape[1:-2]) != 1 or (x.ndim > 2 and x.shape[0] != delta.shape[0]):
        return delta @ x
    # One product for all runs that share their inputs, instead of a copy of the inputs for each.
    groups = x.shape[0] if x.ndim > 2 else 1
    flat = delta.reshape(groups, -1, delta.shape[-1]) @ x.reshape(groups, *x.shape[-2:])
    return flat.reshape(*delta.shape[:-1], x.shape[-1])
