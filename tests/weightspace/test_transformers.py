"""Architectures that nobody here wrote, at random weights: right always; complete, or the missing factor is named."""

from __future__ import annotations

import pytest
import torch
from tests.weightspace.test_zoo import groups

from symfield.weightspace import symmetries

hf = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")

TOKENS = torch.tensor([[3, 14, 15, 9, 2, 6, 5], [35, 8, 9, 7, 9, 3, 2]])
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}


def times(count: int, **kinds: list[str]) -> dict[str, list[str]]:
    return {kind: names * count for kind, names in kinds.items()}


def plus(*parts: dict[str, list[str]]) -> dict[str, list[str]]:
    kinds = [kind for part in parts for kind in part]
    return {kind: sorted(name for part in parts for name in part.get(kind, [])) for kind in kinds}


def gpt2():
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=4, use_cache=False)
    )


def bert():
    return hf.BertForMaskedLM(
        hf.BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
            max_position_embeddings=16,
        )
    )  # fmt: skip


def vit():
    return hf.ViTForImageClassification(
        hf.ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, image_size=32,
            patch_size=16, num_labels=3,
        )
    )  # fmt: skip


def llama():
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, intermediate_size=24, num_hidden_layers=2, use_cache=False))


def qwen3():
    config = hf.Qwen3Config(**SMALL, intermediate_size=24, num_hidden_layers=1, head_dim=8, use_cache=False)
    return hf.Qwen3ForCausalLM(config)


def mixtral(implementation: str | None = None):
    config = hf.MixtralConfig(
        **SMALL, intermediate_size=24, num_hidden_layers=1, num_local_experts=4, num_experts_per_tok=2, use_cache=False
    )
    model = hf.MixtralForCausalLM(config)
    if implementation:
        model.set_experts_implementation(implementation)
    return model


def t5():
    return hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, use_cache=False)
    )


def convnext():
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, num_labels=3)
    )


def resnet():
    return hf.ResNetForImageClassification(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck", num_labels=3)
    )


def mobilenet():
    config = hf.MobileNetV2Config(depth_multiplier=0.25, num_labels=3, image_size=32, finegrained_output=False)
    return hf.MobileNetV2ForImageClassification(config)


#: One GELU block with 4 heads: heads, hidden units, queries with keys, values with outputs.
GELU_BLOCK = {"permutation": ["S_4", "S_24"], "linear": ["GL(4)^4"] * 2}
#: One block of Llama with 2 key heads for 4 query heads, rotary codes on 4 frequencies, and its gains.
LLAMA_BLOCK = {
    "permutation": ["S_2", "S_2^2"],
    "rotary": ["C*^8"],
    "linear": ["GL(8)^2"],
    "scale": ["R+^32"] * 2,
    "sign": ["Z2^32"] * 2,
}
#: A stream that rotates, and the last gain against the head.
LLAMA_STREAM = {"orthogonal": ["O(32)"], "scale": ["R+^32"], "sign": ["Z2^32"]}

