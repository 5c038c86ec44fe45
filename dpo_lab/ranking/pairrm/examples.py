"""Labelled comparisons that a tiny PairRM learns from: rows of the film world with what is true of their tokens and answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpo_lab.ranking.pairrm.texts import FIRST, SOURCE, Comparison, PairTexts
from dpo_lab.seeding import random_for
from dpo_lab.world.grammar import ADJECTIVES, NOUNS
from dpo_lab.world.labelled import LabelledPrompt, labelled_prompts

STEPS_AT_A_TIME = 16  # whose pairs are sorted by length together: little padding
PAIRS_OF_A_PROMPT = 4
NO_TOKEN = -100  # cross_entropy leaves it out


@dataclass(frozen=True)
class Example:
    """One comparison of two answers to a prompt."""

    row: Comparison
    lengths: tuple[int, int, int]
    """Tokens of prompt, first and second answer."""
    prompt: LabelledPrompt
    shown: tuple[int, int]
    """Which of the prompt's answers stands first, and which second."""


@dataclass(frozen=True)
class Examples:
    """What a step learns from: (rows, time), (rows, 2) with one entry for each answer, or (rows,)."""

    ids: Tensor
    mask: Tensor
    anchors: Tensor
    """Where the prefixes of prompt and answers stand, (rows, 3)."""
    segment: Tensor
    """0 for tokens of the prompt, 1 and 2 for those of the answers, (rows, time)."""
    title_words: Tensor
    """Which tokens of the answers are words of a title, (rows, time)."""
    in_prompt: Tensor
    """Which of the prompt's tokens are words of a title, (rows, time)."""
    first_is_better: Tensor
    asked: Tensor
    """Whether adjective and noun of the film that an answer names are the asked one's, (rows, 2, 2)."""
    tone: Tensor
    """-1 to 1, (rows, 2)."""
    spoiler: Tensor

    @property
    def word_asked(self) -> Tensor:
        """Return whether each of `title_words`, in their order, stands in the prompt's title too, (title words,)."""
        row, position = self.title_words.nonzero(as_tuple=True)
        asked = self.ids.masked_fill(~self.in_prompt, -1)
        return (self.ids[row, position][:, None] == asked[row]).any(1).float()


def title_ids(tokenizer: Any) -> Tensor:
    """Return the ids of the words that film titles consist of, each of which has to be one token behind a space."""
    encoded = [each.ids for each in tokenizer.encode_batch(list(ADJECTIVES + NOUNS), add_special_tokens=False)]
    assert all(len(ids) == 1 for ids in encoded), "the vocabulary is too small for the words of titles"
    return torch.tensor([ids[0] for ids in encoded])


def steps_of(texts: PairTexts, seed: int, *, pairs: int, part: int, kept: float) -> Iterator[Examples]:
    """Yield what 16 steps learn from.

    Args:
        pairs: of a step.
        part: counts such portions; each has its own random stream.
        kept: the share of sentences that stay in the reviews (`labelled_prompts`).
    """
    shuffle = random_for(seed, "pairs", part)
    prompts, examples = labelled_prompts(seed, part, kept=kept), list[Example]()
    while len(examples) < pairs * STEPS_AT_A_TIME:
        examples += _examples_of(next(prompts), texts, shuffle)
    ordered = sorted(examples[: pairs * STEPS_AT_A_TIME], key=lambda each: len(each.row.ids))
    steps = [ordered[start : start + pairs] for start in range(0, len(ordered), pairs)]
    shuffle.shuffle(steps)
    words = title_ids(texts.tokenizer)
    yield from (_together(step, words) for step in steps)


def _examples_of(prompt: LabelledPrompt, texts: PairTexts, shuffle: Any) -> list[Example]:
    """Return at most four comparisons of a prompt's answers, none of them of equal reward."""
    source = texts.segments([prompt.text], SOURCE)[prompt.text]
    by_text = texts.segments(prompt.answers, FIRST)
    answers, rewards = [by_text[answer] for answer in prompt.answers], [review.reward for review in prompt.reviews]
    numbers = range(len(answers))
    shown = [(first, second) for first in numbers for second in numbers if rewards[first] != rewards[second]]
    shuffle.shuffle(shown)
    return [
        Example(
            texts.comparison(source, answers[first], answers[second]),
            (len(source), len(answers[first]), len(answers[second])),
            prompt,
            (first, second),
        )
        for first, second in shown[:PAIRS_OF_A_PROMPT]
    ]


def _together(step: list[Example], words: Tensor) -> Examples:
    """Return a step's comparisons as tensors, padded to the longest."""
    time = max(len(example.row.ids) for example in step)
    ids, segment = torch.zeros(len(step), time, dtype=torch.long), torch.full((len(step), time), NO_TOKEN)
    for number, example in enumerate(step):
        length = len(example.row.ids)
        ids[number, :length] = torch.tensor(example.row.ids)
        segment[number, :length] = torch.arange(3).repeat_interleave(torch.tensor(example.lengths))
    of_titles = torch.isin(ids, words)
    reviews = [[example.prompt.reviews[answer] for answer in example.shown] for example in step]
    return Examples(
        ids=ids,
        mask=(segment != NO_TOKEN).long(),
        anchors=torch.tensor([example.row.anchors for example in step]),
        segment=segment,
        title_words=of_titles & (segment > 0),
        in_prompt=of_titles & (segment == 0),
        first_is_better=torch.tensor([float(first.reward > second.reward) for first, second in reviews]),
        asked=torch.tensor([[example.prompt.asked[answer] for answer in example.shown] for example in step]).float(),
        tone=torch.tensor([[2 * review.tone - 1 for review in both] for both in reviews]),
        spoiler=torch.tensor([[float(review.spoiler) for review in both] for both in reviews]),
    )
