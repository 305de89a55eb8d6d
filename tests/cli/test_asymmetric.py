"""symfield asymmetrize and symfield verify-asymmetry: a plan to read, a checkpoint to keep, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from symfield.weightspace import asymmetrize_like, fixed_entries

SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 6)

def fixed():
    from symfield.weightspace import Rule, asymmetrize
    model, example = build()
    return asymmetrize(model, Rule(2, 0.0), seed=5), example
"""


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


def test_a_dry_run_prints_the_plan_and_writes_nothing(symfield, model):
    found = symfield("asymmetrize", model, "--fix", "0.34", "--kappa", "1", "--dry-run")
    assert found.exit_code == 0, found.output
    for words in ("0.weight", "8x6", "2.weight", "83 parameters, 22 fixed; 61 trainable (seed 0, exact)"):
        assert words in found.stdout
    assert [path.name for path in Path().iterdir() if path.suffix in {".pt", ".safetensors"}] == []
    table = json.loads(symfield("asymmetrize", model, "--fix", "2", "--kappa", "0.5", "--dry-run", "--json").stdout)
    assert (table["parameters"], table["trainable"]) == (83, 83 - 22)
    assert table["weights"][1] == {"name": "2.weight", "shape": [3, 8], "fixed": 6, "kappa": 0.5}


def test_the_written_model_carries_its_masks_and_is_verified_with_them(symfield, model):
    made = symfield("asymmetrize", model, "--fix", "2", "--kappa", "0", "--seed", "3", "--out", "made.pt")
    assert made.exit_code == 0, made.output
    state = torch.load("made.pt", weights_only=True)
    dense, x = built()
    again = asymmetrize_like(dense, state)
    assert list(fixed_entries(again)) == ["0.weight", "2.weight"]
    assert all((~entries.mask).sum(1).eq(2).all() for entries in fixed_entries(again).values())
    kept = torch.where(fixed_entries(again)["0.weight"].mask, dense[0].weight, torch.zeros(()))
    assert torch.equal(again[0].weight, kept)
    assert again(x).shape == (4, 3)
    report = symfield("verify-asymmetry", model, "--checkpoint", "made.pt", "--json")
    assert report.exit_code == 0, report.output
    statuses = {found["name"]: found["status"] for found in json.loads(report.stdout)["guarantees"]}
    assert statuses == {"rows": "holds", "T1": "holds", "family": "holds", "T2": "fails", "rank": "fails"}


def test_verification_prints_what_is_not_guaranteed_and_fails_where_units_are_alike(symfield, model):
    dense = symfield("verify-asymmetry", model)
    assert dense.exit_code == 1
    assert "can be exchanged" in dense.stdout
    large = symfield("verify-asymmetry", model, "--fix", "0.34", "--kappa", "1")
    assert large.exit_code == 0, large.output
    assert "not covered" in large.stdout
    assert "not guaranteed: that the network has no symmetry left" in large.stdout
    own = symfield("verify-asymmetry", "my_net.py:fixed", "--example", "3x6")
    assert own.exit_code == 0, own.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fix", "9", "--kappa", "1", "--dry-run"), "'0.weight' of shape (8, 6): expected 0 to 6 fixed entries"),
        (("--fix", "2", "--kappa", "-1", "--dry-run"), "expected κ ≥ 0"),
        (("--fix", "two", "--kappa", "1", "--dry-run"), "expected --fix as a count such as 8 or a share such as 0.25"),
        (("--fix", "6", "--kappa", "1", "--dry-run"), "allow_frozen=True"),
        (("--fix", "2", "--kappa", "1"), "write the new model with --out FILE"),
        (("--fix", "2", "--kappa", "1", "--dry-run", "--out", "x.pt"), "one of the two"),
        (("--fix", "2", "--kappa", "1", "--dry-run", "--modules", "enc*"), "modules='enc*', chooses no weight"),
        (("--fix", "2", "--kappa", "1", "--dry-run", "--mode", "soft"), "expected --mode exact, additive, init-only"),
        (("--fix", "1", "--kappa", "1", "--dry-run"), "fewer than the 8 rows"),
    ],
)
def test_a_rule_that_does_not_fit_is_one_line(symfield, model, words, message):
    found = symfield("asymmetrize", model, *words)
    assert found.exit_code == 2
    assert message in one_line(found)


def test_a_checkpoint_that_does_not_fit_is_one_line(symfield, model):
    dense, _ = built()
    torch.save(dense.state_dict(), "dense.pt")
    found = symfield("verify-asymmetry", "my_net.py:fixed", "--checkpoint", "dense.pt")
    assert found.exit_code == 2
    assert "is missing" in one_line(found)
    symfield("asymmetrize", model, "--fix", "2", "--kappa", "1", "--seed", "4", "--out", "made.pt")
    found = symfield("verify-asymmetry", "my_net.py:fixed", "--checkpoint", "made.pt")
    assert found.exit_code == 2
    assert "another" in one_line(found)
    found = symfield("verify-asymmetry", model, "--checkpoint", "made.pt", "--fix", "2")
    assert found.exit_code == 2
    assert "not both" in one_line(found)
    wrong = {key.replace("0.para", "7.para"): value for key, value in torch.load("made.pt").items()}
    torch.save(wrong, "wrong.pt")
    found = symfield("verify-asymmetry", model, "--checkpoint", "wrong.pt")
    assert found.exit_code == 2
    assert "'7.weight', which Sequential does not have" in one_line(found)


def test_an_example_that_does_not_fit_is_one_line(symfield, model, caplog):
    found = symfield("verify-asymmetry", model, "--example", "2x9")
    assert found.exit_code == 2
    assert "fails on the example" in one_line(found)
    found = symfield("symmetries", model, "--example", "2x9")
    assert found.exit_code == 2
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_values_that_overflow_are_one_line(symfield, model):
    found = symfield("asymmetrize", model, "--fix", "2", "--kappa", "1e39", "--out", "made.pt")
    assert found.exit_code == 2
    assert "too large for float32" in one_line(found)
