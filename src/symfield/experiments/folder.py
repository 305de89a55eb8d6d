"""A run's folder: tidy rows, verdicts, figures and the whole configuration, under the same names for every study.

::

    <out>/<study>/<label>/
        rows.parquet     tidy rows
        verdicts.json    list of {claim, measured, expected, tolerance, verdict, source}
        config.json      study, preset, overrides, configuration, seeds, versions, commit, cells
        figures/         NAME.png, NAME.svg, interactive NAME.html
        tables/          NAME.csv

The label is the preset, or the preset and a short hash when anything was overridden. Each file is replaced in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
from matplotlib.figure import Figure

import symfield
from symfield.experiments import style
from symfield.experiments.errors import FolderError
from symfield.experiments.verdict import Verdict

__all__ = ["PAGE_CONTROLS", "RunFolder", "check_writable", "label", "latest", "runs", "write_atomically"]


PAGE_CONTROLS: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "plotlyServerURL": "",
}
"""plotly's controls on every page: nothing that would send the data anywhere."""


def check_writable(out: Path | str) -> Path:
    """Make the output folder, or say why it cannot be used.

    Args:
        out: the folder.

    Returns:
        The folder.

    Raises:
        FolderError: if it cannot be made or written to.
    """
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise FolderError(f"cannot write to the output folder {path}: {reason}; choose another one by --out") from error
    return path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step, so that a reader sees the old or the new one and nothing between.

    Args:
        path: the file; its folder is made when missing.
        content: what it shall hold.

    Raises:
        FolderError: if it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror or error}") from error


