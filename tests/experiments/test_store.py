"""Finished cells stay; damaged ones are never used; one message says what to do."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from symfield.experiments import CorruptedCell, Record, Store, StoreError
from symfield.experiments.cell import encode
from symfield.experiments.store import repair


def record(key: str, status: str = "done", value: float = 1.0) -> Record:
    return Record(
        key=key, function="m:f", version=1, config="{}", code="", status=status,
        error="" if status == "done" else "Boom", seconds=0.5, versions="{}", created="2024-01-01T00:00:00+00:00",
        blob=encode([{"value": value}]) if status == "done" else b"",
    )  # fmt: skip


def damage(path, key: str, column: str, value: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE cells SET {column} = ? WHERE key = ?", (value, key))


def test_a_record_comes_back_as_it_was(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put(record("a"))
        assert store.get("a") == record("a")
        assert store.get("b") is None
    with Store(tmp_path / "store.sqlite") as store:
        assert store.get("a") == record("a")
        assert store.get("a").rows == [{"value": 1.0}]


def test_a_failure_never_replaces_a_finished_cell_but_is_replaced_by_it(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        store.put(record("a", "failed"))
        store.put(record("a"))
        assert store.get("a").status == "done"
        store.put(record("a", "failed"))
        assert store.get("a").status == "done"
        assert len(store) == 1


@pytest.mark.parametrize(
    ("column", "value"), [("blob", b"garbage"), ("config", '{"n":6}'), ("status", "failed"), ("checksum", "0" * 64)]
)
def test_a_changed_row_is_named_and_never_used(tmp_path, column, value):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put(record("abcdef0123456789"))
    damage(path, "abcdef0123456789", column, value)
    with Store(path) as store:
        with pytest.raises(CorruptedCell, match=r"store\.sqlite.*abcdef012345.*corrupted.*computes it again"):
            store.get("abcdef0123456789")
        assert len(store.check()) == 1


def test_rows_that_cannot_be_parsed_are_corrupted_even_with_a_true_checksum(tmp_path):
    broken = Record(**{**vars(record("a")), "blob": b"not rows"})
    with Store(tmp_path / "store.sqlite") as store:
        store.put(broken)
        with pytest.raises(CorruptedCell, match="unreadable rows"):
            store.get("a")


@pytest.mark.parametrize(
    "content", [b"this is not a database, but it is long enough to be looked at" * 20, b"x" * 4096]
)
def test_a_file_that_is_no_store_gives_one_message_that_says_what_to_do(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.sqlite is damaged.*doctor --repair --out .* or move the file away"):
        Store(path)


def test_a_file_damaged_in_the_middle_is_reported_and_repaired(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        for i in range(400):
            store.put(record(f"{i:064d}", value=float(i)))
    content = bytearray(path.read_bytes())
    content[40960:61440] = b"\xff" * 20480
    path.write_bytes(content)
    with Store(path) as store:
        assert store.check()
    kept, old = repair(path)
    assert 100 < kept < 400
    assert old.name == "store.sqlite.damaged-1"
    with Store(path) as store:
        assert store.check() == []
        assert len(store) == kept
        for one in store.records():
            assert isinstance(one, Record)
            assert one.rows == [{"value": float(int(one.key))}]


def test_repairing_drops_only_corrupted_cells(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        for key in "abc":
            store.put(record(key))
    damage(path, "b", "blob", b"garbage")
    assert repair(path)[0] == 2
    with Store(path) as store:
        assert [one.key for one in store.records()] == ["a", "c"]


def test_repairing_nothing_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        repair(tmp_path / "store.sqlite")


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer symfield"):
        Store(path)


def test_a_store_below_a_file_cannot_be_opened(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the store"):
        Store(tmp_path / "file" / "store.sqlite")


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path):
    code = """
import sys
from symfield.experiments.cell import encode
from symfield.experiments.store import Record, Store
path, name = sys.argv[1:]
with Store(path) as store:
    for i in range(150):
        store.put(Record(f"{name}{i}", "m:f", 1, "{}", "", "done", "", 0.0, "{}", "now", encode([{"i": i}])))
"""
    path = tmp_path / "store.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with Store(path) as store:
        assert len(store) == 450
        assert store.check() == []


def test_a_cell_costs_the_store_less_than_a_millisecond(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        began = time.process_time()
        for i in range(500):
            store.put(record(str(i)))
            store.get(str(i))
        assert (time.process_time() - began) / 500 < 1e-3
