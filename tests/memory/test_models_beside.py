"""The models that a round loads beside the policy: counted in the plan, and gone when training begins."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import ConfigError, component
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.memory.check import check_fits, memory_plan
from dpo_lab.memory.plan import kept_models
from dpo_lab.models.load import ModelOnDisk, save_model
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.reference.adapters import AdapterOffReference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.none import NoReference
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.stages.train import Train
from dpo_lab.training.fit import fit
from dpo_lab.training.iteration import Iteration
from tests.small_stage import ShareOfVowels, stage

SAMPLER = HFSampler(num_samples=2, max_new_tokens=8)
PROMPTS = FilmPrompts(num_prompts=8)


@component
class Large(ShareOfVowels):
    """Says that its model takes this much."""

    size: float = 0.0

    def bytes_needed(self, device: str) -> float:
        """Return the size, twice that on a CPU."""
        return self.size * (2 if device == "cpu" else 1)


def run(tmp_path: Path, model: nn.Module, tokenizer: Any, *, ranker: float = 0.0, judge: float = 0.0) -> Train:
    save_model(model, tokenizer, tmp_path / "base", base_path="")
    train = stage(
        tmp_path,
        model=PretrainedModel(path=str(tmp_path / "base"), licence="none"),
        data=OnPolicy(prompts=PROMPTS, sampler=SAMPLER, ranker=Large(size=ranker), pairing=BestVsWorst(), max_length=128),
        evaluation=GenerationEvaluation(prompts=PROMPTS, sampler=SAMPLER, judge=Large(size=judge), num_samples=1, max_prompts=2),
    )
    return replace(train, trainer=replace(train.trainer, max_steps=1))


def test_the_larger_of_ranker_and_judge_is_a_part_of_a_round(model: nn.Module, tokenizer: Any, tmp_path: Path) -> None:
    small = memory_plan(run(tmp_path, model, tokenizer), None)
    assert "ranking" not in small.parts
    for ranker, judge in ((1e12, 2e12), (2e12, 0.0)):
        plan = memory_plan(run(tmp_path, model, tokenizer, ranker=ranker, judge=judge), None)
        assert plan.parts["ranking"] == plan.peak == plan.needed == 4e12
        assert {**plan.parts, "ranking": 0.0} == {**small.parts, "ranking": 0.0}


def test_a_ranker_that_does_not_fit_is_refused_before_anything_is_sampled(
    model: nn.Module, tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"needs at least 200000 GB for ranking"):
        check_fits(run(tmp_path, model, tokenizer, ranker=1e14), None)


def test_a_model_is_kept_where_the_reference_is_not_what_training_starts_from() -> None:
    assert kept_models(Iteration(rounds=3), CachedReference()) == 0
    other = Iteration(rounds=3, reference="first")
    assert [kept_models(other, each) for each in (CachedReference(), NoReference(), AdapterOffReference())] == [1, 0, 0]
    assert kept_models(replace(other, rounds=1), CachedReference()) == 0
    assert kept_models(replace(other, start="first"), CachedReference()) == 0


@pytest.mark.parametrize("reference", ["previous", "first"])
def test_while_a_round_trains_no_other_model_is_in_memory_but_those_of_the_plan(
    model: nn.Module, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Any
) -> None:
    loaded: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []
    load = ModelOnDisk.load

    def noting(self: ModelOnDisk, device: torch.device) -> Any:
        once = load(self, device)
        loaded.append(weakref.ref(once.model))
        return once

    def training(*arguments: Any, **named: Any) -> Any:
        gc.collect()
        alive.append(sum(each() is not None for each in loaded))
        return fit(*arguments, **named)

    monkeypatch.setattr(ModelOnDisk, "load", noting)
    monkeypatch.setattr("dpo_lab.pipeline.policy.fit", training)
    iteration = Iteration(rounds=2, reference=reference)
    replace(run(tmp_path, model, tokenizer), iteration=iteration).run()
    assert alive == [1, 1 + kept_models(iteration, CachedReference())]  # the policy, and what is kept
