"""Weight matching: planted elements are recovered, no update makes it worse, shortcuts change nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from symfield.weightspace import (
    Concat,
    GeneralLinear,
    Move,
    Orthogonal,
    ParameterSymmetry,
    Permutation,
    Piece,
    PositiveScale,
    Product,
    Sign,
    WeightMatching,
    align,
    from_axes,
    identity,
    orthogonal_procrustes,
    sorted_entries,
    symmetries,
)

WIDTHS = (6, 9, 7)


def chain(inputs: int = 5, outputs: int = 4, *, scale: bool = False, sign: bool = False) -> ParameterSymmetry:
    """An MLP with three hidden layers, a convolution kernel's two axes on the second weight."""
    sizes = [inputs, *WIDTHS, outputs]
    factors: list = []
    layouts: dict = {}

    def piece(k: int, power: int) -> Piece:
        if k in (0, len(sizes) - 1):
            return Piece(f"fixed{k}", sizes[k])
        moves = [Move(f"p{k}")]
        if scale:
            moves.append(Move(f"r{k}", power))
        if sign:
            moves.append(Move(f"s{k}"))
        return Piece(f"h{k}", sizes[k], tuple(moves))

    for k in range(1, len(sizes) - 1):
        factors.append(Permutation(f"p{k}", f"h{k}", sizes[k]))
        if scale:
            factors.append(PositiveScale(f"r{k}", f"h{k}", sizes[k]))
        if sign:
            factors.append(Sign(f"s{k}", f"h{k}", sizes[k]))
    for k in range(len(sizes) - 1):
        kernel = (Piece("kx", 3), Piece("ky", 3)) if k == 1 else ()
        layouts[f"w{k}"] = (piece(k + 1, 1), piece(k, -1), *kernel)
        layouts[f"b{k}"] = (piece(k + 1, 1),)
    shapes = {name: tuple(axis.size for axis in axes) for name, axes in layouts.items()}
    return ParameterSymmetry(tuple(factors), layouts, shapes)


def draw(symmetry: ParameterSymmetry, generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in symmetry.shapes.items()
    }


def heads(count: int = 4, width: int = 3, stream: int = 10, kind: type = GeneralLinear) -> ParameterSymmetry:
    """Attention with a fixed stream: heads as blocks, a gauge for QK and one for VO in each of them."""
    head = Piece("heads", count, (Move("p"),))

    def side(name: str, power: int) -> Product:
        return Product((head, Piece(name, width, (Move(name, power),))))

    fixed = Piece("stream", stream)
    layouts = {
        "q": (side("qk", 1), fixed),
        "k": (side("qk", -1), fixed),
        "bq": (side("qk", 1),),
        "v": (side("vo", 1), fixed),
        "o": (fixed, side("vo", -1)),
    }
    factors = (
        Permutation("p", "heads", count),
        kind("qk", "qk", width, ("heads",), (count,)),
        kind("vo", "vo", width, ("heads",), (count,)),
    )
    return ParameterSymmetry(factors, layouts, {n: tuple(a.size for a in axes) for n, axes in layouts.items()})


def monotone(history) -> bool:
    scale = max(abs(value) for value in history)
    return all(later <= earlier + 1e-9 * scale for earlier, later in itertools.pairwise(history))


def recovers(symmetry, generator, *, noise=0.0, method=None, tolerance=1e-18) -> None:
    a = draw(symmetry, generator)
    element = symmetry.random_element(generator=generator)
    b = symmetry.apply(a, element)
    if noise:
        b = {name: t + noise * torch.randn(t.shape, generator=generator, dtype=t.dtype) for name, t in b.items()}
    found = align(a, b, symmetry, method=method)
    assert found.after.squared_distance <= tolerance * sum(float(t.square().sum()) for t in a.values())
    assert monotone(found.history)
    torch.testing.assert_close(symmetry.apply(b, found.element), found.params, rtol=0, atol=0)


@pytest.mark.parametrize("start", [None, identity, sorted_entries])
def test_a_planted_permutation_is_recovered_exactly(start, generator):
    symmetry = chain()
    a = draw(symmetry, generator)
    element = symmetry.random_element(generator=generator)
    found = align(a, symmetry.apply(a, element), symmetry, method=WeightMatching(start))
    back = symmetry.invert(element)
    assert all(torch.equal(found.element[name], back[name]) for name in back)
    assert found.after.squared_distance == 0
    assert found.after.cosine == pytest.approx(1)


