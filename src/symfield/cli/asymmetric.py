"""``symfield asymmetrize`` and ``symfield verify-asymmetry``: fix entries of a model, and say what that guarantees."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from symfield import random
from symfield.cli.models import ModelError, load_checkpoint, load_model, parse_example, save_checkpoint
from symfield.cli.parameters import require_fitting
from symfield.experiments.errors import ExperimentError
from symfield.typing import Params
from symfield.weightspace import (
    AsymmetryReport,
    FixedPlan,
    MaskLaw,
    RandomFilters,
    RandomRows,
    Rule,
    asymmetrize,
    asymmetrize_like,
    plan_asymmetry,
    verify_asymmetry,
)

__all__ = ["AsymmetryError", "Fixing", "asymmetrize_model", "verify_model"]

_MODES = {"exact": "exact", "additive": "additive", "init-only": "init_only"}
_COLOURS = {"holds": "green", "fails": "bold red", "not covered": "yellow", "not tested": "bright_black"}


class AsymmetryError(ExperimentError, ValueError):
    """A rule cannot be followed as it was given."""


@dataclass(frozen=True)
class Fixing:
    """What the command line says of a rule.

    Attributes:
        fix: a count, or a share with a point.
        kappa: κ.
        seed: of masks and fixed values.
        modules: pattern of module paths; all linear, convolutional and attention modules when None.
        filters: whether whole filters are fixed.
        allow_frozen: whether whole rows may be fixed.
        mode: ``exact``, ``additive`` or ``init-only``.
    """

    fix: str
    kappa: float
    seed: int
    modules: str | None = None
    filters: bool = False
    allow_frozen: bool = False
    mode: str = "exact"

    @property
    def rule(self) -> Rule:
        """The rule.

        Raises:
            AsymmetryError: if the count is no number.
        """
        try:
            fix = float(self.fix) if set(".eE") & set(self.fix) else int(self.fix)
        except ValueError:
            raise AsymmetryError(
                f"expected --fix as a count such as 8 or a share such as 0.25, received {self.fix!r}"
            ) from None
        mask: MaskLaw = RandomFilters() if self.filters else RandomRows()
        return Rule(fix, self.kappa, modules=self.modules, mask=mask, allow_frozen=self.allow_frozen)

    def plan(self, model: nn.Module) -> FixedPlan:
        """What would be fixed in a model.

        Args:
            model: the dense model.

        Returns:
            The plan.

        Raises:
            AsymmetryError: if the rule does not fit.
        """
        if self.mode not in _MODES:
            raise AsymmetryError(f"expected --mode {', '.join(_MODES)}, received {self.mode!r}")
        try:
            return plan_asymmetry(model, self.rule, seed=self.seed, mode=_MODES[self.mode])
        except (ValueError, TypeError) as error:
            raise AsymmetryError(str(error)) from error

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with fixed entries.

        Args:
            model: the dense model.

        Returns:
            A new model.

        Raises:
            AsymmetryError: if the rule does not fit.
        """
        plan = self.plan(model)
        try:
            return asymmetrize(model, self.rule, seed=self.seed, mode=plan.mode)  # type: ignore[call-overload]
        except ValueError as error:
            raise AsymmetryError(str(error)) from error


def asymmetrize_model(
    model: str, fixing: Fixing, *, checkpoint: Path | None, out: Path | None, dry_run: bool, as_json: bool
) -> int:
    """Print what is fixed in a model, and write the new model.

    Args:
        model: how the model is named.
        fixing: what is fixed.
        checkpoint: weights of the dense model; those it is made with when None.
        out: where the new model is written.
        dry_run: print the plan only.
        as_json: whether to print JSON.

    Returns:
        The exit code.

    Raises:
        AsymmetryError: if the request cannot be carried out.
    """
    if (out is None) != dry_run:
        raise AsymmetryError("write the new model with --out FILE, or only see the plan with --dry-run; one of the two")
    net = load_model(model, random.generator(fixing.seed))[0]
    if checkpoint is not None:
        params = load_checkpoint(checkpoint)
        require_fitting(net, params, str(checkpoint))
        net.load_state_dict(params)
    plan = fixing.plan(net)
    if out is not None:
        save_checkpoint(fixing.apply(net).state_dict(), out)
    if as_json:
        print(json.dumps(_plan_as_dict(plan), indent=2))  # noqa: T201
        return 0
    console = Console()
    console.print(_plan_table(plan, title=type(net).__name__))
    if plan.untouched:
        console.print(f"untouched: {', '.join(plan.untouched)}", highlight=False)
    if out is not None:
        console.print(f"written to {out}, masks and fixed values included", highlight=False, soft_wrap=True)
    return 0


