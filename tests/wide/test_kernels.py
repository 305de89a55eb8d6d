"""Kernels of ReLU against angle integrals, quadrature and finite differences; safe where the geometry degenerates."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from symfield.groups import Orthogonal
from symfield.random import generator as seeded
from symfield.random import normal
from symfield.wide import (
    Gaussian,
    Inputs,
    UnitSphere,
    absolute_kernel,
    absolute_kernel_gradient,
    arc_cosine,
    arc_cosine_force,
    arc_cosine_gradient,
    arc_cosine_profile,
    arc_cosine_pullback,
    arc_cosine_slope,
    kernels,
)

FULL = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
LAWS = [None, Gaussian(3, 0.3), Gaussian(3, torch.tensor([4.0, 1.0, 0.25])), Gaussian(3, FULL), UnitSphere(3)]
laws = pytest.mark.parametrize("law", LAWS, ids=repr)
LIKE = torch.zeros((), dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return normal(shape, generator=seeded(seed), like=LIKE)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.3, 1.0, math.pi / 2, 2.5, math.pi - 1e-4, math.pi])
def test_the_kernel_is_the_integral_over_angles(angle: float):
    def relu(t: float) -> float:
        return max(t, 0.0)

    def integral(f) -> float:  # E f(<b, X>, <c, X>) for 2-homogeneous f: E R^2 = 2 times the mean over the circle
        edges = sorted(
            {e % (2 * math.pi) for e in (math.pi / 2, -math.pi / 2, angle + math.pi / 2, angle - math.pi / 2)}
        )
        edges = [0.0, *edges, 2 * math.pi]
        pieces = pairwise(edges)
        return sum(quad(lambda t: f(2 * math.cos(t), 3 * math.cos(t - angle)), *p)[0] for p in pieces) / math.pi

    b = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    c = 3 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert arc_cosine(b, c).item() == pytest.approx(integral(lambda s, t: relu(s) * relu(t)), abs=1e-13)
    assert absolute_kernel(b, c).item() == pytest.approx(integral(lambda s, t: abs(s * t)), abs=1e-12)
    assert arc_cosine_profile(torch.tensor(math.cos(angle)).double()).item() * 6 == pytest.approx(
        arc_cosine(b, c).item(), abs=2e-6
    )


@laws
def test_the_kernel_is_the_second_moment_on_nodes(law: Inputs | None):
    b, c = draw(4, 3), draw(5, 3, seed=1)
    nodes = (law or Gaussian(3)).nodes(125_000)
    for act, kernel in ((torch.relu, arc_cosine), (torch.abs, absolute_kernel)):
        moments = act(b @ nodes.x.mT) * nodes.weight @ act(nodes.x @ c.mT)
        close(kernel(b, c, law), moments, 5e-3)  # integrands have kinks, so rules converge like 1/order^2


def test_the_sphere_acts_as_a_gaussian_of_variance_one_over_dim():
    b, c, w = draw(4, 6), draw(5, 6, seed=1), draw(5, seed=2)
    close(arc_cosine(b, c, UnitSphere(6)), arc_cosine(b, c) / 6)
    close(arc_cosine_gradient(b, c, w, UnitSphere(6)), arc_cosine_gradient(b, c, w, Gaussian(6, 1 / 6)))
    circle = UnitSphere(2).nodes(20_000)
    two, three = draw(4, 2), draw(5, 2, seed=1)
    moments = torch.relu(two @ circle.x.mT) * circle.weight @ torch.relu(circle.x @ three.mT)
    close(arc_cosine(two, three, UnitSphere(2)), moments, 1e-7)


def test_on_the_line_the_kernel_counts_equal_signs():
    b = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    assert arc_cosine(b, b).tolist() == [[2.0, 0.0], [0.0, 0.5]]
    assert absolute_kernel(b, b).tolist() == [[4.0, 2.0], [2.0, 1.0]]


@laws
def test_even_and_odd_parts_add_up(law: Inputs | None):
    b, c = draw(4, 3), draw(5, 3, seed=1)
    signs = [arc_cosine(s * b, t * c, law) for s in (1, -1) for t in (1, -1)]
    close(sum(signs), absolute_kernel(b, c, law))
    covariance = (law or Gaussian(3)).covariance(LIKE)
    close(arc_cosine(b, c, law) - arc_cosine(-b, c, law), b @ covariance @ c.mT / 2)


def test_even_forces_of_opposite_pairs_cancel_to_the_last_bit():
    b = draw(30, 7)
    closed, charges = torch.cat([b, -b]), torch.cat([draw(30, seed=2), -draw(30, seed=2)])
    assert float(absolute_kernel_gradient(closed, closed, charges).abs().max()) < 1e-13
    assert float(charges @ absolute_kernel(closed, closed) @ charges) < 1e-12


# ---------------------------------------------------------------- gradients


@laws
def test_gradients_are_finite_differences(law: Inputs | None):
    b, c, w, step = draw(4, 3), draw(5, 3, seed=1), draw(5, seed=2), 1e-5
    for kernel, gradient in ((arc_cosine, arc_cosine_gradient), (absolute_kernel, absolute_kernel_gradient)):
        exact = gradient(b, c, w, law)
        for i, e in enumerate(torch.eye(3).double()):
            difference = (kernel(b + step * e, c, law) - kernel(b - step * e, c, law)) @ w / (2 * step)
            close(exact[:, i], difference, 1e-9)


@laws
def test_gradients_are_what_autograd_finds_in_the_kernel(law: Inputs | None):
    b, c, w = draw(4, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_(), draw(5, seed=2)
    for kernel, gradient in ((arc_cosine, arc_cosine_gradient), (absolute_kernel, absolute_kernel_gradient)):
        total = kernel(b, c, law) @ w
        close(torch.autograd.grad(total.sum(), b)[0], gradient(b, c, w, law))
    value, force = arc_cosine_force(b, c, w, law)
    close(value, arc_cosine(b, c, law) @ w)
    assert torch.equal(force, arc_cosine_gradient(b, c, w, law))


@laws
def test_pullbacks_take_covectors_row_by_row(law: Inputs | None, monkeypatch: pytest.MonkeyPatch):
    b, c, u = (
        draw(2, 4, 3).requires_grad_(),
        draw(5, 3, seed=1).requires_grad_(),
        draw(2, 4, 5, seed=2).requires_grad_(),
    )
    pulled = arc_cosine_pullback(b, c, u, law)
    (found,) = torch.autograd.grad((u * arc_cosine(b, c, law)).sum(), b)
    close(pulled.detach(), found)
    close(arc_cosine_pullback(b, c, u[0, :1].expand(4, -1), law), arc_cosine_gradient(b, c, u[0, 0], law))
    assert gradcheck(lambda *a: arc_cosine_pullback(*a, law), (b, c, u))
    assert gradgradcheck(lambda b, c: arc_cosine_pullback(b, c, u[0].detach(), law), (b[0], c))
    monkeypatch.setattr(kernels, "_PAIRS_CPU", 7)
    close(arc_cosine_pullback(b, c, u, law), pulled, 1e-14)


@laws
def test_all_functions_are_differentiable_twice(law: Inputs | None):
    b, c, w = draw(2, 3).requires_grad_(), draw(3, 3, seed=1).requires_grad_(), draw(3, seed=2).requires_grad_()
    for kernel in (arc_cosine, absolute_kernel):
        assert gradcheck(lambda b, c, kernel=kernel: kernel(b, c, law), (b, c))
        assert gradgradcheck(lambda b, c, kernel=kernel: kernel(b, c, law), (b, c))
    for force in (arc_cosine_gradient, absolute_kernel_gradient, lambda *a: arc_cosine_force(*a)[0]):
        assert gradcheck(lambda b, c, w, force=force: force(b, c, w, law), (b, c, w))
        assert gradgradcheck(lambda b, c, w, force=force: force(b, c, w, law), (b, c, w))
    cosines = torch.tensor([-0.9, -0.2, 0.0, 0.7], dtype=torch.float64, requires_grad=True)
    for f in (arc_cosine_profile, arc_cosine_slope):
        assert gradcheck(f, cosines)
        assert gradgradcheck(f, cosines)


def test_second_derivatives_are_the_closed_forms():
    b, c = draw(3), draw(3, seed=1)
    p, q = b.norm(), c.norm()
    u, v = b / p, c / q
    angle = torch.arccos(u @ v)
    across_b, across_c = (v - (u @ v) * u) / angle.sin(), (u - (u @ v) * v) / angle.sin()
    eye = torch.eye(3).double()
    same = q * angle.sin() / (2 * math.pi * p) * (eye - torch.outer(u, u) + torch.outer(across_b, across_b))
    mixed = (math.pi - angle) * eye + angle.sin() * (torch.outer(u, v) + torch.outer(across_b, across_c))
    hessian = torch.autograd.functional.hessian(lambda b, c: arc_cosine(b[None], c[None]).sum(), (b, c))
    close(hessian[0][0], same)
    close(hessian[0][1], mixed / (2 * math.pi))
    nodes = Gaussian(3).nodes(1_000_000)  # the mixed one is E 1 1 XX^T
    both = ((nodes.x @ b > 0) & (nodes.x @ c > 0)).double() * nodes.weight
    close(hessian[0][1], (nodes.x.mT * both) @ nodes.x, 2e-2)


# ---------------------------------------------------------------- degenerate geometry


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 30, 1000])
def test_coincident_and_opposite_vectors_are_exact(dim: int, dtype: torch.dtype):
    b = draw(20, dim).to(dtype)
    square, size = b.square().sum(-1), 30 * torch.finfo(dtype).eps
    ones = torch.ones(1, dtype=dtype)
    for factor in (1.0, 3.0):
        for i in range(len(b)):
            one, length = b[i : i + 1], float(square[i])
            value, gradient = arc_cosine_force(one, factor * one, ones)
            close(value / length, torch.tensor([factor / 2]).to(dtype), factor * size)
            close(gradient / length**0.5, factor * one / 2 / length**0.5, factor * size)
            value, gradient = arc_cosine_force(one, -factor * one, ones)
            close(value / length, torch.zeros(1, dtype=dtype), factor * size)
            close(gradient / length**0.5, torch.zeros_like(one), factor * size)


def test_self_pairs_have_no_curvature_of_their_own():
    b = draw(6, 30)
    hessian = torch.autograd.functional.hessian(lambda v: arc_cosine(v[None], torch.stack([b[0], -b[0]])).sum(), b[0])
    assert float(hessian.abs().max()) < 1e-14
    mixed = torch.autograd.functional.hessian(lambda v, w: arc_cosine(v[None], w[None]).sum(), (b[0], b[0]))[0][1]
    close(mixed, torch.eye(30).double() / 2, 1e-14)


@pytest.mark.parametrize("angle", [1e-3, 1e-5, 1e-7, 1e-8, 1e-9, 1e-12])
@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_parallel_vectors_keep_value_and_gradient_accurate(angle: float, sign: int):
    b = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    c = sign * torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
    turn = angle if sign == 1 else math.pi - angle
    value, gradient = arc_cosine_force(b[None], c[None], torch.ones(1).double())
    gap = math.pi - turn if sign == 1 else angle  # pi - turn, without cancellation
    expected = (gap * c + math.sin(angle) * b) / (2 * math.pi)
    close(gradient[0], expected, 2e-15)
    assert value.item() == pytest.approx(float(expected @ b), abs=2e-15)
    hessian = torch.autograd.functional.hessian(lambda v: arc_cosine(v[None], c[None]).sum(), b)
    exact = math.sin(angle) / (2 * math.pi) * torch.diag(torch.tensor([0.0, 2.0, 1.0])).double()
    close(hessian, exact, min(1e-7, 1e-14 / angle))


def test_zero_vectors_have_kernel_zero_and_the_symmetric_derivative():
    covariance = Gaussian(3, FULL)
    zero, c, w = torch.zeros(1, 3).double(), draw(5, 3, seed=1), draw(5, seed=2)
    value, gradient = arc_cosine_force(zero, c, w, covariance)
    assert value.item() == 0.0
    close(gradient, (w @ c @ FULL / 4)[None])
    tiny = 1e-9 * draw(1, 3)  # the symmetric difference quotient along any direction
    pair = (arc_cosine(tiny, c, covariance) - arc_cosine(-tiny, c, covariance)) @ w / 2
    close(pair / 1e-9, (tiny @ gradient[0]) / 1e-9)
    directions = UnitSphere(2).nodes(4096).x  # and the mean over directions
    flat = draw(5, 2, seed=1)
    around = arc_cosine_gradient(directions, flat, w)
    close(around.mean(0), w @ flat / 4, 1e-6)
    assert float(arc_cosine_gradient(c, zero, torch.ones(1).double()).abs().max()) == 0.0
    assert float(absolute_kernel_gradient(zero, c, w).abs().max()) == 0.0


def test_no_derivative_is_nan_however_vectors_coincide():
    base = draw(2, 3)
    cloud = torch.cat([base, base, -base, 2 * base, torch.zeros(2, 3).double()]).requires_grad_()
    weights = draw(len(cloud), seed=3)
    outputs = [
        arc_cosine(cloud, cloud),
        absolute_kernel(cloud, cloud),
        *arc_cosine_force(cloud, cloud, weights),
        absolute_kernel_gradient(cloud, cloud, weights),
    ]
    edge = torch.tensor([-1.0, 1.0, 1.5], requires_grad=True)
    for output in [*outputs, arc_cosine_profile(edge), arc_cosine_slope(edge)]:
        leaf = edge if output.shape == edge.shape else cloud
        (first,) = torch.autograd.grad(output.square().sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf, retain_graph=True)
        for tensor in (output, first, second):
            assert torch.isfinite(tensor).all()


def test_the_profile_of_a_cosine_just_above_one_has_the_slope_at_one():
    cosine = torch.tensor([-1 - 1e-15, 1 + 1e-15, 0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(arc_cosine_profile(cosine).sum(), cosine)
    close(slope, arc_cosine_slope(cosine).detach())
    assert slope.tolist()[:2] == [0.0, 0.5]


def test_autograd_takes_the_same_convention_at_zero():
    b, c = torch.zeros(1, 3).double().requires_grad_(), draw(5, 3, seed=1)
    (found,) = torch.autograd.grad(arc_cosine(b, c).sum(), b)
    close(found, arc_cosine_gradient(b.detach(), c, torch.ones(5).double()))


@pytest.mark.parametrize("small", [1e-30, 1e-200, 1e-300])
def test_tiny_and_huge_vectors_neither_underflow_nor_overflow(small: float):
    b, c, w = draw(4, 5), draw(3, 5, seed=1), draw(3, seed=2)
    close(arc_cosine(small * b, c / small), arc_cosine(b, c), 1e-13)
    close(small * arc_cosine_gradient(small * b, c / small, w), arc_cosine_gradient(b, c, w), 1e-13)


# ---------------------------------------------------------------- shapes and dtypes


@laws
def test_runs_are_separate_problems(law: Inputs | None):
    b, c, w = draw(2, 3, 4, 3), draw(2, 3, 5, 3, seed=1), draw(2, 3, 5, seed=2)
    kernel, gradient = arc_cosine(b, c, law), arc_cosine_gradient(b, c, w, law)
    assert (kernel.shape, gradient.shape) == ((2, 3, 4, 5), (2, 3, 4, 3))
    for i in range(2):
        for j in range(3):
            close(kernel[i, j], arc_cosine(b[i, j], c[i, j], law), 1e-14)
            close(gradient[i, j], arc_cosine_gradient(b[i, j], c[i, j], w[i, j], law), 1e-14)


def test_one_teacher_serves_all_runs():
    b, c, w = draw(2, 4, 3), draw(5, 3, seed=1), draw(5, seed=2)
    value, gradient = arc_cosine_force(b, c, w)
    close(value[1], arc_cosine(b[1], c) @ w, 1e-14)
    close(gradient[1], arc_cosine_gradient(b[1], c, w), 1e-14)
    assert arc_cosine(b, c).shape == (2, 4, 5)
    many = arc_cosine_force(c, b, draw(2, 4))
    assert (many[0].shape, many[1].shape) == ((2, 5), (2, 5, 3))


def test_pieces_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch):
    b, c, w = draw(2, 9, 3), draw(2, 5, 3, seed=1), draw(2, 5, seed=2)
    whole = arc_cosine(b, c), *arc_cosine_force(b, c, w), absolute_kernel(b, c), absolute_kernel_gradient(b, c, w)
    monkeypatch.setattr(kernels, "_PAIRS_CPU", 7)
    pieces = arc_cosine(b, c), *arc_cosine_force(b, c, w), absolute_kernel(b, c), absolute_kernel_gradient(b, c, w)
    for a, b in zip(whole, pieces, strict=True):
        close(a, b, 1e-14)


def test_forces_never_hold_all_pairs():
    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return result

    b, w = draw(3000, 4), draw(3000, seed=1)
    with Largest() as largest:
        arc_cosine_force(b, b, w)
        absolute_kernel_gradient(b, b, w)
    assert largest.numbers <= kernels._PAIRS_CPU < 3000 * 3000 / 100


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 4e-6), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)], ids=str
)
def test_results_have_the_dtype_of_the_weights(dtype: torch.dtype, tolerance: float):
    b, c, w = draw(6, 10).to(dtype), draw(5, 10, seed=1).to(dtype), draw(5, seed=2).to(dtype)
    for law in (None, Gaussian(10, torch.linspace(0.1, 1.0, 10)), UnitSphere(10)):
        exact = arc_cosine(b.double(), c.double(), law), *arc_cosine_force(b.double(), c.double(), w.double(), law)
        for found, expected in zip((arc_cosine(b, c, law), *arc_cosine_force(b, c, w, law)), exact, strict=True):
            assert found.dtype == dtype
            assert float((found.double() - expected).abs().max()) < tolerance * float(expected.abs().max())
    assert arc_cosine(b, c.double()).dtype == torch.float64
    assert arc_cosine_profile(w.clamp(-1, 1)).dtype == dtype


def test_functional_transforms_see_the_same_gradient():
    b, c = draw(4, 3), draw(5, 3, seed=1)
    total = arc_cosine_gradient(b, c, torch.ones(5).double())
    single = torch.func.vmap(torch.func.grad(lambda v: arc_cosine(v[None], c).sum()))(b)
    close(single, total)
    curvature = torch.func.vmap(torch.func.jacrev(torch.func.grad(lambda v: arc_cosine(v[None], c).sum())))(b)
    for one, v in zip(curvature, b, strict=True):
        close(one, torch.autograd.functional.hessian(lambda v: arc_cosine(v[None], c).sum(), v))


def test_empty_sums_are_zero():
    b, none = draw(4, 3), torch.zeros(0, 3).double()
    value, gradient = arc_cosine_force(b, none, torch.zeros(0).double())
    assert float(value.abs().max()) == float(gradient.abs().max()) == 0.0
    assert arc_cosine(none, b).shape == (0, 4)


def test_nan_is_passed_on_rather_than_taken_for_zero():
    b = torch.tensor([[math.nan, 1.0]], dtype=torch.float64)
    assert torch.isnan(arc_cosine(b, torch.ones(1, 2).double())).all()
    assert torch.isnan(arc_cosine_gradient(b, torch.ones(1, 2).double(), torch.ones(1).double())).all()


def test_misfits_are_refused_with_what_was_expected():
    with pytest.raises(ValueError, match=r"\(\.\.\., n, 3\) and \(\.\.\., m, 3\), received \(4, 3\) and \(5, 2\)"):
        arc_cosine(draw(4, 3), draw(5, 2))
    with pytest.raises(ValueError, match=r"for Gaussian\(2\), received"):
        arc_cosine(draw(4, 3), draw(5, 3), Gaussian(2))
    with pytest.raises(ValueError, match=r"expected 5 weights \(\.\.\., m\), received \(4,\)"):
        arc_cosine_gradient(draw(4, 3), draw(5, 3), draw(4))
    with pytest.raises(ValueError, match=r"expected covectors \(\.\.\., 4, 5\), received \(3, 5\)"):
        arc_cosine_pullback(draw(4, 3), draw(5, 3), draw(3, 5))
    with pytest.raises(ValueError, match="expected weight vectors"):
        absolute_kernel(draw(3), draw(5, 3))


@pytest.mark.parametrize("call", [arc_cosine, absolute_kernel, lambda b, c: arc_cosine_profile(b)])
def test_integers_are_refused_rather_than_results_truncated(call):
    axes = torch.eye(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"floating dtype, received torch\.int64"):
        call(axes, axes)


# ---------------------------------------------------------------- structure, for whatever hypothesis finds

ENTRIES = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
CLOUDS = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(ENTRIES, min_size=d, max_size=d), min_size=1, max_size=5).map(
        lambda rows: torch.tensor(rows, dtype=torch.float64)
    )
)


@settings(max_examples=60, deadline=None)
@given(CLOUDS)
def test_kernels_are_symmetric_positive_semidefinite_and_homogeneous(cloud: torch.Tensor):
    scales = torch.linspace(0.5, 2.0, len(cloud)).double()
    for kernel in (arc_cosine, absolute_kernel):
        gram = kernel(cloud, cloud)
        close(gram, gram.mT, 1e-13)
        assert float(torch.linalg.eigvalsh(gram)[0]) > -1e-12
        assert float(gram.min()) > -1e-13
        close(kernel(scales[:, None] * cloud, cloud), scales[:, None] * gram, 1e-12)
    close(arc_cosine(cloud, cloud).diagonal(), cloud.square().sum(-1) / 2, 1e-13)


@settings(max_examples=60, deadline=None)
@given(CLOUDS)
def test_forces_obey_euler_and_add_up(cloud: torch.Tensor):
    w = torch.linspace(-1.0, 1.5, len(cloud)).double()
    value, gradient = arc_cosine_force(cloud, cloud, w)
    close(value, arc_cosine(cloud, cloud) @ w)
    close((cloud * gradient).sum(-1), value)
    parts = [arc_cosine_gradient(cloud, c[None], a[None]) for c, a in zip(cloud, w, strict=True)]
    close(sum(parts), gradient)


@settings(max_examples=30, deadline=None)
@given(CLOUDS, st.integers(0, 1000))
def test_orthogonal_maps_commute_with_the_force(cloud: torch.Tensor, seed: int):
    dim = cloud.shape[-1]
    turn = Orthogonal(dim).sample(1, generator=seeded(seed))[0].double() if dim > 1 else -torch.eye(1).double()
    w = torch.linspace(-1.0, 1.5, len(cloud)).double()
    moved = cloud @ turn.mT
    close(arc_cosine(moved, moved), arc_cosine(cloud, cloud), 1e-12)
    close(arc_cosine_gradient(moved, moved, w), arc_cosine_gradient(cloud, cloud, w) @ turn.mT, 1e-12)
