r"""The largest subgroup that the data do not contradict.

The elements that leave a function unchanged are a subgroup. Where all of a small group were tried, it is the largest
subgroup without a contradicted element. Of a large group it is put together from what was tried: transpositions link
points to blocks, on which all permutations are allowed; planes link axes to blocks, on which all rotations are; single
changes of sign and factors of a product stay or go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from symfield.discovery.elements import described, tried_alone
from symfield.discovery.examination import Element, Examination
from symfield.groups import (
    Copies,
    Cyclic,
    Defining,
    DirectProduct,
    Group,
    Matrix,
    Orthogonal,
    Permutation,
    Placed,
    Representation,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Tensored,
    Trivial,
    generated_by,
)
from symfield.groups.words import MAX_WORDS
from symfield.typing import Float, Tensor

__all__ = ["Candidate", "uncontradicted"]


class Candidate(NamedTuple):
    """A symmetry that could be used.

    Attributes:
        name: of the group, and what its generators do where the name does not tell.
        rep_in: ρ.
        rep_out: ρ̂.
    """

    name: str
    rep_in: Representation
    rep_out: Representation


def uncontradicted(found: Examination, rep_in: Representation, rep_out: Representation) -> Candidate | None:
    """The largest proper subgroup whose tried elements are not contradicted.

    Args:
        found: what the data say of the whole group.
        rep_in: ρ of the whole group.
        rep_out: ρ̂ of the whole group.

    Returns:
        The subgroup with its representations, or ``None`` if only the identity is left.

    Example:
        >>> from symfield import random
        >>> from symfield.discovery import dataset
        >>> from symfield.discovery.examination import examine
        >>> from symfield.groups import Defining
        >>> x = random.normal((300, 4), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> shifts, same = Defining(Cyclic(4)), Trivial(Cyclic(4))
        >>> half = dataset(x, x[:, 0] * x[:, 2] + 2 * x[:, 1] * x[:, 3])  # unchanged by two shifts, not by one
        >>> found = examine(half, shifts, same, generator=random.generator(1))
        >>> uncontradicted(found, shifts, same).name
        'C_2: (x0 x2), (x1 x3)'
    """
    group = rep_in.group
    accepted = [element for element in found.elements if not element.contradicted]
    if not accepted or len(accepted) == len(found.elements):
        return None
    if found.complete:
        return _of_all(accepted, rep_in, rep_out)
    if isinstance(group, DirectProduct):
        return _of_factors(found, rep_in, rep_out, group)
    allowed = {_key(element.g) for element in accepted}
    if type(group) is Symmetric:
        return _blocks(_links(group.n, group, allowed), rep_in, rep_out, group)
    if isinstance(group, Orthogonal):
        return _rotations(group, allowed, rep_in, rep_out)
    if isinstance(group, SignFlips):
        kept = [g for g in group.generators if _key(g) in allowed]
        return _named(SignFlips(len(kept)), torch.stack(kept), None, rep_in, rep_out) if kept else None
    return None


def _of_all(accepted: Sequence[Element], rep_in: Representation, rep_out: Representation) -> Candidate | None:
    """Grow a subgroup from each accepted element, by the others from the least violation on; keep the largest."""
    group = rep_in.group
    fine = {0} | {int(group.index(element.g)) for element in accepted}
    order = [int(group.index(e.g)) for e in sorted(accepted, key=lambda e: e.violation.value)]
    best: set[int] = {0}
    chosen: list[int] = []
    for first in order:
        members: set[int] = {0}
        generators: list[int] = []
        for k in [first, *order]:
            if k not in members:
                larger = _closure(group, [*generators, k])
                if larger <= fine:
                    members, generators = larger, [*generators, k]
        if len(members) > len(best):
            best, chosen = members, generators
    if not chosen:
        return None
    for k in sorted(best):  # a cyclic one has the nicer name
        if _closure(group, [k]) == best:
            return _named(Cyclic(len(best)), group.element(torch.tensor([k])), None, rep_in, rep_out)
    elements = group.element(torch.tensor(chosen))
    name = f"a group of {len(best)}"
    return _named(generated_by(rep_in.matrix(elements)), elements, None, rep_in, rep_out, name=name)


def _closure(group: Group, generators: list[int]) -> set[int]:
    members, frontier = {0}, [0]
    steps = group.element(torch.tensor(generators))
    while frontier:
        products = group.compose(group.unsqueeze(steps), group.element(torch.tensor(frontier)))
        found = set(group.index(products).flatten().tolist())
        frontier = sorted(found - members)
        members |= found
    return members


def _of_factors(
    found: Examination, rep_in: Representation, rep_out: Representation, group: DirectProduct
) -> Candidate | None:
    """The factors without a contradicted element."""
    refused = {_key(element.g) for element in found.elements if element.contradicted}
    kept = []
    for i, factor in enumerate(group.factors):
        elements = _lifted(group, i, tried_alone(factor))
        if not any(_key(g) in refused for g in elements):
            kept.append(i)
    if not kept or len(kept) == len(group.factors):
        return None
    parts = [group.factors[i] for i in kept]
    generators = torch.cat([_lifted(group, i, group.factors[i].generators) for i in kept])
    ends = torch.tensor([0, *(factor.degree for factor in group.factors)]).cumsum(0).tolist()
    algebra = group.lie_algebra
    inside = [any(bool(a[ends[i] : ends[i + 1], ends[i] : ends[i + 1]].any()) for i in kept) for a in algebra]
    target = parts[0] if len(parts) == 1 else DirectProduct(*parts)
    return _named(
        target, generators, algebra[torch.tensor(inside, dtype=torch.bool)], rep_in, rep_out, name=str(target)
    )


def _lifted(group: DirectProduct, i: int, elements: Tensor) -> Tensor:
    parts = [factor.identity for factor in group.factors]
    parts[i] = elements
    return group.join(*parts)


def _links(n: int, group: Symmetric, allowed: set[tuple[float, ...]]) -> list[list[int]]:
    """Points linked by transpositions that are allowed, as blocks of two points or more."""
    linked = []
    for i in range(n):
        for j in range(i + 1, n):
            g = group.identity.clone()
            g[[i, j]] = g[[j, i]]
            if _key(g) in allowed:
                linked.append((i, j))
    return _components(n, linked)


def _components(n: int, linked: list[tuple[int, int]]) -> list[list[int]]:
    label = list(range(n))
    for i, j in linked:
        old, new = label[j], label[i]
        label = [new if value == old else value for value in label]
    return [block for block in ([i for i in range(n) if label[i] == k] for k in range(n)) if len(block) > 1]


def _blocks(
    blocks: list[list[int]], rep_in: Representation, rep_out: Representation, group: Symmetric
) -> Candidate | None:
    if not blocks or len(blocks[0]) == group.n:
        return None
    parts = [Symmetric(len(block)) for block in blocks]
    generators = []
    for part, block in zip(parts, blocks, strict=True):
        for images in part.generators:
            g = group.identity.clone()
            g[block] = torch.tensor(block)[images]
            generators.append(g)
    target = parts[0] if len(parts) == 1 else DirectProduct(*parts)
    if target.order <= MAX_WORDS:
        return _named(target, torch.stack(generators), None, rep_in, rep_out, places=blocks)
    points = [point for block in blocks for point in block]
    placed = [_placed(rep, target, points) for rep in (rep_in, rep_out)]
    if placed[0] is None or placed[1] is None:
        return None
    return Candidate(f"{target}: on {_sets(blocks)}", placed[0], placed[1])


def _placed(rep: Representation, target: Group, points: list[int]) -> Representation | None:
    """ρ of S_n on some of its points, for a group too large to be given by the images of generators."""
    defining = Defining(target)
    if isinstance(rep, Trivial):
        return Trivial(target, rep.dim)
    if rep == Defining(rep.group):
        return Placed(defining, points, rep.dim)
    if isinstance(rep, Copies) and rep.inner == Defining(rep.group):
        places = [copy * rep.inner.dim + point for copy in range(rep.n) for point in points]
        return Placed(rep.n * defining, places, rep.dim)
    if isinstance(rep, Tensored) and len(rep.factors) == 2 and rep.factors[0] == Defining(rep.group):
        k = rep.factors[1].dim
        if isinstance(rep.factors[1], Trivial):
            return Placed(defining * Trivial(target, k), [point * k + i for point in points for i in range(k)], rep.dim)
    return None


def _sets(blocks: list[list[int]]) -> str:
    return ", ".join("{" + ", ".join(map(str, block)) + "}" for block in blocks)


def _rotations(
    group: Orthogonal, allowed: set[tuple[float, ...]], rep_in: Representation, rep_out: Representation
) -> Candidate | None:
    """Rotations of the axes that are linked by planes whose quarter turn is allowed."""
    planes = [(i, j) for i in range(group.n) for j in range(i + 1, group.n)]
    turns = group.exp(torch.pi / 2 * group.lie_algebra)
    linked = [plane for plane, g in zip(planes, turns, strict=True) if _key(g) in allowed]
    blocks = _components(group.n, linked)
    if not blocks or (len(blocks[0]) == group.n and isinstance(group, SpecialOrthogonal)):
        return None
    parts = [SpecialOrthogonal(len(block)) for block in blocks]
    wanted = [(block[i], block[j]) for block in blocks for i in range(len(block)) for j in range(i + 1, len(block))]
    algebra = torch.stack([group.lie_algebra[planes.index(plane)] for plane in wanted])
    target = parts[0] if len(parts) == 1 else DirectProduct(*parts)
    return _named(target, group.generators[:0], algebra, rep_in, rep_out, places=blocks)


def _named(
    target: Group,
    generators: Tensor,
    algebra: Float[Tensor, "j q q"] | None,
    rep_in: Representation,
    rep_out: Representation,
    *,
    name: str = "",
    places: list[list[int]] | None = None,
) -> Candidate:
    """The restriction of both representations to a subgroup given by elements (and Lie algebra) of the whole group."""
    if not name:
        acts = (
            f"on {_sets(places)}"
            if places
            else "; ".join(
                described(matrix, tuple(f"x{k}" for k in range(rep_in.dim))) for matrix in rep_in.matrix(generators)
            )
        )
        name = f"{target}: {acts}"
    return Candidate(
        name, _restricted(rep_in, target, generators, algebra), _restricted(rep_out, target, generators, algebra)
    )


def _restricted(
    rep: Representation, target: Group, generators: Tensor, algebra: Float[Tensor, "j q q"] | None
) -> Representation:
    if isinstance(rep, Trivial):
        return Trivial(target, rep.dim)
    lie = algebra if algebra is not None else torch.zeros(0, rep.group.degree, rep.group.degree, dtype=torch.float64)
    signed = rep.signed_permutation(generators)
    if signed is not None and signed[1] is None and not len(lie):
        return Permutation(target, signed[0].argsort(-1))  # (ρx)_i = x[index_i]: coordinate index_i goes to i
    return Matrix(target, torch.cat([rep.matrix(generators), rep.lie(lie)]))


def _key(g: Tensor) -> tuple[float, ...]:
    return tuple(round(float(v), 6) + 0.0 for v in g.reshape(-1))
