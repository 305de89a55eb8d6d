"""What ``symfield discover`` does: which symmetry does a data set have?"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from symfield.cli.advise import progress
from symfield.cli.data import DataError, read_dataset
from symfield.experiments import style
from symfield.experiments.threads import one_thread

if TYPE_CHECKING:
    from symfield.discovery import Dataset, DiscoveredGroup, FixedPoints, Sharing

__all__ = ["Discovery", "discover_in", "sharing_labels"]

_FOUND = "symmetry found"


@dataclass(frozen=True)
class Discovery:
    """What both searches found.

    Attributes:
        data: where it was read.
        samples: number of samples.
        task: "regression" or "classification".
        group: the group that the fitted predictor has.
        fixed: the subspace of linear layers that training does not leave.
        x_names: names of inputs.
        y_names: names of targets.
        seconds: processor time spent.
    """

    data: str
    samples: int
    task: str
    group: DiscoveredGroup
    fixed: FixedPoints
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    seconds: float

    @property
    def answer(self) -> str:
        """The answer in a sentence."""
        if self.group.verdict == _FOUND:
            return f"{_FOUND}: {self.group.name}"
        return self.group.reason if self.group.reason.startswith(self.group.verdict) else (
            f"{self.group.verdict}: {self.group.reason}"
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, words and lists, for JSON."""
        g, f = self.group, self.fixed
        return {
            "data": self.data, "samples": self.samples, "task": self.task, "seconds": self.seconds,
            "verdict": g.verdict, "group": g.name, "reason": g.reason, "ignored": list(g.ignored),
            "generators": g.generators.tolist(), "output_generators": g.output_generators.tolist(),
            "algebra": g.algebra.tolist(), "output_algebra": g.output_algebra.tolist(),
            "checks": [
                {
                    "what": c.what, "effect": _finite(c.effect), "error": _finite(c.error), "null": _finite(c.null),
                    "covered": c.covered, "count": c.count, "holds": bool(c.holds),
                }
                for c in g.checks
            ],
            "fixed_points": {
                "verdict": f.verdict, "reason": f.reason, "dim": f.subspace.dim, "of": f.subspace.ambient_dim,
                "confidence": _finite(f.confidence), "cost": f.cost,
                "rounds": [
                    {
                        "dim": r.dim, "statistic": _finite(r.statistic), "threshold": _finite(r.threshold),
                        "p_value": _finite(r.p_value), "added": r.added, "values": [_finite(v) for v in r.values],
                    }
                    for r in f.rounds
                ],
            },
        }  # fmt: skip


def discover_in(
    source: str, target: str | None, *, classes: bool | None, seed: int, as_json: bool, report: Path | None
) -> int:
    """Search, and print or write what was found.

    Args:
        source: a file, or ``sklearn:NAME``.
        target: the column of the labels, or several with commas between.
        classes: whether labels are classes.
        seed: source of all randomness.
        as_json: whether to print JSON.
        report: a page to write.

    Returns:
        The exit code: 0 when the question could be answered, 1 when not.

    Raises:
        DataError: if the data cannot be read or searched.
    """
    data = read_dataset(source, target, classes=classes)
    try:
        with progress("looking for a symmetry") as advance:
            found = _search(source, data, seed, advance)
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    if report is not None:
        with style.context():
            _write(found, report, seed)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(_table(found))
        if report is not None:
            Console(soft_wrap=True).print(f"written: {report}", highlight=False)
    return int(found.group.verdict == "cannot tell")


def _search(source: str, data: Dataset, seed: int, advance: Any) -> Discovery:
    from symfield import random
    from symfield.discovery import discover_fixed_points, discover_group

    began = time.process_time()
    first, second = random.split(random.generator(seed), 2)
    with one_thread():
        group = discover_group(data, generator=first)
        advance(0.6)
        fixed = discover_fixed_points(data, generator=second)
    return Discovery(
        source, len(data), data.task, group, fixed, data.x_names, data.y_names, time.process_time() - began
    )  # fmt: skip


def sharing_labels(found: Discovery) -> np.ndarray | None:
    """Which weights of a linear layer from inputs to targets are one.

    Args:
        found: a discovery.

    Returns:
        Signed labels ``(o, d)``, 0 for weights that vanish; None when no two weights are tied.
    """
    basis = found.fixed.subspace.basis.numpy()
    rows, columns = len(found.y_names), len(found.x_names)
    if basis.shape[0] != rows * columns or found.fixed.verdict != _FOUND:
        return None
    labels = np.zeros(len(basis), dtype=int)
    kinds: list[np.ndarray] = []
    for i, row in enumerate(basis):
        if np.linalg.norm(row) < 1e-3 / np.sqrt(len(basis)):
            continue
        for k, known in enumerate(kinds):
            for sign in (1, -1):
                if labels[i] == 0 and np.linalg.norm(row - sign * known) < 0.05 * np.linalg.norm(known):
                    labels[i] = sign * (k + 1)
        if labels[i] == 0:
            kinds.append(row)
            labels[i] = len(kinds)
    tied = len(kinds) < int((labels != 0).sum()) or bool((labels == 0).any())
    return labels.reshape(rows, columns) if tied and labels.any() else None


