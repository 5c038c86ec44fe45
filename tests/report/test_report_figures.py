"""The words and tables of a report: the interval decides the verdict, every figure finds its place."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_lab.figures import KL, WIN_RATE, Figure
from dpo_lab.report.figures import cards, flattened, times, verdict


def rate(name: str, value: float, low: float, high: float) -> dict[str, float]:
    """Return a share with its interval as summary.json holds it."""
    return {name: value, f"{name}/low": low, f"{name}/high": high}


@pytest.mark.parametrize(
    ("summary", "beginning"),
    [
        (rate("win_rate", 0.96, 0.94, 0.97), "Better than before: "),
        (rate("win_rate", 0.55, 0.49, 0.61), "No clear difference: "),
        (rate("win_rate", 0.3, 0.2, 0.4), "Worse than before: "),
        (
            rate("eval/accuracy", 0.7, 0.6, 0.8),
            "Better than chance: 70 % of the held-out pairs are ranked rightly (95 % interval 60",
        ),
        (rate("eval/accuracy", 0.3, 0.2, 0.4), "Worse than chance: "),
        ({**rate("eval/accuracy", 0.9, 0.6, 1.0), "eval/note": "8 held-out pairs are too few"}, "Cannot tell. 8 held-out pairs"),
        (
            rate("win_rate", 0.525, 0.375, 0.671),
            "No clear difference: answers to held-out prompts win against the old ones in 53 %",
        ),
        ({"win_rate": 0.9}, "Answers to held-out prompts win"),
        ({"loss": 0.5}, "Nothing held out was evaluated"),
        ({}, "This run has no figures"),
    ],
)
def test_the_verdict_follows_the_interval(summary: dict[str, float], beginning: str) -> None:
    assert verdict(summary).replace("\N{NO-BREAK SPACE}", " ").startswith(beginning)


def test_a_result_shows_what_it_was_before_and_its_interval() -> None:
    mine = Figure(name="mine", title="mine score", before="measured")
    summary = {"mine/before": 0.5, "mine/after": 0.75, **rate("win_rate", 0.96, 0.94, 0.97), "kl": 5.8, "eval/pairs": 8}
    shown = cards(summary, [mine, WIN_RATE, KL])
    assert [(card.title, card.value, card.details) for card in shown] == [
        ("mine score", "0.75", ("before 0.5",)),
        ("win rate against before", "0.96", ("95 % interval 0.94 to 0.97",)),
        ("KL to before, nats", "5.8", (KL.detail,)),
    ]


def test_a_loss_on_held_out_pairs_stands_beside_the_loss_before() -> None:
    (card,) = cards({"eval/loss": 0.38, "eval/loss/before": 0.693})
    assert (card.value, card.details) == ("0.38", ("before 0.693",))


def test_the_time_is_told_from_the_longest_part_to_the_total() -> None:
    summary = {"seconds/rank": 5.0, "seconds/dpo": 15.0, "seconds/total": 20.0, "kl": 1.0}
    assert times(summary) == [("dpo", "15 s", 75.0), ("rank", "5 s", 25.0), ("total", "20 s", 100.0)]


def test_a_run_that_took_no_time_has_no_bars() -> None:
    assert times({"seconds/rank": 0.0, "seconds/total": 0.0}) == [("rank", "0 s", 0.0), ("total", "0 s", 0.0)]


def test_an_empty_object_of_the_configuration_is_shown() -> None:
    assert flattened({"logger": {}, "optim": {"betas": [0.9, 0.98]}}) == {"logger": "{}", "optim.betas": "[0.9, 0.98]"}


def found(name: str, number: int = 1) -> dict[str, Any]:
    return {"name": name, "round": number, "said": f"there is {name}", "remedy": "a lower optim.lr"}


@pytest.mark.parametrize(
    ("findings", "rounds", "said"),
    [
        ([], 1, ""),
        ([found("saturation")], 1, " But there is saturation: try a lower optim.lr."),
        ([found("a"), found("b")], 1, " But there is a: try a lower optim.lr. 1 more finding under health."),
        # the last round's most serious one, whatever stands before it
        (
            [found("a"), found("b", 2), found("c", 2)],
            2,
            " But in round 2 there is b: try a lower optim.lr. 2 more findings under",
        ),
    ],
)
def test_the_verdict_follows_the_findings(findings: list[dict[str, Any]], rounds: int, said: str) -> None:
    whole = verdict(rate("eval/accuracy", 0.9, 0.85, 0.95), [{"number": at + 1} for at in range(rounds)], findings=findings)
    assert whole.startswith("Better than chance: ")
    assert said in whole if said else "But" not in whole


def test_the_judge_stands_beside_the_win_rate() -> None:
    (card,) = cards(rate("win_rate", 0.9, 0.8, 0.95), [replace(WIN_RATE, detail="judged by gold, which also ranked the pairs")])
    assert card.details[-1] == "judged by gold, which also ranked the pairs"
