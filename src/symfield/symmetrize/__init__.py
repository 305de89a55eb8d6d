"""Make any map equivariant: one averaging operator over weighted frames, and data augmentation with the same sample.

References:
    Maass Martínez & Fontbona 2024, Section 2.3, arXiv 2405.19995v3.
    Kim et al. 2023, *Learning Probabilistic Symmetrization for Architecture Agnostic Equivariance*, arXiv 2306.02866v3.
"""

from symfield.symmetrize.canonical import Canonical, Sorted, canonical
from symfield.symmetrize.frames import Frame, Haar, Poses, Uniform, haar, uniform
from symfield.symmetrize.operator import Symmetrized, augment, symmetrize

__all__ = [
    "symmetrize",
    "Symmetrized",
    "augment",
    "uniform",
    "haar",
    "canonical",
    "Frame",
    "Poses",
    "Uniform",
    "Haar",
    "Canonical",
    "Sorted",
]
