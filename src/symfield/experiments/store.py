"""Finished cells in one SQLite file: no server, safe with several processes, nothing lost but the cell in progress.

Each cell is one row, written in one transaction, with a checksum over everything it says. A row that does not match its
checksum is never used. The file is in write-ahead mode: a process may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from symfield.experiments.cell import Row, decode
from symfield.experiments.errors import StoreError

__all__ = ["CorruptedCell", "Record", "Store", "repair"]

_FORMAT = 1
_PATIENCE = 60.0  # seconds to wait for another process that writes
_Result = TypeVar("_Result")


class CorruptedCell(StoreError):
    """A stored cell does not match its checksum; it must be computed again."""


@dataclass(frozen=True)
class Record:
    """What the store knows about one cell.

    Args:
        key: the cell's key.
        function: path of its function.
        version: version of its function.
        config: canonical JSON of its configuration.
        code: fingerprint of the function's text.
        status: ``"done"`` or ``"failed"``.
        error: the message and traceback of a failed cell, else empty.
        seconds: how long it ran.
        versions: JSON of the versions it ran under.
        created: when it ended, ISO 8601 in UTC.
        blob: its encoded rows; empty for a failed cell.
    """

    key: str
    function: str
    version: int
    config: str
    code: str
    status: str
    error: str
    seconds: float
    versions: str
    created: str
    blob: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 over every field."""
        digest = hashlib.sha256()
        for value in astuple(self):
            piece = value if isinstance(value, bytes) else str(value).encode()
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece)
        return digest.hexdigest()

    @property
    def rows(self) -> list[Row]:
        """The decoded rows."""
        return decode(self.blob) if self.blob else []


_COLUMNS = tuple(column.name for column in fields(Record))
_KINDS = {"version": "INTEGER", "seconds": "REAL", "blob": "BLOB"}
_CREATE = f"""CREATE TABLE IF NOT EXISTS cells (
    {", ".join(f"{name} {_KINDS.get(name, 'TEXT')} NOT NULL" for name in _COLUMNS)}, checksum TEXT NOT NULL,
    PRIMARY KEY (key))"""
_SELECT = f"SELECT {', '.join(_COLUMNS)}, checksum FROM cells"
_INSERT = f"""INSERT INTO cells ({", ".join(_COLUMNS)}, checksum) VALUES ({", ".join("?" * (len(_COLUMNS) + 1))})
    ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[1:], "checksum"))}
    WHERE cells.status <> 'done' OR excluded.status = 'done'"""


