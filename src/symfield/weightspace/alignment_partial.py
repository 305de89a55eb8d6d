"""Partial merging: units of two models that answer alike become one, as far up the network as the user wants.

Of the 2n units of both models in a hidden space, those that correlate most are merged, two by two, also two of the same
model; so no unit is forced upon a partner of the other model that does something else. With the n merged units as
averages, M (n × 2n, rows sum to 1), and U (2n × n, ones) handing each of them to its members, a tensor that makes one
merged space and reads another becomes

    M · diag(W_a, W_b) · U.

A tensor whose own units stay apart but which reads a merged space becomes W_a U_a in the first model and W_b U_b in
the second: the models share their lower part and keep their own heads. Equal units merge without any change of the
function.

References:
    Stoica et al. 2024, ZipIt! Merging models from different tasks without training, arXiv 2305.03053 (its matching with
    no repeated merges, greedily by correlation).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from symfield.typing import Params, Tensor
from symfield.weightspace.alignment import _checked
from symfield.weightspace.alignment_widths import _along, _names, reading_axes
from symfield.weightspace.assignment import assign
from symfield.weightspace.factors import Permutation
from symfield.weightspace.layout import Layout
from symfield.weightspace.matching import Problem
from symfield.weightspace.matching_activations import activations, correlation
from symfield.weightspace.matching_permutations import free_permutations
from symfield.weightspace.symmetry import ParameterSymmetry

__all__ = ["Zipped", "zip_models"]


@dataclass(frozen=True)
class Zipped:
    """Two models that share their merged part.

    Attributes:
        params_a: the first model: merged tensors, and its own that read merged units.
        params_b: the second model.
        shared: names of the tensors that both have in common.
        members: for each merged space, which two of its 2n units every merged unit is, shape ``(n, 2)``; units of the
            second model are counted from n on.
        correlations: of the two members of every merged unit, shape ``(n,)``; 0 where one of them never changes.
    """

    params_a: Params = field(repr=False)
    params_b: Params = field(repr=False)
    shared: tuple[str, ...]
    members: dict[str, Tensor] = field(repr=False)
    correlations: dict[str, Tensor] = field(repr=False)


@torch.no_grad()
def zip_models(
    model_a: nn.Module,
    model_b: nn.Module,
    inputs: Any,
    symmetry: ParameterSymmetry,
    *,
    spaces: Collection[str] | None = None,
    within: bool = True,
) -> Zipped:
    """Merge the units of two models that answer alike to the same inputs, in some or all hidden spaces.

    Args:
        model_a: the first model; it is run, not changed.
        model_b: the second model of the same architecture.
        inputs: a batch, or a tuple of arguments.
        symmetry: of the architecture.
        spaces: names of the permutations whose units are merged; those that hooks can see when None. Merge those next
            to the input and leave out the rest for a shared trunk with two heads.
        within: whether two units of one model may merge too.

    Returns:
        The :class:`Zipped`.

    Raises:
        KeyError: if a name is no plain permutation.
        ValueError: if a name permutes blocks such as heads, no module shows the units of a space, a tensor makes merged
            units out of hidden units that are not merged, or a tensor holds NaN.
        TypeError: if a tensor that the symmetry moves is not of a floating dtype.

    Example:
        >>> from symfield.weightspace import symmetries
        >>> one, two = (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2))
        >>> x = torch.linspace(-1, 1, 20).reshape(10, 2)
        >>> zipped = zip_models(one, two, x, symmetries(one, x))
        >>> zipped.shared
        ('0.weight', '0.bias')
    """
    a, b = (_checked(m.state_dict(), symmetry, which) for m, which in ((model_a, "first"), (model_b, "second")))
    plain = {f.name: f for f in free_permutations(Problem(a, b, symmetry, {}))}
    units = [_units(model, inputs, symmetry, plain) for model in (model_a, model_b)]
    seen = [name for name in plain if name in units[0]]
    chosen = seen if spaces is None else list(spaces)
    every = [f.name for f in symmetry.factors if isinstance(f, Permutation)]
    if blocks := [name for name in chosen if name in every and name not in plain]:
        raise ValueError(
            f"{blocks[0]!r} permutes blocks that carry factors of their own, such as attention heads; these cannot be "
            f"zipped: bring the models together by align first, and leave it out of spaces. There are {list(plain)}"
        )
    if unknown := [name for name in chosen if name not in plain]:
        raise KeyError(f"no plain permutation {unknown[0]!r}; there are {list(plain)}")
    if unseen := [name for name in chosen if name not in seen]:
        raise ValueError(f"no module shows the units of {unseen[0]!r}; leave it out of spaces")
    members, correlations = {}, {}
    for name in chosen:
        members[name], correlations[name] = _paired(units[0][name], units[1][name], within)

    reads = reading_axes(model_a)
    shared, made_a, made_b = [], {}, {}
    for name in a:
        axes = symmetry.layouts[name]
        one, two, common = _zipped(a[name], b[name], name, axes, members, plain, reads)
        made_a[name], made_b[name] = one, two
        if common:
            shared.append(name)
    for made, model in ((made_a, model_a), (made_b, model_b)):
        for name, tensor in model.state_dict().items():
            made[name] = made[symmetry.aliases.get(name, name)].to(tensor.dtype)
    return Zipped(made_a, made_b, tuple(shared), members, correlations)


def _zipped(
    a: Tensor,
    b: Tensor,
    name: str,
    axes: tuple[Layout, ...],
    members: Mapping[str, Tensor],
    plain: Mapping[str, Permutation],
    reads: Callable[[str, int], bool],
) -> tuple[Tensor, Tensor, bool]:
    """A tensor of both models, and whether it is one and the same."""
    made = [axis for axis, layout in enumerate(axes) if _names(layout, members) and not reads(name, axis)]
    one, two = a, b
    for axis, layout in enumerate(axes):
        met = _names(layout, members)
        if met and reads(name, axis):
            handed = {other: _handing(members[other]) for other in met}
            one = _along(one, axis, layout, {other: u[0].mT for other, u in handed.items()})
            two = _along(two, axis, layout, {other: u[1].mT for other, u in handed.items()})
    if made and (apart := set().union(*(_names(layout, plain) for layout in axes)) - members.keys()):
        raise ValueError(
            f"tensor {name!r} makes units of {sorted(_names(axes[made[0]], members))} that are merged, from "
            f"units of {sorted(apart)} that are not; merge these too, or leave the former out of spaces"
        )
    if not made:
        return one.clone(), two.clone(), False
    if len(made) > 1:
        raise ValueError(f"tensor {name!r} makes merged units along axes {made}; leave one of their spaces out")
    axis = made[0]
    met = _names(axes[axis], members)
    averaged = {other: _handing(members[other], mean=True) for other in met}
    one = _along(one, axis, axes[axis], {other: m[0].mT for other, m in averaged.items()})
    two = _along(two, axis, axes[axis], {other: m[1].mT for other, m in averaged.items()})
    return one + two, (one + two).clone(), True


def _handing(members: Tensor, *, mean: bool = False) -> tuple[Tensor, Tensor]:
    """U_a and U_b, shape ``(n, n)`` each, units by merged units; with ``mean`` the transposes of both halves of M."""
    n = len(members)
    matrix = torch.zeros(2 * n, n, dtype=torch.float64)
    for column in range(2):
        matrix[members[:, column], torch.arange(n)] = 0.5 if mean else 1.0
    return matrix[:n], matrix[n:]


def _units(
    model: nn.Module, inputs: Any, symmetry: ParameterSymmetry, plain: Mapping[str, Permutation]
) -> dict[str, Tensor]:
    """Standardised activations ``(units, samples)`` of every space that a module shows whole along its channels."""
    seen, layouts = activations(model, inputs, symmetry)
    rows: dict[str, Tensor] = {}
    kept = {name: axes for name, axes in layouts.items() if any(_names(axis, plain) for axis in axes)}
    standard = {name: correlation(seen[name].double()) for name in kept}
    shapes = {name: tuple(value.shape) for name, value in standard.items()}
    features = ParameterSymmetry(tuple(f for f in symmetry.factors if isinstance(f, Permutation)), kept, shapes)
    for name in plain:
        if found := [face.values for face in features.unfold(standard, name)]:
            rows[name] = torch.cat(found, 1)
    return rows


def _paired(one: Tensor, two: Tensor, within: bool) -> tuple[Tensor, Tensor]:
    """Pairs of the 2n units, those of largest correlation first, and their correlations."""
    n = len(one)
    both = torch.cat([one, two])
    norms = both.norm(dim=1, keepdim=True)
    both = both / torch.where(norms > 0, norms, 1)
    scores = both @ both.mT
    if not within:
        partner = assign(scores[:n, n:], maximize=True).columns
        pairs = torch.stack([torch.arange(n), n + partner], 1)
        return pairs, scores[pairs[:, 0], pairs[:, 1]]
    left = scores.clone().fill_diagonal_(-torch.inf)
    index = torch.arange(2 * n)
    found: list[Tensor] = []
    while sum(map(len, found)) < n:
        best = left.argmax(1)
        first = index[(best[best] == index) & (index < best) & (left[index, best] > -torch.inf)]
        pairs = torch.stack([first, best[first]], 1)  # each the other's best: what greedy merging takes in the end
        found.append(pairs)
        left[pairs.flatten()] = -torch.inf
        left[:, pairs.flatten()] = -torch.inf
    pairs = torch.cat(found)
    pairs = pairs[pairs[:, 0].argsort()]
    return pairs, scores[pairs[:, 0], pairs[:, 1]]
