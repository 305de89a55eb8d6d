"""Subspaces lead to groups, groups to layers, and the layers have the symmetry."""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.discovery import discover_group, draw_sharing, equivariant_layer, sharing
from symfield.discovery.groups import DiscoveredGroup
from symfield.equivariant import equivariant_maps
from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    DirectProduct,
    PermutationGroup,
    SignFlips,
    Symmetric,
    Trivial,
)
from symfield.linalg import Subspace
from symfield.units import HiddenUnit, ModuleUnit, PointwiseUnit, sigmoid

GROUPS = {
    "C_5": Cyclic(5),
    "D_5": Dihedral(5),
    "S_5": Symmetric(5),
    "S_3 × C_2": DirectProduct(Symmetric(3), Cyclic(2)),
    "C_16": Cyclic(16),
    "S_16": Symmetric(16),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_group_comes_back_from_its_equivariant_maps(name):
    rep = Defining(GROUPS[name])
    unit = PointwiseUnit(sigmoid, rep.dim, rep.dim)
    found = discover_group(equivariant_maps(rep, rep), unit=unit, generator=random.generator(0))
    assert found.name == name
    assert found.rep_in is not None
    assert found.rep_out is not None
    again = equivariant_maps(found.rep_in, found.rep_out)
    assert again.dim == equivariant_maps(rep, rep).dim
    assert again.includes(equivariant_maps(rep, rep))


def test_signs_of_inputs_come_back_with_an_invariant_output():
    rep = Defining(SignFlips(3))
    unit = HiddenUnit(sigmoid, 3, 1, hidden=2)
    space = unit.representation(rep, Trivial(rep.group))
    from symfield.equivariant import fixed_points

    found = discover_group(fixed_points(space), unit=unit, signs=True, generator=random.generator(0))
    assert found.permutations is not None
    flips = torch.tensor([[4, 1, 2, 3], [0, 5, 2, 3], [0, 1, 6, 3]])  # three inputs, one output
    assert bool(found.permutations.contains(flips).all())


def test_without_a_unit_the_parameters_themselves_are_permuted():
    space = Subspace.from_orbits(torch.tensor([0, 0, 0, 1, 1]))
    found = discover_group(space, generator=random.generator(0))
    assert found.name == "S_3 × C_2"
    assert found.rep_out is None


def test_subspaces_that_say_nothing_say_so():
    unit = PointwiseUnit(sigmoid, 3, 3)
    everything = discover_group(Subspace.full(9), unit=unit, generator=random.generator(0))
    nothing = discover_group(Subspace.zero(9), unit=unit, generator=random.generator(0))
    assert (everything.verdict, nothing.verdict) == ("no symmetry found", "cannot tell")
    line = Subspace.span(torch.arange(1.0, 10.0).double()[None].square())
    assert discover_group(line, unit=unit, generator=random.generator(0)).verdict == "no symmetry found"
    with pytest.raises(ValueError, match="expected a subspace of"):
        discover_group(Subspace.span(torch.ones(1, 4).double()), unit=unit, generator=random.generator(0))
    module = ModuleUnit(torch.nn.Linear(3, 3), 3, 3)
    with pytest.raises(NotImplementedError, match="leave the unit out"):
        discover_group(Subspace.span(torch.ones(1, module.dim).double()), unit=module, generator=random.generator(0))


def test_a_measured_subspace_near_the_exact_one_needs_its_tolerance():
    from symfield.discovery.stabilisers import stabiliser

    rep, unit = Defining(Cyclic(4)), PointwiseUnit(sigmoid, 4, 4)
    exact = equivariant_maps(rep, rep).basis
    noise = random.normal(tuple(exact.shape), generator=random.generator(3), like=exact)
    measured = Subspace.from_basis(torch.linalg.qr(exact + 1e-3 * noise)[0])
    strict = stabiliser(measured, unit, signs=False, generator=random.generator(0))
    loose = stabiliser(measured, unit, signs=False, generator=random.generator(0), tolerance=0.05)
    assert len(strict.images) == 0
    assert PermutationGroup(loose.images).order == 4


def test_the_layer_of_a_permutation_group_is_equivariant():
    rep = Defining(Dihedral(5))
    unit = PointwiseUnit(sigmoid, 5, 5)
    found = discover_group(equivariant_maps(rep, rep), unit=unit, generator=random.generator(0))
    layer = equivariant_layer(found, generator=random.generator(1))
    x = random.normal((7, 5), generator=random.generator(2), like=torch.zeros(1, dtype=torch.float64))
    for g, tau in zip(found.generators, found.output_generators, strict=True):
        assert torch.allclose(layer(x @ g.mT), layer(x) @ tau.mT, atol=1e-10)
    pattern = sharing(found)
    assert pattern.parameters == 3
    assert torch.equal(pattern.labels, pattern.labels.mT)


def test_the_layer_of_a_rotation_group_is_equivariant():
    x = random.normal((900, 4), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
    norm = x[:, :3].square().sum(-1, keepdim=True)
    y = torch.cat([x[:, :3] * norm, norm * x[:, 3:] + x[:, 3:] ** 3 + norm], dim=1)
    found = discover_group((x, y), generator=random.generator(1))
    assert found.name.startswith("O(3)"), found.reason
    layer = equivariant_layer(found, generator=random.generator(1))
    for a, b in zip(found.algebra, found.output_algebra, strict=True):
        moved, turned = torch.linalg.matrix_exp(a), torch.linalg.matrix_exp(b)
        assert torch.allclose(layer(x @ moved.mT), layer(x) @ turned.mT, atol=1e-5)


def test_what_was_not_found_cannot_be_exported():
    nothing = DiscoveredGroup("cannot tell", "too few samples")
    with pytest.raises(ValueError, match="expected a symmetry"):
        equivariant_layer(nothing, generator=random.generator(0))
    with pytest.raises(ValueError, match="expected a group of permutations"):
        sharing(nothing)


def test_the_picture_shows_each_parameter_once():
    rep = Defining(Cyclic(3))
    found = discover_group(equivariant_maps(rep, rep), unit=PointwiseUnit(sigmoid, 3, 3), generator=random.generator(0))
    figure = draw_sharing(sharing(found), ("a", "b", "c"))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(texts) == sorted(["1", "2", "3"] * 3)
    assert "3 parameters for 9 weights" in figure.axes[0].get_title()
