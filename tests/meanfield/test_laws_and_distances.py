"""Laws of particles and distances between them, with exact answers."""

from __future__ import annotations

import math

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield.equivariant import fixed_points
from symfield.groups import Cyclic, Defining, Orthogonal, SignFlips, Symmetric, hom
from symfield.linalg import Subspace
from symfield.meanfield import (
    distance_to_orbit,
    distance_to_projection,
    gaussian,
    orbit,
    project,
    relative_measure_distance,
    sample_strongly_invariant,
    sample_weakly_invariant,
    wasserstein2,
)

SWAP = hom(Defining(Cyclic(2)), Defining(Cyclic(2)))
LIKE = torch.zeros(0, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_linear_programme(x: torch.Tensor, y: torch.Tensor) -> float:
    return math.sqrt(ot.emd2([], [], torch.cdist(x, y).square().numpy()))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (5, 10), (6, 4), (1, 9)])
def test_wasserstein_solves_the_linear_programme(n: int, k: int):
    x, y = normal(n, 3), normal(k, 3, seed=1)
    assert wasserstein2(x, y).item() == pytest.approx(by_linear_programme(x, y), rel=1e-10)


@pytest.mark.parametrize("copies", [2, 3])
def test_repeating_every_particle_changes_no_law(copies: int):
    z = normal(12, 3)
    assert wasserstein2(z, z.repeat(copies, 1)).item() == 0
    assert wasserstein2(z.repeat(2, 1), z.repeat(3, 1)).item() == 0


def test_wasserstein_between_translated_clouds_is_the_shift():
    x = normal(4, 50, 3)
    shift = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(wasserstein2(x, x + shift), torch.full((4,), 3.0, dtype=torch.float64))


def test_wasserstein_on_the_line_is_found_by_sorting():
    x, y = normal(3, 40, 1), 2 * normal(3, 40, 1, seed=1)
    expected = torch.tensor([by_linear_programme(a, b) for a, b in zip(x, y, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(wasserstein2(x, y), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 10**6))
def test_relative_measure_distance_is_a_bounded_symmetric_number(n: int, p: int, seed: int):
    x, y = normal(n, p, seed=seed), normal(n, p, seed=seed + 1) + 1
    there, back = relative_measure_distance(x, y), relative_measure_distance(y, x)
    assert there.item() == pytest.approx(back.item(), rel=1e-12)
    assert 0 <= there.item() <= 1
    assert relative_measure_distance(x, x[torch.randperm(n, generator=torch.Generator())]).item() < 1e-8


def test_relative_measure_distance_between_clouds_at_the_origin_is_zero():
    assert relative_measure_distance(torch.zeros(3, 2), torch.zeros(5, 2)).item() == 0


@pytest.mark.parametrize("scale", [2.0**-600, 2.0**600])
def test_distances_neither_overflow_nor_underflow(scale: float):
    x, y = normal(6, 3), normal(6, 3, seed=1)
    assert wasserstein2(scale * x, scale * y).item() == pytest.approx(scale * wasserstein2(x, y).item(), rel=1e-12)
    assert relative_measure_distance(scale * x, scale * y).item() == pytest.approx(
        relative_measure_distance(x, y).item(), rel=1e-12
    )


def test_a_run_far_away_leaves_the_distances_of_the_others_as_they_were():
    x, y = normal(2, 6, 3), normal(2, 6, 3, seed=1)
    far = torch.tensor([2.0**600, 1.0], dtype=torch.float64).reshape(2, 1, 1)
    torch.testing.assert_close(relative_measure_distance(far * x, far * y), relative_measure_distance(x, y))


def test_relative_measure_distance_does_not_exceed_one_by_round_off():
    for seed in range(200):
        x = normal(1, 3, seed=seed)
        assert relative_measure_distance(x, -x).item() <= 1


def test_distance_to_the_projection_needs_no_solver():
    z, space = normal(3, 40, 4), fixed_points(SWAP)
    closed = distance_to_projection(z, space, squared=True)
    solved = relative_measure_distance(z, project(z, space), squared=True)
    torch.testing.assert_close(closed, solved, rtol=1e-12, atol=1e-14)
    assert bool((closed <= 0.5).all())
    assert distance_to_projection(z, Subspace.zero(4), squared=True).tolist() == pytest.approx([0.5] * 3, abs=1e-15)


def test_the_papers_invariant_teacher_lies_where_it_should():
    from symfield.studies._maass2024 import ACTION, fixed_space, teacher

    cloud = teacher("WI")
    assert distance_to_projection(cloud, fixed_space(), squared=True).item() == pytest.approx(0.122395, abs=5e-7)
    assert distance_to_orbit(cloud, ACTION).item() == 0
    assert distance_to_projection(teacher("SI"), fixed_space()).item() < 1e-15


def test_orbit_is_weakly_invariant_and_keeps_the_average(generator):
    z = normal(6, 4)
    closed = orbit(z, SWAP)
    assert closed.shape == (12, 4)
    assert distance_to_orbit(z, SWAP).item() > 0.1
    assert distance_to_orbit(closed, SWAP).item() == 0
    flips = Defining(SignFlips(2))
    torch.testing.assert_close(orbit(normal(3, 5, 2), flips).mean(1), torch.zeros(3, 2, dtype=torch.float64))


def test_gaussian_law_is_weakly_invariant_and_strongly_invariant_samples_are_its_projection(generator):
    space = fixed_points(SWAP)
    free = sample_weakly_invariant((2000,), SWAP, generator=generator, like=LIKE)
    again = torch.Generator().manual_seed(0)
    inside = sample_strongly_invariant((2000,), space, generator=again, like=LIKE)
    assert torch.equal(inside, project(free, space))
    assert distance_to_projection(inside, space).item() == 0
    torch.testing.assert_close(free.std(0), torch.full((4,), 0.25, dtype=torch.float64), rtol=0.06, atol=0)


def test_any_law_is_made_weakly_invariant_by_moving_each_particle(generator):
    def lopsided(shape, *, generator, like):
        return gaussian(0.1)(shape, generator=generator, like=like) + torch.arange(3, dtype=like.dtype)

    rep = Defining(Symmetric(3))
    z = sample_weakly_invariant((6000,), rep, generator=generator, like=LIKE, law=lopsided)
    torch.testing.assert_close(z.mean(0), torch.ones(3, dtype=torch.float64), rtol=0, atol=0.04)
    assert len({tuple(row.round().tolist()) for row in z[:200]}) == 6


def test_bad_clouds_are_refused_in_the_users_words(generator):
    with pytest.raises(ValueError, match="NaN"):
        wasserstein2(torch.full((2, 2), math.nan), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="at least one particle"):
        wasserstein2(torch.zeros(0, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="expected clouds"):
        relative_measure_distance(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(\.\.\., n, 4\)"):
        project(torch.zeros(2, 3), Subspace.zero(4))
    with pytest.raises(ValueError, match="finite group"):
        orbit(torch.zeros(2, 3), Defining(Orthogonal(3)))
    for std in (-1.0, math.nan):
        with pytest.raises(ValueError, match="std >= 0"):
            gaussian(std)
