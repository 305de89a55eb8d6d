"""Every finished cell is kept, whatever happens to the others, the process or the machine."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pandas as pd
import pytest

from symfield.experiments import (
    CellsFailed,
    ExperimentError,
    Grid,
    Interrupted,
    Quiet,
    Store,
    find,
    launch,
    sweep,
)


class Notes(Quiet):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def start(file, *words):
    # a shell that runs the tests in the background makes its children deaf to Ctrl-C
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hear}; from symfield.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "run", str(file), "--preset", "paper", "--out", str(file.parent / "runs"), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
        start_new_session=True,
    )  # fmt: skip


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_equal_cells_run_once(work, ran):
    cells = work.cells(work.settings("tiny"))
    outcome = sweep([*cells, *cells])
    assert outcome.computed == 3
    assert ran() == {0: 1, 1: 1, 2: 1}
    assert len(outcome.frame([*cells, *cells])) == 6


def test_a_cell_that_raises_is_recorded_and_the_rest_goes_on(work, ran, tmp_path):
    finished = launch(work, out=tmp_path / "runs", preset="quick", overrides=Grid(raising=((2, 5),)))
    outcome = finished.outcome
    assert outcome.computed == 6
    assert [failure.cell.config.item for failure in outcome.failures] == [2, 5]
    assert str(outcome.failures[0]).endswith(
        "work(item=2, seconds=0.0, scale=1.0): Diverged: item 2 diverged at step 7"
    )
    assert "Traceback" in outcome.failures[0].trace
    assert sorted(finished.folder.rows["item"]) == [0, 1, 3, 4, 6, 7]
    assert [entry["error"] for entry in finished.folder.config["failed"]] == [
        "Diverged: item 2 diverged at step 7", "Diverged: item 5 diverged at step 7",
    ]  # fmt: skip
    with Store(tmp_path / "runs" / "store.sqlite") as store:
        record = store.get(outcome.failures[0].cell.key)
    assert record.status == "failed"
    assert record.error.startswith("Diverged: item 2 diverged at step 7\nTraceback")
    with pytest.raises(CellsFailed, match=r"2 of 8 cells failed:\n.*item=2.*\n.*item=5"):
        outcome.check()


def test_failed_cells_and_only_they_are_tried_again(work, ran, tmp_path):
    launch(work, out=tmp_path / "runs", preset="quick", overrides=Grid(raising=((2, 5),)))
    (tmp_path / "raise" / "2").unlink()
    (tmp_path / "raise" / "5").unlink()
    again = launch(work, out=tmp_path / "runs", preset="quick")
    assert (again.outcome.computed, again.outcome.reused) == (2, 6)
    assert ran() == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1, 5: 2, 6: 1, 7: 1}


def test_when_every_cell_fails_there_is_a_folder_that_says_so(work, tmp_path):
    finished = launch(work, out=tmp_path / "runs", preset="tiny", overrides=Grid(raising=((0, 1, 2),)))
    assert len(finished.folder.rows) == 0
    (verdict,) = finished.folder.verdicts
    assert (verdict.verdict, verdict.measured) == ("not tested", "3 of 3 cells failed")


def test_processes_give_the_rows_of_one_process_and_one_that_dies_fails_its_cell_only(work, ran, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cells = work.cells(work.settings("quick"))
    alone = sweep(cells).frame(cells)
    work.cells(dataclasses.replace(work.settings("quick"), dying=(3,)))
    outcome = sweep(cells, jobs=2)
    (failure,) = outcome.failures
    assert failure.cell.config.item == 3
    assert "the process of this cell died (SIGKILL, perhaps out of memory)" in failure.message
    shared = outcome.frame(cells)
    expected = alone[alone["item"] != 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared.drop(columns="threads"), expected.drop(columns="threads"))
    assert set(shared["threads"]) == {max(1, len(os.sched_getaffinity(0)) // 2)}
    assert set(ran().values()) == {2}
    processes = {line.split()[1] for line in (tmp_path / "ran.log").read_text().splitlines()[8:]}
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_run_loses_only_the_cells_in_progress(work_file, ran, jobs):
    process = start(work_file, "seconds=0.1", "items=0..15", "--jobs", jobs)
    wait_for(lambda: sum(ran().values()) >= 6)
    process.kill()
    process.communicate()
    wait_for(lambda: not _alive(process.pid, work_file), 20)
    begun = ran()
    with Store(work_file.parent / "runs" / "store.sqlite") as store:
        kept = {json.loads(record.config)["item"] for record in store.records()}
        assert store.check() == []
    assert len(set(begun) - kept) <= int(jobs)
    study = find(str(work_file), "symfield.studies")
    overrides = Grid.parse(study.config, ["seconds=0.1", "items=0..15"])
    resumed = launch(study, out=work_file.parent / "runs", preset="paper", overrides=overrides)
    assert resumed.outcome.reused == len(kept)
    assert len(resumed.folder.rows) == 16
    assert all(ran()[item] == 1 for item in kept)


def _alive(leader, work_file):
    """Whether a process of the killed run's session still computes: workers must not outlive their parent."""
    log = work_file.with_name("ran.log").read_text().splitlines()
    workers = {int(line.split()[1]) for line in log} - {leader}
    return any(os.path.exists(f"/proc/{pid}") for pid in workers)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(work_file, ran):
    process = start(work_file, "seconds=0.1", "items=0..15", "--jobs", "2")
    wait_for(lambda: sum(ran().values()) >= 5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: " in errors
    assert "of 16 cells are finished and kept in" in errors
    assert "do the same again to resume" in errors
    assert "Traceback" not in errors
    with Store(work_file.parent / "runs" / "store.sqlite") as store:
        assert len(store) >= 3


def test_an_interrupt_inside_a_cell_stops_the_sweep(work, tmp_path, monkeypatch):
    cells = work.cells(work.settings("tiny"))

    class Impatient(Notes):
        def advance(self, *, cost, failed):
            raise KeyboardInterrupt

    with Store(tmp_path / "store.sqlite") as store:
        with pytest.raises(Interrupted, match="1 of 3 cells are finished and kept in"):
            sweep(cells, store=store, monitor=Impatient())
        assert len(store) == 1


def test_a_corrupted_cell_is_reported_and_computed_again(work, ran, tmp_path):
    first = launch(work, out=tmp_path / "runs", preset="tiny")
    path = tmp_path / "runs" / "store.sqlite"
    key = work.cells(work.settings("tiny"))[1].key
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cells SET blob = ? WHERE key = ?", (b"\x00", key))
    notes = Notes()
    second = launch(work, out=tmp_path / "runs", preset="tiny", monitor=notes)
    (note,) = notes.notes
    assert str(path) in note
    assert key[:12] in note
    assert (second.outcome.computed, second.outcome.reused) == (1, 2)
    pd.testing.assert_frame_equal(second.folder.rows, first.folder.rows)
    with Store(path) as store:
        assert store.check() == []


def test_changed_code_under_the_same_version_is_reported(work, work_file, tmp_path):
    launch(work, out=tmp_path / "runs", preset="tiny")
    work_file.write_text(work_file.read_text().replace("cell.scale * cell.item", "cell.scale * cell.item + 1"))
    changed = find(str(work_file), "symfield.studies")
    notes = Notes()
    launch(changed, out=tmp_path / "runs", preset="tiny", monitor=notes)
    assert notes.notes == [
        "3 stored cells were computed by another text of work_study:work and are reused; "
        "raise its version (@versioned) to compute them again"
    ]
    work_file.write_text(work_file.read_text().replace("@versioned(1)", "@versioned(2)"))
    raised = find(str(work_file), "symfield.studies")
    again = launch(raised, out=tmp_path / "runs", preset="tiny", monitor=(notes := Notes()))
    assert again.outcome.computed == 3
    assert notes.notes == []


def test_notes_reach_a_library_user_as_warnings(work, tmp_path):
    path = tmp_path / "store.sqlite"
    cells = work.cells(work.settings("tiny"))
    with Store(path) as store:
        sweep(cells, store=store)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cells SET checksum = 'x'")
    with Store(path) as store, pytest.warns(RuntimeWarning, match="corrupted"):
        assert sweep(cells, store=store).computed == 3


def test_rows_carry_the_cell_and_its_scalar_settings(work):
    rows = work.run(work.settings("tiny"))
    assert list(rows.columns) == ["item", "seconds", "scale", "value", "gap", "threads", "cell"]
    assert rows["gap"].isna().all()
    assert rows["cell"].tolist() == [cell.key[:12] for cell in work.cells(work.settings("tiny"))]


def test_jobs_must_be_positive(work):
    with pytest.raises(ExperimentError, match="at least 1, got 0"):
        sweep([], jobs=0)


def test_a_cell_costs_the_runner_less_than_a_millisecond(example, tmp_path):
    cells = example.cells(example.config(sizes=(1,), laws=("normal",), seeds=(0,)))
    many = [type(cells[0])(cells[0].function, type(cells[0].config)(1, "normal", float(i), (0,), "float64"))
            for i in range(400)]  # fmt: skip
    with Store(tmp_path / "store.sqlite") as store:
        began = time.process_time()
        outcome = sweep(many, store=store)
        assert (time.process_time() - began - outcome.seconds) / 400 < 1e-3
