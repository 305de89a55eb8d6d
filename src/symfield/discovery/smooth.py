r"""Continuous symmetries of a fitted function: proposed by its gradients, named, and judged on held-out samples.

The null space of :func:`symfield.discovery.lie.lie_algebra` is replaced by the exact algebra where it is recognised;
then exp(tA) must pass on held-out samples, with displacements as large as the inputs themselves. A connected group is
enlarged by the reflections of its vectors that pass too: SO(n) to O(n); SO⁺(p,q) to SO(p,q), O⁺(p,q) or O(p,q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from symfield import random
from symfield.discovery.checks import Check, HeldOut
from symfield.discovery.classical import Block, classified
from symfield.discovery.dataset import Dataset
from symfield.discovery.fits import Fit, Polynomial, Predictor
from symfield.discovery.lie import LieAlgebra, closure, lie_algebra, spans
from symfield.groups import DirectProduct, Group, Orthogonal, SpecialOrthogonal
from symfield.typing import Bool, Float, Generator, Tensor

__all__ = ["SmoothPart", "nothing_smooth", "smooth_part"]

_MOST_INPUTS = 16
_SAMPLES = 2000
_DISPLACEMENT = 0.7  # of exp(tA) in checks, in root mean squares of the inputs
_LARGEST_SHARE = 0.02  # of the null, that a matrix measured with errors may violate
_LARGEST_SHARE_UNKNOWN = 0.002  # the same, for algebras without a name
_NOT_CLOSED = 0.3
_WHOLE = 0.05  # unexplained share up to which a quadratic may be the whole truth
_EXACT_FIT = 10.0  # eigenvalues of a symmetry are at most so many times the unexplained share, or what errors explain


@dataclass(frozen=True, eq=False)
class SmoothPart:
    """The continuous part of an answer.

    Attributes:
        algebra: what was accepted.
        blocks: its factors.
        reflections: reflections that hold beside it, ``(k, d, d)``.
        reflected: the same on outputs, ``(k, o, o)``.
        names: names of the factors with their reflections.
        group: the group as a value; ``None`` where it is not compact or not known.
        checks: the reflections and the elements of the algebra on held-out samples.
        moves: inputs that the algebra moves.
        doubt: whether a continuous symmetry could be neither found nor excluded.
        notes: what to say about it.
    """

    algebra: LieAlgebra
    blocks: tuple[Block, ...]
    reflections: Float[Tensor, "k d d"]
    reflected: Float[Tensor, "k o o"]
    names: tuple[str, ...]
    group: Group | None
    checks: tuple[Check, ...]
    moves: Bool[Tensor, " d"]
    doubt: bool
    notes: list[str]


def nothing_smooth(data: Dataset, *notes: str, doubt: bool = False) -> SmoothPart:
    """The answer without a continuous part.

    Args:
        data: samples, for the dimensions.
        notes: what to say about it.
        doubt: whether one could be neither found nor excluded.

    Returns:
        The empty part.
    """
    d, o = data.x.shape[1], data.y.shape[1]
    none_in, none_out = torch.zeros(0, d, d, dtype=torch.float64), torch.zeros(0, o, o, dtype=torch.float64)
    algebra = LieAlgebra(none_in, none_out, torch.zeros(0, dtype=torch.float64), True, none_in.new_zeros(d, 0))
    still = torch.zeros(d, dtype=torch.bool)
    return SmoothPart(algebra, (), none_in, none_out, (), None, (), still, doubt, list(notes))


def smooth_part(
    fit: Fit, halves: Sequence[Predictor], proposing: HeldOut, judging: HeldOut, *, generator: Generator
) -> SmoothPart:
    """The continuous symmetries of a fitted function that hold on held-out samples.

    Args:
        fit: the predictor.
        halves: two more of its kind, each fitted to half of its samples.
        proposing: its training inputs, and samples to propose by.
        judging: samples to judge by.
        generator: source of randomness.

    Returns:
        The continuous part of the answer.
    """
    data = proposing.data
    d, o = data.x.shape[1], data.y.shape[1]
    if d < 2:
        return nothing_smooth(data)
    if d > _MOST_INPUTS:
        return nothing_smooth(data, f"continuous symmetries are searched up to {_MOST_INPUTS} inputs, here are {d}")
    if isinstance(fit.fitter, Polynomial) and fit.fitter.degree == 1:
        return nothing_smooth(
            data, "a linear function is symmetric in many trivial ways; only permutations were searched"
        )
    x = proposing.seen[:_SAMPLES]
    unit = x.square().mean(0).sqrt()  # columns of a table may differ by orders of magnitude
    if not spans(x / unit):
        return nothing_smooth(
            data,
            "seen from the origin the inputs are nearly collinear, so that gradients across them are unknown and no "
            "continuous symmetry was searched: centre the inputs",
            doubt=True,
        )
    jacobians, values = _derivatives(fit.predict, x, o)
    others = [(jac * unit, f) for jac, f in (_derivatives(half, x, o) for half in halves)]
    algebra = lie_algebra(jacobians * unit, x / unit, values if o > 1 else None, halves=others)
    largest = float(algebra.eigenvalues[len(algebra) - 1]) if len(algebra) else 0.0
    if not algebra.clear:
        return nothing_smooth(
            data, "gradients neither show nor exclude a continuous symmetry: the spectrum has no gap", doubt=True
        )
    small = largest <= max(1e-6, _EXACT_FIT * fit.unexplained)
    if len(algebra) == 0 or not (small or algebra.explained):
        return nothing_smooth(data)
    varying = d - algebra.ignored.shape[1]
    if o == 1 and _is_of_every_quadratic(fit, len(algebra), varying):
        return nothing_smooth(
            data, f"a quadratic has continuous symmetries whatever it is, and it misses {fit.unexplained:.0%} here",
            doubt=True,
        )  # fmt: skip
    if closure(algebra.inputs) > _NOT_CLOSED:
        return nothing_smooth(data, "candidates for a Lie algebra do not close under brackets", doubt=True)
    still = torch.linalg.qr(unit[:, None] * algebra.ignored)[0]
    algebra = replace(algebra, inputs=unit[:, None] * algebra.inputs / unit, ignored=still)
    blocks = _blocks(algebra, x)
    exact = _exact(algebra, blocks)
    share = _LARGEST_SHARE if all(block.known for block in blocks) else _LARGEST_SHARE_UNKNOWN
    checks = [_check_algebra(judging, exact, i, share, generator) for i in range(len(exact))]
    if not all(check.holds for check in checks):
        doubt = not any(check.effect > 5 * _LARGEST_SHARE * check.null for check in checks)
        failed = next(check for check in checks if not check.holds)
        return nothing_smooth(data, f"a candidate for a continuous symmetry fails on held-out samples: {failed}",
                              doubt=doubt)  # fmt: skip
    return _with_reflections(exact, blocks, judging, checks)


def _is_of_every_quadratic(fit: Fit, count: int, d: int) -> bool:
    """Whether a quadratic form with a linear term has so many generators anyway, and may not be the whole truth.

    xᵀQx + bᵀx is invariant under the A with QA skew and bᵀA = 0: so(p, q) of the d − 1 dimensions across Q⁻¹b.
    """
    quadratic = isinstance(fit.fitter, Polynomial) and fit.fitter.degree == 2
    return quadratic and fit.unexplained > _WHOLE and count <= (d - 1) * (d - 2) // 2


def _derivatives(predict: Predictor, x: Tensor, o: int) -> tuple[Tensor, Tensor]:
    """Jacobians ``(b, o, d)`` and values ``(b, o)`` of the predictor."""
    leaf = x.detach().clone().requires_grad_()
    values = predict(leaf)
    rows = [torch.autograd.grad(values[:, a].sum(), leaf, retain_graph=a < o - 1)[0] for a in range(o)]
    return torch.stack(rows, dim=1), values.detach()


def _blocks(algebra: LieAlgebra, x: Tensor) -> tuple[Block, ...]:
    """The factors, recognised in coordinates in which the inputs' second moments are one, where rotations are skew."""
    values, vectors = torch.linalg.eigh(x.mT @ x / len(x))
    root = vectors * values.sqrt() @ vectors.mT
    back = vectors / values.sqrt() @ vectors.mT
    blocks = classified(back @ algebra.inputs @ root)
    return tuple(replace(block, frame=root @ block.frame) if block.known else block for block in blocks)


