"""What the command line says about models, examples and checkpoints that cannot be had."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from symfield import random
from symfield.cli.models import CheckpointError, ModelError, load_checkpoint, load_model, parse_example, save_checkpoint

SOURCE = """
import torch
from torch import nn

net = nn.Linear(2, 3)

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))

def with_example():
    return nn.Embedding(10, 4), torch.zeros(1, 3, dtype=torch.int64)

def needy(width):
    return nn.Linear(width, 1)

number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(SOURCE)
    return str(path)


def load(words):
    return load_model(words, random.generator(0))


def test_a_model_is_named_by_file_or_module(file):
    model, example = load(f"{file}:build")
    assert (len(model), model.training, example) == (2, False, None)
    assert load(f"{file}:net")[0].out_features == 3
    assert load(f"{file}:with_example")[1].shape == (1, 3)
    assert isinstance(load("torch.nn:Identity")[0], torch.nn.Identity)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere.py:build", r"no such file: nowhere\.py; give the path of a Python file with a model or a"),
        ("{file}", r"expected file\.py:name, package\.module:name or a config\.json, received"),
        ("{file}:biuld", r"unknown name in .*my_models\.py: 'biuld'; did you mean 'build'\?"),
        ("{file}:needy", r"my_models\.py:needy could not be called: TypeError: needy\(\) missing 1 required"),
        ("{file}:number", r"expected .*:number to be or return an nn\.Module, .* received int"),
        ("no.such.package:build", r"no\.such\.package cannot be imported: .*; for a file write path/to/file\.py:build"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_had_is_named(file, words, message):
    with pytest.raises(ModelError if "no such" not in message else Exception, match=message):
        load(words.format(file=file))


def test_examples_are_shapes_with_or_without_names():
    generator = random.generator(0)
    x, tokens = parse_example(["8x3", "2x16:int<50"], generator)
    assert (x.shape, x.dtype) == ((8, 3), torch.float32)
    assert (tokens.shape, tokens.dtype, int(tokens.max()) < 50) == ((2, 16), torch.int64, True)
    named = parse_example(["input_ids=2x4:int<9", "mask=2x4:bool"], generator)
    assert list(named) == ["input_ids", "mask"]
    assert named["mask"].dtype == torch.bool


@pytest.mark.parametrize("words", [["8x"], ["8x3:float12"], ["x=8x3", "8"], ["8,3"]])
def test_examples_of_another_form_are_refused(words):
    with pytest.raises(ModelError, match="expected"):
        parse_example(words, random.generator(0))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoints_come_back_as_they_were(tmp_path, suffix):
    if suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        pytest.skip("safetensors is not installed")
    params = {"weight": torch.randn(3, 2, generator=random.generator(0)).T, "steps": torch.tensor(3)}
    path = tmp_path / "new" / f"model{suffix}"
    save_checkpoint(params, path)
    found = load_checkpoint(path)
    assert found.keys() == params.keys()
    assert all(found[name].equal(params[name]) for name in params)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_state_dict_inside_a_training_checkpoint_is_found(tmp_path):
    torch.save({"epoch": 3, "state_dict": {"weight": torch.zeros(2)}}, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt").keys() == {"weight"}


def test_checkpoints_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"half\.pt cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "half.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"holds no tensors by name; save model\.state_dict\(\)"):
        load_checkpoint(tmp_path / "list.pt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "pickled.pt")
    with pytest.raises(CheckpointError, match=r"pickled\.pt cannot be read"):
        load_checkpoint(tmp_path / "pickled.pt")


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"a\.pt cannot be written"):
        save_checkpoint({"weight": torch.zeros(1)}, tmp_path / "file" / "a.pt")


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_a_configuration_makes_a_transformers_model(tmp_path):
    path = tmp_path / "config.json"
    small = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 50, "n_positions": 16}
    path.write_text(json.dumps({**small, "architectures": ["GPT2LMHeadModel"]}))
    model, example = load(str(path))
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model(**example).logits.shape[-1] == 50
    path.write_text(json.dumps({"model_type": "no such"}))
    with pytest.raises(ModelError, match="makes no transformers model"):
        load(str(path))


def test_without_transformers_a_configuration_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="pip install 'symfield"):
        load(str(tmp_path / "config.json"))
