"""Which permutations of hidden units leave the pattern of fixed entries as it is.

Read a network as a graph, with units as nodes and trainable entries as edges, inputs and outputs fixed. An automorphism
is a permutation of the units of each hidden layer that maps edges to edges. Where there is another one than the
identity, it moves trainable parameters to trainable parameters and leaves the function alone, if fixed entries are
missing edges (κ = 0).

:func:`mask_automorphisms` tries all permutations of a chain of layers. :func:`label_automorphisms` works for any model
whose dense symmetry is known: units get colours by what they are connected to, until nothing changes. Units of one
colour may be exchangeable, units of different colours are not; if all colours of a layer differ, nothing but the
identity is left, which is a proof. What refinement leaves open is tried one by one while that is feasible.

References:
    Lim et al. 2024, Graph metanetworks for processing diverse neural architectures, arXiv 2312.04501 (neural DAG
    automorphisms). Lim et al. 2024, Theorem on W-asymmetric MLPs, arXiv 2405.20231. Colour refinement: Weisfeiler &
    Leman 1968.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from symfield.typing import Bool, Tensor
from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import Piece, map_blocks
from symfield.weightspace.symmetry import Element, ParameterSymmetry, _base_dims

__all__ = ["Automorphisms", "label_automorphisms", "mask_automorphisms"]

_MOST = 2_000_000


def mask_automorphisms(masks: Sequence[Bool[Tensor, "..."]]) -> list[tuple[Tensor, ...]]:
    """All permutations of the hidden units of an MLP that leave its masks unchanged, by trying every one.

    Args:
        masks: of the layers from inputs to outputs, each ``(out, in)``, True where an entry is trainable.

    Returns:
        One tuple for each automorphism: the permutation of every hidden layer, unit i of the result being unit π[i].
        The identity is among them.

    Raises:
        ValueError: if the shapes form no chain, a hidden unit has no trainable entry, so that it need not stay in its
            layer, or there are more than two million permutations.

    Example:
        >>> one = torch.tensor([[True, False], [True, False]])
        >>> two = torch.tensor([[True, True], [False, False]])
        >>> [[p.tolist() for p in found] for found in mask_automorphisms([one, two])]
        [[[0, 1]], [[1, 0]]]
        >>> len(mask_automorphisms([one, torch.tensor([[True, False]])]))
        1
    """
    if not masks or any(mask.ndim != 2 for mask in masks):
        raise ValueError("expected the masks (out, in) of at least one layer")
    if any(a.shape[0] != b.shape[1] for a, b in itertools.pairwise(masks)):
        raise ValueError(f"expected a chain of layers, received shapes {[tuple(mask.shape) for mask in masks]}")
    for i, mask in enumerate(masks[:-1]):
        if not bool(mask.any(1).all()):
            raise ValueError(
                f"unit {int((~mask.any(1)).nonzero()[0, 0])} of layer {i} has no trainable entry: automorphisms need "
                "not keep it in its layer, and the theorem does not apply; fix fewer entries"
            )
    sizes = [len(mask) for mask in masks[:-1]]
    if math.prod(math.factorial(size) for size in sizes) > _MOST:
        raise ValueError(f"there are too many permutations of hidden layers of {sizes} units; use verify_asymmetry")
    found: list[tuple[Tensor, ...]] = []
    last = torch.arange(masks[-1].shape[0])
    for chosen in itertools.product(*(_permutations(size) for size in sizes[:-1])):
        before = torch.arange(masks[0].shape[1])
        fits = True
        for mask, permutation in zip(masks, chosen, strict=False):
            fits = fits and torch.equal(mask[permutation][:, before], mask)
            before = permutation
        if not fits:
            continue
        if not sizes:
            return [()]
        every = torch.stack(list(_permutations(sizes[-1])))  # all of the last hidden layer at once
        rows = (masks[-2][every][:, :, before] == masks[-2]).flatten(1).all(1)
        columns = (masks[-1][last][:, every].movedim(1, 0) == masks[-1]).flatten(1).all(1)
        found += [(*chosen, permutation) for permutation in every[rows & columns]]
    return found


def _permutations(size: int) -> Iterator[Tensor]:
    return (torch.tensor(found) for found in itertools.permutations(range(size)))


@dataclass(frozen=True)
class Automorphisms:
    """What is known of the permutations that preserve labels of all entries.

    Attributes:
        trivial: True if the identity is the only one, False if there is another, None if it was too much to tell.
        method: how it was found.
        undecided: number of units that share their colour with another one.
        example: an element other than the identity that preserves the labels, if one was found.
    """

    trivial: bool | None
    method: str
    undecided: int
    example: Element | None = None


def label_automorphisms(
    symmetry: ParameterSymmetry, labels: Mapping[str, Tensor], *, limit: int = 2000
) -> Automorphisms:
    """Whether a permutation of hidden units other than the identity leaves labels of all entries unchanged.

    Args:
        symmetry: of the dense model, from :func:`symmetries`; its permutations are the candidates.
        labels: integers for the entries of some tensors, in their shapes, such as masks; what is not named has one
            label.
        limit: how many elements are tried one by one where colours leave a choice.

    Returns:
        The :class:`Automorphisms`.

    Raises:
        KeyError: if a label names no tensor of the symmetry.
        ValueError: if its shape is another one.

    Example:
        >>> from symfield.weightspace import from_axes
        >>> symmetry = from_axes({"up": ("h", None), "down": (None, "h")}, {"up": (3, 2), "down": (1, 3)})
        >>> labels = {"up": torch.tensor([[1, 0], [0, 1], [1, 0]]), "down": torch.tensor([[1, 1, 1]])}
        >>> found = label_automorphisms(symmetry, labels)
        >>> found.trivial, found.example["h"].tolist()
        (False, [2, 1, 0])
        >>> label_automorphisms(symmetry, {**labels, "down": torch.tensor([[1, 1, 0]])}).trivial
        True
    """
    for name, label in labels.items():
        if name not in symmetry.shapes:
            raise KeyError(f"label {name!r} belongs to no tensor of the symmetry; name tensors of the dense model")
        if tuple(label.shape) != tuple(symmetry.shapes[name]):
            raise ValueError(
                f"expected labels of shape {tuple(symmetry.shapes[name])} for {name!r}, received {tuple(label.shape)}"
            )
    whole = {name: label.long().cpu() for name, label in labels.items()}
    colours = _refined(symmetry, whole)
    factors = [f for f in symmetry.factors if isinstance(f, Permutation)]
    shared = {f.name: _classes(colours[f.space].reshape(-1, f.size)) for f in factors}
    undecided = sum(len(found) for rows in shared.values() for row in rows for found in row)
    if not undecided:
        return Automorphisms(True, "colour refinement", 0)
    for element in _exchanges(factors, shared):
        if _preserves(symmetry, whole, element):
            return Automorphisms(False, "an exchange of two units of one colour", undecided, element)
    choices = sum(math.lgamma(len(found) + 1) for rows in shared.values() for row in rows for found in row)
    if choices > math.log(limit):
        return Automorphisms(None, f"colour refinement left more than {limit} permutations", undecided)
    for element in _elements(factors, shared):
        if _preserves(symmetry, whole, element):
            return Automorphisms(False, "all permutations that colours allow", undecided, element)
    return Automorphisms(True, "all permutations that colours allow", undecided)


def _preserves(symmetry: ParameterSymmetry, labels: Mapping[str, Tensor], element: Element) -> bool:
    moved = symmetry._apply(labels, element, copy=False)
    return all(torch.equal(moved[name], label) for name, label in labels.items())


def _classes(colours: np.ndarray) -> list[list[np.ndarray]]:
    """For every row the sets of at least two units of one colour."""
    found = []
    for row in colours:
        values, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        found.append([np.flatnonzero(inverse == i) for i in range(len(values)) if counts[i] > 1])
    return found


def _exchanges(factors: Sequence[Permutation], shared: Mapping[str, list[list[np.ndarray]]]) -> Iterator[Element]:
    """Exchanges of two units that share a colour, neighbours in their class."""
    for factor in factors:
        for row, classes in enumerate(shared[factor.name]):
            for units in classes:
                for i, j in itertools.pairwise(units.tolist()):
                    g = factor.identity().reshape(-1, factor.size)
                    g[row, i], g[row, j] = j, i
                    yield {factor.name: g.reshape(factor.shape)}


def _elements(factors: Sequence[Permutation], shared: Mapping[str, list[list[np.ndarray]]]) -> Iterator[Element]:
    """All elements but the identity that move units within their colours."""
    places = [
        (factor, row, units) for factor in factors for row, found in enumerate(shared[factor.name]) for units in found
    ]
    for chosen in itertools.product(*(itertools.permutations(units.tolist()) for _, _, units in places)):
        element: Element = {}
        for (factor, row, units), images in zip(places, chosen, strict=True):
            g = element.setdefault(factor.name, factor.identity())
            g.reshape(-1, factor.size)[row, torch.from_numpy(units)] = torch.tensor(images)
        if any(not torch.equal(g, symmetry_identity) for g, symmetry_identity in _beside_identity(factors, element)):
            yield element


def _beside_identity(factors: Sequence[Permutation], element: Element) -> Iterator[tuple[Tensor, Tensor]]:
    return ((element[factor.name], factor.identity()) for factor in factors if factor.name in element)


@dataclass(frozen=True)
class _Block:
    """A part of a tensor whose axes are single pieces: labels, the spaces of its axes, and the axes of their bases."""

    labels: np.ndarray
    spaces: tuple[str, ...]
    bases: tuple[tuple[int, ...], ...]


def _refined(symmetry: ParameterSymmetry, labels: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Colours of the units of every space, refined until their number stays the same."""
    permutations = {f.space: f for f in symmetry.factors if isinstance(f, Permutation)}
    blocks: list[_Block] = []
    sizes: dict[str, tuple[int, ...]] = {space: f.shape for space, f in permutations.items()}

    def visit(block: Tensor, parts: tuple[tuple[Piece, int], ...]) -> Tensor:
        spaces = tuple(piece.space for piece, _ in parts)
        bases = []
        for dim, (piece, _) in enumerate(parts):
            factor = permutations.get(piece.space)
            moved = factor is not None and any(move.factor == factor.name for move in piece.moves)
            bases.append(tuple(_base_dims(factor.base, parts, dim)) if factor is not None and moved else ())
            if piece.space not in sizes:
                sizes[piece.space] = (piece.size,)
        blocks.append(_Block(block.numpy().astype(np.uint64), spaces, tuple(bases)))
        return block

    for name, label in labels.items():
        map_blocks(label, [(layout, i) for i, layout in enumerate(symmetry.layouts[name])], visit)
    colours = {
        space: _mixed(np.uint64(1 + number), np.arange(math.prod(shape), dtype=np.uint64).reshape(shape))
        if space not in permutations
        else np.full(shape, _mixed(np.uint64(1 + number), np.zeros(1, dtype=np.uint64))[0])
        for number, (space, shape) in enumerate(sizes.items())
    }
    count = _number(colours)
    while True:
        seen = {space: colour.copy() for space, colour in colours.items()}
        for number, block in enumerate(blocks):
            _collect(block, np.uint64(number), colours, seen, permutations)
        colours = {
            space: _mixed(np.uint64(7), colour) if space in permutations else colours[space]
            for space, colour in seen.items()
        }
        if (now := _number(colours)) == count:
            return colours
        count = now


