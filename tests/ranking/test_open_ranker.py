"""A ranker's life: opened once for all prompts, ready inside, released before what comes next."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.models.load import ModelOnDisk, save_model
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.asking import verdicts_of
from dpo_lab.ranking.base import PROMPTS_AT_A_TIME, Ranker, Verdict
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates, Prompt
from dpo_lab.sampling.hf import HFSampler
from tests.small_stage import ShareOfVowels, request

CPU = torch.device("cpu")
loaded: list["weakref.ref[nn.Module]"] = []


class Scorer(nn.Module):
    """Stands in for a reward model."""

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return the share of vowels."""
        return ShareOfVowels().rank(candidates)


@component
class LoadsAModel(Ranker):
    """Ranks by a module that it loads when it is opened."""

    label = "module"

    @contextmanager
    def open(self, device: torch.device) -> Iterator[Scorer]:
        """Load the module for the block."""
        assert not alive(), "one at a time"
        scorer = Scorer().to(device)
        loaded.append(weakref.ref(scorer))
        yield scorer


def alive() -> int:
    gc.collect()
    return sum(reference() is not None for reference in loaded)


@pytest.fixture(autouse=True)
def none_loaded() -> None:
    loaded.clear()


def questions(count: int) -> list[Candidates]:
    return [Candidates(prompt=Prompt.from_text(f"{number}?"), responses=("a", "b")) for number in range(count)]


def test_a_ranker_without_a_model_is_its_own_open_ranker() -> None:
    ranker = LengthRanker()
    with ranker.open(CPU) as opened:
        assert opened is ranker


def test_a_ranker_that_defines_neither_rank_nor_open_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(TypeError, match="Empty is a ranker and defines neither `rank` nor `open`"):
        type("Empty", (Ranker,), {"label": "empty"})


def test_the_model_is_loaded_once_for_all_prompts_and_released(tmp_path: Path) -> None:
    sets = questions(2 * PROMPTS_AT_A_TIME + 1)
    verdicts = verdicts_of(LoadsAModel(), sets, CPU, name="rank", directory=tmp_path)
    assert [verdict.scores for verdict in verdicts] == [(1.0, 0.0)] * len(sets)
    assert (len(loaded), alive()) == (1, 0)


def test_in_a_round_the_policy_is_gone_when_the_ranker_opens_and_the_ranker_when_pairs_are_there(
    model: nn.Module, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tokenizer, tmp_path / "policy", base_path="")
    policy = ModelOnDisk(str(tmp_path / "policy"), "policy")
    data = OnPolicy(
        prompts=FilmPrompts(num_prompts=3),
        sampler=HFSampler(num_samples=2, max_new_tokens=8),
        ranker=LoadsAModel(),
        pairing=BestVsWorst(),
    )
    load = ModelOnDisk.load

    def noting(self: ModelOnDisk, device: torch.device) -> Any:
        once = load(self, device)
        loaded.append(weakref.ref(once.model))
        return once

    monkeypatch.setattr(ModelOnDisk, "load", noting)

    pairs = data.pairs(request(policy, tmp_path)).train
    assert (len(loaded), alive()) == (2, 0)  # the policy and the ranker's module
    assert data.pairs(request(policy, tmp_path)).train == pairs
    assert len(loaded) == 2, "a finished part loads nothing"
    judged = GenerationEvaluation(prompts=data.prompts, sampler=data.sampler, judge=data.ranker, max_prompts=3)
    judged.answers(policy, CPU, 0, "after", tmp_path)
    assert (len(loaded), alive()) == (4, 0)
