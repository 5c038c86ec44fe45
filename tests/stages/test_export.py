"""The stage `export`: the written model is the policy, or nothing is written."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError, RunError
from dpo_lab.export import write as export_write
from dpo_lab.export.merged import files_groups
from dpo_lab.export.settings import ExportSettings
from dpo_lab.export.source import source_of
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.load import load_model
from dpo_lab.models.quant import EightBit, FourBit, NoQuant, Quant
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.stages.export import Export
from dpo_lab.training.optim import AdamW
from tests.small_stage import MODEL, given, pairs_file

QUANTS: dict[str, Quant] = {"none": NoQuant(), "4bit": FourBit(), "4bit-single": FourBit(double=False), "8bit": EightBit()}
RUNS: dict[str, dict[str, Any]] = {
    **{name: {"quant": quant} for name, quant in QUANTS.items()},
    "dora-4bit": {"quant": FourBit(), "adapter": LoRA(rank=4, dora=True)},
    "rslora": {"adapter": LoRA(rank=4, rslora=True)},
    "head": {"adapter": LoRA(rank=4, modules_to_save=("lm_head",))},
    "head-4bit": {"quant": FourBit(), "adapter": LoRA(rank=4, modules_to_save=("lm_head",))},
    "full": {"adapter": NoAdapter()},
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def runs(outputs: Path) -> Any:
    """Return a function that gives the directory of a finished run; each is made once."""
    made: dict[str, Path] = {}
    pairs = pairs_file(outputs)

    def run(name: str) -> Path:
        if name not in made:
            model = replace(MODEL, **{"adapter": LoRA(rank=4), **RUNS[name]})
            before = set(outputs.glob("train/*"))
            given(outputs, pairs, model=model, optim=AdamW(lr=1e-2)).run()
            (made[name],) = {path for path in outputs.glob("train/*") if path.is_dir()} - before
        return made[name]

    return run


def exported(outputs: Path, policy: Path, **settings: Any) -> tuple[Path, dict[str, Any]]:
    """Return directory and facts of an export."""
    settings = {"max_shard_size": "100KB", **settings}
    before = {path: path.stat().st_mtime_ns for path in outputs.glob(f"export/*/{MANIFEST}")}
    facts = Export(policy=str(policy), outputs=outputs, force=True, export=ExportSettings(**settings)).run()
    new = [path for path in outputs.glob(f"export/*/{MANIFEST}") if before.get(path) != path.stat().st_mtime_ns]
    return new[0].parent, facts


def greedy(model: nn.Module, ids: torch.Tensor) -> list[int]:
    generate: Any = model.eval().generate
    made = generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    return [int(token) for token in made[0]]


@pytest.mark.parametrize("name", RUNS)
def test_plain_transformers_loads_what_the_policy_is(outputs: Path, runs: Any, name: str) -> None:
    directory, facts = exported(outputs, runs(name))
    assert facts["gap"] <= 1e-3
    assert facts["rows"].endswith("held-out rows")
    assert facts["files"] > 1
    config = json.loads((directory / "config.json").read_text())
    assert "quantization_config" not in config
    loaded: Any = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    plain, found = loaded
    assert not found["missing_keys"]
    assert plain.dtype == torch.float32
    assert config["tie_word_embeddings"]
    source = source_of(str(runs(name)))
    assert source.storage is not None
    policy = load_model(str(source.path), source.storage)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.chat_template == policy.tokenizer.chat_template
    text = tokenizer.apply_chat_template([{"role": "user", "content": "question 3?"}], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert greedy(plain, ids) == greedy(policy.model, ids)
    assert len(set(greedy(plain, ids))) > 3


@pytest.mark.parametrize("name", ["4bit", "8bit"])
def test_the_original_weights_are_another_model_and_the_gap_is_said_to_be_quantisation_error(
    outputs: Path, runs: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, facts = exported(outputs, runs(name), base="original")
    assert facts["gap"] > 1e-3
    assert facts["tolerance"] is None
    said = " ".join(capsys.readouterr().out.split())
    assert "quantisation error" in said
    assert f"{facts['gap']:.2g} nats" in said


def test_the_original_weights_of_an_unquantised_base_are_what_it_was_trained_on(outputs: Path, runs: Any) -> None:
    _, facts = exported(outputs, runs("none"), base="original")
    assert facts["gap"] <= 1e-4
    assert facts["quantisation_error"] is False


@pytest.mark.parametrize("name", ["none", "4bit", "dora-4bit"])
def test_bf16_is_rounded_once(outputs: Path, runs: Any, name: str) -> None:
    directory, facts = exported(outputs, runs(name), dtype="bf16")
    whole, _ = exported(outputs, runs(name), dtype="fp32")
    assert 0 < facts["gap"] <= 5e-2
    model, exact = (AutoModelForCausalLM.from_pretrained(path) for path in (directory, whole))
    assert model.dtype == torch.bfloat16
    other = dict(exact.named_parameters())
    assert all(torch.equal(weight, other[key].bfloat16()) for key, weight in model.named_parameters())


def test_a_base_in_bf16_is_written_in_bf16_and_merged_without_its_rounding(outputs: Path, tmp_path: Path, runs: Any) -> None:
    half, _ = exported(outputs, runs("full"), dtype="bf16")
    model = PretrainedModel(
        path=str(half), licence="none", dtype="bf16", quant=FourBit(), adapter=LoRA(rank=4, modules_to_save=("embed_tokens",))
    )
    given(tmp_path, pairs_file(tmp_path), model=model, optim=AdamW(lr=1e-2)).run()
    (run,) = (path for path in tmp_path.glob("train/*") if path.is_dir())
    _, facts = exported(tmp_path, run)
    assert facts["dtype"] == "bf16"
    _, facts = exported(tmp_path, run, dtype="fp32")
    assert facts["gap"] <= 1e-3


def forget_scale(layer: Any, adapter: str) -> torch.Tensor:
    weight: torch.Tensor = layer.lora_B[adapter].weight @ layer.lora_A[adapter].weight
    return weight


def test_a_merge_that_forgets_the_scale_is_refused_and_leaves_nothing(
    outputs: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = source_of(str(runs("4bit"))).path
    monkeypatch.setattr(Linear, "get_delta_weight", forget_scale)
    for dtype in ("fp32", "bf16"):
        settings = ExportSettings(dtype=dtype)
        with pytest.raises(RunError, match=r"nats per sequence away from the policy .* nothing was kept"):
            Export(policy=str(policy), outputs=tmp_path, export=settings).run()
    assert [path for path in tmp_path.glob("export/*/*") if path.is_file()] == []


def test_a_merge_into_packed_weights_is_refused(
    outputs: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed(model: Any, dtype: torch.dtype) -> Iterator[dict[str, torch.Tensor]]:
        merged = model.merge_and_unload()  # into the 4-bit layers, as peft does it
        yield {name: weight.to(dtype) for name, weight in merged.dequantize().named_parameters()}

    monkeypatch.setattr(export_write, "files_groups", packed)
    with pytest.raises(RunError, match="away from the policy"):
        Export(policy=str(runs("4bit")), outputs=tmp_path).run()


class Killed(BaseException):
    """Stands in for a kill."""


def test_an_export_that_is_killed_is_not_finished_and_does_not_load(
    outputs: Path, tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files_groups

    def first_then_killed(model: Any, dtype: torch.dtype) -> Iterator[dict[str, torch.Tensor]]:
        for at, group in enumerate(real(model, dtype)):
            if at == 2:
                raise Killed
            yield group

    monkeypatch.setattr(export_write, "files_groups", first_then_killed)
    export = Export(policy=str(runs("none")), outputs=tmp_path, export=ExportSettings(max_shard_size="10KB"))
    with pytest.raises(Killed):
        export.run()
    (left,) = {path.parent for path in tmp_path.glob("export/*/*")}
    assert any(left.iterdir())
    assert not (left / MANIFEST).exists()
    assert not (left / "config.json").exists()
    monkeypatch.undo()
    export.run()
    assert (left / MANIFEST).exists()
    assert not list(left.glob(".*.tmp"))
    monkeypatch.setattr(export_write, "files_groups", first_then_killed)
    export.run()  # finished: returned at once


def test_an_adapter_of_which_nothing_says_how_its_base_was_held_is_merged_into_the_original_alone(
    outputs: Path, tmp_path: Path, runs: Any
) -> None:
    policy = source_of(str(runs("none"))).path
    other = tmp_path / "adapter"
    other.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (other / name).write_bytes((policy / name).read_bytes())
    with pytest.raises(ConfigError, match=r"nothing records how its base was held.*export\.base=original"):
        Export(policy=str(other), outputs=tmp_path).run()
    directory, facts = exported(tmp_path, other, base="original")
    assert facts["gap"] <= 1e-4
    assert facts["rows"] == "4 fixed texts"
    whole, _ = exported(outputs, runs("none"))
    one, two = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (directory, whole))
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())


def test_a_policy_of_a_run_that_is_named_by_its_own_directory_is_checked_on_the_rows_of_its_training(
    outputs: Path, runs: Any
) -> None:
    _, facts = exported(outputs, source_of(str(runs("none"))).path)
    assert facts["rows"].endswith("rows of the training")


def test_what_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model"):
        Export(policy=str(tmp_path), outputs=tmp_path).run()
