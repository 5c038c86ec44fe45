"""Rules apply to the stages that have the fields they name, and parts to themselves."""

import inspect
import json
from collections.abc import Callable
from dataclasses import field, fields, replace
from pathlib import Path
from typing import ClassVar

import pytest

from dpo_lab.components import Component, ConfigError, component, refused_parts
from dpo_lab.data.base import Data
from dpo_lab.data.prompt_files import FilePrompts
from dpo_lab.evaluation.several import SeveralMeasures
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.quant import FourBit
from dpo_lab.models.spec import ModelSpec, TinyModel
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.reference.base import Reference
from dpo_lab.reference.none import NoReference
from dpo_lab.rules.check import RULES, SLOW_RULES, broken, refuse_illegal, refuse_slowly
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping, RunCallback
from dpo_lab.training.optim import AdamW8bit
from tests.rules.test_combinations import FILM_DATA, FILM_EVALUATION, LEGAL


@component
class Compare(Component):
    """A stage of this test's own: it compares losses, and has neither data nor a trainer."""

    model: ModelSpec = TinyModel()
    loss: PreferenceLoss = DPOLoss()
    reference: Reference = NoReference()
    callbacks: dict[str, RunCallback] = field(default_factory=dict)

    def run(self) -> None:
        """Refuse what cannot be."""
        refuse_illegal(self)


@component
class Label(Component):
    """Another: it makes pairs for a loss."""

    data: Data
    loss: PreferenceLoss


def refusal(stage: Component, refuse: Callable[[Component], None] = refuse_illegal) -> str:
    try:
        refuse(stage)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_rule_applies_to_every_stage_that_has_its_fields() -> None:
    refused = (
        "reference=none leaves this loss nothing to compare with; use reference=cached, or a loss that needs none: loss=simpo."
    )
    with pytest.raises(ConfigError) as caught:
        Compare().run()
    assert str(caught.value) == refused
    assert refusal(Compare(loss=SimPOLoss())) == ""


def test_a_stage_without_a_field_is_not_asked_about_it() -> None:
    made = {"data": replace(FILM_DATA, ranker=LengthRanker())}
    assert refusal(Label(**made, loss=DPOLoss())) == ""  # more rounds, evaluation, trainer: nothing to say of
    assert refusal(Label(**made, loss=SoftLabelDPOLoss())) == (
        "this loss reads the ranker's win probability, and ranker=length gives none; use loss=dpo."
    )


def test_every_rule_applies_to_train_and_says_what_it_is_about() -> None:
    for rule in (*RULES, *SLOW_RULES):
        assert rule.__doc__, rule
        assert {*inspect.signature(rule).parameters} <= {field.name for field in fields(LEGAL)}


def test_a_rule_is_about_two_parts_or_more() -> None:
    alone = [rule.__name__ for rule in (*RULES, *SLOW_RULES) if len(inspect.signature(rule).parameters) < 2]
    assert not alone, f"{alone}: a part that cannot work by itself says so in its own check() or check_slowly()"


def test_the_parts_of_a_stage_are_asked_wherever_they_stand() -> None:
    stage = Compare(
        model=TinyModel(quant=FourBit(), adapter=LoRA()),
        loss=SimPOLoss(),
        callbacks={"one": EarlyStopping(metric="loss", mode="max"), "two": Checkpoint(best="loss")},
    )
    assert refused_parts(stage) == [
        "callbacks.one.mode=max would end training because it works: loss gets better by falling; use callbacks.one.mode=min.",
        "callbacks.two.best=loss with callbacks.two.mode=max would keep the worst step; use callbacks.two.mode=min.",
    ]


@component
class Fragile(LengthRanker):
    """A ranker that needs something of the machine."""

    reason: ClassVar[str] = "its weights have no licence here"

    def check(self) -> None:
        raise ConfigError(self.reason)


def test_a_message_that_names_no_setting_begins_with_the_key_of_its_part() -> None:
    stage = Label(data=replace(FILM_DATA, ranker=Fragile()), loss=DPOLoss())
    assert refused_parts(stage) == ["data.ranker: its weights have no licence here"]


def test_a_part_that_stands_in_two_places_is_refused_once() -> None:
    nowhere = PairRM(path="no id")
    data, evaluation = replace(FILM_DATA, ranker=nowhere), replace(FILM_EVALUATION, judge=nowhere)
    stage = replace(LEGAL, data=data, evaluation=evaluation)
    assert sum("no id is neither a directory" in message for message in refused_parts(stage)) == 1


def test_the_stage_itself_is_asked_first() -> None:
    @component
    class Refused(Compare):
        def check(self) -> None:
            raise ConfigError("this stage does nothing")

    assert refusal(Refused()).startswith("this stage does nothing Also: reference=none")
    assert broken(Refused(), RULES) == [refusal(Refused()).partition(" Also: ")[2]]


def test_a_library_that_is_installed_and_does_not_load_is_refused_once_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.models.quant.without_bitsandbytes", lambda: "libcuda.so: not found")
    monkeypatch.setattr("dpo_lab.training.optim.without_bitsandbytes", lambda: "libcuda.so: not found")
    stage = replace(LEGAL, model=TinyModel(quant=FourBit(), adapter=LoRA()), optim=AdamW8bit())
    needs = (
        "needs bitsandbytes, which cannot be imported here (libcuda.so: not found). Install it (pip install bitsandbytes), or use"
    )
    assert refusal(stage, refuse_slowly) == f"quant=4bit {needs} quant=none. Also: optim=adamw_8bit {needs} optim=adamw."
    assert refusal(LEGAL, refuse_slowly) == ""


def test_each_measure_that_asks_prompts_needs_some(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {number}?"}) + "\n" for number in range(8)))
    none_left = replace(FILM_EVALUATION, prompts=FilePrompts(path=path, num_held_out=0), judge=LengthRanker())
    none = "this evaluation answers held-out prompts, and prompts=asked holds out none"
    refused = f"{none}; use prompts.num_held_out=N with N above 0."
    assert refusal(replace(LEGAL, evaluation=none_left), refuse_slowly) == refused
    both = SeveralMeasures(measures={"films": FILM_EVALUATION, "asked": none_left})
    assert refusal(replace(LEGAL, evaluation=both), refuse_slowly) == refused
    assert refusal(replace(LEGAL, evaluation=FILM_EVALUATION), refuse_slowly) == ""
