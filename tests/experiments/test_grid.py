"""key=value words become typed values, or one message that says what to type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from symfield.experiments import FieldError, Grid
from symfield.experiments.fields import check_configuration, replace


@dataclass(frozen=True)
class Config:
    steps: int = 10
    tau: float = 1e-4
    name: str = "x"
    exact: bool = False
    teacher: Literal["WI", "SI", "arbitrary"] = "WI"
    limit: int | None = None
    widths: tuple[int, ...] = (5, 10)
    laws: tuple[Literal["WI", "SI"], ...] = ("WI",)
    interval: tuple[float, float] = (0.0, 1.0)
    chosen: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    device: str = "cpu"
    dtype: str = "float32"


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("steps=200", ("steps", (200,))),
        ("steps=1..3", ("steps", (1, 2, 3))),
        ("tau=0,1e-4", ("tau", (0.0, 1e-4))),
        ("tau=1", ("tau", (1.0,))),
        ("name=a,b", ("name", ("a", "b"))),
        ("name=3", ("name", ("3",))),
        ("exact=true,no", ("exact", (True, False))),
        ("exact=1", ("exact", (True,))),
        ("teacher=SI, arbitrary", ("teacher", ("SI", "arbitrary"))),
        ("limit=none,4", ("limit", (None, 4))),
        ("widths=50,100", ("widths", ((50, 100),))),
        ("widths=5", ("widths", ((5,),))),
        ("widths=(5,10)", ("widths", ((5, 10),))),
        ("laws=SI,WI", ("laws", (("SI", "WI"),))),
        ("interval=0,2", ("interval", ((0.0, 2.0),))),
        ("chosen=none", ("chosen", (None,))),
        ("chosen=1,2", ("chosen", ((1, 2),))),
        ("seeds=0..9", ("seeds", (tuple(range(10)),))),
    ],
)
def test_a_word_is_typed_by_the_annotation(word, axis):
    name, expected = axis
    found = Grid.parse(Config, [word]).axes[name]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stesp=3", r"unknown key 'stesp'; did you mean 'steps'\? Known: steps, tau, name"),
        ("steps=abc", r"steps expects int, received 'abc'"),
        ("steps=1.5", r"steps expects int, received '1.5'"),
        ("tau=big", r"tau expects float, received 'big'"),
        ("tau=nan", r"tau expects float, received 'nan'"),
        ("exact=maybe", r"exact expects bool, received 'maybe'"),
        ("teacher=XY", r"teacher expects one of 'WI', 'SI', 'arbitrary', received 'XY'"),
        ("widths=5,x", r"widths expects int, received 'x'"),
        ("interval=1", r"interval expects \(float, float\), received '1'"),
        ("limit=x", r"limit expects int or None, received 'x'"),
        ("steps", r"expected key=value, received 'steps'"),
    ],
)
def test_a_wrong_word_is_answered_with_what_was_expected(word, message):
    with pytest.raises(FieldError, match=message):
        Grid.parse(Config, [word])


def test_a_key_given_twice_is_refused():
    with pytest.raises(FieldError, match="steps is given twice"):
        Grid.parse(Config, ["steps=1", "steps=2"])


def test_only_axes_with_several_values_are_swept():
    grid = Grid.parse(Config, ["steps=1,2", "tau=0", "widths=5,10"])
    assert grid.swept == ("steps",)
    assert len(grid) == 2
    assert [config.steps for config in grid.configurations(Config())] == [1, 2]


def test_the_empty_grid_is_the_base_alone():
    assert Grid().configurations(Config()) == [Config()]


def test_a_grid_is_a_value():
    assert Grid(a=[1, 2]) == Grid(a=(1, 2))
    assert len({Grid(a=[1, 2]), Grid(a=(1, 2)), Grid(a=(1,))}) == 2
    with pytest.raises(AttributeError, match="value"):
        Grid(a=[1]).axes = {}


def test_replacing_checks_names_and_types():
    assert replace(Config(), {"tau": 1}).tau == 1.0
    with pytest.raises(FieldError, match="did you mean 'tau'"):
        replace(Config(), {"tua": 1})
    with pytest.raises(FieldError, match="widths expects a list of int, received 5"):
        replace(Config(), {"widths": 5})


@dataclass(frozen=True)
class NoSeed:
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class NoDevice:
    seed: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class NoDefault:
    steps: int
    seed: int = 0


@dataclass(frozen=True)
class Nested:
    table: Any = None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NoSeed, "neither 'seed: int' nor 'seeds"),
        (NoDevice, "no field 'device'"),
        (NoDefault, r"NoDefault\.steps has no default"),
        (Nested, r"Nested\.table: .* cannot be written as key=value"),
        (int, "must be a dataclass"),
    ],
)
def test_a_configuration_that_breaks_the_contract_is_refused(config, message):
    with pytest.raises(FieldError, match=message):
        check_configuration(config)
