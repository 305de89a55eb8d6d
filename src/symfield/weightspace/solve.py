"""From constraints to factors: which group acts on each space, and with which exponents in which tensors.

For each space, with its occurrences in all values:

1. No diagonal constraint: the gauge is one matrix g. Equalities and dualities say whether an occurrence carries
   g or g^{-T}; gains y = w x conjugate it by diag(w). Norms and self-dualities make it orthogonal, rotary codes
   conformal.
2. Otherwise permutations act, and scales: unknown exponents of all occurrences, subject to homogeneous linear equations
   over the rationals (positive scales) and modulo 2 (signs). A basis of the solutions is the list of factors.
3. The base of a space are the other spaces that occur in every block in which it occurs, and whose units no operator
   mixes in its presence: there each unit of the base has an element of its own.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, product
from math import gcd, lcm

from symfield.weightspace.inference import Constraints, Inference
from symfield.weightspace.spaces import Axis, Tree, leaves, matched, normal
from symfield.weightspace.unification import Irregular, Space

__all__ = ["Found", "Gauge", "solve"]


@dataclass
class Gauge:
    """What acts on one space.

    Attributes:
        space: the space.
        matrix: ``"general"``, ``"orthogonal"``, ``"plane"``, or empty where a permutation acts.
        permutes: whether permutations act.
        frames: for a matrix, each occurrence with its power ±1 and gains.
        scales: exponents of each positive scale factor by occurrence.
        signs: the same for signs.
        base: spaces over which elements are independent.
    """

    space: Space
    matrix: str = ""
    permutes: bool = False
    frames: dict[Axis, tuple[int, tuple[tuple[str, int], ...]]] = field(default_factory=dict)
    scales: list[dict[Axis, int]] = field(default_factory=list)
    signs: list[dict[Axis, int]] = field(default_factory=list)
    base: list[Space] = field(default_factory=list)


@dataclass
class Found:
    """Everything solved.

    Attributes:
        gauges: of the spaces that something moves, by space.
        trees: normal form of every axis of every tensor.
    """

    gauges: dict[Space, Gauge]
    trees: dict[str, list[Tree]]


@dataclass
class _Local:
    """Constraints of one space, between its occurrences."""

    occurrences: dict[Axis, None] = field(default_factory=dict)
    edges: list[tuple[Axis, Axis, int]] = field(default_factory=list)
    linear: dict[str, list[tuple[tuple[Axis, int], ...]]] = field(default_factory=lambda: {"scale": [], "sign": []})
    norms: list[Axis] = field(default_factory=list)
    gains: list[tuple[Axis, Axis, Axis, str]] = field(default_factory=list)
    planes: list[Axis] = field(default_factory=list)
    diagonal: bool = False
    computed: bool = False


def solve(inference: Inference) -> Found:
    """Find the group of every space.

    Args:
        inference: after its walk.

    Returns:
        Gauges and normal forms.
    """
    local = _localise(inference.constraints)
    trees = {name: [normal(axis) for axis in value.axes] for name, value in inference.tensors.items()}
    shown: dict[Space, dict[Axis, None]] = defaultdict(dict)
    for value in inference.tensors.values():
        for leaf in inference.leaves_of(value):
            shown[leaf.space.find()][leaf] = None
            local[leaf.space.find()].occurrences[leaf] = None
    gauges = {}
    for space, places in shown.items():
        if not space.rigid and (gauge := _gauge(space, local[space], list(places), inference)) is not None:
            gauges[space] = gauge
    _bases(inference, gauges)
    _without_repetition(gauges, [tree for axes in trees.values() for tree in axes])
    return Found(gauges, trees)


def _localise(constraints: Constraints) -> dict[Space, _Local]:
    """Constraints between leaves, by space."""
    local: dict[Space, _Local] = defaultdict(_Local)

    def rows(*axes: Axis) -> list[tuple[Axis, ...]]:
        try:
            found = matched(*axes)
        except Irregular:
            for axis in axes:
                axis.space.pin("two layouts that do not fit each other meet here", rigid=True)
            return []
        for row in found:
            for leaf in row:
                local[leaf.space.find()].occurrences[leaf] = None
        return found

    for sign, pairs in ((1, constraints.equal), (-1, constraints.dual)):
        for one, two in pairs:
            for a, b in rows(one, two):
                local[a.space.find()].edges.append((a, b, sign))
    for kind, terms in constraints.linear:
        for row in rows(*(axis for axis, _ in terms)):
            here = local[row[0].space.find()]
            here.diagonal = True
            here.linear[kind].append(tuple((leaf, k) for leaf, (_, k) in zip(row, terms, strict=True)))
    for axis in constraints.diagonal:
        for (leaf,) in rows(axis):
            local[leaf.space.find()].diagonal = True
    for axis in constraints.computed:
        for (leaf,) in rows(axis):
            local[leaf.space.find()].computed = True
    for axis in constraints.norm:
        for (leaf,) in rows(axis):
            local[leaf.space.find()].norms.append(leaf)
    for axis in constraints.planes:
        for (leaf,) in rows(axis):
            local[leaf.space.find()].planes.append(leaf)
    for x, w, y, tensor in constraints.gains:
        found = rows(x, w, y)
        for a, b, c in found:
            # A gain that is one leaf of a vector conjugates matrices; in a longer layout only diagonal gauges remain.
            local[a.space.find()].gains.append((a, b, c, tensor if len(found) == 1 else ""))
    return local


def _gauge(space: Space, here: _Local, places: Sequence[Axis], inference: Inference) -> Gauge | None:
    gauge = Gauge(space)
    root: Axis | None = None
    if not here.diagonal and not space.pinned and space.size > 1 and (framed := _frames(here, places, inference)):
        gauge.matrix, gauge.frames, root = framed
    elif here.planes:
        if here.gains or here.norms:
            space.pin("rotary planes after a norm")
            inference.note("rotary codes after norms: their gains may be scaled against each other; not returned")
        else:
            space.pin("rotary planes next to an operator that is not linear in them")
            inference.note("rotary codes of a part of the entries: turns and scales of their planes are not returned")
        here.linear["scale"] += [((axis, 1),) for axis in here.occurrences]
        here.linear["sign"] += [((axis, 1),) for axis in here.occurrences]
    if here.norms and here.computed and not gauge.matrix and not space.pinned:
        inference.note(
            "a gain that is computed, such as 1 + w, may also be turned with the stream of its norm; not returned"
        )
    gauge.permutes = not gauge.matrix and not space.pinned and space.size > 1
    rows: dict[str, list[tuple[tuple[Axis, int], ...]]] = {kind: list(terms) for kind, terms in here.linear.items()}
    for kind in rows:
        rows[kind] += [((a, 1), (b, -sign)) for a, b, sign in here.edges]
        rows[kind] += [((y, 1), (x, -1), (w, -1)) for x, w, y, _ in here.gains]
        if root is not None:
            rows[kind] += [((axis, 1),) for axis in (root, *here.norms)]
    rows["scale"] += [((axis, 1),) for axis in here.norms]
    gauge.scales = _solutions(rows["scale"], list(here.occurrences), places, modulus=0)
    gauge.signs = _solutions(rows["sign"], list(here.occurrences), places, modulus=2)
    return gauge if gauge.matrix or gauge.permutes or gauge.scales or gauge.signs else None


def _frames(
    here: _Local, places: Sequence[Axis], inference: Inference
) -> tuple[str, dict[Axis, tuple[int, tuple[tuple[str, int], ...]]], Axis] | None:
    """Power and gains of every occurrence of a matrix gauge; None where no matrix group fits them all."""
    vectors = {axis for _, axis, _, _ in here.gains}
    names = [tensor for _, _, _, tensor in here.gains]
    vector = {name: inference.tensors[name].axes for name in names if name}
    if not all(names) or any(len(vector[name]) != 1 or leaves(vector[name][0]) != [w] for _, w, _, name in here.gains):
        return None
    near: dict[Axis, list[tuple[Axis, int, tuple[str, int] | None]]] = defaultdict(list)
    for a, b, sign in here.edges:
        if a in vectors or b in vectors:
            return None
        near[a].append((b, sign, None))
        near[b].append((a, sign, None))
    for x, _, y, tensor in here.gains:
        near[x].append((y, 1, (tensor, 1)))
        near[y].append((x, 1, (tensor, -1)))
    root = (here.norms or here.planes or [axis for axis in places if axis not in vectors])[0]
    frames: dict[Axis, tuple[int, dict[str, int]]] = {root: (1, {})}
    self_dual = False
    waiting = deque([root])
    while waiting:
        axis = waiting.popleft()
        power, gains = frames[axis]
        for other, sign, gain in near[axis]:
            there = {name: sign * k for name, k in gains.items()}
            if gain is not None:
                there[gain[0]] = there.get(gain[0], 0) + gain[1]
            there = {name: k for name, k in there.items() if k}
            if other not in frames:
                frames[other] = (sign * power, there)
                waiting.append(other)
            elif frames[other][1] != there:
                return None
            elif frames[other][0] != sign * power:
                if there:
                    return None
                self_dual = True
    if any(axis not in frames for axis in places if axis not in vectors):
        return None
    if any(axis not in frames or frames[axis][1] for axis in here.norms):
        return None
    matrix = "orthogonal" if here.norms or self_dual else "general"
    if here.planes:
        if matrix == "orthogonal" or here.gains:
            return None
        matrix = "plane"
    if matrix == "orthogonal" and here.gains and self_dual and not here.norms:
        return None
    return matrix, {axis: (power, tuple(sorted(gains.items()))) for axis, (power, gains) in frames.items()}, root


def _solutions(
    rows: Iterable[tuple[tuple[Axis, int], ...]], occurrences: Sequence[Axis], places: Sequence[Axis], *, modulus: int
) -> list[dict[Axis, int]]:
    """A basis of the integer exponents that solve homogeneous equations, restricted to tensors of the model.

    With modulus 2 the arithmetic is that of signs; otherwise that of rational numbers.
    """
    head: dict[Axis, tuple[Axis, int]] = {axis: (axis, 1) for axis in occurrences}

    def find(axis: Axis) -> tuple[Axis, int]:
        sign = 1
        while head[axis][0] is not axis:
            axis, step = head[axis]
            sign *= step
        return axis, sign

    waiting = []
    for terms in rows:  # equalities by union-find, the rest by elimination
        if len(terms) == 2 and abs(terms[0][1]) == abs(terms[1][1]) == 1:
            (a, sa), (b, sb) = find(terms[0][0]), find(terms[1][0])
            if a is not b:
                head[b] = (a, -sa * sb * terms[0][1] * terms[1][1])
                continue
        waiting.append(terms)
    pivots: dict[Axis, dict[Axis, Fraction]] = {}

    def reduced(row: dict[Axis, Fraction]) -> dict[Axis, Fraction]:
        while chosen := next((axis for axis in row if axis in pivots), None):
            k = row[chosen]
            for axis, value in pivots[chosen].items():
                row[axis] = row.get(axis, Fraction(0)) - k * value
            row = {axis: value % modulus if modulus else value for axis, value in row.items()}
            row = {axis: value for axis, value in row.items() if value}
        return row

    for terms in sorted(waiting, key=len):
        row: dict[Axis, Fraction] = {}
        for axis, k in terms:
            rep, sign = find(axis)
            row[rep] = row.get(rep, Fraction(0)) + k * sign
        row = {axis: value % modulus if modulus else value for axis, value in row.items()}
        row = reduced({axis: value for axis, value in row.items() if value})
        if row:
            chosen = next(reversed(row))
            pivot = row[chosen]
            pivots[chosen] = {axis: value / pivot for axis, value in row.items()}
    free = [axis for axis in occurrences if find(axis)[0] is axis and axis not in pivots]
    columns: dict[Axis, dict[Axis, Fraction]] = {}
    for axis in places:  # each exponent as a combination of the free ones
        rep, sign = find(axis)
        columns[axis] = _express(rep, sign, pivots, modulus)
    found: list[dict[Axis, Fraction]] = []
    for unknown in free:
        vector = {axis: row[unknown] for axis, row in columns.items() if row.get(unknown)}
        if vector:
            found.append(vector)
    return [_integers(vector, modulus) for vector in _reduced_basis(found, modulus)]


def _express(rep: Axis, sign: int, pivots: dict[Axis, dict[Axis, Fraction]], modulus: int) -> dict[Axis, Fraction]:
    row = {rep: Fraction(sign)}
    while chosen := next((axis for axis in row if axis in pivots), None):
        k = row.pop(chosen)
        for axis, value in pivots[chosen].items():
            if axis is not chosen:
                row[axis] = row.get(axis, Fraction(0)) - k * value
        row = {axis: value % modulus if modulus else value for axis, value in row.items()}
        row = {axis: value for axis, value in row.items() if value}
    return row


def _reduced_basis(vectors: list[dict[Axis, Fraction]], modulus: int) -> list[dict[Axis, Fraction]]:
    """Independent vectors with the same span, each alone at its first place."""
    basis: list[tuple[Axis, dict[Axis, Fraction]]] = []
    for vector in vectors:
        row = dict(vector)
        for lead, other in basis:
            row = _minus(row, other, row.get(lead, Fraction(0)), modulus)
        if not row:
            continue
        lead = next(iter(row))
        row = {axis: value / row[lead] for axis, value in row.items()}
        basis = [(at, _minus(other, row, other.get(lead, Fraction(0)), modulus)) for at, other in basis]
        basis.append((lead, row))
    return [row for _, row in basis]


def _minus(row: dict[Axis, Fraction], other: dict[Axis, Fraction], k: Fraction, modulus: int) -> dict[Axis, Fraction]:
    if not k:
        return row
    result = dict(row)
    for axis, value in other.items():
        result[axis] = result.get(axis, Fraction(0)) - k * value
    result = {axis: value % modulus if modulus else value for axis, value in result.items()}
    return {axis: value for axis, value in result.items() if value}


def _integers(vector: dict[Axis, Fraction], modulus: int) -> dict[Axis, int]:
    scale = lcm(*(value.denominator for value in vector.values()))
    whole = {axis: int(value * scale) for axis, value in vector.items()}
    common = gcd(*whole.values())
    return {axis: 1 if modulus else value // common for axis, value in whole.items()}


def _without_repetition(gauges: dict[Space, Gauge], trees: Sequence[Tree]) -> None:
    """Drop scales of a base that are scales of the units over it, all alike."""
    beside: dict[Axis, dict[Space, Axis]] = {}
    for tree in trees:
        for factors in _products(tree):
            flat = [part for part in factors if isinstance(part, Axis)]
            for axis in flat:
                beside[axis] = {other.space.find(): other for other in flat}
    for inner in gauges.values():
        for outer in (gauges[space] for space in inner.base if space in gauges):
            for kind, modulus in (("scales", 0), ("signs", 2)):
                span = [_fractions(vector) for vector in getattr(inner, kind)]
                kept = []
                for vector in getattr(outer, kind):
                    below = {beside.get(axis, {}).get(inner.space): k for axis, k in vector.items()}
                    same = {axis: Fraction(k) for axis, k in below.items() if axis is not None}
                    found = len(below) == len(vector) == len(same)
                    if not found or len(_reduced_basis([*span, same], modulus)) > len(span):
                        kept.append(vector)
                setattr(outer, kind, kept)


def _products(tree: Tree) -> Iterator[list[Tree]]:
    if isinstance(tree, tuple):
        if tree[0] == "product":
            yield tree[1]
        for part in tree[1]:
            yield from _products(part)


def _fractions(vector: dict[Axis, int]) -> dict[Axis, Fraction]:
    return {axis: Fraction(k) for axis, k in vector.items()}


def _bases(inference: Inference, gauges: dict[Space, Gauge]) -> None:
    """Over which other spaces the elements of each gauge are independent."""
    around: dict[Space, set[Space]] = {}
    order: dict[Space, int] = {}
    carried = [
        ({leaf.space.find() for axis in axes for leaf in leaves(axis)}, pointed.space.find())
        for axes, pointed in inference.carried
    ]
    for value in [*inference.all_values, *inference.tensors.values()]:
        for block in _blocks([normal(axis) for axis in value.axes]):
            present = set(block)
            present |= {pointed for tokens, pointed in carried if tokens <= present}
            for space in block:
                order.setdefault(space, len(order))
                if space in gauges:
                    around[space] = (around[space] & present) if space in around else set(present)
    for one, two in inference.constraints.independent:
        others = {leaf.space.find() for axis in two for leaf in leaves(axis)}
        others |= {pointed for tokens, pointed in carried if tokens & others}
        for axis in one:
            for leaf in leaves(axis):
                around.get(leaf.space.find(), set()).difference_update(others)
    for space, found in around.items():
        found.discard(space)
        found -= {other for other in found if other.size == 1 or (other in gauges and gauges[other].matrix)}
    for space, found in around.items():  # of two spaces over each other, the outer one is the base
        found -= {other for other in found if space in around.get(other, set()) and order[other] > order[space]}
    changed = True
    while changed:  # the base of a base is a base
        changed = False
        for found in around.values():
            lost = {other for other in found if not around.get(other, set()) <= found}
            found -= lost
            changed = changed or bool(lost)
    for space, gauge in gauges.items():
        gauge.base = sorted(around.get(space, set()), key=order.__getitem__)


def _blocks(trees: Sequence[Tree]) -> list[list[Space]]:
    """The spaces of every block of a value."""
    return [list(chain(*choice)) for choice in product(*(_alternatives(tree) for tree in trees))]


def _alternatives(tree: Tree) -> list[list[Space]]:
    if isinstance(tree, Axis):
        return [[tree.space.find()]]
    inside = [_alternatives(part) for part in tree[1]]
    return list(chain(*inside)) if tree[0] == "concat" else [list(chain(*choice)) for choice in product(*inside)]
