r"""Which classical group a measured Lie algebra of matrices belongs to, and exact generators near the measured ones.

A reductive algebra is the sum of its centre and of simple ideals, which the commutant of its adjoint representation
tells apart. Ideals that move the same vectors form one *block*. A block of dimension n(n − 1)/2 whose Killing form is
that of so(p, q), p + q = n, with pq positive directions, is named so when its matrices are m copies of the vector
representation: tr(A A') = m/(n − 2) · Killing(A, A'), and an invariant quadratic form of signature (p, q) exists. The
measured matrices are then replaced by the exact algebra in the basis in which that form is diag(1, …, −1, …).

The centre is split into planes that single elements turn: SO(2), or SO(1, 1) where they are stretched and shrunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from symfield.typing import Float, Tensor

__all__ = ["Block", "classified", "standard"]

_TOLERANCE = 0.15


@dataclass(frozen=True, eq=False)
class Block:
    """One factor of the group.

    Attributes:
        p: positive directions of the invariant form, at most q.
        q: negative ones (a definite form has p = 0, q = n); both 0 where the factor is not known.
        coefficients: the exact basis in terms of the measured one, ``(j, k)``.
        frame: n basis vectors for each of m copies, ``(d, n·m)``, copy by copy; the exact matrices are E ⊗ 1 in it.
        form: the invariant form in the frame, ``(n,)`` signs.
    """

    p: int
    q: int
    coefficients: Float[Tensor, "j k"]
    frame: Float[Tensor, "d m"]
    form: Float[Tensor, " n"]

    @property
    def n(self) -> int:
        """Size of the vectors that the factor acts on."""
        return self.p + self.q

    @property
    def copies(self) -> int:
        """How many vectors it moves together."""
        return self.frame.shape[1] // max(self.n, 1)

    @property
    def known(self) -> bool:
        """Whether the factor was recognised."""
        return self.n > 0

    @property
    def compact(self) -> bool:
        """Whether the factor is a rotation group."""
        return self.known and self.p == 0

    @property
    def name(self) -> str:
        """SO(n) or SO(p,q); the dimension where it is not known."""
        if not self.known:
            return f"Lie group of dimension {len(self.coefficients)}"
        return f"SO({self.n})" if self.compact else f"SO({self.p},{self.q})"

    def matrices(self) -> Float[Tensor, "j n n"]:
        """The exact generators in the frame, one for each pair of axes: :func:`standard`."""
        return standard(self.form)


def standard(form: Float[Tensor, " n"]) -> Float[Tensor, "j n n"]:
    """The basis of so(form) with E_ij = e_j e_iᵀ form_i − e_i e_jᵀ form_j, i < j.

    Args:
        form: the diagonal of the invariant form, ±1, ``(n,)``.

    Returns:
        Matrices with Eᵀ η + η E = 0, in lexicographic order; for the form 1, …, 1 the basis of ``SpecialOrthogonal``.

    Example:
        >>> from symfield.groups import SpecialOrthogonal
        >>> bool((standard(torch.ones(3, dtype=torch.float64)) == SpecialOrthogonal(3).lie_algebra).all())
        True
    """
    n = len(form)
    i, j = torch.triu_indices(n, n, offset=1)
    row = torch.arange(len(i))
    basis = torch.zeros(len(i), n, n, dtype=form.dtype)
    basis[row, j, i] = form[i]
    basis[row, i, j] = -form[j]
    return basis


def classified(algebra: Float[Tensor, "k d d"]) -> tuple[Block, ...]:
    """The factors of the connected group of an algebra of matrices.

    Args:
        algebra: a basis, closed under brackets up to small errors.

    Returns:
        Blocks, the largest first. What is not recognised is one block with p = q = 0.

    Example:
        >>> from symfield.groups import SpecialOrthogonal
        >>> mixed = torch.einsum("ij,jkl->ikl", torch.tensor([[2.0, 1], [1, 3]]).double(), torch.stack([
        ...     torch.block_diag(SpecialOrthogonal(2).lie_algebra[0], torch.zeros(2, 2)),
        ...     torch.block_diag(torch.zeros(2, 2), SpecialOrthogonal(2).lie_algebra[0])]))
        >>> [block.name for block in classified(mixed)]
        ['SO(2)', 'SO(2)']
    """
    k = len(algebra)
    if k == 0:
        return ()
    flat = torch.linalg.qr(algebra.flatten(1).mT)[0].mT
    change = torch.linalg.lstsq(algebra.flatten(1).mT, flat.mT).solution.mT  # orthonormal basis in the given one
    basis = flat.reshape(algebra.shape)
    centre, rest = _centre(basis)
    found = _central(basis, centre)
    found += _simple(basis, rest)
    blocks = [Block(b.p, b.q, b.coefficients @ change, b.frame, b.form) for b in found]
    return tuple(sorted(blocks, key=lambda b: (-len(b.coefficients), -b.n)))


def _structure(basis: Tensor) -> Float[Tensor, "k k k"]:
    """c with [A_i, A_j] = Σ_l c_ijl A_l, for an orthonormal basis."""
    brackets = basis[:, None] @ basis[None] - basis[None] @ basis[:, None]
    return torch.einsum("ijpq,lpq->ijl", brackets, basis)


def _centre(basis: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal coefficients of the centre and of what is orthogonal to it."""
    c = _structure(basis)
    _, values, right = torch.linalg.svd(c.permute(1, 2, 0).flatten(0, 1), full_matrices=True)
    scale = float(basis.flatten(1).norm(dim=-1).max()) / math.sqrt(basis.shape[-1])
    padded = torch.zeros(len(basis), dtype=values.dtype)
    padded[: len(values)] = values
    central = padded < _TOLERANCE * scale
    return right[central], right[~central]


