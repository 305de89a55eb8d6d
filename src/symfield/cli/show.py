"""Tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from symfield.experiments.catalogue import Entry
from symfield.experiments.verdict import FAILS, HOLDS, NOT_TESTED, Verdict, counted, number

__all__ = ["Finding", "findings_table", "studies_table", "verdicts_table"]

_VERDICTS = {HOLDS: "green", FAILS: "bold red", NOT_TESTED: "dim"}
_STATES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Args:
        name: what was looked at.
        state: ``"ok"``, ``"note"`` (works, but could do more) or ``"problem"``.
        words: what was found.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    words: str


def studies_table(found: Sequence[Entry]) -> Table:
    """Studies with their claims.

    Args:
        found: the studies.

    Returns:
        The table.
    """
    table = Table(box=SIMPLE_HEAD, caption=None if found else "no studies are installed")
    table.add_column("study", style="bold", no_wrap=True)
    table.add_column("claim")
    for entry in found:
        table.add_row(Text(entry.name), Text(entry.claim))
    return table


def verdicts_table(found: Sequence[Verdict], *, title: str) -> Table:
    """Verdicts, one a line, with their sources below and a count at the end.

    Args:
        found: the verdicts.
        title: the line above.

    Returns:
        The table.
    """
    tally = Counter(verdict.verdict for verdict in found)
    counts = ", ".join(counted(kind, tally[kind]) for kind in _VERDICTS if tally[kind]) or "no verdicts"
    table = Table(box=SIMPLE_HEAD, title=f"{title}: {counts}", title_justify="left", title_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=1)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("expected", justify="right", no_wrap=True)
    for verdict in found:
        tested = verdict.verdict != NOT_TESTED
        why = "" if tested else f"\n{verdict.measured}"
        table.add_row(
            Text(verdict.verdict, style=_VERDICTS[verdict.verdict]),
            Text.assemble(verdict.claim, (why, "yellow"), (f"\n{verdict.source}", "dim")),
            Text(number(verdict.measured) if tested else ""),
            Text(_expected(verdict) if tested else ""),
        )
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """What the doctor found, one a line.

    Args:
        findings: name, state and words.

    Returns:
        The table.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        table.add_row(finding.name, Text(finding.state, style=_STATES[finding.state]), Text(finding.words))
    return table


def _expected(verdict: Verdict) -> str:
    words = number(verdict.expected)
    return words if verdict.tolerance is None else f"{words} ± {number(verdict.tolerance)}"
