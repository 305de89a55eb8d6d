"""Layer norms as root-mean-square norms: the same function, with a larger symmetry.

With C = 1 − 11ᵀ/d, a layer norm along d units is

    LN(x) = γ ⊙ C x / √(|C x|²/d + ε) + β.

The graph of the model says when three steps are exact, for any module:

1. *Centring.* Where every tensor that writes into the stream x can be centred, W → C W, b → C b, the stream has mean
   zero everywhere, C x = x, and the norm is a root-mean-square norm with the same ε.
2. *Gain.* Where all that reads a norm are linear maps by tensors of the model, W → W diag(γ).
3. *Bias.* There also b → b + W β. Reading maps are centred too, since they cannot see a mean.

A stream of root-mean-square norms may be turned by any orthogonal matrix, one of layer norms permuted only. A tensor
with two uses that ask for different values, such as an embedding tied to the head, becomes two, or the step is left
out. What cannot be folded is named with the reason: a norm after the addition, whose output stays in the stream; a
writer that is no linear map; an operator that reads the stream beside its norms.

References:
    Ashkboos et al. 2024, SliceGPT, Section 3, arXiv 2401.15024v2 (centred writers). Theus et al. 2025, arXiv
    2506.22712v2 (the orthogonal symmetry of the folded stream). The derivation from the graph: ours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from symfield import random
from symfield.typing import Float, Params, Tensor
from symfield.weightspace.certify import _Bench
from symfield.weightspace.folding_plan import Plan, Steps
from symfield.weightspace.symmetry import ParameterSymmetry
from symfield.weightspace.tracing import Example, trace

__all__ = ["Folded", "FoldedNorm", "KeptNorm", "RootMeanSquare", "fold_norms"]


class FoldedNorm(NamedTuple):
    """A layer norm that became a root-mean-square norm.

    Attributes:
        module: its path.
        reads: weights that took its gain and bias.
        kept: why gain and bias stay in the norm; empty where they are folded.
    """

    module: str
    reads: tuple[str, ...]
    kept: str = ""

    def __str__(self) -> str:
        if self.kept:
            return f"{self.module}: centred; gain and bias stay: {self.kept}"
        return f"{self.module}: centred; gain and bias in {', '.join(self.reads) if self.reads else 'nothing'}"


class KeptNorm(NamedTuple):
    """A layer norm that stays.

    Attributes:
        module: its path, or the operator where no module is its own.
        reason: why.
    """

    module: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module}: stays a layer norm: {self.reason}"


@dataclass(frozen=True)
class Folded:
    """An equivalent model.

    Attributes:
        model: a copy with other norms and weights.
        norms: layer norms that became root-mean-square norms.
        kept: layer norms that stay, with reasons.
        untied: names of tensors that shared their values with another one and no longer do.
        added: names of biases that the model did not have.
        change: largest relative change of an output on several inputs.
        tolerance: what round-off explains.
    """

    model: nn.Module = field(repr=False)
    norms: tuple[FoldedNorm, ...]
    kept: tuple[KeptNorm, ...]
    untied: tuple[str, ...]
    added: tuple[str, ...]
    change: float
    tolerance: float

    @property
    def complete(self) -> bool:
        """Whether no layer norm is left."""
        return not self.kept

    def __str__(self) -> str:
        lines = [
            f"{len(self.norms)} of {len(self.norms) + len(self.kept)} layer norms are root-mean-square norms now; "
            f"outputs change by {self.change:.1e} (tolerance {self.tolerance:.0e})"
        ]
        lines += [str(item) for item in (*self.norms, *self.kept)]
        lines += [f"no longer tied: {name}" for name in self.untied]
        lines += [f"new bias: {name}" for name in self.added]
        return "\n".join(lines)


class RootMeanSquare(nn.RMSNorm):
    """A root-mean-square norm that may have a bias; what a layer norm becomes.

    Args:
        shape: (d,), of the normalised axis.
        eps: added to the mean square.
        gain: whether there is a gain, one at first.
        bias: whether there is a bias, zero at first.
    """

    bias: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], eps: float, *, gain: bool, bias: bool) -> None:
        super().__init__(shape, eps=eps, elementwise_affine=gain)
        self.register_parameter("bias", nn.Parameter(torch.zeros(shape)) if bias else None)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Divide by the root mean square of the last axis, multiply by the gain, add the bias.

        Args:
            x: shape ``(*batch, d)``.

        Returns:
            The same shape.
        """
        normal = super().forward(x)
        return normal if self.bias is None else normal + self.bias


