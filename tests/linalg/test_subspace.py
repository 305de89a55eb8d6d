"""Claims about Subspace: projector identities in both forms, bitwise orbit means, conformance of the two forms."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfield.linalg import AmbiguousRankError, Subspace


def _orthonormal(n: int, r: int, seed: int = 0) -> torch.Tensor:
    draw = torch.randn(n, r, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(draw)[0]


CASES = {
    "dense": Subspace.from_basis(_orthonormal(7, 3)),
    "orbits": Subspace.from_orbits(torch.tensor([0, 1, 0, 0, 2, 2, 1])),
    "signed orbits": Subspace.from_orbits(
        torch.tensor([0, 0, -1, 1, 1, 1, -1]), torch.tensor([1, -1, 1, -1, 1, 1, -1])
    ),
    "direct sum": Subspace.direct_sum(
        [
            (torch.tensor([[0, 4], [6, 2]]), Subspace.from_orbits(torch.tensor([0, 0]), torch.tensor([1, -1]))),
            (torch.tensor([[5, 1, 3]]), Subspace.from_basis(_orthonormal(3, 2, seed=4))),
        ]
    ),
    "zero": Subspace.zero(5),
    "full": Subspace.full(4),
    "dense zero": Subspace.from_basis(torch.zeros(4, 0, dtype=torch.float64)),
    "span": Subspace.span(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]])),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def space(request) -> Subspace:
    return request.param


def test_basis_is_orthonormal_and_float64(space):
    gram = space.basis.mT @ space.basis
    assert space.basis.dtype == torch.float64
    assert space.basis.shape == (space.ambient_dim, space.dim)
    torch.testing.assert_close(gram, torch.eye(space.dim, dtype=torch.float64), atol=1e-12, rtol=0)


def test_projection_equals_its_matrix_which_is_a_symmetric_idempotent_of_trace_dim(space, generator):
    x = torch.randn(2, 3, space.ambient_dim, generator=generator, dtype=torch.float64)
    p = space.projector()
    torch.testing.assert_close(p @ p, p, atol=1e-12, rtol=0)
    torch.testing.assert_close(p, p.mT, atol=0, rtol=0)
    assert float(p.trace()) == pytest.approx(space.dim, abs=1e-12)
    torch.testing.assert_close(space.project(x), x @ p, atol=1e-12, rtol=0)


def test_coordinates_embed_project_and_distance_agree_with_the_basis(space, generator):
    x = torch.randn(3, space.ambient_dim, generator=generator, dtype=torch.float64)
    c = torch.randn(3, space.dim, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(space.coordinates(x), x @ space.basis, atol=1e-12, rtol=0)
    torch.testing.assert_close(space.embed(c), c @ space.basis.mT, atol=1e-12, rtol=0)
    torch.testing.assert_close(space.embed(space.coordinates(x)), space.project(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(space.distance(x), (x - space.project(x)).norm(dim=-1), atol=1e-12, rtol=0)
    pythagoras = space.distance(x).square() + space.project(x).square().sum(-1)
    torch.testing.assert_close(pythagoras, x.square().sum(-1), atol=1e-11, rtol=0)


def test_complement_completes_the_space(space, generator):
    rest = space.complement()
    x = torch.randn(4, space.ambient_dim, generator=generator, dtype=torch.float64)
    assert rest.dim == space.ambient_dim - space.dim
    torch.testing.assert_close(space.project(x) + rest.project(x), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_follows_the_input(space, dtype):
    x = torch.ones(2, space.ambient_dim, dtype=dtype)
    assert space.project(x).dtype == dtype
    assert space.distance(x).dtype == dtype
    assert space.coordinates(x).dtype == dtype
    assert space.embed(space.coordinates(x)).dtype == dtype


def test_works_under_vmap_grad_pickle_and_deepcopy(space, generator):
    x = torch.randn(3, space.ambient_dim, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(space.project)(x), space.project(x), atol=1e-12, rtol=0)
    jacobian = torch.func.jacrev(space.project)(x[0])
    torch.testing.assert_close(jacobian, space.projector(), atol=1e-12, rtol=0)
    for twin in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert torch.equal(twin.project(x), space.project(x))
        assert repr(twin) == repr(space)


def test_is_frozen(space):
    with pytest.raises(dataclasses.FrozenInstanceError):
        space.residual = 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12), st.integers(0, 2**20))
def test_orbit_projection_is_bitwise_idempotent_and_constant_on_orbits(raw, seed):
    names = {label: k for k, label in enumerate(sorted({label for label in raw if label >= 0}))}
    labels = torch.tensor([names.get(label, -1) for label in raw])
    source = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, labels.shape, generator=source) * 2 - 1
    space = Subspace.from_orbits(labels, signs)
    x = torch.randn(2, len(raw), generator=source, dtype=torch.float64) * 10.0 ** float(seed % 7)
    y = space.project(x)
    assert torch.equal(space.project(y), y)
    dense = Subspace.from_basis(space.basis)
    torch.testing.assert_close(y, dense.project(x), atol=1e-14 * float(x.abs().max()), rtol=0)
    for label in range(space.dim):
        values = (y * signs)[:, labels == label]
        assert torch.equal(values, values[:, :1].expand_as(values))
    assert bool((y[:, labels < 0] == 0).all())


def test_float32_orbit_means_are_rounded_float64_means():
    x = torch.tensor([1.0, 2.0**-30, 2.0**-30, 2.0**-30], dtype=torch.float32)
    expected = (1.0 + 3 * 2.0**-30) / 4
    assert float(Subspace.from_orbits(torch.zeros(4, dtype=torch.int64)).project(x)[0]) == pytest.approx(
        expected, rel=6e-8
    )


def test_nan_in_an_orbit_is_not_hidden():
    space = Subspace.from_orbits(torch.tensor([0, 0, 1]))
    assert space.project(torch.tensor([float("nan"), 1.0, 2.0])).isnan().tolist() == [True, True, False]


def test_contains_and_includes_tell_members_from_strangers():
    coarse = Subspace.from_orbits(torch.tensor([0, 0, 0, 1]))
    fine = Subspace.from_orbits(torch.tensor([0, 0, 1, 2]))
    assert fine.includes(coarse)
    assert not coarse.includes(fine)
    x = torch.tensor([[1.0, 1.0, 1.0, 5.0], [1.0, 1.0, 2.0, 5.0]])
    assert coarse.contains(x).tolist() == [True, False]
    assert fine.contains(x).all()


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 0.3, 1.2, math.pi / 2 - 1e-9, math.pi / 2])
def test_angles_are_accurate_at_both_ends(angle):
    q = _orthonormal(6, 3, seed=1)
    tilted = torch.stack([q[:, 0], math.cos(angle) * q[:, 1] + math.sin(angle) * q[:, 2]], dim=1)
    found = Subspace.from_basis(q[:, :2]).angles(Subspace.from_basis(tilted))
    assert found[0] == pytest.approx(0.0, abs=1e-14)
    assert float(found[1]) == pytest.approx(angle, abs=1e-14)


def test_angles_to_the_zero_subspace_are_none():
    assert Subspace.full(3).angles(Subspace.zero(3)).shape == (0,)


def test_span_of_clearly_dependent_vectors_has_their_rank_and_holds_them():
    vectors = torch.randn(5, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    space = Subspace.span(torch.cat([vectors, vectors[:2] + vectors[2:4]]))
    assert space.dim == 5
    assert space.contains(vectors).all()


def test_span_of_nearly_dependent_vectors_is_refused():
    with pytest.raises(AmbiguousRankError, match=r"2\.\d*e-09|1\.\d*e-09"):
        Subspace.span(torch.tensor([[1.0, 0.0], [1.0, 2e-9]], dtype=torch.float64))


def test_direct_sum_is_the_sum_of_its_parts_and_stores_nothing_large():
    small = Subspace.span(torch.tensor([[1.0, 2.0]]))
    index = torch.arange(20_000).reshape(2, 10_000).mT
    space = Subspace.direct_sum([(index, small)])
    assert (space.dim, space.ambient_dim) == (10_000, 20_000)
    c = torch.randn(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = space.embed(c)
    torch.testing.assert_close(x[10_000:], 2 * x[:10_000], atol=1e-12, rtol=0)
    torch.testing.assert_close(space.coordinates(x), c, atol=1e-12, rtol=0)
    assert "basis" not in space.__dict__


def test_direct_sum_refuses_parts_that_overlap_or_do_not_fit():
    mean = Subspace.from_orbits(torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="exactly once"):
        Subspace.direct_sum([(torch.tensor([[0, 1], [1, 2]]), mean)])
    with pytest.raises(ValueError, match=r"R\^3"):
        Subspace.direct_sum([(torch.tensor([[0, 1, 2]]), mean)])
    with pytest.raises(ValueError, match="one part or more"):
        Subspace.direct_sum([])


def test_a_copy_made_in_inference_mode_serves_training(space):
    with torch.inference_mode():
        space.project(torch.ones(space.ambient_dim))
    c = torch.ones(space.dim, requires_grad=True)
    space.storage.embed(c).square().sum().backward()
    assert c.grad is not None


def test_wrong_input_is_refused_with_what_to_do():
    space = Subspace.full(3)
    with pytest.raises(ValueError, match="expected vectors with 3 entries"):
        space.project(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="expected vectors with 3 entries"):
        space.embed(torch.zeros(1))
    with pytest.raises(ValueError, match="orthonormal"):
        Subspace.from_basis(torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="NaN"):
        Subspace.from_basis(torch.full((3, 1), float("nan"), dtype=torch.float64))
    with pytest.raises(ValueError, match="NaN"):
        Subspace.span(torch.tensor([[float("inf"), 1.0]]))
    with pytest.raises(ValueError, match="no coordinate labelled 1"):
        Subspace.from_orbits(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="use -1 for zero"):
        Subspace.from_orbits(torch.tensor([0, -2]))
    with pytest.raises(ValueError, match=r"\+1 or -1"):
        Subspace.from_orbits(torch.tensor([0, 0]), torch.tensor([1.0, 0.5]))
    with pytest.raises(ValueError, match="R\\^3"):
        space.angles(Subspace.full(4))
    with pytest.raises(ValueError, match="x - project"):
        Subspace.full(30_000).projector()
    with pytest.raises(ValueError, match="x - project"):
        Subspace.full(30_000).complement()


def test_embedding_in_half_precision_survives_orbits_larger_than_its_range():
    space = Subspace.from_orbits(torch.zeros(100_000, dtype=torch.int64))
    x = space.storage.embed(torch.tensor([100.0], dtype=torch.float16))
    assert float(x[0]) == pytest.approx(100 / 100_000**0.5, rel=1e-2)
