"""Which symmetries of its parameters does a tool find in a model, and does the model still compute the same?

Fifteen small architectures, each with a trap (flatten after a convolution, depthwise convolutions, offsets of a
concatenation, running statistics, groups of a norm, fused projections, tied weights, residuals onto an input), and
architectures of ``transformers`` built small from configurations, with the ideal stated by hand. Each tool is asked for
its groups; a random element of them is applied to parameters far from their initial values; the output in evaluation
mode must not change. A cell is *complete* when all of the ideal was found, *partial* when the function survives but
something is missing, *silently wrong* when the function changes and the tool did not say so, *error* when the tool
raised. The library is judged by all its factors: permutations, wreath products, scales, signs, rotations, GL. The peers
know permutations only and are judged by those alone, one for each list that can be permuted.

The peers are optional and measured where they are installed: ``pip install --no-deps rebasin sinkhorn-rebasin
torch-pruning torchview torchviz graphviz tqdm``. Torch-Pruning does not permute: what its groups cut together is moved
together here, so its cells judge that reading of its groups. Shapes of one model at random weights say nothing about
trained ones, and need not: a parameter symmetry holds for all weights.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from pandas import DataFrame

import symfield
from symfield import weightspace
from symfield.experiments import Cell, Row, Study, Verdict, style, versioned
from symfield.experiments.errors import FieldError
from symfield.studies._derivation_coverage_measure import measure
from symfield.studies._derivation_coverage_tools import PEERS, installed
from symfield.studies._derivation_coverage_transformers import GPT2_SIZED, TRANSFORMERS, available
from symfield.studies._derivation_coverage_zoo import ZOO
from symfield.studies._threads import one_thread

__all__ = ["STUDY", "Config", "figures", "run"]

OURS = "symfield"
SMALL = tuple(case.name for case in ZOO)
REAL = tuple(case.name for case in TRANSFORMERS)

_CASES = {case.name: case for case in (*ZOO, *TRANSFORMERS)}
_SHADES = {
    "complete": "#7cc29b", "partial": "#f0cf8a", "wrong": "#e07a7f", "error": "#b9bfc6", "not installed": "#f3f4f6",
}  # fmt: skip
_WORDS = {
    "complete": "complete",
    "partial": "partial: function kept",
    "wrong": "silently wrong",
    "error": "error",
    "not installed": "not installed",
}


@dataclass(frozen=True)
class Config:
    """Models and tools.

    Attributes:
        models: names of the models.
        tools: ``"symfield"`` and peers.
        trials: random elements of each factor, each at other parameters and another input.
        seed: the first seed of the random numbers.
        device: where to compute; the CPU.
        dtype: precision of the test; the largest model, and those without kernels for it, stay in float32.
    """

    models: tuple[str, ...] = (*SMALL, *REAL)
    tools: tuple[Literal["symfield", "Torch-Pruning", "sinkhorn-rebasin", "rebasin"], ...] = (
        "symfield",
        "Torch-Pruning",
        "sinkhorn-rebasin",
        "rebasin",
    )
    trials: int = 3
    seed: int = 0
    device: str = "cpu"
    dtype: Literal["float64"] = "float64"

    def __post_init__(self) -> None:
        if unknown := [name for name in self.models if name not in _CASES]:
            raise FieldError(f"unknown model {unknown[0]!r}; there are {', '.join(_CASES)}")
        if self.trials < 1:
            raise FieldError(f"expected at least one trial, received {self.trials}")
        if self.device != "cpu":
            raise FieldError(f"graphs are derived on the CPU, received device {self.device!r}; leave it at 'cpu'")


@dataclass(frozen=True)
class Subject:
    """One model seen by one tool.

    Attributes:
        model: its name.
        tool: its name.
        version: of the tool and of what it reads; empty when it is not installed.
        trials: random elements.
        seed: of the random numbers.
    """

    model: str
    tool: str
    version: str
    trials: int
    seed: int


@versioned(1)
def coverage(cell: Subject) -> list[Row]:
    """What one tool finds in one model.

    Args:
        cell: which.

    Returns:
        One row.
    """
    with one_thread():
        if not cell.version:
            needed = "transformers" if cell.model in REAL and not available() else cell.tool
            return [{"status": "not installed", "note": needed}]
        heavy = cell.model == GPT2_SIZED
        return [measure(_CASES[cell.model], cell.tool, trials=cell.trials, seed=cell.seed, heavy=heavy)]


def _version(model: str, tool: str) -> str:
    """Of the tool and of what it reads: rows are measured again when any of it changes."""
    if model in REAL and not available():
        return ""
    reads = f"torch {torch.__version__}"
    if model in REAL:
        reads += f", transformers {importlib.metadata.version('transformers')}"
    if tool != OURS:
        own = installed(PEERS[tool])
        return f"{own}, {reads}" if own else ""
    files = sorted(Path(weightspace.__file__).parent.glob("*.py"))
    rules = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return f"{symfield.__version__} ({rules}), {reads}"


def _trials(model: str, tool: str, config: Config) -> int:
    """One for the largest model and for peers on large ones, where a trial costs seconds."""
    return 1 if model == GPT2_SIZED or (model in REAL and tool != OURS) else config.trials


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every tool and model; peers do not see the largest model.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    return [
        Cell(
            coverage,
            Subject(model, tool, _version(model, tool), _trials(model, tool, config), config.seed),
            cost=30.0 if model == GPT2_SIZED else 3.0 if tool == OURS else 0.3,
        )
        for model in config.models
        for tool in config.tools
        if tool == OURS or model != GPT2_SIZED
    ]


def _tools(rows: DataFrame) -> list[str]:
    return [tool for tool in (OURS, *PEERS) if (rows["tool"] == tool).any()]


def _label(tool: str, rows: DataFrame) -> str:
    version = rows.loc[rows["tool"] == tool, "version"].iloc[0].partition(",")[0].partition(" (")[0]
    return f"{tool}\n{version}" if version else tool


def table_of_cells(rows: DataFrame) -> Figure:
    """Found / ideal: our factors, the lists that peers may permute; colours tell whether the function stays."""
    models, tools = list(rows["model"].unique()), _tools(rows)
    figure, axes = style.panels(1, 1, width=1.35 * len(tools) + 1.9, height=0.27 * len(models) + 1.1, share=False)
    panel = axes[0, 0]
    for line, model in enumerate(models):
        for column, tool in enumerate(tools):
            part = rows[(rows["model"] == model) & (rows["tool"] == tool)]
            if part.empty:
                continue
            row = part.iloc[0]
            panel.fill_between([column - 0.48, column + 0.48], line - 0.44, line + 0.44, color=_SHADES[row["status"]],
                               linewidth=0)  # fmt: skip
            counted = row["status"] in ("complete", "partial", "wrong")
            count = row["found"] if tool == OURS else row["groups"]
            text = f"{count:.0f} / {row['ideal']:.0f}" if counted else {"error": "error"}.get(row["status"], "–")
            panel.text(column, line, text, ha="center", va="center", fontsize=8)
    panel.set_xlim(-0.55, len(tools) - 0.45)
    panel.set_ylim(len(models) - 0.5, -0.5)
    panel.set_xticks(range(len(tools)), [_label(tool, rows) for tool in tools])
    panel.set_yticks(range(len(models)), models)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    present = [status for status in _SHADES if (rows["status"] == status).any()]
    handles = [Patch(color=_SHADES[status], label=_WORDS[status]) for status in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def cpu_seconds(rows: DataFrame) -> Figure:
    """CPU seconds to derive the groups, one thread; ours are trace and derivation, without the certificate."""
    timed = rows[rows["seconds"].notna()]
    models, tools = list(timed["model"].unique()), _tools(timed)
    figure, axes = style.panels(1, 1, width=5.2, height=0.24 * len(models) + 0.9, share=False)
    panel, shades = axes[0, 0], style.colours(tools)
    for tool in tools:
        part = timed[timed["tool"] == tool]
        panel.scatter(part["seconds"], [models.index(name) for name in part["model"]], s=22, color=shades[tool],
                      label=tool, zorder=3)  # fmt: skip
    panel.set_xscale("log")
    panel.set_ylim(len(models) - 0.5, -0.5)
    panel.set_yticks(range(len(models)), models)
    panel.set_xlabel("CPU seconds")
    style.legend(figure, panel)
    return figure


def summary(rows: DataFrame) -> DataFrame:
    """Models by tool and outcome, the small architectures and those of transformers apart."""
    listed = []
    for title, names in (("small", SMALL), ("transformers", REAL)):
        for tool in _tools(rows):
            part = rows[(rows["tool"] == tool) & rows["model"].isin(names)]
            if len(part):
                counts = {_WORDS[status]: int((part["status"] == status).sum()) for status in _SHADES}
                listed.append({"models": title, "of": len(part), "tool": tool, **counts})
    return DataFrame(listed)


def details(rows: DataFrame) -> DataFrame:
    """What the library found in each model, what is missing, and what it names."""
    part = rows[rows["tool"] == OURS]
    names = [
        "model", "status", "found", "ideal", "missing", "surplus", "unknown", "rejected", "coverage", "error",
        "seconds", "note",
    ]  # fmt: skip
    return part.reindex(columns=names).reset_index(drop=True)


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Complete, never silently wrong, correct on real architectures, fast; and the peers beside.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        The verdicts.
    """
    source = "derived here; ideals stated by hand"
    mine = rows[rows["tool"] == OURS]
    if mine.empty:
        return [Verdict.not_tested("symfield is complete", "symfield is not among the tools", source=source)]
    measured = mine[mine["status"] != "not installed"]
    small = mine[mine["model"].isin(SMALL)]
    found: list[Verdict] = []
    if len(small):
        complete = int((small["status"] == "complete").sum())
        claim = f"complete on the {len(small)} small architectures"
        found.append(Verdict.at_least(claim, complete, len(small), source=source))
    if len(measured):
        wrong = int((measured["status"] == "wrong").sum())
        found.append(Verdict.at_most("architectures that it changes silently", wrong, 0, source=source))
        rejected = int(measured["rejected"].sum())
        found.append(Verdict.at_most("factors that were derived, and rejected by the certificate", rejected, 0,
                                     source=source))  # fmt: skip
        kept = measured[measured["error"].notna()]
        worst = float((kept["error"] / kept["tolerance"]).max())
        claim = "largest relative change of an output, in units of what round-off explains"
        found.append(Verdict.at_most(claim, worst, 1.0, source=source))
    found += _real(mine, source)
    found += _time(mine, source)
    for tool in config.tools:
        if tool != OURS:
            found.append(_beside(rows, tool, complete=int((small["status"] == "complete").sum())))
    return found


