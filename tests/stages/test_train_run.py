"""The stage `train`, small: figures, parts found again, what a kill leaves, given pairs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import RunError, plain
from dpo_lab.data.problems import DataError
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.answer_figures import CONTROLLED
from dpo_lab.evaluation.win_rate import win_rate
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.base import Verdict
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates, read_jsonl
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.reference.none import NoReference
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.training.iteration import Iteration
from dpo_lab.watching import watched_by
from tests.small_stage import ShareOfVowels, directories, given, pairs_file, stage

RANKED: list[int] = []
"""How many answers each call of the ranker or judge of the finished run was given."""
TOLD: list[tuple[int, int]] = []  # what a search would be told of it: after which of how many optimizer steps


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    outputs = tmp_path_factory.mktemp("outputs")
    rank = ShareOfVowels.rank

    def counted(self: ShareOfVowels, candidates: Sequence[Candidates]) -> list[Verdict]:
        RANKED.append(sum(len(candidate.responses) for candidate in candidates))
        return rank(self, candidates)

    with pytest.MonkeyPatch.context() as patched, watched_by(lambda _, step, steps: TOLD.append((step, steps))):
        patched.setattr(ShareOfVowels, "rank", counted)
        return outputs, stage(outputs).run()


def evaluated(outputs: Path, name: str) -> list[Candidates]:
    """Return the answers of a measurement."""
    (path,) = (outputs / "evaluation").glob(f"{name}-*/answers.jsonl")
    return [Candidates.from_record(record) for record in read_jsonl(path)]


def made_by(outputs: Path, number: int) -> dict[str, Any]:
    """Return what the manifest of a round's pairs says of their making."""
    (path,) = (outputs / "pairs").glob(f"*-round{number}-*/{MANIFEST}")
    return dict(json.loads(path.read_text())["facts"])


def test_the_summary_has_the_figures_of_the_end_screen_as_flat_keys(finished: tuple[Path, dict[str, Any]]) -> None:
    outputs, summary = finished
    both_sides = {"gold", "well_formed", *(f"answers/{name}" for name in ("tokens", "ended", "distinct_1", "distinct_2"))}
    figures = {f"{name}/{side}" for name in both_sides for side in ("before", "after")}
    with_interval = both_sides | {"win_rate", "win_rate/previous", CONTROLLED.name, "kl", "kl/k1", "kl/k3", "answers/perplexity"}
    figures |= (with_interval - both_sides) | {"kl/standard_error"}
    made = {f"made/{name}" for name in ("without_pair", "distinct", "gap", "score")}
    of_policy = {"gold", "win_rate", "win_rate/previous", "kl", "answers/tokens"}
    rounds = {f"{name}/round_{number}" for name in of_policy | made for number in (1, 2)}
    ends = {f"{name}/{end}" for name in with_interval for end in ("low", "high")}
    ends |= {f"{name}/round_{number}/{end}" for name in of_policy for number in (1, 2) for end in ("low", "high")}
    seconds = {f"seconds/{part}" for part in ("pretrain", "sample", "rank", "reference", "dpo", "evaluate", "total")}
    assert {name for name in summary if not name.startswith("health/")} - ends == figures | rounds | seconds
    assert {"gold/low", "win_rate/high", "kl/low"} <= set(summary)
    assert summary["kl/low"] < summary["kl"] < summary["kl/high"]
    assert summary["gold/after"] == summary["gold/round_2"]
    (run,) = (outputs / "train").glob("tiny-dpo-films-*")
    assert json.loads((run / "summary.json").read_text()) == summary
    assert "<path d=" in (run / "report.html").read_text()  # drawn, unlike those of most tests (tests/conftest.py)


def test_answers_are_judged_once_though_they_are_compared_with_two_models(finished: tuple[Path, dict[str, Any]]) -> None:
    outputs, summary = finished
    of_training, held_out = 2 * 12 * 3, 3 * 6 * 1  # rounds x prompts x answers; models x prompts x answers
    assert sum(RANKED) == of_training + held_out
    before, first, second = (evaluated(outputs, f"tiny-films-{name}") for name in ("before", "round1-after", "round2-after"))
    assert summary["win_rate/round_1"] == summary["win_rate/previous/round_1"] == win_rate(first, before)["win_rate"]
    assert summary["win_rate"] == win_rate(second, before)["win_rate"]
    assert summary["win_rate/previous"] == win_rate(second, first)["win_rate"]


