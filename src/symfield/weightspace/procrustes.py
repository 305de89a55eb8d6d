"""The best element of one factor, the others held: closed forms and steps that never go uphill.

Given entries of two models that a factor moves, unit by unit, the squared distance Σ ‖a − g^power b‖² is minimised

- over signs: the sign of ⟨a_i, b_i⟩;
- over positive scales with exponents p: Σ_p (α_p r^{2p} − 2 β_p r^p), a polynomial equation in r for every unit;
- over orthogonal matrices: the polar factor of Σ a bᵀ (Procrustes); where gains make it A g A^{-1}, majorisation steps;
- over rotations with a scale of a plane: angle and scale in turn, each in closed form;
- over invertible matrices with b₊ → g b₊ and b₋ → g^{-T} b₋: Gauss-Newton. With g = (1 + X) g₀ the linearised problem
  min ‖R₊ − X b₊‖² + ‖R₋ + Xᵀ b₋‖² has the normal equations X (b₊b₊ᵀ) + (b₋b₋ᵀ) X = R₊b₊ᵀ − b₋R₋ᵀ, a Sylvester
  equation that two symmetric eigenproblems solve.

References:
    Schönemann 1966, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31. The steps for
    matrices with gains and for the general linear group are derived here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from symfield.typing import Float, Tensor
from symfield.weightspace.matching import Pair

__all__ = [
    "CONDITION",
    "best_conformal",
    "best_general",
    "best_orthogonal",
    "best_scale",
    "best_sign",
    "orthogonal_procrustes",
]

CONDITION = 1e3
"""Of general matrices, at most: weights moved by worse ones lose more than four digits, half of single precision."""

_TINY = 1e-30


def orthogonal_procrustes(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The orthogonal matrix Q that minimises ‖a − Q b‖.

    Args:
        a: target, shape ``(*batch, n, m)``.
        b: what is rotated, same shape.

    Returns:
        Q of shape ``(*batch, n, n)``: U Vᵀ of the singular value decomposition of a bᵀ, in float64.

    Raises:
        ValueError: if shapes differ or have fewer than two axes.

    Example:
        >>> b = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
        >>> orthogonal_procrustes(b.flip(0), b).round(decimals=6).abs().tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(
            f"expected two arrays of one shape (*batch, n, m), received {tuple(a.shape)}, {tuple(b.shape)}"
        )
    return _polar(a.double() @ b.double().mT)


def best_sign(pairs: Sequence[Pair]) -> Float[Tensor, "..."]:
    """The signs that minimise the distance, exactly where no slot is coupled.

    Args:
        pairs: entries that the factor moves.

    Returns:
        1 or -1 for each unit, shape ``(*base, n)``, float64.
    """
    inner = sum(torch.einsum("...m,...m->...", pair.a.double(), pair.b.double()) for pair in pairs)
    assert isinstance(inner, Tensor)
    return torch.where(inner < 0, -1.0, 1.0).to(torch.float64)


def best_scale(pairs: Sequence[Pair]) -> Float[Tensor, "..."]:
    """The positive scales that minimise the distance, exactly where no slot is coupled.

    Args:
        pairs: entries that the factor moves.

    Returns:
        One scale for each unit, shape ``(*base, n)``, float64; 1 where the entries of a unit vanish.
    """
    alpha: dict[int, Tensor] = {}
    beta: dict[int, Tensor] = {}
    for pair in pairs:
        p, a, b = pair.slot.move.power, pair.a.double(), pair.b.double()
        alpha[p] = alpha.get(p, 0) + b.square().sum(-1)
        beta[p] = beta.get(p, 0) + (a * b).sum(-1)
    return _least_scale(alpha, beta)


def _least_scale(alpha: dict[int, Tensor], beta: dict[int, Tensor]) -> Tensor:
    """argmin over r > 0 of Σ_p α_p r^{2p} − 2 β_p r^p: 1, or a root of the derivative."""
    powers = [p for p in alpha if p != 0]
    like = next(iter(alpha.values()))
    if not powers:
        return torch.ones_like(like)
    shift = max(0, -2 * min(powers))  # times r^{1+shift}, all exponents become non-negative
    degree = max(2 * max(powers), max(powers)) + shift
    coefficients = like.new_zeros(*like.shape, degree + 1)  # of r^0, r^1, ...
    for p in powers:
        coefficients[..., 2 * p + shift] += 2 * p * alpha[p]
        coefficients[..., p + shift] -= 2 * p * beta[p]
    size = coefficients.abs().amax(-1, keepdim=True)
    coefficients = coefficients / torch.where(size > 0, size, 1)
    lead = coefficients[..., -1:]
    usable = lead.abs() > 1e-12  # else scales run away to infinity, or there is nothing to scale
    companion = like.new_zeros(*like.shape, degree, degree)
    companion[..., 0, :] = torch.where(usable, -coefficients[..., :-1].flip(-1) / torch.where(usable, lead, 1), 0)
    companion[..., 1:, :-1] = torch.eye(degree - 1, dtype=like.dtype, device=like.device)
    roots = torch.linalg.eigvals(companion)
    real = torch.where(usable & (roots.real > 0) & (roots.imag.abs() <= 1e-6 * roots.real), roots.real, 1.0)
    candidates = torch.cat([real, torch.ones_like(real[..., :1])], -1)

    def value(r: Tensor) -> Tensor:
        terms = [alpha[p].unsqueeze(-1) * r ** (2 * p) - 2 * beta[p].unsqueeze(-1) * r**p for p in powers]
        return torch.stack(terms).sum(0)

    candidates = candidates.clamp(1e-8, 1e8)
    return candidates.gather(-1, value(candidates).argmin(-1, keepdim=True)).squeeze(-1)


def best_orthogonal(pairs: Sequence[Pair], *, steps: int = 20, inertia: float = 0.0) -> Float[Tensor, "..."]:
    """Orthogonal matrices that bring the entries closer; the best ones where no slot is coupled and none has gains.

    Args:
        pairs: entries that the factor moves.
        steps: majorisation steps where there are gains.
        inertia: pulls towards the identity, in units of the largest singular value; for coupled slots, where the best
            answer to the linearised problem may go too far.

    Returns:
        Matrices ``(*base, n, n)``, float64.
    """
    cross = _sum_of_products(pairs)
    curved = [pair for pair in pairs if pair.gain is not None]
    eye = torch.eye(cross.shape[-1], dtype=torch.float64, device=cross.device).expand(cross.shape)
    if not curved:
        pull = inertia * torch.linalg.matrix_norm(cross, ord=2)[..., None, None] if inertia else 0.0
        return _polar(cross + pull * eye)
    # ‖a − A Q A^{-1} b‖² = const − 2⟨Q, A a bᵀ A^{-1}⟩ + tr(Qᵀ A² Q C), C = A^{-1} b bᵀ A^{-1}. Its curvature
    # is at most max(A²) λmax(C), so Q → polar(L Q − gradient/2) never goes uphill.
    quadratics, linear = [], _sum_of_products([pair for pair in pairs if pair.gain is None])
    bound: Tensor | float = 0.0
    for pair in curved:
        assert pair.gain is not None
        gain = pair.gain.double()
        inner = pair.b.double() / gain.unsqueeze(-1)
        second = inner @ inner.mT
        linear = linear + (gain.unsqueeze(-1) * pair.a.double()) @ inner.mT
        quadratics.append((gain.square().unsqueeze(-1), second))
        bound = bound + gain.square().amax(-1) * torch.linalg.matrix_norm(second, ord=2)
    assert isinstance(bound, Tensor)
    bound = bound * (1 + inertia)

    def value(q: Tensor) -> Tensor:
        flat = sum(((weight * q) * (q @ second)).sum((-1, -2)) for weight, second in quadratics)
        return flat - 2 * (q * linear).sum((-1, -2))

    candidates = [eye, _polar(linear)]
    q = torch.where((value(candidates[1]) < value(eye))[..., None, None], candidates[1], eye)
    for _ in range(steps):
        half_gradient = sum(weight * (q @ second) for weight, second in quadratics) - linear
        q = _polar(bound[..., None, None] * q - half_gradient)
    return q


def best_conformal(pairs: Sequence[Pair], *, steps: int = 50) -> Float[Tensor, "..."]:
    """Rotations with a scale of planes that bring the entries closer; angle and scale in turn.

    Args:
        pairs: entries that the factor moves, n = 2.
        steps: how many turns.

    Returns:
        Matrices ``(*base, 2, 2)`` of the form ((x, −y), (y, x)), float64.
    """
    alpha: dict[int, Tensor] = {}
    cross: dict[int, Tensor] = {}
    for pair in pairs:
        p, a, b = pair.slot.move.power, pair.a.double(), pair.b.double()
        one, two = torch.complex(a[..., 0, :], a[..., 1, :]), torch.complex(b[..., 0, :], b[..., 1, :])
        alpha[p] = alpha.get(p, 0) + b.square().sum((-1, -2))
        cross[p] = cross.get(p, 0) + (two.conj() * one).sum(-1)
    scale = torch.ones_like(next(iter(alpha.values())))
    angle = torch.zeros_like(scale)
    for _ in range(steps):
        # g^{-T} = e^{iθ}/ρ, so both kinds of slots turn by θ.
        angle = torch.stack([scale**p * cross[p] for p in cross]).sum(0).angle()
        turned = {p: (cross[p] * torch.polar(torch.ones_like(angle), -angle)).real for p in cross}
        scale = _least_scale(alpha, turned)
    real, imag = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([real, -imag], -1), torch.stack([imag, real], -1)], -2)


def best_general(pairs: Sequence[Pair], *, steps: int = 8) -> Float[Tensor, "..."]:
    """Invertible matrices that bring the entries closer: the best of four starts, then Gauss-Newton steps.

    Args:
        pairs: entries that the factor moves, without gains; b₊ of power 1, b₋ of power -1.
        steps: Gauss-Newton steps at most.

    Returns:
        Matrices ``(*base, n, n)``, float64, with condition numbers below :data:`CONDITION`.
    """
    first = pairs[0].a
    none = first.new_zeros(*first.shape[:-1], 0).double()

    def joined(side: str, power: int) -> Tensor:
        chosen = [getattr(pair, side).double() for pair in pairs if pair.slot.move.power == power]
        return torch.cat([none, *chosen], -1)

    a, b, x, y = joined("a", 1), joined("b", 1), joined("a", -1), joined("b", -1)
    n = first.shape[-2]
    eye = torch.eye(n, dtype=torch.float64, device=first.device).expand(*first.shape[:-1], n)

    def value(g: Tensor) -> Tensor:
        dual = torch.linalg.inv(g).mT
        result = (a - g @ b).square().sum((-1, -2)) + (x - dual @ y).square().sum((-1, -2))
        good = (torch.linalg.cond(g) < CONDITION) & torch.isfinite(result)
        return torch.where(good, result, torch.inf)

    best, low = eye.clone(), value(eye)
    starts = [_polar(a @ b.mT + x @ y.mT), _regression(a, b), torch.linalg.pinv(_regression(x, y)).mT]
    for start in starts:
        safe = torch.where(torch.isfinite(start).all((-1, -2), keepdim=True) & _invertible(start), start, eye)
        there = value(safe)
        best = torch.where((there < low)[..., None, None], safe, best)
        low = torch.minimum(there, low)
    for _ in range(steps):
        step = _gauss_newton(best, a, b, x, y)
        improved = torch.zeros_like(low, dtype=torch.bool)
        before = low
        for t in (1.0, 0.5, 0.25, 1 / 16, 1 / 256):
            trial = torch.linalg.matrix_exp(t * step) @ best
            trial = torch.where((~improved)[..., None, None], trial, best)
            there = value(torch.where(_invertible(trial), trial, best))
            better = ~improved & (there < low)
            best = torch.where(better[..., None, None], trial, best)
            low = torch.where(better, there, low)
            improved = improved | better
            if bool(improved.all()):
                break
        if not bool((low < before * (1 - 1e-12)).any()):
            break
    return best


def _gauss_newton(g: Tensor, a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    now, dual = g @ b, torch.linalg.inv(g).mT @ y
    left, right = dual @ dual.mT, now @ now.mT
    target = (a - now) @ now.mT - dual @ (x - dual).mT
    (p, u), (q, v) = torch.linalg.eigh(left), torch.linalg.eigh(right)
    weight = p.clamp(min=0).unsqueeze(-1) + q.clamp(min=0).unsqueeze(-2)
    floor = 1e-12 * weight.amax((-1, -2), keepdim=True) + _TINY
    step = u @ ((u.mT @ target @ v) / weight.clamp(min=floor)) @ v.mT
    size = torch.linalg.matrix_norm(step)[..., None, None]
    return step / torch.clamp(size, min=1.0)


def _regression(a: Tensor, b: Tensor) -> Tensor:
    """argmin_g ‖a − g b‖."""
    if a.shape[-1] == 0:
        return torch.eye(a.shape[-2], dtype=a.dtype, device=a.device).expand(*a.shape[:-1], a.shape[-2])
    return (a @ b.mT) @ torch.linalg.pinv(b @ b.mT, hermitian=True)


def _invertible(g: Tensor) -> Tensor:
    values = torch.linalg.svdvals(torch.nan_to_num(g))
    return (values[..., -1] > 1e-6 * values[..., 0])[..., None, None]


def _sum_of_products(pairs: Sequence[Pair]) -> Tensor:
    """Σ a bᵀ, zero for no pairs."""
    products = [pair.a.double() @ pair.b.double().mT for pair in pairs]
    return torch.stack(products).sum(0) if products else torch.zeros((), dtype=torch.float64)


def _polar(matrix: Tensor) -> Tensor:
    u, _, vt = torch.linalg.svd(matrix)
    return u @ vt
