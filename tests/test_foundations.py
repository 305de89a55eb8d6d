"""random, trees, typing: equal generators give equal numbers, and flat vectors come back as the dicts they were."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symfield import random, trees

LIKE = torch.zeros(1, dtype=torch.float64)


def draws(generator):
    return [
        random.normal((3, 2), generator=generator, like=LIKE, std=2.0),
        random.uniform((4,), generator=generator, like=LIKE, low=-1.0, high=3.0),
        random.integers(0, 5, (6,), generator=generator),
    ]


def test_equal_seeds_give_equal_numbers_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    for a, b in zip(draws(random.generator(7)), draws(random.generator(7)), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_have_the_moments_they_claim():
    n = 200_000
    normal = random.normal((n,), generator=random.generator(0), like=LIKE, std=3.0)
    assert abs(normal.mean()) < 5 * 3.0 / math.sqrt(n)
    assert abs(normal.var() - 9.0) < 5 * 9.0 * math.sqrt(2 / n)
    uniform = random.uniform((n,), generator=random.generator(1), like=LIKE, low=-1.0, high=3.0)
    assert -1.0 <= uniform.min() < uniform.max() < 3.0
    assert abs(uniform.mean() - 1.0) < 5 * 4.0 / math.sqrt(12 * n)
    integers = random.integers(2, 6, (n,), generator=random.generator(2), like=LIKE)
    assert integers.dtype == torch.int64
    assert sorted(integers.unique().tolist()) == [2, 3, 4, 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_take_the_dtype_of_like(dtype):
    like = torch.zeros(1, dtype=dtype)
    assert random.normal((2,), generator=random.generator(0), like=like).dtype == dtype
    assert random.uniform((2,), generator=random.generator(0), like=like).dtype == dtype


def test_split_streams_do_not_depend_on_what_the_others_draw():
    data, noise = random.split(random.generator(0), 2)
    again, other = random.split(random.generator(0), 2)
    random.normal((1000,), generator=again, like=LIKE)
    assert torch.equal(random.normal((5,), generator=noise, like=LIKE), random.normal((5,), generator=other, like=LIKE))
    seeds = {child.initial_seed() for child in random.split(random.generator(0), 100)}
    assert len(seeds) == 100
    assert data.initial_seed() != noise.initial_seed()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_named(seed):
    with pytest.raises(ValueError, match=str(seed)):
        random.generator(seed)


shapes = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.lists(st.integers(0, 3), max_size=3), min_size=1)


@given(shapes)
def test_unravel_undoes_ravel_also_with_leading_axes(named):
    generator = random.generator(0)
    tree = {name: random.normal(shape, generator=generator, like=LIKE) for name, shape in named.items()}
    flat, unravel = trees.ravel(tree)
    assert flat.shape == (sum(math.prod(shape) for shape in named.values()),)
    back = unravel(flat)
    assert list(back) == list(tree)
    assert all(torch.equal(back[name], tree[name]) for name in tree)
    stacked = unravel(flat.expand(2, 5, -1))
    assert all(stacked[name].shape == (2, 5, *tree[name].shape) for name in tree)


def test_lerp_joins_its_ends_in_a_straight_line():
    a = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    b = {"w": torch.tensor([5.0, -2.0]), "b": torch.tensor(0.0)}
    assert trees.distance(trees.lerp(a, b, 0.0), a) == 0.0
    assert trees.distance(trees.lerp(a, b, 1.0), b) == 0.0
    middle = trees.lerp(a, b, 0.5)
    assert trees.distance(a, middle) == pytest.approx(trees.distance(a, b) / 2)
    assert trees.distance(a, b) == pytest.approx(math.sqrt(16 + 16 + 9))


def test_distance_accumulates_in_float64():
    a, b = {"w": torch.zeros(10_000_000)}, {"w": torch.full((10_000_000,), 1e-4)}
    assert trees.distance(a, b) == pytest.approx(math.sqrt(1e7) * float(torch.tensor(1e-4)), rel=1e-12)


def test_trees_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="empty dict"):
        trees.ravel({})
    _, unravel = trees.ravel({"w": torch.zeros(2)})
    with pytest.raises(ValueError, match="2 entries, received 3"):
        unravel(torch.zeros(3))
    with pytest.raises(ValueError, match="'b'"):
        trees.lerp({"w": torch.zeros(2)}, {"b": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) for 'w'"):
        trees.distance({"w": torch.zeros(2)}, {"w": torch.zeros(3)})


def test_sets_of_parameters_are_stacked_and_come_back():
    sets = [{"w": torch.full((2, 3), float(i)), "b": torch.arange(2.0) + i} for i in range(4)]
    stacked = trees.stack(sets)
    assert stacked["w"].shape == (4, 2, 3)
    again = trees.unstack(stacked)
    assert all(torch.equal(one[name], other[name]) for one, other in zip(sets, again, strict=True) for name in one)
    again[0]["w"].zero_().add_(9)
    assert float(stacked["w"][0].max()) == 0
    with pytest.raises(ValueError, match="at least one set"):
        trees.stack([])
    with pytest.raises(ValueError, match="equal shapes"):
        trees.stack([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])
    with pytest.raises(ValueError, match="one leading axis"):
        trees.unstack({"a": torch.zeros(2), "b": torch.zeros(3)})
