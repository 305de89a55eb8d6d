"""The inner loop of training: many steps for many runs and schemes, on batches and noise drawn beforehand.

Two loops do the same thing. :func:`particle_loop` calls ``unit.mean`` and ``unit.pullback`` and takes any unit and any
loss. :func:`fused_loop` hands whole blocks of steps to :mod:`symfield.meanfield.kernels` and takes dense units with a
known activation, the squared loss, and uniform or Haar frames. All schemes whose virtual samples have the same shape go
through one kernel call, with the averaging of FA and the projection of EA as small matrices:

    e = Φ(X') − Y';  FA: e ← T e;  u = 2c e/b';  G_i = Σ_b J_i(x'_b)ᵀ u_b;  EA: G_i ← P_E G_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch

from symfield.meanfield import kernels
from symfield.meanfield.losses import Squared
from symfield.meanfield.objective import Objective, Virtual
from symfield.symmetrize import Haar, Poses, Uniform
from symfield.typing import Generator, Tensor
from symfield.units import HiddenUnit, PointwiseUnit, Unit, erf, identity, relu, sigmoid, tanh

__all__ = ["Block", "Inner", "draw_virtuals", "fused_loop", "inner_loop", "particle_loop", "supports_fusion"]

_FUSED_ACTIVATIONS = (sigmoid, tanh, relu, erf, identity)


class Block(NamedTuple):
    """Everything K consecutive steps need.

    Attributes:
        virtuals: for every scheme its virtual samples, with leading axes ``(K, r)``; schemes may share one object.
        sizes: step sizes s_k, shape ``(K,)``, float64.
        noise: scaled noise, shape ``(K, r, p, n)``, or None.
        tau: weight of the regulariser.
    """

    virtuals: tuple[Virtual, ...]
    sizes: Tensor
    noise: Tensor | None
    tau: float


#: An inner loop: ``(z, block, window)`` to the clouds ``(schemes, r, n, p)`` after the steps of the window.
Inner: TypeAlias = Callable[[Tensor, Block, slice], Tensor]


def inner_loop(schemes: Sequence[Objective], z: Tensor) -> Inner:
    """The fastest loop that can train these schemes.

    Args:
        schemes: the objectives.
        z: initial clouds; dtype and device matter.

    Returns:
        :func:`fused_loop` where it applies, else :func:`particle_loop`.

    Example:
        >>> from symfield.meanfield import squared, vanilla
        >>> inner_loop([vanilla(PointwiseUnit(sigmoid, 2, 2), squared)], torch.zeros(1, 1, 4, 4)).__qualname__
        'fused_loop.<locals>.loop'
    """
    return fused_loop(schemes) if supports_fusion(schemes) and z.is_floating_point() else particle_loop(schemes)


def draw_virtuals(
    schemes: Sequence[Objective], x: Tensor, y: Tensor, *, generators: Sequence[Sequence[Generator]]
) -> tuple[Virtual, ...]:
    """Virtual samples for every scheme; schemes with equal frames share theirs (and so the drawn elements).

    Args:
        schemes: the objectives.
        x: inputs, shape ``(K, r, b, d)``.
        y: targets, shape ``(K, r, b, o)``.
        generators: for every scheme the sources of randomness of its frame: one, or one for each run. What one
            scheme draws does not advance another's.

    Returns:
        One :class:`~symfield.meanfield.Virtual` for a scheme, the same object where shared.
    """
    made: list[tuple[Objective, Virtual]] = []
    result = []
    for scheme, sources in zip(schemes, generators, strict=True):
        virtual = next((v for other, v in made if _same_source(other, scheme)), None)
        if virtual is None:
            if scheme.frame is None or isinstance(scheme.frame, Uniform) or len(sources) == 1:
                virtual = scheme.virtual(x, y, generator=sources[0])
            else:
                alone = [
                    scheme.virtual(x[:, run : run + 1], y[:, run : run + 1], generator=g)
                    for run, g in enumerate(sources)
                ]
                virtual = _side_by_side(alone)
            made.append((scheme, virtual))
        result.append(virtual)
    return tuple(result)


def _side_by_side(parts: Sequence[Virtual]) -> Virtual:
    """Virtual samples of single runs as those of all runs."""
    x, y, target = (torch.cat(same, dim=1) for same in zip(*((p.x, p.y, p.target) for p in parts), strict=True))
    poses = [part.poses for part in parts if part.poses is not None]
    g, inverse = (torch.cat([getattr(p, name) for p in poses], dim=2) for name in ("g", "inverse"))
    batch = parts[0].target.shape[:-1]
    w = torch.cat([p.w.expand(len(p.w), *batch) for p in poses], dim=2)
    return Virtual(x, y, target, Poses(g, w, inverse))


def _same_source(a: Objective, b: Objective) -> bool:
    return a.frame == b.frame and a.rep_in == b.rep_in and a.rep_out == b.rep_out


def particle_loop(schemes: Sequence[Objective]) -> Inner:
    """The loop for any unit, loss and frame: one gradient for a scheme and step.

    Args:
        schemes: the objectives, in the order of the leading axis of the clouds.

    Returns:
        An inner loop.

    Example:
        >>> from symfield.meanfield import Virtual, squared, vanilla
        >>> x, y = torch.ones(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)  # one step, one run, a batch of three
        >>> block = Block((Virtual(x, y, y, None),), torch.tensor([0.5], dtype=torch.float64), None, tau=0.0)
        >>> loop = particle_loop([vanilla(PointwiseUnit(sigmoid, 2, 2), squared)])
        >>> loop(torch.zeros(1, 1, 4, 4), block, slice(0, 1))[0, 0, 0].tolist()
        [-0.125, -0.125, -0.125, -0.125]
    """

    def advance(z: Tensor, block: Block, window: slice) -> Tensor:
        for k in range(window.start, window.stop):
            size = float(block.sizes[k])
            noise = None if block.noise is None else block.noise[k].transpose(-1, -2)
            clouds = []
            for scheme, virtual, cloud in zip(schemes, block.virtuals, z, strict=True):
                now = _at(virtual, k)
                u = scheme.cotangent(scheme.unit.mean(now.x, cloud), now)
                gradient = scheme.restrict(scheme.unit.pullback(now.x, cloud, u))
                moved = cloud - size * (gradient + 2 * block.tau * cloud)
                clouds.append(moved if noise is None else moved + scheme.restrict(noise))
            z = torch.stack(clouds)
        return z

    return advance


def _at(virtual: Virtual, k: int) -> Virtual:
    """The virtual samples of step k of a block."""

    def pick(values: Tensor) -> Tensor:
        return values[:, k if values.shape[1] > 1 else 0]

    poses = None if virtual.poses is None else Poses(*(pick(part) for part in virtual.poses))
    return Virtual(virtual.x[k], virtual.y[k], virtual.target[k], poses)


def supports_fusion(schemes: Sequence[Objective]) -> bool:
    """Whether the kernels know these schemes: dense unit, known activation, squared loss, equally weighted frames.

    DA may move samples by :func:`~symfield.symmetrize.uniform` or :func:`~symfield.symmetrize.haar`, FA averages over
    the first.

    Args:
        schemes: the objectives.

    Returns:
        True if :func:`fused_loop` can train them.
    """
    return all(
        # exact types: a subclass may compute something else
        type(scheme.unit) in (PointwiseUnit, HiddenUnit)
        and getattr(scheme.unit, "activation", None) in _FUSED_ACTIVATIONS
        and type(scheme.loss) is Squared
        and scheme.loss == schemes[0].loss
        and (scheme.frame is None or type(scheme.frame) in ((Uniform,) if scheme.averages else (Uniform, Haar)))
        for scheme in schemes
    )


@dataclass(frozen=True)
class _Group:
    """Schemes whose virtual samples have the same shape."""

    members: tuple[int, ...]
    residual_maps: Tensor | None  # (members, m·o, m·o), float64
    gradient_maps: Tensor | None  # (members, p, p), float64


def fused_loop(schemes: Sequence[Objective], advance: kernels.Backend = kernels.advance) -> Inner:
    """The loop that advances whole blocks inside :mod:`symfield.meanfield.kernels`.

    Args:
        schemes: the objectives, in the order of the leading axis of the clouds; see :func:`supports_fusion`.
        advance: the kernel; chosen for the device when absent.

    Returns:
        An inner loop.

    Raises:
        NotImplementedError: if a scheme is not supported.

    Example:
        >>> from symfield.meanfield import Virtual, squared, vanilla
        >>> x, y = torch.ones(1, 1, 3, 2), torch.zeros(1, 1, 3, 2)  # one step, one run, a batch of three
        >>> block = Block((Virtual(x, y, y, None),), torch.tensor([0.5], dtype=torch.float64), None, tau=0.0)
        >>> loop = fused_loop([vanilla(PointwiseUnit(sigmoid, 2, 2), squared)])
        >>> loop(torch.zeros(1, 1, 4, 4), block, slice(0, 1))[0, 0, 0].tolist()
        [-0.125, -0.125, -0.125, -0.125]
    """
    if not supports_fusion(schemes):
        raise NotImplementedError(
            "the fused loop knows PointwiseUnit and HiddenUnit with the activations sigmoid, tanh, relu, erf, identity,"
            " the squared loss, DA over uniform or haar, and FA over uniform; use particle_loop, or extend"
            " meanfield/inner.py"
        )
    sizes = [_multiplicity(scheme) for scheme in schemes]
    groups = [_group(schemes, [j for j, m in enumerate(sizes) if m == size]) for size in sorted(set(sizes))]

    def loop(z: Tensor, block: Block, window: slice) -> Tensor:
        result = torch.empty_like(z)
        runs = torch.arange(z.shape[1])
        noise = None if block.noise is None else block.noise[window]
        for group in groups:
            members = list(group.members)
            x, y, source = _stack_sources([block.virtuals[j] for j in members], window)
            moved = advance(
                z[members].flatten(0, 1).transpose(-1, -2).contiguous(),
                x,
                y,
                noise,
                block.sizes[window].to(z),
                program=_program(schemes[0], group, block.tau, z),
                data_row=torch.cat([s * z.shape[1] + runs for s in source]),
                noise_row=runs.repeat(len(members)),
            )
            result[members] = moved.transpose(-1, -2).unflatten(0, (len(members), -1))
        return result

    return loop


def _multiplicity(scheme: Objective) -> int:
    """Number m of virtual samples for a sample."""
    if scheme.frame is None:
        return 1
    probe = torch.zeros(1, scheme.unit.in_dim)
    return scheme.frame(probe, generator=torch.Generator()).g.shape[0]


def _group(schemes: Sequence[Objective], members: Sequence[int]) -> _Group:
    def stacked(maps: list[Tensor | None]) -> Tensor | None:
        known = [m for m in maps if m is not None]
        if not known:
            return None
        eye = torch.eye(known[0].shape[-1], dtype=known[0].dtype)
        return torch.stack([eye if m is None else m for m in maps])

    return _Group(
        tuple(members),
        stacked([_averaging_map(schemes[j]) if schemes[j].averages else None for j in members]),
        stacked([s.projector() if (s := schemes[j].subspace) is not None else None for j in members]),
    )


def _averaging_map(scheme: Objective) -> Tensor:
    """T with (T e)_k = ρ̂_k^{-1} Σ_j w_j ρ̂_j e_j, shape (m·o, m·o): residuals averaged and moved back."""
    assert scheme.frame is not None
    assert scheme.rep_out is not None
    poses = scheme.frame(torch.zeros(1, scheme.unit.in_dim, dtype=torch.float64))
    forward = scheme.rep_out.matrix(poses.g.flatten(0, 1))
    backward = scheme.rep_out.matrix(poses.inverse.flatten(0, 1))
    blocks = torch.einsum("kab,jbc->kajc", backward, forward * poses.w.flatten()[:, None, None].to(forward))
    return blocks.flatten(2, 3).flatten(0, 1)


def _stack_sources(virtuals: Sequence[Virtual], window: slice) -> tuple[Tensor, Tensor, list[int]]:
    """Distinct virtual samples side by side on the runs axis, and which of them each scheme uses."""
    distinct: list[Virtual] = []
    source = []
    for virtual in virtuals:
        index = next((i for i, other in enumerate(distinct) if other is virtual), None)
        if index is None:
            index = len(distinct)
            distinct.append(virtual)
        source.append(index)
    if len(distinct) == 1:
        return distinct[0].x[window], distinct[0].y[window], source
    return (
        torch.cat([v.x[window] for v in distinct], dim=1),
        torch.cat([v.y[window] for v in distinct], dim=1),
        source,
    )


def _program(scheme: Objective, group: _Group, tau: float, z: Tensor) -> kernels.Program:
    unit: Unit = scheme.unit
    assert isinstance(unit, (PointwiseUnit, HiddenUnit))
    assert isinstance(scheme.loss, Squared)

    def for_runs(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else maps.to(z).repeat_interleave(z.shape[1], dim=0)

    return kernels.Program(
        activation=unit.activation.name,
        in_dim=unit.in_dim,
        out_dim=unit.out_dim,
        hidden=unit.hidden if isinstance(unit, HiddenUnit) else None,
        bias=unit.bias if isinstance(unit, HiddenUnit) else False,
        tau=tau,
        loss_scale=scheme.loss.scale,
        residual_map=for_runs(group.residual_maps),
        gradient_map=for_runs(group.gradient_maps),
    )
