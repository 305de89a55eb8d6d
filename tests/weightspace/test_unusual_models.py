"""Legitimate models that are rarely written: their groups by hand, found without help from the certificate.

The certificate leaves a wrong factor out, so each rule must be right before it: the derived factors are those found by
hand, random elements keep the outputs in float64 at generic parameters and fresh inputs, and nothing is rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.weightspace.test_zoo import groups
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from symfield.weightspace import derive, symmetries, trace


class Written(nn.Module):
    """A model whose forward is a function of itself and its inputs."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.written = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.written(self, *inputs)


def two_layers(between: Callable[..., Any], wide: int = 6, narrow: int = 6) -> Callable[[], Written]:
    return lambda: Written(lambda m, x: m.two(between(m.one(x))), one=nn.Linear(5, wide), two=nn.Linear(narrow, 2))


def recurrent(kind: Any, states: Callable[..., Any], **options: Any) -> Callable[[], Written]:
    def forward(m: Any, x: Tensor, *h: Tensor) -> Tensor:
        return m.two(m.core(x, states(x, *h))[0])

    width = 10 if options.get("bidirectional") else 5
    return lambda: Written(forward, core=kind(3, 5, 2, batch_first=True, **options), two=nn.Linear(width, 2))


def constant(fill: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.full((2, x.shape[0], 5), fill, dtype=x.dtype)


def gated_pairs(h: Tensor) -> Tensor:
    value, gate = h.view(-1, 6, 2).unbind(-1)
    return value * gate.sigmoid()


def units_apart(m: Any, x: Tensor) -> Tensor:
    value, gate = torch.stack([m.one(x), m.two(x)], 1).squeeze(-1).unbind(1)
    return value * gate.sigmoid()


def channels(h: Tensor) -> Tensor:
    return F.max_pool1d(h, 2, return_indices=True)[1].to(h.dtype).mean(-1)


STEPS, ROWS, LINES = (2, 4, 3), (4, 5), (4, 3, 5)
PAIR = {"permutation": ["S_5"] * 2}
CASES: list[tuple[str, Callable[[], nn.Module], tuple[tuple[int, ...], ...], dict[str, list[str]]]] = [
    # The two halves of a pair have a scale of their own each, which no axis carries: permutations are left.
    ("gates that interleave", two_layers(gated_pairs, 12), (ROWS,), {"permutation": ["S_6"]}),
    ("stacked units", lambda: Written(units_apart, one=nn.Linear(5, 1), two=nn.Linear(5, 1)), (ROWS,), {}),
    # Places of maxima along the other axis move with the channels, and are integers that no scale touches.
    ("places of maxima", two_layers(lambda h: h.max(1).indices.to(h.dtype)), (LINES,),
     {"permutation": ["S_6"], "scale": ["R+^6"]}),
    ("places in pools",
     lambda: Written(lambda m, x: m.two(channels(m.one(x))), one=nn.Conv1d(3, 4, 3), two=nn.Linear(4, 2)),
     ((2, 3, 12),), {"permutation": ["S_4"], "scale": ["R+^4"]}),
    # One number counts through all axes: the units are told apart.
    ("a place among all", two_layers(lambda h: h.relu() + h.argmax().to(h.dtype)), (ROWS,), {}),
    ("a count", two_layers(lambda h: torch.linalg.vector_norm(h.relu(), 0, dim=1)), (LINES,), {"permutation": ["S_6"]}),
    # Initial states: zeros fit signs and scales, other constants permutations, inputs nothing.
    ("states of zeros", recurrent(nn.GRU, constant(0.0)), (STEPS,), PAIR | {"sign": ["Z2^5"] * 2}),
    ("states of ones", recurrent(nn.GRU, constant(1.0)), (STEPS,), PAIR),
    ("states of ones, relu", recurrent(nn.RNN, constant(1.0), nonlinearity="relu"), (STEPS,), PAIR),
    ("states given", recurrent(nn.GRU, lambda x, h: h, bidirectional=True), (STEPS, (4, 2, 5)), {}),
    ("one state given", recurrent(nn.LSTM, lambda x, h: (h, torch.zeros_like(h))), (STEPS, (2, 2, 5)), {}),
    # One matrix writes the states of both layers, whose units then move alike.
    ("states repeated",
     lambda: Written(lambda m, x, h: m.two(m.core(x, m.one(h).repeat(2, 1, 1))[0]), core=nn.GRU(3, 5, 2),
                     one=nn.Linear(3, 5), two=nn.Linear(5, 2)),
     ((4, 2, 3), (2, 3)), {"permutation": ["S_5"], "sign": ["Z2^5"]}),
    # Even functions lose the sign of what enters.
    ("magnitudes", two_layers(torch.abs), (ROWS,), {"permutation": ["S_6"], "scale": ["R+^6"], "sign": ["Z2^6"]}),
    ("waves", two_layers(lambda h: torch.cat([h.sin(), h.cos()], -1), 6, 12), (ROWS,),
     {"permutation": ["S_6"], "sign": ["Z2^6"]}),
    # Sums and products in one operator are what they are in several.
    ("a mean of two", lambda: Written(lambda m, x: m.two(torch.lerp(m.one(x).tanh(), m.other(x).tanh(), 0.3)),
                                      one=nn.Linear(5, 6), other=nn.Linear(5, 6), two=nn.Linear(6, 2)),
     (ROWS,), {"permutation": ["S_6"], "sign": ["Z2^6"]}),
    ("a sum and a product", lambda: Written(lambda m, x: m.two(torch.addcmul(m.one(x), m.other(x), m.more(x))),
                                            one=nn.Linear(5, 6), other=nn.Linear(5, 6), more=nn.Linear(5, 6),
                                            two=nn.Linear(6, 2)),
     (ROWS,), {"permutation": ["S_6"], "scale": ["R+^6"] * 2, "sign": ["Z2^6"] * 2}),
    # Copies of one number along an axis are a number: what is divided by its norm may be turned.
    ("unit vectors", two_layers(lambda h: F.normalize(h, dim=-1)), (ROWS,), {"orthogonal": ["O(6)"]}),
    ("a gate of copies", two_layers(lambda h: h * h.square().sum(-1, keepdim=True).sigmoid().expand_as(h)), (ROWS,),
     {"orthogonal": ["O(6)"]}),
    ("copies times copies",
     two_layers(lambda h: h.relu() + h.amax(-1, True).expand_as(h) * h.amin(-1, True).expand_as(h)), (ROWS,),
     {"permutation": ["S_6"]}),
    ("slopes of copies", lambda: Written(lambda m, x: m.two(m.one(x) * m.slope(x[:, :1].expand(-1, 6))),
                                         one=nn.Linear(5, 6), slope=nn.PReLU(6), two=nn.Linear(6, 2)),
     (ROWS,), {"permutation": ["S_6"], "scale": ["R+^6"], "sign": ["Z2^6"]}),
    # Row by row, w = g v / |v|: v has a scale of its own, and a sign together with g.
    ("weight norm",
     lambda: nn.Sequential(weight_norm(nn.Linear(5, 6)), nn.ReLU(), weight_norm(nn.Linear(6, 2))),
     (ROWS,), {"permutation": ["S_6"], "scale": ["R+^2", "R+^6"], "sign": ["Z2^2", "Z2^6"]}),
    ("weight norm of kernels",
     lambda: nn.Sequential(weight_norm(nn.Conv1d(3, 4, 2)), nn.Tanh(), nn.Conv1d(4, 2, 1)),
     ((2, 3, 6),), {"permutation": ["S_4"], "scale": ["R+^4"], "sign": ["Z2^4"] * 2}),
    ("weight norm of a turned stream", lambda: nn.Sequential(nn.Linear(5, 6), weight_norm(nn.Linear(6, 2))),
     (ROWS,), {"orthogonal": ["O(6)"], "scale": ["R+^2"], "sign": ["Z2^2"]}),
]  # fmt: skip


def changes(model: nn.Module, symmetry: Any, example: tuple[Tensor, ...]) -> float:
    """The largest relative change of an output under random elements."""
    generator = torch.Generator().manual_seed(7)
    model = model.double().eval()
    params = {
        name: tensor * (1 + 0.3 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
        for name, tensor in model.state_dict().items()
    }
    worst = 0.0
    for _ in range(5):
        inputs = tuple(torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in example)
        moved = symmetry.apply(params, symmetry.random_element(generator=generator))
        with torch.no_grad():
            before, after = (torch.func.functional_call(model, side, inputs) for side in (params, moved))
        worst = max(worst, ((before - after).norm() / before.norm()).item())
    return worst


@pytest.mark.parametrize(("build", "shapes", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_rules_alone_give_the_group_found_by_hand(build, shapes, expected):
    torch.manual_seed(0)
    model, example = build(), tuple(torch.randn(shape) for shape in shapes)
    derived = derive(trace(model, example))
    assert groups(derived) == {kind: sorted(names) for kind, names in expected.items()}
    assert derived.report.unknown == ()
    assert symmetries(model, example).report.rejected == ()
    assert changes(model, derived, example) < 1e-12


@pytest.mark.parametrize("computed", [True, False])
def test_rotations_past_a_computed_gain_are_missing_and_the_report_says_so(computed):
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.two(F.rms_norm(m.one(x), (6,), 1 + m.gain.weight if computed else m.gain.weight, 1e-6))

    model = Written(forward, one=nn.Linear(5, 6), gain=nn.RMSNorm(6), two=nn.Linear(6, 2))
    found = symmetries(model, torch.randn(4, 5))
    assert any(factor.group == "O(6)" for factor in found.factors) is not computed
    assert any("a gain that is computed" in note for note in found.report.notes) is computed


def test_stacked_values_stay_as_they_are_where_they_are_used_again():
    def forward(m: Any, x: Tensor) -> Tensor:
        h, k = m.one(x).relu(), m.other(x).relu()
        first, second = torch.stack([h, k], 1).unsqueeze(-1).unbind(1)
        return m.two(first.squeeze(-1) * second.squeeze(-1) + h + k)

    model = Written(forward, one=nn.Linear(5, 6), other=nn.Linear(5, 6), two=nn.Linear(6, 2))
    found = derive(trace(model, torch.randn(4, 5)))
    assert found.report.unknown == ()
    assert groups(found) == {"permutation": ["S_6"]}
