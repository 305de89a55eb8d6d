"""What became of the claims about connectivity, good and bad; bounds were set before these networks were trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from pandas import DataFrame

from symfield.experiments import Verdict

__all__ = ["SOURCE", "judge"]

SOURCE = "Lim et al. 2024, arXiv:2405.20231"
OURS = "measured here"
TRAINED = {"mlp": 40, "resnet8": 15, "graph": 100}
PAIRS = 5
_COLUMNS = ["test_barrier", "end_accuracy", "drop_pp"]
Means = Callable[..., float]


def judge(rows: DataFrame, config: Any) -> list[Verdict]:
    """Verdicts on means over pairs.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts; levels are judged where networks were trained to the end and there are at least five pairs.
    """
    pairs = rows[(rows["kind"] == "pair") & ((rows["network"] != "graph") | (rows["statistics"] != "averaged"))]
    found: list[Verdict] = []
    if config.data != "digits":
        for network in dict.fromkeys(pairs["network"]):
            _published(pairs[pairs["network"] == network], network, found)
        return found
    for network, judged in (("mlp", _perceptrons), ("resnet8", _resnets), ("graph", _graphs)):
        here = pairs[(pairs["network"] == network) & (pairs["rate"] == _usual(config, network))]
        if len(here):
            trained = int(here["epochs"].iloc[0]) >= TRAINED[network]
            judged(_Setting(network, here, trained, found), config)
    return found


def _usual(config: Any, network: str) -> float:
    return {"mlp": config.rate, "resnet8": config.resnet_rate, "graph": config.graph_rate}[network]


class _Setting:
    """Means of one kind of network, and where verdicts go."""

    def __init__(self, words: str, rows: DataFrame, trained: bool, found: list[Verdict]) -> None:
        groups = rows.groupby(["width", "method", "matching"])
        self.words, self.means, self.counts = words, groups[_COLUMNS].mean(), groups.size()
        self.trained, self.found = trained, found

    def at(self, width: int, method: str, matching: str = "none", column: str = "test_barrier") -> float:
        key = (width, method, matching)
        enough = int(self.counts.get(key, 0)) >= PAIRS
        return float(self.means[column].get(key, math.nan)) if enough else math.nan

    def judge(
        self,
        claim: str,
        value: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        between: tuple[float, float] | None = None,
        source: str = OURS,
    ) -> None:
        words = f"{self.words}: {claim}"
        if math.isnan(value) or not self.trained:
            why = f"needs the methods that it names, {PAIRS} pairs and {TRAINED[self.words]} epochs"
            self.found.append(Verdict.not_tested(words, why, source=source))
        elif between is not None:
            self.found.append(Verdict.between(words, value, *between, source=source))
        elif at_most is not None:
            self.found.append(Verdict.at_most(words, value, at_most, source=source))
        elif at_least is not None:
            self.found.append(Verdict.at_least(words, value, at_least, source=source))

    def falling(self, claim: str, values: list[float], source: str) -> None:
        words = f"{self.words}: {claim}"
        if any(math.isnan(value) for value in values) or not self.trained:
            self.found.append(Verdict.not_tested(words, "needs the whole ladder, trained to the end", source=source))
            return
        shown = ", ".join(f"{value:.4f}" for value in values)
        falls = all(after < before for before, after in itertools.pairwise(values))
        self.found.append(Verdict.true(words, falls, measured=shown, expected="strictly falling", source=source))


def _perceptrons(setting: _Setting, config: Any) -> None:
    w, at = config.width, setting.at
    standard = at(w, "standard")
    table = f"{SOURCE}, Table 1"
    setting.judge("standard networks are not connected (barrier)", standard, at_least=0.35, source=table)
    setting.judge("W-Asym networks are connected as trained (barrier)", at(w, "W"), at_most=0.03, source=table)
    setting.judge("W-Asym, barrier over that of standard networks", at(w, "W") / standard, at_most=0.1, source=table)
    setting.judge("matched by weights (barrier)", at(w, "standard", "weights"), at_most=0.12, source=table)
    setting.judge("matched by activations (barrier)", at(w, "standard", "activations"), at_most=0.08)
    setting.judge(
        "masks without fixed values do nothing: W at kappa 0 over standard (ratio)",
        at(w, "W, kappa 0") / standard,
        between=(0.7, 1.4),
    )
    ladder = [at(w, name) for name in ("W, kappa 0", "W, kappa/4", "W, kappa/2", "W")]
    setting.falling("the barrier falls with kappa: 0, 1/4, 1/2 and 1 times the published", ladder, OURS)
    ladder = [at(w, name) for name in ("W, fix/4", "W, fix/2", "W")]
    setting.falling("the barrier falls with the fixed entries: 1/4, 1/2 and 1 times the published", ladder, OURS)
    setting.judge("fixed values added, all trainable, published kappa (barrier)", at(w, "additive"), at_most=0.02)
    setting.judge(
        "fixed values added at 0.01/sqrt(fan-in) have no effect (barrier)", at(w, "additive, small"), at_least=0.35
    )
    setting.judge(
        "fixed hidden biases do not help (barrier, k = 1)",
        at(w, "bias, 1"),
        at_least=0.35,
        source=f"{SOURCE}, Appendix",
    )
    setting.judge(
        "sigma-Asym at 1/sqrt(d) does not help: barrier over that of standard networks, against the paper",
        at(w, "sigma, 1/sqrt d") / standard,
        at_least=0.5,
    )
    setting.judge(
        "sigma-Asym at 0.01/sqrt(d) is a nearly linear network: its barrier less that of the activation x/2",
        abs(at(w, "sigma, .01/sqrt d") - at(w, "half")),
        at_most=0.1,
    )
    setting.judge("standard networks are good (test accuracy)", at(w, "standard", column="end_accuracy"), at_least=0.97)
    setting.judge("W-Asym networks are good (test accuracy)", at(w, "W", column="end_accuracy"), at_least=0.965)
    setting.judge(
        "control: begun at the same fixed values, all trained, networks are connected too (barrier)",
        at(w, "init only"),
        at_most=0.05,
    )
    setting.judge("control: begun at the same weights (barrier)", at(w, "shared init"), at_most=0.02)
    narrow, wide = min({*config.widths, w}), max({*config.widths, w})
    setting.judge(
        f"the barrier of standard networks falls with width (ratio, {wide} to {narrow})",
        at(wide, "standard") / at(narrow, "standard") if wide > narrow else math.nan,
        at_most=0.8,
    )


def _resnets(setting: _Setting, config: Any) -> None:
    w, at = config.resnet_width, setting.at
    standard = at(w, "standard")
    table = f"{SOURCE}, Table 1"
    setting.judge("standard networks are not connected (barrier)", standard, at_least=1.2, source=table)
    setting.judge("W-Asym at kappa 2 (barrier)", at(w, "W"), at_most=0.45, source=table)
    setting.judge(
        "masks without fixed values do nothing: W at kappa 0 over standard (ratio)",
        at(w, "W, kappa 0") / standard,
        between=(0.8, 1.2),
    )
    setting.judge(
        "control: begun at the same fixed values, all trained, networks are connected as well (barrier)",
        at(w, "init only"),
        at_most=0.45,
    )
    setting.judge(
        "the price: W-Asym loses test accuracy (percentage points below standard)",
        100 * (at(w, "standard", column="end_accuracy") - at(w, "W", column="end_accuracy")),
        at_least=0.5,
    )


def _graphs(setting: _Setting, config: Any) -> None:
    w, at = config.graph_width, setting.at
    table = f"{SOURCE}, Table 1"
    setting.judge(
        "W-Asym, barrier over that of standard networks, batch norms re-estimated",
        at(w, "W") / at(w, "standard"),
        at_most=0.5,
        source=table,
    )
    setting.judge(
        "matched by activations, barrier over that of unmatched networks",
        at(w, "standard", "activations") / at(w, "standard"),
        at_most=0.5,
        source=table,
    )


def _published(rows: DataFrame, network: str, found: list[Verdict]) -> None:
    """The order of the published table, for data that a user brings."""

    def mean(method: str, matched: bool) -> float:
        part = rows[(rows["method"] == method) & ((rows["matching"] != "none") == matched)]
        return float(part.groupby("matching")["test_barrier"].mean().min()) if len(part) else math.nan

    standard, aligned, fixed = mean("standard", False), mean("standard", True), mean("W", False)
    claim = f"{network}: W-Asym lies below standard networks by half at least (ratio of barriers)"
    if math.isnan(fixed / standard):
        found.append(Verdict.not_tested(claim, "needs methods standard and W", source=f"{SOURCE}, Table 1"))
    else:
        found.append(Verdict.at_most(claim, fixed / standard, 0.5, source=f"{SOURCE}, Table 1"))
    claim = f"{network}: W-Asym is not above matched standard networks (difference of barriers)"
    if math.isnan(fixed - aligned):
        found.append(Verdict.not_tested(claim, "needs a matching of standard networks", source=f"{SOURCE}, Table 1"))
    else:
        found.append(Verdict.at_most(claim, fixed - aligned, 0.02, source=f"{SOURCE}, Table 1"))
