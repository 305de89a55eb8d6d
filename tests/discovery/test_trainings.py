"""Matched trainings: what each scheme guarantees, and that the shared program is each scheme's own."""

from __future__ import annotations

import pytest
import torch

from symfield import random
from symfield.discovery import Budget, compare, dataset, fit, schemes
from symfield.discovery.networks import CrossEntropy, Network, Pool, hidden_representation
from symfield.groups import (
    Alternating,
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
from symfield.meanfield import AutogradLoss
from symfield.testing import assert_equivariant

LIKE = torch.zeros((), dtype=torch.float64)
SHIFTS = Defining(Cyclic(4))
SMALL = Budget(width=24, steps=60, seeds=2, shares=(1.0,))


def gaussian(n, d, seed=0):
    return random.normal((n, d), generator=random.generator(seed), like=LIKE)


@pytest.mark.parametrize(
    "rep", [SHIFTS, Planar(Dihedral(3)), Defining(Symmetric(7)), Defining(SignFlips(6)), 2 * Defining(Symmetric(6))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("out", ["trivial", "same"])
@pytest.mark.parametrize("kind", ["FA", "frame", "EA"])
def test_predictions_are_equivariant(rep, out, kind):
    rep_out = rep if out == "same" else Trivial(rep.group, 2)
    found = {scheme.kind: scheme for scheme in schemes(rep, rep_out, width=30)}
    scheme = found[kind]
    if kind == "FA" and rep.group.order > 64:
        assert isinstance(scheme.predicts, Pool)  # a sampled average is equivariant in expectation only
        return
    network = Network(rep.dim, rep_out.dim, 30, classes=False)
    z = scheme.restrict(network.start(1, generator=random.generator(0)).double(), rescale=True)
    assert float(z.abs().max()) > 0

    def predict(x):
        return network.predict(scheme, x[None], z, generator=random.generator(1))[0]

    assert_equivariant(predict, rep, rep_out, x=gaussian(5, rep.dim), generator=random.generator(2))


def test_gradients_of_the_shared_program_are_those_of_each_objective():
    compared = schemes(SHIFTS, outputs=1, width=12)
    network = Network(4, 1, 12, classes=False)
    z = torch.stack([s.restrict(network.start(3, generator=random.generator(0)).double()) for s in compared])
    x, y = gaussian(15, 4).reshape(3, 5, 4), gaussian(15, 1, 1).reshape(3, 5, 1)
    together = network.gradients(compared, z, x, y, generator=random.generator(2))
    alone = random.generator(2)
    for k, scheme in enumerate(compared):
        expected = network.objective(scheme).gradient(z[k], x, y, generator=alone)
        torch.testing.assert_close(together[k], expected, rtol=1e-10, atol=1e-12)


def test_held_neurons_stay_where_they_are_and_keep_their_size():
    scheme = schemes(SHIFTS, width=26)[-1]  # six units of four neurons, and two that are left over
    assert [h for h, _ in scheme.held] == [4, 1]
    z = random.normal((50, 26, 6), generator=random.generator(0), like=LIKE)
    once = scheme.restrict(z)
    torch.testing.assert_close(scheme.restrict(once), once, rtol=0, atol=1e-12)
    assert float(scheme.restrict(z, rescale=True)[:, :24].square().mean()) == pytest.approx(1, abs=0.1)


def test_the_cross_entropy_has_the_gradient_of_autograd():
    logits, target = gaussian(6, 3), gaussian(6, 3, 1).softmax(-1)
    expected = AutogradLoss(CrossEntropy()).gradient(logits, target)
    torch.testing.assert_close(CrossEntropy().gradient(logits, target), expected, rtol=0, atol=1e-12)


def test_hidden_neurons_are_permuted_as_the_group_allows():
    assert hidden_representation(SHIFTS, 96) == Regular(Cyclic(4))
    assert hidden_representation(2 * Defining(Symmetric(7)), 96) == Defining(Symmetric(7))
    assert hidden_representation(Defining(SignFlips(6)), 96).dim == 12
    assert hidden_representation(Planar(Dihedral(24)), 96) == Regular(Dihedral(24))
    for rep in (Defining(SpecialOrthogonal(3)), Regular(Alternating(6))):
        with pytest.raises(NotImplementedError, match="too few"):
            hidden_representation(rep, 96)


def test_what_is_not_known_for_a_group_is_told():
    told = []
    found = schemes(Defining(SpecialOrthogonal(3)), missing=lambda kind, why: told.append(kind))
    assert [scheme.kind for scheme in found] == ["none", "DA", "FA"]
    assert told == ["frame", "EA"]


def test_schemes_share_data_and_starts():
    x = gaussian(120, 4)
    plain = schemes(SHIFTS)[0]
    found = compare(dataset(x, x.prod(-1)), (plain, plain), budget=SMALL, generator=random.generator(1))
    assert torch.equal(found.error[0], found.error[1])
    assert found.error.shape == (2, 1, 2)
    assert found.accuracy.isnan().all()


def test_strong_invariance_can_cost_all_that_is_to_be_learned():
    """Maass & Fontbona 2024, Proposition 4: C_4 turning the plane; strongly invariant laws of plain units are constant.

    Their hypotheses: a finite group, units with a trivial hidden representation. With the regular one the gap closes.
    """
    x = gaussian(300, 2)
    data = dataset(x, x.square().sum(-1))
    plane = Planar(Cyclic(4))
    budget = Budget(width=64, steps=200, seeds=2, shares=(1.0,))
    plain = {s.kind: s for s in schemes(plane, width=64, hidden=Trivial(Cyclic(4)))}
    rich = schemes(plane, width=64)[-1]
    found = compare(data, (plain["FA"], plain["EA"], rich), budget=budget, generator=random.generator(1))
    averaged, constants, regular = found.error[:, 0].mean(-1).tolist()
    assert averaged < 0.2
    assert regular < 0.2
    assert constants > 0.8


def test_classes_are_predicted_with_probabilities():
    x = gaussian(300, 4)
    data = dataset(x, ["up" if value > 0 else "down" for value in x.sum(-1).tolist()])
    trained = fit(
        data, schemes(SHIFTS, outputs=2)[2], budget=Budget(width=32, steps=150), generator=random.generator(1)
    )
    predicted = trained.predict(x)
    torch.testing.assert_close(predicted.sum(-1), torch.ones(300).double(), rtol=0, atol=1e-6)
    assert float((predicted.argmax(-1) == data.labels).double().mean()) > 0.9
    torch.testing.assert_close(trained.predict(x.roll(1, -1)), predicted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"width": 0}, {"seeds": 1}, {"rate": 0.0}, {"shares": ()}, {"held_out": 1.0}])
def test_a_budget_is_checked(change):
    with pytest.raises(ValueError, match="expected"):
        Budget(**change)
