"""What is guaranteed of asymmetric networks, checked by brute force, and what is reported where an assumption fails."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from symfield import random
from symfield.studies._lim2024_models import ResNet, mlp, resnet8_rules
from symfield.weightspace import (
    EveryEntry,
    FiGLU,
    RandomRows,
    Rule,
    activation_equivariances,
    asymmetrize,
    fixed_entries,
    fixed_mask,
    from_axes,
    gate_is_rigid,
    jacobian_rank,
    label_automorphisms,
    mask_automorphisms,
    symmetries,
    symmetrize_back,
    verify_asymmetry,
)

DOUBLE = torch.zeros((), dtype=torch.float64)


def chain(masks: list[torch.Tensor]):
    """The dense symmetry of an MLP without biases, and the labels of its weights."""
    names = [None, *[f"h{i}" for i in range(len(masks) - 1)], None]
    axes = {f"w{i}": (names[i + 1], names[i]) for i in range(len(masks))}
    return from_axes(axes, {f"w{i}": tuple(m.shape) for i, m in enumerate(masks)}), {
        f"w{i}": m for i, m in enumerate(masks)
    }


def test_distinct_nonzero_rows_leave_no_automorphism_of_the_masked_graph():
    """T1 by brute force: 6!·5! = 86 400 pairs of permutations for each of 50 masks of a 4-6-5-3 network."""
    for seed in range(50):
        masks = [
            fixed_mask((o, d), n, seed=seed, name=str(i))
            for i, (o, d, n) in enumerate([(6, 4, 2), (5, 6, 2), (3, 5, 2)])
        ]
        assert all(len(mask.unique(dim=0)) == len(mask) for mask in masks)
        ((one, two),) = mask_automorphisms(masks)
        assert one.tolist() == list(range(6))
        assert two.tolist() == list(range(5))
        assert label_automorphisms(*chain(masks)).method == "colour refinement"


def test_two_units_with_equal_rows_and_equal_outgoing_columns_can_be_exchanged():
    masks = [fixed_mask((o, d), 2, seed=0, name=str(i)).clone() for i, (o, d) in enumerate([(6, 4), (5, 6), (3, 5)])]
    masks[0][1] = masks[0][0]
    assert len(mask_automorphisms(masks)) == 1 + int(torch.equal(masks[1][:, 0], masks[1][:, 1]))
    masks[1][:, 1] = masks[1][:, 0]
    found = mask_automorphisms(masks)
    assert [1, 0, 2, 3, 4, 5] in [one.tolist() for one, _ in found]
    report = label_automorphisms(*chain(masks))
    assert report.trivial is False
    assert report.example["h0"].tolist() == [1, 0, 2, 3, 4, 5]


def test_an_exchange_that_the_checker_finds_leaves_the_sparse_network_as_it_is():
    """The automorphism is one of the function, at κ = 0."""
    masks = [fixed_mask((6, 4), 2, seed=0, name="0").clone(), torch.ones(3, 6, dtype=torch.bool)]
    masks[0][4] = masks[0][2]
    g = label_automorphisms(*chain(masks)).example["h0"]
    generator = random.generator(0)
    one = random.normal((6, 4), generator=generator, like=DOUBLE) * masks[0]
    two = random.normal((3, 6), generator=generator, like=DOUBLE)
    x = random.normal((20, 4), generator=generator, like=DOUBLE)
    assert torch.equal(one[g] != 0, masks[0])
    assert torch.allclose(torch.tanh(x @ one[g].T) @ two[:, g].T, torch.tanh(x @ one.T) @ two.T, atol=1e-12)


def test_a_row_without_trainable_entries_is_refused_by_the_brute_force_and_named_by_the_report():
    masks = [fixed_mask((6, 4), 2, seed=0, name="0").clone(), torch.ones(3, 6, dtype=torch.bool)]
    masks[0][3] = False
    with pytest.raises(ValueError, match="unit 3 of layer 0 has no trainable entry"):
        mask_automorphisms(masks)
    model = asymmetrize(mlp((4, 6, 3)), Rule(fix=4, kappa=0.0, modules="0", allow_frozen=True), seed=0)
    report = verify_asymmetry(model, torch.zeros(2, 4))
    assert report["rows"].status == "fails"
    assert "0.weight fixes whole rows" in report["rows"].evidence
    assert report["T1"].status != "holds"


@pytest.mark.parametrize("seed", range(60))
def test_colour_refinement_agrees_with_brute_force(seed):
    """Sparse random masks, which often have automorphisms; the twin tries every permutation."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [3, 4, 4, 2]
    masks = []
    for d, o in itertools.pairwise(sizes):
        mask = torch.rand(o, d, generator=generator) < 0.6
        mask[torch.arange(o), torch.randint(d, (o,), generator=generator)] = True
        masks.append(mask)
    found = label_automorphisms(*chain(masks))
    every = mask_automorphisms(masks)
    assert found.trivial == (len(every) == 1)
    if found.example is not None:
        g = [found.example.get(f"h{i}", torch.arange(4)).tolist() for i in range(2)]
        assert g in [[p.tolist() for p in element] for element in every]


