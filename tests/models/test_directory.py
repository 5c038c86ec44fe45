"""Directories of models: what is wrong with one is said in one line, before anything is loaded."""

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpo_lab.components import ConfigError
from dpo_lab.models.directory import base_of, parameters_in, positions_in, refuse_unusable_adapter
from dpo_lab.models.hub import LOCAL_AGAIN, checked
from dpo_lab.models.load import load_model
from dpo_lab.models.spec import PretrainedModel
from tests.models.directories import index_of, model_directory

FAMILIES = {"mistral": 32768, "llama2": 4096, "llama3": 8192, "qwen2": 32768, "qwen3": 40960, "gemma2": 8192, "gpt2": 1024}
FAMILIES["pythia"] = 2048


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return model_directory(tmp_path / "model", "mistral")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_directory_tells_its_weights_and_positions_and_loads_in_full(tmp_path: Path, name: str) -> None:
    path = model_directory(tmp_path / name, name)
    assert len(set(index_of(path)["weight_map"].values())) > 2
    assert checked(str(path)) == path
    loaded: Any = load_model(str(path)).model
    assert parameters_in(path) == sum(weight.numel() for weight in loaded.parameters())  # tied weights are one
    assert positions_in(path) == FAMILIES[name]
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}  # asked for, not the files' bfloat16
    saved = {key: value for file in path.glob("*.safetensors") for key, value in load_file(file).items()}
    state = {**loaded.state_dict(), "embed_out.weight": loaded.get_output_embeddings().weight}  # its name in Pythia's files
    assert all(torch.equal(state[key], value.float()) for key, value in saved.items())


@pytest.mark.parametrize(("name", "tied"), [("mistral", False), ("qwen2", True), ("gpt2", True)])
def test_head_and_embedding_are_one_where_the_configuration_says_so(tmp_path: Path, name: str, tied: bool) -> None:
    model: Any = load_model(str(model_directory(tmp_path / name, name))).model
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) is tied


def shard(directory: Path) -> Path:
    return directory / "model-00002-of-00004.safetensors"


def cut(directory: Path) -> None:
    shard(directory).write_bytes(shard(directory).read_bytes()[:-10])


def only_pickle(directory: Path) -> None:
    for path in directory.glob("model*"):
        path.unlink()
    (directory / "pytorch_model.bin").write_bytes(b"x")


def without_weights(directory: Path) -> None:
    for path in directory.glob("model*"):
        path.unlink()


