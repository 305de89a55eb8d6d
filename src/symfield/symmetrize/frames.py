"""Weighted frames: from an input x to group elements g_k and weights w_k with Σ_k w_k = 1.

Whoever averages over a group (feature averaging, augmentation, frames, canonical poses) differs from the others only
in the frame. Here are the two that do not look at x: the whole group, and draws from its Haar measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from symfield.groups import Group, Representation
from symfield.typing import Float, Generator, Shaped, Tensor

__all__ = ["Frame", "Haar", "Poses", "Uniform", "haar", "uniform"]


class Poses(NamedTuple):
    """Group elements and weights for a batch of inputs.

    Attributes:
        g: elements, shape ``(m, *batch, *element_shape)``; batch axes of size 1 mean "the same for every input".
        w: weights, shape ``(m, *batch)``, axes of size 1 allowed as for ``g``; they sum to one over m.
        inverse: g_k^{-1}, shaped like ``g``.
    """

    g: Shaped[Tensor, "m ..."]
    w: Float[Tensor, "m ..."]
    inverse: Shaped[Tensor, "m ..."]

    def move(self, rep: Representation, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ρ(g_k)^{-1} x for every k.

        Args:
            rep: representation on the last axis of ``x``.
            x: vectors, shape ``(*batch, d)``, with axes of size 1 where they are the same for several elements.

        Returns:
            Moved vectors, shape ``(m, *batch, d)``.
        """
        return rep.act(self.inverse, x.unsqueeze(0))

    def restore(self, rep: Representation, y: Float[Tensor, "m *b o"]) -> Float[Tensor, "*b o"]:
        """The weighted mean Σ_k w_k ρ̂(g_k) y_k.

        Args:
            rep: representation on the last axis of ``y``.
            y: values at the moved inputs, shape ``(m, *batch, o)``.

        Returns:
            The mean, shape ``(*batch, o)``.
        """
        return (self.w.to(y).unsqueeze(-1) * rep.act(self.g, y)).sum(0)


@runtime_checkable
class Frame(Protocol):
    """Anything that reads a batch of inputs and answers with :class:`Poses`."""

    @property
    def group(self) -> Group:
        """The group whose elements the frame gives."""

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """The poses of every input of the batch; weights of shape ``(m,)`` are the same for every input."""


def poses(frame: Frame, x: Tensor, *, generator: Generator | None = None) -> Poses:
    """What a frame says about a batch, checked.

    Args:
        frame: any frame.
        x: inputs, shape ``(*batch, d)``.
        generator: source of randomness, for frames that sample.

    Returns:
        Poses whose elements and weights have one axis for every batch axis.

    Raises:
        TypeError: if ``frame`` is not a frame.
        ValueError: if ``x`` is not floating point, or the frame's answer does not have the shape of poses.
    """
    require_frame(frame)
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point vectors, received {x.dtype}; convert them, e.g. x.double()")
    found, axes = frame(x, generator=generator), x.ndim
    w = found.w.reshape(-1, *(1,) * (axes - 1)) if found.w.ndim == 1 else found.w
    shape = tuple(found.g.shape)
    if len(shape) != axes + len(frame.group.element_shape) or w.ndim != axes or len(w) != shape[0]:
        raise ValueError(
            f"expected poses of m elements, g (m, *batch, *{frame.group.element_shape}) and w (m, *batch) for inputs "
            f"{tuple(x.shape)}, received g {shape} and w {tuple(found.w.shape)} from {frame!r}"
        )
    return found._replace(w=w)


def require_frame(frame: object) -> None:
    """Refuse what is not a frame, such as a group.

    Args:
        frame: what was passed as a frame.

    Raises:
        TypeError: with what to pass.
    """
    if not isinstance(frame, Frame):
        raise TypeError(f"expected a frame, received {frame!r}; pass for example uniform(group) or haar(group)")


@dataclass(frozen=True)
class Uniform:
    """Every element of a finite group with weight 1/|G|: exact averaging.

    Attributes:
        group: a finite group.
    """

    group: Group

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """All elements; ``generator`` is not used."""
        elements = self.group.elements
        ones = (1,) * (x.ndim - 1)
        shape = (len(elements), *ones, *self.group.element_shape)
        weights = x.new_full((len(elements), *ones), 1 / len(elements))
        return Poses(elements.reshape(shape), weights, self.group.inverse(elements).reshape(shape))


@dataclass(frozen=True)
class Haar:
    """Independent draws from the Haar measure for every input: averaging in expectation.

    Attributes:
        group: any compact group.
        n: number of draws for an input.
    """

    group: Group
    n: int = 1

    def __call__(self, x: Float[Tensor, "*b d"], *, generator: Generator | None = None) -> Poses:
        """Fresh elements for every input.

        Raises:
            ValueError: if no generator is given.
        """
        if generator is None:
            raise ValueError("a Haar frame draws group elements and needs generator=; pass a torch.Generator")
        batch = x.shape[:-1]
        draws = self.group.sample(self.n * batch.numel(), generator=generator)
        g = draws.reshape(self.n, *batch, *self.group.element_shape)
        weights = x.new_full((self.n, *(1,) * len(batch)), 1 / self.n)
        return Poses(g, weights, self.group.inverse(g))


def uniform(group: Group) -> Uniform:
    """The exact frame of a finite group: every element, weight 1/|G|.

    Args:
        group: a finite group.

    Returns:
        A frame.

    Raises:
        ValueError: if the group is infinite or too large to enumerate.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic
        >>> uniform(Cyclic(3))(torch.zeros(5, 2)).w.flatten().sum().item()
        1.0
    """
    if not group.is_finite:
        raise ValueError(f"expected a finite group, received {group}; use haar(group, n) to sample it instead")
    _ = group.elements  # a group too large to enumerate says so here, not in the middle of a run
    return Uniform(group)


def haar(group: Group, n: int = 1) -> Haar:
    """``n`` independent Haar draws for every input.

    Args:
        group: any compact group.
        n: number of draws for an input, at least 1.

    Returns:
        A frame that needs ``generator=`` when called.

    Raises:
        ValueError: if ``n < 1``.

    Example:
        >>> import torch
        >>> from symfield.groups import SpecialOrthogonal
        >>> haar(SpecialOrthogonal(3), 4)(torch.zeros(5, 2), generator=torch.Generator()).g.shape
        torch.Size([4, 5, 3, 3])
    """
    if n < 1:
        raise ValueError(f"expected at least one draw, received n={n}")
    return Haar(group, n)
