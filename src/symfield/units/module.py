"""A whole ``nn.Module`` as the unit: the ensemble is then a deep ensemble whose members are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.func import functional_call, vmap

from symfield.groups import Representation, Trivial, hom
from symfield.trees import ravel
from symfield.typing import Float, Tensor
from symfield.units.dense import require_dims
from symfield.units.unit import Unit

__all__ = ["ModuleUnit"]


class ModuleUnit(Unit):
    """σ_*(x; z) = module(x) with the module's parameters replaced by the vector z.

    Parameters are flattened in the order of ``module.named_parameters()``. The module is never changed; buffers stay as
    they are. It must be a pure function of its input in the mode it is in (no dropout, no batch statistics).

    Args:
        module: any module ``(b, d) -> (b, o)``.
        in_dim: d.
        out_dim: o.

    Raises:
        ValueError: if the module has no parameters, changes its buffers, or does not map ``(b, d)`` to ``(b, o)``.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> unit = ModuleUnit(net, 2, 1)
        >>> unit.dim, unit.mean(torch.zeros(7, 2), torch.zeros(5, unit.dim)).shape
        (13, torch.Size([7, 1]))
    """

    def __init__(self, module: nn.Module, in_dim: int, out_dim: int) -> None:
        parameters = {name: value.detach() for name, value in module.named_parameters()}
        if not parameters:
            raise ValueError("expected a module with parameters, received one without; a unit needs something to train")
        self.module, self.in_dim, self.out_dim = module, in_dim, out_dim
        self._flat, self._unravel = ravel(parameters)
        probe = self._flat.new_zeros(2, in_dim)
        buffers = {name: value.clone() for name, value in module.named_buffers()}  # batch statistics change in place
        with torch.no_grad():
            received = tuple(functional_call(module, {**parameters, **buffers}, (probe,)).shape)
        if any(not torch.equal(value, buffers[name]) for name, value in module.named_buffers()):
            raise ValueError("expected a pure function, received a module that changes its buffers; call module.eval()")
        if received != (2, out_dim):
            raise ValueError(f"expected the module to map (2, {in_dim}) to (2, {out_dim}), received {received}")

    def __repr__(self) -> str:
        return f"ModuleUnit({type(self.module).__name__}, in_dim={self.in_dim}, out_dim={self.out_dim}, p={self.dim})"

    @property
    def dim(self) -> int:
        """Number of scalars in the module's parameters."""
        return self._flat.numel()

    @property
    def parameters(self) -> Float[Tensor, " p"]:
        """The module's own parameters as one vector, for example to start a cloud around them."""
        return self._flat.clone()

    def __call__(self, x: Float[Tensor, "*#r b d"], z: Float[Tensor, "*#r n p"]) -> Float[Tensor, "..."]:
        """The module at every input for every particle, shape ``(*r, n, b, o)``."""
        runs = torch.broadcast_shapes(x.shape[:-2], z.shape[:-2])
        inputs = x.expand(*runs, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        clouds = z.expand(*runs, *z.shape[-2:]).reshape(-1, *z.shape[-2:])

        def one(flat: Tensor, batch: Tensor) -> Tensor:
            return cast(Tensor, functional_call(self.module, self._unravel(flat), (batch,)))

        values = vmap(vmap(one, in_dims=(0, None)))(clouds, inputs)
        return values.unflatten(0, runs) if runs else values.squeeze(0)

    def representation(
        self, rep_in: Representation, rep_out: Representation, hidden: object | None = None
    ) -> Representation:
        """The action on the parameters of an ``nn.Sequential`` of linear layers and pointwise activations.

        A layer from a space with representation α to one with β carries hom(α, β) on its weight and β on its bias.

        Args:
            rep_in: representation on inputs.
            rep_out: representation on outputs.
            hidden: one representation for each hidden layer, in order; trivial ones when absent.

        Returns:
            A representation on R^p in the order of ``named_parameters()``.

        Raises:
            NotImplementedError: for any other module.
            ValueError: if dimensions do not fit.
        """
        require_dims(self, rep_in, rep_out)
        layers = [layer for layer in self.module.children() if any(True for _ in layer.parameters())]
        if not isinstance(self.module, nn.Sequential) or not all(isinstance(layer, nn.Linear) for layer in layers):
            return super().representation(rep_in, rep_out, hidden)
        linear = cast("list[nn.Linear]", layers)
        widths = [layer.out_features for layer in linear[:-1]]
        if hidden is None:
            hidden = [Trivial(rep_in.group, width) for width in widths]
        between = list(hidden) if isinstance(hidden, Sequence) else [hidden]
        if [getattr(rep, "dim", None) for rep in between] != widths:
            raise ValueError(f"expected hidden representations of dims {widths}, received {between}")
        chain = [rep_in, *cast("list[Representation]", between), rep_out]
        parts: list[Representation] = []
        for layer, alpha, beta in zip(linear, chain[:-1], chain[1:], strict=True):
            parts.append(hom(alpha, beta))
            if layer.bias is not None:
                parts.append(beta)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
