"""Fifteen small architectures, each with the trap it holds, and the factors that a mathematician finds by hand.

Inputs and outputs are fixed. A factor is stated by its group as the library writes it: ``S_4`` heads, ``GL(2)^4`` one
matrix for each of 4 heads, ``R+^8`` and ``Z2^8`` one positive number or sign for each of 8 units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ZOO", "Case", "Example", "floats", "integers"]

Example = Tensor | tuple[Tensor, ...] | dict[str, object]


@dataclass(frozen=True)
class Case:
    """A model, an example, and its symmetry stated by hand.

    Attributes:
        name: of the model.
        build: makes the model.
        example: makes its input.
        expected: the ideal: groups by the start of the factor's name.
        trap: what a tool gets wrong here.
        reason: why the ideal is what it is, beyond one permutation for each hidden layer.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], Example]
    expected: Mapping[str, Sequence[str]]
    trap: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return self.name


def floats(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(7))


def integers(high: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(high, shape, generator=torch.Generator().manual_seed(7))


def mlp(activation: type[nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        sizes = [5, 8, 7, 6]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), activation())]
        return nn.Sequential(*layers, nn.Linear(6, 3))

    return build


def conv_bn_flatten() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 4),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        project = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.short = project if inner != outer or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.short(x))


class ResNet(nn.Module):
    """A residual stream for each stage: six blocks, three streams, nine permutations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        blocks = [BasicBlock(4, 4), BasicBlock(4, 4), BasicBlock(4, 6, 2), BasicBlock(6, 6), BasicBlock(6, 8, 2)]
        self.blocks = nn.Sequential(*blocks, BasicBlock(8, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and a residual onto the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU6())

        def block() -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
                nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
                nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4),
            )  # fmt: skip

        self.one, self.two, self.head = block(), block(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.one(x)
        x = x + self.two(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class DenseNet(nn.Module):
    """Concatenation: offsets into the channels of later layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.two, self.head = nn.Conv2d(9, 6, 3, padding=1), nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([x, torch.relu(self.one(x))], 1)
        x = torch.cat([x, torch.relu(self.two(x))], 1)
        return self.head(x.mean((2, 3)))


def group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12), nn.GELU(), nn.Conv2d(12, 8, 3), nn.GroupNorm(4, 8), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


