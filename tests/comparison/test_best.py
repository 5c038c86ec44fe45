"""Is the best run best: equal configurations crown no winner, a real difference does, and what would tell is said."""

import numpy as np
import pytest

from dpo_lab.comparison.best import pooled, standing
from dpo_lab.comparison.metric import Metric, metric_of
from dpo_lab.comparison.words import verdict_lines
from dpo_lab.figures import KL
from tests.comparison.simulated import GOLD, METRIC, simulated


def answers(random: np.random.Generator, mean: float, hard: np.ndarray, noise: float = 0.2) -> np.ndarray:
    """Return rewards of answers to prompts, of which some are hard for every model."""
    return mean + hard + random.normal(0, noise, len(hard))


def test_three_equal_configurations_with_different_seeds_crown_no_winner() -> None:
    """They are one configuration, so there is nothing to crown, however far apart the seeds lie."""
    random, hard = np.random.default_rng(0), np.random.default_rng(1).normal(0, 0.3, 400)
    runs = [simulated(f"r{seed}", answers(random, 0.5 + 0.2 * seed, hard), seed=seed) for seed in range(3)]
    found = standing(runs, METRIC)
    assert found.winner is None
    assert found.against == ()
    assert verdict_lines(found)[0].startswith("No winner: the 3 runs are one configuration and differ in the seed alone")


def test_equal_configurations_under_different_names_crown_a_winner_in_fewer_than_one_sweep_of_twenty() -> None:
    """Choosing the highest one before comparing it finds no more than chance would: 400 sweeps of three."""
    random, crowned = np.random.default_rng(2), 0
    for _ in range(400):
        hard = random.normal(0, 0.3, 60)
        found = standing([simulated(name, answers(random, 0.5, hard), loss=name) for name in "abc"], METRIC)
        crowned += found.winner is not None
    assert crowned <= 20


def test_of_equal_configurations_with_seeds_that_differ_no_winner_is_crowned_for_the_luck_of_its_seeds() -> None:
    """With 2000 prompts every two models are told apart by prompts; the spread over seeds says that this is no merit."""
    random, crowned, by_prompts = np.random.default_rng(3), 0, 0
    for _ in range(100):
        hard = random.normal(0, 0.3, 2000)
        runs = [
            simulated(f"{loss}{seed}", answers(random, 0.5 + random.normal(0, 0.05), hard), loss=loss, seed=seed)
            for loss in "abc"
            for seed in (0, 1)
        ]
        found = standing(runs, METRIC)
        crowned += found.winner is not None
        by_prompts += all(each.difference is not None and each.difference.p_value < 0.025 for each in found.against)
    assert by_prompts > 60
    assert crowned <= 5


def test_a_configuration_that_is_better_wins_and_the_others_are_told_apart() -> None:
    random = np.random.default_rng(4)
    hard = random.normal(0, 0.3, 200)
    means = {"good": 0.7, "fair": 0.5, "poor": 0.3}
    runs = [
        simulated(f"{loss}{seed}", answers(random, mean + 0.01 * seed, hard), loss=loss, seed=seed)
        for loss, mean in means.items()
        for seed in range(3)
    ]
    found = standing(runs, METRIC)
    assert found.winner is not None
    assert found.winner.values == {"loss": "good"}
    assert [each.other.values["loss"] for each in found.against] == ["fair", "poor"]
    assert found.winner.mean == pytest.approx(np.mean([run.record.summary["gold/after"] for run in runs[:3]]))
    assert verdict_lines(found)[0].startswith("loss=good is best by gold/after (.7")


def test_what_would_tell_two_apart_is_said_in_prompts_and_in_seeds() -> None:
    random = np.random.default_rng(5)
    hard = random.normal(0, 0.3, 100)
    few = standing([simulated(name, answers(random, mean, hard), loss=name) for name, mean in (("a", 0.52), ("b", 0.5))], METRIC)
    (line,) = [line for line in verdict_lines(few) if line.startswith("not told apart from loss=b: difference ")]
    assert "more held-out prompts would tell." in line
    assert verdict_lines(few)[-1].startswith("Each configuration has one seed")
    many = np.random.default_rng(6).normal(0, 0.3, 3000)
    runs = [
        simulated(f"{loss}{seed}", answers(random, mean + 0.1 * seed, many), loss=loss, seed=seed)
        for loss, mean in (("a", 0.55), ("b", 0.5))
        for seed in (0, 1)
    ]
    (line,) = [line for line in verdict_lines(standing(runs, METRIC)) if line.startswith("not told apart")]
    assert line.endswith("; it takes more seeds, which differ as much as that.")


def test_the_spread_over_seeds_is_pooled_over_configurations() -> None:
    """Of .4 and .6 the squares are .01 + .01, of .1 and .3 the same: sqrt(.04 / 2)."""
    runs = [
        simulated(f"{loss}{seed}", np.full(4, value), loss=loss, seed=seed)
        for loss, values in (("a", (0.4, 0.6)), ("b", (0.1, 0.3)))
        for seed, value in enumerate(values)
    ]
    found = pooled(standing(runs, METRIC).configurations)
    assert found is not None
    assert found[0] == pytest.approx(0.02**0.5)
    assert found[1] == 2


def test_a_figure_without_a_direction_crowns_nobody_and_one_that_falls_sorts_upwards() -> None:
    runs = [simulated(name, np.full(10, value), loss=name) for name, value in (("a", 0.2), ("b", 0.4))]
    neither = standing(runs, Metric("gold/after", KL))
    assert neither.best is None
    assert "gets better in no direction" in verdict_lines(neither)[0]
    falling = type(GOLD)(**{**GOLD.record(), "better": "min"})
    assert [configuration.values["loss"] for configuration in standing(runs, Metric("gold/after", falling)).configurations] == [
        "a",
        "b",
    ]


def test_runs_on_other_prompts_are_not_compared_and_a_run_without_the_figure_does_not_count() -> None:
    runs = [simulated("a", np.ones(10), loss="a"), simulated("b", np.zeros(9), loss="b")]
    (against,) = standing(runs, METRIC).against
    assert (against.difference, against.told_apart) == (None, False)
    assert against.why_none == "measured on other held-out prompts"
    runs[1].record.summary["gold/after"] = float("nan")
    assert len(standing(runs, METRIC).configurations) == 1


def test_the_figure_is_the_one_that_was_asked_for_or_the_main_one() -> None:
    runs = [simulated("a", np.ones(10))]
    for asked, key in (("", "gold/after"), ("gold", "gold/after"), ("gold/after", "gold/after")):
        found = metric_of(runs, asked)
        assert found is not None
        assert (found.key, found.better) == (key, "max")
    assert metric_of(runs, "nothing") is None


def test_configurations_with_one_mean_tie_and_none_is_called_the_highest() -> None:
    values = np.full(20, 0.5)
    for names, said in (("ab", "both tie"), ("abcde", "all 5 tie")):
        found = standing([simulated(name, values, loss=name) for name in names], METRIC)
        assert verdict_lines(found)[0] == f"No winner by gold/after: {said} (.500)."
    lower = simulated("c", values - np.tile([0.1, -0.09], 10), loss="c")
    found = standing([*(simulated(name, values, loss=name) for name in "ab"), lower], METRIC)
    first = "No winner by gold/after: loss=a is highest (.500), level with loss=b, and cannot be told apart from 2 of 2 others."
    assert verdict_lines(found)[0] == first
