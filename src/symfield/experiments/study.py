"""A study: one published result as a value, from its configuration to its verdicts."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from symfield.experiments import style
from symfield.experiments.catalogue import entries, load_module
from symfield.experiments.cell import Cell
from symfield.experiments.errors import StudyError, unknown
from symfield.experiments.fields import check_configuration, replace
from symfield.experiments.runner import sweep
from symfield.experiments.store import Store
from symfield.experiments.verdict import Verdict

__all__ = ["PRESETS", "Study", "find"]

PRESETS = ("tiny", "quick", "paper")


@dataclass(frozen=True, kw_only=True)
class Study:
    """One published result: what is claimed, what to compute, what to draw, what to conclude.

    Args:
        name: the module's name; also the name of its folder of runs.
        claim: one or two sentences that could be false.
        source: paper and arXiv id, e.g. ``"Maass & Fontbona 2024, arXiv:2405.19995v3, Fig. 1"``.
        config: a flat frozen dataclass whose defaults are the paper's setting.
        presets: overrides by preset: ``tiny`` (seconds), ``quick`` (minutes), ``paper`` (none).
        cells: the units of work of a configuration.
        figures: functions from the tidy rows to a matplotlib figure; their docstring's first line is the caption.
        verdicts: what became of the claims, from the rows and the configuration.
        pages: functions from the rows to an interactive plotly figure.
        tables: functions from the rows to a table of numbers for the report.

    Raises:
        StudyError: if the name or the presets are not as said.
        FieldError: if the configuration or an override is not.
    """

    name: str
    claim: str
    source: str
    config: type
    presets: Mapping[str, Mapping[str, Any]]
    cells: Callable[[Any], Sequence[Cell]]
    figures: Mapping[str, Callable[[pd.DataFrame], Figure]]
    verdicts: Callable[[pd.DataFrame, Any], Sequence[Verdict]]
    pages: Mapping[str, Callable[[pd.DataFrame], go.Figure]] = field(default_factory=dict)
    tables: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.name, *self.figures, *self.pages, *self.tables):
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                raise StudyError(f"{name!r} names a file; use letters, digits and underscores")
        if set(self.figures) & set(self.pages):
            raise StudyError(f"{self.name}: a figure and a page share a name; give them different ones")
        check_configuration(self.config)
        if set(self.presets) != set(PRESETS):
            raise StudyError(f"{self.name}: expected the presets {', '.join(PRESETS)}, received {sorted(self.presets)}")
        if self.presets["paper"]:
            changed = sorted(self.presets["paper"])
            raise StudyError(f"{self.name}: the preset 'paper' changes {changed}; make these the defaults")
        for preset in PRESETS:
            self.settings(preset)

    def settings(self, preset: str = "paper") -> Any:
        """The configuration of a preset.

        Args:
            preset: ``"tiny"``, ``"quick"`` or ``"paper"``.

        Returns:
            An instance of the study's configuration.

        Raises:
            StudyError: for an unknown preset.
        """
        if preset not in self.presets:
            raise StudyError(unknown("preset", preset, PRESETS))
        return replace(self.config(), dict(self.presets[preset]))

    def run(self, config: Any = None, *, store: Store | None = None, jobs: int = 1) -> pd.DataFrame:
        """Compute the rows of one configuration.

        Args:
            config: the configuration; the paper's when absent.
            store: where finished cells live; None keeps nothing.
            jobs: how many processes.

        Returns:
            The tidy rows.

        Raises:
            CellsFailed: if a cell raised; the others are in the store.
        """
        cells = self.cells(self.config() if config is None else config)
        outcome = sweep(cells, store=store, jobs=jobs)
        outcome.check()
        return outcome.frame(cells)

    def draw(self, name: str, rows: pd.DataFrame) -> Figure:
        """One of the study's figures in the shared style.

        Args:
            name: which one.
            rows: the tidy rows.

        Returns:
            The figure.

        Raises:
            StudyError: for an unknown figure.
        """
        if name not in self.figures:
            raise StudyError(unknown("figure", name, self.figures))
        with style.context():
            return self.figures[name](rows)


def find(name: str, package: str) -> Study:
    """A study by name, or by the path of a file.

    Args:
        name: such as ``"maass2024_laws"``, or ``"my_study.py"``.
        package: where names are looked up.

    Returns:
        The study.

    Raises:
        StudyError: if there is no such study, its file cannot be loaded, or it defines no ``STUDY``.
    """
    if name.endswith(".py") or "/" in name:
        module = load_module(name)
    else:
        known = [entry.name for entry in entries(package)]
        if name not in known:
            raise StudyError(unknown("study", name, known) + "; a file of your own is given by path, e.g. my_study.py")
        module = importlib.import_module(f"{package}.{name}")
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise StudyError(f"{name} defines no STUDY; end the file with STUDY = Study(...)")
    if study.name != module.__name__.rpartition(".")[2]:
        raise StudyError(f"the study in {name} is named {study.name!r}; give it the name of its file")
    return study
