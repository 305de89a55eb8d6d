"""The compiled scatter and gather of fixed entries do what torch's own do, bit by bit, and stand back elsewhere."""

import contextlib
import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, hessian, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from symfield.weightspace import AsymmetricLinear, BoundZeros, MaskedWeight, Rule, asymmetrize
from symfield.weightspace.asymmetric.expansion import (
    WORKS,
    bits_of,
    collect,
    compiled_functions,
    expand,
    expand_by_mask,
)
from symfield.weightspace.asymmetric.weights import _LOOKED_AT

needs_kernel = pytest.mark.skipif(compiled_functions().words != WORKS, reason=compiled_functions().words)


@pytest.fixture
def by_torch(monkeypatch):
    """From the call on, entries are moved by torch's scatter."""

    def switch_off():
        monkeypatch.setenv("SYMFIELD_KERNEL", "off")
        compiled_functions.cache_clear()

    yield switch_off
    compiled_functions.cache_clear()


def is_compiled(weight):
    return weight.grad_fn is not None and weight.grad_fn.name() == "ExpandBackward"


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
    assert len(places) == 0 or is_compiled(dense)
    (gradient,) = torch.autograd.grad(dense, entries, weights)
    assert torch.equal(gradient, collect(weights, places))
    (gradient,) = torch.autograd.grad(expand(entries, fixed, places, bits_of(mask)).sum(), entries)  # a strided one
    assert torch.equal(gradient, torch.ones_like(gradient))


def layer(**options):
    return AsymmetricLinear(13, 9, fix=4, kappa=1.0, seed=0, name="first", **options)


@needs_kernel
@pytest.mark.parametrize("options", [{}, {"mask": BoundZeros()}])
def test_a_step_of_a_layer_is_the_same_with_and_without_the_kernel(options, by_torch):
    x = torch.randn(6, 13)
    one = layer(**options)
    two = copy.deepcopy(one)
    assert is_compiled(one.weight)
    one(x).square().sum().backward()
    by_torch()
    assert not is_compiled(two.weight)
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


def test_switching_the_kernel_off_leaves_the_scatter(by_torch):
    by_torch()
    assert not is_compiled(layer().weight)
    assert compiled_functions().words == "compiled kernels are switched off by SYMFIELD_KERNEL; torch's scatter is used"


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_kernel
@pytest.mark.parametrize("size", [70_000, 131_072, 200_003])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.9, 1.0])
def test_threads_share_the_entries_and_change_nothing(size, share, threads):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(size, generator=generator) < share
    fixed, weights = torch.randn((2, size), generator=generator)
    places = mask.nonzero()[:, 0]
    entries = torch.randn(len(places), generator=generator).requires_grad_()
    for count in (1, 2, 3):
        threads(count)
        dense = expand(entries, fixed, places, bits_of(mask))
        assert torch.equal(dense, fixed.scatter(-1, places, entries))
        assert torch.equal(torch.autograd.grad(dense, entries, weights)[0], weights[places])


@needs_kernel
@settings(deadline=None)
@given(size=st.integers(1, 200), count=st.integers(0, 200), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_bits_that_say_more_or_less_than_the_places_are_followed_as_far_as_the_entries_go(size, count, share, seed):
    """Other code may put other bits there: nothing outside of the arrays is touched."""
    generator = torch.Generator().manual_seed(seed)
    said = torch.rand(size, generator=generator) < share
    count = min(count, size)
    entries = torch.arange(1.0, count + 1).requires_grad_()
    dense = expand(entries, torch.zeros(size), torch.arange(count), bits_of(said))
    expected = torch.zeros(size)
    told = said.nonzero()[:count, 0]
    expected[told] = entries.detach()[: len(told)]
    assert torch.equal(dense, expected)
    if count:
        (gradient,) = torch.autograd.grad(dense, entries, torch.arange(1.0, size + 1))
        assert torch.equal(gradient[: len(told)], told + 1.0)


@needs_kernel
def test_hooks_caches_and_a_second_step_are_seen_where_a_weight_is_read():
    model = layer()
    steps, seen = model.parametrizations.weight, []
    for module in (steps, steps[0]):
        for register in (module.register_forward_hook, module.register_forward_pre_hook):
            handle = register(lambda *_: seen.append(1))
            model.weight.sum()
            handle.remove()
            model.weight.sum()
    handle = steps[0].register_full_backward_hook(lambda *_: seen.append(1))
    model.weight.sum().backward()
    handle.remove()
    assert len(seen) == 5
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(1))
    model.weight.sum()
    handle.remove()
    assert len(seen) > 5
    with torch.nn.utils.parametrize.cached():
        assert model.weight is model.weight
    assert model.weight is not model.weight
    before = model.weight
    torch.nn.utils.parametrize.register_parametrization(model, "weight", Twice())
    assert torch.equal(model.weight, 2 * before)


