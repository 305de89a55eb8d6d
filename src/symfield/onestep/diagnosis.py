r"""What one gradient step can make of your data: the spectrum, where the labels lie in it, and who should win.

:func:`diagnose` puts :func:`spectrum` and :func:`signal` together and reads off the scaling laws of one step on
structured inputs. With r_s the effective dimension that the labels see (r₁ for labels along the first eigenvector):

| n samples | expected | because |
|---|---|---|
| n < n_half ≈ 2 r_s/R² | random features | the gradient is mostly noise |
| n_half ≤ n < 3 r_s² | trained layer | it has found the direction; a kernel does not yet see degree two well |
| n ≥ 3 r_s² | kernel | it sees degree two in all directions, and its width is infinite |

They hold for labels that depend on few directions, with a linear part and a curved one; where nothing of degree two is
seen but something beyond, 3 r_s³ takes the place of 3 r_s². Labels without a linear part are seen from about r₁²
samples, by gradients and by kernels alike; labels without a part beyond linear that is seen need no features. The
factor 3 is measured: in the study wortsman2024_readout the kernel overtakes between 2 and 7 r₁². All this is
orders of magnitude: constants of order one are unknown for data that are not Gaussian, and within a factor of three
of a boundary the report says "close". :func:`measure_readouts` asks the data themselves, by cross-validation.

References:
    Ba et al. 2023 (openreview HlIAoCHDWW): kernels need n ~ r₁^p for degree p, trained nets r₁^k for information
    exponent k, in the spiked case. Wortsman & Loureiro 2025, arXiv 2510.04780 (kernels, power laws). Dandi et al. 2023,
    arXiv 2305.18270 (one step, isotropic). Their common form in r_s: derived here, not proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from symfield import random
from symfield.onestep._reading import read_table
from symfield.onestep.covariances import Covariance, PowerLaw
from symfield.onestep.directions import aligned
from symfield.onestep.links import hermite_link
from symfield.onestep.measured import Measured, measure_readouts
from symfield.onestep.predictions import predicted_samples
from symfield.onestep.signals import Signal, signal
from symfield.onestep.spectra import Spectrum, spectrum
from symfield.onestep.targets import Target
from symfield.typing import Float, Generator, Tensor

__all__ = ["Diagnosis", "Expectation", "diagnose"]

_CLOSE = 3.0
_CATCHES_UP = 3.0
_ALMOST_LINEAR = 0.95
_SEEN_BY_RIDGE = 3.0  # pure noise stays below 3/√n in R² by leaving one out
_SCALES = 30.0


@dataclass(frozen=True)
class Expectation:
    """A prediction in words, not a measurement.

    Args:
        winner: ``"trained layer"``, ``"kernel"``, ``"random features"``, ``"linear"`` or ``"none"``.
        close: whether a boundary between two of these is within a factor of three of n, or what is to be seen beyond a
            linear part is of unknown degree.
        reasons: the numbers behind it, a sentence each.
        assumptions: what must hold for it, a sentence each.
    """

    winner: str
    close: bool
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """The report of :func:`diagnose`; ``print`` shows it as a table.

    Attributes:
        samples: n.
        dim: d, without constant inputs.
        dropped: inputs that were constant.
        standardised: whether each input was brought to unit variance.
        scales: largest over smallest standard deviation of the inputs, before that.
        classes: how many classes the labels are; None for regression.
        spectrum: effective dimensions and exponent.
        signal: how the labels depend on the inputs.
        n_half: samples at which the gradient has squared overlap 1/2 with what it should see: the linear part, or
            without one (:func:`predicted_samples`) the first eigenvector; None if nothing is seen.
        n_weak: samples at which it exceeds twice the overlap of pure noise; None likewise.
        expectation: who is expected to predict best.
        measured: cross-validated errors, if they were asked for.
    """

    samples: int
    dim: int
    dropped: int
    standardised: bool
    scales: float
    classes: int | None
    spectrum: Spectrum
    signal: Signal
    n_half: float | None
    n_weak: float | None
    expectation: Expectation
    measured: Measured | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        """The report as lines: what, value, remark."""
        s, g = self.spectrum, self.signal
        kind = "regression" if self.classes is None else f"{self.classes} classes"
        inputs = f"{self.dropped} constant ones dropped; " if self.dropped else ""
        inputs += "each scaled to unit variance" if self.standardised else "as they are"
        if not self.standardised and self.scales > _SCALES:
            inputs += f"; their scales differ by {self.scales:.0f}: consider standardise=True"
        low, high = (_short(bound) for bound in s.r1_range)
        rows = [
            ("samples n", f"{self.samples}", kind),
            ("inputs d", f"{self.dim}", inputs),
            ("r1 = Tr S/λ1", _plus_minus(s.r1, s.r1_error), f"between {low} and {high}"),
            ("r2 = Tr S²/λ1²", _plus_minus(s.r2, s.r2_error), ""),
        ]
        if s.exponent is None or s.exponent_error is None or s.fit_ranks is None or s.drift is None:
            rows.append(("power law", "not fitted", "needs rank 4 or more"))
        else:
            ranks = f"ranks {_short(s.fit_ranks[0])} to {_short(s.fit_ranks[1])}"
            faster = "later ones fall faster" if s.drift > 0 else "earlier ones fall faster"
            law = "a power law" if s.is_power_law else f"not a power law: {faster}, by {abs(s.drift):.2g}"
            rows.append(("exponent α", _plus_minus(s.exponent, s.exponent_error), f"{ranks}; {law}"))
        exponent = g.information_exponent
        rows += [
            ("linear part R²", f"{g.linear:.2f}", f"leaving one out; p = {g.linear_p:.3f} for none"),
            (
                "curved part",
                "seen" if g.nonlinear else "not seen",
                f"beyond linear: degree two, p = {g.beyond_p:.3f}; any degree, p = {g.higher_p:.3f}",
            ),
            ("information exponent", "not seen" if exponent is None else str(exponent), "least degree seen, at 1%"),
        ]
        if g.dimension is not None and g.half_rank is not None:
            half = f"half of the linear signal lies in the first {g.half_rank} of {self.dim} directions"
            rows.append(("r_s seen by the labels", _short(g.dimension), half))
        if self.n_half is not None and self.n_weak is not None:
            rows.append(("n_half", _short(self.n_half), f"here n = {_short(self.samples / self.n_half)} n_half"))
            noise = "overlap twice that of noise" if self.n_weak < math.inf else "noise alone overlaps by half or more"
            rows.append(("n_weak", _short(self.n_weak), noise))
        close = " (close)" if self.expectation.close else ""
        rows.append(("expected to win", self.expectation.winner + close, "a prediction; see its assumptions"))
        if self.measured is not None:
            rows += self.measured.rows()
            words = {True: "agrees", False: "does not agree", None: "says nothing"}[self.agrees]
            rows.append(("the prediction", words, "with what was measured"))
        return rows

    @property
    def agrees(self) -> bool | None:
        """Whether the expected winner is among the measured ones; None where nothing was expected or measured."""
        if self.measured is None or self.expectation.winner == "none":
            return None
        return self.expectation.winner in self.measured.ties

    def __repr__(self) -> str:
        rows = self.rows()
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        lines = [f"{what:<{first}}  {value:>{second}}  {remark}".rstrip() for what, value, remark in rows]
        lines += ["because", *(f"  - {reason}" for reason in self.expectation.reasons)]
        lines += ["assuming", *(f"  - {assumption}" for assumption in self.expectation.assumptions)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as numbers, strings, lists and None, ready for JSON."""
        spectrum_ = {name: value for name, value in vars(self.spectrum).items() if not isinstance(value, Tensor)} | {
            "is_power_law": self.spectrum.is_power_law,
            "eigenvalues": self.spectrum.eigenvalues.tolist(),
        }
        signal_ = vars(self.signal) | {
            "information_exponent": self.signal.information_exponent,
            "curved": self.signal.curved,
            "nonlinear": self.signal.nonlinear,
        }
        plain = {name: value for name, value in vars(self).items() if isinstance(value, int | float | None)}
        return _plain(
            plain
            | {"spectrum": spectrum_, "signal": signal_, "expectation": asdict(self.expectation)}
            | {"measured": None if self.measured is None else self.measured.to_dict()}
        )


