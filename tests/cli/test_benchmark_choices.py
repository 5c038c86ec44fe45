"""The group `benchmark` on the command line: none of its options, and one that nothing takes."""

import pytest

from dpo_lab.cli.build import Stage, build
from dpo_lab.cli.composing import composed
from dpo_lab.components import ConfigError


def built(stage: str, *words: str) -> Stage:
    found = composed(stage, words, None)
    assert found
    return build(found.config)


def test_no_benchmark_may_be_typed_where_there_is_none() -> None:
    assert built("evaluate", "models=[x]", "benchmark=none") == built("evaluate", "models=[x]")
    assert built("train", "benchmark=none") == built("train")


def test_a_benchmark_that_nothing_takes_names_the_evaluation_that_does() -> None:
    with pytest.raises(ConfigError, match=r"benchmark=lm_eval` has no effect.*Use evaluation=benchmark benchmark\.tasks=\.\.\."):
        built("train", "benchmark=lm_eval")


def test_without_anything_to_evaluate_a_benchmark_is_proposed() -> None:
    with pytest.raises(ConfigError, match=r"public test sets \(benchmark=lm_eval benchmark\.tasks=\[TASK\]\)"):
        built("evaluate").check()  # type: ignore[attr-defined]
