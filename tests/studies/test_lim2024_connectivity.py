"""Connectivity of asymmetric networks: groups that share masks, data, arms, the study at tiny, its verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from symfield import random
from symfield.experiments import CellsFailed, FieldError
from symfield.experiments.errors import StudyError
from symfield.studies._lim2024_arms import ARMS, Half, Shape, build, initial
from symfield.studies._lim2024_data import digits_splits, read_arrays, subspace_clusters, user_task
from symfield.studies._lim2024_figures import WORDS
from symfield.studies._lim2024_graphs import block_model, user_graph
from symfield.studies._lim2024_pairs import Pairs, _warm, augmented, problem, trained_groups, with_params
from symfield.studies.lim2024_connectivity import STUDY, Config
from symfield.weightspace import FiGLU, fixed_entries, symmetrize_back

LIKE = torch.zeros((), dtype=torch.float64)
TINY = STUDY.settings("tiny")
MLP = Shape("mlp", 64, 24, 10)


@pytest.fixture(scope="module")
def rows():
    return STUDY.run(TINY)


def pairs(**changes) -> Pairs:
    setting = {
        "data": "digits", "folder": "", "dim": 0, "network": "mlp", "width": 16, "method": "W", "rate": 1e-2,
        "decay": 0.0, "epochs": 1, "batch": 64, "warmup": 0.0, "start": 0.0, "augment": False, "seeds": (3, 5),
        "nets": 2, "matchings": ("none",), "points": 3, "device": "cpu", "dtype": "float64",
    }  # fmt: skip
    return Pairs(**{**setting, **changes})


def test_networks_of_a_group_share_what_is_fixed_and_groups_do_not():
    models, params, trainable = initial(MLP, ARMS["W"], {0: [0, 1], 1: [10, 11]}, LIKE)
    assert len(models) == 2
    assert trainable == {}
    for name, entries in fixed_entries(models[0]).items():
        other = fixed_entries(models[1])[name]
        assert not torch.equal(entries.mask, other.mask)
        buffer = name.removesuffix("weight") + "parametrizations.weight.0.fixed_values"
        assert torch.equal(params[buffer][0], params[buffer][1])
        assert torch.equal(params[buffer][2], other.values)
        assert not torch.equal(params[entries.parameter][0], params[entries.parameter][1])


def test_arms_are_what_they_are_called():
    plain = {name: build(MLP, arm, 0).double() for name, arm in ARMS.items()}
    weights = {name: fixed_entries(model) for name, model in plain.items()}
    for name, kappas in {"W": (1, 1, 0.5, 0.25), "W, kappa/2": (0.5, 0.5, 0.25, 0.125), "W, kappa 1": (1,) * 4}.items():
        for (layer, entries), kappa in zip(weights[name].items(), kappas, strict=True):
            fixed = entries.values[~entries.mask]
            assert float(fixed.std()) == pytest.approx(kappa, rel=0.35), (name, layer)
    assert all(float(entries.values.abs().max()) == 0 for entries in weights["W, kappa 0"].values())
    counts = {name: int((~weights[name]["0.weight"].mask[0]).sum()) for name in ("W", "W, fix/2", "W, fix/4")}
    assert counts == {"W": 8, "W, fix/2": 4, "W, fix/4": 2}
    assert all(bool(entries.mask.all()) for entries in weights["additive"].values())
    assert float(weights["additive, small"]["0.weight"].values.std()) == pytest.approx(0.01 / 8, rel=0.1)
    assert [gate.std for gate in plain["sigma, 1"].modules() if isinstance(gate, FiGLU)] == [1.0] * 3
    assert any(isinstance(module, Half) for module in plain["half"].modules())
    assert not weights["init only"]
    assert set(ARMS) | {"standard, weights", "standard, activations"} == set(WORDS)


def test_a_control_begins_where_the_asymmetric_networks_begin():
    groups = {4: [7, 8]}
    fixed, start, _ = initial(MLP, ARMS["W"], groups, LIKE)
    _, control, _ = initial(MLP, ARMS["init only"], groups, LIKE)
    for i in range(2):
        whole = fixed[0].state_dict() | {
            name: value[i] for name, value in start.items() if name in fixed[0].state_dict()
        }
        dense = symmetrize_back(with_params(fixed[0], whole)).state_dict()
        for name, value in control.items():
            torch.testing.assert_close(dense[name], value[i], rtol=1e-6, atol=1e-7)
    _, shared, _ = initial(MLP, ARMS["shared init"], groups, LIKE)
    assert all(torch.equal(value[0], value[1]) for value in shared.values())


def test_fixed_biases_are_shared_in_a_group_and_not_trained():
    _, params, trainable = initial(MLP, ARMS["bias, 9"], {0: [0, 1], 1: [10, 11]}, LIKE)
    assert list(trainable) == ["0.bias", "3.bias", "6.bias"]
    for name in trainable:
        assert torch.equal(params[name][0], params[name][1])
        assert not torch.equal(params[name][0], params[name][2])
        assert 5 < float(params[name].abs().max()) <= 9
    cell = pairs(method="bias, 9")
    _, states, _ = trained_groups(cell, problem(cell))
    assert torch.equal(states[0]["3.bias"], states[1]["3.bias"])
    assert not torch.equal(states[0]["9.bias"], states[1]["9.bias"])


def test_each_group_is_trained_with_its_own_masks_and_split():
    """Both groups at once give what each alone gives."""
    cell = pairs(epochs=2)
    models, states, losses = trained_groups(cell, problem(cell))
    for g, seed in enumerate(cell.seeds):
        alone = replace(cell, seeds=(seed,))
        others, own, own_losses = trained_groups(alone, problem(alone))
        x = problem(alone).splits.x[:50]
        assert losses[2 * g : 2 * g + 2] == pytest.approx(own_losses, rel=1e-8)
        for i in range(2):
            one, two = with_params(models[g], states[2 * g + i])(x), with_params(others[0], own[i])(x)
            torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9)


def test_splits_hold_all_classes_in_proportion_and_do_not_meet():
    splits = digits_splits([0, 1], like=LIKE)
    assert splits.train.shape == (2, 1297)
    assert splits.test.shape == (2, 500)
    assert not torch.equal(splits.test[0], splits.test[1])
    whole = torch.bincount(splits.y) / len(splits.y)
    for g in range(2):
        assert len(set(splits.train[g].tolist()) | set(splits.test[g].tolist())) == 1797
        assert float((torch.bincount(splits.y[splits.test[g]]) / 500 - whole).abs().max()) < 0.003


@pytest.mark.parametrize("dim", [2, 8])
def test_clusters_span_their_subspace(dim):
    splits = subspace_clusters(dim, [0, 1], like=LIKE, train=60, test=20)
    values = torch.linalg.svdvals(splits.x)
    assert int((values > 1e-9 * values[0]).sum()) == dim
    assert float(splits.x.square().mean()) == pytest.approx(1)
    assert splits.train.shape == (2, 60)
    assert set(splits.y.tolist()) == set(range(10))


def test_the_block_model_is_undirected_and_mostly_within_blocks():
    graph = block_model(0, 2, like=LIKE)
    start, end = graph.edges
    assert set(zip(start.tolist(), end.tolist(), strict=True)) == set(zip(end.tolist(), start.tolist(), strict=True))
    assert bool((start != end).all())
    same = graph.splits.y[start] == graph.splits.y[end]
    assert float(same.double().mean()) == pytest.approx(0.75, abs=0.05)
    assert graph.edges.shape[1] / 600 == pytest.approx(8, abs=1)
    assert set(graph.splits.train[0].tolist()).isdisjoint(graph.splits.test[0].tolist())


def test_augmented_images_are_flips_and_moves():
    x = random.normal((20, 2, 6, 6), generator=random.generator(0), like=LIKE)
    found = augmented(x, 3)
    assert torch.equal(found, augmented(x, 3))
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    for i in range(len(x)):
        options = [
            image[:, a : a + 6, b : b + 6]
            for image in (padded[i], padded[i].flip(-1))
            for a in range(9)
            for b in range(9)
        ]
        assert any(torch.equal(found[i], option) for option in options)
    assert not torch.equal(found, x)


def test_rates_warm_up_as_published():
    epochs = torch.tensor([100])
    by_epoch = _warm(20.0, 0.01, 390)
    assert float(by_epoch(0.0, epochs)) == pytest.approx(0.01)
    assert float(by_epoch(1.0, epochs) / by_epoch(0.999, epochs)) == pytest.approx(1.259, abs=1e-3)
    assert float(by_epoch(20.0, epochs)) == float(by_epoch(50.0, epochs)) == 1
    by_step = _warm(5.0, 0.0, 10)
    assert float(by_step(0.0, epochs)) == pytest.approx(0.02)
    assert float(by_step(4.9, epochs)) == pytest.approx(1)


def write_images(folder, name, shape, n=24):
    rng = np.random.default_rng(0)
    parts = {"x_train": rng.integers(0, 256, (n, *shape), dtype=np.uint8), "y_train": np.arange(n) % 10,
             "x_test": rng.integers(0, 256, (12, *shape), dtype=np.uint8), "y_test": np.arange(12) % 10}  # fmt: skip
    np.savez(folder / f"{name}.npz", **parts)
    return parts


def test_images_of_a_user_are_read_turned_and_standardised(tmp_path):
    parts = write_images(tmp_path, "cifar10", (32, 32, 3))
    splits = user_task(str(tmp_path), "cifar10", (3, 32, 32), 2, like=LIKE)
    train = splits.x[splits.train[1]]
    assert train.shape == (24, 3, 32, 32)
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(train.std((0, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-10)
    red = torch.from_numpy(parts["x_train"][..., 0]).double()
    torch.testing.assert_close(train[:, 0], (red - red.mean()) / red.std(), rtol=0, atol=1e-10)
    torch.save({name: torch.from_numpy(value) for name, value in parts.items()}, tmp_path / "mnist.pt")
    with pytest.raises(StudyError, match=r"expected x_train of shape \(n, 784\)"):
        user_task(str(tmp_path), "mnist", (784,), 1, like=LIKE)


def test_missing_data_of_a_user_are_named(tmp_path):
    with pytest.raises(StudyError, match="pass folder=PATH"):
        read_arrays("", "mnist", ("x_train",))
    with pytest.raises(StudyError, match=r"expected mnist.npz or mnist.pt with the arrays x_train, y_train"):
        read_arrays(str(tmp_path), "mnist", ("x_train", "y_train"))
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((2, 3)))
    with pytest.raises(StudyError, match=r"has no array y_train; it has x_train"):
        read_arrays(str(tmp_path), "mnist", ("x_train", "y_train"))
    (tmp_path / "arxiv.npz").write_bytes(b"nothing")
    with pytest.raises(StudyError, match="cannot be read"):
        read_arrays(str(tmp_path), "arxiv", ("x",))
    with pytest.raises(CellsFailed, match="pass folder=PATH"):
        STUDY.run(Config(data="mnist", methods=("standard",)))


def test_perceptrons_run_on_images_of_a_user(tmp_path):
    write_images(tmp_path, "mnist", (28, 28))
    config = Config(data="mnist", folder=str(tmp_path), own_epochs=1, methods=("W",), seeds=(0,), nets=2, points=3)
    (cell,) = STUDY.cells(config)
    assert (cell.config.width, cell.config.decay, cell.config.batch) == (512, 0.03, 64)
    found = STUDY.run(config)
    assert found["test_loss"].dropna().gt(0).all()
    assert {verdict.verdict for verdict in STUDY.verdicts(found, config)} == {"not tested"}


def test_graph_networks_run_on_a_graph_of_a_user(tmp_path):
    graph = block_model(0, 1, like=LIKE, nodes=40, classes=4)
    half = graph.edges[:, graph.edges[0] < graph.edges[1]]
    train, test = graph.splits.train[0], graph.splits.test[0]
    parts = {"x": graph.features, "y": graph.splits.y, "edges": half, "train": train, "test": test}
    np.savez(tmp_path / "arxiv.npz", **{name: value.numpy() for name, value in parts.items()})
    read = user_graph(str(tmp_path), "arxiv", 1, like=LIKE)
    assert set(map(tuple, read.edges.T.tolist())) == set(map(tuple, graph.edges.T.tolist()))
    config = Config(data="arxiv", folder=str(tmp_path), own_epochs=2, methods=("W",), seeds=(0,), nets=2, points=3)
    assert set(STUDY.run(config)["statistics"]) == {"averaged", "estimated anew"}
    np.savez(tmp_path / "arxiv.npz", **{**{name: value.numpy() for name, value in parts.items()}, "train": [99]})
    with pytest.raises(StudyError, match="node numbers from 0 to 39"):
        user_graph(str(tmp_path), "arxiv", 1, like=LIKE)


def test_the_published_settings_are_run_on_data_of_a_user():
    made = [cell.config for cell in STUDY.cells(Config(data="cifar10", folder="somewhere", methods=("standard", "W")))]
    assert [(cell.network, cell.width, cell.epochs) for cell in made[::2]] == [
        ("resnet20", 16, 100),
        ("resnet20", 128, 50),
    ]
    assert all(cell.augment and cell.rate == 1e-2 and cell.batch == 128 and cell.decay == 0 for cell in made)
    (cell,) = STUDY.cells(Config(data="arxiv", folder="somewhere", methods=("W",)))
    assert (cell.config.width, cell.config.epochs, cell.config.warmup) == (256, 500, 25)


def test_arms_of_residual_networks_are_those_that_are_asked_for():
    config = Config(networks=("resnet8",), resnet_methods=("W", "init only"), resnet_widths=(32,))
    assert [(cell.config.width, cell.config.method) for cell in STUDY.cells(config)] == [
        (16, "W"),
        (16, "init only"),
        (32, "W"),
    ]


def test_every_pair_has_its_methods_and_its_accuracy(rows):
    found = rows[rows["kind"] == "pair"]
    usual = found[found["network"] == "mlp"]
    assert set(usual["method"]) == set(TINY.methods)
    assert set(usual.loc[usual["method"] == "standard", "matching"]) == {"none", "weights", "activations"}
    assert set(found.loc[found["network"] == "graph", "statistics"]) == {"averaged", "estimated anew"}
    assert found["end_accuracy"].between(0, 1).all()
    assert set(found["network"]) == {"mlp", "resnet8", "graph"}


def test_barriers_are_those_of_the_curves(rows):
    keys = ["network", "method", "matching", "statistics"]
    found = rows[rows["kind"] == "pair"].set_index(keys)
    for key, path in rows[rows["kind"] == "path"].groupby(keys):
        loss = path.set_index("t")["test_loss"]
        assert found.loc[key, "test_barrier"] == pytest.approx(loss[0.5] - (loss[0.0] + loss[1.0]) / 2, abs=1e-12)


def test_matching_keeps_the_ends(rows):
    ends = rows[(rows["kind"] == "path") & rows["t"].isin([0.0, 1.0]) & (rows["method"] == "standard")]
    ends = ends[ends["statistics"] == "averaged"]
    spread = ends.groupby(["network", "t"])["test_loss"].agg(lambda values: values.max() - values.min())
    assert spread.max() < 1e-4


def test_even_at_tiny_fixed_values_and_a_common_start_connect_perceptrons(rows):
    found = rows[(rows["kind"] == "pair") & (rows["network"] == "mlp") & (rows["matching"] == "none")]
    barrier = found.set_index("method")["test_barrier"]
    for name in ("W", "init only", "shared init"):
        assert barrier[name] < 0.4 * barrier["standard"], name
    for name in ("W, kappa 0", "sigma, 1/sqrt d", "bias, 1"):
        assert barrier[name] > 0.6 * barrier["standard"], name


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(FieldError, match="at least 2 networks"):
        Config(nets=1)
    with pytest.raises(FieldError, match="odd number of points"):
        Config(points=4)
    with pytest.raises(FieldError, match="16 channels"):
        Config(resnet_width=20)
    with pytest.raises(FieldError, match="at least one seed"):
        Config(seeds=())
    with pytest.raises(StudyError, match="not defined for graph"):
        build(Shape("graph", 4, 8, 2), ARMS["half"], 0)


def test_verdicts_wait_for_training_and_doctored_numbers_fail(rows):
    assert {verdict.verdict for verdict in STUDY.verdicts(rows, TINY)} == {"not tested"}
    found = rows[(rows["kind"] == "pair") & (rows["network"] == "mlp")]
    config = replace(TINY, epochs=50)
    enough = [found.assign(epochs=50, pair=f"{i}-{i + 1}", test_barrier=0.2, end_accuracy=0.5) for i in range(5)]
    import pandas as pd

    verdicts = STUDY.verdicts(pd.concat(enough), config)
    failed = [verdict.claim for verdict in verdicts if verdict.verdict == "fails"]
    assert any("standard networks are not connected" in claim for claim in failed)
    assert any("W-Asym networks are connected" in claim for claim in failed)
    assert any("standard networks are good" in claim for claim in failed)
    assert any("begun at the same fixed values" in claim for claim in failed)


@pytest.mark.slow
def test_the_gates_hold_at_quick():
    config = STUDY.settings("quick")
    verdicts = STUDY.verdicts(STUDY.run(config), config)
    assert {verdict.claim for verdict in verdicts if verdict.verdict == "fails"} == set()
    assert sum(verdict.verdict == "holds" for verdict in verdicts) >= 20
