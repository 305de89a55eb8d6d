"""One gradient step of a two-layer network on structured Gaussian inputs: what does it see, and from how many samples?

References:
    Wortsman & Loureiro 2024, seminar *Feature learning with structured covariance*; arXiv 2510.04780 for kernels.
"""

from symfield.onestep.covariances import Covariance, Given, Isotropic, PowerLaw, Spiked, estimated
from symfield.onestep.directions import aligned, decorrelated, random_directions, tail
from symfield.onestep.kernel_ridge import KernelRidge, ReLUKernel, kernel_ridge
from symfield.onestep.links import Link, function_link, gaussian_panels, hermite_link, hermite_values
from symfield.onestep.ridge import Ridge, RidgeReadout, lambda_grid, ridge_readout
from symfield.onestep.signals import Signal, signal
from symfield.onestep.spectra import Spectrum, spectrum
from symfield.onestep.students import Students, random_students
from symfield.onestep.targets import Stream, Target

__all__ = [
    "Covariance",
    "Given",
    "Isotropic",
    "KernelRidge",
    "Link",
    "PowerLaw",
    "ReLUKernel",
    "Ridge",
    "RidgeReadout",
    "Signal",
    "Spectrum",
    "Spiked",
    "Stream",
    "Students",
    "Target",
    "aligned",
    "decorrelated",
    "estimated",
    "function_link",
    "gaussian_panels",
    "hermite_link",
    "hermite_values",
    "kernel_ridge",
    "lambda_grid",
    "random_directions",
    "random_students",
    "ridge_readout",
    "signal",
    "spectrum",
    "tail",
]
