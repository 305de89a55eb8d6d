"""One gradient step of a two-layer network on structured Gaussian inputs: what does it see, and from how many samples?

References:
    Wortsman & Loureiro 2024, seminar *Feature learning with structured covariance*; arXiv 2510.04780 for kernels.
"""

from symfield.onestep.alignment import (
    SMALLEST_SAMPLE,
    Overlaps,
    SquareCosines,
    initial_overlap,
    null_overlap,
    overlaps,
    sample_crossing,
)
from symfield.onestep.baselines import FeatureReadout, random_features_readout, trained_readout
from symfield.onestep.cosines import expected_square_cosine
from symfield.onestep.covariances import Covariance, Given, Isotropic, PowerLaw, Spiked, estimated
from symfield.onestep.diagnosis import Diagnosis, Expectation, diagnose
from symfield.onestep.directions import aligned, decorrelated, random_directions, tail
from symfield.onestep.kernel_ridge import KernelRidge, ReLUKernel, kernel_ridge
from symfield.onestep.links import Link, function_link, gaussian_panels, hermite_link, hermite_values
from symfield.onestep.measured import Measured, measure_readouts
from symfield.onestep.moments import GradientMoments, gradient_moments, link_moments
from symfield.onestep.predictions import (
    GradientConstants,
    LeadingOrder,
    SampleNeeds,
    gradient_constants,
    leading_order,
    predicted_overlap,
    predicted_samples,
)
from symfield.onestep.ridge import Ridge, RidgeReadout, lambda_grid, ridge_readout
from symfield.onestep.rules import Rule, batch_normalised, giant, plain, spherical
from symfield.onestep.signals import Signal, signal
from symfield.onestep.spectra import Spectrum, spectrum
from symfield.onestep.step import (
    GradientStep,
    Loss,
    correlation_loss,
    gradient_step,
    gradient_step_on_sample,
    neuron_gradients,
    square_loss,
)
from symfield.onestep.students import Students, random_students
from symfield.onestep.targets import Stream, Target

__all__ = [
    "Covariance",
    "Diagnosis",
    "Expectation",
    "FeatureReadout",
    "Given",
    "GradientConstants",
    "GradientMoments",
    "GradientStep",
    "Isotropic",
    "KernelRidge",
    "LeadingOrder",
    "Link",
    "Loss",
    "Measured",
    "Overlaps",
    "PowerLaw",
    "ReLUKernel",
    "Ridge",
    "RidgeReadout",
    "Rule",
    "SMALLEST_SAMPLE",
    "SampleNeeds",
    "Signal",
    "Spectrum",
    "Spiked",
    "SquareCosines",
    "Stream",
    "Students",
    "Target",
    "aligned",
    "batch_normalised",
    "correlation_loss",
    "decorrelated",
    "diagnose",
    "estimated",
    "expected_square_cosine",
    "function_link",
    "gaussian_panels",
    "giant",
    "gradient_constants",
    "gradient_moments",
    "gradient_step",
    "gradient_step_on_sample",
    "hermite_link",
    "hermite_values",
    "initial_overlap",
    "kernel_ridge",
    "lambda_grid",
    "leading_order",
    "link_moments",
    "measure_readouts",
    "neuron_gradients",
    "null_overlap",
    "overlaps",
    "plain",
    "predicted_overlap",
    "predicted_samples",
    "random_directions",
    "random_features_readout",
    "random_students",
    "ridge_readout",
    "sample_crossing",
    "signal",
    "spectrum",
    "spherical",
    "square_loss",
    "tail",
    "trained_readout",
]
