"""The search for permutations finds exactly the group that brute force finds, and the chain counts it."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield.discovery.automorphisms import Tables, automorphisms
from symfield.discovery.naming import blocks, named
from symfield.groups import Coordinates, PermutationGroup
from symfield.testing import assert_representation


def brute_force(values: np.ndarray) -> set[tuple[int, ...]]:
    n = values.shape[-1]
    return {p for p in permutations(range(n)) if all((t[np.ix_(p, p)] == t).all() for t in values)}


def generated(generators: list[tuple[int, ...]], n: int) -> set[tuple[int, ...]]:
    found, waiting = {tuple(range(n))}, [tuple(range(n))]
    for g in waiting:
        for s in generators:
            h = tuple(s[i] for i in g)
            if h not in found:
                found.add(h)
                waiting.append(h)
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 2), st.integers(2, 3), st.integers(0, 10**6))
def test_the_search_finds_the_automorphisms_that_brute_force_finds(n, tables, colours, seed):
    values = np.random.default_rng(seed).integers(0, colours, (tables, n, n)).astype(float)
    result = automorphisms(Tables(values, np.zeros(tables)))
    truth = brute_force(values)
    assert generated(list(result.generators), n) == truth
    assert result.order == len(truth)
    assert result.complete


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 10**6))
def test_the_order_of_a_group_of_signed_permutations_is_the_number_of_products(n, count, seed):
    generator = np.random.default_rng(seed)
    rows = [(generator.permutation(n) + n * generator.integers(0, 2, n)).tolist() for _ in range(count)]
    group = PermutationGroup(torch.tensor(rows))
    doubled = [(*row, *((j + n) % (2 * n) for j in row)) for row in rows]
    assert group.order == len(generated(doubled, 2 * n))
    assert sorted(row[:n] for row in map(list, generated(doubled, 2 * n))) == sorted(group.elements.tolist())
    assert group.index(group.elements).tolist() == list(range(group.order))


def test_large_groups_need_no_list_of_elements():
    n = 16
    swap, turn = [1, 0, *range(2, n)], [*range(1, n), 0]
    flip = [n, *range(1, n)]
    group = PermutationGroup([swap, turn, flip])
    assert group.order == 2**16 * np.prod(np.arange(1, 17, dtype=object))
    draws = group.sample(200, generator=torch.Generator().manual_seed(0))
    assert bool(group.contains(draws).all())
    assert len(draws[:, 0].unique()) == 32


def test_membership_is_refused_outside():
    group = PermutationGroup([[1, 2, 0, 3]])
    assert group.contains(torch.tensor([[1, 2, 0, 3], [1, 0, 2, 3], [4, 1, 2, 3]])).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="expected rows that are permutations"):
        PermutationGroup([[0, 0, 1]])
    with pytest.raises(ValueError, match="maps to one another"):
        Coordinates(group, 1, 3)


def test_a_part_of_the_coordinates_carries_a_representation():
    group = PermutationGroup([[1, 2, 0, 9, 3], [0, 1, 2, 4, 3]])
    assert_representation(Coordinates(group, 0, 3), generator=torch.Generator().manual_seed(0))
    assert_representation(Coordinates(group, 3, 5), generator=torch.Generator().manual_seed(0))


def direct(*rows: list[list[int]]) -> torch.Tensor:
    """Generators of a product, block by block."""
    sizes = [len(block[0]) for block in rows]
    found = []
    for b, block in enumerate(rows):
        for row in block:
            start, full = 0, []
            for other, size in enumerate(sizes):
                full += [start + j for j in (row if other == b else range(size))]
                start += size
            found.append(full)
    return torch.tensor(found)


RINGS = {
    "C_5": [[1, 2, 3, 4, 0]],
    "D_5": [[1, 2, 3, 4, 0], [4, 3, 2, 1, 0]],
    "S_5": [[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]],
    "A_5": [[1, 2, 3, 4, 0], [1, 2, 0, 3, 4]],
    "C_2": [[1, 0]],
    "S_3": [[1, 2, 0], [1, 0, 2]],
    "C_4": [[1, 2, 3, 0]],
}


@pytest.mark.parametrize("name", RINGS)
def test_known_groups_are_named(name):
    assert named(PermutationGroup(RINGS[name]))[1] == name


@pytest.mark.parametrize(("first", "second"), [("S_3", "C_2"), ("D_5", "C_4"), ("S_5", "S_3"), ("C_5", "C_2")])
def test_products_are_told_apart_from_groups_that_move_their_blocks_together(first, second):
    group = PermutationGroup(direct(RINGS[first], RINGS[second]))
    assert named(group)[1] == f"{first} × {second}"
    assert len(blocks(group)) == 2
    together = PermutationGroup([[*row, *(j + len(row) for j in row)] for row in RINGS[first]])
    assert named(together)[1] == first
    assert len(blocks(together)) == 1


def test_signs_are_named():
    assert named(PermutationGroup([[3, 1, 2], [0, 4, 2]]))[1] == "{±1}^2"
    assert named(PermutationGroup([[3, 4, 5]]))[1] == "C_2"  # all signs at once
    assert named(PermutationGroup([[1, 2, 0], [1, 0, 2], [3, 1, 2]]))[1] == "B_3"
    every = PermutationGroup(torch.tensor(list(product((0, 3), (1, 4), (2, 5)))))
    assert named(every)[1] == "{±1}^3"
