"""A verdict that says nothing drops its prompt and is counted; one that belongs to other answers stops the run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import RunError, component
from dpo_lab.evaluation.win_rate import win_rate
from dpo_lab.pipeline.answers import CANDIDATES, read_candidates
from dpo_lab.pipeline.pairs import paired, read_pairs
from dpo_lab.pipeline.ranking import ranked
from dpo_lab.ranking.base import Ranker, Verdict, rank_kept
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates, Prompt, write_jsonl
from dpo_lab.report.screen import pair_notes

SETS = [Candidates(prompt=Prompt.from_text(f"{number}?"), responses=("a", "b b")) for number in range(3)]


@component
class Failing(Ranker):
    """Says nothing of the prompts that it is given."""

    label = "failing"

    prompts: tuple[str, ...]
    infinite: bool = False

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per prompt."""
        nothing = (math.inf if self.infinite else math.nan, 1.0)
        return [Verdict(scores=nothing if candidate.prompt.text in self.prompts else (2.0, 1.0)) for candidate in candidates]


def made(ranker: Ranker, root: Path) -> tuple[Artifact, Artifact]:
    """Return the ranking and its pairs."""

    def produce(directory: Path) -> dict[str, Any]:
        return {"prompts": write_jsonl(directory / CANDIDATES, (one_set.to_record() for one_set in SETS))}

    candidates = Plan(root, "candidates", "some", {"of": "a test"}).make(produce, force=False)
    ranking = ranked(candidates, ranker, root=root, name="some", device=torch.device("cpu"), force=False)
    return ranking, paired(ranking, ranker, BestVsWorst(), root=root, name="some", force=False)


@pytest.mark.parametrize("infinite", [False, True], ids=["nan", "infinite"])
def test_a_failed_verdict_drops_its_prompt_and_is_counted(infinite: bool, tmp_path: Path) -> None:
    ranking, artifact = made(Failing(prompts=("1?",), infinite=infinite), tmp_path)
    assert [pair.prompt.text for pair in read_pairs(artifact)] == ["0?", "2?"]
    assert [candidate.prompt.text for candidate in read_candidates(ranking)] == ["0?", "2?"]
    counts = {"prompts": 3, "failed": 1, "pairs": 2, "prompts_without_pair": 1, "left_out": {}}
    assert {name: artifact.facts[name] for name in counts} == counts
    assert pair_notes(artifact.facts) == ["without a pair: 1 of 3 prompts; the ranker failed for 1 of them"]


def test_a_ranker_that_fails_everywhere_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^ranker=failing failed for all 3 prompts .*, the first of them '0\?'"):
        made(Failing(prompts=("0?", "1?", "2?")), tmp_path)


class Says:
    """An open ranker that returns what it is given."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        return list(self.verdicts)


FULL = Verdict(scores=(1.0, 0.0))


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ((FULL, FULL), r"^ranker=mine returned 2 verdicts for 3 prompts, the first of them '0\?'"),
        ((FULL, Verdict(scores=(1.0,)), FULL), r"^ranker=mine returned 1 score for 2 answers to the prompt '1\?'"),
        ((FULL, FULL, Verdict(scores=(1.0, 0.0), pairwise=((0.0,),))), r"comparisons of 1 answers for 2 answers .* '2\?'"),
    ],
    ids=["verdicts", "scores", "comparisons"],
)
def test_verdicts_of_other_answers_are_refused_with_ranker_and_prompt(verdicts: tuple[Verdict, ...], said: str) -> None:
    with pytest.raises(RunError, match=said):
        list(rank_kept(Says(*verdicts), SETS, label="ranker=mine"))


def test_a_judge_that_fails_for_a_prompt_leaves_it_out_of_the_win_rate() -> None:
    one, lost = (Candidates(prompt=Prompt.from_text("?"), responses=("a",), scores=scores) for scores in ((1.0,), ()))
    other = Candidates(prompt=Prompt.from_text("?"), responses=("a",), scores=(0.0,))
    assert win_rate([one, lost, one], [other, other, other]) == win_rate([one, one], [other, other])
    assert win_rate([lost], [other]) == {}
