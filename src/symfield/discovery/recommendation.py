"""What advice is: a recommendation, and all that it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from symfield.discovery.examination import Estimate, Examination
from symfield.discovery.networks import Scheme
from symfield.discovery.subgroups import Candidate
from symfield.discovery.trainings import Trainings

__all__ = ["Advice", "Finding", "Ranked", "Status"]

Status = Literal["agrees", "approximate", "contradicted", "unknown"]


class Finding(NamedTuple):
    """What was found of one group.

    Attributes:
        candidate: the group and how it acts.
        examination: measurements.
        status: "agrees", "approximate" (a violation below the tolerance), "contradicted", or "unknown".
        reason: why, in a sentence.
    """

    candidate: Candidate
    examination: Examination
    status: Status
    reason: str


class Ranked(NamedTuple):
    """One scheme in the ranking.

    Attributes:
        scheme: the scheme.
        error: held-out error at the largest training set, in units of the variance of targets.
        behind: how much more than the best allowed scheme, paired over seeds.
        accuracy: share of right classes; None for regression.
        allowed: whether the data do not contradict its symmetry.
        remark: what else there is to say.
    """

    scheme: Scheme
    error: Estimate
    behind: Estimate
    accuracy: float | None
    allowed: bool
    remark: str


@dataclass(frozen=True)
class Advice:
    """A recommendation with all that it rests on; printed by ``symfield advise``.

    Attributes:
        verdict: the recommendation in a sentence.
        recommended: name of the recommended scheme; "none" trains without a symmetry.
        decided: whether the question could be answered; otherwise the verdict begins with "cannot tell".
        findings: the group asked about, and the largest subgroup not contradicted where that is another one.
        ranking: all schemes, best first.
        gap: error of EA less error of FA: what strong invariance costs (Proposition 4); None where either is missing.
        trainings: learning curves; None when nothing was trained.
        reasons: why.
        changes: what would change the advice.
        missing: schemes that are not known for the group, with why.
        samples: number of samples.
        task: "regression" or "classification".
        seconds: processor time spent.
    """

    verdict: str
    recommended: str
    decided: bool
    findings: tuple[Finding, ...]
    ranking: tuple[Ranked, ...]
    gap: Estimate | None
    trainings: Trainings | None
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    samples: int
    task: str
    seconds: float

    @property
    def scheme(self) -> Scheme:
        """The recommended scheme, for :func:`~symfield.discovery.fit`."""
        return next((r.scheme for r in self.ranking if r.scheme.name == self.recommended), Scheme("none"))

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, words and lists, for JSON; infinite numbers become None."""
        return {
            "verdict": self.verdict, "recommended": self.recommended, "decided": self.decided,
            "samples": self.samples, "task": self.task, "seconds": self.seconds,
            "groups": [_finding_to_dict(finding) for finding in self.findings],
            "ranking": [
                {
                    "scheme": r.scheme.name, "kind": r.scheme.kind, "group": r.scheme.group,
                    "error": _finite(r.error), "behind": _finite(r.behind), "accuracy": r.accuracy,
                    "allowed": r.allowed, "remark": r.remark, "cost_of_training": r.scheme.cost_of_training,
                    "cost_of_prediction": r.scheme.cost_of_prediction,
                }
                for r in self.ranking
            ],
            "gap": None if self.gap is None else _finite(self.gap),
            "curves": self.curves(), "reasons": list(self.reasons), "changes": list(self.changes),
            "missing": dict(self.missing),
        }  # fmt: skip

    def curves(self) -> list[dict[str, Any]]:
        """Learning curves as tidy rows: scheme, n, seed, error, accuracy."""
        if self.trainings is None:
            return []
        t = self.trainings
        return [
            {
                "scheme": scheme.name, "n": n, "seed": seed, "error": float(t.error[i, j, seed]),
                "accuracy": None if self.task == "regression" else float(t.accuracy[i, j, seed]),
            }
            for i, scheme in enumerate(t.schemes) for j, n in enumerate(t.sizes) for seed in range(t.error.shape[-1])
        ]  # fmt: skip


def _finding_to_dict(finding: Finding) -> dict[str, Any]:
    found = finding.examination
    return {
        "group": finding.candidate.name, "status": finding.status, "reason": finding.reason,
        "equivariance_error": _finite(found.error), "gain_of_averaging": _finite(found.gain),
        "explained": _finite(found.explained), "inside": found.inside, "samples": found.samples,
        "every_element": found.complete,
        "elements": [
            {
                "element": e.name, "violation": _finite(e.violation), "inside": e.inside, "pairs": e.pairs,
                "pair_violation": None if e.pair_violation is None else _finite(e.pair_violation),
                "p": e.p, "contradicted": e.contradicted,
            }
            for e in found.elements
        ],
    }  # fmt: skip


def _finite(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}
