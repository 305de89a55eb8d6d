"""Does the data contradict a symmetry: levels, sizes, and inputs that are not invariant."""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.discovery import dataset, examine, uncontradicted
from symfield.discovery.elements import described, tried
from symfield.discovery.scaling import blocks, scaling
from symfield.groups import (
    Cyclic,
    Defining,
    DirectProduct,
    Factor,
    Orthogonal,
    Planar,
    SignFlips,
    SpecialOrthogonal,
    Symmetric,
    Trivial,
)

LIKE = torch.zeros((), dtype=torch.float64)
SHIFTS = Defining(Cyclic(4))


def gaussian(n, d, seed):
    return random.normal((n, d), generator=random.generator(seed), like=LIKE)


def asked(x, y, rep, rep_out=None, seed=1):
    data = dataset(x, y)
    return examine(
        data, rep, Trivial(rep.group, data.y.shape[1]) if rep_out is None else rep_out, generator=random.generator(seed)
    )


def test_a_true_symmetry_is_not_contradicted_and_a_false_one_is():
    for seed in range(5):
        x, noise = gaussian(200, 4, seed), 0.5 * gaussian(200, 1, 100 + seed)[:, 0]
        true = asked(x, (x * x.roll(1, -1)).sum(-1) + noise, SHIFTS, seed=seed)
        false = asked(x, x[:, 0] + noise, SHIFTS, seed=seed)
        assert not any(element.contradicted for element in true.elements)
        assert all(element.contradicted for element in false.elements)
        assert true.error.low < 0.02
        assert false.gain.high < 0  # Lemma 2: averaging hurts
    assert true.complete


def test_the_equivariance_error_is_the_distance_to_the_average():
    x = gaussian(700, 4, 0)
    for y, expected in (
        (x[:, 0], 3 / 4),  # Q_G f = mean of the coordinates
        (x[:, 0] + x[:, 2], 1 / 2),
        (x.sum(-1) + 0.5 * x[:, 1], 1 - (4.5**2 / 4) / (3 + 2.25)),
    ):
        found = asked(x, y, SHIFTS)
        assert found.error.value == pytest.approx(expected, abs=4 * found.error.error + 0.02)
        assert found.explained.value > 0.95


def test_equivariant_targets_are_moved_along():
    x = gaussian(300, 4, 0)
    found = asked(x, x.tanh(), SHIFTS, SHIFTS)
    assert not any(element.contradicted for element in found.elements)
    assert all(element.contradicted for element in asked(x, x.tanh(), SHIFTS).elements)


def test_inputs_that_are_not_invariant_do_not_make_a_symmetry_false():
    x = gaussian(600, 4, 0) + torch.tensor([1.5, 0.0, 0.0, -1.5])
    found = asked(x, (x * x.roll(1, -1)).sum(-1) + 0.3 * gaussian(600, 1, 1)[:, 0], SHIFTS)
    assert found.inside < 0.6
    assert all(element.violation.low < 0.02 for element in found.elements)


def test_moved_inputs_that_leave_the_data_are_left_out():
    x = gaussian(300, 2, 0).abs() + torch.tensor([8.0, 0.0])
    found = asked(x, x.prod(-1), Planar(Cyclic(4)))
    assert found.inside == 0
    assert not any(element.contradicted for element in found.elements)


def test_orbits_in_the_data_are_compared_without_a_predictor():
    x = random.integers(0, 2, (400, 4), generator=random.generator(0)).double()
    parity = 1 - 2 * (x.sum(-1) % 2)
    found = asked(x, parity, SHIFTS)
    assert all(element.pairs > 300 for element in found.elements)
    assert not any(element.contradicted for element in found.elements)
    wrong = asked(x, x[:, 0], SHIFTS)
    assert all(element.pair_violation.low > 0 for element in wrong.elements)


def test_every_element_of_a_small_group_is_tried_and_the_simplest_of_a_large_one():
    generator = random.generator(0)
    assert len(tried(Symmetric(4), generator=generator)) == 23
    assert len(tried(Symmetric(6), generator=generator)) == 15 + 2 + 16
    assert len(tried(SignFlips(8), generator=generator)) == 8 + 8 + 16
    product = DirectProduct(SpecialOrthogonal(3), Cyclic(2))
    assert tried(product, generator=generator).shape == (6 + 1 + 1 + 16, 10)