def _exact(algebra: LieAlgebra, blocks: tuple[Block, ...]) -> LieAlgebra:
    """The algebra with exact matrices in place of measured ones, where every factor is known."""
    if not all(block.known for block in blocks):
        return algebra
    still = _still(algebra.inputs, sum(block.frame.shape[1] for block in blocks))
    frames = torch.cat([*(block.frame for block in blocks), still], dim=1)
    inverse = torch.linalg.inv(frames)
    inputs, outputs, start = [], [], 0
    for block in blocks:
        width = block.frame.shape[1]
        for small, weights in zip(block.matrices(), block.coefficients, strict=True):
            full = torch.zeros_like(frames)
            full[start : start + width, start : start + width] = torch.block_diag(*[small] * block.copies)
            inputs.append(frames @ full @ inverse)
            outputs.append(torch.einsum("k,kab->ab", weights, algebra.outputs))
        start += width
    return replace(algebra, inputs=torch.stack(inputs), outputs=torch.stack(outputs))


def _still(matrices: Tensor, moved: int) -> Float[Tensor, "d r"]:
    """Orthonormal vectors that all matrices send to zero, as many as are left."""
    d = matrices.shape[-1]
    return torch.linalg.svd(matrices.flatten(0, 1), full_matrices=True)[2][min(moved, d) :].mT


