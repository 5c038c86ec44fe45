"""Several measures in one run: built-in ones, and one of the user's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError, component
from dpo_lab.data.prompt_files import FilePrompts
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.evaluation.several import SeveralMeasures
from dpo_lab.figures import Figure
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.ranking.controls import LengthRanker, RandomRanker
from dpo_lab.reference.cached import CachedReference
from dpo_lab.sampling.hf import HFSampler
from tests.small_stage import given, pairs_file


@component
class Halves(Measure):
    """Stands for a measure that somebody wrote."""

    def figures(self, setting: Setting) -> list[Figure]:
        return [Figure(name="half", title="one half")]

    def measure(self, context: Context) -> Measured:
        return Measured({"half": 0.5})


def answers(path: Path) -> GenerationEvaluation:
    path.write_text("\n".join(f'{{"prompt": "what is {number}?"}}' for number in range(20)))
    prompts = FilePrompts(path=path, num_held_out=4)
    return GenerationEvaluation(prompts=prompts, sampler=HFSampler(max_new_tokens=5), judge=LengthRanker(), num_samples=1)


def test_a_run_has_the_figures_of_all_measures_and_those_of_each_are_as_alone(tmp_path: Path) -> None:
    several = SeveralMeasures(
        measures={"pairs": PreferenceEvaluation(), "answers": answers(tmp_path / "p.jsonl"), "mine": Halves()}
    )
    asked = given(tmp_path, pairs_file(tmp_path), evaluation=several)
    summary = asked.run()
    assert {"eval/accuracy", "eval/accuracy/low", "win_rate", "length/before", "length/after", "kl", "half"} <= set(summary)
    assert asked.figure(summary) == ("eval/accuracy", summary["eval/accuracy"])  # the first main one
    (screen,) = (tmp_path / "train").glob("*/screen.txt")
    assert "held-out pairs (6), held-out prompts (4 prompts), evaluation" in screen.read_text()
    alone = replace(asked, evaluation=PreferenceEvaluation()).run()
    of_pairs = [name for name in alone if name.startswith("eval/") and name != "eval/note"]
    assert [summary[name] for name in of_pairs] == [alone[name] for name in of_pairs]


def test_two_measures_with_the_same_figure_and_none_at_all_are_refused(tmp_path: Path) -> None:
    one = answers(tmp_path / "p.jsonl")
    twice = SeveralMeasures(measures={"one": one, "two": replace(one, judge=RandomRanker())})
    with pytest.raises(ConfigError, match=r"two measures of evaluation\.measures have the figure win_rate"):
        twice.figures(Setting(loss=DPOLoss(), reference=CachedReference()))
    with pytest.raises(ConfigError, match="nothing is measured"):
        SeveralMeasures(measures={}).check()


def test_how_many_prompts_and_answers_a_round_of_training_draws_says_nothing_of_the_figures(tmp_path: Path) -> None:
    one: Any = answers(tmp_path / "p.jsonl")
    drawn = {"sampler": replace(one.sampler, num_samples=7), "prompts": replace(one.prompts, num_prompts=3)}
    assert replace(one, **drawn).content() == one.content()
    assert replace(one, num_samples=3).content() != one.content()
