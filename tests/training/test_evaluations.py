"""Held-out figures while training: training does not notice, and a kill changes none of them."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.figures import Figure
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import evaluating
from dpo_lab.run_directory import EVALUATIONS
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping
from dpo_lab.training.checkpoint_files import DIRECTORY, checkpoints
from dpo_lab.training.evaluations import Evaluations, MeasuredPolicy
from tests.training.stopping import STEPS, KillAfter, Killed, rows_of, some_pairs, train

LOSS = Figure(name="eval/loss", title="loss", better="min")
DROPOUT = LoRA(rank=2, alpha=4, dropout=0.3)


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


def size_of(policy: nn.Module) -> MeasuredPolicy:
    """Stand in for a measure: use the policy and random numbers as one may, and return a function of its weights."""
    with evaluating(policy):
        policy(input_ids=torch.randint(5, 60, (2, 7)))
    size = sum(float(weight.detach().double().square().sum()) for weight in policy.parameters() if weight.requires_grad)
    return MeasuredPolicy({LOSS.name: size, f"{LOSS.name}/low": size - 1}, [{"prompt": "p", "policy": "a", "reference": "b"}])


def plan(every: int = 2, measure: Callable[[nn.Module], MeasuredPolicy] = size_of) -> Evaluations:
    return Evaluations(every=every, figures=(LOSS,), measure=measure)


def kept(directory: Path) -> list[dict[str, Any]]:
    """Return what was kept, without the time that it took."""
    lines = (directory / EVALUATIONS).read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def without(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return rows without held-out figures, and no row that has nothing else."""
    bare = [{name: value for name, value in row.items() if name != LOSS.name} for row in rows]
    return [row for row in bare if row.keys() != {"step"}]


@pytest.mark.parametrize("adapter", [NoAdapter(), DROPOUT], ids=["full", "lora with dropout"])
@pytest.mark.parametrize("log_every", [1, 4])
def test_training_does_not_notice(store: TokenStore, tmp_path: Path, adapter: Adapter, log_every: int) -> None:
    plain = train(store, tmp_path / "plain", adapter=adapter, log_every=log_every)
    measured = train(store, tmp_path / "measured", adapter=adapter, log_every=log_every, evaluations=plan())
    assert all(torch.equal(tensor, plain.weights[name]) for name, tensor in measured.weights.items())
    assert without(measured.rows) == plain.rows
    assert [row["step"] for row in measured.rows if LOSS.name in row] == [2, 4, 6]


def test_a_step_without_a_row_of_training_has_one_of_held_out_figures_alone(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path, log_every=3, evaluations=plan(every=4))
    rows = rows_of(tmp_path)
    assert [(row["step"], "loss" in row, LOSS.name in row) for row in rows] == [
        (1, True, False),
        (3, True, False),
        (4, False, True),
        (6, True, True),  # the last step, which is no multiple of four
    ]
    assert rows[2].keys() == {"step", LOSS.name}, "ends of intervals stay in the file beside"
    assert [row["figures"].keys() for row in kept(tmp_path)] == [{LOSS.name, f"{LOSS.name}/low"}] * 2


@pytest.mark.parametrize("adapter", [NoAdapter(), DROPOUT], ids=["full", "lora with dropout"])
def test_killed_at_any_step_it_has_the_same_weights_rows_and_figures(store: TokenStore, tmp_path: Path, adapter: Adapter) -> None:
    whole = train(store, tmp_path / "whole", adapter=adapter, evaluations=plan())
    for step, every in ((1, 1), (2, 1), (3, 2), (4, 4), (5, 4), (6, 1)):
        directory, saved = tmp_path / str(step), Checkpoint(every=every)
        with pytest.raises(Killed):
            train(store, directory, KillAfter(step=step), adapter=adapter, checkpoint=saved, evaluations=plan())
        train(store, directory, adapter=adapter, checkpoint=saved, evaluations=plan()).assert_equals(whole)
        assert kept(directory) == kept(tmp_path / "whole")


