"""symfield align: two checkpoints brought together, tested, merged; nothing written when anything is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from symfield import random
from symfield.weightspace import align, symmetries

SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(4, 6)

def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 6)
"""
AXES = {
    "0.weight": ["P", None], "0.bias": ["P"], "2.weight": ["Q", "P"], "2.bias": ["Q"], "4.weight": [None, "Q"],
    "4.bias": [None],
}  # fmt: skip


def built(name: str = "build"):
    found: dict[str, object] = {}
    exec(SOURCE, found)
    return found[name]()


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """a.pt, and b.pt: the same function, units in another order and at other scales."""
    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    net, example = built()
    symmetry = symmetries(net, example)
    params = net.state_dict()
    torch.save(params, "a.pt")
    torch.save(symmetry.apply(params, symmetry.random_element(generator=random.generator(1))), "b.pt")
    return ["a.pt", "b.pt", "--model", "my_net.py:build"]


def one_line(result) -> str:
    (line,) = result.stderr.strip().splitlines()
    return line.removeprefix("symfield: ")


@pytest.mark.parametrize("how", [[], ["--method", "frank-wolfe"], ["--starts", "sorted,identity,activations,2"]])
def test_a_moved_copy_is_found_again_and_merges_to_the_original(symfield, planted, how):
    found = symfield("align", *planted, "--out", "m.pt", "--aligned", "c.pt", *how)
    assert found.exit_code == 0, found.output
    assert "same function" in found.stdout
    a, merged, aligned = (torch.load(name) for name in ("a.pt", "m.pt", "c.pt"))
    for name, tensor in a.items():
        torch.testing.assert_close(aligned[name], tensor, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(merged[name], (tensor + aligned[name]) / 2)


def test_activations_find_the_order_of_the_units(symfield, planted):
    torch.save(torch.randn(64, 6, generator=random.generator(3)), "x.pt")
    found = symfield("align", *planted, "--out", "m.pt", "--method", "activations", "--inputs", "x.pt", "--json")
    shown = json.loads(found.stdout)
    net, example = built()
    symmetry = symmetries(net, example)
    planted_element = symmetry.random_element(generator=random.generator(1))
    moved = {factor["name"]: factor["moved"] for factor in shown["factors"]}
    for name in ("permutation:0", "permutation:2"):
        order = planted_element[name]
        assert moved[name] == pytest.approx(float((order != torch.arange(len(order))).double().mean()))
    assert all(moved[name] == 0 for name in ("scale:0", "scale:2"))


def test_json_says_how_close_what_moved_and_what_was_written(symfield, planted):
    found = symfield("align", *planted, "--out", "m.safetensors", "--merge", "0.25", "--json")
    shown = json.loads(found.stdout)
    assert shown["same_function"] is True
    assert shown["written"] == ["m.safetensors"]
    assert shown["after"]["cosine"] == pytest.approx(1, abs=1e-4)
    assert shown["before"]["cosine"] < 0.9
    assert shown["change"] <= shown["tolerance"]
    assert all(row["cosine_after"] > row["cosine_before"] for row in shown["factors"])
    assert Path("m.safetensors").is_file()


def test_the_table_names_factors_distances_and_files(symfield, planted):
    shown = symfield("align", *planted, "--out", "m.pt").stdout
    for words in ("permutation:0", "S_8", "% of 8 units", "scale:2", "R+^5", "distance", "cosine", "written: m.pt"):
        assert words in shown


def test_without_merging_the_moved_model_itself_is_written(symfield, planted):
    found = symfield("align", *planted, "--out", "c.pt", "--merge", "none")
    assert found.exit_code == 0, found.output
    net, example = built()
    symmetry = symmetries(net, example)
    expected = align(torch.load("a.pt"), torch.load("b.pt"), symmetry).params
    written = torch.load("c.pt")
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_the_checkpoints_themselves_stay_as_they_are(symfield, planted):
    before = [Path(name).read_bytes() for name in ("a.pt", "b.pt")]
    symfield("align", *planted, "--out", "m.pt")
    assert [Path(name).read_bytes() for name in ("a.pt", "b.pt")] == before


def test_a_right_table_of_axes_aligns_and_a_wrong_one_is_caught(symfield, planted):
    Path("axes.json").write_text(json.dumps(AXES))
    right = symfield("align", *planted, "--axes", "axes.json", "--out", "m.pt")
    assert right.exit_code == 0, right.output
    Path("m.pt").unlink()
    Path("axes.json").write_text(json.dumps({**AXES, "0.bias": [None], "4.weight": ["classes", "Q"]}))
    wrong = symfield("align", *planted, "--axes", "axes.json", "--out", "m.pt", "--aligned", "c.pt")
    assert wrong.exit_code == 1, wrong.output
    assert "the function changed" in wrong.stdout
    assert "nothing written" in wrong.stdout
    assert not Path("m.pt").exists()
    assert not Path("c.pt").exists()


def test_running_statistics_are_merged_with_a_warning_to_estimate_them_anew(symfield, planted):
    for seed, name in enumerate(("a.pt", "b.pt")):
        net, _ = built("normed")
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=random.generator(seed)) + 0.5)
        torch.save(net.state_dict(), name)
    found = symfield("align", "a.pt", "b.pt", "--model", "my_net.py:normed", "--out", "m.pt")
    assert found.exit_code == 0, found.output
    assert "estimate them anew" in found.stdout
    merged = torch.load("m.pt")
    assert merged["1.num_batches_tracked"].dtype == torch.int64
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    net.load_state_dict(merged)


