"""What the stage `train` finds out and says of pretrained weights before the long work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError
from dpo_lab.data.sources import FilePairs
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.quant import FourBit
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.pipeline.real_model import parameters_of, template_notes
from dpo_lab.records import PreferencePair, Prompt
from dpo_lab.stages.train import Train
from tests.models.directories import model_directory
from tests.small_stage import given, pairs_file


def run_of(tmp_path: Path, name: str, **fields: Any) -> Train:
    path = model_directory(tmp_path / name, name)
    model = PretrainedModel(path=str(path), licence="none", adapter=LoRA(rank=2), **fields)
    return given(tmp_path / "out", pairs_file(tmp_path), model=model)


def test_a_broken_model_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    run = run_of(tmp_path, "mistral")
    (tmp_path / "mistral" / "model-00001-of-00004.safetensors").unlink()
    broken = replace(run, data=FilePairs(path=tmp_path / "no_such_file.jsonl"))
    with pytest.raises(ConfigError, match=r"is not complete: 1 of the 4 weight files"):
        broken.run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("base", ["no_such_directory", ""])
def test_a_base_that_is_not_where_the_adapter_says_is_said(tmp_path: Path, base: str) -> None:
    run, adapter = run_of(tmp_path, "mistral"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    save_file({"a": torch.ones(2)}, adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"base_model_name_or_path in .*/adapter/adapter_config.json|names no base: write"):
        replace(run, model=PretrainedModel(path=str(adapter), licence="none", adapter=LoRA(rank=2))).run()


@pytest.mark.parametrize(("name", "said"), [("qwen2", True), ("gpt2", False)])
def test_plain_text_pairs_are_said_to_pass_by_the_models_own_template(tmp_path: Path, name: str, said: bool) -> None:
    path = str(model_directory(tmp_path / name, name))
    turns = Prompt.from_text("Is it good?")
    plain = Prompt.of(turns.messages, rendered=True)
    pairs = [PreferencePair(prompt=prompt, chosen="a", rejected="b") for prompt in (turns, plain, plain)]
    notes = template_notes(ModelOnDisk(path, "base"), pairs)
    line = (
        f"2 of 3 pairs are plain text: the chat template of {path} is not used for them. If a column holds the prompt, "
        "data.columns.text=chat uses it; else write each prompt as turns, "
    )
    assert [note.startswith(line) for note in notes] == [True] * said
    assert template_notes(ModelOnDisk(path, "base"), pairs[:1]) == ()


def test_rows_longer_than_the_model_reads_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, "gpt2")
    assert isinstance(run.data, FilePairs)
    with pytest.raises(
        ConfigError, match=r"data.max_length=1025: gpt2 was made for rows of at most 1024 tokens. Use recipe.max_"
    ):
        replace(run, data=replace(run.data, max_length=1025)).run()
    assert "eval/loss" in replace(run, data=replace(run.data, max_length=1024)).run()


@pytest.mark.parametrize(
    ("name", "attention", "notes"),
    [("llama3", "sdpa, response by response", 0), ("gemma2", "eager", 2)],
)
def test_attention_and_number_format_are_said_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, attention: str, notes: int
) -> None:
    run_of(tmp_path, name, quant=FourBit()).run()
    (path,) = (tmp_path / "out" / "policy").glob(f"*/{MANIFEST}")
    facts = json.loads(path.read_text())["facts"]
    assert facts["attention"] == attention
    assert len(facts["notes"]) == notes
    assert f"  attention {attention}, 4-bit weights, products in float32\n" in capsys.readouterr().out


def test_the_size_of_a_directory_is_counted_and_that_of_a_hub_model_stated(tmp_path: Path) -> None:
    model = run_of(tmp_path, "qwen2", parameters=7).model
    assert parameters_of(model) == 26144
    assert parameters_of(PretrainedModel(path="owner/name", licence="none", parameters=7)) == 7
    assert parameters_of(PretrainedModel(path="owner/name", licence="none")) is None
