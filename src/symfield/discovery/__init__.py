"""From data to its symmetry, and what to do with it.

- :class:`Dataset`, :func:`dataset`: inputs and targets, checked once.
- :func:`discover_group`: the group of a data set, with every generator judged on held-out samples.
"""

from symfield.discovery.dataset import Dataset, dataset
from symfield.discovery.checks import Check
from symfield.discovery.fits import Fit, Fitter, Kernel, Network, Polynomial
from symfield.discovery.groups import DiscoveredGroup, discover_group

__all__ = [
    "Dataset",
    "dataset",
    "discover_group",
    "DiscoveredGroup",
    "Check",
    "Fit",
    "Fitter",
    "Polynomial",
    "Kernel",
    "Network",
]
