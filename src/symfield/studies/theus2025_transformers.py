"""Do two small transformers lie in one basin, once the right symmetry is taken away? After Theus et al. (2025).

Decoders with one to two blocks, trained from several seeds on sequences of a Markov source whose entropy is known, and
on sentences of a small grammar, letter by letter. Between every two of them the loss along the straight line:

- *vanilla*: as they are;
- *permutations*: of heads, channels of a head, hidden units and the stream, by weight matching;
- *learned permutations*: from there, downhill in the loss halfway, through Sinkhorn matrices;
- *full*: the models are folded first, an exact change of parameters after which norms have neither gains nor biases
  and no mean to remove; the stream then turns by any orthogonal matrix, and GL acts on queries with keys and values
  with outputs, in the gauge of least norm. Weight matching over all of it;
- *refined*: from there, downhill in the loss at λ ~ U(0.4, 0.6) over the continuous factors.

Two controls tell the fold from the larger group: *folded* (nothing is aligned), *folded permutations*. Every symmetry
is derived from the module and certified; every barrier is measured on held-out data.

What differs from the paper: models are a few thousand times smaller, data are made here, and its learned matching
projects straight-through where ours moves on the Lie algebra and leaves the matched permutations as they are. Its
barriers (GPT-2 on Tiny Shakespeare: vanilla 2.02, weight matching 0.34, permutations only 0.63, full 0.02) are those
of other models. Here, in nats, with two blocks and layer norm: vanilla 2.56, permutations 2.23, full 1.50, refined
0.16 on text, and 0.82, 0.78, 0.62, 0.11 on the Markov source. The order is that of the paper, a barrier of zero is not
reached, and most of the fall is due to the refinement: at this width weight matching helps little, even with the full
symmetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, FieldError, Study, Verdict, style
from symfield.studies._theus2025_cells import ARMS, CONTROLS, Pairs, pairs

__all__ = ["STUDY", "Config", "figures", "run"]

SOURCE = "Theus et al. 2025, arXiv:2506.22712v2"
EXACT = "exact by construction; derived here"
CONTROL = "a control of ours"


@dataclass(frozen=True)
class Config:
    """Sizes, training and matching; one cell for every source and norm.

    Attributes:
        sources: ``"markov"`` (8 tokens, order two) and ``"text"`` (28 letters).
        norms: ``"layer"`` and ``"rms"``.
        activation: of the hidden units.
        layers: blocks.
        width: of the stream.
        heads: of attention.
        hidden: units of the feed-forward layers.
        markov_context: tokens that are seen, of the Markov source.
        text_context: letters that are seen.
        seeds: one model each; all pairs are compared.
        steps: of Adam.
        batch: sequences in a step.
        rate: largest learning rate.
        sequences: for training.
        held_out: sequences for the loss along the line.
        points: on the line.
        learned_steps: of the learned permutations.
        learned_rate: of their logits.
        refined_steps: of the refinement.
        refined_rate: on the Lie algebra.
        device: where to train; matching is on the CPU.
        dtype: precision.
    """

    sources: tuple[Literal["markov", "text"], ...] = ("markov", "text")
    norms: tuple[Literal["layer", "rms"], ...] = ("layer", "rms")
    activation: Literal["gelu", "relu"] = "gelu"
    layers: int = 2
    width: int = 32
    heads: int = 4
    hidden: int = 64
    markov_context: int = 16
    text_context: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 600
    batch: int = 32
    rate: float = 5e-3
    sequences: int = 2048
    held_out: int = 256
    points: int = 21
    learned_steps: int = 60
    learned_rate: float = 0.3
    refined_steps: int = 200
    refined_rate: float = 0.05
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        sizes = (
            self.layers, self.width, self.heads, self.hidden, self.steps, self.batch, self.sequences, self.held_out,
            self.learned_steps, self.refined_steps,
        )  # fmt: skip
        if min(sizes) < 1:
            raise FieldError(f"expected sizes and numbers of steps of at least 1, received {sizes}")
        if self.width % self.heads:
            raise FieldError(f"expected a width that {self.heads} heads divide, received {self.width}")
        if min(self.markov_context, self.text_context) < 2 or self.points < 3 or self.points % 2 == 0:
            raise FieldError("expected contexts of at least 2 and an odd number of points of at least 3")
        if len(set(self.seeds)) < 2:
            raise FieldError(f"expected at least two different seeds, whose models are compared, received {self.seeds}")
        if not (self.sources and self.norms):
            raise FieldError("expected at least one source and one norm")


def cells(config: Config) -> Sequence[Cell]:
    """One cell for every source and norm.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    found = []
    for source in config.sources:
        context = config.text_context if source == "text" else config.markov_context
        for norm in config.norms:
            at = Pairs(
                source=source, norm=norm, activation=config.activation, layers=config.layers, width=config.width,
                heads=config.heads, hidden=config.hidden, context=context, seeds=config.seeds, steps=config.steps,
                batch=config.batch, rate=config.rate, sequences=config.sequences, held_out=config.held_out,
                points=config.points, learned_steps=config.learned_steps, learned_rate=config.learned_rate,
                refined_steps=config.refined_steps, refined_rate=config.refined_rate, device=config.device,
                dtype=config.dtype,
            )  # fmt: skip
            found.append(Cell(pairs, at, cost=config.layers * context * len(config.seeds)))
    return found


