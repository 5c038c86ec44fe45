"""The gold ranker of the embedded world: the exact reward, read off by the grammar's parser."""

from collections.abc import Sequence
from typing import ClassVar

from dpo_lab.components import component
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.records import Candidates
from dpo_lab.world.parser import gold_reward, parse


@component
class GoldRanker(Ranker):
    """Scores answers to film prompts by their true reward, 0 to 1."""

    label: ClassVar[str] = "gold"
    films_only: ClassVar[bool] = True

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return the gold reward of each response, and the share of it that is well-formed."""
        return [
            Verdict(
                scores=tuple(gold_reward(each.prompt.text, response) for response in each.responses),
                details={"well_formed": tuple(parse(each.prompt.text, response).well_formed for response in each.responses)},
            )
            for each in candidates
        ]
