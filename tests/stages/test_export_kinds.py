"""The stage `export` on models and adapters of every kind, made without training: what is written is what was held."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dpo_lab.cli.conf import required
from dpo_lab.cli.main import main
from dpo_lab.components import ConfigError
from dpo_lab.export.float32 import computing_in_float32
from dpo_lab.export.settings import ExportSettings
from dpo_lab.export.source import Source
from dpo_lab.export.write import produce
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import load_model, save_model
from dpo_lab.models.quant import EightBit, FourBit, NoQuant
from dpo_lab.models.storage import Storage
from dpo_lab.stages.export import Export
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from tests.models.directories import model_directory

CPU = torch.device("cpu")
SETTINGS = ExportSettings(max_shard_size="20KB")
BOUND = {"fp32": 1e-3, "bf16": 5e-2}
QUANTS = {"none": NoQuant(), "4bit": FourBit(), "8bit": EightBit()}
BOTH = ("embed_tokens", "lm_head")
KINDS: dict[str, tuple[str, LoRA]] = {
    "untied": ("mistral", LoRA(rank=4)),
    "tied": ("qwen2", LoRA(rank=4)),
    "biases": ("qwen2", LoRA(rank=4, rslora=True, dora=True)),
    "turned": ("gpt2", LoRA(rank=4, dora=True)),
    "parallel": ("pythia", LoRA(rank=4)),
    "soft-capped": ("gemma2", LoRA(rank=4)),
    "dora": ("mistral", LoRA(rank=4, dora=True)),
    "rslora": ("llama3", LoRA(rank=4, rslora=True)),
    "untied-both-in-full": ("mistral", LoRA(rank=4, modules_to_save=BOTH)),
    "untied-head-in-full": ("mistral", LoRA(rank=4, modules_to_save=("lm_head",))),
    "tied-embeddings-in-full": ("qwen3", LoRA(rank=4, modules_to_save=("embed_tokens",))),
    "head-adapted": ("mistral", LoRA(rank=4, target_modules=("q_proj", "lm_head"))),
    "embeddings-adapted": ("mistral", LoRA(rank=4, dora=True, target_modules=("q_proj", "embed_tokens"))),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the directory of a small model of a family, in bf16; each is made once."""
    root = tmp_path_factory.mktemp("bases")
    return lambda name: root / name if (root / name).exists() else model_directory(root / name, name)


def moved(policy: nn.Module, size: float = 0.05) -> nn.Module:
    """Let an adapter be as after a training."""
    torch.manual_seed(1)
    for name, weight in policy.named_parameters():
        if weight.requires_grad:
            start = 1.0 if "magnitude" in name else 0.0
            weight.data += size * (weight.data if start else torch.randn_like(weight))
    return policy


def adapter_on(directory: Path, out: Path, adapter: LoRA, storage: Storage) -> Source:
    """Write an adapter on a base that is held in some way; return it as what is exported."""
    loaded = load_model(str(directory), storage)
    out.mkdir(parents=True)
    save_model(moved(adapter.attach(loaded.model, 0)), loaded.tokenizer, out, str(directory))
    return Source(out, "policy", {}, storage, str(directory), lambda: (short_rows(loaded.tokenizer), "short texts"))


def short_rows(tokenizer: Any) -> TokenStore:
    """Return texts that are short, for the rounding to bf16 adds up over tokens."""
    builder = StoreBuilder()
    for text in ("A good answer", "the lazy dog"):
        ids = tokenizer(text)["input_ids"]
        builder.add_response(ids[:1], ids[1:])
    return builder.build()


def written(source: Source, out: Path, dtype: str, settings: ExportSettings = SETTINGS) -> tuple[Any, dict[str, Any]]:
    """Export; return the model as plain transformers loads it, and the facts."""
    out.mkdir()
    facts = produce(settings, source, out, dtype, CPU)
    loaded: Any = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    model, found = loaded
    assert not any(found.values())
    return model, facts


