"""A metanetwork that reads networks as graphs: units are nodes, weights are edges.

Renumbering the hidden units of a network renumbers the nodes of its graph, and a graph network does not see that: its
output is the same for all networks that differ by a permutation of hidden units. Inputs and outputs are told apart by
their number; hidden units by their layer alone. Needs PyTorch Geometric, which symfield does not install by itself.

References:
    Lim et al. 2024, Graph metanetworks for processing diverse neural architectures, arXiv 2312.04501. Kofinas et al.
    2024, Graph neural networks for learning equivariant representations of neural networks, arXiv 2403.12143.
"""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from symfield import random
from symfield.typing import Float, Params, Tensor
from symfield.weightspace.metanetworks import Prediction, Split, agreement

__all__ = ["GraphMetanetwork", "fit_graph_metanetwork", "mlp_graphs"]


def _geometric(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it uses torch.jit while it is imported
            return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("graph metanetworks need PyTorch Geometric: pip install 'symfield[geometric]'") from error


def mlp_graphs(layers: Sequence[tuple[Tensor, Tensor]]) -> list[Any]:
    """Perceptrons as graphs of PyTorch Geometric, one for each network.

    An edge for every weight, whose feature is the weight. A node for every unit with the features (bias, layer as a
    one-hot vector, number of the unit as a one-hot vector for inputs and outputs and zero for hidden ones).

    Args:
        layers: weights ``(n, out, in)`` and biases ``(n, out)`` of the layers of n networks, inputs first; the
            effective weights, where entries are fixed.

    Returns:
        A ``torch_geometric.data.Data`` for each network, with ``x``, ``edge_index`` and ``edge_attr``.

    Raises:
        ImportError: if PyTorch Geometric is not installed.
        ValueError: if shapes do not fit.

    Example:
        >>> graphs = mlp_graphs([(torch.zeros(2, 4, 3), torch.zeros(2, 4)), (torch.zeros(2, 1, 4), torch.zeros(2, 1))])
        >>> graphs[0].num_nodes, graphs[0].num_edges, graphs[0].x.shape
        (8, 16, torch.Size([8, 8]))
    """
    data = _geometric("torch_geometric.data")
    if not layers:
        raise ValueError("expected at least one layer, received none")
    count = len(layers[0][0])
    sizes = [layers[0][0].shape[2]]
    for weight, bias in layers:
        if weight.shape != (count, bias.shape[-1], sizes[-1]) or bias.shape != (count, weight.shape[1]):
            raise ValueError(
                f"expected weights (n, out, in) and biases (n, out) with n = {count} and in = {sizes[-1]}, received "
                f"{tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        sizes.append(weight.shape[1])
    like = layers[0][0]
    layer = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    number = torch.cat([torch.arange(size) for size in sizes])
    told_apart = (layer == 0) | (layer == len(sizes) - 1)
    ends = torch.where(told_apart, number + sizes[0] * (layer > 0), -1)
    one_hot = [
        nn.functional.one_hot(layer, len(sizes)),
        nn.functional.one_hot(ends + 1, sizes[0] + sizes[-1] + 1)[:, 1:],
    ]
    fixed = torch.cat(one_hot, 1).to(like)
    first = torch.tensor([0, *sizes]).cumsum(0)
    edges = [
        torch.stack([first[i] + torch.arange(d).repeat(o), first[i + 1] + torch.arange(o).repeat_interleave(d)])
        for i, (d, o) in enumerate(itertools.pairwise(sizes))
    ]
    index = torch.cat(edges, 1).to(like.device)
    biases = torch.cat([torch.zeros(count, sizes[0]).to(like), *(bias for _, bias in layers)], 1)
    weights = torch.cat([weight.flatten(1) for weight, _ in layers], 1)
    return [
        data.Data(x=torch.cat([own[:, None], fixed], 1), edge_index=index, edge_attr=edge[:, None])
        for own, edge in zip(biases, weights, strict=True)
    ]


class GraphMetanetwork(nn.Module):
    """Messages along the weights of a network, forwards and backwards, then the mean over units.

    Nodes are updated by ``torch_geometric.nn.GINEConv`` with the weight and its direction as features of an edge.

    Args:
        node_features: of a node, as :func:`mlp_graphs` makes them.
        hidden: units of all layers.
        rounds: of messages.
    """

    def __init__(self, node_features: int, *, hidden: int = 64, rounds: int = 3) -> None:
        super().__init__()
        layers = _geometric("torch_geometric.nn")
        self.encode = nn.Linear(node_features, hidden)
        self.rounds = nn.ModuleList(
            layers.GINEConv(nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)), edge_dim=2)
            for _ in range(rounds)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(rounds))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self._pool = layers.global_mean_pool

    def forward(self, graphs: Any) -> Float[Tensor, "n 1"]:
        """One number for each network.

        Args:
            graphs: a ``torch_geometric.data.Batch`` of graphs of networks.

        Returns:
            Shape ``(n, 1)``.
        """
        index, weight = graphs.edge_index, graphs.edge_attr
        both = torch.cat([index, index.flip(0)], 1)
        ones = torch.ones_like(weight)
        features = torch.cat([torch.cat([weight, ones], 1), torch.cat([weight, -ones], 1)])
        x = self.encode(graphs.x)
        for layer, norm in zip(self.rounds, self.norms, strict=True):
            x = x + norm(layer(x, both, features))
        return self.head(self._pool(x, graphs.batch))


