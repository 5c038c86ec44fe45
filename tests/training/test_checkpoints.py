"""A training that resumes after a stop ends with the same bits: weights, optimizer, figures; no checkpoint is half written."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from dpo_lab.components import RunError
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.reference.ema import EMAReference
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import Checkpoint
from dpo_lab.training.checkpoints import DIRECTORY, Signals, checkpoints
from tests.training.stopping import STEPS, KillAfter, Killed, rows_of, some_pairs, train


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


ADAPTERS: list[Callable[[], Adapter]] = [NoAdapter, lambda: LoRA(rank=2, alpha=4, dropout=0.3)]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["full", "lora with dropout"])
@pytest.mark.parametrize("inside", [False, True], ids=["after a step", "in the middle of the next step's accumulation"])
@pytest.mark.parametrize("log_every", [1, 4])
def test_killed_at_any_step_it_goes_on_to_the_same_bits(
    store: TokenStore, tmp_path: Path, adapter: Callable[[], Adapter], inside: bool, log_every: int
) -> None:
    undisturbed = train(store, tmp_path / "whole", adapter=adapter(), log_every=log_every)
    assert undisturbed.rows[-1]["step"] == STEPS
    last = STEPS - 1 if inside else STEPS
    for step in range(1, last + 1):
        directory = tmp_path / f"killed {step}"
        with pytest.raises(Killed):
            train(store, directory, KillAfter(step=step, inside=inside), adapter=adapter(), log_every=log_every)
        continued = train(store, directory, adapter=adapter(), log_every=log_every)
        continued.assert_equals(undisturbed)
        assert continued.steps == STEPS - (step if inside else step - 1), (
            "the last checkpoint is that of the step before the kill"
        )


@pytest.mark.parametrize(
    "adapter",
    [NoAdapter, lambda: LoRA(rank=2), lambda: LoRA(rank=2, dora=True, modules_to_save=("embed_tokens",))],
    ids=["full", "lora", "dora with embeddings"],
)
def test_a_reference_that_moves_goes_on_from_where_it_was(
    store: TokenStore, tmp_path: Path, adapter: Callable[[], Adapter]
) -> None:
    moving = EMAReference(alpha=0.3, every=2)
    undisturbed = train(store, tmp_path / "whole", adapter=adapter(), reference=moving)
    for step in (3, 4):  # so the checkpoint is that of step 2, after an update, or of step 3, between two
        with pytest.raises(Killed):
            train(store, tmp_path / f"{step}", KillAfter(step=step), adapter=adapter(), reference=moving)
        continued = train(store, tmp_path / f"{step}", adapter=adapter(), reference=moving)
        continued.assert_equals(undisturbed)
        assert continued.steps == STEPS - step + 1
    kept = {name for name in undisturbed.weights if name.startswith("reference.")}
    assert {name.removeprefix("reference.") for name in kept} == {
        name.removeprefix("policy.") for name in undisturbed.weights if name.startswith("policy.")
    }
    assert any(not torch.equal(undisturbed.weights[name], undisturbed.weights[f"policy.{name[10:]}"]) for name in kept)


def test_killed_twice_and_with_few_checkpoints_it_repeats_steps_but_no_row(store: TokenStore, tmp_path: Path) -> None:
    undisturbed, rare = train(store, tmp_path / "whole"), Checkpoint(every=2)
    for step in (3, 5):
        with pytest.raises(Killed):
            train(store, tmp_path / "killed", KillAfter(step=step), checkpoint=rare)
    assert [row["step"] for row in rows_of(tmp_path / "killed")] == [1, 2, 3, 4, 5]
    continued = train(store, tmp_path / "killed", checkpoint=rare)
    continued.assert_equals(undisturbed)
    assert continued.steps == STEPS - 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_answered_after_the_step_is_saved(store: TokenStore, tmp_path: Path, number: signal.Signals) -> None:
    undisturbed = train(store, tmp_path / "whole")
    heard: list[int] = []

    def handler(received: int, frame: Any) -> None:
        heard.append(received)
        raise Killed

    before = signal.signal(number, handler)
    try:
        with pytest.raises(Killed):
            train(store, tmp_path / "stopped", KillAfter(step=2, with_signal=number), checkpoint=Checkpoint(every="60min"))
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert heard == [number]
    assert set(checkpoints(tmp_path / "stopped" / DIRECTORY)) == {2}
    continued = train(store, tmp_path / "stopped", checkpoint=Checkpoint(every="60min"))
    continued.assert_equals(undisturbed)
    assert continued.steps == STEPS - 2


def test_a_signal_after_the_last_step_is_not_lost() -> None:
    heard: list[int] = []

    def note(number: int, frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        with Signals().held_back() as signals:
            signals.install()
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_write_that_is_cut_leaves_the_checkpoint_before(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(store, tmp_path / "whole")
    whole, calls = torch.save, []

    def cut(state: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            file.write(b"half")
            raise Killed
        whole(state, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(Killed):
        train(store, tmp_path / "cut")
    monkeypatch.undo()
    directory = tmp_path / "cut" / DIRECTORY
    assert [path.name.startswith(".step_0000003") for path in directory.iterdir()].count(True) == 1
    assert set(checkpoints(directory)) == {2}
    train(store, tmp_path / "cut").assert_equals(undisturbed)


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = train(store, tmp_path / "whole")
    with pytest.raises(Killed):
        train(store, tmp_path / "bad", KillAfter(step=4), checkpoint=Checkpoint(every=1, keep=2))
    found = checkpoints(tmp_path / "bad" / DIRECTORY)
    assert set(found) == {2, 3}, "killed before the fourth was written"
    found[3].write_bytes(b"not a checkpoint")
    train(store, tmp_path / "bad").assert_equals(undisturbed)
    assert "step_0000003.ckpt cannot be read" in capsys.readouterr().out


def test_newest_and_best_stay_and_a_finished_training_needs_one_fewer(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, KillAfter(step=6), checkpoint=Checkpoint(every=1, keep=2, best="lr", mode="max"))
    best = max(rows_of(tmp_path)[:5], key=lambda row: row["lr"])["step"]
    assert set(checkpoints(tmp_path / DIRECTORY)) == {best, 4, 5}
    train(store, tmp_path, checkpoint=Checkpoint(every=1, keep=2, best="lr", mode="max"))
    assert set(checkpoints(tmp_path / DIRECTORY)) == {best, 6}
    train(store, tmp_path / "plain")
    assert not (tmp_path / "plain" / DIRECTORY).exists()


def test_how_often_to_save_is_a_number_of_steps_or_of_minutes() -> None:
    with pytest.raises(ValidationError, match=r"a number of optimizer steps above 0"):
        Checkpoint(every=True)


def test_a_checkpoint_of_other_weights_is_refused(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, KillAfter(step=2))
    with pytest.raises(RunError, match=r"has \d+ tensors that are not trained here and lacks \d+ that are"):
        train(store, tmp_path, adapter=LoRA(rank=2))


def test_a_checkpoint_holds_trainable_tensors_alone_and_loads_as_plain_data(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, KillAfter(step=2), adapter=LoRA(rank=2))
    (path,) = checkpoints(tmp_path / DIRECTORY).values()
    state = torch.load(path, weights_only=True)
    assert all("lora_" in name for name in state["state_dict"])
    assert {"loops", "optimizer_states", "lr_schedulers"} <= set(state)


@pytest.mark.parametrize("every", [0, -1, "soon", "0min", "5 hours"])
def test_how_often_is_a_number_of_steps_or_of_minutes(every: int | str) -> None:
    with pytest.raises(ValueError, match="a number of optimizer steps above 0, such as 100, or of minutes, such as 5min"):
        Checkpoint(every=every)
