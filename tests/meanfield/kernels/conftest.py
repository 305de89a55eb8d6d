"""A naive twin of the inner loop: one network at a time, autograd, formulas as they stand in the paper."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from symfield.meanfield.kernels import Program

FUNCTIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "erf": torch.erf,
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Problem:
    """Everything that ``advance`` takes."""

    z: Tensor
    x: Tensor
    y: Tensor
    noise: Tensor | None
    steps: Tensor
    program: Program
    data_row: Tensor
    noise_row: Tensor

    def run(self, backend: Any, **change: Any) -> Tensor:
        part = replace(self, **change)
        return backend(
            part.z,
            part.x,
            part.y,
            part.noise,
            part.steps,
            program=part.program,
            data_row=part.data_row,
            noise_row=part.noise_row,
        )

    def to(self, dtype: torch.dtype) -> Problem:
        def cast(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(dtype)

        maps = {name: cast(getattr(self.program, name)) for name in ("residual_map", "gradient_map")}
        program = replace(self.program, **maps)
        tensors = {name: cast(getattr(self, name)) for name in ("z", "x", "y", "noise", "steps")}
        return replace(self, program=program, **tensors)


def unit(program: Program, x: Tensor, z: Tensor) -> Tensor:
    """σ_*(x; z): (b, d), (p, n) -> (n, b, o)."""
    d, o, h = program.in_dim, program.out_dim, program.hidden
    sigma = FUNCTIONS[program.activation]
    z = z.T
    if h is None:
        return sigma(torch.einsum("bd,nod->nbo", x, z.unflatten(1, (o, d))))
    w, a, c = z.split([o * h, d * h, h * program.bias], dim=1)
    pre = torch.einsum("bd,ndh->nbh", x, a.unflatten(1, (d, h)))
    if program.bias:
        pre = pre + c.unsqueeze(1)
    return torch.einsum("nbh,noh->nbo", sigma(pre), w.unflatten(1, (o, h)))


def naive_advance(
    z: Tensor,
    x: Tensor,
    y: Tensor,
    noise: Tensor | None,
    steps: Tensor,
    *,
    program: Program,
    data_row: Tensor,
    noise_row: Tensor,
) -> Tensor:
    finished = []
    for run, cloud in enumerate(z.unbind(0)):
        for k, s in enumerate(steps):
            xs, ys = x[k, data_row[run]], y[k, data_row[run]]
            leaf = cloud.clone().requires_grad_()
            error = unit(program, xs, leaf).mean(0) - ys
            b = error.shape[0]
            if program.residual_map is not None:
                m, o = program.residual_map.shape[-1] // program.out_dim, program.out_dim
                mixed = program.residual_map[run] @ error.view(m, b // m, o).transpose(1, 2).reshape(m * o, b // m)
                error = mixed.view(m, o, b // m).transpose(1, 2).reshape(b, o)
            # T is an orthogonal projection, so half the gradient of ‖T e‖² is the pull-back of T e.
            (gradient,) = torch.autograd.grad(program.loss_scale * error.square().sum() / b, leaf)
            gradient = gradient * cloud.shape[1]
            shock = torch.zeros_like(cloud) if noise is None else noise[k, noise_row[run]]
            if program.gradient_map is not None:
                gradient, shock = program.gradient_map[run] @ gradient, program.gradient_map[run] @ shock
            cloud = cloud - s * (gradient + 2 * program.tau * cloud) + shock
        finished.append(cloud)
    return torch.stack(finished)


def projection(size: int, rank: int, generator: torch.Generator) -> Tensor:
    basis = torch.linalg.qr(torch.randn(size, rank, generator=generator, dtype=torch.float64))[0]
    return basis @ basis.T


def make_problem(
    program: Program,
    *,
    runs: int = 3,
    n: int = 7,
    b: int = 6,
    k: int = 50,
    rows: int = 2,
    noisy: bool = True,
    maps: str = "",
    seed: int = 0,
) -> Problem:
    """Random data; ``maps`` holds "F" for a residual map and "E" for a gradient map, on every run but the first."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def with_identity_first(matrix: Tensor) -> Tensor:
        stacked = matrix.expand(runs, *matrix.shape).clone()
        stacked[0] = torch.eye(matrix.shape[0], dtype=torch.float64)
        return stacked

    m = 2
    if "F" in maps:
        program = replace(
            program, residual_map=with_identity_first(projection(m * program.out_dim, program.out_dim, generator))
        )
    if "E" in maps:
        program = replace(
            program, gradient_map=with_identity_first(projection(program.dim, max(1, program.dim // 2), generator))
        )
    return Problem(
        z=normal(runs, program.dim, n),
        x=normal(k, rows, b, program.in_dim),
        y=normal(k, rows, b, program.out_dim),
        noise=0.05 * normal(k, rows, program.dim, n) if noisy else None,
        steps=0.05 * torch.rand(k, generator=generator, dtype=torch.float64) + 0.01,
        program=program,
        data_row=torch.arange(runs) % rows,
        noise_row=(torch.arange(runs) + 1) % rows,
    )


@pytest.fixture(scope="session")
def naive() -> Any:
    return naive_advance


@pytest.fixture(scope="session")
def problem() -> Any:
    return make_problem
