"""One cell: decoders of several seeds, their symmetry before and after the fold, and the line between every pair."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from symfield import random
from symfield.experiments import Row, versioned
from symfield.studies._theus2025_matching import Refinement, balanced, permutations
from symfield.studies._theus2025_models import Decoder, Shape, fold
from symfield.studies._theus2025_sources import Markov, source
from symfield.studies._theus2025_training import losses, train
from symfield.studies._threads import one_thread
from symfield.trees import stack, unstack
from symfield.typing import Params, Tensor
from symfield.weightspace import (
    GeneralLinear,
    Method,
    Orthogonal,
    ParameterSymmetry,
    Sinkhorn,
    WeightMatching,
    align,
    barrier,
    certify,
    curve,
    identity,
    symmetries,
)

__all__ = ["ARMS", "CONTROLS", "Pairs", "pairs"]

ARMS = ("vanilla", "permutations", "learned permutations", "full", "refined")
CONTROLS = ("folded", "folded permutations")
_MATCHING = WeightMatching(tolerance=1e-3)


@dataclass(frozen=True)
class Pairs:
    """What is trained, and how pairs are aligned."""

    source: Literal["markov", "text"]
    norm: Literal["layer", "rms"]
    activation: Literal["gelu", "relu"]
    layers: int
    width: int
    heads: int
    hidden: int
    context: int
    seeds: tuple[int, ...]
    steps: int
    batch: int
    rate: float
    sequences: int
    held_out: int
    points: int
    learned_steps: int
    learned_rate: float
    refined_steps: int
    refined_rate: float
    device: str
    dtype: str


@dataclass(frozen=True)
class _Side:
    """The models in one parametrisation.

    Attributes:
        shape: of the decoders.
        params: of each seed.
        symmetry: derived and certified.
        discrete: its permutations, certified.
    """

    shape: Shape
    params: list[Params]
    symmetry: ParameterSymmetry
    discrete: ParameterSymmetry

    @classmethod
    def of(cls, shape: Shape, params: list[Params], tokens: Tensor) -> _Side:
        model = Decoder(shape).to(next(iter(params[0].values())).dtype)
        model.load_state_dict(params[0])
        symmetry = symmetries(model, tokens)
        return cls(shape, params, symmetry, certify(model, tokens, permutations(symmetry)))

    def logits(self, params: Params, tokens: Tensor) -> Tensor:
        model = Decoder(self.shape).to("meta")
        with torch.no_grad():
            return torch.func.functional_call(model, params, (tokens[:, :-1],))

    def loss(self, params: Params, tokens: Tensor) -> Tensor:
        return losses({name: value.unsqueeze(0) for name, value in params.items()}, self.shape, tokens)[0]


@versioned(1)
def pairs(cell: Pairs) -> list[Row]:
    """Train, fold, align, and walk along the lines.

    Args:
        cell: the setting.

    Returns:
        Rows of four kinds: ``model`` (``seed, loss, least, change`` by the fold), ``symmetry`` (of each
        parametrisation), ``pair`` (for every method: ``barrier, change, cosine, condition``) and ``point`` (``t,
        loss, excess`` over the chord).
    """
    text = source(cell.source)
    shape = Shape(
        text.vocabulary, cell.context, cell.width, cell.heads, cell.hidden, cell.layers, cell.norm,
        cell.activation,
    )  # fmt: skip
    generator = random.generator(1000)
    data = text.sample(cell.sequences, cell.context + 1, generator=generator)
    tokens = text.sample(cell.held_out, cell.context + 1, generator=generator)
    dtype = getattr(torch, cell.dtype)
    with one_thread():
        trained = train(
            shape, data.to(cell.device), seeds=cell.seeds, steps=cell.steps, batch=cell.batch, rate=cell.rate,
            dtype=dtype,
        )  # fmt: skip
        models = [{name: value.cpu() for name, value in one.items()} for one in unstack(trained)]
        plain = _Side.of(shape, models, tokens[:3, :-1])
        lean = [fold(one, shape) for one in models]
        folded = _Side.of(lean[0][1], [one for one, _ in lean], tokens[:3, :-1])
        even = _Side(
            folded.shape, [balanced(one, folded.symmetry) for one in folded.params], folded.symmetry, folded.discrete
        )
        least = text.entropy(cell.context + 1) if isinstance(text, Markov) else None
        rows = _models(cell, plain, even, tokens, least) + _symmetries(plain, folded)
        for i, j in itertools.combinations(range(len(cell.seeds)), 2):
            for arm, found in _methods(cell, plain, folded, even, data, i, j).items():
                rows += _line(cell, arm, *found, tokens, i, j)
    return rows


def _models(cell: Pairs, plain: _Side, even: _Side, tokens: Tensor, least: float | None) -> list[Row]:
    with torch.no_grad():
        loss = losses(stack(plain.params), plain.shape, tokens).tolist()
    rows: list[Row] = []
    for seed, value, one, two in zip(cell.seeds, loss, plain.params, even.params, strict=True):
        change = _relative(even.logits(two, tokens), plain.logits(one, tokens))
        rows.append({"kind": "model", "seed": seed, "loss": value, "least": least, "change": change})
    return rows


def _symmetries(plain: _Side, folded: _Side) -> list[Row]:
    rows: list[Row] = []
    for name, side in (("as trained", plain), ("folded", folded)):
        turns = any(
            isinstance(factor, Orthogonal) and factor.size == side.shape.width and not _gained(side.symmetry, factor)
            for factor in side.symmetry.factors
        )
        for group, symmetry in (("full", side.symmetry), ("permutations", side.discrete)):
            rows.append(
                {"kind": "symmetry", "parameters": name, "group": group, "factors": len(symmetry.factors),
                 "dimension": symmetry.dimension, "log_order": symmetry.log_order, "coverage": symmetry.coverage,
                 "certified": symmetry.report.certified, "turns": turns}
            )  # fmt: skip
    return rows


def _gained(symmetry: ParameterSymmetry, factor: Orthogonal) -> bool:
    """Whether a factor acts by A g A^{-1} with gains somewhere."""
    return any(slot.move.gains for slot in symmetry.slots(factor.name))


def _methods(
    cell: Pairs, plain: _Side, folded: _Side, even: _Side, data: Tensor, i: int, j: int
) -> dict[str, tuple[_Side, ParameterSymmetry, Method | None]]:
    """For each arm the parametrisation, the symmetry, and the method; None leaves the models as they are."""
    generator = random.generator(2000 + 100 * i + j)
    few = data[: 2 * cell.batch]

    def fresh(params: Params, generator: torch.Generator) -> Tensor:
        return even.loss(params, data[torch.randint(len(data), (cell.batch,), generator=generator)])

    fixed: Callable[[Params], Tensor] = lambda params: plain.loss(params, few)  # noqa: E731
    learned = Sinkhorn(fixed, steps=cell.learned_steps, learning_rate=cell.learned_rate)
    refined = Refinement(
        fresh, generator, steps=cell.refined_steps, learning_rate=cell.refined_rate, start=_MATCHING
    )  # fmt: skip
    return {
        "vanilla": (plain, plain.symmetry, None),
        "permutations": (plain, plain.discrete, _MATCHING),
        "learned permutations": (plain, plain.discrete, learned),
        "folded": (folded, folded.symmetry, None),
        "folded permutations": (even, even.discrete, _MATCHING),
        "full": (even, even.symmetry, _MATCHING),
        "refined": (even, even.symmetry, refined),
    }


def _line(
    cell: Pairs,
    arm: str,
    side: _Side,
    symmetry: ParameterSymmetry,
    method: Method | None,
    tokens: Tensor,
    i: int,
    j: int,
) -> list[Row]:
    a, b = side.params[i], side.params[j]
    change, condition, moved = 0.0, 1.0, b
    found = align(a, b, symmetry, method=method or identity)
    if method is not None:
        moved = found.params
        change = _relative(side.logits(moved, tokens), side.logits(b, tokens))
        general = [found.element[f.name] for f in symmetry.factors if isinstance(f, GeneralLinear)]
        condition = max([float(torch.linalg.cond(g.double()).max()) for g in general], default=1.0)
    with torch.no_grad():
        path = curve(a, moved, lambda params: side.loss(params, tokens), points=cell.points)
    where = {"arm": arm, "pair": f"{cell.seeds[i]}-{cell.seeds[j]}"}
    chord = torch.lerp(path.values[0], path.values[-1], path.t)
    points = zip(path.t.tolist(), path.values.tolist(), (path.values - chord).tolist(), strict=True)
    rows: list[Row] = [
        {"kind": "pair", **where, "barrier": float(barrier(path)), "change": change, "condition": condition,
         "cosine": found.after.cosine}
    ]  # fmt: skip
    return rows + [{"kind": "point", **where, "t": t, "loss": value, "excess": excess} for t, value, excess in points]


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().norm() / b.double().norm())
