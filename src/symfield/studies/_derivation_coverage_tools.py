"""Tools that derive permutations from a module, each with an adaptor that applies random elements of what it found.

The adaptors use the tools' own graphs and change nothing in them. They are imported only when they are asked for:

- ``rebasin`` 0.0.47 (torchview): its permutations are set at random and applied with its own ``apply_permutations``,
  as its coordinate descent does;
- ``sinkhorn-rebasin`` 0.0.2 (autograd graph): ``RebasinNet.random_init`` and its forward pass in evaluation mode;
- ``torch-pruning`` 1.6.1 (autograd hooks) prunes, and does not permute. What its group cuts for a unit is what the
  adaptor moves with that unit; groups that reach the model's output stay.

The first two call their package ``rebasin``; installed into one environment they share it, and both still work.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import io
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["LIMIT", "PEERS", "Found", "Peer", "at_most", "installed"]


#: Seconds after which a tool is stopped: some walk in circles.
LIMIT = 60.0


class Found(NamedTuple):
    """What a tool makes of a model.

    Attributes:
        groups: number of groups of permutations that move independently.
        model: a copy of the model under a random element of all of them.
        seconds: CPU seconds to derive the groups.
    """

    groups: int
    model: nn.Module
    seconds: float


class Peer(NamedTuple):
    """A tool.

    Attributes:
        distribution: its name for pip.
        module: what must be importable.
        run: (model, positional arguments, generator) to what it found; raises whatever the tool raises.
    """

    distribution: str
    module: str
    run: Callable[[nn.Module, tuple[Any, ...], torch.Generator], Found]


def installed(peer: Peer) -> str:
    """The installed version of a tool, or an empty string.

    Args:
        peer: the tool.

    Returns:
        Its version.
    """
    with contextlib.suppress(ImportError, importlib.metadata.PackageNotFoundError):
        if importlib.util.find_spec(peer.module) is not None:
            return importlib.metadata.version(peer.distribution)
    return ""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop what runs inside after so many seconds, where signals allow it.

    Args:
        seconds: the limit.

    Yields:
        Nothing.

    Raises:
        TimeoutError: from inside, when the time is over.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "ITIMER_REAL"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        yield


def _rebasin(model: nn.Module, args: tuple[Any, ...], generator: torch.Generator) -> Found:
    tool = importlib.import_module("rebasin.permutation_initializer")
    moved = copy.deepcopy(model)
    with _silent():
        start = time.process_time()
        with at_most(LIMIT):
            graph = tool.PermutationInitializer(model, moved, args[0] if len(args) == 1 else args).model_graph
            graph.enforce_identity()
        seconds = time.process_time() - start
        pairs = graph.permutation_to_info
        for permutation, _ in pairs:
            permutation.perm_indices = torch.randperm(len(permutation.perm_indices), generator=generator)
        graph.apply_permutations()
    return Found(len(pairs), moved, seconds)


def _sinkhorn(model: nn.Module, args: tuple[Any, ...], generator: torch.Generator) -> Found:
    tool = importlib.import_module("rebasin.rebasinnet.symmnet")
    if len(args) > 1:
        raise TypeError("takes one input")
    if not args[0].is_floating_point():
        raise TypeError("takes floating inputs only")
    with _silent(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        start = time.process_time()
        with at_most(LIMIT):
            net = tool.RebasinNet(copy.deepcopy(model), args[0].shape)
        seconds = time.process_time() - start
        net.random_init()
        for place, weight in enumerate(net.p):  # its initial permutations are in float32 whatever the model
            net.p[place] = nn.Parameter(weight.detach().to(args[0].dtype))
        net.eval()
        moved = net()
    return Found(len(net.p), moved, seconds)


def _torch_pruning(model: nn.Module, args: tuple[Any, ...], generator: torch.Generator) -> Found:
    tool = importlib.import_module("torch_pruning")
    model = copy.deepcopy(model)
    with _silent():
        start = time.process_time()
        kinds = (tool.ops.TORCH_CONV, tool.ops.TORCH_LINEAR, nn.Embedding, nn.LSTM, nn.MultiheadAttention)
        with at_most(LIMIT):
            graph = tool.DependencyGraph().build_dependency(model, example_inputs=args, verbose=False)
            groups = [list(group) for group in graph.get_all_groups(root_module_types=kinds)]
        seconds = time.process_time() - start
        tensors = dict(model.state_dict(keep_vars=True))
        names = {id(tensor): name for name, tensor in tensors.items()}
        moved = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        count = 0
        for group in groups:
            last = [item.dep for item in group if not item.dep.target.outputs]
            if not any(graph.is_out_channel_pruning_fn(dep.handler) for dep in last):
                order = torch.randperm(len(group[0].idxs), generator=generator).tolist()
                count += _move_units(group, order, names, moved)
        for name in names.values():
            tensors[name].data.copy_(moved[name])
    return Found(count, model, seconds)


def _move_units(group: list[Any], order: list[int], names: dict[int, str], moved: dict[str, Tensor]) -> bool:
    """Unit u of the result is unit order[u]: all that the group's handlers cut for it, tensor by tensor."""
    plans: dict[tuple[str, int], dict[int, list[int]]] = {}
    for item in group:
        for place, unit in zip(item.idxs, item.root_idxs, strict=True):
            for name, axis, cut in _cuts(item.dep, place, names):
                plans.setdefault((name, axis), {}).setdefault(unit, []).extend(cut)
    for (name, axis), units in plans.items():
        index = torch.arange(moved[name].shape[axis])
        for unit, places in units.items():
            source = units.get(order[unit], [])
            if len(source) != len(places):
                raise ValueError(f"units of one group cut {len(places)} and {len(source)} entries of {name}")
            index[sorted(places)] = torch.tensor(sorted(source))
        moved[name] = moved[name].index_select(axis, index)
    return bool(plans)


