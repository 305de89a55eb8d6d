"""The house stands: every room imports only from the rooms below it, and the library keeps no global state."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "symfield"
FILES = sorted(SOURCE.rglob("*.py"))


def test_the_import_contracts_hold():
    """One contract for the layers, one that keeps disk tables, plots and the command line out of the library."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


def test_every_room_stands_in_a_layer():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in settings if contract["type"] == "layers")["layers"]
    placed = {name for layer in layers for name in re.findall(r"symfield\.(\w+)", layer)}
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert placed == rooms - {"__init__", "__main__"}


def test_importing_a_room_of_the_library_loads_no_plots_and_no_tables():
    script = (
        "import sys; from symfield import meanfield, symmetrize, equivariant; "
        "print(sorted({'matplotlib', 'pandas', 'plotly', 'typer', 'rich', 'pyarrow', 'jinja2'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_global_random_state_and_no_write_around_autograd(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found, forked = [], inside_forks(tree)
    for node in ast.walk(tree):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if (
            re.fullmatch(r"torch\.(manual_seed|seed|set_default_dtype|set_default_device|use_deterministic.*)", name)
            and node not in forked
        ):
            found.append(f"line {node.lineno}: {name}")
        if re.fullmatch(r"(np|numpy)\.random\.(seed|rand|randn|normal|uniform|randint|choice|shuffle)", name):
            found.append(f"line {node.lineno}: {name}")
        if re.fullmatch(
            r"torch\.(randn|rand|randint|randperm|normal|multinomial|bernoulli)", name
        ) and "generator" not in {keyword.arg for keyword in node.keywords}:
            found.append(f"line {node.lineno}: {name} without generator=")
        if isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Store):
            found.append(f"line {node.lineno}: a write to .data")
        if name == "hash" and node.lineno not in inside_hash_methods(tree):
            found.append(f"line {node.lineno}: hash(), which Python salts in every process")
    assert found == []


def inside_forks(tree: ast.Module) -> set[ast.AST]:
    """What runs where the global state is put back: modules draw their initial weights from nothing else."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.With))
    forks = [node for node in blocks if any("fork_rng(" in ast.unparse(item.context_expr) for item in node.items)]
    return {inner for fork in forks for inner in ast.walk(fork)}


def inside_hash_methods(tree: ast.Module) -> set[int]:
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__hash__"]
    return {line for node in methods for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
