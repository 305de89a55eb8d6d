"""One page that loads nothing, says everything, and cannot be broken by what it shows."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest

from symfield.experiments import FolderError, Grid, Verdict, launch, report, style

EVIL = "P_E and E^G < b & <script>alert('x')</script> of my_name"


def cloud(rows):
    """A cloud of points, and </script> in its caption."""
    points = np.random.default_rng(0).normal(size=(30, 3))
    scatter = go.Scatter3d(x=points[:, 0], y=points[:, 1], z=points[:, 2], mode="markers", name="</script>")
    return go.Figure(scatter, layout=style.page_layout())


class Loads(HTMLParser):
    """Collects what a browser would fetch, and the ids a reader can jump to."""

    def __init__(self):
        super().__init__()
        self.fetched, self.ids, self.links, self.open = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id"))
        for name in ("src", "srcset", "poster", "data", "action"):
            if values.get(name):
                self.fetched.append(values[name])
        if tag == "link":
            self.fetched.append(values.get("href", ""))
        if tag == "a":
            self.links.append(values["href"])
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag in self.open[-1:]:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page) -> Loads:
    loads = Loads()
    loads.feed(page.read_text())
    loads.close()
    return loads


@pytest.fixture
def studied(example, tmp_path):
    def verdicts(rows, config):
        return [
            Verdict.at_most("a small number stays small", 3.2e-7, 1e-5, source="a paper"),
            Verdict.at_least("this one fails", 0.1, 0.5, source="a paper"),
            Verdict.not_tested("this one is not tested", "no seeds", source="a paper"),
        ]

    study = dataclasses.replace(example, claim=EVIL, verdicts=verdicts, pages={"cloud": cloud})
    return study, launch(study, out=tmp_path / "runs", preset="tiny").folder


def test_a_report_is_one_file_that_loads_nothing(studied, tmp_path):
    study, folder = studied
    plain = launch(dataclasses.replace(study, pages={}), out=tmp_path / "more", preset="tiny").folder
    page = report([folder, plain], tmp_path / "page.html")
    loads = read(page)
    assert loads.open == []
    assert len(loads.fetched) == 2
    assert all(source.startswith("data:image/") for source in loads.fetched)
    style_sheet = page.read_text().partition("</style>")[0]
    assert "url(" not in style_sheet
    assert "@import" not in style_sheet
    assert all(link.removeprefix("#") in loads.ids for link in loads.links)
    assert page.read_text().count("plotly.js v") == 1
    assert '"showSendToCloud": false' in page.read_text()


def test_a_report_without_pages_carries_no_plotly(undrawn, tmp_path):
    page = report([launch(undrawn, out=tmp_path, preset="tiny").folder], tmp_path / "page.html")
    assert page.stat().st_size < 60_000
    assert "plotly" not in page.read_text()


def test_a_report_shows_claims_verdicts_numbers_and_provenance(studied, tmp_path):
    _, folder = studied
    text = report([folder], tmp_path / "page.html").read_text()
    for expected in (
        "1 holds", "1 fails", "1 not tested", "3.2×10⁻⁷", "at most 1×10⁻⁵", "no seeds",
        "Median miss by law", "sha256:" + folder.fingerprint, folder.config["versions"]["torch"], "10, 100", "0 … 4",
    ):  # fmt: skip
        assert expected in text, expected


def test_what_a_study_says_cannot_break_the_page(studied, tmp_path):
    text = report([studied[1]], tmp_path / "page.html").read_text()
    assert "<script>alert" not in text
    assert "P<sub>E</sub> and E<sup>G</sup> &lt; b &amp; &lt;script&gt;" in text
    assert "of my_name" in text
    (data,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert json.loads(data)["data"][0]["name"] == "</script>"


def test_an_interactive_page_works_by_itself_and_sends_nothing_anywhere(studied):
    page = studied[1].path / "figures" / "cloud.html"
    assert read(page).fetched == []
    assert '"showSendToCloud": false' in page.read_text()
    assert studied[1].fingerprint in page.read_text()


def test_a_figure_drawn_from_earlier_rows_is_marked(undrawn, example, tmp_path):
    folder = launch(example, out=tmp_path, preset="tiny").folder
    assert "drawn from earlier rows" not in report([folder], tmp_path / "page.html").read_text()
    folder.write_rows(folder.rows.assign(miss=0.0))
    assert "drawn from earlier rows" in report([folder], tmp_path / "page.html").read_text()


def test_failed_cells_are_named(work, tmp_path):
    folder = launch(work, out=tmp_path / "runs", preset="tiny", overrides=Grid(raising=((1,),))).folder
    text = report([folder], tmp_path / "page.html").read_text()
    assert "1 cell failed." in text
    assert "work(item=1, seconds=0.0, scale=1.0): Diverged: item 1 diverged at step 7" in text


def test_no_runs_or_a_damaged_folder_is_one_sentence(undrawn, tmp_path):
    with pytest.raises(FolderError, match="no runs to report"):
        report([], tmp_path / "page.html")
    folder = launch(undrawn, out=tmp_path, preset="tiny").folder
    (folder.path / "rows.parquet").write_bytes(b"damaged")
    with pytest.raises(FolderError, match=r"rows\.parquet is damaged .*; run the study again"):
        report([folder], tmp_path / "page.html")
    (folder.path / "verdicts.json").write_text("[{}]")
    with pytest.raises(FolderError, match=r"verdicts\.json is damaged"):
        report([folder], tmp_path / "page.html")
    (folder.path / "config.json").unlink()
    with pytest.raises(FolderError, match=r"config\.json is missing; run the study again"):
        report([folder], tmp_path / "page.html")


def test_a_column_of_mixed_types_is_refused(undrawn, tmp_path):
    folder = launch(undrawn, out=tmp_path, preset="tiny").folder
    with pytest.raises(FolderError, match="give each column one type"):
        folder.write_rows(folder.rows.assign(mixed=["a", 1] * 10))
