"""Statistics of evaluation against scipy and statsmodels, against simulated truth, and at the edges where nothing can be told."""

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dpo_lab.evaluation.statistics import (
    Estimate,
    Observed,
    cluster_bootstrap,
    compare,
    compare_all,
    difference_of,
    holm,
    mean_of,
    share_of,
    wilson,
)
from dpo_lab.evaluation.statistics.students_t import quantile_95, two_sided_p

Random = np.random.Generator


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


def clustered(random: Random, prompts: int, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> tuple[np.ndarray, np.ndarray]:
    """Return values that share a part within their prompt, and the prompts, of unequal size."""
    ids = np.repeat(np.arange(prompts), random.choice(sizes, prompts))
    return random.normal(size=prompts)[ids] + random.normal(size=len(ids)), ids


def test_students_t_equals_scipys() -> None:
    for degrees in (1, 2, 9, 317, 20_000):
        assert quantile_95(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-9)
        for t in (0.0, 0.1, 1.0, 2.5, 12.0):
            assert two_sided_p(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-8)


def test_a_clustered_mean_equals_that_of_statsmodels(random: Random) -> None:
    values, prompts = clustered(random, 40)
    ours = mean_of(Observed(values, prompts))
    theirs = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    assert (ours.value, ours.standard_error) == pytest.approx((theirs.params[0], theirs.bse[0]), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.conf_int()[0]), rel=1e-9)


def test_with_one_answer_to_each_prompt_the_interval_is_the_t_interval_of_scipy(random: Random) -> None:
    values = random.normal(size=30)
    ours = mean_of(Observed(values, range(30)))
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (ours.low, ours.high, ours.standard_error) == pytest.approx((low, high, stats.sem(values)), rel=1e-9)


def test_a_ratio_of_sums_equals_the_weighted_mean_of_the_ratios(random: Random) -> None:
    nats, prompts = clustered(random, 40)
    tokens = random.integers(5, 60, len(nats)).astype(float)
    ours = mean_of(Observed(nats, prompts, counts=tokens))
    fit = sm.WLS(nats / tokens, np.ones(len(nats)), weights=tokens)
    theirs = fit.fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    assert (ours.value, ours.standard_error) == pytest.approx((theirs.params[0], theirs.bse[0]), rel=1e-9)


def test_wilson_equals_that_of_statsmodels_and_is_the_share_of_independent_outcomes() -> None:
    for wins, count in ((0, 9), (7, 9), (95, 100), (318, 318)):
        expected = proportion_confint(wins, count, method="wilson")
        assert wilson(wins / count, count) == pytest.approx(expected, abs=1e-12)
        found = share_of(Observed([1.0] * wins + [0.0] * (count - wins), range(count)))
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_answers_repeated_within_their_prompts_tell_no_more_than_one_each() -> None:
    outcomes = np.array([1.0] * 30 + [0.0] * 10)
    once, thrice = share_of(Observed(outcomes, range(40))), share_of(Observed(np.repeat(outcomes, 3), np.repeat(range(40), 3)))
    (low, high), (same_low, same_high) = ((each.figures("x")["x/low"], each.figures("x")["x/high"]) for each in (once, thrice))
    assert same_high - same_low >= high - low  # taken as 120 answers it would be 0.6 times as wide


def test_the_bootstrap_agrees_with_the_formula_where_there_is_one(random: Random) -> None:
    values, prompts = clustered(random, 150)
    grouped = Observed(values, prompts).by_prompt
    formula = mean_of(Observed(values, prompts))
    drawn = cluster_bootstrap(
        lambda at: float(grouped.sums[at].sum() / grouped.counts[at].sum()), 150, items=len(values), seed=1, name="mean"
    )
    again = cluster_bootstrap(
        lambda at: float(grouped.sums[at].sum() / grouped.counts[at].sum()), 150, items=len(values), seed=1, name="mean"
    )
    assert drawn == again
    assert (drawn.low, drawn.high, drawn.value) == pytest.approx((formula.low, formula.high, formula.value), abs=0.03)


def test_a_paired_difference_equals_the_clustered_mean_of_the_differences(random: Random) -> None:
    ours, prompts = clustered(random, 40)
    theirs = ours * 0.5 + random.normal(size=len(ours))
    order = random.permutation(len(ours))  # rows of the two models need not stand in one order
    found = difference_of(Observed(ours, prompts), Observed(theirs[order], prompts[order]))
    fit = sm.OLS(ours - theirs, np.ones(len(ours))).fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    assert (found.estimate.low, found.estimate.high) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)
    assert found.p_value == pytest.approx(fit.pvalues[0], rel=1e-8)
    single = difference_of(Observed(ours[:20], range(20)), Observed(theirs[:20], range(20)))
    assert single.p_value == pytest.approx(stats.ttest_rel(ours[:20], theirs[:20]).pvalue, rel=1e-8)


def test_holm_equals_that_of_statsmodels(random: Random) -> None:
    p_values = random.random(9) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1], rel=1e-12)