def verify_model(
    model: str,
    examples: list[str],
    *,
    checkpoint: Path | None,
    fixing: Fixing | None,
    seed: int,
    as_json: bool,
) -> int:
    """Print which guarantees hold of a model.

    Args:
        model: how the model is named.
        examples: shapes of its inputs.
        checkpoint: weights, of the model as it is named or of an asymmetric one made from it, whose masks are taken
            over.
        fixing: what to fix before, or None.
        seed: of random inputs.
        as_json: whether to print JSON.

    Returns:
        The exit code: 1 if a permutation of units is left.

    Raises:
        ModelError: if the checkpoint and the rule contradict each other.
        AsymmetryError: if the model fails on the example.
    """
    generator = random.generator(seed)
    net, example = load_model(model, generator)
    if examples:
        example = parse_example(examples, generator)
    if checkpoint is not None:
        if fixing is not None:
            raise ModelError("a checkpoint brings its own masks; give --checkpoint or --fix, not both")
        net = _with_checkpoint(net, load_checkpoint(checkpoint), str(checkpoint))
    elif fixing is not None:
        net = fixing.apply(net)
    try:
        report = verify_asymmetry(net, example, seed=seed)
    except ValueError as error:
        raise AsymmetryError(str(error)) from error
    if as_json:
        print(json.dumps(asdict(report), indent=2, ensure_ascii=False))  # noqa: T201
    else:
        _print_report(report, title=type(net).__name__.removeprefix("Parametrized"))
    return int(any(found.status == "fails" for found in report.guarantees if found.name in ("T1", "family")))


def _with_checkpoint(net: nn.Module, params: Params, name: str) -> nn.Module:
    if not any("parametrizations" in key for key in params) or any(
        "parametrizations" in key for key in net.state_dict()
    ):
        require_fitting(net, params, name)
        try:
            net.load_state_dict(params)
        except RuntimeError as error:
            raise ModelError(f"{name}: {' '.join(str(error).split())}") from error
        return net
    try:
        return asymmetrize_like(net, params)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: {' '.join(str(error.args[0]).split())}") from error


def _plan_table(plan: FixedPlan, *, title: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", caption=plan.summary(),
        caption_justify="left",
    )  # fmt: skip
    header, *rows = plan.rows()
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True, style="bold" if i == 0 else "")
    for row in rows:
        table.add_row(*row)
    return table


def _plan_as_dict(plan: FixedPlan) -> dict[str, object]:
    return {
        "weights": [
            {
                "name": planned.place.name,
                "shape": list(planned.place.shape),
                "fixed": planned.fixed,
                "kappa": planned.kappa,
            }
            for planned in plan.weights
        ],
        "untouched": list(plan.untouched),
        "parameters": plan.parameters,
        "trainable": plan.trainable,
        "seed": plan.seed,
        "mode": plan.mode,
    }


def _print_report(report: AsymmetryReport, *, title: str) -> None:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", show_lines=True)
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("statement, assumption, evidence")
    for found in report.guarantees:
        words = Text.assemble(
            found.statement, "\n", (f"if {found.assumption}", "italic"), "\n", (found.evidence, "bright_black")
        )
        table.add_row(found.name, Text(found.status, style=_COLOURS[found.status]), words)
    console = Console()
    console.print(table)
    for note in report.not_guaranteed:
        console.print(Text(f"not guaranteed: {note}"), soft_wrap=True)
