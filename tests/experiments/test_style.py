"""One look, no global state."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from symfield.experiments import style

ROWS = pd.DataFrame(
    [
        {"n": n, "scheme": scheme, "seed": seed, "rmd": (seed + 1) / n}
        for n in (10, 100) for scheme in ("V", "EA") for seed in range(5)
    ]
)  # fmt: skip


def test_the_settings_of_matplotlib_are_left_as_they_were():
    before = dict(mpl.rcParams)
    _, axes = style.panels(1, 2)
    style.band(axes[0, 0], ROWS, "n", "rmd", "scheme")
    style.boxes(axes[0, 1], ROWS, "n", "rmd", "scheme")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported():
    code = "import sys; import symfield.experiments.launcher; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_band_draws_medians_between_quantiles():
    _, axes = style.panels()
    style.band(axes[0, 0], ROWS, "n", "rmd", "scheme", quantiles=(0.0, 1.0))
    line, _ = axes[0, 0].get_lines()
    assert np.allclose(line.get_xydata(), [[10, 0.3], [100, 0.03]])
    heights = axes[0, 0].collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.01, 0.5))


def test_boxes_stand_side_by_side_at_labelled_positions():
    figure, axes = style.panels()
    style.boxes(axes[0, 0], ROWS, "n", "rmd", "scheme", order=("V", "DA", "EA"))
    assert [label.get_text() for label in axes[0, 0].get_xticklabels()] == ["10", "100"]
    assert len(axes[0, 0].patches) == 4
    style.legend(figure, axes[0, 0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["V", "EA"]


def test_missing_values_make_no_box():
    rows = ROWS.assign(rmd=ROWS["rmd"].where(ROWS["n"] == 10))
    _, axes = style.panels()
    style.boxes(axes[0, 0], rows, "n", "rmd", "scheme")
    assert len(axes[0, 0].patches) == 2


def test_a_scheme_has_one_colour_everywhere_and_no_two_names_share_one():
    alone = style.colours(["V"])
    mixed = style.colours(["a", "V", "b", "DA", "c", "FA", "DA sampled"])
    assert mixed["V"] == alone["V"] == style.colour("V")
    assert len(set(mixed.values())) == 7


def test_only_the_axes_asked_for_are_logarithmic():
    _, axes = style.panels()
    style.loglog(axes[0, 0], x=False)
    assert (axes[0, 0].get_xscale(), axes[0, 0].get_yscale()) == ("linear", "log")


def test_widths_can_be_marked_where_they_are():
    _, axes = style.panels()
    style.loglog(axes[0, 0], at=[5, 20, 1000])
    assert [label.get_text() for label in axes[0, 0].get_xticklabels()] == ["5", "20", "1000"]
