"""Answers of several models to the same prompts, made elsewhere: what a judge says of them beside those of the first model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dpo_lab.components import RunError
from dpo_lab.evaluation.answer_figures import CONTROLLED, DISTINCT, observed_words, prompts_of
from dpo_lab.evaluation.context import Measured
from dpo_lab.evaluation.intervals import intervals_of, observed_by
from dpo_lab.evaluation.length_control import controlled_share
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.evaluation.win_rate import wins_by_score, wins_side_by_side
from dpo_lab.figures import WIN_RATE, Figure
from dpo_lab.ranking.asking import verdicts_of
from dpo_lab.ranking.base import Ranker, failed, refuse_if_all_failed, without_failed
from dpo_lab.records import Candidates

CHARACTERS = Figure(name="answers/characters", title="characters of an answer", interval=True)
WORDS = Figure(name="answers/words", title="words of an answer", interval=True, headline=False)
SHARES = (WIN_RATE.name,)


def figures_beside(judge: Ranker, first: str) -> list[Figure]:
    """Return what is known of answers without the model that gave them: wins over the first model, the judge's score, length."""
    wins = replace(WIN_RATE, title=f"win rate against {first}, judged by {judge.label}", main=True)
    controlled = replace(CONTROLLED, title=f"win rate against {first} at equal length", headline=True)
    score = Figure(name=judge.label, title=f"{judge.label} {judge.score}", better="max", interval=True)
    details = [replace(detail, interval=True) for detail in judge.details]
    scored = [score, *details] if judge.scores_alone else []
    return [wins, controlled, *scored, CHARACTERS, WORDS, *(replace(each, before=None) for each in DISTINCT)]


def measured_beside(
    judge: Ranker, answers: Mapping[str, Sequence[Candidates]], device: torch.device, directory: Path | None
) -> dict[str, Measured]:
    """Return what is known of each model's answers; the first model's win rate, against itself, is one half.

    Args:
        answers: by the model's name, one answer to each prompt and the prompts in the same order.
        directory: where verdicts are kept as they are made, for a call after a kill; None keeps nothing.

    Raises:
        RunError: if the judge failed for each prompt.
    """
    judged, scores = dict[str, list[Candidates]](), dict[str, dict[str, Observed]]()
    for name, of_model in answers.items():
        judged[name], scores[name] = (
            _scored(judge, name, of_model, device, directory) if judge.scores_alone else (list(of_model), {})
        )
    first, *others = answers
    found = {first: Observed([0.5] * len(judged[first]), prompts_of(judged[first]))}
    controlled = dict[str, dict[str, float]]()
    for name in others:
        if judge.scores_alone:
            wins = wins_by_score(judged[name], judged[first])
        else:
            asked = f"judge {_spoken(name)} beside {_spoken(first)}"
            wins = wins_side_by_side(judge, judged[name], judged[first], device, name=asked, directory=directory)
        if wins is None:
            raise RunError(
                f"judge={judge.label} failed for each prompt that {first} and {name} answered, so there is no win rate. Choose "
                "another judge, or correct it and run again."
            )
        found[name] = wins.observed
        controlled[name] = controlled_share(wins.observed, np.array(wins.shorter_by, dtype=float)).figures(CONTROLLED.name)
    measured = {}
    for name, each in judged.items():
        observed = {WIN_RATE.name: found[name], **scores[name], **_lengths(each), **observed_words(each)}
        means = {figure: one.by_prompt.value for figure, one in observed.items()}
        ends = intervals_of({figure: one for figure, one in observed.items() if (name, figure) != (first, WIN_RATE.name)}, SHARES)
        measured[name] = Measured({**means, **ends, **controlled.get(name, {})}, each, observed)
    return measured


def _scored(
    judge: Ranker, name: str, answers: Sequence[Candidates], device: torch.device, directory: Path | None
) -> tuple[list[Candidates], dict[str, Observed]]:
    """Return answers with the judge's scores, as far as it said something, and the scores and their details by prompt."""
    verdicts = verdicts_of(judge, answers, device, name=f"judge {_spoken(name)}", directory=directory)
    refuse_if_all_failed(f"judge={judge.label}", answers, len(answers), len(without_failed(answers, verdicts)))
    pairs = list(zip(answers, verdicts, strict=True))
    said = [(candidates, verdict) for candidates, verdict in pairs if not failed(verdict)]
    values = {judge.label: [verdict.scores[0] for _, verdict in said]}
    values |= {detail.name: [verdict.details[detail.name][0] for _, verdict in said] for detail in judge.details}
    scored = [candidates if failed(verdict) else replace(candidates, scores=verdict.scores) for candidates, verdict in pairs]
    return scored, observed_by(values, prompts_of(each for each, _ in said))


def _spoken(name: str) -> str:
    """Return a name for the progress, which is also that of a file."""
    return name.replace("/", "-")


def _lengths(answers: Sequence[Candidates]) -> dict[str, Observed]:
    texts = [text for answer in answers for text in answer.responses]
    numbers = {CHARACTERS.name: [float(len(text)) for text in texts], WORDS.name: [float(len(text.split())) for text in texts]}
    return observed_by(numbers, prompts_of(answers))
