"""Elements of a parameter symmetry: group laws, nested permutations, errors."""

from __future__ import annotations

import pytest
import torch

from symfield.weightspace import (
    Concat,
    Conformal,
    GeneralLinear,
    Move,
    Orthogonal,
    ParameterSymmetry,
    Permutation,
    Piece,
    PositiveScale,
    Product,
    Sign,
)

HEADS, GROUP, WIDTH, HIDDEN, STREAM = 3, 2, 4, 5, 6


def wreath() -> tuple[ParameterSymmetry, dict[str, torch.Tensor]]:
    """Heads ≥ query groups ≥ channels, a hidden space with scales and signs, an orthogonal stream with a gain."""
    heads = Piece("heads", HEADS, (Move("p:heads"),))
    group = Piece("group", GROUP, (Move("p:group"),))
    channel = Piece("channel", WIDTH, (Move("p:channel"), Move("r:channel", 2)))
    key = Piece("key", WIDTH, (Move("gl:key"),))
    dual = Piece("key", WIDTH, (Move("gl:key", -1),))
    rope = Piece("plane", 2, (Move("c:plane"),))
    hidden = Piece("hidden", HIDDEN, (Move("p:hidden"), Move("s:hidden"), Move("r:hidden", -1)))
    stream = Piece("stream", STREAM, (Move("o:stream"),))
    after = Piece("stream", STREAM, (Move("o:stream", -1, (("gain", 1),)),))
    layouts = {
        "queries": (Product((heads, group, dual)), stream),
        "keys": (Product((heads, key)), after),
        "values": (Concat((Product((heads, group, channel)), hidden)), after),
        "rotary": (Product((heads, rope)), hidden),
        "gain": (Piece("stream", STREAM),),
        "count": (),
    }
    factors = (
        Permutation("p:heads", "heads", HEADS),
        Permutation("p:group", "group", GROUP, ("heads",), (HEADS,)),
        Permutation("p:channel", "channel", WIDTH, ("heads", "group"), (HEADS, GROUP)),
        PositiveScale("r:channel", "channel", WIDTH, ("heads", "group"), (HEADS, GROUP)),
        GeneralLinear("gl:key", "key", WIDTH, ("heads",), (HEADS,)),
        Conformal("c:plane", "plane", 2, ("heads",), (HEADS,)),
        Permutation("p:hidden", "hidden", HIDDEN),
        Sign("s:hidden", "hidden", HIDDEN),
        PositiveScale("r:hidden", "hidden", HIDDEN),
        Orthogonal("o:stream", "stream", STREAM),
    )
    shapes = {name: tuple(layout.size for layout in axes) for name, axes in layouts.items()}
    generator = torch.Generator().manual_seed(1)
    params = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return ParameterSymmetry(factors, layouts, shapes), params


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-10)


def test_composition_is_one_application_after_the_other(generator):
    symmetry, params = wreath()
    g, h = (symmetry.random_element(generator=generator) for _ in range(2))
    close(symmetry.apply(params, symmetry.compose(g, h)), symmetry.apply(symmetry.apply(params, h), g))


def test_composition_is_associative_and_inverses_undo(generator):
    symmetry, params = wreath()
    f, g, h = (symmetry.random_element(generator=generator) for _ in range(3))
    close(symmetry.compose(symmetry.compose(f, g), h), symmetry.compose(f, symmetry.compose(g, h)))
    close(symmetry.compose(symmetry.invert(g), g), symmetry.identity())
    close(symmetry.compose(g, symmetry.invert(g)), symmetry.identity())
    close(symmetry.apply(symmetry.apply(params, g), symmetry.invert(g)), params)
    close(symmetry.apply(params, symmetry.identity()), params)


def test_channels_move_within_their_head_and_heads_as_blocks():
    symmetry, params = wreath()
    element = {"p:heads": torch.tensor([2, 0, 1]), "p:channel": symmetry["p:channel"].identity()}
    element["p:channel"][1, 0] = torch.tensor([3, 2, 1, 0])
    moved = symmetry.apply(params, element)["values"][: HEADS * GROUP * WIDTH].unflatten(0, (HEADS, GROUP, WIDTH))
    old = params["values"][: HEADS * GROUP * WIDTH].unflatten(0, (HEADS, GROUP, WIDTH))
    # Unit i of the result is unit π[i] of the original: head 1's channels are reversed, then head 1 arrives at place 2.
    assert torch.equal(moved[2, 0], old[1, 0].flip(0))
    assert torch.equal(moved[0], old[2])
    assert torch.equal(moved[1], old[0])


def test_a_permutation_may_be_given_as_a_matrix_and_is_differentiable(generator):
    symmetry, params = wreath()
    pi = symmetry["p:channel"].random_element(generator=generator)
    matrix = torch.nn.functional.one_hot(pi, WIDTH).double().requires_grad_()
    moved = symmetry.apply(params, {"p:channel": matrix})
    close({k: v.detach() for k, v in moved.items()}, symmetry.apply(params, {"p:channel": pi}))
    moved["values"].square().sum().backward()
    assert matrix.grad.abs().min() > 0


