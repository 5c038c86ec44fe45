"""All comparisons of some candidate sets, each computed once, in batches of like length."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dpo_lab.ranking.pairrm.network import PairNetwork
from dpo_lab.ranking.pairrm.texts import FIRST, SOURCE, Comparison, PairTexts

Matrix = NDArray[np.float32]
"""Entry (i, j): the log-odds that answer i is better than j when i is shown first; the diagonal is 0, (answers, answers)."""


@torch.inference_mode()
def matrices(
    network: PairNetwork,
    texts: PairTexts,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    tokens: int,
    *,
    both_orders: bool = True,
) -> list[Matrix]:
    """Return the comparisons of the answers to each prompt; sets may have different numbers of answers.

    Every row is computed from its own three texts, so a set's matrix does not depend on the sets beside it.

    Args:
        tokens: of a batch at most, padding included.
        both_orders: show each pair in both orders; else the second order is minus the first.
    """
    rows, places = _rows(texts, prompts, answers, both_orders=both_orders)
    logits = np.zeros(len(rows), np.float32)
    for batch in by_length(rows, tokens):
        logits[batch] = network.logits([rows[row] for row in batch]).float().cpu().numpy()
    tables: list[Matrix] = [np.zeros((len(answer), len(answer)), np.float32) for answer in answers]
    for number, first, second, row in places:
        tables[number][first, second] = logits[row]
        if not both_orders:
            tables[number][second, first] = -logits[row]
    return tables


def _rows(
    texts: PairTexts, prompts: Sequence[str], answers: Sequence[Sequence[str]], *, both_orders: bool
) -> tuple[list[Comparison], list[tuple[int, int, int, int]]]:
    """Return the distinct rows, and (set, first answer, second answer, row) of every comparison."""
    sources = texts.segments(prompts, SOURCE)
    segments = texts.segments((text for answer in answers for text in answer), FIRST)
    rows: list[Comparison] = []
    row_of: dict[tuple[str, str, str], int] = {}
    places = []
    for number, (prompt, each) in enumerate(zip(prompts, answers, strict=True)):
        source = texts.cut_prompt(sources[prompt])
        cut = {text: texts.cut_answer(segments[text], source) for text in set(each)}
        for first, first_text in enumerate(each):
            for second, second_text in enumerate(each):
                if first == second or (first > second and not both_orders):
                    continue
                key = (prompt, first_text, second_text)
                if key not in row_of:
                    row_of[key] = len(rows)
                    rows.append(texts.comparison(source, cut[first_text], cut[second_text]))
                places.append((number, first, second, row_of[key]))
    return rows, places


def by_length(rows: Sequence[Comparison], tokens: int) -> Iterator[list[int]]:
    """Yield the positions of rows in batches, longest first, of at most so many tokens when padded and of one row at least."""
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row].ids))
    start = 0
    while start < len(order):
        size = max(1, tokens // len(rows[order[start]].ids))
        yield order[start : start + size]
        start += size


def scores(matrix: Matrix) -> NDArray[np.float32]:
    """Return each answer's score: the mean over answers of what it gains shown first less what it loses shown second.

    As llm-blender's "full" mode has it, with the zero of the diagonal counted: differences of scores are about twice the
    log-odds of a win, which `log_odds` gives.

    >>> scores(np.array([[0.0, 3.0], [-1.0, 0.0]], np.float32)).tolist()
    [2.0, -2.0]
    """
    return np.asarray((matrix - matrix.T).mean(-1), np.float32)


def log_odds(matrix: Matrix) -> Matrix:
    """Return the log-odds that each answer beats each other, the mean of both orders, (answers, answers).

    >>> log_odds(np.array([[0.0, 3.0], [-1.0, 0.0]], np.float32)).tolist()
    [[0.0, 2.0], [-2.0, 0.0]]
    """
    return np.asarray((matrix - matrix.T) / 2, np.float32)
