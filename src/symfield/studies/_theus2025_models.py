"""Small causal transformers, and the exact fold that gives them a larger symmetry.

A pre-norm decoder with layer norm or root-mean-square norm, one linear map each for queries, keys and values. The
*folded* decoder has norms without gains and biases, and computes the same function:

- a gain γ and a bias β of a norm go into the maps that read it: W → W diag(γ), b → b + W β;
- a layer norm removes the mean of the stream over its units. Every map that writes to the stream is centred,
  W → (1 − 11ᵀ/d) W, so the mean is zero at once and the layer norm is a root-mean-square norm; what reads the stream
  cannot see its mean and is centred too;
- a bias of the keys adds the same number to all scores of a query, which the softmax forgets: none is needed. A bias
  of the values passes through the weights of attention, which sum to one: it goes into the output, b_o → b_o + W_o b_v;
- a vector may pass from all tokens to all positions: the tokens are centred over the vocabulary.

The stream of the folded model may be turned by any orthogonal matrix, that of the other one permuted only.

References:
    Theus et al. 2025, arXiv 2506.22712v2 (layer norm to root-mean-square norm); Ashkboos et al. 2024, SliceGPT,
    arXiv 2401.15024 (the same step, for compression). The biases and the tokens: derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from symfield.typing import Float, Generator, Int, Params, Tensor

__all__ = ["Decoder", "Shape", "fold", "initial"]


@dataclass(frozen=True)
class Shape:
    """Sizes and kinds of a decoder.

    Attributes:
        vocabulary: number of tokens.
        context: longest sequence.
        width: d, units of the stream.
        heads: of attention.
        hidden: units between the two maps of a feed-forward layer.
        layers: blocks.
        norm: which norm.
        activation: of the feed-forward layers.
        folded: whether norms have neither gains nor biases, so that what reads them has biases instead.
    """

    vocabulary: int
    context: int
    width: int = 32
    heads: int = 4
    hidden: int = 64
    layers: int = 1
    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["gelu", "relu"] = "gelu"
    folded: bool = False


class Decoder(nn.Module):
    """A causal transformer: tokens to logits of the next token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.width
        self.shape = shape
        self.token = nn.Embedding(shape.vocabulary, d)
        self.position = nn.Embedding(shape.context, d)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = _norm(shape)
        self.head = nn.Linear(d, shape.vocabulary, bias=shape.folded)

    def forward(self, tokens: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Logits.

        Args:
            tokens: shape ``(batch, time)``.

        Returns:
            Shape ``(batch, time, vocabulary)``.
        """
        stream = self.token(tokens) + self.position.weight[: tokens.shape[-1]]
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream))


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, folded = shape.width, shape.folded
        self.heads = shape.heads
        self.before = _norm(shape)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d, bias=not folded)
        self.value = nn.Linear(d, d, bias=not folded)
        self.out = nn.Linear(d, d)
        self.between = _norm(shape)
        self.up = nn.Linear(d, shape.hidden)
        self.down = nn.Linear(shape.hidden, d)
        self.activation = {"gelu": nn.GELU, "relu": nn.ReLU}[shape.activation]()

    def forward(self, stream: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The stream after the block.

        Args:
            stream: shape ``(batch, time, width)``.

        Returns:
            The same shape.
        """
        batch, time, width = stream.shape
        seen = self.before(stream)
        query, key, value = (
            read(seen).reshape(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for read in (self.query, self.key, self.value)
        )
        scores = query @ key.mT / math.sqrt(width // self.heads)
        later = torch.ones(time, time, dtype=torch.bool, device=stream.device).triu(1)
        heard = scores.masked_fill(later, -torch.inf).softmax(-1) @ value
        stream = stream + self.out(heard.transpose(1, 2).reshape(batch, time, width))
        return stream + self.down(self.activation(self.up(self.between(stream))))


def _norm(shape: Shape) -> nn.Module:
    if shape.norm == "layer" and not shape.folded:
        return nn.LayerNorm(shape.width)
    return nn.RMSNorm(shape.width, eps=1e-5, elementwise_affine=not shape.folded)


def initial(shape: Shape, *, generator: Generator) -> Params:
    """Random parameters: Gaussian maps with variance 1/d, gains one, biases zero.

    Args:
        shape: of the decoder.
        generator: source of randomness.

    Returns:
        Parameters by name, float32.
    """
    params = {}
    for name, like in Decoder(shape).state_dict().items():
        if like.ndim == 1:
            params[name] = torch.ones_like(like) if name.endswith(".weight") else torch.zeros_like(like)
            continue
        std = 0.3 if name.startswith(("token", "position")) else like.shape[-1] ** -0.5
        params[name] = std * torch.randn(like.shape, generator=generator)
    return params


def fold(params: Params, shape: Shape) -> tuple[Params, Shape]:
    """The same function with norms that have neither gains nor biases.

    Args:
        params: of a decoder of that shape.
        shape: which is not folded yet.

    Returns:
        Parameters and shape of the folded decoder.

    Raises:
        ValueError: if the shape is folded already.
    """
    if shape.folded:
        raise ValueError("expected a decoder with gains, received one that is folded; use it as it is")
    double = {name: value.double() for name, value in params.items()}
    d = shape.width
    centre = torch.eye(d, dtype=torch.float64) - (1 / d if shape.norm == "layer" else 0.0)
    result: Params = {}

    def read(name: str, norm: str, *, bias: bool = True) -> None:
        weight = double[f"{name}.weight"]
        result[f"{name}.weight"] = weight * double[f"{norm}.weight"] @ centre
        if bias:
            given = double.get(f"{name}.bias", weight.new_zeros(len(weight)))
            shift = double.get(f"{norm}.bias")
            result[f"{name}.bias"] = given if shift is None else given + weight @ shift

    def write(name: str) -> None:
        result[f"{name}.weight"] = centre @ double[f"{name}.weight"]
        result[f"{name}.bias"] = centre @ double[f"{name}.bias"]

    shared = double["token.weight"].mean(0)
    result["token.weight"] = (double["token.weight"] - shared) @ centre
    result["position.weight"] = (double["position.weight"] + shared) @ centre
    for block in (f"blocks.{i}" for i in range(shape.layers)):
        read(f"{block}.query", f"{block}.before")
        read(f"{block}.key", f"{block}.before", bias=False)
        read(f"{block}.value", f"{block}.before")
        constant = result.pop(f"{block}.value.bias")
        write(f"{block}.out")
        result[f"{block}.out.bias"] += result[f"{block}.out.weight"] @ constant
        read(f"{block}.up", f"{block}.between")
        write(f"{block}.down")
    read("head", "norm")
    return {name: value.to(params["head.weight"]) for name, value in result.items()}, replace(shape, folded=True)
