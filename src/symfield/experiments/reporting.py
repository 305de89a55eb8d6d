"""One self-contained page for any number of runs: claims, verdicts, figures, tables, provenance. It loads nothing.

A figure is embedded as SVG when that is small and as PNG otherwise; interactive pages share one copy of plotly.js; the
page follows the reader's light or dark setting and fits a phone.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from symfield.experiments.errors import FolderError
from symfield.experiments.folder import PAGE_CONTROLS, RunFolder, write_atomically
from symfield.experiments.verdict import FAILS, HOLDS, NOT_TESTED, counted, number

__all__ = ["report"]

_LARGEST_SVG = 200_000  # bytes; a scatter of thousands of points is smaller as PNG
_MOST_LINES = 60  # of a table


@dataclass(frozen=True)
class _Picture:
    """A figure or an interactive page as the template shows it."""

    name: str
    point: str
    caption: str
    source: str
    stale: bool
    width: int = 0


@dataclass(frozen=True)
class _Table:
    """A table as the template shows it: cells as (text, is a number)."""

    name: str
    point: str
    caption: str
    header: list[str]
    lines: list[list[tuple[str, bool]]]
    left_out: int


def report(folders: Sequence[RunFolder | Path | str], path: Path | str) -> Path:
    """Write one HTML page about some runs.

    Args:
        folders: the runs, in reading order.
        path: the page.

    Returns:
        The page's path.

    Raises:
        FolderError: if there is no run, a run's folder is incomplete, or the page cannot be written.
    """
    if not folders:
        raise FolderError("no runs to report; start one: symfield run STUDY")
    sections = [_section(one if isinstance(one, RunFolder) else RunFolder(Path(one))) for one in folders]
    total: Counter[str] = sum((section["tally"] for section in sections), Counter())
    environment = Environment(
        loader=PackageLoader("symfield.experiments"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    environment.filters["counted"] = counted
    environment.filters["mathematics"] = _mathematics
    interactive = any(section["pages"] for section in sections)
    page = environment.get_template("report.html.j2").render(
        sections=sections,
        title=_title([section["title"] for section in sections]),
        total=total,
        kinds=(HOLDS, FAILS, NOT_TESTED),
        controls=PAGE_CONTROLS,
        plotly=get_plotlyjs() if interactive else None,
    )
    target = Path(path)
    write_atomically(target, page)
    return target


def _title(titles: list[str]) -> str:
    if len(titles) == 1:
        return titles[0]
    return f"{len(titles)} studies" if len(set(titles)) == len(titles) else f"{len(titles)} runs"


def _section(folder: RunFolder) -> dict[str, Any]:
    """What the template shows of one run."""
    config, verdicts, rows = folder.config, folder.verdicts, folder.rows
    captions, fingerprint = config["captions"], folder.fingerprint
    return {
        "anchor": f"{config['study']}-{folder.path.name}",
        "config": config,
        "label": folder.path.name,
        "title": config["study"].replace("_", " "),
        "verdicts": verdicts,
        "tally": Counter(verdict.verdict for verdict in verdicts),
        "figures": [_figure(file, captions, fingerprint) for file in _in_order(folder, "figures/*.png", captions)],
        "pages": [_page(file, captions, fingerprint) for file in _in_order(folder, "figures/*.json", captions)],
        "tables": [_table(file, captions) for file in _in_order(folder, "tables/*.csv", captions)],
        "summary": _tabulate(_summary(rows), "rows", "", "Every column of numbers in rows.parquet."),
        "rows": len(rows),
        "fingerprint": fingerprint,
        "settings": {name: _setting(value) for name, value in config["config"].items()},
    }


def _in_order(folder: RunFolder, pattern: str, captions: dict[str, str]) -> list[Path]:
    """Files in the order in which the study declares them."""
    place = {name: i for i, name in enumerate(captions)}
    return sorted(
        folder.path.glob(pattern), key=lambda file: (place.get(file.stem.partition("__")[0], len(place)), file)
    )


def _figure(png: Path, captions: dict[str, str], fingerprint: str) -> _Picture:
    name, _, point = png.stem.partition("__")
    vector = png.with_suffix(".svg")
    text = vector.read_bytes() if vector.exists() else b""
    kind, content = ("svg+xml", text) if 0 < len(text) <= _LARGEST_SVG else ("png", png.read_bytes())
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    stale = fingerprint.encode() not in text
    points = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', text)
    width = round(1.2 * 4 / 3 * float(points[1])) if points else 0  # 9.5 pt of the figure read like 15 px
    return _Picture(name, point.replace("_", ", "), captions.get(name, ""), source, stale, width)


def _page(file: Path, captions: dict[str, str], fingerprint: str) -> _Picture:
    name, _, point = file.stem.partition("__")
    content = json.loads(file.read_text(encoding="utf-8"))
    stale = content["layout"].get("meta", {}).get("rows_sha256") != fingerprint
    content["layout"].pop("width", None)  # the page's own width decides
    source = json.dumps(content, separators=(",", ":")).replace("</", "<\\/")
    return _Picture(name, point.replace("_", ", "), captions.get(name, ""), source, stale)


def _table(file: Path, captions: dict[str, str]) -> _Table:
    name, _, point = file.stem.partition("__")
    return _tabulate(pd.read_csv(file), name, point.replace("_", ", "), captions.get(name, ""))


def _tabulate(frame: pd.DataFrame, name: str, point: str, caption: str) -> _Table:
    lines = [
        [(number(value), isinstance(value, (int, float)) and not isinstance(value, bool)) for value in line]
        for line in frame.head(_MOST_LINES).astype(object).itertuples(index=False, name=None)
    ]
    return _Table(name, point, caption, [str(c) for c in frame.columns], lines, max(0, len(frame) - _MOST_LINES))


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = rows.select_dtypes("number")
    return pd.DataFrame(
        {
            "column": list(numbers.columns),
            "values": [int(numbers[name].nunique()) for name in numbers],
            "smallest": [float(numbers[name].min()) for name in numbers],
            "median": [float(numbers[name].median()) for name in numbers],
            "largest": [float(numbers[name].max()) for name in numbers],
            "missing": [int(numbers[name].isna().sum()) for name in numbers],
        }
    )


def _mathematics(text: str) -> str:
    """Escaped words with ``E^G`` and ``P_E`` set as super- and subscripts; ``rmd2_fixed`` is a name and stays."""
    raised = re.sub(r"(?<=\w)\^(\w+|⊥)", r"<sup>\1</sup>", html.escape(text))
    return re.sub(r"(?<=\w)_([A-Z*])(?!\w)", r"<sub>\1</sub>", raised)


def _setting(value: Any) -> str:
    if not isinstance(value, list):
        return number(value)
    whole = all(isinstance(item, int) for item in value)
    if len(value) > 2 and whole and value == list(range(value[0], value[0] + len(value))):
        return f"{value[0]} … {value[-1]}"
    return ", ".join(number(item) for item in value)
