"""One operator: exact and sampled averaging, and augmentation with the same group sample."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from symfield.groups import Cyclic, Defining, Dihedral, Orthogonal, Sign, SpecialOrthogonal, Symmetric, Trivial
from symfield.symmetrize import Frame, Poses, Symmetrized, augment, haar, symmetrize, uniform
from symfield.symmetrize.frames import poses, require_frame
from symfield.testing import assert_equivariant, equivariance_error


def network(d: int, o: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, o)).double().requires_grad_(False)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


CASES = [
    (Defining(Cyclic(4)), Defining(Cyclic(4))),
    (Defining(Symmetric(3)), Trivial(Symmetric(3), 2)),
    (Defining(Symmetric(3)), Sign(Symmetric(3))),
    (Defining(Dihedral(3)), Defining(Dihedral(3)) + Trivial(Dihedral(3))),
]


@pytest.mark.parametrize(("rep_in", "rep_out"), CASES, ids=str)
def test_averaging_over_the_group_is_equivariant_whatever_the_network(rep_in, rep_out, generator):
    net = network(rep_in.dim, rep_out.dim)
    averaged = Symmetrized(net, uniform(rep_in.group), rep_in=rep_in, rep_out=rep_out)
    assert equivariance_error(net, rep_in, rep_out, x=normal(8, rep_in.dim), generator=generator) > 1e-2
    assert_equivariant(averaged, rep_in, rep_out, x=normal(8, rep_in.dim), generator=generator)


@pytest.mark.parametrize(("rep_in", "rep_out"), CASES, ids=str)
def test_averaging_twice_is_averaging_once(rep_in, rep_out):
    once = Symmetrized(network(rep_in.dim, rep_out.dim), uniform(rep_in.group), rep_in=rep_in, rep_out=rep_out)
    twice = Symmetrized(once, uniform(rep_in.group), rep_in=rep_in, rep_out=rep_out)
    x = normal(2, 5, rep_in.dim)
    torch.testing.assert_close(twice(x), once(x), rtol=1e-12, atol=1e-12)


def test_haar_average_approaches_the_exact_one_at_the_monte_carlo_rate(generator):
    group = Symmetric(3)
    rep_in, rep_out, net, x = Defining(group), Trivial(group, 2), network(3, 2), normal(50, 3)

    def error(m: int) -> float:
        sampled = symmetrize(net, x, haar(group, m), rep_in=rep_in, rep_out=rep_out, generator=generator)
        exact = symmetrize(net, x, uniform(group), rep_in=rep_in, rep_out=rep_out)
        return float((sampled - exact).square().mean().sqrt())

    assert 5 < error(10) / error(1000) < 20  # sqrt(100) = 10


def test_an_invariant_of_rotations_is_found_by_sampling(generator):
    group = SpecialOrthogonal(3)
    rep = Defining(group)
    x = normal(4, 3)
    values = symmetrize(
        lambda x: x[:, :1].square(), x, haar(group, 20000), rep_in=rep, rep_out=Trivial(group), generator=generator
    )
    torch.testing.assert_close(values[:, 0], x.square().sum(-1) / 3, rtol=0.05, atol=0)


def test_augmented_pairs_are_moved_together(generator):
    group = Orthogonal(2)
    rep, x = Defining(group), normal(6, 2)
    moved_x, moved_y = augment(x, 2 * x, haar(group, 3), rep_in=rep, rep_out=rep, generator=generator)
    assert moved_x.shape == (3, 6, 2)
    torch.testing.assert_close(moved_y, 2 * moved_x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved_x.norm(dim=-1), x.norm(dim=-1).expand(3, 6), rtol=1e-12, atol=1e-12)
    assert len(torch.unique(moved_x[0] @ x.T)) > 1


def test_full_orbit_augmentation_lists_every_moved_copy():
    shift = Defining(Cyclic(3))
    x, _ = augment(torch.eye(3)[:1], torch.ones(1, 1), uniform(Cyclic(3)), rep_in=shift, rep_out=Trivial(Cyclic(3)))
    assert sorted(x[:, 0].argmax(-1).tolist()) == [0, 1, 2]


def test_frames_are_values():
    assert uniform(Cyclic(3)) == uniform(Cyclic(3))
    assert hash(haar(Cyclic(3), 2)) == hash(haar(Cyclic(3), 2))
    assert isinstance(uniform(Cyclic(3)), Frame)


class Lopsided:
    """Every element of a group with unequal weights, of shape (m,) or (m, 1, ...)."""

    def __init__(self, *, flat: bool) -> None:
        self.group, self.flat = Cyclic(3), flat

    def __call__(self, x, *, generator=None) -> Poses:
        even = uniform(self.group)(x)
        w = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
        return even._replace(w=w if self.flat else w.reshape(even.w.shape))


def test_weights_of_shape_m_are_the_same_for_every_input():
    shift, x = Defining(Cyclic(3)), normal(3, 3)  # as many inputs as elements: the axes could be confused
    flat, full = (symmetrize(lambda x: x.cumsum(-1), x, Lopsided(flat=f), rep_in=shift, rep_out=shift) for f in (1, 0))
    torch.testing.assert_close(flat, full, rtol=0, atol=0)


def test_poses_of_the_wrong_shape_are_refused():
    class Short(Lopsided):
        def __call__(self, x, *, generator=None) -> Poses:
            return super().__call__(x[0], generator=generator)

    with pytest.raises(ValueError, match="expected poses"):
        poses(Short(flat=True), normal(2, 5, 3))


def test_bad_input_is_refused_in_the_users_words():
    shift = Defining(Cyclic(3))
    with pytest.raises(TypeError, match=r"uniform\(group\)"):
        require_frame(Cyclic(3))
    with pytest.raises(ValueError, match="floating-point"):
        poses(uniform(Cyclic(3)), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="same batch axes"):
        augment(torch.zeros(5, 3), torch.zeros(3, 5, 3), uniform(Cyclic(3)), rep_in=shift, rep_out=shift)
    with pytest.raises(ValueError, match="haar"):
        uniform(Orthogonal(2))
    with pytest.raises(ValueError, match="generator="):
        haar(Cyclic(3))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least one draw"):
        haar(Cyclic(3), 0)
    with pytest.raises(ValueError, match="frame's group"):
        Symmetrized(nn.Identity(), uniform(Cyclic(2)), rep_in=shift, rep_out=shift)
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        symmetrize(nn.Identity(), torch.zeros(2, 4), uniform(Cyclic(3)), rep_in=shift, rep_out=shift)
    with pytest.raises(ValueError, match="expected f to return"):
        symmetrize(lambda x: x[:1], torch.zeros(2, 3), uniform(Cyclic(3)), rep_in=shift, rep_out=shift)