def test_what_refinement_cannot_tell_is_tried_or_left_open():
    """In a cycle all units look alike, and no exchange of two preserves it, but turning it does."""
    n = 4
    cycle = torch.eye(n).bool() | torch.eye(n).bool().roll(1, 1)
    masks = [torch.ones(n, 1, dtype=torch.bool), cycle, torch.ones(1, n, dtype=torch.bool)]
    found = label_automorphisms(*chain(masks), limit=600)
    assert found.trivial is False
    assert found.method == "all permutations that colours allow"
    moved = [found.example[f"h{i}"] for i in range(2)]
    assert torch.equal(cycle[moved[1]][:, moved[0]], cycle)
    assert label_automorphisms(*chain(masks), limit=10).trivial is None


def test_labels_that_belong_to_nothing_are_refused():
    symmetry, labels = chain([torch.ones(3, 2).bool(), torch.ones(2, 3).bool()])
    with pytest.raises(KeyError, match="'w9' belongs to no tensor"):
        label_automorphisms(symmetry, {**labels, "w9": torch.ones(3, 2)})
    with pytest.raises(ValueError, match=r"labels of shape \(3, 2\) for 'w0'"):
        label_automorphisms(symmetry, {"w0": torch.ones(2, 2)})
    with pytest.raises(ValueError, match="chain of layers"):
        mask_automorphisms([torch.ones(3, 2).bool(), torch.ones(2, 2).bool()])
    with pytest.raises(ValueError, match="too many permutations"):
        mask_automorphisms([torch.ones(12, 2).bool(), torch.ones(2, 12).bool()])


