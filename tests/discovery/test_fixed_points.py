"""The fixed subspace from data: found where it is, denied where it is not, and neither without evidence."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.discovery import TrainingFree, dataset, discover_fixed_points
from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, hom
from symfield.units import PointwiseUnit, sigmoid

LIKE = torch.zeros(0, dtype=torch.float64)
SWAP = fixed_points(hom(Defining(Cyclic(2)), Defining(Cyclic(2))))


def inputs(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return random.normal((n, d), generator=random.generator(seed), like=LIKE)


def search(x, y, seed: int = 1, **settings):
    return discover_fixed_points((x, y), generator=random.generator(seed), method=TrainingFree(**settings))


def circular(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x + 0.5 * x.roll(1, 1) - 0.7 * x.roll(2, 1)) + 0.3 * x * x.roll(-1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_rotations_of_coordinates_give_the_circulant_matrices(seed):
    x = inputs(3000, 8, seed)
    found = search(x, circular(x), seed)
    truth = fixed_points(hom(Defining(Cyclic(8)), Defining(Cyclic(8))))
    assert found.verdict == "symmetry found"
    assert found.subspace.dim == truth.dim == 8
    assert float(found.subspace.angles(truth).max()) < 1e-9


def test_a_function_without_symmetry_is_left_with_the_whole_space():
    x = inputs(3000, 6)
    mixing = random.normal((6, 6), generator=random.generator(5), like=LIKE)
    found = search(x, torch.tanh(x @ mixing))
    assert found.verdict == "no symmetry found"
    assert found.subspace.dim == 36


def test_targets_that_ignore_the_inputs_are_no_symmetry():
    found = search(inputs(2000, 4), inputs(2000, 4, seed=9))
    assert found.verdict == "cannot tell"
    assert "explain nothing" in found.reason


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (inputs(10, 4), inputs(10, 4), "too few"),
        (inputs(200, 4), torch.ones(200, 4), "constant"),
        (inputs(200, 2)[:, [0, 1, 0]], inputs(200, 1), "collinear"),
        (inputs(200, 2).index_fill(0, torch.tensor([3]), math.nan), inputs(200, 1), "2 entries are NaN"),
    ],
)
def test_data_that_cannot_tell_say_why(x, y, words):
    found = search(x, y)
    assert found.verdict == "cannot tell"
    assert words in found.reason
    assert found.confidence == 0


def test_a_data_set_and_its_tensors_give_the_same_answer():
    x = inputs(1000, 3)
    y = circular(x)
    first, second = (discover_fixed_points(data, generator=random.generator(2)) for data in (dataset(x, y), (x, y)))
    assert torch.equal(first.subspace.basis, second.subspace.basis)
    assert first.rounds == second.rounds


def test_shapes_that_do_not_fit_the_unit_are_refused():
    with pytest.raises(ValueError, match=r"expected inputs \(b, 3\)"):
        discover_fixed_points(
            (inputs(100, 2), inputs(100, 2)), PointwiseUnit(sigmoid, 3, 2), generator=random.generator(0)
        )
