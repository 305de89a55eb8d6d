"""``symfield diagnose``: a report from a table of any kind, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from symfield import random
from symfield.onestep import PowerLaw, Target, aligned, diagnose, hermite_link

LAW = PowerLaw(12, 1.0)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """A target of degree two on power-law inputs, as numbers, classes and words, in each format."""
    x, y = Target(hermite_link([0, 1, 1]), LAW, aligned(LAW)).draw(120, generator=random.generator(0))
    frame = pd.DataFrame(x.numpy(), columns=[f"x{i}" for i in range(12)])
    frame["y"] = y.numpy()
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.assign(y=np.where(frame["y"] > 0, "high", "low")).to_parquet(tmp_path / "words.parquet")
    frame.assign(x3="grey").to_csv(tmp_path / "grey.csv", index=False)
    frame.assign(x3=frame["x3"].where(frame.index > 4)).to_csv(tmp_path / "holes.csv", index=False)
    frame.assign(y=frame["y"].where(frame.index > 4)).to_csv(tmp_path / "unlabelled.csv", index=False)
    frame.assign(y=1.0).to_csv(tmp_path / "constant.csv", index=False)
    frame.to_csv(tmp_path / "counted.csv")
    frame.head(0).to_csv(tmp_path / "header.csv", index=False)
    frame.assign(x3=frame["x3"] > 0).to_csv(tmp_path / "FLAGS.CSV", index=False)
    frame.head(10).to_csv(tmp_path / "short.csv", index=False)
    frame[["y"]].to_csv(tmp_path / "alone.csv", index=False)
    np.savez(tmp_path / "data.npz", X=x.numpy(), y=y.numpy())
    np.savez(tmp_path / "other.npz", inputs=x.numpy())
    (tmp_path / "broken.npz").write_text("not an archive")
    (tmp_path / "broken.parquet").write_text("not a table")
    (tmp_path / "data.xls").write_text("a spreadsheet")
    return frame


def test_the_table_says_what_was_found_and_what_is_expected(symfield, table):
    result = symfield("diagnose", "data.csv", "--target", "y")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("exponent α", "n_half", "expected to win", "because", "assuming", "regression"):
        assert words in result.stdout
    assert "measured" not in result.stdout


def test_json_holds_the_numbers_of_the_library(symfield, table):
    found = json.loads(symfield("diagnose", "data.csv", "--target", "y", "--json").stdout)
    report = diagnose(table.drop(columns="y").to_numpy(), table["y"].to_numpy(), generator=random.generator(0))
    expected = json.loads(json.dumps(report.to_dict()))
    assert found["spectrum"]["exponent"] == pytest.approx(expected["spectrum"]["exponent"], rel=1e-6)
    assert found["signal"]["information_exponent"] == 1
    assert found["expectation"]["winner"] == expected["expectation"]["winner"]
    assert found["measured"] is None


def test_an_archive_of_arrays_and_a_table_say_the_same(symfield, table):
    one = json.loads(symfield("diagnose", "data.npz", "--json").stdout)
    other = json.loads(symfield("diagnose", "data.csv", "--target", "y", "--json").stdout)
    assert one["spectrum"]["r1"] == pytest.approx(other["spectrum"]["r1"], rel=1e-6)


def test_words_are_classes_and_are_measured(symfield, table):
    found = json.loads(symfield("diagnose", "words.parquet", "--target", "y", "--measure", "--json").stdout)
    assert found["classes"] == 2
    readouts = found["measured"]["readouts"]
    assert set(readouts) == {"linear", "random features", "trained layer", "kernel"}
    assert all(0.5 < readout["accuracy"] <= 1 for readout in readouts.values())
    shown = symfield("diagnose", "words.parquet", "--target", "y", "--measure").stdout
    assert "measured: kernel" in shown
    assert "accuracy" in shown


def test_columns_of_true_and_false_are_inputs_and_endings_may_be_capitals(symfield, table):
    found = json.loads(symfield("diagnose", "FLAGS.CSV", "--target", "y", "--json").stdout)
    assert found["dim"] == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.csv",), "no such file: gone.csv"),
        (("data.xls",), "expected a .npz, .csv or .parquet file, received data.xls"),
        (("data.csv",), "name the column of the labels: --target COLUMN. Columns: x0, x1"),
        (("data.csv", "--target", "Y"), "unknown column 'Y'"),
        (("data.npz", "--target", "y"), "data.npz holds arrays X and y"),
        (("other.npz",), "expected arrays X and y in other.npz, found inputs"),
        (("broken.npz",), "cannot read broken.npz"),
        (("broken.parquet", "--target", "y"), "cannot read broken.parquet"),
        (("grey.csv", "--target", "y"), "expected columns of numbers, not words or dates: x3;"),
        (("holes.csv", "--target", "y"), "values are missing in x3 (5) of 120 rows; drop or impute them"),
        (("unlabelled.csv", "--target", "y"), "column 'y' misses 5 of 120 labels"),
        (("counted.csv", "--target", "y"), "column 'Unnamed: 0' of counted.csv counts the rows; leave it out"),
        (("header.csv", "--target", "y"), "header.csv has column names and no rows"),
        (("constant.csv", "--target", "y"), "expected labels that vary, received a constant"),
        (("short.csv", "--target", "y"), "expected at least 20 samples, received 10"),
        (("alone.csv", "--target", "y"), "alone.csv has no column besides 'y'"),
        (("words.parquet", "--target", "y", "--numbers"), "expected labels that are numbers"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_line_and_exit_code_two(symfield, table, words, message):
    result = symfield("diagnose", *words)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("symfield: ")
    assert message in line
    assert (result.exit_code, result.stdout) == (2, "")