@needs_kernel
def test_what_is_no_weight_of_masked_entries_alone_is_left_to_torch():
    model, read = layer(), compiled_functions().read
    assert read(model, "weight", _LOOKED_AT) is not None
    assert read(model, "bias", _LOOKED_AT) is None
    assert read(torch.nn.Linear(2, 2), "weight", _LOOKED_AT) is None
    assert read(object(), "weight", _LOOKED_AT) is None
    assert read(None, None, _LOOKED_AT) is None
    assert read(model, "weight", (*_LOOKED_AT[:4], ({1: 2},), ())) is None  # a hook of all modules
    for odd in [(), None, _LOOKED_AT[:5]]:
        with pytest.raises(TypeError):
            read(model, "weight", odd)
    for axis in (1, 2**70, "0"):
        model.parametrizations.weight[0].axis = axis
        assert read(model, "weight", _LOOKED_AT) is None
    model.parametrizations.weight[0].axis = 0
    assert read(model, "weight", _LOOKED_AT) is not None
    del model.parametrizations.weight._parameters["original"]
    assert read(model, "weight", _LOOKED_AT) is None
    del model.parametrizations
    assert read(model, "weight", _LOOKED_AT) is None


class Twice(torch.nn.Module):
    """The double."""

    def forward(self, weight):
        return 2 * weight


def test_symbolic_tracing_into_a_layer_keeps_its_parameters():
    class Everything(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, MaskedWeight)  # whose arguments are checked to be tensors in these tests

    model = torch.nn.Sequential(layer())
    graph = torch.fx.GraphModule(model, Everything().trace(model))
    x = torch.randn(6, 13)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
        model[0].parametrizations.weight.original.add_(1.0)
    assert torch.allclose(graph(x), model(x))


@needs_kernel
def test_dispatch_modes_see_what_torch_does():
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    model = layer()
    with Record():
        model.weight.sum().backward()
    assert {"aten.scatter.src", "aten.gather.default"} <= set(names)
    dense = model.weight
    assert is_compiled(dense)
    names.clear()
    with Record():
        dense.sum().backward()
    assert "aten.gather.default" in names


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_cast_of_all_buffers_leaves_masks_and_places_alone(dtype):
    model = layer(mask=BoundZeros())
    weight = model.weight.detach().to(dtype)
    model.type(dtype)  # casts buffers of integers and bools, too
    assert model.parametrizations.weight[0].trainable_entries.dtype == torch.bool
    assert torch.equal(model.weight, weight)


@needs_kernel
def test_fixed_values_or_bits_of_another_size_are_left_to_torch():
    mask = torch.tensor([[True, False], [True, True]])
    places, entries = mask.reshape(-1).nonzero()[:, 0], torch.ones(3)
    bits = bits_of(mask)
    assert compiled_functions().expand(entries, torch.zeros(2, 2), places, bits) is not None
    assert compiled_functions().expand(entries, torch.zeros(90, 2), places, bits) is None
    assert compiled_functions().expand(entries[:2], torch.zeros(2, 2), places, bits) is None
    assert compiled_functions().expand(entries, torch.zeros(2, 2), places, bits.float()) is None
    assert compiled_functions().expand(entries, torch.zeros(2, 2).double(), places, bits) is None
    assert compiled_functions().expand(entries.half(), torch.zeros(2, 2).half(), places, bits) is None
    assert compiled_functions().expand(torch._neg_view(entries), torch.zeros(2, 2), places, bits) is None
    assert compiled_functions().expand(torch.ones(6)[::2], torch.zeros(2, 2), places, bits) is None
    assert compiled_functions().expand(entries, torch.zeros(2, 2).T.contiguous().T, places, bits) is None
    assert compiled_functions().expand(entries, torch.zeros(2, 2, requires_grad=True), places, bits) is None
    assert compiled_functions().expand(entries.to("meta"), torch.zeros(2, 2), places, bits) is None
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(entries, entries)
        assert compiled_functions().expand(dual, torch.zeros(2, 2), places, bits) is None
    assert compiled_functions().expand(entries, None, places, bits) is None


