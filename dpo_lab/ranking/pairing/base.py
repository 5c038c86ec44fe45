"""The contract of a pairing, and what all pairings leave out: ties, equal texts, and pairs that a filter refuses."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.selection import Select, selected
from dpo_lab.records import Candidates, PreferencePair

REASONS = {
    "ties": "tied: equal scores prefer neither answer",
    "equal_texts": "of one and the same text",
    "repeated": "repeated: the same two texts, scored again",
    "small_gaps": "below pairing.min_gap",
    "large_gaps": "above pairing.max_gap",
    "disagreements": "below pairing.min_agreement",
    "lengths": "above pairing.max_length_difference",
    "unanswered": "without an answer in the data",
    "not_selected": "not selected",
}
"""Why a pair of answers is left out: the name of the count, and what it means in the words of the screen."""


@component
class Pairing(Component, ABC):
    """Which of the ranked answers to a prompt become pairs, and which of the pairs are kept.

    Ties and equal texts are never pairs, as DPO's model of a preference needs a better answer (Rafailov et al. 2023, section 3).
    """

    against_data: ClassVar[bool] = False
    """Whether the data's own answer to each prompt is the chosen one: then no ranker is asked, and the data's answer comes first
    among the candidates, an empty text where there is none."""

    makes_lists: ClassVar[bool] = False
    """Whether the answers to a prompt are one ranked list, not pairs."""

    min_gap: Annotated[float, Field(ge=0)] = 0.0
    """Smallest difference of scores that counts as a preference; at 0 any difference does. Llama 3 trains on answers that are
    better or much better, not on similar ones (Dubey et al. 2024, section 4.2.1, arXiv:2407.21783)."""
    max_gap: Annotated[float, Field(gt=0)] | None = None
    """Largest difference of scores that is kept; null: any. beta-DPO leaves out pairs whose gap is an outlier (Wu et al. 2024,
    arXiv:2407.08639); its gap is that of implicit rewards, this one is the ranker's."""
    min_agreement: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest share of an ensemble's members that prefer the chosen answer, members that score both alike half; null: any.
    Agreement of several reward models as a filter: Coste et al. 2023 (arXiv:2310.02743) lower the reward where they disagree; to
    leave such pairs out is this project's own."""
    max_length_difference: NonNegativeInt | None = None
    """By how many words the two answers may differ in length; null: any number. Against the pull of DPO towards longer answers
    (Park et al. 2024, arXiv:2403.19159); the filter is this project's own. Words, because answers made elsewhere have no tokens
    yet, and a model with another tokenizer gets the same pairs."""
    select: Select | None = None
    """Which `keep` pairs of a round are trained on (`selection.py`); null: all."""
    keep: PositiveInt | None = None
    """How many pairs of a round `select` keeps."""

    @abstractmethod
    def choices(self, candidates: Candidates) -> Iterable[tuple[int, int]]:
        """Return the positions of (better, worse) answers of one prompt; two of equal scores are counted and left out."""

    def check(self) -> None:
        """Raise ConfigError if `select` and `keep` do not stand together, or the gaps exclude each other."""
        if (self.select is None) != (self.keep is None):
            absent, example = ("select", "hardest") if self.select is None else ("keep", "300")
            raise ConfigError(
                f"select={self.select or 'null'} keep={self.keep or 'null'}: either needs the other. "
                f"Add pairing.{absent}={example}, or leave both null to train on all pairs."
            )
        if self.max_gap is not None and self.max_gap < self.min_gap:
            raise ConfigError(
                f"min_gap={self.min_gap:g} is above max_gap={self.max_gap:g}, so no pair is left. "
                "Use pairing.max_gap=null, or a larger one."
            )

    def unserved(self, ranker: Ranker) -> str:
        """Return why a ranker does not say what this pairing reads, an empty text if it does."""
        if self.min_agreement is None or self.against_data or ranker.has_members:
            return ""
        return (
            f"pairing.min_agreement={self.min_agreement:g} asks how many rankers agree, and ranker={ranker.label} is one; use "
            "pairing.min_agreement=null, or ranker=ensemble."
        )

    def items(
        self, candidates: Iterable[Candidates], ranker: Ranker | None, counts: Counter[str] | None = None
    ) -> Iterator[PreferencePair] | Iterator[Candidates]:
        """Yield what is trained on: pairs, as `pairs` does, or ranked lists (`makes_lists`)."""
        return self.pairs(candidates, ranker, counts)

    def pairs(
        self, candidates: Iterable[Candidates], ranker: Ranker | None, counts: Counter[str] | None = None
    ) -> Iterator[PreferencePair]:
        """Yield pairs of candidates that carry the ranker's scores, prompt after prompt.

        One prompt is held at a time; with `select`, `keep` pairs beside it.

        Args:
            ranker: the one that scored them: it says how sure it is of a pair; None where nothing was ranked (`against_data`).
            counts: what is left out is counted there, under the keys of `REASONS`.
        """
        left_out = Counter[str]() if counts is None else counts
        usable = self._usable(candidates, ranker, left_out)
        if self.select is None or self.keep is None:
            return usable
        return selected(usable, self.select, self.keep, left_out)

    def _usable(
        self, candidates: Iterable[Candidates], ranker: Ranker | None, left_out: Counter[str]
    ) -> Iterator[PreferencePair]:
        for row, ranking in enumerate(candidates, start=1):
            seen = set[frozenset[str]]()
            for better, worse in self.choices(ranking):
                texts = frozenset((ranking.responses[better], ranking.responses[worse]))
                if why := self.refusal(ranking, better, worse) or ("repeated" if texts in seen else ""):
                    left_out[why] += 1
                    continue
                seen.add(texts)
                yield made_pair(ranking, better, worse, ranker, row)

    def refusal(self, candidates: Candidates, better: int, worse: int) -> str:
        """Return why two answers do not make a pair, a key of `REASONS`; an empty text if they are one."""
        better_text, worse_text = candidates.responses[better], candidates.responses[worse]
        if better_text == worse_text and better != worse:  # best and worst are the same answer where all scores are equal: a tie
            return "equal_texts"
        if why := self.no_preference(candidates, better, worse):
            return why
        words = abs(len(better_text.split()) - len(worse_text.split()))
        return "lengths" if self.max_length_difference is not None and words > self.max_length_difference else ""

    def no_preference(self, candidates: Candidates, better: int, worse: int) -> str:
        """Return why the scores of two answers are no preference, a key of `REASONS`; an empty text if they are one."""
        gap = candidates.scores[better] - candidates.scores[worse]
        if gap <= 0:
            return "ties"
        if gap < self.min_gap:
            return "small_gaps"
        if self.max_gap is not None and gap > self.max_gap:
            return "large_gaps"
        disagree = self.min_agreement is not None and candidates.agreement[better][worse] < self.min_agreement
        return "disagreements" if disagree else ""


