"""Pairs that the policy makes: what cannot give any is refused before anything is loaded."""

from dataclasses import replace

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.sampling.hf import HFSampler

DATA = OnPolicy(prompts=FilmPrompts(), sampler=HFSampler(), ranker=LengthRanker(), pairing=BestVsWorst())


def test_a_greedy_sampler_draws_one_answer_so_there_would_be_no_pairs() -> None:
    DATA.check()
    with pytest.raises(ConfigError, match=r"sampler.temperature=0 draws the same answer .* use sampler.temperature=1"):
        replace(DATA, sampler=HFSampler(temperature=0)).check()
