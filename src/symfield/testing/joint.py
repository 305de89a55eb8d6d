"""Is a unit jointly equivariant: σ(ρ_g x; M_g z) = ρ̂_g σ(x; z)?

A unit is any callable ``unit(x: (b, d), z: (n, p)) -> (n, b, o)``.

References:
    Maass & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from symfield.groups import Representation
from symfield.random import normal
from symfield.testing.measure import Violation, probes, require_one_group, tolerance, violation
from symfield.typing import Generator, Tensor

__all__ = ["assert_jointly_equivariant", "joint_equivariance_error"]


def joint_equivariance_error(
    unit: Callable[[Tensor, Tensor], Tensor],
    rep_in: Representation,
    rep_out: Representation,
    rep_unit: Representation,
    *,
    generator: Generator,
    samples: int = 8,
    like: Tensor | None = None,
) -> float:
    """Largest relative violation of σ(ρ_g x; M_g z) = ρ̂_g σ(x; z) at random x, z and g.

    Args:
        unit: σ, ``(b, d), (n, p) -> (n, b, o)``.
        rep_in: ρ on inputs, of dim d.
        rep_out: ρ̂ on outputs, of dim o.
        rep_unit: M on the unit's parameters, of dim p.
        generator: source of the random inputs, parameters and group elements.
        samples: number of random group elements; all discrete generators are tried as well.
        like: tensor that gives dtype and device of x and z; float64 on the CPU when absent.

    Returns:
        The violation; NaN if the unit returns NaN.

    Raises:
        ValueError: if shapes, groups or ``samples`` do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> swap, generator = Defining(Cyclic(2)), torch.Generator().manual_seed(0)
        >>> scale = lambda x, z: torch.tanh(x * z[:, None, :])
        >>> joint_equivariance_error(scale, swap, swap, swap, generator=generator)
        0.0
    """
    return _worst(unit, rep_in, rep_out, rep_unit, generator=generator, samples=samples, like=like).error


def assert_jointly_equivariant(
    unit: Callable[[Tensor, Tensor], Tensor],
    rep_in: Representation,
    rep_out: Representation,
    rep_unit: Representation,
    *,
    generator: Generator,
    samples: int = 8,
    like: Tensor | None = None,
    atol: float | None = None,
) -> None:
    """Fail unless σ(ρ_g x; M_g z) = ρ̂_g σ(x; z) up to round-off.

    Args:
        unit: σ, ``(b, d), (n, p) -> (n, b, o)``.
        rep_in: ρ on inputs, of dim d.
        rep_out: ρ̂ on outputs, of dim o.
        rep_unit: M on the unit's parameters, of dim p.
        generator: source of the random inputs, parameters and group elements.
        samples: number of random group elements; all discrete generators are tried as well.
        like: tensor that gives dtype and device of x and z; float64 on the CPU when absent.
        atol: accepted relative violation; :func:`tolerance` of the dtype when absent.

    Raises:
        AssertionError: if the violation is larger.
        ValueError: if shapes, groups or ``samples`` do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> swap, generator = Defining(Cyclic(2)), torch.Generator().manual_seed(0)
        >>> scale = lambda x, z: torch.tanh(x * z[:, None, :])
        >>> assert_jointly_equivariant(scale, swap, swap, Trivial(Cyclic(2), 2), generator=generator)
        Traceback (most recent call last):
            ...
        AssertionError: σ(ρ_g x; M_g z) = ρ̂_g σ(x; z) is violated by ...
    """
    worst = _worst(unit, rep_in, rep_out, rep_unit, generator=generator, samples=samples, like=like)
    dtype = torch.float64 if like is None else like.dtype
    accepted = tolerance(dtype) if atol is None else atol
    if not worst.error <= accepted:
        raise AssertionError(
            f"σ(ρ_g x; M_g z) = ρ̂_g σ(x; z) is violated by {worst.error:.2e} (relative), accepted is {accepted:.1e} "
            f"for {dtype}; ρ = {rep_in}, ρ̂ = {rep_out}, M = {rep_unit}, worst at g = {worst.element.tolist()}. Check "
            f"the order in which the unit's parameters are flattened, and that its activation commutes with the group "
            f"(pointwise ones with permutations, odd ones also with signs, none with rotations)"
        )


def _worst(
    unit: Callable[[Tensor, Tensor], Tensor],
    rep_in: Representation,
    rep_out: Representation,
    rep_unit: Representation,
    *,
    generator: Generator,
    samples: int,
    like: Tensor | None,
) -> Violation:
    group = require_one_group(rep_in, rep_out, rep_unit)
    like = torch.zeros(1, dtype=torch.float64) if like is None else like
    x = normal((5, rep_in.dim), generator=generator, like=like)
    z = normal((4, rep_unit.dim), generator=generator, like=like)
    elements = probes(group, samples, generator=generator, device=like.device)
    with torch.no_grad():
        here = unit(x, z)
        if here.shape != (4, 5, rep_out.dim):
            raise ValueError(
                f"expected the unit to take x {tuple(x.shape)} and z {tuple(z.shape)} to shape {(4, 5, rep_out.dim)}, "
                f"received {tuple(here.shape)}; a unit maps (b, d), (n, p) to (n, b, o)"
            )
        there = torch.stack([unit(rep_in.act(g, x), rep_unit.act(g, z)) for g in elements])
        expected = torch.stack([rep_out.act(g, here) for g in elements])
    return violation(there, expected, elements)
