"""Every statement of Maass & Fontbona (2024) that a computer can check, in families of checks.

A *check* is a function ``(setting, draw) -> {claim: measured number}``; a *family* is a list of checks and the settings
(group and unit) in which they mean something. Groups and units: :mod:`.settings`.

References:
    Maass & Fontbona 2024, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from symfield.studies._maass2024_claims import flows, laws, optima, published, risks, training
from symfield.studies._maass2024_claims.claim import Claim
from symfield.studies._maass2024_claims.settings import SETTINGS, Draw, Setting, SettingName, setting

__all__ = ["FAMILIES", "SETTINGS", "Claim", "Draw", "Family", "FamilyName", "Setting", "SettingName", "setting"]


FamilyName = Literal[
    "laws", "networks", "risks", "gradients", "decompositions", "optima", "flows", "steps", "training", "teachers",
    "counterexample",
]  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Checks that belong together.

    Attributes:
        checks: functions ``(setting, draw) -> {claim: measured}``.
        settings: names of the settings to check in.
        repeats: whether another seed checks anything else.
        cost: seconds for one setting and seed, roughly.
    """

    checks: tuple[Callable[[Setting, Draw], dict[Claim, float]], ...]
    settings: tuple[SettingName, ...] = SETTINGS
    repeats: bool = True
    cost: float = 0.1


#: The families by name, in reading order.
FAMILIES: dict[FamilyName, Family] = {
    "laws": Family((laws.fixed_space, laws.laws, laws.distances)),
    "networks": Family((laws.networks, laws.linear_units)),
    "risks": Family((risks.risks, risks.convexity, risks.augmentation_gap)),
    "gradients": Family((risks.gradients,)),
    "decompositions": Family((risks.decompositions, risks.conditional_mean)),
    "optima": Family((optima.infima, optima.minimisers, optima.universality, optima.entropic)),
    "flows": Family((flows.weak_flows, flows.strong_flows, flows.dissipation), cost=1.5),
    "steps": Family((flows.steps,)),
    "training": Family((training.equal_runs, training.width), settings=("swap",), cost=3.0),
    "teachers": Family((published.teachers, published.layer_dimensions), settings=("swap",), repeats=False),
    "counterexample": Family((published.counterexample,), settings=("turns",)),
}