def _real(mine: DataFrame, source: str) -> list[Verdict]:
    real = mine[mine["model"].isin(REAL) & (mine["model"] != GPT2_SIZED)]
    claim = "architectures of transformers that are neither complete nor partial with the reason named"
    if real.empty:
        return [Verdict.not_tested(claim, "needs models of transformers: preset paper", source=source)]
    if (real["status"] == "not installed").any():
        return [Verdict.not_tested(claim, "needs transformers: pip install 'symfield[transformers]'", source=source)]
    good = (real["status"] == "complete") | ((real["status"] == "partial") & real["named"].astype(bool))
    left = real.loc[~good, "model"]
    full = int((real["status"] == "complete").sum())
    return [
        Verdict.true(claim, left.empty, measured=", ".join(left) or "none", expected="none", source=source),
        Verdict.at_least(f"complete on {len(real)} architectures of transformers, or all but one", full, len(real) - 1,
                         source=source),
    ]  # fmt: skip


def _time(mine: DataFrame, source: str) -> list[Verdict]:
    claim = "trace and derivation of a model of the size of GPT-2 (12 layers), in CPU seconds"
    row = mine[(mine["model"] == GPT2_SIZED) & mine["seconds"].notna()] if "seconds" in mine else mine.iloc[:0]
    if row.empty:
        return [Verdict.not_tested(claim, f"needs {GPT2_SIZED} and transformers", source=source)]
    return [Verdict.at_most(claim, float(row["seconds"].iloc[0]), 10.0, source=source)]