def permuted(params: dict[str, torch.Tensor], symmetry, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """All hidden layers permuted at random, scales left alone."""
    element = {f.name: f.random_element(generator=generator) for f in symmetry.factors if f.kind == "permutation"}
    return symmetry.apply(params, element)


def test_permutations_of_hidden_units_leave_a_standard_network_alone_and_change_a_masked_one():
    generator = random.generator(0)
    torch.manual_seed(0)
    model = mlp((8, 16, 16, 4)).double()
    x = random.normal((50, 8), generator=generator, like=DOUBLE)
    masked = asymmetrize(model, Rule(fix=0.25, kappa=1.0), seed=0)
    plain = symmetrize_back(masked)
    symmetry = symmetries(model, x[:2])
    assert len([f for f in symmetry.factors if f.kind == "permutation"]) == 2
    fixed = fixed_entries(masked)
    for _ in range(5):
        moved = permuted(model.state_dict(), symmetry, generator)
        assert change(model, model, moved, x) < 1e-10
        free = permuted(plain.state_dict(), symmetry, generator)  # fixed entries stay where they are
        kept = {n: torch.where(fixed[n].mask, v, fixed[n].values) if n in fixed else v for n, v in free.items()}
        assert change(plain, plain, kept, x) > 1e-2


@torch.no_grad()
def change(one: nn.Module, two: nn.Module, params: dict[str, torch.Tensor], x: torch.Tensor) -> float:
    a, b = one(x), functional_call(two, params, (x,))
    return float((a - b).norm() / a.norm())


def test_a_gate_commutes_with_no_permutation_and_no_diagonal_map_where_elementwise_ones_do():
    generator = random.generator(0)
    gate = FiGLU(16, std=1.0, seed=0, name="g").double()
    found = activation_equivariances(gate, 16, generator=generator)
    assert min(found.permutation, found.pairs, found.scale, found.sign) > 1e-3
    relu = activation_equivariances(torch.relu, 16, generator=generator)
    assert (relu.permutation, relu.scale < 1e-12) == (0.0, True)
    assert min(relu.sign, relu.pairs) > 1e-3
    tanh = activation_equivariances(torch.tanh, 16, generator=generator)
    assert (tanh.permutation, tanh.sign) == (0.0, 0.0)
    assert tanh.scale > 1e-3


def test_a_gate_with_exchangeable_units_is_not_called_rigid():
    assert gate_is_rigid(FiGLU(12, std=1.0, seed=0, name="g").fixed_values)[0] is True
    alike = torch.full((3, 3), 2.0) + torch.eye(3)
    assert gate_is_rigid(alike)[0] is None
    twin = FiGLU(3, std=1.0, seed=0, name="g").double()
    twin.fixed_values.copy_(alike)
    assert activation_equivariances(twin, 3, generator=random.generator(0)).permutation < 1e-12
    assert gate_is_rigid(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))[0] is None
    with pytest.raises(ValueError, match="square"):
        gate_is_rigid(torch.ones(2, 3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "rank"), [("identity", 16), ("relu", 28), ("gelu", 32), ("gate", 32)])
def test_the_rank_of_the_jacobian_counts_continuous_symmetries(name, rank, seed):
    """W₂ σ(W₁ x) with n = 4: GL(4) of dimension 16 for the identity, four scalings for ReLU, none for the others."""
    activation = {
        "identity": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU(), "gate": FiGLU(4, std=1.0, seed=seed, name="g"),
    }[name]  # fmt: skip
    generator = random.generator(seed)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), activation, nn.Linear(4, 4, bias=False)).double()
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(random.normal((4, 4), generator=generator, like=DOUBLE))
    found = jacobian_rank(model, random.normal((60, 4), generator=generator, like=DOUBLE))
    assert (found.rank, found.kernel, found.parameters, found.outputs) == (rank, 32 - rank, 32, 240)
    assert found.certain


