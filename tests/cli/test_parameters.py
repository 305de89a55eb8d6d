"""symfield symmetries and symfield check: tables to read, JSON to keep, exit codes to act on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from symfield import random
from symfield.weightspace import symmetries

SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 6)

def deeper():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 6)

class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x

def choosy():
    return Choosy(), torch.ones(2, 3)
"""
RIGHT = {"0.weight": ["P", None], "0.bias": ["P"], "2.weight": [None, "P"]}


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return "my_net.py:build"


def built():
    found: dict[str, object] = {}
    exec(SOURCE, found)
    return found["build"]()


def one_line(result) -> str:
    (line,) = result.stderr.strip().splitlines()
    return line.removeprefix("symfield: ")


def test_symmetries_are_a_table_with_a_certificate(symfield, model):
    found = symfield("symmetries", model)
    assert found.exit_code == 0, found.output
    for words in ("permutation:0", "S_8", "scale:0", "R+^8", "certificate: 3 tests on 3 inputs", "fixed: 0.weight.1"):
        assert words in found.stdout


def test_symmetries_as_json(symfield, model):
    found = json.loads(symfield("symmetries", model, "--example", "5x6", "--json").stdout)
    assert [factor["group"] for factor in found["factors"]] == ["S_8", "R+^8"]
    assert found["certified"] is True
    assert found["factors"][0]["moves"][0] == {"tensor": "0.weight", "axis": 0, "offset": 0, "stride": 1, "power": 1}
    assert all(check["passed"] for check in found["checks"])


def test_layer_norms_fold_before_the_symmetries_are_derived(symfield, tmp_path):
    path = tmp_path / "normed.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    model = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2))\n"
        "    return model, torch.zeros(4, 3)\n"
    )
    result = symfield("symmetries", f"{path}:build", "--fold-norms")
    assert result.exit_code == 0
    assert "1 of 1 layer norms are root-mean-square norms now" in result.output
    assert "O(8)" in result.output
    found = json.loads(symfield("symmetries", f"{path}:build", "--fold-norms", "--json").output)
    assert found["folded"]["norms"] == [{"module": "1", "reads": ["2.weight"], "kept": ""}]
    assert "orthogonal" in {factor["kind"] for factor in found["factors"]}
    plain = json.loads(symfield("symmetries", f"{path}:build", "--json").output)
    assert "orthogonal" not in {factor["kind"] for factor in plain["factors"]}


def test_a_right_table_of_axes_holds_and_a_wrong_one_fails(symfield, model):
    Path("axes.json").write_text(json.dumps(RIGHT))
    right = symfield("check", model, "--axes", "axes.json")
    assert (right.exit_code, "fails" in right.stdout) == (0, False), right.output
    Path("axes.json").write_text(json.dumps({**RIGHT, "2.bias": ["classes"]}))
    wrong = symfield("check", model, "--axes", "axes.json")
    assert wrong.exit_code == 1
    assert "fails    classes" in wrong.stdout


def test_check_compares_two_checkpoints_as_functions(symfield, model):
    net, example = built()
    symmetry = symmetries(net, example)
    params = net.state_dict()
    torch.save(params, "a.pt")
    moved = symmetry.apply(params, symmetry.random_element(generator=random.generator(1)))
    torch.save(moved, "b.pt")
    same = symfield("check", model, "--checkpoint", "a.pt", "--same-as", "b.pt")
    assert (same.exit_code, "outputs agree" in same.stdout) == (0, True), same.output
    torch.save({**params, "0.bias": params["0.bias"] + 1}, "c.pt")
    other = symfield("check", model, "--checkpoint", "a.pt", "--same-as", "c.pt")
    assert (other.exit_code, "outputs differ" in other.stdout) == (1, True)


def test_the_derived_symmetry_is_checked_at_the_weights_of_a_checkpoint(symfield, model):
    torch.save(built()[0].state_dict(), "a.pt")
    found = symfield("check", model, "--checkpoint", "a.pt")
    assert (found.exit_code, found.stdout.count("holds")) == (0, 3), found.output