def test_apply_is_differentiable_in_the_parameters_and_leaves_them_alone(generator):
    symmetry, params = wreath()
    element = symmetry.random_element(generator=generator)
    before = {name: tensor.clone() for name, tensor in params.items()}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    sum(t.sum() for t in symmetry.apply(leaves, element).values()).backward()
    moved = symmetry.apply(params, element)
    for tensor in moved.values():
        tensor.add_(1)
    close(params, before)
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in leaves.values())


def test_dimension_order_and_coverage_count_by_hand():
    symmetry, _ = wreath()
    matrices = HEADS * WIDTH**2 + 2 * HEADS + STREAM * (STREAM - 1) // 2
    assert symmetry.dimension == matrices + HEADS * GROUP * WIDTH + HIDDEN
    order = 6 * 2**HEADS * 24 ** (HEADS * GROUP) * 120 * 2**HIDDEN
    assert symmetry.log_order == pytest.approx(torch.tensor(float(order), dtype=torch.float64).log().item())
    total = sum(torch.tensor(shape).prod().item() if shape else 1 for shape in symmetry.shapes.values())
    assert symmetry.coverage == pytest.approx((total - STREAM - 1) / total)


def test_unfold_puts_base_and_units_first(generator):
    symmetry, params = wreath()
    faces = symmetry.unfold(params, "p:channel")
    assert [tuple(face.values.shape) for face in faces] == [(HEADS, GROUP, WIDTH, STREAM)]
    assert faces[0].slot.offset == 0
    assert len(symmetry.unfold(params, "p:heads")) == len(symmetry.slots("p:heads")) == 4
    pi = symmetry["p:hidden"].random_element(generator=generator)
    moved = symmetry.unfold(symmetry.apply(params, {"p:hidden": pi}), "p:hidden")
    for before, after in zip(symmetry.unfold(params, "p:hidden"), moved, strict=True):
        assert torch.equal(after.values, before.values[pi])


def test_tied_names_move_together_and_one_of_them_is_enough(generator):
    piece = Piece("h", 4, (Move("p"),))
    layouts, shapes = {"a": (piece, Piece("in", 2))}, {"a": (4, 2)}
    symmetry = ParameterSymmetry((Permutation("p", "h", 4),), layouts, shapes, {"b": "a"})
    value = torch.arange(8.0).reshape(4, 2)
    moved = symmetry.apply({"a": value, "b": value}, {"p": torch.tensor([1, 0, 3, 2])})
    assert torch.equal(moved["a"], moved["b"])
    assert torch.equal(symmetry.apply({"b": value}, {"p": torch.tensor([1, 0, 3, 2])})["b"], moved["b"])
    with pytest.raises(KeyError, match="'a' is missing"):
        symmetry.apply({}, {})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, g: p.pop("keys"), KeyError, "'keys' is missing"),
        (lambda p, g: p.update(more=torch.zeros(1)), KeyError, "'more' is not part"),
        (lambda p, g: p.update(keys=torch.zeros(2, 2)), ValueError, "expected shape .* 'keys'"),
        (lambda p, g: p.update(keys=p["keys"] * torch.nan), ValueError, "'keys' holds NaN"),
        (lambda p, g: p.update(keys=p["keys"].long()), TypeError, "'keys' is torch.int64"),
        (lambda p, g: p.update(gain=torch.zeros(STREAM)), ValueError, "'gain' holds a zero"),
        (lambda p, g: g.update(unknown=torch.zeros(1)), KeyError, "names 'unknown'"),
        (lambda p, g: g.update({"p:heads": torch.tensor([0, 0, 1])}), ValueError, "permutation of 0..2"),
        (lambda p, g: g.update({"p:heads": torch.tensor([0, 1])}), ValueError, "shape .3,."),
        (lambda p, g: g.update({"r:hidden": -torch.ones(HIDDEN)}), ValueError, "positive"),
        (lambda p, g: g.update({"s:hidden": 2 * torch.ones(HIDDEN)}), ValueError, "signs"),
        (lambda p, g: g.update({"o:stream": torch.ones(STREAM, STREAM)}), ValueError, "orthogonal"),
        (lambda p, g: g.update({"gl:key": torch.zeros(HEADS, WIDTH, WIDTH)}), ValueError, "invertible"),
        (lambda p, g: g.update({"c:plane": torch.ones(HEADS, 2, 2)}), ValueError, r"\(\(a, -b\), \(b, a\)\)"),
        (lambda p, g: g.update({"r:hidden": torch.full((HIDDEN,), torch.nan)}), ValueError, "NaN"),
    ],
)
def test_wrong_input_is_named_with_what_to_do(generator, change, error, message):
    symmetry, params = wreath()
    element = symmetry.random_element(generator=generator)
    change(params, element)
    with pytest.raises(error, match=message):
        symmetry.apply(params, element)


def test_the_table_names_every_factor_with_its_group_and_its_slots():
    symmetry, _ = wreath()
    table = symmetry.table()
    assert all(factor.name in table and factor.group in table for factor in symmetry.factors)
    assert "queries.0:8" in table
    assert "S_4^6 over heads, group" in table
    assert str(symmetry) == table
    assert "GL(4)^3" in repr(symmetry)
