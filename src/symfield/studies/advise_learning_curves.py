"""Is the advice right? Learning curves of all schemes under a matching, wrong, partial and approximate symmetry.

C_4 shifts four Gaussian coordinates cyclically, and the question is always whether to use it. The target is invariant
under it (matching), under its subgroup C_2 only (partial), under nothing (wrong), or invariant up to a small term
(approximate); labels carry noise. :func:`symfield.discovery.advise` sees n samples. Then every scheme that it compared
is trained on all n samples, several times, and judged on fresh data without noise: did the advice pick the best?

No setting is published; this one is ours, and the bounds of the verdicts were set before it was run. The choice among
the schemes that are left is less certain than the bound hoped for: at the quick preset, with three replicates, the pick
was the best or as good in 15 of 24 data sets, which fails the bound of 80 % (median ratio of fresh errors 1.01).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield import random
from symfield.discovery import Budget, Dataset, advise, fit
from symfield.experiments import Cell, Grid, Study, Verdict, style, versioned
from symfield.experiments.threads import one_thread
from symfield.groups import Cyclic, Defining
from symfield.typing import Tensor

__all__ = ["STUDY", "Config", "figures", "run"]

_OURS = "ours"
_KINDS = ("none", "DA", "FA", "frame", "EA")
_NEAR = 1.15  # a pick this close to the best fresh error, as a ratio, is as good
_NEGLIGIBLE = 0.01  # or this close, in units of the variance
_TRAINED, _JUDGED = 200, 8  # fewest steps and data sets that a level is judged at
_WRONG_GROUP = ("wrong", "partial")  # cases whose target C_4 changes

Case = Literal["matching", "wrong", "partial", "approximate"]


@dataclass(frozen=True)
class Config:
    """The grid.

    Attributes:
        cases: how the target behaves under C_4.
        sizes: numbers of samples n.
        noise: standard deviation of the labels' noise, in units of the target's.
        violation: weight of the asymmetric term in the approximate case.
        width: hidden neurons.
        steps: steps of each training.
        replicates: trainings of each scheme within the advice.
        refits: trainings of each scheme on all samples.
        fresh: fresh samples that judge.
        seeds: data sets.
        device: where to compute.
        dtype: precision of the samples; networks are float32.
    """

    cases: tuple[Case, ...] = ("matching", "wrong", "partial", "approximate")
    sizes: tuple[int, ...] = (60, 125, 250, 500, 1000)
    noise: float = 0.3
    violation: float = 0.1
    width: int = 96
    steps: int = 600
    replicates: int = 5
    refits: int = 3
    fresh: int = 4000
    seeds: tuple[int, ...] = tuple(range(10))
    device: str = "cpu"
    dtype: Literal["float64"] = "float64"


@dataclass(frozen=True)
class Setting:
    """All that one cell depends on."""

    case: str
    n: int
    noise: float
    violation: float
    width: int
    steps: int
    replicates: int
    refits: int
    fresh: int
    seeds: tuple[int, ...]
    device: str


def _target(case: str, violation: float) -> Callable[[Tensor], Tensor]:
    """f* of variance one, up to the small term of the approximate case."""

    def matching(x: Tensor) -> Tensor:
        return (x * x.roll(1, -1)).sum(-1) / 2

    targets: dict[str, Callable[[Tensor], Tensor]] = {
        "matching": matching,
        "wrong": lambda x: (x[:, 0] + x[:, 1].square() - 1) / 3**0.5,
        "partial": lambda x: (x[:, 0] * x[:, 2] + 2 * x[:, 1] * x[:, 3]) / 5**0.5,
        "approximate": lambda x: matching(x) + violation * x[:, 0],
    }
    return targets[case]


@versioned(1)
def judge(cell: Setting) -> list[dict]:
    """Ask for advice, then train every scheme that was compared on all samples and test it on fresh ones.

    Args:
        cell: the setting.

    Returns:
        One row a scheme and data set.
    """
    rows = []
    budget = Budget(width=cell.width, steps=cell.steps, seeds=cell.replicates, shares=(1.0,))
    like = torch.zeros((), dtype=torch.float64, device=cell.device)
    target = _target(cell.case, cell.violation)
    with one_thread():
        for seed in cell.seeds:
            inputs, noise, asking, training = random.split(random.generator(seed), 4)
            x = random.normal((cell.n, 4), generator=inputs, like=like)
            labels = target(x) + cell.noise * random.normal((cell.n,), generator=noise, like=like)
            held = random.normal((cell.fresh, 4), generator=inputs, like=like)
            truth = target(held)
            data = Dataset(x, labels[:, None])
            advice = advise(data, Defining(Cyclic(4)), budget=budget, generator=asking)
            status = advice.findings[0].status if advice.findings else "unknown"
            for ranked in advice.ranking:
                predicted = [
                    fit(data, ranked.scheme, budget=budget, generator=source).predict(held)[:, 0]
                    for source in random.split(training, cell.refits)
                ]
                fresh = (torch.stack(predicted) - truth).square().mean(-1)
                rows.append(
                    {
                        "seed": seed, "kind": ranked.scheme.kind, "group": ranked.scheme.group.partition(":")[0],
                        "held_out": ranked.error.value, "fresh": float(fresh.mean() / truth.var()),
                        "allowed": ranked.allowed, "picked": ranked.scheme.name == advice.recommended,
                        "status": status,
                    }
                )  # fmt: skip
            if not advice.ranking:
                rows.append(
                    {
                        "seed": seed, "kind": "none", "group": "", "held_out": float("nan"), "fresh": float("nan"),
                        "allowed": True, "picked": True, "status": status,
                    }
                )  # fmt: skip
    return rows


def cells(config: Config) -> Sequence[Cell]:
    """One cell for each case and number of samples.

    Args:
        config: the grid.

    Returns:
        The cells.
    """
    names = ("noise", "violation", "width", "steps", "replicates", "refits", "fresh", "seeds", "device")
    shared = {name: getattr(config, name) for name in names}
    return [Cell(judge, Setting(**point, **shared), cost=1.0) for point in Grid(case=config.cases, n=config.sizes)]


def learning_curves(rows: DataFrame) -> Figure:
    """Error on fresh data against the number of samples (median, 10–90% of data sets); C_2 where it was examined."""
    cases = list(dict.fromkeys(rows["case"]))
    figure, axes = style.panels(1, len(cases), width=2.9, height=2.8)
    shades = {"none": style.SCHEMES["V"], "frame": "#e08e2b", **style.SCHEMES}
    sizes = sorted(rows["n"].unique().tolist())
    for axis, case in zip(axes[0], cases, strict=True):
        shown = rows[(rows["case"] == case) & rows["fresh"].notna()]
        for kind in _KINDS:
            for group, line in (("C_4", "-"), ("C_2", "--")):
                wanted = "" if kind == "none" else group
                part = shown[(shown["kind"] == kind) & (shown["group"] == wanted)]
                if len(part) and not (kind == "none" and group == "C_2"):
                    label = kind if kind == "none" else f"{kind} {group}"
                    style.band(axis, part, "n", "fresh", color=shades[kind], linestyle=line, label=label)
        style.loglog(axis, at=sizes)
        axis.set_title(case)
        axis.set_xlabel("samples n")
    axes[0, 0].set_ylabel("fresh error / variance")
    fullest = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    style.legend(figure, fullest)
    return figure


def regret(rows: DataFrame) -> Figure:
    """Fresh error of the recommended scheme over that of the best scheme (median, 10–90% of data sets)."""
    figure, axes = style.panels(1, 1, width=4.6, height=2.8)
    axis = axes[0, 0]
    style.band(axis, _picks(rows), "n", "ratio", "case")
    axis.axhline(1, color="#7a6a5b", linewidth=0.9)
    style.loglog(axis, y=False, at=sorted(rows["n"].unique().tolist()))
    axis.set(xlabel="samples n", ylabel="picked / best")
    style.legend(figure, axis)
    return figure


def picks(rows: DataFrame) -> DataFrame:
    """What was recommended how often, by case and number of samples, and the median ratio to the best fresh error."""
    found = _picks(rows)
    names = (found["kind"] + " " + found["group"]).str.strip()
    counted = names.groupby([found["case"], found["n"]]).agg(
        lambda values: ", ".join(f"{name} {count}" for name, count in values.value_counts().items())
    )
    ratios = found.groupby(["case", "n"])["ratio"].median()
    return DataFrame({"recommended": counted, "picked / best": ratios}).reset_index()


def _picks(rows: DataFrame) -> DataFrame:
    """The recommended scheme of every data set, with the best fresh error beside it."""
    best = rows.groupby(["case", "n", "seed"])["fresh"].min().rename("best").reset_index()
    found = rows[rows["picked"]].merge(best, on=["case", "n", "seed"])
    return found.assign(ratio=found["fresh"] / found["best"])


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Whether the advice was right.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts.
    """
    found = _picks(rows)
    wrong = found["case"].isin(_WRONG_GROUP) & (found["group"] == "C_4")
    claims = [
        Verdict.at_most(
            "a symmetry that the target does not have is never recommended: recommendations of C_4 in the wrong and "
            "partial cases", int(wrong.sum()), 0, source=_OURS,
        ),
    ]  # fmt: skip
    claim = "a symmetry that the target has is not called contradicted: share of data sets, matching case"
    matching = found[found["case"] == "matching"]
    claims.append(
        Verdict.at_most(claim, float((matching["status"] == "contradicted").mean()), 0.05, source=_OURS)
        if len(matching)
        else Verdict.not_tested(claim, "needs the matching case", source=_OURS)
    )
    claim = (
        "the recommended scheme is the best on fresh data, or within 15 % or 0.01 of it: share of data sets at full "
        "budget"
    )
    judged = found[found["fresh"].notna()]
    good = (judged["ratio"] <= _NEAR) | (judged["fresh"] - judged["best"] <= _NEGLIGIBLE)
    if config.steps < _TRAINED or len(judged) < _JUDGED:
        claims.append(Verdict.not_tested(claim, f"needs {_TRAINED} steps and {_JUDGED} data sets", source=_OURS))
    else:
        claims.append(Verdict.at_least(claim, float(good.mean()), 0.8, source=_OURS))
    claim = "a matching symmetry pays off where data are few: best symmetric error over that of none, least n, median"
    few = rows[(rows["case"] == "matching") & (rows["n"] == rows["n"].min()) & rows["fresh"].notna()]
    plain = few[few["kind"] == "none"].set_index("seed")["fresh"]
    best = few[few["kind"] != "none"].groupby("seed")["fresh"].min()
    claims.append(
        Verdict.at_most(claim, float((best / plain).median()), 0.9, source=_OURS)
        if len(best) and config.steps >= _TRAINED
        else Verdict.not_tested(claim, f"needs the matching case and {_TRAINED} steps", source=_OURS)
    )
    return claims


figures = {"learning_curves": learning_curves, "regret": regret}
STUDY = Study(
    name="advise_learning_curves",
    claim=(
        "Advice from n samples picks the scheme that is best on fresh data, or one as good, and never a symmetry that "
        "the data contradict."
    ),
    source=_OURS,
    config=Config,
    presets={
        "tiny": {
            "sizes": (100,), "seeds": (0,), "width": 16, "steps": 60, "replicates": 2, "refits": 1, "fresh": 500,
        },
        "quick": {
            "sizes": (60, 250), "seeds": (0, 1, 2), "width": 48, "steps": 400, "replicates": 3, "refits": 2,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"picks": picks},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
