"""Canonical poses: equivariant whatever the map, one evaluation an input."""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.groups import (
    Cyclic,
    Defining,
    Dihedral,
    Planar,
    Regular,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
)
from symfield.symmetrize import Canonical, Sorted, canonical, symmetrize
from symfield.testing import assert_equivariant

LIKE = torch.zeros((), dtype=torch.float64)
CASES = [
    Defining(Cyclic(5)), Planar(Dihedral(4)), Defining(SignFlips(3)), 2 * Defining(Symmetric(3)),
    Defining(Symmetric(6)), Defining(Symmetric(4)) * Trivial(Symmetric(4), 3),
]  # fmt: skip


@pytest.mark.parametrize("rep", CASES, ids=str)
@pytest.mark.parametrize("out", ["trivial", "same"])
def test_any_map_in_canonical_pose_is_equivariant(rep, out):
    rep_out = rep if out == "same" else Trivial(rep.group, 2)
    frame = canonical(rep, generator=random.generator(0))
    weights = random.normal((rep_out.dim, rep.dim), generator=random.generator(1), like=LIKE)
    x = random.normal((7, rep.dim), generator=random.generator(2), like=LIKE)

    def average(points):
        return symmetrize(lambda v: torch.tanh(v @ weights.mT), points, frame, rep_in=rep, rep_out=rep_out)

    assert_equivariant(average, rep, rep_out, x=x, generator=random.generator(3))


def test_a_sort_is_the_pose_of_the_greatest_inner_product_with_an_increasing_vector():
    rep = Defining(Symmetric(5))
    x = random.normal((9, 5), generator=random.generator(0), like=LIKE)
    orbit = rep.act(rep.group.elements, torch.arange(5.0).double())
    by_search, by_sort = Canonical(rep, orbit), Sorted(rep, torch.ones(1).double())
    assert torch.equal(by_search(x).g, by_sort(x).g)
    assert torch.equal(rep.act(by_sort(x).inverse[0], x), x.sort(-1).values)


def test_what_has_no_pose_is_refused():
    with pytest.raises(NotImplementedError, match="finite groups"):
        canonical(Defining(SpecialOrthogonal(3)), generator=random.generator(0))
    with pytest.raises(ValueError, match="faithful"):
        canonical(Trivial(Cyclic(2), 3), generator=random.generator(0))
    assert isinstance(canonical(Regular(Symmetric(3)), generator=random.generator(0)), Canonical)
