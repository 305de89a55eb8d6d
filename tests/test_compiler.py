"""Where compiled code comes from, and what happens where none can come."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from symfield.compiler import CompilationError, cache_folder, compiled_for_torch, find_compiler
from symfield.compiler import compiled as compiled_source
from symfield.meanfield import kernels
from symfield.meanfield.kernels import status
from symfield.weightspace.asymmetric.expansion import WORKS, compiled_functions

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


EXTENSION = """
#include <Python.h>
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
PyMODINIT_FUNC PyInit_NAME() { return PyModule_Create(&module); }
"""


@pytest.fixture
def extension(request, tmp_path) -> Path:
    """Of a name of its own, since Python keeps what it has imported."""
    name = f"of_{abs(hash(request.node.name))}"
    source = tmp_path / f"{name}.cpp"
    source.write_text(EXTENSION.replace("NAME", name))
    return source


def test_what_the_environment_says_wrongly_is_named(cache, extension, monkeypatch):
    monkeypatch.setenv("CXX", 'g++ "')
    with pytest.raises(CompilationError, match="is no command: No closing quotation"):
        compiled_for_torch(extension)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("SYMFIELD_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(CompilationError, match=r"no cache folder: .* Set SYMFIELD_CACHE|no C\+\+ compiler"):
        compiled_for_torch(extension)


needs_extensions = pytest.mark.skipif(compiled_functions().words != WORKS, reason=compiled_functions().words)


@needs_extensions
def test_an_extension_is_compiled_once_and_the_log_says_so(cache, extension, caplog):
    assert compiled_for_torch(extension).__name__ == f"symfield._compiled.{extension.stem}"
    (library,) = cache.glob("*.so")
    before = library.stat().st_mtime_ns
    assert compiled_for_torch(extension).__name__ == f"symfield._compiled.{extension.stem}"
    assert library.stat().st_mtime_ns == before
    assert [record.getMessage() for record in caplog.records] == [
        f"symfield compiles {extension.name} for torch {torch.__version__}, once; a moment"
    ]


@needs_extensions
def test_one_of_many_compiles_an_extension_and_the_others_wait(cache, extension, caplog):
    with ThreadPoolExecutor(4) as pool:
        modules = list(pool.map(compiled_for_torch, [extension] * 4))
    assert {module.__name__ for module in modules} == {f"symfield._compiled.{extension.stem}"}
    assert len(caplog.records) == 1


@needs_extensions
def test_an_extension_leaves_other_modules_of_its_name_alone(cache, extension, monkeypatch):
    monkeypatch.setitem(sys.modules, extension.stem, sys)
    compiled_for_torch(extension)
    assert sys.modules[extension.stem] is sys


@needs_extensions
def test_a_damaged_extension_is_replaced(cache, extension, monkeypatch):
    text = (
        f"from pathlib import Path; from symfield.compiler import compiled_for_torch as c; c(Path({str(extension)!r}))"
    )
    subprocess.run([sys.executable, "-c", text], check=True, capture_output=True)
    (library,) = cache.glob("*.so")
    library.unlink()
    library.write_bytes(b"half a file")
    assert compiled_for_torch(extension).__name__ == f"symfield._compiled.{extension.stem}"


@needs_extensions
def test_an_extension_that_is_refused_is_tried_again_after_a_day(cache, extension, caplog):
    extension.write_text("#error not today")
    for _ in range(2):
        with pytest.raises(CompilationError, match=f"does not compile {extension.name}.*not today"):
            compiled_for_torch(extension)
    assert len(caplog.records) == 1
    (failed,) = cache.glob("*.failed")
    for i, away in enumerate((-90_000, 90_000)):  # or a clock that was wrong
        os.utime(failed, (time.time() + away, time.time() + away))
        with pytest.raises(CompilationError, match="not today"):
            compiled_for_torch(extension)
        assert len(caplog.records) == 2 + i


@needs_extensions
def test_an_extension_that_cannot_be_imported_is_an_error(cache, extension):
    extension.write_text(EXTENSION.replace("PyInit_NAME", "PyInit_other").replace("NAME", "other"))
    with pytest.raises(CompilationError, match="cannot be imported"):
        compiled_for_torch(extension)


def test_no_compiler_of_extensions_is_an_error_that_says_what_to_do(cache, extension, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CompilationError, match="install g\\+\\+ or clang\\+\\+, or set CXX"):
        compiled_for_torch(extension)


@needs_extensions
@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_only_the_compiler_whose_threads_torch_has_uses_them(cache, extension, monkeypatch, tmp_path, name):
    real, said = find_compiler("CXX"), tmp_path / "said"
    assert real is not None
    script = tmp_path / name
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo {name}; exit; fi\necho "$@" >> {said}\nexec {real[0]} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert compiled_for_torch(extension).__name__ == f"symfield._compiled.{extension.stem}"
    assert ("-fopenmp" in said.read_text()) == (name == "g++")


def test_the_cache_is_a_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("SYMFIELD_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/symfield")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "symfield"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "symfield"
