"""Every command says what it did, or in one line why it could not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import symfield as package


def one_line(result) -> str:
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("symfield: ")
    return line.removeprefix("symfield: ")


def test_run_figure_report_and_verdicts_follow_one_another(symfield, my_study):
    ran = symfield("run", my_study, "--preset", "tiny", "sigma=2", "--seed", "0..4", "--dtype", "float32")
    assert ran.exit_code == 0, ran.output
    assert "holds" in ran.stdout
    (folder,) = Path("runs/my_study").iterdir()
    config = json.loads((folder / "config.json").read_text())
    assert config["overrides"] == {"sigma": [2.0], "dtype": ["float32"], "seeds": [[0, 1, 2, 3, 4]]}
    assert f"rows, verdicts and figures are in {folder}" in ran.stdout

    drawn = symfield("figure", my_study)
    assert (drawn.exit_code, drawn.stdout.strip()) == (0, f"2 drawn in {folder}: decay, medians")
    reported = symfield("report")
    assert reported.exit_code == 0
    assert Path("runs/report.html").exists()
    assert symfield("report", "my_study", "--to", "page.html").exit_code == 0
    assert Path("page.html").read_bytes() == Path("runs/report.html").read_bytes()
    judged = symfield("verdicts", "my_study")
    assert (judged.exit_code, "holds" in judged.stdout) == (0, True)


def test_verdicts_exit_with_one_when_one_fails(symfield, my_study):
    assert symfield("run", my_study, "--preset", "tiny", "sizes=10,11", "seeds=0").exit_code == 0
    judged = symfield("verdicts")
    assert judged.exit_code == 1
    assert "fails" in judged.stdout


def test_failed_cells_are_listed_one_a_line_and_the_exit_code_is_one(symfield, work_study):
    ran = symfield("run", work_study, "--preset", "tiny", "raising=0,2")
    assert ran.exit_code == 1
    lines = ran.stderr.strip().splitlines()
    start = lines.index("2 cells failed; the same command tries again:")
    assert lines[start + 1 :] == [
        "  work(item=0, seconds=0.0, scale=1.0): Diverged: item 0 diverged at step 7",
        "  work(item=2, seconds=0.0, scale=1.0): Diverged: item 2 diverged at step 7",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "nowhere"), "unknown study 'nowhere'"),
        (("run", "gone.py"), "no such file: gone.py"),
        (("run", "{study}", "--preset", "tny"), "unknown preset 'tny'; did you mean 'tiny'? Known: tiny, quick, paper"),
        (("run", "{study}", "sgma=1"), "unknown key 'sgma'; did you mean 'sigma'? Known: sizes, laws, sigma"),
        (("run", "{study}", "sigma=big"), "sigma expects float, received 'big'"),
        (("run", "{study}", "--dtype", "float16"), "dtype expects one of 'float32', 'float64', received 'float16'"),
        (("run", "{study}", "--device", "abacus"), "device 'abacus' cannot be used here"),
        (("run", "{study}", "--jobs", "0"), "jobs must be at least 1, got 0"),
        (("run", "{study}", "--out", "{study}/runs"), "cannot write to the output folder"),
        (("figure", "{study}"), "no run of my_study in runs; start one: symfield run my_study --out runs"),
        (("report",), "no runs in runs; start one: symfield run STUDY --out runs"),
        (("verdicts", "nowhere"), "no runs in runs"),
        (("doctor", "--repair"), "there is no store runs/store.sqlite"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_one_line_and_exit_code_two(symfield, my_study, words, message):
    result = symfield(*[word.format(study=my_study) for word in words])
    assert result.exit_code == 2
    assert one_line(result).startswith(message)


def test_a_run_that_was_never_made_names_those_that_were(symfield, work_study):
    symfield("run", work_study, "--preset", "tiny")
    assert "did you mean 'work_study'" in one_line(symfield("verdicts", "work_stdy"))
    assert "no run of the preset paper in runs" in one_line(symfield("report", "--preset", "paper"))
    assert symfield("verdicts", "--preset", "tiny").exit_code == 0


def test_an_error_inside_a_study_is_one_line_and_debug_shows_where(symfield, my_study):
    path = Path(my_study)
    path.write_text(path.read_text().replace('rows.groupby("n")["miss"].median()', 'rows["gone"]'))
    result = symfield("run", my_study, "--preset", "tiny")
    assert result.exit_code == 1
    assert "symfield: KeyError: 'gone' (where it comes from: symfield --debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert isinstance(symfield("--debug", "run", my_study, "--preset", "tiny").exception, KeyError)


def test_a_corrupted_store_is_one_line_and_the_doctor_mends_it(symfield, work_study):
    symfield("run", work_study, "--preset", "tiny")
    store = Path("runs/store.sqlite")
    store.write_bytes(b"not a database " * 400)
    line = [text for text in symfield("run", work_study, "--preset", "tiny").stderr.splitlines() if text]
    assert line == [
        "symfield: the store runs/store.sqlite is damaged (file is not a database); keep what can be read with "
        "`symfield doctor --repair --out runs`, or move the file away and run again"
    ]
    assert symfield("doctor").exit_code == 1
    mended = symfield("doctor", "--repair")
    assert mended.exit_code == 0
    assert "0 cells kept; the old file is runs/store.sqlite.damaged-1" in mended.stdout
    assert symfield("run", work_study, "--preset", "tiny").exit_code == 0


def test_the_doctor_names_versions_devices_and_the_state_of_the_folder(symfield, work_study):
    symfield("run", work_study, "--preset", "tiny")
    result = symfield("doctor")
    assert result.exit_code == 0
    for expected in (package.__version__, torch.__version__, "cpu", "fused kernel", "3 cells, each matching"):
        assert expected in result.stdout
    assert symfield("doctor", "--out", f"{work_study}/runs").exit_code == 1
    assert symfield("doctor", "--out", "elsewhere").exit_code == 0
    assert not Path("elsewhere").exists()


def test_studies_lists_names_and_claims(symfield):
    from symfield.experiments.catalogue import entries

    result = symfield("studies")
    assert result.exit_code == 0
    for entry in entries("symfield.studies"):
        assert entry.name in result.stdout
        assert entry.claim.split()[0] in result.stdout


def test_listing_studies_waits_for_neither_torch_nor_pandas_nor_matplotlib():
    code = (
        "import sys; from symfield.cli import app; app(['studies'], standalone_mode=False);"
        "print('loaded', {'torch', 'pandas', 'matplotlib', 'plotly', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("loaded set()")


def test_version(symfield):
    assert symfield("--version").stdout.strip() == package.__version__


def test_the_installed_command_runs_and_refuses(my_study, tmp_path):
    command = str(Path(sys.executable).with_name("symfield"))
    words = ["run", my_study, "--preset", "tiny", "sigma=2"]
    done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 cells computed" in done.stdout
    bad = subprocess.run([command, "run", my_study, "sgma=1"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.strip().count("\n") == 0
    assert "Traceback" not in bad.stderr