def diagnose(
    x: Any,
    y: Any,
    *,
    standardise: bool = False,
    classes: bool | None = None,
    measure: bool = False,
    width: int = 240,
    generator: Generator | None = None,
) -> Diagnosis:
    """Look at data before training on them: spectrum, signal, sample needs, and who is expected to predict best.

    Inputs are centred, constant ones dropped, and all are scaled by one factor to Tr S = d. Samples are put in random
    order. Strings, Booleans, and integers with at most 20 values are classes; other labels are regressed on.

    Args:
        x: inputs, an array or tensor ``(n, d)``, n ≥ 20.
        y: labels, ``(n)``.
        standardise: whether each input is brought to unit variance; wise where their units differ.
        classes: whether the labels are classes, instead of the rule above.
        measure: whether readouts are compared by cross-validation (:func:`measure_readouts`; up to a minute).
        width: neurons of the networks compared, at least one for each class.
        generator: orders samples, draws signs and networks; always the same numbers when absent.

    Returns:
        The report.

    Raises:
        ValueError: if shapes do not fit, values are missing or not finite, there are fewer than 20 samples, or inputs
            or labels do not vary.

    Example:
        >>> from symfield.onestep import PowerLaw, Target, aligned, hermite_link
        >>> S = PowerLaw(256, 0.5)
        >>> x, y = Target(hermite_link([0, 1, 1]), S, aligned(S)).draw(400, generator=random.generator(0))
        >>> report = diagnose(x, y)
        >>> report.expectation.winner, report.signal.information_exponent, round(report.spectrum.exponent, 1)
        ('trained layer', 1, 0.5)

    References:
        Wortsman & Loureiro 2025, arXiv 2510.04780; Ba et al. 2023 (openreview HlIAoCHDWW).
    """
    points, labels, count = read_table(x, y, classes)
    source = random.generator(0) if generator is None else generator
    points, labels = _unit_size(points), _unit_size(labels)
    order = torch.randperm(len(points), generator=source, device=source.device).to(points.device)
    points, labels = points[order], labels[:, order]
    varying = points.std(0) > 1e-12 * points.abs().amax(0)
    if not bool(varying.any()):
        raise ValueError("expected inputs that vary, received constant ones")
    points = points[:, varying] - points[:, varying].mean(0)
    spread = points.std(0)
    if standardise:
        points = points / spread
    points = points / points.square().sum(-1).mean().sqrt() * points.shape[1] ** 0.5
    labels = labels - labels.mean(-1, keepdim=True)
    labels = labels / labels.square().mean(-1).sum().sqrt()
    scales = float(spread.max() / spread.min())
    seen, heard = spectrum(points), signal(points, labels, generator=source)
    n_half, n_weak = _needs(seen, heard)
    return Diagnosis(
        samples=len(points),
        dim=points.shape[1],
        dropped=int((~varying).sum()),
        standardised=standardise,
        scales=scales,
        classes=count,
        spectrum=seen,
        signal=heard,
        n_half=n_half,
        n_weak=n_weak,
        expectation=_expect(len(points), seen, heard, n_half, _units(scales, standardise)),
        measured=measure_readouts(points, labels, classes=count is not None, width=width, generator=source)
        if measure
        else None,
    )


