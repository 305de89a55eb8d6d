"""Units σ_*(x; z), ensembles of them, and the group's action on their parameters.

References:
    Maass Martínez & Fontbona 2024, *Symmetries in Overparametrized Neural Networks: A Mean-Field View*,
    arXiv 2405.19995v3.
"""

from symfield.units.action import JointEquivarianceError, action
from symfield.units.activations import Activation, erf, identity, relu, sigmoid, softplus, tanh
from symfield.units.dense import HiddenUnit, PointwiseUnit, ReLUUnit
from symfield.units.module import ModuleUnit
from symfield.units.unit import Unit, check_shapes, ensemble

__all__ = [
    "Unit",
    "ensemble",
    "PointwiseUnit",
    "HiddenUnit",
    "ReLUUnit",
    "ModuleUnit",
    "Activation",
    "sigmoid",
    "tanh",
    "relu",
    "erf",
    "identity",
    "softplus",
    "action",
    "JointEquivarianceError",
    "check_shapes",
]
