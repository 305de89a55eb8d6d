"""Infinitely wide two-layer ReLU networks on the population risk: exact kernels, exact flows, reduced dynamics.

References:
    Hajjar & Chizat 2023, *Symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from symfield.wide.inputs import Gaussian, Inputs, UnitSphere
from symfield.wide.kernels import (
    absolute_kernel,
    absolute_kernel_gradient,
    arc_cosine,
    arc_cosine_force,
    arc_cosine_gradient,
    profile,
    profile_slope,
)

__all__ = [
    "arc_cosine",
    "arc_cosine_gradient",
    "arc_cosine_force",
    "absolute_kernel",
    "absolute_kernel_gradient",
    "profile",
    "profile_slope",
    "Inputs",
    "Gaussian",
    "UnitSphere",
]
