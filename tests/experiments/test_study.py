"""A study that breaks the contract, cannot be found or cannot be loaded is refused in one sentence."""

from __future__ import annotations

import dataclasses
import sys

import pandas as pd
import pytest

from symfield.experiments import FieldError, StudyError, Verdict, find, launch
from symfield.experiments.catalogue import entries


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "my study"}, StudyError, "'my study' names a file"),
        ({"presets": {"tiny": {}, "paper": {}}}, StudyError, "expected the presets tiny, quick, paper"),
        (
            {"presets": {"tiny": {}, "quick": {}, "paper": {"sigma": 2.0}}},
            StudyError,
            r"the preset 'paper' changes \['sigma'\]; make these the defaults",
        ),
        ({"presets": {"tiny": {"sgma": 2.0}, "quick": {}, "paper": {}}}, FieldError, "did you mean 'sigma'"),
        ({"presets": {"tiny": {"sizes": 5}, "quick": {}, "paper": {}}}, FieldError, "sizes expects a list of int"),
        ({"pages": {"decay": lambda rows: None}}, StudyError, "a figure and a page share a name"),
    ],
)
def test_a_study_that_breaks_the_contract_is_refused(example, change, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(example, **change)


def test_an_unknown_preset_or_figure_names_the_known_ones(example):
    with pytest.raises(StudyError, match="unknown preset 'tny'; did you mean 'tiny'"):
        example.settings("tny")
    with pytest.raises(StudyError, match="unknown figure 'deacy'; did you mean 'decay'"):
        example.draw("deacy", pd.DataFrame())


PACKAGE = '''"""A study in words."""
raise RuntimeError("listing must not import")
STUDY = Study(name="good_study", claim="It is " "so.", source="a paper")
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "listed_studies"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good_study.py").write_text(PACKAGE)
    (folder / "no_study.py").write_text('"""Nothing here."""')
    (folder / "_private.py").write_text(PACKAGE)
    (folder / "words_study.py").write_text('"""The claim is here.\n\nMore."""\nSTUDY = Study(claim=CLAIM)\n')
    monkeypatch.syspath_prepend(tmp_path)
    return "listed_studies"


def test_studies_are_listed_from_their_text_without_importing_them(package):
    found = [(entry.name, entry.claim) for entry in entries(package)]
    assert found == [("good_study", "It is so."), ("words_study", "The claim is here.")]
    assert package not in sys.modules


def test_a_package_that_does_not_exist_has_no_studies():
    assert entries("symfield.nowhere.studies") == []


def test_an_unknown_study_names_the_closest(package):
    with pytest.raises(StudyError, match=r"unknown study 'god_study'; did you mean 'good_study'\?.*by path"):
        find("god_study", package)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, r"no such file: .*gone\.py"),
        ("my-study.py", "", "rename it"),
        ("json.py", "", r"json\.py has the name of another module"),
        ("pandas.py", "", r"pandas\.py has the name of another module"),
        ("broken_study.py", "1 / 0", "could not be loaded: ZeroDivisionError: division by zero"),
        ("typo_study.py", "def f(:", "could not be loaded: SyntaxError"),
        ("empty_study.py", "", "defines no STUDY"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(StudyError, match=message):
        find(str(path), "symfield.studies")
    assert "broken_study" not in sys.modules


def test_a_study_has_the_name_of_its_file(example_file):
    other = example_file.with_name("other_name.py")
    example_file.rename(other)
    with pytest.raises(StudyError, match="is named 'my_study'; give it the name of its file"):
        find(str(other), "symfield.studies")


def test_a_study_by_path_may_import_its_neighbours(tmp_path, example_file):
    (tmp_path / "my_neighbour_module.py").write_text("ANSWER = 42\n")
    example_file.write_text("from my_neighbour_module import ANSWER\n" + example_file.read_text())
    assert find(str(example_file), "symfield.studies").name == "my_study"


def test_an_error_in_verdicts_or_figures_is_not_hidden(undrawn, tmp_path):
    def broken(rows, config):
        raise KeyError("no such column")

    with pytest.raises(KeyError):
        launch(dataclasses.replace(undrawn, verdicts=broken), out=tmp_path, preset="tiny")


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Verdict.close("c", 1.0, 1.05, 0.1, source="s"), "holds"),
        (Verdict.close("c", 1.0, 1.2, 0.1, source="s"), "fails"),
        (Verdict.close("c", float("nan"), 1.2, 0.1, source="s"), "fails"),
        (Verdict.at_most("c", 1.0, 1.0, source="s"), "holds"),
        (Verdict.at_most("c", float("nan"), 1.0, source="s"), "fails"),
        (Verdict.at_least("c", 0.9, 1.0, source="s"), "fails"),
        (Verdict.between("c", 0.5, 0.0, 1.0, source="s"), "holds"),
        (Verdict.between("c", float("nan"), 0.0, 1.0, source="s"), "fails"),
        (Verdict.true("c", True, measured="a < b", expected="a < b", source="s"), "holds"),
        (Verdict.not_tested("c", "too few seeds", source="s"), "not tested"),
    ],
)
def test_a_verdict_is_decided_once_and_nan_never_holds(verdict, outcome):
    assert verdict.verdict == outcome
    assert Verdict.from_json(verdict.to_json()).verdict == outcome


def test_a_verdict_is_one_of_three_words():
    with pytest.raises(FieldError, match="'holds', 'fails' or 'not tested'"):
        dataclasses.replace(Verdict.not_tested("c", "w", source="s"), verdict="maybe")