def spoiled(kind: str) -> dict[str, torch.Tensor]:
    params = built()[0].state_dict()
    if kind == "missing":
        del params["4.bias"]
    elif kind == "nan":
        params["0.weight"][0, 0] = torch.nan
    elif kind == "shape":
        params["0.bias"] = torch.zeros(9)
    elif kind == "prefixed":
        params = {f"module.{name}": tensor for name, tensor in params.items()}
    elif kind == "unknown":
        params["6.bias"] = torch.zeros(1)
    else:
        params["0.bias"] = torch.zeros(8, dtype=torch.int64)
    return params


@pytest.mark.parametrize("which", ["a.pt", "b.pt"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "tensor '4.bias' is missing"),
        ("prefixed", "it holds 'module.0.weight': save it again with 'module.' taken off its names"),
        ("nan", "tensor '0.weight' holds NaN or infinity"),
        ("shape", "expected shape (8,) for '0.bias', received (9,)"),
        ("unknown", "tensor '6.bias' is not part of Sequential"),
        ("integers", "tensor '0.bias' is torch.int64, expected torch.float32"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_that_names_file_and_tensor(symfield, planted, which, kind, message):
    torch.save(spoiled(kind), which)
    found = symfield("align", *planted, "--out", "m.pt")
    assert found.exit_code == 2, found.output
    assert one_line(found).startswith(which)
    assert message in one_line(found)
    assert not Path("m.pt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "b.pt"], "b.pt would be overwritten, but is read"),
        (["--out", "m.pt", "--aligned", "m.pt"], "--out and --aligned are both m.pt"),
        (["--out", "m.pt", "--merge", "2"], "expected --merge to be a weight of the second model from 0 to 1"),
        (["--out", "m.pt", "--merge", "half"], "received 'half'"),
        (["--out", "m.pt", "--method", "magic"], "expected --method to be one of weights, activations, frank-wolfe"),
        (["--out", "m.pt", "--starts", "here"], "expected --starts to be words of layers, identity, sorted"),
        (["--out", "m.pt", "--starts", "0"], "--starts 0 leaves nothing to do"),
        (["--out", "m.pt", "--method", "activations", "--starts", "sorted"], "activations needs none"),
        (["--out", "m.pt", "--inputs", "none.pt"], "none.pt cannot be read as inputs"),
        (["--out", "m.pt", "--example", "5by6"], "expected a shape as example, received '5by6'"),
        (["--out", "a.pt/m.pt"], "a.pt/m.pt cannot be written"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line_and_nothing_is_written(symfield, planted, words, message):
    found = symfield("align", *planted, *words)
    assert found.exit_code == 2, found.output
    assert message in one_line(found)
    assert not Path("m.pt").exists()


def test_named_inputs_cannot_drive_hooks(symfield, planted):
    torch.save({"input": torch.randn(4, 6, generator=random.generator(0))}, "x.pt")
    found = symfield("align", *planted, "--out", "m.pt", "--method", "activations", "--inputs", "x.pt")
    assert found.exit_code == 2
    assert "needs positional inputs" in one_line(found)
