r"""The Lie algebra that a fitted function allows: least squares on gradients, a null space, a gap test.

f(exp(tA) x) = exp(tB) f(x) for all t if and only if J_f(x) A x = B f(x) for all x; with B = 0 this is invariance,
∇f(x) · A x = 0. The mean square of J A x − B f over samples is a quadratic form S in (A, B). It is compared with the
form T that it would be if gradients and inputs had nothing to do with one another,

    T(A, B) = tr(A Σ Aᵀ G) + tr(B F Bᵀ),   Σ = E x xᵀ,  G = E JᵀJ,  F = E f fᵀ,

so that the generalised eigenvalues λ of (S, T) have no unit, do not change under linear maps of inputs or outputs, and
mean: λ = 0 a symmetry, λ ≈ 1 chance. Errors of the fit raise the zero ones to a small number; the algebra is accepted
where the eigenvalues leap. Two fits to separate samples tell how small: with S₁₂ the mixed form of both, which errors
leave unbiased, and S₁, S₂ their own, errors alone give a fit to all samples about ν = (S₁ + S₂ − 2 S₁₂) / 4. Leaps
below ν mean nothing, nor does an algebra with a large ν; where there is no leap and S₁₂ is far above ν, it is certain
that there is no symmetry.

What every function allows is no symmetry: directions in which f does not vary (the null space of G), outputs that are
combinations of others (the null space of F), and, where B may be anything, the dilation A = 1 of homogeneous functions.
The first two are cut away before, the last by tr A = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from symfield.typing import Float, Tensor

__all__ = ["LieAlgebra", "closure", "lie_algebra", "spans"]

#: Largest eigenvalue that may belong to a symmetry, relative to chance.
LARGEST_EIGENVALUE = 0.05

#: Smallest leap, as a ratio, between the eigenvalues of the algebra and the others.
SMALLEST_LEAP = 8.0

#: Mixed forms of two fits above so many times what errors give are no symmetry's.
ERRORS = 3.0

_FLOOR = 1e-12
_RANK = 1e-5


@dataclass(frozen=True, eq=False)
class LieAlgebra:
    """The candidates for infinitesimal symmetries.

    Attributes:
        inputs: basis A, orthonormal in the inner product of T, ``(k, d, d)``.
        outputs: the B that belong to it, ``(k, o, o)``; zero for an invariance.
        eigenvalues: all of (S, T), ascending.
        clear: whether the eigenvalues leap where the algebra ends, or are all certainly above 0.
        ignored: orthonormal directions in which the function does not vary, ``(d, r)``.
        explained: whether errors of the fit explain that the eigenvalues of the algebra are not 0.
    """

    inputs: Float[Tensor, "k d d"]
    outputs: Float[Tensor, "k o o"]
    eigenvalues: Float[Tensor, " n"]
    clear: bool
    ignored: Float[Tensor, "d r"]
    explained: bool = False

    def __len__(self) -> int:
        return len(self.inputs)


def lie_algebra(
    jacobians: Float[Tensor, "b o d"],
    x: Float[Tensor, "b d"],
    values: Float[Tensor, "b o"] | None = None,
    *,
    halves: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> LieAlgebra:
    """All (A, B) with J A x = B f, up to errors of the gradients.

    Args:
        jacobians: J_f at the samples.
        x: the samples, which must span R^d.
        values: f at the samples; when absent, B = 0.
        halves: Jacobians and values at the same samples of two more fits, each to half of what the first was fitted to;
            when absent, gradients are taken to be exact.

    Returns:
        The algebra, with no element when no eigenvalue is small.

    Raises:
        ValueError: if the samples do not span the space, or the function is constant.

    Example:
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> algebra = lie_algebra(2 * x[:, None], x)  # gradients of |x|²
        >>> len(algebra), float((algebra.inputs + algebra.inputs.mT).abs().max()) < 0.3  # so(3), nearly skew in T
        (3, True)
    """
    covariance, metric = _second_moments(x), _second_moments(jacobians.flatten(0, 1))
    kept, ignored = _range(metric, "expected a function that varies, received one that is constant")
    whole, lost = _range(covariance, "expected inputs that vary, received zeros")
    if lost.shape[1]:
        raise ValueError(
            f"expected inputs that span R^{x.shape[1]}, received collinear ones that span {whole.shape[1]} dimensions; "
            "gradients across them are unknown: project the inputs first"
        )
    u, jac = x @ kept, jacobians @ kept
    root_in, root_grad = _root(_second_moments(u)), _root(_second_moments(jac.flatten(0, 1)))
    p = kept.shape[1]
    left, right = torch.linalg.inv(root_grad), torch.linalg.inv(root_in)
    outputs, q, f_white = None, 0, None
    if values is not None:
        outputs, _ = _range(_second_moments(values), "expected outputs that vary, received zeros")
        q = outputs.shape[1]
        f_white = torch.linalg.inv(_root(_second_moments(values @ outputs)))

    def rows_of(jac: Tensor, f: Tensor | None) -> Tensor:
        """J A x − B f as a linear map of Ã = G^½ A Σ^½ and the whitened B, sample by sample."""
        columns = torch.einsum("bog,bi->bogi", jac @ kept @ left, u @ right).flatten(2)
        if outputs is None or f_white is None or f is None:
            return columns.flatten(0, 1)
        projected = torch.einsum("bop,oq->bqp", columns, outputs)
        white = f @ outputs @ f_white
        selected = torch.einsum("qr,bs->bqrs", torch.eye(q, dtype=x.dtype), white).flatten(2)
        return torch.cat([projected, -selected], dim=-1).flatten(0, 1)

    matrix = rows_of(jacobians, values)
    form = matrix.mT @ matrix / len(x)
    basis = torch.eye(form.shape[0], dtype=x.dtype)
    if values is not None:  # tr A = 0, as a linear condition on Ã: A = G^-½ Ã Σ^-½
        condition = torch.zeros(form.shape[0], dtype=x.dtype)
        condition[: p * p] = (right @ left).mT.reshape(-1)
        basis = torch.linalg.qr(condition[:, None], mode="complete")[0][:, 1:]
    eigenvalues, vectors = torch.linalg.eigh(basis.mT @ form @ basis)
    eigenvalues = eigenvalues.clamp_min(0.0)
    explained = False
    if halves is None:
        count, clear = _leap(eigenvalues)
    else:
        one, two = (rows_of(j, f if values is not None else None) @ basis @ vectors for j, f in halves)
        mixed = (one * two).sum(0) / len(x)
        noise = (one - two).square().sum(0) / (4 * len(x))
        count, clear = _leap(eigenvalues, mixed=mixed, noise=noise)
        explained = bool((mixed <= ERRORS * noise)[:count].all())
    found = (basis @ vectors[:, :count]).mT
    white_a = found[:, : p * p].reshape(count, p, p)
    a = kept @ left @ white_a @ right @ kept.mT
    o = jacobians.shape[1]
    b = torch.zeros(count, o, o, dtype=x.dtype)
    if outputs is not None and f_white is not None:
        b = outputs @ found[:, p * p :].reshape(count, q, q) @ f_white @ outputs.mT
    return LieAlgebra(a, b, eigenvalues, clear, ignored, explained)


def closure(basis: Float[Tensor, "k d d"]) -> float:
    """How far a space of matrices is from being closed under brackets: 0 for a Lie algebra.

    Args:
        basis: a basis, ``(k, d, d)``.

    Returns:
        The largest distance of [A, B] from the space, relative to |A||B|, over an orthonormal basis.

    Example:
        >>> from symfield.groups import SpecialOrthogonal
        >>> closure(SpecialOrthogonal(4).lie_algebra), round(closure(SpecialOrthogonal(3).lie_algebra[:2]), 3)
        (0.0, 0.707)
    """
    if len(basis) < 2:
        return 0.0
    flat = torch.linalg.qr(basis.flatten(1).mT)[0].mT
    ortho = flat.reshape(basis.shape)
    brackets = ortho[:, None] @ ortho[None] - ortho[None] @ ortho[:, None]
    rows = brackets.flatten(2)
    return round(float((rows - rows @ flat.mT @ flat).norm(dim=-1).max()), 15)


def spans(x: Float[Tensor, "b d"]) -> bool:
    """Whether samples span their space, so that :func:`lie_algebra` takes them.

    Args:
        x: the samples.

    Returns:
        False where a direction is missing, or so faint beside the others that gradients along it are unknown.

    Example:
        >>> spans(torch.eye(2)), spans(torch.ones(3, 2))
        (True, False)
    """
    values = torch.linalg.eigvalsh(_second_moments(x))
    return bool(values[0] > _RANK * values[-1])


class _Range(NamedTuple):
    kept: Tensor
    lost: Tensor


def _second_moments(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    return rows.mT @ rows / len(rows)


def _range(moments: Float[Tensor, "d d"], complaint: str) -> _Range:
    """Orthonormal bases of the directions that a second moment has and lacks."""
    values, vectors = torch.linalg.eigh(moments)
    top = float(values[-1])
    if not top > 0:
        raise ValueError(complaint)
    present = values > _RANK * top
    return _Range(vectors[:, present], vectors[:, ~present])


def _root(moments: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(moments)
    return vectors * values.clamp_min(0.0).sqrt() @ vectors.mT


def _leap(
    eigenvalues: Float[Tensor, " n"], mixed: Tensor | None = None, noise: Tensor | None = None
) -> tuple[int, bool]:
    """How many eigenvalues belong to the algebra, and whether that is clear."""
    small = int((eigenvalues <= LARGEST_EIGENVALUE).sum())
    if small == 0:
        return 0, True
    floor = _FLOOR if noise is None else max(float(noise[:small].mean()), _FLOOR)
    padded = torch.cat([eigenvalues, torch.ones(1, dtype=eigenvalues.dtype)])
    ratios = (padded[1 : small + 1] + floor) / (padded[:small] + floor)
    best = int(ratios.argmax())
    if float(ratios[best]) >= SMALLEST_LEAP:
        # errors alone may move a direction as far as it may be from a symmetry; an exact one of the fit shows no λ
        known = noise is None or float(noise[: best + 1].max()) <= LARGEST_EIGENVALUE
        return (best + 1, True) if known else (0, False)
    certain = mixed is not None and noise is not None and bool((mixed > ERRORS * noise)[:small].all())
    return 0, certain
