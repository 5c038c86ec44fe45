"""A reward model reads a prompt once for all its answers, and scores them as it scores each row by itself."""

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Gemma2Config,
    Gemma2ForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from dpo_lab.ranking.reward_model import OpenRewardModel, difference
from dpo_lab.ranking.shared_reading import SharedRows, is_plain, shares_prompts

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 64,
    "pad_token_id": 0,
    "initializer_range": 0.5,
    "num_labels": 1,
}
PROMPT = list(range(5, 37))
SETS = [
    [[*PROMPT, 40, 41], [*PROMPT, 40, 42, 43, 44], [*PROMPT, 50]],
    [[*PROMPT[:9], 60, 61], [*PROMPT[:9], 60, 61]],
    [[7, 8, 9]],
    [[1, 2], [3, 4, 5]],
]


class Counting:
    """Adds up the tokens that a classifier's body is given."""

    def __init__(self, model: Any) -> None:
        self.tokens = 0
        getattr(model, model.base_model_prefix).register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, body: Any, inputs: Any, named: dict[str, Any]) -> None:
        self.tokens += named.get("input_ids", *inputs).numel()


def alone(model: Any) -> list[list[float]]:
    with torch.no_grad():
        return [[float(difference(model(torch.tensor([row])).logits.float())[0]) for row in rows] for rows in SETS]


def test_a_prompt_is_read_once_and_scores_are_those_of_rows_alone() -> None:
    kinds: list[tuple[Any, Any]] = [
        (LlamaForSequenceClassification, LlamaConfig),
        (MistralForSequenceClassification, MistralConfig),
        (Qwen3ForSequenceClassification, Qwen3Config),
    ]
    for kind, config in kinds:
        torch.manual_seed(0)
        model = kind(config(**SHAPE)).eval()
        expected = alone(model)
        assert shares_prompts(model)
        counting = Counting(model)
        with torch.no_grad():
            scores = OpenRewardModel(model, None, 4096, shares=True)._scored(SETS)
        for said, wanted in zip(scores, expected, strict=True):
            assert said == pytest.approx(wanted, abs=1e-5)
        prompts_once = (32 + 2 + 4 + 1) + (
            10 + 1
        )  # of two equal rows all tokens but the last are common, and that one is read once
        assert counting.tokens == prompts_once + 3 * 3  # three rows that share nothing, in one padded batch


def test_the_same_scores_come_of_small_portions() -> None:
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**SHAPE)).eval()
    expected = alone(model)
    assert shares_prompts(model)
    with torch.no_grad():
        scores = OpenRewardModel(model, None, 8, shares=True)._scored(SETS)
    for said, wanted in zip(scores, expected, strict=True):
        assert said == pytest.approx(wanted, abs=1e-5)


def test_a_classifier_that_cannot_share_is_found_out_and_keeps_its_attention() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 64, "num_labels": 1, "pad_token_id": 0}
    gpt2 = GPT2ForSequenceClassification(GPT2Config(n_embd=16, n_layer=2, n_head=2, **shape))
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    bert = BertForSequenceClassification(BertConfig(**sizes, **shape))
    gemma = Gemma2ForSequenceClassification(Gemma2Config(**SHAPE, sliding_window=8))
    assert not shares_prompts(bert.eval())
    assert bert.config._attn_implementation == "sdpa"
    assert shares_prompts(gpt2.eval()) == (gpt2.config._attn_implementation == "dpo_lab_segments")
    assert not is_plain(gemma, longest=100)


def test_windows_shorter_than_a_row_are_read_row_by_row() -> None:
    torch.manual_seed(0)
    model = MistralForSequenceClassification(MistralConfig(**SHAPE, sliding_window=16)).eval()
    expected = alone(model)
    shares_prompts(model)
    assert is_plain(model, longest=16)
    assert not is_plain(model, longest=36)
    with torch.no_grad():
        scores = OpenRewardModel(model, None, 4096, shares=True)._scored(SETS)
    for said, wanted in zip(scores, expected, strict=True):
        assert said == pytest.approx(wanted, abs=1e-5)


def test_a_shared_row_counts_a_prompt_once() -> None:
    assert SharedRows(SETS[:2]).num_tokens([0, 1]) == 39 + 11
