"""Pairs are an artifact made of a ranking: another pairing ranks nothing again, and what is left out stands in the facts."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.pipeline.answers import CANDIDATES, stream_candidates
from dpo_lab.pipeline.pairs import paired, paired_with_data, read_pairs
from dpo_lab.pipeline.ranking import ranked
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairing import Adjacent, AllPairs, BestVsRandom, BestVsSecond, BestVsWorst, Pairing, Spin
from dpo_lab.records import Candidates, Prompt, write_jsonl
from dpo_lab.report.screen import made_pairs_text, pair_notes
from tests.e2e.forked import Command, finished

ANSWERS = [("a", "a b", "a b c"), ("a", "a", "a b"), ("a", "b", "c")]
"""Of three prompts: three lengths, two equal texts, three ties."""


def ranking_in(root: Path) -> Artifact:
    def produce(directory: Path) -> dict[str, Any]:
        sets = [Candidates(prompt=Prompt.from_text(f"{number}?"), responses=texts) for number, texts in enumerate(ANSWERS)]
        return {"prompts": write_jsonl(directory / CANDIDATES, (one_set.to_record() for one_set in sets))}

    candidates = Plan(root, "candidates", "some", {"of": "a test"}).make(produce, force=False)
    return ranked(candidates, LengthRanker(), root=root, name="some", device=torch.device("cpu"), force=False)


def pairs_in(root: Path, pairing: Pairing) -> Artifact:
    return paired(ranking_in(root), LengthRanker(), pairing, root=root, name="some", force=False)


def test_five_pairings_of_one_ranking_rank_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, rank = list[int](), LengthRanker.rank

    def noting(self: LengthRanker, candidates: Any) -> Any:
        calls.append(len(candidates))
        return rank(self, candidates)

    monkeypatch.setattr(LengthRanker, "rank", noting)
    made = [pairs_in(tmp_path, each) for each in (BestVsWorst(), BestVsSecond(), BestVsRandom(), Adjacent(), AllPairs())]
    assert sum(calls) == len(ANSWERS)
    assert len({each.id for each in made}) == 5
    assert [each.facts["pairs"] for each in made] == [2, 1, 2, 3, 4]


def test_what_is_left_out_stands_in_the_facts_and_on_the_screen(tmp_path: Path) -> None:
    facts = pairs_in(tmp_path, AllPairs()).facts
    # a-a b, a-a b c, a b-a b c | a-a equal, a-a b, a-a b repeated | three ties
    expected = {"equal_texts": 1, "repeated": 1, "ties": 3}
    assert (facts["pairs"], facts["prompts_without_pair"], facts["left_out"]) == (4, 1, expected)
    assert made_pairs_text({"prompts": 3, "answers": 9}, 1.0, facts).endswith("| 4 pairs")
    left_out, without = pair_notes(facts)
    assert left_out.startswith("left out: 3 tied: equal scores prefer neither answer; 1 of one and the same text; 1 repeated")
    assert without == "without a pair: 1 of 3 prompts"


def test_selected_pairs_keep_their_scores(tmp_path: Path) -> None:
    made = pairs_in(tmp_path, AllPairs(select="easiest", keep=1))
    assert [pair.scores for pair in read_pairs(made)] == [(-1.0, -3.0)]
    assert made.facts["prompts_without_pair"] == 2


@pytest.mark.slow
def test_a_sweep_of_pairings_ranks_once(tmp_path: Path) -> None:
    words = ["-m", "debug=fast", "pairing=best_vs_worst,adjacent", "sampler.num_samples=3", f"paths.outputs={tmp_path}"]
    finished(Command("train.py", *words, directory=tmp_path))
    kinds = ("ranking", "pairs", "policy")
    assert [len(list((tmp_path / kind).glob("tiny-*"))) for kind in kinds] == [1, 2, 2]


def test_the_answers_of_the_data_are_part_of_the_id_and_are_not_counted_as_drawn(tmp_path: Path) -> None:
    where: dict[str, Any] = {"root": tmp_path, "name": "some", "force": False}
    ranking_in(tmp_path)
    (manifest,) = tmp_path.glob("candidates/*/manifest.json")
    answers = Artifact.open(manifest.parent)
    assert answers
    ids = [candidate.prompt.id for candidate in stream_candidates(answers)]
    made = paired_with_data(answers, dict(zip(ids, ("own", "a", ""), strict=True)), Spin(), **where)
    # own against a, a b, a b c | a against a, a (equal) and a b | no answer, against three
    assert (made.facts["pairs"], made.facts["left_out"]) == (4, {"equal_texts": 2, "unanswered": 3})
    assert (made.facts["answers"], made.facts["distinct_answers"], made.facts["prompts_without_pair"]) == (9, 8, 1)
    assert (made.facts["score"], made.facts["gap"], made.facts["made_by"]["ranker"]) == (None, None, None)
    assert made_pairs_text({"prompts": 3, "answers": 9}, 1.0, made.facts).endswith("answers 1 s | 4 pairs")
    others = paired_with_data(answers, dict(zip(ids, ("other", "a", ""), strict=True)), Spin(), **where)
    assert others.id != made.id


@pytest.mark.slow
def test_a_round_of_whole_lists_and_one_against_the_data_train(tmp_path: Path) -> None:
    def first_loss(*words: str) -> float:
        here = [*words, "debug=fast", "evaluation.max_prompts=6", f"paths.outputs={tmp_path}"]
        finished(Command("train.py", *here, directory=tmp_path))
        (policy,) = (path for path in (tmp_path / "policy").glob("tiny-*") if str(path) not in seen)
        seen.add(str(policy))
        made = Artifact.open(policy)
        assert made
        assert made.facts["step_0_gap"] < 1e-3  # drawn log-probabilities are the reference's, in pairs of mixed origin too
        return float(made.facts["loss/first"])

    seen = set[str]()
    assert math.log(2) < first_loss("pairing=all_k", "loss=plackett_luce", "sampler.num_samples=4") <= math.log(24)
    assert first_loss("pairing=spin", "sampler.num_samples=1") == pytest.approx(math.log(2), abs=1e-4)
