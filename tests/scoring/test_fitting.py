"""How a model is scored: stock models read rows of segments, others are found out and get padded rows."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from dpo_lab.components import RunError
from dpo_lab.layouts.attention import NAME
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.scoring.fitting import fitted, made_ready
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

SHAPE: dict[str, Any] = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED: dict[str, Any] = {**SHAPE, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
NO_DROPOUT: dict[str, Any] = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
FINE: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**GATED, sliding_window=None),
    "mistral, window of the longest row": MistralConfig(**GATED, sliding_window=23),
    "llama": LlamaConfig(**GATED),
    "qwen2": Qwen2Config(**{**GATED, "sliding_window": 4}),  # use_sliding_window is false: no window
    "qwen3": Qwen3Config(**GATED),
    "gpt2": GPT2Config(vocab_size=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, **NO_DROPOUT),
    "gpt_neox": GPTNeoXConfig(**SHAPE, intermediate_size=48, initializer_range=0.3),
}
WRONG: dict[str, tuple[PreTrainedConfig, str]] = {
    "sliding window": (
        MistralConfig(**GATED, sliding_window=8),
        "its sliding window of 8 tokens is shorter than the longest row, 23",
    ),
    "soft-capped attention": (Gemma2Config(**GATED, attn_logit_softcapping=2.0), "its attention is soft-capped"),
    "ALiBi": (BloomConfig(vocab_size=256, hidden_size=32, n_layer=2, n_head=4), "ALiBi"),
    "ALiBi by a flag": (FalconConfig(**SHAPE, alibi=True), "ALiBi"),
    "chunked attention, experts, layers without positions": (
        Llama4TextConfig(
            **{**GATED, "num_hidden_layers": 4},
            intermediate_size_mlp=48,
            num_local_experts=2,
            num_experts_per_tok=1,
            attention_chunk_size=8,
        ),
        "it has layers that are not plain attention: chunked_attention",
    ),
    "state space": (
        MambaConfig(vocab_size=256, hidden_size=32, num_hidden_layers=2, state_size=4),
        "it has layers that are not plain attention: linear_attention",
    ),
}
CAPPED: dict[str, PreTrainedConfig] = {
    "gemma2": Gemma2Config(**GATED, attn_logit_softcapping=None, final_logit_softcapping=1.0, sliding_window=4096),
    "cohere": CohereConfig(**{name: value for name, value in GATED.items() if name != "head_dim"}, logit_scale=0.1),
}
ONE_ROW = (PrefixLayout(), PackedLayout())


def built(config: PreTrainedConfig) -> nn.Module:
    """Return a random model of a configuration."""
    torch.manual_seed(0)
    model: nn.Module = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    return model


@torch.no_grad()
def gap(model: nn.Module, store: TokenStore, layout: Layout, *, own_logits: bool) -> float:
    """Return the largest difference to each response alone by the model's own logits."""
    together = score(model, layout.rows(store, range(store.num_responses)), own_logits=own_logits).per_token
    alone = [score(model, PaddedLayout().rows(store, [one]), own_logits=True).per_token for one in range(store.num_responses)]
    return float((together - torch.cat(alone)).abs().max())


@pytest.mark.parametrize("layout", ONE_ROW)
@pytest.mark.parametrize("name", FINE)
def test_stock_models_read_one_row_of_many_responses(name: str, layout: Layout, store: TokenStore) -> None:
    model = built(FINE[name])
    fit = fitted(model, layout, store)
    assert (fit.layout, fit.own_logits, fit.notes) == (layout, False, ())
    assert gap(model, store, layout, own_logits=False) < 1e-4