def made_pair(candidates: Candidates, better: int, worse: int, ranker: Ranker | None, row: int) -> PreferencePair:
    """Return the pair of two answers with what a ranker says of them: scores, and, if it knows, how sure it is."""
    scores = (candidates.scores[better], candidates.scores[worse]) if candidates.scores else (None, None)
    return PreferencePair(
        prompt=candidates.prompt,
        chosen=candidates.responses[better],
        rejected=candidates.responses[worse],
        score_chosen=scores[0],
        score_rejected=scores[1],
        finished=(candidates.has_ended(better), candidates.has_ended(worse)),
        drawn=(candidates.drawn[better], candidates.drawn[worse]) if candidates.drawn else (),
        preference=ranker.preference(candidates, better, worse) if ranker else None,
        agreement=candidates.agreement[better][worse] if candidates.agreement else None,
        source=ranker.label if ranker else "data",
        row=row,
    )


def ranks(candidates: Candidates) -> list[int]:
    """Return the positions of the answers, the best first; of equal scores the first.

    >>> from dpo_lab.records import Prompt
    >>> ranks(Candidates(prompt=Prompt.from_text("?"), responses=("a", "b", "c"), scores=(0.5, 1.0, 0.5)))
    [1, 0, 2]
    """
    return sorted(range(len(candidates.scores)), key=lambda at: -candidates.scores[at])


def left_out_text(counts: Mapping[str, int]) -> str:
    """Return what a pairing left out, in words.

    >>> left_out_text({"ties": 3, "equal_texts": 1})
    '3 tied: equal scores prefer neither answer; 1 of one and the same text'
    """
    return "; ".join(f"{counts[name]} {words}" for name, words in REASONS.items() if counts.get(name))
