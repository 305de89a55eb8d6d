"""Architectures of ``transformers``, built small from configurations with random weights, and their symmetries by hand.

What every transformer shares: a permutation of the heads; GL(d) on queries against keys and on values against the
output projection of each head; a permutation of each feed-forward layer; for each norm whose output is read by linear
maps alone, a scale and a sign of its gain (and bias) for each channel.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from symfield.studies._derivation_coverage_zoo import Case, Example, floats

__all__ = ["GPT2_SIZED", "TRANSFORMERS", "available"]

GPT2_SIZED = "gpt2-12-layers"


def available() -> bool:
    """Whether ``transformers`` is installed."""
    return importlib.util.find_spec("transformers") is not None


def _tokens(length: int = 6, vocabulary: int = 20) -> Tensor:
    return torch.randint(vocabulary, (2, length), generator=torch.Generator().manual_seed(7))


def _model(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """A model by the name of its class, from a configuration of the class's own kind."""

    def build() -> nn.Module:
        import transformers

        kind = getattr(transformers, name)
        return kind(kind.config_class(**settings))

    return build


def _text(**more: Any) -> Callable[[], Example]:
    return lambda: {"input_ids": _tokens(), **more}


def _image(size: int) -> Callable[[], Example]:
    return lambda: {"pixel_values": floats(2, 3, size, size)()}


_ATTENTION = {"linear": ["GL(4)^2"] * 4}
_ROTARY = {
    "vocab_size": 20, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_ENCODER = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}

#: Channels of the residual streams of MobileNetV2 at a tenth of its width, and of the hidden layers of its 16 blocks.
_STREAMS = [4, 4, 4, 6, 10, 16, 32]
_HIDDEN = [24] * 6 + [36] * 4 + [60] * 3 + [96] * 3
#: Blocks of every stream after the first: each ends in a projection onto it.
_PROJECTIONS = [4, 4, 4, 4, 4, 6, 6, 6, 6, 10, 10, 10, 16, 16, 16, 32]


def _named(letters: str, sizes: list[int]) -> list[str]:
    return [f"{letters}{size}" for size in sizes]


