"""Operators one by one: small models whose groups are found by hand, and the certificate of each."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.weightspace.test_zoo import groups
from torch import Tensor, nn
from torch.nn import functional as F

from symfield.studies._derivation_coverage_zoo import floats, integers
from symfield.weightspace import Untraceable, certify, derive, symmetries, trace


class Attention(nn.Module):
    """Multi-head attention with fewer key heads than query heads, written with the fused operator."""

    def __init__(self, grouped: bool) -> None:
        super().__init__()
        self.grouped = grouped
        self.q, self.k, self.v = nn.Linear(6, 16), nn.Linear(6, 8), nn.Linear(6, 8)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 4).transpose(1, 2)
        k, v = (f(x).view(b, t, 2, 4).transpose(1, 2) for f in (self.k, self.v))
        if self.grouped:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)
        else:
            k, v = (z.repeat_interleave(2, 1) for z in (k, v))
            y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, t, 16))


class Stacked(nn.Module):
    """Queries, keys and values stacked by a reshape, outside or inside the heads."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside = inside
        self.qkv, self.out = nn.Linear(5, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        shape = (b, t, 2, 3, 4) if self.inside else (b, t, 3, 2, 4)
        order = (3, 0, 2, 1, 4) if self.inside else (2, 0, 3, 1, 4)
        q, k, v = self.qkv(x).reshape(shape).permute(order).unbind(0)
        y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, kdim=5, vdim=5)
        self.into, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.out(self.attention(self.into(x), memory, memory)[0])


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.core = kind(3, 5, batch_first=True, **options)
        width = 5 * (1 + self.core.bidirectional) if not getattr(self.core, "proj_size", 0) else self.core.proj_size
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[0])


class LastState(nn.Module):
    """The final states of two layers, taken apart by numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.head = nn.GRU(3, 5, num_layers=2), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[1][-1])


class Messages(nn.Module):
    """Message passing along an edge list, with sums by index_add or scatter_add."""

    def __init__(self, scatter: bool) -> None:
        super().__init__()
        self.scatter = scatter
        self.message, self.own, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        sent = self.message(x)[edges[0]]
        if self.scatter:
            zeros = torch.zeros(x.shape[0], 6, dtype=x.dtype)
            total = zeros.scatter_add(0, edges[1][:, None].expand(-1, 6), sent)
        else:
            total = torch.zeros_like(self.own(x)).index_add(0, edges[1], sent)
        return self.head(torch.relu(total + self.own(x)))


class Mixture(nn.Module):
    """Dense routing to three experts, whose hidden units move expert by expert."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.up, self.down = nn.Parameter(torch.randn(3, 4, 5)), nn.Parameter(torch.randn(3, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(torch.einsum("bi,eih->beh", x, self.up))
        return torch.einsum("beh,eho,be->bo", hidden, self.down, self.gate(x).softmax(-1))


