"""Symmetries of targets are found with their signs, clouds are closed under them, and the flow keeps what it should."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.groups import Cyclic, Defining, Dihedral, Regular, SpecialOrthogonal, Symmetric
from symfield.ode import Adaptive, heun
from symfield.wide import (
    Gaussian,
    Neurons,
    Radial,
    ReLUTeacher,
    SampledTarget,
    UnitSphere,
    closed_under,
    cubic,
    even_norm,
    predict,
    preserved_symmetries,
    risk,
    sphere_neurons,
    symmetry_error,
    wide_flow,
)

LIKE = torch.zeros(1, dtype=torch.float64)
EYE = torch.eye(6).double()
SWAP = EYE[[1, 0, 2, 3, 4, 5]]
DIFFERENCE = ReLUTeacher.absolute_values(torch.tensor([1.0, -1.0]).double(), EYE[:2])


def cloud(m: int, d: int = 6, *, seed: int = 0, runs: tuple[int, ...] = ()) -> Neurons:
    return sphere_neurons(m, d, generator=random.generator(seed), like=LIKE, runs=runs)


def rotation(d: int, i: int, j: int, angle: float) -> torch.Tensor:
    matrix = torch.eye(d).double()
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def test_an_antisymmetric_cloud_stays_so_over_two_hundred_steps():
    start = closed_under(cloud(30), [(-1, SWAP)])
    assert start.a.shape == (60,)
    times = torch.linspace(0, 20, 11)
    path = wide_flow(start, DIFFERENCE, Gaussian(6), times=times, method=heun(0.1))
    assert path.evaluations == 400
    error = symmetry_error(path.neurons, SWAP, sign=-1)
    assert error.cloud.max() <= 1e-12
    assert error.predictor.max() <= 1e-12
    risks = risk(path.neurons, DIFFERENCE, Gaussian(6))
    assert risks[-1] < 0.05 * risks[0]
    x = random.normal((50, 6), generator=random.generator(1), like=LIKE)
    assert (predict(path.neurons, x @ SWAP.mT) + predict(path.neurons, x)).abs().max() <= 1e-12


def test_with_the_wrong_sign_closedness_is_lost():
    start = closed_under(cloud(30), [(1, SWAP)])
    path = wide_flow(start, DIFFERENCE, Gaussian(6), times=[0.0, 2.0], method=heun(0.1))
    error = symmetry_error(path.neurons, SWAP, sign=1)
    assert error.cloud[0] == 0
    assert error.cloud[1] > 0.1
    assert error.predictor[1] > 0.1


def test_a_law_that_is_not_invariant_breaks_the_symmetry_of_a_symmetric_target():
    skewed = Gaussian(6, torch.tensor([4.0, 1, 1, 1, 1, 1]))
    found = preserved_symmetries(DIFFERENCE, skewed, SWAP[None])[0]
    assert (found.sign, found.invariant_inputs, found.preserved) == (-1, False, False)
    start = closed_under(cloud(30), [(-1, SWAP)])
    path = wide_flow(start, DIFFERENCE, skewed, times=[2.0], method=heun(0.1))
    assert symmetry_error(path.neurons, SWAP, sign=-1, inputs=skewed).predictor.max() > 0.05


@pytest.mark.parametrize(
    ("rep", "target"),
    [
        (Defining(Dihedral(5)), "orbit"),
        (Defining(Symmetric(4)), "orbit"),
        (Regular(Cyclic(4)), "orbit"),
        (Defining(Symmetric(4)), "norm"),
    ],
)
def test_the_orbit_of_a_teacher_is_symmetric_and_closed_clouds_stay_closed(rep, target):
    d = rep.dim
    inputs = UnitSphere(d)
    unit = closed_under(cloud(1, d, seed=4), [(1, t) for t in rep.matrix(rep.group.generators)])
    teacher = ReLUTeacher(*unit) if target == "orbit" else Radial(d, d)
    found = preserved_symmetries(teacher, inputs, rep)
    assert len(found) == len(rep.group.generators)
    assert all(symmetry.preserved and symmetry.sign == 1 and symmetry.exact for symmetry in found)
    assert max(symmetry.deviation for symmetry in found) < 1e-13
    start = closed_under(cloud(4, d), found)
    assert start.a.shape == (4 * rep.group.order,)
    path = wide_flow(start, teacher, inputs, times=[0.0, 5.0, 20.0], method=heun(0.25))
    for element in rep.matrix(rep.group.elements):
        error = symmetry_error(path.neurons, element, inputs=inputs)
        assert error.cloud.max() <= 1e-12
        assert error.predictor.max() <= 1e-12


def test_odd_targets_keep_clouds_of_opposite_pairs_and_those_predict_linearly():
    inputs = Gaussian(6, torch.linspace(0.5, 2, 6).double())
    target = cubic(torch.ones(6).double(), inputs, energy=2.0)
    found = preserved_symmetries(target, inputs, torch.stack([-EYE, SWAP]))
    assert [(s.sign, s.preserved, s.exact) for s in found] == [(-1, True, False), (1, False, False)]
    start = closed_under(cloud(20), found)
    path = wide_flow(start, target, inputs, times=[1.0, 10.0], method=Adaptive())
    assert symmetry_error(path.neurons, -EYE, sign=-1, inputs=inputs).predictor.max() < 1e-6
    assert even_norm(path.neurons, inputs).max() < 1e-6


def test_signs_of_structured_targets_are_exact():
    turn, mixing = rotation(6, 0, 1, 1.0), rotation(6, 1, 2, 1.0)
    quarter = rotation(6, 0, 1, math.pi / 2)
    across = rotation(6, 3, 4, 0.3)
    table = {
        "difference": (DIFFERENCE, [(SWAP, -1), (-EYE, 1), (quarter, -1), (turn, 0), (across, 1), (mixing, 0)]),
        "norm": (Radial(6, 2), [(turn, 1), (SWAP, 1), (across, 1), (-EYE, 1), (mixing, 0)]),
    }
    for target, cases in table.values():
        found = preserved_symmetries(target, Gaussian(6), [matrix for matrix, _ in cases])
        assert [symmetry.sign for symmetry in found] == [sign for _, sign in cases]
        for symmetry in found:
            assert symmetry.exact
            assert symmetry.deviation < 1e-14 if symmetry.sign else symmetry.deviation > 0.1


def test_a_teacher_is_judged_as_a_function_and_not_by_its_units():
    e = EYE[:1]
    linear = ReLUTeacher(torch.tensor([1.0, -1.0]).double(), torch.cat([e, -e]))
    assert preserved_symmetries(linear, Gaussian(6), -EYE[None])[0].sign == -1
    redundant = ReLUTeacher(
        torch.tensor([0.5, 0.25, 3.0, -1.0, 1.0]).double(), torch.cat([e, 2 * e, 0 * e, EYE[3:4], EYE[3:4]])
    )  # relu(x_0), with units that cancel
    found = preserved_symmetries(redundant, Gaussian(6), torch.stack([rotation(6, 3, 4, 1.0), -EYE]))
    assert [symmetry.sign for symmetry in found] == [1, 0]
    assert found[1].deviation == pytest.approx(2**0.5)  # of relu(−x) and −relu(x) or relu(x), in units of |relu|


def test_the_deviation_of_a_teacher_is_that_of_a_sample():
    turn = rotation(6, 0, 2, 0.4)
    exact = preserved_symmetries(DIFFERENCE, Gaussian(6), turn[None])[0]
    nodes = Gaussian(6).nodes(2**12, generator=random.generator(0))
    sampled = preserved_symmetries(SampledTarget(DIFFERENCE, nodes), Gaussian(6), turn[None], size=200_000)[0]
    assert not sampled.exact
    assert sampled.sign == exact.sign == 0
    assert sampled.deviation == pytest.approx(exact.deviation, rel=0.02)


def test_symmetry_errors_of_predictors_are_those_of_a_sample():
    neurons, inputs = cloud(9, runs=(2,)), Gaussian(6, torch.linspace(0.5, 2, 6).double())
    turn = rotation(6, 0, 2, 0.7)
    x = inputs.sample((200_000,), generator=random.generator(3), like=LIKE)
    for sign in (1, -1):
        miss = predict(neurons, x @ turn.mT) - sign * predict(neurons, x)
        exact = symmetry_error(neurons, turn, sign=sign, inputs=inputs).predictor
        torch.testing.assert_close(exact, miss.square().mean(-1).sqrt(), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("size", [1e-4, 1e-12])
def test_small_errors_are_resolved_far_below_the_root_of_round_off(size: float):
    a, b = closed_under(cloud(10), [(1, SWAP)])
    b = b.clone()
    b[3] += size * EYE[2]
    error = symmetry_error(Neurons(a, b), SWAP)
    assert error.cloud == pytest.approx(size, rel=1e-3)
    assert 0.005 * size < error.predictor < size


def test_random_clouds_deviate_as_the_root_of_the_width():
    sizes, errors = (32, 256), []
    for m in sizes:
        path = wide_flow(cloud(m, runs=(8,)), DIFFERENCE, Gaussian(6), times=[0.0, 3.0], method=heun(0.2))
        errors.append(symmetry_error(path.neurons, SWAP, sign=-1).predictor.log().mean(-1))
    slope = (errors[1] - errors[0]) / math.log(sizes[1] / sizes[0])
    torch.testing.assert_close(slope, torch.full((2,), -0.5).double(), rtol=0, atol=0.15)


def test_closed_clouds_are_the_smallest_and_merge_what_coincides():
    one = Neurons(torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0]]))
    swap = torch.eye(3)[[1, 0, 2]]
    symmetric = closed_under(one, [(1, swap)])
    assert symmetric.b.tolist() == [[1, 1, 0], [1, 2, 0], [2, 1, 0]]  # the first is its own image
    assert symmetric.a.tolist() == [1, -2, -2]
    assert closed_under(one, [(-1, swap)]).a.tolist() == [1, -2, -1, 2]
    assert closed_under(symmetric, [(1, swap)]).a.tolist() == symmetric.a.tolist()
    twice = Neurons(torch.cat([one.a, one.a]), torch.cat([one.b, one.b]))
    assert closed_under(twice, [(1, swap)]).b.tolist() == symmetric.b.tolist()
    flips = [(1, torch.diag(torch.tensor(row))) for row in ([-1.0, 1, 1], [1, -1.0, 1], [1, 1, -1.0])]
    assert closed_under(cloud(3, 3, runs=(2,)), flips).b.shape == (2, 24, 3)
    float32 = Neurons(*(part.float() for part in cloud(3, 3)))
    assert closed_under(float32, flips).b.dtype == torch.float32


def test_what_they_print_says_what_is_preserved():
    text = repr(preserved_symmetries(DIFFERENCE, Gaussian(6), torch.stack([SWAP, rotation(6, 0, 1, 1.0)])))
    first, second = text.splitlines()
    assert first == "T_0: f*∘T = −f* (deviation 0 |f*|, exact; inputs invariant): (a, b) ↦ (−a, Tb) is preserved"
    assert "f*∘T is not ±f*" in second
    assert second.endswith("not preserved")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(6), 2 * EYE[None]), "orthogonal matrix"),
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(6), torch.nan * EYE[None]), "orthogonal matrix"),
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(6), EYE), r"matrices \(k, 6, 6\)"),
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(6), torch.eye(3)[None]), r"\(6, 6\)"),
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(6), Defining(Symmetric(3))), r"representation on R\^6"),
        (lambda: preserved_symmetries(Radial(3, 2), Gaussian(3), Defining(SpecialOrthogonal(3))), "finite group"),
        (lambda: preserved_symmetries(DIFFERENCE, Gaussian(5), EYE[None]), "dimension 6"),
        (lambda: preserved_symmetries(Radial(6, 2), Gaussian(6), EYE[None], size=0), "size >= 1"),
        (lambda: closed_under(cloud(2), []), "one map"),
        (lambda: closed_under(cloud(2), [(2, SWAP)]), "sign 1 or −1"),
        (lambda: closed_under(cloud(2), [(1, 2 * SWAP)]), "orthogonal matrix"),
        (lambda: closed_under(cloud(2), [(1, rotation(6, 0, 1, 1.0))]), "finite group"),
        (lambda: closed_under(cloud(2), [(1, rotation(6, 0, 1, 0.01 * math.pi))], max_order=50), "at most 50"),
        (lambda: symmetry_error(cloud(2), SWAP, sign=0), "sign 1 or −1"),
        (lambda: symmetry_error(cloud(2), EYE[:5]), r"\(6, 6\)"),
        (lambda: symmetry_error(cloud(2), SWAP, inputs=Gaussian(5)), r"neurons in R\^5"),
    ],
)
def test_what_is_no_symmetry_is_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_runs_that_close_to_different_sizes_are_refused():
    b = torch.tensor([[[1.0, 1.0]], [[1.0, 2.0]]])
    with pytest.raises(ValueError, match="as many neurons in every run"):
        closed_under(Neurons(torch.ones(2, 1), b), [(1, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))])
