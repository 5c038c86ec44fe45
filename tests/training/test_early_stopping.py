"""Training ends early by its rows alone: where the numbers say so, and at the same step however often it was killed."""

import signal
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError, plain_fields
from dpo_lab.models.adapter import LoRA
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping, ProgressBar, Samples, content_of
from dpo_lab.training.early_stopping import StopEarly
from tests.training.stopping import STEPS, KillAfter, Killed, some_pairs, train


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


def reasons(values: list[float], **fields: Any) -> list[str]:
    """Return what is said of each row in turn."""
    callback = StopEarly(**plain_fields(EarlyStopping(**{"window": 1, "patience": None, **fields})))
    return [callback.look(value) for value in values]


def test_patience_counts_rows_without_a_better_mean() -> None:
    # means of two: -, 3.5, 2.5, 2.5, 2.75, 2.25; the best so far 3.5, 2.5, 2.5, 2.5: two rows without a better one, then a better
    assert reasons([4, 3, 2, 3, 2.5, 2], window=2, patience=3) == [""] * 6
    said = reasons([4, 3, 2, 3, 2.5, 2], window=2, patience=2)
    assert said[:4] == [""] * 4
    assert said[4] == "loss 2.75, mean of 2 rows, was not better than 2.5 for callbacks.early_stopping.patience=2 rows"


def test_a_mean_has_to_be_better_by_more_than_min_delta() -> None:
    values = [1.0, 0.75, 0.5]
    assert reasons(values, patience=1, min_delta=0.0) == ["", "", ""]
    # .75 is better than 1 by .25 and does not count; .5 would be, by .5
    assert [bool(said) for said in reasons(values, patience=1, min_delta=0.25)] == [False, True, False]
    assert reasons(values, patience=2, min_delta=0.25) == ["", "", ""]


def test_a_figure_that_grows_is_better_higher() -> None:
    assert [bool(said) for said in reasons([1, 2, 1.5], metric="rewards/margins", mode="max", patience=1)] == [False, False, True]


@pytest.mark.parametrize(("mode", "ends"), [("max", [False, False, True]), ("min", [True, True, True])])
def test_a_threshold_is_reached_from_the_side_of_the_mode(mode: str, ends: list[bool]) -> None:
    said = reasons([-2.0, -1.0, 0.0], metric="kl/implicit", mode=mode, threshold=0.0)
    assert [bool(each) for each in said] == ends
    assert said[-1] == "kl/implicit 0 reached callbacks.early_stopping.threshold=0"


def test_a_threshold_waits_for_a_full_window() -> None:
    assert [bool(said) for said in reasons([0.1, 0.5, 0.1, 0.1], window=2, threshold=0.2)] == [False, False, False, True]


# the rate is 1 at the first step and falls: never better again
PLATEAU = EarlyStopping(metric="lr", mode="max", window=1, patience=3)


@pytest.mark.parametrize("log_every", [1, 2])
def test_it_takes_the_steps_of_a_training_that_goes_on_and_records_the_last(
    store: TokenStore, tmp_path: Path, log_every: int
) -> None:
    whole = train(store, tmp_path / "whole", log_every=log_every)
    patience = {1: 3, 2: 1}[log_every]
    plateau = EarlyStopping(metric="lr", mode="max", window=1, patience=patience)
    early = train(store, tmp_path / "early", plateau, log_every=log_every)
    best = max(range(len(whole.rows)), key=lambda at: whole.rows[at]["lr"])
    assert early.rows == whole.rows[: best + patience + 1], "and so the schedule is that of all steps"
    assert early.taken == early.steps == early.rows[-1]["step"] < STEPS
    (note,) = early.notes
    assert note.startswith(f"stopped early after step {early.taken} of {STEPS}: lr ")
    assert whole.notes == []


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4, dropout=0.3)], ids=["full", "lora with dropout"])
def test_killed_at_any_step_it_ends_at_the_same_step_with_the_same_weights(
    store: TokenStore, tmp_path: Path, adapter: LoRA | None
) -> None:
    more: dict[str, Any] = {"adapter": adapter} if adapter else {}
    undisturbed = train(store, tmp_path / "whole", PLATEAU, **more)
    last = undisturbed.taken
    assert 3 < last < STEPS
    for step in range(1, last + 1):
        with pytest.raises(Killed):
            train(store, tmp_path / f"{step}", KillAfter(step=step), PLATEAU, **more)
        train(store, tmp_path / f"{step}", PLATEAU, **more).assert_equals(undisturbed)


@pytest.mark.parametrize("back", [1, 0], ids=["before it ends", "as it ends"])
def test_saved_by_a_signal_it_ends_at_the_same_step(store: TokenStore, tmp_path: Path, back: int) -> None:
    undisturbed = train(store, tmp_path / "whole", PLATEAU)

    def handler(received: int, frame: Any) -> None:
        raise Killed

    before = signal.signal(signal.SIGTERM, handler)
    kill, rare = KillAfter(step=undisturbed.taken - back, with_signal=signal.SIGTERM), Checkpoint(every="60min")
    try:
        with pytest.raises(Killed):
            train(store, tmp_path / "stopped", kill, PLATEAU, checkpoint=rare)
    finally:
        signal.signal(signal.SIGTERM, before)
    continued = train(store, tmp_path / "stopped", PLATEAU, checkpoint=rare)
    assert (continued.steps, continued.taken, continued.notes) == (back, undisturbed.taken, undisturbed.notes)
    assert continued.rows == undisturbed.rows
    assert all((tensor == undisturbed.weights[name]).all() for name, tensor in continued.weights.items())


def test_a_threshold_that_is_not_reached_is_said(store: TokenStore, tmp_path: Path) -> None:
    ended = train(store, tmp_path, EarlyStopping(window=1, patience=None, threshold=-1.0))
    assert ended.taken == STEPS
    assert ended.notes == [f"loss {ended.rows[-1]['loss']:.4g} did not reach callbacks.early_stopping.threshold=-1"]


def test_two_stand_side_by_side(store: TokenStore, tmp_path: Path) -> None:
    other = EarlyStopping(metric="kl/implicit", mode="min", window=1, patience=None, threshold=-1e9)
    undisturbed = train(store, tmp_path / "whole", PLATEAU, other)
    with pytest.raises(Killed):
        train(store, tmp_path / "killed", KillAfter(step=3), PLATEAU, other)
    train(store, tmp_path / "killed", PLATEAU, other).assert_equals(undisturbed)


def test_only_what_changes_training_is_part_of_an_id_and_then_the_rows_are_too() -> None:
    beside = {"progress": ProgressBar(), "checkpoint": Checkpoint(every=7), "samples": Samples()}
    assert content_of(beside, 1) == {}
    stopping = content_of({**beside, "early_stopping": PLATEAU}, 1)
    assert stopping == {"callbacks": {"early_stopping": PLATEAU.content()}, "log_every": 1}
    assert content_of({"early_stopping": PLATEAU}, 2) != stopping


def test_a_figure_that_this_training_does_not_have_is_refused(store: TokenStore, tmp_path: Path) -> None:
    odd = EarlyStopping()
    object.__setattr__(odd, "metric", "odd")
    with pytest.raises(ConfigError, match=r"metric=odd is not a figure of this training; there are grad_norm, kl/implicit, "):
        train(store, tmp_path, odd)