class Routed(nn.Module):
    """The two best of four experts for each token, gathered by the numbers that topk returns."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 4, bias=False)
        self.up, self.down = nn.Parameter(torch.randn(4, 4, 5)), nn.Parameter(torch.randn(4, 5, 2))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        flat = chosen.reshape(-1)
        hidden = F.gelu(torch.bmm(x.repeat_interleave(2, 0)[:, None], self.up[flat]))
        out = torch.bmm(hidden, self.down[flat])[:, 0] * weights.reshape(-1, 1)
        return out.view(-1, 2, 2).sum(1)


class Rotary(nn.Module):
    """Rotary codes on queries and keys; nothing on values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 8, bias=False) for _ in range(4))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        angle = torch.arange(t)[:, None] * 100 ** (-torch.arange(2) / 2)
        angle = torch.cat((angle, angle), -1).to(x.dtype)
        q, k, v = (f(x).view(b, t, 2, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = (z * angle.cos() + torch.cat((-z[..., 2:], z[..., :2]), -1) * angle.sin() for z in (q, k))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class RotaryPairs(Rotary):
    """The same with neighbouring channels, by slices, by a view as pairs, or as complex numbers."""

    def __init__(self, turn: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.turn = turn

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        angle = (torch.arange(t)[:, None] * 100 ** (-torch.arange(2) / 2)).to(x.dtype)
        q, k, v = (f(x).view(b, t, 2, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.turn(q, angle), self.turn(k, angle), v)
        return self.out(y.transpose(1, 2).flatten(2))


def by_slices(z: Tensor, angle: Tensor) -> Tensor:
    turned = torch.stack((-z[..., 1::2], z[..., ::2]), -1).flatten(-2)
    angle = angle.repeat_interleave(2, -1)
    return z * angle.cos() + turned * angle.sin()


def by_pairs(z: Tensor, angle: Tensor) -> Tensor:
    one, two = z.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = (torch.stack((item, item), -1).flatten(-2) for item in (angle.cos(), angle.sin()))
    return z * cos + torch.stack((-two, one), -1).flatten(-2) * sin


def by_complex(z: Tensor, angle: Tensor) -> Tensor:
    turn = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(torch.view_as_complex(z.unflatten(-1, (-1, 2))) * turn).flatten(-2)


def not_alike(z: Tensor, angle: Tensor) -> Tensor:
    """Angles that differ within a plane: no rotation, and nothing commutes with it."""
    turned = torch.stack((-z[..., 1::2], z[..., ::2]), -1).flatten(-2)
    angle = torch.cat((angle, 2 * angle), -1)
    return z * angle.cos() + turned * angle.sin()


class Stream(nn.Module):
    """A residual stream under RMSNorm with gains and a head of its own: it rotates."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.norm1, self.norm2 = (nn.RMSNorm(6, elementwise_affine=not plain) for _ in range(2))
        self.up, self.down = nn.Linear(6, 7), nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        x = x + self.down(F.gelu(self.up(self.norm1(x))))
        return self.head(self.norm2(x))


class Unknown(nn.Module):
    """A sorted hidden layer, and an operator that nobody taught."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.relu(self.two(torch.cdist(self.one(x), torch.eye(6, dtype=x.dtype)))))


class Scaled(nn.Module):
    """LayerScale, a gated product, a slice, and a channel attention."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1)
        self.gamma = nn.Parameter(torch.ones(6, 1, 1))
        self.squeeze, self.excite = nn.Linear(6, 4), nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(x))
        x = x + self.gamma * self.two(x)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        return self.head((x * gate[..., None, None]).amax((2, 3)))


def sequential(*layers: nn.Module):
    return lambda: nn.Sequential(*(copy.deepcopy(layer) for layer in layers))


EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 3]])

CASES = [
    ("linear-network", sequential(nn.Linear(3, 5), nn.Linear(5, 2)), floats(4, 3), {"linear": ["GL(5)"]}),
    ("gqa", lambda: Attention(True), floats(2, 5, 6),
     {"permutation": ["S_2", "S_2^2"], "linear": ["GL(4)^2", "GL(4)^2"]}),
    ("gqa-repeated", lambda: Attention(False), floats(2, 5, 6),
     {"permutation": ["S_2", "S_2^2"], "linear": ["GL(4)^2", "GL(4)^2"]}),
    ("qkv-outside", lambda: Stacked(False), floats(2, 5, 5),
     {"permutation": ["S_2"], "linear": ["GL(4)^2"] * 2}),
    ("qkv-inside", lambda: Stacked(True), floats(2, 5, 5),
     {"permutation": ["S_2"], "linear": ["GL(4)^2"] * 2}),
    ("cross-attention", CrossAttention, lambda: (floats(2, 4, 3)(), floats(2, 6, 5)()),
     {"permutation": ["S_2"], "linear": ["GL(4)^2", "GL(4)^2", "GL(8)", "GL(8)"]}),
    ("rnn-relu", lambda: Recurrent(nn.RNN, nonlinearity="relu"), floats(2, 4, 3),
     {"permutation": ["S_5"], "scale": ["R+^5"]}),
    ("rnn-tanh", lambda: Recurrent(nn.RNN), floats(2, 4, 3), {"permutation": ["S_5"], "sign": ["Z2^5"]}),
    ("gru-deep", lambda: Recurrent(nn.GRU, num_layers=2, bidirectional=True), floats(2, 4, 3),
     {"permutation": ["S_5"] * 4, "sign": ["Z2^5"] * 4}),
    ("lstm-projected", lambda: Recurrent(nn.LSTM, proj_size=4), floats(2, 4, 3),
     {"permutation": ["S_5"], "sign": ["Z2^5"], "linear": ["GL(4)"]}),
    ("last-state", LastState, floats(4, 2, 3), {"permutation": ["S_5"] * 2, "sign": ["Z2^5"] * 2}),
    ("messages", lambda: Messages(False), lambda: (floats(5, 4)(), EDGES),
     {"permutation": ["S_6"], "scale": ["R+^6"]}),
    ("messages-scattered", lambda: Messages(True), lambda: (floats(5, 4)(), EDGES),
     {"permutation": ["S_6"], "scale": ["R+^6"]}),
    ("mixture", Mixture, floats(6, 4), {"permutation": ["S_3", "S_5^3"]}),
    ("routed", Routed, floats(6, 4), {"permutation": ["S_4", "S_5^4"]}),
    ("rotary", Rotary, floats(2, 5, 6), {"permutation": ["S_2"], "rotary": ["C*^4"], "linear": ["GL(4)^2"]}),
    *[(f"rotary-{turn.__name__}", lambda turn=turn: RotaryPairs(turn), floats(2, 5, 6),
       {"permutation": ["S_2"], "rotary": ["C*^4"], "linear": ["GL(4)^2"]})
      for turn in (by_slices, by_pairs, by_complex)],
    ("rotary-not-alike", lambda: RotaryPairs(not_alike), floats(2, 5, 6),
     {"permutation": ["S_2"], "linear": ["GL(4)^2"]}),
    ("rms-plain", lambda: Stream(True), floats(4, 3), {"permutation": ["S_7"], "orthogonal": ["O(6)"]}),
    ("rms-gains", lambda: Stream(False), floats(4, 3),
     {"permutation": ["S_7"], "orthogonal": ["O(6)"], "scale": ["R+^6"] * 2, "sign": ["Z2^6"] * 2}),
    ("scaled", Scaled, floats(2, 3, 5, 5),
     {"permutation": ["S_6", "S_4"], "scale": ["R+^4", "R+^6", "R+^6"], "sign": ["Z2^6"]}),
    ("grouped-conv",
     sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 12, 3, groups=4), nn.ReLU(), nn.Conv1d(12, 2, 3)),
     floats(2, 3, 12), {"permutation": ["S_4", "S_2^4", "S_3^4"], "scale": ["R+^8", "R+^12"]}),
    ("depthwise-multiplier",
     sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 8, 3, groups=4), nn.Tanh(), nn.Conv1d(8, 2, 3)),
     floats(2, 3, 12), {"permutation": ["S_4", "S_2^4"], "scale": ["R+^4"], "sign": ["Z2^8"]}),
    ("transposed-conv",
     sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 2, 1)),
     floats(1, 3, 7, 7), {"permutation": ["S_2", "S_2^2", "S_3^2"], "scale": ["R+^4"], "sign": ["Z2^6"]}),
    ("pixel-shuffle", sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(2, 2, 1)),
     floats(1, 3, 4, 4), {"permutation": ["S_2"], "scale": ["R+^2"]}),
    ("glu", sequential(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2)), floats(5, 3),
     {"permutation": ["S_4"], "scale": ["R+^4"], "sign": ["Z2^4"]}),
    ("prelu", sequential(nn.Conv1d(3, 4, 1), nn.PReLU(4), nn.Conv1d(4, 2, 1)), floats(2, 3, 5),
     {"permutation": ["S_4"], "scale": ["R+^4"]}),
    ("embedding", sequential(nn.Embedding(7, 5), nn.Tanh(), nn.Linear(5, 2)), integers(7, 2, 3),
     {"permutation": ["S_5"], "sign": ["Z2^5"]}),
    ("embedding-bottleneck", sequential(nn.Embedding(7, 5), nn.Linear(5, 2)), integers(7, 2, 3), {"linear": ["GL(5)"]}),
    ("instance-norm", sequential(nn.Conv1d(3, 4, 1), nn.InstanceNorm1d(4, affine=True), nn.ReLU(), nn.Conv1d(4, 2, 1)),
     floats(2, 3, 5), {"permutation": ["S_4"], "scale": ["R+^4"], "sign": ["Z2^4"]}),
]  # fmt: skip


@pytest.mark.parametrize(("build", "example", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_each_operator_gives_the_group_found_by_hand(build, example, expected):
    torch.manual_seed(0)
    symmetry = symmetries(build(), example())
    assert groups(symmetry) == {kind: sorted(names) for kind, names in expected.items()}
    assert symmetry.report.certified
    assert symmetry.report.unknown == ()
    assert max(check.error for check in symmetry.report.checks) < 1e-12


def test_gains_conjugate_a_rotation_of_the_stream_and_their_scales_fold_them(generator):
    torch.manual_seed(0)
    model, x = Stream(False), floats(4, 3)()
    with torch.no_grad():
        model.norm1.weight.copy_(torch.rand(6) + 0.5)
        model.norm2.weight.copy_(-torch.rand(6) - 0.5)
    symmetry = symmetries(model.double(), x.double())
    params = dict(model.state_dict())
    before = model(x.double())
    # Folding a gain into the next weights is an element of the group.
    names = [f.name for f in symmetry.factors if f.name.startswith("scale") and "norm1" in f.name]
    folded = symmetry.apply(params, {names[0]: 1 / params["norm1.weight"]})
    assert torch.allclose(folded["norm1.weight"], torch.ones(6).double())
    moved = symmetry.apply(folded, symmetry.random_element(generator=generator))
    for state in (folded, moved):
        torch.testing.assert_close(torch.func.functional_call(model, state, x.double()), before, rtol=1e-10, atol=1e-12)
    rotation = next(f for f in symmetry.factors if f.name.startswith("orthogonal"))
    turned = symmetry.apply(params, {rotation.name: rotation.random_element(generator=generator)})
    assert torch.equal(turned["norm1.weight"], params["norm1.weight"])
    assert not torch.allclose(turned["up.weight"], params["up.weight"])


def test_a_linear_autoencoder_with_one_matrix_has_the_orthogonal_group():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.weight.T) @ self.weight

    symmetry = symmetries(Tied(), floats(3, 6)())
    assert groups(symmetry) == {"orthogonal": ["O(4)"]}
    assert symmetry.dimension == 6


def test_tied_weights_are_one_tensor_under_all_their_names(generator):
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 7, bias=False))
    model[3].weight = model[0].weight
    symmetry = symmetries(model, integers(7, 2, 3)())
    assert dict(symmetry.aliases) == {"3.weight": "0.weight"}
    moved = symmetry.apply(model.state_dict(), symmetry.random_element(generator=generator))
    assert torch.equal(moved["0.weight"], moved["3.weight"])


def test_an_operator_without_a_rule_fixes_its_axes_and_is_named():
    torch.manual_seed(0)
    symmetry = symmetries(Unknown(), floats(3, 4)())
    assert groups(symmetry) == {"permutation": ["S_6"], "scale": ["R+^6"]}
    assert [item.operator for item in symmetry.report.unknown] == ["cdist"]
    reasons = {item.tensor: item.reason for item in symmetry.report.fixed if item.axis == 0}
    assert "no rule for operator cdist" in reasons["one.weight"]
    assert "no rule: cdist (1 calls)" in str(symmetry.report)
    assert 0 < symmetry.coverage < 1


def test_inputs_and_outputs_move_only_when_freed():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), floats(5, 4)()
    assert groups(symmetries(model, x)) == {"permutation": ["S_6"], "scale": ["R+^6"]}
    freed = symmetries(model, x, free={"input.0": (1,), "output.0": (-1,)})
    assert groups(freed) == {"linear": ["GL(3)", "GL(4)"], "permutation": ["S_6"], "scale": ["R+^6"]}
    assert freed.report.certified
    assert freed.coverage == 1
    with pytest.raises(KeyError, match=r"free names 'input\.1'"):
        symmetries(model, x, free={"input.1": (0,)})
    with pytest.raises(ValueError, match="does not have"):
        symmetries(model, x, free={"input.0": (5,)})


def test_layouts_that_do_not_fit_each_other_are_fixed_and_never_guessed():
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            a = self.one(x).view(-1, 2, 3).transpose(1, 2).flatten(1)
            b = self.two(x).view(-1, 3, 2).softmax(1).flatten(1)
            return self.head(torch.relu(a + b).view(-1, 2, 3).softmax(2).flatten(1))

    symmetry = symmetries(Clash(), floats(4, 3)())
    assert symmetry.report.certified


def test_a_wrong_factor_is_rejected_with_a_warning():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)), floats(5, 4)()
    relu = derive(trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), x))
    with pytest.warns(UserWarning, match=r"internal error: scale:0 .* changed the output of Sequential"):
        checked = certify(model, x, relu)
    assert groups(checked) == {"permutation": ["S_6"]}
    assert [check.factor for check in checked.report.rejected] == ["scale:0"]
    assert not checked.report.certified
    assert "REJECTED scale:0" in str(checked.report)


def test_errors_at_fresh_values_are_found_because_the_certificate_moves_them():
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.two = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(torch.relu(self.norm(self.one(x))))

    model, x = Normed(), floats(5, 4)()
    good = derive(trace(model, x))
    kept = {
        name: tuple(replace(a, moves=()) for a in axes) if name == "norm.running_var" else axes
        for name, axes in good.layouts.items()
    }
    with pytest.warns(UserWarning, match="permutation:one"):
        certify(model, x, replace(good, layouts=kept))


def test_values_decide_the_path_so_the_model_is_refused_with_advice():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if self.one(x).sum().item() > 0 else x

    with pytest.raises(Untraceable, match=r"Branch cannot be written[\s\S]*torch\.where"):
        trace(Branch(), floats(2, 4)())
    with pytest.raises(Untraceable, match=r"check that model\(\*example\) runs"):
        trace(nn.Linear(4, 4), ())
    with pytest.raises(TypeError, match="expected a tensor, a tuple or a dict"):
        trace(nn.Linear(4, 4), 3)


def test_a_certificate_is_refused_where_it_would_say_nothing():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), floats(5, 4)()
    with torch.no_grad():
        model[2].bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"'2\.bias' holds NaN"):
        symmetries(model, x)
    assert groups(symmetries(model, x, certificate=False)) == {"permutation": ["S_6"], "scale": ["R+^6"]}
    with pytest.raises(ValueError, match="no finite number"):
        symmetries(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), x * torch.inf)


def test_where_export_fails_one_run_is_recorded_instead(monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no export today")

    monkeypatch.setattr(torch.export, "export", refuse)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 3))
    symmetry = symmetries(model, floats(5, 4)())
    assert symmetry.report.source == "make_fx"
    assert groups(symmetry) == {"permutation": ["S_6"], "scale": ["R+^6"], "sign": ["Z2^6"]}
    assert symmetry.report.certified


def test_unused_and_integer_tensors_are_fixed_and_graphs_describe_themselves():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model.spare = nn.Parameter(torch.zeros(5, 5))
    model.forward = lambda x: model[3](model[2](model[1](model[0](x))))
    graph = trace(model, floats(5, 4)())
    assert set(graph.unused) == {"spare", "1.num_batches_tracked"}
    assert "linear 2" in str(graph)
    assert graph.tensors["1.running_var"].kind == "buffer"
    reasons = {item.tensor: item.reason for item in derive(graph).report.fixed}
    assert reasons["spare"] == "not used on the example"


def test_a_symmetry_is_a_value_that_can_be_stored(generator):
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), floats(5, 4)()
    symmetry = symmetries(model, x)
    again = pickle.loads(pickle.dumps(symmetry))
    assert again == symmetry
    assert again.table() == symmetry.table()
    assert str(again.report) == str(symmetry.report)
    element = symmetry.random_element(generator=generator)
    params = dict(model.state_dict())
    for name, tensor in again.apply(params, element).items():
        assert torch.equal(tensor, symmetry.apply(params, element)[name])


def test_nothing_warns(recwarn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        symmetries(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), floats(5, 4)())


class SomeRows(nn.Module):
    """Which rows go on depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.down(self.up(x).relu()[(x[:, 0] > 0).nonzero()[:, 0]])


class Bag(nn.Module):
    """A mean of embeddings, whose offsets must increase."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.down = nn.EmbeddingBag(9, 8), nn.Linear(8, 2)

    def forward(self, index, offsets):
        return self.down(self.bag(index, offsets))


def test_sizes_that_depend_on_values_are_untraceable_with_advice():
    with pytest.raises(Untraceable, match="shapes depend on values"):
        symmetries(SomeRows(), floats(5, 4)())


def test_integers_whose_order_matters_stay_in_order():
    found = symmetries(Bag(), (torch.arange(8), torch.tensor([0, 4, 7])))
    assert found.report.certified
    assert found.report.unknown


def test_a_model_that_cannot_be_copied_says_what_to_do():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(4, 6))
    with pytest.raises(Untraceable, match=r"parametrizations\.weight_norm"):
        symmetries(nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 2)), floats(3, 4)())
