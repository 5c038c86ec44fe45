"""What stands beside the weights of a policy and of an export: where answers end, and what others read."""

import copy
import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.dataclasses import strict
from peft import AutoPeftModelForCausalLM
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3TextConfig,
    GenerationConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LogitsProcessor,
    PhiConfig,
    PreTrainedConfig,
)

from dpo_lab.export.settings import ExportSettings
from dpo_lab.export.source import Source, source_of
from dpo_lab.export.write import produce
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.ends import ends_of
from dpo_lab.models.load import load_model, save_model
from dpo_lab.models.storage import Storage
from dpo_lab.models.write import takes, with_older_names
from dpo_lab.sampling.hf import HFSampler
from tests.models.directories import model_directory

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cases" / "models.py"
SAMPLING = {"do_sample": True, "temperature": 0.3, "top_k": 2, "repetition_penalty": 1.4}
KINDS = ("full", "lora", "merged")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that gives the directory of a family; each is made once."""
    root = tmp_path_factory.mktemp("bases")
    return lambda name: root / name if (root / name).exists() else model_directory(root / name, name)


def with_ends(base: Path, out: Path, config: Any, generation: Any) -> Path:
    """Copy a base; name these end tokens in its two files, or leave out a file of generation settings."""
    shutil.copytree(base, out)
    about = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**about, "eos_token_id": config, "attention_dropout": 0.125}))
    if generation == "absent":
        (out / "generation_config.json").unlink()
    else:
        (out / "generation_config.json").write_text(json.dumps({**SAMPLING, "eos_token_id": generation}))
    return out


def saved(base: Path, out: Path, kind: str) -> Path:
    """Write a base as the policy of a full training, as one with an adapter, or that one merged by `export`."""
    loaded = load_model(str(base))
    policy: Any = (NoAdapter() if kind == "full" else LoRA(rank=2)).attach(loaded.model, 0)
    (out / "policy").mkdir(parents=True)
    save_model(policy, loaded.tokenizer, out / "policy", str(base))
    if kind != "merged":
        return out / "policy"
    (out / "export").mkdir()
    source = Source(out / "policy", "policy", {}, Storage(), str(base), source_of(str(out / "policy")).rows)
    produce(ExportSettings(), source, out / "export", "fp32", torch.device("cpu"))
    return out / "export"


class Written(LogitsProcessor):
    """Leaves one token at each step: those given, then the last of them for ever."""

    def __init__(self, start: int, tokens: list[int]) -> None:
        self.start, self.tokens = start, tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        at = min(input_ids.shape[1] - self.start, len(self.tokens) - 1)
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([self.tokens[at]]), 0.0)


def generated(directory: Path, kind: str, tokens: list[int]) -> list[int]:
    """Return what plain generate() makes of the model of a directory that would write these tokens and continue."""
    kinds: Any = {"lora": AutoPeftModelForCausalLM}
    model = kinds.get(kind, AutoModelForCausalLM).from_pretrained(directory)
    if kind == "lora":
        model.generation_config = GenerationConfig.from_pretrained(directory)
    prompt = torch.tensor([[11, 12]])
    made = model.generate(input_ids=prompt, max_new_tokens=8, logits_processor=[Written(2, tokens)])
    return [int(token) for token in made[0, 2:]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "config", "generation"),
    [
        ("gemma2", 1, 1),  # trained to end at <end_of_turn>
        ("gemma2", [1, 9], [1, 8]),
        ("qwen2", 320, "absent"),
        ("qwen2", None, "absent"),
        ("llama3", None, None),
    ],
)
def test_a_saved_model_ends_where_it_was_trained_to_end(
    bases: Any, tmp_path: Path, name: str, config: Any, generation: Any, kind: str
) -> None:
    base = with_ends(bases(name), tmp_path / "base", config, generation)
    directory = saved(base, tmp_path, kind)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    trained = load_model(str(base)).tokenizer.eos_token_id
    assert tokenizer.eos_token_id == trained
    ends = [trained]
    named_by_tokenizer = AutoTokenizer.from_pretrained(base).eos_token_id  # Gemma's says <eos>, and its template another one
    for each in (config, None if generation == "absent" else generation, named_by_tokenizer):
        ends += [token for token in (each if isinstance(each, list) else [each]) if token and token not in ends]
    settings = json.loads((directory / "generation_config.json").read_text())
    assert settings.pop("eos_token_id") == (ends if ends[1:] else trained)
    if generation != "absent":
        assert settings == SAMPLING
    assert "_from_model_config" not in settings  # version 4 would take the end of the configuration instead
    if kind != "lora":
        assert json.loads((directory / "config.json").read_text())["eos_token_id"] == (ends if ends[1:] else trained)
    for end in ends:
        assert generated(directory, kind, [20, 21, end, 22]) == [20, 21, end]
    assert generated(directory, kind, [20, 21, 22]) == [20, 21, *[22] * 6]


def always_2(module: Any, inputs: Any, out: Any) -> None:
    """Let a model say that token 2 follows."""
    out.logits = torch.full_like(out.logits, -torch.inf).index_fill(-1, torch.tensor([2]), 0.0)


def test_an_end_that_the_tokenizer_alone_names_ends_sampling_and_is_kept_in_all_that_is_written(
    bases: Any, tmp_path: Path
) -> None:
    base = with_ends(bases("gemma2"), tmp_path / "base", 5, 5)  # <end_of_turn>; <eos>, 2, stands in tokenizer_config.json alone
    assert AutoTokenizer.from_pretrained(base).eos_token_id == 2
    loaded: Any = load_model(str(base))
    loaded.model.register_forward_hook(always_2)
    (answers,) = HFSampler(max_new_tokens=8, num_samples=2).of(loaded.model, loaded.tokenizer).draw([[11, 12]], 0)
    assert [answer.ids.tolist() for answer in answers] == [[2], [2]]
    for kind in KINDS:
        directory = saved(base, tmp_path / kind, kind)
        again = load_model(str(directory))
        assert ends_of(again.tokenizer, again.model) == [5, 2]
        assert json.loads((directory / "generation_config.json").read_text())["eos_token_id"] == [5, 2]


def test_the_text_model_inside_a_configuration_names_ends_too() -> None:
    whole = Gemma3Config(text_config=Gemma3TextConfig(eos_token_id=[1, 106]).to_dict())
    assert ends_of(SimpleNamespace(eos_token_id=1), SimpleNamespace(config=whole)) == [1, 106]


@pytest.mark.parametrize("kind", ["full", "merged"])
def test_the_configuration_is_that_of_the_base_with_the_same_class_and_dropout(bases: Any, tmp_path: Path, kind: str) -> None:
    base = with_ends(bases("mistral"), tmp_path / "base", 2, 2)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "of_its_own.Config"}}))
    written = json.loads((saved(base, tmp_path, kind) / "config.json").read_text())
    assert "auto_map" not in written
    assert (written.pop("dtype"), written.pop("torch_dtype"), config.pop("dtype")) == ("float32", "float32", "bfloat16")
    added = {"rope_theta": 10000.0, "rope_scaling": None}
    assert written == {**config, **added, "attention_dropout": 0.125, "tie_word_embeddings": False}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif(not CASES.exists(), reason="the handed cases are not there")
def test_the_handed_chatml_model_ends_at_its_turn(tmp_path: Path, kind: str) -> None:
    runpy.run_path(str(CASES))["MODELS"]["chatml"](tmp_path / "chatml")
    directory = saved(tmp_path / "chatml", tmp_path, kind)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    end, before = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "</s>"))
    assert tokenizer.eos_token_id == end
    assert generated(directory, kind, [20, 21, end, 22]) == [20, 21, end]
    settings = json.loads((directory / "generation_config.json").read_text())
    assert settings == {**json.loads((tmp_path / "chatml" / "generation_config.json").read_text()), "eos_token_id": [end, before]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_directory_is_named_as_version_4_reads_it(bases: Any, tmp_path: Path, kind: str) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases("llama3"), base)
    about = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**about, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}))
    (base / "tokenizer.model").write_bytes(b"pieces")
    directory = saved(base, tmp_path, kind)
    assert json.loads((directory / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (directory / "tokenizer.model").read_bytes() == b"pieces"
    if kind == "lora":
        assert not (directory / "config.json").exists()  # the base has it, and plain peft takes it from there
    else:
        assert json.loads((directory / "config.json").read_text())["rope_theta"] == 1e6
        assert AutoConfig.from_pretrained(directory).rope_parameters["rope_theta"] == 1e6


def test_a_base_that_is_gone_costs_no_training(bases: Any, tmp_path: Path) -> None:
    loaded = load_model(str(shutil.copytree(bases("gemma2"), tmp_path / "base")))
    shutil.rmtree(tmp_path / "base")
    (tmp_path / "policy").mkdir()
    save_model(loaded.model, loaded.tokenizer, tmp_path / "policy", str(tmp_path / "base"))
    again: Any = load_model(str(tmp_path / "policy"))
    assert again.model.config.eos_token_id == [5, 1, 2]
    assert again.tokenizer.eos_token_id == 5


BASE = {"rope_type": "default", "rope_theta": 3e6}
NEAR = {"rope_type": "default", "rope_theta": 3e4}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("config", "rotary", "added"),
    [
        (LlamaConfig(), BASE, {"rope_theta": 3e6, "rope_scaling": None}),
        (LlamaConfig(), {**YARN, "rope_theta": 3e6}, {"rope_theta": 3e6, "rope_scaling": YARN}),
        (
            PhiConfig(),
            {**BASE, "partial_rotary_factor": 0.25},
            {"rope_theta": 3e6, "partial_rotary_factor": 0.25, "rope_scaling": None},
        ),
        (
            GPTNeoXConfig(),
            {**BASE, "partial_rotary_factor": 1.0},
            {"rotary_emb_base": 3e6, "rotary_pct": 1.0, "rope_scaling": None},
        ),
        (
            Gemma3TextConfig(),
            {"full_attention": BASE, "sliding_attention": NEAR},
            {"rope_theta": 3e6, "rope_local_base_freq": 3e4, "rope_scaling": None},
        ),
    ],
)
def test_rotary_positions_stand_under_the_names_of_version_4_too(
    config: Any, rotary: dict[str, Any], added: dict[str, Any]
) -> None:
    about = {"model_type": config.model_type, "rope_parameters": rotary}
    written = with_older_names(about, config)
    assert written == {**about, **added}
    assert with_older_names(written, config) == written
    one, two = (type(config).from_dict(copy.deepcopy(each)).rope_parameters for each in (written, about))
    assert one == two


def test_the_text_model_within_a_configuration_is_named_so_too() -> None:
    config = Gemma3Config()
    about = {"model_type": "gemma3", "text_config": {"rope_parameters": {"full_attention": BASE, "sliding_attention": NEAR}}}
    assert with_older_names(about, config)["text_config"]["rope_theta"] == 3e6


def test_a_file_that_version_4_wrote_stays_as_it_is() -> None:
    about = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert with_older_names(about, LlamaConfig()) == about


def test_a_model_that_would_read_the_older_names_otherwise_does_not_get_them() -> None:
    class Newer:
        """Takes the older name alone, as some that came with version 5 do."""

        def __init__(self, rope_parameters: Any) -> None:
            self.rope_parameters = rope_parameters

        @classmethod
        def from_dict(cls, about: dict[str, Any]) -> "Newer":
            return cls(about["rope_scaling"] if "rope_scaling" in about else about["rope_parameters"])

    assert with_older_names({"rope_parameters": BASE}, Newer(BASE)) == {"rope_parameters": BASE}


def test_a_class_that_is_declared_to_have_one_end_token_gets_the_trained_one() -> None:
    @strict
    class OneEnd(PreTrainedConfig):
        model_type = "one_end"
        eos_token_id: int | None = 2

    assert takes(OneEnd(), [7])
    assert not takes(OneEnd(), [7, 2])
    assert takes(LlamaConfig(), [7, 2])
