"""Layer norms as root-mean-square norms: the same function, one more symmetry; or the reason why not."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from symfield.weightspace import align, fold_norms, symmetries

X = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))


def generic(model: nn.Module, seed: int = 0) -> nn.Module:
    """Gains that are not one, biases that are not zero."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p * (0.2 * torch.randn(p.shape, generator=draw)).exp() + 0.1 * torch.randn(p.shape, generator=draw))
    return model.eval()


class Block(nn.Module):
    """A feed-forward layer in a residual stream, with the norm before it or after the addition."""

    def __init__(self, d: int, *, after: bool = False, head_bias: bool = True) -> None:
        super().__init__()
        self.into, self.norm, self.up, self.down = nn.Linear(5, d), nn.LayerNorm(d), nn.Linear(d, 7), nn.Linear(7, d)
        self.last, self.head, self.after = nn.LayerNorm(d), nn.Linear(d, 2, bias=head_bias), after

    def write(self, x):
        return self.into(x)

    def forward(self, x):
        x = self.write(x)
        x = self.norm(x + self.down(self.up(x).relu())) if self.after else x + self.down(self.up(self.norm(x)).relu())
        return self.head(self.last(x))


def same_function(one: nn.Module, two: nn.Module, *inputs: torch.Tensor) -> bool:
    """Float64, at inputs that the certificate did not use."""
    one, two = (copy.deepcopy(model).double().eval() for model in (one, two))
    with torch.no_grad():
        return all(torch.allclose(one(x.double()), two(x.double()), 1e-4, 1e-5) for x in inputs)


def orthogonal(model: nn.Module, x) -> list[str]:
    return [factor.group for factor in symmetries(model, x).factors if factor.kind == "orthogonal"]


@pytest.mark.parametrize("head_bias", [True, False])
def test_a_stream_before_its_norms_folds_and_can_be_turned(head_bias):
    model = generic(Block(8, head_bias=head_bias))
    folded = fold_norms(model, X)
    assert folded.complete
    assert folded.change < 1e-13
    assert same_function(model, folded.model, 3 * X.flip(0), X + 1)
    assert orthogonal(model, X) == []
    assert orthogonal(folded.model, X) == ["O(8)"]
    assert folded.added == (() if head_bias else ("head.bias",))
    assert not any(isinstance(module, nn.LayerNorm) for module in folded.model.modules())


def test_the_fold_is_the_one_written_down_by_hand():
    model = generic(Block(8)).double()
    found = fold_norms(model, X.double()).model.state_dict()
    centre = torch.eye(8, dtype=torch.float64) - 1 / 8
    p = model.state_dict()
    by_hand = {
        "into.weight": centre @ p["into.weight"],
        "into.bias": centre @ p["into.bias"],
        "up.weight": p["up.weight"] * p["norm.weight"] @ centre,
        "up.bias": p["up.bias"] + p["up.weight"] @ p["norm.bias"],
        "down.weight": centre @ p["down.weight"],
        "down.bias": centre @ p["down.bias"],
        "head.weight": p["head.weight"] * p["last.weight"] @ centre,
        "head.bias": p["head.bias"] + p["head.weight"] @ p["last.bias"],
    }
    assert found.keys() == by_hand.keys()
    for name, value in by_hand.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)


def test_the_model_is_not_modified():
    model = generic(Block(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold_norms(model, X)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model.norm, nn.LayerNorm)


def test_a_norm_after_the_addition_stays_and_is_named():
    folded = fold_norms(generic(Block(8, after=True)), X)
    assert not folded.complete
    assert [norm.module for norm in folded.kept] == ["norm", "last"]
    assert "linear in up reads it too" in folded.kept[0].reason
    assert "layer_norm in norm writes into what it reads" in folded.kept[1].reason
    assert "norm: stays a layer norm" in str(folded)


class Activated(Block):
    def write(self, x):
        return self.into(x).tanh()


class Shifted(Block):
    def write(self, x):
        return self.into(x) + 1.0


class Constant(Block):
    def write(self, x):
        return self.into(x) + torch.arange(8.0).to(x)


class Even(Block):
    """Adds positions that have mean zero already."""

    def __init__(self, d: int) -> None:
        super().__init__(d)
        self.register_buffer("positions", torch.arange(d) - (d - 1) / 2, persistent=False)

    def write(self, x):
        return self.into(x) + self.positions


class Scaled(Block):
    def __init__(self, d: int) -> None:
        super().__init__(d)
        self.scale = nn.Parameter(torch.ones(d))

    def write(self, x):
        return self.into(x) * self.scale


class Peeking(Block):
    def forward(self, x):
        x = self.into(x)
        return self.head(self.last(x + self.down(self.up(self.norm(x)).relu()))), x.amax(-1)


class Returning(Block):
    def forward(self, x):
        x = self.into(x)
        return self.last(x + self.down(self.up(self.norm(x)).relu())), x


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Activated, "tanh writes into what it reads"),
        (Shifted, "add writes into what it reads"),
        (Constant, "writes into what it reads"),
        (Scaled, "mul writes into what it reads"),
        (Peeking, "amax reads it too"),
        (Returning, "the model returns what it reads"),
    ],
)
def test_a_stream_that_cannot_be_centred_is_named_with_what_stands_in_the_way(kind, reason):
    model = generic(kind(8))
    folded = fold_norms(model, X)
    assert folded.norms == ()
    assert all(reason in norm.reason for norm in folded.kept)
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in folded.model.state_dict().items())


