"""The ranker that is trained on the film world: it agrees with the exact reward, reads the prompt, and teaches a policy."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates, Prompt, read_jsonl
from dpo_lab.world.grammar import titles
from dpo_lab.world.parser import gold_reward
from dpo_lab.world.prompts import PROMPT_TEMPLATES
from tests.e2e.forked import Command, finished

WITHOUT_THE_FILM = 0.836
"""Agreement with gold, on such pairs, of a rule that knows all but which film is asked about (docs/log.md)."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, pretrained: Callable[..., Path]) -> Path:
    """The outputs of one round whose pairs the trained ranker chose."""
    directory = pretrained(tmp_path_factory.mktemp("outputs"))
    words = ["ranker=pairrm_tiny", "iteration.rounds=1", "evaluation.max_prompts=100"]
    finished(Command("train.py", *words, f"paths.outputs={directory}"))
    return directory


@pytest.fixture(scope="module")
def ranked(outputs: Path) -> list[Candidates]:
    (path,) = outputs.glob("ranking/*/candidates.jsonl")
    return [Candidates.from_record(record) for record in read_jsonl(path)]


def agreement(ranked: Sequence[Candidates], gold: Sequence[Sequence[float]]) -> float:
    """Return the share of pairs of unequal reward that the scores order as the reward does."""
    told = [
        (each.scores[one] > each.scores[other]) == (rewards[one] > rewards[other])
        for each, rewards in zip(ranked, gold, strict=True)
        for one, other in combinations(range(len(rewards)), 2)
        if rewards[one] != rewards[other]
    ]
    assert len(told) > 5 * len(ranked)
    return sum(told) / len(told)


def rewards_of(candidates: Sequence[Candidates]) -> list[list[float]]:
    return [[gold_reward(each.prompt.text, text) for text in each.responses] for each in candidates]


def test_it_agrees_with_gold_more_than_a_rule_that_cannot_read_the_film(ranked: list[Candidates]) -> None:
    assert len(ranked) == 600
    assert agreement(ranked, rewards_of(ranked)) > WITHOUT_THE_FILM


def test_asked_about_another_film_it_prefers_other_answers(outputs: Path, ranked: list[Candidates]) -> None:
    draw = random.Random(0)
    asked = [draw.choice(PROMPT_TEMPLATES).format(title=draw.choice(titles(held_out=False))) for _ in ranked[:200]]
    others = [replace(each, prompt=Prompt.from_text(text)) for each, text in zip(ranked, asked, strict=False)]
    (path,) = outputs.glob("ranker/pairrm_tiny-*")
    with PairRM(path=str(path)).open(torch.device("cpu")) as ranker:
        verdicts = ranker.rank(others)
    scored = [replace(each, scores=said.scores) for each, said in zip(others, verdicts, strict=True)]
    own, other = (rewards_of(each) for each in (ranked[:200], others))
    assert agreement(scored, other) > WITHOUT_THE_FILM > agreement(scored, own)


def test_a_round_of_its_pairs_raises_the_gold_reward_and_says_what_the_ranker_believes(outputs: Path) -> None:
    (path,) = outputs.glob("train/*/summary.json")
    summary = json.loads(path.read_text())
    assert summary["gold/round_1"] >= summary["gold/before"] + 0.10
    assert summary["win_rate/ranker/round_1"] > 0.5
    assert summary["win_rate/agreement/round_1"] > WITHOUT_THE_FILM
    assert "wins, pairrm_tiny says" in (path.parent / "screen.txt").read_text()
