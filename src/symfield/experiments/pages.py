"""One self-contained page about one question: an answer, why, figures, tables. It loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from symfield import __version__
from symfield.experiments.folder import write_atomically
from symfield.experiments.verdict import number

__all__ = ["Sheet", "Tabulated", "page"]

_LARGEST_SVG = 200_000  # bytes; a larger figure is smaller as PNG
_MOST_LINES = 60


@dataclass(frozen=True)
class Sheet:
    """A figure with its caption.

    Attributes:
        name: a few words.
        caption: what it shows.
        figure: the figure.
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Tabulated:
    """A table with its caption.

    Attributes:
        caption: what it holds.
        frame: the numbers and words.
    """

    caption: str
    frame: pd.DataFrame


def page(
    path: Path | str,
    *,
    title: str,
    answer: str,
    good: bool | None,
    tags: Sequence[str] = (),
    lists: Mapping[str, Sequence[str]] | None = None,
    sheets: Sequence[Sheet] = (),
    tables: Sequence[Tabulated] = (),
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write a page.

    Args:
        path: where to.
        title: the heading.
        answer: the answer in a sentence.
        good: whether it is a yes (True), a no (False), or neither (None); sets the colour.
        tags: a few words each, below the answer.
        lists: headings and their sentences.
        sheets: figures.
        tables: tables.
        facts: settings, by name.

    Returns:
        The page's path.

    Raises:
        FolderError: if the page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("symfield.experiments"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    text = environment.get_template("page.html.j2").render(
        title=title,
        answer=answer,
        state={True: "holds", False: "fails", None: "not-tested"}[good],
        tags=list(tags),
        lists={name: list(sentences) for name, sentences in (lists or {}).items() if sentences},
        figures=[_picture(sheet) for sheet in sheets],
        tables=[_lines(table) for table in tables],
        facts=dict(facts or {}),
        version=__version__,
    )
    write_atomically(Path(path), text)
    return Path(path)


def _picture(sheet: Sheet) -> dict[str, object]:
    drawn = io.BytesIO()
    sheet.figure.savefig(drawn, format="svg", metadata={"Date": None})
    kind = "svg+xml"
    if drawn.tell() > _LARGEST_SVG:
        drawn, kind = io.BytesIO(), "png"
        sheet.figure.savefig(drawn, format="png")
    source = f"data:image/{kind};base64,{base64.b64encode(drawn.getvalue()).decode()}"
    width = round(96 * 1.2 * sheet.figure.get_size_inches()[0])
    return {"name": sheet.name, "caption": sheet.caption, "source": source, "width": width}


def _lines(table: Tabulated) -> dict[str, object]:
    frame = table.frame
    lines = [
        [(number(value), isinstance(value, (int, float)) and not isinstance(value, bool)) for value in line]
        for line in frame.head(_MOST_LINES).astype(object).itertuples(index=False, name=None)
    ]
    left = max(0, len(frame) - _MOST_LINES)
    caption = table.caption + (f" {left} more lines are left out." if left else "")
    return {"caption": caption, "header": [str(name) for name in frame.columns], "lines": lines}
