"""Callbacks in whole runs: what is another policy, what the screen, the facts and the report say, what stays here."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import Artifact
from dpo_lab.components import component
from dpo_lab.loggers.base import Follower, Mark, Row, RunIdentity, RunLogger
from dpo_lab.run_directory import SAMPLES
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import EarlyStopping, Samples
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import given, pairs_file

SHORT = EarlyStopping(window=1, patience=None, threshold=100.0)
SENT: list[Any] = []


class Listening(Follower):
    """Keeps all that it is sent."""

    def send(self, row: Row) -> None:
        SENT.append(row)

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        SENT.append([summary, samples])

    def close(self, *, failed: bool) -> None:
        pass


@component
class Listener(RunLogger):
    """A logger that would take texts."""

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        return Listening()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a plain run, of one that stops early, and of one of a few pairs; the first twice, then with samples."""
    root = tmp_path_factory.mktemp("runs")
    path = pairs_file(root)
    given(root, path).run()
    given(root, path, callbacks={"early_stopping": SHORT}).run()
    few = {"trainer": TrainerSettings(accelerator="cpu", batch_size=8, token_budget=256, max_pairs=5, epochs=2)}
    given(root, path, **few).run()
    SENT.clear()
    asked = {"samples": Samples(every=1, num_prompts=2, max_new_tokens=4)}
    given(root, path, callbacks=asked, optim=AdamW(lr=2e-3), logger={"listener": Listener()}).run()
    return root


def policies(root: Path) -> list[Artifact]:
    """Return the policies in the order in which they were made."""
    found = sorted((root / "policy").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    return [artifact for path in found if (artifact := Artifact.open(path.parent))]


def run_of(root: Path, policy: Artifact) -> Path:
    """Return the run that was made with a policy."""
    (found,) = (path.parent for path in (root / "train").glob("*/run.json") if policy.id in path.read_text(encoding="utf-8"))
    return found


def test_what_changes_training_makes_another_policy_and_another_run(runs: Path) -> None:
    plain, early, *_ = policies(runs)
    assert early.manifest["content"] == {
        **plain.manifest["content"],
        "callbacks": {"early_stopping": SHORT.content()},
        "log_every": 1,
    }
    assert run_of(runs, plain) != run_of(runs, early)


def test_what_stands_beside_training_finds_the_run_that_was_made_without_it(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.artifacts.Plan.make", None)
    given(runs, runs / "pairs.jsonl", callbacks={"samples": Samples()}).run()
    assert "this run was finished before" in capsys.readouterr().out


def test_a_run_that_stopped_early_says_so_and_holds_the_steps_that_it_took(runs: Path) -> None:
    plain, early, *_ = policies(runs)
    assert (plain.facts["steps"], early.facts["steps"]) == (3, 1)
    note = "stopped early after step 1 of 3: loss 0.6931 reached callbacks.early_stopping.threshold=100"
    assert early.facts["notes"] == [note]
    run = run_of(runs, early)
    lines = (run / "screen.txt").read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if line == f"  {note}")
    assert any(" DPO 1 step " in line for line in lines[at + 1 : at + 3])
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1]


def test_the_first_pairs_alone_are_tokenised_trained_on_and_accounted_for(runs: Path) -> None:
    plain, _, few, _ = policies(runs)
    assert few.manifest["content"]["trainer"]["max_pairs"] == 5
    assert "max_pairs" not in plain.manifest["content"]["trainer"], "all pairs: the id is what it was before there was a choice"
    assert (plain.facts["pairs"], few.facts["pairs"], few.facts["steps"]) == (24, 5, 2)
    run = run_of(runs, few)
    assert "  trainer.max_pairs=5: 19 pairs left out" in (run / "screen.txt").read_text().splitlines()
    assert json.loads((run / "run.json").read_text())["rounds"][0]["pairs/left_out"] == 19
    stores = [TokenStore.open(path.parent) for path in (runs / "tokens").glob("*round1-????????/manifest.json")]
    whole, cut = sorted(stores, key=lambda store: -store.num_pairs)
    assert [cut.prompt_of(at).tolist() for at in cut.pairs[:, 0]] == [whole.prompt_of(at).tolist() for at in whole.pairs[:5, 0]]
    assert [cut.response(at).tolist() for at in cut.pairs[:, 0]] == [whole.response(at).tolist() for at in whole.pairs[:5, 0]]


def test_answers_while_training_are_in_the_report_and_go_to_no_logger(runs: Path) -> None:
    *_, asked = policies(runs)
    rows = [json.loads(line) for line in (asked.path / SAMPLES).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    run = run_of(runs, asked)
    assert json.loads((run / "run.json").read_text())["answers"] == [{"round": 1, **row} for row in rows]
    report = (run / "report.html").read_text()
    assert "While training" in report
    assert "round 1, after step 3" in report
    assert len(SENT) == 4  # three steps and the summary
    sent = json.dumps(SENT)
    assert not any(each["prompt"] in sent for row in rows for each in row["samples"])
