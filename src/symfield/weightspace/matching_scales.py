"""All positive scales of a symmetry at once.

Once permutations, signs and matrices are fixed, the squared distance depends on the scales r = exp(x) of all spaces
through

    D(x) = Σ_blocks Σ_{ij...} q_ij... r_i^{2p} r_j^{2p'} ... − 2 c_ij... r_i^p r_j^{p'} ... + const,

with q the squares of the second model's entries and c the products of both models' entries. Both are summed once over
all axes that no scale moves; a value with its gradient then costs two matrix-vector products for every block, and a
quasi-Newton method (L-BFGS) needs some dozens of them. Without c, D is convex: its minimum is the *balanced*
representative, the model of least norm with the same function, on which models may be compared before their scales are
known.

References:
    Du, Hu & Lee 2018, Algorithmic regularization in learning deep homogeneous models, arXiv 1806.00900 (balancedness).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize

from symfield.typing import Params, Tensor
from symfield.weightspace.factors import PositiveScale
from symfield.weightspace.layout import Piece, map_blocks
from symfield.weightspace.matching import Problem
from symfield.weightspace.symmetry import Element

__all__ = ["balancing_scales", "best_scales"]

_BOUND = 12.0  # of |x|: dead units would run away


class _Term(NamedTuple):
    squares: Tensor
    products: Tensor | None
    names: tuple[str, ...]
    powers: tuple[int, ...]


def best_scales(problem: Problem, factors: Sequence[PositiveScale], *, steps: int = 200) -> Element:
    """Scales of several spaces that minimise the squared distance, jointly.

    Args:
        problem: two models, the second moved by all other factors already.
        factors: without base.
        steps: of the quasi-Newton method at most.

    Returns:
        Scales by factor name; ones where nothing is gained.
    """
    return _solve(_terms(problem, problem.b, factors, crossed=True), factors, steps)


def balancing_scales(
    problem: Problem, params: Params, factors: Sequence[PositiveScale], *, steps: int = 200
) -> Element:
    """Scales that bring a model to its least norm.

    Args:
        problem: whose symmetry and weights are used.
        params: the model.
        factors: without base.
        steps: of the quasi-Newton method at most.

    Returns:
        Scales by factor name.
    """
    return _solve(_terms(problem, params, factors, crossed=False), factors, steps)


def _terms(problem: Problem, b: Params, factors: Sequence[PositiveScale], *, crossed: bool) -> list[_Term]:
    names = {factor.name for factor in factors}
    terms: list[_Term] = []
    for tensor in sorted(problem.touched(names)):
        weight = problem.weights.get(tensor, 0.0)
        if weight == 0 or tensor not in b:
            continue
        layouts = [(layout, i) for i, layout in enumerate(problem.symmetry.layouts[tensor])]
        halves: list[list[Tensor]] = []
        found: list[tuple[tuple[str, int], ...]] = []
        for side in (problem.a[tensor] if crossed else b[tensor], b[tensor]):
            blocks: list[Tensor] = []
            found = []

            def visit(
                block: Tensor,
                parts: tuple[tuple[Piece, int], ...],
                blocks: list[Tensor] = blocks,
                found: list[tuple[tuple[str, int], ...]] = found,
            ) -> Tensor:
                moves = [next((m for m in piece.moves if m.factor in names), None) for piece, _ in parts]
                found.append(tuple(("", 0) if move is None else (move.factor, move.power) for move in moves))
                blocks.append(block)
                return block

            map_blocks(side, layouts, visit)
            halves.append(blocks)
        for one, two, moves in zip(*halves, found, strict=True):
            if not any(name for name, _ in moves):
                continue
            rest = [axis for axis, (name, _) in enumerate(moves) if not name]

            def summed(values: Tensor, rest: list[int] = rest, weight: float = weight) -> Tensor:
                return weight * (values.sum(rest) if rest else values).double()

            kept = [(name, power) for name, power in moves if name]
            terms.append(
                _Term(
                    summed(two.square()),
                    summed(one * two) if crossed else None,
                    tuple(name for name, _ in kept),
                    tuple(power for _, power in kept),
                )
            )
    return terms


def _solve(terms: list[_Term], factors: Sequence[PositiveScale], steps: int) -> Element:
    sizes = [factor.size for factor in factors]
    if not terms:
        return {factor.name: factor.identity() for factor in factors}

    def distance(x: Tensor) -> Tensor:
        logs = dict(zip((factor.name for factor in factors), x.split(sizes), strict=True))
        values = []
        for term in terms:
            scales = [power * logs[name] for name, power in zip(term.names, term.powers, strict=True)]
            values.append(_contracted(term.squares, [2 * scale for scale in scales]))
            if term.products is not None:
                values.append(-2 * _contracted(term.products, scales))
        return torch.stack(values).sum()

    size = sum(float(term.squares.sum()) for term in terms) or 1.0

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            leaf = torch.from_numpy(x).requires_grad_()
            value = distance(leaf) / size
        (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient.numpy()

    start = np.zeros(sum(sizes))
    result = minimize(
        value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_BOUND, _BOUND)] * len(start),
        options={"maxiter": steps, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-10},
    )
    logs = result.x if result.fun <= value_and_gradient(start)[0] else start
    parts = torch.from_numpy(logs).exp().split(sizes)
    return {factor.name: part for factor, part in zip(factors, parts, strict=True)}


def _contracted(values: Tensor, logs: Sequence[Tensor]) -> Tensor:
    """Σ values_ij... exp(log_i) exp(log_j) ..."""
    for log in reversed(logs):
        values = values @ log.exp().to(values.device)
    return values
