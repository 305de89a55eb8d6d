r"""What a found group means for a linear layer: an equivariant module, and a picture of its shared weights.

The weights of an equivariant map form a linear subspace. Under permutations it is a partition: entries of one class
share one parameter, up to a sign. Under a Lie algebra it is the null space of B W − W A. Both are given as an
:class:`torch.nn.Module`, and the partition as an integer table to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from symfield import random
from symfield.discovery.groups import DiscoveredGroup
from symfield.equivariant import EquivariantLinear, EquivariantWeight
from symfield.groups import hom
from symfield.linalg import Subspace, null_space, signed_orbits
from symfield.typing import Generator, Int, Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sharing", "draw_sharing", "equivariant_layer", "sharing"]


class Sharing(NamedTuple):
    """Which weights of a matrix are one parameter.

    Attributes:
        labels: number of the parameter of each weight, ``(o, d)``; −1 where the weight must vanish.
        signs: 1 or −1: the weight is that parameter times this, ``(o, d)``; 0 where the weight must vanish.
    """

    labels: Int[Tensor, "o d"]
    signs: Int[Tensor, "o d"]

    @property
    def parameters(self) -> int:
        """How many free parameters there are."""
        return int(self.labels.max()) + 1


def sharing(found: DiscoveredGroup) -> Sharing:
    """The sharing of weights of a linear map from inputs to outputs.

    Args:
        found: a group of (signed) permutations of inputs and outputs.

    Returns:
        Labels and signs.

    Raises:
        ValueError: if the group has a continuous part or no permutations.

    Example:
        >>> from symfield.discovery.groups import discover_group
        >>> from symfield.units import PointwiseUnit
        >>> circulant = Subspace.from_orbits(torch.tensor([0, 1, 2, 2, 0, 1, 1, 2, 0]))
        >>> unit = PointwiseUnit(torch.tanh, 3, 3)
        >>> found = discover_group(circulant, unit=unit, generator=random.generator(0))
        >>> found.name, sharing(found).labels.tolist()
        ('C_3', [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    """
    if len(found.algebra) or found.rep_in is None or found.rep_out is None:
        raise ValueError(
            f"expected a group of permutations of inputs and outputs, received {found.name}; the weights of a "
            "continuous group are combinations of parameters: use equivariant_layer"
        )
    maps = hom(found.rep_in, found.rep_out)
    signed = maps.signed_permutation(maps.group.generators)
    assert signed is not None
    orbits = signed_orbits(signed[0].reshape(-1, maps.dim), signed[1])
    shape = (found.rep_out.dim, found.rep_in.dim)
    return Sharing(orbits.labels.reshape(shape), orbits.signs.round().to(torch.int64).reshape(shape))


def equivariant_layer(found: DiscoveredGroup, *, generator: Generator, bias: bool = True) -> nn.Module:
    """A linear layer from inputs to outputs that has the found symmetry whatever its weights.

    Args:
        found: the group.
        generator: source of the initial weights.
        bias: whether to add an invariant bias.

    Returns:
        An ``EquivariantLinear`` for permutations; for a continuous group a ``torch.nn.Linear`` whose weight, and bias,
        are parametrised by the null space of the conditions.

    Raises:
        ValueError: if nothing was found.

    Example:
        >>> from symfield.discovery.groups import discover_group
        >>> x = random.normal((900, 3), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> found = discover_group((x, x * x.square().sum(-1, keepdim=True)), generator=random.generator(1))
        >>> layer = equivariant_layer(found, generator=random.generator(2))
        >>> found.name, torch.allclose(layer.weight, layer.weight[0, 0] * torch.eye(3).double(), atol=1e-6)
        ('O(3)', True)
    """
    if not len(found.algebra):
        if found.rep_in is None or found.rep_out is None:
            raise ValueError(f"expected a symmetry, received {found.verdict}: {found.reason}")
        return EquivariantLinear(found.rep_in, found.rep_out, bias, generator=generator, dtype=torch.float64)
    o, d = found.output_algebra.shape[-1], found.algebra.shape[-1]
    layer = nn.utils.skip_init(nn.Linear, d, o, bias=bias, dtype=torch.float64)
    allowed = _solved(_conditions(found, d, o), o * d)
    with torch.no_grad():
        layer.weight.copy_(random.normal((o, d), generator=generator, like=layer.weight, std=d**-0.5))
        if bias:
            layer.bias.zero_()
    parametrize.register_parametrization(layer, "weight", EquivariantWeight(allowed, (o, d)))
    if bias:
        eye = torch.eye(o, dtype=torch.float64)
        fixed = _solved([*found.output_algebra, *(g - eye for g in found.output_generators)], o)
        parametrize.register_parametrization(layer, "bias", EquivariantWeight(fixed, (o,)))
    return layer


def draw_sharing(pattern: Sharing, x_names: tuple[str, ...] = (), y_names: tuple[str, ...] = ()) -> Figure:
    """A picture of shared weights: one colour a parameter, its number in the cell, a minus where the sign changes.

    Parameters are counted from 1, and a dot is a weight that must vanish.

    Args:
        pattern: the sharing.
        x_names: names of the inputs, for the columns.
        y_names: names of the outputs, for the rows.

    Returns:
        A matplotlib figure.

    Example:
        >>> pattern = Sharing(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1, 1], [1, 1]]))
        >>> len(draw_sharing(pattern).axes)
        1
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    o, d = pattern.labels.shape
    cell = min(0.55, 7.0 / max(o, d))
    figure = Figure(figsize=(max(cell * d, 1.2) + 1.2, max(cell * o, 0.6) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    count = max(pattern.parameters, 1)
    base = colormaps["tab20" if count <= 20 else "turbo"]
    shades = [base(k % 20) if count <= 20 else base((k * 0.618034) % 1.0) for k in range(count)]
    shade = ListedColormap([(0.96, 0.96, 0.97, 1.0), *shades])
    axes.imshow((pattern.labels + 1).numpy(), cmap=shade, vmin=0, vmax=count, aspect="equal", alpha=0.75)
    axes.grid(False)
    if max(o, d) <= 20:
        _numbered(axes, pattern)
    axes.set_xticks(range(d), x_names or [f"x{i}" for i in range(d)], rotation=90 if d > 8 else 0)
    axes.set_yticks(range(o), y_names or [f"y{a}" for a in range(o)])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("inputs")
    axes.set_ylabel("outputs")
    free = pattern.parameters
    axes.set_title(f"{free or 'no'} parameter{'s' * (free != 1)} for {o * d} weights", fontsize=9)
    return figure


def _numbered(axes: Any, pattern: Sharing) -> None:
    for a, row in enumerate(pattern.labels.tolist()):
        for i, label in enumerate(row):
            minus = "−" if int(pattern.signs[a, i]) < 0 else ""
            axes.text(i, a, f"{minus}{label + 1}" if label >= 0 else "·", ha="center", va="center", fontsize=8)


def _conditions(found: DiscoveredGroup, d: int, o: int) -> list[Tensor]:
    """Matrices on W, flattened row by row, that must send it to zero: B W − W A and τ W g⁻¹ − W."""
    eye_in, eye_out = torch.eye(d, dtype=torch.float64), torch.eye(o, dtype=torch.float64)
    pairs = zip(found.algebra, found.output_algebra, strict=True)
    rows = [torch.kron(b.contiguous(), eye_in) - torch.kron(eye_out, a.mT.contiguous()) for a, b in pairs]
    for g, tau in zip(found.generators, found.output_generators, strict=True):
        moved = torch.kron(tau.contiguous(), torch.linalg.inv(g).mT.contiguous())
        rows.append(moved - torch.eye(o * d, dtype=torch.float64))
    return rows


def _solved(conditions: list[Tensor], n: int) -> Subspace:
    """The vectors that all conditions send to zero, up to errors of measured matrices."""
    return null_space(torch.cat(conditions), rtol=1e-2, gap=4.0) if conditions else Subspace.full(n)
