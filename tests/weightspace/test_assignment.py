"""Assignments: optimal, with duals that prove it, whatever the shape, the sense and the solver."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from symfield import compiler
from symfield.weightspace import Assignment, assign

SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 90))


def best(matrix: torch.Tensor, maximize: bool) -> float:
    rows, columns = linear_sum_assignment(matrix.double().numpy(), maximize=maximize)
    return float(matrix.double()[torch.as_tensor(rows), torch.as_tensor(columns)].sum())


def check(found: Assignment, matrix: torch.Tensor, maximize: bool) -> None:
    """Every claim of the certificate, from the matrix alone."""
    matrix = matrix.double()
    n, m = matrix.shape
    scale = float(matrix.abs().max()) * max(n, m) + 1e-300
    kept = found.columns >= 0
    assert int(kept.sum()) == min(n, m) == len(set(found.columns[kept].tolist()))
    assigned = matrix[kept.nonzero()[:, 0], found.columns[kept]]
    assert found.value == pytest.approx(float(assigned.sum()), abs=1e-12 * scale)
    assert found.value == pytest.approx(best(matrix, maximize), abs=1e-12 * scale)
    sign = -1 if maximize else 1
    assert float((sign * (matrix - found.u[:, None] - found.v)).min()) >= -1e-14 * scale
    bound = float(found.u.sum() + found.v.sum())
    assert sign * (found.value - bound) == pytest.approx(found.gap, abs=1e-12 * scale)
    assert 0 <= found.gap <= 1e-12 * scale
    if n < m:
        left = torch.ones(m, dtype=torch.bool).index_fill(0, found.columns[kept], False)
        assert bool((found.v[left] == 0).all())
        assert float((sign * found.v).max()) <= 0


@given(
    shape=SHAPES, seed=st.integers(0, 2**31), maximize=st.booleans(), kind=st.sampled_from(["normal", "ties", "low"])
)
@settings(max_examples=80, deadline=None)
def test_it_is_optimal_and_proves_it(shape, seed, maximize, kind):
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        matrix = torch.randint(0, 3, shape, generator=generator).float()
    elif kind == "low":
        matrix = (
            torch.randn(shape[0], 2, generator=generator) @ torch.randn(2, shape[1], generator=generator)
        ).double()
    else:
        matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    check(assign(matrix, maximize=maximize), matrix, maximize)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_any_dtype_is_solved_exactly(dtype, generator):
    matrix = (100 * torch.randn(200, 200, generator=generator)).to(dtype)
    check(assign(matrix), matrix, False)


@pytest.mark.parametrize(
    "kind", ["normal", "product", "planted", "constant", "dead rows", "one good column", "scales", "staircase"]
)
def test_matrices_of_hundreds_are_solved_through_their_core(kind, generator):
    n = 300
    matrix = torch.randn(n, n, generator=generator)
    if kind == "product":  # costs i·j: every row wants the same columns
        matrix = torch.outer(torch.arange(n), torch.arange(n)).float()
    elif kind == "planted":
        order = torch.randperm(n, generator=generator)
        matrix = matrix @ (matrix[order] + 0.1 * torch.randn(n, n, generator=generator)).T
    elif kind == "constant":
        matrix = torch.full((n, n), 3.0)
    elif kind == "dead rows":
        matrix[::2] = 0
        matrix[:, ::3] = 0
    elif kind == "one good column":
        matrix[:, 7] -= 1000
    elif kind == "scales":
        matrix = matrix * torch.logspace(-6, 6, n)[:, None]
    elif kind == "staircase":
        matrix = (torch.arange(n)[:, None] < torch.arange(n)).float()
    for maximize in (False, True):
        check(assign(matrix, maximize=maximize), matrix, maximize)


def test_a_planted_permutation_is_found(generator):
    weights = torch.randn(500, 40, generator=generator)
    order = torch.randperm(500, generator=generator)
    assert torch.equal(assign(weights[order] @ weights.T, maximize=True).columns, order)


def test_a_warm_start_changes_neither_value_nor_certificate(generator):
    matrix = torch.randn(257, 257, generator=generator)
    first = assign(matrix, maximize=True)
    near = matrix + 0.01 * torch.randn(257, 257, generator=generator)
    check(assign(near, maximize=True, warm=first), near, True)
    check(assign(matrix, maximize=True, warm=first), matrix, True)
    absurd = Assignment(first.columns, 0.0, first.u, 100 * torch.randn(257, generator=generator).double(), 0.0, "")
    check(assign(matrix, maximize=True, warm=absurd), matrix, True)
    wide = matrix[:100]
    check(assign(wide, warm=assign(wide)), wide, False)
    check(assign(wide.T, warm=assign(wide.T)), wide.T, False)


def test_without_a_compiler_scipy_solves_and_its_duals_prove_it(generator, monkeypatch):
    matrix = torch.randn(60, 60, generator=generator)
    monkeypatch.setenv("SYMFIELD_KERNEL", "off")
    for shown in (matrix, matrix[:40], matrix[:, :40], matrix.round()):
        for maximize in (False, True):
            found = assign(shown, maximize=maximize)
            assert found.solver == "scipy"
            check(found, shown, maximize)


@pytest.mark.skipif(compiler.find_compiler() is None, reason="no C compiler")
def test_with_a_compiler_the_solver_is_ours(generator, monkeypatch):
    monkeypatch.delenv("SYMFIELD_KERNEL", raising=False)
    assert assign(torch.randn(5, 5, generator=generator)).solver == "jonker-volgenant"


@pytest.mark.parametrize("solver", ["on", "off"])
def test_bad_input_is_named(solver, monkeypatch, generator):
    monkeypatch.setenv("SYMFIELD_KERNEL", solver)
    matrix = torch.randn(9, 9, generator=generator)
    matrix[3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"1 that are not, the first at \(3, 4\)"):
        assign(matrix)
    matrix[3, 4] = torch.inf
    with pytest.raises(ValueError, match="finite"):
        assign(matrix)
    with pytest.raises(ValueError, match="expected a matrix"):
        assign(torch.ones(3))
    with pytest.raises(ValueError, match="expected a matrix"):
        assign(torch.ones(0, 3))
    with pytest.raises(ValueError, match="expected a start"):
        assign(torch.ones(3, 3), warm=assign(torch.ones(4, 4)))


def test_the_input_is_left_alone(generator):
    matrix = torch.randn(100, 100, generator=generator)
    before = matrix.clone()
    assign(matrix.T, maximize=True)
    assert torch.equal(matrix, before)