def test_planted_permutations_with_signs_are_recovered_together(generator):
    recovers(chain(sign=True), generator)


def test_planted_permutations_with_scales_are_recovered_up_to_round_off(generator):
    recovers(chain(scale=True), generator, tolerance=1e-10)


def test_planted_permutations_with_scales_and_signs_are_recovered(generator):
    recovers(chain(scale=True, sign=True), generator, tolerance=1e-10)


@pytest.mark.parametrize("kind", [GeneralLinear, Orthogonal])
def test_planted_heads_with_their_gauges_are_recovered(kind, generator):
    recovers(heads(kind=kind), generator, tolerance=1e-12)


def test_groupnorm_channels_are_matched_within_their_groups(generator):
    group = Piece("group", 4, (Move("g"),))
    channels = Product((group, Piece("channel", 5, (Move("c"),))))
    layouts = {"up": (channels, Piece("in", 6)), "down": (Piece("out", 3), channels)}
    factors = (Permutation("g", "group", 4), Permutation("c", "channel", 5, ("group",), (4,)))
    recovers(ParameterSymmetry(factors, layouts, {"up": (20, 6), "down": (3, 20)}), generator, tolerance=0)


def test_a_rotated_stream_is_recovered_by_procrustes_also_with_gains(generator):
    stream = Piece("stream", 8, (Move("o"),))
    after = Piece("stream", 8, (Move("o", 1, (("gain", 1),)),))
    hidden = Piece("hidden", 12, (Move("p"),))
    layouts = {
        "embed": (Piece("words", 20), stream),
        "up": (hidden, after),
        "down": (stream, hidden),
        "gain": (Piece("stream", 8),),
    }
    factors = (Orthogonal("o", "stream", 8), Permutation("p", "hidden", 12))
    shapes = {name: tuple(axis.size for axis in axes) for name, axes in layouts.items()}
    symmetry = ParameterSymmetry(factors, layouts, shapes)
    a = draw(symmetry, generator)
    a["gain"] = torch.linspace(0.5, 1.5, 8, dtype=torch.float64)
    b = symmetry.apply(a, symmetry.random_element(generator=generator))
    found = align(a, b, symmetry)
    assert found.after.squared_distance < 1e-10
    c = draw(symmetry, generator) | {"gain": a["gain"].flip(0)}
    found = align(a, c, symmetry)
    assert monotone(found.history)
    assert len(found.history) > 2


def test_procrustes_is_exact_and_optimal(generator):
    b = torch.randn(3, 5, 9, generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(3, 5, 5, generator=generator, dtype=torch.float64))[0]
    torch.testing.assert_close(orthogonal_procrustes(q @ b, b), q, rtol=1e-10, atol=1e-10)
    a = torch.randn(3, 5, 9, generator=generator, dtype=torch.float64)
    best = (a - orthogonal_procrustes(a, b) @ b).square().sum()
    for _ in range(20):
        other = torch.linalg.qr(torch.randn(3, 5, 5, generator=generator, dtype=torch.float64))[0]
        assert (a - other @ b).square().sum() > best
    with pytest.raises(ValueError, match="expected two arrays of one shape"):
        orthogonal_procrustes(a, b[:, :4])


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("sign", [True, False])
def test_the_objective_never_rises_and_ends_where_no_single_update_helps(incremental, sign, generator):
    symmetry = chain(sign=sign)
    a, b = draw(symmetry, generator), draw(symmetry, generator)
    method = WeightMatching(incremental=incremental)
    found = align(a, b, symmetry, method=method)
    assert monotone(found.history)
    assert len(found.history) > 3
    assert found.history[-1] == pytest.approx(found.after.squared_distance, rel=1e-10)
    again = align(a, b, symmetry, method=WeightMatching(lambda p: identity(p)._replace(element=found.element)))
    assert again.work.updates == 0
    assert again.after == found.after


