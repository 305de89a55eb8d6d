"""From a study, a preset and overrides to a run's folder; and drawing again from a folder without running."""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from symfield.experiments import style
from symfield.experiments.errors import ExperimentError
from symfield.experiments.fields import plain
from symfield.experiments.folder import RunFolder, check_writable, label
from symfield.experiments.grid import Grid
from symfield.experiments.monitor import Monitor
from symfield.experiments.provenance import commit, versions
from symfield.experiments.runner import Outcome, sweep
from symfield.experiments.store import Store
from symfield.experiments.study import Study
from symfield.experiments.verdict import NOT_TESTED, Verdict

__all__ = ["Launch", "caption", "launch", "redraw"]


@dataclass(frozen=True)
class Launch:
    """A finished run.

    Args:
        folder: where it is.
        outcome: what was computed, reused and failed.
        verdicts: what became of the claims.
    """

    folder: RunFolder
    outcome: Outcome
    verdicts: tuple[Verdict, ...]


def launch(
    study: Study,
    *,
    out: Path | str,
    preset: str = "quick",
    overrides: Grid | None = None,
    jobs: int = 1,
    monitor: Monitor | None = None,
) -> Launch:
    """Run a study and write its folder. Cells that the store in ``out`` holds are not computed again.

    The study runs at every point of ``overrides``; with several points the rows get the swept columns, and figures and
    verdicts are made for each point.

    Args:
        study: what to run.
        out: the output folder; its ``store.sqlite`` is shared by all runs in it.
        preset: where the configuration starts from.
        overrides: what is changed.
        jobs: how many processes.
        monitor: who watches.

    Returns:
        The finished run. Failed cells are in its outcome; everything else is made from the rest.

    Raises:
        ExperimentError: for an unknown preset or key, an output folder that cannot be written, a damaged store, Ctrl-C.
    """
    overrides = Grid() if overrides is None else overrides
    base = study.settings(preset)
    points = list(zip(overrides, overrides.configurations(base), strict=True))
    root = check_writable(out)
    cells = [study.cells(config) for _, config in points]
    with Store(root / "store.sqlite") as store:
        outcome = sweep([cell for part in cells for cell in part], store=store, jobs=jobs, monitor=monitor)
    frames = []
    for (point, _), part in zip(points, cells, strict=True):
        swept = {name: _entry(point[name]) for name in overrides.swept}
        frames.append(outcome.frame(part).assign(**swept))
    rows = pd.concat(frames, ignore_index=True)

    given = {name: [_plain(value) for value in values] for name, values in overrides.axes.items()}
    folder = RunFolder(root / study.name / label(preset, given))
    folder.write_rows(rows)
    verdicts = tuple(_verdicts(study, rows, points, overrides.swept, outcome))
    folder.write_verdicts(verdicts)
    folder.write_config(_describe(study, preset, base, overrides, outcome))
    _draw(study, folder, rows, strict=not outcome.failures)
    return Launch(folder, outcome, verdicts)


def redraw(study: Study, folder: RunFolder) -> list[str]:
    """Draw the figures, pages and tables of a run again from its rows.

    Args:
        study: whose figures.
        folder: whose rows.

    Returns:
        The names of what was drawn.

    Raises:
        FolderError: if the rows are missing or damaged.
    """
    return _draw(study, folder, folder.rows, strict=not folder.config.get("failed"))


def caption(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring.

    Args:
        function: a figure, page or table of a study.

    Returns:
        The line; empty without a docstring.
    """
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _draw(study: Study, folder: RunFolder, rows: pd.DataFrame, *, strict: bool) -> list[str]:
    """Everything a study draws, at each swept point; with failed cells a figure that cannot be made is left out."""
    if rows.empty:
        return []
    overrides = folder.config["overrides"]
    swept = [name for name, values in overrides.items() if len(values) > 1]
    folder.clear_figures()
    drawn = []
    for suffix, part in _split(rows, swept):
        for kind, functions in _products(study).items():
            for name, function in functions.items():
                try:
                    with style.context():
                        product = function(part)
                except Exception:
                    if strict:
                        raise
                    continue
                _write(folder, kind, name + suffix, product, caption(function))
                drawn.append(name + suffix)
    return drawn


def _products(study: Study) -> dict[str, Mapping[str, Callable[..., Any]]]:
    return {"figure": study.figures, "page": study.pages, "table": study.tables}


def _write(folder: RunFolder, kind: str, name: str, product: Any, words: str) -> None:
    if kind == "figure":
        folder.write_figure(name, product, caption=words)
    elif kind == "page":
        folder.write_page(name, product, caption=words)
    else:
        folder.write_table(name, product)


def _split(rows: pd.DataFrame, swept: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each swept point, with the suffix of its files."""
    if not swept:
        yield "", rows
        return
    for values, part in rows.groupby(swept, sort=False, dropna=False):
        words = "_".join(f"{name}={value}" for name, value in zip(swept, values, strict=True))
        yield f"__{words}", part.reset_index(drop=True)


def _verdicts(
    study: Study, rows: pd.DataFrame, points: list[tuple[dict[str, Any], Any]], swept: tuple[str, ...], outcome: Outcome
) -> Iterator[Verdict]:
    for point, config in points:
        part, prefix = rows, ""
        if swept and not rows.empty:
            for name in swept:
                part = part[part[name].isna() if point[name] is None else part[name] == _entry(point[name])]
            prefix = "[" + ", ".join(f"{name}={point[name]}" for name in swept) + "] "
        try:
            if part.empty:
                raise ExperimentError("no finished cells")
            found = study.verdicts(part.reset_index(drop=True), config)
        except Exception:
            if not outcome.failures:
                raise
            why = f"{len(outcome.failures)} of {len(outcome.failures) + len(outcome.rows)} cells failed"
            yield Verdict(prefix + study.claim, why, None, None, NOT_TESTED, study.source)
        else:
            for verdict in found:
                yield Verdict(**{**vars(verdict), "claim": prefix + verdict.claim})


def _describe(study: Study, preset: str, base: Any, overrides: Grid, outcome: Outcome) -> dict[str, Any]:
    """All that is needed to make the run again, and nothing about the machine."""
    single = {name: values[0] for name, values in overrides.axes.items() if len(values) == 1}
    several = {name: [_plain(value) for value in values] for name, values in overrides.axes.items() if len(values) > 1}
    config = {**plain(base), **single, **several}
    home = Path(inspect.getfile(study.config))
    seeds = config.get("seeds", config.get("seed"))
    return {
        "study": study.name,
        "claim": study.claim,
        "source": study.source,
        "preset": preset,
        "overrides": {name: [_plain(value) for value in values] for name, values in overrides.axes.items()},
        "config": config,
        "seeds": list(seeds) if isinstance(seeds, (tuple, list)) else [seeds],
        "versions": versions(),
        "commit": commit(home.parent),
        "cells": {
            "computed": outcome.computed,
            "reused": outcome.reused,
            "failed": len(outcome.failures),
            "seconds": round(outcome.seconds, 3),
        },
        "failed": [{"cell": str(failure.cell), "error": failure.message} for failure in outcome.failures],
        "captions": {
            name: caption(function) for functions in _products(study).values() for name, function in functions.items()
        },
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    }


def _entry(value: Any) -> Any:
    """A swept value as a table's entry."""
    return json.dumps(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
