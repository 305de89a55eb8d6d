"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from symfield.cli.doctor import Finding
from symfield.experiments.catalogue import Entry
from symfield.experiments.verdict import FAILS, HOLDS, NOT_TESTED, Verdict, number

__all__ = ["findings_table", "studies_table", "verdicts_table"]

_VERDICTS = {HOLDS: "green", FAILS: "bold red", NOT_TESTED: "dim"}
_STATES = {"ok": "green", "note": "yellow", "problem": "bold red"}


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
    table.add_column("source", style="dim")
    for entry in found:
        table.add_row(Text(entry.name), Text(entry.claim), Text(entry.source))
    return table


def verdicts_table(found: Sequence[Verdict], *, title: str) -> Table:
    """Verdicts, one a line.

    Args:
        found: the verdicts.
        title: the line above.

    Returns:
        The table.
    """
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=3)
    for name in ("measured", "expected", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("source", style="dim")
    for verdict in found:
        table.add_row(
            Text(verdict.verdict, style=_VERDICTS[verdict.verdict]),
            Text(verdict.claim),
            Text(number(verdict.measured)),
            Text(number(verdict.expected)),
            Text(number(verdict.tolerance)),
            Text(verdict.source),
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
