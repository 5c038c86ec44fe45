"""Asking a ranker, and whether its verdicts stand in the order of what it was asked about: tried once per ranking."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dpo_lab.components import RunError
from dpo_lab.continuing import kept_part
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict, excerpt_of, failed, rank_kept, refuse_incomplete
from dpo_lab.records import Candidates

SAME = 1e-4
"""Largest difference of two scores that count as equal, as a share of the spread of a prompt's scores."""
ANSWERS = 12
"""About how many answers a ranker is asked again, prompt by prompt: of two answers, a wrong order is the right one by chance."""

PROMPTS_OF_TWO = 12
"""How many prompts of two answers may have scores that stay in their places while the answers change theirs, one after the other:
a judge that prefers a place in four verdicts of five looks like that in .8 ** 12 = 7 of 100 rankings, a right one in none."""


@contextmanager
def opened(ranker: Ranker, device: torch.device, label: str, *, in_one_order: bool = False) -> Iterator[OpenRanker]:
    """Open a ranker for a block; one whose code is not of this package is tried before its first verdict is used.

    Args:
        label: the ranker's name in messages.
        in_one_order: whether pairs follow from verdicts in one order, so that one that always prefers a place is refused.
    """
    with ranker.open(device) as ready:
        asked = Tried(ready, label, alone=ranker.scores_alone) if is_tried(ranker) else ready
        if in_one_order:
            refuse_places(asked)
        yield asked


def refuse_places(asked: OpenRanker) -> None:
    """Let an open ranker that is tried, and the members of an ensemble, refuse scores that belong to places."""
    if isinstance(asked, Tried):
        asked.in_one_order = True
    members = getattr(asked, "members", None)
    for member in members.values() if isinstance(members, Mapping) else ():
        refuse_places(member)


def verdicts_of(
    ranker: Ranker,
    candidates: Sequence[Candidates],
    device: torch.device,
    *,
    name: str,
    directory: Path | None,
    in_one_order: bool = True,
) -> list[Verdict]:
    """Return a ranker's verdicts; its model, if it has one, is released when they are made.

    Args:
        name: what the progress calls this part.
        directory: where verdicts are kept as they are made, for a call after a kill; None keeps nothing.
        in_one_order: False where the caller asks about the same answers in both orders.
    """
    label = f"ranker={ranker.label}"
    with opened(ranker, device, label, in_one_order=in_one_order) as ready, kept_part(name, len(candidates), directory) as keep:
        return [verdict for _, verdict in rank_kept(ready, candidates, keep, label=label)]


def is_tried(ranker: Ranker) -> bool:
    """Return whether a ranker's order is tried: its class, or a function that it names, comes from outside this package."""
    own = type(ranker).__module__.startswith("dpo_lab.")
    return not ranker.scores_places and (not own or bool(ranker.names_code))


