"""Linear and convolutional layers whose output units cannot be exchanged, as some entries of each are fixed."""

from __future__ import annotations

from typing import Any

from torch import nn

from symfield.typing import Generator
from symfield.weightspace.asymmetric.masks import MaskLaw, RandomRows, fixed_mask, fixed_values
from symfield.weightspace.asymmetric.weights import MaskedWeight, fix_entries

__all__ = ["AsymmetricConv1d", "AsymmetricConv2d", "AsymmetricLinear"]


def _fix(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d,
    fix: int | float,
    kappa: float,
    seed: int,
    name: str,
    mask: MaskLaw,
    allow_frozen: bool,
    generator: Generator | None,
) -> None:
    if generator is not None:
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        if layer.bias is not None:
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    trainable = fixed_mask(layer.weight.shape, fix, seed=seed, name=name, law=mask, allow_frozen=allow_frozen)
    values = fixed_values(trainable, kappa, seed=seed, name=name, like=layer.weight.detach())
    fix_entries(layer, "weight", MaskedWeight(trainable.to(layer.weight.device), values))


class AsymmetricLinear(nn.Linear):
    """A linear layer y = W' x + b with W' = M ⊙ W + (1 − M) ⊙ F, where M and F are fixed for ever.

    M and F depend on seed and name alone, so all networks of an experiment share them when they are built with one seed
    and one name for each layer. The trainable entries begin as in ``torch.nn.Linear``; its global generator is used
    unless ``generator`` is given.

    Args:
        in_features: d, inputs.
        out_features: o, output units.
        bias: whether to add a bias, trainable as a whole.
        fix: fixed entries of every output unit, a count (int) or a share (float).
        kappa: κ, standard deviation of the fixed entries; 0 leaves them out.
        seed: of masks and fixed values.
        name: of the layer in its network; layers of other names have other masks.
        mask: the law of the mask.
        allow_frozen: whether all entries of a unit may be fixed.
        generator: source of the initial trainable entries.
        dtype: of the parameters.
        device: of the parameters.

    Raises:
        ValueError: if the count does not fit into a row, κ is negative, or there are not enough distinct rows.

    Example:
        >>> layer = AsymmetricLinear(8, 4, fix=2, kappa=1.0, seed=0, name="first")
        >>> layer.weight.shape, sum(p.numel() for p in layer.parameters())
        (torch.Size([4, 8]), 28)

    References:
        Lim et al. 2024, Section 3.1, arXiv 2405.20231.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        fix: int | float,
        kappa: float,
        seed: int,
        name: str,
        mask: MaskLaw = RandomRows(),  # noqa: B008
        allow_frozen: bool = False,
        generator: Generator | None = None,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        _fix(self, fix, kappa, seed, name, mask, allow_frozen, generator)


class AsymmetricConv1d(nn.Conv1d):
    """A convolution of signals with fixed entries; ``mask=RandomFilters()`` fixes whole filters.

    Args:
        in_channels: input channels.
        out_channels: output channels, whose rows of fixed entries all differ.
        kernel_size: of the kernel.
        fix: fixed entries (or filters) of every output channel, a count (int) or a share (float).
        kappa: κ, standard deviation of the fixed entries.
        seed: of masks and fixed values.
        name: of the layer in its network.
        mask: the law of the mask.
        allow_frozen: whether all entries of a channel may be fixed.
        generator: source of the initial trainable entries; torch's global one when absent.
        options: the other arguments of ``torch.nn.Conv1d``.

    Raises:
        ValueError: as for :class:`AsymmetricLinear`.

    Example:
        >>> import torch
        >>> layer = AsymmetricConv1d(4, 8, 3, fix=0.25, kappa=1.0, seed=0, name="first", padding=1)
        >>> layer(torch.zeros(2, 4, 10)).shape, layer.parametrizations.weight.original.shape
        (torch.Size([2, 8, 10]), torch.Size([8, 9]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        *,
        fix: int | float,
        kappa: float,
        seed: int,
        name: str,
        mask: MaskLaw = RandomRows(),  # noqa: B008
        allow_frozen: bool = False,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        _fix(self, fix, kappa, seed, name, mask, allow_frozen, generator)


class AsymmetricConv2d(nn.Conv2d):
    """A convolution of images with fixed entries; ``mask=RandomFilters()`` fixes whole filters.

    Args:
        in_channels: input channels.
        out_channels: output channels, whose rows of fixed entries all differ.
        kernel_size: of the kernel.
        fix: fixed entries (or filters) of every output channel, a count (int) or a share (float).
        kappa: κ, standard deviation of the fixed entries.
        seed: of masks and fixed values.
        name: of the layer in its network.
        mask: the law of the mask.
        allow_frozen: whether all entries of a channel may be fixed.
        generator: source of the initial trainable entries; torch's global one when absent.
        options: the other arguments of ``torch.nn.Conv2d``.

    Raises:
        ValueError: as for :class:`AsymmetricLinear`.

    Example:
        >>> import torch
        >>> from symfield.weightspace import RandomFilters
        >>> layer = AsymmetricConv2d(4, 4, 3, fix=1, kappa=2.0, seed=0, name="first", mask=RandomFilters())
        >>> layer(torch.zeros(2, 4, 10, 10)).shape, layer.parametrizations.weight.original.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([4, 27]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        fix: int | float,
        kappa: float,
        seed: int,
        name: str,
        mask: MaskLaw = RandomRows(),  # noqa: B008
        allow_frozen: bool = False,
        generator: Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        _fix(self, fix, kappa, seed, name, mask, allow_frozen, generator)