@needs_kernel
def test_gradients_accumulate_are_retained_and_pass_through_inference():
    model = layer()
    for times in (1, 2):
        dense = model.weight
        dense.retain_grad()
        dense.sum().backward(retain_graph=True)
        assert torch.equal(dense.grad, torch.ones_like(dense))
        assert torch.equal(
            next(p.grad for n, p in model.named_parameters() if "original" in n), torch.full((9, 9), times)
        )
    with torch.no_grad():
        assert not model.weight.requires_grad
    with torch.inference_mode():
        assert torch.equal(model.weight, dense)
    model.parametrizations.weight.original.requires_grad_(False)
    assert not model.weight.requires_grad


def test_a_batch_of_gradients_is_the_stack_of_single_ones():
    model = layer(dtype=torch.float64)
    out = model(torch.randn(6, 13, dtype=torch.float64)).sum(0)
    params, units = list(model.parameters()), torch.eye(9, dtype=torch.float64)

    def gradients(along, **options):
        return torch.autograd.grad(out, params, along, retain_graph=True, **options)

    single = [torch.stack(parts) for parts in zip(*map(gradients, units), strict=True)]
    for found in (gradients(units, is_grads_batched=True), vmap(gradients)(units)):
        for a, b in zip(found, single, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.9999])
def test_an_average_that_takes_buffers_in_leaves_entries_in_their_places(decay):
    """``p * decay + p * (1 - decay)``, rounded towards zero, is p - 1 for some integers p."""
    model = torch.nn.Sequential(torch.nn.Linear(300, 70))
    model = asymmetrize(model, Rule(fix=20, kappa=1.0), seed=0)
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=ema, use_buffers=True)
    for _ in range(3):
        averaged.update_parameters(model)
    assert torch.equal(averaged.module[0].weight, model[0].weight)


@pytest.mark.parametrize(
    ("build", "rule", "x"),
    [
        (lambda: torch.nn.Linear(13, 9), Rule(4, 1.0), (6, 13)),
        (lambda: torch.nn.Linear(13, 30), Rule(1, 1.0, mask=BoundZeros(), allow_frozen=True), (6, 13)),
        (lambda: torch.nn.ConvTranspose1d(5, 4, 3), Rule(2, 1.0), (2, 5, 7)),
    ],
)
def test_the_mask_decides_where_other_buffers_are_put_in_its_place(build, rule, x):
    models = [asymmetrize(torch.nn.Sequential(build()), rule, seed=seed) for seed in range(3)]
    x = torch.randn(x)
    for other in models[1:]:
        assert torch.equal(functional_call(models[0], other.state_dict(), (x,)), other(x))
    params, buffers = stack_module_state(models)
    for base in (models[0], copy.deepcopy(models[0]).to("meta")):
        found = vmap(lambda p, b, base=base: functional_call(base, (p, b), (x,)))(params, buffers)
        assert torch.allclose(found, torch.stack([model(x) for model in models]), atol=1e-6)
    entries = {
        name: value.detach().double() for name, value in models[1].state_dict().items() if value.dtype.is_floating_point
    }
    mask = {name: value for name, value in models[1].named_buffers() if value.dtype == torch.bool}
    key = "0.parametrizations.weight.original"

    def total(value):
        return functional_call(models[0].double(), {**entries, **mask, key: value}, (x.double(),)).square().sum()

    assert torch.autograd.gradcheck(total, entries[key].requires_grad_())


def batches(*, count=4, rows=9, size=13, dtype=torch.float64):
    """Entries, fixed values and masks of several layers, each with its own mask of as many entries."""
    masks = torch.stack([layer_mask(seed, rows, size) for seed in range(count)])
    generator = torch.Generator().manual_seed(1)
    entries = torch.randn((count, rows, size - 4), generator=generator, dtype=dtype)
    return entries.requires_grad_(), torch.randn((count, rows, size), generator=generator, dtype=dtype), masks


