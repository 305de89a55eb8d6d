"""Is ρ a representation: do matrix, act, lie, character and signed_permutation tell one consistent story?"""

from __future__ import annotations

import torch

from symfield.groups import Representation
from symfield.random import normal
from symfield.testing.measure import probes, tolerance, violation
from symfield.typing import Generator, Tensor

__all__ = ["assert_representation"]


def assert_representation(
    rep: Representation, *, generator: Generator, samples: int = 6, atol: float | None = None
) -> None:
    """Fail unless ``rep`` obeys the laws of a representation, in float64.

    The laws: ρ(1) = I; ρ(gh) = ρ(g)ρ(h); ρ(g⁻¹)ρ(g) = I; act multiplies by the matrix; the character is its trace; the
    signed permutation, if there is one, is the matrix; the dual is the inverse transpose; and for a Lie group
    ρ(exp A) = exp(dρ(A)) with act_lie multiplying by dρ(A).

    Args:
        rep: the representation.
        generator: source of random group elements and vectors.
        samples: number of random elements; all discrete generators are tried as well.
        atol: accepted relative violation; :func:`tolerance` of float64 when absent.

    Raises:
        AssertionError: naming the law, the measured violation and the worst element.
        ValueError: if ``samples`` is not positive.

    Example:
        >>> from symfield.groups import Defining, Orthogonal
        >>> assert_representation(Defining(Orthogonal(3)) ** 2, generator=torch.Generator().manual_seed(0))
    """
    accepted = tolerance(torch.float64) if atol is None else atol
    for law, found, expected, elements in _laws(rep, generator=generator, samples=samples):
        worst = violation(found, expected, elements)
        if not worst.error <= accepted:
            raise AssertionError(
                f"{rep} of {rep.group} violates {law} by {worst.error:.2e} (relative), accepted is {accepted:.1e}; "
                f"worst at {worst.element.tolist()}. Check the representation's matrices and their order of coordinates"
            )


def _laws(rep: Representation, *, generator: Generator, samples: int) -> list[tuple[str, Tensor, Tensor, Tensor]]:
    group = rep.group
    g = probes(group, samples, generator=generator, device=torch.device("cpu"))
    h = g[torch.randperm(len(g), generator=generator)]
    x = normal((len(g), rep.dim), generator=generator, like=torch.zeros(1, dtype=torch.float64))
    matrix, eye = rep.matrix(g), torch.eye(rep.dim, dtype=torch.float64)
    laws = [
        ("ρ(1) = I", rep.matrix(group.identity)[None], eye[None], group.identity[None]),
        ("ρ(gh) = ρ(g) ρ(h)", rep.matrix(group.compose(g, h)), matrix @ rep.matrix(h), g),
        ("ρ(g⁻¹) ρ(g) = I", rep.matrix(group.inverse(g)) @ matrix, eye.expand_as(matrix), g),
        ("act(g, x) = ρ(g) x", rep.act(g, x), torch.einsum("kij,kj->ki", matrix, x), g),
        ("character(g) = tr ρ(g)", rep.character(g)[:, None], matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None], g),
        ("dual(g) = ρ(g⁻¹)ᵀ", rep.dual.matrix(g), rep.matrix(group.inverse(g)).mT, g),
    ]
    signed = rep.signed_permutation(g)
    if signed is not None:
        index, sign = signed
        moved = x.gather(-1, index.expand(x.shape))
        laws.append(("sign_i x[index_i] = (ρ(g) x)_i", moved if sign is None else sign * moved, laws[3][2], g))
    if len(group.lie_algebra):
        weights = normal((samples, len(group.lie_algebra)), generator=generator, like=x)
        a = torch.einsum("kj,jpq->kpq", weights, group.lie_algebra)
        y = normal((samples, rep.dim), generator=generator, like=x)
        laws += [
            ("ρ(exp A) = exp dρ(A)", rep.matrix(group.exp(a)), torch.linalg.matrix_exp(rep.lie(a)), a),
            ("act_lie(A, x) = dρ(A) x", rep.act_lie(a, y), torch.einsum("kij,kj->ki", rep.lie(a), y), a),
        ]
    return laws