def test_the_pairs_of_each_round_say_by_what_they_were_made(finished: tuple[Path, dict[str, Any]]) -> None:
    outputs, _ = finished
    (base,) = (outputs / "model").glob(f"*/{MANIFEST}")
    (first,) = (outputs / "policy").glob(f"*-round1-*/{MANIFEST}")
    rounds = [made_by(outputs, number) for number in (1, 2)]
    generators = [json.loads(path.read_text())["id"] for path in (base, first)]
    assert [one_round["made_by"]["generator"] for one_round in rounds] == generators
    assert rounds[0]["made_by"]["sampling"]["temperature"] == 1.0
    assert rounds[0]["made_by"]["sampling"]["seed"] != rounds[1]["made_by"]["sampling"]["seed"]
    assert rounds[0]["made_by"]["ranker"]["digest"] == rounds[1]["made_by"]["ranker"]["digest"]
    assert rounds[0]["made_by"]["pairing"] == plain(BestVsWorst().content())
    assert [one_round[name] for one_round in rounds for name in ("prompts", "answers")] == [12, 36] * 2
    (run,) = (outputs / "train").glob("tiny-dpo-films-*/run.json")
    recorded = [load["made_by"] for load in json.loads(run.read_text())["rounds"]]
    assert [{name: each[name] for name in rounds[0]} for each in recorded] == rounds
    assert [each["report"]["best_of/prompts"] for each in recorded] == [12, 12]


@pytest.mark.usefixtures("finished")
def test_a_search_is_told_of_the_steps_of_all_rounds_and_in_the_last_round_of_no_more() -> None:
    last = max(step for step, _ in TOLD)
    assert {steps for step, steps in TOLD if step == last} == {last}
    assert all(step < steps for step, steps in TOLD if step < last)


def test_the_end_screen_shows_those_figures(finished: tuple[Path, dict[str, Any]]) -> None:
    outputs, summary = finished
    (run,) = (outputs / "train").glob("tiny-dpo-films-*")
    lines = (run / "screen.txt").read_text().splitlines()
    assert lines[0].startswith(f"dpo-lab train  {run.name}     model tiny (")
    assert "data films  ranker gold  adapter none  " in lines[0]
    assert lines[1].startswith("1 pretrain   ready in ")
    assert lines[2].startswith("2 round 1/2  12 prompts x 3 answers ")
    at = lines.index("held-out films (6 prompts)     before      after")
    second = next(line for line in lines[3:at] if not line.startswith(" "))
    assert second.startswith("3 round 2/2  12 prompts x 3 answers ")
    assert max(map(len, lines[2:at])) <= 80
    after = f"{summary['gold/after']:.2f}".removeprefix("0")
    low, high = (f"{summary[f'gold/{end}']:.2f}".removeprefix("0") for end in ("low", "high"))
    cells = [f"{summary['gold/before']:.2f}".removeprefix("0"), after, f"[{low},", f"{high}]"]
    assert lines[at + 1].split() == ["gold", "reward", "(0..1)", *cells]
    assert [line.split("  ")[1] for line in lines[at + 2 : at + 5]] == [
        "win rate, judged by gold",
        "KL to before, nats",
        "well-formed",
    ]
    assert lines[at + 5].startswith('"')
    assert [line[:10] for line in lines[at + 6 : at + 8]] == ["  before: ", "  after:  "]


def test_metrics_count_on_over_the_rounds(finished: tuple[Path, dict[str, Any]]) -> None:
    (run,) = (finished[0] / "train").glob("tiny-dpo-films-*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["round"] for row in rows} == {1, 2}
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-4)  # the policy starts as its reference


