r"""Canonical poses: one element for every input, chosen by the input itself.

Fix a vector c whose orbit has as many points as the group has elements. The pose of x is the g that maximises
⟨ρ(g)c, x⟩ = ⟨c, ρ(g)⁻¹x⟩: x is brought into the Dirichlet domain of c. The pose of ρ(h)x is hg, so a map evaluated in
canonical pose is equivariant whatever the map, at the price of one evaluation instead of |G|; where two poses tie, on
the walls of the domain, it jumps. For permutations of points the maximum is a sort, by the rearrangement inequality.

References:
    Puny et al. 2022, *Frame Averaging for Invariant and Equivariant Network Design*, arXiv 2110.03336v3.
    Dym, Lawrence & Siegel 2024, *Equivariant Frames and the Impossibility of Continuous Canonicalization*,
    arXiv 2402.16077v2: why the jumps cannot be avoided.
"""

from __future__ import annotations

import torch

from symfield import random
from symfield.groups import Defining, Group, Representation, Symmetric, Tensored, Trivial
from symfield.symmetrize.frames import Poses
from symfield.typing import Float, Generator, Tensor

__all__ = ["Canonical", "Sorted", "canonical"]

_MOST = 20_000  # elements of a group whose orbit of c is kept


class Canonical:
    """The pose that maximises ⟨ρ(g)c, x⟩ over a finite group; made by :func:`canonical`.

    Args:
        rep: ρ, on inputs.
        orbit: the points ρ(g)c in the order of ``group.elements``, shape ``(|G|, d)``.
    """

    def __init__(self, rep: Representation, orbit: Float[Tensor, "k d"]) -> None:
        self.rep, self.orbit = rep, orbit

    @property
    def group(self) -> Group:
        """The group whose elements the frame gives."""
        return self.rep.group

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """One pose for every input, weight one; ``generator`` is not used."""
        best = (x.detach() @ self.orbit.to(x).mT).argmax(-1).unsqueeze(0)
        g = self.group.elements.to(x.device)[best]
        return Poses(g, x.new_ones(best.shape), self.group.inverse(g))

    def __repr__(self) -> str:
        return f"canonical({self.rep!r})"


class Sorted:
    """The pose that puts n points of k coordinates in the order of ⟨v, point⟩; made by :func:`canonical`.

    Args:
        rep: ``Defining(Symmetric(n)) * Trivial(Symmetric(n), k)``, or ``Defining(Symmetric(n))`` with k = 1.
        direction: v, shape ``(k,)``.
    """

    def __init__(self, rep: Representation, direction: Float[Tensor, " k"]) -> None:
        self.rep, self.direction = rep, direction

    @property
    def group(self) -> Group:
        """The group whose elements the frame gives."""
        return self.rep.group

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """One pose for every input, weight one; ``generator`` is not used."""
        heights = x.detach().unflatten(-1, (-1, len(self.direction))) @ self.direction.to(x)
        g = heights.argsort(dim=-1, stable=True).unsqueeze(0)  # ρ(g)⁻¹x has at place i the point g[i] of x
        return Poses(g, x.new_ones(g.shape[:-1]), self.group.inverse(g))

    def __repr__(self) -> str:
        return f"canonical({self.rep!r})"


def canonical(rep: Representation, *, generator: Generator) -> Canonical | Sorted:
    """The frame of canonical poses under a random vector c.

    Args:
        rep: ρ on inputs, faithful: of a finite group with at most 20 000 elements, or
            ``Defining(Symmetric(n))``, alone or times ``Trivial``.
        generator: source of c.

    Returns:
        A frame.

    Raises:
        ValueError: if ρ is not faithful.
        NotImplementedError: for another group that is infinite or too large.

    Example:
        >>> from symfield import random
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> from symfield.symmetrize import symmetrize
        >>> shift = Defining(Cyclic(3))
        >>> frame = canonical(shift, generator=random.generator(0))
        >>> x = torch.tensor([[1.0, 2.0, 4.0], [4.0, 1.0, 2.0]])  # one the shift of the other
        >>> first = lambda x: x[:, :1]
        >>> symmetrize(first, x, frame, rep_in=shift, rep_out=Trivial(Cyclic(3))).flatten().diff().item()
        0.0
    """
    like = torch.zeros((), dtype=torch.float64)
    group = rep.group
    points = _points(rep)
    if points is not None:
        return Sorted(rep, random.normal((points,), generator=generator, like=like))
    if not group.is_finite or group.order > _MOST:
        raise NotImplementedError(
            f"canonical poses are known for finite groups of at most {_MOST} elements and for permutations of points, "
            f"received {rep} of {group}; use haar(group, n), or extend symfield/symmetrize/canonical.py"
        )
    orbit = rep.act(group.elements, random.normal((rep.dim,), generator=generator, like=like))
    if group.order > 1 and float((orbit[1:] - orbit[0]).abs().amax(-1).min()) < 1e-9:
        raise ValueError(f"expected a faithful representation, received {rep} of {group}, under which elements agree")
    return Canonical(rep, orbit)


def _points(rep: Representation) -> int | None:
    """k when ρ permutes n points of k coordinates by S_n, else ``None``."""
    if type(rep.group) is not Symmetric:
        return None
    if rep == Defining(rep.group):
        return 1
    factors = rep.factors if isinstance(rep, Tensored) else ()
    if len(factors) == 2 and factors[0] == Defining(rep.group) and isinstance(factors[1], Trivial):
        return factors[1].dim
    return None
