"""What ``symfield diagnose`` does: read a table, look at it, print the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from symfield.cli.data import DataError, read_samples

if TYPE_CHECKING:
    from symfield.onestep import Diagnosis

__all__ = ["diagnosis_table", "examine_data"]


def examine_data(
    path: Path, target: str | None, *, classes: bool | None, standardise: bool, measure: bool, seed: int
) -> Diagnosis:
    """Read a data set and diagnose it.

    Args:
        path: ``.npz`` with arrays X and y, ``.csv`` or ``.parquet``.
        target: the column of the labels; not for ``.npz``.
        classes: whether labels are classes; told from their type when absent.
        standardise: whether inputs are brought to unit variance.
        measure: whether readouts are compared by cross-validation.
        seed: orders samples, draws signs and networks.

    Returns:
        The report.

    Raises:
        DataError: if the data cannot be read or diagnosed.
    """
    held = read_samples(path, target)
    from symfield import random
    from symfield.onestep import diagnose
    from symfield.studies._threads import one_thread

    try:
        with one_thread():
            return diagnose(
                held.x,
                held.y,
                standardise=standardise,
                classes=classes,
                measure=measure,
                generator=random.generator(seed),
            )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def diagnosis_table(report: Diagnosis, *, title: str) -> Group:
    """A report for a terminal.

    Args:
        report: what was found.
        title: the line above.

    Returns:
        A table, with reasons and assumptions below.
    """
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    colours = {"agrees": "green", "does not agree": "yellow"}
    for what, value, remark in report.rows():
        style = "bold cyan" if what == "expected to win" else colours.get(value, "")
        table.add_row(Text(what), Text(value, style=style), Text(remark, style="dim"))
    words = Table.grid(padding=(0, 1))
    for name, sentences in (("because", report.expectation.reasons), ("assuming", report.expectation.assumptions)):
        for k, sentence in enumerate(sentences):
            words.add_row("", Text(name if k == 0 else "", style="bold"), Text("·"), Text(sentence))
    return Group(table, words)