@dataclass(frozen=True, eq=False)
class _Diagonal(Covariance):
    """A covariance in its own eigenbasis."""

    dim: int
    values: Tensor

    def eigenvalues(self) -> Float[Tensor, " d"]:
        return self.values


def _unit_size(numbers: Tensor) -> Tensor:
    """Divided by the largest, so that squares neither overflow nor vanish."""
    largest = numbers.abs().max()
    return numbers / largest if float(largest) > 0 else numbers


def _needs(seen: Spectrum, heard: Signal) -> tuple[float | None, float | None]:
    """n_half and n_weak."""
    if heard.n_half is not None and heard.dimension is not None:
        # cos² = (q + null)/(q + 1) with q = n/n_half and null = 1/r_s; it is 2 null at q = null/(1 - 2 null).
        null = 1 / heard.dimension
        return heard.n_half, heard.n_half * null / (1 - 2 * null) if null < 0.5 else math.inf
    if heard.information_exponent == 2:
        covariance: Covariance = _Diagonal(len(seen.eigenvalues), seen.eigenvalues.cpu())
        if seen.is_power_law and seen.exponent is not None:
            covariance = PowerLaw(len(seen.eigenvalues), seen.exponent)
        needs = predicted_samples(Target(hermite_link([0, 0, 1]), covariance, aligned(covariance)))
        return float(needs.n_half.euclidean), float(needs.n_weak.euclidean)
    return None, None


