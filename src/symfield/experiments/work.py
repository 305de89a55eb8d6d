"""Computing cells: one after another here, or in several processes that die with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from symfield.experiments.catalogue import load_module, loaded_by_path
from symfield.experiments.cell import Cell, encode

__all__ = ["Result", "compute", "here", "in_processes"]


@dataclass(frozen=True)
class Result:
    """What became of one cell.

    Args:
        blob: its encoded rows; empty when it failed.
        error: message and traceback; empty when it succeeded.
        seconds: how long it ran.
    """

    blob: bytes
    error: str
    seconds: float


def compute(cell: Cell) -> Result:
    """Run one cell; whatever it raises becomes its error.

    Args:
        cell: the unit of work.

    Returns:
        The encoded rows or the error, with the time it took.
    """
    began = time.perf_counter()
    try:
        blob, error = encode(cell.function(cell.config)), ""
    except Exception as caught:
        blob, error = b"", _describe(caught)
    return Result(blob, error, time.perf_counter() - began)


def here(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Result]]:
    """Run cells one after another in this process.

    Args:
        cells: units of work.

    Yields:
        Each cell with its result.
    """
    for cell in cells:
        yield cell, compute(cell)


def in_processes(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, Result]]:
    """Run cells in several fresh processes, which share the machine's threads; a process that dies fails its cell only.

    Args:
        cells: units of work, the most expensive first for the shortest wait.
        jobs: how many processes.

    Yields:
        Each cell with its result, in the order they end.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // jobs) if hasattr(os, "sched_getaffinity") else 1
    sources = sorted({path for cell in cells if (path := loaded_by_path(cell.function.__module__))})
    queue = list(reversed(cells))
    workers: dict[Connection, tuple[BaseProcess, Cell]] = {}

    def hand_out() -> None:
        while queue and len(workers) < jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, threads, sources), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = (process, queue.pop())
            _send(ours, workers[ours][1])

    try:
        hand_out()
        while workers:
            for ours in cast(list[Connection], wait(list(workers))):
                process, cell = workers.pop(ours)
                try:
                    result = ours.recv()
                    alive = True
                except (EOFError, OSError):
                    process.join()
                    result = Result(b"", f"the process of this cell died ({_exit(process.exitcode)})", 0.0)
                    alive = False
                if alive and queue:
                    workers[ours] = (process, queue.pop())
                    _send(ours, workers[ours][1])
                else:
                    _dismiss(ours, process)
                    hand_out()
                yield cell, result
    finally:
        for ours, (process, _) in workers.items():
            process.terminate()
            _dismiss(ours, process)


def _send(connection: Connection, cell: Cell) -> None:
    with contextlib.suppress(OSError):  # when the process has died, the next receive says so
        connection.send_bytes(pickle.dumps(cell))


def _dismiss(connection: Connection, process: BaseProcess) -> None:
    connection.close()  # an idle worker ends when it has nobody to listen to
    process.join()
    process.close()


def _serve(connection: Connection, threads: int, sources: list[str]) -> None:
    """The life of a worker: load the user's files, then compute what arrives until nobody sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            for source in sources:
                if not loaded_by_path(_stem(source)):
                    load_module(source)
            cell = pickle.loads(message)
        except Exception as caught:
            connection.send(Result(b"", _describe(caught), 0.0))
        else:
            connection.send(compute(cell))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _describe(caught: BaseException) -> str:
    summary = " ".join(f"{type(caught).__name__}: {caught}".split())
    return summary + "\n" + "".join(traceback.format_exception(caught))


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


def _stem(source: str) -> str:
    return os.path.splitext(os.path.basename(source))[0]
