"""Is f equivariant: f(ρ_g x) = ρ̂_g f(x)?"""

from __future__ import annotations

import torch

from symfield.groups import Representation
from symfield.testing.measure import Violation, probes, require_one_group, tolerance, violation
from symfield.typing import Float, Generator, Map, Tensor

__all__ = ["assert_equivariant", "equivariance_error"]


def equivariance_error(
    f: Map,
    rep_in: Representation,
    rep_out: Representation,
    *,
    x: Float[Tensor, "*batch d"],
    generator: Generator,
    samples: int = 16,
) -> float:
    """Largest relative violation of f(ρ_g x) = ρ̂_g f(x), over the given inputs and random group elements.

    The difference is measured in the Euclidean norm, relative to the largest output. All discrete generators of the
    group are tried as well as ``samples`` random elements.

    Args:
        f: the map, ``(b, d) -> (b, o)``.
        rep_in: ρ, of dim d.
        rep_out: ρ̂, of dim o.
        x: inputs to try, ``(*batch, d)``; they also set dtype and device.
        generator: source of the random group elements.
        samples: number of random group elements.

    Returns:
        The violation; NaN if f returns NaN.

    Raises:
        ValueError: if shapes, groups or ``samples`` do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> shifts = Defining(Cyclic(4))
        >>> x, generator = torch.eye(4, dtype=torch.float64), torch.Generator().manual_seed(0)
        >>> equivariance_error(torch.tanh, shifts, shifts, x=x, generator=generator)
        0.0
        >>> equivariance_error(lambda x: x.cumsum(-1), shifts, shifts, x=x, generator=generator) > 0.5
        True
    """
    return _worst(f, rep_in, rep_out, x=x, generator=generator, samples=samples).error


def assert_equivariant(
    f: Map,
    rep_in: Representation,
    rep_out: Representation,
    *,
    x: Float[Tensor, "*batch d"],
    generator: Generator,
    samples: int = 16,
    atol: float | None = None,
) -> None:
    """Fail unless f(ρ_g x) = ρ̂_g f(x) up to round-off.

    Args:
        f: the map, ``(b, d) -> (b, o)``.
        rep_in: ρ, of dim d.
        rep_out: ρ̂, of dim o.
        x: inputs to try, ``(*batch, d)``; they also set dtype and device.
        generator: source of the random group elements.
        samples: number of random group elements.
        atol: accepted relative violation; :func:`tolerance` of x's dtype when absent.

    Raises:
        AssertionError: if the violation is larger.
        ValueError: if shapes, groups or ``samples`` do not fit.

    Example:
        >>> from symfield.groups import Defining, SpecialOrthogonal, Trivial
        >>> group = SpecialOrthogonal(3)
        >>> norm = lambda x: x.norm(dim=-1, keepdim=True)
        >>> generator = torch.Generator().manual_seed(0)
        >>> assert_equivariant(norm, Defining(group), Trivial(group), x=torch.ones(2, 3), generator=generator)
    """
    worst = _worst(f, rep_in, rep_out, x=x, generator=generator, samples=samples)
    accepted = tolerance(x.dtype) if atol is None else atol
    if not worst.error <= accepted:
        raise AssertionError(
            f"f(ρ_g x) = ρ̂_g f(x) is violated by {worst.error:.2e} (relative), accepted is {accepted:.1e} for "
            f"{x.dtype}; ρ = {rep_in}, ρ̂ = {rep_out}, worst at g = {worst.element.tolist()}. Check that both "
            f"representations order their coordinates as f does, that every layer of f is equivariant, and that f is "
            f"deterministic and has no NaN"
        )


def _worst(
    f: Map, rep_in: Representation, rep_out: Representation, *, x: Tensor, generator: Generator, samples: int
) -> Violation:
    group = require_one_group(rep_in, rep_out)
    if x.ndim == 0 or x.shape[-1] != rep_in.dim or x.numel() == 0:
        raise ValueError(f"expected inputs of shape (*batch, {rep_in.dim}), received {tuple(x.shape)}; ρ = {rep_in}")
    inputs = x.detach().reshape(-1, rep_in.dim)
    elements = probes(group, samples, generator=generator, device=x.device)
    spread = group.unsqueeze(elements)
    with torch.no_grad():
        here = f(inputs)
        if here.shape != (len(inputs), rep_out.dim):
            raise ValueError(
                f"expected f to return shape {(len(inputs), rep_out.dim)}, received {tuple(here.shape)}; ρ̂ = {rep_out}"
            )
        there = f(rep_in.act(spread, inputs).flatten(0, 1)).unflatten(0, (-1, len(inputs)))
        return violation(there, rep_out.act(spread, here), elements)