def _collect(
    block: _Block,
    number: np.uint64,
    colours: Mapping[str, np.ndarray],
    seen: dict[str, np.ndarray],
    permutations: Mapping[str, Permutation],
) -> None:
    """Add to every unit what it meets in one block: a sum of hashes of its entries, whatever their order."""
    entry = _mixed(number, block.labels)
    for dim, (space, base) in enumerate(zip(block.spaces, block.bases, strict=True)):
        colour = colours[space]
        if colour.ndim != len(base) + 1:  # a copy of the space whose base is not here
            continue
        order = [*base, dim]
        front = np.moveaxis(np.empty(block.labels.shape, dtype=bool), order, range(len(order)))
        spread = np.broadcast_to(colour.reshape(*colour.shape, *[1] * (front.ndim - len(order))), front.shape)
        entry = _mixed(
            np.uint64(dim), entry ^ _mixed(np.uint64(dim + 11), np.moveaxis(spread, range(len(order)), order))
        )
    for dim, (space, base) in enumerate(zip(block.spaces, block.bases, strict=True)):
        if space not in permutations or seen[space].ndim != len(base) + 1:
            continue
        order = [*base, dim]
        moved = np.moveaxis(entry, order, range(len(order)))
        total = moved.reshape(*moved.shape[: len(order)], -1).sum(-1, dtype=np.uint64)
        seen[space] = seen[space] + _mixed(np.uint64(dim + 101) + (number << np.uint64(8)), total)


def _mixed(salt: np.uint64, values: np.ndarray) -> np.ndarray:
    """A hash of 64 bits, entry by entry (the finalizer of SplitMix64)."""
    with np.errstate(over="ignore"):
        x = values + (salt + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _number(colours: Mapping[str, np.ndarray]) -> int:
    return sum(len(np.unique(colour)) for colour in colours.values())