@pytest.mark.parametrize("layout", ONE_ROW)
@pytest.mark.parametrize("name", WRONG)
def test_models_that_one_row_would_change_get_padded_rows_and_say_why(name: str, layout: Layout, store: TokenStore) -> None:
    config, reason = WRONG[name]
    model = built(config)
    fit = fitted(model, layout, store)
    assert fit.layout == PaddedLayout()
    (note,) = [note for note in fit.notes if "layout" in note]
    assert note.startswith(f"layout={layout.label} does not suit this model (")
    assert reason in note
    assert note.endswith("layout=padded is used")
    assert gap(model, store, fit.layout, own_logits=fit.own_logits) < 1e-4


@pytest.mark.parametrize("layout", [PaddedLayout(), *ONE_ROW])
@pytest.mark.parametrize("name", CAPPED)
def test_logits_that_are_more_than_the_head_are_taken_from_the_model(name: str, layout: Layout, store: TokenStore) -> None:
    model = built(CAPPED[name])
    fit = fitted(model, layout, store)
    assert (fit.layout, fit.own_logits) == (layout, True)
    assert len(fit.notes) == 1
    assert gap(model, store, layout, own_logits=True) < 1e-4
    assert gap(model, store, layout, own_logits=False) > 1e-2  # what the head alone would have said


def test_a_head_that_scales_by_a_thousandth_is_found_out(store: TokenStore) -> None:
    grouped = {name: value for name, value in GATED.items() if name != "head_dim"}
    for scale, own_logits in ((1.0, False), (1.001, True)):
        assert fitted(built(GraniteConfig(**grouped, logits_scaling=scale)), PrefixLayout(), store).own_logits is own_logits


def test_attention_with_sinks_gets_padded_rows_and_keeps_its_head(store: TokenStore) -> None:
    config = GptOssConfig(**GATED, layer_types=["full_attention"] * 2, num_local_experts=2, num_experts_per_tok=1)
    model: Any = built(config)
    nn.init.constant_(model.model.layers[0].self_attn.sinks, 3.0)
    before = model.config._attn_implementation
    fit = fitted(model, PrefixLayout(), store)
    assert (fit.layout, fit.own_logits, len(fit.notes)) == (PaddedLayout(), False, 1)
    assert model.config._attn_implementation == before


def test_a_window_one_token_shorter_than_the_longest_row_is_too_short(store: TokenStore) -> None:
    model = built(MistralConfig(**GATED, sliding_window=int(store.row_lengths.max()) - 1))
    assert fitted(model, PrefixLayout(), store).layout == PaddedLayout()


def test_positions_that_the_longest_row_of_a_batch_stretches_are_refused(store: TokenStore) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    for longest, refused in ((23, False), (22, True)):
        model = built(LlamaConfig(**GATED, rope_parameters=rope, max_position_embeddings=longest))
        if refused:
            with pytest.raises(RunError, match=r"the longest row has 23 tokens .* Use recipe.max_length=22 or less"):
                fitted(model, PaddedLayout(), store)
        else:
            assert fitted(model, PrefixLayout(), store).layout == PrefixLayout()


def test_a_reference_that_is_scored_in_another_way_is_refused(store: TokenStore) -> None:
    fit = fitted(built(FINE["llama"]), PrefixLayout(), store)
    with pytest.raises(RunError, match="scored differently: layout=prefix suits the one and layout=padded"):
        made_ready(built(WRONG["sliding window"][0]), fit, store)
    model = built(FINE["llama"])
    assert made_ready(model, fit, store) is model
    assert model.config._attn_implementation == NAME  # type: ignore[union-attr]


@pytest.mark.parametrize("layout", ONE_ROW)
def test_a_model_that_no_rule_knows_is_found_out_by_its_numbers(layout: Layout, store: TokenStore) -> None:
    def summed_along_the_row(module: nn.Module, inputs: Any, out: Any) -> Any:
        out.last_hidden_state = out.last_hidden_state.cumsum(1) / 10
        return out

    model: Any = built(FINE["llama"])
    model.model.register_forward_hook(summed_along_the_row)
    fit = fitted(model, layout, store)
    assert model.config._attn_implementation != NAME
    assert fit.layout == PaddedLayout()
    assert fit.notes == (
        f"layout={layout.label} does not suit this model (its log-probabilities then differ from those of padded "
        "rows); layout=padded is used",
    )