def fit_graph_metanetwork(
    build: Callable[[], nn.Module],
    graphs: Sequence[Any],
    targets: Float[Tensor, " n"],
    split: Split,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int = 50,
    batch: int = 32,
    decay: float = 1e-2,
) -> Prediction:
    """As :func:`~symfield.weightspace.fit_metanetwork` for graphs, which may differ in shape: one after another.

    Args:
        build: makes a metanetwork.
        graphs: one for each network, see :func:`mlp_graphs`.
        targets: what it should say.
        split: of the graphs.
        rates: learning rates to choose from.
        seeds: of initial parameters and order of the samples.
        epochs: of training.
        batch: graphs in a step.
        decay: weight decay of AdamW.

    Returns:
        The prediction.

    Raises:
        ImportError: if PyTorch Geometric is not installed.
        ValueError: if there are no rates or seeds, not a finite target for each graph, or all rates diverge.

    Example:
        >>> from symfield.weightspace import split_samples
        >>> weights = torch.linspace(-1, 1, 40)[:, None, None]
        >>> found = fit_graph_metanetwork(lambda: GraphMetanetwork(5, hidden=8, rounds=1),
        ...                               mlp_graphs([(weights, torch.zeros(40, 1))]), weights[:, 0, 0],
        ...                               split_samples(40, seed=0), rates=[1e-2], seeds=[0], epochs=30, batch=8)
        >>> bool(found.r2[0] > 0.5)
        True
    """
    if not len(rates) or not len(seeds) or len(targets) != len(graphs) or not bool(targets.isfinite().all()):
        raise ValueError(f"expected rates, seeds and a finite target for each of {len(graphs)} graphs")
    loader = _geometric("torch_geometric.loader").DataLoader
    parts = [[graphs[i].clone() for i in part.tolist()] for part in split]
    for part, rows in zip(parts, split, strict=True):
        for graph, target in zip(part, targets[rows], strict=True):
            graph.y = target.reshape(1)
    validation, test = (next(iter(loader(part, batch_size=len(part)))) for part in parts[1:])
    best = np.full((len(rates), len(seeds)), np.inf)
    when = np.zeros((len(rates), len(seeds)), dtype=int)
    outputs = torch.zeros(len(rates), len(seeds), len(parts[2]), dtype=torch.float64)
    for i, rate in enumerate(rates):
        for j, seed in enumerate(seeds):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = build()
            optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
            kept: Params = {}
            batches = loader(parts[0], batch_size=batch, shuffle=True, generator=random.generator(seed))
            for epoch in range(epochs):
                for some in batches:
                    optimiser.zero_grad()
                    (model(some)[:, 0] - some.y).square().mean().backward()
                    optimiser.step()
                with torch.no_grad():
                    loss = float((model(validation)[:, 0] - validation.y).square().mean())
                if loss < best[i, j]:
                    best[i, j], when[i, j] = loss, epoch + 1
                    kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
            if not kept:
                continue  # diverged from the first epoch on
            with torch.no_grad():
                outputs[i, j] = torch.func.functional_call(model, kept, (test,))[:, 0].double()
    chosen = int(best.mean(1).argmin())
    if not np.isfinite(best[chosen]).all():
        raise ValueError(f"fitting diverged at all rates {list(rates)}; pass smaller ones")
    r2, tau = agreement(outputs[chosen], targets[split.test].double())
    return Prediction(float(rates[chosen]), r2, tau, when[chosen], outputs[chosen], best)
