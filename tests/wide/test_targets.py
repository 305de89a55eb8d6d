"""What a target exerts on a neuron, against angle integrals, quadrature, finite differences and large samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad

from symfield import random
from symfield.quadrature import Nodes
from symfield.wide import (
    Gaussian,
    Inputs,
    OddTarget,
    Radial,
    ReLUTeacher,
    SampledTarget,
    UnitSphere,
    cubic,
    odd_polynomial,
    radial_correlation,
    radial_mass,
)
from symfield.wide.targets import require_target

LIKE = torch.zeros(1, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return random.normal(shape, generator=random.generator(seed), like=LIKE)


def skew(dim: int, seed: int = 7) -> Gaussian:
    root = normal(dim, dim, seed=seed)
    return Gaussian(dim, root @ root.mT + 0.2 * torch.eye(dim).double())


def half_isotropic() -> Gaussian:
    """The first two coordinates with covariance 2·I, correlated with the other two."""
    root = torch.zeros(4, 4).double()
    root[0, 0] = root[1, 1] = 2**0.5
    root[2:] = normal(2, 4, seed=3)
    return Gaussian(4, root @ root.mT)


TEACHER = ReLUTeacher(normal(3, seed=1), normal(3, 4, seed=2))
CASES = [
    pytest.param(TEACHER, Gaussian(4), id="teacher"),
    pytest.param(TEACHER, skew(4), id="teacher-anisotropic"),
    pytest.param(TEACHER, UnitSphere(4), id="teacher-sphere"),
    pytest.param(Radial(4, 2), Gaussian(4, 3.0), id="radial"),
    pytest.param(Radial(4, 2), half_isotropic(), id="radial-correlated"),
    pytest.param(Radial(4, 3), UnitSphere(4), id="radial-sphere"),
    pytest.param(Radial(4, 4), Gaussian(4), id="radial-full"),
    pytest.param(cubic(normal(4), skew(4)), skew(4), id="cubic"),
    pytest.param(odd_polynomial({(0, 1, 2): 1.0, (3,): 0.5, (1, 1, 2): -1.0}, UnitSphere(4)), UnitSphere(4), id="odd"),
]


@pytest.mark.parametrize(("target", "inputs"), CASES)
def test_pull_and_energy_agree_with_a_large_sample(target, inputs: Inputs):
    b, size = normal(6, 4, seed=5), 200_000
    x = inputs.sample((size,), generator=random.generator(11), like=LIKE)
    f, z = target(x), x @ b.mT
    terms = torch.cat([f[:, None] * z.relu(), (f[:, None, None] * (z > 0)[..., None] * x[:, None]).flatten(1)], dim=1)
    value, gradient = target.force(b, inputs)
    exact = torch.cat([value, gradient.flatten()])
    error = (terms.mean(0) - exact).abs() / (terms.std(0) / size**0.5)
    assert error.max() < 5
    assert abs(f.square().mean() - target.energy(inputs)) < 5 * f.square().std() / size**0.5


@pytest.mark.parametrize(("target", "inputs"), CASES)
def test_the_gradient_is_that_of_the_correlation(target, inputs: Inputs):
    b, direction, h = normal(2, 5, 4, seed=5), normal(2, 5, 4, seed=6), 1e-4
    there, back = (target.correlation(b + step * direction, inputs) for step in (h, -h))
    _, gradient = target.force(b, inputs)
    torch.testing.assert_close((gradient * direction).sum(-1), (there - back) / (2 * h), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(target.correlation(b, inputs), (b * gradient).sum(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("target", "inputs"), CASES)
def test_autograd_sees_the_same_gradient_and_a_symmetric_second_one(target, inputs: Inputs):
    b = normal(3, 4, seed=5).requires_grad_()
    (found,) = torch.autograd.grad(target.correlation(b, inputs).sum(), b)
    torch.testing.assert_close(found, target.force(b.detach(), inputs)[1], rtol=1e-12, atol=1e-12)

    def force(row: torch.Tensor) -> torch.Tensor:
        return target.force(row.unsqueeze(0), inputs)[1].squeeze(0)

    for row in b.detach():
        if force(row.clone().requires_grad_()).requires_grad:
            hessian = torch.autograd.functional.jacobian(force, row)
            torch.testing.assert_close(hessian, hessian.mT, rtol=0, atol=1e-12)
            direction, h = normal(4, seed=8), 1e-5
            difference = (force(row + h * direction) - force(row - h * direction)) / (2 * h)
            torch.testing.assert_close(hessian @ direction, difference, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("target", "degree", "kinks"),
    [
        (ReLUTeacher(torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double()), 1, 2),
        (Radial(2, 1), 1, 1),
        (Radial(2, 2), 1, 0),
        (odd_polynomial({(0, 0, 1): 1.0, (1, 1, 1): -2.0}, Gaussian(2)), 3, 0),
    ],
    ids=["teacher", "absolute value", "norm", "cubic"],
)
def test_pulls_in_the_plane_are_angle_integrals(target, degree: int, kinks: int):
    lines = [math.atan2(-1.0, 0.5) % math.pi, 0.0] if kinks == 2 else [math.pi / 2]
    for b in normal(3, 2, seed=8):
        begin = math.atan2(b[1], b[0]) - math.pi / 2

        def integrand(angle: float, b=b) -> float:
            x = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            return float(target(x) * (b @ x))

        breaks = sorted({begin + (line - begin) % math.pi for line in lines})
        value, _ = quad(integrand, begin, begin + math.pi, points=breaks, epsabs=1e-13, limit=200)
        radius = 2 ** ((degree + 1) / 2) * math.gamma((degree + 3) / 2)  # E R^(degree + 1)
        assert target.correlation(b[None], Gaussian(2)).item() == pytest.approx(
            value * radius / (2 * math.pi), abs=1e-10
        )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 20])
def test_the_radial_correlation_is_the_kernel_averaged_over_the_sphere(n: int):
    for c in (0.0, 0.3, 0.9, 1.0):

        def profile(angle: float, c=c) -> float:
            r = c * math.cos(angle)
            return (math.sqrt(1 - r * r) + r * math.asin(r)) / (2 * math.pi)

        def slope(angle: float, c=c) -> float:
            return math.cos(angle) * math.asin(c * math.cos(angle)) / (2 * math.pi)

        found = radial_correlation(torch.tensor(c, dtype=torch.float64), n)
        if n == 1:
            expected = profile(0.0), slope(0.0)
        else:
            total = quad(lambda angle: math.sin(angle) ** (n - 2), 0, math.pi / 2)[0]
            expected = tuple(
                quad(lambda angle, f=f: f(angle) * math.sin(angle) ** (n - 2), 0, math.pi / 2, epsabs=1e-13)[0] / total
                for f in (profile, slope)
            )
        assert found[0].item() == pytest.approx(expected[0], abs=1e-12)
        assert c * found[1].item() == pytest.approx(expected[1], abs=1e-12)


def test_radial_masses_are_the_known_ones():
    assert radial_mass(1) == pytest.approx(2, abs=1e-12)
    assert radial_mass(2) == pytest.approx(math.pi, abs=1e-12)
    assert radial_mass(5) == pytest.approx(16 / 3, abs=1e-12)


@pytest.mark.parametrize("inputs", [Gaussian(3), skew(3), UnitSphere(3)])
def test_a_one_dimensional_norm_is_an_absolute_value(inputs: Inputs):
    b = normal(7, 3)
    absolute = ReLUTeacher.absolute_values(torch.ones(1).double(), torch.eye(3)[:1].double())
    for mine, other in zip(Radial(3, 1).force(b, inputs), absolute.force(b, inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-13)


def test_a_norm_is_many_relu_units_also_under_correlated_inputs():
    count = 4096
    angles = torch.arange(count).double() * (2 * math.pi / count)
    ring = torch.stack([angles.cos(), angles.sin()], dim=-1)
    many = ReLUTeacher(torch.full((count,), math.pi / count).double(), torch.cat([ring, 0 * ring], dim=-1))
    inputs, b = half_isotropic(), normal(5, 4)
    for mine, other in zip(Radial(4, 2).force(b, inputs), many.force(b, inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_a_radial_pull_is_finite_at_zero_and_across_its_subspace():
    b = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 0.0]]).double()
    value, gradient = Radial(3, 2).force(b, Gaussian(3))
    assert value[0] == 0
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[1], torch.tensor([0.0, 0.0, 0.5]).double())  # α κ(0) = π/2π


@pytest.mark.parametrize("inputs", [Gaussian(3, 0.7), skew(3), UnitSphere(3)])
def test_moments_of_odd_polynomials_are_those_of_an_exact_quadrature(inputs: Inputs):
    target = odd_polynomial({(0, 1, 2): 1.0, (2,): -0.5, (1, 1, 1): 0.3, (0, 0, 1, 2, 2): 0.2}, inputs)
    nodes = inputs.nodes(20**3)
    values = target(nodes.x)
    torch.testing.assert_close(target.first_moment, (nodes.weight * values) @ nodes.x, rtol=1e-10, atol=1e-12)
    assert target.energy(inputs) == pytest.approx(float(nodes.weight @ values.square()), rel=1e-10)


@pytest.mark.parametrize("inputs", [skew(4), UnitSphere(4), Gaussian(4, 0.3)], ids=repr)
def test_the_cubic_target_is_the_polynomial_of_its_cubes(inputs: Inputs):
    z = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    fast, slow = cubic(z, inputs), odd_polynomial({(k, k, k): float(z[k]) for k in range(4)}, inputs)
    torch.testing.assert_close(fast.first_moment, slow.first_moment, rtol=1e-14, atol=1e-15)
    assert fast.energy(inputs) == pytest.approx(slow.energy(inputs), rel=1e-14)


def test_the_cubic_target_has_the_published_numbers():
    d = 60
    inputs = Gaussian(d, 1 / d)
    target = cubic(normal(d), inputs, energy=2.0)
    best = d * target.first_moment
    assert float(best.norm()) == pytest.approx(math.sqrt(6 * d / 5), rel=1e-12)
    assert (target.energy(inputs) - float(best @ target.first_moment)) / 2 == pytest.approx(0.4, rel=1e-12)


def test_sampled_targets_approach_the_exact_ones():
    inputs, b = Gaussian(4), normal(5, 4)
    exact = TEACHER.correlation(b, inputs)
    errors = []
    for size in (2**8, 2**14):
        sampled = SampledTarget(TEACHER, inputs.nodes(size, generator=random.generator(0)))
        errors.append(float((sampled.correlation(b, inputs) - exact).norm() / exact.norm()))
        assert sampled.energy(inputs) == pytest.approx(TEACHER.energy(inputs), rel=20 / size**0.75)
    assert errors[1] < 2e-3
    assert errors[1] < errors[0] / 8


def test_targets_answer_in_the_dtype_of_the_neurons():
    b = normal(3, 4).float()
    for case in CASES:
        target, inputs = case.values
        value, gradient = target.force(b, inputs)
        assert value.dtype == gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, target.force(b.double(), inputs)[1].float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OddTarget(lambda x: x[..., 0].abs(), torch.zeros(2)), "odd function"),
        (lambda: OddTarget(lambda x: x[..., 0] + 1e-6, torch.zeros(2)), "odd function"),
        (lambda: OddTarget(lambda x: x, torch.zeros(2)), "one number a point"),
        (lambda: OddTarget(lambda x: x[..., 0] * torch.nan, torch.zeros(2)), "finite values"),
        (lambda: OddTarget(lambda x: x[..., 0], torch.tensor([torch.nan])), "finite first moment"),
        (lambda: odd_polynomial({(0, 1): 1.0}, Gaussian(2)), "odd degree"),
        (lambda: odd_polynomial({(0, 1, 2): 1.0}, Gaussian(2)), "coordinates 0 … 1"),
        (lambda: odd_polynomial({}, Gaussian(2)), "one monomial"),
        (lambda: cubic(torch.ones(3), Gaussian(2)), "2 finite coefficients"),
        (lambda: cubic(torch.zeros(2), Gaussian(2), energy=1.0), "other than zero"),
        (lambda: ReLUTeacher(torch.ones(2), torch.ones(3, 2)), "teacher's weights"),
        (lambda: ReLUTeacher(torch.ones(1), torch.tensor([[torch.inf]])), "finite weights"),
        (lambda: Radial(3, 4), "subspace_dim <= dim"),
        (lambda: radial_mass(0), ">= 1"),
        (lambda: Radial(4, 2).energy(skew(4)), "covariance v·I"),
        (lambda: Radial(4, 2).energy(Gaussian(5)), "dimension 4"),
        (lambda: TEACHER.energy(Gaussian(5)), "dimension 4"),
        (lambda: cubic(torch.ones(2), Gaussian(2)).energy(UnitSphere(2)), "whose moments this target holds"),
        (lambda: cubic(torch.ones(2), Gaussian(2)).force(torch.ones(1, 2), Gaussian(2, 2.0)), "whose moments"),
        (lambda: OddTarget(lambda x: x[..., 0], torch.ones(1)).energy(Gaussian(1)), "second moment"),
        (lambda: OddTarget(lambda x: x[..., 0], torch.ones(1), 0.5).energy(Gaussian(1)), "belong to no function"),
        (lambda: SampledTarget(lambda x: x, Gaussian(1).nodes(9)), "one number a point"),
        (lambda: SampledTarget(torch.nn.Linear(2, 1), Gaussian(2).nodes(9)), r"an error from it: .*\.double\(\)"),
        (
            lambda: SampledTarget(lambda x: x[..., 0], Gaussian(3).nodes(1000)).energy(Gaussian(3, 2.0)),
            "off by 50.0%",
        ),
        (
            lambda: SampledTarget(lambda x: x[..., 0], UnitSphere(2).nodes(999)).energy(Gaussian(2)),
            "second moments",
        ),
        (lambda: SampledTarget(lambda x: x[..., 0], Gaussian(2).nodes(9)).energy(Gaussian(3)), "nodes of dimension 3"),
    ],
)
def test_what_is_no_target_is_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_small_honest_sample_of_the_inputs_is_accepted():
    inputs = skew(4)
    x = inputs.sample((50,), generator=random.generator(2), like=LIKE)
    assert SampledTarget(TEACHER, Nodes.sample(x)).energy(inputs) > 0


def test_a_bare_function_is_no_target_and_the_error_says_how_it_becomes_one():
    with pytest.raises(TypeError, match=r"SampledTarget\(function, inputs.nodes"):
        require_target(lambda x: x[..., 0], Gaussian(2))
