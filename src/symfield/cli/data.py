"""Reading a data set of the user's own: ``.npz``, ``.csv``, ``.parquet``, or one of scikit-learn's by name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from symfield.experiments.errors import ExperimentError, unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from symfield.discovery import Dataset

__all__ = ["BUNDLED", "DataError", "Samples", "read_dataset", "read_samples"]

_READERS = {".csv": "read_csv", ".parquet": "read_parquet"}

#: The data sets that come with scikit-learn, and whether their targets are classes.
BUNDLED = {
    "iris": True,
    "wine": True,
    "breast_cancer": True,
    "digits": True,
    "diabetes": False,
    "linnerud": False,
}


class DataError(ExperimentError, ValueError):
    """A data set cannot be read, or not be worked with."""


class Samples(NamedTuple):
    """A data set as it was read.

    Attributes:
        x: inputs ``(n, d)``.
        y: labels ``(n)``, or ``(n, o)`` for several columns of targets.
        x_names: names of the inputs.
        y_names: names of the targets.
        classes: whether targets are known to be classes; None when only their type can tell.
    """

    x: np.ndarray
    y: np.ndarray
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    classes: bool | None = None


def read_dataset(source: str, target: str | None, *, classes: bool | None) -> Dataset:
    """A data set for :mod:`symfield.discovery`.

    Args:
        source: what :func:`read_samples` reads.
        target: the column of the labels, or several with commas between.
        classes: whether labels are classes; told from their type when absent: words and booleans are, numbers are not.

    Returns:
        The data set.

    Raises:
        DataError: if it cannot be read, or holds what is not a number.
    """
    from symfield.discovery import dataset

    held = read_samples(source, target)
    wanted = held.classes if classes is None else classes
    try:
        return dataset(
            held.x, held.y, classes=wanted, x_names=held.x_names, y_names=() if held.y.ndim == 1 else held.y_names
        )
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error


def read_samples(source: str | Path, target: str | None) -> Samples:
    """Inputs and labels from a file, or from scikit-learn.

    Args:
        source: ``.npz`` with arrays X (or x) and y, ``.csv`` or ``.parquet``, or ``sklearn:digits``.
        target: the column of the labels, or several with commas between; not for ``.npz``.

    Returns:
        The samples.

    Raises:
        DataError: if the file, an array or a column is missing, or a column of inputs does not hold numbers.
    """
    if str(source).startswith("sklearn:"):
        return _bundled(str(source).partition(":")[2], target)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    kind = path.suffix.lower()
    if kind == ".npz":
        return _arrays(path, target)
    if kind not in _READERS:
        raise DataError(f"expected a .npz, .csv or .parquet file, received {path}")
    return _columns(path, target)


def _bundled(name: str, target: str | None) -> Samples:
    if name not in BUNDLED:
        raise DataError(unknown("data set", name, list(BUNDLED)))
    if target is not None:
        raise DataError(f"sklearn:{name} has its own targets; leave --target out")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(f"sklearn:{name} needs scikit-learn: pip install 'symfield[datasets]'") from error
    held = getattr(datasets, f"load_{name}")()
    x, y = held.data, held.target
    names = tuple(str(word).replace(" ", "_") for word in held.feature_names)
    if BUNDLED[name]:
        y = held.target_names[y].astype(str).astype(object)
        return Samples(x, y, names, ("class",), True)
    targets = ("target",) if y.ndim == 1 else tuple(str(word) for word in held.target_names)
    return Samples(x, y, names, targets, False)


def _arrays(path: Path, target: str | None) -> Samples:
    import numpy as np

    if target is not None:
        raise DataError(f"{path} holds arrays X and y; --target names a column of a .csv or .parquet file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"cannot read {path}: not an .npz file; write one with numpy.savez(path, X=x, y=y)")
    try:
        with np.load(path, allow_pickle=False) as held:
            names = {name.lower(): name for name in held.files}
            if not {"x", "y"} <= set(names):
                raise DataError(f"expected arrays X and y in {path}, found {', '.join(held.files) or 'none'}")
            x, y = held[names["x"]], held[names["y"]]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    width = int(np.prod(x.shape[1:])) if x.ndim else 0
    outputs = y.shape[1] if y.ndim == 2 else 1
    return Samples(x, y, tuple(f"x{i}" for i in range(width)), tuple(f"y{i}" for i in range(outputs)))


def _columns(path: Path, target: str | None) -> Samples:
    import pandas as pd

    try:
        table: pd.DataFrame = getattr(pd, _READERS[path.suffix.lower()])(path)
    except Exception as error:  # whatever the parser of the day raises
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if target is None:
        raise DataError(f"name the column of the labels: --target COLUMN. Columns: {_listed(table.columns)}")
    known = [str(name) for name in table.columns]
    targets = [target] if target in table.columns else [word.strip() for word in target.split(",")]
    for name in targets:
        if name not in table.columns:
            raise DataError(unknown("column", name, known))
    twice = [name for i, name in enumerate(targets) if name in targets[:i]]
    if twice:
        raise DataError(f"--target names {_listed(twice)} more than once")
    if len(table) == 0:
        raise DataError(f"{path} has column names and no rows")
    inputs = table.drop(columns=targets)
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
    for name in targets:
        missing = int(table[name].isna().sum())
        if missing:
            raise DataError(f"column {name!r} misses {missing} of {len(table)} labels; drop these rows")
    x = inputs.to_numpy(dtype="float64", na_value=float("nan"))
    names = tuple(str(name) for name in inputs.columns)
    if len(targets) == 1:
        labels = table[targets[0]]
        plain = _is_number(labels) or labels.dtype == bool
        y = labels.to_numpy() if plain else labels.astype(str).to_numpy(dtype=object)
        return Samples(x, y, names, tuple(targets))
    wordy = [name for name in targets if not _is_number(table[name])]
    if wordy:
        raise DataError(f"expected several targets that are numbers, not {_listed(wordy)}; classes are one column")
    return Samples(x, table[targets].to_numpy(dtype="float64"), names, tuple(targets))


def _is_number(column: Any) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(column)) and not is_bool_dtype(column)


def _counts_rows(column: Any) -> bool:
    return _is_number(column) and column.tolist() == list(range(len(column)))


def _listed(names: Any) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (f", … {len(shown)} in all" if len(shown) > 8 else "")
