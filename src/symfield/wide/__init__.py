"""Infinitely wide two-layer ReLU networks on the population risk: exact kernels, exact flows, reduced dynamics.

References:
    Hajjar & Chizat 2023, *Symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from symfield.wide.flow import (
    Neurons,
    WideTrajectory,
    even_norm,
    predict,
    risk,
    sphere_neurons,
    velocity,
    wide_flow,
)
from symfield.wide.inputs import Gaussian, Inputs, UnitSphere
from symfield.wide.kernels import (
    absolute_kernel,
    absolute_kernel_gradient,
    arc_cosine,
    arc_cosine_force,
    arc_cosine_gradient,
    arc_cosine_pullback,
    profile,
    profile_slope,
)
from symfield.wide.odd_functions import OddTarget, cubic, odd_polynomial
from symfield.wide.sampled_target import SampledTarget
from symfield.wide.symmetry import (
    Symmetries,
    Symmetry,
    SymmetryError,
    closed_under,
    preserved_symmetries,
    symmetry_error,
)
from symfield.wide.targets import Radial, ReLUTeacher, Target, radial_correlation, radial_mass

__all__ = [
    "arc_cosine",
    "arc_cosine_gradient",
    "arc_cosine_force",
    "arc_cosine_pullback",
    "absolute_kernel",
    "absolute_kernel_gradient",
    "profile",
    "profile_slope",
    "Inputs",
    "Gaussian",
    "UnitSphere",
    "Target",
    "ReLUTeacher",
    "Radial",
    "OddTarget",
    "odd_polynomial",
    "cubic",
    "SampledTarget",
    "radial_mass",
    "radial_correlation",
    "Neurons",
    "WideTrajectory",
    "sphere_neurons",
    "predict",
    "risk",
    "velocity",
    "wide_flow",
    "even_norm",
    "Symmetry",
    "Symmetries",
    "SymmetryError",
    "preserved_symmetries",
    "closed_under",
    "symmetry_error",
]
