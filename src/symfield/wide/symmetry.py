r"""Symmetries of the target that the flow keeps.

Let T be orthogonal and the law of X invariant under it. If f*(Tx) = s f*(x) with a sign s, the velocity field
(g, a∇g) commutes with the map (a, b) ↦ (s a, T b): a cloud that is closed under this map stays closed, and then
f_t(Tx) = s f_t(x) for all times. Infinitely many neurons from :func:`~symfield.wide.sphere_neurons` are closed under
all these maps; a finite random cloud only up to m^{-1/2}, unless :func:`closed_under` completes it.

- :func:`preserved_symmetries` finds which of given T are symmetries of the target, with their signs;
- :func:`closed_under` makes the smallest cloud that is closed under given maps;
- :func:`symmetry_error` measures along a trajectory how far cloud and predictor are from symmetric.

A ReLU teacher shows its symmetries: by relu(z) = z/2 + |z|/2, a function Σ_k a_k relu⟨b_k, x⟩ consists of the vector
Σ_k a_k b_k/2 and of the masses a_k|b_k|/2 on lines ±b_k, and x ↦ |⟨u, x⟩| of distinct lines are linearly independent.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.spatial import cKDTree

from symfield import random
from symfield.groups import Representation, generated_by
from symfield.typing import Float, Tensor
from symfield.wide.inputs import Gaussian, Inputs
from symfield.wide.kernels import absolute_kernel
from symfield.wide.neurons import Neurons, over_runs, require_neurons
from symfield.wide.sampled_target import evaluate
from symfield.wide.targets import Radial, ReLUTeacher, Target, require_target

__all__ = ["Symmetries", "Symmetry", "SymmetryError", "closed_under", "preserved_symmetries", "symmetry_error"]

_ORTHOGONAL = 1e-9
_RESOLVED = 10.0  # roots of machine epsilon


@dataclass(frozen=True, eq=False, repr=False)
class Symmetry:
    """What one orthogonal map does to a target.

    Attributes:
        matrix: T, float64 ``(d, d)``.
        sign: s with f*∘T = s f*: 1 or −1; 0 if there is none.
        deviation: |f*∘T − s f*| / |f*| in L² of the inputs; the smaller of both signs if s = 0.
        exact: whether the target's structure decides, rather than a sample of inputs. The deviation of a ReLU teacher
            is exact as well; that of other targets without this symmetry is measured on the sample.
        invariant_inputs: whether TX has the law of X.
    """

    matrix: Tensor
    sign: int
    deviation: float
    exact: bool
    invariant_inputs: bool

    @property
    def preserved(self) -> bool:
        """Whether the flow keeps clouds closed under (a, b) ↦ (s a, T b)."""
        return self.sign != 0 and self.invariant_inputs

    def __repr__(self) -> str:
        how = "exact" if self.exact else "on a sample"
        law = "invariant" if self.invariant_inputs else "not invariant"
        size = f"{self.deviation:.2g} |f*|, {how}; inputs {law}"
        if self.sign == 0:
            return f"f*∘T is not ±f* (deviation {size}): not preserved"
        signed = "" if self.sign == 1 else "−"
        kept = f"(a, b) ↦ ({signed}a, Tb) is preserved" if self.preserved else "not preserved"
        return f"f*∘T = {signed}f* (deviation {size}): {kept}"


@dataclass(frozen=True, repr=False)
class Symmetries:
    """What given orthogonal maps do to a target, in their order.

    Attributes:
        found: one entry a map.
    """

    found: tuple[Symmetry, ...]

    def __iter__(self) -> Iterator[Symmetry]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Symmetry:
        return self.found[index]

    def __repr__(self) -> str:
        return "\n".join(f"T_{k}: {symmetry!r}" for k, symmetry in enumerate(self.found))

    @property
    def maps(self) -> list[tuple[int, Tensor]]:
        """The preserved ones as (s, T), as :func:`closed_under` takes them."""
        return [(symmetry.sign, symmetry.matrix) for symmetry in self.found if symmetry.preserved]


def preserved_symmetries(
    target: Target,
    inputs: Inputs,
    candidates: Float[Tensor, "..."] | Sequence[Tensor] | Representation,
    *,
    tolerance: float = 1e-9,
    size: int = 4096,
) -> Symmetries:
    """Which orthogonal T satisfy f*∘T = ±f* and leave the inputs' law invariant, so that the flow keeps them.

    ReLU teachers and radial targets are decided by their structure, others on a sample of inputs.

    Args:
        target: f*.
        inputs: law of X.
        candidates: orthogonal matrices, ``(k, d, d)`` or a list; or an orthogonal representation of a finite group on
            R^d, whose generators are then tried (symmetries with their signs form a group).
        tolerance: accepted deviation, relative to |f*| in L²; for teachers also between directions that are the same
            line. Weights in float32 need about 1e-5.
        size: number of inputs in a sampled check.

    Returns:
        For each T the sign, the measured deviation, and whether the flow preserves it.

    Raises:
        ValueError: if dimensions differ, a matrix is not orthogonal, the group is infinite, or the sample is empty.

    Example:
        >>> from symfield.wide import Gaussian, ReLUTeacher
        >>> difference = ReLUTeacher.absolute_values(torch.tensor([1.0, -1.0]), torch.eye(2))
        >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> preserved_symmetries(difference, Gaussian(2), torch.stack([swap, -torch.eye(2)]))
        T_0: f*∘T = −f* (deviation 0 |f*|, exact; inputs invariant): (a, b) ↦ (−a, Tb) is preserved
        T_1: f*∘T = f* (deviation 0 |f*|, exact; inputs invariant): (a, b) ↦ (a, Tb) is preserved

    References:
        Hajjar & Chizat 2023, arXiv 2211.08771.
    """
    require_target(target, inputs)
    if size < 1:
        raise ValueError(f"expected size >= 1 inputs for a sampled check, received {size}")
    matrices = _matrices(candidates, inputs.dim)
    x = inputs.sample((size,), generator=random.generator(0), like=matrices)
    found = []
    for matrix in matrices:
        tried = {sign: _deviation(target, matrix, sign, inputs, x, tolerance) for sign in (1, -1)}
        sign = min(tried, key=lambda s: tried[s][0])
        deviation, exact = tried[sign]
        found.append(
            Symmetry(matrix, sign if deviation <= tolerance else 0, deviation, exact, inputs.is_invariant(matrix))
        )
    return Symmetries(tuple(found))


def closed_under(
    neurons: Neurons, maps: Symmetries | Iterable[tuple[int, Tensor]], *, max_order: int = 1000, tolerance: float = 1e-9
) -> Neurons:
    """The smallest cloud that holds these neurons and is closed under maps (a, b) ↦ (s a, T b).

    Args:
        neurons: a cloud, with any runs.
        maps: pairs (s, T) of a sign and an orthogonal matrix ``(d, d)``, or the preserved ones among
            :func:`preserved_symmetries`.
        max_order: largest group to accept.
        tolerance: neurons closer than this, relative to the largest, count as one; also duplicates that were there.

    Returns:
        The given neurons first, then their images; at most m times the order of the group that the maps generate.

    Raises:
        ValueError: if a sign is not ±1, a matrix is not orthogonal, there is no map, the maps generate an infinite or
            too large group, or runs end with different numbers of neurons.

    Example:
        >>> one = Neurons(torch.tensor([1.0]), torch.tensor([[1.0, 2.0]]))
        >>> closed_under(one, [(-1, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))])
        Neurons(a=tensor([ 1., -1.]), b=tensor([[1., 2.],
                [2., 1.]]))
    """
    require_neurons(neurons)
    *runs, m, dim = neurons.b.shape
    pairs = maps.maps if isinstance(maps, Symmetries) else list(maps)
    if not pairs:
        raise ValueError("expected one map (sign, T) or more, received none; a cloud is closed under the identity")
    blocks = torch.zeros(len(pairs), 1 + dim, 1 + dim, dtype=torch.float64)
    for block, (sign, transform) in zip(blocks, pairs, strict=True):
        block[0, 0] = _sign(sign)
        block[1:, 1:] = require_orthogonal(transform, dim)
    group = generated_by(blocks, max_order=max_order).matrices
    rows = torch.cat([neurons.a.unsqueeze(-1), neurons.b], dim=-1).detach().double().cpu().reshape(-1, m, 1 + dim)
    clouds = []
    for cloud in rows:
        images = torch.einsum("gij,nj->gni", group, cloud).reshape(-1, 1 + dim)
        scale = float(images.norm(dim=-1).max())
        close = cKDTree(images.numpy()).query_pairs(tolerance * scale, output_type="ndarray")
        kept = torch.ones(len(images), dtype=torch.bool)
        kept[torch.as_tensor(close).max(dim=1).values if len(close) else []] = False
        clouds.append(images[kept])
    if len({len(cloud) for cloud in clouds}) > 1:
        raise ValueError(
            f"expected as many neurons in every run, received between {min(map(len, clouds))} and "
            f"{max(map(len, clouds))} after merging coincident ones; close the runs one by one"
        )
    closed = torch.stack(clouds).to(neurons.b).reshape(*runs, -1, 1 + dim)
    return Neurons(closed[..., 0], closed[..., 1:])


class SymmetryError(NamedTuple):
    """How far neurons are from symmetric.

    Attributes:
        predictor: |f∘T − s f| in L² of the inputs, ``(*r)``.
        cloud: largest distance between a neuron and the nearest image, or an image and the nearest neuron, in (a, b),
            ``(*r)``.
    """

    predictor: Float[Tensor, "*r"]
    cloud: Float[Tensor, "*r"]


def symmetry_error(
    neurons: Neurons, transform: Float[Tensor, "..."], *, sign: int = 1, inputs: Inputs | None = None
) -> SymmetryError:
    """How far neurons are from closed under (a, b) ↦ (s a, T b), and f from f∘T = s f; exactly, without samples.

    The kernels give the distance of predictors as the root of a difference of squares, which resolves about
    1e-8 (1/m) Σ_j |a_j||b_j|. Below ten times this, and where neurons and images match one to one, the triangle
    inequality over the pairs takes its place: an upper bound that resolves round-off.

    Args:
        neurons: a cloud; a trajectory's neurons give one number for each time.
        transform: T, orthogonal, ``(d, d)``.
        sign: s.
        inputs: law of X; N(0, I) when absent.

    Returns:
        The two distances, for every run.

    Raises:
        ValueError: if shapes do not fit, something is not finite, T is not orthogonal, or the sign is not ±1.

    Example:
        >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> one = Neurons(torch.tensor([2.0]), torch.tensor([[1.0, 0.0]]))  # f = 2 relu(x_0)
        >>> error = symmetry_error(one, swap)
        >>> round(error.predictor.item() ** 2, 6)  # 4 E (relu(x_1) - relu(x_0))² = 4 (1 - 1/π)
        2.72676
        >>> error.cloud
        tensor(1.4142)
    """
    require_neurons(neurons, inputs)
    dim = neurons.b.shape[-1]
    law = Gaussian(dim) if inputs is None else inputs
    matrix, s = require_orthogonal(transform, dim).to(neurons.b), _sign(sign)

    def both(a: Tensor, b: Tensor) -> Tensor:
        here = torch.cat([a.unsqueeze(-1), b], dim=-1)
        there = torch.cat([s * a.unsqueeze(-1), b @ matrix], dim=-1)  # f∘T has input weights Tᵀb
        apart = torch.cdist(there, here, compute_mode="donot_use_mm_for_euclid_dist")
        forth, back = apart.min(dim=-1), apart.min(dim=-2)
        cloud = torch.maximum(forth.values.amax(-1), back.values.amax(-1))
        by_pairs, by_kernels = _paired(here, there, forth.indices, law), _difference(a, b, matrix, s, law)
        floor = _RESOLVED * (a.abs() * law.whiten(b).norm(dim=-1)).mean(-1) * torch.finfo(b.dtype).eps ** 0.5
        unresolved = (by_kernels < floor) & by_pairs.isfinite()
        return torch.stack([torch.where(unresolved, by_pairs, by_kernels), cloud], dim=-1)

    values = over_runs(both, neurons)
    return SymmetryError(values[..., 0], values[..., 1])


def require_orthogonal(transform: Float[Tensor, "..."], dim: int) -> Float[Tensor, "d d"]:
    """An orthogonal matrix in float64.

    Args:
        transform: T, ``(d, d)``.
        dim: d.

    Returns:
        T.

    Raises:
        ValueError: if it has another shape or is not orthogonal to 1e-9.

    Example:
        >>> require_orthogonal(torch.eye(2), 2).dtype
        torch.float64
    """
    matrix = transform.detach().double().cpu()
    if matrix.shape != (dim, dim):
        raise ValueError(f"expected an orthogonal matrix ({dim}, {dim}), received shape {tuple(matrix.shape)}")
    defect = float((matrix @ matrix.mT - torch.eye(dim, dtype=torch.float64)).abs().max())
    if not defect <= _ORTHOGONAL:
        raise ValueError(
            f"expected an orthogonal matrix, received one with |TTᵀ − 1| = {defect:.2e}; compute it in float64, or in "
            "a basis in which it is orthogonal"
        )
    return matrix


def _matrices(candidates: Tensor | Sequence[Tensor] | Representation, dim: int) -> Tensor:
    if isinstance(candidates, Representation):
        if candidates.dim != dim:
            raise ValueError(f"expected a representation on R^{dim}, received {candidates} of dim {candidates.dim}")
        if not candidates.group.is_finite:
            raise ValueError(
                f"expected a finite group, received {candidates.group}; pass matrices of a sample of its elements, "
                "rep.matrix(group.sample(n, generator=...))"
            )
        candidates = candidates.matrix(candidates.group.generators)
    if isinstance(candidates, Tensor) and candidates.ndim != 3:
        raise ValueError(f"expected matrices (k, {dim}, {dim}), received shape {tuple(candidates.shape)}")
    matrices = [require_orthogonal(matrix, dim) for matrix in candidates]
    return torch.stack(matrices) if matrices else torch.zeros(0, dim, dim, dtype=torch.float64)


def _sign(sign: int) -> int:
    if sign not in (1, -1):
        raise ValueError(f"expected a sign 1 or −1, received {sign}")
    return int(sign)


def _deviation(
    target: Target, matrix: Tensor, sign: int, inputs: Inputs, x: Tensor, tolerance: float
) -> tuple[float, bool]:
    """|f*∘T − s f*| / |f*|, and whether it is exact."""
    if isinstance(target, ReLUTeacher):
        norm = math.sqrt(target.energy(inputs))
        return (_teacher_deviation(target, matrix, sign, inputs, tolerance) / norm if norm > 0 else 0.0), True
    here, there = evaluate(target, x), evaluate(target, x @ matrix.mT)
    norm = float(here.norm())
    sampled = float((there - sign * here).norm()) / norm if norm > 0 else 0.0
    if not isinstance(target, Radial):
        return sampled, False
    leak = float(matrix[: target.subspace_dim, target.subspace_dim :].norm())
    return (leak if sign == 1 and leak <= tolerance else sampled), True


def _teacher_deviation(teacher: ReLUTeacher, matrix: Tensor, sign: int, inputs: Inputs, tolerance: float) -> float:
    """|f*∘T − s f*| of a ReLU teacher, after equal lines have been merged."""
    a, b = teacher.a.double().cpu(), teacher.b.double().cpu()
    linear = a @ b / 2 @ matrix - sign * (a @ b / 2)
    vectors, weights = torch.cat([b @ matrix, b]), torch.cat([a, -sign * a])
    length = vectors.norm(dim=-1)
    lines, masses = vectors[length > 0] / length[length > 0].unsqueeze(-1), (weights * length)[length > 0]
    apart = torch.minimum(
        *(torch.cdist(lines, s * lines, compute_mode="donot_use_mm_for_euclid_dist") for s in (1, -1))
    )
    first = (apart <= tolerance).to(torch.int8).argmax(dim=-1)  # the first line that is the same
    merged = torch.zeros_like(masses).index_add_(0, first, masses)
    even = merged @ absolute_kernel(lines, lines, inputs) @ merged / 4
    return math.sqrt(float(even.clamp_min(0)) + float(inputs.whiten(linear).square().sum()))


def _difference(a: Tensor, b: Tensor, matrix: Tensor, sign: int, inputs: Inputs) -> Tensor:
    """|f∘T − s f| by the kernel of even parts and the vector of linear parts."""
    m = a.shape[-1]
    mean = (a.unsqueeze(-1) * b).mean(-2) / 2
    linear = inputs.whiten(mean @ matrix - sign * mean).square().sum(-1)
    turned = b @ matrix

    def form(left: Tensor, right: Tensor) -> Tensor:
        return (a * (absolute_kernel(left, right, inputs) @ a.unsqueeze(-1)).squeeze(-1)).sum(-1)

    even = (form(turned, turned) + form(b, b) - 2 * sign * form(turned, b)) / (4 * m**2)
    return (linear + even.clamp_min(0)).sqrt()


def _paired(here: Tensor, there: Tensor, match: Tensor, inputs: Inputs) -> Tensor:
    """Mean over pairs of a bound on ‖a relu⟨b, X⟩ − a' relu⟨b', X⟩‖; infinite unless the match is one to one.

    The norm is at most |a − a'| ‖relu⟨b, X⟩‖ + |a'| ‖⟨b − b', X⟩‖, because the ReLU contracts.
    """
    m = here.shape[-2]
    one_to_one = (match.sort(dim=-1).values == torch.arange(m, device=match.device)).all(dim=-1)
    other = torch.take_along_dim(here, match.unsqueeze(-1), dim=-2)
    length = inputs.whiten(there[..., 1:]).norm(dim=-1) / math.sqrt(2)
    shift = inputs.whiten(there[..., 1:] - other[..., 1:]).norm(dim=-1)
    bound = ((there[..., 0] - other[..., 0]).abs() * length + other[..., 0].abs() * shift).mean(-1)
    return torch.where(one_to_one, bound, torch.inf)
