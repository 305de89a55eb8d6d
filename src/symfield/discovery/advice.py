r"""Does a symmetry pay off for this data set, and how should it be used?

Three kinds of evidence. Does it hold: :mod:`~symfield.discovery.examination` measures the equivariance error
‖f* − Q_G f*‖² and says which elements the data contradict. What does it buy: matched trainings without it and as DA,
FA, canonical frame and EA (:mod:`~symfield.discovery.trainings`), on held-out data, for several sizes of training sets.
What does it cost: evaluations of the network for a step and for a prediction.

A symmetry whose error is above ``tolerance`` of what can be explained is contradicted and never recommended, whatever
the trainings say; then the largest subgroup that is not is examined as well.

References:
    Maass & Fontbona 2024, Lemma 2, Theorem 2, Proposition 4, arXiv 2405.19995v3.
    Nadeau & Bengio 2003, Inference for the generalization error, Machine Learning 52: the variance of differences over
    overlapping training sets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from symfield import random
from symfield.discovery.dataset import Dataset, without_copies
from symfield.discovery.examination import Estimate, examine
from symfield.discovery.groups import DiscoveredGroup, discover_group
from symfield.discovery.networks import Scheme, schemes
from symfield.discovery.recommendation import Advice, Finding, Ranked
from symfield.discovery.scaling import scaling
from symfield.discovery.subgroups import Candidate, uncontradicted
from symfield.discovery.trainings import Budget, Trainings, compare
from symfield.experiments.threads import one_thread
from symfield.groups import Defining, Matrix, Orthogonal, Representation, Trivial
from symfield.typing import Generator, Tensor

__all__ = ["advise"]

_FEWEST = 40
_EXPLAINED = 0.05  # share of variance below which targets count as unexplained
_INSIDE = 0.3  # share of moved samples that must stay in the data for an agreement
_CERTAIN = 0.05  # upper end of the error, as a share of what is explained, up to which data agree
_OFF = 0.01  # of the mean square of moved inputs, that may lie off the span of the inputs
_RANK = 1e-10  # of the largest second moment, below which a direction counts as absent
_MOVES = 16
_FALL = 0.1  # share of an advantage that is worth a word
_SKEW = 0.05  # largest symmetric part of a measured algebra that is taken for that of all rotations


def advise(
    data: Dataset,
    group: Representation | None = None,
    *,
    rep_out: Representation | None = None,
    name: str = "",
    budget: Budget | None = None,
    tolerance: float = 0.02,
    generator: Generator,
    advance: Callable[[float], None] = lambda share: None,
) -> Advice:
    """Say whether a symmetry pays off for a data set, and how to use it.

    Args:
        data: samples.
        group: ρ, how the group acts on the inputs; orthogonal. When absent, the group that
            :func:`~symfield.discovery.discover_group` finds in the data, with its action on the targets.
        rep_out: ρ̂, how it acts on the targets; trivially when absent.
        name: of the group; taken from ρ when empty.
        budget: of the trainings.
        tolerance: the largest equivariance error that is accepted, as a share of the variance that can be explained.
        generator: source of all randomness.
        advance: told the share of the work that is done, from 0 to 1.

    Returns:
        The advice; "cannot tell, because ..." where there are fewer than 40 samples, targets do not vary, or nothing
        explains them.

    Raises:
        ValueError: if dimensions do not fit, ρ or ρ̂ is not orthogonal, or ``tolerance`` is not positive.

    Example:
        >>> from symfield.discovery import dataset
        >>> from symfield.groups import Cyclic, Defining
        >>> x = random.normal((200, 2), generator=random.generator(0), like=torch.zeros(1, dtype=torch.float64))
        >>> small = Budget(width=16, steps=40, seeds=2, shares=(1.0,))
        >>> advice = advise(dataset(x, x[:, 0]), Defining(Cyclic(2)), budget=small, generator=random.generator(1))
        >>> advice.recommended, advice.findings[0].status
        ('none', 'contradicted')
    """
    began = time.process_time()
    budget = Budget() if budget is None else budget
    if not tolerance > 0:
        raise ValueError(f"expected a positive tolerance, received {tolerance}")
    candidate = None
    if group is not None:
        rep_out = Trivial(group.group, data.y.shape[1]) if rep_out is None else rep_out
        _require_fit(data, group, rep_out)
        candidate = Candidate(name or str(group.group), group, rep_out)
    given, data = len(data), without_copies(data)
    refusal = _refusal(data, "distinct samples" if len(data) < given else "samples")
    if refusal:
        return _undecided(data, refusal, (), began)
    with one_thread():
        testing, drawing, training, searching = random.split(generator, 4)
        if candidate is None:
            candidate, why, certain = _searched(data, searching)
            if candidate is None:
                return _without(data, why, certain, began)
        rep_in, rep_out = candidate.rep_in, candidate.rep_out
        if data.task == "regression":  # or a target in millions would hide one in units
            data = replace(data, y=scaling(data.y, rep_out)(data.y))
        span, off = _off_the_span(data.x, rep_in, testing)
        if off > _OFF:
            why = (
                f"the inputs are collinear, and {candidate.name} moves them off the {span} dimensions that they span "
                f"({off:.0%} of their mean square), where nothing is known of the targets; leave out columns that "
                "others determine"
            )
            return _undecided(data, why, (), began)
        asked = _find(data, candidate, tolerance, testing)
        advance(0.15)
        if asked.examination.explained.value - 2 * asked.examination.explained.error < _EXPLAINED:
            share = asked.examination.explained
            why = (
                f"no fitted predictor explains the targets: {share.value:.0%} ± {share.error:.0%} of their variance on "
                "held-out samples"
            )
            return _undecided(data, why, (asked,), began)
        findings = [asked]
        smaller = uncontradicted(asked.examination, rep_in, rep_out) if asked.status == "contradicted" else None
        if smaller is not None:
            findings.append(_find(data, smaller, tolerance, testing))
        advance(0.25)
        compared, missing = _schemes(findings, budget, drawing)
        trainings = compare(
            data,
            compared,
            budget=budget,
            generator=training,
            advance=lambda step: advance(0.25 + 0.75 * step / budget.steps),
        )
    return _decided(data, tuple(findings), trainings, tuple(missing), began)


def _off_the_span(x: Tensor, rep: Representation, generator: Generator) -> tuple[int, float]:
    """The dimension that inputs which vary span, and the largest share of moved ones that is off it."""
    mean = x.mean(0)
    varies = (x - mean).abs().amax(0) > 0  # the border of an image may be empty, and moved images are still images
    seen = (x - mean)[:, varies]
    values, vectors = torch.linalg.eigh(seen.mT @ seen)
    lost = vectors[:, values <= _RANK * values[-1]]
    if not lost.shape[1]:
        return seen.shape[1], 0.0
    moved = [(rep.act(g, x) - mean)[:, varies] for g in rep.group.sample(_MOVES, generator=generator)]
    shares = [float((part @ lost).square().sum() / part.square().sum().clamp_min(1e-300)) for part in moved]
    return seen.shape[1] - lost.shape[1], max(shares)


def _searched(data: Dataset, generator: Generator) -> tuple[Candidate | None, str, bool]:
    """The group that the data have, or why there is none, and whether that is certain."""
    found = discover_group(data, generator=generator)
    if found.verdict != "symmetry found":
        return None, found.reason, found.verdict == "no symmetry found"
    whole = _continuous(found, data.y.shape[1]) if len(found.algebra) else None
    if whole is not None:
        return whole, "", True
    name = found.name if not len(found.algebra) else f"permutations in {found.name}"
    if len(found.algebra):  # not compact, or without a known action: its permutations and signs can still be used
        found = discover_group(data, generator=generator, continuous=False)
    if found.rep_in is None or found.rep_out is None:
        return (
            None,
            f"{name}: what was found cannot be averaged over, as no compact action on the inputs is known",
            False,
        )
    return Candidate(name, found.rep_in, found.rep_out), "", True


def _continuous(found: DiscoveredGroup, outputs: int) -> Candidate | None:
    """A compact Lie group with the action that was found, or nothing."""
    group = found.group
    if group is None or group.is_finite:
        return None
    moving = torch.cat([found.output_generators - torch.eye(outputs), found.output_algebra])
    still = not bool((moving.abs() > 1e-6).any())
    skew = float((found.algebra + found.algebra.mT).abs().max()) / float(found.algebra.abs().max())
    try:
        rep_out: Representation = Trivial(group, outputs)
        if not still:
            rep_out = Matrix(group, torch.cat([found.output_generators, found.output_algebra]))
        if isinstance(group, Orthogonal) and group.degree == found.algebra.shape[-1] and skew < _SKEW:
            return Candidate(found.name, Defining(group), rep_out) if rep_out.orthogonal else None
        rep_in = Matrix(group, torch.cat([found.generators, found.algebra]))
    except ValueError:
        return None
    return Candidate(found.name, rep_in, rep_out) if rep_in.orthogonal and rep_out.orthogonal else None


def _without(data: Dataset, why: str, certain: bool, began: float) -> Advice:
    """The advice where no symmetry was found in the data."""
    if not certain:
        return _undecided(data, why.removeprefix("cannot tell, because "), (), began)
    return Advice(
        "train without a symmetry: none was found in the data", "none", True, (), (), None, None, (why,), (), (),
        len(data), data.task, time.process_time() - began,
    )  # fmt: skip


def _require_fit(data: Dataset, rep_in: Representation, rep_out: Representation) -> None:
    if rep_in.group != rep_out.group:
        raise ValueError(f"expected one group, received {rep_in.group} on inputs and {rep_out.group} on targets")
    for what, rep, columns in (("inputs", rep_in, data.x.shape[1]), ("targets", rep_out, data.y.shape[1])):
        if rep.dim != columns:
            raise ValueError(
                f"expected a representation of dim {columns} on the {columns} columns of {what}, received {rep} of "
                f"{rep.group}, of dim {rep.dim}; add Trivial(group, k) for columns that the group leaves alone"
            )
        if not rep.orthogonal:
            raise ValueError(f"expected an orthogonal representation on the {what}, received {rep}; change the basis")


def _refusal(data: Dataset, samples: str) -> str:
    """Why nothing can be said, or nothing."""
    if len(data) < _FEWEST:
        return f"there are {len(data)} {samples}, and at least {_FEWEST} are needed to hold some out"
    if float(data.y.var(0).sum()) <= 1e-18 * float(data.y.square().max()):
        return "the targets do not vary, so that every symmetry holds and none helps"
    if float(data.x.var(0).sum()) == 0:
        return "the inputs do not vary"
    return ""


def _undecided(data: Dataset, why: str, findings: tuple[Finding, ...], began: float) -> Advice:
    return Advice(
        f"cannot tell, because {why}", "none", False, findings, (), None, None, (), (), (), len(data), data.task,
        time.process_time() - began,
    )  # fmt: skip


def _find(data: Dataset, candidate: Candidate, tolerance: float, generator: Generator) -> Finding:
    found = examine(data, candidate.rep_in, candidate.rep_out, generator=generator)
    scale = max(found.explained.value, 1e-12)
    refused = [e for e in found.elements if e.contradicted]
    bad = [
        e for e in refused if max(v.low for v in (e.violation, e.pair_violation) if v is not None) > tolerance * scale
    ]
    high = max(0.0, found.error.high / scale)
    size, error = max(0.0, found.error.value / scale), found.error.error / scale
    measured = f"equivariance error {size:.1%} ± {error:.1%} of what is explained"
    if bad:
        worst = max(bad, key=lambda e: e.violation.value)
        return Finding(
            candidate, found, "contradicted",
            f"contradicted are {len(bad)} of {len(found.elements)} elements, most of all {worst.name}; {measured}",
        )  # fmt: skip
    # What is significant and below the tolerance is not refused; forget it where subgroups are looked for.
    if found.inside < _INSIDE:
        return Finding(
            candidate, found, "unknown",
            f"only {found.inside:.0%} of the moved inputs stay where there are data: a violation would not show",
        )  # fmt: skip
    if high > _CERTAIN:
        return Finding(
            candidate, found, "unknown",
            f"the {measured}, which may be as large as {high:.0%}",
        )  # fmt: skip
    if refused:
        return Finding(candidate, found, "approximate", f"a violation is seen, below the tolerance: {measured}")
    return Finding(candidate, found, "agrees", f"no element is contradicted: {measured}")


def _schemes(
    findings: list[Finding], budget: Budget, generator: Generator
) -> tuple[tuple[Scheme, ...], list[tuple[str, str]]]:
    missing: list[tuple[str, str]] = []
    compared: list[Scheme] = []
    for finding in findings:
        candidate = finding.candidate

        def tell(kind: str, why: str, name: str = candidate.name) -> None:
            missing.append((f"{kind} {name}", why))

        found = schemes(
            candidate.rep_in, candidate.rep_out, width=budget.width, elements=budget.elements, generator=generator,
            name=candidate.name, missing=tell,
        )  # fmt: skip
        compared += found if not compared else found[1:]
    return tuple(compared), missing


def _decided(
    data: Dataset,
    findings: tuple[Finding, ...],
    trainings: Trainings,
    missing: tuple[tuple[str, str], ...],
    began: float,
) -> Advice:
    status = {finding.candidate.name: finding.status for finding in findings}
    overlap = trainings.held_out / trainings.sizes[-1]
    last = trainings.error[:, -1]
    plain = last[0]

    def estimate(values: Tensor) -> Estimate:
        count = values.shape[-1]
        return Estimate(float(values.mean()), float(values.std()) * math.sqrt(1 / count + overlap))

    allowed, remarks = [], []
    for k, scheme in enumerate(trainings.schemes):
        state = status.get(scheme.group, "agrees")
        ahead = estimate(plain - last[k])
        sure = ahead.value > 2 * ahead.error
        allowed.append(state == "agrees" or (state in ("approximate", "unknown") and sure))
        held = "and better than none on held-out samples" if sure else "and not surely better than none"
        remarks.append({"agrees": "", "contradicted": "contradicted"}.get(state, f"{state}, {held}"))
    means = last.mean(-1)
    best = min((k for k in range(len(means)) if allowed[k]), key=lambda k: float(means[k]))
    behind = [estimate(last[k] - last[best]) for k in range(len(means))]
    near = [k for k in range(len(means)) if allowed[k] and behind[k].value <= behind[k].error]
    cost = [s.cost_of_training + s.cost_of_prediction for s in trainings.schemes]
    pick = min(near, key=lambda k: (cost[k], float(means[k])))
    accuracy = trainings.accuracy[:, -1].mean(-1)
    order = sorted(range(len(means)), key=lambda k: float(means[k]))
    ranking = tuple(
        Ranked(
            trainings.schemes[k], estimate(last[k]), behind[k],
            None if data.task == "regression" else float(accuracy[k]), allowed[k], remarks[k],
        )
        for k in order
    )  # fmt: skip
    chosen = trainings.schemes[pick]
    ahead = estimate(plain - last[pick])
    verdict = _verdict(chosen, ahead, findings)
    reasons = [f"{finding.candidate.name}: {finding.reason}" for finding in findings]
    gain = findings[-1].examination.gain
    reasons.append(
        f"averaging a fitted predictor over {findings[-1].candidate.name} changes its held-out error by "
        f"{-gain.value:+.3f} ± {gain.error:.3f} (Lemma 2)"
    )
    gap = _gap(trainings, findings[-1].candidate.name, estimate)
    changes = _changes(trainings, findings, (pick, best), behind, ahead)
    return Advice(
        verdict, chosen.name, True, findings, ranking, gap, trainings, tuple(reasons), tuple(changes), missing,
        len(data), data.task, time.process_time() - began,
    )  # fmt: skip


def _verdict(chosen: Scheme, ahead: Estimate, findings: tuple[Finding, ...]) -> str:
    if chosen.kind == "none":
        state = findings[-1].status
        why = {
            "contradicted": f"the data contradict {findings[-1].candidate.name}",
            "agrees": "the symmetry holds, but its use does not lower the error here",
        }.get(state, "it is not certain that the symmetry holds, and its use does not surely lower the error")
        return f"train without a symmetry: {why}"
    way = {
        "DA": "augment the data", "FA": "average the predictor", "frame": "bring inputs into canonical pose",
        "EA": "use an equivariant architecture",
    }[chosen.kind]  # fmt: skip
    sure = "" if ahead.value > 2 * ahead.error else ", which is within error"
    return f"{way} ({chosen.name}): error lower by {ahead.value:.3f} ± {ahead.error:.3f} than without{sure}"


def _gap(trainings: Trainings, group: str, estimate: Callable[[Tensor], Estimate]) -> Estimate | None:
    place = {(s.kind, s.group): k for k, s in enumerate(trainings.schemes)}
    if ("EA", group) not in place or ("FA", group) not in place:
        return None
    return estimate(trainings.error[place["EA", group], -1] - trainings.error[place["FA", group], -1])


def _changes(
    trainings: Trainings,
    findings: tuple[Finding, ...],
    places: tuple[int, int],
    behind: list[Estimate],
    ahead: Estimate,
) -> list[str]:
    """What would change the advice."""
    pick, best = places
    names = [scheme.name for scheme in trainings.schemes]
    words = []
    if best != pick:
        costs = trainings.schemes[best]
        words.append(
            f"{names[best]} is better by {behind[pick].value:.3f} ± {behind[pick].error:.3f} and costs "
            f"{costs.cost_of_training} evaluations a training sample, {costs.cost_of_prediction} a prediction; "
            "more seeds would say whether that is worth it"
        )
    if pick and len(trainings.sizes) > 1:
        first, second = (float((trainings.error[0, j] - trainings.error[pick, j]).mean()) for j in (-2, -1))
        small, large = trainings.sizes[-2:]
        if second > 0 and first - second > _FALL * first:
            where = large * math.exp(math.log(large / small) * second / (first - second))
            words.append(
                f"more data: the advantage over no symmetry fell from {first:.3f} at n = {small} to {second:.3f} at "
                f"n = {large}" + (f" and would vanish near n = {where:.0f}" if where < 20 * large else "")
            )
        if ahead.value <= 2 * ahead.error:
            words.append("more seeds or samples: the advantage over no symmetry is within two standard errors")
    for finding in findings:
        if finding.status == "unknown":
            words.append(f"labelled samples at inputs moved by {finding.candidate.name} would say whether it holds")
        if finding.status == "approximate":
            words.append(
                f"many more data: {finding.candidate.name} costs {max(0.0, finding.examination.error.value):.3f} of "
                "the variance however many there are, and training without it does not"
            )
    if not pick and findings[-1].status == "agrees":
        words.append("fewer data: a symmetry that holds helps most where data are few")
    return words
