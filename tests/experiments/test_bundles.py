"""Bundles: what is written is read, what is damaged is refused, what was interrupted goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from symfield.experiments import StoreError
from symfield.experiments.bundles import Bundle, collect, load, save


def made(rows=3, shift=0.0):
    value = torch.arange(2.0 * rows).reshape(rows, 2) + shift
    return Bundle({"a": value, "b": value[:, 0]}, {"i": np.arange(rows), "s": np.array(["x"] * rows)}, {"seed": 1})


def test_a_bundle_is_read_as_it_was_written_and_by_other_tools(tmp_path):
    save(made(), tmp_path / "one")
    found = load(tmp_path / "one")
    assert torch.equal(found.tensors["a"], made().tensors["a"])
    assert found.table["i"].tolist() == [0, 1, 2]
    assert found.table["s"].tolist() == ["x"] * 3
    assert found.about == {"seed": 1}
    with safe_open(tmp_path / "one" / "tensors.safetensors", "numpy") as held:
        assert set(held.keys()) == {"a", "b"}
    assert json.loads((tmp_path / "one" / "about.json").read_text())["rows"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_pieces_that_are_there_are_not_made_again(tmp_path):
    calls = []

    def piece(name, fails=False):
        def make():
            calls.append(name)
            if fails:
                raise KeyboardInterrupt
            return made(shift=len(name))

        return make

    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path, {"a": piece("a"), "bb": piece("bb", fails=True), "c": piece("c")})
    assert calls == ["a", "bb"]
    found = collect(tmp_path, {"a": piece("a", fails=True), "bb": piece("bb"), "c": piece("c")})
    assert calls == ["a", "bb", "bb", "c"]
    assert [float(one.tensors["a"][0, 0]) for one in found] == [1.0, 2.0, 1.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "bb", "c"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "table.parquet"])
def test_damage_is_noticed(tmp_path, name):
    save(made(), tmp_path / "one")
    content = bytearray((tmp_path / "one" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "one" / name).write_bytes(content)
    with pytest.raises(StoreError, match="has changed since it was written"):
        load(tmp_path / "one")
    (tmp_path / "one" / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        load(tmp_path / "one")


def test_what_is_no_bundle_is_refused(tmp_path):
    save(made(), tmp_path / "one")
    with pytest.raises(StoreError, match="exists"):
        save(made(), tmp_path / "one")
    with pytest.raises(StoreError, match="of one length"):
        Bundle({"a": torch.zeros(3)}, {"i": np.arange(2)}, {})
    with pytest.raises(StoreError, match="fit into JSON"):
        save(Bundle({"a": torch.zeros(2)}, {"i": np.arange(2)}, {"x": torch}), tmp_path / "two")
    with pytest.raises(StoreError, match=r"about\.json is missing"):
        load(tmp_path / "none")
    with pytest.raises(StoreError, match="name of a piece"):
        collect(tmp_path, {"../a": made})
    about = tmp_path / "one" / "about.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match="update symfield"):
        load(tmp_path / "one")
    about.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        load(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
