"""An ensemble brings its members to one scale within a prompt; a control draws from the prompt alone."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dpo_lab.components import ConfigError, RunError, component, parts_of
from dpo_lab.data.prompt_files import FilePrompts
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict, with_verdict
from dpo_lab.ranking.controls import LengthRanker, RandomRanker
from dpo_lab.ranking.ensemble import EnsembleRanker
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates, PreferencePair, Prompt
from dpo_lab.sampling.hf import HFSampler

CPU = torch.device("cpu")
SETS = [Candidates(prompt=Prompt.from_text(f"{number}?"), responses=("a", "b b", "c c c")) for number in range(3)]
opened: list[str] = []


@component
class Given(Ranker):
    """Says what it is given, while it is open."""

    label = "given"
    scores_places = True

    scores: tuple[float, ...]
    size: float = 0.0

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Note that it is open."""
        opened.append("open")
        yield Said(self.scores)
        opened.append("closed")

    def bytes_needed(self, device: str) -> float:
        """Return what it is given."""
        return self.size


@component
class Broken(Given):
    """Cannot say anything else, since pydantic takes no NaN."""

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Say nothing of the last answer."""
        yield Said((*self.scores[:-1], math.nan))


class Said:
    """Has the same scores for every set."""

    def __init__(self, scores: tuple[float, ...]) -> None:
        self.scores = scores

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        return [Verdict(scores=self.scores) for _ in candidates]


def verdicts(ranker: Ranker, sets: Sequence[Candidates] = SETS) -> list[Verdict]:
    with ranker.open(CPU) as open_ranker:
        return open_ranker.rank(sets)


def ensemble(combine: str, *scores: tuple[float, ...]) -> EnsembleRanker:
    return EnsembleRanker(members={f"m{at}": Given(scores=each) for at, each in enumerate(scores)}, combine=combine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        # spreads sqrt(2/3) and 100 sqrt(2/3): standard scores -a 0 a and a -a 0 with a = sqrt(3/2)
        ("z_score", (0.0, -math.sqrt(1.5) / 2, math.sqrt(1.5) / 2)),
        ("borda", (1.0, 0.5, 1.5)),  # places 0 1 2 and 2 0 1
        ("majority", (1.0, 0.5, 1.5)),  # the last beats the second in both votes, all else is one against one
    ],
)
def test_members_are_combined_whatever_their_scale(combine: str, expected: tuple[float, ...]) -> None:
    for verdict in verdicts(ensemble(combine, (1.0, 2.0, 3.0), (300.0, 100.0, 200.0))):
        assert verdict.scores == pytest.approx(expected)


def test_all_members_are_open_while_it_ranks_and_need_their_memory_together() -> None:
    opened.clear()
    both = EnsembleRanker(members={"one": Given(scores=(1, 2, 3), size=2.0), "two": Given(scores=(1, 2, 3), size=3.0)})
    verdicts(both)
    assert opened == ["open", "open", "closed", "closed"]
    assert both.bytes_needed("cpu") == 5.0


def test_where_a_member_fails_the_ensemble_fails() -> None:
    both = EnsembleRanker(members={"one": Given(scores=(1, 2, 3)), "two": Broken(scores=(1, 2, 3))})
    assert all(map(math.isnan, verdicts(both)[0].scores))


def test_a_member_with_too_few_scores_is_named() -> None:
    with pytest.raises(RunError, match=r"member m1 of the ensemble returned 2 scores for 3 answers to the prompt '0\?'"):
        verdicts(ensemble("borda", (1.0, 2.0, 3.0), (1.0, 2.0)))


def test_one_member_is_no_ensemble() -> None:
    with pytest.raises(ConfigError, match=r"members={m0}: an ensemble has at least two members"):
        ensemble("borda", (1.0,)).check()


def test_members_are_parts_and_what_they_cannot_judge_it_cannot_judge() -> None:
    with_gold = EnsembleRanker(members={"gold": GoldRanker(), "length": LengthRanker()})
    assert [key for key, _ in parts_of(with_gold)] == ["", "members.gold", "members.length"]
    assert with_gold.cannot_judge(FilmPrompts()) == ""
    assert "ensemble can judge answers about films only" in with_gold.cannot_judge(FilePrompts(path=Path("p.jsonl")))


def test_random_scores_depend_on_the_prompt_and_the_seed_alone() -> None:
    together = RandomRanker().rank(SETS)
    assert [RandomRanker().rank([one_set])[0] for one_set in SETS] == together
    assert len({score for verdict in together for score in verdict.scores}) == 9
    assert RandomRanker(seed=1).rank(SETS) != together


def test_the_share_of_members_that_agree_is_kept_with_ranking_and_pair() -> None:
    three = ensemble("borda", (1.0, 2.0, 3.0), (2.0, 1.0, 3.0), (1.0, 1.0, 0.0))
    verdict = verdicts(three)[0]
    assert verdict.agreement[2] == pytest.approx((2 / 3, 2 / 3, 0.5))
    assert verdict.agreement[0][1] == pytest.approx(0.5)  # one for, one against, one tie
    again = Candidates.from_record(with_verdict(SETS[0], verdict).to_record())
    (pair,) = BestVsWorst().pairs([again], three)
    assert pair.agreement == again.agreement[2][0] == pytest.approx(2 / 3)
    assert PreferencePair.from_record(pair.to_record("train")) == pair


def test_pairs_on_which_too_few_members_agree_are_left_out_and_counted() -> None:
    three, counts = ensemble("borda", (1.0, 2.0, 3.0), (2.0, 1.0, 3.0), (1.0, 1.0, 0.0)), Counter[str]()
    candidates = with_verdict(SETS[0], verdicts(three)[0])
    assert list(BestVsWorst(min_agreement=0.66).pairs([candidates], three, counts))
    assert not list(BestVsWorst(min_agreement=0.7).pairs([candidates], three, counts))
    assert counts == {"disagreements": 1}


def test_one_ranker_has_no_members_to_agree() -> None:
    asked = BestVsWorst(min_agreement=0.7)
    data = OnPolicy(prompts=FilmPrompts(), sampler=HFSampler(), ranker=GoldRanker(), pairing=asked)
    refused = r"pairing.min_agreement=0.7 asks how many rankers agree, and ranker=gold is one; use .*null, or ranker=ensemble"
    with pytest.raises(ConfigError, match=refused):
        data.check()
    replace(data, ranker=EnsembleRanker(members={"gold": GoldRanker(), "length": LengthRanker()})).check()
    replace(data, pairing=BestVsWorst()).check()
