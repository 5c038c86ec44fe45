"""A profile holds the steps that were asked for, is made once, and leaves the weights as they are."""

import gzip
import json
from pathlib import Path

import pytest

from dpo_lab.components import RunError
from dpo_lab.models.adapter import LoRA
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import EarlyStopping, Profile
from dpo_lab.training.profiling import TABLE, TRACE
from tests.training.stopping import STEPS, KillAfter, Killed, Outcome, some_pairs, train

DROPOUT = LoRA(rank=2, alpha=4, dropout=0.3)
SHORT = Profile(wait=1, warmup=1, active=2)


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


@pytest.fixture(scope="module")
def profiled(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A training under the profiler."""
    directory = tmp_path_factory.mktemp("profiled")
    return directory, train(store, directory, SHORT, adapter=DROPOUT)


def test_the_trace_holds_the_steps_and_the_table_the_operators(profiled: tuple[Path, Outcome]) -> None:
    directory, outcome = profiled
    with gzip.open(directory / TRACE, "rt") as file:
        events = [event["name"] for event in json.load(file)["traceEvents"]]
    assert {name for name in events if name.startswith("ProfilerStep#")} == {"ProfilerStep#2", "ProfilerStep#3"}
    assert "aten::mm" in events
    table = (directory / TABLE).read_text()
    assert "aten::mm" in table
    assert "Self CPU" in table
    assert outcome.notes == [f"profile of steps 3 to 4: {directory / TABLE}, and {TRACE} beside it for https://ui.perfetto.dev"]


def test_the_weights_are_those_of_a_training_without_it(
    store: TokenStore, profiled: tuple[Path, Outcome], tmp_path: Path
) -> None:
    without, (_, under) = train(store, tmp_path, adapter=DROPOUT), profiled
    under.notes = []
    under.assert_equals(without)


def test_a_training_that_goes_on_after_it_does_not_make_it_again(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, KillAfter(step=6), SHORT)
    before = (tmp_path / TABLE).stat().st_mtime_ns
    continued = train(store, tmp_path, SHORT)
    assert (tmp_path / TABLE).stat().st_mtime_ns == before
    assert len(continued.notes) == 1


def test_killed_while_it_is_made_it_is_made_by_the_next_process(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, KillAfter(step=3), Profile(wait=0, warmup=1, active=2))  # its second step is not complete
    assert not (tmp_path / TABLE).exists()
    continued = train(store, tmp_path, Profile(wait=0, warmup=1, active=2))
    assert continued.notes[0].startswith("profile of steps 4 to 5: ")


def test_fewer_steps_than_it_needs_are_refused(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"wait \+ warmup \+ active = 7 steps, and this training has {STEPS}; lower "):
        train(store, tmp_path, Profile(active=5))


def test_a_training_that_ends_before_says_that_there_is_none(store: TokenStore, tmp_path: Path) -> None:
    early = EarlyStopping(metric="loss", mode="max", window=1, patience=None, threshold=0.0)
    ended = train(store, tmp_path, early, SHORT)
    assert ended.taken == 1
    assert ended.notes[1] == "no profile: training ended before the steps that callbacks.profile waits for"
    assert not (tmp_path / TRACE).exists()