def fold_norms(model: nn.Module, example: Example, *, untie: bool | None = None) -> Folded:
    """A model with the same function whose layer norms are root-mean-square norms, as far as its graph allows.

    Gains and biases of the norms go into the linear maps that read them, means out of the tensors that write to the
    stream. :func:`symmetries` of the result finds the orthogonal matrices that turn the stream. The two functions agree
    in eval mode; in training, dropout in the stream breaks the centring.

    Args:
        model: any module that can be traced; it is not modified.
        example: one tensor, a tuple of positional arguments, or a dict of keyword arguments.
        untie: whether a tensor whose uses ask for different values may become two. True always separates a use
            that reads a norm from one that writes to a stream, so that models of one architecture fold alike; False
            leaves the step out instead; None separates where the values of this model ask for it.

    Returns:
        The model, what was done, and what was not.

    Raises:
        Untraceable: if the model cannot be written as a graph.
        RuntimeError: if the folded model computes something else, which is an internal error.

    Example:
        >>> from symfield.weightspace import symmetries
        >>> class Residual(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.into, self.norm = nn.Linear(3, 8), nn.LayerNorm(8)
        ...         self.up, self.down = nn.Linear(8, 5), nn.Linear(5, 8)
        ...         self.last, self.out = nn.LayerNorm(8), nn.Linear(8, 2)
        ...     def forward(self, x):
        ...         x = self.into(x)
        ...         x = x + self.down(self.up(self.norm(x)).relu())
        ...         return self.out(self.last(x))
        >>> model, x = Residual(), torch.randn(4, 3)
        >>> folded = fold_norms(model, x)
        >>> [norm.reads for norm in folded.norms], folded.complete
        ([('up.weight',), ('out.weight',)], True)
        >>> [f.group for f in symmetries(folded.model, x).factors if f.kind == "orthogonal"]
        ['O(8)']
    """
    graph = trace(model, example)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    steps = Plan(graph, model).settle({n: t.double() if t.is_floating_point() else t for n, t in state.items()}, untie)
    folded = _rebuilt(model, steps, state, wide=False)
    # Round-off of the weights is no part of the claim: the test compares what both are in float64.
    before = _outputs(model, example)
    after = _outputs(
        _rebuilt(copy.deepcopy(model).double(), steps, state, wide=True) if before.double else folded, example
    )
    change = max((_difference(a, b) for a, b in zip(after.values, before.values, strict=True)), default=0.0)
    tolerance = 1e-9 if before.double and after.double else 1e-3
    if not change <= tolerance:
        raise RuntimeError(
            f"internal error: folding {type(model).__name__} changed an output by {change:.1e}; please report it"
        )
    done = tuple(FoldedNorm(path, norm.reads, norm.stays) for path, norm in steps.norms.items())
    kept = tuple(KeptNorm(path, reason) for path, reason in steps.kept.items())
    return Folded(folded, done, kept, steps.untied, steps.added, change, tolerance)


def _rebuilt(model: nn.Module, steps: Steps, state: Params, *, wide: bool) -> nn.Module:
    """A copy of the model with the new norms and values."""
    folded = copy.deepcopy(model)
    made: dict[tuple[int, str], nn.Parameter] = {}
    for name, value in steps.values.items():
        path, _, last = name.rpartition(".")
        holder = folded.get_submodule(path)
        old = getattr(holder, last, None)
        like = next(iter(state.values())) if old is None else old
        fresh = value.to(value if wide else like)
        if old is not None and not isinstance(old, nn.Parameter):
            setattr(holder, last, fresh)
            continue
        needed = True if old is None else old.requires_grad
        key = (id(value), str(fresh.dtype))
        made.setdefault(key, nn.Parameter(fresh, requires_grad=needed))
        setattr(holder, last, made[key])
    for path, given in steps.norms.items():
        old_norm = folded.get_submodule(path)
        norm = RootMeanSquare(given.shape, given.eps, gain=given.gain is not None, bias=given.bias is not None)
        for last, vector in (("weight", given.gain), ("bias", given.bias)):
            if vector is not None:
                like = getattr(old_norm, last)
                fresh = vector.to(vector if wide else like)
                setattr(norm, last, nn.Parameter(fresh, requires_grad=like.requires_grad))
        norm.train(old_norm.training)
        above, _, last = path.rpartition(".")
        parent = folded.get_submodule(above)
        setattr(parent, last, norm)
        if isinstance(parent, nn.TransformerEncoderLayer):
            parent.activation_relu_or_gelu = 0  # its fused path in inference knows layer norms only
    config = getattr(folded, "config", None)
    if steps.untied and getattr(config, "tie_word_embeddings", False):
        config.tie_word_embeddings = False  # type: ignore[union-attr]
    return folded


class _Run(NamedTuple):
    """Outputs on all inputs."""

    values: list[Tensor]
    double: bool


def _outputs(model: nn.Module, example: Example) -> _Run:
    """Outputs of a model on the inputs of a certificate; the same ones for every model."""
    saved = model.state_dict()
    named = (*model.named_parameters(), *model.named_buffers())
    shapes = {name: tuple(tensor.shape) for name, tensor in named if name in saved}
    bench = _Bench(model, example, ParameterSymmetry((), {}, shapes), 3, random.generator(0))
    found = bench.outputs(bench.params, {})
    return _Run([output for outputs in found for output in outputs], bench.double)


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite):
        return float("inf")
    a, b = a[finite].double(), b[finite].double()
    return float((a - b).norm() / b.norm().clamp_min(1e-300)) if b.numel() else 0.0
