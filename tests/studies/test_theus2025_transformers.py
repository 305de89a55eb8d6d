"""Small transformers: the fold is exact, the derived group is larger after it, and alignment undoes what it should."""

from __future__ import annotations

import math

import pytest
import torch

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, FieldError
from symfield.studies import theus2025_transformers as study
from symfield.studies._theus2025_matching import Refinement, balanced, permutations
from symfield.studies._theus2025_models import Decoder, Shape, fold, initial
from symfield.studies._theus2025_sources import ALPHABET, Grammar, Markov
from symfield.studies._theus2025_training import losses, train
from symfield.trees import stack, unstack
from symfield.weightspace import (
    GeneralLinear,
    Orthogonal,
    Permutation,
    WeightMatching,
    align,
    barrier,
    certify,
    curve,
    symmetries,
)

QUICKLY = WeightMatching(tolerance=1e-2)
TOKENS = torch.randint(6, (3, 5), generator=torch.Generator().manual_seed(4))


def shaped(**changes) -> Shape:
    return Shape(**{"vocabulary": 6, "context": 5, "width": 8, "heads": 2, "hidden": 12, **changes})


def generic(shape: Shape, seed: int = 0):
    """Random parameters whose gains and biases are not those of a fresh model; float64."""
    generator = torch.Generator().manual_seed(seed)
    params = initial(shape, generator=generator)
    return {
        name: (value + 0.3 * torch.randn(value.shape, generator=generator)).double() for name, value in params.items()
    }


def module(params, shape: Shape) -> Decoder:
    model = Decoder(shape).double()
    model.load_state_dict(params)
    return model


@pytest.fixture(scope="module")
def folded():
    params, shape = fold(generic(shaped()), shaped())
    return params, shape, symmetries(module(params, shape), TOKENS)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_fold_keeps_the_function_and_leaves_no_gains(norm, activation):
    shape = shaped(norm=norm, activation=activation, layers=2)
    params = generic(shape)
    lean, lean_shape = fold(params, shape)
    assert torch.allclose(module(lean, lean_shape)(TOKENS), module(params, shape)(TOKENS), atol=1e-12, rtol=1e-12)
    assert not [name for name in lean if "norm" in name or "before" in name or "between" in name]
    with pytest.raises(ValueError, match="use it as it is"):
        fold(lean, lean_shape)


def test_the_stream_of_a_folded_layer_norm_has_no_mean(folded):
    params, _, _ = folded
    for name, value in params.items():
        if name in ("token.weight", "position.weight"):
            assert value.mean(1).abs().max() < 1e-14
        elif name.split(".")[-2] in ("out", "down"):
            assert value.mean(0).abs().max() < 1e-14
        elif name.endswith(("query.weight", "up.weight", "head.weight")):
            assert value.mean(1).abs().max() < 1e-14


def test_a_layer_norm_is_no_rms_norm_where_the_stream_is_not_centred():
    """Without the centring of the fold the two norms differ: the step is needed."""
    params, shape = generic(shaped()), shaped()
    lean, lean_shape = fold(params, shape)
    lean["position.weight"] = lean["position.weight"] + 1.0
    change = module(lean, lean_shape)(TOKENS) - module(params, shape)(TOKENS)
    assert change.abs().max() > 1e-2


@pytest.mark.parametrize("norm", ["layer", pytest.param("rms", marks=pytest.mark.slow)])
def test_the_fold_frees_the_stream(norm):
    shape = shaped(norm=norm)
    params = generic(shape)
    before = symmetries(module(params, shape), TOKENS)
    lean, lean_shape = fold(params, shape)
    after = symmetries(module(lean, lean_shape), TOKENS)
    assert before.report.certified
    assert after.report.certified
    (stream,) = [factor for factor in after.factors if isinstance(factor, Orthogonal)]
    assert stream.size == shape.width
    assert not any(slot.move.gains for slot in after.slots(stream.name))
    kinds = sorted(factor.group for factor in after.factors)
    assert kinds == ["GL(4)^2", "GL(4)^2", "O(8)", "S_12", "S_2"]
    if norm == "layer":
        assert not any(isinstance(factor, Orthogonal) for factor in before.factors)


