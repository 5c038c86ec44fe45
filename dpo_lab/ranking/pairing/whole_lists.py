"""The pairing `all_k`: the ranked answers to a prompt as one item, for losses of whole lists."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

from dpo_lab.components import component
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.base import Pairing, ranks
from dpo_lab.records import Candidates


@component
class AllK(Pairing):
    """All answers to a prompt in the order of their scores, as the Plackett-Luce model takes them (Rafailov et al. 2023, appendix
    A.3, arXiv:2305.18290).

    The model knows no ties: an answer is in the list if it makes a pair with the one above it, and is left out and counted by the
    same reasons otherwise. The filters (`min_gap`, ...) are about these neighbours.
    """

    makes_lists: ClassVar[bool] = True

    def idle(self) -> Mapping[str, str]:
        """Return the selection of pairs."""
        return dict.fromkeys(("select", "keep"), "pairing=all_k makes one ranked list of all answers to a prompt")

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield neighbours in rank, the best first: what the order of the list says."""
        yield from pairwise(ranks(candidates))

    def items(
        self, candidates: Iterable[Candidates], ranker: Ranker | None, counts: Counter[str] | None = None
    ) -> Iterator[Candidates]:
        """Yield the ranked list of each prompt, best first; prompts without two answers that differ have none.

        Args:
            ranker: the one that scored them.
            counts: what is left out is counted there, under the keys of `REASONS`.
        """
        left_out = Counter[str]() if counts is None else counts
        for row, each in enumerate(candidates, start=1):
            order = ranks(each)
            kept, texts = order[:1], {each.responses[at] for at in order[:1]}
            for at in order[1:]:
                equal = "equal_texts" if each.responses[at] in texts else ""
                if why := equal or self.refusal(each, kept[-1], at):
                    left_out[why] += 1
                    continue
                kept.append(at)
                texts.add(each.responses[at])
            if len(kept) > 1:
                yield replace(chosen_of(each, kept), source=ranker.label if ranker else each.source, row=row)


def chosen_of(candidates: Candidates, places: list[int]) -> Candidates:
    """Return some of the candidates in an order, with what is said of each.

    >>> from dpo_lab.records import Prompt
    >>> three = Candidates(prompt=Prompt.from_text("?"), responses=("a", "b", "c"), scores=(0.5, 1.0, 0.0))
    >>> chosen_of(three, [1, 2]).responses, chosen_of(three, [1, 2]).scores
    (('b', 'c'), (1.0, 0.0))
    """

    def square(of_pairs: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(of_pairs[one][other] for other in places) for one in places) if of_pairs else ()

    return replace(
        candidates,
        responses=tuple(candidates.responses[at] for at in places),
        scores=tuple(candidates.scores[at] for at in places),
        finished=tuple(candidates.finished[at] for at in places) if candidates.finished else (),
        drawn=tuple(candidates.drawn[at] for at in places) if candidates.drawn else (),
        pairwise=square(candidates.pairwise),
        agreement=square(candidates.agreement),
        preferred=tuple(places.index(at) for at in candidates.preferred if at in places),
    )
