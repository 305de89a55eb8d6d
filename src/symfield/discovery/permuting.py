r"""Permutations and changes of sign of coordinates that a fitted function allows.

Coefficients of f̂ on x_i, x_i², x_i³, x_i x_j and x_i² x_j narrow down which coordinate may go where: an equivariant
function has equivariant coefficients when the inputs' law is invariant. They are compared up to what two fits on
disjoint halves of the samples differ by. Every permutation that is left is put to the test on held-out samples, so
that the coefficients need not decide; x_i² x_j, unlike x_i x_j, tells a turn of a ring from its reflection.

Where there are several outputs they are moved too, by the assignment that fits best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from symfield import random
from symfield.discovery.automorphisms import Tables, automorphisms
from symfield.discovery.checks import STANDARD_ERRORS, Check, HeldOut
from symfield.discovery.fits import Predictor
from symfield.groups import PermutationGroup
from symfield.typing import Bool, Float, Generator, Int, Tensor

__all__ = ["Found", "check_images", "confirmed", "group_of", "moved_by", "search", "words"]

_DEVIATIONS = 7.0  # differences of two coefficients that count as chance, in standard errors of the least certain one
_PARTS = 6  # of the inputs, at which the two fits take turns
_SHARE = 0.05  # and relative to the largest coefficient, for laws of inputs that are not quite invariant
_REFERENCES = 40_000  # inputs at which coefficients are measured
_COVERED = 0.6
_PRODUCTS = 24  # random elements of a found group that are checked together
_MANY = 5  # outputs from which on their coefficients are compared by size only


@dataclass(frozen=True)
class Found:
    """What a search for permutations has found.

    Attributes:
        images: generators on inputs and outputs together, ``(k, d + o)``: where each coordinate goes, with d + o added
            where the sign changes.
        complete: whether the search ended by itself.
        uncovered: rejected candidates whose images lie where no inputs were seen.
        undecided: rejected candidates that the samples do not contradict.
        tested: candidates that were put to the test.
    """

    images: Int[Tensor, "k n"]
    complete: bool
    uncovered: int
    undecided: int
    tested: int


def search(
    evidence: HeldOut,
    halves: tuple[Predictor, Predictor],
    free: Bool[Tensor, " d"],
    *,
    signs: bool,
    generator: Generator,
    budget: int = 48,
) -> Found:
    """Generators of all permutations that pass the test on held-out samples.

    Args:
        evidence: held-out samples for the test.
        halves: predictors fitted to disjoint halves of the training samples.
        free: inputs that may move.
        signs: whether signs may change too.
        generator: source of randomness.
        budget: failed candidates after which the search for one image gives up.

    Returns:
        The generators.
    """
    d, o = evidence.data.x.shape[1], evidence.data.y.shape[1]
    tables = _tables(halves, _reference(evidence, free, signs=signs, generator=generator), signs=signs, outputs=o > 1)
    uncovered = undecided = 0
    kept: list[list[int]] = []

    def accept(candidate: tuple[int, ...]) -> bool:
        nonlocal uncovered, undecided
        inputs = list(candidate[:d])
        if inputs == list(range(d)):
            return False
        outputs = _outputs_of(evidence, torch.tensor(inputs), signs=signs) if o > 1 else [0]
        images = _joined(inputs, outputs, d, o)
        check = check_images(evidence, torch.tensor(images), d, cover=False)
        if check.holds:
            share = float(evidence.covered(moved_by(evidence.data.x, torch.tensor(inputs))).double().mean())
            if share >= 0.3:
                kept.append(images)
                return True
            uncovered += 1
        elif not check.contradicted:
            undecided += 1
        return False

    fixed = [i for i in range(d) if not bool(free[i])]
    fixed += [i + d for i in fixed] if signs else []
    result = automorphisms(tables, base=range(d), fixed=fixed, accept=accept, budget=budget)
    rows = torch.tensor(kept) if kept else torch.zeros(0, d + o, dtype=torch.int64)
    return Found(rows, result.complete, uncovered, undecided, result.tested)


def moved_by(x: Float[Tensor, "b d"], images: Int[Tensor, " d"]) -> Float[Tensor, "b d"]:
    """Inputs moved by a signed permutation, (gx)_{g(i)} = ± x_i.

    Args:
        x: inputs.
        images: where each coordinate goes, with d added where the sign changes.

    Returns:
        The moved inputs.
    """
    d = x.shape[1]
    moved = torch.empty_like(x)
    moved[:, images % d] = x * (1 - 2 * (images >= d).to(x.dtype))
    return moved


def check_images(evidence: HeldOut, images: Int[Tensor, " n"], d: int, *, cover: bool = True) -> Check:
    """One generator on held-out samples.

    Args:
        evidence: held-out samples.
        images: the generator on inputs and outputs, as in :class:`Found`.
        d: number of inputs.
        cover: whether to leave out images where no inputs were seen.

    Returns:
        The check.
    """
    n = len(images)
    places, flips = images % n, images >= n
    back = _matrix(places[d:] - d, flips[d:]).mT if n - d > 1 else None
    moved = moved_by(evidence.data.x, places[:d] + d * flips[:d])
    columns = (places[:d] != torch.arange(d)) | flips[:d]
    return evidence.check(words(images, d), moved, lambda: evidence.shuffled(columns, back), back, cover=cover)


def confirmed(
    evidence: HeldOut, images: Int[Tensor, "k n"], d: int, *, generator: Generator
) -> tuple[Int[Tensor, "m n"], tuple[Check, ...], int]:
    """The generators that hold on held-out samples, alone and in products of one another.

    Small violations of generators add up in products, so random elements of the group are averaged over; while they
    violate more than chance explains, the generator with the largest violation in standard errors is given up.

    Args:
        evidence: held-out samples that no search has seen.
        images: generators.
        d: number of inputs.
        generator: source of the random elements.

    Returns:
        What is left, the checks of its elements, and how many others the samples do not contradict.
    """
    checks = [check_images(evidence, row, d) for row in images]
    keep = [i for i, check in enumerate(checks) if check.holds]
    while keep:
        group = group_of(images[keep])
        elements = group.sample(_PRODUCTS, generator=generator)
        totals = torch.stack([_excess(evidence, g, d) for g in elements]).mean(0)
        mean, error = float(totals.mean()), float(totals.std()) / len(totals) ** 0.5
        if mean <= STANDARD_ERRORS * error + 1e-9:
            break
        keep.remove(max(keep, key=lambda i: checks[i].effect / max(checks[i].error, 1e-300)))
    undecided = sum(not check.holds and not check.contradicted for check in checks)
    return images[keep], tuple(checks[i] for i in keep), undecided


def _excess(evidence: HeldOut, images: Int[Tensor, " n"], d: int) -> Float[Tensor, " b"]:
    n = len(images)
    places, flips = images % n, images >= n
    back = _matrix(places[d:] - d, flips[d:]).mT if n - d > 1 else None
    return evidence.excess(moved_by(evidence.data.x, places[:d] + d * flips[:d]), back)


def group_of(images: Int[Tensor, "k n"]) -> PermutationGroup:
    """The group that generators generate; the trivial one when there are none.

    Args:
        images: as in :class:`Found`.

    Returns:
        The group on inputs and outputs.
    """
    return PermutationGroup(images if len(images) else torch.arange(images.shape[1])[None])


def _reference(
    evidence: HeldOut, free: Bool[Tensor, " d"], *, signs: bool, generator: Generator
) -> Float[Tensor, "b d"]:
    """Inputs whose law is invariant under all moves of free coordinates where that stays inside what was seen."""
    x, places = evidence.seen, free.nonzero()[:, 0]
    copies = []
    for _ in range(max(2, _REFERENCES // len(x))):
        order = places[random.uniform((len(places),), generator=generator, like=x).argsort()]
        moved = x.clone()
        moved[:, places] = x[:, order]
        if signs:
            moved[:, places] *= 1.0 - 2.0 * random.integers(0, 2, (len(x), len(places)), generator=generator)
        copies.append(moved)
    probe = torch.cat([copy[: 500 // len(copies) + 1] for copy in copies])
    if float(evidence.covered(probe).double().mean()) < _COVERED:
        return x
    mixed = torch.cat(copies)
    return mixed[random.uniform((len(mixed),), generator=generator, like=x).argsort()]


def _tables(halves: Sequence[Predictor], x: Float[Tensor, "b d"], *, signs: bool, outputs: bool) -> Tables:
    channels = []
    for k, part in enumerate(x.chunk(_PARTS)):
        channels.append(_channels(part, halves[k % 2](part), signs=signs, outputs_move=outputs))
    exact = torch.tensor([exact for _, exact in channels[0]])
    stacked = torch.stack([torch.stack([table for table, _ in part]) for part in channels])
    values = stacked.mean(0)
    noise = (stacked.std(0) / len(stacked) ** 0.5).amax((1, 2))
    size = values.abs().amax((1, 2))
    slack = torch.where(exact, 1e-9, _DEVIATIONS * noise + _SHARE * size + 1e-9)
    return Tables(values.numpy(), slack.numpy())


def _channels(x: Tensor, values: Tensor, *, signs: bool, outputs_move: bool) -> list[tuple[Tensor, bool]]:
    """Tables on points (inputs, their negatives, outputs, their negatives), and whether each is exact."""
    d, o = x.shape[1], values.shape[1]
    linear, square, cube, pair, skew = _coefficients(x, values)
    factor_in = torch.tensor([1.0, -1.0] if signs else [1.0], dtype=x.dtype)
    inputs = len(factor_in) * d
    outputs = len(factor_in) * o if outputs_move else 0
    n = inputs + outputs
    found: list[tuple[Tensor, bool]] = []

    def on_inputs(table: Tensor, left: int, right: int) -> Tensor:
        full = torch.zeros(n, n, dtype=x.dtype)
        factors = torch.einsum("s,t->st", factor_in**left, factor_in**right)
        full[:inputs, :inputs] = torch.kron(factors, table.contiguous())
        return full

    def across(table: Tensor, parity: int, *, odd: bool = True) -> Tensor:
        full = torch.zeros(n, n, dtype=x.dtype)
        sign_out = factor_in if odd else torch.ones_like(factor_in)
        full[inputs:, :inputs] = torch.kron(torch.einsum("s,t->st", sign_out, factor_in**parity), table.contiguous())
        return full

    if outputs_move:
        kind = torch.zeros(n, n, dtype=x.dtype)
        kind[inputs:, inputs:] = torch.eye(outputs, dtype=x.dtype)
        found.append((kind, True))
        found += [(across(linear, 1), False), (across(square, 0), False), (across(cube, 1), False)]
        found.append((on_inputs(pair.square().sum(0), 0, 0), False))
        found.append((on_inputs(skew.square().sum(0), 0, 0), False))
        found.append((across(pair.square().sum(2), 0, odd=False), False))
    else:
        for a in range(o) if o < _MANY else ():
            found.append((torch.diag(torch.kron(factor_in, linear[a])), False))
            found.append((torch.diag(square[a].repeat(len(factor_in))), False))
            found.append((torch.diag(torch.kron(factor_in, cube[a])), False))
            found.append((on_inputs(pair[a], 1, 1), False))
            found.append((on_inputs(skew[a], 0, 1), False))
    if signs:
        opposite = torch.zeros(n, n, dtype=x.dtype)
        opposite[:inputs, :inputs] = torch.kron(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(x), torch.eye(d).to(x))
        if outputs_move:
            opposite[inputs:, inputs:] = torch.kron(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(x), torch.eye(o).to(x))
        found.append((opposite, True))
    return found


def _coefficients(x: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Least squares coefficients on x_i (o, d), x_i² (o, d), x_i³ (o, d), x_i x_j and x_i² x_j (o, d, d)."""
    d = x.shape[1]
    x = x / x.square().mean().sqrt().clamp_min(1e-12)
    i, j = torch.triu_indices(d, d, offset=1)
    k, m = (~torch.eye(d, dtype=torch.bool)).nonzero(as_tuple=True)
    columns = [x, x.square(), x[:, i] * x[:, j], x**3, x[:, k].square() * x[:, m]]
    if sum(c.shape[1] for c in columns) > len(x) / 4:
        columns = columns[:3]
    features = torch.cat(columns, dim=-1)
    features = features - features.mean(0)
    spread = features.square().mean(0).sqrt().clamp_min(1e-12)
    z = features / spread
    gram = z.mT @ z / len(z) + 1e-6 * torch.eye(z.shape[1], dtype=x.dtype)
    target = (values - values.mean(0)) / (values - values.mean(0)).square().mean().sqrt().clamp_min(1e-300)
    weights = torch.linalg.solve(gram, z.mT @ target / len(z)).mT
    parts = list(weights.split([c.shape[1] for c in columns], dim=-1))
    o = len(weights)
    pair, skew = torch.zeros(o, d, d, dtype=x.dtype), torch.zeros(o, d, d, dtype=x.dtype)
    pair[:, i, j] = parts[2]
    pair[:, j, i] = parts[2]
    cube = torch.zeros(o, d, dtype=x.dtype)
    if len(parts) > 3:
        cube = parts[3]
        skew[:, k, m] = parts[4]
    return parts[0], parts[1], cube, pair, skew