def _central(basis: Tensor, centre: Tensor) -> list[Block]:
    """Planes that the centre turns or stretches, each by one parameter; one unknown block if that is not so."""
    if not len(centre):
        return []
    elements = torch.einsum("ck,kpq->cpq", centre, basis)
    values, vectors = torch.linalg.eig(_generic(elements))
    size = float(values.abs().max())
    planes, used = [], torch.zeros(len(values), dtype=torch.bool)
    for i in range(len(values)):
        value = values[i]
        if used[i] or abs(value) < _TOLERANCE * size:
            continue
        if abs(value.imag) > abs(value.real):  # a pair ± i θ
            partner = int((values - value.conj()).abs().masked_fill(used, torch.inf).argmin())
            planes.append((torch.stack([vectors[:, i].real, -vectors[:, i].imag], dim=1), True))
        else:
            order = (values + value).abs().masked_fill(used, torch.inf)
            order[i] = torch.inf
            partner = int(order.argmin())
            if abs(values[partner] + value) > _TOLERANCE * size:
                return [_unknown(centre)]
            u, v = vectors[:, i].real, vectors[:, partner].real
            planes.append((torch.stack([u + v, u - v], dim=1) / math.sqrt(2), False))
        used[[i, partner]] = True
    rates = torch.zeros(len(elements), len(planes), dtype=basis.dtype)
    for column, (plane, turns) in enumerate(planes):
        inside = torch.linalg.pinv(plane) @ elements @ plane
        rates[:, column] = (inside[:, 1, 0] - inside[:, 0, 1]) / 2 if turns else (inside[:, 1, 0] + inside[:, 0, 1]) / 2
    return _one_parameter_groups(centre, planes, rates)


