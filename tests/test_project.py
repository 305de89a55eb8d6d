"""The project around the code: versions agree, pages are found, promises in files are kept."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import symfield

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert symfield.__version__ == citation["version"] == newest[1]


def test_the_citation_names_the_papers_that_the_code_refers_to():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license", "type"} <= set(citation)
    cited = {identifier["value"] for reference in citation["references"] for identifier in reference["identifiers"]}
    studies = {path.stem.split("_")[0] for path in (ROOT / "src/symfield/studies").glob("[a-z]*[0-9]*_*.py")}
    authors = {
        f"{_ascii(reference['authors'][0]['family-names'].split()[0].lower())}{reference['year']}"
        for reference in citation["references"]
    }
    assert "arXiv:2405.19995" in cited
    assert studies <= authors


def _ascii(name: str) -> str:
    """Without accents, as in the names of files."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def test_every_page_is_in_the_navigation_and_every_entry_has_its_page():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(entries):
        for entry in entries:
            for value in entry.values():
                yield from leaves(value) if isinstance(value, list) else [value]

    listed = list(leaves(config["nav"]))
    assert sorted(listed) == PAGES
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_on_a_page_runs(page, tmp_path, monkeypatch):
    """All ```python blocks of a page, in order, as one module; what is not to be run is ```text."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    module = ModuleType(f"page_{Path(page).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = "\n" * (text[: block.start(1)].count("\n"))
        exec(compile(lines + block[1], page, "exec"), vars(module))


def test_nothing_on_a_page_or_in_the_theme_is_loaded_from_elsewhere():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert not [item for item in config.get("extra_javascript", []) + config["extra_css"] if "//" in str(item)]
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in {".md", ".css", ".html"}:
            assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?:|url\(['\"]?https?:", path.read_text())


def tracked(*suffixes: str) -> list[Path]:
    """Text files of the project: those git knows, or in a source package the ones that lie there."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listing.stdout.split() if listing.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).is_file()]


#: Imported only where a function needs them and says so when they are missing.
OPTIONAL = {"triton", "transformers", "sklearn", "torch_geometric"}

UNWANTED = {
    "an unfinished place": r"\b(TODO|FIXME|XXX|HACK)\b",
    "a path of one machine": r"(?<![\w.])/(home|root|work|Users)/\w",
    "an issue number": r"\b[Ii]ssue #?\d",
    "a name that says nothing": r"\bsymfield\S*\.(utils|helpers|common|misc)\b",
    "somebody's own notes": r"\bshared/specs?\b|\bthe spec\b|(?i:\bchat ?gpt\b|\bLLM\b|\bcopilot\b)",
}


@pytest.mark.parametrize("kind", UNWANTED)
def test_files_are_free_of(kind):
    found = []
    for path in tracked(
        ".py", ".md", ".yml", ".toml", ".cff", ".txt", ".c", ".cpp", ".html", ".css", "Makefile", "run"
    ):
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(UNWANTED[kind], line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_what_the_code_imports_is_what_the_project_asks_for():
    modules_of = {"pot": "ot"}
    asked = {re.split(r"[<>=\[~!]", item)[0].strip().lower() for item in PROJECT["project"]["dependencies"]}
    asked = {modules_of.get(name, name) for name in asked}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {"symfield"} - OPTIONAL == asked
