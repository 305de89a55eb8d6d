r"""The permutations that leave every vector of a subspace of parameters in place.

For a unit the permutations act on inputs and outputs, and through them on the parameters; for a bare subspace of R^N on
the N coordinates. The group that comes out is the largest one of its kind with these fixed vectors: if E = E^G it
contains G, and it is larger exactly when G has the same fixed vectors as a larger group (A_n and S_n, or any
transitive group where only E^G ⊂ R^n is known). One generic vector of E has the same stabiliser as all of E.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from symfield import random
from symfield.discovery.automorphisms import Tables, automorphisms
from symfield.linalg import Subspace
from symfield.typing import Float, Generator, Int, Tensor
from symfield.units import HiddenUnit, PointwiseUnit, Unit

__all__ = ["Stabiliser", "stabiliser"]

_GENERIC = 3  # random vectors of the subspace that stand for all
_PROBE = (0.3, 1.0, 2.5)


@dataclass(frozen=True)
class Stabiliser:
    """Generators of the permutations that fix a subspace.

    Attributes:
        images: where each coordinate goes: inputs, then outputs, of a unit, or the parameters themselves, ``(k, n)``,
            with n added where the sign changes.
        inputs: how many of the coordinates are inputs; all without a unit.
        residual: largest distance that a generator moves a unit vector of the subspace, over the generic vectors.
    """

    images: Int[Tensor, "k n"]
    inputs: int
    residual: float


def stabiliser(
    space: Subspace, unit: Unit | None, *, signs: bool, generator: Generator, tolerance: float = 1e-6
) -> Stabiliser:
    """All (signed) permutations that fix a subspace vector by vector.

    Args:
        space: the subspace of the unit's parameters, or of any R^N.
        unit: a ``PointwiseUnit`` or ``HiddenUnit``; permutations act on the parameters themselves when absent.
        signs: whether inputs may change sign, and outputs where the unit allows it.
        generator: source of the generic vectors.
        tolerance: largest difference of entries that count as equal, relative to their root mean square.

    Returns:
        Generators.

    Raises:
        ValueError: if the subspace does not fit the unit, or is {0}.
        NotImplementedError: for another kind of unit.

    Example:
        >>> circulant = Subspace.from_orbits(torch.tensor([0, 1, 2, 2, 0, 1, 1, 2, 0]))
        >>> unit = PointwiseUnit(torch.tanh, 3, 3)
        >>> stabiliser(circulant, unit, signs=False, generator=random.generator(0)).images.tolist()
        [[1, 2, 0, 4, 5, 3]]
    """
    if space.dim == 0:
        raise ValueError("expected a subspace other than {0}: every group fixes it; search it again with more samples")
    if unit is not None and unit.dim != space.ambient_dim:
        raise ValueError(f"expected a subspace of R^{unit.dim} for {unit!r}, received {space!r}")
    like = torch.zeros((), dtype=torch.float64)
    generic = space.embed(random.normal((_GENERIC, space.dim), generator=generator, like=like))
    generic = generic / generic.square().mean(-1, keepdim=True).sqrt()
    if unit is None:
        n, moving, tables, exact = _bare(generic, signs=signs)
    elif isinstance(unit, PointwiseUnit):
        n, moving, tables, exact = _pointwise(unit, generic, signs=signs)
    elif isinstance(unit, HiddenUnit):
        n, moving, tables, exact = _hidden(unit, generic, signs=signs)
    else:
        raise NotImplementedError(
            f"permutations of inputs and outputs act in a way that is not known on {type(unit).__name__}; leave the "
            "unit out for permutations of its parameters, or extend symfield/discovery/stabilisers.py"
        )
    slack = torch.where(exact, 1e-9, tolerance)
    fixed = [i for i in range(tables.shape[-1]) if i % n >= moving]
    result = automorphisms(Tables(tables.numpy(), slack.numpy()), base=range(moving), fixed=fixed)
    rows = [[i % n + moving * (i >= n) for i in g[:moving]] for g in result.generators]
    images = torch.tensor(rows) if rows else torch.zeros(0, moving, dtype=torch.int64)
    inputs = moving if unit is None else unit.in_dim
    return Stabiliser(images, inputs, _residual(tables[~exact], result.generators))


_Parts = tuple[int, int, Float[Tensor, "c m m"], Tensor]


def _bare(generic: Tensor, *, signs: bool) -> _Parts:
    n = generic.shape[1]
    tables = torch.stack([torch.diag(v) for v in generic])
    return n, n, *_with_signs(tables, torch.zeros(n, n, dtype=generic.dtype), signs=signs, diagonal=True)


def _pointwise(unit: PointwiseUnit, generic: Tensor, *, signs: bool) -> _Parts:
    """Points: inputs, then outputs; the matrix z stands between outputs and inputs."""
    probe = torch.tensor(_PROBE, dtype=torch.float64)
    odd = bool(torch.allclose(unit.activation(-probe), -unit.activation(probe), atol=1e-12))
    d, o = unit.in_dim, unit.out_dim
    tables = torch.zeros(len(generic), d + o, d + o, dtype=generic.dtype)
    tables[:, d:, :d] = generic.reshape(-1, o, d)
    kinds = torch.diag(torch.tensor([1.0] * d + [2.0] * o, dtype=generic.dtype))
    return d + o, d + o, *_with_signs(tables, kinds, signs=signs, unsigned=() if odd else range(d, d + o))


def _hidden(unit: HiddenUnit, generic: Tensor, *, signs: bool) -> _Parts:
    """Points: inputs, outputs, hidden coordinates, which stay; W and A stand between them."""
    d, o, h = unit.in_dim, unit.out_dim, unit.hidden
    w, a, _ = unit.unpack(generic)
    tables = torch.zeros(len(generic), d + o + h, d + o + h, dtype=generic.dtype)
    tables[:, d : d + o, d + o :] = w
    tables[:, :d, d + o :] = a
    kinds = torch.diag(torch.tensor([1.0] * d + [2.0] * o + [3.0] * h, dtype=generic.dtype))
    return d + o + h, d + o, *_with_signs(tables, kinds, signs=signs)


def _with_signs(
    tables: Tensor, kinds: Tensor, *, signs: bool, diagonal: bool = False, unsigned: range | tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """The tables on points and their negatives, and which are exact."""
    n = kinds.shape[0]
    if not signs:
        return torch.cat([tables, kinds[None]]), torch.tensor([False] * len(tables) + [True])
    flip = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=tables.dtype)
    if diagonal:
        flip = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=tables.dtype)
    doubled = torch.stack([torch.kron(flip, table.contiguous()) for table in tables])
    negative = kinds.clone()
    for i in unsigned:
        negative[i, i] = -negative[i, i]
    classes = torch.block_diag(kinds, negative)
    opposite = torch.kron(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(kinds), torch.eye(n).to(kinds))
    return torch.cat([doubled, classes[None], opposite[None]]), torch.tensor([False] * len(tables) + [True] * 2)


def _residual(tables: Tensor, generators: tuple[tuple[int, ...], ...]) -> float:
    scale = tables.flatten(1).norm(dim=-1).clamp_min(1e-300)
    worst = 0.0
    for g in generators:
        index = torch.tensor(g)
        worst = max(worst, float(((tables[:, index][:, :, index] - tables).flatten(1).norm(dim=-1) / scale).max()))
    return worst
