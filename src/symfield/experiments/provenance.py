"""Where numbers come from: versions and the commit, and nothing that tells one machine from another."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import symfield

__all__ = ["commit", "versions"]


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = {"symfield": symfield.__version__, "python": platform.python_version()}
    for package in ("torch", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return tuple(found.items())


def versions() -> dict[str, str]:
    """The versions that shape numbers: symfield, python, torch, numpy.

    Returns:
        Name to version; torch is asked for its version without being imported.

    Example:
        >>> sorted(versions())
        ['numpy', 'python', 'symfield', 'torch']
    """
    return dict(_versions())


def commit(folder: Path | str) -> str | None:
    """The git commit of the working tree a folder lies in.

    Args:
        folder: any folder.

    Returns:
        The commit, with ``+changes`` when tracked files differ from it; None outside a git repository or without git.
    """
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")


def _git(folder: Path | str, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
