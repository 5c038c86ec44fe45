"""Each answer has its own random numbers: batches, neighbours and the number of answers change none of them."""

from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.sampling.choice import names_of, uniforms_of
from dpo_lab.sampling.hf import HFSampler

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17] * 30]


def draw(model: nn.Module, tokenizer: Any, prompts: list[list[int]], **fields: Any) -> list[list[list[int]]]:
    opened = HFSampler(**{"max_new_tokens": 12, "num_samples": 3, **fields}).of(model, tokenizer)
    return [[answer.ids.tolist() for answer in answers] for answers in opened.draw(prompts, 7)]


FILTERS = {"plain": {}, "filtered": {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.2}}


@pytest.mark.parametrize("filters", FILTERS)
def test_answers_are_the_same_whatever_the_batch_and_its_neighbours(model: nn.Module, tokenizer: Any, filters: str) -> None:
    settings = FILTERS[filters]
    whole = draw(model, tokenizer, PROMPTS, **settings)
    for batch_size in (1, 4, 7):
        assert draw(model, tokenizer, PROMPTS, batch_size=batch_size, **settings) == whole
    assert draw(model, tokenizer, [[20, 21], *PROMPTS[::-1]], **settings)[1:] == whole[::-1]
    assert [draw(model, tokenizer, [prompt], **settings)[0] for prompt in PROMPTS] == whole


def test_more_answers_or_longer_ones_begin_with_the_same(model: nn.Module, tokenizer: Any) -> None:
    some = draw(model, tokenizer, PROMPTS)
    more = draw(model, tokenizer, PROMPTS, num_samples=5)
    assert [answers[:3] for answers in more] == some
    longer = draw(model, tokenizer, PROMPTS, max_new_tokens=20)
    assert [[answer[:12] for answer in answers] for answers in longer] == some


def test_equal_prompts_and_the_answers_to_one_prompt_differ(model: nn.Module, tokenizer: Any) -> None:
    first, second = draw(model, tokenizer, [[5, 6, 7], [5, 6, 7]])
    assert first != second
    assert len({tuple(answer) for answer in [*first, *second]}) == 6


def test_streams_are_uniform_and_unrelated() -> None:
    numbers = uniforms_of(0, names_of([[1], [2], [1]]), 300, 8)
    assert numbers.shape == (900, 8)
    assert abs(float(numbers.mean()) - 0.5) < 0.01  # the standard error is .0034
    correlation = torch.corrcoef(numbers.T)
    assert float((correlation - torch.eye(8)).abs().max()) < 0.15  # 28 of standard error .033