def test_elements_have_names():
    names = ("a", "b", "c", "d")
    assert described(SHIFTS.matrix(torch.tensor(1)), names) == "(a b c d)"
    assert described(torch.eye(4), names) == "identity"
    quarter = Planar(Cyclic(8)).matrix(torch.tensor(1))
    assert described(torch.block_diag(quarter, torch.eye(2).double()), names) == "rotation of a, b by 45°"


def test_units_commute_with_the_group():
    rep = Defining(Cyclic(3)) + Trivial(Cyclic(3), 2)
    x = gaussian(50, 5, 0) * torch.tensor([1.0, 2.0, 3.0, 10.0, 100.0]) + 4
    units = scaling(x, rep)
    g = torch.tensor(1)
    torch.testing.assert_close(units(rep.act(g, x)), rep.act(g, units(x)), rtol=0, atol=1e-12)
    torch.testing.assert_close(units.undo(units(x)), x)
    assert blocks(Planar(Cyclic(4)) + Trivial(Cyclic(4))).tolist() == [0, 0, 1]
    assert units(x)[:, 3:].std(0, unbiased=False).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("rep", "f", "name"),
    [
        (SHIFTS, lambda x: x[:, 0] * x[:, 2] - x[:, 1] * x[:, 3], "C_2: (x0 x2), (x1 x3)"),
        (SHIFTS, lambda x: x[:, 0], None),
        (Defining(Symmetric(5)), lambda x: x[:, :3].square().sum(-1) - 2 * x[:, 3] + x[:, 4], "S_3: on {0, 1, 2}"),
        (Defining(Symmetric(4)), lambda x: (x[:, 0] - x[:, 1]) * (x[:, 2] - x[:, 3]), "a group of 4"),
        (Defining(SignFlips(7)), lambda x: x[:, :5].square().sum(-1) + 3 * x[:, 5:].sum(-1), "{±1}^5"),
        (Defining(SpecialOrthogonal(3)), lambda x: x[:, :2].square().sum(-1) + 3 * x[:, 2], "SO(2): on {0, 1}"),
        (Defining(Orthogonal(3)), lambda x: x[:, 1:].square().sum(-1) + 3 * x[:, 0], "SO(2): on {1, 2}"),
    ],
)  # fmt: skip
def test_the_largest_subgroup_without_a_contradiction_is_found(rep, f, name):
    x = gaussian(400, rep.dim, 3)
    y = f(x) + 0.1 * gaussian(400, 1, 4)[:, 0]
    found = uncontradicted(asked(x, y, rep), rep, Trivial(rep.group))
    if name is None:
        assert found is None
        return
    assert found.name.startswith(name)
    group = found.rep_in.group
    g = group.sample(20, generator=random.generator(0))
    moved = found.rep_in.act(group.unsqueeze(g), x[:20])
    torch.testing.assert_close(f(moved.flatten(0, 1)).unflatten(0, (20, 20)), f(x[:20]).expand(20, -1))


def test_factors_of_a_product_stay_or_go():
    group = DirectProduct(Symmetric(3), SpecialOrthogonal(2))
    rep = Factor(group, 0, Defining(Symmetric(3))) + Factor(group, 1, Defining(SpecialOrthogonal(2)))
    x = gaussian(500, 5, 0)
    found = uncontradicted(asked(x, x[:, 0] + 2 * x[:, 1] + x[:, 3:].square().sum(-1), rep), rep, Trivial(group))
    assert found.name == "SO(2)"
    assert found.rep_in.dim == 5


def test_too_few_samples_and_constants_are_refused():
    x = gaussian(60, 4, 0)
    with pytest.raises(ValueError, match="at least 40 samples"):
        asked(x[:39], x[:39, 0], SHIFTS)
    with pytest.raises(ValueError, match="targets that vary"):
        asked(x, x[:, 0] * 0 + 3, SHIFTS)