class Store:
    """An embedded store of finished cells.

    Args:
        path: the file; it and its folder are made when missing.

    Raises:
        StoreError: if the file cannot be opened, is damaged, or was written by a newer symfield.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.sqlite") as store:
        ...     print(len(store), store.get("0" * 64))
        0 None
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open the store {self.path}: {error}; choose another --out folder") from error
        try:
            _patiently(self._prepare)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(self._damage(error)) from error
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        (written,) = run("PRAGMA user_version").fetchone()
        if written > _FORMAT:
            raise StoreError(
                f"{self.path} was written by a newer symfield (format {written}, this one reads {_FORMAT}); "
                "upgrade symfield or choose another --out folder"
            )
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        if written < _FORMAT:
            run("BEGIN IMMEDIATE")
            run(_CREATE)
            run(f"PRAGMA user_version = {_FORMAT}")
            run("COMMIT")

    def get(self, key: str) -> Record | None:
        """The record of a cell.

        Args:
            key: the cell's key.

        Returns:
            The record, or None when the store has never seen the cell.

        Raises:
            CorruptedCell: if the record does not match its checksum.
            StoreError: if the file is damaged.
        """
        with self._reading(key):
            found = self._connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
        return None if found is None else self._checked(found)

    def put(self, record: Record) -> None:
        """Write a record in one transaction; a failure never replaces a finished cell.

        Args:
            record: what to write.

        Raises:
            StoreError: if the file cannot be written.
        """
        with self._reading(record.key):
            _patiently(lambda: self._connection.execute(_INSERT, (*astuple(record), record.checksum)))

    def records(self) -> Iterator[Record | CorruptedCell]:
        """Every record, a damaged one as the error that says so.

        Yields:
            Records and errors, in the order of the keys.

        Raises:
            StoreError: if the file is damaged.
        """
        with self._reading("any cell"):
            keys = [key for (key,) in self._connection.execute("SELECT key FROM cells ORDER BY key")]
        for key in keys:
            try:
                record = self.get(key)
            except CorruptedCell as error:
                yield error
            else:
                if record is not None:
                    yield record

    def check(self) -> list[str]:
        """What is wrong with the store.

        Returns:
            One sentence a problem; empty when every cell can be used.
        """
        try:
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            problems = [] if verdict == "ok" else [self._damage(verdict)]
            return problems + [str(record) for record in self.records() if isinstance(record, CorruptedCell)]
        except sqlite3.Error as error:
            return [self._damage(error)]
        except StoreError as error:
            return [str(error)]

    def close(self) -> None:
        """Close the file; a closed store can no longer be used."""
        self._connection.close()

    def __len__(self) -> int:
        with self._reading("any cell"):
            (count,) = self._connection.execute("SELECT COUNT(*) FROM cells").fetchone()
        return int(count)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, found: tuple) -> Record:
        record, checksum = Record(*found[:-1]), found[-1]
        reason = "checksum mismatch" if record.checksum != checksum else ""
        if not reason:
            try:
                _ = record.rows
            except ValueError as error:
                reason = f"unreadable rows ({error})"
        if reason:
            raise CorruptedCell(
                f"{self.path}: the stored cell {record.key[:12]} ({record.function} {record.config}) is corrupted: "
                f"{reason}; it is not used, the next run computes it again"
            )
        return record

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "disk I/O" in str(error) or "malformed" in str(error):
                raise StoreError(self._damage(error, key)) from error
            raise StoreError(f"{self.path} at cell {key[:12]}: {error}") from error
        except sqlite3.Error as error:
            raise StoreError(self._damage(error, key)) from error

    def _damage(self, error: object, key: str = "") -> str:
        where = f" at cell {key[:12]}" if key else ""
        return (
            f"the store {self.path} is damaged{where} ({error}); keep what can be read with "
            f"`symfield doctor --repair --out {self.path.parent}`, or move the file away and run again"
        )


def repair(path: Path) -> tuple[int, Path]:
    """Rebuild a store from the cells that can be read and that match their checksum.

    Args:
        path: the store; no other process may be using it.

    Returns:
        How many cells were kept, and where the old file now is.

    Raises:
        StoreError: if there is no such file.
    """
    if not path.is_file():
        raise StoreError(f"there is no store {path}; give the folder of your runs by --out")
    fresh = path.with_name(f"{path.name}.repaired")
    fresh.unlink(missing_ok=True)
    kept = 0
    with Store(fresh) as target:
        for record in _readable(path):
            target.put(record)
            kept += 1
    old = next(p for n in itertools.count(1) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
    path.rename(old)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh.rename(path)
    return kept, old


def _readable(path: Path) -> Iterator[Record]:
    """The sound records of a damaged file, asked for one by one."""
    connection = sqlite3.connect(path)
    try:
        for row in range(_last_row(connection) + 1):
            try:
                found = connection.execute(f"{_SELECT} WHERE rowid = ?", (row,)).fetchone()
                if found is not None and Record(*found[:-1]).checksum == found[-1]:
                    yield Record(*found[:-1])
            except sqlite3.Error:
                continue
    finally:
        connection.close()


def _last_row(connection: sqlite3.Connection) -> int:
    try:
        return int(connection.execute("SELECT COALESCE(MAX(rowid), 0) FROM cells").fetchone()[0])
    except sqlite3.Error:
        return 0


def _patiently(action: Callable[[], _Result]) -> _Result:
    """Do it again while another process holds the lock; entering write-ahead mode does not wait by itself."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not any(word in str(error) for word in ("locked", "busy")) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
