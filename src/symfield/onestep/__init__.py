"""One gradient step of a two-layer network on structured Gaussian inputs: what does it see, and from how many samples?

References:
    Wortsman & Loureiro 2024, seminar *Feature learning with structured covariance*; arXiv 2510.04780 for kernels.
"""

from symfield.onestep.covariances import Covariance, Given, Isotropic, PowerLaw, Spiked, estimated
from symfield.onestep.directions import aligned, decorrelated, random_directions, tail
from symfield.onestep.links import Link, function_link, gaussian_panels, hermite_link, hermite_values
from symfield.onestep.students import Students, random_students
from symfield.onestep.targets import Stream, Target

__all__ = [
    "Covariance",
    "Given",
    "Isotropic",
    "Link",
    "PowerLaw",
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
    "random_directions",
    "random_students",
    "tail",
]
