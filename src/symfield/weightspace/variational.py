"""Variational inference over weights with Gaussians of low rank: any model's linear and convolutional layers converted.

The posterior of a layer with d trainable weights and biases, of mean μ, is

    q = N(μ, δ I + (1/R) Σ_r v_r v_rᵀ),

a fixed small variance δ in all directions and R learned directions v_r. Priors are N(0, σ² I). The divergence

    KL(q ‖ prior) = ½ [ dδ/σ² − d log(δ/σ²) − d + ‖μ‖²/σ² + Σ_r ‖v_r‖² / (R σ²) − log det(I + V Vᵀ / (R δ)) ]

is exact, with V the R × d matrix of directions. Entries that are fixed, as in asymmetric networks, have their value as
mean, no variance, and no part in d or in any sum.

Outputs are drawn by *local reparametrisation*: for every sample x in a batch its own weights, through their effect on
the output alone. A linear layer returns

    y = W x + b + R^(-1/2) Σ_r ε_r (V_r x + v_r) + (δ (x² · mask + 1))^(1/2) ε,

with ε_r one number for each sample and direction and ε one for each output. Given x this is the exact marginal of the
outputs of one layer. Positions of a convolution share their ε_r but have an ε each, as in the published method: there
the small δ-part is independent from position to position, which exact draws of a kernel would not make it.

References:
    Tomczak, Swaroop & Turner 2020, Efficient low rank Gaussian variational inference for neural networks. Kingma,
    Salimans & Welling 2015, Variational dropout and the local reparameterization trick, arXiv 1506.02557. Lim et al.
    2024, Section 5.2 and Appendix F.2, arXiv 2405.20231.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.distributions import LowRankMultivariateNormal
from torch.nn import functional

from symfield import random
from symfield.typing import Float, Generator, Params, Tensor
from symfield.weightspace.asymmetric.rules import _tied
from symfield.weightspace.asymmetric.weights import fixed_entries

__all__ = ["LowRankGaussian", "Variational", "divergence", "variational", "width_prior"]


@runtime_checkable
class Entries(Protocol):
    """Which entries of a weight are trainable, and the values of the others."""

    @property
    def mask(self) -> Tensor:
        """Bools of the weight's shape, True where trainable."""

    @property
    def values(self) -> Tensor:
        """Of the weight's shape; read where the mask is False."""


def width_prior(scale: float) -> Callable[[nn.Module], float]:
    """Prior variances 1 / (scale × units): outputs of a linear layer, input channels of a convolution.

    Args:
        scale: p; 0.01 for the published perceptrons, 1 for the residual networks.

    Returns:
        From a layer to its prior variance.

    Raises:
        ValueError: if the scale is not positive.

    Example:
        >>> width_prior(0.01)(nn.Linear(3, 50))
        2.0
    """
    if not scale > 0:
        raise ValueError(f"expected a positive scale of the prior precision, received {scale}")

    def variance(layer: nn.Module) -> float:
        units = layer.out_features if isinstance(layer, nn.Linear) else layer.in_channels
        return 1 / (scale * int(units))  # type: ignore[arg-type]

    return variance


class _Source:
    """Where the layers of one model find the generator while the model runs."""

    generator: Generator | None = None


