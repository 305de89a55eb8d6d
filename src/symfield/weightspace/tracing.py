"""From a module and an example to its graph, through ``torch.export``, or operator by operator where that fails."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from symfield.typing import Tensor
from symfield.weightspace.graph import Node, ParameterGraph, TensorInfo

__all__ = ["Example", "Untraceable", "arguments", "trace"]

Example: TypeAlias = Any
"""One tensor, positional arguments as a tuple, or keyword arguments as a dict."""


class Untraceable(ValueError):
    """A model that cannot be written as a graph of operators; says where and what to do."""


def trace(model: nn.Module, example: Example) -> ParameterGraph:
    """The graph of a model in eval mode: operators, parameters, buffers, tied names.

    Args:
        model: any module; it is neither modified nor run in training mode.
        example: one tensor, a tuple of positional arguments, or a dict of keyword arguments.

    Returns:
        The graph.

    Raises:
        Untraceable: if the model fails on the example, or its control flow depends on values; the message names the
            place and what to do.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> graph = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(3, 4))
        >>> print(graph)
        4 tensors with 58 entries, 3 operator calls (linear 2, relu 1), from torch.export
    """
    args, kwargs = arguments(example)
    with _quiet(model), _silent():
        try:
            program = torch.export.export(model, args, kwargs, strict=False).run_decompositions({})
        except Exception as error:  # every kind of failure of the compiler is one to us
            return _by_proxy(model, args, kwargs, error)
    try:
        return _from_program(model, program)
    except RuntimeError as error:  # a size that depends on values
        raise Untraceable(_advice(model, error, error)) from error


def arguments(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of an example.

    Args:
        example: one tensor, a tuple of positional arguments, or a dict of keyword arguments.

    Returns:
        (args, kwargs).

    Raises:
        TypeError: if it is none of these.

    Example:
        >>> import torch
        >>> arguments({"input_ids": torch.zeros(1, 3)})[1].keys()
        dict_keys(['input_ids'])
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple | list):
        return tuple(example), {}
    raise TypeError(f"expected a tensor, a tuple or a dict as the example, received {type(example).__name__}")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What torch prints and logs about a failed export is said better by :class:`Untraceable`."""
    loggers = [logging.getLogger(name) for name in ("torch.fx", "torch._subclasses.fake_tensor")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """Eval mode without the fused paths that hide operators; everything is put back."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for module in modes:
        module.training = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def _state(model: nn.Module) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Tensors that a checkpoint holds, and the other names of tied ones."""
    tensors: dict[str, TensorInfo] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    saved = set(model.state_dict(keep_vars=True))
    for kind, named in (
        ("parameter", model.named_parameters(remove_duplicate=False)),
        ("buffer", model.named_buffers(remove_duplicate=False)),
    ):
        for name, tensor in named:
            if name not in saved:
                continue
            if id(tensor) in first:
                aliases[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
                tensors[name] = TensorInfo(name, tuple(tensor.shape), tensor.dtype, kind)
    return tensors, aliases


def _from_program(model: nn.Module, program: Any) -> ParameterGraph:
    tensors, aliases = _state(model)
    signature = program.graph_signature
    targets = {spec.arg.name: spec for spec in signature.input_specs}
    kinds = torch.export.graph_signature.InputKind
    made: dict[Any, Node] = {}
    for fx in program.graph.nodes:
        if fx.op == "placeholder":
            spec = targets[fx.name]
            name = aliases.get(spec.target, spec.target)
            if spec.kind in {kinds.PARAMETER, kinds.BUFFER} and name in tensors:
                made[fx] = _node(fx, "tensor", made, (name,))
            elif spec.kind == kinds.USER_INPUT:
                made[fx] = _node(fx, "input", made)
            else:
                made[fx] = _node(fx, "constant", made)
                made[fx].value = program.constants.get(spec.target, program.state_dict.get(spec.target))
        elif fx.op == "call_function":
            made[fx] = _node(fx, _op(fx.target), made, fx.args, fx.kwargs)
    outputs = [
        arg for spec, arg in zip(signature.output_specs, next(iter(reversed(program.graph.nodes))).args[0], strict=True)
    ]
    return _graph(model, made, outputs, tensors, aliases, "torch.export")


def _by_proxy(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], failure: Exception) -> ParameterGraph:
    """Record the operators of one run; refuses control flow that depends on values."""
    from torch.fx.experimental.proxy_tensor import make_fx

    tensors, aliases = _state(model)
    flat, spec = pytree.tree_flatten((args, kwargs))
    places = [i for i, item in enumerate(flat) if isinstance(item, Tensor)]
    state = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name in tensors}

    def run(params: dict[str, Tensor], inputs: list[Tensor]) -> list[Tensor]:
        filled = list(flat)
        for place, value in zip(places, inputs, strict=True):
            filled[place] = value
        a, k = pytree.tree_unflatten(filled, spec)
        output = torch.func.functional_call(model, params, a, k, tie_weights=True, strict=False)
        return [item for item in pytree.tree_leaves(output) if isinstance(item, Tensor)]

    try:
        with torch.enable_grad():
            module = make_fx(run, tracing_mode="real")(state, [flat[i] for i in places])
    except Exception as error:
        raise Untraceable(_advice(model, failure, error)) from error
    names = list(state)
    made: dict[Any, Node] = {}
    holders = [fx for fx in module.graph.nodes if fx.op == "placeholder"]
    for i, fx in enumerate(holders):
        made[fx] = _node(fx, "tensor", made, (names[i],)) if i < len(names) else _node(fx, "input", made)
    for fx in module.graph.nodes:
        if fx.op == "get_attr":
            made[fx] = _node(fx, "constant", made)
            made[fx].value = getattr(module, fx.target)
            made[fx].shape = tuple(made[fx].value.shape)  # type: ignore[union-attr]
        elif fx.op == "call_function":
            made[fx] = _node(fx, _op(fx.target), made, fx.args, fx.kwargs)
    outputs = list(next(iter(reversed(module.graph.nodes))).args[0])
    return _graph(model, made, outputs, tensors, aliases, "make_fx")


