"""Infinitely wide two-layer ReLU networks on the population risk: exact kernels, exact flows, reduced dynamics.

References:
    Hajjar & Chizat 2023, *On the symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

from symfield.wide.cosines import arc_cosine_profile, arc_cosine_slope
from symfield.wide.flow import WideTrajectory, even_norm, risk, velocity, wide_flow
from symfield.wide.inputs import Gaussian, Inputs, UnitSphere
from symfield.wide.kernels import (
    absolute_kernel,
    absolute_kernel_gradient,
    arc_cosine,
    arc_cosine_force,
    arc_cosine_gradient,
    arc_cosine_pullback,
)
from symfield.wide.lifting import lift, lift_angles, reduce, to_angles
from symfield.wide.neurons import Neurons, predict, sphere_neurons
from symfield.wide.odd import OddFlow, odd_target_flow
from symfield.wide.odd_functions import OddTarget, cubic, odd_polynomial
from symfield.wide.odd_isotropic import (
    guaranteed_distance,
    isotropic_distance,
    isotropic_late_rate,
    isotropic_length,
    predictor_metric,
    sphere_mass,
    sphere_moments,
)
from symfield.wide.odd_moments import (
    linear_network_flow,
    moments_metric,
    pairing_defect,
    second_moments,
    second_moments_flow,
    second_moments_velocity,
)
from symfield.wide.radial import AngleCloud, RadialTrajectory, crossing_time, radial_flow, radial_risk, sphere_angles
from symfield.wide.reduced import ReducedTrajectory, low_dimensional_flow, reduced_risk, reduced_velocity
from symfield.wide.reduced_kernels import RadialKernel, direct_radial_kernel, radial_kernel
from symfield.wide.reduced_neurons import Reduced, reduced_predict, sphere_reduced
from symfield.wide.rotations import antipodal_directions, frame_directions, independent_directions
from symfield.wide.sampled_target import SampledTarget
from symfield.wide.subspace_target import SubspaceTarget
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
    "arc_cosine_profile",
    "arc_cosine_slope",
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
    "OddFlow",
    "odd_target_flow",
    "second_moments",
    "second_moments_velocity",
    "second_moments_flow",
    "moments_metric",
    "linear_network_flow",
    "pairing_defect",
    "sphere_mass",
    "sphere_moments",
    "predictor_metric",
    "isotropic_length",
    "isotropic_distance",
    "isotropic_late_rate",
    "guaranteed_distance",
    "SubspaceTarget",
    "Reduced",
    "ReducedTrajectory",
    "sphere_reduced",
    "low_dimensional_flow",
    "reduced_predict",
    "reduced_risk",
    "reduced_velocity",
    "AngleCloud",
    "RadialTrajectory",
    "sphere_angles",
    "radial_flow",
    "radial_risk",
    "crossing_time",
    "RadialKernel",
    "radial_kernel",
    "direct_radial_kernel",
    "reduce",
    "to_angles",
    "lift",
    "lift_angles",
    "independent_directions",
    "antipodal_directions",
    "frame_directions",
]
