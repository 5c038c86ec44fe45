"""Sampling: equal to the library's generate, cut where it must be, reproducible, from the right distribution."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from dpo_lab.models.load import evaluating
from dpo_lab.sampling.hf import HFSampler

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16]]


def draw(model: nn.Module, tokenizer: Any, seed: int = 0, **fields: Any) -> list[list[list[int]]]:
    opened = HFSampler(**{"max_new_tokens": 12, **fields}).of(model, tokenizer)
    return [[answer.ids.tolist() for answer in answers] for answers in opened.draw(PROMPTS, seed)]


def test_at_temperature_0_it_equals_the_librarys_greedy_generate(model: Any, tokenizer: Any) -> None:
    greedy = draw(model, tokenizer, temperature=0, num_samples=2, batch_size=2)
    for prompt, answers in zip(PROMPTS, greedy, strict=True):
        with evaluating(model):
            out = model.generate(
                torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=2
            )
        assert answers == [out[0, len(prompt) :].tolist()] * 2


class OtherVersion(nn.Module):
    """A model that calls its cache as transformers does on the other side of version 5.24, and knows the other name alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config, names = model, model.config, ("cache", "past_key_values")
        self.old, self.new = names if "cache" in model(torch.tensor([[5]])) else names[::-1]

    def forward(self, **inputs: Any) -> Any:
        """Return the model's output, the cache in and out under the other name."""
        assert self.old not in inputs
        out = self.model(**{self.old if name == self.new else name: value for name, value in inputs.items()})
        return Output({self.new: out[self.old], "logits": out.logits})


class Output(dict[str, Any]):
    """Fields by key and by attribute, as the library's outputs have them."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def test_the_cache_may_have_the_name_of_either_side_of_transformers_5_24(model: nn.Module, tokenizer: Any) -> None:
    with torch.no_grad():
        other = OtherVersion(model)
    assert draw(other, tokenizer) == draw(model, tokenizer)


def test_answers_end_at_the_end_token_or_are_cut(model: Any, tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    with torch.no_grad():  # likely end tokens, so that rows leave the batch at different steps
        model.get_output_embeddings().weight[end] = model.get_output_embeddings().weight[10] * 3
    answers = [answer for each in draw(model, tokenizer, num_samples=40, max_new_tokens=24) for answer in each]
    ended = [answer for answer in answers if answer[-1] == end]
    assert 5 < len(ended) < len(answers)
    assert all(end not in answer[:-1] for answer in answers)
    assert all(len(answer) == 24 for answer in answers if answer[-1] != end)
    assert len({len(answer) for answer in ended}) > 3


def test_an_answer_ends_at_the_last_position_that_a_model_with_learned_positions_reads() -> None:
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    model = GPT2LMHeadModel(config).eval()
    answers = draw(model, SimpleNamespace(eos_token_id=-1), max_new_tokens=24, num_samples=2)
    # the prompt takes positions 0 to n - 1; what position 15 predicts is the last token of the answer
    assert [[len(answer) for answer in each] for each in answers] == [[16 - len(prompt) + 1] * 2 for prompt in PROMPTS]


def test_the_same_seed_gives_the_same_answers_and_another_seed_others(model: nn.Module, tokenizer: Any) -> None:
    assert draw(model, tokenizer, seed=1) == draw(model, tokenizer, seed=1)
    assert draw(model, tokenizer, seed=1) != draw(model, tokenizer, seed=2)


def test_the_first_token_follows_the_models_distribution(model: Any, tokenizer: Any) -> None:
    count = 4000
    with evaluating(model):
        wanted = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    answers = draw(model, tokenizer, num_samples=count, max_new_tokens=1, batch_size=count)[0]
    seen = torch.bincount(torch.tensor([answer[0] for answer in answers]), minlength=len(wanted)) / count
    # total variation of 4000 draws from about 300 outcomes is near sqrt(2 * 300 / (pi * 4000)) / ... = 0.11; 0.2 is far off
    assert 0.5 * (seen - wanted).abs().sum() < 0.2


def test_top_p_draws_from_the_smallest_likely_set_alone(model: Any, tokenizer: Any) -> None:
    with evaluating(model):
        probabilities = model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    order = probabilities.argsort(descending=True)
    inside = order[: int((probabilities[order].cumsum(0) < 0.3).sum()) + 1].tolist()
    answers = draw(model, tokenizer, num_samples=500, max_new_tokens=1, top_p=0.3)[0]
    assert {answer[0] for answer in answers} <= set(inside)
    assert len({answer[0] for answer in answers}) > 1


def test_a_batchs_answers_do_not_depend_on_the_batches_before(model: nn.Module, tokenizer: Any) -> None:
    whole = draw(model, tokenizer, num_samples=2, batch_size=2)
    for wanted in range(len(PROMPTS)):
        made: list[int] = []

        def keep(rows: Sequence[int], make: Callable[[], Any], wanted: int = wanted, made: list[int] = made) -> Any:
            if wanted not in rows:
                return [([0], [0.0])] * 2 * len(rows)
            made.extend(rows)
            return make()

        opened = HFSampler(num_samples=2, batch_size=2, max_new_tokens=12).of(model, tokenizer)
        alone = opened.draw(PROMPTS, 0, keep=keep)
        assert made == [wanted]
        assert [answer.ids.tolist() for answer in alone[wanted]] == whole[wanted]
