"""Node classification for the studies on asymmetric networks: a block model, or a graph that a user brings.

All nodes of a graph are computed at once, so a sample is the number of a node, and the graph a buffer of the network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from symfield import random
from symfield.experiments.errors import StudyError
from symfield.studies._lim2024_data import Splits, read_arrays
from symfield.studies._lim2024_models import GraphNetwork
from symfield.typing import Tensor

__all__ = ["Graph", "NodeClassifier", "block_model", "user_graph"]


class Graph(NamedTuple):
    """A graph with labels.

    Attributes:
        features: of the nodes, shape ``(n, d)``.
        edges: shape ``(2, e)``, both directions of every edge.
        splits: inputs are the numbers of the nodes.
    """

    features: Tensor
    edges: Tensor
    splits: Splits


class NodeClassifier(nn.Module):
    """A graph network that answers for some nodes of its graph.

    Args:
        graph: features and edges; buffers that no checkpoint holds.
        width: of three hidden layers.
    """

    features: Tensor
    edges: Tensor

    def __init__(self, graph: Graph, width: int) -> None:
        super().__init__()
        self.network = GraphNetwork((graph.features.shape[1], width, width, width, graph.splits.classes))
        self.register_buffer("features", graph.features, persistent=False)
        self.register_buffer("edges", graph.edges, persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """Logits of nodes.

        Args:
            nodes: their numbers, ``(b,)``.

        Returns:
            ``(b, classes)``.
        """
        logits: Tensor = self.network(self.features, self.edges)
        return logits.index_select(0, nodes)


def block_model(
    seed: int, groups: int, *, like: Tensor, nodes: int = 600, classes: int = 6, dim: int = 16, degree: float = 8.0
) -> Graph:
    """A stochastic block model: equal classes, three quarters of the edges within them, noisy features.

    Args:
        seed: of graph, features and splits.
        groups: of networks; each has half of the nodes for training, its own half.
        like: gives dtype and device.
        nodes: n.
        classes: number of blocks.
        dim: of the features, class means of deviation 1/2 under noise of deviation 1.
        degree: edges of a node, on average.

    Returns:
        The graph.
    """
    generator = random.generator(seed)
    wide = torch.zeros((), dtype=torch.float64)
    y = torch.arange(nodes) % classes
    same = y[:, None] == y[None, :]
    inside, outside = 0.75 * degree * classes / nodes, 0.25 * degree * classes / (nodes * (classes - 1))
    chance = torch.where(same, inside, outside).double()
    drawn = random.uniform((nodes, nodes), generator=generator, like=wide) < chance
    upper = drawn.triu(1)
    edges = (upper | upper.mT).nonzero().mT.contiguous()
    means = random.normal((classes, dim), generator=generator, like=wide, std=0.5)
    features = means[y] + random.normal((nodes, dim), generator=generator, like=wide)
    orders = torch.stack([torch.randperm(nodes, generator=generator) for _ in range(groups)]).to(like.device)
    numbers = torch.arange(nodes, device=like.device)
    splits = Splits(numbers, y.to(like.device), orders[:, : nodes // 2], orders[:, nodes // 2 :], classes)
    return Graph(features.to(like), edges.to(like.device), splits)


def user_graph(folder: str, name: str, groups: int, *, like: Tensor) -> Graph:
    """A graph that a user brings: ``x (n, d)``, ``y (n,)``, ``edges (2, e)``, ``train`` and ``test`` node numbers.

    Args:
        folder: where ``name.npz`` or ``name.pt`` lies.
        name: such as ``"arxiv"``.
        groups: of networks; all share the split.
        like: gives dtype and device.

    Returns:
        The graph, edges in both directions, each once.

    Raises:
        StudyError: if something is missing or does not fit.
    """
    held = read_arrays(folder, name, ("x", "y", "edges", "train", "test"))
    x, y, edges = held["x"], held["y"].reshape(-1).long(), held["edges"].long()
    train, test = held["train"].reshape(-1).long(), held["test"].reshape(-1).long()
    numbers = torch.cat([edges.reshape(-1), train, test])
    if x.ndim != 2 or len(x) != len(y) or edges.ndim != 2 or len(edges) != 2:
        raise StudyError(
            f"expected x (n, d), y (n,) and edges (2, e), received {tuple(x.shape)}, {tuple(y.shape)} and "
            f"{tuple(edges.shape)}"
        )
    if int(numbers.min()) < 0 or int(numbers.max()) >= len(x) or int(y.min()) < 0:
        raise StudyError(f"expected node numbers from 0 to {len(x) - 1} in edges, train and test, and classes from 0")
    both = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    rows = [part.expand(groups, -1).to(like.device) for part in (train, test)]
    splits = Splits(torch.arange(len(x), device=like.device), y.to(like.device), rows[0], rows[1], int(y.max()) + 1)
    return Graph(x.to(like), both.to(like.device), splits)
