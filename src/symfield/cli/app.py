"""The commands, each a few lines over the library; what is slow to import is imported by the command that needs it.

Exit codes: 0 all is well; 1 a cell or a verdict failed, or something is wrong with the installation; 2 the request
cannot be carried out as given; 130 interrupted.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from symfield import __version__
from symfield.experiments.catalogue import entries
from symfield.experiments.errors import ExperimentError, Interrupted

__all__ = ["app"]

STUDIES = "symfield.studies"


class _Group(TyperGroup):
    """Turns errors into one line; ``symfield --debug COMMAND`` shows where they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ExperimentError as error:
            if ctx.params.get("debug"):
                raise
            _complain(str(error))
            raise typer.Exit(_exit_code(error)) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug") or type(error).__module__.startswith(("click", "typer")):
                raise
            again = shlex.join(["symfield", "--debug", *sys.argv[1:]])
            words = " ".join(f"{type(error).__name__}: {error}".split())
            _complain(f"{words} (where it comes from: {again})")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyName = Annotated[str, typer.Argument(help="A study's name, or the path of your own my_study.py.", metavar="STUDY")]
StudyNames = Annotated[list[str] | None, typer.Argument(help="Studies; all that were run when absent.")]
ModelName = Annotated[
    str, typer.Argument(help="file.py:name, package.module:name, or a transformers config.json.", metavar="MODEL")
]
Examples = Annotated[
    list[str] | None, typer.Option("--example", help="Shape of an input, 8x64 or ids=2x16:int<1000; once for each.")
]
DataSource = Annotated[
    str, typer.Argument(help=".npz with arrays X and y, .csv, .parquet, or sklearn:NAME.", metavar="DATA")
]
Target = Annotated[
    str | None, typer.Option("--target", help="Column of the labels; several with commas between.", metavar="COLUMN")
]
LabelsAre = Annotated[
    bool | None, typer.Option("--classes/--numbers", help="What labels are; words are classes, numbers are not.")
]
ReportPage = Annotated[Path | None, typer.Option("--report", help="Also write an HTML page.", metavar="PAGE.html")]
Seed = Annotated[int, typer.Option("--seed", help="Of random examples and elements.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of all runs and of the store of finished cells.")]
RunPreset = Annotated[str | None, typer.Option("--preset", help="Only runs of this preset: tiny, quick or paper.")]


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Symmetry in neural networks, and what it does as they grow wide."""


@app.command()
def studies() -> None:
    """List the studies and the claims they test."""
    from symfield.cli.show import studies_table

    Console().print(studies_table(entries(STUDIES)))


@app.command()
def run(
    study: StudyName,
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="key=value; a comma sweeps a scalar and fills a list.", metavar="[KEY=VALUE]..."),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="tiny (seconds), quick (minutes) or paper.")] = "quick",
    device: Annotated[str | None, typer.Option("--device", help="Set the study's device: cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Set the study's dtype: float32, float64.")] = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Set the study's seed, or its seeds: 0..9")] = None,
    out: Out = Path("runs"),
    jobs: Annotated[int, typer.Option("--jobs", help="How many processes.")] = 1,
) -> None:
    """Run a study; finished cells are never computed twice, and an interrupted run resumes."""
    from symfield.cli.running import run_study

    words = list(changes or [])
    shortcuts = {"device": device, "dtype": dtype, "seed": seed}
    raise typer.Exit(run_study(study, words, shortcuts, preset=preset, out=out, jobs=jobs, package=STUDIES))


@app.command()
def figure(study: StudyName, preset: RunPreset = None, out: Out = Path("runs")) -> None:
    """Draw the figures and tables of the most recent run again, without running."""
    from symfield.experiments import find, latest, redraw

    found = find(study, STUDIES)
    folder = latest(out, found.name, preset)
    names = redraw(found, folder)
    Console(soft_wrap=True).print(f"{len(names)} drawn in {folder.path}: {', '.join(names)}", highlight=False)


@app.command()
def report(
    studies: StudyNames = None,
    preset: RunPreset = None,
    out: Out = Path("runs"),
    to: Annotated[Path | None, typer.Option("--to", help="The page; OUT/report.html when absent.")] = None,
) -> None:
    """Write one self-contained HTML page about the most recent runs."""
    from symfield.cli.running import recent_runs
    from symfield.experiments import report as write

    path = write(recent_runs(studies or [], out, preset), to or out / "report.html")
    Console(soft_wrap=True).print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", highlight=False)


@app.command()
def verdicts(studies: StudyNames = None, preset: RunPreset = None, out: Out = Path("runs")) -> None:
    """Print what became of each claim in the most recent runs; exit code 1 when one fails."""
    from symfield.cli.running import recent_runs
    from symfield.cli.show import verdicts_table
    from symfield.experiments import FAILS

    failed = False
    for folder in recent_runs(studies or [], out, preset):
        found = folder.verdicts
        failed |= any(verdict.verdict == FAILS for verdict in found)
        Console().print(verdicts_table(found, title=f"{folder.path.parent.name} · {folder.path.name}"))
    raise typer.Exit(int(failed))


@app.command()
def diagnose(
    data: Annotated[Path, typer.Argument(help=".npz with arrays X and y, .csv or .parquet.", metavar="DATA")],
    target: Annotated[str | None, typer.Option("--target", help="The column of the labels.", metavar="COLUMN")] = None,
    classes: Annotated[
        bool | None, typer.Option("--classes/--numbers", help="What labels are; told from their type when absent.")
    ] = None,
    standardise: Annotated[bool, typer.Option("--standardise", help="Bring each input to unit variance.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Compare readouts by cross-validation.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Orders samples, draws signs and networks.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what one gradient step can make of a data set, and who should win on it: features, a kernel, a linear fit."""
    from symfield.cli.diagnose import diagnosis_table, examine_data

    report = examine_data(data, target, classes=classes, standardise=standardise, measure=measure, seed=seed)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(diagnosis_table(report, title=str(data)))


