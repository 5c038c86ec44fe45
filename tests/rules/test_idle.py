"""Settings that make no difference are refused where the command line names them, and do not count as content."""

from dataclasses import fields, replace

import pytest

from dpo_lab.alignment import Alignment
from dpo_lab.cli.arguments import NEUTRAL
from dpo_lab.cli.build import build
from dpo_lab.components import ConfigError
from dpo_lab.conf_files import CONF
from dpo_lab.rules.idle import idle_settings
from dpo_lab.stages.train import Train
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW
from tests.rules.test_combinations import LEGAL

FILE = ["data=jsonl", "data.path=pairs.jsonl"]


def refusal(stage: str, *words: str) -> str:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(stage, list(words), return_hydra_config=True)
    try:
        build(config)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([*FILE, "iteration.prompts=same"], "the policy answers no prompts in this run"),
        ([*FILE, "iteration.reference=first"], "there is no round before it (iteration.rounds=1)"),
        (["iteration.rounds=1", "iteration.start=first"], "there is no round before it (iteration.rounds=1)"),
        ([*FILE, "model.sft_lr=1e-3"], "the model starts random on this data, which brings no examples"),
        ([*FILE, "data.held_out=0", "data.split_seed=1"], "no prompts are held out (data.held_out=0)"),
        (["optim.schedule=constant", "optim.final=0.5"], "the rate does not fall (optim.schedule=constant)"),
        (["optim.warmup=0", "optim.warmup_from=zero"], "there is no warm-up (optim.warmup=0)"),
        (["reference.audit_rows=0", "reference.tolerance=1e-2"], "no response is scored again (reference.audit_rows=0)"),
        (["sampler.temperature=0", "sampler.min_p=0.1"], "the likeliest token is taken (sampler.temperature=0)"),
        (["loss=simpo", "iteration.reference=first"], "no reference is kept (reference=none)"),
        (["pairing=spin", "pairing.min_gap=1"], "pairing=spin prefers the data's own answer, and no answer has a score"),
        (["pairing=spin", "ranker=length"], "pairing=spin sets the data's own answers against drawn ones, and ranks nothing"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_a_named_setting_that_makes_no_difference_is_refused(words: list[str], why: str) -> None:
    assert refusal("train", *words) == f"`{words[-1]}` has no effect: {why}. Leave it out."


@pytest.mark.parametrize("word", ["quant=4bit", "adapter=lora", "ranker=length", "sampler.top_p=0.5", "recipe.max_length=64"])
def test_pretrain_refuses_what_making_a_model_does_not_read(word: str) -> None:
    assert refusal("pretrain", word).startswith(f"`{word}` has no effect: ")
    assert refusal("train", word) == ""


@pytest.mark.parametrize(
    "words",
    [
        ["iteration.start=first"],  # of three rounds
        ["iteration.reference=first", "debug=fast"],  # the same run made short
        ["sampler.num_samples=3"],  # of the rounds, though not of the evaluation
        ["optim.final=0.5"],
        [*FILE, "data.split_seed=1"],
    ],
    ids=lambda words: words[0],
)
def test_what_makes_a_difference_is_taken(words: list[str]) -> None:
    assert refusal("train", *words) == ""


def test_answers_of_an_evaluation_alone_are_not_those_of_a_round() -> None:
    words = ["model=smollm2_135m", "data=ultrafeedback", "evaluation=generation", "ranker=length"]
    assert refusal("train", *words, "sampler.num_samples=3") == (
        "`sampler.num_samples=3` has no effect: evaluation draws evaluation.num_samples answers. Leave it out."
    )
    assert refusal("train", *words, "sampler.top_p=0.5") == ""


def test_what_makes_no_difference_is_no_content() -> None:
    one, other = Iteration(rounds=1), Iteration(rounds=1, start="first", reference="first", prompts="same")
    assert one.content() == other.content()
    assert replace(one, rounds=2).content() != replace(other, rounds=2).content()
    assert AdamW(schedule="constant", final=0.5).content() == AdamW(schedule="constant").content()
    assert AdamW(final=0.5).content() != AdamW().content()


def test_idle_settings_are_known_by_where_they_stand() -> None:
    assert set(idle_settings(replace(LEGAL, iteration=Iteration(rounds=1)))) == {
        *("iteration.start", "iteration.reference", "iteration.prompts"),
        *("evaluation.prompts.num_prompts", "evaluation.sampler.num_samples"),
    }


def test_what_the_command_line_calls_neutral_is_what_train_adds_to_an_alignment() -> None:
    added = {field.name for field in fields(Train)} - {field.name for field in fields(Alignment)}
    assert {*NEUTRAL} == {*added, "paths"}
    assert {*added} & {*LEGAL.content()} == set()
