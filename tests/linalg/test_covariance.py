"""Roots of covariances have the rank of the covariance, and vectors that the root kills are exactly zero."""

from __future__ import annotations

import math

import pytest
import torch

from symfield import random
from symfield.linalg import covariance_root, require_covariance, through_root

LIKE = torch.zeros((), dtype=torch.float64)


def basis(dim: int) -> torch.Tensor:
    return torch.linalg.qr(random.normal((dim, dim), generator=random.generator(dim), like=LIKE))[0]


def covariance(q: torch.Tensor, values: list[float]) -> torch.Tensor:
    s = q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.mT
    return (s + s.mT) / 2


@pytest.mark.parametrize("values", [[2.0, 1.0, 0.5], [3.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1e-9, 1e-10, 0.0]])
def test_the_root_squares_to_the_covariance_and_has_its_rank(values):
    q = basis(3)
    s = covariance(q, values)
    root = covariance_root(s, 3)
    torch.testing.assert_close(root @ root, s, rtol=0, atol=1e-15 * max(values))
    for vector, value in zip(q.mT, values, strict=True):
        seen = through_root(vector, root)
        assert bool((seen != 0).any()) == (value > 0)
        assert float(seen.norm()) == pytest.approx(math.sqrt(value), rel=1e-7)


def test_small_variances_are_kept_where_they_are_known():
    assert covariance_root(torch.diag(torch.tensor([1.0, 1e-30], dtype=torch.float64)), 2)[1, 1] == 1e-15
    q = basis(2)
    assert through_root(q[:, 1], covariance_root(covariance(q, [1.0, 1e-12]), 2)).norm() == pytest.approx(
        1e-6, rel=1e-3
    )


def test_nan_is_passed_on_rather_than_taken_for_zero():
    assert through_root(torch.full((1, 2), math.nan).double(), torch.eye(2).double()).isnan().all()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.eye(3), r"shape \(2, 2\), received \(3, 3\)"),
        (torch.tensor([[1.0, math.nan], [math.nan, 1.0]]), "finite covariance, received NaN"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "least eigenvalue -1; symmetrise it, or add the missing variance"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "asymmetry 0.5"),
    ],
)
def test_what_is_no_covariance_is_refused_with_the_reason(matrix, message: str):
    with pytest.raises(ValueError, match=message):
        require_covariance(matrix, 2)