CASES = {
    "gpt2": (
        gpt2,
        {"input_ids": TOKENS},
        plus(
            times(2, permutation=["S_4", "S_64"], linear=["GL(4)^4"] * 2, scale=["R+^16"] * 2, sign=["Z2^16"] * 2),
            {"permutation": ["S_16"]},
        ),
    ),
    # The norms feed the stream but for the last, which meets one dense layer.
    "bert": (
        bert,
        {"input_ids": TOKENS},
        plus(times(2, **GELU_BLOCK), {"permutation": ["S_16"], "scale": ["R+^16"], "sign": ["Z2^16"]}),
    ),
    "vit": (
        vit,
        {"pixel_values": IMAGES},
        plus(times(2, **GELU_BLOCK), {"permutation": ["S_16"]}, times(5, scale=["R+^16"], sign=["Z2^16"])),
    ),
    "llama": (
        llama,
        {"input_ids": TOKENS},
        plus(times(2, **LLAMA_BLOCK), LLAMA_STREAM, times(2, permutation=["S_24"], scale=["R+^24"], sign=["Z2^24"])),
    ),
    "mixtral": (
        lambda: mixtral("batched_mm"),
        {"input_ids": TOKENS},
        plus(LLAMA_BLOCK, LLAMA_STREAM, {"permutation": ["S_4", "S_24^4"], "scale": ["R+^96"], "sign": ["Z2^96"]}),
    ),
    # The stages: a stem of 8 channels, a depthwise block, 12 channels, a depthwise block.
    "convnext": (
        convnext,
        {"pixel_values": IMAGES},
        {
            "permutation": ["S_12", "S_32", "S_48", "S_8"],
            "scale": ["R+^12"] * 3 + ["R+^8"] * 3,
            "sign": ["Z2^12"] * 3 + ["Z2^8"] * 3,
        },
    ),
    # Bottlenecks of 8/4 and 16/4 channels; a sign for each convolution that a batch norm follows.
    "resnet": (
        resnet,
        {"pixel_values": IMAGES},
        {
            "permutation": ["S_16", "S_2", "S_2", "S_4", "S_4", "S_8"],
            "scale": ["R+^16", "R+^2", "R+^2", "R+^4", "R+^4", "R+^8"],
            "sign": ["Z2^16"] * 2 + ["Z2^2"] * 2 + ["Z2^4"] * 2 + ["Z2^8"] * 2,
        },
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in {"gpt2", "llama"} else pytest.mark.slow) for n in CASES]
)
def test_the_factors_of_published_architectures_are_complete(name):
    torch.manual_seed(0)
    build, example, expected = CASES[name]
    symmetry = symmetries(build(), example)
    assert groups(symmetry) == {kind: sorted(names) for kind, names in expected.items()}
    assert symmetry.report.certified
    assert symmetry.report.unknown == ()
    assert max(check.error for check in symmetry.report.checks) < 1e-12


def test_the_streams_of_an_encoder_and_a_decoder_are_one_where_they_share_their_embedding():
    torch.manual_seed(0)
    example = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :5]}
    fixed, freed = symmetries(t5(), example), symmetries(t5(), example, free={"output.1": (2,)})
    # The model also returns the encoder's last state, which fixes the stream unless it is freed.
    assert "S_16" not in groups(fixed)["permutation"]
    assert groups(freed)["permutation"].count("S_16") == 1
    # Heads: the layers of each stack share their position bias; the decoder's cross attention has none.
    assert groups(freed)["permutation"].count("S_4") == 2 + 2
    assert groups(freed)["linear"] == ["GL(4)^4"] * 12
    for symmetry in (fixed, freed):
        assert symmetry.report.certified
        assert symmetry.report.unknown == ()


@pytest.mark.slow
def test_depthwise_residual_networks_are_complete():
    torch.manual_seed(0)
    model = mobilenet()
    symmetry = symmetries(model, {"pixel_values": IMAGES})
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    found = groups(symmetry)
    # Every convolution before a batch norm has signs. Seven blocks end in a linear bottleneck: its stream has a scale
    # and a second sign, the gain against the next weight. relu6 has no scale; the last one feeds it and the classifier.
    assert len(found["sign"]) == norms + 7
    assert len(found["scale"]) == 7
    assert symmetry.report.certified
    assert symmetry.report.unknown == ()
    assert symmetry.coverage > 0.999


@pytest.mark.slow
def test_what_is_missing_is_named():
    torch.manual_seed(0)
    symmetry = symmetries(mixtral(), {"input_ids": TOKENS})
    assert symmetry.report.certified
    assert any("grouped_mm" in item.operator for item in symmetry.report.unknown)
    symmetry = symmetries(qwen3(), {"input_ids": TOKENS})
    assert symmetry.report.certified
    assert any("rotary codes after norms" in note for note in symmetry.report.notes)


@pytest.mark.slow
def test_gpt2_at_its_full_size_is_complete():
    """Its CPU seconds are a verdict of derivation_coverage."""
    from symfield.weightspace import derive, trace

    model = hf.GPT2LMHeadModel(hf.GPT2Config(use_cache=False))
    symmetry = derive(trace(model, {"input_ids": TOKENS}))
    assert len(symmetry.factors) == 97
    assert symmetry.coverage > 0.999