_SOURCES = {"markov": "Markov source", "text": "text"}
_NORMS = {"layer": "layer norm", "rms": "RMS norm"}


def _cases(rows: DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["source"], rows["norm"], strict=True)))


def _case(rows: DataFrame, case: tuple[str, str], kind: str) -> DataFrame:
    return rows[(rows["source"] == case[0]) & (rows["norm"] == case[1]) & (rows["kind"] == kind)]


def _title(case: tuple[str, str]) -> str:
    return f"{_SOURCES[case[0]]}, {_NORMS[case[1]]}"


def lines(rows: DataFrame) -> Figure:
    """Held-out loss above the chord along the line between two models: median and range over the pairs."""
    cases = _cases(rows)
    columns = min(2, len(cases))
    figure, axes = style.panels(-(-len(cases) // columns), columns, width=4.0, height=2.9, share=False)
    for panel, case in zip(axes.flat, cases, strict=False):
        part = _case(rows, case, "point")
        style.band(panel, part, "t", "excess", "arm", order=ARMS, quantiles=(0, 1), marker="")
        panel.axhline(0, color="#9aa1a9", linewidth=0.8)
        panel.set(title=_title(case), xlabel="position t on the line", ylabel="loss above the chord (nats)")
    for panel in axes.flat[len(cases) :]:
        panel.set_visible(False)
    style.legend(figure, axes[0, 0])
    return figure


def barriers(rows: DataFrame) -> Figure:
    """Barriers by method: mean over the pairs as a bar, each pair as a dot; controls in grey."""
    cases = _cases(rows)
    columns = min(2, len(cases))
    figure, axes = style.panels(-(-len(cases) // columns), columns, width=4.3, height=2.5, share=False)
    shades = {**style.colours(ARMS), **dict.fromkeys(CONTROLS, "#9aa1a9")}
    order = (*ARMS, *CONTROLS)
    for panel, case in zip(axes.flat, cases, strict=False):
        by = _case(rows, case, "pair").groupby("arm")["barrier"]
        reach = float(by.max().max())
        for place, arm in enumerate(order):
            values = by.get_group(arm)
            panel.barh(place, values.mean(), color=shades[arm], alpha=0.45, height=0.66)
            panel.plot(values, [place] * len(values), ".", color=shades[arm], markersize=5)
            panel.text(values.max() + 0.02 * reach, place, f"{values.mean():.2f}", va="center", fontsize=8.5)
        panel.set_yticks(range(len(order)), order)
        panel.invert_yaxis()
        panel.grid(False, axis="y")
        panel.set(title=_title(case), xlabel="barrier of the held-out loss (nats)", xlim=(0, 1.14 * reach))
    for panel in axes.flat[len(cases) :]:
        panel.set_visible(False)
    return figure


def table(rows: DataFrame) -> DataFrame:
    """Mean barrier in nats, mean cosine of the parameters, largest condition of an element, by case and method."""
    found = []
    for case in _cases(rows):
        for arm, part in _case(rows, case, "pair").groupby("arm", sort=False):
            found.append(
                {"source": case[0], "norm": case[1], "method": arm, "barrier": part["barrier"].mean(),
                 "cosine": part["cosine"].mean(), "condition": part["condition"].max()}
            )  # fmt: skip
    return DataFrame(found)


def groups(rows: DataFrame) -> DataFrame:
    """The derived symmetries: factors, continuous dimension, log order of the discrete part, share of free entries."""
    part = rows[rows["kind"] == "symmetry"]
    return part[["source", "norm", "parameters", "group", "factors", "dimension", "log_order", "coverage"]].reset_index(
        drop=True
    )


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Exactness, the group, and the order of the barriers.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts, for every source and norm.
    """
    found = []
    for case in _cases(rows):
        found += _exact(rows, case)
        found += _ordered(rows, case, config)
    return found


def _exact(rows: DataFrame, case: tuple[str, str]) -> list[Verdict]:
    where = _title(case)
    symmetry = _case(rows, case, "symmetry")
    lean, full = symmetry[symmetry["parameters"] == "folded"], symmetry[symmetry["group"] == "full"]
    certified = bool(symmetry["certified"].all())
    turning = bool(lean["turns"].all()) and not bool(full[full["parameters"] == "as trained"]["turns"].any())
    return [
        Verdict.at_most(f"{where}: the fold leaves the function unchanged (largest relative change of logits)",
                        _case(rows, case, "model")["change"].max(), 1e-4, source=EXACT),
        Verdict.at_most(f"{where}: every alignment leaves the function unchanged (largest relative change of logits)",
                        _case(rows, case, "pair")["change"].max(), 1e-4, source=EXACT),
        Verdict.true(f"{where}: after the fold, and not before, the derived symmetry turns the stream freely; all of it"
                     " is certified", turning and certified, measured=f"turns {turning}, certified {certified}",
                     expected="turns True, certified True", source=f"{SOURCE}, orthogonal residual stream"),
    ]  # fmt: skip


def _ordered(rows: DataFrame, case: tuple[str, str], config: Config) -> list[Verdict]:
    where = _title(case)
    mean = _case(rows, case, "pair").groupby("arm")["barrier"].mean()
    ratios = (
        ("permutations lower the barrier (over vanilla)", "permutations", "vanilla", SOURCE),
        ("the full symmetry lowers it further (over permutations)", "full", "permutations", SOURCE),
        ("the fold alone does not (full over folded permutations)", "full", "folded permutations", CONTROL),
        ("learning does not replace it (full over learned permutations)", "full", "learned permutations", CONTROL),
    )
    tenth = f"{where}: refined, a tenth of the barrier is left at most (over vanilla), mean over pairs"
    flat = f"{where}: refined, the line is flat (mean barrier in nats; published for other models: 0.02)"
    found = []
    for text, one, two, origin in ratios:
        claim = f"{where}: {text}, mean over pairs"
        if config.steps < 300 or len(config.seeds) < 3:
            found.append(Verdict.not_tested(claim, "needs at least 300 steps and three seeds", source=origin))
        else:
            found.append(Verdict.at_most(claim, mean[one] / mean[two], 1.0, source=origin))
    if config.steps < 500 or config.refined_steps < 150 or len(config.seeds) < 3:
        why = "needs at least 500 steps, 150 of refinement, and three seeds"
        return [*found, *(Verdict.not_tested(claim, why, source=SOURCE) for claim in (tenth, flat))]
    found.append(Verdict.at_most(tenth, mean["refined"] / mean["vanilla"], 0.1, source=SOURCE))
    found.append(Verdict.at_most(flat, mean["refined"], 0.05, source=SOURCE))
    model = _case(rows, case, "model")
    if case[0] == "markov":
        text = f"{where}: the models are good (mean loss above the entropy of the source, nats)"
        found.append(Verdict.at_most(text, (model["loss"] - model["least"]).mean(), 0.15, source=EXACT))
    return found


figures = {"lines": lines, "barriers": barriers}
STUDY = Study(
    name="theus2025_transformers",
    claim=(
        "Independently trained transformers are joined by a line of low loss once all of their symmetry is taken away:"
        " permutations lower the barrier, the orthogonal maps of a folded stream lower it further, learned matching"
        " nearly removes it."
    ),
    source=SOURCE,
    config=Config,
    presets={
        "tiny": {
            "sources": ("markov",), "norms": ("layer",), "layers": 1, "width": 16, "hidden": 32, "markov_context": 8,
            "seeds": (0, 1), "steps": 40, "sequences": 256, "held_out": 64, "points": 5, "learned_steps": 2,
            "refined_steps": 5,
        },
        "quick": {
            "norms": ("layer",), "layers": 1, "steps": 300, "held_out": 128, "points": 11, "learned_steps": 20,
            "refined_steps": 80,
        },
        "paper": {},
    },
    cells=cells,
    figures=figures,
    tables={"barriers_by_method": table, "groups": groups},
    verdicts=verdicts,
)  # fmt: skip
run = STUDY.run