def layer_mask(seed, rows, size):
    noise = torch.rand((rows, size), generator=torch.Generator().manual_seed(seed))
    return torch.ones(rows, size, dtype=torch.bool).scatter(1, noise.argsort(1)[:, :4], False)


def one_by_one(entries, fixed, masks):
    return torch.stack([f.masked_scatter(m, e) for e, f, m in zip(entries, fixed, masks, strict=True)])


@needs_kernel
def test_a_batch_of_masks_is_one_large_case():
    entries, fixed, masks = batches()
    dense = vmap(expand_by_mask)(entries, fixed, masks)
    assert is_compiled(dense)
    assert torch.equal(dense, one_by_one(entries, fixed, masks))
    along = torch.randn_like(fixed)
    (gradient,) = torch.autograd.grad(dense, entries, along, retain_graph=True)
    assert torch.equal(gradient, along[masks].reshape(entries.shape))
    (again,) = torch.autograd.grad(dense.mT, entries, along.mT.contiguous())  # along other axes
    assert torch.equal(again, gradient)
    moved = vmap(expand_by_mask, in_dims=(0, 1, 2))(entries, fixed.movedim(0, 1), masks.movedim(0, 2))
    assert is_compiled(moved)
    assert torch.equal(moved, dense)
    shared = vmap(expand_by_mask, in_dims=(0, None, 0))(entries, fixed[0], masks)
    assert is_compiled(shared)
    assert torch.equal(shared, one_by_one(entries, fixed[:1].expand_as(fixed), masks))
    assert torch.equal(vmap(expand_by_mask, in_dims=(None, 0, 0))(entries[1], fixed, masks)[1], dense[1])


def test_a_batch_of_masks_has_second_derivatives_and_passes_other_transforms():
    entries, fixed, masks = batches(count=2, rows=2, size=6)

    def cubes(e, f, m):
        return (expand_by_mask(e, f, m) ** 3).sum()

    def total(e):
        return (vmap(expand_by_mask)(e, fixed, masks) ** 3).sum()

    assert torch.autograd.gradcheck(total, entries)
    assert torch.autograd.gradgradcheck(total, entries)
    expected = torch.autograd.grad(total(entries), entries)[0]
    assert torch.allclose(vmap(torch.func.grad(cubes))(entries, fixed, masks), expected)
    assert torch.allclose(torch.func.grad(total)(entries), expected)
    assert torch.allclose(torch.func.jacfwd(total)(entries.detach()), expected)
    twice = vmap(vmap(expand_by_mask))(*(x.detach()[None].expand(3, *x.shape) for x in (entries, fixed, masks)))
    assert torch.equal(twice[2], vmap(expand_by_mask)(entries, fixed, masks))
    traced = make_fx(vmap(expand_by_mask))(entries.detach(), fixed, masks)
    assert torch.equal(traced(entries, fixed, masks), twice[0])
    with FakeTensorMode() as mode:
        pass
    fake = [mode.from_tensor(x.detach()) for x in (entries, fixed, masks)]
    assert vmap(expand_by_mask)(*fake).shape == fixed.shape  # outside of their mode
    with torch.no_grad():
        _, left = torch.func.grad(
            lambda w: ((w * (d := vmap(expand_by_mask)(entries, fixed, masks))).sum(), d), has_aux=True
        )(torch.ones((), dtype=torch.float64))
    assert not left.requires_grad
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), lambda x: x):
        dense = vmap(expand_by_mask)(entries, fixed, masks)
    assert torch.allclose(torch.autograd.grad((dense**3).sum(), entries)[0], expected)


def test_masks_of_a_batch_that_hold_other_numbers_of_entries_do_not_mix():
    entries, fixed, masks = batches()
    masks = masks.clone()
    masks[1, 0] = True  # four more than there are entries
    with pytest.raises((IndexError, RuntimeError)):
        vmap(expand_by_mask)(entries, fixed, masks)


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="torch 2.6 cannot export a vmap of layers")
def test_an_exported_stack_takes_the_masks_that_it_is_given():
    models = [asymmetrize(torch.nn.Sequential(torch.nn.Linear(6, 4)), Rule(2, 1.0), seed=seed) for seed in range(2)]

    class Stack(torch.nn.Module):
        def forward(self, params, buffers, x):
            return vmap(lambda p, b: functional_call(models[0], (p, b), (x,)))(params, buffers)

    state, x = stack_module_state(models), torch.randn(3, 6)
    exported = torch.export.export(Stack(), (*state, x), strict=False).module()
    expected = torch.stack([model(x) for model in models])
    assert torch.allclose(exported(*state, x), expected, atol=1e-6)
    other = [{name: value.flip(0) for name, value in held.items()} for held in state]
    assert torch.allclose(exported(*other, x), expected.flip(0), atol=1e-6)