def _generic(elements: Tensor) -> Float[Tensor, "d d"]:
    """A combination of commuting matrices whose non-zero eigenvalues are all far from zero."""
    rank, best, chosen = _support(elements).shape[1], -1.0, elements[0]
    for attempt in range(1, 30):
        mix = torch.tensor([math.cos(attempt * (1.0 + 1.7 * i)) for i in range(len(elements))], dtype=elements.dtype)
        candidate = torch.einsum("c,cpq->pq", mix, elements)
        sizes = torch.linalg.eigvals(candidate).abs().sort(descending=True).values
        if float(sizes[rank - 1] / sizes[0]) > best:
            best, chosen = float(sizes[rank - 1] / sizes[0]), candidate
    return chosen


def _one_parameter_groups(centre: Tensor, planes: list[tuple[Tensor, bool]], rates: Tensor) -> list[Block]:
    """Combinations of the central elements that move as few planes as possible: planes with proportional rates."""
    blocks, left = [], list(range(len(planes)))
    while left:
        head = rates[:, left[0]]
        together = [j for j in left if _parallel(head, rates[:, j]) and planes[j][1] == planes[left[0]][1]]
        left = [j for j in left if j not in together]
        speeds = torch.stack([rates[:, j] @ head / (head @ head) for j in together])
        if bool((speeds.abs() - 1).abs().max() > _TOLERANCE):
            return [_unknown(centre)]
        frame = torch.cat([planes[j][0] * torch.tensor([1.0, float(torch.sign(s))]).to(head)
                           for j, s in zip(together, speeds, strict=True)], dim=1)  # fmt: skip
        form = torch.tensor([1.0, 1.0] if planes[together[0]][1] else [1.0, -1.0], dtype=head.dtype)
        others = rates[:, [j for j in range(len(planes)) if j not in together]]
        dual = _dual(head, others)
        if dual is None:
            return [_unknown(centre)]
        turns = planes[together[0]][1]
        blocks.append(Block(0 if turns else 1, 2 if turns else 1, (dual @ centre)[None], frame, form))
    return blocks if len(blocks) == len(centre) else [_unknown(centre)]


def _dual(head: Tensor, others: Tensor) -> Tensor | None:
    """The combination with rate one on these planes and none on the others."""
    system = torch.cat([head[:, None], others], dim=1).mT
    target = torch.zeros(len(system), dtype=head.dtype)
    target[0] = 1.0
    solution = torch.linalg.lstsq(system, target[:, None], driver="gelsd").solution[:, 0]
    return solution if float((system @ solution - target).abs().max()) < _TOLERANCE else None


def _unknown(coefficients: Tensor) -> Block:
    nothing = coefficients.new_zeros(0)
    return Block(0, 0, coefficients, coefficients.new_zeros(0, 0), nothing)


def _parallel(a: Tensor, b: Tensor) -> bool:
    return bool((a @ b).abs() >= (1 - _TOLERANCE / 10) * a.norm() * b.norm())


def _simple(basis: Tensor, rest: Tensor) -> list[Block]:
    if not len(rest):
        return []
    parts = _by_support(basis, _ideals(basis, rest))
    return [_orthogonal_block(basis, coefficients) or _unknown(coefficients) for coefficients in parts]


def _ideals(basis: Tensor, rest: Tensor) -> list[Tensor]:
    """Coefficients of the simple ideals: eigenspaces of a generic matrix that commutes with the adjoint one."""
    part = torch.einsum("rk,kpq->rpq", rest, basis)
    ad = _structure(part).mT  # ad_i as a matrix on coefficients
    k = len(rest)
    rows = _intertwining(ad, ad)
    _, values, right = torch.linalg.svd(rows, full_matrices=True)
    small = torch.zeros(k * k, dtype=torch.bool)
    small[: len(values)] = values < _TOLERANCE * values[0] / math.sqrt(k)
    commuting = right[small].reshape(-1, k, k)
    mix = torch.tensor([math.cos(1.0 + 1.7 * i) for i in range(len(commuting))], dtype=basis.dtype)
    generic = torch.einsum("c,cij->ij", mix, commuting)
    eigenvalues, vectors = torch.linalg.eig(generic)
    spread = float((eigenvalues.real - eigenvalues.real.mean()).abs().max())
    if spread < _TOLERANCE * float(generic.norm()) / math.sqrt(k):
        return [rest]
    order = eigenvalues.real.argsort()
    groups: list[list[int]] = [[int(order[0])]]
    for before, here in zip(order.tolist(), order[1:].tolist(), strict=False):
        if float(eigenvalues.real[here] - eigenvalues.real[before]) > _TOLERANCE * spread:
            groups.append([])
        groups[-1].append(here)
    ideals = []
    for group in groups:
        span = torch.cat([vectors[:, group].real, vectors[:, group].imag], dim=1)
        u, _, _ = torch.linalg.svd(span, full_matrices=False)
        ideals.append(u[:, : len(group)].mT @ rest)
    return ideals