@dataclass
class Tried:
    """An open ranker that is asked about a few prompts again.

    Their answers are turned by one place and, if the ranker scores an answer alone, shown one by one. These verdicts are compared
    and thrown away.
    """

    ranker: OpenRanker
    label: str
    alone: bool
    in_one_order: bool = False
    """Whether nobody asks it in both orders."""
    left: int = field(default=ANSWERS, init=False)
    """About how many answers it is asked again."""
    in_places: int = field(default=0, init=False)
    """To how many prompts of two answers its scores stayed in their places."""
    follows: bool = field(default=False, init=False)
    """Whether its scores followed two answers that changed their places."""

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return the ranker's verdicts.

        Raises:
            RunError: if scores belong to other answers, or verdicts to other prompts, than their places say.
        """
        verdicts = self.ranker.rank(candidates)
        refuse_incomplete(verdicts, candidates, self.label)
        scores = [verdict.scores for verdict in verdicts]
        for asked, verdict in zip(candidates, verdicts, strict=True):
            if self.left > 0 and tells(asked, verdict):
                self.left -= len(verdict.scores)
                why = self._wrong(asked, verdict.scores, scores)
                if why and self._says_the_same(asked) and self._wrong(asked, verdict.scores, scores) == why:
                    raise RunError(f"{self.label} {why}")
            if self.in_one_order and not self.follows and len(verdict.scores) == 2 and tells(asked, verdict):
                self._refuse_places(asked, verdict.scores)
        return verdicts

    def _refuse_places(self, asked: Candidates, said: tuple[float, ...]) -> None:
        """Exchange two answers; RunError if the scores of many prompts, and of all so far, belong to places."""
        exchanged = self._again(asked, (1, 0))
        self.follows = bool(exchanged) and not same(exchanged, said)
        self.in_places += same(exchanged, said)
        if self.in_places == PROMPTS_OF_TWO and not self.follows:
            raise RunError(
                f"{self.label} returned the same scores with both answers exchanged, for each of {PROMPTS_OF_TWO} prompts of two "
                "answers: they belong to the places and not to the answers. Return one score per answer, in the order of the "
                "answers; ask a judge that prefers a place in both orders, and return the means."
            )

    def _wrong(self, asked: Candidates, said: tuple[float, ...], of_all: Sequence[tuple[float, ...]]) -> str:
        """Return what is wrong with the places of a prompt's scores, an empty text if nothing is known to be."""
        turned = self._again(asked, (*range(1, len(said)), 0))
        back = (*turned[-1:], *turned[:-1])
        alone = tuple(score for place in range(len(said)) for score in self._again(asked, (place,))) if self.alone else ()
        # of two answers that are compared, a judge that prefers a place looks the same: many prompts tell (`_refuse_places`)
        if (len(said) > 2 and same(turned, said)) or elsewhere(alone, said):
            return (
                f"returned scores in another order than the answers to the prompt {excerpt_of(asked.prompt)}: with the answers "
                "in other places the same numbers belong to other answers. Return one score per answer, in the order of the "
                "answers (a function may return {answer: score})."
            )
        if self.alone and not same(back, said) and any(same(back, verdict) for verdict in of_all):
            return (
                f"returned verdicts in another order than the prompts: in the place of {excerpt_of(asked.prompt)} stands the "
                "verdict of another prompt. Return one verdict for each set of candidates, in their order."
            )
        return ""

    def _says_the_same(self, asked: Candidates) -> bool:
        """Return whether the ranker says twice the same: one that draws may look as if it were wrong, by chance."""
        one, other = (self._again(asked, range(len(asked.responses))) for _ in range(2))
        return one == other

    def _again(self, asked: Candidates, places: Sequence[int]) -> tuple[float, ...]:
        """Return the scores of answers in other places; none where the ranker cannot be asked so, of one answer perhaps."""
        some = [placed(asked, places)]
        try:
            verdicts = self.ranker.rank(some)
            refuse_incomplete(verdicts, some, self.label)
        except Exception:  # code of the user's own: what it says of the answers as they stand is what counts
            return ()
        return verdicts[0].scores


def tells(candidates: Candidates, verdict: Verdict) -> bool:
    """Return whether a verdict shows in which order its scores stand: different scores of different answers."""
    several = len(verdict.scores) > 1 and len(set(candidates.responses)) == len(candidates.responses)
    return several and not failed(verdict) and len(set(verdict.scores)) == len(verdict.scores)


def placed(candidates: Candidates, places: Sequence[int]) -> Candidates:
    """Return a set with some of its answers, in other places; what a ranker or a person said of them is left out."""

    def those(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(of[place] for place in places) if of else ()

    return Candidates(
        prompt=candidates.prompt,
        responses=those(candidates.responses),
        finished=those(candidates.finished),
        drawn=those(candidates.drawn),
        source=candidates.source,
        row=candidates.row,
    )


def same(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether two verdicts have equal scores in equal places.

    >>> same((1.0, 2.0), (1.00001, 2.0)), same((1.0, 2.0), (2.0, 1.0))
    (True, False)
    """
    spread = SAME * (max(scores) - min(scores)) if len(scores) > 1 else 0.0
    return len(scores) == len(others) and all(
        math.isclose(one, other, rel_tol=1e-6, abs_tol=spread) for one, other in zip(scores, others, strict=True)
    )


def elsewhere(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether two verdicts have the same scores in other places.

    >>> elsewhere((1.0, 2.0), (2.0, 1.0)), elsewhere((1.0, 2.0), (1.0, 3.0))
    (True, False)
    """
    return not same(scores, others) and same(sorted(scores), sorted(others))