class LowRankGaussian(nn.Module):
    """A linear or convolutional layer with a Gaussian of low rank in place of its weights.

    Made by :func:`variational`. Without a source of randomness it is the layer at its mean.

    Attributes:
        weight: mean of the weights; entries that are fixed do not count.
        bias: mean of the biases, or None.
        weight_directions: of the weights, shape ``(R, *weight)``.
        bias_directions: of the biases, shape ``(R, o)``, or None.
        delta: variance in all directions.
        prior_variance: σ².
    """

    mask: Tensor | None
    values: Tensor | None

    def __init__(
        self,
        layer: nn.Module,
        operation: Callable[..., Tensor],
        *,
        rank: int,
        delta: float,
        prior_variance: float,
        spread: float,
        fixed: Entries | None,
        generator: Generator,
    ) -> None:
        super().__init__()
        weight: Tensor = layer.weight.detach().clone()  # type: ignore[operator]
        bias: Tensor | None = layer.bias  # type: ignore[assignment]
        self.operation, self.rank, self.delta, self.prior_variance = operation, rank, delta, prior_variance
        self.weight = nn.Parameter(weight)
        draw = functools.partial(random.normal, generator=generator, like=weight, std=spread)
        self.weight_directions = nn.Parameter(draw((rank, *weight.shape)))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.bias_directions = None if bias is None else nn.Parameter(draw((rank, *bias.shape)))
        self.register_buffer("mask", None if fixed is None else fixed.mask.to(weight.device))
        self.register_buffer("values", None if fixed is None else fixed.values.to(weight))
        self.source = _Source()
        self.axis = -1 if isinstance(layer, nn.Linear) else -weight.ndim + 1
        self.grouped = getattr(layer, "groups", 1) != 1

    def effective(self) -> tuple[Tensor, Tensor]:
        """Mean of the weights, and their directions; fixed entries at their values and without variance."""
        if self.mask is None or self.values is None:
            return self.weight, self.weight_directions
        return self.weight.where(self.mask, self.values), self.weight_directions * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Outputs: one draw for each sample while the model has a source of randomness, else at the mean.

        Args:
            x: inputs, samples along the first axis.

        Returns:
            Outputs.

        Raises:
            ValueError: if a draw is wanted for inputs without an axis of samples.
        """
        mean, directions = self.effective()
        found = self.operation(x, mean, self.bias)
        source = self.source.generator
        if source is None:
            return found
        if x.ndim < 2 or (self.axis != -1 and x.ndim != mean.ndim):
            raise ValueError(f"expected samples along the first axis, received inputs of shape {tuple(x.shape)}")
        along = self._along(x, directions)
        each = (self.rank, len(x), *(1,) * (found.ndim - 1))
        common = torch.randn(each, generator=source, dtype=x.dtype, device=source.device).to(x.device)
        own = torch.randn(found.shape, generator=source, dtype=x.dtype, device=source.device).to(x.device)
        ones = torch.ones_like(mean) if self.mask is None else self.mask.to(mean)
        variance = self.operation(x.square(), ones, None if self.bias is None else torch.ones_like(self.bias))
        return found + (common * along).sum(0) / math.sqrt(self.rank) + (self.delta * variance).sqrt() * own

    def _along(self, x: Tensor, directions: Tensor) -> Tensor:
        """V_r x + v_r for all directions, shape ``(R, *outputs)``: one operation, as if they were output units."""
        biases = self.bias_directions
        if self.grouped:
            each = [self.operation(x, directions[r], None if biases is None else biases[r]) for r in range(self.rank)]
            return torch.stack(each)
        found = self.operation(x, directions.flatten(0, 1), None if biases is None else biases.flatten())
        return found.unflatten(self.axis, (self.rank, -1)).movedim(self.axis - 1, 0)

    def posterior(self) -> LowRankMultivariateNormal:
        """The distribution of all trainable entries, weights before biases, as a value of ``torch.distributions``."""
        own = {"weight": self.weight, "weight_directions": self.weight_directions}
        if self.bias is not None and self.bias_directions is not None:
            own |= {"bias": self.bias, "bias_directions": self.bias_directions}
        mean, directions = self._flat(own)
        if self.mask is not None:
            trained = self._trained()
            mean, directions = mean[trained], directions[:, trained]
        return LowRankMultivariateNormal(
            mean, directions.mT / math.sqrt(self.rank), torch.full_like(mean, self.delta), validate_args=False
        )

    def divergence(self, params: Mapping[str, Tensor]) -> Tensor:
        """KL of the posterior with given parameters from the prior.

        Args:
            params: ``weight``, ``weight_directions``, ``bias``, ``bias_directions`` of this layer.

        Returns:
            A scalar, in nats; differentiable.
        """
        mean, directions = self._flat(params)
        count = mean.numel()
        if self.mask is not None:
            trained = self._trained().to(mean)
            mean, directions, count = mean * trained, directions * trained, int(self.mask.sum()) + len(mean)
            count -= self.mask.numel()
        ratio = self.delta / self.prior_variance
        gram = directions @ directions.mT / (self.rank * self.delta)
        one = torch.eye(self.rank, dtype=gram.dtype, device=gram.device)
        squares = (mean.square().sum() + directions.square().sum() / self.rank) / self.prior_variance
        determinant = 2 * torch.linalg.cholesky(one + gram).diagonal(dim1=-2, dim2=-1).log().sum()
        return 0.5 * (squares + count * (ratio - math.log(ratio) - 1) - determinant)

    def _flat(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        mean, directions = params["weight"].flatten(), params["weight_directions"].flatten(1)
        if self.bias is None:
            return mean, directions
        return torch.cat([mean, params["bias"]]), torch.cat([directions, params["bias_directions"]], 1)

    def _trained(self) -> Tensor:
        """Bools over weights and biases."""
        assert self.mask is not None
        flat = self.mask.flatten()
        return flat if self.bias is None else torch.cat([flat, torch.ones_like(self.bias, dtype=torch.bool)])

    def extra_repr(self) -> str:
        """Rank, δ and σ²."""
        return f"rank={self.rank}, delta={self.delta:.3g}, prior_variance={self.prior_variance:.3g}"


class Variational(nn.Module):
    """A model whose layers are :class:`LowRankGaussian`.

    Attributes:
        model: the converted copy.
        left: paths of modules with parameters of their own that stay single points, such as norms.
    """

    def __init__(self, model: nn.Module, left: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.left = model, left
        self._source = _Source()
        for layer in self.layers().values():
            layer.source = self._source

    def layers(self) -> dict[str, LowRankGaussian]:
        """The converted layers by path."""
        return {path: module for path, module in self.named_modules() if isinstance(module, LowRankGaussian)}

    def forward(self, *inputs: Any, generator: Generator | None = None) -> Any:
        """Outputs of the model, a draw for each sample.

        Args:
            inputs: of the model.
            generator: source of the draws; None gives the model at its mean.

        Returns:
            What the model returns.
        """
        self._source.generator = generator
        try:
            return self.model(*inputs)
        finally:
            self._source.generator = None


def variational(
    model: nn.Module,
    *,
    rank: int,
    delta: float,
    prior: Callable[[nn.Module], float],
    generator: Generator,
    spread: float | None = None,
    fixed: Mapping[str, Entries] | None = None,
) -> Variational:
    """Put a Gaussian of low rank in place of the weights of every linear and convolutional layer.

    The mean begins at the model's weights. Norms and other parameters stay single points, and so does the output layer
    of ``nn.MultiheadAttention``, whose weight is read without calling it.

    Args:
        model: any module; it is copied.
        rank: R, learned directions.
        delta: δ, variance in all directions; not learned.
        prior: from a layer to the variance of its prior, such as :func:`width_prior`.
        generator: source of the initial directions.
        spread: standard deviation of their entries; √δ when None.
        fixed: by the name of a weight, such as ``"0.weight"``, an object with ``mask`` (True where trainable) and
            ``values``, as ``fixed_entries`` finds them in an asymmetric model.

    Returns:
        The converted model.

    Raises:
        ValueError: if rank, δ or the spread is not positive, or a prior variance; if a name is no weight of such a
            layer, shapes differ, fixed entries of the model are not passed, a layer or its weight is used in two
            places, or there is no layer to convert.
        NotImplementedError: if a convolution pads other than with zeros.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
        >>> source = random.generator(0)
        >>> found = variational(net, rank=4, delta=1e-3, prior=width_prior(1.0), generator=source)
        >>> x = torch.ones(5, 3)
        >>> bool((found(x) == net(x)).all()), found(x, generator=source).shape, found.left
        (True, torch.Size([5, 2]), ('1',))
        >>> divergence(found).item() > 0
        True

    References:
        Tomczak, Swaroop & Turner 2020, Section 3.
    """
    if rank < 1 or not delta > 0 or (spread is not None and spread < 0):
        raise ValueError(f"expected rank ≥ 1, delta > 0 and spread ≥ 0, received {rank}, {delta} and {spread}")
    entries = dict(fixed or {})
    masked = {name for name, held in fixed_entries(model).items() if not held.additive}
    if lost := sorted(masked - entries.keys()):
        raise ValueError(
            f"entries of {lost[0]!r} are fixed in this model, and would be trained; pass fixed=fixed_entries(model), "
            "or symmetrize_back(model) as the model"
        )
    made = copy.deepcopy(model)
    _call_children(made)
    uncalled = {
        f"{path}.out_proj" if path else "out_proj"
        for path, layer in model.named_modules()
        if isinstance(layer, nn.MultiheadAttention)
    }
    tied = _tied(model)
    found: dict[str, LowRankGaussian] = {}
    left: list[str] = []
    for path, layer in model.named_modules():
        operation = None if path in uncalled else _operation(path, layer)
        if operation is None:
            own = any(True for _ in layer.parameters(recurse=False))
            if own and not any(path.startswith(f"{done}.") for done in found):
                left.append(path)
            continue
        name = f"{path}.weight" if path else "weight"
        given = entries.pop(name, None)
        if given is not None and given.mask.shape != layer.weight.shape:
            raise ValueError(
                f"expected a mask of shape {tuple(layer.weight.shape)} for {name!r}, received {tuple(given.mask.shape)}"
            )
        for parameter in layer.parameters():
            if names := tied.get(id(parameter)):
                raise ValueError(
                    f"{' and '.join(map(repr, names))} are one tensor, of which two places would make two; untie them, "
                    "or make copies of the layer"
                )
        variance = float(prior(layer))
        if not 0 < variance < math.inf:
            raise ValueError(f"expected a positive variance of the prior of {path or 'the model'}, received {variance}")
        found[path] = LowRankGaussian(
            layer, operation, rank=rank, delta=delta, prior_variance=variance, fixed=given, generator=generator,
            spread=math.sqrt(delta) if spread is None else spread,
        )  # fmt: skip
    if entries:
        raise ValueError(f"fixed names {next(iter(entries))!r}, which is no weight of a linear or convolutional layer")
    if not found:
        raise ValueError("expected a model with a linear or convolutional layer, received one without any")
    for path, layer in found.items():
        if not path:
            return Variational(layer, ())
        parent, _, child = path.rpartition(".")
        setattr(made.get_submodule(parent), child, layer)
    return Variational(made, tuple(left))


def divergence(model: Variational, params: Params | None = None) -> Float[Tensor, ""]:
    """KL of the posterior of all layers from their priors.

    Args:
        model: a converted model.
        params: its parameters by name, where they are not its own; ``torch.vmap`` takes many.

    Returns:
        The sum over layers, in nats; differentiable.

    Example:
        >>> net = variational(nn.Linear(2, 1), rank=1, delta=1.0, prior=lambda layer: 1.0, spread=0.0,
        ...                   generator=random.generator(0))
        >>> own = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
        >>> divergence(net, own).item(), divergence(net, {**own, "model.bias": torch.ones(1)}).item()
        (0.0, 0.5)
    """
    held = dict(model.named_parameters()) if params is None else params
    parts = []
    for path, layer in model.layers().items():
        own = {name: held[f"{path}.{name}"] for name, _ in layer.named_parameters()}
        parts.append(layer.divergence(own))
    return torch.stack(parts).sum()


def _call_children(model: nn.Module) -> None:
    """Make transformers of torch call their linear layers in eval mode, too, rather than read weights of them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # without which torch does not take its fast path
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = module.enable_nested_tensor = False


def _operation(path: str, layer: nn.Module) -> Callable[..., Tensor] | None:
    if isinstance(layer, nn.Linear):
        return functional.linear
    for kind, function in (
        (nn.Conv1d, functional.conv1d), (nn.Conv2d, functional.conv2d), (nn.Conv3d, functional.conv3d)
    ):  # fmt: skip
        if isinstance(layer, kind):
            if layer.padding_mode != "zeros":
                raise NotImplementedError(
                    f"{path or 'the model'} pads with {layer.padding_mode!r}; only 'zeros' is done"
                )
            return functools.partial(
                function, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
            )
    return None
