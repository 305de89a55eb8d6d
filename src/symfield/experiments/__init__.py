'''Experiments: from a configuration to rows, from rows to figures, verdicts and a report. Knows no science.

Data goes one way: config → cells → rows → store → DataFrame → figures, verdicts → report. A figure computes nothing.

**The contract.** A study is one Python file. It exposes ``Config``, ``figures``, ``run`` and ``STUDY``; the command
line finds ``STUDY`` by the file's name inside ``symfield.studies``, or by the path of a file of your own. Here is a
complete one:

.. code-block:: python

    """The mean of n draws misses the true mean by sigma / sqrt(n), whatever the law."""

    from dataclasses import dataclass
    from typing import Literal

    import numpy as np
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from symfield.experiments import Cell, Grid, Study, Verdict, style, versioned


    @dataclass(frozen=True)
    class Config:  # flat; the defaults are the paper's setting
        sizes: tuple[int, ...] = (10, 100, 1000, 10000)
        laws: tuple[Literal["normal", "uniform"], ...] = ("normal", "uniform")
        sigma: float = 1.0
        seeds: tuple[int, ...] = tuple(range(50))
        device: str = "cpu"
        dtype: Literal["float32", "float64"] = "float64"


    @dataclass(frozen=True)
    class Draws:  # all that one cell depends on, and nothing else: it becomes the cell's key
        n: int
        law: str
        sigma: float
        seeds: tuple[int, ...]
        dtype: str


    @versioned(1)  # raise it when the rows would change
    def miss(cell: Draws) -> list[dict]:
        rows = []
        for seed in cell.seeds:
            generator = np.random.default_rng(seed)
            half = 3**0.5
            sample = generator.normal(size=cell.n) if cell.law == "normal" else generator.uniform(-half, half, cell.n)
            rows.append({"seed": seed, "miss": cell.sigma * abs(sample.astype(cell.dtype).mean())})
        return rows  # n, law, sigma and dtype join each row by themselves


    def cells(config: Config) -> list[Cell]:
        return [
            Cell(miss, Draws(sigma=config.sigma, seeds=config.seeds, dtype=config.dtype, **point), cost=point["n"])
            for point in Grid(law=config.laws, n=config.sizes)
        ]


    def decay(rows: DataFrame) -> Figure:
        """The miss falls as one over the square root of n (median, and a band from 10% to 90% of the seeds)."""
        figure, axes = style.panels()
        style.band(axes[0, 0], rows, "n", "miss", "law")
        style.loglog(axes[0, 0])
        axes[0, 0].set(xlabel="number of draws n", ylabel="|mean − true mean|")
        style.legend(figure, axes[0, 0])
        return figure


    def medians(rows: DataFrame) -> DataFrame:
        """Median miss by law (rows) and number of draws (columns)."""
        return rows.pivot_table(index="law", columns="n", values="miss", aggfunc="median").reset_index()


    def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
        by_size = rows.groupby("n")["miss"].median()
        slope = np.polyfit(np.log(by_size.index), np.log(by_size), 1)[0]
        claim = "the miss falls as one over the square root of n: slope -1/2 in logarithms"
        return [Verdict.close(claim, slope, -0.5, 0.1, source="central limit theorem")]


    figures = {"decay": decay}
    STUDY = Study(
        name="my_study",
        claim="The mean of n draws misses the true mean by sigma / sqrt(n), whatever the law.",
        source="central limit theorem",
        config=Config,
        presets={"tiny": {"sizes": (10, 100), "seeds": (0, 1, 2, 3, 4)}, "quick": {"sizes": (10, 1000)}, "paper": {}},
        cells=cells,
        figures=figures,
        tables={"medians": medians},
        verdicts=verdicts,
    )
    run = STUDY.run

``symfield run my_study.py --preset tiny sigma=1,2`` runs it twice; ``run(Config(sizes=(10,)))`` gives its rows in
Python.

- **Config** has ``device: str``, ``dtype`` and one of ``seed: int`` (the first seed; replicates count up from it) or
  ``seeds: tuple[int, ...]`` (all of them, listed). ``--device``, ``--dtype`` and ``--seed`` set these fields.
- **A cell** is ``function(config) -> rows``: a module-level function marked ``@versioned(n)`` and a flat frozen
  dataclass. Its key is the SHA-256 of (path of the function, version, configuration), so studies and presets that ask
  for the same cell share its rows. Put into its configuration what the rows depend on, and no more. Put the seeds and
  schemes that are computed together into one cell. Raise an exception to fail a cell; the rest goes on.
- **Rows** are dictionaries of numbers, strings, booleans, None (NaN is allowed). The scalar fields of the cell's
  configuration and a column ``cell`` join each row.
- **Sweeps**: commas in a scalar field run the study at each value, the rows get that column, and figures and verdicts
  are made for each value.
- **Figures, pages, tables** take the rows and compute nothing that a row could hold; the first line of their docstring
  is the caption. **Verdicts** take the rows and the configuration.
'''

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symfield.experiments import bundles, style
    from symfield.experiments.cell import Cell, Row, versioned
    from symfield.experiments.errors import (
        CellsFailed,
        ExperimentError,
        FieldError,
        FolderError,
        Interrupted,
        StoreError,
        StudyError,
    )
    from symfield.experiments.folder import RunFolder, latest, runs
    from symfield.experiments.grid import Grid
    from symfield.experiments.launcher import Launch, launch, redraw
    from symfield.experiments.monitor import Bar, Monitor, Quiet
    from symfield.experiments.reporting import report
    from symfield.experiments.runner import Failure, Outcome, sweep
    from symfield.experiments.store import CorruptedCell, Record, Store
    from symfield.experiments.study import PRESETS, Study, find
    from symfield.experiments.verdict import FAILS, HOLDS, NOT_TESTED, Verdict

# Loaded on first use: listing studies must not wait for pandas and matplotlib.
_HOMES = {
    "cell": ("Cell", "Row", "versioned"),
    "errors": (
        "CellsFailed",
        "ExperimentError",
        "FieldError",
        "FolderError",
        "Interrupted",
        "StoreError",
        "StudyError",
    ),
    "folder": ("RunFolder", "latest", "runs"),
    "grid": ("Grid",),
    "launcher": ("Launch", "launch", "redraw"),
    "monitor": ("Bar", "Monitor", "Quiet"),
    "reporting": ("report",),
    "runner": ("Failure", "Outcome", "sweep"),
    "store": ("CorruptedCell", "Record", "Store"),
    "study": ("PRESETS", "Study", "find"),
    "verdict": ("FAILS", "HOLDS", "NOT_TESTED", "Verdict"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Study", "find", "PRESETS",
    "Cell", "Row", "versioned", "Grid",
    "Verdict", "HOLDS", "FAILS", "NOT_TESTED",
    "Store", "Record", "CorruptedCell",
    "sweep", "Outcome", "Failure", "Interrupted", "Monitor", "Bar", "Quiet",
    "launch", "Launch", "redraw", "RunFolder", "latest", "runs",
    "report", "style", "bundles",
    "CellsFailed", "ExperimentError", "FieldError", "FolderError", "StoreError", "StudyError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("style", "bundles"):
        return importlib.import_module(f"symfield.experiments.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'symfield.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(f"symfield.experiments.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
