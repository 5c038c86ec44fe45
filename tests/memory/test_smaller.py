"""Each part proposes how it takes less memory; what does not go together is not proposed."""

from dataclasses import replace
from pathlib import Path

import pytest

from dpo_lab.memory.check import changes
from dpo_lab.models import spec as specs
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.quant import EightBit, FourBit
from dpo_lab.models.spec import PretrainedModel, TinyModel
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
        (
            MODEL,
            [AGAIN, "adapter=lora", "adapter=lora quant=8bit", "adapter=lora quant=4bit", f"adapter=lora quant=4bit {AGAIN}"],
        ),
        (replace(MODEL, adapter=LoRA()), [AGAIN, "quant=8bit", "quant=4bit", f"quant=4bit {AGAIN}"]),
        (replace(MODEL, adapter=LoRA(dora=True)), [AGAIN, "quant=4bit", f"quant=4bit {AGAIN}"]),
        (replace(MODEL, adapter=LoRA(), quant=EightBit()), [AGAIN, "quant=4bit", f"quant=4bit {AGAIN}"]),
        (replace(MODEL, adapter=LoRA(), quant=FourBit()), [AGAIN]),
        (replace(MODEL, adapter=LoRA(), quant=FourBit(), checkpointing=True), []),
        (TinyModel(), [AGAIN, "adapter=lora"]),
    ],
    ids=["full", "lora", "dora", "8bit", "4bit", "least", "tiny"],
)
def test_a_model_is_computed_again_and_adapted_before_it_has_fewer_bits(
    model: PretrainedModel | TinyModel, texts: list[str]
) -> None:
    assert [text for text, _ in model.smaller()] == texts


def test_an_optimizer_keeps_its_settings_in_8_bits() -> None:
    ((text, smaller),) = AdamW(lr=3e-4, weight_decay=0.1).smaller()
    assert (text, smaller) == ("optim=adamw_8bit", AdamW8bit(lr=3e-4, weight_decay=0.1))
    assert list(smaller.smaller()) == list(RMSprop().smaller()) == []


def test_without_bitsandbytes_nothing_that_needs_it_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (specs, optimizers):
        monkeypatch.setattr(module, "without_bitsandbytes", lambda: "No module named 'bitsandbytes'")
    assert [text for text, _ in MODEL.smaller()] == [AGAIN, "adapter=lora"]
    assert list(AdamW().smaller()) == []


def test_the_last_proposal_is_the_least_of_model_and_passes_together(tmp_path: Path) -> None:
    run = stage(tmp_path, model=MODEL, trainer=TrainerSettings(token_budget=512))
    proposed = list(changes(run))
    assert [text for text, _ in proposed] == [
        *("trainer.token_budget=256", "optim=adamw_8bit"),
        *(AGAIN, "adapter=lora", "adapter=lora quant=8bit", "adapter=lora quant=4bit", f"adapter=lora quant=4bit {AGAIN}"),
        f"adapter=lora quant=4bit {AGAIN} trainer.token_budget=256",
    ]
    last = proposed[-1][1]
    assert last.model.checkpointing
    assert (last.model.quant, last.trainer.token_budget, last.optim) == (FourBit(), 256, run.optim)
