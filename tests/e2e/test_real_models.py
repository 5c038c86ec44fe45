"""The user's command on models in the public layout, small: `python train.py model=mistral7b model.path=DIR quant=4bit`."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.forked import ROOT, Command, finished
from tests.e2e.results import figures
from tests.models.directories import model_directory

SMALL = ["precision=fp32", "quant=4bit", "trainer.batch_size=2", "trainer.token_budget=1024", "optim.lr=1e-2"]
FAMILIES = ("mistral", "llama2", "llama3", "qwen2", "qwen3")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Run:
    """A finished run: where it writes, what was asked, what it said."""

    outputs: Path
    words: tuple[str, ...]
    said: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("mistral", "llama2", "llama3", "qwen2", "qwen3", "gemma2"):
        model_directory(root / name, name)
    return root


@pytest.fixture(scope="module")
def snorkel(shared_data: Path) -> Path:
    path = shared_data / "hub_layout" / "Snorkel-style-PairRM-DPO"
    if not path.is_dir():
        pytest.skip(f"no {path.name} in ../shared/data/hub_layout")
    return path


@pytest.fixture(scope="module")
def sentence(models: Path, snorkel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """What returns the sentence's run of a family, run once."""
    root = tmp_path_factory.mktemp("sentences")

    @cache
    def run(name: str) -> Run:
        words = ("model=mistral7b", f"model.path={models / name}", f"data.path={snorkel}", *SMALL)
        return Run(root / name, words, finish(start(root / name, *words)))

    return run


def start(outputs: Path, *words: str, program: str = "train.py") -> Command:
    return Command(program, *words, f"paths.outputs={outputs}")


def finish(command: Command) -> str:
    said = finished(command)
    assert "Traceback" not in command.error.read_text(encoding="utf-8")
    return said


def policy_of(outputs: Path) -> Path:
    (manifest,) = (outputs / "policy").glob("*/manifest.json")
    return manifest.parent


def generated(model: Any, tokenizer: Any) -> torch.Tensor:
    turns = [{"role": "user", "content": "what is a good answer?"}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), add_special_tokens=False)
    inputs = torch.tensor([ids["input_ids"]])
    with torch.no_grad():
        made: torch.Tensor = model.generate(inputs, max_new_tokens=8, do_sample=False, pad_token_id=0)
    return made[0, inputs.shape[1] :]