def texts_apart(one: Any, other: Any, tokenizer: Any) -> float:
    """Return how far two models are apart in the log-probability of a text, computed without this project."""
    ids = torch.tensor([tokenizer("A good answer")["input_ids"]])
    with torch.no_grad():
        logps = [each.eval().float()(ids).logits.double().log_softmax(-1)[0, :-1] for each in (one, other)]
    sums = [logp.gather(1, ids[0, 1:, None]).sum() for logp in logps]
    return float((sums[0] - sums[1]).abs())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_and_adapter_is_written_as_it_was(
    base: Callable[[str], Path], tmp_path: Path, kind: str, dtype: str
) -> None:
    name, adapter = KINDS[kind]
    source = adapter_on(base(name), tmp_path / "policy", adapter, Storage())
    plain, facts = written(source, tmp_path / "out", dtype)
    policy = load_model(str(source.path))
    assert texts_apart(plain, policy.model, policy.tokenizer) <= BOUND[dtype]
    assert facts["gap"] <= BOUND[dtype]
    bare = AutoModelForCausalLM.from_pretrained(base(name), dtype=torch.float32)
    assert texts_apart(bare, policy.model, policy.tokenizer) > 5e-3  # the adapter does something


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("kind", ["dora", "turned", "untied-head-in-full"])
def test_a_base_is_merged_into_as_it_was_held(
    base: Callable[[str], Path], tmp_path: Path, kind: str, quant: str, held: torch.dtype
) -> None:
    name, adapter = KINDS[kind]
    if quant == "8bit":
        adapter = replace(adapter, dora=False)  # refused together
    source = adapter_on(base(name), tmp_path / "policy", adapter, Storage(QUANTS[quant], held))
    _, facts = written(source, tmp_path / "out", "fp32")
    assert facts["gap"] <= 1e-3
    if quant != "none" and kind == "dora":
        _, facts = written(source, tmp_path / "original", "fp32", ExportSettings(base="original"))
        assert facts["quantisation_error"]
        assert facts["gap"] > 1e-3


def test_tokens_that_were_added_to_a_base_are_in_the_export(base: Callable[[str], Path], tmp_path: Path) -> None:
    larger = tmp_path / "larger"
    tokenizer = AutoTokenizer.from_pretrained(base("mistral"))
    model = AutoModelForCausalLM.from_pretrained(base("mistral"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>", "<|end|>"]})
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for each in (model, tokenizer):
        each.save_pretrained(larger)
    source = adapter_on(larger, tmp_path / "policy", LoRA(rank=4, modules_to_save=BOTH), Storage())
    plain, _ = written(source, tmp_path / "out", "fp32")
    rows = plain.get_input_embeddings().weight
    assert len(rows) == len(tokenizer)
    policy: Any = load_model(str(source.path)).model
    assert torch.equal(rows, policy.get_input_embeddings().modules_to_save["default"].weight)
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("<tool> a<|end|>")["input_ids"] == tokenizer("<tool> a<|end|>")["input_ids"]


def test_an_adapter_that_plain_peft_made_is_merged_into_its_base_on_disk(
    base: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base("llama2"), dtype=torch.float32)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 2}, init_lora_weights=False, bias="none"
    )
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(str(tmp_path / "adapter"))  # no tokenizer beside it, as peft does it
    words = [f"policy={tmp_path / 'adapter'}", f"paths.outputs={tmp_path / 'out'}"]
    assert main(["export", *words]) == 2
    said = capsys.readouterr().err
    assert "nothing records how its base was held in training" in said
    assert "export.base=original merges into the weights on disk" in said
    assert main(["export", *words, "export.base=original", "export.dtype=fp32"]) == 0
    out = next((tmp_path / "out").glob("export/*/config.json")).parent
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert texts_apart(plain, adapted, AutoTokenizer.from_pretrained(out)) <= 1e-3
    source = AutoTokenizer.from_pretrained(base("llama2"))
    assert AutoTokenizer.from_pretrained(out).chat_template == source.chat_template