TRANSFORMERS = [
    Case(
        "gpt2",
        _model("GPT2LMHeadModel", vocab_size=20, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0,
               eos_token_id=0),
        _text(use_cache=False),
        {
            "permutation": ["S_8", *["S_2", "S_32"] * 2],
            **_ATTENTION,
            "scale": ["R+^8"] * 4,
            "sign": ["Z2^8"] * 4,
        },
        reason="the head is the embedding, so the last norm has no scale of its own",
    ),
    Case(
        "bert",
        _model("BertForSequenceClassification", vocab_size=20, max_position_embeddings=16, num_labels=3, **_ENCODER),
        _text(),
        {
            "permutation": ["S_8", "S_8", *["S_2", "S_12"] * 2],
            **_ATTENTION,
            "scale": ["R+^8"],
            "sign": ["Z2^8", "Z2^8"],
        },
        reason="norms come after the sum and feed the stream, but for the last; the pooler is a tanh layer",
    ),
    Case(
        "vit",
        _model("ViTForImageClassification", image_size=8, patch_size=4, num_labels=3, **_ENCODER),
        _image(8),
        {
            "permutation": ["S_8", *["S_2", "S_12"] * 2],
            **_ATTENTION,
            "scale": ["R+^8"] * 5,
            "sign": ["Z2^8"] * 5,
        },
        reason="five norms, each before linear maps",
    ),
    Case(
        "llama",
        _model("LlamaForCausalLM", **_ROTARY),
        _text(use_cache=False),
        {
            "orthogonal": ["O(16)"],
            "permutation": ["S_2", "S_2^2", "S_12"] * 2,
            "rotary": ["C*^4"] * 2,
            "linear": ["GL(4)^2"] * 2,
            "scale": ["R+^16"] * 5 + ["R+^12"] * 2,
            "sign": ["Z2^16"] * 5 + ["Z2^12"] * 2,
        },
        trap="rotary codes leave C* of GL(4) to queries and keys, one for each plane and key head",
        reason="RMS norms let the stream rotate; two query heads for a key head; gated layers scale one branch",
    ),
    Case(
        "t5",
        _model("T5ForConditionalGeneration", vocab_size=20, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2,
               decoder_start_token_id=0),
        lambda: {"input_ids": _tokens(), "decoder_input_ids": _tokens(5), "use_cache": False},
        {
            "permutation": ["S_2"] * 4 + ["S_12"] * 4,
            "linear": ["GL(4)^2"] * 12,
            "scale": ["R+^8"] * 10 + ["R+^12"] * 4,
            "sign": ["Z2^8"] * 11,
        },
        trap="all layers share the position bias of their heads; cross-attention has none",
        reason="the encoder's last state is an output and the embedding is shared, which leaves signs of the stream; "
        "heads of self-attention move together over the layers of a stack, those of cross-attention alone",
    ),
    Case(
        "convnext",
        _model("ConvNextForImageClassification", patch_size=2, num_stages=2, hidden_sizes=[4, 6], depths=[1, 1],
               num_labels=3, image_size=16),
        _image(16),
        {
            "permutation": ["S_4", "S_16", "S_6", "S_24"],
            "scale": ["R+^4"] * 3 + ["R+^6"] * 3,
            "sign": ["Z2^4"] * 3 + ["Z2^6"] * 3,
        },
        trap="channels first and channels last by turns",
        reason="for each stage a norm and a layer scale in the block, and a norm before the next stage or the head",
    ),
    Case(
        "resnet-bottleneck",
        _model("ResNetForImageClassification", embedding_size=4, hidden_sizes=[8, 16], depths=[1, 2],
               layer_type="bottleneck", num_labels=3),
        _image(16),
        {
            "permutation": ["S_4", "S_8", "S_16", *["S_2"] * 2, *["S_4"] * 4],
            "scale": ["R+^4", "R+^8", "R+^16", *["R+^2"] * 2, *["R+^4"] * 4],
            "sign": ["Z2^4", *["Z2^8"] * 2, *["Z2^16"] * 3, *["Z2^2"] * 2, *["Z2^4"] * 4],
        },
        reason="a sign for each of the 12 convolutions",
    ),
    Case(
        "mobilenetv2",
        _model("MobileNetV2ForImageClassification", image_size=32, depth_multiplier=0.1, min_depth=4,
               depth_divisible_by=2, num_labels=3),
        _image(32),
        {
            "permutation": _named("S_", [4, 1280, *_STREAMS, *_HIDDEN]),
            "scale": _named("R+^", _STREAMS),
            "sign": _named("Z2^", [4, 4, 4, 1280, *_STREAMS, *_HIDDEN, *_HIDDEN, *_PROJECTIONS]),
        },
        trap="padding before every convolution, depthwise convolutions, streams without activation",
        reason="a sign for each of the 52 convolutions; on the 7 linear streams a scale and one more sign",
    ),
    Case(
        "mixtral",
        _model("MixtralForCausalLM", num_local_experts=3, num_experts_per_tok=2, **_ROTARY),
        _text(use_cache=False),
        {
            "orthogonal": ["O(16)"],
            "permutation": ["S_2", "S_2^2", "S_3", "S_12^3"] * 2,
            "rotary": ["C*^4"] * 2,
            "linear": ["GL(4)^2"] * 2,
            "scale": ["R+^16"] * 5 + ["R+^36"] * 2,
            "sign": ["Z2^16"] * 5 + ["Z2^36"] * 2,
        },
        trap="tokens are sorted by expert",
        reason="as Llama, and the experts are permuted with the rows of the router",
    ),
    Case(
        GPT2_SIZED,
        _model("GPT2LMHeadModel"),
        lambda: {"input_ids": _tokens(16, 50257), "use_cache": False},
        {
            "permutation": ["S_768", *["S_12", "S_3072"] * 12],
            "linear": ["GL(64)^12"] * 24,
            "scale": ["R+^768"] * 24,
            "sign": ["Z2^768"] * 24,
        },
        reason="GPT-2 with 12 layers and 124 million random weights",
    ),
]  # fmt: skip
