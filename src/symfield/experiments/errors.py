"""What can go wrong around an experiment, said once in the user's words.

Every message states what was expected, what was received and what to do; the command line prints it as one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CellsFailed", "ExperimentError", "FieldError", "FolderError", "Interrupted", "StoreError", "StudyError", "unknown",
]  # fmt: skip


class ExperimentError(Exception):
    """Any error a user of ``experiments`` can cause and mend."""


class FieldError(ExperimentError, ValueError):
    """A configuration field is unknown or holds a value of the wrong type."""


class StudyError(ExperimentError, ValueError):
    """A study cannot be found, loaded or trusted to keep the contract."""


class StoreError(ExperimentError):
    """The store of finished cells cannot be opened, read or written."""


class FolderError(ExperimentError):
    """A run's folder is missing, incomplete or cannot be written."""


class CellsFailed(ExperimentError):
    """Some cells raised; every other cell was computed."""


class Interrupted(ExperimentError):
    """The user stopped a sweep; every finished cell is in the store."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that is not among the known ones, with the closest match.

    Args:
        kind: what the name stands for, e.g. ``"study"``.
        name: what was received.
        known: the names that exist.

    Returns:
        The sentence.

    Example:
        >>> unknown("key", "widht", ["width", "steps"])
        "unknown key 'widht'; did you mean 'width'? Known: width, steps"
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {kind} {name!r}; {hint}Known: {', '.join(names) if names else 'none'}"
