"""A sequence classifier scores answers as plain transformers does, one row at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from dpo_lab.components import ConfigError
from dpo_lab.memory.lines import uncounted_lines
from dpo_lab.ranking.base import failed
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.ensemble import EnsembleRanker
from dpo_lab.ranking.implicit import ImplicitReward
from dpo_lab.ranking.reward_model import RewardModel
from dpo_lab.records import Candidates, Prompt
from tests.models.directories import model_directory

CPU = torch.device("cpu")
TEMPLATE = "{{ bos_token }}{% for turn in messages %}{{ turn['role'][0] }}: {{ turn['content'] }} {% endfor %}"
SETS = [
    Candidates(prompt=Prompt.from_text("why so?"), responses=("no", "because it is a long answer", "yes.")),
    Candidates(prompt=Prompt.from_text("is it?"), responses=("it is", "no")),
]


def write(directory: Path, labels: int) -> Path:
    made = Tokenizer(models.WordLevel({char: at for at, char in enumerate(["<pad>", "<s>", *"abcdefghijklmnopqrstuvwxyz:?. "])}))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", pad_token="<pad>", unk_token=".")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(str(directory))
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "num_labels": labels,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(**shape, vocab_size=32, pad_token_id=0, initializer_range=0.5)
    LlamaForSequenceClassification(config).save_pretrained(str(directory))
    return directory


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("tokens", [1, 100, 4096])
def test_scores_are_those_of_one_row_at_a_time(labels: int, tokens: int, tmp_path: Path) -> None:
    directory = write(tmp_path, labels)
    ranker = RewardModel(path=str(directory), tokens_per_batch=tokens)
    ranker.check()
    with ranker.open(CPU) as opened:
        verdicts = opened.rank(SETS)
    model = LlamaForSequenceClassification.from_pretrained(str(directory)).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory))
    for each, verdict in zip(SETS, verdicts, strict=True):
        for text, score in zip(each.responses, verdict.scores, strict=True):
            row = tokenizer(f"<s>u: {each.prompt.text} a: {text} ", add_special_tokens=False, return_tensors="pt").input_ids
            with torch.no_grad():
                logits = model(row).logits[0]
            assert score == pytest.approx(float(logits[-1] - logits[0] if labels == 2 else logits[0]), abs=1e-5)


def test_more_labels_are_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ranker\.path=.* has 3 labels; a reward model has one"):
        RewardModel(path=str(write(tmp_path, 3))).check()


def test_without_a_token_for_padding_each_row_is_scored_by_itself(tmp_path: Path) -> None:
    directory = write(tmp_path, 1)
    with RewardModel(path=str(directory)).open(CPU) as opened:
        padded = opened.rank(SETS)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    with RewardModel(path=str(directory)).open(CPU) as opened:
        alone = opened.rank(SETS)
    for one, other in zip(padded, alone, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_without_labels_or_a_chat_template_it_is_refused_in_one_line(tmp_path: Path) -> None:
    directory = write(tmp_path, 1)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "id2label": {}}))
    with pytest.raises(ConfigError, match=r"^ranker\.path=\S+ has 0 labels; a reward model has one"):
        RewardModel(path=str(directory)).check()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"^ranker\.path=\S+: its tokenizer has no chat template"):
        RewardModel(path=str(directory)).check()


def test_a_language_model_is_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a whole sequence classifier: score.weight is in none of its files"):
        RewardModel(path=str(model_directory(tmp_path / "model", "mistral"))).check()


def test_a_directory_that_is_not_whole_is_named_by_its_own_key(tmp_path: Path) -> None:
    (write(tmp_path, 1) / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"ranker\.path=.* has no weights") as refused:
        RewardModel(path=str(tmp_path)).check()
    assert "model.path" not in str(refused.value)


def test_a_language_model_in_its_place_is_refused_in_one_line_without_the_report_of_the_library(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(write(tmp_path, 1) / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    with pytest.raises(ConfigError, match=r"is not a whole sequence classifier: score.weight is in none of its files"):  # noqa: SIM117
        with RewardModel(path=str(tmp_path)).open(CPU):
            pass
    said = capfd.readouterr()
    assert "MISSING" not in said.out + said.err
    assert "Loading weights" not in said.err


def test_the_size_of_a_model_on_the_hub_is_that_of_its_configuration_or_said_to_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    directory = write(tmp_path / "model", 1)
    both = RewardModel(path="owner/judge"), ImplicitReward(path="owner/judge", reference="none")
    for ranker in both:
        assert ranker.bytes_needed("cpu") == 0.0
        assert ranker.not_counted().startswith("owner/judge is not a directory, the cache (HF_HOME) has no complete copy")
    (line,) = uncounted_lines(EnsembleRanker(members={"judge": both[0], "length": LengthRanker()}))
    assert line.startswith("memory     members.judge=reward_model is not in the plan, its size is unknown: owner/judge")
    commit = "1" * 40
    snapshot = tmp_path / "cache" / "models--owner--judge" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text((directory / "config.json").read_text())
    weights = sum(weight.numel() for weight in load_file(directory / "model.safetensors").values())
    assert (
        RewardModel(path="owner/judge").bytes_needed("cpu") == 4 * weights == RewardModel(path=str(directory)).bytes_needed("cpu")
    )
    assert both[0].bytes_needed("cuda") == 2 * weights
    assert not both[0].not_counted()
    assert both[1].bytes_needed("cuda") == 2 * (weights - 16 + 32 * 16)  # a head of 32 tokens in place of one label


def test_a_prompt_that_the_template_refuses_is_a_failed_verdict(tmp_path: Path) -> None:
    directory = write(tmp_path, 1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory))
    tokenizer.chat_template = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}" + TEMPLATE
    tokenizer.save_pretrained(str(directory))
    opens = Candidates(
        prompt=Prompt.of([{"role": "assistant", "content": "hm"}, {"role": "user", "content": "so?"}]), responses=("a", "b")
    )
    with RewardModel(path=str(directory)).open(CPU) as opened:
        refused, taken = opened.rank([opens, SETS[1]])
    assert failed(refused)
    assert not failed(taken)