def test_constants_with_mean_zero_do_no_harm():
    model = generic(Even(8))
    folded = fold_norms(model, X)
    assert folded.complete
    assert same_function(model, folded.model, X + 1)


def test_a_norm_that_more_than_linear_maps_read_keeps_its_gain():
    class Bent(Block):
        def forward(self, x):
            x = self.into(x)
            return self.head(self.last(x + self.down(self.up(self.norm(x).tanh()))))

    model = generic(Bent(8))
    folded = fold_norms(model, X)
    assert folded.complete
    assert [bool(norm.kept) for norm in folded.norms] == [True, False]
    assert "tanh reads what it gives" in folded.norms[0].kept
    assert torch.equal(folded.model.norm.weight, model.norm.weight)
    assert same_function(model, folded.model, X + 1)


class Tied(nn.Module):
    """Tokens, positions by a slice of a table, one block, a head that is the embedding."""

    def __init__(self, d: int = 8) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(11, d), nn.Embedding(9, d)
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 7), nn.Linear(7, d)
        self.last, self.head = nn.LayerNorm(d), nn.Linear(d, 11, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight[: tokens.shape[-1]]
        return self.head(self.last(x + self.down(self.up(self.norm(x)).relu())))


TOKENS = torch.tensor([[1, 4, 1, 5, 9], [2, 6, 5, 3, 10]])


def test_a_tied_embedding_stays_tied_where_the_last_gain_is_one():
    torch.manual_seed(0)
    folded = fold_norms(Tied(), TOKENS)
    assert folded.untied == ()
    assert folded.model.head.weight is folded.model.token.weight
    assert orthogonal(folded.model, TOKENS) == ["O(8)"]


def test_a_tied_embedding_becomes_two_where_it_must():
    model = generic(Tied())
    folded = fold_norms(model, TOKENS)
    assert folded.untied == ("head.weight",)
    assert folded.change < 1e-13
    assert orthogonal(folded.model, TOKENS) == ["O(8)"]
    assert model.head.weight is model.token.weight
    kept = fold_norms(model, TOKENS, untie=False)
    assert kept.norms == ()
    assert all("token.weight" in norm.reason for norm in kept.kept)


def test_models_of_one_architecture_fold_alike_where_asked():
    torch.manual_seed(0)
    one, two = (fold_norms(m, TOKENS, untie=True).model for m in (Tied(), generic(Tied())))
    assert one.state_dict().keys() == two.state_dict().keys()
    assert one.head.weight is not one.token.weight


def test_one_map_that_reads_two_norms_leaves_their_gains():
    class Shared(Block):
        def forward(self, x):
            x = self.into(x)
            x = x + self.down(self.up(self.norm(x)).relu())
            return self.head((self.up(self.last(x))).relu() @ torch.ones(7, 8).to(x))

    model = generic(Shared(8))
    folded = fold_norms(model, X)
    assert folded.complete
    assert any("up.weight has uses that ask for different values" in norm.kept for norm in folded.norms)
    assert same_function(model, folded.model, X + 1)


def test_a_norm_that_is_called_twice_folds_only_as_a_whole():
    class Twice(Block):
        def forward(self, x):
            x = self.into(x)
            x = x + self.down(self.up(self.norm(x)).relu())
            return self.head(self.last(self.norm(x).tanh()))

    folded = fold_norms(generic(Twice(8)), X)
    assert [norm.module for norm in folded.norms] == ["norm"]
    assert "tanh reads what it gives" in folded.norms[0].kept
    assert folded.kept[0].module == "last"


def test_convolutions_write_and_padding_keeps_the_bias_where_it_is():
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
            self.mix, self.out = nn.Conv1d(8, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            x = self.cut(x).flatten(2).transpose(1, 2)
            return self.out(self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2).relu())

    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    model = generic(Patches())
    folded = fold_norms(model, images)
    assert folded.complete
    assert "zeros beside the values" in folded.norms[0].kept
    assert same_function(model, folded.model, images + 1)


def test_norms_of_others_classes_fold_and_functional_ones_are_named():
    class Own(nn.Module):
        def __init__(self, d: int) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

        def forward(self, x):
            return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-3)

    model = Block(8)
    model.norm, model.last = Own(8), Own(8)
    folded = fold_norms(generic(model), X)
    assert folded.complete
    assert folded.model.norm.eps == 1e-3

    class Inline(Block):
        def forward(self, x):
            return self.head(nn.functional.layer_norm(self.into(x), (8,)))

    assert "module of its own" in fold_norms(generic(Inline(8)), X).kept[0].reason


