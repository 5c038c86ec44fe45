"""The gold ranker of the embedded world: the exact reward, read off by the grammar's parser."""

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import PositiveFloat

from dpo_lab.components import RunError, component
from dpo_lab.figures import Figure
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.records import Candidates
from dpo_lab.world.parser import gold_reward, parse

WELL_FORMED = Figure(
    name="well_formed",
    title="well-formed answers",
    row="well-formed",
    unit="share",
    better="max",
    before="measured",
    digits=3,
)
"""Share of answers that the grammar derives."""


@component
class GoldRanker(Ranker):
    """Scores answers to film prompts by their true reward, 0 to 1."""

    label: ClassVar[str] = "gold"
    topic: ClassVar[str] = "films"
    score: ClassVar[str] = "reward"
    score_range: ClassVar[str] = "0..1"
    details: ClassVar[tuple[Figure, ...]] = (WELL_FORMED,)

    temperature: PositiveFloat = 0.15
    """Of the win probability, in reward: sigmoid(difference / temperature). At 0.15 random labels agree with the
    better reward in three of four pairs of the first round; scores and pairs do not depend on it."""

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return the gold reward of each response, and the share of it that is well-formed.

        Raises:
            RunError: if a prompt asks about no film of the world.
        """
        try:
            return [
                Verdict(
                    scores=tuple(gold_reward(candidate.prompt.text, response) for response in candidate.responses),
                    details={
                        "well_formed": tuple(
                            parse(candidate.prompt.text, response).well_formed for response in candidate.responses
                        )
                    },
                )
                for candidate in candidates
            ]
        except ValueError as error:
            raise RunError(str(error)) from error

    def win_probability(self, score: float, other: float) -> float:
        """Return the Bradley-Terry probability of two rewards (Bradley and Terry 1952).

        >>> GoldRanker(temperature=0.5).win_probability(0.5, 0.5)
        0.5
        """
        return 1 / (1 + math.exp((other - score) / self.temperature))