def label(preset: str, overrides: dict[str, Any]) -> str:
    """The name of a run among those of its study.

    Args:
        preset: the preset it started from.
        overrides: what was changed, as JSON holds it.

    Returns:
        The preset, with eight digits of a hash when something was changed.

    Example:
        >>> label("quick", {}), label("quick", {"tau": [0.0]})
        ('quick', 'quick-12167976')
    """
    if not overrides:
        return preset
    text = json.dumps(overrides, sort_keys=True, separators=(",", ":"))
    return f"{preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: where it is.
    """

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``.

        Raises:
            FolderError: if it is missing or damaged.
        """
        content = self._json("config.json")
        if not isinstance(content, dict) or not {"study", "preset", "finished", "overrides"} <= set(content):
            raise FolderError(f"{self.path / 'config.json'} is damaged; run the study again")
        return content

    @property
    def verdicts(self) -> list[Verdict]:
        """The content of ``verdicts.json``.

        Raises:
            FolderError: if it is missing or damaged.
        """
        try:
            return [Verdict.from_json(entry) for entry in self._json("verdicts.json")]
        except (TypeError, ValueError) as error:
            raise FolderError(f"{self.path / 'verdicts.json'} is damaged ({error}); run the study again") from error

    @property
    def rows(self) -> pd.DataFrame:
        """The content of ``rows.parquet``.

        Raises:
            FolderError: if it is missing or damaged.
        """
        try:
            return pd.read_parquet(self.path / "rows.parquet")
        except (OSError, pa.ArrowInvalid) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
            raise FolderError(f"{self.path / 'rows.parquet'} is {reason}; run the study again") from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ``rows.parquet``: what ``sha256sum`` prints, and what every figure drawn from the rows carries.

        Raises:
            FolderError: if there are no rows.
        """
        try:
            return hashlib.sha256((self.path / "rows.parquet").read_bytes()).hexdigest()
        except OSError as error:
            raise FolderError(f"{self.path / 'rows.parquet'} is missing; run the study again") from error

    def write_rows(self, rows: pd.DataFrame) -> None:
        """Write ``rows.parquet``.

        Args:
            rows: the tidy rows.

        Raises:
            FolderError: if a column mixes types, or the file cannot be written.
        """
        buffer = io.BytesIO()
        try:
            rows.to_parquet(buffer, index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise FolderError(
                f"the rows cannot be tabled: {' '.join(str(error).split())}; give each column one type in every cell"
            ) from error
        write_atomically(self.path / "rows.parquet", buffer.getvalue())

    def write_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Write ``verdicts.json``.

        Args:
            verdicts: in the order to be read.
        """
        self._write_json("verdicts.json", [verdict.to_json() for verdict in verdicts])

    def write_config(self, content: dict[str, Any]) -> None:
        """Write ``config.json``.

        Args:
            content: study, preset, overrides, configuration, seeds, versions, commit, cells.
        """
        self._write_json("config.json", content)

    def write_figure(self, name: str, figure: Figure, *, caption: str) -> None:
        """Write ``figures/NAME.png`` and ``.svg``, both with the fingerprint of the rows.

        Args:
            name: the file's stem.
            figure: what to write.
            caption: one line about it.
        """
        mark = f"rows.parquet sha256:{self.fingerprint}"
        creator = f"symfield {symfield.__version__}"
        marks: dict[str, dict[str, Any]] = {
            "png": {"Title": name, "Description": _latin(caption), "Source": mark, "Software": creator},
            "svg": {"Title": name, "Description": caption, "Source": mark, "Creator": creator, "Date": None},
        }
        for kind, metadata in marks.items():
            buffer = io.BytesIO()
            with style.context(), mpl.rc_context({"svg.id": name}):
                figure.savefig(buffer, format=kind, metadata=metadata)
            write_atomically(self.path / "figures" / f"{name}.{kind}", buffer.getvalue())

    def write_page(self, name: str, page: go.Figure, *, caption: str) -> None:
        """Write ``figures/NAME.html``, which works offline by itself, and ``.json`` for the report.

        Args:
            name: the file's stem.
            page: what to write.
            caption: one line about it.
        """
        marked = go.Figure(page)
        marked.update_layout(meta={"caption": caption, "rows_sha256": self.fingerprint})
        content = marked.to_html(include_plotlyjs=True, full_html=True, config=PAGE_CONTROLS)
        write_atomically(self.path / "figures" / f"{name}.html", content)
        write_atomically(self.path / "figures" / f"{name}.json", str(marked.to_json()))

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``tables/NAME.csv``.

        Args:
            name: the file's stem.
            table: what to write.
        """
        write_atomically(self.path / "tables" / f"{name}.csv", table.to_csv(index=False))

    def clear_figures(self) -> None:
        """Remove figures and tables of an earlier version of this run."""
        for folder in ("figures", "tables"):
            for file in (self.path / folder).glob("*.*"):
                with contextlib.suppress(OSError):
                    file.unlink()

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
            raise FolderError(f"{self.path / name} is {reason}; run the study again") from error

    def _write_json(self, name: str, content: object) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def latest(out: Path | str, study: str, preset: str | None = None) -> RunFolder:
    """The most recent run of a study.

    Args:
        out: the output folder.
        study: the study's name.
        preset: consider only runs that started from this preset.

    Returns:
        Its folder.

    Raises:
        FolderError: if there is none.
    """
    found = [folder for folder in runs(out, study) if preset is None or folder.config["preset"] == preset]
    if not found:
        which = f" with the preset {preset}" if preset else ""
        raise FolderError(f"no run of {study}{which} in {out}; start one: symfield run {study} --out {out}")
    return max(found, key=lambda folder: str(folder.config["finished"]))


def runs(out: Path | str, study: str) -> list[RunFolder]:
    """All runs of a study.

    Args:
        out: the output folder.
        study: the study's name.

    Returns:
        Their folders, by label.
    """
    return [RunFolder(file.parent) for file in sorted((Path(out) / study).glob("*/config.json"))]


def _latin(text: str) -> str:
    """Text as the metadata of a PNG can hold it."""
    return text.encode("latin-1", "replace").decode("latin-1")
