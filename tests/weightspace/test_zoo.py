"""Fifteen architectures: the derived factors are those found by hand, and none changes the function."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch

from symfield.studies._derivation_coverage_zoo import ZOO, Case
from symfield.weightspace import ParameterSymmetry, Permutation, symmetries


def groups(symmetry: ParameterSymmetry) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for factor in symmetry.factors:
        found[factor.name.split(":")[0]].append(factor.group)
    return {kind: sorted(names) for kind, names in found.items()}


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_the_derived_factors_are_complete_and_leave_the_function_alone(case: Case):
    torch.manual_seed(0)
    model, example = case.build(), case.example()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    symmetry = symmetries(model, example)
    assert groups(symmetry) == {kind: sorted(names) for kind, names in case.expected.items()}
    assert symmetry.report.certified
    assert symmetry.report.unknown == ()
    assert max(check.error for check in symmetry.report.checks) < 1e-12
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_element_of_a_float32_checkpoint_moves_its_buffers_too():
    case = next(case for case in ZOO if case.name == "conv-bn-flatten")
    torch.manual_seed(1)
    model, x = case.build(), case.example()
    with torch.no_grad():
        for _ in range(3):  # running statistics of their own
            model(x + torch.randn_like(x))
    symmetry = symmetries(model, x, certificate=False)
    element = symmetry.random_element(generator=torch.Generator().manual_seed(2))
    moved = symmetry.apply(model.state_dict(), element)
    assert not torch.equal(moved["1.running_mean"], model.state_dict()["1.running_mean"])
    assert torch.equal(moved["1.num_batches_tracked"], model.state_dict()["1.num_batches_tracked"])
    for train in (False, True):  # permutations and signs are exact in both modes, and the scales of gains too
        model.train(train)
        before = model(x)
        other = case.build().train(train)
        other.load_state_dict(moved)
        torch.testing.assert_close(other(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_unfolding_shows_every_entry_that_a_factor_moves(case: Case):
    torch.manual_seed(0)
    model = case.build()
    symmetry = symmetries(model, case.example(), certificate=False)
    params = {
        name: value.double() if value.is_floating_point() else value for name, value in model.state_dict().items()
    }
    for factor in symmetry.factors:
        faces = symmetry.unfold(params, factor.name)
        assert [face.slot for face in faces] == list(symmetry.slots(factor.name))
        assert all(face.values.shape[:-1] == (*factor.base_shape, factor.size) for face in faces)
        rest = {name: g for name, g in symmetry.identity().items() if name == factor.name}
        rest[factor.name] = factor.random_element(generator=torch.Generator().manual_seed(3))
        moved = symmetry.apply(params, rest)
        for before, after in zip(faces, symmetry.unfold(moved, factor.name), strict=True):
            if isinstance(factor, Permutation) and not factor.base:
                assert after.values.sum() == pytest.approx(before.values.sum().item(), abs=1e-9)
            assert after.values.shape == before.values.shape
