"""Units: values, the two primitives, and joint equivariance, which is checked and never assumed."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from symfield.groups import Cyclic, Defining, Matrix, Orthogonal, Sign, SignFlips, Symmetric, Trivial
from symfield.testing import joint_equivariance_error
from symfield.units import (
    Activation,
    HiddenUnit,
    JointEquivarianceError,
    ModuleUnit,
    PointwiseUnit,
    ReLUUnit,
    Unit,
    action,
    ensemble,
    erf,
    identity,
    relu,
    sigmoid,
    softplus,
    tanh,
)

UNITS = [
    PointwiseUnit(sigmoid, 3, 2),
    PointwiseUnit(torch.nn.functional.silu, 3, 2),
    HiddenUnit(tanh, 3, 2, hidden=4),
    HiddenUnit(erf, 3, 2, hidden=2, bias=False),
    ReLUUnit(3),
    ModuleUnit(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), 3, 2),
]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_mean_is_the_average_of_the_units(unit: Unit):
    x, z = normal(4, 5, 3), normal(4, 7, unit.dim, seed=1)
    torch.testing.assert_close(unit.mean(x, z), unit(x, z).mean(-3))
    assert ensemble(unit, x, z).shape == (4, 5, unit.out_dim)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_pullback_is_n_times_the_gradient_of_the_ensemble(unit: Unit):
    x, z, u = normal(2, 5, 3), normal(2, 7, unit.dim, seed=1).requires_grad_(), normal(2, 5, unit.out_dim, seed=2)
    (expected,) = torch.autograd.grad((unit(x, z).mean(-3) * u).sum(), z)
    torch.testing.assert_close(unit.pullback(x, z, u), 7 * expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_runs_advance_as_they_would_alone(unit: Unit):
    x, z = normal(5, 3), normal(3, 7, unit.dim, seed=1)
    together = unit.mean(x, z)
    for run in range(3):
        torch.testing.assert_close(together[run], unit.mean(x, z[run]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_a_cloud_that_runs_share_has_a_gradient_for_each_run(unit: Unit):
    x, z, u = normal(4, 5, 3), normal(7, unit.dim, seed=1), normal(4, 5, unit.out_dim, seed=2)
    alone = torch.stack([unit.pullback(x[run], z, u[run]) for run in range(4)])
    torch.testing.assert_close(unit.pullback(x, z, u), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "activation", [sigmoid, tanh, relu, erf, identity, softplus, Activation.of(torch.sin)], ids=repr
)
def test_derivative_is_the_slope(activation: Activation):
    x = torch.linspace(-3.05, 3, 41, dtype=torch.float64)
    h = 1e-6
    slope = (activation(x + h) - activation(x - h)) / (2 * h)
    torch.testing.assert_close(activation.derivative(x, activation(x)), slope, rtol=1e-7, atol=1e-8)


def test_hidden_unit_is_w_sigma_of_a_transposed_x_plus_b():
    unit = HiddenUnit(tanh, 3, 2, hidden=4)
    x, z = normal(5, 3), normal(6, unit.dim, seed=1)
    w, a, b = unit.unpack(z)
    expected = torch.stack([torch.stack([w[i] @ torch.tanh(a[i].T @ x[k] + b[i]) for k in range(5)]) for i in range(6)])
    torch.testing.assert_close(unit(x, z), expected)


def test_module_unit_reproduces_the_module():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    unit = ModuleUnit(module, 3, 2)
    x = normal(5, 3)
    torch.testing.assert_close(unit.mean(x, unit.parameters.expand(2, -1)), module(x).detach())


def _cases() -> list[tuple[str, Unit, object, object, object]]:
    c2, c3, s3 = Defining(Cyclic(2)), Defining(Cyclic(3)), Defining(Symmetric(3))
    flips, rotations = Defining(SignFlips(2)), Defining(Orthogonal(3))
    skew = Matrix(Cyclic(2), [torch.tensor([[0.25, 0.46875], [2.0, -0.25]], dtype=torch.float64)])
    module = ModuleUnit(nn.Sequential(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 3, bias=False)).double(), 3, 3)
    return [
        ("the paper's unit", PointwiseUnit(sigmoid, 2, 2), c2, c2, None),
        ("odd activation and signs", PointwiseUnit(tanh, 2, 2), flips, flips, None),
        ("permuted hidden coordinates", HiddenUnit(sigmoid, 3, 3, hidden=3), s3, s3, s3),
        ("trivial hidden coordinates, continuous group", HiddenUnit(relu, 3, 3, hidden=2), rotations, rotations, None),
        ("invariant output", HiddenUnit(relu, 3, 1), rotations, Trivial(Orthogonal(3)), None),
        ("pseudo-scalar output", HiddenUnit(softplus, 3, 1), s3, Sign(Symmetric(3)), None),
        ("a skew basis", HiddenUnit(tanh, 2, 2, hidden=2), skew, c2, c2),
        ("a skew basis on both sides", HiddenUnit(identity, 2, 2, hidden=2), skew, c2, skew),
        ("a multi-layer module", module, c3, c3, [c3]),
    ]


@pytest.mark.parametrize(
    ("unit", "rep_in", "rep_out", "hidden"), [c[1:] for c in _cases()], ids=[c[0] for c in _cases()]
)
def test_action_is_jointly_equivariant(unit, rep_in, rep_out, hidden, generator):
    rep = action(unit, rep_in, rep_out, hidden=hidden, generator=generator)
    assert rep.dim == unit.dim
    assert joint_equivariance_error(unit, rep_in, rep_out, rep, generator=generator) < 1e-12


def test_a_pointwise_sigmoid_with_signs_on_the_output_is_refused_with_the_violation(generator):
    flips = Defining(SignFlips(2))
    with pytest.raises(JointEquivarianceError, match="relative violation") as refused:
        action(PointwiseUnit(sigmoid, 2, 2), flips, flips, generator=generator)
    assert refused.value.violation > 1e-2
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (str(copy), copy.violation) == (str(refused.value), refused.value.violation)


def test_a_pointwise_activation_with_rotated_outputs_is_refused(generator):
    rotation = Matrix(Cyclic(3), [torch.tensor([[-0.5, -(0.75**0.5)], [0.75**0.5, -0.5]], dtype=torch.float64)])
    with pytest.raises(JointEquivarianceError):
        action(PointwiseUnit(tanh, 2, 2), rotation, rotation, generator=generator)


def test_a_module_without_a_known_action_says_what_to_pass(generator):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2, 2))

        def forward(self, x):
            return x @ self.w

    swap = Defining(Cyclic(2))
    unit = ModuleUnit(Net().double(), 2, 2)
    with pytest.raises(NotImplementedError, match="parameters="):
        action(unit, swap, swap, generator=generator)
    assert action(unit, swap, swap, parameters=swap * swap, generator=generator).dim == 4


def test_a_module_that_changes_its_buffers_is_refused_and_left_as_it_was():
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"eval\(\)"):
        ModuleUnit(module, 3, 2)
    assert module[0].num_batches_tracked == 0
    assert ModuleUnit(module.eval(), 3, 2).dim == 14


def test_bad_input_is_refused_in_the_users_words(generator):
    unit, swap = PointwiseUnit(sigmoid, 2, 2), Defining(Cyclic(2))
    with pytest.raises(ValueError, match="at least one particle"):
        ensemble(unit, torch.zeros(3, 2), torch.zeros(0, 4))
    with pytest.raises(ValueError, match="expected inputs"):
        ensemble(unit, torch.zeros(3, 5), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="expected a cloud"):
        ensemble(unit, torch.zeros(3, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="rep_in of dim 2"):
        action(unit, Defining(Cyclic(3)), swap, generator=generator)
    with pytest.raises(ValueError, match="one group"):
        action(unit, Trivial(Cyclic(3), 2), swap, generator=generator)
    with pytest.raises(ValueError, match="hidden >= 1"):
        HiddenUnit(tanh, 2, 2, hidden=0)
    with pytest.raises(ValueError, match="without"):
        ModuleUnit(nn.Tanh(), 2, 2)
    with pytest.raises(ValueError, match="leading axes"):
        ensemble(unit, torch.zeros(3, 5, 2), torch.zeros(4, 6, 4))
    with pytest.raises(ValueError, match="map"):
        ModuleUnit(nn.Linear(2, 3), 2, 2)
    with pytest.raises(TypeError, match="activation"):
        Activation.of("relu")
