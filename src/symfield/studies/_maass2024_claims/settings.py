"""Five groups with units on which they act, and random laws and samples for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import torch

from symfield import random
from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Group, Planar, Regular, Representation, SignFlips, Symmetric, Trivial
from symfield.linalg import Subspace
from symfield.meanfield import (
    Loss,
    Objective,
    Squared,
    augmented,
    averaged,
    averaged_ensemble,
    constrained,
    equivariance_gap,
    orbit,
    project,
    vanilla,
)
from symfield.symmetrize import Uniform, augment, uniform
from symfield.typing import Generator, Tensor
from symfield.units import HiddenUnit, PointwiseUnit, Unit, action, sigmoid, tanh

__all__ = ["SETTINGS", "Draw", "Sample", "Setting", "SettingName", "setting"]

SettingName = Literal["swap", "shifts", "sets", "signs", "turns"]

#: Names of the settings; ``swap`` is the paper's, ``turns`` that of its Proposition 4.
SETTINGS: tuple[SettingName, ...] = ("swap", "shifts", "sets", "signs", "turns")

_TEACHER = 5


class Draw(NamedTuple):
    """What a check draws from, and how much.

    Attributes:
        generator: source of randomness.
        particles: particles of a law.
        samples: samples of a data set, before it is closed under the group.
        seed: the seed of the generator, for training runs that make their own.
    """

    generator: Generator
    particles: int
    samples: int
    seed: int


class Sample(NamedTuple):
    """Inputs ``(b, d)`` with labels ``(b, o)``."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Setting:
    """A finite group, a jointly equivariant unit, and the group's action on everything.

    Attributes:
        name: what it is called.
        unit: σ_*.
        rep_in: ρ.
        rep_out: ρ̂.
        hidden: η, for units that have hidden coordinates.
    """

    name: str
    unit: Unit
    rep_in: Representation
    rep_out: Representation
    hidden: Representation | None = None

    @property
    def group(self) -> Group:
        """G."""
        return self.rep_in.group

    @property
    def frame(self) -> Uniform:
        """All of G, with equal weights."""
        return uniform(self.group)

    @cached_property
    def rep(self) -> Representation:
        """M on the parameters, after a check of joint equivariance."""
        return action(self.unit, self.rep_in, self.rep_out, hidden=self.hidden, generator=random.generator(0))

    @cached_property
    def space(self) -> Subspace:
        """E^G."""
        return fixed_points(self.rep)

    @property
    def two_faces(self) -> bool:
        """Whether the group acts on networks through two elements only (the others leave every parameter alone)."""
        matrices = self.rep.matrix(self.group.elements)
        return len(torch.unique(matrices.round(decimals=6), dim=0)) == 2

    def objective(self, scheme: str, loss: Loss | None = None) -> Objective:
        """A training scheme, with full orbits.

        Args:
            scheme: ``"V"``, ``"DA"``, ``"FA"`` or ``"EA"``.
            loss: ‖ŷ − y‖² when absent.

        Returns:
            The objective.
        """
        chosen = Squared() if loss is None else loss
        if scheme == "V":
            return vanilla(self.unit, chosen)
        if scheme == "EA":
            return constrained(self.unit, chosen, self.space)
        make = augmented if scheme == "DA" else averaged
        return make(self.unit, chosen, self.frame, rep_in=self.rep_in, rep_out=self.rep_out)

    def cloud(self, shape: Sequence[int], generator: Generator) -> Tensor:
        """A law that is neither WI nor SI: independent particles N(0, I), shape ``(*shape, p)``."""
        return random.normal((*shape, self.unit.dim), generator=generator, like=_LIKE)

    def inputs(self, count: int, generator: Generator) -> Tensor:
        """A sample of N(0, I) that is not closed under the group, shape ``(count, d)``."""
        return random.normal((count, self.rep_in.dim), generator=generator, like=_LIKE)

    def labels(self, count: int, generator: Generator) -> Tensor:
        """Labels that have nothing to do with anything, shape ``(count, o)``."""
        return random.normal((count, self.rep_out.dim), generator=generator, like=_LIKE)

    def teacher(self, kind: str, generator: Generator) -> Tensor:
        """Particles of a random teacher: ``"arbitrary"``, ``"WI"`` or ``"SI"``."""
        particles = self.cloud((_TEACHER,), generator)
        if kind == "arbitrary":
            return particles
        return orbit(particles, self.rep) if kind == "WI" else project(particles, self.space)

    def taught(self, kind: str, count: int, generator: Generator) -> Sample:
        """A sample with the labels of a random teacher; its inputs are not closed under the group."""
        teacher = self.teacher(kind, generator)
        x = self.inputs(count, generator)
        return Sample(x, self.unit.mean(x, teacher))

    def closed(self, sample: Sample) -> Sample:
        """The sample (ρ_g x, ρ̂_g y) for all g, group elements outermost: its law is G-equivariant."""
        x, y = augment(*sample, self.frame, rep_in=self.rep_in, rep_out=self.rep_out)
        return Sample(x.flatten(0, 1), y.flatten(0, 1))

    def closed_inputs(self, teacher: Tensor, x: Tensor) -> Sample:
        """All ρ_g x with a teacher's labels: inputs are G-invariant, labels as equivariant as the teacher."""
        images = self.images(x)
        return Sample(images, self.unit.mean(images, teacher))

    def images(self, x: Tensor) -> Tensor:
        """All ρ_g x, group elements outermost, shape ``(|G| b, d)``."""
        return self.rep_in.act(self._column, x).flatten(0, 1)

    def moved(self, z: Tensor) -> Tensor:
        """The clouds M_g#μ for all g, shape ``(|G|, n, p)``."""
        return self.rep.act(self._column, z)

    def moved_back(self, z: Tensor) -> Tensor:
        """M_gᵀ applied to the g-th entry of ``(|G|, n, p)``."""
        return self.rep.act(self.group.inverse(self.group.elements).unsqueeze(1), z)

    def average(self, x: Tensor, z: Tensor) -> Tensor:
        """Q_GΦ at the inputs."""
        return averaged_ensemble(self.unit, x, z, frame=self.frame, rep_in=self.rep_in, rep_out=self.rep_out)

    def gap(self, x: Tensor, z: Tensor) -> Tensor:
        """E‖Φ − Q_GΦ‖² on the inputs."""
        return equivariance_gap(self.unit, x, z, frame=self.frame, rep_in=self.rep_in, rep_out=self.rep_out)

    @property
    def _column(self) -> Tensor:
        """The group's elements with one more batch axis, for acting on samples and clouds."""
        return self.group.elements.unsqueeze(1)