def _outputs_of(evidence: HeldOut, inputs: Tensor, *, signs: bool) -> list[int]:
    """The signed permutation τ of outputs with f̂(gx) nearest to τ y: image of each output."""
    predicted, y = evidence.predict(moved_by(evidence.data.x, inputs)), evidence.data.y
    o = y.shape[1]
    energy = predicted.square().mean(0)[None] + y.square().mean(0)[:, None]
    cross = y.mT @ predicted / len(y)
    cost = energy - 2 * (cross.abs() if signs else cross)
    if evidence.kinds is not None:
        cost = cost + (evidence.kinds[:, None] != evidence.kinds[None]) * (1 + 1e6 * energy.max())
    rows, columns = linear_sum_assignment(cost.numpy())
    images = np.empty(o, dtype=np.int64)
    images[rows] = columns
    return [int(b) + o * bool(signs and cross[a, b] < 0) for a, b in enumerate(images)]


def _joined(inputs: Sequence[int], outputs: Sequence[int], d: int, o: int) -> list[int]:
    n = d + o
    return [i % d + n * (i >= d) for i in inputs] + [d + a % o + n * (a >= o) for a in outputs]


def _matrix(places: Tensor, flips: Tensor) -> Tensor:
    """τ with (τy)_{place(a)} = ± y_a."""
    o = len(places)
    matrix = torch.zeros(o, o, dtype=torch.float64)
    matrix[places, torch.arange(o)] = 1.0 - 2.0 * flips.double()
    return matrix


def words(images: Tensor, d: int) -> str:
    """Cycles of the inputs, with a minus where a sign changes.

    Args:
        images: a generator on inputs and outputs.
        d: number of inputs.

    Returns:
        Such as "(0 1)(2 −3)".
    """
    n, row, seen, words = len(images), images.tolist(), set(), []
    for start in range(d):
        if start in seen or row[start] == start:
            continue
        cycle, here = [], start
        while here not in seen:
            seen.add(here)
            cycle.append(("−" if row[here] >= n else "") + str(row[here] % n))
            here = row[here] % n
        words.append("(" + " ".join([cycle[-1], *cycle[:-1]]) + ")")
    return "".join(words) or "identity"
