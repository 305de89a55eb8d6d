"""One unit of work: a module-level function, the small configuration that names it, and a key that never drifts.

The key of a cell is the SHA-256 of the canonical JSON of (path of the function, its version, the configuration). Two
studies, or two presets of one study, that ask for the same cell therefore share its rows. Raise the version next to a
function whenever its rows would change; nothing else ever makes a finished cell run again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import math
import sys
import textwrap
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from symfield.experiments.errors import StudyError
from symfield.experiments.fields import plain

__all__ = ["Cell", "Row", "decode", "encode", "versioned"]

Row = dict[str, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def versioned(version: int) -> Callable[[_Function], _Function]:
    """Declare the version of a cell's function, next to it.

    Args:
        version: raise it when the rows of the function would change.

    Returns:
        A decorator that marks the function and returns it.

    Raises:
        StudyError: if the function is not at the top level of a module.
    """

    def mark(function: _Function) -> _Function:
        if "<" in function.__qualname__:
            raise StudyError(f"{function.__qualname__} is defined inside another function; move it to the module")
        function.__cell_version__ = version  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True)
class Cell:
    """One unit of work: ``function(config)`` gives rows.

    Args:
        function: a module-level function marked with :func:`versioned`; takes the configuration, returns a list of rows
            (dictionaries of numbers, strings, booleans or None; NaN is allowed).
        config: a flat frozen dataclass instance that names the work, and all that it depends on.
        cost: how long this cell takes relative to the others; only the remaining time and the order under several
            processes use it, the key does not.

    Raises:
        StudyError: if the function has no version.
        FieldError: if the configuration is not flat and frozen.
    """

    function: Callable[..., Any]
    config: Any
    cost: float = field(default=1.0, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.function, "__cell_version__", None), int):
            name = getattr(self.function, "__qualname__", repr(self.function))
            raise StudyError(f"{name} declares no version; write @versioned(1) above it")
        if not (math.isfinite(self.cost) and self.cost > 0):
            raise StudyError(f"the cost of a cell must be positive and finite, got {self.cost}")
        _ = self.key

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as JSON holds it."""
        return plain(self.config)

    @functools.cached_property
    def name(self) -> str:
        """The path of the function, ``module:function``."""
        return f"{_module_name(self.function)}:{self.function.__qualname__}"

    @property
    def version(self) -> int:
        """The version declared next to the function."""
        return self.function.__cell_version__  # type: ignore[attr-defined]

    @functools.cached_property
    def key(self) -> str:
        """The SHA-256 that names this cell in every store, on every machine."""
        content = {"function": self.name, "version": self.version, "config": self.settings}
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    @property
    def code(self) -> str:
        """Fingerprint of the function's own text, blind to comments and layout."""
        return _code(self.function)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={_short(value)}" for name, value in self.settings.items())
        return f"{self.function.__qualname__}({settings})"


def canonical(content: object) -> str:
    """JSON with sorted keys and no spaces: equal content, equal text.

    Example:
        >>> canonical({"b": (1, 2.0), "a": None})
        '{"a":null,"b":[1,2.0]}'
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def encode(rows: object) -> bytes:
    """Rows as compressed JSON; floats keep every bit, NaN and infinities included.

    Args:
        rows: what a cell's function returned.

    Returns:
        The bytes.

    Raises:
        TypeError: if this is not a list of flat dictionaries.

    Example:
        >>> decode(encode([{"n": 5, "rmd": 0.1}]))
        [{'n': 5, 'rmd': 0.1}]
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TypeError(f"a cell must return a list of dictionaries, received {type(rows).__name__}")
    flat = [{str(name): _scalar(name, value) for name, value in row.items()} for row in rows]
    return zlib.compress(json.dumps(flat, separators=(",", ":")).encode(), 1)


def decode(blob: bytes) -> list[Row]:
    """The rows of :func:`encode`.

    Args:
        blob: the bytes.

    Returns:
        The rows.

    Raises:
        ValueError: if the bytes are damaged.
    """
    try:
        rows = json.loads(zlib.decompress(blob))
    except (zlib.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of rows, found {type(rows).__name__}")
    return rows


def _scalar(name: object, value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        # subclasses (numpy.float64, enum members) become the plain type
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        return None
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _scalar(name, value.item())
    raise TypeError(
        f"column {name!r} of a row must hold a number, a string, a boolean or None, received {type(value).__name__}; "
        "write one row for each entry"
    )


def _module_name(function: Callable[..., Any]) -> str:
    """The function's module; a file run as a script has the name it would have when loaded by path."""
    if function.__module__ not in ("__main__", "__mp_main__", None):
        return function.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", None) or "__main__").stem


@functools.cache
def _code(function: Callable[..., Any]) -> str:
    try:
        text = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(value: object) -> str:
    if isinstance(value, tuple):
        shown = [_short(item) for item in value[:4]]
        return f"({', '.join(shown)}{f', … {len(value)} in all' if len(value) > 4 else ''})"
    return str(value)
