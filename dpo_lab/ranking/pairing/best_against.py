"""Pairings with the best answer of each prompt as the chosen one: at most one pair a prompt."""

from collections.abc import Iterator

from dpo_lab.components import component
from dpo_lab.ranking.pairing.base import Pairing, ranks
from dpo_lab.records import Candidates
from dpo_lab.seeding import random_for


@component
class BestVsWorst(Pairing):
    """The best against the worst answer: the card of Snorkel-Mistral-PairRM-DPO, SPPO (Wu et al. 2024, arXiv:2405.00675),
    SimPO's data (Meng et al. 2024, arXiv:2405.14734).
    """

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield the highest and the lowest score, of equal ones the first."""
        yield candidates.best_and_worst


@component
class BestVsSecond(Pairing):
    """The best against the second best answer: pairs that are close together (`max_max` of RLHFlow's code for online DPO, Dong
    et al. 2024, arXiv:2405.07863; its paper takes the best against the worst).
    """

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield the two highest scores."""
        best, *others = ranks(candidates)
        if others:
            yield best, others[0]


@component
class BestVsRandom(Pairing):
    """The best against a random worse answer, as Zephyr's UltraFeedback (Tunstall et al. 2023, arXiv:2310.16944).

    The draw depends on the seed and the prompt alone, not on the prompts beside it.
    """

    seed: int = 0
    """Of the draws."""

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield the highest score and one of the answers that score lower and have another text; else the worst."""
        best, worst = candidates.best_and_worst
        text, score = candidates.responses[best], candidates.scores[best]
        texts = zip(candidates.responses, candidates.scores, strict=True)
        usable = [at for at, (other, its) in enumerate(texts) if its < score and other != text]
        yield best, random_for(self.seed, "pair", candidates.prompt.id).choice(usable or [worst])