def assert_plain_peft_reads(outputs: Path, base: Path) -> None:
    """The policy is an adapter in PEFT's format that names its base, and it says what it was trained to say."""
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = policy_of(outputs)
    assert not list(policy.glob("model*.safetensors"))
    written = json.loads((policy / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["base_model_name_or_path"] == str(base.resolve())
    saved = load_file(policy / "adapter_model.safetensors")
    assert any(float(weight.abs().max()) > 0 for name, weight in saved.items() if "lora_B" in name)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    alone: Any = AutoPeftModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.tensor([tokenizer("the quick brown fox", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        before = plain(ids).logits
        after = alone.eval()(ids).logits
        onto: Any = PeftModel.from_pretrained(plain, str(policy))
        assert torch.equal(onto.eval()(ids).logits, after)
    assert float((after - before).abs().max()) > 1e-3
    assert len(generated(alone, tokenizer)) > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_the_sentence_for_a_7b_trains_evaluates_and_saves_an_adapter(
    models: Path, sentence: Callable[[str], Run], name: str
) -> None:
    run = sentence(name)
    assert "10 rows, 9 pairs" in run.said
    assert "attention sdpa, response by response, 4-bit weights, products in float32" in run.said
    assert "layout=" not in run.said
    summary = figures(run.outputs)
    assert summary["eval/pairs"] == 2
    assert summary["eval/loss/before"] == pytest.approx(0.693147, abs=1e-5)
    assert summary["eval/loss"] != summary["eval/loss/before"]
    assert_plain_peft_reads(run.outputs, models / name)


def test_the_sentence_again_returns_the_finished_run(sentence: Callable[[str], Run]) -> None:
    run = sentence("mistral")
    assert "this run was finished before" in finish(start(run.outputs, *run.words))


@pytest.mark.parametrize("name", ["mistral", "qwen2"])  # head and embeddings are two weights, or one
def test_what_the_sentence_made_is_exported_as_one_plain_model(sentence: Callable[[str], Run], name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outputs = sentence(name).outputs
    (summary,) = (outputs / "train").glob("*/summary.json")
    words = (f"policy={summary.parent}", "export.dtype=fp32", "export.max_shard_size=50KB")
    said = finish(start(outputs, *words, program="scripts/export.py"))
    (manifest,) = (outputs / "export").glob("*/manifest.json")
    facts = json.loads(manifest.read_text(encoding="utf-8"))["facts"]
    assert facts["gap"] <= 1e-3
    assert facts["rows"].endswith("held-out rows")
    assert f"policy {policy_of(outputs)}" in " ".join(said.split())
    loaded: Any = AutoModelForCausalLM.from_pretrained(manifest.parent, output_loading_info=True)
    plain, found = loaded
    assert not any(found.values())
    assert len(generated(plain, AutoTokenizer.from_pretrained(manifest.parent))) > 0


def test_the_sentence_with_your_own_pairs(models: Path, tmp_path: Path) -> None:
    pairs = ROOT / "docs" / "example_pairs.jsonl"
    words = ["model=mistral7b", f"model.path={models / 'mistral'}", "data=jsonl", f"data.path={pairs}", *SMALL]
    finish(start(tmp_path / "out", *words))
    summary = figures(tmp_path / "out")
    assert summary["eval/loss"] != summary["eval/loss/before"] == pytest.approx(0.693147, abs=1e-5)
    assert_plain_peft_reads(tmp_path / "out", models / "mistral")


def test_soft_capped_attention_gets_padded_rows_and_the_models_own_logits(models: Path, snorkel: Path, tmp_path: Path) -> None:
    words = ["model=gemma2_2b", f"model.path={models / 'gemma2'}", "data=snorkel", f"data.path={snorkel}", *SMALL]
    out = finish(start(tmp_path / "out", *words))
    assert "  answers end with <end_of_turn>, which the chat template writes, not with <eos>\n" in out
    assert "  this model caps or scales its logits: they are taken from the model, not from its head alone\n" in out
    assert "  layout=prefix does not suit this model (its attention is soft-capped); layout=padded is used\n" in out
    assert "  attention eager, 4-bit weights, products in float32\n" in out
    assert_plain_peft_reads(tmp_path / "out", models / "gemma2")


def test_an_adapter_on_a_4_bit_base_goes_on_after_a_kill_to_the_same_bits(models: Path, snorkel: Path, tmp_path: Path) -> None:
    words = ["model=mistral7b", f"model.path={models / 'mistral'}", f"data.path={snorkel}", *SMALL]
    words += ["trainer.epochs=8", "callbacks.checkpoint.every=3"]
    finish(start(tmp_path / "one", *words))
    command = start(tmp_path / "two", *words)
    command.stop_when(lambda: any((tmp_path / "two" / "policy").glob("*/checkpoints/step_*.ckpt")))
    assert command.returncode == -signal.SIGKILL
    assert "DPO round 1 resumes after step" in finish(start(tmp_path / "two", *words))
    one, two = ((policy_of(tmp_path / name) / "adapter_model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert figures(tmp_path / "one") == figures(tmp_path / "two")


def test_a_half_downloaded_model_ends_the_run_in_one_line_before_the_data(models: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models / "mistral", broken)
    (broken / "model-00003-of-00004.safetensors").unlink()
    process = start(tmp_path / "out", "model=mistral7b", f"model.path={broken}", "data.path=no/data", *SMALL)
    _, error = process.communicate()
    assert process.returncode == 2
    (line,) = [line for line in error.splitlines() if line]
    assert line.startswith(f"error: model.path={broken} is not complete: 1 of the 4 weight files")
    assert not (tmp_path / "out").exists()