def test_files_that_a_vocabulary_was_made_from_go_with_the_policy_and_with_the_export(
    base: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(base("mistral"), whole)
    (whole / "tokenizer.model").write_bytes(b"sentencepiece")
    (whole / "added_tokens.json").write_text("{}")
    source = adapter_on(whole, tmp_path / "policy", LoRA(rank=4), Storage())
    bare = replace(source, path=tmp_path / "bare")  # as an adapter from elsewhere is
    bare.path.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(source.path / name, bare.path / name)
    for at, each in enumerate((source, bare)):
        written(each, tmp_path / f"out{at}", "bf16")
    for out in (source.path, tmp_path / "out0", tmp_path / "out1"):
        assert (out / "tokenizer.model").read_bytes() == b"sentencepiece"
        assert (out / "added_tokens.json").read_text() == "{}"
    settings = json.loads((tmp_path / "out0" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == json.loads((whole / "generation_config.json").read_text())["eos_token_id"]


def test_the_written_tokenizer_names_a_class_that_transformers_4_has_too(base: Callable[[str], Path], tmp_path: Path) -> None:
    source = adapter_on(base("mistral"), tmp_path / "policy", LoRA(rank=4), Storage())
    load_model(str(base("mistral"))).tokenizer.save_pretrained(tmp_path / "library")
    plain = json.loads((tmp_path / "library" / "tokenizer_config.json").read_text())
    assert plain["tokenizer_class"] == "TokenizersBackend"  # which 4 does not know; the test has no point without
    written(source, tmp_path / "out", "bf16")
    about = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert about["tokenizer_class"] == "PreTrainedTokenizerFast"
    one, two = (AutoTokenizer.from_pretrained(path) for path in (base("mistral"), tmp_path / "out"))
    assert one("A good <s> answer")["input_ids"] == two("A good <s> answer")["input_ids"]
    assert (one.bos_token, one.eos_token, one.chat_template) == (two.bos_token, two.eos_token, two.chat_template)


def test_the_written_configuration_has_the_names_of_transformers_4_too(base: Callable[[str], Path], tmp_path: Path) -> None:
    far = tmp_path / "far"
    shutil.copytree(base("llama3"), far)
    about = json.loads((far / "config.json").read_text())
    long = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    long["original_max_position_embeddings"] = 1024
    about["rope_parameters"] = {"rope_theta": 5e5, **long}
    (far / "config.json").write_text(json.dumps(about))
    written(adapter_on(far, tmp_path / "policy", LoRA(rank=4), Storage()), tmp_path / "out", "bf16")
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert found["rope_theta"] == 5e5
    assert found["rope_scaling"] == long
    assert found["torch_dtype"] == "bfloat16"
    assert AutoConfig.from_pretrained(tmp_path / "out").rope_parameters == {"rope_theta": 5e5, **long}


def test_the_weights_of_a_policy_are_as_they_were_after_it_has_computed_in_float32(base: Callable[[str], Path]) -> None:
    model: Any = load_model(str(base("mistral")), Storage(dtype=torch.bfloat16)).model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7, 8]])
    exact = load_model(str(base("mistral"))).model(ids).logits
    assert torch.equal(computing_in_float32(model)(ids).logits, exact)
    assert all(
        weight.dtype == torch.bfloat16 and torch.equal(weight, before[name]) for name, weight in model.state_dict().items()
    )


WRONG = {
    "run={}": "run={}: export reads a directory from policy (WHAT). Write policy={}",
    "model.path={}": "model.path={}: export reads a directory from policy (WHAT). Write policy={}",
    "{}": "{}: export reads a directory from policy (WHAT). Write policy={}",
    "run={}/gone": (
        "run={}/gone: this directory does not exist, and export reads a directory from policy (WHAT). Write policy=DIR"
    ),
}


@pytest.mark.parametrize("word", WRONG)
def test_a_directory_under_another_name_is_answered_with_policy(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", word.format(tmp_path)]) == 2
    said = WRONG[word].replace("{}", str(tmp_path)).replace("WHAT", required("export")["policy"])
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_policy_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a directory"):
        Export(policy=str(tmp_path / "gone"), outputs=tmp_path).run()


def test_dora_begins_as_gpt2_and_as_embeddings_whose_weights_have_a_row_for_each_input(base: Callable[[str], Path]) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    adapters = {"gpt2": LoRA(rank=4, dora=True), "mistral": LoRA(rank=4, dora=True, target_modules=("embed_tokens", "q_proj"))}
    for name, adapter in adapters.items():
        model = load_model(str(base(name))).model
        before = model(ids).logits
        after = adapter.attach(model, 0)(ids).logits
        assert torch.allclose(after, before, atol=1e-5)