def _graph(
    model: nn.Module,
    made: Mapping[Any, Node],
    outputs: list[Any],
    tensors: dict[str, TensorInfo],
    aliases: dict[str, str],
    source: str,
) -> ParameterGraph:
    for node in made.values():
        for given in node.inputs():
            given.users.append(node)
    returned = tuple(made[item] for item in outputs if item in made)
    reached: set[Node] = set()
    waiting = list(returned)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting.extend(node.inputs())
    used = {node.args[0] for node in reached if node.op == "tensor"}
    nodes = tuple(node for node in made.values() if node in reached or node.op == "input")
    for node in nodes:
        node.users = [user for user in node.users if user in reached]
    return ParameterGraph(
        nodes, returned, tensors, aliases, tuple(name for name in tensors if name not in used), source
    )


def _node(fx: Any, op: str, made: Mapping[Any, Node], args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Node:
    value = fx.meta.get("val", fx.meta.get("tensor_meta"))
    several = isinstance(value, list | tuple) and not hasattr(value, "shape")
    shape = tuple(_shape(item) for item in value) if several else (_shape(value) or ())
    stack = fx.meta.get("nn_module_stack") or {}
    module = next(reversed(stack.values()))[0] if stack else ""
    dtype = None if several else getattr(value, "dtype", None)
    return Node(
        fx.name,
        op,
        tuple(_mapped(args, made)),
        {key: _mapped(item, made) for key, item in (kwargs or {}).items()},
        shape,
        dtype,
        module.removeprefix("L['self']."),
    )


def _mapped(item: Any, made: Mapping[Any, Node]) -> Any:
    if isinstance(item, torch.fx.Node):
        return made[item]
    if isinstance(item, list | tuple):
        return (
            [_mapped(part, made) for part in item]
            if isinstance(item, list)
            else tuple(_mapped(part, made) for part in item)
        )
    return item


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(int(n) for n in value.shape) if hasattr(value, "shape") else None


def _op(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target._schema.name.split("::")
        return name if namespace == "aten" else f"{namespace}::{name}"
    return getattr(target, "__name__", str(target))


def _advice(model: nn.Module, first: Exception, second: Exception) -> str:
    text = f"{first}\n{second}"
    head = f"{type(model).__name__} cannot be written as a graph of operators"
    cause = str(first).strip().splitlines()[0][:300] if str(first).strip() else type(first).__name__
    if any(
        word in text for word in ("data-dependent", "Could not guard", "unbacked", "_local_scalar_dense", "nonzero")
    ):
        advice = (
            "its control flow or shapes depend on values (.item(), nonzero, a Python if on a tensor); compute all "
            "branches with torch.where or dense routing, or trace the submodules that have none"
        )
        if hasattr(model, "config"):
            advice += "; for mixtures of experts of transformers try model.set_experts_implementation('batched_mm')"
    elif isinstance(first, TypeError) or "argument" in cause or "missing" in cause:
        advice = "check that model(*example) runs, and pass keyword arguments as a dict"
    else:
        advice = "check that the model runs on the example in eval mode, without caches and custom output classes"
    return f"{head}: {cause}\nWhat to do: {advice}"