def test_cached_scores_follow_the_trajectory_of_the_published_algorithm(generator):
    symmetry = chain()
    a, b = draw(symmetry, generator), draw(symmetry, generator)

    def order():
        return torch.Generator().manual_seed(3)

    fast, plain = (
        align(a, b, symmetry, method=WeightMatching(identity, generator=order(), incremental=flag))
        for flag in (True, False)
    )
    perms = published(a, b, symmetry, order())
    for name, perm in perms.items():
        assert torch.equal(plain.element[name], perm)
        assert torch.equal(fast.element[name], perm)
    assert fast.work.skipped > 0


def published(a, b, symmetry, generator):
    """Algorithm 1 of Git Re-Basin, every score matrix anew from the tensors."""
    perms = symmetry.identity()
    names = list(perms)
    progress = True
    while progress:
        progress = False
        for i in torch.randperm(len(names), generator=generator).tolist():
            name = names[i]
            moved = symmetry.apply(b, {k: v for k, v in perms.items() if k != name})
            sides = zip(symmetry.unfold(a, name), symmetry.unfold(moved, name), strict=True)
            scores = sum(x.values @ y.values.mT for x, y in sides)
            columns = torch.as_tensor(linear_sum_assignment(scores.numpy(), maximize=True)[1])
            rows = torch.arange(len(columns))
            progress |= bool(scores[rows, columns].sum() > scores[rows, perms[name]].sum() + 1e-12)
            perms[name] = columns
    return perms


def test_weight_matching_of_a_small_problem_finds_what_brute_force_finds(generator):
    symmetry = from_axes({"up": ("h", None), "down": (None, "h")}, {"up": (5, 4), "down": (2, 5)})
    a, b = draw(symmetry, generator), draw(symmetry, generator)
    found = align(a, b, symmetry)
    orders = (torch.tensor(order) for order in itertools.permutations(range(5)))
    best = max(sum(float((a[n] * m).sum()) for n, m in symmetry.apply(b, {"h": order}).items()) for order in orders)
    assert found.after.inner == pytest.approx(best, abs=1e-12)


def test_recurrent_weights_that_meet_a_space_twice_are_matched_without_a_step_back(generator):
    axes = {"in": ("h", None), "loop": ("h", "h"), "out": (None, "h")}
    symmetry = from_axes(axes, {"in": (30, 3), "loop": (30, 30), "out": (3, 30)})
    recovers(symmetry, generator, tolerance=0, noise=0)
    a, b = draw(symmetry, generator), draw(symmetry, generator)
    found = align(a, b, symmetry)
    assert monotone(found.history)
    assert found.history[-1] == pytest.approx(found.after.squared_distance, rel=1e-10)


@pytest.mark.parametrize(("d", "noise"), [(16, 0.3), (64, 0.0), (64, 0.3)])
def test_sorted_entries_recover_a_trunk_without_any_fixed_axis(d, noise):
    axes, shapes = {}, {}
    for k in range(2):
        axes |= {f"{k}.up": (f"h{k}", "d"), f"{k}.bias": (f"h{k}",), f"{k}.down": ("d", f"h{k}")}
        shapes |= {f"{k}.up": (2 * d, d), f"{k}.bias": (2 * d,), f"{k}.down": (d, 2 * d)}
    symmetry = from_axes(axes, shapes)
    lost = 0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        a = {n: torch.randn(s, generator=generator) for n, s in symmetry.shapes.items()}
        element = symmetry.random_element(generator=generator)
        b = symmetry.apply(a, element)
        b = {n: t + noise * torch.randn(t.shape, generator=generator) for n, t in b.items()}
        back = symmetry.invert(element)
        found = align(a, b, symmetry, method=WeightMatching(sorted_entries))
        assert all(torch.equal(found.element[name], back[name]) for name in back)
        plain = align(a, b, symmetry, method=WeightMatching(identity))
        lost += not all(torch.equal(plain.element[name], back[name]) for name in back)
    assert lost >= 3  # what the start is for


def test_restarts_keep_the_best_and_need_a_generator(generator):
    symmetry = chain()
    a, b = draw(symmetry, generator), draw(symmetry, generator)
    one = align(a, b, symmetry, method=WeightMatching(identity))
    more = align(a, b, symmetry, method=WeightMatching(identity, restarts=10, generator=generator))
    assert more.after.squared_distance <= one.after.squared_distance
    assert more.work.assignments > 5 * one.work.assignments
    with pytest.raises(ValueError, match="expected a generator"):
        align(a, b, symmetry, method=WeightMatching(restarts=1))