def spoiled(kind: str) -> dict[str, torch.Tensor]:
    params = built()[0].state_dict()
    if kind == "missing":
        del params["2.bias"]
    elif kind == "nan":
        params["0.weight"][0, 0] = torch.nan
    elif kind == "shape":
        params["0.bias"] = torch.zeros(9)
    elif kind == "unknown":
        params["4.bias"] = torch.zeros(1)
    else:
        params["0.bias"] = torch.zeros(8, dtype=torch.int64)
    return params


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "tensor '2.bias' is missing"),
        ("nan", "tensor '0.weight' holds NaN or infinity"),
        ("shape", "expected shape (8,) for '0.bias', received (9,)"),
        ("unknown", "tensor '4.bias' is not part of Sequential"),
        ("integers", "tensor '0.bias' is torch.int64, expected torch.float32"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_that_names_the_tensor(symfield, model, kind, message):
    torch.save(spoiled(kind), "bad.pt")
    found = symfield("symmetries", model, "--checkpoint", "bad.pt")
    assert found.exit_code == 2
    assert message in one_line(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["symmetries", "my_net.py:build", "--example", "5by6"], "expected a shape as example, received '5by6'"),
        (["symmetries", "my_net.py:choosy"], "Choosy"),
        (["symmetries", "torch.nn:Identity"], "comes with no example"),
        (["check", "my_net.py:build", "--axes", "none.json"], "none.json cannot be read as JSON"),
        (["check", "my_net.py:build", "--axes", "bad.json"], "expected 1 names for the axes of '0.bias', received 2"),
        (["check", "my_net.py:build", "--same-as", "none.pt"], "no such file: none.pt"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(symfield, model, words, message):
    Path("bad.json").write_text(json.dumps({"0.bias": ["P", "Q"]}))
    found = symfield(*words)
    assert found.exit_code == 2, found.output
    assert message in one_line(found)


TIED = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.up, self.down = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.out = nn.Linear(6, 9, bias=False)
        self.out.weight = self.into.weight

    def forward(self, tokens):
        return self.out(self.down(self.up(self.into(tokens)).relu()))

def tied():
    torch.manual_seed(0)
    return Tied(), torch.arange(9)[None]

def spoiled():
    model, example = tied()
    with torch.no_grad():
        model.up.bias[0] = float("nan")
    return model, example

def masked():
    class Masked(nn.Linear):
        def forward(self, x):
            return torch.cat([super().forward(x), torch.full((x.shape[0], 1), -torch.inf)], -1)

    torch.manual_seed(0)
    return Masked(4, 3), torch.randn(2, 4)

def loud():
    raise RuntimeError("one\\ntwo")
"""


@pytest.fixture
def tied(tmp_path, monkeypatch):
    """Four checkpoints of a tied model: with one of the names, with equal copies, with copies that differ, in half."""
    (tmp_path / "my_tied.py").write_text(TIED)
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(TIED, found)
    whole = {name: tensor.clone() for name, tensor in found["tied"]()[0].state_dict().items()}
    torch.save({name: tensor for name, tensor in whole.items() if name != "out.weight"}, "one.pt")
    torch.save(whole, "copies.pt")
    torch.save({**whole, "out.weight": whole["out.weight"] + 1}, "apart.pt")
    torch.save({name: tensor.half() for name, tensor in whole.items()}, "half.pt")
    return "my_tied.py:tied"


@pytest.mark.parametrize("other", ["one.pt", "copies.pt", "half.pt"])
def test_of_tied_tensors_one_is_enough_and_copies_may_be_of_another_precision(symfield, tied, other):
    for first in ("one.pt", "copies.pt"):
        same = symfield("check", tied, "--checkpoint", first, "--same-as", other)
        assert (same.exit_code, "outputs agree" in same.stdout) == (0, True), same.output
    moved = symfield("align", "one.pt", other, "--model", tied, "--out", "m.pt")
    assert moved.exit_code == 0, moved.output


@pytest.mark.parametrize(
    "words",
    [
        ["check", "my_tied.py:tied", "--checkpoint", "copies.pt", "--same-as", "apart.pt"],
        ["symmetries", "my_tied.py:tied", "--checkpoint", "apart.pt"],
        ["align", "copies.pt", "apart.pt", "--model", "my_tied.py:tied", "--out", "m.pt"],
    ],
)
def test_tied_tensors_that_differ_are_refused_and_none_is_chosen_silently(symfield, tied, words):
    found = symfield(*words)
    assert found.exit_code == 2, found.output
    assert "tensors 'into.weight' and 'out.weight' differ, but Tied ties them" in one_line(found)
    assert not Path("m.pt").exists()


def test_outputs_that_are_not_finite_are_compared_where_they_are(symfield, tied):
    torch.manual_seed(0)
    params = nn.Linear(4, 3).state_dict()
    torch.save(params, "a.pt")
    torch.save({**params, "bias": params["bias"] + 1}, "b.pt")
    same = symfield("check", "my_tied.py:masked", "--checkpoint", "a.pt", "--same-as", "a.pt")
    assert (same.exit_code, "outputs agree" in same.stdout) == (0, True), same.output
    other = symfield("check", "my_tied.py:masked", "--checkpoint", "a.pt", "--same-as", "b.pt")
    assert (other.exit_code, "outputs differ" in other.stdout) == (1, True), other.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["symmetries", "my_tied.py:spoiled"], "tensor 'up.bias' holds NaN; repair or retrain the model"),
        (["check", "my_tied.py:spoiled"], "tensor 'up.bias' holds NaN; repair or retrain the model"),
        (["symmetries", "my_tied.py:loud"], "RuntimeError: one two"),
        (["symmetries", "my_tied.py:masked", "--example", "0x4"], "the outputs of the model have no entries"),
        (["check", "my_tied.py:masked", "--axes", "numbers.json"], "name of a permutation"),
    ],
)
def test_models_and_examples_that_say_nothing_are_one_line(symfield, tied, words, message):
    Path("numbers.json").write_text(json.dumps({"weight": [1, None]}))
    found = symfield(*words)
    assert found.exit_code == 2, found.output
    assert message in one_line(found)
