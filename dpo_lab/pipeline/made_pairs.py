"""What is known of the making of a round's pairs: by what they were made, counts, and the figures of the table of rounds."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.figures import Figure
from dpo_lab.manifests import digest_of
from dpo_lab.ranking.base import Ranker
from dpo_lab.records import Candidates, PreferencePair


def _made(name: str, title: str, by_round: str, unit: str = "", digits: int = 2) -> Figure:
    return Figure(name=f"made/{name}", title=title, by_round=by_round, unit=unit, digits=digits, headline=False, each_round=True)


WITHOUT_PAIR = _made("without_pair", "prompts without a usable pair", "without a pair", "share", 3)
DISTINCT = _made("distinct", "distinct answers among those to a prompt", "distinct answers", "share", 3)
GAP = _made("gap", "the ranker's score of the chosen answer minus that of the rejected one", "gap of pairs")


def made_figures(ranker: Ranker | None) -> tuple[Figure, ...]:
    """Return the figures of a round's answers and pairs; the model that the round starts from has drawn the answers.

    Where nothing is ranked, no answer has a score. A ranker whose scores compare the answers to one prompt alone has no mean
    score that says something.
    """
    if ranker is None:
        return WITHOUT_PAIR, DISTINCT
    title = f"{ranker.label} {ranker.score} of the answers that pairs are made of, as the ranker believes"
    scores = (_made("score", title, f"ranker: {ranker.label}"),) if ranker.scores_alone else ()
    return WITHOUT_PAIR, DISTINCT, GAP, *scores


def values_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of those figures.

    Args:
        facts: of an artifact `pairs`.
    """
    return {
        WITHOUT_PAIR.name: facts["prompts_without_pair"] / facts["prompts"],
        DISTINCT.name: facts["distinct_answers"] / facts["answers"],
        **({GAP.name: facts["gap"]} if facts["gap"] is not None else {}),
        **({"made/score": facts["score"]} if facts["score"] is not None else {}),
    }


def made_by(ranking: Artifact | None, answers: Artifact | None) -> dict[str, Any]:
    """Return which model drew the answers, how, and who ranked them; None where answers were made elsewhere, or not ranked.

    Args:
        ranking: an artifact `ranking`, None where nothing was ranked.
        answers: the artifact `candidates` that was ranked.
    """
    ranker = ranking.manifest["content"]["ranker"] if ranking else None
    drawn = answers.manifest["content"] if answers else {}
    return {
        "generator": drawn.get("policy"),
        "sampling": {**drawn["sampler"], "seed": drawn["seed"]} if "sampler" in drawn else None,
        "ranker": {"digest": digest_of(ranker), **ranker} if ranker else None,
    }


@dataclass
class Tally:
    """Counts of what passes by on its way from a ranking to pairs."""

    answers: int = 0
    distinct: int = 0
    score: float = 0.0
    gap: float = 0.0
    gaps: int = 0

    def of_candidates(self, candidates: Iterable[Candidates]) -> Iterator[Candidates]:
        """Yield what it is given, and count answers, distinct texts and scores."""
        for candidate in candidates:
            self.answers += len(candidate.responses)
            self.distinct += len(set(candidate.responses))
            self.score += sum(candidate.scores)
            yield candidate

    def of_pairs(self, pairs: Iterable[PreferencePair | Candidates]) -> Iterator[PreferencePair | Candidates]:
        """Yield what it is given, and add up by how much the first answers (chosen, best) score above the last ones."""
        for pair in pairs:
            best, worst = pair.scores[0], pair.scores[-1]
            if best is not None and worst is not None:
                self.gaps += 1
                self.gap += best - worst
            yield pair

    def facts(self, *, scores_compare: bool) -> dict[str, Any]:
        """Return the counts and means for a manifest.

        Args:
            scores_compare: whether scores mean the same for each prompt, so that their mean says something.
        """
        return {
            "answers": self.answers,
            "distinct_answers": self.distinct,
            "score": self.score / self.answers if scores_compare and self.answers else None,
            "gap": self.gap / self.gaps if self.gaps else None,
        }