def test_kinds_choose_the_factors_that_move(generator):
    symmetry = chain(scale=True, sign=True)
    a, b = draw(symmetry, generator), draw(symmetry, generator)
    found = align(a, b, symmetry, method=WeightMatching(kinds=(Permutation,)))
    assert all(bool((g == 1).all()) for name, g in symmetry.compose(found.element, {}).items() if name[0] in "rs")
    only = align(a, b, symmetry, method=WeightMatching(kinds=(PositiveScale, Sign)))
    assert all(torch.equal(only.element[f"p{k}"], torch.arange(n)) for k, n in enumerate(WIDTHS, 1))
    assert only.after.squared_distance < only.before.squared_distance


def test_concatenated_channels_move_with_the_tensors_they_come_from(generator):
    first, second = Piece("f", 4, (Move("f"),)), Piece("s", 5, (Move("s"),))
    layouts = {
        "one": (first, Piece("in", 6)),
        "two": (second, first),
        "both": (Piece("out", 3), Concat((first, second))),
    }
    shapes = {name: tuple(axis.size for axis in axes) for name, axes in layouts.items()}
    symmetry = ParameterSymmetry((Permutation("f", "f", 4), Permutation("s", "s", 5)), layouts, shapes)
    recovers(symmetry, generator, tolerance=0)


class Block(nn.Module):
    """Pre-norm attention with two heads, and a hidden layer."""

    def __init__(self, width: int, norm: type[nn.Module]):
        super().__init__()
        self.first, self.second = norm(width), norm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        y = self.first(x)
        q, k, v = (m(y).unflatten(-1, (2, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        x = x + self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    def __init__(self, norm: type[nn.Module], width: int = 8):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.blocks = nn.Sequential(Block(width, norm))
        self.norm, self.out = norm(width), nn.Linear(width, 20)

    def forward(self, words):
        return self.out(self.norm(self.blocks(self.embed(words))))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_transformer_moved_by_all_its_symmetries_is_brought_back(norm, generator):
    model = Transformer(norm).double()
    params = {n: torch.randn(t.shape, generator=generator).double() / 3 for n, t in model.state_dict().items()}
    params |= {n: 1 + 0.1 * t for n, t in params.items() if "norm" in n or "first" in n or "second" in n}
    symmetry = symmetries(model, torch.arange(6)[None])
    kinds = {type(factor) for factor in symmetry.factors}
    assert kinds >= {Permutation, PositiveScale, Sign, GeneralLinear, *([Orthogonal] if norm is nn.RMSNorm else [])}
    planted = symmetry.apply(params, symmetry.random_element(generator=generator))
    found = align(params, planted, symmetry, method=WeightMatching(sweeps=4))
    assert found.before.squared_distance > 50
    assert found.after.squared_distance < 1e-3
    assert monotone(found.history)
    other = {n: torch.randn(t.shape, generator=generator).double() / 3 for n, t in params.items()}
    permuted = align(params, other, symmetry, method=WeightMatching(kinds=(Permutation,)))
    found = align(params, other, symmetry, method=WeightMatching(sweeps=1))
    assert monotone(found.history)
    assert found.after.squared_distance < permuted.after.squared_distance < permuted.before.squared_distance
    words = torch.tensor([[3, 1, 4, 1, 5, 9]])
    outputs = [torch.func.functional_call(model, p, (words,)) for p in (other, found.params)]
    torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)


class Attending(nn.Module):
    """Attention between linear maps: general matrices on all sides, which independent models drive to be singular."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(5, 8), nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        return self.out(self.attention(x, x, x)[0])


def test_independent_models_with_general_matrices_keep_their_function_in_single_precision():
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(Attending().eval())
    x = torch.randn(2, 4, 5)
    symmetry = symmetries(models[0], x)
    found = align(models[0].state_dict(), models[1].state_dict(), symmetry)
    general = [factor.name for factor in symmetry.factors if isinstance(factor, GeneralLinear)]
    assert max(torch.linalg.cond(found.element[name]).max().item() for name in general) < 1e3
    with torch.no_grad():
        before, after = models[1](x), torch.func.functional_call(models[1], found.params, (x,))
    assert (before - after).norm() < 1e-5 * before.norm()
    assert found.after.squared_distance < 0.5 * found.before.squared_distance
