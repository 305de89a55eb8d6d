"""What each ATen operator does to the symmetries of its operands: one function for each family of operators.

To teach a new operator, write a function in the module of its family,

    @rule("name_of_the_operator")
    def name(inference, node, x, ...):
        ...
        return Value(axes)

that takes the arguments of the operator, with tensors as :class:`Value`, says what the axes have to do with one
another (:meth:`Inference.same`, ``dual``, ``rigid``, ``product``, ...), and returns the axes of the result; then add a
model that uses it to the zoo of the tests, whose certificate tries the answer at random.

An operator without a rule fixes all axes it touches, and the report names it.
"""

from __future__ import annotations

from typing import Any

from symfield.weightspace import (  # noqa: F401  (the modules register their rules)
    rules_index,
    rules_linear,
    rules_norm,
    rules_pointwise,
    rules_recurrent,
    rules_rotary,
    rules_shape,
)
from symfield.weightspace.inference import Inference
from symfield.weightspace.rulebook import RULES
from symfield.weightspace.rules_rotary import find_rotary

__all__ = ["RULES", "prepare"]


def prepare(inference: Inference) -> None:
    """Recognise groups of operators that one rule takes together.

    Args:
        inference: before its walk.
    """
    found: dict[Any, tuple[str, tuple[Any, ...]]] = {}
    for node in inference.graph.nodes:
        if node.op in {"add", "view_as_real"} and (match := find_rotary(node)) is not None:
            name, args, inner = match
            found[node] = (name, args)
            inference.absorbed.update(inner)
    inference.replaced.update(found)
