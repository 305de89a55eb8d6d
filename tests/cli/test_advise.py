"""``symfield advise`` and ``symfield discover``: answers from a table of any kind, or one line that says why not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from symfield import random
from symfield.cli.data import DataError, read_dataset
from symfield.cli.grouping import representation_of, target_representation
from symfield.groups import Cyclic, Defining, Planar

QUICK = ("--steps", "60", "--seeds", "2", "--width", "24")


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    like = torch.zeros((), dtype=torch.float64)
    x = random.normal((120, 4), generator=random.generator(0), like=like).numpy()
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    frame["y"] = (x * np.roll(x, 1, axis=1)).sum(1)
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.assign(z=frame["a"]).to_csv(tmp_path / "two.csv", index=False)
    frame.assign(y=frame["a"]).to_csv(tmp_path / "first.csv", index=False)
    frame.assign(y=np.where(frame["y"] > 0, "high", "low")).to_parquet(tmp_path / "words.parquet")
    frame.assign(y=1.0).to_csv(tmp_path / "constant.csv", index=False)
    frame.head(20).to_csv(tmp_path / "few.csv", index=False)
    frame.assign(b=frame["b"].where(frame.index > 3)).to_csv(tmp_path / "holes.csv", index=False)
    np.savez(tmp_path / "data.npz", X=x, y=frame["y"].to_numpy())
    (tmp_path / "broken.npz").write_text("not an archive")
    np.savez(tmp_path / "nan.npz", X=np.where(x > 2, np.nan, x), y=frame["y"].to_numpy())
    return frame


def test_a_symmetry_is_asked_about_and_the_answer_is_a_table(symfield, table):
    result = symfield("advise", "data.csv", "--target", "y", "--group", "C4", *QUICK)
    assert result.exit_code == 0, result.stderr
    for words in ("recommended", "because", "error", "equivariance error", "FA C4"):
        assert words in result.stdout
    assert "right" not in result.stdout


def test_what_the_data_contradict_is_said_as_json_and_on_a_page(symfield, table, tmp_path):
    words = ("advise", "first.csv", "--target", "y", "--group", "C4", "--json", "--report", "page.html")
    result = symfield(*words, *QUICK)
    found = json.loads(result.stdout)
    assert found["recommended"] == "none"
    assert found["groups"][0]["status"] == "contradicted"
    assert len(found["curves"]) == 5 * 3 * 2
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "train without a symmetry" in page
    assert page.count("data:image/") == 2
    assert not re.search(r"(src|href)=[\"']https?:", page)


def test_classes_are_words_and_an_archive_says_the_same_as_a_table(symfield, table):
    classes = json.loads(symfield("advise", "words.parquet", "--target", "y", "--group", "C4", "--json", *QUICK).stdout)
    assert classes["task"] == "classification"
    assert all(0 <= ranked["accuracy"] <= 1 for ranked in classes["ranking"])
    one, other = (
        json.loads(symfield("advise", *words, "--group", "C4", "--json", *QUICK).stdout)["groups"][0]
        for words in (("data.csv", "--target", "y"), ("data.npz",))
    )
    assert one["equivariance_error"]["value"] == pytest.approx(other["equivariance_error"]["value"], rel=1e-6)


@pytest.mark.parametrize(("file", "words"), [("constant.csv", "the targets do not vary"), ("few.csv", "20 samples")])
def test_what_cannot_be_told_is_said_with_exit_code_one(symfield, table, file, words):
    result = symfield("advise", file, "--target", "y", "--group", "C4", *QUICK)
    assert (result.exit_code, result.stderr) == (1, "")
    assert "cannot tell, because" in result.stdout
    assert words in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.csv", "--group", "C4"), "no such file: gone.csv"),
        (("data.csv", "--target", "y", "--group", "Q8"), "unknown group 'Q'"),
        (("data.csv", "--target", "y", "--group", "C3"), "C3 acts on 3 columns, received 4; name them, as in C3:a,b,c"),
        (("data.csv", "--target", "y", "--group", "swap:a,e"), "unknown column 'e'"),
        (("data.csv", "--target", "y", "--group", "swap:a,a"), "a column is named twice"),
        (("data.csv", "--target", "y", "--group", "swap:a,b", "--group", "swap:b,c"), "two groups act on b"),
        (("data.csv", "--target", "y", "--group", "C4@2x3"), "quarter turns need a square image"),
        (("data.csv", "--target", "y", "--group", "flip"), "give its size, as in flip@8x8"),
        (("data.csv", "--target", "y", "--group", "C4", "--output", "same"), "there are 1 targets and 4 inputs"),
        (("data.csv", "--target", "y", "--group", "C4", "--output", "odd"), "unknown way to move targets 'odd'"),
        (("data.csv", "--target", "y", "--group", "C4", "--tolerance", "0"), "positive tolerance"),
        (("two.csv", "--target", "y,w", "--group", "C4"), "unknown column 'w'"),
        (("two.csv", "--target", "y,y", "--group", "C4"), "--target names y more than once"),
        (("broken.npz", "--group", "C4"), "cannot read broken.npz: not an .npz file"),
        (("holes.csv", "--target", "y", "--group", "C4"), "values are missing in b (4) of 120 rows"),
        (("nan.npz", "--group", "C4"), "nan.npz: expected finite inputs, received NaN"),
        (("sklearn:moons", "--group", "C4"), "unknown data set 'moons'"),
        (("sklearn:iris", "--target", "y", "--group", "C4"), "has its own targets"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_two(symfield, table, words, message):
    result = symfield("advise", *words, *QUICK)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("symfield: ")
    assert message in line
    assert (result.exit_code, result.stdout) == (2, "")


def test_an_interruption_is_exit_code_130(symfield, table, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("symfield.discovery.advise", interrupt)
    result = symfield("advise", "data.csv", "--target", "y", "--group", "C4")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_groups_are_words(table):
    names = ("a", "b", "c", "d")
    g, x = torch.tensor(1), torch.arange(4.0).double()
    assert representation_of(["C4"], names) == Defining(Cyclic(4))
    assert representation_of(["swap:d,b"], names).act(g, x).tolist() == [0, 3, 2, 1]
    assert representation_of(["C4:a,c"], names).inner == Planar(Cyclic(4))
    assert representation_of(["2*SO"], names).group.n == 2
    assert representation_of(["S2*2"], names).act(torch.tensor([1, 0]), x).tolist() == [2, 3, 0, 1]
    both = representation_of(["swap:a,b", "signs:d"], names)
    assert both.act(both.group.elements[-1], x).tolist() == [1, 0, 2, -3]
    turned = representation_of(["C4@2x2"], names).act(g, x)
    assert turned.reshape(2, 2).tolist() == x.reshape(2, 2).rot90(1).tolist()
    assert representation_of(["D4@2x2"], names).group.order == 8
    assert representation_of(["flip@2x2"], names).act(g, x).tolist() == [1, 0, 3, 2]
    assert target_representation("sign", representation_of(["O2:a,b"], names), 1).dim == 1


def test_bundled_data_sets_and_several_targets_are_read(table, tmp_path):
    digits = read_dataset("sklearn:digits", None, classes=None)
    assert (digits.task, digits.x.shape, len(digits.y_names)) == ("classification", (1797, 64), 10)
    assert read_dataset("sklearn:diabetes", None, classes=None).task == "regression"
    two = read_dataset(str(tmp_path / "two.csv"), "y,z", classes=None)
    assert (two.y_names, two.y.shape) == (("y", "z"), (120, 2))
    pd.read_csv(tmp_path / "two.csv").assign(z="word").to_csv(tmp_path / "mixed.csv", index=False)
    with pytest.raises(DataError, match="classes are one column"):
        read_dataset(str(tmp_path / "mixed.csv"), "y,z", classes=None)


def test_a_symmetry_is_found_tested_and_shown_on_a_page(symfield, tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 4))
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    frame.assign(y=(np.sin(x) * np.roll(x, 1, axis=1)).sum(1)).to_csv(tmp_path / "ring.csv", index=False)
    result = symfield("discover", "ring.csv", "--target", "y", "--report", "page.html")
    assert result.exit_code == 0, result.stderr
    assert "symmetry found: C_4" in result.stdout
    assert "holds" in result.stdout
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Weight sharing" in page
    found = json.loads(symfield("discover", "ring.csv", "--target", "y", "--json").stdout)
    assert (found["group"], found["verdict"]) == ("C_4 × C_2", "symmetry found")  # also unchanged by −1
    assert found["checks"][0]["holds"]
    asked = json.loads(symfield("advise", "ring.csv", "--target", "y", "--json", *QUICK).stdout)
    assert [group["group"] for group in asked["groups"]] == ["C_4 × C_2"]


def test_data_without_a_symmetry_are_said_to_have_none_or_not_to_tell(symfield, table):
    few = symfield("discover", "few.csv", "--target", "y")
    assert few.exit_code == 1
    assert "cannot tell" in few.stdout
    missing = symfield("discover", "gone.csv", "--target", "y")
    assert (missing.exit_code, missing.stdout) == (2, "")