@pytest.mark.parametrize(("norm", "folds"), [("layer", False), ("rms", False), ("layer", True)])
def test_permutations_inside_the_symmetry_are_certified(norm, folds):
    shape = shaped(norm=norm, activation="relu")
    params = generic(shape)
    if folds:
        params, shape = fold(params, shape)
    model = module(params, shape)
    small = certify(model, TOKENS, permutations(symmetries(model, TOKENS)))
    assert small.report.certified
    assert small.report.rejected == ()
    assert all(isinstance(factor, Permutation) for factor in small.factors)
    assert sorted(factor.group for factor in small.factors) == ["S_12", "S_2", "S_4^2", "S_4^2", "S_8"]


def test_the_balanced_gauge_has_equal_gram_matrices_and_the_least_norm(folded):
    params, shape, symmetry = folded
    even = balanced(params, symmetry)
    assert torch.allclose(module(even, shape)(TOKENS), module(params, shape)(TOKENS), atol=1e-11)
    generator = torch.Generator().manual_seed(1)
    for factor in symmetry.factors:
        if isinstance(factor, GeneralLinear):
            gram = {1: 0.0, -1: 0.0}
            for face in symmetry.unfold(even, factor.name):
                gram[face.slot.move.power] = gram[face.slot.move.power] + face.values @ face.values.mT
            assert torch.allclose(gram[1], gram[-1], rtol=1e-6, atol=1e-6)
    norm = sum(float(value.square().sum()) for value in even.values())
    names = [factor.name for factor in symmetry.factors if isinstance(factor, GeneralLinear)]
    for _ in range(5):
        element = symmetry.random_element(generator=generator)
        other = symmetry.apply(even, {name: element[name] for name in names})
        assert sum(float(value.square().sum()) for value in other.values()) > norm


def test_alignment_undoes_a_planted_element_of_the_whole_group(folded):
    params, shape, symmetry = folded
    goal = module(params, shape)(TOKENS).detach()
    off = lambda p: (torch.func.functional_call(Decoder(shape), p, (TOKENS,)) - goal).square().mean()  # noqa: E731
    moved = symmetry.apply(params, symmetry.random_element(generator=torch.Generator().manual_seed(0)))
    a, b = balanced(params, symmetry), balanced(moved, symmetry)
    found = align(a, b, symmetry, method=QUICKLY)
    assert float(barrier(curve(a, b, off, points=3))) > 0.1
    assert found.before.cosine < 0.5
    assert found.after.cosine > 1 - 1e-6
    assert float(barrier(curve(a, found.params, off, points=3))) < 1e-6


def test_permutations_alone_do_not_undo_a_rotation(folded):
    params, _, symmetry = folded
    (stream,) = [factor.name for factor in symmetry.factors if isinstance(factor, Orthogonal)]
    element = {stream: symmetry[stream].random_element(generator=torch.Generator().manual_seed(0))}
    found = align(params, symmetry.apply(params, element), permutations(symmetry))
    assert found.after.cosine < 0.9


def test_refinement_lowers_the_loss_between_two_models_and_keeps_the_function():
    shape = shaped()
    data = Markov(tokens=6).sample(64, 6, generator=torch.Generator().manual_seed(0))
    one, two = unstack(train(shape, data, seeds=(0, 1), steps=40, batch=16, rate=1e-2))
    (a, lean), (b, _) = fold(one, shape), fold(two, shape)
    model = Decoder(lean)
    model.load_state_dict(a)
    symmetry = symmetries(model, TOKENS)
    a, b = balanced(a, symmetry), balanced(b, symmetry)

    def loss(params, _=None):
        return losses({name: value[None] for name, value in params.items()}, lean, data)[0]

    matched = align(a, b, symmetry, method=QUICKLY)
    method = Refinement(loss, torch.Generator().manual_seed(1), steps=20, learning_rate=0.04, start=QUICKLY)
    refined = align(a, b, symmetry, method=method)
    heights = [float(barrier(curve(a, found.params, loss, points=3))) for found in (matched, refined)]
    assert heights[1] < 0.7 * heights[0]
    assert float((loss(refined.params) - loss(b)).abs()) < 1e-4
    assert len(refined.history) == 20