def test_the_rank_is_uncertain_where_outputs_are_few():
    found = jacobian_rank(nn.Linear(4, 2), torch.randn(3, 4))
    assert (found.parameters, found.outputs, found.certain) == (10, 6, False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        jacobian_rank(nn.ReLU(), torch.randn(3, 4))
    with pytest.raises(ValueError, match="too large"):
        jacobian_rank(nn.Linear(3000, 1000), torch.randn(8, 3000))


def test_the_report_separates_what_holds_from_what_is_assumed():
    net, x = mlp((4, 6, 5, 3)), torch.zeros(2, 4)
    sparse = verify_asymmetry(asymmetrize(net, Rule(fix=2, kappa=0.0), seed=0), x)
    assert [sparse[name].status for name in ("rows", "T1", "family", "T2")] == ["holds", "holds", "holds", "fails"]
    assert "κ = 0" in sparse["T1"].assumption
    large = verify_asymmetry(asymmetrize(net, Rule(fix=2, kappa=1.0), seed=0), x)
    assert [large[name].status for name in ("rows", "T1", "family")] == ["holds", "not covered", "holds"]
    assert "κ > 0, of which the theorem does not speak" in large["T1"].evidence
    dense = verify_asymmetry(net, x)
    assert [dense[name].status for name in ("rows", "T1", "family", "T2")] == [
        "not covered", "fails", "fails", "fails",
    ]  # fmt: skip
    additive = asymmetrize(net, Rule(fix=1.0, kappa=1.0, mask=EveryEntry()), seed=0, mode="additive")
    assert verify_asymmetry(additive, x)["family"].status == "fails"
    gated = mlp((4, 6, 5, 3), activation=lambda i, d: FiGLU(d, std=1.0, seed=0, name=str(i)), norm=False)
    found = verify_asymmetry(gated, x)
    assert [found[name].status for name in ("rows", "T1", "family", "T2", "rank")] == [
        "not covered", "not covered", "holds", "holds", "holds",
    ]  # fmt: skip
    assert "other linear maps are not excluded" in found["T2"].assumption


def test_masks_with_equal_rows_keep_a_symmetry_and_the_report_shows_it():
    rule = Rule(fix=1, kappa=0.0, mask=RandomRows(distinct=False))
    report = verify_asymmetry(asymmetrize(mlp((2, 9, 3)), rule, seed=0), torch.zeros(2, 2))
    assert report["rows"].status == "fails"
    assert report["T1"].status == "fails"
    assert "can be exchanged" in report["T1"].evidence


def test_no_report_claims_more_than_is_known():
    text = str(verify_asymmetry(asymmetrize(mlp((4, 6, 5, 3)), Rule(fix=2, kappa=0.0), seed=0)))
    assert "not guaranteed: that the network has no symmetry left" in text
    assert "not guaranteed: that different parameters give different functions" in text
    assert "not guaranteed: that networks can be averaged because symmetries are gone" in text


def test_residual_networks_and_transformers_are_checked_along_their_own_graph():
    resnet = asymmetrize(ResNet(1), resnet8_rules(), seed=0)
    report = verify_asymmetry(resnet, torch.zeros(2, 3, 8, 8))
    assert (report["rows"].status, report["T1"].status, report["family"].status) == ("fails", "not covered", "holds")
    assert "conv.weight fixes whole rows" in report["rows"].evidence
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.zeros(2, 3, 8)
    assert verify_asymmetry(block, x)["family"].status == "fails"
    assert verify_asymmetry(asymmetrize(block, Rule(fix=0.25, kappa=0.5), seed=0), x)["family"].status == "holds"


def test_without_an_example_or_a_graph_the_report_says_so():
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x) if x.sum() > 0 else x

    model = asymmetrize(Choosy(), Rule(fix=1, kappa=0.0), seed=0)
    assert verify_asymmetry(model)["T1"].evidence == "no example of the inputs was given"
    found = verify_asymmetry(model, torch.ones(2, 3))["T1"]
    assert (found.status, "cannot be traced" in found.evidence) == ("not tested", True)


def test_the_number_of_candidates_that_brute_force_tries_is_that_of_the_group():
    masks = [torch.ones(3, 2).bool(), torch.ones(4, 3).bool(), torch.ones(1, 4).bool()]
    assert len(mask_automorphisms(masks)) == math.factorial(3) * math.factorial(4)


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"Sequential fails on the example: .*; pass inputs that it takes"):
        verify_asymmetry(nn.Sequential(nn.Linear(3, 3)), torch.zeros(2, 4))


def test_every_nonlinearity_speaks_for_itself():
    """Two of one class need not commute with the same maps, and slopes may be trained apart."""
    hard = nn.Sequential(nn.Linear(4, 4), nn.Hardtanh(-1, 1), nn.Linear(4, 4), nn.Hardtanh(0, 6))
    evidence = verify_asymmetry(hard, torch.zeros(2, 4))["T2"].evidence
    assert evidence == "Hardtanh commutes with permutations, signs; Hardtanh commutes with permutations"
    slopes = nn.PReLU(4)
    model = nn.Sequential(nn.Linear(4, 4), slopes, nn.Linear(4, 4))
    found = verify_asymmetry(model, torch.zeros(2, 4))["T2"]
    assert found.evidence == "PReLU commutes with permutations, positive scales"
    with torch.no_grad():
        slopes.weight.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert verify_asymmetry(model, torch.zeros(2, 4))["T2"].evidence == "PReLU commutes with positive scales"