def inside_vmap(model, x):
    return vmap(model)(x)


def inside_grad(model, x):
    return torch.func.grad(lambda params: functional_call(model, params, (x,)).sum())(dict(model.named_parameters()))


def inside_a_mode(model, x):
    with FlopCounterMode(display=False):
        return model(x)


def inside_tracing(model, x):
    return make_fx(model)(x)


def inside_a_checkpoint(model, x):
    checkpoint(model, x, use_reentrant=False).sum().backward()


def inside_other_defaults(model, x):
    with torch.device("meta"), torch.inference_mode():
        return model(x)


@needs_kernel
@pytest.mark.parametrize(
    "first",
    [inside_vmap, inside_grad, inside_a_mode, inside_tracing, inside_a_checkpoint, inside_other_defaults],
)
def test_the_first_call_may_be_anywhere(first):
    model = torch.nn.Sequential(layer(), torch.nn.Tanh())
    compiled_functions.cache_clear()
    first(model, torch.randn(6, 13))
    assert compiled_functions().words == WORKS
    assert is_compiled(model[0].weight)


@pytest.mark.parametrize("forward_only", [True, False])
def test_a_checkpoint_may_be_computed_again_in_another_way(forward_only):
    model = torch.nn.Sequential(layer(), torch.nn.Tanh())
    x = torch.randn(6, 13, requires_grad=True)
    mode = FlopCounterMode(display=False)
    with mode if forward_only else contextlib.nullcontext():
        total = checkpoint(model, x, use_reentrant=False).sum()
    with contextlib.nullcontext() if forward_only else mode:
        total.backward()
    gradient = model[0].parametrizations.weight.original.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    assert torch.equal(model[0].parametrizations.weight.original.grad, gradient)


def test_a_graph_is_passed_once_unless_it_is_retained():
    total = layer().weight.sum()
    total.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        total.backward()


def test_replaced_methods_classes_and_attributes_are_minded(monkeypatch):
    class Doubled(torch.nn.utils.parametrize.ParametrizationList):
        def forward(self):
            return 2 * super().forward()

    model = layer()
    steps, before, seen = model.parametrizations.weight, model.weight.detach(), []
    kind, call = type(steps), torch.nn.Module.__call__
    steps.__class__ = Doubled
    assert torch.equal(model.weight, 2 * before)
    steps.__class__ = kind
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", lambda self: 3 * before)
        assert torch.equal(model.weight, 3 * before)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "__call__", lambda self, *args: seen.append(self) or call(self, *args))
        assert torch.equal(model.weight, before)
        assert seen == [steps, steps[0]]
    steps[0].__dict__["fixed_values"] = before * 0
    assert not torch.equal(model.weight, before)
    del steps[0].__dict__["fixed_values"]
    assert torch.equal(model.weight, before)


def test_a_forward_that_was_replaced_is_called():
    model = layer()
    steps, before = model.parametrizations.weight, model.weight.detach()
    original = steps[0].forward
    steps[0].forward = lambda entries: 2 * original(entries)
    assert torch.equal(model.weight, 2 * before)
    del steps[0].forward
    assert torch.equal(model.weight, before)
    steps.forward = lambda: 3 * before
    assert torch.equal(model.weight, 3 * before)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch itself, for jvp
def test_a_tangent_of_fixed_values_is_kept_and_another_shape_of_them_refused():
    model = layer()
    name = "parametrizations.weight.0.fixed_values"
    fixed, x = model.get_buffer(name), torch.ones(1, 13)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(fixed, torch.ones_like(fixed))
        out = functional_call(model, {name: dual}, (x,))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(out).tangent, torch.full((1, 9), 4.0))
    with pytest.raises(RuntimeError):
        functional_call(model, {name: fixed.reshape(13, 9)}, (x.T,))