@app.command()
def discover(
    data: DataSource,
    target: Target = None,
    classes: LabelsAre = None,
    seed: Annotated[int, typer.Option("--seed", help="Of splits and fits.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: ReportPage = None,
) -> None:
    """Find the symmetry of a data set: its group, tested on held-out samples, and the weights that it ties together."""
    from symfield.cli.discover import discover_in

    raise typer.Exit(discover_in(data, target, classes=classes, seed=seed, as_json=as_json, report=report))


@app.command()
def advise(
    data: DataSource,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="C4, D4, S5, signs, swap:a,b, 3*SO3, D4@8x8; found in the data when absent."),
    ] = None,
    target: Target = None,
    classes: LabelsAre = None,
    output: Annotated[str, typer.Option("--output", help="How the group moves targets: fixed, same, sign.")] = "fixed",
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest accepted violation, as a share of what is explained.")
    ] = 0.02,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each training.", min=1)] = 600,
    seeds: Annotated[int, typer.Option("--seeds", help="Replicates of each training.", min=2)] = 5,
    width: Annotated[int, typer.Option("--width", help="Hidden neurons.", min=1)] = 96,
    seed: Annotated[int, typer.Option("--seed", help="Of splits, starts and elements.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: ReportPage = None,
) -> None:
    """Say whether a symmetry pays off for a data set: augmentation, averaging, canonical poses, or an architecture."""
    from symfield.cli.advise import Request, advise_on

    request = Request(
        data, tuple(group or ()), target, classes, output, tolerance, steps, seeds, width, seed, as_json, report
    )
    raise typer.Exit(advise_on(request))


@app.command()
def doctor(
    out: Out = Path("runs"),
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild the store from its sound cells.")] = False,
) -> None:
    """Say what this installation can do, and whether the output folder and its store are sound."""
    from symfield.cli.doctor import examine, repair_store
    from symfield.cli.show import findings_table

    if repair:
        typer.echo(repair_store(out))
    findings = examine(out)
    Console().print(findings_table(findings))
    raise typer.Exit(int(any(finding.state == "problem" for finding in findings)))


@app.command()
def symmetries(
    model: ModelName,
    example: Examples = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Weights to certify with.")] = None,
    fold_norms: Annotated[
        bool, typer.Option("--fold-norms", help="First turn layer norms into root-mean-square norms, where exact.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Seed = 0,
) -> None:
    """Derive which transformations of a model's parameters leave its function unchanged, and test each."""
    from symfield.cli.parameters import derive_symmetries

    raise typer.Exit(
        derive_symmetries(model, example or [], checkpoint, folding=fold_norms, as_json=as_json, seed=seed)
    )


@app.command()
def check(
    model: ModelName,
    example: Examples = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Weights to test with.")] = None,
    axes: Annotated[
        Path | None, typer.Option("--axes", help="JSON table of your own: a permutation's name or null for each axis.")
    ] = None,
    same_as: Annotated[
        Path | None, typer.Option("--same-as", help="Another checkpoint that must compute the same function.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Test a table of permutations, or the derived symmetries, or two checkpoints; exit code 1 when a test fails."""
    from symfield.cli.parameters import check_model

    raise typer.Exit(check_model(model, example or [], checkpoint, axes, same_as, seed=seed))


@app.command(name="align")
def align_models(
    first: Annotated[Path, typer.Argument(help="Checkpoint that stays: .safetensors or .pt.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Checkpoint that is moved towards it.", metavar="B")],
    model: Annotated[
        str,
        typer.Option("--model", help="file.py:name, package.module:name, or a transformers config.json."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The merged model: .safetensors or .pt.")],
    example: Examples = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Inputs saved by torch.save, to match activations and test with.")
    ] = None,
    axes: Annotated[
        Path | None, typer.Option("--axes", help="JSON table of your own instead of the derived symmetry.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="weights, activations, or frank-wolfe.")] = "weights",
    starts: Annotated[
        str,
        typer.Option("--starts", help="With commas: layers, identity, sorted, activations, a number of random ones."),
    ] = "layers",
    merge: Annotated[str, typer.Option("--merge", help="Weight of B in the merged model, or none: B alone.")] = "0.5",
    aligned: Annotated[Path | None, typer.Option("--aligned", help="Also write B as it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Seed = 0,
) -> None:
    """Move model B into the basin of model A without changing its function, and merge the two."""
    from symfield.cli.aligning import Request, align_checkpoints

    request = Request(
        first, second, model, example or [], out,
        inputs=inputs, axes=axes, method=method, starts=starts,
        merge=merge, aligned=aligned, as_json=as_json, seed=seed,
    )  # fmt: skip
    raise typer.Exit(align_checkpoints(request))


Fix = Annotated[
    str | None, typer.Option("--fix", help="Fixed entries of every unit: a count such as 8, or a share such as 0.25.")
]
Modules = Annotated[
    str | None, typer.Option("--modules", help="Only modules whose path fits this pattern, such as layers.*.")
]


@app.command(name="asymmetrize")
def asymmetrize_model(
    model: ModelName,
    fix: Annotated[
        str, typer.Option("--fix", help="Fixed entries of every unit: a count such as 8, or a share such as 0.25.")
    ],
    kappa: Annotated[float, typer.Option("--kappa", help="Standard deviation of the fixed entries.")],
    seed: Annotated[int, typer.Option("--seed", help="Of masks and fixed values.", min=0)] = 0,
    modules: Modules = None,
    filters: Annotated[bool, typer.Option("--filters", help="Fix whole filters of convolutions.")] = False,
    allow_frozen: Annotated[bool, typer.Option("--allow-frozen", help="Units may be fixed as a whole.")] = False,
    mode: Annotated[str, typer.Option("--mode", help="exact, additive or init-only.")] = "exact",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Weights of the dense model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The new model: .safetensors or .pt.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be fixed, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fix some entries of every unit of a model, other ones in each, so that its units cannot be exchanged."""
    from symfield.cli.asymmetric import Fixing, asymmetrize_model

    fixing = Fixing(fix, kappa, seed, modules, filters, allow_frozen, mode)
    raise typer.Exit(asymmetrize_model(model, fixing, checkpoint=checkpoint, out=out, dry_run=dry_run, as_json=as_json))


@app.command(name="verify-asymmetry")
def verify_asymmetry(
    model: ModelName,
    example: Examples = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Weights; masks of an asymmetric model come with them.")
    ] = None,
    fix: Fix = None,
    kappa: Annotated[float, typer.Option("--kappa", help="Standard deviation of the fixed entries.")] = 1.0,
    modules: Modules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of masks, and of random inputs.", min=0)] = 0,
) -> None:
    """Say what is guaranteed of a model with fixed entries or gates; exit code 1 when units can be exchanged."""
    from symfield.cli.asymmetric import Fixing, verify_model

    fixing = None if fix is None else Fixing(fix, kappa, seed, modules)
    raise typer.Exit(
        verify_model(model, example or [], checkpoint=checkpoint, fixing=fixing, seed=seed, as_json=as_json)
    )


def _complain(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("symfield: ", "bold red"), message))


def _exit_code(error: ExperimentError) -> int:
    return 130 if isinstance(error, Interrupted) else 2
