"""Running many cells once: what is stored is reused, what is missing is computed, what fails is recorded."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from symfield.experiments.cell import Cell, Row, canonical
from symfield.experiments.errors import CellsFailed, ExperimentError, Interrupted
from symfield.experiments.monitor import Monitor, Quiet
from symfield.experiments.provenance import versions
from symfield.experiments.store import CorruptedCell, Record, Store
from symfield.experiments.work import Result, here, in_processes

__all__ = ["DONE", "FAILED", "Failure", "Outcome", "sweep"]

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Failure:
    """A cell that raised.

    Args:
        cell: which one.
        message: what it raised, in one line.
        trace: the traceback.
    """

    cell: Cell
    message: str
    trace: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.message}"


@dataclass(frozen=True)
class Outcome:
    """What a sweep brought back.

    Args:
        rows: the rows of each finished cell, by key.
        failures: the cells that raised.
        computed: how many cells were computed now.
        reused: how many were in the store already.
        seconds: what the computed ones took, added up.
    """

    rows: dict[str, list[Row]]
    failures: tuple[Failure, ...]
    computed: int
    reused: int
    seconds: float

    def frame(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """The rows of some cells as one tidy table.

        Each row also says which cell it is from (``cell``, the first 12 digits of the key) and carries the scalar
        fields of the cell's configuration that it does not name itself.

        Args:
            cells: cells of this sweep, in the order wanted; failed ones have no rows.

        Returns:
            The table.
        """
        rows: list[Row] = []
        for cell in cells:
            settings = {name: value for name, value in cell.settings.items() if not isinstance(value, tuple)}
            rows += [{**settings, **row, "cell": cell.key[:12]} for row in self.rows.get(cell.key, ())]
        return pd.DataFrame.from_records(rows)

    def check(self) -> None:
        """Raise if any cell failed.

        Raises:
            CellsFailed: naming each failed cell in one line.
        """
        if self.failures:
            lines = "\n".join(f"  {failure}" for failure in self.failures)
            raise CellsFailed(f"{len(self.failures)} of {self._total} cells failed:\n{lines}")

    @property
    def _total(self) -> int:
        return len(self.rows) + len(self.failures)


def sweep(
    cells: Sequence[Cell], *, store: Store | None = None, jobs: int = 1, monitor: Monitor | None = None
) -> Outcome:
    """Compute the cells that the store does not hold; keep each one as soon as it is finished.

    A cell that raises is recorded as failed and the rest goes on; it is tried again by the next sweep. A stored cell
    that is corrupted is reported and computed again.

    Args:
        cells: units of work; equal ones are computed once.
        store: where finished cells live; None keeps nothing beyond the outcome.
        jobs: how many processes; 1 computes here. A script that asks for more must guard its entry point by
            ``if __name__ == "__main__"``.
        monitor: who watches; nobody when absent.

    Returns:
        The outcome; ask it for a :meth:`~Outcome.frame`.

    Raises:
        ExperimentError: if ``jobs`` is not positive.
        Interrupted: on Ctrl-C; what is finished is in the store.
        StoreError: if the store is damaged.
    """
    if jobs < 1:
        raise ExperimentError(f"jobs must be at least 1, got {jobs}")
    monitor = Quiet() if monitor is None else monitor
    wanted = {cell.key: cell for cell in cells}
    rows = {} if store is None else _stored(wanted, store, monitor)
    reused = len(rows)
    missing = [cell for key, cell in wanted.items() if key not in rows]
    failures: list[Failure] = []
    seconds = 0.0
    if missing:
        monitor.start(cells=len(missing), cost=sum(cell.cost for cell in missing))
    try:
        for cell, result in _compute(missing, jobs):
            record = _record(cell, result)
            if store is not None:
                store.put(record)
            if result.error:
                message, _, trace = result.error.partition("\n")
                failures.append(Failure(cell, message, trace))
            else:
                rows[cell.key] = record.rows
            seconds += result.seconds
            monitor.advance(cost=cell.cost, failed=bool(result.error))
    except KeyboardInterrupt:
        done = len(rows)
        kept = (
            f"kept in {store.path}; do the same again to resume" if store is not None else "lost, as there was no store"
        )
        raise Interrupted(f"interrupted: {done} of {len(wanted)} cells are finished and {kept}") from None
    finally:
        monitor.stop()
    return Outcome(rows, tuple(failures), len(missing) - len(failures), reused, seconds)


def _compute(cells: list[Cell], jobs: int) -> Iterable[tuple[Cell, Result]]:
    if jobs == 1 or len(cells) < 2:
        return here(cells)
    return in_processes(sorted(cells, key=lambda cell: -cell.cost), min(jobs, len(cells)))


def _stored(wanted: dict[str, Cell], store: Store, monitor: Monitor) -> dict[str, list[Row]]:
    """The rows of the wanted cells that the store holds and that can be trusted."""
    rows, changed = {}, []
    for key, cell in wanted.items():
        try:
            record = store.get(key)
        except CorruptedCell as error:
            monitor.note(str(error))
            continue
        if record is not None and record.status == DONE:
            rows[key] = record.rows
            if record.code and cell.code and record.code != cell.code:
                changed.append(cell.name)
    for name in dict.fromkeys(changed):
        monitor.note(
            f"{changed.count(name)} stored cells were computed by another text of {name} and are reused; "
            "raise its version (@versioned) to compute them again"
        )
    return rows


def _record(cell: Cell, result: Result) -> Record:
    return Record(
        key=cell.key,
        function=cell.name,
        version=cell.version,
        config=canonical(cell.settings),
        code=cell.code,
        status=FAILED if result.error else DONE,
        error=result.error,
        seconds=result.seconds,
        versions=json.dumps(versions()),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        blob=result.blob,
    )
