"""One gradient step of a two-layer network on structured Gaussian inputs: what does it see, and from how many samples?

References:
    Wortsman & Loureiro 2024, seminar *Feature learning with structured covariance*; arXiv 2510.04780 for kernels.
"""

__all__: list[str] = []
