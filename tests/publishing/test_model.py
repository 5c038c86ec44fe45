"""A published model: peft and transformers read it, and its card says what the run found and nothing of this machine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError
from dpo_lab.conf_files import CONF
from dpo_lab.publishing.licences import Part, licences_of, parts_in
from dpo_lab.publishing.model import base_on_hub
from dpo_lab.publishing.model_card import model_card, rounds_of
from dpo_lab.publishing.source import Source, source_at
from dpo_lab.run_directory import RunDirectory
from dpo_lab.stages.export import Export
from dpo_lab.stages.publish import Publish
from tests.small_stage import given, pairs_file, with_lora

LICENCE = {"licence": "apache-2.0"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run that trained an adapter."""
    outputs = tmp_path_factory.mktemp("outputs")
    given(outputs, pairs_file(outputs), model=with_lora()).run()
    (path,) = (path for path in outputs.glob("train/*") if path.is_dir())
    return path


def published(run: Path, tmp_path: Path, **fields: Any) -> Path:
    """Return the folder of a publication below a separate directory."""
    Publish(**{"source": str(run), "outputs": tmp_path, **LICENCE, **fields}).run()
    (path,) = tmp_path.glob("publication/*/repository")
    return path


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**tokenizer("question 3?", return_tensors="pt")).logits
    return found


def test_peft_reads_the_adapter_and_it_is_the_runs_policy(run: Path, tmp_path: Path) -> None:
    path = published(run, tmp_path, base="someone/tiny", what="model")
    about = json.loads((path / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "someone/tiny"
    policy = source_at(str(run)).model
    assert policy is not None
    base = str(policy.facts["held"]["base"])
    tokenizer = AutoTokenizer.from_pretrained(path)
    ours, own = (PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), where) for where in (path, policy.path))
    assert torch.equal(logits(ours, tokenizer), logits(own, tokenizer))
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(policy.path).chat_template
    assert not (path / "metrics.jsonl").exists()


