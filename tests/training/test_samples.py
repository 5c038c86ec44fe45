"""Answers while training: those of the policy at that step, each once, and training does not notice."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.run_directory import SAMPLES
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping, Samples
from tests.training import stopping
from tests.training.stopping import STEPS, KillAfter, Killed, Letters, checkpoint_activations, some_pairs, tiny, train

ASKED = Samples(every=2, num_prompts=2, max_new_tokens=5)
DROPOUT = LoRA(rank=2, alpha=4, dropout=0.3)


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


def answers(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / SAMPLES).read_text().splitlines()]


@pytest.mark.parametrize("adapter", [NoAdapter(), DROPOUT], ids=["full", "lora with dropout"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_training_does_not_notice(store: TokenStore, tmp_path: Path, adapter: Adapter, temperature: float) -> None:
    without = train(store, tmp_path / "without", adapter=adapter)
    asked = Samples(every=1, num_prompts=2, max_new_tokens=5, temperature=temperature)
    train(store, tmp_path / "with", asked, adapter=adapter).assert_equals(without)
    assert [row["step"] for row in answers(tmp_path / "with")] == list(range(STEPS + 1))


def test_every_few_steps_before_the_first_and_after_the_last(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path, Samples(every=4, num_prompts=2, max_new_tokens=5))
    found = answers(tmp_path)
    assert [row["step"] for row in found] == [0, 4, 6]
    prompts = Letters().batch_decode([store.prompt(0).tolist(), store.prompt(1).tolist()], skip_special_tokens=True)
    assert all([each["prompt"] for each in row["samples"]] == [text.strip() for text in prompts] for row in found)


def test_after_the_last_step_also_where_it_comes_early(store: TokenStore, tmp_path: Path) -> None:
    early = train(store, tmp_path, ASKED, EarlyStopping(metric="lr", mode="max", window=1, patience=2))
    assert early.taken % 2 == 1
    assert [row["step"] for row in answers(tmp_path)] == [*range(0, early.taken, 2), early.taken]


def test_without_temperature_an_answer_is_the_likeliest_token_each_time(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path, ASKED)
    model: Any = tiny().eval()
    ids = store.prompt(0).tolist()
    for _ in range(5):  # without a cache
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == Letters.eos_token_id:
            break
    (expected,) = Letters().batch_decode([ids[store.prompt_lengths[0] :]], skip_special_tokens=True)
    assert answers(tmp_path)[0]["samples"][0]["answer"] == expected.strip()


def test_activation_checkpointing_changes_neither_answers_nor_weights(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(store, tmp_path / "plain", ASKED)

    def checkpointed() -> nn.Module:
        model: Any = tiny()
        checkpoint_activations(model)
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(stopping, "tiny", checkpointed)
    saving = train(store, tmp_path / "saving", ASKED)
    assert answers(tmp_path / "saving") == answers(tmp_path / "plain")
    assert all(torch.allclose(tensor, plain.weights[name], atol=1e-5) for name, tensor in saving.weights.items())


def test_killed_at_any_step_every_answer_stands_there_once(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "whole", ASKED, adapter=DROPOUT)
    for step, every in ((1, 1), (2, 1), (3, 2), (5, 4), (6, 1)):
        saved = Checkpoint(every=every)
        directory = tmp_path / str(step)
        with pytest.raises(Killed):
            train(store, directory, KillAfter(step=step), ASKED, adapter=DROPOUT, checkpoint=saved)
        train(store, directory, ASKED, adapter=DROPOUT, checkpoint=saved)
        assert (directory / SAMPLES).read_text() == (tmp_path / "whole" / SAMPLES).read_text()


@pytest.mark.parametrize("step", [2, STEPS])
def test_stopped_by_a_signal_the_step_that_is_saved_has_its_answers(store: TokenStore, tmp_path: Path, step: int) -> None:
    train(store, tmp_path / "whole", ASKED)

    def handler(received: int, frame: Any) -> None:
        raise Killed

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(Killed):
            train(store, tmp_path / "stopped", KillAfter(step=step, with_signal=signal.SIGTERM), ASKED)
    finally:
        signal.signal(signal.SIGTERM, before)
    if step < STEPS:
        train(store, tmp_path / "stopped", ASKED)
    assert (tmp_path / "stopped" / SAMPLES).read_text() == (tmp_path / "whole" / SAMPLES).read_text()


def test_a_line_that_a_kill_cut_is_written_again(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "whole", ASKED)
    with pytest.raises(Killed):
        train(store, tmp_path / "cut", KillAfter(step=3), ASKED, checkpoint=Checkpoint(every="60min"))
    path = tmp_path / "cut" / SAMPLES
    path.write_bytes(path.read_bytes()[:-9])
    train(store, tmp_path / "cut", ASKED)
    assert path.read_text() == (tmp_path / "whole" / SAMPLES).read_text()


def test_the_first_answer_is_shown(store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(store, tmp_path, ASKED)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  after step ")]
    first = [(row["step"], row["samples"][0]["prompt"]) for row in answers(tmp_path)]
    assert [line.partition(": ")[0] for line in shown] == [
        f'  after step {step}  "{" ".join(prompt.split())}"' for step, prompt in first
    ]
