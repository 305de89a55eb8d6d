"""What ``symfield run`` does, and which runs the other commands speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from symfield.cli.show import verdicts_table
from symfield.experiments import (
    Bar,
    FieldError,
    FolderError,
    Grid,
    Launch,
    RunFolder,
    Study,
    find,
    latest,
    launch,
    runs,
)
from symfield.experiments.errors import unknown

__all__ = ["recent_runs", "run_study"]


def run_study(
    name: str,
    words: Sequence[str],
    shortcuts: Mapping[str, str | None],
    *,
    preset: str,
    out: Path,
    jobs: int,
    package: str,
) -> int:
    """Run a study, show its progress, its verdicts and where its folder is.

    Args:
        name: the study's name or the path of its file.
        words: ``key=value``.
        shortcuts: the values of ``--device``, ``--dtype`` and ``--seed``; None when not given.
        preset: where the configuration starts from.
        out: the output folder.
        jobs: how many processes.
        package: where names are looked up.

    Returns:
        The exit code: 1 when a cell failed.

    Raises:
        ExperimentError: if the request cannot be carried out.
    """
    study = find(name, package)
    overrides = Grid.parse(study.config, [*words, *_shortcut_words(study, shortcuts)])
    for config in overrides.configurations(study.settings(preset)):
        _check_device(config.device)
    with Bar(Console(stderr=True), f"{study.name} · {preset}") as bar:
        finished = launch(study, out=out, preset=preset, overrides=overrides, jobs=jobs, monitor=bar)
    _tell(finished, name)
    return int(bool(finished.outcome.failures))


def recent_runs(names: Sequence[str], out: Path, preset: str | None) -> list[RunFolder]:
    """The most recent run of each study.

    Args:
        names: studies by name or path; all that have a run when empty.
        out: the output folder.
        preset: only runs of this preset.

    Returns:
        One folder a study.

    Raises:
        FolderError: if a study has no run, or none has.
    """
    known = sorted({file.parent.parent.name for file in out.glob("*/*/config.json")})
    if not known:
        raise FolderError(f"no runs in {out}; start one: symfield run STUDY --out {out}")
    wanted = [Path(name).stem if name.endswith(".py") else name for name in names]
    for name in wanted:
        if name not in known:
            raise FolderError(unknown("run", name, known) + f"; start one: symfield run {name} --out {out}")
    if wanted or preset is None:
        return [latest(out, name, preset) for name in wanted or known]
    having = [name for name in known if any(run.config["preset"] == preset for run in runs(out, name))]
    if not having:
        raise FolderError(f"no run of the preset {preset} in {out}; start one: symfield run STUDY --preset {preset}")
    return [latest(out, name, preset) for name in having]


def _shortcut_words(study: Study, shortcuts: Mapping[str, str | None]) -> list[str]:
    """``--device``, ``--dtype`` and ``--seed`` as ``key=value``; the last sets ``seeds`` where a study lists them."""
    names = study.config.__dataclass_fields__  # type: ignore[attr-defined]
    words = []
    for name, value in shortcuts.items():
        if value is not None:
            words.append(f"{'seeds' if name == 'seed' and 'seed' not in names else name}={value}")
    return words


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise FieldError(f"device {device!r} cannot be used here: {reason}; choose --device cpu") from error


def _tell(finished: Launch, name: str) -> None:
    outcome, folder = finished.outcome, finished.folder
    console = Console()
    console.print(verdicts_table(finished.verdicts, title=f"{folder.path.parent.name} · {folder.path.name}"))
    line = f"{outcome.computed} cells computed in {outcome.seconds:.1f} s, {outcome.reused} reused"
    console.print(Text(f"{line}; rows, verdicts and figures are in {folder.path}"), soft_wrap=True)
    if outcome.failures:
        errors = Console(stderr=True, soft_wrap=True)
        count = "1 cell" if len(outcome.failures) == 1 else f"{len(outcome.failures)} cells"
        errors.print(Text(f"{count} failed; the same command tries again:", style="bold red"))
        for failure in outcome.failures:
            errors.print(Text(f"  {failure}"))
    else:
        console.print(Text(f"Next: symfield report {name} --out {folder.path.parent.parent}"), soft_wrap=True)
