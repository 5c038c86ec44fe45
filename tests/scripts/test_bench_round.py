"""The benchmark of a whole round: its parts follow from one another, unequal work is not kept, and its sums are right."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.bench import contestants, round_parts, task
from scripts.bench.plain_pairrm import PlainPairRM
from scripts.bench.round_report import lines
from scripts.bench.round_task import SAMPLES, RoundTask, candidates
from scripts.bench.task import Options, Pair, Result
from scripts.bench_round import main
from scripts.bench_sampling import Contest

SIZES = {"layers": 1, "prompts": 2, "tokens": 2, "ranker_width": 64, "ranker_layers": 1}
SMALL = [word for name, size in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(size))]


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """A vocabulary that is drawn and multiplied in no time, and torch's threads as they were."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "VOCABULARY", 300)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the answers of a small round were drawn and ranked."""
    directory = tmp_path_factory.mktemp("round")
    assert main(["sample", "--state", str(directory), *SMALL]) == 0
    assert main(["rank", "--state", str(directory), *SMALL]) == 0
    return directory


def read(state: Path) -> dict[str, Any]:
    """Return what a directory keeps."""
    found: dict[str, Any] = json.loads((state / "round.json").read_text())
    return found


def result(**changes: Any) -> Result:
    """Return what a contestant reports of one step."""
    fixed: dict[str, Any] = {"losses": [math.log(2)], "grad_norms": [3.0], "epoch_seconds": [10.0], "reference_seconds": [2.0]}
    counts = {"body_tokens": 1, "head_tokens": 1, "body_products": 3, "head_products": 3}
    return Result(**{"contestant": "x", "options": {}, "reference_cached": True, **counts, **fixed, **changes})


def test_every_portion_has_the_lengths_of_the_sample_and_ids_of_its_own() -> None:
    portions = [RoundTask().prompt_ids(portion) for portion in range(RoundTask().portions)]
    assert [[len(prompt) for prompt in portion] for portion in portions] == [[prompt for prompt, _, _ in task.LENGTHS]] * 4
    assert len({tuple(prompt) for portion in portions for prompt in portion}) == 64


def test_a_round_trains_on_the_best_against_the_worst_of_what_was_drawn_and_ranked(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[Pair]] = []

    def run(self: contestants.Contestant, *_: object) -> Result:
        trained.append(Options(**{**OPTIONS, "file": self.more[-1]}).pairs())
        assert self.more[:4] == ("--warm-up", "0", "--compared", "1")
        return result()

    monkeypatch.setattr(contestants.Contestant, "run", run)
    assert main(["train", "--state", str(state), "--only", "ours", *SMALL]) == 0
    kept, (pairs,) = read(state), trained
    assert len(pairs) == 8
    scores, answers = kept["rank"]["1"]["made"][0], kept["sample"]["1"]["made"][:SAMPLES]
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    prompt = RoundTask(prompts=2).prompt_ids(1)[0]
    assert pairs[2] == Pair(prompt, answers[best], answers[worst])


OPTIONS: dict[str, Any] = {
    "variant": "defaults",
    "adapter": "none",
    "precision": "fp32",
    "micro_batch": 8,
    "repetitions": 1,
    "threads": 1,
    "layers": 1,
}


def test_a_training_whose_losses_differ_is_not_kept(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(self: contestants.Contestant, *_: object) -> Result:
        return result(grad_norms=[3.0 if self.name == "ours" else 3.5])

    monkeypatch.setattr(contestants.Contestant, "run", run)
    assert main(["train", "--state", str(state), "--only", "ours,naive", *SMALL]) == 1
    assert "gradient norms" in capsys.readouterr().out
    assert list(read(state)["train"]) == ["ours"]


def test_answers_that_are_not_those_of_generate_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Contest.ours
    monkeypatch.setattr(Contest, "ours", lambda contest, temperature: [ids[::-1] for ids in right(contest, temperature)])
    assert main(["sample", "--state", str(tmp_path), "--portion", "0", *SMALL]) == 1
    assert "are not those of generate: nothing is kept" in capsys.readouterr().out
    assert not (tmp_path / "round.json").exists()


def test_scores_that_differ_or_say_nothing_are_not_timed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = RoundTask(prompts=2).prompt_ids(0)
    sets = candidates(prompts, read(state)["sample"]["0"]["made"])
    right = PlainPairRM.rank
    monkeypatch.setattr(PlainPairRM, "rank", lambda self, sets: [[*each[1:], each[0]] for each in right(self, sets)])
    with pytest.raises(round_parts.UnequalError, match="scores of one prompt at a time differ"):
        round_parts.rank(sets, state / "pairrm")
    alike = candidates(prompts, [[5, 6]] * 10)
    with pytest.raises(round_parts.UnequalError, match="say nothing"):
        round_parts.rank(alike, state / "pairrm")


def test_a_part_before_its_turn_and_a_directory_of_another_round_are_refused(state: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="portion 2 has no answers yet"):
        main(["rank", "--state", str(tmp_path), "--portion", "2", *SMALL])
    with pytest.raises(SystemExit, match="0 of 4 portions are ranked"):
        main(["train", "--state", str(tmp_path), *SMALL])
    with pytest.raises(SystemExit, match="another --state"):
        main(["report", "--state", str(state)])


def test_the_whole_is_the_sum_of_the_quickest_of_each_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sample = {"ours": 1.0, "one padded generate": 2.0, "one generate per answer": 5.0}
    rank = {"ours": 2.0, "one prompt at a time": 6.0, "llm-blender": 4.0}
    every_step = result(epoch_seconds=[50.0], reference_seconds=[9.0], reference_cached=False)
    made = {
        "settings": RoundTask().settings(),
        "machine": "a machine",
        "sample": {str(portion): {"seconds": sample} for portion in range(4)},
        "rank": {str(portion): {"seconds": rank} for portion in range(4)},
        "train": {"ours": [asdict(result())], "TRL defaults": [asdict(every_step)]},
    }
    (tmp_path / "round.json").write_text(json.dumps(made))
    assert main(["report", "--state", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    # ours 4 + 8 + 12 = 24; defaults 20 + 24 + 50; best 8 + 16 + 50
    defaults = "one generate per answer + one prompt at a time + TRL defaults"
    assert printed[-3:] == [
        "whole round, ours: 24.0 CPU-s",
        f"whole round, defaults ({defaults}): 94.0 CPU-s, 3.92x, target 6x, missed",
        "whole round, best (one padded generate + llm-blender + TRL defaults): 74.0 CPU-s, 3.08x, target 2.7x, reached",
    ]
    made["rank"].pop("3")  # type: ignore[attr-defined]
    assert lines(made)[-1] == "rank: not run, so there is no whole yet."


@pytest.mark.slow
def test_our_training_of_a_small_round_is_the_naive_loops(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "VOCABULARY", 32000)  # as in the contestants' processes
    assert main(["train", "--state", str(state), "--only", "ours,naive", *SMALL]) == 0
    assert len(read(state)["train"]["naive"][0]["losses"]) == 1
