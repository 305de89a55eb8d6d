"""A griffe extension: docstrings written for Python's readers, shown as pages.

Docstrings keep the roles that editors know (``:func:`~symfield.linalg.span```), a singular ``Example:``, ``::`` before
a block and ``.. code-block::``. Here they become links, an examples section, a plain colon and fenced code.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc|obj):`(?P<short>[~.]?)(?P<path>[\w.]+)(?:\(\))?`")
_EXAMPLE = re.compile(r"^Example:[ ]*$", re.MULTILINE)
_LITERAL = re.compile(r"::[ ]*$", re.MULTILINE)
_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|[ ]*\n)+)", re.MULTILINE)
_REFERENCE = re.compile(
    r"^(    .*\b(?:\d{4}\.\d{5}(?:v\d)?|doi\S+|\d{4})\.)\n(?=    [A-Z])", re.MULTILINE
)  # one paragraph each
_ITEM = re.compile(r"^    \*{0,2}[\w.]+(?: \([^)]*\))?:")
_KEPT = re.compile(
    r"(``.+?``|`[^`]+`"  # code
    r"|^[ ]*\*[ ]"  # a bullet
    r"|(?<![\w*^_])\*\*(?=[^\s*])[^*]*[^\s*]\*\*(?![\w*])"  # **strong**
    r"|(?<![\w*^_])\*(?=[^\s*])[^*]*[^\s*]\*(?![\w*]))",  # *emphasis*
    re.MULTILINE | re.DOTALL,
)
_HIDE = str.maketrans({"_": "\ue000", "*": "\ue001"})  # names of arguments: griffe reads them
_SHOW = str.maketrans({"\ue000": "_", "\ue001": "*"})


class ReadableDocstrings(griffe.Extension):
    """Rewrite every docstring of the package once, after it was read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring.

        Args:
            obj: the module, class, function or attribute that holds it.
        """
        if obj.docstring is None:
            return
        text = _EXAMPLE.sub("Examples:", obj.docstring.value)
        text = _BLOCK.sub(lambda match: f"```{match[1]}\n{textwrap.dedent(match[2]).rstrip()}\n```\n\n", text)
        text = _REFERENCE.sub(r"\1\n\n", _LITERAL.sub(":", text))
        text = "\n".join(_escaped(text.split("\n")))
        obj.docstring.value = _ROLE.sub(lambda match: _link(obj, match["path"], match["short"] == "~"), text)


def _escaped(lines: list[str]) -> Iterator[str]:
    """Lines in which mathematics such as σ_*(x; z) or <u, v> is not taken for Markdown or HTML; code stays as it is."""
    prose: list[str] = []
    for line, is_code, in_section in _read(lines):
        if is_code:
            if prose:
                yield _escape("\n".join(prose))
            prose = []
            yield line
        else:
            item = _ITEM.match(line) if in_section else None
            end = item.end() if item else 0
            prose.append(line[:end].translate(_HIDE) + line[end:])
    if prose:
        yield _escape("\n".join(prose))


def _read(lines: list[str]) -> Iterator[tuple[str, bool, bool]]:
    """Each line, whether it is code, and whether it stands in a section such as Args."""
    fenced = doctest = section = False
    for line in lines:
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>> "))
        if line[:1].strip() and not fenced:
            section = line.rstrip().endswith(":") and " " not in line.strip()
        yield line, fence or fenced or doctest or (line.startswith("    ") and not section), section


def _escape(text: str) -> str:
    """Escape underscores, stars and angle brackets, but in code, *emphasis* and bullets."""
    parts = _KEPT.split(text)  # text, kept, text, kept, ...
    parts[::2] = [re.sub(r"([*_])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts).translate(_SHOW)


def _link(obj: griffe.Object, path: str, short: bool) -> str:
    """A link that falls back to plain code when its target has no page."""
    shown = (path.rsplit(".", 1)[-1] if short else path).replace("_", r"\_")
    try:
        target = path if path.startswith("symfield") else obj.resolve(path)
    except griffe.NameResolutionError:
        target = path
    return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'