def _table(found: Discovery) -> Group:
    style = {"symmetry found": "bold cyan", "cannot tell": "bold yellow"}.get(found.group.verdict, "bold")
    parts: list[Text | Table] = [Text.assemble((f"{found.data}: ", "bold"), (found.answer, style))]
    if found.group.checks:
        table = Table(box=SIMPLE_HEAD)
        table.add_column("generator", style="bold")
        for name in ("violation / variance", "of no symmetry", "covered"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("on held-out samples")
        for c in found.group.checks:
            held = Text("holds", style="green") if c.holds else Text("not certain", style="yellow")
            table.add_row(Text(c.what), f"{c.effect:.1e} ± {c.error:.1e}", f"{c.null:.1e}", f"{c.covered:.0%}", held)
        parts.append(table)
    words = Table.grid(padding=(0, 1))
    words.add_row("", Text("because", style="bold"), Text("·"), Text(found.group.reason))
    if found.group.ignored:
        listed = f"targets do not depend on {', '.join(found.group.ignored)}"
        words.add_row("", Text("no influence", style="bold"), Text("·"), Text(listed))
    space = found.fixed.subspace
    words.add_row(
        "", Text("linear layers", style="bold"), Text("·"),
        Text(f"{found.fixed.verdict}: {space.dim} free weights of {space.ambient_dim}; {found.fixed.reason}"),
    )  # fmt: skip
    parts.append(words)
    return Group(*parts)


def _write(found: Discovery, path: Path, seed: int) -> None:
    import pandas as pd

    from symfield.cli.discovery_figures import escape_statistics, rounds
    from symfield.discovery import draw_sharing
    from symfield.experiments.pages import Sheet, Tabulated, page

    sheets, tables = [], []
    pattern = _sharing(found)
    if pattern is not None:
        caption = (
            "A linear layer from inputs to targets: equal numbers are one weight, − turns its sign, a dot is zero."
        )
        sheets.append(Sheet("Weight sharing", caption, draw_sharing(pattern, found.x_names, found.y_names)))
    if found.fixed.rounds:
        caption = "Sizes of the drift off the candidate subspace, in each round of the search."
        sheets.append(Sheet("Singular values", caption, rounds(found.fixed)))
        caption = "What decides in each round: above the threshold training leaves the candidate, which then grows."
        sheets.append(Sheet("Escape", caption, escape_statistics(found.fixed)))
    if found.group.checks:
        frame = pd.DataFrame(
            [
                {
                    "generator": c.what, "violation / variance": c.effect, "±": c.error, "of no symmetry": c.null,
                    "covered": c.covered, "samples": c.count, "holds": "yes" if c.holds else "not certain",
                }
                for c in found.group.checks
            ]
        )  # fmt: skip
        tables.append(Tabulated("Every generator on held-out samples.", frame))
    frame = pd.DataFrame(
        [
            {"round": k, "dim": r.dim, "statistic": r.statistic, "threshold": r.threshold, "added": r.added}
            for k, r in enumerate(found.fixed.rounds)
        ]
    )
    if len(frame):
        tables.append(Tabulated("Rounds of the search for fixed linear layers.", frame))
    page(
        path,
        title=f"Which symmetry? {found.data}",
        answer=found.answer,
        good={"symmetry found": True, "no symmetry found": False}.get(found.group.verdict),
        tags=[found.task, f"{found.samples} samples", f"linear layers: {found.fixed.verdict}"],
        lists={
            "Why": [found.group.reason, f"linear layers: {found.fixed.reason}"],
            "Without influence": found.group.ignored,
        },
        sheets=sheets,
        tables=tables,
        facts={"data": found.data, "seed": seed, "processor seconds": round(found.seconds, 1)},
    )


def _sharing(found: Discovery) -> Sharing | None:
    """The pattern of the group that was found, or else of the linear layers that training does not leave."""
    import torch

    from symfield.discovery import Sharing, sharing

    try:
        return sharing(found.group)
    except ValueError:
        labels = sharing_labels(found)
    if labels is None:
        return None
    tied = torch.from_numpy(labels)
    return Sharing(tied.abs() - 1, tied.sign())


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
