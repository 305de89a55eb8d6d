"""Claims about equivariant layers and parametrizations."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from tests.equivariant.cases import conjugated, points_in_space, randn
from torch import nn
from torch.nn.utils import parametrize

from symfield.equivariant import EquivariantLinear, EquivariantWeight, equivariant, equivariant_maps
from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    Orthogonal,
    Planar,
    Regular,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
)
from symfield.linalg import Subspace
from symfield.testing import assert_equivariant, equivariance_error

_HIDDEN = conjugated(2 * Regular(Symmetric(3)))
PAIRS = {
    "sets": (2 * Defining(Symmetric(5)), 3 * Defining(Symmetric(5))),
    "graphs": (Defining(Symmetric(4)) ** 2, Defining(Symmetric(4)) + Trivial(Symmetric(4))),
    "shifts": (Regular(Cyclic(6)), 2 * Regular(Cyclic(6))),
    "planes": (4 * Planar(Dihedral(5)) + Trivial(Dihedral(5), 2), 3 * Planar(Dihedral(5)) + Trivial(Dihedral(5))),
    "vectors": (Defining(SpecialOrthogonal(3)) ** 2, Defining(SpecialOrthogonal(3))),
    "hidden": (_HIDDEN, _HIDDEN),
    "points in space": (points_in_space(3), points_in_space(3)),
    "no maps": (Defining(Orthogonal(3)), Trivial(Orthogonal(3), 2)),
}


@pytest.fixture(params=PAIRS.values(), ids=PAIRS.keys())
def pair(request):
    return request.param


@pytest.fixture
def layer(pair, generator) -> EquivariantLinear:
    built = EquivariantLinear(*pair, generator=generator)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(generator=generator)
    return built


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layer_is_equivariant_in_every_precision_it_is_moved_to(pair, layer, dtype, generator):
    x = randn(7, pair[0].dim).to(dtype)
    moved = layer.to(dtype)
    assert moved(x).dtype == dtype
    assert_equivariant(moved, *pair, x=x, generator=generator)
    assert_equivariant(moved.float().double(), *pair, x=x.double(), generator=generator)


def test_layer_has_one_parameter_for_each_equivariant_map_and_invariant_vector(pair, layer):
    assert layer.coefficients.numel() == equivariant_maps(*pair).dim
    assert layer.weight.shape == (pair[1].dim, pair[0].dim)
    assert layer.bias is not None
    assert layer.bias.shape == (pair[1].dim,)
    plain = EquivariantLinear(*pair, bias=False)
    assert plain.bias is None
    assert [name for name, _ in plain.named_parameters()] == ["coefficients"]


def test_layer_applies_its_weight_and_bias(layer):
    x = torch.randn(2, 3, layer.rep_in.dim, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(layer(x), x @ layer.weight.mT + layer.bias)


def test_initial_weight_has_the_documented_variance(pair):
    source = torch.Generator().manual_seed(1)
    layer, sizes = EquivariantLinear(*pair, generator=source), []
    for _ in range(200):
        layer.reset_parameters(generator=source)
        sizes.append(layer.weight.detach().square().sum())
    size, maps = torch.stack(sizes).mean(), layer.coefficients.numel()
    # ‖W‖² = (o / r) χ²_r, so the mean of 200 draws has relative deviation sqrt(2 / (200 r)).
    assert float(size) == pytest.approx(pair[1].dim if maps else 0.0, rel=5 * (2 / (200 * max(maps, 1))) ** 0.5)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_initialisation_is_reproducible(pair):
    a, b = (EquivariantLinear(*pair, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(a.weight, b.weight)
    torch.manual_seed(9)
    c = EquivariantLinear(*pair)
    torch.manual_seed(9)
    d = EquivariantLinear(*pair)
    assert torch.equal(c.weight, d.weight)


def test_training_keeps_equivariance(pair, generator):
    layer = EquivariantLinear(*pair, generator=generator, dtype=torch.float64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    x, y = randn(8, pair[0].dim, seed=1), randn(8, pair[1].dim, seed=2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] or not (layer.coefficients.numel() or layer.bias_coefficients.numel())
    assert_equivariant(layer, *pair, x=x, generator=generator)


def test_gradient_of_the_coefficients_is_the_projected_gradient_of_the_weight(pair, generator):
    layer = EquivariantLinear(*pair, bias=False, generator=generator, dtype=torch.float64)
    x, y = randn(8, pair[0].dim, seed=1), randn(8, pair[1].dim, seed=2)
    (layer(x) * y).sum().backward()
    expected = equivariant_maps(*pair).coordinates((y.mT @ x).reshape(-1))
    torch.testing.assert_close(layer.coefficients.grad, expected, atol=1e-11, rtol=0)


def test_works_under_functional_call_vmap_and_deepcopy(layer):
    x = torch.randn(4, layer.rep_in.dim, generator=torch.Generator().manual_seed(2))
    parameters = {name: torch.stack([p, 2 * p, -p]) for name, p in layer.named_parameters()}
    many = torch.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(parameters)
    torch.testing.assert_close(many, torch.stack([layer(x), 2 * layer(x), -layer(x)]))
    gradients = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).square().sum())(
        {name: p.detach() for name, p in layer.named_parameters()}
    )
    assert all(g.shape == p.shape for g, p in zip(gradients.values(), layer.parameters(), strict=True))
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        twin.coefficients.zero_()
    assert layer.coefficients.numel() == 0 or not torch.equal(twin.weight, layer.weight)


def _saved(layer: nn.Module) -> dict[str, torch.Tensor]:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_state_dict_restores_the_layer(pair, layer):
    other = EquivariantLinear(*pair)
    other.load_state_dict(_saved(layer))
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)


def test_a_checkpoint_from_a_machine_with_another_basis_means_the_same_weight(generator):
    layer = EquivariantLinear(_HIDDEN, _HIDDEN, generator=generator)
    maps = layer.weight_map.subspace
    rotation = torch.linalg.qr(randn(maps.dim, maps.dim, seed=7))[0]
    elsewhere = copy.deepcopy(layer)
    elsewhere.weight_map.subspace = Subspace.from_basis(maps.basis @ rotation)
    assert not torch.allclose(elsewhere.weight, layer.weight)
    layer.load_state_dict(_saved(elsewhere))
    torch.testing.assert_close(layer.weight, elsewhere.weight)


def test_a_checkpoint_of_other_representations_is_refused():
    one, two = EquivariantLinear(_HIDDEN, _HIDDEN), conjugated(2 * Regular(Symmetric(3)), seed=8)
    with pytest.raises(ValueError, match="other representations"):
        one.load_state_dict(EquivariantLinear(two, two).state_dict())
    smaller = conjugated(Regular(Symmetric(3)))
    with pytest.raises(ValueError, match="other representations"):
        one.load_state_dict(EquivariantLinear(smaller, smaller).state_dict())


def test_wrong_inputs_are_refused():
    layer = EquivariantLinear(Defining(Symmetric(4)), Defining(Symmetric(4)))
    with pytest.raises(ValueError, match=r"\(\*batch, 4\)"):
        layer(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="one group"):
        EquivariantLinear(Defining(Symmetric(4)), Defining(Symmetric(3)))


def test_repr_reads_as_mathematics():
    points = Defining(Symmetric(4))
    assert repr(EquivariantLinear(points**2, points, bias=False)) == (
        "EquivariantLinear(V^⊗2 -> V of S_4, 5 weights, no biases)"
    )


def test_parametrization_starts_at_the_projection_of_the_users_weight(pair, generator):
    user = nn.Linear(pair[0].dim, pair[1].dim)
    before = user.weight.detach().clone()
    equivariant(user, "weight", *pair)
    projected = equivariant_maps(*pair).project(before.reshape(-1)).reshape(before.shape)
    torch.testing.assert_close(user.weight, projected, atol=1e-6, rtol=0)
    equivariant(user, "bias", Trivial(pair[0].group), pair[1])
    assert_equivariant(user, *pair, x=torch.randn(6, pair[0].dim, generator=generator), generator=generator)
    assert user.parametrizations.weight.original.numel() == equivariant_maps(*pair).dim


def test_parametrized_layer_trains_saves_and_can_be_freed(generator):
    shifts = Defining(Cyclic(6))
    user = equivariant(nn.Linear(6, 6, bias=False), "weight", shifts, shifts)
    optimizer = torch.optim.SGD(user.parameters(), lr=0.1)
    x = torch.randn(8, 6, generator=generator)
    for _ in range(5):
        optimizer.zero_grad()
        (user(x) - x.roll(1, -1)).square().mean().backward()
        optimizer.step()
    assert equivariance_error(user, shifts, shifts, x=x, generator=generator) < 1e-5
    other = equivariant(nn.Linear(6, 6, bias=False), "weight", shifts, shifts)
    other.load_state_dict(_saved(user))
    assert torch.equal(other.weight, user.weight)
    weight = user.weight.detach().clone()
    parametrize.remove_parametrizations(user, "weight")
    assert torch.equal(user.weight, weight)
    assert user.weight.shape == (6, 6)


def test_parametrization_can_be_assigned_a_new_weight():
    points = Defining(Symmetric(3))
    user = equivariant(nn.Linear(3, 3), "weight", points, points)
    user.weight = torch.arange(9.0).reshape(3, 3)
    torch.testing.assert_close(user.weight, torch.full((3, 3), 4.0) + 0.0 * user.weight)


def test_parametrization_refuses_what_does_not_fit():
    points = Defining(Symmetric(4))
    with pytest.raises(ValueError, match=r"shape \(4, 4\).*received \(4, 5\)"):
        equivariant(nn.Linear(5, 4), "weight", points, points)
    with pytest.raises(ValueError, match=r"choose one of \['weight', 'bias'\]"):
        equivariant(nn.Linear(4, 4), "wieght", points, points)
    with pytest.raises(ValueError, match="convolution"):
        equivariant(nn.Conv1d(4, 4, 3), "weight", points, points)
    with pytest.raises(ValueError, match=r"received \(4,\)"):
        equivariant(nn.Linear(4, 4), "bias", points, points)


def test_equivariant_weight_is_a_partial_isometry():
    maps = equivariant_maps(Defining(Cyclic(4)), Defining(Cyclic(4)))
    weight = EquivariantWeight(maps, (4, 4))
    c = randn(3, maps.dim)
    assert weight(c).shape == (3, 4, 4)
    torch.testing.assert_close(weight.right_inverse(weight(c[0])), c[0], atol=1e-12, rtol=0)
    assert repr(weight) == "EquivariantWeight((4, 4) from 4 coordinates)"
