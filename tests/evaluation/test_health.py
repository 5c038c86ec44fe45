"""Findings on made-up histories: for each one that triggers and a neighbour that does not."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dpo_lab.evaluation import health
from dpo_lab.evaluation.health import CHECKS, Finding, History, findings_of


def rows(**figures: Sequence[float]) -> list[dict[str, float]]:
    """Return rows of steps 1, 2, ... from the values of each figure; `a__b` stands for a/b."""
    named = {name.replace("__", "/"): values for name, values in figures.items()}
    return [
        {"step": at + 1, **dict(zip(named, values, strict=True))} for at, values in enumerate(zip(*named.values(), strict=True))
    ]


def line(start: float, end: float, count: int = 12) -> list[float]:
    return [start + (end - start) * at / (count - 1) for at in range(count)]


FALLING = line(0.69, 0.3)


def judged(**figures: float) -> dict[str, float]:
    return {name.replace("__", "/"): value for name, value in figures.items()}


FOUND: list[tuple[Callable[[History], Finding | None], History, str]] = [
    (
        health.likelihood_displacement,
        History(rows=rows(loss=FALLING, rewards__chosen=line(0, -2), rewards__rejected=line(0, -5))),
        "their rewards moved by -1.8 and -4.5",  # the last quarter: three of twelve, the mean 10/11 of the way
    ),
    (health.stuck_at_start, History(rows=rows(loss=[0.693] * 11 + [0.692])), "the loss stays at its start, .69, for all 12 rows"),
    (
        health.saturation,
        History(rows=rows(loss=[0.69, *[0.001] * 11], rewards__accuracies=[0.5, *[1.0] * 11])),
        "the loss fell from 0.69 to 0.001",
    ),
    (
        health.identical_pairs,
        History(rows=rows(loss=FALLING, rewards__accuracies=[0, *[0.7] * 11], rewards__accuracies_ties_half=[0.5, *[0.8] * 11])),
        ".20 of the pairs keep a margin of exactly 0",
    ),
    (health.identical_pairs, History(pairs=194, same_tokens=6), "6 of 200 pairs have the same tokens on both sides"),
    (health.training_loss_rises, History(rows=rows(loss=[0.69, *line(1, 9, 11)])), "the training loss rose from 0.69 to 8.2"),
    (
        health.held_out_loss_rises,
        History(rows=rows(loss=line(0.69, 0.1, 6), eval__loss=[0.69, 0.6, 0.5, 0.55, 0.6, 0.65])),
        "the held-out loss rose from 0.5 after step 3 to 0.65, while that of training falls",
    ),
    (
        health.held_out_loss_rises,
        History(after=judged(eval__loss=271.0, eval__loss__before=0.693)),
        "the held-out loss rose from 0.693 to 271",
    ),
    (
        health.answers_degrade,
        History(
            rows=rows(loss=FALLING, rewards__accuracies=line(0.5, 0.95)),
            before=judged(answers__ended=1.0),
            after=judged(win_rate=0.31, win_rate__high=0.4, answers__ended=0.6),
        ),
        "win only .31 of the comparisons with those before training, and .60 of the answers end by themselves, 1.00 before",
    ),
    (
        health.answers_degrade,
        History(before=judged(answers__distinct_2=0.9), after=judged(eval__accuracy=0.8, answers__distinct_2=0.5)),
        ".80 of the held-out pairs are ranked rightly, and yet .50 of the word pairs of an answer are distinct, .90 before",
    ),
    (
        health.ranker_and_judge_part,
        History(
            after=judged(win_rate=0.5, win_rate__high=0.56, win_rate__ranker=0.98, win_rate__ranker__low=0.96),
            earlier=[judged(win_rate=0.7)],
        ),
        "the ranker sees .98 wins over the answers before, the judge .50; the judge saw .70 in an earlier round",
    ),
    (
        health.length_drift,
        History(
            rows=rows(loss=FALLING, lengths__chosen=[40] * 12, lengths__rejected=[30] * 12),
            before=judged(answers__tokens=30),
            after=judged(answers__tokens=45),
        ),
        "longer: 30 tokens before, 45 now; the chosen answers it learns from have 40 tokens, the rejected ones 30",
    ),
    (health.length_drift, History(before=judged(answers__tokens=30), after=judged(answers__tokens=20)), "shorter: 30 tokens"),
    (health.kl_budget, History(after=judged(kl=32.0, answers__tokens=31)), "the policy has moved 32 nats"),
    (
        health.kl_budget,
        History(rows=rows(loss=FALLING, kl__implicit=line(0, -22), lengths__chosen=[30] * 12, lengths__rejected=[34] * 12)),
        "the policy has moved 20 nats from the reference on the answers of the pairs: .62 a token",
    ),
]
HEALTHY: list[tuple[Callable[[History], Finding | None], History]] = [
    # the rejected answers alone fall, or the chosen ones by less than a quarter of the margin
    (
        health.likelihood_displacement,
        History(rows=rows(loss=FALLING, rewards__chosen=line(0, 1), rewards__rejected=line(0, -5))),
    ),
    (
        health.likelihood_displacement,
        History(rows=rows(loss=FALLING, rewards__chosen=line(0, -0.5), rewards__rejected=line(0, -5))),
    ),
    (health.stuck_at_start, History(rows=rows(loss=line(0.693, 0.6)))),
    (health.stuck_at_start, History(rows=rows(loss=[0.693] * 5), finished=False)),  # too early to say
    (health.saturation, History(rows=rows(loss=FALLING, rewards__accuracies=line(0.5, 1)))),
    # in the first row all are ties; where nothing is learned, rounding makes them later too
    (
        health.identical_pairs,
        History(rows=rows(loss=FALLING, rewards__accuracies=[0, *[0.8] * 11], rewards__accuracies_ties_half=[0.5, *[0.8] * 11])),
    ),
    (
        health.identical_pairs,
        History(rows=rows(loss=[0.693] * 12, rewards__accuracies=[0] * 12, rewards__accuracies_ties_half=[0.1] * 12)),
    ),
    (health.identical_pairs, History(pairs=199, same_tokens=1)),
    (health.training_loss_rises, History(rows=rows(loss=line(0.69, 0.72)))),
    (health.training_loss_rises, History(rows=rows(loss=line(-0.5, -0.9)))),
    (health.held_out_loss_rises, History(rows=rows(loss=line(0.69, 0.1, 6), eval__loss=line(0.69, 0.5, 6)))),
    # both rise: that is not overfitting
    (health.held_out_loss_rises, History(rows=rows(loss=line(0.6, 0.9, 6), eval__loss=line(0.6, 0.9, 6)))),
    (health.held_out_loss_rises, History(after=judged(eval__loss=0.7, eval__loss__before=0.693))),
    (health.answers_degrade, History(rows=rows(loss=FALLING, rewards__accuracies=line(0.5, 0.95)), after=judged(win_rate=0.9))),
    (health.answers_degrade, History(after=judged(eval__accuracy=0.6, win_rate=0.3, win_rate__high=0.4))),  # nobody is misled
    (health.answers_degrade, History(after=judged(eval__accuracy=0.9, win_rate=0.45, win_rate__high=0.55))),  # cannot tell
    (health.ranker_and_judge_part, History(after=judged(win_rate=0.9, win_rate__ranker=0.98))),
    (
        health.ranker_and_judge_part,
        History(after=judged(win_rate=0.6, win_rate__high=0.75, win_rate__ranker=0.8, win_rate__ranker__low=0.7)),
    ),
    (health.length_drift, History(before=judged(answers__tokens=30), after=judged(answers__tokens=36))),
    (health.kl_budget, History(after=judged(kl=5.8, answers__tokens=31))),
    (
        health.kl_budget,
        History(rows=rows(loss=FALLING, kl__implicit=line(0, -3), lengths__chosen=[30] * 12, lengths__rejected=[30] * 12)),
    ),
]


@pytest.mark.parametrize(("check", "history", "said"), FOUND, ids=[check.__name__ for check, *_ in FOUND])
def test_a_history_that_goes_wrong_is_found(check: Callable[[History], Finding | None], history: History, said: str) -> None:
    finding = check(history)
    assert finding is not None
    assert said in finding.said
    assert finding.name == check.__name__
    assert finding.remedy
    assert finding in findings_of(history)


@pytest.mark.parametrize(("check", "history"), HEALTHY, ids=[check.__name__ for check, _ in HEALTHY])
def test_its_neighbour_is_not(check: Callable[[History], Finding | None], history: History) -> None:
    assert check(history) is None


def test_every_check_has_both() -> None:
    assert {check for check, *_ in FOUND} == {check for check, _ in HEALTHY} == set(CHECKS)


def test_a_history_without_rows_or_figures_has_no_finding() -> None:
    assert findings_of(History()) == []
    assert findings_of(History(rows=[{"step": 1, "loss": None}, {"step": 2}])) == []


def test_a_finding_survives_its_record() -> None:
    finding = health.kl_budget(History(round=2, after=judged(kl=32.0, answers__tokens=31)))
    assert finding
    assert Finding(**finding.record()) == finding


def test_a_number_that_is_not_finite_in_the_file_is_passed_over() -> None:
    broken: list[dict[str, Any]] = [{"step": 1, "loss": 0.69}, {"step": 2, "loss": None}, *rows(loss=[0.69] * 10)]
    assert health.training_loss_rises(History(rows=broken)) is None