def test_models_trained_together_are_those_trained_alone():
    shape = shaped()
    data = Markov(tokens=6).sample(32, 6, generator=torch.Generator().manual_seed(0))
    setting = {"steps": 5, "batch": 4, "rate": 1e-2, "dtype": torch.float64}
    together = unstack(train(shape, data, seeds=(3, 7), **setting))
    alone = unstack(train(shape, data, seeds=(7,), **setting))[0]
    assert all(torch.allclose(together[1][name], alone[name], atol=1e-10) for name in alone)


def test_losses_are_those_of_the_module_and_causal():
    shape = shaped()
    params = generic(shape)
    tokens = torch.randint(6, (4, 6), generator=torch.Generator().manual_seed(2))
    model = module(params, shape)
    expected = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert losses(stack([params]), shape, tokens)[0].item() == pytest.approx(expected.item(), rel=1e-10)
    changed = tokens[:, :-1].clone()
    changed[:, -1] = (changed[:, -1] + 1) % 6
    assert torch.allclose(model(changed)[:, :-1], model(tokens[:, :-1])[:, :-1], atol=1e-12)


def test_the_entropy_of_the_source_is_what_its_own_table_scores():
    markov = Markov(tokens=4)
    tokens = markov.sample(20000, 6, generator=torch.Generator().manual_seed(0))
    chances = markov.table()[tokens[:, :-2], tokens[:, 1:-1], tokens[:, 2:]]
    measured = (math.log(4) - chances.log().sum(1).mean().item()) / 5
    assert measured == pytest.approx(markov.entropy(6), abs=0.01)


def test_sentences_are_of_the_alphabet_and_their_verbs_agree():
    generator = torch.Generator().manual_seed(0)
    sentences = [Grammar().sentence(generator=generator) for _ in range(200)]
    assert set("".join(sentences)) <= set(ALPHABET)
    verbs = ("see", "hear", "find", "like", "sleep", "run", "sing")
    for words in (sentence.strip(" .").split() for sentence in sentences):
        verb = next(word for word in words if word.rstrip("s") in verbs)
        assert verb.endswith("s") == (words[0] != "two")


@pytest.fixture(scope="module")
def rows():
    return study.run(study.STUDY.settings("tiny"))


def test_the_tiny_preset_is_exact_and_says_what_it_does_not_test(rows):
    found = study.STUDY.verdicts(rows, study.STUDY.settings("tiny"))
    assert [verdict.verdict for verdict in found[:3]] == [HOLDS] * 3
    assert {verdict.verdict for verdict in found[3:]} == {NOT_TESTED}
    assert len(found) == 9


def test_verdicts_fail_when_barriers_and_functions_are_wrong(rows):
    wrong = rows.assign(change=1.0, certified=False, loss=rows["loss"] + 1)
    wrong.loc[wrong["arm"] != "vanilla", "barrier"] = 10.0
    wrong.loc[wrong["arm"] == "full", "barrier"] = 20.0
    found = study.STUDY.verdicts(wrong, study.Config(sources=("markov",), norms=("layer",)))
    assert {verdict.verdict for verdict in found} == {FAILS}


def test_figures_and_tables_are_drawn(rows):
    for name in study.figures:
        assert study.STUDY.draw(name, rows).axes, name
    assert len(study.table(rows)) == 7
    assert len(study.groups(rows)) == 4


@pytest.mark.parametrize("change", [{"seeds": (0,)}, {"width": 10}, {"points": 4}, {"steps": 0}, {"norms": ()}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(FieldError):
        study.Config(**change)
