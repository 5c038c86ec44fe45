"""The choice of one token: frequencies, filters as the library has them, stop texts, and logits that are not numbers."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from dpo_lab.components import ConfigError, RunError
from dpo_lab.models.load import evaluating
from dpo_lab.sampling.choice import BLOCK, Chooser, inverse_of_cumulative, library_filters
from dpo_lab.sampling.hf import HFSampler, few_threads


def test_each_token_is_chosen_as_often_as_its_probability() -> None:
    count, vocabulary = 20000, 2 * BLOCK + 44
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(0)) * 2
    uniforms = (torch.arange(count).double() + 0.5) / count  # evenly: the error is that of rounding to whole counts
    tokens, logps = Chooser([], greedy=False)(logits.expand(count, -1), uniforms)
    seen = torch.bincount(tokens, minlength=vocabulary) / count
    assert len(seen) == vocabulary
    assert (seen - logits.softmax(-1)).abs().max() <= 1 / count + 1e-6
    assert torch.allclose(logps, logits.log_softmax(-1)[tokens], atol=1e-5)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_with_probability_zero_is_never_chosen(uniform: float) -> None:
    weights = torch.zeros(3, 3, BLOCK)
    for row, (block, token) in enumerate([(0, 5), (1, 0), (2, BLOCK - 1)]):
        weights[row, block, token] = 0.3
    tokens, _ = inverse_of_cumulative(weights, torch.full((3,), uniform).double())
    assert tokens.tolist() == [5, BLOCK, 3 * BLOCK - 1]


def test_filters_leave_what_the_librarys_leave() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)) * 3
    fields = {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "min_p": 0.05}
    chain = LogitsProcessorList(
        [TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.8), MinPLogitsWarper(0.05)]
    )
    wanted = chain(torch.empty(4, 0, dtype=torch.long), logits.clone())  # type: ignore[arg-type]
    shaped = logits
    for one_filter in library_filters(**fields):  # type: ignore[arg-type]
        shaped = one_filter(shaped)
    assert torch.equal(shaped, wanted)
    assert not library_filters(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def test_a_greedy_answer_with_a_repetition_penalty_is_the_librarys(model: Any, tokenizer: Any) -> None:
    prompt = [5, 6, 7, 5]
    settings = HFSampler(temperature=0, num_samples=1, max_new_tokens=12, repetition_penalty=1.5)
    ((answer,),) = settings.of(model, tokenizer).draw([prompt], 0)
    with evaluating(model):
        out = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=12,
            do_sample=False,
            repetition_penalty=1.5,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=2,
        )
    assert answer.ids.tolist() == out[0, len(prompt) :].tolist()
    assert len(set(answer.ids)) > 6
    plain = HFSampler(temperature=0, num_samples=1, max_new_tokens=12).of(model, tokenizer).draw([prompt], 0)
    assert plain[0][0].ids != answer.ids


def test_an_answer_ends_at_a_stop_text_and_its_text_before_it(model: nn.Module, tokenizer: Any) -> None:
    free = HFSampler(num_samples=20, max_new_tokens=16).of(model, tokenizer)
    (before,) = free.draw([[5, 6, 7]], 0)
    stop = next(text for answer in before for token in answer.ids[2:] if (text := tokenizer.decode([token])).isalpha())
    opened = HFSampler(num_samples=20, max_new_tokens=16, stop=(stop, "@@")).of(model, tokenizer)
    (after,) = opened.draw([[5, 6, 7]], 0)
    assert any(len(new.ids) < len(old.ids) for old, new in zip(before, after, strict=True))
    for old, new in zip(before, after, strict=True):
        assert new.ids == old.ids[: len(new.ids)]
        assert stop not in tokenizer.decode(new.ids[:-1].tolist())
        stopped = stop in tokenizer.decode(new.ids.tolist())
        assert stopped == (stop in tokenizer.decode(old.ids.tolist()))
        assert opened.has_ended(new.ids) == (stopped or free.has_ended(new.ids))
    assert not any(stop in text for text in opened.texts([answer.ids.tolist() for answer in after]))


def test_a_stop_text_of_many_bytes_ends_an_answer_also_at_its_first_token(model: nn.Module, tokenizer: Any) -> None:
    stop = "abcdefghij"
    opened = HFSampler(stop=(stop,)).of(model, tokenizer)
    ids = tokenizer.encode(stop, add_special_tokens=False)
    before = tokenizer.encode("once upon a time", add_special_tokens=False)
    for start in (before, before[:0]):
        assert opened.has_ended([*start, *ids])
        assert not opened.has_ended([*start, *ids[:-1]])


def test_an_empty_stop_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="empty text would end every answer"):
        HFSampler(stop=("a", "")).check()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_the_draw(model: Any, tokenizer: Any, temperature: float) -> None:
    opened = HFSampler(temperature=temperature, max_new_tokens=3).of(model, tokenizer)
    opened.draw([[5, 6]], 0)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(RunError, match="not finite numbers"):
        opened.draw([[5, 6]], 0)


def test_a_tiny_model_draws_on_one_thread_and_the_others_come_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with few_threads(nn.Linear(2, 2)):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
