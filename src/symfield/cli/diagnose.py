"""What ``symfield diagnose`` does: read a table, look at it, print the report."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from symfield.experiments.errors import ExperimentError, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from symfield.onestep import Diagnosis

__all__ = ["DataError", "diagnosis_table", "examine_data", "read_data"]

_READERS = {".csv": "read_csv", ".parquet": "read_parquet"}


class DataError(ExperimentError, ValueError):
    """A data set cannot be read, or not be diagnosed."""


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
    x, y = read_data(path, target)
    from symfield import random
    from symfield.onestep import diagnose
    from symfield.studies._threads import one_thread

    try:
        with one_thread():
            return diagnose(
                x, y, standardise=standardise, classes=classes, measure=measure, generator=random.generator(seed)
            )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def read_data(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels from a file.

    Args:
        path: ``.npz`` with arrays X (or x) and y, ``.csv`` or ``.parquet``.
        target: the column of the labels; not for ``.npz``.

    Returns:
        Inputs ``(n, d)`` and labels ``(n)``.

    Raises:
        DataError: if the file, an array or a column is missing, or a column of inputs does not hold numbers.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    kind = path.suffix.lower()
    if kind == ".npz":
        return _arrays(path, target)
    if kind not in _READERS:
        raise DataError(f"expected a .npz, .csv or .parquet file, received {path}")
    return _columns(path, target)


def _arrays(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    if target is not None:
        raise DataError(f"{path} holds arrays X and y; --target names a column of a .csv or .parquet file")
    try:
        with np.load(path, allow_pickle=False) as held:
            names = {name.lower(): name for name in held.files}
            if not {"x", "y"} <= set(names):
                raise DataError(f"expected arrays X and y in {path}, found {', '.join(held.files) or 'none'}")
            return held[names["x"]], held[names["y"]]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _columns(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    try:
        table: pd.DataFrame = getattr(pd, _READERS[path.suffix.lower()])(path)
    except Exception as error:  # whatever the parser of the day raises
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if target is None:
        raise DataError(f"name the column of the labels: --target COLUMN. Columns: {_listed(table.columns)}")
    if target not in table.columns:
        raise DataError(unknown("column", target, [str(name) for name in table.columns]))
    if len(table) == 0:
        raise DataError(f"{path} has column names and no rows")
    inputs = table.drop(columns=target)
    for name in inputs.columns:
        if str(name).startswith("Unnamed:") and _counts_rows(inputs[name]):
            raise DataError(f"column {name!r} of {path} counts the rows; leave it out: to_csv(..., index=False)")
    words = [str(name) for name in inputs.columns if not (_is_number(inputs[name]) or inputs[name].dtype == bool)]
    if words:
        raise DataError(f"expected columns of numbers, not words or dates: {_listed(words)}; encode or drop them")
    if inputs.shape[1] == 0:
        raise DataError(f"{path} has no column besides {target!r}")
    holes = [f"{name} ({count})" for name, count in inputs.isna().sum().items() if count]
    if holes:
        raise DataError(f"values are missing in {_listed(holes)} of {len(table)} rows; drop or impute them")
    labels = table[target]
    missing = int(labels.isna().sum())
    if missing:
        raise DataError(f"column {target!r} misses {missing} of {len(table)} labels; drop these rows")
    y = labels.to_numpy() if _is_number(labels) or labels.dtype == bool else labels.astype(str).to_numpy(dtype=object)
    return inputs.to_numpy(dtype="float64", na_value=float("nan")), y


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


def _is_number(column: Any) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(column)) and not is_bool_dtype(column)


def _counts_rows(column: Any) -> bool:
    return _is_number(column) and column.tolist() == list(range(len(column)))


def _listed(names: Any) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (f", … {len(shown)} in all" if len(shown) > 8 else "")
