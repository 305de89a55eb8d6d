"""Information exponents and Hermite coefficients of links that are known."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.onestep import function_link, gaussian_panels, hermite_link, hermite_values
from symfield.quadrature import gauss_hermite


def he3(z):
    return z**3 - 3 * z


@pytest.mark.parametrize(
    ("function", "exponent"),
    [
        (torch.tanh, 1),
        (torch.sign, 1),
        (torch.relu, 1),
        (torch.abs, 2),
        (lambda z: z**2, 2),
        (torch.cos, 2),
        (he3, 3),
        (lambda z: z**4 - 6 * z**2 + 3, 4),
        (lambda z: torch.sin(z) - math.exp(-0.5) * z, 3),
    ],
)
def test_information_exponents_are_the_known_ones(function, exponent):
    assert function_link(function, standardise=True).information_exponent == exponent


@pytest.mark.parametrize(
    ("function", "coefficients"),
    [
        (torch.sign, {1: math.sqrt(2 / math.pi), 2: 0.0, 3: -math.sqrt(2 / math.pi) / math.sqrt(6)}),
        (torch.sin, {1: math.exp(-0.5), 3: -math.exp(-0.5) / math.sqrt(6), 5: math.exp(-0.5) / math.sqrt(120)}),
        (
            lambda z: torch.cos(z) - math.exp(-0.5),
            {2: -math.exp(-0.5) / math.sqrt(2), 4: math.exp(-0.5) / math.sqrt(24)},
        ),
        (lambda z: z.abs() - math.sqrt(2 / math.pi), {2: 1 / math.sqrt(math.pi), 1: 0.0}),
    ],
)
def test_coefficients_agree_with_closed_forms_also_for_kinks_and_jumps(function, coefficients):
    link = function_link(function)
    for degree, value in coefficients.items():
        assert link.coefficient(degree) == pytest.approx(value, abs=1e-10)
    assert link.error < 1e-8


def test_hermite_polynomials_are_orthonormal():
    nodes = gauss_hermite(1, 40)
    values = hermite_values(nodes.x[:, 0], 8)
    gram = values.mT @ (nodes.weight.unsqueeze(-1) * values)
    assert torch.allclose(gram, torch.eye(9, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize(("dim", "order"), [(1, 8), (2, 8), (3, 7)])
def test_panels_integrate_polynomials_and_absolute_values(dim, order):
    nodes = gaussian_panels(dim, order)
    assert float(nodes.mean(lambda z: z[:, -1] ** 6)) == pytest.approx(15, rel=1e-5)
    assert float(nodes.mean(lambda z: z[:, 0].abs())) == pytest.approx(math.sqrt(2 / math.pi), rel=1e-6)


def test_link_from_coefficients_has_them_again_by_quadrature():
    made = hermite_link([0, 1.0, -2.0, 0.5])
    found = function_link(lambda z: made(z.unsqueeze(-1)))
    assert found.variance == pytest.approx(1, rel=1e-12)
    for degree in range(6):
        assert found.coefficient(degree) == pytest.approx(made.coefficient(degree), abs=1e-10)


def test_mixture_of_two_indices_is_z1_plus_the_second_hermite_polynomial_of_z2():
    mixture = hermite_link({(1, 0): 1.0, (0, 2): 1.0}, standardise=False)
    z = random.normal((7, 2), generator=random.generator(0), like=torch.zeros((), dtype=torch.float64))
    assert torch.allclose(mixture(z), z[:, 0] + (z[:, 1] ** 2 - 1) / math.sqrt(2), atol=1e-12)
    again = function_link(lambda z: z[..., 0] + (z[..., 1] ** 2 - 1) / math.sqrt(2), dim=2)
    assert again.information_exponent == mixture.information_exponent == 1
    assert again.coefficient(0, 2) == pytest.approx(1, abs=1e-8)
    assert again.coefficient(1, 1) == 0


def test_parity_of_three_signs_has_exponent_three():
    link = function_link(lambda z: torch.sign(z).prod(-1), dim=3, degree=4)
    assert link.information_exponent == 3
    assert link.coefficient(1, 1, 1) == pytest.approx((2 / math.pi) ** 1.5, rel=1e-6)


def test_standardised_links_are_centred_with_unit_variance():
    nodes = gaussian_panels(1, 20)
    values = function_link(torch.exp, standardise=True)(nodes.x)
    assert float(nodes.weight @ values) == pytest.approx(0, abs=1e-10)
    assert float(nodes.weight @ values.square()) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: function_link(torch.relu), "centred"),
        (lambda: function_link(lambda z: 0 * z, standardise=True), "varies"),
        (lambda: function_link(lambda z: z.sum()), "one number for each point"),
        (lambda: function_link(torch.log), "finite"),
        (lambda: function_link(lambda z: torch.exp(z * z / 2), standardise=True), "square-integrable"),
        (lambda: function_link(lambda z: hermite_values(z, 5)[..., 5], degree=4), "coefficient"),
        (lambda: hermite_link([1.0, 1.0]), "centred"),
        (lambda: hermite_link([0.0, 0.0]), "not all zero"),
        (lambda: hermite_link({(1, 0): 1.0, (2,): 1.0}), "as many degrees"),
        (lambda: hermite_link([0, 1]).coefficient(1, 2), "degrees"),
        (lambda: gaussian_panels(4, 3), "indices"),
        (lambda: hermite_values(torch.zeros(1), -1), "degree"),
    ],
)
def test_links_that_are_no_links_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_kink_away_from_zero_asks_for_a_tolerance_and_then_has_its_coefficients():
    def kinked(z: torch.Tensor) -> torch.Tensor:
        return torch.relu(z - 0.3)

    with pytest.raises(
        ValueError, match=r"coefficients of kinked are not known to a tolerance of 1e-08.*by tolerance="
    ):
        function_link(kinked, standardise=True)
    link = function_link(kinked, standardise=True, tolerance=1e-5)
    density, above = math.exp(-0.045) / math.sqrt(2 * math.pi), 0.5 * math.erfc(0.3 / math.sqrt(2))
    mean, square = density - 0.3 * above, 1.09 * above - 0.3 * density  # E (z - c)₊ and E (z - c)₊²
    assert link.coefficient(1) == pytest.approx(above / math.sqrt(square - mean**2), rel=1e-4)