_LIKE = torch.zeros(0, dtype=torch.float64)


@lru_cache
def setting(name: str) -> Setting:
    """A setting by name.

    Args:
        name: one of :data:`SETTINGS`.

    Returns:
        ``swap``: C_2 on R² and σ(z x), the paper's. ``shifts``: C_4 on signals of length 4, hidden signals moved
        along. ``sets``: S_3 on sets of three numbers, hidden sets moved along. ``signs``: the four sign flips of R²
        and tanh(z x). ``turns``: quarter turns of the plane, with outputs and hidden coordinates left alone.

    Raises:
        KeyError: for another name.
    """
    swap, shift, sets, signs, turn = Cyclic(2), Cyclic(4), Symmetric(3), SignFlips(2), Cyclic(4)
    made = {
        "swap": lambda: Setting(name, PointwiseUnit(sigmoid, 2, 2), Defining(swap), Defining(swap)),
        "shifts": lambda: Setting(
            name, HiddenUnit(tanh, 4, 1, hidden=4), Defining(shift), Trivial(shift), Regular(shift)
        ),
        "sets": lambda: Setting(
            name, HiddenUnit(sigmoid, 3, 3, hidden=3), Defining(sets), Defining(sets), Defining(sets)
        ),
        "signs": lambda: Setting(name, PointwiseUnit(tanh, 2, 2), Defining(signs), Defining(signs)),
        "turns": lambda: Setting(name, HiddenUnit(tanh, 2, 1), Planar(turn), Trivial(turn)),
    }
    return made[name]()
