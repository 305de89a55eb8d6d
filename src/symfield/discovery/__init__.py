"""From data to its symmetry, and what to do with it.

- :class:`Dataset`, :func:`dataset`: inputs and targets, checked once.
"""

from symfield.discovery.dataset import Dataset, dataset

__all__ = ["Dataset", "dataset"]