class Norm(nn.Module):
    """RMSNorm as transformers write it, operator by operator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Block(nn.Module):
    """Causal attention with a fused projection, and a GELU layer."""

    def __init__(self, width: int, heads: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = norm(width), norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) / (c // self.heads) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Two blocks between an embedding and a head that may be the embedding again."""

    def __init__(self, norm: Callable[[int], nn.Module], tied: bool) -> None:
        super().__init__()
        width = 8
        self.token, self.position = nn.Embedding(11, width), nn.Embedding(9, width)
        self.blocks = nn.ModuleList(Block(width, 4, norm) for _ in range(2))
        self.norm, self.head = norm(width), nn.Linear(width, 11, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Encoder(nn.Module):
    """PyTorch's own encoder between two linear maps, so that its stream is free."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.up, self.down = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.encoder(self.up(x)))


class SwiGLU(nn.Module):
    """A residual onto the raw input, whose axis cannot move."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(5, 9), nn.Linear(5, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class GCN(nn.Module):
    """Dense message passing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = torch.relu(adjacency @ self.one(x))
        return self.head(torch.relu(adjacency @ self.two(x)).mean(0))


class LSTM(nn.Module):
    """Four gates in one matrix; the last output alone is read."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class TiedAutoencoder(nn.Module):
    """One matrix, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(6, 9))
        self.hidden, self.visible = nn.Parameter(torch.empty(6)), nn.Parameter(torch.empty(9))
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(x, self.weight, self.hidden)), self.weight.t(), self.visible)


HIDDEN = ["S_8", "S_7", "S_6"]

#: Attention and GELU layers of the two blocks: 4 heads of 2 channels, 16 units.
BLOCKS = {"permutation": ["S_4", "S_16"] * 2, "linear": ["GL(2)^4"] * 4}
GPT_FACTORS = {"permutation": ["S_8", *BLOCKS["permutation"]], "linear": BLOCKS["linear"]}

ZOO = [
    Case(
        "mlp-relu",
        mlp(nn.ReLU),
        floats(4, 5),
        {"permutation": ["S_8", "S_7", "S_6"], "scale": ["R+^8", "R+^7", "R+^6"]},
        reason="relu is homogeneous: a positive scale for each unit",
    ),
    Case(
        "mlp-tanh",
        mlp(nn.Tanh),
        floats(4, 5),
        {"permutation": ["S_8", "S_7", "S_6"], "sign": ["Z2^8", "Z2^7", "Z2^6"]},
        reason="tanh is odd: a sign for each unit",
    ),
    Case(
        "conv-bn-flatten",
        conv_bn_flatten,
        floats(2, 3, 8, 8),
        {"permutation": ["S_6", "S_8", "S_10"], "scale": ["R+^6", "R+^8", "R+^10"], "sign": ["Z2^6", "Z2^8"]},
        trap="flatten after a convolution; running statistics are buffers",
        reason="a gain undoes the sign of its convolution, the next weight the scale of the gain",
    ),
    Case(
        "resnet",
        ResNet,
        floats(2, 3, 8, 8),
        {
            "permutation": ["S_4"] * 3 + ["S_6"] * 3 + ["S_8"] * 3,
            "scale": ["R+^4"] * 3 + ["R+^6"] * 3 + ["R+^8"] * 3,
            "sign": ["Z2^4"] * 5 + ["Z2^6"] * 5 + ["Z2^8"] * 5,
        },
        trap="residual streams join many layers; running statistics are buffers",
        reason="six blocks and three streams; a sign for each of the 15 convolutions",
    ),
    Case(
        "inverted-residual",
        InvertedResidual,
        floats(2, 3, 8, 8),
        {"permutation": ["S_4", "S_8", "S_8"], "sign": ["Z2^4"] * 3 + ["Z2^8"] * 4},
        trap="depthwise convolution",
        reason="relu6 is not homogeneous; a sign for each of the 7 convolutions with batch norm",
    ),
    Case(
        "densenet",
        DenseNet,
        floats(2, 3, 6, 6),
        {"permutation": ["S_4", "S_5", "S_6"], "scale": ["R+^4", "R+^5", "R+^6"]},
        trap="offsets of a concatenation",
    ),
    Case(
        "groupnorm",
        group_norm,
        floats(2, 3, 8, 8),
        {"permutation": ["S_4", "S_3^4", "S_4", "S_2^4"]},
        trap="channels may not leave their group: a wreath product",
        reason="groups are permuted, and the channels of each",
    ),
    Case(
        "gpt-untied",
        lambda: GPT(nn.LayerNorm, False),
        integers(11, 2, 6),
        {
            "permutation": ["S_8", *BLOCKS["permutation"]],
            "linear": BLOCKS["linear"],
            "scale": ["R+^8"] * 5,
            "sign": ["Z2^8"] * 5,
        },
        trap="q, k and v in one matrix; integer inputs",
        reason="gain and bias of the five layer norms against the next weight",
    ),
    Case(
        "gpt-tied-layernorm",
        lambda: GPT(nn.LayerNorm, True),
        integers(11, 2, 6),
        {
            "permutation": ["S_8", *BLOCKS["permutation"]],
            "linear": BLOCKS["linear"],
            "scale": ["R+^8"] * 4,
            "sign": ["Z2^8"] * 4,
        },
        trap="the head is the embedding",
        reason="the last norm has no scale of its own, because its next weight is the embedding",
    ),
    Case(
        "gpt-tied-rmsnorm",
        lambda: GPT(Norm, True),
        integers(11, 2, 6),
        {
            "permutation": ["S_8", *BLOCKS["permutation"]],
            "linear": BLOCKS["linear"],
            "scale": ["R+^8"] * 4,
            "sign": ["Z2^8"] * 5,
        },
        trap="a norm written operator by operator; the head is the embedding",
        reason="the stream has signs besides, but no rotation: the tied head meets the last gain",
    ),
    Case(
        "transformer-encoder",
        Encoder,
        floats(2, 5, 3),
        {
            "permutation": ["S_8", *BLOCKS["permutation"]],
            "linear": BLOCKS["linear"],
            "scale": ["R+^8", "R+^16", "R+^16"],
            "sign": ["Z2^8"],
        },
        trap="PyTorch's fused path hides the operators",
        reason="relu layers, and the last norm against the head; the other norms feed the stream",
    ),
    Case(
        "swiglu-on-raw-input",
        SwiGLU,
        floats(4, 5),
        {"permutation": ["S_9"], "scale": ["R+^9"], "sign": ["Z2^9"]},
        trap="a residual onto an input, which no permutation may move",
        reason="the upper branch is linear up to the next weight",
    ),
    Case(
        "gcn",
        GCN,
        lambda: (floats(7, 4)(), floats(7, 7)().abs()),
        {"permutation": ["S_6", "S_5"], "scale": ["R+^6", "R+^5"]},
        trap="a product over nodes between the layers",
    ),
    Case(
        "lstm",
        LSTM,
        floats(2, 4, 3),
        {"permutation": ["S_5"], "sign": ["Z2^5"]},
        trap="four gates in one axis, and the state feeds back",
        reason="a sign of the cell passes through tanh",
    ),
    Case(
        "tied-autoencoder",
        TiedAutoencoder,
        floats(4, 9),
        {"permutation": ["S_6"], "sign": ["Z2^6"]},
        trap="one matrix for both layers",
    ),
]
