"""Two studies as files: the complete one of the documentation, and one whose cells log that they ran, raise or die."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path

import pytest

import symfield.experiments
from symfield.experiments import find

WORK = '''
"""Cells that log that they ran, and raise or die on demand."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from symfield.experiments import Cell, Grid, Study, Verdict, style, versioned

LOG = Path(__file__).with_name("ran.log")


class Diverged(ArithmeticError):
    pass


@dataclass(frozen=True)
class Config:
    items: tuple[int, ...] = tuple(range(8))
    seconds: float = 0.0
    raising: tuple[int, ...] = ()
    dying: tuple[int, ...] = ()
    scale: float = 1.0
    choice: Literal["a", "b"] = "a"
    limit: int | None = None
    flag: bool = False
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"


@dataclass(frozen=True)
class Item:
    item: int
    seconds: float
    scale: float


@versioned(1)
def work(cell: Item) -> list[dict]:
    with LOG.open("a") as log:
        log.write(f"{cell.item} {os.getpid()}\\n")
    time.sleep(cell.seconds)
    if (LOG.with_name("raise") / str(cell.item)).exists():
        raise Diverged(f"item {cell.item} diverged at step 7")
    if (LOG.with_name("die") / str(cell.item)).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    return [{"value": cell.scale * cell.item, "gap": float("nan"), "threads": threads}]


def cells(config):
    for kind in ("raising", "dying"):
        for item in getattr(config, kind):
            folder = LOG.with_name({"raising": "raise", "dying": "die"}[kind])
            folder.mkdir(exist_ok=True)
            (folder / str(item)).touch()
    return [Cell(work, Item(seconds=config.seconds, scale=config.scale, **p)) for p in Grid(item=config.items)]


def line(rows):
    """Values against items."""
    figure, axes = style.panels()
    style.band(axes[0, 0], rows, "item", "value")
    return figure


def verdicts(rows, config):
    return [Verdict.at_least("every item counts", len(rows), len(config.items), source="this test")]


STUDY = Study(
    name="work_study", claim="Work gets done.", source="this test", config=Config,
    presets={"tiny": {"items": (0, 1, 2)}, "quick": {}, "paper": {}},
    cells=cells, figures={"line": line}, verdicts=verdicts,
)
run = STUDY.run
'''


def example_source() -> str:
    """The complete study in the docstring of ``symfield.experiments``."""
    documentation = symfield.experiments.__doc__
    assert documentation is not None
    _, _, rest = documentation.partition(".. code-block:: python")
    code, _, _ = rest.partition("``symfield run my_study.py")
    return textwrap.dedent(code).strip() + "\n"


@pytest.fixture
def example_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_study.py"
    path.write_text(example_source())
    return path


@pytest.fixture
def example(example_file: Path):
    return find(str(example_file), "symfield.studies")


@pytest.fixture
def undrawn(example):
    """The example without figures and tables, which take most of its time."""
    return dataclasses.replace(example, figures={}, tables={})


@pytest.fixture
def work_file(tmp_path: Path) -> Path:
    path = tmp_path / "work_study.py"
    path.write_text(WORK)
    return path


@pytest.fixture
def work(work_file: Path):
    return find(str(work_file), "symfield.studies")


@pytest.fixture
def ran(work_file: Path):
    """How often each item has run so far."""

    def count() -> dict[int, int]:
        log = work_file.with_name("ran.log")
        items = [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []
        return {item: items.count(item) for item in sorted(set(items))}

    return count
