"""The continuous factors against brute force: how many directions of parameter space leave all outputs alone.

For generic parameters and enough inputs, P minus the rank of the Jacobian of the outputs is the dimension of the orbit
of *all* continuous symmetries, of whatever kind. The models here have full-rank maps and no redundant biases, so that
nothing but the factors can leave a null direction.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symfield.weightspace import derive, trace


def directions(model: nn.Module, example: Tensor) -> tuple[int, float]:
    """Null directions of the Jacobian, and the gap between the singular values above and below the cut."""
    generator = torch.Generator().manual_seed(5)

    def normal(like: Tensor) -> Tensor:
        return 3 * torch.randn(like.shape, generator=generator, dtype=torch.float64)

    params = {name: p.detach().double() + 0.1 * normal(p) for name, p in model.named_parameters()}
    total = sum(p.numel() for p in params.values())
    rows = []
    for _ in range(2 + 2 * total // model(example).numel()):
        jacobian = torch.func.jacrev(lambda p, x: torch.func.functional_call(model, p, x).flatten())
        rows.append(torch.cat([part.flatten(1) for part in jacobian(params, normal(example)).values()], 1))
    values = torch.linalg.svdvals(torch.cat(rows))
    rank = int((values > 1e-10 * values[0]).sum())
    gap = (values[rank - 1] / values[rank]).item() if rank < len(values) else float("inf")
    return total - rank, gap


class Stream(nn.Module):
    """A residual stream under RMSNorm, with an eps that keeps the stream's own scale visible."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(7, 5, bias=False), nn.Linear(5, 7, bias=False)
        self.one, self.two = nn.RMSNorm(5, eps=0.1), nn.RMSNorm(5, eps=0.1)
        self.up, self.down = nn.Linear(5, 6), nn.Linear(6, 5)
        self.tied = tied
        if tied:
            del self.out

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        x = self.two(x + self.down(F.gelu(self.up(self.one(x)))))
        return x @ self.into.weight if self.tied else self.out(x)


class Attention(nn.Module):
    """Two key heads for four query heads, with or without rotary codes."""

    def __init__(self, rotary: bool) -> None:
        super().__init__()
        self.rotary = rotary
        self.q, self.out = nn.Linear(6, 16, bias=False), nn.Linear(16, 6, bias=False)
        self.k, self.v = nn.Linear(6, 8, bias=False), nn.Linear(6, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, -1, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.rotary:
            angle = torch.arange(t)[:, None] * torch.tensor([1.0, 0.3])
            angle = torch.cat((angle, angle), -1).to(x.dtype)
            q, k = (z * angle.cos() + torch.cat((-z[..., 2:], z[..., :2]), -1) * angle.sin() for z in (q, k))
        k, v = (z.repeat_interleave(2, 1) for z in (k, v))
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T) @ self.weight


def mlp() -> nn.Module:
    layers = [nn.Linear(4, 6), nn.LeakyReLU(0.3), nn.Linear(6, 5), nn.LeakyReLU(0.3), nn.Linear(5, 5), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(5, 3))


def convolutions() -> nn.Module:
    layers = [nn.Conv1d(2, 4, 3), nn.LeakyReLU(0.3), nn.Conv1d(4, 4, 3, groups=4), nn.LeakyReLU(0.3)]
    return nn.Sequential(*layers, nn.Conv1d(4, 6, 1, groups=2), nn.LeakyReLU(0.3), nn.Conv1d(6, 3, 2))


@pytest.mark.parametrize(
    ("build", "shape", "by_hand"),
    [
        (mlp, (6, 4), 6 + 5),
        (Gated, (6, 4), 5),
        (convolutions, (2, 2, 9), 4 + 4 + 6),
        (Tied, (6, 5), 3),
        (lambda: Stream(False), (6, 7), 10 + 5 + 5),
        (lambda: Stream(True), (6, 7), 5),
        (lambda: Attention(False), (2, 5, 6), 2 * 16 + 2 * 16),
        (lambda: Attention(True), (2, 5, 6), 2 * 2 * 2 + 2 * 16),
    ],
    ids=["mlp", "gated", "convolutions", "tied", "stream", "tied-stream", "attention", "rotary"],
)
def test_no_continuous_symmetry_is_missing_and_none_is_counted_twice(
    build: Callable[[], nn.Module], shape: tuple[int, ...], by_hand: int
):
    torch.manual_seed(0)
    model = build().double()
    example = torch.randn(shape, dtype=torch.float64)
    found, gap = directions(model, example)
    assert gap > 1e3
    assert derive(trace(model, example)).dimension == by_hand == found
