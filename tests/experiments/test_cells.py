"""Keys never drift; rows come back bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symfield.experiments import Cell, FieldError, StudyError, versioned
from symfield.experiments.cell import canonical, decode, encode

values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)


@dataclasses.dataclass(frozen=True)
class Item:
    n: int
    tau: float = 0.5
    names: tuple[str, ...] = ("V", "DA")


@dataclasses.dataclass(frozen=True)
class Reordered:
    names: tuple[str, ...]
    tau: float
    n: int


@dataclasses.dataclass
class Loose:
    n: int = 0


@versioned(1)
def one(cell: Item) -> list[dict]:
    return [{"n": cell.n}]


@versioned(2)
def two(cell: Item) -> list[dict]:
    return [{"n": cell.n}]


def bare(cell: Item) -> list[dict]:
    return [{"n": cell.n}]


def test_a_key_is_the_hash_of_function_version_and_configuration():
    cell = Cell(one, Item(5))
    text = canonical({"config": {"n": 5, "names": ["V", "DA"], "tau": 0.5}, "function": cell.name, "version": 1})
    assert cell.key == hashlib.sha256(text.encode()).hexdigest()


def test_keys_agree_across_processes_whatever_the_hash_seed(example, example_file):
    code = (
        "import sys; from symfield.experiments import find; s = find(sys.argv[1], 'symfield.studies');"
        "print(*[c.key for c in s.cells(s.settings('tiny'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(example_file)], env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [cell.key for cell in example.cells(example.settings("tiny"))]


def test_a_key_ignores_cost_field_order_and_the_spelling_of_numbers():
    key = Cell(one, Item(5, tau=1.0)).key
    assert Cell(one, Item(5, tau=1.0), cost=7.0).key == key
    assert Cell(one, Reordered(("V", "DA"), 1.0, 5)).key == key
    with_int = object.__new__(Item)  # what a study that is not type-checked may pass
    for name, value in {"n": 5, "tau": 1, "names": ["V", "DA"]}.items():
        object.__setattr__(with_int, name, value)
    assert Cell(one, with_int).key == key


def test_a_key_changes_with_version_function_and_configuration():
    keys = {Cell(one, Item(5)).key, Cell(two, Item(5)).key, Cell(one, Item(6)).key, Cell(one, Item(5, tau=0.25)).key}
    assert len(keys) == 4


def test_a_function_without_version_or_inside_another_is_refused():
    with pytest.raises(StudyError, match=r"bare declares no version; write @versioned"):
        Cell(bare, Item(5))
    with pytest.raises(StudyError, match="defined inside another function"):

        @versioned(1)
        def inner(cell: Item) -> list[dict]:
            return []


def test_a_configuration_that_can_change_or_is_wrong_is_refused():
    with pytest.raises(FieldError, match=r"frozen=True"):
        Cell(one, Loose())
    wrong = object.__new__(Item)
    for name, value in {"n": "five", "tau": 1.0, "names": ()}.items():
        object.__setattr__(wrong, name, value)
    with pytest.raises(FieldError, match=r"Item\.n expects int, received 'five'"):
        Cell(one, wrong)


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=5))
def test_rows_come_back_as_they_were(rows):
    assert decode(encode(rows)) == rows


def test_rows_keep_nan_infinities_and_every_bit():
    row = {"nan": math.nan, "inf": -math.inf, "third": 1 / 3, "tiny": 5e-324}
    (back,) = decode(encode([row]))
    assert math.isnan(back["nan"])
    assert (back["inf"], back["third"], back["tiny"]) == (-math.inf, 1 / 3, 5e-324)


def test_numpy_and_torch_scalars_become_plain_numbers():
    row = {"a": np.float64(0.1), "b": np.int64(3), "c": torch.tensor(2.5), "d": np.bool_(True), "e": np.float32(0.5)}
    (back,) = decode(encode([row]))
    assert back == {"a": 0.1, "b": 3, "c": 2.5, "d": True, "e": 0.5}
    assert [type(value) for value in back.values()] == [float, int, float, bool, float]


@pytest.mark.parametrize("rows", [None, {"a": 1}, [1], [{"a": [1, 2]}], [{"a": torch.zeros(2)}]])
def test_anything_but_flat_rows_is_refused(rows):
    with pytest.raises(TypeError, match="received"):
        encode(rows)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_byte_is_an_error_or_leaves_the_rows_as_they_were(place, change):
    rows = [{"n": 5, "rmd": 0.1}]
    blob = bytearray(encode(rows))
    blob[place % len(blob)] ^= change
    try:
        found = decode(bytes(blob))
    except ValueError:
        return
    assert found == rows
