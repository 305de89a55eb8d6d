"""A symmetry of the parameters as a value: factors, what they move, and how elements act.

An element g is a dict from factor names to tensors. It acts as g = P L: first the diagonal and matrix factors L, then
the permutations P, those of inner spaces (channels of a head) before those of their base (heads). So g h = P_g P_h
(P_h^{-1} L_g P_h) L_h, which is what :meth:`ParameterSymmetry.compose` computes, and

    apply(compose(g, h), params) = apply(g, apply(h, params)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import torch

from symfield.typing import Generator, Params, Tensor
from symfield.weightspace.factors import Factor, Permutation, _Matrix
from symfield.weightspace.layout import Layout, Move, Piece, map_blocks, pieces

__all__ = ["Element", "Face", "ParameterSymmetry", "Slot"]

Element: TypeAlias = dict[str, Tensor]
"""An element of a symmetry by factor name; a missing factor is at its identity."""


class Slot(NamedTuple):
    """One place where a factor moves entries.

    Attributes:
        tensor: name of the tensor.
        axis: its axis.
        offset: entry of the axis where the first unit begins.
        stride: entries from one unit to the next.
        move: what the factor does there.
    """

    tensor: str
    axis: int
    offset: int
    stride: int
    move: Move


class Face(NamedTuple):
    """The entries that a factor moves through one slot, unit by unit.

    Attributes:
        slot: the place.
        values: tensor ``(*base, n, m)``: for each unit the m entries that move with it.
    """

    slot: Slot
    values: Tensor


@dataclass(frozen=True)
class ParameterSymmetry:
    """A product of factors that act on named tensors and leave the function of the model unchanged.

    Attributes:
        factors: in the order of the tensors that they move.
        layouts: for each tensor the layout of every axis, with the moves of every piece.
        shapes: shape of each tensor.
        aliases: names of tied tensors, each to the name that stands for it in ``layouts``.
        report: what is fixed and why, and the certificate; None for a symmetry made by hand.
    """

    factors: tuple[Factor, ...]
    layouts: Mapping[str, tuple[Layout, ...]] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict, repr=False)
    report: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f.name}: {f.group}' for f in self.factors) or 'trivial'})"

    def __hash__(self) -> int:
        return hash((self.factors, tuple(self.shapes)))

    def __getitem__(self, name: str) -> Factor:
        """The factor of that name.

        Raises:
            KeyError: if there is none.
        """
        for factor in self.factors:
            if factor.name == name:
                return factor
        raise KeyError(f"no factor {name!r}; there are {[factor.name for factor in self.factors]}")

    @cached_property
    def _by_name(self) -> dict[str, Factor]:
        return {factor.name: factor for factor in self.factors}

    @cached_property
    def _permutations(self) -> dict[str, Permutation]:
        return {factor.space: factor for factor in self.factors if isinstance(factor, Permutation)}

    @cached_property
    def _moved(self) -> frozenset[str]:
        return frozenset(
            name for name, axes in self.layouts.items() if any(piece.moves for a in axes for piece, _, _ in pieces(a))
        )

    @cached_property
    def _touched(self) -> dict[str, frozenset[str]]:
        """Tensors that each factor moves."""
        found: dict[str, set[str]] = {factor.name: set() for factor in self.factors}
        for name, axes in self.layouts.items():
            for layout in axes:
                for piece, _, _ in pieces(layout):
                    for move in piece.moves:
                        found[move.factor].add(name)
        return {factor: frozenset(names) for factor, names in found.items()}

    @property
    def dimension(self) -> int:
        """Number of continuous parameters of the group."""
        return sum(factor.dimension for factor in self.factors)

    @property
    def log_order(self) -> float:
        """Natural logarithm of the order of the discrete factors."""
        return sum(factor.log_order for factor in self.factors)

    @cached_property
    def coverage(self) -> float:
        """Share of all entries of tensors that some factor moves."""
        free = total = 0
        for name, axes in self.layouts.items():
            mask = torch.zeros(self.shapes[name], dtype=torch.bool)
            free += int(_free(mask, axes).sum()) if name in self._moved else 0
            total += mask.numel()
        return free / total if total else 0.0

    def slots(self, name: str) -> tuple[Slot, ...]:
        """Where a factor moves entries.

        Args:
            name: of the factor.

        Returns:
            Its slots, tied tensors once.
        """
        self[name]
        return tuple(
            Slot(tensor, axis, offset, stride, move)
            for tensor, axes in self.layouts.items()
            for axis, layout in enumerate(axes)
            for piece, offset, stride in pieces(layout)
            for move in piece.moves
            if move.factor == name
        )

    def table(self, *, slots: int = 3) -> str:
        """The factors as a table to read.

        Args:
            slots: how many tensors of a factor are named in its row.

        Returns:
            One line a factor: its name, its group, and ``tensor.axis`` of what it moves. A power other than 1 follows
            as ``^-1``; ``@`` is the offset in the axis and ``:`` the stride, where they are not 0 and 1.
        """
        rows = [("factor", "group", "moves")]
        for factor in self.factors:
            found = self.slots(factor.name)
            shown = [_slot_text(slot) for slot in found[:slots]]
            more = [f"and {len(found) - slots} more"] if len(found) > slots else []
            base = f" over {', '.join(name.rsplit('.')[-1] for name in factor.base)}" if factor.base else ""
            rows.append((factor.name, factor.group + base, ", ".join([*shown, *more])))
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]
        lines.append(
            f"{len(self.factors)} factors, continuous dimension {self.dimension}, log order {self.log_order:.1f}, "
            f"{100 * self.coverage:.1f} % of entries free to move"
        )
        return "\n".join(lines)

    def identity(self) -> Element:
        """The element that moves nothing."""
        return {factor.name: factor.identity() for factor in self.factors}

    def random_element(self, *, generator: Generator) -> Element:
        """A random element, every factor at random; Haar distributed where a factor is compact.

        Args:
            generator: source of randomness.

        Returns:
            The element, in float64 and int64.
        """
        return {factor.name: factor.random_element(generator=generator) for factor in self.factors}

    def compose(self, g: Mapping[str, Tensor], h: Mapping[str, Tensor]) -> Element:
        """The element g h: first h, then g.

        Args:
            g: an element; permutations as index tensors.
            h: an element; permutations as index tensors.

        Returns:
            Element with ``apply(params, compose(g, h)) == apply(apply(params, h), g)``.
        """
        g, h = self._complete(g), self._complete(h)
        back = self._inverse_permutations(h)
        return {
            factor.name: factor.compose(self._reindex(factor, g[factor.name], back), h[factor.name])
            for factor in self.factors
        }

    def invert(self, g: Mapping[str, Tensor]) -> Element:
        """The element that undoes g.

        Args:
            g: an element; permutations as index tensors.

        Returns:
            Element with ``compose(invert(g), g)`` at the identity.
        """
        g = self._complete(g)
        inverse: Element = {}
        for factor in self.factors:
            inverse[factor.name] = self._reindex(factor, factor.invert(g[factor.name]), g)
        return inverse

    def apply(self, params: Mapping[str, Tensor], element: Mapping[str, Tensor]) -> Params:
        """Move the parameters; the function of the model stays the same.

        Differentiable in the parameters, and in scales and matrices of the element. Permutations may also be given as
        matrices ``(*base, n, n)``, such as doubly stochastic ones, to differentiate through them.

        Args:
            params: tensors by name, buffers included, as in ``model.state_dict()``; of tied names one is enough.
            element: tensors by factor name; missing factors are at their identity.

        Returns:
            New tensors under the same names; the inputs are not modified and share no memory with the result.

        Raises:
            KeyError: if a tensor is missing or unknown, or the element names an unknown factor.
            ValueError: if a shape is wrong, a tensor to be moved holds NaN, or the element is none.
            TypeError: if a tensor to be moved is not of a floating dtype.
        """
        for name, g in element.items():
            if name not in self._by_name:
                raise KeyError(f"the element names {name!r}; the factors are {list(self._by_name)}")
            self._by_name[name].require(g)
        self._check(params)
        return self._apply(params, element, copy=True)

    def _apply(self, params: Mapping[str, Tensor], element: Mapping[str, Tensor], *, copy: bool) -> Params:
        """:meth:`apply` without its checks; tensors that stay as they are may be shared."""
        touched = {name for factor in element for name in self._touched[factor]}
        return {
            name: self._move(tensor, self.aliases.get(name, name), params, element)
            if self.aliases.get(name, name) in touched
            else (tensor.clone() if copy else tensor)
            for name, tensor in params.items()
        }

    def unfold(self, params: Mapping[str, Tensor], name: str) -> tuple[Face, ...]:
        """All entries that a factor moves, unit by unit: what alignment compares.

        Args:
            params: tensors by name.
            name: of the factor.

        Returns:
            One face for every slot, in the order of :meth:`slots`; tensors ``(*base, n, m)`` with m entries a unit.

        Raises:
            KeyError: if there is no such factor or a tensor is missing.
        """
        factor = self[name]
        slots = [slot for slot in self.slots(name) if not slot.tensor.startswith(("input.", "output."))]
        places: dict[tuple[str, int], int] = {}
        for slot in slots:
            places[slot.tensor, slot.axis] = places.get((slot.tensor, slot.axis), 0) + 1
        faces: list[Tensor] = []
        for (home, axis), count in places.items():
            blocks = self._blocks(factor, params, home, axis)
            each = len(blocks) // count  # pieces of other axes that a slot runs along
            faces += [torch.cat(blocks[k * each : (k + 1) * each], -1) for k in range(count)]
        return tuple(Face(slot, values) for slot, values in zip(slots, faces, strict=True))

    def _blocks(self, factor: Factor, params: Mapping[str, Tensor], home: str, axis: int) -> list[Tensor]:
        """What a factor moves along one axis of one tensor, slot after slot, each cut where other axes are."""
        found = [key for key in (home, *(a for a, b in self.aliases.items() if b == home)) if key in params]
        if not found:
            raise KeyError(f"tensor {home!r} is missing; it is moved by {factor.name!r}")
        layouts, cut = self.layouts[home], []

        def visit(block: Tensor, parts: tuple[tuple[Piece, int], ...]) -> Tensor:
            for dim, (piece, place) in enumerate(parts):
                if place == axis and any(move.factor == factor.name for move in piece.moves):
                    front = [*_base_dims(factor.base, parts, dim), dim]
                    moved = block.movedim(front, list(range(len(front))))
                    cut.append(moved.reshape(*moved.shape[: len(front)], -1))
            return block

        order = [axis, *(i for i in range(len(layouts)) if i != axis)]  # this axis is cut first, the others within it
        map_blocks(params[found[0]].permute(order), [(layouts[i], i) for i in order], visit)
        return cut

    def _check(self, params: Mapping[str, Tensor]) -> None:
        known = set(self.layouts) | set(self.aliases)
        if unknown := [name for name in params if name not in known]:
            raise KeyError(f"tensor {unknown[0]!r} is not part of the traced model; remove it, or trace its own model")
        present = {self.aliases.get(name, name) for name in params}
        for name, shape in self.shapes.items():
            if name not in present and not name.startswith(("input.", "output.")):
                raise KeyError(f"tensor {name!r} is missing; pass all of model.state_dict()")
            for key in params.keys() & {name, *(a for a, b in self.aliases.items() if b == name)}:
                if tuple(params[key].shape) != tuple(shape):
                    raise ValueError(
                        f"expected shape {tuple(shape)} for tensor {key!r}, received {tuple(params[key].shape)}; "
                        "both models must have the same architecture"
                    )
        for name, tensor in params.items():
            if self.aliases.get(name, name) not in self._moved:
                continue
            if not tensor.is_floating_point():
                raise TypeError(f"tensor {name!r} is {tensor.dtype}; expected a floating dtype, convert it first")
            if bool(tensor.isnan().any()):
                raise ValueError(f"tensor {name!r} holds NaN; repair or retrain the model before moving it")

    def _move(self, tensor: Tensor, home: str, params: Mapping[str, Tensor], element: Mapping[str, Tensor]) -> Tensor:
        visit = partial(self._act, params, element)
        moved = map_blocks(tensor, [(layout, i) for i, layout in enumerate(self.layouts[home])], visit)
        return moved.clone() if moved.data_ptr() == tensor.data_ptr() else moved

    def _act(
        self,
        params: Mapping[str, Tensor],
        element: Mapping[str, Tensor],
        block: Tensor,
        parts: tuple[tuple[Piece, int], ...],
    ) -> Tensor:
        """Move one block: matrices, then scales, then permutations, inner ones first."""
        work = [
            (factor.stage, -len(factor.base), dim, move, factor)
            for dim, (piece, _) in enumerate(parts)
            for move in piece.moves
            if (factor := self._by_name[move.factor]).name in element
        ]
        for _, _, dim, move, factor in sorted(work, key=itemgetter(0, 1, 2)):
            base = _base_dims(factor.base, parts, dim)
            g = element[factor.name]
            if isinstance(factor, _Matrix):
                block = factor.act(block, dim, base, g, move.power, self._gain(move, params, block))
            else:
                block = factor.act(block, dim, base, g, move.power)
        return block

    def _gain(self, move: Move, params: Mapping[str, Tensor], block: Tensor) -> Tensor | None:
        if not move.gains:
            return None
        gain: Tensor | None = None
        for name, exponent in move.gains:
            value = params[name].to(block.device, block.dtype)
            if bool((value == 0).any()):
                raise ValueError(
                    f"tensor {name!r} holds a zero, so {move.factor!r} is not defined; leave this factor out of the "
                    "element, or make the entry nonzero"
                )
            gain = value**exponent if gain is None else gain * value**exponent
        return gain

    def _complete(self, g: Mapping[str, Tensor]) -> Element:
        for name, value in g.items():
            self[name].require(value)
        return {factor.name: g[factor.name] if factor.name in g else factor.identity() for factor in self.factors}

    def _inverse_permutations(self, g: Mapping[str, Tensor]) -> Element:
        permutations = self._permutations.values()
        return {factor.name: self._reindex(factor, factor.invert(g[factor.name]), g) for factor in permutations}

    def _reindex(self, factor: Factor, value: Tensor, permutations: Mapping[str, Tensor]) -> Tensor:
        """Conjugate an element of one factor by permutations: the units that index it are renamed."""
        spaces = factor.base if isinstance(factor, Permutation | _Matrix) else (*factor.base, factor.space)
        movers = [
            (-len(mover.base), dim, mover)
            for dim, space in enumerate(spaces)
            if (mover := self._permutations.get(space)) is not None
        ]
        for _, dim, mover in sorted(movers, key=lambda item: item[:2]):
            base = [spaces.index(space) for space in mover.base]
            value = mover.act(value, dim, base, permutations[mover.name], 1)
        return value


def _base_dims(base: Sequence[str], parts: Sequence[tuple[Piece, int]], dim: int) -> list[int]:
    """Axes of a block that hold the base of a piece: in the same axis of the tensor if possible, else in another."""
    axis = parts[dim][1]
    found = []
    for space in base:
        places = [i for i, (piece, _) in enumerate(parts) if piece.space == space]
        found.append(min(places, key=lambda i: (parts[i][1] != axis, abs(i - dim))))
    return found


def _free(mask: Tensor, axes: Sequence[Layout]) -> Tensor:
    def visit(block: Tensor, parts: tuple[tuple[Piece, int], ...]) -> Tensor:
        return torch.ones_like(block) if any(piece.moves for piece, _ in parts) else block

    return map_blocks(mask, [(layout, i) for i, layout in enumerate(axes)], visit)


def _slot_text(slot: Slot) -> str:
    place = f"@{slot.offset}" if slot.offset else ""
    stride = f":{slot.stride}" if slot.stride != 1 else ""
    power = f"^{slot.move.power}" if slot.move.power != 1 else ""
    return f"{slot.tensor}.{slot.axis}{place}{stride}{power}"
