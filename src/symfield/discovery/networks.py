r"""The network that all trainings share, and the schemes: which samples it sees, what it averages, what is fixed.

A cloud z of N hidden neurons (W_i, A_i, B_i) has shape ``(*r, N, o + d + 1)``. An equivariant architecture takes h
neurons at a time as one unit W relu(Aᵀx + B) with hidden representation η of dimension h, and holds it in the fixed
points of the intertwining action; neurons that are left over have a trivial η.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from symfield import random
from symfield.equivariant import fixed_points
from symfield.groups import Copies, Group, Permutation, Placed, Regular, Representation, Tensored, Trivial
from symfield.linalg import Subspace
from symfield.meanfield import Loss, Objective, augmented, averaged, squared, vanilla
from symfield.symmetrize import Frame, Poses, Uniform, canonical, uniform
from symfield.typing import Float, Generator, Shaped, Tensor
from symfield.units import HiddenUnit, relu

__all__ = ["KINDS", "Network", "Pool", "Scheme", "hidden_representation", "schemes"]

Kind = Literal["none", "DA", "FA", "frame", "EA"]
KINDS: tuple[Kind, ...] = ("none", "DA", "FA", "frame", "EA")

_EXACT = 64  # order up to which predictions average over every element
_POOL = 512  # Haar draws kept of a larger group


@dataclass(frozen=True)
class Pool:
    """A frame that picks from fixed elements, for every input anew.

    Attributes:
        group: the group.
        elements: all of it, or Haar draws, shape ``(k, *element_shape)``.
        m: elements for an input.
        shared: whether all inputs get the same ones.
    """

    group: Group
    elements: Shaped[Tensor, "k ..."]
    m: int
    shared: bool = False

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """Elements drawn uniformly from the pool, weight 1/m.

        Raises:
            ValueError: if no generator is given.
        """
        if generator is None:
            raise ValueError("a pool draws elements and needs generator=; pass a torch.Generator")
        batch = (1,) * (x.ndim - 1) if self.shared else x.shape[:-1]
        at = random.integers(0, len(self.elements), (self.m, *batch), generator=generator)
        g = self.elements[at]
        return Poses(g, x.new_full((self.m, *(1,) * (x.ndim - 1)), 1 / self.m), self.group.inverse(g))


@dataclass(frozen=True)
class Scheme:
    """One way to train.

    Attributes:
        kind: "none", "DA", "FA", "frame" or "EA".
        group: name of the group, "" for none.
        rep_in: ρ.
        rep_out: ρ̂.
        trains: moves or averages what is trained on; None leaves samples as they are.
        predicts: averages predictions; None predicts with Φ itself.
        averages: whether the frame averages (FA, frame) or augments (DA).
        held: E^G of a unit of h neurons, and of single neurons that are left over; empty when nothing is held.
        hidden: η in words.
        cost_of_training: evaluations of Φ a sample and step.
        cost_of_prediction: evaluations of Φ a prediction.
    """

    kind: Kind
    group: str = ""
    rep_in: Representation | None = None
    rep_out: Representation | None = None
    trains: Frame | None = None
    predicts: Frame | None = None
    averages: bool = False
    held: tuple[tuple[int, Subspace], ...] = ()
    hidden: str = ""
    cost_of_training: int = 1
    cost_of_prediction: int = 1

    @property
    def name(self) -> str:
        """Kind and group."""
        return f"{self.kind} {self.group}" if self.group else self.kind

    def restrict(self, z: Float[Tensor, "*r n p"], *, rescale: bool = False) -> Float[Tensor, "*r n p"]:
        """The cloud with its neurons in E^G.

        Args:
            z: cloud, shape ``(*r, N, p)``.
            rescale: whether entries keep their mean square, as at a random start.

        Returns:
            A cloud of the same shape.
        """
        if not self.held:
            return z
        parts, done = [], 0
        for h, space in self.held:
            count = (z.shape[-2] - done) // h
            part = z[..., done : done + count * h, :].unflatten(-2, (count, h)).mT.flatten(-2)
            projected = space.project(part)
            if rescale:
                projected = projected * math.sqrt(space.ambient_dim / max(space.dim, 1))
            parts.append(projected.unflatten(-1, (z.shape[-1], h)).mT.flatten(-3, -2))
            done += count * h
        return torch.cat(parts, dim=-2)


@dataclass(frozen=True)
class Network:
    """Φ, its loss, and what one step needs.

    Attributes:
        inputs: d.
        outputs: o.
        width: N.
        classes: whether targets are classes; the loss is then the cross-entropy of a softmax.
    """

    inputs: int
    outputs: int
    width: int
    classes: bool
    unit: HiddenUnit = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", HiddenUnit(relu, self.inputs, self.outputs))

    @property
    def loss(self) -> Loss:
        """Squared error, or cross-entropy for classes."""
        return CrossEntropy() if self.classes else squared

    def start(self, seeds: int, *, generator: Generator) -> Float[Tensor, "r n p"]:
        """Random neurons: W ~ N(0, 1), A ~ N(0, 2/d), B = 0.

        Args:
            seeds: number of clouds.
            generator: source of randomness.

        Returns:
            Clouds, float32, shape ``(seeds, N, o + d + 1)``.
        """
        z = random.normal((seeds, self.width, self.unit.dim), generator=generator, like=torch.zeros(()))
        scale = torch.cat(
            [torch.ones(self.outputs), torch.full((self.inputs,), math.sqrt(2 / self.inputs)), torch.zeros(1)]
        )
        return z * scale

    def objective(self, scheme: Scheme) -> Objective:
        """What a scheme minimises, from :mod:`symfield.meanfield`; E^G is kept by :meth:`Scheme.restrict`."""
        loss = self.loss
        if scheme.trains is None:
            return vanilla(self.unit, loss)
        make = averaged if scheme.averages else augmented
        return make(self.unit, loss, scheme.trains, rep_in=scheme.rep_in, rep_out=scheme.rep_out)

    def gradients(
        self,
        schemes: tuple[Scheme, ...],
        z: Float[Tensor, "k r n p"],
        x: Float[Tensor, "r b d"],
        y: Float[Tensor, "r b o"],
        *,
        generator: Generator,
    ) -> Float[Tensor, "k r n p"]:
        """Particle gradients of every scheme; those that see as many samples are one product.

        Args:
            schemes: the schemes.
            z: their clouds.
            x: minibatches.
            y: their targets.
            generator: source of group elements.

        Returns:
            Gradients, shaped like ``z``.
        """
        objectives = [self.objective(scheme) for scheme in schemes]
        virtual = [objective.virtual(x, y, generator=generator) for objective in objectives]
        together: dict[int, list[int]] = {}
        for k, samples in enumerate(virtual):
            together.setdefault(samples.x.shape[-2], []).append(k)
        out = torch.empty_like(z)
        for members in together.values():
            inputs, clouds = torch.stack([virtual[k].x for k in members]), z[members]
            prediction = self.unit.mean(inputs, clouds)
            covectors = [
                objectives[k].cotangent(values, virtual[k]) for k, values in zip(members, prediction, strict=True)
            ]
            out[members] = self.unit.pullback(inputs, clouds, torch.stack(covectors))
        return out

    def raw(self, scheme: Scheme, x: Tensor, z: Tensor, *, generator: Generator) -> Tensor:
        """Φ, or its average over the frame that predicts, before the softmax; ``(*r, b, o)``."""
        if scheme.predicts is None or scheme.rep_in is None or scheme.rep_out is None:
            return self.unit.mean(x, z)
        found = scheme.predicts(x, generator=generator)
        moved = found.move(scheme.rep_in, x)
        return found.restore(scheme.rep_out, self.unit.mean(moved, z))

    def predict(
        self, scheme: Scheme, x: Float[Tensor, "r b d"], z: Float[Tensor, "r n p"], *, generator: Generator
    ) -> Float[Tensor, "r b o"]:
        """Predictions; probabilities where targets are classes.

        Args:
            scheme: how it was trained.
            x: inputs.
            z: clouds.
            generator: source of group elements.

        Returns:
            Shape ``(r, b, o)``.
        """
        value = self.raw(scheme, x, z, generator=generator)
        return value.softmax(-1) if self.classes else value

    def score(
        self, scheme: Scheme, z: Tensor, x: Tensor, y: Tensor, weight: Tensor, *, generator: Generator
    ) -> Float[Tensor, " r"]:
        """The loss of predictions, averaged with weights ``(r, b)``."""
        value = self.raw(scheme, x, z, generator=generator)
        return (self.loss(value, y) * weight).sum(-1)


@dataclass(frozen=True)
class CrossEntropy:
    """−Σ_c y_c log softmax(ŷ)_c of logits ŷ and indicators or probabilities y that sum to one."""

    def __call__(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        """The loss of every sample."""
        return -(target * prediction.log_softmax(-1)).sum(-1)

    def gradient(self, prediction: Float[Tensor, "*b o"], target: Float[Tensor, "*b o"]) -> Float[Tensor, "*b o"]:
        """softmax(ŷ) − y."""
        return prediction.softmax(-1) - target


def schemes(
    rep_in: Representation,
    rep_out: Representation | None = None,
    *,
    outputs: int = 1,
    width: int = 96,
    elements: int = 8,
    hidden: Representation | None = None,
    generator: Generator | None = None,
    name: str = "",
    missing: Callable[[str, str], None] = lambda kind, why: None,
) -> tuple[Scheme, ...]:
    """The five schemes for a group, those that are known for it.

    Args:
        rep_in: ρ on inputs.
        rep_out: ρ̂ on targets; trivial when absent.
        outputs: o, where ``rep_out`` is absent.
        width: N.
        elements: group elements a step for FA, where the group has more.
        hidden: η for EA; chosen by :func:`hidden_representation` when absent.
        generator: source of the poses' direction and of a large group's elements; seed 0 when absent.
        name: of the group; ``str(rep_in.group)`` when empty.
        missing: told which kind is left out, and why.

    Returns:
        none, DA, FA, and where possible frame and EA.

    Raises:
        ValueError: if a representation is not orthogonal or dimensions do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> [scheme.name for scheme in schemes(Defining(Cyclic(4)))]
        ['none', 'DA C_4', 'FA C_4', 'frame C_4', 'EA C_4']
    """
    group = rep_in.group
    rep_out = Trivial(group, outputs) if rep_out is None else rep_out
    if not (rep_in.orthogonal and rep_out.orthogonal):
        raise ValueError(f"expected orthogonal representations, received {rep_in} and {rep_out}; change the bases")
    source = random.generator(0) if generator is None else generator
    name = name or str(group)
    small = group.is_finite and group.order <= _EXACT
    pool = group.elements if group.is_finite and group.order <= _POOL else group.sample(_POOL, generator=source)
    every = uniform(group) if group.is_finite and group.order <= max(elements, 1) else Pool(group, pool, elements)
    whole = uniform(group) if small else Pool(group, pool, _EXACT, shared=True)
    reps = {"group": name, "rep_in": rep_in, "rep_out": rep_out}
    used = group.order if isinstance(every, Uniform) else elements
    found = [
        Scheme("none"),
        Scheme("DA", **reps, trains=Pool(group, pool, 1)),  # type: ignore[arg-type]
        Scheme(
            "FA", **reps, trains=every, predicts=whole, averages=True,  # type: ignore[arg-type]
            cost_of_training=used, cost_of_prediction=group.order if small else _EXACT,
        ),
    ]  # fmt: skip
    try:
        poses = canonical(rep_in, generator=source)
        found.append(Scheme("frame", **reps, trains=poses, predicts=poses, averages=True))  # type: ignore[arg-type]
    except (NotImplementedError, ValueError) as error:
        missing("frame", str(error))
    try:
        eta = hidden_representation(rep_in, width) if hidden is None else hidden
        held = _held(rep_in, rep_out, eta, width)
        found.append(Scheme("EA", **reps, held=held, hidden=str(eta)))  # type: ignore[arg-type]
    except NotImplementedError as error:
        missing("EA", str(error))
    return tuple(found)


def hidden_representation(rep_in: Representation, width: int) -> Representation:
    """How the hidden neurons of an equivariant architecture are permuted.

    The regular representation where eight copies of it fit into the width; else the permutation representation on the
    coordinates, or on the signed coordinate axes, that ρ itself moves; else the regular one if it fits at all.

    Args:
        rep_in: ρ.
        width: N.

    Returns:
        η, a permutation representation.

    Raises:
        NotImplementedError: for infinite groups, and finite ones that are too large and do not permute coordinates.

    Example:
        >>> from symfield.groups import Cyclic, Defining, SignFlips, Symmetric
        >>> [hidden_representation(Defining(group), 96).dim for group in (Cyclic(4), Symmetric(10), SignFlips(8))]
        [4, 10, 16]
    """
    group = rep_in.group
    if group.is_finite and 8 * group.order <= width:
        return Regular(group)
    base = rep_in
    while isinstance(base, (Copies, Placed, Tensored)):  # one set of points, whatever number of features they have
        base = base.inner if isinstance(base, Copies | Placed) else next(
            (factor for factor in base.factors if not isinstance(factor, Trivial)), base.factors[0]
        )  # fmt: skip
    signed = base.signed_permutation(group.generators) if group.is_finite else None
    if signed is not None and 2 * base.dim <= width:
        index, sign = signed
        return base if sign is None else Permutation(group, _axes(index, sign))
    if group.is_finite and group.order <= width:
        return Regular(group)
    raise NotImplementedError(
        f"a pointwise activation needs hidden neurons that the group permutes, and {width} are too few for {group} "
        f"acting by {rep_in}"
    )


def _axes(index: Tensor, sign: Tensor) -> Tensor:
    """How signed permutations move the axes e_1, …, e_d, −e_1, …, −e_d; images of points."""
    d = index.shape[-1]
    source = torch.cat([index, index + d], -1)  # (ρx)_i = sign_i x[index_i]: axis ±index_i goes to ±sign_i e_i
    target = torch.arange(d).expand_as(index)
    plus = torch.where(sign > 0, target, target + d)
    minus = torch.where(sign > 0, target + d, target)
    return torch.zeros_like(source).scatter(-1, source, torch.cat([plus, minus], -1))


def _held(
    rep_in: Representation, rep_out: Representation, eta: Representation, width: int
) -> tuple[tuple[int, Subspace], ...]:
    d, o = rep_in.dim, rep_out.dim
    parts = [(eta.dim, fixed_points(HiddenUnit(relu, d, o, hidden=eta.dim).representation(rep_in, rep_out, eta)))]
    if width % eta.dim and eta.dim > 1:
        parts.append((1, fixed_points(HiddenUnit(relu, d, o).representation(rep_in, rep_out))))
    return tuple(parts)