def _check_algebra(evidence: HeldOut, algebra: LieAlgebra, i: int, share: float, generator: Generator) -> Check:
    x, a, b = evidence.data.x, algebra.inputs[i], algebra.outputs[i]
    time = _time(x, a)
    moved = x @ torch.linalg.matrix_exp(time * a).mT
    back = torch.linalg.matrix_exp(-time * b) if bool(b.any()) else None

    def null() -> float:
        """Random matrices of the same size, in the coordinates in which the inputs are isotropic."""
        effects = []
        for _ in range(3):
            other = random.normal(tuple(a.shape), generator=generator, like=a)
            shifted = x @ torch.linalg.matrix_exp(_time(x, other) * other).mT
            inside = evidence.covered(shifted)
            if bool(inside.any()):
                effects.append(float(evidence.excess(shifted, back)[inside].mean()))
        return max(sum(effects) / max(len(effects), 1), 0.0)

    return replace(evidence.check(f"one-parameter group {i + 1}", moved, null, back), tolerated=share)


def _time(x: Tensor, a: Tensor) -> float:
    """t for which exp(tA) − 1 moves the inputs by a fixed share of their size, in root mean square."""
    size = float(x.square().sum(-1).mean().sqrt())
    speed = float((x @ a.mT).square().sum(-1).mean().sqrt())
    return _DISPLACEMENT * size / max(speed, 1e-300)


def _with_reflections(
    algebra: LieAlgebra, blocks: tuple[Block, ...], judging: HeldOut, checks: list[Check]
) -> SmoothPart:
    d, o = algebra.inputs.shape[-1], algebra.outputs.shape[-1]
    names, values, kept, outputs, extra = [], [], [], [], []
    known = all(block.known for block in blocks)
    for index, block in enumerate(blocks):
        held = []
        for what, matrix in _reflections(algebra, blocks, index) if known else ():
            back, output = _output_of(judging, matrix)
            check = _check_reflection(judging, f"{what} of {block.name}", matrix, back)
            if check.holds:
                held.append(what)
                kept.append(matrix)
                outputs.append(output)
                extra.append(check)
        names.append(_name(block, held))
        values.append((Orthogonal if held else SpecialOrthogonal)(block.n) if block.compact else None)
    parts = [value for value in values if value is not None]
    whole = None if len(parts) < len(values) else parts[0] if len(parts) == 1 else DirectProduct(*parts)
    moves = algebra.inputs.abs().amax(0)
    touched = (moves.amax(0) > 0.02 * moves.max()) | (moves.amax(1) > 0.02 * moves.max())
    return SmoothPart(
        algebra, blocks,
        torch.stack(kept) if kept else torch.zeros(0, d, d, dtype=torch.float64),
        torch.stack(outputs) if outputs else torch.zeros(0, o, o, dtype=torch.float64),
        tuple(names), whole, (*extra, *checks), touched, False, [],
    )  # fmt: skip


def _check_reflection(evidence: HeldOut, what: str, matrix: Tensor, back: Tensor | None) -> Check:
    touched = _touched(matrix)
    moved = evidence.data.x @ matrix.mT
    return replace(
        evidence.check(what, moved, lambda: evidence.shuffled(touched, back), back), tolerated=_LARGEST_SHARE
    )


def _reflections(algebra: LieAlgebra, blocks: tuple[Block, ...], index: int) -> list[tuple[str, Tensor]]:
    """Reflections of one factor's vectors: of one axis, for an indefinite form of either kind and of both."""
    block = blocks[index]
    still = _still(algebra.inputs, sum(b.frame.shape[1] for b in blocks))
    frames = torch.cat([*(b.frame for b in blocks), still], dim=1)
    start, inverse = sum(b.frame.shape[1] for b in blocks[:index]), torch.linalg.inv(frames)
    first, last = torch.ones(block.n).double(), torch.ones(block.n).double()
    first[0], last[-1] = -1.0, -1.0
    kinds = [("reflection", first)] if block.compact else [
        ("first reflection", first), ("second reflection", last), ("both reflections", first * last)]  # fmt: skip
    found = []
    for what, small in kinds:
        diagonal = torch.ones(len(frames)).double()
        diagonal[start : start + block.frame.shape[1]] = small.repeat(block.copies)
        found.append((what, frames * diagonal @ inverse))
    return found


def _name(block: Block, held: list[str]) -> str:
    if not block.known or block.compact:
        return block.name.replace("SO", "O") if held else block.name
    text = f"({block.p},{block.q})"
    if len(held) == 3:
        return "O" + text
    return {"first reflection": "O⁻" + text, "second reflection": "O⁺" + text, "both reflections": "SO" + text}.get(
        held[0] if held else "", "SO⁺" + text
    )


def _touched(matrix: Tensor) -> Bool[Tensor, " d"]:
    difference = (matrix - torch.eye(len(matrix)).to(matrix)).abs()
    return (difference.amax(0) > 1e-6) | (difference.amax(1) > 1e-6)


def _output_of(evidence: HeldOut, matrix: Tensor) -> tuple[Tensor | None, Tensor]:
    """τ⁻¹ and τ with f̂(gx) nearest to τ y, by least squares; none for one output."""
    o = evidence.data.y.shape[1]
    if o == 1:
        return None, torch.eye(1, dtype=torch.float64)
    moved = evidence.predict(evidence.data.x @ matrix.mT)
    tau = torch.linalg.lstsq(evidence.values, moved).solution.mT
    return torch.linalg.pinv(tau), tau
