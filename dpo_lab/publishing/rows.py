"""The rows of a published preference data set: each pair with all answers to its prompt, their scores and probabilities."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.components import RunError
from dpo_lab.data.pairs import PAIRS
from dpo_lab.pipeline.pairs import LISTS, beside_own
from dpo_lab.publishing.card import without_place
from dpo_lab.publishing.source import ancestor
from dpo_lab.records import Candidates, Message, PreferencePair, read_jsonl

CANDIDATES = "candidates.jsonl"
AGREEMENT = 1e-6
"""How far a probability that is computed from scores may be from the one that the ranker gave with the pair."""


@dataclass(frozen=True)
class Round:
    """The pairs of a round and what they were made from."""

    number: int
    pairs: Artifact
    ranking: Artifact | None
    """None for the data's own answers against drawn ones (pairing=spin), which nobody ranked."""
    candidates: Artifact
    generator: str
    """The name of the model that answered; empty where nothing says it."""

    @classmethod
    def of(cls, number: int, pairs: Artifact, base: str) -> "Round":
        """Return the round of an artifact `pairs`.

        Args:
            base: what the model before all rounds is called.

        Raises:
            ConfigError: if the ranking or the answers are not there any more.
        """
        against_data = "ranking" not in pairs.manifest["content"]
        ranking = None if against_data else ancestor(pairs, "ranking")
        candidates = ancestor(ranking or pairs, "candidates")
        assert candidates is not None
        policy = ancestor(candidates, "policy", needed=False) or ancestor(candidates, "model", needed=False)
        sampled = "sampler" in candidates.manifest["content"]
        return cls(number, pairs, ranking, candidates, (policy.path.name if policy else base) if sampled else "")

    @property
    def sampler(self) -> dict[str, Any]:
        """The settings with which answers were drawn; empty for answers that were made elsewhere."""
        return dict(self.candidates.manifest["content"].get("sampler", {}))

    @property
    def ranker(self) -> dict[str, Any]:
        """The settings of the ranker; empty where nobody ranked."""
        return dict(self.ranking.manifest["content"]["ranker"]) if self.ranking else {}

    @property
    def has_lists(self) -> bool:
        """Whether it holds ranked lists in place of pairs."""
        return (self.pairs.path / LISTS).is_file()

    @property
    def answers(self) -> Path:
        """The file with all answers to the prompts: ranked, or as they were drawn."""
        return (self.ranking or self.candidates).path / CANDIDATES

    def items(self) -> Iterator[tuple[PreferencePair, Candidates | None]]:
        """Yield the pairs in their order, of a ranked list the best and the worst answer, with the list."""
        for record in read_jsonl(self.pairs.path / (LISTS if self.has_lists else PAIRS)):
            if not self.has_lists:
                yield PreferencePair.from_record(record), None
                continue
            ranked = Candidates.from_record(record)
            yield best_and_worst(ranked), ranked

    @property
    def facts(self) -> dict[str, Any]:
        """What every row of the round says."""
        seed = self.candidates.manifest["content"].get("seed")
        sampler = self.sampler
        return {
            "iteration": self.number,
            "generator_model": self.generator or None,
            "temperature": sampler.get("temperature"),
            "top_p": sampler.get("top_p"),
            "seed": None if seed is None else str(seed),
        }


def rows_of(this: Round) -> Iterator[dict[str, Any]]:
    """Yield the rows of a round in the order of its pairs; the answers to one prompt at a time are held.

    Raises:
        RunError: if the answers of a pair do not stand in the ranking, or its prompt has no turns.
    """
    places = _places(this.answers)
    temperature = float(this.ranker.get("temperature") or 1.0)
    with this.answers.open("rb") as file:
        for pair, ranked in this.items():
            if pair.prompt.rendered:
                raise RunError(
                    f"{this.pairs.path}: the prompt of pair {pair.id} is plain text that never meets a chat template, and the "
                    "published columns are turns. Make pairs of prompts that are text or turns."
                )
            for place in places.get(pair.prompt.id, ()):
                file.seek(place)
                answers = Candidates.from_record(json.loads(file.readline()))
                if row := _row(pair, answers if this.ranking else beside_own(answers, pair.chosen), temperature):
                    yield {**row, **_list_columns(ranked), **this.facts}
                    break
            else:
                raise RunError(f"{this.pairs.path}: pair {pair.id} is not in {this.answers}. Make the pairs again.")


