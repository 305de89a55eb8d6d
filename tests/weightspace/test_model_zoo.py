"""Zoos of networks, and networks that read them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from symfield import random
from symfield.weightspace import (
    ConvolutionalReader,
    GraphMetanetwork,
    HyperparameterLaw,
    ModelZoo,
    Rule,
    Statistics,
    asymmetrize,
    deep_sets,
    fit_metanetwork,
    flattened_mlp,
    match_targets,
    mlp_graphs,
    outputs_many,
    split_samples,
    train_zoo,
)

LIKE = torch.zeros((), dtype=torch.float64)


def data(count=60, seed=0):
    x = random.normal((count, 6), generator=random.generator(seed), like=torch.zeros(()))
    return x, (x[:, 0] * x[:, 1] > 0).long()


def plain():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def fixed():
    return asymmetrize(plain(), Rule(fix=2, kappa=1.0), seed=3)


def zoo(build, seeds, **more):
    law = HyperparameterLaw(largest_rate=0.1, epochs=(2, 6))
    return train_zoo(build, data(), data(40, 1), seeds=seeds, law=law, batch=16, **more)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_metanetworks_have_the_published_numbers_of_parameters():
    assert count(flattened_mlp(78042)) == 4_994_945
    assert count(flattened_mlp(60634)) == 3_880_833
    assert count(ConvolutionalReader()) == 105_357
    assert count(deep_sets()) == 8_897
    assert count(Statistics([5] * 29)) == 119_297


def test_hyper_parameters_follow_their_laws():
    drawn = HyperparameterLaw().draw(range(2000))
    uniforms = {
        "rate": -np.log10(drawn["rate"] / 0.5) / 2,
        "decay": (-np.log10(drawn["decay"]) - 1) / 4,
        "smoothing": drawn["smoothing"] / 0.2,
        "epochs": (drawn["epochs"] - 10 + 0.5) / 31,
    }
    for name, values in uniforms.items():
        assert kstest(values, "uniform").pvalue > 0.01, name
    assert (drawn["epochs"].min(), drawn["epochs"].max()) == (10, 40)
    again = HyperparameterLaw().draw([1999, 7])
    assert all(again[name].tolist() == drawn[name][[1999, 7]].tolist() for name in again)


@pytest.mark.parametrize("build", [plain, fixed])
def test_a_zoo_made_in_pieces_is_the_whole_zoo(build):
    whole = zoo(build, range(6), about={"mask_seed": 3})
    parts = ModelZoo.join([zoo(build, part, about={"mask_seed": 3}) for part in (range(2), range(2, 6))])
    assert torch.allclose(whole.features(), parts.features(), atol=1e-5)
    assert whole.table["epochs"].tolist() == parts.table["epochs"].tolist()
    assert np.allclose(whole.table["train_loss"], parts.table["train_loss"], atol=1e-5)
    assert len(parts) == 6
    assert sum(whole.sizes()) == whole.features().shape[1] == count(build())
    few = whole.subset(np.array([4, 1]))
    assert torch.equal(few.features(), whole.features()[[4, 1]])
    assert few.table["seed"].tolist() == [4, 1]
    with pytest.raises(ValueError, match="made alike"):
        ModelZoo.join([whole, zoo(build, [9])])


def test_the_table_says_what_the_networks_do():
    found = zoo(fixed, range(4))
    x, y = data(40, 1)
    logits = outputs_many(fixed(), found.params, x)
    right = (logits.argmax(-1) == y).double().mean(1)
    assert found.table["test_accuracy"].tolist() == right.tolist()
    losses = [nn.functional.cross_entropy(one, y).item() for one in logits]
    assert np.allclose(found.table["test_loss"], losses, atol=1e-6)


def test_a_zoo_whose_parts_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="one row for each network"):
        ModelZoo({"w": torch.zeros(3, 2)}, {"seed": np.arange(2)}, {"parameters": ["w"]})
    with pytest.raises(ValueError, match="are not there"):
        ModelZoo({"w": torch.zeros(3, 2)}, {"seed": np.arange(3)}, {"parameters": ["v"]})


def test_statistics_are_those_of_numpy_and_know_no_order():
    model = Statistics([5, 7]).double()
    x = random.normal((3, 12), generator=random.generator(0), like=LIKE)
    parts = [x[:, :5].numpy(), x[:, 5:].numpy()]
    expected = np.concatenate(
        [
            np.stack([v.mean(1), v.var(1), v.min(1), v.max(1), *np.quantile(v, [0.25, 0.5, 0.75], axis=1)], 1)
            for v in parts
        ],
        1,
    )
    assert np.allclose(model.statistics(x), expected, atol=1e-12)
    mixed = torch.cat([x[:, torch.randperm(5, generator=random.generator(1))], x[:, 5:].flip(1)], 1)
    assert torch.allclose(model(x), model(mixed), atol=1e-12)
    assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-3)
    with pytest.raises(ValueError, match="all positive"):
        Statistics([3, 0])


def test_deep_sets_know_no_order_and_the_others_do():
    x = random.normal((4, 2100), generator=random.generator(0), like=torch.zeros(()))
    mixed = x[:, torch.randperm(2100, generator=random.generator(1))]
    assert torch.allclose(deep_sets()(x), (same := deep_sets())(mixed), atol=10)
    assert torch.allclose(same(x), same(mixed), atol=1e-5)
    for model in (flattened_mlp(2100), ConvolutionalReader().eval()):
        assert not torch.allclose(model(x), model(mixed), atol=1e-5)


@pytest.mark.parametrize("layers", [6, 8, 10])
def test_the_shortest_row_for_convolutions_is_the_shortest(layers):
    model = ConvolutionalReader(hidden=32, layers=layers).eval()
    least = model.shortest()
    assert model(torch.zeros(2, least)).shape == (2, 1)
    with pytest.raises(ValueError, match="fewer layers"):
        model(torch.zeros(2, least - 1))
    with pytest.raises(RuntimeError):
        model.convolutions(torch.zeros(2, 1, least - 1))


def test_matched_targets_have_one_histogram():
    source = random.generator(0)
    first = random.uniform((500,), generator=source, like=LIKE).numpy()
    second = random.uniform((400,), generator=source, like=LIKE).numpy() ** 3
    a, b = match_targets(first, second, generator=source, bins=10)
    edges = np.linspace(min(first.min(), second.min()), max(first.max(), second.max()), 11)
    assert (np.histogram(first[a], edges)[0] == np.histogram(second[b], edges)[0]).all()
    assert len(a) == len(b) > 200
    assert abs(first.mean() - second.mean()) > 0.2 > 0.02 > abs(first[a].mean() - second[b].mean())
    with pytest.raises(ValueError, match="no bin in common"):
        match_targets(first, second + 50, generator=source)


def test_the_rate_and_the_epoch_are_chosen_without_the_test_part():
    source = random.generator(0)
    x = random.normal((240, 8), generator=source, like=torch.zeros(()))
    targets = (x[:, :3].sum(1)).tanh()
    split = split_samples(240, seed=1)
    settings = {"rates": [1e-5, 1e-2], "seeds": [0, 1], "epochs": 40, "batch": 32}
    found = fit_metanetwork(lambda: flattened_mlp(8), x, targets, split, **settings)
    assert found.rate == 1e-2
    assert bool((found.r2 > 0.7).all() and (found.tau > 0.6).all())
    poisoned = targets.clone()
    poisoned[split.test] = random.normal((60,), generator=source, like=targets)
    other = fit_metanetwork(lambda: flattened_mlp(8), x, poisoned, split, **settings)
    assert torch.equal(other.outputs, found.outputs)
    assert (other.validation == found.validation).all()
    assert bool((other.r2 < 0.1).all() and (abs(other.tau) < 0.3).all())
    wanted = targets[split.test].double()
    assert found.r2[0] == pytest.approx(
        1 - float(((found.outputs[0] - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum())
    )
    with pytest.raises(ValueError, match="do not differ"):
        fit_metanetwork(lambda: flattened_mlp(8), x, torch.ones(240), split, **settings)
    with pytest.raises(ValueError, match="finite target"):
        fit_metanetwork(lambda: flattened_mlp(8), x, torch.full((240,), torch.nan), split, **settings)
    with pytest.raises(ValueError, match="in every part"):
        split_samples(3, seed=0, validation=0.5)


def test_a_graph_metanetwork_does_not_see_how_hidden_units_are_numbered():
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch

    source = random.generator(0)
    w1, b1, w2, b2 = (
        random.normal(shape, generator=source, like=LIKE) for shape in ((2, 5, 4), (2, 5), (2, 3, 5), (2, 3))
    )
    order = torch.tensor([3, 0, 4, 1, 2])
    same = [(w1[:, order], b1[:, order]), (w2[:, :, order], b2)]
    other = [(w1, b1), (w2[:, [1, 0, 2]], b2[:, [1, 0, 2]])]
    inputs = [(w1[:, :, [1, 0, 2, 3]], b1), (w2, b2)]
    graphs = [Batch.from_data_list(mlp_graphs(layers)) for layers in ([(w1, b1), (w2, b2)], same, other, inputs)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GraphMetanetwork(graphs[0].x.shape[1], hidden=16).double()
    out = [model(graph) for graph in graphs]
    assert out[0].shape == (2, 1)
    assert torch.allclose(out[0], out[1], atol=1e-12)
    assert bool(((out[0] - out[2]).abs() > 1e-6).all())
    assert bool(((out[0] - out[3]).abs() > 1e-6).all())
    graph = mlp_graphs([(w1, b1), (w2, b2)])[1]
    rebuilt = torch.zeros(12, 12, dtype=torch.float64)
    rebuilt[graph.edge_index[1], graph.edge_index[0]] = graph.edge_attr[:, 0]
    assert torch.equal(rebuilt[4:9, :4], w1[1])
    assert torch.equal(rebuilt[9:, 4:9], w2[1])
    assert torch.equal(graph.x[:, 0], torch.cat([torch.zeros(4).double(), b1[1], b2[1]]))
    with pytest.raises(ValueError, match="expected weights"):
        mlp_graphs([(w1, b1), (w1, b1)])


def test_zoos_with_other_masks_are_not_joined():
    """Entry i of the one network is not entry i of the other."""
    x = torch.randn(20, 4, generator=random.generator(0))
    data = x, (x[:, 0] > 0).long()

    def zoo(masks):
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        law = HyperparameterLaw(epochs=(1, 1))
        return train_zoo(lambda: asymmetrize(net, Rule(2, 1.0), seed=masks), data, data, seeds=[0], law=law)

    assert len(ModelZoo.join([zoo(0), zoo(0)])) == 2
    with pytest.raises(ValueError, match=r"differ in \['buffers'\] of their 'about'"):
        ModelZoo.join([zoo(0), zoo(1)])


def test_networks_can_be_taken_in_falling_order():
    zoo = ModelZoo({"w": torch.arange(4.0)[:, None]}, {"t": np.arange(4)}, {"parameters": ["w"]})
    assert zoo.subset(np.arange(4)[::-1]).features()[:, 0].tolist() == [3.0, 2.0, 1.0, 0.0]


def test_laws_and_zoos_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"1 ≤ fewest ≤ most, received \(5, 2\)"):
        HyperparameterLaw(epochs=(5, 2))
    with pytest.raises(ValueError, match="a largest smoothing from 0 to 1"):
        HyperparameterLaw(largest_smoothing=3.0)
    with pytest.raises(ValueError, match="at least one seed"):
        HyperparameterLaw().draw([])
    with pytest.raises(ValueError, match="expected networks with 16 entries, received 17"):
        Statistics([10, 6])(torch.zeros(1, 17))


def test_a_fit_that_diverges_everywhere_is_no_prediction():
    x, y = torch.randn(40, 6, generator=random.generator(0)), torch.rand(40, generator=random.generator(1))
    split = split_samples(40, seed=0)
    options = {"rates": [1e-2], "seeds": [0], "epochs": 2}
    with pytest.raises(ValueError, match=r"diverged at all rates \[0.01\]"):
        fit_metanetwork(lambda: nn.Linear(6, 1), 1e30 * x, y, split, **options)
    x[3, 2] = torch.nan
    with pytest.raises(ValueError, match="those of 1 of 40 networks are not, network 3 among them"):
        fit_metanetwork(lambda: nn.Linear(6, 1), x, y, split, **options)