def _cuts(dep: Any, place: int, names: dict[int, str]) -> list[tuple[str, int, list[int]]]:
    """What a handler cuts from the tensors of its module for one index: (name, axis, entries of the axis)."""
    module = dep.target.module
    dep.handler.__self__.pruning_dim = dep.target.pruning_dim
    if isinstance(module, nn.Parameter):
        marks = _marks(module)
        return [
            (names[id(module)], axis, cut)
            for axis, mark in enumerate(marks)
            if (cut := _lost(mark, dep.handler(nn.Parameter(mark), [place]).detach(), axis))
        ]
    own = {key: t for key, t in module.state_dict(keep_vars=True).items() if id(t) in names and t.ndim}
    if not own:
        return []
    found = []
    for axis in range(max(t.ndim for t in own.values())):
        twin = copy.deepcopy(module)
        before = {}
        for key, tensor in twin.state_dict(keep_vars=True).items():
            if key in own and axis < tensor.ndim:
                before[key] = _marks(tensor)[axis]
                tensor.detach().set_(before[key].clone())
        dep.handler(twin, [place])
        after = twin.state_dict()
        found += [
            (names[id(own[key])], axis, cut) for key, mark in before.items() if (cut := _lost(mark, after[key], axis))
        ]
    return found


def _marks(tensor: Tensor) -> list[Tensor]:
    """For every axis a tensor whose entries are their index along the axis."""
    marks = []
    for axis, size in enumerate(tensor.shape):
        shape = [1] * tensor.ndim
        shape[axis] = size
        marks.append(torch.arange(size, dtype=torch.float64).reshape(shape).expand(tensor.shape).clone())
    return marks


def _lost(before: Tensor, after: Tensor, axis: int) -> list[int]:
    if before.shape[axis] == after.shape[axis]:
        return []
    kept = set(after.movedim(axis, 0).flatten(1)[:, 0].tolist() if after.ndim > 1 else after.tolist())
    return [k for k in range(before.shape[axis]) if k not in kept]


PEERS: dict[str, Peer] = {
    "Torch-Pruning": Peer("torch-pruning", "torch_pruning", _torch_pruning),
    "sinkhorn-rebasin": Peer("sinkhorn-rebasin", "rebasin.rebasinnet", _sinkhorn),
    "rebasin": Peer("rebasin", "rebasin.permutation_initializer", _rebasin),
}
