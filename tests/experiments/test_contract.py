"""The study of the documentation keeps its promises, from configuration to report."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest
from PIL import Image

from symfield.experiments import Grid, Store, find, latest, launch, redraw, report, runs


def test_the_documented_study_runs_end_to_end(example, tmp_path):
    finished = launch(example, out=tmp_path / "runs", preset="tiny")
    folder = finished.folder
    assert folder.path == tmp_path / "runs" / "my_study" / "tiny"
    assert sorted(str(file.relative_to(folder.path)) for file in folder.path.rglob("*.*")) == [
        "config.json", "figures/decay.png", "figures/decay.svg", "rows.parquet", "tables/medians.csv", "verdicts.json",
    ]  # fmt: skip
    rows = folder.rows
    assert list(rows.columns) == ["n", "law", "sigma", "dtype", "seed", "miss", "cell"]
    assert len(rows) == 2 * 2 * 5
    assert rows.groupby("cell").size().eq(5).all()
    assert [verdict.verdict for verdict in folder.verdicts] == ["holds"]
    assert report([folder], tmp_path / "page.html").read_text().count("<section") == 1


def test_verdicts_are_a_list_with_six_fields(undrawn, tmp_path):
    folder = launch(undrawn, out=tmp_path, preset="tiny").folder
    for entry in json.loads((folder.path / "verdicts.json").read_text()):
        assert list(entry) == ["claim", "measured", "expected", "tolerance", "verdict", "source"]


def test_config_tells_how_to_make_the_run_again_and_nothing_of_the_machine(undrawn, tmp_path):
    folder = launch(undrawn, out=tmp_path, preset="tiny", overrides=Grid(sigma=(2.0,))).folder
    config = folder.config
    assert config["preset"] == "tiny"
    assert config["overrides"] == {"sigma": [2.0]}
    assert config["config"]["sizes"] == [10, 100]
    assert config["config"]["sigma"] == 2.0
    assert config["seeds"] == [0, 1, 2, 3, 4]
    assert set(config["versions"]) == {"symfield", "python", "torch", "numpy"}
    assert config["commit"] is None  # the example lies outside any repository
    assert str(tmp_path) not in (folder.path / "config.json").read_text()


def test_a_second_run_computes_nothing_and_gives_the_same_rows(undrawn, tmp_path):
    first = launch(undrawn, out=tmp_path, preset="tiny")
    rows = first.folder.rows
    second = launch(undrawn, out=tmp_path, preset="tiny")
    assert (first.outcome.computed, first.outcome.reused) == (4, 0)
    assert (second.outcome.computed, second.outcome.reused) == (0, 4)
    pd.testing.assert_frame_equal(second.folder.rows, rows)


def test_presets_and_overrides_share_the_cells_they_have_in_common(undrawn, tmp_path):
    launch(undrawn, out=tmp_path, preset="tiny")
    wider = launch(undrawn, out=tmp_path, preset="tiny", overrides=Grid(sizes=((10, 100, 1000),)))
    assert (wider.outcome.computed, wider.outcome.reused) == (2, 4)


def test_a_sweep_runs_at_every_value_and_marks_rows_figures_and_verdicts(example, tmp_path):
    finished = launch(example, out=tmp_path, preset="tiny", overrides=Grid(sigma=(1.0, 2.0)))
    folder = finished.folder
    assert folder.path.name.startswith("tiny-")
    rows = folder.rows
    assert sorted(rows["sigma"].unique()) == [1.0, 2.0]
    doubled = rows[rows["sigma"] == 2.0]["miss"].to_numpy() / rows[rows["sigma"] == 1.0]["miss"].to_numpy()
    assert doubled == pytest.approx(2.0)
    assert {file.stem for file in folder.path.glob("figures/*.png")} == {"decay__sigma=1.0", "decay__sigma=2.0"}
    assert [verdict.claim.partition("]")[0] for verdict in folder.verdicts] == ["[sigma=1.0", "[sigma=2.0"]


def test_figures_carry_the_fingerprint_of_the_rows(example, tmp_path):
    folder = launch(example, out=tmp_path, preset="tiny").folder
    fingerprint = hashlib.sha256((folder.path / "rows.parquet").read_bytes()).hexdigest()
    assert folder.fingerprint == fingerprint
    with Image.open(folder.path / "figures" / "decay.png") as image:
        assert image.text["Source"] == f"rows.parquet sha256:{fingerprint}"
    assert fingerprint in (folder.path / "figures" / "decay.svg").read_text()


def test_figures_are_reproduced_byte_for_byte(example, tmp_path):
    folder = launch(example, out=tmp_path, preset="tiny").folder
    before = {file.name: file.read_bytes() for file in folder.path.glob("figures/*")}
    redraw(example, folder)
    assert {file.name: file.read_bytes() for file in folder.path.glob("figures/*")} == before


def test_redrawing_never_reruns(work, ran, tmp_path):
    folder = launch(work, out=tmp_path / "runs", preset="tiny").folder
    for file in folder.path.glob("figures/*"):
        file.unlink()
    (tmp_path / "runs" / "store.sqlite").unlink()
    assert redraw(work, folder) == ["line"]
    assert (folder.path / "figures" / "line.png").exists()
    assert ran() == {0: 1, 1: 1, 2: 1}


def test_the_most_recent_run_is_found_by_study_and_preset(undrawn, tmp_path):
    launch(undrawn, out=tmp_path, preset="tiny")
    changed = launch(undrawn, out=tmp_path, preset="tiny", overrides=Grid(sigma=(3.0,))).folder
    assert latest(tmp_path, "my_study").path == changed.path
    assert latest(tmp_path, "my_study", "tiny").path == changed.path
    again = launch(undrawn, out=tmp_path, preset="tiny").folder
    assert latest(tmp_path, "my_study").path == again.path
    assert len(runs(tmp_path, "my_study")) == 2


def test_run_gives_rows_in_python_without_touching_the_disk(example, tmp_path):
    config = example.settings("tiny")
    before = set(tmp_path.iterdir())
    rows = example.run(config)
    assert len(rows) == 20
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "__pycache__"}
    with Store(tmp_path / "store.sqlite") as store:
        pd.testing.assert_frame_equal(example.run(config, store=store), rows)
        assert len(store) == 4


def test_a_study_module_exposes_config_run_figures_and_study(example_file):
    study = find(str(example_file), "symfield.studies")
    module = __import__("my_study")
    assert module.STUDY is study
    assert module.Config is study.config
    assert module.figures is study.figures
    assert module.run == study.run
