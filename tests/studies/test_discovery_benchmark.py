"""The benchmark's teachers have the symmetry that they claim, and its smallest setting runs."""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.discovery.stabilisers import stabiliser
from symfield.studies._discovery_benchmark_tasks import DISCRETE, SMOOTH, teacher
from symfield.studies.discovery_benchmark import STUDY, Config, _images, figures
from symfield.units import PointwiseUnit, sigmoid


def inputs(d: int) -> torch.Tensor:
    return random.normal((64, d), generator=random.generator(5), like=torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("kind", DISCRETE)
def test_discrete_teachers_are_equivariant(kind):
    hidden = teacher(kind, 6, generator=random.generator(1))
    x = inputs(hidden.dim)
    for g in hidden.rep_in.group.generators:
        moved = hidden.function(hidden.rep_in.act(g, x))
        assert torch.allclose(moved, hidden.rep_out.act(g, hidden.function(x)), atol=1e-10)
    assert hidden.symmetric == (kind != "none")


@pytest.mark.parametrize("kind", SMOOTH)
def test_smooth_teachers_are_invariant(kind):
    hidden = teacher(kind, 0, generator=random.generator(1))
    x = inputs(hidden.dim)
    for a in hidden.algebra:
        moved = x @ torch.linalg.matrix_exp(0.4 * a).mT
        assert torch.allclose(hidden.function(moved), hidden.function(x), atol=1e-10)
    assert hidden.symmetric == (not kind.startswith("none"))


@pytest.mark.parametrize("kind", ["cyclic", "dihedral", "symmetric", "blocks"])
def test_the_expected_images_generate_the_stabiliser_of_the_fixed_subspace(kind):
    from symfield.groups import PermutationGroup

    hidden = teacher(kind, 6, generator=random.generator(1))
    unit = PointwiseUnit(sigmoid, hidden.dim, hidden.dim)
    largest = stabiliser(hidden.fixed, unit, signs=False, generator=random.generator(0))
    expected, found = PermutationGroup(_images(hidden)), PermutationGroup(largest.images)
    assert expected.order == found.order
    assert bool(found.contains(expected.generators).all())


def test_the_smallest_setting_runs_and_is_right():
    rows = STUDY.run(STUDY.settings("tiny"))
    assert rows["right"].all(), rows[["kind", "part", "name", "verdict"]]
    assert not rows["false"].any()
    for name in figures:
        assert STUDY.draw(name, rows).axes


def test_settings_that_make_no_sense_are_refused():
    for change in ({"kinds": ("magic",)}, {"dims": (2,)}, {"noises": (-0.1,)}, {"device": "cuda"}):
        with pytest.raises(ValueError, match=r"expected|unknown|received"):
            Config(**change)
