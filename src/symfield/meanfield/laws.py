"""Laws of particles and their symmetries: weakly invariant (WI) and strongly invariant (SI).

A law μ on R^p is represented by a cloud z of n equally weighted particles, shape ``(*r, n, p)``. With the group acting
on parameters by M and fixed space E^G = {z : M_g z = z for all g}:

- μ^G = ∫ M_g#μ dλ(g), the symmetrised law: :func:`orbit`; μ is WI when μ = μ^G;
- μ^E = P_E#μ, the projected law: :func:`project`; μ is SI when μ = μ^E, that is μ(E^G) = 1. SI implies WI.

References:
    Maass & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from symfield import random
from symfield.groups import Representation
from symfield.linalg import Subspace
from symfield.typing import Float, Generator, Tensor

__all__ = ["Sampler", "gaussian", "orbit", "project", "sample_strongly_invariant", "sample_weakly_invariant"]

#: Draws a cloud: ``sampler(shape, generator=..., like=...) -> (*r, n, p)``.
Sampler: TypeAlias = Callable[..., Tensor]


def orbit(z: Float[Tensor, "..."], rep: Representation) -> Float[Tensor, "*r kn p"]:
    """The symmetrised law μ^G of a cloud, for a finite group: the |G|·n particles M_g z_i.

    Args:
        z: cloud, shape ``(*r, n, p)``.
        rep: M on R^p, of a finite group.

    Returns:
        Cloud of shape ``(*r, |G| n, p)``, group elements outermost.

    Raises:
        ValueError: if the group is infinite or dimensions differ.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic, Defining
        >>> orbit(torch.tensor([[1.0, 2.0]]), Defining(Cyclic(2))).tolist()
        [[1.0, 2.0], [2.0, 1.0]]
    """
    _require_dim(z, rep.dim, "a representation")
    if not rep.group.is_finite:
        raise ValueError(
            f"expected a finite group, received {rep.group}; sample group elements and use rep.act instead"
        )
    elements = rep.group.elements
    count = len(elements)
    g = elements.reshape(count, *(1,) * (z.ndim - 1), *rep.group.element_shape)
    return rep.act(g, z.unsqueeze(0)).expand(count, *z.shape).movedim(0, -3).flatten(-3, -2)


def project(z: Float[Tensor, "..."], subspace: Subspace) -> Float[Tensor, "*r n p"]:
    """The projected law μ^E of a cloud: every particle replaced by P_E z_i.

    Args:
        z: cloud, shape ``(*r, n, p)``.
        subspace: E, usually ``fixed_points(rep)``.

    Returns:
        Cloud of the same shape.

    Raises:
        ValueError: if dimensions differ.

    Example:
        >>> import torch
        >>> from symfield.equivariant import fixed_points
        >>> from symfield.groups import Cyclic, Defining
        >>> project(torch.tensor([[1.0, 2.0]]), fixed_points(Defining(Cyclic(2)))).tolist()
        [[1.5, 1.5]]
    """
    _require_dim(z, subspace.ambient_dim, "a subspace")
    return subspace.project(z)


def gaussian(std: float) -> Sampler:
    """The law N(0, std² I), which is WI for every orthogonal representation.

    Args:
        std: standard deviation of every coordinate.

    Returns:
        A sampler ``(shape, generator=, like=) -> cloud``.

    Raises:
        ValueError: if ``std`` is negative or NaN.

    Example:
        >>> import torch
        >>> gaussian(0.25)((5, 4), generator=torch.Generator(), like=torch.zeros(1)).shape
        torch.Size([5, 4])
    """
    if not std >= 0:
        raise ValueError(f"expected std >= 0, received {std}")

    def sample(shape: Sequence[int], *, generator: Generator, like: Tensor) -> Tensor:
        return random.normal(shape, generator=generator, like=like, std=std)

    return sample


def sample_weakly_invariant(
    shape: Sequence[int], rep: Representation, *, generator: Generator, like: Tensor, law: Sampler | None = None
) -> Float[Tensor, "*r n p"]:
    """Independent particles from a WI law.

    Without ``law`` it is N(0, 1/16), the paper's initial law, which is invariant because M is orthogonal. Any other law
    is made WI by moving every particle with its own Haar element (this samples ∫ M_g#μ dλ).

    Args:
        shape: leading axes and number of particles, ``(*r, n)``.
        rep: M on R^p.
        generator: source of randomness.
        like: gives dtype and device.
        law: sampler of any law on R^p.

    Returns:
        Cloud, shape ``(*r, n, p)``.

    Raises:
        ValueError: if no law is given and the representation is not orthogonal.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic, Defining
        >>> z = sample_weakly_invariant((3, 7), Defining(Cyclic(2)), generator=torch.Generator(), like=torch.zeros(1))
        >>> z.shape
        torch.Size([3, 7, 2])

    References:
        Maass & Fontbona 2024, Section 4 and Appendix F, arXiv 2405.19995v3.
    """
    size = (*shape, rep.dim)
    if law is None:
        if not rep.orthogonal:
            raise ValueError(f"N(0, 1/16) is not invariant under {rep}, which is not orthogonal; pass law=")
        return gaussian(0.25)(size, generator=generator, like=like)
    cloud = law(size, generator=generator, like=like)
    count = cloud[..., 0].numel()
    g = rep.group.sample(count, generator=generator).reshape(*shape, *rep.group.element_shape)
    return rep.act(g, cloud)


def sample_strongly_invariant(
    shape: Sequence[int], subspace: Subspace, *, generator: Generator, like: Tensor, law: Sampler | None = None
) -> Float[Tensor, "*r n p"]:
    """Independent particles from an SI law: draws from any law, projected on E^G.

    Args:
        shape: leading axes and number of particles, ``(*r, n)``.
        subspace: E^G.
        generator: source of randomness.
        like: gives dtype and device.
        law: sampler of any law on R^p; N(0, 1/16) when absent. With the same generator state this is the projection of
            the cloud that :func:`sample_weakly_invariant` gives.

    Returns:
        Cloud in E^G, shape ``(*r, n, p)``.

    Example:
        >>> import torch
        >>> from symfield.equivariant import fixed_points
        >>> from symfield.groups import Cyclic, Defining
        >>> E = fixed_points(Defining(Cyclic(2)))
        >>> z = sample_strongly_invariant((7,), E, generator=torch.Generator(), like=torch.zeros(1))
        >>> bool((z[:, 0] == z[:, 1]).all())
        True

    References:
        Maass & Fontbona 2024, Section 4 and Appendix F, arXiv 2405.19995v3.
    """
    draw = gaussian(0.25) if law is None else law
    return subspace.project(draw((*shape, subspace.ambient_dim), generator=generator, like=like))


def _require_dim(z: Tensor, dim: int, what: str) -> None:
    if z.ndim < 2 or z.shape[-1] != dim:
        raise ValueError(
            f"expected a cloud of shape (..., n, {dim}) for {what} of dim {dim}, received {tuple(z.shape)}"
        )