def _beside(rows: DataFrame, tool: str, *, complete: int) -> Verdict:
    part = rows[(rows["tool"] == tool) & rows["model"].isin(SMALL)]
    version = part["version"].iloc[0].partition(",")[0] if len(part) else ""
    claim = f"{tool} {version}: complete on fewer of the small architectures, although judged by permutations alone"
    source = "measured here"
    if part.empty or (part["status"] == "not installed").any():
        return Verdict.not_tested(claim, f"needs pip install {PEERS[tool].distribution}", source=source)
    if len(part) < len(SMALL):
        return Verdict.not_tested(claim, "needs all small architectures: preset quick", source=source)
    count, wrong = int((part["status"] == "complete").sum()), int((part["status"] == "wrong").sum())
    words = f"{count} complete, {wrong} silently wrong"
    return Verdict.true(claim, count < complete, measured=words, expected=f"fewer than {complete}", source=source)


figures = {"table_of_cells": table_of_cells, "cpu_seconds": cpu_seconds}
STUDY = Study(
    name="derivation_coverage",
    claim=(
        "The symmetry of the parameters of a model can be derived from its operators: complete on every small"
        " architecture, correct on every large one, never silently wrong, in seconds."
    ),
    source="derived here",
    config=Config,
    presets={
        "tiny": {"models": ("mlp-relu", "groupnorm", "swiglu-on-raw-input", "gpt-tied-rmsnorm"), "trials": 1},
        "quick": {"models": SMALL},
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"summary": summary, "details": details},
    verdicts=verdicts,
)
run = STUDY.run
