"""Where compiled code comes from, and what happens where none can come."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from symfield.compiler import CompilationError, cache_folder, find_compiler
from symfield.compiler import compiled as compiled_source
from symfield.meanfield import kernels
from symfield.meanfield.kernels import status

KIND = (("REAL", 4), ("ACTIVATION", 1), ("POINTWISE", 1), ("SINGLE", 0), ("IN", 1), ("OUT", 1), ("BIAS", 0))
needs_compiler = pytest.mark.skipif(not status().available, reason=status().detail)


def compiled(definitions):
    folder = Path(kernels.__file__).parent
    headers = (folder / "unit.h", folder / "vectors.h")
    return compiled_source(folder / "native.c", headers=headers, definitions=definitions)


ONE_STEP = """
import torch
from symfield.meanfield import kernels
from symfield.meanfield.kernels import Program, advance, advance_batched, fastest, status
program = Program("sigmoid", 2, 2, tau=0.1)
z, x, y = torch.ones(1, 4, 3), torch.ones(2, 1, 5, 2), torch.zeros(2, 1, 5, 2)
row = torch.zeros(1, dtype=torch.int64)
options = dict(program=program, data_row=row, noise_row=row)
moved = advance(z, x, y, None, torch.ones(2), **options)
assert torch.equal(moved, advance_batched(z, x, y, None, torch.ones(2), **options))
assert fastest(program, like=z) is advance_batched
print(status())
"""


def in_a_process(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SYMFIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_compiler_plain_torch_runs_and_the_status_says_so():
    printed = in_a_process(ONE_STEP, PATH="", CC="")
    assert "available=False, compiler=None" in printed
    assert "no C compiler found: install gcc or clang, or set CC; plain torch is used" in printed


def test_the_environment_switches_compiled_code_off():
    assert "switched off by SYMFIELD_KERNEL" in in_a_process(ONE_STEP, SYMFIELD_KERNEL="off")


@needs_compiler
def test_a_library_is_compiled_once(cache):
    compiled(KIND)
    (library,) = cache.iterdir()
    before = library.stat().st_mtime_ns
    compiled(KIND)
    assert [(path, path.stat().st_mtime_ns) for path in cache.iterdir()] == [(library, before)]


@needs_compiler
def test_other_definitions_get_another_library(cache):
    compiled(KIND)
    compiled((("REAL", 8), *KIND[1:]))
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_many_may_compile_the_same_library_at_once(cache):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(compiled, [KIND] * 4))
    assert all(library.symfield_advance for library in libraries)
    assert len(list(cache.iterdir())) == 1


@needs_compiler
def test_a_damaged_library_is_replaced(cache):
    compiled(KIND)
    (library,) = cache.iterdir()
    library.unlink()
    library.write_bytes(b"half a file")
    assert compiled(KIND).symfield_advance


def test_no_compiler_is_an_error_that_says_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert find_compiler() is None
    with pytest.raises(CompilationError, match="install gcc or clang, or set CC"):
        compiled(KIND)


def test_a_compiler_that_fails_is_named(cache, monkeypatch, tmp_path):
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho this compiler is broken >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(CompilationError, match=r"broken does not compile native\.c: this compiler is broken"):
        compiled(KIND)
    assert list(cache.iterdir()) == []


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYMFIELD_CACHE", str(tmp_path / "file"))
    with pytest.raises(CompilationError, match=r"cache folder .*file does not serve: .*; set SYMFIELD_CACHE"):
        compiled(KIND)


@needs_compiler
def test_flags_that_a_compiler_refuses_are_left_out(cache, monkeypatch, tmp_path):
    real = find_compiler()
    assert real is not None
    script = tmp_path / "cc"
    script.write_text(
        f'#!/bin/sh\nfor a; do case "$a" in -m*=native) echo refused >&2; exit 1;; esac; done\nexec {real[0]} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    assert compiled(KIND).symfield_advance


def test_the_cache_is_a_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("SYMFIELD_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/symfield")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "symfield"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "symfield"