def _expect(n: int, seen: Spectrum, heard: Signal, n_half: float | None, units: list[str]) -> Expectation:
    """The table of the module's docstring."""
    if heard.dimension is None and not heard.nonlinear and heard.linear > _SEEN_BY_RIDGE / math.sqrt(n):
        share = f"linear regression explains {heard.linear:.0%} of the variance"
        hidden = (f"{share}, though a single gradient does not see it in this many samples",)
        return Expectation("linear", False, hidden, (*units, "the rest is noise, or too few samples to tell"))
    if n_half is None and not heard.nonlinear:
        unseen = ("neither a linear nor a curved part of the labels is seen in this many samples",)
        return Expectation("none", False, unseen, (*units, "more samples would not show more"))
    if heard.dimension is None and heard.information_exponent is None:
        found = ("labels have neither a linear nor a quadratic part that is seen, but a kernel sees another one",)
        return Expectation("kernel", False, found, (*units, "what the kernel sees is large enough to matter"))
    assumptions = [
        *units,
        "inputs are roughly Gaussian, as far as second moments of gradients and kernels go",
        "labels depend on few directions of the inputs",
    ]
    if heard.dimension is None or n_half is None:
        degree_two = seen.r1**2
        reasons = [
            "labels have no linear part; their quadratic part is what a gradient sees first",
            f"both a gradient step and a kernel see it from about r1² = {_short(degree_two)} samples; here n = {n}",
        ]
        winner = "kernel" if n >= degree_two else "random features"
        assumptions.append("labels lie along leading directions; elsewhere more samples are needed")
        return Expectation(winner, _close(n, degree_two), tuple(reasons), tuple(assumptions))
    if not heard.nonlinear or heard.linear > _ALMOST_LINEAR:
        share = f"linear regression explains {heard.linear:.0%} of the variance"
        beyond = "nothing curved is seen in what it leaves" if not heard.nonlinear else "little is left"
        rest = f"the other {1 - heard.linear:.0%} are noise, or too few samples to tell; measure=True asks the data"
        return Expectation("linear", False, (f"{share}; {beyond}",), (*units, rest))
    degree = 2 if heard.curved else 3
    catches_up = _CATCHES_UP * heard.dimension**degree
    power = f"3 r_s{'²' if degree == 2 else '³'} = {_short(catches_up)}"
    reasons = [
        f"a gradient step sees the linear part from about n_half = {_short(n_half)} samples; here n = {n}",
        f"a kernel sees degree two well enough to win from about {power} samples"
        if degree == 2
        else f"a part beyond degree two is seen; a kernel sees degree three well from about {power} samples",
    ]
    if n >= catches_up:
        winner = "kernel"
    elif n >= n_half:
        winner = "trained layer"
    else:
        winner = "random features"
    if heard.dimension > 3 * seen.r1:
        reasons.append(
            f"labels see r_s = {_short(heard.dimension)}, more than r1 = {_short(seen.r1)}: they do not lie along the "
            "leading directions, and one step finds S w* rather than w*"
        )
    assumptions.append("kernel and network see the same samples; the network is no wider than n")
    if not heard.curved:
        assumptions.append("what lies beyond degree two is large enough to matter; measure=True asks the data")
    close = not heard.curved or _close(n, n_half, catches_up)
    return Expectation(winner, close, tuple(reasons), tuple(assumptions))


def _units(scales: float, standardise: bool) -> list[str]:
    """What is assumed of the units of the inputs."""
    if standardise or scales <= _SCALES:
        return []
    return [f"inputs share one unit, though their scales differ by {scales:.0f}; standardise=True does without this"]


def _close(n: int, *boundaries: float) -> bool:
    return any(1 / _CLOSE < n / boundary < _CLOSE for boundary in boundaries)


def _plus_minus(value: float, error: float) -> str:
    return f"{_short(value)} ± {error:.2g}"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 or not math.isfinite(value) else f"{value:,.0f}".replace(",", " ")


def _plain(value: Any) -> Any:
    """Numbers that JSON cannot hold become words; tuples become lists."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
