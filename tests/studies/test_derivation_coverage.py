"""The study of derivation coverage at ``tiny``, its verdicts on doctored rows, and its judgement of tools that err."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from symfield.experiments import FAILS, HOLDS, NOT_TESTED, FieldError
from symfield.studies import _derivation_coverage_measure as measuring
from symfield.studies._derivation_coverage_measure import copies, measure
from symfield.studies._derivation_coverage_tools import PEERS, Found, Peer, at_most, installed
from symfield.studies._derivation_coverage_transformers import GPT2_SIZED, TRANSFORMERS, available
from symfield.studies._derivation_coverage_zoo import ZOO
from symfield.studies.derivation_coverage import SMALL, STUDY, Config, Subject, coverage

CASES = {case.name: case for case in (*ZOO, *TRANSFORMERS)}


@pytest.fixture(scope="module")
def tiny():
    config = STUDY.settings("tiny")
    return STUDY.run(config), config


def failed(rows, config) -> list[str]:
    return [verdict.claim for verdict in STUDY.verdicts(rows, config) if verdict.verdict == FAILS]


def doctored(rows, models, **changes):
    """The first row of the library again for other models, with some fields changed."""
    first = rows[rows["tool"] == "symfield"].iloc[[0]]
    return type(rows)([first.iloc[0].to_dict() | {"model": model} | changes for model in models])


def test_a_tiny_run_holds_draws_and_tabulates(tiny):
    rows, config = tiny
    assert {verdict.verdict for verdict in STUDY.verdicts(rows, config)} == {HOLDS, NOT_TESTED}
    assert set(rows.loc[rows["tool"] == "symfield", "status"]) == {"complete"}
    for name in STUDY.figures:
        assert isinstance(STUDY.draw(name, rows), Figure)
    for table in STUDY.tables.values():
        assert len(table(rows)) > 0


def test_an_incomplete_model_fails_the_completeness(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[(rows["tool"] == "symfield") & (rows["model"] == "groupnorm"), "status"] = "partial"
    assert failed(rows, config) == ["complete on the 4 small architectures"]


def test_a_changed_function_and_a_rejected_factor_fail(tiny):
    rows, config = tiny
    rows = rows.copy()
    rows.loc[rows["tool"] == "symfield", "status"] = ["wrong", "complete", "complete", "complete"]
    rows.loc[rows["tool"] == "symfield", "error"] = 0.1
    rows.loc[rows["tool"] == "symfield", "rejected"] = 1
    claims = failed(rows, config)
    assert len(claims) == 4
    assert any("silently" in claim for claim in claims)
    assert any("rejected" in claim for claim in claims)


def test_a_partial_architecture_of_transformers_must_name_its_gap(tiny):
    rows, _ = tiny
    names = [case.name for case in TRANSFORMERS if case.name != GPT2_SIZED]
    real = doctored(rows, names)
    assert failed(real, Config(tools=("symfield",))) == []
    real.loc[0, ["status", "named"]] = ["partial", False]
    assert failed(real, Config(tools=("symfield",))) == [
        "architectures of transformers that are neither complete nor partial with the reason named"
    ]
    real.loc[0, "named"] = True
    assert failed(real, Config(tools=("symfield",))) == []
    real[["status", "named"]] = ["partial", True]
    assert len(failed(real, Config(tools=("symfield",)))) == 1


def test_a_slow_derivation_fails_the_time(tiny):
    rows, _ = tiny
    assert failed(doctored(rows, [GPT2_SIZED], seconds=9.0), Config(tools=("symfield",))) == []
    assert len(failed(doctored(rows, [GPT2_SIZED], seconds=11.0), Config(tools=("symfield",)))) == 1


def test_a_peer_that_is_complete_everywhere_fails_the_comparison(tiny):
    rows, _ = tiny
    mine, theirs = doctored(rows, SMALL), doctored(rows, SMALL, tool="rebasin")
    both = type(rows)([*mine.to_dict("records"), *theirs.to_dict("records")])
    config = Config(tools=("symfield", "rebasin"))
    assert len(failed(both, config)) == 1
    both.loc[(both["tool"] == "rebasin") & (both["model"] == "lstm"), "status"] = "wrong"
    assert failed(both, config) == []


def test_groups_are_counted_as_lists_that_can_be_permuted():
    assert [copies(group) for group in ("S_8", "S_3^4", "GL(2)^4", "O(16)", "R+^8", "Z2^8", "C*^4")] == [
        1, 1 * 4, 4, 1, 0, 0, 0,
    ]  # fmt: skip
    ideal = {case.name: sum(copies(g) for groups in case.expected.values() for g in groups) for case in ZOO}
    assert ideal["resnet"] == 9
    assert ideal["gpt-untied"] == 1 + 2 * (1 + 1 + 4 + 4)


def test_what_is_missing_and_what_is_too_much_is_told():
    case = CASES["mlp-relu"]
    row = measure(
        replace(case, expected={**case.expected, "permutation": ["S_8", "S_7", "S_9"]}),
        "symfield", trials=1, seed=0,
    )  # fmt: skip
    assert row["status"] == "partial"
    assert (row["missing"], row["surplus"]) == ("S_9", "S_6")


def test_a_model_that_raises_gives_a_row_with_the_error():
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such thing")

    row = measure(replace(CASES["mlp-relu"], build=Broken), "symfield", trials=1, seed=0)
    assert row["status"] == "error"
    assert "no such thing" in row["note"]


def fake(permuted: tuple[str, ...]) -> Peer:
    """A tool that permutes the first hidden layer of an MLP, in the tensors that are named."""

    def run(model: nn.Module, args: tuple[torch.Tensor, ...], generator: torch.Generator) -> Found:
        moved = copy.deepcopy(model)
        order = torch.arange(8).roll(1)
        with torch.no_grad():
            for name in permuted:
                tensor = moved.get_parameter(name)
                tensor.copy_(tensor[:, order] if name == "2.weight" else tensor[order])
        return Found(3, moved, 0.1)

    return Peer("fake", "fake", run)


@pytest.mark.parametrize(
    ("permuted", "status"),
    [(("0.weight", "0.bias", "2.weight"), "complete"), (("0.weight", "2.weight"), "wrong")],
)
def test_a_tool_that_forgets_a_tensor_is_silently_wrong(monkeypatch, permuted, status):
    monkeypatch.setitem(measuring.PEERS, "rebasin", fake(permuted))
    assert measure(CASES["mlp-relu"], "rebasin", trials=1, seed=0)["status"] == status


def test_a_tool_that_is_not_installed_is_not_measured():
    row = coverage(Subject("mlp-relu", "rebasin", "", 1, 0))[0]
    assert row["status"] == "not installed"
    assert installed(Peer("no-such-distribution", "no_such_module", fake(()).run)) == ""


def walk_in_circles() -> None:
    with at_most(0.05):
        while True:
            pass


def test_a_tool_that_walks_in_circles_is_stopped():
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 seconds"):
        walk_in_circles()


@pytest.mark.parametrize("tool", PEERS)
def test_installed_peers_keep_the_function_of_an_mlp(tool):
    if not installed(PEERS[tool]):
        pytest.skip(f"{tool} is not installed")
    row = measure(CASES["mlp-tanh"], tool, trials=1, seed=0)
    assert (row["status"], row["groups"]) == ("complete", 3)


def test_unknown_models_and_devices_are_refused():
    with pytest.raises(FieldError, match="unknown model 'nothing'"):
        Config(models=("nothing",))
    with pytest.raises(FieldError, match="at least one trial"):
        Config(trials=0)
    with pytest.raises(FieldError, match="CPU"):
        Config(device="cuda")


@pytest.mark.slow
def test_every_model_is_complete_or_names_what_is_missing():
    config = replace(STUDY.settings("paper"), tools=("symfield",))
    if not available():
        config = replace(config, models=SMALL)
    rows = STUDY.run(config)
    assert failed(rows, config) == []
