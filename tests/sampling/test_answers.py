"""Answers as text: where they end, whose model draws them, and when it is released."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.data.problems import DataError
from dpo_lab.drawn import Drawn
from dpo_lab.models.load import ModelOnDisk, load_tokenizer, save_model
from dpo_lab.records import Prompt
from dpo_lab.sampling.answers import answers_to, candidates_of
from dpo_lab.sampling.base import OpenSampler, Sampler
from dpo_lab.sampling.hf import HFSampler

CPU = torch.device("cpu")
QUESTIONS = [Prompt.from_text("?"), Prompt.from_text("a good film")]


@pytest.fixture
def policy(model: nn.Module, tokenizer: Any, tmp_path: Path) -> ModelOnDisk:
    save_model(model, tokenizer, tmp_path / "policy", base_path="")
    return ModelOnDisk(str(tmp_path / "policy"), "policy")


def test_an_answer_that_was_cut_is_told_from_one_that_ended(model: nn.Module, tokenizer: Any) -> None:
    end, (word,) = tokenizer.eos_token_id, tokenizer.encode(" a", add_special_tokens=False)
    drawn = [[Drawn.of(ids, [0.0] * len(ids)) for ids in each] for each in ([[word, end], [word], [end], []], [[word, word]])]
    made = candidates_of(QUESTIONS, drawn, HFSampler().of(model, tokenizer))
    assert [each.finished for each in made] == [(True, False, True, False), (False,)]
    assert [each.responses for each in made] == [("a", "a", "", ""), ("a a",)]


def test_a_model_that_was_loaded_for_sampling_is_released_and_one_that_was_loaded_before_stays(policy: ModelOnDisk) -> None:
    with HFSampler().open(policy, CPU) as opened:
        loaded = weakref.ref(opened.model)
    del opened
    gc.collect()
    assert loaded() is None
    before = policy.loaded(CPU)
    with HFSampler().open(policy, CPU) as opened:
        assert opened.model is before.model
    assert policy.loaded(CPU) is before


def test_sampling_leaves_a_module_that_is_trained_in_train_mode(model: nn.Module, tokenizer: Any) -> None:
    model.train()
    HFSampler(max_new_tokens=2).of(model, tokenizer).draw([[5, 6]], 0)
    assert model.training


class Counter(OpenSampler):
    """Stands in for an engine in its own process: no module, token ids alone; answers with the prompt's length in letters."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.ends = tokenizer, [tokenizer.eos_token_id]

    def draw(
        self, prompts: Sequence[Sequence[int]], seed: int, *, num_samples: int | None = None, keep: Keep = make_now
    ) -> list[list[Drawn]]:
        """Return as many letters as the prompt has tokens, then the end."""
        (letter,) = self.tokenizer.encode(" a", add_special_tokens=False)
        answers = [[letter] * len(prompt) + list(self.ends) for prompt in prompts]
        return [[Drawn.of(answer, [-1.0] * len(answer))] * (num_samples or 1) for answer in answers]


@component
class CountingSampler(Sampler):
    """Has no nn.Module, as an inference server has none."""

    num_samples: int = 1

    @contextmanager
    def open(self, policy: ModelOnDisk, device: torch.device) -> Iterator[Counter]:
        """Yield what answers."""
        yield Counter(load_tokenizer(policy.path))


def test_a_sampler_without_a_module_answers_too(policy: ModelOnDisk) -> None:
    made = answers_to(QUESTIONS, policy, CountingSampler(), CPU, 0, name="sample", directory=None, num_samples=2)
    for ids, each in zip(made.prompt_ids, made.candidates, strict=True):
        assert each.responses == (" ".join("a" * len(ids)),) * 2
        assert each.finished == (True, True)
        assert len(each.drawn) == 2


def answered(prompts: list[Prompt], policy: ModelOnDisk) -> list[str]:
    """Return the prompts that get answers."""
    made = answers_to(prompts, policy, HFSampler(max_new_tokens=2), CPU, 0, name="sample", directory=None, num_samples=2)
    assert all(len(candidate.responses) == 2 for candidate in made.candidates)
    return [candidate.prompt.text for candidate in made.candidates]


def test_an_unusable_prompt_is_left_out_with_one_line_and_no_other_is_lost(
    model: Any, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.config.max_position_embeddings = 40
    save_model(model, tokenizer, tmp_path / "policy", base_path="")
    policy = ModelOnDisk(str(tmp_path / "policy"), "policy")
    long, again = Prompt.from_text("z q " * 40), Prompt.from_text("?")
    assert answered([*QUESTIONS, long, again], policy) == [question.text for question in QUESTIONS]
    said = capsys.readouterr().out
    assert "1 of 4 prompts are equal to an earlier one: each is answered once" in said
    assert f"1 of 3 prompts left out: they are longer than the 40 tokens that {policy.path} reads" in said
    with pytest.raises(DataError, match="1 of 1 prompts left out: they are longer"):
        answered([long], policy)


def test_nothing_is_said_of_prompts_that_are_all_usable(policy: ModelOnDisk, capsys: pytest.CaptureFixture[str]) -> None:
    answered(QUESTIONS, policy)
    assert capsys.readouterr().out == ""
