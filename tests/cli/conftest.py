"""The studies of the experiments' tests, and a terminal."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from symfield.cli import app

STUDIES = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "conftest.py"))


@pytest.fixture
def my_study(tmp_path: Path) -> str:
    path = tmp_path / "my_study.py"
    path.write_text(STUDIES["example_source"]())
    return str(path)


@pytest.fixture
def work_study(tmp_path: Path) -> str:
    path = tmp_path / "work_study.py"
    path.write_text(STUDIES["WORK"])
    return str(path)


@pytest.fixture
def symfield(tmp_path: Path, monkeypatch):
    """Runs a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"COLUMNS": "160"})

    def run(*words: str):
        return runner.invoke(app, list(words))

    return run