def test_a_second_run_returns_the_same_figures_and_makes_nothing(
    finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, summary = finished
    monkeypatch.setattr("dpo_lab.artifacts.Plan.make", None)
    assert stage(outputs, force=False, tags=("again",)).run() == summary
    assert "this run was finished before" in capsys.readouterr().out


def test_fewer_rounds_find_every_part_of_the_longer_run(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, summary = finished
    monkeypatch.setattr("dpo_lab.pipeline.policy.fit", None)
    one = stage(outputs, iteration=Iteration(rounds=1)).run()
    assert one["gold/after"] == summary["gold/round_1"]
    assert "gold/round_2" not in one


def test_a_killed_run_does_not_redo_its_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = __import__("dpo_lab.pipeline.rounds", fromlist=["evaluate_round"]).evaluate_round
    with monkeypatch.context() as patched:
        patched.setattr("dpo_lab.pipeline.rounds.evaluate_round", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage(tmp_path, iteration=Iteration(rounds=1)).run()
    before = {
        kind: directories(tmp_path, kind) for kind in ("model", "candidates", "ranking", "pairs", "tokens", "reference", "policy")
    }
    assert all(len(found) == 1 for found in before.values()), before
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(MANIFEST)}
    monkeypatch.setattr("dpo_lab.pipeline.rounds.evaluate_round", real)
    summary = stage(tmp_path, iteration=Iteration(rounds=1)).run()
    assert {kind: directories(tmp_path, kind) for kind in before} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert "gold/after" in summary


def test_force_makes_all_but_the_base_model_again(tmp_path: Path) -> None:
    run = stage(tmp_path, iteration=Iteration(rounds=1))
    first = run.run()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(MANIFEST)}
    again = stage(tmp_path, iteration=Iteration(rounds=1), force=True).run()
    kept = {path.parent.parent.name for path, time in times.items() if path.stat().st_mtime_ns == time}
    assert kept == {"model", "reference"}  # both named by what they hold: weights and ids
    assert {name: value for name, value in again.items() if "seconds" not in name} == {
        name: value for name, value in first.items() if "seconds" not in name
    }


def test_given_pairs_are_split_by_prompt_trained_on_and_evaluated(tmp_path: Path) -> None:
    summary = given(tmp_path, pairs_file(tmp_path)).run()
    assert summary["eval/pairs"] == 6
    assert summary["eval/loss"] < summary["eval/loss/before"] == pytest.approx(0.693147, abs=1e-5)
    assert summary["eval/note"].startswith("6 held-out pairs are too few to tell: the 95 % interval of the accuracy is [")


def test_a_changed_file_is_another_run(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    given(tmp_path, path).run()
    path.write_text(path.read_text() + "\n" + json.dumps({"prompt": "new?", "chosen": " a good one", "rejected": " bad"}))
    given(tmp_path, path).run()
    assert len(directories(tmp_path, "train")) == 2


def test_nothing_held_out_is_said(tmp_path: Path) -> None:
    summary = given(tmp_path, pairs_file(tmp_path, count=4)).run()
    assert summary["eval/note"] == "nothing was held out, so nothing was evaluated; data.held_out=N keeps N prompts"


def test_frozen_and_cached_reference_train_to_the_same_figures(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    cached = given(tmp_path, path).run()
    frozen = given(tmp_path, path, reference=FrozenReference()).run()
    for name in ("eval/loss", "eval/margin"):
        assert frozen[name] == pytest.approx(cached[name], rel=1e-3)


def test_held_out_pairs_that_do_not_fit_are_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.pipeline.policy.fit", None)
    data = FilePairs(path=pairs_file(tmp_path), max_length=8, truncation="error")
    with pytest.raises(DataError, match=r"data\.max_length=8"):
        given(tmp_path, tmp_path / "pairs.jsonl", data=data).run()


def test_the_screen_of_given_pairs_and_what_to_do_next(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    given(tmp_path, path).run()
    (run,) = (each for each in (tmp_path / "train").glob("tiny-dpo-pairs-*") if each.is_dir())
    lines = (run / "screen.txt").read_text().splitlines()
    assert lines[3] == "2 round 1/1  24 pairs, 6 held out"
    assert lines[4].startswith("             reference ")
    assert lines[5] == "held-out pairs (6)             before      after"
    assert [line.split()[0] for line in lines[6:9]] == ["loss", "accuracy", "margin"]
    (policy,) = (each for each in (tmp_path / "policy").glob("tiny-dpo-pairs-seed0-round1-*") if each.is_dir())
    assert lines[9].startswith("Cannot tell. 6 held-out pairs are too few")
    assert lines[10:12] == [f"model  {policy}", f"report {run}/report.html"]
    assert lines[12:] == [f"next   python scripts/chat.py 'models=[{run}]'", f"       python scripts/export.py policy={run}"]


def scored_file(directory: Path, score: float | None) -> Path:
    path = directory / "scored.jsonl"
    rows = [json.loads(line) for line in pairs_file(directory).read_text().splitlines()]
    scored = [
        {**row, "score_chosen": score if n else 3.0, "score_rejected": 1.0 if score else None} for n, row in enumerate(rows)
    ]
    path.write_text("\n".join(map(json.dumps, scored)))
    return path


def test_changed_scores_are_evaluated_anew(tmp_path: Path) -> None:
    run = given(tmp_path, scored_file(tmp_path, 2.0), loss=ODPOLoss(beta=1.0))
    first = run.run()
    scored_file(tmp_path, 9.0)
    again = run.run()
    assert again["eval/losses/odpo"] != first["eval/losses/odpo"]
    assert again["eval/loss"] != first["eval/loss"]


def test_pairs_without_the_labels_that_a_loss_reads_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"reads score_chosen and score_rejected; 29 of 30 pairs of scored have no score_chosen"):
        given(tmp_path, scored_file(tmp_path, None), loss=ODPOLoss(beta=1.0)).run()
    assert not (tmp_path / "model").exists()


def test_without_a_reference_nothing_is_scored_beside_the_policy_and_nothing_is_said_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.reference.cached.reference_pass", None)
    monkeypatch.setattr("dpo_lab.reference.frozen.FrozenScorer", None)
    summary = given(tmp_path, pairs_file(tmp_path), loss=SimPOLoss(), reference=NoReference()).run()
    assert "eval/loss/before" not in summary
    assert not (tmp_path / "reference").exists()
    (run,) = (path for path in (tmp_path / "train").glob("tiny-simpo-*") if path.is_dir())
    table = (run / "screen.txt").read_text().splitlines()[6:9]
    assert [line.split()[-4] for line in table[::2]] == ["-", "-"]


def test_a_ranker_that_prefers_nothing_is_said(tmp_path: Path) -> None:
    data = OnPolicy(
        prompts=FilmPrompts(num_prompts=3),
        sampler=HFSampler(num_samples=2, max_new_tokens=2),
        ranker=GoldRanker(),
        pairing=BestVsWorst(),
        max_length=128,
    )
    with pytest.raises(RunError, match=r"round 1: gold prefers none of the answers to 3 prompts.*sampler.num_samples"):
        stage(tmp_path, data=data).run()
