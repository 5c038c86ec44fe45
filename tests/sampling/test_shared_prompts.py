"""Prompts that answers share: equal to one `generate` per answer for several architectures, the library's cache for others."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, MistralConfig

from dpo_lab.models.load import evaluating
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.sampling.shared_prompts import SharedPrompts
from dpo_lab.scoring.logps import token_logps
from tests.models.directories import SHAPE, config_of

PROMPTS = [[5, 6, 7], [8], list(range(9, 40)), [15, 16], [17, 18, 19, 20, 21, 22]]
END = 3
NOTE = "sampling with the library's cache"


class Named:
    """A tokenizer of which the sampler reads the end token alone."""

    eos_token_id = END


def random_model(config: Any) -> Any:
    """Return a random model with one likely end token."""
    torch.manual_seed(0)
    config.eos_token_id, config.pad_token_id, config.bos_token_id = END, 0, 1
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if config.vocab_size == 64:
        with torch.no_grad():
            head = model.get_output_embeddings().weight
            head[END] = head[10] * 2
    return model


def library_answers(model: Any) -> list[list[int]]:
    """Return one greedy `generate` per prompt."""
    answers = []
    with evaluating(model):
        for prompt in PROMPTS:
            out = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=12,
                eos_token_id=END,
                pad_token_id=0,
                use_cache=True,
            )
            answers.append(out[0, len(prompt) :].tolist())
    return answers


def greedy(model: Any) -> list[list[int]]:
    drawn = HFSampler(temperature=0, num_samples=1, max_new_tokens=12).of(model, Named()).draw(PROMPTS, 0)
    return [answer.ids.tolist() for (answer,) in drawn]


@pytest.mark.parametrize("name", ["mistral", "qwen3", "gpt2", "pythia"])
def test_plain_attention_of_any_family_shares_prompts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(config_of(name, 64))
    before = model.config._attn_implementation
    assert greedy(model) == library_answers(model)
    assert NOTE not in capsys.readouterr().out
    assert model.config._attn_implementation == before, "the model's own attention is put back"


def window() -> Any:
    return MistralConfig(**SHAPE, vocab_size=64, sliding_window=8, tie_word_embeddings=False)


def states() -> Any:
    return MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8)


@pytest.mark.parametrize(
    ("config", "why"),
    [(lambda: config_of("gemma2", 64), "soft-capped"), (window, "sliding window of 8 tokens")],
    ids=["gemma2", "sliding_window"],
)
def test_another_kind_of_cache_stays_the_librarys_and_is_said_once(
    config: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(config())
    sampler = HFSampler(temperature=0, num_samples=1, max_new_tokens=12, batch_size=2)
    for _ in range(2):  # opened anew for each round, and for each evaluation
        drawn = [answer.ids.tolist() for (answer,) in sampler.of(model, Named()).draw(PROMPTS, 0)]
        assert drawn == library_answers(model)
    said = capsys.readouterr().out
    assert said.count(NOTE) == 1
    assert why in said


def test_a_model_without_attention_is_sampled_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(states())
    assert greedy(model) == library_answers(model)
    assert capsys.readouterr().out.count(NOTE) == 1


def test_raw_log_probabilities_are_those_of_a_full_forward_though_answers_leave_the_batch() -> None:
    model = random_model(config_of("mistral", 64))
    drawn = HFSampler(num_samples=7, max_new_tokens=24, temperature=0.8, top_k=20).of(model, Named()).draw(PROMPTS, 0)
    lengths = {len(answer.ids) for answers in drawn for answer in answers}
    assert len(lengths) > 6, "answers end at many steps"
    for prompt, answers in zip(PROMPTS, drawn, strict=True):
        for answer in answers:
            ids = answer.ids.tolist()
            with evaluating(model):
                logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            assert torch.allclose(token_logps(logits, torch.tensor(ids)), torch.tensor(answer.logps), atol=2e-5)


def test_every_prompt_is_read_once_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(config_of("mistral", 64))
    read: list[int] = []
    forward = SharedPrompts._forward

    def counted(self: SharedPrompts, ids: Any, positions: Any, **others: Any) -> Any:
        if self._reading and len(self.prompts) > 1:  # not the trial
            read.append(ids.numel())
        return forward(self, ids, positions, **others)

    monkeypatch.setattr(SharedPrompts, "_forward", counted)
    HFSampler(num_samples=5, max_new_tokens=4).of(model, Named()).draw(PROMPTS, 0)
    assert sum(read) == sum(map(len, PROMPTS))