def _by_support(basis: Tensor, ideals: list[Tensor]) -> list[Tensor]:
    """Ideals that move the same vectors, together."""
    supports = [_support(torch.einsum("rk,kpq->rpq", c, basis)) for c in ideals]
    label = list(range(len(ideals)))
    for i in range(len(ideals)):
        for j in range(i):
            overlap = torch.linalg.svdvals(supports[i].mT @ supports[j])
            if len(overlap) and float(overlap[0]) > 1 - _TOLERANCE:
                label = [label[j] if one == label[i] else one for one in label]
    return [torch.cat([c for c, one in zip(ideals, label, strict=True) if one == k]) for k in sorted(set(label))]


def _support(elements: Tensor) -> Float[Tensor, "d u"]:
    """Orthonormal basis of all that the elements reach."""
    images = elements.permute(1, 0, 2).flatten(1)
    u, values, _ = torch.linalg.svd(images, full_matrices=False)
    return u[:, values > _TOLERANCE * values[0]]


def _orthogonal_block(basis: Tensor, coefficients: Tensor) -> Block | None:
    """The block as so(p, q) on copies of its vectors; None if it is something else."""
    elements = torch.einsum("rk,kpq->rpq", coefficients, basis)
    k, support = len(elements), _support(elements)
    n = round((1 + math.sqrt(1 + 8 * k)) / 2)
    u = support.shape[1]
    if n * (n - 1) // 2 != k or n < 3 or u % n:
        return None
    inside = support.mT @ elements @ support
    c = _structure(torch.linalg.qr(elements.flatten(1).mT)[0].mT.reshape(elements.shape))
    killing = torch.einsum("ilm,jml->ij", c, c)
    signature = torch.linalg.eigvalsh(killing)
    positive = int((signature > 0).sum())
    if float(signature.abs().min()) < _TOLERANCE / 10 * float(signature.abs().max()):
        return None
    p = next((p for p in range(n // 2 + 1) if p * (n - p) == positive), None)
    if p is None:
        return None
    copies = u // n
    first = _one_copy(inside, n, copies)
    if first is None:
        return None
    frame_one, form = _framed(first, p, n)
    if frame_one is None:
        return None
    small = torch.linalg.inv(frame_one) @ first @ frame_one  # k matrices near so(form)
    exact = standard(form)
    weights = torch.linalg.lstsq(small.flatten(1).mT, exact.flatten(1).mT).solution.mT
    defect = torch.einsum("jr,rpq->jpq", weights, small) - exact
    if float(defect.flatten(1).norm(dim=-1).max()) > 2 * _TOLERANCE:
        return None
    frame = copies_of(torch.einsum("jr,rpq->jpq", weights, inside), exact, copies)
    if frame is None:
        return None
    return Block(p, n - p, weights @ coefficients, support @ frame, form)


def _one_copy(inside: Float[Tensor, "k u u"], n: int, copies: int) -> Float[Tensor, "k n n"] | None:
    """The matrices on one of the copies of an irreducible space, in any basis."""
    if copies == 1:
        return inside
    u = inside.shape[-1]
    commuting = torch.linalg.svd(_intertwining(inside, inside), full_matrices=True)[2][-(copies**2) :].reshape(-1, u, u)
    best, chosen = 0.0, None
    for attempt in range(1, 40):  # a generic element, whose n-fold eigenvalues are real and far apart
        mix = torch.tensor([math.cos(attempt * (1.0 + 1.7 * i)) for i in range(len(commuting))], dtype=inside.dtype)
        values, vectors = torch.linalg.eig(torch.einsum("c,cij->ij", mix, commuting))
        order = values.real.argsort()
        real, off = values.real[order], float(values.imag.abs().max())
        gap = float((real[n::n] - real[n - 1 : -1 : n]).min()) / (float(real.abs().max()) + off)
        if gap > best and off < gap * float(real.abs().max()):
            span = torch.cat([vectors[:, order[:n]].real, vectors[:, order[:n]].imag], dim=1)
            best, chosen = gap, torch.linalg.svd(span, full_matrices=False)[0][:, :n]
    return None if chosen is None else chosen.mT @ inside @ chosen


def _framed(first: Float[Tensor, "k n n"], p: int, n: int) -> tuple[Tensor | None, Tensor]:
    """A basis in which the invariant form of the matrices is diag(form), the p positive ones first."""
    eye = torch.eye(n, dtype=first.dtype)
    i, j = torch.triu_indices(n, n)
    symmetric = torch.zeros(len(i), n, n, dtype=first.dtype)
    symmetric[torch.arange(len(i)), i, j] = 1.0
    symmetric[torch.arange(len(i)), j, i] = 1.0
    images = (first.mT[:, None] @ symmetric[None] + symmetric[None] @ first[:, None]).permute(0, 2, 3, 1)
    form = torch.einsum("s,sij->ij", torch.linalg.svd(images.flatten(0, 2))[2][-1], symmetric)
    values, vectors = torch.linalg.eigh(form)
    positive = int((values > 0).sum())
    if positive == n - p and p != n - p:
        values, vectors = -values.flip(0), vectors.flip(1)
        positive = n - positive
    if positive != p or float(values.abs().min()) < 1e-3 * float(values.abs().max()):
        return None, eye[0]
    order = values.argsort(descending=True)
    values, vectors = values[order], vectors[:, order]
    signs = torch.sign(values) if p else torch.ones(n, dtype=first.dtype)
    scale = values.abs().mean().sqrt() / values.abs().sqrt()
    return vectors * scale, signs


def copies_of(
    measured: Float[Tensor, "j u u"], exact: Float[Tensor, "j n n"], copies: int
) -> Float[Tensor, "u m"] | None:
    """Basis vectors in which measured matrices are copies of exact ones: all T with M T = T E, side by side.

    Args:
        measured: matrices near copies of the exact ones and zeros.
        exact: generators of an irreducible representation.
        copies: how many copies there are.

    Returns:
        The T's, ``(u, n · copies)``, or ``None`` if they are not independent.
    """
    u, n = measured.shape[-1], exact.shape[-1]
    solutions = torch.linalg.svd(_intertwining(measured, exact), full_matrices=True)[2][-copies:].reshape(copies, u, n)
    frame = solutions.permute(1, 0, 2).flatten(1) * math.sqrt(n)
    values = torch.linalg.svdvals(frame)
    return frame if float(values[-1]) > 0.05 * float(values[0]) else None


def _intertwining(left: Float[Tensor, "k u u"], right: Float[Tensor, "k n n"]) -> Float[Tensor, "r c"]:
    """The linear conditions L T = T R on T, ``(u, n)`` row by row."""
    eye_u, eye_n = torch.eye(left.shape[-1], dtype=left.dtype), torch.eye(right.shape[-1], dtype=left.dtype)
    pairs = zip(left, right, strict=True)
    return torch.cat([torch.kron(a.contiguous(), eye_n) - torch.kron(eye_u, b.mT.contiguous()) for a, b in pairs])
