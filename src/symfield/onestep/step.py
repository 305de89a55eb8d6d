r"""One giant gradient step of the first layer, or a few, from few or very many samples.

The gradient of neuron j, without its output weight and the factor 1/p, is

    G_j = (1/n) Σ_i r_i σ'(⟨w_j, x_i⟩ + b_j) x_i,

with the residual r = y under the correlation loss ℓ = -y f, and r = y - f(x) under the square loss ½ (y - f)²: the
descent direction is a_j G_j / p. A *rule* turns gradients into new weights:

- :func:`giant`: w_j + η a_j G_j / mean_i |S^{1/2} G_i|. The step has a fixed size in function space, whatever the
  covariance and n: typical pre-activations change by η. This normalisation is ours.
- :func:`plain`: w_j + η a_j G_j, the rule of Ba et al. 2022 and Dandi et al. 2023, with η = O(1) for unit-variance
  pre-activations and a = ±1 (and larger for a "giant" step).
- :func:`spherical`: gradients are projected on the tangent space of the unit sphere, and rows brought back to unit
  length: the spherical dynamics of Mousavi-Hosseini et al. 2023, as a step of finite size.
- :func:`batch_normalised`: the same on the ellipsoid wᵀ S w = 1, which is how a neuron σ(⟨w, x⟩/|S^{1/2} w|) moves: the
  normalisation by the covariance that repairs the spherical dynamics there.

Samples come from a target in pieces (:class:`~symfield.onestep.Stream`), and gradients at several n from one pass.

References:
    Ba, Erdogdu, Suzuki, Wang, Wu & Yang 2022, arXiv 2205.01445; Dandi, Krzakala, Loureiro, Pesce & Stephan 2023, arXiv
    2305.18270; Mousavi-Hosseini, Wu, Suzuki & Erdogdu 2023, arXiv 2309.03843.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch

from symfield.onestep.covariances import Covariance, estimated
from symfield.onestep.students import Students
from symfield.onestep.targets import Stream, Target
from symfield.typing import Float, Generator, Tensor

__all__ = [
    "GradientStep",
    "Loss",
    "Rule",
    "batch_normalised",
    "correlation_loss",
    "giant",
    "gradient_step",
    "gradient_step_on_sample",
    "neuron_gradients",
    "plain",
    "spherical",
    "square_loss",
]

Rule: TypeAlias = Callable[[Students, Tensor, Covariance], Tensor]
"""(students, gradients ``(*r, p, d)``, covariance) ↦ new weights ``(*r, p, d)``."""


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


def giant(eta: float) -> Rule:
    """A step of fixed size in function space, w_j + η a_j G_j / mean_i |S^{1/2} G_i| over neurons that are not dead.

    Args:
        eta: η, the mean change of a pre-activation's standard deviation.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = giant(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        return students.weights + eta * students.outputs.unsqueeze(-1) * _unit_size(gradient, covariance)

    return rule


def plain(eta: float) -> Rule:
    """w_j + η a_j G_j.

    Args:
        eta: η, which stands for the learning rate over p.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = plain(1.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, _covariance: Covariance) -> Tensor:
        return students.weights + eta * students.outputs.unsqueeze(-1) * gradient

    return rule


def spherical(eta: float) -> Rule:
    """A step along the unit sphere: tangent part of the gradient, size η as in :func:`giant`, back to unit length.

    Args:
        eta: η.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = spherical(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        w = students.weights / students.weights.norm(dim=-1, keepdim=True)
        tangent = gradient - (gradient * w).sum(-1, keepdim=True) * w
        moved = w + eta * students.outputs.unsqueeze(-1) * _unit_size(tangent, covariance)
        return moved / moved.norm(dim=-1, keepdim=True)

    return rule


def batch_normalised(eta: float) -> Rule:
    """A step along the ellipsoid wᵀ S w = 1: the gradient of σ(⟨w, x⟩ / |S^{1/2} w|) in w there, size η, and back.

    Give it students that lie on the ellipsoid (gradients are taken at their own weights):
    ``students.with_weights(w / |S^{1/2} w|)``.

    Args:
        eta: η.

    Returns:
        The rule.

    Raises:
        ValueError: if η is not finite.

    Example:
        >>> rule = batch_normalised(2.0)
    """
    _require_finite(eta)

    def rule(students: Students, gradient: Tensor, covariance: Covariance) -> Tensor:
        w = students.weights / _size(students.weights, covariance)
        tangent = gradient - (gradient * w).sum(-1, keepdim=True) * covariance.power(w)
        moved = w + eta * students.outputs.unsqueeze(-1) * _unit_size(tangent, covariance)
        return moved / _size(moved, covariance)

    return rule


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
        ValueError: if shapes do not fit or there are no samples.

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
    students.

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
    runs = torch.broadcast_shapes(students.runs, target.directions.shape[:-2])
    axes = len(runs) if isinstance(generator, torch.Generator) else max(1, len(runs))
    stream = Stream(target, generator, like=students.weights, runs=axes)
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
        ValueError: if shapes do not fit, or steps < 1.

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
    covariance = estimated(x) if covariance is None else covariance
    current, gradient = students, students.weights
    for _ in range(steps):
        gradient = neuron_gradients(current, x, y, loss=loss)
        current = current.with_weights(rule(current, gradient, covariance))
    return GradientStep(current, gradient, x.shape[-2])


def _several(
    students: Students, stream: Stream, n: int, rule: Rule, loss: Loss, steps: int, fresh: bool, chunk: int
) -> tuple[Tensor, Tensor]:
    current, gradient = students, students.weights
    for step in range(steps):
        start = step * n if fresh else 0
        gradient = _streamed(current, stream, (n,), loss=loss, chunk=chunk, start=start)[0]
        current = current.with_weights(rule(current, gradient, stream.target.covariance))
    return current.weights, gradient


def _streamed(
    students: Students, stream: Stream, sizes: tuple[int, ...], *, loss: Loss, chunk: int, start: int = 0
) -> Tensor:
    """Gradients at several n, ``(n, *r, p, d)``, from one pass."""
    cuts = sorted(set(sizes))
    total: Tensor | float = 0.0
    found, done = {}, 0
    each = max(1, chunk // math.prod(stream.leading))
    for x, y in stream.pieces(cuts[-1], chunk=each, start=start, cuts=cuts):
        total = total + _gradient_sum(students, x, y, loss).double()
        done += x.shape[-2]
        if done in cuts:
            found[done] = (total / done).to(students.weights)
    return torch.stack([found[size] for size in sizes])


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


def _size(v: Tensor, covariance: Covariance) -> Tensor:
    """|S^{1/2} v|, ``(*r, p, 1)``."""
    return (v * covariance.power(v)).sum(-1, keepdim=True).clamp_min(0).sqrt()


def _unit_size(gradient: Tensor, covariance: Covariance) -> Tensor:
    """Gradients over their mean size |S^{1/2} G|, the mean over neurons that are not dead; zero where all are."""
    size = _size(gradient, covariance)
    alive = (size > 0).sum(-2, keepdim=True).clamp_min(1)
    mean = size.sum(-2, keepdim=True) / alive
    return gradient / torch.where(mean > 0, mean, torch.ones_like(mean))


def _require_finite(eta: float) -> None:
    if not math.isfinite(eta):
        raise ValueError(f"expected a finite step size eta, received {eta}")
