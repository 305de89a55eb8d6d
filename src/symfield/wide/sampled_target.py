"""Any target function, through nodes of a quadrature rule or a large sample; the network's own part stays exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from symfield.quadrature import Nodes
from symfield.typing import Float, Tensor
from symfield.wide.inputs import Inputs
from symfield.wide.targets import Target

__all__ = ["SampledTarget", "evaluate", "require_nodes"]

_ENTRIES = 2**22


@dataclass(frozen=True, eq=False, repr=False)
class SampledTarget(Target):
    """Any function, integrated on nodes of the inputs' law.

    Only E f*(X) relu⟨b, X⟩ and E f*² are taken on the nodes; the network's own kernel stays exact. The kink of the ReLU
    sets the error: about 1/size for scrambled Sobol points, 1/√size for a sample. A risk below this error can come out
    negative. The gradient jumps where a neuron's boundary crosses a node, so flows need a fixed step.

    Attributes:
        function: f*, ``(*b, d) -> (*b)``, without gradients; it is called on the nodes, which are float64.
        nodes: weighted nodes, for example ``inputs.nodes(...)`` or ``Nodes.sample(x)``.

    Raises:
        ValueError: if the function's values have another shape or are not finite.

    Example:
        >>> from symfield.wide import Gaussian
        >>> target = SampledTarget(lambda x: x[..., 0].cos(), Gaussian(1).nodes(40))
        >>> abs(target.energy(Gaussian(1)) - (1 + math.exp(-2)) / 2) < 1e-12
        True
    """

    smooth: ClassVar[bool] = False
    function: Callable[[Tensor], Tensor]
    nodes: Nodes
    _values: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", evaluate(self.function, self.nodes.x))

    def __repr__(self) -> str:
        return f"SampledTarget({self.nodes!r})"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Dimension d of the inputs."""
        return self.nodes.dim

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """f*(x)."""
        return self.function(x)

    def force(
        self, b: Float[Tensor, "*r n d"], inputs: Inputs
    ) -> tuple[Float[Tensor, "*r n"], Float[Tensor, "*r n d"]]:
        """Σ_q w_q f*(x_q) relu⟨b, x_q⟩ over the nodes, and its gradient."""
        super().require(inputs)
        gradient = torch.zeros_like(b)
        for x, values in self._chunks(b):
            gradient += ((b @ x.mT > 0).to(b) * values) @ x
        return (b * gradient).sum(-1), gradient

    def energy(self, inputs: Inputs) -> float:
        """Σ_q w_q f*(x_q)²."""
        self.require(inputs)
        return float(self.nodes.weight @ self._values.square())

    def require(self, inputs: Inputs) -> None:
        """Refuse inputs that the nodes do not belong to.

        Args:
            inputs: law of X.

        Raises:
            ValueError: as :func:`require_nodes`.
        """
        require_nodes(self.nodes, inputs)

    def _chunks(self, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, _ENTRIES // max(b[..., 0].numel(), 1))
        x, weighted = self.nodes.x.to(b), (self.nodes.weight * self._values).to(b)
        yield from zip(x.split(size), weighted.split(size), strict=True)


def evaluate(function: Callable[[Tensor], Tensor], x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Values of a user's function, checked.

    Args:
        function: f*, ``(*b, d) -> (*b)``.
        x: points, ``(b, d)``.

    Returns:
        Values, float64 ``(b)``.

    Raises:
        ValueError: if the function fails, or there is not one finite number for every point.

    Example:
        >>> evaluate(lambda x: x[..., 0], torch.tensor([[1.0, 2.0]]))
        tensor([1.], dtype=torch.float64)
    """
    try:
        with torch.no_grad():
            values = function(x)
    except RuntimeError as error:
        raise ValueError(
            f"expected a function (*b, d) -> (*b) of {x.dtype} points {tuple(x.shape)}, received an error from it: "
            f"{error}; a module in single precision needs .double()"
        ) from error
    if not isinstance(values, Tensor) or values.shape != x.shape[:-1]:
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"expected a function (*b, d) -> (*b) with one number a point, received {found} for {len(x)}")
    if not torch.isfinite(values).all():
        raise ValueError("expected finite values of the target, received NaN or infinity")
    return values.double()


def require_nodes(nodes: Nodes, inputs: Inputs) -> None:
    """Refuse nodes that are clearly not of the inputs' law: their second moments tell.

    Equal weights are taken for those of a sample, and granted a sampling error; others for those of a rule.

    Args:
        nodes: weighted nodes.
        inputs: law of X.

    Raises:
        ValueError: if dimensions differ, or E xxᵀ over the nodes is farther from S than 5% (and five standard errors of
            a sample).

    Example:
        >>> from symfield.wide import Gaussian
        >>> require_nodes(Gaussian(2).nodes(100), Gaussian(2))
    """
    if nodes.dim != inputs.dim:
        raise ValueError(f"expected nodes of dimension {inputs.dim} for {inputs!r}, received {nodes!r}")
    s = inputs.covariance(nodes.x)
    found = (nodes.weight.unsqueeze(-1) * nodes.x).mT @ nodes.x
    off = float((found - s).norm() / s.norm())
    equal = bool((nodes.weight - nodes.weight[0]).abs().max() <= 1e-12)
    # for a Gaussian sample E|Ŝ − S|² = (|S|² + (tr S)²)/size
    standard = math.sqrt((1 + float(s.trace() / s.norm()) ** 2) / len(nodes)) if equal else 0.0
    if off > 0.05 + 5 * standard:
        raise ValueError(
            f"expected nodes of {inputs!r}, received {nodes!r} whose second moments are off by {off:.1%}; use "
            "inputs.nodes(...) or a sample of the inputs"
        )