def coverage(
    estimate: Callable[[np.ndarray, np.ndarray], Estimate], truth: float, draw: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> float:
    found = [estimate(*draw()) for _ in range(1000)]
    return float(np.mean([each.low <= truth <= each.high for each in found if each.low is not None and each.high is not None]))


@pytest.mark.parametrize(("prompts", "share", "alike", "answers"), [(50, 0.7, 0.0, 1), (100, 0.95, 0.3, 2), (318, 0.95, 0.3, 2)])
def test_95_percent_intervals_of_shares_cover_the_truth_95_times_in_100(
    random: Random, prompts: int, share: float, alike: float, answers: int
) -> None:
    ids = np.repeat(np.arange(prompts), answers)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        hard = random.beta(share * (1 / alike - 1), (1 - share) * (1 / alike - 1), prompts) if alike else np.full(prompts, share)
        return (random.random(len(ids)) < hard[ids]).astype(float), ids

    assert 0.93 <= coverage(lambda values, at: share_of(Observed(values, at)), share, draw) <= 0.97


def test_95_percent_intervals_of_means_and_paired_differences_cover_the_truth_95_times_in_100(random: Random) -> None:
    assert 0.93 <= coverage(lambda values, at: mean_of(Observed(values, at)), 0.0, lambda: clustered(random, 30)) <= 0.97

    def difference(values: np.ndarray, at: np.ndarray) -> Estimate:
        worse = (values + random.normal(0.3, 1, len(values)) > 0).astype(float)  # the same prompts are hard for both
        return difference_of(Observed((values > 0).astype(float), at), Observed(worse, at)).estimate

    truth = 0.5 - stats.norm.cdf(0.3 / np.sqrt(3))
    assert 0.93 <= coverage(difference, truth, lambda: clustered(random, 60)) <= 0.97


def test_three_equal_models_are_told_apart_in_at_most_1_of_20_families(random: Random) -> None:
    found = 0
    for _ in range(400):
        hard = random.normal(size=80)
        outcomes = {name: Observed((hard + random.normal(size=80) > -1).astype(float), range(80)) for name in "ABC"}
        found += any(each.told_apart for each in compare_all(outcomes))
    assert found / 400 <= 0.07  # .05, and two standard errors


def test_so_many_more_prompts_find_the_difference_four_times_in_five(random: Random) -> None:
    hard, noise = random.normal(size=100), random.normal(0.1, 1, 100)
    difference = difference_of(Observed(hard + noise, range(100)), Observed(hard, range(100)))
    more = difference.more_prompts()
    assert more
    value, spread = float(noise.mean()), float(noise.std(ddof=1))
    found = [stats.ttest_1samp(random.normal(value, spread, 100 + more), 0).pvalue < 0.05 for _ in range(400)]
    assert 0.76 <= np.mean(found) <= 0.84


def test_a_verdict_is_a_sentence() -> None:
    right = np.array([1.0] * 250 + [0.0] * 68)
    better = Observed(right, range(318))
    worse = Observed(np.where(np.arange(318) % 25 == 0, 0.0, right), range(318))
    assert compare(better, worse, "A", "B").sentence() == "A is better than B on these 318 prompts (difference .03 [.01, .05])"
    assert compare(worse, better, "B", "A").sentence() == "A is better than B on these 318 prompts (difference .03 [.01, .05])"
    assert compare(worse, better, "B", "A", better="min").winner == "B"
    tokens = compare(better, worse, "A", "B", better=None)
    assert (tokens.winner, tokens.sentence()) == (None, "A is higher than B on these 318 prompts (difference .03 [.01, .05])")
    near = Observed(np.where(np.arange(318) % 25 == 0, 1 - right, right), range(318))
    assert compare(better, near, "A", "B").sentence() == (
        "these 318 prompts cannot tell A and B apart (difference .02 [-.00, .04]); about 340 more would"
    ).replace("-.00", ".00")


def test_an_interval_is_not_reported_where_it_means_nothing() -> None:
    assert mean_of(Observed([1.0, 2.0], ["a", "a"])).why_none == "one prompt says nothing about others"
    assert mean_of(Observed([0.1 + 0.2, 0.3], ["a", "b"])).why_none == "all 2 prompts have the same value"
    assert share_of(Observed([1.0, 0.0, 0.0, 1.0], ["a", "a", "b", "b"])).why_none == "all 2 prompts have the same share"
    assert share_of(Observed([1.0], ["a"])).figures("win_rate") == {"win_rate": 1.0}
    few = compare(Observed([1.0] * 100, range(100)), Observed([0.0] * 5 + [1.0] * 95, range(100)), "A", "B")
    assert few.sentence() == (
        "these 100 prompts cannot tell A and B apart (difference .05; they differ on 5 prompts of 100; "
        "fewer than 6 cannot tell); about 51 more would"
    )
    with pytest.raises(ValueError, match="0 numbers of 0 prompts"):
        mean_of(Observed([], []))


def test_models_on_different_prompts_are_not_compared() -> None:
    with pytest.raises(ValueError, match="1 prompt of 2 of the one, and 2 of the other, stand alone"):
        difference_of(Observed([1.0, 2.0], ["a", "b"]), Observed([1.0, 2.0, 3.0], ["b", "c", "d"]))
