"""The certificate: every factor is applied at random, and the output must not change.

A freshly initialised model hides errors, because its biases are zero and its gains one. So the tests run at generic
parameters: those of the model, each multiplied and shifted by noise; the inputs are several draws like the example.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from symfield import random
from symfield.typing import Generator, Tensor
from symfield.weightspace.factors import Factor
from symfield.weightspace.layout import Concat as _Concat
from symfield.weightspace.layout import Piece, Product
from symfield.weightspace.report import Check
from symfield.weightspace.symmetry import ParameterSymmetry
from symfield.weightspace.tracing import Example, Untraceable, _quiet, arguments

__all__ = ["certify"]

_DRAWS = 100


def certify(
    model: nn.Module,
    example: Example,
    symmetry: ParameterSymmetry,
    *,
    inputs: int = 3,
    generator: Generator | None = None,
) -> ParameterSymmetry:
    """Test every factor of a symmetry, and leave out those that change the output.

    Each factor is drawn at random and applied at generic parameters near those of the model, in eval mode and float64;
    at the end an element of the whole group is applied at the model's own parameters. Inputs are the example and random
    tensors like it; integers stay in the range of the example.

    Args:
        model: the module; it is copied.
        example: as in :func:`symmetries`.
        symmetry: what to test.
        inputs: number of inputs of each test.
        generator: source of randomness; seed 0 when absent, so that a certificate can be repeated.

    Returns:
        The symmetry with a certificate in its report.

    Raises:
        ValueError: if the model's tensors hold NaN, or its outputs nothing finite or no entries.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from symfield.weightspace import symmetries
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> derived = symmetries(model, torch.zeros(3, 4), certificate=False)
        >>> certify(model, torch.zeros(3, 4), derived).report.certified
        True
    """
    generator = random.generator(0) if generator is None else generator
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise ValueError(f"tensor {name!r} holds NaN; repair or retrain the model, or pass certificate=False")
    bench = _Bench(model, example, symmetry, inputs, generator)
    checks: list[Check] = []
    rejected: list[Check] = []
    generic = bench.generic()
    reference = bench.outputs(generic, {})
    if not all(bool(output.isfinite().any()) for outputs in reference for output in outputs if output.numel()):
        raise ValueError("an output of the model holds no finite number on inputs like the example; check the example")
    if reference[0] and not any(output.numel() for outputs in reference for output in outputs):
        raise ValueError("the outputs of the model have no entries on the example; give one with at least one row")
    tolerance = bench.tolerance(generic, reference)
    for factor in symmetry.factors:
        element = {factor.name: _moving(factor, generator)}
        check = Check(factor.name, _change(bench, generic, element, reference), tolerance, inputs)
        (checks if check.passed else rejected).append(check)
    result = symmetry if not rejected else _without(symmetry, [check.factor for check in rejected])
    own = bench.outputs(bench.params, {})
    element = {factor.name: _moving(factor, generator) for factor in result.factors}
    try:
        error = _change(bench, bench.params, element, own)
    except ValueError:  # a gain of the model is zero, where its factor is not defined
        error = _change(bench, generic, element, reference)
    whole = Check("all", error, bench.tolerance(bench.params, own), inputs)
    (checks if whole.passed else rejected).append(whole)
    if rejected:
        warnings.warn(
            f"internal error: {', '.join(f'{c.factor} ({c.error:.1e})' for c in rejected)} changed the output of "
            f"{type(model).__name__} and is left out; please report this model",
            stacklevel=2,
        )
    if not whole.passed:
        result = _without(result, [factor.name for factor in result.factors])
    return replace(result, report=replace(symmetry.report, checks=tuple(checks), rejected=tuple(rejected)))


def _change(
    bench: _Bench, params: Mapping[str, Tensor], element: Mapping[str, Tensor], reference: Sequence[Sequence[Tensor]]
) -> float:
    """The largest change of an output; infinite where the element does not even fit the tensors."""
    try:
        return bench.change(params, element, reference)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # what the reference did not raise
        return math.inf


def _moving(factor: Factor, generator: Generator) -> Tensor:
    """A random element that is not the identity, which would pass any test; small factors draw it often."""
    identity = factor.identity()
    for _ in range(_DRAWS):
        element = factor.random_element(generator=generator)
        if not torch.equal(element.to(identity), identity):
            return element
    raise AssertionError(f"{factor.name} drew nothing but its identity; a factor of one element is none")


class _InDouble(TorchFunctionMode):
    """Casts to lower precision, which many models make inside, stay in float64."""

    LOWER = frozenset({torch.float32, torch.float16, torch.bfloat16})

    def __init__(self) -> None:
        super().__init__()
        self.needed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in {Tensor.float, Tensor.half, Tensor.bfloat16}:
            self.needed = True
            return args[0].double()
        if any(item in self.LOWER for item in (*args, *kwargs.values()) if isinstance(item, torch.dtype)):
            self.needed = True
            args = tuple(self._raised(item) for item in args)
            kwargs = {key: self._raised(item) for key, item in kwargs.items()}
        return func(*args, **kwargs)

    def _raised(self, item: Any) -> Any:
        return torch.float64 if isinstance(item, torch.dtype) and item in self.LOWER else item


class _Bench:
    """A copy of the model in float64 with inputs, to evaluate at given parameters."""

    def __init__(
        self, model: nn.Module, example: Example, symmetry: ParameterSymmetry, inputs: int, generator: Generator
    ) -> None:
        self.symmetry, self.generator = symmetry, generator
        try:
            self.model = copy.deepcopy(model).eval()
        except RuntimeError as error:
            raise Untraceable(
                f"{type(model).__name__} cannot be copied for its certificate: {str(error).splitlines()[0]}\n"
                "What to do: use torch.nn.utils.parametrizations.weight_norm for the older weight_norm, or pass "
                "certificate=False"
            ) from error
        args, kwargs = arguments(example)
        self.flat, self.spec = pytree.tree_flatten((args, kwargs))
        self.double = True
        self.mode: _InDouble | None = _InDouble()
        try:
            self.model = self.model.double()
            self._evaluate(self._state(), self._double(self.flat))
        except (RuntimeError, TypeError, ValueError):
            self.model, self.double = copy.deepcopy(model).eval(), False
        if not self.double or self.mode is None or not self.mode.needed:
            self.mode = None
        self.params = self._state()
        self.inputs = [self._usable(i) for i in range(inputs)]

    def _usable(self, i: int) -> list[Any]:
        """A draw; with the example's own integers where the model wants them in their order, as offsets of bags."""
        drawn = self._draw(i)
        try:
            self._evaluate(self.params, drawn)
        except (RuntimeError, IndexError, ValueError):
            kept = self._double(self.flat)
            return [new if isinstance(new, Tensor) and new.is_floating_point() else old
                    for new, old in zip(drawn, kept, strict=True)]  # fmt: skip
        return drawn

    def _state(self) -> dict[str, Tensor]:
        names = set(self.symmetry.shapes)
        return {name: tensor.detach() for name, tensor in self.model.state_dict().items() if name in names}

    def _double(self, flat: Sequence[Any]) -> list[Any]:
        return [x.double() if isinstance(x, Tensor) and x.is_floating_point() and self.double else x for x in flat]

    def _draw(self, i: int) -> list[Any]:
        """The example itself, then draws with its mean and spread; integers with its values in another order."""
        if i == 0:
            return self._double(self.flat)
        drawn: list[Any] = []
        for item in self._double(self.flat):
            if not isinstance(item, Tensor) or item.dtype == torch.bool or item.numel() == 0:
                drawn.append(item)
            elif item.is_floating_point() and item.max() == item.min() and item.max() == 1:
                drawn.append(item)  # a mask
            elif item.is_floating_point():
                spread = item.std(correction=0) if item.numel() > 1 else item.abs().max()
                noise = random.normal(item.shape, generator=self.generator, like=item)
                drawn.append(item.mean() + noise * (spread if spread > 0 else 1.0))
            elif item.is_complex() or item.max() == item.min():
                drawn.append(item)
            else:
                values = item.flatten()
                chosen = torch.randint(values.numel(), item.shape, generator=self.generator).to(item.device)
                drawn.append(values[chosen])
        return drawn

    def generic(self) -> dict[str, Tensor]:
        """Parameters multiplied by e^{0.2 ξ} and shifted by a tenth of their spread; buffers only multiplied."""
        trained = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        moved = {}
        for name, tensor in self.params.items():
            if not tensor.is_floating_point():
                moved[name] = tensor
                continue
            factor = random.normal(tensor.shape, generator=self.generator, like=tensor, std=0.2).exp()
            shift = random.normal(tensor.shape, generator=self.generator, like=tensor)
            spread = 0.1 * tensor.square().mean().sqrt().clamp(0.1, 1.0) if tensor.numel() else 0.0
            moved[name] = tensor * factor + (spread * shift if name in trained else 0.0)
        return moved

    def outputs(self, params: Mapping[str, Tensor], element: Mapping[str, Tensor]) -> list[list[Tensor]]:
        """Outputs on all inputs; freed inputs and outputs are moved along."""
        found = []
        for flat in self.inputs:
            places = [i for i, item in enumerate(flat) if isinstance(item, Tensor)]
            tensors = {f"input.{k}": flat[i] for k, i in enumerate(places)}
            freed = {name: value for name, value in tensors.items() if name in self.symmetry.shapes}
            filled = list(flat)
            moved = self.symmetry._apply({**params, **freed}, element, copy=False)
            for k, i in enumerate(places):
                filled[i] = moved.pop(f"input.{k}", filled[i])
            found.append(self._evaluate(moved, filled))
        return found

    def change(
        self, params: Mapping[str, Tensor], element: Mapping[str, Tensor], reference: Sequence[Sequence[Tensor]]
    ) -> float:
        """Largest relative change of an output under an element."""
        worst = 0.0
        for new, old in zip(self.outputs(params, element), reference, strict=True):
            for k, (a, b) in enumerate(zip(new, old, strict=True)):
                name = f"output.{k}"
                freed = name in self.symmetry.shapes
                expected = self.symmetry._apply({**params, name: b}, element, copy=False)[name] if freed else b
                worst = max(worst, _relative(a, expected))
        return worst

    def tolerance(self, params: Mapping[str, Tensor], reference: Sequence[Sequence[Tensor]]) -> float:
        """What round-off explains: a thousand times the answer to a disturbance of the parameters' last places."""
        eps = 1e-14 if self.double else 1e-6
        disturbed = {
            name: tensor * (1 + eps * random.normal(tensor.shape, generator=self.generator, like=tensor))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in params.items()
        }
        answer = self.change(disturbed, {}, reference)
        floor = 1e-10 if self.double else 1e-4
        return min(max(floor, 1000 * answer), 1e-3)

    def _evaluate(self, params: Mapping[str, Tensor], flat: Sequence[Any]) -> list[Tensor]:
        args, kwargs = pytree.tree_unflatten(list(flat), self.spec)
        with _quiet(self.model), torch.no_grad(), self.mode if self.mode else contextlib.nullcontext():
            output = torch.func.functional_call(self.model, dict(params), args, kwargs, tie_weights=True)
        return [item for item in pytree.tree_leaves(output) if isinstance(item, Tensor)]


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.is_floating_point():
        return float((a != b).double().mean()) if a.numel() else 0.0
    finite = b.isfinite()
    if not bool((a.isfinite() == finite).all()):
        return float("inf")
    a, b = a[finite], b[finite]
    scale = b.norm().item()
    return (a - b).norm().item() / scale if scale > 0 else a.norm().item()


def _without(symmetry: ParameterSymmetry, names: Sequence[str]) -> ParameterSymmetry:
    """The symmetry without some factors, and without those whose base they permute."""
    gone = {symmetry[name].name for name in names}
    factors = tuple(factor for factor in symmetry.factors if factor.name not in gone)

    def stripped(layout: Any) -> Any:
        if isinstance(layout, Piece):
            return replace(layout, moves=tuple(move for move in layout.moves if move.factor not in gone))
        parts = tuple(stripped(part) for part in layout.parts)
        return Product(parts) if isinstance(layout, Product) else _Concat(parts)

    layouts = {name: tuple(stripped(layout) for layout in axes) for name, axes in symmetry.layouts.items()}
    return replace(symmetry, factors=factors, layouts=layouts)
