"""Infinitely wide two-layer ReLU networks on the population risk: exact kernels, exact flows, reduced dynamics.

References:
    Hajjar & Chizat 2023, *Symmetries in the dynamics of wide two-layer neural networks*, arXiv 2211.08771.
"""

__all__: list[str] = []
