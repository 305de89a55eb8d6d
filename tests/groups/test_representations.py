"""Every representation is one, acts as its matrices do, and is a value; each construction has its formula."""

from __future__ import annotations

import pickle

import pytest
import torch

from symfield import groups
from symfield.groups import Representation

DOUBLE = torch.float64
ATOL = 1e-10


def vectors(rep: Representation, *shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, rep.dim, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def random_algebra(rep: Representation, n: int, seed: int = 6) -> torch.Tensor:
    basis = rep.group.lie_algebra
    weights = torch.randn(n, len(basis), generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return torch.einsum("bj,jpq->bpq", weights, basis)


def times(matrices: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("...ij,...j->...i", matrices, x)


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=ATOL, atol=ATOL)


def test_matrices_multiply_as_elements_do(rep: Representation, generator: torch.Generator) -> None:
    group = rep.group
    g, h = group.sample(6, generator=generator), group.sample(6, generator=generator)
    matrices = rep.matrix(g)
    assert matrices.shape == (6, rep.dim, rep.dim)
    assert matrices.dtype == DOUBLE
    assert_same(rep.matrix(group.compose(g, h)), matrices @ rep.matrix(h))
    assert_same(rep.matrix(group.identity), torch.eye(rep.dim, dtype=DOUBLE))
    assert_same(rep.matrix(group.inverse(g)), torch.linalg.inv(matrices))


def test_generators_and_elements_go_through_every_method(rep: Representation) -> None:
    group = rep.group
    k = len(group.generators)
    assert rep.matrix(group.generators).shape == (k, rep.dim, rep.dim)
    assert rep.character(group.generators).shape == (k,)
    assert rep.act(group.generators, vectors(rep)).shape == (k, rep.dim)
    assert rep.lie(group.lie_algebra).shape == (len(group.lie_algebra), rep.dim, rep.dim)
    assert rep.act_lie(group.lie_algebra, vectors(rep)).shape == (len(group.lie_algebra), rep.dim)


def test_acting_is_multiplying_by_the_matrix(rep: Representation, generator: torch.Generator) -> None:
    g = rep.group.sample(4, generator=generator)
    matrices = rep.matrix(g)
    one, four, cloud = vectors(rep), vectors(rep, 4), vectors(rep, 2, 3, 4)
    assert_same(rep.act(g[0], one), matrices[0] @ one)
    assert_same(rep.act(g[0], cloud), times(matrices[0], cloud))
    assert_same(rep.act(g, one), times(matrices, one))
    assert_same(rep.act(g, four), times(matrices, four))
    assert_same(rep.act(g, cloud), times(matrices, cloud))
    spread = rep.group.unsqueeze(g)
    assert_same(rep.act(spread, four), times(matrices[:, None], four))
    for _ in range(2):
        spread = rep.group.unsqueeze(spread)
    assert_same(rep.act(spread, cloud), times(matrices[:, None, None, None], cloud))
    assert rep.act(g[:1], cloud[:0]).shape == cloud[:0].shape


def test_the_action_follows_the_dtype_of_the_vector(rep: Representation, generator: torch.Generator) -> None:
    g, x = rep.group.sample(3, generator=generator), vectors(rep, 3)
    moved = rep.act(g, x.float())
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved.double(), rep.act(g, x), rtol=1e-5, atol=1e-4)
    assert rep.act_lie(random_algebra(rep, 3), x.float()).dtype == torch.float32


def test_the_action_is_differentiable_in_the_vector(rep: Representation, generator: torch.Generator) -> None:
    g, x, y = rep.group.sample(2, generator=generator), vectors(rep, 2).requires_grad_(), vectors(rep, 2, seed=8)
    (gradient,) = torch.autograd.grad((rep.act(g, x) * y).sum(), x)
    assert_same(gradient, times(rep.matrix(g).mT, y))


def test_signed_permutations_are_the_matrices(rep: Representation, generator: torch.Generator) -> None:
    g = rep.group.sample(6, generator=generator).reshape(2, 3, *rep.group.element_shape)
    signed = rep.signed_permutation(g)
    assert (signed is not None) == rep.permutation_like
    if signed is None:
        return
    index, sign = signed
    assert index.shape == (2, 3, rep.dim)
    assert index.dtype == torch.int64
    x = vectors(rep, 3)
    moved = torch.take_along_dim(x.expand(2, 3, rep.dim), index, dim=-1)
    if sign is not None:
        assert sign.dtype == torch.int64
        assert bool((sign.abs() == 1).all())
        moved = moved * sign
    assert_same(moved, times(rep.matrix(g), x))


def test_permutation_like_representations_act_without_matrices(
    rep: Representation, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rep.permutation_like:
        return

    def refuse(*_: object) -> None:
        raise AssertionError("a dense matrix was built")

    for module in (groups.representation, groups.group):
        monkeypatch.setattr(module, "signed_permutation_matrix", refuse)
    g = rep.group.sample(2, generator=generator)
    rep.act(g, vectors(rep, 2))
    rep.act_lie(random_algebra(rep, 2), vectors(rep, 2))
    rep.character(g)


def test_the_lie_algebra_acts_as_the_derivative_of_exponentials(rep: Representation) -> None:
    a, t = random_algebra(rep, 3), 0.3
    derivative = rep.lie(a)
    assert derivative.shape == (3, rep.dim, rep.dim)
    assert_same(rep.matrix(rep.group.exp(t * a)), torch.linalg.matrix_exp(t * derivative))
    h = 1e-4
    slope = (rep.matrix(rep.group.exp(h * a)) - rep.matrix(rep.group.exp(-h * a))) / (2 * h)
    torch.testing.assert_close(slope, derivative, rtol=1e-4, atol=1e-5)


def test_the_lie_algebra_acts_linearly_and_respects_brackets(rep: Representation) -> None:
    a, b = random_algebra(rep, 3), random_algebra(rep, 3, seed=7)
    first, second = rep.lie(a), rep.lie(b)
    assert_same(rep.lie(2 * a - b), 2 * first - second)
    assert_same(rep.lie(a @ b - b @ a), first @ second - second @ first)
    one, cloud = vectors(rep), vectors(rep, 2, 3)
    assert_same(rep.act_lie(a[0], cloud), times(first[0], cloud))
    assert_same(rep.act_lie(a, one), times(first, one))
    assert_same(rep.act_lie(a, cloud), times(first, cloud))
    assert_same(rep.act_lie(a[:, None], cloud[0]), times(first[:, None], cloud[0]))


def test_characters_are_traces_and_class_functions(rep: Representation, generator: torch.Generator) -> None:
    group = rep.group
    g, h = group.sample(5, generator=generator), group.sample(5, generator=generator)
    character = rep.character(g)
    assert character.dtype == DOUBLE
    assert_same(character, rep.matrix(g).diagonal(dim1=-2, dim2=-1).sum(-1))
    assert_same(rep.character(group.compose(group.compose(h, g), group.inverse(h))), character)
    assert float(rep.character(group.identity)) == pytest.approx(rep.dim, abs=ATOL)


def test_the_dual_pairing_is_invariant(rep: Representation, generator: torch.Generator) -> None:
    g, x, y = rep.group.sample(5, generator=generator), vectors(rep, 5), vectors(rep, 5, seed=9)
    dual = rep.dual
    assert dual.dim == rep.dim
    assert dual.dual == rep
    assert_same((dual.act(g, y) * rep.act(g, x)).sum(-1), (y * x).sum(-1))
    assert_same(dual.matrix(g), torch.linalg.inv(rep.matrix(g)).mT)
    a = random_algebra(rep, 5)
    assert_same((dual.act_lie(a, y) * x).sum(-1), -(y * rep.act_lie(a, x)).sum(-1))
    assert_same(dual.lie(a), -rep.lie(a).mT)


def test_orthogonal_says_whether_the_matrices_are(rep: Representation, generator: torch.Generator) -> None:
    matrices = rep.matrix(torch.cat([rep.group.sample(8, generator=generator), rep.group.generators]))
    error = float((matrices.mT @ matrices - torch.eye(rep.dim, dtype=DOUBLE)).abs().max())
    assert rep.orthogonal == (error < 1e-8)


def test_representations_are_values(rep: Representation, generator: torch.Generator) -> None:
    twin = pickle.loads(pickle.dumps(rep))
    assert twin == rep
    assert hash(twin) == hash(rep)
    assert str(twin) == str(rep)
    assert eval(repr(rep), {"torch": torch, **vars(groups)}) == rep
    g = rep.group.sample(2, generator=generator)
    assert torch.equal(twin.act(g, vectors(rep)), rep.act(g, vectors(rep)))
    assert rep != 2 * rep
    assert rep + rep != rep * rep
    with pytest.raises(AttributeError, match="frozen"):
        rep.dim = 3


def test_sums_products_copies_and_duals_have_the_characters_of_theory(
    rep: Representation, generator: torch.Generator
) -> None:
    g = rep.group.sample(5, generator=generator)
    chi = rep.character(g)
    assert_same((rep + rep).character(g), 2 * chi)
    assert_same((3 * rep).character(g), 3 * chi)
    assert_same((rep * rep).character(g), chi.square())
    assert_same((rep**3).character(g), chi**3)
    assert_same(rep.dual.character(g), rep.character(rep.group.inverse(g)))
