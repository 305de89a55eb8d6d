"""The compiled scatter and gather of fixed entries do what torch's own do, bit by bit, and stand back elsewhere."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, hessian, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from symfield.weightspace import AsymmetricLinear, BoundZeros, Rule, asymmetrize
from symfield.weightspace.asymmetric import expansion
from symfield.weightspace.asymmetric.expansion import bits_of, collect, expand

needs_kernel = pytest.mark.skipif(expansion._library(4) is None, reason="no compiler, or a processor without AVX2")


def by_torch(monkeypatch):
    monkeypatch.setenv("SYMFIELD_KERNEL", "off")


@needs_kernel
@settings(deadline=None)  # the first call compiles
@given(
    rows=st.integers(1, 9),
    size=st.integers(1, 40),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_those_of_torch_bit_by_bit(rows, size, share, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand((rows, size), generator=generator) < share
    fixed = torch.randn((rows, size), generator=generator, dtype=dtype)
    places, weights = mask.reshape(-1).nonzero()[:, 0], torch.randn((rows, size), generator=generator, dtype=dtype)
    entries = torch.randn(len(places), generator=generator, dtype=dtype).requires_grad_()
    dense = expand(entries, fixed, places, bits_of(mask))
    assert torch.equal(dense, fixed.reshape(-1).scatter(-1, places, entries).reshape(rows, size))
    assert len(places) == 0 or type(dense.grad_fn).__name__ == "_ExpandBackward"
    (gradient,) = torch.autograd.grad(dense, entries, weights)
    assert torch.equal(gradient, collect(weights, places))
    (gradient,) = torch.autograd.grad(expand(entries, fixed, places, bits_of(mask)).sum(), entries)  # a strided one
    assert torch.equal(gradient, torch.ones_like(gradient))


def layer(**options):
    return AsymmetricLinear(13, 9, fix=4, kappa=1.0, seed=0, name="first", **options)


@needs_kernel
@pytest.mark.parametrize("options", [{}, {"mask": BoundZeros()}])
def test_a_step_of_a_layer_is_the_same_with_and_without_the_kernel(options, monkeypatch):
    x = torch.randn(6, 13)
    one = layer(**options)
    two = copy.deepcopy(one)
    one(x).square().sum().backward()
    by_torch(monkeypatch)
    two(x).square().sum().backward()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch itself, for jvp
def test_second_derivatives_and_transforms_pass_through_torch():
    model = layer(dtype=torch.float64)
    names, params = zip(*model.named_parameters(), strict=True)
    x = torch.randn(6, 13, dtype=torch.float64)

    def loss(*values):
        return functional_call(model, dict(zip(names, values, strict=True)), (x,)).pow(3).sum()

    assert torch.autograd.gradgradcheck(loss, params)
    entries = params[names.index("parametrizations.weight.original")]
    others = [p for p in params if p is not entries]
    along = torch.randn_like(entries)

    def of_entries(value):
        return loss(*(value if p is entries else p for p in params))

    full = hessian(of_entries)(entries.detach())
    gradient = torch.autograd.grad(of_entries(entries), entries, create_graph=True)[0]
    product = torch.autograd.grad((gradient * along).sum(), entries)[0]
    assert torch.allclose(product, torch.einsum("abcd,cd->ab", full, along))
    _, slope = jvp(of_entries, (entries.detach(),), (along,))
    assert torch.allclose(slope, (gradient * along).sum())
    every = vmap(of_entries)(torch.stack([entries.detach(), 2 * entries.detach()]))
    assert torch.allclose(every[0], loss(*params))
    assert len(others) == 1


def test_a_traced_model_holds_the_scatter_and_moves_as_before():
    model = asymmetrize(torch.nn.Sequential(torch.nn.Linear(13, 9)), Rule(fix=4, kappa=1.0), seed=0)
    x = torch.randn(6, 13)
    traced = make_fx(lambda value: model(value))(x)
    assert any("scatter" in str(node.target) for node in traced.graph.nodes)
    assert torch.allclose(traced(x), model(x))
    assert torch.allclose(torch.export.export(model, (x,)).module()(x), model(x))


def test_switching_the_kernel_off_leaves_the_scatter(monkeypatch):
    by_torch(monkeypatch)
    assert type(layer().weight.grad_fn).__name__ != "_ExpandBackward"
