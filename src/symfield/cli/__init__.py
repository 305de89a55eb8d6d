"""The command line.

Studies: ``symfield studies``, ``run``, ``figure``, ``report``, ``verdicts``, ``doctor``. Tables of data: ``diagnose``.
Models and checkpoints: ``symmetries``, ``check``, ``align``.
"""

from __future__ import annotations

from symfield.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a known error is one line on standard error and exit code 2."""
    app()