def without_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (
        lambda path: (path / "config.json").unlink(),
        "holds no model: config.json is not there.*Copy or download it again",
    ),
    "quantised": (
        lambda path: (path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}'),
        r"quantised already .gptq, config.json.. Use the model that they were made from; quant=4bit",
    ),
    "cut tokenizer": (lambda path: (path / "tokenizer.json").write_text('{"a": '), r"tokenizer.json is not JSON .* cut off"),
    "tokenizer pointer": (
        lambda path: (path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1"),
        "tokenizer.json is a Git LFS pointer",
    ),
    "cut config": (lambda path: (path / "config.json").write_text('{"a": '), r"config.json is not JSON .* cut off"),
    "list": (lambda path: (path / "config.json").write_text("[]"), "holds no JSON object"),
    "own code": (lambda path: (path / "config.json").write_text('{"auto_map": {}}'), "never run .trust_remote_code=false"),
    "own code of an unknown kind": (
        lambda path: (path / "config.json").write_text('{"auto_map": {}, "model_type": "mine"}'),
        "never run .trust_remote_code=false",
    ),
    "encoder": (
        lambda path: (path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}'),
        r"is an encoder with a decoder .t5., no causal language model",
    ),
    "no tokenizer": (without_tokenizer, "has no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json"),
    "missing shard": (
        lambda path: shard(path).unlink(),
        r"is not complete: 1 of the 4 weight files .* is missing .model-00002-of-00004.safetensors.. Copy or download it again",
    ),
    "cut shard": (cut, r"model-00002-of-00004.safetensors is not whole: it has \d+ bytes and its header speaks of \d+"),
    "no header": (lambda path: shard(path).write_bytes(b"<html>"), "is not a safetensors file: it was cut off or changed"),
    "cut header": (lambda path: shard(path).write_bytes(struct.pack("<Q", 500) + b"{"), "is not a safetensors file"),
    "pointer": (
        lambda path: shard(path).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"),
        "is a Git LFS pointer, not the file itself. Run `git lfs pull`",
    ),
    "pickle": (only_pickle, r"pytorch_model.bin, a pickle.* convert it once: python -c"),
    "no weights": (without_weights, "has no weights: neither model.safetensors nor model.safetensors.index.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_directory_is_said_in_one_line(directory: Path, fault: str) -> None:
    spoil, said = FAULTS[fault]
    spoil(directory)
    with pytest.raises(ConfigError, match=said) as caught:
        checked(str(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_pickle_is_converted_by_the_command_that_is_named(directory: Path) -> None:
    weights = {key: value for file in directory.glob("*.safetensors") for key, value in load_file(file).items()}
    for path in directory.glob("model*"):
        path.unlink()
    torch.save(weights, directory / "pytorch_model.bin")
    with pytest.raises(ConfigError) as caught:
        checked(str(directory))
    (program,) = re.findall(r'python -c "(.*)"', str(caught.value))
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    checked(str(directory))
    assert torch.equal(load_file(directory / "model.safetensors")["lm_head.weight"], weights["lm_head.weight"])


def test_weights_that_no_file_holds_are_not_started_random(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = index_of(directory)["weight_map"]["lm_head.weight"]
    kept = {key: value for key, value in load_file(directory / name).items() if key != "lm_head.weight"}
    save_file(kept, directory / name, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 of the model's weights are in none of its files, lm_head.weight for instance"):
        load_model(str(directory))
    assert capfd.readouterr() == ("", "")


def test_weights_of_another_shape_are_said_in_one_line_alone(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(ConfigError, match=r"no model could be loaded from it .RuntimeError: .*mismatch") as caught:
        load_model(str(directory))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has an adapter's configuration and no adapter_model.safetensors"):
        refuse_unusable_adapter(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    refuse_unusable_adapter(tmp_path)


def test_a_file_of_several_parts_in_an_index_is_read_once(directory: Path) -> None:
    index = index_of(directory)
    assert len(index["weight_map"]) > len(set(index["weight_map"].values()))
    sizes = [path.stat().st_size for path in directory.glob("*.safetensors")]
    assert index["metadata"]["total_size"] == 2 * parameters_in(directory) < sum(sizes)


def test_the_remedy_for_a_copy_is_to_copy_again(directory: Path) -> None:
    shard(directory).unlink()
    with pytest.raises(ConfigError) as caught:
        checked(str(directory))
    assert str(caught.value).endswith(LOCAL_AGAIN)


def test_a_base_that_changes_below_an_adapter_is_another_model(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    (base / "model.safetensors").write_bytes(b"before")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    spec = PretrainedModel(path=str(adapter), licence="none")
    before = spec.content()
    assert spec.content() == before
    (base / "model.safetensors").write_bytes(b"longer than before")
    assert spec.content() != before


@pytest.mark.parametrize(("found", "beside"), [("abcd1234ef", True), ("ffff1234ef", False)])
def test_a_directory_beside_an_adapter_is_its_base_only_under_the_id_of_its_name(
    tmp_path: Path, found: str, beside: bool
) -> None:
    place, adapter = tmp_path / "model" / "base-abcd1234", tmp_path / "policy" / "p"
    for directory in (place, adapter):
        directory.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"id": found}))
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/model/base-abcd1234"}))
    assert base_of(str(adapter)) == (str(place) if beside else "/gone/model/base-abcd1234")


def test_a_run_is_answered_with_its_trained_model(tmp_path: Path) -> None:
    run = tmp_path / "outputs" / "train" / "tiny-dpo"
    policy = tmp_path / "outputs" / "policy" / "second"
    for place in (run, policy):
        place.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    lineage = [{"kind": "policy", "name": name, "path": f"/moved/{name}"} for name in ("first", "second")]
    (run / "run.json").write_text(json.dumps({"lineage": lineage}))
    with pytest.raises(ConfigError, match=re.escape(f"model.path={run} is a run. Write its trained model: model.path={policy}")):
        checked(str(run))
    (run / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is a run that is not finished. Run its command again"):
        checked(str(run))


def test_a_directory_of_checkpoints_is_answered_with_the_last_one(tmp_path: Path) -> None:
    for name in ("checkpoint-100", "checkpoint-200"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=rf"holds no model itself. Write model.path={tmp_path}/checkpoint-200"):
        checked(str(tmp_path))
