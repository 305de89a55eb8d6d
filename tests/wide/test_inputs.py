"""Laws of inputs: their moments, their symmetries, their nodes."""

from __future__ import annotations

import pickle

import pytest
import torch

from symfield.groups import Cyclic, Defining
from symfield.random import generator as seeded
from symfield.wide import Gaussian, Inputs, UnitSphere

FULL = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
LAWS = [
    Gaussian(3),
    Gaussian(3, 0.25),
    Gaussian(3, torch.tensor([4.0, 1.0, 0.25])),
    Gaussian(3, FULL),
    Gaussian(1, 2.0),
    UnitSphere(1),
    UnitSphere(2),
    UnitSphere(3),
    Gaussian(6, torch.linspace(0.5, 2.0, 6)),
    UnitSphere(6),
]
named = pytest.mark.parametrize("law", LAWS, ids=repr)
LIKE = torch.zeros((), dtype=torch.float64)


@named
def test_whitening_is_a_root_of_the_covariance(law: Inputs):
    root = law.whiten(torch.eye(law.dim, dtype=torch.float64))
    torch.testing.assert_close(root @ root.mT, law.covariance(LIKE), rtol=0, atol=1e-14)
    torch.testing.assert_close(root, root.mT, rtol=0, atol=1e-14)


@named
def test_samples_have_the_stated_mean_and_covariance(law: Inputs):
    x = law.sample((400, 500), generator=seeded(1), like=LIKE).flatten(0, 1)
    assert x.dtype == torch.float64
    assert x.shape == (200_000, law.dim)
    scale = float(law.covariance(LIKE).abs().max())
    assert float(x.mean(0).abs().max()) < 5 * (scale / 2e5) ** 0.5
    assert float((x.mT @ x / len(x) - law.covariance(LIKE)).abs().max()) < 6 * scale * (2 / 2e5) ** 0.5


@named
def test_nodes_have_the_stated_covariance(law: Inputs):
    nodes = law.nodes(4096, generator=seeded(0))
    second = torch.einsum("b,bi,bj->ij", nodes.weight, nodes.x, nodes.x)
    exact = law.dim <= 3
    torch.testing.assert_close(second, law.covariance(LIKE), rtol=0, atol=1e-12 if exact else 5e-3)
    assert len(nodes) <= 1.1 * 4096


def test_points_of_the_sphere_have_length_one():
    for dim in (1, 2, 3, 7):
        x = UnitSphere(dim).sample((50,), generator=seeded(0), like=LIKE)
        nodes = UnitSphere(dim).nodes(100, generator=seeded(0))
        for points in (x, nodes.x):
            torch.testing.assert_close(points.norm(dim=-1), torch.ones(len(points)).double(), rtol=0, atol=1e-14)


def test_isotropy_is_recognised_however_it_was_given():
    assert Gaussian(2, torch.tensor([3.0, 3.0])).variance == 3.0
    assert Gaussian(2, 3.0 * torch.eye(2)).variance == 3.0
    assert Gaussian(2, torch.tensor([3.0, 1.0])).variance is None
    assert UnitSphere(5).variance == 0.2


def test_a_gaussian_is_invariant_under_what_commutes_with_its_covariance():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    flip = torch.diag(torch.tensor([1.0, -1.0]))
    assert all(law.is_invariant(turn) for law in (Gaussian(2), UnitSphere(2)))
    uneven = Gaussian(2, torch.tensor([2.0, 1.0]))
    assert uneven.is_invariant(flip)
    assert not uneven.is_invariant(turn)
    assert not UnitSphere(2).is_invariant(2 * turn)
    cyclic = Defining(Cyclic(3))
    exchangeable = Gaussian(3, torch.eye(3).double() + 0.5)
    assert all(exchangeable.is_invariant(cyclic.matrix(g)) for g in cyclic.group.elements)
    assert not any(Gaussian(3, FULL).is_invariant(cyclic.matrix(g)) for g in cyclic.group.elements[1:])


def test_laws_are_values_that_travel():
    for law in LAWS:
        copy = pickle.loads(pickle.dumps(law))
        assert repr(copy) == repr(law)
        assert torch.equal(copy.covariance(LIKE), law.covariance(LIKE))


def test_what_is_no_law_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="dim >= 1"):
        Gaussian(0)
    with pytest.raises(ValueError, match="dim >= 1"):
        UnitSphere(0)
    with pytest.raises(ValueError, match="positive finite variance, received -1"):
        Gaussian(2, -1.0)
    with pytest.raises(ValueError, match="2 variances, received 3"):
        Gaussian(2, torch.ones(3))
    with pytest.raises(ValueError, match="least eigenvalue -1"):
        Gaussian(2, torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="positive semi-definite"):
        Gaussian(2, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="received zero"):
        Gaussian(2, torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), received "):
        Gaussian(2).is_invariant(torch.eye(3))
    with pytest.raises(ValueError, match="generator="):
        Gaussian(4).nodes(10)
    with pytest.raises(ValueError, match="generator="):
        UnitSphere(4).nodes(10)
    with pytest.raises(ValueError, match="size >= 1"):
        UnitSphere(2).nodes(0)
