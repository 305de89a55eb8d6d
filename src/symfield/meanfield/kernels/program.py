"""What one inner step of the mean-field dynamics does, as plain values that every backend reads.

A cloud of n units per run, stored with the particles last, z of shape (r, p, n), is advanced over k steps. With virtual
samples X' (b, d) and targets Y' (b, o) of the step, step size s, loss scale c and u_b = 2 c e_b / b:

    e_b = (1/n) Σ_i σ_*(x_b; z_i) − y_b,        e ← T e                     (T: ``residual_map``, feature averaging)
    G_i = Σ_b (∂σ_*(x_b; z_i)/∂z)ᵀ u_b          (no 1/n)
    z_i ← z_i − s (P G_i + 2 τ z_i) + P ξ_i                                 (P: ``gradient_map``, equivariant units)

This is noisy SGD for the squared loss; all training schemes differ in X', Y', T and P only.

References:
    Maass & Fontbona 2024, Eqs. (1) and (5), Section 2.3, arXiv 2405.19995v3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from symfield.typing import Float, Int, Tensor

__all__ = ["ACTIVATIONS", "Backend", "Program", "check"]

#: Names of the activations that a program may use.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "erf", "identity")

#: A function with the signature of :func:`symfield.meanfield.kernels.advance`, without ``backend``.
Backend: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Program:
    """One inner step: the unit, the regulariser, the loss scale and the two linear maps.

    Attributes:
        activation: name of σ, one of :data:`ACTIVATIONS`.
        in_dim: d.
        out_dim: o.
        hidden: None for the pointwise unit σ(z·x), z an (o, d) matrix row-major; h for W σ(Aᵀx + B), z = (W (o, h),
            A (d, h), B (h) with a bias), each row-major, in this order.
        bias: whether B is there; False for the pointwise unit.
        tau: weight τ of the regulariser ‖z‖².
        loss_scale: c; 1 for the loss ‖·‖², 1/2 for ½‖·‖².
        residual_map: T for each run, ``(r, m·o, m·o)``, acting on residuals indexed (frame element, output) row-major;
            the samples are ordered (frame element, batch). None is the identity.
        gradient_map: P for each run, ``(r, p, p)``, applied to the gradient and to the noise. None is the identity.

    Example:
        >>> Program(activation="relu", in_dim=3, out_dim=1, hidden=1).dim
        4
    """

    activation: str
    in_dim: int
    out_dim: int
    hidden: int | None = None
    bias: bool = False
    tau: float = 0.0
    loss_scale: float = 1.0
    residual_map: Tensor | None = None
    gradient_map: Tensor | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"expected an activation among {', '.join(ACTIVATIONS)}, received {self.activation!r}; "
                f"other activations run through the objective's own gradient"
            )
        sizes = {"in_dim": self.in_dim, "out_dim": self.out_dim, "hidden": 1 if self.hidden is None else self.hidden}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"expected {name} >= 1, received {size}")
        if self.bias and self.hidden is None:
            raise ValueError("expected bias=False for the pointwise unit, received bias=True; set hidden for a bias")
        if not self.tau >= 0:
            raise ValueError(f"expected tau >= 0, received {self.tau}")

    @property
    def dim(self) -> int:
        """p, the number of parameters of one unit."""
        if self.hidden is None:
            return self.out_dim * self.in_dim
        return self.hidden * (self.out_dim + self.in_dim + self.bias)

    @property
    def frame_size(self) -> int:
        """m, the number of moved copies that ``residual_map`` mixes; 1 without one."""
        return 1 if self.residual_map is None else self.residual_map.shape[-1] // self.out_dim


def check(
    z: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    noise: Float[Tensor, "..."] | None,
    steps: Float[Tensor, "..."],
    *,
    program: Program,
    data_row: Int[Tensor, "..."],
    noise_row: Int[Tensor, "..."],
) -> None:
    """Refuse tensors that do not fit a program or one another.

    Args:
        z: state, expected ``(r, p, n)``.
        x: samples, expected ``(k, rx, b, d)``.
        y: targets, expected ``(k, rx, b, o)``.
        noise: scaled noise, expected ``(k, rn, p, n)``, or None.
        steps: step sizes, expected ``(k,)``.
        program: what a step does.
        data_row: row of ``x`` and ``y`` that each run reads, expected ``(r,)``.
        noise_row: row of ``noise`` that each run reads, expected ``(r,)``.

    Raises:
        ValueError: with what was expected and what was received.
    """
    if z.ndim != 3 or z.shape[1] != program.dim or z.shape[2] < 1:
        raise ValueError(
            f"expected a state of shape (runs, {program.dim}, particles >= 1), received {tuple(z.shape)}; "
            f"particles are the last axis here"
        )
    if z.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"expected a float32 or float64 state, received {z.dtype}")
    runs, p, n = z.shape
    if x.ndim != 4 or x.shape[3] != program.in_dim or 0 in x.shape[1:3]:
        raise ValueError(f"expected samples x of shape (steps, rows, b, {program.in_dim}), received {tuple(x.shape)}")
    _expect("targets y", y, (*x.shape[:3], program.out_dim))
    _expect("step sizes", steps, (x.shape[0],))
    _expect("data_row", data_row, (runs,))
    _expect("noise_row", noise_row, (runs,))
    _expect_rows("data_row", data_row, x.shape[1])
    tensors = {"x": x, "y": y}
    if noise is not None:
        if noise.ndim != 4 or noise.shape[0] != x.shape[0] or noise.shape[2:] != (p, n) or noise.shape[1] < 1:
            raise ValueError(f"expected noise of shape ({x.shape[0]}, rows, {p}, {n}), received {tuple(noise.shape)}")
        _expect_rows("noise_row", noise_row, noise.shape[1])
        tensors["noise"] = noise
    if program.gradient_map is not None:
        _expect("gradient_map", program.gradient_map, (runs, p, p))
    if program.residual_map is not None:
        size = program.residual_map.shape[-1]
        if size % program.out_dim or x.shape[2] % max(1, program.frame_size):
            raise ValueError(
                f"expected a residual_map of shape (runs, m·{program.out_dim}, m·{program.out_dim}) with m dividing "
                f"the {x.shape[2]} samples, received {tuple(program.residual_map.shape)}"
            )
        _expect("residual_map", program.residual_map, (runs, size, size))
    for name, tensor in tensors.items():
        if tensor.dtype != z.dtype or tensor.device != z.device:
            raise ValueError(
                f"expected {name} with the state's {z.dtype} on {z.device}, received {tensor.dtype} on {tensor.device}"
            )


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"expected {name} of shape {shape}, received {tuple(tensor.shape)}")


def _expect_rows(name: str, rows: Tensor, bound: int) -> None:
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < bound):
        raise ValueError(f"expected {name} between 0 and {bound - 1}, received {int(rows.min())} to {int(rows.max())}")
