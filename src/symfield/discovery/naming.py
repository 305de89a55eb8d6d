r"""The names of finite groups of signed permutations: C_n, D_n, S_n, A_n, sign flips, B_n, and their products.

Coordinates fall into orbits. Two orbits belong together unless the group acts on their union by all pairs of what it
does on each, so that the group is a direct product of its actions on the *blocks* of orbits. On a block the group is
recognised by its order and its elements: S_n or A_n if it acts faithfully on one orbit of n points and has their order,
B_n = {±1} ≀ S_n if it has all 2ⁿ n! signed permutations of n coordinates; else cyclic, dihedral or abelian by the
orders of its elements, which are listed up to 4000.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

from symfield.groups import (
    Alternating,
    Cyclic,
    Dihedral,
    DirectProduct,
    Group,
    PermutationGroup,
    SignFlips,
    Symmetric,
)
from symfield.typing import Int, Tensor

__all__ = ["blocks", "named", "restricted"]

_LISTED = 4000


def named(group: PermutationGroup) -> tuple[Group | None, str]:
    """The group as a known one, up to isomorphism, and its name.

    Args:
        group: a group of signed permutations.

    Returns:
        A value such as ``Cyclic(4)`` or ``DirectProduct(Symmetric(3), Cyclic(2))``, ``None`` when some factor is not
        known; and the name.

    Example:
        >>> named(PermutationGroup([[1, 2, 0, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 4, 3]]))[1]
        'S_3 × C_2'
        >>> named(PermutationGroup([[1, 2, 3, 4, 0], [0, 4, 3, 2, 1]]))[1]
        'D_5'
        >>> named(PermutationGroup([[3, 1, 2]]))[1]  # one sign
        '{±1}'
        >>> named(PermutationGroup([[1, 2, 3, 0], [0, 3, 2, 1], [4, 5, 6, 7]]))[1]  # and minus one
        'D_4 × {±1}'
    """
    if group.order == 1:
        return Cyclic(1), "trivial"
    signs, factors, names = 0, [], []
    for block in blocks(group):
        part = restricted(group, block)
        if len(block) == 1:
            signs += 1
            continue
        value, name = _recognised(part)
        factors.append(value)
        names.append((-part.order, name))
    order = sorted(range(len(names)), key=lambda i: names[i])
    values: list[Group | None] = []
    for i in order:
        value = factors[i]
        values += list(value.factors) if isinstance(value, DirectProduct) else [value]
    words = [names[i][1] for i in order]
    if signs:
        values.append(SignFlips(signs))
        words.append(str(SignFlips(signs)))
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, " × ".join(words)
    return (known[0] if len(known) == 1 else DirectProduct(*known)), " × ".join(words)


def blocks(group: PermutationGroup) -> list[list[int]]:
    """The coordinates that move, in the finest blocks on which the group acts independently.

    Args:
        group: a group of signed permutations.

    Returns:
        Blocks of coordinates, in ascending order.

    Example:
        >>> blocks(PermutationGroup([[1, 0, 3, 2, 4, 5], [0, 1, 2, 3, 5, 4]]))
        [[0, 1, 2, 3], [4, 5]]
    """
    orbits = _orbits(group)
    label = list(range(len(orbits)))
    orders = [restricted(group, orbit).order for orbit in orbits]
    for i, first in enumerate(orbits):
        for j in range(i):
            if label[i] != label[j] and restricted(group, first + orbits[j]).order < orders[i] * orders[j]:
                label = [label[j] if one == label[i] else one for one in label]
    merged = [sorted(i for o, one in zip(orbits, label, strict=True) if one == k for i in o) for k in set(label)]
    if math.prod(restricted(group, block).order for block in merged) != group.order:
        merged = [sorted(i for orbit in orbits for i in orbit)]  # three orbits may be tied where no two of them are
    return sorted(merged)


def restricted(group: PermutationGroup, block: list[int]) -> PermutationGroup:
    """What the group does on some coordinates that it maps to one another.

    Args:
        group: a group of signed permutations.
        block: coordinates.

    Returns:
        The group of its restrictions.

    Example:
        >>> restricted(PermutationGroup([[1, 0, 3, 2]]), [2, 3]).images.tolist()
        [[1, 0]]
    """
    n, m = group.degree, len(block)
    place = {j: k for k, j in enumerate(block)}
    rows = [[place[j % n] + m * (j >= n) for j in row] for row in group.images[:, block].tolist()]
    moving = [row for row in dict.fromkeys(map(tuple, rows)) if row != tuple(range(m))]
    return PermutationGroup(torch.tensor(moving or [tuple(range(m))]))


def _orbits(group: PermutationGroup) -> list[list[int]]:
    """Orbits of coordinates, those left out that nothing moves."""
    n, images = group.degree, group.images.tolist()
    left, found = set(range(n)), []
    while left:
        orbit = {min(left)}
        waiting = list(orbit)
        for i in waiting:
            for row in images:
                if row[i] % n not in orbit:
                    orbit.add(row[i] % n)
                    waiting.append(row[i] % n)
        left -= orbit
        if len(orbit) > 1 or any(row[i] != i for i in orbit for row in images):
            found.append(sorted(orbit))
    return found


def _recognised(part: PermutationGroup) -> tuple[Group | None, str]:
    order, n = part.order, part.degree
    for points in _faithful(part, order):
        if points >= 3 and order == math.factorial(points):
            return Symmetric(points), f"S_{points}"
        if points >= 4 and 2 * order == math.factorial(points):
            return Alternating(points), f"A_{points}"
    if order == 2:
        return Cyclic(2), "C_2"
    if order == 2**n * math.factorial(n):
        return None, f"B_{n}"
    found = _by_elements(part) if order <= _LISTED else (None, f"group of order {order}")
    return found if found[0] is not None else _without_minus_one(part) or found


def _without_minus_one(part: PermutationGroup) -> tuple[Group | None, str] | None:
    """H × {±1}, where the signs of all elements are those of H, a group of permutations, times plus or minus one."""
    n = part.degree
    plain = part.generators % n
    if not (part.signed and bool(part.contains(torch.arange(n) + n)) and bool(part.contains(plain).all())):
        return None
    inner = PermutationGroup(plain)
    if 2 * inner.order != part.order:
        return None
    value, name = named(inner)
    return (None if value is None else DirectProduct(value, SignFlips(1))), f"{name} × {{±1}}"


def _faithful(part: PermutationGroup, order: int) -> list[int]:
    """Sizes of the orbits of signed points on which the group acts faithfully."""
    n = part.degree
    doubled = torch.cat([part.images, (part.images + n) % (2 * n)], dim=-1)
    points = PermutationGroup(doubled)
    return sorted({len(orbit) for orbit in _orbits(points) if restricted(points, orbit).order == order})


def _by_elements(part: PermutationGroup) -> tuple[Group | None, str]:
    elements = part.elements
    orders = _element_orders(part, elements)
    order, longest = part.order, int(orders.max())
    if longest == order:
        return Cyclic(order), f"C_{order}"
    gens = part.generators
    left, right = part.compose(gens[:, None], gens[None]), part.compose(gens[None], gens[:, None])
    if bool((left == right).all()):
        parts = _invariant_factors(orders.tolist())
        return DirectProduct(*map(Cyclic, parts)), " × ".join(f"C_{k}" for k in parts)
    if 2 * longest == order and _is_dihedral(part, elements, orders, longest):
        return Dihedral(longest), f"D_{longest}"
    return None, f"group of order {order}"


def _element_orders(part: PermutationGroup, elements: Int[Tensor, "m n"]) -> Int[Tensor, " m"]:
    orders = torch.zeros(len(elements), dtype=torch.int64)
    power, identity = elements, part.identity
    for k in range(1, part.order + 1):
        orders = torch.where((orders == 0) & (power == identity).all(-1), k, orders)
        if bool((orders > 0).all()):
            return orders
        power = part.compose(power, elements)
    return orders


def _is_dihedral(part: PermutationGroup, elements: Tensor, orders: Tensor, n: int) -> bool:
    """Whether every element outside the powers of one of order n = |G|/2 is an involution."""
    turn = elements[int((orders == n).nonzero()[0, 0])]
    power, powers = part.identity, set()
    for _ in range(n):
        powers.add(tuple(power.tolist()))
        power = part.compose(power, turn)
    outside = torch.tensor([tuple(row) not in powers for row in elements.tolist()])
    return bool((orders[outside] == 2).all())


def _invariant_factors(orders: list[int]) -> list[int]:
    """Orders of cyclic factors of an abelian group, each a multiple of the next, from its elements' orders."""
    counts, size = Counter(orders), len(orders)
    factors: list[int] = []
    for p in [q for q in range(2, size + 1) if size % q == 0 and all(q % r for r in range(2, q))]:
        ranks, k = [], 1
        while True:  # p^(number of factors of order at least p^k) = |G[p^k]| / |G[p^(k-1)]|
            now = sum(c for o, c in counts.items() if p**k % o == 0)
            before = sum(c for o, c in counts.items() if p ** (k - 1) % o == 0)
            if now == before:
                break
            ranks.append(round(math.log(now / before, p)))
            k += 1
        for i in range(ranks[0]):
            power = p ** sum(rank > i for rank in ranks)
            factors[i : i + 1] = [factors[i] * power] if i < len(factors) else [power]
    return factors
