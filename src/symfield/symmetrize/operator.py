r"""The one operator: φ(x) = Σ_k w_k ρ̂(g_k) f(ρ(g_k)^{-1} x) over a weighted frame x ↦ (g, w).

With :func:`~symfield.symmetrize.uniform` it is the exact average over a finite group (feature averaging, the Reynolds
operator Q_G); with :func:`~symfield.symmetrize.haar` its Monte-Carlo version. :func:`augment` moves data with the same
group sample.

References:
    Maass & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
    Kim et al. 2023, Equation (1), arXiv 2306.02866v3.
"""

from __future__ import annotations

import torch
from torch import nn

from symfield.groups import Representation
from symfield.symmetrize.frames import Frame, poses, require_frame
from symfield.typing import Float, Generator, Map, Tensor

__all__ = ["Symmetrized", "augment", "symmetrize"]


def symmetrize(
    f: Map,
    x: Float[Tensor, "*b d"],
    frame: Frame,
    *,
    rep_in: Representation,
    rep_out: Representation,
    generator: Generator | None = None,
) -> Float[Tensor, "*b o"]:
    """φ(x) = Σ_k w_k ρ̂(g_k) f(ρ(g_k)^{-1} x).

    Args:
        f: any map ``(b, d) -> (b, o)``; it is called once, on all moved inputs together.
        x: inputs, shape ``(*batch, d)``.
        frame: gives the elements and weights for every input.
        rep_in: ρ on inputs, dim d.
        rep_out: ρ̂ on outputs, dim o.
        generator: source of randomness, for frames that sample.

    Returns:
        Averaged outputs, shape ``(*batch, o)``.

    Raises:
        TypeError: if ``frame`` is not a frame.
        ValueError: if shapes, representations and frame do not fit, or ``x`` is not floating point.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> from symfield.symmetrize import uniform
        >>> shift = Defining(Cyclic(3))
        >>> x = torch.tensor([[1.0, 2.0, 4.0]])
        >>> first = lambda x: x * torch.tensor([1.0, 0.0, 0.0])
        >>> [round(v, 4) for v in symmetrize(first, x, uniform(Cyclic(3)), rep_in=shift, rep_out=shift)[0].tolist()]
        [0.3333, 0.6667, 1.3333]
    """
    _require_fit(x, frame, rep_in, "x")
    found = poses(frame, x, generator=generator)
    moved = found.move(rep_in, x)
    values = f(moved.reshape(-1, x.shape[-1]))
    if values.shape != (moved.shape[:-1].numel(), rep_out.dim):
        raise ValueError(
            f"expected f to return ({moved.shape[:-1].numel()}, {rep_out.dim}), received {tuple(values.shape)}; "
            "f maps a batch (b, d) to (b, o) with o the dimension of rep_out"
        )
    return found.restore(rep_out, values.reshape(*moved.shape[:-1], rep_out.dim))


def augment(
    x: Float[Tensor, "*b d"],
    y: Float[Tensor, "..."],
    frame: Frame,
    *,
    rep_in: Representation,
    rep_out: Representation,
    generator: Generator | None = None,
) -> tuple[Float[Tensor, "m *b d"], Float[Tensor, "m *b o"]]:
    """Data moved by the group: (ρ(g_k)^{-1} x, ρ̂(g_k)^{-1} y) for the elements of a frame.

    ``haar(group, 1)`` is the usual sampled augmentation; ``uniform(group)`` gives full orbits. (For both, g and g^{-1}
    have the same law, so this is the augmentation by ρ_g x, ρ̂_g y of the literature.)

    Args:
        x: inputs, shape ``(*batch, d)``.
        y: targets, shape ``(*batch, o)``.
        frame: gives the elements.
        rep_in: ρ on inputs.
        rep_out: ρ̂ on targets.
        generator: source of randomness, for frames that sample.

    Returns:
        Moved inputs ``(m, *batch, d)`` and targets ``(m, *batch, o)``.

    Raises:
        ValueError: if shapes, representations and frame do not fit.

    Example:
        >>> from symfield.groups import Cyclic, Defining, Trivial
        >>> from symfield.symmetrize import uniform
        >>> shift = Defining(Cyclic(2))
        >>> x, y = augment(torch.tensor([[1.0, 2.0]]), torch.ones(1, 1), uniform(Cyclic(2)), rep_in=shift,
        ...                rep_out=Trivial(Cyclic(2)))
        >>> x.tolist(), y.shape
        ([[[1.0, 2.0]], [[2.0, 1.0]]], torch.Size([2, 1, 1]))
    """
    _require_fit(x, frame, rep_in, "x")
    _require_fit(y, frame, rep_out, "y")
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(
            f"expected inputs and targets with the same batch axes, received {tuple(x.shape)} and {tuple(y.shape)}"
        )
    found = poses(frame, x, generator=generator)
    return found.move(rep_in, x), found.move(rep_out, y)


class Symmetrized(nn.Module):
    """A module averaged over a frame: equivariant whatever the module, as exactly as the frame is.

    Args:
        module: any module ``(b, d) -> (b, o)``.
        frame: gives the group elements and weights.
        rep_in: ρ on inputs.
        rep_out: ρ̂ on outputs.

    Raises:
        ValueError: if frame and representations are of different groups.

    Example:
        >>> from symfield.groups import Cyclic, Defining
        >>> from symfield.symmetrize import uniform
        >>> shift = Defining(Cyclic(4))
        >>> net = Symmetrized(nn.Linear(4, 4), uniform(Cyclic(4)), rep_in=shift, rep_out=shift)
        >>> x = torch.randn(2, 4, generator=torch.Generator())
        >>> torch.allclose(net(x.roll(1, -1)), net(x).roll(1, -1), atol=1e-6)
        True
    """

    def __init__(self, module: nn.Module, frame: Frame, *, rep_in: Representation, rep_out: Representation) -> None:
        super().__init__()
        for rep in (rep_in, rep_out):
            _require_group(frame, rep)
        self.module, self.frame, self.rep_in, self.rep_out = module, frame, rep_in, rep_out

    def forward(self, x: Float[Tensor, "*b d"], generator: Generator | None = None) -> Float[Tensor, "*b o"]:
        """Σ_k w_k ρ̂(g_k) module(ρ(g_k)^{-1} x).

        Args:
            x: inputs, shape ``(*batch, d)``.
            generator: source of randomness, for frames that sample.

        Returns:
            Outputs, shape ``(*batch, o)``.
        """
        return symmetrize(self.module, x, self.frame, rep_in=self.rep_in, rep_out=self.rep_out, generator=generator)

    def extra_repr(self) -> str:
        """How the frame and the representations print."""
        return f"frame={self.frame!r}, rep_in={self.rep_in}, rep_out={self.rep_out}"


def _require_group(frame: Frame, rep: Representation) -> None:
    require_frame(frame)
    if rep.group != frame.group:
        raise ValueError(f"expected a representation of the frame's group {frame.group}, received one of {rep.group}")


def _require_fit(x: Tensor, frame: Frame, rep: Representation, name: str) -> None:
    _require_group(frame, rep)
    if x.shape[-1:] != torch.Size([rep.dim]):
        raise ValueError(f"expected {name} of shape (..., {rep.dim}) for {rep}, received {tuple(x.shape)}")
