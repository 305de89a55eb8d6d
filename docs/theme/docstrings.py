"""A griffe extension: docstrings written for Python's readers, shown as pages.

Docstrings keep the roles that editors know (``:func:`~symfield.linalg.span```), a singular ``Example:`` and ``::``
before a code block. Here they become links, an examples section and a plain colon.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc|obj):`(?P<short>[~.]?)(?P<path>[\w.]+)(?:\(\))?`")
_EXAMPLE = re.compile(r"^(\s*)Example:[ ]*$", re.MULTILINE)
_LITERAL = re.compile(r"::[ ]*$", re.MULTILINE)


class ReadableDocstrings(griffe.Extension):
    """Rewrite every docstring of the package once, after it was read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring.

        Args:
            obj: the module, class, function or attribute that holds it.
        """
        if obj.docstring is None:
            return
        text = _EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
        text = _LITERAL.sub(":", text)
        obj.docstring.value = _ROLE.sub(lambda match: _link(obj, match["path"], match["short"] == "~"), text)


def _link(obj: griffe.Object, path: str, short: bool) -> str:
    """A link that falls back to plain code when its target has no page."""
    shown = path.rsplit(".", 1)[-1] if short else path
    try:
        target = path if path.startswith("symfield") else obj.resolve(path)
    except griffe.NameResolutionError:
        target = path
    return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'
