"""What a derivation found besides the symmetry: what is fixed and why, what was tested."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Check", "Fixed", "Report", "Unknown"]


@dataclass(frozen=True)
class Fixed:
    """An axis, or a part of one, that nothing moves.

    Attributes:
        tensor: its name.
        axis: its number.
        size: entries of the fixed part.
        reason: why.
    """

    tensor: str
    axis: int
    size: int
    reason: str

    def __str__(self) -> str:
        return f"{self.tensor}.{self.axis} ({self.size}): {self.reason}"


@dataclass(frozen=True)
class Unknown:
    """An operator without a rule, or used in a way that its rule does not cover; the axes it touches are fixed.

    Attributes:
        operator: ATen name.
        modules: where it is called.
    """

    operator: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        places = sorted({module for module in self.modules if module})
        where = f" in {', '.join(places[:3])}{' and others' if len(places) > 3 else ''}" if places else ""
        return f"{self.operator} ({len(self.modules)} calls{where})"


@dataclass(frozen=True)
class Check:
    """The test of one factor.

    Attributes:
        factor: its name; ``"all"`` for an element of the whole group.
        error: largest change of an output, relative to the output's norm.
        tolerance: what round-off explains.
        inputs: number of inputs.
    """

    factor: str
    error: float
    tolerance: float
    inputs: int

    @property
    def passed(self) -> bool:
        """Whether the output did not change."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Report:
    """What was derived, fixed and tested.

    Attributes:
        source: how the graph was taken.
        fixed: axes that nothing moves, with reasons.
        unknown: operators without a rule.
        notes: symmetries that are known to be missing or inexact, in words.
        checks: tests of all factors that are part of the symmetry; empty without a certificate.
        rejected: tests of factors that changed the output. They are internal errors, and not part of the symmetry.
    """

    source: str
    fixed: tuple[Fixed, ...] = field(repr=False, default=())
    unknown: tuple[Unknown, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = field(repr=False, default=())
    rejected: tuple[Check, ...] = ()

    @property
    def certified(self) -> bool:
        """Whether every factor was tested, and none changed the output."""
        return bool(self.checks) and not self.rejected

    def __str__(self) -> str:
        lines = [f"graph from {self.source}"]
        if self.checks:
            worst = max(self.checks, key=lambda check: check.error)
            lines.append(
                f"certificate: {len(self.checks)} tests on {worst.inputs} inputs each, largest relative change "
                f"{worst.error:.1e} (tolerance {worst.tolerance:.0e})"
            )
        else:
            lines.append("no certificate")
        lines += [
            f"REJECTED {check.factor}: relative change {check.error:.1e}; please report this error"
            for check in self.rejected
        ]
        lines += [f"no rule: {item}" for item in self.unknown]
        lines += [f"note: {note}" for note in self.notes]
        reasons: dict[str, list[Fixed]] = {}
        for item in self.fixed:
            reasons.setdefault(item.reason, []).append(item)
        for reason, items in reasons.items():
            places = [f"{item.tensor}.{item.axis}" for item in items]
            more = f" and {len(places) - 4} more" if len(places) > 4 else ""
            lines.append(f"fixed: {', '.join(places[:4])}{more}: {reason}")
        return "\n".join(lines)
