"""Whole runs that measure their policies while they train them: the same models, and everything that was measured is shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dpo_lab.artifacts import Artifact
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.pipeline.answers import read_candidates
from dpo_lab.run_directory import EVALUATIONS, METRICS, RunDirectory
from dpo_lab.stages.train import Train
from tests.small_stage import given, pairs_file, stage

OFTEN = PreferenceEvaluation(every=1)


def policies(root: Path) -> list[Artifact]:
    """Return the policies in the order in which they were made."""
    found = sorted((root / "policy").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return [artifact for path in found if (artifact := Artifact.open(path.parent))]


def weights(policy: Artifact) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in load_file(policy.path / "model.safetensors").items()}


def directory_of(run: Train) -> Path:
    return run.plan().path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Train, Train]:
    """A run on given pairs without measuring, and the same with it, in one outputs directory."""
    root = tmp_path_factory.mktemp("runs")
    path = pairs_file(root)
    plain, often = given(root, path), given(root, path, evaluation=OFTEN)
    plain.run()
    often.run()
    return plain, often


def test_the_weights_are_those_of_a_run_without_it(runs: tuple[Train, Train]) -> None:
    plain, often = policies(runs[0].outputs)
    assert plain.id != often.id, "a run that asks for figures is not answered with one that has none"
    assert weights(plain) == weights(often)


def test_the_figures_of_the_last_step_are_those_after_training(runs: tuple[Train, Train]) -> None:
    run = RunDirectory(directory_of(runs[1]))
    rows = [json.loads(line) for line in run.text(METRICS).splitlines()]
    summary = run.summary()
    assert [row["step"] for row in rows if "eval/loss" in row] == [1, 2, 3]
    for name in ("eval/loss", "eval/accuracy", "eval/margin", "eval/kl/implicit", "eval/losses/ipo"):
        assert rows[-1][name] == pytest.approx(summary[name], abs=1e-12)
    losses = [row["eval/loss"] for row in rows]
    assert (summary["eval/loss/best"], summary["eval/loss/best_step"]) == (min(losses), losses.index(min(losses)) + 1)
    assert summary["seconds/held_out"] > 0


def test_the_screen_tells_the_cost_and_the_report_shows_policy_and_reference(runs: tuple[Train, Train]) -> None:
    run = RunDirectory(directory_of(runs[1]))
    assert "measured 3 times while training" in run.screen()
    assert "measured while training: 3 times, " in run.screen()
    assert " % of the run\n" in run.screen()
    times = run.run()["evaluations"]
    assert [(time["round"], time["step"], len(time["samples"])) for time in times] == [(1, 1, 3), (1, 2, 3), (1, 3, 3)]
    answers = [[sample["reference"] for sample in time["samples"]] for time in times]
    assert answers[0] == answers[1] == answers[2], "the reference stays"
    report = run.text("report.html")
    assert "Held out, while training" in report
    assert "policy, after step 3" in report
    plain = RunDirectory(directory_of(runs[0]))
    assert "Held out, while training" not in plain.text("report.html")
    assert "while training" not in plain.screen()


def test_more_steps_than_a_training_has_are_said(tmp_path: Path) -> None:
    run = given(tmp_path, pairs_file(tmp_path), evaluation=PreferenceEvaluation(every=500))
    run.run()
    said = (
        "evaluation.every=500: this training has 3 steps, so its policy is measured after the last one alone; "
        "evaluation.every=1 shows its way there"
    )
    assert said in RunDirectory(directory_of(run)).screen()
    (policy,) = policies(tmp_path)
    assert [json.loads(line)["step"] for line in (policy.path / EVALUATIONS).read_text().splitlines()] == [3]


def test_rounds_of_made_pairs_are_the_same_and_their_answers_are_compared(tmp_path: Path) -> None:
    plain = stage(tmp_path)
    often = replace(plain, evaluation=replace(plain.evaluation, every=1))
    plain.run()
    often.run()
    one, other, *rest = policies(tmp_path)
    assert len(rest) == 2
    assert [weights(one), weights(other)] == [weights(each) for each in rest]
    drawn = sorted((tmp_path / "candidates").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    texts = [
        [candidate.responses for candidate in read_candidates(made)] for path in drawn if (made := Artifact.open(path.parent))
    ]
    assert texts[1] == texts[2], "of the second round; the first round's are found again"
    run = RunDirectory(directory_of(often))
    rows = [json.loads(line) for line in run.text(METRICS).splitlines()]
    assert all({"gold", "win_rate", "kl"} <= row.keys() for row in rows)
    summary = run.summary()
    assert rows[-1]["gold"] == pytest.approx(summary["gold/after"])
    assert rows[-1]["kl"] == pytest.approx(summary["kl"])


def test_the_report_colours_tokens_of_held_out_pairs_by_shares_of_their_margin(runs: tuple[Train, Train]) -> None:
    run = RunDirectory(directory_of(runs[0]))
    pairs = run.run()["credit"]
    assert 1 <= len(pairs) <= 6
    for pair in pairs:
        shares = [sum(pair[side]["ratios"]) for side in ("chosen", "rejected")]
        assert shares[0] - shares[1] == pytest.approx(pair["margin"], abs=2e-3)
        assert "a good answer" in "".join(pair["chosen"]["pieces"])
    assert '<h2 id="credit">' in run.text("report.html")
