"""Compiles sources of the library for the machine at hand, once, and keeps the result in the user's cache.

C sources take a second. Extension modules for torch include its headers and take some twenty, so the log says that
they are being compiled, processes wait for the first that does it, and a source that cannot be compiled is tried again
only after a day.

The name of a compiled library is a hash of the sources, the definitions, the flags, the versions of the compiler and of
torch and, where it matters, the processor, so that a new version of any of them compiles anew and a home folder may be
shared by different machines. Libraries appear under their name by an atomic rename: no process sees half of one.

Environment: ``SYMFIELD_KERNEL=off`` uses no compiled kernel; ``SYMFIELD_CACHE`` is the cache folder (default: a folder
``symfield`` in ``XDG_CACHE_HOME``, ``~/.cache``, ``~/Library/Caches`` or ``%LOCALAPPDATA%``); ``CC`` and ``CXX`` the
compilers.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.machinery
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import filelock

__all__ = ["CompilationError", "cache_folder", "compiled", "compiled_for_torch", "find_compiler", "switched_off"]

_log = logging.getLogger(__name__)

_COMMON = ("-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_TUNINGS = (("-O3", "-march=native"), ("-O3", "-mcpu=native"), ("-O3",))  # the first that the compiler takes
_COMPILERS = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}
_TORCH = ("-std=c++20", "-O2", "-fPIC")  # and what the caller asks for
_TIMEOUT = 300  # seconds for one compilation
_AGAIN = 86_400  # seconds after which a source that could not be compiled against torch is tried again


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


def find_compiler(variable: str = "CC") -> tuple[str, ...] | None:
    """The C compiler: ``$CC``, else ``cc``, ``gcc`` or ``clang`` on the path; or that of C++.

    Args:
        variable: ``"CC"`` for C, ``"CXX"`` for C++: ``$CXX``, ``c++``, ``g++`` or ``clang++``.

    Returns:
        The command as words, or None.

    Raises:
        CompilationError: if the environment variable cannot be split into words.

    Example:
        >>> find_compiler() is None or find_compiler()[0] != ""
        True
    """
    for command in (os.environ.get(variable, ""), *_COMPILERS[variable]):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise CompilationError(f"{variable}={command!r} is no command: {error}") from error
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
    parts = (*_COMMON, str(_TUNINGS), *macros, _fingerprint_of_machine())
    path = _path(compiler, parts, (source, *headers))
    with _telling_of_the_cache(path.parent):
        library = None
        if path.exists():
            with contextlib.suppress(OSError):  # a damaged file is replaced
                library = ctypes.CDLL(str(path))
        if library is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _build(
                lambda target: [
                    [[*compiler, *_COMMON, *tuning, *macros, str(source), "-o", str(target)]] for tuning in _TUNINGS
                ],
                source,
                path,
            )
            library = ctypes.CDLL(str(path))
        return library


def compiled_for_torch(source: Path, *, flags: tuple[str, ...] = ()) -> ModuleType:
    """A C++ source compiled against the headers of Python and of the torch at hand, and imported.

    Args:
        source: an extension module, of the name of the file.
        flags: further ones for the compiler, all that depends on the processor among them.

    Returns:
        The module.

    Raises:
        CompilationError: if there is no compiler, it refuses the source, now or in the last day, the cache cannot be
            written, another process has been compiling the same for too long, or the module cannot be imported.

    Example:
        >>> source = Path(tempfile.mkdtemp()) / "empty.cpp"
        >>> _ = source.write_text("not C++")
        >>> try:
        ...     compiled_for_torch(source)
        ... except CompilationError as error:
        ...     "does not compile empty.cpp" in str(error) or "install g++" in str(error)
        True
    """
    import torch

    compiler = find_compiler("CXX")
    if compiler is None:
        raise CompilationError("no C++ compiler found: install g++ or clang++, or set CXX")
    root = Path(torch.__file__).parent
    includes = (root / "include", root / "include/torch/csrc/api/include", Path(sysconfig.get_path("include")))
    folders = [word for include in includes for word in ("-isystem", str(include))]
    libraries = [f"-L{root / 'lib'}", "-ltorch_python", "-ltorch_cpu", "-lc10"]
    options = [*_TORCH, *flags, f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]

    def attempts(target: Path) -> list[list[list[str]]]:
        """With OpenMP, which is not linked, since torch brings the threads that it uses; and without."""
        part = str(target.with_suffix(".o"))
        compile_it = [*compiler, *options, *folders, "-c", str(source), "-o", part]
        link_it = [*compiler, "-shared", part, *libraries, "-o", str(target)]
        threads = [] if "clang" in _version(compiler) else [["-fopenmp"]]  # clang's is another one than torch's
        return [[[*compile_it, *flag], link_it] for flag in [*threads, []]]

    version = (torch.__version__, str(torch.version.git_version), str(sysconfig.get_config_var("SOABI")))
    path = _path(compiler, (*options, *version), (source,))
    with _telling_of_the_cache(path.parent):
        module = _imported(source.stem, path)
        if module is not None:
            return module
        path.parent.mkdir(parents=True, exist_ok=True)
        failed = path.with_suffix(".failed")
        try:
            with filelock.FileLock(path.with_suffix(".lock"), timeout=_TIMEOUT):
                module = _imported(source.stem, path)  # by the process that was waited for
                if module is not None:
                    return module
                if failed.exists() and 0 <= time.time() - failed.stat().st_mtime < _AGAIN:
                    message = failed.read_text(encoding="utf-8", errors="replace")
                    raise CompilationError(f"{message} (delete {failed} to try again)")
                _log.warning("symfield compiles %s for torch %s, once; a moment", source.name, torch.__version__)
                try:
                    _build(attempts, source, path)
                    module = _imported(source.stem, path)
                    if module is None:
                        raise CompilationError(f"{source.name} was compiled, but cannot be imported")
                except CompilationError as error:
                    failed.write_text(str(error), encoding="utf-8", errors="replace")
                    raise
                return module
        except filelock.Timeout as error:
            raise CompilationError(f"another process has been compiling {source.name} for {_TIMEOUT} s") from error


def _imported(name: str, path: Path) -> ModuleType | None:
    """An extension module that was compiled before; None if it was not, or the file is damaged and to be replaced."""
    if path.exists():
        full = f"symfield._compiled.{name}"  # Python enters it among all modules, where others may have the short name
        loader = importlib.machinery.ExtensionFileLoader(full, str(path))
        spec = importlib.util.spec_from_loader(full, loader)
        with contextlib.suppress(ImportError):
            if spec is not None:
                module = importlib.util.module_from_spec(spec)
                loader.exec_module(module)
                return module
    return None


@contextlib.contextmanager
def _telling_of_the_cache(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CompilationError(f"the cache folder {folder} does not serve: {error}; set SYMFIELD_CACHE") from error


def _build(attempts: Callable[[Path], list[list[list[str]]]], source: Path, path: Path) -> None:
    """Run commands that make a temporary file beside ``path``, the first that succeed, then rename it."""
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=path.parent) as folder:
        target = Path(folder) / path.name
        for commands in attempts(target):
            for command in commands:
                message, succeeded = _run(command)[1:]
                if not succeeded:
                    break
            if target.exists():
                target.replace(path)
                return
    words = " ".join(message.split())[:400]
    raise CompilationError(f"{command[0]} does not compile {source.name}: {words}")


def _run(command: Sequence[str], timeout: float = _TIMEOUT) -> tuple[str, str, bool]:
    """Standard output, standard error or what went wrong, and whether nothing did."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, errors="replace", stdin=subprocess.DEVNULL
        )
    except OSError as error:
        return "", str(error), False
    except subprocess.TimeoutExpired as error:  # another attempt would last as long
        raise CompilationError(f"{command[0]} takes longer than {timeout} s") from error
    return done.stdout, done.stderr or f"exit code {done.returncode}", done.returncode == 0


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
    return _run([*compiler, "--version"], timeout=30)[0]


@functools.cache
def _text(files: tuple[Path, ...]) -> bytes:
    return b"".join(file.read_bytes() for file in files)


def _path(compiler: tuple[str, ...], parts: Sequence[str], files: tuple[Path, ...]) -> Path:
    """Where the library belongs that these make."""
    text = "\0".join((*compiler, _version(compiler), *parts)).encode(errors="surrogateescape") + _text(files)
    try:
        folder = cache_folder()
    except RuntimeError as error:
        raise CompilationError(f"there is no cache folder: {error} Set SYMFIELD_CACHE.") from error
    return folder / (hashlib.sha256(text).hexdigest()[:32] + (".dll" if sys.platform == "win32" else ".so"))