def test_transformers_reads_a_merged_model(run: Path, tmp_path: Path) -> None:
    Export(policy=str(run), outputs=run.parents[1]).run()
    (export,) = (path for path in run.parents[1].glob("export/*") if path.is_dir())
    path = published(export, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    ours, own = (AutoModelForCausalLM.from_pretrained(where) for where in (path, export))
    assert torch.equal(logits(ours, tokenizer), logits(own, tokenizer))
    card = (path / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "accuracy, held-out pairs" in card


def test_the_card_states_figures_with_their_interval_and_no_place_of_this_machine(run: Path, tmp_path: Path) -> None:
    path = published(run, tmp_path, base="someone/tiny")
    summary = json.loads((run / "summary.json").read_text())
    low, high = (f"{summary[f'eval/accuracy/{end}']:.4g}" for end in ("low", "high"))
    card = (path / "README.md").read_text()
    assert f"| {low} to {high} | share |" in card
    assert "base_model: someone/tiny\nbase_model_relation: adapter\n" in card
    assert "license: apache-2.0\n" in card
    assert "DPOLoss: beta 1.0" in card
    for text in (card, *(each.read_text() for each in path.glob("*config.json"))):
        assert str(run.parents[1]) not in text


HOSTILE = (
    "---\nlicense: mit\n---\n# Title <script>alert(1)</script> ``` | a |\x1b[2J\x00\u202e\u2028@all [x](javascript:y) $$x$$ "
    + 999 * "long "
)


def test_hostile_names_and_values_cannot_break_the_card(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import ModelCard

    source, directory = source_at(str(run)), RunDirectory(run)
    (first, *_), of_round = directory.run()["figures"], {HOSTILE: HOSTILE}
    said = {"figures": [{**first, "title": HOSTILE, "detail": HOSTILE, "unit": HOSTILE}], "rounds": [of_round]}
    about, summary = {**directory.run(), **said}, {**directory.summary(), "eval/note": HOSTILE}
    config = {name: {"class": HOSTILE, HOSTILE: HOSTILE} for name in ("data", "loss", "optim", "model")}
    for name, value in (("run", about), ("summary", summary), ("config", config)):
        monkeypatch.setattr(RunDirectory, name, lambda _, value=value: value)
    parts, revision = [Part("base model", HOSTILE, HOSTILE)], '"\n```\n<b>'
    text = model_card(source, "someone/tiny", revision, parts=parts, licences=[HOSTILE], asked=HOSTILE)
    card = ModelCard(text)
    assert [card.data.get(name) for name in ("license", "base_model")] == ["other", "someone/tiny"]
    assert card.text.lstrip().startswith("# ")
    assert [line for line in card.text.splitlines() if line.startswith("```")] == ["```python", "```"]
    outside = card.text.partition("```python")[0] + card.text.partition("```python")[2].partition("\n```\n")[2]
    for broken in ("<script", "<b>", "\x1b", "\x00", "\u202e", "\u2028", "[x](", " | a |"):
        assert broken not in outside, broken
    tables = [line.replace("\\|", "") for line in card.text.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in tables} <= {2, 3, 4, 5, 6}
    assert max(map(len, tables)) < 3000


def test_an_adapter_on_a_directory_of_this_machine_needs_the_name_of_its_base(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"which nobody else has. Name the same model on the Hub: base=OWNER/NAME. Or publish"):
        published(run, tmp_path, licence=None)
    assert not list(tmp_path.glob("publication/*/manifest.json"))


def test_the_base_that_is_named_has_the_licence_that_its_option_states() -> None:
    """docs/mistral7b.md from a copy on this machine: model.path=mistral, then base=mistralai/Mistral-7B-Instruct-v0.2."""
    words = ("model=mistral7b", "quant=4bit", "model.path=mistral")
    base, _ = parts_in(composed(*words), words, "mistralai/Mistral-7B-Instruct-v0.2")
    assert base == Part("base model", "mistralai/Mistral-7B-Instruct-v0.2", "Apache-2.0")
    local = ("model=local", "model.path=llama")
    assert parts_in(composed(*local), local, "meta-llama/Llama-2-7b-chat-hf")[0].licence == "Llama-2-Community"
    assert parts_in(composed(*local), local, "Someone/else")[0] == Part("base model", "Someone/else", None)
    with pytest.raises(ConfigError, match=r"the licence of the base model \(Someone/else\) is not known"):
        licences_of(parts_in(composed(*words), words, "Someone/else"), None)
    option = ("model=smollm2_135m",)  # the licence of the path that was trained is not that of another base
    assert parts_in(composed(*option), option, "meta-llama/Llama-2-7b-chat-hf")[0].licence == "Llama-2-Community"
    assert parts_in(composed(*option), option, "Someone/else")[0].licence is None
    named = (*words, "model.licence=cc-by-4.0")
    assert parts_in(composed(*named), named, "mistralai/Mistral-7B-Instruct-v0.2")[0].licence == "cc-by-4.0"


@pytest.mark.parametrize(("asked", "found"), [(None, ("a/b", "c0ffee")), ("a/b", ("a/b", "c0ffee")), ("x/y", ("x/y", None))])
def test_the_commit_of_a_base_is_not_stated_for_another_name(asked: str | None, found: tuple[str, str | None]) -> None:
    made = Artifact(Path("policy"), {"facts": {"held": {"base": "a/b", "revision": "c0ffee"}}})
    assert base_on_hub(Source(Path("policy"), (), made, None), asked) == found


def test_the_rounds_of_a_card_are_numbers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = RunDirectory(run).run()
    made = {"prompts": 24, "prompts_without_pair": 22, "left_out": {"ties": 22}, "made_by": {"generator": "7651ded7"}}
    monkeypatch.setattr(RunDirectory, "run", lambda _: {**about, "rounds": [{"number": 1, "kl": 0.5, "made_by": made}]})
    assert "| number | kl | prompts | prompts" in (rounds := rounds_of(source_at(str(run))))
    assert rounds.splitlines()[-1] == "| 1 | 0.5 | 24 | 22 |"


def test_what_a_source_does_not_hold_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"what=pairs: .* made no pairs itself. Use what=model"):
        published(run, tmp_path, what="pairs")
    with pytest.raises(ConfigError, match="is not a directory"):
        published(tmp_path / "none", tmp_path)
    (tmp_path / "begun").mkdir()
    with pytest.raises(ConfigError, match=r"has no manifest.json: it is unfinished"):
        published(tmp_path / "begun", tmp_path)
    with pytest.raises(ConfigError, match="artifact of the kind tokens"):
        published(next(path for path in run.parents[1].glob("tokens/*") if path.is_dir()), tmp_path)


def composed(*words: str) -> dict[str, Any]:
    """Return what call.json of such a command holds as its configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(words))
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in ("model", "data")}


@pytest.mark.parametrize(
    ("words", "licences"),
    [
        (("model=mistral7b", "quant=4bit", "data=on_policy", "ranker=length"), ("apache-2.0", "mit")),
        (("model=mistral7b", "quant=4bit"), ("apache-2.0",)),
        (("model=llama3_8b", "data=ultrafeedback"), ("llama3", "mit")),
        ((), ("mit",)),
    ],
)
def test_licences_are_those_of_the_yaml_files(words: tuple[str, ...], licences: tuple[str, ...]) -> None:
    assert licences_of(parts_in(composed(*words)), None) == licences


def test_a_directory_and_a_file_have_no_licence_until_one_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the licence of the base model \(my_model\) is not known"):
        licences_of(parts_in(composed("model=local", "model.path=my_model", "data=ultrafeedback")), None)
    with pytest.raises(ConfigError, match=r"the licence of the training pairs \(mine.jsonl\) is not known"):
        licences_of(parts_in(composed("data=jsonl", "data.path=mine.jsonl")), None)
    assert licences_of([Part("prompts", "x", None)], "CC-BY-4.0") == ("cc-by-4.0",)


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (("model=mistral7b", "quant=4bit", "model.path=mine"), "base model (mine)"),
        (("data=on_policy", "prompts=ultrafeedback", "prompts.path=mine"), "prompts (mine)"),
        (("data=ultrafeedback", "data.path=owner/mine"), "training pairs (owner/mine)"),
    ],
)
def test_the_licence_of_an_option_is_not_that_of_another_path(words: tuple[str, ...], unknown: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"the licence of the {unknown} is not known")):
        licences_of(parts_in(composed(*words), words), None)


def test_a_path_that_is_typed_as_the_option_has_it_or_with_its_licence_keeps_one() -> None:
    same = ("data=ultrafeedback", f"data.path={composed('data=ultrafeedback')['data']['path']}")
    assert licences_of(parts_in(composed(*same), same), None) == ("mit",)
    named = ("data=ultrafeedback", "data.path=mine", "data.licence=cc-by-4.0")
    assert licences_of(parts_in(composed(*named), named), None) == ("cc-by-4.0",)
