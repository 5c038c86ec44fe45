"""What the stage `train` finds out and says of pretrained weights before the long work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError
from dpo_lab.data.sources import FilePairs
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.quant import FourBit
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.none import NoReference
from dpo_lab.stages import real_model
from dpo_lab.stages.real_model import cpu_hours, parameters_of, slow_note
from dpo_lab.stages.train import Train
from dpo_lab.tokens.store import TokenStore
from tests.models.directories import model_directory
from tests.small_stage import given, pairs_file, stage


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


def test_hours_are_operations_over_the_share_of_the_rate_that_is_reached() -> None:
    # 2 * 1e9 weights * 3.6e6 tokens * 3 passes = 2.16e16 operations; 0.6 * 1e10 per second: 3.6e6 seconds
    assert cpu_hours(1_000_000_000, 3_600_000, 3, flops=1e10) == pytest.approx(1000.0)


def test_a_large_model_without_a_gpu_is_said_to_take_hours(
    tmp_path: Path, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_model, "matrix_rate", lambda: 1e9)
    large = PretrainedModel(path="owner/name", licence="none", parameters=7_000_000_000, adapter=LoRA())
    run = stage(tmp_path, model=large)
    tokens = run.layout.num_tokens(store, range(store.num_responses)) / store.num_pairs
    hours = round(cpu_hours(7_000_000_000, 1000 * tokens, 3, flops=1e9))
    said = slow_note(run, store)
    assert said == f"7.0 B weights and no GPU: works, about {hours} hours per 1000 pairs here; try model=smollm2_135m"
    in_full = slow_note(replace(run, model=replace(large, adapter=NoAdapter()), reference=NoReference()), store)
    assert in_full == said  # one pass more over the weights, one less for the reference
    assert slow_note(replace(run, model=replace(large, parameters=999_999_999)), store) == ""
    assert slow_note(stage(tmp_path), store) == ""
