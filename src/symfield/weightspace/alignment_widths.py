"""Models of different widths: units matched by optimal transport.

Between n units of a and k units of b a permutation becomes a coupling T ≥ 0 with row sums 1/n and column sums 1/k. It
carries b into the shapes of a: along an axis that *makes* units (rows of a weight, biases, gains) by n T, the average
of the units that go there; along an axis that *reads* them by k T, which hands the outgoing weight of a unit on to its
successors. So a unit that becomes two keeps its incoming weights and halves its outgoing ones, two equal units become
one with the sum of theirs, and both leave the function as it is; for n = k and a permutation T this is alignment as
usual.

Couplings are found in turn, from the fixed axes on, each by the squared distance of a unit's entries while the other
axes are carried over by the couplings known so far. Blocks, such as attention heads, must agree in number and size.
They are matched last, in the shapes of a, with the gauges that live on them, by weight matching.

References:
    Singh & Jaggi 2020, Model fusion via optimal transport, arXiv 1910.05653 (which averages along both kinds of axes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from symfield.typing import Params, Tensor
from symfield.weightspace.alignment import _checked, is_running_statistic
from symfield.weightspace.assignment import assign
from symfield.weightspace.certify import _without
from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import Concat, Layout, Piece, map_blocks, pieces
from symfield.weightspace.matching import Problem
from symfield.weightspace.matching_permutations import free_permutations
from symfield.weightspace.matching_weights import WeightMatching, identity
from symfield.weightspace.symmetry import Element, ParameterSymmetry

__all__ = ["Transported", "reading_axes", "transport"]


@dataclass(frozen=True)
class Transported:
    """A model carried into the shapes of another.

    Attributes:
        params: the second model with the shapes of the first; new tensors.
        couplings: for each permutation the coupling T, shape ``(n, k)``, float64.
        history: transport cost Σ T_ij ‖a_i − b_j‖² of all spaces after each sweep.
        element: of the first symmetry, by which blocks were moved in the end; empty where there are none.
    """

    params: Params = field(repr=False)
    couplings: dict[str, Tensor] = field(repr=False)
    history: tuple[float, ...]
    element: Element = field(default_factory=dict, repr=False)


def reading_axes(model: nn.Module) -> Callable[[str, int], bool]:
    """Which axes of a model's tensors read hidden units, where others make them.

    Args:
        model: of modules that torch has; a tensor of another module is taken to read along axis 1.

    Returns:
        A function of the name of a tensor and an axis: axis 1 of linear, convolutional and recurrent weights, axis 0 of
        transposed convolutions, none of embeddings.

    Example:
        >>> reads = reading_axes(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)))
        >>> reads("0.weight", 1), reads("1.weight", 1), reads("1.weight", 0)
        (False, True, False)
    """
    kinds: dict[str, int] = {}
    for path, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            if isinstance(module, nn.Embedding | nn.EmbeddingBag) or tensor.ndim < 2:
                kinds[full] = -1
            elif isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                kinds[full] = 0
    return lambda name, axis: kinds.get(name, 1) == axis


@torch.no_grad()
def transport(
    params_a: Mapping[str, Tensor],
    params_b: Mapping[str, Tensor],
    symmetry_a: ParameterSymmetry,
    symmetry_b: ParameterSymmetry,
    *,
    reads: Callable[[str, int], bool] | None = None,
    sweeps: int = 10,
) -> Transported:
    """Carry a model into the shapes of another one, whose hidden layers are wider or narrower.

    Args:
        params_a: tensors of the first model by name.
        params_b: tensors of the second model, same names, other widths.
        symmetry_a: of the first architecture.
        symmetry_b: of the second one; its permutations have the same names.
        reads: whether an axis of a tensor reads units, as :func:`reading_axes` says; by default axis 1.
        sweeps: passes over the permutations at most, until no coupling changes.

    Returns:
        The :class:`Transported`.

    Raises:
        KeyError: if tensors or permutations differ by name.
        ValueError: if a size differs that no plain permutation moves, or a tensor holds NaN or infinity.
        TypeError: if a tensor that the symmetry moves is not of a floating dtype.

    Example:
        >>> from symfield.weightspace import from_axes
        >>> axes = {"up": ("h", None), "down": (None, "h")}
        >>> small, large = (from_axes(axes, {"up": (n, 2), "down": (1, n)}) for n in (2, 4))
        >>> a = {"up": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "down": torch.tensor([[3.0, 5.0]])}
        >>> b = {"up": a["up"][[0, 1, 1, 0]], "down": torch.tensor([[1.0, 2.0, 3.0, 2.0]])}
        >>> transport(a, b, small, large).params["down"].tolist()
        [[3.0, 5.0]]
    """
    a, b = _checked(params_a, symmetry_a, "first"), _checked(params_b, symmetry_b, "second")
    if a.keys() != b.keys():
        raise KeyError(f"the models differ in {sorted(a.keys() ^ b.keys())[:3]}; tensors must have the same names")
    reads = reads or (lambda name, axis: axis == 1)
    one, two = (
        {f.name: f for f in free_permutations(Problem(side, side, symmetry, {}))}
        for side, symmetry in ((a, symmetry_a), (b, symmetry_b))
    )
    if one.keys() != two.keys():
        raise KeyError(f"the symmetries differ in {sorted(one.keys() ^ two.keys())[:3]}; name the permutations alike")
    sizes = {factor.name: (factor.size, two[name].size) for name, factor in one.items()}
    counted = [n for n, t in a.items() if t.is_floating_point() and not is_running_statistic(n) and t.ndim]
    _require_plain(symmetry_a, symmetry_b, counted, sizes)

    couplings: dict[str, Tensor] = {}
    history: list[float] = []
    for _ in range(sweeps):
        before, cost = dict(couplings), 0.0
        for name in _order(symmetry_a, counted, one):
            scores = _cost(name, a, b, symmetry_b, counted, couplings, sizes, reads)
            couplings[name] = _coupling(scores)
            cost += float((couplings[name] * scores).sum())
        history.append(cost)
        if before and all(torch.equal(before[name], couplings[name]) for name in couplings):
            break
    back = symmetry_b.aliases
    params = {}
    for name, value in params_b.items():
        home = back.get(name, name)
        moved = _carried(value, home, symmetry_b.layouts[home], couplings, sizes, reads) if value.ndim else value
        params[name] = moved.to(value.dtype).clone() if moved is value else moved.to(value.dtype)
    element = _blocks(a, params, symmetry_a, counted, one)
    return Transported(symmetry_a.apply(params, element) if element else params, couplings, tuple(history), element)


def _blocks(
    a: Params, carried: Params, symmetry: ParameterSymmetry, tensors: list[str], plain: Mapping[str, Permutation]
) -> Element:
    """Permutations of blocks, with the factors that live over them, that bring the carried model closest."""
    permutations = [f for f in symmetry.factors if isinstance(f, Permutation) and f.name not in plain]
    spaces = {f.space for f in permutations}
    kept = {f.name for f in symmetry.factors if f in permutations or spaces & set(f.base)}
    if not permutations:
        return {}
    blocks = _without(symmetry, [f.name for f in symmetry.factors if f.name not in kept])
    found = WeightMatching(identity)(Problem(a, carried, blocks, dict.fromkeys(tensors, 1.0)))
    return found.element


def _order(symmetry: ParameterSymmetry, tensors: list[str], factors: Mapping[str, Permutation]) -> list[str]:
    """Permutations from the fixed axes on."""
    met = {t: [_names(axis, factors) for axis in symmetry.layouts[t]] for t in tensors}
    order: list[str] = []
    while len(order) < len(factors):
        ready = [
            name
            for name in factors
            if name not in order
            and any(name in set().union(*axes) <= {name, *order} and len(axes) > 1 for axes in met.values())
        ]
        order += ready or [next(name for name in factors if name not in order)]
    return order


def _names(layout: Layout, factors: Mapping[str, object]) -> set[str]:
    return {move.factor for piece, _, _ in pieces(layout) for move in piece.moves} & factors.keys()


def _cost(
    name: str,
    a: Params,
    b: Params,
    symmetry: ParameterSymmetry,
    tensors: list[str],
    couplings: Mapping[str, Tensor],
    sizes: Mapping[str, tuple[int, int]],
    reads: Callable[[str, int], bool],
) -> Tensor:
    """‖a_i − b_j‖² over the entries of units, from tensors whose other permutations are known."""
    n, k = sizes[name]
    total = torch.zeros(n, k, dtype=torch.float64)
    known = {other: t for other, t in couplings.items() if other != name}
    for tensor in tensors:
        axes = symmetry.layouts[tensor]
        met = set().union(*(_names(axis, sizes) for axis in axes))
        if name not in met or not met <= {name, *known}:
            continue
        carried = _carried(b[tensor], tensor, axes, known, sizes, reads)
        widths = {other: sizes[other][0] for other in known}
        # A unit that is split hands on parts of its outgoing weights: compare them per unit of the first model.
        met_by = [name in _names(layout, sizes) and reads(tensor, axis) for axis, layout in enumerate(axes)]
        share = (k / n) ** sum(met_by)
        one = _rows(a[tensor], [_resized(axis, {o: s[0] for o, s in sizes.items()}) for axis in axes], name)
        two = _rows(carried, [_resized(axis, widths) for axis in axes], name)
        for x, y in zip(one, two, strict=True):
            y = share * y
            total += (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.mT).clamp(min=0)
    return total


def _rows(tensor: Tensor, axes: list[Layout], name: str) -> list[Tensor]:
    """The blocks of a tensor that a permutation moves, unit by unit."""
    found: list[Tensor] = []

    def visit(block: Tensor, parts: tuple[tuple[Piece, int], ...]) -> Tensor:
        for dim, (piece, _) in enumerate(parts):
            if any(move.factor == name for move in piece.moves):
                found.append(block.movedim(dim, 0).reshape(block.shape[dim], -1).double())
        return block

    map_blocks(tensor, [(layout, i) for i, layout in enumerate(axes)], visit)
    return found


def _resized(layout: Layout, widths: Mapping[str, int]) -> Layout:
    if isinstance(layout, Piece):
        size = next((widths[move.factor] for move in layout.moves if move.factor in widths), layout.size)
        return Piece(layout.space, size, layout.moves)
    return type(layout)(tuple(_resized(part, widths) for part in layout.parts))


def _carried(
    tensor: Tensor,
    name: str,
    axes: tuple[Layout, ...],
    couplings: Mapping[str, Tensor],
    sizes: Mapping[str, tuple[int, int]],
    reads: Callable[[str, int], bool],
) -> Tensor:
    """A tensor of the second model with some of its spaces in the sizes of the first."""
    for axis, layout in enumerate(axes):
        if _names(layout, couplings):
            maps = {other: t * sizes[other][int(reads(name, axis))] for other, t in couplings.items()}
            tensor = _along(tensor, axis, layout, maps)
    return tensor


def _along(tensor: Tensor, axis: int, layout: Layout, maps: Mapping[str, Tensor]) -> Tensor:
    if isinstance(layout, Piece):
        matrix = next((maps[move.factor] for move in layout.moves if move.factor in maps), None)
        if matrix is None:
            return tensor
        dtype = tensor.dtype if tensor.is_floating_point() else torch.float64
        return torch.tensordot(matrix.to(tensor.device, dtype), tensor.to(dtype), dims=([1], [axis])).movedim(0, axis)
    if isinstance(layout, Concat):
        blocks = tensor.split([part.size for part in layout.parts], dim=axis)
        pairs = zip(blocks, layout.parts, strict=True)
        return torch.cat([_along(block, axis, part, maps) for block, part in pairs], dim=axis)
    spread = tensor.unflatten(axis, [part.size for part in layout.parts])
    for i, part in enumerate(layout.parts):
        spread = _along(spread, axis + i, part, maps)
    return spread.flatten(axis, axis + len(layout.parts) - 1)


def _coupling(cost: Tensor) -> Tensor:
    """The cheapest coupling between equal weights: an assignment where the sizes agree, else by the network simplex."""
    n, k = cost.shape
    if n == k:
        coupling = torch.zeros(n, n, dtype=torch.float64)
        coupling[torch.arange(n), assign(cost).columns] = 1 / n
        return coupling
    import ot  # slow to import

    # Whole portions, so that equal splits come out exactly.
    plan = ot.emd(np.full(n, float(k)), np.full(k, float(n)), cost.numpy(), numItermax=10**7)
    return torch.from_numpy(plan) / (n * k)


def _require_plain(
    one: ParameterSymmetry, two: ParameterSymmetry, tensors: list[str], sizes: Mapping[str, tuple[int, int]]
) -> None:
    for name in tensors:
        left = [_resized(axis, {other: s[1] for other, s in sizes.items()}) for axis in one.layouts[name]]
        for axis, (x, y) in enumerate(zip(left, two.layouts[name], strict=True)):
            if _mobile(x, sizes) != _mobile(y, sizes) or x.size != y.size:
                raise ValueError(
                    f"axis {axis} of {name!r} has {one.shapes[name][axis]} and {two.shapes[name][axis]} entries, and "
                    "no plain permutation says how to carry one into the other; blocks such as heads must agree"
                )


def _mobile(layout: Layout, names: Mapping[str, object]) -> list[tuple[int, set[str]]]:
    return [(piece.size, found) for piece, _, _ in pieces(layout) if (found := _names(piece, names))]
