"""TensorBoard's own reader finds in the event files what was sent, once."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.loggers.base import Mark, RunIdentity
from dpo_lab.loggers.tensorboard_files import TensorBoardLogger


def opened(directory: Path, sent: int = 0) -> Any:
    config = {"loss": {"beta": 0.1}, "tags": ["a"], "group": None}
    run = RunIdentity(name="tiny", id="ab" * 32, directory=directory, config=config, notes="first try")
    return TensorBoardLogger().open(run, Mark(directory=directory, token="0" * 8, sent=sent))


def read(directory: Path) -> Any:
    module = import_module("tensorboard.backend.event_processing.event_accumulator")  # has no types
    return module.EventAccumulator(str(directory)).Reload()


def scalars(directory: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(directory).Scalars(name)]


def test_figures_configuration_and_summary_are_read_back(tmp_path: Path) -> None:
    follower = opened(tmp_path)
    for step in (1, 2):
        follower.send({"step": step, "round": 1, "rewards/margins": step / 2})
    follower.summarise({"gold/after": 0.5}, [{"prompt": "A review, please", "after": "What a film!"}])
    follower.close(failed=False)
    events = read(tmp_path)
    assert scalars(tmp_path, "rewards/margins") == [(1, 0.5), (2, 1.0)]
    assert sorted(events.Tags()["scalars"]) == ["rewards/margins", "round", "summary/gold/after"]
    texts = {
        tag: events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode() for tag in ("run", "config", "samples")
    }
    assert json.loads(texts["config"]) == {"loss": {"beta": 0.1}, "tags": ["a"], "group": None}
    assert json.loads(texts["run"])["notes"] == "first try"
    assert "What a film!" in texts["samples"]
    hyperparameters = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"loss.beta" in hyperparameters
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "one run, not a second one named by the time"


def test_a_row_can_be_read_as_soon_as_it_is_sent(tmp_path: Path) -> None:
    follower = opened(tmp_path)
    follower.send({"step": 1, "loss": 0.5})
    assert scalars(tmp_path, "loss") == [(1, 0.5)]
    follower.close(failed=True)


def test_a_run_that_goes_on_shows_each_step_once(tmp_path: Path) -> None:
    killed = opened(tmp_path)
    for step in (1, 2, 3):
        killed.send({"step": step, "loss": 1 / 2**step})
    again = opened(tmp_path, sent=2)  # the mark had not moved to 3 yet
    for step in (3, 4):
        again.send({"step": step, "loss": 1 / 2**step})
    again.close(failed=False)
    assert scalars(tmp_path, "loss") == [(step, 1 / 2**step) for step in (1, 2, 3, 4)]


def test_it_says_the_command_that_shows_all_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(tmp_path / "my runs" / "tiny").close(failed=False)
    assert capsys.readouterr().out == f"  TensorBoard: tensorboard --logdir '{tmp_path}/my runs'\n"


def test_without_the_package_it_is_refused_before_anything_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"logger=tensorboard needs tensorboard, .* Install it"):
        TensorBoardLogger().check()
