"""The contract of a ranker, and of what it is while it is open."""

import math
from abc import ABC
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count, islice
from typing import Any, ClassVar, Protocol

import torch

from dpo_lab.amounts import count_of
from dpo_lab.components import Component, RunError
from dpo_lab.continuing import Keep, make_now
from dpo_lab.data.base import Prompts
from dpo_lab.figures import Figure
from dpo_lab.records import Candidates, Prompt

PROMPTS_AT_A_TIME = 16  # a pairwise ranker needs minutes for them on a CPU: what a kill may cost


@dataclass(frozen=True)
class Verdict:
    """What a ranker says of the candidates of one prompt."""

    scores: tuple[float, ...]
    """One per candidate, higher is better; comparable within the prompt. One that is not finite says that the ranker failed."""
    details: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Parts that the score is made of, per candidate, where the ranker has any."""
    pairwise: tuple[tuple[float, ...], ...] = ()
    """Entry (i, j): log-odds that candidate i is better than j when i is shown first; empty if the ranker compares no pairs."""
    agreement: tuple[tuple[float, ...], ...] = ()
    """Entry (i, j): share of the ranker's members that score candidate i above j, ties half; empty if it has no members."""


class OpenRanker(Protocol):
    """A ranker that is ready: its model, if it has one, is loaded."""

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per set of candidates, each from its own set alone.

        Callers rank a few prompts at a time (`rank_kept`), so a verdict must not depend on its neighbours or on its place:
        a random control draws from the prompt's id, an ensemble brings its members to one scale within the prompt.
        """
        ...


class Ranker(Component, ABC):
    """Scores the candidates of each prompt: by its own `rank`, or by a model that `open` loads."""

    label: ClassVar[str]
    """Name in figures and on the end screen."""
    topic: ClassVar[str] = ""
    """The only topic (`Prompts.topic`) whose answers it can judge; empty: it judges any."""
    score: ClassVar[str] = "score"
    """What its score is called."""
    score_range: ClassVar[str] = ""
    """From where to where its score goes, if that is fixed: `0..1`."""
    scores_alone: ClassVar[bool] = True
    """Whether a score depends on the prompt and its own answer alone, so that scores of different sets compare. A judge without
    is shown both models' answers side by side, in both orders."""
    scores_places: ClassVar[bool] = False
    """Whether a score belongs to a place and not to the answer there, as a random control's does. A ranker of one's own without
    is asked about one prompt twice, with the answers in other places (`dpo_lab/ranking/asking.py`)."""
    has_members: ClassVar[bool] = False
    """Whether it is made of several rankers, and its verdicts say what share of them agrees (`Verdict.agreement`)."""
    details: ClassVar[tuple[Figure, ...]] = ()
    """The figures of `Verdict.details` that an evaluation reports, each the mean over answers."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse a ranker that could not rank, before anything is sampled for it."""
        super().__init_subclass__(**keywords)
        if cls.rank is Ranker.rank and cls.open is Ranker.open:
            raise TypeError(f"{cls.__name__} is a ranker and defines neither `rank` nor `open`; see CONTRIBUTING.md.")

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per set of candidates: see `OpenRanker`; a ranker that loads a model has it in what it opens."""
        raise NotImplementedError(f"{type(self).__name__} ranks when it is open: with ranker.open(device) as opened")

    def open(self, device: torch.device) -> AbstractContextManager[OpenRanker]:
        """Return a context in which sets of candidates are ranked; a model is loaded once in it and released when it is left."""
        return nullcontext(self)

    def cannot_judge(self, prompts: Prompts) -> str:
        """Return why it cannot judge answers to such prompts, an empty text if it can."""
        if self.topic in ("", prompts.topic):
            return ""
        return f"{self.label} can judge answers about {self.topic} only, but prompts={prompts.label} asks other things"

    def win_probability(self, score: float, other: float) -> float | None:
        """Return the probability that a candidate with `score` beats one with `other`; None if the ranker does not know."""
        return None

    @property
    def gives_preferences(self) -> bool:
        """Whether `preference` is known."""
        return self.win_probability(1.0, 0.0) is not None

    def preference(self, candidates: Candidates, one: int, other: int) -> float | None:
        """Return the probability that a ranked candidate beats another of its set; None if the ranker does not know."""
        return self.win_probability(candidates.scores[one], candidates.scores[other])


def with_verdict(candidates: Candidates, verdict: Verdict) -> Candidates:
    """Return candidates with what a ranker says of them."""
    return replace(candidates, scores=verdict.scores, pairwise=verdict.pairwise, agreement=verdict.agreement)


def rank_kept(
    ranker: OpenRanker, candidates: Iterable[Candidates], keep: Keep = make_now, *, label: str = "the ranker"
) -> Iterator[tuple[Candidates, Verdict]]:
    """Yield each set with an open ranker's verdict; some prompts at a time go through `keep`, with their positions as rows.

    Args:
        label: the ranker's name in messages.

    Raises:
        RunError: if it returns another number of verdicts, or of scores of a prompt; failed verdicts are returned (`failed`).
    """
    sets = iter(candidates)
    for start in count(step=PROMPTS_AT_A_TIME):
        some = list(islice(sets, PROMPTS_AT_A_TIME))
        if not some:
            return
        plain = keep(range(start, start + len(some)), partial(_plain_verdicts, ranker, some, label))
        yield from zip(some, map(_verdict, plain), strict=True)


def failed(verdict: Verdict) -> bool:
    """Return whether a verdict says nothing, because a number in it is NaN or infinite.

    >>> failed(Verdict(scores=(0.5, float("nan")))), failed(Verdict(scores=(0.5, 0.5)))
    (True, False)
    """
    return not all(map(math.isfinite, (*verdict.scores, *(odds for row in verdict.pairwise for odds in row))))


def without_failed(candidates: Sequence[Candidates], verdicts: Sequence[Verdict]) -> list[Candidates]:
    """Return candidates with what a ranker says of them, those without about which it says nothing."""
    return [with_verdict(each, verdict) for each, verdict in zip(candidates, verdicts, strict=True) if not failed(verdict)]


def refuse_if_all_failed(label: str, first: Sequence[Candidates], asked: int, ranked: int) -> None:
    """Raise RunError if a ranker was asked about some sets, which begin with `first`, and said nothing of any."""
    if asked and not ranked:
        raise RunError(
            f"{label} failed for all {asked} prompts (its scores are nan or infinite), the first of them "
            f"{excerpt_of(first[0].prompt)}. Answers are kept: correct or change the ranker and run again."
        )


def refuse_incomplete(verdicts: Sequence[Verdict], candidates: Sequence[Candidates], label: str) -> None:
    """Raise RunError if the number of verdicts, or of scores in one, is not that of the sets that were asked about."""
    if len(verdicts) != len(candidates):
        raise RunError(
            f"{label} returned {len(verdicts)} verdicts for {len(candidates)} prompts, the first of them "
            f"{excerpt_of(candidates[0].prompt)}. Return one for each, in their order."
        )
    for verdict, each in zip(verdicts, candidates, strict=True):
        answers, compared = len(each.responses), [len(row) for row in verdict.pairwise]
        if len(verdict.scores) != answers or compared not in ([], [answers] * answers):
            found = count_of(len(verdict.scores), "score") + (f" and comparisons of {len(compared)} answers" if compared else "")
            raise RunError(
                f"{label} returned {found} for {answers} answers to the prompt {excerpt_of(each.prompt)}. "
                "Return one number per answer, in their order; nan where it cannot be told."
            )


def excerpt_of(prompt: Prompt) -> str:
    """Return the beginning of a prompt in quotes, for messages.

    >>> excerpt_of(Prompt.from_text("Is it " + "very " * 20 + "good?"))
    "'Is it very very very very very very very very very very v ...'"
    """
    text = " ".join(prompt.text.split())
    return repr(text if len(text) <= 60 else f"{text[:57]} ...")


def _plain_verdicts(ranker: OpenRanker, candidates: Sequence[Candidates], label: str) -> list[dict[str, Any]]:
    verdicts = ranker.rank(candidates)
    refuse_incomplete(verdicts, candidates, label)
    return [asdict(verdict) for verdict in verdicts]


def _verdict(plain: dict[str, Any]) -> Verdict:
    details = {name: tuple(values) for name, values in plain["details"].items()}
    matrices = {name: tuple(map(tuple, plain[name])) for name in ("pairwise", "agreement")}
    return Verdict(scores=tuple(plain["scores"]), details=details, **matrices)
