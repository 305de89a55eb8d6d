"""A MkDocs hook: formulas become MathML while the pages are built.

A reader's browser then needs no script, no font and no network to show them. ``pymdownx.arithmatex`` (generic mode)
marks the formulas in ``$...$`` and ``$$...$$``; this hook replaces what it marked. A command that cannot be translated
stops the build, so that no page shows raw LaTeX.
"""

from __future__ import annotations

import contextlib
import html
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
_TITLE = re.compile(r"\\\((.+?)\\\)")
_BIG_BAR = re.compile(r"\\(?:[bB]igg?[lr]?|left|right)\s*(?=\\(?:[lr]?[vV]ert(?![a-zA-Z])|\|))")
_PLAIN_NORM = re.compile(r"\\\|(.+?)\\\|", re.DOTALL)
_NORM = re.compile(r"\\l([vV])ert(?![a-zA-Z])((?:(?!\\l[vV]ert|\\r[vV]ert).)*?)\\r\1ert(?![a-zA-Z])", re.DOTALL)
_TOUCHES = (
    (re.compile(r"<mi>(&#x003(?:9[1-9A-F]|A[0-9]);)</mi>"), r'<mi mathvariant="normal">\1</mi>'),  # capital Greek
    (re.compile(r"<mo>(&#x0002F;|/)</mo>"), r'<mo lspace="0" rspace="0">\1</mo>'),
    (re.compile(r"<m[io]>([a-zA-Z]{2,})</m[io]>"), r'<mo lspace="0.1em" rspace="0.17em">\1</mo>'),  # dim, cos, tr
)
_VARIANT = re.compile(r'<(mi|mn) mathvariant="(fraktur|script|bold|bold-italic)">([^<]+)</\1>')
_ALPHABETS = {
    "fraktur": ("MATHEMATICAL FRAKTUR", "BLACK-LETTER"),
    "script": ("MATHEMATICAL SCRIPT", "SCRIPT"),
    "bold": ("MATHEMATICAL BOLD",),
    "bold-italic": ("MATHEMATICAL BOLD ITALIC",),
}
_BARS = {"v": "|", "V": "‖"}


def on_page_content(content: str, /, *, page: Any, **_: Any) -> str:
    """Replace every marked formula of a page.

    Args:
        content: the page's HTML.
        page: the page, named in an error.

    Returns:
        The HTML with MathML in it.

    Raises:
        PluginError: if a formula holds a command that is not translated.
    """

    def replace(match: re.Match[str]) -> str:
        latex = html.unescape(match["latex"]).strip()
        result = mathml(latex, block=match["open"] == "[")
        if "\\" in result:
            raise PluginError(
                f"{page.file.src_uri}: the formula {latex!r} holds a command that latex2mathml does not know"
            )
        return result

    _translate_titles(page.toc)
    return _FORMULA.sub(replace, content)


def _translate_titles(items: Iterable[Any]) -> None:
    """Formulas in the titles of a table of contents, at every depth."""
    for item in items:
        item.title = _TITLE.sub(lambda match: mathml(html.unescape(match[1]), block=False), item.title)
        _translate_titles(item.children)


def mathml(latex: str, *, block: bool) -> str:
    """MathML of one formula, with norms as fences that carry exponents and a few typographic touches.

    Args:
        latex: the formula, without its delimiters.
        block: whether it stands on a line of its own.

    Returns:
        A ``<math>`` element.
    """
    latex = _PLAIN_NORM.sub(r"\\lVert \1\\rVert ", _BIG_BAR.sub("", latex))
    while _NORM.search(latex):
        latex = _NORM.sub(lambda match: rf"{{\left{_BARS[match[1]]}{match[2]}\right{_BARS[match[1]]}}}", latex)
    result = convert(latex, display="block" if block else "inline")
    for pattern, replacement in _TOUCHES:
        result = pattern.sub(replacement, result)
    return _VARIANT.sub(lambda match: f"<{match[1]}>{_letter(match[2], html.unescape(match[3]))}</{match[1]}>", result)


def _letter(variant: str, character: str) -> str:
    """The letter of a mathematical alphabet: browsers no longer read `mathvariant`."""
    plain = unicodedata.name(character).removeprefix("LATIN ").removeprefix("GREEK ").replace("LETTER ", "")
    for alphabet in _ALPHABETS[variant]:
        with contextlib.suppress(KeyError):
            return unicodedata.lookup(f"{alphabet} {plain}")
    return character
