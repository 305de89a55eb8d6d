"""Who watches a sweep: nobody, or a bar with the time that remains."""

from __future__ import annotations

import time
import warnings
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["Bar", "Monitor", "Quiet"]


@runtime_checkable
class Monitor(Protocol):
    """What a sweep tells while it runs."""

    def start(self, *, cells: int, cost: float) -> None:
        """So many cells will be computed, at this cost in all."""

    def advance(self, *, cost: float, failed: bool) -> None:
        """One more cell has ended."""

    def note(self, message: str) -> None:
        """Something the user should know."""

    def stop(self) -> None:
        """The sweep has ended."""


class Quiet:
    """Shows nothing; notes become warnings."""

    def start(self, *, cells: int, cost: float) -> None:
        """Nothing to show."""

    def advance(self, *, cost: float, failed: bool) -> None:
        """Nothing to show."""

    def note(self, message: str) -> None:
        """Warn."""
        warnings.warn(message, RuntimeWarning, stacklevel=3)

    def stop(self) -> None:
        """Nothing to show."""


class Bar:
    """A progress bar with cells done, time elapsed, and the time that remains by the cells' declared costs.

    Args:
        console: where to draw, e.g. ``Console(stderr=True)``.
        title: the words before the bar.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Remaining(),
            console=console,
            refresh_per_second=4,
            transient=False,
        )
        self._title, self._failed, self._started = title, 0, False

    def start(self, *, cells: int, cost: float) -> None:
        """Draw the bar."""
        self._task = self._progress.add_task(self._title, total=cells, cost=cost, spent=0.0, began=time.monotonic())
        self._progress.start()
        self._started = True

    def advance(self, *, cost: float, failed: bool) -> None:
        """Move the bar by one cell."""
        self._failed += failed
        spent = self._progress.tasks[0].fields["spent"] + cost
        title = self._title + (f" [red]({self._failed} failed)[/red]" if self._failed else "")
        self._progress.update(self._task, advance=1, spent=spent, description=title)

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(Text(message, style="yellow"))

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self._started:
            self._progress.stop()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Remaining(ProgressColumn):
    """The time that remains, were each unit of cost as slow as those already spent."""

    def render(self, task: Task) -> Text:
        spent, cost = task.fields["spent"], task.fields["cost"]
        if task.finished:
            return Text("")
        if spent == 0:
            return Text("about ? left", style="cyan")
        seconds = int((time.monotonic() - task.fields["began"]) * (cost - spent) / spent)
        hours, rest = divmod(seconds, 3600)
        clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
        return Text(f"about {clock} left", style="cyan")