def test_the_seconds_of_measuring_are_not_those_of_training(store: TokenStore, tmp_path: Path) -> None:
    def slowly(policy: nn.Module) -> MeasuredPolicy:
        time.sleep(0.2)
        return MeasuredPolicy({LOSS.name: 1.0})

    began = time.monotonic()
    figures = train(store, tmp_path, evaluations=plan(every=3, measure=slowly)).figures
    assert figures.seconds + figures.seconds_evaluating <= time.monotonic() - began
    assert 0.4 <= figures.seconds_evaluating < 0.6 + figures.seconds
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / EVALUATIONS).read_text().splitlines()]
    assert figures.seconds_evaluating == pytest.approx(sum(seconds), abs=0.1)


def by_turns(values: list[float]) -> Callable[[nn.Module], MeasuredPolicy]:
    """Return a measure that finds these values, one after the other."""
    left = iter(values)
    return lambda policy: MeasuredPolicy({LOSS.name: next(left)})


def test_the_best_checkpoint_may_be_that_of_a_held_out_figure(store: TokenStore, tmp_path: Path) -> None:
    best = Checkpoint(every="60min", best=LOSS.name, mode="min")
    train(store, tmp_path, checkpoint=best, evaluations=plan(measure=by_turns([3.0, 1.0, 2.0])))
    assert set(checkpoints(tmp_path / DIRECTORY)) == {4}


def test_the_policy_may_be_that_of_the_best_step(store: TokenStore, tmp_path: Path) -> None:
    best = Checkpoint(every="60min", best=LOSS.name, mode="min")
    last = train(store, tmp_path / "last", checkpoint=best, evaluations=plan(measure=by_turns([3.0, 1.0, 2.0])))
    kept = torch.load(checkpoints(tmp_path / "last" / DIRECTORY)[4], weights_only=True)["state_dict"]
    best = replace(best, final="best")
    taken = train(store, tmp_path / "best", checkpoint=best, evaluations=plan(measure=by_turns([3.0, 1.0, 2.0])))
    assert taken.notes == [f"the policy is that of step 4 of {STEPS}, the best by eval/loss (1)"]
    assert all(torch.equal(taken.weights[name], weight) for name, weight in kept.items())
    assert not all(torch.equal(last.weights[name], weight) for name, weight in kept.items())


def test_killed_between_the_best_step_and_the_last_the_policy_is_the_same(store: TokenStore, tmp_path: Path) -> None:
    best = Checkpoint(every=1, best=LOSS.name, mode="max", final="best")  # the first, since training lowers it
    whole = train(store, tmp_path / "whole", checkpoint=best, evaluations=plan(every=1), lr=0.3)
    with pytest.raises(Killed):
        train(store, tmp_path / "killed", KillAfter(step=5), checkpoint=best, evaluations=plan(every=1), lr=0.3)
    train(store, tmp_path / "killed", checkpoint=best, evaluations=plan(every=1), lr=0.3).assert_equals(whole)


def test_early_stopping_may_look_at_a_held_out_figure(store: TokenStore, tmp_path: Path) -> None:
    stop = EarlyStopping(metric=LOSS.name, window=1, patience=1)
    early = train(store, tmp_path, stop, evaluations=plan(every=1, measure=by_turns([3.0, 2.0, 2.5, 9.0])))
    assert early.taken == 3
    (note,) = early.notes
    assert note == (
        f"stopped early after step 3 of {STEPS}: eval/loss 2.5 was not better than 2 for callbacks.early_stopping.patience=1 rows"
    )


def test_killed_early_stopping_by_a_held_out_figure_ends_at_the_same_step(store: TokenStore, tmp_path: Path) -> None:
    stop = EarlyStopping(metric=LOSS.name, mode="max", window=1, patience=2)
    whole = train(store, tmp_path / "whole", stop, evaluations=plan(every=1), lr=0.3)
    with pytest.raises(Killed):
        train(store, tmp_path / "killed", KillAfter(step=2), stop, evaluations=plan(every=1), lr=0.3)
    train(store, tmp_path / "killed", stop, evaluations=plan(every=1), lr=0.3).assert_equals(whole)


def test_what_was_found_is_said(store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(store, tmp_path, evaluations=plan(every=3, measure=by_turns([0.5, 0.25])))
    said = [line for line in capsys.readouterr().out.splitlines() if "held out" in line]
    assert said == ["  after step 3  held out: loss .50", "  after step 6  held out: loss .25"]
