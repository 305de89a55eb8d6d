"""What do the clouds look like? Figures 4 and 5 of Maass & Fontbona (2024).

One realisation from an SI law, for a WI and for an arbitrary teacher: student particles (dots) and teacher particles
(squares) after training, seen from above the plane E^G and along it, and as an interactive three-dimensional page. In
R^4 = E^G ⊕ (E^G)^⊥ with orthonormal coordinates e₁, e₂ on [[1,0],[0,1]]/√2, [[0,1],[1,0]]/√2 and o₁, o₂ on
[[1,0],[0,-1]]/√2, [[0,1],[-1,0]]/√2 the swap acts as +1 on e and as −1 on o.

What differs from the paper: it shows a projection of R^4 to R^3 that it does not specify; here the third axis is o₁.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from symfield.experiments import Cell, Row, Study, Verdict, style, versioned
from symfield.studies._maass2024 import SOURCE, Training, check_setting, teacher, trajectories
from symfield.typing import Tensor

__all__ = ["STUDY", "Config", "figures", "run"]

_COORDINATES = torch.tensor(
    [[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, -1], [0, 1, -1, 0]], dtype=torch.float64
) / math.sqrt(2)
_NAMES = ("e1", "e2", "o1", "o2")


@dataclass(frozen=True)
class Config:
    """One realisation for every teacher; the defaults are the paper's setting at N = 1000.

    Attributes:
        teachers: kinds of teachers, one figure row each.
        n: width N.
        seed: the realisation.
        schemes: trained side by side.
        rate: ς.
        horizon: T in macroscopic time.
        batch: samples in a step.
        tau: weight of ‖z‖².
        beta: entropy weight; the noise is projected on E^G.
        device: where to train.
        dtype: precision of training.
    """

    teachers: tuple[Literal["arbitrary", "WI", "SI"], ...] = ("WI", "arbitrary")
    n: int = 1000
    seed: int = 0
    schemes: tuple[Literal["V", "DA", "DA sampled", "FA", "EA"], ...] = ("V", "DA", "FA", "EA")
    rate: float = 50.0
    horizon: float = 20.0
    batch: int = 20
    tau: float = 1e-4
    beta: float = 1e-6
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        check_setting(self)


@versioned(1)
def clouds(cell: Training) -> list[Row]:
    """Particles of every scheme and of the teacher, in the coordinates e₁, e₂, o₁, o₂.

    Args:
        cell: what to train.

    Returns:
        One row for every particle of the first seed: ``scheme, role, e1, e2, o1, o2``.
    """
    _, z = trajectories(cell)
    rows = _particles("teacher", "teacher", teacher(cell.teacher))
    for scheme, cloud in zip(cell.schemes, z[:, 0].double().cpu(), strict=True):
        rows += _particles(scheme, "student", cloud)
    return rows


def _particles(scheme: str, role: str, cloud: Tensor) -> list[Row]:
    return [
        {"scheme": scheme, "role": role, **dict(zip(_NAMES, place, strict=True))}
        for place in (cloud @ _COORDINATES.T).tolist()
    ]


def cells(config: Config) -> Sequence[Cell]:
    """One bundle of runs for every teacher.

    Args:
        config: the setting.

    Returns:
        The cells.
    """
    return [
        Cell(
            clouds,
            Training(
                teacher=kind, init="SI", n=config.n, seeds=(config.seed,), schemes=config.schemes,
                epsilon=1 / config.n, batch=config.batch, noise="projected", rate=config.rate, horizon=config.horizon,
                tau=config.tau, beta=config.beta, loss_scale=1.0, input_std=4.0, points=1, device=config.device,
                dtype=config.dtype,
            ),
        )
        for kind in config.teachers
    ]  # fmt: skip


def _schemes(rows: DataFrame) -> list[str]:
    return [name for name in rows["scheme"].unique() if name != "teacher"]


def views(rows: DataFrame) -> Figure:
    """Figures 4 and 5: students (dots) and teacher (squares) from above E^G, and along it (dotted line: E^G)."""
    kinds, schemes = list(rows["teacher"].unique()), _schemes(rows)
    figure, axes = style.panels(2 * len(kinds), len(schemes), width=2.6, height=2.0, share=False)
    shades = style.colours(schemes)
    for line, kind in enumerate(kinds):
        part = rows[rows["teacher"] == kind]
        goal = part[part["role"] == "teacher"]
        reach = 1.1 * part[list(_NAMES)].abs().to_numpy().max()
        for column, scheme in enumerate(schemes):
            cloud = part[part["scheme"] == scheme]
            for panel, across in ((axes[2 * line, column], "e2"), (axes[2 * line + 1, column], "o1")):
                panel.scatter(cloud["e1"], cloud[across], s=5, color=shades[scheme], alpha=0.55, linewidths=0)
                panel.scatter(
                    goal["e1"], goal[across], s=26, marker="s", facecolors="none", edgecolors="#22262b", linewidths=1
                )
                panel.set(xlim=(-reach, reach), ylim=(-reach, reach))
                if column == 0:
                    panel.set_ylabel({"e2": "e₂", "o1": "o₁ (off $E^G$)"}[across])
            axes[2 * line, column].set_title(f"{scheme}, {kind} teacher")
            axes[2 * line + 1, column].axhline(0, color="#7a6a5b", linestyle=":", linewidth=1)
            axes[2 * line + 1, column].set_xlabel("e₁")
    return figure


def in_space(rows: DataFrame) -> go.Figure:
    """The clouds in three dimensions: e₁, e₂ span the plane E^G, o₁ leaves it; choose teacher and scheme below."""
    kinds, schemes = list(rows["teacher"].unique()), _schemes(rows)
    shades = style.colours(schemes)
    traces, labels = [], []
    for kind in kinds:
        part = rows[rows["teacher"] == kind]
        reach = 1.1 * part[["e1", "e2"]].abs().to_numpy().max()
        goal = part[part["role"] == "teacher"]
        for scheme in schemes:
            cloud = part[part["scheme"] == scheme]
            corner = [-reach, reach]
            labels.append(f"{scheme}, {kind} teacher")
            traces += [
                go.Surface(x=corner, y=corner, z=[[0, 0], [0, 0]], opacity=0.25, showscale=False, name="E^G",
                           colorscale=[[0, "#9aa1a9"], [1, "#9aa1a9"]], hoverinfo="skip"),
                _points(cloud, "student", {"size": 2.5, "color": shades[scheme], "opacity": 0.7}),
                _points(goal, "teacher", {"size": 5, "color": "#22262b", "symbol": "square-open"}),
            ]  # fmt: skip
    for index, trace in enumerate(traces):
        trace.visible = index < 3
    buttons = [
        {"label": label, "method": "update", "args": [{"visible": [index // 3 == i for index in range(len(traces))]}]}
        for i, label in enumerate(labels)
    ]
    layout = style.page_layout(
        title="Particles after training from an SI law",
        scene={"xaxis_title": "e₁", "yaxis_title": "e₂", "zaxis_title": "o₁ (off E^G)", "aspectmode": "cube"},
        updatemenus=[{"buttons": buttons, "direction": "down", "x": 0, "xanchor": "left", "y": 1.08, "yanchor": "top"}],
        margin={"l": 10, "r": 10, "t": 90, "b": 10},
    )  # fmt: skip
    return go.Figure(traces, layout=layout)


def _points(cloud: DataFrame, name: str, marker: dict[str, object]) -> go.Scatter3d:
    return go.Scatter3d(x=cloud["e1"], y=cloud["e2"], z=cloud["o1"], mode="markers", name=name, marker=marker)


def table(rows: DataFrame) -> DataFrame:
    """Share of the second moment that lies off E^G, mean ‖z − Pz‖² / mean ‖z‖², by teacher and scheme."""
    by = rows[rows["role"] == "student"].groupby(["teacher", "scheme"], sort=False)
    return DataFrame(
        [{"teacher": kind, "scheme": scheme, "share off E^G": _share_off(cloud)} for (kind, scheme), cloud in by]
    )


def _share_off(cloud: DataFrame) -> float:
    squares = cloud[list(_NAMES)].pow(2).mean()
    return float(squares[["o1", "o2"]].sum() / squares.sum())


def verdicts(rows: DataFrame, config: Config) -> list[Verdict]:
    """Where the clouds lie.

    Args:
        rows: tidy rows.
        config: their configuration.

    Returns:
        Verdicts on the share of the second moment off E^G.
    """
    source = f"{SOURCE}, Figures 4 and 5"
    students = rows[rows["role"] == "student"]
    found = []
    for kind in config.teachers:
        for scheme in config.schemes:
            share = _share_off(students[(students["teacher"] == kind) & (students["scheme"] == scheme)])
            where = f"{kind} teacher, N = {config.n}: {scheme}"
            if scheme in ("DA", "FA", "EA"):
                claim = f"{where} lies in E^G (share of ‖z‖² off it)"
                exact = scheme == "EA" or (config.n >= 10 and config.dtype == "float64")
                found.append(
                    Verdict.at_most(claim, share, 1e-12, source=source)
                    if exact
                    else Verdict.not_tested(claim, "needs float64 and N ≥ 10: round-off is amplified", source=source)
                )
            elif config.n < 100 or config.horizon < Config.horizon:
                claim = f"{where}: whether it stays near E^G"
                found.append(Verdict.not_tested(claim, "needs N ≥ 100 and the full horizon", source=source))
            elif kind != "arbitrary":
                found.append(Verdict.at_most(f"{where} stays near E^G (share off it)", share, 5e-3, source=source))
            elif scheme == "V":
                found.append(Verdict.at_least(f"{where} leaves E^G (share off it)", share, 0.1, source=source))
    return found


figures = {"views": views}
STUDY = Study(
    name="maass2024_clouds",
    claim=(
        "Trained from a strongly invariant law, augmented, averaged and equivariant ensembles end in the plane E^G for"
        " every teacher; free ones only for an equivariant teacher."
    ),
    source=f"{SOURCE}, Figures 4 and 5",
    config=Config,
    presets={"tiny": {"n": 20, "horizon": 2.0}, "quick": {"n": 300}, "paper": {}},
    cells=cells,
    figures=figures,
    pages={"in_space": in_space},
    tables={"share_off": table},
    verdicts=verdicts,
)
run = STUDY.run
