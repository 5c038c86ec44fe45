"""The directory of a run has readable words in its name, and is found by its id whatever those words are."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_lab.artifacts import Plan
from dpo_lab.comparison.jobs import NEUTRAL, WORDS_LENGTH, words_of
from dpo_lab.naming import as_named, settled
from dpo_lab.run_directory import RUN
from dpo_lab.training.callbacks import Checkpoint
from dpo_lab.training.settings import TrainerSettings


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path, "train", "tiny-dpo-films", {"seed": 1})


def named(plan: Plan, *words: str) -> Plan:
    return settled(as_named(plan, words), lambda: as_named(plan, words))


def test_a_new_run_has_the_words_and_the_id_is_as_before(plan: Plan) -> None:
    named = as_named(plan, ["seed1", "beta0.3"])
    assert named.path.name == f"tiny-dpo-films-beta0.3-seed1-{plan.id[:8]}"
    assert named.id == plan.id
    assert as_named(plan).path == plan.path


@pytest.mark.parametrize("first", [(), ("seed1", "beta0.3")])
def test_a_run_is_found_under_the_name_that_it_was_made_with(plan: Plan, first: tuple[str, ...]) -> None:
    made = named(plan, *first).make(lambda directory: {})
    for words in ((), ("beta0.3",), ("seed1",)):
        found = named(plan, *words)
        assert found.path == made.path
        done = found.finished()
        assert done is not None
        assert done.id == made.id
    assert [path.name for path in (plan.root / "train").iterdir() if not path.name.startswith(".")] == [made.path.name]


def test_processes_that_name_one_new_run_differently_agree(plan: Plan) -> None:
    one, other = as_named(plan, ["beta0.3"]), as_named(plan, ["seed1"])  # both before either has begun
    assert one.path != other.path
    first = settled(one, lambda: as_named(plan, ["beta0.3"]))
    assert settled(other, lambda: as_named(plan, ["seed1"])).path == first.path


def test_of_two_directories_the_finished_one_counts(plan: Plan) -> None:
    made = as_named(plan, ["seed1"]).make(lambda directory: {})
    (plan.root / "train" / f"tiny-dpo-films-a-{plan.id[:8]}").mkdir()
    assert as_named(plan).path == made.path


def test_another_run_is_not_found_by_its_words(plan: Plan) -> None:
    as_named(plan, ["seed1"]).make(lambda directory: {})
    other = replace(plan, content={"seed": 2})
    assert as_named(other, ["seed1"]).path.name == f"tiny-dpo-films-seed1-{other.id[:8]}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_written_the_name_is_the_one_asked_for(plan: Plan) -> None:
    plan.root.chmod(0o500)
    assert named(plan, "seed1").path.name.startswith("tiny-dpo-films-seed1-")


def test_the_words_are_the_settings_that_count_as_they_were_typed() -> None:
    typed = [
        "model=smollm2_135m",
        "loss=ipo",
        "+adapter=lora",
        "recipe.beta=0.3",
        "optim.lr=1e-4",
        "seed=2",
        "~callbacks.samples",
    ]
    beside = ["logger=wandb", "paths.outputs=/tmp/x", "notes=mine", "force=true", "model.path=/a/b"]
    assert words_of([*typed, *beside]) == ("seed2", "adapter_lora", "beta0.3", "lr1e-4")


def test_too_many_words_leave_swept_keys_and_the_seed() -> None:
    typed = [*(f"model.a_very_long_setting_{number}=1{number}" for number in range(4)), "seed=3", "recipe.lr=1e-4"]
    words = words_of(typed, ["recipe.lr", "seed"])
    assert words[:2] == ("seed3", "lr1e-4")
    assert len("-".join(words)) <= WORDS_LENGTH


def test_the_first_seed_is_named_where_seeds_are_swept() -> None:
    assert words_of(["seed=0"], ["seed"]) == ("seed0",)
    assert words_of(["seed=0"]) == ()


def test_the_words_are_safe_in_a_shell() -> None:
    assert words_of(["data.split=$(rm -rf x); ls"])[0].strip("abcdefghijklmnopqrstuvwxyz_.-0123456789") == ""


def test_a_copy_is_not_taken_for_its_run(plan: Plan) -> None:
    def produce(directory: Path) -> dict[str, int]:
        (directory / RUN).write_text(json.dumps({"name": directory.name}))
        return {}

    made = as_named(plan, ["seed1"]).make(produce)
    for copy in ("before-tiny-dpo-films-seed1", "tiny-dpo-films", "tiny-dpo-films-before", "tiny-dpo-filmsy"):
        shutil.copytree(made.path, made.path.with_name(f"{copy}-{plan.id[:8]}"))
    assert as_named(plan, ["beta0.3"]).path == made.path


@pytest.mark.parametrize("name", ["mine", "tiny-dpo-films-" + "a" * 80])
def test_a_directory_that_no_plan_can_have_is_ignored(plan: Plan, name: str) -> None:
    (plan.root / "train" / f"{name}-{plan.id[:8]}").mkdir(parents=True)
    assert as_named(plan).path == plan.path


def test_a_long_name_has_whole_words_and_the_seed(plan: Plan) -> None:
    long = replace(plan, name="m" * 60)
    assert as_named(long, ["seed12", "a_long_setting1", "lr1e-4"]).path.name == f"{long.name}-lr1e-4-seed12-{plan.id[:8]}"
    longer = replace(plan, name="m" * 90)
    assert as_named(longer, ["seed1"]).path == longer.path


def test_keys_with_one_last_word_are_told_apart() -> None:
    assert words_of(["sampler.t=0.8", "ranker.t=1"]) == ("sampler.t0.8", "ranker.t1")


def test_what_changes_the_weights_is_named_and_keys_that_no_id_has_are_not() -> None:
    assert words_of(["callbacks=early_stopping", "debug=fast"]) == ("callbacks_early_stopping", "debug_fast")
    assert words_of([f"{key}=7" for key in NEUTRAL]) == ()
    counted = {f"trainer.{key}" for key in TrainerSettings().content()} | {
        f"callbacks.checkpoint.{key}" for key in Checkpoint().content()
    }
    assert counted.isdisjoint(NEUTRAL)
