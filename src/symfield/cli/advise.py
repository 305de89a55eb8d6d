"""What ``symfield advise`` does: read a data set and a group, ask, show the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from symfield.cli.data import DataError, read_dataset
from symfield.cli.grouping import representation_of, target_representation
from symfield.experiments import style
from symfield.experiments.errors import Interrupted
from symfield.experiments.verdict import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from symfield.discovery import Advice, Dataset
    from symfield.groups import Representation

__all__ = ["Request", "advice_table", "advise_on", "progress"]


@dataclass(frozen=True)
class Request:
    """What was typed.

    Attributes:
        data: a file, or ``sklearn:NAME``.
        groups: groups in words; the data's own when empty.
        target: the column of the labels, or several with commas between.
        classes: whether labels are classes.
        output: how targets are moved: "fixed", "same" or "sign".
        tolerance: the largest accepted equivariance error, as a share of what is explained.
        steps: of each training.
        seeds: replicates.
        width: hidden neurons.
        seed: source of all randomness.
        as_json: whether to print JSON.
        report: a page to write.
    """

    data: str
    groups: tuple[str, ...]
    target: str | None
    classes: bool | None
    output: str
    tolerance: float
    steps: int
    seeds: int
    width: int
    seed: int
    as_json: bool
    report: Path | None


def advise_on(request: Request) -> int:
    """Answer, and print or write the answer.

    Args:
        request: what was typed.

    Returns:
        The exit code: 0 when the question could be answered, 1 when not.

    Raises:
        DataError: if the request cannot be carried out.
    """
    data = read_dataset(request.data, request.target, classes=request.classes)
    from symfield import random
    from symfield.discovery import Budget, advise

    generator = random.generator(request.seed)
    try:
        budget = replace(Budget(), steps=request.steps, seeds=request.seeds, width=request.width)
        with progress("looking for a symmetry" if not request.groups else "asking the data") as advance:
            rep, name = _group(request, data)
            out = None if rep is None else target_representation(request.output, rep, data.y.shape[1])
            advice = advise(
                data, rep, rep_out=out, name=name, budget=budget, tolerance=request.tolerance, generator=generator,
                advance=advance,
            )  # fmt: skip
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{request.data}: {error}") from error
    if request.report is not None:
        with style.context():
            _write(advice, request)
    if request.as_json:
        typer.echo(json.dumps(advice.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(advice_table(advice, title=request.data))
        if request.report is not None:
            Console(soft_wrap=True).print(f"written: {request.report}", highlight=False)
    return 0 if advice.decided else 1


def _group(request: Request, data: Dataset) -> tuple[Representation | None, str]:
    if not request.groups:
        return None, ""
    rep = representation_of(request.groups, data.x_names)
    return rep, " × ".join(request.groups)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that vanishes at the end; Ctrl-C ends the command with exit code 130.

    Args:
        title: the words before the bar.

    Yields:
        A function that is told the share that is done.

    Raises:
        Interrupted: on Ctrl-C.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=1.0)
        try:
            yield lambda share: bar.update(task, completed=share)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; nothing was written") from None


def advice_table(advice: Advice, *, title: str) -> Group:
    """An answer for a terminal.

    Args:
        advice: the answer.
        title: the line above.

    Returns:
        The verdict, a table of schemes, reasons, and what would change it.
    """
    head = Text.assemble((f"{title}: ", "bold"), (advice.verdict, "bold cyan" if advice.decided else "bold yellow"))
    parts: list[Text | Table] = [head]
    if advice.ranking:
        classes = advice.task == "classification"
        table = Table(box=SIMPLE_HEAD)
        table.add_column("scheme", style="bold")
        for name in ("error", "behind the best", *(["right"] if classes else []), "step, prediction"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("")
        for ranked in advice.ranking:
            best = ranked.scheme.name == advice.recommended
            style = "dim" if not ranked.allowed else "cyan" if best else ""
            cells = [
                ranked.scheme.name,
                _measured(ranked.error),
                _measured(ranked.behind),
                *([f"{ranked.accuracy:.1%}"] if ranked.accuracy is not None else []),
                f"{ranked.scheme.cost_of_training}×, {ranked.scheme.cost_of_prediction}×",
                "recommended" if best else ranked.remark,
            ]
            table.add_row(*(Text(cell, style=style) for cell in cells))
        parts.append(table)
        parts.append(Text("errors are mean squares over the variance of targets, on held-out samples\n", style="dim"))
    words = Table.grid(padding=(0, 1))
    unknown = [f"{name} was not compared: {why}" for name, why in advice.missing]
    listed: Sequence[tuple[str, Sequence[str]]] = (
        ("because", advice.reasons or [finding.reason for finding in advice.findings]),
        ("would change it", advice.changes),
        ("left out", unknown),
    )
    for name, sentences in listed:
        for k, sentence in enumerate(sentences):
            words.add_row("", Text(name if k == 0 else "", style="bold"), Text("·"), Text(sentence))
    parts.append(words)
    return Group(*parts)


def _measured(estimate: tuple[float, float]) -> str:
    value, error = estimate
    return f"{value:.3f} ± {error:.3f}"


def _write(advice: Advice, request: Request) -> None:
    import pandas as pd

    from symfield.cli.discovery_figures import element_violations, learning_curves
    from symfield.experiments.pages import Sheet, Tabulated, page

    sheets, tables = [], []
    if advice.trainings is not None:
        caption = (
            f"Error on {advice.trainings.held_out} held-out samples, median and range of {request.seeds} seeds; none "
            "is trained without a symmetry."
        )
        sheets.append(Sheet("Learning curves", caption, learning_curves(advice)))
    if advice.findings and advice.findings[0].examination.elements:
        sheets.append(
            Sheet(
                "Elements of the group",
                "½ mean D_g: how much worse a predictor that has not seen the sample does at the moved sample.",
                element_violations(advice),
            )
        )
    if advice.ranking:
        frame = pd.DataFrame(
            [
                {
                    "scheme": r.scheme.name, "error": r.error.value, "± ": r.error.error, "behind": r.behind.value,
                    "±": r.behind.error, "accuracy": r.accuracy, "step": r.scheme.cost_of_training,
                    "prediction": r.scheme.cost_of_prediction,
                    "remark": "recommended" if r.scheme.name == advice.recommended else r.remark,
                }
                for r in advice.ranking
            ]
        )  # fmt: skip
        if advice.task == "regression":
            frame = frame.drop(columns="accuracy")
        caption = (
            "Schemes, best first: held-out error over the variance of the targets, how far behind the best, with "
            "standard errors over seeds and splits, and evaluations of the network in a training step and a prediction."
        )
        tables.append(Tabulated(caption, frame))
    for finding in advice.findings:
        frame = pd.DataFrame(
            [
                {
                    "element": e.name, "violation / variance": e.violation.value, "±": e.violation.error,
                    "inside the data": e.inside, "pairs": e.pairs, "p": e.p,
                    "contradicted": "yes" if e.contradicted else "no",
                }
                for e in finding.examination.elements
            ]
        )  # fmt: skip
        tables.append(Tabulated(f"{finding.candidate.name}: every element tried.", frame))
    page(
        request.report or Path("page.html"),
        title=f"Does a symmetry pay off? {request.data}",
        answer=advice.verdict,
        good=None if not advice.decided else advice.recommended != "none",
        tags=[
            advice.task,
            f"{advice.samples} samples",
            *(f"{finding.candidate.name}: {finding.status}" for finding in advice.findings),
        ],
        lists={
            "Why": advice.reasons or [finding.reason for finding in advice.findings],
            "What would change it": advice.changes,
            "Left out": [f"{name}: {why}" for name, why in advice.missing],
        },
        sheets=sheets,
        tables=tables,
        facts={
            "data": request.data, "group": " × ".join(request.groups) or "found in the data",
            "targets move": request.output, "tolerance": request.tolerance, "steps": request.steps,
            "seeds": request.seeds, "width": request.width, "seed": request.seed,
            "processor seconds": number(round(advice.seconds, 1)),
        },
    )  # fmt: skip
