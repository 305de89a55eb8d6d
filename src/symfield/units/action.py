"""Joint equivariance σ_*(ρ_g x; M_g z) = ρ̂_g σ_*(x; z): checked, never assumed."""

from __future__ import annotations

from symfield.groups import Representation
from symfield.testing import joint_equivariance_error
from symfield.typing import Generator
from symfield.units.dense import require_dims
from symfield.units.unit import Unit

__all__ = ["JointEquivarianceError", "action"]

_TOLERANCE = 1e-8


class JointEquivarianceError(ValueError):
    """A unit and a group that do not fit: σ_*(ρ_g x; M_g z) ≠ ρ̂_g σ_*(x; z).

    Attributes:
        violation: largest relative difference that was measured.
    """

    def __init__(self, message: str, violation: float) -> None:
        super().__init__(message)
        self.violation = violation

    def __reduce__(self) -> tuple[type[JointEquivarianceError], tuple[str, float]]:
        return type(self), (str(self), self.violation)


def action(
    unit: Unit,
    rep_in: Representation,
    rep_out: Representation,
    *,
    generator: Generator,
    hidden: object | None = None,
    parameters: Representation | None = None,
) -> Representation:
    """The representation M of the group on a unit's parameters, after a check that the unit is jointly equivariant.

    Args:
        unit: the unit σ_*.
        rep_in: ρ on inputs, dim d.
        rep_out: ρ̂ on outputs, dim o.
        generator: source of the random x, z, g of the check.
        hidden: representation on hidden coordinates, for units that have them.
        parameters: M itself, for units whose action cannot be derived.

    Returns:
        M, a representation on R^p.

    Raises:
        JointEquivarianceError: if the check fails; the message gives the measured violation.
        ValueError: if dimensions do not fit.

    Example:
        >>> import torch
        >>> from symfield.groups import Cyclic, Defining
        >>> from symfield.units import PointwiseUnit, sigmoid
        >>> swap = Defining(Cyclic(2))
        >>> action(PointwiseUnit(sigmoid, 2, 2), swap, swap, generator=torch.Generator()).dim
        4

    References:
        Maass & Fontbona 2024, Section 2.3 and Proposition 11, arXiv 2405.19995v3.
    """
    require_dims(unit, rep_in, rep_out)
    rep = unit.representation(rep_in, rep_out, hidden) if parameters is None else parameters
    if rep.dim != unit.dim:
        raise ValueError(f"expected a representation of dim {unit.dim} on the parameters, received {rep} of {rep.dim}")
    violation = joint_equivariance_error(unit, rep_in, rep_out, rep, generator=generator)
    if not violation <= _TOLERANCE:
        raise JointEquivarianceError(
            f"{unit!r} is not jointly equivariant under {rep_in.group} acting by {rep_in} on inputs and {rep_out} on "
            f"outputs: relative violation {violation:.2e}, expected at most {_TOLERANCE:.0e}; a pointwise activation "
            "commutes with permutations (odd ones also with signs): choose such an output or hidden representation",
            violation,
        )
    return rep
