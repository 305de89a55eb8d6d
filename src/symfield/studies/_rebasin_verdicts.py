"""What became of the claims about matched networks, good and bad."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pandas import DataFrame

from symfield.experiments import Verdict

__all__ = ["REPAIR", "SOURCE", "judge"]

SOURCE = "Ainsworth, Hayase & Srinivasa 2023, arXiv:2209.04836"
REPAIR = "Jordan et al. 2023, arXiv:2211.08403"
OURS = "measured here"
BOTH = "activations, then weights"
TRAINED = 30
WIDE, NARROW = 512, 32
_GAP = "squared_distance"
_COLUMNS = ["train_loss_barrier", "end_test_accuracy", "inner", "cosine", _GAP, "cpu_s", "training_cpu_s"]


def judge(rows: DataFrame, config: Any) -> list[Verdict]:
    """Verdicts on means over pairs.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; levels are judged where networks of that width were trained to the end.
    """
    pairs = rows[rows["kind"] == "pair"]
    found: list[Verdict] = []
    for task, optimiser in dict.fromkeys(zip(pairs["task"], pairs["optimiser"], strict=True)):
        here = pairs[(pairs["task"] == task) & (pairs["optimiser"] == optimiser)]
        means = here.groupby(["width", "method", "repair"])[
            [
                "train_loss_barrier",
                "end_test_accuracy",
                "inner",
                "cosine",
                "squared_distance",
                "cpu_s",
                "training_cpu_s",
            ]
        ].mean()
        widths = sorted(int(width) for width in here["width"].unique())
        last = widths[-1]
        setting = _Setting(f"{task}, {optimiser}", means, config.epochs >= TRAINED, found)
        _of_width(setting, widths)
        if task == "digits":
            _of_wide(setting)
        else:
            _of_narrow(setting)
        setting.judge(
            f"width {last}: with scales, networks come closer than by permutations alone (ratio of ‖a − b‖²)",
            lambda at, w=last: at(w, "weights and scales", _GAP) / at(w, "weights", _GAP),
            at_most=0.99,
            source=OURS,
            always=True,
        )  # fmt: skip
    return found


class _Setting:
    """The means of one task and optimiser, and where verdicts go."""

    def __init__(self, words: str, means: DataFrame, trained: bool, found: list[Verdict]) -> None:
        self.words, self.means, self.trained, self.found = words, means, trained, found

    def at(self, width: int, method: str, column: str = "train_loss_barrier", *, repair: bool = False) -> float:
        return float(self.means[column].get((width, method, repair), math.nan))

    def judge(
        self,
        claim: str,
        measure: Callable[..., float],
        *,
        source: str,
        at_most: float | None = None,
        at_least: float | None = None,
        always: bool = False,
    ) -> None:
        value = measure(self.at)
        words = f"{self.words}, {claim}"
        if math.isnan(value) or not (self.trained or always):
            why = f"needs {TRAINED} epochs, and the widths and methods that it names"
            self.found.append(Verdict.not_tested(words, why, source=source))
        elif at_most is not None:
            self.found.append(Verdict.at_most(words, value, at_most, source=source))
        elif at_least is not None:
            self.found.append(Verdict.at_least(words, value, at_least, source=source))


def _of_width(setting: _Setting, widths: list[int]) -> None:
    first, last = widths[0], widths[-1]
    for name in ("weights", BOTH):
        setting.judge(
            f"matched by {name}: the share of the barrier that is left falls with width (ratio, {last} to {first})",
            lambda at, name=name: (
                at(last, name) / at(last, "none") / (at(first, name) / at(first, "none"))
                if last >= 4 * first
                else math.nan
            ),
            at_most=0.7,
            source=f"{SOURCE}, Section 5",
        )
    setting.judge(
        f"width {last}: matched by weights, the barrier is lower than unmatched (ratio)",
        lambda at: at(last, "weights") / at(last, "none"),
        at_most=0.75,
        source=SOURCE,
        always=True,
    )


def _of_wide(setting: _Setting) -> None:
    w = WIDE
    setting.judge(
        f"matched by weights: the barrier itself falls with width (ratio, {w} to {NARROW})",
        lambda at: at(w, "weights") / at(NARROW, "weights"),
        at_most=0.5,
        source=f"{SOURCE}, Section 5",
    )
    setting.judge(
        f"width {w}: end networks are good (test accuracy)",
        lambda at: at(w, "none", "end_test_accuracy"),
        at_least=0.96,
        source=OURS,
    )
    setting.judge(f"width {w}: unmatched, the barrier is high", lambda at: at(w, "none"), at_least=0.2, source=SOURCE)
    for name in ("weights", "activations", BOTH):
        setting.judge(
            f"width {w}: matched by {name}, almost nothing of the barrier is left (ratio to unmatched)",
            lambda at, name=name: at(w, name) / at(w, "none"),
            at_most=0.05,
            source=SOURCE,
        )
    setting.judge(
        f"width {w}: REPAIR alone, without any matching, removes most of the barrier (ratio to plain)",
        lambda at: at(w, "none", repair=True) / at(w, "none"),
        at_most=0.2,
        source=REPAIR,
    )
    setting.judge(
        f"width {w}: matching without REPAIR leaves less than REPAIR without matching (ratio)",
        lambda at: at(w, "weights") / at(w, "none", repair=True),
        at_most=0.7,
        source=OURS,
    )
    setting.judge(
        f"width {w}: a start from activations changes what weight matching reaches by less than 1 % (inner product)",
        lambda at: abs(at(w, BOTH, "inner") / at(w, "weights", "inner") - 1),
        at_most=0.01,
        source=OURS,
    )
    setting.judge(
        f"width {w}: weight matching comes within 1 % of the inner product of Frank-Wolfe (ratio)",
        lambda at: at(w, "weights", "inner") / at(w, "Frank-Wolfe", "inner"),
        at_least=0.99,
        source=OURS,
    )
    setting.judge(
        f"width {w}: weight matching costs a small share of training one network (CPU seconds)",
        lambda at: at(w, "weights", "cpu_s") / at(w, "weights", "training_cpu_s"),
        at_most=0.1,
        source=OURS,
    )


def _of_narrow(setting: _Setting) -> None:
    w = NARROW
    setting.judge(
        f"width {w}: REPAIR alone does not help deep narrow networks, the barrier grows (ratio to plain)",
        lambda at: at(w, "none", repair=True) / at(w, "none"),
        at_least=1.0,
        source=OURS,
    )
    setting.judge(
        f"width {w}: matched by weights, much of the barrier is left (ratio to unmatched)",
        lambda at: at(w, "weights") / at(w, "none"),
        at_least=0.2,
        source=f"{SOURCE}, Section 5: matching needs width",
    )
    setting.judge(
        f"width {w}: descent on the loss of the midpoint leaves less than weight matching (ratio)",
        lambda at: at(w, "midpoint loss") / at(w, "weights"),
        at_most=0.9,
        source=f"{SOURCE}, Section 3.3",
    )
    setting.judge(
        f"width {w}: and it does so at a lower cosine: closer in parameters is not lower in loss (ratio of cosines)",
        lambda at: at(w, "midpoint loss", "cosine") / at(w, "weights", "cosine"),
        at_most=0.95,
        source=OURS,
    )