@pytest.mark.parametrize(("dtype", "gap", "kept"), [("float32", 0.005, True), ("float32", 0.05, False), ("bfloat16", 0.05, True)])
def test_two_layouts_may_differ_by_a_hundredth_of_a_nat_and_in_half_precision_by_a_tenth(
    dtype: str, gap: float, kept: bool, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(model: nn.Module, batch: ResponseBatch, *, own_logits: bool) -> ResponseLogps:
        return ResponseLogps(torch.full((len(batch.targets),), gap if "segments" in batch.inputs else 0.0), batch.counts)

    monkeypatch.setattr("dpo_lab.scoring.fitting.score", scored)
    layout = PrefixLayout()
    assert fitted(built(FINE["llama"]).to(getattr(torch, dtype)), layout, store).layout == (layout if kept else PaddedLayout())


def test_a_model_whose_scores_depend_on_padding_is_refused_by_name(store: TokenStore) -> None:
    def centred(module: nn.Module, inputs: Any, out: Any) -> Any:
        out.last_hidden_state = out.last_hidden_state - out.last_hidden_state.mean(1, keepdim=True)
        return out

    model: Any = built(FINE["llama"])
    model.model.register_forward_hook(centred)
    with pytest.raises(
        RunError, match=r"^LlamaForCausalLM \(model_type=llama\) cannot be scored, not even in padded rows \(a resp"
    ):
        fitted(model, PaddedLayout(), store)


def test_a_model_that_cannot_compute_a_padded_row_is_refused_by_name(store: TokenStore) -> None:
    model: Any = built(FINE["gpt2"])
    model.transformer.forward = lambda input_ids: None
    with pytest.raises(
        RunError, match=r"GPT2LMHeadModel \(model_type=gpt2\) cannot be scored.* \(TypeError: .*another architecture"
    ):
        fitted(model, PrefixLayout(), store)


def test_the_probe_sees_through_an_adapter_and_leaves_mode_and_gradients_alone(model: nn.Module, store: TokenStore) -> None:
    adapted = LoRA(rank=2, dropout=0.5).attach(model, seed=0).train()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(weight, 0.05)
    before = {name: weight.requires_grad for name, weight in adapted.named_parameters()}
    fit = fitted(adapted, PrefixLayout(), store)
    assert (fit.layout, fit.notes) == (PrefixLayout(), ())
    assert adapted.training
    assert all(weight.grad is None for weight in adapted.parameters())
    assert before == {name: weight.requires_grad for name, weight in adapted.named_parameters()}


def test_a_model_that_reads_segments_still_generates_as_before(model: Any, store: TokenStore) -> None:
    prompts = torch.tensor([[5, 6, 7, 8], [0, 0, 9, 10]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    options: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    before = model.eval().generate(prompts, **options)
    fitted(model, PrefixLayout(), store)
    assert model.config._attn_implementation == NAME
    assert torch.equal(model.generate(prompts, **options), before)


def test_the_attention_function_is_not_written_into_the_saved_configuration(model: Any, store: TokenStore, tmp_path: Any) -> None:
    fitted(model, PrefixLayout(), store)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_the_probe_computes_in_full_precision_whatever_the_run_does(store: TokenStore) -> None:
    plain = {name: built(config) for name, config in FINE.items()}
    before = {name: fitted(copy.deepcopy(model), PrefixLayout(), store) for name, model in plain.items()}
    seen: list[torch.dtype] = []
    with torch.autocast("cpu", torch.bfloat16):
        for name, model in plain.items():
            model.get_output_embeddings().register_forward_hook(lambda *call: seen.append(call[2].dtype))  # type: ignore[operator]
            assert fitted(model, PrefixLayout(), store) == before[name]
    assert set(seen) == {torch.float32}
