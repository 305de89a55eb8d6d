"""Compiles C sources of the library for the machine at hand, once, and keeps the result in the user's cache.

The name of a compiled library is a hash of the sources, the definitions, the flags, the compiler's version and the
processor, so that a new version of any of them compiles anew and a home folder may be shared by different machines.
Libraries appear under their name by an atomic rename: parallel processes may compile the same one, none sees half.

Environment: ``SYMFIELD_KERNEL=off`` uses no compiled kernel; ``SYMFIELD_CACHE`` is the cache folder (default: a folder
``symfield`` in ``XDG_CACHE_HOME``, ``~/.cache``, ``~/Library/Caches`` or ``%LOCALAPPDATA%``); ``CC`` the compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CompilationError", "cache_folder", "compiled", "find_compiler", "switched_off"]

_COMMON = ("-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_TUNINGS = (("-O3", "-march=native"), ("-O3", "-mcpu=native"), ("-O3",))  # the first that the compiler takes
_TIMEOUT = 120  # seconds for one compilation


class CompilationError(RuntimeError):
    """No compiled kernel: the text says why and what to do."""


def switched_off() -> bool:
    """Whether ``SYMFIELD_KERNEL`` forbids compiled kernels.

    Returns:
        True for ``off``, ``0``, ``no``, ``false``.

    Example:
        >>> switched_off() in (True, False)
        True
    """
    return os.environ.get("SYMFIELD_KERNEL", "").lower() in ("off", "0", "no", "false")


def cache_folder() -> Path:
    """Where compiled libraries are kept.

    Returns:
        The folder; it may not exist yet.

    Example:
        >>> cache_folder().name != ""
        True
    """
    chosen = os.environ.get("SYMFIELD_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "symfield"


def find_compiler() -> tuple[str, ...] | None:
    """The C compiler: ``$CC``, else ``cc``, ``gcc`` or ``clang`` on the path.

    Returns:
        The command as words, or None.

    Example:
        >>> find_compiler() is None or find_compiler()[0] != ""
        True
    """
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        found = shutil.which(words[0]) if words else None
        if found:
            return (found, *words[1:])
    return None


def compiled(
    source: Path, *, headers: tuple[Path, ...] = (), definitions: tuple[tuple[str, int], ...] = ()
) -> ctypes.CDLL:
    """A C source compiled with some macros, loaded.

    Args:
        source: the file to compile.
        headers: files of ours that it includes, whose text decides with its own whether to compile anew.
        definitions: macros and their values.

    Returns:
        The library.

    Raises:
        CompilationError: if there is no compiler, it refuses the source, or the cache cannot be written.

    Example:
        >>> source = Path(tempfile.mkdtemp()) / "two.c"
        >>> _ = source.write_text("int two(void) { return 2; }")
        >>> 2 if find_compiler() is None else compiled(source).two()
        2
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilationError("no C compiler found: install gcc or clang, or set CC")
    macros = [f"-D{name}={value}" for name, value in definitions]
    folder = cache_folder()
    path = (
        folder / f"{_fingerprint(compiler, macros, (source, *headers))}{'.dll' if sys.platform == 'win32' else '.so'}"
    )
    try:
        if path.exists():
            with contextlib.suppress(OSError):  # a damaged file is replaced
                return ctypes.CDLL(str(path))
        folder.mkdir(parents=True, exist_ok=True)
        _build(compiler, source, macros, path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilationError(f"the cache folder {folder} does not serve: {error}; set SYMFIELD_CACHE") from error


def _build(compiler: Sequence[str], source: Path, macros: Sequence[str], path: Path) -> None:
    """Compile into a temporary name beside ``path``, then rename."""
    message = ""
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=path.parent) as folder:
        target = Path(folder) / path.name
        for tuning in _TUNINGS:
            command = [*compiler, *_COMMON, *tuning, *macros, str(source), "-o", str(target)]
            message = _run(command)[1]
            if target.exists():
                target.replace(path)
                return
    raise CompilationError(f"{' '.join(compiler)} does not compile {source.name}: {' '.join(message.split())[:400]}")


def _run(command: Sequence[str]) -> tuple[str, str]:
    """Standard output, and standard error or what went wrong."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, errors="replace", stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, done.stderr or f"exit code {done.returncode}"


@functools.cache
def _fingerprint_of_machine() -> str:
    """Architecture and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    kinds = ("flags", "Features", "model name", "CPU implementer", "CPU part")
    features = sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join([sys.platform, platform.machine(), *(features or [platform.processor()])])


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    return _run([*compiler, "--version"])[0]


@functools.cache
def _text(files: tuple[Path, ...]) -> bytes:
    return b"".join(file.read_bytes() for file in files)


def _fingerprint(compiler: tuple[str, ...], macros: Sequence[str], files: tuple[Path, ...]) -> str:
    parts = (*compiler, _version(compiler), *_COMMON, str(_TUNINGS), *macros, _fingerprint_of_machine())
    return hashlib.sha256("\0".join(parts).encode() + _text(files)).hexdigest()[:32]
