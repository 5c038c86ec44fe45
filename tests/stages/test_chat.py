"""The stage `chat`: models answer side by side what is typed or piped, and a file of prompts becomes one candidates file."""

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from dpo_lab import progress
from dpo_lab.cli.main import main
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.chat import Speaker, converse
from dpo_lab.progress import side_by_side, typed_lines
from dpo_lab.records import Prompt
from dpo_lab.sampling.hf import HFSampler, OpenHFSampler
from dpo_lab.sampling.streaming import stream
from dpo_lab.tokens.template import ChatEncoder
from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import adapter_directory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("chat")
    adapter_directory(place / "moved", model_directory(place / "base", "qwen2"), 0.1)
    (place / "asked.jsonl").write_text("\n".join(json.dumps({"prompt": f"what is {number}?"}) for number in range(3)))
    return place


@pytest.fixture
def opened(place: Path) -> Iterator[OpenHFSampler]:
    with HFSampler(max_new_tokens=8).open(ModelOnDisk(str(place / "base"), "base"), CPU) as model:
        yield model


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"repetition_penalty": 1.3, "top_k": 20}], ids=str)
def test_what_is_streamed_is_what_is_drawn(opened: OpenHFSampler, settings: dict[str, Any]) -> None:
    model = OpenHFSampler(HFSampler(max_new_tokens=12, **settings), opened.model, opened.tokenizer)
    (ids,) = ChatEncoder(model.tokenizer).prompt_ids([Prompt.from_text("a good answer")])
    ((drawn,),) = model.draw([ids], 3, num_samples=1)
    texts = list(stream(model, ids, 3))
    assert texts[-1] == model.texts([drawn.ids.tolist()])[0]
    assert len(texts) > 1


def test_a_conversation_remembers_its_turns_until_it_is_reset(opened: OpenHFSampler, capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker("base", opened)
    asked = converse([speaker], ["first", "", "second", "/nope"], side_by_side, system="be kind")
    assert asked == 2
    assert [turn["role"] for turn in speaker.turns] == ["user", "assistant"] * 2
    assert [turn["content"] for turn in speaker.turns[::2]] == ["first", "second"]
    assert speaker.prompt("be kind", "third").messages[0] == {"role": "system", "content": "be kind"}
    assert len(speaker.prompt("", "third").messages) == 5
    assert "/nope is not a command: /system TEXT" in capsys.readouterr().out
    assert converse([speaker], ["/reset", "again", "/quit", "never asked"], side_by_side) == 1
    assert [turn["content"] for turn in speaker.turns[::2]] == ["again"]


def test_a_conversation_that_is_too_long_is_refused_and_nothing_is_remembered(
    opened: OpenHFSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    opened.readable = 3
    speaker = Speaker("base", opened)
    assert converse([speaker], ["a long question"], side_by_side) == 0
    assert "base reads 3; /reset begins anew" in capsys.readouterr().out
    assert speaker.turns == []


def test_prompts_from_a_pipe_are_answered_by_base_and_adapter(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/system be kind\nhello again"))
    words = ["models=[moved]", "trainer=cpu", "precision=fp32", "sampler.max_new_tokens=4"]
    assert main(["chat", *words]) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith(("base:", "moved:"))] == ["base", "moved"] * 2
    assert "  a new conversation, system: be kind" in lines
    assert main(["chat", "trainer=cpu"]) == 2
    assert "nobody to talk to. Use models=[outputs/train/RUN]" in capsys.readouterr().err


def test_the_end_of_what_is_typed_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object, **__: object) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.console, "input", ended)
    assert list(typed_lines()) == []


@pytest.mark.parametrize(("width", "beside"), [(60, True), (50, False)])
def test_answers_stand_side_by_side_from_60_columns_on(width: int, beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, height=30, color_system=None, legacy_windows=False)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(progress, "is_live", lambda: True)
    with side_by_side(["base", "tuned"]) as show:
        show(["one " * 30, "two " * 30])
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    assert any("base" in line and "tuned" in line for line in lines) is beside
    assert any("one" in line and "two" in line for line in lines) is beside
    assert max(map(len, lines)) <= width


def test_a_file_of_prompts_becomes_one_candidates_file_that_rank_reads(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["../lab/scripts/chat.py"])
    words = ["models=[moved]", "trainer=cpu", "precision=fp32", "sampler.max_new_tokens=6", "sampler.num_samples=2"]
    asked = ["prompts=jsonl", "prompts.path=asked.jsonl", "prompts.num_held_out=all"]
    assert main(["chat", *words, *asked]) == 0, capsys.readouterr().err
    (path,) = Path("outputs/candidates").glob("2-models-*/candidates.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3
    assert [row["models"] for row in rows] == [["base", "base", "moved", "moved"]] * 3
    assert all(len(row["responses"]) == 4 for row in rows)
    (command,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next"))
    assert command.startswith("next       python ../lab/scripts/rank.py candidates.path=")
    assert main(["rank", *command.split("rank.py ")[1].replace("pairrm", "length").split(), "trainer=cpu"]) == 0
    assert "candidates.jsonl: 3 rows" in capsys.readouterr().out  # empty and equal answers are left out there
