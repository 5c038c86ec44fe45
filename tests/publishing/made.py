"""Pairs with their ranking and answers as artifacts, small, and what a pairwise ranker says of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import component
from dpo_lab.pipeline.answers import CANDIDATES
from dpo_lab.pipeline.pairs import paired
from dpo_lab.pipeline.ranking import ranked
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.records import Candidates, Prompt, write_jsonl


@component
class Duels(Ranker):
    """Compares answers by their lengths, longer is better, with a bias of 0.5 for the one shown first."""

    label: ClassVar[str] = "duels"
    temperature: float = 2.0

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        verdicts = []
        for candidate in candidates:
            sizes = [len(text) for text in candidate.responses]
            odds = tuple(tuple(0.0 if i == j else a - b + 0.5 for j, b in enumerate(sizes)) for i, a in enumerate(sizes))
            verdicts.append(Verdict(scores=tuple(sum(row) / len(row) for row in odds), pairwise=odds))
        return verdicts

    def preference(self, candidates: Candidates, one: int, other: int) -> float:
        odds = (candidates.pairwise[one][other] - candidates.pairwise[other][one]) / 2
        return 1 / (1 + math.exp(-odds / self.temperature))


@component
class Lengths(Ranker):
    """Prefers the longer answer, and does not say how sure it is."""

    label: ClassVar[str] = "lengths"

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        return [Verdict(scores=tuple(float(len(text)) for text in candidate.responses)) for candidate in candidates]


def conversations(count: int) -> list[Candidates]:
    """Return prompts with three answers of one to three words each; every third has turns before it."""
    before: list[Any] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Good day."},
    ]
    sets = []
    for number in range(count):
        asked: Any = {"role": "user", "content": f"Question {number}?"}
        prompt = Prompt.of([*before, asked] if number % 3 == 2 else [asked])
        sets.append(Candidates(prompt=prompt, responses=("No.", f"Answer {number}.", f"A long answer {number}.")))
    return sets


def made_answers(root: Path, sets: Sequence[Candidates], name: str = "small") -> Artifact:
    """Return the artifact `candidates` of some answers."""
    plan = Plan(
        root, "candidates", name, {"answers": name, "policy": "0" * 64, "sampler": {"temperature": 0.7, "top_p": 0.9}, "seed": 5}
    )

    def produce(directory: Path) -> dict[str, Any]:
        write_jsonl(directory / CANDIDATES, (one_set.to_record() for one_set in sets))
        return {"prompts": len(sets), "answers": sum(len(one_set.responses) for one_set in sets)}

    return plan.make(produce)


def made_pairs(
    root: Path,
    sets: Sequence[Candidates],
    ranker: Ranker | None = None,
    name: str = "small",
    pairing: Pairing | None = None,
) -> Artifact:
    """Return the artifact `pairs` of some answers."""
    judge = ranker or Duels()
    ranking = ranked(made_answers(root, sets, name), judge, root=root, name=name, device=torch.device("cpu"), force=False)
    return paired(ranking, judge, pairing or BestVsWorst(), root=root, name=name, force=False)
