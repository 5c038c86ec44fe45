"""Each part proposes how it takes less memory; what does not go together is not proposed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.alignment import Alignment
from dpo_lab.memory.changes import changes, smallest
from dpo_lab.memory.check import memory_plan, on_a_gpu, smallest_change
from dpo_lab.models import spec as specs
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.quant import EightBit, FourBit
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.stages.train import Train
from dpo_lab.training import optim as optimizers
from dpo_lab.training.optim import AdamW, AdamW8bit, RMSprop
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import stage

AGAIN = "model.checkpointing=true"
MODEL = PretrainedModel(path="x", licence="none")


@pytest.fixture(autouse=True)
def _with_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (specs, optimizers):
        monkeypatch.setattr(module, "without_bitsandbytes", lambda: "")


def test_passes_are_halved_down_to_256_tokens() -> None:
    budgets = [(text, settings.token_budget) for text, settings in TrainerSettings(token_budget=1024).smaller()]
    assert budgets == [("trainer.token_budget=512", 512), ("trainer.token_budget=256", 256)]
    assert list(TrainerSettings(token_budget=256).smaller()) == []


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        (MODEL, ["adapter=lora", "adapter=lora quant=8bit", "adapter=lora quant=4bit"]),
        (replace(MODEL, adapter=LoRA()), ["quant=8bit", "quant=4bit"]),
        (replace(MODEL, adapter=LoRA(dora=True)), ["quant=4bit"]),
        (replace(MODEL, adapter=LoRA(), quant=EightBit()), ["quant=4bit"]),
        (replace(MODEL, adapter=LoRA(), quant=FourBit()), []),
        (TinyModel(), ["adapter=lora"]),
    ],
    ids=["full", "lora", "dora", "8bit", "4bit", "tiny"],
)
def test_a_model_is_adapted_before_it_has_fewer_bits(model: PretrainedModel | TinyModel, texts: list[str]) -> None:
    assert [text for text, _ in model.smaller()] == texts


def test_an_optimizer_keeps_its_settings_in_8_bits_and_then_pages() -> None:
    (eight, paged) = AdamW(lr=3e-4, weight_decay=0.1).smaller()
    assert eight == ("optim=adamw_8bit", AdamW8bit(lr=3e-4, weight_decay=0.1))
    assert paged == ("optim=adamw_8bit optim.paged=true", AdamW8bit(lr=3e-4, weight_decay=0.1, paged=True))
    assert list(eight[1].smaller()) == [("optim.paged=true", paged[1])]
    assert list(paged[1].smaller()) == list(RMSprop().smaller()) == []


def test_without_bitsandbytes_nothing_that_needs_it_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (specs, optimizers):
        monkeypatch.setattr(module, "without_bitsandbytes", lambda: "No module named 'bitsandbytes'")
    assert [text for text, _ in MODEL.smaller()] == ["adapter=lora"]
    assert list(AdamW().smaller()) == []


@pytest.fixture
def run(tmp_path: Path) -> Train:
    """Return a training of a model with 32,000 words, whose head takes 1,048 response tokens at a time."""
    shaped(tmp_path / "x", hidden_size=16, intermediate_size=16, vocab_size=32_000)
    return stage(tmp_path, model=replace(MODEL, path=str(tmp_path / "x")), trainer=TrainerSettings(token_budget=512))


def shaped(directory: Path, **sizes: int) -> None:
    """Write the configuration of a model with one layer."""
    directory.mkdir(exist_ok=True)
    shape = {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "tie_word_embeddings": True, **sizes}
    (directory / "config.json").write_text(json.dumps(shape))


def texts_of(run: Alignment, longest: int = 0) -> list[list[str]]:
    return [[each.text for each in group] for group in changes(run, longest)]


def test_what_keeps_the_result_comes_first_and_layers_are_computed_again_last(run: Train) -> None:
    budget, quarter, sixteenth = "trainer.token_budget=256", "trainer.head_tokens=256", "trainer.head_tokens=64"
    plain = [budget, quarter, sixteenth, f"{budget} {quarter}", f"{budget} {sixteenth}"]
    neutral = [*plain, AGAIN, *(f"{AGAIN} {text}" for text in plain)]
    groups = texts_of(run)
    assert groups[0] == neutral
    first = ["optim=adamw_8bit", "adapter=lora", "adapter=lora quant=8bit", "adapter=lora quant=4bit"]  # paging needs a GPU
    assert groups[1:] == [[text, *(f"{text} {more}" for more in neutral)] for text in first]
    last: Any = list(changes(run))[-1][-1].training
    assert (last.model.quant, last.model.checkpointing, last.optim) == (FourBit(), True, run.optim)
    assert (last.trainer.token_budget, last.trainer.head_tokens) == (256, 64)


def test_on_a_gpu_the_state_may_leave_it(run: Train) -> None:
    on_gpu = on_a_gpu(run)
    assert [group[0] for group in texts_of(on_gpu)[1:3]] == ["optim=adamw_8bit", "optim=adamw_8bit optim.paged=true"]
    eight = replace(on_gpu, optim=AdamW8bit())
    assert texts_of(eight)[1][0] == "optim.paged=true"
    held, paged = memory_plan(eight, None), memory_plan(replace(eight, optim=AdamW8bit(paged=True)), None)
    assert held.optimizer == 2 * held.held.trained
    assert (paged.optimizer, paged.at_once) == (0, 2 * 32_000 * 16)  # the state of one tensor at a time


def test_no_proposal_repeats_what_is_already_so(run: Train, tmp_path: Path) -> None:
    least = replace(
        on_a_gpu(run),
        model=replace(MODEL, path=str(tmp_path / "x"), adapter=LoRA(), quant=FourBit(), checkpointing=True),
        trainer=replace(on_a_gpu(run).trainer, token_budget=256, head_tokens=16),
        optim=AdamW8bit(paged=True),
    )
    assert [group for group in changes(least) if group] == []
    assert not any("token_budget=512" in text for group in texts_of(run) for text in group)


def test_a_budget_below_the_longest_pair_is_not_proposed(run: Train) -> None:
    roomy = replace(run, trainer=TrainerSettings(token_budget=2048))
    budgets = [text for text in texts_of(roomy, longest=700)[0] if text.startswith("trainer.token_budget") and " " not in text]
    assert budgets == ["trainer.token_budget=1024", "trainer.token_budget=512"]  # at 512 the longest pair stands alone


@pytest.mark.parametrize(
    ("has", "text"),
    [
        (90, "trainer.token_budget=256"),
        (80, "trainer.head_tokens=256"),
        (55, f"{AGAIN} trainer.token_budget=256"),
        (20, "optim=adamw_8bit trainer.token_budget=256 trainer.head_tokens=256"),
        (1, ""),
    ],
)
def test_the_first_change_that_fits_is_found_without_planning_all(run: Train, has: float, text: str) -> None:
    planned = 0

    def needed(one: Alignment) -> float:
        nonlocal planned
        planned += 1
        settings = one.trainer
        least = {512: 100, 256: 85}[settings.token_budget] - {None: 0, 256: 20, 64: 25}[settings.head_tokens]
        return (least - 30 * (one.model.checkpointing is True)) * (0.3 if isinstance(one.optim, AdamW8bit) else 1)

    assert smallest(run, needed, lambda one: 5.0 if one.model.adapter.trains_all else 50.0, has) == text
    assert planned <= 16


def test_a_smaller_model_is_proposed_only_where_there_is_one(run: Train, tmp_path: Path) -> None:
    assert smallest_change(run, None, 0.0) == "model=tiny"
    shaped(tmp_path / "x", hidden_size=2, intermediate_size=2, vocab_size=8)
    assert smallest_change(run, None, 0.0) == "a machine with more memory"


def test_the_chosen_model_is_never_proposed_in_its_own_place(run: Train) -> None:
    """`model=tiny` is planned with all the tokens that its vocabulary may have, more than films give it."""
    assert smallest_change(replace(run, model=TinyModel()), None, 0.0) == "a machine with more memory"
    assert smallest_change(replace(run, model=TinyModel(hidden_size=1024)), None, 0.0) == "a machine with more memory"
