"""Many small networks at once: one inner loop, interchangeable backends.

:class:`Program` says what a step does; :func:`advance` takes many steps with the fastest backend at hand. The backends
agree to 1e-12 in float64.

References:
    Maass & Fontbona 2024, Eqs. (1) and (5), Section 2.3, arXiv 2405.19995v3.
"""

from symfield.compiler import CompilationError
from symfield.meanfield.kernels.batched import advance_batched
from symfield.meanfield.kernels.dispatch import advance, fastest
from symfield.meanfield.kernels.native import Status, advance_native, arithmetic_limit, status
from symfield.meanfield.kernels.program import ACTIVATIONS, Backend, Program

__all__ = [
    "ACTIVATIONS",
    "Backend",
    "CompilationError",
    "Program",
    "Status",
    "advance",
    "advance_batched",
    "advance_native",
    "arithmetic_limit",
    "fastest",
    "status",
]
