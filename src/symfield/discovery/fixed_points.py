"""The largest subspace of parameters that data can support strongly invariant laws on, found from the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from symfield.discovery.closures import closure_of, spans
from symfield.discovery.dataset import Dataset, dataset, target_units, without_copies
from symfield.discovery.findings import FixedPoints, Method, Problem
from symfield.discovery.training import Training
from symfield.discovery.training_free import TrainingFree
from symfield.linalg import Subspace
from symfield.meanfield import Data
from symfield.typing import Generator, Tensor
from symfield.units import PointwiseUnit, Unit, sigmoid

__all__ = ["discover_fixed_points"]

_PROBE = 4096


def discover_fixed_points(
    data: Dataset | tuple[Any, ...] | Data,
    unit: Unit | None = None,
    *,
    generator: Generator,
    method: Method | None = None,
) -> FixedPoints:
    """The fixed subspace E^G of an unknown group G under which the data are equivariant.

    Args:
        data: a :class:`~symfield.discovery.Dataset`, arrays or tensors ``(x, y)`` of shapes ``(b, d)`` and ``(b, o)``
            or ``(b,)``, or a stream of fresh samples such as :func:`symfield.meanfield.gaussian_teacher`.
        unit: σ_*; for a data set ``PointwiseUnit(sigmoid, d, o)`` when absent, whose parameters are the linear maps
            from inputs to outputs, so that E^G are the equivariant ones.
        generator: source of randomness.
        method: how to search; when absent :class:`~symfield.discovery.TrainingFree` where the symmetries of the unit
            are known (:class:`~symfield.units.PointwiseUnit`), else :class:`~symfield.discovery.Training`.

    Returns:
        The subspace, with a verdict, its reason and the trace of the search.

    Raises:
        TypeError: if ``data`` or ``method`` is of another kind.
        ValueError: if shapes do not fit, or a stream comes without a unit.

    Example:
        >>> from symfield import random
        >>> x = random.normal((2000, 3), generator=random.generator(0), like=torch.zeros(0, dtype=torch.float64))
        >>> y = torch.tanh(x + 0.3 * x.roll(1, 1) - 2 * x.roll(2, 1))  # equivariant under rotations of coordinates
        >>> found = discover_fixed_points((x, y), generator=random.generator(1))
        >>> found.verdict, found.subspace.dim  # circulant matrices
        ('symmetry found', 3)

    References:
        Maass & Fontbona 2024, Section 4.2 and Appendix F.2, arXiv 2405.19995v3.
    """
    if method is not None and not isinstance(method, Method):
        raise TypeError(f"expected a method such as TrainingFree(), received {type(method).__name__}")
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(f"expected a pair (x, y) of inputs and targets, received {len(data)} values")
        x, y = data
        if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
            data = dataset(x, y)
        elif x.ndim != 2 or y.ndim not in (1, 2) or x.is_complex() or y.is_complex():
            raise ValueError(
                "expected real tensors (x, y) of shapes (b, d) and (b, o) or (b,), received "
                f"{tuple(x.shape)} {x.dtype} and {tuple(y.shape)} {y.dtype}"
            )
        else:
            data = Dataset(x.detach().double(), y.detach().double().reshape(len(y), -1))
    samples = ""  # of a stream there are as many as one likes
    if isinstance(data, Dataset):
        if len(data.x) != len(data.y):
            raise ValueError(f"expected as many targets as inputs, received {len(data.y)} and {len(data.x)}")
        given, data = len(data), without_copies(data)
        samples = "distinct samples" if len(data) < given else "samples"
        unit = PointwiseUnit(sigmoid, data.x.shape[1], data.y.shape[1]) if unit is None else unit
        x, y = data.x, data.y
    elif callable(data):
        if unit is None:
            raise ValueError("expected a unit beside a stream of samples, received none")
        x, y = data((_PROBE,), generator=generator, like=torch.zeros(0, dtype=torch.float64))
    else:
        raise TypeError(f"expected a Dataset, tensors (x, y) or a stream of samples, received {type(data).__name__}")
    if (x.shape[1], y.shape[1]) != (unit.in_dim, unit.out_dim):
        raise ValueError(
            f"expected inputs (b, {unit.in_dim}) and targets (b, {unit.out_dim}) for {unit!r}, received "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    trouble = _trouble(x, y, unit, samples)
    if trouble:
        return FixedPoints(Subspace.full(unit.dim), 0.0, (), "cannot tell", f"cannot tell, because {trouble}", 0)
    if isinstance(data, Dataset) and isinstance(unit, PointwiseUnit):  # its rows are the outputs' own
        data = replace(data, y=data.y / target_units(data)[0])
    problem = Problem.of(data, unit) if isinstance(data, Dataset) else Problem(unit, data)
    if method is None:
        method = Training() if closure_of(unit) is spans else TrainingFree()
    return method.search(problem, generator=generator)


def _trouble(x: Tensor, y: Tensor, unit: Unit, samples: str) -> str:
    """Why no method could tell, or nothing."""
    broken = int((~x.isfinite()).sum() + (~y.isfinite()).sum())
    if broken:
        return f"{broken} entries are NaN or infinite; drop or impute them"
    need = 2 * -(-unit.dim // unit.out_dim) + 32
    if samples and len(x) < need:
        return f"{len(x)} {samples} are too few for {unit.dim} parameters; give {need} or more"
    if float((y - y.mean(0)).abs().max()) <= 1e-12 * float(y.abs().max().clamp_min(1e-300)):
        return "the targets are constant"
    values = torch.linalg.eigvalsh(torch.cov((x / x.abs().max().clamp_min(1e-300)).mT).reshape(x.shape[1], -1))
    if float(values[0]) <= 1e-10 * float(values[-1]):
        return (
            "the inputs are collinear, so that nothing is known off the subspace they span; drop the inputs that "
            "others determine"
        )
    origin = x.new_zeros(len(x), 1, unit.dim)
    moves = unit.pullback(x[:, None, :], origin, (y - y.mean(0))[:, None, :])
    if not bool((moves.abs() > 1e-12 * float(y.abs().max())).any()):
        return (
            "the gradient of the unit vanishes at 0 whatever the data are, so that no search leaves {0}; take a unit "
            "that moves there, such as PointwiseUnit"
        )
    return ""