def best_and_worst(ranked: Candidates) -> PreferencePair:
    """Return the first and the last answer of a ranked list as a pair."""
    return PreferencePair(
        prompt=ranked.prompt,
        chosen=ranked.responses[0],
        rejected=ranked.responses[-1],
        score_chosen=ranked.scores[0],
        score_rejected=ranked.scores[-1],
        finished=(ranked.has_ended(0), ranked.has_ended(len(ranked.responses) - 1)),
        source=ranked.source,
        row=ranked.row,
    )


def _list_columns(ranked: Candidates | None) -> dict[str, Any]:
    return {} if ranked is None else {"ranked_answers": list(ranked.responses), "ranked_scores": [*map(float, ranked.scores)]}


def _places(path: Path) -> dict[str, list[int]]:
    """Return where in a file the lines of each prompt begin."""
    places: dict[str, list[int]] = {}
    with path.open("rb") as file:
        start = 0
        for line in file:
            places.setdefault(str(json.loads(line)["prompt_id"]), []).append(start)
            start += len(line)
    return places


def _row(pair: PreferencePair, answers: Candidates, temperature: float) -> dict[str, Any] | None:
    """Return the columns of a pair; None if its answers are not among those to the prompt."""
    if pair.chosen not in answers.responses or pair.rejected not in answers.responses:
        return None
    chosen, rejected = _position(pair.chosen, pair.score_chosen, answers), _position(pair.rejected, pair.score_rejected, answers)
    responses = list(answers.responses)
    scores = [float(score) for score in answers.scores]
    probability = probabilities(pair, answers, temperature, chosen, rejected)
    shares = [sum(row) / len(row) for row in probability] if probability else []
    known = pair.score_chosen is not None and pair.score_rejected is not None
    return {
        "prompt_id": pair.prompt.id,
        "prompt": pair.prompt.text,
        "chosen": [*map(_turn, pair.prompt.messages), {"role": "assistant", "content": pair.chosen}],
        "rejected": [*map(_turn, pair.prompt.messages), {"role": "assistant", "content": pair.rejected}],
        "all_generated_responses": responses,
        "all_rm_scores": scores or None,
        "rm_scores": scores or None,
        "probability": probability or None,
        **{f"generate_{number}": text for number, text in enumerate(responses)},
        "chosen_probs": pair.preference,
        "chosen_probs_win": shares[chosen] if shares else None,
        "chosen_probs_lose": shares[rejected] if shares else None,
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
        "preference": pair.preference,
        "margin": pair.score_chosen - pair.score_rejected if known else None,  # type: ignore[operator]
        "ranker": without_place(pair.source) if answers.scores else None,
        "source": without_place(pair.source),
        "finished": list(pair.finished),
    }


def _turn(turn: Message) -> dict[str, str]:
    return {"role": turn["role"], "content": turn["content"]}


def _position(text: str, score: float | None, answers: Candidates) -> int:
    """Return where an answer stands; of equal texts the one with its score."""
    equal = [at for at, each in enumerate(answers.responses) if each == text]
    return next((at for at in equal if answers.scores and answers.scores[at] == score), equal[0])


def probabilities(pair: PreferencePair, answers: Candidates, temperature: float, chosen: int, rejected: int) -> list[list[float]]:
    """Return for answers i and j the probability that i is better, (answers, answers); 1/2 on the diagonal, rows sum to
    SPPO's wins (Wu et al. 2024, arXiv:2405.00675: the mean of a row is the probability to beat the policy).

    They are the logistic of log-odds: those of a ranker that compares pairs, the mean of both orders, or else differences of
    scores (Bradley and Terry 1952), over the ranker's temperature. Empty where the ranker gives no probability, or where the
    one that it gave with the pair is not the one so computed.
    """
    if pair.preference is None:
        return []
    count = len(answers.responses)

    def odds(first: int, second: int) -> float:
        if answers.pairwise:
            return (answers.pairwise[first][second] - answers.pairwise[second][first]) / 2
        return answers.scores[first] - answers.scores[second]

    def better(first: int, second: int) -> float:
        return 0.5 if first == second else 1 / (1 + math.exp(min(700.0, -odds(first, second) / temperature)))

    if abs(better(chosen, rejected) - pair.preference) > AGREEMENT:
        return []
    return [[better(first, second) for second in range(count)] for first in range(count)]


def largest_set(rounds: Sequence[Round]) -> int:
    """Return the largest number of answers to a prompt of all rounds."""
    sizes = (
        len(record["responses"]) + (one_round.ranking is None) for one_round in rounds for record in read_jsonl(one_round.answers)
    )  # the data's own answer stands beside drawn ones
    return max(sizes, default=0)
