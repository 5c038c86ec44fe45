"""Scores of the two answers of a row: in two columns, or in a list beside a list of all answers."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.data.problems import RowProblem
from dpo_lab.data.turns import number_of

SCORE_PAIRS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_reward", "rejected_reward"),
    ("reward_chosen", "reward_rejected"),
)
ANSWER_LISTS = ("all_generated_responses", "generations")
SCORE_LISTS = ("all_rm_scores", "ratings", "rating")
"""Columns with every answer to the prompt and the score of each, as in the Snorkel and distilabel data sets."""
SCORE_COLUMNS = frozenset((*(name for names in SCORE_PAIRS for name in names), *ANSWER_LISTS, *SCORE_LISTS))


def scores_of(row: Mapping[str, Any], chosen: str, rejected: str) -> tuple[float | None, float | None]:
    """Return the scores of chosen and rejected, None where there is none; two columns count before lists."""
    if SCORE_COLUMNS.isdisjoint(row):
        return None, None
    given = [names for names in SCORE_PAIRS if any(row.get(name) is not None for name in names)]
    whole = next((names for names in given if all(row.get(name) is not None for name in names)), None)
    by_text = (None, None) if whole else scores_by_text(row, chosen, rejected)
    if given and by_text == (None, None):
        first, second = whole or given[0]
        return number_of(row, first), number_of(row, second)
    return by_text


def scores_by_text(row: Mapping[str, Any], chosen: str, rejected: str) -> tuple[float | None, float | None]:
    """Return the scores that a row's list of answers gives the two responses, None where there is none.

    A text that stands there twice was chosen for its higher score, or rejected for its lower one.

    >>> scores_by_text({"all_generated_responses": ["a", "b", "a"], "all_rm_scores": [1, -1, 2]}, "a", "b")
    (2.0, -1.0)
    """
    answers = next((name for name in ANSWER_LISTS if row.get(name) is not None), None)
    scores = next((name for name in SCORE_LISTS if row.get(name) is not None), None)
    if answers is None or scores is None:
        return None, None
    texts, numbers = row[answers], row[scores]
    if not isinstance(texts, list) or not isinstance(numbers, list) or len(texts) != len(numbers):
        raise RowProblem("bad_score", f"{answers} and {scores} are not two lists of one length")
    scores_of: dict[str, list[float]] = {}
    for position, text in enumerate(texts):
        name = f"{scores}[{position}]"
        score = number_of({name: numbers[position]}, name)
        if isinstance(text, str) and score is not None:
            scores_of.setdefault(text.strip(), []).append(score)
    of_chosen, of_rejected = (scores_of.get(text.strip(), []) for text in (chosen, rejected))
    return max(of_chosen, default=None), min(of_rejected, default=None)
