"""Which figures a best checkpoint and early stopping may read, and when the policy is measured."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.evaluation.several import SeveralMeasures
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping
from tests.rules.test_combinations import FILE, FILM_EVALUATION, ON_FILE, message


def test_a_best_checkpoint_by_a_figure_that_no_row_has_is_refused_with_those_that_there_are() -> None:
    refused = message(**ON_FILE, callbacks={"checkpoint": Checkpoint(best="eval/accuracyy")})
    assert refused.startswith(
        "callbacks.checkpoint.best=eval/accuracyy: no row of metrics.jsonl will have it. Did you mean 'eval/accuracy'? "
        "Valid: loss, rewards/chosen, rewards/rejected, rewards/margins, "
    )
    assert "; of held-out data, with evaluation.every=N: eval/loss, eval/accuracy, eval/margin, eval/pairs, " in refused
    assert "eval/losses/" not in refused
    for name in ("time/tokens_per_second", "memory/peak_mib", "win_rate"):
        said = message(**ON_FILE, callbacks={"checkpoint": Checkpoint(best=name)})
        assert said.startswith(f"callbacks.checkpoint.best={name}: no row of metrics.jsonl will have it. ")
    nothing = {**ON_FILE, "data": replace(FILE, held_out=0)}
    assert "held-out data" not in message(**nothing, callbacks={"checkpoint": Checkpoint(best="eval/loss")})


def test_a_held_out_figure_is_read_while_training_only_where_it_is_measured_then() -> None:
    best = {"checkpoint": Checkpoint(best="eval/accuracy")}
    assert message(**ON_FILE, callbacks=best) == (
        "callbacks.checkpoint.best=eval/accuracy is a figure of held-out data, which is measured after training alone; "
        "use evaluation.every=10."
    )
    often = {**ON_FILE, "evaluation": PreferenceEvaluation(every=10)}
    assert message(**often, callbacks=best) == ""
    assert message(evaluation=replace(FILM_EVALUATION, every=10), callbacks={"checkpoint": Checkpoint(best="win_rate")}) == ""


def test_a_held_out_figure_is_better_in_its_own_direction() -> None:
    often = {**ON_FILE, "evaluation": PreferenceEvaluation(every=10)}
    assert message(**often, callbacks={"checkpoint": Checkpoint(best="eval/loss")}) == (
        "callbacks.checkpoint.best=eval/loss with callbacks.checkpoint.mode=max: eval/loss gets better by falling; "
        "use callbacks.checkpoint.mode=min."
    )
    assert message(**often, callbacks={"stop": EarlyStopping(metric="eval/loss", mode="min")}) == ""
    assert message(**often, callbacks={"stop": EarlyStopping(metric="eval/accuracy", mode="min")}) == (
        "callbacks.stop.metric=eval/accuracy with callbacks.stop.mode=min: eval/accuracy gets better by growing; "
        "use callbacks.stop.mode=max."
    )
    assert message(**often, callbacks={"stop": EarlyStopping(metric="eval/accuracy", patience=None, threshold=0.6)}) == ""


@pytest.mark.parametrize("every", [0, -3, 2.5])
def test_the_policy_is_measured_every_whole_number_of_steps(every: Any) -> None:
    with pytest.raises(ValidationError, match="every"):
        PreferenceEvaluation(every=every)


def test_several_measures_are_measured_at_the_same_steps() -> None:
    apart = SeveralMeasures(measures={"pairs": PreferenceEvaluation(every=5)})
    assert message(**{**ON_FILE, "evaluation": apart}) == (
        "evaluation.measures.pairs.every=5: all measures are measured at the same steps; use evaluation.every=5."
    )


def test_the_best_checkpoint_by_the_loss_is_the_one_with_the_lowest() -> None:
    where = "callbacks.checkpoint"
    refused = f"{where}.best=loss with {where}.mode=max would keep the worst step; use {where}.mode=min."
    assert message(callbacks={"checkpoint": Checkpoint(best="loss")}) == refused
    assert message(callbacks={"checkpoint": Checkpoint(best="loss", mode="min")}) == ""
    assert message(callbacks={"checkpoint": Checkpoint(best="rewards/margins")}) == ""


def test_the_best_step_s_weights_need_a_figure_that_says_which_step_that_is() -> None:
    refused = message(callbacks={"checkpoint": Checkpoint(final="best")})
    assert refused.startswith("callbacks.checkpoint.final=best, and no figure says which step that is")
    assert message(callbacks={"checkpoint": Checkpoint(final="best", best="rewards/margins")}) == ""