def test_encoder_layers_of_torch_fold_and_run_without_their_fused_path():
    layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=True, batch_first=True)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.LayerNorm(8), nn.Linear(8, 3)
    )
    folded = fold_norms(generic(model), X)
    assert folded.complete
    with torch.inference_mode():
        assert torch.allclose(folded.model(X), model(X), atol=1e-4)
    assert orthogonal(folded.model, X) == ["O(8)"]


def test_two_models_that_differ_by_a_rotation_of_the_folded_stream_come_back():
    model = fold_norms(generic(Block(8)), X).model.double()
    symmetry = symmetries(model, X.double())
    params = dict(model.state_dict())
    element = symmetry.random_element(generator=torch.Generator().manual_seed(2))
    moved = symmetry.apply(params, element)
    found = align(params, moved, symmetry)
    assert found.before.cosine < 0.5
    assert found.after.cosine > 1 - 1e-8
    assert math.isfinite(found.after.squared_distance)


def test_the_fold_of_the_study_is_this_one_but_for_biases_that_attention_forgets():
    from symfield.studies._theus2025_models import Decoder, Shape, fold

    shape = Shape(vocabulary=11, context=9, width=8, heads=2, hidden=12)
    model = generic(Decoder(shape)).double()
    by_hand, _ = fold(dict(model.state_dict()), shape)
    found = fold_norms(model, TOKENS).model.state_dict()
    assert set(found) - set(by_hand) == {"blocks.0.key.bias", "blocks.0.value.bias"}
    differ = {
        "token.weight",
        "position.weight",
        "blocks.0.out.bias",
    }  # a vector from tokens to positions, and W b of values
    for name in set(by_hand) - differ:
        torch.testing.assert_close(found[name], by_hand[name], rtol=0, atol=1e-12)
    shift = by_hand["position.weight"] - found["position.weight"]
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        found["token.weight"] - by_hand["token.weight"], shift[:1].expand(11, -1), rtol=0, atol=1e-12
    )
    carried = found["blocks.0.out.bias"] + found["blocks.0.out.weight"] @ found["blocks.0.value.bias"]
    torch.testing.assert_close(carried, by_hand["blocks.0.out.bias"], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", [False, True])
def test_gpt2_folds_with_its_embedding_and_can_be_turned(trained):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=4, use_cache=False, bos_token_id=1, eos_token_id=1
    )
    model = hf.GPT2LMHeadModel(config).eval()
    model = generic(model) if trained else model
    example = {"input_ids": torch.tensor([[3, 14, 15, 9, 2, 6, 5], [35, 8, 9, 7, 9, 3, 2]])}
    folded = fold_norms(model, example)
    assert folded.complete
    assert folded.change < 1e-12
    assert folded.untied == (("lm_head.weight",) if trained else ())
    assert folded.added == ("lm_head.bias",)
    assert folded.model.config.tie_word_embeddings is not trained
    symmetry = symmetries(folded.model, example)
    assert symmetry.report.certified
    assert [factor.group for factor in symmetry.factors if factor.kind == "orthogonal"] == ["O(16)"]
    with torch.no_grad():
        one, two = (m(**example).logits for m in (model, folded.model))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vit_folds_and_bert_whose_norms_follow_the_additions_does_not():
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    vit = generic(hf.ViTForImageClassification(hf.ViTConfig(**sizes, image_size=32, patch_size=16, num_labels=3)))
    images = {"pixel_values": torch.randn(2, 3, 32, 32)}
    folded = fold_norms(vit, images)
    assert folded.complete
    assert orthogonal(folded.model, images) == ["O(16)"]
    bert = generic(hf.BertForMaskedLM(hf.BertConfig(**sizes, vocab_size=50, max_position_embeddings=16)))
    folded = fold_norms(bert, {"input_ids": TOKENS})
    assert folded.norms == ()
    assert len(folded.kept) == 6
