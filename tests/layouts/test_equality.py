"""Padded, packed, prefix and the naive computation are the same mathematics; a wrong layout is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from dpo_lab.data.load import load_pairs
from dpo_lab.layouts import attention
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.layouts.segments import Segments
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.score import score
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from tests.layouts import equality

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "head_dim": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3, tied": Qwen3Config(**{**SHAPE, "tie_word_embeddings": True}),
}
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
LAYOUTS = (PaddedLayout(), PackedLayout(), PrefixLayout())
ADAPTERS: dict[str, Adapter] = {"full": NoAdapter(), "lora": LoRA(rank=4)}


def random_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = AutoModelForCausalLM.from_config(CONFIGS[name])
    return model


def hand_made() -> TokenStore:
    """Pairs with one-token answers, equal answers to one prompt, a one-token prompt and a long one; four answers in all pairs."""
    draw = torch.Generator().manual_seed(0)

    def ids(length: int) -> list[int]:
        return torch.randint(2, 300, (length,), generator=draw).tolist()

    builder = StoreBuilder()
    for length, sizes in ((1, (1, 6)), (130, (1, 1)), (9, (3, 11, 2, 7))):
        prompt = ids(length)
        answers = [builder.add_response(prompt, ids(size)) for size in sizes]
        for position, chosen in enumerate(answers):
            for rejected in answers[:position]:
                builder.add_item([chosen, rejected])
    same = builder.add_response([5, 6], [7, 8])
    builder.add_item([same, same])
    return builder.build()


@pytest.fixture(scope="module")
def hh_rows(shared_data: Path, tokenizer: Any) -> TokenStore:
    """Six real rows of HH, long dialogues among them."""
    pairs, _ = load_pairs(shared_data / "hh" / "harmless_benign.jsonl", max_dropped=1.0)
    by_length = sorted(pairs, key=lambda pair: len(json.dumps(pair.prompt.messages)))
    return tokenise_items(by_length[:: len(by_length) // 5], tokenizer, max_length=700, truncation="keep_end_prompt").store


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_layouts_equal_the_naive_computation_in_loss_and_every_gradient(name: str, adapter: str, dtype: torch.dtype) -> None:
    store = hand_made()
    policy = equality.policy_of(random_model(name), ADAPTERS[adapter], dtype)
    pairs = range(store.num_pairs)
    wanted = equality.naive_step(policy, store, pairs)
    for layout in LAYOUTS:
        assert wanted.gap(equality.layout_step(policy, layout, store, pairs)) < TOLERANCE[dtype], layout.label


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_layouts_agree_on_real_rows(hh_rows: TokenStore, adapter: str, dtype: torch.dtype) -> None:
    policy = equality.policy_of(random_model("mistral"), ADAPTERS[adapter], dtype)
    pairs = range(hh_rows.num_pairs)
    wanted = equality.naive_step(policy, hh_rows, pairs)
    for layout in LAYOUTS:
        assert wanted.gap(equality.layout_step(policy, layout, hh_rows, pairs)) < TOLERANCE[dtype], layout.label


def test_four_answers_in_all_six_pairs_run_through_the_body_once() -> None:
    builder = StoreBuilder()
    answers = [builder.add_response([5] * 40, [10 + length] * length) for length in (3, 5, 7, 9)]
    for position, chosen in enumerate(answers):
        for rejected in answers[:position]:
            builder.add_item([chosen, rejected])
    store = builder.build()
    policy = equality.policy_of(random_model("mistral"), NoAdapter(), torch.float32)
    seen: list[int] = []
    policy.get_submodule("model").register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    together = equality.layout_step(policy, PrefixLayout(), store, range(6))
    assert seen[-1] == 40 + 3 + 5 + 7 + 9  # one prompt and four responses; pair by pair 6 x 40 + 3 x 24
    apart = equality.naive_step(policy, store, range(6))
    assert sum(seen[-12:]) == 12 * 40 + 3 * 24
    assert apart.gap(together) < 1e-4


def test_unpaired_answers_fit_the_same_rows(store: TokenStore) -> None:
    """Answers that are good or bad each by itself, as KTO has them: any responses of a store make rows."""
    policy = equality.policy_of(random_model("mistral"), NoAdapter(), torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    gradients = []
    for layout in LAYOUTS:
        policy.zero_grad()
        assert fitted(policy, layout, store).layout == layout
        batch = layout.rows(store, [0, 1, 2, 7])
        (signs * score(policy, batch).sums).sum().backward()
        gradients.append(equality.gradients_of(policy))
    for name, gradient in gradients[0].items():
        for other in gradients[1:]:
            assert float((gradient - other[name]).norm() / gradient.norm()) < 1e-6, name


# -- a layout that is wrong is caught -----------------------------------------------------------------------------------


def altered(batch: ResponseBatch, **inputs: Any) -> ResponseBatch:
    return replace(batch, inputs={**batch.inputs, **inputs})


def positions_run_on(batch: ResponseBatch) -> ResponseBatch:
    """Positions do not restart after the prompt for the second response."""
    return altered(
        batch,
        position_ids=torch.cat(
            [torch.arange(prompt + sum(responses)) for prompt, responses in batch.inputs["segments"].groups]
        ).unsqueeze(0),
    )


def responses_see_each_other(batch: ResponseBatch) -> ResponseBatch:
    """A prompt with all its responses is one causal sequence: the rejected response sees the chosen one."""
    return altered(batch, segments=Segments(tuple((prompt, (sum(rest),)) for prompt, rest in batch.inputs["segments"].groups)))


def pairs_see_each_other(batch: ResponseBatch) -> ResponseBatch:
    """The whole row is one causal sequence."""
    prompt = batch.inputs["segments"].groups[0][0]
    return altered(batch, segments=Segments(((prompt, (batch.inputs["input_ids"].numel() - prompt,)),)))


def second_response_predicted_from_the_first(batch: ResponseBatch) -> ResponseBatch:
    """The first token of each further response is predicted by the last token of the response before it."""
    predictors, seen = batch.predictors.clone(), set[int]()
    lasts = set((batch.counts.cumsum(0) - 1).tolist())
    for place, position in enumerate(batch.predictors.tolist()):
        if position in seen and place not in lasts:  # the prompt's last token again
            predictors[place] = batch.predictors[place + 1] - 1
        seen.add(position)
    return replace(batch, predictors=predictors)


def predicted_by_itself(batch: ResponseBatch) -> ResponseBatch:
    """Every token is predicted by its own position."""
    return replace(batch, predictors=(batch.predictors + 1).clamp(max=batch.inputs["input_ids"].numel() - 1))


def targets_of_another_response(batch: ResponseBatch) -> ResponseBatch:
    """Targets belong to the responses in another order."""
    return replace(batch, targets=batch.targets.roll(1))


BUGS: tuple[Callable[[ResponseBatch], ResponseBatch], ...] = (
    positions_run_on,
    responses_see_each_other,
    pairs_see_each_other,
    second_response_predicted_from_the_first,
    predicted_by_itself,
    targets_of_another_response,
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_layout_bug_is_far_beyond_the_tolerance(bug: Callable[[ResponseBatch], ResponseBatch], monkeypatch: Any) -> None:
    store = hand_made()
    policy = equality.policy_of(random_model("mistral"), NoAdapter(), torch.float32)
    wanted = equality.naive_step(policy, store, range(store.num_pairs))
    monkeypatch.setattr(equality, "fitted", lambda model, layout, store: use(model, layout))
    rows = PrefixLayout.rows
    monkeypatch.setattr(PrefixLayout, "rows", lambda self, store, responses: bug(rows(self, store, responses)))
    assert wanted.gap(equality.layout_step(policy, PrefixLayout(), store, range(store.num_pairs))) > 1e-2


def use(model: Any, layout: Layout) -> Any:
    """Stand in for `fitted`, which would find the bug out itself and give padded rows."""
    model.set_attn_implementation(attention.NAME)
    return type("Fit", (), {"layout": layout})


def test_a_causal_mask_on_further_responses_alone_is_a_bug(monkeypatch: Any) -> None:
    """The mask of [prompt | response] is causal from the end: counted from the beginning, a response sees too little."""
    store = hand_made()
    policy = equality.policy_of(random_model("mistral"), NoAdapter(), torch.float32)
    wanted = equality.naive_step(policy, store, range(store.num_pairs))
    monkeypatch.setattr(equality, "fitted", lambda model, layout, store: use(model, layout))
    monkeypatch.setattr(
        Segments, "mask", lambda self, prompt, response, device: torch.ones(response, prompt + response).tril() > 0
    )
    assert wanted.gap(equality.layout_step(policy, PrefixLayout(), store, range(store.num_pairs))) > 1e-2


@pytest.mark.parametrize("layout", [PackedLayout(), PrefixLayout()])
def test_a_dropout_of_attention_is_passed_on(layout: Layout, store: TokenStore) -> None:
    model: Any = random_model("mistral")
    model.set_attn_implementation(attention.NAME)
    calls: list[float] = []
    sdpa = F.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["dropout_p"])
        return sdpa(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", counted)
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.25
        score(model.train(), layout.rows(store, [0, 1, 2]))
    assert set(calls) == {0.25}
