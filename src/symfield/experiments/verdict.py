"""A claim against a measurement: what was found, what was expected, how far apart they may be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from symfield.experiments.errors import FieldError

__all__ = ["FAILS", "HOLDS", "NOT_TESTED", "Verdict", "counted", "number"]

HOLDS = "holds"
FAILS = "fails"
NOT_TESTED = "not tested"
_PLURAL = {HOLDS: "hold", FAILS: "fail", NOT_TESTED: NOT_TESTED}

Measure = float | int | str | None
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Verdict:
    """One claim and what became of it.

    The class methods decide; give ``verdict`` by hand only where none of them fits.

    Args:
        claim: a sentence that could be false.
        measured: the number found, or words.
        expected: the number or words the claim predicts.
        tolerance: how far the measurement may lie, as a number or in words; None for an exact or qualitative claim.
        verdict: ``"holds"``, ``"fails"`` or ``"not tested"``.
        source: where the claim is made, e.g. ``"Maass & Fontbona 2024, Theorem 3"``.
    """

    claim: str
    measured: Measure
    expected: Measure
    tolerance: Measure
    verdict: str
    source: str

    def __post_init__(self) -> None:
        if self.verdict not in (HOLDS, FAILS, NOT_TESTED):
            raise FieldError(f"a verdict is 'holds', 'fails' or 'not tested', received {self.verdict!r}")

    @classmethod
    def close(cls, claim: str, measured: float, expected: float, tolerance: float, *, source: str) -> Verdict:
        """Holds when ``|measured - expected| <= tolerance``.

        Example:
            >>> Verdict.close("the slope is -1/2", -0.49, -0.5, 0.05, source="CLT").verdict
            'holds'
        """
        holds = abs(measured - expected) <= tolerance
        return cls(claim, float(measured), float(expected), float(tolerance), HOLDS if holds else FAILS, source)

    @classmethod
    def at_most(cls, claim: str, measured: float, bound: float, *, source: str) -> Verdict:
        """Holds when ``measured <= bound``."""
        return cls(claim, float(measured), f"at most {bound:g}", None, HOLDS if measured <= bound else FAILS, source)

    @classmethod
    def at_least(cls, claim: str, measured: float, bound: float, *, source: str) -> Verdict:
        """Holds when ``measured >= bound``."""
        return cls(claim, float(measured), f"at least {bound:g}", None, HOLDS if measured >= bound else FAILS, source)

    @classmethod
    def between(cls, claim: str, measured: float, low: float, high: float, *, source: str) -> Verdict:
        """Holds when ``low <= measured <= high``."""
        verdict = HOLDS if low <= measured <= high else FAILS
        return cls(claim, float(measured), f"from {low:g} to {high:g}", None, verdict, source)

    @classmethod
    def true(cls, claim: str, holds: bool, *, measured: Measure, expected: Measure, source: str) -> Verdict:
        """Holds when told so: for a comparison that none of the others says."""
        return cls(claim, measured, expected, None, HOLDS if holds else FAILS, source)

    @classmethod
    def not_tested(cls, claim: str, why: str, *, source: str) -> Verdict:
        """Neither: this run has not what the claim needs, and ``why`` says what."""
        return cls(claim, why, None, None, NOT_TESTED, source)

    def to_json(self) -> dict[str, Any]:
        """The six fields, in order; a number that JSON cannot hold becomes ``"nan"``, ``"inf"`` or ``"-inf"``."""
        return {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """The verdict of :meth:`to_json`."""
        return cls(**content)


def counted(verdict: str, count: int) -> str:
    """So many verdicts of a kind, in words.

    Args:
        verdict: which kind.
        count: how many.

    Returns:
        The words.

    Example:
        >>> counted(HOLDS, 1), counted(HOLDS, 2), counted(NOT_TESTED, 2)
        ('1 holds', '2 hold', '2 not tested')
    """
    return f"{count} {verdict if count == 1 else _PLURAL[verdict]}"


def number(value: object) -> str:
    """A number for a reader: four significant digits, powers of ten where they help.

    Args:
        value: a number, words, or None.

    Returns:
        The text; a dash for None.

    Example:
        >>> [number(value) for value in (0.12345, 1.5e-7, 20, -3.0, 123456.7, None, "at most 1e-05")]
        ['0.1235', '1.5×10⁻⁷', '20', '−3', '1.235×10⁵', '–', 'at most 1×10⁻⁵']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–" if value is None else "NaN"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return re.sub(r"-?\b\d[\d.]*e[-+]?\d+\b", lambda found: number(float(found[0])), str(value))
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e5):
        return f"{int(value)}".replace("-", "−")
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}".replace("-", "−")
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}".replace("-", "−") + "×10" + str(int(exponent)).translate(_SUPERSCRIPT)
